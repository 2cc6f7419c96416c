"""Proves with z3 that a circuit computes a kernel.

Three steps lead from a kernel's dataflow to the circuit. First, values are narrower under an
``if``: that they fit follows from its condition, as is proved. Then operations that have no
hardware were replaced by equal ones: each is a lemma on integers, proved for the intervals at hand.
Then what was left was cut into stages: the circuit's netlist is compared with the dataflow, for all
arguments and at the bit. In this comparison a product that one multiplier makes is any function of
its two factors, the same on both sides: what holds for any holds for the product.
"""

import functools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any

import z3
from amaranth.hdl import Value
from amaranth.lib import wiring

from hw.hls.claims import first_unproven
from hw.hls.ir import Graph, Node, Op
from hw.hls.lower import (
    DIGIT_BITS,
    SHIFTS_MAX,
    Lemma,
    digits,
    product,
    product_of_digits,
    quotient,
    remainder,
    signed_powers,
)
from hw.hls.netlist import Netlist, NetlistError
from hw.hls.schedule import Schedule, sources
from hw.hls.stimulus import stimulus
from hw.hls.to_amaranth import signal_name
from hw.hls.to_z3 import Multiply, Term, declared, exact_product, resized, term_of, terms
from hw.hls.values import argument_leaves, arguments, is_signed, result_leaves, results
from kernels.types import Leaf

TIMEOUT_S = 60.0
_FACTOR_BITS = 18
_TRIED = 300
_CUT_TIMEOUT_S = 2.0
"""How long two values on the way are compared."""


@unique
class Verdict(Enum):
    """What a proof came to."""

    PROVEN = "proven"
    REFUTED = "refuted"
    UNPROVEN = "unproven"


@dataclass(frozen=True, slots=True)
class Counterexample:
    """Arguments for which a circuit does not return what the kernel does."""

    arguments: dict[str, int]
    expected: dict[str, int]
    found: dict[str, int]

    def __str__(self) -> str:
        return (
            f"{_shown(self.arguments)}: kernel {_shown(self.expected)}, "
            f"circuit {_shown(self.found)}"
        )


@dataclass(frozen=True, slots=True)
class Proof:
    """What is known of a circuit and its kernel.

    ``reason`` says why nothing is known, where that is so.
    """

    verdict: Verdict
    seconds: float
    lemma_count: int = 0
    counterexample: Counterexample | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.verdict is Verdict.PROVEN:
            plural = "" if self.lemma_count == 1 else "s"
            lemmas = f" with {self.lemma_count} lemma{plural}" if self.lemma_count else ""
            return f"proven for all arguments{lemmas}, {self.seconds:.1f} s"
        if self.verdict is Verdict.REFUTED:
            return f"REFUTED: {self.counterexample}"
        return f"UNPROVEN: {self.reason}"


def prove(plan: Schedule, circuit: wiring.Component, timeout_s: float = TIMEOUT_S) -> Proof:
    """Prove that a circuit returns what a kernel does, ``plan.latency`` cycles later.

    Parameters
    ----------
    plan : Schedule
        The kernel, and how it was scheduled.
    circuit : wiring.Component
        With the members of :class:`hw.hls.to_amaranth.Pipeline`.
    timeout_s : float
        When to give up. What is not proven until then is unproven.

    Returns
    -------
    Proof
        With arguments that show the difference, where there is one.
    """
    start = time.monotonic()
    deadline = start + timeout_s

    def proof(verdict: Verdict, **more: object) -> Proof:
        seconds = time.monotonic() - start
        return Proof(verdict, seconds, len(plan.lemmas), **more)  # type: ignore[arg-type]

    claim = first_unproven(plan.claims, timeout_s)
    if claim is not None:
        return proof(Verdict.UNPROVEN, reason=f"no proof in {timeout_s:g} s of {claim}")
    for lemma in dict.fromkeys(plan.lemmas):
        if not holds(lemma, deadline - time.monotonic()):
            return proof(Verdict.UNPROVEN, reason=f"no proof of {lemma} in {timeout_s:g} s")
    for node, image in plan.images.items():
        if not _is_kept(plan, node, image, deadline - time.monotonic()):
            where = f"{node.place}: {node.place.source}" if node.place else node
            return proof(Verdict.UNPROVEN, reason=f"no proof of the split of {where}")
    try:
        comparison = _Comparison(plan, circuit, deadline)
        # First values in which kernel and circuit agree are any; then they are what they are, with
        # products that are any function; then products are those of numbers.
        for multiply, is_free in (
            (_any_product, True),
            (_any_product, False),
            (exact_product, False),
        ):
            claim = comparison.differs(multiply, is_free)
            answer, model = _check(claim, deadline - time.monotonic())
            if answer == z3.unsat:
                return proof(Verdict.PROVEN)
            # A difference is most often found sooner by trying than by solving.
            found = None
            if is_free:
                found = comparison.tried()
            elif answer == z3.sat:
                found = comparison.counterexample(model)
            if found is not None:
                return proof(Verdict.REFUTED, counterexample=found)
    except NetlistError as error:
        return proof(Verdict.UNPROVEN, reason=f"the circuit {error}")
    return proof(Verdict.UNPROVEN, reason=f"z3 came to no end in {timeout_s:g} s")


