"""cocotb bench of the price levels, run by ``test_book_levels.py``."""

import os
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.book.levels import LEVEL, Levels, change, quote

SYMBOL_COUNT = int(os.environ["SYMBOL_COUNT"])
LEVEL_COUNT = int(os.environ["LEVEL_COUNT"])
OPERATIONS = int(os.environ["OPERATIONS"])
SEED = int(os.environ["SEED"])
U32_MAX = (1 << 32) - 1
LAG = Levels.FETCH_CYCLES + Levels.LATENCY


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


CHANGE_FIELDS = fields(change(SYMBOL_COUNT))
QUOTE_FIELDS = fields(quote(SYMBOL_COUNT))
LEVEL_FIELDS = fields(LEVEL)


def unpack(word, layout_fields):
    return {name: word >> offset & mask for name, (offset, mask) in layout_fields.items()}


@dataclass(frozen=True)
class Change:
    """A change, of the refill row as well or, where it is not ``live``, alone."""

    symbol_index: int
    is_buy: int
    take: int = 0
    price: int = 0
    shares: int = 0
    order: int = 1
    live: int = 1
    refill: int = 0
    commit: int = 0
    refresh: int = 0
    chained: int = 0

    def pack(self):
        word = 0
        for name, (offset, mask) in CHANGE_FIELDS.items():
            word |= (getattr(self, name) & mask) << offset
        return word


@dataclass
class Side:
    """Every level of a side, and which of them a row of so many levels has by the rule."""

    is_buy: int
    levels: dict = field(default_factory=dict)
    row: set = field(default_factory=set)

    def worst(self, prices):
        return min(prices) if self.is_buy else max(prices)

    def best(self):
        if not self.levels:
            return (0, 0, 0)
        price = max(self.levels) if self.is_buy else min(self.levels)
        return (price, *self.levels[price])

    @property
    def beyond(self):
        return [price for price in self.levels if price not in self.row]

    @property
    def exact(self):
        return bool(self.row) or not self.levels

    @property
    def low(self):
        return bool(self.beyond) and len(self.row) <= LEVEL_COUNT // 2

    @property
    def shown(self):
        if not self.row:
            return (0, 0, 0)
        price, quantity, orders = self.best()
        return (price, quantity & U32_MAX, orders)

    def apply(self, asked):
        """Return whether the sum did not fit its field."""
        known = asked.price in self.levels
        quantity, orders = self.levels.get(asked.price, (0, 0))
        if asked.take:
            self.levels[asked.price] = (quantity - asked.shares, orders - asked.order)
            if orders == asked.order:
                assert quantity == asked.shares
                del self.levels[asked.price]
                self.row.discard(asked.price)
            return False
        if not known:
            deepest = not self.row or self.worst((*self.row, asked.price)) == asked.price
            if not deepest or (len(self.row) < LEVEL_COUNT and not self.beyond):
                self.row.add(asked.price)
                if len(self.row) > LEVEL_COUNT:
                    self.row.remove(self.worst(self.row))
        self.levels[asked.price] = (quantity + asked.shares, orders + asked.order)
        return asked.price in self.row and quantity + asked.shares > U32_MAX


