"""What a kernel may call besides kernels: Python's functions on integers, and changes of width."""

import ast
import functools
from collections.abc import Callable, Sequence
from typing import Any

from hw.hls.checks import Checks
from hw.hls.ir import Op
from hw.hls.known import Scalar, Several, Value
from kernels import types
from kernels.types import Shape

Call = Callable[[ast.Call, list[Value]], Value]


class BuiltIns(Checks):
    """Does the calls of functions that are no kernels."""

    def built_in(self, function: Any) -> Call | None:
        """Return what does a call of a function, or None."""
        if not function.__hash__:
            return None
        known: dict[Any, Call] = {
            abs: self.absolute,
            min: lambda part, values: self.extreme(part, values, greatest=False),
            max: lambda part, values: self.extreme(part, values, greatest=True),
            int: self.to_integer,
            bool: self.to_bool,
            len: self.length,
            types.raw: self.raw,
            **{
                function: functools.partial(self.resized, function)
                for function in (types.wrap, types.saturate, types.truncate)
            },
            **{
                function: functools.partial(self.repointed, function)
                for function in (types.to_fixed, types.to_int, types.rescale, types.from_raw)
            },
        }
        return known.get(function)

    def numbers(self, part: ast.Call, values: Sequence[Value], count: int) -> list[Scalar]:
        if len(values) != count:
            raise self.error(part, f"takes {count} arguments, not {len(values)}")
        return [
            self.number(written, value) for written, value in zip(part.args, values, strict=True)
        ]

    def absolute(self, part: ast.Call, values: list[Value]) -> Value:
        (number,) = self.numbers(part, values, 1)
        graph, node = self.at(part), number.node
        if node.lo >= 0:
            return number
        positive = graph.op(Op.SUB, self.zero, node)
        negative = graph.op(Op.LT, node, self.zero)
        within = (max(0, -node.hi), max(-node.lo, node.hi))
        return Scalar(graph.op(Op.MUX, negative, positive, node, within=within), number.fraction)

    def extreme(self, part: ast.Call, values: list[Value], greatest: bool) -> Value:
        if len(values) < 2:
            raise self.error(part, "takes two numbers or more: write each one")
        numbers = self.numbers(part, values, len(values))
        found = numbers[0]
        for other in numbers[1:]:
            fraction = self.aligned(part, found, other)
            found = Scalar(self.nearest(part, found.node, other.node, greatest), fraction)
        return found

    def to_integer(self, part: ast.Call, values: list[Value]) -> Value:
        if len(values) != 1 or not isinstance(values[0], Scalar):
            raise self.error(part, "takes one number or Bool")
        if values[0].fraction:
            raise self.error(part, "takes an integer or Bool: use to_int or raw")
        return Scalar(values[0].node)

    def to_bool(self, part: ast.Call, values: list[Value]) -> Value:
        raise self.error(part, "`bool` is not in the kernel subset: write `!= 0`")

    def length(self, part: ast.Call, values: list[Value]) -> Value:
        if len(values) != 1 or not isinstance(values[0], Several):
            raise self.error(part, "takes one tuple")
        return Scalar(self.graph.const(len(values[0].items)))

    def shape(self, part: ast.Call, position: int, value: Value) -> Shape:
        kind = self.kind(part.args[position], value)
        if not isinstance(kind, Shape):
            raise self.error(part.args[position], f"is {kind}, not an integer type")
        return kind

    def resized(self, function: object, part: ast.Call, values: list[Value]) -> Value:
        """Return what ``wrap``, ``saturate`` or ``truncate`` makes of a value."""
        if len(values) != 2:
            raise self.error(part, f"takes a value and a type, not {len(values)} arguments")
        number = self.number(part.args[0], values[0])
        kind = self.shape(part, 1, values[1])
        wanted = Scalar(self.zero, kind.fraction)
        if number.fraction != kind.fraction:
            raise self.error(part, f"{kind} is {wanted}, and the value is {number}: use rescale")
        graph, node = self.at(part), number.node
        if function is types.wrap:
            return Scalar(graph.wrap(node, kind.lo, kind.hi), kind.fraction)
        if function is types.saturate:
            raised = self.nearest(part, node, graph.const(kind.lo), True)
            return Scalar(self.nearest(part, raised, graph.const(kind.hi), False), kind.fraction)
        if node.lo < kind.lo or node.hi > kind.hi:
            raise self.error(
                part,
                f"drops bits: the value is {node.lo} to {node.hi} and {kind} holds {kind.lo} to "
                f"{kind.hi}; narrow it, or use wrap or saturate",
            )
        return number

    def raw(self, part: ast.Call, values: list[Value]) -> Value:
        (number,) = self.numbers(part, values, 1)
        return Scalar(number.node)

    def repointed(self, function: object, part: ast.Call, values: list[Value]) -> Value:
        """Return what a conversion of fixed point makes of a value."""
        count = 3 if function is types.rescale else 2
        if len(values) != count:
            raise self.error(part, f"takes {count} arguments, not {len(values)}")
        number = self.number(part.args[0], values[0])
        kinds = [self.shape(part, position, values[position]) for position in range(1, count)]
        before = 0 if function in {types.to_fixed, types.from_raw} else kinds[0].fraction
        if number.fraction != before:
            wanted = Scalar(self.zero, before)
            raise self.error(part, f"takes {wanted}, and the value is {number}")
        if function is types.from_raw:
            return Scalar(number.node, kinds[0].fraction)
        after = 0 if function is types.to_int else kinds[-1].fraction
        shift = self.graph.const(abs(after - before))
        op = Op.SHL if after >= before else Op.SHR
        return Scalar(self.at(part).op(op, number.node, shift), after)