def holds(lemma: Lemma, timeout_s: float = TIMEOUT_S) -> bool:
    """Return whether a lemma is proved: that the new operations give what the old one did."""
    deadline = time.monotonic() + timeout_s
    if lemma.op is Op.MUL:
        return all(
            _check(claim, deadline - time.monotonic(), bits=False)[0] == z3.unsat
            for claim in _product_claims(lemma)
        )
    graph = Graph()
    value, divisor = graph.arg("x", *lemma.left), graph.const(lemma.right[0])
    rewrite = quotient if lemma.op is Op.DIV else remainder
    result = rewrite(graph, value, divisor, lambda graph, a, b: graph.op(Op.MUL, a, b))
    x = z3.Int("x")
    new = _integer(result, {value: x})
    old = x / divisor.lo if lemma.op is Op.DIV else x % divisor.lo  # Rounded down, in z3.
    wrong = z3.And(x >= value.lo, x <= value.hi, new != old)
    return bool(_check(wrong, deadline - time.monotonic(), bits=False)[0] == z3.unsat)


def _is_kept(plan: Schedule, node: Node, image: Node, timeout_s: float) -> bool:
    """Return whether an operation that was split gives what it did, if its operands do.

    What they can be is every value of their intervals. Beyond them is only what a branch computes
    that is not taken, and no result depends on it.
    """
    operands = tuple(plan.images[operand] for operand in node.operands)
    if (image.op is node.op and image.operands == operands) or node.op is Op.ARG:
        return True
    fresh = {
        operand: z3.BitVec(f"x{at}", operand.width)
        for at, operand in enumerate(dict.fromkeys(node.operands))
        if not operand.is_const
    }
    limits = []
    for operand, term in fresh.items():
        wide = resized(term, operand.signed, operand.width + 1)
        limits += [wide >= operand.lo, wide <= operand.hi]
    old = term_of(node, dict(fresh), exact_product)
    wide = resized(old, node.signed, node.width + 1)
    limits += [wide >= node.lo, wide <= node.hi]
    known = {plan.images[operand]: term for operand, term in fresh.items()}
    new = term_of(image, known, exact_product)
    width = max(node.width, image.width) + 1
    differ = resized(old, node.signed, width) != resized(new, image.signed, width)
    return bool(_check(z3.And(*limits, differ), timeout_s)[0] == z3.unsat)


def _product_claims(lemma: Lemma) -> Iterator[Term]:
    """Yield what must be false if a product was replaced by an equal sum."""
    graph = Graph()
    constant = lemma.right[0] == lemma.right[1]
    a = graph.arg("a", *lemma.left)
    b = graph.const(lemma.right[0]) if constant else graph.arg("b", *lemma.right)
    if constant and len(signed_powers(b.lo)) <= SHIFTS_MAX:
        x = z3.Int("a")
        yield _integer(product(graph, a, b), {a: x}) != x * b.lo
        return
    # Each factor is the sum of its digits, and the product of two such sums is the new sum.
    yield from (_digits_differ(interval) for interval in (lemma.left, lemma.right))
    graph = Graph()
    known: dict[Node, Term] = {}
    left, right = (
        [_digit(graph, known, f"{name}{at}", digit) for at, digit in enumerate(parts)]
        for name, parts in (("a", digits(graph, a)), ("b", digits(graph, b)))
    )
    new = _integer(product_of_digits(graph, left, right), known)
    old = _number(left, known) * _number(right, known)
    # Both sides are polynomials of the digits: as sums of monomials they are the same.
    yield z3.simplify(new - old, som=True) != 0


