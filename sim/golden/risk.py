"""The risk gate as the specification has it: slow, obvious, and with nothing of the kernels.

What the gate counts is not kept in sums: it is added up from the open orders and the executions
each time that it is asked for. Ratios are compared as fractions, prices are divided by the tick,
and a message rate is a bucket that leaks.

Prices are 1e-4 USD, quantities shares, times ns, money 1e-4 USD.
"""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from enum import Enum, unique
from fractions import Fraction

from protocol.market import MarketPhase
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel

MONEY_END = 2**56 - 1
"""Sums of money stop here, and no limit is higher."""
OPEN_ORDERS_END = 2**16 - 1
ONE_USD = 10_000


@unique
class Side(Enum):
    """Side of an order."""

    BUY = "buy"
    SELL = "sell"

    @property
    def other(self) -> "Side":
        return Side.SELL if self is Side.BUY else Side.BUY

    def is_better(self, price: int, than: int) -> bool:
        """Whether an order of this side at one price goes before one at another price."""
        return price > than if self is Side.BUY else price < than


@dataclass(frozen=True)
class Order:
    """What is asked for: a new order, or with ``replaces`` another size and price for an open one.

    ``qty`` is what it may execute: of a replacement what its chain has not executed yet.
    """

    number: int
    symbol: int
    trader: int
    side: Side
    qty: int
    price: int
    replaces: int | None = None


@dataclass(frozen=True)
class Market:
    """What is known of the order's market; None where there is no price.

    ``session``: there is an order entry session. ``slot``: there is room for the order's answers.
    """

    bid: int | None = None
    ask: int | None = None
    last: int | None = None
    halted: bool = False
    stale: bool = False
    phase: MarketPhase = MarketPhase.REGULAR
    session: bool = True
    slot: bool = True

    @property
    def reference(self) -> Fraction | None:
        """The mid of a book with two sides that are not crossed, else the last trade."""
        if self.bid is not None and self.ask is not None and self.bid <= self.ask:
            return Fraction(self.bid + self.ask, 2)
        return None if self.last is None else Fraction(self.last)


@dataclass(frozen=True)
class SymbolLimits:
    """Limits of a symbol; nothing is allowed by default."""

    qty_max: int = 0
    notional_max: int = 0
    position_max: int = 0
    band_bp: int = 0
    tick: int = 0
    located: int = 0
    duplicate_window_ns: int = 0
    phases: frozenset[MarketPhase] = frozenset()
    restricted: bool = True


@dataclass(frozen=True)
class MoneyLimits:
    """Limits of a trader, a desk or the firm; nothing is allowed by default."""

    gross_max: int = 0
    net_max: int = 0
    interval_ns: int = 0
    burst_ns: int = 0


@dataclass
class Open:
    """An order that may still execute, or a replacement that the venue has not answered.

    ``qty`` and ``money`` are what the gate counts for it: of a standing order its open shares at
    its price, of a replacement what was set aside on top of its original.
    """

    order: Order
    qty: int
    money: int


@dataclass
class Bucket:
    """A message rate: each message pours in an interval of time, and time leaks out."""

    filled_ns: int = 0
    at_ns: int = 0

    def level_ns(self, now_ns: int) -> int:
        """Return what is in the bucket."""
        return max(self.filled_ns - (now_ns - self.at_ns), 0)

    def pour(self, interval_ns: int, now_ns: int) -> None:
        self.filled_ns = self.level_ns(now_ns) + interval_ns
        self.at_ns = now_ns


