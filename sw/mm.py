"""Market making: one symmetric quote around the mid, bounded by inventory."""

from dataclasses import dataclass

from protocol.orders import Side
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
    """Quotes one symbol on both sides, passively: it never takes.

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

    def on_event(self, now_ns: int) -> None:
        """Bring both quotes to where they should be. Called after the market or an order moved."""
        position = self._risk.exposures[self._symbol_index].position
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
        if order is not None and not order.is_open and order.orig is not None:
            order = self._orders[side] = order.orig  # A refused replacement: the original stands.
        if order is None or not order.is_open:
            if qty > 0 and price > 0:
                self._orders[side] = self._oms.submit(self._symbol_index, side, qty, price, now_ns)
        elif order.is_live:
            self._adjust(order, price, qty, now_ns)

    def _adjust(self, order: Order, price: int, qty: int, now_ns: int) -> None:
        if qty <= 0 or price <= 0:
            self._oms.cancel(order, now_ns)
            return
        away = abs(price - order.price)
        if away >= self._quoting.requote_ticks * self._quoting.tick_size or order.leaves_qty > qty:
            replacement = self._oms.replace(order, order.cum_qty + qty, price, now_ns)
            if replacement is not None:
                self._orders[order.side] = replacement
