"""The order-level book of every symbol, exact or flagged as stale.

Only A, F, E, C, X, D and U change a book. [ITCH 5.0: 1.3, 1.4] A message that cannot be right flags
its symbol, counts the reason and changes nothing that is not certain; the book is kept up as well
as can be while it is flagged, and `clear` starts it again for a repair.
"""

from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, unique
from typing import NamedTuple

from protocol.reasons import StaleReason
from sim.golden.parse import (
    AddOrder,
    AddOrderMpid,
    CrossTrade,
    DirectListing,
    LuldAuctionCollar,
    MarketParticipantPosition,
    Message,
    MwcbDeclineLevel,
    MwcbStatus,
    Noii,
    OperationalHalt,
    OrderCancel,
    OrderDelete,
    OrderExecuted,
    OrderExecutedWithPrice,
    OrderReplace,
    QuotingPeriodUpdate,
    RegShoRestriction,
    Rpii,
    StockDirectory,
    StockTradingAction,
    SystemEvent,
    Trade,
)


@unique
class Side(Enum):
    """Which side of the book an order is on; the value is ITCH's buy/sell indicator."""

    BUY = "B"
    SELL = "S"


class Bbo(NamedTuple):
    """Best bid and offer. An empty side is all zero. Prices in 1e-4 USD, quantities in shares."""

    bid_price: int
    bid_qty: int
    bid_orders: int
    ask_price: int
    ask_qty: int
    ask_orders: int


EMPTY_BBO = Bbo(0, 0, 0, 0, 0, 0)


class Change(NamedTuple):
    """A symbol's best bid and offer after and before a message; they differ."""

    stock_locate: int
    bbo: Bbo
    previous: Bbo

    @property
    def price_or_size_changed(self) -> bool:
        """False where nothing but the number of orders at a best price changed."""
        now, before = self.bbo, self.previous
        return (now.bid_price, now.bid_qty, now.ask_price, now.ask_qty) != (
            before.bid_price,
            before.bid_qty,
            before.ask_price,
            before.ask_qty,
        )


@dataclass(slots=True)
class _Order:
    reference: int
    stock_locate: int
    side: Side
    price: int
    shares: int


@dataclass(slots=True)
class _Level:
    qty: int = 0
    # By reference, the oldest first.
    orders: dict[int, _Order] = field(default_factory=dict)


class _BookSide:
    """One side of one symbol: every price level, and the prices sorted with the best one last."""

    def __init__(self, side: Side) -> None:
        self._levels: dict[int, _Level] = {}
        # A rank is the price, negated for asks, so that a better price has the higher rank.
        self._sign = 1 if side is Side.BUY else -1
        self._ranks: list[int] = []

    def add(self, order: _Order) -> None:
        level = self._levels.get(order.price)
        if level is None:
            level = self._levels[order.price] = _Level()
            insort(self._ranks, self._sign * order.price)
        level.qty += order.shares
        level.orders[order.reference] = order

    def take(self, order: _Order, shares: int) -> None:
        """Take shares off an order; without shares it leaves, and so does an empty level."""
        level = self._levels[order.price]
        level.qty -= shares
        order.shares -= shares
        if order.shares == 0:
            del level.orders[order.reference]
        if not level.orders:
            del self._levels[order.price]
            del self._ranks[bisect_left(self._ranks, self._sign * order.price)]

    def best(self) -> tuple[int, int, int]:
        """Price, quantity and number of orders of the best level, zeros where there is none."""
        if not self._ranks:
            return 0, 0, 0
        price = self._sign * self._ranks[-1]
        level = self._levels[price]
        return price, level.qty, len(level.orders)

    def at(self, price: int) -> tuple[int, int]:
        """Quantity and number of orders of a price."""
        level = self._levels.get(price)
        return (0, 0) if level is None else (level.qty, len(level.orders))

    def levels(self) -> list[tuple[int, _Level]]:
        """Every price with its level, the best first."""
        return [(self._sign * rank, self._levels[self._sign * rank]) for rank in self._ranks[::-1]]


