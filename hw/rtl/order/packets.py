"""From the bytes of the venue to the messages that the card must know of."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import enum, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.order.shapes import ANSWER, AnswerKind, narrowed
from protocol import ouch50, soupbintcp
from protocol.emit import amaranth_layout as layouts

_KINDS = {
    ouch50.ORDER_ACCEPTED.code: AnswerKind.ACCEPTED,
    ouch50.ORDER_REPLACED.code: AnswerKind.REPLACED,
    ouch50.ORDER_CANCELED.code: AnswerKind.CANCELED,
    ouch50.AIQ_CANCELED.code: AnswerKind.CANCELED,
    ouch50.ORDER_EXECUTED.code: AnswerKind.EXECUTED,
    ouch50.REJECTED.code: AnswerKind.REJECTED,
}
_MESSAGES = [ouch50.OUTBOUND.by_code[code] for code in _KINDS]
_FIELDS = {
    "cl_ord_id": ("user_ref_num",),
    "orig_cl_ord_id": ("orig_user_ref_num",),
    "ts_venue_ns": ("timestamp",),
    "number": ("order_reference_number", "match_number"),
    "price": ("price",),
    # Self-match prevention calls the shares otherwise.
    "qty": ("quantity", "decrement_shares"),
    # Self-match prevention has a flag as well, of an execution that never was.
    "code": ("order_state", "reason", "liquidity_flag"),
}
"""Where the members of ``ANSWER`` come from: the first of these that a message has."""
_SIZE_MAX = max(message.size for message in _MESSAGES)
_LENGTH_BITS = 16


class _Option(enum.Enum, shape=2):
    """What the next byte of an appendage is."""

    LENGTH = 0
    TAG = 1
    VALUE = 2


class Packets(wiring.Component):
    """Splits a byte stream into SoupBinTCP packets, and reads the OUCH messages in them.

    Packets may begin and end anywhere, and a packet of length zero has no type and means nothing.
    Each Sequenced Data packet gives one answer. It is ``OTHER`` unless it holds a message that
    changes an order, of the published length and with an appendage as ``protocol.ouch50.unpack``
    takes it: its length that of the bytes that follow, every option whole, and those that are
    defined of their length. Bytes wait while an answer is not taken.

    Latency is 2 cycles from the last byte of a packet to its answer. Throughput is 1 byte per
    cycle, with 2 cycles more for an answer.

    Members
    -------
    i : ``In(stream.Signature(8))``
        Bytes of the venue.
    o : ``Out(stream.Signature(ANSWER))``
        Messages of the venue.
    end_stb : ``Out(1)``
        The venue has ended the session.
    is_busy : ``Out(1)``
        There is an answer, or will be without another byte.

    [SoupBinTCP 4.00; OUCH 5.0: 2, 4]
    """

    i: In(stream.Signature(8))
    o: Out(stream.Signature(ANSWER))
    end_stb: Out(1)
    is_busy: Out(1)

    def elaborate(self, platform):
        m = Module()
        byte = self.i.payload
        left = Signal(_LENGTH_BITS, reset_less=True)  # Bytes of the packet from this one on.
        length = Signal(_LENGTH_BITS, reset_less=True)  # Of the message.
        place = Signal(_LENGTH_BITS, reset_less=True)
        kind = Signal(8, reset_less=True)
        message = Signal(8 * _SIZE_MAX, reset_less=True)
        is_answer = kind == soupbintcp.SEQUENCED_DATA.code

        # What the message's first byte says of its shape.
        size = Signal(range(_SIZE_MAX + 1))
        always = Signal()
        with m.Switch(message[:8]):
            for layout in _MESSAGES:
                with m.Case(layout.code):
                    m.d.comb += [
                        size.eq(layout.size),
                        always.eq(layout.appendage is ouch50.Appendage.ALWAYS),
                    ]

        # The appendage.
        appendage_length = Signal(_LENGTH_BITS, reset_less=True)
        option = Signal(_Option, reset_less=True)
        option_left = Signal(8, reset_less=True)
        wrong = Signal(reset_less=True)
        option_length = Array(
            ouch50.OPTIONS[tag].length + 1 if tag in ouch50.OPTIONS else 0
            for tag in range(max(ouch50.OPTIONS) + 1)
        )

        def take_option():
            with m.Switch(option):
                with m.Case(_Option.LENGTH):
                    m.d.sync += [option_left.eq(byte), option.eq(_Option.TAG)]
                    with m.If(byte == 0):
                        m.d.sync += wrong.eq(1)
                with m.Case(_Option.TAG):
                    known = Mux(byte < len(option_length), option_length[byte[:5]], 0)
                    with m.If((known != 0) & (known != option_left)):
                        m.d.sync += wrong.eq(1)
                    m.d.sync += option.eq(Mux(option_left == 1, _Option.LENGTH, _Option.VALUE))
                with m.Default(), m.If(option_left == 1):
                    m.d.sync += option.eq(_Option.LENGTH)
            with m.If(option != _Option.LENGTH):
                m.d.sync += option_left.eq(option_left - 1)

        def take_message():
            for at in range(_SIZE_MAX):
                with m.If(place == at):
                    m.d.sync += message.word_select(at, 8).eq(byte)
            with m.If(place != 0):
                with m.If((place == size) | (place == size + 1)):
                    m.d.sync += appendage_length.eq(Cat(byte, appendage_length[:8]))
                with m.If(place >= size + 2):
                    take_option()

        def finish():
            """The packet ends with this byte."""
            with m.If(is_answer):
                m.next = "Judging a message"
            with m.Else():
                m.d.comb += self.end_stb.eq(kind == soupbintcp.END_OF_SESSION.code)
                m.next = "Reading the upper length"

        appended = (length >= size + 2) & (appendage_length == (length - size - 2)[:_LENGTH_BITS])
        are_options = ~wrong & (option == _Option.LENGTH)
        is_whole = (size != 0) & Mux(length == size, ~always, appended & are_options)

        with m.FSM():
            with m.State("Reading the upper length"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += left[8:].eq(byte)
                with m.If(self.i.valid):
                    m.next = "Reading the lower length"
            with m.State("Reading the lower length"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [left[:8].eq(byte), message[:8].eq(0)]
                    m.next = "Reading the type"
                    with m.If(Cat(byte, left[8:]) == 0):
                        m.next = "Reading the upper length"
            with m.State("Reading the type"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [kind.eq(byte), left.eq(left - 1), length.eq(left - 1)]
                    m.d.sync += [place.eq(0), wrong.eq(0), option.eq(_Option.LENGTH)]
                    m.next = "Reading the message"
                    with m.If(left == 1):
                        m.next = "Ending an empty packet"
            with m.State("Ending an empty packet"):
                m.d.comb += self.is_busy.eq(1)
                finish()
            with m.State("Reading the message"):
                m.d.comb += self.i.ready.eq(1)
                with m.If(self.i.valid):
                    m.d.sync += [left.eq(left - 1), place.eq(place + 1)]
                    take_message()
                    with m.If(left == 1):
                        finish()
            with m.State("Judging a message"):
                m.d.comb += self.is_busy.eq(1)
                m.d.sync += self.o.p.eq(0)
                with m.If(is_whole):
                    self._read(m, message)
                m.next = "Offering an answer"
            with m.State("Offering an answer"):
                m.d.comb += [self.is_busy.eq(1), self.o.valid.eq(1)]
                with m.If(self.o.ready):
                    m.next = "Reading the upper length"
        return m

    def _read(self, m, message):
        with m.Switch(message[:8]):
            for layout in _MESSAGES:
                with m.Case(layout.code):
                    m.d.sync += self.o.p.kind.eq(_KINDS[layout.code])
                    for name, sources in _FIELDS.items():
                        source = next((item for item in sources if item in layout.by_name), None)
                        if source is not None:
                            value = layouts.host(layout, message[: 8 * layout.size], source)
                            m.d.sync += self.o.p[name].eq(narrowed(value, len(self.o.p[name])))
