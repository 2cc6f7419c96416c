"""Parse and book stage: feed messages in, market records out."""

from typing import Any, Final

import numpy as np

from protocol import itch50
from protocol.layout import Layout
from protocol.market import PHASES
from protocol.reasons import DropReason, StaleReason
from sim.card.functional import market
from sim.card.functional.arbiter import GAP, forget_retired
from sim.card.functional.book import (
    ASKS,
    BIDS,
    NO_BOOK,
    SIDES,
    add,
    best,
    delete,
    fetch,
    find,
    has_room,
    is_known,
    reduce,
    replace,
)
from sim.card.functional.records import (
    NONE,
    ORDERED,
    books_of,
    drops_of,
    head_of,
    locates_of,
    orders_of,
    queue_of,
    symbols_of,
)
from sw.jit import inlined, jit, read_8, read_16, read_32, read_64

_FAR = 8
"""How many messages ahead an order is asked for."""

_UNKNOWN_MESSAGE = int(DropReason.UNKNOWN_MESSAGE)
_UNKNOWN_SYMBOL = int(DropReason.UNKNOWN_SYMBOL)
_UNDER_REPAIR = int(DropReason.UNDER_REPAIR)
_SOUND, _GAP = int(StaleReason.NONE), int(StaleReason.GAP)
_INVALID_ORDER = int(StaleReason.INVALID_ORDER)
_LOCATE_MISMATCH = int(StaleReason.LOCATE_MISMATCH)
_LEVEL_OVERFLOW = int(StaleReason.LEVEL_OVERFLOW)

_BUY, _SELL = ord("B"), ord("S")
_TRADING, _HALTED, _NASDAQ = ord("T"), ord("H"), ord("Q")
_NOT_PRINTABLE = ord("N")
_BLANK = ord(" ")
_NAME_BYTES = 8


def _at(layout: Layout, name: str) -> int:
    return layout.by_name[name].offset


_SIZES = np.zeros(256, np.int64)
for _layout in itch50.MESSAGES.layouts:
    _SIZES[_layout.code] = _layout.size

_PHASES = np.full(256, -1, np.int64)
for _code, _phase in PHASES.items():
    _PHASES[ord(_code)] = int(_phase)

_ADD, _ADD_MPID = itch50.ADD_ORDER.code, itch50.ADD_ORDER_MPID.code
_EXECUTED, _EXECUTED_AT = itch50.ORDER_EXECUTED.code, itch50.ORDER_EXECUTED_WITH_PRICE.code
_CANCEL, _DELETE, _REPLACE = (
    itch50.ORDER_CANCEL.code,
    itch50.ORDER_DELETE.code,
    itch50.ORDER_REPLACE.code,
)
_TRADE, _CROSS = itch50.TRADE.code, itch50.CROSS_TRADE.code
_EVENT, _DIRECTORY = itch50.SYSTEM_EVENT.code, itch50.STOCK_DIRECTORY.code
_ACTION, _HALT = itch50.STOCK_TRADING_ACTION.code, itch50.OPERATIONAL_HALT.code
_REG_SHO = itch50.REG_SHO_RESTRICTION.code

