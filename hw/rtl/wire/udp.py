"""Where a UDP datagram ends, and whether its checksum is right. [RFC 768]"""

from functools import reduce
from operator import add

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.wire.checksum import WORD_BITS, is_complete, words_of
from hw.rtl.wire.headers import (
    IP_WORDS,
    UDP_WORDS,
    WORD,
    any_of,
    check_width,
    chosen,
    last_lane,
    places,
    slot_count,
    slot_of,
    within,
)
from protocol import moldudp64
from protocol.emit import amaranth_layout as layouts
from protocol.ip import UDP, IpProtocol

LENGTH_BITS = 16


class UdpCheck(wiring.Component):
    """Measures a UDP datagram, and adds up its words and those of its pseudo header.

    Latency is 1 cycle from the word with the length to all that follows from it, and 3 cycles from
    a beat to ``sum_good``. Throughput is 1 beat per cycle. What is told of a datagram holds until
    the next one.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    places : ``In(places(width))``
        What the slots of a beat hold.
    words : ``In(data.ArrayLayout(32, slot_count(width)))``
        Their words, the first byte in bits 7:0.
    valid, first, last : ``In(1)``
        There is a beat, whether or not words end in it; it is a frame's first, or last.
    data : ``In(unsigned(8 * width))``
        Its bytes. An even byte of the frame is in an even lane.
    room : ``In(unsigned(16))``
        Bytes that IPv4 leaves for the datagram.
    end : ``Out(signed(17))``
        Place of the datagram's last byte, counted from lane 0 of the next beat. Without meaning
        before the length is known.
    length_wrong : ``Out(1)``
        The length is none of a datagram that fits.
    no_mold : ``Out(1)``
        It leaves too few bytes for a MoldUDP64 header.
    sum_good : ``Out(1)``
        There is no checksum, or it is right.

    Raises
    ------
    ValueError
        If ``width`` is neither 1 nor 8.
    """

    def __init__(self, width: int) -> None:
        check_width(width)
        self.width, self.slots = width, slot_count(width)
        super().__init__(
            {
                "places": In(places(width)),
                "words": In(data.ArrayLayout(8 * WORD, self.slots)),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "data": In(8 * width),
                "room": In(LENGTH_BITS),
                "end": Out(signed(LENGTH_BITS + 1)),
                "length_wrong": Out(1),
                "no_mold": Out(1),
                "sum_good": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, slots = self.width, range(self.slots)
        places = self.places

        # The beat at hand: whether it holds the length.
        here = [
            places.step & places.there[slot] & places.udp[slot][UDP_WORDS - 1] for slot in slots
        ]
        headers = [within(UDP, UDP_WORDS - 1, self.words[slot]) for slot in slots]
        lengths = [layouts.host(UDP, header, "length") for header in headers]
        length = Signal(LENGTH_BITS)
        m.d.comb += length.eq(chosen(here, lengths))

        # Stage 1: what follows from the length.
        s1_in_udp = Signal()
        s1_end_known = Signal()
        s1_checked = Signal(reset_less=True)
        with m.If(self.valid):
            m.d.sync += self.end.eq(self.end - width)
        with m.If(any_of(here)):
            behind = [Const(last_lane(width, slot) - UDP.size - width) for slot in slots]
            checksums = [layouts.host(UDP, header, "checksum") for header in headers]
            m.d.sync += [
                self.end.eq(length + chosen(here, behind)),
                self.length_wrong.eq((length < UDP.size) | (length > self.room)),
                self.no_mold.eq(length < UDP.size + moldudp64.HEADER.size),
                s1_end_known.eq(1),
                s1_checked.eq(chosen(here, checksums).any()),
            ]
        with m.If(places.step & any_of(places.udp[slot][0] for slot in slots)):
            m.d.sync += s1_in_udp.eq(1)
        with m.If(self.valid & self.last):
            m.d.sync += [s1_in_udp.eq(0), s1_end_known.eq(0)]

        def is_inside(lane: int) -> Value:
            """Whether a lane is before the end, which may become known in this very beat."""
            low = (width - 1).bit_length()
            reached = ~self.end[-1] & (self.end[low:-1].any() | (self.end[:low] >= lane))
            inside = ~s1_end_known | reached
            for slot in slots:
                behind = lane - last_lane(width, slot)
                if behind > 0:
                    short = lengths[slot][:WORD]
                    fits = lengths[slot][WORD:].any() | (short >= UDP.size + behind)
                    inside &= ~here[slot] | fits
            return inside

        def is_summed(lane: int) -> Value:
            slot = slot_of(width, lane)
            addresses = places.ip[slot][IP_WORDS - 2 :].any()
            datagram = s1_in_udp | any_of(places.udp[begun][0] for begun in range(slot + 1))
            # A frame that ends before the datagram is refused whatever the sum is.
            return (addresses | datagram) & is_inside(lane)

        s1_valid = Signal()
        s1_first = Signal(reset_less=True)
        s1_data = Signal(8 * width, reset_less=True)
        s1_summed = Signal(width, reset_less=True)
        s1_length = Signal(WORD_BITS, reset_less=True)
        """The length as a word of the pseudo header, once."""
        m.d.sync += [
            s1_valid.eq(self.valid),
            s1_first.eq(self.first),
            s1_data.eq(self.data),
            s1_summed.eq(Cat(is_summed(lane) for lane in range(width))),
            s1_length.eq(Mux(any_of(here), layouts.wire(UDP, length, "length"), 0)),
        ]

        # Stage 2: the sum of a beat.
        kept = Cat(
            s1_data.word_select(lane, 8) & s1_summed[lane].replicate(8) for lane in range(width)
        )
        if width == 1:
            s1_odd = Signal(reset_less=True)
            with m.If(self.valid):
                m.d.sync += s1_odd.eq(~self.first & ~s1_odd)
            kept = Mux(s1_odd, kept << 8, kept)
        part = reduce(add, words_of(kept))
        s2_valid = Signal()
        s2_first = Signal(reset_less=True)
        s2_part = Signal(part.shape(), reset_less=True)
        s2_length = Signal(WORD_BITS, reset_less=True)
        s2_checked = Signal(reset_less=True)
        m.d.sync += [
            s2_valid.eq(s1_valid),
            s2_first.eq(s1_first),
            s2_part.eq(part),
            s2_length.eq(s1_length),
            s2_checked.eq(s1_checked),
        ]

        # Stage 3: the sum of all beats. Its carries are added with the next beat.
        s3_sum = Signal(WORD_BITS + 3, reset_less=True)
        s3_checked = Signal(reset_less=True)
        m.d.sync += s3_checked.eq(s2_checked)
        with m.If(s2_valid):
            carried = s3_sum[:WORD_BITS] + s3_sum[WORD_BITS:]
            m.d.sync += s3_sum.eq(carried + s2_part + s2_length)
            with m.If(s2_first):
                m.d.sync += s3_sum.eq(IpProtocol.UDP << 8)
        m.d.comb += self.sum_good.eq(~s3_checked | is_complete(s3_sum))
        return m
