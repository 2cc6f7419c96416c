"""The XGMII MAC against cocotbext-eth: start and terminate lanes, errors, gaps, latency."""

import os
import random
import zlib
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge
from cocotbext.eth import XgmiiFrame, XgmiiSink, XgmiiSource
from wire_beats import Received, Watch, difference, send_beats, to_beats

SEED = int(os.environ.get("SEED", "1"))
LENGTHS = [*range(60, 100), *range(124, 134), 511, 700, 1023, *range(1506, 1519)]
"""Frame sizes without FCS: all residues modulo 8, and both ends."""
IDLE, START, TERMINATE, ERROR, SEQUENCE = 0x07, 0xFB, 0xFD, 0xFE, 0x9C
PREAMBLE = bytes.fromhex("555555555555d5")


def checked(data: bytes) -> bytes:
    return data + zlib.crc32(data).to_bytes(4, "little")


class Bench:
    """The device, its drivers and monitors."""

    def __init__(self, dut: Any, source: bool = True) -> None:
        self.dut = dut
        self.random = random.Random(SEED)
        if source:
            self.source = XgmiiSource(dut.rxd, dut.rxc, dut.clk)
        self.sink = XgmiiSink(dut.xgmii_txd, dut.xgmii_txc, dut.clk)
        self.watch = Watch(dut.clk, dut.o__payload, dut.o__valid, 8)
        self.start_columns: list[tuple[int, int]] = []
        """Cycle and lane of each start character that came in."""
        self.sent: list[tuple[int, int]] = []
        """Characters that went out, with whether they are control characters."""
        self.offered: list[int] = []
        self.begins: list[int] = []
        """Where in what went out there was said to be the first byte of a frame."""

    async def start(self, loop: bool = False) -> None:
        dut = self.dut
        dut.loop.value = int(loop)
        dut.i__valid.value = 0
        dut.i__payload.value = 0
        dut.rst.value = 1
        dut.rxd.value = int.from_bytes(bytes([IDLE] * 8), "little")
        dut.rxc.value = 0xFF
        cocotb.start_soon(Clock(dut.clk, 6400, "ps").start())
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
            data, control = int(dut.rxd.value), int(dut.rxc.value)
            for lane in (0, 4):
                if control >> lane & 1 and data >> 8 * lane & 0xFF == START:
                    self.start_columns.append((cycle, lane))
            if int(dut.begin_stb.value):
                self.begins.append(len(self.sent))
            data, control = int(dut.xgmii_txd.value), int(dut.xgmii_txc.value)
            self.sent += [(data >> 8 * lane & 0xFF, control >> lane & 1) for lane in range(8)]
            if int(dut.i__valid.value):
                self.offered.append(cycle)

    async def receive(self, frames: list[XgmiiFrame]) -> list[Received]:
        for frame in frames:
            await self.source.send(frame)
        await self.source.wait()
        await ClockCycles(self.dut.clk, 12)
        return self.watch.frames

    async def columns(self, characters: list[tuple[int, int]]) -> None:
        """Put characters, each with whether it is a control character, on the receiver's pins."""
        characters = characters + [(IDLE, 1)] * (-len(characters) % 8 + 48)
        for at in range(0, len(characters), 8):
            part = characters[at : at + 8]
            self.dut.rxd.value = int.from_bytes(bytes(byte for byte, _ in part), "little")
            self.dut.rxc.value = sum(flag << lane for lane, (_, flag) in enumerate(part))
            await RisingEdge(self.dut.clk)

    async def transmit(self, beats: list[int | None]) -> None:
        dut = self.dut
        await send_beats(dut.clk, dut.i__payload, dut.i__valid, dut.i__ready, beats)


def check(got: list[Received], wanted: list[tuple[bytes, bool]]) -> None:
    for number, (frame, (data, bad)) in enumerate(zip(got, wanted, strict=False)):
        assert frame.data == data, f"frame {number} seed {SEED}: {difference(frame.data, data)}"
        assert frame.bad == bad, f"frame {number} seed {SEED}: bad={frame.bad}, {len(data)} bytes"
    assert len(got) == len(wanted), f"{len(got)} frames, wanted {len(wanted)}; seed {SEED}"


def last_cycle(first_column: int, lane: int, size: int) -> int:
    """When the last beat comes, from the lanes that the frame and its check sequence fill."""
    ends = lane + size + 4
    terminate_lane = ends % 8
    # The column with the terminate character, or the one before it, holds the last byte.
    column = first_column + ends // 8
    last = first_column + (lane + size - 1) // 8
    waits = last < column and terminate_lane <= 4
    return last + (3 if waits else 2)


