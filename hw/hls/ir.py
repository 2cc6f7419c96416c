"""The dataflow of a kernel: operations on integers, each with the exact interval of its value.

Every value is an integer without a width, as in Python. The interval tells how many bits it takes,
so that no back end can lose one. A graph is built through its methods, which fold constants, share
what is computed twice, and infer intervals.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, unique

BITS_MAX = 512
"""Widest value that a kernel may compute."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a kernel's source something stands. Line and column count from 1."""

    file: str
    line: int
    column: int
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class KernelError(Exception):
    """A kernel is not in the subset, or cannot be built as asked.

    Attributes
    ----------
    place : Place
        What is wrong.
    reason : str
        Why, and what to write instead.
    """

    def __init__(self, place: Place, reason: str):
        super().__init__(f"{place}: {reason}: {place.source}")
        self.place = place
        self.reason = reason


@unique
class Op(Enum):
    """What an operation computes of its operands."""

    ARG = "arg"
    CONST = "const"
    ADD = "+"
    ADDC = "+c"
    """The sum of two, and of a third that is 0 or 1."""
    SUB = "-"
    MUL = "*"
    DIV = "//"
    MOD = "%"
    SHL = "<<"
    SHR = ">>"
    AND = "&"
    OR = "|"
    XOR = "^"
    NOT = "~"
    EQ = "=="
    NE = "!="
    LT = "<"
    LE = "<="
    MUX = "if"
    """The second where the first is 1, the third where it is 0."""
    TABLE = "[]"
    """The item of ``table`` at an index."""
    WRAP = "wrap"
    """The low bits of a value, read as an integer of the width and sign of the interval."""
    FIT = "fit"
    """The same, of a value that is in the interval wherever it is used."""


@dataclass(eq=False, slots=True)
class Node:
    """One operation. ``number`` rises from operands to results."""

    number: int
    op: Op
    operands: tuple["Node", ...]
    lo: int
    hi: int
    place: Place | None
    name: str = ""
    """Of an argument; of any other the variable that it was first assigned to."""
    table: tuple[int, ...] = ()

    @property
    def signed(self) -> bool:
        return self.lo < 0

    @property
    def width(self) -> int:
        return bits(self.lo, self.hi)

    @property
    def is_const(self) -> bool:
        return self.op is Op.CONST

    def __repr__(self) -> str:
        return f"n{self.number}: {self.op.value} {self.lo}..{self.hi}"


@dataclass(frozen=True, eq=False, slots=True)
class Given:
    """That a condition holds, or does not, besides what was given ``before``."""

    condition: Node
    holds: bool
    before: "Given | None"


@dataclass(frozen=True, slots=True)
class Claim:
    """That a value is in an interval, by what is given."""

    value: Node
    lo: int
    hi: int
    given: Given | None
    place: Place | None = field(compare=False)

    def __str__(self) -> str:
        where = "" if self.place is None else f" at {self.place}: {self.place.source}"
        return f"{self.lo} to {self.hi}{where}"


def bits(lo: int, hi: int) -> int:
    """Return how many bits every value of an interval takes, with the sign where there is one."""
    if lo < 0:
        return max(hi.bit_length(), (~lo).bit_length()) + 1
    return max(hi.bit_length(), 1)


def low_bits(value: int, lo: int, hi: int) -> int:
    """Return the low bits of a value, read as an integer of an interval's width and sign."""
    width = bits(lo, hi)
    base = -(1 << width - 1) if lo < 0 else 0
    return (value - base) % (1 << width) + base


