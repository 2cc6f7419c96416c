"""cocotb bench of the book, run by ``test_book.py``."""

import os
import random
from collections import Counter, deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.book.book import Book, event
from hw.rtl.book.levels import LEVEL
from hw.rtl.layouts import OPERATION, OperationKind
from protocol.reasons import StaleReason
from sim.golden import book as golden
from sim.golden import parse

SYMBOL_COUNT = int(os.environ["SYMBOL_COUNT"])
ORDER_COUNT = int(os.environ["ORDER_COUNT"])
LEVEL_COUNT = int(os.environ["LEVEL_COUNT"])
OPERATIONS = int(os.environ["OPERATIONS"])
SEED = int(os.environ["SEED"])
U32_MAX = (1 << 32) - 1
LOCATES = [(index * 1021 + 7) & 0xFFFF for index in range(SYMBOL_COUNT)]
ADD, EXECUTE, CANCEL = OperationKind.ADD, OperationKind.EXECUTE, OperationKind.CANCEL
DELETE, REPLACE = OperationKind.DELETE, OperationKind.REPLACE
WITH_PRICE = OperationKind.EXECUTE_WITH_PRICE


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


OPERATION_FIELDS = fields(OPERATION)
EVENT_FIELDS = fields(event(SYMBOL_COUNT))
LEVEL_FIELDS = fields(LEVEL)
TRACE = ("timestamp", "sequence", "match_number", "printable", "ts_first", "ts_last")


def unpack(word, layout_fields):
    return {name: word >> offset & mask for name, (offset, mask) in layout_fields.items()}


def pack(operation):
    word = 0
    for name, value in operation.items():
        offset, mask = OPERATION_FIELDS[name]
        word |= (int(value.value if name == "kind" else value) & mask) << offset
    return word


def message(operation):
    """The golden parser's message for an operation."""
    get = operation.get
    head = (operation["stock_locate"], 0, operation["timestamp"])
    reference, shares = get("order_reference", 0), get("shares", 0)
    match operation["kind"]:
        case OperationKind.ADD:
            side = "?" if get("bad_side", 0) else "SB"[get("is_buy", 0)]
            price = operation["price"]
            return parse.AddOrder(*head, reference, side, shares, "A", price)
        case OperationKind.EXECUTE:
            return parse.OrderExecuted(*head, reference, shares, 0)
        case OperationKind.EXECUTE_WITH_PRICE:
            return parse.OrderExecutedWithPrice(*head, reference, shares, 0, "Y", get("price", 0))
        case OperationKind.CANCEL:
            return parse.OrderCancel(*head, reference, shares)
        case OperationKind.DELETE:
            return parse.OrderDelete(*head, reference)
        case OperationKind.REPLACE:
            new = operation["new_reference"]
            return parse.OrderReplace(*head, reference, new, shares, operation["price"])


