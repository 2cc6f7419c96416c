"""From Ethernet frames to the UDP datagrams that were subscribed to."""

from collections.abc import Iterable
from functools import reduce
from operator import add, or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.params import WIDTHS
from protocol.emit import amaranth_layout as layouts
from protocol.ethernet import ETHERNET, VLAN_TAG, EtherType
from protocol.ip import IPV4, UDP, IpProtocol
from protocol.layout import Layout, snake
from protocol.reasons import DropReason

_LENGTH_BITS = 16
"""Bits of a length in the IPv4 and UDP headers."""
_OFFSET = signed(_LENGTH_BITS + 2)
"""Place of lane 0 from the first byte of a header: negative before it, and past any length."""
_WORD = 4
"""Unit of the IPv4 header length, in bytes. [RFC 791: 3.1]"""
_IHL_MIN = IPV4.size // _WORD
_IP_VERSION = 4
_SUM_BITS = 2 * _LENGTH_BITS
"""Bits of a checksum before carries are folded: 32,768 words and the pseudo header fit."""


def filter_layout(line_count: int) -> data.StructLayout:
    """Return the layout of a filter entry: the destination of datagrams that go to a line."""
    return data.StructLayout(
        {
            "enabled": 1,
            "address": layouts.shape(IPV4, "destination"),
            "port": layouts.shape(UDP, "destination_port"),
            "line": range(line_count),
        }
    )


def _check_count(name: str, value: object) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be 1 or more, not {value!r}")


def _any(bits: Iterable[Value]) -> Value:
    return reduce(or_, bits, Const(0, 1))


def _is_complete(total: Value) -> Value:
    """Whether a sum of words that holds its checksum fits: 0xFFFF once carries are folded."""
    return total[:_LENGTH_BITS] == ~total[_LENGTH_BITS:_SUM_BITS]


