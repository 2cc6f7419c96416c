"""Kernels that nobody thought of: random programs, the same on every back end, and proven."""

import importlib.util
import os
import random

import pytest

from hw.hls.equivalence import check
from hw.hls.front import read
from hw.hls.prove import Verdict
from hw.hls.stimulus import stimulus
from hw.hls.values import arguments, results

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
COUNT = 5
COUNT_OF_ARGUMENTS = 200
ARGUMENT_TYPES = ("U4", "U8", "U16", "U32", "S5", "S8", "S16")
CONSTANTS = (0, 1, 2, 3, 7, 10, 100, 255, 256, -1, -5, -128)
HEAD = """\
from kernels.types import *

TABLE = (3, -1, 4, 100, -59, 2, 6, 0)


@kernel
def inner(t: Bool, x: U8, y: S8) -> S16:
    if x > 100:
        return y if t else x
    for turn in range(3):
        if y == turn:
            return turn * x
    return x - y


"""


class Program:
    """A random kernel. Names that stand below an ``if`` or in a loop are used only there."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.count = 0

    def number(self, names, depth):
        chance = self.chance
        if depth == 0:
            return chance.choice([*names, *names, str(chance.choice(CONSTANTS))])
        a, b = (self.number(names, depth - 1) for _ in range(2))
        x, y = chance.choice(names), chance.choice(names)
        return chance.choice(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"({a} {chance.choice('*&|^')} {b})",
                f"({a} {chance.choice(('//', '%'))} {chance.choice((1, 3, 8, 10, 1000))})",
                f"({a} {chance.choice(('<<', '>>'))} ({b} & 7))",
                f"{chance.choice(('abs', '-', '~'))}({a})",
                f"{chance.choice(('min', 'max'))}({a}, {b})",
                f"{chance.choice(('wrap', 'saturate'))}({a}, {chance.choice(ARGUMENT_TYPES)})",
                f"TABLE[{a} & 7]",
                f"int({self.condition(names, depth)})",
                f"({a} if {self.condition(names, depth)} else {b})",
                f"({x} - {y} if {x} {chance.choice(('<', '>='))} {y} else {y} - {x})",
                f"inner({self.condition(names, depth)}, wrap({a}, U8), wrap({b}, S8))",
            ]
        )

    def condition(self, names, depth):
        chance = self.chance
        a, b, c = (self.number(names, depth - 1) for _ in range(3))
        compare = chance.choice(("<", "<=", ">", ">=", "==", "!="))
        other = f"{c} {chance.choice(('<', '<='))} {a}"
        return chance.choice(
            [
                f"({a} {compare} {b})",
                f"({other} < {b})",
                f"({a} {compare} {b} {chance.choice(('and', 'or'))} {other})",
                f"(not {a} {compare} {b})",
            ]
        )

    def block(self, names, depth):
        """Return the lines of some statements; names they assign are added."""
        lines = []
        for _ in range(self.chance.randint(1, 3)):
            self.count += 1
            new = f"v{self.count}"
            inside = [*names]
            match self.chance.randrange(5) if depth else 0:
                case 1:
                    lines += [f"if {self.condition(names, 2)}:"]
                    lines += [f"    {line}" for line in self.block(inside, depth - 1)]
                    lines += [f"    return wrap({self.number(inside, 2)}, S24)"]
                    continue
                case 2 | 3:
                    for keyword in (f"if {self.condition(names, 2)}:", "else:"):
                        inside = [*names]
                        lines += [keyword]
                        lines += [f"    {line}" for line in self.block(inside, depth - 1)]
                        lines += [f"    {new} = {self.number(inside, 2)}"]
                case 4:
                    inside += [new, f"i{new}"]
                    lines += [f"{new} = 0", f"for i{new} in range(1, 6, 2):"]
                    lines += [f"    {line}" for line in self.block(inside, 0)]
                    lines += [f"    {new} = saturate({self.number(inside, 2)}, S16)"]
                case _:
                    lines += [f"{new} = {self.number(names, 2)}"]
            names.append(new)
        return lines

    def text(self):
        types = [self.chance.choice(ARGUMENT_TYPES) for _ in "abc"]
        signature = ", ".join(f"{name}: {kind}" for name, kind in zip("abc", types, strict=True))
        names = ["a", "b", "c"]
        lines = self.block(names, 2)
        lines += [f"return wrap({self.number(names, 2)}, S24)"]
        body = "".join(f"    {line}\n" for line in lines)
        return f"{HEAD}@kernel\ndef program({signature}) -> S24:\n{body}"


@pytest.mark.parametrize("seed", range(SEED, SEED + COUNT))
def test_random_program_is_the_same_everywhere_and_proven(seed, tmp_path):
    print(f"seed {seed}")
    file = tmp_path / "program.py"
    file.write_text(Program(seed).text())
    spec = importlib.util.spec_from_file_location("program", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    kernel = module.program
    graph = read(kernel)
    for values in stimulus(kernel, COUNT_OF_ARGUMENTS, seed):
        found = kernel(*arguments(kernel, values))
        assert graph.evaluate(values) == results(kernel, found), values
    report = check(kernel, count=COUNT_OF_ARGUMENTS, seed=seed)
    assert report.verdict is Verdict.PROVEN, report
    numba, _ = report.legs
    # Some programs compute more than 63 bits.
    assert numba.refused == "" or "Numba's integers hold" in numba.refused
