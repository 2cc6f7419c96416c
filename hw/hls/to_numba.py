"""A kernel as a function that Numba compiles from the same source.

Numba has integers of 64 bits with a sign, and floats where those do not do. Neither may happen
unseen: what does not fit in 63 bits and a sign is refused with its place, and so is a float.
"""

import ast
import inspect
import types as python_types
from collections.abc import Callable, Mapping
from typing import Any

import numba
from numba.core import types as numba_types
from numba.core.errors import NumbaError

from hw.hls.front import read
from hw.hls.ir import Graph, KernelError, Op
from hw.hls.source import Source, read_source
from hw.hls.values import argument_leaves, arguments
from kernels import types
from kernels.types import Kernel, Shape

_LO, _HI = -(1 << 63), (1 << 63) - 1
_SHIFT_MAX = 63


def to_numba(kernel: Kernel[..., Any]) -> Callable[..., Any]:
    """Return a kernel compiled for its types; it checks nothing.

    Where Numba is switched off (``NUMBA_DISABLE_JIT``) it is the kernel's plain function.

    Raises
    ------
    KernelError
        If the kernel is not in the subset, a value does not fit in 63 bits and a sign, or Numba
        does not compile it to integers.
    """
    check_width(kernel)
    is_off = vars(numba.config)["DISABLE_JIT"]
    compiled: Callable[..., Any] = kernel.function if is_off else _Compiler().compiled(kernel)
    return compiled


def check_width(kernel: Kernel[..., Any]) -> None:
    """Raise :class:`KernelError` if some value does not fit in 63 bits and a sign."""
    graph: Graph = read(kernel)
    for node in graph.nodes:
        place = node.place if node.op is Op.ARG else graph.written.get(node.number)
        if place is None:
            continue
        if node.lo < _LO or node.hi > _HI:
            raise KernelError(
                place,
                f"is {node.lo} to {node.hi}, and Numba's integers hold {_LO} to {_HI}: use "
                f"narrower types, or saturate or wrap before",
            )
        if node.op in {Op.SHL, Op.SHR} and node.operands[1].hi > _SHIFT_MAX:
            amount = node.operands[1]
            raise KernelError(
                place, f"shifts by up to {amount.hi}, and Numba by {_SHIFT_MAX} at most"
            )


class _Compiler:
    """Compiles a kernel and those it calls, each once."""

    def __init__(self) -> None:
        self._known: dict[Kernel[..., Any], Any] = {}

    def compiled(self, kernel: Kernel[..., Any]) -> Any:
        """Return Numba's function, compiled for the kernel's types."""
        if kernel not in self._known:
            self._known[kernel] = self._compile(kernel)
        return self._known[kernel]

    def _compile(self, kernel: Kernel[..., Any]) -> Any:
        source = read_source(kernel)
        function = self._plain(kernel, source)
        zeros = arguments(kernel, dict.fromkeys(argument_leaves(kernel), 0))
        type_of: Callable[[object], Any] = numba.typeof
        signature = tuple(type_of(zero) for zero in zeros)
        try:
            compiled = numba.njit(signature)(function)
        except NumbaError as error:
            lines = [line for line in str(error).splitlines() if line and "pipeline" not in line]
            raise source.error(source.tree, f"Numba does not compile it: {lines[0]}") from None
        overload: Any = next(iter(compiled.overloads.values()))
        for name, found in overload.type_annotation.typemap.items():
            if _has_float(found):
                raise source.error(source.tree, f"Numba makes a float of `{name}`")
        return compiled

    def _plain(self, kernel: Kernel[..., Any], source: Source) -> Any:
        """Return the kernel's function without what Numba does not know."""
        rewriter = _Rewriter(self, source)
        tree = rewriter.rewritten()
        ast.increment_lineno(tree, source.first_line - 1)
        module = ast.Module(body=[tree], type_ignores=[])
        code = compile(
            ast.fix_missing_locations(module), kernel.function.__code__.co_filename, "exec"
        )
        names: dict[str, Any] = {"__name__": kernel.__module__, **rewriter.names}
        exec(code, names)
        return names[source.tree.name]


