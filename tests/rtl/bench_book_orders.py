"""cocotb bench of the order map, run by ``test_book_orders.py``."""

import itertools
import os
import random
from collections import Counter, deque
from dataclasses import dataclass, replace
from functools import cache

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.book.hash import HASH_COUNT, compute, hash_bits, masks
from hw.rtl.book.orders import OrderMap
from hw.rtl.book.requests import RequestKind, request, result, scan_request
from protocol.reasons import StaleReason

ORDER_COUNT = int(os.environ["ORDER_COUNT"])
FILL = int(os.environ["FILL"])
OPERATIONS = int(os.environ["OPERATIONS"])
SEED = int(os.environ["SEED"])
STASH_COUNT = 16
SYMBOL_COUNT = 64
BUCKETS = ORDER_COUNT // HASH_COUNT
HASH_BITS = hash_bits(ORDER_COUNT)
SMALL, LARGE = (count == ORDER_COUNT for count in (64, 16_384))
U32_MAX = (1 << 32) - 1

INSERT, REDUCE, REMOVE = RequestKind.INSERT, RequestKind.REDUCE, RequestKind.REMOVE
SCAN, DONE = RequestKind.SCAN, RequestKind.DONE


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


REQUEST_FIELDS = fields(request(SYMBOL_COUNT, HASH_BITS))
SCAN_FIELDS = fields(scan_request(SYMBOL_COUNT))
RESULT_FIELDS = fields(result(SYMBOL_COUNT))
# Where things are in ``stimulus`` and ``flags``: see ``Top`` in the test.
REQUEST_AT = 1
SCAN_AT = REQUEST_AT + request(SYMBOL_COUNT, HASH_BITS).size
BUSY_AT = SCAN_AT + 1 + scan_request(SYMBOL_COUNT).size
DROP_AT = BUSY_AT + 1
BUSY = 0.5
"""Chance of a busy cycle without a request, in a third of the time."""
DROPPED = 0.1
"""Chance that a request, or both of a replace, are made and dropped before they are made."""
USED_BITS = STASH_COUNT.bit_length()
SCANNING = 0.02
"""Chance that a scan is asked for with a request."""
STEP_BACK = 6
"""Cycles that a further order at an address costs a scan."""
SCAN_OVERHEAD = 5
"""Cycles of a scan beside its looks."""

COVERAGE = {
    "live": {
        f"{kind} {where}"
        for kind in ("INSERT", "REDUCE", "REMOVE")
        for where in ("behind", "ahead", "other side", "other symbol")
    },
    "scan": {"of nothing", "of one", "of many", "next at once", "busy stash"},
    "purge": {"of nothing", "of many", "of both sides"},
    "dropped": {"of nothing else", "during a scan"},
    "met": {"2 cycles apart", "further apart", "between results"},
}


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
        word = hashes(self.reference) << REQUEST_FIELDS["addresses"][0]
        for name, (offset, mask) in REQUEST_FIELDS.items():
            if name != "addresses":
                value = getattr(self, name)
                word |= (int(value.value if name == "kind" else value) & mask) << offset
        return word


@cache
def hashes(reference):
    return sum(
        compute(which, reference, HASH_BITS) << which * HASH_BITS for which in range(HASH_COUNT)
    )


