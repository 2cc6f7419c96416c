"""How long things take: latency distributions, and lines on which nothing overtakes."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from protocol.units import NS_PER_SECOND
from sim.venue.settings import LatencyConfig

_Z99 = 2.3263478740408408
"""99th percentile of the standard normal distribution."""


class Clock(Protocol):
    """What a venue asks for the time."""

    def wall_ns(self) -> int:
        """Return the time, ns since 1970."""

    def monotonic_ns(self) -> int:
        """Return a time that does not run backwards, in ns."""


class SystemClock:
    """The machine's clock."""

    def wall_ns(self) -> int:
        """Return the time, ns since 1970."""
        return time.time_ns()

    def monotonic_ns(self) -> int:
        """Return a time that does not run backwards, in ns."""
        return time.monotonic_ns()


def latencies(config: LatencyConfig, seed: str) -> Callable[[], int]:
    """Return what draws a latency in ns each time it is called."""
    rng, median, spread = Random(seed), config.median_ns, config.spread_ns
    if config.shape == "uniform":
        return lambda: rng.randint(median - spread, median + spread)
    if config.shape == "lognormal":
        sigma = math.log(1 + spread / median) / _Z99
        return lambda: round(median * math.exp(sigma * rng.gauss(0, 1)))
    return lambda: median


class DelayLine:
    """Calls that are made later, in the order in which they were asked for.

    One that is to be made at once, with none before it under way, is made at once. asyncio waits
    in steps of about a millisecond, so a delay is at least what it says and up to that longer.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def call(self, delay_ns: int, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function after a delay."""
        if not delay_ns and not self._waiting:
            function(*arguments)
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_ns / NS_PER_SECOND
        self._waiting.append((due, function, arguments))
        if self._timer is None:
            self._timer = loop.call_at(due, self._run)

    def _run(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        # One that is due earlier than one before it waits for that one.
        while self._waiting and self._waiting[0][0] <= loop.time():
            _, function, arguments = self._waiting.popleft()
            function(*arguments)
        if self._waiting:
            self._timer = loop.call_at(self._waiting[0][0], self._run)

    def flush(self) -> None:
        """Make every call now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            _, function, arguments = self._waiting.popleft()
            function(*arguments)

    def drop(self) -> None:
        """Forget every call: there is nobody any more whom they concern."""
        self._waiting.clear()
        self.flush()
