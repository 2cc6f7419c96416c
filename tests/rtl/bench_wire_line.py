"""A feed line against the golden model: each beat, header, verdict and drop, with its cycle.

One loop drives a beat and looks at all outputs at each falling edge. What is to come is worked out
from the golden model alone, and whatever comes beside it fails.
"""

import os
import random
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import cocotb
import dpkt
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from wire_beats import to_beats

from hw.rtl.layouts import AGE, HEADER, beat
from hw.rtl.wire.line import END, FILTER
from protocol.ip import checksum
from protocol.reasons import DropReason
from sim.golden.moldudp64 import Packet, parse_packet
from sim.golden.wire import Datagram, Drop, parse_frame

SEED = int(os.environ["SEED"])
WIDTH = int(os.environ["WIDTH"])
FRAMES = int(os.environ["FRAMES"])
CAPTURES = os.environ.get("CAPTURES", "")
LATENCY = 1
VERDICT_LATENCY = 4
GAP_MIN = 2
"""Fewest cycles without a beat between frames."""
STARTS = (0, 4) if WIDTH == 8 else (0,)
MOLD_SIZE = 20
SOURCE = 0xC0A80001
# Enabled, address, port. The fourth is off.
FILTERS = (
    (1, 0xE9360C6F, 26477),
    (1, 0xE9360C70, 26478),
    (1, 0xE9360C6F, 26479),
    (0, 0xE9360C71, 26480),
)
SUBSCRIBED = {(address, port) for enabled, address, port in FILTERS if enabled}

REASONS = (
    *(DropReason.FRAME_TOO_SHORT, DropReason.NOT_IPV4, DropReason.IP_HEADER),
    *(DropReason.IP_FRAGMENT, DropReason.NOT_UDP, DropReason.UDP_LENGTH, DropReason.UDP_CHECKSUM),
    *(DropReason.NOT_SUBSCRIBED, DropReason.MOLD_HEADER, DropReason.FRAME_CHECK),
)
PASSED_BAD = (DropReason.IP_HEADER, DropReason.UDP_CHECKSUM, DropReason.FRAME_CHECK)
END_LANES = range(WIDTH)
COVERAGE = {
    "drop": set(REASONS),
    "passed": {None, *PASSED_BAD},
    "tag_options_start": {(tag, n, at) for tag in (0, 1) for n in range(11) for at in STARTS},
    "refused_at_start": {(reason, at) for reason in REASONS for at in STARTS},
    # Whether the packet's last beat is the frame's last, and whether it is its first.
    "end_with_frame": {(lane, with_frame) for lane in END_LANES for with_frame in (False, True)},
    "one_beat": {False, True},
    "empty_first": {"no blocks", "cut"} | ({"blocks"} if WIDTH == 1 else set()),
    "checksum_of_passed": {"none", "right", "wrong"},
    "any": {"subscribed", "not subscribed"},
    "pause": {"before first", "in blocks", "after blocks"},
    # The one before, and the one that follows it as early as may be.
    "back_to_back": {(a, b) for a in ("passed", "dropped") for b in ("passed", "dropped")},
}
covered: dict[str, Counter[Any]] = {name: Counter() for name in COVERAGE}


def pack(layout: Any, values: dict[str, int]) -> int:
    return sum(value << layout[name].offset for name, value in values.items())


def unpack(layout: Any, bits: int) -> dict[str, int]:
    return {name: bits >> item.offset & (1 << item.width) - 1 for name, item in layout}


