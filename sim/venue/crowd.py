"""The crowd of a venue on sockets: generated order flow, entered as orders of a participant.

The same models as those of a generated day (:mod:`sim.venue.flow`), against the book as clients
leave it: their orders trade with the crowd's, and a side that they have emptied fills up again.
"""

from dataclasses import replace
from itertools import count
from random import Random
from typing import cast

import msgspec

from protocol import ouch50
from protocol.layout import Value
from protocol.orders import Side
from protocol.units import NS_PER_SECOND
from sim.venue.exchange import Client, Exchange
from sim.venue.flow import LEVELS_INITIAL, LEVELS_MIN, Flow, Traded
from sim.venue.matching import BookSide, Event, MatchingEngine, NewOrder, Order, opposite
from sim.venue.model import MODELS
from sim.venue.settings import FlowConfig

BEHIND_MAX_NS = NS_PER_SECOND
"""What a venue that stood still for longer has missed does not happen."""

_TICK = 100
_TERMS: dict[str, Value] = {
    "display": "Y",
    "inter_market_sweep_eligibility": "N",
    "cl_ord_id": "",
}


class _NobodyThereError(Exception):
    """The crowd has no order in a symbol."""


class _Side:
    """One side of a book: everybody's prices, and the crowd's own orders."""

    def __init__(self, side: BookSide, orders: "_Orders"):
        self._side = side
        self._orders = orders

    @property
    def best_price(self) -> int | None:
        return self._side.best_price

    @property
    def depth(self) -> int:
        return self._side.depth

    def first(self, limit: int) -> Order | None:
        found = self._side.first(limit)
        return None if found is None else self._orders.own(found)


class _Orders:
    """What a flow needs of a matching engine, said in OUCH 5.0 by one client."""

    def __init__(self, exchange: Exchange, client: Client):
        self._exchange = exchange
        self._client = client
        self.now_ns = 0

    def book_side(self, locate: int, side: Side) -> _Side:
        return _Side(self._exchange.engine.book_side(locate, side), self)

    def own(self, order: Order) -> Order | None:
        """Return an order under the crowd's own number, None if it is somebody else's."""
        ref = self._client.ref_of(order.order_id)
        return None if ref is None else replace(order, order_id=ref)

    def order(self, ref: int) -> Order | None:
        found = self._exchange.engine.order(self._client.order_id(ref))
        return None if found is None else self.own(found)

    def enter(self, order: NewOrder) -> list[Event]:
        return self._say(
            ouch50.ENTER_ORDER,
            user_ref_num=order.order_id,
            side=chr(order.side),
            quantity=order.order_qty,
            symbol=self._exchange.stocks[order.locate],
            price=order.price,
            time_in_force=chr(order.time_in_force),
            capacity="P",
            cross_type="N",
            **_TERMS,
        )

    def cancel(self, ref: int, qty_intended: int = 0) -> list[Event]:
        return self._say(ouch50.CANCEL_ORDER_REQUEST, user_ref_num=ref, quantity=qty_intended)

    def replace(self, orig: int, ref: int, qty: int, price: int) -> list[Event]:
        return self._say(
            ouch50.REPLACE_ORDER_REQUEST,
            orig_user_ref_num=orig,
            user_ref_num=ref,
            quantity=qty,
            price=price,
            time_in_force="0",
            **_TERMS,
        )

    def _say(self, message: ouch50.Message, **values: Value) -> list[Event]:
        self._exchange.receive(self._client, (ouch50.pack(message, values),), self.now_ns)
        return []


class Crowd(Flow):
    """Generated order flow in all symbols of a venue.

    Parameters
    ----------
    exchange : Exchange
        The venue; it must have a crowd's client.
    config : FlowConfig
        Which model, and how busy.
    seed : str
        Of everything random.
    now_ns : int
        When it begins, ns since midnight.
    """

    def __init__(self, exchange: Exchange, config: FlowConfig, seed: str, now_ns: int):
        client = exchange.crowd
        if client is None:
            raise ValueError("exchange must be of a venue with a flow")
        self._orders = _Orders(exchange, client)
        self._orders.now_ns = now_ns
        model = MODELS[config.model]
        # The finest tick at which everything is a price that the venue takes.
        increment = exchange.increment(_TICK * model.prices.start_max)
        tick = increment if _TICK % increment else _TICK
        model = msgspec.structs.replace(
            model, prices=msgspec.structs.replace(model.prices, tick=tick)
        )
        super().__init__(
            Random(seed),
            [exchange.stocks[locate] for locate in sorted(exchange.stocks)],
            now_ns,
            model.arrivals.rate_hz if config.rate_hz is None else config.rate_hz,
            model,
            cast(MatchingEngine, self._orders),
        )
        self.refs = count(client.port.next_ref)
        self._resume(client)
        self._concerns = self.symbols[0]

    def _resume(self, client: Client) -> None:
        """Take over what a journal has brought back, and its prices with it."""
        for ref in client.port.live_refs:
            order = self._orders.order(ref)
            if order is not None:
                self.symbols[order.locate - 1].refs.append(ref)
        for symbol in self.symbols:
            bid, ask = symbol.bids.best_price, symbol.asks.best_price
            if bid is not None and ask is not None:
                symbol.price_start = (bid + ask) // 2 // self.tick * self.tick

    def run_until(self, now_ns: int) -> None:
        """Let everything happen that is due by now."""
        if now_ns - self.now_ns > BEHIND_MAX_NS:
            self.now_ns = now_ns
        while self.now_ns <= now_ns:
            self._orders.now_ns = self.now_ns
            self._act(self._concerns)
            self._next()

    def _next(self) -> None:
        gap_ns = self._advance()
        self._concerns = self._concerned(self._concerns, gap_ns)

    def _act(self, symbol: Traded) -> list[bytes]:
        for side in (Side.BUY, Side.SELL):
            if symbol.side(side).depth <= LEVELS_MIN:
                return self._fill_up(symbol, side)
        try:
            return super()._act(symbol)
        except _NobodyThereError:
            return self._fill_up(symbol, self._any_side())

    def _fill_up(self, symbol: Traded, side: Side) -> list[bytes]:
        """Put orders at the prices behind the best one, or where a first one belongs."""
        up = 1 if side is Side.BUY else -1
        other = symbol.side(opposite(side)).best_price
        price = int(self._fair(symbol)) // self.tick * self.tick
        if other is not None:
            price = up * min(up * price, up * other)
        for distance in range(1, LEVELS_INITIAL + 1):
            self._add(symbol, side, max(price - up * distance * self.tick, self.tick))
        return []

    def _enter(self, symbol: Traded, order: NewOrder) -> list[bytes]:
        self.engine.enter(order)
        if self.engine.order(order.order_id) is not None:
            symbol.refs.append(order.order_id)
        return []

    def _trade_hidden(self, symbol: Traded) -> list[bytes]:
        # The tape of a generated day has trades whose orders nobody saw; here there are none.
        return []

    def _pick(self, symbol: Traded) -> Order:
        try:
            return super()._pick(symbol)
        except IndexError:
            raise _NobodyThereError from None
