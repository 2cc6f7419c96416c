"""cocotb bench of the market records, run by ``test_market.py``."""

import os
import random
from collections import defaultdict

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

from hw.rtl.layouts import MESSAGE, NOTICE, NoticeKind
from hw.rtl.ring.conflation import Conflation
from hw.rtl.ring.market import MarketRecords
from protocol import itch50, moldudp64, ring
from protocol.reasons import StaleReason
from sim.card.functional.path import FeedPath
from sim.tb.flow import Flow
from sw.ring import RingReader, RingWriter, ring_size

SEED = int(os.environ["SEED"])
MESSAGES = int(os.environ["MESSAGES"])
LOCATES = (17, 4, 8_000, 65_535)
STRANGER = 99
MANY_SLOTS = 1 << 14
LIVE_MAX = 60
DEPTH = 6
_MISMATCH = int(StaleReason.LOCATE_MISMATCH)
_CODES = {"event_code": "OSQMEC", "trading_state": "HPQT", "reg_sho_action": "012"}
_OTHERS = (
    *(itch50.SYSTEM_EVENT, itch50.STOCK_TRADING_ACTION, itch50.OPERATIONAL_HALT),
    *(itch50.REG_SHO_RESTRICTION, itch50.TRADE, itch50.CROSS_TRADE, itch50.NOII),
)


def packed(layout, **values):
    word = 0
    for name, value in values.items():
        place = layout[name]
        word |= (int(value) & (1 << place.width) - 1) << place.offset
    return word


def other(rng):
    """Return a message that changes no book."""
    layout = rng.choice(_OTHERS)
    fields = layout.unpack(layout.code.to_bytes() + bytes(b"A" * (layout.size - 1)))
    fields |= {"timestamp": rng.getrandbits(48), "stock_locate": rng.choice((*LOCATES, STRANGER))}
    for name, codes in _CODES.items():
        if name in fields:
            fields[name] = rng.choice(codes)
    if "operational_halt_action" in fields:
        fields |= {"operational_halt_action": rng.choice("HT"), "market_code": rng.choice("QQBX")}
    for name in ("shares", "cross_shares"):
        if name in fields:
            fields[name] = rng.choice((0, 100, rng.getrandbits(32)))
    for name in ("price", "cross_price", "match_number"):
        if name in fields:
            fields[name] = rng.getrandbits(32)
    return layout.pack(**fields)


class Reference:
    """The functional card's feed path, with a ring that never fills."""

    def __init__(self):
        self.memory = memoryview(bytearray(ring_size(MANY_SLOTS)))
        writer = RingWriter(self.memory, 0, MANY_SLOTS)
        self.reader = RingReader(self.memory, 0, MANY_SLOTS)
        self.path = FeedPath(len(LOCATES), 1 << 12, writer)
        for index, locate in enumerate(LOCATES):
            self.path.configure(index, f"S{index}", locate)

    def records(self):
        found = []
        while (offset := self.reader.poll()) >= 0:
            found.append(without_time(bytes(self.memory[offset : offset + 64])))
            self.reader.release()
        return found


def without_time(record):
    """Return a record without card time and sequence number."""
    return record[:8] + bytes(8) + record[16:56]


def shown(record):
    return ring.MARKET.by_code[record[0]].unpack(record + bytes(8))


