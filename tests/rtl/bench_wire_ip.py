"""The UDP filter against the golden model: every frame's payload, line, drop reason and cycle."""

import os
import random
import struct
from pathlib import Path
from typing import Any

import cocotb
import dpkt
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from wire_beats import Watch, difference, send_beats, to_beats

from hw.rtl.wire.ip import filter_layout
from protocol.ip import checksum
from protocol.reasons import DropReason
from sim.golden.wire import Drop, parse_frame

SEED = int(os.environ["SEED"])
WIDTH = int(os.environ["WIDTH"])
FRAMES = int(os.environ["FRAMES"])
CAPTURES = os.environ.get("CAPTURES", "")
LATENCY = 4
STARTS = (0, 4) if WIDTH == 8 else (0,)
SOURCE = 0xC0A80001
# Enabled, address, port, line. The third repeats the first, which wins; the fourth is off.
FILTERS = (
    (1, 0xE9360C6F, 26477, 1),
    (1, 0xE9360C70, 26478, 0),
    (1, 0xE9360C6F, 26477, 0),
    (0, 0xE9360C71, 26479, 1),
)


def lines() -> dict[tuple[int, int], int]:
    return {(address, port): line for on, address, port, line in reversed(FILTERS) if on}


def make(chance: random.Random, payload: bytes, faults: set[str]) -> bytes:
    """Return a frame with the faults asked for, everything else right."""
    _, address, port, _ = chance.choice(FILTERS[:3])
    if "address" in faults:
        address ^= 1 << chance.randrange(32)
    if "port" in faults:
        port ^= 1 << chance.randrange(16)
    if "disabled" in faults:
        _, address, port, _ = FILTERS[3]
    length = 8 + len(payload)
    if "udp length" in faults:
        length = chance.choice([0, 5, 7, length - 1, length + 1, length + 300, 0xFFFF, 8])
    protocol = chance.choice([6, 1, 0]) if "protocol" in faults else 17
    ends = struct.pack(">II", SOURCE, address)
    head = struct.pack(">HHH", chance.randrange(1 << 16), port, max(length, 0))
    pseudo = ends + struct.pack(">HH", 17, max(length, 0))
    # The checksum is that of the bytes that the length names.
    covered = (head + b"\0\0" + payload)[: max(length, 8)]
    value = checksum(pseudo + covered) or 0xFFFF
    if "udp checksum" in faults:
        value ^= 1 << chance.randrange(16)
    if "no checksum" in faults:
        value = 0
    datagram = head + struct.pack(">H", value) + payload

    options = chance.randbytes(4 * chance.randrange(1, 11)) if "options" in faults else b""
    version_ihl = 0x45 + len(options) // 4
    if "version" in faults:
        version_ihl = version_ihl & 0x0F | chance.choice([0, 6, 5]) << 4
    if "ihl" in faults:
        version_ihl = version_ihl & 0xF0 | chance.choice([0, 4, 3, 6, 15])
    total = 20 + len(options) + len(datagram)
    if "total" in faults:
        total = chance.choice([0, 19, 20, 27, 28, total - 1, total + 1, total + 200, 0xFFFF])
    flags = chance.choice([0, 0x4000, 0x8000])
    if "fragment" in faults:
        flags |= chance.choice([0x2000, 1, 0x1000, 0x3FFF])
    start = struct.pack(
        ">BBHHHBB", version_ihl, 0, total, chance.randrange(1 << 16), flags, 64, protocol
    )
    value = checksum(start + b"\0\0" + ends + options)
    if "ip checksum" in faults:
        value ^= 1 << chance.randrange(16)
    packet = start + struct.pack(">H", value) + ends + options + datagram

    ether_type = chance.choice([0x86DD, 0x0806, 0x0801, 0x88A8]) if "type" in faults else 0x0800
    tags = 1 if "tag" in faults else 2 if "two tags" in faults else 0
    frame = chance.randbytes(12)
    frame += b"".join(struct.pack(">HH", 0x8100, chance.randrange(1 << 16)) for _ in range(tags))
    frame += struct.pack(">H", ether_type) + packet
    if "padding" in faults:
        frame += chance.randbytes(chance.randrange(1, 40))
    if "flip" in faults:
        at = chance.randrange(len(frame))
        frame = frame[:at] + bytes([frame[at] ^ 1 << chance.randrange(8)]) + frame[at + 1 :]
    if "cut" in faults:
        frame = frame[: chance.randrange(1, len(frame))]
    return frame


