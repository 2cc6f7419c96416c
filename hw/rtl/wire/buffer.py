"""Keeps the packets of a feed line until it is their turn."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import HEADER, TIME, beat
from hw.rtl.wire import fcs
from hw.rtl.wire.gmii import FRAME_SIZE_MAX
from hw.rtl.wire.headers import check_width
from protocol import moldudp64
from protocol.ethernet import ETHERNET
from protocol.ip import IPV4, UDP

TIME_BITS = 32
"""Bits of a beat's time that are kept: enough to tell it again for 2 s."""

VERDICT = data.StructLayout({"bad": 1})
"""What became of a packet, told after its last beat."""

_HEADERS = (ETHERNET, IPV4, UDP, moldudp64.HEADER)
_BLOCKS_SIZE_MAX = FRAME_SIZE_MAX - fcs.SIZE - sum(header.size for header in _HEADERS)
_SLACK_BEATS = 8
"""A packet may begin and end with a beat without bytes, and how much is used is known late."""


def packet_beats_max(width: int) -> int:
    """Return the room that the longest packet needs, in beats."""
    return _BLOCKS_SIZE_MAX // width + _SLACK_BEATS


def buffer_beats_min(width: int) -> int:
    """Return the least power of two that has room for two such packets."""
    return 1 << (2 * packet_beats_max(width) - 1).bit_length()


def stored(width: int) -> data.StructLayout:
    """A beat and the low bits of its time."""
    return data.StructLayout({"beat": beat(width), "time": TIME_BITS})


