"""Packets packed by hand, and two lines merged under loss, reordering and duplication."""

import re
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.reasons import DropReason
from sim.golden.moldudp64 import (
    Arbiter,
    EndOfSession,
    Event,
    Gap,
    Message,
    Packet,
    Retract,
    Truncation,
    parse_packet,
)
from sim.golden.wire import Datagram, Drop, parse_frame

SESSION = b"000010059B"
END_OF_SESSION = 0xFFFF


def header(sequence: int, count: int, session: bytes = SESSION) -> bytes:
    return session + struct.pack(">QH", sequence, count)


def packet(sequence: int, *messages: bytes, session: bytes = SESSION) -> bytes:
    blocks = b"".join(struct.pack(">H", len(message)) + message for message in messages)
    return header(sequence, len(messages), session) + blocks


def numbered(first: int, count: int = 1) -> bytes:
    """A packet whose messages say their own number."""
    return packet(first, *(b"%d" % number for number in range(first, first + count)))


def delivered(first: int, count: int, line: int) -> list[Event]:
    return [Message(number, b"%d" % number, line) for number in range(first, first + count)]


# Packets.


def test_packet_of_two_messages_is_split() -> None:
    payload = bytes.fromhex(
        "30303030313030353942 0000000001220e5d 0002  0003 414243  0001 5a".replace(" ", "")
    )
    assert parse_packet(payload) == Packet(
        session=b"000010059B",
        sequence_number=0x01220E5D,
        message_count=2,
        messages=(b"ABC", b"Z"),
        truncation=None,
        trailing_bytes=0,
    )


def test_message_of_no_bytes_is_a_message() -> None:
    parsed = parse_packet(packet(1, b"", b"A", b""))
    assert isinstance(parsed, Packet)
    assert (parsed.messages, parsed.truncation) == ((b"", b"A", b""), None)


@pytest.mark.parametrize(
    ("count", "heartbeat", "end"), [(0, True, False), (1, False, False), (0xFFFF, False, True)]
)
def test_message_count_tells_heartbeat_and_end_of_session(
    count: int, heartbeat: bool, end: bool
) -> None:
    parsed = parse_packet(header(7, count) + (b"\x00\x00" if count == 1 else b""))
    assert isinstance(parsed, Packet)
    assert (parsed.is_heartbeat, parsed.is_end_of_session) == (heartbeat, end)
    assert (parsed.sequence_number, parsed.truncation, parsed.trailing_bytes) == (7, None, 0)


@pytest.mark.parametrize("payload", [header(7, 0), header(7, 0xFFFF), packet(7, b"A")])
def test_bytes_after_the_last_block_are_counted(payload: bytes) -> None:
    parsed = parse_packet(payload + b"\x00\x01\x02")
    assert isinstance(parsed, Packet)
    assert (parsed.trailing_bytes, parsed.truncation) == (3, None)


def test_most_messages_a_packet_can_announce_are_split() -> None:
    parsed = parse_packet(header(1, 0xFFFE) + bytes(2 * 0xFFFE))
    assert isinstance(parsed, Packet)
    assert (len(parsed.messages), parsed.truncation, parsed.trailing_bytes) == (0xFFFE, None, 0)


@pytest.mark.parametrize("length", [0, 19])
def test_payload_shorter_than_the_header_is_dropped(length: int) -> None:
    assert parse_packet(header(1, 0)[:length]) == Drop(
        DropReason.MOLD_HEADER, f"needed=20, available={length}"
    )


@pytest.mark.parametrize(
    ("cut", "messages", "offset", "reason"),
    [
        (1, (b"ABC",), 25, "message cut: length=2, have=1"),
        (2, (b"ABC",), 25, "message cut: length=2, have=0"),
        (3, (b"ABC",), 25, "no message length: available=1"),
        (4, (b"ABC",), 25, "no message length: available=0"),
        (5, (), 20, "message cut: length=3, have=2"),
        (9, (), 20, "no message length: available=0"),
    ],
)
def test_truncated_packet_keeps_the_messages_before_the_fault(
    cut: int, messages: tuple[bytes, ...], offset: int, reason: str
) -> None:
    parsed = parse_packet(packet(1, b"ABC", b"DE")[:-cut])
    assert isinstance(parsed, Packet)
    assert parsed.messages == messages
    assert parsed.truncation == Truncation(offset, reason)
    assert parsed.trailing_bytes == 0


