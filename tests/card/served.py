"""A functional card in another process, for the contract of a card.

The host's side, registers and memory, goes through an aperture as it does with `tickwire card
serve`. The wire's side and the clock go through a pipe, since the tests hold them.
"""

import multiprocessing
import os
from collections.abc import Callable
from itertools import count
from multiprocessing.connection import Connection
from typing import Any

from protocol.units import NS_PER_SECOND
from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sim.card.served import CardServer
from sw.aperture import create
from sw.attach import AttachedCard
from sw.risk import Risk

_NUMBERS = count()
_LET_GO_S = 10


class ServedCard:
    """A host's card, and the wires of the process behind it."""

    def __init__(self, transmit: Callable[[bytes], None], **counts: int):
        self._transmit = transmit
        Risk(1)  # Loads compiled code here and once, not in each of the processes.
        name = f"test.{os.getpid()}.{next(_NUMBERS)}"
        fork = multiprocessing.get_context("fork")
        self._pipe, other = fork.Pipe()
        self._process = fork.Process(
            target=_serve, args=(name, other, self._pipe, counts), daemon=True
        )
        self._process.start()
        other.close()
        self._pipe.recv()
        self._card = AttachedCard(name, silence_max_ns=_LET_GO_S * NS_PER_SECOND)
        self.memory = self._card.memory
        self.read = self._card.read
        self.write = self._card.write

    def receive(self, port: Port, frame: bytes, now_ns: int) -> None:
        self._call("receive", port, frame, now_ns)

    def advance(self, now_ns: int) -> None:
        self._call("advance", now_ns)

    def poll_commands(self, now_ns: int, most: int | None = None) -> int:
        return int(self._call("poll_commands", now_ns, most))

    def reset(self) -> None:
        self._call("reset")

    def _call(self, method: str, *arguments: Any) -> Any:
        self._pipe.send((method, arguments))
        result, frames = self._pipe.recv()
        for frame in frames:
            self._transmit(frame)
        return result

    def close(self) -> None:
        """Detach, and end the other process. The rings must have been closed."""
        self._card.close()
        self._pipe.close()
        self._process.join(_LET_GO_S)
        assert self._process.exitcode == 0


def _serve(name: str, pipe: Connection, host_pipe: Connection, counts: dict[str, int]) -> None:
    host_pipe.close()  # The test's end, so that it can be seen to close.
    place, _ = create(name, 1 << 16, "functional")
    frames: list[bytes] = []
    card = FunctionalCard(place.memory, transmit=frames.append, **counts)
    server = CardServer(place, card)
    pipe.send(None)
    while True:
        is_busy = server.poll()
        if pipe.poll():
            try:
                method, arguments = pipe.recv()
            except EOFError:  # The test has ended.
                break
            result = getattr(card, method)(*arguments)
            pipe.send((result, list(frames)))
            frames.clear()
        elif not is_busy:
            os.sched_yield()
    card.close()
    server.close()