@dataclass
class OwnOrders:
    """Our open orders of one side of a symbol, as far as self-trades are prevented by them.

    Those of the best price are followed. Of those behind it is known how many there are, and the
    best price that any order had while there were some.
    """

    side: Side
    front_price: int | None = None
    front: int = 0
    behind_price: int | None = None
    behind: int = 0

    @property
    def best(self) -> int | None:
        """The best price that one of our orders can have."""
        return self.front_price if self.front else self.behind_price if self.behind else None

    def add(self, price: int) -> None:
        best = self.best
        if self.front and price == self.front_price:
            self.front += 1
        elif best is None or price == best or self.side.is_better(price, best):
            self.behind += self.front
            self.behind_price = best
            self.front_price, self.front = price, 1
        else:
            if not self.behind or self.side.is_better(price, self.behind_price or 0):
                self.behind_price = price
            self.behind += 1

    def remove(self, price: int) -> None:
        if self.front and price == self.front_price:
            self.front -= 1
        else:
            self.behind -= 1


@dataclass
class Traded:
    """What a trader has bought and sold, in money."""

    bought: int = 0
    sold: int = 0


@dataclass
class Newest:
    """The newest order that passed on one side of a symbol."""

    trader: int
    qty: int
    price: int
    at_ns: int


@dataclass(frozen=True)
class Money:
    """What a trader, a desk or the firm has traded and can still trade."""

    net: int
    open_buy: int
    open_sell: int
    gross: int


