"""Lines A and B become one sequence without duplicates."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import HEADER, NOTICE, PACKET, PACKET_END, TIME, NoticeKind, Truncation, beat
from hw.rtl.params import CardParams
from hw.rtl.wire.buffer import TIME_BITS, VERDICT, LineBuffer
from hw.rtl.wire.judge import POSITION, HeadJudge, LostRanges, claims_none
from protocol.reasons import DropReason

LINE_COUNT = 2
BUFFER_BEATS = {1: 8_192, 8: 2_048}
"""Beats of each line that can be held, by bytes a beat."""

REASON = range(DropReason.BUFFER_FULL + 1)
"""The :class:`DropReason` of a packet."""


class Arbiter(wiring.Component):
    """Merges lines A and B (0 and 1) into one sequence without duplicates.

    Each number is delivered once and numbers only increase: the first line that brings a message
    wins, and the other fills gaps. A packet that is partly old is delivered from its first new
    message on. One that begins with the next message goes straight from its line to ``o`` if its
    line's buffer is empty and nothing else is to be done; every other is stored in its line's
    buffer until it has the next message, or is old. Of two first beats in one cycle that of line A
    may go straight, and B's is stored. Of two stored packets that have the next message the one
    that came first is delivered.

    What follows a packet waits until the parser has told how many messages it had, and its line
    whether it was good. A bad one is retracted: the next number is what it was before, so the other
    line's copy can take its place. A stored packet that is known to be bad is never delivered.

    A gap is there when a good stored packet or announcement (heartbeat, end of session) is ahead of
    the next number. It is declared lost when that one has been here for more than
    ``gap_timeout_ns``, or when its buffer has no room for two packets more: then the first number
    that a line can go on with is next. A packet is refused when there is no room for one of the
    longest kind. A line keeps its order: what it brings after what it overtook is old by then. Old
    packets are TOO_LATE if all their numbers are in one of the last 4 ranges declared lost, where
    ranges that touch are one range, else DUPLICATE.

    Where session or next number is not given, that of the first good packet is taken: nothing is
    delivered before. Numbers are not expected to pass ``2 ** 64 - 1``. Beats are stored with the
    low 32 bits of their time, so ``gap_timeout_ns`` must be well below 2 s.

    Latency is 1 cycle from ``i`` to ``o`` for a packet that goes straight through. A stored one is
    delivered 6 cycles after the end of the one before. Throughput is 1 beat per cycle on both
    lines, with 9 cycles between a packet's last beat and its line's next first one, as headers
    take; between packets that are delivered from a buffer there are 8 cycles without a beat, if the
    parser takes 3. An old packet is removed in 7 cycles. With ``params.cut_through`` off nothing
    goes straight through and nothing is retracted: packets are delivered when found good.

    Parameters
    ----------
    params : CardParams
        Its ``width`` and ``cut_through`` are used.
    buffer_beats : int, optional
        Beats of each line that can be stored. A power of two with room for two packets of the
        longest kind; 8,192 for beats of one byte and 2,048 for beats of eight if not given.
    packet_count : int
        Packets of each line that can be stored. A power of two, 4 or more.

    Members
    -------
    session, sequence, gap_timeout_ns : ``In(80)``, ``In(64)``, ``In(32)``
        Session, first number to deliver, and how long it is waited for missing messages. A session
        or number of zero is not given. Sampled with ``start_stb``.
    start_stb : ``In(1)``
        Start, or start anew: what is stored is forgotten, but a packet that is being delivered is
        delivered to its end. Before the first start nothing is passed on.
    now : ``In(TIME)``
        Card time in ns.
    i : ``In(stream.Signature(beat(width), always_ready=True)).array(2)``
        Message blocks of each line's packets.
    header : ``In(HEADER).array(2)``
        Header of the packet, from its first beat to the next packet's.
    time : ``In(TIME).array(2)``
        Time of each beat.
    end : ``In(stream.Signature(VERDICT, always_ready=True)).array(2)``
        Verdict on each packet, after its last beat and 2 cycles or more before the next first one.
    o : ``Out(stream.Signature(beat(width), always_ready=True))``
        Message blocks of packets for the parser, one after the other.
    o_packet : ``Out(PACKET)``
        Numbers of the packet, from its first beat to the next packet's.
    o_time : ``Out(TIME)``
        Time of each beat.
    i_end : ``In(stream.Signature(PACKET_END, always_ready=True))``
        The parser's answer to each packet, one cycle or more after its last beat.
    o_notice : ``Out(stream.Signature(NOTICE, always_ready=True))``
        What became of each packet, and of lost messages; never from the first beat of a packet to
        its answer. A packet without new messages is told as well, with no number.
    drop_stb, drop_reason : ``Out(1).array(2)``, ``Out(REASON).array(2)``
        A good packet of a line was not used, or not all of it: MOLD_SESSION, DUPLICATE, TOO_LATE,
        MOLD_TRUNCATED, BUFFER_FULL.
    lost_count : ``Out(64)``
        Numbers declared lost since reset.
    next_sequence : ``Out(64)``
        Next number to deliver, 0 while it is not known.
    end_of_session_stb : ``Out(1)``
        All messages of the session were delivered or declared lost; once a start.
    held_max : ``Out(range(buffer_beats + 1))``
        Most beats stored of a line since reset.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.

    [MoldUDP64 1.00: Downstream Packet, Heartbeats, End of Session]
    """

    def __init__(
        self, params: CardParams, buffer_beats: int | None = None, packet_count: int = 64
    ) -> None:
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.params = params
        if buffer_beats is None:
            buffer_beats = BUFFER_BEATS[params.width]
        self.buffers = [
            LineBuffer(params.width, buffer_beats, packet_count, params.cut_through)
            for _ in range(LINE_COUNT)
        ]
        blocks = stream.Signature(beat(params.width), always_ready=True)
        super().__init__(
            {
                "session": In(POSITION["session"].shape),
                "sequence": In(POSITION["sequence"].shape),
                "gap_timeout_ns": In(TIME_BITS),
                "start_stb": In(1),
                "now": In(TIME),
                "i": In(blocks).array(LINE_COUNT),
                "header": In(HEADER).array(LINE_COUNT),
                "time": In(TIME).array(LINE_COUNT),
                "end": In(stream.Signature(VERDICT, always_ready=True)).array(LINE_COUNT),
                "o": Out(blocks),
                "o_packet": Out(PACKET),
                "o_time": Out(TIME),
                "i_end": In(stream.Signature(PACKET_END, always_ready=True)),
                "o_notice": Out(stream.Signature(NOTICE, always_ready=True)),
                "drop_stb": Out(1).array(LINE_COUNT),
                "drop_reason": Out(REASON).array(LINE_COUNT),
                "lost_count": Out(64),
                "next_sequence": Out(64),
                "end_of_session_stb": Out(1),
                "held_max": Out(range(buffer_beats + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        def of(line: Value, values: list[Value]) -> Value:
            return Mux(line, values[1], values[0])

        m = Module()
        lines = range(LINE_COUNT)
        buffers = self.buffers
        judges = [HeadJudge() for _ in lines]
        m.submodules.ranges = ranges = LostRanges()
        position = Signal(POSITION)
        known = position.session_known & position.sequence_known
        m.d.comb += self.next_sequence.eq(Mux(position.sequence_known, position.sequence, 0))
        for k, (buffer, judge) in enumerate(zip(buffers, judges, strict=True)):
            m.submodules[f"buffer_{k}"] = buffer
            m.submodules[f"judge_{k}"] = judge
            m.d.comb += [
                buffer.i.payload.eq(self.i[k].payload),
                buffer.i.valid.eq(self.i[k].valid),
                buffer.header.eq(self.header[k]),
                buffer.time.eq(self.time[k]),
                buffer.end.payload.eq(self.end[k].payload),
                buffer.end.valid.eq(self.end[k].valid),
                judge.head_valid.eq(buffer.head_valid),
                judge.remove.eq(buffer.remove | buffer.clear),
                judge.bad.eq(buffer.verdict_valid & buffer.verdict.bad),
                judge.head.eq(buffer.head),
                judge.position.eq(position),
                judge.lost.eq(ranges.o),
            ]

        # A packet is with the parser from its first beat until it is confirmed or retracted.
        busy = Signal()
        source = Signal()  # its line,
        direct = Signal()  # whether it comes straight from there,
        sending = Signal()  # and whether more of it is to come.
        started = Signal()
        restarting = Signal()
        moved = Signal()  # There is a new position: two cycles later everything is judged by it.
        s1_settled, s2_settled = Signal(), Signal()
        s0_free = s2_settled & ~busy & ~self.start_stb
        m.d.sync += [
            s1_settled.eq(~moved),
            s2_settled.eq(~moved & s1_settled & started & ~restarting),
        ]

        # The time of stored beats, and how long the heads have been here.
        timeout = Signal(TIME_BITS)
        s1_now = Signal(TIME, reset_less=True)
        s1_now_less = Signal(TIME.width - TIME_BITS, reset_less=True)  # before the low bits wrapped
        m.d.sync += [s1_now.eq(self.now), s1_now_less.eq(self.now[TIME_BITS:] - 1)]
        stored_times = [buffer.o.payload.time for buffer in buffers]
        s2_waited = [Signal(TIME_BITS, name=f"s2_waited_{k}", reset_less=True) for k in lines]
        s3_expired = Signal(LINE_COUNT)
        for k in lines:
            m.d.sync += [
                s2_waited[k].eq(s1_now[:TIME_BITS] - stored_times[k]),
                s3_expired[k].eq(s2_waited[k] > timeout),
            ]
        later = Signal(TIME_BITS)
        b_came_first, b_is_first = Signal(), Signal()
        m.d.comb += later.eq(stored_times[1] - stored_times[0])
        m.d.sync += [
            b_came_first.eq(later[-1]),
            b_is_first.eq(buffers[1].head.sequence < buffers[0].head.sequence),
        ]

        # What the heads allow: to be delivered, to be waited for, to be learnt from.
        good = Cat(b.verdict_valid & ~b.verdict.bad for b in buffers)
        bad = Cat(b.verdict_valid & b.verdict.bad for b in buffers)
        can = Cat(judge.next for judge in judges)
        held = Cat(judge.mature & judge.ahead for judge in judges) & good
        teaches = Cat(~position.session_known | judge.same for judge in judges) & good
        crowded = Cat(buffer.crowded for buffer in buffers)
        empty = Cat(buffer.empty for buffer in buffers)

        # A gap is declared, or something is learnt, one cycle after it was found that it can be. In
        # between a packet may begin, and then it is found anew.
        s1_gap, s1_learn, s1_head_line = Signal(), Signal(), Signal()
        declare, learn, s1_head = Signal(), Signal(), Signal(HEADER)
        m.d.sync += [
            s1_gap.eq(
                s0_free & known & (empty | held).all() & (held & (s3_expired | crowded)).any()
            ),
            s1_learn.eq(s0_free & ~known & teaches.any()),
            s1_head_line.eq(Mux(known, held[1] & (~held[0] | b_is_first), ~teaches[0])),
        ]
        m.d.comb += [
            declare.eq(s0_free & s1_gap & ~can.any()),
            learn.eq(s0_free & s1_learn),
            s1_head.eq(of(s1_head_line, [buffer.head.as_value() for buffer in buffers])),
        ]

        # A stored packet is delivered, or one goes straight through. There is no time to subtract:
        # that one has nothing to skip.
        release, release_line = Signal(), Signal()
        passes, pass_line = Signal(LINE_COUNT), Signal()
        open_ = s0_free & known & ~s1_gap & ~can.any() & self.params.cut_through
        begins = [empty[k] & i.valid & i.payload.first for k, i in enumerate(self.i)]
        straight = [
            (header.session == position.session)
            & (header.sequence == position.sequence)
            & ~claims_none(header.message_count)
            for header in self.header
        ]
        m.d.comb += [
            release.eq(s0_free & can.any()),
            release_line.eq(can[1] & (~can[0] | b_came_first)),
            pass_line.eq(~begins[0]),
            passes[0].eq(open_ & begins[0] & straight[0]),
            passes[1].eq(open_ & begins[1] & ~begins[0] & straight[1]),
        ]
        for k, buffer in enumerate(buffers):
            m.d.comb += buffer.store.eq(started & ~restarting & ~passes[k])

        # The beat that goes out.
        s0_line, s0_stored = Signal(), Signal()
        s0_beat = Signal(beat(self.params.width))
        s0_header = Signal(HEADER)
        s0_valid = Signal()
        stored_beats = [buffer.o.payload.beat.as_value() for buffer in buffers]
        stored_time = of(s0_line, stored_times)
        # Beats are young: a high bit that has gone since tells that the low bits have wrapped.
        wrapped = stored_time[-1] & ~s1_now[TIME_BITS - 1]
        stored_upper = Mux(wrapped, s1_now_less, s1_now[TIME_BITS:])
        m.d.comb += [
            s0_stored.eq(Mux(busy, ~direct, can.any())),
            s0_line.eq(Mux(busy, source, Mux(can.any(), release_line, pass_line))),
            s0_beat.eq(
                Mux(
                    s0_stored,
                    of(s0_line, stored_beats),
                    of(s0_line, [i.payload.as_value() for i in self.i]),
                )
            ),
            s0_header.eq(
                Mux(
                    s0_stored,
                    of(s0_line, [buffer.head.as_value() for buffer in buffers]),
                    of(s0_line, [header.as_value() for header in self.header]),
                )
            ),
            s0_valid.eq(
                Mux(
                    busy,
                    sending
                    & Mux(
                        direct,
                        of(source, [i.valid for i in self.i]),
                        of(source, [buffer.o.valid for buffer in buffers]),
                    ),
                    release | passes.any(),
                )
            ),
        ]
        for k, buffer in enumerate(buffers):
            m.d.comb += buffer.o.ready.eq(
                Mux(busy, sending & ~direct & (source == k), release & (release_line == k))
            )
        m.d.sync += [
            self.o.valid.eq(s0_valid),
            self.o.payload.eq(s0_beat),
            self.o_time.eq(
                Mux(s0_stored, Cat(stored_time, stored_upper), of(s0_line, list(self.time)))
            ),
        ]
        with m.If(s0_valid):
            m.d.sync += [busy.eq(1), sending.eq(~s0_beat.last)]
        with m.If(~busy):
            m.d.sync += [
                source.eq(s0_line),
                direct.eq(~s0_stored),
                self.o_packet.sequence.eq(s0_header.sequence),
                self.o_packet.message_count.eq(s0_header.message_count),
                self.o_packet.skip.eq(
                    Mux(s0_stored, of(s0_line, [judge.distance for judge in judges]), 0)
                ),
            ]

        # The parser's answer and the verdict on a packet that came straight through.
        notice = self.o_notice.payload
        answered = Signal()
        s1_next = Signal(64, reset_less=True)
        s1_newer = Signal(reset_less=True)
        s1_truncated = Signal(reset_less=True)
        told, told_bad = Signal(), Signal(reset_less=True)
        with m.If(self.i_end.valid):
            m.d.sync += [
                answered.eq(1),
                s1_next.eq(self.i_end.payload.next_sequence),
                s1_newer.eq(self.i_end.payload.next_sequence > notice.sequence),
                s1_truncated.eq(self.i_end.payload.truncation != Truncation.NONE),
            ]
        source_end = of(source, [Cat(end.valid, end.payload.bad) for end in self.end])
        with m.If(busy & source_end[0]):
            m.d.sync += [told.eq(1), told_bad.eq(source_end[1])]

        # With both the packet is confirmed or retracted.
        conclude, confirm = Signal(), Signal()
        m.d.comb += [
            conclude.eq(answered & Mux(direct, told, (good | bad).bit_select(source, 1))),
            confirm.eq(conclude & Mux(direct, ~told_bad, good.bit_select(source, 1))),
        ]
        with m.If(conclude):
            m.d.sync += [busy.eq(0), answered.eq(0), told.eq(0)]
        with m.If(~busy):
            m.d.sync += notice.sequence.eq(position.sequence)
        m.d.sync += [
            self.o_notice.valid.eq(conclude | declare),
            notice.kind.eq(
                Mux(declare, NoticeKind.GAP, Mux(confirm, NoticeKind.CONFIRM, NoticeKind.RETRACT))
            ),
            notice.next_sequence.eq(
                Mux(declare, s1_head.sequence, Mux(s1_newer, s1_next, notice.sequence))
            ),
        ]

        # The position moves on: past the packet, past the gap, to what was learnt.
        touching = Signal()  # It is where the last lost range ends.
        end_seen = Signal()
        with m.If(confirm & s1_newer & ~restarting):
            m.d.comb += moved.eq(1)
            m.d.sync += [position.sequence.eq(s1_next), touching.eq(0)]
        with m.If(declare):
            m.d.comb += moved.eq(1)
            m.d.sync += [
                position.sequence.eq(s1_head.sequence),
                touching.eq(1),
                self.lost_count.eq(
                    self.lost_count - of(s1_head_line, [judge.distance for judge in judges])
                ),
            ]
        m.d.comb += [
            ranges.add_stb.eq(declare),
            ranges.merge.eq(touching),
            ranges.first.eq(position.sequence),
            ranges.end.eq(s1_head.sequence),
        ]
        with m.If(learn):
            m.d.comb += moved.eq(1)
            m.d.sync += [position.session_known.eq(1), position.sequence_known.eq(1)]
            with m.If(~position.session_known):
                m.d.sync += position.session.eq(s1_head.session)
            with m.If(~position.sequence_known):
                m.d.sync += position.sequence.eq(s1_head.sequence)

        # A start: once no packet is with the parser, everything stored is forgotten.
        clear = Signal()
        m.d.comb += [
            clear.eq(restarting & ~busy),
            ranges.clear.eq(clear),
            *(buffer.clear.eq(clear) for buffer in buffers),
        ]
        with m.If(clear):
            m.d.sync += restarting.eq(0)
        with m.If(self.start_stb):
            m.d.comb += moved.eq(1)
            m.d.sync += [
                started.eq(1),
                restarting.eq(1),
                position.session.eq(self.session),
                position.session_known.eq(self.session.any()),
                position.sequence.eq(self.sequence),
                position.sequence_known.eq(self.sequence.any()),
                timeout.eq(self.gap_timeout_ns),
                touching.eq(0),
                end_seen.eq(0),
            ]

        # What a line cannot use goes.
        ends = []
        for k, (buffer, judge) in enumerate(zip(buffers, judges, strict=True)):
            refused = Signal(name=f"refused_{k}")
            judged = Signal(name=f"judged_{k}")  # This line's packet was with the parser.
            drop = Signal(name=f"drop_{k}")
            s1_bad = Signal(name=f"s1_bad_{k}")
            m.d.sync += s1_bad.eq(bad[k] & ~buffer.remove)
            m.d.comb += [
                judged.eq(conclude & (source == k)),
                drop.eq(
                    (s1_bad | (good[k] & judge.mature & (judge.foreign | judge.done)))
                    & ~((busy & ~direct | answered) & (source == k))
                    & ~(refused | restarting)
                ),
                buffer.remove.eq(drop | (judged & ~direct)),
            ]
            m.d.sync += self.drop_stb[k].eq(0)
            with m.If(judged):
                m.d.sync += [
                    self.drop_stb[k].eq(confirm & s1_truncated),
                    self.drop_reason[k].eq(DropReason.MOLD_TRUNCATED),
                ]
            with m.Elif(refused):
                m.d.sync += [
                    refused.eq(0),
                    self.drop_stb[k].eq(1),
                    self.drop_reason[k].eq(DropReason.BUFFER_FULL),
                ]
            with m.Elif(drop & good[k]):
                m.d.sync += [
                    self.drop_stb[k].eq(judge.foreign | ~judge.announces),
                    self.drop_reason[k].eq(
                        Mux(
                            judge.foreign,
                            DropReason.MOLD_SESSION,
                            Mux(judge.late, DropReason.TOO_LATE, DropReason.DUPLICATE),
                        )
                    ),
                ]
            with m.If(buffer.refused_stb):
                m.d.sync += refused.eq(1)
            ends.append(drop & good[k] & judge.done & judge.ends_session)
        ended = Cat(ends).any() & ~end_seen
        m.d.sync += self.end_of_session_stb.eq(ended)
        with m.If(ended):
            m.d.sync += end_seen.eq(1)

        used = [buffer.used for buffer in buffers]
        s1_used = Signal.like(used[0])
        m.d.sync += s1_used.eq(of(used[1] > used[0], used))
        with m.If(s1_used > self.held_max):
            m.d.sync += self.held_max.eq(s1_used)
        return m