def make(chance: random.Random, payload: bytes, faults: set[str], options: int = 0) -> bytes:
    """Return a frame with the faults asked for and words of options, everything else right."""
    _, address, port = chance.choice(FILTERS[:3])
    if "address" in faults:
        address ^= 1 << chance.randrange(32)
    if "port" in faults:
        port ^= 1 << chance.randrange(16)
    if "disabled" in faults:
        _, address, port = FILTERS[3]
    length = 8 + len(payload)
    if "udp length" in faults:
        wrong = [0, 5, 7, length - 1, length + 1, length + 300, 0xFFFF, chance.randrange(8, 40)]
        length = chance.choice(wrong)
    protocol = chance.choice([6, 1, 0, 16]) if "protocol" in faults else 17
    ends = struct.pack(">II", SOURCE, address)
    head = struct.pack(">HHH", chance.randrange(1 << 16), port, length)
    pseudo = ends + struct.pack(">HH", 17, length)
    # The checksum is that of the bytes that the length names.
    covers = (head + b"\0\0" + payload)[: max(length, 8)]
    value = checksum(pseudo + covers) or 0xFFFF
    if "udp checksum" in faults:
        value ^= 1 << chance.randrange(16)
    if "no checksum" in faults:
        value = 0
    trailer = chance.randbytes(chance.randrange(1, 40)) if "ip trailer" in faults else b""
    datagram = head + struct.pack(">H", value) + payload + trailer

    version_ihl = 0x45 + options
    if "version" in faults:
        version_ihl = version_ihl & 0x0F | chance.choice([0, 6, 5]) << 4
    if "ihl" in faults:
        version_ihl = version_ihl & 0xF0 | chance.randrange(16)
    total = 20 + 4 * options + len(datagram)
    if "total" in faults:
        total = chance.choice([0, 19, 20, 27, 28, total - 1, total + 1, total + 200, 0xFFFF])
    flags = chance.choice([0, 0x4000, 0x8000])
    if "fragment" in faults:
        flags |= chance.choice([0x2000, 1, 0x1000, 0x3FFF])
    start = struct.pack(
        ">BBHHHBB", version_ihl, 0, total, chance.randrange(1 << 16), flags, 64, protocol
    )
    more = chance.randbytes(4 * options)
    value = checksum(start + b"\0\0" + ends + more)
    if "ip checksum" in faults:
        value ^= 1 << chance.randrange(16)
    packet = start + struct.pack(">H", value) + ends + more + datagram

    ether_type = chance.choice([0x86DD, 0x0806, 0x0801, 0x88A8]) if "type" in faults else 0x0800
    tags = 1 if "tag" in faults else 2 if "two tags" in faults else 0
    frame = chance.randbytes(12)
    frame += b"".join(struct.pack(">HH", 0x8100, chance.randrange(1 << 16)) for _ in range(tags))
    frame += struct.pack(">H", ether_type) + packet
    if "padding" in faults:
        frame += chance.randbytes(chance.randrange(1, 40))
    if "flip" in faults:
        frame = flipped(chance, frame, chance.randrange(len(frame)))
    if "cut" in faults:
        frame = frame[: chance.randrange(1, len(frame))]
    return frame


def flipped(chance: random.Random, frame: bytes, at: int) -> bytes:
    return frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :]


def mold(chance: random.Random, size: int) -> bytes:
    """Return the payload of a datagram: a header and ``size`` bytes of blocks."""
    return chance.randbytes(MOLD_SIZE + size)


FAULTS = [
    *("address", "port", "disabled", "udp length", "protocol", "udp checksum", "ip trailer"),
    *("version", "ihl", "total", "fragment", "ip checksum", "type", "two tags", "flip", "cut"),
]
HARMLESS = ["no checksum", "tag", "padding", "ip trailer"]


def some_frame(chance: random.Random) -> bytes:
    payload = mold(chance, chance.choice([0, 1, 2, 14, chance.randrange(60)]))
    if chance.random() < 0.15:
        payload = payload[: chance.randrange(MOLD_SIZE)]
    if chance.random() < 0.01:
        payload = mold(chance, chance.randrange(1000, 1453))
    faults = {name for name in HARMLESS if chance.random() < 0.3}
    if chance.random() < 0.6:
        faults |= set(chance.sample(FAULTS, chance.choice([1, 1, 2])))
    return make(chance, payload, faults, chance.choice([0, 0, 0, chance.randrange(11)]))