def _digit(graph: Graph, known: dict[Node, Term], name: str, digit: Node) -> Node:
    """Return a constant digit, or one that can be anything of its interval."""
    if digit.is_const:
        return graph.const(digit.lo)
    free = graph.arg(name, digit.lo, digit.hi)
    known[free] = z3.Int(name)
    return free


def _number(parts: list[Node], known: Mapping[Node, Term]) -> Term:
    """Return the integer that has these digits."""
    return sum(_integer(part, known) * (1 << at * DIGIT_BITS) for at, part in enumerate(parts))


def _integer(node: Node, known: Mapping[Node, Term]) -> Term:
    """Return a value as an integer of z3's.

    A value that was narrowed to an interval is taken for itself: what it equals is in the interval.
    """
    if node in known:
        return known[node]
    if node.is_const:
        return z3.IntVal(node.lo)
    a, *rest = (_integer(operand, known) for operand in node.operands)
    constant = node.operands[-1].lo
    match node.op:
        case Op.FIT:
            return a
        case Op.ADD | Op.OR:  # The bits that are joined do not overlap.
            return a + rest[0]
        case Op.SUB:
            return a - rest[0]
        case Op.MUL:
            return a * rest[0]
        case Op.SHL:
            return a * (1 << constant)
        case Op.SHR:
            return a / (1 << constant)
        case Op.AND:  # With a mask of low bits.
            return a % (constant + 1)
    raise ValueError(f"{node.op} is in no lemma")


def _digits_differ(interval: tuple[int, int]) -> Term:
    """Return that a value is not the sum of its digits."""
    graph = Graph()
    lo, hi = interval
    value = graph.const(lo) if lo == hi else graph.arg("x", lo, hi)
    parts = digits(graph, value)
    width = value.width + DIGIT_BITS * len(parts)
    x = z3.BitVecVal(lo, value.width) if lo == hi else z3.BitVec("x", value.width)
    total = z3.BitVecVal(0, width)
    for at, part in enumerate(parts):
        graph.results = {"digit": part}
        ((term, signed),) = terms(graph, {"x": x}, exact_product).values()
        total += resized(term, signed, width) << at * DIGIT_BITS
    return total != resized(x, value.signed, width)


class _Comparison:
    """A circuit's results beside those of its kernel, for the arguments of one cycle.

    Signals of the circuit that are named as values of the dataflow are compared on the way: where
    they agree, what comes later need not know how they came about.
    """

    def __init__(self, plan: Schedule, circuit: wiring.Component, deadline: float):
        self.plan = plan
        self.circuit = circuit
        self.deadline = deadline
        self.ports = [Value.cast(value) for _, _, value in circuit.signature.flatten(circuit)]

    def netlist(self, multiply: Multiply) -> tuple[Netlist, dict[str, Term]]:
        """Return the circuit's netlist and its arguments."""
        netlist = Netlist(self.circuit, self.ports, multiply)
        names = argument_leaves(self.plan.kernel)
        return netlist, {name: netlist.input(f"i_{name}", 0) for name in names}

    def differs(self, multiply: Multiply, is_free: bool) -> Term:
        """Return that some result is not the kernel's, or does not come in its cycle.

        With ``is_free`` values in which both agree can be any.
        """
        netlist, inputs = self.netlist(multiply)
        known = {node: inputs[node.name] for node in self.plan.graph.args}
        agreeing = set(self.plan.graph.args)
        meanings = []
        for node, stage in self.plan.stages.items():
            name = signal_name(node, stage)
            value = term_of(node, known, multiply)
            # What is made of values that differ differs, most often: that is not looked into.
            if node.op is Op.ARG or not netlist.has(name) or not agreeing.issuperset(sources(node)):
                continue
            if self.agree(netlist.value(name, stage), value):
                agreeing.add(node)
                known[node] = netlist.free(name, stage)
                meanings.append(known[node] == value)
        graph = self.plan.graph
        expected = {
            name: (term_of(node, known, multiply), node.signed)
            for name, node in graph.results.items()
        }
        found = self.results(netlist)
        wrong = z3.Or(
            self.wrong_cycle(netlist),
            *(found[name] != term for name, term in declared(self.plan.kernel, expected).items()),
        )
        return wrong if is_free else z3.And(*meanings, wrong)

    def agree(self, found: Term, value: Term) -> bool:
        if found.size() != value.size():
            return False
        timeout_s = min(_CUT_TIMEOUT_S, self.deadline - time.monotonic())
        return bool(_check(found != value, timeout_s)[0] == z3.unsat)

    def results(self, netlist: Netlist) -> dict[str, Term]:
        names = result_leaves(self.plan.kernel)
        return {name: netlist.value(f"o_{name}", self.plan.latency) for name in names}

    def wrong_cycle(self, netlist: Netlist) -> Term:
        """Return that results come when there were no arguments, or the other way round."""
        valid: Term = netlist.value("o_valid", self.plan.latency)
        return valid != netlist.input("i_valid", 0)

    @functools.cached_property
    def exact(self) -> tuple[Netlist, dict[str, Term]]:
        """The circuit's netlist, with products of numbers, and its arguments."""
        return self.netlist(exact_product)

    def counterexample(self, model: Any) -> Counterexample | None:
        """Return what differs for the arguments of a model; None if nothing does."""
        return self.difference(lambda term: model.eval(term, model_completion=True))

    def tried(self) -> Counterexample | None:
        """Return what differs for some arguments that are likely to show it; None if nothing."""
        netlist, inputs = self.exact
        free = _variables([self.wrong_cycle(netlist), *self.results(netlist).values()])
        for numbers in stimulus(self.plan.kernel, _TRIED, seed=1):
            if time.monotonic() > self.deadline:
                break
            # What else there is, arguments of other cycles, is 0.
            values = dict.fromkeys(free, 0) | {inputs[name]: each for name, each in numbers.items()}
            pairs = [(term, z3.BitVecVal(each, term.size())) for term, each in values.items()]
            found = self.difference(functools.partial(_substituted, pairs))
            if found is not None:
                return found
        return None

    def difference(self, evaluated: Callable[[Term], Term]) -> Counterexample | None:
        """Return what differs where terms have these values; None if nothing does."""
        kernel = self.plan.kernel
        netlist, inputs = self.exact
        values = _numbers(evaluated, inputs, argument_leaves(kernel))
        circuit = _numbers(evaluated, self.results(netlist), result_leaves(kernel))
        expected = results(kernel, kernel.function(*arguments(kernel, values)))
        is_late = z3.is_true(evaluated(self.wrong_cycle(netlist)))
        if circuit == expected and not is_late:
            return None
        return Counterexample(values, expected, circuit)


