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
from hw.rtl.order.rows import row_layout
from hw.rtl.order.shapes import (
    ANSWER,
    MESSAGE,
    QUANTITY,
    RECORD,
    SET_STOCK,
    AnswerKind,
    MessageKind,
    narrowed,
    padded,
)
from kernels.risk import added_notional
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


class Engine(wiring.Component):
    """Takes commands and answers, asks the gate, remembers orders, and writes records.

    One thing at a time: an answer before a command, each as soon as there is a slot for its record.

    An order is remembered in the row of its number modulo ``order_count``, and a new one or a
    replacement is denied with ``NO_RING_SLOT`` while another one has the row: numbers only rise, so
    that is an order that is older by as many numbers. None that may still execute is ever
    forgotten. It is also denied when slots for its answers are not free beyond those of the orders
    that are open.

    An order can have one replacement under way, and that one none: another is denied with
    ``UNKNOWN_ORDER``. Until the venue answers, both stand, and the gate counts of each share the
    higher price. When an order ends its replacement ends with it. An Order Replaced that names
    another original than was asked for is ignored.

    An execution beyond what is open counts with ``2 ** 20 - 1`` shares at most, and so do the
    shares of an Order Replaced; OUCH knows no more than 999,999.

    Latency is 2 cycles from a NEW taken to ``o_event`` and 4 from a REPLACE, 1 from a decision to
    the ``o`` of either, and 3 from a CANCEL or MASS_CANCEL taken to its ``o``. A NEW takes 12
    cycles with a gate of 7, a REPLACE 15, a CANCEL 5, an answer 7 and those of
    ``kernels.risk.added_notional``, and once more as much when it changes a second order. After
    reset nothing is taken for ``order_count`` cycles, or ``symbol_count`` if there are more, while
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
        layout = row_layout(self.order_count)
        m.submodules.orders = orders = Memory(shape=layout, depth=self.order_count, init=[])
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
        row = Signal(layout, reset_less=True)
        other = Signal(layout, reset_less=True)  # Its partner, or what it is to replace.
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
        orig_cl_ord_id = layouts.host(ring.REPLACE, command, "orig_cl_ord_id")
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
            order_read.addr.eq(row.partner),
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

        # What an order adds, and what is open of one, in money.
        plan = schedule(added_notional, clock_mhz=CLOCK_MHZ)
        m.submodules.added = product = Pipeline(plan)
        weighed = Signal(_WEIGHED, reset_less=True)
        added_qty = Signal(QUANTITY)
        product_wait = Signal(range(plan.latency + 1))
        m.d.comb += [
            product.i_price.eq(weighed.price),
            product.i_order_qty.eq(weighed.qty),
            product.i_orig_price.eq(weighed.orig_price),
            product.i_orig_qty.eq(weighed.orig_qty),
            added_qty.eq(_without(weighed.qty, weighed.orig_qty)),
        ]
        with m.If(product_wait != 0):
            m.d.sync += product_wait.eq(product_wait - 1)

        def weigh(price, qty, orig_price=0, orig_qty=0):
            """Let ``product`` work out the money; it is there when ``product_wait`` is over."""
            m.d.sync += [
                weighed.price.eq(price),
                weighed.qty.eq(qty),
                weighed.orig_price.eq(orig_price),
                weighed.orig_qty.eq(orig_qty),
                product_wait.eq(plan.latency),
            ]

        # What an answer changes.
        qty = answer.qty
        taken_qty = Signal(QUANTITY, reset_less=True)  # Off what was open.
        beyond = Signal(reset_less=True)
        released = Signal(QUANTITY, reset_less=True)
        ends = Signal(reset_less=True)
        has_other = Signal()
        money = product.o_result
        money_left = Signal(len(money), reset_less=True)

        event = self.o_event.p
        is_new = record_type == RecordType.NEW
        is_replace = record_type == RecordType.REPLACE
        is_cancel = record_type == RecordType.CANCEL
        known_symbol = Signal()
        m.d.comb += known_symbol.eq((symbol_index < self.symbol_count) & stock.any())
        trader = asked("trader_index")
        placed = Signal(layout, reset_less=True)  # The order that a command asks for.
        left_row = Signal(layout)
        m.d.comb += [
            left_row.eq(row),
            left_row.leaves_qty.eq(row.leaves_qty - taken_qty),
            left_row.cum_qty.eq(
                Mux(told == Told.EXECUTED, narrowed(row.cum_qty + qty, 32), row.cum_qty)
            ),
            left_row.used.eq(~ends),
            has_other.eq(
                (row.is_replaced & (ends | (told == Told.CANCELED))) | (row.replaces & ends)
            ),
        ]

        def write_row(at, value):
            m.d.comb += [
                order_write.en.eq(1),
                order_write.addr.eq(at[: len(order_write.addr)]),
                order_write.data.eq(value),
            ]

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
                m.d.comb += order_read.addr.eq(
                    Mux(
                        self.i_answer.valid,
                        self.i_answer.p.cl_ord_id,
                        asked("cl_ord_id", self.i.payload),
                    )[: len(order_read.addr)]
                )
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
                    placed.eq(0),
                    placed.used.eq(1),
                    placed.cl_ord_id.eq(cl_ord_id),
                    placed.symbol_index.eq(symbol_index),
                    placed.trader.eq(Mux(trader > _NO_TRADER, _NO_TRADER, trader)),
                    placed.buys.eq(asked("side") == Side.BUY),
                    placed.price.eq(asked("price")),
                ]
                m.d.comb += order_read.addr.eq(orig_cl_ord_id[: len(order_read.addr)])
                weigh(asked("price"), asked("order_qty"))
                m.next = "Asking the gate"
                with m.If(is_replace):
                    m.next = "Looking up the original"
                with m.Else():
                    m.d.sync += placed.leaves_qty.eq(asked("order_qty"))
            with m.State("Looking up the original"):
                original = order_read.data
                is_single = ~original.replaces & ~original.is_replaced
                m.d.sync += [
                    other.eq(original),
                    found.eq(original.used & (original.cl_ord_id == orig_cl_ord_id) & is_single),
                ]
                m.next = "Weighing a replacement"
            with m.State("Weighing a replacement"):
                with m.If(found):  # Otherwise it is measured as a new order, as far as it goes.
                    m.d.sync += [
                        placed.symbol_index.eq(other.symbol_index),
                        placed.trader.eq(other.trader),
                        placed.buys.eq(other.buys),
                        placed.replaces.eq(1),
                        placed.partner.eq(orig_cl_ord_id[: len(placed.partner)]),
                        placed.order_qty.eq(asked("order_qty")),
                    ]
                    left_qty = _without(asked("order_qty"), other.cum_qty)
                    weigh(asked("price"), left_qty, other.price, other.leaves_qty)
                m.next = "Asking the gate"
            with m.State("Asking the gate"):
                with m.If(is_new | is_replace):
                    ask(placed, event_kind.ORDER)
                    with m.If(~known_symbol & ~placed.replaces):
                        m.d.comb += event.symbol_index.eq(_NO_SYMBOL)
                    m.d.comb += [
                        event.qty.eq(weighed.qty),
                        event.orig_qty.eq(weighed.orig_qty),
                        event.orig_price.eq(weighed.orig_price),
                        event.session.eq(session),
                        event.slot.eq(has_slots & ~row.used),
                        event.is_open.eq(is_new | placed.replaces),
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
                with m.Else():  # MASS_CANCEL
                    every = _has(asked("flags"), MassCancelFlag.ALL_SYMBOLS)
                    with m.If(every | known_symbol):
                        ask(row, event_kind.MESSAGE)
                        m.d.comb += event.trader.eq(0)
                        m.next = "Sending a message"
                    with m.Else():
                        deny(DenyReason.UNKNOWN_SYMBOL)
            with m.State("Waiting for the gate"):
                decision = self.i_decision.p
                m.d.sync += self.reason.eq(decision.reason)
                with m.If(self.i_decision.valid & (decision.kind == event_kind.ORDER)):
                    m.next = "Sending a message"
                    with m.If(decision.reason != DenyReason.NONE):
                        m.d.sync += told.eq(Told.DENIED)
                        m.next = "Telling the host"
            with m.State("Sending a message"):
                has_all = (text_wait | product_wait) == 0
                m.d.comb += self.o.valid.eq(has_all | ~(is_new | is_replace))
                with m.If(self.o.valid & self.o.ready):
                    m.next = "Telling the host"
                    with m.If(is_new | is_replace):
                        write_row(cl_ord_id, placed)
                        m.d.sync += open_count.eq(open_count + 1)
                    with m.If(is_replace):
                        m.d.comb += [
                            order_write.data.reserved_qty.eq(added_qty),
                            order_write.data.reserved_notional.eq(money),
                        ]
                        m.next = "Marking the original"
            with m.State("Marking the original"):
                write_row(orig_cl_ord_id, other)
                m.d.comb += [
                    order_write.data.is_replaced.eq(1),
                    order_write.data.partner.eq(cl_ord_id[: len(other.partner)]),
                ]
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
                may_die = (told == Told.ACCEPTED) | (told == Told.REPLACED)
                is_dead = may_die & (answer.code[:8] == _DEAD)
                over = narrowed(_without(qty, row.leaves_qty), len(released))
                what = Signal(QUANTITY)
                with m.Switch(told):
                    with m.Case(Told.CANCELED):
                        m.d.comb += what.eq(open_taken)
                    with m.Case(Told.EXECUTED):
                        m.d.comb += what.eq(over)
                    with m.Case(Told.REPLACED):  # What is open from now on, to be taken off.
                        m.d.comb += what.eq(narrowed(qty, len(released)))
                    with m.Default():
                        m.d.comb += what.eq(row.leaves_qty)
                m.d.sync += [
                    taken_qty.eq(Mux(fills, open_taken, 0)),
                    beyond.eq(qty > row.leaves_qty),
                    released.eq(what),
                    ends.eq(Mux(fills, is_all, (told == Told.REJECTED) | is_dead)),
                ]
                weigh(row.price, what)
                m.next = "Looking up the partner"
                with m.If(~found | (told == Told.SENT) | ((told == Told.REPLACED) & ~row.replaces)):
                    m.next = "Waiting for work"
            with m.State("Looking up the partner"):
                m.d.sync += other.eq(order_read.data)
                with m.If(product_wait == 0):
                    m.next = "Counting an answer"
            with m.State("Counting an answer"):
                m.next = "Telling the host"
                with m.If(has_other):
                    m.next = "Counting the other order"
                with m.If(told == Told.EXECUTED):
                    # It was executed, so it counts as open before. What a replacement reserves is
                    # let go when it ends, even before it is answered.
                    with m.If(beyond | row.replaces):
                        ask(row, event_kind.RELEASE)
                        m.d.comb += [
                            event.qty.eq(row.reserved_qty - released),
                            event.money.eq(row.reserved_notional - money),
                        ]
                    m.next = "Counting an execution"
                with m.Elif((told == Told.CANCELED) | ((told != Told.REPLACED) & ends)):
                    ask(row, event_kind.RELEASE)
                    m.d.comb += [
                        event.qty.eq(released + row.reserved_qty),
                        event.money.eq(money + row.reserved_notional),
                        event.ends.eq(ends),
                    ]
                write_row(answer.cl_ord_id, left_row)
                m.d.sync += [open_count.eq(open_count - ends), money_left.eq(money)]
                with m.If(told == Told.REPLACED):
                    m.d.comb += [
                        order_write.data.leaves_qty.eq(released),
                        order_write.data.cum_qty.eq(other.cum_qty),
                        order_write.data.replaces.eq(0),
                        order_write.data.reserved_qty.eq(0),
                        order_write.data.reserved_notional.eq(0),
                    ]
                    weigh(other.price, other.leaves_qty)
                    m.next = "Counting the other order"
                    with m.If(other.cl_ord_id != answer.orig_cl_ord_id):
                        m.d.comb += order_write.en.eq(0)
                        m.d.sync += open_count.eq(open_count)
                        m.next = "Waiting for work"
                with m.Elif(has_other):
                    left_qty = _without(other.order_qty, row.cum_qty)
                    weigh(other.price, left_qty, row.price, left_row.leaves_qty)
            with m.State("Counting an execution"):
                ask(row, event_kind.EXECUTE)
                m.d.comb += [
                    event.qty.eq(qty),
                    event.last_price.eq(answer.price),
                    event.ends.eq(ends),
                ]
                m.next = "Telling the host"
                with m.If(has_other):
                    m.next = "Counting the other order"
            with m.State("Counting the other order"), m.If(product_wait == 0):
                write_row(row.partner, other)
                m.next = "Telling the host"
                with m.If(told == Told.REPLACED):  # The original has ended.
                    ask(other, event_kind.RELEASE)
                    m.d.comb += [
                        event.qty.eq(other.leaves_qty + row.reserved_qty - released),
                        event.money.eq(money + row.reserved_notional - money_left),
                        event.ends.eq(1),
                        order_write.data.used.eq(0),
                    ]
                    m.d.sync += open_count.eq(open_count - 1)
                    with m.If(ends):
                        m.next = "Counting a dead replacement"
                with m.Elif(row.replaces):  # The original may be replaced again.
                    m.d.comb += order_write.data.is_replaced.eq(0)
                with m.Elif(ends):  # And its replacement with it.
                    ask(other, event_kind.RELEASE)
                    m.d.comb += [
                        event.qty.eq(other.reserved_qty),
                        event.money.eq(other.reserved_notional),
                        event.ends.eq(1),
                        order_write.data.used.eq(0),
                    ]
                    m.d.sync += open_count.eq(open_count - 1)
                with m.Else():  # What was taken off is open for the replacement.
                    ask(other, event_kind.RELEASE)
                    m.d.comb += [
                        event.qty.eq(other.reserved_qty - added_qty),
                        event.money.eq(other.reserved_notional - money),
                        order_write.data.reserved_qty.eq(added_qty),
                        order_write.data.reserved_notional.eq(money),
                    ]
            with m.State("Counting a dead replacement"):
                ask(row, event_kind.RELEASE)
                m.d.comb += [event.qty.eq(released), event.money.eq(money_left), event.ends.eq(1)]
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
                order_write.data.eq(Const(0, layout.size)),
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
            o.orig_cl_ord_id.eq(asked(RecordType.REPLACE, "orig_cl_ord_id")),
            o.text.eq(text),
            o.side.eq(asked(RecordType.NEW, "side")),
            o.time_in_force.eq(asked(RecordType.NEW, "time_in_force")),
            o.order_qty.eq(asked(RecordType.NEW, "order_qty")),
            o.price.eq(asked(RecordType.NEW, "price")),
            o.stock.eq(stock),
        ]
        record_type = asked(RecordType.NEW, "record_type")
        with m.If(record_type == RecordType.REPLACE):
            m.d.comb += o.kind.eq(MessageKind.REPLACE)
        with m.If(record_type == RecordType.CANCEL):
            m.d.comb += [
                o.kind.eq(MessageKind.CANCEL),
                o.order_qty.eq(asked(RecordType.CANCEL, "order_qty")),
            ]
        with m.If(record_type == RecordType.MASS_CANCEL):
            m.d.comb += o.kind.eq(MessageKind.MASS_CANCEL)
            with m.If(_has(asked(RecordType.MASS_CANCEL, "flags"), MassCancelFlag.ALL_SYMBOLS)):
                m.d.comb += o.stock.eq(_BLANKS)


_WEIGHED = data.StructLayout({"price": 32, "qty": 32, "orig_price": 32, "orig_qty": QUANTITY})
"""An order and what counts as open of its original, as ``added_notional`` takes them."""

# What an answer becomes, SENT being none.
_TOLD = [
    {
        AnswerKind.ACCEPTED: Told.ACCEPTED,
        AnswerKind.CANCELED: Told.CANCELED,
        AnswerKind.EXECUTED: Told.EXECUTED,
        AnswerKind.REJECTED: Told.REJECTED,
        AnswerKind.REPLACED: Told.REPLACED,
    }.get(kind, Told.SENT)
    for kind in AnswerKind
]


def _has(flags, flag):
    """Whether a flag is set."""
    return flags[int(flag).bit_length() - 1]


def _without(value, less):
    """Return what is left of a number, or zero."""
    return Mux(value > less, (value - less)[: len(value)], 0)
