"""Reads a kernel's source into a dataflow graph.

A kernel is executed once with values that are not known: both branches of an ``if`` are taken and
what they assign is joined, loops are unrolled, and other kernels are called in place. What is known
is an interval of every value; a comparison that a branch depends on narrows it there.
"""

import ast
import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from hw.hls.built_ins import BuiltIns
from hw.hls.checks import NO_TYPE
from hw.hls.ir import Graph, Node, Op
from hw.hls.known import Path, Scalar, Several, Static, Unset, Value
from hw.hls.source import read_source
from hw.hls.subset import BINARY, COMPARED, REFUSED
from kernels.types import Boolean, Kernel, KernelType, Shape

ITERATIONS_MAX = 4096
"""Turns that a kernel's loops may take in all."""
TABLE_MAX = 1024
"""Items of the longest table that is indexed by a value."""


def read(kernel: Kernel[..., Any]) -> Graph:
    """Return the dataflow of a kernel.

    Arguments and results are named as :meth:`Group.leaves` names them, results from ``result``.

    Raises
    ------
    TypeError
        If it is no kernel.
    KernelError
        If it is not in the subset, or a result might not fit its type.
    """
    if not isinstance(kernel, Kernel):
        raise TypeError(f"kernel must be a function under @kernel, not {kernel!r}")
    graph = Graph()
    function = _Function(kernel, graph, (), _Budget(ITERATIONS_MAX))
    arguments: dict[str, Value] = {}
    _check_names(kernel, function)
    for written in function.source.tree.args.args:
        graph.place = function.source.place(written)
        arguments[written.arg] = _argument(graph, written.arg, kernel.parameters[written.arg])
    result = function.run(Path(arguments, function.zero))
    graph.results = dict(zip(names(kernel.result, "result"), _scalars(result), strict=True))
    return graph


def names(kind: KernelType, name: str) -> list[str]:
    """Return the names of a type's scalars."""
    return [leaf for leaf, _ in kind.leaves(name)]


def _check_names(kernel: Kernel[..., Any], function: "_Function") -> None:
    """Refuse scalars whose names are not their own, as ports have them."""
    taken = {"valid": "the port that tells whether there are arguments"}
    for written in function.source.tree.args.args:
        for leaf in names(kernel.parameters[written.arg], written.arg):
            if leaf in taken:
                raise function.error(
                    written, f"would be a second port i_{leaf}, beside {taken[leaf]}: rename it"
                )
            taken[leaf] = f"argument {written.arg}"
    found = names(kernel.result, "result")
    for leaf in found:
        if found.count(leaf) > 1:
            returns = function.source.tree.returns or function.source.tree
            raise function.error(returns, f"has two ports o_{leaf}: rename a field")


def _argument(graph: Graph, name: str, kind: KernelType) -> Value:
    match kind:
        case Shape():
            return Scalar(graph.arg(name, kind.lo, kind.hi), kind.fraction)
        case Boolean():
            return Scalar(graph.arg(name, 0, 1), is_bool=True)
    items = tuple(_argument(graph, f"{name}_{item}", inner) for item, inner in kind.items)
    return Several(items, kind.record)


def _scalars(value: Value) -> list[Node]:
    if isinstance(value, Several):
        return [node for item in value.items for node in _scalars(item)]
    assert isinstance(value, Scalar)  # Checked against the declared type.
    return [value.node]


@dataclass(slots=True)
class _Budget:
    """Turns that loops may still take."""

    left: int


def _are_bools(*values: Value) -> bool:
    return all(isinstance(value, Scalar) and value.is_bool for value in values)


