"""The Ethernet MAC of eight bytes a beat, on XGMII, both edges in a cycle. [IEEE 802.3: 46]"""

from enum import IntEnum, unique

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.wire import fcs
from hw.rtl.wire.gmii import DELIMITER, FRAME_SIZE_MAX, PREAMBLE, check_frame_size_max
from protocol.ethernet import FRAME_SIZE_MIN

WIDTH = 8
_HALF = WIDTH // 2
"""Lanes of one clock edge; a frame starts in the first lane of one. [IEEE 802.3: 46.3.3.1]"""
_LANES_ALL = (1 << WIDTH) - 1


@unique
class Control(IntEnum):
    """Control characters. [IEEE 802.3: table 46-3]"""

    IDLE = 0x07
    START = 0xFB
    TERMINATE = 0xFD
    ERROR = 0xFE


def _repeated(byte: int) -> int:
    return int.from_bytes(bytes([byte]) * WIDTH, "little")


_START_DATA = int.from_bytes(
    bytes([Control.START, *[PREAMBLE] * (WIDTH - 2), DELIMITER]),
    "little",
)
"""The column that starts a frame in lane 0."""
_ENDED = _repeated(Control.IDLE) ^ Control.IDLE ^ Control.TERMINATE
"""Terminate, then idle."""
_GAP_CYCLES = 3
"""Cycles without a beat after the last one: check sequence, idle and the next frame's preamble."""


