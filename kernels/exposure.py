"""What a risk gate counts: shares, money, messages and our own resting orders.

Prices are 1e-4 USD, quantities shares, times ns, money 1e-4 USD.

Widths. What does not fit is denied by a rule with a lower code, so no sum wraps:

- ``Quantity``, 20 bits: OUCH 5.0 allows less than 1,000,000 shares [OUCH 5.0: 2.1], and ``qty_max``
  has no more bits. The rules behind QUANTITY_EXCEEDS_MAXIMUM see 20 bits of the quantity.
- ``Price``, 32 bits, as on every wire. ``Notional``, 52 bits: their product.
- A position and what is open on a side, 32 bits: limits have 31 bits, so the position stays within
  one limit either way, and what is open within two.
- ``Money``, 56 bits: 7.2e12 USD, more than all US shares turn over in a week. Executions are facts
  and can not be denied: sums of money stop at the end of their range, where every order is denied.
- ``Time``, 62 bits: until the year 2116.
"""

from typing import NamedTuple

from kernels.types import S32, S54, S57, S60, U10, U16, U20, U32, U40, U52, U56, U62, Bool, kernel

Quantity = U20
Price = U32
Notional = U52
Money = U56
Time = U62

QUANTITY_MASK = (1 << 20) - 1
SHARES_MAX = (1 << 32) - 1
NOTIONAL_MAX = (1 << 52) - 1
POSITION_MAX = (1 << 31) - 1
MONEY_MAX = (1 << 56) - 1
TIME_MAX = (1 << 62) - 1
BURST_NS_MAX = (1 << 40) - 1
OPEN_ORDERS_MAX = (1 << 16) - 1


class Exposure(NamedTuple):
    """What a symbol's orders have done and can still do, in shares. Long positions are positive."""

    position: S32 = 0
    open_buy: U32 = 0
    open_sell: U32 = 0


class Resting(NamedTuple):
    """Our open orders on one side of a symbol: how many, and their best price.

    The ``best_orders`` orders of ``best_price`` are followed one by one. Of those behind only the
    best price is kept that one of them ever had, so ours is never better than what this tells, and
    it is exact while there are two prices at most.
    """

    orders: U16 = 0
    best_orders: U16 = 0
    best_price: Price = 0
    behind_price: Price = 0


class Newest(NamedTuple):
    """The newest order that passed on one side of a symbol. A price of 0: there was none."""

    trader: U10 = 0
    order_qty: Quantity = 0
    price: Price = 0
    at_ns: Time = 0


class Rate(NamedTuple):
    """A token bucket kept as one time: ``burst_ns`` of messages at once, one ``interval_ns`` each.

    Every message moves ``due_ns`` on by an interval, and is in time while that leaves it at most
    the burst ahead of now: the generic cell rate algorithm. [ITU-T I.371: Annex A] It is the bucket
    of ``burst_ns / interval_ns`` tokens without a division. A burst of 0 allows nothing.
    """

    interval_ns: U32 = 0
    burst_ns: U40 = 0
    due_ns: Time = 0


class Level(NamedTuple):
    """What a trader, a desk or the firm has traded and can still trade, in money.

    ``net`` is bought less sold; open orders count at their limit price. ``gross`` is bought and
    sold and open.
    """

    net: S57 = 0
    open_buy: Money = 0
    open_sell: Money = 0
    gross: Money = 0


def token_bucket(burst: int, interval_ns: int) -> Rate:
    """Return the rate of so many messages at once, and one more each interval.

    What does not fit becomes the tighter rate that does.
    """
    return Rate(interval_ns, min(burst * interval_ns, BURST_NS_MAX))


@kernel
def bounded(total: S60) -> Money:
    """Return a sum of money, or the end of its range that it would leave."""
    return min(max(total, 0), MONEY_MAX)


@kernel
def opened(exposure: Exposure, buys: Bool, qty: S32) -> Exposure:
    """Return the exposure after shares became open, or with a negative number no longer are."""
    position, open_buy, open_sell = exposure
    if buys:
        return Exposure(position, min(max(open_buy + qty, 0), SHARES_MAX), open_sell)
    return Exposure(position, open_buy, min(max(open_sell + qty, 0), SHARES_MAX))


@kernel
def filled(exposure: Exposure, buys: Bool, qty: Quantity) -> Exposure:
    """Return the exposure after open shares were executed."""
    position, open_buy, open_sell = exposure
    if buys:
        return Exposure(min(position + qty, POSITION_MAX), max(open_buy - qty, 0), open_sell)
    return Exposure(max(position - qty, -POSITION_MAX), open_buy, max(open_sell - qty, 0))


@kernel
def level_opened(level: Level, buys: Bool, money: S54) -> Level:
    """Return the level after orders worth so much became open, or no longer are."""
    gross = bounded(level.gross + money)
    if buys:
        return Level(level.net, bounded(level.open_buy + money), level.open_sell, gross)
    return Level(level.net, level.open_buy, bounded(level.open_sell + money), gross)


@kernel
def level_filled(level: Level, buys: Bool, as_open: Notional, executed: Notional) -> Level:
    """Return the level after an execution. It was counted as open at its limit price."""
    gross = bounded(level.gross - as_open + executed)
    if buys:
        net = min(level.net + executed, MONEY_MAX)
        return Level(net, bounded(level.open_buy - as_open), level.open_sell, gross)
    net = max(level.net - executed, -MONEY_MAX)
    return Level(net, level.open_buy, bounded(level.open_sell - as_open), gross)


@kernel
def counted(rate: Rate, now_ns: Time) -> Rate:
    """Return the rate after one more message."""
    due_ns = min(max(rate.due_ns, now_ns) + rate.interval_ns, TIME_MAX)
    return Rate(rate.interval_ns, rate.burst_ns, due_ns)


@kernel
def resting_price(resting: Resting) -> Price:
    """Return the best price of our open orders on a side, or a better one; 0 without any."""
    if resting.orders == 0:
        return 0
    return resting.best_price if resting.best_orders > 0 else resting.behind_price


@kernel
def rested(resting: Resting, buys: Bool, price: Price) -> Resting:
    """Return our open orders on a side after one more."""
    orders = min(resting.orders + 1, OPEN_ORDERS_MAX)
    best_price = resting_price(resting)
    is_best = resting.best_orders > 0 and price == best_price
    is_better = best_price == 0 or (price >= best_price if buys else price <= best_price)
    if is_best:
        best_orders = min(resting.best_orders + 1, OPEN_ORDERS_MAX)
        return Resting(orders, best_orders, price, resting.behind_price)
    if is_better:
        return Resting(orders, 1, price, best_price)
    behind = resting.behind_price
    is_first_behind = resting.orders == resting.best_orders
    if is_first_behind or (price > behind if buys else price < behind):
        behind = price
    return Resting(orders, resting.best_orders, resting.best_price, behind)


@kernel
def ended(resting: Resting, price: Price) -> Resting:
    """Return our open orders on a side after one of this price ended."""
    orders, best_orders, best_price, behind_price = resting
    if best_orders > 0 and price == best_price:
        best_orders = best_orders - 1
    return Resting(max(orders - 1, 0), best_orders, best_price, behind_price)
