"""The matching engine's rules: what a request does to the books, and which events that gives.

Jitted, without allocation. `E4` is Nasdaq's Equity 4 rulebook. Which rule stands where:

=======================  ==============================  =================================
rule                     source                          function
=======================  ==============================  =================================
price, display, time     E4 Rule 4757(a)(1)              :func:`sim.venue.trade.match`
post-only                E4 Rule 4702(b)(4)              :func:`_refusal`
minimum quantity, FOK    E4 Rule 4703(e)                 :func:`sim.venue.trade.is_enough`
reserve                  E4 Rule 4703(h)                 ``_refresh`` in the same place
self-match prevention    E4 Rule 4757(a)(4)              ``_prevent`` in the same place
cancel, modify, replace  OUCH 5.0 2.3, 2.4, 2.2          functions of these names
mass cancel              OUCH 5.0 2.5                    :func:`mass_cancel`
price bands              E4 Rule 4120(a)(13)             :func:`set_bands`
crosses                  E4 Rules 4752, 4753, 4754       :mod:`sim.venue.cross`
=======================  ==============================  =================================

A function that returns a bool returns False when an array is nearly full. It is called again once
there is room, with the same arguments, and goes on where it was.
"""

from typing import Any

from protocol.orders import Side, TimeInForce
from protocol.ouch50 import PRICE_MAX, QUANTITY_MAX
from sim.venue.book import (
    best_level,
    book_of,
    erase,
    find,
    has_room,
    insert,
    link,
    new_order,
    next_level,
    opposite_book,
    reaches,
    show,
    unlink,
)
from sim.venue.events import MARKET, CancelReason, RejectReason, SelfMatch
from sim.venue.records import (
    BUYS,
    CONTINUOUS,
    HIDDEN,
    INHERIT,
    NONE,
    POST_ONLY,
    RECORDED,
    SELLS,
    SESSIONS,
    Kind,
    State,
    head_of,
    level_at,
    order_at,
    orders_of,
    symbol_at,
    table_of,
)
from sim.venue.tape import match_tape
from sim.venue.trade import (
    emit,
    is_enough,
    limit_of,
    locate_of,
    match,
    new_reference,
    reduce_to,
    retire,
)
from sw.jit import jit

# Enumerations are not integers to a compiler: what the functions use stands here by its number.
_BUY, _IOC = int(Side.BUY), int(TimeInForce.IOC)
_TRADING, _HALTED, _CLOSED = int(State.TRADING), int(State.HALTED), int(State.CLOSED)
_ACCEPTED, _ADDED, _EXECUTED = int(Kind.ACCEPTED), int(Kind.ADDED), int(Kind.EXECUTED)
_CANCELED, _REPLACED, _REJECTED = int(Kind.CANCELED), int(Kind.REPLACED), int(Kind.REJECTED)
_REFRESHED, _SELF_MATCHED = int(Kind.REFRESHED), int(Kind.SELF_MATCHED)
_MODIFIED, _REPRICED, _STATE = int(Kind.MODIFIED), int(Kind.REPRICED), int(Kind.STATE)
_BY_USER, _BY_IOC = ord(CancelReason.USER), ord(CancelReason.IOC)
_BY_DISPLAYED = ord(CancelReason.POST_ONLY_DISPLAYED)
_BY_POST_ONLY = ord(CancelReason.POST_ONLY)
_BY_SELF_MATCH = ord(CancelReason.SELF_MATCH)
_NEWEST, _OLDEST = int(SelfMatch.CANCEL_NEWEST), int(SelfMatch.CANCEL_OLDEST)
_INVALID_QUANTITY = int(RejectReason.INVALID_QUANTITY)
_INVALID_PRICE = int(RejectReason.INVALID_PRICE)
_INVALID_MIN_QTY = int(RejectReason.INVALID_MIN_QUANTITY)
_INVALID_MAX_FLOOR = int(RejectReason.INVALID_MAX_FLOOR)
_MARKET_TOO = 0x7735_9400  # 200,000 USD means the same. [OUCH 5.0: 1.2]
_IS_HALTED, _IS_CLOSED = int(RejectReason.HALTED), int(RejectReason.CLOSED)


@jit
def _refusal(core: int, slot: int) -> int:
    """Return why a post-only order may not rest, or 0 if it removes nothing."""
    order = order_at(core, slot)
    if not order["flags"] & POST_ONLY:
        return 0
    buys, limit, found = order["side"] == _BUY, limit_of(core, slot), 0
    level = best_level(core, opposite_book(order["previous"]))
    while level != NONE and reaches(buys, limit, level_at(core, level)["price"]):
        if level_at(core, level)["shown_orders"] > 0:
            return _BY_DISPLAYED
        found = _BY_POST_ONLY
        level = next_level(core, level)
    return found


