"""Register bank, card clock and latency histograms, against the register map."""

import os
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module

from hw.rtl.csr import RegisterBank
from hw.rtl.params import CardParams
from hw.rtl.telemetry import (
    CardClock,
    CauseTimes,
    HighWater,
    LatencyHistogram,
    LatencyMeters,
    step_of,
)
from protocol.registers import LATENCY_BUCKETS, Capability, LatencyStage
from sim.tb.plain import Plain
from sim.tb.runner import run

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
SYMBOLS = 4
ORDERS = 64
CLOCK_MHZ = 156.25
CAPABILITIES = 1 << Capability.HOLD | 1 << Capability.LATENCY | 1 << Capability.DOORBELL
BENCH_TESTS = 12


class Top(Elaboratable):
    """The bank with clock and meters behind it; their other ports are those of the top."""

    def __init__(self):
        params = CardParams(symbol_count=SYMBOLS, order_count=ORDERS)
        self.bank = Plain(RegisterBank(params, CLOCK_MHZ, CAPABILITIES))
        self.meters = Plain(LatencyMeters(len(LatencyStage), LATENCY_BUCKETS))
        self.clock = Plain(CardClock())
        self.water = Plain(HighWater(2, 8))
        for what, part in (("meters", self.meters), ("water", self.water)):
            for port in part.ports:
                port.name = f"{what}_{port.name}"
        inside = {"clock_ns", "bucket", "bucket_count", "clock_step"}
        bank = [
            port
            for port in self.bank.ports
            if port.name not in inside and not port.name.startswith("latency")
        ]
        meters = [port for port in self.meters.ports if port.name.split("_")[1] in ("begin", "end")]
        self.ports = [*bank, *meters, *self.water.ports, self._of(self.bank, "clock_ns")]

    @staticmethod
    def _of(part, name):
        return next(port for port in part.ports if port.name == name)

    def elaborate(self, platform):
        m = Module()
        m.submodules.bank = self.bank
        m.submodules.meters = self.meters
        m.submodules.clock = self.clock
        m.submodules.water = self.water
        bank, meters = self.bank, self.meters
        m.d.comb += [
            self._of(self.clock, "step").eq(self._of(bank, "clock_step")),
            self._of(bank, "clock_ns").eq(self._of(self.clock, "time")),
            self._of(meters, "meters_bucket").eq(self._of(bank, "bucket")),
            self._of(bank, "bucket_count").eq(self._of(meters, "meters_o_bucket")),
        ]
        for i in range(len(LatencyStage)):
            for what, name in (
                ("count", "latency_count"),
                ("sum", "latency_sum_ns"),
                ("min", "latency_min_ns"),
                ("max", "latency_max_ns"),
            ):
                shown = self._of(meters, f"meters_{what}_{i}")
                m.d.comb += self._of(bank, f"{name}_{i}").eq(shown)
        return m


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: RegisterBank(4, 100.0), TypeError, "params must be a CardParams, not 4"),
        (
            lambda: RegisterBank(CardParams(), 1.0),
            ValueError,
            "clock_mhz must be 3.92 or more, not 1.0",
        ),
        (
            lambda: RegisterBank(CardParams(), 100.0, 0x20),
            ValueError,
            "capabilities must have bits 0 to 4, not 0x20",
        ),
        (
            lambda: RegisterBank(CardParams(), 100.0, "1"),
            TypeError,
            "capabilities must be an integer, not '1'",
        ),
        (lambda: LatencyHistogram(1), ValueError, "bucket_count must be 2 to 64, not 1"),
        (lambda: LatencyHistogram(8, 64), ValueError, "width must be 1 to 63, not 64"),
        (lambda: LatencyHistogram(8, "4"), TypeError, "width must be an integer, not '4'"),
        (lambda: LatencyMeters(0), ValueError, "stage_count must be 1 or more, not 0"),
        (lambda: LatencyMeters(2, 12), ValueError, "bucket_count must be a power of two, not 12"),
        (lambda: LatencyMeters("2"), TypeError, "stage_count must be an integer, not '2'"),
        (lambda: CauseTimes(3), ValueError, "depth must be a power of two, 2 or more, not 3"),
        (lambda: CauseTimes("8"), TypeError, "depth must be an integer, not '8'"),
    ],
)
def test_bad_argument_is_refused(make, error, text):
    with pytest.raises(error) as refused:
        make()
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("mhz", "step"), [(125.0, 8 << 32), (156.25, 27_487_790_694), (250.0, 4 << 32)]
)
def test_step_of_a_clock(mhz, step):
    assert step_of(mhz) == step


def test_bank_is_the_register_map():
    top = Top()
    environment = {
        "SEED": str(SEED),
        "SYMBOLS": str(SYMBOLS),
        "ORDERS": str(ORDERS),
        "STEP": str(step_of(CLOCK_MHZ)),
        "CAPABILITIES": str(CAPABILITIES),
    }
    assert run(top, top.ports, "registers", "bench_csr", FOLDER, environment) == BENCH_TESTS
