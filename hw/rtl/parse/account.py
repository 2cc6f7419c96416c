"""Counts the message blocks of a packet: what it held, and what it should have held."""

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import PACKET, PACKET_END, Truncation
from hw.rtl.parse import HEAD, is_more


def blocks_max(width: int) -> int:
    """Return how many blocks can be in one beat whole, but for the length's first byte."""
    return -(-width // HEAD)


def _count(blocks: Value) -> Value:
    # How many places are set, of which no two stand side by side: a block takes two bytes. Spelled
    # out, as sums would become carry chains.
    pairs = [blocks[place : place + HEAD].any() for place in range(0, len(blocks), HEAD)]
    if len(pairs) == 1:
        return pairs[0]
    a, b, c, d = pairs
    odd = (a ^ b, c ^ d)
    both = (a & b, c & d)
    return Cat(odd[0] ^ odd[1], (both[0] ^ both[1]) | (odd[0] & odd[1]), both[0] & both[1])


class Account(wiring.Component):
    """Keeps account of a packet's blocks as they become whole, in the order of their numbers.

    Only as many as the header announces count. Those that count are skipped, or messages, or too
    short.

    Latency is 3 cycles to ``o_end``, 4 cycles to ``short_count``. Throughput is 1 beat per cycle.

    Parameters
    ----------
    width : int
        Bytes a beat.

    Members
    -------
    first_stb, step_stb, last_stb : ``In(1)``
        There is a packet's first beat; one that may hold bytes; its last one.
    packet : ``In(PACKET)``
        Its header, without messages for an end of session. Sampled with its first beat.
    filled : ``In(width)``
        Lanes of the beat that hold bytes; without meaning below its first.
    begins, head : ``In(width)``
        The places of the beat at which blocks begin, whether filled or not; the first of them.
    ends_with : ``In(min(2, width))``
        Whether the last one ends with one of the top lanes, for each of those.
    arrives : ``In(1)``
        The block that was open before this beat became whole with it.
    message : ``In(1)``
        As a message.
    short_count : ``Out(range(ceil(width / 2) + 2))``
        Blocks too short for ITCH that were passed over: to be added up each cycle.
    o_end : ``Out(stream.Signature(PACKET_END, always_ready=True))``
        The end of the packet.
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "first_stb": In(1),
                "step_stb": In(1),
                "last_stb": In(1),
                "packet": In(PACKET),
                "filled": In(width),
                "begins": In(width),
                "head": In(width),
                "ends_with": In(min(HEAD, width)),
                "arrives": In(1),
                "message": In(1),
                "short_count": Out(range(blocks_max(width) + 2)),
                "o_end": Out(stream.Signature(PACKET_END, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.width

        def reset_less(name: str, shape: object) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        # Stage 1: the blocks of which the beat has the length, and those of which it has the last
        # byte: two places before the next one, and in the lane before its place.
        s1_first, s1_last = Signal(), Signal()
        s1_packet = reset_less("s1_packet", PACKET)
        s1_begun, s1_followed = reset_less("s1_begun", width), reset_less("s1_followed", width)
        s1_tail_whole = reset_less("s1_tail_whole", 1)
        s1_step, s1_arrives, s1_message = Signal(), Signal(), Signal()
        followed = self.begins & ~self.head & (self.filled << HEAD)
        m.d.sync += [
            *(s1_first.eq(self.first_stb), s1_last.eq(self.last_stb), s1_step.eq(self.step_stb)),
            s1_begun.eq(self.begins & self.filled),
            s1_followed.eq(followed),
            s1_tail_whole.eq((self.ends_with & self.filled[-len(self.ends_with) :]).any()),
            *(s1_arrives.eq(self.arrives), s1_message.eq(self.message)),
        ]
        with m.If(self.first_stb):
            m.d.sync += s1_packet.eq(self.packet)

        # Stage 2: how many became whole, and whether one is open.
        s2_last, s2_message = Signal(), Signal()
        s2_whole = Signal(self.short_count.shape())
        s2_open = Signal()
        whole = Signal.like(s2_whole)
        opens = _count(s1_begun) != (_count(s1_followed) + s1_tail_whole)
        m.d.comb += whole.eq(_count(s1_followed) + s1_tail_whole + s1_arrives)
        m.d.sync += [
            *(s2_last.eq(s1_last), s2_message.eq(s1_message)),
            s2_whole.eq(Mux(s1_step, whole, 0)),
            s2_open.eq(s1_step & opens | s2_open & ~(s1_first | s1_arrives)),
        ]

        # Stage 3: how many of them count, to the end of the packet.
        s2_left, s2_skip = reset_less("s2_left", 16), reset_less("s2_skip", 16)
        s2_sequence, s2_sequence_end = (
            reset_less("s2_sequence", 64),
            reset_less("s2_sequence_end", 64),
        )
        s3_last, s3_message = Signal(), Signal()
        s3_counted, s3_skipped = Signal.like(s2_whole), Signal.like(s2_whole)
        s3_end = reset_less("s3_end", PACKET_END)
        is_left, counted, skipped = Signal(), Signal.like(s2_whole), Signal.like(s2_whole)
        next_sequence = Signal.like(s2_sequence)
        m.d.comb += [
            is_left.eq(is_more(s2_left, s2_whole)),
            counted.eq(Mux(is_left, s2_whole, s2_left)),
            skipped.eq(Mux(is_more(s2_skip, s2_whole), s2_whole, s2_skip)),
            # That of the last one that counts is known before: to choose is faster than to count.
            next_sequence.eq(Mux(is_left, s2_sequence + s2_whole, s2_sequence_end)),
        ]
        m.d.sync += [
            s2_left.eq(s2_left - counted),
            s2_skip.eq(s2_skip - skipped),
            s2_sequence.eq(next_sequence),
            *(s3_last.eq(s2_last), s3_message.eq(s2_message)),
            *(s3_counted.eq(counted), s3_skipped.eq(skipped)),
            s3_end.truncation.eq(Truncation.NONE),
            s3_end.next_sequence.eq(next_sequence),
        ]
        with m.If(is_left):
            m.d.sync += s3_end.truncation.eq(
                Mux(s2_open, Truncation.MESSAGE_CUT, Truncation.NO_LENGTH)
            )
        with m.If(s1_first):
            m.d.sync += [
                s2_left.eq(s1_packet.message_count),
                s2_skip.eq(s1_packet.skip),
                s2_sequence.eq(s1_packet.sequence),
                s2_sequence_end.eq(s1_packet.sequence + s1_packet.message_count),
            ]
        m.d.comb += [self.o_end.valid.eq(s3_last), self.o_end.payload.eq(s3_end)]

        # Stage 4: those of them that are neither skipped nor messages.
        kept = Mux(s3_counted > s3_skipped, s3_counted - s3_skipped, 0)
        m.d.sync += self.short_count.eq(kept - s3_message)
        return m