class _Function(BuiltIns):
    """One call of a kernel, executed into a graph."""

    def __init__(
        self,
        kernel: Kernel[..., Any],
        graph: Graph,
        callers: tuple[Kernel[..., Any], ...],
        budget: _Budget,
    ):
        super().__init__(read_source(kernel), graph)
        self.kernel = kernel
        self.callers = (*callers, kernel)
        self.budget = budget

    def run(self, path: Path) -> Value:
        """Return what the kernel returns; the path has its arguments."""
        tree = self.source.tree
        self.block(tree.body, path)
        if not path.is_over or path.result is None:
            raise self.error(tree, "does not return on every path: add a `return` at the end")
        return path.result

    # Statements.

    def block(self, statements: Sequence[ast.stmt], path: Path) -> None:
        """Execute statements; what they do is done to the path."""
        for statement in statements:
            if path.is_over:
                return
            self.statement(statement, path)

    def statement(self, statement: ast.stmt, path: Path) -> None:
        match statement:
            case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
                pass
            case ast.Return(value=None):
                raise self.error(statement, "returns nothing: return a value")
            case ast.Return(value=ast.expr() as written):
                value = self.fitted(written, self.expression(written, path), self.kernel.result)
                if path.result is not None:
                    value = self.joined(statement, path.returned, path.result, value)
                path.result, path.returned = value, self.one
            case ast.Assign(targets=[target], value=written):
                self.assign(target, self.expression(written, path), path)
            case ast.Assign():
                raise self.error(statement, "assigns twice: write one assignment a line")
            case ast.AnnAssign(target=target, annotation=annotation, value=ast.expr() as written):
                value = self.expression(written, path)
                kind = self.kind(annotation, self.expression(annotation, path))
                self.assign(target, self.fitted(written, value, kind), path)
            case ast.AugAssign(target=ast.Name() as target, op=operator, value=written):
                left = target, self.name(target, path)
                right = written, self.expression(written, path)
                value = self.binary(statement, operator, left, right)
                self.assign(target, self.known(statement, value, path), path)
            case ast.If(test=test, body=body, orelse=orelse):
                self.branch(statement, self.condition(test, path), body, orelse, path)
            case ast.For():
                self.loop(statement, path)
            case ast.Expr(value=value):
                reason = REFUSED.get(type(value))
                raise self.error(statement, reason or "does nothing: assign it or return it")
            case _:
                reason = REFUSED.get(type(statement))
                raise self.error(statement, reason or "is not in the kernel subset")

    def assign(self, target: ast.expr, value: Value, path: Path) -> None:
        match target:
            case ast.Name(id=name):
                path.names[name] = value
                if isinstance(value, Scalar) and not value.node.name and not value.node.is_const:
                    value.node.name = name
            case ast.Tuple(elts=targets):
                if not isinstance(value, Several) or len(value.items) != len(targets):
                    raise self.error(target, f"takes a tuple of {len(targets)}, not {value}")
                for inner, item in zip(targets, value.items, strict=True):
                    self.assign(inner, item, path)
            case _:
                raise self.error(target, "is not a name: make a new record or tuple instead")

    def branch(
        self,
        statement: ast.If,
        condition: Node,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt],
        path: Path,
    ) -> None:
        if condition.is_const:
            self.block(body if condition.lo else orelse, path)
            return
        yes, no = path.copy(), path.copy()
        yes.assume(self.graph, condition, True)
        self.block(body, yes)
        no.assume(self.graph, condition, False)
        self.block(orelse, no)
        if yes.is_over or no.is_over:
            staying = no if yes.is_over else yes
            path.names = staying.names
            path.learn(staying)
        else:
            unset = Unset(self.source.place(statement).line)
            path.names = {
                name: self.joined(
                    statement, condition, yes.names.get(name, unset), no.names.get(name, unset)
                )
                for name in yes.names | no.names
            }
        if yes.result is not None and no.result is not None:
            path.result = self.joined(statement, condition, yes.result, no.result)
        else:
            path.result = no.result if yes.result is None else yes.result
        path.returned = self.at(statement).op(Op.MUX, condition, yes.returned, no.returned)

    def joined(self, part: ast.AST, condition: Node, yes: Value, no: Value) -> Value:
        """Return the one value or the other."""
        if yes == no or isinstance(yes, Unset):
            return yes
        if isinstance(no, Unset):
            return no
        if isinstance(yes, Several) and isinstance(no, Several):
            if len(yes.items) == len(no.items) and yes.record is no.record:
                pairs = zip(yes.items, no.items, strict=True)
                items = tuple(self.joined(part, condition, *pair) for pair in pairs)
                return Several(items, yes.record)
        elif isinstance(yes, Scalar) and isinstance(no, Scalar):
            fraction = self.common_fraction(yes, no)
            if fraction is not None and yes.is_bool == no.is_bool:
                node = self.at(part).op(Op.MUX, condition, yes.node, no.node)
                return Scalar(node, fraction, yes.is_bool)
        raise self.error(part, f"gives {yes} on one path and {no} on the other: make them alike")

    def loop(self, statement: ast.For, path: Path) -> None:
        if statement.orelse:
            raise self.error(statement, "`else` of a loop is not in the subset: put it after")
        call = statement.iter
        bounds = None
        if isinstance(call, ast.Call) and not call.keywords and 1 <= len(call.args) <= 3:
            function = self.expression(call.func, path)
            if isinstance(function, Static) and function.item is range:
                bounds = [self.expression(argument, path) for argument in call.args]
        if bounds is None:
            raise self.error(statement, "a loop must be over `range`: `for i in range(4)`")
        limits = []
        for written, value in zip(call.args, bounds, strict=True):  # type: ignore[attr-defined]
            if not isinstance(value, Scalar) or not value.node.is_const:
                raise self.error(
                    written, "a range must be constant: loop to the most there can be, with an `if`"
                )
            limits.append(value.node.lo)
        if len(limits) == 3 and limits[2] == 0:
            raise self.error(call, "the step of a range must not be 0")
        for index in range(*limits):
            if path.is_over:
                return
            self.budget.left -= 1
            if self.budget.left < 0:
                raise self.error(statement, f"loops take more than {ITERATIONS_MAX} turns in all")
            self.assign(statement.target, Scalar(self.graph.const(index)), path)
            self.block(statement.body, path)

    # Expressions.

    def expression(self, part: ast.expr, path: Path) -> Value:
        """Return the value of an expression, with what this path knows of it."""
        return self.known(part, self.evaluated(part, path), path)

    def known(self, part: ast.AST, value: Value, path: Path) -> Value:
        """Return a value that a part of the source has, with what a path knows of it."""
        if not isinstance(value, Scalar):
            return value
        graph = self.at(part)
        node = path.narrowed(graph, value.node)
        assert graph.place is not None
        graph.written.setdefault(node.number, graph.place)
        return Scalar(node, value.fraction, value.is_bool)

    def evaluated(self, part: ast.expr, path: Path) -> Value:
        match part:
            case ast.Constant(value=value):
                return self.lifted(part, value)
            case ast.Name():
                return self.name(part, path)
            case ast.Attribute(value=inner, attr=name):
                return self.attribute(part, self.expression(inner, path), name)
            case ast.Tuple(elts=elements):
                return Several(tuple(self.expression(element, path) for element in elements))
            case ast.Subscript(value=inner, slice=index):
                return self.item(part, self.expression(inner, path), index, path)
            case ast.BinOp(left=left, op=operator, right=right):
                first = left, self.expression(left, path)
                return self.binary(part, operator, first, (right, self.expression(right, path)))
            case ast.UnaryOp(op=operator, operand=operand):
                return self.unary(part, operator, operand, path)
            case ast.BoolOp():
                return self.logic(part, path)
            case ast.Compare():
                return self.comparison(part, path)
            case ast.IfExp(test=test, body=body, orelse=orelse):
                condition = self.condition(test, path)
                if condition.is_const:
                    return self.expression(body if condition.lo else orelse, path)
                yes, no = path.copy(), path.copy()
                yes.assume(self.graph, condition, True)
                no.assume(self.graph, condition, False)
                a, b = self.expression(body, yes), self.expression(orelse, no)
                return self.joined(part, condition, a, b)
            case ast.Call():
                return self.call(part, path)
        reason = REFUSED.get(type(part))
        raise self.error(part, reason or "is not in the kernel subset")

    def lifted(self, part: ast.AST, item: object) -> Value:
        """Return a constant of Python's as a value."""
        match item:
            case bool():
                return Scalar(self.graph.const(int(item)), is_bool=True)
            case int():
                return Scalar(self.graph.const(int(item)))
            case tuple():
                record = type(item) if hasattr(item, "_fields") else None
                return Several(tuple(self.lifted(part, inner) for inner in item), record)
            case float():
                raise self.error(part, "floats are not in the kernel subset: use Fixed[i, f]")
            case str() | bytes() | None:
                raise self.error(part, "only integers are in the kernel subset")
            case list() | dict() | set():
                raise self.error(part, f"a {type(item).__name__} may change: use a tuple")
        return Static(item)

    def name(self, part: ast.Name, path: Path) -> Value:
        if part.id in path.names:
            value = path.names[part.id]
            if isinstance(value, Unset):
                raise self.error(part, f"is {value}: assign it on every path")
            return value
        if part.id in self.source.names:
            return self.lifted(part, self.source.names[part.id])
        raise self.error(part, "is not assigned before")

    def attribute(self, part: ast.Attribute, value: Value, name: str) -> Value:
        if isinstance(value, Several) and value.record is not None:
            if name in value.record._fields:
                at: int = value.record._fields.index(name)
                return value.items[at]
            raise self.error(part, f"{value.record.__name__} has no field {name}")
        if isinstance(value, Static) and isinstance(value.item, ModuleType | type):
            if hasattr(value.item, name):
                return self.lifted(part, getattr(value.item, name))
            raise self.error(part, f"{value} has no {name}")
        raise self.error(part, f"attributes of {value} are not in the kernel subset")

    def item(self, part: ast.Subscript, value: Value, index: ast.expr, path: Path) -> Value:
        if isinstance(value, Static):
            return Static(self.annotated(part, value, index, path))
        if isinstance(index, ast.Slice):
            raise self.error(part, REFUSED[ast.Slice])
        if not isinstance(value, Several):
            raise self.error(part, f"indexes {value}: only a tuple has items")
        at = self.integer(index, self.expression(index, path))
        size = len(value.items)
        if at.is_const and -size <= at.lo < size:
            return value.items[at.lo]
        if at.lo < 0 or at.hi >= size:
            raise self.error(
                part,
                f"index is {at.lo} to {at.hi} and the tuple has 0 to {size - 1}: "
                f"narrow it, with min and max or under an `if`",
            )
        if size > TABLE_MAX:
            raise self.error(part, f"a table of {size} is longer than {TABLE_MAX}")
        return self.looked_up(part, value.items, at)

    def looked_up(self, part: ast.Subscript, items: Sequence[Value], at: Node) -> Value:
        first = items[0]
        numbers = []
        for item in items:
            if isinstance(item, Several) and isinstance(first, Several):
                columns = zip(
                    *(row.items for row in items if isinstance(row, Several)), strict=True
                )
                found = tuple(self.looked_up(part, column, at) for column in columns)
                return Several(found, first.record)
            if not isinstance(item, Scalar) or not item.node.is_const:
                raise self.error(part, "a tuple that is not constant needs a constant index")
            numbers.append(item.node.lo)
        is_bool = isinstance(first, Scalar) and first.is_bool
        return Scalar(self.at(part).table(numbers, at), is_bool=is_bool)

    def annotated(self, part: ast.expr, value: Static, index: ast.expr, path: Path) -> object:
        """Return the type that ``U[8]`` or the like means."""
        inner = self.expression(index, path)
        items = inner.items if isinstance(inner, Several) else (inner,)
        given = tuple(
            item.node.lo if isinstance(item, Scalar) and item.node.is_const else None
            for item in items
        )
        try:
            return value.item[given if isinstance(inner, Several) else given[0]]
        except (TypeError, ValueError):
            raise self.error(part, NO_TYPE) from None

    def condition(self, part: ast.expr, path: Path) -> Node:
        """Return a truth value; a number is refused."""
        return self.truth(part, self.expression(part, path)).node

    def binary(
        self,
        part: ast.AST,
        operator: ast.operator,
        left: tuple[ast.AST, Value],
        right: tuple[ast.AST, Value],
    ) -> Scalar:
        """Return an operation on two values, each given with its part of the source."""
        op = BINARY.get(type(operator))
        if op is None:
            raise self.error(part, REFUSED.get(type(operator), "is not in the kernel subset"))
        if op in {Op.AND, Op.OR, Op.XOR} and _are_bools(left[1], right[1]):
            a, b = self.truth(*left), self.truth(*right)
            return Scalar(self.at(part).op(op, a.node, b.node), is_bool=True)
        a, b = self.number(*left), self.number(*right)
        fraction = a.fraction
        if op is Op.MUL:
            fraction += b.fraction
        elif op in {Op.SHL, Op.SHR, Op.DIV, Op.MOD}:
            self.check_right(part, op, b)
        else:
            fraction = self.aligned(part, a, b)
        return Scalar(self.at(part).op(op, a.node, b.node), fraction)

    def unary(
        self, part: ast.UnaryOp, operator: ast.unaryop, operand: ast.expr, path: Path
    ) -> Scalar:
        if isinstance(operator, ast.Not):
            condition = self.condition(operand, path)
            return Scalar(self.at(part).invert(condition), is_bool=True)
        value = self.expression(operand, path)
        if isinstance(operator, ast.Invert) and isinstance(value, Scalar) and value.is_bool:
            raise self.error(part, "`~` of a Bool is no Bool: use `not`")
        number = self.number(operand, value)
        graph = self.at(part)
        match operator:
            case ast.USub():
                return Scalar(graph.op(Op.SUB, self.zero, number.node), number.fraction)
            case ast.Invert():
                return Scalar(graph.op(Op.NOT, number.node), number.fraction)
        return number

    def logic(self, part: ast.BoolOp, path: Path) -> Scalar:
        """Return ``and`` or ``or``: what stands on the right is asked only where it matters."""
        is_and = isinstance(part.op, ast.And)
        path = path.copy()
        found: Node | None = None
        for written in part.values:
            node = self.condition(written, path)
            found = (
                node
                if found is None
                else self.at(part).op(Op.AND if is_and else Op.OR, found, node)
            )
            if node.is_const and node.lo == (not is_and):
                break
            path.assume(self.graph, node, is_and)
        assert found is not None
        return Scalar(found, is_bool=True)

    def comparison(self, part: ast.Compare, path: Path) -> Scalar:
        written = (part.left, *part.comparators)
        values = [(each, self.expression(each, path)) for each in written]
        found: Node | None = None
        for operator, left, right in zip(part.ops, values[:-1], values[1:], strict=True):
            if type(operator) not in COMPARED:
                raise self.error(part, "`is` and `in` are not in the kernel subset: use `==`")
            op, swapped = COMPARED[type(operator)]
            if _are_bools(left[1], right[1]):
                a, b = self.truth(*left), self.truth(*right)
            else:
                a, b = self.number(*left), self.number(*right)
                self.aligned(part, a, b)
            if swapped:
                a, b = b, a
            node = self.at(part).op(op, a.node, b.node)
            found = node if found is None else self.at(part).op(Op.AND, found, node)
        assert found is not None
        return Scalar(found, is_bool=True)

    # Calls.

    def call(self, part: ast.Call, path: Path) -> Value:
        function = self.expression(part.func, path)
        item = function.item if isinstance(function, Static) else None
        values = [self.expression(argument, path) for argument in part.args]
        named = {}
        for keyword in part.keywords:
            if keyword.arg is None:
                raise self.error(part, "`**` arguments are not in the subset: write each one")
            named[keyword.arg] = self.expression(keyword.value, path)
        if isinstance(item, Kernel):
            return self.inlined(part, item, values, named, path)
        if isinstance(item, type) and hasattr(item, "_fields"):
            return self.record(part, item, values, named)
        built_in = self.built_in(item)
        if built_in is None:
            raise self.error(part, f"{function} is no kernel: put @kernel before it")
        if named:
            raise self.error(part, f"{function} takes no names of arguments here")
        return built_in(part, values)

    def bound(
        self, part: ast.Call, callee: Any, values: list[Value], named: dict[str, Value]
    ) -> dict[str, Value]:
        try:
            arguments = inspect.signature(callee).bind(*values, **named)
        except TypeError as error:
            raise self.error(part, f"{error}") from None
        arguments.apply_defaults()
        return dict(arguments.arguments)

    def inlined(
        self,
        part: ast.Call,
        callee: Kernel[..., Any],
        values: list[Value],
        named: dict[str, Value],
        path: Path,
    ) -> Value:
        if callee in self.callers:
            raise self.error(part, "a kernel may not call itself: use `for` over a constant range")
        arguments = self.bound(part, callee.function, values, named)
        fitting = {
            name: self.fitted(part, value, callee.parameters[name], f"argument {name}")
            for name, value in arguments.items()
        }
        inner = Path(fitting, self.zero)
        inner.learn(path)  # What the caller knows of a value holds wherever it is used.
        return _Function(callee, self.graph, self.callers, self.budget).run(inner)

    def record(
        self, part: ast.Call, record: Any, values: list[Value], named: dict[str, Value]
    ) -> Value:
        arguments = self.bound(part, record, values, named)
        items = tuple(
            item if isinstance(item, Scalar | Several) else self.lifted(part, item)
            for item in arguments.values()
        )
        return Several(items, record)
