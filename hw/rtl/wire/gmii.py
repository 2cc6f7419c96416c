"""The Ethernet MAC of one byte a beat, on GMII. [IEEE 802.3: 35.2]"""

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.wire import fcs
from protocol.ethernet import FRAME_SIZE_MIN

WIDTH = 1
PREAMBLE = 0x55
"""A byte before the start frame delimiter. [IEEE 802.3: 4.2.5]"""
PREAMBLE_COUNT = 7
DELIMITER = 0xD5
"""The start frame delimiter. [IEEE 802.3: 4.2.6]"""
GAP_SIZE = 12
"""Bytes between frames. [IEEE 802.3: 4.4.2]"""
FRAME_SIZE_MAX = 1522
"""Longest frame with a VLAN tag, in bytes, FCS included. [IEEE 802.3: 3.2.7]"""


def check_frame_size_max(frame_size_max: object) -> None:
    """Refuse a longest frame that is no number of 64 to 65535 bytes."""
    if not isinstance(frame_size_max, int):
        raise TypeError(f"frame_size_max must be an integer, not {frame_size_max!r}")
    if not FRAME_SIZE_MIN + fcs.SIZE <= frame_size_max < 1 << 16:
        raise ValueError(f"frame_size_max must be 64 to 65535, not {frame_size_max!r}")


class GmiiReceiver(wiring.Component):
    """Receives frames from GMII, without preamble and frame check sequence.

    A frame is passed on while it arrives, the four bytes held back that may be its check sequence.
    Its last beat is ``bad`` when the check sequence is wrong, ``gmii_rx_er`` was set inside the
    frame, or it is shorter than 64 bytes or longer than ``frame_size_max``. Of a frame of four
    bytes or less nothing is left to pass on. Bytes that follow anything but a preamble are skipped
    until ``gmii_rx_dv`` falls.

    Latency is 6 cycles from a byte at the pins to the byte in a beat. Throughput is 1 byte per
    cycle, whatever the gap between frames.

    Parameters
    ----------
    frame_size_max : int
        Longest good frame, in bytes, FCS included.

    Members
    -------
    gmii_rxd, gmii_rx_dv, gmii_rx_er : ``In``
        From the PHY.
    o : ``Out(stream.Signature(beat(1), always_ready=True))``
        Bytes from the destination address to the last one before the check sequence.

    Raises
    ------
    TypeError, ValueError
        If ``frame_size_max`` is no integer, or not from 64 to 65535.

    [IEEE 802.3: 4.2.9, 35.2.2]
    """

    LATENCY = 6

    gmii_rxd: In(8)
    gmii_rx_dv: In(1)
    gmii_rx_er: In(1)
    o: Out(stream.Signature(beat(WIDTH), always_ready=True))

    def __init__(self, frame_size_max: int = FRAME_SIZE_MAX) -> None:
        check_frame_size_max(frame_size_max)
        self.frame_size_max = frame_size_max
        super().__init__()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check = check = fcs.FrameCheck(WIDTH)

        # Stage 0: the pins.
        s0_data = Signal(8, reset_less=True)
        s0_dv = Signal()
        s0_er = Signal()
        m.d.sync += [
            s0_data.eq(self.gmii_rxd),
            s0_dv.eq(self.gmii_rx_dv),
            s0_er.eq(self.gmii_rx_er),
        ]

        s0_in_frame = Signal()
        s0_first = Signal()
        with m.FSM():
            with m.State("Waiting for a preamble"):
                # A delimiter alone will do: the preamble may shrink to nothing on its way.
                with m.If(s0_dv & ~s0_er & (s0_data == DELIMITER)):
                    m.d.sync += s0_first.eq(1)
                    m.next = "In a frame"
                with m.Elif(s0_dv & (s0_er | (s0_data != PREAMBLE))):
                    m.next = "Skipping to the gap"
            with m.State("In a frame"):
                m.d.comb += s0_in_frame.eq(s0_dv)
                m.d.sync += s0_first.eq(0)
                with m.If(~s0_dv):
                    m.next = "Waiting for a preamble"
            with m.State("Skipping to the gap"), m.If(~s0_dv):
                m.next = "Waiting for a preamble"

        # Stage 1: what is known of the frame so far.
        s1_size = Signal(range(self.frame_size_max + 2))
        s1_error = Signal()
        m.d.comb += [
            check.en.eq(s0_in_frame),
            check.data.eq(s0_data),
            check.count.eq(1),
            check.first.eq(s0_first),
        ]
        with m.If(s0_in_frame):
            with m.If(s0_first):
                m.d.sync += [s1_size.eq(1), s1_error.eq(s0_er)]
            with m.Else():
                m.d.sync += s1_error.eq(s1_error | s0_er)
                with m.If(s1_size <= self.frame_size_max):
                    m.d.sync += s1_size.eq(s1_size + 1)

        # Stages 1 to 5: the bytes held back. The fifth goes out when it is known that a byte
        # follows the four behind it, or that none does and they are the check sequence.
        data, first, valid = s0_data, s0_first, s0_in_frame
        s1_valid = Signal()
        s1_end = Signal()
        m.d.comb += s1_end.eq(s1_valid & ~s0_in_frame)
        for stage in range(1, fcs.SIZE + 2):
            held_data = Signal(8, reset_less=True, name=f"s{stage}_data")
            held_first = Signal(reset_less=True, name=f"s{stage}_first")
            held_valid = s1_valid if stage == 1 else Signal(name=f"s{stage}_valid")
            m.d.sync += [
                held_data.eq(data),
                held_first.eq(first),
                held_valid.eq(valid & ~s1_end),
            ]
            data, first, valid = held_data, held_first, held_valid

        m.d.comb += [
            self.o.valid.eq(valid & s1_valid),
            self.o.p.data.eq(data),
            self.o.p.count.eq(1),
            self.o.p.first.eq(first),
            self.o.p.last.eq(~s0_in_frame),
            self.o.p.bad.eq(
                self.o.p.last
                & (
                    ~check.good
                    | s1_error
                    | (s1_size < FRAME_SIZE_MIN + fcs.SIZE)
                    | (s1_size > self.frame_size_max)
                )
            ),
        ]
        return m