class Expected:
    """What the golden model makes of a frame."""

    def __init__(self, frame: bytes, bad: bool, take_any: bool) -> None:
        verdict = parse_frame(frame)
        # What is known before the frame has ended: all but its length and the checksum.
        ip_at = 18 if frame[12:14] == b"\x81\x00" else 14
        total = int.from_bytes(frame[ip_at + 2 : ip_at + 4], "big")
        early = parse_frame(frame.ljust(ip_at + total, b"\0"), check_udp_checksum=False)
        self.reason: DropReason | None
        self.subscribed = False
        if isinstance(verdict, Drop):
            self.reason = verdict.reason
        elif not self._is_subscribed(verdict, take_any):
            self.reason = DropReason.NOT_SUBSCRIBED
        else:
            packet = parse_packet(verdict.payload)
            self.reason = packet.reason if isinstance(packet, Drop) else None
        if bad:
            self.reason = DropReason.FRAME_CHECK

        self.packet: Packet | None = None
        self.blocks_at = self.end = 0
        if isinstance(early, Datagram) and self._is_subscribed(early, take_any):
            packet = parse_packet(early.payload)
            self.blocks_at = ip_at + (frame[ip_at] & 15) * 4 + 8 + MOLD_SIZE
            if not isinstance(packet, Drop) and self.blocks_at <= len(frame):
                self.packet = packet
                self.end = self.blocks_at + len(early.payload) - MOLD_SIZE
        self.stop = min(self.end, len(frame))
        """Where in the frame the blocks end that are passed on."""

    @property
    def header(self) -> dict[str, int] | None:
        """The header of the packet that is passed on, if one is."""
        return self.packet and {
            "session": int.from_bytes(self.packet.session, "little"),
            "sequence": self.packet.sequence_number,
            "message_count": self.packet.message_count,
        }

    def _is_subscribed(self, datagram: Datagram, take_any: bool) -> bool:
        self.subscribed = (datagram.destination_ip, datagram.destination_port) in SUBSCRIBED
        return take_any or self.subscribed


