"""Rings in host memory: one producer, one consumer, 64-byte slots.

A ring is its control line (see ``protocol.ring.CONTROL``) and then its slots. The producer claims a
slot, fills it and publishes it by writing its sequence number last; the consumer polls for the
number it waits for, reads, and releases by writing the tail. Neither makes a system call, and
neither ever waits for the other.
"""

import ctypes

from protocol.ring import CONTROL, RECORD_SIZE
from sw.errors import RingError

_SEQUENCE_AT = RECORD_SIZE - 8


def ring_size(slots: int) -> int:
    """Return the bytes that a ring takes in memory, its control line included."""
    return CONTROL.size + slots * RECORD_SIZE


class _Ring:
    def __init__(self, memory: memoryview, base: int, slots: int):
        if slots < 2 or slots & (slots - 1):
            raise RingError(f"RING_SLOTS_NOT_POWER_OF_TWO: slots={slots}")
        if base < 0 or base % 8 or base + ring_size(slots) > len(memory):
            raise RingError(f"RING_OUTSIDE_MEMORY: base={base}, slots={slots}, size={len(memory)}")
        self.memory = memory
        self.base = base
        self.slots = slots
        self._first = base + CONTROL.size
        self._words = memory[base : base + ring_size(slots)].cast("Q")

    def _offset(self, count: int) -> int:
        return self._first + (count & (self.slots - 1)) * RECORD_SIZE

    def _sequence_word(self, count: int) -> int:
        return (CONTROL.size + (count & (self.slots - 1)) * RECORD_SIZE + _SEQUENCE_AT) // 8

    @property
    def address(self) -> int:
        """Where the ring stands in this process. It is there until the memory is given back."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory, self.base))

    def close(self) -> None:
        """Let go of the memory."""
        self._words.release()


class RingWriter(_Ring):
    """The producer's end.

    Attributes
    ----------
    head : int
        Records published so far; the last one's sequence number.
    last : int
        Offset in memory of the last one.
    high_water : int
        Most slots ever in use, seen at publication.
    """

    def __init__(self, memory: memoryview, base: int, slots: int):
        super().__init__(memory, base, slots)
        self.head = 0
        self.last = -1
        self.high_water = 0

    @property
    def free(self) -> int:
        """Slots that can be claimed."""
        return self.slots - (self.head - self._words[0])

    def claim(self) -> int:
        """Return the offset in memory of the next slot, or -1 when the ring is full."""
        if self.head - self._words[0] >= self.slots:
            return -1
        return self._offset(self.head)

    def publish(self) -> None:
        """Hand the claimed slot to the consumer. Its last word must be left to this."""
        self._words[self._sequence_word(self.head)] = self.head + 1
        self.last = self._offset(self.head)
        self.head += 1
        self.high_water = max(self.high_water, self.head - self._words[0])

    def put(self, record: bytes) -> bool:
        """Claim, fill and publish in one. Returns whether there was a slot."""
        offset = self.claim()
        if offset < 0:
            return False
        self.memory[offset : offset + _SEQUENCE_AT] = record[:_SEQUENCE_AT]
        self.publish()
        return True


class RingReader(_Ring):
    """The consumer's end.

    Attributes
    ----------
    tail : int
        Records released so far.
    """

    def __init__(self, memory: memoryview, base: int, slots: int):
        super().__init__(memory, base, slots)
        self.tail = 0

    def poll(self) -> int:
        """Return the offset in memory of the next record, or -1 when there is none yet."""
        if self._words[self._sequence_word(self.tail)] != self.tail + 1:
            return -1
        return self._offset(self.tail)

    def release(self, count: int = 1) -> None:
        """Give polled slots back to the producer."""
        self.tail += count
        self._words[0] = self.tail
