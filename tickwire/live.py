"""`tickwire run --attach`: the host engine on a card that runs freely in another process.

The loop makes no system call while there is something to do: rings and the card's heartbeat are
memory, and the clock is read in user space. With nothing to do for a while it offers its processor
to others, as the card may be waiting for it.
"""

import os
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO

from protocol.units import NS_PER_SECOND
from sw.attach import SILENCE_MAX_NS, AttachedCard
from sw.engine import Engine, EngineConfig
from sw.errors import CardError, CardLostError
from sw.journal import Journal
from tickwire.outcome import Outcome, look_back
from tickwire.serve import Stop, stop_on_signals
from tickwire.session import order_session

_NS_PER_MS = NS_PER_SECOND // 1_000
_IDLE_SPINS = 1_000
_ANSWERS_WITHIN_NS = NS_PER_SECOND
"""How long the answers to the last mass cancel are waited for."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """Which card to trade on, and for how long.

    ``wait_s`` is how long to wait for a card that is not served yet. Trading ends with the feed, or
    after ``seconds``. A card without a heartbeat for ``silence_ms`` is lost. With ``spin`` the host
    never offers its processor to others.
    """

    name: str
    wait_s: float = 0
    seconds: float | None = None
    silence_ms: float = SILENCE_MAX_NS / _NS_PER_MS
    spin: bool = False


def trade(config: EngineConfig, attachment: Attachment, journal_file: BinaryIO) -> Outcome:
    """Trade until the feed ends, the time is over or a signal asks to stop; then cancel all orders.

    When the card is lost, quoting stops, the journal is completed with what the card had published,
    and the outcome says which orders the venue may still have.

    Raises
    ------
    CardError
        If there is no such card, or it is not one for this configuration.
    """
    card = AttachedCard(
        attachment.name,
        wait_ns=int(attachment.wait_s * NS_PER_SECOND),
        silence_max_ns=int(attachment.silence_ms * _NS_PER_MS),
    )
    lost: CardLostError | None = None
    with stop_on_signals() as stop, closing(card):
        if config.memory_size > len(card.memory):
            raise CardError(
                f"CARD_MEMORY_TOO_SMALL: size={len(card.memory)}, needed={config.memory_size}"
            )
        with closing(Engine(card, config, Journal(journal_file))) as engine:
            try:
                engine.start(order_session(), time.monotonic_ns())
                _loop(card, engine, attachment, stop)
                _wind_down(card, engine)
                outcome = look_back(card, engine, config, journal_file, None)
            except CardLostError as error:
                open_count = engine.abandon(time.monotonic_ns())
                lost = CardLostError(f"{error}, open_orders={open_count}")
                outcome = look_back(None, engine, config, journal_file, lost)
    journal_file.flush()
    os.fsync(journal_file.fileno())
    return outcome


def _loop(card: AttachedCard, engine: Engine, attachment: Attachment, stop: Stop) -> None:
    """Trade. Each round takes what stands in the rings and looks for the card's heartbeat."""
    clock = time.monotonic_ns
    end_ns = None
    if attachment.seconds is not None:
        end_ns = clock() + int(attachment.seconds * NS_PER_SECOND)
    idle = 0
    while not (engine.feed.ended or stop.asked):
        now_ns = clock()
        if end_ns is not None and now_ns >= end_ns:
            return
        idle = 0 if engine.step(now_ns) else idle + 1
        card.check(now_ns)
        if idle > _IDLE_SPINS and not attachment.spin:
            os.sched_yield()


def _wind_down(card: AttachedCard, engine: Engine) -> None:
    """Cancel every order, and wait for the answers."""
    end_ns = time.monotonic_ns() + _ANSWERS_WITHIN_NS
    asked = False
    for rounds in count():
        now_ns = time.monotonic_ns()
        asked = asked or engine.stop(now_ns)
        engine.step(now_ns)
        card.check(now_ns)
        if (asked and not engine.oms.open_count) or now_ns > end_ns:
            return
        if rounds > _IDLE_SPINS:
            os.sched_yield()
