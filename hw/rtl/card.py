"""The card: the stages, joined."""

from functools import reduce
from operator import add

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Shape, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book.book import Book
from hw.rtl.book.commands import RepairCommands
from hw.rtl.csr import RegisterBank
from hw.rtl.layouts import AGE, OPERATION, TIME, OperationKind
from hw.rtl.order import OrderPath
from hw.rtl.params import CardParams
from hw.rtl.parse.parse import Parse
from hw.rtl.ring.conflation import Conflation
from hw.rtl.ring.market import MarketRecords
from hw.rtl.ring.rings import PARAMS, Rings
from hw.rtl.ring.writer import SLOTS_MAX
from hw.rtl.risk.events import DECISION, EVENT, AccountKind
from hw.rtl.risk.gate import Gate
from hw.rtl.risk.market import MarketView
from hw.rtl.risk.settings import Settings
from hw.rtl.telemetry import CauseTimes, HighWater, LatencyMeters
from hw.rtl.wire.arbiter import Arbiter
from hw.rtl.wire.continuation import Continuation
from hw.rtl.wire.gmii import GmiiReceiver, GmiiTransmitter
from hw.rtl.wire.line import Line
from hw.rtl.wire.xgmii import XgmiiReceiver, XgmiiTransmitter
from protocol.emit.amaranth_layout import view
from protocol.reasons import DenyReason, DropReason
from protocol.registers import LATENCY_BUCKETS, Capability, LatencyStage, QueueName, RingName
from protocol.ring import BBO, NEW

LINES = 2
_START = ("session", "sequence", "gap_timeout_ns", "start_stb")
_OF_BOOK = (
    *("ready", "stale", "stash_used_max"),
    *("known", "symbol_index", "taken_stb", "done_stb"),
)
_NOTICES = (OperationKind.CONFIRM, OperationKind.RETRACT, OperationKind.GAP)
_OF_HOST = (OperationKind.NONE, OperationKind.REPAIR)
"""Kinds of events that no message has brought about."""
RECEIVERS = {1: GmiiReceiver, 8: XgmiiReceiver}
TRANSMITTERS = {1: GmiiTransmitter, 8: XgmiiTransmitter}
CLOCK_MHZ = {1: 125.0, 8: 156.25}
"""Clock that a width of beat needs for line rate."""
TRADERS = 16
"""Traders that the card knows, and as many desks."""
_HEARTBEAT_CYCLES = 1 << 16
"""The gate's own watch; that of the host is in the register bank, by card time."""
_CAPABILITIES = sum(1 << item for item in Capability)
COUNTER = unsigned(48)
"""At one a cycle of 6.4 ns it counts for twenty days."""


def receive_pins(width: int) -> wiring.Signature:
    """Return the receive half of the MAC interface: GMII at 1 byte a beat, XGMII at 8."""
    if width == 1:
        return wiring.Signature({"rxd": Out(8), "rx_dv": Out(1), "rx_er": Out(1)})
    return wiring.Signature({"rxd": Out(64), "rxc": Out(8)})


