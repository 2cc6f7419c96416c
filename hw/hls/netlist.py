"""What a circuit computes, read from the RTLIL that Amaranth makes of it, as terms of z3.

Only what a pipeline is made of is known: one module, one clock, no memories. A signal's value in
a cycle is a term of the inputs in that cycle and those before, so that a register too many or too
few shows: the term then names an input of the wrong cycle.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import z3
from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Value

from hw.hls.to_z3 import Multiply, Term, resized

_TOKEN = re.compile(r"\{|\}|\[[^\]]*\]|[^\s{}\[\]]+")
_CONSTANT = re.compile(r"(\d+)'([01]+)$")
_DEPTH_MAX = 100_000


class NetlistError(Exception):
    """A circuit has something in it that cannot be read here."""


@dataclass(frozen=True, slots=True)
class Bits:
    """Some bits of a wire; where ``wire`` is empty the constant ``low``."""

    wire: str
    low: int
    width: int


Spec = tuple[Bits, ...]
"""Bits side by side, the lowest first."""


@dataclass(slots=True)
class Cell:
    """An operation, with its parameters and what it is connected to."""

    kind: str
    parameters: dict[str, int] = field(default_factory=dict)
    ports: dict[str, Spec] = field(default_factory=dict)


@dataclass(slots=True)
class Switch:
    """A choice in a process: what is assigned for which values of a signal."""

    signal: Spec
    cases: "list[tuple[list[Spec], list[Assign | Switch]]]" = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Assign:
    """An assignment in a process."""

    target: Spec
    source: Spec


@dataclass(slots=True)
class Driver:
    """What gives some bits of a wire their value."""

    low: int
    width: int
    term: Callable[[int], Term]


_BINARY: dict[str, Callable[[Term, Term], Term]] = {
    "$add": lambda a, b: a + b,
    "$sub": lambda a, b: a - b,
    "$and": lambda a, b: a & b,
    "$or": lambda a, b: a | b,
    "$xor": lambda a, b: a ^ b,
}
_COMPARED: dict[str, Callable[[Term, Term], Term]] = {
    "$eq": lambda a, b: a == b,
    "$ne": lambda a, b: a != b,
    "$lt": lambda a, b: a < b,
    "$le": lambda a, b: a <= b,
    "$gt": lambda a, b: a > b,
    "$ge": lambda a, b: a >= b,
}


class Netlist:
    """A circuit's signals as terms.

    Parameters
    ----------
    circuit : Elaboratable
        A component of one clock, without submodules.
    ports : sequence of Value
        Its ports besides clock and reset.
    multiply : Multiply
        Makes the term of a product.

    Raises
    ------
    NetlistError
        If there is a cell that is not known here.
    """

    def __init__(self, circuit: Elaboratable, ports: Sequence[Value], multiply: Multiply):
        self._multiply = multiply
        self._widths: dict[str, int] = {}
        self._drivers: dict[str, list[Driver]] = {}
        self._known: dict[tuple[str, int], Term] = {}
        self._aliases: dict[str, Spec] = {}
        text = rtlil.convert(circuit, name="top", ports=list(ports), emit_src=False)
        self._read(iter(text.splitlines()))

    def value(self, name: str, cycle: int) -> Term:
        """Return a signal's value in a cycle."""
        with _deep_recursion():
            return self._wire(f"\\{name}", cycle)

    def input(self, name: str, cycle: int) -> Term:
        """Return the variable that stands for an input in a cycle."""
        return z3.BitVec(f"{name}@{cycle}", self._widths[f"\\{name}"])

    def has(self, name: str) -> bool:
        """Return whether there is a signal of a name."""
        return f"\\{name}" in self._widths

    def free(self, name: str, cycle: int) -> Term:
        """Let a signal have any value in a cycle from now on; return it.

        Terms that were made before keep what they were made of.
        """
        wire = f"\\{name}"
        spec = self._aliases.get(wire, (Bits(wire, 0, self._widths[wire]),))
        variables: dict[Bits, Term] = {}
        parts = []
        for bits in reversed(spec):
            if bits.wire and bits not in variables:
                variables[bits] = z3.FreshConst(z3.BitVecSort(bits.width), name)
            constant = z3.BitVecVal(bits.low, bits.width)
            parts.append(variables[bits] if bits.wire else constant)
        for bits, variable in variables.items():
            with _deep_recursion():
                self._known[bits.wire, cycle] = _replaced(
                    self._wire(bits.wire, cycle), bits.low, variable
                )
        whole = z3.Concat(*parts) if len(parts) > 1 else parts[0]
        self._known[wire, cycle] = whole
        return whole

    # Reading.

    def _read(self, lines: Iterator[str]) -> None:
        for line in lines:
            match line.split():
                case ["module", name] if name != "\\top":
                    raise NetlistError(f"has a module {name} inside")
                case ["wire", *rest]:
                    width = int(rest[rest.index("width") + 1]) if "width" in rest else 1
                    self._widths[rest[-1]] = width
                case ["cell", kind, _]:
                    self._add_cell(self._cell(kind, lines))
                case ["connect", *_]:
                    target, source = self._specs(line.split(None, 1)[1])
                    self._drive(target, self._at(source))
                    if len(target) == 1 and target[0].width == self._widths[target[0].wire]:
                        self._aliases[target[0].wire] = source
                case ["process", _]:
                    self._add_process(self._statements(lines))

    def _cell(self, kind: str, lines: Iterator[str]) -> Cell:
        cell = Cell(kind)
        for line in lines:
            match line.split(None, 2):
                case ["end"]:
                    return cell
                case ["parameter", name, value] if not value.startswith(("signed", '"')):
                    constant = _CONSTANT.match(value)
                    cell.parameters[name[1:]] = int(constant[2], 2) if constant else int(value)
                case ["connect", name, spec]:
                    cell.ports[name[1:]] = self._specs(spec)[0]
        raise NetlistError("ends inside a cell")

    def _statements(self, lines: Iterator[str]) -> "list[Assign | Switch]":
        """Read statements up to the end of a process or switch, or the next case."""
        found: list[Assign | Switch] = []
        stack: list[list[Assign | Switch]] = [found]
        switches: list[Switch] = []
        for line in lines:
            match line.split(None, 1):
                case ["assign", rest]:
                    target, source = self._specs(rest)
                    stack[-1].append(Assign(target, source))
                case ["switch", rest]:
                    switches.append(Switch(self._specs(rest)[0]))
                    stack[-1].append(switches[-1])
                    stack.append([])
                case ["case", *rest]:
                    patterns = self._specs(rest[0].replace(",", " ")) if rest else []
                    stack[-1] = []
                    switches[-1].cases.append((patterns, stack[-1]))
                case ["end"]:
                    if not switches:
                        return found
                    switches.pop()
                    stack.pop()
        raise NetlistError("ends inside a process")

    def _specs(self, text: str) -> list[Spec]:
        """Read signals that stand one after the other."""
        found: list[Spec] = []
        group: list[Spec] | None = None
        for token in _TOKEN.findall(text):
            into = found if group is None else group
            if token == "{":
                group = []
            elif token == "}":
                assert group is not None
                found.append(tuple(bits for spec in reversed(group) for bits in spec))
                group = None
            elif token.startswith("["):
                high, _, low = token[1:-1].partition(":")
                (whole,) = into.pop()
                at = int(low or high)
                into.append((Bits(whole.wire, whole.low + at, int(high) - at + 1),))
            elif constant := _CONSTANT.match(token):
                into.append((Bits("", int(constant[2], 2), int(constant[1])),))
            elif token in self._widths:
                into.append((Bits(token, 0, self._widths[token]),))
            else:
                raise NetlistError(f"has a signal that cannot be read: {token}")
        return found

    # Terms.

    def _drive(self, target: Spec, term: Callable[[int], Term]) -> None:
        at = 0
        for bits in target:

            def part(cycle: int, low: int = at, high: int = at + bits.width - 1) -> Term:
                return z3.Extract(high, low, term(cycle))

            self._drivers.setdefault(bits.wire, []).append(Driver(bits.low, bits.width, part))
            at += bits.width

    def _at(self, spec: Spec) -> Callable[[int], Term]:
        return lambda cycle: self._spec(spec, cycle)

    def _spec(self, spec: Spec, cycle: int) -> Term:
        if not spec:  # Of no width, which z3 does not have: as an operand it is 0.
            return z3.BitVecVal(0, 1)
        parts = []
        for bits in reversed(spec):
            if not bits.wire:
                parts.append(z3.BitVecVal(bits.low, bits.width))
            else:
                whole = self._wire(bits.wire, cycle)
                parts.append(z3.Extract(bits.low + bits.width - 1, bits.low, whole))
        return z3.simplify(z3.Concat(*parts) if len(parts) > 1 else parts[0])

    def _wire(self, name: str, cycle: int) -> Term:
        if (name, cycle) not in self._known:
            self._known[name, cycle] = self._driven(name, cycle)
        return self._known[name, cycle]

    def _driven(self, name: str, cycle: int) -> Term:
        width = self._widths[name]
        drivers = sorted(self._drivers.get(name, []), key=lambda driver: driver.low)
        if name == "\\rst":
            return z3.BitVecVal(0, 1)
        if not drivers or cycle < 0:
            return z3.BitVec(f"{name.lstrip(chr(92))}@{cycle}", width)
        if sum(driver.width for driver in drivers) != width:
            raise NetlistError(f"drives only a part of {name}")
        parts = [driver.term(cycle) for driver in reversed(drivers)]
        return z3.simplify(z3.Concat(*parts) if len(parts) > 1 else parts[0])

    def _add_cell(self, cell: Cell) -> None:
        if "Y" not in cell.ports and cell.kind != "$dff":
            raise NetlistError(f"has a cell {cell.kind}, which is not known here")
        if cell.kind == "$dff":
            data = cell.ports["D"]
            before = self._at(data)
            names = [bits.wire for bits in cell.ports["Q"]]
            width = sum(bits.width for bits in cell.ports["Q"])

            def registered(cycle: int) -> Term:
                if cycle == 0:
                    return z3.BitVec(f"{names[0].lstrip(chr(92))} before", width)
                return before(cycle - 1)

            self._drive(cell.ports["Q"], registered)
            return
        self._drive(cell.ports["Y"], lambda cycle: self._cell_term(cell, cycle))

    def _cell_term(self, cell: Cell, cycle: int) -> Term:
        width = sum(bits.width for bits in cell.ports["Y"])
        values = {name: self._spec(spec, cycle) for name, spec in cell.ports.items() if name != "Y"}
        a = values["A"]
        a_signed = bool(cell.parameters.get("A_SIGNED"))
        if cell.kind == "$mux":
            return z3.If(values["S"] == 1, values["B"], a)
        if cell.kind == "$not":
            return ~resized(a, a_signed, width)
        if cell.kind in {"$reduce_or", "$reduce_bool"}:
            return resized(_bit(a != 0), False, width)
        if cell.kind == "$reduce_and":
            return resized(_bit(a == -1), False, width)
        if "B" not in values:
            raise NetlistError(f"has a cell {cell.kind}, which is not known here")
        b, b_signed = values["B"], bool(cell.parameters.get("B_SIGNED"))
        if cell.kind == "$mul":
            return self._multiply(a, a_signed, b, b_signed, width)
        if cell.kind in _BINARY:
            return _BINARY[cell.kind](resized(a, a_signed, width), resized(b, b_signed, width))
        if cell.kind in _COMPARED:
            wide = max(a.size(), b.size()) + 1
            found = _COMPARED[cell.kind](resized(a, a_signed, wide), resized(b, b_signed, wide))
            return resized(_bit(found), False, width)
        if cell.kind in {"$shl", "$shr", "$sshr"}:
            wide = max(a.size(), b.size(), width)
            value, amount = resized(a, a_signed, wide), resized(b, False, wide)
            if cell.kind == "$shl":
                return resized(value << amount, False, width)
            arithmetic = cell.kind == "$sshr" and a_signed
            moved = value >> amount if arithmetic else z3.LShR(value, amount)
            return resized(moved, False, width)
        raise NetlistError(f"has a cell {cell.kind}, which is not known here")

    def _add_process(self, statements: "list[Assign | Switch]") -> None:
        for target in {bits for spec in _targets(statements) for bits in spec}:

            def term(cycle: int, target: Bits = target) -> Term:
                start = z3.BitVec(f"{target} is not assigned", target.width)
                return self._process(statements, target, start, cycle)

            self._drive((target,), term)

    def _process(
        self, statements: "list[Assign | Switch]", target: Bits, before: Term, cycle: int
    ) -> Term:
        """Return the value of some bits after statements."""
        for statement in statements:
            if isinstance(statement, Assign):
                at = 0
                for bits in statement.target:
                    if bits == target:
                        source = self._spec(statement.source, cycle)
                        before = z3.Extract(at + bits.width - 1, at, source)
                    elif bits.wire == target.wire and _overlap(bits, target):
                        raise NetlistError(f"assigns parts of {bits.wire} in different ways")
                    at += bits.width
                continue
            signal = self._spec(statement.signal, cycle)
            after = before
            for patterns, inner in reversed(statement.cases):
                value = self._process(inner, target, before, cycle)
                holds = [signal == self._spec(pattern, cycle) for pattern in patterns]
                after = z3.If(z3.Or(*holds), value, after) if holds else value
            before = after
        return before


def _replaced(whole: Term, low: int, part: Term) -> Term:
    """Return a vector with some of its bits replaced."""
    high = low + part.size()
    above = [z3.Extract(whole.size() - 1, high, whole)] if high < whole.size() else []
    below = [z3.Extract(low - 1, 0, whole)] if low else []
    parts = [*above, part, *below]
    return z3.Concat(*parts) if len(parts) > 1 else part


def _overlap(a: Bits, b: Bits) -> bool:
    return a.low < b.low + b.width and b.low < a.low + a.width


def _targets(statements: "list[Assign | Switch]") -> Iterator[Spec]:
    for statement in statements:
        if isinstance(statement, Assign):
            yield statement.target
        else:
            for _, inner in statement.cases:
                yield from _targets(inner)


def _bit(condition: Term) -> Term:
    return z3.If(condition, z3.BitVecVal(1, 1), z3.BitVecVal(0, 1))


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Let a term be built through as many operations as a long pipeline has in a row."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(_DEPTH_MAX)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