_COMPUTE: dict[Op, Callable[..., int]] = {
    Op.ADD: lambda a, b: a + b,
    Op.ADDC: lambda a, b, c: a + b + c,
    Op.SUB: lambda a, b: a - b,
    Op.MUL: lambda a, b: a * b,
    Op.DIV: lambda a, b: a // b,
    Op.MOD: lambda a, b: a % b,
    Op.SHL: lambda a, b: a << b,
    Op.SHR: lambda a, b: a >> b,
    Op.AND: lambda a, b: a & b,
    Op.OR: lambda a, b: a | b,
    Op.XOR: lambda a, b: a ^ b,
    Op.NOT: lambda a: ~a,
    Op.EQ: lambda a, b: int(a == b),
    Op.NE: lambda a, b: int(a != b),
    Op.LT: lambda a, b: int(a < b),
    Op.LE: lambda a, b: int(a <= b),
    Op.MUX: lambda c, a, b: a if c else b,
}
COMPARISONS = frozenset({Op.EQ, Op.NE, Op.LT, Op.LE})
_COMMUTATIVE = frozenset({Op.ADD, Op.MUL, Op.AND, Op.OR, Op.XOR, Op.EQ, Op.NE})
_UNCHANGED = frozenset(
    {(op, 0) for op in (Op.ADD, Op.SUB, Op.OR, Op.XOR, Op.SHL, Op.SHR)} | {(Op.MUL, 1), (Op.DIV, 1)}
)
"""Operations that return the first operand where the second is this constant."""