class _Rewriter(ast.NodeTransformer):
    """Puts numbers for constants, and integer arithmetic for what changes widths."""

    def __init__(self, compiler: _Compiler, source: Source):
        self.compiler = compiler
        self.source = source
        self.names: dict[str, Any] = dict(source.names)
        self.local = {
            node.id
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
        } | {argument.arg for argument in source.tree.args.args}

    def rewritten(self) -> ast.FunctionDef:
        """Return the function without decorators, annotations and docstring."""
        tree = ast.parse(self.source.text).body[0]
        assert isinstance(tree, ast.FunctionDef)
        tree.decorator_list, tree.returns = [], None
        for argument in tree.args.args:
            argument.annotation = None
        tree.body = [self.visit(statement) for statement in tree.body]
        return tree

    def known(self, part: ast.expr) -> tuple[bool, Any]:
        """Return what an expression without local names stands for, if it does."""
        names = {node.id for node in ast.walk(part) if isinstance(node, ast.Name)}
        if names & self.local:
            return False, None
        code = compile(ast.Expression(part), self.source.file, "eval")
        return True, eval(code, {}, dict(self.source.names))

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        assert node.value is not None  # The front end has read it.
        plain = ast.Assign(targets=[node.target], value=self.visit(node.value))
        return ast.copy_location(plain, node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return self.constant(node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        found = self.constant(node)
        return self.generic_visit(node) if found is node else found

    def constant(self, node: ast.Name | ast.Attribute) -> ast.AST:
        if not isinstance(node.ctx, ast.Load):
            return node
        is_known, item = self.known(node)
        if not is_known or inspect.isbuiltin(item):
            return node
        if isinstance(item, int):
            value = item if isinstance(item, bool) else int(item)
            return ast.copy_location(ast.Constant(value), node)
        if isinstance(item, Kernel):
            item = self.compiler.compiled(item)
        if isinstance(item, python_types.ModuleType):
            return node
        name = ast.unparse(node).replace(".", "_")
        while self.names.get(name, item) is not item and name in self.source.names:
            name += "_"
        self.names[name] = item
        return ast.copy_location(ast.Name(name, ast.Load()), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_known, function = self.known(node.func)
        if is_known and hasattr(function, "_field_defaults"):
            return self.record(node, function)
        if not is_known or getattr(function, "__module__", "") != types.__name__:
            return self.generic_visit(node)
        if isinstance(function, Kernel):
            return self.generic_visit(node)
        value = ast.unparse(self.visit(node.args[0]))
        shapes = [types.shape_of(self.known(written)[1]) for written in node.args[1:]]
        text = _ARITHMETIC[function](value, *shapes)
        new = ast.parse(text, mode="eval").body
        for part in ast.walk(new):
            ast.copy_location(part, node)
        return new

    def record(self, node: ast.Call, record: Any) -> ast.AST:
        """Return the making of a record with every field in its place."""
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        fields: list[ast.expr] = [self.visit(written) for written in node.args]
        for field in record._fields[len(fields) :]:
            if field in given:
                fields.append(self.visit(given[field]))
                continue
            default = f"{record.__name__}_{field}_default"
            self.names[default] = record._field_defaults[field]
            fields.append(ast.copy_location(ast.Name(default, ast.Load()), node))
        return ast.copy_location(ast.Call(self.visit(node.func), fields, []), node)


def _wrapped(value: str, shape: Shape) -> str:
    if shape.lo <= _LO:
        return f"({value})"  # Every integer of Numba's is one of these.
    mask = (1 << shape.width) - 1
    if not shape.signed:
        return f"(({value}) & {mask})"
    sign = -shape.lo
    return f"(((({value}) & {mask}) ^ {sign}) - {sign})"


def _saturated(value: str, shape: Shape) -> str:
    return f"min(max({value}, {max(shape.lo, _LO)}), {min(shape.hi, _HI)})"


def _rescaled(value: str, before: Shape, after: Shape) -> str:
    return _shifted(value, after.fraction - before.fraction)


def _shifted(value: str, bits: int) -> str:
    return f"(({value}) << {bits})" if bits >= 0 else f"(({value}) >> {-bits})"


_ARITHMETIC: Mapping[Any, Callable[..., str]] = {
    types.wrap: _wrapped,
    types.saturate: _saturated,
    types.truncate: lambda value, shape: f"({value})",
    types.to_fixed: lambda value, shape: _shifted(value, shape.fraction),
    types.to_int: lambda value, shape: _shifted(value, -shape.fraction),
    types.rescale: _rescaled,
    types.from_raw: lambda value, shape: f"({value})",
    types.raw: lambda value: f"({value})",
}


def _has_float(found: Any) -> bool:
    if isinstance(found, numba_types.Float | numba_types.Complex):
        return True
    return any(_has_float(inner) for inner in getattr(found, "types", ()))
