"""Market data out: ITCH messages in MoldUDP64 packets, as Ethernet frames on lines A and B."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protocol.frames import Address, multicast_mac, udp_frame
from protocol.moldudp64 import BLOCK, HEADER, packet

PAYLOAD_MAX = 1472
"""UDP payload that fits an Ethernet frame of 1,500 bytes."""

_TIMESTAMP = slice(5, 11)

VENUE_MAC = bytes.fromhex("020000000001")
VENUE_IP = 0x0A00_0001
"""10.0.0.1."""
GROUP_A = Address(multicast_mac(0xE936_0C6F), 0xE936_0C6F, 26477)
"""233.54.12.111, the group and port of Nasdaq's own captures."""
GROUP_B = Address(multicast_mac(0xE936_0C6F + 0x1_0000), 0xE936_0C6F + 0x1_0000, 26477)


class Packet(NamedTuple):
    """A MoldUDP64 packet as it leaves: when, with which messages, and its frame on either line."""

    ts_ns: int
    messages: list[bytes]
    frame_a: bytes
    frame_b: bytes


def message_time_ns(message: bytes) -> int:
    """Return an ITCH message's time in ns since midnight."""
    return int.from_bytes(message[_TIMESTAMP], "big")


def publish(messages: Iterable[bytes], session: str) -> Iterator[Packet]:
    """Yield packets in which messages of one and the same time stand together.

    Times that run backwards (some real files have them across symbols) do not move the clock back.
    """
    sequence, clock_ns = 1, 0
    batch: list[bytes] = []
    size = HEADER.size
    try:
        for message in messages:
            ts_ns = max(message_time_ns(message), clock_ns)
            block = BLOCK.size + len(message)
            if batch and (ts_ns != clock_ns or size + block > PAYLOAD_MAX):
                yield _packet(clock_ns, session, sequence, batch)
                sequence += len(batch)
                batch, size = [], HEADER.size
            batch.append(message)
            size += block
            clock_ns = ts_ns
    except Exception:
        if batch:  # What stood before the fault is still published.
            yield _packet(clock_ns, session, sequence, batch)
        raise
    if batch:
        yield _packet(clock_ns, session, sequence, batch)


def _packet(ts_ns: int, session: str, sequence: int, messages: list[bytes]) -> Packet:
    payload = packet(session, sequence, messages)
    source = Address(VENUE_MAC, VENUE_IP, GROUP_A.port)
    return Packet(
        ts_ns, messages, udp_frame(source, GROUP_A, payload), udp_frame(source, GROUP_B, payload)
    )
