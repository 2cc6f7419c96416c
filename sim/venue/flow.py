"""Generated order flow: a legal, lively ITCH 5.0 day from one seed.

What makes it look like a market: arrivals excite further arrivals, orders gather at the best prices
and have heavy-tailed sizes, most are canceled and few are executed, and a fair value that no one
sees walks at random, shared in part by all symbols, and pulls quotes and aggressors with it.

Executions come from a matching engine, so the book is never crossed or locked and every message
refers to an order that is there.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, islice
from random import Random

from protocol import itch50
from protocol.layout import Value
from protocol.orders import Side, TimeInForce
from protocol.units import NS_PER_SECOND
from sim.venue.matching import (
    Accepted,
    BookSide,
    Canceled,
    Executed,
    MatchingEngine,
    NewOrder,
    Order,
    opposite,
)
from sim.venue.model import DEFAULT, FlowModel

OPEN_NS = 34_200 * NS_PER_SECOND
"""09:30, in ns since midnight."""

_START_OF_MESSAGES_NS = 11_100 * NS_PER_SECOND
_START_OF_SYSTEM_NS = 14_400 * NS_PER_SECOND
_CLOSE_NS = 57_600 * NS_PER_SECOND
_END_OF_SYSTEM_NS = 72_000 * NS_PER_SECOND
_END_OF_MESSAGES_NS = 72_300 * NS_PER_SECOND

# Levels a side that the first orders fill, and below which nothing is taken away from a side.
LEVELS_INITIAL = 12
LEVELS_MIN = 3
_MPIDS = (b"ATLS", b"BRDG", b"CRWN", b"DLTA")

# The struct packers of the hot messages take the fields in the order of the layout.
_ADD = itch50.ADD_ORDER.struct.pack
_ADD_MPID = itch50.ADD_ORDER_MPID.struct.pack
_EXECUTED = itch50.ORDER_EXECUTED.struct.pack
_EXECUTED_AT = itch50.ORDER_EXECUTED_WITH_PRICE.struct.pack
_CANCEL = itch50.ORDER_CANCEL.struct.pack
_DELETE = itch50.ORDER_DELETE.struct.pack
_REPLACE = itch50.ORDER_REPLACE.struct.pack
_TRADE = itch50.TRADE.struct.pack


def generate(
    seed: int,
    symbols: Sequence[str],
    messages: int,
    *,
    start_ns: int = OPEN_NS,
    rate_hz: float | None = None,
    model: FlowModel = DEFAULT,
) -> Iterator[bytes]:
    """Return the messages of a day, each without framing, the same for the same arguments.

    Parameters
    ----------
    seed : int
        Where all randomness comes from.
    symbols : sequence of str
        Locates are given in this order, from 1. The first symbol is the busiest.
    messages : int
        How many messages stand between start and end of market hours. The first of them build the
        books, about 50 a symbol.
    start_ns : int
        Start of market hours, in ns since midnight.
    rate_hz : float, optional
        Mean arrivals per second and symbol, in place of the model's.
    model : FlowModel
        Everything else there is to say of the flow.

    Raises
    ------
    ValueError
        If there are no symbols or too many, one is not 1 to 8 characters, or a number is negative.
    """
    if not 0 < len(symbols) < 1 << 16:
        raise ValueError(f"symbols must be 1 to 65535, not {len(symbols)}")
    for symbol in symbols:
        if not 0 < len(symbol) <= 8:
            raise ValueError(f"symbol must be 1 to 8 characters, not {symbol!r}")
    if rate_hz is None:
        rate_hz = model.arrivals.rate_hz
    if messages < 0 or start_ns < 0 or rate_hz <= 0:
        raise ValueError(f"messages={messages}, start_ns={start_ns}, rate_hz={rate_hz}")
    return _day(Random(seed), symbols, messages, start_ns, rate_hz, model)


def _day(
    rng: Random,
    symbols: Sequence[str],
    messages: int,
    start_ns: int,
    rate_hz: float,
    model: FlowModel,
) -> Iterator[bytes]:
    yield _system_event("O", min(_START_OF_MESSAGES_NS, start_ns))
    yield from _directory(symbols, min(_START_OF_MESSAGES_NS, start_ns))
    yield _system_event("S", min(_START_OF_SYSTEM_NS, start_ns))
    yield _system_event("Q", start_ns)
    flow = Flow(rng, symbols, start_ns, rate_hz, model)
    yield from islice(flow.run(), messages)
    yield _system_event("M", max(_CLOSE_NS, flow.now_ns))
    yield _system_event("E", max(_END_OF_SYSTEM_NS, flow.now_ns))
    yield _system_event("C", max(_END_OF_MESSAGES_NS, flow.now_ns))


def _system_event(code: str, now_ns: int) -> bytes:
    return itch50.SYSTEM_EVENT.pack(stock_locate=0, timestamp=now_ns, event_code=code)


def _directory(symbols: Sequence[str], now_ns: int) -> Iterator[bytes]:
    heads: list[dict[str, Value]] = [
        {"stock_locate": locate, "timestamp": now_ns, "stock": symbol}
        for locate, symbol in enumerate(symbols, 1)
    ]
    for head in heads:
        yield itch50.STOCK_DIRECTORY.pack(
            head,
            market_category="Q",
            financial_status_indicator="N",
            round_lot_size=100,
            round_lots_only="N",
            issue_classification="C",
            issue_sub_type="Z",
            authenticity="P",
            short_sale_threshold_indicator="N",
            ipo_flag="N",
            luld_reference_price_tier="1",
            etp_flag="N",
            etp_leverage_factor=0,
            inverse_indicator="N",
        )
    for head in heads:
        yield itch50.STOCK_TRADING_ACTION.pack(
            head, trading_state="T", reserved=" ", reason_code=""
        )
    for head in heads:
        yield itch50.REG_SHO_RESTRICTION.pack(head, reg_sho_action="0")


@dataclass(slots=True)
class Traded:
    """A symbol, and what the flow keeps of it."""

    locate: int
    stock: bytes
    bids: BookSide
    asks: BookSide
    # Unseen fair value is `price_start * (1 + walk + common walk)`.
    price_start: int
    walk: float = 0.0
    # How far the volatility clock was at the last step of its walk.
    walked_at: float = 0.0
    # References of its orders, some of them gone: they are dropped when they are met.
    refs: list[int] = field(default_factory=list)

    def side(self, side: Side) -> BookSide:
        return self.bids if side is Side.BUY else self.asks

    def best(self) -> tuple[int, int]:
        bid, ask = self.bids.best_price, self.asks.best_price
        if bid is None or ask is None:  # Excluded by LEVELS_MIN.
            raise RuntimeError(f"EMPTY_SIDE: locate={self.locate}, bid={bid}, ask={ask}")
        return bid, ask


class Flow:
    """What happens when, and to which order. ``engine`` is where orders go."""

    def __init__(
        self,
        rng: Random,
        symbols: Sequence[str],
        start_ns: int,
        rate_hz: float,
        model: FlowModel,
        engine: MatchingEngine | None = None,
    ) -> None:
        self.rng = rng
        self.model = model
        self.tick = model.prices.tick
        self.start_ns = self.now_ns = start_ns
        self.decay_hz = model.arrivals.decay_hz
        self.jump_hz = model.arrivals.branching * self.decay_hz
        # Time as the walks see it, in ns: it runs faster in a burst, by the square of its
        # multiplier, since that is how variance grows.
        self.clock = 0.0
        self.in_burst = False
        self.turns_at_ns = start_ns + self._calm_ns()
        self.volatility_own = model.prices.own
        self.volatility_common = model.prices.common
        # Share of the fair value that a flash crash has taken away.
        self.crashed = 0.0
        # Mean rate is the rate without excitation, divided by the share of arrivals it makes up.
        self.rate_hz = rate_hz * len(symbols) * (1 - model.arrivals.branching)
        self.excited_hz = 0.0
        self.engine = MatchingEngine() if engine is None else engine
        self.refs = count(1)
        self.common_walk = 0.0
        self.symbols = [self._symbol(locate, name) for locate, name in enumerate(symbols, 1)]
        # The n-th symbol is 1/n as busy as the first.
        self.activity = list(accumulate(1 / (rank + 1) for rank in range(len(symbols))))

    def _symbol(self, locate: int, name: str) -> Traded:
        bids = self.engine.book_side(locate, Side.BUY)
        asks = self.engine.book_side(locate, Side.SELL)
        prices = self.model.prices
        price = self.tick * self.rng.randrange(prices.start_min, prices.start_max)
        return Traded(locate, name.encode().ljust(8), bids, asks, price)

    def run(self) -> Iterator[bytes]:
        for symbol in self.symbols:
            for distance in range(1, LEVELS_INITIAL + 1):
                for side in Side.BUY, Side.SELL:
                    away = -distance if side is Side.BUY else distance
                    for _ in range(self.rng.randint(1, 3)):
                        yield from self._add(symbol, side, symbol.price_start + away * self.tick)
        symbol = self.symbols[0]
        while True:
            symbol = self._concerned(symbol, self._advance())
            yield from self._act(symbol)

    def _concerned(self, symbol: Traded, gap_ns: int) -> Traded:
        # What arrives together mostly concerns one symbol.
        if gap_ns > 1_000_000 or self.rng.random() < 0.3:
            return self.rng.choices(self.symbols, cum_weights=self.activity)[0]
        return symbol

    def _advance(self) -> int:
        # Ogata's thinning (1981): the rate only falls until the next arrival, so the rate now is a
        # bound for the rate then. Without excitation every candidate of a constant rate is taken.
        start_ns = self.now_ns
        base_hz = self._base_hz()
        while True:
            bound_hz = base_hz + self.excited_hz
            gap = self.rng.expovariate(bound_hz)
            self.excited_hz *= math.exp(-self.decay_hz * gap)
            self.now_ns += int(gap * NS_PER_SECOND)
            base_hz = self._base_hz()
            if self.rng.random() * bound_hz <= base_hz + self.excited_hz:
                self.excited_hz += self.jump_hz
                before = self.clock
                self._run_clock(start_ns)
                self.common_walk += self._step(self.volatility_common, self.clock - before)
                if self.model.crash is not None:
                    self.crashed = self.model.crash.depth(self._since_open_s())
                return self.now_ns - start_ns

    def _since_open_s(self) -> float:
        return (self.now_ns - self.start_ns) / NS_PER_SECOND

    def _base_hz(self) -> float:
        # Without the arrivals that others cause.
        opening = self.model.opening
        if opening is None:
            return self.rate_hz
        rush = (opening.multiplier - 1) * math.exp(-self._since_open_s() / opening.decay_s)
        return self.rate_hz * (1 + rush)

    def _calm_ns(self) -> float:
        bursts = self.model.bursts
        if bursts is None:
            return math.inf
        return self.rng.expovariate(1 / bursts.every_s) * NS_PER_SECOND

    def _run_clock(self, since_ns: float) -> None:
        bursts = self.model.bursts
        while bursts is not None and self.turns_at_ns <= self.now_ns:
            speed = bursts.multiplier**2 if self.in_burst else 1.0
            self.clock += (self.turns_at_ns - since_ns) * speed
            since_ns = self.turns_at_ns
            self.in_burst = not self.in_burst
            if self.in_burst:
                self.turns_at_ns += self.rng.expovariate(1 / bursts.length_s) * NS_PER_SECOND
            else:
                self.turns_at_ns += self._calm_ns()
        speed = bursts.multiplier**2 if bursts is not None and self.in_burst else 1.0
        self.clock += (self.now_ns - since_ns) * speed

    def _step(self, volatility: float, elapsed_ns: float) -> float:
        return self.rng.gauss(0.0, volatility * math.sqrt(elapsed_ns / NS_PER_SECOND))

    def _fair(self, symbol: Traded) -> float:
        symbol.walk += self._step(self.volatility_own, self.clock - symbol.walked_at)
        symbol.walked_at = self.clock
        return symbol.price_start * (1 + symbol.walk + self.common_walk)

    def _act(self, symbol: Traded) -> list[bytes]:
        fair = self._fair(symbol)
        actions, crash = self.model.actions, self.model.crash
        aggressive, orders = actions.aggressive, float(actions.orders)
        if crash is not None and self.crashed:
            fair *= 1 - self.crashed
            aggressive *= crash.aggression
            orders *= 1 - crash.withdrawal
        kind = self.rng.random()
        if (kind := kind - aggressive) < 0:
            return self._aggress(symbol, fair)
        if (kind := kind - actions.hidden) < 0:
            return self._trade_hidden(symbol)
        if (kind := kind - actions.reduced) < 0:
            return self._reduce(symbol)
        if (kind := kind - actions.replaced) < 0:
            return self._replace(symbol, fair)
        excess = (len(symbol.refs) - orders) / orders
        if self.rng.random() < 0.5 - 0.5 * excess:
            return self._add_near(symbol, self._any_side(), fair)
        return self._delete(symbol, fair)

    def _any_side(self) -> Side:
        return Side.BUY if self.rng.random() < 0.5 else Side.SELL

    def _size(self) -> int:
        sizes = self.model.sizes
        if self.rng.random() < sizes.odd:
            return self.rng.randint(1, 99)
        return 100 * min(int(self.rng.paretovariate(sizes.tail)), sizes.lots_max)

    def _price(self, symbol: Traded, side: Side, fair: float) -> int:
        if self.model.placement.kind == "power" or self.crashed:
            return self._price_power(symbol, side, fair)
        # Geometric distance from the best price, which is bettered where spread and fair value
        # leave room for it.
        bid, ask = symbol.best()
        tick = self.tick
        distance = tick * int(self.rng.expovariate(self.model.placement.slope))
        room = ask - bid > tick
        if side is Side.BUY:
            return max((bid + tick if room and bid + tick <= fair else bid) - distance, tick)
        return (ask - tick if room and ask - tick >= fair else ask) + distance

    def _price_power(self, symbol: Traded, side: Side, fair: float) -> int:
        # In ticks, with `up` the direction of a better price. What is kept from the fair value is
        # also kept from the other side: a maker does not take.
        placement, tick = self.model.placement, self.tick
        bid, ask = symbol.best()
        up, best = (1, bid) if side is Side.BUY else (-1, ask)
        room = (ask - bid) // tick - 1
        if room and self.rng.random() < placement.inside:
            better = self.rng.randint(1, room)
        else:
            pareto = self.rng.random() or 1.0
            distance = placement.offset * (pareto ** (-1 / placement.exponent) - 1)
            better = -int(min(distance, placement.distance_max))
        edge = self.rng.expovariate(1 / placement.edge) if placement.edge else 0.0
        limit = math.floor(up * fair / tick - edge)
        return max(up * min(up * best // tick + better, limit) * tick, tick)

    def _head(self, code: bytes, symbol: Traded) -> tuple[bytes, int, int, bytes]:
        return code, symbol.locate, 0, self.now_ns.to_bytes(6, "big")

    def _add_near(self, symbol: Traded, side: Side, fair: float) -> list[bytes]:
        return self._add(symbol, side, self._price(symbol, side, fair))

    def _add(self, symbol: Traded, side: Side, price: int) -> list[bytes]:
        order = NewOrder(next(self.refs), symbol.locate, side, self._size(), price)
        return self._enter(symbol, order)

    def _enter(self, symbol: Traded, order: NewOrder) -> list[bytes]:
        # What the tape shows of an order: its executions, then what is left to rest.
        messages: list[bytes] = []
        displayed_qty = 0
        for event in self.engine.enter(order):
            if isinstance(event, Executed):
                if event.is_maker:
                    messages.append(self._executed(symbol, order.side, event))
                else:
                    displayed_qty -= event.last_qty
            elif isinstance(event, Accepted):
                displayed_qty += event.order_qty
            elif isinstance(event, Canceled):
                displayed_qty -= event.canceled_qty
        if displayed_qty:
            symbol.refs.append(order.order_id)
            messages.append(self._added(symbol, order, displayed_qty))
        return messages

    def _added(self, symbol: Traded, order: NewOrder, qty: int) -> bytes:
        indicator = bytes((order.side,))
        ref, stock, price = order.order_id, symbol.stock, order.price
        if self.rng.random() < 0.04:
            mpid = self.rng.choice(_MPIDS)
            return _ADD_MPID(*self._head(b"F", symbol), ref, indicator, qty, stock, price, mpid)
        return _ADD(*self._head(b"A", symbol), ref, indicator, qty, stock, price)

    def _executed(self, symbol: Traded, side: Side, fill: Executed) -> bytes:
        ref, qty, number = fill.order_id, fill.last_qty, fill.match_number
        if self.rng.random() < 0.03:
            # The maker was ranked half a tick better than it could be displayed.
            price = fill.last_price + (-self.tick // 2 if side is Side.BUY else self.tick // 2)
            return _EXECUTED_AT(*self._head(b"C", symbol), ref, qty, number, b"Y", price)
        return _EXECUTED(*self._head(b"E", symbol), ref, qty, number)

    def _aggress(self, symbol: Traded, fair: float) -> list[bytes]:
        bid, ask = symbol.best()
        pull = (fair - (bid + ask) / 2) / self.tick
        side = Side.BUY if self.rng.random() < 0.5 + self.model.prices.pull * pull else Side.SELL
        if symbol.side(opposite(side)).depth <= LEVELS_MIN:
            return self._add_near(symbol, opposite(side), fair)
        through = self.tick if self.rng.random() < 0.1 else 0
        price = ask + through if side is Side.BUY else max(bid - through, self.tick)
        rests = self.rng.random() < 0.2
        tif = TimeInForce.DAY if rests else TimeInForce.IOC
        order = NewOrder(next(self.refs), symbol.locate, side, self._size(), price, tif)
        return self._enter(symbol, order)

    def _trade_hidden(self, symbol: Traded) -> list[bytes]:
        price = sum(symbol.best()) // 2
        head, number = self._head(b"P", symbol), self.engine.next_match_number()
        return [_TRADE(*head, 0, b"B", self._size(), symbol.stock, price, number)]

    def _reduce(self, symbol: Traded) -> list[bytes]:
        order = self._pick(symbol)
        if order.leaves_qty == 1:
            return self._delete_order(symbol, order)
        leaves_qty = self.rng.randrange(1, order.leaves_qty)
        canceled_qty = order.leaves_qty - leaves_qty
        self.engine.cancel(order.order_id, order.cum_qty + leaves_qty)
        return [_CANCEL(*self._head(b"X", symbol), order.order_id, canceled_qty)]

    def _replace(self, symbol: Traded, fair: float) -> list[bytes]:
        order, ref = self._pick(symbol), next(self.refs)
        qty = order.leaves_qty if self.rng.random() < 0.7 else self._size()
        price = self._price(symbol, order.side, fair)
        self.engine.replace(order.order_id, ref, order.cum_qty + qty, price)
        symbol.refs.append(ref)
        return [_REPLACE(*self._head(b"U", symbol), order.order_id, ref, qty, price)]

    def _delete(self, symbol: Traded, fair: float) -> list[bytes]:
        # Makers flee from a fair value that passed their price; otherwise the further one of two
        # orders goes.
        bid, ask = symbol.best()
        if (fair > ask or fair < bid) and self.rng.random() < 0.5:
            order = symbol.asks.first(ask) if fair > ask else symbol.bids.first(bid)
            if order is not None:
                return self._delete_order(symbol, order)
        order, other = self._pick(symbol), self._pick(symbol)
        far = self.model.actions.far
        further = _distance(other, bid, ask) > _distance(order, bid, ask)
        # Nothing is drawn where every delete takes the further one.
        if further == (far == 1 or self.rng.random() < far):
            order = other
        return self._delete_order(symbol, order)

    def _delete_order(self, symbol: Traded, order: Order) -> list[bytes]:
        if symbol.side(order.side).depth <= LEVELS_MIN:
            away = -LEVELS_MIN if order.side is Side.BUY else LEVELS_MIN
            return self._add(symbol, order.side, max(order.price + away * self.tick, self.tick))
        self.engine.cancel(order.order_id)
        return [_DELETE(*self._head(b"D", symbol), order.order_id)]

    def _pick(self, symbol: Traded) -> Order:
        # Any live order, each as likely. There is one: neither side is ever empty.
        refs = symbol.refs
        while True:
            index = int(self.rng.random() * len(refs))
            order = self.engine.order(refs[index])
            if order is not None:
                return order
            refs[index] = refs[-1]
            refs.pop()


def _distance(order: Order, bid: int, ask: int) -> int:
    return bid - order.price if order.side is Side.BUY else order.price - ask
