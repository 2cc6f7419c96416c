"""Rules of a tape: recorded orders that our orders meet, and that stay as they were recorded.

Jitted, like :mod:`sim.venue.rules`. What is assumed stands in :mod:`sim.venue.replay`.
"""

from typing import Any

from protocol.orders import Side, TimeInForce
from sim.venue.book import (
    best_level,
    book_of,
    erase,
    find,
    free_order,
    has_room,
    insert,
    link,
    new_order,
    next_level,
    opposite_book,
    reaches,
    unlink,
)
from sim.venue.events import CancelReason
from sim.venue.records import (
    BUYS,
    CONTINUOUS,
    NONE,
    RECORDED,
    SELLS,
    SESSIONS,
    Kind,
    head_of,
    level_at,
    order_at,
    orders_of,
    tape_of,
)
from sim.venue.trade import emit, limit_of, settle, take
from sw.jit import jit

_BUY, _DAY = int(Side.BUY), int(TimeInForce.DAY)
_FILLED, _CANCELED = int(Kind.FILLED), int(Kind.CANCELED)
_BY_SELF_MATCH = ord(CancelReason.SELF_MATCH)
_BOOKS = 2 * SESSIONS

UNKNOWN_COUNTERPARTY = 0
"""Counterparty id where the tape shows no order: it never names the aggressor."""


@jit
def _fill(core: int, slot: int, other_id: int, qty: int, price: int, is_maker: int) -> None:
    order_at(core, slot)["cum_qty"] += qty
    head_of(core)["match_number"] += 1
    shown_qty = take(core, slot, qty)
    event = emit(core, _FILLED, is_maker, slot, qty, price)
    event["other_id"] = other_id
    event["match_number"] = head_of(core)["match_number"]
    event["shown_qty"] = shown_qty


@jit
def match_tape(core: int, slot: int) -> bool:
    """Let an order of ours take the recorded shares that it reaches; it is canceled at ours."""
    taker = order_at(core, slot)
    buys, limit = taker["side"] == _BUY, limit_of(core, slot)
    level = best_level(core, opposite_book(taker["previous"]))
    while level != NONE and reaches(buys, limit, level_at(core, level)["price"]):
        for queue in range(2):
            row = level_at(core, level)
            maker = row["first_shown"] if queue == 0 else row["first_hidden"]
            while maker != NONE and taker["leaves_qty"] > 0:
                if not has_room(core):
                    return False
                other = order_at(core, maker)
                if not other["flags"] & RECORDED:
                    reduce_taker(core, slot)
                    return True
                qty = min(taker["leaves_qty"], max(other["leaves_qty"] - other["taken_qty"], 0))
                if qty > 0:
                    other["taken_qty"] += qty
                    _fill(core, slot, other["order_id"], qty, other["price"], 0)
                maker = other["next"]
        level = next_level(core, level)
    return True


@jit
def reduce_taker(core: int, slot: int) -> None:
    """Cancel what is left of an order that does not rest yet."""
    order = order_at(core, slot)
    qty = order["leaves_qty"]
    take(core, slot, qty)
    emit(core, _CANCELED, _BY_SELF_MATCH, slot, qty, order["price"])


@jit
def _fill_ours(
    core: int, book: int, limit: int, last: int, other_id: int, request: Any, shares: int
) -> bool:
    """Fill our orders of a book down to a price, or to an order, up to so many shares.

    The request's ``min_qty`` counts the shares, so that this can be called again.
    """
    buys = book % 2 == SELLS  # As the aggressor sees it.
    level = best_level(core, book)
    while level != NONE and reaches(buys, limit, level_at(core, level)["price"]):
        beyond = next_level(core, level)
        for queue in range(2):
            row = level_at(core, level)
            slot = row["first_shown"] if queue == 0 else row["first_hidden"]
            while slot != NONE and slot != last and request["min_qty"] < shares:
                if not has_room(core):
                    return False
                order = order_at(core, slot)
                behind = order["next"]
                if not order["flags"] & RECORDED:
                    part = order["shown_qty"] if order["shown_qty"] > 0 else order["leaves_qty"]
                    qty = min(part, shares - request["min_qty"])
                    request["min_qty"] += qty
                    _fill(core, slot, other_id, qty, order["price"], 1)
                    settle(core, slot)
                    if behind == NONE and order["leaves_qty"] > 0:
                        behind = slot  # Refreshed, and last in its queue as before.
                slot = behind
            if slot == last and last != NONE:
                return True
        level = beyond
    return True


