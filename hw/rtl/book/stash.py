"""The stash of the order map: orders that found all their buckets taken."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two, wires
from hw.rtl.book.hash import REFERENCE_BITS

STASH_COUNT_MAX = 16


def entry_of(order_shape: data.StructLayout) -> data.StructLayout:
    """Return what is remembered of an order, and whether there is one."""
    return data.StructLayout({"valid": 1, "reference": REFERENCE_BITS, "order": order_shape})


class Stash(wiring.Component):
    """Remembers a few orders, each in a slot, and finds them by reference in all slots at once.

    A reference is known from the cycle after it is written, the rest one cycle later: references
    are compared all at once, the rest is read of one slot. Not cleared by reset, but for ``valid``.

    Parameters
    ----------
    order_shape : :class:`data.StructLayout`
        What is remembered beside the reference.
    stash_count : int
        Slots; a power of two.

    Members
    -------
    write_slots : ``In(stash_count)``
        The bit of the slot that is written, or none.
    write_entry : ``In(entry_of(order_shape))``
        What is written; must still be there one cycle after.
    reference : ``In(64)``
    valid, hits : ``Out(stash_count)``
        Slots that hold an order, and those that hold ``reference``. Combinational.
    read_slots : ``In(stash_count)``
        The bit of the slot that is read; more than one, or none, read what counts for nothing.
    read_order : ``Out(order_shape)``
        What is in that slot. Combinational.
    candidate_valid, candidate_reference : ``Out``
        Whether there was an order two cycles ago, and the reference of one, of another slot each
        cycle. It may have left since.

    Raises
    ------
    TypeError, ValueError
        If ``stash_count`` is not one of these.
    """

    def __init__(self, order_shape: data.StructLayout, stash_count: int):
        check_power_of_two("stash_count", stash_count, 2, STASH_COUNT_MAX)
        super().__init__(
            {
                "write_slots": In(stash_count),
                "write_entry": In(entry_of(order_shape)),
                "reference": In(REFERENCE_BITS),
                "valid": Out(stash_count),
                "hits": Out(stash_count),
                "read_slots": In(stash_count),
                "read_order": Out(order_shape),
                "candidate_valid": Out(1),
                "candidate_reference": Out(REFERENCE_BITS),
            }
        )
        self.stash_count = stash_count
        self._order = order_shape

    def elaborate(self, platform):
        m = Module()
        for slot in range(self.stash_count):
            reference = Signal(REFERENCE_BITS, name=f"reference_{slot}", reset_less=True)
            with m.If(self.write_slots[slot]):
                m.d.sync += [
                    reference.eq(self.write_entry.reference),
                    self.valid[slot].eq(self.write_entry.valid),
                ]
            is_equal = wires.equal(m, f"reference_{slot}_equal", reference, self.reference)
            m.d.comb += self.hits[slot].eq(self.valid[slot] & is_equal)

        written = Signal(range(self.stash_count))
        writes = Signal()
        m.d.comb += [written.eq(_encode(self.write_slots)), writes.eq(self.write_slots.any())]
        s1_written = Signal(range(self.stash_count), reset_less=True)
        s1_writes = Signal()
        m.d.sync += [s1_written.eq(written), s1_writes.eq(writes)]
        m.submodules.orders = orders = Memory(shape=self._order, depth=self.stash_count, init=[])
        write = orders.write_port()
        read = orders.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(s1_written),
            write.data.eq(self.write_entry.order),
            write.en.eq(s1_writes),
            read.addr.eq(_encode(self.read_slots)),
            self.read_order.eq(read.data),
        ]

        # A second copy of the references: to choose one where they are compared would take more
        # wires than the comparisons do.
        m.submodules.candidates = candidates = Memory(
            shape=REFERENCE_BITS, depth=self.stash_count, init=[]
        )
        write = candidates.write_port()
        read = candidates.read_port(domain="comb")
        slot = Signal(range(self.stash_count))
        candidate = Signal(REFERENCE_BITS, reset_less=True)
        m.d.comb += [
            write.addr.eq(written),
            write.data.eq(self.write_entry.reference),
            write.en.eq(writes),
            read.addr.eq(slot),
            self.candidate_reference.eq(candidate),
        ]
        m.d.sync += [slot.eq(slot + 1), self.candidate_valid.eq(self.valid.any())]
        with m.If(self.valid.bit_select(slot, 1)):
            m.d.sync += candidate.eq(read.data)
        return m


def _encode(one_hot):
    """Return the number of the set bit, zero where none is set."""
    width = (len(one_hot) - 1).bit_length()
    return Cat(
        Cat(bit for i, bit in enumerate(one_hot) if i >> place & 1).any() for place in range(width)
    )
