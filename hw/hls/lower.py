"""Turns operations that have no hardware of their own into ones that do.

Divisions by constants become products, and wide products sums of products that one multiplier of
the card makes. These are identities on integers; each is noted as a lemma, for a proof.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

from hw.hls.ir import Graph, Node, Op, Place, copied, rebuilt

DIGIT_BITS = 17
"""Bits of a digit of a long product: as an unsigned number it fits an 18 x 18 signed multiplier."""
_DIGIT_MAX_BITS = 18
SHIFTS_MAX = 2
"""A constant factor that is the sum or difference of so many powers of two is done by shifts."""

Interval = tuple[int, int]
Multiply = Callable[[Graph, Node, Node], Node]


@dataclass(frozen=True, slots=True)
class Lemma:
    """That an operation on two integers of these intervals was replaced by an equal one."""

    op: Op
    left: Interval
    right: Interval
    place: Place | None

    def __str__(self) -> str:
        where = "" if self.place is None else f" at {self.place}: {self.place.source}"
        return f"`{self.op.value}`{where}"


@dataclass(slots=True)
class Lowering:
    """Lowers a graph; ``lemmas`` are what that rests on."""

    lemmas: list[Lemma] = field(default_factory=list)

    def lower(self, graph: Graph) -> Graph:
        """Return the graph without divisions and without products of more than 18 bits a side."""
        return copied(graph, self._convert)[0]

    def _convert(self, graph: Graph, node: Node, operands: tuple[Node, ...]) -> Node:
        if node.op not in {Op.MUL, Op.DIV, Op.MOD} or all(each.is_const for each in operands):
            return rebuilt(graph, node, operands)
        a, b = operands
        if node.op is Op.MUL:
            return self._product(graph, a, b)
        rewrite = quotient if node.op is Op.DIV else remainder
        return self._noted(graph, node.op, a, b, rewrite(graph, a, b, self._product))

    def _product(self, graph: Graph, a: Node, b: Node) -> Node:
        if a.is_const and b.is_const:
            return graph.op(Op.MUL, a, b)
        return self._noted(graph, Op.MUL, a, b, product(graph, a, b))

    def _noted(self, graph: Graph, op: Op, a: Node, b: Node, found: Node) -> Node:
        if found.op is not op:
            self.lemmas.append(Lemma(op, (a.lo, a.hi), (b.lo, b.hi), graph.place))
        return found


def product(graph: Graph, a: Node, b: Node) -> Node:
    """Return the product of two values."""
    whole = Graph()
    exact = whole.op(Op.MUL, whole.arg("a", a.lo, a.hi), whole.arg("b", b.lo, b.hi))
    if a is b:
        exact = whole.op(Op.MUL, whole.args[0], whole.args[0])
    within = exact.lo, exact.hi
    if b.is_const and len(powers := signed_powers(b.lo)) <= SHIFTS_MAX:
        return _shifted_sum(graph, a, powers, within)
    return product_of_digits(graph, digits(graph, a), digits(graph, b), within)


def digits(graph: Graph, value: Node) -> list[Node]:
    """Return a value's digits, the lowest first; the highest has the value's sign."""
    found = []
    while value.width > (_DIGIT_MAX_BITS if value.signed else DIGIT_BITS):
        found.append(graph.op(Op.AND, value, graph.const((1 << DIGIT_BITS) - 1)))
        value = graph.op(Op.SHR, value, graph.const(DIGIT_BITS))
    return [*found, value]


def product_of_digits(
    graph: Graph, a: list[Node], b: list[Node], within: Interval | None = None
) -> Node:
    """Return the product of two numbers given by digits.

    Products that do not overlap stand side by side in one row, so that fewer rows are added.
    """
    terms = sorted(
        (
            ((i + j) * DIGIT_BITS, graph.op(Op.MUL, x, y))
            for i, x in enumerate(a)
            for j, y in enumerate(b)
        ),
        key=lambda term: term[0],
    )
    rows: list[tuple[int, Node]] = []
    for at, term in terms:
        shifted = graph.op(Op.SHL, term, graph.const(at))
        for index, (end, row) in enumerate(rows):
            if end <= at and not row.signed:
                rows[index] = at + term.width, graph.op(Op.OR, shifted, row)
                break
        else:
            rows.append((at + term.width, shifted))
    return _sum(graph, [row for _, row in rows], within)


def _sum(graph: Graph, terms: list[Node], within: Interval | None) -> Node:
    """Add in pairs, so that few additions follow one another."""
    while len(terms) > 2:
        pairs = zip(terms[::2], terms[1::2], strict=False)
        terms = [graph.op(Op.ADD, *pair) for pair in pairs] + terms[len(terms) & ~1 :]
    return reduce(lambda a, b: graph.op(Op.ADD, a, b, within=within), terms)


def signed_powers(value: int) -> list[tuple[int, bool]]:
    """Return the fewest powers of two whose sum is a value, and whether each is subtracted."""
    found = []
    at = 0
    while value:
        if value & 1:
            subtracted = value & 3 == 3
            found.append((at, subtracted))
            value += 1 if subtracted else -1
        value >>= 1
        at += 1
    return found


def _shifted_sum(graph: Graph, a: Node, powers: list[tuple[int, bool]], within: Interval) -> Node:
    terms = [(graph.op(Op.SHL, a, graph.const(at)), subtracted) for at, subtracted in powers]
    if not terms:
        return graph.const(0)
    terms.sort(key=lambda term: term[1])  # An added one first, where there is one.
    found, subtracted = terms[0]
    if subtracted:
        found = graph.op(Op.SUB, graph.const(0), found)
    for term, subtracted in terms[1:]:
        found = graph.op(Op.SUB if subtracted else Op.ADD, found, term, within=within)
    return found


def quotient(graph: Graph, value: Node, divisor: Node, multiply: Multiply) -> Node:
    """Return a value divided by a positive constant, rounded down.

    For 0 <= x <= x_max it is ``x * m >> k`` with ``m = ceil(2**k / d)``, if the error of m, times
    x_max, stays below ``2**k``: Granlund and Montgomery, Division by Invariant Integers using
    Multiplication, theorem 4.2. A value below zero is raised by a multiple of the divisor first.
    """
    d = divisor.lo
    if d & (d - 1) == 0:
        return graph.op(Op.SHR, value, graph.const(d.bit_length() - 1))
    raised_by = max(0, -(value.lo // d))
    raised = graph.op(Op.ADD, value, graph.const(raised_by * d))
    shift = d.bit_length()
    while (-(1 << shift) % d) * raised.hi >= 1 << shift:
        shift += 1
    factor = graph.const(-(-(1 << shift) // d))
    scaled = graph.op(Op.SHR, multiply(graph, raised, factor), graph.const(shift))
    within = value.lo // d, value.hi // d
    if raised_by == 0:
        return graph.fit(scaled, *within)
    return graph.op(Op.SUB, scaled, graph.const(raised_by), within=within)


def remainder(graph: Graph, value: Node, divisor: Node, multiply: Multiply) -> Node:
    """Return what is left of a value after division by a positive constant."""
    d = divisor.lo
    if d & (d - 1) == 0:
        return graph.op(Op.AND, value, graph.const(d - 1))
    multiple = multiply(graph, quotient(graph, value, divisor, multiply), divisor)
    return graph.op(Op.SUB, value, multiple, within=(0, d - 1))
