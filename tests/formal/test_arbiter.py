"""The arbiter, proved: each sequence number is delivered once, and in order."""

import pytest
from amaranth.hdl import Assume, Elaboratable, Module, Mux, ResetSignal, Signal
from amaranth.hdl._ast import Statement
from amaranth.hdl._ir import Fragment
from amaranth.lib import data

from hw.rtl.layouts import NoticeKind
from hw.rtl.params import CardParams
from hw.rtl.wire import arbiter
from hw.rtl.wire.arbiter import LINE_COUNT, Arbiter
from hw.rtl.wire.judge import claims_none
from protocol import moldudp64
from sim.tb.mutant import mutant
from sim.tb.prove import Kind, Opened, ProofError, claim, elaborated, free_inputs, prove, signals

NUMBER_BITS, COUNT_BITS = 4, 2
"""Of sequence numbers and message counts: the bits above are zero in the proof."""


class OneSequence(Elaboratable):
    """Both lines bring any packets at any time, and the parser answers what it likes.

    The lines' buffers are opened: their heads, verdicts and beats are free but for what a buffer
    promises, that of its docstring. So is what the parser makes of a packet: its answer is any
    number that the packet could reach. The specification keeps the next number by itself, from the
    notices alone.
    """

    def __init__(self, cut_through: bool, kind: type[Arbiter] = Arbiter):
        self.dut = dut = kind(CardParams(width=8, cut_through=cut_through))
        dut.buffers = [Opened(buffer) for buffer in dut.buffers]
        self.ports = [v for part in (dut, *dut.buffers) for v in free_inputs(part)]

    def number(self, width: int) -> Signal:
        """Return a free number."""
        self.ports.append(Signal(width))
        return self.ports[-1]

    def narrow(self, header: data.View) -> list[Statement]:
        """Return what makes a header free, but in so few bits; or that of an end of session."""
        count = self.number(COUNT_BITS)
        return [
            header.session.eq(self.number(1)),
            header.sequence.eq(self.number(NUMBER_BITS)),
            header.message_count.eq(Mux(self.number(1), moldudp64.END_OF_SESSION, count)),
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dut = self.dut
        inner = elaborated(dut)
        m.submodules.dut = fragment = Fragment.get(inner, None)
        names = signals(fragment)
        m.d.comb += Assume(~ResetSignal())

        # One start, with session and number, before anything else.
        begun = Signal()
        m.d.sync += begun.eq(1)
        m.d.comb += [
            Assume(dut.start_stb == ~begun),
            dut.session.eq(1),
            dut.sequence.eq(self.number(NUMBER_BITS - 1)),
            Assume(dut.sequence != 0),
        ]

        for k in range(LINE_COUNT):
            # A line: packets of one beat or more, a verdict on each, then the next.
            i, end = dut.i[k], dut.end[k]
            inside, awaited = Signal(name=f"inside_{k}"), Signal(name=f"awaited_{k}")
            pause = Signal(range(3), name=f"pause_{k}")
            m.d.comb += [
                *self.narrow(dut.header[k]),
                Assume(~i.valid | (i.payload.first == ~inside)),
                Assume(~(i.valid & i.payload.first) | (~awaited & (pause == 0))),
                Assume(~end.valid | (awaited & ~inside & ~i.valid)),
            ]
            with m.If(i.valid):
                m.d.sync += [inside.eq(~i.payload.last), awaited.eq(1)]
            with m.If(end.valid):
                m.d.sync += [awaited.eq(0), pause.eq(1)]
            with m.Elif(pause != 0):
                m.d.sync += pause.eq(pause - 1)
            # It continues only if it has the next number, as Continuation promises.
            header, position = dut.header[k], dut.position
            fits = (
                position.session_known
                & position.sequence_known
                & (header.session == position.session)
                & (header.sequence == position.sequence)
                & ~claims_none(header.message_count)
            )
            held = Signal.like(header, name=f"header_{k}")
            with m.If(i.valid):
                m.d.sync += held.as_value().eq(header)
            m.d.comb += [
                Assume(~dut.continues[k] | fits),
                Assume(~inside | (header.as_value() == held.as_value())),
            ]

            # Its buffer: a head stays until it is removed, and so does its verdict.
            buffer = dut.buffers[k]
            s1_head = Signal.like(buffer.head, name=f"s1_head_{k}")
            s1_bad, s1_valid, s1_verdict, s1_remove = (
                Signal(name=f"{name}_{k}") for name in ("s1_bad", "s1_v", "s1_verdict", "s1_remove")
            )
            m.d.sync += [
                s1_head.eq(buffer.head),
                s1_valid.eq(buffer.head_valid),
                s1_verdict.eq(buffer.verdict_valid),
                s1_bad.eq(buffer.verdict.bad),
                s1_remove.eq(buffer.remove | buffer.clear),
            ]
            gone = ~s1_valid | s1_remove
            m.d.comb += [
                *self.narrow(buffer.head),
                Assume(gone | (buffer.head_valid & (buffer.head == s1_head))),
                Assume(buffer.head_valid | ~buffer.verdict_valid),
                Assume(~(s1_remove & buffer.verdict_valid)),
                Assume(
                    s1_remove
                    | ~s1_verdict
                    | (buffer.verdict_valid & (buffer.verdict.bad == s1_bad))
                ),
                Assume(~buffer.empty | ~buffer.head_valid),
            ]
            if not dut.params.cut_through:
                m.d.comb += Assume(~buffer.verdict_valid | ~buffer.verdict.bad)
            # Its beats: the first one's first, the last one's last, and the verdict after that.
            o = buffer.o
            read = Signal(2, name=f"read_{k}")  # None of it, a part, all.
            m.d.comb += [
                Assume(~o.valid | (buffer.head_valid & (read != 2))),
                Assume(~o.valid | (o.payload.beat.first == (read == 0))),
                Assume(~buffer.remove | buffer.verdict_valid),
            ]
            with m.If(s1_remove | buffer.remove | buffer.clear):
                m.d.sync += read.eq(0)
            with m.Elif(o.valid & o.ready):
                m.d.sync += read.eq(Mux(o.payload.beat.last, 2, 1))

        # The parser: an answer after the last beat, that says how far the packet went.
        packet = dut.o_packet
        beat, beat_valid = dut.o.payload, dut.o.valid
        inside, awaited = Signal(), Signal()
        answer = dut.i_end
        first = packet.sequence + packet.skip
        behind = packet.sequence + packet.message_count
        reached = answer.payload.next_sequence
        m.d.comb += [
            reached.eq(self.number(NUMBER_BITS + 1)),
            Assume(~answer.valid | awaited),
            Assume(~answer.valid | ((reached >= packet.sequence) & (reached <= behind))),
        ]
        with m.If(beat_valid & beat.last):
            m.d.sync += awaited.eq(1)
        with m.If(answer.valid):
            m.d.sync += awaited.eq(0)
        with m.If(beat_valid):
            m.d.sync += inside.eq(~beat.last)

        # The specification.
        next_number = Signal(64)
        told = Signal(64)  # What the parser reached.
        open_ = Signal()  # A packet is with the parser, and not confirmed or retracted.
        answered = Signal()
        notice = dut.o_notice.payload
        told_now = dut.o_notice.valid
        is_gap = notice.kind == NoticeKind.GAP
        is_confirm = notice.kind == NoticeKind.CONFIRM
        starts = beat_valid & beat.first
        reaches = Mux(told > next_number, told, next_number)
        with m.If(dut.start_stb):
            m.d.sync += next_number.eq(dut.sequence)
        with m.Elif(told_now & (is_gap | is_confirm)):
            m.d.sync += next_number.eq(notice.next_sequence)
        with m.If(starts):
            m.d.sync += [open_.eq(1), answered.eq(0)]
        with m.Elif(told_now & ~is_gap):
            m.d.sync += open_.eq(0)
        with m.If(answer.valid):
            m.d.sync += [told.eq(reached), answered.eq(1)]
        # The verdict on the packet that is with the parser, of its line or its buffer.
        is_bad = Signal()
        for k in range(LINE_COUNT):
            buffer = dut.buffers[k]
            with m.If(names["straight"][k] & dut.end[k].valid):
                m.d.sync += is_bad.eq(dut.end[k].payload.bad)
            with m.If(names["stored"][k] & buffer.verdict_valid):
                m.d.sync += is_bad.eq(buffer.verdict.bad)
        is_retract = notice.kind == NoticeKind.RETRACT
        claim(m, "confirms_only_good_ones", ~(told_now & is_confirm & is_bad))
        claim(m, "retracts_only_bad_ones", ~(told_now & is_retract & ~is_bad))

        counted = ~claims_none(packet.message_count)
        claim(m, "begins_with_the_next", ~starts | (first == next_number))
        claim(m, "has_something_new", ~starts | (counted & (packet.skip < packet.message_count)))
        claim(m, "one_at_a_time", ~starts | ~open_)
        claim(m, "beats_in_order", ~beat_valid | (beat.first == ~inside))
        claim(m, "tells_what_it_delivered", ~told_now | (notice.sequence == next_number))
        claim(
            m,
            "told_when_answered",
            ~told_now | Mux(is_gap, ~open_, open_ & answered),
        )
        claim(
            m,
            "confirms_as_far_as_it_went",
            ~(told_now & is_confirm) | (notice.next_sequence == reaches),
        )
        claim(
            m,
            "gap_is_ahead",
            ~(told_now & is_gap) | (notice.next_sequence > next_number),
        )
        return m


@pytest.mark.parametrize(("cut_through", "depth"), [(True, 15), (False, 15)])
def test_each_number_is_delivered_once_and_in_order(cut_through, depth):
    """To the cycle in which a second packet may follow one that came, was judged and told."""
    design = OneSequence(cut_through)
    print(prove(design, design.ports, f"arbiter_{cut_through}", Kind.BOUNDED, depth))


@pytest.mark.parametrize(
    ("name", "old", "new", "violated"),
    [
        (
            "skip",
            "s1_packet.skip.eq(of(release_line, [judge.distance for judge in judges]))",
            "s1_packet.skip.eq(of(release_line, [judge.distance + 1 for judge in judges]))",
            "begins_with_the_next",
        ),
        (
            "verdict",
            "confirm.eq(answered & told_good)",
            "confirm.eq(answered)",
            "confirms_only_good_ones",
        ),
        (
            "position",
            "m.d.sync += [position.sequence.eq(s1_next), touching.eq(0)]",
            "m.d.sync += [position.sequence.eq(s1_next + 1), touching.eq(0)]",
            "begins_with_the_next",
        ),
        ("busy", "m.d.sync += busy.eq(1)", "m.d.sync += busy.eq(release)", "one_at_a_time"),
    ],
)
def test_seeded_bug_is_found(name, old, new, violated):
    design = OneSequence(True, mutant(arbiter, (old, new))["Arbiter"])
    with pytest.raises(ProofError, match=rf"violated: .*\b{violated}\b"):
        prove(design, design.ports, f"arbiter_{name}", Kind.BOUNDED, 15)