class Bench:
    """Fetches and changes at falling edges; checks each quote and the cycle it comes in."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.last_change = -99
        self.changes = deque()
        self.pending = deque()
        self.books = [[Side(0), Side(1)] for _ in range(SYMBOL_COUNT)]
        self.refill = Side(0)
        self.refill_overflow = False
        self.before = None
        self.refills = 0
        self.inexact = self.overflows = self.quotes = self.lows = self.unchanged = 0

    async def reset(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for port in (
            dut.i_fetch__payload,
            dut.i_fetch__valid,
            dut.i_change__valid,
            dut.i_change__payload,
            dut.refill_stb,
        ):
            port.value = 0
        dut.rst.value = 1
        for _ in range(4):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        swept = 0
        while not int(dut.ready.value):
            await FallingEdge(dut.clk)
            swept += 1
        assert swept == 2 * SYMBOL_COUNT, swept

    async def tick(self):
        dut = self.dut
        dut.refill_stb.value = self.refills
        self.refills = 0
        if self.changes and self.changes[0][0] == self.cycle:
            _, asked = self.changes.popleft()
            self.refills = asked.refill
            dut.i_change__valid.value = int(asked.live or not asked.refill)
            dut.i_change__payload.value = asked.pack()
        else:
            dut.i_change__valid.value = 0
            dut.i_change__payload.value = self.noise
        await FallingEdge(dut.clk)
        self.cycle += 1
        dut.i_fetch__valid.value = 0
        dut.i_fetch__payload.value = self.cycle % SYMBOL_COUNT
        if int(dut.o__valid.value):
            asked, expected, fetched = self.pending.popleft()
            assert self.cycle - fetched == LAG, (asked, self.cycle - fetched)
            if expected is None:
                return
            got = unpack(int(dut.o__payload.value), QUOTE_FIELDS)
            for name in ("bid", "ask"):
                got[name] = tuple(unpack(got[name], LEVEL_FIELDS).values())
            # The best level of a side that is not exact has no meaning; none is shown.
            assert got == expected, (asked, got, expected)
            self.quotes += 1
        elif self.pending:
            assert self.cycle - self.pending[0][2] < LAG, self.pending[0]

    @property
    def noise(self):
        return (1 << sum(mask.bit_length() for _, mask in CHANGE_FIELDS.values())) - 1

    async def send(self, asked, apart=Levels.INTERVAL):
        """Send a change so many cycles after the one before, or later."""
        while self.cycle - self.last_change < apart:
            await self.tick()
        dut = self.dut
        self.last_change = self.cycle
        self.changes.append((self.cycle + Levels.FETCH_CYCLES, asked))
        if asked.refill:
            self.refill.is_buy = asked.is_buy
            self.refill_overflow |= self.refill.apply(asked)
        if asked.live or not asked.refill:
            dut.i_fetch__valid.value = 1
            dut.i_fetch__payload.value = asked.symbol_index
            self.pending.append((asked, self.expected(asked), self.cycle))
        await self.tick()

    async def commit(self, symbol_index, is_buy, apart=0):
        apart = max(apart, Levels.BEFORE_COMMIT)
        await self.send(Change(symbol_index, is_buy, live=0, commit=1), apart)
        await self.send(
            Change(symbol_index, is_buy, live=0, refresh=1, chained=1), Levels.INTERVAL_COMMIT
        )

    def expected(self, asked):
        sides = self.books[asked.symbol_index]
        is_buy = asked.is_buy
        if not asked.chained:
            self.before = self.shown(sides)
        overflow = False
        if asked.live:
            overflow = sides[is_buy].apply(asked)
        if asked.commit:
            sides[is_buy], self.refill.is_buy = self.refill, is_buy
            self.refill = Side(0)
            return None
        if asked.refresh:
            overflow, self.refill_overflow = self.refill_overflow, False
        after = self.shown(sides)
        self.inexact += not sides[is_buy].exact
        self.overflows += overflow
        self.lows += sides[is_buy].low
        self.unchanged += self.before == after
        return {
            "symbol_index": asked.symbol_index,
            "is_buy": is_buy,
            "bid": after["bid"],
            "ask": after["ask"],
            "exact": int(all(after["exact"])),
            "low": int(sides[is_buy].low),
            "changed": int(self.before != after),
            "exact_changed": int(self.before["exact"] != after["exact"]),
            "overflow": int(overflow),
        }

    @staticmethod
    def shown(sides):
        return {
            "bid": sides[1].shown,
            "ask": sides[0].shown,
            "exact": [side.exact for side in sides],
        }

    async def drain(self):
        for _ in range(LAG + 2):
            await self.tick()
        assert not self.pending
        assert not self.changes


@cocotb.test
async def best_level_deleted_again_and_again_uncovers_the_next(dut):
    bench = Bench(dut)
    await bench.reset()
    for is_buy in (0, 1):
        for apart in (2, 3, 4, 5, 6):
            prices = list(range(100, 100 + LEVEL_COUNT))
            random.Random(SEED).shuffle(prices)
            for price in prices:
                await bench.send(Change(1, is_buy, 0, price, price), apart)
            for price in sorted(prices, reverse=bool(is_buy)):
                assert bench.books[1][is_buy].best()[0] == price
                await bench.send(Change(1, is_buy, 1, price, price), apart)
    await bench.drain()
    assert bench.lows == bench.inexact == 0
    assert bench.quotes == 4 * 5 * LEVEL_COUNT


@cocotb.test
async def row_that_runs_out_is_told_and_heals_when_the_side_is_empty(dut):
    bench = Bench(dut)
    await bench.reset()
    for is_buy in (0, 1):
        prices = [(50 - i if is_buy else 50 + i) for i in range(LEVEL_COUNT + 3)]
        for price in prices:
            await bench.send(Change(0, is_buy, 0, price, 5))
        for price in prices[: LEVEL_COUNT - 1]:
            await bench.send(Change(0, is_buy, 1, price, 5))
        # Those that left half a row or less.
        assert bench.lows == LEVEL_COUNT // 2 * (is_buy + 1) + 5 * is_buy, bench.lows
        assert bench.books[0][is_buy].exact
        await bench.send(Change(0, is_buy, 1, prices[LEVEL_COUNT - 1], 5))
        assert not bench.books[0][is_buy].exact
        # An order whose place among those beyond is not known cannot be told to be the best.
        await bench.send(Change(0, is_buy, 0, prices[0], 5))
        await bench.send(Change(0, is_buy, 1, prices[0], 5))
        for price in prices[LEVEL_COUNT:]:
            assert not bench.books[0][is_buy].exact
            await bench.send(Change(0, is_buy, 1, price, 5))
        assert bench.books[0][is_buy].exact
        await bench.send(Change(0, is_buy, 0, 77, 5))
        await bench.send(Change(0, is_buy, 1, 77, 5))
    await bench.drain()


@cocotb.test
async def extremes_of_price_and_quantity_are_kept_and_overflow_is_told(dut):
    bench = Bench(dut)
    await bench.reset()
    for is_buy in (0, 1):
        for price in (0, U32_MAX, 1, U32_MAX - 1, 1 << 31, (1 << 31) - 1):
            await bench.send(Change(1, is_buy, 0, price, U32_MAX))
        assert bench.overflows == is_buy
        await bench.send(Change(1, is_buy, 0, 0, 1))
        assert bench.overflows == is_buy + 1
        await bench.send(Change(1, is_buy, 1, 0, 1))
        for price in (0, U32_MAX, 1, U32_MAX - 1, 1 << 31, (1 << 31) - 1):
            await bench.send(Change(1, is_buy, 1, price, U32_MAX))
    await bench.drain()


@cocotb.test
async def refilled_row_has_what_was_beyond(dut):
    bench = Bench(dut)
    await bench.reset()
    for is_buy in (0, 1):
        sign = -1 if is_buy else 1
        prices = [5000 + sign * i for i in range(2 * LEVEL_COUNT)]
        for price in prices:
            await bench.send(Change(1, is_buy, 0, price, price))
        for price in prices[:LEVEL_COUNT]:
            await bench.send(Change(1, is_buy, 1, price, price))
        assert not bench.books[1][is_buy].exact
        rest = prices[LEVEL_COUNT:]
        # The deepest first; one leaves after it was fed, one comes.
        for price in reversed(rest[1:]):
            await bench.send(Change(1, is_buy, 0, price, price, live=0, refill=1))
        await bench.send(Change(1, is_buy, 1, rest[2], rest[2], refill=1))
        await bench.send(Change(1, is_buy, 1, rest[0], rest[0]))
        await bench.send(Change(1, is_buy, 0, 5000, 7, refill=1))
        assert not bench.books[1][is_buy].exact
        assert bench.refill.levels == bench.books[1][is_buy].levels
        await bench.commit(1, is_buy)
        assert bench.books[1][is_buy].shown == (5000, 7, 1)
        await bench.send(Change(1, is_buy, 1, 5000, 7))
        assert bench.books[1][is_buy].shown == (rest[1], rest[1], 1)
    await bench.drain()


@cocotb.test
async def emptied_rows_are_empty_whatever_comes_next(dut):
    bench = Bench(dut)
    await bench.reset()
    for apart in range(2, 9):
        for is_buy in (0, 1):
            for price in range(10, 10 + LEVEL_COUNT + 2):
                await bench.send(Change(1, is_buy, 0, price, U32_MAX))
        # What the refill row had is in the row then, and not in the refill row.
        await bench.send(Change(1, 1, 0, 10, U32_MAX, live=0, refill=1))
        await bench.commit(1, 1)
        assert bench.shown(bench.books[1])["bid"] == (10, U32_MAX, 1)
        await bench.commit(1, 1)
        await bench.commit(1, 0, apart)
        await bench.send(Change(1, 0, 0, 9, 9), apart)
        await bench.send(Change(1, 1, 0, 8, 8))
        assert bench.shown(bench.books[1])["bid"] == (8, 8, 1)
        assert bench.shown(bench.books[1])["ask"] == (9, 9, 1)
        await bench.commit(1, 1)
        await bench.commit(1, 0)
    await bench.drain()


@cocotb.test
async def sum_of_a_refill_that_does_not_fit_is_told_with_its_commit(dut):
    bench = Bench(dut)
    await bench.reset()
    for price in (7, 8, 9):
        await bench.send(Change(1, 0, 0, price, 1))
    for _ in range(2):
        await bench.send(Change(1, 0, 0, 10, U32_MAX))
    overflows = bench.overflows
    for price, shares in ((7, 1), (8, 1), (9, 1), (10, U32_MAX), (10, U32_MAX)):
        await bench.send(Change(1, 0, 0, price, shares, live=0, refill=1))
    await bench.commit(1, 0)
    assert bench.overflows == overflows + 1
    await bench.commit(1, 1)
    assert bench.overflows == overflows + 1
    await bench.drain()


@dataclass
class Order:
    price: int
    shares: int
    fed: bool = False


@dataclass
class Scan:
    """A refill under way: which row it is for, and the orders that it has not fed yet."""

    symbol_index: int
    is_buy: int
    left: list


@cocotb.test
async def random_changes_are_as_the_model_says(dut):
    print(f"symbols={SYMBOL_COUNT} levels={LEVEL_COUNT} seed={SEED}")
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    symbols = [0, SYMBOL_COUNT - 1, *rng.sample(range(1, SYMBOL_COUNT - 1), 2)]
    orders = {(s, b): [] for s in symbols for b in (0, 1)}
    symbol, fullness, pause, deepest, scan = 0, 8, (2,), 0, None
    seen = Counter()

    async def change(symbol, is_buy, take, order, shares, chained=0):
        fed = scan is not None and (scan.symbol_index, scan.is_buy) == (symbol, is_buy)
        refill = int(fed and order.fed)
        gone = int(not take or shares == order.shares)
        asked = Change(
            symbol, is_buy, take, order.price, shares, gone, refill=refill, chained=chained
        )
        seen["both rows"] += refill
        if take:
            order.shares -= shares
        if take and gone:
            orders[symbol, is_buy].remove(order)
            if fed and not refill:
                scan.left.remove(order)
        if not take:
            orders[symbol, is_buy].append(order)
            if fed and not refill:
                scan.left.append(order)
        await bench.send(asked, 2 if chained else rng.choice(pause))

    def some_price():
        if rng.random() < 0.05:
            return rng.choice((0, 1, U32_MAX, rng.getrandbits(32)))
        return 1000 + rng.randrange(-2 * LEVEL_COUNT, 2 * LEVEL_COUNT)

    for _ in range(OPERATIONS):
        if rng.random() < 0.01:
            pause = rng.choice(((2,), (3,), (4,), (5,), (2, 3, 4, 5, 6)))
            fullness = rng.choice((1, LEVEL_COUNT // 2, LEVEL_COUNT, 4 * LEVEL_COUNT))
        if rng.random() < 0.4:
            symbol = rng.choice(symbols)
        is_buy = rng.getrandbits(1)
        live = orders[symbol, is_buy]
        draw = rng.random()
        if scan is None and rng.random() < (0.05 if bench.books[symbol][is_buy].low else 0.01):
            for order in live:
                order.fed = False
            scan = Scan(symbol, is_buy, list(live))
            seen["low"] += bench.books[symbol][is_buy].low
        if scan is not None and rng.random() < 0.5:
            if not scan.left:
                row = bench.books[scan.symbol_index][scan.is_buy]
                assert bench.refill.levels == row.levels
                await bench.commit(scan.symbol_index, scan.is_buy, rng.choice(pause))
                seen["commit"] += 1
                scan = None
            else:
                order = scan.left.pop(rng.randrange(len(scan.left)))
                order.fed = True
                asked = Change(
                    *(scan.symbol_index, scan.is_buy, 0, order.price, order.shares),
                    live=0,
                    refill=1,
                )
                await bench.send(asked, rng.choice(pause))
        elif draw < 0.03:
            price = rng.choice((rng.getrandbits(32), bench.books[symbol][is_buy].shown[0]))
            take, order = rng.getrandbits(1), rng.getrandbits(1)
            await bench.send(Change(symbol, is_buy, take, price, 9, order, 0), rng.choice(pause))
        elif draw < 0.035 and scan is None:
            live.clear()
            await bench.commit(symbol, is_buy, rng.choice(pause))
            seen["emptied"] += 1
        elif live and draw < (0.4 if len(live) < fullness else 0.8):
            best = [o for o in live if o.price == bench.books[symbol][is_buy].best()[0]]
            order = rng.choice(best) if rng.random() < 0.5 else rng.choice(live)
            chance = rng.random()
            if chance < 0.3:
                await change(symbol, is_buy, 1, order, rng.randrange(order.shares))
            else:
                await change(symbol, is_buy, 1, order, order.shares)
            if chance > 0.7:
                price = order.price if rng.random() < 0.3 else some_price()
                shares = rng.choice((order.shares or 1, rng.randint(1, 1000)))
                second = Order(price, shares, rng.getrandbits(1))
                await change(symbol, is_buy, 0, second, shares, chained=1)
        else:
            order = Order(some_price(), rng.randint(1, 1000), rng.getrandbits(1))
            await change(symbol, is_buy, 0, order, order.shares)
        deepest = max(deepest, len(bench.books[symbol][is_buy].levels))
    await bench.drain()
    print(f"cycles={bench.cycle} inexact={bench.inexact} deep={deepest} {dict(seen)}")
    print(f"quotes={bench.quotes} unchanged={bench.unchanged} low={bench.lows}")
    assert min(seen[name] for name in ("both rows", "low", "commit", "emptied")) > 3
    assert bench.inexact < OPERATIONS // 2
    assert deepest > LEVEL_COUNT