@dataclass(frozen=True)
class Scan:
    symbol_index: int
    is_buy: int = 0
    purge: int = 0

    def pack(self):
        return sum(getattr(self, name) << offset for name, (offset, _) in SCAN_FIELDS.items())

    def is_after(self, order):
        return order.symbol_index == self.symbol_index and (
            self.purge or order.is_buy == self.is_buy
        )


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
    """Drives requests and scans at falling edges and checks each result and the cycle it comes in.

    ``model`` has seen every request that was sent, ``effect`` those that were answered.
    """

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.refused = 0
        self.stash_max = 0
        self.scans = 0
        self.busy_chance = 0.0
        self.rng = random.Random(SEED)
        self.seen = {name: Counter() for name in COVERAGE}
        self.forget()

    def forget(self):
        self.model, self.effect = Model(), Model()
        self.pending = deque()
        self.since_taken = 99
        self.last_result = self.last_met = -99
        self.scan = None
        self.request_word = self.scan_word = self.driven = 0
        self.asked = None
        self.drops = False

    async def reset(self):
        Clock(self.dut.clk, 10, unit="ns").start()
        await self.restart(4)

    async def restart(self, cycles):
        dut = self.dut
        dut.stimulus.value = 0
        dut.rst.value = 1
        for _ in range(cycles):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        self.forget()
        swept = 0
        self.look()
        while not self.ready:
            await FallingEdge(dut.clk)
            self.look()
            swept += 1
        assert swept == BUCKETS, swept

    def look(self):
        """Read what the order map shows."""
        flags = int(self.dut.flags.value)
        self.valid, self.ready, self.scan_ready, self.full = (flags >> n & 1 for n in range(4))
        self.stash_used = flags >> 4 & ((1 << USED_BITS) - 1)
        self.stash_used_max = flags >> 4 + USED_BITS
        assert self.stash_used <= STASH_COUNT

    async def tick(self):
        """Let a cycle pass and check what it shows."""
        word = self.request_word | self.scan_word
        if self.busy_chance and self.rng.random() < self.busy_chance:
            word |= 1 << BUSY_AT
        # Behind a request it counts, else it does not.
        if self.drops if self.since_taken == 1 else self.rng.random() < DROPPED:
            word |= 1 << DROP_AT
        if word != self.driven:
            self.dut.stimulus.value = self.driven = word
        accepted = self.scan_word and self.scan_ready
        await FallingEdge(self.dut.clk)
        self.cycle += 1
        self.since_taken += 1
        if accepted:
            self.scan, self.copy, self.met = self.asked, {}, Counter()
            self.scan_cycle = self.cycle
            self.scan_word, self.asked = 0, None
        self.look()
        assert self.scan_ready == (self.scan is None)
        if self.valid:
            assert self.cycle - self.last_result >= OrderMap.INTERVAL
            word = int(self.dut.told.value)
            got = {name: word >> o & mask for name, (o, mask) in RESULT_FIELDS.items()}
            if got["kind"] in (SCAN.value, DONE.value):
                self.check_scan(got)
            else:
                asked, expected, taken = self.pending.popleft()
                assert self.cycle - taken == OrderMap.LATENCY, f"{asked}: {self.cycle - taken}"
                self.check(asked, expected, got)
            self.last_result = self.cycle
        else:
            assert not self.full
        if self.pending:
            assert self.cycle - self.pending[0][2] < OrderMap.LATENCY, self.pending[0]

    def check(self, asked, expected, got):
        full = got["reason"] == StaleReason.ORDER_MAP_FULL
        assert self.full == full
        self.stash_max = max(self.stash_max, self.stash_used)
        if full:
            assert expected.applied, asked
            assert asked.kind is INSERT, asked
            assert not got["applied"], asked
            assert self.stash_used == STASH_COUNT
            # Nothing that followed was decided in the belief that the order is there.
            assert all(later.reference != asked.reference for later, _, _ in self.pending)
            self.model.refuse(asked)
            self.refused += 1
            self.effect.chain = None
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
        assert self.effect.apply(asked) == expected
        self.follow(asked, expected, got["scanned"])

    def follow(self, asked, expected, scanned):
        """Carry a change over to the copy that is made from a scan."""
        scan = self.scan
        if scan is None or scan.purge or not expected.applied:
            assert not scanned, asked
            return
        same_symbol = asked.symbol_index == scan.symbol_index
        same_side = expected.is_buy == scan.is_buy
        where = "behind" if scanned else "ahead"
        if not (same_symbol and same_side):
            assert not scanned, asked
            where = "other side" if same_symbol else "other symbol"
        self.seen["live"][f"{asked.kind.name} {where}"] += 1
        if scanned:
            shares, count = self.copy.get(expected.price, (0, 0))
            if asked.kind is INSERT:
                shares, count = shares + expected.shares, count + 1
            else:
                shares, count = shares - expected.shares, count - expected.gone
            self.copy[expected.price] = shares, count

    def check_scan(self, got):
        scan = self.scan
        assert scan is not None, got
        assert got["symbol_index"] == scan.symbol_index
        assert got["applied"]
        assert not got["scanned"]
        assert not got["chained"]
        assert got["reason"] == StaleReason.NONE
        if got["kind"] == DONE.value:
            self.check_done(got)
            return
        found = [
            (reference, order)
            for reference, order in self.effect.orders.items()
            if scan.is_after(order)
            and (order.is_buy, order.price) == (got["is_buy"], got["price"])
            and order.shares == got["shares"]
        ]
        assert found, got
        assert got["gone"] == scan.purge
        assert got["order_symbol_index"] == scan.symbol_index
        shares, count = self.copy.get(got["price"], (0, 0))
        self.copy[got["price"]] = shares + got["shares"], count + 1
        apart = self.cycle - self.last_met
        self.seen["met"]["2 cycles apart" if apart == 2 else "further apart"] += 1
        self.seen["met"]["between results"] += bool(self.pending)
        self.last_met = self.cycle
        self.met["sell" if not got["is_buy"] else "buy"] += 1
        if scan.purge:
            reference, _ = found[0]
            del self.effect.orders[reference], self.model.orders[reference]

    def check_done(self, got):
        scan = self.scan
        assert not got["gone"]
        live = {}
        for order in self.effect.orders.values():
            if scan.is_after(order):
                shares, count = live.get(order.price, (0, 0))
                live[order.price] = shares + order.shares, count + 1
        if scan.purge:
            assert not live, (scan, live)
        else:
            told = {price: level for price, level in self.copy.items() if level != (0, 0)}
            assert told == live, (scan, self.cycle, told, live)
        met = self.met.total()
        seen = self.seen["purge" if scan.purge else "scan"]
        seen["of nothing" if not met else "of one" if met == 1 else "of many"] += 1
        if scan.purge:
            seen["of both sides"] += len(self.met) == 2
        else:
            seen["busy stash"] += self.stash_used > STASH_COUNT // 2
            seen["next at once"] += self.scan_word != 0
        self.scans += 1
        self.scan_cycles = self.cycle - self.scan_cycle
        self.scan = None

    def start(self, scan):
        """Ask for a scan as soon as the order map can make one."""
        assert not self.scan_word
        self.asked = scan
        if scan.purge:
            self.purged = {
                reference
                for reference, order in self.model.orders.items()
                if order.symbol_index == scan.symbol_index
            }
        self.scan_word = (scan.pack() << 1 | 1) << SCAN_AT

    async def walk(self, scan):
        """Make a scan without requests and return how many cycles it took, from start to DONE."""
        self.start(scan)
        while self.scan_word or self.scan:
            await self.tick()
        return self.scan_cycles

    def is_barred(self, asked):
        """Return whether a purge that is under way, or asked for, forbids a request."""
        for scan in (self.scan, self.asked):
            if scan is not None and scan.purge:
                same_symbol = asked.symbol_index == scan.symbol_index
                if same_symbol or asked.reference in self.purged:
                    return True
        return False

    async def send(self, asked, idle=0, drops=False):
        """Hold the line for some cycles, then send a request as soon as it is taken.

        Return what its result should be, unless the next cycle ``drops`` it.
        """
        for _ in range(idle):
            await self.tick()
        self.request_word = asked.pack() << REQUEST_AT | 1
        busy = 0
        closed = max(0, OrderMap.INTERVAL - self.since_taken)
        while not self.ready:
            await self.tick()
            busy += 1
        assert busy == closed, (busy, closed)
        self.since_taken = 0
        self.drops = drops
        if drops:
            self.seen["dropped"]["during a scan" if self.scan else "of nothing else"] += 1
            expected = None
        else:
            expected = self.model.apply(asked)
            self.pending.append((asked, expected, self.cycle))
        await self.tick()
        self.request_word = 0
        return expected

    async def drain(self):
        for _ in range(OrderMap.LATENCY + 1):
            await self.tick()
        assert not self.pending


