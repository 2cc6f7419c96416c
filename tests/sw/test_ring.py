"""Rings: one writer, one reader, full, empty, wrapped, and in two processes."""

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from protocol.ring import RECORD_SIZE
from sw.card import HostMemory
from sw.errors import RingError
from sw.ring import RingReader, RingWriter, ring_size

SLOTS = 4
BODY = RECORD_SIZE - 8
REPOSITORY = Path(__file__).resolve().parents[2]


def record(number: int) -> bytes:
    """Return a record that says its number; its sequence word is not for it to write."""
    return number.to_bytes(8, "little") * 7 + b"\xff" * 8


class Ends:
    """Both ends of one ring somewhere in memory."""

    def __init__(self, slots: int = SLOTS, base: int = 64):
        self.memory = memoryview(bytearray(base + ring_size(slots) + 64))
        self.writer = RingWriter(self.memory, base, slots)
        self.reader = RingReader(self.memory, base, slots)

    def put(self, number: int) -> bool:
        return self.writer.put(record(number))

    def take(self) -> int | None:
        """Take a record and return its number, after a check that it is whole."""
        offset = self.reader.poll()
        if offset < 0:
            return None
        data = bytes(self.memory[offset : offset + RECORD_SIZE])
        self.reader.release()
        number = int.from_bytes(data[:8], "little")
        assert data[:BODY] == record(number)[:BODY]
        assert int.from_bytes(data[BODY:], "little") == self.reader.tail
        return number


@pytest.fixture
def ends() -> Ends:
    return Ends()


def test_empty_ring_gives_nothing(ends):
    assert ends.reader.poll() == -1
    assert ends.writer.free == SLOTS
    assert (ends.writer.head, ends.writer.last, ends.writer.high_water) == (0, -1, 0)


def test_full_ring_takes_nothing_and_keeps_what_it_has(ends):
    assert [ends.put(number) for number in range(5)] == [True] * 4 + [False]
    assert ends.writer.claim() == -1
    assert ends.writer.free == 0
    assert ends.writer.head == 4
    assert [ends.take() for _ in range(5)] == [0, 1, 2, 3, None]
    assert ends.writer.free == SLOTS


def test_slots_lie_behind_the_control_line_and_wrap(ends):
    offsets = []
    for number in range(6):
        assert ends.put(number)
        offsets.append(ends.writer.last)
        ends.take()
    assert offsets == [128, 192, 256, 320, 128, 192]
    assert ends.memory[:64] == bytes(64)
    assert ends.memory[64:72] == (6).to_bytes(8, "little")
    assert ends.memory[72:128] == bytes(56)
    assert ends.memory[-64:] == bytes(64)


def test_released_slot_is_claimed_again_and_not_before(ends):
    for number in range(SLOTS):
        ends.put(number)
    ends.reader.poll()
    assert not ends.put(4)  # Polled is not yet released.
    ends.reader.release()
    assert ends.put(4)
    assert not ends.put(5)


def test_record_is_there_only_when_its_sequence_is_written(ends):
    offset = ends.writer.claim()
    ends.memory[offset : offset + BODY] = record(7)[:BODY]
    assert ends.reader.poll() == -1
    assert ends.writer.claim() == offset
    ends.writer.publish()
    assert ends.reader.poll() == offset
    assert ends.memory[offset + BODY : offset + RECORD_SIZE] == (1).to_bytes(8, "little")
    assert ends.reader.poll() == offset  # Polling takes nothing.


class Spy:
    """Words of a ring that remember the order in which they are written."""

    def __init__(self, words, written):
        self._words, self._written = words, written

    def __getitem__(self, at):
        return self._words[at]

    def __setitem__(self, at, value):
        self._written.append(("word", at))
        self._words[at] = value

    def release(self):
        self._words.release()


class SpyMemory:
    """Memory that remembers that bytes were written."""

    def __init__(self, memory, written):
        self._memory, self._written = memory, written

    def __setitem__(self, at, value):
        self._written.append(("bytes", at.start, at.stop))
        self._memory[at] = value


