"""What the front end asks of values: that they are numbers, alike, and fit what is declared."""

import ast

from hw.hls.ir import BITS_MAX, Graph, KernelError, Node, Op, bits
from hw.hls.known import Scalar, Several, Static, Value
from hw.hls.source import Source
from kernels import types
from kernels.types import Boolean, Group, KernelType, Shape

NO_TYPE = "is no kernel type: use U[n], S[n], Bool, Fixed[i, f] or a record"


class Checks:
    """A kernel's source and the graph that it is read into, with what both need.

    What does not hold raises :class:`KernelError` with the part of the source.
    """

    def __init__(self, source: Source, graph: Graph):
        self.source = source
        self.graph = graph
        self.zero = graph.const(0)
        self.one = graph.const(1)

    def error(self, part: ast.AST, reason: str) -> KernelError:
        return self.source.error(part, reason)

    def at(self, part: ast.AST) -> Graph:
        """Return the graph, to which what is built now stands for a part of the source."""
        self.graph.place = self.source.place(part)
        return self.graph

    def kind(self, part: ast.expr, value: Value) -> KernelType:
        try:
            return types.kernel_type(value.item if isinstance(value, Static) else None)
        except TypeError:
            raise self.error(part, NO_TYPE) from None

    def number(self, part: ast.AST, value: Value) -> Scalar:
        """Return a value as a number; a truth value is refused."""
        if not isinstance(value, Scalar):
            raise self.error(part, f"is {value}, not a number")
        if value.is_bool:
            raise self.error(part, "is a Bool, not a number: write `int(...)` around it")
        return value

    def integer(self, part: ast.AST, value: Value) -> Node:
        scalar = self.number(part, value)
        if scalar.fraction:
            raise self.error(part, f"is {scalar}, not an integer: use to_int or raw")
        return scalar.node

    def truth(self, part: ast.AST, value: Value) -> Scalar:
        if not isinstance(value, Scalar):
            raise self.error(part, f"is {value}, not a Bool")
        if not value.is_bool:
            raise self.error(part, "is a number, not a Bool: write `!= 0`")
        return value

    def check_right(self, part: ast.AST, op: Op, right: Scalar) -> None:
        """Refuse what one may not shift or divide by."""
        if right.fraction:
            raise self.error(part, f"the right side is {right}, not an integer")
        node = right.node
        if op in {Op.DIV, Op.MOD}:
            if not node.is_const or node.lo < 1:
                raise self.error(
                    part, "divides by what is no positive constant: multiply the other side instead"
                )
        elif node.lo < 0 or node.hi > BITS_MAX:
            raise self.error(
                part,
                f"shifts by {node.lo} to {node.hi}: narrow it to 0 to {BITS_MAX}, with min and max",
            )

    def common_fraction(self, a: Scalar, b: Scalar) -> int | None:
        """Return the bits behind the point that two have in common. A constant 0 has any."""
        if a.fraction == b.fraction:
            return a.fraction
        if a.node.is_const and a.node.lo == 0:
            return b.fraction
        if b.node.is_const and b.node.lo == 0:
            return a.fraction
        return None

    def aligned(self, part: ast.AST, a: Scalar, b: Scalar) -> int:
        fraction = self.common_fraction(a, b)
        if fraction is None:
            raise self.error(
                part, f"joins {a} and {b}: bring them to one type, with to_fixed or rescale"
            )
        return fraction

    def nearest(self, part: ast.AST, a: Node, b: Node, greatest: bool) -> Node:
        """Return the lesser or the greater of two."""
        graph = self.at(part)
        choose = max if greatest else min
        within = choose(a.lo, b.lo), choose(a.hi, b.hi)
        first = graph.op(Op.LT, b, a) if greatest else graph.op(Op.LT, a, b)
        return graph.op(Op.MUX, first, a, b, within=within)

    def fitted(self, part: ast.AST, value: Value, kind: KernelType, what: str = "result") -> Value:
        """Return a value as one of a declared type; refuse it if it might not fit."""
        match kind, value:
            case Boolean(), Scalar(is_bool=True):
                return value
            case Shape(), Scalar():
                if value.is_bool:
                    raise self.error(part, f"{what} is a Bool and must be {kind}: use `int(...)`")
                fraction = self.common_fraction(value, Scalar(self.one, kind.fraction))
                if fraction is None:
                    raise self.error(
                        part,
                        f"{what} is {value} and must be {kind}: use to_fixed, to_int or rescale",
                    )
                node = value.node
                if kind.lo <= node.lo and node.hi <= kind.hi:
                    return Scalar(node, kind.fraction)
                signed = node.signed or kind.signed
                lo = min(node.lo, -1) if signed else 0
                needed = Shape(bits(lo, node.hi), signed, kind.fraction)
                raise self.error(
                    part,
                    f"{what} is {node.lo} to {node.hi} and {kind} holds {kind.lo} to {kind.hi}: "
                    f"declare {needed}, or use saturate or wrap",
                )
            case Group(), Several():
                if len(kind.items) == len(value.items) and kind.record is value.record:
                    pairs = zip(kind.items, value.items, strict=True)
                    return Several(
                        tuple(
                            self.fitted(part, item, inner, f"{what} {name}")
                            for (name, inner), item in pairs
                        ),
                        kind.record,
                    )
        raise self.error(part, f"{what} is {value} and must be {kind}")
