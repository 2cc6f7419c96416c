"""The wire stage: drops by reason from a table, then frame by frame against the golden model."""

import ctypes
import struct
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.reasons import DropReason
from sim.card.functional.arbiter import GAP, advance, forget_retired
from sim.card.functional.path import FeedPath, fill
from sim.card.functional.records import FRAME, HELD_PACKETS_MAX, LOST_RANGES_MAX
from sim.golden.moldudp64 import Arbiter, Event, Gap, Message
from sim.golden.wire import Drop, parse_frame
from sw.ring import RingWriter, ring_size

SESSION, FOREIGN = b"SESSION001", b"SESSION002"
SOURCE, GROUP, PORT = bytes((10, 0, 0, 1)), bytes((233, 54, 12, 111)), 26477
SUBSCRIBED = int.from_bytes(GROUP, "big") << 16 | PORT
TIMEOUT_NS = 1_000
END_OF_SESSION = 0xFFFF
_U64_MAX = 0xFFFF_FFFF_FFFF_FFFF


def checksum(data: bytes) -> int:
    words = struct.unpack(f">{len(data + bytes(len(data) % 2)) // 2}H", data + bytes(len(data) % 2))
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def mold(sequence: int, *messages: bytes, count: int | None = None, session=SESSION) -> bytes:
    blocks = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    counted = len(messages) if count is None else count
    return session + struct.pack(">QH", sequence, counted) + blocks


