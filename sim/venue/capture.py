"""A capture of what a venue's sockets send and receive, as pcapng with times in ns.

The frames are made of the bytes that the process hands to its sockets and takes from them, so they
show what was said and when, not how the kernel cut it into segments: each write or read is put into
segments of at most 1,460 bytes, none is lost or sent again, and Ethernet addresses are made up.
"""

import ipaddress
import itertools
from pathlib import Path
from struct import Struct

from protocol.frames import Address, multicast_mac, tcp_frame, udp_frame
from protocol.ip import TcpFlag

_MAC = bytes.fromhex("020000")
_SEGMENT_MAX = 1460
_U32 = 0xFFFF_FFFF

_SECTION_HEADER, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_LINK_TYPE_ETHERNET = 1
_BLOCK = Struct("<II")
_SECTION = Struct("<IHHq")
_INTERFACE_BODY = Struct("<HHI")
_RESOLUTION_NS = bytes((9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0))
"""Option if_tsresol, 10^-9 s, and the end of options."""
_PACKET_BODY = Struct("<IIIII")


def address_of(host: str, port: int) -> Address:
    """Return an address for frames, with an Ethernet address made of the IP address."""
    ip = ipaddress.IPv4Address(host)
    number = int(ip)
    mac = multicast_mac(number) if ip.is_multicast else _MAC + (number & 0xFFFFFF).to_bytes(3)
    return Address(mac, number, port)


class Capture:
    """A pcapng file that is written frame by frame.

    Parameters
    ----------
    path : Path
        Is replaced where it exists.
    """

    def __init__(self, path: Path):
        self._file = path.open("wb")
        self._block(_SECTION_HEADER, _SECTION.pack(0x1A2B3C4D, 1, 0, -1))
        self._block(_INTERFACE, _INTERFACE_BODY.pack(_LINK_TYPE_ETHERNET, 0, 0) + _RESOLUTION_NS)

    def _block(self, kind: int, body: bytes) -> None:
        length = len(body) + 12
        self._file.write(_BLOCK.pack(kind, length) + body + length.to_bytes(4, "little"))

    def frame(self, frame: bytes, ts_ns: int) -> None:
        """Write a frame of a time, ns since 1970."""
        size = len(frame)
        head = _PACKET_BODY.pack(0, ts_ns >> 32, ts_ns & _U32, size, size)
        self._block(_PACKET, head + frame + bytes(-size % 4))

    def datagram(self, source: Address, destination: Address, payload: bytes, ts_ns: int) -> None:
        """Write a UDP datagram."""
        self.frame(udp_frame(source, destination, payload), ts_ns)

    def flush(self) -> None:
        """Have the file show all there is."""
        self._file.flush()

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


class CapturedConnection:
    """A TCP connection in a capture, from its handshake on.

    Parameters
    ----------
    capture : Capture
        Where it goes.
    client, server : Address
        Its two ends.
    ts_ns : int
        When it was opened.
    """

    def __init__(self, capture: Capture, client: Address, server: Address, ts_ns: int):
        self._capture = capture
        self._ends = (client, server)
        self._next = [1_000, 2_000]
        self._is_open = True
        self._segment(0, TcpFlag.SYN, b"", ts_ns)
        self._segment(1, TcpFlag.SYN | TcpFlag.ACK, b"", ts_ns)
        self._segment(0, TcpFlag.ACK, b"", ts_ns)

    def from_client(self, data: bytes, ts_ns: int) -> None:
        """Write what the client sent."""
        self._data(0, data, ts_ns)

    def from_server(self, data: bytes, ts_ns: int) -> None:
        """Write what the server sent."""
        self._data(1, data, ts_ns)

    def close(self, ts_ns: int) -> None:
        """Write the end of the connection."""
        if self._is_open:
            self._is_open = False
            self._segment(1, TcpFlag.FIN | TcpFlag.ACK, b"", ts_ns)
            self._segment(0, TcpFlag.FIN | TcpFlag.ACK, b"", ts_ns)
            self._segment(1, TcpFlag.ACK, b"", ts_ns)

    def _data(self, sender: int, data: bytes, ts_ns: int) -> None:
        if not self._is_open:
            return
        for at in itertools.count(0, _SEGMENT_MAX):
            part = data[at : at + _SEGMENT_MAX]
            if not part:
                return
            self._segment(sender, TcpFlag.ACK | TcpFlag.PSH, part, ts_ns)

    def _segment(self, sender: int, flags: TcpFlag, payload: bytes, ts_ns: int) -> None:
        source, destination = self._ends[sender], self._ends[1 - sender]
        acknowledged = self._next[1 - sender] if flags & TcpFlag.ACK else 0
        frame = tcp_frame(source, destination, self._next[sender], acknowledged, flags, payload)
        self._capture.frame(frame, ts_ns)
        counted = len(payload) + bool(flags & (TcpFlag.SYN | TcpFlag.FIN))
        self._next[sender] = (self._next[sender] + counted) & _U32