class Bench:
    """Drives operations at falling edges; checks each event and the cycle it comes in."""

    def __init__(self, dut, rng):
        self.dut = dut
        self.rng = rng
        self.golden = golden.Book()
        self.cycle = 0
        self.sequence = 0
        self.pending = deque()
        self.free_at = 0
        self.reasons = Counter()
        self.exact = self.flagged = self.changes = 0

    async def reset(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for port in (dut.i__valid, dut.i__payload, dut.locate_stb, dut.gap_stb):
            port.value = 0
        dut.rst.value = 1
        for _ in range(4):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        swept = 0
        while not int(dut.i__ready.value):
            await FallingEdge(dut.clk)
            swept += 1
        assert swept == max(ORDER_COUNT // 4, SYMBOL_COUNT) + 1, swept
        for index, locate in enumerate(LOCATES):
            dut.locate_stb.value = 1
            dut.locate_index.value = index
            dut.locate_valid.value = 1
            dut.locate.value = locate
            await FallingEdge(dut.clk)
        dut.locate_stb.value = 0

    async def tick(self):
        dut = self.dut
        await FallingEdge(dut.clk)
        self.cycle += 1
        if int(dut.o__valid.value):
            operation, expected, due = self.pending.popleft()
            assert self.cycle == due, (operation, self.cycle - due)
            self.check(operation, expected, unpack(int(dut.o__payload.value), EVENT_FIELDS))
        elif self.pending:
            assert self.cycle < self.pending[0][2], self.pending[0]

    def check(self, operation, expected, got):
        bbo, changed, reason, stale = expected
        what = (operation, expected, got)
        for name in TRACE:
            assert got[name] == operation.get(name, 0), (name, *what)
        assert got["kind"] == operation["kind"].value, what
        assert LOCATES[got["symbol_index"]] == operation["stock_locate"], what
        assert got["reason"] == reason, what
        if stale is StaleReason.NONE and got["stale_reason"] == StaleReason.LEVEL_OVERFLOW:
            self.flagged += 1
            return
        assert got["stale_reason"] == stale, what
        bid = unpack(got["bid"], LEVEL_FIELDS)
        ask = unpack(got["ask"], LEVEL_FIELDS)
        shown = golden.Bbo(*bid.values(), *ask.values())
        self.exact += 1
        if all(shown[0:3]) and all(shown[3:6]):
            self.changes += changed
        # A flagged book is kept up as well as can be: the same as the golden one, unless a side
        # has run out of levels, and then nothing is shown of it.
        if stale is StaleReason.NONE or (shown[2] and shown[5]):
            assert shown == bbo, what
            assert got["changed"] == changed, what

    async def send(self, operation, idle=0):
        dut = self.dut
        for _ in range(idle):
            await self.tick()
        self.sequence += 1
        operation = {
            "timestamp": self.sequence * 3,
            "sequence": self.sequence,
            "ts_first": self.rng.getrandbits(64),
            "ts_last": self.cycle,
            **operation,
        }
        dut.i__valid.value = 1
        dut.i__payload.value = pack(operation)
        closed = max(0, self.free_at - self.cycle)
        for _ in range(closed):
            assert not int(dut.i__ready.value)
            await self.tick()
        assert int(dut.i__ready.value)
        kind = operation["kind"]
        is_replace = kind is REPLACE
        known = operation["stock_locate"] in LOCATES
        concerned = kind in (ADD, EXECUTE, WITH_PRICE, CANCEL, DELETE, REPLACE)
        reason = None
        if known and concerned:
            reason = self.apply(operation, is_replace)
        await self.tick()
        dut.i__valid.value = 0
        return reason

    def apply(self, operation, is_replace):
        counts = self.golden.stale_counts.copy()
        change = self.golden.apply(message(operation))
        reasons = self.golden.stale_counts - counts
        reason = next(iter(reasons), StaleReason.NONE)
        locate = operation["stock_locate"]
        stale = self.golden.stale.get(locate, StaleReason.NONE)
        latency = Book.LATENCY_REPLACE if is_replace else Book.LATENCY
        self.free_at = self.cycle + (Book.INTERVAL_REPLACE if is_replace else Book.INTERVAL)
        expected = (self.golden.bbo(locate), int(change is not None), reason, stale)
        self.pending.append((operation, expected, self.cycle + latency))
        self.reasons[reason] += 1
        return reason

    async def drain(self):
        for _ in range(Book.LATENCY_REPLACE + 1):
            await self.tick()
        assert not self.pending

    def check_stale(self):
        word = int(self.dut.stale.value)
        bits = max(StaleReason).bit_length()
        for index, locate in enumerate(LOCATES):
            stored = word >> bits * index & ((1 << bits) - 1)
            assert stored == self.golden.stale.get(locate, StaleReason.NONE), (index, stored)


@cocotb.test
async def each_kind_of_operation_changes_the_book_as_published(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    at = {"stock_locate": LOCATES[1]}
    table = (
        {"kind": ADD, "order_reference": 1, "is_buy": 1, "shares": 100, "price": 5000},
        {"kind": ADD, "order_reference": 2, "is_buy": 0, "shares": 200, "price": 5100},
        {"kind": ADD, "order_reference": 3, "is_buy": 1, "shares": 300, "price": 5050},
        {"kind": EXECUTE, "order_reference": 3, "shares": 100, "match_number": 9},
        {"kind": WITH_PRICE, "order_reference": 3, "shares": 50, "price": 1, "printable": 1},
        {"kind": CANCEL, "order_reference": 3, "shares": 50},
        {"kind": REPLACE, "order_reference": 3, "new_reference": 4, "shares": 7, "price": 5060},
        {"kind": REPLACE, "order_reference": 4, "new_reference": 4, "shares": 8, "price": 5060},
        {"kind": REPLACE, "order_reference": 4, "new_reference": 5, "shares": 8, "price": 5060},
        {"kind": DELETE, "order_reference": 5},
        {"kind": DELETE, "order_reference": 1},
        {"kind": EXECUTE, "order_reference": 2, "shares": 200},
    )
    best_bids = ((5000, 100), (5000, 100), (5050, 300), (5050, 200), (5050, 150), (5050, 100))
    best_bids += ((5060, 7), (5060, 8), (5060, 8), (5000, 100), (0, 0), (0, 0))
    for idle in range(5):
        for operation, bid in zip(table, best_bids, strict=True):
            await bench.send({**operation, **at}, idle)
            assert bench.golden.bbo(LOCATES[1])[:2] == bid
    await bench.drain()
    bench.check_stale()
    assert bench.exact == 5 * len(table)
    assert set(bench.reasons) == {StaleReason.NONE}


@cocotb.test
async def operation_of_no_book_is_taken_and_tells_nothing(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    for kind in OperationKind:
        for locate in (LOCATES[0], 3):
            bench.dut.i__valid.value = 1
            bench.dut.i__payload.value = pack({"kind": kind, "stock_locate": locate})
            await bench.tick() if locate == 3 else None
            concerned = kind in (ADD, EXECUTE, WITH_PRICE, CANCEL, DELETE, REPLACE)
            if locate == 3:
                assert int(dut.unknown_symbol_stb.value) == concerned, kind
                assert int(dut.i__ready.value)
    bench.dut.i__valid.value = 0
    await bench.drain()
    bench.check_stale()


@cocotb.test
async def gap_flags_every_symbol_and_the_first_reason_stays(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    for locate in LOCATES:  # The golden book knows a symbol once it was seen.
        await bench.send({"kind": DELETE, "stock_locate": locate, "order_reference": 1}, 1)
        if locate == LOCATES[1]:
            break
    await bench.drain()
    bench.check_stale()
    for locate in LOCATES[2:]:
        await bench.send(
            {
                "kind": ADD,
                "stock_locate": locate,
                "order_reference": locate,
                "shares": 1,
                "price": 9,
            }
        )
    await bench.drain()
    dut.gap_stb.value = 1
    await bench.tick()
    dut.gap_stb.value = 0
    bench.golden.mark_gap()
    bench.check_stale()
    for locate in LOCATES:
        await bench.send({"kind": DELETE, "stock_locate": locate, "order_reference": locate})
    await bench.drain()
    bench.check_stale()


@cocotb.test
async def sum_that_does_not_fit_flags_its_symbol_for_good(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    at = {"stock_locate": LOCATES[1], "is_buy": 1, "price": 7}
    await bench.send({"kind": ADD, "order_reference": 1, "shares": U32_MAX, **at})
    await bench.send({"kind": ADD, "order_reference": 2, "shares": 1, **at})
    await bench.send({"kind": DELETE, "order_reference": 2, **at})
    await bench.send({"kind": DELETE, "order_reference": 1, **at})
    await bench.drain()
    assert bench.flagged == 3
    bits = max(StaleReason).bit_length()
    assert int(dut.stale.value) == StaleReason.LEVEL_OVERFLOW << bits


async def random_flow(dut, operations, wrong, deep):
    print(f"symbols={SYMBOL_COUNT} levels={LEVEL_COUNT} seed={SEED} wrong={wrong} deep={deep}")
    rng = random.Random(SEED)
    bench = Bench(dut, rng)
    await bench.reset()
    live, recent, next_reference = [], deque(maxlen=3), rng.getrandbits(40)
    pause, locate, crowd = (0,), LOCATES[0], ORDER_COUNT // 2
    book = bench.golden
    while bench.sequence < operations:
        if rng.random() < 0.02:
            pause = rng.choice(((0,), (1,), (2,), (3,), (4,), (0, 0, 1, 2, 3, 4)))
            crowd = rng.choice((4, ORDER_COUNT // 4, ORDER_COUNT // 2))
        if rng.random() < 0.3:
            locate = rng.choice(LOCATES)
        next_reference += rng.choice((1, 1, 2, 4))
        price = 10_000 + rng.randrange(deep)
        if rng.random() < 0.02:
            price = rng.choice((0, 1, U32_MAX, rng.getrandbits(32) if deep > LEVEL_COUNT else 1))
        shares = rng.randint(1, 1000)
        operation = {
            "stock_locate": locate,
            "shares": shares,
            "price": price,
            "is_buy": rng.getrandbits(1),
        }
        if not live or rng.random() < (0.6 if len(live) < crowd else 0.2):
            operation |= {"kind": ADD, "order_reference": next_reference}
            if rng.random() < wrong:
                choices = [{"shares": 0}, {"bad_side": 1}]
                if live:
                    choices.append({"order_reference": rng.choice(live)})
                operation |= rng.choice(choices)
        else:
            at = rng.randrange(len(live))
            reference = live[at]
            if recent and rng.random() < 0.4:
                reference = rng.choice(recent)
            if reference not in book._orders:
                live.remove(reference) if reference in live else None
                continue
            order = book._orders[reference]
            kind = rng.choice((EXECUTE, WITH_PRICE, CANCEL, DELETE, DELETE, REPLACE))
            operation |= {"kind": kind, "order_reference": reference}
            operation["stock_locate"] = order.stock_locate
            if kind is REPLACE:
                operation["new_reference"] = reference if rng.random() < 0.1 else next_reference
            elif kind is not DELETE:
                operation["shares"] = rng.choice((1, order.shares, 1 + order.shares // 2))
            if rng.random() < wrong:
                operation |= rng.choice(
                    (
                        {"order_reference": next_reference + 99},
                        {"stock_locate": rng.choice(LOCATES)},
                        {"shares": 1_000_000},
                        {"shares": 0},
                        {"new_reference": rng.choice(live)},
                    )
                )
        await bench.send(operation, rng.choice(pause))
        for name in ("order_reference", "new_reference"):
            reference = operation.get(name, 0)
            if reference in book._orders and (not recent or recent[-1] != reference):
                recent.append(reference)
                live.append(reference)
    await bench.drain()
    print(f"cycles={bench.cycle} exact={bench.exact} flagged={bench.flagged}")
    print(f"two-sided changes={bench.changes} reasons={dict(bench.reasons)}")
    print(f"stash at most {int(dut.stash_used_max.value)}")
    return bench


@cocotb.test
async def legal_flow_is_the_golden_book(dut):
    bench = await random_flow(dut, OPERATIONS, 0.0, LEVEL_COUNT - 3)
    assert set(bench.reasons) == {StaleReason.NONE}
    assert bench.flagged == 0
    assert bench.changes > OPERATIONS // 10


@cocotb.test
async def deep_flow_is_the_golden_book_or_flagged(dut):
    bench = await random_flow(dut, OPERATIONS, 0.0, 20 * LEVEL_COUNT)
    assert set(bench.reasons) == {StaleReason.NONE}
    assert bench.flagged > 0


@cocotb.test
async def wrong_flow_is_flagged_as_the_golden_book_does(dut):
    bench = await random_flow(dut, OPERATIONS // 4, 0.02, LEVEL_COUNT - 3)
    assert len(bench.reasons) == 6
