"""A random day at a risk gate: orders, replacements, fills, cancels, limits and kill switches.

The golden model is asked on the way; each step has what it answered. What a gate needs besides is
worked out from the golden model's open orders: the price that an order is counted at, and what an
answer takes back. So a gate is driven without an order table of its own.

Limits are moved to where the orders are: often a step is exactly at a limit, or one beyond.
"""

from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any, NamedTuple

from kernels.exposure import Rate
from kernels.risk import LevelLimits, Limits, Market
from protocol.market import MarketPhase
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sim.golden import risk as golden

SYMBOL_COUNT = 6
DESKS = (0, 0, 1, 1, 2)
OPEN_MAX = 40
MID = 1_000_000
TICK = 100


class Decide(NamedTuple):
    """An order is decided. A replacement has what its original counts as open."""

    symbol: int
    trader: int
    buys: bool
    order_qty: int
    price: int
    orig_qty: int
    orig_price: int
    session: bool
    is_open: bool
    slot: bool
    now_ns: int
    is_new: bool
    reason: DenyReason


class Execute(NamedTuple):
    """Shares that are counted at ``price`` were executed. ``ends``: the order is open no longer."""

    symbol: int
    trader: int
    buys: bool
    price: int
    last_price: int
    last_qty: int
    ends: bool


class Release(NamedTuple):
    """Shares and money are counted no longer. ``ends``: neither is an order of that price."""

    symbol: int
    trader: int
    buys: bool
    price: int
    qty: int
    money: int
    ends: bool


class Message(NamedTuple):
    """A message that is not decided on is counted."""

    trader: int
    now_ns: int


class SetLimits(NamedTuple):
    symbol: int
    limits: Limits


class SetLevel(NamedTuple):
    level: RiskLevel
    level_index: int
    limits: LevelLimits
    rate: Rate


class Kill(NamedTuple):
    level: RiskLevel
    level_index: int
    on: bool


class SetMarket(NamedTuple):
    symbol: int
    market: Market


Step = Decide | Execute | Release | Message | SetLimits | SetLevel | Kill | SetMarket


_LEVELS: tuple[tuple[RiskLevel, int], ...] = (
    (RiskLevel.FIRM, 0),
    *((RiskLevel.DESK, desk) for desk in sorted(set(DESKS))),
    *((RiskLevel.TRADER, trader) for trader in range(len(DESKS))),
)

_ROOMY = golden.SymbolLimits(
    qty_max=1_000,
    notional_max=10**9,
    position_max=5_000,
    band_bp=500,
    tick=TICK,
    located=5_000,
    duplicate_window_ns=2_000,
    phases=frozenset((MarketPhase.UNKNOWN, MarketPhase.REGULAR)),
    restricted=False,
)
_TIGHT: tuple[dict[str, Any], ...] = (
    {"qty_max": 0},
    {"qty_max": 99},
    {"notional_max": 10**7},
    {"position_max": 300},
    {"band_bp": 1},
    {"tick": 0},
    {"tick": 1},
    {"tick": 50},
    {"located": 0},
    {"duplicate_window_ns": 10**6},
    {"phases": frozenset()},
    {"restricted": True},
)
_ROOMY_MONEY = golden.MoneyLimits(10**10, 10**10, 10, 100_000)
_MOST = {
    "qty_max": (1 << 20) - 1,
    "notional_max": (1 << 52) - 1,
    "position_max": (1 << 31) - 1,
    "band_bp": (1 << 16) - 1,
    "located": (1 << 31) - 1,
    "duplicate_window_ns": (1 << 40) - 1,
    "gross_max": golden.MONEY_END,
    "net_max": golden.MONEY_END,
    "interval_ns": (1 << 32) - 1,
    "burst_ns": (1 << 40) - 1,
}


def _clipped(values: dict[str, int]) -> dict[str, int]:
    return {name: min(max(value, 0), _MOST[name]) for name, value in values.items()}


