"""cocotb bench of the whole feed path, run by ``test_feed_path.py``.

Time is counted in cycles here: the card's time port is given the number of the cycle, so that an
event's ``ts_last`` tells when the last byte of its message left the MAC.
"""

import csv
import itertools
import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import cocotb
import dpkt
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from cocotbext.eth import XgmiiFrame, XgmiiSource

from hw.rtl.book.book import event
from hw.rtl.book.levels import LEVEL
from hw.rtl.layouts import OperationKind
from protocol import itch50
from protocol.frames import Address, multicast_mac, udp_frame
from protocol.ip import checksum
from protocol.moldudp64 import BLOCK, END_OF_SESSION, HEADER, HEARTBEAT
from protocol.reasons import DropReason, StaleReason
from sim.golden.book import Bbo
from sim.golden.moldudp64 import parse_packet
from sim.golden.wire import parse_frame
from sim.tb.feed_path import PROBES
from sim.tb.flow import Flow
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
GAP_TIMEOUT = 3_000 * 8 // WIDTH
LOCATES = [(index * 1021 + 7) & 0xFFFF for index in range(SYMBOL_COUNT)]
OTHER_LOCATE = 3
IDLE = (0, 0) if WIDTH == 1 else (0x0707070707070707, 0xFF)
TICK_TO_EVENT = 10
TICK_TO_EVENT_REPLACE = 12


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


EVENT_FIELDS, LEVEL_FIELDS = fields(event(SYMBOL_COUNT)), fields(LEVEL)


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
        flags = "rx_dv" if WIDTH == 1 else "rxc"
        self.pins = [
            (getattr(dut, f"lines_{line}_rxd"), getattr(dut, f"lines_{line}_{flags}"))
            for line in (0, 1)
        ]

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
                order.append((decided, number, sent))
        for decided, number, sent in sorted(order, key=lambda item: item[:2]):
            self.golden.frame(number, sent.data, self.cycle + decided, sent.bad)
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
            if int(dut.o_valid.value):
                got = unpack(int(dut.o_payload.value), EVENT_FIELDS)
                if got["kind"] != OperationKind.NONE.value:
                    self.check(next(expected, None), got)
        missing = next(expected, None)
        assert missing is None, f"no event came of {missing}; seed {SEED}"

    def check(self, wanted, got):
        what = f"{wanted}\n  got {got}\n  seed {SEED}, cycle {self.cycle}"
        assert wanted is not None, f"an event too many: {what}"
        assert (got["sequence"], got["symbol_index"]) == (wanted.sequence, wanted.symbol_index), (
            what
        )
        latency = self.cycle - got["ts_last"]
        kind = OperationKind(got["kind"])
        emptied = kind is OperationKind.DELETE and self.emptied_best(wanted)
        self.latencies["DELETE of the best" if emptied else kind.name][latency] += 1
        self.shown[wanted.symbol_index] = wanted.bbo
        stale = wanted.stale_reason
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

    def emptied_best(self, wanted):
        """Whether the best price of a side went away."""
        before = self.shown.get(wanted.symbol_index)
        return before is not None and ((before[0], before[3]) != (wanted.bbo[0], wanted.bbo[3]))

    def check_counters(self):
        dut, golden = self.dut, self.golden
        drops = int(dut.drops.value)
        got = {reason: drops >> 48 * reason & ((1 << 48) - 1) for reason in DropReason}
        wanted = {reason: golden.drops[reason] for reason in DropReason}
        assert got == wanted, {r.name: (got[r], wanted[r]) for r in got if got[r] != wanted[r]}
        assert int(dut.messages.value) == golden.message_count
        assert int(dut.lost.value) == sum(gap.count for gap in golden.gaps)
        stale, bits = int(dut.stale.value), len(dut.stale) // SYMBOL_COUNT
        found = [stale >> bits * i & ((1 << bits) - 1) for i in range(len(self.locates))]
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


@cocotb.test()
async def each_message_of_a_day_in_small_brings_its_event(dut):
    bench = Bench(dut)
    await bench.start()
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    a = Line()
    for sequence, held in packets([flow.message() for _ in range(300)], random.Random(SEED)):
        a.send(frame(packet(sequence, held)))
    await bench.run(a, Line())
    bench.tell()
    bench.check_counters()
    assert bench.exact > 200
    if CUT_THROUGH:
        bench.assert_latencies()