def frame(payload: bytes, **faults) -> bytes:
    """Return a frame by the published headers, sound but for what ``faults`` says."""
    size = faults.get("udp_length", 8 + len(payload))
    udp = struct.pack(">HHHH", 18000, faults.get("port", PORT), size, 0) + payload
    destination = faults.get("group", GROUP)
    pseudo = SOURCE + destination + bytes((0, 17)) + struct.pack(">H", len(udp))
    right = checksum(pseudo + udp) or 0xFFFF
    udp = udp[:6] + struct.pack(">H", faults.get("udp_checksum", right)) + udp[8:]
    options = faults.get("options", b"")
    ip = struct.pack(
        ">BBHHHBBH4s4s",
        faults.get("version", 4) << 4 | faults.get("ihl", 5 + len(options) // 4),
        0,
        faults.get("total_length", 20 + len(options) + len(udp)),
        1,
        faults.get("fragment", 0x4000),
        64,
        faults.get("protocol", 17),
        0,
        SOURCE,
        destination,
    )
    ip += options
    ip = ip[:10] + struct.pack(">H", checksum(ip) ^ faults.get("ip_error", 0)) + ip[12:]
    tags = b"".join(b"\x81\x00" + struct.pack(">H", tag) for tag in faults.get("vlans", ()))
    ether_type = struct.pack(">H", faults.get("ether_type", 0x0800))
    whole = bytes(12) + tags + ether_type + ip + udp + faults.get("trailer", b"")
    return whole[: faults.get("cut", len(whole))]


class Wire:
    """A functional card's wire stage and arbiter; what they put before the book is taken here."""

    def __init__(self, group: int, session: bytes, expected: int):
        self._path = FeedPath(1, 1, RingWriter(memoryview(bytearray(ring_size(2))), 0, 2))
        self._path.listen(session, expected, TIMEOUT_NS, [group, group])
        self.drops = self._path.drops
        self.delivered: list[tuple[int, bytes]] = []
        self.gaps: list[tuple[int, int]] = []

    @property
    def held_high_water(self) -> int:
        return self._path.counter("held_high_water")

    def receive(self, line: int, data: bytes, now_ns: int) -> None:
        core, head = self._path.address, self._path.core.head[0]
        buffer = np.frombuffer(data + b"\0", np.uint8)
        frames = np.array([(0, len(data), line, now_ns)], FRAME)
        while head["frame_next"] < 1:
            fill(core, frames, buffer.ctypes.data)
            self._take()
        head["frame_next"] = 0

    def advance(self, now_ns: int) -> None:
        while not advance(self._path.address, now_ns):
            self._take()
        self._take()

    def _take(self) -> None:
        head, queue = self._path.core.head[0], self._path.core.queue
        for address, size, sequence, _ in queue[: head["queue_count"]].tolist():
            if size == GAP:
                _extend(self.gaps, sequence & _U64_MAX, address & _U64_MAX)
            else:
                self.delivered.append((sequence & _U64_MAX, ctypes.string_at(address, size)))
        head["queue_count"] = 0
        forget_retired(self._path.address)


def _extend(gaps: list[tuple[int, int]], first: int, count: int) -> None:
    # The golden model may give one hole in pieces, where a heartbeat told of its middle.
    if gaps and sum(gaps[-1]) == first:
        first, count = gaps[-1][0], gaps.pop()[1] + count
    gaps.append((first, count))


class Pair:
    """The wire stage and the golden model, given the same frames."""

    def __init__(self, group: int = 0, session: bytes | None = SESSION, expected: int = 1):
        self.wire = Wire(group, session or b"", expected)
        self.delivered, self.gaps = self.wire.delivered, self.wire.gaps
        self.golden_delivered: list[tuple[int, bytes]] = []
        self.golden_gaps: list[tuple[int, int]] = []
        self.golden_drops = [0] * len(DropReason)
        self.arbiter = Arbiter(TIMEOUT_NS, HELD_PACKETS_MAX, session, expected or None)
        self._group = group

    def _golden_events(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, Message):
                self.golden_delivered.append((event.sequence_number, event.data))
            elif isinstance(event, Gap):
                _extend(self.golden_gaps, event.first_sequence, event.count)

    def receive(self, line: int, data: bytes, now_ns: int) -> None:
        self.wire.receive(line, data, now_ns)
        self._golden_events(self.arbiter.advance(now_ns))
        found = parse_frame(data)
        if isinstance(found, Drop):
            self.golden_drops[found.reason] += 1
        elif self._group not in (0, found.destination_ip << 16 | found.destination_port):
            self.golden_drops[DropReason.NOT_SUBSCRIBED] += 1
        else:
            self._golden_events(self.arbiter.receive(line, found.payload, now_ns))

    def advance(self, now_ns: int) -> None:
        self.wire.advance(now_ns)
        self._golden_events(self.arbiter.advance(now_ns))

    def compare(self, context: object = None) -> None:
        drops = [own + self.arbiter.drops[DropReason(i)] for i, own in enumerate(self.golden_drops)]
        assert self.delivered == self.golden_delivered, context
        assert self.gaps == self.golden_gaps, context
        named = {DropReason(i).name: n for i, n in enumerate(drops) if n}
        assert {DropReason(i).name: n for i, n in enumerate(self.wire.drops) if n} == named, context


TWO = mold(1, b"first", b"second")
WHOLE = len(frame(TWO))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", DropReason.FRAME_TOO_SHORT),
        (frame(TWO, cut=13), DropReason.FRAME_TOO_SHORT),
        (frame(TWO, vlans=(5,), cut=17), DropReason.FRAME_TOO_SHORT),
        (frame(TWO, cut=33), DropReason.FRAME_TOO_SHORT),
        (frame(TWO, cut=41), DropReason.FRAME_TOO_SHORT),  # Inside the announced UDP header.
        (frame(TWO, options=bytes(8), cut=41), DropReason.FRAME_TOO_SHORT),
        (frame(TWO, ether_type=0x86DD), DropReason.NOT_IPV4),
        (frame(TWO, vlans=(5, 6)), DropReason.NOT_IPV4),
        (frame(TWO, version=6), DropReason.IP_HEADER),
        (frame(TWO, ihl=4), DropReason.IP_HEADER),
        (frame(TWO, ihl=4, cut=36), DropReason.IP_HEADER),
        (frame(TWO, ip_error=1), DropReason.IP_HEADER),
        (frame(TWO, total_length=19), DropReason.IP_HEADER),
        (frame(TWO, total_length=WHOLE - 14 + 1), DropReason.IP_HEADER),
        (frame(TWO, cut=42), DropReason.IP_HEADER),  # Cut within the payload.
        (frame(TWO, cut=WHOLE - 1), DropReason.IP_HEADER),
        (frame(TWO, fragment=0x2000), DropReason.IP_FRAGMENT),
        (frame(TWO, fragment=0x0001), DropReason.IP_FRAGMENT),
        (frame(b"", fragment=0x2000, total_length=24, cut=38), DropReason.IP_FRAGMENT),
        (frame(TWO, protocol=6), DropReason.NOT_UDP),
        (frame(b"", protocol=6, total_length=24, cut=38), DropReason.NOT_UDP),
        (frame(b"", total_length=27), DropReason.UDP_LENGTH),
        (frame(TWO, udp_length=7), DropReason.UDP_LENGTH),
        (frame(TWO, udp_length=len(TWO) + 9), DropReason.UDP_LENGTH),
        (frame(TWO, udp_checksum=0x1234), DropReason.UDP_CHECKSUM),
        (frame(TWO, port=PORT + 1), DropReason.NOT_SUBSCRIBED),
        (frame(TWO, group=bytes((233, 54, 12, 112))), DropReason.NOT_SUBSCRIBED),
        (frame(TWO[:19]), DropReason.MOLD_HEADER),
        (frame(b""), DropReason.MOLD_HEADER),
        (frame(mold(1, b"first", session=FOREIGN)), DropReason.MOLD_SESSION),
        (frame(mold(0, b"old")), DropReason.DUPLICATE),
    ],
)
def test_frame_is_dropped_under_its_reason_and_delivers_nothing(data, reason):
    pair = Pair(SUBSCRIBED)
    pair.receive(0, data, 0)
    pair.compare()
    assert {DropReason(i): n for i, n in enumerate(pair.wire.drops) if n} == {reason: 1}
    assert pair.delivered == []


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"vlans": (0x0FFF,)},
        {"options": bytes(40)},
        {"udp_checksum": 0},  # None was made.
        {"trailer": b"padding"},
        {"fragment": 0x8000},  # The reserved bit does not make a fragment.
    ],
)
def test_sound_frame_delivers_its_messages_in_order(more):
    pair = Pair(SUBSCRIBED)
    pair.receive(1, frame(TWO, **more), 0)
    pair.compare()
    assert pair.delivered == [(1, b"first"), (2, b"second")]
    assert sum(pair.wire.drops) == 0


