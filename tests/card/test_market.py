"""The market ring's writer: conflation, told apart from what is lost."""

import pytest

from protocol import ring
from sim.card.functional import market
from sim.card.functional.path import FeedPath
from sw.ring import RingReader, RingWriter, ring_size

SLOTS = 2


class Writer:
    """The market ring of a feed path without orders, and the slow host's end.

    A quote is taken as symbol, sequence number and time of its cause, and skipped changes; any
    other record as type and sequence number.
    """

    def __init__(self) -> None:
        memory = memoryview(bytearray(ring_size(SLOTS)))
        self.reader = RingReader(memory, 0, SLOTS)
        self._path = FeedPath(4, 1, RingWriter(memory, 0, SLOTS))
        self.counter = self._path.counter

    def change(self, index: int, sequence: int) -> None:
        market.put_bbo(self._path.address, index, sequence, sequence + 100)

    def put(self, sequence: int) -> None:
        market.put_status(self._path.address, 0, sequence, 0, 0, 0)

    def flush(self) -> None:
        market.flush(self._path.address)

    def take(self, most: int = 99) -> list[tuple[int, ...]]:
        found: list[tuple[int, ...]] = []
        while len(found) < most and (offset := self.reader.poll()) >= 0:
            record = bytes(self.reader.memory[offset : offset + ring.RECORD_SIZE])
            self.reader.release()
            values = ring.MARKET.by_code[record[0]].unpack(record)
            if values["record_type"] == ring.RecordType.BBO:
                names = ("symbol_index", "feed_sequence", "ts_feed_ns", "skipped")
                found.append(tuple(values[name] for name in names))
            else:
                found.append((values["record_type"], values["feed_sequence"]))
        return found


@pytest.fixture
def writer() -> Writer:
    return Writer()


def test_changes_with_slots_are_published_one_by_one(writer):
    writer.change(0, 1)
    writer.change(0, 2)
    assert writer.take() == [(0, 1, 101, 0), (0, 2, 102, 0)]
    assert (writer.counter("bbo_changes"), writer.counter("bbo_conflated")) == (2, 0)
    assert writer.counter("ring_high_water") == 2


def test_changes_without_a_slot_become_one_with_the_newest_cause(writer):
    for sequence in range(1, 7):
        writer.change(0, sequence)
    assert writer.take() == [(0, 1, 101, 0), (0, 2, 102, 0)]
    assert writer.take() == []  # Nothing is written before the card has time for it.
    writer.flush()
    assert writer.take() == [(0, 6, 106, 3)]
    assert (writer.counter("bbo_changes"), writer.counter("bbo_conflated")) == (6, 3)


def test_change_that_waited_without_another_was_not_conflated(writer):
    for sequence in (1, 2, 3):
        writer.change(0, sequence)
    writer.take()
    writer.flush()
    assert writer.take() == [(0, 3, 103, 0)]
    assert writer.counter("bbo_conflated") == 0


def test_waiting_symbols_are_written_oldest_first_as_far_as_there_are_slots(writer):
    writer.change(0, 1)
    writer.change(0, 2)
    for index, sequence in ((3, 3), (1, 4), (2, 5), (3, 6)):
        writer.change(index, sequence)
    assert writer.take(1) == [(0, 1, 101, 0)]
    writer.flush()
    assert writer.take() == [(0, 2, 102, 0), (3, 6, 106, 1)]
    writer.flush()
    assert writer.take() == [(1, 4, 104, 0), (2, 5, 105, 0)]
    writer.flush()
    assert writer.take() == []


def test_change_never_overtakes_symbols_that_wait(writer):
    for index in range(4):
        writer.change(index, index + 1)  # 2 and 3 wait.
    writer.take(1)
    writer.change(0, 9)  # One slot is free; 2 was first.
    assert writer.take() == [(1, 2, 102, 0), (2, 3, 103, 0)]
    writer.change(0, 10)
    assert writer.take() == [(3, 4, 104, 0), (0, 10, 110, 1)]


def test_change_that_waits_takes_the_newer_cause_before_it_is_written(writer):
    for sequence in (1, 2, 3):
        writer.change(0, sequence)
    writer.take()
    writer.change(0, 4)  # The record is made from the book, which is already that of 4.
    assert writer.take() == [(0, 4, 104, 1)]
    assert writer.counter("bbo_conflated") == 1


def test_skipped_counts_from_the_record_before(writer):
    for sequence in range(1, 5):
        writer.change(0, sequence)
    writer.take()
    writer.flush()
    assert writer.take() == [(0, 4, 104, 1)]
    writer.change(0, 5)
    assert writer.take() == [(0, 5, 105, 0)]


def test_other_records_without_a_slot_are_counted_and_lost(writer):
    for number in range(3):
        writer.put(number)
    assert writer.counter("skipped") == 1
    assert writer.take() == [(ring.RecordType.STATUS, 0), (ring.RecordType.STATUS, 1)]


def test_other_record_does_not_take_the_slot_of_a_change_that_waits(writer):
    for sequence in (1, 2, 3):
        writer.change(0, sequence)
    writer.take(1)
    writer.put(7)
    assert writer.counter("skipped") == 1
    assert writer.take() == [(0, 2, 102, 0), (0, 3, 103, 0)]