class XgmiiReceiver(wiring.Component):
    """Receives frames from XGMII, without preamble and frame check sequence.

    A frame starts in lane 0 or 4, and its bytes keep the lanes they came in: the first beat begins
    in lane ``start`` 0 or 4. It is passed on while it arrives; of each beat the bytes are held back
    that may be check sequence until the next beat shows whether they are. Any control character
    ends a frame, and every one but terminate makes it bad. Its last beat is ``bad`` as well when
    the check sequence is wrong, or the frame is shorter than 64 bytes or longer than
    ``frame_size_max``. Of a frame of four bytes or less nothing is left to pass on. Ordered sets,
    and whatever else stands outside a frame, are ignored; so is a frame whose delimiter is not
    in its place.

    Latency is 2 cycles from a column at the pins to its beat; 3 for the last beat when the column
    after it holds nothing but check sequence, which must be read first. Throughput is 1 beat per
    cycle, whatever the gap between frames.

    Parameters
    ----------
    frame_size_max : int
        Longest good frame, in bytes, FCS included.

    Members
    -------
    xgmii_rxd : ``In(64)``
        Characters, the earliest in bits 7:0.
    xgmii_rxc : ``In(8)``
        Which of them are control characters.
    o : ``Out(stream.Signature(beat(8), always_ready=True))``
        Bytes from the destination address to the last one before the check sequence.

    Raises
    ------
    TypeError, ValueError
        If ``frame_size_max`` is no integer, or not from 64 to 65535.

    [IEEE 802.3: 4.2.9, 46.3.3]
    """

    LATENCY = 2

    xgmii_rxd: In(8 * WIDTH)
    xgmii_rxc: In(WIDTH)
    o: Out(stream.Signature(beat(WIDTH), always_ready=True))

    def __init__(self, frame_size_max: int = FRAME_SIZE_MAX) -> None:
        check_frame_size_max(frame_size_max)
        self.frame_size_max = frame_size_max
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check = check = fcs.FrameCheck(WIDTH)
        rxd, rxc = self.xgmii_rxd, self.xgmii_rxc

        def control(lane: int, character: Control) -> Value:
            return rxc[lane] & (rxd.word_select(lane, 8) == character)

        # The pins: where the column starts a frame, and where it ends one.
        starts_low = Signal()
        starts_high = Signal()
        delimited = Signal()
        m.d.comb += [
            starts_low.eq(
                control(0, Control.START)
                & ~rxc[1:].any()
                & (rxd.word_select(WIDTH - 1, 8) == DELIMITER)
            ),
            starts_high.eq(control(_HALF, Control.START) & ~rxc[_HALF + 1 :].any()),
            delimited.eq(~rxc[:_HALF].any() & (rxd.word_select(_HALF - 1, 8) == DELIMITER)),
        ]

        in_frame = Signal()
        begins = Signal()
        """The last column started a frame in lane 0: this one is its first, from lane 0 on."""
        begins_high = Signal()
        """The last column started a frame in lane 4: this one is its first, from lane 4 on."""
        active = Signal()
        m.d.comb += active.eq(in_frame | begins | (begins_high & delimited))
        # Lanes before the first byte are no end, though what they hold is not looked at.
        marks = Signal(WIDTH)
        m.d.comb += marks.eq(rxc & Mux(begins_high, _LANES_ALL ^ ((1 << _HALF) - 1), _LANES_ALL))
        stop = Signal(range(WIDTH + 1), init=WIDTH)
        clean = Signal()
        m.d.comb += stop.eq(WIDTH)
        for lane in reversed(range(WIDTH)):
            with m.If(marks[lane]):
                m.d.comb += [stop.eq(lane), clean.eq(control(lane, Control.TERMINATE))]
        m.d.sync += [
            begins.eq(starts_low),
            begins_high.eq(starts_high),
            in_frame.eq(active & ~marks.any()),
        ]

        # Stage 0: a column of a frame, with the lanes that hold its bytes.
        s0_data = Signal(8 * WIDTH, reset_less=True)
        s0_valid = Signal()
        s0_first = Signal(reset_less=True)
        s0_start = Signal(range(WIDTH), reset_less=True)
        s0_count = Signal(range(WIDTH + 1), reset_less=True)
        s0_end = Signal(reset_less=True)
        s0_clean = Signal(reset_less=True)
        m.d.sync += [
            s0_data.eq(rxd),
            s0_valid.eq(active),
            s0_first.eq(~in_frame),
            s0_start.eq(Mux(begins_high, _HALF, 0)),
            s0_count.eq(stop - Mux(begins_high, _HALF, 0)),
            s0_end.eq(marks.any()),
            s0_clean.eq(clean),
        ]
        m.d.comb += [
            check.en.eq(s0_valid & (s0_count != 0)),
            check.data.eq(s0_data),
            check.start.eq(s0_start),
            check.count.eq(s0_count),
            check.first.eq(s0_first),
        ]

        # Stage 1: the column before it, with the check over both and what goes on of it.
        s1_data = Signal(8 * WIDTH, reset_less=True)
        s1_valid = Signal()
        s1_first = Signal(reset_less=True)
        s1_start = Signal(range(WIDTH), reset_less=True)
        s1_count = Signal(range(WIDTH + 1), reset_less=True)
        s1_end = Signal(reset_less=True)
        s1_clean = Signal(reset_less=True)
        s1_size = Signal(range(self.frame_size_max + WIDTH + 1), reset_less=True)
        m.d.sync += [
            s1_data.eq(s0_data),
            s1_valid.eq(s0_valid),
            s1_first.eq(s0_first),
            s1_start.eq(s0_start),
            s1_count.eq(s0_count),
            s1_end.eq(s0_end),
            s1_clean.eq(s0_clean),
        ]
        with m.If(s0_valid):
            with m.If(s0_first):
                m.d.sync += s1_size.eq(s0_count)
            with m.Elif(s1_size <= self.frame_size_max):
                m.d.sync += s1_size.eq(s1_size + s0_count)

        bad = Signal()
        m.d.comb += bad.eq(
            ~check.good
            | ~s1_clean
            | (s1_size < FRAME_SIZE_MIN + fcs.SIZE)
            | (s1_size > self.frame_size_max)
        )

        # How many of the four bytes before the end are in this column, and how many bytes go on.
        s1_back = Signal(range(fcs.SIZE + 1))
        s1_cut = Signal()
        """The next column ends the frame and holds nothing but check sequence."""
        m.d.comb += [
            s1_cut.eq(~s1_end & s0_end & (s0_count <= fcs.SIZE)),
            s1_back.eq(Mux(s1_end, fcs.SIZE, Mux(s1_cut, fcs.SIZE - s0_count, 0))),
        ]
        s1_left = Signal(range(WIDTH + 1))
        s1_any = Signal()
        m.d.comb += [
            s1_left.eq(s1_count - s1_back),
            s1_any.eq(s1_valid & (s1_count > s1_back)),
        ]

        # Stage 2: a last beat that has to wait for the check over the column after it.
        s2_data = Signal(8 * WIDTH, reset_less=True)
        s2_valid = Signal()
        s2_first = Signal(reset_less=True)
        s2_start = Signal(range(WIDTH), reset_less=True)
        s2_count = Signal(range(WIDTH + 1), reset_less=True)
        m.d.sync += [
            s2_data.eq(s1_data),
            s2_valid.eq(s1_any & s1_cut),
            s2_first.eq(s1_first),
            s2_start.eq(s1_start),
            s2_count.eq(s1_left),
        ]

        m.d.comb += self.o.valid.eq(s2_valid | (s1_any & ~s1_cut))
        with m.If(s2_valid):
            m.d.comb += [
                self.o.p.data.eq(s2_data),
                self.o.p.start.eq(s2_start),
                self.o.p.count.eq(s2_count),
                self.o.p.first.eq(s2_first),
                self.o.p.last.eq(1),
                self.o.p.bad.eq(bad),
            ]
        with m.Else():
            m.d.comb += [
                self.o.p.data.eq(s1_data),
                self.o.p.start.eq(s1_start),
                self.o.p.count.eq(s1_left),
                self.o.p.first.eq(s1_first),
                self.o.p.last.eq(s1_end),
                self.o.p.bad.eq(s1_end & bad),
            ]
        return m