def test_truncated_packet_delivers_its_whole_messages():
    pair = Pair()
    pair.receive(0, frame(TWO[:-1]), 0)
    pair.compare()
    assert pair.delivered == [(1, b"first")]
    assert pair.wire.drops[DropReason.MOLD_TRUNCATED] == 1
    pair.receive(1, frame(TWO), 0)
    assert pair.delivered == [(1, b"first"), (2, b"second")]
    assert sum(pair.wire.drops) == 1


def test_gap_is_filled_by_the_other_line_and_nothing_is_lost():
    pair = Pair()
    pair.receive(0, frame(mold(2, b"second")), 0)
    assert pair.delivered == []
    pair.receive(1, frame(mold(1, b"first")), TIMEOUT_NS)
    pair.compare()
    assert pair.delivered == [(1, b"first"), (2, b"second")]
    assert pair.gaps == []


def test_gap_is_lost_one_nanosecond_after_the_timeout_and_not_at_it():
    pair = Pair()
    pair.receive(0, frame(mold(3, b"third")), 50)
    pair.advance(50 + TIMEOUT_NS)
    assert pair.gaps == []
    pair.advance(50 + TIMEOUT_NS + 1)
    pair.compare()
    assert pair.gaps == [(1, 2)]
    assert pair.delivered == [(3, b"third")]


def test_packet_of_lost_messages_is_too_late_and_of_delivered_ones_a_duplicate():
    pair = Pair()
    pair.receive(0, frame(mold(3, b"third")), 0)
    pair.advance(TIMEOUT_NS + 1)
    pair.receive(1, frame(mold(1, b"first", b"second")), TIMEOUT_NS + 2)
    pair.receive(1, frame(mold(3, b"third")), TIMEOUT_NS + 2)
    pair.receive(1, frame(mold(2, b"second", b"third")), TIMEOUT_NS + 2)
    pair.compare()
    assert pair.wire.drops[DropReason.TOO_LATE] == 1
    assert pair.wire.drops[DropReason.DUPLICATE] == 2


def test_lost_ranges_are_remembered_up_to_the_bound_and_the_oldest_is_forgotten_first():
    pair = Pair()
    for sequence in range(2, 2 * LOST_RANGES_MAX + 4, 2):  # Every odd number is lost, one too many.
        pair.receive(0, frame(mold(sequence, b"even")), 0)
        pair.advance(TIMEOUT_NS + 1)
    for sequence in (1, 3):
        pair.wire.receive(1, frame(mold(sequence, b"odd")), TIMEOUT_NS + 1)
    assert pair.wire.drops[DropReason.DUPLICATE] == 1
    assert pair.wire.drops[DropReason.TOO_LATE] == 1


@pytest.mark.parametrize("count", [0, END_OF_SESSION])
def test_announcement_ahead_reveals_a_gap_and_one_in_order_does_not(count):
    pair = Pair()
    pair.receive(0, frame(mold(1, count=count)), 0)
    pair.advance(TIMEOUT_NS + 1)
    assert pair.gaps == []
    pair.receive(0, frame(mold(4, count=count)), TIMEOUT_NS + 1)
    pair.advance(2 * TIMEOUT_NS + 2)
    pair.compare()
    assert pair.gaps == [(1, 3)]


def test_packets_ahead_are_held_up_to_the_bound_and_one_more_gives_the_gap_up():
    pair = Pair()
    for sequence in range(2, 2 + HELD_PACKETS_MAX):
        pair.receive(0, frame(mold(sequence, b"%d" % sequence)), 0)
    assert pair.gaps == []
    assert pair.wire.held_high_water == HELD_PACKETS_MAX
    pair.receive(0, frame(mold(2 + HELD_PACKETS_MAX, b"last")), 0)
    pair.compare()
    assert pair.gaps == [(1, 1)]
    assert len(pair.delivered) == HELD_PACKETS_MAX + 1


