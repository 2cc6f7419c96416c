"""Before the market ring: the newest best bid and offer of a symbol survives when it is full."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO, SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import RECORD
from hw.rtl.ring import check_power_of_two
from protocol.emit.amaranth_layout import struct_layout, view, wire
from protocol.ring import BBO

_SKIPPED_BITS = 8 * BBO.by_name["skipped"].length


def market_item(symbol_count: int) -> data.StructLayout:
    """A market record; with ``is_bbo`` it is a BBO record of the symbol, which the next replaces.

    The symbol means nothing for other records. Of a BBO record ``skipped`` is zero.
    """
    return data.StructLayout({"is_bbo": 1, "symbol_index": range(symbol_count), "record": RECORD})


class Conflation(wiring.Component):
    """Hands market records to the ring's writer; what finds no room is conflated or counted.

    There is room while the queue before the writer is not full. A BBO record without room waits,
    and is replaced by the next one of its symbol; as soon as there is room those that wait go on,
    the symbol first that waits longest, and say in ``skipped`` how many were replaced. Another
    record goes on if there is room and none waits; if not, it is lost and counted. So with a ring
    that has room every record goes on in its order, and the newest of a symbol always does.

    Latency is 2 cycles while nothing waits. Throughput is 1 record a cycle in, and 1 every 2 cycles
    out of those that have waited.

    Parameters
    ----------
    symbol_count : int
        Symbols. A power of two, 2 to 32,768.
    queue_depth : int
        Records that the queue holds. A power of two, 4 to 1024.

    Members
    -------
    i : ``In(stream.Signature(market_item(symbol_count), always_ready=True))``
        Records in their order.
    o : ``Out(stream.Signature(RECORD))``
        Records for the ring.
    conflated_stb : ``Out(1)``
        A BBO record was replaced by the one in this cycle.
    lost_stb : ``Out(1)``
        The record in this cycle, another one, is lost.
    queued, queued_max : ``Out``
        Records in the queue; most there ever were.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 2

    def __init__(self, symbol_count: int, queue_depth: int = 32):
        check_power_of_two("symbol_count", symbol_count, 2, 1 << 15)
        check_power_of_two("queue_depth", queue_depth, 4, 1024)
        self.symbol_count = symbol_count
        self.queue_depth = queue_depth
        super().__init__(
            {
                "i": In(stream.Signature(market_item(symbol_count), always_ready=True)),
                "o": Out(stream.Signature(RECORD)),
                "conflated_stb": Out(1),
                "lost_stb": Out(1),
                "queued": Out(range(queue_depth + 1)),
                "queued_max": Out(range(queue_depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        symbol_bits = (self.symbol_count - 1).bit_length()
        # One place more than there are symbols: one may come again in the cycle in which it leaves.
        m.submodules.order = order = SyncFIFO(width=symbol_bits, depth=self.symbol_count + 1)
        m.submodules.queue = queue = SyncFIFOBuffered(width=RECORD.width, depth=self.queue_depth)
        m.submodules.newest = newest = Memory(shape=RECORD, depth=self.symbol_count, init=[])
        m.submodules.skips = skips = Memory(shape=_SKIPPED_BITS, depth=self.symbol_count, init=[])
        wiring.connect(m, queue.r_stream, wiring.flipped(self.o))
        m.d.comb += self.queued.eq(queue.level)
        with m.If(queue.level > self.queued_max):
            m.d.sync += self.queued_max.eq(queue.level)

        # A symbol waits from its record until that is on its way out.
        item = self.i.payload
        waits = Signal(self.symbol_count)
        leaving = Signal()
        left = Signal()  # A cycle later: the record was read.
        idle = Signal()
        first = order.r_data
        is_bbo = self.i.valid & item.is_bbo
        is_other = self.i.valid & ~item.is_bbo
        goes_on = Signal()
        again = Signal()
        m.d.comb += [
            idle.eq(~order.r_rdy & ~left),
            goes_on.eq(idle & queue.w_rdy),
            leaving.eq(order.r_rdy & ~left & queue.w_rdy),
            again.eq(
                waits.bit_select(item.symbol_index, 1) & ~(leaving & (first == item.symbol_index))
            ),
            order.r_en.eq(leaving),
            order.w_en.eq(is_bbo & ~goes_on & ~again),
            order.w_data.eq(item.symbol_index),
            self.conflated_stb.eq(is_bbo & again),
            self.lost_stb.eq(is_other & ~goes_on),
        ]
        m.d.sync += left.eq(leaving)
        with m.If(leaving):
            m.d.sync += waits.bit_select(first, 1).eq(0)
        with m.If(order.w_en):
            m.d.sync += waits.bit_select(item.symbol_index, 1).eq(1)

        # Its newest record, and how many were before it. A memory's place counts while it waits.
        put, get = newest.write_port(), newest.read_port(domain="sync")
        count, counted = skips.read_port(domain="comb"), skips.read_port(domain="comb")
        recount = skips.write_port()
        skipped = Signal(_SKIPPED_BITS, reset_less=True)
        m.d.comb += [
            put.addr.eq(item.symbol_index),
            put.data.eq(item.record),
            put.en.eq(is_bbo & ~goes_on),
            get.addr.eq(first),
            count.addr.eq(item.symbol_index),
            counted.addr.eq(first),
            recount.addr.eq(item.symbol_index),
            recount.data.eq(Mux(again, count.data + 1, 0)),
            recount.en.eq(put.en),
        ]
        m.d.sync += skipped.eq(counted.data)

        late = Signal(struct_layout(BBO))
        m.d.comb += [
            late.eq(view(BBO, get.data)),
            late.skipped.eq(wire(BBO, skipped, "skipped")),
            queue.w_en.eq(left | (self.i.valid & goes_on)),
            queue.w_data.eq(Mux(left, late.as_value(), item.record)),
        ]
        return m
