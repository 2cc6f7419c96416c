"""A kernel as formulas on bit vectors, for z3: each value as wide as its interval needs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import z3

from hw.hls.front import read
from hw.hls.ir import COMPARISONS, Graph, Node, Op
from hw.hls.values import argument_leaves, is_signed, result_leaves, width
from kernels.types import Kernel

Term = Any
"""A bit vector of z3, which ships no types."""
Multiply = Callable[[Term, bool, Term, bool, int], Term]
"""Makes so many low bits of the product of two vectors, each with or without a sign."""

_PLAIN: dict[Op, Callable[..., Term]] = {
    Op.ADD: lambda a, b: a + b,
    Op.ADDC: lambda a, b, c: a + b + c,
    Op.SUB: lambda a, b: a - b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.NOT: lambda a: ~a,
    Op.SHL: lambda a, b: a << b,
    Op.SHR: lambda a, b: a >> b,
    Op.EQ: lambda a, b: a == b,
    Op.NE: lambda a, b: a != b,
    Op.LT: lambda a, b: a < b,
    Op.LE: lambda a, b: a <= b,
}


@dataclass(frozen=True, slots=True)
class Formula:
    """A kernel's results as terms of its arguments, by name, of the declared widths.

    Those named in ``signed`` are in two's complement.
    """

    arguments: dict[str, Term]
    results: dict[str, Term]
    signed: frozenset[str]

    def integer(self, name: str) -> Term:
        """Return an argument or result as an integer of z3's, which has no width."""
        term = self.arguments[name] if name in self.arguments else self.results[name]
        return z3.BV2Int(term, is_signed=name in self.signed)


def to_z3(kernel: Kernel[..., Any]) -> Formula:
    """Return a kernel as formulas.

    Raises :class:`KernelError` if it is not in the subset.
    """
    taken, returned = argument_leaves(kernel), result_leaves(kernel)
    arguments = {name: z3.BitVec(name, width(kind)) for name, kind in taken.items()}
    results = terms(read(kernel), arguments, exact_product)
    signed = {name for name, kind in (taken | returned).items() if is_signed(kind)}
    return Formula(arguments, declared(kernel, results), frozenset(signed))


def declared(kernel: Kernel[..., Any], results: Mapping[str, tuple[Term, bool]]) -> dict[str, Term]:
    """Return results as wide as they are declared."""
    leaves = result_leaves(kernel)
    return {
        name: resized(term, signed, width(leaves[name])) for name, (term, signed) in results.items()
    }


def terms(
    graph: Graph, arguments: Mapping[str, Term], multiply: Multiply
) -> dict[str, tuple[Term, bool]]:
    """Return the term of each result of a graph, and whether it has a sign."""
    known = {node: arguments[node.name] for node in graph.args}
    return {
        name: (term_of(node, known, multiply), node.signed) for name, node in graph.results.items()
    }


def term_of(node: Node, known: dict[Node, Term], multiply: Multiply) -> Term:
    """Return the term of a node from those that are known, to which what it needs is added."""
    waiting = [node]
    while waiting:
        at = waiting[-1]
        missing = [operand for operand in at.operands if operand not in known]
        if at in known or not missing:
            waiting.pop()
        if at not in known and not missing:
            known[at] = _term(at, [known[operand] for operand in at.operands], multiply)
        if at not in known:
            waiting += missing
    return known[node]


def resized(term: Term, signed: bool, bits: int) -> Term:
    """Return a vector with so many bits of the same value, or its low ones."""
    more = bits - term.size()
    if more < 0:
        return z3.Extract(bits - 1, 0, term)
    if more == 0:
        return term
    return z3.SignExt(more, term) if signed else z3.ZeroExt(more, term)


def exact_product(a: Term, a_signed: bool, b: Term, b_signed: bool, bits: int) -> Term:
    """Return the product, so many low bits of it, by z3's own multiplication."""
    return resized(a, a_signed, bits) * resized(b, b_signed, bits)


def _term(node: Node, operands: Sequence[Term], multiply: Multiply) -> Term:
    signs = [operand.signed for operand in node.operands]
    # Room for every operand and for the result, and a sign.
    bits = max([node.width, *(operand.width for operand in node.operands)]) + 1
    wide = [resized(*each, bits) for each in zip(operands, signs, strict=True)]
    match node.op:
        case Op.CONST:
            return z3.BitVecVal(node.lo, node.width)
        case Op.FIT | Op.WRAP:
            return resized(wide[0], True, node.width)
        case Op.MUL:
            a, b = operands
            return multiply(a, signs[0], b, signs[1], node.width)
        case Op.MUX:
            yes, no = (resized(each, True, node.width) for each in wide[1:])
            return z3.If(operands[0] == 1, yes, no)
        case Op.TABLE:
            return _table(node, operands[0])
        case Op.DIV | Op.MOD:
            return resized(_divided(node, operands[0]), True, node.width)
    found = _PLAIN[node.op](*wide)
    if node.op in COMPARISONS:
        return z3.If(found, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))
    return resized(found, True, node.width)


def _divided(node: Node, value: Term) -> Term:
    """Return quotient or remainder by a positive constant, rounded down."""
    operand, divisor = node.operands
    raised_by = max(0, -(operand.lo // divisor.lo))
    bits = max(operand.width, divisor.width) + 2
    d = z3.BitVecVal(divisor.lo, bits)
    raised = resized(value, operand.signed, bits) + raised_by * d
    return z3.UDiv(raised, d) - raised_by if node.op is Op.DIV else z3.URem(raised, d)


def _table(node: Node, index: Term) -> Term:
    found = z3.BitVecVal(node.table[-1], node.width)
    for at in range(min(len(node.table), 1 << index.size()) - 1):
        found = z3.If(index == at, z3.BitVecVal(node.table[at], node.width), found)
    return found