class IpUdpFilter(wiring.Component):
    """Passes on the payload of UDP datagrams to subscribed destinations, and counts the rest.

    A frame is Ethernet II with at most one VLAN tag, IPv4 with any options, UDP. Payload is passed
    on while it arrives; only its last beat waits for the end of the frame, when lengths and
    checksum are known, and is ``bad`` when one is wrong or the frame came in ``bad``. An empty
    payload is one beat with ``count`` 0, when all is well. Bytes keep the lanes they came in.

    Each frame that is not passed on whole gives a strobe with its :class:`DropReason`, as
    ``sim.golden.wire`` decides it, and ``NOT_SUBSCRIBED`` where it finds no fault. A frame that
    came in ``bad`` gives none: the MAC has refused it. Of the entries that match the first counts.

    Latency is 4 cycles from a beat of payload to the same bytes, and from the last beat of a frame
    to the last of its payload and to ``drop_stb``. Throughput is 1 beat per cycle.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.
    entry_count : int
        Destinations that can be subscribed to.
    line_count : int
        Lines that they belong to.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Frames without check sequence. The first beat begins in lane 0 or 4; none is empty.
    filters : ``In(data.ArrayLayout(filter_layout(line_count), entry_count))``
        Subscriptions. Sampled while a frame passes.
    o : ``Out(stream.Signature(beat(width), always_ready=True))``
        Payloads of datagrams.
    o_line : ``Out(range(line_count))``
        Line of the datagram that the beat in ``o`` belongs to.
    drop_stb : ``Out(1)``
        A frame was dropped.
    drop_reason : ``Out(range(...))``
        Its :class:`DropReason`.

    Raises
    ------
    TypeError, ValueError
        If ``width`` is neither 1 nor 8, or a count is no integer of 1 or more.

    [IEEE 802.3: 3.1.1; IEEE 802.1Q: 9.6; RFC 791: 3.1; RFC 768; RFC 1071]
    """

    def __init__(self, width: int, entry_count: int = 4, line_count: int = 2) -> None:
        if width not in WIDTHS:
            raise ValueError(f"width must be 1 or 8, not {width!r}")
        _check_count("entry_count", entry_count)
        _check_count("line_count", line_count)
        self.width, self.entry_count, self.line_count = width, entry_count, line_count
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "filters": In(data.ArrayLayout(filter_layout(line_count), entry_count)),
                "o": Out(stream.Signature(beat(width), always_ready=True)),
                "o_line": Out(range(line_count)),
                "drop_stb": Out(1),
                "drop_reason": Out(range(DropReason.NOT_SUBSCRIBED + 1)),
            }
        )

    def _lanes(self, place: int) -> range:
        """The lanes that a byte ``place`` after a header's start can be in.

        Headers start a whole number of words after each other, the first one in lane 0 or 4.
        """
        return range(place % min(_WORD, self.width), self.width, _WORD)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.width
        lanes = range(width)

        def register(shape: object, name: str, value: object) -> Signal:
            result = Signal(shape, name=name, reset_less=not name.endswith("_valid"))
            m.d.sync += result.eq(value)
            return result

        def named(name: str, value: object) -> Signal:
            """A wire for what is read more than once: an expression would be built each time."""
            result = Signal(Value.cast(value).shape(), name=name)
            m.d.comb += result.eq(value)
            return result

        def capture(beat_now: data.View, valid: Value, offset: Value, layout: Layout, shift: int):
            """A header as it is with this beat's bytes, and as it was registered with them.

            ``offset`` is lane 0's place in it, ``shift`` its own place from a word of the frame.
            """
            now = Signal(8 * layout.size, name=f"{snake(layout.title)}_now")
            kept = Signal(8 * layout.size, reset_less=True, name=f"{snake(layout.title)}_kept")
            m.d.comb += now.eq(kept)
            for place in range(layout.size):
                for lane in self._lanes(place + shift):
                    with m.If(offset == place - lane):
                        byte = beat_now.data.word_select(lane, 8)
                        m.d.comb += now.word_select(place, 8).eq(byte)
            with m.If(valid):
                m.d.sync += kept.eq(now)
            return now, kept

        # Stage 0: where the beat lies in the frame, and the EtherType.
        s0_valid = self.i.valid
        s0_beat = self.i.p
        s0_offset = Signal(_OFFSET)
        s0_offset_next = Signal(_OFFSET, reset_less=True)
        m.d.comb += s0_offset.eq(Mux(s0_beat.first, -s0_beat.start, s0_offset_next))
        # Beyond every length that a header can tell it does not matter how far.
        far = s0_offset >= 1 << _LENGTH_BITS
        with m.If(s0_valid):
            m.d.sync += s0_offset_next.eq(Mux(far, s0_offset, s0_offset + width))
        _, s1_ethernet = capture(s0_beat, s0_valid, s0_offset, ETHERNET, 0)
        s0_tag_offset = named("s0_tag_offset", s0_offset - ETHERNET.size)
        _, s1_vlan = capture(s0_beat, s0_valid, s0_tag_offset, VLAN_TAG, ETHERNET.size)

        # Stage 1: where the beat lies in the packet, and the IPv4 header.
        s1_valid = register(1, "s1_valid", s0_valid)
        s1_beat = register(beat(width), "s1_beat", s0_beat)
        s1_offset = register(_OFFSET, "s1_offset", s0_tag_offset)
        s1_tagged = named(
            "s1_tagged", layouts.host(ETHERNET, s1_ethernet, "ether_type") == EtherType.VLAN
        )
        s1_type = named(
            "s1_type",
            Mux(
                s1_tagged,
                layouts.host(VLAN_TAG, s1_vlan, "ether_type"),
                layouts.host(ETHERNET, s1_ethernet, "ether_type"),
            ),
        )
        s1_ip_offset = Signal(_OFFSET)
        m.d.comb += s1_ip_offset.eq(s1_offset - Mux(s1_tagged, VLAN_TAG.size, 0))
        s1_ip, s2_ip = capture(s1_beat, s1_valid, s1_ip_offset, IPV4, ETHERNET.size)
        s1_ihl = layouts.part(IPV4, s1_ip, "version_ihl", "ihl")

        # Stage 2: where the beat lies in the datagram, the UDP header, and what IPv4 says.
        s2_valid = register(1, "s2_valid", s1_valid)
        s2_beat = register(beat(width), "s2_beat", s1_beat)
        s2_is_ipv4 = register(1, "s2_is_ipv4", s1_type == EtherType.IPV4)
        s2_ip_offset = register(_OFFSET, "s2_ip_offset", s1_ip_offset)
        s2_udp_offset = register(_OFFSET, "s2_udp_offset", s1_ip_offset - s1_ihl * _WORD)
        s2_udp, s3_udp = capture(s2_beat, s2_valid, s2_udp_offset, UDP, ETHERNET.size)
        s2_ihl = layouts.part(IPV4, s2_ip, "version_ihl", "ihl")
        s2_shaped = named(
            "s2_shaped",
            (s2_ihl >= _IHL_MIN)
            & (layouts.part(IPV4, s2_ip, "version_ihl", "version") == _IP_VERSION),
        )
        s2_fragment = named(
            "s2_fragment",
            (
                layouts.part(IPV4, s2_ip, "flags_fragment", "more_fragments")
                | layouts.part(IPV4, s2_ip, "flags_fragment", "fragment_offset").any()
            ),
        )
        s2_to = layouts.host(IPV4, s2_ip, "destination")
        s2_header = named(
            "s2_header", Cat((s2_ip_offset >= -lane) & (s2_udp_offset < -lane) for lane in lanes)
        )
        addresses = IPV4.by_name["source"].offset, IPV4.by_name["destination"].end
        s2_pseudo = named(
            "s2_pseudo",
            Cat(
                (s2_ip_offset >= addresses[0] - lane) & (s2_ip_offset < addresses[1] - lane)
                for lane in lanes
            ),
        )

        def words(name: str, payload: Value, used: Value, odd: Value, twice: Value) -> Value:
            """The sum of a beat's words of 16 bits; of one byte, its share of the word."""
            masked = Signal(8 * width, name=f"{name}_masked")
            for lane in lanes:
                with m.If(used[lane]):
                    m.d.comb += masked.word_select(lane, 8).eq(payload.word_select(lane, 8))
            if width == 1:
                parts = [Mux(odd, masked, masked << 8)]
            else:
                parts = [
                    Cat(masked[at + 8 : at + 16], masked[at : at + 8])
                    for at in range(0, 8 * width, 16)
                ]
            return reduce(add, (Mux(twice[at], part << 1, part) for at, part in enumerate(parts)))

        # Stage 3: what UDP says, which lanes are payload, and the first half of the sums.
        s3_valid = register(1, "s3_valid", s2_valid)
        s3_beat = register(beat(width), "s3_beat", s2_beat)
        s3_is_ipv4 = register(1, "s3_is_ipv4", s2_is_ipv4)
        s3_shaped = register(1, "s3_shaped", s2_shaped)
        s3_fragment = register(1, "s3_fragment", s2_fragment)
        s3_is_udp = register(
            1, "s3_is_udp", layouts.host(IPV4, s2_ip, "protocol") == IpProtocol.UDP
        )
        s3_header_size = register(8, "s3_header_size", s2_ihl * _WORD)
        s3_total = register(_LENGTH_BITS, "s3_total", layouts.host(IPV4, s2_ip, "total_length"))
        s3_available = register(
            _OFFSET, "s3_available", s2_ip_offset + s2_beat.start + s2_beat.count
        )
        s3_to = register(
            self.entry_count,
            "s3_to",
            Cat(entry.enabled & (entry.address == s2_to) for entry in self.filters),
        )
        s3_pseudo = register(width, "s3_pseudo", s2_pseudo)
        s3_odd = register(1, "s3_odd", s2_udp_offset[0])
        s3_udp_offset = register(_OFFSET, "s3_udp_offset", s2_udp_offset)
        # Bytes of the datagram from lane 0 on.
        s3_left = register(_OFFSET, "s3_left", layouts.host(UDP, s2_udp, "length") - s2_udp_offset)
        s3_header_part = register(
            _SUM_BITS,
            "s3_header_part",
            words("s2_header", s2_beat.data, s2_header, s2_udp_offset[0], Const(0, width)),
        )
        s3_length = layouts.host(UDP, s3_udp, "length")
        s3_payload = named(
            "s3_payload",
            Cat(
                (lane >= s3_beat.start)
                & (lane < s3_beat.start + s3_beat.count)
                & (s3_udp_offset >= UDP.size - lane)
                & (lane < s3_left)
                for lane in lanes
            ),
        )
        s3_summed = named(
            "s3_summed",
            Cat(
                s3_pseudo[lane]
                | (
                    (s3_udp_offset >= -lane)
                    & ((s3_udp_offset < UDP.size - lane) | (lane < s3_left))
                )
                for lane in lanes
            ),
        )
        # The length stands in the pseudo header as well as in the header.
        length_at = UDP.by_name["length"].offset
        step = min(width, 2)
        s3_twice = named(
            "s3_twice",
            Cat(
                (s3_udp_offset >= length_at - lane) & (s3_udp_offset < length_at + 2 - lane)
                for lane in range(0, width, step)
            ),
        )
        s3_matches = named(
            "s3_matches",
            s3_to
            & Cat(
                entry.port == layouts.host(UDP, s3_udp, "destination_port")
                for entry in self.filters
            ),
        )
        s3_line = Signal(range(self.line_count))
        for entry in reversed(range(self.entry_count)):
            with m.If(s3_matches[entry]):
                m.d.comb += s3_line.eq(self.filters[entry].line)
        s3_start = Signal(range(width))
        for lane in reversed(lanes):
            with m.If(s3_payload[lane]):
                m.d.comb += s3_start.eq(lane)
        s3_headers = named(
            "s3_headers", s3_header_size + Mux(s3_is_udp & ~s3_fragment, UDP.size, 0)
        )
        s3_room = named("s3_room", s3_total - s3_header_size)
        s3_datagram_wrong = named(
            "s3_datagram_wrong",
            (s3_room < UDP.size) | (s3_length < UDP.size) | (s3_length > s3_room),
        )

        # Stage 4: everything that is known with this beat.
        s4_valid = register(1, "s4_valid", s3_valid)
        s4_beat = register(beat(width), "s4_beat", s3_beat)
        s4_is_ipv4 = register(1, "s4_is_ipv4", s3_is_ipv4)
        s4_shaped = register(1, "s4_shaped", s3_shaped)
        s4_fragment = register(1, "s4_fragment", s3_fragment)
        s4_is_udp = register(1, "s4_is_udp", s3_is_udp)
        s4_no_packet = register(1, "s4_no_packet", s3_available < 0)
        s4_no_header = register(1, "s4_no_header", s3_available < IPV4.size)
        s4_no_headers = register(1, "s4_no_headers", s3_available < s3_headers)
        s4_cut = register(1, "s4_cut", (s3_total < s3_header_size) | (s3_total > s3_available))
        s4_datagram_wrong = register(1, "s4_datagram_wrong", s3_datagram_wrong)
        s4_empty = register(1, "s4_empty", s3_length == UDP.size)
        s4_checked = register(1, "s4_checked", layouts.host(UDP, s3_udp, "checksum").any())
        s4_subscribed = register(1, "s4_subscribed", s3_matches.any())
        s4_line = register(range(self.line_count), "s4_line", s3_line)
        s4_any = register(1, "s4_any", s3_payload.any())
        s4_start = register(range(width), "s4_start", s3_start)
        s4_count = register(
            range(width + 1), "s4_count", reduce(add, (s3_payload[lane] for lane in lanes))
        )
        s4_first = register(1, "s4_first", s3_udp_offset <= UDP.size)
        s4_end = register(1, "s4_end", s3_left <= width)
        s4_part = register(
            _SUM_BITS, "s4_part", words("s3_part", s3_beat.data, s3_summed, s3_odd, s3_twice)
        )
        s4_header_sum = Signal(_SUM_BITS, reset_less=True)
        with m.If(s3_valid):
            before = Mux(s3_beat.first, 0, s4_header_sum)
            m.d.sync += s4_header_sum.eq(before + s3_header_part)
        s5_sum = Signal(_SUM_BITS, reset_less=True)
        s4_sum = Signal(_SUM_BITS)
        m.d.comb += s4_sum.eq(Mux(s4_beat.first, IpProtocol.UDP, s5_sum) + s4_part)
        with m.If(s4_valid):
            m.d.sync += s5_sum.eq(s4_sum)

        s4_header_wrong = named("s4_header_wrong", ~s4_shaped | ~_is_complete(s4_header_sum))
        s4_sum_wrong = named("s4_sum_wrong", s4_checked & ~_is_complete(s4_sum))
        # The order in which a reader of the frame comes upon each fault.
        faults = (
            (s4_no_packet, DropReason.FRAME_TOO_SHORT),
            (~s4_is_ipv4, DropReason.NOT_IPV4),
            (s4_no_header, DropReason.FRAME_TOO_SHORT),
            (~s4_shaped, DropReason.IP_HEADER),
            (s4_no_headers, DropReason.FRAME_TOO_SHORT),
            (s4_cut | s4_header_wrong, DropReason.IP_HEADER),
            (s4_fragment, DropReason.IP_FRAGMENT),
            (~s4_is_udp, DropReason.NOT_UDP),
            (s4_datagram_wrong, DropReason.UDP_LENGTH),
            (s4_sum_wrong, DropReason.UDP_CHECKSUM),
            (~s4_subscribed, DropReason.NOT_SUBSCRIBED),
        )
        s4_dropped = Signal()
        m.d.comb += s4_dropped.eq(_any(fault for fault, _ in faults))
        for fault, reason in reversed(faults):
            with m.If(fault):
                m.d.comb += self.drop_reason.eq(reason)
        s4_ends = named("s4_ends", s4_valid & s4_beat.last)
        m.d.comb += self.drop_stb.eq(s4_ends & s4_dropped & ~s4_beat.bad)

        # Every header has passed before the first byte of payload, so that this holds from then on.
        s4_wanted = Signal()
        m.d.comb += s4_wanted.eq(
            s4_is_ipv4
            & s4_is_udp
            & ~(s4_header_wrong | s4_fragment | s4_datagram_wrong)
            & s4_subscribed
        )
        s4_passes = named("s4_passes", s4_valid & s4_wanted & s4_any)
        s4_waits = named("s4_waits", s4_passes & s4_end & ~s4_beat.last)
        s4_is_empty = named("s4_is_empty", s4_ends & s4_empty & ~s4_dropped & ~s4_beat.bad)

        # Stage 5: the last beat of payload, when the frame goes on after it.
        s5_data = Signal(8 * width, reset_less=True)
        s5_start = Signal(range(width), reset_less=True)
        s5_count = Signal(range(width + 1), reset_less=True)
        s5_first = Signal(reset_less=True)
        s5_held = Signal()
        with m.If(s4_waits):
            m.d.sync += [
                s5_data.eq(s4_beat.data),
                s5_start.eq(s4_start),
                s5_count.eq(s4_count),
                s5_first.eq(s4_first),
                s5_held.eq(1),
            ]
        with m.Elif(s4_ends):
            m.d.sync += s5_held.eq(0)

        m.d.comb += [
            self.o.valid.eq((s4_passes & ~s4_waits) | (s4_ends & s5_held) | s4_is_empty),
            self.o.p.data.eq(s4_beat.data),
            self.o.p.last.eq(s4_beat.last),
            self.o.p.bad.eq(s4_beat.last & (s4_dropped | s4_beat.bad)),
            self.o_line.eq(s4_line),
        ]
        with m.If(s5_held):
            m.d.comb += [
                self.o.p.data.eq(s5_data),
                self.o.p.start.eq(s5_start),
                self.o.p.count.eq(s5_count),
                self.o.p.first.eq(s5_first),
            ]
        with m.Elif(s4_any):
            m.d.comb += [
                self.o.p.start.eq(s4_start),
                self.o.p.count.eq(s4_count),
                self.o.p.first.eq(s4_first),
            ]
        with m.Else():
            m.d.comb += self.o.p.first.eq(1)
        return m
