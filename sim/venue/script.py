"""What goes wrong at a venue, and when: the failure script of its configuration."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec import UNSET

from protocol.units import NS_PER_SECOND
from sim.venue.settings import Action, StepConfig


class Change(NamedTuple):
    """A step that begins or ends now."""

    step: StepConfig
    begins: bool


class Script:
    """The steps of a script, each of which runs once.

    Parameters
    ----------
    steps : sequence of StepConfig
        In any order; several may run at once.
    start_ns : int
        When the venue started, of a clock that does not run backwards.
    """

    def __init__(self, steps: Sequence[StepConfig], start_ns: int):
        self._start_ns = start_ns
        self._waiting = list(steps)
        self._running: list[tuple[StepConfig, int, int]] = []

    def advance(self, now_ns: int, message_count: int) -> list[Change]:
        """Return the steps that end, then those that begin, at this time and after so many
        messages."""
        changes = []
        for running in list(self._running):
            step, since_ns, since_count = running
            if step.for_s is not UNSET:
                is_over = now_ns - since_ns >= step.for_s * NS_PER_SECOND
            else:
                is_over = message_count - since_count >= _count(step.for_messages)
            if is_over:
                self._running.remove(running)
                changes.append(Change(step, False))
        for step in list(self._waiting):
            if step.at_s is not UNSET:
                is_due = now_ns - self._start_ns >= step.at_s * NS_PER_SECOND
            else:
                is_due = message_count >= _count(step.at_messages)
            if is_due:
                self._waiting.remove(step)
                changes.append(Change(step, True))
                if step.action != "disconnect":
                    self._running.append((step, now_ns, message_count))
        return changes

    def is_on(self, action: Action) -> bool:
        """Whether a step of this kind is running."""
        return any(step.action == action for step, _, _ in self._running)

    def delay_ns(self, *actions: Action) -> int:
        """Return the sum of the delays of all running steps of these kinds."""
        return sum(
            round(step.delay_ms * 1e6)
            for step, _, _ in self._running
            if step.action in actions and step.delay_ms is not UNSET
        )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
