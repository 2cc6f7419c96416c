"""Wrong rules, and who finds them: table, proof and golden model each must."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hw.hls.equivalence import amaranth
from hw.hls.prove import Verdict, prove
from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline
from hw.hls.to_numba import to_numba
from hw.hls.values import results
from kernels import risk
from kernels.exposure import Exposure, Newest, Quantity, Rate, Time
from kernels.risk import Order
from kernels.types import U31, U32, U40, Bool, kernel
from tests.kernels.test_risk import TABLES, flat

ROOT = Path(__file__).resolve().parents[2]
ORDERS = 4_000


@kernel
def flipped_comparison(order_qty: U32, qty_max: Quantity) -> Bool:
    return order_qty >= qty_max


@kernel
def missing_open_orders(exposure: Exposure, buys: Bool, qty: Quantity, position_max: U31) -> Bool:
    if buys:
        return exposure.position + qty > position_max
    return exposure.open_sell + qty - exposure.position > position_max


@kernel
def off_by_one(rate: Rate, now_ns: Time) -> Bool:
    if rate.burst_ns == 0 or rate.burst_ns < rate.interval_ns:
        return True
    return rate.due_ns + rate.interval_ns > now_ns + rate.burst_ns + 1


@kernel
def window_too_long(order: Order, newest: Newest, now_ns: Time, window_ns: U40) -> Bool:
    is_same = (
        order.price == newest.price
        and order.order_qty == newest.order_qty
        and order.trader == newest.trader
    )
    is_soon = window_ns > 0 and now_ns <= newest.at_ns + window_ns
    return is_same and is_soon and order.orig_qty == 0


MUTATIONS = [
    (risk.exceeds_quantity, flipped_comparison),
    (risk.exceeds_position, missing_open_orders),
    (risk.exceeds_rate, off_by_one),
    (risk.repeats, window_too_long),
]
IDS = [wrong.name for _, wrong in MUTATIONS]


@pytest.mark.parametrize(("rule", "wrong"), MUTATIONS, ids=IDS)
def test_table_finds_it_in_python(rule, wrong):
    assert [row for row, expected in TABLES[rule] if wrong(*row) != expected]


@pytest.mark.parametrize(("rule", "wrong"), MUTATIONS, ids=IDS)
def test_table_finds_it_in_numba(rule, wrong):
    compiled = to_numba(wrong)
    assert [row for row, expected in TABLES[rule] if compiled(*row) != expected]


@pytest.mark.parametrize(("rule", "wrong"), MUTATIONS, ids=IDS)
def test_table_finds_it_in_hardware(rule, wrong):
    plan = schedule(wrong, 156.25)
    found = amaranth(plan, Pipeline(plan), [flat(wrong, row) for row, _ in TABLES[rule]])
    assert found[plan.latency :] != [results(rule, expected) for _, expected in TABLES[rule]]


@pytest.mark.parametrize(("rule", "wrong"), MUTATIONS, ids=IDS)
def test_proof_finds_it_in_hardware_and_tells_for_what(rule, wrong):
    proof = prove(schedule(rule, 156.25), Pipeline(schedule(wrong, 156.25)))
    assert proof.verdict is Verdict.REFUTED
    assert proof.counterexample.expected != proof.counterexample.found


@pytest.mark.parametrize(("rule", "wrong"), MUTATIONS, ids=IDS)
def test_golden_model_finds_it_in_the_host_s_gate(rule, wrong):
    code = (
        "from kernels import risk\n"
        "from tests.kernels import test_risk_mutations as wrong\n"
        f"risk.{rule.name} = wrong.{wrong.name}\n"
        "from tests.sw import test_risk_flow as flow\n"
        f"flow.agree(flow.SEED, {ORDERS})"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 1, found.stdout
    assert "AssertionError" in found.stderr
