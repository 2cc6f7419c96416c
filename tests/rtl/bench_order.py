"""The order stage against the golden model: every frame, record and event, in its order.

One loop drives the inputs at each falling edge and looks at what will be taken at the next rising
one. The golden model is told when the stage takes a command or an answer; the gate is one that
decides by what it is asked, so that stage and model are told the same.
"""

import copy
import os
import random
import struct
import zlib
from collections import Counter, deque
from dataclasses import replace
from pathlib import Path
from typing import Any

import cocotb
import dpkt
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, Timer
from wire_beats import to_beats

from hw.rtl.layouts import beat
from hw.rtl.order.shapes import CONNECTION, SET_STOCK
from hw.rtl.risk import DECISION, EVENT, EventKind
from protocol.reasons import DenyReason
from sim.golden.order import Link, Order, OrderEntry
from sim.tb.order_venue import ACK, FAULTS, FIN, PSH, RST, Answers, segment

WIDTH = int(os.environ["WIDTH"])
SEED = int(os.environ["SEED"])
SESSIONS = int(os.environ["SESSIONS"])
CAPTURES = os.environ.get("CAPTURES", "")
SYMBOL_COUNT = int(os.environ["SYMBOL_COUNT"])
ORDER_COUNT = int(os.environ["ORDER_COUNT"])
GATE_LATENCY = 7
READY_AT = 11
"""Place in the flags of what tells that memories are swept."""
DRAIN_CHANCE = 0.01 if WIDTH == 8 else 0.002
"""How likely a host that is slow frees slots in a cycle."""
ROOM = 4096
"""Bytes of frames, and of payload, that can wait."""
STOCKS = {index: f"SYM{index}".encode().ljust(8) for index in range(SYMBOL_COUNT) if index != 3}
NEW, CANCEL, REPLACE, MASS_CANCEL, HEARTBEAT = 0x31, 0x32, 0x33, 0x34, 0x36
STARTS = (0, 4) if WIDTH == 8 else (0,)

COVERAGE = {
    # The byte of the stream modulo 8 with which the answer's packet begins.
    "answer_at": {(kind, at) for kind in "ACDEJU" for at in range(8)},
    "answer_split": set("ACDEJU"),
    "answers_in_segment": {0, 1, 2, 3},
    "fault": set(FAULTS),
    "segment": {"in order", "duplicate", "ahead", "empty", "wrap"},
    "end": {"rst", "fin", "fin with payload", "end of session", "stop"},
    "command": {
        (kind, reason)
        for kind, reasons in {
            NEW: (0, 2, 3, 7, 14),
            CANCEL: (0, 2, 13),
            MASS_CANCEL: (0, 2, 3),
            REPLACE: (0, 2, 3, 7, 13, 14),
        }.items()
        for reason in reasons
    },
    "waits": {"for a slot", "for the ring writer"},
    # What an answer does to a chain of orders: by its type, the place of its order in it, and
    # whether that ended.
    "chain": {
        *((kind, "replaced", ended) for kind in "CE" for ended in (False, True)),
        *((kind, "replacement", True) for kind in "CEJ"),
        *((kind, "replaced", True) for kind in "AJ"),
        *(("U", "replacement", ended) for ended in (False, True)),
        ("U", "of another", False),
    },
    "replaced_before": {0, 1},
    "sequence": {"wrap"},
    # Orders of one digit follow closely, below.
    "digits": set(range(2, 11)),
}
covered: dict[str, Counter[Any]] = {name: Counter() for name in COVERAGE}
appendages: Counter[str] = Counter()


def pack(layout: Any, values: dict[str, int]) -> int:
    return sum(
        (value & (1 << layout[name].width) - 1) << layout[name].offset
        for name, value in values.items()
    )


def unpack(layout: Any, bits: int) -> dict[str, int]:
    found = {}
    for name, item in layout:
        value = bits >> item.offset & (1 << item.width) - 1
        signed = getattr(item.shape, "signed", False)
        found[name] = value - (1 << item.width) if signed and value >> item.width - 1 else value
    return found


