"""What is not in the kernel subset is refused, with its place and what to write instead."""

import importlib.util
import sys

import pytest

from hw.hls.front import read
from hw.hls.ir import KernelError

HEAD = """\
from typing import NamedTuple
from kernels.types import *
class Quote(NamedTuple):
    bid: U16
    ask: U16
TABLE = (1, 2, 3)
RATE = 0.5
NAMES = ["a"]
LONG = tuple(range(2000))
def plain(x):
    return x
@kernel
def inner(x: U8) -> U8:
    return x
@kernel
def k(a: U8, b: S8, c: Bool, q: Quote, f: Fixed[4, 4], g: Fixed[4, 2]) -> U8:
"""
FIRST_LINE = HEAD.count("\n") + 1


def refusal(folder, monkeypatch, text):
    """Return the message with which the kernel ``k`` of a module is refused."""
    monkeypatch.chdir(folder)
    (folder / "rule.py").write_text(text)
    spec = importlib.util.spec_from_file_location("rule", folder / "rule.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "rule", module)
    spec.loader.exec_module(module)
    with pytest.raises(KernelError) as refused:
        read(module.k)
    return str(refused.value)


REFUSED = [
    (
        "while a: pass",
        0,
        5,
        "`while` is not in the kernel subset: use `for` over a constant range: while a: pass",
    ),
    (
        "for i in range(3):\n    break\nreturn a",
        1,
        9,
        "`break` is not in the kernel subset: assign under an `if`: break",
    ),
    (
        "for i in range(3):\n    continue\nreturn a",
        1,
        9,
        "`continue` is not in the kernel subset: put the rest under an `if`: continue",
    ),
    (
        "try:\n    return a\nfinally:\n    pass",
        0,
        5,
        "exceptions are not in the kernel subset: return a value that tells: try:",
    ),
    (
        "raise ValueError",
        0,
        5,
        "exceptions are not in the kernel subset: return a value that tells: raise ValueError",
    ),
    (
        "assert c\nreturn a",
        0,
        5,
        "`assert` is not in the kernel subset: return a value that tells: assert c",
    ),
    (
        "with c:\n    return a",
        0,
        5,
        "`with` is not in the kernel subset: a kernel computes values only: with c:",
    ),
    (
        "match a:\n    case _: return a",
        0,
        5,
        "`match` is not in the kernel subset: use `if` and `elif`: match a:",
    ),
    (
        "def g2(): return a\nreturn a",
        0,
        5,
        (
            "a function in a kernel is not in the subset: make it a kernel beside it: def g2(): "
            "return a"
        ),
    ),
    (
        "return (lambda: a)()",
        0,
        13,
        "`lambda` is not in the kernel subset: make it a kernel: lambda: a",
    ),
    (
        "class A: pass\nreturn a",
        0,
        5,
        "a class in a kernel is not in the subset: put it before the kernel: class A: pass",
    ),
    (
        "import os\nreturn a",
        0,
        5,
        "`import` is not in the kernel subset: put it before the kernel: import os",
    ),
    (
        "from os import path\nreturn a",
        0,
        5,
        "`import` is not in the kernel subset: put it before the kernel: from os import path",
    ),
    (
        "global z\nreturn a",
        0,
        5,
        "`global` is not in the kernel subset: return the value: global z",
    ),
    (
        "del a\nreturn 1",
        0,
        5,
        "`del` is not in the kernel subset: leave the name alone: del a",
    ),
    ("return [a][0]", 0, 12, "lists are not in the kernel subset: use a tuple: [a]"),
    (
        "return [i for i in range(3)][0]",
        0,
        12,
        "lists are not in the kernel subset: use a tuple: [i for i in range(3)]",
    ),
    (
        "return {1: a}[1]",
        0,
        12,
        "dicts are not in the kernel subset: use a tuple indexed by a value: {1: a}",
    ),
    (
        "return a in {1, 2}",
        0,
        17,
        "sets are not in the kernel subset: use comparisons joined by `or`: {1, 2}",
    ),
    (
        "return sum(i for i in range(3))",
        0,
        15,
        (
            "generators are not in the kernel subset: use `for` over a constant range: (i for i "
            "in range(3))"
        ),
    ),
    (
        'return f"{a}"',
        0,
        12,
        'text is not in the kernel subset: use an integer code: f"{a}"',
    ),
    (
        "return (x := a)",
        0,
        13,
        "`:=` is not in the kernel subset: assign on a line of its own: x := a",
    ),
    (
        "return max(*TABLE, a)",
        0,
        16,
        "`*` arguments are not in the kernel subset: write each one: *TABLE",
    ),
    (
        "return TABLE[0:1]",
        0,
        12,
        "slices are not in the kernel subset: index one item: TABLE[0:1]",
    ),
    ("yield a", 0, 5, "`yield` is not in the kernel subset: return a tuple: yield a"),
    (
        "return a is b",
        0,
        12,
        "`is` and `in` are not in the kernel subset: use `==`: a is b",
    ),
    ("return a / 2", 0, 12, "`/` gives floats: use `//`: a / 2"),
    (
        "return a ** 2",
        0,
        12,
        "`**` is not in the kernel subset: multiply, or shift 1: a ** 2",
    ),
    ("return a @ b", 0, 12, "is not in the kernel subset: a @ b"),
    ("return 0.5", 0, 12, "floats are not in the kernel subset: use Fixed[i, f]: 0.5"),
    ("return RATE", 0, 12, "floats are not in the kernel subset: use Fixed[i, f]: RATE"),
    ("return NAMES[0]", 0, 12, "a list may change: use a tuple: NAMES"),
    ('return "text"', 0, 12, 'only integers are in the kernel subset: "text"'),
    ("return None", 0, 12, "only integers are in the kernel subset: None"),
    ("return", 0, 5, "returns nothing: return a value: return"),
    (
        "x = y = a\nreturn x",
        0,
        5,
        "assigns twice: write one assignment a line: x = y = a",
    ),
    (
        "q.bid = a\nreturn a",
        0,
        5,
        "is not a name: make a new record or tuple instead: q.bid",
    ),
    ("x, y = a\nreturn x", 0, 5, "takes a tuple of 2, not an integer: x, y"),
    ("x, y = TABLE\nreturn x", 0, 5, "takes a tuple of 2, not a tuple of 3: x, y"),
    (
        "if c:\n    x = a\nreturn x",
        2,
        12,
        "is assigned on only some paths through line 17: assign it on every path: x",
    ),
    ("return y", 0, 12, "is not assigned before: y"),
    (
        "if c:\n    return a",
        -1,
        1,
        (
            "does not return on every path: add a `return` at the end: def k(a: U8, b: S8, c: "
            "Bool, q: Quote, f: Fixed[4, 4], g: Fixed[4, 2]) -> U8:"
        ),
    ),
    ("if a:\n    return 1\nreturn 0", 0, 8, "is a number, not a Bool: write `!= 0`: a"),
    ("return 1 if TABLE else 0", 0, 17, "is a tuple of 3, not a Bool: TABLE"),
    ("return not a", 0, 16, "is a number, not a Bool: write `!= 0`: a"),
    ("return a and c", 0, 12, "is a number, not a Bool: write `!= 0`: a"),
    ("return int(~c)", 0, 16, "`~` of a Bool is no Bool: use `not`: ~c"),
    ("return c + 1", 0, 12, "is a Bool, not a number: write `int(...)` around it: c"),
    ("return -q", 0, 13, "is a Quote, not a number: q"),
    ("return a + q", 0, 16, "is a Quote, not a number: q"),
    ("return -c", 0, 13, "is a Bool, not a number: write `int(...)` around it: c"),
    (
        "x = 1 if c else c\nreturn x",
        0,
        9,
        "gives an integer on one path and a Bool on the other: make them alike: 1 if c else c",
    ),
    (
        "if c:\n    x = a\nelse:\n    x = q\nreturn 0",
        0,
        5,
        "gives an integer on one path and a Quote on the other: make them alike: if c:",
    ),
    (
        "for i in TABLE:\n    pass\nreturn a",
        0,
        5,
        "a loop must be over `range`: `for i in range(4)`: for i in TABLE:",
    ),
    (
        "for i in range(a):\n    pass\nreturn a",
        0,
        20,
        "a range must be constant: loop to the most there can be, with an `if`: a",
    ),
    (
        "for i in range(0, 4, 0):\n    pass\nreturn a",
        0,
        14,
        "the step of a range must not be 0: range(0, 4, 0)",
    ),
    (
        "for i in range(3):\n    pass\nelse:\n    pass\nreturn a",
        0,
        5,
        "`else` of a loop is not in the subset: put it after: for i in range(3):",
    ),
    (
        "for i in range(100000):\n    x = i\nreturn a",
        0,
        5,
        "loops take more than 4096 turns in all: for i in range(100000):",
    ),
    (
        "return TABLE[a]",
        0,
        12,
        (
            "index is 0 to 255 and the tuple has 0 to 2: narrow it, with min and max or under an "
            "`if`: TABLE[a]"
        ),
    ),
    (
        "return TABLE[3]",
        0,
        12,
        (
            "index is 3 to 3 and the tuple has 0 to 2: narrow it, with min and max or under an "
            "`if`: TABLE[3]"
        ),
    ),
    (
        "return LONG[a + 1000] & 1",
        0,
        12,
        "a table of 2000 is longer than 1024: LONG[a + 1000]",
    ),
    (
        "return (a, b)[a & 1]",
        0,
        12,
        "a tuple that is not constant needs a constant index: (a, b)[a & 1]",
    ),
    ("return a[0]", 0, 12, "indexes an integer: only a tuple has items: a[0]"),
    ("return TABLE[c]", 0, 18, "is a Bool, not a number: write `int(...)` around it: c"),
    ("return q.size", 0, 12, "Quote has no field size: q.size"),
    (
        "return a.real",
        0,
        12,
        "attributes of an integer are not in the kernel subset: a.real",
    ),
    ("return math.pi", 0, 12, "is not assigned before: math"),
    (
        "return a // b",
        0,
        12,
        "divides by what is no positive constant: multiply the other side instead: a // b",
    ),
    (
        "return a % 0",
        0,
        12,
        "divides by what is no positive constant: multiply the other side instead: a % 0",
    ),
    (
        "return a // f",
        0,
        12,
        "the right side is fixed point with 4 bits behind the point, not an integer: a // f",
    ),
    (
        "return a << b",
        0,
        12,
        "shifts by -128 to 127: narrow it to 0 to 512, with min and max: a << b",
    ),
    (
        "return a << f",
        0,
        12,
        "the right side is fixed point with 4 bits behind the point, not an integer: a << f",
    ),
    (
        "return 1 << (a << 4)",
        0,
        12,
        "shifts by 0 to 4080: narrow it to 0 to 512, with min and max: 1 << (a << 4)",
    ),
    (
        "return f + g",
        0,
        12,
        (
            "joins fixed point with 4 bits behind the point and fixed point with 2 bits behind "
            "the point: bring them to one type, with to_fixed or rescale: f + g"
        ),
    ),
    (
        "return f + a",
        0,
        12,
        (
            "joins fixed point with 4 bits behind the point and an integer: bring them to one "
            "type, with to_fixed or rescale: f + a"
        ),
    ),
    (
        "return f + 1",
        0,
        12,
        (
            "joins fixed point with 4 bits behind the point and an integer: bring them to one "
            "type, with to_fixed or rescale: f + 1"
        ),
    ),
    (
        "return f < g",
        0,
        12,
        (
            "joins fixed point with 4 bits behind the point and fixed point with 2 bits behind "
            "the point: bring them to one type, with to_fixed or rescale: f < g"
        ),
    ),
    (
        "return min(f, g)",
        0,
        12,
        (
            "joins fixed point with 4 bits behind the point and fixed point with 2 bits behind "
            "the point: bring them to one type, with to_fixed or rescale: min(f, g)"
        ),
    ),
    (
        "return f",
        0,
        12,
        (
            "result is fixed point with 4 bits behind the point and must be U8: use to_fixed, "
            "to_int or rescale: f"
        ),
    ),
    (
        "return to_int(f, Fixed[4, 2])",
        0,
        12,
        (
            "takes fixed point with 2 bits behind the point, and the value is fixed point with 4 "
            "bits behind the point: to_int(f, Fixed[4, 2])"
        ),
    ),
    (
        "return to_int(a, Fixed[4, 2])",
        0,
        12,
        (
            "takes fixed point with 2 bits behind the point, and the value is an integer: "
            "to_int(a, Fixed[4, 2])"
        ),
    ),
    (
        "return wrap(f, U8)",
        0,
        12,
        (
            "U8 is an integer, and the value is fixed point with 4 bits behind the point: use "
            "rescale: wrap(f, U8)"
        ),
    ),
    ("return wrap(a)", 0, 12, "takes a value and a type, not 1 arguments: wrap(a)"),
    ("return wrap(a, Bool)", 0, 20, "is Bool, not an integer type: Bool"),
    (
        "return wrap(a, 8)",
        0,
        20,
        "is no kernel type: use U[n], S[n], Bool, Fixed[i, f] or a record: 8",
    ),
    (
        "return wrap(a, U[c])",
        0,
        20,
        "is no kernel type: use U[n], S[n], Bool, Fixed[i, f] or a record: U[c]",
    ),
    (
        "return to_fixed(a, Fixed[4, 2])",
        0,
        12,
        (
            "result is fixed point with 2 bits behind the point and must be U8: use to_fixed, "
            "to_int or rescale: to_fixed(a, Fixed[4, 2])"
        ),
    ),
    (
        "return truncate(b, U8)",
        0,
        12,
        (
            "drops bits: the value is -128 to 127 and U8 holds 0 to 255; narrow it, or use wrap "
            "or saturate: truncate(b, U8)"
        ),
    ),
    ("return raw(f, U8)", 0, 12, "takes 1 arguments, not 2: raw(f, U8)"),
    (
        "return f & 1 == 0",
        0,
        12,
        (
            "joins fixed point with 4 bits behind the point and an integer: bring them to one "
            "type, with to_fixed or rescale: f & 1"
        ),
    ),
    (
        "return a + b",
        0,
        12,
        (
            "result is -128 to 382 and U8 holds 0 to 255: declare S10, or use saturate or wrap: a"
            " + b"
        ),
    ),
    (
        "return a + 1",
        0,
        12,
        "result is 1 to 256 and U8 holds 0 to 255: declare U9, or use saturate or wrap: a + 1",
    ),
    ("return c", 0, 12, "result is a Bool and must be U8: use `int(...)`: c"),
    ("return a > 1, b", 0, 12, "result is a tuple of 2 and must be U8: a > 1, b"),
    ("return q", 0, 12, "result is a Quote and must be U8: q"),
    (
        "return -a",
        0,
        12,
        "result is -255 to 0 and U8 holds 0 to 255: declare S9, or use saturate or wrap: -a",
    ),
    (
        "x: U4 = a\nreturn x",
        0,
        13,
        "result is 0 to 255 and U4 holds 0 to 15: declare U8, or use saturate or wrap: a",
    ),
    (
        "x: float = a\nreturn x",
        0,
        8,
        "is no kernel type: use U[n], S[n], Bool, Fixed[i, f] or a record: float",
    ),
    (
        "x: TABLE = a\nreturn x",
        0,
        8,
        "is no kernel type: use U[n], S[n], Bool, Fixed[i, f] or a record: TABLE",
    ),
    ("return plain(a)", 0, 12, "`plain` is no kernel: put @kernel before it: plain(a)"),
    ("return abs(a, b)", 0, 12, "takes 1 arguments, not 2: abs(a, b)"),
    ("return abs(q)", 0, 16, "is a Quote, not a number: q"),
    ("return min(a)", 0, 12, "takes two numbers or more: write each one: min(a)"),
    ("return int(q)", 0, 12, "takes one number or Bool: int(q)"),
    ("return int(f)", 0, 12, "takes an integer or Bool: use to_int or raw: int(f)"),
    (
        "return bool(a)",
        0,
        12,
        "`bool` is not in the kernel subset: write `!= 0`: bool(a)",
    ),
    ("return len(a)", 0, 12, "takes one tuple: len(a)"),
    (
        "return max(a, b, key=a)",
        0,
        12,
        "`max` takes no names of arguments here: max(a, b, key=a)",
    ),
    (
        "return inner(a + 1)",
        0,
        12,
        (
            "argument x is 1 to 256 and U8 holds 0 to 255: declare U9, or use saturate or wrap: "
            "inner(a + 1)"
        ),
    ),
    ("return inner(a, b)", 0, 12, "too many positional arguments: inner(a, b)"),
    ("return inner(y=a)", 0, 12, "missing a required argument: 'x': inner(y=a)"),
    (
        "return inner(**q)",
        0,
        12,
        "`**` arguments are not in the subset: write each one: inner(**q)",
    ),
    (
        "return inner(c)",
        0,
        12,
        "argument x is a Bool and must be U8: use `int(...)`: inner(c)",
    ),
    (
        "return k(a, b, c, q, f, g)",
        0,
        12,
        "a kernel may not call itself: use `for` over a constant range: k(a, b, c, q, f, g)",
    ),
    ("x = Quote(a)\nreturn a", 0, 9, "missing a required argument: 'ask': Quote(a)"),
    (
        "x = (a * a * a * a) ** 2\nreturn a",
        0,
        9,
        "`**` is not in the kernel subset: multiply, or shift 1: (a * a * a * a) ** 2",
    ),
    (
        "x = a\nfor i in range(7):\n    x *= x\nreturn wrap(x, U8)",
        2,
        9,
        (
            "takes 1024 bits, and 512 is the most: narrow a value before, with saturate or wrap: "
            "x *= x"
        ),
    ),
    (
        "return a if c else q",
        0,
        12,
        ("gives an integer on one path and a Quote on the other: make them alike: a if c else q"),
    ),
    ("async def f(): pass", 0, 5, "is not in the kernel subset: async def f(): pass"),
    ("x = yield", 0, 9, "`yield` is not in the kernel subset: return a tuple: yield"),
    (
        "return a if c else c",
        0,
        12,
        "gives an integer on one path and a Bool on the other: make them alike: a if c else c",
    ),
    ("return ...", 0, 12, "result is `Ellipsis` and must be U8: ..."),
    ("a + 1\nreturn a", 0, 5, "does nothing: assign it or return it: a + 1"),
]


@pytest.mark.parametrize(("body", "line", "column", "message"), REFUSED)
def test_kernel_is_refused(body, line, column, message, tmp_path, monkeypatch):
    text = HEAD + "".join(f"    {each}\n" for each in body.splitlines())
    found = refusal(tmp_path, monkeypatch, text)
    assert found == f"rule.py:{FIRST_LINE + line}:{column}: {message}"


@pytest.mark.parametrize(
    ("signature", "column", "message"),
    [
        (
            "def k(a: U8, valid: Bool) -> U8:",
            14,
            "would be a second port i_valid, beside the port that tells whether there are "
            "arguments: rename it: valid: Bool",
        ),
        (
            "def k(a: Quote, a_bid: U8) -> U8:",
            17,
            "would be a second port i_a_bid, beside argument a: rename it: a_bid: U8",
        ),
        (
            "def k(a: U8) -> Pair:",
            17,
            "has two ports o_result_x_bid: rename a field: Pair",
        ),
    ],
)
def test_ports_of_one_name_are_refused(signature, column, message, tmp_path, monkeypatch):
    head = HEAD[: HEAD.index("@kernel\ndef k")]
    head += "class Pair(NamedTuple):\n    x: Quote\n    x_bid: U8\n"
    found = refusal(tmp_path, monkeypatch, f"{head}@kernel\n{signature}\n    return 0\n")
    assert found == f"rule.py:{head.count(chr(10)) + 2}:{column}: {message}"