class Flow:
    """Makes the steps, and plays them on a golden model.

    Attributes
    ----------
    gate : golden.Risk
        After the last step.
    now_ns : int
        Time of the last step.
    """

    def __init__(self, seed: int):
        self.rng = Random(seed)
        self.gate = golden.Risk(SYMBOL_COUNT, DESKS)
        self.now_ns = 1_000
        self._number = 0
        self._limits = dict.fromkeys(range(SYMBOL_COUNT), _ROOMY)
        self._levels = {level: _ROOMY_MONEY for level in _LEVELS}
        self._markets = dict.fromkeys(range(SYMBOL_COUNT), golden.Market())
        self._killed: set[tuple[RiskLevel, int]] = set(_LEVELS)
        self._asked: golden.Order | None = None
        self._wanted: golden.Order | None = None

    def steps(self, count: int) -> Iterator[Step]:
        """Yield so many orders, fills and cancels, and what else happens between them.

        The first orders meet a gate that is closed.
        """
        rng = self.rng
        for _ in range(40):
            yield self._decide()
        for symbol in self._limits:
            yield self._set_limits(symbol, self._limits[symbol])
            yield self._set_market(symbol, self._random_market())
        for level in _LEVELS:
            yield self._set_level(level, self._levels[level])
            yield self._kill(level, False)
        made = 0
        while made < count:
            self.now_ns += rng.choice((0, 0, 1, 10, 100, 1_000, 5_000))
            for step in self._next():
                made += isinstance(step, Decide | Execute | Release | Message)
                yield step

    def _next(self) -> Iterator[Step]:
        rng = self.rng
        kind = rng.random()
        if self._killed and rng.random() < 0.2:
            yield self._kill(rng.choice(sorted(self._killed)), False)
        if kind < 0.60:
            fitted = list(self._fit_limits()) if rng.random() < 0.25 else []
            yield from fitted
            yield self._decide()
            for step in fitted:
                if rng.random() < 0.95:
                    yield self._loosen(step)
        elif kind < 0.93:
            yield from self._answer()
        elif kind < 0.95:
            trader = rng.randrange(len(DESKS))
            self.gate.message(trader, self.now_ns)
            yield Message(trader, self.now_ns)
        elif kind < 0.98:
            yield self._set_market(rng.randrange(SYMBOL_COUNT), self._random_market())
        elif kind < 0.998:
            yield from self._tighten()
        else:
            yield self._kill(rng.choice(_LEVELS), True)

    # Orders.

    def _decide(self) -> Decide:
        self._number += 1
        order = self._random_order() if self._wanted is None else self._wanted
        self._asked, self._wanted = order, None
        market = self._markets.get(order.symbol, golden.Market())
        session, slot = self.rng.random() > 0.002, self.rng.random() > 0.005
        standing = None if order.replaces is None else self.gate.open.get(order.replaces)
        orig = (0, 0) if standing is None else (standing.qty, standing.order.price)
        reason = self.gate.decide(order, replace(market, session=session, slot=slot), self.now_ns)
        return Decide(
            order.symbol,
            order.trader,
            order.side is golden.Side.BUY,
            order.qty,
            order.price,
            *orig,
            session,
            order.replaces is None or standing is not None,
            slot,
            self.now_ns,
            order.replaces is None,
            reason,
        )

    def _random_order(self) -> golden.Order:
        rng = self.rng
        last = self._asked
        if last is not None and last.replaces is None and rng.random() < 0.03:
            return golden.Order(
                self._number, last.symbol, last.trader, last.side, last.qty, last.price
            )
        side = rng.choice((golden.Side.BUY, golden.Side.SELL))
        away = rng.choice((-20, -3, -2, -1, -1, 0, 0, 1)) * TICK
        price = MID + (away if side is golden.Side.BUY else -away)
        if rng.random() < 0.04:
            price = rng.choice((0, 1, 9_999, 10_000, MID - 50, MID + 1, 0xFFFF_FFFF))
        qty = rng.choice((1, 10, 50, 100, 100, 200))
        if rng.random() < 0.02:
            qty = rng.choice((0, 1 << 20, (1 << 20) + 100, 0xFFFF_FFFF))
        number, trader = self._number, rng.randrange(len(DESKS))
        standing = [
            item.order for item in self._standing() if self.gate.pending(item.order.number) is None
        ]
        if standing and (rng.random() < 0.2 or len(self.gate.open) >= OPEN_MAX):
            orig = rng.choice(standing)
            return golden.Order(
                number, orig.symbol, orig.trader, orig.side, qty, price, orig.number
            )
        if rng.random() < 0.005:
            return golden.Order(number, 0, trader, side, qty, price, 1_000_000_000)
        symbol = rng.randrange(SYMBOL_COUNT) if rng.random() < 0.99 else SYMBOL_COUNT + 3
        trader = trader if rng.random() < 0.99 else len(DESKS)
        return golden.Order(number, symbol, trader, side, qty, price)

    def _standing(self) -> list[golden.Open]:
        return [item for item in self.gate.open.values() if item.order.replaces is None]

    def _answer(self) -> Iterator[Step]:
        """Let the venue answer: an execution, a cancel, a replacement taken or refused."""
        rng, gate = self.rng, self.gate
        if not gate.open:
            return
        item = rng.choice(list(gate.open.values()))
        order = item.order
        if order.replaces is not None:
            if rng.random() < 0.5:
                original = gate.open[order.replaces]
                leaves = max(order.qty, 1)
                qty = original.qty + item.qty - leaves
                money = original.money + item.money - leaves * order.price
                gate.replaced(order.number, leaves)
                yield self._release(original.order, qty, money, True)
            else:
                yield self._refused(item)
            return
        pending = gate.pending(order.number)
        before = (pending.qty, pending.money) if pending is not None else (0, 0)
        qty = item.qty if rng.random() < 0.4 else rng.randint(1, item.qty)
        ends = qty == item.qty
        if rng.random() < 0.5:
            better = rng.choice((0, 0, TICK, 7 * TICK))
            buys = order.side is golden.Side.BUY
            last_price = max(order.price - better, 1) if buys else order.price + better
            gate.executed(order.number, qty, last_price)
            yield Execute(order.symbol, order.trader, buys, order.price, last_price, qty, ends)
        else:
            gate.canceled(order.number, qty)
            yield self._release(order, qty, qty * order.price, ends)
        if pending is None:
            return
        if ends:  # The venue ignores a replacement whose original has ended.
            yield self._refused(pending)
        elif (pending.qty, pending.money) != before:
            yield self._release(
                pending.order, before[0] - pending.qty, before[1] - pending.money, False
            )

    def _refused(self, item: golden.Open) -> Release:
        self.gate.refused(item.order.number)
        return self._release(item.order, item.qty, item.money, True)

    def _release(self, order: golden.Order, qty: int, money: int, ends: bool) -> Release:
        buys = order.side is golden.Side.BUY
        return Release(order.symbol, order.trader, buys, order.price, qty, money, ends)

    # Limits.

    def _fit_limits(self) -> Iterator[Step]:
        """Move one limit to where the next order is: it passes exactly, or fails by one."""
        rng, gate = self.rng, self.gate
        self._number += 1
        order = self._wanted = self._random_order()
        if order.symbol >= SYMBOL_COUNT or order.trader >= len(DESKS):
            return
        qty, money = gate._added(order)
        buys = order.side is golden.Side.BUY
        position = gate.position(order.symbol) * (1 if buys else -1)
        worst = gate.open_qty(order.symbol, order.side) + qty + position
        less = rng.randrange(2)
        market = self._markets[order.symbol]
        what = rng.randrange(8)
        if what == 0:
            yield self._limit(order.symbol, qty_max=order.qty - less)
        elif what == 1:
            yield self._limit(order.symbol, notional_max=order.qty * order.price - less)
        elif what == 2:
            yield self._limit(order.symbol, position_max=worst - less)
        elif what == 3 and not buys:
            yield self._limit(order.symbol, located=worst - less)
        elif what == 4 and market.reference:
            away = abs(order.price - market.reference) * 10_000 / market.reference
            yield self._limit(order.symbol, band_bp=int(away) + 1 - less)
        elif what == 5:
            newest = gate.newest(order.symbol, order.side)
            if newest is not None:
                passed = self.now_ns - newest.at_ns
                yield self._limit(order.symbol, duplicate_window_ns=passed + less)
                self._wanted = golden.Order(
                    order.number, order.symbol, newest.trader, order.side, newest.qty, newest.price
                )
        elif what == 6:
            level = rng.choice(gate._levels(order.trader))
            known = gate.money(*level)
            net = known.net + known.open_buy if buys else known.open_sell - known.net
            name, needed = rng.choice((("gross_max", known.gross), ("net_max", net)))
            yield self._level_limit(level, **{name: needed + money - less})
        elif what == 7:
            level = rng.choice(gate._levels(order.trader))
            interval_ns = rng.choice((1, 100, 10_000))
            needed = gate.bucket_ns(*level, self.now_ns) + interval_ns
            yield self._level_limit(level, interval_ns=interval_ns, burst_ns=needed - less)

    def _loosen(self, fitted: Step) -> Step:
        """Give room again where a limit was fitted."""
        if isinstance(fitted, SetLimits):
            return self._set_limits(fitted.symbol, _ROOMY)
        assert isinstance(fitted, SetLevel)
        return self._give_room((fitted.level, fitted.level_index), 10**10)

    def _give_room(self, level: tuple[RiskLevel, int], room: int) -> Step:
        known = self.gate.money(*level)
        limits = golden.MoneyLimits(
            gross_max=known.gross + room,
            net_max=abs(known.net) + max(known.open_buy, known.open_sell) + room,
            interval_ns=self.rng.choice((1, 10, 100)),
            burst_ns=self.rng.choice((1_000, 100_000)),
        )
        return self._set_level(level, limits)

    def _tighten(self) -> Iterator[Step]:
        """Take something from a symbol or a level, or give all of it back."""
        rng = self.rng
        if rng.random() < 0.2:
            symbol = rng.randrange(SYMBOL_COUNT)
            yield self._set_limits(symbol, replace(_ROOMY, **rng.choice(_TIGHT)))
        else:
            for symbol in self._limits:
                yield self._set_limits(symbol, _ROOMY)
            yield self._give_room(rng.choice(_LEVELS), rng.choice((10**9, 10**10, 10**10)))

    def _limit(self, symbol: int, **more: int) -> Step:
        clipped: dict[str, Any] = _clipped(more)
        return self._set_limits(symbol, replace(self._limits[symbol], **clipped))

    def _level_limit(self, level: tuple[RiskLevel, int], **more: int) -> Step:
        return self._set_level(level, replace(self._levels[level], **_clipped(more)))

    def _set_limits(self, symbol: int, limits: golden.SymbolLimits) -> SetLimits:
        self._limits[symbol] = limits
        self.gate.limits(symbol, limits)
        phases = sum(1 << phase for phase in limits.phases)
        return SetLimits(
            symbol,
            Limits(
                limits.qty_max,
                limits.notional_max,
                limits.position_max,
                limits.band_bp,
                limits.tick,
                limits.located,
                limits.duplicate_window_ns,
                phases,
                limits.restricted,
            ),
        )

    def _set_level(self, level: tuple[RiskLevel, int], limits: golden.MoneyLimits) -> SetLevel:
        self._levels[level] = limits
        self.gate.money_limits(*level, limits)
        return SetLevel(
            *level,
            LevelLimits(limits.gross_max, limits.net_max),
            Rate(limits.interval_ns, limits.burst_ns),
        )

    def _kill(self, level: tuple[RiskLevel, int], on: bool) -> Kill:
        self.gate.kill(*level, on)
        (self._killed.add if on else self._killed.discard)(level)
        return Kill(*level, on)

    # Markets.

    def _random_market(self) -> golden.Market:
        rng = self.rng
        around = MID + rng.randrange(-5, 6) * TICK
        bid, ask = around - rng.choice((0, 50, 100, 300)), around + rng.choice((0, 100, 100, 500))
        empty = rng.random()
        return golden.Market(
            None if empty < 0.05 else bid if rng.random() < 0.95 else ask + 1,
            None if 0.03 < empty < 0.08 else ask,
            None if rng.random() < 0.3 else around,
            halted=rng.random() < 0.02,
            stale=rng.random() < 0.02,
            phase=rng.choices(tuple(MarketPhase), (5, 1, 90, 1, 1))[0],
        )

    def _set_market(self, symbol: int, market: golden.Market) -> SetMarket:
        self._markets[symbol] = market
        return SetMarket(
            symbol,
            Market(
                market.bid or 0,
                market.ask or 0,
                market.last or 0,
                market.halted,
                market.stale,
                int(market.phase),
            ),
        )
