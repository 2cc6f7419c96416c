"""Where the headers of a frame lie, word by word. [IEEE 802.3: 3.1.1; IEEE 802.1Q: 9.6]

An Ethernet header of 14 bytes is followed by headers of whole words of 4 bytes, so all of them end
where a word ends that is two bytes off a word of the frame. In a beat of one byte such a word ends,
or none does; in a beat of eight two end, in lanes 1 and 5, and a third begins in lanes 6 and 7. The
words of a beat are its slots: slot 0, slot 1 at eight bytes, and last the one that only begins.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.params import WIDTHS
from protocol.emit import amaranth_layout as layouts
from protocol.ethernet import ETHERNET, VLAN_TAG, EtherType
from protocol.ip import IPV4, UDP
from protocol.layout import Layout
from protocol.moldudp64 import HEADER

WORD = 4
"""Bytes of a word."""
IP_WORDS = IPV4.size // WORD
UDP_WORDS = UDP.size // WORD
DATAGRAM_WORDS = UDP_WORDS + HEADER.size // WORD
"""Words of a datagram before its first message block."""
_TYPE_WORD = ETHERNET.size // WORD
"""Word of a frame that ends with the EtherType. A tag is the word after it."""
_BEFORE = -ETHERNET.size % WORD
"""Bytes by which a word begins before a word of the frame."""
_IHL_BITS = 4


def check_width(width: object) -> None:
    """Refuse a width that no beat has."""
    if width not in WIDTHS:
        raise ValueError(f"width must be 1 or 8, not {width!r}")


def slot_count(width: int) -> int:
    """Words that can end in a beat."""
    return max(width // WORD, 1)


def slot_of(width: int, lane: int) -> int:
    """The slot that a lane belongs to."""
    return (lane + _BEFORE) // WORD if width > 1 else 0


def last_lane(width: int, slot: int) -> int:
    """The lane of the last byte of a slot's word."""
    return WORD * (slot + 1) - _BEFORE - 1 if width > 1 else 0


def within(layout: Layout, word: int, bits: Value) -> Value:
    """Return a header of which one word alone is there, for its fields to be read from."""
    before = 8 * WORD * word
    return Cat(Const(0, before), bits, Const(0, 8 * layout.size - before - len(bits)))


def any_of(bits: Iterable[Value]) -> Value:
    """Whether one of some bits is set."""
    return reduce(or_, bits, Const(0, 1))


def chosen(places_here: Sequence[Value], values: Sequence[Value]) -> Value:
    """The value of the slot whose place it is, if there is one."""
    return values[0] if len(values) == 1 else Mux(places_here[0], *values)


def places(width: int) -> data.StructLayout:
    """The headers' words that the slots of a beat hold, when ``step``: words end in it.

    ``there`` has a bit for each slot whose word is in the frame whole. ``ip`` and ``udp`` have for
    each slot a bit for each word: of the IPv4 header without options; of the UDP header and the
    MoldUDP64 header behind it. ``ip_first`` has a bit for each slot with the first word of an IPv4
    header, if the packet is one of IPv4, and ``ip_header`` for each with any, options included.
    """
    slots = slot_count(width)
    return data.StructLayout(
        {
            "step": 1,
            "there": slots,
            "ip": data.ArrayLayout(IP_WORDS, slots + 1),
            "udp": data.ArrayLayout(DATAGRAM_WORDS, slots + 1),
            "ip_header": slots,
            "ip_first": slots,
        }
    )


REACHED = data.StructLayout({"packet": 1, "ipv4": 1, "ip": 1, "ip_options": 1, "udp": 1})
"""How far a frame goes: to the EtherType of its packet, which is that of IPv4; to the end of the
IPv4 header without options, and with them; to the end of the UDP header."""


