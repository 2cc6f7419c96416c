"""What the benches of the whole feed path share: frames, pins, scoreboard and coverage.

Imported within the simulator. Time is counted in cycles here: the card's time port is given the
number of the cycle, so that an event's ``ts_last`` tells when the last byte of its message left the
MAC.
"""

import os
import random
from collections import Counter, defaultdict
from itertools import product

from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer

from hw.rtl.book.book import event
from hw.rtl.book.levels import LEVEL
from hw.rtl.book.tasks import RepairKind, repair
from hw.rtl.layouts import OPERATION, OperationKind
from protocol import itch50
from protocol.frames import Address, multicast_mac, udp_frame
from protocol.moldudp64 import BLOCK, END_OF_SESSION, HEADER
from protocol.reasons import DropReason, StaleReason
from sim.golden.book import EMPTY_BBO, Bbo, Side
from sim.golden.moldudp64 import parse_packet
from sim.golden.parse import AddOrder
from sim.golden.wire import Drop, parse_frame
from sim.tb.mac import GAP_BYTES, PREAMBLE, Sent, gmii, xgmii
from sim.tb.scoreboard import GoldenFeed

WIDTH = int(os.environ["WIDTH"])
SYMBOL_COUNT = int(os.environ["SYMBOL_COUNT"])
ORDER_COUNT = int(os.environ["ORDER_COUNT"])
MESSAGES = int(os.environ["MESSAGES"])
SEED = int(os.environ["SEED"])
CUT_THROUGH = bool(int(os.environ["CUT_THROUGH"]))
DATA = os.environ["DATA"]

SESSION = b"TICKWIRE01"
GROUP = (233 << 24 | 54 << 16 | 12 << 8 | 111, 26477)
SOURCE = Address(b"\x02\0\0\0\0\1", 10 << 24 | 1, 18000)
DESTINATION = Address(multicast_mac(GROUP[0]), *GROUP)
PAYLOAD_MAX = 1472
HEADERS = 42
"""Bytes of Ethernet, IPv4 and UDP in the frames that are made here."""
GAP_TIMEOUT = 3_000 * 8 // WIDTH
LOCATES = [(index * 1021 + 7) & 0xFFFF for index in range(SYMBOL_COUNT)]
OTHER_LOCATE = 3
IDLE = (0, 0) if WIDTH == 1 else (0x0707070707070707, 0xFF)
TICK_TO_EVENT = 10
TICK_TO_EVENT_REPLACE = 12

TYPES = "".join(sorted(chr(layout.code) for layout in itch50.MESSAGES.layouts))
ORDER_TYPES = "AFECXDU"
OF_LEVELS = ("first", "new best", "more", "less", "best removed", "emptied", "behind the best")
WRONG = (
    StaleReason.UNKNOWN_REFERENCE,
    StaleReason.DUPLICATE_REFERENCE,
    StaleReason.OVERFILL,
    StaleReason.LOCATE_MISMATCH,
    StaleReason.INVALID_ORDER,
)
"""What a message can have wrong of itself."""
ELSEWHERE = {
    DropReason.BUFFER_FULL: "bench_wire_arbiter",  # The golden model has room for more.
    DropReason.UNDER_REPAIR: "the contract of the cards",  # This bench is silent meanwhile.
}
"""Drop reasons that are looked at there alone."""
COVERAGE = {
    "type, lane of its last byte": set(product(TYPES, range(WIDTH))),
    "drop reason": {reason.name for reason in DropReason if reason not in ELSEWHERE},
    "side, level operation": set(product("BS", OF_LEVELS)),
    "orders, sixteenths of the map": set(range(10)),
    "stash of the order map": {"empty", "used"},
    "stale reason": {
        reason.name
        for reason in StaleReason
        # The golden model has room for all orders and all sums: the benches of the book look there.
        if reason not in (StaleReason.ORDER_MAP_FULL, StaleReason.LEVEL_OVERFLOW)
        and reason is not StaleReason.UNDER_REPAIR
        and (CUT_THROUGH or reason is not StaleReason.FRAME_BAD)
    },
    "line that was first": {"A", "B"},
    "packet": {"messages", "heartbeat", "end of session"},
    "locate": {"set", "learnt"},
    "repaired after": {reason.name for reason in WRONG} | {"GAP"},
}
"""What the benches of one run must meet together."""
covered: dict[str, Counter] = {name: Counter() for name in COVERAGE}


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