@dataclass(eq=False, slots=True)
class Graph:
    """The operations of a kernel, operands before results.

    Attributes
    ----------
    nodes : list of Node
        All of them.
    results : dict of str to Node
        What the kernel returns, by name.
    written : dict of int to Place
        By number, the nodes that an expression of the source has for its value, and where.
    claims : dict of Claim
        What narrowed values rest on, in the order in which they were narrowed.
    place : Place, optional
        What operations built from now on stand for.
    """

    nodes: list[Node] = field(default_factory=list)
    results: dict[str, Node] = field(default_factory=dict)
    written: dict[int, Place] = field(default_factory=dict)
    claims: dict[Claim, None] = field(default_factory=dict)
    place: Place | None = None
    _known: dict[object, Node] = field(default_factory=dict)

    @property
    def args(self) -> list[Node]:
        """The arguments, in order."""
        return [node for node in self.nodes if node.op is Op.ARG]

    def arg(self, name: str, lo: int, hi: int) -> Node:
        """Add an argument."""
        return self._add(Op.ARG, (), lo, hi, name=name)

    def const(self, value: int) -> Node:
        """Return a constant."""
        return self._share(Op.CONST, (), value, value)

    def op(self, op: Op, *operands: Node, within: tuple[int, int] | None = None) -> Node:
        """Return the result of an operation, ``within`` an interval that the caller knows of."""
        if op in _COMMUTATIVE and _rank(operands[0]) > _rank(operands[1]):
            operands = operands[1], operands[0]
        if all(operand.is_const for operand in operands):
            return self.const(_COMPUTE[op](*(operand.lo for operand in operands)))
        simple = self._simplified(op, operands)
        if simple is not None:
            return simple
        lo, hi = _interval(op, operands)
        if within is not None:
            lo, hi = max(lo, within[0]), min(hi, within[1])
        return self._share(op, operands, lo, hi)

    def table(self, items: Sequence[int], index: Node) -> Node:
        """Return the item at an index, which must be of ``range(len(items))``."""
        if index.is_const:
            return self.const(items[index.lo])
        seen = items[index.lo : index.hi + 1]
        return self._share(Op.TABLE, (index,), min(seen), max(seen), tuple(items[: index.hi + 1]))

    def wrap(self, value: Node, lo: int, hi: int) -> Node:
        """Return a value's low bits as an integer of the width and sign of an interval."""
        return self._low_bits(Op.WRAP, value, lo, hi)

    def fit(self, value: Node, lo: int, hi: int) -> Node:
        """Return a value that is known to be in an interval wherever the result is used."""
        return self._low_bits(Op.FIT, value, lo, hi)

    def _low_bits(self, op: Op, value: Node, lo: int, hi: int) -> Node:
        if lo <= value.lo and value.hi <= hi:
            return value
        if value.is_const:
            return self.const(low_bits(value.lo, lo, hi))
        return self._share(op, (value,), lo, hi)

    def invert(self, condition: Node) -> Node:
        """Return the opposite of a value that is 0 or 1."""
        a, b = condition.operands[:2] if condition.op in COMPARISONS else (condition, condition)
        match condition.op:
            case Op.EQ:
                return self.op(Op.NE, a, b)
            case Op.NE:
                return self.op(Op.EQ, a, b)
            case Op.LT:
                return self.op(Op.LE, b, a)
            case Op.LE:
                return self.op(Op.LT, b, a)
        return self.op(Op.XOR, condition, self.const(1))

    def reachable(self) -> list[Node]:
        """Return the arguments, and what the results need, in order."""
        needed = {node.number for node in self.results.values()}
        for node in reversed(self.nodes):
            if node.number in needed:
                needed.update(operand.number for operand in node.operands)
        return [node for node in self.nodes if node.op is Op.ARG or node.number in needed]

    def evaluate(self, values: Mapping[str, int]) -> dict[str, int]:
        """Return the results for arguments given by name."""
        found: dict[int, int] = {}
        for node in self.reachable():
            operands = [found[operand.number] for operand in node.operands]
            found[node.number] = compute(node, operands, values)
        return {name: found[node.number] for name, node in self.results.items()}

    def _simplified(self, op: Op, operands: tuple[Node, ...]) -> Node | None:
        """Return what an operation comes to without being done, or None."""
        first = operands[0]
        second = operands[1].lo if len(operands) == 2 and operands[1].is_const else None
        if op is Op.MUX:
            condition, yes, no = operands
            if condition.is_const:
                return yes if condition.lo else no
            if yes is no:
                return yes
            if (yes.lo, yes.hi, no.lo, no.hi) == (1, 1, 0, 0):
                return condition
            if (yes.lo, yes.hi, no.lo, no.hi) == (0, 0, 1, 1):
                return self.invert(condition)
        elif (op, second) in _UNCHANGED or (first is operands[-1] and op in {Op.AND, Op.OR}):
            return first
        elif first is operands[-1] and op in {Op.SUB, Op.XOR, Op.NE, Op.LT}:
            return self.const(0)
        elif first is operands[-1] and op in {Op.EQ, Op.LE}:
            return self.const(1)
        return None

    def _share(
        self, op: Op, operands: tuple[Node, ...], lo: int, hi: int, table: tuple[int, ...] = ()
    ) -> Node:
        if lo == hi:  # Whatever it is made of.
            op, operands, table = Op.CONST, (), ()
        key = (op, *(operand.number for operand in operands), lo, hi, table)
        if key not in self._known:
            self._known[key] = self._add(op, operands, lo, hi, table=table)
        return self._known[key]

    def _add(
        self,
        op: Op,
        operands: tuple[Node, ...],
        lo: int,
        hi: int,
        name: str = "",
        table: tuple[int, ...] = (),
    ) -> Node:
        node = Node(len(self.nodes), op, operands, lo, hi, self.place, name, table)
        if node.width > BITS_MAX and self.place is not None:
            raise KernelError(
                self.place,
                f"takes {node.width} bits, and {BITS_MAX} is the most: narrow a value before, "
                f"with saturate or wrap",
            )
        self.nodes.append(node)
        return node


def _rank(node: Node) -> tuple[bool, int]:
    """Order the operands of a sum or the like, constants last, so that equal ones are shared."""
    return node.is_const, node.number


def compute(node: Node, operands: Sequence[int], values: Mapping[str, int]) -> int:
    """Return the value of a node from those of its operands; ``values`` are the arguments."""
    match node.op:
        case Op.ARG:
            return values[node.name]
        case Op.CONST:
            return node.lo
        case Op.TABLE:
            # In a branch that is not taken the index can be any.
            return node.table[min(max(operands[0], 0), len(node.table) - 1)]
        case Op.FIT | Op.WRAP:
            return low_bits(operands[0], node.lo, node.hi)
    return _COMPUTE[node.op](*operands)


