"""From the frames of a feed line to the message blocks of the packets that are subscribed to."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import AGE, HEADER, TIME, beat
from hw.rtl.wire.checksum import words_of
from hw.rtl.wire.headers import (
    IP_WORDS,
    WORD,
    HeaderTracker,
    any_of,
    check_width,
    chosen,
    last_lane,
    slot_count,
    within,
)
from hw.rtl.wire.ipv4 import Ipv4Check
from hw.rtl.wire.udp import UdpCheck
from protocol import moldudp64
from protocol.emit import amaranth_layout as layouts
from protocol.ip import IPV4, UDP
from protocol.reasons import DropReason

FILTER = data.StructLayout(
    {
        "enabled": 1,
        "address": layouts.shape(IPV4, "destination"),
        "port": layouts.shape(UDP, "destination_port"),
    }
)
"""A destination whose datagrams are subscribed to."""

REASON = range(DropReason.FRAME_CHECK + 1)
"""The :class:`DropReason` of a frame."""

END = data.StructLayout({"bad": 1, "reason": REASON})
"""What became of a packet that was passed on: ``reason`` says why it is ``bad``."""

_FIELDS = {
    "session": "session",
    "sequence": "sequence_number",
    "message_count": "message_count",
}
"""Where the members of ``HEADER`` come from."""

_Faults = Sequence[tuple[Value, Value | DropReason]]


def _any_fault(faults: _Faults) -> Value:
    return any_of(fault for fault, _ in faults)


def _first_reason(faults: _Faults) -> Value:
    """The reason of the first fault there is."""
    (fault, reason), *others = faults
    return Mux(fault, reason, _first_reason(others)) if others else Value.cast(reason)


class Line(wiring.Component):
    """Passes on the message blocks of MoldUDP64 packets while their frames arrive.

    A frame is Ethernet II with at most one VLAN tag, IPv4 with any options, UDP. Bytes keep the
    lanes they came in. A packet begins with the beat that completes its MoldUDP64 header, even when
    there is no byte of a block in it, and is passed on if every header before is right and the
    destination is subscribed to. It ends where its UDP length ends, or with a frame cut short.
    Only then is it known whether frame and UDP checksum are right: ``o_end`` tells.

    The :class:`DropReason` is the one that ``sim.golden.wire`` finds. A frame that came in ``bad``
    has ``FRAME_CHECK`` whatever else is wrong. One without fault may still have a destination that
    is not subscribed to, or too few bytes for a MoldUDP64 header, in this order.

    Latency is 1 cycle from a beat of blocks to the same beat in ``o``, and 4 cycles from the last
    beat of a frame to ``frame_stb``, ``drop_stb`` and ``o_end``. Throughput is 1 beat per cycle,
    with 2 cycles or more without a beat between frames. A frame has at most 65,535 bytes, or comes
    in ``bad``.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.
    entry_count : int
        Destinations that can be subscribed to.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Frames without check sequence. The first beat begins in lane 0 or 4; none is empty.
    time : ``In(TIME)``
        Card time of the beat in ``i``.
    begin : ``In(AGE)``
        Low bits of the card time at which the bytes of the beat in ``i`` were at the pins. Looked
        at with the first beat of a frame.
    filters : ``In(data.ArrayLayout(FILTER, entry_count))``
        Subscriptions. Sampled while a frame passes.
    any : ``In(1)``
        Every datagram is subscribed to. Sampled while a frame passes.
    o : ``Out(stream.Signature(beat(width), always_ready=True))``
        Message blocks. Never ``bad``.
    o_header : ``Out(HEADER)``
        The packet's header, from its first beat until ``o_end``.
    o_time : ``Out(TIME)``
        Time of the beat in ``o``.
    o_end : ``Out(stream.Signature(END, always_ready=True))``
        The end of a packet that was passed on.
    drop_stb : ``Out(1)``
        A frame was no good packet, whether or not it was passed on.
    drop_reason : ``Out(REASON)``
        Why.
    frame_stb : ``Out(1)``
        A frame has ended.

    Raises
    ------
    TypeError, ValueError
        If ``width`` is neither 1 nor 8, or ``entry_count`` is no integer of 1 or more.

    [IEEE 802.3: 3.1.1; IEEE 802.1Q: 9.6; RFC 791: 3.1; RFC 768; RFC 1071; MoldUDP64 1.00]
    """

    def __init__(self, width: int, entry_count: int = 4) -> None:
        check_width(width)
        if not isinstance(entry_count, int):
            raise TypeError(f"entry_count must be an integer, not {entry_count!r}")
        if entry_count < 1:
            raise ValueError(f"entry_count must be 1 or more, not {entry_count!r}")
        self.width, self.entry_count, self.slots = width, entry_count, slot_count(width)
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "time": In(TIME),
                "begin": In(AGE),
                "filters": In(data.ArrayLayout(FILTER, entry_count)),
                "any": In(1),
                "o": Out(stream.Signature(beat(width), always_ready=True)),
                "o_header": Out(HEADER),
                "o_time": Out(TIME),
                "o_end": Out(stream.Signature(END, always_ready=True)),
                "drop_stb": Out(1),
                "drop_reason": Out(REASON),
                "frame_stb": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, i = self.width, self.i
        slots = range(self.slots)
        m.submodules.track = track = HeaderTracker(width)
        m.submodules.ipv4 = ipv4 = Ipv4Check(width)
        m.submodules.udp = udp = UdpCheck(width)

        # Stage 0: the bytes up to the beat at i, enough for a MoldUDP64 header that ends in it.
        before = moldudp64.HEADER.size - last_lane(width, 0) - 1
        s1_recent = Signal(8 * before, reset_less=True)
        s0_recent = Cat(s1_recent, i.p.data)
        with m.If(i.valid):
            m.d.sync += s1_recent.eq(s0_recent[8 * width :])

        def ended(slot: int, size: int) -> Value:
            """The bytes up to the end of a slot's word in the beat at i."""
            stop = before + last_lane(width, slot) + 1
            return s0_recent[8 * (stop - size) : 8 * stop]

        # Stage 1: the beat, its words, and what they are.
        s1_valid = Signal()
        s1_first = Signal(reset_less=True)
        s1_last = Signal(reset_less=True)
        s1_bad = Signal(reset_less=True)
        s1_count = Signal(range(width + 1), reset_less=True)
        s1_data = s1_recent[-8 * width :]
        s1_words = Signal(data.ArrayLayout(8 * WORD, self.slots))
        s1_sums = Signal.like(ipv4.sums, reset_less=True)
        m.d.sync += [
            s1_valid.eq(i.valid),
            s1_first.eq(i.p.first),
            s1_last.eq(i.p.last),
            s1_bad.eq(i.p.bad),
            s1_count.eq(i.p.count),
        ]
        for slot in slots:
            stop = before - width + last_lane(width, slot) + 1
            first, second = words_of(ended(slot, WORD))
            m.d.comb += s1_words[slot].eq(s1_recent[8 * (stop - WORD) : 8 * stop])
            m.d.sync += s1_sums[slot].eq(first + second)
        m.d.comb += [
            *(track.i.valid.eq(i.valid), track.i.p.eq(i.p), track.words.eq(s1_words)),
            *(ipv4.places.eq(track.o), ipv4.words.eq(s1_words), ipv4.sums.eq(s1_sums)),
            *(ipv4.valid.eq(s1_valid), ipv4.count.eq(s1_count)),
            *(udp.places.eq(track.o), udp.words.eq(s1_words), udp.data.eq(s1_data)),
            *(udp.valid.eq(s1_valid), udp.first.eq(s1_first), udp.last.eq(s1_last)),
            udp.room.eq(ipv4.room),
        ]

        # Stages 2 and 3: whether the destination is subscribed to.
        s2_address_fits = Signal(self.entry_count, reset_less=True)
        s2_port_fits = Signal(self.entry_count, reset_less=True)
        s3_subscribed = Signal(reset_less=True)
        address_at = [track.o.ip[slot][IP_WORDS - 1] for slot in slots]
        port_at = [track.o.udp[slot][0] for slot in slots]
        ip_end = within(IPV4, IP_WORDS - 1, chosen(address_at, s1_words))
        udp_begin = within(UDP, 0, chosen(port_at, s1_words))
        address = layouts.host(IPV4, ip_end, "destination")
        port = layouts.host(UDP, udp_begin, "destination_port")
        with m.If(track.o.step & any_of(address_at)):
            fits = (entry.enabled & (entry.address == address) for entry in self.filters)
            m.d.sync += s2_address_fits.eq(Cat(fits))
        with m.If(track.o.step & any_of(port_at)):
            m.d.sync += s2_port_fits.eq(Cat(entry.port == port for entry in self.filters))
        m.d.sync += s3_subscribed.eq(self.any | (s2_address_fits & s2_port_fits).any())

        # The output: the beat at i, one cycle later. What the headers say is known when it comes.
        wanted = Signal()
        begins = [track.block_next[slot] & (i.p.count > last_lane(width, slot)) for slot in slots]
        starts = Signal()
        ends = Signal()
        s1_passing = Signal()
        begin = Signal(range(width + 1))
        stop = Signal(range(width + 1))
        end_lane = udp.end[: (width - 1).bit_length()]
        m.d.comb += [
            wanted.eq(
                ipv4.right & ipv4.sum_good & ~udp.length_wrong & ~udp.no_mold & s3_subscribed
            ),
            starts.eq(i.valid & any_of(begins) & wanted),
            # The end is counted from the beat at i, or from one in stage 1 as long as there is one.
            ends.eq(udp.end[len(end_lane) :] == s1_valid),
            stop.eq(Mux(ends & (end_lane < i.p.count), end_lane + 1, i.p.count)),
        ]
        for slot in slots:
            with m.If(begins[slot]):
                m.d.comb += begin.eq(last_lane(width, slot) + 1)
        m.d.sync += [
            self.o.valid.eq(starts | (i.valid & s1_passing)),
            self.o.p.start.eq(begin),
            self.o.p.count.eq(stop - begin),
            self.o.p.first.eq(~s1_passing),
            self.o.p.last.eq(i.p.last | ends),
            self.o_time.eq(self.time),
        ]
        m.d.comb += self.o.p.data.eq(s1_data)
        with m.If(i.valid):
            m.d.sync += s1_passing.eq((starts | s1_passing) & ~(i.p.last | ends))
        begun = Signal(AGE, reset_less=True)
        with m.If(i.valid & i.p.first):
            m.d.sync += begun.eq(self.begin)
        # Before a header ends, the packet before it has: that it is wanted need not be waited for.
        with m.If(i.valid & track.block_next.any()):
            m.d.sync += self.o_header.age.eq(self.time - begun)
            header = chosen(
                track.block_next, [ended(slot, moldudp64.HEADER.size) for slot in slots]
            )
            m.d.sync += [
                self.o_header[name].eq(layouts.host(moldudp64.HEADER, header, field))
                for name, field in _FIELDS.items()
            ]

        # Stages 2 and 3: a frame has ended, and all about it stands still.
        s2_last = Signal()
        s2_bad = Signal(reset_less=True)
        s3_last = Signal()
        s3_bad = Signal(reset_less=True)
        m.d.sync += [
            *(s2_last.eq(s1_valid & s1_last), s2_bad.eq(s1_bad)),
            *(s3_last.eq(s2_last), s3_bad.eq(s2_bad)),
        ]
        s3_has_headers = Mux(
            ipv4.is_udp & ~ipv4.fragment, track.reached.udp, track.reached.ip_options
        )
        # In the order in which a reader of the frame comes upon them. The checksum comes next.
        faults: _Faults = (
            (s3_bad, DropReason.FRAME_CHECK),
            (~track.reached.packet, DropReason.FRAME_TOO_SHORT),
            (~track.reached.ipv4, DropReason.NOT_IPV4),
            (~track.reached.ip, DropReason.FRAME_TOO_SHORT),
            (~ipv4.shaped, DropReason.IP_HEADER),
            (~s3_has_headers, DropReason.FRAME_TOO_SHORT),
            (ipv4.room[-1] | ipv4.cut | ~ipv4.sum_good, DropReason.IP_HEADER),
            (ipv4.fragment, DropReason.IP_FRAGMENT),
            (~ipv4.is_udp, DropReason.NOT_UDP),
            (udp.length_wrong, DropReason.UDP_LENGTH),
        )
        uses: _Faults = (
            (~s3_subscribed, DropReason.NOT_SUBSCRIBED),
            (udp.no_mold, DropReason.MOLD_HEADER),
        )

        # Stage 4: the verdict, with the checksum of the datagram.
        s4_last = Signal()
        s4_fault = Signal(reset_less=True)
        s4_fault_reason = Signal(REASON, reset_less=True)
        s4_useless = Signal(reset_less=True)
        s4_useless_reason = Signal(REASON, reset_less=True)
        s4_passed = Signal()
        m.d.sync += [
            s4_last.eq(s3_last),
            *(s4_fault.eq(_any_fault(faults)), s4_fault_reason.eq(_first_reason(faults))),
            *(s4_useless.eq(_any_fault(uses)), s4_useless_reason.eq(_first_reason(uses))),
        ]
        # A packet that begins is of a later frame than one that ends.
        with m.If(starts):
            m.d.sync += s4_passed.eq(1)
        with m.Elif(s4_last):
            m.d.sync += s4_passed.eq(0)
        verdict: _Faults = (
            (s4_fault, s4_fault_reason),
            (~udp.sum_good, DropReason.UDP_CHECKSUM),
            (s4_useless, s4_useless_reason),
        )
        m.d.comb += [
            self.frame_stb.eq(s4_last),
            self.drop_stb.eq(s4_last & _any_fault(verdict)),
            self.drop_reason.eq(_first_reason(verdict)),
            self.o_end.valid.eq(s4_last & s4_passed),
            self.o_end.p.bad.eq(_any_fault(verdict)),
            self.o_end.p.reason.eq(self.drop_reason),
        ]
        return m