def test_truncated_real_packet_is_reported_with_its_offset(data_dir: Path) -> None:
    rest = (data_dir / "malformed" / "genium_moldudp64_truncated.bin").read_bytes()
    found = []
    for _ in range(3):
        parsed = parse_packet(rest)
        assert isinstance(parsed, Packet)
        found.append((parsed.sequence_number, parsed.message_count, len(parsed.messages)))
        last = parsed
        rest = rest[len(rest) - parsed.trailing_bytes :]
    assert found == [(1, 15, 15), (16, 13, 13), (29, 13, 12)]
    assert last.truncation == Truncation(872, "message cut: length=25, have=20")
    assert (last.messages[0][:1], len(last.messages[11])) == (b"L", 113)
    assert rest == b""


# The arbiter.


def test_first_arrival_wins_and_the_copy_is_a_duplicate() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    assert arbiter.receive(1, packet(1, b"a", b"b"), 0) == [
        Message(1, b"a", 1),
        Message(2, b"b", 1),
    ]
    assert arbiter.receive(0, packet(1, b"a", b"b"), 5) == []
    assert arbiter.drops == {DropReason.DUPLICATE: 1}
    assert arbiter.next_sequence == 3


def test_other_line_fills_a_gap() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    assert arbiter.receive(0, numbered(1), 0) == delivered(1, 1, 0)
    assert arbiter.receive(0, numbered(3, 2), 1) == []
    assert arbiter.receive(1, numbered(2), 2) == delivered(2, 1, 1) + delivered(3, 2, 0)
    assert arbiter.receive(1, numbered(3, 2), 3) == []
    assert arbiter.drops == {DropReason.DUPLICATE: 1}


def test_partly_old_packet_is_used_from_its_first_new_message() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1, 3), 0)
    assert arbiter.receive(1, numbered(2, 4), 1) == delivered(4, 2, 1)
    assert arbiter.drops == {}


def test_gap_is_lost_when_the_wait_exceeds_the_timeout() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(4, 2), 1000)
    assert arbiter.advance(1100) == []
    assert arbiter.advance(1101) == [Gap(1, 3), *delivered(4, 2, 0)]
    assert arbiter.next_sequence == 6


def test_clock_is_looked_at_before_a_packet_is_used() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(2), 0)
    assert arbiter.receive(1, numbered(1), 101) == [Gap(1, 1), *delivered(2, 1, 0)]
    assert arbiter.drops == {DropReason.TOO_LATE: 1}


def test_packet_at_the_timeout_still_fills_the_gap() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(2), 0)
    assert arbiter.receive(1, numbered(1), 100) == delivered(1, 1, 1) + delivered(2, 1, 0)


def test_each_gap_waits_since_it_was_noticed() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(2), 0)
    arbiter.receive(0, numbered(4), 60)
    assert arbiter.advance(101) == [Gap(1, 1), *delivered(2, 1, 0)]
    assert arbiter.advance(160) == []
    assert arbiter.advance(161) == [Gap(3, 1), *delivered(4, 1, 0)]


def test_numbers_below_the_first_packet_ahead_were_noticed_with_it() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(4), 0)
    arbiter.receive(0, numbered(2), 60)
    assert arbiter.advance(101) == [
        Gap(1, 1),
        *delivered(2, 1, 0),
        Gap(3, 1),
        *delivered(4, 1, 0),
    ]


def test_full_buffer_declares_the_first_gap_lost() -> None:
    arbiter = Arbiter(gap_timeout_ns=100, held_packets_max=2)
    assert arbiter.receive(0, numbered(7), 0) == []
    assert arbiter.receive(0, numbered(5), 0) == []
    assert arbiter.receive(0, numbered(3), 0) == [Gap(1, 2), *delivered(3, 1, 0)]
    assert arbiter.receive(0, numbered(9), 0) == [Gap(4, 1), *delivered(5, 1, 0)]
    assert arbiter.receive(1, numbered(6), 0) == delivered(6, 1, 1) + delivered(7, 1, 0)


def test_full_buffer_takes_a_packet_that_is_not_ahead() -> None:
    arbiter = Arbiter(gap_timeout_ns=100, held_packets_max=1)
    arbiter.receive(0, numbered(2), 0)
    assert arbiter.receive(1, numbered(1), 0) == delivered(1, 1, 1) + delivered(2, 1, 0)


