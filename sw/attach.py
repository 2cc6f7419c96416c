"""A card in another process, through its aperture: a :class:`sw.card.Card` that can be lost.

Polling the rings makes no system call: they are memory that both processes have mapped. So is
:meth:`AttachedCard.check`. Reading and writing registers waits for the other process.
"""

import os
import time
from collections.abc import Callable

from protocol import aperture
from protocol.aperture import Holder, Operation, Status
from protocol.units import NS_PER_SECOND
from sw.aperture import Aperture, attach
from sw.errors import CardAbsentError, CardError, CardLostError

SILENCE_MAX_NS = 100_000_000
"""How long a card may go without a heartbeat, unless said otherwise."""
LOOK_MAX_NS = 10_000_000
"""What one look at the heartbeat adds to the silence at most: time in which the host itself did not
run tells nothing of the card."""
_SPINS = 1_000
"""Looks for an answer before the processor is offered to others, as the card may need it."""


class AttachedCard:
    """A served card, attached to until :meth:`close`.

    Parameters
    ----------
    name : str
        That it is served under.
    clock : callable
        Returns monotonic time in ns. Asked only while a register is read or written.
    wait_ns : int
        How long to wait for a card that is not served yet.
    silence_max_ns : int
        How long the card may go without a heartbeat.

    Attributes
    ----------
    memory : memoryview
        Host memory, zero when the host has attached.
    card_pid : int
        Process that serves the card.

    Raises
    ------
    CardError
        If there is no such card, it is of another version, or another host is attached to it.
    """

    def __init__(
        self,
        name: str,
        clock: Callable[[], int] = time.monotonic_ns,
        wait_ns: int = 0,
        silence_max_ns: int = SILENCE_MAX_NS,
    ):
        self._clock = clock
        self._silence_max_ns = silence_max_ns
        self._aperture = _wait_for(name, clock, wait_ns)
        self.name = name
        self.memory = self._aperture.memory
        self.card_pid = self._aperture.get(aperture.HEAD, "card_pid")
        self._words = self._aperture.words
        self._heartbeat = -1
        self._looked_ns = clock()
        self._silence_ns = 0
        try:
            # A host that died may have left a question: it is answered first.
            self._sequence = self._words[_REQUEST_SEQUENCE]
            self._await_answer()
            self._ask(Operation.ATTACH)
        except BaseException:
            self._release()
            raise

    @property
    def silence_ns(self) -> int:
        """For how long no heartbeat has been seen, as of the newest :meth:`check`."""
        return self._silence_ns

    def read(self, address: int) -> int:
        """Return a register's 64 bits. An address without a register reads 0.

        Raises :class:`~sw.errors.CardLostError` when the card is lost meanwhile.
        """
        return self._ask(Operation.READ, address)

    def write(self, address: int, value: int) -> None:
        """Write a register. What that causes has been done on return.

        Raises :class:`~sw.errors.CardError` when the card cannot do it, and
        :class:`~sw.errors.CardLostError` when it is lost meanwhile.
        """
        self._ask(Operation.WRITE, address, value)

    def check(self, now_ns: int) -> None:
        """Look for a heartbeat.

        Raises :class:`~sw.errors.CardLostError` when the card has ended, or has not given a
        heartbeat for longer than ``silence_max_ns``. To be called at least every
        :data:`LOOK_MAX_NS`; a longer pause is counted as that.
        """
        heartbeat = self._words[_HEARTBEAT_COUNT]
        if heartbeat != self._heartbeat:
            self._heartbeat, self._silence_ns = heartbeat, 0
        else:
            self._silence_ns += min(now_ns - self._looked_ns, LOOK_MAX_NS)
        self._looked_ns = now_ns
        if self._words[_ENDED]:
            raise CardLostError(f"CARD_ENDED: name={self.name}, pid={self.card_pid}")
        if self._silence_ns > self._silence_max_ns:
            alive = self._aperture.is_held(Holder.CARD)
            raise CardLostError(
                f"CARD_{'SILENT' if alive else 'DIED'}: name={self.name}, pid={self.card_pid}, "
                f"silence_ms={self._silence_ns // 1_000_000}, heartbeats={heartbeat}"
            )

    def close(self) -> None:
        """Detach, if the card is still there, and let go of its memory.

        Views of the memory, such as rings, must have been released.
        """
        try:
            self._ask(Operation.DETACH)
        except CardLostError:
            pass  # Then there is nothing to detach from.
        finally:
            self._release()

    def _release(self) -> None:
        self.memory.release()
        self._aperture.close()

    def _ask(self, operation: Operation, address: int = 0, value: int = 0) -> int:
        words = self._words
        self._sequence += 1
        words[_OPERATION] = operation
        words[_ADDRESS] = address
        words[_VALUE] = value & 0xFFFF_FFFF_FFFF_FFFF
        words[_REQUEST_SEQUENCE] = self._sequence
        self._await_answer()
        status = words[_STATUS]
        if status != Status.DONE:
            raise CardError(
                f"CARD_REFUSES: name={self.name}, operation={operation.name}, "
                f"address=0x{address:x}, status={Status(status).name}"
            )
        return words[_ANSWER]

    def _await_answer(self) -> None:
        spins = 0
        while self._words[_RESPONSE_SEQUENCE] != self._sequence:
            spins += 1
            if spins > _SPINS:
                os.sched_yield()
                self.check(self._clock())


def _wait_for(name: str, clock: Callable[[], int], wait_ns: int) -> Aperture:
    end_ns = clock() + wait_ns
    while True:
        try:
            return attach(name)
        except CardAbsentError:
            if clock() >= end_ns:
                raise
        time.sleep(_RETRY_NS / NS_PER_SECOND)


_RETRY_NS = 20_000_000

_HEARTBEAT_COUNT = aperture.word(aperture.HEARTBEAT, "heartbeat_count")
_ENDED = aperture.word(aperture.HEARTBEAT, "ended")
_OPERATION = aperture.word(aperture.REQUEST, "operation")
_ADDRESS = aperture.word(aperture.REQUEST, "address")
_VALUE = aperture.word(aperture.REQUEST, "value")
_REQUEST_SEQUENCE = aperture.word(aperture.REQUEST, "sequence")
_STATUS = aperture.word(aperture.RESPONSE, "status")
_ANSWER = aperture.word(aperture.RESPONSE, "value")
_RESPONSE_SEQUENCE = aperture.word(aperture.RESPONSE, "sequence")
