"""Collects the ITCH messages of MoldUDP64 packets.

Blocks are never re-aligned as words. Each beat is rotated by the lane that its message began at and
written into the message's register; what remains from beat to beat is where the next block begins.
"""

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import MESSAGE, MESSAGE_SIZE_MAX, PACKET, PACKET_END, TIME, beat
from hw.rtl.params import WIDTHS
from hw.rtl.parse import HEAD, above, any_of
from hw.rtl.parse.account import Account, blocks_max
from hw.rtl.parse.outlook import Outlook, ends, exit_layout, run_layout
from protocol import itch50, moldudp64

_BYTE = 8


def _pick(values: Sequence[Value], chosen: Value) -> Value:
    # The value of the one bit that is set, zero if there is none; as wide as the values.
    none = Const(0, 0)
    return any_of([Mux(bit, value, none) for value, bit in zip(values, chosen, strict=True)])


def _above(counter: Value, marks: Value) -> Value:
    # Whether a counter, which may be below zero, is above a count of marks, the lowest bits of
    # which are set.
    low, high = counter[: len(marks).bit_length()], counter[len(marks).bit_length() : -1]
    more = [above(low, n) & ~mark for n, mark in enumerate(marks)]
    return ~counter[-1] & any_of([high.any(), above(low, len(marks)), *more])


def _count(marks: Value) -> Value:
    # The count of marks. Each of its bits is a table of them.
    counts = range(len(marks) + 1)
    at = [Cat(Const(1), marks)[n] & ~Cat(marks, Const(0))[n] for n in counts]
    return Cat(
        any_of([at[n] for n in counts if n >> bit & 1]) for bit in range(len(marks).bit_length())
    )


