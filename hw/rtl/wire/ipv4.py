"""What an IPv4 header says of its packet. [RFC 791: 3.1]"""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.wire.checksum import WORD_BITS, is_complete
from hw.rtl.wire.headers import IP_WORDS, WORD, check_width, last_lane, places, slot_count
from protocol.emit import amaranth_layout as layouts
from protocol.ip import IPV4, IpProtocol

LENGTH_BITS = 16
_VERSION = 4
_IHL_MIN = IPV4.size // WORD
_SUM_BITS = WORD_BITS + 5
"""Bits of a sum over the longest header, of 30 words of 16 bits."""


class Ipv4Check(wiring.Component):
    """Judges an IPv4 header while it arrives.

    Latency is 2 cycles from a word to what it tells, and 3 to ``right`` but for ``sum_good``.
    Throughput is 1 beat per cycle. What is told of a header holds until the next one.

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
    sums : ``In(data.ArrayLayout(17, slot_count(width)))``
        The sum of the two 16-bit words in each.
    valid : ``In(1)``
        There is a beat, whether or not words end in it.
    count : ``In(range(width + 1))``
        Bytes in it.
    shaped : ``Out(1)``
        Version and header length are right.
    fragment : ``Out(1)``
        The packet is a fragment.
    is_udp : ``Out(1)``
        Its protocol is UDP.
    room : ``Out(signed(17))``
        Bytes that the total length leaves for the payload. Below zero it is wrong.
    sum_good : ``Out(1)``
        The header checksum is right.
    cut : ``Out(1)``
        The packet ends beyond the last beat.
    right : ``Out(1)``
        The packet may hold a datagram, if ``sum_good``.

    Raises
    ------
    ValueError
        If ``width`` is neither 1 nor 8.
    """

    def __init__(self, width: int) -> None:
        check_width(width)
        self.width = width
        slots = slot_count(width)
        super().__init__(
            {
                "places": In(places(width)),
                "words": In(data.ArrayLayout(8 * WORD, slots)),
                "sums": In(data.ArrayLayout(WORD_BITS + 1, slots)),
                "valid": In(1),
                "count": In(range(width + 1)),
                "shaped": Out(1),
                "fragment": Out(1),
                "is_udp": Out(1),
                "room": Out(signed(LENGTH_BITS + 1)),
                "sum_good": Out(1),
                "cut": Out(1),
                "right": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        slots = range(slot_count(self.width))
        places = self.places

        # Stage 1: the header, its sum, and the bytes of the frame from its first one on.
        s1_header = Signal(8 * IPV4.size, reset_less=True)
        s1_sum = Signal(_SUM_BITS, reset_less=True)
        s1_available = Signal(LENGTH_BITS + 1, reset_less=True)
        with m.If(self.valid):
            m.d.sync += s1_available.eq(s1_available + self.count)
        with m.If(places.step):
            added = [Mux(places.ip_header[slot], self.sums[slot], 0) for slot in slots]
            m.d.sync += s1_sum.eq(sum(added, Mux(places.ip_first.any(), 0, s1_sum)))
            for slot in slots:
                with m.If(places.ip_first[slot]):
                    passed = last_lane(self.width, slot) + 1 - WORD
                    m.d.sync += s1_available.eq(self.count - passed)
                for word in range(IP_WORDS):
                    with m.If(places.ip[slot][word]):
                        m.d.sync += s1_header.word_select(word, 8 * WORD).eq(self.words[slot])

        # Stage 2: what it says.
        ihl = layouts.part(IPV4, s1_header, "version_ihl", "ihl")
        version = layouts.part(IPV4, s1_header, "version_ihl", "version")
        total = layouts.host(IPV4, s1_header, "total_length")
        more = layouts.part(IPV4, s1_header, "flags_fragment", "more_fragments")
        offset = layouts.part(IPV4, s1_header, "flags_fragment", "fragment_offset")
        m.d.sync += [
            self.shaped.eq((version == _VERSION) & (ihl >= _IHL_MIN)),
            self.fragment.eq(more | offset.any()),
            self.is_udp.eq(layouts.host(IPV4, s1_header, "protocol") == IpProtocol.UDP),
            self.room.eq(total - ihl * WORD),
            self.sum_good.eq(is_complete(s1_sum)),
            self.cut.eq(total > s1_available),
        ]

        # Stage 3: what is known before the sum is, and need not be read again with it.
        m.d.sync += self.right.eq(self.shaped & ~self.fragment & self.is_udp & ~self.room[-1])
        return m
