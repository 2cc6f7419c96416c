"""The risk gate: the hardware against the golden model, over a long random day."""

import os
from pathlib import Path

import pytest

from hw.rtl.risk import Gate
from sim.tb import orders_flow as flow
from sim.tb.runner import run
from sw.risk import Risk
from tests.rtl.risk_rows import opening, rows
from tests.sw.test_risk_flow import play

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
COUNT = int(os.environ.get("TICKWIRE_GATE_EVENTS", "20000"))
BENCH_TESTS = 7
HEARTBEAT_CYCLES_MAX = 40


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            (3, 8, 4, 100),
            ValueError,
            "symbol_count must be a power of two, 2 to 32768, not 3",
        ),
        (
            (8, 2048, 4, 100),
            ValueError,
            "trader_count must be a power of two, 2 to 1024, not 2048",
        ),
        ((8, 8, 0, 100), ValueError, "desk_count must be a power of two, 2 to 1024, not 0"),
        ((8, 8, "4", 100), TypeError, "desk_count must be an integer, not '4'"),
        (
            (8, 8, 4, 0),
            ValueError,
            "heartbeat_cycles_max must be 1 to 4294967295, not 0",
        ),
        ((8, 8, 4, 1.5), TypeError, "heartbeat_cycles_max must be an integer, not 1.5"),
    ],
)
def test_bad_argument_is_refused(arguments, error, text):
    with pytest.raises(error) as refused:
        Gate(*arguments)
    assert str(refused.value) == text


def test_rows_that_the_gate_is_led_to_hold_in_the_host_s_gate():
    for row in rows()[0]:
        host = Risk(flow.SYMBOL_COUNT, flow.DESKS)
        for step in (*opening(), *row.steps):
            reason = play(host, step)
            if isinstance(step, flow.Decide):
                assert reason is step.reason, (row.rule, row.row, step)


def test_gate_decides_and_counts_as_the_golden_model():
    dut = Gate(
        symbol_count=8, trader_count=8, desk_count=4, heartbeat_cycles_max=HEARTBEAT_CYCLES_MAX
    )
    streams = (dut.i, dut.i_symbol, dut.i_market, dut.i_account, dut.i_kill, dut.i_desk)
    ports = [
        dut.ready,
        dut.heartbeat_stb,
        *(port for stream in streams for port in (stream.valid, stream.payload.as_value())),
        dut.o.valid,
        dut.o.payload.as_value(),
        dut.o_state.as_value(),
    ]
    environment = {
        "EVENTS": str(COUNT),
        "SEED": str(SEED),
        "HEARTBEAT_CYCLES_MAX": str(HEARTBEAT_CYCLES_MAX),
    }
    assert run(dut, ports, "gate", "bench_risk", FOLDER, environment) == BENCH_TESTS
