"""cocotb bench of the book, run by ``test_book.py``."""

import os
import random
from collections import Counter, deque

import cocotb
from bench_book_levels import Change, Side
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

from hw.rtl.book.book import QUEUE_DEPTH, Book
from hw.rtl.book.levels import LEVEL
from hw.rtl.book.tasks import TRACE, RepairKind, event, repair
from hw.rtl.layouts import HINT, OPERATION, OperationKind
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
HINT_FIELDS = fields(HINT)
REPAIR_FIELDS = fields(repair(SYMBOL_COUNT))
EVENT_FIELDS = fields(event(SYMBOL_COUNT))
LEVEL_FIELDS = fields(LEVEL)
CONFIRM, RETRACT, GAP = OperationKind.CONFIRM, OperationKind.RETRACT, OperationKind.GAP
DIRECTORY = OperationKind.DIRECTORY
CONCERNED = (ADD, EXECUTE, WITH_PRICE, CANCEL, DELETE, REPLACE)
NOTICES = (CONFIRM, RETRACT, GAP)
REASON_BITS = max(StaleReason).bit_length()
NAMES = [0x2020202020202041 + index for index in range(SYMBOL_COUNT)]


def unpack(word, layout_fields):
    return {name: word >> offset & mask for name, (offset, mask) in layout_fields.items()}


