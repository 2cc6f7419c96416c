"""cocotb bench of the price levels, run by ``test_book_levels.py``."""

import os
import random
from collections import deque
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
    symbol_index: int
    is_buy: int
    take: int
    price: int
    shares: int
    order: int = 1
    applied: int = 1

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
        self.last_fetch = -99
        self.changes = deque()
        self.pending = deque()
        self.books = [(Side(0), Side(1)) for _ in range(SYMBOL_COUNT)]
        self.inexact = self.refills = self.overflows = self.quotes = 0

    async def reset(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for port in (
            dut.i_fetch__payload,
            dut.i_fetch__valid,
            dut.i_change__valid,
            dut.i_change__payload,
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
        assert swept == SYMBOL_COUNT, swept

    async def tick(self):
        dut = self.dut
        if self.changes and self.changes[0][0] == self.cycle:
            dut.i_change__valid.value = 1
            dut.i_change__payload.value = self.changes.popleft()[1].pack()
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
            got = unpack(int(dut.o__payload.value), QUOTE_FIELDS)
            for name in ("bid", "ask", "bid_before", "ask_before"):
                got[name] = tuple(unpack(got[name], LEVEL_FIELDS).values())
            got["refill"] = int(dut.refill_stb.value)
            # The best level of a side that is not exact has no meaning; none is shown.
            assert got == expected, (asked, got, expected)
            self.quotes += 1
        else:
            assert not int(dut.refill_stb.value)
            if self.pending:
                assert self.cycle - self.pending[0][2] < LAG, self.pending[0]

    @property
    def noise(self):
        return (1 << sum(mask.bit_length() for _, mask in CHANGE_FIELDS.values())) - 1

    async def send(self, asked, apart=Levels.INTERVAL):
        """Send a change so many cycles after the one before, or later."""
        while self.cycle - self.last_fetch < apart:
            await self.tick()
        dut = self.dut
        dut.i_fetch__valid.value = 1
        dut.i_fetch__payload.value = asked.symbol_index
        self.last_fetch = self.cycle
        self.changes.append((self.cycle + Levels.FETCH_CYCLES, asked))
        sides = self.books[asked.symbol_index]
        before = [self.shown(side) for side in sides]
        exact = [side.exact for side in sides]
        overflow = asked.applied and sides[asked.is_buy].apply(asked)
        after = [self.shown(side) for side in sides]
        refill = any(was and not side.exact for was, side in zip(exact, sides, strict=True))
        expected = {
            "symbol_index": asked.symbol_index,
            "bid": after[1],
            "ask": after[0],
            "bid_exact": int(sides[1].exact),
            "ask_exact": int(sides[0].exact),
            "bid_before": before[1],
            "ask_before": before[0],
            "bid_exact_before": int(exact[1]),
            "ask_exact_before": int(exact[0]),
            "overflow": int(overflow),
            "refill": int(refill),
        }
        self.inexact += not sides[asked.is_buy].exact
        self.refills += refill
        self.overflows += overflow
        self.pending.append((asked, expected, self.cycle))
        await self.tick()

    @staticmethod
    def shown(side):
        if not side.row:
            return (0, 0, 0)
        price, quantity, orders = side.best()
        return (price, quantity & U32_MAX, orders)

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
    assert bench.refills == bench.inexact == 0
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
        assert bench.refills == is_buy
        assert bench.books[0][is_buy].exact
        await bench.send(Change(0, is_buy, 1, prices[LEVEL_COUNT - 1], 5))
        assert bench.refills == is_buy + 1
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
async def random_changes_are_as_the_model_says(dut):
    print(f"symbols={SYMBOL_COUNT} levels={LEVEL_COUNT} seed={SEED}")
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    symbols = [0, SYMBOL_COUNT - 1, *rng.sample(range(1, SYMBOL_COUNT - 1), 2)]
    orders = {(s, b): [] for s in symbols for b in (0, 1)}
    symbol, fullness, pause, deepest = 0, 8, (2,), 0
    for _ in range(OPERATIONS):
        if rng.random() < 0.01:
            pause = rng.choice(((2,), (3,), (4,), (5,), (2, 3, 4, 5, 6)))
            fullness = rng.choice((1, LEVEL_COUNT // 2, LEVEL_COUNT, 4 * LEVEL_COUNT))
        if rng.random() < 0.4:
            symbol = rng.choice(symbols)
        is_buy = rng.getrandbits(1)
        live = orders[symbol, is_buy]
        draw = rng.random()
        if draw < 0.03:
            asked = Change(symbol, is_buy, 1, rng.getrandbits(32), 9, applied=0)
        elif live and draw < (0.4 if len(live) < fullness else 0.8):
            side = bench.books[symbol][is_buy]
            best = [i for i, (price, _) in enumerate(live) if price == side.best()[0]]
            at = rng.choice(best) if rng.random() < 0.5 else rng.randrange(len(live))
            price, shares = live[at]
            if rng.random() < 0.3:
                part = rng.randrange(shares)
                live[at] = (price, shares - part)
                asked = Change(symbol, is_buy, 1, price, part, order=0)
            else:
                live.pop(at)
                asked = Change(symbol, is_buy, 1, price, shares)
        else:
            if rng.random() < 0.05:
                price = rng.choice((0, 1, U32_MAX, rng.getrandbits(32)))
            else:
                price = 1000 + rng.randrange(-2 * LEVEL_COUNT, 2 * LEVEL_COUNT)
            shares = rng.randint(1, 1000)
            live.append((price, shares))
            asked = Change(symbol, is_buy, 0, price, shares)
        await bench.send(asked, rng.choice(pause))
        deepest = max(deepest, len(bench.books[symbol][is_buy].levels))
    await bench.drain()
    print(f"cycles={bench.cycle} refills={bench.refills} inexact={bench.inexact} deep={deepest}")
    assert bench.refills > 5
    assert bench.inexact < OPERATIONS // 2
    assert deepest > LEVEL_COUNT
