"""Pre-trade risk: the rules, what they remember, and which reason wins.

Every rule is a kernel of its own. The rules are those that SEC Rule 15c3-5 (c), MiFID II RTS 6
(Commission Delegated Regulation (EU) 2017/589), Articles 15 and 12, and the risk reasons of OUCH
5.0 (Appendix, reject reasons) ask for; each names its source. ``docs/risk.md`` tells what the
levels, widths and reference price mean.

Prices are 1e-4 USD, quantities shares, times ns, money 1e-4 USD. Everything comes up closed: a
limit of 0 allows nothing. :mod:`kernels.exposure` has the widths.
"""

from typing import NamedTuple

from kernels.exposure import (
    NOTIONAL_MAX,
    OPEN_ORDERS_MAX,
    QUANTITY_MASK,
    Exposure,
    Level,
    Money,
    Newest,
    Notional,
    Price,
    Quantity,
    Rate,
    Resting,
    Time,
    resting_price,
)
from kernels.types import U3, U5, U7, U10, U16, U31, U32, U33, U40, Bool, kernel
from protocol.reasons import DenyReason
from protocol.units import BASIS_POINTS, PRICE_SCALE

PENNY = 100
HALF_PENNY = 50


class Order(NamedTuple):
    """What a new order, or a replacement, asks for.

    ``order_qty`` is what it can execute: of a replacement what its chain has not executed yet.
    ``orig_qty`` and ``orig_price`` are those that the replaced order still counts as open; 0 tells
    a new order.
    """

    buys: Bool
    order_qty: U32
    price: Price
    orig_qty: Quantity = 0
    orig_price: Price = 0
    trader: U10 = 0


class Ready(NamedTuple):
    """What must be in place besides the rules.

    ``session``: there is an order entry session. ``order``: a replacement's original is open.
    ``slot``: there is room in the rings for the order and its answers.
    """

    session: Bool = True
    order: Bool = True
    slot: Bool = True


class Market(NamedTuple):
    """What is known of a symbol's market. A price of 0 is none. ``phase`` is a ``MarketPhase``."""

    bid_price: Price = 0
    ask_price: Price = 0
    last_price: Price = 0
    halted: Bool = False
    stale: Bool = False
    phase: U3 = 0


class Limits(NamedTuple):
    """Limits of one symbol. All closed by default.

    ``tick_size`` is 100, 50 or 1, in 1e-4 USD. ``locate_qty``: shares located for short sales.
    ``duplicate_window_ns`` of 0 lets equal orders through. ``phases`` has a bit for each phase in
    which orders may be sent.
    """

    qty_max: Quantity = 0
    notional_max: Notional = 0
    position_max: U31 = 0
    price_band_bp: U16 = 0
    tick_size: U7 = 0
    locate_qty: U31 = 0
    duplicate_window_ns: U40 = 0
    phases: U5 = 0
    restricted: Bool = True


class LevelLimits(NamedTuple):
    """Limits of a trader, a desk or the firm. All closed by default."""

    gross_max: Money = 0
    net_max: Money = 0


class Account(NamedTuple):
    """A trader, a desk or the firm: limits, message rate, and what was used of them."""

    limits: LevelLimits
    rate: Rate
    level: Level


# One order by itself.


@kernel
def exceeds_quantity(order_qty: U32, qty_max: Quantity) -> Bool:
    """Whether an order is larger than one order may be.

    [15c3-5 (c)(1)(ii); RTS 6: 15 (1)(c)]
    """
    return order_qty > qty_max


@kernel
def notional(price: Price, qty: Quantity) -> Notional:
    """Return what shares are worth at a price."""
    return price * qty


@kernel
def exceeds_notional(price: Price, order_qty: Quantity, notional_max: Notional) -> Bool:
    """Whether an order's value passes the limit, both in 1e-4 USD.

    [15c3-5 (c)(1)(ii); RTS 6: 15 (1)(b)]
    """
    return price * order_qty > notional_max


@kernel
def off_tick(price: Price, tick_size: U7) -> Bool:
    """Whether a price is no multiple of its tick. Below 1 USD the tick is 0.0001 USD.

    Any other tick size than a penny, half of one, or 1 allows no price from 1 USD on.
    [Regulation NMS: Rule 612; OUCH 5.0: reject reason invalid price]
    """
    if price < PRICE_SCALE or tick_size == 1:
        return False
    # 1024 is one less than 41 times 25, so digits of 10 bits, added with changing signs, leave the
    # same rest as the price itself, in a number that is short to divide. 1050 keeps it above 0.
    low = (price & 1023) - (price >> 10 & 1023)
    high = (price >> 20 & 1023) - (price >> 30) + 1050
    if (low + high) % 25 != 0:
        return True
    if tick_size == PENNY:
        return price & 3 != 0
    return tick_size != HALF_PENNY or price & 1 != 0


