"""`tickwire card serve`: a card that runs freely in this process, for hosts of others."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

from protocol import registers
from protocol.units import NS_PER_SECOND
from sim.card.served import CardServer
from sw.aperture import Aperture, create
from tickwire.capture import InputError
from tickwire.cards import MAKE_CARD, CardKind, make_verilated
from tickwire.wire import Exchange, open_file

_UNATTACHED_PAUSE_S = 0.001
"""What a card without a host waits between two looks, so that it does not take a processor."""


@dataclass(slots=True)
class Stop:
    """Whether the process was asked to end."""

    asked: bool = field(default=False)


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Take SIGINT and SIGTERM as a wish to end, and put the handlers back afterwards."""
    stop = Stop()

    def ask(number: int, frame: FrameType | None) -> None:
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(
    name: str,
    path: Path,
    kind: CardKind,
    symbol_count: int,
    memory_size: int,
    speed: float,
    pause_max_s: float,
    once: bool,
) -> None:
    """Serve a card until SIGINT or SIGTERM, or with ``once`` until its first host is gone.

    Raises
    ------
    InputError
        If the file cannot be played, or there can be no such card.
    AttachError
        If a card of this name is being served.
    """
    if not 0 < symbol_count <= registers.SYMBOLS_MAX:
        raise InputError("--symbols", f"must be 1 to {registers.SYMBOLS_MAX}, not {symbol_count}")
    if not speed > 0:
        raise InputError("--speed", f"must be more than 0, not {speed}")
    exchange = Exchange(
        open_file(path),
        speed,
        int(pause_max_s * NS_PER_SECOND),
        lambda error: _say(name, str(error)),
    )
    place, replaced = create(name, memory_size, kind)
    if replaced:
        _say(name, "takes the place of one that was killed")
    try:
        serving = _Serving(place, kind, symbol_count, exchange, once)
    except BaseException:
        place.unlink()
        raise
    with stop_on_signals() as stop, closing(serving):
        size = f"{symbol_count} symbols, {memory_size:,} bytes of memory"
        _say(name, f"{kind}, {size}, process {os.getpid()}")
        serving.run(stop)
    _say(name, "ended")


class _Serving:
    """A card, its server and its wires, one after the other and round again."""

    def __init__(
        self, place: Aperture, kind: CardKind, symbol_count: int, exchange: Exchange, once: bool
    ):
        self._name = place.name
        self._exchange = exchange
        self._once = once
        self._is_over = False
        make = MAKE_CARD[kind]
        if kind is CardKind.VERILATED:
            make = partial(make_verilated, on_progress=self._heartbeat)
        self._card = make(place.memory, symbol_count, exchange.take)
        self._server = CardServer(
            place,
            self._card,
            self._on_attach,
            self._on_release,
            lambda reason: _say(self._name, f"cannot do what the host asked: {reason}"),
        )

    def _heartbeat(self) -> None:
        self._server.heartbeat()

    def run(self, stop: Stop) -> None:
        while not (stop.asked or self._is_over):
            is_busy = self._server.poll()
            if self._server.host_pid is None:
                time.sleep(_UNATTACHED_PAUSE_S)
            elif not self._exchange.step(self._card, time.monotonic_ns()) and not is_busy:
                os.sched_yield()

    def close(self) -> None:
        self._card.close()
        self._server.close()

    def _on_attach(self, pid: int) -> None:
        _say(self._name, f"host {pid} attached")

    def _on_release(self, pid: int, detached: bool) -> None:
        canceled = self._exchange.close(time.monotonic_ns())
        how = "detached" if detached else "died: kill switch set"
        late = f"packets at most {1_000 * self._exchange.late_max_ns / NS_PER_SECOND:.1f} ms late"
        _say(self._name, f"host {pid} {how}, {canceled} orders canceled, {late}")
        self._is_over = self._once


def _say(name: str, what: str) -> None:
    print(f"card {name}: {what}", flush=True)
