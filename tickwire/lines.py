"""A file's market data as frames on the two lines of a feed."""

from collections.abc import Iterator
from pathlib import Path

from sim.card.port import Port
from sim.golden.moldudp64 import Packet, parse_packet
from sim.golden.parse import ParseError, parse
from sim.golden.wire import Datagram, parse_frame
from sim.venue.publisher import publish
from tickwire.capture import InputError, file_kind, read_frames, read_itch
from tickwire.session import FEED_SESSION


def frames(path: Path) -> Iterator[tuple[Port, bytes, int]]:
    """Yield frames with the port they arrive at, and when.

    In a capture the first UDP destination that carries ITCH in MoldUDP64 is line A, the second line
    B; all other traffic is passed over. Time never runs backwards. Raises :class:`InputError` where
    there is no such destination.
    """
    if file_kind(path) == "itch50":
        for packet in publish((item.data for item in read_itch(path)), FEED_SESSION):
            yield Port.FEED_A, packet.frame_a, packet.ts_ns
        return
    ports: dict[tuple[int, int], Port] = {}
    now_ns = 0
    for frame in read_frames(path):
        now_ns = max(now_ns, frame.ts_ns)
        datagram = parse_frame(frame.data, checksums=False)
        if isinstance(datagram, Datagram):
            group = (datagram.destination_ip, datagram.destination_port)
            if group not in ports and len(ports) < 2 and _is_feed(datagram.payload):
                ports[group] = (Port.FEED_A, Port.FEED_B)[len(ports)]
            if group in ports:
                yield ports[group], frame.data, now_ns
    if not ports:
        raise InputError(path, "no UDP destination in it carries ITCH 5.0 in MoldUDP64")


def _is_feed(payload: bytes) -> bool:
    """Whether a datagram is a MoldUDP64 packet whose messages are those of ITCH 5.0."""
    packet = parse_packet(payload)
    if not isinstance(packet, Packet) or packet.trailing_bytes or packet.truncation is not None:
        return False
    try:
        return bool([parse(data) for data in packet.messages])
    except ParseError:
        return False
