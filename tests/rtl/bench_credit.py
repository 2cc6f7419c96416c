"""cocotb bench of the execution ring's credit, run by ``test_ring.py``."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.ring.credit import ANSWERS_RESERVED, Credit

SEED = int(os.environ["SEED"])
STROBES = ("begin_stb", "is_order", "sent_stb", "denied_stb", "told_stb", "end_stb")
EVENTS = 4_000


class Bench:
    """A ring of ``slots``, its queue, and what the functional card would count."""

    def __init__(self, dut, slots):
        self.dut = dut
        self.slots = slots
        self.used = 0  # Slots with a record that the host has not released.
        self.queued = 0
        self.open = 0  # Orders.
        self.under_way = []  # Whether each may open an order.

    async def begin(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for name in STROBES:
            getattr(dut, name).value = 0
        self.show()
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        await self.settle()

    def show(self):
        self.dut.free.value = self.slots - self.used
        self.dut.queued.value = self.queued

    async def tick(self, *strobes):
        for name in STROBES:
            getattr(self.dut, name).value = name in strobes
        await FallingEdge(self.dut.clk)
        self.show()

    async def settle(self):
        for _ in range(Credit.LATENCY):
            await self.tick()

    def free(self):
        return self.slots - self.used - self.queued - len(self.under_way)

    def may_send(self):
        """The rule of the functional card, whose every record is in its slot at once."""
        return self.free() >= ANSWERS_RESERVED * (self.open + sum(self.under_way) + 1) + 1


@cocotb.test()
async def slot_is_there_as_the_functional_card_says(dut):
    print(f"seed={SEED}")
    rng = random.Random(SEED)
    bench = Bench(dut, 24)
    await bench.begin()
    seen = set()
    for _ in range(EVENTS):
        expected = bench.may_send(), bench.free() > 0
        assert (bool(dut.slot.value), bool(dut.can_answer.value)) == expected
        seen.add(expected)
        kind = rng.random()
        if kind < 0.35 and expected[1] and len(bench.under_way) < 4:
            is_order = rng.random() < 0.7
            may_send = expected[0]
            bench.under_way.append(is_order and may_send)
            # An order that finds no slot is denied at once.
            await bench.tick("begin_stb", *(["is_order"] if is_order else []))
            if is_order and not may_send:
                bench.under_way.pop()
                bench.queued += 1
                await bench.tick("denied_stb")
        elif kind < 0.6 and bench.under_way and bench.queued < 16:
            is_order = bench.under_way.pop(0)
            bench.queued += 1
            if is_order and rng.random() < 0.7:
                bench.open += 1
                await bench.tick("sent_stb")
            else:
                await bench.tick("denied_stb" if is_order else "told_stb")
        elif kind < 0.66 and bench.open:
            bench.open -= 1
            await bench.tick("end_stb")
        elif kind < 0.9 and bench.queued and bench.used < bench.slots:
            bench.queued -= 1
            bench.used += 1
            await bench.tick()
        elif bench.used:
            bench.used -= rng.choice((1, bench.used) if kind > 0.98 else (0, 1))
            await bench.tick()
        await bench.settle()
    assert seen == {(True, True), (False, True), (False, False)}


@cocotb.test()
async def answer_takes_its_cycles(dut):
    bench = Bench(dut, 2 * ANSWERS_RESERVED + 1)
    await bench.begin()
    assert dut.slot.value
    # One order under way: three for its answers, its own record, and too few for another.
    await bench.tick("begin_stb", "is_order")
    assert dut.slot.value
    await bench.tick()
    assert not dut.slot.value
    await bench.tick("denied_stb")
    await bench.tick()
    assert dut.slot.value
