"""Splits operations that take longer than a clock period into ones that do not."""

from collections.abc import Callable

from hw.hls.delays import Delays, compared_width, shift_bits
from hw.hls.ir import COMPARISONS, Graph, KernelError, Node, Op, copied, rebuilt


def split(graph: Graph, delays: Delays, budget_ns: float) -> tuple[Graph, dict[Node, Node]]:
    """Return a graph of the same values in which every operation fits, and which node is which.

    Sums are cut into slices that hand on a carry, comparisons into slices whose outcomes are
    joined, shifts into one by the high bits of the amount and one by the low, tables in two.

    Raises
    ------
    KernelError
        If an operation fits in no way.
    """
    return copied(graph, _Splitter(delays, budget_ns).rebuild)


class _Splitter:
    def __init__(self, delays: Delays, budget_ns: float):
        self.delays = delays
        self.budget_ns = budget_ns

    def rebuild(self, graph: Graph, node: Node, operands: tuple[Node, ...]) -> Node:
        return self.fitting(graph, rebuilt(graph, node, operands))

    def build(self, graph: Graph, op: Op, *operands: Node, within: tuple[int, int]) -> Node:
        return self.fitting(graph, graph.op(op, *operands, within=within))

    def fitting(self, graph: Graph, node: Node) -> Node:
        """Return a value that is the node's, of operations that fit."""
        if self.delays.of(node) <= self.budget_ns:
            return node
        by_op: dict[Op, Callable[[Graph, Node], Node | None]] = {
            **dict.fromkeys((Op.ADD, Op.ADDC, Op.SUB), self.sum),
            **dict.fromkeys(COMPARISONS, self.comparison),
            **dict.fromkeys((Op.SHL, Op.SHR), self.shift),
            Op.TABLE: self.table,
        }
        found = by_op[node.op](graph, node) if node.op in by_op else None
        if found is None:
            assert node.place is not None  # Every operation that takes time stands in a source.
            delay_ns = self.delays.of(node)
            raise KernelError(
                node.place,
                f"takes {delay_ns:.1f} ns, and a stage has {self.budget_ns:.1f} ns: "
                f"no clock above {self.delays.fastest_mhz(delay_ns):.0f} MHz is possible",
            )
        return found

    def widest(self, node: Node, width: int) -> int:
        """Return the most bits, less than a width, in which the operation fits."""
        while width and self.delays.at(node.op, width) > self.budget_ns:
            width -= 1
        return width

    def sum(self, graph: Graph, node: Node) -> Node | None:
        cut = self.widest(node, node.width - 1) - 1  # The lowest slice has a carry as well.
        if cut < 1:
            return None
        a, b = node.operands[:2]
        mask = graph.const((1 << cut) - 1)
        low_b, high_b = graph.op(Op.AND, b, mask), graph.op(Op.SHR, b, graph.const(cut))
        carry = graph.const(0)
        if node.op is Op.SUB:
            low_b, high_b = graph.op(Op.XOR, low_b, mask), graph.op(Op.NOT, high_b)
            carry = graph.const(1)
        elif node.op is Op.ADDC:
            carry = node.operands[2]
        low = _sum(graph, graph.op(Op.AND, a, mask), low_b, carry)
        high_a = graph.op(Op.SHR, a, graph.const(cut))
        carry = graph.op(Op.SHR, low, graph.const(cut))
        within = node.lo >> cut, node.hi >> cut
        high = self.build(graph, Op.ADDC, high_a, high_b, carry, within=within)
        return graph.op(
            Op.OR,
            graph.op(Op.SHL, high, graph.const(cut)),
            graph.op(Op.AND, low, mask),
            within=(node.lo, node.hi),
        )

    def comparison(self, graph: Graph, node: Node) -> Node | None:
        cut = self.widest(node, compared_width(node) - 1)
        if cut < 1:
            return None
        mask = graph.const((1 << cut) - 1)
        low = [graph.op(Op.AND, operand, mask) for operand in node.operands]
        high = [graph.op(Op.SHR, operand, graph.const(cut)) for operand in node.operands]
        within = 0, 1
        low_holds = graph.op(node.op, *low)
        if node.op in {Op.EQ, Op.NE}:
            joining = Op.AND if node.op is Op.EQ else Op.OR
            return graph.op(joining, self.build(graph, node.op, *high, within=within), low_holds)
        less = self.build(graph, Op.LT, *high, within=within)
        equal = self.build(graph, Op.EQ, *high, within=within)
        return graph.op(Op.OR, less, graph.op(Op.AND, equal, low_holds))

    def shift(self, graph: Graph, node: Node) -> Node | None:
        value, amount = node.operands
        varying = shift_bits(amount)
        if len(varying) < 2:
            return None
        low_mask = sum(1 << bit for bit in varying[: len(varying) // 2])
        high_mask = sum(1 << bit for bit in varying[len(varying) // 2 :])
        whole = min(node.lo, value.lo), max(node.hi, value.hi)
        high = graph.op(Op.AND, amount, graph.const(high_mask))
        found = self.build(graph, node.op, value, high, within=whole)
        low = graph.op(Op.AND, amount, graph.const(low_mask))
        return self.build(graph, node.op, found, low, within=(node.lo, node.hi))

    def table(self, graph: Graph, node: Node) -> Node | None:
        (index,) = node.operands
        half = 1 << index.width - 1
        if half < 2:
            return None
        low = graph.op(Op.AND, index, graph.const(half - 1))
        lower = self.fitting(graph, graph.table(_padded(node.table[:half], half), low))
        upper = self.fitting(graph, graph.table(_padded(node.table[half:], half), low))
        is_upper = graph.op(Op.SHR, index, graph.const(index.width - 1))
        return graph.op(Op.MUX, is_upper, upper, lower)


def _sum(graph: Graph, a: Node, b: Node, carry: Node) -> Node:
    if carry.is_const and carry.lo == 0:
        return graph.op(Op.ADD, a, b)
    return graph.op(Op.ADDC, a, b, carry)


def _padded(items: tuple[int, ...], size: int) -> tuple[int, ...]:
    return items + items[-1:] * (size - len(items))
