"""A price-time priority matching engine with the order entry rules of OUCH 5.0.

Prices are integers of 1e-4 USD, quantities are shares. An order id is the venue's own and stays
unique for the day; which participant it belongs to is the business of whoever calls.
"""

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum, StrEnum, unique
from itertools import count, islice
from typing import NamedTuple

from protocol.orders import Side, TimeInForce
from protocol.ouch50 import PRICE_MAX, QUANTITY_MAX


def opposite(side: Side) -> Side:
    """Return the side that an order of this side trades with."""
    return Side.SELL if side is Side.BUY else Side.BUY


@unique
class CancelReason(StrEnum):
    """Why shares left the book without trading. [OUCH 5.0: Appendix C]"""

    USER = "U"
    IOC = "I"
    SELF_MATCH = "Q"


@unique
class RejectReason(IntEnum):
    """Why an order was not accepted. [OUCH 5.0: Appendix D]"""

    INVALID_QUANTITY = 0x13
    INVALID_PRICE = 0x1D


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A request to enter a limit order."""

    order_id: int
    locate: int
    side: Side
    order_qty: int
    price: int
    time_in_force: TimeInForce = TimeInForce.DAY


@dataclass(slots=True, eq=False)
class Order:
    """A live order. ``cum_qty`` counts the executions of its whole chain of replaces."""

    order_id: int
    locate: int
    side: Side
    price: int
    leaves_qty: int
    cum_qty: int = 0


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order is live; executions and cancels follow as events of their own."""

    order_id: int
    locate: int
    side: Side
    order_qty: int
    price: int
    time_in_force: TimeInForce


@dataclass(frozen=True, slots=True)
class Executed:
    """One side of an execution. Both sides carry the same match number."""

    order_id: int
    counterparty_id: int
    last_qty: int
    last_price: int
    match_number: int
    is_maker: bool


@dataclass(frozen=True, slots=True)
class Canceled:
    """``canceled_qty`` shares left the order. It lives on when it has others."""

    order_id: int
    canceled_qty: int
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class Replaced:
    """``order_id`` took the place of ``orig_order_id`` with ``leaves_qty`` open shares."""

    order_id: int
    orig_order_id: int
    locate: int
    side: Side
    leaves_qty: int
    price: int
    time_in_force: TimeInForce


@dataclass(frozen=True, slots=True)
class Rejected:
    """The order was not accepted and left no trace."""

    order_id: int
    reason: RejectReason


Event = Accepted | Executed | Canceled | Replaced | Rejected


class Level(NamedTuple):
    """One price of one side: its shares and how many orders hold them."""

    price: int
    qty: int
    order_count: int


class BookSide:
    """The orders of one side of one symbol in price-time priority.

    Prices are found by bisection, an order within its level by hash: adding and removing cost
    O(log levels), and nothing at all depends on the number of orders.
    """

    def __init__(self, side: Side) -> None:
        self._sign = 1 if side is Side.BUY else -1
        # Signed prices in ascending order, so that the best one is last and goes without a shift.
        self._ranks: list[int] = []
        # Not a dict: finding the first of many entries after the ones before it were deleted is
        # O(1) here and O(deleted) there.
        self._levels: dict[int, OrderedDict[Order, None]] = {}

    @property
    def best_price(self) -> int | None:
        return self._ranks[-1] * self._sign if self._ranks else None

    @property
    def depth(self) -> int:
        """Number of levels."""
        return len(self._ranks)

    def add(self, order: Order) -> None:
        """Put an order behind all others of its price."""
        level = self._levels.get(order.price)
        if level is None:
            level = self._levels[order.price] = OrderedDict()
            insort(self._ranks, order.price * self._sign)
        level[order] = None

    def remove(self, order: Order) -> None:
        """Take an order out. Raises :class:`KeyError` when it is not on this side."""
        level = self._levels[order.price]
        del level[order]
        if not level:
            del self._levels[order.price]
            del self._ranks[bisect_left(self._ranks, order.price * self._sign)]

    def first(self, limit: int) -> Order | None:
        """Return the order with the highest priority if an opposite ``limit`` reaches its price."""
        if not self._ranks or self._ranks[-1] < limit * self._sign:
            return None
        return next(iter(self._levels[self._ranks[-1] * self._sign]))

    def reached(self, limit: int) -> Iterator[Order]:
        """Yield the orders that an opposite ``limit`` reaches, highest priority first."""
        for rank in reversed(self._ranks):
            if rank < limit * self._sign:
                return
            yield from self._levels[rank * self._sign]

    def at(self, price: int) -> Iterable[Order]:
        """Return the orders of one price, first in time first."""
        return self._levels.get(price, ())

    def levels(self) -> Iterator[Level]:
        """Yield price, shares and order count of every level, best first."""
        for rank in reversed(self._ranks):
            orders = self._levels[rank * self._sign]
            yield Level(rank * self._sign, sum(order.leaves_qty for order in orders), len(orders))


