"""The buffer of a feed line, proved: beats and packets come out as they went in, or not at all.

Packets have two beats at most, so that a buffer of eight is soon full.
"""

import pytest
from amaranth.hdl import Assume, Elaboratable, Module, ResetSignal, Signal
from amaranth.hdl._ir import Fragment

from hw.rtl.wire import buffer
from hw.rtl.wire.buffer import LineBuffer
from sim.tb.mutant import mutant
from sim.tb.prove import Kind, ProofError, claim, elaborated, prove, signals

BEATS_MAX = 2
BUFFER_BEATS = 8
PACKETS = 4
GAP = 3
"""Cycles from a verdict to the next packet's first beat, at least."""
DATA_BITS = 3
DEPTH = 17
DEPTH_FULL = 18
SHORT = ("_BLOCKS_SIZE_MAX // width + _SLACK_BEATS", f"{BEATS_MAX} + 2")
"""Two beats for what is known late: with one it is too little."""


class OnePacket(Elaboratable):
    """Any packets at any time; one beat and one packet, whichever, are followed through."""

    def __init__(self, kind: type[LineBuffer], cut_through: bool, gap: int = GAP):
        self.gap = gap
        self.dut = kind(1, BUFFER_BEATS, PACKETS, cut_through)
        self.cut_through = cut_through
        names = ("valid", "last", "store", "end", "bad", "remove", "ready", "pick_beat", "pick")
        self.free = {name: Signal(name=name) for name in names}
        self.data = Signal(DATA_BITS)
        self.number = Signal(DATA_BITS)
        self.ports = [*self.free.values(), self.data, self.number]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut, free = self.dut, self.free
        inner = elaborated(dut)
        m.submodules.dut = fragment = Fragment.get(inner, None)
        names = signals(fragment)
        m.d.comb += Assume(~ResetSignal())

        # Packets: beats, then a verdict; the next one ``gap`` cycles later at least.
        inside, judged = Signal(), Signal(init=1)
        since = Signal(range(self.gap), init=self.gap - 1)
        beats = Signal(range(BEATS_MAX + 1))
        valid, first = free["valid"], Signal()
        header = Signal(DATA_BITS)
        m.d.comb += [
            first.eq(valid & ~inside),
            Assume(~first | (judged & (since == self.gap - 1))),
            Assume(~valid | free["last"] | (beats < BEATS_MAX - 1)),
            Assume(~free["end"] | ~(inside | valid | judged)),
            Assume(~free["remove"] | (dut.head_valid & dut.verdict_valid)),
        ]
        with m.If(valid):
            m.d.sync += [inside.eq(~free["last"]), beats.eq(beats + 1)]
            with m.If(free["last"]):
                m.d.sync += beats.eq(0)
        with m.If(first):
            m.d.sync += [judged.eq(0), header.eq(self.number)]
        with m.If(free["end"]):
            m.d.sync += [judged.eq(1), since.eq(0)]
        with m.Elif(since != self.gap - 1):
            m.d.sync += since.eq(since + 1)
        m.d.comb += [
            dut.i.valid.eq(valid),
            dut.i.payload.data.eq(self.data),
            dut.i.payload.first.eq(first),
            dut.i.payload.last.eq(free["last"]),
            dut.store.eq(free["store"]),
            dut.end.valid.eq(free["end"]),
            dut.end.payload.bad.eq(free["bad"]),
            dut.remove.eq(free["remove"]),
            dut.o.ready.eq(free["ready"]),
            # Valid for a cycle longer than the first beat.
            dut.header.sequence.eq(self.number),
        ]
        after_first = Signal()
        m.d.sync += after_first.eq(first)
        m.d.comb += Assume(~after_first | (self.number == header))

        # A packet is stored as a whole, or not at all.
        s1_valid, s1_first, s1_last = Signal(), Signal(), Signal()
        s1_data, s1_header = Signal.like(self.data), Signal.like(header)
        m.d.sync += [s1_valid.eq(valid), s1_first.eq(first), s1_last.eq(free["last"])]
        m.d.sync += [s1_data.eq(self.data), s1_header.eq(self.number)]
        written = inner.submodules.beats.write_ports[0].en
        storing = Signal()
        with m.If(s1_valid & s1_first):
            m.d.sync += storing.eq(written)
        claim(m, "whole_or_none", ~s1_valid | s1_first | (written == storing))
        claim(m, "nothing_made_up", ~written | s1_valid)

        # A beat is at its place until it is read, left behind, or its packet was bad.
        write, fetch = names["write"], names["fetch"]
        bits = len(write)
        front = (fetch - names["fetched"] - dut.o.valid)[:bits]
        claim(m, "room_for_all", (write - front)[:bits] <= BUFFER_BEATS)
        beat, beat_at, beat_data = Signal(), Signal(bits), Signal.like(self.data)
        is_within = (beat_at - front)[:bits] < (write - front)[:bits]
        with m.If(written & free["pick_beat"] & ~beat):
            m.d.sync += [beat.eq(1), beat_at.eq(write), beat_data.eq(s1_data)]
        with m.Elif(~is_within):
            m.d.sync += beat.eq(0)
        is_shown = beat & is_within & dut.o.valid & (front == beat_at)
        claim(m, "beat_is_what_came", ~is_shown | (dut.o.payload.beat.data == beat_data))

        # A packet comes to the head when those before it are gone.
        packet, ahead, tag = Signal(), Signal(range(2 * PACKETS)), Signal.like(header)
        ended, bad, end_at = Signal(), Signal(), Signal(bits)
        is_head = packet & (ahead == 0)
        s1_end, s1_bad = Signal(), Signal()
        m.d.sync += [s1_end.eq(free["end"]), s1_bad.eq(free["bad"])]
        coming = Signal()  # Of the packet that is followed beats may still come.
        waiting = names["header_index"] - names["head_index"]
        with m.If(is_head & dut.remove):
            m.d.sync += packet.eq(0)
        with m.Elif(packet & dut.remove):
            m.d.sync += ahead.eq(ahead - 1)
        with m.If(written & s1_first):
            m.d.sync += coming.eq(0)
            with m.If(free["pick"] & ~packet):
                m.d.sync += [packet.eq(1), coming.eq(1), ended.eq(0), tag.eq(s1_header)]
                m.d.sync += [ahead.eq(waiting - dut.remove), end_at.eq(write + 1)]
        with m.If(written & ~s1_first & coming):
            m.d.sync += end_at.eq(write + 1)
        with m.If(s1_end & coming):
            m.d.sync += [coming.eq(0), ended.eq(1), bad.eq(s1_bad)]
            if not self.cut_through:
                with m.If(s1_bad):
                    m.d.sync += packet.eq(0)
        sequence = dut.head.sequence[:DATA_BITS]
        claim(m, "head_is_the_oldest", ~(is_head & dut.head_valid) | (sequence == tag))
        judged_head = is_head & dut.verdict_valid
        claim(m, "verdict_is_its_own", ~judged_head | (ended & (dut.verdict.bad == bad)))
        if not self.cut_through:
            claim(m, "shown_only_when_good", ~judged_head | ~bad)
            claim(m, "shown_only_when_judged", ~(is_head & dut.head_valid) | ended)
        removed, removed_end = Signal(), Signal(bits)
        m.d.sync += [removed.eq(is_head & dut.remove), removed_end.eq(end_at)]
        claim(m, "next_begins_behind_it", ~removed | (fetch == removed_end))
        return m


