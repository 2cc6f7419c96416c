"""The source text of a kernel, and where in its file each part of it stands."""

import ast
import builtins
import inspect
import os
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hw.hls.ir import KernelError, Place
from kernels.types import Kernel

_SHOWN_MAX = 80


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel's function as it is written.

    ``names`` are its free names with what they mean: in its module, around it, built in.
    """

    file: str
    text: str
    tree: ast.FunctionDef
    first_line: int
    indent: int
    names: Mapping[str, Any]

    def place(self, part: ast.AST) -> Place:
        """Return where a part of the tree stands; of a statement with a body its first line."""
        at: Any = part
        shown = ast.get_source_segment(self.text, at) or ""
        if isinstance(part, ast.stmt):
            shown = shown.partition("\n")[0]
        shown = " ".join(shown.split())
        if len(shown) > _SHOWN_MAX:
            shown = f"{shown[: _SHOWN_MAX - 4]} ..."
        line = at.lineno + self.first_line - 1
        return Place(self.file, line, at.col_offset + self.indent + 1, shown)

    def error(self, part: ast.AST, reason: str) -> KernelError:
        """Return the error that blames a part of the tree."""
        return KernelError(self.place(part), reason)


def read_source(kernel: Kernel[..., Any]) -> Source:
    """Return the source of a kernel.

    Raises :class:`KernelError` if there is none to read.
    """
    function = inspect.unwrap(kernel.function)
    code = function.__code__
    file = _shown(code.co_filename)
    nowhere = Place(file, code.co_firstlineno, 1, kernel.name)
    try:
        lines, first_line = inspect.getsourcelines(function)
    except OSError:
        raise KernelError(nowhere, "has no source: a kernel must stand in a file") from None
    text = "".join(lines)
    dedented = textwrap.dedent(text)
    indent = len(lines[0]) - len(dedented.partition("\n")[0]) - 1
    try:
        tree = ast.parse(dedented).body[0]
    except SyntaxError:
        tree = ast.Pass()
    if not isinstance(tree, ast.FunctionDef):
        raise KernelError(nowhere, "is no function of its own: write it with `def`")
    cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
    around = {name: cell.cell_contents for name, cell in cells}
    names = {**vars(builtins), **function.__globals__, **around}
    return Source(file, dedented, tree, first_line, indent, names)


def _shown(path: str) -> str:
    """Return a path as seen from here, where it is below."""
    relative = os.path.relpath(path)
    return path if relative.startswith(os.pardir) else relative