class Book:
    """The books of all symbols, by stock locate.

    How a message that cannot be right is handled. Checks are made in this order and the first one
    that fails decides. All but GAP flag the message's symbol.

    ===================  ==============================  ==========================================
    reason               what is wrong                   what happens
    ===================  ==============================  ==========================================
    UNKNOWN_REFERENCE    E, C, X, D, U of no live order  nothing; a U adds nothing
    LOCATE_MISMATCH      locate is not the order's       nothing; the order's symbol is flagged too
    OVERFILL             E, C, X of more than is left    the order is removed
    DUPLICATE_REFERENCE  A, F, U of a live reference     nothing is added; a U's original is removed
    INVALID_ORDER        no shares, or no such side      nothing is added; a U's original is removed
    GAP                  `mark_gap` was called           every symbol is flagged
    FRAME_BAD            `mark_bad` was called           the symbols named are flagged
    ===================  ==============================  ==========================================

    `stale` keeps the first reason of each flagged symbol, until `clear`. `stale_counts` counts
    every message under its reason, flagged before or not, every call of `mark_gap` under GAP
    and every symbol of `mark_bad` under FRAME_BAD. A symbol that shows up for the first time
    after a gap is flagged too, since the gap may have held its first orders. `symbols` has the
    name of each locate that a message gave with a name.
    """

    def __init__(self) -> None:
        self.stale: dict[int, StaleReason] = {}
        self.stale_counts: Counter[StaleReason] = Counter()
        self.symbols: dict[int, str] = {}
        self._orders: dict[int, _Order] = {}
        # Every locate that was seen is in here.
        self._sides: dict[int, tuple[_BookSide, _BookSide]] = {}
        self._bbos: dict[int, Bbo] = {}
        self._gap_seen = False

    def apply(self, message: Message) -> Change | None:
        """Apply one message; return the best bid and offer if anything of it changed."""
        locate = message.stock_locate
        if locate not in self._sides:
            if isinstance(message, SystemEvent | MwcbDeclineLevel | MwcbStatus):
                return None  # Not about a symbol: the locate is 0.
            self._learn(locate)
        match message:
            case AddOrder() | AddOrderMpid():
                self.symbols[locate] = message.stock
                self._add(
                    locate,
                    message.order_reference_number,
                    message.buy_sell_indicator,
                    message.price,
                    message.shares,
                )
            case OrderDelete():
                order = self._find(locate, message.order_reference_number)
                if order is not None:
                    self._take(order, order.shares)
            case OrderReplace():
                self._replace(message)
            case OrderExecuted() | OrderExecutedWithPrice():
                self._reduce(locate, message.order_reference_number, message.executed_shares)
            case OrderCancel():
                self._reduce(locate, message.order_reference_number, message.canceled_shares)
            case _:
                self._name(message)
                return None
        return self._change(locate)

    def bbo(self, locate: int) -> Bbo:
        """Return the best bid and offer of a symbol, all zero if it was never seen."""
        if locate not in self._sides:
            return EMPTY_BBO
        bids, asks = self._sides[locate]
        return Bbo(*bids.best(), *asks.best())

    @property
    def live_order_count(self) -> int:
        """How many orders are live, of all symbols."""
        return len(self._orders)

    def levels(self, locate: int, side: Side) -> list[tuple[int, int, int]]:
        """Return price, quantity and number of orders of each level, the best first."""
        return [
            (price, level.qty, len(level.orders)) for price, level in self._levels(locate, side)
        ]

    def orders(self, locate: int, side: Side) -> list[tuple[int, int, int]]:
        """Return reference, price and shares of each order in the order of execution."""
        return [
            (order.reference, order.price, order.shares)
            for _, level in self._levels(locate, side)
            for order in level.orders.values()
        ]

    def order(self, reference: int) -> tuple[int, Side, int, int] | None:
        """Return stock locate, side, price and shares of a live order."""
        found = self._orders.get(reference)
        if found is None:
            return None
        return found.stock_locate, found.side, found.price, found.shares

    def level(self, locate: int, side: Side, price: int) -> tuple[int, int]:
        """Return quantity and number of orders of one price, zeros where there is none."""
        if locate not in self._sides:
            return 0, 0
        return self._sides[locate][side is Side.SELL].at(price)

    def mark_gap(self) -> None:
        """Flag every symbol: messages were lost and any of them may have been its own."""
        self.stale_counts[StaleReason.GAP] += 1
        self._gap_seen = True
        for locate in self._sides:
            self.stale.setdefault(locate, StaleReason.GAP)

    def mark_bad(self, locates: Iterable[int]) -> None:
        """Flag the symbols of messages that were applied before their frame turned out to be bad.

        What such a message did to the book stays until `clear`.
        """
        for locate in locates:
            if locate in self._sides:
                self._flag(locate, StaleReason.FRAME_BAD)

    def clear(self, locate: int) -> Change | None:
        """Forget a symbol's orders and its flag, for a repair that adds them again."""
        for side in Side:
            for reference, _, _ in self.orders(locate, side):
                del self._orders[reference]
        self._sides[locate] = (_BookSide(Side.BUY), _BookSide(Side.SELL))
        self.stale.pop(locate, None)
        return self._change(locate)

    def _learn(self, locate: int) -> None:
        self._sides[locate] = (_BookSide(Side.BUY), _BookSide(Side.SELL))
        if self._gap_seen:
            self.stale[locate] = StaleReason.GAP

    def _name(self, message: Message) -> None:
        match message:
            case (
                StockDirectory()
                | StockTradingAction()
                | RegShoRestriction()
                | MarketParticipantPosition()
                | QuotingPeriodUpdate()
                | LuldAuctionCollar()
                | OperationalHalt()
                | Trade()
                | CrossTrade()
                | Noii()
                | Rpii()
                | DirectListing()
            ):
                self.symbols[message.stock_locate] = message.stock

    def _add(self, locate: int, reference: int, indicator: str, price: int, shares: int) -> None:
        if reference in self._orders:
            self._flag(locate, StaleReason.DUPLICATE_REFERENCE)
        elif shares == 0 or indicator not in ("B", "S"):
            self._flag(locate, StaleReason.INVALID_ORDER)
        else:
            side = Side.BUY if indicator == "B" else Side.SELL
            order = _Order(reference, locate, side, price, shares)
            self._orders[reference] = order
            self._side_of(order).add(order)

    def _replace(self, message: OrderReplace) -> None:
        """The new order has the side and symbol of the original, and the last place in time."""
        locate = message.stock_locate
        original = self._find(locate, message.original_order_reference_number)
        if original is None:
            return
        self._take(original, original.shares)
        self._add(
            locate,
            message.new_order_reference_number,
            original.side.value,
            message.price,
            message.shares,
        )

    def _reduce(self, locate: int, reference: int, shares: int) -> None:
        order = self._find(locate, reference)
        if order is None:
            return
        if shares > order.shares:
            self._flag(locate, StaleReason.OVERFILL)
        self._take(order, min(shares, order.shares))

    def _find(self, locate: int, reference: int) -> _Order | None:
        """Return the live order that a message names, or flag why there is none for it."""
        order = self._orders.get(reference)
        if order is None:
            self._flag(locate, StaleReason.UNKNOWN_REFERENCE)
            return None
        if order.stock_locate != locate:
            self._flag(locate, StaleReason.LOCATE_MISMATCH)
            self.stale.setdefault(order.stock_locate, StaleReason.LOCATE_MISMATCH)
            return None
        return order

    def _take(self, order: _Order, shares: int) -> None:
        self._side_of(order).take(order, shares)
        if order.shares == 0:
            del self._orders[order.reference]

    def _side_of(self, order: _Order) -> _BookSide:
        bids, asks = self._sides[order.stock_locate]
        return bids if order.side is Side.BUY else asks

    def _levels(self, locate: int, side: Side) -> list[tuple[int, _Level]]:
        if locate not in self._sides:
            return []
        bids, asks = self._sides[locate]
        return bids.levels() if side is Side.BUY else asks.levels()

    def _flag(self, locate: int, reason: StaleReason) -> None:
        self.stale_counts[reason] += 1
        self.stale.setdefault(locate, reason)

    def _change(self, locate: int) -> Change | None:
        previous = self._bbos.get(locate, EMPTY_BBO)
        bbo = self.bbo(locate)
        if bbo == previous:
            return None
        self._bbos[locate] = bbo
        return Change(locate, bbo, previous)
