"""The gate's functions: jitted, on arrays, without an allocation.

The last record of ``symbols`` and ``accounts`` is always closed and stands for every index that is
out of range, so no index reads beyond the arrays.
"""

from typing import Any

import numpy as np

from kernels.exposure import (
    QUANTITY_MASK,
    Newest,
    counted,
    ended,
    filled,
    level_filled,
    level_opened,
    opened,
    rested,
)
from kernels.risk import (
    Account,
    Order,
    Ready,
    added_notional,
    added_qty,
    lower_code,
    notional,
    reason_of_levels,
    reason_of_order,
    reason_of_symbol,
)
from sw.jit import array_at, jit
from sw.risk.records import (
    ACCOUNT,
    SIDE,
    SYMBOL,
    account_of,
    exposure_of,
    keep_exposure,
    keep_level,
    keep_newest,
    keep_resting,
    level_of,
    limits_of,
    market_of,
    newest_of,
    rate_of,
    resting_of,
)

FIRM = 0
"""Place of the firm's account; those of the desks and of the traders follow."""

CONTEXT_SIZE = 6
"""Numbers by which functions of one order find the arrays: see :func:`_views`."""

_LEVEL_COUNT = 3
_U32_MAX = 0xFFFF_FFFF


@jit
def _place(index: int, first: int, count: int) -> int:
    """Return the place of an index in an array of so many records, or of the closed one."""
    return first + index if 0 <= index < count - 1 - first else count - 1


@jit
def _order(
    trader: int, buys: bool, order_qty: int, price: int, orig_qty: int, orig_price: int
) -> Order:
    """Return an order in the kernels' ranges: what is out of them is too much, or no price."""
    return Order(
        buys,
        order_qty if 0 <= order_qty <= _U32_MAX else _U32_MAX,
        price if 0 <= price <= _U32_MAX else 0,
        orig_qty if 0 <= orig_qty <= QUANTITY_MASK else 0,
        orig_price if 0 <= orig_price <= _U32_MAX else 0,
        trader,
    )


@jit
def _pass_level(row: Any, account: Account, buys: bool, added: int, now_ns: int) -> None:
    """Count an order that passed with one of the three levels."""
    row["rate"]["due_ns"] = counted(account.rate, now_ns).due_ns
    keep_level(row["level"], level_opened(account.level, buys, added))


@jit
def _decide(
    symbols: Any,
    sides: Any,
    accounts: Any,
    first: int,
    symbol_index: int,
    order: Order,
    ready: Ready,
    now_ns: int,
) -> int:
    """Return why an order must not leave, lowest code first, or 0 and count it."""
    at = _place(symbol_index, 0, len(symbols))
    trader_at = _place(order.trader, first, len(accounts))
    symbol, side = symbols[at], int(order.buys)
    own_side, opposite_side = sides[at, side], sides[at, 1 - side]
    desk_at = accounts[trader_at]["parent"]
    trader, desk, firm = accounts[trader_at], accounts[desk_at], accounts[FIRM]
    limits, exposure = limits_of(symbol["limits"]), exposure_of(symbol["exposure"])
    own, newest = resting_of(own_side["resting"]), newest_of(own_side["newest"])
    of_trader, of_desk, of_firm = account_of(trader), account_of(desk), account_of(firm)
    qty = order.order_qty & QUANTITY_MASK
    added = added_notional(order.price, qty, order.orig_price, order.orig_qty)

    is_killed = bool(trader["killed"] or desk["killed"] or firm["killed"])
    by_order = reason_of_order(order, ready, market_of(symbol["market"]), limits, is_killed)
    by_symbol = reason_of_symbol(
        order, limits, exposure, own, resting_of(opposite_side["resting"]), newest, now_ns
    )
    by_levels = reason_of_levels(order.buys, added, of_trader, of_desk, of_firm, now_ns)
    reason = lower_code(lower_code(by_order, by_symbol), by_levels)
    if reason != 0:
        return reason

    keep_exposure(symbol["exposure"], opened(exposure, order.buys, added_qty(qty, order.orig_qty)))
    keep_resting(own_side["resting"], rested(own, order.buys, order.price))
    keep_newest(own_side["newest"], Newest(order.trader, qty, order.price, now_ns))
    _pass_level(trader, of_trader, order.buys, added, now_ns)
    _pass_level(desk, of_desk, order.buys, added, now_ns)
    _pass_level(firm, of_firm, order.buys, added, now_ns)
    return 0