@jit
def _rest(core: int, slot: int) -> None:
    order = order_at(core, slot)
    link(core, order["previous"], slot)
    if order["shown_qty"] > 0:
        event = emit(core, _ADDED, 0, slot, order["leaves_qty"], order["price"])
        event["shown_qty"] = order["shown_qty"]


@jit
def _meets(core: int, slot: int) -> bool:
    return match_tape(core, slot) if head_of(core)["replays"] else match(core, slot)


@jit
def place(core: int, slot: int) -> bool:
    """Match an order that was let in, then let what is left rest or cancel it."""
    order = order_at(core, slot)
    head_of(core)["pending"] = slot
    if symbol_at(core, locate_of(core, slot))["state"] == _TRADING and not _meets(core, slot):
        return False
    head_of(core)["pending"] = NONE
    if order["leaves_qty"] == 0:
        retire(core, slot)
    elif order["time_in_force"] == _IOC or _is_market(order):
        reduce_to(core, slot, 0, _CANCELED, _BY_IOC)
    else:
        _rest(core, slot)
    return True


@jit
def _is_market(order: Any) -> bool:
    return order["price"] == 0 or order["price"] == MARKET


@jit
def _admit(core: int, slot: int, session: int) -> bool:
    """Let in an order that was accepted, by the conditions that come before matching."""
    order = order_at(core, slot)
    if session != CONTINUOUS:
        _rest(core, slot)
        return True
    if symbol_at(core, locate_of(core, slot))["state"] == _TRADING:
        reason = _refusal(core, slot)
        waits = order["min_qty"] > 0 and not is_enough(core, slot)
        if reason == 0 and waits and order["time_in_force"] == _IOC:
            reason = _BY_IOC
        if reason != 0:
            reduce_to(core, slot, 0, _CANCELED, reason)
            return True
        if waits:
            _rest(core, slot)
            return True
    return place(core, slot)


# Requests.


@jit
def _is_price(price: int) -> bool:
    return 0 < price <= PRICE_MAX or price in (MARKET, _MARKET_TOO)


@jit
def _rejection(core: int, request: Any) -> int:
    """Return why an order is not accepted, or 0. [OUCH 5.0: 2.1]"""
    state = symbol_at(core, request["locate"])["state"]
    if not 0 < request["qty"] <= QUANTITY_MAX:
        return _INVALID_QUANTITY
    if not _is_price(request["price"]):
        return _INVALID_PRICE
    if not 0 <= request["min_qty"] <= request["qty"]:
        return _INVALID_MIN_QTY
    if request["max_floor"] < 0 or (request["max_floor"] > 0 and request["flags"] & HIDDEN):
        return _INVALID_MAX_FLOOR
    if state == _HALTED:
        return _IS_HALTED
    if state == _CLOSED:
        return _IS_CLOSED
    return 0


@jit
def _price_in_bands(core: int, locate: int, buys: bool, price: int) -> int:
    """Return the price of an order as the book takes it: its own, a band, or best of all."""
    symbol = symbol_at(core, locate)
    if price > PRICE_MAX:
        return MARKET if buys else 0
    if buys:
        return min(price, symbol["upper"]) if symbol["upper"] > 0 else price
    return max(price, symbol["lower"])


@jit
def _reject(core: int, request: Any, reason: int) -> None:
    event = emit(core, _REJECTED, reason, NONE, 0, 0)
    event["order_id"] = request["order_id"]
    event["locate"] = request["locate"]
    event["participant"] = request["participant"]


