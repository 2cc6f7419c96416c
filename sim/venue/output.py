"""One line of the feed on a socket: what the line does to packets, and where they go."""

import asyncio
import socket
from collections.abc import Sequence

from protocol.units import NS_PER_SECOND
from sim.venue.capture import Capture, address_of
from sim.venue.moldudp import Line
from sim.venue.settings import LineConfig
from sim.venue.timing import Clock

MULTICAST_TTL = 1
"""Packets stay on the network that they are sent to."""


class Output:
    """Sends the packets of one line.

    Parameters
    ----------
    name : str
        ``A`` or ``B``.
    config : LineConfig
        Where they go, and what happens to them.
    host : str
        Address of the interface that they leave by.
    seed : str
        Of what happens to them.
    clock : Clock
        The time, for the capture.
    capture : Capture or None
        Where they are written down as well.

    Raises
    ------
    OSError
        If there is no such interface.

    Attributes
    ----------
    line : Line
        What the line does, with its counts.
    packet_count, unsent_count : int
        Packets that were sent, and those that the kernel did not take.
    """

    def __init__(
        self,
        name: str,
        config: LineConfig,
        host: str,
        seed: str,
        clock: Clock,
        capture: Capture | None,
    ):
        self.name = name
        self.line = Line(
            seed,
            config.loss_ppm,
            config.duplicate_ppm,
            config.reorder_ppm,
            config.delay_ns,
            config.jitter_ns,
        )
        self._to = (config.group, config.port)
        self._clock = clock
        self._capture = capture
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        interface = socket.inet_aton(host)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, interface)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, MULTICAST_TTL)
        try:
            self._socket.bind((host, 0))
        except OSError:
            self._socket.close()
            raise
        self._ends = address_of(*self._socket.getsockname()), address_of(*self._to)
        self.packet_count = self.unsent_count = 0

    def put(self, outgoing: Sequence[tuple[int, bytes]], extra_ns: int = 0) -> None:
        """Send packets, each after its delay and one more."""
        for delay_ns, data in outgoing:
            if delay_ns + extra_ns:
                loop = asyncio.get_running_loop()
                loop.call_later((delay_ns + extra_ns) / NS_PER_SECOND, self._send, data)
            else:
                self._send(data)

    def _send(self, data: bytes) -> None:
        if self._socket.fileno() < 0:
            return
        if self._capture is not None:
            self._capture.datagram(*self._ends, data, self._clock.wall_ns())
        try:
            self._socket.sendto(data, self._to)
            self.packet_count += 1
        except OSError:  # As on any network: what the kernel does not take is lost.
            self.unsent_count += 1

    def close(self) -> None:
        """Close the socket. What is still delayed is lost."""
        self._socket.close()
