"""What the front end knows of values while it reads a kernel."""

from dataclasses import dataclass, field
from typing import Any

from hw.hls.ir import Claim, Given, Graph, Node, Op, unfitted


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number with ``fraction`` bits behind the point, or a truth value."""

    node: Node
    fraction: int = 0
    is_bool: bool = False

    def __str__(self) -> str:
        if self.is_bool:
            return "a Bool"
        if self.fraction:
            return f"fixed point with {self.fraction} bits behind the point"
        return "an integer"


@dataclass(frozen=True, slots=True)
class Several:
    """A tuple, or a record."""

    items: "tuple[Value, ...]"
    record: Any = None

    def __str__(self) -> str:
        if self.record is not None:
            return f"a {self.record.__name__}"
        return f"a tuple of {len(self.items)}"


@dataclass(frozen=True, slots=True)
class Static:
    """What is no number: a type, a module, a function."""

    item: Any

    def __str__(self) -> str:
        return f"`{getattr(self.item, '__name__', self.item)}`"


@dataclass(frozen=True, slots=True)
class Unset:
    """What a name is worth that only some paths through the ``if`` in a line assign."""

    line: int

    def __str__(self) -> str:
        return f"assigned on only some paths through line {self.line}"


Value = Scalar | Several | Static | Unset


@dataclass(slots=True)
class Path:
    """What holds at one point of a function, for the runs that come there.

    Runs for which ``returned`` is 1 have their ``result`` already.
    """

    names: dict[str, Value]
    returned: Node
    result: Value | None = None
    bounds: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Intervals that comparisons have shown, by number of the node."""
    less: dict[tuple[int, int], int] = field(default_factory=dict)
    """By how much at least the first of two nodes is less than the second, by their numbers."""
    given: Given | None = None
    """What these runs have found to hold, or not to: all that is known follows from it."""

    def copy(self) -> "Path":
        path = Path(dict(self.names), self.returned, self.result)
        path.learn(self)
        return path

    def learn(self, other: "Path") -> None:
        """Know what another path knows, and nothing else."""
        self.bounds, self.less = dict(other.bounds), dict(other.less)
        self.given = other.given

    @property
    def is_over(self) -> bool:
        return self.returned.is_const and self.returned.lo == 1

    def assume(self, graph: Graph, condition: Node, holds: bool) -> None:
        """Note what this path knows of the operands of a condition that holds, or does not."""
        self.given = Given(condition, holds, self.given)
        self._conclude(graph, condition, holds)

    def _conclude(self, graph: Graph, condition: Node, holds: bool) -> None:
        operands = condition.operands
        match condition.op:
            case Op.AND | Op.OR:
                truths = all(operand.lo >= 0 and operand.hi <= 1 for operand in operands)
                if truths and holds == (condition.op is Op.AND):
                    for operand in operands:
                        self._conclude(graph, operand, holds)
            case Op.XOR if operands[1].is_const and operands[1].lo == 1:
                if operands[0].lo >= 0 and operands[0].hi <= 1:
                    self._conclude(graph, operands[0], not holds)
            case Op.LT | Op.LE:
                a, b = operands if holds else reversed(operands)
                strict = int((condition.op is Op.LT) == holds)
                self._narrow(graph, a, a.lo, b.hi - strict)
                self._narrow(graph, b, a.lo + strict, b.hi)
                order = unfitted(a).number, unfitted(b).number
                self.less[order] = max(strict, self.less.get(order, 0))
            case Op.EQ | Op.NE:
                a, b = operands
                if holds == (condition.op is Op.EQ):
                    self._narrow(graph, a, b.lo, b.hi)
                    self._narrow(graph, b, a.lo, a.hi)
                elif b.is_const:
                    at = self.narrowed(graph, a)
                    self._narrow(graph, a, at.lo + (at.lo == b.lo), at.hi - (at.hi == b.lo))

    def _narrow(self, graph: Graph, node: Node, lo: int, hi: int) -> None:
        at = self.narrowed(graph, node)
        lo, hi = max(lo, at.lo), min(hi, at.hi)
        # No value is left where the branch is never taken.
        if not at.is_const and lo <= hi and (lo, hi) != (at.lo, at.hi):
            self.bounds[at.number] = lo, hi

    def narrowed(self, graph: Graph, node: Node) -> Node:
        """Return a node with what this path knows of it."""
        if node.op is Op.SUB:
            first, second = (unfitted(operand).number for operand in node.operands)
            lo = max(node.lo, self.less.get((second, first), node.lo))
            hi = min(node.hi, -self.less.get((first, second), -node.hi))
            if lo <= hi and (lo, hi) != (node.lo, node.hi):
                self.bounds.setdefault(node.number, (lo, hi))
        while node.number in self.bounds:
            lo, hi = self.bounds[node.number]
            inner = graph.fit(node, lo, hi)
            if inner is node:
                break
            graph.claims[Claim(node, lo, hi, self.given, graph.place)] = None
            node = inner
        return node
