"""The card's end of an aperture: any simulated card, offered to hosts of other processes."""

import time
from collections.abc import Callable
from typing import Protocol

from protocol import aperture, registers
from protocol.aperture import Holder, Operation, Status
from sw.aperture import Aperture, publish
from sw.card import Card
from sw.errors import HostError

LOOK_INTERVAL_NS = 10_000_000
"""How often it is asked whether the host still lives."""


class ResettableCard(Card, Protocol):
    """A card that can return to its state after power-up."""

    def reset(self) -> None:
        """Return to the state after power-up."""


class CardServer:
    """Answers the host that is attached, and gives heartbeats. Everything happens in :meth:`poll`.

    A host that dies is noticed by the lock that it no longer holds, within
    :data:`LOOK_INTERVAL_NS`: the card's kill switch is set and the card is stopped. One that lives
    but hangs is the business of the card's own HEARTBEAT_TIMEOUT_NS, and is not thrown out: it
    could wake up and write into the memory of the next.

    Parameters
    ----------
    place : Aperture
        Held as its card. Closed by :meth:`close`.
    card : ResettableCard
        On the aperture's memory.
    on_attach : callable
        Called with the host's process when it has attached.
    on_release : callable
        Called with its process, and whether it detached itself; False when it died.
    on_fault : callable
        Takes why the card cannot do what it was asked.
    clock : callable
        Returns monotonic time in ns.

    Attributes
    ----------
    host_pid : int or None
        The host that is attached.
    """

    def __init__(
        self,
        place: Aperture,
        card: ResettableCard,
        on_attach: Callable[[int], None] = lambda pid: None,
        on_release: Callable[[int, bool], None] = lambda pid, detached: None,
        on_fault: Callable[[str], None] = lambda reason: None,
        clock: Callable[[], int] = time.monotonic_ns,
    ):
        self._place = place
        self._words = place.words
        self._card = card
        self._on_attach = on_attach
        self._on_release = on_release
        self._clock = clock
        self._on_fault = on_fault
        self._answered = 0
        self._next_look_ns = 0
        self.host_pid: int | None = None
        self.heartbeat()
        publish(place)

    def heartbeat(self) -> None:
        """Tell the host that the card lives. For long work between two calls of :meth:`poll`."""
        self._words[_HEARTBEAT_TIME] = self._clock()
        self._words[_HEARTBEAT_COUNT] += 1

    def poll(self) -> bool:
        """Give a heartbeat, look after the host, answer its question.

        Returns whether there was a question.
        """
        self.heartbeat()
        if self.host_pid is not None and self._clock() >= self._next_look_ns:
            self._next_look_ns = self._clock() + LOOK_INTERVAL_NS
            if not self._place.is_held(Holder.HOST):
                self._free(detached=False)
        words = self._words
        sequence = words[_REQUEST_SEQUENCE]
        if sequence == self._answered:
            return False
        try:
            status, value = self._do(words[_OPERATION], words[_ADDRESS], words[_VALUE])
        except HostError as error:  # The host's mistake must not end the card.
            self._on_fault(str(error))
            status, value = Status.FAILED, 0
        words[_STATUS] = status
        words[_ANSWER] = value
        words[_RESPONSE_SEQUENCE] = self._answered = sequence
        return True

    def _do(self, operation: int, address: int, value: int) -> tuple[Status, int]:
        if operation == Operation.ATTACH:
            self._attach()
        elif self.host_pid is None:
            return Status.NOT_ATTACHED, 0
        elif operation == Operation.READ:
            return Status.DONE, self._card.read(address)
        elif operation == Operation.WRITE:
            self._card.write(address, value)
        elif operation == Operation.DETACH:
            self._free(detached=True)
        else:
            return Status.UNKNOWN_OPERATION, 0
        return Status.DONE, 0

    def _attach(self) -> None:
        if self.host_pid is not None:  # Another has come before this one's death was noticed.
            self._free(detached=False)
        self._card.reset()
        self._card.memory[:] = bytes(len(self._card.memory))
        self.host_pid = self._place.get(aperture.HOST, "host_pid")
        self._on_attach(self.host_pid)

    def _free(self, detached: bool) -> None:
        """Stop the card and forget its host."""
        self._card.write(registers.KILL.address(), 1)
        self._card.write(registers.CONTROL.address(), 0)
        pid, self.host_pid = self.host_pid, None
        if pid is not None:
            self._on_release(pid, detached)

    def close(self) -> None:
        """Say that the card has ended, and remove the aperture.

        The card must have let go of the memory.
        """
        self._place.set(aperture.HEARTBEAT, "ended", 1)
        self._place.unlink()
        self._place.close()


_HEARTBEAT_COUNT = aperture.word(aperture.HEARTBEAT, "heartbeat_count")
_HEARTBEAT_TIME = aperture.word(aperture.HEARTBEAT, "heartbeat_time_ns")
_OPERATION = aperture.word(aperture.REQUEST, "operation")
_ADDRESS = aperture.word(aperture.REQUEST, "address")
_VALUE = aperture.word(aperture.REQUEST, "value")
_REQUEST_SEQUENCE = aperture.word(aperture.REQUEST, "sequence")
_STATUS = aperture.word(aperture.RESPONSE, "status")
_ANSWER = aperture.word(aperture.RESPONSE, "value")
_RESPONSE_SEQUENCE = aperture.word(aperture.RESPONSE, "sequence")
