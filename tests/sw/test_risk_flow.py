"""A long random day: the host's gate decides as the golden model does, and knows the same."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np

from kernels.exposure import Newest, Resting
from protocol.reasons import DenyReason
from sim.golden import risk as golden
from sim.tb import orders_flow as flow
from sw.risk import ORDER, Risk

ROOT = Path(__file__).resolve().parents[2]
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
COUNT = 200_000
COMPARED_EVERY = 1_000


def play(gate: Risk, step: flow.Step) -> DenyReason | None:
    """Do a step on the host's gate. Returns what it decided."""
    match step:
        case flow.Decide(is_new=True):
            return gate.decide(
                step.symbol,
                step.trader,
                step.buys,
                step.order_qty,
                step.price,
                step.now_ns,
                step.session,
                step.slot,
            )
        case flow.Decide():
            return gate.decide_replacement(*step[:7], step.now_ns, *step[7:10])
        case flow.Execute():
            gate.execute(*step)
        case flow.Release():
            gate.release(*step)
        case flow.Message():
            gate.count_message(*step)
        case flow.SetLimits():
            gate.set_limits(*step)
        case flow.SetLevel():
            gate.set_level(*step)
        case flow.Kill():
            gate.kill(*step)
        case flow.SetMarket():
            gate.set_market(*step)
    return None


def compare(gate: Risk, model: golden.Risk, now_ns: int) -> None:
    """Assert that both gates know the same."""
    for symbol in range(flow.SYMBOL_COUNT):
        assert gate.exposure(symbol) == (
            model.position(symbol),
            model.open_qty(symbol, golden.Side.BUY),
            model.open_qty(symbol, golden.Side.SELL),
        )
        for side in golden.Side:
            own, newest = model.own(symbol, side), model.newest(symbol, side)
            buys = side is golden.Side.BUY
            assert gate.resting(symbol, buys) == Resting(
                own.front + own.behind, own.front, own.front_price or 0, own.behind_price or 0
            )
            assert gate.newest(symbol, buys) == (
                Newest()
                if newest is None
                else Newest(newest.trader, newest.qty, newest.price, newest.at_ns)
            )
    for level, index in gate.levels:
        money = model.money(level, index)
        known = gate.level(level, index)
        assert known == (money.net, money.open_buy, money.open_sell, money.gross)
        due_ns = gate.rate(level, index).due_ns
        assert max(due_ns - now_ns, 0) == model.bucket_ns(level, index, now_ns)


def agree(seed: int, count: int) -> Counter[str]:
    """Play a day on both gates. Returns how often each step and reason was seen."""
    print(f"seed={seed}")
    day, gate = flow.Flow(seed), Risk(flow.SYMBOL_COUNT, flow.DESKS)
    seen: Counter[str] = Counter()
    for number, step in enumerate(day.steps(count)):
        reason = play(gate, step)
        if isinstance(step, flow.Decide):
            assert reason is step.reason, (seed, number, step)
            seen[step.reason.name] += 1
            # Only here: of an answer's steps the golden model has done all before the first.
            if seen["Decide"] % COMPARED_EVERY == 0:
                compare(gate, day.gate, day.now_ns)
        seen[type(step).__name__] += 1
    compare(gate, day.gate, day.now_ns)
    return seen


def test_gate_and_golden_model_agree_for_a_long_day():
    seen = agree(SEED, COUNT)
    unseen = {DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM}  # It takes 65,535 open orders.
    few = {r.name: seen[r.name] for r in set(DenyReason) - unseen if seen[r.name] < 80}
    assert few == {}
    assert seen["NONE"] > 30_000
    assert min(seen[kind.__name__] for kind in flow.Step.__args__) > 500


def batch_of(steps: list[flow.Decide]) -> np.ndarray:
    fields = [
        (
            *(asked.symbol, asked.buys, asked.order_qty, asked.price),
            *(asked.orig_qty, asked.orig_price, asked.trader),
            *(asked.session, asked.is_open, asked.slot, asked.now_ns),
        )
        for asked in steps
    ]
    return np.array(fields, ORDER)


def test_batch_decides_as_one_order_after_the_other():
    print(f"seed={SEED}")
    gate = Risk(flow.SYMBOL_COUNT, flow.DESKS)
    waiting: list[flow.Decide] = []
    sizes = Counter[int]()
    for step in flow.Flow(SEED).steps(20_000):
        if isinstance(step, flow.Decide):
            waiting.append(step)
            continue
        if waiting:
            reasons = np.zeros(len(waiting), np.int64)
            gate.decide_batch(batch_of(waiting), reasons)
            assert reasons.tolist() == [asked.reason for asked in waiting]
            sizes[len(waiting)] += 1
            waiting.clear()
        play(gate, step)
    assert sizes[1] > 1_000
    assert sizes[3] > 100


def test_gate_is_plain_python_where_numba_is_switched_off():
    code = "from tests.sw import test_risk_flow as t; print(t.agree(t.SEED, 2_000)['NONE'])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert int(found.stdout.splitlines()[-1]) > 300
