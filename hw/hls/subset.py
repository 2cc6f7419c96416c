"""What of Python's grammar is in the kernel subset, and what to write instead of the rest."""

import ast

from hw.hls.ir import Op

REFUSED: dict[type[ast.AST], str] = {
    ast.While: "`while` is not in the kernel subset: use `for` over a constant range",
    ast.Break: "`break` is not in the kernel subset: assign under an `if`",
    ast.Continue: "`continue` is not in the kernel subset: put the rest under an `if`",
    ast.Try: "exceptions are not in the kernel subset: return a value that tells",
    ast.Raise: "exceptions are not in the kernel subset: return a value that tells",
    ast.Assert: "`assert` is not in the kernel subset: return a value that tells",
    ast.With: "`with` is not in the kernel subset: a kernel computes values only",
    ast.Match: "`match` is not in the kernel subset: use `if` and `elif`",
    ast.FunctionDef: "a function in a kernel is not in the subset: make it a kernel beside it",
    ast.Lambda: "`lambda` is not in the kernel subset: make it a kernel",
    ast.ClassDef: "a class in a kernel is not in the subset: put it before the kernel",
    ast.Import: "`import` is not in the kernel subset: put it before the kernel",
    ast.ImportFrom: "`import` is not in the kernel subset: put it before the kernel",
    ast.Global: "`global` is not in the kernel subset: return the value",
    ast.Nonlocal: "`nonlocal` is not in the kernel subset: return the value",
    ast.Delete: "`del` is not in the kernel subset: leave the name alone",
    ast.ListComp: "lists are not in the kernel subset: use a tuple",
    ast.List: "lists are not in the kernel subset: use a tuple",
    ast.Set: "sets are not in the kernel subset: use comparisons joined by `or`",
    ast.Dict: "dicts are not in the kernel subset: use a tuple indexed by a value",
    ast.SetComp: "sets are not in the kernel subset: use comparisons joined by `or`",
    ast.DictComp: "dicts are not in the kernel subset: use a tuple indexed by a value",
    ast.GeneratorExp: "generators are not in the kernel subset: use `for` over a constant range",
    ast.JoinedStr: "text is not in the kernel subset: use an integer code",
    ast.NamedExpr: "`:=` is not in the kernel subset: assign on a line of its own",
    ast.Starred: "`*` arguments are not in the kernel subset: write each one",
    ast.Slice: "slices are not in the kernel subset: index one item",
    ast.Yield: "`yield` is not in the kernel subset: return a tuple",
    ast.YieldFrom: "`yield` is not in the kernel subset: return a tuple",
    ast.Div: "`/` gives floats: use `//`",
    ast.Pow: "`**` is not in the kernel subset: multiply, or shift 1",
    ast.Await: "`await` is not in the kernel subset: a kernel computes values only",
}
BINARY: dict[type[ast.AST], Op] = {
    ast.Add: Op.ADD,
    ast.Sub: Op.SUB,
    ast.Mult: Op.MUL,
    ast.FloorDiv: Op.DIV,
    ast.Mod: Op.MOD,
    ast.LShift: Op.SHL,
    ast.RShift: Op.SHR,
    ast.BitAnd: Op.AND,
    ast.BitOr: Op.OR,
    ast.BitXor: Op.XOR,
}
COMPARED: dict[type[ast.AST], tuple[Op, bool]] = {
    ast.Eq: (Op.EQ, False),
    ast.NotEq: (Op.NE, False),
    ast.Lt: (Op.LT, False),
    ast.LtE: (Op.LE, False),
    ast.Gt: (Op.LT, True),
    ast.GtE: (Op.LE, True),
}
"""Operation, and whether its operands change places."""