def test_without_a_buffer_every_gap_is_lost_at_once() -> None:
    arbiter = Arbiter(gap_timeout_ns=100, held_packets_max=0)
    assert arbiter.receive(0, numbered(3), 0) == [Gap(1, 2), *delivered(3, 1, 0)]


def test_copy_of_a_held_packet_takes_no_place() -> None:
    arbiter = Arbiter(gap_timeout_ns=100, held_packets_max=2)
    arbiter.receive(0, numbered(3, 2), 0)
    arbiter.receive(0, numbered(5, 2), 0)
    assert arbiter.receive(1, numbered(3, 2), 1) == []
    assert arbiter.receive(1, numbered(4, 2), 1) == []
    assert arbiter.drops == {DropReason.DUPLICATE: 2}
    assert arbiter.receive(1, numbered(1, 2), 2) == delivered(1, 2, 1) + delivered(3, 4, 0)


@pytest.mark.parametrize("held_count", [1, 2])
def test_held_packet_overtaken_by_a_larger_one_is_a_duplicate(held_count: int) -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(2, held_count), 0)
    assert arbiter.receive(1, numbered(1, 3), 1) == delivered(1, 3, 1)
    assert arbiter.drops == {DropReason.DUPLICATE: 1}


@pytest.mark.parametrize(
    ("sequence", "count", "reason"),
    [
        (2, 1, DropReason.TOO_LATE),
        (2, 3, DropReason.TOO_LATE),
        (3, 1, DropReason.TOO_LATE),
        (1, 1, DropReason.DUPLICATE),
        (1, 2, DropReason.DUPLICATE),
        (4, 2, DropReason.DUPLICATE),
        (5, 1, DropReason.DUPLICATE),
    ],
)
def test_old_packet_is_too_late_only_where_all_of_it_was_lost(
    sequence: int, count: int, reason: DropReason
) -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1), 0)
    arbiter.receive(0, header(3, 0), 0)
    arbiter.receive(0, numbered(5), 50)
    assert arbiter.advance(101) == [Gap(2, 1)]
    assert arbiter.advance(151) == [Gap(3, 2), *delivered(5, 1, 0)]
    assert arbiter.receive(1, numbered(sequence, count), 152) == []
    assert arbiter.drops == {reason: 1}


def test_packet_that_is_lost_and_new_is_used_from_its_first_new_message() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(3), 0)
    arbiter.advance(101)
    assert arbiter.receive(1, numbered(1, 4), 102) == delivered(4, 1, 1)
    assert arbiter.drops == {}


@pytest.mark.parametrize("count", [0, END_OF_SESSION])
def test_heartbeat_and_end_of_session_reveal_a_gap(count: int) -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    end: list[Event] = [EndOfSession(4)] if count == END_OF_SESSION else []
    assert arbiter.receive(0, header(4, count), 0) == []
    assert arbiter.receive(1, header(4, count), 50) == []
    assert arbiter.advance(100) == []
    assert arbiter.advance(101) == [Gap(1, 3), *end]


def test_gap_revealed_by_a_heartbeat_is_filled() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, header(3, 0), 0)
    assert arbiter.receive(1, numbered(1, 2), 10) == delivered(1, 2, 1)
    assert arbiter.advance(1000) == []


def test_heartbeat_without_news_does_nothing() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1, 2), 0)
    assert arbiter.receive(0, header(3, 0), 0) == []
    assert arbiter.receive(0, header(2, 0), 0) == []
    assert arbiter.advance(1000) == []
    assert arbiter.drops == {}


def test_heartbeats_take_no_place_in_the_buffer() -> None:
    arbiter = Arbiter(gap_timeout_ns=100, held_packets_max=0)
    assert arbiter.receive(0, header(3, 0), 0) == []
    assert arbiter.receive(0, header(4, 0), 60) == []
    assert arbiter.advance(101) == [Gap(1, 2)]
    assert arbiter.advance(160) == []
    assert arbiter.advance(161) == [Gap(3, 1)]


def test_end_of_session_is_reported_once() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1, 2), 0)
    assert arbiter.receive(0, header(3, END_OF_SESSION), 1) == [EndOfSession(3)]
    assert arbiter.receive(1, header(3, END_OF_SESSION), 2) == []


def test_end_of_session_carries_the_number_of_its_packet() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1, 3), 0)
    assert arbiter.receive(0, header(2, END_OF_SESSION), 1) == [EndOfSession(2)]


