"""Lines A and B become one sequence without duplicates."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import HEADER, NOTICE, PACKET, PACKET_END, TIME, NoticeKind, Truncation, beat
from hw.rtl.params import CardParams
from hw.rtl.wire.buffer import TIME_BITS, VERDICT, LineBuffer
from hw.rtl.wire.judge import POSITION, HeadJudge, LostRanges
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
    take; between packets that are delivered from a buffer there are 9 cycles without a beat, if the
    parser takes 4. An old packet is removed in 8 cycles. With ``params.cut_through`` off nothing
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
        Start, or start anew: what is stored is forgotten, but a packet that is being delivered then
        or in the next cycle is delivered to its end. Before the first start nothing is passed on.
    now : ``In(TIME)``
        Card time in ns.
    i : ``In(stream.Signature(beat(width), always_ready=True)).array(2)``
        Message blocks of each line's packets.
    header : ``In(HEADER).array(2)``
        Header of the packet, from its first beat to the next packet's.
    time : ``In(TIME).array(2)``
        Time of each beat.
    end : ``In(stream.Signature(VERDICT, always_ready=True)).array(2)``
        Verdict on each packet, after its last beat and 3 cycles or more before the next first one.
    continues : ``In(1).array(2)``
        The packet is of the session in use, has the next number, and claims messages: see
        :class:`hw.rtl.wire.continuation.Continuation`. Sampled with its first beat; one that does
        and is not said to is stored.
    position, session_stb, sequence_stb : ``Out(POSITION)``, ``Out(1)``, ``Out(1)``
        The session in use and the next number, and when there is a new one from the next cycle on.
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
    held_packets_max : ``Out(range(2 * packet_count))``
        Most packets that a line whose next one is ahead of a gap held since reset.

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
                "continues": In(1).array(LINE_COUNT),
                "position": Out(POSITION),
                "session_stb": Out(1),
                "sequence_stb": Out(1),
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
                "held_packets_max": Out(range(2 * packet_count)),
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
        position = self.position
        known = position.session_known & position.sequence_known
        m.d.sync += self.next_sequence.eq(Mux(position.sequence_known, position.sequence, 0))
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

        # A start: the position is replaced two cycles later, when nothing begins any more.
        s1_start, s2_start = Signal(), Signal()
        s1_session = Signal.like(self.session, reset_less=True)
        s1_sequence = Signal.like(self.sequence, reset_less=True)
        timeout = Signal(TIME_BITS)
        m.d.sync += [
            *(s1_start.eq(self.start_stb), s2_start.eq(s1_start)),
        ]
        with m.If(self.start_stb):
            m.d.sync += [
                *(s1_session.eq(self.session), s1_sequence.eq(self.sequence)),
                timeout.eq(self.gap_timeout_ns),
            ]

        # A packet is with the parser from its first beat until it is confirmed or retracted.
        busy = Signal()
        source = Signal()  # its line
        straight = Signal(LINE_COUNT)  # It comes straight from this line: the verdict is open,
        flowing = Signal(LINE_COUNT)  # and more of it is to come.
        stored = Signal(LINE_COUNT)  # It is the head of this line's buffer,
        taking = Signal(LINE_COUNT)  # and more of it is to come.
        started = Signal()
        restarting = Signal()
        # There is a new position: two cycles later heads are judged by it.
        moved = Signal()
        s1_settled, s2_settled, s3_settled = Signal(), Signal(), Signal()
        m.d.sync += [
            s1_settled.eq(~moved),
            s2_settled.eq(
                ~moved & s1_settled & started & ~(restarting | self.start_stb | s1_start)
            ),
            s3_settled.eq(~moved & s2_settled),
        ]

        # The time of stored beats, and how long the heads have been here.
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
            b_is_first.eq(judges[1].distance > judges[0].distance),
        ]

        # What the heads allow: to be delivered, to be waited for, to be learnt from.
        good = Cat(b.verdict_valid & ~b.verdict.bad for b in buffers)
        bad = Cat(b.verdict_valid & b.verdict.bad for b in buffers)
        can = Cat(judge.next for judge in judges)
        s1_held = Signal(LINE_COUNT)
        m.d.sync += s1_held.eq(Cat(judge.mature & judge.ahead for judge in judges) & good)
        teaches = Cat(~position.session_known | judge.same for judge in judges) & good
        crowded = Cat(buffer.crowded for buffer in buffers)
        empty = Cat(buffer.empty for buffer in buffers)

        # While it is open, packets go straight through, and nothing else begins: whatever is to be
        # done closes it first. So a first beat waits for nothing that is known late.
        open_ = Signal()
        declare, learn, learn_sequence = Signal(), Signal(), Signal()
        s0_free = Signal()
        m.d.comb += s0_free.eq(s2_settled & ~(busy | open_ | declare | learn))
        s1_gap, s1_learn, s1_head_line = Signal(), Signal(), Signal()
        urgent = s1_held & (s3_expired | crowded)
        m.d.sync += [
            s1_gap.eq(s3_settled & known & ~busy & (empty | s1_held).all() & urgent.any()),
            s1_learn.eq(s2_settled & ~known & ~busy & teaches.any()),
            s1_head_line.eq(Mux(known, s1_held[1] & (~s1_held[0] | b_is_first), ~teaches[0])),
        ]
        if self.params.cut_through:
            to_do = can.any() | s1_gap | declare
            m.d.sync += open_.eq(s2_settled & known & ~busy & ~to_do)
        s2_head = Signal(HEADER, reset_less=True)
        s2_distance = Signal(64, reset_less=True)
        m.d.sync += [
            declare.eq(s0_free & s1_gap & ~can.any()),
            learn.eq(s0_free & s1_learn),
            learn_sequence.eq(s0_free & s1_learn & ~position.sequence_known),
            s2_head.eq(of(s1_head_line, [buffer.head.as_value() for buffer in buffers])),
            s2_distance.eq(of(s1_head_line, [judge.distance for judge in judges])),
        ]

        # A packet goes straight through. There is no time to subtract: it has nothing to skip.
        first = Cat(i.valid & i.payload.first for i in self.i)
        chosen = first & Cat(1, ~first[0])
        passes = Signal(LINE_COUNT)
        m.d.comb += passes.eq(
            (open_ & ~busy).replicate(LINE_COUNT) & chosen & empty & Cat(self.continues)
        )
        for k, (i, buffer) in enumerate(zip(self.i, buffers, strict=True)):
            m.d.comb += buffer.store.eq(started & ~restarting & ~straight[k])
            with m.If(i.valid):
                m.d.sync += flowing[k].eq((passes[k] | flowing[k]) & ~i.payload.last)
            with m.If(passes[k]):
                m.d.sync += straight[k].eq(1)

        # A stored one is delivered, from the next cycle on.
        release_line = can[1] & (~can[0] | b_came_first)
        release, s1_release = Signal(), Signal()
        s1_packet = Signal(PACKET, reset_less=True)
        m.d.comb += release.eq(s0_free & can.any())
        m.d.sync += [
            s1_release.eq(release),
            s1_packet.sequence.eq(of(release_line, [b.head.sequence for b in buffers])),
            s1_packet.message_count.eq(of(release_line, [b.head.message_count for b in buffers])),
            s1_packet.skip.eq(of(release_line, [judge.distance for judge in judges])),
            s1_packet.age.eq(of(release_line, [b.head.age for b in buffers])),
        ]
        for k, buffer in enumerate(buffers):
            m.d.comb += buffer.o.ready.eq(taking[k])
            with m.If(release & (release_line == k)):
                m.d.sync += [stored[k].eq(1), taking[k].eq(1)]
            with m.Elif(buffer.o.valid & buffer.o.payload.beat.last):
                m.d.sync += taking[k].eq(0)
        with m.If(release | passes.any()):
            m.d.sync += busy.eq(1)

        # The beat that goes out.
        straight_line = flowing[1] | ~(flowing[0] | first[0])
        stored_line = stored[1]
        s0_stored = stored.any()
        stored_time = of(stored_line, stored_times)
        # Beats are young: a high bit that has gone since tells that the low bits have wrapped.
        wrapped = stored_time[-1] & ~s1_now[TIME_BITS - 1]
        stored_upper = Mux(wrapped, s1_now_less, s1_now[TIME_BITS:])
        m.d.sync += [
            self.o.valid.eq(
                passes.any()
                | (flowing & Cat(i.valid for i in self.i)).any()
                | (taking & Cat(buffer.o.valid for buffer in buffers)).any()
            ),
            self.o.payload.eq(
                Mux(
                    s0_stored,
                    of(stored_line, [buffer.o.payload.beat.as_value() for buffer in buffers]),
                    of(straight_line, [i.payload.as_value() for i in self.i]),
                )
            ),
            self.o_time.eq(
                Mux(
                    s0_stored,
                    Cat(stored_time, stored_upper),
                    of(straight_line, list(self.time)),
                )
            ),
        ]
        s0_header = Signal(HEADER)
        m.d.comb += s0_header.eq(of(straight_line, [h.as_value() for h in self.header]))
        with m.If(~busy | s1_release):
            m.d.sync += source.eq(Mux(s1_release, stored[1], straight_line))
        with m.If(s1_release):
            m.d.sync += self.o_packet.eq(s1_packet)
        with m.Elif(~busy):
            m.d.sync += [
                self.o_packet.sequence.eq(s0_header.sequence),
                self.o_packet.message_count.eq(s0_header.message_count),
                self.o_packet.skip.eq(0),
                self.o_packet.age.eq(s0_header.age),
            ]

        # The parser's answer.
        notice = self.o_notice.payload
        answered = Signal()
        s1_next = Signal(64, reset_less=True)
        s1_newer = Signal(reset_less=True)
        s1_truncated = Signal(reset_less=True)
        s1_advances = Signal()  # It is newer, and of the sequence that is in use.
        with m.If(self.i_end.valid):
            m.d.sync += [
                answered.eq(1),
                s1_next.eq(self.i_end.payload.next_sequence),
                s1_newer.eq(self.i_end.payload.next_sequence > notice.sequence),
                s1_advances.eq(self.i_end.payload.next_sequence > notice.sequence),
                s1_truncated.eq(self.i_end.payload.truncation != Truncation.NONE),
            ]

        with m.If(s2_start | restarting):
            m.d.sync += s1_advances.eq(0)

        # The verdict. A stored packet leaves its buffer then, to make room for the next head.
        told_good, told_bad = Signal(), Signal()
        leaves = Signal(LINE_COUNT)
        for k, (buffer, end) in enumerate(zip(buffers, self.end, strict=True)):
            s1_end = Signal(name=f"s1_end_{k}")
            s1_end_bad = Signal(name=f"s1_end_bad_{k}", reset_less=True)
            m.d.sync += [s1_end.eq(end.valid), s1_end_bad.eq(end.payload.bad)]
            m.d.comb += leaves[k].eq(stored[k] & ~taking[k] & buffer.verdict_valid & ~buffer.remove)
            with m.If(straight[k] & s1_end):
                m.d.sync += [straight[k].eq(0), told_good.eq(~s1_end_bad), told_bad.eq(s1_end_bad)]
            with m.If(leaves[k]):
                m.d.sync += [stored[k].eq(0), told_good.eq(good[k]), told_bad.eq(bad[k])]

        # With both the packet is confirmed or retracted.
        conclude, confirm = Signal(), Signal()
        m.d.comb += [
            conclude.eq(answered & (told_good | told_bad)),
            confirm.eq(answered & told_good),
        ]
        with m.If(conclude):
            m.d.sync += [busy.eq(0), answered.eq(0), told_good.eq(0), told_bad.eq(0)]
        with m.If(~busy):
            m.d.sync += notice.sequence.eq(position.sequence)
        m.d.sync += [
            self.o_notice.valid.eq(conclude | declare),
            notice.kind.eq(
                Mux(declare, NoticeKind.GAP, Mux(confirm, NoticeKind.CONFIRM, NoticeKind.RETRACT))
            ),
            notice.next_sequence.eq(
                Mux(declare, s2_head.sequence, Mux(s1_newer, s1_next, notice.sequence))
            ),
        ]

        # The position moves on: past the packet, past the gap, to what was learnt.
        touching = Signal()  # It is where the last lost range ends.
        end_seen = Signal()
        advance = confirm & s1_advances
        m.d.comb += [
            moved.eq(advance | declare | learn | s2_start),
            *(self.sequence_stb.eq(moved), self.session_stb.eq(learn | s2_start)),
        ]
        with m.If(s2_start):
            m.d.sync += [position.sequence.eq(s1_sequence), touching.eq(0)]
        with m.Elif(declare):
            m.d.sync += [position.sequence.eq(s2_head.sequence), touching.eq(1)]
        with m.Elif(learn_sequence):
            m.d.sync += position.sequence.eq(s2_head.sequence)
        with m.Elif(advance):
            m.d.sync += [position.sequence.eq(s1_next), touching.eq(0)]
        with m.If(s2_start):
            m.d.sync += [
                *(position.session.eq(s1_session), position.session_known.eq(s1_session.any())),
                position.sequence_known.eq(s1_sequence.any()),
            ]
        with m.Elif(learn):
            m.d.sync += [position.session_known.eq(1), position.sequence_known.eq(1)]
            with m.If(~position.session_known):
                m.d.sync += position.session.eq(s2_head.session)
        with m.If(declare):
            m.d.sync += self.lost_count.eq(self.lost_count - s2_distance)
        m.d.comb += [
            *(ranges.add_stb.eq(declare), ranges.merge.eq(touching)),
            *(ranges.first.eq(position.sequence), ranges.end.eq(s2_head.sequence)),
        ]

        # A start: once no packet is with the parser, everything stored is forgotten.
        clear = Signal()
        m.d.comb += [
            clear.eq(restarting & ~busy),
            ranges.clear.eq(clear),
            *(buffer.clear.eq(clear) for buffer in buffers),
        ]
        with m.If(clear):
            m.d.sync += restarting.eq(0)
        with m.If(s2_start):
            m.d.sync += [started.eq(1), restarting.eq(1), end_seen.eq(0)]

        # What a line cannot use goes.
        ends = []
        for k, (buffer, judge) in enumerate(zip(buffers, judges, strict=True)):
            refused = Signal(name=f"refused_{k}")
            judged = Signal(name=f"judged_{k}")  # This line's packet was with the parser.
            drop = Signal(name=f"drop_{k}")
            s1_bad = Signal(name=f"s1_bad_{k}")
            s1_useless = Signal(name=f"s1_useless_{k}")
            s1_foreign = Signal(name=f"s1_foreign_{k}")
            m.d.sync += [
                s1_bad.eq(bad[k] & ~buffer.remove),
                s1_useless.eq(good[k] & (judge.foreign | judge.done) & ~buffer.remove),
                s1_foreign.eq(judge.foreign),
            ]
            m.d.comb += [
                judged.eq(conclude & (source == k)),
                drop.eq(
                    (s1_bad | (s1_useless & judge.mature))
                    & ~(stored[k] | refused | restarting | (answered & (source == k)))
                    & ~buffer.remove
                ),
            ]
            m.d.sync += [buffer.remove.eq(drop | leaves[k]), self.drop_stb[k].eq(0)]
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
            with m.Else():
                m.d.sync += [
                    self.drop_stb[k].eq(drop & s1_useless & (s1_foreign | ~judge.announces)),
                    self.drop_reason[k].eq(
                        Mux(
                            s1_foreign,
                            DropReason.MOLD_SESSION,
                            Mux(judge.late, DropReason.TOO_LATE, DropReason.DUPLICATE),
                        )
                    ),
                ]
            with m.If(buffer.refused_stb):
                m.d.sync += refused.eq(1)
            ends.append(drop & s1_useless & ~s1_foreign & judge.ends_session)
        ended = Cat(ends).any() & ~end_seen
        m.d.sync += self.end_of_session_stb.eq(ended)
        with m.If(ended):
            m.d.sync += end_seen.eq(1)

        used = [buffer.used for buffer in buffers]
        s1_used = Signal.like(used[0])
        m.d.sync += s1_used.eq(of(used[1] > used[0], used))
        with m.If(s1_used > self.held_max):
            m.d.sync += self.held_max.eq(s1_used)
        held = [Mux(s1_held[k], buffers[k].packets, 0) for k in lines]
        s1_packets = Signal.like(self.held_packets_max)
        m.d.sync += s1_packets.eq(of(held[1] > held[0], held))
        with m.If(s1_packets > self.held_packets_max):
            m.d.sync += self.held_packets_max.eq(s1_packets)
        return m