EVENT_FIELDS, LEVEL_FIELDS = fields(event(SYMBOL_COUNT)), fields(LEVEL)
OPERATION_FIELDS = fields(OPERATION)
NOTICES = (OperationKind.CONFIRM, OperationKind.RETRACT, OperationKind.GAP)
REPAIR_FIELDS = fields(repair(SYMBOL_COUNT))


def unpack(word, layout_fields):
    return {name: word >> offset & mask for name, (offset, mask) in layout_fields.items()}


def packet(sequence, messages=(), count=None, session=SESSION):
    """A MoldUDP64 packet."""
    head = HEADER.pack(
        session=session,
        sequence_number=sequence,
        message_count=len(messages) if count is None else count,
    )
    return head + b"".join(BLOCK.pack(message_length=len(m)) + m for m in messages)


def frame(payload):
    return udp_frame(SOURCE, DESTINATION, payload)


def packets(messages, rng, most=PAYLOAD_MAX):
    """Pack messages as a venue would: sometimes one, sometimes as many as fit."""
    found, sequence, held, size, wanted = [], 1, [], 20, 1
    for message in messages:
        if held and (len(held) >= wanted or size + 2 + len(message) > most):
            found.append((sequence, held))
            sequence, held, size = sequence + len(held), [], 20
            wanted = rng.choice((1, 1, 2, 3, rng.randrange(1, 70), 1000))
        held.append(message)
        size += 2 + len(message)
    return [*found, (sequence, held)]


def level_operation(is_bid, before, after):
    """What became of a side, by price, quantity and orders of its best level before and after."""
    if not before[2] or not after[2]:
        return "first" if after[2] else "emptied" if before[2] else None
    if before[0] != after[0]:
        return "new best" if (after[0] > before[0]) is is_bid else "best removed"
    if before == after:
        return "behind the best"
    return "more" if after[1:] > before[1:] else "less"


class Line:
    """Frames of one line, each at its time in bytes on the wire."""

    def __init__(self):
        self.frames = []
        self.at = 0

    def send(self, data, at=0, bad=False):
        """Send a frame at a time, or as soon as the line is free."""
        gap = max(GAP_BYTES, at - self.at)
        self.frames.append(Sent(data, gap, bad))
        self.at += gap + len(PREAMBLE) + len(data) + 4


def header_end(data):
    """Return the place of the last byte of a frame's MoldUDP64 header."""
    ip = 18 if data[12:14] == b"\x81\x00" else 14
    return ip + 4 * (data[ip] & 0xF if len(data) > ip else 5) + 8 + HEADER.size - 1


