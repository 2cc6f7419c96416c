"""The dataflow: intervals of every operation, what folds, and that lowering and splitting keep."""

import itertools
import os
import random

import pytest
import z3

from hw.hls.delays import Delays, is_wire
from hw.hls.front import read
from hw.hls.ir import Graph, Op, bits, compute, low_bits
from hw.hls.lower import Lemma, Lowering, signed_powers
from hw.hls.prove import holds
from hw.hls.split import split
from hw.hls.to_z3 import exact_product, terms
from kernels.types import S8, U4, U8, U32, Bool, S, kernel

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
EXACT = [
    (Op.ADD, (-5, 3), (10, 20), (5, 23)),
    (Op.SUB, (-5, 3), (10, 20), (-25, -7)),
    (Op.MUL, (-5, 3), (10, 20), (-100, 60)),
    (Op.MUL, (-5, 3), (-20, 10), (-60, 100)),
    (Op.SHL, (-5, 3), (0, 4), (-80, 48)),
    (Op.SHR, (-5, 3), (0, 4), (-5, 3)),
    (Op.SHR, (17, 40), (1, 2), (4, 20)),
    (Op.DIV, (-5, 30), (4, 4), (-2, 7)),
    (Op.MOD, (-5, 30), (4, 4), (0, 3)),
    (Op.MOD, (13, 15), (4, 4), (1, 3)),
    (Op.EQ, (1, 5), (5, 9), (0, 1)),
    (Op.LT, (1, 5), (5, 9), (0, 1)),
    (Op.LE, (1, 9), (5, 9), (0, 1)),
]
"""Operations whose interval is the least that holds every result."""
FOLDED = [
    (Op.EQ, (1, 4), (5, 9), 0),
    (Op.NE, (1, 4), (5, 9), 1),
    (Op.LT, (1, 4), (5, 9), 1),
    (Op.LT, (5, 9), (1, 5), 0),
    (Op.LE, (1, 5), (5, 9), 1),
    (Op.MOD, (5, 5), (4, 4), 1),
    (Op.MUL, (-7, 9), (0, 0), 0),
]


def pair(graph, left, right):
    """Return two arguments, or a constant where there is one value."""
    return [
        graph.const(lo) if lo == hi else graph.arg(name, lo, hi)
        for name, (lo, hi) in (("a", left), ("b", right))
    ]


@pytest.mark.parametrize(("op", "left", "right", "expected"), EXACT)
def test_interval_is_exact(op, left, right, expected):
    graph = Graph()
    node = graph.op(op, *pair(graph, left, right))
    assert (node.lo, node.hi) == expected
    values = [
        compute(node, [a, b], {})
        for a in range(left[0], left[1] + 1)
        for b in range(right[0], right[1] + 1)
    ]
    assert (min(values), max(values)) == expected


@pytest.mark.parametrize(("op", "left", "right", "expected"), FOLDED)
def test_result_that_is_known_is_folded(op, left, right, expected):
    graph = Graph()
    node = graph.op(op, *pair(graph, left, right))
    assert node.is_const
    assert node.lo == expected


@pytest.mark.parametrize(
    ("op", "left", "right", "expected"),
    [
        (Op.AND, (0, 12), (0, 100), (0, 12)),
        (Op.AND, (-4, 12), (0, 100), (0, 100)),
        (Op.AND, (-4, 12), (-9, 100), (-128, 127)),
        (Op.OR, (3, 12), (5, 17), (5, 31)),
        (Op.OR, (-3, 12), (5, 17), (-32, 31)),
        (Op.XOR, (3, 12), (5, 17), (0, 31)),
    ],
)
def test_interval_of_a_bitwise_operation_holds_every_result(op, left, right, expected):
    graph = Graph()
    node = graph.op(op, *pair(graph, left, right))
    assert (node.lo, node.hi) == expected
    for a in range(left[0], left[1] + 1):
        for b in range(right[0], right[1] + 1):
            assert node.lo <= compute(node, [a, b], {}) <= node.hi


def test_square_is_not_below_zero():
    graph = Graph()
    a = graph.arg("a", -5, 3)
    assert (graph.op(Op.MUL, a, a).lo, graph.op(Op.MUL, a, a).hi) == (0, 25)


