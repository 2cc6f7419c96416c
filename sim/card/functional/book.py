"""Book stage: orders and price levels of the configured symbols.

Orders are found by hashing with linear probing; a deleted entry leaves no mark behind. Levels are
counted, not queued: the card needs the best price with its shares and number of orders. The prices
of a side stand in one sorted array, the best one last: nearly everything happens near the best
price, so that little is moved and a price is found after a few steps. Any price has its level.

Every operation on an order returns why its symbol became stale, or NONE. A book that is stale is
kept up as far as that goes: nothing is guessed.
"""

from typing import Any

import numpy as np

from protocol.reasons import StaleReason
from sim.card.functional.records import (
    NONE,
    address_of_order,
    books_of,
    head_of,
    keys_of,
    levels_of,
    orders_of,
)
from sw.jit import inlined, jit, prefetch

BIDS, ASKS = 0, 1
SIDES = 2
NO_BOOK = -1

KEYS_MIN = 8
"""Prices for which a side has room when it gets its first one."""

_SLOT_BITS = 31
_SLOT_MASK = (1 << _SLOT_BITS) - 1
"""A key is a price's rank, higher for a better price, and its level below it."""

_PRICE_MAX = 0xFFFF_FFFF
_STEPS_MAX = 8
"""Prices that are looked at one by one before the rest is halved."""

_SOUND = int(StaleReason.NONE)
_UNKNOWN_REFERENCE = int(StaleReason.UNKNOWN_REFERENCE)
_DUPLICATE_REFERENCE = int(StaleReason.DUPLICATE_REFERENCE)
_OVERFILL = int(StaleReason.OVERFILL)
_LOCATE_MISMATCH = int(StaleReason.LOCATE_MISMATCH)
_INVALID_ORDER = int(StaleReason.INVALID_ORDER)
_ORDER_MAP_FULL = int(StaleReason.ORDER_MAP_FULL)


# Orders.


@inlined
def home(orders: Any, reference: int) -> int:
    """Return where the search for a reference begins."""
    # Multiplicative, in 31 bits so that nothing overflows in plain Python either.
    mixed = (reference ^ (reference >> 31)) & 0x7FFF_FFFF
    return ((mixed * 0x61C8_8647) >> 15) & (len(orders) - 1)


@inlined
def find(orders: Any, reference: int) -> int:
    """Return the entry of a reference, or the free one where it would stand."""
    mask = len(orders) - 1
    at = home(orders, reference)
    while orders[at]["level"] != NONE and orders[at]["reference"] != reference:
        at = (at + 1) & mask
    return at


@inlined
def fetch(core: int, reference: int) -> None:
    """Have an order fetched that will be looked for."""
    prefetch(address_of_order(core, home(orders_of(core), reference)))


@inlined
def _copy(target: Any, source: Any) -> None:
    target["reference"] = source["reference"]
    target["price"] = source["price"]
    target["shares"] = source["shares"]
    target["level"] = source["level"]
    target["book"] = source["book"]


@inlined
def _erase(orders: Any, hole: int) -> None:
    """Free an entry; those behind it move up, so that no search ends early."""
    mask = len(orders) - 1
    at = (hole + 1) & mask
    while orders[at]["level"] != NONE:
        wanted = home(orders, orders[at]["reference"])
        if ((at - wanted) & mask) >= ((at - hole) & mask):
            _copy(orders[hole], orders[at])
            hole = at
        at = (at + 1) & mask
    orders[hole]["level"] = NONE


@jit
def rehash(old: Any, new: Any) -> None:
    """Put the orders of a map into another one, which is empty."""
    for index in range(len(old)):
        if old[index]["level"] != NONE:
            _copy(new[find(new, old[index]["reference"])], old[index])


@jit
def has_room(core: int, messages: int) -> bool:
    """Whether every array has room for what so many messages can add."""
    head = head_of(core)
    return (
        2 * (head["order_count"] + messages) <= len(orders_of(core))
        and head["level_top"] + messages < len(levels_of(core))
        and keys_needed(head["key_top"], messages) <= len(keys_of(core))
    )