class Bench:
    """Sends frames on both lines and compares every event with the golden model."""

    def __init__(self, dut, locates=LOCATES, session=SESSION, group=GROUP):
        self.dut = dut
        self.locates = locates
        self.session = session
        self.group = group
        self.cycle = 0
        self.latencies = defaultdict(Counter)
        self.flagged = self.exact = self.changes = 0
        self.shown = {}
        self.learnt = set()
        self.begins = None
        self.following = 0
        """When the frames began that hold a message, by its number, if a bench looks at that."""
        flags = "rx_dv" if WIDTH == 1 else "rxc"
        self.pins = [
            (getattr(dut, f"lines_{line}_rxd"), getattr(dut, f"lines_{line}_{flags}"))
            for line in (0, 1)
        ]

    async def learn(self, index, name):
        """Have a symbol learn its locate from the directory message of its name."""
        dut = self.dut
        dut.stock_stb.value = 1
        dut.stock_index.value = index
        dut.stock_valid.value = 1
        dut.stock_stock.value = int.from_bytes(name.encode().ljust(8), "little")
        await FallingEdge(dut.clk)
        dut.stock_stb.value = 0
        self.golden.names[name] = index
        self.learnt.add(index)

    async def start(self, sequence=1):
        Clock(self.dut.clk, 10, unit="ns").start()
        await self.reset(sequence)

    async def reset(self, sequence=1):
        dut = self.dut
        for port in (dut.start_stb, dut.locate_stb, dut.stock_stb, dut.i_repair_valid):
            port.value = 0
        for line in (0, 1):
            self.show(line, IDLE)
            getattr(dut, f"any_{line}").value = 0
            getattr(dut, f"filters_{line}").value = 1 | self.group[0] << 1 | self.group[1] << 33
            if WIDTH == 1:
                getattr(dut, f"lines_{line}_rx_er").value = 0
        dut.session.value = int.from_bytes(self.session or b"", "little")
        dut.sequence.value = sequence or 0
        dut.gap_timeout_ns.value = GAP_TIMEOUT
        dut.rst.value = 1
        for _ in range(4):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        while not int(dut.ready.value):
            await FallingEdge(dut.clk)
        for index, locate in enumerate(self.locates):
            dut.locate_stb.value = 1
            dut.locate_index.value = index
            dut.locate_valid.value = 1
            dut.locate.value = locate
            await FallingEdge(dut.clk)
        dut.locate_stb.value = 0
        dut.start_stb.value = 1
        await FallingEdge(dut.clk)
        dut.start_stb.value = 0
        self.golden = GoldenFeed(
            self.locates, GAP_TIMEOUT, CUT_THROUGH, self.group, self.session, sequence
        )

    def show(self, line, column):
        """Put a column on a line's pins."""
        data_pins, flag_pins = self.pins[line]
        data_pins.value, flag_pins.value = column

    async def run(self, a, b, drain=400):
        """Send what two lines hold, and check what comes out."""
        encode = gmii if WIDTH == 1 else xgmii
        columns, order = [], []
        for number, line in enumerate((a, b)):
            encoded, places = encode(line.frames)
            columns.append(encoded)
            for sent, (column, lane) in zip(line.frames, places, strict=True):
                # The card decides on a packet when its header is in.
                decided = column + (lane + header_end(sent.data)) // WIDTH
                order.append((decided, number, sent, lane))
        if self.begins is not None:
            for decided, _, sent, lane in order:
                begin = decided - (lane + header_end(sent.data)) // WIDTH
                self._note_begin(sent.data, self.cycle + begin)
        for decided, number, sent, lane in sorted(order, key=lambda item: item[:2]):
            before = self.golden.message_count
            self.golden.frame(number, sent.data, self.cycle + decided, sent.bad)
            self._cover(sent, lane, number if self.golden.message_count > before else None)
        length = max(map(len, columns))
        self.golden.advance(self.cycle + length + drain)
        expected = iter(self.golden.expected)
        self.golden.expected = []
        dut, clock, shown = self.dut, self.dut.clk, [None, None]
        for column in columns:
            column += [IDLE] * (length + drain - len(column))
        for at in range(length + drain):
            for line in (0, 1):
                if shown[line] != columns[line][at]:
                    shown[line] = columns[line][at]
                    self.show(line, shown[line])
            dut.time.value = self.cycle
            await FallingEdge(clock)
            self.cycle += 1
            if int(dut.o_operation_valid.value):
                self._follow()
                if self.begins is not None:
                    self._check_begin()
            if int(dut.o_valid.value):
                got = unpack(int(dut.o_payload.value), EVENT_FIELDS)
                if got["kind"] != OperationKind.NONE.value:
                    self.check(next(expected, None), got)
        missing = next(expected, None)
        assert missing is None, f"no event came of {missing}; seed {SEED}"

    def _note_begin(self, data, cycle):
        head = HEADER.unpack(data[header_end(data) + 1 - HEADER.size : header_end(data) + 1])
        if head["message_count"] < END_OF_SESSION:
            for sequence in range(head["message_count"]):
                self.begins[head["sequence_number"] + sequence].add(cycle)

    def _follow(self):
        """Note the number of the message that comes next, as the book knows it."""
        operation = unpack(int(self.dut.o_operation_payload.value), OPERATION_FIELDS)
        kind = OperationKind(operation["kind"])
        if kind is OperationKind.GAP:
            self.following = operation["new_reference"]
        elif kind is OperationKind.RETRACT:
            self.following = operation["sequence"]
        elif kind not in NOTICES:
            self.following = operation["sequence"] + 1

    def _check_begin(self):
        operation = unpack(int(self.dut.o_operation_payload.value), OPERATION_FIELDS)
        kind = OperationKind(operation["kind"])
        if kind not in NOTICES:
            began, sequence = int(self.dut.o_begin.value), operation["sequence"]
            wanted = self.begins[sequence]
            assert began in wanted, (
                f"message {sequence} began at {began}, not {wanted}; seed {SEED}"
            )

    async def repair(self, index, orders):
        """Clear a symbol, and add orders again: reference, side, price and shares of each."""
        dut, locate = self.dut, self.locates[index]
        before = self.golden.stale()[index]
        self.golden.book.clear(locate)
        steps = [{"kind": RepairKind.CLEAR.value, "symbol_index": index}]
        for reference, side, price, shares in orders:
            self.golden.book.apply(AddOrder(locate, 0, 0, reference, side.value, shares, "", price))
            steps.append(
                {"kind": RepairKind.INSERT.value, "symbol_index": index, "reference": reference}
                | {"is_buy": side is Side.BUY, "price": price, "shares": shares}
            )
        steps.append(
            {"kind": RepairKind.LIVE.value, "symbol_index": index, "reference": self.following}
        )
        for step in steps:
            dut.i_repair_payload.value = sum(
                int(value) << REPAIR_FIELDS[name][0] for name, value in step.items()
            )
            dut.i_repair_valid.value = 1
            await Timer(1, "ns")
            while not int(dut.i_repair_ready.value):
                await self._idle_cycle()
            await self._idle_cycle()
            dut.i_repair_valid.value = 0
            is_answered = step["kind"] != RepairKind.INSERT.value
            while is_answered and not int(dut.o_valid.value):
                await self._idle_cycle()
            if step["kind"] == RepairKind.LIVE.value:
                got = unpack(int(dut.o_payload.value), EVENT_FIELDS)
                assert got["reason"] == StaleReason.NONE, got
        for _ in range(4):  # Flags follow their event.
            await self._idle_cycle()
        self.shown[index] = self.golden.book.bbo(locate)
        covered["repaired after"][before.name] += 1

    async def _idle_cycle(self):
        self.dut.time.value = self.cycle
        await FallingEdge(self.dut.clk)
        await Timer(1, "ns")
        self.cycle += 1

    def check(self, wanted, got):
        what = f"{wanted}\n  got {got}\n  seed {SEED}, cycle {self.cycle}"
        assert wanted is not None, f"an event too many: {what}"
        assert (got["sequence"], got["symbol_index"]) == (wanted.sequence, wanted.symbol_index), (
            what
        )
        latency = self.cycle - got["ts_last"]
        kind, stale = OperationKind(got["kind"]), wanted.stale_reason
        done = self.level_operations(wanted)
        best_gone = kind is OperationKind.DELETE and not {"best removed", "emptied"}.isdisjoint(
            operation for _, operation in done
        )
        self.latencies["DELETE of the best" if best_gone else kind.name][latency] += 1
        self.shown[wanted.symbol_index] = wanted.bbo
        covered["side, level operation"].update(done)
        covered["stale reason"][stale.name] += 1
        covered["locate"]["learnt" if wanted.symbol_index in self.learnt else "set"] += 1
        if stale is StaleReason.NONE and got["stale_reason"] == StaleReason.LEVEL_OVERFLOW:
            self.flagged += 1
            return
        assert got["stale_reason"] == stale, f"stale {StaleReason(got['stale_reason'])!r}: {what}"
        bid, ask = unpack(got["bid"], LEVEL_FIELDS), unpack(got["ask"], LEVEL_FIELDS)
        shown = Bbo(*bid.values(), *ask.values())
        self.exact += 1
        self.changes += wanted.changed
        if stale is StaleReason.NONE or (shown[2] and shown[5]):
            assert shown == wanted.bbo, what
            assert got["changed"] == wanted.changed, what

    def level_operations(self, wanted):
        """What a message did to each side, as far as it shows."""
        before = self.shown.get(wanted.symbol_index, EMPTY_BBO)
        return [
            (side, operation)
            for side, part in (("B", slice(0, 3)), ("S", slice(3, 6)))
            if (operation := level_operation(side == "B", before[part], wanted.bbo[part]))
        ]

    def _cover(self, sent, lane, line):
        """Note what a frame that is used is made of; ``line`` if it brought messages."""
        live = self.golden.book.live_order_count
        covered["orders, sixteenths of the map"][16 * live // ORDER_COUNT] += 1
        found = parse_frame(sent.data)
        mold = found if isinstance(found, Drop) else parse_packet(found.payload)
        if sent.bad or isinstance(mold, Drop):
            return
        kind = "heartbeat" if mold.is_heartbeat else "messages"
        covered["packet"]["end of session" if mold.is_end_of_session else kind] += 1
        if line is None:
            return
        covered["line that was first"]["AB"[line]] += 1
        at = lane + header_end(sent.data)
        for message in mold.messages:
            at += BLOCK.size + len(message)
            layout = itch50.MESSAGES.by_code.get(message[0]) if message else None
            if layout is not None and layout.size == len(message):
                covered["type, lane of its last byte"][chr(message[0]), at % WIDTH] += 1

    def check_counters(self):
        dut, golden = self.dut, self.golden
        drops = int(dut.drops.value)
        got = {reason: drops >> 48 * reason & ((1 << 48) - 1) for reason in DropReason}
        wanted = {reason: golden.drops[reason] for reason in DropReason}
        assert got == wanted, {r.name: (got[r], wanted[r]) for r in got if got[r] != wanted[r]}
        assert int(dut.messages.value) == golden.message_count
        assert int(dut.lost.value) == sum(gap.count for gap in golden.gaps)
        stale, bits = int(dut.stale.value), len(dut.stale) // SYMBOL_COUNT
        covered["drop reason"].update(reason.name for reason in golden.drops)
        covered["stash of the order map"]["used" if int(dut.stash_used_max.value) else "empty"] += 1
        found = [stale >> bits * i & ((1 << bits) - 1) for i in range(len(golden.stale()))]
        assert found == golden.stale()

    def tell(self):
        print(
            f"seed {SEED}: {self.exact} events equal, {self.flagged} flagged, {self.cycle} cycles"
        )
        for kind, counts in sorted(self.latencies.items()):
            print(f"  {kind}: cycles to event {dict(sorted(counts.items()))}")

    def assert_latencies(self):
        """Every event within its budget, but for those that a replace right before held up."""
        for kind, counts in self.latencies.items():
            budget = TICK_TO_EVENT_REPLACE if kind == "REPLACE" else TICK_TO_EVENT
            assert min(counts) == budget, (kind, counts)
            late = sum(n for cycles, n in counts.items() if cycles > budget)
            assert late <= sum(counts.values()) // 5, (kind, counts)


def both(*frames):
    """The same frames on both lines."""
    a, b = Line(), Line()
    for data in frames:
        a.send(data)
        b.send(data)
    return a, b


def numbered(kind, count, first_reference, locate, **values):
    """Messages of one kind about orders with references one after the other."""
    name = "order_reference_number"
    return [
        kind.pack(
            stock_locate=locate(i),
            tracking_number=0,
            timestamp=i,
            **{name: first_reference + i},
            **values,
        )
        for i in range(count)
    ]


class AsManyAsFit(random.Random):
    """Chooses the largest packets."""

    def choice(self, options):
        return max(options)


def tell_coverage():
    """Print how much of each bin was met, and return what was not."""
    missing = {name: wanted - set(covered[name]) for name, wanted in COVERAGE.items()}
    print(f"coverage of the feed path, {WIDTH} bytes a beat, cut_through={CUT_THROUGH}")
    for name, wanted in COVERAGE.items():
        met = {item: covered[name][item] for item in wanted if covered[name][item]}
        least = min(met.values(), default=0)
        print(f"  {name:30} {len(met):4} of {len(wanted):4}, each {least} times or more")
    return {name: sorted(items, key=str) for name, items in missing.items() if items}
