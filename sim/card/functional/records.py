"""The feed path's memory: records, the arrays of them, and what to find an array by.

Everything is an integer in an array that was made before. What is handed from function to function
has 64 bits: every other width would compile each of them once more. Numbers of 64 bits that the
wire has without a sign keep their bits; where MoldUDP64's are compared they are *ordered* numbers,
which are those of the wire less 2**63. Index 0 of levels is no level, so that an entry of the order
map which is all zero is free.
"""

from typing import Any, NamedTuple

import numpy as np

from protocol import ring
from protocol.emit.numpy_dtype import numbers
from sw.jit import array_at, inlined

NONE = 0
FEED_LINES = 2

HELD_PACKETS_MAX = 64
"""Packets that can wait ahead of a gap."""

LOST_RANGES_MAX = 64
"""Lost ranges that are remembered, to tell a packet that is too late from a duplicate."""

PAYLOAD_MAX = 1 << 16
"""No UDP payload is as long."""

QUEUE_MESSAGES_MAX = PAYLOAD_MAX
"""Messages between wire and book; twice as many as one packet can have."""

FREE, KEPT, RETIRED = 0, 1, 2
"""States of a slot for a held packet."""

ORDERED = -(1 << 63)
"""Turns a number of the wire into an ordered one, and back, by exclusive or."""

_I8, _I4 = np.int64, np.int32


def _words(*names: str) -> np.dtype[np.void]:
    return np.dtype([(name, _I8) for name in names])


HEAD = _words(
    # Where the frames of this call stand, and how far they are done.
    *("frames", "frame_next", "frame_is_taken", "queue_count"),
    # Wire: what is taken, and what was counted.
    *("session_is_known", "session_high", "session_low", "expected", "is_ended"),
    *("gap_timeout_ns", "group_a", "group_b", "frames_a", "frames_b"),
    *("held_count", "held_messages", "held_high_water", "held_retired"),
    *("lost_count", "messages_received", "messages_lost"),
    # Book.
    *("order_count", "order_count_max", "level_top", "level_free", "key_top"),
    *("symbol_count", "unlocated_count", "stale_count", "phase", "now_ns"),
    # Repair: index + 1 of the symbol, or 0, and what its book must have got to.
    *("repair_symbol", "repair_from", "repair_reason", "lost_end"),
    *("event_sequence", "event_code"),
    # Market ring: where it stands, and what became of records.
    *("ring_at", "ring_slots", "ring_head", "ring_high_water"),
    *("waiting_first", "waiting_count", "bbo_changes", "bbo_conflated", "skipped"),
)
"""``expected`` is the ordered number of the next message; ``is_ended`` when none can follow. So
many slots of held packets are ``held_retired``: delivered, and still to be read by the book.
``now_ns`` is the card's time of the newest message. ``repair_from``, ``lost_end`` and
``event_sequence`` are ordered numbers: after the newest message that was passed over, after the
newest that was lost, and that of the newest system event."""

FRAME = np.dtype([("offset", _I8), ("size", _I4), ("port", _I4), ("ts_ns", _I8)])
"""A frame without its FCS in a buffer: place, bytes, :class:`~sim.card.port.Port`, card time."""

DELIVERY = _words("address", "size", "sequence", "ts_ns")
"""A message in its place: where it stands, its bytes, number and card time. A size of -1 tells of
a gap, whose messages ``address`` counts."""

HELD = _words("sequence", "ts_ns", "messages", "claimed", "slot", "size")
"""A packet that waits ahead of a gap: its ordered number, whole messages, and those that its header
claims. One that claims none only tells that the gap is there. ``slot`` has its payload."""

LOST = _words("first", "end")
"""Ordered numbers that were given up."""

SYMBOL = _words(
    *("stock", "is_configured", "is_unlocated", "stale_reason", "trading_state", "last_price"),
    *("told_stale", "told_state", "is_waiting", "waiting_skipped", "waiting_sequence"),
    *("waiting_ts_ns", "unused_0", "unused_1", "unused_2", "unused_3"),
)
"""Two cache lines. ``stock`` has its first character in bits 63:56; what was ``told`` is what the
newest record of the symbol has, or will have when there is a slot for it."""

BOOK = _words(
    "first", "room", "count", "best", "told_price", "told_shares", "told_orders", "unused"
)
"""A side of a symbol: where its keys stand, for how many there is room, and how many there are.
``best`` is a level. One cache line."""