@jit
def keys_needed(key_top: int, messages: int) -> int:
    """Return a number of keys that is enough for so many messages.

    A side without room moves to twice as much of it. At the worst all do, and go on growing.
    """
    return 5 * key_top + 4 * KEYS_MIN * messages


# Levels.


@inlined
def _rank(book: int, price: int) -> int:
    return price if book & 1 == BIDS else _PRICE_MAX - price


@inlined
def _price(book: int, key: int) -> int:
    rank = key >> _SLOT_BITS
    return rank if book & 1 == BIDS else _PRICE_MAX - rank


@inlined
def _place(keys: Any, row: Any, rank: int) -> int:
    """Return where the best price stands that is not better than a rank; one before all if none."""
    first = row["first"]
    at = first + row["count"] - 1
    near = max(at - _STEPS_MAX, first - 1)
    while at > near:
        if keys[at] >> _SLOT_BITS <= rank:
            return at
        at -= 1
    low, high = first - 1, at + 1  # What is before `low + 1` is low enough, `high` is not.
    while high - low > 1:
        middle = (low + high) >> 1
        if keys[middle] >> _SLOT_BITS <= rank:
            low = middle
        else:
            high = middle
    return low


@jit
def _make_room(head: Any, keys: Any, row: Any) -> None:
    """Move a side's prices to where there is room for twice as many."""
    first, count = row["first"], row["count"]
    row["room"] = max(2 * count, KEYS_MIN)
    row["first"] = head["key_top"]
    head["key_top"] += row["room"]
    for index in range(count):
        keys[row["first"] + index] = keys[first + index]


@inlined
def _new_level(head: Any, levels: Any) -> int:
    slot = head["level_free"]
    if slot != NONE:
        head["level_free"] = levels[slot]["orders"]
    else:
        head["level_top"] += 1
        slot = head["level_top"]
    levels[slot]["shares"] = 0
    levels[slot]["orders"] = 0
    return slot


@inlined
def _level_of_price(core: int, head: Any, levels: Any, book: int, price: int) -> int:
    """Return the level of a price, made if it was not there."""
    keys, row = keys_of(core), books_of(core)[book]
    rank = _rank(book, price)
    at = _place(keys, row, rank)
    if at >= row["first"] and keys[at] >> _SLOT_BITS == rank:
        return keys[at] & _SLOT_MASK
    if row["count"] == row["room"]:
        behind = at - row["first"]
        _make_room(head, keys, row)
        at = row["first"] + behind
    slot = _new_level(head, levels)
    top = row["first"] + row["count"]
    for index in range(top, at + 1, -1):
        keys[index] = keys[index - 1]
    keys[at + 1] = rank << _SLOT_BITS | slot
    row["count"] += 1
    if at + 1 == top:
        row["best"] = slot
    return slot


@inlined
def _drop_level(core: int, head: Any, levels: Any, book: int, price: int, slot: int) -> None:
    """Take away a level without orders."""
    keys, row = keys_of(core), books_of(core)[book]
    at = _place(keys, row, _rank(book, price))
    row["count"] -= 1
    top = row["first"] + row["count"]
    for index in range(at, top):
        keys[index] = keys[index + 1]
    row["best"] = keys[top - 1] & _SLOT_MASK if row["count"] else NONE
    levels[slot]["orders"] = head["level_free"]
    head["level_free"] = slot


@inlined
def best(core: int, book: int) -> Any:
    """Return price, shares and orders of the best level, all 0 for an empty side."""
    row = books_of(core)[book]
    if row["count"] == 0:
        return 0, 0, 0
    level = levels_of(core)[row["best"]]
    key = keys_of(core)[row["first"] + row["count"] - 1]
    return _price(book, key), level["shares"], level["orders"]


# Operations. They return the reason, and the book if its best level may have changed.


