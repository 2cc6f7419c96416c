"""Book repair: the host empties a symbol's book, puts its orders in anew and lets it go live.

One symbol is under repair at a time. Its messages are passed over meanwhile, and what the lowest
number is that the host must have got to follows from them: the one after the last message that was
passed over or lost.
"""

from typing import Any

import numpy as np

from protocol.reasons import StaleReason
from sim.card.functional import market
from sim.card.functional.book import SIDES, add, delete, empty
from sim.card.functional.feed import mark_stale, publish_both, take_event
from sim.card.functional.records import ORDERED, head_of, locates_of, symbols_of
from sw.jit import inlined, jit

_SOUND, _GAP = int(StaleReason.NONE), int(StaleReason.GAP)
_UNDER_REPAIR = int(StaleReason.UNDER_REPAIR)


@inlined
def _is_configured(core: int, index: int) -> bool:
    return index < head_of(core)["symbol_count"] and symbols_of(core)[index]["is_configured"] != 0


@jit
def clear(core: int, index: int, locate: int) -> None:
    """Empty a symbol's book and pass over its messages from now on.

    Another symbol that was under repair stays stale, and its messages are taken again.
    """
    if not _is_configured(core, index):
        return
    head, symbol = head_of(core), symbols_of(core)[index]
    if locate != 0:
        locates_of(core)[locate] = index + 1
        if symbol["is_unlocated"]:
            symbol["is_unlocated"] = 0
            head["unlocated_count"] -= 1
    empty(core, index)
    head["repair_symbol"] = index + 1
    head["repair_from"] = head["expected"]
    head["repair_reason"] = _SOUND
    mark_stale(core, index, _UNDER_REPAIR)
    publish_both(core, index, head["expected"] ^ ORDERED, 0)
    _answer(core, index, _GAP)


@jit
def put(core: int, index: int, reference: int, shares: int, price: int, side: int) -> None:
    """Put an order into the book under repair; ``side`` 0 or 1 as the book has them, else none."""
    head = head_of(core)
    if head["repair_symbol"] != index + 1:
        return
    reason: Any = np.int64(StaleReason.INVALID_ORDER)
    if 0 <= side < SIDES:
        reason, _ = add(core, SIDES * index + side, reference, shares, price)
    _keep(head, reason)


@jit
def take(core: int, index: int, reference: int) -> None:
    """Take an order off the book under repair."""
    head = head_of(core)
    if head["repair_symbol"] == index + 1:
        reason, _ = delete(core, index, reference)
        _keep(head, reason)


@jit
def _keep(head: Any, reason: int) -> None:
    if head["repair_reason"] == _SOUND:
        head["repair_reason"] = reason


@jit
def go_live(core: int, index: int, sequence: int, state: int, event: int) -> None:
    """End the repair, if the book is that before the message of an ordered number."""
    if not _is_configured(core, index):
        return
    head, symbol = head_of(core), symbols_of(core)[index]
    if head["repair_symbol"] != index + 1:
        _answer(core, index, symbol["stale_reason"])
        return
    if head["repair_reason"] != _SOUND:
        _answer(core, index, head["repair_reason"])
        return
    if sequence < max(head["repair_from"], head["lost_end"]) or sequence > head["expected"]:
        _answer(core, index, _GAP)
        return
    head["repair_symbol"] = 0
    head["stale_count"] -= 1
    symbol["stale_reason"] = _SOUND
    # An event at or behind the number named is newer than what the host knows of.
    if event != 0 and event != head["event_code"] and head["event_sequence"] < sequence:
        take_event(core, event, sequence ^ ORDERED, 0)
    if state != 0:
        symbol["trading_state"] = state
    publish_both(core, index, sequence ^ ORDERED, 0)
    _answer(core, index, symbol["stale_reason"])


@jit
def _answer(core: int, index: int, reason: int) -> None:
    head = head_of(core)
    lowest = max(head["repair_from"], head["lost_end"])
    market.put_repair(core, index, lowest ^ ORDERED, head["expected"] ^ ORDERED, reason)
