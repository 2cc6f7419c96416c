"""The collector, proved: the bytes of each message are the bytes that came in."""

import pytest
from amaranth.hdl import (
    Assert,
    Assume,
    Cat,
    Const,
    Elaboratable,
    Module,
    Mux,
    ResetSignal,
    Signal,
)

from hw.rtl.layouts import MESSAGE_SIZE_MAX, beat
from hw.rtl.parse.collect import Collector
from hw.rtl.parse.outlook import MESSAGE_SIZE_MIN
from protocol import moldudp64
from sim.tb.prove import Kind, ProofError, prove

HEAD = moldudp64.BLOCK.size
POSITION_BITS = 10


class OneMessage(Elaboratable):
    """A packet of blocks that are each a message, and one byte of one place followed through it.

    The specification walks the block lengths by itself, as they come in, and remembers the byte at
    a free place of every message. ``break_at`` damages the remembered byte: a proof must fail then.
    """

    def __init__(self, width: int, broken: bool = False):
        self.width = width
        self.broken = broken
        self.beat = Signal(beat(width))
        self.valid = Signal()
        self.message_count = Signal(16)
        self.sequence = Signal(64)
        self.ports = [self.beat.as_value(), self.valid, self.message_count, self.sequence]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, payload = self.width, self.beat
        m.submodules.collector = dut = Collector(width)
        m.d.comb += [
            dut.i.valid.eq(self.valid),
            dut.i.payload.eq(payload),
            dut.packet.message_count.eq(self.message_count),
            dut.packet.sequence.eq(self.sequence),
            dut.packet.skip.eq(0),
        ]

        # One packet, whose first beat begins anywhere, and which may pause but not end.
        begun = Signal()
        with m.If(self.valid):
            m.d.sync += begun.eq(1)
        starts = Mux(begun, 0, payload.start)
        m.d.comb += [
            Assume(~ResetSignal()),
            Assume(~self.valid | (payload.first == ~begun)),
            Assume(~self.valid | ~payload.last),
            Assume(~self.valid | (payload.start == starts)),
            Assume(payload.start <= width),
            Assume(~self.valid | (payload.start + payload.count == width)),
            Assume(self.message_count > 64),
            Assume(self.message_count != moldudp64.END_OF_SESSION),
        ]

        # Where this beat's lane 0 lies from the first block byte on: may be negative, so add width.
        base = Signal(POSITION_BITS, init=width)
        s0_base = Mux(begun, base, width - payload.start)
        with m.If(self.valid):
            m.d.sync += base.eq(s0_base + width)

        # The walk: a block's length is known with its second byte.
        start = Signal(POSITION_BITS, init=width)  # of the block whose length is awaited
        last_byte = Signal(8)
        window = Cat(last_byte, payload.data)  # the byte before lane 0, then the lanes
        known = Signal()  # a block is open, and its length known
        end = Signal(POSITION_BITS)
        length = Signal(16)
        with m.If(self.valid):
            m.d.sync += last_byte.eq(payload.data[-8:])
        s0_known, s0_end, s0_length = Signal(), Signal(POSITION_BITS), Signal(16)
        at = Signal(POSITION_BITS)
        m.d.comb += [
            at.eq(start + 1 - s0_base),  # lane of the length's second byte
            s0_known.eq(self.valid & (start + 1 >= s0_base) & (start + 1 < s0_base + width)),
        ]
        for lane in range(width):
            with m.If(at == lane):
                low, high = window.word_select(lane + 1, 8), window.word_select(lane, 8)
                m.d.comb += s0_length.eq(Cat(low, high))
        m.d.comb += s0_end.eq(start + HEAD + s0_length)
        m.d.comb += Assume(
            ~s0_known | ((s0_length >= MESSAGE_SIZE_MIN) & (s0_length <= MESSAGE_SIZE_MAX))
        )
        ends = Signal()  # the open block's last byte is in this beat
        m.d.comb += ends.eq(self.valid & known & (end <= s0_base + width))
        with m.If(ends):
            m.d.sync += known.eq(0)
        with m.If(s0_known):
            m.d.sync += [known.eq(1), end.eq(s0_end), start.eq(s0_end), length.eq(s0_length)]

        # The byte at a free place of the message.
        place = Signal(range(MESSAGE_SIZE_MAX))  # any, and constant
        chosen = Signal.like(place)
        first_cycle = Signal(init=1)
        m.d.sync += first_cycle.eq(0)
        with m.If(first_cycle):
            m.d.sync += chosen.eq(place)
        self.place = place
        held = Signal.like(place)
        m.d.comb += held.eq(Mux(first_cycle, place, chosen))

        def byte_at(position):
            """Whether a place lies in this beat, and the byte there."""
            inside, value = Const(0), Const(0, 8)
            for lane in range(width):
                here = position == s0_base + lane
                inside |= here
                value |= Mux(here, payload.data.word_select(lane, 8), 0)
            return self.valid & inside, value

        kept, wanted = Signal(8), Signal(8)
        open_start = Signal(POSITION_BITS)
        with m.If(s0_known):
            m.d.sync += open_start.eq(start)
        in_open, open_byte = byte_at(open_start + HEAD + held)
        in_new, new_byte = byte_at(start + HEAD + held)
        m.d.comb += wanted.eq(Mux(in_open & known, open_byte, kept))
        with m.If(in_open & known):
            m.d.sync += kept.eq(open_byte)
        with m.If(s0_known & in_new):
            m.d.sync += kept.eq(new_byte)

        # What must come out, a cycle later.
        s1_ends, s1_wanted, s1_length = Signal(), Signal(8), Signal(16)
        number = Signal(64)
        m.d.sync += [
            s1_ends.eq(ends),
            s1_wanted.eq(wanted ^ self.broken),
            s1_length.eq(length),
        ]
        with m.If(self.valid & ~begun):
            m.d.sync += number.eq(self.sequence)
        with m.Elif(s1_ends):
            m.d.sync += number.eq(number + 1)
        out = dut.o.payload
        byte_out = out.data.word_select(held, 8)
        m.d.comb += [
            Assert(dut.o.valid == s1_ends),
            Assert(~s1_ends | (out.length == s1_length)),
            Assert(~s1_ends | (out.sequence == number)),
            Assert(~s1_ends | (held >= s1_length) | (byte_out == s1_wanted)),
            Assert(dut.short_count == 0),
        ]
        return m


@pytest.mark.parametrize(("width", "depth"), [(8, 5), (1, 18)])
def test_message_is_the_bytes_that_came_in(width, depth):
    """To the end of the first messages: of a second one that starts in any lane at 8 lanes."""
    design = OneMessage(width)
    print(prove(design, design.ports, f"collect_w{width}", Kind.BOUNDED, depth))


def test_damaged_byte_is_found():
    design = OneMessage(8, broken=True)
    with pytest.raises(ProofError, match="not proved in 5 cycles"):
        prove(design, design.ports, "collect_broken", Kind.BOUNDED, 5)
