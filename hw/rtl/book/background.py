"""What goes on beside the feed: rows that run low are refilled, symbols are repaired."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two
from hw.rtl.book import hash as hashing
from hw.rtl.book.orders import OrderMap
from hw.rtl.book.requests import SYMBOL_COUNT_MAX, RequestKind, scan_request
from hw.rtl.book.tasks import RepairKind, repair, task
from hw.rtl.layouts import OperationKind


class Background(wiring.Component):
    """Starts scans of the order map, and hands on what a scan or a repair ends with as a task.

    Sides that were told to be low are refilled one after another: a scan, then a task that commits.
    A repair's CLEAR blocks its symbol from the next cycle on, waits until none of its operations is
    under way, has the order map purged, and hands on tasks that commit nothing to both sides, the
    second of which clears; when that has had its effect the symbol is free again. A repair's INSERT
    is handed on at once.

    Latency of an INSERT is 1 cycle, while ``o`` is ready and no CLEAR is under way. Throughput is 1
    INSERT every 2 cycles. A refill or CLEAR takes as long as a scan.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.
    hash_bits : int
        Width of a hash of a reference.

    Members
    -------
    i_repair : ``In(stream.Signature(repair(symbol_count)))``
        Steps of repairs.
    o_scan : ``Out(stream.Signature(scan_request(symbol_count)))``
        Scans.
    o : ``Out(stream.Signature(task(symbol_count, hash_bits)))``
        Tasks. Ready does not wait for valid, and is high only while no operation waits.
    quote_stb, quote_index, quote_is_buy, quote_low : ``In``
        Whether a side of a symbol is low, after a change.
    done_stb : ``In(1)``
        The scan has ended.
    settled_stb : ``In(1)``
        A task that commits has had its effect.
    symbol_index, is_buy, purge : ``Out``
        What the scan is of.
    blocked : ``Out(symbol_count)``
        The symbol of which no operation may be taken.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one.
    """

    def __init__(self, symbol_count: int, hash_bits: int):
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        self.symbol_count = symbol_count
        self.hash_bits = hash_bits
        index_shape = range(symbol_count)
        super().__init__(
            {
                "i_repair": In(stream.Signature(repair(symbol_count))),
                "o_scan": Out(stream.Signature(scan_request(symbol_count))),
                "o": Out(stream.Signature(task(symbol_count, hash_bits))),
                "quote_stb": In(1),
                "quote_index": In(index_shape),
                "quote_is_buy": In(1),
                "quote_low": In(1),
                "done_stb": In(1),
                "settled_stb": In(1),
                "symbol_index": Out(index_shape),
                "is_buy": Out(1),
                "purge": Out(1),
                "blocked": Out(symbol_count),
            }
        )

    def elaborate(self, platform):
        m = Module()
        asked = self.i_repair.payload
        wants_clear = self.i_repair.valid & (asked.kind == RepairKind.CLEAR)
        wants_insert = self.i_repair.valid & (asked.kind == RepairKind.INSERT)

        # Sides that are low, asks and bids of each symbol in turn.
        low = Signal(2 * self.symbol_count)
        turn = Signal(range(2 * self.symbol_count))
        turn_is_low = Signal()
        m.d.comb += turn_is_low.eq(low.bit_select(turn, 1))
        with m.If(self.quote_stb):
            for i in range(2 * self.symbol_count):
                with m.If((self.quote_index == i // 2) & (self.quote_is_buy == i % 2)):
                    m.d.sync += low[i].eq(self.quote_low)

        # The hashes of an order that is to be inserted, a cycle after it was offered.
        hashed = Signal()
        addresses = Signal.like(self.o.payload.addresses, reset_less=True)
        m.d.sync += hashed.eq(wants_insert & ~self.i_repair.ready)
        m.d.sync += [
            addresses[way].eq(hashing.circuit(way, asked.reference, self.hash_bits))
            for way in range(hashing.HASH_COUNT)
        ]

        # An operation that was just not blocked yet may be a replace.
        drain_cycles = OrderMap.LATENCY + 2 * OrderMap.INTERVAL
        drain = Signal(range(drain_cycles + 1))
        hands_over = Signal()
        inserts = Signal()
        out = self.o.payload
        m.d.comb += [
            inserts.eq(hashed & ~hands_over & ~self.purge),
            self.o_scan.payload.symbol_index.eq(self.symbol_index),
            self.o_scan.payload.is_buy.eq(self.is_buy),
            self.o_scan.payload.purge.eq(self.purge),
            self.o.valid.eq(hands_over | inserts),
            out.is_request.eq(inserts),
            out.is_commit.eq(hands_over),
            out.is_clear.eq(hands_over & self.purge & self.is_buy),
            out.request.eq(RequestKind.INSERT),
            out.symbol_index.eq(Mux(hands_over, self.symbol_index, asked.symbol_index)),
            out.order_reference.eq(asked.reference),
            out.addresses.eq(addresses),
            out.is_buy.eq(asked.is_buy),
            out.price.eq(asked.price),
            out.shares.eq(asked.shares),
            out.trace.kind.eq(OperationKind.NONE),
        ]
        with m.If(inserts):
            m.d.comb += self.i_repair.ready.eq(self.o.ready)

        with m.FSM():
            with m.State("Look for a low side"):
                # While no operation waits: those before have been taken, those after are not.
                with m.If(wants_clear & self.o.ready):
                    m.d.comb += self.i_repair.ready.eq(1)
                    m.d.sync += [
                        self.symbol_index.eq(asked.symbol_index),
                        self.is_buy.eq(0),
                        self.purge.eq(1),
                        self.blocked.eq(1 << asked.symbol_index),
                        drain.eq(drain_cycles),
                    ]
                    m.next = "Wait for operations under way"
                with m.Elif(turn_is_low & ~wants_clear):
                    m.d.sync += [
                        self.is_buy.eq(turn[0]),
                        self.symbol_index.eq(turn[1:]),
                        self.purge.eq(0),
                    ]
                    m.next = "Start a scan"
                with m.Else():
                    m.d.sync += turn.eq(turn + 1)
            with m.State("Wait for operations under way"):
                m.d.sync += drain.eq(drain - 1)
                with m.If(drain == 0):
                    m.next = "Start a scan"
            with m.State("Start a scan"):
                m.d.comb += self.o_scan.valid.eq(1)
                with m.If(self.o_scan.ready):
                    m.next = "Wait for its end"
            with m.State("Wait for its end"), m.If(self.done_stb):
                m.next = "Hand over"
            with m.State("Hand over"):
                m.d.comb += hands_over.eq(1)
                with m.If(self.o.ready):
                    m.next = "Wait for the effect"
            with m.State("Wait for the effect"):
                with m.If(self.settled_stb & self.purge & ~self.is_buy):
                    m.d.sync += self.is_buy.eq(1)
                    m.next = "Hand over"
                with m.Elif(self.settled_stb):
                    m.d.sync += [self.purge.eq(0), self.blocked.eq(0), turn.eq(turn + 1)]
                    m.next = "Look for a low side"
        return m
