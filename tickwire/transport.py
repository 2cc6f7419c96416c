"""From frames to payloads: Ethernet, VLAN, IPv4, UDP, and TCP streams in order.

Checksums are not verified: captures are taken before the card fills them in, or have them zeroed.
"""

import heapq
from dataclasses import dataclass
from typing import TypeAlias

from protocol.ethernet import ETHERNET, VLAN_TAG, EtherType
from protocol.ip import IPV4, TCP, UDP, IpProtocol, TcpFlag

Endpoint: TypeAlias = tuple[int, int]
"""IPv4 address and port."""

HELD_BYTES_MAX = 1 << 20
HELD_SEGMENTS_MAX = 4096
"""What a stream keeps of the bytes behind a gap; with more the gap counts as lost."""


class NotTransportError(Exception):
    """A frame that carries neither a UDP datagram nor a TCP segment, and why."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram. ``fault`` says what is wrong with its length; empty where nothing is."""

    destination: Endpoint
    payload: bytes
    fault: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment. ``missing`` counts the bytes of its end that were not captured."""

    source: Endpoint
    destination: Endpoint
    sequence_number: int
    flags: TcpFlag
    payload: bytes
    missing: int


def endpoint_name(endpoint: Endpoint) -> str:
    """Return ``10.0.0.1:53``."""
    address, port = endpoint
    return ".".join(map(str, address.to_bytes(4, "big"))) + f":{port}"


def dissect(frame: bytes) -> Datagram | Segment:
    """Return what a frame carries. Padding and trailers behind the IPv4 packet are cut off.

    Raises :class:`NotTransportError` where it carries something else.
    """
    if len(frame) < ETHERNET.size:
        raise NotTransportError("cut inside the headers")
    ether_type, at = ETHERNET.unpack(frame)["ether_type"], ETHERNET.size
    while ether_type == EtherType.VLAN and len(frame) >= at + VLAN_TAG.size:
        ether_type, at = VLAN_TAG.unpack(frame, at)["ether_type"], at + VLAN_TAG.size
    if ether_type != EtherType.IPV4:
        raise NotTransportError("not IPv4")
    if len(frame) < at + IPV4.size:
        raise NotTransportError("cut inside the headers")
    packet = IPV4.unpack(frame, at)
    header_size, total = packet["version_ihl"] % 16 * 4, packet["total_length"]
    if packet["version_ihl"] >> 4 != 4 or not IPV4.size <= header_size <= total:
        raise NotTransportError("IPv4 with a garbled header")
    # More Fragments and the offset. What is not the first fragment has no ports.
    if packet["flags_fragment"] & 0x3FFF:
        raise NotTransportError("IPv4 fragment")
    payload = frame[at + header_size : at + total]
    if packet["protocol"] == IpProtocol.UDP:
        return _datagram(packet["destination"], payload)
    if packet["protocol"] == IpProtocol.TCP:
        missing = total - header_size - len(payload)
        return _segment(packet["source"], packet["destination"], payload, missing)
    raise NotTransportError(f"IPv4 protocol {packet['protocol']}, neither UDP nor TCP")


def _datagram(destination: int, data: bytes) -> Datagram:
    if len(data) < UDP.size:
        raise NotTransportError("cut inside the headers")
    header = UDP.unpack(data)
    size, fault = header["length"], ""
    if size < UDP.size:
        fault = f"UDP length is {size}"
    elif size > len(data):
        fault = f"{len(data) - UDP.size} of the datagram's {size - UDP.size} bytes are there"
    return Datagram((destination, header["destination_port"]), data[UDP.size : size], fault)


def _segment(source: int, destination: int, data: bytes, missing: int) -> Segment:
    if len(data) < TCP.size:
        raise NotTransportError("cut inside the headers")
    header = TCP.unpack(data)
    header_size = (header["offset_flags"] >> 12) * 4
    if not TCP.size <= header_size <= len(data):
        raise NotTransportError("TCP with a garbled header")
    return Segment(
        (source, header["source_port"]),
        (destination, header["destination_port"]),
        header["sequence_number"],
        TcpFlag(header["offset_flags"] & 0xFF & sum(TcpFlag)),
        data[header_size:],
        missing,
    )


class Stream:
    """One direction of a TCP connection, put in order. [RFC 9293: 3.4]

    It begins at the first segment seen, or anew at a SYN. What was seen before is cut off, what is
    ahead is held until the gap before it is filled.
    """

    def __init__(self) -> None:
        # Places count from the first segment and never wrap, unlike sequence numbers.
        self._origin: int | None = None
        self._next = 0
        self._end = 0
        self._held: list[tuple[int, bytes]] = []
        self._held_bytes = 0
        self._lost = False

    def begins_anew(self, segment: Segment) -> bool:
        """Whether a segment opens another connection than the one that was followed so far."""
        first = segment.sequence_number + 1
        return TcpFlag.SYN in segment.flags and self._origin not in (None, first % 2**32)

    @property
    def gap_bytes(self) -> int:
        """Bytes that were sent but not captured, up to the next ones that were."""
        return (self._held[0][0] if self._held else self._end) - self._next

    def push(self, segment: Segment) -> bytes:
        """Return the bytes that a segment puts in order: its own, and those that waited for it."""
        if self.begins_anew(segment):
            Stream.__init__(self)
        if TcpFlag.RST in segment.flags:
            # What it may carry is a diagnosis, no part of the stream. [RFC 9293: 3.5.3]
            return b""
        sequence_number = segment.sequence_number + (TcpFlag.SYN in segment.flags)
        if self._origin is None:
            # An acknowledgement or a probe alone may not stand where the next byte will.
            if not segment.payload and TcpFlag.SYN not in segment.flags:
                return b""
            self._origin = sequence_number % 2**32
        ahead = (sequence_number - self._origin - self._next + 2**31) % 2**32 - 2**31
        if not segment.payload:
            return b""
        at = self._next + ahead
        self._end = max(self._end, at + len(segment.payload) + segment.missing)
        if not self._lost:
            heapq.heappush(self._held, (at, segment.payload))
            self._held_bytes += len(segment.payload)
        return self._release()

    def _release(self) -> bytes:
        ready = []
        while self._held and self._held[0][0] <= self._next:
            at, data = heapq.heappop(self._held)
            self._held_bytes -= len(data)
            fresh = data[self._next - at :]
            self._next += len(fresh)
            ready.append(fresh)
        if self._held_bytes > HELD_BYTES_MAX or len(self._held) > HELD_SEGMENTS_MAX:
            self._lost = True
            del self._held[1:]
        return b"".join(ready)