def test_end_of_session_waits_for_held_messages() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(2), 0)
    assert arbiter.receive(0, header(3, END_OF_SESSION), 1) == []
    assert arbiter.receive(1, numbered(1), 2) == [
        *delivered(1, 1, 1),
        *delivered(2, 1, 0),
        EndOfSession(3),
    ]


def test_new_messages_after_the_end_of_session_are_delivered() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, header(1, END_OF_SESSION), 0)
    assert arbiter.receive(0, numbered(1, 2), 1) == delivered(1, 2, 0)


def test_truncated_packet_is_used_up_to_the_fault() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    assert arbiter.receive(0, numbered(1, 3)[:-1], 0) == delivered(1, 2, 0)
    assert arbiter.drops == {DropReason.MOLD_TRUNCATED: 1}
    assert arbiter.advance(1000) == []  # What was cut off is noticed only by what comes after it.
    assert arbiter.receive(1, numbered(1, 3), 1000) == delivered(3, 1, 1)


@pytest.mark.parametrize("cut", [1, 3])
def test_truncated_packet_of_old_numbers_is_not_looked_into(cut: int) -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(4, 2)[:-cut], 0)  # Held, or nothing whole in it.
    assert arbiter.receive(0, numbered(1, 5), 0) == delivered(1, 5, 0)
    arbiter.receive(1, numbered(4, 2)[:-cut], 0)
    assert arbiter.drops == {DropReason.DUPLICATE: 2}


def test_truncated_packet_ahead_reveals_a_gap_and_is_used_behind_it() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(4, 2)[:-1], 0)
    assert arbiter.drops == {}
    assert arbiter.advance(101) == [Gap(1, 3), *delivered(4, 1, 0)]
    assert (arbiter.next_sequence, arbiter.drops) == (5, {DropReason.MOLD_TRUNCATED: 1})


def test_bad_packet_is_delivered_and_retracted_and_its_copy_takes_its_place() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    events = arbiter.receive(0, numbered(1, 3), 0, bad=True)
    assert events == [*delivered(1, 3, 0), Retract(1, 3)]
    assert (arbiter.next_sequence, arbiter.session, arbiter.drops) == (1, None, {})
    assert arbiter.receive(1, numbered(1, 3), 0) == delivered(1, 3, 1)


def test_bad_packet_that_is_partly_old_retracts_its_new_messages_alone() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1, 2), 0)
    events = arbiter.receive(1, numbered(1, 5), 0, bad=True)
    assert events == [*delivered(3, 3, 1), Retract(3, 3)]
    assert (arbiter.next_sequence, arbiter.drops) == (3, {})


@pytest.mark.parametrize("packet", [numbered(2), numbered(9), header(3, 0), header(9, 0)])
def test_bad_packet_ahead_or_old_or_without_messages_is_not_used(packet: bytes) -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1, 2), 0)
    assert arbiter.receive(1, packet, 0, bad=True) == []
    assert arbiter.advance(1000) == []
    assert (arbiter.next_sequence, arbiter.drops) == (3, {})


def test_payload_without_a_header_is_counted() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    assert arbiter.receive(0, bytes(19), 0) == []
    assert (arbiter.session, arbiter.drops) == (None, {DropReason.MOLD_HEADER: 1})


def test_first_session_is_adopted_and_others_are_dropped() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    arbiter.receive(0, numbered(1), 0)
    assert arbiter.session == SESSION
    assert arbiter.receive(0, packet(2, b"2", session=b"OTHER     "), 0) == []
    assert arbiter.receive(0, header(9, 0, session=b"OTHER     "), 0) == []
    assert arbiter.drops == {DropReason.MOLD_SESSION: 2}
    assert arbiter.advance(1000) == []


def test_configured_session_is_the_only_one() -> None:
    arbiter = Arbiter(gap_timeout_ns=100, session=b"OTHER     ")
    assert arbiter.receive(0, numbered(1), 0) == []
    assert arbiter.drops == {DropReason.MOLD_SESSION: 1}


@pytest.mark.parametrize("first", [numbered(70, 2), header(72, 0)])
def test_without_a_start_the_first_packet_sets_it(first: bytes) -> None:
    arbiter = Arbiter(gap_timeout_ns=100, next_sequence=None)
    arbiter.receive(0, first, 0)
    assert arbiter.next_sequence == 72
    assert arbiter.receive(1, numbered(69), 1) == []
    assert arbiter.drops == {DropReason.DUPLICATE: 1}
    assert arbiter.receive(1, numbered(72), 1) == delivered(72, 1, 1)


