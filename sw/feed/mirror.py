"""The mirror's memory, and how market records get into it: jitted functions, no allocation.

A call takes all records that stand in the ring, or as many as it may. It neither waits nor makes a
system call. What is handed from function to function has 64 bits.
"""

from typing import Any, NamedTuple

import numpy as np

from protocol import ring
from protocol.emit.numpy_dtype import numbers
from protocol.market import PHASES
from sw.jit import acquire, array_at, inlined, jit, release

_I8 = np.int64


def _words(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, _I8) for name in names])


QUOTE = _words(
    *("bid_price", "bid_qty", "bid_orders", "ask_price", "ask_qty", "ask_orders"),
    *("ts_feed_ns", "feed_sequence", "stale_reason", "trading_state", "last_price", "phase"),
    *("skipped", "is_changed", "unused_0", "unused_1"),
)
"""A symbol's market: two cache lines. ``is_changed`` since the changed ones were last asked for."""

HEAD = _words(
    *("ring_at", "slots", "tail", "symbol_count"),
    *("record_count", "gap_count", "messages_lost", "changed_count", "ended", "stale_count"),
    *("repair_count", "repair_symbol", "repair_live", "repair_from", "repair_next"),
    "repair_reason",
)
"""The reader's state, what it counted, and the newest REPAIR record."""


class Core(NamedTuple):
    """The arrays. ``changed`` has the indices of the symbols whose quote changed."""

    head: Any
    quotes: Any
    changed: Any


TYPES = Core(HEAD, QUOTE, np.dtype(_I8))
_ARRAYS = len(Core._fields)

_CONTROL_SIZE, _RECORD_SIZE = ring.CONTROL.size, ring.RECORD_SIZE
_TAIL, _SEQUENCE = ring.CONTROL.by_name["tail"].offset, ring.BBO.by_name["sequence"].offset
_BBO_TYPE, _TRADE_TYPE = int(ring.RecordType.BBO), int(ring.RecordType.TRADE)
_STATUS_TYPE, _GAP_TYPE = int(ring.RecordType.STATUS), int(ring.RecordType.GAP)
_REPAIR_TYPE, _LIVE = int(ring.RecordType.REPAIR), int(ring.RepairFlag.LIVE)
_BBO, _TRADE, _STATUS, _GAP, _REPAIR = map(numbers, ring.MARKET.layouts)
_END_OF_MESSAGES = ord("C")
_EVENT = ord("S")

_PHASES = np.full(256, -1, _I8)
for _code, _phase in PHASES.items():
    _PHASES[ord(_code)] = int(_phase)


@inlined
def _at(core: int, index: int) -> Any:
    return array_at(core, 2 * _ARRAYS, np.int64)[index]


@inlined
def head_of(core: int) -> Any:
    """Return the head."""
    return array_at(_at(core, 0), 1, HEAD)[0]


@inlined
def quotes_of(core: int) -> Any:
    """Return the quotes by symbol index."""
    return array_at(_at(core, 1), _at(core, _ARRAYS + 1), QUOTE)


@inlined
def _changed_of(core: int) -> Any:
    return array_at(_at(core, 2), _at(core, _ARRAYS + 2), np.int64)


@jit
def take(core: int, most: int) -> int:
    """Apply the records that stand in the ring, ``most`` of them at the most.

    Returns how many there were; they are still to be given back. If the last one is no record of
    this ring, or of a symbol that is none, the answer is negative: it counts that one too.
    """
    head = head_of(core)
    taken = 0
    while taken < most:
        tail = head["tail"]
        record = head["ring_at"] + _CONTROL_SIZE + (tail & (head["slots"] - 1)) * _RECORD_SIZE
        if acquire(record + _SEQUENCE) != tail + 1:
            return taken
        head["tail"] = tail + 1
        head["record_count"] += 1
        taken += 1
        if not _apply(core, head, record):
            return -taken
    return taken


@jit
def give_back(core: int) -> None:
    """Give the records that were taken back to the card."""
    head = head_of(core)
    release(head["ring_at"] + _TAIL, head["tail"])


@jit
def forget_changed(core: int) -> None:
    """Begin to note anew which quotes change."""
    head, quotes, changed = head_of(core), quotes_of(core), _changed_of(core)
    for place in range(head["changed_count"]):
        quotes[changed[place]]["is_changed"] = 0
    head["changed_count"] = 0


@inlined
def _apply(core: int, head: Any, at: int) -> bool:
    record = array_at(at, 1, _BBO)[0]
    record_type = record["record_type"]
    index: Any = np.int64(record["symbol_index"])
    if record_type == _BBO_TYPE:
        if index >= head["symbol_count"]:
            return False
        _apply_bbo(core, head, record, index)
        return True
    if record_type == _TRADE_TYPE:
        if index >= head["symbol_count"]:
            return False
        quotes_of(core)[index]["last_price"] = array_at(at, 1, _TRADE)[0]["last_price"]
        return True
    if record_type == _STATUS_TYPE:
        status = array_at(at, 1, _STATUS)[0]
        phase = _PHASES[status["status"]]
        if status["message_type"] == _EVENT and phase >= 0:
            head["ended"] = status["status"] == _END_OF_MESSAGES
            quotes = quotes_of(core)
            for symbol in range(head["symbol_count"]):
                quotes[symbol]["phase"] = phase
        return True
    if record_type == _GAP_TYPE:
        head["gap_count"] += 1
        head["messages_lost"] += array_at(at, 1, _GAP)[0]["message_count"]
        return True
    if record_type == _REPAIR_TYPE:
        if index >= head["symbol_count"]:
            return False
        answer = array_at(at, 1, _REPAIR)[0]
        head["repair_count"] += 1
        head["repair_symbol"] = index
        head["repair_live"] = answer["flags"] & _LIVE
        head["repair_from"] = answer["from_sequence"]
        head["repair_next"] = answer["next_sequence"]
        head["repair_reason"] = answer["stale_reason"]
        return True
    return False


@inlined
def _apply_bbo(core: int, head: Any, record: Any, index: int) -> None:
    quote = quotes_of(core)[index]
    if record["stale_reason"] != 0:
        head["stale_count"] += 1
    if quote["stale_reason"] != 0:
        head["stale_count"] -= 1
    quote["bid_price"] = record["bid_price"]
    quote["bid_qty"] = record["bid_qty"]
    quote["bid_orders"] = record["bid_orders"]
    quote["ask_price"] = record["ask_price"]
    quote["ask_qty"] = record["ask_qty"]
    quote["ask_orders"] = record["ask_orders"]
    quote["ts_feed_ns"] = record["ts_feed_ns"]
    quote["feed_sequence"] = record["feed_sequence"]
    quote["stale_reason"] = record["stale_reason"]
    quote["trading_state"] = record["trading_state"]
    quote["skipped"] += np.int64(record["skipped"])
    if not quote["is_changed"]:
        quote["is_changed"] = 1
        _changed_of(core)[head["changed_count"]] = index
        head["changed_count"] += 1