def gate(event: dict[str, Any]) -> DenyReason:
    """Decide by what is asked: a third of the orders is denied."""
    if not event["session"]:
        return DenyReason.SESSION_NOT_READY
    if event["symbol_index"] == 0xFFFF:
        return DenyReason.UNKNOWN_SYMBOL
    if not event["is_open"]:
        return DenyReason.UNKNOWN_ORDER
    if zlib.crc32(struct.pack("<II", event["qty"], event["price"])) % 4 == 0:
        return DenyReason.QUANTITY_EXCEEDS_MAXIMUM
    return DenyReason.NONE if event["slot"] else DenyReason.NO_RING_SLOT


def command(
    kind: int, number: int, sequence: int, symbol: int = 0, flags: int = 0, **own: int
) -> bytes:
    head = struct.pack("<BBHIQ", kind, flags, symbol, number, 12345)
    if kind == CANCEL:
        body = struct.pack("<I", own.get("qty", 0))
    else:
        body = struct.pack(
            "<BBHIII",
            own.get("side", ord("B")),
            own.get("life", ord("0")),
            own.get("trader", 1),
            own.get("qty", 100),
            own.get("price", 1_000_000),
            own.get("target", 0),
        )
    return (head + body).ljust(56, b"\0") + struct.pack("<Q", sequence)