class Collector(wiring.Component):
    """Collects the ITCH messages of MoldUDP64 packets, whole and in order.

    A message leaves once, when its last byte has arrived, at most one a beat; nothing is ever held
    back. Blocks of fewer bytes than the shortest ITCH message, the empty ones among them, take
    their sequence numbers but leave no message: ``short_count`` counts them. Blocks of more bytes
    than the longest leave with a ``length`` that says so. The packet's first ``skip`` blocks take
    their numbers and are passed over, whatever their length, and are not counted. Blocks past the
    header's message count are ignored, and an end of session has none.

    Each packet is at least one beat, ``first`` in its first and ``last`` in its last. Lanes are
    contiguous: a beat that does not fill its top lane is followed in its packet only by beats
    without bytes.

    Latency is 1 cycle from the beat with a message's last byte to the message, 4 cycles from the
    last beat of a packet to its end. Throughput is 1 beat per cycle, with messages of any length at
    any alignment and without a cycle between packets.

    The loop from beat to beat holds where the next block begins, and which is the last that begins
    in that beat. What a beat would mean if a block began at each of its lanes is worked out before,
    one cycle behind the bytes: no message is so short that this is late.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        The message blocks of packets: what stands behind the MoldUDP64 header. ``bad`` is ignored.
    packet : ``In(PACKET)``
        The packet's header. Sampled with its first beat.
    time : ``In(TIME)``
        When the beat entered the card, in ns. Sampled with each beat.
    o : ``Out(stream.Signature(MESSAGE, always_ready=True))``
        Messages with their numbers and times.
    is_message : ``Out(len(itch50.MESSAGES.layouts))``
        With a message: a bit for each of ITCH, set if it has that one's type and length.
    short_count : ``Out(range(ceil(width / 2) + 2))``
        Blocks too short for ITCH that were passed over: to be added up each cycle.
    o_end : ``Out(stream.Signature(PACKET_END, always_ready=True))``
        The end of each packet, after its last message and no later than a cycle after the next
        packet's first one.

    Raises
    ------
    ValueError
        If ``width`` is not 1 or 8.

    [MoldUDP64 1.00: Downstream Packet]
    """

    def __init__(self, width: int):
        if width not in WIDTHS:
            raise ValueError(f"width must be 1 or 8, not {width!r}")
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "packet": In(PACKET),
                "time": In(TIME),
                "o": Out(stream.Signature(MESSAGE, always_ready=True)),
                "is_message": Out(len(itch50.MESSAGES.layouts)),
                "short_count": Out(range(blocks_max(width) + 2)),
                "o_end": Out(stream.Signature(PACKET_END, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, beat_in = self.width, self.i.payload
        places = range(width)  # at which a block can begin: see Outlook
        place_bits = (width - 1).bit_length()
        exit_shape = exit_layout(width)

        def reset_less(name: str, shape: object) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        # Registers of the loop, as they are after the last beat that held bytes. Places are one bit
        # each.
        s1_data = reset_less("s1_data", _BYTE * width)
        s1_time = reset_less("s1_time", TIME)
        s1_here = Signal()  # a block begins in that beat
        s1_head, s1_tail = Signal(width), Signal(width)  # the first one, and the last one
        s1_filled = reset_less("s1_filled", width)
        s1_lane = Signal(width)  # where the message begins
        s1_next = reset_less(
            "s1_next", exit_shape["next"].shape
        )  # where it ends in the next beat, if not here
        s1_ahead = reset_less(
            "s1_ahead", exit_shape["ahead"].shape
        )  # where one begins from that beat on
        s1_message = Signal()  # the block that goes on behind that beat will be a message
        s1_left = Signal(17)  # counted blocks that have not begun, below zero if more have
        s1_skip = Signal(17)  # blocks to skip that have not begun
        s1_step, s1_first, s1_last = Signal(), Signal(), Signal()
        s1_arrives = Signal()  # the block that was open before that beat became whole with it

        # Stage 0: what this beat means if a block begins at a place, for each place.
        m.submodules.outlook = outlook = Outlook(width)
        s0_step = Signal()
        s0_filled = outlook.filled
        m.d.comb += [
            s0_step.eq(self.i.valid & (beat_in.count.any() | beat_in.first)),
            outlook.i.payload.eq(beat_in),
            outlook.i.valid.eq(self.i.valid),
            outlook.step.eq(s0_step),
            outlook.top.eq(s1_data.word_select(width - 1, _BYTE)),
        ]
        # By place, and by the lane of the message: that says the same of a block that begins here,
        # and shares the load.
        s1_exits = outlook.exits
        s1_lane_exits = [s1_exits[lane - 1] for lane in places]

        # Stage 1, the loop: where the next block begins, seen from this beat.
        head, tail = Signal(width), Signal(width)
        end = Signal.like(s1_next)
        begins_at = Signal(range(width + HEAD))
        m.d.comb += [
            end.eq(s1_next | _pick([exit.next for exit in s1_exits], s1_tail)),
            begins_at.eq(beat_in.start + 1),
            head.eq(Mux(beat_in.first, Cat(begins_at == p for p in places), end[:width])),
        ]
        for q in places:
            # What is known last is joined last.
            m.d.comb += tail[q].eq(
                _pick([outlook.tails[p][q] for p in range(q + 1)][::-1], head[: q + 1][::-1])
            )
        ahead, near = Signal.like(s1_ahead), Signal(exit_shape["near"].shape)
        with m.If(s1_here):
            m.d.comb += [
                ahead.eq(
                    Cat(
                        _pick([exit.ahead[:place_bits] for exit in s1_exits], s1_tail),
                        _pick([exit.ahead[place_bits:] for exit in s1_lane_exits], s1_lane),
                    )
                ),
                near.eq(_pick([exit.near for exit in s1_exits], s1_tail)),
            ]
        with m.Else():
            m.d.comb += [
                ahead.eq(s1_ahead - width),
                near.eq(Cat(s1_ahead[place_bits:] == k + 2 for k in range(len(near)))),
            ]
        with m.If(s0_step):
            m.d.sync += [
                s1_data.eq(beat_in.data),
                s1_time.eq(self.time),
                s1_here.eq(head.any()),
                s1_head.eq(head),
                s1_tail.eq(tail),
                s1_filled.eq(s0_filled),
                s1_next.eq(
                    Cat(near[p // width] & (ahead[:place_bits] == p % width) for p in ends(width))
                ),
                s1_ahead.eq(ahead),
            ]
            with m.If(beat_in.first):
                m.d.sync += [
                    s1_next.eq(Cat(begins_at == width + place for place in range(HEAD))),
                    s1_ahead.eq(begins_at),
                ]
        with m.If(self.i.valid & head.any()):
            m.d.sync += s1_lane.eq(tail.rotate_left(1))
        with m.If(~s0_step & s1_last):
            m.d.sync += [s1_here.eq(0), s1_head.eq(0), s1_tail.eq(0)]
        m.d.sync += [
            s1_step.eq(s0_step),
            s1_first.eq(self.i.valid & beat_in.first),
            s1_last.eq(self.i.valid & beat_in.last),
        ]

        # How many blocks are to come, known when the next beat is: in a beat that is not full none
        # of them matters.
        more = Signal(run_layout(width)["more"].shape)  # blocks behind the beat's first
        m.d.comb += more.eq(_pick([run.more for run in outlook.runs], s1_head))
        with m.If(s0_step):
            for counter in (s1_left, s1_skip):
                m.d.sync += counter.eq(counter - _count(Cat(s1_here, more)))
            with m.If(beat_in.first):
                ended = self.packet.message_count == moldudp64.END_OF_SESSION
                m.d.sync += [
                    s1_left.eq(Mux(ended, 0, self.packet.message_count)),
                    s1_skip.eq(self.packet.skip),
                ]

        # The open block ends within this beat: its last byte is in a lane that holds one. No block
        # is open in a first beat, so these are the lowest lanes.
        arrives = any_of([end[HEAD + lane] & above(beat_in.count, lane) for lane in places])
        m.d.sync += s1_arrives.eq(self.i.valid & ~beat_in.first & arrives)
        with m.If(s1_here):
            is_short = _pick([exit.short for exit in s1_exits], s1_tail)
            m.d.sync += s1_message.eq(_above(s1_left, more) & ~_above(s1_skip, more) & ~is_short)

        # Into the message's register: lanes from the message's first lane on go to one row of it,
        # the lanes below to the end of the row before. A message that began in the beat before
        # takes its first row from both beats, and leaves in the next row what later beats replace.
        # Rows past the longest message are dropped. In a cycle without a beat only such bytes are
        # written as the next beat writes again: there is no time to look whether there is one.
        s2_bytes = reset_less("s2_bytes", _BYTE * MESSAGE_SIZE_MAX)
        row_count = -(-MESSAGE_SIZE_MAX // width)
        s1_row = reset_less("s1_row", row_count + 1)
        s1_top = s1_tail[width - 1]  # the message begins with this beat
        row = Signal.like(s1_row)
        lane, wraps = Signal(places), Signal(width)  # lanes that belong to the row before
        m.d.comb += [
            lane.eq(_pick([Const(lane, place_bits) for lane in places], s1_lane)),
            wraps.eq(Cat(s1_lane[width - j :].any() for j in places)),
            row.eq(Mux(s1_here, Mux(s1_top, 1 << 0, 1 << 1), s1_row << 1)),
        ]

        def rotated(lanes: Value) -> Value:
            for k in range(place_bits):
                lanes = Mux(lane[k], lanes.rotate_right(_BYTE << k), lanes)
            return lanes

        now, held = Signal(_BYTE * width), Signal(_BYTE * width)
        m.d.comb += [now.eq(rotated(beat_in.data)), held.eq(rotated(s1_data))]
        with m.If(s0_step):
            m.d.sync += s1_row.eq(row)
        for index in range(MESSAGE_SIZE_MAX):
            r, j = divmod(index, width)
            source = now.word_select(j, _BYTE)
            takes = row[r] | (row[r + 1] & wraps[j])
            if r == 0:
                takes = takes | s1_here
                source = Mux(s1_top | wraps[j], source, held.word_select(j, _BYTE))
            with m.If(takes):
                m.d.sync += s2_bytes.word_select(index, _BYTE).eq(source)

        # Stage 2: the message, while its register still holds it. As there, what is taken without a
        # beat is taken again with the next.
        s2_fresh = Signal()  # the packet had no block before
        s2_is = reset_less("s2_is", len(self.is_message))
        length = _pick([exit.length for exit in s1_lane_exits], s1_lane)
        first_bytes = [s1_data.word_select(lane, _BYTE) for lane in places[1:]]
        code = _pick([beat_in.data[:_BYTE], *first_bytes], s1_lane)
        s2_length = reset_less("s2_length", MESSAGE["length"].shape)
        s2_ts_first, s2_ts_last = reset_less("s2_ts_first", TIME), reset_less("s2_ts_last", TIME)
        s2_sequence = reset_less("s2_sequence", MESSAGE["sequence"].shape)
        s2_after = reset_less("s2_after", range(blocks_max(width) + 1))  # blocks after that one
        m.d.sync += s2_ts_last.eq(self.time)
        with m.If(s1_here):
            m.d.sync += [
                s2_length.eq(length),
                s2_is.eq(
                    Cat(
                        (code == layout.code) & (length == layout.size)
                        for layout in itch50.MESSAGES.layouts
                    )
                ),
                s2_ts_first.eq(Mux(s1_top, self.time, s1_time)),
            ]
        with m.If(s0_step & s1_here):
            m.d.sync += [
                s2_sequence.eq(self.o.payload.sequence),
                s2_after.eq(_count(Mux(s2_fresh, Cat(more, Const(0)), Cat(Const(1), more)))),
                s2_fresh.eq(0),
            ]
        with m.If(s0_step & beat_in.first):
            m.d.sync += [s2_sequence.eq(self.packet.sequence), s2_after.eq(0), s2_fresh.eq(1)]
        m.d.comb += [
            self.o.valid.eq(s1_arrives & s1_message),
            self.o.payload.data.eq(s2_bytes),
            self.o.payload.length.eq(s2_length),
            self.o.payload.sequence.eq(s2_sequence + s2_after),
            self.o.payload.ts_first.eq(s2_ts_first),
            self.o.payload.ts_last.eq(s2_ts_last),
            self.is_message.eq(s2_is),
        ]

        # What the packet had is counted at leisure.
        m.submodules.account = account = Account(width)
        m.d.comb += [
            account.first_stb.eq(s1_first),
            account.step_stb.eq(s1_step),
            account.last_stb.eq(s1_last),
            account.packet.sequence.eq(s2_sequence),
            account.packet.message_count.eq(s1_left),
            account.packet.skip.eq(s1_skip),
            account.filled.eq(s1_filled),
            account.begins.eq(_pick([run.begins for run in outlook.runs], s1_head)),
            account.head.eq(s1_head),
            account.ends_with.eq(Mux(s1_here, end[HEAD - len(account.ends_with) : HEAD], 0)),
            account.arrives.eq(s1_arrives),
            account.message.eq(self.o.valid),
            self.short_count.eq(account.short_count),
        ]
        wiring.connect(m, account.o_end, wiring.flipped(self.o_end))
        return m
