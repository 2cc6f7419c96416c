"""How long an operation takes on the card, from measured blocks.

``delays.json`` is written by ``python -m bench.calibrate``. Between two measured widths time is
taken to grow evenly, and beyond the last as between the last two.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from hw.hls.ir import COMPARISONS, Node, Op

MARGIN = 0.9
"""Part of the time between registers that is planned with; the rest is for the router."""

DELAYS = Path(__file__).with_name("delays.json")

_MEASURED_AS = {
    **{op: op for op in (Op.ADD, Op.LT, Op.EQ, Op.AND, Op.MUX, Op.SHR, Op.MUL, Op.TABLE)},
    **dict.fromkeys((Op.ADDC, Op.SUB), Op.ADD),
    Op.LE: Op.LT,
    Op.NE: Op.EQ,
    **dict.fromkeys((Op.OR, Op.XOR, Op.NOT), Op.AND),
    Op.SHL: Op.SHR,
}


@dataclass(frozen=True, slots=True)
class Delays:
    """Time in ns by operation and width.

    Parameters
    ----------
    part : str
        Which one was measured.
    tools : dict of str to str
        With which versions of which tools.
    overhead_ns : float
        What a register takes of a period with no operation before it.
    delay_ns : dict
        By name of the operation, by width, what it takes more.
    """

    part: str
    tools: dict[str, str]
    overhead_ns: float
    delay_ns: dict[str, dict[int, float]]

    @classmethod
    def load(cls, path: Path = DELAYS) -> "Delays":
        """Read a table that was measured."""
        found = json.loads(path.read_text())
        table = {
            op: {int(width): float(delay) for width, delay in row.items()}
            for op, row in found["delay_ns"].items()
        }
        return cls(found["part"], found["tools"], found["overhead_ns"], table)

    def budget_ns(self, clock_mhz: float) -> float:
        """Return how long the operations of a stage may take together at a clock."""
        return (1e3 / clock_mhz - self.overhead_ns) * MARGIN

    def fastest_mhz(self, delay_ns: float) -> float:
        """Return the fastest clock at which operations that take so long fit a stage."""
        return 1e3 / (delay_ns / MARGIN + self.overhead_ns)

    def at(self, op: Op, width: int) -> float:
        """Return what an operation of a width takes."""
        row = self.delay_ns[_MEASURED_AS[op].name]
        known = sorted(row)
        upper = next((index for index, each in enumerate(known) if each >= width), len(known) - 1)
        if upper == 0:
            return row[known[0]]
        below, above = known[upper - 1], known[upper]
        slope = max(0.0, (row[above] - row[below]) / (above - below))
        return row[below] + slope * (width - below)

    def of(self, node: Node) -> float:
        """Return what a node takes."""
        if node.op in {Op.ARG, Op.CONST} or is_wire(node):
            return 0.0
        if node.op in COMPARISONS:
            return self.at(node.op, compared_width(node))
        if node.op in {Op.SHL, Op.SHR}:
            width = max(node.width, node.operands[0].width)
            levels = max(1, (width - 1).bit_length())
            part = min(1.0, len(shift_bits(node.operands[1])) / levels)
            return self.at(node.op, width) * part
        if node.op is Op.MUL:
            return self.at(node.op, max(operand.width for operand in node.operands))
        if node.op is Op.TABLE:
            return self.at(node.op, node.operands[0].width)
        return self.at(node.op, node.width)


def compared_width(node: Node) -> int:
    """Return the width at which a comparison's operands are compared."""
    a, b = node.operands
    return max(each.width + (not each.signed and (a.signed or b.signed)) for each in (a, b))


def shift_bits(amount: Node) -> list[int]:
    """Return which bits of an amount can be other than 0."""
    mask = (1 << amount.width) - 1
    if amount.op is Op.AND and amount.operands[1].is_const:
        mask &= amount.operands[1].lo
    return [bit for bit in range(amount.width) if mask >> bit & 1]


def is_wire(node: Node) -> bool:
    """Return whether an operation only chooses, inverts and arranges bits.

    What uses it takes an inverter with it, so that it costs no time of its own, nor registers.
    """
    if node.op in {Op.FIT, Op.WRAP, Op.NOT}:
        return True
    if len(node.operands) != 2:
        return False
    first, second = node.operands
    if node.op is Op.OR and not second.is_const:
        shifted = first.op is Op.SHL and first.operands[1].is_const
        return shifted and second.lo >= 0 and second.hi >> first.operands[1].lo == 0
    return second.is_const and node.op in {Op.SHL, Op.SHR, Op.AND, Op.OR, Op.XOR}