def test_table_has_the_interval_of_the_items_that_are_in_reach():
    graph = Graph()
    node = graph.table((9, 1, 5, -3), graph.arg("a", 0, 2))
    assert (node.lo, node.hi, node.table) == (1, 9, (9, 1, 5))


@pytest.mark.parametrize(
    ("lo", "hi", "width"),
    [(0, 0, 1), (0, 1, 1), (0, 255, 8), (0, 256, 9), (-1, 0, 1), (-1, 1, 2), (-128, 127, 8)],
)
def test_width_is_the_least_that_holds_an_interval(lo, hi, width):
    assert bits(lo, hi) == width


@pytest.mark.parametrize(("value", "expected"), [(200, -56), (-129, 127), (127, 127), (256, 0)])
def test_low_bits_are_read_with_the_sign_of_the_interval(value, expected):
    assert low_bits(value, -128, 127) == expected


def test_what_is_computed_twice_is_shared():
    graph = Graph()
    a, b = graph.arg("a", 0, 9), graph.arg("b", 0, 9)
    assert graph.op(Op.ADD, a, b) is graph.op(Op.ADD, b, a)
    assert graph.op(Op.SUB, a, b) is not graph.op(Op.SUB, b, a)
    assert graph.op(Op.ADD, a, graph.const(0)) is a
    assert graph.op(Op.SUB, a, a) is graph.const(0)


@kernel
def refined(a: U8, b: U8, c: S8) -> tuple[U8, U8, U8, U4, U8]:
    first = a - 10 if a >= 10 else 0
    second = 0 if b == 0 else b - 1
    third = c if c > 0 else 0
    if a > 15:
        return first, second, third, 0, 0
    if b >= a:
        return first, second, third, a, b - a
    return first, second, third, a, a - b - 1


def test_branch_narrows_what_its_condition_compares():
    graph = read(refined)
    result = {name: (node.lo, node.hi) for name, node in graph.results.items()}
    assert result == {
        "result_0": (0, 245),
        "result_1": (0, 254),
        "result_2": (0, 127),
        "result_3": (0, 15),
        "result_4": (0, 255),
    }


@kernel
def extremes(a: S8, b: S8, c: U8) -> tuple[U8, U8, U8, U8]:
    for _ in range(2):
        take = min(c, 100)
        c -= take
    return max(a, b) - a, b - min(a, b), max(b, a) - b, c


def test_difference_to_an_extreme_has_its_sign():
    graph = read(extremes)
    result = {name: (node.lo, node.hi) for name, node in graph.results.items()}
    assert result == dict.fromkeys(("result_0", "result_1", "result_2", "result_3"), (0, 255))
    for values in ({"a": -128, "b": 127, "c": 255}, {"a": 5, "b": -5, "c": 120}):
        kernel_found = extremes(*values.values())
        assert tuple(graph.evaluate(values).values()) == kernel_found


@pytest.mark.parametrize(
    ("op", "left_is_less", "expected"),
    [
        # min(a, b) - a, a - min(a, b); then those of max.
        (Op.LT, True, ((-15, 0), (0, 15))),
        (Op.LE, True, ((-15, 0), (0, 15))),
        (Op.LT, False, ((0, 15), (-15, 0))),
        (Op.NE, True, ((-15, 15), (-15, 15))),
    ],
)
def test_interval_of_a_difference_to_an_extreme(op, left_is_less, expected):
    graph = Graph()
    a, b = graph.arg("a", 0, 15), graph.arg("b", 0, 15)
    pair = (a, b) if left_is_less else (b, a)
    node = graph.op(Op.MUX, graph.op(op, a, b), *pair)
    differences = graph.op(Op.SUB, node, a), graph.op(Op.SUB, a, node)
    assert tuple((each.lo, each.hi) for each in differences) == expected
    graph.results = {"r": differences[0]}
    found = {graph.evaluate({"a": x, "b": y})["r"] for x in range(16) for y in range(16)}
    assert expected[0][0] <= min(found) <= max(found) <= expected[0][1]


