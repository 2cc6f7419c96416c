"""cocotb bench of the parse stage, run by ``test_parse.py``.

One loop drives a beat and looks at all outputs at each falling edge, so that every message,
operation and packet end is checked together with the cycle it comes in.
"""

import os
import random
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.layouts import (
    HINT,
    MESSAGE,
    MESSAGE_SIZE_MAX,
    NOTICE,
    OPERATION,
    PACKET,
    PACKET_END,
    NoticeKind,
    OperationKind,
    beat,
)
from sim.golden import parse as golden
from sim.golden.moldudp64 import parse_packet

WIDTH = int(os.environ["WIDTH"])
SEED = int(os.environ["SEED"])
MESSAGES = int(os.environ["MESSAGES"])
REAL = os.environ["REAL"]

COLLECT_CYCLES = 1
DECODE_CYCLES = 1
NOTICE_CYCLES = 1
END_CYCLES = 4

LENGTHS = {
    **{"S": 12, "R": 39, "H": 25, "Y": 20, "L": 26, "V": 35, "W": 12, "K": 28, "J": 35, "h": 21},
    **{"A": 36, "F": 40, "E": 31, "C": 36, "X": 23, "D": 19, "U": 35, "P": 44, "Q": 40, "B": 19},
    **{"I": 50, "N": 20, "O": 48},
}
LANES = range(WIDTH)
STARTS = range(WIDTH + 1)
"""Lanes that a packet can begin at; at the last it has a first beat without a byte."""
ORDER_MESSAGES = "AFECXDU"
COVERAGE = {
    "type_at_lane": {(kind, lane) for kind in LENGTHS for lane in LANES},
    "short_at_lane": {(length, lane) for length in range(12) for lane in LANES},
    "long_at_lane": set(LANES),
    "unknown_type_at_lane": set(LANES),
    "wrong_length_of_type": set(LENGTHS),
    "truncation_at_lane": {(why, lane) for why in ("length", "message") for lane in LANES},
    "first_lane": set(STARTS),
    "last_lane": set(LANES),
    "skip": {"none", "some", "all", "more"},
    "skipped_at_lane": {(what, lane) for what in ("short", "message") for lane in LANES},
    # Skipped blocks that begin in the beat in which the first message that is not skipped begins.
    "skipped_in_beat_of_message": set(range((WIDTH + 1) // 2)),
    "hint_of": set(ORDER_MESSAGES),
    "notice": {(kind, where) for kind in NoticeKind for where in ("alone", "first beat")},
    "empty_last_beat": {False, True},
    "trailing_bytes": {False, True},
    "packet_after": {"packet", "pause"},
}
covered = {name: Counter() for name in COVERAGE}


def fields(layout):
    return {name: (field.offset, (1 << field.width) - 1) for name, field in layout}


def unpack(layout_fields, word):
    return {name: word >> offset & mask for name, (offset, mask) in layout_fields.items()}


def pack(layout_fields, values):
    return sum((value & layout_fields[name][1]) << layout_fields[name][0] for name, value in values)


BEAT, MESSAGE_FIELDS = fields(beat(WIDTH)), fields(MESSAGE)
OPERATION_FIELDS, END_FIELDS = fields(OPERATION), fields(PACKET_END)
PACKET_FIELDS, NOTICE_FIELDS, HINT_FIELDS = fields(PACKET), fields(NOTICE), fields(HINT)
# Inputs in the order of the port: valid, beat, packet, time, notice valid, notice.
PACKET_AT = 1 + beat(WIDTH).size
TIME_AT = PACKET_AT + PACKET.size
NOTICE_AT = TIME_AT + 64
NUMBERS = 1 << 64

KINDS = {
    golden.AddOrder: OperationKind.ADD,
    golden.AddOrderMpid: OperationKind.ADD,
    golden.OrderExecuted: OperationKind.EXECUTE,
    golden.OrderExecutedWithPrice: OperationKind.EXECUTE_WITH_PRICE,
    golden.OrderCancel: OperationKind.CANCEL,
    golden.OrderDelete: OperationKind.DELETE,
    golden.OrderReplace: OperationKind.REPLACE,
    golden.Trade: OperationKind.TRADE,
    golden.CrossTrade: OperationKind.CROSS,
    golden.SystemEvent: OperationKind.SYSTEM,
    golden.StockDirectory: OperationKind.DIRECTORY,
    golden.StockTradingAction: OperationKind.TRADING_ACTION,
    golden.OperationalHalt: OperationKind.OPERATIONAL_HALT,
    golden.RegShoRestriction: OperationKind.REG_SHO,
}


NOTICE_KINDS = {
    NoticeKind.CONFIRM: OperationKind.CONFIRM,
    NoticeKind.RETRACT: OperationKind.RETRACT,
    NoticeKind.GAP: OperationKind.GAP,
}


def hint_of(data):
    """What the golden parser says of a message about an order, as the fields of a hint."""
    message = golden.parse(data)
    replaces = isinstance(message, golden.OrderReplace)
    name = "original_order_reference_number" if replaces else "order_reference_number"
    hint = {"stock_locate": message.stock_locate, "order_reference": getattr(message, name)}
    return hint | ({"new_reference": message.new_order_reference_number} if replaces else {})


def operation_of(data):
    """What the golden parser says of a message, as the fields of an operation."""
    found = dict.fromkeys(OPERATION_FIELDS, 0)
    try:
        message = golden.parse(data)
    except golden.ParseError:
        return found | {"kind": OperationKind.UNKNOWN.value}

    def first(*names):
        return next((getattr(message, name) for name in names if hasattr(message, name)), 0)

    found["kind"] = KINDS.get(type(message), OperationKind.NONE).value
    found["stock_locate"], found["timestamp"] = message.stock_locate, message.timestamp
    found["order_reference"] = first("order_reference_number", "original_order_reference_number")
    found["new_reference"] = first("new_order_reference_number")
    found["match_number"] = first("match_number")
    shares = first("shares", "executed_shares", "canceled_shares", "cross_shares")
    found["shares"] = min(shares, (1 << 32) - 1)
    found["price"] = first("price", "execution_price", "cross_price")
    stock = first("stock")
    found["stock"] = int.from_bytes(stock.ljust(8).encode("latin-1"), "little") if stock else 0
    if stock == "":
        found["stock"] = int.from_bytes(b" " * 8, "little")
    side = first("buy_sell_indicator")
    found["is_buy"], found["bad_side"] = int(side == "B"), int(side not in ("B", "S", 0))
    found["printable"] = int(first("printable") == "Y")
    codes = ("event_code", "trading_state", "operational_halt_action", "reg_sho_action")
    found["code"] = ord(first(*codes) or "\0")
    found["market_code"] = ord(first("market_code") or "\0")
    return found


@dataclass
class Packet:
    """The message blocks of a packet, and how they are laid on the lanes."""

    region: bytes
    message_count: int
    sequence: int = 1
    skip: int = 0
    start: int = 0
    empty_beats: int = 0

    @property
    def header(self):
        numbers = {name: getattr(self, name) for name in ("sequence", "message_count", "skip")}
        return numbers | {"age": self.sequence}  # The parser has no use for it.


def packet_of(messages, **more):
    region = b"".join(len(m).to_bytes(2, "big") + m for m in messages)
    return Packet(region, len(messages), **more)


class Bench:
    """The loop, and what it expects: a queue an output, each entry with its cycle."""

    def __init__(self, dut):
        self.dut = dut
        self.tick = 0
        self.messages, self.operations, self.ends = deque(), deque(), deque()
        self.hints = deque()
        self.end_tick = 0
        self.shorts_expected = self.shorts_seen = 0
        self.seen = 0
        self.between = "pause"

    async def reset(self):
        Clock(self.dut.clk, 10, unit="ns").start()
        self.dut.stimulus.value = 0
        self.dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0

    async def cycle(self, word):
        """Drive one beat or none, let the clock rise, and look."""
        self.dut.stimulus.value = word
        await FallingEdge(self.dut.clk)
        self.tick += 1
        flags = int(self.dut.flags.value)
        if flags:
            self.look(flags)

    async def idle(self, cycles):
        for _ in range(cycles):
            await self.cycle(0)

    def look(self, flags):
        dut = self.dut
        if flags & 1:
            self.compare("message", self.messages, MESSAGE_FIELDS, int(dut.message.value))
        if flags & 2:
            self.compare("operation", self.operations, OPERATION_FIELDS, int(dut.operation.value))
            self.seen += 1
        if flags & 4:
            self.compare("end", self.ends, END_FIELDS, int(dut.end.value))
        if flags & 8:
            self.compare("hint", self.hints, HINT_FIELDS, int(dut.hint.value))
        self.shorts_seen += flags >> 4

    def compare(self, what, queue, layout_fields, word):
        got = unpack(layout_fields, word)
        assert queue, f"cycle {self.tick}: {what} that nobody sent: {got}"
        tick, want, cause = queue.popleft()
        if "data" in got:
            size = min(want["length"], MESSAGE_SIZE_MAX)
            got["data"] = got["data"].to_bytes(MESSAGE_SIZE_MAX, "little")[:size]
        got = {name: got[name] for name in want}
        if got != want or tick != self.tick:
            lines = [f"first difference: {what}, expected in cycle {tick}, seen in {self.tick}"]
            lines += [
                f"  {name}: expected {want[name]!r}, got {got[name]!r}"
                for name in want
                if want[name] != got[name]
            ]
            raise AssertionError("\n".join([*lines, f"  caused by {cause}"]))

    def notice(self, kind, tick):
        """Expect what becomes of a notice with random numbers, and return its word."""
        first, after = random.getrandbits(64), random.getrandbits(64)
        operation = dict.fromkeys(OPERATION_FIELDS, 0)
        operation |= {"kind": NOTICE_KINDS[kind].value, "sequence": first, "new_reference": after}
        self.operations.append((tick + NOTICE_CYCLES, operation, f"notice {kind}"))
        values = {"kind": kind.value, "sequence": first, "next_sequence": after}
        return (1 | pack(NOTICE_FIELDS, values.items()) << 1) << NOTICE_AT

    async def tell(self, kind):
        """Drive a notice alone, as early as may be."""
        await self.idle(self.end_tick - self.tick)
        covered["notice"][kind, "alone"] += 1
        await self.cycle(self.notice(kind, self.tick))

    async def send(self, packet, pauses=lambda: 0, notice=None):
        """Drive a packet, with as many idle cycles before each beat as ``pauses`` says.

        A notice goes with its first beat, once the packet before has ended.
        """
        if notice is not None:
            await self.idle(self.end_tick - self.tick)
        covered["packet_after"][self.between] += 1
        covered["first_lane"][packet.start] += 1
        covered["empty_last_beat"][packet.empty_beats > 0] += 1
        room = WIDTH - packet.start
        chunks = [packet.region[:room]]
        chunks += [packet.region[at : at + WIDTH] for at in range(room, len(packet.region), WIDTH)]
        chunks += [b""] * packet.empty_beats
        covered["last_lane"][(packet.start + len(packet.region) - 1) % WIDTH] += 1
        gaps = [pauses() for _ in chunks]
        self.between = "pause"
        ticks, tick = [], self.tick
        for gap in gaps:
            ticks.append(tick + gap)
            tick += gap + 1
        told = 0
        if notice is not None:
            covered["notice"][notice, "first beat"] += 1
            told = self.notice(notice, ticks[0])
        self.expect(packet, ticks)
        for index, (chunk, gap) in enumerate(zip(chunks, gaps, strict=True)):
            await self.idle(gap)
            start = packet.start if index == 0 else 0
            noise = random.getrandbits(8 * WIDTH).to_bytes(WIDTH, "little")
            lanes = (noise[:start] + chunk + noise)[:WIDTH]
            last = index == len(chunks) - 1
            values = {
                "data": int.from_bytes(lanes, "little"),
                "start": start,
                "count": len(chunk),
                "first": index == 0,
                "last": last,
                "bad": random.getrandbits(1),
            }
            header = pack(PACKET_FIELDS, packet.header.items())
            if index:
                header, told = random.getrandbits(PACKET.size), 0
            word = told | 1 | pack(BEAT, values.items()) << 1 | header << PACKET_AT
            await self.cycle(word | self.time(ticks[index]) << TIME_AT)
        self.between = "packet"

    @staticmethod
    def time(tick):
        return tick * 0x1_0000_0007 + 3

    def expect(self, packet, ticks):
        """Queue what the golden model makes of the packet."""
        wire = bytes(10) + packet.sequence.to_bytes(8, "big")
        wire += packet.message_count.to_bytes(2, "big") + packet.region
        found = parse_packet(wire)
        self.cover_skip(packet, found)
        at = packet.start
        for index, data in enumerate(found.messages):
            first, last = at + 2, at + 1 + len(data)
            at = last + 1
            if index < packet.skip:
                continue
            lane = first % WIDTH
            self.cover(data, lane)
            if len(data) < 12:
                self.shorts_expected += 1
                continue
            tick = ticks[last // WIDTH]
            place = {
                "sequence": (packet.sequence + index) % NUMBERS,
                "ts_first": self.time(ticks[first // WIDTH]),
                "ts_last": self.time(tick),
            }
            cause = f"message {data.hex()} at lane {lane}, number {index} of {packet}"
            message = {
                "data": data[:MESSAGE_SIZE_MAX],
                "length": min(len(data), MESSAGE_SIZE_MAX + 1),
            }
            tick += COLLECT_CYCLES
            operation = operation_of(data)
            hint = {}
            if chr(data[0]) in ORDER_MESSAGES and operation["kind"] != OperationKind.UNKNOWN.value:
                hint = hint_of(data)
                covered["hint_of"][chr(data[0])] += 1
            self.messages.append((tick, message | place, cause))
            self.hints.append((tick + DECODE_CYCLES - 1, hint, cause))
            self.operations.append((tick + DECODE_CYCLES, operation | place, cause))
        why = 0
        if found.truncation is not None:
            why = 1 if "no message length" in found.truncation.reason else 2
            lane = (packet.start + found.truncation.offset - 20) % WIDTH
            covered["truncation_at_lane"][("length", "message")[why - 1], lane] += 1
        covered["trailing_bytes"][found.trailing_bytes > 0] += 1
        next_sequence = (packet.sequence + len(found.messages)) % NUMBERS
        self.end_tick = ticks[-1] + END_CYCLES
        end = {"truncation": why, "next_sequence": next_sequence}
        self.ends.append((self.end_tick, end, str(packet)))

    def cover_skip(self, packet, found):
        """Count which blocks are skipped, and where the first message behind them begins."""
        whole = len(found.messages)
        skipped = min(packet.skip, whole)
        if whole:
            bins = {0: "none", whole: "all"} if packet.skip <= whole else {whole: "more"}
            covered["skip"][bins.get(skipped, "some")] += 1
        at, beats = packet.start, []
        for index, data in enumerate(found.messages):
            beats.append((at + 1) // WIDTH)  # where the last byte of the length is
            if index < skipped:
                what = "short" if len(data) < 12 else "message"
                covered["skipped_at_lane"][what, (at + 2) % WIDTH] += 1
            elif len(data) >= 12:
                covered["skipped_in_beat_of_message"][beats[:skipped].count(beats[-1])] += 1
                break
            at += 2 + len(data)

    def cover(self, data, lane):
        kind = chr(data[0]) if data else ""
        if len(data) < 12:
            covered["short_at_lane"][len(data), lane] += 1
        elif len(data) > MESSAGE_SIZE_MAX:
            covered["long_at_lane"][lane] += 1
        elif kind not in LENGTHS:
            covered["unknown_type_at_lane"][lane] += 1
        elif len(data) != LENGTHS[kind]:
            covered["wrong_length_of_type"][kind] += 1
        else:
            covered["type_at_lane"][kind, lane] += 1

    async def drain(self):
        """Let the last outputs come, and see that nothing is missing or left over."""
        await self.idle(8)
        for what in ("messages", "hints", "operations", "ends"):
            queue = getattr(self, what)
            assert not queue, f"{len(queue)} {what} never came, first: {queue[0]}"
        assert self.shorts_seen == self.shorts_expected


def message_of(kind, rng):
    """A message with random fields; sides and flags are mostly those of the specification."""
    body = bytearray(rng.randbytes(LENGTHS[kind]))
    body[0] = ord(kind)
    if kind in "AFP" and rng.random() < 0.9:
        body[19] = rng.choice(b"BS")
    if kind == "C" and rng.random() < 0.9:
        body[31] = rng.choice(b"YN")
    if kind == "Q" and rng.random() < 0.5:
        body[11:15] = bytes(4)
    return bytes(body)


def any_message(rng):
    """Mostly a message of ITCH, now and then one that is none."""
    chance = rng.random()
    if chance < 0.94:
        return message_of(rng.choice(list(LENGTHS)), rng)
    if chance < 0.96:
        return rng.randbytes(rng.randrange(12))
    if chance < 0.97:
        return rng.randbytes(rng.randrange(51, 300))
    wrong = bytearray(rng.randbytes(rng.randrange(12, 51)))
    if chance < 0.99:
        wrong[0] = ord(rng.choice(list(LENGTHS)))
    return bytes(wrong)


async def start(dut):
    random.seed(SEED)
    bench = Bench(dut)
    await bench.reset()
    return bench


@cocotb.test()
async def every_message_at_every_lane(dut):
    """Each message alone at each lane, then two of each type back to back from each lane."""
    bench, rng = await start(dut), random.Random(SEED)
    for kind in LENGTHS:
        for lane in STARTS:
            one, two = message_of(kind, rng), message_of(kind, rng)
            await bench.send(packet_of([one], start=lane))
            await bench.send(packet_of([one, two], start=lane, sequence=rng.getrandbits(64)))
    await bench.drain()
    assert {key for key, count in covered["type_at_lane"].items() if count} == {
        (kind, lane) for kind in LENGTHS for lane in LANES
    }


@cocotb.test()
async def deletes_at_full_rate_leave_no_bubble(dut):
    """69 Order Deletes, as many as a datagram holds, in as many cycles as they have beats."""
    bench, rng = await start(dut), random.Random(SEED)
    await bench.send(packet_of([message_of("S", rng)]))
    before, seen = bench.tick, bench.seen
    for _ in range(3):
        await bench.send(packet_of([message_of("D", rng) for _ in range(69)]))
    beats = -(-69 * 21 // WIDTH)
    assert bench.tick - before == 3 * beats
    await bench.idle(COLLECT_CYCLES + DECODE_CYCLES - 1)
    assert bench.seen - seen == 3 * 69 + 1
    await bench.drain()


@cocotb.test()
async def shortest_and_longest_packets(dut):
    """One message, a full Ethernet datagram, and the largest UDP datagram there is."""
    bench, rng = await start(dut), random.Random(SEED)
    for lane in STARTS:
        await bench.send(packet_of([message_of("S", rng)], start=lane))
        await bench.send(packet_of([message_of("W", rng)] * 103, start=lane))
        await bench.send(packet_of([message_of("I", rng)] * 27, start=lane))
    await bench.send(packet_of([message_of("S", rng) for _ in range(4677)], sequence=2**64 - 9))
    await bench.send(packet_of([message_of("I", rng) for _ in range(1259)], start=WIDTH - 1))
    await bench.drain()


@cocotb.test()
async def short_blocks_take_numbers_and_leave_no_message(dut):
    """Blocks of 0 to 11 bytes at each lane, in runs and between messages."""
    bench, rng = await start(dut), random.Random(SEED)
    for lane in STARTS:
        for length in range(12):
            short = rng.randbytes(length)
            await bench.send(packet_of([short], start=lane))
            message = message_of(rng.choice("SDAI"), rng)
            await bench.send(packet_of([short, message, short, message], start=lane))
        for run in (1, 2, 3, 4, 5, 7, 8, 9, 40):
            mixed = [rng.randbytes(rng.choice((0, 0, 1, 2, 3, 6, 7, 8))) for _ in range(run)]
            message = message_of("D", rng)
            await bench.send(packet_of([b""] * run, start=lane))
            await bench.send(packet_of([*mixed, message, *mixed, message], start=lane))
    for shorts in range(200):
        messages = [rng.randbytes(rng.choice((0, 1, 4, 11))) for _ in range(rng.randrange(1, 30))]
        messages.insert(shorts % len(messages), message_of("S", rng))
        await bench.send(packet_of(messages, start=rng.choice(STARTS)))
    await bench.drain()
    assert bench.shorts_seen > 1000


@cocotb.test()
async def long_blocks_are_passed_over_and_alignment_is_kept(dut):
    """Blocks of more bytes than any message leave as UNKNOWN, and the next one is whole."""
    bench, rng = await start(dut), random.Random(SEED)
    for lane in STARTS:
        for length in (51, 52, 53, 55, 63, 64, 65, 255, 256, 257, 511, 513, 1000):
            kind = rng.choice(list(LENGTHS))
            long = bytes([ord(kind)]) + rng.randbytes(length - 1)
            await bench.send(packet_of([long, message_of("D", rng)], start=lane))
    await bench.send(packet_of([rng.randbytes(65_300), message_of("A", rng)]))
    await bench.drain()


@cocotb.test()
async def packet_cut_at_every_byte_is_truncated_with_its_reason(dut):
    """A packet of four blocks, one of them empty, cut behind each of its bytes at each lane."""
    bench, rng = await start(dut), random.Random(SEED)
    whole = [message_of("S", rng), b"", message_of("D", rng), message_of("X", rng)]
    region = packet_of(whole).region
    for lane in STARTS:
        for cut in range(len(region) + 1):
            packet = Packet(region[:cut], 4, start=lane, empty_beats=rng.choice((0, 0, 1, 2)))
            await bench.send(packet)
        await bench.send(Packet(b"\xff\xff" + region, 2, start=lane))
        await bench.send(Packet(b"\x00" * 7 + b"\xff", 9, start=lane))
    await bench.drain()


@cocotb.test()
async def only_as_many_blocks_as_the_header_counts(dut):
    """Bytes behind the last counted block are ignored, and an end of session has no block."""
    bench, rng = await start(dut), random.Random(SEED)
    for lane in STARTS:
        messages = [message_of(rng.choice("SDW"), rng) for _ in range(4)]
        for count in (0, 1, 2, 3, 4, 5, 0xFFFE, 0xFFFF):
            region = packet_of(messages).region
            await bench.send(Packet(region, count, start=lane))
            await bench.send(Packet(bytes(40), count, start=lane))
            await bench.send(Packet(bytes(5) + region, count, start=lane))
        await bench.send(packet_of([message_of("A", rng)], start=lane))
    await bench.drain()


@cocotb.test()
async def skipped_blocks_take_numbers_and_leave_no_message(dut):
    """Each number of blocks skipped, of a packet with short blocks in runs between messages."""
    bench, rng = await start(dut), random.Random(SEED)
    for lane in STARTS:
        for run in range(5):
            messages = [b""] * run
            messages += [message_of("S", rng), *[b""] * run, rng.randbytes(1)]
            messages += [message_of("A", rng), *[b""] * run, message_of("W", rng)]
            for skip in (*range(len(messages) + 2), 0x7FFF, 0xFFFF):
                sequence = rng.getrandbits(64)
                packet = packet_of(messages, sequence=sequence, skip=skip, start=lane)
                await bench.send(packet)
    for skip in (0, 1, 0xFFFF):
        for count in (0, 1, 2, 0xFFFF):
            await bench.send(Packet(packet_of([message_of("D", rng)] * 3).region, count, 7, skip))
    await bench.drain()


@cocotb.test()
async def notices_become_operations_between_those_of_packets(dut):
    """Each kind alone and with a first beat, after packets that end with a message or without."""
    bench, rng = await start(dut), random.Random(SEED)
    for kind in NoticeKind:
        for lane in STARTS:
            for messages in ([], [message_of("S", rng)], [message_of("A", rng), b""]):
                await bench.send(packet_of(messages, start=lane))
                await bench.tell(kind)
                await bench.tell(rng.choice(list(NoticeKind)))
                await bench.send(packet_of([message_of("S", rng)], start=lane), notice=kind)
    await bench.drain()


@cocotb.test()
async def reset_within_a_packet_forgets_it(dut):
    """After a reset in mid-message the next packet is read as if it were the first."""
    bench, rng = await start(dut), random.Random(SEED)
    for beats in range(1, 6):
        word = 1 | pack(BEAT, {"data": 0x3200, "count": WIDTH, "first": 1}.items()) << 1
        await bench.cycle(word | pack(PACKET_FIELDS, {"message_count": 3}.items()) << PACKET_AT)
        for _ in range(beats):
            values = {"data": rng.getrandbits(8 * WIDTH), "count": WIDTH}
            await bench.cycle(1 | pack(BEAT, values.items()) << 1)
        dut.rst.value = 1
        await bench.cycle(0)
        dut.rst.value = 0
        await bench.send(packet_of([message_of("A", rng), message_of("D", rng)]))
    await bench.drain()


@cocotb.test()
async def random_packets_with_random_pauses(dut):
    """Every kind of packet, with every kind of pause, skip and notice."""
    bench, rng = await start(dut), random.Random(SEED + 1)
    while bench.seen < MESSAGES // 10:
        messages = [any_message(rng) for _ in range(rng.randrange(1, 12))]
        packet = packet_of(messages, sequence=rng.getrandbits(64), start=rng.choice(STARTS))
        if rng.random() < 0.5:
            packet.skip = rng.choice((1, rng.randrange(len(messages) + 3), 0xFFFF))
        packet.empty_beats = rng.choice((0, 0, 0, 1, 3))
        if rng.random() < 0.2:
            packet.region = packet.region[: rng.randrange(len(packet.region) + 1)]
        if rng.random() < 0.1:
            packet.region += rng.randbytes(rng.randrange(20))
        if rng.random() < 0.1:
            packet.message_count = max(0, packet.message_count + rng.choice((-1, 1)))
        chance, most = rng.choice(((0.0, 0), (0.1, 3), (0.5, 1), (0.9, 5)))
        if rng.random() < 0.2:
            await bench.tell(rng.choice(list(NoticeKind)))
        notice = rng.choice(list(NoticeKind)) if rng.random() < 0.2 else None
        await bench.send(
            packet, lambda c=chance, n=most: rng.randint(1, n) if rng.random() < c else 0, notice
        )
    await bench.drain()


@cocotb.test()
async def random_messages_at_full_rate(dut):
    """Full datagrams back to back."""
    bench, rng = await start(dut), random.Random(SEED + 2)
    sequence = 1
    while bench.seen < MESSAGES:
        messages, room = [], rng.randrange(60, 1452)
        while room > 0:
            messages.append(any_message(rng))
            room -= 2 + len(messages[-1])
        await bench.send(packet_of(messages, sequence=sequence, start=rng.choice(STARTS)))
        sequence += len(messages)
    await bench.drain()


@cocotb.test(skip=not REAL)
async def real_messages(dut):
    """Messages of a real morning, in datagrams of random size."""
    bench, rng = await start(dut), random.Random(SEED + 3)
    data = Path(REAL).read_bytes()
    at, messages, kinds = 0, [], Counter()
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        if length:
            messages.append(data[at + 2 : at + 2 + length])
            kinds[chr(data[at + 2])] += 1
        at += 2 + length
    sent = 0
    while sent < len(messages):
        part = messages[sent : sent + rng.randrange(1, 50)]
        await bench.send(packet_of(part, sequence=sent + 1, start=rng.choice(STARTS)))
        sent += len(part)
    await bench.drain()
    print(f"real messages: {dict(kinds)}")
    assert bench.seen == len(messages) > 3000


@cocotb.test()
async def z_every_declared_case_was_seen(dut):
    """The coverage over all tests of this run."""
    missing = {}
    for name, bins in COVERAGE.items():
        hit = {key for key in bins if covered[name][key]}
        print(f"coverage of {name}: {len(hit)} of {len(bins)}")
        if hit != bins:
            missing[name] = sorted(bins - hit, key=str)
    assert not missing, f"never seen: {missing}"