@inlined
def add(core: int, book: int, reference: int, shares: int, price: int) -> Any:
    """Put an order on a book."""
    head, orders = head_of(core), orders_of(core)
    at = find(orders, reference)
    if orders[at]["level"] != NONE:
        return _DUPLICATE_REFERENCE, NO_BOOK
    if shares == 0:
        return _INVALID_ORDER, NO_BOOK
    if head["order_count"] >= head["order_count_max"]:
        return _ORDER_MAP_FULL, NO_BOOK
    levels = levels_of(core)
    slot = _level_of_price(core, head, levels, book, price)
    levels[slot]["shares"] += shares
    levels[slot]["orders"] += 1
    order = orders[at]
    order["reference"] = reference
    order["price"] = price
    order["shares"] = shares
    order["level"] = slot
    order["book"] = book
    head["order_count"] += 1
    return _SOUND, book if slot == books_of(core)[book]["best"] else NO_BOOK


@jit
def is_known(core: int, reference: int) -> bool:
    """Whether there is an order under a reference."""
    orders = orders_of(core)
    return orders[find(orders, reference)]["level"] != NONE


@inlined
def reduce(core: int, index: int, reference: int, shares: int) -> Any:
    """Take shares off an order; at zero it leaves the book. [ITCH 5.0: 1.4]"""
    orders = orders_of(core)
    at = find(orders, reference)
    order = orders[at]
    if order["level"] == NONE:
        return _UNKNOWN_REFERENCE, NO_BOOK
    if order["book"] // SIDES != index:
        return _LOCATE_MISMATCH, NO_BOOK
    if shares >= order["shares"]:
        reason = _OVERFILL if shares > order["shares"] else _SOUND
        return reason, _remove(core, orders, at)
    order["shares"] -= shares
    levels_of(core)[order["level"]]["shares"] -= shares
    book: Any = np.int64(order["book"])
    return _SOUND, book if order["level"] == books_of(core)[book]["best"] else NO_BOOK


@inlined
def delete(core: int, index: int, reference: int) -> Any:
    """Take an order off the book."""
    orders = orders_of(core)
    at = find(orders, reference)
    if orders[at]["level"] == NONE:
        return _UNKNOWN_REFERENCE, NO_BOOK
    if orders[at]["book"] // SIDES != index:
        return _LOCATE_MISMATCH, NO_BOOK
    return _SOUND, _remove(core, orders, at)


@inlined
def replace(core: int, index: int, old: int, new: int, shares: int, price: int) -> Any:
    """Put another order of the same side in an order's place."""
    orders = orders_of(core)
    at = find(orders, old)
    if orders[at]["level"] == NONE:
        return _UNKNOWN_REFERENCE, NO_BOOK
    book: Any = np.int64(orders[at]["book"])
    if book // SIDES != index:
        return _LOCATE_MISMATCH, NO_BOOK
    left = _remove(core, orders, at)
    reason, joined = add(core, book, new, shares, price)
    return reason, max(left, joined)


@jit
def empty(core: int, index: int) -> None:
    """Take all orders of a symbol off its books."""
    head, orders, levels, keys = head_of(core), orders_of(core), levels_of(core), keys_of(core)
    at = 0
    while at < len(orders):
        if orders[at]["level"] != NONE and orders[at]["book"] // SIDES == index:
            _erase(orders, at)  # What moves up to this place was not looked at yet.
            head["order_count"] -= 1
        else:
            at += 1
    for book in range(SIDES * index, SIDES * index + SIDES):
        row = books_of(core)[book]
        for place in range(row["first"], row["first"] + row["count"]):
            slot = keys[place] & _SLOT_MASK
            levels[slot]["orders"] = head["level_free"]
            head["level_free"] = slot
        row["count"] = 0
        row["best"] = NONE


@inlined
def _remove(core: int, orders: Any, at: int) -> int:
    """Take an order off its level. Returns the book if that was the best one."""
    head, levels, order = head_of(core), levels_of(core), orders[at]
    slot: Any = np.int64(order["level"])
    book: Any = np.int64(order["book"])
    was_best = slot == books_of(core)[book]["best"]
    level = levels[slot]
    level["shares"] -= order["shares"]
    level["orders"] -= 1
    if level["orders"] == 0:
        _drop_level(core, head, levels, book, order["price"], slot)
    _erase(orders, at)
    head["order_count"] -= 1
    return book if was_best else NO_BOOK
