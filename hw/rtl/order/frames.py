"""Frames of the order port, kept until they are known to be good, then given out byte by byte."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.order.shapes import BYTE
from hw.rtl.params import WIDTHS


class FrameBuffer(wiring.Component):
    """Keeps whole good frames, and gives their bytes out one a cycle.

    A frame that came in ``bad``, or for which there is no room, is dropped whole: TCP sends its
    segment again.

    Latency is 3 cycles from a frame's last beat to its first byte. Throughput is 1 beat a cycle in
    and 1 byte a cycle out.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.
    size : int
        Bytes of room; a power of two. A frame longer than that never gets through.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Frames without check sequence; no beat is empty.
    o : ``Out(stream.Signature(BYTE, always_ready=True))``
        Bytes of good frames. There may be cycles without one.
    drop_stb : ``Out(1)``
        A good frame had no room.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, width, size=4096):
        if width not in WIDTHS:
            raise ValueError(f"width must be 1 or 8, not {width!r}")
        check_power_of_two("size", size, 64)
        self.width, self.depth = width, size // width
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "o": Out(stream.Signature(BYTE, always_ready=True)),
                "drop_stb": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        width, i = self.width, self.i
        lane = range(width)
        row = data.StructLayout({"data": 8 * width, "first": lane, "end": lane, "last": 1})
        m.submodules.memory = memory = Memory(shape=row, depth=self.depth, init=[])
        write_port, read_port = memory.write_port(), memory.read_port()

        # Counts have one bit more than addresses, to tell full from empty.
        written = Signal(range(2 * self.depth))
        whole = Signal.like(written)  # Of these, rows of frames that are complete and good.
        read = Signal.like(written)
        lost, loses = Signal(), Signal()
        m.d.comb += [
            loses.eq(lost | ((written - read)[: len(written)] == self.depth)),
            write_port.addr.eq(written),
            write_port.en.eq(i.valid & ~loses),
            write_port.data.data.eq(i.p.data),
            write_port.data.first.eq(i.p.start),
            write_port.data.end.eq(i.p.start + i.p.count - 1),
            write_port.data.last.eq(i.p.last),
        ]
        m.d.sync += self.drop_stb.eq(i.valid & i.p.last & loses & ~i.p.bad)
        with m.If(i.valid):
            m.d.sync += lost.eq(loses & ~i.p.last)
            with m.If(i.p.last & (loses | i.p.bad)):
                m.d.sync += written.eq(whole)
            with m.Elif(~loses):
                m.d.sync += written.eq(written + 1)
                with m.If(i.p.last):
                    m.d.sync += whole.eq(written + 1)

        # Out: a row is read while the one before gives its last byte.
        there, begun, inside = Signal(), Signal(), Signal()
        place = Signal(lane)
        next_read = Signal.like(read)
        at = Mux(begun, place, read_port.data.first)
        takes = Signal()
        m.d.comb += [
            takes.eq(there & (at == read_port.data.end)),
            next_read.eq(read + takes),
            read_port.addr.eq(next_read),
        ]
        m.d.sync += [
            read.eq(next_read),
            there.eq(next_read != whole),
            self.o.valid.eq(there),
            self.o.p.data.eq(read_port.data.data.word_select(at, 8)),
            self.o.p.first.eq(~inside),
            self.o.p.last.eq(takes & read_port.data.last),
        ]
        with m.If(there):
            m.d.sync += [
                place.eq(at + 1),
                begun.eq(~takes),
                inside.eq(~(takes & read_port.data.last)),
            ]
        return m


def check_power_of_two(name, value, least):
    """Refuse what is no power of two, or too small."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, {least} or more, not {value!r}")