@jit
def enter(core: int, request: Any) -> bool:
    """Accept an order, match it, and let a DAY order's remainder rest.

    An id that is already live is a retransmission and is ignored. [OUCH 5.0: 2]
    """
    head, order_id, locate = head_of(core), request["order_id"], request["locate"]
    if find(table_of(core), order_id) != NONE:
        return True
    reason = _rejection(core, request)
    if reason != 0:
        _reject(core, request, reason)
        return True
    buys, session, price = request["side"] == _BUY, request["session"], request["price"]
    slot = new_order(head, orders_of(core))
    insert(table_of(core), order_id, slot)
    head["order_count"] += 1
    head["locate_max"] = max(head["locate_max"], locate)
    order = order_at(core, slot)
    order["order_id"] = order_id
    order["reference"] = new_reference(core)
    order["price"] = _price_in_bands(core, locate, buys, price)
    order["leaves_qty"] = request["qty"]
    order["shown_qty"] = 0
    order["cum_qty"] = 0
    order["max_floor"] = request["max_floor"]
    order["min_qty"] = request["min_qty"]
    order["taken_qty"] = 0
    order["previous"] = book_of(locate, session, BUYS if buys else SELLS)
    order["level"] = NONE
    order["participant"] = request["participant"]
    order["side"] = request["side"]
    order["time_in_force"] = request["time_in_force"]
    order["self_match"] = request["self_match"]
    order["flags"] = request["flags"] if session == CONTINUOUS else request["flags"] | HIDDEN
    if order["min_qty"] > 0 and not order["flags"] & HIDDEN:
        order["time_in_force"] = _IOC  # A minimum quantity is never displayed. [E4 Rule 4703(e)]
    shown_price = price if _is_market(order) else order["price"]
    emit(core, _ACCEPTED, 0, slot, request["qty"], shown_price)
    return _admit(core, slot, session)


@jit
def cancel(core: int, request: Any) -> bool:
    """Reduce an order to an intended size, executed shares included; 0 cancels what is open.

    The order keeps its priority. A cancel that has nothing to cancel is silently ignored.
    [OUCH 5.0: 2.3]
    """
    slot = find(table_of(core), request["order_id"])
    if slot != NONE:
        order = order_at(core, slot)
        leaves_qty = max(request["qty"] - order["cum_qty"], 0)
        if leaves_qty < order["leaves_qty"]:
            reduce_to(core, slot, leaves_qty, _CANCELED, _BY_USER)
    return True


@jit
def modify(core: int, request: Any) -> bool:
    """Change the kind of a sale, or reduce an order, without loss of priority. [OUCH 5.0: 2.4]

    Sell to short or exempt, exempt to short, and back; a request for more shares is ignored.
    """
    slot = find(table_of(core), request["order_id"])
    if slot != NONE:
        order = order_at(core, slot)
        leaves_qty = request["qty"] - order["cum_qty"]
        same_book = (order["side"] == _BUY) == (request["side"] == _BUY)
        if same_book and 0 < leaves_qty <= order["leaves_qty"]:
            order["side"] = request["side"]
            reduce_to(core, slot, leaves_qty, _MODIFIED, 0)
    return True


