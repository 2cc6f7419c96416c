"""Commands and answers, one after the other: what the card knows of its orders, and what it says.

Everything that changes an order passes here, so that what the gate counts, what the records say
and what is remembered can not part.
"""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline
from hw.rtl.layouts import TIME
from hw.rtl.order.digits import Digits
from hw.rtl.order.frames import check_power_of_two
from hw.rtl.order.records import Told, records
from hw.rtl.order.shapes import (
    ANSWER,
    MESSAGE,
    QUANTITY,
    RECORD,
    SET_STOCK,
    AnswerKind,
    MessageKind,
    padded,
)
from kernels.risk import notional
from protocol import ring
from protocol.emit import amaranth_layout as layouts
from protocol.orders import Side
from protocol.reasons import DenyReason
from protocol.ring import MassCancelFlag, RecordType

CLOCK_MHZ = 156.25
ANSWERS_RESERVED = 3
"""Execution slots kept for every open order: accepted, executed, and its end."""
_NO_SYMBOL = (1 << 16) - 1
_NO_TRADER = (1 << 10) - 1
_DEAD = ord("D")
_BLANKS = int.from_bytes(b" " * 8, "little")

_ROW = data.StructLayout(
    {
        "used": 1,
        "cl_ord_id": 32,
        "symbol_index": 16,
        "trader": 10,
        "buys": 1,
        "price": 32,
        "leaves_qty": QUANTITY,
    }
)
"""What the card remembers of an order that may still execute."""