class XgmiiTransmitter(wiring.Component):
    """Sends frames to XGMII, with preamble, padding, frame check sequence and gap.

    Every frame starts in lane 0. The gap is 12 bytes or up to 7 more, the terminate character
    counted; there is no deficit idle count. Once a frame has begun every beat must be there when it
    is asked for. When one is not, or the last beat is ``bad``, the frame ends with a column of
    error characters and without a check sequence, so that no receiver takes it for a good one; the
    rest of it is taken from ``i`` and dropped.

    Latency is 2 cycles from a first beat offered to the preamble at the pins, and 3 to that beat.
    Throughput is a frame of n beats in n + 3 cycles, of 8 beats or fewer in 11.

    Members
    -------
    i : ``In(stream.Signature(beat(8)))``
        Bytes from the destination address on, without check sequence. Each beat begins in lane 0
        and all but the last are full.
    xgmii_txd : ``Out(64)``
        Characters, the earliest in bits 7:0.
    xgmii_txc : ``Out(8)``
        Which of them are control characters.
    begin_stb : ``Out(1)``
        The pins hold the first byte of a frame, behind the delimiter.

    [IEEE 802.3: 4.2.8, 46.3.2]
    """

    i: In(stream.Signature(beat(WIDTH)))
    xgmii_txd: Out(8 * WIDTH)
    xgmii_txc: Out(WIDTH)
    begin_stb: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check = check = fcs.FrameCheck(WIDTH)
        i = self.i

        beats_min = -(-FRAME_SIZE_MIN // WIDTH)
        count_min = FRAME_SIZE_MIN - (beats_min - 1) * WIDTH
        counter = Signal(range(beats_min + 1))
        """Beats of the frame so far, no more than those of the shortest frame."""
        gap = Signal(range(_GAP_CYCLES))
        least = Signal()
        """This beat would be the last of the shortest frame."""
        beyond = Signal()
        m.d.comb += [least.eq(counter == beats_min - 1), beyond.eq(counter == beats_min)]

        # Stage 0: the beat that is taken, padded, or what takes its place.
        s0_data = Signal(8 * WIDTH)
        s0_count = Signal(range(WIDTH + 1))
        s0_valid = Signal()
        s0_last = Signal()
        s0_broken = Signal()
        starts = Signal()
        m.d.comb += [
            check.en.eq(s0_valid),
            check.data.eq(s0_data),
            check.count.eq(s0_count),
            check.first.eq(counter == 0),
        ]

        def finish() -> None:
            m.d.sync += counter.eq(0)
            m.next = "Keeping the gap"

        def take() -> None:
            m.d.comb += [s0_valid.eq(1), s0_count.eq(WIDTH)]
            for lane in range(WIDTH):
                used = (lane < i.p.count).replicate(8)
                byte = i.p.data.word_select(lane, 8)
                m.d.comb += s0_data.word_select(lane, 8).eq(byte & used)
            with m.If(~beyond):
                m.d.sync += counter.eq(counter + 1)
            m.next = "Sending the frame"
            with m.If(i.p.last):
                with m.If(i.p.bad):
                    m.d.comb += s0_broken.eq(1)
                    finish()
                with m.Elif(least | beyond):
                    m.d.comb += [
                        s0_last.eq(1),
                        s0_count.eq(Mux(least & (i.p.count < count_min), count_min, i.p.count)),
                    ]
                    finish()
                with m.Else():
                    m.next = "Padding"

        with m.FSM():
            with m.State("Waiting for a frame"):
                # What does not begin a frame is the rest of one cut by a reset.
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid & i.p.first):
                    m.d.comb += starts.eq(1)
                    take()
            with m.State("Sending the frame"):
                m.d.comb += i.ready.eq(1)
                take()
                with m.If(~i.valid):
                    m.d.comb += [s0_broken.eq(1), s0_last.eq(0)]
                    m.d.sync += counter.eq(0)
                    m.next = "Dropping the rest"
            with m.State("Padding"):
                m.d.comb += [s0_valid.eq(1), s0_count.eq(WIDTH)]
                m.d.sync += counter.eq(counter + 1)
                with m.If(least):
                    m.d.comb += [s0_count.eq(count_min), s0_last.eq(1)]
                    finish()
            with m.State("Dropping the rest"):
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid & i.p.last):
                    finish()
            with m.State("Keeping the gap"):
                m.d.sync += gap.eq(gap + 1)
                with m.If(gap == _GAP_CYCLES - 1):
                    m.d.sync += gap.eq(0)
                    m.next = "Waiting for a frame"

        # Stage 1: the beat beside the check sequence that would end the frame after it.
        s1_data = Signal(8 * WIDTH, reset_less=True)
        s1_count = Signal(range(WIDTH + 1), reset_less=True)
        s1_starts = Signal()
        s1_valid = Signal()
        s1_last = Signal(reset_less=True)
        s1_broken = Signal(reset_less=True)
        m.d.sync += [
            s1_starts.eq(starts),
            s1_data.eq(s0_data),
            s1_count.eq(s0_count),
            s1_valid.eq(s0_valid),
            s1_last.eq(s0_last),
            s1_broken.eq(s0_broken),
        ]

        # Two columns: the beat, check sequence and terminate may reach into a second one.
        s1_columns = Signal(2 * 8 * WIDTH)
        s1_controls = Signal(2 * WIDTH)
        with m.If(s1_broken):
            m.d.comb += [
                s1_columns.eq(_repeated(Control.ERROR) | _ENDED << 8 * WIDTH),
                s1_controls.eq(_LANES_ALL | _LANES_ALL << WIDTH),
            ]
        with m.Else(), m.Switch(s1_count):
            for count in range(1, WIDTH + 1):
                with m.Case(count):
                    taken = Cat(s1_data[: 8 * count], check.fcs, Const(_ENDED, 8 * WIDTH))
                    end = count + fcs.SIZE
                    m.d.comb += [
                        s1_columns.eq(Cat(taken, Const(_repeated(Control.IDLE), 8 * WIDTH))),
                        s1_controls.eq(((1 << 2 * WIDTH) - 1) >> end << end),
                    ]

        # Stage 2: both columns.
        s2_columns = Signal.like(s1_columns, reset_less=True)
        s2_controls = Signal.like(s1_controls, reset_less=True)
        s2_valid = Signal()
        s2_ends = Signal(reset_less=True)
        m.d.sync += [
            s2_columns.eq(s1_columns),
            s2_controls.eq(s1_controls),
            s2_valid.eq(s1_valid),
            s2_ends.eq(s1_last | s1_broken),
        ]

        # Stage 3: the pins, and the second column that follows the last beat to them. A preamble
        # comes right before its first beat.
        s3_data = Signal(8 * WIDTH, init=_repeated(Control.IDLE))
        s3_control = Signal(WIDTH, init=_LANES_ALL)
        s3_tail_data = Signal(8 * WIDTH, reset_less=True)
        s3_tail_control = Signal(WIDTH, reset_less=True)
        s3_tail = Signal()
        m.d.sync += [
            s3_data.eq(_repeated(Control.IDLE)),
            s3_control.eq(_LANES_ALL),
            s3_tail_data.eq(s2_columns[8 * WIDTH :]),
            s3_tail_control.eq(s2_controls[WIDTH:]),
            s3_tail.eq(s2_valid & s2_ends),
        ]
        with m.If(s1_starts):
            m.d.sync += [s3_data.eq(_START_DATA), s3_control.eq(1)]
        with m.Elif(s2_valid):
            m.d.sync += [
                s3_data.eq(s2_columns[: 8 * WIDTH]),
                s3_control.eq(s2_controls[:WIDTH]),
            ]
        with m.Elif(s3_tail):
            m.d.sync += [s3_data.eq(s3_tail_data), s3_control.eq(s3_tail_control)]
        s3_starts = Signal()
        m.d.sync += [s3_starts.eq(s1_starts), self.begin_stb.eq(s3_starts)]
        m.d.comb += [self.xgmii_txd.eq(s3_data), self.xgmii_txc.eq(s3_control)]
        return m
