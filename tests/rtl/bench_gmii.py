"""The GMII MAC against cocotbext-eth: frames in and out, errors, gaps, latency and throughput."""

import os
import random
import zlib
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from cocotbext.eth import GmiiFrame, GmiiSink, GmiiSource
from wire_beats import Received, Watch, difference, send_beats, to_beats

SEED = int(os.environ.get("SEED", "1"))
LENGTHS = [*range(60, 84), 127, 128, 129, 511, 700, 1023, 1500, 1513, *range(1514, 1519)]
"""Frame sizes without FCS: all residues modulo 8, and both ends."""


class Bench:
    """The device, its drivers and monitors."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.random = random.Random(SEED)
        self.source = GmiiSource(dut.rxd, dut.rx_er, dut.rx_dv, dut.clk)
        self.sink = GmiiSink(dut.gmii_txd, dut.gmii_tx_er, dut.gmii_tx_en, dut.clk)
        self.watch = Watch(dut.clk, dut.o__payload, dut.o__valid, 1)
        self.dv_cycles: list[int] = []
        self.en_cycles: list[int] = []
        self.ready_cycles: list[int] = []
        self.begins: list[int] = []
        self.pins: list[bytearray] = []
        """What was on the pins, frame by frame. The sink of the library wakes up at the first byte
        after a pause and misses it, so the preamble is judged here."""

    async def start(self, loop: bool = False) -> None:
        dut = self.dut
        dut.loop.value = int(loop)
        dut.i__valid.value = 0
        dut.i__payload.value = 0
        dut.rst.value = 1
        cocotb.start_soon(Clock(dut.clk, 8, "ns").start())
        await ClockCycles(dut.clk, 3)
        dut.rst.value = 0
        cocotb.start_soon(self.watch.run())
        cocotb.start_soon(self._note_cycles())
        await RisingEdge(dut.clk)

    async def _note_cycles(self) -> None:
        dut, cycle, dv, en = self.dut, 0, 0, 0
        while True:
            await FallingEdge(dut.clk)
            cycle += 1
            now = int(dut.rx_dv.value)
            if now and not dv:
                self.dv_cycles.append(cycle)
            dv = now
            now = int(dut.gmii_tx_en.value)
            if now != en:
                self.en_cycles.append(cycle)
                if now:
                    self.pins.append(bytearray())
            en = now
            if int(dut.begin_stb.value):
                self.begins.append(cycle)
            if en:
                self.pins[-1].append(int(dut.gmii_txd.value))
            if int(dut.i__valid.value):
                self.ready_cycles.append(cycle)

    def frame(self, size: int) -> bytes:
        return self.random.randbytes(size)

    async def receive(self, frames: list[GmiiFrame]) -> list[Received]:
        for frame in frames:
            await self.source.send(frame)
        await self.source.wait()
        await ClockCycles(self.dut.clk, 12)
        return self.watch.frames

    async def transmit(self, beats: list[int | None]) -> None:
        dut = self.dut
        await send_beats(dut.clk, dut.i__payload, dut.i__valid, dut.i__ready, beats)


def check(got: list[Received], wanted: list[tuple[bytes, bool]]) -> None:
    for number, (frame, (data, bad)) in enumerate(zip(got, wanted, strict=False)):
        assert frame.data == data, f"frame {number} seed {SEED}: {difference(frame.data, data)}"
        assert frame.bad == bad, f"frame {number} seed {SEED}: bad={frame.bad}, {len(data)} bytes"
    assert len(got) == len(wanted), f"{len(got)} frames, wanted {len(wanted)}; seed {SEED}"


@cocotb.test()
async def frames_of_every_length_are_received_back_to_back(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = [bench.frame(size) for size in LENGTHS]
    got = await bench.receive([GmiiFrame.from_payload(frame) for frame in frames])
    check(got, [(frame, False) for frame in frames])
    for begin, frame in zip(bench.dv_cycles, got, strict=True):
        # Eight cycles of preamble and delimiter, then 6 from byte to beat and no bubble.
        wanted = list(range(begin + 8 + 6, begin + 8 + 6 + len(frame.data)))
        assert frame.cycles == wanted
    gaps = [b - a for a, b in zip(bench.dv_cycles, bench.dv_cycles[1:], strict=False)]
    assert gaps == [size + 24 for size in LENGTHS[:-1]], "the source did not keep the least gap"


@cocotb.test()
async def damaged_frames_are_bad(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    sent, wanted = [], []

    def add(frame: GmiiFrame, data: bytes, bad: bool) -> None:
        sent.append(frame)
        wanted.append((data, bad))

    for size in (60, 61, 100, 1514):
        data = bench.frame(size)
        add(GmiiFrame.from_payload(data), data, False)
        for place in (0, size - 1, size, size + 3):
            frame = GmiiFrame.from_payload(data)
            frame.data[8 + place] ^= 1 << bench.random.randrange(8)
            add(frame, bytes(frame.data[8:-4]), True)
        for place in (0, size // 2, size, size + 3):
            frame = GmiiFrame.from_payload(data)
            frame.error = [0] * len(frame.data)
            frame.error[8 + place] = 1
            add(frame, data, True)
    # Runts, though their check sequence is right: 5 bytes with it up to 63.
    for size in (1, 2, 30, 59):
        data = bench.frame(size)
        add(GmiiFrame.from_payload(data, min_len=0), data, True)
    # The longest with a VLAN tag is 1522 with its check sequence.
    for size, bad in ((1518, False), (1519, True), (1600, True), (2600, True)):
        data = bench.frame(size)
        add(GmiiFrame.from_payload(data), data, bad)
    data = bench.frame(60)
    add(GmiiFrame.from_payload(data), data, False)
    check(await bench.receive(sent), wanted)


@cocotb.test()
async def what_is_no_frame_is_skipped(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    data = bench.frame(64)
    good = GmiiFrame.from_payload(data)
    in_preamble = GmiiFrame.from_payload(data)
    in_preamble.error = [0, 1] + [0] * (len(in_preamble.data) - 2)
    frames = [
        GmiiFrame(b"\x55" * 20),
        good,
        GmiiFrame(b"\x55\x55\x54\xd5" + good.data[8:]),
        in_preamble,
        GmiiFrame(b"\x55" * 7 + b"\xd5"),
        GmiiFrame(b"\x55" * 7 + b"\xd5" + b"abcd"),
        good,
    ]
    check(await bench.receive(frames), [(data, False)] * 2)


@cocotb.test()
async def a_preamble_may_have_any_length_and_the_gap_one_cycle(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    bench.source.ifg = 1
    frames = [bench.frame(60) for _ in range(9)]
    sent = [
        GmiiFrame(b"\x55" * count + GmiiFrame.from_payload(frame).data[7:])
        for count, frame in enumerate(reversed(frames))
    ]
    got = await bench.receive(sent[::-1])
    check(got, [(frame, False) for frame in frames])


@cocotb.test()
async def frames_are_sent_with_preamble_padding_and_check_sequence(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = [bench.frame(size) for size in [1, 2, 14, 58, 59, *LENGTHS]]
    await bench.transmit([bits for frame in frames for bits in to_beats(frame, 1)])
    await ClockCycles(dut.clk, 40)
    for number, frame in enumerate(frames):
        got = bench.sink.recv_nowait()
        padded = frame.ljust(60, b"\0")
        wire = b"\x55" * 7 + b"\xd5" + padded + zlib.crc32(padded).to_bytes(4, "little")
        seen = bytes(bench.pins[number])
        assert seen == wire, f"frame {number}: {difference(seen, wire)}"
        assert bytes(got.get_payload()) == padded
        assert got.check_fcs()
        assert got.error is None or not any(got.error)
    assert bench.sink.empty()
    starts, ends = bench.en_cycles[::2], bench.en_cycles[1::2]
    assert starts[0] == bench.ready_cycles[0] + 1
    assert [b - a for a, b in zip(ends, starts[1:], strict=False)] == [12] * (len(frames) - 1)
    assert bench.begins == [start + 8 for start in starts]


@cocotb.test()
async def a_frame_with_a_pause_or_a_bad_end_leaves_with_an_error(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    good = bench.frame(70)
    for pause in (1, 2, 69):
        beats: list[int | None] = [*to_beats(good, 1)]
        await bench.transmit([*beats[:pause], None, *beats[pause:], *beats])
    await bench.transmit([*to_beats(good, 1, bad=True), *to_beats(good, 1)])
    # The rest of a frame that has lost its first beat is no frame.
    await bench.transmit([*to_beats(good, 1)[5:], *to_beats(good, 1)])
    await ClockCycles(dut.clk, 120)
    outcome = []
    while not bench.sink.empty():
        frame = bench.sink.recv_nowait()
        outcome.append(bool(frame.error and frame.error[-1]))
        assert outcome[-1] or bytes(frame.get_payload()) == good
    assert outcome == [True, False] * 4 + [False]


@cocotb.test()
async def what_is_sent_is_received(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start(loop=True)
    frames = [bench.frame(bench.random.randrange(1, 300)) for _ in range(60)]
    beats: list[int | None] = []
    wanted = []
    for number, frame in enumerate(frames):
        bad = number % 5 == 4
        beats += to_beats(frame, 1, bad=bad)
        if not bad:
            wanted.append(frame.ljust(60, b"\0"))
    await bench.transmit(beats)
    await ClockCycles(dut.clk, 120)
    good = [frame.data for frame in bench.watch.frames if not frame.bad]
    for number, (got, data) in enumerate(zip(good, wanted, strict=False)):
        assert got == data, f"frame {number} seed {SEED}: {difference(got, data)}"
    assert len(good) == len(wanted) == 48