class Bench:
    """Drives the stage cycle by cycle, and compares what comes with the golden model."""

    def __init__(self, dut: Any, seed: int):
        self.dut = dut
        self.chance = random.Random(seed)
        self.golden = OrderEntry(STOCKS, SYMBOL_COUNT, ORDER_COUNT, gate)
        self.cycle = 0
        self.beats: deque[tuple[int, bytes | None]] = deque()
        self.commands: deque[bytes] = deque()
        self.decisions: deque[tuple[int, int, int]] = deque()
        self.free = 10_000
        self.drains = False
        self.stalls = 0.0
        self.sends_ready = 1.0
        self.next_free = self.free
        self.drops, self.may_drop = 0, False
        self.backlog = 0
        """Bytes of frames that the stage has not read yet, at the most."""
        self.session = 0
        self.frame = b""
        self.frames = 0
        self.records = 0
        self.gap = 0
        self.times: dict[str, int] = {}
        """Cycle at which something happened last."""
        self.once: dict[str, int] = {}
        """Inputs for the next cycle alone."""
        self._driven: dict[str, int] = {}
        self._after: list[Any] = []
        self.answered: deque[tuple[int, str]] = deque()
        self.replaced: dict[int, int] = {}
        """Replacements in the chain of an order that came from one."""

    def drive(self, name: str, value: int) -> None:
        if self._driven.get(name) != value:
            self._driven[name] = value
            getattr(self.dut, name).value = value

    async def begin(self) -> None:
        dut = self.dut
        for name in ("beat", "command", "start", "stock", "decision", "readies", "free", "now_ns"):
            self.drive(name, 0)
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.rst.value = 0
        await self.run(ORDER_COUNT + 4)
        assert int(dut.flags.value) >> READY_AT & 1
        for index, stock in STOCKS.items():
            text = stock if index % 2 else stock.rstrip().ljust(8, b"\0")
            values = {"symbol_index": index, "stock": int.from_bytes(text, "little")}
            self.once["stock"] = 1 | pack(SET_STOCK, values) << 1
            await self.step()

    async def start(self, link: Link) -> None:
        await self.offer(link)
        await self.run(4)
        assert self.session, "the connection is not used"

    async def offer(self, link: Link) -> None:
        values = {
            "local_mac": int.from_bytes(link.local_mac, "big"),
            "remote_mac": int.from_bytes(link.remote_mac, "big"),
            "firm": int.from_bytes(link.firm, "little"),
            **{
                name: getattr(link, name)
                for name in ("local_ip", "remote_ip", "local_port", "remote_port")
            },
            "sequence": link.sequence,
            "acknowledgment": link.acknowledgment,
        }
        self.once["start"] = 1 | pack(CONNECTION, values) << 1
        await self.step()

    def send(self, frame: bytes, bad: bool = False) -> None:
        """Let a frame come in; the golden model has it with its last beat."""
        self.backlog += len(frame)
        beats = to_beats(frame, WIDTH, self.chance.choice(STARTS), bad)
        for at, bits in enumerate(beats):
            self.beats.append((bits, frame if at == len(beats) - 1 and not bad else None))
        self.beats.extend([(-1, None)] * (3 if WIDTH == 8 else 24))

    async def run(self, cycles: int) -> None:
        for _ in range(cycles):
            await self.step()

    async def settle(self) -> None:
        """Wait until nothing is under way any more."""
        quiet, limit = 0, self.cycle + 60_000
        while quiet < 150:
            assert self.cycle < limit, f"something never comes: {self.golden}"
            before = self.records, self.frames
            await self.step()
            golden = self.golden
            busy = self.beats or self.commands or self.frame or golden.answers
            busy = busy or golden.acknowledgments or golden.payloads or golden.records
            quiet = 0 if busy or before != (self.records, self.frames) else quiet + 1
        assert not self.golden.events, f"the gate was not told: {self.golden.events[0]}"

    async def step(self) -> None:
        """Go on by a cycle."""
        dut, chance = self.dut, self.chance
        await FallingEdge(dut.clk)
        self.cycle += 1
        self.backlog -= self.backlog > 0
        now_ns = 34_200_000_000_000 + 8 * self.cycle
        if self.drains and self.next_free < 400 and chance.random() < DRAIN_CHANCE:
            self.next_free += chance.randrange(1, 4)
        self.free = self.next_free
        self.drive("free", self.free)
        self.drive("now_ns", now_ns)
        if "start" in self.once:
            self.times["start"] = self.cycle
        for name in ("start", "stock"):
            self.drive(name, self.once.pop(name, 0))

        frame = None
        if self.beats and (self.beats[0][0] < 0 or chance.random() >= self.stalls):
            bits, frame = self.beats.popleft()
            self.drive("beat", 1 | bits << 1 if bits >= 0 else 0)
        else:
            self.drive("beat", 0)
        offered = self.commands[0] if self.commands else None
        self.drive("command", 1 | int.from_bytes(offered, "little") << 1 if offered else 0)
        # As a MAC: within a frame every beat is taken, then there is a gap.
        readies = bool(self.frame) or (self.gap == 0 and chance.random() < self.sends_ready)
        self.gap -= self.gap > 0
        record_ready = chance.random() >= self.stalls
        stop = self.once.pop("stop", 0)
        self.drive("readies", readies | record_ready << 1 | stop << 2)
        decision = 0
        if self.decisions and self.decisions[0][0] == self.cycle:
            _, kind, reason = self.decisions.popleft()
            decision = 1 | pack(DECISION, {"kind": kind, "reason": reason}) << 1
            if kind == EventKind.ORDER.value:
                self.times["decision"] = self.cycle
        self.drive("decision", decision)

        await Timer(1, "ns")
        flags = int(dut.flags.value)
        (took, answered, _, _, drop_frame, drop_segment, session, ready, sends, tells, asks) = (
            flags >> at & 1 for at in range(11)
        )
        self.drops += drop_frame + drop_segment
        assert self.may_drop or not self.drops, "a segment had no room"
        if self.session and not session:
            started = self.times.get("start") == self.cycle - 1
            assert self.golden.closed or stop or started, "the session ended for no reason"
        self.session = session
        if took:
            assert offered is not None
            self.times["command"] = self.cycle
            reason = self.golden.command(offered, now_ns, bool(session), self.free)
            covered["command"][offered[0], int(reason)] += 1
            if offered[0] in (NEW, REPLACE) and not reason:
                covered["digits"][len(str(struct.unpack_from("<I", offered, 4)[0]))] += 1
        if offered is not None and ready:
            self.commands.popleft()
        if answered:
            assert self.golden.answers, "an answer that never came"
            before = copy.deepcopy(self.golden.orders)
            data = self.golden.answers[0]
            kind = self.golden.answer(now_ns)
            self.chained(kind or data[:1].decode("latin-1"), data, before)
            at, how = self.answered.popleft() if self.answered else (0, "")
            if kind:
                covered["answer_at"][kind, at % 8] += 1
                if how == "split":
                    covered["answer_split"][kind] += 1
        if self.golden.answers and not self.free:
            covered["waits"]["for a slot"] += 1
        if asks:
            self.asked(unpack(EVENT, int(dut.event.value)))
        if tells and not record_ready:
            covered["waits"]["for the ring writer"] += 1
        if tells and record_ready:
            assert self.free, "a record without a slot"
            self.next_free -= 1
            self.told(int(dut.told.value))
        if sends and readies:
            self.sent(unpack(beat(WIDTH), int(dut.sent.value)))
        elif self.frame:
            raise AssertionError("a bubble in a frame")
        if sends and not self.frame:
            self.times.setdefault("offered", self.cycle)
        if frame is not None:
            self.times["frame"] = self.cycle
            self.golden.segment(frame)

    def chained(self, kind: str, data: bytes, before: dict[int, Order]) -> None:
        """Count what an answer does to an order and what replaces it, or is replaced by it."""
        if len(data) < 17:
            return
        number = struct.unpack_from(">I", data, 13 if kind == "U" else 9)[0]
        if number not in before:
            return
        order, after = before[number], self.golden.orders
        place = "replacement" if order.original is not None else ""
        place = "replaced" if order.replacement is not None else place
        if kind == "U" and order == after.get(number):
            place = "of another"
        # Self-match prevention cancels as well.
        covered["chain"]["C" if kind == "D" else kind, place, number not in after] += 1
        if kind == "U" and place == "replacement":
            times = self.replaced.get(struct.unpack_from(">I", data, 9)[0], 0)
            covered["replaced_before"][min(times, 1)] += 1
            self.replaced[number] = times + 1

    def asked(self, event: dict[str, int]) -> None:
        self.times["event"] = self.cycle
        assert self.golden.events, f"the gate was told of nothing: {event}"
        wanted = self.golden.events.popleft()
        kind = EventKind[str(wanted.pop("kind")).upper()]
        got = {name: event[name] for name in wanted}
        if "qty" in wanted:
            wanted["qty"] = int(wanted["qty"]) % 2**32
        assert event["kind"] == kind.value, f"{kind.name}: {event}"
        assert got == wanted, f"{kind.name}: got {got}, wanted {wanted}"
        reason = int(gate(event)) if kind is EventKind.ORDER else 0
        self.decisions.append((self.cycle + GATE_LATENCY, kind.value, reason))

    def told(self, record: int) -> None:
        self.records += 1
        self.times["record"] = self.cycle
        assert self.golden.records, f"a record of nothing: {record.to_bytes(64, 'little').hex()}"
        wanted = self.golden.records.popleft().ljust(64, b"\0")
        got = record.to_bytes(64, "little")
        assert got == wanted, f"record: got {got.hex()}, wanted {wanted.hex()}"

    def sent(self, values: dict[str, int]) -> None:
        assert values["start"] == values["bad"] == 0
        assert values["first"] == (not self.frame)
        if not self.frame:
            self.times["beat"] = self.cycle
        data = values["data"].to_bytes(WIDTH, "little")
        self.frame += data[: values["count"]]
        if not values["last"]:
            assert values["count"] == WIDTH
            return
        frame, self.frame = self.frame, b""
        self.frames += 1
        self.gap = 3 if WIDTH == 8 else 24
        golden = self.golden
        payload = None
        if len(frame) > 54:
            assert golden.payloads, f"a message of nothing: {frame.hex()}"
            payload = golden.payloads.popleft()
        else:
            assert golden.acknowledgments, f"an acknowledgment of nothing: {frame.hex()}"
        before = golden.sequence
        wanted = golden.frame(payload)
        covered["sequence"]["wrap" if golden.sequence < before else "on"] += 1
        assert frame == wanted, f"frame: got {frame.hex()}, wanted {wanted.hex()}"
        self.last_frame = frame


