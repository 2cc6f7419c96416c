"""Order entry in memory: OUCH 5.0 over SoupBinTCP over TCP, on one connection.

The connection is open and logged in from the start, as after the handshake and the login that the
host makes before it hands a connection to the card. In memory frames neither get lost nor overtake
one another, so there is no retransmission; a segment that is not the next one is not used.
"""

from collections.abc import Callable, Sequence

from protocol import soupbintcp
from protocol.frames import Address, Segment, parse_tcp, tcp_frame
from protocol.ip import TcpFlag
from protocol.layout import DecodeError
from sim.venue.matching import CancelReason, Event, MatchingEngine, SelfMatch
from sim.venue.ouch import Port


class Gateway:
    """One client's port into a matching engine.

    Parameters
    ----------
    engine : MatchingEngine
        Where orders go.
    locate_of : callable
        Called with a symbol's name; returns its locate, or 0 when the venue does not trade it.
    local, remote : Address
        The venue's end of the connection and the client's.
    sequence, acknowledgment : int
        TCP numbers of the connection as it was opened: ours to send, the client's to come.
    send : callable
        Takes every frame for the client.
    participant : int
        The client's number at the engine.
    self_match : SelfMatch
        What happens when its orders meet one another.
    """

    def __init__(
        self,
        engine: MatchingEngine,
        locate_of: Callable[[str], int],
        local: Address,
        remote: Address,
        sequence: int,
        acknowledgment: int,
        send: Callable[[bytes], None],
        participant: int = 1,
        self_match: SelfMatch = SelfMatch.TRADE,
    ):
        self._engine = engine
        self._local = local
        self._remote = remote
        self._sequence = sequence
        self._acknowledgment = acknowledgment
        self._send = send
        self._received = bytearray()
        self._port = Port(engine, locate_of, self._answer, participant, self_match)

    def receive(self, frame: bytes, now_ns: int) -> None:
        """Take a frame of the client. One that is malformed, or somebody else's, is not used."""
        try:
            segment = parse_tcp(frame)
        except DecodeError:
            return
        if not self._is_ours(segment) or segment.sequence != self._acknowledgment:
            return
        self._acknowledgment = (self._acknowledgment + len(segment.payload)) & 0xFFFF_FFFF
        self._received += segment.payload
        while len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                return
            packet = bytes(self._received[2:end])
            del self._received[:end]
            if packet and packet[0] == soupbintcp.UNSEQUENCED_DATA.code:
                self._port.receive(packet[1:], now_ns)

    def _is_ours(self, segment: Segment) -> bool:
        local, remote = self._local, self._remote
        return (segment.source_ip, segment.source_port) == (remote.ip, remote.port) and (
            segment.destination_ip,
            segment.destination_port,
        ) == (local.ip, local.port)

    def disconnect(self, now_ns: int) -> int:
        """Cancel every order of the client, as when its connection is lost. Returns their number.

        The answers are sent like others: the client reads them when it logs in again.
        """
        return self._port.disconnect(
            lambda participant: self._engine.mass_cancel(participant, reason=CancelReason.SYSTEM),
            now_ns,
        )

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell the client what happened to its orders."""
        self._port.publish(events, now_ns)

    def _answer(self, data: bytes) -> None:
        payload = soupbintcp.wrap(soupbintcp.SEQUENCED_DATA, data)
        self._send(
            tcp_frame(
                self._local,
                self._remote,
                self._sequence,
                self._acknowledgment,
                TcpFlag.ACK | TcpFlag.PSH,
                payload,
            )
        )
        self._sequence = (self._sequence + len(payload)) & 0xFFFF_FFFF
