"""Host memory behind the card's bus, as slow and as uneven as a bench wants it."""

import random
from collections import deque
from dataclasses import dataclass

from hw.rtl.ring.rings import PARAMS

_WORD = PARAMS.word_size


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast the memory is.

    ``ready`` is the chance, of 1, that a word or a question is taken in a cycle; ``delay_min`` and
    ``delay_max`` are the cycles until something taken is done, one after the other.
    """

    ready: float = 1.0
    delay_min: int = 1
    delay_max: int = 1


class HostMemory:
    """Keeps the ordering rule of :mod:`hw.rtl.ring.bus`, and nothing beyond it.

    Call :meth:`drive` for what the memory says in a cycle, then :meth:`sample` with what the card
    said in it.

    Parameters
    ----------
    memory : memoryview
        The bytes, by address.
    rng : random.Random
        Where chance comes from.
    pace : Pace
        How fast it is.

    Attributes
    ----------
    writes, reads : int
        Words written; bursts asked for.
    log : list of (int, int)
        Cycle and address of each word, when it became visible.
    """

    def __init__(self, memory: memoryview, rng: random.Random, pace: Pace):
        self.memory = memory
        self.pace = pace
        self.writes = self.reads = 0
        self.log: list[tuple[int, int]] = []
        self._rng = rng
        self._cycle = 0
        self._write_ready = self._read_ready = False
        self._to_write: deque[tuple[int, int, int, int, bool]] = deque()
        self._to_read: deque[tuple[int, int, int]] = deque()
        self._write_due = self._read_due = 0
        self.done = False
        self.beat: tuple[int, bool] | None = None

    def reset(self) -> None:
        """Forget what is under way: the card was reset."""
        self._to_write.clear()
        self._to_read.clear()

    def drive(self) -> tuple[bool, bool, bool, tuple[int, bool] | None]:
        """Return write ready, read ready, whether a burst is done, and a word with its last."""
        self._cycle += 1
        self._write_ready = self._rng.random() < self.pace.ready
        self._read_ready = self._rng.random() < self.pace.ready
        self.done, self.beat = False, None
        if self._to_write and self._to_write[0][0] <= self._cycle:
            _, address, data, enable, last = self._to_write.popleft()
            for lane in range(_WORD):
                if enable >> lane & 1:
                    self.memory[address + lane] = data >> 8 * lane & 0xFF
            self.writes += 1
            self.log.append((self._cycle, address))
            self.done = last
        if self._to_read and self._to_read[0][0] <= self._cycle:
            _, address, left = self._to_read.popleft()
            data = int.from_bytes(self.memory[address : address + _WORD], "little")
            self.beat = data, left == 1
            if left > 1:
                self._read_due = max(self._read_due, self._cycle + 1)
                later = self._cycle + self._rng.randint(1, self.pace.delay_min)
                self._to_read.appendleft((later, address + _WORD, left - 1))
        return self._write_ready, self._read_ready, self.done, self.beat

    def sample(
        self, beat: tuple[int, int, int, bool] | None, ask: tuple[int, int] | None
    ) -> tuple[bool, bool]:
        """Take a write beat (address, data, enable, last) and a question (address, length).

        Either is None when it is not valid. Returns which of them were taken.
        """
        took_beat = beat is not None and self._write_ready
        took_ask = ask is not None and self._read_ready
        if took_beat and beat is not None:
            self._write_due = max(self._write_due + 1, self._cycle + self._delay())
            self._to_write.append((self._write_due, *beat))
        if took_ask and ask is not None:
            self._read_due = max(self._read_due + 1, self._cycle + self._delay())
            self._to_read.append((self._read_due, *ask))
            self.reads += 1
        return took_beat, took_ask

    def _delay(self) -> int:
        return self._rng.randint(self.pace.delay_min, self.pace.delay_max)