class HeaderTracker(wiring.Component):
    """Tells which word of which header is in each slot of a beat.

    One bit for each word moves on with the words of a frame; only those of the IPv4 header, whose
    length varies, are counted. A header is found where the ones before announce it, whether or not
    they are right.

    Latency is 1 cycle, and 2 to ``reached``. Throughput is 1 beat per cycle, with a cycle without
    one between frames.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Frames without check sequence. The first beat begins in lane 0 or 4; none is empty.
    words : ``In(data.ArrayLayout(32, slot_count(width)))``
        The words that ended in the last beat, their first byte in bits 7:0.
    o : ``Out(places(width))``
        What the slots of the last beat hold.
    reached : ``Out(REACHED)``
        How far the frame went with the beat before. Stands still when it has ended.
    block_next : ``Out(slot_count(width))``
        The slots of the beat at ``i`` itself in which the MoldUDP64 header ends.

    Raises
    ------
    ValueError
        If ``width`` is neither 1 nor 8.
    """

    def __init__(self, width: int) -> None:
        check_width(width)
        self.width, self.slots = width, slot_count(width)
        slots = self.slots
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "words": In(data.ArrayLayout(8 * WORD, slots)),
                "o": Out(places(width)),
                "reached": Out(REACHED),
                "block_next": Out(slots),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, slots, i = self.width, self.slots, self.i

        # Stage 0: whether words end in the beat.
        s0_ends = Signal(init=1)
        if width == 1:
            s0_place = Signal(range(WORD))
            m.d.comb += s0_ends.eq(~i.p.first & (s0_place == WORD - 1 - _BEFORE))
            with m.If(i.valid):
                m.d.sync += s0_place.eq(Mux(i.p.first, 1, s0_place + 1))

        # Stage 1: which words they are. A vector has a bit for each word that slot 0 of the next
        # beat may hold.
        s1_step = Signal()
        s1_there = Signal(slots, reset_less=True)
        s1_first = Signal()
        s1_last = Signal()
        s1_start = Signal(range(width), reset_less=True)
        s1_frame = Signal(_TYPE_WORD + 2)
        s1_tagged = Signal(reset_less=True)
        s1_ip = Signal(IP_WORDS)
        s1_in_ip = Signal()
        s1_ip_left = Signal(_IHL_BITS, reset_less=True)
        s1_udp = Signal(DATAGRAM_WORDS)
        m.d.sync += [
            s1_step.eq(i.valid & s0_ends),
            s1_there.eq(Cat(i.p.count > last_lane(width, slot) for slot in range(slots))),
            s1_first.eq(i.valid & i.p.first),
            s1_last.eq(i.valid & i.p.last),
            s1_start.eq(i.p.start),
        ]

        # It has the same place in its word whether or not it is a tag's.
        types = [layouts.host(VLAN_TAG, self.words[slot], "ether_type") for slot in range(slots)]
        type_ends = [s1_frame[_TYPE_WORD - slot] for slot in range(slots)]
        tag_ends = [s1_frame[_TYPE_WORD + 1] & s1_tagged]
        if slots > 1:
            tag_ends.append(type_ends[0] & (types[0] == EtherType.VLAN))
        s1_packet = Signal(slots)
        """The slots that end with the EtherType of a packet."""
        s1_is_ipv4 = Signal(slots)
        for slot in range(slots):
            untagged = type_ends[slot] & (types[slot] != EtherType.VLAN)
            m.d.comb += [
                s1_packet[slot].eq(tag_ends[slot] | untagged),
                s1_is_ipv4[slot].eq(s1_packet[slot] & (types[slot] == EtherType.IPV4)),
            ]

        def ip_at(word: int, slot: int) -> Value:
            """A header announced in a slot begins in the next one."""
            return s1_ip[word - slot] if word >= slot else s1_is_ipv4[slot - word - 1]

        def udp_at(word: int, slot: int) -> Value:
            """The datagram begins when no word of the IPv4 header is left."""
            left = slot - word
            return s1_udp[-left] if left < 0 else s1_in_ip & (s1_ip_left == left)

        def ip_first_at(slot: int) -> Value:
            """Behind any EtherType, when it comes in this beat: to compare it takes too long."""
            return type_ends[slot - 1] | tag_ends[slot - 1] if slot else s1_ip[0]

        m.d.comb += [
            self.o.step.eq(s1_step),
            self.o.there.eq(s1_there),
            self.o.ip_first.eq(Cat(ip_first_at(slot) for slot in range(slots))),
            self.o.ip_header.eq(
                Cat(
                    self.o.ip_first[: slot + 1].any() | (s1_in_ip & (s1_ip_left > slot))
                    for slot in range(slots)
                )
            ),
        ]
        for slot in range(slots + 1):
            m.d.comb += [
                self.o.ip[slot].eq(Cat(ip_at(word, slot) for word in range(IP_WORDS))),
                self.o.udp[slot].eq(Cat(udp_at(word, slot) for word in range(DATAGRAM_WORDS))),
            ]

        with m.If(s1_step):
            m.d.sync += [
                s1_frame.eq(s1_frame << slots),
                s1_ip.eq(self.o.ip[slots]),
                s1_udp.eq(self.o.udp[slots]),
                s1_ip_left.eq(s1_ip_left - slots),
            ]
            with m.If(s1_in_ip & (s1_ip_left < slots)):
                m.d.sync += s1_in_ip.eq(0)
            for slot in range(slots):
                with m.If(type_ends[slot]):
                    m.d.sync += s1_tagged.eq(types[slot] == EtherType.VLAN)
                with m.If(self.o.ip[slot][0]):
                    m.d.sync += s1_in_ip.eq(1)
                with m.If(self.o.ip_first[slot]):
                    header = within(IPV4, 0, self.words[slot])
                    ihl = layouts.part(IPV4, header, "version_ihl", "ihl")
                    m.d.sync += s1_ip_left.eq(ihl - (slots - slot))
        with m.If(s1_first):
            # A first byte in the upper half puts everything one word later.
            words = Mux(s1_start == 0, slots, slots - 1) if width > 1 else 0
            m.d.sync += s1_frame.eq(Const(1, 1) << words)
        with m.If(s1_last):
            m.d.sync += [s1_frame.eq(0), s1_ip.eq(0), s1_in_ip.eq(0), s1_udp.eq(0)]

        # The beat at i has the words behind those of the beat before, if these are not counted yet.
        for slot in range(slots):
            word = DATAGRAM_WORDS - 1 - slot
            m.d.comb += self.block_next[slot].eq(
                s0_ends & Mux(s1_step, s1_udp[word - slots], s1_udp[word])
            )

        # Stage 2: how far the frame goes.
        ends = {
            "packet": s1_packet,
            "ipv4": s1_is_ipv4,
            "ip": Cat(self.o.ip[slot][-1] for slot in range(slots)),
            "ip_options": Cat(s1_in_ip & (s1_ip_left == slot + 1) for slot in range(slots)),
            "udp": Cat(self.o.udp[slot][UDP_WORDS - 1] for slot in range(slots)),
        }
        with m.If(s1_first):
            m.d.sync += self.reached.eq(0)
        with m.Elif(s1_step):
            for name, places_ended in ends.items():
                with m.If((places_ended & s1_there).any()):
                    m.d.sync += self.reached[name].eq(1)
        return m
