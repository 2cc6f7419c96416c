"""Whether a packet goes on where the sequence stands, found out while its header comes in."""

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.wire.headers import check_width, last_lane, slot_count
from hw.rtl.wire.judge import POSITION
from protocol import moldudp64
from protocol.emit import amaranth_layout as layouts

_HEADER = moldudp64.HEADER


class Continuation(wiring.Component):
    """Compares each 20 bytes of a frame with the header of the packet that would be next.

    To compare a whole header at once takes too long for a packet that is to go straight through, so
    each of its bytes is compared when it comes in. Where the header ends is known later: it is
    looked for at every place it may have.

    Latency is 1 cycle from the beat that ends the header to ``o``. Throughput is 1 beat per cycle.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Frames, as :class:`hw.rtl.wire.line.Line` takes them.
    start : ``In(range(width + 1))``
        First lane behind the header, one cycle after the beat that ended it.
    position : ``In(POSITION)``
        The session in use and the next number.
    session_stb, sequence_stb : ``In(1)``
        There is a new one from the next cycle on. No header goes on from it of which a byte of the
        session, or of the number, came in before the cycle after that.
    o : ``Out(1)``
        The header is of that session and has that number, and claims messages.

    Raises
    ------
    ValueError
        If ``width`` is neither 1 nor 8.

    [MoldUDP64 1.00: Downstream Packet]
    """

    def __init__(self, width: int) -> None:
        check_width(width)
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "start": In(range(width + 1)),
                "position": In(POSITION),
                "session_stb": In(1),
                "sequence_stb": In(1),
                "o": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.width
        lanes = [self.i.payload.data.word_select(lane, 8) for lane in range(width)]

        # Stage 1: what is awaited, near the comparisons.
        s1_session = Signal.like(self.position.session, reset_less=True)
        s1_sequence = Signal.like(self.position.sequence, reset_less=True)
        s1_session_stb, s1_sequence_stb = Signal(), Signal()
        m.d.sync += [
            *(s1_session.eq(self.position.session), s1_sequence.eq(self.position.sequence)),
            *(s1_session_stb.eq(self.session_stb), s1_sequence_stb.eq(self.sequence_stb)),
        ]
        new_session = self.session_stb | s1_session_stb
        new_sequence = self.sequence_stb | s1_sequence_stb
        number = layouts.wire(_HEADER, s1_sequence, "sequence_number")
        count_bits = 8 * _HEADER.by_name["message_count"].length
        heartbeat = Const(moldudp64.HEARTBEAT, count_bits)
        end_of_session = Const(moldudp64.END_OF_SESSION, count_bits)

        def matches(name, awaited, end_lane, forget):
            """Whether a field of the header that ends in a lane is as awaited.

            The bytes of one beat are compared at once, and with what came of the beats before.
            """
            field = _HEADER.by_name[name]
            by_beat = {}
            for place in range(field.length):
                beats, lane = divmod(end_lane - _HEADER.size + 1 + field.offset + place, width)
                by_beat.setdefault(-beats, []).append(lanes[lane] == awaited.word_select(place, 8))
            so_far = Const(1)
            for beats_left in range(max(by_beat), -1, -1):
                same = Signal(name=f"{name}_{end_lane}_{beats_left}")
                with m.If(self.i.valid):
                    m.d.sync += same.eq(Cat(so_far, *by_beat.get(beats_left, ())).all())
                with m.If(forget):
                    m.d.sync += same.eq(0)
                so_far = same
            return so_far

        for slot in range(slot_count(width)):
            end_lane = last_lane(width, slot)
            session = matches("session", s1_session, end_lane, new_session)
            sequence = matches("sequence_number", number, end_lane, new_sequence)
            none = matches("message_count", heartbeat, end_lane, 0)
            last = matches("message_count", end_of_session, end_lane, 0)
            with m.If(self.start == end_lane + 1):
                m.d.comb += self.o.eq(session & sequence & ~(none | last))
        return m
