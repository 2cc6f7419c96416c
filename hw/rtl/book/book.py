"""The book: operations in, best bid and offer out, exact or flagged as stale."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book.levels import LEVEL, Levels
from hw.rtl.book.orders import OrderMap
from hw.rtl.book.requests import REASON_BITS, RequestKind
from hw.rtl.layouts import OPERATION, TIME, OperationKind
from hw.rtl.params import CardParams
from protocol.reasons import StaleReason

LOCATE_BITS = 16


def event(symbol_count: int) -> data.StructLayout:
    """A symbol's best bid and offer after an operation.

    ``changed`` is set when anything of ``bid`` and ``ask`` is not as before the operation, or a
    side has run out of levels or is exact again.
    ``reason`` says why this operation could not be right and ``stale_reason`` why the book is not
    known to be exact, both a :class:`StaleReason`. ``is_buy`` and ``price`` are those of the order
    that the operation named, ``shares`` what came or left; without meaning where none did.
    """
    return data.StructLayout(
        {
            "symbol_index": range(symbol_count),
            "bid": LEVEL,
            "ask": LEVEL,
            "changed": 1,
            "reason": REASON_BITS,
            "stale_reason": REASON_BITS,
            "is_buy": 1,
            "price": 32,
            "shares": 32,
            **_TRACE.members,
        }
    )


_TRACE = data.StructLayout(
    {
        "kind": OperationKind,
        "timestamp": 48,
        "sequence": 64,
        "match_number": 64,
        "printable": 1,
        "ts_first": TIME,
        "ts_last": TIME,
    }
)


class Book(wiring.Component):
    """Keeps the books of the configured symbols and tells each one's best bid and offer.

    Adds, executions, cancels, deletes and replaces of a configured symbol are carried out, checked
    in the order of the golden book; every other operation is taken and dropped. An operation that
    cannot be right flags its symbol, and LOCATE_MISMATCH that of the order as well. The first
    reason stays until reset. LEVEL_OVERFLOW is one of them when a level's sum does not fit; where
    a side has run out of levels while more orders are known, it is told without staying, since the
    side is exact again when it is empty. [ITCH 5.0: 1.3, 1.4]

    Latency is 8 cycles from an operation to its event, 10 for a replace. Throughput is 1 operation
    every 2 cycles, or 4 after a replace, while ``i.ready`` is low. After reset it is low until the
    memories are emptied: 1 cycle more than the longer of ``order_count / 4`` and ``symbol_count``.

    Parameters
    ----------
    params : CardParams
        Symbols, orders and levels are those of the card.

    Members
    -------
    i : ``In(stream.Signature(OPERATION))``
        Operations.
    o : ``Out(stream.Signature(event(symbol_count), always_ready=True))``
        One event for each operation that concerns a book.
    locate_stb, locate_index, locate_valid, locate : ``In``
        Sets the stock locate of a symbol index, or takes it away. No two indexes may have one
        locate. None has one after reset.
    gap_stb : ``In(1)``
        Flags every symbol: messages were lost.
    unknown_symbol_stb : ``Out(1)``
        High when an operation that concerns a book is of no configured symbol.
    stale : ``Out(data.ArrayLayout(REASON_BITS, symbol_count))``
        Each symbol's reason that stays.
    stash_used_max : ``Out``
        Most orders that were ever in the order map's stash.

    Raises
    ------
    TypeError
        If ``params`` is not a :class:`CardParams`.
    """

    LATENCY = 1 + OrderMap.LATENCY + Levels.LATENCY
    LATENCY_REPLACE = LATENCY + OrderMap.INTERVAL
    INTERVAL = OrderMap.INTERVAL
    INTERVAL_REPLACE = 2 * OrderMap.INTERVAL

    def __init__(self, params: CardParams):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.params = params
        self.orders = OrderMap(params.order_count, params.symbol_count)
        self.levels = Levels(params.symbol_count, params.level_count)
        shape = event(params.symbol_count)
        super().__init__(
            {
                "i": In(stream.Signature(OPERATION)),
                "o": Out(stream.Signature(shape, always_ready=True)),
                "locate_stb": In(1),
                "locate_index": In(range(params.symbol_count)),
                "locate_valid": In(1),
                "locate": In(LOCATE_BITS),
                "gap_stb": In(1),
                "unknown_symbol_stb": Out(1),
                "stale": Out(data.ArrayLayout(REASON_BITS, params.symbol_count)),
                "stash_used_max": Out(self.orders.stash_used_max.shape()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.orders = orders = self.orders
        m.submodules.levels = levels = self.levels
        symbol_count = self.params.symbol_count
        m.d.comb += self.stash_used_max.eq(orders.stash_used_max)

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        # The stock locate of each symbol.
        locate_valid = Signal(symbol_count)
        locates = [held(LOCATE_BITS, f"locate_{i}") for i in range(symbol_count)]
        for i in range(symbol_count):
            with m.If(self.locate_stb & (self.locate_index == i)):
                m.d.sync += [locate_valid[i].eq(self.locate_valid), locates[i].eq(self.locate)]

        # Stage 0: the symbol of an operation; memories are empty once, not before each.
        asked = self.i.payload
        opened = Signal()
        wait = Signal(range(self.INTERVAL_REPLACE))
        matches = Cat(
            locate_valid[i] & (locates[i] == asked.stock_locate) for i in range(symbol_count)
        )
        is_reduce = Signal()
        is_replace = Signal()
        s0_wanted = Signal()
        s0_known = Signal()
        m.d.comb += [
            self.i.ready.eq(opened & (wait == 0)),
            is_reduce.eq(
                (asked.kind == OperationKind.EXECUTE)
                | (asked.kind == OperationKind.EXECUTE_WITH_PRICE)
                | (asked.kind == OperationKind.CANCEL)
            ),
            is_replace.eq(asked.kind == OperationKind.REPLACE),
            s0_wanted.eq(
                self.i.valid
                & self.i.ready
                & (
                    is_reduce
                    | is_replace
                    | (asked.kind == OperationKind.ADD)
                    | (asked.kind == OperationKind.DELETE)
                )
            ),
            s0_known.eq(s0_wanted & matches.any()),
            self.unknown_symbol_stb.eq(s0_wanted & ~matches.any()),
        ]
        with m.If(orders.i.ready & levels.ready):
            m.d.sync += opened.eq(1)
        with m.If(wait != 0):
            m.d.sync += wait.eq(wait - 1)

        # Stage 1: the order map is asked, twice for a replace.
        s1_valid = Signal()
        s1_second = held(1, "s1_second")
        s1_replace = Signal()
        s1_kind = held(RequestKind, "s1_kind")
        s1_symbol = held(range(symbol_count), "s1_symbol")
        s1_operation = held(OPERATION, "s1_operation")
        m.d.sync += [s1_valid.eq(s0_known), s1_second.eq(0)]
        with m.If(s0_known):
            m.d.sync += [
                wait.eq(Mux(is_replace, self.INTERVAL_REPLACE - 1, self.INTERVAL - 1)),
                s1_replace.eq(is_replace),
                s1_operation.eq(asked),
                s1_symbol.eq(reduce(or_, (Mux(matches[i], i, 0) for i in range(symbol_count)))),
                s1_kind.eq(RequestKind.REMOVE),
            ]
            with m.If(is_reduce):
                m.d.sync += s1_kind.eq(RequestKind.REDUCE)
            with m.Elif(asked.kind == OperationKind.ADD):
                m.d.sync += s1_kind.eq(RequestKind.INSERT)
        with m.Elif(s1_replace & (wait == self.INTERVAL)):
            m.d.sync += [
                s1_valid.eq(1),
                s1_second.eq(1),
                s1_kind.eq(RequestKind.INSERT),
                s1_operation.order_reference.eq(s1_operation.new_reference),
            ]
        m.d.comb += [
            # Ready by the distance that ``wait`` keeps.
            orders.i.valid.eq(s1_valid),
            orders.i.payload.kind.eq(s1_kind),
            orders.i.payload.chained.eq(s1_second),
            orders.i.payload.reference.eq(s1_operation.order_reference),
            orders.i.payload.symbol_index.eq(s1_symbol),
            orders.i.payload.is_buy.eq(s1_operation.is_buy),
            orders.i.payload.bad_side.eq(s1_operation.bad_side),
            orders.i.payload.price.eq(s1_operation.price),
            orders.i.payload.shares.eq(s1_operation.shares),
        ]

        # Stages 2 to 8: what the event tells of its operation goes along.
        note_shape = data.StructLayout(
            {"second": 1, "symbol_index": range(symbol_count), "trace": _TRACE}
        )
        s1_note = Signal(note_shape)
        m.d.comb += [s1_note.second.eq(s1_second), s1_note.symbol_index.eq(s1_symbol)]
        m.d.comb += [s1_note.trace[name].eq(s1_operation[name]) for name, _ in _TRACE]
        valids, notes = {1: s1_valid}, {1: s1_note}
        for stage in range(2, self.LATENCY + 1):
            valids[stage] = Signal(name=f"s{stage}_valid")
            notes[stage] = held(note_shape, f"s{stage}_note")
            m.d.sync += [
                valids[stage].eq(valids[stage - 1]),
                notes[stage].eq(notes[stage - 1]),
            ]

        # Rows are fetched so that they are there with the order map's result.
        found_stage = 1 + OrderMap.LATENCY
        fetch_stage = found_stage - Levels.FETCH_CYCLES
        found = orders.o.payload
        shift = levels.i_change.payload
        m.d.comb += [
            levels.i_fetch.valid.eq(valids[fetch_stage]),
            levels.i_fetch.payload.eq(notes[fetch_stage].symbol_index),
            levels.i_change.valid.eq(orders.o.valid),
            shift.applied.eq(found.applied),
            shift.symbol_index.eq(found.symbol_index),
            shift.is_buy.eq(found.is_buy),
            shift.take.eq(found.kind != RequestKind.INSERT),
            shift.order.eq(found.gone | (found.kind == RequestKind.INSERT)),
            shift.price.eq(found.price),
            shift.shares.eq(found.shares),
        ]

        # Stage 7: the levels are at work.
        s7_found = held(orders.o.payload.shape(), "s7_found")
        s8_found = held(orders.o.payload.shape(), "s8_found")
        m.d.sync += [s7_found.eq(found), s8_found.eq(s7_found)]

        # Stage 8: the event, and what it says of its symbol for good.
        self._tell(m, valids[self.LATENCY], notes[self.LATENCY], s8_found, levels.o.payload)
        return m

    def _tell(self, m, valid, note, found, quote):
        out = self.o.payload
        is_replace = note.trace.kind == OperationKind.REPLACE
        first_reason = Signal(REASON_BITS, reset_less=True)
        first_shown = Signal(2 * LEVEL.size + 2, reset_less=True)
        shown = Cat(quote.bid, quote.ask, quote.bid_exact, quote.ask_exact)
        shown_before = Cat(
            quote.bid_before, quote.ask_before, quote.bid_exact_before, quote.ask_exact_before
        )
        stays = Signal(REASON_BITS)
        known = Signal(REASON_BITS)
        m.d.comb += [
            # Where the first half of a replace fails, the second one does nothing.
            out.reason.eq(found.reason | Mux(note.second, first_reason, 0)),
            known.eq(self.stale[note.symbol_index]),
            stays.eq(known),
            out.stale_reason.eq(stays),
            self.o.valid.eq(valid & (~is_replace | note.second)),
            out.symbol_index.eq(note.symbol_index),
            out.bid.eq(quote.bid),
            out.ask.eq(quote.ask),
            out.changed.eq(shown != Mux(note.second, first_shown, shown_before)),
            out.is_buy.eq(found.is_buy),
            out.price.eq(found.price),
            out.shares.eq(found.shares),
        ]
        m.d.comb += [out[name].eq(note.trace[name]) for name, _ in _TRACE]
        with m.If(known == StaleReason.NONE):
            with m.If(found.reason != StaleReason.NONE):
                m.d.comb += stays.eq(found.reason)
            with m.Elif(quote.overflow):
                m.d.comb += stays.eq(StaleReason.LEVEL_OVERFLOW)
            with m.Elif(~quote.bid_exact | ~quote.ask_exact):
                m.d.comb += out.stale_reason.eq(StaleReason.LEVEL_OVERFLOW)
        with m.If(valid):
            m.d.sync += [
                first_reason.eq(found.reason),
                first_shown.eq(shown_before),
                self.stale[note.symbol_index].eq(stays),
            ]
            other = self.stale[found.order_symbol_index]
            with m.If((found.reason == StaleReason.LOCATE_MISMATCH) & (other == StaleReason.NONE)):
                m.d.sync += other.eq(StaleReason.LOCATE_MISMATCH)
        with m.If(self.gap_stb):
            for i in range(self.params.symbol_count):
                current = Mux(valid & (note.symbol_index == i), stays, self.stale[i])
                with m.If(current == StaleReason.NONE):
                    m.d.sync += self.stale[i].eq(StaleReason.GAP)