def pack(values, layout_fields):
    word = 0
    for name, (offset, mask) in layout_fields.items():
        value = values.get(name, 0)
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
    """Drives operations at falling edges; checks each event and the cycle it comes in.

    What the front of the book does with an operation is told here in short: it is issued at once,
    or waits until those before it are through. ``slack`` is by how many cycles an event may be late
    because a task of the book's own was before it.
    """

    def __init__(self, dut, rng, slack=0):
        self.dut = dut
        self.rng = rng
        self.slack = slack
        self.golden = golden.Book()
        self.cycle = 0
        self.sequence = 0
        self.planned = {}
        self.planned_until = -1
        self.queue = deque()
        self.pending = deque()
        self.shown = {}
        self.free_at = 0
        self.touched = set()
        self.blocked = self.unblocked = None
        self.blocked_from = self.free_from = 0
        self.lowest = self.highest = self.clears = 0
        self.refused = StaleReason.NONE
        self.repairs = deque()
        self.longest = 0
        self.reasons = Counter()
        self.exact = self.flagged = self.changes = self.refills = self.waited = 0
        self.dropped = 0

    async def reset(self, sweep=True, locates=True):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for port in (
            *(dut.i__valid, dut.i__payload, dut.i_hint__valid, dut.i_hint__payload),
            *(dut.i_repair__valid, dut.i_repair__payload, dut.locate_stb, dut.name_stb),
        ):
            port.value = 0
        dut.rst.value = 1
        for _ in range(4):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        if sweep:
            swept = 0
            while not int(dut.ready.value):
                await FallingEdge(dut.clk)
                swept += 1
            assert swept == max(ORDER_COUNT // 4, 2 * SYMBOL_COUNT) + 1, swept
        if locates:
            for index, locate in enumerate(LOCATES):
                dut.locate_stb.value = 1
                dut.locate_index.value = index
                dut.locate_valid.value = 1
                dut.locate.value = locate
                await FallingEdge(dut.clk)
            dut.locate_stb.value = 0

    async def tick(self):
        """Drive what is planned for this cycle, and look at the next one."""
        dut = self.dut
        operation = self.planned.pop(self.cycle, None)
        coming = self.planned.get(self.cycle + 1)
        dut.i__valid.value = operation is not None
        dut.i__payload.value = pack(operation or self.noise, OPERATION_FIELDS)
        hinted = coming is not None and coming["kind"] not in NOTICES
        dut.i_hint__valid.value = hinted
        dut.i_hint__payload.value = pack(coming if hinted else self.noise, HINT_FIELDS)
        dut.i_repair__valid.value = bool(self.repairs)
        task = None
        if operation is not None:
            task = self.arrive(operation)
        if self.repairs:
            dut.i_repair__payload.value = pack(self.repairs[0], REPAIR_FIELDS)
            await Timer(1, "ns")
            if int(dut.i_repair__ready.value):
                step = self.repairs.popleft()
                locate = LOCATES[step["symbol_index"]]
                if step["kind"] is RepairKind.CLEAR:
                    if locate != self.blocked:  # Its hint may have been looked at.
                        self.unblocked, self.free_from = self.blocked, self.cycle + 2
                    self.blocked, self.blocked_from = locate, self.cycle + 2
                    self.refused, self.clears = StaleReason.NONE, self.clears + 1
                elif step["kind"] is RepairKind.LIVE:
                    self.queue.append(self.live(step, locate))
                elif locate == self.blocked:
                    self.queue.append(self.insert(step))
        if self.queue and self.cycle >= self.free_at and self.queue[0][-1] < self.cycle:
            self.issue(*self.queue.popleft())
        elif task is not None and not self.queue and self.cycle >= self.free_at:
            self.issue(*task)
            task = None
        if task is not None:
            self.waited += 1
            self.queue.append(task)
        self.longest = max(self.longest, len(self.queue))
        await FallingEdge(dut.clk)
        self.cycle += 1
        if int(dut.o__valid.value):
            got = unpack(int(dut.o__payload.value), EVENT_FIELDS)
            if got["kind"] == OperationKind.NONE.value and not got["ts_last"]:
                self.check_own(got)
                return
            if got["kind"] == OperationKind.REPAIR.value and not got["printable"]:
                self.check_clear(got)
                return
            operation, expected, due = self.pending.popleft()
            assert due <= self.cycle <= due + self.slack, (operation, self.cycle - due)
            self.check(operation, expected, got)
        elif self.pending:
            assert self.cycle < self.pending[0][2] + self.slack + 1, self.pending[0]

    @property
    def noise(self):
        return {"kind": OperationKind.ADD, "stock_locate": LOCATES[0], "order_reference": 7}

    def drops(self, locate):
        """Whether a message of a locate is dropped now, as its symbol is under repair."""
        return (locate == self.blocked and self.cycle >= self.blocked_from) or (
            locate == self.unblocked and self.cycle < self.free_from
        )

    def arrive(self, operation):
        """Return the task of an operation, its results by the golden book."""
        kind, locate = operation["kind"], operation["stock_locate"]
        now = self.cycle
        if kind is GAP:
            self.lowest = self.highest = operation.get("new_reference", 0)
        elif kind is RETRACT:
            self.highest = operation["sequence"]
        elif kind not in NOTICES:
            self.highest = operation.get("sequence", 0) + 1
            if self.drops(locate):
                self.lowest = self.highest
        if kind in NOTICES:
            if kind is GAP:
                self.golden.mark_gap()
            elif kind is RETRACT:
                self.golden.mark_bad(sorted(self.touched))
            if kind is not GAP:
                self.touched.clear()
            return operation, None, False, now
        if kind not in CONCERNED or locate not in LOCATES:
            return None
        if self.drops(locate):
            self.dropped += 1
            return None
        self.touched.add(locate)
        before = dict(self.golden.stale)
        expected = self.expected(locate, lambda: self.golden.apply(message(operation)))
        for other, reason in self.golden.stale.items():
            if reason is StaleReason.LOCATE_MISMATCH and other not in before:
                self.touched.add(other)
        return operation, expected, kind is REPLACE, now

    def expected(self, locate, apply):
        counts = self.golden.stale_counts.copy()
        change = apply()
        reasons = self.golden.stale_counts - counts
        reason = next(iter(reasons), StaleReason.NONE)
        stale = self.golden.stale.get(locate, StaleReason.NONE)
        self.reasons[reason] += 1
        return self.golden.bbo(locate), int(change is not None), reason, stale

    def insert(self, step):
        locate = LOCATES[step["symbol_index"]]
        operation = {
            "kind": OperationKind.NONE,
            "stock_locate": locate,
            "order_reference": step["reference"],
        }
        self.touched.add(locate)
        side = "SB"[step["is_buy"]]
        added = parse.AddOrder(
            *(locate, 0, 0, step["reference"], side, step["shares"], "A", step["price"])
        )
        _, _, reason, _ = self.expected(locate, lambda: self.golden.apply(added))
        self.refused = self.refused or reason
        return operation, None, False, self.cycle

    def live(self, step, locate):
        """Return the task of a LIVE, which is answered by an event."""
        reason = StaleReason.NONE
        if locate != self.blocked:
            reason = self.golden.stale.get(locate, reason)
        elif self.refused or not self.lowest <= step["reference"] <= self.highest:
            reason = self.refused or StaleReason.GAP
        else:
            self.golden.stale.pop(locate, None)
            self.touched.discard(locate)
            self.blocked = None
        operation = {
            "kind": OperationKind.REPAIR,
            "stock_locate": locate,
            "sequence": step["reference"],
            "printable": 1,
            "ts_first": self.lowest,
            "ts_last": self.highest,
        }
        stale = self.golden.stale.get(locate, StaleReason.NONE)
        return operation, (self.golden.bbo(locate), 0, reason, stale), False, self.cycle

    def issue(self, operation, expected, is_replace, _):
        latency = Book.LATENCY_REPLACE if is_replace else Book.LATENCY
        self.free_at = self.cycle + (Book.INTERVAL_REPLACE if is_replace else Book.INTERVAL)
        if expected is not None:
            self.pending.append((operation, expected, self.cycle + latency))

    def check_own(self, got):
        """Check an event that no message led to."""
        locate = LOCATES[got["symbol_index"]]
        for name, _ in TRACE:
            assert not got[name], (name, got)
        self.refills += 1
        assert (got["changed"], got["reason"]) == (1, StaleReason.NONE), got
        if got["stale_reason"] != StaleReason.LEVEL_OVERFLOW:
            assert self.bbo(got) == self.shown[locate], (got, self.shown[locate])

    def check_clear(self, got):
        """Check the event of a CLEAR."""
        locate = LOCATES[got["symbol_index"]]
        assert locate == self.blocked, got
        reason = self.golden.stale.get(locate, StaleReason.UNDER_REPAIR)
        self.golden.clear(locate)
        self.golden.stale[locate] = reason
        self.shown[locate] = golden.EMPTY_BBO
        self.lowest, self.clears = max(self.lowest, got["ts_first"]), self.clears - 1
        assert got["ts_first"] <= got["ts_last"] == got["sequence"] <= self.highest, got
        assert (got["reason"], got["stale_reason"]) == (StaleReason.GAP, reason), got
        assert got["bid"] == got["ask"] == 0, got

    @staticmethod
    def bbo(got):
        bid = unpack(got["bid"], LEVEL_FIELDS)
        ask = unpack(got["ask"], LEVEL_FIELDS)
        return golden.Bbo(*bid.values(), *ask.values())

    def check(self, operation, expected, got):
        bbo, changed, reason, stale = expected
        what = (operation, expected, got)
        for name, _ in TRACE:
            value = operation.get(name, 0)
            assert got[name] == (value.value if name == "kind" else value), (name, *what)
        assert LOCATES[got["symbol_index"]] == operation["stock_locate"], what
        assert got["reason"] == reason, what
        self.shown[operation["stock_locate"]] = bbo
        if stale is StaleReason.NONE and got["stale_reason"] == StaleReason.LEVEL_OVERFLOW:
            self.flagged += 1
            return
        assert got["stale_reason"] == stale, what
        shown = self.bbo(got)
        if operation["kind"] is OperationKind.REPAIR:
            assert shown == bbo, what
            return
        self.exact += 1
        if all(shown[0:3]) and all(shown[3:6]):
            self.changes += changed
        # A flagged book is kept up as well as can be: the same as the golden one, unless a side
        # has run out of levels, and then nothing is shown of it.
        if stale is StaleReason.NONE or (shown[2] and shown[5]):
            assert shown == bbo, what
            assert got["changed"] == changed, what

    async def send(self, operation, idle=0, apart=None):
        """Send an operation so many cycles after the one before it, and ``idle`` more.

        By default as close as its bytes allow: 21 of the shortest, 39 of a replace, 8 a cycle.
        """
        if apart is None:
            apart = 4 if operation["kind"] is REPLACE else 2
        self.sequence += 1
        operation = {
            "stock_locate": 0,
            "timestamp": self.sequence * 3,
            "sequence": self.sequence,
            "ts_first": self.rng.getrandbits(64),
            "ts_last": self.sequence,
            **operation,
        }
        # The hint comes a cycle before it.
        at = max(self.cycle + 1, self.planned_until + apart + idle)
        self.planned[at] = operation
        self.planned_until = at
        while self.cycle < at - 1:
            await self.tick()

    async def sent(self):
        """Let everything planned have been driven."""
        while self.planned:
            await self.tick()

    async def drain(self):
        await self.sent()
        for _ in range(Book.LATENCY_REPLACE + 4 * QUEUE_DEPTH + 4):
            await self.tick()
        assert not self.pending
        assert not self.queue

    def stale(self):
        word = int(self.dut.stale.value)
        mask = (1 << REASON_BITS) - 1
        return [StaleReason(word >> REASON_BITS * i & mask) for i in range(SYMBOL_COUNT)]

    def check_stale(self):
        expected = [self.golden.stale.get(locate, StaleReason.NONE) for locate in LOCATES]
        assert self.stale() == expected

    async def see_all(self):
        """Have an operation for every symbol: the golden book knows one when it was seen."""
        for index, locate in enumerate(LOCATES):
            add = {"kind": ADD, "order_reference": 9_000 + index, "shares": 1, "price": 9}
            await self.send({**add, "stock_locate": locate})
        await self.drain()


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
            await bench.sent()
            assert bench.golden.bbo(LOCATES[1])[:2] == bid
    await bench.drain()
    bench.check_stale()
    assert bench.exact == 5 * len(table)
    assert bench.waited > 0
    assert set(bench.reasons) == {StaleReason.NONE}


@cocotb.test
async def operation_of_no_book_is_taken_and_tells_nothing(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    for kind in OperationKind:
        if kind in NOTICES:
            continue
        await bench.send({"kind": kind, "stock_locate": 3}, 2)
        await bench.sent()
        assert int(dut.unknown_symbol_stb.value) == (kind in CONCERNED), kind
        await bench.tick()
        assert not int(dut.unknown_symbol_stb.value)
        if kind not in CONCERNED:
            await bench.send({"kind": kind, "stock_locate": LOCATES[0]})
    await bench.drain()
    assert bench.exact == 0
    bench.check_stale()


@cocotb.test
async def gap_flags_every_symbol_in_its_place_and_the_first_reason_stays(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    await bench.see_all()
    await bench.send({"kind": DELETE, "stock_locate": LOCATES[0], "order_reference": 1})
    await bench.send({"kind": DELETE, "stock_locate": LOCATES[1], "order_reference": 9_001})
    await bench.send({"kind": GAP})
    for index, locate in enumerate(LOCATES):
        delete = {"kind": DELETE, "stock_locate": locate, "order_reference": 9_000 + index}
        await bench.send(delete)
    await bench.drain()
    bench.check_stale()
    expected = [StaleReason.UNKNOWN_REFERENCE] + [StaleReason.GAP] * (SYMBOL_COUNT - 1)
    assert bench.stale() == expected


@cocotb.test
async def retracted_messages_flag_what_they_touched_and_no_more(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    await bench.see_all()
    await bench.send({"kind": CONFIRM})
    delete = {"kind": DELETE, "order_reference": 9_000}
    # An order of symbol 0 under the locate of symbol 1, which is flagged for that: so is 0.
    await bench.send({**delete, "stock_locate": LOCATES[1]})
    await bench.send({"kind": RETRACT})
    await bench.drain()
    bench.check_stale()
    assert bench.stale()[:2] == [StaleReason.LOCATE_MISMATCH] * 2
    for idle in range(3):
        add = {"kind": ADD, "order_reference": 50 + idle, "shares": 1, "price": 9}
        await bench.send({**add, "stock_locate": LOCATES[3]})
        await bench.send({"kind": CONFIRM}, idle)
        await bench.send({"kind": RETRACT}, idle)
    await bench.drain()
    assert bench.stale()[2:] == [StaleReason.NONE] * (SYMBOL_COUNT - 2)
    await bench.send({"kind": CANCEL, "stock_locate": LOCATES[3], "order_reference": 50})
    await bench.send({"kind": RETRACT})
    replace = {"kind": REPLACE, "new_reference": 77, "shares": 5, "price": 9}
    await bench.send({**replace, "stock_locate": LOCATES[3], "order_reference": 51})
    await bench.send({"kind": RETRACT})
    await bench.drain()
    bench.check_stale()
    assert bench.stale()[3] == StaleReason.FRAME_BAD
    assert bench.stale()[2] == StaleReason.NONE


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
    assert bench.stale()[1] == StaleReason.LEVEL_OVERFLOW
    assert sum(bench.stale()) == StaleReason.LEVEL_OVERFLOW


@cocotb.test
async def operations_wait_for_a_replace_and_keep_their_order(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    at = {"stock_locate": LOCATES[2], "is_buy": 1, "shares": 5}
    for reference in range(40):
        await bench.send({"kind": ADD, "order_reference": reference, "price": reference, **at})
    assert bench.waited == 0
    replace = {"kind": REPLACE, "order_reference": 0, "new_reference": 100, "price": 50, **at}
    # The distances of line rate, from end to end in beats: 39 bytes for a replace, 21 for a delete.
    await bench.send(replace, apart=4)
    for reference in range(1, 10):
        apart = 3 if reference % 3 else 2
        await bench.send({"kind": DELETE, "order_reference": reference, **at}, apart=apart)
    await bench.drain()
    assert bench.longest == 1
    # Closer than any feed can send them, up to the last place.
    await bench.send({**replace, "order_reference": 100, "new_reference": 101})
    for reference in range(10, 10 + 2 * QUEUE_DEPTH - 3):
        await bench.send({"kind": DELETE, "order_reference": reference, **at}, apart=1)
    await bench.drain()
    assert bench.longest == QUEUE_DEPTH
    bench.check_stale()
    assert not any(bench.stale())


@cocotb.test
async def operation_for_which_there_is_no_place_flags_every_symbol(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    at = {"stock_locate": LOCATES[2], "is_buy": 1, "shares": 5}
    told = 0
    for reference in range(3 * QUEUE_DEPTH):
        operation = {"kind": ADD, "order_reference": reference, "price": reference, **at}
        dut.i_hint__payload.value = pack(operation, HINT_FIELDS)
        dut.i_hint__valid.value = 1
        await FallingEdge(dut.clk)
        told += int(dut.overflow_stb.value)
        dut.i__payload.value = pack(operation, OPERATION_FIELDS)
        dut.i__valid.value = 1
    for _ in range(20):
        await FallingEdge(dut.clk)
        told += int(dut.overflow_stb.value)
        dut.i__valid.value = 0
        dut.i_hint__valid.value = 0
    assert told == 3 * QUEUE_DEPTH // 2 - QUEUE_DEPTH
    assert bench.stale() == [StaleReason.GAP] * SYMBOL_COUNT


@cocotb.test
async def what_comes_before_the_memories_are_empty_is_lost(dut):
    for kind in (DELETE, RETRACT, GAP, CONFIRM, OperationKind.SYSTEM):
        bench = Bench(dut, random.Random(SEED))
        await bench.reset(sweep=False)
        assert not int(dut.ready.value)
        dut.i__valid.value = 1
        dut.i__payload.value = pack({"kind": kind}, OPERATION_FIELDS)
        await FallingEdge(dut.clk)
        dut.i__valid.value = 0
        while not int(dut.ready.value):
            await FallingEdge(dut.clk)
            assert not int(dut.o__valid.value)
        lost = kind in (DELETE, RETRACT, GAP)
        expected = StaleReason.GAP if lost else StaleReason.NONE
        assert bench.stale() == [expected] * SYMBOL_COUNT, kind


@cocotb.test
async def directory_message_teaches_a_symbol_its_locate(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset(locates=False)
    for index, name in enumerate(NAMES):
        dut.name_stb.value = 1
        dut.name_index.value = index
        dut.name_valid.value = index != 1
        dut.name_stock.value = name
        await FallingEdge(dut.clk)
    dut.name_stb.value = 0
    for apart in (2, 3, 4):
        for index, locate in enumerate(LOCATES):
            lesson = {"kind": DIRECTORY, "stock_locate": locate}
            await bench.send({**lesson, "stock": NAMES[index] ^ 1 << 63}, 5)
            await bench.send({**lesson, "stock": NAMES[index]}, 5)
            add = {"kind": ADD, "order_reference": apart << 8 | index, "shares": 1, "price": 9}
            if index == 1:
                # It has no name: its locate is not known, and nothing is told.
                await bench.send({"kind": DIRECTORY, "stock_locate": 3, "stock": 0}, apart=apart)
                dut.i_hint__valid.value = 0
            else:
                await bench.send({**add, "stock_locate": locate}, apart=apart)
            await bench.drain()
    assert bench.exact == 3 * (SYMBOL_COUNT - 1)
    # What was taught is forgotten when the host says so, and another locate can be taught.
    for valid, locate in ((0, 0), (1, 60_000)):
        dut.locate_stb.value = 1
        dut.locate_index.value = 0
        dut.locate_valid.value = valid
        dut.locate.value = locate
        await bench.tick()
        dut.locate_stb.value = 0
        bench.planned[bench.cycle + 2] = {"kind": DELETE, "stock_locate": 0, "order_reference": 3}
        for _ in range(4):
            await bench.tick()
        assert int(dut.o__valid.value) == 0


async def random_flow(dut, operations, wrong, deep, pauses, slack=0, notices=0.0):
    print(f"symbols={SYMBOL_COUNT} levels={LEVEL_COUNT} seed={SEED} wrong={wrong} deep={deep}")
    rng = random.Random(SEED)
    bench = Bench(dut, rng, slack)
    await bench.reset()
    live, recent, next_reference = [], deque(maxlen=3), rng.getrandbits(40)
    pause, locate, crowd = (0,), LOCATES[0], ORDER_COUNT // 2
    book = bench.golden
    while bench.sequence < operations:
        if rng.random() < 0.02:
            pause = rng.choice(pauses)
            crowd = rng.choice((4, ORDER_COUNT // 4, ORDER_COUNT // 2))
        if rng.random() < 0.3:
            locate = rng.choice(LOCATES)
        if rng.random() < notices:
            kind = rng.choice((CONFIRM, CONFIRM, CONFIRM, RETRACT, GAP) if wrong else (CONFIRM,))
            await bench.send({"kind": kind}, rng.choice(pause))
            continue
        next_reference += rng.choice((1, 1, 2, 4, 1 << 32, 1 << 40))
        next_reference &= (1 << 64) - 1
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
        await bench.sent()
        for name in ("order_reference", "new_reference"):
            reference = operation.get(name, 0)
            if reference in book._orders and (not recent or recent[-1] != reference):
                recent.append(reference)
                live.append(reference)
    await bench.drain()
    bench.check_stale()
    print(f"cycles={bench.cycle} exact={bench.exact} flagged={bench.flagged}")
    print(f"two-sided changes={bench.changes} reasons={dict(bench.reasons)}")
    print(f"refills={bench.refills} waited={bench.waited}")
    print(f"stash at most {int(dut.stash_used_max.value)}")
    return bench


DENSE = ((0,), (1,), (2,), (3,), (4,), (0, 0, 1, 2, 3, 4))


@cocotb.test
async def legal_flow_is_the_golden_book(dut):
    bench = await random_flow(dut, OPERATIONS, 0.0, LEVEL_COUNT - 3, DENSE, notices=0.05)
    assert set(bench.reasons) == {StaleReason.NONE}
    assert bench.flagged == bench.refills == 0
    assert bench.waited > OPERATIONS // 100
    assert bench.changes > OPERATIONS // 10


@cocotb.test
async def deep_flow_is_the_golden_book_or_flagged(dut):
    bench = await random_flow(dut, OPERATIONS, 0.0, 20 * LEVEL_COUNT, DENSE, slack=16)
    assert set(bench.reasons) == {StaleReason.NONE}
    assert bench.refills > 0


@cocotb.test
async def wrong_flow_is_flagged_as_the_golden_book_does(dut):
    for notices in (0.0, 0.1):
        bench = await random_flow(
            dut, OPERATIONS // 4, 0.02, LEVEL_COUNT - 3, DENSE, notices=notices
        )
        assert len(bench.reasons) == 6


@cocotb.test
async def refill_keeps_a_deep_book_exact(dut):
    """Orders over many more levels than a row has; the best ones are hit all the time."""
    rng = random.Random(SEED)
    print(f"symbols={SYMBOL_COUNT} levels={LEVEL_COUNT} seed={SEED}")
    bench = Bench(dut, rng, slack=16)
    await bench.reset()
    book, middle, reference = bench.golden, 50_000, 1 << 63
    # What rows without a refill would know.
    rows = {(locate, is_buy): Side(is_buy) for locate in LOCATES for is_buy in (0, 1)}
    without = 0
    for _ in range(OPERATIONS // 8):
        locate, is_buy = rng.choice(LOCATES), rng.getrandbits(1)
        side = golden.Side.BUY if is_buy else golden.Side.SELL
        orders = book.orders(locate, side)
        sign = -1 if is_buy else 1
        take = len(orders) > 28 or (orders and rng.random() < 0.45)
        if take:
            # Mostly the best one, as a market that moves away takes them.
            at = 0 if rng.random() < 0.8 else rng.randrange(len(orders))
            known, price, shares = orders[at]
            operation = {"kind": DELETE, "order_reference": known}
        else:
            reference += 1
            price, shares = middle + sign * rng.randrange(200), rng.randint(1, 1000)
            operation = {
                **{"kind": ADD, "order_reference": reference, "price": price},
                **{"shares": shares, "is_buy": is_buy},
            }
        rows[locate, is_buy].apply(Change(0, is_buy, int(bool(take)), price, shares))
        without += not all(rows[locate, which].exact for which in (0, 1))
        await bench.send({**operation, "stock_locate": locate}, rng.randrange(20, 60))
        await bench.sent()
    await bench.drain()
    events = bench.exact + bench.flagged
    print(f"events={events} flagged={bench.flagged} without refill={without}")
    print(f"refills that changed what is shown={bench.refills}")
    assert without > events // 20
    assert bench.flagged < events // 1000
    assert set(bench.reasons) == {StaleReason.NONE}


@cocotb.test
async def book_is_emptied_level_by_level_from_the_top(dut):
    bench = Bench(dut, random.Random(SEED), slack=16)
    await bench.reset()
    depth = 3 * LEVEL_COUNT
    for is_buy in (0, 1):
        at = {"stock_locate": LOCATES[3], "is_buy": is_buy}
        prices = [7_000 + 3 * (i if is_buy else -i) for i in range(depth)]
        for i, price in enumerate(prices):
            add = {"kind": ADD, "order_reference": i << 32 | 5, "shares": i + 1, "price": price}
            await bench.send({**add, **at})
        for i in reversed(range(depth)):
            # Time for a scan between two of them, so that the side is refilled before it runs out.
            delete = {"kind": DELETE, "order_reference": i << 32 | 5}
            await bench.send({**delete, **at}, ORDER_COUNT // 4)
        await bench.drain()
        assert bench.golden.bbo(LOCATES[3]) == golden.EMPTY_BBO
    assert bench.flagged == 0
    assert bench.exact == 4 * depth


@cocotb.test
async def any_price_and_any_reference_will_do(dut):
    bench = Bench(dut, random.Random(SEED), slack=16)
    await bench.reset()
    prices = (0, 1, (1 << 31) - 1, 1 << 31, U32_MAX - 1, U32_MAX)
    # Equal in their low bits, or in their high bits.
    references = [number << 48 | 0xABCD for number in range(6)] + [
        (1 << 64) - 1 - n for n in range(6)
    ]
    for is_buy in (0, 1):
        for order in (1, -1):
            orders = list(zip(references[::order], prices * 2, strict=True))
            for reference, price in orders:
                add = {"kind": ADD, "order_reference": reference, "price": price, "shares": 3}
                await bench.send({**add, "is_buy": is_buy, "stock_locate": LOCATES[1]})
            for reference, _ in orders:
                delete = {"kind": DELETE, "order_reference": reference}
                await bench.send({**delete, "stock_locate": LOCATES[1]})
    await bench.drain()
    assert bench.exact == 4 * 2 * 12
    assert set(bench.reasons) == {StaleReason.NONE}


@cocotb.test
async def repaired_symbol_is_exact_again_while_others_go_on(dut):
    rng = random.Random(SEED)
    bench = Bench(dut, rng, slack=16)
    await bench.reset()
    await bench.see_all()
    book, reference, cleared, lived = bench.golden, 100_000, 0, 0
    for number in range(OPERATIONS // 8):
        if number % 500 == 250:
            # Flags them all; they are repaired one after another.
            await bench.send({"kind": GAP})
        if number % 125 == 0 and not bench.repairs:
            index = number // 125 % SYMBOL_COUNT
            locate = LOCATES[index]
            bad = int(cleared % 3 > 0)  # Every third repair has an order without shares.
            kept = [
                {"kind": RepairKind.INSERT, "symbol_index": index, "is_buy": is_buy}
                | {
                    "reference": 5_000_000 + reference + i,
                    "price": 90 + i + is_buy,
                    "shares": i or bad,
                }
                for is_buy in (0, 1)
                for i in range(12 * is_buy, 12 * is_buy + 12)
            ]
            clear = {"kind": RepairKind.CLEAR, "symbol_index": index}
            bench.repairs.extend((clear, *kept))
            cleared += 1
        if bench.blocked and not bench.repairs and not bench.clears and number % 125 > 60:
            await bench.sent()
            while bench.queue or bench.pending:
                await bench.tick()
            for _ in range(8):
                await bench.tick()
            index = LOCATES.index(bench.blocked)
            named = rng.choice((bench.lowest - 1, bench.lowest, bench.highest, bench.highest + 1))
            bench.repairs.append(
                {"kind": RepairKind.LIVE, "symbol_index": index, "reference": named}
            )
            while bench.repairs:
                await bench.tick()
            lived += bench.blocked is None
        reference += 100
        locate = rng.choice(LOCATES)
        orders = [order for side in golden.Side for order in book.orders(locate, side)]
        if orders and rng.random() < (0.7 if len(orders) > 20 else 0.4):
            known, price, shares = rng.choice(orders)
            operation = {"kind": rng.choice((DELETE, CANCEL, REPLACE)), "order_reference": known}
            operation |= {"shares": rng.randint(1, shares), "price": price}
            operation |= {"new_reference": reference}
        else:
            operation = {"kind": ADD, "order_reference": reference, "is_buy": rng.getrandbits(1)}
            operation |= {"shares": rng.randint(1, 99), "price": rng.randrange(80, 130)}
        await bench.send({**operation, "stock_locate": locate}, rng.choice((0, 1, 2, 9, 30)))
        await bench.sent()
        if rng.random() < 0.05:
            await bench.send({"kind": CONFIRM})
    while bench.repairs or bench.clears:
        await bench.tick()
    await bench.drain()
    bench.check_stale()
    print(f"cleared={cleared} lived={lived} dropped={bench.dropped} reasons={dict(bench.reasons)}")
    assert bench.dropped > cleared > 10
    assert lived > 5
    # An order without shares was among the inserted ones.
    assert StaleReason.INVALID_ORDER in bench.reasons


@cocotb.test
async def touched_symbols_are_not_flagged_for_what_was_cleared(dut):
    bench = Bench(dut, random.Random(SEED))
    await bench.reset()
    await bench.see_all()
    bench.repairs.append({"kind": RepairKind.CLEAR, "symbol_index": 2})
    while bench.repairs or bench.clears:
        await bench.tick()
    live = {"kind": RepairKind.LIVE, "symbol_index": 2, "reference": bench.highest}
    bench.repairs.append(live)
    while bench.blocked:
        await bench.tick()
    await bench.send({"kind": RETRACT})
    await bench.drain()
    bench.check_stale()
    expected = [StaleReason.FRAME_BAD] * SYMBOL_COUNT
    expected[2] = StaleReason.NONE
    assert bench.stale() == expected


@cocotb.test
async def order_of_a_repair_is_put_in_once_as_a_refill_ends(dut):
    rng = random.Random(SEED)
    bench = Bench(dut, rng, slack=16)
    await bench.reset()
    await bench.see_all()
    reference, scan, orders = 1 << 32, None, 0
    for _ in range(16):
        bench.repairs.append({"kind": RepairKind.CLEAR, "symbol_index": 1})
        while bench.repairs or bench.clears:
            await bench.tick()
        # The row runs out of levels, and another one is shown when it is refilled.
        refills = bench.refills
        side = [reference + i for i in range(3 * LEVEL_COUNT)]
        for price, known in enumerate(side):
            add = {"kind": ADD, "order_reference": known, "price": 90 - price, "shares": 1}
            await bench.send({**add, "is_buy": 1, "stock_locate": LOCATES[0]})
        for known in side[:LEVEL_COUNT]:
            delete = {"kind": DELETE, "order_reference": known}
            await bench.send({**delete, "stock_locate": LOCATES[0]})
        await bench.sent()
        start, last = bench.cycle, orders + 16
        while bench.refills == refills:
            ends = scan is not None and bench.cycle > start + scan - 24
            if ends and not bench.repairs and orders < last and rng.random() < 0.4:
                orders += 1
                insert = {"kind": RepairKind.INSERT, "symbol_index": 1, "is_buy": 1}
                insert |= {"reference": orders, "price": 70, "shares": orders}
                bench.repairs.append(insert)
            await bench.tick()
            assert bench.cycle < start + 4 * ORDER_COUNT, "no refill"
        scan = bench.cycle - start
        await bench.drain()
        bench.repairs.append(
            {"kind": RepairKind.LIVE, "symbol_index": 1, "reference": bench.highest}
        )
        while bench.repairs:
            await bench.tick()
            assert bench.cycle < start + 8 * ORDER_COUNT, "no answer"
        await bench.drain()
        assert bench.blocked is None
        for known in side[LEVEL_COUNT:]:
            delete = {"kind": DELETE, "order_reference": known}
            await bench.send({**delete, "stock_locate": LOCATES[0]}, 20)
        await bench.drain()
        reference += 1 << 20
    print(f"orders={orders}")
    assert orders > 32
