"""What goes on beside the feed: rows that run low are refilled, symbols are repaired."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two
from hw.rtl.book import hash as hashing
from hw.rtl.book.orders import OrderMap
from hw.rtl.book.requests import REASON_BITS, SYMBOL_COUNT_MAX, RequestKind, scan_request
from hw.rtl.book.tasks import RepairKind, repair, task
from hw.rtl.layouts import OperationKind
from protocol.reasons import StaleReason

_TOLD = ("message_stb", "dropped_stb", "gap_stb", "retract_stb")


class Background(wiring.Component):
    """Starts scans of the order map, and hands on what a scan or a repair ends with as a task.

    Sides that were told to be low are refilled one after another: a scan, then a task that commits.
    A repair's CLEAR blocks its symbol from the next cycle on, waits until none of its operations is
    under way, has the order map purged, and hands on tasks that commit nothing to both sides, the
    second of which clears. The symbol stays blocked until a LIVE is granted, or another one is
    cleared. A repair's INSERT or DELETE is handed on at once, or dropped when its symbol is not the
    one that is blocked.

    A LIVE waits for a moment in which nothing is under way: then every message that was dropped is
    counted. It is granted where the number it names is between the lowest and the highest: nothing
    from it on was dropped or lost, and everything before it has come. Either way it is answered.

    Latency of an INSERT is 1 cycle, while ``o`` is ready and no CLEAR is under way. Throughput is 1
    INSERT every 2 cycles. A refill or CLEAR takes as long as a scan, a LIVE at least
    ``QUIET_CYCLES``.

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
    busy : ``In(1)``
        An operation, or the hint of one, is there.
    message_stb, dropped_stb, gap_stb, retract_stb : ``In(1)``
        A message of the feed came; it was dropped because its symbol is blocked; messages were
        lost; messages count as not received.
    sequence, next_sequence : ``In(64)``
        Its number; of a notice the first one, and the one after the last.
    refused_stb, refused_reason : ``In``
        An INSERT or DELETE could not be done, and why.
    done_stb : ``In(1)``
        The scan has ended.
    settled_stb : ``In(1)``
        A task that commits has had its effect.
    symbol_index, is_buy, purge : ``Out``
        What the scan is of.
    blocked : ``Out(symbol_count)``
        The symbol of which no operation may be taken: the one under repair.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one.
    """

    QUIET_CYCLES = 16
    """More than an operation takes from its hint to its event; a power of two."""

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
                "busy": In(1),
                "message_stb": In(1),
                "dropped_stb": In(1),
                "gap_stb": In(1),
                "retract_stb": In(1),
                "sequence": In(64),
                "next_sequence": In(64),
                "refused_stb": In(1),
                "refused_reason": In(REASON_BITS),
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
        self._clears = Signal()
        asked = self.i_repair.payload
        wants_clear = self.i_repair.valid & (asked.kind == RepairKind.CLEAR)
        wants_change = self.i_repair.valid & (
            (asked.kind == RepairKind.INSERT) | (asked.kind == RepairKind.DELETE)
        )
        wants_live = self.i_repair.valid & (asked.kind == RepairKind.LIVE)
        seen = Signal()  # For a cycle, in which its number is compared.
        m.d.sync += seen.eq(wants_live & ~self.i_repair.ready)
        under_repair = Signal()  # As of the cycle before: a step waits for one.
        m.d.sync += under_repair.eq(self.blocked.bit_select(asked.symbol_index, 1))
        lowest, highest, fits = self._progress(m)

        # Sides that are low, asks and bids of each symbol in turn.
        low = Signal(2 * self.symbol_count)
        turn = Signal(range(2 * self.symbol_count))
        looked = Signal(range(2 * self.symbol_count))  # In the cycle before.
        looked_is_low = Signal()
        m.d.sync += [looked.eq(turn), looked_is_low.eq(0)]
        with m.If(self.quote_stb):
            for i in range(2 * self.symbol_count):
                with m.If((self.quote_index == i // 2) & (self.quote_is_buy == i % 2)):
                    m.d.sync += low[i].eq(self.quote_low)

        # The hashes of an order that is to be inserted, a cycle after it was offered.
        hashed = Signal()
        addresses = Signal.like(self.o.payload.addresses, reset_less=True)
        m.d.sync += hashed.eq(wants_change & ~self.i_repair.ready)
        m.d.sync += [
            addresses[way].eq(hashing.circuit(way, asked.reference, self.hash_bits))
            for way in range(hashing.HASH_COUNT)
        ]

        # An operation that was just not blocked yet may be a replace.
        drain_cycles = OrderMap.LATENCY + 2 * OrderMap.INTERVAL
        drain = Signal(range(drain_cycles + 1))
        hands_over = Signal()
        answers = Signal()
        inserts = Signal()
        out = Signal(self.o.payload.shape())
        # What is offered is a cycle old, and stays as it is until it is taken: an answer is held
        # back until all has been calm for longer than that.
        offered = Signal()
        taken = Signal()
        m.d.sync += [
            self.o.payload.eq(out),
            offered.eq((hands_over | inserts | answers) & ~taken),
        ]
        # The answer grants what was asked for, and is no other when it is taken.
        grants = Signal()
        granted = Signal()
        m.d.sync += granted.eq(grants & ~taken)
        # Nothing has come for a while, and nothing comes now.
        calm = Signal(range(self.QUIET_CYCLES + 1))
        quiet = Signal()
        moved = Signal()
        m.d.sync += moved.eq(taken)
        m.d.comb += quiet.eq(calm[-1] & ~self.busy)
        with m.If(self.busy | moved):
            m.d.sync += calm.eq(0)
        with m.Elif(~calm[-1]):
            m.d.sync += calm.eq(calm + 1)
        # The first order that was refused is why the symbol cannot go live.
        refused = Signal(REASON_BITS)
        with m.If(self.refused_stb & (refused == StaleReason.NONE)):
            m.d.sync += refused.eq(self.refused_reason)
        reason = Signal(REASON_BITS)
        with m.If(refused != StaleReason.NONE):
            m.d.comb += reason.eq(refused)
        with m.Elif(~fits):
            m.d.comb += reason.eq(StaleReason.GAP)
        m.d.comb += [
            inserts.eq(hashed & ~hands_over & ~self.purge & under_repair),
            self.o_scan.payload.symbol_index.eq(self.symbol_index),
            self.o_scan.payload.is_buy.eq(self.is_buy),
            self.o_scan.payload.purge.eq(self.purge),
            self.o.valid.eq(offered & (quiet | ~self.o.payload.is_live)),
            taken.eq(self.o.valid & self.o.ready),
            out.known.eq(1),
            out.is_request.eq(inserts),
            out.is_commit.eq(hands_over),
            out.is_clear.eq(hands_over & self.purge & self.is_buy),
            out.is_live.eq(answers),
            out.asks.eq(~under_repair),
            out.reason.eq(reason),
            out.request.eq(
                Mux(asked.kind == RepairKind.INSERT, RequestKind.INSERT, RequestKind.REMOVE)
            ),
            out.symbol_index.eq(Mux(hands_over, self.symbol_index, asked.symbol_index)),
            out.order_reference.eq(asked.reference),
            out.addresses.eq(addresses),
            out.is_buy.eq(asked.is_buy),
            out.bad_side.eq(asked.bad_side),
            out.price.eq(asked.price),
            out.shares.eq(asked.shares),
        ]
        with m.If(answers | out.is_clear):
            m.d.comb += out.trace.kind.eq(OperationKind.REPAIR)
        # What tells of a refill has no numbers. Of the others some are not told.
        with m.If(~hands_over | out.is_clear):
            m.d.comb += [
                out.trace.sequence.eq(Mux(hands_over, highest, asked.reference)),
                out.trace.printable.eq(answers),
                out.trace.ts_first.eq(lowest),
                out.trace.ts_last.eq(highest),
            ]
        with m.If(~hands_over & under_repair):
            m.d.comb += out.trace.match_number.eq(Cat(asked.trading_state, asked.event_code))
        with m.If(hashed & ~self.purge):
            m.d.comb += self.i_repair.ready.eq(~under_repair | (inserts & taken))

        with m.If(granted & quiet & self.o.ready):
            m.d.sync += self.blocked.eq(0)
        with m.FSM():
            with m.State("Look for a low side"):
                # While no operation waits: those before have been taken, those after are not.
                with m.If(wants_clear), m.If(self.o.ready):
                    m.d.comb += self.i_repair.ready.eq(1)
                    m.d.sync += [
                        self.symbol_index.eq(asked.symbol_index),
                        self.is_buy.eq(0),
                        self.purge.eq(1),
                        self.blocked.eq(1 << asked.symbol_index),
                        drain.eq(drain_cycles),
                    ]
                    m.next = "Wait for operations under way"
                with m.Elif(seen):
                    m.d.comb += [answers.eq(1), self.i_repair.ready.eq(taken)]
                    m.d.comb += grants.eq(~out.asks & (out.reason == StaleReason.NONE))
                with m.Elif(looked_is_low & ~wants_live):
                    m.d.sync += [
                        self.is_buy.eq(looked[0]),
                        self.symbol_index.eq(looked[1:]),
                        self.purge.eq(0),
                    ]
                    m.next = "Start a scan"
                with m.Else():
                    m.d.sync += [turn.eq(turn + 1), looked_is_low.eq(low.bit_select(turn, 1))]
            with m.State("Wait for operations under way"):
                m.d.sync += drain.eq(drain - 1)
                with m.If(drain == 0):
                    m.d.comb += self._clears.eq(1)
                    m.d.sync += refused.eq(StaleReason.NONE)
                    m.next = "Start a scan"
            with m.State("Start a scan"):
                m.d.comb += self.o_scan.valid.eq(1)
                with m.If(self.o_scan.ready):
                    m.next = "Wait for its end"
            with m.State("Wait for its end"), m.If(self.done_stb):
                m.next = "Hand over"
            with m.State("Hand over"):
                # An order that is already offered goes first.
                m.d.comb += hands_over.eq(~(offered & self.o.payload.is_request))
                with m.If(hands_over & taken):
                    m.next = "Wait for the effect"
            with m.State("Wait for the effect"):
                with m.If(self.settled_stb & self.purge & ~self.is_buy):
                    m.d.sync += self.is_buy.eq(1)
                    m.next = "Hand over"
                with m.Elif(self.settled_stb):
                    m.d.sync += self.purge.eq(0)
                    m.next = "Look for a low side"
        return m

    def _progress(self, m):
        """Return the lowest and the highest number that LIVE may name, and whether its own fits.

        What is told is late by a few cycles, which a LIVE waits for.
        """
        lowest = Signal(64)
        highest = Signal(64)
        s1 = {name: Signal(name=f"s1_{name}") for name in _TOLD}
        s1_sequence = Signal(64, reset_less=True)
        s1_next_sequence = Signal(64, reset_less=True)
        m.d.sync += [
            *(s1[name].eq(getattr(self, name)) for name in _TOLD),
            s1_sequence.eq(self.sequence),
            s1_next_sequence.eq(self.next_sequence),
        ]
        after = Signal(64)
        m.d.comb += after.eq(Mux(s1["gap_stb"], s1_next_sequence, s1_sequence + 1))
        with m.If(s1["message_stb"] | s1["gap_stb"]):
            m.d.sync += highest.eq(after)
        with m.Elif(s1["retract_stb"]):
            m.d.sync += highest.eq(s1_sequence)
        with m.If(s1["dropped_stb"] | s1["gap_stb"]):
            m.d.sync += lowest.eq(after)
        with m.Elif(self._clears):
            m.d.sync += lowest.eq(highest)
        # Compared in halves, of which each is added up in a cycle.
        named = self.i_repair.payload.reference
        fits = Signal()
        parts = []
        for low, high in ((lowest, named), (named, highest)):
            for half in (slice(0, 32), slice(32, 64)):
                above, equal = Signal(), Signal()
                m.d.sync += [above.eq(high[half] > low[half]), equal.eq(high[half] == low[half])]
                parts.append((above, equal))
        at_least, at_most = (
            high[0] | (high[1] & (low[0] | low[1])) for low, high in (parts[:2], parts[2:])
        )
        m.d.comb += fits.eq(at_least & at_most)
        return lowest, highest, fits