_LOCATE = _at(itch50.ADD_ORDER, "stock_locate")
_TIME = _at(itch50.ADD_ORDER, "tracking_number")
"""Two bytes before the time's six, so that eight are read that all messages have."""
_TIME_MASK: Final = (1 << 48) - 1
_REFERENCE = _at(itch50.ADD_ORDER, "order_reference_number")
_SHORTEST_WITH_REFERENCE = itch50.ORDER_DELETE.size
_ADD_SIDE, _ADD_SHARES, _ADD_PRICE = (
    _at(itch50.ADD_ORDER, name) for name in ("buy_sell_indicator", "shares", "price")
)
_EXECUTED_SHARES = _at(itch50.ORDER_EXECUTED, "executed_shares")
_EXECUTED_MATCH = _at(itch50.ORDER_EXECUTED, "match_number")
_PRINTABLE = _at(itch50.ORDER_EXECUTED_WITH_PRICE, "printable")
_EXECUTION_PRICE = _at(itch50.ORDER_EXECUTED_WITH_PRICE, "execution_price")
_CANCELED_SHARES = _at(itch50.ORDER_CANCEL, "canceled_shares")
_NEW_REFERENCE, _NEW_SHARES, _NEW_PRICE = (
    _at(itch50.ORDER_REPLACE, name) for name in ("new_order_reference_number", "shares", "price")
)
_TRADE_SHARES, _TRADE_PRICE, _TRADE_MATCH = (
    _at(itch50.TRADE, name) for name in ("shares", "price", "match_number")
)
_CROSS_SHARES, _CROSS_PRICE, _CROSS_MATCH = (
    _at(itch50.CROSS_TRADE, name) for name in ("cross_shares", "cross_price", "match_number")
)
_EVENT_CODE = _at(itch50.SYSTEM_EVENT, "event_code")
_STOCK = _at(itch50.STOCK_DIRECTORY, "stock")
_STATE = _at(itch50.STOCK_TRADING_ACTION, "trading_state")
_MARKET = _at(itch50.OPERATIONAL_HALT, "market_code")
_HALT_ACTION = _at(itch50.OPERATIONAL_HALT, "operational_halt_action")
_REG_SHO_ACTION = _at(itch50.REG_SHO_RESTRICTION, "reg_sho_action")


@jit
def drain(core: int) -> bool:
    """Take all messages of the queue. Returns False when the book must have more memory first."""
    head, queue = head_of(core), queue_of(core)
    count = head["queue_count"]
    if not has_room(core, count):
        return False
    for index in range(min(_FAR, count)):
        _look_ahead(core, queue[index])
    for index in range(count):
        if index + _FAR < count:
            _look_ahead(core, queue[index + _FAR])
        row = queue[index]
        head["now_ns"] = row["ts_ns"]
        if row["size"] == GAP:
            _lose(core, row["sequence"], row["address"])
        else:
            _apply(core, row["address"], row["size"], row["sequence"])
    head["queue_count"] = 0
    forget_retired(core)
    return True


@inlined
def _look_ahead(core: int, row: Any) -> None:
    """Have fetched what a message will touch: a book's time is mostly the wait for memory."""
    if row["size"] >= _SHORTEST_WITH_REFERENCE:
        fetch(core, read_64(row["address"] + _REFERENCE))
        if read_8(row["address"]) == _REPLACE:
            fetch(core, read_64(row["address"] + _NEW_REFERENCE))


@inlined
def _apply(core: int, message: int, size: int, sequence: int) -> None:
    """Take one feed message. A message block without data only takes a sequence number."""
    head = head_of(core)
    head["messages_received"] += 1
    if size == 0:
        return
    code = read_8(message)
    if _SIZES[code] != size:
        drops_of(core)[_UNKNOWN_MESSAGE] += 1
        return
    ts_ns, locate = read_64(message + _TIME) & _TIME_MASK, read_16(message + _LOCATE)
    if code == _EVENT:
        _event(core, message, sequence, ts_ns)
        return
    if code == _DIRECTORY:
        _learn(core, read_64(message + _STOCK), locate)
    index = locates_of(core)[locate] - 1
    if index < 0:
        drops_of(core)[_UNKNOWN_SYMBOL] += 1
        return
    if index + 1 == head["repair_symbol"]:
        drops_of(core)[_UNDER_REPAIR] += 1
        head["repair_from"] = (sequence ^ ORDERED) + 1
        return
    reason, book, is_told = _SOUND, NO_BOOK, True
    if code in (_ADD, _ADD_MPID):
        reason, book = _add(core, index, message)
    elif code == _DELETE:
        reason, book = delete(core, index, read_64(message + _REFERENCE))
    elif code == _REPLACE:
        reason, book = replace(
            core,
            index,
            read_64(message + _REFERENCE),
            read_64(message + _NEW_REFERENCE),
            read_32(message + _NEW_SHARES),
            read_32(message + _NEW_PRICE),
        )
    elif code in (_EXECUTED, _EXECUTED_AT):
        reason, book = _execute(core, index, code, message, sequence, ts_ns)
    elif code == _CANCEL:
        shares = read_32(message + _CANCELED_SHARES)
        reason, book = reduce(core, index, read_64(message + _REFERENCE), shares)
    else:
        is_told = not _tell(core, index, code, message, sequence, ts_ns)
    if reason != _SOUND:
        is_told = False
        mark_stale(core, index, reason)
        if reason == _LOCATE_MISMATCH:
            _mark_owner_stale(core, read_64(message + _REFERENCE), sequence, ts_ns)
    if book != NO_BOOK or not is_told:
        _publish(core, index, book, sequence, ts_ns)