@kernel
def twice_reference(bid_price: Price, ask_price: Price, last_price: Price) -> U33:
    """Return twice the price that others are measured by, or 0 where there is none.

    The mid of a book with two sides that are not crossed, else the last trade. Twice, so that
    nothing is rounded.
    """
    if 0 < bid_price <= ask_price:
        return bid_price + ask_price
    return 2 * last_price


@kernel
def outside_band(price: Price, twice_reference: U33, price_band_bp: U16) -> Bool:
    """Whether a price is further from the reference than the band, in basis points of it.

    Without a reference every price is outside. [15c3-5 (c)(1)(ii); RTS 6: 15 (1)(a)]
    """
    scaled = price * (2 * BASIS_POINTS)
    low = twice_reference * (BASIS_POINTS - price_band_bp)
    high = twice_reference * (BASIS_POINTS + price_band_bp)
    return twice_reference == 0 or scaled < low or scaled > high


@kernel
def forbids_phase(phases: U5, phase: U3) -> Bool:
    """Whether no order may be sent in a phase of the market's day. [15c3-5 (c)(2)(i)]"""
    return phases >> phase & 1 == 0


# One order and what came before it.


@kernel
def added_qty(order_qty: Quantity, orig_qty: Quantity) -> Quantity:
    """Return the shares that an order adds to those open: of a replacement its increase."""
    return max(order_qty - orig_qty, 0)


@kernel
def added_notional(
    price: Price, order_qty: Quantity, orig_price: Price, orig_qty: Quantity
) -> Notional:
    """Return the money that an order adds to what is open.

    Until the venue answers a replacement, either order of the chain may execute, and first some
    shares at one price and then the rest at the other. The increase counts at the new price, and
    what both have in common at the higher one.
    """
    if price <= orig_price:
        return price * max(order_qty - orig_qty, 0)
    # Neither factor of the second product is the greater one, so nothing is below zero: the mask
    # drops a sign that only the widths leave room for.
    return (price * order_qty - orig_price * min(order_qty, orig_qty)) & NOTIONAL_MAX


@kernel
def exceeds_position(exposure: Exposure, buys: Bool, qty: Quantity, position_max: U31) -> Bool:
    """Whether the position could pass the limit if all that is open on the order's side filled.

    Only the order's own side counts, so an order that flattens passes. [15c3-5 (c)(1)(i); RTS 6:
    15 (4)]
    """
    if buys:
        return exposure.position + exposure.open_buy + qty > position_max
    return exposure.open_sell + qty - exposure.position > position_max


@kernel
def lacks_locate(exposure: Exposure, buys: Bool, qty: Quantity, locate_qty: U31) -> Bool:
    """Whether a sale could leave us short of more shares than were located.

    Shares that open orders may buy do not help. [Regulation SHO: 203 (b)(1); 15c3-5 (c)(2)(i)]
    """
    return not buys and exposure.open_sell + qty - exposure.position > locate_qty


@kernel
def crosses_own(buys: Bool, price: Price, own_price: Price) -> Bool:
    """Whether an order reaches our own best price on the other side; 0 is none.

    [FINRA 5210.02]
    """
    if own_price == 0:
        return False
    return price >= own_price if buys else price <= own_price


@kernel
def repeats(order: Order, newest: Newest, now_ns: Time, window_ns: U40) -> Bool:
    """Whether a new order is the newest one of its trader and side again, within the window.

    [15c3-5 (c)(1)(ii): duplicative orders; RTS 6: 15 (3)]
    """
    is_same = (
        order.price == newest.price
        and order.order_qty == newest.order_qty
        and order.trader == newest.trader
    )
    is_soon = window_ns > 0 and now_ns < newest.at_ns + window_ns
    return is_same and is_soon and order.orig_qty == 0


@kernel
def exceeds_rate(rate: Rate, now_ns: Time) -> Bool:
    """Whether another message is too early. [RTS 6: 15 (1)(d)]"""
    if rate.burst_ns == 0 or rate.burst_ns < rate.interval_ns:
        return True
    return rate.due_ns + rate.interval_ns > now_ns + rate.burst_ns


@kernel
def exceeds_gross(gross: Money, added: Notional, gross_max: Money) -> Bool:
    """Whether all that was traded and is open passes the limit. [15c3-5 (c)(1)(i)]"""
    return gross + added > gross_max