def test_first_session_and_sequence_are_adopted_when_none_was_given():
    pair = Pair(session=None, expected=0)
    pair.receive(0, frame(mold(700, b"a", session=FOREIGN)), 0)
    pair.receive(0, frame(mold(701, b"b", session=SESSION)), 0)
    pair.receive(1, frame(mold(699, b"c", session=FOREIGN)), 0)
    pair.compare()
    assert pair.delivered == [(700, b"a")]
    assert pair.wire.drops[DropReason.MOLD_SESSION] == 1
    assert pair.wire.drops[DropReason.DUPLICATE] == 1


def faulty(rng: Random, payload: bytes) -> bytes:
    """Return the payload in a frame with one fault at random, or none."""
    fault = rng.randrange(14)
    more: dict[str, object] = {
        0: {"ip_error": 1 << rng.randrange(16)},
        1: {"udp_checksum": rng.randrange(1 << 16)},
        2: {"udp_checksum": 0},
        3: {"vlans": (rng.randrange(1 << 12),) * rng.randint(1, 2)},
        4: {"fragment": rng.choice((0x2000, 0x0001, 0x3FFF, 0x4000, 0x8000))},
        5: {"options": bytes(4 * rng.randint(1, 10))},
        6: {"cut": rng.randrange(len(frame(payload)) + 1)},
        7: {"udp_length": rng.choice((0, 7, 8, 27, 28, len(payload), len(payload) + 9))},
        8: {"total_length": rng.choice((0, 19, 20, 27, 28, 27 + len(payload), 1500))},
        9: {"version": rng.randrange(16), "ihl": rng.randrange(16)},
        10: {"protocol": rng.choice((6, 17, 1)), "ether_type": rng.choice((0x0800, 0x0806))},
        11: {"port": rng.choice((PORT, PORT + 1)), "group": rng.choice((GROUP, SOURCE))},
    }.get(fault, {})
    return frame(payload, trailer=bytes(rng.randrange(8)), **more)


def packets(rng: Random, last: int) -> list[tuple[int, int, bytes]]:
    """Return arrivals (time, line, frame): both lines with losses, repeats and reordering."""
    arrivals: list[tuple[int, int, bytes]] = []
    for line in (0, 1):
        sequence, now_ns = 1, 0
        while sequence < last:
            now_ns += rng.randrange(200)
            count = rng.randint(1, 4)
            messages = [b"%d" % n * rng.randrange(3) for n in range(sequence, sequence + count)]
            payload = mold(sequence, *messages)
            kind = rng.randrange(20)
            if kind == 0:
                payload = mold(sequence + rng.randrange(4), count=rng.choice((0, END_OF_SESSION)))
            elif kind == 1:
                payload = payload[: rng.randrange(len(payload))]
            elif kind == 2:
                payload = mold(sequence, *messages, session=FOREIGN)
            else:
                sequence += count
            late_ns = rng.choice((0, 0, 0, rng.randrange(3 * TIMEOUT_NS)))
            for _ in range(rng.choice((0, 1, 1, 1, 1, 1, 2))):
                data = faulty(rng, payload) if rng.random() < 0.2 else frame(payload)
                arrivals.append((now_ns + late_ns, line, data))
    return sorted(arrivals, key=lambda arrival: arrival[0])


@pytest.mark.parametrize("seed", range(40))
def test_two_faulty_lines_give_what_the_golden_model_gives(seed):
    rng = Random(seed)
    adopts = seed % 4 == 3
    pair = Pair(
        SUBSCRIBED if seed % 2 else 0, None if adopts else SESSION, expected=0 if adopts else 1
    )
    for number, (now_ns, line, data) in enumerate(packets(rng, last=150)):
        pair.receive(line, data, now_ns)
        pair.compare(f"seed={seed}, frame={number}, {data.hex()}")
    pair.advance(1 << 40)
    pair.compare(f"seed={seed}")
    assert len(pair.delivered) > (10 if adopts else 100)
    assert sum(pair.wire.drops) > 20


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    start=st.sampled_from(
        (frame(TWO), frame(TWO, vlans=(7,)), frame(TWO, options=bytes(8)), frame(mold(3, count=0)))
    ),
    edits=st.lists(st.tuples(st.integers(0, 63), st.integers(0, 255)), max_size=3),
    cut=st.integers(0, 80),
)
def test_frame_with_bytes_changed_at_random_counts_as_in_the_golden_model(start, edits, cut):
    data = bytearray(start)
    for at, value in edits:
        data[at % len(data)] = value
    pair = Pair(SUBSCRIBED)
    pair.receive(0, bytes(data[:cut]) if cut < 60 else bytes(data), 0)
    pair.advance(TIMEOUT_NS + 1)
    pair.compare(bytes(data).hex())
