"""Kernels against their hardware in Verilator, beside what :mod:`hw.hls.equivalence` compares."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.hls import equivalence
from hw.hls.equivalence import Report, amaranth
from hw.hls.schedule import Schedule
from hw.hls.stimulus import Numbers
from hw.hls.values import argument_leaves, is_signed, result_leaves, width
from kernels.types import Kernel, Leaf
from sim.tb.runner import run

FOLDER = Path(__file__).parent


def check(kernel: Kernel[..., Any], clock_mhz: float = 156.25, **options: Any) -> Report:
    """Compare a kernel in Python with Numba, Amaranth's simulator and Verilator, and prove it.

    The options are those of :func:`hw.hls.equivalence.check`.
    """
    simulators = {"amaranth": amaranth, "verilator": verilator}
    return equivalence.check(kernel, clock_mhz, simulators=simulators, **options)


class Packed(wiring.Component):
    """A pipeline with all inputs in one port, and all outputs in another: valid is the lowest bit.

    A bench then reads and writes once a cycle. It adds no latency.
    """

    def __init__(self, plan: Schedule, circuit: wiring.Component):
        self.circuit = circuit
        taken = [
            circuit.i_valid,
            *(getattr(circuit, f"i_{n}") for n in argument_leaves(plan.kernel)),
        ]
        given = [circuit.o_valid, *(getattr(circuit, f"o_{n}") for n in result_leaves(plan.kernel))]
        self._taken: list[Value] = taken
        self._given: list[Value] = given
        super().__init__({"i": In(len(Cat(*taken))), "o": Out(len(Cat(*given)))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.circuit = self.circuit
        m.d.comb += [Cat(*self._taken).eq(self.i), self.o.eq(Cat(*self._given))]
        return m


def verilator(
    plan: Schedule, circuit: wiring.Component, inputs: Sequence[Numbers | None]
) -> list[Numbers | None]:
    """Run a circuit in Verilator. See :data:`hw.hls.equivalence.Simulate`."""
    taken, given = argument_leaves(plan.kernel), result_leaves(plan.kernel)
    words = [0 if values is None else _packed(taken, values) for values in inputs]
    top = Packed(plan, circuit)
    with tempfile.TemporaryDirectory() as folder:
        vectors, found = Path(folder, "inputs.json"), Path(folder, "outputs.json")
        vectors.write_text(json.dumps([*words, *[0] * plan.latency]))
        environment = {"INPUTS": str(vectors), "OUTPUTS": str(found)}
        run(top, [top.i, top.o], f"kernel_{plan.kernel.name}", "bench_kernel", FOLDER, environment)
        return [_unpacked(given, word) for word in json.loads(found.read_text())]


def _packed(leaves: dict[str, Leaf], values: Numbers) -> int:
    word, at = 1, 1
    for name, kind in leaves.items():
        word |= (values[name] & (1 << width(kind)) - 1) << at
        at += width(kind)
    return word


def _unpacked(leaves: dict[str, Leaf], word: int) -> Numbers | None:
    if not word & 1:
        return None
    values, word = {}, word >> 1
    for name, kind in leaves.items():
        value = word & (1 << width(kind)) - 1
        below_zero = is_signed(kind) and value >> width(kind) - 1
        values[name] = value - (1 << width(kind)) if below_zero else value
        word >>= width(kind)
    return values