LEVEL = _words("shares", "orders")
"""``orders`` is the next free level in one that is not used."""

ORDER = np.dtype(
    [("reference", _I8), ("price", _I8), ("shares", _I8), ("level", _I4), ("book", _I4)]
)
"""An entry of the order map; free where there is no level. Two stand in a cache line."""


BBO, TRADE, STATUS, GAP, REPAIR = map(numbers, ring.MARKET.layouts)


class Core(NamedTuple):
    """The arrays. ``slots`` has the state of each place in ``held_bytes``, ``locates`` index + 1 of
    a symbol, ``keys`` the prices of every book, ``waiting`` the symbols whose newest change has
    no slot in the ring yet."""

    head: Any
    drops: Any
    queue: Any
    held: Any
    slots: Any
    held_bytes: Any
    lost: Any
    symbols: Any
    locates: Any
    waiting: Any
    books: Any
    keys: Any
    levels: Any
    orders: Any


TYPES = Core(
    *(HEAD, np.dtype(_I8), DELIVERY, HELD, np.dtype(_I8), np.dtype(np.uint8), LOST),
    *(SYMBOL, np.dtype(_I8), np.dtype(_I8), BOOK, np.dtype(_I8), LEVEL, ORDER),
)
ARRAYS = len(Core._fields)

# The jitted functions are handed one number, `core`: where the addresses of the arrays stand, and
# after these their lengths.


@inlined
def _at(core: int, index: int) -> Any:
    return array_at(core, 2 * ARRAYS, np.int64)[index]


@inlined
def head_of(core: int) -> Any:
    """Return the head."""
    return array_at(_at(core, 0), 1, HEAD)[0]


@inlined
def drops_of(core: int) -> Any:
    """Return the counters by drop reason."""
    return array_at(_at(core, 1), _at(core, ARRAYS + 1), np.int64)


@inlined
def queue_of(core: int) -> Any:
    """Return the messages between wire and book."""
    return array_at(_at(core, 2), _at(core, ARRAYS + 2), DELIVERY)


@inlined
def held_of(core: int) -> Any:
    """Return the packets that wait."""
    return array_at(_at(core, 3), _at(core, ARRAYS + 3), HELD)


@inlined
def slots_of(core: int) -> Any:
    """Return the states of the slots of held packets."""
    return array_at(_at(core, 4), _at(core, ARRAYS + 4), np.int64)


@inlined
def held_bytes_of(core: int, slot: int) -> int:
    """Return where a held packet's payload stands."""
    return _at(core, 5) + slot * PAYLOAD_MAX


@inlined
def lost_of(core: int) -> Any:
    """Return the lost ranges."""
    return array_at(_at(core, 6), _at(core, ARRAYS + 6), LOST)


@inlined
def symbols_of(core: int) -> Any:
    """Return the symbols."""
    return array_at(_at(core, 7), _at(core, ARRAYS + 7), SYMBOL)


@inlined
def locates_of(core: int) -> Any:
    """Return index + 1 of the symbol of each locate, 0 where there is none."""
    return array_at(_at(core, 8), _at(core, ARRAYS + 8), np.int64)


@inlined
def waiting_of(core: int) -> Any:
    """Return the symbols that wait, from ``waiting_first`` on and round again."""
    return array_at(_at(core, 9), _at(core, ARRAYS + 9), np.int64)


@inlined
def books_of(core: int) -> Any:
    """Return the books: bids and asks of each symbol."""
    return array_at(_at(core, 10), _at(core, ARRAYS + 10), BOOK)


@inlined
def keys_of(core: int) -> Any:
    """Return the keys of all levels."""
    return array_at(_at(core, 11), _at(core, ARRAYS + 11), np.int64)


@inlined
def levels_of(core: int) -> Any:
    """Return the levels."""
    return array_at(_at(core, 12), _at(core, ARRAYS + 12), LEVEL)


@inlined
def orders_of(core: int) -> Any:
    """Return the order map."""
    return array_at(_at(core, 13), _at(core, ARRAYS + 13), ORDER)


ORDER_SIZE, ORDERS_INDEX = ORDER.itemsize, Core._fields.index("orders")


@inlined
def address_of_order(core: int, index: int) -> int:
    """Return where an entry of the order map stands."""
    return _at(core, ORDERS_INDEX) + index * ORDER_SIZE