def check_power_of_two(name: str, value: object, least: int) -> None:
    """Refuse what is no power of two from ``least`` on."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, {least} or more, not {value!r}")


class LineBuffer(wiring.Component):
    """Stores packets in the order they come in, and shows the oldest: the head.

    Of each packet that is to be stored all beats are, or none: without room for the longest one it
    is refused. With ``cut_through`` a packet shows while it is still coming in, and its verdict
    later; without, it shows when it was found good, and a bad one never does. A packet goes when
    it is removed, with whatever of it was not read, in one cycle.

    Latency is 4 cycles from a first beat in to ``head_valid``, 3 from a verdict in to
    ``verdict_valid``, and 4 from a beat in to ``o``. From ``remove`` it is 1 cycle to the next
    packet's ``head_valid``, 2 to its ``verdict_valid`` and 3 to its first beat in ``o``. Throughput
    is 1 beat per cycle, in and out. Memory is not cleared: pointers make it valid.

    Parameters
    ----------
    width : int
        Bytes a beat.
    buffer_beats : int
        Beats that can be stored. A power of two, ``buffer_beats_min(width)`` or more.
    packet_count : int
        Packets that can be stored. A power of two, 4 or more.
    cut_through : bool
        Whether a packet shows before its verdict.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Packets.
    store : ``In(1)``
        The packet is to be stored. Sampled in the cycle after its first beat.
    header, time : ``In(HEADER)``, ``In(TIME)``
        Header, valid for a cycle longer than the first beat, and time of each beat.
    end : ``In(stream.Signature(VERDICT, always_ready=True))``
        Verdict on the packet. Comes after its last beat, and 3 cycles or more before the next first
        one. Behind a line it is 7 or more: the next frame's headers lie between.
    clear : ``In(1)``
        Forget everything. Of a packet that is coming in the rest is not stored.
    refused_stb : ``Out(1)``
        There was no room for a packet, and it was good.
    head_valid, head : ``Out(1)``, ``Out(HEADER)``
        The oldest packet's header.
    verdict_valid, verdict : ``Out(1)``, ``Out(VERDICT)``
        The oldest packet's verdict.
    remove : ``In(1)``
        The oldest packet goes. Only while ``head_valid`` and ``verdict_valid``.
    o : ``Out(stream.Signature(stored(width)))``
        Beats of the oldest packet; what is left of it vanishes with ``remove``.
    empty : ``Out(1)``
        No packet shows. Low 3 cycles after the first beat of one that does at once.
    crowded : ``Out(1)``
        There is no room for two packets more.
    packets : ``Out(range(2 * packet_count))``
        Packets that are here.
    used : ``Out(range(buffer_beats + 1))``
        Beats stored.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, width: int, buffer_beats: int, packet_count: int, cut_through: bool) -> None:
        check_width(width)
        check_power_of_two("buffer_beats", buffer_beats, buffer_beats_min(width))
        check_power_of_two("packet_count", packet_count, 4)
        if not isinstance(cut_through, bool):
            raise TypeError(f"cut_through must be a bool, not {cut_through!r}")
        self.width, self.cut_through = width, cut_through
        self.buffer_beats, self.packet_count = buffer_beats, packet_count
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "store": In(1),
                "header": In(HEADER),
                "time": In(TIME),
                "end": In(stream.Signature(VERDICT, always_ready=True)),
                "clear": In(1),
                "refused_stb": Out(1),
                "head_valid": Out(1),
                "head": Out(HEADER),
                "verdict_valid": Out(1),
                "verdict": Out(VERDICT),
                "remove": In(1),
                "o": Out(stream.Signature(stored(width))),
                "empty": Out(1, init=1),
                "crowded": Out(1),
                "packets": Out(range(2 * packet_count)),
                "used": Out(range(buffer_beats + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = stored(self.width)
        # Pointers have one bit more than an address, so that full and empty differ.
        pointer = range(2 * self.buffer_beats)
        index = range(2 * self.packet_count)
        record_shape = data.StructLayout({"verdict": VERDICT, "end": pointer})
        m.submodules.beats = beats = Memory(
            shape=shape, depth=self.buffer_beats, init=[], attrs={"ram_style": "block"}
        )
        # What is read while it is written is not used. Yosys believes that of a read port that it
        # finds itself, in front of a register.
        attributes = {"ram_style": "block", "no_rw_check": 1}
        m.submodules.headers = headers = Memory(
            shape=HEADER, depth=self.packet_count, init=[], attrs=attributes
        )
        m.submodules.records = records = Memory(
            shape=record_shape, depth=self.packet_count, init=[], attrs={"ram_style": "distributed"}
        )

        # Stage 0: the beat comes in.
        s1_beat = Signal(shape, reset_less=True)
        s1_valid = Signal()
        s1_end = Signal()
        s1_bad = Signal(reset_less=True)
        m.d.sync += [
            s1_valid.eq(self.i.valid),
            s1_beat.beat.eq(self.i.payload),
            s1_beat.time.eq(self.time[:TIME_BITS]),
            s1_end.eq(self.end.valid),
            s1_bad.eq(self.end.payload.bad),
        ]

        # Stage 1: it is written, if its packet is to be stored.
        full = Signal()
        storing = Signal()
        refused = Signal()
        write = Signal(pointer)
        readable = Signal(pointer)  # Beats before this one show.
        header_index = Signal(index)  # Packets before this one have a header,
        verdict_index = Signal(index)  # and before this one a verdict.
        write_beats, write_headers, write_records = (
            beats.write_port(),
            headers.write_port(),
            records.write_port(),
        )
        s1_first = Signal()
        s1_judged = Signal()
        m.d.comb += [
            s1_first.eq(s1_valid & s1_beat.beat.first),
            write_beats.en.eq(s1_valid & Mux(s1_first, self.store & ~full, storing)),
            write_beats.addr.eq(write),
            write_beats.data.eq(s1_beat),
            write_headers.en.eq(s1_first & self.store & ~full),
            write_headers.addr.eq(header_index),
            write_headers.data.eq(self.header),
            s1_judged.eq(s1_end & storing),
            write_records.en.eq(s1_judged),
            write_records.addr.eq(verdict_index),
            write_records.data.verdict.bad.eq(s1_bad),
            write_records.data.end.eq(write),
            self.refused_stb.eq(s1_end & refused & ~s1_bad),
        ]
        with m.If(s1_first):
            m.d.sync += [storing.eq(self.store & ~full), refused.eq(self.store & full)]
        with m.If(write_beats.en):
            m.d.sync += write.eq(write + 1)
        if self.cut_through:
            m.d.comb += readable.eq(write)
            m.d.sync += header_index.eq(header_index + write_headers.en)
            m.d.sync += verdict_index.eq(verdict_index + s1_judged)
        else:
            m.d.comb += verdict_index.eq(header_index)
            with m.If(s1_judged & s1_bad):
                m.d.sync += write.eq(readable)
            with m.Elif(s1_judged):
                m.d.sync += [readable.eq(write), header_index.eq(header_index + 1)]

        # The head. Its record is read over and over, as long as there may be news; so is the header
        # of the packet behind it, which takes its place at once.
        head_index = Signal(index)
        load_index = Signal(index)
        loaded, loads = Signal(), Signal()
        s1_header = Signal(HEADER, reset_less=True)
        read_headers, read_records = headers.read_port(domain="comb"), records.read_port()
        m.d.comb += [
            read_headers.addr.eq(load_index),
            read_records.addr.eq(head_index),
            self.verdict.eq(read_records.data.verdict),
            loads.eq(loaded & (~self.head_valid | self.remove)),
        ]
        m.d.sync += [
            s1_header.eq(read_headers.data),
            loaded.eq((load_index != header_index) & ~loads),
            self.empty.eq(head_index == header_index),
            self.verdict_valid.eq((head_index != verdict_index) & ~self.remove),
        ]
        with m.If(loads):
            m.d.sync += [load_index.eq(load_index + 1), self.head.eq(s1_header)]
        with m.If(self.remove):
            m.d.sync += [head_index.eq(head_index + 1), self.head_valid.eq(loads)]
        with m.Elif(loads):
            m.d.sync += self.head_valid.eq(1)

        # Beats are read ahead, one on the memory's output and one behind it, so that nothing but a
        # register follows a memory, and a beat can be taken each cycle.
        fetch = Signal(pointer)
        fetched = Signal()
        read_beats = beats.read_port()
        front_moves = Signal()
        fetch_moves = Signal()
        m.d.comb += [
            front_moves.eq(~self.o.valid | self.o.ready),
            fetch_moves.eq(~fetched | front_moves),
            read_beats.addr.eq(fetch),
            read_beats.en.eq(fetch_moves),
        ]
        with m.If(fetch_moves):
            m.d.sync += fetched.eq(fetch != readable)
            with m.If(fetch != readable):
                m.d.sync += fetch.eq(fetch + 1)
        with m.If(front_moves):
            m.d.sync += [self.o.valid.eq(fetched), self.o.payload.eq(read_beats.data)]
        with m.If(self.remove):
            m.d.sync += [fetch.eq(read_records.data.end), fetched.eq(0), self.o.valid.eq(0)]

        # Room.
        packets = self.packets
        m.d.sync += [self.used.eq(write - fetch), packets.eq(header_index - head_index)]

        def lacks(packet_count):
            room = self.buffer_beats - packet_count * packet_beats_max(self.width)
            return (self.used > room) | (packets > self.packet_count - packet_count)

        m.d.sync += [full.eq(lacks(1)), self.crowded.eq(lacks(2))]

        with m.If(self.clear):
            m.d.sync += [storing.eq(0), refused.eq(0), write.eq(0), fetch.eq(0), head_index.eq(0)]
            m.d.sync += [load_index.eq(0), loaded.eq(0)]
            m.d.sync += [header_index.eq(0), self.head_valid.eq(0), self.verdict_valid.eq(0)]
            m.d.sync += self.empty.eq(1)
            m.d.sync += [fetched.eq(0), self.o.valid.eq(0)]
            m.d.sync += verdict_index.eq(0) if self.cut_through else readable.eq(0)
        return m