@inlined
def _add(core: int, index: int, message: int) -> Any:
    side, reference = read_8(message + _ADD_SIDE), read_64(message + _REFERENCE)
    if side != _BUY and side != _SELL and not is_known(core, reference):
        return _INVALID_ORDER, NO_BOOK
    book = SIDES * index + (BIDS if side == _BUY else ASKS)
    shares, price = read_32(message + _ADD_SHARES), read_32(message + _ADD_PRICE)
    return add(core, book, reference, shares, price)


@inlined
def _execute(core: int, index: int, code: int, message: int, sequence: int, ts_ns: int) -> Any:
    reference, shares = read_64(message + _REFERENCE), read_32(message + _EXECUTED_SHARES)
    orders = orders_of(core)
    order = orders[find(orders, reference)]
    is_told = code == _EXECUTED or read_8(message + _PRINTABLE) != _NOT_PRINTABLE
    if order["level"] != NONE and is_told:
        price = order["price"] if code == _EXECUTED else read_32(message + _EXECUTION_PRICE)
        side = _BUY if order["book"] % SIDES == BIDS else _SELL
        number = read_64(message + _EXECUTED_MATCH)
        symbols_of(core)[index]["last_price"] = price
        market.put_trade(core, index, sequence, ts_ns, shares, price, side, code, number)
    return reduce(core, index, reference, shares)


@jit
def _tell(core: int, index: int, code: int, message: int, sequence: int, ts_ns: int) -> bool:
    """Take a message that changes no book. Returns whether it may have changed the condition."""
    symbol = symbols_of(core)[index]
    if code in (_TRADE, _CROSS):
        if code == _TRADE:
            shares, price = read_32(message + _TRADE_SHARES), read_32(message + _TRADE_PRICE)
            number = read_64(message + _TRADE_MATCH)
        else:
            shares, price = read_64(message + _CROSS_SHARES), read_32(message + _CROSS_PRICE)
            number = read_64(message + _CROSS_MATCH)
        if shares != 0:
            symbol["last_price"] = price
            market.put_trade(core, index, sequence, ts_ns, shares, price, 0, code, number)
        return False
    if code == _ACTION:
        status = read_8(message + _STATE)
        market.put_status(core, index, sequence, ts_ns, code, status)
        # Only now: a quote that waited for a slot is of before.
        symbol["trading_state"] = status
        return True
    if code == _HALT:
        status = read_8(message + _HALT_ACTION)
        market.put_status(core, index, sequence, ts_ns, code, status)
        if read_8(message + _MARKET) == _NASDAQ:
            symbol["trading_state"] = _TRADING if status == _TRADING else _HALTED
        return True
    if code == _REG_SHO:
        status = read_8(message + _REG_SHO_ACTION)
        market.put_status(core, index, sequence, ts_ns, code, status)
    return False


@jit
def _event(core: int, message: int, sequence: int, ts_ns: int) -> None:
    head_of(core)["event_sequence"] = sequence ^ ORDERED
    take_event(core, read_8(message + _EVENT_CODE), sequence, ts_ns)


@jit
def take_event(core: int, code: int, sequence: int, ts_ns: int) -> None:
    """Take and tell a system event."""
    head = head_of(core)
    head["event_code"] = code
    if _PHASES[code] >= 0:
        head["phase"] = _PHASES[code]
    market.put_status(core, market.ALL_MARKET, sequence, ts_ns, _EVENT, code)


