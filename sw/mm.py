"""Market making: one symmetric quote around the mid, bounded by inventory."""

from dataclasses import dataclass

from protocol.orders import OrderState, Side
from protocol.ouch50 import PRICE_MAX
from sw.feed import Quote
from sw.oms import Oms, Order
from sw.risk import Risk


@dataclass(frozen=True, slots=True)
class Quoting:
    """How to quote. Prices in 1e-4 USD, quantities in shares.

    ``half_spread``, half a tick at least, is kept between the mid and either quote, ``order_qty``
    shown on each side, the position never driven past ``inventory_max`` either way. A quote moves
    when it is ``requote_ticks`` or more away from where it should be.
    """

    half_spread: int
    order_qty: int
    inventory_max: int
    tick_size: int = 100
    requote_ticks: int = 1


class MarketMaker:
    """Quotes one symbol on both sides.

    Prices are passive against the market as the host sees it; what crosses by the time it arrives
    takes. Our own two quotes never meet: a side waits while it would reach the other's old price.
    What was refused is not asked for again before the market has changed.

    Parameters
    ----------
    symbol_index : int
        Symbol to quote.
    quoting : Quoting
        How.
    quote : Quote
        The feed's mirror of the symbol.
    oms, risk
        Where orders go, and where the position is read.
    """

    def __init__(self, symbol_index: int, quoting: Quoting, quote: Quote, oms: Oms, risk: Risk):
        self._symbol_index = symbol_index
        self._quoting = quoting
        self._quote = quote
        self._oms = oms
        self._risk = risk
        self._orders: dict[Side, Order | None] = {Side.BUY: None, Side.SELL: None}
        self._asked = {Side.BUY: -1, Side.SELL: -1}
        """Feed sequence number of the market that the last request was decided on."""
        self._refused = {Side.BUY: -1, Side.SELL: -1}
        """The same of the last request that was refused."""

    def on_event(self, now_ns: int) -> None:
        """Bring both quotes to where they should be. Called after the market or an order moved."""
        position = self._risk.exposure(self._symbol_index).position
        bid_price, ask_price = self._prices()
        room = self._quoting.inventory_max
        size = self._quoting.order_qty if self._quote.tradable else 0
        self._work(Side.BUY, bid_price, min(size, room - position), now_ns)
        self._work(Side.SELL, ask_price, min(size, room + position), now_ns)

    def _prices(self) -> tuple[int, int]:
        """Return bid and ask, rounded away from the mid, never through the other side's best."""
        quoting, quote = self._quoting, self._quote
        tick = quoting.tick_size
        twice_mid = quote.bid_price + quote.ask_price
        # Never less than half a tick, or our own quotes would meet.
        twice_half = max(2 * quoting.half_spread, tick)
        twice_bid = min(twice_mid - twice_half, 2 * (quote.ask_price - tick))
        twice_ask = max(twice_mid + twice_half, 2 * (quote.bid_price + tick))
        return twice_bid // (2 * tick) * tick, -(-twice_ask // (2 * tick)) * tick

    def _work(self, side: Side, price: int, qty: int, now_ns: int) -> None:
        order = self._orders[side]
        if order is not None and order.state in _REFUSED:
            self._refused[side] = self._asked[side]
            # The original of a refused replacement may still stand.
            orig = order.orig
            order = self._orders[side] = orig if orig is not None and orig.is_open else None
        if not 0 < price <= PRICE_MAX:
            qty = 0
        if order is not None and order.is_live and qty <= 0:
            self._asked[side] = -1  # Its end is what we want, and no refusal.
            self._oms.cancel(order, now_ns)
        elif qty > 0 and self._may_ask(side, price):
            if order is None or not order.is_open:
                self._asked[side] = self._quote.feed_sequence
                self._orders[side] = self._oms.submit(self._symbol_index, side, qty, price, now_ns)
            elif order.is_live and self._is_off(order, price, qty):
                self._asked[side] = self._quote.feed_sequence
                replacement = self._oms.replace(order, order.cum_qty + qty, price, now_ns)
                if replacement is None:
                    self._refused[side] = self._quote.feed_sequence
                else:
                    self._orders[side] = replacement

    def _is_off(self, order: Order, price: int, qty: int) -> bool:
        away = self._quoting.requote_ticks * self._quoting.tick_size
        return abs(price - order.price) >= away or order.leaves_qty > qty

    def _may_ask(self, side: Side, price: int) -> bool:
        """Whether the market has changed since a refusal, and our other quote is out of the way."""
        if self._refused[side] == self._quote.feed_sequence:
            return False
        other = self._orders[Side.SELL if side is Side.BUY else Side.BUY]
        while other is not None:  # A replacement that is under way, and what it replaces.
            if other.is_open and (other.price - price) * side.sign <= 0:
                return False
            other = other.orig if other.state is OrderState.PENDING_NEW else None
        return True


_REFUSED = frozenset({OrderState.DENIED, OrderState.REJECTED, OrderState.CANCELED})