@jit
def replace(core: int, request: Any) -> bool:
    """Exchange an order for a new one of the same symbol and side, behind all others.

    The request's quantity is what the whole chain may execute, earlier executions included. When
    that leaves nothing, or quantity or price is invalid, the original order is canceled. When the
    original is not live or the new id is, nothing happens. [OUCH 5.0: 2.2] While a symbol is halted
    the request is rejected and the original order stands.
    """
    slot = find(table_of(core), request["orig_id"])
    if slot == NONE or find(table_of(core), request["order_id"]) != NONE:
        return True
    order = order_at(core, slot)
    locate, buys = locate_of(core, slot), order["side"] == _BUY
    leaves_qty = request["qty"] - order["cum_qty"]
    state = symbol_at(core, locate)["state"]
    if leaves_qty <= 0 or request["qty"] > QUANTITY_MAX or not _is_price(request["price"]):
        reduce_to(core, slot, 0, _CANCELED, _BY_USER)
        return True
    if state in (_HALTED, _CLOSED):
        _reject(core, request, _IS_HALTED if state == _HALTED else _IS_CLOSED)
        return True
    was_shown = order["shown_qty"] > 0
    orig_reference = order["reference"] if was_shown else 0
    row = level_at(core, order["level"])
    book = row["book"]
    if was_shown:
        show(core, slot, 0)
    level_qty, level_orders = row["shown_qty"], row["shown_orders"]
    unlink(core, slot)
    erase(table_of(core), request["orig_id"])
    insert(table_of(core), request["order_id"], slot)
    session = (book // 2) % SESSIONS
    order["previous"] = book
    order["order_id"] = request["order_id"]
    order["reference"] = new_reference(core)
    order["price"] = _price_in_bands(core, locate, buys, request["price"])
    order["leaves_qty"] = leaves_qty
    order["time_in_force"] = request["time_in_force"]
    if request["flags"] != INHERIT:
        kept = HIDDEN if session != CONTINUOUS else 0
        order["flags"] = request["flags"] | kept
    if request["min_qty"] != INHERIT:
        order["min_qty"] = request["min_qty"]
    if request["max_floor"] != INHERIT:
        order["max_floor"] = request["max_floor"]
    order["min_qty"] = min(order["min_qty"], leaves_qty)
    if order["min_qty"] > 0 and not order["flags"] & HIDDEN:
        order["time_in_force"] = _IOC
    moves = was_shown and _stands(core, slot, book)
    if moves:
        link(core, book, slot)
    event = emit(core, _REPLACED, 0, slot, leaves_qty, order["price"])
    event["other_id"] = request["orig_id"]
    event["other_reference"] = orig_reference
    if moves:
        event["shown_qty"] = order["shown_qty"]
        return True
    event["level_qty"] = level_qty
    event["level_orders"] = level_orders
    return _admit(core, slot, session)


@jit
def _stands(core: int, slot: int, book: int) -> bool:
    """Whether an order will be displayed in full, without trading before."""
    order = order_at(core, slot)
    if order["flags"] & HIDDEN or order["time_in_force"] == _IOC or _is_market(order):
        return False
    if symbol_at(core, locate_of(core, slot))["state"] != _TRADING:
        return True
    level = best_level(core, opposite_book(book))
    buys, limit = order["side"] == _BUY, limit_of(core, slot)
    return level == NONE or not reaches(buys, limit, level_at(core, level)["price"])


@jit
def mass_cancel(core: int, request: Any) -> bool:
    """Cancel a participant's orders of a symbol, or of all; participant 0 stands for everybody.

    Symbol by symbol, bids first, in the order of priority. [OUCH 5.0: 2.5]
    """
    first, last = request["locate"], request["locate"]
    if first == 0:
        last = head_of(core)["locate_max"]
    for book in range(book_of(first, 0, BUYS), book_of(last + 1, 0, BUYS)):
        level = best_level(core, book)
        if request["session"] not in (INHERIT, (book // 2) % SESSIONS):
            level = NONE
        while level != NONE:
            beyond = next_level(core, level)
            if not _cancel_queue(core, level_at(core, level)["first_shown"], request):
                return False
            # The level may be gone by now: then it has no first order.
            if not _cancel_queue(core, level_at(core, level)["first_hidden"], request):
                return False
            level = beyond
    return True


@jit
def _cancel_queue(core: int, slot: int, request: Any) -> bool:
    while slot != NONE:
        if not has_room(core):
            return False
        order = order_at(core, slot)
        behind = order["next"]
        if not order["flags"] & RECORDED and (
            request["participant"] == 0 or request["participant"] == order["participant"]
        ):
            reduce_to(core, slot, 0, _CANCELED, request["value"])
        slot = behind
    return True


# Symbols.


@jit
def set_state(core: int, request: Any) -> bool:
    """Set a symbol's trading state. [ITCH 5.0: 1.2.2]"""
    symbol_at(core, request["locate"])["state"] = request["value"]
    event = emit(core, _STATE, request["value"], NONE, 0, 0)
    event["locate"] = request["locate"]
    return True


@jit
def set_bands(core: int, request: Any) -> bool:
    """Set a symbol's price bands. What rests outside moves to the band, behind all others there.

    Better prices move first. [E4 Rule 4120(a)(13)]
    """
    locate, lower, upper = request["locate"], request["qty"], request["price"]
    symbol_at(core, locate)["lower"] = lower
    symbol_at(core, locate)["upper"] = upper
    for side in range(2):
        price = upper if side == BUYS else lower
        book = book_of(locate, CONTINUOUS, side)
        level = best_level(core, book)
        while price > 0 and level != NONE and _is_outside(core, side, level, price):
            if not has_room(core):
                return False
            row = level_at(core, level)
            slot = row["first_shown"] if row["first_shown"] != NONE else row["first_hidden"]
            _reprice(core, book, slot, price)
            level = best_level(core, book)
    return True


@jit
def _is_outside(core: int, side: int, level: int, price: int) -> bool:
    at = level_at(core, level)["price"]
    return at > price if side == BUYS else at < price


@jit
def _reprice(core: int, book: int, slot: int, price: int) -> None:
    order = order_at(core, slot)
    orig_reference = order["reference"] if order["shown_qty"] > 0 else 0
    unlink(core, slot)
    order["price"] = price
    order["reference"] = new_reference(core)
    link(core, book, slot)
    event = emit(core, _REPRICED, 0, slot, order["leaves_qty"], price)
    event["other_reference"] = orig_reference
    event["shown_qty"] = order["shown_qty"]