@dataclass
class Risk:
    """The gate. ``desks`` has the desk of each trader."""

    symbol_count: int
    desks: tuple[int, ...]
    open: dict[int, Open] = field(default_factory=dict)
    _position: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    _traded: dict[int, Traded] = field(default_factory=lambda: defaultdict(Traded))
    _symbols: dict[int, SymbolLimits] = field(default_factory=dict)
    _money: dict[tuple[RiskLevel, int], MoneyLimits] = field(default_factory=dict)
    _released: set[tuple[RiskLevel, int]] = field(default_factory=set)
    _buckets: dict[tuple[RiskLevel, int], Bucket] = field(
        default_factory=lambda: defaultdict(Bucket)
    )
    _own: dict[tuple[int, Side], OwnOrders] = field(default_factory=dict)
    _newest: dict[tuple[int, Side], Newest] = field(default_factory=dict)

    # Limits.

    def limits(self, symbol: int, limits: SymbolLimits) -> None:
        """Set a symbol's limits."""
        self._symbols[symbol] = limits

    def money_limits(self, level: RiskLevel, index: int, limits: MoneyLimits) -> None:
        """Set the limits of a trader, a desk or the firm."""
        self._money[level, index] = limits

    def kill(self, level: RiskLevel, index: int, on: bool) -> None:
        """Set or release a kill switch. All are set at first."""
        if on:
            self._released.discard((level, index))
        else:
            self._released.add((level, index))

    # Orders.

    def decide(self, order: Order, market: Market, now_ns: int) -> DenyReason:
        """Return why an order must not leave, or remember that it did."""
        reasons = self._reasons(order, market, now_ns)
        if reasons:
            return min(reasons)
        qty, money = self._added(order)
        self.open[order.number] = Open(order, qty, money)
        self.own(order.symbol, order.side).add(order.price)
        self._newest[order.symbol, order.side] = Newest(
            order.trader, order.qty, order.price, now_ns
        )
        self.message(order.trader, now_ns)
        return DenyReason.NONE

    def message(self, trader: int, now_ns: int) -> None:
        """Count a message, as an order that passed is one."""
        for level in self._levels(trader):
            limits = self._money.get(level, MoneyLimits())
            self._buckets[level].pour(limits.interval_ns, now_ns)

    def executed(self, number: int, qty: int, price: int) -> None:
        """Count an execution of an open order. The last one ends it."""
        standing = self.open[number]
        order = standing.order
        self._position[order.symbol] += qty if order.side is Side.BUY else -qty
        traded = self._traded[order.trader]
        if order.side is Side.BUY:
            traded.bought += qty * price
        else:
            traded.sold += qty * price
        pending = self.pending(number)
        if pending is not None:  # The chain has so many shares less to execute.
            pending.order = replace(pending.order, qty=max(pending.order.qty - qty, 0))
        self._take(standing, qty)

    def canceled(self, number: int, qty: int) -> None:
        """Take shares off an open order. The last ones end it.

        A replacement that is under way will open them again: they are set aside for it.
        """
        standing, pending = self.open[number], self.pending(number)
        self._take(standing, qty)
        if pending is not None and standing.qty > 0:
            pending.qty, pending.money = self._added(pending.order)

    def replaced(self, number: int, qty: int) -> None:
        """Let a replacement stand with so many shares, instead of its original."""
        replacement = self.open[number]
        original = replacement.order.replaces
        assert original is not None
        self._end(self.open[original])
        replacement.qty, replacement.money = qty, qty * replacement.order.price
        replacement.order = replace(replacement.order, replaces=None)

    def refused(self, number: int) -> None:
        """Forget an order or a replacement that the venue did not take."""
        self._end(self.open[number])

    def _take(self, standing: Open, qty: int) -> None:
        standing.qty -= qty
        standing.money -= qty * standing.order.price
        if standing.qty == 0:
            self._end(standing)

    def _end(self, standing: Open) -> None:
        order = standing.order
        del self.open[order.number]
        self.own(order.symbol, order.side).remove(order.price)

    # What the gate knows.

    def pending(self, number: int) -> Open | None:
        """Return the replacement that is under way for an order."""
        for standing in self.open.values():
            if standing.order.replaces == number:
                return standing
        return None

    def position(self, symbol: int) -> int:
        return self._position[symbol]

    def open_qty(self, symbol: int, side: Side) -> int:
        """Return the shares that open orders may execute on one side."""
        return sum(
            standing.qty
            for standing in self.open.values()
            if standing.order.symbol == symbol and standing.order.side is side
        )

    def money(self, level: RiskLevel, index: int) -> Money:
        """Return what a trader, a desk or the firm has traded and can still trade."""
        traders = [
            trader for trader in range(len(self.desks)) if (level, index) in self._levels(trader)
        ]
        open_ = {Side.BUY: 0, Side.SELL: 0}
        for standing in self.open.values():
            if standing.order.trader in traders:
                open_[standing.order.side] += standing.money
        bought = sum(self._traded[trader].bought for trader in traders)
        sold = sum(self._traded[trader].sold for trader in traders)
        gross = bought + sold + open_[Side.BUY] + open_[Side.SELL]
        return Money(bought - sold, open_[Side.BUY], open_[Side.SELL], gross)

    def bucket_ns(self, level: RiskLevel, index: int, now_ns: int) -> int:
        """Return what is in the bucket of a message rate."""
        return self._buckets[level, index].level_ns(now_ns)

    def own(self, symbol: int, side: Side) -> OwnOrders:
        """Return our open orders of one side."""
        return self._own.setdefault((symbol, side), OwnOrders(side))

    def newest(self, symbol: int, side: Side) -> Newest | None:
        """Return the newest order that passed on one side."""
        return self._newest.get((symbol, side))

    def _levels(self, trader: int) -> tuple[tuple[RiskLevel, int], ...]:
        return (
            (RiskLevel.TRADER, trader),
            (RiskLevel.DESK, self.desks[trader]),
            (RiskLevel.FIRM, 0),
        )

    def _original(self, order: Order) -> Open | None:
        return None if order.replaces is None else self.open.get(order.replaces)

    def _added(self, order: Order) -> tuple[int, int]:
        """Return the shares and the money that an order can execute more than is counted.

        An original and its replacement share what both can execute: that counts at the higher
        price. What only the replacement can execute counts at its own.
        """
        original = self._original(order)
        if original is None:
            return order.qty, order.qty * order.price
        more = max(order.qty - original.qty, 0)
        common = min(order.qty, original.qty)
        dearer = max(order.price - original.order.price, 0)
        return more, more * order.price + common * dearer

    # The rules.

    def _reasons(self, order: Order, market: Market, now_ns: int) -> set[DenyReason]:
        """Return every reason that holds."""
        if not 0 <= order.trader < len(self.desks):
            return {DenyReason.KILL_SWITCH}
        return (
            self._of_order(order, market)
            | self._of_symbol(order, now_ns)
            | self._of_money(order, now_ns)
        )

    def _of_order(self, order: Order, market: Market) -> set[DenyReason]:
        limits = self._symbols.get(order.symbol, SymbolLimits())
        reference = market.reference
        tick = 1 if order.price < ONE_USD else limits.tick
        held = {
            DenyReason.KILL_SWITCH: not self._released.issuperset(self._levels(order.trader)),
            DenyReason.SESSION_NOT_READY: not market.session,
            DenyReason.UNKNOWN_SYMBOL: limits.qty_max == 0,
            DenyReason.SYMBOL_HALTED: market.halted,
            DenyReason.BOOK_STALE: market.stale,
            DenyReason.QUANTITY_ZERO: order.qty == 0,
            DenyReason.QUANTITY_EXCEEDS_MAXIMUM: order.qty > limits.qty_max,
            DenyReason.NOTIONAL_EXCEEDS_MAXIMUM: order.qty * order.price > limits.notional_max,
            DenyReason.PRICE_ZERO: order.price == 0,
            DenyReason.PRICE_OUTSIDE_BAND: reference is None
            or abs(order.price - reference) > reference * Fraction(limits.band_bp, 10_000),
            DenyReason.UNKNOWN_ORDER: order.replaces is not None and self._original(order) is None,
            DenyReason.NO_RING_SLOT: not market.slot,
            DenyReason.PRICE_OFF_TICK: tick not in (1, 50, 100) or order.price % tick != 0,
            DenyReason.SYMBOL_RESTRICTED: limits.restricted,
            DenyReason.PHASE_NOT_ALLOWED: market.phase not in limits.phases,
        }
        return {reason for reason, holds in held.items() if holds}

    def _of_symbol(self, order: Order, now_ns: int) -> set[DenyReason]:
        limits = self._symbols.get(order.symbol, SymbolLimits())
        position = self.position(order.symbol)
        worst_qty = self.open_qty(order.symbol, order.side) + self._added(order)[0]
        worst = worst_qty + (position if order.side is Side.BUY else -position)
        own = self.own(order.symbol, order.side.other).best
        newest = self.newest(order.symbol, order.side)
        own_side = self.own(order.symbol, order.side)
        held = {
            DenyReason.POSITION_EXCEEDS_LIMIT: worst > limits.position_max,
            DenyReason.SHORT_SALE_WITHOUT_LOCATE: order.side is Side.SELL
            and worst > limits.located,
            DenyReason.SELF_TRADE: own is not None and not order.side.is_better(own, order.price),
            DenyReason.DUPLICATE_ORDER: order.replaces is None
            and newest is not None
            and (newest.trader, newest.qty, newest.price) == (order.trader, order.qty, order.price)
            and now_ns - newest.at_ns < limits.duplicate_window_ns != 0,
            DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM: own_side.front + own_side.behind
            == OPEN_ORDERS_END,
        }
        return {reason for reason, holds in held.items() if holds}

    def _of_money(self, order: Order, now_ns: int) -> set[DenyReason]:
        held = set()
        added = self._added(order)[1]
        for level in self._levels(order.trader):
            limits = self._money.get(level, MoneyLimits())
            money = self.money(*level)
            if order.side is Side.BUY:
                net = money.net + money.open_buy + added
            else:
                net = money.open_sell + added - money.net
            poured_ns = self._buckets[level].level_ns(now_ns) + limits.interval_ns
            if limits.burst_ns == 0 or poured_ns > limits.burst_ns:
                held.add(DenyReason.MESSAGE_RATE_EXCEEDED)
            if money.gross + added > limits.gross_max:
                held.add(DenyReason[f"{level[0].name}_GROSS_EXCEEDS_LIMIT"])
            if net > limits.net_max:
                held.add(DenyReason[f"{level[0].name}_NET_EXCEEDS_LIMIT"])
        return held