class FeedPath(wiring.Component):
    """From the Ethernet bytes of lines A and B to the best bid and offer.

    MAC, then per line the IPv4, UDP and MoldUDP64 headers; arbitration of the lines; parser; book.
    Nothing stalls: at line rate on both lines every message of every frame is taken.

    Latency from the cycle in which the MAC hands on the last byte of a message to the cycle of its
    event: 10 cycles, 12 for a replace, when the line's packet was the next one and nothing before
    it waits. The MAC adds 2 cycles at 8 bytes a beat, 6 at 1. With ``params.cut_through`` that is
    so before the frame has ended; without, from the end of the frame on.

    Parameters
    ----------
    params : CardParams
        What to build.

    Members
    -------
    lines : ``In(receive_pins(width)).array(2)``
        The MAC interfaces of lines A and B.
    time : ``In(TIME)``
        Card time in ns. It marks bytes as they leave the MAC.
    filters, any : ``In``
        For each line the destinations that are subscribed to; ``any`` for all of them.
    session, sequence, gap_timeout_ns, start_stb : ``In``
        See :class:`Arbiter`.
    locate_stb, locate_index, locate_valid, locate : ``In``
        See :class:`Book`, as for ``name_stb``, ``name_index``, ``name_valid``, ``name``.
    i_repair : ``In``
        See :class:`Book`.
    ready : ``Out(1)``
        Memories are swept; feed messages that come before are lost.
    o : ``Out(stream.Signature(event(symbol_count), always_ready=True))``
        One event for each message about an order of a configured symbol.
    o_operation : ``Out(stream.Signature(OPERATION, always_ready=True))``
        Operations of the parser, as the book takes them.
    o_begin : ``Out(TIME)``
        Card time at which the first byte of the operation's frame was at the pins: of destination
        address, not of preamble. [IEEE 802.3: 90.7] Means nothing for a notice.
    known, symbol_index, taken_stb, done_stb, stale : ``Out``
        See :class:`Book`.
    frames : ``Out(data.ArrayLayout(COUNTER, 2))``
        Frames that came in on each line.
    messages, lost, changes : ``Out(COUNTER)``
        Messages delivered in order, those of retracted packets among them; messages declared lost;
        events with a change.
    drops : ``Out(data.ArrayLayout(COUNTER, len(DropReason)))``
        What was not used, by reason. All counters start from 0 at reset.
    held_packets_max : ``Out``
        See :class:`Arbiter`.

    Raises
    ------
    TypeError
        If ``params`` is not a :class:`CardParams`.
    """

    def __init__(self, params: CardParams):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.params = params
        width = params.width
        self.macs = [RECEIVERS[width]() for _ in range(LINES)]
        self.feeds = [Line(width) for _ in range(LINES)]
        self.arbiter = Arbiter(params)
        self.parse = Parse(params)
        self.book = Book(params)
        book = self.book.signature.members
        self._of_book = {
            name: member
            for name, member in book.items()
            if name.startswith(("locate", "name")) or name in _OF_BOOK
        }
        super().__init__(
            {
                "lines": In(receive_pins(width)).array(LINES),
                "time": In(TIME),
                "filters": In(self.feeds[0].filters.shape()).array(LINES),
                "any": In(1).array(LINES),
                **{name: self.arbiter.signature.members[name] for name in _START},
                **self._of_book,
                **{name: book[name] for name in ("i_repair", "o")},
                "o_operation": Out(stream.Signature(OPERATION, always_ready=True)),
                "o_begin": Out(TIME),
                "frames": Out(data.ArrayLayout(COUNTER, LINES)),
                "messages": Out(COUNTER),
                "lost": Out(COUNTER),
                "changes": Out(COUNTER),
                "drops": Out(data.ArrayLayout(COUNTER, len(DropReason))),
                "held_packets_max": self.arbiter.signature.members["held_packets_max"],
            }
        )

    def probes(self) -> list[Value]:
        """Return when stages hand something on, of line A where there are two: for a bench."""
        return [
            self.macs[0].o.valid,
            self.feeds[0].o.valid,
            self.arbiter.o.valid,
            self.parse.o_hint.valid,
            self.parse.o.valid,
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = self.arbiter
        m.submodules.parse = parse = self.parse
        m.submodules.book = book = self.book

        # From the pins of each line to its packets.
        begin = self.time[: Shape.cast(AGE).width]
        for _ in range(self.macs[0].LATENCY):
            begin, later = Signal(AGE, name="begin", reset_less=True), begin
            m.d.sync += begin.eq(later)
        for line, (mac, feed) in enumerate(zip(self.macs, self.feeds, strict=True)):
            m.submodules[f"mac_{line}"] = mac
            m.submodules[f"feed_{line}"] = feed
            m.submodules[f"continuation_{line}"] = continuation = Continuation(self.params.width)
            pins, kind = self.lines[line], "gmii" if self.params.width == 1 else "xgmii"
            m.d.comb += [
                getattr(mac, f"{kind}_{name}").eq(getattr(pins, name))
                for name in pins.signature.members
            ]
            wiring.connect(m, mac.o, feed.i)
            wiring.connect(m, feed.o, arbiter.i[line])
            m.d.comb += [
                feed.time.eq(self.time),
                feed.begin.eq(begin),
                feed.filters.eq(self.filters[line]),
                feed.any.eq(self.any[line]),
                arbiter.header[line].eq(feed.o_header),
                arbiter.time[line].eq(feed.o_time),
                arbiter.end[line].valid.eq(feed.o_end.valid),
                arbiter.end[line].payload.bad.eq(feed.o_end.payload.bad),
                continuation.i.payload.eq(mac.o.payload),
                continuation.i.valid.eq(mac.o.valid),
                continuation.start.eq(feed.o.payload.start),
                continuation.position.eq(arbiter.position),
                continuation.session_stb.eq(arbiter.session_stb),
                continuation.sequence_stb.eq(arbiter.sequence_stb),
                arbiter.continues[line].eq(continuation.o),
            ]

        # One sequence of packets, of messages, of operations.
        wiring.connect(m, arbiter.o, parse.i)
        wiring.connect(m, arbiter.o_notice, parse.i_notice)
        wiring.connect(m, parse.o_end, arbiter.i_end)
        wiring.connect(m, parse.o, book.i)
        wiring.connect(m, parse.o_hint, book.i_hint)
        wiring.connect(m, wiring.flipped(self.i_repair), book.i_repair)
        wiring.connect(m, book.o, wiring.flipped(self.o))
        m.d.comb += [
            arbiter.now.eq(self.time),
            parse.packet.eq(arbiter.o_packet),
            self.o_operation.valid.eq(parse.o.valid),
            self.o_operation.payload.eq(parse.o.payload),
            parse.time.eq(arbiter.o_time),
            self.lost.eq(arbiter.lost_count),
            self.held_packets_max.eq(arbiter.held_packets_max),
        ]
        # When a frame began is known with its packet's first beat; the parser takes 2 cycles from a
        # beat to the operation of a message that ends in it.
        s1_time = Signal(TIME, reset_less=True)
        s1_age = Signal(AGE, reset_less=True)
        with m.If(arbiter.o.valid & arbiter.o.payload.first):
            m.d.sync += [s1_time.eq(arbiter.o_time), s1_age.eq(arbiter.o_packet.age)]
        m.d.sync += self.o_begin.eq(s1_time - s1_age)
        m.d.comb += [getattr(arbiter, name).eq(getattr(self, name)) for name in _START]
        for name, member in self._of_book.items():
            ours, its = getattr(self, name), getattr(book, name)
            m.d.comb += its.eq(ours) if member.flow is In else ours.eq(its)

        self._count(m)
        return m

    def _count(self, m: Module) -> None:
        """Count what came, what was used and, by reason, what was not."""

        def counted(counter: Value, *events: Value) -> None:
            # The sum of a cycle's events is registered: a counter is two cycles behind.
            total = Signal(range(1 + sum((1 << len(event)) - 1 for event in events)))
            m.d.sync += [total.eq(reduce(add, events)), counter.eq(counter + total)]

        operation, arbiter = self.parse.o, self.arbiter
        unused = [(feed.drop_stb, feed.drop_reason) for feed in self.feeds]
        unused += zip(arbiter.drop_stb, arbiter.drop_reason, strict=True)
        kind = operation.payload.kind
        more = {
            DropReason.UNKNOWN_MESSAGE: [
                operation.valid & (kind == OperationKind.UNKNOWN),
                self.parse.short_count,
            ],
            DropReason.UNKNOWN_SYMBOL: [self.book.unknown_symbol_stb],
            DropReason.UNDER_REPAIR: [self.book.dropped_stb],
        }
        for reason in DropReason:
            events = [stb & (which == reason) for stb, which in unused if reason < 1 << len(which)]
            counted(self.drops[reason], *events, *more.get(reason, []))
        for line, feed in enumerate(self.feeds):
            counted(self.frames[line], feed.frame_stb)
        is_message = ~Cat(kind == notice for notice in _NOTICES).any()
        counted(self.messages, operation.valid & is_message, self.parse.short_count)
        counted(self.changes, self.book.o.valid & self.book.o.payload.changed)


def transmit_pins(width: int) -> wiring.Signature:
    """Return the transmit half of the MAC interface: GMII at 1 byte a beat, XGMII at 8."""
    if width == 1:
        return wiring.Signature({"txd": Out(8), "tx_en": Out(1), "tx_er": Out(1)})
    return wiring.Signature({"txd": Out(64), "txc": Out(8)})


class Card(wiring.Component):
    """The whole card: feed in, records to the host, commands back, orders out.

    Nothing runs before the host has set CONTROL; until then what comes in on the pins is not
    looked at. Each time it is set the card begins anew: memories are swept, the symbol table is
    read, limits are closed; what was counted and told before stays until then. The order path may
    wait for slots of the execution ring; the feed never waits.

    Parameters
    ----------
    params : CardParams
        What to build.
    clock_mhz : float
        The clock that CLOCK_STEP is made for at reset.

    Members
    -------
    lines : ``In(receive_pins(width)).array(2)``
        The MAC interfaces of feed lines A and B.
    order_rx, order_tx : ``In(receive_pins(width))``, ``Out(transmit_pins(width))``
        That of the order port.
    time : ``In(TIME)``
        Card time in ns, see :class:`~hw.rtl.telemetry.CardClock`.
    clock_step : ``Out(64)``
        What the host wants a cycle to add to it.
    csr_address, csr_write_stb, csr_write_data, csr_read_stb, csr_read_valid, csr_read_data
        Registers; see :class:`~hw.rtl.csr.RegisterBank`.
    o_write, o_read : ``Out``
        Host memory; see :mod:`hw.rtl.ring.bus`.
    running : ``Out(1)``
        CONTROL is set, and the card is ready: feed and commands are taken.
    """

    def __init__(self, params: CardParams, clock_mhz: float | None = None):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.params = params
        width, symbols = params.width, params.symbol_count
        self.feed = FeedPath(params)
        self.repairs = RepairCommands(symbols)
        self.records = MarketRecords(symbols, self.feed.book.o.payload.shape())
        self.conflation = Conflation(symbols)
        self.rings = Rings()
        self.markets = MarketView(symbols)
        self.settings = Settings(TRADERS, TRADERS)
        self.gate = Gate(symbols, TRADERS, TRADERS, _HEARTBEAT_CYCLES)
        self.order = OrderPath(width, symbols, params.open_order_count, EVENT, DECISION)
        self.transmitter = TRANSMITTERS[width]()
        self.bank = RegisterBank(params, clock_mhz or CLOCK_MHZ[width], _CAPABILITIES)
        super().__init__(
            {
                "lines": In(receive_pins(width)).array(LINES),
                "order_rx": In(receive_pins(width)),
                "order_tx": Out(transmit_pins(width)),
                "time": In(TIME),
                "clock_step": Out(64),
                "csr_address": In(self.bank.address.shape()),
                "csr_write_stb": In(1),
                "csr_write_data": In(64),
                "csr_read_stb": In(1),
                "csr_read_valid": Out(1),
                "csr_read_data": Out(64),
                "o_write": Out(PARAMS.write_channel()),
                "o_read": Out(PARAMS.read_channel()),
                "running": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bank = bank = self.bank
        anew = Signal()
        for name in (
            *("feed", "repairs", "records", "conflation", "rings"),
            *("markets", "settings", "gate", "order"),
        ):
            m.submodules[name] = ResetInserter(anew)(getattr(self, name))
        feed, records, conflation, rings = self.feed, self.records, self.conflation, self.rings
        gate, repairs = self.gate, self.repairs
        running, started = self.running, Signal()
        m.d.sync += started.eq(running)
        with m.FSM(name="life"):
            with m.State("Stopped"), m.If(bank.control[0] & rings.idle):
                m.d.comb += anew.eq(1)
                m.next = "Sweeping"
            with m.State("Sweeping"), m.If(feed.ready & gate.ready & self.order.ready):
                m.d.comb += bank.load_stb.eq(1)
                m.next = "Loading"
            with m.State("Loading"), m.If(bank.loaded):
                m.next = "Running"
            with m.State("Running"):
                m.d.comb += running.eq(bank.control[0])
                with m.If(~bank.control[0]):
                    m.next = "Stopped"

        # Feed. While the card does not run nothing comes in.
        m.d.comb += [
            feed.time.eq(self.time),
            feed.session.eq(Cat(bank.feed_session_low, bank.feed_session_high)),
            feed.sequence.eq(bank.feed_sequence),
            feed.gap_timeout_ns.eq(bank.feed_gap_timeout_ns),
            feed.start_stb.eq(running & ~started),
            feed.name_stb.eq(bank.symbol_stock_stb),
            feed.name_index.eq(bank.symbol_index),
            feed.name_valid.eq(bank.symbol_value.any()),
            feed.name_stock.eq(bank.symbol_value),
            feed.locate_stb.eq(bank.symbol_locate_stb | repairs.locate_stb),
            feed.locate_index.eq(Mux(running, repairs.symbol_index, bank.symbol_index)),
            feed.locate_valid.eq(running | bank.symbol_value.any()),
            feed.locate.eq(Mux(running, repairs.locate, bank.symbol_value)),
            repairs.configured.eq(bank.configured),
        ]
        wiring.connect(m, repairs.o, feed.i_repair)
        for line in range(LINES):
            _admit(m, self.lines[line], feed.lines[line], running)
            group = bank.feed_group[line]
            entry = feed.filters[line][0]
            m.d.comb += [
                feed.any[line].eq(group == 0),
                entry.enabled.eq(group != 0),
                entry.address.eq(group[16:48]),
                entry.port.eq(group[:16]),
            ]

        # Records to the host; the gate learns of the markets from them.
        wiring.connect(m, feed.o_operation, records.i)
        wiring.connect(m, feed.o, records.i_event)
        wiring.connect(m, records.o, conflation.i)
        wiring.connect(m, conflation.o, rings.i_market)
        wiring.connect(m, self.markets.o, gate.i_market)
        m.d.comb += [
            records.known.eq(feed.known),
            records.symbol_index.eq(feed.symbol_index),
            records.taken_stb.eq(feed.taken_stb),
            records.done_stb.eq(feed.done_stb),
            records.stale.eq(feed.stale),
            records.configured.eq(bank.configured),
            records.time.eq(self.time),
            self.markets.stb.eq(records.o.valid),
            self.markets.record.eq(records.o.payload.record),
        ]

        # Rings.
        wiring.connect(m, rings.o_write, wiring.flipped(self.o_write))
        wiring.connect(m, rings.o_read, wiring.flipped(self.o_read))
        m.d.comb += rings.enable.eq(running)
        for ring_name in RingName:
            name = ring_name.name.lower()
            m.d.comb += [
                getattr(rings, f"{name}_base").eq(getattr(bank, f"{name}_base")),
                getattr(rings, f"{name}_slots").eq(getattr(bank, f"{name}_slots")),
                getattr(rings, f"{name}_doorbell_stb").eq(bank.doorbell_stb[ring_name]),
            ]

        self._orders(m, running, running & ~started)
        self._registers(m)
        return m

    def _orders(self, m: Module, running: Value, starts: Value) -> None:
        """Commands to the gate and the order path, and what they tell back."""
        rings, gate, order, bank, settings = (
            self.rings,
            self.gate,
            self.order,
            self.bank,
            self.settings,
        )
        m.submodules.order_mac_rx = receiver = RECEIVERS[self.params.width]()
        m.submodules.order_mac_tx = transmitter = self.transmitter
        admitted = receive_pins(self.params.width).create()
        _admit(m, self.order_rx, admitted, running)
        kind = "gmii" if self.params.width == 1 else "xgmii"
        for name in admitted.signature.members:
            m.d.comb += getattr(receiver, f"{kind}_{name}").eq(getattr(admitted, name))
        for name in self.order_tx.signature.members:
            m.d.comb += getattr(self.order_tx, name).eq(getattr(transmitter, f"{kind}_{name}"))
        wiring.connect(m, receiver.o, order.i)
        wiring.connect(m, order.o, transmitter.i)
        # A repair's commands go to the book, all others to the order path.
        command, repairs = rings.o_command, self.repairs
        m.d.comb += [
            repairs.i.payload.eq(command.payload),
            order.i_command.payload.eq(command.payload),
            repairs.i.valid.eq(command.valid & repairs.concerned),
            order.i_command.valid.eq(command.valid & ~repairs.concerned),
            command.ready.eq(Mux(repairs.concerned, repairs.i.ready, order.i_command.ready)),
        ]
        wiring.connect(m, order.o_record, rings.i_execution)
        wiring.connect(m, order.o_event, gate.i)
        wiring.connect(m, gate.o, order.i_decision)

        # Settings look on; so what they set counts from the next command on.
        wiring.connect(m, settings.o_symbol, gate.i_symbol)
        wiring.connect(m, settings.o_account, gate.i_account)
        wiring.connect(m, settings.o_desk, gate.i_desk)
        m.d.comb += [
            settings.stb.eq(rings.command_stb),
            settings.command.eq(rings.o_command.payload),
            bank.heartbeat_stb.eq(settings.heartbeat_stb),
            gate.heartbeat_stb.eq(1),
        ]

        # The firm's kill switch is a register. It waits while another one is set.
        killed = Signal(init=1)
        wanted = bank.kill[0]
        m.d.comb += [
            gate.i_kill.valid.eq(settings.o_kill.valid | (gate.ready & (wanted != killed))),
            gate.i_kill.payload.eq(settings.o_kill.payload),
        ]
        with m.If(~settings.o_kill.valid):
            m.d.comb += [
                gate.i_kill.payload.kind.eq(AccountKind.FIRM),
                gate.i_kill.payload.index.eq(0),
                gate.i_kill.payload.on.eq(wanted),
            ]
            with m.If(gate.ready):
                m.d.sync += killed.eq(wanted)

        # The connection is handed over by ORDER_SESSION, and taken back.
        session = Signal()
        start = order.i_start
        m.d.sync += session.eq(order.session)
        m.d.comb += [
            start.valid.eq(running & bank.order_session.any() & (bank.order_session_stb | starts)),
            order.stop_stb.eq(bank.order_session_stb & ~bank.order_session.any()),
            bank.order_session_end_stb.eq(session & ~order.session),
            order.time.eq(self.time),
            order.i_stock.valid.eq(bank.symbol_stock_stb),
            order.i_stock.payload.symbol_index.eq(bank.symbol_index),
            order.i_stock.payload.stock.eq(bank.symbol_value),
        ]
        m.d.comb += [
            start.payload[name].eq(getattr(bank, f"order_{name}"))
            for name in start.payload.shape().members
        ]
        free = Signal(range(SLOTS_MAX + 1))
        promised = rings.execution_queued
        m.d.comb += [
            free.eq(Mux(rings.execution_free > promised, rings.execution_free - promised, 0)),
            order.free.eq(free),
        ]

    def _registers(self, m: Module) -> None:
        """What the host can read."""
        feed, rings, order, bank = self.feed, self.rings, self.order, self.bank
        wiring_of_bus = (
            (bank.address, self.csr_address),
            (bank.write_stb, self.csr_write_stb),
            (bank.write_data, self.csr_write_data),
            (bank.read_stb, self.csr_read_stb),
            (self.csr_read_valid, bank.o_read_stb),
            (self.csr_read_data, bank.o_read_data),
            (self.clock_step, bank.clock_step),
        )
        m.d.comb += [target.eq(source) for target, source in wiring_of_bus]

        def count(event: Value) -> Signal:
            counter = Signal(COUNTER)
            with m.If(event):
                m.d.sync += counter.eq(counter + 1)
            return counter

        stale_count = Signal(range(self.params.symbol_count + 1))
        stale = [
            bank.configured[index] & (feed.stale[index] != 0)
            for index in range(self.params.symbol_count)
        ]
        m.d.sync += stale_count.eq(reduce(add, stale))
        shown = {
            "clock_ns": self.time,
            "messages_received": feed.messages,
            "messages_lost": feed.lost,
            "bbo_changes": count(self.records.bbo_stb),
            "bbo_conflated": count(self.conflation.conflated_stb),
            "market_skipped": count(self.conflation.lost_stb),
            "held_high_water": feed.held_packets_max,
            "market_high_water": rings.market_high_water,
            "execution_high_water": rings.execution_high_water,
            "commands_received": count(rings.command_stb),
            "orders_sent": count(order.sent_stb),
            "answers_received": count(order.answer_stb),
            "stale_symbols": stale_count,
        }
        m.d.comb += [getattr(bank, name).eq(value) for name, value in shown.items()]
        m.d.comb += [bank.frames_received[line].eq(feed.frames[line]) for line in range(LINES)]
        m.d.comb += [bank.drops[reason].eq(feed.drops[reason]) for reason in DropReason]
        m.d.comb += [
            bank.denials[reason].eq(count(order.denied_stb & (order.reason == reason)))
            for reason in DenyReason
        ]
        queues = {
            QueueName.MARKET: self.conflation.queued_max,
            QueueName.EXECUTION: rings.execution_queued_max,
            QueueName.COMMAND: rings.command_high_water,
        }
        m.d.comb += [bank.queue_high_water[name].eq(most) for name, most in queues.items()]
        m.submodules.operations = operations = HighWater(1, len(self.records.queued))
        m.d.comb += [
            operations.levels[0].eq(self.records.queued),
            bank.queue_high_water[QueueName.OPERATION].eq(operations.o[0]),
        ]
        self._latencies(m)

    def _latencies(self, m: Module) -> None:
        """Histograms of what takes time on the card."""
        feed, rings, order, bank = self.feed, self.rings, self.order, self.bank
        m.submodules.meters = meters = LatencyMeters(len(LatencyStage), LATENCY_BUCKETS)
        operation, event = feed.o_operation, feed.o
        record_ns, command_ns = Signal(TIME), Signal(TIME)
        record = view(BBO, self.conflation.o.payload)
        with m.If(self.conflation.o.valid & self.conflation.o.ready):
            m.d.sync += record_ns.eq(record.ts_card_ns)
        # What repairs ask for becomes no message, and has other things where a cause would be.
        command_stb = rings.command_stb & ~self.repairs.concerned
        with m.If(command_stb):
            m.d.sync += command_ns.eq(self.time)
        is_message = ~Cat(operation.payload.kind == notice for notice in _NOTICES).any()
        # NEW and REPLACE have what caused them in one place, where other messages have zero.
        m.submodules.causes = causes = CauseTimes()
        m.d.comb += [
            causes.i.valid.eq(operation.valid & is_message),
            causes.i.payload.sequence.eq(operation.payload.sequence),
            causes.i.payload.time.eq(operation.payload.ts_last),
            causes.i.payload.age.eq(operation.payload.ts_last - feed.o_begin),
            causes.ask.valid.eq(command_stb),
            causes.ask.payload.eq(view(NEW, rings.o_command.payload).cause_sequence),
        ]
        # A message's frame leaves the order path a cycle after the message was taken, and is the
        # next to begin at the pins.
        leaves = Signal()
        m.d.sync += leaves.eq(order.message_stb)
        begun = Signal(TIME, reset_less=True)
        awaited = Signal()
        with m.If(order.message_stb):
            m.d.sync += [awaited.eq(causes.found), begun.eq(causes.time - causes.age)]
        with m.Elif(self.transmitter.begin_stb):
            m.d.sync += awaited.eq(0)
        measured = {
            LatencyStage.PARSE: (operation.payload.ts_last, operation.valid & is_message),
            LatencyStage.BOOK: (
                event.payload.ts_last,
                event.valid & ~Cat(event.payload.kind == kind for kind in _OF_HOST).any(),
            ),
            LatencyStage.RING: (record_ns, rings.market_publish_stb),
            LatencyStage.ORDER: (command_ns, leaves | order.denied_stb),
            LatencyStage.TRADE: (causes.time, leaves & causes.found),
            LatencyStage.WIRE: (begun, self.transmitter.begin_stb & awaited),
        }
        for stage, (begin, end_stb) in measured.items():
            m.d.comb += [
                meters.begin[stage].eq(begin),
                meters.end[stage].eq(self.time),
                meters.end_stb[stage].eq(end_stb),
            ]
        m.d.comb += [meters.bucket.eq(bank.bucket), bank.bucket_count.eq(meters.o_bucket)]
        for stage in LatencyStage:
            m.d.comb += [
                bank.latency_count[stage].eq(meters.count[stage]),
                bank.latency_sum_ns[stage].eq(meters.sum[stage]),
                bank.latency_min_ns[stage].eq(Mux(meters.count[stage] == 0, 0, meters.min[stage])),
                bank.latency_max_ns[stage].eq(meters.max[stage]),
            ]


def _admit(m: Module, pins: wiring.PureInterface, inside: wiring.PureInterface, on: Value) -> None:
    """Let what comes in on pins through while ``on``, and idle characters otherwise."""
    for name in pins.signature.members:
        idle = {"rxd": 0x0707070707070707, "rxc": 0xFF} if len(pins.rxd) == 64 else {}
        m.d.comb += getattr(inside, name).eq(Mux(on, getattr(pins, name), idle.get(name, 0)))
