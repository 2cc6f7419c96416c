"""Market data out: packets, what a line does to them, and re-requests."""

from itertools import pairwise

import pytest

from protocol.moldudp64 import REQUEST
from sim.venue.moldudp import Feed, Line

SESSION = b"S1        "


def head(sequence, count):
    return SESSION + sequence.to_bytes(8, "big") + count.to_bytes(2, "big")


def request(sequence, count, session="S1"):
    return REQUEST.pack(session=session, sequence_number=sequence, requested_message_count=count)


def test_messages_are_numbered_and_each_goes_into_one_packet():
    feed = Feed("S1")
    feed.messages += [b"abc", b"de"]
    assert list(feed.packets()) == [head(1, 2) + b"\0\3abc\0\2de"]
    assert list(feed.packets()) == []
    feed.messages.append(b"f")
    assert list(feed.packets()) == [head(3, 1) + b"\0\1f"]
    assert feed.heartbeat() == head(4, 0)
    assert feed.end_of_session() == head(4, 0xFFFF)


def test_packet_holds_as_many_messages_as_fit():
    feed = Feed("S1")
    feed.messages += [bytes(36)] * 100
    packets = list(feed.packets())
    assert [len(packet) for packet in packets] == [20 + 38 * 38, 20 + 38 * 38, 20 + 24 * 38]
    assert [packet[:20] for packet in packets] == [head(1, 38), head(39, 38), head(77, 24)]


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (request(1, 1), head(1, 1) + b"\0\1a"),
        (request(2, 2), head(2, 2) + b"\0\1b\0\1c"),
        (request(3, 60_000), head(3, 1) + b"\0\1c"),  # Not more than was sent.
        (request(4, 1), None),
        (request(0, 1), None),
        (request(1, 0), None),
        (request(1, 1, "S2"), None),
        (request(1, 1)[:-1], None),
        (b"", None),
        (bytes(20), None),
    ],
)
def test_request_is_answered_with_what_was_sent(asked, answer):
    feed = Feed("S1")
    feed.messages += [b"a", b"b", b"c"]
    list(feed.packets())
    feed.messages.append(b"not sent yet")
    assert feed.answer(asked) == answer


def test_answer_to_a_request_fits_one_packet():
    feed = Feed("S1")
    feed.messages += [bytes(36)] * 100
    list(feed.packets())
    assert feed.answer(request(51, 50))[:20] == head(51, 38)


def sent(line, count=10_000):
    return [item for number in range(count) for item in line.carry(b"%d" % number)]


def test_clean_line_carries_every_packet_after_its_delay():
    assert sent(Line(1, delay_ns=7), 3) == [(7, b"0"), (7, b"1"), (7, b"2")]


def test_line_loses_duplicates_and_reorders_as_often_as_it_should():
    line = Line(1, loss_ppm=100_000)
    assert 8_700 < len(sent(line)) < 9_300
    assert line.lost_count == 10_000 - len(sent(Line(1, loss_ppm=100_000)))
    line = Line(1, duplicate_ppm=100_000)
    out = [int(data) for _, data in sent(line)]
    assert len(out) == 10_000 + line.duplicate_count
    assert 700 < line.duplicate_count < 1_300
    assert out == sorted(out)
    line = Line(1, reorder_ppm=100_000)
    out = [int(data) for _, data in sent(line) + line.release()]
    assert sorted(out) == list(range(10_000))
    swapped = sum(later < earlier for earlier, later in pairwise(out))
    assert swapped == line.reordered_count
    assert 700 < swapped < 1_300


def test_two_lines_of_different_seeds_lose_different_packets():
    kept = [{data for _, data in sent(Line(seed, loss_ppm=100_000))} for seed in ("A", "B")]
    assert 9_850 < len(kept[0] | kept[1]) < 9_950
    assert kept[0] == {data for _, data in sent(Line("A", loss_ppm=100_000))}


def test_jitter_is_added_to_the_delay():
    delays = [delay for delay, _ in sent(Line(1, delay_ns=100, jitter_ns=10), 1_000)]
    assert set(delays) == set(range(100, 111))


def test_packet_that_waits_for_the_next_is_released_when_none_comes():
    line = Line(1, reorder_ppm=1_000_000)
    assert line.carry(b"x") == []
    assert line.release() == [(0, b"x")]
    assert line.release() == []
