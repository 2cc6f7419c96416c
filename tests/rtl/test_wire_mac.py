"""Frame check sequence and MACs: published values, cocotb benches, refused parameters."""

import random
import zlib
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value
from amaranth.sim import Simulator

from hw.rtl.wire import fcs
from hw.rtl.wire.gmii import GmiiReceiver, GmiiTransmitter
from hw.rtl.wire.xgmii import XgmiiReceiver, XgmiiTransmitter
from sim.tb.runner import run

HERE = Path(__file__).parent


class GmiiMac(Elaboratable):
    """Both halves, and a loop from one to the other."""

    def __init__(self) -> None:
        self.receiver, self.transmitter = GmiiReceiver(), GmiiTransmitter()
        self.loop = Signal()
        self.rxd = Signal(8)
        self.rx_dv = Signal()
        self.rx_er = Signal()
        rx, tx = self.receiver, self.transmitter
        self.ports = [
            *(self.loop, self.rxd, self.rx_dv, self.rx_er),
            *(Value.cast(rx.o.payload), rx.o.valid),
            *(Value.cast(tx.i.payload), tx.i.valid, tx.i.ready),
            *(tx.gmii_txd, tx.gmii_tx_en, tx.gmii_tx_er, tx.begin_stb),
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = rx = self.receiver
        m.submodules.transmitter = tx = self.transmitter
        m.d.comb += [
            rx.gmii_rxd.eq(Mux(self.loop, tx.gmii_txd, self.rxd)),
            rx.gmii_rx_dv.eq(Mux(self.loop, tx.gmii_tx_en, self.rx_dv)),
            rx.gmii_rx_er.eq(Mux(self.loop, tx.gmii_tx_er, self.rx_er)),
        ]
        return m


def fcs_of(width: int, frames: list[tuple[bytes, int]]) -> list[tuple[int, int]]:
    """What FrameCheck says after each frame, given with its first lane; lanes else are noise."""
    device = fcs.FrameCheck(width)
    noise = random.Random(1)
    results = []

    async def bench(ctx):  # type: ignore[no-untyped-def]
        for frame, start in frames:
            position, lane = 0, start
            while position < len(frame):
                count = min(width - lane, len(frame) - position)
                chunk = noise.randbytes(lane) + frame[position : position + count]
                chunk += noise.randbytes(width - len(chunk))
                ctx.set(device.data, int.from_bytes(chunk, "little"))
                ctx.set(device.start, lane)
                ctx.set(device.count, count)
                ctx.set(device.first, position == 0)
                ctx.set(device.en, 1)
                await ctx.tick()
                if noise.random() < 0.1:
                    ctx.set(device.en, 0)
                    await ctx.tick()
                position, lane = position + count, 0
            results.append((ctx.get(device.fcs), ctx.get(device.good)))

    simulator = Simulator(device)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return results


def test_residue_is_the_published_one() -> None:
    assert fcs.RESIDUE == 0xDEBB20E3


@pytest.mark.parametrize("width", [1, 8])
def test_check_value_is_the_published_one(width: int) -> None:
    assert fcs_of(width, [(b"123456789", 0)]) == [(0xCBF43926, 0)]


@pytest.mark.parametrize(("width", "starts"), [(1, [0]), (8, list(range(8)))])
def test_check_sequence_of_any_length_is_that_of_zlib(width: int, starts: list[int]) -> None:
    chance = random.Random(2)
    frames, wanted = [], []
    for start in starts:
        for size in (1, 2, 3, 4, 5, 6, 7, 8, 9, 23):
            frame = chance.randbytes(size)
            check = zlib.crc32(frame).to_bytes(4, "little")
            broken = bytes([*check[:-1], check[-1] ^ 1])
            for part, good in ((frame, 0), (frame + check, 1), (frame + broken, 0)):
                frames.append((part, start))
                wanted.append((zlib.crc32(part), good))
    assert fcs_of(width, frames) == wanted


class XgmiiMac(Elaboratable):
    """Both halves, and a loop from one to the other."""

    def __init__(self) -> None:
        self.receiver, self.transmitter = XgmiiReceiver(), XgmiiTransmitter()
        self.loop = Signal()
        self.rxd = Signal(64)
        self.rxc = Signal(8)
        rx, tx = self.receiver, self.transmitter
        self.ports = [
            *(self.loop, self.rxd, self.rxc),
            *(Value.cast(rx.o.payload), rx.o.valid),
            *(Value.cast(tx.i.payload), tx.i.valid, tx.i.ready),
            *(tx.xgmii_txd, tx.xgmii_txc, tx.begin_stb),
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.receiver = rx = self.receiver
        m.submodules.transmitter = tx = self.transmitter
        m.d.comb += [
            rx.xgmii_rxd.eq(Mux(self.loop, tx.xgmii_txd, self.rxd)),
            rx.xgmii_rxc.eq(Mux(self.loop, tx.xgmii_txc, self.rxc)),
        ]
        return m


@pytest.fixture(autouse=True)
def _benches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the simulator's Python find the bench: the runner hands it this process's path."""
    monkeypatch.syspath_prepend(HERE)


def test_gmii_frames_go_in_and_out() -> None:
    mac = GmiiMac()
    assert run(mac, mac.ports, "gmii_mac", "bench_gmii", HERE) == 7


def test_xgmii_frames_go_in_and_out() -> None:
    mac = XgmiiMac()
    assert run(mac, mac.ports, "xgmii_mac", "bench_xgmii", HERE) == 9


@pytest.mark.parametrize("width", [0, 2, 4, "8"])
def test_check_of_another_width_is_refused(width: object) -> None:
    with pytest.raises(ValueError) as caught:
        fcs.FrameCheck(width)
    assert str(caught.value) == f"width must be 1 or 8, not {width!r}"


@pytest.mark.parametrize("receiver", [GmiiReceiver, XgmiiReceiver])
def test_receiver_of_no_frame_size_is_refused(receiver: type) -> None:
    with pytest.raises(TypeError) as caught:
        receiver("1522")
    assert str(caught.value) == "frame_size_max must be an integer, not '1522'"
    for size in (0, 63, 65536):
        with pytest.raises(ValueError) as refused:
            receiver(size)
        assert str(refused.value) == f"frame_size_max must be 64 to 65535, not {size}"
