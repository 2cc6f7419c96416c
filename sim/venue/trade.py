"""What happens to orders when they meet: jitted functions, and the events they write."""

from typing import Any

from protocol.orders import Side
from sim.venue.book import (
    best_level,
    erase,
    free_order,
    has_room,
    next_level,
    opposite_book,
    part_to_show,
    reaches,
    requeue,
    show,
    unlink,
)
from sim.venue.events import CancelReason, SelfMatch
from sim.venue.records import (
    HIDDEN,
    NONE,
    SESSIONS,
    Kind,
    event_at,
    head_of,
    level_at,
    levels_of,
    order_at,
    orders_of,
    symbol_at,
    table_of,
)
from sw.jit import jit

# Enumerations are not integers to a compiler: what the functions use stands here by its number.
_BUY = int(Side.BUY)
_EXECUTED, _REFRESHED, _SELF_MATCHED = (
    int(Kind.EXECUTED),
    int(Kind.REFRESHED),
    int(Kind.SELF_MATCHED),
)
_BY_SELF_MATCH = ord(CancelReason.SELF_MATCH)
_NEWEST, _OLDEST = int(SelfMatch.CANCEL_NEWEST), int(SelfMatch.CANCEL_OLDEST)


# Events.


@jit
def emit(core: int, kind: int, reason: int, slot: int, qty: int, price: int) -> Any:
    """Write an event about an order as it stands after it, and return it for what is particular."""
    head, order = head_of(core), order_at(core, slot)
    event = event_at(core, head["event_count"])
    head["event_count"] += 1
    event["kind"] = kind
    event["reason"] = reason
    event["order_id"] = order["order_id"]
    event["other_id"] = 0
    event["reference"] = order["reference"]
    event["other_reference"] = 0
    event["match_number"] = 0
    event["qty"] = qty
    event["price"] = price
    event["leaves_qty"] = order["leaves_qty"]
    event["shown_qty"] = 0
    event["shown_left"] = order["shown_qty"]
    event["prevented_qty"] = 0
    event["participant"] = order["participant"]
    event["other_participant"] = 0
    event["side"] = order["side"]
    event["time_in_force"] = order["time_in_force"]
    row = level_at(core, order["level"])
    event["level_qty"] = row["shown_qty"]
    event["level_orders"] = row["shown_orders"]
    event["locate"] = locate_of(core, slot)
    return event


@jit
def locate_of(core: int, slot: int) -> int:
    """Return the symbol of an order. One that does not rest has its book where others link."""
    order = order_at(core, slot)
    level = order["level"]
    book = level_at(core, level)["book"] if level != NONE else order["previous"]
    return book // (2 * SESSIONS)


@jit
def new_reference(core: int) -> int:
    """Return the next order reference number of the day."""
    head_of(core)["reference"] += 1
    return head_of(core)["reference"]


# Shares that leave an order.


@jit
def retire(core: int, slot: int) -> None:
    """Forget an order, in its level or out of it."""
    order = order_at(core, slot)
    if order["level"] != NONE:
        unlink(core, slot)
    erase(table_of(core), order["order_id"])
    head_of(core)["order_count"] -= 1
    free_order(head_of(core), orders_of(core), slot)


@jit
def take(core: int, slot: int, qty: int) -> int:
    """Take shares off an order, the displayed ones first; return how many were displayed."""
    order = order_at(core, slot)
    order["leaves_qty"] -= qty
    shown_qty = min(order["shown_qty"], qty)
    if shown_qty > 0:
        show(core, slot, order["shown_qty"] - shown_qty)
    if order["min_qty"] > order["leaves_qty"]:
        order["min_qty"] = order["leaves_qty"]
    return shown_qty


@jit
def settle(core: int, slot: int) -> None:
    """Retire a resting order without shares; refresh one whose displayed part is used up."""
    order = order_at(core, slot)
    if order["leaves_qty"] == 0:
        retire(core, slot)
    elif order["shown_qty"] == 0 and not order["flags"] & HIDDEN:
        _refresh(core, slot)


@jit
def _refresh(core: int, slot: int) -> None:
    """Display the next part of a reserve order, behind all others and under a new reference."""
    order = order_at(core, slot)
    requeue(core, slot)
    order["reference"] = new_reference(core)
    show(core, slot, part_to_show(order))
    event = emit(core, _REFRESHED, 0, slot, order["leaves_qty"], order["price"])
    event["shown_qty"] = order["shown_qty"]


@jit
def reduce_to(core: int, slot: int, leaves_qty: int, kind: int, reason: int) -> None:
    """Take what is above so many shares off an order, of its reserve first."""
    order = order_at(core, slot)
    qty = order["leaves_qty"] - leaves_qty
    order["leaves_qty"] = leaves_qty
    shown_qty = max(order["shown_qty"] - leaves_qty, 0)
    if shown_qty > 0:
        show(core, slot, order["shown_qty"] - shown_qty)
    if order["min_qty"] > leaves_qty:
        order["min_qty"] = leaves_qty
    event = emit(core, kind, reason, slot, qty, order["price"])
    event["shown_qty"] = shown_qty
    if leaves_qty == 0:
        retire(core, slot)


# Matching.


@jit
def limit_of(core: int, slot: int) -> int:
    """Return the worst price an order may trade at: its own, or a band that is nearer."""
    order = order_at(core, slot)
    symbol = symbol_at(core, locate_of(core, slot))
    if order["side"] == _BUY:
        return min(order["price"], symbol["upper"]) if symbol["upper"] > 0 else order["price"]
    return max(order["price"], symbol["lower"])


