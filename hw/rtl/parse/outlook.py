"""What a beat means for a message block, wherever in it the block begins."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import MESSAGE, MESSAGE_SIZE_MAX, beat
from hw.rtl.parse import HEAD, above, any_of
from protocol import itch50, moldudp64
from protocol.emit.amaranth_layout import host

MESSAGE_SIZE_MIN = min(layout.size for layout in itch50.MESSAGES.layouts)
"""Shortest ITCH message, in bytes."""

_BYTE = 8


def ends(width: int) -> range:
    """Return the places at which a block can end whose last byte is in a beat, or just before."""
    return range(width + HEAD)


def exit_layout(width: int) -> data.StructLayout:
    """Where a block ends, seen from the beat after the one that it begins in.

    ``next`` has a bit for each of :func:`ends` in that beat. ``ahead`` is the place of the end,
    counted on through the beats; ``near`` has a bit for each beat behind that one, as far as the
    last place of :func:`ends` of the next reaches: whether the end is there. ``length`` is that of
    a :data:`MESSAGE`, ``short`` that it is below the shortest.
    """
    return data.StructLayout(
        {
            "next": len(ends(width)),
            "ahead": _BYTE * HEAD + 1,
            "near": (width + ends(width)[-1]) // width,
            "length": MESSAGE["length"].shape,
            "short": 1,
        }
    )


def run_layout(width: int) -> data.StructLayout:
    """The blocks of a beat from a place on, whether filled or not.

    ``begins`` has a bit for each place at which one begins. ``more`` has one for each block behind
    the first: as many of the lowest bits are set.
    """
    return data.StructLayout({"begins": width, "more": (width - 1) // HEAD})


class Outlook(wiring.Component):
    """Tells what a beat means if a message block begins at one of its places, for each place.

    A block can begin at ``width`` places: place 0 is the top lane of the beat before, place 1 is
    lane 0. So both bytes of a block's length are in sight at every place. A block that ends before
    the last place is followed by another one.

    Latency is 1 cycle to ``exits`` and ``runs``, none to the others. Throughput is 1 beat per
    cycle.

    Parameters
    ----------
    width : int
        Bytes a beat.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        The message blocks of packets.
    step : ``In(1)``
        Whether the beat counts: ``exits`` and ``runs`` change.
    top : ``In(8)``
        The top lane of the beat before.
    filled : ``Out(width)``
        Lanes that hold bytes; without meaning below ``start``.
    tails : ``Out(width).array(width)``
        The place of the beat's last block if one begins at this place, whether filled or not.
    runs : ``Out(run_layout(width)).array(width)``
        The blocks from each place on.
    exits : ``Out(exit_layout(width)).array(width)``
        Where the block ends that begins at each place.

    [MoldUDP64 1.00: Message Block]
    """

    def __init__(self, width: int):
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "step": In(1),
                "top": In(_BYTE),
                "filled": Out(width),
                "tails": Out(width).array(width),
                "runs": Out(run_layout(width)).array(width),
                "exits": Out(exit_layout(width)).array(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, beat_in = self.width, self.i.payload

        def is_filled(lane: int) -> Value:
            starts = range(lane + 1)
            return any_of([(beat_in.start == s) & above(beat_in.count, lane - s) for s in starts])

        m.d.comb += self.filled.eq(Cat(is_filled(lane) for lane in range(width)))
        window = Cat(self.top, beat_in.data)
        runs: dict[int, data.View] = {}
        for place in reversed(range(width)):
            head = window[_BYTE * place : _BYTE * (place + HEAD)]
            runs[place] = self._look(m, place, head, runs)
        return m

    def _look(self, m: Module, place: int, head: Value, runs: dict[int, data.View]) -> data.View:
        """Tell of a place. Takes the runs from the places behind it, and returns its own."""
        width = self.width
        length = host(moldudp64.BLOCK, head, "message_length")
        small = length[: (4 * width).bit_length()]
        is_small = ~length[len(small) :].any()
        tiny, is_tiny = length[:4], ~length[4:].any()  # by four bits, for the critical path

        def ends_at(end: int) -> Value:
            return is_small & (small == end - place - HEAD) if end >= place + HEAD else Const(0)

        def ends_in(beats: int) -> Value:
            return any_of([ends_at(beats * width + q) for q in range(width)])

        tails, follows = Const(0, width), Const(0)
        run = Signal(run_layout(width), name=f"run_{place}")
        begins, more = Const(0, width), Const(0, len(run.more))
        # What is known last is joined last.
        for other in reversed(range(place + HEAD, width)):
            is_next = is_tiny & (tiny == other - place - HEAD)
            follows = follows | is_next
            tails = tails | Mux(is_next, self.tails[other], 0)
            begins = begins | Mux(is_next, runs[other].begins, 0)
            more = more | Mux(is_next, Cat(Const(1), runs[other].more), 0)
        m.d.comb += [
            self.tails[place].eq(tails | Mux(follows, 0, 1 << place)),
            run.begins.eq(begins | 1 << place),
            run.more.eq(more),
        ]
        with m.If(self.step):
            m.d.sync += self.runs[place].eq(run)

        s1_exit = Signal(exit_layout(width), name=f"s1_exit_{place}", reset_less=True)
        is_long = length > MESSAGE_SIZE_MAX
        with m.If(self.step):
            m.d.sync += [
                s1_exit.next.eq(Cat(ends_at(width + end) for end in ends(width))),
                s1_exit.ahead.eq(length + (place + HEAD - width)),
                s1_exit.near.eq(Cat(ends_in(2 + k) for k in range(len(s1_exit.near)))),
                s1_exit.length.eq(Mux(is_long, MESSAGE_SIZE_MAX + 1, length)),
                s1_exit.short.eq(length < MESSAGE_SIZE_MIN),
            ]
        m.d.comb += self.exits[place].eq(s1_exit)
        return run