def _interval(op: Op, operands: tuple[Node, ...]) -> tuple[int, int]:
    a, b = operands[0], operands[-1]
    match op:
        case Op.SUB:
            lo = 0 if _is_extreme(b, a, greatest=False) or _is_extreme(a, b, True) else a.lo - b.hi
            hi = 0 if _is_extreme(a, b, greatest=False) or _is_extreme(b, a, True) else a.hi - b.lo
            return max(lo, a.lo - b.hi), min(hi, a.hi - b.lo)
        case Op.ADD | Op.ADDC:
            return sum(node.lo for node in operands), sum(node.hi for node in operands)
        case Op.MUL if a is b:
            least, most = sorted((a.lo * a.lo, a.hi * a.hi))
            return (0 if a.lo < 0 < a.hi else least), most
        case Op.MUL | Op.DIV | Op.SHL | Op.SHR:
            ends = [_COMPUTE[op](x, y) for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
            return min(ends), max(ends)
        case Op.MOD:
            if a.lo // b.lo == a.hi // b.lo:
                return a.lo % b.lo, a.hi % b.lo
            return 0, b.lo - 1
        case Op.NOT:
            return ~a.hi, ~a.lo
        case Op.AND | Op.OR | Op.XOR:
            return _bitwise(op, a, b)
        case Op.LT | Op.LE | Op.EQ | Op.NE:
            return _compared(op, a, b)
    yes, no = operands[1:]
    return min(yes.lo, no.lo), max(yes.hi, no.hi)


def _is_extreme(node: Node, other: Node, greatest: bool) -> bool:
    """Return whether a node is the least, or the greatest, of another and something else."""
    node, other = unfitted(node), unfitted(other)
    if node.op is not Op.MUX or node.operands[0].op not in {Op.LT, Op.LE}:
        return False
    condition, yes, no = map(unfitted, node.operands)
    less, more = map(unfitted, condition.operands)
    pair = (no, yes) if greatest else (yes, no)
    return (less, more) == pair and other in pair


def unfitted(node: Node) -> Node:
    """Return a node as it was before anything was known of it."""
    while node.op is Op.FIT:
        (node,) = node.operands
    return node


def _bitwise(op: Op, a: Node, b: Node) -> tuple[int, int]:
    size = 1 << max(bits(a.lo, a.hi) - a.signed, bits(b.lo, b.hi) - b.signed)
    if op is Op.AND and not (a.signed and b.signed):
        return 0, min(node.hi for node in (a, b) if not node.signed)
    if a.signed or b.signed:
        return -size, size - 1
    return (max(a.lo, b.lo) if op is Op.OR else 0), size - 1


def _compared(op: Op, a: Node, b: Node) -> tuple[int, int]:
    if op in {Op.EQ, Op.NE}:
        apart = a.hi < b.lo or b.hi < a.lo
        return (int(op is Op.NE),) * 2 if apart else (0, 1)
    compute = _COMPUTE[op]
    return compute(a.hi, b.lo), compute(a.lo, b.hi)


def copied(
    graph: Graph, convert: Callable[[Graph, Node, tuple[Node, ...]], Node]
) -> tuple[Graph, dict[Node, Node]]:
    """Return a new graph in which each operation is what ``convert`` builds of new operands.

    The second result tells for each node what stands for it.
    """
    new = Graph()
    images: dict[Node, Node] = {}
    for node in graph.reachable():
        new.place = node.place
        if node.op is Op.ARG:
            images[node] = new.arg(node.name, node.lo, node.hi)
            continue
        made = convert(new, node, tuple(images[operand] for operand in node.operands))
        made.name = made.name or node.name
        images[node] = made
    new.results = {name: images[node] for name, node in graph.results.items()}
    return new, images


def rebuilt(graph: Graph, node: Node, operands: tuple[Node, ...]) -> Node:
    """Build the same operation in another graph."""
    match node.op:
        case Op.CONST:
            return graph.const(node.lo)
        case Op.TABLE:
            return graph.table(node.table, operands[0])
        case Op.FIT:
            return graph.fit(operands[0], node.lo, node.hi)
        case Op.WRAP:
            return graph.wrap(operands[0], node.lo, node.hi)
    return graph.op(node.op, *operands, within=(node.lo, node.hi))
