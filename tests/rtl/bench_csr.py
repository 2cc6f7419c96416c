"""cocotb bench of the register bank, run by ``test_csr.py``."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from protocol import registers
from protocol.registers import LATENCY_BUCKETS, REGISTERS, Access, LatencyStage

SEED = int(os.environ["SEED"])
SYMBOLS = int(os.environ["SYMBOLS"])
ORDERS = int(os.environ["ORDERS"])
STEP = int(os.environ["STEP"])
CAPABILITIES = int(os.environ["CAPABILITIES"])

MASK = (1 << 64) - 1
READ_CYCLES = 5
WRITE_CYCLES = 2
OF_THE_CARD = {
    "symbol_count": SYMBOLS,
    "order_count": ORDERS,
    "clock_step": STEP,
    "capabilities": CAPABILITIES,
}
COUNTERS = [
    (register, index)
    for register in REGISTERS
    if 0x200 <= register.offset < 0x800
    for index in range(register.count)
]
SPECIAL = ("hold", "clock_step", "kill", "control", "heartbeat_timeout_ns")


def port(dut, register, index):
    name = register.name if register.count == 1 else f"{register.name}_{index}"
    return getattr(dut, name)


class Bench:
    def __init__(self, dut):
        self.dut = dut

    async def begin(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        for name in ("address", "write_stb", "write_data", "read_stb", "heartbeat_stb"):
            getattr(dut, name).value = 0
        dut.order_session_end_stb.value = 0
        dut.meters_end_stb.value = 0
        dut.water_levels_0.value = dut.water_levels_1.value = 0
        for register, index in COUNTERS:
            port(dut, register, index).value = 0
        dut.rst.value = 1
        await FallingEdge(dut.clk)
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        return self

    async def cycles(self, count):
        for _ in range(count):
            await FallingEdge(self.dut.clk)

    async def read(self, address):
        """Read, and see that the data comes when it shall."""
        dut = self.dut
        dut.address.value, dut.read_stb.value = address, 1
        await FallingEdge(dut.clk)
        dut.read_stb.value = 0
        for _ in range(READ_CYCLES - 1):
            assert not dut.o_read_stb.value
            await FallingEdge(dut.clk)
        assert dut.o_read_stb.value
        return int(dut.o_read_data.value)

    async def get(self, register, index=0):
        return await self.read(register.address(index))

    async def write(self, address, value):
        dut = self.dut
        dut.address.value, dut.write_data.value, dut.write_stb.value = address, value, 1
        await FallingEdge(dut.clk)
        dut.write_stb.value = 0
        await self.cycles(WRITE_CYCLES - 1)

    async def put(self, register, value, index=0):
        await self.write(register.address(index), value)


@cocotb.test()
async def registers_read_as_after_reset(dut):
    bench = await Bench(dut).begin()
    await bench.cycles(2 * LATENCY_BUCKETS)
    for register in REGISTERS:
        if register.access is Access.W or register is registers.CLOCK_NS:
            continue
        for index in range(min(register.count, 160)):
            expected = OF_THE_CARD.get(register.name, register.init or 0)
            if register is registers.LATENCY_MIN_NS:
                expected = (1 << 40) - 1
            assert await bench.get(register, index) == expected, (register.name, index)


@cocotb.test()
async def every_register_keeps_its_own_value(dut):
    print(f"seed={SEED}")
    bench = await Bench(dut).begin()
    rng = random.Random(SEED)
    written = {}
    for register in REGISTERS:
        if register.access is not Access.RW or register.name in SPECIAL:
            continue
        for index in range(min(register.count, SYMBOLS)):
            value = rng.getrandbits(64)
            await bench.put(register, value, index)
            written[register, index] = value
            if register.offset < registers.SYMBOL_STOCK.offset:
                assert int(port(dut, register, index).value) == value, register.name
    for register, index in COUNTERS:
        written[register, index] = rng.getrandbits(64)
        port(dut, register, index).value = written[register, index]
    for (register, index), value in written.items():
        assert await bench.get(register, index) == value, (register.name, index)


@cocotb.test()
async def what_is_no_register_reads_zero_and_takes_nothing(dut):
    bench = await Bench(dut).begin()
    known = {
        register.address(index)
        for register in REGISTERS
        for index in range(min(register.count, 1024))
    }
    empty = [address for address in range(0, 0x2000, 8) if address not in known]
    beyond = registers.SYMBOL_STOCK.address(SYMBOLS), registers.SYMBOL_LOCATE.address(SYMBOLS)
    for address in (*empty[::7], *beyond, registers.IDENTITY_REGISTER.address()):
        await bench.write(address, MASK)
        found = await bench.read(address)
        assert found == (registers.IDENTITY if address == 0 else 0), hex(address)
    assert int(dut.kill.value) == 1
    assert await bench.get(registers.CONTROL) == 0


@cocotb.test()
async def read_is_taken_every_cycle(dut):
    bench = await Bench(dut).begin()
    asked = [registers.IDENTITY_REGISTER, registers.KILL, registers.SYMBOL_COUNT, registers.VERSION]
    expected = [registers.IDENTITY, 1, SYMBOLS, 0x1_0004]
    found = []
    for cycle in range(len(asked) + READ_CYCLES):
        dut.read_stb.value = cycle < len(asked)
        if cycle < len(asked):
            dut.address.value = asked[cycle].address()
        await FallingEdge(dut.clk)
        if dut.o_read_stb.value:
            found.append((cycle + 1, int(dut.o_read_data.value)))
    await bench.cycles(1)
    assert found == [(READ_CYCLES + i, value) for i, value in enumerate(expected)]


@cocotb.test()
async def strobe_comes_with_the_new_value(dut):
    bench = await Bench(dut).begin()
    dut.address.value, dut.write_data.value, dut.write_stb.value = registers.CONTROL.offset, 1, 1
    seen = []
    for _ in range(5):
        await FallingEdge(dut.clk)
        dut.write_stb.value = 0
        seen.append((int(dut.control_stb.value), int(dut.control.value)))
    assert seen == [(0, 0), (1, 1), (0, 1), (0, 1), (0, 1)]
    for index in range(registers.DOORBELL.count):
        await bench.put(registers.DOORBELL, 0, index)
        assert int(dut.doorbell_stb.value) == 1 << index
        await bench.cycles(1)
        assert int(dut.doorbell_stb.value) == 0


@cocotb.test()
async def held_counters_are_of_one_cycle(dut):
    print(f"seed={SEED}")
    bench = await Bench(dut).begin()
    rng = random.Random(SEED)
    values = {}

    async def tick():
        """All counters go on by one in each cycle."""
        for where in values:
            values[where] += 1
            port(dut, *where).value = values[where]
        await FallingEdge(dut.clk)

    for where in COUNTERS:
        values[where] = rng.getrandbits(40)
    dut.address.value, dut.write_data.value = registers.HOLD.address(), 1
    dut.write_stb.value = 1
    await tick()
    dut.write_stb.value = 0
    await tick()
    assert dut.hold_stb.value
    held = {where: value + 1 for where, value in values.items()}  # In the cycle of the strobe.
    await tick()
    for (register, index), value in held.items():
        assert await bench.get(register, index) == value, (register.name, index)
        await tick()
    await bench.put(registers.HOLD, 0)
    for register, index in COUNTERS:
        assert await bench.get(register, index) == values[register, index]


@cocotb.test()
async def silence_of_the_host_sets_kill(dut):
    bench = await Bench(dut).begin()
    assert await bench.get(registers.KILL) == 1
    await bench.put(registers.HEARTBEAT_TIMEOUT_NS, 640)
    await bench.put(registers.KILL, 0)
    await bench.cycles(300)
    assert int(dut.kill.value) == 0, "not before the card runs"
    await bench.put(registers.CONTROL, 1)
    for _ in range(10):
        await bench.cycles(90)
        dut.heartbeat_stb.value = 1
        await bench.cycles(1)
        dut.heartbeat_stb.value = 0
        assert int(dut.kill.value) == 0
    cycles = 0
    while not int(dut.kill.value):
        await bench.cycles(1)
        cycles += 1
    # 640 ns are 100 cycles; the silence is known 3 cycles late.
    assert 100 < cycles <= 104
    await bench.put(registers.KILL, 0)
    await bench.cycles(3)
    assert await bench.get(registers.KILL) == 1, "the host is still silent"
    dut.heartbeat_stb.value = 1
    await bench.cycles(1)
    dut.heartbeat_stb.value = 0
    await bench.put(registers.HEARTBEAT_TIMEOUT_NS, 0)
    await bench.put(registers.KILL, 0)
    await bench.cycles(300)
    assert await bench.get(registers.KILL) == 0, "0 is never"


@cocotb.test()
async def end_of_the_session_clears_its_register(dut):
    bench = await Bench(dut).begin()
    await bench.put(registers.ORDER_SESSION, 1)
    assert int(dut.order_session.value) == 1
    dut.order_session_end_stb.value = 1
    await bench.cycles(1)
    dut.order_session_end_stb.value = 0
    assert await bench.get(registers.ORDER_SESSION) == 0


@cocotb.test()
async def symbol_table_is_told_as_it_is_written(dut):
    bench = await Bench(dut).begin()
    name = int.from_bytes(b"TICK    ", "little")
    await bench.put(registers.SYMBOL_STOCK, name, 2)
    assert (int(dut.symbol_stock_stb.value), int(dut.symbol_locate_stb.value)) == (1, 0)
    assert (int(dut.symbol_index.value), int(dut.symbol_value.value)) == (2, name)
    await bench.put(registers.SYMBOL_LOCATE, 77, 3)
    assert (int(dut.symbol_stock_stb.value), int(dut.symbol_locate_stb.value)) == (0, 1)
    assert (int(dut.symbol_index.value), int(dut.symbol_value.value)) == (3, 77)
    await bench.cycles(1)
    assert int(dut.symbol_locate_stb.value) == 0
    assert int(dut.configured.value) == 0b100
    assert await bench.get(registers.SYMBOL_STOCK, 2) == name
    assert await bench.get(registers.SYMBOL_LOCATE, 3) == 77
    assert await bench.get(registers.SYMBOL_LOCATE, 2) == 0
    await bench.put(registers.SYMBOL_STOCK, 0, 2)
    await bench.cycles(1)
    assert int(dut.configured.value) == 0


@cocotb.test()
async def clock_counts_as_its_step_says(dut):
    bench = await Bench(dut).begin()
    await bench.cycles(10)
    first = int(dut.clock_ns.value)
    await bench.cycles(10_000)
    assert abs(int(dut.clock_ns.value) - first - 64_000) <= 1
    for step_ns in (8, 5, 0):
        await bench.put(registers.CLOCK_STEP, step_ns << 32)
        await bench.cycles(2)
        first = int(dut.clock_ns.value)
        await bench.cycles(100)
        assert int(dut.clock_ns.value) - first == 100 * step_ns


@cocotb.test()
async def histogram_counts_every_time(dut):
    print(f"seed={SEED}")
    bench = await Bench(dut).begin()
    await bench.cycles(2 * LATENCY_BUCKETS)
    rng = random.Random(SEED)
    times = {stage: [] for stage in LatencyStage}
    for _ in range(600):
        strobes = 0
        for stage in list(LatencyStage)[:-1]:  # The last one measures nothing.
            if rng.random() < 0.6:
                # Short ones often, so that a bucket comes again at once.
                ns = rng.choice((0, 1, 2, 3, 64, rng.getrandbits(rng.randrange(1, 41))))
                begin = rng.getrandbits(60)
                getattr(dut, f"meters_begin_{stage:d}").value = begin
                getattr(dut, f"meters_end_{stage:d}").value = begin + ns
                times[stage].append(ns)
                strobes |= 1 << stage
        dut.meters_end_stb.value = strobes
        await FallingEdge(dut.clk)
    dut.meters_end_stb.value = 0
    await bench.cycles(6)
    for stage, found in times.items():
        get = bench.get
        assert await get(registers.LATENCY_COUNT, stage) == len(found)
        assert await get(registers.LATENCY_SUM_NS, stage) == sum(found)
        assert await get(registers.LATENCY_MAX_NS, stage) == max(found, default=0)
        assert await get(registers.LATENCY_MIN_NS, stage) == min(found, default=(1 << 40) - 1)
        for bucket in range(LATENCY_BUCKETS):
            expected = sum(min(ns.bit_length(), LATENCY_BUCKETS - 1) == bucket for ns in found)
            index = LATENCY_BUCKETS * stage + bucket
            assert await get(registers.LATENCY_BUCKET, index) == expected, (stage, bucket)


@cocotb.test()
async def mark_stays_at_the_most_there_was(dut):
    bench = await Bench(dut).begin()
    for level in (3, 9, 0, 7):
        dut.water_levels_1.value = level
        await bench.cycles(1)
    assert int(dut.water_o_1.value) == 9
    assert int(dut.water_o_0.value) == 0