def _substituted(pairs: Sequence[tuple[Term, Term]], term: Term) -> Term:
    return z3.simplify(z3.substitute(term, *pairs))


def _variables(terms: Sequence[Term]) -> set[Term]:
    """Return the variables that terms are made of."""
    seen: set[Term] = set()
    waiting = list(terms)
    while waiting:
        term = waiting.pop()
        if term not in seen:
            seen.add(term)
            waiting += term.children()
    return {term for term in seen if z3.is_const(term) and not z3.is_bv_value(term)}


def _numbers(
    evaluated: Callable[[Term], Term], found: Mapping[str, Term], leaves: Mapping[str, Leaf]
) -> dict[str, int]:
    numbers = {}
    for name, term in found.items():
        value = evaluated(term)
        numbers[name] = value.as_signed_long() if is_signed(leaves[name]) else value.as_long()
    return numbers


def _check(claim: Term, timeout_s: float, bits: bool = True) -> tuple[Any, Any]:
    """Return whether a claim, on bit vectors or on integers, can be true, and when it is."""
    if timeout_s <= 0:
        return z3.unknown, None
    # The solver for bit vectors is much better at them than the general one, which knows integers.
    solver = z3.SolverFor("QF_UFBV") if bits else z3.Solver()
    solver.set("timeout", max(1, int(timeout_s * 1000)))
    solver.add(claim)
    answer = solver.check()
    return answer, solver.model() if answer == z3.sat else None


_PRODUCT = z3.Function(
    "product",
    z3.BitVecSort(_FACTOR_BITS),
    z3.BitVecSort(_FACTOR_BITS),
    z3.BitVecSort(2 * _FACTOR_BITS),
)


def _any_product(a: Term, a_signed: bool, b: Term, b_signed: bool, bits: int) -> Term:
    """Return a product as a function of which only its arguments are known.

    A factor that is constant, or too wide for one multiplier, is multiplied.
    """
    factors = [z3.simplify(a), z3.simplify(b)]
    widths = [a.size() + (not a_signed), b.size() + (not b_signed)]
    if any(map(z3.is_bv_value, factors)) or max(widths) > _FACTOR_BITS:
        return exact_product(a, a_signed, b, b_signed, bits)
    wide = (resized(a, a_signed, _FACTOR_BITS), resized(b, b_signed, _FACTOR_BITS))
    return resized(_PRODUCT(*wide), True, bits)


def _shown(values: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
