"""A feed line from frames to message blocks: cocotb bench against the golden model."""

import os
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value

from hw.rtl.wire.headers import HeaderTracker
from hw.rtl.wire.ipv4 import Ipv4Check
from hw.rtl.wire.line import Line
from hw.rtl.wire.udp import UdpCheck
from sim.tb.runner import run

HERE = Path(__file__).parent
TESTS = 9


class Top(Elaboratable):
    """The line with all inputs in one port and all strobes in another, for a fast bench."""

    def __init__(self, width: int) -> None:
        self.line = line = Line(width)
        self.inputs = Cat(line.i.valid, line.i.payload, line.time)
        self.stimulus = Signal(len(self.inputs))
        self.filters = Signal(len(Value.cast(line.filters)))
        self.any = Signal()
        self.strobes = Cat(line.o.valid, line.frame_stb, line.drop_stb, line.o_end.valid)
        self.flags = Signal(len(self.strobes))
        self.outputs = Cat(line.o.payload, line.o_time, line.o_header)
        self.beat = Signal(len(self.outputs))
        self.verdicts = Cat(line.drop_reason, line.o_end.payload)
        self.verdict = Signal(len(self.verdicts))

    @property
    def ports(self) -> list[Value]:
        return [self.stimulus, self.filters, self.any, self.flags, self.beat, self.verdict]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.line = self.line
        m.d.comb += [
            self.inputs.eq(self.stimulus),
            # Any value that is known and changes with each beat.
            self.line.begin.eq(~self.line.time),
            Value.cast(self.line.filters).eq(self.filters),
            self.line.any.eq(self.any),
            self.flags.eq(self.strobes),
            self.beat.eq(self.outputs),
            self.verdict.eq(self.verdicts),
        ]
        return m


@pytest.mark.parametrize(("width", "frames"), [(1, 1_000), (8, 4_000)])
def test_line_passes_what_the_golden_model_passes(
    width: int, frames: int, real_data: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The simulator's Python finds the bench on this process's path.
    monkeypatch.syspath_prepend(HERE)
    seed = os.environ.get("TICKWIRE_SEED", "20251")
    print(f"seed {seed}")
    top = Top(width)
    environment = {
        "WIDTH": str(width),
        "SEED": seed,
        "FRAMES": str(frames),
        "CAPTURES": str(real_data / "pcap") if real_data else "",
    }
    name = f"wire_line_w{width}"
    assert run(top, top.ports, name, "bench_wire_line", HERE, environment) == TESTS


@pytest.mark.parametrize("component", [Line, HeaderTracker, Ipv4Check, UdpCheck])
@pytest.mark.parametrize("width", [0, 2, 4, "8"])
def test_another_width_is_refused(component: type, width: object) -> None:
    with pytest.raises(ValueError) as caught:
        component(width)
    assert str(caught.value) == f"width must be 1 or 8, not {width!r}"


def test_entry_count_that_is_no_number_of_entries_is_refused() -> None:
    with pytest.raises(TypeError) as caught:
        Line(8, entry_count="4")
    assert str(caught.value) == "entry_count must be an integer, not '4'"
    with pytest.raises(ValueError) as refused:
        Line(8, entry_count=0)
    assert str(refused.value) == "entry_count must be 1 or more, not 0"