@kernel
def exceeds_net(level: Level, buys: Bool, added: Notional, net_max: Money) -> Bool:
    """Whether bought less sold could pass the limit if all open on the order's side filled.

    Only the order's own side counts, so an order that flattens passes. [15c3-5 (c)(1)(i)]
    """
    if buys:
        return level.net + level.open_buy + added > net_max
    return level.open_sell + added - level.net > net_max


# All together.


@kernel
def reason_of_order(
    order: Order, ready: Ready, market: Market, limits: Limits, is_killed: Bool
) -> U5:
    """Return the lowest reason that needs nothing of what the gate remembers, or ``NONE``."""
    qty = order.order_qty & QUANTITY_MASK
    reference = twice_reference(market.bid_price, market.ask_price, market.last_price)
    if is_killed:
        return DenyReason.KILL_SWITCH
    if not ready.session:
        return DenyReason.SESSION_NOT_READY
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
    if exceeds_notional(order.price, qty, limits.notional_max):
        return DenyReason.NOTIONAL_EXCEEDS_MAXIMUM
    if order.price == 0:
        return DenyReason.PRICE_ZERO
    if outside_band(order.price, reference, limits.price_band_bp):
        return DenyReason.PRICE_OUTSIDE_BAND
    if not ready.order:
        return DenyReason.UNKNOWN_ORDER
    if not ready.slot:
        return DenyReason.NO_RING_SLOT
    if off_tick(order.price, limits.tick_size):
        return DenyReason.PRICE_OFF_TICK
    if limits.restricted:
        return DenyReason.SYMBOL_RESTRICTED
    if forbids_phase(limits.phases, market.phase):
        return DenyReason.PHASE_NOT_ALLOWED
    return DenyReason.NONE


@kernel
def reason_of_symbol(
    order: Order,
    limits: Limits,
    exposure: Exposure,
    own: Resting,
    opposite: Resting,
    newest: Newest,
    now_ns: Time,
) -> U5:
    """Return the lowest reason that the symbol's past gives, or ``NONE``.

    ``own`` and ``newest`` are those of the order's side, ``opposite`` of the other one.
    """
    qty = added_qty(order.order_qty & QUANTITY_MASK, order.orig_qty)
    if exceeds_position(exposure, order.buys, qty, limits.position_max):
        return DenyReason.POSITION_EXCEEDS_LIMIT
    if lacks_locate(exposure, order.buys, qty, limits.locate_qty):
        return DenyReason.SHORT_SALE_WITHOUT_LOCATE
    if crosses_own(order.buys, order.price, resting_price(opposite)):
        return DenyReason.SELF_TRADE
    if repeats(order, newest, now_ns, limits.duplicate_window_ns):
        return DenyReason.DUPLICATE_ORDER
    if own.orders == OPEN_ORDERS_MAX:
        return DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM
    return DenyReason.NONE


@kernel
def reason_of_levels(
    buys: Bool, added: Notional, trader: Account, desk: Account, firm: Account, now_ns: Time
) -> U5:
    """Return the lowest reason that trader, desk or firm give, or ``NONE``."""
    if (
        exceeds_rate(trader.rate, now_ns)
        or exceeds_rate(desk.rate, now_ns)
        or exceeds_rate(firm.rate, now_ns)
    ):
        return DenyReason.MESSAGE_RATE_EXCEEDED
    if exceeds_gross(trader.level.gross, added, trader.limits.gross_max):
        return DenyReason.TRADER_GROSS_EXCEEDS_LIMIT
    if exceeds_gross(desk.level.gross, added, desk.limits.gross_max):
        return DenyReason.DESK_GROSS_EXCEEDS_LIMIT
    if exceeds_gross(firm.level.gross, added, firm.limits.gross_max):
        return DenyReason.FIRM_GROSS_EXCEEDS_LIMIT
    if exceeds_net(trader.level, buys, added, trader.limits.net_max):
        return DenyReason.TRADER_NET_EXCEEDS_LIMIT
    if exceeds_net(desk.level, buys, added, desk.limits.net_max):
        return DenyReason.DESK_NET_EXCEEDS_LIMIT
    if exceeds_net(firm.level, buys, added, firm.limits.net_max):
        return DenyReason.FIRM_NET_EXCEEDS_LIMIT
    return DenyReason.NONE


@kernel
def lower_code(a: U5, b: U5) -> U5:
    """Return the reason with the lower code of two, where ``NONE`` is no reason."""
    if a == DenyReason.NONE:
        return b
    return a if b == DenyReason.NONE or a < b else b