@jit
def _retire(core: int, slot: int) -> None:
    order = order_at(core, slot)
    unlink(core, slot)
    erase(tape_of(core), order["order_id"])
    head_of(core)["tape_count"] -= 1
    free_order(head_of(core), orders_of(core), slot)


@jit
def _reduce(core: int, slot: int, shares: int) -> None:
    order = order_at(core, slot)
    take(core, slot, min(order["leaves_qty"], shares))
    if order["leaves_qty"] == 0:
        _retire(core, slot)


@jit
def _add(core: int, request: Any, locate: int, is_buy: bool, taken_qty: int) -> bool:
    side = BUYS if is_buy else SELLS
    book, price, shares = book_of(locate, CONTINUOUS, side), request["price"], request["qty"]
    available = max(shares - taken_qty, 0)
    against = opposite_book(book)
    if not _fill_ours(core, against, price, NONE, request["order_id"], request, available):
        return False
    slot = new_order(head_of(core), orders_of(core))
    insert(tape_of(core), request["order_id"], slot)
    head_of(core)["tape_count"] += 1
    order = order_at(core, slot)
    order["order_id"] = request["order_id"]
    order["reference"] = request["order_id"]
    order["price"] = price
    order["leaves_qty"] = shares
    order["cum_qty"] = 0
    order["max_floor"] = 0
    order["min_qty"] = 0
    order["taken_qty"] = taken_qty + request["min_qty"]
    order["participant"] = 0
    order["side"] = request["side"]
    order["time_in_force"] = _DAY
    order["self_match"] = 0
    order["flags"] = RECORDED
    link(core, book, slot)
    return True


@jit
def tape_add(core: int, request: Any) -> bool:
    """Add a recorded order (A, F)."""
    if find(tape_of(core), request["order_id"]) != NONE:
        head_of(core)["ignored_count"] += 1
        return True
    return _add(core, request, request["locate"], request["side"] == _BUY, 0)


@jit
def tape_execute(core: int, request: Any) -> bool:
    """Execute shares of a recorded order (E, C), and those of ours that stand before it."""
    slot = find(tape_of(core), request["order_id"])
    if slot == NONE:
        head_of(core)["ignored_count"] += 1
        return True
    order = order_at(core, slot)
    book, shares = level_at(core, order["level"])["book"], min(request["qty"], order["leaves_qty"])
    limit = order["price"]
    if not _fill_ours(core, book, limit, slot, UNKNOWN_COUNTERPARTY, request, shares):
        return False
    _reduce(core, slot, request["qty"])
    return True


@jit
def tape_reduce(core: int, request: Any) -> bool:
    """Cancel some shares of a recorded order (X), or all of more than it has (D)."""
    slot = find(tape_of(core), request["order_id"])
    if slot == NONE:
        head_of(core)["ignored_count"] += 1
    else:
        _reduce(core, slot, request["qty"])
    return True


@jit
def tape_replace(core: int, request: Any) -> bool:
    """Replace a recorded order (U). What we took of the original stays taken."""
    slot = find(tape_of(core), request["orig_id"])
    if slot == NONE or find(tape_of(core), request["order_id"]) != NONE:
        head_of(core)["ignored_count"] += 1
        return True
    order = order_at(core, slot)
    locate = level_at(core, order["level"])["book"] // _BOOKS
    is_buy, taken_qty = order["side"] == _BUY, order["taken_qty"]
    request["side"] = order["side"]
    if not _add(core, request, locate, is_buy, taken_qty):
        return False
    _retire(core, slot)
    return True
