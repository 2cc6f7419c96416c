"""The matching engine's records: orders, levels, books, requests in and events out.

Everything is an integer in an array that was made before. What is handed from function to function
has 64 bits: every other width would compile each of them once more. Index 0 of an array is no
order, no level and no node, so memory that is all zero is an engine without orders.
"""

from enum import IntEnum, unique
from typing import Any, NamedTuple

import numpy as np

from sw.jit import array_at, jit, prefetch

NONE = 0

BUYS, SELLS = 0, 1
CONTINUOUS, OPENING, CLOSING = 0, 1, 2
"""Sessions: orders for a cross stand in books of their own until it takes place."""
SESSIONS = 3
LOCATES = 1 << 16

HIDDEN, POST_ONLY, RECORDED = 1, 2, 4
"""Bits of ``flags``; a recorded order is one of a tape that is replayed."""

INHERIT = -1
"""In a replacement: as the original order had it."""


@unique
class State(IntEnum):
    """Trading state of a symbol."""

    TRADING = 0
    QUOTING = 1
    """Orders are taken and stand, and wait for the cross."""
    PAUSED = 2
    """As QUOTING, after a limit state. [Nasdaq Equity 4, Rule 4120(a)(12)]"""
    HALTED = 3
    """No order is taken."""
    CLOSED = 4


@unique
class Op(IntEnum):
    """What a request asks for."""

    ENTER = 0
    CANCEL = 1
    REPLACE = 2
    MODIFY = 3
    MASS_CANCEL = 4
    STATE = 5
    BANDS = 6
    CROSS = 7
    TAPE_ADD = 8
    TAPE_EXECUTE = 9
    TAPE_REDUCE = 10
    TAPE_REPLACE = 11


@unique
class Kind(IntEnum):
    """What an event tells."""

    ACCEPTED = 0
    ADDED = 1
    """An order, or what is left of it, came onto the displayed book."""
    EXECUTED = 2
    CANCELED = 3
    REPLACED = 4
    REJECTED = 5
    REFRESHED = 6
    """An order's next part was displayed, under a new reference."""
    SELF_MATCHED = 7
    MODIFIED = 8
    REPRICED = 9
    CROSS_EXECUTED = 10
    """One side of an execution in a cross."""
    CROSSED = 11
    STATE = 12
    FILLED = 13
    """One side of an execution with a recorded order, on a tape that does not change."""


_I8, _I4, _I1 = np.int64, np.int32, np.int8

ORDER = np.dtype(
    [
        *((name, _I8) for name in ("order_id", "reference", "price", "leaves_qty", "shown_qty")),
        *((name, _I8) for name in ("previous", "next", "level")),
        *((name, _I8) for name in ("side", "time_in_force", "flags", "self_match", "participant")),
        *((name, _I4) for name in ("cum_qty", "max_floor", "min_qty", "taken_qty")),
        ("unused", _I8),
    ]
)
"""Two cache lines, and the first has what matching needs. ``shown_qty`` of ``leaves_qty`` shares
are displayed; ``cum_qty`` counts for the whole chain of replaces; of a recorded order ``taken_qty``
shares have traded with others than the tape says. An order that does not rest has its book in
``previous``."""

LEVEL = np.dtype(
    [
        (name, _I8)
        for name in (
            *("price", "book", "leaf", "lower", "higher", "shown_orders", "shown_qty"),
            *("first_shown", "last_shown", "first_hidden", "last_hidden", "unused"),
        )
    ]
)
"""Orders of one price in two queues. ``leaf`` is its node; levels are linked by price."""

BOOK = np.dtype([(name, _I8) for name in ("root", "lowest", "highest", "shown_levels")])

SYMBOL = np.dtype([(name, _I8) for name in ("state", "lower", "upper", "last_price")])
"""``lower`` and ``upper`` are the price bands, 0 where there is none."""

ENTRY = np.dtype([("key", _I8), ("slot", _I8)])

REQUEST = np.dtype(
    [
        (name, _I8)
        for name in (
            *("op", "order_id", "orig_id", "locate", "side", "qty", "price", "time_in_force"),
            *("flags", "min_qty", "max_floor", "participant", "self_match", "session", "value"),
        )
    ]
)
"""``value`` is a state, or the reason of a mass cancel. A mass cancel of participant 0 is
everybody's, of locate 0 every symbol's. A cancel's ``qty`` is the intended size. Bands stand in
``price`` (upper) and ``qty`` (lower); a cross has its shares in ``qty``."""

EVENT = np.dtype(
    [
        *((name, _I8) for name in ("order_id", "other_id", "reference", "other_reference")),
        *((name, _I8) for name in ("match_number", "level_qty")),
        *(
            (name, _I4)
            for name in (
                *("qty", "price", "leaves_qty", "shown_qty", "shown_left", "level_orders"),
                *("locate", "participant", "other_participant", "prevented_qty"),
            )
        ),
        *((name, _I1) for name in ("kind", "reason", "side", "time_in_force")),
        ("unused", _I4),
    ]
)
"""``reference`` is 0 where nothing of the order is displayed. ``shown_qty`` displayed shares came
or left by the event, ``shown_left`` are still there; ``level_qty`` and ``level_orders`` are what is
displayed at the order's price after it."""