def test_value_that_can_be_only_one_is_a_constant():
    graph = Graph()
    a = graph.arg("a", 0, 5)
    assert graph.fit(a, 3, 3) is graph.const(3)
    assert graph.table((7, 7, 7, 7, 7, 7), a) is graph.const(7)


@kernel
def small(a: U4) -> U8:
    return a % 1000 + a // 17 * 1000


def test_factor_that_is_known_to_be_constant_takes_no_lemma():
    lowering = Lowering()
    lowered = lowering.lower(read(small))
    assert all(lemma.left[0] < lemma.left[1] for lemma in lowering.lemmas)
    assert all(holds(lemma) for lemma in lowering.lemmas)
    assert lowered.evaluate({"a": 15}) == {"result": 15}


SLOW = {1: 0.0, 64: 63.0}
QUICK = {1: 0.0, 64: 9.0}
TABLE = Delays(
    "none",
    {},
    0.0,
    {op.name: QUICK if op in {Op.MUX, Op.AND, Op.SHR} else SLOW for op in Op},
)
"""A table in which most operations on n bits take n - 1 ns."""


def drawn(chance, lo, hi):
    value = chance.choice([lo, hi, 0, -1, 1, chance.randint(lo, hi), chance.getrandbits(9)])
    return min(max(value, lo), hi)


INTERVALS = [(0, 255), (-128, 127), (0, (1 << 40) - 1), (-(1 << 63), (1 << 63) - 1), (-7, 1 << 35)]
CONSTANTS = [1, 2, 3, 7, 10, 64, 1000, 10_000, 65_537, (1 << 31) - 1, 12_345_678_901]


@pytest.mark.parametrize("interval", INTERVALS)
@pytest.mark.parametrize("op", [Op.MUL, Op.DIV, Op.MOD])
def test_lowered_operation_by_a_constant_gives_the_same(op, interval):
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    for constant in CONSTANTS if op is not Op.MUL else [*CONSTANTS, -1, -6, -10_000]:
        graph = Graph()
        graph.results = {"r": graph.op(op, graph.arg("a", *interval), graph.const(constant))}
        lowering = Lowering()
        lowered = lowering.lower(graph)
        assert not {node.op for node in lowered.reachable()} & {Op.DIV, Op.MOD}
        factors = [node for node in lowered.reachable() if node.op is Op.MUL]
        assert all(operand.width <= 18 for node in factors for operand in node.operands)
        for _ in range(200):
            values = {"a": drawn(chance, *interval)}
            assert lowered.evaluate(values) == graph.evaluate(values), (constant, values)


@pytest.mark.parametrize(("left", "right"), [*itertools.product(INTERVALS, INTERVALS)])
def test_lowered_product_gives_the_same(left, right):
    chance = random.Random(SEED)
    print(f"seed {SEED}")
    graph = Graph()
    a, b = graph.arg("a", *left), graph.arg("b", *right)
    graph.results = {"r": graph.op(Op.MUL, a, b), "square": graph.op(Op.MUL, a, a)}
    lowered = Lowering().lower(graph)
    for _ in range(200):
        values = {"a": drawn(chance, *left), "b": drawn(chance, *right)}
        assert lowered.evaluate(values) == graph.evaluate(values)


@pytest.mark.parametrize(
    ("value", "powers"),
    [
        (0, []),
        (1, [(0, False)]),
        (7, [(0, True), (3, False)]),
        (-6, [(1, False), (3, True)]),
        (10_000, [(4, False), (8, True), (11, False), (13, False)]),
    ],
)
def test_constant_is_a_sum_of_few_signed_powers(value, powers):
    found = signed_powers(value)
    assert sum(-(1 << at) if subtracted else 1 << at for at, subtracted in found) == value
    assert found == powers


