"""cocotb bench of the order map, run by ``test_book_orders.py``."""

import os
import random
from collections import deque
from dataclasses import dataclass, replace

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.book.hash import HASH_COUNT, compute, masks
from hw.rtl.book.orders import OrderMap
from hw.rtl.book.requests import RequestKind, request, result
from protocol.reasons import StaleReason

ORDER_COUNT = int(os.environ["ORDER_COUNT"])
FILL = int(os.environ["FILL"])
OPERATIONS = int(os.environ["OPERATIONS"])
SEED = int(os.environ["SEED"])
STASH_COUNT = 16
SYMBOL_COUNT = 64
HASH_BITS = (ORDER_COUNT // HASH_COUNT).bit_length() - 1
SMALL = ORDER_COUNT == 64
U32_MAX = (1 << 32) - 1

INSERT, REDUCE, REMOVE = RequestKind.INSERT, RequestKind.REDUCE, RequestKind.REMOVE


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


REQUEST_FIELDS = fields(request(SYMBOL_COUNT))
RESULT_FIELDS = fields(result(SYMBOL_COUNT))


@dataclass(frozen=True)
class Request:
    kind: RequestKind
    reference: int
    symbol_index: int = 0
    is_buy: int = 0
    bad_side: int = 0
    price: int = 0
    shares: int = 0
    chained: int = 0

    def pack(self):
        word = 0
        for name, (offset, mask) in REQUEST_FIELDS.items():
            value = getattr(self, name)
            word |= (int(value.value if name == "kind" else value) & mask) << offset
        return word


@dataclass(frozen=True)
class Result:
    """``order_symbol_index`` counts only where an order was found, the rest where it applied."""

    reason: StaleReason
    applied: int = 0
    gone: int = 0
    is_buy: int = 0
    price: int = 0
    shares: int = 0
    order_symbol_index: int | None = None


@dataclass(frozen=True)
class Order:
    symbol_index: int
    is_buy: int
    price: int
    shares: int


class Model:
    """The order map as a dict, with the checks of the golden book in its order."""

    def __init__(self):
        self.orders = {}
        self.chain = None

    def apply(self, asked):
        if asked.kind is INSERT:
            return self.insert(asked)
        self.chain = None
        order = self.orders.get(asked.reference)
        if order is None:
            return Result(StaleReason.UNKNOWN_REFERENCE)
        if order.symbol_index != asked.symbol_index:
            return Result(StaleReason.LOCATE_MISMATCH, order_symbol_index=order.symbol_index)
        shares = order.shares if asked.kind is REMOVE else asked.shares
        reason = StaleReason.OVERFILL if shares > order.shares else StaleReason.NONE
        taken = min(shares, order.shares)
        gone = taken == order.shares
        if gone:
            del self.orders[asked.reference]
        else:
            self.orders[asked.reference] = replace(order, shares=order.shares - taken)
        if asked.kind is REMOVE:
            self.chain = order.is_buy
        return Result(reason, 1, int(gone), order.is_buy, order.price, taken, order.symbol_index)

    def insert(self, asked):
        chain, self.chain = self.chain, None
        if asked.chained and chain is None:
            return Result(StaleReason.NONE)
        if asked.reference in self.orders:
            found = self.orders[asked.reference].symbol_index
            return Result(StaleReason.DUPLICATE_REFERENCE, order_symbol_index=found)
        if asked.shares == 0 or (asked.bad_side and not asked.chained):
            return Result(StaleReason.INVALID_ORDER)
        is_buy = chain if asked.chained else asked.is_buy
        order = Order(asked.symbol_index, is_buy, asked.price, asked.shares)
        self.orders[asked.reference] = order
        return Result(StaleReason.NONE, 1, 0, is_buy, asked.price, asked.shares)

    def refuse(self, asked):
        del self.orders[asked.reference]


class Bench:
    """Drives requests at falling edges and checks each result and the cycle it comes in."""

    def __init__(self, dut):
        self.dut = dut
        self.model = Model()
        self.cycle = 0
        self.pending = deque()
        self.since_taken = 99
        self.refused = 0
        self.stash_max = 0
        self.busy_max = 0

    async def reset(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        dut.i__valid.value = 0
        dut.i__payload.value = 0
        dut.rst.value = 1
        for _ in range(4):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        self.model = Model()
        swept = 0
        while not int(dut.i__ready.value):
            await FallingEdge(dut.clk)
            swept += 1
        assert swept == ORDER_COUNT // HASH_COUNT, swept

    async def tick(self):
        """Let a cycle pass and check what it shows."""
        dut = self.dut
        await FallingEdge(dut.clk)
        self.cycle += 1
        self.since_taken += 1
        if int(dut.o__valid.value):
            asked, expected, taken = self.pending.popleft()
            assert self.cycle - taken == OrderMap.LATENCY, f"{asked}: {self.cycle - taken} cycles"
            self.check(asked, expected)
        else:
            assert not int(dut.full_stb.value)
            if self.pending:
                assert self.cycle - self.pending[0][2] < OrderMap.LATENCY, self.pending[0]

    def check(self, asked, expected):
        word = int(self.dut.o__payload.value)
        got = {name: word >> o & mask for name, (o, mask) in RESULT_FIELDS.items()}
        full = got["reason"] == StaleReason.ORDER_MAP_FULL
        assert int(self.dut.full_stb.value) == full
        self.stash_max = max(self.stash_max, int(self.dut.stash_used.value))
        if full:
            assert expected.applied, asked
            assert asked.kind is INSERT, asked
            assert not got["applied"], asked
            assert int(self.dut.stash_used.value) == STASH_COUNT
            # Nothing that followed was decided in the belief that the order is there.
            assert all(later.reference != asked.reference for later, _, _ in self.pending)
            self.model.refuse(asked)
            self.refused += 1
            return
        assert got["kind"] == asked.kind.value
        assert got["chained"] == asked.chained
        assert got["symbol_index"] == asked.symbol_index
        assert StaleReason(got["reason"]) is expected.reason, (asked, got, expected)
        assert got["applied"] == expected.applied, (asked, got, expected)
        if expected.order_symbol_index is not None:
            assert got["order_symbol_index"] == expected.order_symbol_index, (asked, got)
        if expected.applied:
            for name in ("gone", "is_buy", "price", "shares"):
                assert got[name] == getattr(expected, name), (name, asked, got, expected)

    async def send(self, asked, idle=0):
        """Hold the line for some cycles, then send a request as soon as it is taken."""
        dut = self.dut
        for _ in range(idle):
            await self.tick()
        dut.i__valid.value = 1
        dut.i__payload.value = asked.pack()
        busy = 0
        closed = max(0, OrderMap.INTERVAL - self.since_taken)
        while not int(dut.i__ready.value):
            await self.tick()
            busy += 1
        assert busy == closed, (busy, closed)
        self.since_taken = 0
        expected = self.model.apply(asked)
        self.pending.append((asked, expected, self.cycle))
        await self.tick()
        dut.i__valid.value = 0
        return expected

    async def drain(self):
        for _ in range(OrderMap.LATENCY + 1):
            await self.tick()
        assert not self.pending


def colliding(count, rng):
    """Return references that share all four buckets: a base plus the null space of the hashes."""
    rows = [mask for which in range(HASH_COUNT) for mask in masks(which, HASH_BITS)]
    pivots = {}
    for row in rows:
        for pivot, reduced in pivots.items():
            if row >> pivot & 1:
                row ^= reduced
        if row:
            pivot = row.bit_length() - 1
            pivots = {p: r ^ row if r >> pivot & 1 else r for p, r in pivots.items()}
            pivots[pivot] = row
    free = [bit for bit in range(64) if bit not in pivots]
    base, found = rng.getrandbits(64), set()
    while len(found) < count:
        vector = sum(1 << bit for bit in free if rng.random() < 0.5)
        vector |= sum(1 << pivot for pivot, row in pivots.items() if (row & vector).bit_count() & 1)
        found.add(base ^ vector)
    buckets = {tuple(compute(w, r, HASH_BITS) for w in range(HASH_COUNT)) for r in found}
    assert len(buckets) == 1
    return list(found)


def order(rng, reference, symbol_index=None, **other):
    edge = rng.random() < 0.1
    return Request(
        INSERT,
        reference,
        symbol_index=rng.randrange(SYMBOL_COUNT) if symbol_index is None else symbol_index,
        is_buy=rng.getrandbits(1),
        price=rng.choice((0, 1, U32_MAX)) if edge else rng.getrandbits(32),
        shares=rng.choice((1, U32_MAX)) if edge else rng.randint(1, 1000),
        **other,
    )


@cocotb.test(skip=not SMALL)
async def every_reason_is_told_and_the_first_decides(dut):
    bench = Bench(dut)
    await bench.reset()
    book = Request(INSERT, 7, symbol_index=3, is_buy=1, price=100, shares=10)
    table = (
        (Request(REDUCE, 7, symbol_index=3, shares=1), StaleReason.UNKNOWN_REFERENCE, 0),
        (Request(REMOVE, 7, symbol_index=3), StaleReason.UNKNOWN_REFERENCE, 0),
        (replace(book, shares=0), StaleReason.INVALID_ORDER, 0),
        (replace(book, bad_side=1), StaleReason.INVALID_ORDER, 0),
        (book, StaleReason.NONE, 1),
        (replace(book, shares=0, bad_side=1), StaleReason.DUPLICATE_REFERENCE, 0),
        (Request(REDUCE, 7, symbol_index=2, shares=99), StaleReason.LOCATE_MISMATCH, 0),
        (Request(REDUCE, 7, symbol_index=3, shares=0), StaleReason.NONE, 1),
        (Request(REDUCE, 7, symbol_index=3, shares=4), StaleReason.NONE, 1),
        (Request(REDUCE, 7, symbol_index=3, shares=7), StaleReason.OVERFILL, 1),
        (Request(REMOVE, 7, symbol_index=3), StaleReason.UNKNOWN_REFERENCE, 0),
        (replace(book, chained=1), StaleReason.NONE, 0),
        (book, StaleReason.NONE, 1),
        (Request(REMOVE, 7, symbol_index=1), StaleReason.LOCATE_MISMATCH, 0),
        (replace(book, chained=1, reference=8), StaleReason.NONE, 0),
        (Request(REMOVE, 7, symbol_index=3), StaleReason.NONE, 1),
        (replace(book, chained=1, is_buy=0, bad_side=1, reference=8), StaleReason.NONE, 1),
        (Request(REMOVE, 8, symbol_index=3), StaleReason.NONE, 1),
        (replace(book, chained=1, reference=8, shares=0), StaleReason.INVALID_ORDER, 0),
        (replace(book, chained=1, reference=8), StaleReason.NONE, 0),
    )
    for idle in range(5):
        for asked, reason, applied in table:
            expected = await bench.send(asked, idle)
            assert (expected.reason, expected.applied) == (reason, applied), asked
        await bench.drain()
        assert not bench.model.orders


@cocotb.test(skip=not SMALL)
async def order_without_room_is_refused_and_room_is_found_again(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    references = colliding(HASH_COUNT + STASH_COUNT + 4, rng)
    for idle in (0, 1, 2, 7):
        for count, reference in enumerate(references, 1):
            await bench.send(order(rng, reference, 1), idle)
            await bench.drain()
            assert bench.refused == max(0, count - HASH_COUNT - STASH_COUNT)
        assert int(dut.stash_used.value) == STASH_COUNT
        for _ in range(300):
            await bench.tick()
        live = list(bench.model.orders)
        await bench.send(Request(REMOVE, live[0], symbol_index=1))
        spare = next(r for r in references if r not in bench.model.orders and r != live[0])
        await bench.send(order(rng, spare, 1), idle)
        await bench.drain()
        assert spare in bench.model.orders
        for reference in list(bench.model.orders):
            await bench.send(Request(REDUCE, reference, symbol_index=1, shares=U32_MAX), idle)
        await bench.drain()
        assert int(dut.stash_used.value) == 0
        bench.refused = 0
    assert int(dut.stash_used_max.value) == STASH_COUNT


@cocotb.test(skip=not SMALL)
async def reset_forgets_every_order(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    references = colliding(10, rng)
    for reference in references:
        await bench.send(order(rng, reference, 1))
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    bench.pending.clear()
    bench.model = Model()
    bench.since_taken = 99
    while not int(dut.i__ready.value):
        await bench.tick()
    assert int(dut.stash_used_max.value) == 0
    for reference in references:
        await bench.send(Request(REMOVE, reference, symbol_index=1))
    await bench.drain()


class Flow:
    """Random requests: legal ones for the most part, near one another more often than not."""

    def __init__(self, rng, fill):
        self.rng = rng
        self.fill = fill
        self.next_reference = rng.getrandbits(40)
        # Few buckets, equal low bits and equal high bits.
        self.special = [
            *colliding(12, rng),
            *(rng.getrandbits(48) << 16 | 0x1234 for _ in range(12)),
            *(0xABCD << 48 | rng.getrandbits(16) for _ in range(12)),
            0,
            (1 << 64) - 1,
        ]
        self.recent = deque(maxlen=3)
        self.live = []

    def reference(self):
        if self.rng.random() < 0.3:
            return self.rng.choice(self.special)
        self.next_reference += self.rng.choice((1, 1, 1, 2, 4))
        return self.next_reference

    def known(self, model):
        """A live reference, or with luck one that has just been."""
        rng = self.rng
        if self.recent and rng.random() < 0.4:
            return rng.choice(self.recent)
        while self.live:
            at = rng.randrange(len(self.live))
            if self.live[at] in model.orders:
                return self.live[at]
            self.live[at] = self.live[-1]
            self.live.pop()
        return self.reference()

    def requests(self, model):
        """One request, or the two of a replace."""
        rng = self.rng
        crowded = len(model.orders) >= self.fill
        draw = rng.random()
        if draw < (0.2 if crowded else 0.6):
            reference = rng.choice(self.recent) if self.recent and draw < 0.02 else self.reference()
            asked = [order(rng, reference)]
            if rng.random() < 0.02:
                asked[0] = replace(asked[0], **rng.choice(({"shares": 0}, {"bad_side": 1})))
        else:
            reference = self.reference() if rng.random() < 0.02 else self.known(model)
            found = model.orders.get(reference)
            symbol_index = rng.randrange(SYMBOL_COUNT)
            shares = rng.getrandbits(32)
            if found is not None and rng.random() < 0.98:
                symbol_index = found.symbol_index
                shares = rng.choice((0, 1, found.shares // 2, found.shares, found.shares, shares))
            kind = rng.choice((REDUCE, REMOVE, REMOVE))
            asked = [Request(kind, reference, symbol_index, shares=shares)]
            if rng.random() < 0.25:
                new = reference if rng.random() < 0.1 else self.reference()
                asked[0] = replace(asked[0], kind=REMOVE)
                asked.append(order(rng, new, symbol_index, chained=1))
        for one in asked:
            self.recent.append(one.reference)
            if one.kind is INSERT:
                self.live.append(one.reference)
        return asked


async def flow(dut, fill, operations, idles):
    print(f"order_count={ORDER_COUNT} fill={fill} seed={SEED}")
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    source = Flow(rng, fill)
    reasons = dict.fromkeys(StaleReason, 0)
    peak = sent = 0
    pause = idles
    while sent < operations:
        if rng.random() < 0.02:
            pause = rng.choice(((0,), (1,), (2,), (3,), (4,), idles, idles))
        if int(dut.stash_used.value) >= STASH_COUNT - 4:
            await bench.drain()  # A refusal must not come as a surprise to the model.
        for asked in source.requests(bench.model):
            reasons[(await bench.send(asked, rng.choice(pause))).reason] += 1
            sent += 1
        peak = max(peak, len(bench.model.orders))
    await bench.drain()
    print(f"cycles={bench.cycle} live at most {peak}, refused {bench.refused}, reasons")
    print({reason.name: count for reason, count in reasons.items() if count})
    print(f"stash at most {int(dut.stash_used_max.value)}")
    assert int(dut.stash_used_max.value) >= bench.stash_max
    for reason in (
        StaleReason.UNKNOWN_REFERENCE,
        StaleReason.DUPLICATE_REFERENCE,
        StaleReason.OVERFILL,
        StaleReason.LOCATE_MISMATCH,
        StaleReason.INVALID_ORDER,
    ):
        assert reasons[reason], reason
    for reference, found in list(bench.model.orders.items()):
        await bench.send(Request(REMOVE, reference, found.symbol_index))
    await bench.drain()
    assert not bench.model.orders
    assert int(dut.stash_used.value) == 0
    return bench


@cocotb.test(skip=not SMALL)
async def random_flow_is_as_the_model_says(dut):
    await flow(dut, FILL, OPERATIONS, (0, 0, 1, 1, 2, 3, 4))


@cocotb.test(skip=SMALL)
async def rated_fill_fits_at_line_rate(dut):
    """Adds come every 4 to 5 cycles and what takes orders away every 2 to 3, as on the wire."""
    print(f"order_count={ORDER_COUNT} fill={FILL} seed={SEED}")
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    reference, live = rng.getrandbits(40), []
    for count in range(FILL + OPERATIONS // 2):
        reference += rng.choice((1, 1, 1, 2, 4, 8, 100))
        if count >= FILL:
            at = rng.randrange(len(live))
            live[at], live[-1] = live[-1], live[at]
            gone = live.pop()
            symbol_index = bench.model.orders[gone].symbol_index
            await bench.send(Request(REMOVE, gone, symbol_index), rng.choice((1, 2, 2)))
        await bench.send(order(rng, reference), rng.choice((3, 4, 4, 4)))
        live.append(reference)
    await bench.drain()
    assert len(bench.model.orders) == FILL
    assert bench.refused == 0
    print(f"live {FILL} of {ORDER_COUNT}: stash at most {int(dut.stash_used_max.value)}")
    print(f"after {OPERATIONS} operations at that fill, {bench.cycle} cycles in all")
    for one in live:
        found = bench.model.orders[one]
        await bench.send(Request(REMOVE, one, found.symbol_index), 0)
    await bench.drain()
    assert int(dut.stash_used.value) == 0
