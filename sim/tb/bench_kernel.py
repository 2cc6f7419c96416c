"""cocotb bench of a packed kernel, run by :mod:`sim.tb.kernels`: a word in, a word out a cycle."""

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge


@cocotb.test()
async def every_cycle_takes_a_word_and_gives_one(dut: Any) -> None:
    words = json.loads(Path(os.environ["INPUTS"]).read_text())
    dut.i.value = 0
    dut.rst.value = 1
    Clock(dut.clk, 10, unit="ns").start()
    for _ in range(2):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    found = []
    for word in words:
        dut.i.value = word
        # Outputs are registers: what stands here came of the edges before.
        found.append(int(dut.o.value))
        await FallingEdge(dut.clk)
    Path(os.environ["OUTPUTS"]).write_text(json.dumps(found))
