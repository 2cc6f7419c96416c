"""Wrong rules in the gate's own hardware: the golden model must find each.

The same wrong rules are found as kernels by table, proof and golden model in
``tests/kernels/test_risk_mutations.py``; here they stand in the gate, in Amaranth's simulator.
"""

import os

import pytest

from hw.rtl.risk import ahead, gate
from hw.rtl.risk import rules as gate_rules
from protocol.reasons import DenyReason
from tests.kernels.test_risk_mutations import flipped_comparison
from tests.rtl.gate_in_python import differences

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
EVENTS = 400


def flip_comparison(monkeypatch):
    monkeypatch.setattr(ahead, "exceeds_quantity", flipped_comparison)


def forget_open_orders(monkeypatch):
    monkeypatch.setattr(gate_rules, "_exceed", lambda known, opened, limit: known > limit)


def be_one_off_in_the_rate(monkeypatch):
    right = gate.rules

    def wrong(event, before, left, sells):
        found = right(event, before, left, sells)
        known, left = before["trader"], left["trader"]
        found[DenyReason.MESSAGE_RATE_EXCEEDED] = known.due_ns > left.due_last_ns + 1
        return found

    monkeypatch.setattr(gate, "rules", wrong)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (flip_comparison, DenyReason.QUANTITY_EXCEEDS_MAXIMUM),
        (forget_open_orders, None),
        (be_one_off_in_the_rate, DenyReason.MESSAGE_RATE_EXCEEDED),
    ],
    ids=["flipped_comparison", "missing_open_orders", "off_by_one"],
)
def test_golden_model_finds_it_in_the_gate_s_hardware(break_it, reason, monkeypatch):
    print(f"seed={SEED}")
    break_it(monkeypatch)
    found = differences(SEED, EVENTS)
    assert found
    assert reason is None or reason in found[0]


def test_gate_as_it_is_differs_in_nothing():
    print(f"seed={SEED}")
    assert differences(SEED, EVENTS) == []