class GmiiTransmitter(wiring.Component):
    """Sends frames to GMII, with preamble, padding, frame check sequence and gap.

    Once a frame has begun every byte must be there when it is asked for. When one is not, or the
    last beat is ``bad``, the frame ends with ``gmii_tx_er`` set and without a check sequence, so
    that no receiver takes it for a good one; the rest of it is taken from ``i`` and dropped.

    Latency is 1 cycle from a first byte offered to the preamble at the pins, and 9 to that byte.
    Throughput is a frame of n bytes in max(n, 60) + 24 cycles.

    Members
    -------
    i : ``In(stream.Signature(beat(1)))``
        Bytes from the destination address on, without check sequence.
    gmii_txd, gmii_tx_en, gmii_tx_er : ``Out``
        To the PHY.
    begin_stb : ``Out(1)``
        The pins hold the first byte of a frame, behind the delimiter.

    [IEEE 802.3: 4.2.8, 35.2.2]
    """

    i: In(stream.Signature(beat(WIDTH)))
    gmii_txd: Out(8)
    gmii_tx_en: Out(1)
    gmii_tx_er: Out(1)
    begin_stb: Out(1)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.check = check = fcs.FrameCheck(WIDTH)
        i = self.i

        counter = Signal(range(FRAME_SIZE_MIN + 1))
        """Bytes done of what the state is about; of a frame's bytes no more than 60."""
        s1_data = Signal(8, reset_less=True)
        s1_en = Signal()
        s1_er = Signal()
        m.d.comb += [
            self.gmii_txd.eq(s1_data),
            self.gmii_tx_en.eq(s1_en),
            self.gmii_tx_er.eq(s1_er),
            check.count.eq(1),
            check.first.eq(counter == 0),
        ]

        def send(data: object) -> None:
            m.d.sync += [s1_data.eq(data), s1_en.eq(1)]

        def send_checked(data: object) -> None:
            send(data)
            m.d.comb += [check.en.eq(1), check.data.eq(data)]
            with m.If(counter != FRAME_SIZE_MIN):
                m.d.sync += counter.eq(counter + 1)

        def enter(state: str) -> None:
            m.d.sync += counter.eq(0)
            m.next = state

        m.d.sync += [s1_en.eq(0), s1_er.eq(0), self.begin_stb.eq(0)]
        with m.FSM():
            with m.State("Waiting for a frame"):
                # What does not begin a frame is the rest of one cut by a reset.
                m.d.comb += i.ready.eq(~i.p.first)
                with m.If(i.valid & i.p.first):
                    send(PREAMBLE)
                    m.d.sync += counter.eq(1)
                    m.next = "Sending the preamble"
            with m.State("Sending the preamble"):
                send(PREAMBLE)
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == PREAMBLE_COUNT):
                    send(DELIMITER)
                    enter("Sending the frame")
            with m.State("Sending the frame"):
                m.d.comb += i.ready.eq(1)
                m.d.sync += self.begin_stb.eq(counter == 0)
                send_checked(i.p.data)
                with m.If(~i.valid | (i.p.last & i.p.bad)):
                    m.d.sync += s1_er.eq(1)
                    enter("Dropping the rest")
                    with m.If(i.valid):
                        enter("Keeping the gap")
                with m.Elif(i.p.last):
                    m.next = "Padding"
                    with m.If(counter >= FRAME_SIZE_MIN - 1):
                        enter("Sending the check sequence")
            with m.State("Padding"):
                send_checked(0)
                with m.If(counter == FRAME_SIZE_MIN - 1):
                    enter("Sending the check sequence")
            with m.State("Sending the check sequence"):
                send(check.fcs.word_select(counter[: (fcs.SIZE - 1).bit_length()], 8))
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == fcs.SIZE - 1):
                    enter("Keeping the gap")
            with m.State("Dropping the rest"):
                m.d.comb += i.ready.eq(1)
                with m.If(i.valid & i.p.last):
                    enter("Keeping the gap")
            with m.State("Keeping the gap"):
                m.d.sync += counter.eq(counter + 1)
                with m.If(counter == GAP_SIZE - 1):
                    m.next = "Waiting for a frame"
        return m
