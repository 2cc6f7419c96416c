"""Pre-trade checks and the state they need, on integers alone.

The controls are those that SEC Rule 15c3-5 (c)(1) and MiFID II RTS 6, Article 15, ask for. Prices
are 1e-4 USD, quantities shares, times ns. A limit of 0 allows nothing: limits come up closed. The
lowest code of several reasons wins, and that is part of the meaning.
"""

from typing import NamedTuple

from protocol.reasons import DenyReason
from protocol.units import BASIS_POINTS


class Order(NamedTuple):
    """What a new order, or a replacement, asks for."""

    buys: bool
    order_qty: int
    """Shares that it can execute: of a replacement those that its chain has not executed yet."""
    added_qty: int
    """Shares it adds to those open already: all of a new order, the increase of a replacement."""
    price: int


class Market(NamedTuple):
    """What is known of the symbol's market."""

    bid_price: int
    ask_price: int
    halted: bool
    stale: bool


class Limits(NamedTuple):
    """Limits of one symbol. All closed by default."""

    qty_max: int = 0
    notional_max: int = 0
    position_max: int = 0
    price_band_bp: int = 0


class Rate(NamedTuple):
    """Message rate: at most ``burst`` at once, and one more every ``interval_ns``."""

    burst: int = 0
    interval_ns: int = 0
    due_ns: int = 0


class Exposure(NamedTuple):
    """What a symbol's orders have done and can still do, in shares. Long positions are positive."""

    position: int = 0
    open_buy: int = 0
    open_sell: int = 0


def exceeds_quantity(order_qty: int, qty_max: int) -> bool:
    """Whether an order is larger than one order may be."""
    return order_qty > qty_max


def exceeds_notional(price: int, order_qty: int, notional_max: int) -> bool:
    """Whether an order's value passes the limit, both in 1e-4 USD."""
    return price * order_qty > notional_max


def outside_band(price: int, bid_price: int, ask_price: int, price_band_bp: int) -> bool:
    """Whether a price is further from the mid than the band, in basis points of the mid.

    Twice the mid is the sum of both prices, so nothing is rounded. Where a side is empty there is
    no reference, and every price is outside.
    """
    if bid_price == 0 or ask_price == 0:
        return True
    twice_mid = bid_price + ask_price
    return abs(2 * price - twice_mid) * BASIS_POINTS > twice_mid * price_band_bp


def exceeds_position(exposure: Exposure, buys: bool, added_qty: int, position_max: int) -> bool:
    """Whether the position could pass the limit if all that is open on the order's side filled.

    Only the order's own side counts, so an order that flattens passes.
    """
    if buys:
        return exposure.position + exposure.open_buy + added_qty > position_max
    return exposure.open_sell + added_qty - exposure.position > position_max


def exceeds_rate(rate: Rate, now_ns: int) -> bool:
    """Whether another message is too early.

    A token bucket kept as one time: every message moves ``due_ns`` on by an interval, and is in
    time while that leaves it at most a whole burst ahead of now (the generic cell rate algorithm,
    ITU-T I.371, Annex A). A burst of 0 allows nothing.
    """
    after_ns = counted(rate, now_ns).due_ns
    return rate.burst == 0 or after_ns > now_ns + rate.burst * rate.interval_ns


def counted(rate: Rate, now_ns: int) -> Rate:
    """Return the rate after one more message."""
    return Rate(rate.burst, rate.interval_ns, max(rate.due_ns, now_ns) + rate.interval_ns)


def opened(exposure: Exposure, buys: bool, qty: int) -> Exposure:
    """Return the exposure after shares became open, or with a negative number no longer are."""
    position, open_buy, open_sell = exposure
    if buys:
        return Exposure(position, open_buy + qty, open_sell)
    return Exposure(position, open_buy, open_sell + qty)


def filled(exposure: Exposure, buys: bool, qty: int) -> Exposure:
    """Return the exposure after open shares were executed."""
    position, open_buy, open_sell = exposure
    if buys:
        return Exposure(position + qty, open_buy - qty, open_sell)
    return Exposure(position - qty, open_buy, open_sell - qty)


def deny_reason(
    order: Order,
    market: Market,
    limits: Limits,
    exposure: Exposure,
    rate: Rate,
    now_ns: int,
) -> DenyReason:
    """Return why an order must not leave, or ``NONE``."""
    if limits.qty_max == 0:
        return DenyReason.UNKNOWN_SYMBOL
    if market.halted:
        return DenyReason.SYMBOL_HALTED
    if market.stale:
        return DenyReason.BOOK_STALE
    if order.order_qty == 0:
        return DenyReason.QUANTITY_ZERO
    if exceeds_quantity(order.order_qty, limits.qty_max):
        return DenyReason.QUANTITY_EXCEEDS_MAXIMUM
    if exceeds_notional(order.price, order.order_qty, limits.notional_max):
        return DenyReason.NOTIONAL_EXCEEDS_MAXIMUM
    if order.price == 0:
        return DenyReason.PRICE_ZERO
    if outside_band(order.price, market.bid_price, market.ask_price, limits.price_band_bp):
        return DenyReason.PRICE_OUTSIDE_BAND
    if exceeds_position(exposure, order.buys, order.added_qty, limits.position_max):
        return DenyReason.POSITION_EXCEEDS_LIMIT
    if exceeds_rate(rate, now_ns):
        return DenyReason.MESSAGE_RATE_EXCEEDED
    return DenyReason.NONE