def new_link(chance: random.Random) -> Link:
    near_end = 2**32 - chance.randrange(1, 600)
    return Link(
        *(chance.randbytes(6), chance.randbytes(6), chance.getrandbits(32), chance.getrandbits(32)),
        *(chance.getrandbits(16), chance.getrandbits(16)),
        *(chance.choice([near_end, chance.getrandbits(32)]) for _ in range(2)),
        chance.choice([b"FIRM", b"AB  ", b"AB\0\0"]),
    )


class Day:
    """Random legal sessions."""

    def __init__(self, bench: Bench):
        self.bench, self.chance, self.golden = bench, bench.chance, bench.golden
        self.answers = Answers(bench.chance, lambda what: appendages.update([what]))
        self.number = 0
        self.sequence = 0
        self.stream = b""
        """Bytes of the venue that are not received yet, the first one being the next expected."""
        self.at = 0
        """Place in the whole stream of the byte after them."""

    def command(self) -> bytes:
        chance = self.chance
        self.sequence += 1
        kind = chance.choices((NEW, CANCEL, MASS_CANCEL, REPLACE, HEARTBEAT), (12, 4, 1, 8, 1))[0]
        self.number += chance.choice([1, 1, 1, 2, 9])
        number = self.number
        if kind == CANCEL and self.golden.orders and chance.random() < 0.8:
            number = chance.choice(list(self.golden.orders))
        symbol = chance.choice([0, 1, 2, 3, 4, 5, 6, 7, 7, 8, 0xFFFF])
        return command(
            kind,
            number,
            self.sequence,
            symbol,
            int(kind == MASS_CANCEL and chance.random() < 0.3),
            side=ord(chance.choice("BSTE")),
            life=ord(chance.choice("0356E")),
            trader=chance.choice([0, 1, 15, 1023, 1024, 0xFFFF]),
            qty=chance.choice([1, 100, 400, 999_999]),
            price=chance.choice([1, 10_000, chance.randrange(1, 2**31), 0x7735939C]),
            target=self.target(number) if kind == REPLACE else 0,
        )

    def target(self, number: int) -> int:
        """Return an order to be replaced: mostly one that can be."""
        chance, orders = self.chance, self.golden.orders
        if not orders or chance.random() < 0.1:
            return number - chance.choice([0, 1, ORDER_COUNT, 2**31]) & 2**32 - 1
        again = [order for order in orders if self.bench.replaced.get(order)]
        return chance.choice(again if again and chance.random() < 0.5 else list(orders))

    def more_answers(self, packets: int) -> None:
        for _ in range(packets):
            packet = self.answers.packet(self.golden.orders)
            if packet[2:3] == b"S":
                # Places are counted from the beginning of the day's stream.
                self.bench.answered.append((self.at, ""))
                self.starts.append((self.at, self.at + len(packet), len(self.bench.answered)))
            self.stream += packet
            self.at += len(packet)

    def next_segment(self, link: Link) -> None:
        """Send what comes next in the stream, or something else."""
        chance, golden, bench = self.chance, self.golden, self.bench
        size = chance.choice([0, 1, 2, 3, chance.randrange(1, 80), chance.randrange(1, 300), 300])
        payload = self.stream[:size]
        expected = golden.expected
        kind = chance.random()
        if kind < 0.25:
            fault = chance.choice(FAULTS)
            covered["fault"][fault] += 1
            frame = segment(
                link, expected, payload, ACK | PSH, "" if fault == "fcs" else fault, chance
            )
            bench.send(frame, fault == "fcs")
            return
        if kind < 0.33:
            covered["segment"]["duplicate"] += 1
            bench.send(segment(link, expected - 9, chance.randbytes(9), ACK, chance=chance))
            return
        if kind < 0.41:
            covered["segment"]["ahead"] += 1
            bench.send(segment(link, expected + 5, chance.randbytes(20), ACK, chance=chance))
            return
        covered["segment"]["in order" if payload else "empty"] += 1
        covered["segment"]["wrap" if expected + len(payload) >= 2**32 else "on"] += 1
        self.take(len(payload))
        bench.send(segment(link, expected, payload, ACK | PSH, chance=chance))

    def take(self, size: int) -> None:
        """Count how answers lie in segments."""
        begin = self.at - len(self.stream)
        inside = [item for item in self.starts if begin <= item[0] and item[1] <= begin + size]
        covered["answers_in_segment"][min(len(inside), 3)] += 1
        for item in self.starts:
            if item[0] < begin + size < item[1]:
                self.cut.add(item[0])
        self.starts = [item for item in self.starts if item[1] > begin + size]
        bench = self.bench
        bench.answered = deque(
            (at, "split" if at in self.cut else how) for at, how in bench.answered
        )
        self.stream = self.stream[size:]

    async def session(self) -> None:
        chance, bench, golden = self.chance, self.bench, self.golden
        link = new_link(chance)
        golden.start(link)
        self.stream, self.starts, self.cut = b"", [], set()
        bench.answered.clear()
        self.at = chance.randrange(8)
        bench.stalls = chance.choice([0.0, 0.0, 0.3])
        bench.sends_ready = chance.choice([1.0, 0.2])
        bench.drains = chance.random() < 0.4
        bench.next_free = 10_000
        if bench.drains:
            bench.next_free = chance.randrange(4, 40)
        await bench.start(link)
        for _ in range(chance.randrange(20, 60)):
            for _ in range(chance.choice([0, 1, 1, 3])):
                bench.commands.append(self.command())
            if len(self.stream) < 600:
                self.more_answers(chance.choice([0, 1, 1, 4]))
            waiting = sum(map(len, golden.answers)) + bench.backlog
            if waiting < ROOM // 2 and len(golden.acknowledgments) < 8 and not bench.beats:
                self.next_segment(link)
            # The next segment is made of what the stage has received by then.
            await bench.run(chance.choice([1, 20, 150]))
            while bench.beats:
                await bench.step()
        await self.end(link)
        bench.drains = False
        bench.next_free = 10_000
        for _ in range(2):
            bench.commands.append(self.command())
        bench.send(segment(link, golden.expected, b"late", ACK, chance=chance))
        await bench.settle()
        assert not bench.session, "the session goes on"

    async def end(self, link: Link) -> None:
        chance, bench, golden = self.chance, self.bench, self.golden
        how = chance.choice(["rst", "fin", "fin with payload", "end of session", "stop"])
        covered["end"][how] += 1
        if how == "stop":
            await bench.settle()
            bench.once["stop"] = 1
            golden.closed = True
            await bench.run(2)
        elif how == "rst":
            bench.send(segment(link, chance.getrandbits(32), b"", RST, chance=chance))
        elif how == "fin":
            bench.send(segment(link, golden.expected, b"", FIN | ACK, chance=chance))
        else:
            flags = ACK
            if how == "fin with payload":
                flags |= FIN
            else:
                self.stream += b"\0\x01Z"
                self.at += 3
            payload = self.stream
            expected = golden.expected
            self.take(len(payload))
            bench.send(segment(link, expected, payload, flags, chance=chance))
        limit = bench.cycle + 40_000
        while bench.session:
            assert bench.cycle < limit, f"the session does not end: {how}"
            bench.next_free = max(bench.next_free, 50)
            await bench.step()