def colliding(count, rng, base=None):
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
    base = rng.getrandbits(64) if base is None else base
    found = set()
    while len(found) < count:
        vector = sum(1 << bit for bit in free if rng.random() < 0.5)
        vector |= sum(1 << pivot for pivot, row in pivots.items() if (row & vector).bit_count() & 1)
        found.add(base ^ vector)
    buckets = {tuple(compute(w, r, HASH_BITS) for w in range(HASH_COUNT)) for r in found}
    assert len(buckets) == 1
    return list(found)


def a_symbol(rng):
    """Return a symbol: of a small order map, often one of two that are scanned often as well."""
    few = (1, 1, 1, 2) if not LARGE else ()
    return rng.choice((*few, rng.randrange(SYMBOL_COUNT)))


def a_scan(rng):
    return Scan(a_symbol(rng), is_buy=rng.getrandbits(1), purge=int(rng.random() < 0.2))


def order(rng, reference, symbol_index=None, **other):
    edge = rng.random() < 0.1
    return Request(
        INSERT,
        reference,
        symbol_index=a_symbol(rng) if symbol_index is None else symbol_index,
        is_buy=other.pop("is_buy", rng.getrandbits(1)),
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
        assert bench.stash_used == STASH_COUNT
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
        assert bench.stash_used == 0
        bench.refused = 0
    assert bench.stash_used_max == STASH_COUNT


@cocotb.test(skip=not SMALL)
async def reset_forgets_every_order(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    references = colliding(10, rng)
    for reference in references:
        await bench.send(order(rng, reference, 1))
    bench.start(Scan(1))
    for _ in range(9):
        await bench.tick()
    await bench.restart(1)
    assert bench.stash_used_max == 0
    for reference in references:
        await bench.send(Request(REMOVE, reference, symbol_index=1))
    await bench.drain()


@cocotb.test(skip=not SMALL)
async def scan_without_requests_takes_the_stated_time(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    bare = SCAN_OVERHEAD + 2 * (BUCKETS + STASH_COUNT)
    for is_buy in range(2):
        assert await bench.walk(Scan(1, is_buy)) == bare
    # One order fills a bucket alone: the scan meets it on its way.
    await bench.send(order(rng, 1, 1, is_buy=1))
    await bench.drain()
    assert await bench.walk(Scan(1, 1)) == bare
    assert bench.met.total() == 1
    assert await bench.walk(Scan(1, 0)) == bare
    assert await bench.walk(Scan(2, 1)) == bare
    assert bench.met.total() == 0
    # The purge's own change is in the way of no look but one at the same bucket.
    assert await bench.walk(Scan(1, 0, purge=1)) == bare
    assert await bench.walk(Scan(1, 1)) == bare
    assert bench.met.total() == 0
    # Orders at one address cost a step back each, but for the last.
    same = 9 * sum(1 << which * HASH_BITS for which in range(HASH_COUNT))
    base = next(reference for reference in itertools.count() if hashes(reference) == same)
    for n, reference in enumerate(colliding(HASH_COUNT, rng, base)):
        await bench.send(order(rng, reference, 1, is_buy=1))
        await bench.drain()
        assert await bench.walk(Scan(1, 1)) == bare + STEP_BACK * n
        assert bench.met.total() == n + 1
    assert await bench.walk(Scan(1, purge=1)) == bare + STEP_BACK * (HASH_COUNT - 1)
    assert bench.met.total() == HASH_COUNT


@cocotb.test(skip=not SMALL)
async def purged_symbol_is_empty_and_can_be_filled_again(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    references = colliding(HASH_COUNT + STASH_COUNT, rng)
    for kept in (0, 7, 20):
        for _ in range(2):
            for n, reference in enumerate(references):
                await bench.send(order(rng, reference, 2 if n < kept else 1), rng.randrange(3))
            # Both sides go, those of the stash as well, and nothing of another symbol.
            await bench.walk(Scan(1, purge=1))
            assert bench.met.total() == len(references) - kept
            assert len(bench.model.orders) == kept
            for is_buy in range(2):
                await bench.walk(Scan(1, is_buy))
                assert bench.met.total() == 0
            for n, reference in enumerate(references):
                await bench.send(Request(REMOVE, reference, 2 if n < kept else 1))
            await bench.drain()
            assert bench.stash_used == 0


@cocotb.test(skip=not SMALL)
async def scan_of_orders_that_fill_the_stash_ends(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.reset()
    references = colliding(HASH_COUNT + STASH_COUNT, rng)
    for reference in references:
        await bench.send(order(rng, reference, 1, is_buy=1))
    for _ in range(3):
        await bench.walk(Scan(1, 1))
        assert bench.met.total() == len(references)
        await bench.walk(Scan(1, 0))
        assert bench.met.total() == 0
    # Requests at the highest rate leave the scan no cycle; it goes on when they end.
    bench.start(Scan(1, 1))
    for n in range(200):
        asked = Request(REDUCE, references[n % 20], 1, shares=n % 2)
        await bench.send(asked)
    assert bench.scan is not None
    assert bench.met.total() == 0
    while bench.scan:
        await bench.tick()
    assert bench.met.total() == len(bench.model.orders)


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
            pause = rng.choice(((0,), (1,), (2,), (3,), (4, 40), idles, idles))
            bench.busy_chance = rng.choice((0.0, 0.0, BUSY))
        if bench.stash_used >= STASH_COUNT - 4:
            await bench.drain()  # A refusal must not come as a surprise to the model.
        if not bench.scan_word and rng.random() < SCANNING:
            bench.start(a_scan(rng))
        several = source.requests(bench.model)
        while any(bench.is_barred(asked) for asked in several):
            several = source.requests(bench.model)
        if rng.random() < DROPPED:
            for asked in several:
                await bench.send(asked, rng.choice(pause), drops=True)
        for asked in several:
            reasons[(await bench.send(asked, rng.choice(pause))).reason] += 1
            sent += 1
        peak = max(peak, len(bench.model.orders))
    while bench.scan or bench.scan_word:
        await bench.tick()
    await bench.drain()
    print(f"cycles={bench.cycle} scans {bench.scans} live at most {peak}, refused {bench.refused}")
    print({reason.name: count for reason, count in reasons.items() if count})
    print(f"stash at most {bench.stash_used_max}")
    assert bench.stash_used_max >= bench.stash_max
    for reason in (
        StaleReason.UNKNOWN_REFERENCE,
        StaleReason.DUPLICATE_REFERENCE,
        StaleReason.OVERFILL,
        StaleReason.LOCATE_MISMATCH,
        StaleReason.INVALID_ORDER,
    ):
        assert reasons[reason], reason
    for name, bins in COVERAGE.items():
        print(f"coverage of {name}: {dict(bench.seen[name])}")
        missing = {one for one in bins if not bench.seen[name][one]}
        assert not missing, (name, missing)
    for reference, found in list(bench.model.orders.items()):
        await bench.send(Request(REMOVE, reference, found.symbol_index))
    await bench.drain()
    assert not bench.model.orders
    assert bench.stash_used == 0


@cocotb.test(skip=LARGE)
async def random_flow_is_as_the_model_says(dut):
    await flow(dut, FILL, OPERATIONS, (0, 0, 1, 1, 2, 3, 4))


@cocotb.test(skip=not LARGE)
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
            assert bench.refused == 0, f"stash full at {bench.cycle}, scans {bench.scans}"
            symbol_index = bench.model.orders[gone].symbol_index
            await bench.send(Request(REMOVE, gone, symbol_index), rng.choice((1, 2, 2)))
            if bench.scan is None and not bench.scan_word:
                bench.start(replace(a_scan(rng), purge=0))
        await bench.send(order(rng, reference), rng.choice((3, 4, 4, 4)))
        live.append(reference)
    while bench.scan or bench.scan_word:
        await bench.tick()
    await bench.drain()
    assert len(bench.model.orders) == FILL
    assert bench.refused == 0
    print(f"live {FILL} of {ORDER_COUNT}: stash at most {bench.stash_used_max}")
    print(f"after {OPERATIONS} operations at that fill, {bench.cycle} cycles in all")
    print(f"scans {bench.scans}, the last of them took {bench.scan_cycles} cycles")
    assert bench.scans >= 2
    for one in live:
        found = bench.model.orders[one]
        await bench.send(Request(REMOVE, one, found.symbol_index), 0)
    await bench.drain()
    assert bench.stash_used == 0