@jit
def decide_batch(
    symbols: Any, sides: Any, accounts: Any, first: int, orders: Any, reasons: Any
) -> None:
    """Decide orders one after the other, and count those that pass.

    Parameters
    ----------
    symbols, sides, accounts : arrays of SYMBOL, SIDE, ACCOUNT
        The state.
    first : int
        Place of the first trader's account.
    orders : array of ORDER
        The orders.
    reasons : array of integers
        Takes each order's :class:`~protocol.reasons.DenyReason`.
    """
    for index in range(len(orders)):
        row = orders[index]
        order = _order(
            int(row["trader"]),
            bool(row["buys"]),
            int(row["order_qty"]),
            int(row["price"]),
            int(row["orig_qty"]),
            int(row["orig_price"]),
        )
        ready = Ready(bool(row["session"]), bool(row["order"]), bool(row["slot"]))
        reasons[index] = _decide(
            symbols, sides, accounts, first, int(row["symbol"]), order, ready, int(row["now_ns"])
        )


# One at a time: everything by the address of the context, as arrays cost more than the check.


@jit
def _views(context: int) -> Any:
    """Return the arrays whose addresses and lengths stand at an address, and the first trader."""
    at = array_at(context, CONTEXT_SIZE, np.int64)
    symbols = array_at(at[0], at[1], SYMBOL)
    sides = array_at(at[2], (at[1], 2), SIDE)
    accounts = array_at(at[3], at[4], ACCOUNT)
    return symbols, sides, accounts, at[5]


@jit
def decide_new(
    context: int,
    symbol: int,
    trader: int,
    buys: bool,
    order_qty: int,
    price: int,
    session: bool,
    slot: bool,
    now_ns: int,
) -> int:
    """Decide a new order."""
    symbols, sides, accounts, first = _views(context)
    order = _order(trader, buys, order_qty, price, 0, 0)
    ready = Ready(session, True, slot)
    return _decide(symbols, sides, accounts, first, symbol, order, ready, now_ns)


@jit
def decide_replacement(
    context: int,
    symbol: int,
    trader: int,
    buys: bool,
    order_qty: int,
    price: int,
    orig_qty: int,
    orig_price: int,
    session: bool,
    is_open: bool,
    slot: bool,
    now_ns: int,
) -> int:
    """Decide a replacement."""
    symbols, sides, accounts, first = _views(context)
    order = _order(trader, buys, order_qty, price, orig_qty, orig_price)
    ready = Ready(session, is_open, slot)
    return _decide(symbols, sides, accounts, first, symbol, order, ready, now_ns)


@jit
def execute(
    context: int,
    symbol: int,
    trader: int,
    buys: bool,
    price: int,
    last_price: int,
    last_qty: int,
    ends: bool,
) -> None:
    """Count an execution of open shares."""
    symbols, sides, accounts, first = _views(context)
    at = _place(symbol, 0, len(symbols))
    exposure = symbols[at]["exposure"]
    keep_exposure(exposure, filled(exposure_of(exposure), buys, last_qty))
    as_open, as_executed = notional(price, last_qty), notional(last_price, last_qty)
    account = _place(trader, first, len(accounts))
    for _ in range(_LEVEL_COUNT):
        row = accounts[account]["level"]
        keep_level(row, level_filled(level_of(row), buys, as_open, as_executed))
        account = accounts[account]["parent"]
    if ends:
        own = sides[at, int(buys)]["resting"]
        keep_resting(own, ended(resting_of(own), price))


@jit
def release(
    context: int,
    symbol: int,
    trader: int,
    buys: bool,
    price: int,
    qty: int,
    money: int,
    ends: bool,
) -> None:
    """Take back what was counted as open."""
    symbols, sides, accounts, first = _views(context)
    at = _place(symbol, 0, len(symbols))
    exposure = symbols[at]["exposure"]
    keep_exposure(exposure, opened(exposure_of(exposure), buys, -qty))
    account = _place(trader, first, len(accounts))
    for _ in range(_LEVEL_COUNT):
        row = accounts[account]["level"]
        keep_level(row, level_opened(level_of(row), buys, -money))
        account = accounts[account]["parent"]
    if ends:
        own = sides[at, int(buys)]["resting"]
        keep_resting(own, ended(resting_of(own), price))


@jit
def count_message(context: int, trader: int, now_ns: int) -> None:
    """Count a message that was not decided on, such as a cancel."""
    _, _, accounts, first = _views(context)
    account = _place(trader, first, len(accounts))
    for _ in range(_LEVEL_COUNT):
        row = accounts[account]["rate"]
        row["due_ns"] = counted(rate_of(row), now_ns).due_ns
        account = accounts[account]["parent"]
