"""Market records: what the host is told of operations and of the book's events."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import OPERATION, TIME, OperationKind
from hw.rtl.ring import check_power_of_two
from hw.rtl.ring.conflation import market_item
from protocol import itch50, ring
from protocol.emit.amaranth_layout import struct_layout, wire
from protocol.layout import Layout
from protocol.reasons import StaleReason

_NUMBER_BITS = 8  # More than operations can be under way, twice.
_QUEUE_DEPTH = 32
_NASDAQ, _TRADING, _HALTED = ord("Q"), ord("T"), ord("H")
_CODES = {
    OperationKind.EXECUTE: itch50.ORDER_EXECUTED.code,
    OperationKind.EXECUTE_WITH_PRICE: itch50.ORDER_EXECUTED_WITH_PRICE.code,
    OperationKind.TRADE: itch50.TRADE.code,
    OperationKind.CROSS: itch50.CROSS_TRADE.code,
    OperationKind.SYSTEM: itch50.SYSTEM_EVENT.code,
    OperationKind.TRADING_ACTION: itch50.STOCK_TRADING_ACTION.code,
    OperationKind.OPERATIONAL_HALT: itch50.OPERATIONAL_HALT.code,
    OperationKind.REG_SHO: itch50.REG_SHO_RESTRICTION.code,
}
_PAIRED = (OperationKind.EXECUTE, OperationKind.EXECUTE_WITH_PRICE)
_NOTICES = (OperationKind.GAP, OperationKind.RETRACT)
_OF_HOST = (OperationKind.NONE, OperationKind.REPAIR)
_NEEDED = (
    *("symbol_index", "bid", "ask", "reason", "stale_reason"),
    *("is_buy", "price", "kind", "timestamp", "sequence"),
    *("match_number", "printable", "ts_first", "ts_last"),
)


def _one_of(kind: Value, kinds: tuple[OperationKind, ...]) -> Value:
    return Cat(kind == each for each in kinds).any()


class MarketRecords(wiring.Component):
    """Makes the records of the market ring, field by field those of the functional card.

    A BBO record whenever anything of a symbol's best bid and offer, of why it is stale or of its
    trading state is not as in its last one. A TRADE record for an execution of an order that the
    book knows, unless it is not printable, and for a trade or cross of shares. A STATUS record for
    a system event, and for a trading action, halt or Reg SHO action of a configured symbol; the
    symbol's trading state follows it. A GAP record for messages that are lost, and after it a BBO
    record for each configured symbol that became stale; so it is without a record of its own when
    messages are retracted. A REPAIR record for each answer to a repair, behind the BBO record that
    it may bring; a symbol that goes live gets the trading state that comes with it, and there is a
    STATUS record for a system event that is not the newest one and of before the number named.

    Records have the order of the feed: what is no event of the book waits for the events of the
    operations before it. Only symbols that become stale without an event of their own are told as
    soon as no event waits, the lowest index first; an event of theirs that does wait tells it too.

    Latency is 3 cycles from an event to its record, 2 to that of its trade, when nothing waits.
    Throughput is 1 event or other record every 2 cycles.

    Parameters
    ----------
    symbol_count : int
        Symbols. A power of two, 2 to 32,768.
    event_shape : data.StructLayout
        The book's event: see :func:`hw.rtl.book.tasks.event`.

    Members
    -------
    i : ``In(stream.Signature(OPERATION, always_ready=True))``
        Operations.
    known, symbol_index, taken_stb : ``In``
        What the book says of the operation in this cycle.
    i_event : ``In(stream.Signature(event_shape, always_ready=True))``
        The book's events, at most one every 2 cycles.
    done_stb : ``In(1)``
        The book has done an operation; its event, if it has one, is in this cycle.
    stale : ``In(symbol_count)`` array of reasons
        Each symbol's reason that stays.
    configured : ``In(symbol_count)``
        A bit for each symbol that is in use.
    time : ``In(TIME)``
        Card time in ns.
    o : ``Out(stream.Signature(market_item(symbol_count), always_ready=True))``
        Records in their order.
    bbo_stb : ``Out(1)``
        The record in this cycle is a BBO record.
    overflow_stb : ``Out(1)``
        Something was lost because a queue was full, which line rate does not bring about.
    queued : ``Out``
        Operations that wait.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one, or ``event_shape`` lacks a field.
    """

    LATENCY = 3
    LATENCY_TRADE = 2

    def __init__(self, symbol_count: int, event_shape: data.StructLayout):
        check_power_of_two("symbol_count", symbol_count, 2, 1 << 15)
        if not isinstance(event_shape, data.StructLayout):
            raise TypeError(f"event_shape must be a StructLayout, not {event_shape!r}")
        for name in _NEEDED:
            if name not in event_shape.members:
                raise ValueError(f"event_shape must have a field {name}")
        self.symbol_count = symbol_count
        self.event_shape = event_shape
        reason = event_shape.members["stale_reason"]
        super().__init__(
            {
                "i": In(stream.Signature(OPERATION, always_ready=True)),
                "known": In(1),
                "symbol_index": In(range(symbol_count)),
                "taken_stb": In(1),
                "i_event": In(stream.Signature(event_shape, always_ready=True)),
                "done_stb": In(1),
                "stale": In(data.ArrayLayout(reason, symbol_count)),
                "configured": In(symbol_count),
                "time": In(TIME),
                "o": Out(stream.Signature(market_item(symbol_count), always_ready=True)),
                "bbo_stb": Out(1),
                "overflow_stb": Out(1),
                "queued": Out(range(_QUEUE_DEPTH + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        operation, event, done = self._queues(m)
        members = self.event_shape.members
        condition = data.StructLayout(
            {
                "bid": members["bid"],
                "ask": members["ask"],
                "stale_reason": members["stale_reason"],
                "trading_state": 8,
            }
        )
        cause = data.StructLayout({"sequence": 64, "timestamp": 48})

        # Which symbols are stale and were not looked at since.
        stale = Signal(self.symbol_count)
        seen = Signal(self.symbol_count)
        changed = Signal(self.symbol_count)
        m.d.comb += stale.eq(Cat(reason != StaleReason.NONE for reason in self.stale))
        m.d.comb += changed.eq(stale & ~seen & self.configured)
        sweep_index = Signal(range(self.symbol_count))
        for i in reversed(range(self.symbol_count)):
            with m.If(changed[i]):
                m.d.comb += sweep_index.eq(i)

        # Stage 0: whose turn it is. What was first in the feed goes first.
        op, ev = operation.value, event.value
        is_paired = _one_of(op.kind, _PAIRED)
        is_notice = _one_of(op.kind, _NOTICES)
        ahead = Signal(_NUMBER_BITS)  # By how much the event is ahead of the operation.
        done_since = Signal(_NUMBER_BITS)
        event_first, both, due = Signal(), Signal(), Signal()
        m.d.comb += [
            ahead.eq(op.before - ev.number),
            done_since.eq(done - op.before),
            both.eq(is_paired & (ahead == 0) & ~_one_of(ev.event.kind, _OF_HOST)),
            event_first.eq(~operation.valid | (~ahead[-1] & (ahead != 0)) | both),
            # Nothing before it is under way, and no event before it waits.
            due.eq(
                operation.valid
                & ~is_paired
                & ~done_since[-1]
                & (~is_notice | (done_since != 0))
                & (~event.valid | ~event_first)
            ),
        ]
        busy = Signal()
        takes_event, takes_operation, takes_sweep = Signal(), Signal(), Signal()
        with m.If(~busy):
            with m.If(due & is_notice):
                m.d.comb += takes_operation.eq(1)
            with m.Elif(event.valid & event_first):
                m.d.comb += [takes_event.eq(1), takes_operation.eq(operation.valid & both)]
            with m.Elif(changed.any()):
                m.d.comb += takes_sweep.eq(1)
            with m.Elif(due):
                m.d.comb += takes_operation.eq(1)
        takes = takes_event | takes_operation | takes_sweep
        index = Signal(range(self.symbol_count))
        # An answer to a repair has a record of its own behind its BBO record.
        s1_repair, s2_repair, s3_repair = Signal(), Signal(), Signal()
        m.d.sync += [
            s1_repair.eq(takes_event & (ev.event.kind == OperationKind.REPAIR)),
            s2_repair.eq(s1_repair),
            s3_repair.eq(s2_repair),
        ]
        m.d.sync += busy.eq(takes | s1_repair)
        m.d.comb += [
            operation.taken.eq(takes_operation),
            event.taken.eq(takes_event),
            index.eq(
                Mux(
                    takes_event,
                    ev.event.symbol_index,
                    Mux(takes_sweep, sweep_index, op.symbol_index),
                )
            ),
        ]
        for i in range(self.symbol_count):
            with m.If(~stale[i]):
                m.d.sync += seen[i].eq(0)
            with m.Elif((takes_event | takes_sweep) & (index == i)):
                m.d.sync += seen[i].eq(1)
        last_cause = Signal(cause)
        with m.If(takes_event & (ev.event.kind != OperationKind.NONE)):
            m.d.sync += [
                last_cause.sequence.eq(ev.event.sequence),
                last_cause.timestamp.eq(ev.event.timestamp),
            ]
        with m.Elif(takes_operation & is_notice):
            m.d.sync += [last_cause.sequence.eq(op.number - 1), last_cause.timestamp.eq(0)]
        with m.Elif(takes_operation):
            m.d.sync += [
                last_cause.sequence.eq(op.sequence),
                last_cause.timestamp.eq(op.timestamp),
            ]

        # Stage 1: the symbol's condition as it was told. It counts once it was written.
        told = Memory(shape=condition, depth=self.symbol_count, init=[])
        m.submodules.told = told
        write = told.write_port()
        read = told.read_port(domain="sync", transparent_for=[write])
        known = Signal(self.symbol_count)
        s1_event, s1_operation, s1_sweep = Signal(), Signal(), Signal()
        s1_op = Signal.like(op, reset_less=True)
        s1_ev = Signal(self.event_shape, reset_less=True)
        s1_index = Signal.like(index, reset_less=True)
        s1_reason = Signal(members["stale_reason"], reset_less=True)
        m.d.comb += read.addr.eq(index)
        m.d.sync += [
            s1_event.eq(takes_event),
            s1_operation.eq(takes_operation),
            s1_sweep.eq(takes_sweep),
            s1_index.eq(index),
            s1_op.eq(op),
            s1_ev.eq(ev.event),
            s1_reason.eq(self.stale[sweep_index]),
        ]
        before, after = Signal(condition), Signal(condition)
        m.d.comb += before.eq(Mux(known.bit_select(s1_index, 1), read.data.as_value(), 0))
        m.d.comb += after.eq(before)
        is_action = s1_op.kind == OperationKind.TRADING_ACTION
        is_halt = s1_op.kind == OperationKind.OPERATIONAL_HALT
        lives = Signal()
        s1_state = s1_ev.match_number[:8]
        m.d.comb += lives.eq(s1_repair & (s1_ev.reason == StaleReason.NONE))
        # A repair that goes on has nothing to tell of its book, but that it was emptied.
        with m.If(s1_event & (~s1_repair | lives | ~s1_ev.printable)):
            m.d.comb += [
                after.bid.eq(s1_ev.bid),
                after.ask.eq(s1_ev.ask),
                after.stale_reason.eq(s1_ev.stale_reason),
            ]
            with m.If(lives & s1_state.any()):
                m.d.comb += after.trading_state.eq(s1_state)
        with m.Elif(s1_sweep):
            m.d.comb += after.stale_reason.eq(s1_reason)
        with m.Elif(s1_operation & is_action):
            m.d.comb += after.trading_state.eq(s1_op.code)
        with m.Elif(s1_operation & is_halt & (s1_op.market_code == _NASDAQ)):
            m.d.comb += after.trading_state.eq(Mux(s1_op.code == _TRADING, _TRADING, _HALTED))

        # Stage 2: a BBO record if it is not as before. One event is done in every 2 cycles, so that
        # the record of stage 1 belongs to the next one's time.
        s2_tells = Signal()
        s2_after = Signal(condition, reset_less=True)
        s2_index = Signal.like(index, reset_less=True)
        s2_cause = Signal(cause, reset_less=True)
        m.d.sync += [
            s2_tells.eq((s1_event | s1_operation | s1_sweep) & (after != before)),
            s2_after.eq(after),
            s2_index.eq(s1_index),
            s2_cause.eq(last_cause),
        ]
        m.d.comb += [
            write.addr.eq(s2_index),
            write.data.eq(s2_after),
            write.en.eq(s2_tells),
        ]
        with m.If(s2_tells):
            m.d.sync += known.bit_select(s2_index, 1).eq(1)

        # The newest system event, and whether one that comes with a repair is newer.
        event_code = Signal(8)
        event_sequence = Signal(64)
        has_event = Signal()
        s1_newer = Signal()
        s1_code = s1_ev.match_number[8:16]
        tells_event = Signal()
        m.d.sync += s1_newer.eq(~has_event | (event_sequence < ev.event.sequence))
        m.d.comb += tells_event.eq(lives & s1_newer & s1_code.any() & (s1_code != event_code))
        with m.If(s1_operation & (s1_op.kind == OperationKind.SYSTEM)):
            m.d.sync += [
                has_event.eq(1),
                event_code.eq(s1_op.code),
                event_sequence.eq(s1_op.sequence),
            ]
        with m.Elif(tells_event):
            m.d.sync += event_code.eq(s1_code)

        other = Signal()
        other_record = self._other(m, s1_op, s1_ev, s1_event, s1_operation, other)
        late_event = self._record(
            m,
            ring.STATUS,
            symbol_index=ring.ALL_MARKET,
            message_type=itch50.SYSTEM_EVENT.code,
            status=s1_code,
            ts_feed_ns=0,
            feed_sequence=s1_ev.sequence,
        )

        # Stage 3: the answer to a repair.
        s2_ev = Signal.like(s1_ev, reset_less=True)
        s3_ev = Signal.like(s1_ev, reset_less=True)
        m.d.sync += [s2_ev.eq(s1_ev), s3_ev.eq(s2_ev)]
        answer = self._record(
            m,
            ring.REPAIR,
            symbol_index=s3_ev.symbol_index,
            flags=Mux(s3_ev.reason == StaleReason.NONE, ring.RepairFlag.LIVE, 0),
            from_sequence=s3_ev.ts_first,
            next_sequence=s3_ev.ts_last,
            stale_reason=s3_ev.reason,
        )
        bbo = self._record(
            m,
            ring.BBO,
            symbol_index=s2_index,
            flags=Mux(s2_after.stale_reason != StaleReason.NONE, ring.BboFlag.STALE, 0),
            ts_feed_ns=s2_cause.timestamp,
            feed_sequence=s2_cause.sequence,
            bid_price=s2_after.bid.price,
            ask_price=s2_after.ask.price,
            bid_qty=s2_after.bid.quantity,
            ask_qty=s2_after.ask.quantity,
            bid_orders=s2_after.bid.orders,
            ask_orders=s2_after.ask.orders,
            stale_reason=s2_after.stale_reason,
            trading_state=s2_after.trading_state,
        )
        m.d.comb += [
            self.o.valid.eq(other | tells_event | s2_tells | s3_repair),
            self.o.payload.is_bbo.eq(s2_tells),
            self.o.payload.symbol_index.eq(s2_index),
            self.o.payload.record.eq(
                Mux(
                    s2_tells,
                    bbo,
                    Mux(s3_repair, answer, Mux(tells_event, late_event, other_record)),
                )
            ),
            self.bbo_stb.eq(s2_tells),
        ]
        return m

    def _queues(self, m: Module):
        """Return the oldest operation and event that wait, and how many operations are done."""
        came, is_kind = self.i.payload, {}
        for kind in OperationKind:
            is_kind[kind] = came.kind == kind
        taken_count, done = Signal(_NUMBER_BITS), Signal(_NUMBER_BITS)
        m.d.sync += [
            taken_count.eq(taken_count + (self.i.valid & self.taken_stb)),
            done.eq(done + self.done_stb),
        ]
        of_symbol = (
            is_kind[OperationKind.TRADING_ACTION]
            | is_kind[OperationKind.OPERATIONAL_HALT]
            | is_kind[OperationKind.REG_SHO]
            | ((is_kind[OperationKind.TRADE] | is_kind[OperationKind.CROSS]) & came.shares.any())
        )
        of_book = _one_of(came.kind, (*_PAIRED, *_NOTICES))
        wanted = self.i.valid & (
            is_kind[OperationKind.SYSTEM] | (of_symbol & self.known) | (of_book & self.taken_stb)
        )
        operation_shape = data.StructLayout(
            {
                "kind": OperationKind,
                "before": _NUMBER_BITS,
                "symbol_index": range(self.symbol_count),
                "sequence": 64,
                "timestamp": 48,
                "number": 64,  # Of a match; of a notice the one after its last message.
                "shares": 32,
                "price": 32,
                "printable": 1,
                "code": 8,
                "market_code": 8,
            }
        )
        event_shape = data.StructLayout({"number": _NUMBER_BITS, "event": self.event_shape})

        class Head:
            """The oldest in a queue."""

            def __init__(self, name, shape, put, filled):
                m.submodules[name] = fifo = SyncFIFO(width=shape.size, depth=_QUEUE_DEPTH)
                self.fifo = fifo
                self.valid = fifo.r_rdy
                self.taken = fifo.r_en
                self.value = Signal(shape, name=f"{name}_value")
                m.d.comb += [
                    self.value.eq(fifo.r_data),
                    fifo.w_data.eq(filled),
                    fifo.w_en.eq(put),
                ]

        filled = Signal(operation_shape)
        is_notice = _one_of(came.kind, _NOTICES)
        m.d.comb += [
            filled.before.eq(taken_count),
            filled.symbol_index.eq(self.symbol_index),
            filled.number.eq(Mux(is_notice, came.new_reference, came.match_number)),
            # Of the two that are executed only one can be not printable.
            filled.printable.eq(came.printable | ~is_kind[OperationKind.EXECUTE_WITH_PRICE]),
        ]
        for name in ("kind", "sequence", "timestamp", "shares", "price", "code", "market_code"):
            m.d.comb += filled[name].eq(came[name])
        operations = Head("operations", operation_shape, wanted, filled)
        filled_event = Signal(event_shape)
        m.d.comb += [filled_event.number.eq(done), filled_event.event.eq(self.i_event.payload)]
        events = Head("events", event_shape, self.i_event.valid, filled_event)
        m.d.sync += self.overflow_stb.eq(
            (wanted & ~operations.fifo.w_rdy) | (self.i_event.valid & ~events.fifo.w_rdy)
        )
        m.d.comb += self.queued.eq(operations.fifo.level)
        return operations, events, done

    def _other(self, m, op, ev, s1_event, s1_operation, is_there):
        """Return the TRADE, STATUS or GAP record of stage 1, and set whether there is one."""
        code = Signal(8)
        with m.Switch(op.kind):
            for kind, letter in _CODES.items():
                with m.Case(kind):
                    m.d.comb += code.eq(letter if isinstance(letter, int) else ord(letter))
        is_gap = op.kind == OperationKind.GAP
        is_retract = op.kind == OperationKind.RETRACT
        is_system = op.kind == OperationKind.SYSTEM
        is_trade = _one_of(op.kind, (*_PAIRED, OperationKind.TRADE, OperationKind.CROSS))
        executes = s1_event  # With an event it is the execution of an order.
        m.d.comb += is_there.eq(
            s1_operation
            & ~is_retract
            & (~executes | (op.printable & (ev.reason != StaleReason.UNKNOWN_REFERENCE)))
        )
        feed = {"ts_feed_ns": op.timestamp, "feed_sequence": op.sequence}
        trade = self._record(
            m,
            ring.TRADE,
            symbol_index=op.symbol_index,
            last_qty=op.shares,
            last_price=Mux(op.kind == OperationKind.EXECUTE, ev.price, op.price),
            side=Mux(executes, Mux(ev.is_buy, ord("B"), ord("S")), 0),
            match_type=code,
            match_number=op.number,
            **feed,
        )
        status = self._record(
            m,
            ring.STATUS,
            symbol_index=Mux(is_system, ring.ALL_MARKET, op.symbol_index),
            message_type=code,
            status=op.code,
            **feed,
        )
        gap = self._record(
            m,
            ring.GAP,
            symbol_index=ring.ALL_MARKET,
            first_sequence=op.sequence,
            message_count=(op.number - op.sequence)[:64],
        )
        return Mux(is_gap, gap, Mux(is_trade, trade, status))

    def _record(self, m: Module, layout: Layout, **fields: Value) -> Value:
        """Return a record with these fields, its type and the time, and zero elsewhere."""
        made = Signal(struct_layout(layout), name=layout.title.split()[0].lower())
        fields |= {"record_type": int(layout.code), "ts_card_ns": self.time}
        for name, value in fields.items():
            m.d.comb += made[name].eq(wire(layout, value, name))
        return made.as_value()
