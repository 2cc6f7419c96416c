"""Where packets stand in the sequence: old, next, or ahead."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import HEADER
from protocol import moldudp64

SEQUENCE_BITS = 64
RANGE_COUNT = 4
"""Ranges of lost numbers that are remembered."""

POSITION = data.StructLayout(
    {
        "session": 80,
        "session_known": 1,
        "sequence": SEQUENCE_BITS,
        "sequence_known": 1,
    }
)
"""The session in use and the next number to deliver, where they are known."""

RANGE = data.StructLayout({"valid": 1, "first": SEQUENCE_BITS, "end": SEQUENCE_BITS})
"""Numbers from ``first`` to before ``end``."""


def claims_none(message_count: Value) -> Value:
    """Whether a packet only announces a number: a heartbeat or an end of session."""
    return (message_count == moldudp64.HEARTBEAT) | (message_count == moldudp64.END_OF_SESSION)


class LostRanges(wiring.Component):
    """Remembers the last ``RANGE_COUNT`` ranges of numbers declared lost, and tells them in turn.

    A range that touches the last one is merged with it. The oldest is forgotten for a new one.

    Latency is 2 cycles from ``add_stb`` until the range is told. Throughput is 1 range per cycle.
    Memory is not cleared: ``o.valid`` says what was written since ``clear``.

    Members
    -------
    add_stb : ``In(1)``
        A range is lost.
    merge : ``In(1)``
        It begins where the last one ends. Sampled with ``add_stb``.
    first, end : ``In(64)``
        The range. Sampled with ``add_stb``.
    clear : ``In(1)``
        Forget all.
    o : ``Out(RANGE)``
        One of the ranges, each in ``RANGE_COUNT`` successive cycles.
    """

    add_stb: In(1)
    merge: In(1)
    first: In(SEQUENCE_BITS)
    end: In(SEQUENCE_BITS)
    clear: In(1)
    o: Out(RANGE)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        firsts, ends = (
            Memory(
                shape=SEQUENCE_BITS, depth=RANGE_COUNT, init=[], attrs={"ram_style": "distributed"}
            )
            for _ in range(2)
        )
        m.submodules.firsts, m.submodules.ends = firsts, ends
        turn = Signal(range(RANGE_COUNT))
        newest = Signal(range(RANGE_COUNT))
        address = Signal(range(RANGE_COUNT))
        written = Signal(RANGE_COUNT)
        m.d.comb += address.eq(Mux(self.merge, newest, newest + 1))
        m.d.sync += [turn.eq(turn + 1), self.o.valid.eq(written.bit_select(turn, 1) & ~self.clear)]
        for memory, given, told in (
            (firsts, self.first, self.o.first),
            (ends, self.end, self.o.end),
        ):
            write, read = memory.write_port(), memory.read_port()
            m.d.comb += [
                write.en.eq(self.add_stb & ~(self.merge if memory is firsts else 0)),
                write.addr.eq(address),
                write.data.eq(given),
                read.addr.eq(turn),
                told.eq(read.data),
            ]
        with m.If(self.add_stb):
            m.d.sync += [newest.eq(address), written.bit_select(address, 1).eq(1)]
        with m.If(self.clear):
            m.d.sync += written.eq(0)
        return m


class HeadJudge(wiring.Component):
    """Says where the packet at the head of a line stands in the sequence.

    Numbers are compared without wrap: the last is ``2 ** 64 - 1``, and one packet may claim beyond.

    Latency is 3 cycles from ``head`` and ``head_valid`` to the flags and ``RANGE_COUNT + 2`` to
    ``mature``; from ``position`` it is 2 cycles, and 3 from its session. Throughput is 1 position
    per cycle; a head stays until it is removed.

    Members
    -------
    head_valid, head : ``In(1)``, ``In(HEADER)``
        The packet.
    remove : ``In(1)``
        This is its last cycle: no flag is high in the next three.
    bad : ``In(1)``
        It is known to be bad, and is not next any more. Latency is 1 cycle.
    position : ``In(POSITION)``
        Against which it is judged.
    lost : ``In(RANGE)``
        Ranges of lost numbers, in turn.
    same, foreign : ``Out(1)``
        The packet is of the session in use; of another one. Neither while none is known.
    next, done, ahead : ``Out(1)``
        In a known sequence the packet has the next message; has no message that was not delivered,
        and announces none; begins or announces beyond the next message. For a packet of the same
        session just one holds, if it is not bad.
    mature : ``Out(1)``
        The packet was compared with all lost ranges.
    late : ``Out(1)``
        All its numbers lie in a range declared lost. Without meaning until ``mature``.
    announces, ends_session : ``Out(1)``
        It claims no number; it is an end of session. Without meaning until ``mature``.
    distance : ``Out(64)``
        The next number less the packet's first. Latency is 2 cycles.
    """

    head_valid: In(1)
    head: In(HEADER)
    remove: In(1)
    bad: In(1)
    position: In(POSITION)
    lost: In(RANGE)
    same: Out(1)
    foreign: Out(1)
    next: Out(1)
    done: Out(1)
    ahead: Out(1)
    mature: Out(1)
    late: Out(1)
    announces: Out(1)
    ends_session: Out(1)
    distance: Out(SEQUENCE_BITS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        head, position = self.head, self.position

        # Stage 0: where the packet begins and ends.
        s1_valid = Signal()
        s1_sequence = Signal(SEQUENCE_BITS, reset_less=True)
        s1_end = Signal(SEQUENCE_BITS + 1, reset_less=True)
        s1_session_parts = Signal(len(head.session) // 8, reset_less=True)
        s1_session_known = Signal(reset_less=True)
        m.d.sync += [
            s1_valid.eq(self.head_valid & ~self.remove),
            s1_sequence.eq(head.sequence),
            s1_end.eq(head.sequence + head.message_count),
            s1_session_parts.eq(
                Cat(
                    position.session.word_select(part, 8) == head.session.word_select(part, 8)
                    for part in range(len(s1_session_parts))
                )
            ),
            s1_session_known.eq(position.session_known),
            self.announces.eq(claims_none(head.message_count)),
            self.ends_session.eq(head.message_count == moldudp64.END_OF_SESSION),
        ]

        # Stage 1: against the position, and one range a cycle. Less-than is a carry chain; with the
        # other comparisons synthesis looks for equality as well, which takes longer.
        s1_judged = s1_valid & ~self.remove
        s1_range = Signal(range(RANGE_COUNT))
        s1_lost = Signal(RANGE, reset_less=True)
        s2_valid, s2_last = Signal(), Signal()
        s2_reached = Signal(reset_less=True)
        s2_goes_on = Signal(reset_less=True)
        s2_same = Signal(reset_less=True)
        s2_session_known = Signal(reset_less=True)
        s2_known = Signal(reset_less=True)
        s2_begun = Signal(reset_less=True)  # It does not begin before the range, nor end behind it.
        s2_ended = Signal(reset_less=True)
        m.d.sync += [
            s1_lost.eq(self.lost),
            s2_valid.eq(s1_judged),
            s2_last.eq(s1_judged & (s1_range == RANGE_COUNT - 1)),
            s2_reached.eq(~(position.sequence < s1_sequence)),
            s2_goes_on.eq(position.sequence < s1_end),
            s2_same.eq(s1_session_parts.all()),
            s2_session_known.eq(s1_session_known),
            s2_known.eq(s1_session_known & position.session_known & position.sequence_known),
            s2_begun.eq(s1_lost.valid & ~(s1_sequence < s1_lost.first)),
            s2_ended.eq(~(s1_lost.end < s1_end)),
            self.distance.eq(position.sequence - s1_sequence),
        ]

        # Stage 2: flags.
        s2_judged = s2_valid & ~self.remove
        s2_placed = s2_judged & s2_known & s2_same
        claims_next = s2_goes_on & ~self.announces
        m.d.sync += [
            self.same.eq(s2_judged & s2_session_known & s2_same),
            self.foreign.eq(s2_judged & s2_session_known & ~s2_same),
            self.next.eq(s2_placed & s2_reached & claims_next & ~self.bad),
            self.done.eq(s2_placed & s2_reached & ~claims_next),
            self.ahead.eq(s2_placed & ~s2_reached),
            self.late.eq(s2_valid & (self.late | (s2_begun & s2_ended))),
            self.mature.eq(s2_last & ~self.remove),
        ]
        with m.If(~s1_judged):
            m.d.sync += s1_range.eq(0)
        with m.Elif(s1_range != RANGE_COUNT - 1):
            m.d.sync += s1_range.eq(s1_range + 1)
        return m