class Bench:
    def __init__(self, dut, ready_chance=1.0):
        self.dut = dut
        self.rng = random.Random(SEED)
        self.ready_chance = ready_chance
        self.reference = Reference()
        self.sequence = 0
        self.cycle = 0
        self.records, self.bbos = [], 0
        self.record_cycles = []
        self.conflated = self.lost = 0
        self.event_cycles, self.item_cycles = [], []

    async def begin(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for name in ("message_valid", "notice_valid", "locate_stb", "record_ready", "now"):
            getattr(dut, name).value = 0
        dut.configured.value = (1 << len(LOCATES)) - 1
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        while not dut.ready.value:
            await FallingEdge(dut.clk)
        for index, locate in enumerate(LOCATES):
            dut.locate_index.value, dut.locate.value, dut.locate_stb.value = index, locate, 1
            await FallingEdge(dut.clk)
        dut.locate_stb.value = 0

    async def step(self, message=None, notice=None):
        dut = self.dut
        await FallingEdge(dut.clk)
        self.cycle += 1
        dut.now.value = self.cycle
        dut.message_valid.value = message is not None
        dut.notice_valid.value = notice is not None
        if message is not None:
            layouts = itch50.MESSAGES.layouts
            kind = sum(1 << i for i, each in enumerate(layouts) if each.code == message[0])
            dut.is_message.value = kind
            dut.message.value = packed(
                MESSAGE,
                data=int.from_bytes(message, "little"),
                length=len(message),
                sequence=self.sequence,
            )
        if notice is not None:
            dut.notice.value = notice
        ready = self.rng.random() < self.ready_chance
        dut.record_ready.value = ready
        await ReadOnly()
        if ready and dut.record_valid.value:
            record = int(dut.record.value).to_bytes(ring.RECORD_SIZE, "little")
            assert 0 < int.from_bytes(record[8:16], "little") <= self.cycle
            assert not any(record[56:])
            self.records.append(without_time(record))
            self.record_cycles.append(self.cycle)
        self.bbos += int(dut.bbo_stb.value)
        self.conflated += int(dut.conflated_stb.value)
        self.lost += int(dut.lost_stb.value)
        assert not dut.overflow_stb.value
        if dut.event_valid.value:
            self.event_cycles.append(self.cycle)
        if dut.item_valid.value:
            self.item_cycles.append((self.cycle, int(dut.item_is_bbo.value)))

    async def tell(self, message):
        """Give a message, and the cycles that it takes on the wire at 8 bytes a beat."""
        self.sequence += 1
        self.reference.path.apply(self.sequence, message, 1)
        await self.step(message)
        size = moldudp64.BLOCK.size + len(message)
        for _ in range(-(-size // 8) - 1 + (self.rng.random() < 0.3) * self.rng.randrange(12)):
            await self.step()

    async def notice(self, kind, count):
        first = self.sequence + 1
        if kind is NoticeKind.GAP:
            self.reference.path.lose(first, count, 1)
            self.sequence += count
        word = packed(
            NOTICE,
            kind=kind.value,
            sequence=first - (kind is NoticeKind.RETRACT) * count,
            next_sequence=self.sequence + 1,
        )
        await self.step(notice=word)
        await self.idle(60)

    async def idle(self, cycles):
        for _ in range(cycles):
            await self.step()


def differ(found, expected):
    """Return the first difference in words, or nothing."""
    for i, (a, b) in enumerate(zip(found, expected, strict=False)):
        if a != b:
            return f"record {i}: {shown(a)}\n not {shown(b)}"
    return "" if len(found) == len(expected) else f"{len(found)} records, not {len(expected)}"


def by_symbol(records):
    """BBO records of each symbol, and all others as they come."""
    found = defaultdict(list)
    for record in records:
        is_bbo = record[0] == ring.RecordType.BBO
        found[int.from_bytes(record[2:4], "little") if is_bbo else "other"].append(record)
    return found


@cocotb.test()
async def records_and_their_order_are_those_of_the_functional_card(dut):
    print(f"seed={SEED}")
    bench = Bench(dut)
    await bench.begin()
    flow = Flow(SEED, (*LOCATES, STRANGER), LIVE_MAX, DEPTH)
    for n in range(MESSAGES):
        if n == MESSAGES * 3 // 4:
            await bench.idle(60)
            await bench.notice(NoticeKind.GAP, 5)
        await bench.tell(other(bench.rng) if bench.rng.random() < 0.15 else legal(flow))
    await bench.idle(200)
    expected = bench.reference.records()
    assert differ(bench.records, expected) == ""
    kinds = {record[0] for record in expected}
    # What answers a command is looked at where there are commands: in the contract of the cards.
    assert kinds == {r.code for r in ring.MARKET.layouts} - {ring.REPAIR.code}
    assert len(expected) > MESSAGES // 3
    assert bench.conflated == bench.lost == 0


def legal(flow):
    """Return the flow's next message about an order."""
    while True:
        message = flow.message()
        if chr(message[0]) in "AFECXDU":
            return message


def told_together(found, records):
    """Return a symbol's records as they may come if another symbol's message has flagged it.

    That is told when no event waits; an event of its own that does tells it as well, so that the
    record of the flag has that one's cause, or is the next one.
    """
    flagged = (i for i, r in enumerate(records) if shown(r).get("stale_reason") == _MISMATCH)
    first = next(flagged, len(records))
    if first >= len(found) or found[first] == records[first]:
        return records
    if records[first + 1 : first + 2] == [found[first]]:
        return records[:first] + records[first + 1 :]
    with_cause = records[first][:16] + found[first][16:32] + records[first][32:]
    return [*records[:first], with_cause, *records[first + 1 :]]


@cocotb.test()
async def messages_that_cannot_be_right_are_told_for_each_symbol(dut):
    print(f"seed={SEED}")
    bench = Bench(dut)
    await bench.begin()
    rng = bench.rng
    flow = Flow(SEED + 1, LOCATES, LIVE_MAX, DEPTH)
    for n in range(MESSAGES // 4):
        message = legal(flow)
        if n > MESSAGES // 8 and rng.random() < 0.05:
            locate = rng.choice(LOCATES).to_bytes(2, "big")
            message = message[:1] + locate + message[3:]
        await bench.tell(message)
    await bench.idle(200)
    expected, found = by_symbol(bench.reference.records()), by_symbol(bench.records)
    assert found.keys() == expected.keys() == {0, 1, 2, 3, "other"}
    for symbol, records in expected.items():
        assert differ(found[symbol], told_together(found[symbol], records)) == "", symbol
    reasons = {
        shown(records[-1])["stale_reason"] for s, records in expected.items() if s != "other"
    }
    assert _MISMATCH in reasons


@cocotb.test()
async def newest_quote_survives_a_slow_ring(dut):
    print(f"seed={SEED}")
    bench = Bench(dut, ready_chance=0.03)
    await bench.begin()
    flow = Flow(SEED + 2, LOCATES, LIVE_MAX, DEPTH)
    for _ in range(MESSAGES // 2):
        await bench.tell(other(bench.rng) if bench.rng.random() < 0.1 else legal(flow))
    bench.ready_chance = 1.0
    await bench.idle(200)
    expected, found = by_symbol(bench.reference.records()), by_symbol(bench.records)
    others, changes = expected.pop("other"), sum(map(len, expected.values()))
    assert bench.bbos == changes
    assert bench.conflated > changes // 4
    assert bench.lost > 20
    for symbol, records in expected.items():
        told = found[symbol]
        # Each one stands for itself and those skipped, so its place among all changes is known.
        place = -1
        for record in told:
            fields = shown(record)
            place += 1 + fields["skipped"]
            assert fields == shown(records[place]) | {"skipped": fields["skipped"]}, symbol
        assert place == len(records) - 1, "the newest one has come"
    assert sum(shown(r)["skipped"] for s, rs in found.items() if s != "other" for r in rs) == (
        bench.conflated
    )
    # Of the others none is made up, and their order stays.
    rest = iter(others)
    assert all(record in rest for record in found["other"])
    assert len(found["other"]) == len(others) - bench.lost


@cocotb.test()
async def record_takes_its_cycles(dut):
    bench = Bench(dut)
    await bench.begin()
    add = itch50.ADD_ORDER.pack(
        stock_locate=LOCATES[0],
        tracking_number=0,
        timestamp=7,
        order_reference_number=1,
        buy_sell_indicator="B",
        shares=100,
        stock="S0",
        price=10_000,
    )
    execute = itch50.ORDER_EXECUTED.pack(
        stock_locate=LOCATES[0],
        tracking_number=0,
        timestamp=8,
        order_reference_number=1,
        executed_shares=40,
        match_number=3,
    )
    for message in (add, execute):
        await bench.tell(message)
        await bench.idle(30)
    added, executed = bench.event_cycles
    assert bench.item_cycles == [
        (added + MarketRecords.LATENCY, 1),
        (executed + MarketRecords.LATENCY_TRADE, 0),
        (executed + MarketRecords.LATENCY, 1),
    ]
    assert bench.record_cycles == [c + Conflation.LATENCY for c, _ in bench.item_cycles]
    assert bench.records == bench.reference.records()
    trade, quote = (shown(record) for record in bench.records[1:])
    assert (trade["last_qty"], trade["last_price"], trade["side"]) == (40, 10_000, ord("B"))
    assert (quote["bid_qty"], quote["bid_orders"]) == (60, 1)


@cocotb.test()
async def retracted_messages_are_told_as_stale(dut):
    bench = Bench(dut)
    await bench.begin()
    flow = Flow(SEED + 3, LOCATES[:1], LIVE_MAX, DEPTH)
    for _ in range(5):
        await bench.tell(legal(flow))
    await bench.idle(30)
    before = len(bench.records)
    await bench.notice(NoticeKind.RETRACT, 5)
    (record,) = (shown(each) for each in bench.records[before:])
    assert record["stale_reason"] == StaleReason.FRAME_BAD
    assert record["flags"] == ring.BboFlag.STALE
    assert (record["symbol_index"], record["feed_sequence"]) == (0, 5)


@cocotb.test()
async def symbol_that_is_not_configured_is_not_swept(dut):
    bench = Bench(dut)
    await bench.begin()
    await bench.step()
    await FallingEdge(dut.clk)
    dut.configured.value = 0b0100
    await bench.notice(NoticeKind.GAP, 3)
    records = [shown(each) for each in bench.records]
    assert [each["symbol_index"] for each in records] == [ring.ALL_MARKET, 2]
    assert (records[0]["first_sequence"], records[0]["message_count"]) == (1, 3)
    assert records[1]["stale_reason"] == StaleReason.GAP