def test_highest_sequence_number_neither_hangs_nor_crashes() -> None:
    arbiter = Arbiter(gap_timeout_ns=100)
    last = 2**64 - 1
    arbiter.receive(0, numbered(last, 2)[:10] + struct.pack(">QH", last, 2) + bytes(4), 0)
    assert arbiter.advance(101) == [
        Gap(1, last - 1),
        Message(last, b"", 0),
        Message(last + 1, b"", 0),
    ]
    assert arbiter.receive(0, packet(0, b"wrapped"), 102) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gap_timeout_ns": -1}, "gap_timeout_ns must be 0 or more, not -1"),
        (
            {"gap_timeout_ns": 0, "held_packets_max": -1},
            "held_packets_max must be 0 or more, not -1",
        ),
        ({"gap_timeout_ns": 0, "session": b"A"}, "session must be 10 bytes, not b'A'"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Arbiter(**arguments)  # type: ignore[arg-type]


def test_line_that_is_neither_a_nor_b_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^line must be 0 or 1, not 2$"):
        Arbiter(gap_timeout_ns=0).receive(2, header(1, 0), 0)


# Two lines at random: each copy of each packet is lost or arrives at some time, perhaps twice.

ARRIVALS = st.lists(st.integers(0, 60), max_size=2)
LINE = st.lists(st.tuples(st.integers(1, 4), ARRIVALS), min_size=1, max_size=12)


def schedule(lines: list[list[tuple[int, list[int]]]]) -> tuple[list[tuple[int, int, bytes]], int]:
    """Arrivals in order of time as (time, line, payload), and the number of messages sent."""
    arrivals = []
    total = 0
    for line, packets in enumerate(lines):
        first = 1
        for count, times in packets:
            arrivals += [(time, line, numbered(first, count)) for time in times]
            first += count
        total = max(total, first - 1)
    return sorted(arrivals), total


def check_sequence(events: list[Event], total: int) -> set[int]:
    """Assert that events cover 1 to total once, in order; return the numbers lost."""
    expected = 1
    lost: set[int] = set()
    for event in events:
        if isinstance(event, Message):
            assert (event.sequence_number, event.data) == (expected, b"%d" % expected)
            expected += 1
        elif isinstance(event, Gap):
            assert event.first_sequence == expected
            assert event.count > 0
            lost |= set(range(expected, expected + event.count))
            expected += event.count
        else:
            assert event == EndOfSession(expected)
    assert expected == total + 1
    return lost


def received_numbers(arrivals: list[tuple[int, int, bytes]]) -> set[int]:
    numbers: set[int] = set()
    for _, _, payload in arrivals:
        first, count = struct.unpack_from(">QH", payload, 10)
        numbers |= set(range(first, first + count))
    return numbers


@settings(max_examples=300, deadline=None)
@given(
    lines=st.tuples(LINE, LINE),
    timeout_ns=st.integers(0, 70),
    held_packets_max=st.integers(0, 6),
)
def test_every_number_is_delivered_or_lost_once_and_in_order(
    lines: tuple[list[tuple[int, list[int]]], ...], timeout_ns: int, held_packets_max: int
) -> None:
    arrivals, total = schedule(list(lines))
    arbiter = Arbiter(timeout_ns, held_packets_max)
    events: list[Event] = []
    for ts_ns, line, payload in arrivals:
        events += arbiter.receive(line, payload, ts_ns)
    events += arbiter.receive(0, header(total + 1, END_OF_SESSION), 1000)
    events += arbiter.advance(2000)
    lost = check_sequence(events, total)
    assert set(range(1, total + 1)) - received_numbers(arrivals) <= lost
    assert events.count(EndOfSession(total + 1)) == 1


@settings(max_examples=300, deadline=None)
@given(lines=st.tuples(LINE, LINE))
def test_with_room_and_patience_only_what_neither_line_brought_is_lost(
    lines: tuple[list[tuple[int, list[int]]], ...],
) -> None:
    arrivals, total = schedule(list(lines))
    arbiter = Arbiter(gap_timeout_ns=60, held_packets_max=48)
    events: list[Event] = []
    for ts_ns, line, payload in arrivals:
        events += arbiter.receive(line, payload, ts_ns)
    events += arbiter.receive(1, header(total + 1, 0), 60)
    events += arbiter.advance(121)
    lost = check_sequence(events, total)
    assert lost == set(range(1, total + 1)) - received_numbers(arrivals)


@settings(max_examples=200, deadline=None)
@given(lines=st.tuples(LINE, LINE), timeout_ns=st.integers(0, 30))
def test_nothing_is_held_longer_than_the_timeout(
    lines: tuple[list[tuple[int, list[int]]], ...], timeout_ns: int
) -> None:
    arrivals, _ = schedule(list(lines))
    arbiter = Arbiter(timeout_ns)
    first_arrival: dict[int, int] = {}
    for ts_ns in range(100):
        events = arbiter.advance(ts_ns)
        for _, line, payload in [arrival for arrival in arrivals if arrival[0] == ts_ns]:
            for number in received_numbers([(ts_ns, line, payload)]):
                first_arrival.setdefault(number, ts_ns)
            events += arbiter.receive(line, payload, ts_ns)
        for event in events:
            if isinstance(event, Message):
                assert ts_ns - first_arrival[event.sequence_number] <= timeout_ns + 1


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.binary(max_size=60)), max_size=20))
def test_arbitrary_bytes_never_crash(payloads: list[tuple[int, bytes]]) -> None:
    arbiter = Arbiter(gap_timeout_ns=2, session=SESSION)
    expected = 1
    for ts_ns, (line, payload) in enumerate(payloads):
        for event in arbiter.receive(line, SESSION + payload, ts_ns):
            if not isinstance(event, EndOfSession):
                first = (
                    event.sequence_number if isinstance(event, Message) else event.first_sequence
                )
                assert first == expected
                expected += 1 if isinstance(event, Message) else event.count