def test_sequence_is_the_last_word_written(ends):
    written = []
    ends.writer._words = Spy(ends.writer._words, written)
    ends.writer.memory = SpyMemory(ends.memory, written)
    ends.put(1)
    assert written == [("bytes", 128, 128 + BODY), ("word", (64 + BODY) // 8)]


def test_slot_of_an_earlier_round_is_never_taken_for_new(ends):
    for number in range(3 * SLOTS):
        assert ends.reader.poll() == -1  # Whatever stands there from the last round.
        assert ends.put(number)
        assert ends.take() == number
    assert ends.reader.poll() == -1


def test_high_water_is_the_most_slots_ever_in_use(ends):
    for number in range(3):
        ends.put(number)
    ends.take()
    ends.take()
    ends.put(3)
    assert ends.writer.high_water == 3
    ends.put(4)
    ends.put(5)
    assert ends.writer.high_water == 4


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pace", [0.2, 0.5, 0.8])
def test_nothing_is_lost_or_changed_at_any_pace(seed, pace):
    rng, ends = Random(seed), Ends(slots=8)
    put, taken = 0, []
    for _ in range(2_000):
        if rng.random() < pace:
            was_free = ends.writer.free
            done = ends.put(put)
            assert done == (was_free > 0), f"seed={seed}"
            put += done
        elif (number := ends.take()) is not None:
            taken.append(number)
        assert ends.writer.free == 8 - (put - len(taken)), f"seed={seed}"
    assert taken == list(range(len(taken))), f"seed={seed}"
    assert len(taken) > 300


@pytest.mark.parametrize("end", [RingWriter, RingReader])
@pytest.mark.parametrize("slots", [-4, 0, 1, 3, 6, 1023])
def test_slots_that_are_no_power_of_two_are_refused(end, slots):
    with pytest.raises(RingError, match=f"^RING_SLOTS_NOT_POWER_OF_TWO: slots={slots}$"):
        end(memoryview(bytearray(1 << 17)), 0, slots)


@pytest.mark.parametrize("end", [RingWriter, RingReader])
@pytest.mark.parametrize("base", [4, 65, 128, 1 << 40, -8])
def test_ring_outside_the_memory_or_off_its_words_is_refused(end, base):
    size = ring_size(SLOTS) + 64
    text = f"RING_OUTSIDE_MEMORY: base={base}, slots={SLOTS}, size={size}"
    with pytest.raises(RingError, match=f"^{re.escape(text)}$"):
        end(memoryview(bytearray(size)), base, SLOTS)


def test_ring_takes_its_control_line_and_its_slots():
    assert ring_size(2) == 64 + 2 * 64
    assert Ends(slots=2, base=0).writer.slots == 2
    RingWriter(memoryview(bytearray(192)), 0, 2)


CHILD = """
import os, sys
from multiprocessing import resource_tracker, shared_memory
from sw.ring import RingReader

name, slots, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
block = shared_memory.SharedMemory(name=name)
resource_tracker.unregister(block._name, "shared_memory")  # The parent gives it back.
memory = block.buf
reader = RingReader(memory, 0, slots)
parent, total, taken, idle = os.getppid(), 0, 0, 0
while taken < count and (idle % 1024 or os.getppid() == parent):
    offset = reader.poll()
    if offset < 0:
        idle += 1
        os.sched_yield()
        continue
    number = int.from_bytes(memory[offset : offset + 8], "little")
    if memory[offset : offset + 56] != number.to_bytes(8, "little") * 7 or number != taken:
        sys.exit(f"torn or out of order: number={number}, taken={taken}")
    reader.release()
    taken, total, idle = taken + 1, total + number, 1
print(taken, total)
reader.close()
memory.release()
block.close()
"""


def test_two_processes_share_a_ring():
    slots, count = 8, 2_000
    host = HostMemory(ring_size(slots))
    with host as memory:
        writer = RingWriter(memory, 0, slots)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, host.name, str(slots), str(count)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        put = 0
        while put < count and child.poll() is None:
            put += writer.put(record(put))
            os.sched_yield()
        out, err = child.communicate(timeout=60)
        assert (child.returncode, err) == (0, "")
        assert out.split() == [str(count), str(count * (count - 1) // 2)]
        assert put == count
        assert writer.free <= slots
        writer.close()


def test_many_slots_are_given_back_at_once(ends):
    for number in range(3):
        assert ends.put(number)
    ends.reader.release(2)
    assert (ends.reader.tail, ends.writer.free) == (2, 3)
    assert ends.take() == 2


def test_address_is_where_the_ring_begins_and_keeps_nothing_of_the_memory():
    memory = bytearray(64 + ring_size(SLOTS))
    ends = memoryview(memory)
    reader = RingReader(ends, 64, SLOTS)
    assert reader.address == ctypes.addressof(ctypes.c_char.from_buffer(memory)) + 64
    reader.close()
    ends.release()
    memory.clear()  # It can not while anything exports it.
