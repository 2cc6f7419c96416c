"""cocotb bench of the arbiter of lines A and B, run by ``test_wire_arbiter.py``.

Packets are laid on the cycles of both lines in advance, and given to the golden model in the order
of their first beats, or of their ends for a card that waits for them. One loop drives both lines,
answers for the parser, and looks at all outputs at each falling edge.
"""

import copy
import itertools
import os
import random
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.layouts import AGE, HEADER, NOTICE, PACKET, PACKET_END, NoticeKind, beat
from protocol.reasons import DropReason
from sim.golden import moldudp64 as golden

WIDTH = int(os.environ["WIDTH"])
SEED = int(os.environ["SEED"])
PACKETS = int(os.environ["PACKETS"])
CUT_THROUGH = os.environ["CUT_THROUGH"] == "1"
BUFFER_BEATS = int(os.environ["BUFFER_BEATS"])
ANSWER_CYCLES = int(os.environ["ANSWER_CYCLES"])

TICK_NS = 8
NOW = (1 << 33) - 40_000 * TICK_NS
"""Where time starts: the low bits of it wrap on the way."""
LAG_NS = 16
"""Age of a beat of line A when it comes; B's is one less, so that a time tells the line."""
NEXT_FIRST_CYCLES = 9 if WIDTH == 8 else 78
"""Least cycles from a packet's last beat to its line's next first: 79 bytes with a gap of 5."""
WIRE_BYTES = 4 + 12 + 8 + 62
"""Bytes on the wire between the last of a packet and the first of the next: check sequence, gap,
preamble and headers."""
RELEASE_CYCLES = 3 + ANSWER_CYCLES
TIMEOUT_NS = 12_000 if WIDTH == 8 else 80_000
TIMEOUT_CYCLES = TIMEOUT_NS // TICK_NS
SESSION = b"SESSION--A"
OTHER = b"SESSION--B"
ANNOUNCED = {0: "heartbeat", 0xFFFF: "end of session"}

STROBES = 0b11111
LINES = (0, 1)
COVERAGE = {
    "way": {
        (way, line)
        for way in (("direct", "stored") if CUT_THROUGH else ("stored",))
        for line in LINES
    },
    "drop": {
        (reason, line)
        for reason in ("MOLD_SESSION", "DUPLICATE", "TOO_LATE", "MOLD_TRUNCATED", "BUFFER_FULL")
        for line in LINES
    },
    "skip": {(skip, line) for skip in ("none", "some") for line in LINES},
    "notice": {"CONFIRM", "GAP"} | ({"RETRACT"} if CUT_THROUGH else set()),
    "confirmed": {"some", "none"},
    "event": {"end"},
    "bad": {
        (where, line)
        for where in (("delivered", "not delivered") if CUT_THROUGH else ("not delivered",))
        for line in LINES
    },
    "first beats in one cycle": {True},
    "packet": {"messages", "heartbeat", "end of session"},
    "start lane": set(range(WIDTH)),
    "first beat": {"empty", "bytes"},
    "last beat": {"empty", "bytes"},
    "beats": {"one", "more"},
}
covered = {name: Counter() for name in COVERAGE}


def fields(layout):
    return {name: (item.offset, (1 << item.width) - 1) for name, item in layout}


BEAT, HEAD, END = fields(beat(WIDTH)), fields(HEADER), fields(PACKET_END)
NOTICED, NUMBERS = fields(NOTICE), fields(PACKET)


def age_of(line, sequence):
    """Return an age that tells a packet from others, and its line."""
    return (2 * sequence + line) * 0x9E37 % (1 << AGE.width)


def pack(layout, **values):
    return sum((value & layout[name][1]) << layout[name][0] for name, value in values.items())


def unpack(layout, word):
    return {name: word >> offset & mask for name, (offset, mask) in layout.items()}


# Inputs in the order of the port: each line's valid, beat, header and verdict, the parser's answer,
# time, and what a start needs.
END_AT = 1 + beat(WIDTH).size + HEADER.size
LINE_BITS = END_AT + 2
ANSWER_AT = 2 * LINE_BITS
NOW_AT = ANSWER_AT + 1 + PACKET_END.size
START_AT = NOW_AT + 64


def number_of(session):
    return int.from_bytes(session, "little")


def blocks_of(messages):
    return b"".join(len(m).to_bytes(2, "big") + m for m in messages)


@dataclass
class Sent:
    """A packet on a line, and where it lies in time."""

    line: int
    sequence: int
    message_count: int
    blocks: bytes = b""
    session: bytes = SESSION
    bad: bool = False
    at: int = 0
    """Its first beat comes in this cycle or later."""
    start: int = 0
    pauses: float = 0.0
    verdict_cycles: int = 3
    """From its last beat to its verdict."""
    empty_last: bool = False
    ticks: list[int] = field(default_factory=list)
    beats: list[int] = field(default_factory=list)
    end_tick: int = 0

    @property
    def payload(self):
        numbers = self.sequence.to_bytes(8, "big") + self.message_count.to_bytes(2, "big")
        return self.session + numbers + self.blocks

    @property
    def header(self):
        return pack(
            HEAD,
            session=number_of(self.session),
            sequence=self.sequence,
            message_count=self.message_count,
            age=age_of(self.line, self.sequence),
        )

    @property
    def ts_ns(self):
        return time_of(self.line, self.ticks[0])