class MatchingEngine:
    """Limit orders of many symbols, matched by price, then time.

    An execution is made at the price of the order that rested. A symbol is its locate; its book
    starts empty at first use. A short sale is a sale: all three kinds stand on one side.

    Parameters
    ----------
    match_numbers : iterator of int
        Where match numbers come from, for venues that share them with other kinds of trades.
        Counts from 1 by default.
    """

    def __init__(self, match_numbers: Iterator[int] | None = None) -> None:
        self._match_numbers = count(1) if match_numbers is None else match_numbers
        self._orders: dict[int, Order] = {}
        self._sides: dict[tuple[int, bool], BookSide] = {}

    def enter(self, order: NewOrder) -> list[Event]:
        """Accept an order, match it, and let a DAY order's remainder rest.

        An id that is already live is a retransmission and is ignored. [OUCH 5.0: 2]
        """
        if order.order_id in self._orders:
            return []
        if not 0 < order.order_qty <= QUANTITY_MAX:
            return [Rejected(order.order_id, RejectReason.INVALID_QUANTITY)]
        if not 0 < order.price <= PRICE_MAX:
            return [Rejected(order.order_id, RejectReason.INVALID_PRICE)]
        side, qty, price, tif = order.side, order.order_qty, order.price, order.time_in_force
        live = Order(order.order_id, order.locate, side, price, qty)
        events: list[Event] = [Accepted(live.order_id, live.locate, side, qty, price, tif)]
        self._place(live, tif, events)
        return events

    def cancel(self, order_id: int, qty_intended: int = 0) -> list[Event]:
        """Reduce an order to an intended size, executed shares included; 0 cancels what is open.

        The order keeps its priority. A cancel that has nothing to cancel is silently ignored.
        [OUCH 5.0: 2.3]
        """
        order = self._orders.get(order_id)
        if order is None:
            return []
        leaves_qty = max(qty_intended - order.cum_qty, 0)
        canceled_qty = order.leaves_qty - leaves_qty
        if canceled_qty <= 0:
            return []
        order.leaves_qty = leaves_qty
        if not leaves_qty:
            self._remove(order)
        return [Canceled(order_id, canceled_qty, CancelReason.USER)]

    def replace(
        self,
        orig_order_id: int,
        order_id: int,
        order_qty: int,
        price: int,
        time_in_force: TimeInForce = TimeInForce.DAY,
    ) -> list[Event]:
        """Exchange an order for a new one of the same symbol and side, behind all others.

        ``order_qty`` is what the whole chain may execute, earlier executions included. When that
        leaves nothing, or quantity or price is invalid, the original order is canceled. When the
        original is not live or the new id is, nothing happens. [OUCH 5.0: 2.2]
        """
        orig = self._orders.get(orig_order_id)
        if orig is None or order_id in self._orders:
            return []
        leaves_qty = order_qty - orig.cum_qty
        if leaves_qty <= 0 or order_qty > QUANTITY_MAX or not 0 < price <= PRICE_MAX:
            return self.cancel(orig_order_id)
        self._remove(orig)
        order = Order(order_id, orig.locate, orig.side, price, leaves_qty, orig.cum_qty)
        events: list[Event] = [
            Replaced(
                order_id, orig_order_id, orig.locate, orig.side, leaves_qty, price, time_in_force
            )
        ]
        self._place(order, time_in_force, events)
        return events

    def order(self, order_id: int) -> Order | None:
        """Return a live order, to be looked at and not changed."""
        return self._orders.get(order_id)

    def book_side(self, locate: int, side: Side) -> BookSide:
        """Return one side of a symbol's book, to be looked at and not changed."""
        key = (locate, side is Side.BUY)
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = BookSide(side)
        return found

    def depth(self, locate: int, side: Side, levels: int) -> list[Level]:
        """Return the best ``levels`` levels of a side, best first."""
        return list(islice(self.book_side(locate, side).levels(), levels))

    def bbo(self, locate: int) -> tuple[Level | None, Level | None]:
        """Return the best bid and the best ask, None for a side without orders."""
        bid = next(self.book_side(locate, Side.BUY).levels(), None)
        return bid, next(self.book_side(locate, Side.SELL).levels(), None)

    def _match(self, taker: Order, events: list[Event]) -> None:
        makers = self.book_side(taker.locate, opposite(taker.side))
        while taker.leaves_qty and (maker := makers.first(taker.price)) is not None:
            qty = min(taker.leaves_qty, maker.leaves_qty)
            match_number = next(self._match_numbers)
            events.append(self._fill(taker, maker.order_id, qty, maker.price, match_number, False))
            events.append(self._fill(maker, taker.order_id, qty, maker.price, match_number, True))

    def _place(self, order: Order, time_in_force: TimeInForce, events: list[Event]) -> None:
        self._match(order, events)
        if order.leaves_qty and time_in_force is TimeInForce.IOC:
            self._drop(order, CancelReason.IOC, events)
        if order.leaves_qty:
            self._orders[order.order_id] = order
            self.book_side(order.locate, order.side).add(order)

    def _fill(
        self,
        order: Order,
        counterparty_id: int,
        qty: int,
        price: int,
        match_number: int,
        is_maker: bool,
    ) -> Executed:
        order.leaves_qty -= qty
        order.cum_qty += qty
        if is_maker and not order.leaves_qty:
            self._remove(order)
        return Executed(order.order_id, counterparty_id, qty, price, match_number, is_maker)

    def _remove(self, order: Order) -> None:
        del self._orders[order.order_id]
        self.book_side(order.locate, order.side).remove(order)

    @staticmethod
    def _drop(taker: Order, reason: CancelReason, events: list[Event]) -> None:
        # For an order that does not rest yet.
        events.append(Canceled(taker.order_id, taker.leaves_qty, reason))
        taker.leaves_qty = 0
