"""The parts of a decision in Verilator, beside Python, Numba and Amaranth's simulator."""

import os

import pytest

from hw.hls.prove import Verdict
from kernels import risk
from sim.tb.kernels import check

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
PARTS = [
    risk.reason_of_order,
    risk.reason_of_symbol,
    risk.reason_of_levels,
    risk.added_notional,
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_part_of_a_decision_is_the_same_on_every_back_end(part):
    print(f"seed={SEED}")
    report = check(part, count=500, seed=SEED)
    assert [leg.name for leg in report.legs] == ["numba", "amaranth", "verilator"]
    assert report.verdict is Verdict.PROVEN, str(report)