async def _every_length(dut: Any, offset: bool) -> None:
    bench = Bench(dut)
    bench.source.force_offset_start = offset
    await bench.start()
    frames = [bench.random.randbytes(size) for size in LENGTHS]
    got = await bench.receive([XgmiiFrame.from_payload(frame) for frame in frames])
    check(got, [(frame, False) for frame in frames])
    lanes = {lane for _, lane in bench.start_columns}
    assert lanes == ({4} if offset else {0, 4}), lanes
    endings = set()
    for (column, lane), frame in zip(bench.start_columns, got, strict=True):
        size = len(frame.data)
        first, count = column + 1, -(-(lane + size) // 8)
        wanted = [first + beat + 2 for beat in range(count)]
        wanted[-1] = last_cycle(first, lane, size)
        assert (frame.start, frame.cycles) == (lane, wanted), f"{size} bytes from lane {lane}"
        endings.add((lane + size + 4) % 8)
    assert endings == set(range(8)), "not every lane saw a terminate character"


@cocotb.test()
async def frames_of_every_length_are_received_at_the_least_gap(dut: Any) -> None:
    await _every_length(dut, offset=False)


@cocotb.test()
async def frames_that_start_in_lane_4_are_received(dut: Any) -> None:
    await _every_length(dut, offset=True)


@cocotb.test()
async def every_start_and_terminate_lane_is_met(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = [bench.random.randbytes(60 + bench.random.randrange(24)) for _ in range(400)]
    got = await bench.receive([XgmiiFrame.from_payload(frame) for frame in frames])
    check(got, [(frame, False) for frame in frames])
    met = {(frame.start, (frame.start + len(frame.data) + 4) % 8) for frame in got}
    assert met == {(start, end) for start in (0, 4) for end in range(8)}


@cocotb.test()
async def damaged_frames_are_bad(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    sent, wanted = [], []

    def add(frame: XgmiiFrame, data: bytes, bad: bool) -> None:
        sent.append(frame)
        wanted.append((data, bad))

    for size in range(60, 76):
        data = bench.random.randbytes(size)
        add(XgmiiFrame.from_payload(data), data, False)
        for place in (0, size - 1, size, size + 3):
            frame = XgmiiFrame.from_payload(data)
            frame.data[8 + place] ^= 1 << bench.random.randrange(8)
            add(frame, bytes(frame.data[8:-4]), True)
    # Runts, though their check sequence is right.
    for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 30, 59):
        data = bench.random.randbytes(size)
        add(XgmiiFrame.from_payload(data, min_len=0), data, True)
    # The longest with a VLAN tag is 1522 with its check sequence.
    for size in (*range(1512, 1530), 2600):
        data = bench.random.randbytes(size)
        add(XgmiiFrame.from_payload(data), data, size > 1518)
    data = bench.random.randbytes(60)
    add(XgmiiFrame.from_payload(data), data, False)
    check(await bench.receive(sent), wanted)


def frame_characters(data: bytes) -> list[tuple[int, int]]:
    """A whole frame from start to terminate, as characters."""
    body = PREAMBLE + checked(data)
    return [(START, 1), *((byte, 0) for byte in body), (TERMINATE, 1)]


@cocotb.test()
async def a_control_character_inside_a_frame_makes_it_bad(dut: Any) -> None:
    bench = Bench(dut, source=False)
    await bench.start()
    wanted = []
    for lead in (0, 4):
        for size in (60, 63, 65):
            for place in range(12, 24):
                for character in (ERROR, IDLE, SEQUENCE):
                    data = bench.random.randbytes(size)
                    characters = [(IDLE, 1)] * lead + frame_characters(data)
                    characters[lead + 8 + place] = (character, 1)
                    await bench.columns(characters)
                    wanted.append((data[: place - 4], True))
        # The check sequence is right, but what follows it is not a terminate character.
        for character in (ERROR, IDLE):
            whole = bench.random.randbytes(64)
            characters = [(IDLE, 1)] * lead + frame_characters(whole)
            await bench.columns([*characters[:-1], (character, 1)])
            wanted.append((whole, True))
        good = bench.random.randbytes(64)
        await bench.columns([(IDLE, 1)] * lead + frame_characters(good))
        wanted.append((good, False))
    check(bench.watch.frames, wanted)


@cocotb.test()
async def what_is_no_frame_is_ignored(dut: Any) -> None:
    bench = Bench(dut, source=False)
    await bench.start()
    data = bench.random.randbytes(64)
    fault = [(SEQUENCE, 1), (0, 0), (0, 0), (1, 0)]
    idle = [(IDLE, 1)] * 4
    whole = frame_characters(data)
    broken_preamble = whole.copy()
    broken_preamble[7] = (0x55, 0)
    error_in_preamble = whole.copy()
    error_in_preamble[3] = (ERROR, 1)
    for lead in ([], idle):
        await bench.columns(fault * 2)
        await bench.columns(fault + lead + fault + whole)
        await bench.columns([*lead, *broken_preamble])
        await bench.columns([*lead, *error_in_preamble])
        await bench.columns([*lead, *whole[:8], (TERMINATE, 1)])
        await bench.columns([*lead, *whole[:12], (TERMINATE, 1)])
        await bench.columns([(IDLE, 1), *lead, *whole])  # a start in lane 1 or 5 is none
        await bench.columns([*whole[8:]])
        await bench.columns([*lead, *whole])
    check(bench.watch.frames, [(data, False)] * 4)


@cocotb.test()
async def frames_are_sent_with_preamble_padding_and_check_sequence(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    frames = [bench.random.randbytes(size) for size in [1, 2, 7, 8, 9, 56, 57, 59, *LENGTHS]]
    await bench.transmit([bits for frame in frames for bits in to_beats(frame, 8)])
    await ClockCycles(dut.clk, 24)
    for number, frame in enumerate(frames):
        got = bench.sink.recv_nowait()
        padded = frame.ljust(60, b"\0")
        data = bytes(got.get_payload())
        assert data == padded, f"frame {number}: {difference(data, padded)}"
        assert got.check_fcs()
        assert got.start_lane == 0
        assert not got.ctrl or not any(got.ctrl[1:])
    assert bench.sink.empty()
    # The same on the pins: nothing but idle between the frames, and at least 12 bytes of it.
    at = bench.sent.index((START, 1))
    assert at == 8 * (bench.offered[0] + 1)  # two cycles after the first beat was offered
    for number, (frame, begin) in enumerate(zip(frames, bench.begins, strict=True)):
        wanted = frame_characters(frame.ljust(60, b"\0"))
        assert begin == at + 8, f"frame {number}"  # behind preamble and delimiter
        seen = bench.sent[at : at + len(wanted)]
        assert seen == wanted, f"frame {number} of {len(frame)} bytes"
        beats = max(len(frame) + 7, 64) // 8
        after = at + 8 * (beats + 3)
        gap = bench.sent[at + len(wanted) - 1 : after]
        assert 12 <= len(gap) <= 19
        assert gap[1:] == [(IDLE, 1)] * (len(gap) - 1)
        at = after


@cocotb.test()
async def a_frame_with_a_pause_or_a_bad_end_leaves_with_an_error(dut: Any) -> None:
    bench = Bench(dut)
    await bench.start()
    good = bench.random.randbytes(100)
    for pause in (1, 2, 7, 8, 12):
        beats: list[int | None] = [*to_beats(good, 8)]
        await bench.transmit([*beats[:pause], None, *beats[pause:], *beats])
    for size in (5, 60, 100):
        await bench.transmit([*to_beats(good[:size], 8, bad=True), *to_beats(good, 8)])
    # The rest of a frame that has lost its first beat is no frame.
    await bench.transmit([*to_beats(good, 8)[5:], *to_beats(good, 8)])
    await ClockCycles(dut.clk, 40)
    outcome = []
    while not bench.sink.empty():
        frame = bench.sink.recv_nowait()
        outcome.append(
            ERROR in [d for d, c in zip(frame.data, frame.ctrl or [], strict=False) if c]
        )
        assert outcome[-1] or bytes(frame.get_payload()) == good
    assert outcome == [True, False] * 8 + [False]


@cocotb.test()
async def what_is_sent_is_received(dut: Any) -> None:
    bench = Bench(dut, source=False)
    await bench.start(loop=True)
    frames = [bench.random.randbytes(bench.random.randrange(1, 300)) for _ in range(200)]
    beats: list[int | None] = []
    wanted = []
    for number, frame in enumerate(frames):
        bad = number % 5 == 4
        beats += to_beats(frame, 8, bad=bad)
        if not bad:
            wanted.append(frame.ljust(60, b"\0"))
    await bench.transmit(beats)
    await ClockCycles(dut.clk, 24)
    good = [frame.data for frame in bench.watch.frames if not frame.bad]
    for number, (got, data) in enumerate(zip(good, wanted, strict=False)):
        assert got == data, f"frame {number} seed {SEED}: {difference(got, data)}"
    assert len(good) == len(wanted) == 160