def built(*changes: tuple[str, str]) -> type[LineBuffer]:
    return mutant(buffer, SHORT, *changes)["LineBuffer"]


@pytest.mark.parametrize("cut_through", [True, False])
def test_packets_come_out_as_they_went_in(cut_through):
    design = OnePacket(built(), cut_through)
    name = f"line_buffer_{'through' if cut_through else 'whole'}"
    print(prove(design, design.ports, name, Kind.BOUNDED, DEPTH))


@pytest.mark.parametrize(
    ("name", "old", "new", "violated"),
    [
        (
            "no_room",
            "Mux(s1_first, self.store & ~full, storing)",
            "Mux(s1_first, self.store, storing)",
            "whole_or_none",
        ),
        ("half", "storing.eq(self.store & ~full), ", "storing.eq(self.store), ", "whole_or_none"),
        (
            "read_over",
            "fetch_moves.eq(~fetched | front_moves)",
            "fetch_moves.eq(1)",
            "beat_is_what_came",
        ),
        (
            "of_another",
            "verdict_index.eq(verdict_index + s1_judged)",
            "verdict_index.eq(verdict_index + s1_end)",
            "verdict_is_its_own",
        ),
    ],
)
def test_seeded_bug_in_line_buffer_is_found(name, old, new, violated):
    # With a shorter gap the buffer is full sooner.
    design = OnePacket(built((old, new)), cut_through=True, gap=2)
    with pytest.raises(ProofError, match=rf"violated: .*\b{violated}\b"):
        prove(design, design.ports, f"line_buffer_{name}", Kind.BOUNDED, DEPTH_FULL)