@cocotb.test()
async def random_flow_with_loss_on_one_line_is_the_golden_feed(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.start()
    flow = Flow(SEED, [*LOCATES, *LOCATES, OTHER_LOCATE], ORDER_COUNT // 2)
    done, next_sequence = 0, 1
    while done < MESSAGES:
        wanted = min(5_000, MESSAGES - done)
        a, b, at = Line(), Line(), 0
        skew = rng.choice((0, 0, 8, 100, 700, -50, -900))
        losing = rng.choice((0.0, 0.05, 0.3))
        for offset, held in packets([flow.message() for _ in range(wanted)], rng):
            data = frame(packet(next_sequence + offset - 1, held))
            at = max(at + rng.choice((0, 0, 0, 50, 3_000)), a.at, b.at - abs(skew))
            lost = rng.choice((a, b)) if rng.random() < losing else None
            for line, shift in ((a, max(0, -skew)), (b, max(0, skew))):
                if line is not lost:
                    line.send(data, at + shift)
            if rng.random() < 0.03:
                beat = frame(packet(next_sequence + offset - 1 + len(held), (), HEARTBEAT))
                a.send(beat)
                b.send(beat)
        await bench.run(a, b)
        done += wanted
        next_sequence += wanted
        if done % 50_000 == 0:
            print(f"{done} of {MESSAGES} messages", flush=True)
    bench.tell()
    bench.check_counters()
    assert bench.golden.message_count == MESSAGES
    assert bench.flagged <= MESSAGES // 100  # A side emptied faster than it is refilled.
    assert bench.changes > MESSAGES // 10


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


@cocotb.test()
async def maximum_packets_of_deletes_back_to_back_on_both_lines_stall_nothing(dut):
    bench = Bench(dut)
    await bench.start()
    sequence, rounds = 1, -(-min(MESSAGES, 10_500) // (ORDER_COUNT // 2))
    a, b = Line(), Line()
    for number in range(rounds):
        first, count = number << 40, ORDER_COUNT // 2
        for kind, values in (
            (itch50.ADD_ORDER, {"buy_sell_indicator": "B", "shares": 1, "stock": "X", "price": 0}),
            (itch50.ORDER_DELETE, {}),
        ):
            messages = numbered(kind, count, first, lambda i: LOCATES[i % SYMBOL_COUNT], **values)
            if kind is itch50.ADD_ORDER:
                messages = [
                    m[:32] + (100 + i // SYMBOL_COUNT % 5).to_bytes(4, "big")
                    for i, m in enumerate(messages)
                ]
            for offset, held in packets(messages, AsManyAsFit()):
                data = frame(packet(sequence + offset - 1, held))
                a.send(data)
                b.send(data)
            sequence += count
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    assert bench.exact == 2 * rounds * (ORDER_COUNT // 2)
    assert bench.flagged == 0
    if CUT_THROUGH:
        for kind, counts in bench.latencies.items():
            assert set(counts) == {TICK_TO_EVENT}, (kind, counts)
    if file := os.environ.get("LATENCIES"):
        worst = {f"{kind} at line rate, worst": max(c) for kind, c in bench.latencies.items()}
        Path(file).write_text(json.dumps(worst))


class AsManyAsFit(random.Random):
    """Chooses the largest packets."""

    def choice(self, options):
        return max(options)


def patched(data, at, new):
    """A frame with other bytes in its IPv4 header, whose checksum fits."""
    data = data[:at] + new + data[at + len(new) :]
    header = data[14:24] + bytes(2) + data[26:34]
    return data[:24] + checksum(header).to_bytes(2, "big") + data[26:]


def flipped(data, at, rng):
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


# What can be wrong: of a good frame, its MoldUDP64 packet and a source of chance it makes the frame
# that is sent, and whether its FCS is wrong.
FAULTS = {
    "FCS": lambda good, payload, rng: (good, True),
    "damaged and FCS": lambda good, payload, rng: (
        flipped(good, rng.randrange(62, len(good)), rng),
        True,
    ),
    "header damaged and FCS": lambda good, payload, rng: (
        flipped(good, rng.randrange(62), rng),
        True,
    ),
    "UDP checksum": lambda good, payload, rng: (
        flipped(good, rng.randrange(62, 42 + len(payload)), rng),
        False,
    ),
    "IP checksum": lambda good, payload, rng: (flipped(good, 24, rng), False),
    "EtherType": lambda good, payload, rng: (good[:12] + b"\x86\xdd" + good[14:], False),
    "fragment": lambda good, payload, rng: (patched(good, 20, b"\x20\x00"), False),
    "TCP": lambda good, payload, rng: (patched(good, 23, b"\x06"), False),
    "UDP length": lambda good, payload, rng: (good[:38] + b"\xff\xff" + good[40:], False),
    "cut": lambda good, payload, rng: (
        (good[: rng.randrange(63, len(good))], False) if len(good) > 64 else (good, True)
    ),
    "other group": lambda good, payload, rng: (
        udp_frame(SOURCE, Address(DESTINATION.mac, GROUP[0], GROUP[1] + 1), payload),
        False,
    ),
    "no MoldUDP64": lambda good, payload, rng: (frame(payload[: rng.randrange(20)]), False),
    "session": lambda good, payload, rng: (frame(b"X" + payload[1:]), False),
    "truncated": lambda good, payload, rng: (frame(payload[: -rng.randrange(1, 12)]), False),
    "lost": lambda good, payload, rng: (None, False),
}


async def faulty_feed(bench, rounds, rng, kinds, gaps):
    """Damage frames on line A, or leave them out on both, and send the good ones on B later."""
    flow = Flow(SEED + 1, [*LOCATES, OTHER_LOCATE], ORDER_COUNT // 2)
    sequence, met = 1, Counter()
    for _ in range(rounds):
        a, b, at = Line(), Line(), 0
        messages = [flow.message() for _ in range(200)]
        for offset, held in packets(messages, rng, 400):
            payload = packet(sequence + offset - 1, held)
            good, at = frame(payload), max(at + 1_500, a.at, b.at)
            kind = kinds[met.total() % len(kinds)] if rng.random() < 0.2 else None
            data, bad = FAULTS[kind](good, payload, rng) if kind else (good, False)
            met[kind] += 1
            if data is not None:
                a.send(data, at, bad)
            if not gaps or kind is None:
                b.send(good, at + 700)
        sequence += len(messages)
        await bench.run(a, b, GAP_TIMEOUT + 400)
    return met


@cocotb.test()
async def faults_on_one_line_cost_what_the_golden_feed_says(dut):
    bench = Bench(dut)
    await bench.start()
    kinds = sorted(FAULTS)
    met = await faulty_feed(bench, max(12, MESSAGES // 2_000), random.Random(SEED), kinds, False)
    bench.tell()
    print(f"  faults {dict(met)}\n  drops { {r.name: n for r, n in bench.golden.drops.items()} }")
    bench.check_counters()
    assert not bench.golden.gaps
    assert set(met) == {None, *FAULTS}
    # A damaged message may still be one.
    spared = {DropReason.FRAME_TOO_SHORT, DropReason.TOO_LATE, DropReason.BUFFER_FULL}
    spared.add(DropReason.UNKNOWN_MESSAGE)
    assert set(DropReason) - set(bench.golden.drops) <= spared


@cocotb.test()
async def loss_on_both_lines_flags_every_symbol_after_the_wait(dut):
    bench = Bench(dut)
    await bench.start()
    rng = random.Random(SEED)
    met = await faulty_feed(bench, 3, rng, ["lost", "lost", "truncated"], True)
    bench.tell()
    bench.check_counters()
    assert met["lost"]
    assert len(bench.golden.gaps) >= 3
    assert set(bench.golden.stale()) == {StaleReason.GAP}


@cocotb.test()
async def blocks_that_are_no_message_are_counted_and_passed_over(dut):
    bench = Bench(dut)
    await bench.start()
    rng = random.Random(SEED)
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    messages = []
    for _ in range(600):
        messages.append(flow.message())
        if rng.random() < 0.4:
            messages.append(rng.randbytes(rng.choice((0, 0, 1, 2, 7, 11, 12, 30, 51, 200))))
    a, b = both(*(frame(packet(n, held)) for n, held in packets(messages, rng)))
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    assert bench.golden.drops[DropReason.UNKNOWN_MESSAGE] > 100


@cocotb.test()
async def numbers_jump_and_come_to_their_end(dut):
    bench = Bench(dut)
    first = (1 << 64) - 40
    await bench.start(first)
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    a, b = Line(), Line()
    for number in range(30):
        data = frame(packet(first + number, [flow.message()]))
        a.send(data)
        b.send(data)
    for line in (a, b):
        line.send(frame(packet(first + 33, [flow.message()])))
        line.send(frame(packet(first + 34, (), END_OF_SESSION)))
    await bench.run(a, b, GAP_TIMEOUT + 400)
    bench.check_counters()
    assert [(gap.first_sequence, gap.count) for gap in bench.golden.gaps] == [(first + 30, 3)]


@cocotb.test(skip=not DATA)
async def real_day_of_one_symbol_is_the_book_of_a_third_party(dut):
    folder = Path(DATA) / "itch50"
    raw = (folder / "aapl_20200130_first4000.itch50").read_bytes()
    messages, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        messages.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    bench = Bench(dut, [13])
    await bench.start()
    wanted, a, b = bench.golden, Line(), Line()
    for number, held in packets(messages, random.Random(SEED)):
        # Far apart, as most of a day is: a refill has its time.
        at = a.at + 40 * len(held) * WIDTH
        for line in (a, b):
            line.send(frame(packet(number, held)), at)
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    with (folder / "aapl_20200130_first4000_bbo.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 917 == bench.changes, (len(rows), bench.changes)
    assert wanted.message_count == 4_000


@cocotb.test(skip=not DATA)
async def real_open_of_all_symbols_is_flagged_as_the_golden_feed_does(dut):
    raw = (Path(DATA) / "itch50" / "open_20191230_1000.itch50").read_bytes()
    messages, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        messages.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    most = Counter(m[1:3] for m in messages).most_common(SYMBOL_COUNT)
    bench = Bench(dut, [int.from_bytes(locate, "big") for locate, _ in most])
    await bench.start()
    a, b = both(*(frame(packet(n, h)) for n, h in packets(messages, random.Random(SEED))))
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    assert StaleReason.UNKNOWN_REFERENCE in bench.golden.stale()


def captured(folder):
    """The frames of each capture in a folder of real data."""
    for path in sorted((Path(DATA) / "pcap" / folder).glob("*.pcap")):
        with path.open("rb") as file:
            yield [data for _, data in dpkt.pcap.Reader(file)]


def most_named(messages):
    """The locates that most messages have, as many as there are symbols."""
    locates = Counter(int.from_bytes(m[1:3], "big") for m in messages)
    return [locate for locate, _ in locates.most_common(SYMBOL_COUNT)]


@cocotb.test(skip=not DATA)
async def captured_frames_are_what_the_golden_feed_makes_of_them(dut):
    """Whole frames of a real exchange, headers and all, on both lines."""
    Clock(dut.clk, 10, unit="ns").start()
    events, delivered = 0, 0
    for frames in captured("itch50"):
        packets_in = [parse_frame(data) for data in frames]
        messages = [m for found in packets_in for m in parse_packet(found.payload).messages]
        first = packets_in[0]
        group = first.destination_ip, first.destination_port
        bench = Bench(dut, most_named(messages), first.payload[:10], group)
        await bench.reset(int.from_bytes(first.payload[10:18], "big"))
        await bench.run(*both(*frames), GAP_TIMEOUT + 400)
        bench.check_counters()
        assert bench.golden.message_count == len(messages)
        events, delivered = events + bench.exact, delivered + len(messages)
    print(f"{events} events of {delivered} captured messages equal")
    assert events >= 4
    assert delivered >= 46


@cocotb.test(skip=not DATA)
async def captured_messages_are_what_the_golden_feed_makes_of_them(dut):
    """Captures whose headers were blanked: the messages go into packets of this bench."""
    packets_in = []
    for data in itertools.chain.from_iterable(captured("itch50_20230822")):
        blocks = data[18 + 20 + 8 + HEADER.size :]  # behind a VLAN tag
        found = parse_packet(packet(1, count=1) + blocks)
        packets_in.append(found.messages)
    messages = [message for found in packets_in for message in found]
    bench = Bench(dut, most_named(messages))
    await bench.start()
    numbers = itertools.accumulate(map(len, packets_in), initial=1)
    frames = [frame(packet(n, held)) for n, held in zip(numbers, packets_in, strict=False)]
    await bench.run(*both(*frames))
    bench.check_counters()
    kinds = "".join(sorted({chr(message[0]) for message in messages}))
    print(f"{len(messages)} captured messages of types {kinds}")
    assert kinds == "ACDEFHIJLPQSUXY"
    assert bench.golden.message_count == len(messages)


@cocotb.test(skip=WIDTH == 1)
async def frames_of_a_third_party_source_bring_the_same_events(dut):
    """cocotbext-eth drives the pins, with its own preamble, check sequence and gaps."""
    bench = Bench(dut)
    await bench.start()
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    source = XgmiiSource(*bench.pins[0], dut.clk)
    for sequence, held in packets([flow.message() for _ in range(400)], random.Random(SEED)):
        data = frame(packet(sequence, held))
        await source.send(XgmiiFrame.from_payload(data))
        bench.golden.frame(0, data, 0)
    expected, bench.golden.expected = bench.golden.expected, []
    for wanted in expected:
        while not int(dut.o_valid.value):
            await FallingEdge(dut.clk)
            bench.cycle += 1
            assert bench.cycle < 20_000, f"no event came of {wanted}"
        bench.check(wanted, unpack(int(dut.o_payload.value), EVENT_FIELDS))
        await FallingEdge(dut.clk)
    bench.check_counters()
    assert bench.exact == len(expected) > 200


@cocotb.test()
async def each_stage_takes_its_cycles(dut):
    """Follow the last byte of a message through the stages, in the middle of its frame."""
    bench = Bench(dut)
    await bench.start()
    a = Line()
    flow = numbered(itch50.ORDER_DELETE, 3, 1, lambda i: LOCATES[0])
    data = frame(packet(1, flow))
    a.send(data)
    columns, ((column, lane),) = (gmii if WIDTH == 1 else xgmii)(a.frames)
    ends = header_end(data) + BLOCK.size + len(flow[0])
    # Counted from the frame's first beat, and from the beat that completes the header.
    beat, first = ((lane + place) // WIDTH for place in (ends, header_end(data)))
    seen = {name: [] for name in ("pins", *PROBES, "book")}
    for cycle in range(len(columns) + 60):
        bench.show(0, columns[cycle] if cycle < len(columns) else IDLE)
        dut.time.value = cycle
        if cycle >= column:
            seen["pins"].append(cycle - 1)  # What a register takes from them is seen in this one.
        await FallingEdge(dut.clk)
        probes = int(dut.probes.value)
        for number, name in enumerate(PROBES):
            if probes >> number & 1:
                seen[name].append(cycle)
        if int(dut.o_valid.value):
            seen["book"].append(cycle)
    place = {"pins": beat, "mac": beat, "line": beat - first, "arbiter": beat - first}
    when = {name: cycles[place.get(name, 0)] for name, cycles in seen.items()}
    names = list(seen)
    taken = {b: when[b] - when[a] for a, b in itertools.pairwise(names)}
    print(f"width {WIDTH}, cycles of each stage: {taken}")
    taken["tick_to_event"] = when["book"] - when["mac"]
    taken["pins_to_event"] = when["book"] - when["pins"]
    if file := os.environ.get("STAGES"):
        Path(file).write_text(json.dumps(taken))
    wanted = {"mac": 6 if WIDTH == 1 else 2, "line": 1, "arbiter": 1, "collect": 1, "decode": 1}
    if CUT_THROUGH:
        assert taken.items() >= {**wanted, "book": 6, "tick_to_event": TICK_TO_EVENT}.items()
    else:
        # What waits for the end of the frame waits in the arbiter.
        assert taken.items() >= {**wanted, "book": 6, "arbiter": taken["arbiter"]}.items()