@pytest.mark.parametrize(
    ("op", "left", "right"),
    [
        (Op.ADD, (0, 255), (-128, 127)),
        (Op.SUB, (-128, 127), (0, 255)),
        (Op.LT, (0, 255), (-128, 127)),
        (Op.LE, (-128, 127), (-128, 127)),
        (Op.EQ, (0, 255), (-128, 127)),
        (Op.NE, (0, 255), (0, 255)),
        (Op.SHL, (-8, 7), (0, 15)),
        (Op.SHR, (-128, 127), (0, 15)),
    ],
)
@pytest.mark.parametrize("budget_ns", [1.0, 2.0, 4.0])
def test_split_operation_fits_and_gives_the_same(op, left, right, budget_ns):
    graph = Graph()
    graph.results = {"r": graph.op(op, graph.arg("a", *left), graph.arg("b", *right))}
    cut, _ = split(graph, TABLE, budget_ns)
    timed = [node for node in cut.reachable() if not is_wire(node)]
    assert max(TABLE.of(node) for node in timed) <= budget_ns
    assert len(timed) > len(graph.reachable()) - 1
    for a in range(left[0], left[1] + 1, 7):
        for b in range(right[0], right[1] + 1, 5):
            values = {"a": a, "b": b}
            assert cut.evaluate(values) == graph.evaluate(values)


def test_split_table_gives_the_same():
    graph = Graph()
    items = tuple(at * at % 61 - 30 for at in range(51))
    graph.results = {"r": graph.table(items, graph.arg("a", 0, 50))}
    cut, _ = split(graph, TABLE, 3.0)
    assert max(TABLE.of(node) for node in cut.reachable()) <= 3.0
    assert [cut.evaluate({"a": at})["r"] for at in range(51)] == list(items)


@pytest.mark.parametrize(
    "lemma",
    [
        Lemma(Op.MUL, (0, (1 << 32) - 1), (0, (1 << 32) - 1), None),
        Lemma(Op.MUL, (-(1 << 63), (1 << 63) - 1), (-(1 << 40), 5), None),
        Lemma(Op.MUL, (-(1 << 40), 1 << 40), (7, 7), None),
        Lemma(Op.MUL, (-(1 << 40), 1 << 40), (123_456_789_012, 123_456_789_012), None),
        Lemma(Op.DIV, (-(1 << 63), (1 << 63) - 1), (10_000, 10_000), None),
        Lemma(Op.MOD, (0, (1 << 64) - 1), (1_000_003, 1_000_003), None),
    ],
    ids=str,
)
def test_lemma_of_the_lowering_is_proved(lemma):
    assert holds(lemma)


def test_wrong_lowering_is_not_proved(monkeypatch):
    """A reciprocal that is too small by one, and a digit that is forgotten."""
    from hw.hls import lower, prove

    def quotient(graph, value, divisor, multiply):
        third = multiply(graph, value, graph.const((1 << 17) // 3))
        return graph.op(Op.SHR, third, graph.const(17))

    def shorter(graph, a, b):
        return lower.product_of_digits(graph, a, b[:-1])

    assert holds(Lemma(Op.DIV, (0, 255), (3, 3), None))
    assert holds(Lemma(Op.MUL, (0, 1 << 20), (0, 1 << 20), None))
    monkeypatch.setattr(prove, "quotient", quotient)
    monkeypatch.setattr(prove, "product_of_digits", shorter)
    assert not holds(Lemma(Op.DIV, (0, 255), (3, 3), None))
    assert not holds(Lemma(Op.MUL, (0, 1 << 20), (0, 1 << 20), None))


@kernel
def mixed(a: U32, b: S8, c: Bool) -> S[48]:
    return a * 3 - (a // 7 if c else b * b) + (a % 5)


def test_formula_of_the_lowered_graph_is_that_of_the_kernel():
    graph = read(mixed)
    arguments = {"a": z3.BitVec("a", 32), "b": z3.BitVec("b", 8), "c": z3.BitVec("c", 1)}
    ((term, signed),) = terms(graph, arguments, exact_product).values()
    for values in ({"a": 1 << 31, "b": -128, "c": 1}, {"a": 77, "b": -3, "c": 0}):
        pairs = [
            (arguments[name], z3.BitVecVal(value, arguments[name].size()))
            for name, value in values.items()
        ]
        found = z3.simplify(z3.substitute(term, *pairs))
        number = found.as_signed_long() if signed else found.as_long()
        assert number == graph.evaluate(values)["result"]
        assert number == mixed(values["a"], values["b"], bool(values["c"]))