class Engine(wiring.Component):
    """Takes commands and answers, asks the gate, remembers orders, and writes records.

    One thing at a time: an answer before a command, each as soon as there is a slot for its record.

    An order is remembered in the row of its number modulo ``order_count``, and a new one is denied
    with ``NO_RING_SLOT`` while another one has the row: numbers only rise, so that is an order
    that is older by as many numbers. None that may still execute is ever forgotten. A new order is
    also denied when slots for its answers are not free beyond those of the orders that are open.

    Not there yet: a REPLACE is denied with ``UNKNOWN_ORDER``, so that no answer ever names one.

    An execution beyond what is open counts with ``2 ** 20 - 1`` shares at most; OUCH knows no more
    than 999,999.

    Latency is 2 cycles from a command taken to ``o_event``, 1 from a decision to a new order's
    ``o``, and 3 from a CANCEL or MASS_CANCEL taken to its ``o``. A NEW takes 12 cycles with a gate
    of 7, a CANCEL 5, an answer 7 and those of the product in ``kernels.risk.notional``. After reset
    nothing is taken for ``order_count`` cycles, or ``symbol_count`` if there are more, while
    memories are swept.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.
    order_count : int
        Orders that can be remembered; a power of two.
    event_shape, decision_shape : data.StructLayout
        What the gate takes and gives: ``EVENT`` and ``DECISION`` of :mod:`hw.rtl.risk`.

    Members
    -------
    session : ``In(1)``
        There is a connection.
    free : ``In(32)``
        Free slots of the execution ring. A record counts from the cycle after it was taken.
    time : ``In(TIME)``
        Card time. What is done for a command or answer has the time at which it was taken.
    i_stock : ``In(stream.Signature(SET_STOCK, always_ready=True))``
        Names of symbols. Orders of a symbol without one are denied.
    i : ``In(stream.Signature(RECORD))``
        Records of the command ring. Those that ask for no message are taken and ignored.
    i_answer : ``In(stream.Signature(ANSWER))``
        Messages of the venue.
    o_event : ``Out(stream.Signature(event_shape, always_ready=True))``
        To the gate.
    i_decision : ``In(stream.Signature(decision_shape, always_ready=True))``
        From the gate, one for each event.
    o : ``Out(stream.Signature(MESSAGE))``
        To the venue.
    o_record : ``Out(stream.Signature(RECORD))``
        To the execution ring; the last word is zero.
    ready : ``Out(1)``
        High once memories are swept. Until then no name may be set.
    is_idle : ``Out(1)``
        Nothing is under way.
    command_stb, answer_stb : ``Out(1)``
        One was taken; commands that are ignored do not count.
    sent_stb, denied_stb : ``Out(1)``
        A command was sent, or denied because of ``reason``.
    reason : ``Out(5)``
        A ``DenyReason``.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, symbol_count, order_count, event_shape, decision_shape):
        check_power_of_two("symbol_count", symbol_count, 2)
        check_power_of_two("order_count", order_count, 2)
        self.symbol_count, self.order_count = symbol_count, order_count
        self._event_kind = event_shape["kind"].shape
        super().__init__(
            {
                "session": In(1),
                "free": In(32),
                "time": In(TIME),
                "i_stock": In(stream.Signature(SET_STOCK, always_ready=True)),
                "i": In(stream.Signature(RECORD)),
                "i_answer": In(stream.Signature(ANSWER)),
                "o_event": Out(stream.Signature(event_shape, always_ready=True)),
                "i_decision": In(stream.Signature(decision_shape, always_ready=True)),
                "o": Out(stream.Signature(MESSAGE)),
                "o_record": Out(stream.Signature(RECORD)),
                "ready": Out(1),
                "is_idle": Out(1),
                "command_stb": Out(1),
                "answer_stb": Out(1),
                "sent_stb": Out(1),
                "denied_stb": Out(1),
                "reason": Out(range(len(DenyReason))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        event_kind = self._event_kind
        m.submodules.orders = orders = Memory(shape=_ROW, depth=self.order_count, init=[])
        m.submodules.stocks = stocks = Memory(shape=64, depth=self.symbol_count, init=[])
        m.submodules.digits = digits = Digits()
        order_write, order_read = orders.write_port(), orders.read_port()
        stock_write, stock_read = stocks.write_port(), stocks.read_port()

        # The sweep after reset.
        rows = max(self.order_count, self.symbol_count)
        sweeping = Signal(init=1)
        swept = Signal(range(rows))
        with m.If(sweeping):
            m.d.sync += swept.eq(swept + 1)
            with m.If(swept == rows - 1):
                m.d.sync += sweeping.eq(0)
        stock_at = self.i_stock.p.symbol_index
        m.d.comb += [
            stock_write.addr.eq(Mux(sweeping, swept, stock_at)),
            stock_write.data.eq(Mux(sweeping, 0, padded(self.i_stock.p.stock))),
            stock_write.en.eq(sweeping | (self.i_stock.valid & (stock_at < self.symbol_count))),
        ]

        # What is at work.
        command = Signal(RECORD, reset_less=True)
        answer = Signal(ANSWER, reset_less=True)
        now_ns = Signal(TIME, reset_less=True)
        row = Signal(_ROW, reset_less=True)
        found = Signal(reset_less=True)
        stock = Signal(64, reset_less=True)
        session = Signal(reset_less=True)
        has_slots = Signal(reset_less=True)
        told = Signal(Told, reset_less=True)
        open_count = Signal(range(self.order_count + 1))
        needed = Signal(range(ANSWERS_RESERVED * (self.order_count + 1) + 2))
        m.d.sync += needed.eq(ANSWERS_RESERVED * (open_count + 1) + 1)

        def asked(name, source=command):
            """A field of a command; what all of them have is in the place that it has in NEW."""
            return layouts.host(ring.NEW, source, name)

        record_type = asked("record_type")
        cl_ord_id = asked("cl_ord_id")
        symbol_index = asked("symbol_index")

        # Stage 0: taken, and the row read.
        def is_type(value, *types):
            return Cat(value == record for record in types).any()

        waiting, may_take = Signal(), Signal()
        takes_answer, takes_command = Signal(), Signal()
        offered = asked("record_type", self.i.payload)
        is_order = is_type(
            offered,
            *(RecordType.NEW, RecordType.REPLACE, RecordType.CANCEL, RecordType.MASS_CANCEL),
        )
        m.d.comb += [
            may_take.eq(waiting & ~sweeping & self.free.any()),
            self.i_answer.ready.eq(may_take),
            self.i.ready.eq(may_take & ~self.i_answer.valid),
            takes_answer.eq(may_take & self.i_answer.valid),
            takes_command.eq(self.i.ready & self.i.valid & is_order),
            self.ready.eq(~sweeping),
            self.is_idle.eq(waiting & ~sweeping),
            self.command_stb.eq(takes_command),
            self.answer_stb.eq(takes_answer),
            order_read.addr.eq(
                Mux(
                    self.i_answer.valid,
                    self.i_answer.p.cl_ord_id,
                    asked("cl_ord_id", self.i.payload),
                )[: len(order_read.addr)]
            ),
            stock_read.addr.eq(asked("symbol_index", self.i.payload)[: len(stock_read.addr)]),
            digits.start_stb.eq(takes_command),
            digits.number.eq(asked("cl_ord_id", self.i.payload)),
        ]
        with m.If(waiting):
            m.d.sync += [
                command.eq(self.i.payload),
                answer.eq(self.i_answer.p),
                now_ns.eq(self.time),
                session.eq(self.session),
                has_slots.eq(self.free >= needed),
            ]
        text_wait = Signal(range(digits.LATENCY + 1))
        with m.If(takes_command):
            m.d.sync += text_wait.eq(digits.LATENCY)
        with m.Elif(text_wait != 0):
            m.d.sync += text_wait.eq(text_wait - 1)

        # What an answer changes.
        qty = answer.qty
        taken_qty = Signal(QUANTITY, reset_less=True)  # Off what was open.
        beyond = Signal(QUANTITY, reset_less=True)
        released = Signal(QUANTITY, reset_less=True)
        ends = Signal(reset_less=True)
        plan = schedule(notional, clock_mhz=CLOCK_MHZ)
        m.submodules.notional = product = Pipeline(plan)
        m.d.comb += [product.i_price.eq(row.price), product.i_qty.eq(released)]
        product_wait = Signal(range(plan.latency + 1))

        event = self.o_event.p
        is_new = record_type == RecordType.NEW
        is_cancel = record_type == RecordType.CANCEL
        known_symbol = Signal()
        m.d.comb += known_symbol.eq((symbol_index < self.symbol_count) & stock.any())
        trader = asked("trader_index")
        new_row = Signal(_ROW)
        m.d.comb += [
            new_row.used.eq(1),
            new_row.cl_ord_id.eq(cl_ord_id),
            new_row.symbol_index.eq(symbol_index),
            new_row.trader.eq(Mux(trader > _NO_TRADER, _NO_TRADER, trader)),
            new_row.buys.eq(asked("side") == Side.BUY),
            new_row.price.eq(asked("price")),
            new_row.leaves_qty.eq(asked("order_qty")),
        ]
        left_row = Signal(_ROW)
        m.d.comb += [
            left_row.eq(row),
            left_row.leaves_qty.eq(row.leaves_qty - taken_qty),
            left_row.used.eq(~ends),
        ]

        def write_row(value):
            m.d.comb += [order_write.en.eq(1), order_write.data.eq(value)]

        m.d.comb += order_write.addr.eq(
            Mux(told == Told.SENT, cl_ord_id, answer.cl_ord_id)[: len(order_read.addr)]
        )

        def ask(source, kind):
            """Tell the gate of an order."""
            m.d.comb += [
                self.o_event.valid.eq(1),
                event.kind.eq(kind),
                event.now_ns.eq(now_ns),
                event.symbol_index.eq(source.symbol_index),
                event.trader.eq(source.trader),
                event.buys.eq(source.buys),
                event.price.eq(source.price),
            ]

        def deny(reason):
            m.d.sync += [told.eq(Told.DENIED), self.reason.eq(reason)]
            m.next = "Telling the host"

        with m.FSM():
            with m.State("Waiting for work"):
                m.d.comb += waiting.eq(1)
                m.d.sync += told.eq(Told.SENT)
                with m.If(takes_answer):
                    m.next = "Looking up an answer"
                with m.Elif(takes_command):
                    m.next = "Looking up a command"

            # A command.
            with m.State("Looking up a command"):
                m.d.sync += [
                    row.eq(order_read.data),
                    found.eq(order_read.data.used & (order_read.data.cl_ord_id == cl_ord_id)),
                    stock.eq(stock_read.data),
                ]
                m.next = "Asking the gate"
            with m.State("Asking the gate"):
                with m.If(is_new):
                    ask(new_row, event_kind.ORDER)
                    m.d.comb += [
                        event.symbol_index.eq(Mux(known_symbol, symbol_index, _NO_SYMBOL)),
                        event.qty.eq(asked("order_qty")),
                        event.session.eq(session),
                        event.slot.eq(has_slots & ~row.used),
                        event.is_open.eq(1),
                    ]
                    m.next = "Waiting for the gate"
                with m.Elif(~session):
                    deny(DenyReason.SESSION_NOT_READY)
                with m.Elif(is_cancel):
                    with m.If(found):
                        ask(row, event_kind.MESSAGE)
                        m.next = "Sending a message"
                    with m.Else():
                        deny(DenyReason.UNKNOWN_ORDER)
                with m.Elif(record_type == RecordType.MASS_CANCEL):
                    every = _has(asked("flags"), MassCancelFlag.ALL_SYMBOLS)
                    with m.If(every | known_symbol):
                        ask(row, event_kind.MESSAGE)
                        m.d.comb += event.trader.eq(0)
                        m.next = "Sending a message"
                    with m.Else():
                        deny(DenyReason.UNKNOWN_SYMBOL)
                with m.Else():
                    deny(DenyReason.UNKNOWN_ORDER)
            with m.State("Waiting for the gate"):
                decision = self.i_decision.p
                m.d.sync += self.reason.eq(decision.reason)
                with m.If(self.i_decision.valid & (decision.kind == event_kind.ORDER)):
                    m.next = "Sending a message"
                    with m.If(decision.reason != DenyReason.NONE):
                        m.d.sync += told.eq(Told.DENIED)
                        m.next = "Telling the host"
            with m.State("Sending a message"):
                m.d.comb += self.o.valid.eq(~is_new | (text_wait == 0))
                with m.If(self.o.valid & self.o.ready):
                    with m.If(is_new):
                        write_row(new_row)
                        m.d.sync += open_count.eq(open_count + 1)
                    m.next = "Telling the host"

            # An answer.
            with m.State("Looking up an answer"):
                m.d.sync += [
                    row.eq(order_read.data),
                    found.eq(
                        order_read.data.used & (order_read.data.cl_ord_id == answer.cl_ord_id)
                    ),
                    told.eq(Array(_TOLD)[answer.kind.as_value()]),
                ]
                m.next = "Working out an answer"
            with m.State("Working out an answer"):
                fills = (told == Told.CANCELED) | (told == Told.EXECUTED)
                is_all = qty >= row.leaves_qty
                open_taken = Mux(is_all, row.leaves_qty, qty[: len(row.leaves_qty)])
                is_dead = (told == Told.ACCEPTED) & (answer.code[:8] == _DEAD)
                over = (qty - row.leaves_qty)[: len(qty)]
                most = (1 << len(beyond)) - 1
                over = Mux(qty <= row.leaves_qty, 0, Mux(over > most, most, over))
                m.d.sync += [
                    taken_qty.eq(Mux(fills, open_taken, 0)),
                    beyond.eq(over),
                    released.eq(
                        Mux(
                            told == Told.CANCELED,
                            open_taken,
                            Mux(told == Told.EXECUTED, over, row.leaves_qty),
                        )
                    ),
                    ends.eq(Mux(fills, is_all, (told == Told.REJECTED) | is_dead)),
                    product_wait.eq(plan.latency),
                ]
                m.next = "Multiplying"
                with m.If(~found | (told == Told.SENT)):
                    m.next = "Waiting for work"
            with m.State("Multiplying"):
                m.d.sync += product_wait.eq(product_wait - 1)
                with m.If(product_wait == 0):
                    m.next = "Counting an answer"
            with m.State("Counting an answer"):
                money = product.o_result
                m.next = "Telling the host"
                with m.If(told == Told.EXECUTED):
                    with m.If(beyond != 0):  # It was executed, so it counts as open before.
                        ask(row, event_kind.RELEASE)
                        m.d.comb += [event.qty.eq(-released), event.money.eq(-money)]
                    m.next = "Counting an execution"
                with m.Elif((told != Told.ACCEPTED) | ends):
                    ask(row, event_kind.RELEASE)
                    m.d.comb += [
                        event.qty.eq(released),
                        event.money.eq(money),
                        event.ends.eq(ends),
                    ]
                write_row(left_row)
                m.d.sync += open_count.eq(open_count - ends)
            with m.State("Counting an execution"):
                ask(row, event_kind.EXECUTE)
                m.d.comb += [
                    event.qty.eq(qty),
                    event.last_price.eq(answer.price),
                    event.ends.eq(ends),
                ]
                m.next = "Telling the host"

            with m.State("Telling the host"):
                m.d.comb += self.o_record.valid.eq(1)
                with m.If(self.o_record.ready):
                    m.d.comb += [
                        self.sent_stb.eq(told == Told.SENT),
                        self.denied_stb.eq(told == Told.DENIED),
                    ]
                    m.next = "Waiting for work"

        with m.If(sweeping):
            m.d.comb += [
                order_write.addr.eq(swept),
                order_write.en.eq(1),
                order_write.data.eq(Const(0, _ROW.size)),
            ]
        self._send(m, command, stock, digits.text)
        texts = records(command, answer, row.symbol_index, taken_qty, self.reason, now_ns)
        with m.Switch(told):
            for which, text in texts.items():
                with m.Case(which):
                    m.d.comb += self.o_record.payload.eq(text)
        return m

    def _send(self, m, command, stock, text):
        """Say what the message of a command is."""
        o, types = self.o.p, ring.COMMAND.by_code

        def asked(record_type, name):
            return layouts.host(types[record_type], command, name)

        m.d.comb += [
            o.kind.eq(MessageKind.ENTER),
            o.cl_ord_id.eq(asked(RecordType.NEW, "cl_ord_id")),
            o.text.eq(text),
            o.side.eq(asked(RecordType.NEW, "side")),
            o.time_in_force.eq(asked(RecordType.NEW, "time_in_force")),
            o.order_qty.eq(asked(RecordType.NEW, "order_qty")),
            o.price.eq(asked(RecordType.NEW, "price")),
            o.stock.eq(stock),
        ]
        record_type = asked(RecordType.NEW, "record_type")
        with m.If(record_type == RecordType.CANCEL):
            m.d.comb += [
                o.kind.eq(MessageKind.CANCEL),
                o.order_qty.eq(asked(RecordType.CANCEL, "order_qty")),
            ]
        with m.If(record_type == RecordType.MASS_CANCEL):
            m.d.comb += o.kind.eq(MessageKind.MASS_CANCEL)
            with m.If(_has(asked(RecordType.MASS_CANCEL, "flags"), MassCancelFlag.ALL_SYMBOLS)):
                m.d.comb += o.stock.eq(_BLANKS)


# What an answer becomes, SENT being none; none is ever due to a replacement, as none was sent.
_TOLD = [
    {
        AnswerKind.ACCEPTED: Told.ACCEPTED,
        AnswerKind.CANCELED: Told.CANCELED,
        AnswerKind.EXECUTED: Told.EXECUTED,
        AnswerKind.REJECTED: Told.REJECTED,
    }.get(kind, Told.SENT)
    for kind in AnswerKind
]


def _has(flags, flag):
    """Whether a flag is set."""
    return flags[int(flag).bit_length() - 1]