@cocotb.test()
async def random_sessions(dut: Any) -> None:
    print(f"seed {SEED}")
    bench = Bench(dut, SEED)
    await bench.begin()
    day = Day(bench)
    for count in range(SESSIONS):
        day.number = max(day.number, 10 ** (10 * count // SESSIONS) - 1)
        await day.session()
    print(f"{bench.cycle} cycles, {bench.frames} frames, {bench.records} records")
    for name, wanted in COVERAGE.items():
        print(f"{name}: {len(wanted & covered[name].keys())} of {len(wanted)}")
    print(f"appendages: {dict(appendages)}")
    missing = {
        name: sorted(wanted - covered[name].keys(), key=str)
        for name, wanted in COVERAGE.items()
        if wanted - covered[name].keys()
    }
    assert not missing, f"not covered: {missing}"


async def quiet(dut: Any, seed: int = 1) -> tuple[Bench, Link]:
    """Return a bench with a session, and nothing that stalls."""
    bench = Bench(dut, seed)
    await bench.begin()
    link = new_link(bench.chance)
    bench.golden.start(link)
    await bench.start(link)
    return bench, link


def passing(number: int, sequence: int, kind: int = NEW, target: int = 0) -> bytes:
    """Return an order that the gate lets pass."""
    for price in range(1_000_000, 1_001_000, 100):
        if zlib.crc32(struct.pack("<II", 100, price)) % 4:
            return command(kind, number, sequence, 0, price=price, target=target)
    raise AssertionError("the gate is closed")


@cocotb.test()
async def latencies(dut: Any) -> None:
    """Cycles of a stage that has nothing else to do."""
    bench, link = await quiet(dut)
    found = {}
    bench.commands.append(passing(4_294_967_295, 1))
    await bench.settle()
    times = bench.times
    found["new"] = times["event"] - times["command"], times["beat"] - times["decision"]
    bench.commands.append(passing(4_294_967_294, 2, REPLACE, 4_294_967_295))
    await bench.settle()
    found["replace"] = times["event"] - times["command"], times["beat"] - times["decision"]
    bench.commands.append(command(CANCEL, 4_294_967_295, 3))
    await bench.settle()
    found["cancel"] = (times["beat"] - times["command"],)

    async def answered(data: bytes) -> tuple[int, int]:
        """Return the cycles to the acknowledgment of an answer, and to its record."""
        payload = struct.pack(">HB", 1 + len(data), ord("S")) + data
        frame = segment(link, bench.golden.expected, payload, ACK, chance=random.Random(5))
        bench.send(frame)
        await bench.settle()
        read = times["frame"] + len(frame)
        return times["beat"] - read, times["record"] - read - len(payload)

    executed = struct.pack(">QIIQ", 5, 4_294_967_295, 40, 7) + b"A" + bytes(8) + b"\0\0"
    found["executed"] = await answered(b"E" + executed)
    replaced = struct.pack(">QIIBIQQ", 6, 4_294_967_295, 4_294_967_294, ord("B"), 60, 0, 9)
    found["replaced"] = await answered(b"U" + replaced.ljust(65, b"L") + b"\0\0")
    print(f"latencies: {found}")
    assert found == {
        "new": (2, 2),
        "replace": (4, 2),
        "cancel": (4,),
        "executed": (5, 16),
        "replaced": (5, 20),
    }


@cocotb.test()
async def commands_follow_closely(dut: Any) -> None:
    """Orders one after the other: a frame's beats are longer than what the engine takes."""
    bench, _ = await quiet(dut, 2)
    began = bench.cycle
    for number in range(1, 9):
        bench.commands.append(passing(number, number))
    await bench.settle()
    cycles = bench.times["beat"] - began
    print(f"8 orders: last frame begins after {cycles} cycles")
    # A frame of 104 bytes, the MAC's gap, and the cycle in which the next template is filled.
    assert cycles <= 12 + 7 * (104 // WIDTH + (3 if WIDTH == 8 else 24) + 2)


@cocotb.test()
async def segments_without_room_are_sent_again(dut: Any) -> None:
    """While the host frees no slot answers wait; what has no room is not acknowledged."""
    bench, link = await quiet(dut, 4)
    bench.may_drop = True
    for number in range(1, 9):
        bench.commands.append(passing(number, number))
    await bench.settle()
    bench.next_free = 0
    golden = bench.golden
    answers = Answers(bench.chance, lambda what: None)
    lost = 0
    for _ in range(40):
        payload = b""
        while len(payload) < 200:
            data = answers.message(golden.orders)
            payload += struct.pack(">H", 1 + len(data)) + b"S" + data
        kept = replace(golden, answers=golden.answers.copy(), acknowledgments=deque())
        bench.send(segment(link, golden.expected, payload, ACK))
        drops, frames = bench.drops, bench.frames
        await bench.run(700 if WIDTH == 8 else 1_600)
        if bench.drops > drops:  # As if it had never come.
            assert bench.frames == frames, "acknowledged without room"
            bench.golden = golden = kept
            lost += 1
    assert 0 < lost < 30
    assert len(golden.answers) > 50
    print(f"{len(golden.answers)} answers wait, {lost} segments had no room")
    bench.next_free = 10_000
    await bench.settle()
    assert not golden.answers
    bench.send(segment(link, golden.expected, b"\0\x01H", ACK))
    frames = bench.frames
    await bench.settle()
    assert bench.frames == frames + 1


@cocotb.test()
async def new_connection_waits_for_the_last_frame_of_the_old_one(dut: Any) -> None:
    bench, _ = await quiet(dut, 5)
    bench.commands.append(passing(1, 1))
    while not bench.times.get("decision"):
        await bench.step()
    link = new_link(bench.chance)
    await bench.offer(link)
    while bench.frames == 0:
        await bench.step()
    await bench.run(20)
    assert bench.session
    bench.golden.start(link)
    bench.commands.append(command(CANCEL, 1, 2))
    await bench.settle()
    assert bench.frames == 2
    assert bench.last_frame[:12] == link.remote_mac + link.local_mac


@cocotb.test()
async def frame_of_the_old_connection_is_not_taken_for_one_of_the_new(dut: Any) -> None:
    """The connection changes while the payload is read: its addresses were compared before."""
    bench, old = await quiet(dut, 6)
    bench.send(segment(old, bench.golden.expected, bytes(300), ACK, chance=bench.chance))
    while bench.beats:
        await bench.step()
    await bench.run(200)
    bench.golden.acknowledgments.clear()  # It ends after the old connection.
    link = new_link(bench.chance)
    bench.golden.start(link)
    await bench.start(link)
    await bench.settle()
    assert bench.frames == 0
    bench.send(segment(link, link.acknowledgment, b"\0\x01H", ACK))
    await bench.settle()
    assert bench.frames == 1


@cocotb.test()
async def captures_are_reproduced(dut: Any) -> None:
    """A real cancel has the bytes that the stage sends, and a real heartbeat is acknowledged."""
    if not CAPTURES:
        return
    bench, link = await quiet(dut, 3)
    folder = Path(CAPTURES) / "ouch50"

    def payload_of(name: str) -> bytes:
        with (folder / name).open("rb") as file:
            _, frame = next(iter(dpkt.pcap.Reader(file)))
        return bytes(dpkt.ethernet.Ethernet(frame).ip.tcp.data)

    cancel = payload_of("CancelOrderMessage.pcap")
    number = 7679601
    assert struct.unpack_from(">I", cancel, 4)[0] == number
    bench.commands.append(passing(number, 1))
    bench.commands.append(command(CANCEL, number, 2))
    await bench.settle()
    assert bench.last_frame[54:] == cancel
    frames, records = bench.frames, bench.records
    heartbeat = payload_of("ServerHeartbeatPacket.pcap")
    bench.send(segment(link, bench.golden.expected, heartbeat, ACK))
    await bench.settle()
    assert (bench.frames, bench.records) == (frames + 1, records)