@jit
def _is_own(core: int, slot: int, maker: int) -> bool:
    taker, other = order_at(core, slot), order_at(core, maker)
    return (
        taker["self_match"] != 0
        and taker["participant"] != 0
        and taker["participant"] == other["participant"]
    )


@jit
def _lose(core: int, slot: int, qty: int, prevented_qty: int, price: int) -> None:
    """Take shares off an order that would have traded with its own participant."""
    shown_qty = take(core, slot, qty)
    event = emit(core, _SELF_MATCHED, _BY_SELF_MATCH, slot, qty, price)
    event["shown_qty"] = shown_qty
    event["prevented_qty"] = prevented_qty


@jit
def _prevent(core: int, slot: int, maker: int) -> None:
    """Keep an order from trading with one of its own participant.

    Shares that both lose count as executed for the chain of replaces. [OUCH 5.0: 2.2]
    """
    taker, other = order_at(core, slot), order_at(core, maker)
    part = other["shown_qty"] if other["shown_qty"] > 0 else other["leaves_qty"]
    qty, price = min(taker["leaves_qty"], part), other["price"]
    if taker["self_match"] == _NEWEST:
        _lose(core, slot, taker["leaves_qty"], qty, price)
        return
    if taker["self_match"] == _OLDEST:
        _lose(core, maker, other["leaves_qty"], qty, price)
    else:
        taker["cum_qty"] += qty
        other["cum_qty"] += qty
        _lose(core, slot, qty, qty, price)
        _lose(core, maker, qty, qty, price)
    settle(core, maker)


@jit
def _meet(core: int, slot: int, maker: int) -> None:
    """Trade an incoming order with a resting one, at the resting one's price."""
    if _is_own(core, slot, maker):
        _prevent(core, slot, maker)
        return
    head, taker, other = head_of(core), order_at(core, slot), order_at(core, maker)
    part = other["shown_qty"] if other["shown_qty"] > 0 else other["leaves_qty"]
    qty = min(taker["leaves_qty"], part)
    head["match_number"] += 1
    taker["leaves_qty"] -= qty
    taker["cum_qty"] += qty
    other["cum_qty"] += qty
    shown_qty = take(core, maker, qty)
    event = emit(core, _EXECUTED, 0, maker, qty, other["price"])
    event["other_id"] = taker["order_id"]
    event["other_participant"] = taker["participant"]
    event["match_number"] = head["match_number"]
    event["shown_qty"] = shown_qty
    symbol_at(core, event["locate"])["last_price"] = other["price"]
    settle(core, maker)


@jit
def match(core: int, slot: int) -> bool:
    """Trade an incoming order: the best price first, displayed orders before others, then by time.

    [E4 Rule 4757(a)(1)] A resting order with a minimum quantity is passed over by less than that.
    """
    taker, levels = order_at(core, slot), levels_of(core)
    buys, limit = taker["side"] == _BUY, limit_of(core, slot)
    level = best_level(core, opposite_book(taker["previous"]))
    while (
        level != NONE and taker["leaves_qty"] > 0 and reaches(buys, limit, levels[level]["price"])
    ):
        beyond = next_level(core, level)
        while levels[level]["first_shown"] != NONE and taker["leaves_qty"] > 0:
            if not has_room(core):
                return False
            _meet(core, slot, levels[level]["first_shown"])
        maker = levels[level]["first_hidden"]
        while maker != NONE and taker["leaves_qty"] > 0:
            if not has_room(core):
                return False
            behind = order_at(core, maker)["next"]
            if taker["leaves_qty"] >= order_at(core, maker)["min_qty"]:
                _meet(core, slot, maker)
            maker = behind
        level = beyond
    return True


@jit
def _part(order: Any, number: int) -> int:
    """Return how many shares an order shows in its n-th part from now, 0 when there is none."""
    if number == 0:
        return max(order["shown_qty"] - order["taken_qty"], 0)
    floor = order["max_floor"]
    left = order["leaves_qty"] - order["shown_qty"] - (number - 1) * floor
    return min(floor, left) if floor > 0 and left > 0 else 0


@jit
def is_enough(core: int, slot: int) -> bool:
    """Whether an incoming order would execute its minimum quantity, all makers together.

    Plays :func:`match` without trading. Reserve orders come back to the end of their queue one
    after the other, so the queue is passed part by part.
    """
    taker = order_at(core, slot)
    buys, limit, left, missing = (
        taker["side"] == _BUY,
        limit_of(core, slot),
        taker["leaves_qty"],
        taker["min_qty"],
    )
    level = best_level(core, opposite_book(taker["previous"]))
    while level != NONE and reaches(buys, limit, level_at(core, level)["price"]):
        number, shown = 0, True
        while shown:
            shown = False
            maker = level_at(core, level)["first_shown"]
            while maker != NONE:
                qty = min(_part(order_at(core, maker), number), left)
                shown |= qty > 0
                if qty > 0 and _is_own(core, slot, maker):
                    if taker["self_match"] == _NEWEST:
                        return False
                    if taker["self_match"] != _OLDEST:
                        left -= qty
                else:
                    left -= qty
                    missing -= qty
                if missing <= 0 or left == 0:
                    return missing <= 0
                maker = order_at(core, maker)["next"]
            number += 1
        maker = level_at(core, level)["first_hidden"]
        while maker != NONE:
            other = order_at(core, maker)
            if left >= other["min_qty"]:
                qty = min(other["leaves_qty"], left)
                if _is_own(core, slot, maker):
                    if taker["self_match"] == _NEWEST:
                        return False
                    if taker["self_match"] != _OLDEST:
                        left -= qty
                else:
                    left -= qty
                    missing -= qty
                if missing <= 0 or left == 0:
                    return missing <= 0
            maker = other["next"]
        level = next_level(core, level)
    return False