FAULTS = [
    *("address", "port", "disabled", "udp length", "protocol", "udp checksum", "no checksum"),
    *("version", "ihl", "total", "fragment", "ip checksum", "type", "two tags", "flip", "cut"),
]
HARMLESS = ["no checksum", "options", "tag", "padding"]


def some_frames(chance: random.Random, count: int) -> list[bytes]:
    frames = []
    for number in range(count):
        size = chance.choice([0, 1, 2, 3, 20, chance.randrange(60), chance.randrange(60)])
        if number % 100 == 0:
            size = chance.randrange(1000, 1473)
        faults = {name for name in HARMLESS if chance.random() < 0.3}
        if chance.random() < 0.6:
            faults |= set(chance.sample(FAULTS, chance.choice([1, 1, 2])))
        frames.append(make(chance, chance.randbytes(size), faults))
    return frames


class Bench:
    """The device, its driver and what came out of it, by cycle."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.chance = random.Random(SEED)
        self.watch = Watch(dut.clk, dut.o__payload, dut.o__valid, WIDTH, dut.o_line)
        self.inputs: list[int] = []
        self.drops: dict[int, int] = {}

    async def start(self) -> None:
        dut = self.dut
        layout = filter_layout(2)
        bits = 0
        for number, values in enumerate(FILTERS):
            for name, value in zip(("enabled", "address", "port", "line"), values, strict=True):
                bits |= value << (number * layout.size + layout[name].offset)
        dut.filters.value = bits
        dut.i__valid.value = 0
        dut.i__payload.value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 8, "ns").start())
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        cocotb.start_soon(self.watch.run())
        cocotb.start_soon(self._note())
        await RisingEdge(dut.clk)

    async def _note(self) -> None:
        dut, cycle = self.dut, 0
        while True:
            await FallingEdge(dut.clk)
            cycle += 1
            if int(dut.i__valid.value):
                self.inputs.append(cycle)
            if int(dut.drop_stb.value):
                self.drops[cycle] = int(dut.drop_reason.value)

    async def check(self, frames: list[tuple[bytes, int, bool]], pauses: float) -> dict[str, int]:
        """Send frames, each with its first lane and whether it comes in bad; judge each."""
        dut, chance = self.dut, self.chance
        beats: list[int | None] = []
        sizes = []
        for frame, start, bad in frames:
            mine = to_beats(frame, WIDTH, start, bad, filler=chance.randrange(256))
            sizes.append(len(mine))
            for bits in mine:
                while chance.random() < pauses:
                    beats.append(None)
                beats.append(bits)
        await send_beats(dut.clk, dut.i__payload, dut.i__valid, None, beats)
        await ClockCycles(dut.clk, LATENCY + 4)

        outputs = {frame.cycles[-1]: frame for frame in self.watch.frames}
        counts: dict[str, int] = {}
        at = 0
        for number, ((frame, start, bad), size) in enumerate(zip(frames, sizes, strict=True)):
            cycles = self.inputs[at : at + size]
            at += size
            end = cycles[-1] + LATENCY
            output, reason = outputs.pop(end, None), self.drops.pop(end, None)
            verdict = parse_frame(frame)
            line = None
            if isinstance(verdict, Drop):
                wanted: DropReason | None = verdict.reason
            else:
                line = lines().get((verdict.destination_ip, verdict.destination_port))
                wanted = None if line is not None else DropReason.NOT_SUBSCRIBED
            where = f"frame {number} from lane {start}, seed {SEED}: {frame.hex()}: {verdict}"
            assert reason == (None if bad else wanted), f"reason {reason}, wanted {wanted}; {where}"
            name = "bad" if bad else "passed" if wanted is None else wanted.name
            counts[name] = counts.get(name, 0) + 1
            if bad or wanted is not None:
                assert output is None or output.bad, f"passed, wanted {name}; {where}"
                continue
            assert not isinstance(verdict, Drop)
            assert output is not None, f"nothing came out; {where}"
            assert not output.bad, where
            payload = verdict.payload
            assert output.data == payload, f"{difference(output.data, payload)}; {where}"
            assert set(output.extra) == {line}, where
            if payload:
                header = 12 + (4 if frame[12:14] == b"\x81\x00" else 0) + 2
                place = start + header + (frame[header] & 15) * 4 + 8
                first, last = place // WIDTH, (place + len(payload) - 1) // WIDTH
                due = [cycle + LATENCY for cycle in cycles[first:last]]
                assert output.cycles == [*due, end], where
                assert output.start == place % WIDTH, where
        assert outputs == {}, f"frames from nowhere; seed {SEED}"
        assert self.drops == {}, f"drops from nowhere: {self.drops}; seed {SEED}"
        return counts


@cocotb.test()
async def frames_are_judged_as_the_golden_model_judges_them(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = [
        (frame, bench.chance.choice(STARTS), bench.chance.random() < 0.05)
        for frame in some_frames(bench.chance, FRAMES)
    ]
    counts = await bench.check(frames, pauses=0)
    reasons = {reason.name for reason in DropReason if reason <= DropReason.NOT_SUBSCRIBED}
    assert set(counts) == reasons | {"passed", "bad"}, counts
    assert min(counts.values()) >= FRAMES // 200, counts


@cocotb.test()
async def pauses_inside_frames_change_nothing(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = [
        (frame, bench.chance.choice(STARTS), False) for frame in some_frames(bench.chance, 300)
    ]
    counts = await bench.check(frames, pauses=0.3)
    assert counts["passed"] > 50, counts


@cocotb.test()
async def a_frame_cut_anywhere_is_judged_right(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = []
    for faults in (set(), {"tag"}, {"options"}, {"protocol"}, {"fragment"}, {"ihl"}):
        whole = make(bench.chance, bench.chance.randbytes(21), faults)
        sizes = range(1, len(whole) + 1)
        frames += [(whole[:size], bench.chance.choice(STARTS), False) for size in sizes]
    counts = await bench.check(frames, pauses=0)
    assert counts["passed"] == 3, counts
    assert counts["FRAME_TOO_SHORT"] > 150, counts


@cocotb.test()
async def payloads_of_every_length_pass_with_every_header(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = []
    for size in (*range(34), 1000, 1472):
        for faults in (set(), {"tag"}, {"padding"}, {"tag", "padding", "no checksum"}):
            for start in STARTS:
                payload = bench.chance.randbytes(size)
                frames.append((make(bench.chance, payload, faults), start, False))
    assert await bench.check(frames, pauses=0) == {"passed": len(frames)}


@cocotb.test()
async def a_payload_whose_sum_is_zero_or_all_ones_passes(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = []
    for fill in (b"\0", b"\xff"):
        for size in (2, 16, 1472):
            frames.append((make(bench.chance, fill * size, set()), 0, False))
    # Data chosen so that the checksum comes out as zero and is sent as all ones.
    made = make(random.Random(SEED), b"\0\0", set())
    needed = made[40:42]
    made = make(random.Random(SEED), needed, set())
    assert made[40:42] == b"\xff\xff"
    frames.append((made, 0, False))
    assert await bench.check(frames, pauses=0) == {"passed": len(frames)}


@cocotb.test(skip=not CAPTURES)
async def captured_frames_pass(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = []
    for path in sorted(Path(CAPTURES).glob("*.pcap")):
        with path.open("rb") as file:
            frames += [(frame, STARTS[-1], False) for _, frame in dpkt.pcap.Reader(file)]
    assert len(frames) >= 9
    counts = await bench.check(frames, pauses=0)
    assert counts == {"passed": len(frames)}