# Real captures.


def test_production_packets_have_the_headers_of_the_third_party_decode(data_dir: Path) -> None:
    dpkt = pytest.importorskip("dpkt")
    found = []
    for path in sorted((data_dir / "pcap" / "itch50").glob("*.pcap")):
        with path.open("rb") as file:
            for _, frame in dpkt.pcap.Reader(file):
                datagram = parse_frame(frame)
                assert isinstance(datagram, Datagram)
                parsed = parse_packet(datagram.payload)
                assert isinstance(parsed, Packet)
                assert (parsed.session, parsed.truncation) == (SESSION, None)
                assert (parsed.trailing_bytes, parsed.message_count) == (0, len(parsed.messages))
                found.append((path.stem, parsed.sequence_number, parsed.message_count))
    expected = []
    for path in sorted((data_dir / "pcap" / "itch50").glob("*.txt")):
        lines = [line.strip() for line in path.read_text().splitlines()]
        sequences = [int(line[17:]) for line in lines if line.startswith("Sequence Number: ")]
        counts = [int(line[15:]) for line in lines if line.startswith("Message Count: ")]
        expected += [(path.stem, *pair) for pair in zip(sequences, counts, strict=True)]
    assert found == expected
    assert ("Multiple.Packets", 19009117, 38) in found


def test_two_real_lines_merge_without_loss(data_dir: Path) -> None:
    # Another exchange's payload: its own sequence number is wrapped as that of a packet.
    dpkt = pytest.importorskip("dpkt")
    arbiter = Arbiter(gap_timeout_ns=1_000_000_000, next_sequence=None)
    events: list[Event] = []
    packets = 0
    with (data_dir / "pcap" / "ab_feed" / "Cme.Mdp3.Sbe.v8.1.pcapng").open("rb") as file:
        for ts_s, frame in dpkt.pcapng.Reader(file):
            datagram = parse_frame(frame)
            assert isinstance(datagram, Datagram), datagram
            line = {0xE0001F0B: 0, 0xE000200B: 1}[datagram.destination_ip]
            sequence = struct.unpack_from("<I", datagram.payload)[0]
            wrapped = packet(sequence, datagram.payload)
            events += arbiter.receive(line, wrapped, int(ts_s * 1_000_000_000))
            packets += 1
    assert packets == 10_000
    messages = [event for event in events if isinstance(event, Message)]
    assert messages == events
    first = messages[0].sequence_number
    assert [event.sequence_number for event in messages] == list(range(first, first + 5000))
    assert all(struct.unpack_from("<I", m.data)[0] == m.sequence_number for m in messages)
    assert {event.line for event in messages} == {0, 1}
    assert arbiter.drops == {DropReason.DUPLICATE: 5000}
