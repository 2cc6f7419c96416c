"""Designs as Verilator takes them."""

import re
import subprocess

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from sim.verilator import TOOL, Flat, environment, to_verilog

DEPTH = 64
KEPT = {5: 0x81, 63: 0x01}


class Design(wiring.Component):
    """A memory that is zero but for two places, and single bits that are set to zero by cases."""

    def __init__(self):
        super().__init__(
            {"chosen": In(2), "address": In(range(DEPTH)), "o": Out(4), "word": Out(8)}
        )

    def elaborate(self, platform):
        m = Module()
        init = [KEPT.get(n, 0) for n in range(DEPTH)]
        m.submodules.memory = memory = Memory(shape=8, depth=DEPTH, init=init)
        read = memory.read_port()
        write = memory.write_port()
        m.d.comb += [read.addr.eq(self.address), self.word.eq(read.data)]
        m.d.comb += [write.addr.eq(self.address), write.en.eq(self.chosen.all())]
        state = Signal(4, init=0b1111)
        with m.Switch(self.chosen):
            for case in range(3):
                with m.Case(case):
                    m.d.sync += state[case].eq(0)
        m.d.comb += self.o.eq(state)
        return m


@pytest.mark.parametrize("named", [False, True])
def test_memory_says_only_what_is_not_zero(named, tmp_path):
    top = Flat(Design())
    text = to_verilog(top, top.ports, "design", named)
    initial = re.findall(r"\[(\d+)\] = 8'h(\w+);", text)
    assert {int(place): int(value, 16) for place, value in initial} == KEPT
    (tmp_path / "design.v").write_text(text)
    with environment():
        done = subprocess.run(
            [TOOL / "verilator", "--lint-only", "-Wno-fatal", "--top-module", "design", "design.v"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"= 1'h0;", text)) >= 3


def test_names_are_kept_where_they_are_asked_for():
    top = Flat(Design())
    modules = [
        re.findall(r"^module \\?(\S+)", to_verilog(top, top.ports, "design", named), re.MULTILINE)
        for named in (False, True)
    ]
    assert modules == [["design"], ["design", "design.component"]]