@jit
def _learn(core: int, stock: int, locate: int) -> None:
    """Take a symbol's locate from the Stock Directory message, unless the host wrote one."""
    head, symbols = head_of(core), symbols_of(core)
    if head["unlocated_count"] == 0:
        return
    stock = padded(stock)
    for index in range(head["symbol_count"] - 1, -1, -1):
        symbol = symbols[index]
        if symbol["is_unlocated"] and symbol["stock"] == stock:
            symbol["is_unlocated"] = 0
            head["unlocated_count"] -= 1
            locates_of(core)[locate] = index + 1
            return


@jit
def padded(stock: int) -> int:
    """Return a name of 8 characters, the first in bits 63:56, with blanks for NULs at its end."""
    for shift in range(0, 8 * _NAME_BYTES, 8):
        character = (stock >> shift) & 0xFF
        if character == 0:
            stock |= _BLANK << shift
        elif character != _BLANK:
            break
    return stock


@jit
def _lose(core: int, first: int, count: int) -> None:
    """Take note of lost messages: any of them may have been any symbol's."""
    head, symbols = head_of(core), symbols_of(core)
    head["messages_lost"] += count
    head["lost_end"] = (first ^ ORDERED) + count
    market.put_gap(core, first, count)
    for index in range(head["symbol_count"]):
        if symbols[index]["is_configured"]:
            mark_stale(core, index, _GAP)
            _publish(core, index, NO_BOOK, first + count - 1, 0)


@inlined
def mark_stale(core: int, index: int, reason: int) -> None:
    """Flag a symbol, unless it has a reason already."""
    symbol = symbols_of(core)[index]
    if symbol["stale_reason"] == _SOUND:
        symbol["stale_reason"] = reason
        head_of(core)["stale_count"] += 1


@jit
def _mark_owner_stale(core: int, reference: int, sequence: int, ts_ns: int) -> None:
    orders = orders_of(core)
    order = orders[find(orders, reference)]
    if order["level"] != NONE:
        owner = order["book"] // SIDES
        mark_stale(core, owner, _LOCATE_MISMATCH)
        _publish(core, owner, NO_BOOK, sequence, ts_ns)


@inlined
def _publish(core: int, index: int, book: int, sequence: int, ts_ns: int) -> None:
    """Publish a symbol's condition when it differs from what was told last.

    ``book`` is the one whose best level may have changed, if there is one.
    """
    difference = 0
    if book != NO_BOOK:
        difference = _difference(core, index, book)
    _publish_if(core, index, difference, sequence, ts_ns)


@jit
def publish_both(core: int, index: int, sequence: int, ts_ns: int) -> None:
    """Publish a symbol's condition when anything of it differs from what was told last."""
    difference = _difference(core, index, SIDES * index + BIDS)
    difference |= _difference(core, index, SIDES * index + ASKS)
    _publish_if(core, index, difference, sequence, ts_ns)


@inlined
def _difference(core: int, index: int, book: int) -> int:
    """Return 0 when a book's best level is as it was told last; now it counts as told."""
    side = books_of(core)[book]
    price, shares, orders = best(core, book)
    difference = side["told_price"] ^ price
    difference |= side["told_shares"] ^ shares
    difference |= side["told_orders"] ^ orders
    side["told_price"] = price
    side["told_shares"] = shares
    side["told_orders"] = orders
    if shares > market.SHARES_MAX or orders > market.ORDERS_MAX:
        mark_stale(core, index, _LEVEL_OVERFLOW)
    return difference


@inlined
def _publish_if(core: int, index: int, difference: int, sequence: int, ts_ns: int) -> None:
    symbol = symbols_of(core)[index]
    difference |= symbol["told_stale"] ^ symbol["stale_reason"]
    difference |= symbol["told_state"] ^ symbol["trading_state"]
    if difference != 0:
        symbol["told_stale"] = symbol["stale_reason"]
        symbol["told_state"] = symbol["trading_state"]
        market.put_bbo(core, index, sequence, ts_ns)
