"""The book: operations in, best bid and offer out, exact or flagged as stale."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.book import hash as hashing
from hw.rtl.book.background import Background
from hw.rtl.book.levels import ORDER_COUNT_MAX, Levels
from hw.rtl.book.locates import Locates
from hw.rtl.book.orders import OrderMap
from hw.rtl.book.requests import REASON_BITS, RequestKind
from hw.rtl.book.stale import StaleFlags
from hw.rtl.book.tasks import TRACE, event, repair, task
from hw.rtl.layouts import CARRIED_OUT_BIT, HINT, NOTICE_BIT, OPERATION, OperationKind
from hw.rtl.params import CardParams
from protocol.reasons import StaleReason

QUEUE_DEPTH = 16
"""As much as a look-up table remembers."""


class Book(wiring.Component):
    """Keeps the books of the configured symbols and tells each one's best bid and offer.

    Adds, executions, cancels, deletes and replaces of a configured symbol are carried out, checked
    in the order of the golden book. An operation that cannot be right flags its symbol, and
    LOCATE_MISMATCH that of the order as well; the first reason stays until a repair clears the
    symbol. LEVEL_OVERFLOW is one of them when a level's sum does not fit; where a side has run out
    of levels while more orders are known, it is told without staying, until the side was refilled
    or is empty. Before it comes to that, a side whose levels run low is refilled in cycles without
    an operation. [ITCH 5.0: 1.3, 1.4]

    A directory message that has a configured name sets its symbol's locate, in time for an
    operation 2 cycles later. Notices keep their place among the operations: GAP flags every symbol,
    RETRACT with FRAME_BAD those of every operation since the last CONFIRM or RETRACT.

    A repair starts with a CLEAR: from the second cycle after it the feed's messages of its symbol
    are dropped, and when the orders are forgotten an event tells so. Then it adds orders by INSERT
    and takes some off by DELETE, in cycles that the feed leaves free, without an event. LIVE ends
    it, and is answered by an event; the first operation that counts again may come 2 cycles after
    it was granted. See :class:`Background`.

    Latency is 6 cycles from an operation to its event, 8 for a replace, when nothing before it
    waits. Throughput is 1 operation every 2 cycles, or 4 after a replace, of whatever symbol: that
    it is not configured, is known a cycle after its turn. One that comes earlier waits in a queue
    of 16. At line rate it cannot overflow: with 8 bytes a beat a replace is 37 bytes and takes 39
    on the wire with its length field, 4.9 cycles, and the shortest other one 21, 2.6 cycles, so
    that work comes in slower than it is done, and rounding to whole beats leaves at most two
    operations waiting. What else may come between is 2 cycles for each of CONFIRM, RETRACT and GAP,
    of which a packet has few, and 8 for the end of a refill, or 2 for an insert of a repair: four
    operations more, and these wait for an empty queue. Should it overflow nevertheless, every
    symbol is flagged.

    Parameters
    ----------
    params : CardParams
        Symbols, orders and levels are those of the card.

    Members
    -------
    ready : ``Out(1)``
        High once the memories are emptied after reset, 1 cycle more than the longer of
        ``order_count / 4`` and ``2 * symbol_count`` cycles. What comes before counts as lost.
    i : ``In(stream.Signature(OPERATION, always_ready=True))``
        Operations.
    i_hint : ``In(stream.Signature(HINT, always_ready=True))``
        The hint of each operation that is not a notice, one cycle before it.
    i_repair : ``In(stream.Signature(repair(symbol_count)))``
        Steps of repairs. Not ready while a CLEAR is under way.
    o : ``Out(stream.Signature(event(symbol_count), always_ready=True))``
        One event for each operation that concerns a book, for each CLEAR and LIVE of a repair, and
        for a refill that has changed what is shown.
    locate_stb, locate_index, locate_valid, locate : ``In``
        Sets the stock locate of a symbol index, or takes it away. No two indexes may have one
        locate. None has one after reset.
    name_stb, name_index, name_valid, name_stock : ``In``
        Sets the name by which a symbol index learns its locate, the first character in bits 7:0,
        or takes it away. No two indexes may have one name. None has one after reset.
    known, symbol_index : ``Out``
        With an operation, also one that is not about an order: its symbol, if it is configured and
        not under repair.
    taken_stb : ``Out(1)``
        The operation or notice in this cycle is carried out.
    done_stb : ``Out(1)``
        One that was taken is done, the oldest first; its event, if it has one, is in this cycle.
    dropped_stb : ``Out(1)``
        The message in this cycle is dropped, as its symbol is under repair.
    unknown_symbol_stb : ``Out(1)``
        High a cycle after an operation that concerns a book but is of no configured symbol.
    overflow_stb : ``Out(1)``
        High a cycle after an operation was lost because the queue was full.
    stale : ``Out(data.ArrayLayout(REASON_BITS, symbol_count))``
        Each symbol's reason that stays, from 2 cycles after the event that has it.
    stash_used_max : ``Out``
        Most orders that were ever in the order map's stash.

    Raises
    ------
    TypeError
        If ``params`` is not a :class:`CardParams`.
    ValueError
        If it has more orders than levels can count.
    """

    LATENCY = OrderMap.LATENCY + Levels.LATENCY
    LATENCY_REPLACE = LATENCY + OrderMap.INTERVAL
    INTERVAL = OrderMap.INTERVAL
    INTERVAL_REPLACE = 2 * OrderMap.INTERVAL

    def __init__(self, params: CardParams):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        if params.order_count > ORDER_COUNT_MAX:
            raise ValueError(
                f"params.order_count must be {ORDER_COUNT_MAX} or less, not {params.order_count!r}"
            )
        self.params = params
        symbol_count = params.symbol_count
        self.orders = OrderMap(params.order_count, symbol_count)
        self.levels = Levels(symbol_count, params.level_count)
        self.locates = Locates(symbol_count)
        self.background = Background(symbol_count, self.orders.hash_bits)
        self.flags = StaleFlags(symbol_count)
        self._task = task(symbol_count, self.orders.hash_bits)
        super().__init__(
            {
                "ready": Out(1),
                "i": In(stream.Signature(OPERATION, always_ready=True)),
                "i_hint": In(stream.Signature(HINT, always_ready=True)),
                "i_repair": In(stream.Signature(repair(symbol_count))),
                "o": Out(stream.Signature(event(symbol_count), always_ready=True)),
                **{
                    name: member
                    for name, member in self.locates.signature.members.items()
                    if name.startswith(("locate", "name"))
                },
                "known": Out(1),
                "symbol_index": Out(range(symbol_count)),
                "taken_stb": Out(1),
                "done_stb": Out(1),
                "dropped_stb": Out(1),
                "unknown_symbol_stb": Out(1),
                "overflow_stb": Out(1),
                "stale": Out(data.ArrayLayout(REASON_BITS, symbol_count)),
                "stash_used_max": Out(self.orders.stash_used_max.shape()),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.orders = orders = self.orders
        m.submodules.levels = levels = self.levels
        m.submodules.background = background = self.background
        m.submodules.flags = flags = self.flags
        symbol_shape = range(self.params.symbol_count)
        wiring.connect(m, wiring.flipped(self.i_repair), background.i_repair)
        wiring.connect(m, background.o_scan, orders.scan)
        m.d.comb += [
            self.stash_used_max.eq(orders.stash_used_max),
            self.stale.eq(flags.stale),
            flags.gap_stb.eq(self.overflow_stb),
        ]
        with m.If(orders.i.ready & levels.ready):
            m.d.sync += self.ready.eq(1)

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        # Stage 0: the first task is chosen, and the order map asked. A replace asks again 2 cycles
        # later, and what commits has a second half too. ``gaps`` holds the next task back: its one
        # wanders down, and out of bit 0; in bit 1 it is the second half's turn. ``free`` is that it
        # has none.
        arriving, arriving_valid = self._arrive(m)
        gaps = Signal(Levels.INTERVAL_COMMIT + 1)
        free = Signal(init=1)
        second = Signal()
        m.d.comb += second.eq(gaps[1])
        head, head_next, waiting = self._queue(m, arriving, arriving_valid, free)
        first = Signal(self._task)
        m.d.comb += first.eq(Mux(waiting, head.as_value(), arriving.as_value()))
        issued = (waiting | arriving_valid) & free
        m.d.sync += [gaps.eq(gaps >> 1), free.eq(~gaps[1:].any())]
        with m.If(issued):
            m.d.sync += free.eq(0)
            with m.If(first.is_commit):
                m.d.sync += gaps.eq(1 << Levels.INTERVAL_COMMIT)
            with m.Elif(first.is_replace):
                m.d.sync += gaps.eq(1 << self.INTERVAL)
            with m.Else():
                m.d.sync += gaps.eq(1)

        s1_task = held(self._task, "s1_task")
        # All memory waits for the addresses: those that can be known a cycle ahead are.
        later_addresses = held(first.addresses.shape(), "later_addresses")
        m.d.sync += later_addresses.eq(
            Mux(
                gaps[self.INTERVAL],
                s1_task.new_addresses.as_value(),
                head_next.addresses.as_value(),
            )
        )
        asked = orders.i.payload
        m.d.comb += [
            orders.i.valid.eq((second & s1_task.is_replace) | (issued & first.is_request)),
            # Whether an operation's symbol is known, is itself known too late for all of this.
            orders.drop.eq(~s1_task.known),
            # What kind of operation it is, is known too late for addresses.
            orders.busy.eq(second | waiting | self.i.valid),
            asked.kind.eq(Mux(second, RequestKind.INSERT, first.request)),
            asked.chained.eq(second),
            asked.reference.eq(Mux(second, s1_task.new_reference, first.order_reference)),
            asked.addresses.eq(
                Mux(second | waiting, later_addresses.as_value(), arriving.addresses.as_value())
            ),
        ]
        for name in ("symbol_index", "is_buy", "bad_side", "price", "shares"):
            m.d.comb += asked[name].eq(Mux(second, s1_task[name], first[name]))

        # Stages 1 to 6: what is known of a task goes along.
        note_shape = data.StructLayout(
            {
                "second": 1,
                "tells": 1,
                "take": 1,
                **{
                    name: 1
                    for name in (
                        *("is_request", "is_commit", "is_clear", "is_live", "asks"),
                        *("is_confirm", "is_retract", "is_gap"),
                    )
                },
                "reason": REASON_BITS,
                "symbol_index": symbol_shape,
                "trace": TRACE,
            }
        )
        valids = {n: Signal(name=f"s{n}_valid") for n in range(1, self.LATENCY + 1)}
        notes = {n: held(note_shape, f"s{n}_note") for n in range(2, self.LATENCY + 1)}
        s1_second = held(1, "s1_second")
        notes[1] = Signal(note_shape, name="s1_note")
        m.d.sync += [valids[1].eq(second | issued), s1_second.eq(second)]
        with m.If(free):
            m.d.sync += s1_task.eq(first)
        m.d.comb += [
            notes[1].second.eq(s1_second),
            notes[1].tells.eq(s1_second | ~(s1_task.is_replace | s1_task.is_commit)),
            notes[1].take.eq(~s1_second & (s1_task.request != RequestKind.INSERT)),
        ]
        for name, _ in note_shape:
            if name in self._task.members:
                m.d.comb += notes[1][name].eq(s1_task[name])
        valid = valids[1] & s1_task.known
        for n in range(2, self.LATENCY + 1):
            m.d.sync += [valids[n].eq(valid), notes[n].eq(notes[n - 1])]
            valid = valids[n]

        # Rows are fetched so that they are there with the order map's result.
        fetch_stage = OrderMap.LATENCY - Levels.FETCH_CYCLES
        m.d.comb += [
            levels.i_fetch.valid.eq(valids[fetch_stage]),
            levels.i_fetch.payload.eq(notes[fetch_stage].symbol_index),
        ]

        # Stage 4: the order map has found an order, and rows are changed: the symbol's by
        # operations, the refill row by a scan and what changes the orders that it has met. Between
        # the scan's end and the commit that is every order of its side.
        found = orders.o.payload
        note = notes[OrderMap.LATENCY]
        shift = levels.i_change.payload
        is_request = Signal()
        is_other = Signal()
        is_live = Signal()
        all_met = Signal()
        same_symbol = held(1, "same_symbol")
        before = OrderMap.LATENCY - 1
        m.d.sync += [
            is_request.eq(valids[before] & notes[before].is_request),
            is_other.eq(valids[before] & notes[before].is_commit),
            is_live.eq(valids[before] & notes[before].is_live),
            same_symbol.eq(notes[before].symbol_index == background.symbol_index),
        ]
        m.d.comb += [
            background.done_stb.eq(orders.o.valid & (found.kind == RequestKind.DONE)),
            # What goes live changes nothing, and wants to know what there is.
            levels.i_change.valid.eq(is_request | is_other | is_live),
            shift.live.eq(is_request & found.applied),
            shift.commit.eq(is_other & ~note.second),
            shift.refresh.eq(is_other & note.second),
            shift.chained.eq(note.second),
            shift.symbol_index.eq(note.symbol_index),
            shift.is_buy.eq(Mux(is_other, background.is_buy, found.is_buy)),
            shift.take.eq(is_request & note.take),
            shift.order.eq(found.gone | ~(is_request & note.take)),
            shift.price.eq(found.price),
            shift.shares.eq(found.shares),
        ]
        # Which changes are the refill row's as well is known late.
        s5_met, s5_scanned, s5_same_symbol, s5_same_side = (
            held(1, f"s5_{name}") for name in ("met", "scanned", "same_symbol", "same_side")
        )
        applied = is_request & found.applied
        m.d.sync += [
            s5_met.eq(orders.o.valid & (found.kind == RequestKind.SCAN) & ~background.purge),
            s5_scanned.eq(applied & found.scanned),
            s5_same_symbol.eq(applied & all_met & same_symbol),
            s5_same_side.eq(found.is_buy == background.is_buy),
        ]
        m.d.comb += levels.refill_stb.eq(s5_met | s5_scanned | (s5_same_symbol & s5_same_side))
        with m.If(background.done_stb):
            m.d.sync += all_met.eq(~background.purge)
        with m.Elif(shift.commit):
            m.d.sync += all_met.eq(0)

        # Stage 5: the levels are at work. The symbol's flag is known in time.
        s5_found = held(found.shape(), "s5_found")
        s6_found = held(found.shape(), "s6_found")
        m.d.sync += [s5_found.eq(found), s6_found.eq(s5_found)]
        m.d.comb += [
            flags.index.eq(notes[self.LATENCY - StaleFlags.LATENCY].symbol_index),
            flags.other_index.eq(s5_found.order_symbol_index),
        ]

        # Stage 6: the event.
        self._tell(m, valids[self.LATENCY], notes[self.LATENCY], s6_found)
        return m

    def _arrive(self, m):
        """Return the task that an operation is, and whether there is one that may be known."""
        m.submodules.locates = locates = self.locates
        hint = self.i_hint.payload
        came = self.i.payload
        arriving = Signal(self._task)
        wanted = Signal()
        concerned = Signal()
        kinds = {kind: came.kind == kind for kind in OperationKind}
        is_task = came.kind.as_value()[CARRIED_OUT_BIT]
        is_notice = is_task & came.kind.as_value()[NOTICE_BIT]
        is_reduce = (
            kinds[OperationKind.EXECUTE]
            | kinds[OperationKind.EXECUTE_WITH_PRICE]
            | kinds[OperationKind.CANCEL]
        )
        for name in self.locates.signature.members:
            if name.startswith(("locate", "name")):
                m.d.comb += getattr(locates, name).eq(getattr(self, name))
        m.d.comb += [
            locates.hint_stb.eq(self.i_hint.valid),
            locates.hint_locate.eq(hint.stock_locate),
            locates.blocked.eq(self.background.blocked),
            locates.directory_stb.eq(self.i.valid & kinds[OperationKind.DIRECTORY]),
            locates.directory_locate.eq(came.stock_locate),
            locates.directory_name.eq(came.stock),
            arriving.is_replace.eq(kinds[OperationKind.REPLACE]),
            arriving.is_request.eq(is_task & ~is_notice),
            arriving.is_confirm.eq(kinds[OperationKind.CONFIRM]),
            arriving.is_retract.eq(kinds[OperationKind.RETRACT]),
            arriving.is_gap.eq(kinds[OperationKind.GAP]),
            arriving.request.eq(
                Mux(
                    is_reduce,
                    RequestKind.REDUCE,
                    Mux(kinds[OperationKind.ADD], RequestKind.INSERT, RequestKind.REMOVE),
                )
            ),
            arriving.symbol_index.eq(locates.index),
            concerned.eq(self.i.valid & arriving.is_request),
            arriving.known.eq(~arriving.is_request | locates.known),
            wanted.eq(self.i.valid & is_task),
        ]
        background = self.background
        m.d.comb += [
            self.dropped_stb.eq(self.i.valid & ~is_notice & ~locates.known & ~locates.unknown),
            background.busy.eq(self.i.valid | self.i_hint.valid),
            background.message_stb.eq(self.i.valid & ~is_notice),
            background.dropped_stb.eq(self.dropped_stb),
            background.gap_stb.eq(self.i.valid & arriving.is_gap),
            background.retract_stb.eq(self.i.valid & arriving.is_retract),
            background.sequence.eq(came.sequence),
            background.next_sequence.eq(came.new_reference),
        ]
        for name in ("order_reference", "new_reference", "is_buy", "bad_side", "price", "shares"):
            m.d.comb += arriving[name].eq(came[name])
        m.d.comb += [arriving.trace[name].eq(came[name]) for name, _ in TRACE]
        for reference, addresses in (
            (hint.order_reference, arriving.addresses),
            (hint.new_reference, arriving.new_addresses),
        ):
            hashed = Signal.like(addresses, reset_less=True)
            with m.If(self.i_hint.valid):
                m.d.sync += [
                    hashed[way].eq(hashing.circuit(way, reference, self.orders.hash_bits))
                    for way in range(hashing.HASH_COUNT)
                ]
            m.d.comb += addresses.eq(hashed)

        m.d.comb += [self.known.eq(locates.known), self.symbol_index.eq(locates.index)]
        m.d.sync += self.unknown_symbol_stb.eq(concerned & locates.unknown)
        # What comes too early is lost. A symbol that is not known yet may become known.
        tells = arriving.is_request | arriving.is_retract | arriving.is_gap
        with m.If(self.i.valid & tells & ~self.ready):
            m.d.comb += self.flags.gap_stb.eq(1)
        return arriving, wanted & self.ready

    def _queue(self, m, arriving, arriving_valid, free):
        """Return the first task that waits, what it will be in the next cycle, and if there is one.

        None is taken in two cycles one after the other, so that the first has a cycle to come out
        of memory.
        """
        m.submodules.queue = queue = Memory(shape=self._task, depth=QUEUE_DEPTH, init=[])
        read = queue.read_port(domain="comb")
        write = queue.write_port()
        background = self.background.o
        held = Signal(QUEUE_DEPTH)
        waiting = Signal()
        full = Signal()
        offered = Signal()
        put = Signal()
        taken = Signal()
        head = Signal(self._task, reset_less=True)
        head_next = Signal(self._task)
        m.d.comb += [
            background.ready.eq(free & ~waiting & ~self.i.valid & self.ready),
            offered.eq(
                (arriving_valid & ~(free & ~waiting)) | (background.valid & background.ready)
            ),
            put.eq(offered & ~full),
            taken.eq(free & waiting),
            waiting.eq(held[0]),
            full.eq(held[-1]),
            # What is written without a put is written over by the next one, and while nothing waits
            # `head` counts for nothing: neither needs to know what is known late.
            write.en.eq(~full),
            write.data.eq(Mux(self.i.valid, arriving.as_value(), background.payload.as_value())),
            head_next.eq(Mux(waiting, read.data.as_value(), write.data.as_value())),
        ]
        m.d.sync += head.eq(head_next)
        m.d.sync += self.overflow_stb.eq(offered & full)
        m.d.comb += self.taken_stb.eq(arriving_valid & arriving.known & ~(offered & full))
        with m.If(put):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(taken):
            m.d.sync += read.addr.eq(read.addr + 1)
        # As many bits are set as tasks wait: whether one is put is known late, and no sum waits.
        with m.If(put & ~taken):
            m.d.sync += held.eq(Cat(1, held))
        with m.If(taken & ~put):
            m.d.sync += held.eq(held >> 1)
        return head, head_next, waiting

    def _tell(self, m, valid, note, found):
        """Tell of a task, and keep in mind what it says of its symbol for good."""
        out = self.o.payload
        quote = self.levels.o.payload
        flags = self.flags
        background = self.background
        first_reason = Signal(REASON_BITS, reset_less=True)
        first_changed = Signal(reset_less=True)
        reason = Signal(REASON_BITS)
        answer = Signal(REASON_BITS)
        found_now = Signal(REASON_BITS)
        goes_live = Signal()
        voided = Signal()
        is_repair = Signal()
        is_request = Signal()
        commits = Signal()
        tells = Signal()
        m.d.comb += [
            is_request.eq(valid & note.is_request),
            tells.eq(valid & note.tells),
            commits.eq(tells & note.is_commit),
            reason.eq(Mux(note.is_request, found.reason, StaleReason.NONE)),
            is_repair.eq(note.trace.kind == OperationKind.REPAIR),
            # Where the first half of a replace fails, the second one does nothing.
            out.reason.eq(Mux(is_repair, answer, reason | Mux(note.second, first_reason, 0))),
            goes_live.eq(
                tells & note.is_live & ~note.asks & ~voided & (note.reason == StaleReason.NONE)
            ),
            # A repair empties asks, then bids: there is one event for both. What it puts in is told
            # when it goes live. A refill shows the level that was shown, unless none was known.
            self.o.valid.eq(
                tells
                & (
                    (note.is_request & (note.trace.kind != OperationKind.NONE))
                    | note.is_clear
                    | note.is_live
                    | (~background.purge & note.is_commit & (quote.exact_changed | quote.overflow))
                )
            ),
            # Repairs and refills are no operations.
            self.done_stb.eq(tells & (note.trace.kind != OperationKind.NONE) & ~is_repair),
            out.symbol_index.eq(note.symbol_index),
            out.bid.eq(quote.bid),
            out.ask.eq(quote.ask),
            out.changed.eq(quote.changed | (note.is_clear & first_changed)),
            out.is_buy.eq(found.is_buy),
            out.price.eq(found.price),
            out.shares.eq(found.shares),
        ]
        m.d.comb += [out[name].eq(note.trace[name]) for name, _ in TRACE]
        m.d.comb += answer.eq(StaleReason.GAP)
        with m.If(note.is_live):
            # After an overflow nobody knows what was lost.
            m.d.comb += answer.eq(
                Mux(note.asks, flags.known, Mux(voided, StaleReason.GAP, note.reason))
            )
        with m.If(self.overflow_stb):
            m.d.sync += voided.eq(1)
        with m.Elif(valid & note.is_clear):
            m.d.sync += voided.eq(0)
        with m.If(note.is_clear):
            m.d.comb += found_now.eq(StaleReason.UNDER_REPAIR)
        with m.Elif(reason != StaleReason.NONE):
            m.d.comb += found_now.eq(reason)
        with m.Elif(quote.overflow):
            m.d.comb += found_now.eq(StaleReason.LEVEL_OVERFLOW)
        with m.If((flags.known != StaleReason.NONE) & ~goes_live):
            m.d.comb += out.stale_reason.eq(flags.known)
        with m.Elif((found_now == StaleReason.NONE) & ~quote.exact):
            m.d.comb += out.stale_reason.eq(StaleReason.LEVEL_OVERFLOW)  # It does not stay.
        with m.Else():
            m.d.comb += out.stale_reason.eq(found_now)
        with m.If(valid):
            m.d.sync += first_reason.eq(reason)
        with m.If(commits):
            m.d.sync += first_changed.eq(quote.changed)
        m.d.comb += [
            # The first one stays: whether there was one, the flags know.
            flags.reason.eq(Mux(is_request | commits | goes_live, found_now, StaleReason.NONE)),
            flags.touch_stb.eq(is_request),
            flags.mismatch_stb.eq(is_request & (reason == StaleReason.LOCATE_MISMATCH)),
            flags.clear_stb.eq(goes_live),
            background.refused_stb.eq(
                is_request & (note.trace.kind == OperationKind.NONE) & (reason != StaleReason.NONE)
            ),
            background.refused_reason.eq(reason),
            flags.confirm_stb.eq(valid & note.is_confirm),
            flags.retract_stb.eq(valid & note.is_retract),
            background.quote_stb.eq(is_request | commits),
            background.quote_index.eq(quote.symbol_index),
            background.quote_is_buy.eq(quote.is_buy),
            background.quote_low.eq(quote.low),
            background.settled_stb.eq(commits),
        ]
        with m.If(valid & note.is_gap):
            m.d.comb += flags.gap_stb.eq(1)
