"""Proves with z3 what the front end concluded from a kernel's conditions.

Where a branch depends on a comparison, what is compared is narrower there, and so is what is made
of it. Each such interval is a claim, and follows from the conditions of its branch. All that stands
in them and is no comparison, difference or truth value is any integer of its interval.
"""

import time
from collections.abc import Iterable

import z3

from hw.hls.ir import COMPARISONS, Claim, Given, Node, Op
from hw.hls.to_z3 import Term

_LOGIC = {Op.AND: z3.And, Op.OR: z3.Or, Op.XOR: z3.Xor}
_COMPARED = {
    Op.EQ: lambda a, b: a == b,
    Op.NE: lambda a, b: a != b,
    Op.LT: lambda a, b: a < b,
    Op.LE: lambda a, b: a <= b,
}


def first_unproven(claims: Iterable[Claim], timeout_s: float) -> Claim | None:
    """Return the first claim that is not proved in time, or None.

    Claims are in the order in which they were made: a narrowed value that stands in one is what it
    was before it was narrowed, by a claim that was proved already.
    """
    deadline = time.monotonic() + timeout_s
    terms = _Terms()
    for claim in claims:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not terms.holds(claim, left_s):
            return claim
    return None


class _Terms:
    """Nodes as integers and truth values of z3."""

    def __init__(self) -> None:
        self.solver = z3.Solver()
        self.numbers: dict[Node, Term] = {}
        self.truths: dict[Node, Term] = {}
        self.given: dict[Given | None, Term] = {None: z3.BoolVal(True)}

    def holds(self, claim: Claim, timeout_s: float) -> bool:
        value, given = self.number(claim.value), self.all_of(claim.given)
        self.solver.set("timeout", max(1, int(timeout_s * 1000)))
        self.solver.push()
        self.solver.add(given, z3.Or(value < claim.lo, value > claim.hi))
        answer = self.solver.check()
        self.solver.pop()
        return bool(answer == z3.unsat)

    def all_of(self, given: Given | None) -> Term:
        waiting = []
        while given not in self.given:
            assert given is not None
            waiting.append(given)
            given = given.before
        found = self.given[given]
        for each in reversed(waiting):
            truth = self.truth(each.condition)
            # A name for it, so that what is given in a long loop is not written out every time.
            name = z3.FreshBool()
            self.solver.add(name == z3.And(found, truth if each.holds else z3.Not(truth)))
            found = self.given[each] = name
        return found

    def truth(self, node: Node) -> Term:
        self.make(node)
        return self.truths[node] if node in self.truths else self.numbers[node] == 1

    def number(self, node: Node) -> Term:
        self.make(node)
        return self.numbers[node] if node in self.numbers else z3.If(self.truths[node], 1, 0)

    def make(self, node: Node) -> None:
        """Make the term of a node and of what it is made of."""
        waiting = [node]
        while waiting:
            at = waiting[-1]
            if at in self.numbers or at in self.truths:
                waiting.pop()
                continue
            parts = _parts(at)
            missing = [
                part for part in parts if part not in self.numbers and part not in self.truths
            ]
            waiting += missing
            if missing:
                continue
            if at.op in COMPARISONS:
                self.truths[at] = _COMPARED[at.op](*map(self.number, parts))
            elif at.op in _LOGIC and parts:
                self.truths[at] = _LOGIC[at.op](*map(self.truth, parts))
            elif at.op is Op.SUB:
                self.numbers[at] = self.number(parts[0]) - self.number(parts[1])
            elif at.op is Op.FIT:
                self.numbers[at] = self.number(parts[0])
            elif at.is_const:
                self.numbers[at] = z3.IntVal(at.lo)
            else:
                self.numbers[at] = z3.Int(f"n{at.number}")
                self.solver.add(self.numbers[at] >= at.lo, self.numbers[at] <= at.hi)


def _parts(node: Node) -> tuple[Node, ...]:
    """Return the operands that the term of a node is made of; none if it can be anything."""
    if node.op in COMPARISONS or node.op in {Op.SUB, Op.FIT}:
        return node.operands
    is_logic = all(operand.lo >= 0 and operand.hi <= 1 for operand in node.operands)
    return node.operands if node.op in _LOGIC and is_logic else ()