def time_of(line, tick):
    return NOW + tick * TICK_NS - LAG_NS + line


def packet_of(line, sequence, messages, **more):
    return Sent(line, sequence, len(messages), blocks_of(messages), **more)


def message(number):
    """The message of a number, the same on both lines."""
    rng = random.Random(number * 7919 + SEED)
    return rng.randbytes(rng.choice((0, 1, 12, 19, 36, 40)))


def run_of(line, first, end, **more):
    return packet_of(line, first, [message(number) for number in range(first, end)], **more)


@dataclass
class Came:
    """A packet that came out."""

    numbers: dict[str, int]
    beats: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    ticks: list[int] = field(default_factory=list)
    sent: Sent | None = None
    whole: int = 0


class Bench:
    """The loop, the lines' cycles, and what came out."""

    def __init__(self, dut):
        self.dut = dut
        self.rng = random.Random(SEED)
        self.tick = self.seen_tick = 0
        self.words = defaultdict(int)
        self.free = [0, 0]
        self.sent, self.firsts = [], {}
        self.came, self.open = [], None
        self.answer_cycles = ANSWER_CYCLES
        self.events, self.drops, self.line_drops = [], Counter(), Counter()
        self.notice_ticks = []
        self.golden, self.golden_events = None, []

    async def reset(self):
        Clock(self.dut.clk, TICK_NS, unit="ns").start()
        self.dut.stimulus.value = 0
        self.dut.rst.value = 1
        for _ in range(3):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0

    # The lines.

    def lay(self, packets, feed=True):
        """Give packets their cycles, in the order of each line, and the golden model its part."""
        for packet in packets:
            self.place(packet)
        self.sent += packets
        if feed:
            self.feed(packets)

    def place(self, packet):
        rng, line = self.rng, packet.line
        room = WIDTH - packet.start
        chunks = [packet.blocks[:room]]
        chunks += [packet.blocks[at : at + WIDTH] for at in range(room, len(packet.blocks), WIDTH)]
        chunks += [b""] * packet.empty_last
        tick = max(packet.at, self.free[line], self.tick + 2)
        base = line * LINE_BITS
        header = packet.header << 1 + beat(WIDTH).size + base
        for index, chunk in enumerate(chunks):
            while index and rng.random() < packet.pauses:
                tick += 1
            start = packet.start if index == 0 else 0
            noise = rng.randbytes(WIDTH)
            bits = pack(
                BEAT,
                data=int.from_bytes((noise[:start] + chunk + noise)[:WIDTH], "little"),
                start=start,
                count=len(chunk),
                first=index == 0,
                last=index == len(chunks) - 1,
            )
            packet.ticks.append(tick)
            packet.beats.append(bits)
            self.words[tick] |= (1 | bits << 1) << base
            tick += 1
        first, last = packet.ticks[0], packet.ticks[-1]
        self.words[first] |= header
        self.words[first + 1] |= header
        packet.end_tick = last + packet.verdict_cycles
        self.words[packet.end_tick] |= (1 | packet.bad << 1) << END_AT + base
        self.free[line] = max(last + NEXT_FIRST_CYCLES, packet.end_tick + 2)
        self.firsts[line, first] = packet
        self.cover(packet, chunks)

    def cover(self, packet, chunks):
        covered["packet"][ANNOUNCED.get(packet.message_count, "messages")] += 1
        covered["start lane"][packet.start] += 1
        covered["first beat"]["bytes" if chunks[0] else "empty"] += 1
        covered["last beat"]["bytes" if chunks[-1] else "empty"] += 1
        covered["beats"]["one" if len(chunks) == 1 else "more"] += 1
        if (1 - packet.line, packet.ticks[0]) in self.firsts:
            covered["first beats in one cycle"][True] += 1

    def feed(self, packets):
        if CUT_THROUGH:
            order = sorted(packets, key=lambda p: (p.ticks[0], p.line))
        else:
            good = (p for p in packets if not p.bad)
            order = sorted(good, key=lambda p: (p.end_tick, p.line))
        for p in order:
            self.golden_events += self.golden.receive(p.line, p.payload, p.ts_ns, p.bad)

    def wait_for_timeout(self):
        """Let both lines be silent until nothing is held, and tell the golden model."""
        quiet = max(self.free) + TIMEOUT_CYCLES + 60
        waited = copy.deepcopy(self.golden).advance(time_of(0, quiet))
        if waited:
            self.golden_events += self.golden.advance(time_of(0, quiet))
            self.free = [quiet + 100 * len(waited)] * 2

    # The loop.

    def start(self, session=SESSION, sequence=1, timeout_ns=TIMEOUT_NS, tick=None):
        """Start the arbiter, and a golden model beside it."""
        config = number_of(session or bytes(10)) | (sequence or 0) << 80 | timeout_ns << 144
        at = self.tick if tick is None else tick
        self.words[at] |= (1 | config << 1) << START_AT
        self.free = [max(free, at + 8) for free in self.free]
        self.golden = golden.Arbiter(timeout_ns, 1 << 30, session, sequence)
        self.golden_events = []

    async def run(self, cycles):
        dut = self.dut
        for _ in range(cycles):
            now = NOW + self.tick * TICK_NS
            dut.stimulus.value = self.words.pop(self.tick, 0) | now << NOW_AT
            await FallingEdge(dut.clk)
            flags = int(dut.flags.value)
            if flags & STROBES:
                self.look(flags)
            self.tick += 1

    async def drain(self):
        """Run until both lines are silent and everything was told."""
        quiet = 60 + 10 * ANSWER_CYCLES
        while self.tick < max(*self.free, self.seen_tick, *self.words) + quiet:
            await self.run(quiet)
        assert self.open is None, f"cycle {self.tick}: never told: {self.open}"
        assert not [tick for tick in self.words if tick >= self.tick]
        self.free = [self.tick + 2] * 2

    def look(self, flags):
        self.seen_tick = self.tick
        if flags & 2:
            self.take_notice(unpack(NOTICED, int(self.dut.notice.value)))
        if flags & 1:
            self.take_beat(int(self.dut.beat.value), int(self.dut.time.value))
        for line in LINES:
            if flags >> 2 + line & 1:
                reason = DropReason(flags >> 5 + 5 * line & 31)
                self.drops[reason] += 1
                self.line_drops[reason, line] += 1
                covered["drop"][reason.name, line] += 1
        if flags & 16:
            covered["event"]["end"] += 1
            self.events.append(("end", None))

    def take_beat(self, bits, time):
        values = unpack(BEAT, bits)
        where = f"cycle {self.tick}, seed {SEED}"
        assert not values["bad"], where
        assert bool(values["first"]) == (self.open is None), f"{where}: {values}, {self.open}"
        if values["first"]:
            numbers = unpack(NUMBERS, int(self.dut.packet.value))
            self.open = Came(numbers)
            self.came.append(self.open)
            expected = int(self.dut.next_sequence.value)
            assert numbers["sequence"] + numbers["skip"] == expected, f"{where}: {numbers}"
            assert numbers["skip"] < numbers["message_count"] < 0xFFFF, f"{where}: {numbers}"
            ages = [age_of(line, numbers["sequence"]) for line in (0, 1)]
            assert numbers["age"] in ages, f"{where}: {numbers}"
        self.open.beats.append(bits)
        self.open.times.append(time)
        self.open.ticks.append(self.tick)
        if values["last"]:
            self.answer(self.open, where)

    def answer(self, came, where):
        """Find the packet that this is, beat for beat, and answer as the parser does."""
        line = came.times[0] & 1
        sent = self.firsts.get((line, (came.times[0] - time_of(line, 0)) // TICK_NS))
        assert sent is not None, f"{where}: from nowhere: {came}"
        assert came.beats == sent.beats, f"{where}: {came}, sent {sent}"
        assert came.times == [time_of(line, tick) for tick in sent.ticks], f"{where}: {came}"
        assert came.numbers["sequence"] == sent.sequence, f"{where}: {came}, sent {sent}"
        assert came.numbers["message_count"] == sent.message_count, f"{where}: {came}, sent {sent}"
        parsed = golden.parse_packet(sent.payload)
        truncation = 0
        if parsed.truncation is not None:
            truncation = 1 if "no message length" in parsed.truncation.reason else 2
        came.sent, came.whole = sent, len(parsed.messages)
        came.messages = parsed.messages
        next_sequence = sent.sequence + len(parsed.messages)
        end = pack(END, truncation=truncation, next_sequence=next_sequence)
        self.words[self.tick + 1 + self.answer_cycles] |= (1 | end << 1) << ANSWER_AT
        covered["way"]["direct" if came.ticks == sent.ticks else "stored", line] += 1
        covered["skip"]["some" if came.numbers["skip"] else "none", line] += 1

    def take_notice(self, notice):
        where = f"cycle {self.tick}, seed {SEED}: {notice}"
        kind = NoticeKind(notice["kind"])
        first, count = notice["sequence"], notice["next_sequence"] - notice["sequence"]
        assert count >= 0, where
        covered["notice"][kind.name] += 1
        self.notice_ticks.append((kind, self.tick))
        if kind is NoticeKind.GAP:
            assert self.open is None, f"{where} while {self.open}"
            assert count, where
            self.events.append(("gap", first, count))
            return
        came, self.open = self.open, None
        assert came is not None, where
        assert came.sent is not None, where
        assert self.tick > came.ticks[-1] + ANSWER_CYCLES, where
        skip = came.numbers["skip"]
        assert first == came.numbers["sequence"] + skip, where
        delivered = came.messages[skip:]
        assert count == len(delivered), f"{where}, {came}"
        assert self.tick >= came.sent.end_tick, where
        assert (kind is NoticeKind.RETRACT) == came.sent.bad, f"{where}, {came.sent}"
        self.events += [("message", first + i, data) for i, data in enumerate(delivered)]
        if kind is NoticeKind.RETRACT:
            covered["bad"]["delivered", came.sent.line] += 1
            if count:
                self.events.append(("retract", first, count))
        else:
            covered["confirmed"]["some" if count else "none"] += 1

    # What must have come.

    def golden_list(self):
        names = {golden.Gap: "gap", golden.Retract: "retract"}
        found = []
        for event in self.golden_events:
            if isinstance(event, golden.Message):
                found.append(("message", event.sequence_number, event.data))
            elif isinstance(event, golden.EndOfSession):
                found.append(("end", None))
            else:
                found.append((names[type(event)], event.first_sequence, event.count))
        return found

    def compare(self, exact=False):
        """Compare with the golden model: what remains delivered, gaps and drops, or everything."""
        got, wanted = self.events, self.golden_list()
        if not exact:
            got, wanted = without_retracted(got), without_retracted(wanted)
        for index, (one, other) in enumerate(zip(got, wanted, strict=False)):
            assert one == other, f"seed {SEED}, event {index}: {one}, wanted {other}"
        assert len(got) == len(wanted), f"seed {SEED}: {got[-3:]}, wanted {wanted[-3:]}"
        assert self.drops == self.golden.drops, f"seed {SEED}: {self.drops}, {self.golden.drops}"
        assert int(self.dut.next_sequence.value) == self.golden.next_sequence
        came = {id(c.sent) for c in self.came}
        for packet in self.sent:
            if packet.bad and id(packet) not in came:
                covered["bad"]["not delivered", packet.line] += 1


def without_retracted(events):
    remaining = []
    for event in events:
        if event[0] == "retract":
            _, first, count = event
            gone = [(e[0], e[1]) for e in remaining[-count:]]
            assert gone == [("message", first + i) for i in range(count)], (event, gone)
            del remaining[-count:]
        else:
            remaining.append(event)
    return remaining


async def begin(dut, **config):
    bench = Bench(dut)
    await bench.reset()
    bench.start(**config)
    return bench


class Feed:
    """Random packets of both lines over the same messages, in bursts."""

    def __init__(self, bench, sequence=1):
        self.bench, self.rng, self.sequence = bench, bench.rng, sequence
        # A line keeps its order: no packet begins before the one in front of it.
        self.last = [sequence, sequence]

    def split(self, first, end):
        """Return where the packets of a line begin and end."""
        cuts = [first]
        while cuts[-1] < end:
            cuts.append(min(end, cuts[-1] + self.rng.choice((1, 1, 2, 3, 6))))
        return list(itertools.pairwise(cuts))

    def packet(self, line, first, end, alike, **more):
        """A packet, with whatever may be wrong with one; one that is not ``alike`` may be cut."""
        rng = self.rng
        chance = rng.random()
        packet = run_of(line, first, end, **more)
        packet.start = rng.randrange(WIDTH)
        packet.verdict_cycles = rng.randrange(1, 6)
        packet.empty_last = rng.random() < 0.1
        packet.pauses = rng.choice((0, 0, 0, 0.3))
        packet.bad = rng.random() < 0.1
        if chance < 0.04:
            packet.session = OTHER
        elif alike:
            pass
        elif chance < 0.10:
            packet.blocks = packet.blocks[: rng.randrange(len(packet.blocks))]
        elif chance < 0.13:
            packet.blocks += rng.randbytes(rng.randrange(1, 9))
        elif chance < 0.2 and first - 3 >= self.last[line]:
            packet.sequence -= 3
            packet.message_count += 3
            packet.blocks = blocks_of([message(n) for n in range(first - 3, first)]) + packet.blocks
        self.last[line] = packet.sequence
        return packet

    def announce(self, line, number, count=0, **more):
        self.last[line] = number
        return Sent(line, number, count, start=self.rng.randrange(WIDTH), **more)

    def burst(self, count, alike):
        """Lay about so many packets on the lines, one of them behind the other or beside it."""
        bench, rng = self.bench, self.rng
        first, end = self.sequence, self.sequence + rng.randrange(count, 2 * count)
        begin = max(bench.free) + rng.choice((0, 0, 3, 40))
        cuts = self.split(first, end)
        skews = rng.choice([(0, 0), (0, rng.randrange(12)), (0, 150), (9, 0), (200, 0)])
        loss = rng.choice((0, 0.05, 0.3))
        both = rng.choice((0, 0, 0.1))
        lost = {cut for cut in cuts if rng.random() < both}
        packets = []
        for line in LINES:
            mine = cuts if alike else self.split(first, end)
            at = begin + skews[line]
            for cut in mine:
                if cut in lost or rng.random() < loss:
                    continue
                packets.append(self.packet(line, *cut, alike, at=at))
                if rng.random() < 0.05:
                    packets.append(self.packet(line, *cut, alike, at=at))
                if rng.random() < 0.1:
                    packets.append(self.announce(line, cut[1], at=at, bad=rng.random() < 0.2))
                at += rng.choice((0, 0, 30))
            if rng.random() < 0.5:
                packets.append(self.announce(line, end, at=at))
        bench.lay(packets)
        length = max(bench.free) - begin
        assert length < TIMEOUT_CYCLES, f"a burst of {length} cycles, seed {SEED}"
        self.sequence = end
        bench.wait_for_timeout()


@cocotb.test()
async def random_packets_of_both_lines_become_the_golden_sequence(dut):
    """Loss on one line and on both, skew, bad packets, repeats, announcements, other sessions."""
    bench = await begin(dut)
    feed = Feed(bench)
    while len(bench.sent) < PACKETS:
        feed.burst(16, alike=True)
        await bench.run(max(bench.free) - bench.tick - 1)
    await bench.drain()
    bench.compare()


@cocotb.test()
async def lines_that_are_cut_into_other_packets_become_the_golden_sequence(dut):
    """The same, and each line has packets of its own, some truncated or partly old.

    Two packets that come within few cycles of each other may then change places, which changes how
    many of them are duplicates, but not what is delivered.
    """
    bench = await begin(dut)
    feed = Feed(bench)
    while len(bench.sent) < PACKETS:
        feed.burst(16, alike=False)
        await bench.run(max(bench.free) - bench.tick - 1)
    await bench.drain()
    for drops in (bench.drops, bench.golden.drops):
        assert drops[DropReason.DUPLICATE] > PACKETS // 8, drops
        assert drops[DropReason.MOLD_TRUNCATED] > PACKETS // 80, drops
        del drops[DropReason.DUPLICATE], drops[DropReason.MOLD_TRUNCATED]
    bench.compare()


@cocotb.test(skip=not CUT_THROUGH)
async def packet_that_is_next_goes_straight_through(dut):
    """One line alone with the least gap, then the other: every beat one cycle later."""
    bench = await begin(dut)
    number = 1
    for line in LINES:
        for size in range(1, 40):
            end = number + 1 + size % 4
            bench.lay([run_of(line, number, end, start=size % WIDTH, at=max(bench.free))])
            number = end
    await bench.drain()
    bench.compare(exact=True)
    assert len(bench.came) == 78
    for came in bench.came:
        # Driven before a rising edge and seen after it: one register.
        assert came.ticks == came.sent.ticks, f"seed {SEED}: {came}"


@cocotb.test()
async def stored_packet_follows_the_one_before_in_time(dut):
    """What is held behind a gap comes out with as few cycles between as promised."""
    bench = await begin(dut)
    packets = [run_of(0, n, n + 1, verdict_cycles=1) for n in range(2, 12)]
    bench.lay([*packets, run_of(1, 1, 2, at=900)])
    await bench.drain()
    bench.compare(exact=True)
    assert [came.sent.sequence for came in bench.came] == list(range(1, 12))
    for before, after in itertools.pairwise(bench.came[1:]):
        assert after.ticks[0] - before.ticks[-1] - 1 == RELEASE_CYCLES + 2


def line_rate(bench, line, count, first=1, at=0):
    """Lay packets back to back on a line, one message each, as close as 10 or 1 Gb/s has them."""
    packets, place = [], 0
    start = max(bench.free[line], at)
    for number in range(first, first + count):
        packet = run_of(line, number, number + 1, start=(place // 1) % WIDTH)
        packet.at = start + place // WIDTH
        place += len(packet.blocks) + WIRE_BYTES
        packets.append(packet)
    return packets


@cocotb.test()
async def full_rate_on_both_lines_stalls_nothing(dut):
    """Line B a little or a packet later than line A: line A goes straight through all the way."""
    bench = await begin(dut)
    count = PACKETS // 4
    first = 1
    for skew in (0, 1, 5, 11, 300):
        begin_at = max(bench.free) + 20
        packets = line_rate(bench, 0, count, first, begin_at)
        packets += line_rate(bench, 1, count, first, begin_at + skew)
        bench.lay(packets)
        first += count
        await bench.run(max(bench.free) - bench.tick - 1)
    await bench.drain()
    bench.compare(exact=True)
    assert bench.drops == {DropReason.DUPLICATE: 5 * count}
    if CUT_THROUGH:
        direct = sum(came.ticks == came.sent.ticks for came in bench.came)
        assert direct == 5 * count, f"{direct} of {5 * count}"


@cocotb.test()
async def backlog_is_worked_off_at_full_rate(dut):
    """Both lines miss the first packet and go on at full rate, until the gap is declared lost."""
    timeout_cycles = TIMEOUT_CYCLES // 3
    bench = await begin(dut, timeout_ns=timeout_cycles * TICK_NS)
    count = 400
    packets = line_rate(bench, 0, count, 2) + line_rate(bench, 1, count, 2, at=20)
    bench.lay(packets)
    await bench.drain()
    bench.compare(exact=True)
    assert bench.events[0] == ("gap", 1, 1)
    assert bench.drops == {DropReason.DUPLICATE: count}
    assert int(dut.held_max.value) > 60
    late = [came.ticks[0] - came.sent.ticks[0] for came in bench.came]
    assert late[0] > timeout_cycles > 60 > late[-1], late


@cocotb.test()
async def good_copy_takes_the_place_of_a_bad_packet(dut):
    """The copy comes during the bad packet, after it, or was there before."""
    bench = await begin(dut)
    number = 1
    for line in LINES:
        for skew in (0, 1, 2, 3, 5, 8, 13, 21, 34, 100):
            at = max(bench.free) + 20
            end = number + 4
            bench.lay(
                [
                    run_of(line, number, end, bad=True, at=at),
                    run_of(line, end, end + 1, at=at + 150 if WIDTH == 8 else at + 500),
                    run_of(1 - line, number, end, at=at + skew),
                    run_of(1 - line, end, end + 1, at=at + 300 if WIDTH == 8 else at + 900),
                ]
            )
            number = end + 1
    await bench.drain()
    bench.compare(exact=True)
    retracted = sum(event[0] == "retract" for event in bench.events)
    # Of two that come in one cycle line A's is delivered, bad or good.
    assert retracted == (19 if CUT_THROUGH else 0)


@cocotb.test()
async def bad_stored_packet_is_not_delivered(dut):
    """A bad packet ahead of a gap is gone when the gap is filled, first in its buffer or not."""
    bench = await begin(dut)
    for line in LINES:
        first = bench.golden.next_sequence
        at = max(bench.free) + 20
        bench.lay(
            [
                run_of(line, first + 1, first + 3, bad=True, at=at),
                run_of(line, first + 3, first + 5, at=at),
                run_of(line, first + 5, first + 7, bad=True, at=at),
                run_of(1 - line, first, first + 1, at=at + 400),
                run_of(1 - line, first + 1, first + 3, at=at + 400),
                run_of(1 - line, first + 5, first + 9, at=at + 700),
            ]
        )
    await bench.drain()
    bench.compare(exact=True)
    assert not any(event[0] == "retract" for event in bench.events)


@cocotb.test()
async def gap_is_declared_lost_at_its_time(dut):
    """Not before the held packet has waited for longer than the timeout, and at once then."""
    bench = await begin(dut)
    for line in LINES:
        first = bench.golden.next_sequence + 2
        ahead = run_of(line, first, first + 2, at=max(bench.free) + 10)
        bench.lay([ahead])
        bench.wait_for_timeout()
        await bench.drain()
        tick = next(t for kind, t in reversed(bench.notice_ticks) if kind is NoticeKind.GAP)
        # The first cycle in which it is old enough, and five more to see it, compare, and tell, and
        # one in which no packet may go straight through any more.
        due = next(t for t in itertools.count() if NOW + t * TICK_NS - ahead.ts_ns > TIMEOUT_NS)
        assert tick == due + 5 + CUT_THROUGH, tick - due
    bench.compare(exact=True)
    assert int(dut.lost_count.value) == 4


@cocotb.test()
async def smaller_of_two_heads_ends_the_gap(dut):
    """The heads of both lines are beyond the gap; the later one in time is the first in number."""
    bench = await begin(dut)
    for line in LINES:
        first = bench.golden.next_sequence
        at = max(bench.free) + 10
        bench.lay(
            [
                run_of(line, first + 5, first + 7, at=at),
                run_of(1 - line, first + 2, first + 4, at=at + 100),
            ]
        )
        bench.wait_for_timeout()
        await bench.drain()
    bench.compare(exact=True)
    gaps = [event[1:] for event in bench.events if event[0] == "gap"]
    assert gaps == [(1, 2), (5, 1), (8, 2), (12, 1)]


@cocotb.test()
async def of_two_heads_the_one_that_came_first_is_delivered(dut):
    """Both lines hold the same packet behind a gap: the line whose copy came first is used."""
    bench = await begin(dut)
    for line in LINES:
        first = bench.golden.next_sequence + 1
        at = max(bench.free) + 10
        for other, delay in ((line, 0), (1 - line, 40)):
            bench.lay([run_of(other, first, first + 2, at=at + delay)])
        bench.wait_for_timeout()
        await bench.drain()
        assert bench.came[-1].sent.line == line
    bench.compare(exact=True)


@cocotb.test()
async def heartbeat_and_end_of_session_reveal_a_gap(dut):
    """They carry the next number; an end of session is told once, when all before it is done."""
    bench = await begin(dut)
    for line in LINES:
        number = bench.golden.next_sequence
        bench.lay([run_of(line, number, number + 2), run_of(1 - line, number, number + 2)])
        bench.lay([Sent(line, number + 2, 0, at=max(bench.free))])
        bench.lay([Sent(line, number + 5, 0, at=max(bench.free))])
        bench.wait_for_timeout()
        await bench.drain()
    number = bench.golden.next_sequence
    bench.lay([Sent(line, number + 3, 0xFFFF, at=max(bench.free)) for line in LINES])
    bench.wait_for_timeout()
    bench.lay([Sent(line, number + 3, 0xFFFF, at=max(bench.free)) for line in LINES])
    bench.lay([Sent(0, number + 3, 0xFFFF, blocks=bytes(30), at=max(bench.free))])
    await bench.drain()
    bench.compare(exact=True)
    gaps = [event[1:] for event in bench.events if event[0] == "gap"]
    assert gaps == [(3, 3), (8, 3), (11, 3)]
    assert [event[0] for event in bench.events].count("end") == 1


@cocotb.test()
async def late_packet_is_told_from_a_duplicate(dut):
    """Of the last four lost ranges, and of ranges that touch; older ones are forgotten."""
    bench = await begin(dut)
    for first in range(1, 50, 10):
        bench.lay([run_of(0, first + 8, first + 10, at=max(bench.free))])
        bench.wait_for_timeout()
    # Three ranges that touch are one: announcements reveal them one after the other.
    bench.lay([Sent(0, 55, 0, at=max(bench.free)), Sent(0, 58, 0), run_of(0, 60, 61)])
    bench.wait_for_timeout()
    await bench.drain()
    bench.compare(exact=True)
    assert int(dut.next_sequence.value) == 61
    assert not bench.drops
    late, duplicate = DropReason.TOO_LATE, DropReason.DUPLICATE
    for line in LINES:
        for first, end, reason in (
            (51, 60, late),
            (51, 61, duplicate),
            (53, 57, late),
            (59, 60, late),
            (41, 49, late),
            (41, 50, duplicate),
            (40, 42, duplicate),
            (31, 32, late),
            (21, 29, late),
            # The golden model remembers these as well; four ranges later they are forgotten.
            (11, 19, duplicate),
            (1, 9, duplicate),
        ):
            bench.lay([run_of(line, first, end, at=max(bench.free))], feed=False)
            await bench.drain()
            assert bench.drops == {reason: 1}, (first, end, bench.drops)
            bench.drops.clear()
    # A start forgets them all.
    bench.events.clear()
    bench.start(sequence=61)
    bench.lay([run_of(0, 53, 57, at=max(bench.free))])
    await bench.drain()
    bench.compare(exact=True)
    assert bench.drops == {duplicate: 1}


@cocotb.test()
async def session_and_number_are_taken_from_the_first_good_packet(dut):
    """Of a bad packet nothing is learnt, of a heartbeat what it has; others are refused then."""
    bench = await begin(dut, session=None, sequence=None)
    assert int(dut.next_sequence.value) == 0
    for line in LINES:
        for session, sequence in ((None, None), (SESSION, None), (None, 70)):
            await bench.drain()
            at = bench.tick + 20
            bench.start(session, sequence, tick=at)
            at += 10
            # The golden model delivers and retracts a bad one; here it is not delivered at all.
            bad = run_of(line, 90, 91, session=OTHER, bad=True, at=at)
            bench.lay([bad], feed=False)
            if session is None and sequence is None:
                bench.lay([Sent(1 - line, 70, 0, at=at + 100)])
            bench.lay(
                [
                    run_of(line, 70, 72, at=at + 200),
                    run_of(1 - line, 70, 72, session=OTHER, at=at + 250),
                    run_of(1 - line, 72, 74, at=at + 350),
                ]
            )
            bench.events.clear()
            bench.drops.clear()
            await bench.drain()
            bench.compare(exact=True)
            assert [event[1] for event in bench.events] == [70, 71, 72, 73]
            assert bench.drops == {DropReason.MOLD_SESSION: 1}
    # In one cycle on both lines, line A's counts.
    at = max(bench.free) + 20
    bench.start(None, None, tick=at)
    bench.lay([run_of(1, 8, 9, session=OTHER, at=at + 9), run_of(0, 5, 6, at=at + 9)])
    bench.events.clear()
    bench.drops.clear()
    await bench.drain()
    bench.compare(exact=True)


@cocotb.test()
async def numbers_near_the_last_one_are_compared_right(dut):
    """Borrows across every part of the number, and a packet that claims beyond the last one."""
    for sequence in (0xFFFE, 0xFFFF_FFFE, (1 << 48) - 3, (1 << 63) - 2, (1 << 64) - 40):
        bench = await begin(dut, sequence=sequence)
        for line in LINES:
            number = bench.golden.next_sequence
            for first, end in ((-3, -1), (-3, 1), (-2, 2), (2, 3), (3, 5), (6, 7), (1, 7), (4, 8)):
                at = max(bench.free) + 40
                which = line ^ (first == 6)
                bench.lay([run_of(which, number + first, number + end, at=at)])
            # Older by a power of two: the low bits alone would have them next.
            for distance in (1 << 16, 1 << 32, 1 << 48, 1 << 63):
                first = bench.golden.next_sequence - distance
                if first > 0:
                    bench.lay([run_of(line, first, first + 2)])
            await bench.drain()
        number = bench.golden.next_sequence
        claims = blocks_of([message(number), message(number + 1)])
        bench.lay([Sent(0, number, 0xFFFE, claims, at=max(bench.free))])
        await bench.drain()
        bench.compare(exact=True)
        assert bench.drops[DropReason.MOLD_TRUNCATED] == 1


@cocotb.test()
async def truncated_packet_counts_as_its_whole_messages(dut):
    """Cut behind each byte on one line; the other line has the rest."""
    bench = await begin(dut)
    number = 1
    for line in LINES:
        for cut in range(0, 60, 3):
            whole = packet_of(line, number, [bytes([65 + n] * 12) for n in range(4)])
            copy_ = packet_of(1 - line, number, [bytes([65 + n] * 12) for n in range(4)])
            whole.blocks = whole.blocks[:cut]
            whole.at = max(bench.free) + 10
            copy_.at = whole.at + 30
            bench.lay([whole, copy_])
            number += 4
    await bench.drain()
    bench.compare(exact=True)
    assert bench.drops[DropReason.MOLD_TRUNCATED] == 38


@cocotb.test()
async def nearly_full_buffer_ends_the_wait(dut):
    """A gap before a full line is declared lost long before its time, and nothing is refused."""
    for line in LINES:
        for size in (1, 1400):
            bench = await begin(dut, timeout_ns=1_000_000_000)
            blocks = blocks_of([bytes(size)])
            # A packet each time as long as on the wire.
            count = 100 if size == 1 else 2 * BUFFER_BEATS * WIDTH // 1400 + 4
            packets = []
            at = 10
            for number in range(2, 2 + count):
                packets.append(Sent(line, number, 1, blocks, at=at))
                at += (len(blocks) + WIRE_BYTES) // WIDTH
            bench.lay(packets, feed=False)
            await bench.drain()
            assert bench.events[0] == ("gap", 1, 1)
            got = [event[1] for event in bench.events[1:]]
            assert got == list(range(2, 2 + count))
            assert not bench.drops
            gap_tick = bench.notice_ticks[0][1]
            behind = sum(packet.end_tick < gap_tick for packet in packets)
            if size == 1:
                assert behind in (62, 63), behind
            else:
                held = int(dut.held_max.value)
                assert BUFFER_BEATS - 3 * 1500 // WIDTH - 20 < held < BUFFER_BEATS


@cocotb.test()
async def packet_without_room_is_refused_whole(dut):
    """While a packet of one line is with the parser, the other line's find no room any more."""
    for line in LINES:
        bench = await begin(dut, timeout_ns=1_000_000_000)
        bench.answer_cycles = 90 * (NEXT_FIRST_CYCLES + 45)
        bench.lay([run_of(1 - line, 1, 2)], feed=False)
        await bench.run(60)
        assert bench.open is not None
        packets = [run_of(line, number, number + 1, bad=number == 88) for number in range(2, 90)]
        bench.lay(packets, feed=False)
        assert bench.tick + bench.answer_cycles > packets[-1].end_tick + 60
        bench.answer_cycles = ANSWER_CYCLES
        await bench.drain()
        # 64 find room. Of the others one is bad and counted elsewhere.
        assert [event[1] for event in bench.events] == list(range(1, 66))
        assert bench.drops == {DropReason.BUFFER_FULL: 23}
        bench.lay([run_of(line, 66, 67)], feed=False)
        await bench.drain()
        assert bench.events[-1][1] == 66


@cocotb.test()
async def start_forgets_what_is_stored_and_ends_what_is_delivered(dut):
    """Nothing is passed on before the first start; a start comes in any cycle of a packet."""
    bench = Bench(dut)
    await bench.reset()
    bench.lay([run_of(line, 1, 3) for line in LINES], feed=False)
    await bench.drain()
    assert not bench.came
    assert not bench.events
    assert not bench.drops
    for cycle in range(40):
        begin_at = max(bench.free) + 30
        bench.start(sequence=100, tick=begin_at)
        # One is delivered, one is stored ahead, one comes in meanwhile.
        first = run_of(0, 100, 103, at=begin_at + 20)
        ahead = [run_of(1, 105, 107, at=begin_at + 8), run_of(1, 107, 109, at=begin_at + 30)]
        bench.lay([first, *ahead], feed=False)
        restart = first.ticks[0] - 3 + cycle
        free = list(bench.free)
        bench.start(sequence=200, tick=restart)
        after = max(*free, restart) + 60
        bench.lay([run_of(1, 200, 203, at=after), run_of(0, 203, 204, at=after)])
        bench.events.clear()
        bench.drops.clear()
        came = len(bench.came)
        await bench.drain()
        delivered = [event[1] for event in bench.events]
        assert delivered in ([200, 201, 202, 203], [100, 101, 102, 200, 201, 202, 203]), delivered
        assert len(bench.came) - came == len(delivered) // 3 + 1
        old = [packet for packet in (first, *ahead) if packet.ticks[0] > restart]
        assert set(bench.drops) <= {DropReason.DUPLICATE}, bench.drops
        assert bench.drops.total() <= len(old), (cycle, bench.drops)
        if not CUT_THROUGH:
            continue
        assert (len(delivered) > 4) == (restart + 1 >= first.ticks[0]), (cycle, delivered)


@cocotb.test()
async def everything_declared_was_covered(dut):
    missing = {
        name: [item for item in bins if not covered[name][item]] for name, bins in COVERAGE.items()
    }
    missing = {name: items for name, items in missing.items() if items}
    assert not missing, f"seed {SEED}: not covered: {missing}"
