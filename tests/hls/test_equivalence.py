# amaranth: UnusedElaboratable=no
# Some pipelines here are elaborated as a part of another module.
"""What equivalence finds: every mutation of a kernel's hardware, by simulation and by proof."""

import os

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In

from hw.hls import equivalence, prove
from hw.hls.claims import first_unproven
from hw.hls.equivalence import Leg, Report, amaranth, check
from hw.hls.ir import Op
from hw.hls.known import Path
from hw.hls.prove import Verdict
from hw.hls.schedule import schedule
from hw.hls.stimulus import stimulus
from hw.hls.to_amaranth import Pipeline
from kernels.types import S8, U4, U8, U16, U32, U64, Bool, U, kernel, wrap
from sim.tb import kernels as tb

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
TABLE = (3, 1, 4, 1, 5, 9, 2, 6)
OTHER_TABLE = (3, 1, 4, 1, 5, 9, 3, 6)


@kernel
def rule(price: U32, quantity: U16, limit: U[48], side: Bool, index: U8) -> tuple[Bool, U[49]]:
    """Return whether a value is over the limit, and by how much."""
    value = price * quantity + TABLE[index & 7]
    over = value > limit
    if side:
        return over, max(value - limit, 0)
    if index >= 200:
        return False, 0
    return over, wrap(value // 10 - limit, U[49])


@kernel
def flipped(price: U32, quantity: U16, limit: U[48], side: Bool, index: U8) -> tuple[Bool, U[49]]:
    value = price * quantity + TABLE[index & 7]
    over = value >= limit
    if side:
        return over, max(value - limit, 0)
    if index >= 200:
        return False, 0
    return over, wrap(value // 10 - limit, U[49])


@kernel
def dropped(price: U32, quantity: U16, limit: U[48], side: Bool, index: U8) -> tuple[Bool, U[49]]:
    value = price * quantity
    over = value > limit
    if side:
        return over, max(value - limit, 0)
    if index >= 200:
        return False, 0
    return over, wrap(value // 10 - limit, U[49])


@kernel
def off_by_one(
    price: U32, quantity: U16, limit: U[48], side: Bool, index: U8
) -> tuple[Bool, U[49]]:
    value = price * quantity + TABLE[index & 7]
    over = value > limit
    if side:
        return over, max(value - limit, 0)
    if index >= 201:
        return False, 0
    return over, wrap(value // 10 - limit, U[49])


@kernel
def divided(price: U32, quantity: U16, limit: U[48], side: Bool, index: U8) -> tuple[Bool, U[49]]:
    value = price * quantity + TABLE[index & 7]
    over = value > limit
    if side:
        return over, max(value - limit, 0)
    if index >= 200:
        return False, 0
    return over, wrap(value // 11 - limit, U[49])


@kernel
def other_item(
    price: U32, quantity: U16, limit: U[48], side: Bool, index: U8
) -> tuple[Bool, U[49]]:
    value = price * quantity + OTHER_TABLE[index & 7]
    over = value > limit
    if side:
        return over, max(value - limit, 0)
    if index >= 200:
        return False, 0
    return over, wrap(value // 10 - limit, U[49])


@kernel
def factor(price: U32, quantity: U16, limit: U[48], side: Bool, index: U8) -> tuple[Bool, U[49]]:
    value = price * (quantity | 1) + TABLE[index & 7]
    over = value > limit
    if side:
        return over, max(value - limit, 0)
    if index >= 200:
        return False, 0
    return over, wrap(value // 10 - limit, U[49])


class Delayed(wiring.Component):
    """The pipeline with one input, or its valid, a cycle late."""

    def __init__(self, plan, which):
        self.inner = Pipeline(plan)
        self.which = which
        super().__init__(self.inner.signature)

    def elaborate(self, platform):
        # In one module, as the proof reads it.
        m = self.inner.elaborate(platform)
        for name in self.inner.signature.members:
            inside, outside = getattr(self.inner, name), getattr(self, name)
            if name.startswith("o_"):
                m.d.comb += outside.eq(inside)
            elif name == self.which:
                late = Signal.like(outside)
                m.d.sync += late.eq(outside)
                m.d.comb += inside.eq(late)
            else:
                m.d.comb += inside.eq(outside)
        return m


def pipeline_of(other):
    """Return another kernel's pipeline, as late as that of the rule."""
    plan = schedule(other)
    assert plan.latency == schedule(rule).latency
    return Pipeline(plan)


MUTANTS = {
    "flipped comparison": lambda: pipeline_of(flipped),
    "dropped term": lambda: pipeline_of(dropped),
    "off by one": lambda: pipeline_of(off_by_one),
    "divisor": lambda: pipeline_of(divided),
    "item of a table": lambda: pipeline_of(other_item),
    "factor of a product": lambda: pipeline_of(factor),
    "argument late": lambda: Delayed(schedule(rule), "i_limit"),
    "valid late": lambda: Delayed(schedule(rule), "i_valid"),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_found_by_simulation_and_by_proof(mutant):
    print(f"seed {SEED}")
    report = check(rule, circuit=MUTANTS[mutant](), count=800, seed=SEED)
    numba, simulated = report.legs
    assert numba == Leg("numba", 800)
    assert simulated.mismatch != ""
    assert report.proof.verdict is Verdict.REFUTED
    assert report.verdict is Verdict.REFUTED
    assert "DIFFERS: cycle " in str(report)
    found = report.proof.counterexample
    assert found is not None
    assert set(found.arguments) == {"price", "quantity", "limit", "side", "index"}


def test_counterexample_is_one():
    report = check(rule, circuit=pipeline_of(flipped), count=1)
    found = report.proof.counterexample
    values = list(found.arguments.values())
    values[3] = bool(values[3])
    assert tuple(found.expected.values()) == rule(*values)
    assert tuple(found.found.values()) == flipped(*values)
    assert found.expected != found.found


def test_kernel_is_equivalent_on_every_back_end_in_one_call():
    report = tb.check(rule, seed=SEED)
    assert report.verdict is Verdict.PROVEN
    assert report.legs == (Leg("numba", 500), Leg("amaranth", 500), Leg("verilator", 500))
    lines = str(report).splitlines()
    assert lines[0] == "rule: proven"
    assert lines[3] == "  verilator: 500 argument sets agree"
    assert lines[4].startswith("  proof: proven for all arguments with 3 lemmas, ")


def test_mutant_is_found_by_verilator():
    report = tb.check(rule, circuit=pipeline_of(flipped), count=800, seed=SEED)
    assert report.legs[2].name == "verilator"
    assert report.legs[2].mismatch == report.legs[1].mismatch != ""


@kernel
def wide(a: U64, b: U64) -> Bool:
    return a + b > 1 << 60


def test_kernel_that_numba_refuses_is_still_proven():
    report = check(wide, count=50)
    assert report.verdict is Verdict.PROVEN
    line = wide.function.__code__.co_firstlineno + 1
    assert report.legs[0] == Leg(
        "numba",
        0,
        refused=f"tests/hls/test_equivalence.py:{line}:10: is 0 to 18446744073709551615, and "
        "Numba's integers hold -9223372036854775808 to 9223372036854775807: use narrower types, "
        "or saturate or wrap before: a: U64",
    )
    assert str(report.legs[0]).startswith("numba: refused: ")


def test_numba_that_differs_refutes(monkeypatch):
    monkeypatch.setattr(equivalence, "to_numba", lambda kernel: flipped.function)
    report = check(rule, count=800, simulators={}, seed=SEED)
    assert report.proof.verdict is Verdict.PROVEN
    assert report.verdict is Verdict.REFUTED
    assert report.legs[0].mismatch != ""


def test_what_is_not_proven_in_time_is_unproven():
    plan = schedule(rule)
    found = prove.prove(plan, Pipeline(plan), timeout_s=0.0)
    assert found.verdict is Verdict.UNPROVEN
    assert str(found).startswith("UNPROVEN: no proof of `*` at tests/hls/test_equivalence.py:")
    report = Report("rule", (Leg("amaranth", 3),), found)
    assert report.verdict is Verdict.UNPROVEN
    assert str(report).startswith("rule: unproven")


def test_circuit_that_cannot_be_read_is_unproven():
    class Nested(wiring.Component):
        def __init__(self, plan):
            self.inner = Pipeline(plan)
            super().__init__(self.inner.signature)

        def elaborate(self, platform):
            m = Module()
            m.submodules.inner = self.inner
            for name, member in self.inner.signature.members.items():
                pair = getattr(self.inner, name), getattr(self, name)
                m.d.comb += pair[0].eq(pair[1]) if member.flow is In else pair[1].eq(pair[0])
            return m

    plan = schedule(rule)
    found = prove.prove(plan, Nested(plan))
    assert found.verdict is Verdict.UNPROVEN
    assert found.reason == r"the circuit has a cell \top.inner, which is not known here"


def test_wrong_split_is_not_proven():
    """A carry that is lost between two slices of a sum is found before the circuit is looked at."""
    plan = schedule(wide, 350.0)
    carries = [node for node in plan.graph.nodes if node.op is Op.ADDC]
    assert carries != []
    right = prove.prove(plan, Pipeline(plan))
    assert right.verdict is Verdict.PROVEN
    zero = plan.graph.const(0)
    for node in carries:
        node.operands = (*node.operands[:2], zero)
    wrong = prove.prove(plan, Pipeline(plan))
    assert wrong.verdict is Verdict.UNPROVEN
    assert wrong.reason.startswith("no proof of the split of tests/hls/test_equivalence.py:")


@kernel
def above(a: U8, b: U8) -> U8:
    return a - b if a > b else 0


@kernel
def narrow(a: U8, b: U8, c: Bool) -> tuple[U8, U4]:
    if c or b == 0:
        return 0, 0
    for limit in range(3, 16, 6):
        if a <= limit and not b > 20:
            return limit - a, a
    return above(a, b), b & 15


def test_narrowed_values_are_claims_and_proven():
    claims = schedule(narrow).claims
    assert {(claim.lo, claim.hi) for claim in claims} >= {
        (0, 3),
        (0, 9),
        (2, 255),
    }
    assert first_unproven(claims, 10.0) is None
    plan = schedule(narrow)
    assert prove.prove(plan, Pipeline(plan)).verdict is Verdict.PROVEN


@pytest.mark.parametrize("off_by", [1, 2])
def test_value_that_is_narrowed_too_far_is_not_proven(off_by, monkeypatch):
    right = Path._narrow

    def wrong(self, graph, node, lo, hi):
        right(self, graph, node, lo, hi if hi > 1000 else hi - off_by)

    monkeypatch.setattr(Path, "_narrow", wrong)
    plan = schedule(above)
    found = prove.prove(plan, Pipeline(plan))
    line = above.function.__code__.co_firstlineno + 2
    assert found.verdict is Verdict.UNPROVEN
    assert found.reason == (
        f"no proof in 60 s of 1 to {255 - off_by} at tests/hls/test_equivalence.py:{line}:12: a"
    )


def test_difference_that_is_narrowed_too_far_is_not_proven(monkeypatch):
    """A strict order is one more than is known."""
    right = Path._conclude

    def wrong(self, graph, condition, holds):
        right(self, graph, condition, holds)
        self.less = {pair: least + 1 for pair, least in self.less.items()}

    monkeypatch.setattr(Path, "_conclude", wrong)
    plan = schedule(above)
    found = prove.prove(plan, Pipeline(plan))
    assert found.verdict is Verdict.UNPROVEN
    assert found.reason.startswith("no proof in 60 s of 2 to 255 at ")


def test_claims_that_are_not_proven_in_time_are_unproven():
    plan = schedule(narrow)
    assert first_unproven(plan.claims, 0.0) is plan.claims[0]


@kernel
def signed(a: S8, b: Bool) -> S8:
    return a if b else 3


def test_stimulus_has_the_corners_and_is_the_same_for_the_same_seed():
    found = stimulus(signed, 200, 7)
    assert found == stimulus(signed, 200, 7)
    assert found != stimulus(signed, 200, 8)
    assert len(found) == 200
    assert {-128, -127, -1, 0, 1, 2, 3, 4, 126, 127} <= {each["a"] for each in found}
    assert {each["b"] for each in found} == {0, 1}


def test_late_result_is_a_difference():
    plan = schedule(signed)
    inputs = stimulus(signed, 5, 1)
    found = amaranth(plan, Pipeline(plan), inputs)
    assert found[0] is None
    late = [None, *found[:-1]]
    assert equivalence._first_difference(plan, inputs, found, late).startswith("cycle 1, ")
    assert equivalence._first_difference(plan, inputs, found, found) == ""