HEAD = np.dtype(
    [
        (name, _I8)
        for name in (
            *("event_count", "reference", "match_number", "order_count", "tape_count"),
            *("locate_max", "pending", "ignored_count", "replays"),
            *("order_top", "order_free", "level_top", "level_free", "node_top", "node_free"),
        )
    ]
)
"""``top`` is the last index ever used, ``free`` the first of a chain of those given back."""

DIGIT_BITS = 5
FANOUT = 1 << DIGIT_BITS
SHIFT_MAX = 30
NODES_A_LEVEL = SHIFT_MAX // DIGIT_BITS + 1
MASK, PARENT = FANOUT, FANOUT + 1
NODE_SIZE = FANOUT + 2
"""Numbers of a trie's node: its children, which of them there are, and where it hangs."""


class Core(NamedTuple):
    """The arrays. ``table`` finds an order by its id, ``tape`` a recorded one by its reference."""

    head: Any
    orders: Any
    levels: Any
    books: Any
    symbols: Any
    nodes: Any
    table: Any
    tape: Any
    events: Any
    requests: Any


ARRAYS = len(Core._fields)

# The jitted functions are handed one number, `core`: where the addresses of the arrays stand, and
# after these their lengths. Ten arrays as arguments would cost more than what a function does.


@jit
def _at(core: int, index: int) -> Any:
    return array_at(core, 2 * ARRAYS, np.int64)[index]


@jit
def head_of(core: int) -> Any:
    """Return the head."""
    return array_at(_at(core, 0), 1, HEAD)[0]


@jit
def orders_of(core: int) -> Any:
    """Return the array of orders."""
    return array_at(_at(core, 1), _at(core, ARRAYS + 1), ORDER)


@jit
def order_at(core: int, index: int) -> Any:
    """Return one of orders."""
    return orders_of(core)[index]


@jit
def levels_of(core: int) -> Any:
    """Return the array of levels."""
    return array_at(_at(core, 2), _at(core, ARRAYS + 2), LEVEL)


@jit
def level_at(core: int, index: int) -> Any:
    """Return one of levels."""
    return levels_of(core)[index]


@jit
def book_at(core: int, index: int) -> Any:
    """Return one of books."""
    return array_at(_at(core, 3), _at(core, ARRAYS + 3), BOOK)[index]


@jit
def symbol_at(core: int, index: int) -> Any:
    """Return one of symbols."""
    return array_at(_at(core, 4), _at(core, ARRAYS + 4), SYMBOL)[index]


@jit
def nodes_of(core: int) -> Any:
    """Return the array of nodes."""
    return array_at(_at(core, 5), (_at(core, ARRAYS + 5), NODE_SIZE), np.int64)


@jit
def table_of(core: int) -> Any:
    """Return the array of table."""
    return array_at(_at(core, 6), _at(core, ARRAYS + 6), ENTRY)


@jit
def tape_of(core: int) -> Any:
    """Return the array of tape."""
    return array_at(_at(core, 7), _at(core, ARRAYS + 7), ENTRY)


@jit
def events_of(core: int) -> Any:
    """Return the array of events."""
    return array_at(_at(core, 8), _at(core, ARRAYS + 8), EVENT)


@jit
def event_at(core: int, index: int) -> Any:
    """Return one of events."""
    return events_of(core)[index]


@jit
def requests_of(core: int) -> Any:
    """Return the array of requests."""
    return array_at(_at(core, 9), _at(core, ARRAYS + 9), REQUEST)


@jit
def request_at(core: int, index: int) -> Any:
    """Return one of requests."""
    return requests_of(core)[index]


_ORDER_SIZE, _LEVEL_SIZE, _ENTRY_SIZE = ORDER.itemsize, LEVEL.itemsize, ENTRY.itemsize
_LINE_SIZE = 64


@jit
def fetch_entry(core: int, index: int) -> None:
    """Have an entry of the table fetched."""
    prefetch(_at(core, 6) + index * _ENTRY_SIZE)


@jit
def fetch_order(core: int, index: int) -> None:
    """Have an order fetched."""
    prefetch(_at(core, 1) + index * _ORDER_SIZE)
    prefetch(_at(core, 1) + index * _ORDER_SIZE + _LINE_SIZE)


@jit
def fetch_level(core: int, index: int) -> None:
    """Have a level fetched."""
    prefetch(_at(core, 2) + index * _LEVEL_SIZE)
    prefetch(_at(core, 2) + index * _LEVEL_SIZE + _LINE_SIZE)