class Bench:
    """The device, its driver and what is to come out of it, by cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.chance = random.Random(SEED)
        self.cycle = 0
        self.any = False
        self.beats: dict[int, tuple[dict[str, int], bytes, int, dict[str, int], str]] = {}
        self.verdicts: dict[int, tuple[DropReason | None, dict[str, int] | None, str]] = {}
        self.before = ""

    async def start(self, take_any: bool = False) -> None:
        dut = self.dut
        filters = 0
        for number, entry in enumerate(FILTERS):
            values = dict(zip(("enabled", "address", "port"), entry, strict=True))
            filters |= pack(FILTER, values) << number * FILTER.size
        self.any = take_any
        dut.filters.value, dut.any.value, dut.stimulus.value, dut.rst.value = (
            filters,
            take_any,
            0,
            1,
        )
        cocotb.start_soon(Clock(dut.clk, 8, "ns").start())
        for _ in range(3):
            await FallingEdge(dut.clk)
        dut.rst.value = 0

    @staticmethod
    def time(cycle: int) -> int:
        return cycle * 0x9E37_79B9_7F4A_7C15 & (1 << 64) - 1

    async def step(self, bits: int | None = None) -> None:
        """Drive a beat or none, let the clock rise, and look."""
        dut = self.dut
        word = self.time(self.cycle) << 1 + beat(WIDTH).size
        dut.stimulus.value = word if bits is None else word | bits << 1 | 1
        await FallingEdge(dut.clk)
        self.cycle += 1
        flags = int(dut.flags.value)
        beat_due, verdict_due = self.cycle in self.beats, self.cycle in self.verdicts
        if not flags and not beat_due and not verdict_due:
            return
        if flags & 1 or beat_due:
            assert beat_due, f"cycle {self.cycle}: a beat that is not due; {self.due()}"
            wanted, data, time, header, where = self.beats.pop(self.cycle)
            assert flags & 1, f"no beat; {where}"
            self.compare_beat(int(dut.beat.value), wanted, data, time, header, where)
        if flags >> 1 or verdict_due:
            assert verdict_due, f"cycle {self.cycle}: a strobe that is not due; {self.due()}"
            reason, header, where = self.verdicts.pop(self.cycle)
            self.compare_verdict(flags, int(dut.verdict.value), reason, header is not None, where)
            if header is not None:
                held = int(dut.beat.value) >> beat(WIDTH).size + 64
                assert unpack(HEADER, held) == header, f"not held; {where}"

    def due(self) -> str:
        """What comes next, to tell which frame a beat from nowhere may belong to."""
        return next((verdict[-1] for verdict in self.verdicts.values()), "nothing is due")

    def compare_beat(
        self,
        bits: int,
        wanted: dict[str, int],
        data: bytes,
        time: int,
        header: dict[str, int],
        where: str,
    ) -> None:
        got = unpack(beat(WIDTH), bits & (1 << beat(WIDTH).size) - 1)
        lanes = got.pop("data").to_bytes(WIDTH, "little")
        bits >>= beat(WIDTH).size
        assert got == wanted, f"{got}, wanted {wanted}; {where}"
        begin = got["start"]
        assert lanes[begin : begin + got["count"]] == data, f"{lanes.hex()}; {where}"
        assert bits & (1 << 64) - 1 == time, where
        assert unpack(HEADER, bits >> 64) == header, where

    def compare_verdict(
        self, flags: int, bits: int, reason: DropReason | None, passed: bool, where: str
    ) -> None:
        wanted_flags = 0b010 | (reason is not None) << 2 | passed << 3
        assert flags & ~1 == wanted_flags, f"strobes {flags:04b}, wanted {reason}; {where}"
        end = unpack(END, bits >> END["reason"].width)
        if reason is not None:
            got = bits & (1 << END["reason"].width) - 1
            assert got == reason, f"reason {got}, wanted {reason!r}; {where}"
        if passed:
            assert end["bad"] == (reason is not None), where
            assert not end["bad"] or end["reason"] == reason, where

    async def send(
        self, frame: bytes, start: int = 0, bad: bool = False, pauses: float = 0, gap: int = GAP_MIN
    ) -> DropReason | None:
        """Send a frame with what is to come of it noted, and then a gap. Return why it drops."""
        chance = self.chance
        mine = to_beats(frame, WIDTH, start, bad, filler=chance.randrange(256))
        waits = [0] * len(mine)
        if pauses:
            waits = [0] + [
                int(chance.expovariate(1) if chance.random() < pauses else 0) for _ in mine[1:]
            ]
        cycles, cycle = [], self.cycle
        for wait in waits:
            cycles.append(cycle + wait)
            cycle += wait + 1
        expected = Expected(frame, bad, self.any)
        where = f"seed {SEED}, any {self.any}, lane {start}, bad {bad}, {waits}, {frame.hex()}"
        header = expected.header
        self.verdicts[cycles[-1] + VERDICT_LATENCY] = (expected.reason, header, where)
        if header is not None:
            self.expect_beats(frame, start, expected, header, cycles, where)
        self.cover(frame, start, expected, waits)
        for wait, bits in zip(waits, mine, strict=True):
            for _ in range(wait):
                await self.step()
            await self.step(bits)
        for _ in range(gap):
            await self.step()
        if gap > GAP_MIN:
            self.before = ""
        return expected.reason

    def expect_beats(
        self,
        frame: bytes,
        start: int,
        expected: Expected,
        header: dict[str, int],
        cycles: list[int],
        where: str,
    ) -> None:
        # Lanes are counted from lane 0 of the frame's first beat.
        first = (start + expected.blocks_at - 1) // WIDTH
        last = (start + max(expected.stop, expected.blocks_at) - 1) // WIDTH
        # At the pins the frame is as old as the first beat's time, inverted, says.
        header["age"] = (self.time(cycles[first]) - ~self.time(cycles[0])) % (1 << AGE.width)
        for number in range(first, last + 1):
            lower = max(number * WIDTH, start + expected.blocks_at)
            upper = min((number + 1) * WIDTH, start + expected.stop)
            values = {
                "start": lower - number * WIDTH,
                "count": upper - lower,
                "first": int(number == first),
                "last": int(number == last),
                "bad": 0,
            }
            data = frame[lower - start : upper - start]
            time = self.time(cycles[number])
            self.beats[cycles[number] + LATENCY] = (values, data, time, header, where)

    def cover(self, frame: bytes, start: int, expected: Expected, waits: list[int]) -> None:
        reason = expected.reason
        if reason is not None:
            covered["drop"][reason] += 1
            covered["refused_at_start"][reason, start] += 1
        now = "dropped" if expected.packet is None else "passed"
        if self.before:
            covered["back_to_back"][self.before, now] += 1
        self.before = now
        if expected.packet is None:
            return
        covered["passed"][reason] += 1
        tag = int(frame[12:14] == b"\x81\x00")
        ip_at = 14 + 4 * tag
        options = (frame[ip_at] & 15) - 5
        if reason is None:
            covered["tag_options_start"][tag, options, start] += 1
        end = start + expected.stop - 1
        at_end = (start + len(frame) - 1) // WIDTH == end // WIDTH
        covered["end_with_frame"][end % WIDTH, at_end] += 1
        first, last = (start + expected.blocks_at - 1) // WIDTH, end // WIDTH
        covered["one_beat"][first == last] += 1
        if expected.blocks_at == expected.stop:
            empty = "no blocks" if expected.end == expected.stop else "cut"
            covered["empty_first"][empty] += 1
        elif WIDTH == 1:
            covered["empty_first"]["blocks"] += 1
        sum_at = expected.blocks_at - MOLD_SIZE - 2
        if frame[sum_at : sum_at + 2] == b"\0\0":
            covered["checksum_of_passed"]["none"] += 1
        elif reason in (None, DropReason.UDP_CHECKSUM):
            covered["checksum_of_passed"]["wrong" if reason else "right"] += 1
        if self.any and reason is None:
            covered["any"]["subscribed" if expected.subscribed else "not subscribed"] += 1
        for number, wait in enumerate(waits):
            if wait:
                place = "before first" if number <= first else "in blocks"
                covered["pause"]["after blocks" if number > last else place] += 1

    async def finish(self) -> None:
        for _ in range(VERDICT_LATENCY + 8):
            await self.step()
        assert self.beats == {}, f"{len(self.beats)} beats never came; {self.due()}"
        assert self.verdicts == {}, f"{len(self.verdicts)} verdicts never came; {self.due()}"


@cocotb.test()
async def random_frames_are_judged_as_the_golden_model_judges_them(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    for _ in range(FRAMES):
        start, bad = bench.chance.choice(STARTS), bench.chance.random() < 0.05
        gap = bench.chance.choice([GAP_MIN, GAP_MIN, bench.chance.randrange(GAP_MIN, 12)])
        await bench.send(some_frame(bench.chance), start, bad, gap=gap)
    await bench.finish()


@cocotb.test()
async def pauses_inside_frames_change_nothing(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    for _ in range(FRAMES // 4):
        start, bad = bench.chance.choice(STARTS), bench.chance.random() < 0.05
        pauses = bench.chance.choice([0.1, 0.5, 1.0])
        await bench.send(some_frame(bench.chance), start, bad, pauses)
    await bench.finish()


@cocotb.test()
async def every_datagram_is_subscribed_when_any_is_set(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start(take_any=True)
    for _ in range(FRAMES // 8):
        await bench.send(some_frame(bench.chance), bench.chance.choice(STARTS))
    await bench.finish()


@cocotb.test()
async def a_frame_cut_anywhere_is_judged_right(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    kinds = [({"tag"}, 0), (set(), 0), (set(), 1), ({"tag"}, 10)]
    kinds += [({fault}, 1) for fault in ("protocol", "fragment", "ihl", "version")]
    for faults, options in kinds:
        whole = make(bench.chance, mold(bench.chance, 21), faults, options)
        for start in STARTS:
            reasons = Counter([await bench.send(whole[: n + 1], start) for n in range(len(whole))])
            if faults <= {"tag"}:
                headers = 14 + 4 * len(faults) + 20 + 4 * options + 8
                short, cut = DropReason.FRAME_TOO_SHORT, DropReason.IP_HEADER
                assert reasons == {short: headers - 1, cut: MOLD_SIZE + 21, None: 1}
    await bench.finish()


@cocotb.test()
async def a_byte_wrong_anywhere_is_judged_right(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    for faults, options in ((set(), 0), ({"tag"}, 2), ({"no checksum"}, 0)):
        whole = make(bench.chance, mold(bench.chance, 21), faults, options)
        for start in STARTS:
            for at in range(len(whole)):
                await bench.send(flipped(bench.chance, whole, at), start)
    await bench.finish()


@cocotb.test()
async def packets_of_every_length_pass_with_every_header(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    kinds = ((), ("padding",), ("no checksum",), ("ip trailer",))
    sizes = [*range(18), 1452]
    for options in range(11):
        for kind in kinds:
            for tag in ((), ("tag",)):
                for start in STARTS:
                    size = bench.chance.randrange(18)
                    payload = mold(bench.chance, size)
                    frame = make(bench.chance, payload, {*kind, *tag}, options)
                    assert await bench.send(frame, start) is None
    for size in sizes:
        for kind in kinds:
            for start in STARTS:
                frame = make(bench.chance, mold(bench.chance, size), set(kind))
                assert await bench.send(frame, start) is None
    await bench.finish()


@cocotb.test()
async def short_datagrams_are_no_packets_but_are_summed(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    for size in range(MOLD_SIZE + 1):
        for options in (0, 1):
            for kind, wanted in (
                ({"padding"}, DropReason.MOLD_HEADER if size < MOLD_SIZE else None),
                ({"padding", "udp checksum"}, DropReason.UDP_CHECKSUM),
                ({"padding", "disabled"}, DropReason.NOT_SUBSCRIBED),
            ):
                for start in STARTS:
                    frame = make(bench.chance, bench.chance.randbytes(size), kind, options)
                    assert await bench.send(frame, start) == wanted
    # Data chosen so that the checksum comes out as zero and is sent as all ones.
    first = make(random.Random(SEED), b"\0\0", set())
    made = make(random.Random(SEED), first[40:42], set())
    assert made[40:42] == b"\xff\xff"
    assert await bench.send(made) == DropReason.MOLD_HEADER
    for fill in (b"\0", b"\xff"):
        assert await bench.send(make(bench.chance, fill * 1472, set())) is None
    await bench.finish()


@cocotb.test(skip=not CAPTURES)
async def captured_frames_are_judged_as_the_golden_model_judges_them(dut: Any) -> None:
    reasons: dict[str, Counter[Any]] = {}
    for folder, take_any in (("itch50", False), ("itch50_20230822", True), ("ouch50", True)):
        bench = Bench(dut)
        await bench.start(take_any)
        paths = sorted((Path(CAPTURES) / folder).glob("*.pcap"))
        assert paths, folder
        for path in paths:
            with path.open("rb") as file:
                for _, frame in dpkt.pcap.Reader(file):
                    for start in STARTS:
                        reason = await bench.send(frame, start)
                        reasons.setdefault(folder, Counter())[reason] += 1
        await bench.finish()
    assert set(reasons["itch50"]) == {None}, reasons
    assert reasons["itch50"][None] >= 9 * len(STARTS), reasons


@cocotb.test()
async def what_is_to_be_covered_was(dut: Any) -> None:
    missing = {name: wanted - set(covered[name]) for name, wanted in COVERAGE.items()}
    missing = {name: bins for name, bins in missing.items() if bins}
    unknown = {name: set(covered[name]) - wanted for name, wanted in COVERAGE.items()}
    assert not missing, f"not covered: {missing}"
    assert not any(unknown.values()), f"not declared: {unknown}"
