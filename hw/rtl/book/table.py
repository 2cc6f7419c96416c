"""A memory that is made of block RAMs side by side, with nothing behind them."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two

BLOCK_RAM_BITS = 16_384  # Without the ninth bits.
WIDTH_MAX, WIDTH_PARITY = 36, 9
"""Widest port of a block RAM, and from where on each eight bits have a ninth."""
DEPTH_MAX = 1 << 16


def column_bits(depth: int) -> int:
    """Return how wide one block RAM is at a depth, 1 where not even one bit fits in it."""
    width = max(BLOCK_RAM_BITS // depth, 1)
    return min(width + width // (WIDTH_PARITY - 1), WIDTH_MAX)


class Table(wiring.Component):
    """Remembers a row for each address; one is written and one read in each cycle.

    Each column is as narrow as makes one block RAM hold the whole depth. A tool left to itself
    takes fewer and wider ones above one another, and what selects between them stands on the
    slowest path there is: behind the memory's output, with a select that all bits share.

    Latency is 1 cycle from an address to its row, and from a write to the first address that
    shows it. What is read in the cycle in which it is written is undefined. Not cleared by reset.

    Parameters
    ----------
    width_bits : int
        Width of a row.
    depth : int
        Rows; a power of two, 2 to 65,536.

    Members
    -------
    read_address : ``In(range(depth))``
    read_data : ``Out(width_bits)``
        The row at the address of the cycle before.
    write_en, write_address, write_data : ``In``

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, width_bits: int, depth: int):
        check_power_of_two("depth", depth, 2, DEPTH_MAX)
        if not isinstance(width_bits, int):
            raise TypeError(f"width_bits must be an integer, not {width_bits!r}")
        if width_bits < 1:
            raise ValueError(f"width_bits must be 1 or more, not {width_bits!r}")
        self.depth = depth
        super().__init__(
            {
                "read_address": In(range(depth)),
                "read_data": Out(width_bits),
                "write_en": In(1),
                "write_address": In(range(depth)),
                "write_data": In(width_bits),
            }
        )

    def elaborate(self, platform):
        m = Module()
        step = column_bits(self.depth)
        columns = []
        for low in range(0, len(self.read_data), step):
            part = self.write_data[low : low + step]
            # Where a row is read and written at once, what is read counts for nothing: without this
            # attribute, which tools take only where the register stands outside of the memory, they
            # would add a bypass behind it.
            m.submodules[f"column_{low}"] = memory = Memory(
                shape=len(part), depth=self.depth, init=[], attrs={"no_rw_check": True}
            )
            write = memory.write_port()
            read = memory.read_port(domain="comb")
            column = Signal(len(part), name=f"column_{low}", reset_less=True)
            m.d.comb += [
                write.en.eq(self.write_en),
                write.addr.eq(self.write_address),
                write.data.eq(part),
                read.addr.eq(self.read_address),
            ]
            m.d.sync += column.eq(read.data)
            columns.append(column)
        m.d.comb += self.read_data.eq(Cat(columns))
        return m
