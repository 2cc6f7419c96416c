"""The card: the stages, joined."""

from functools import reduce
from operator import add

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book.book import Book
from hw.rtl.layouts import TIME, OperationKind
from hw.rtl.params import CardParams
from hw.rtl.parse.parse import Parse
from hw.rtl.wire.arbiter import Arbiter
from hw.rtl.wire.continuation import Continuation
from hw.rtl.wire.gmii import GmiiReceiver
from hw.rtl.wire.line import Line
from hw.rtl.wire.xgmii import XgmiiReceiver
from protocol.reasons import DropReason

LINES = 2
_START = ("session", "sequence", "gap_timeout_ns", "start_stb")
_OF_BOOK = ("ready", "stale", "stash_used_max")
_NOTICES = (OperationKind.CONFIRM, OperationKind.RETRACT, OperationKind.GAP)
COUNTER = unsigned(48)
"""At one a cycle of 6.4 ns it counts for twenty days."""


def receive_pins(width: int) -> wiring.Signature:
    """Return the receive half of the MAC interface: GMII at 1 byte a beat, XGMII at 8."""
    if width == 1:
        return wiring.Signature({"rxd": Out(8), "rx_dv": Out(1), "rx_er": Out(1)})
    return wiring.Signature({"rxd": Out(64), "rxc": Out(8)})


class FeedPath(wiring.Component):
    """From the Ethernet bytes of lines A and B to the best bid and offer.

    MAC, then per line the IPv4, UDP and MoldUDP64 headers; arbitration of the lines; parser; book.
    Nothing stalls: at line rate on both lines every message of every frame is taken.

    Latency from the cycle in which the MAC hands on the last byte of a message to the cycle of its
    event: 10 cycles, 12 for a replace, when the line's packet was the next one and nothing before
    it waits. The MAC adds 2 cycles at 8 bytes a beat, 6 at 1. With ``params.cut_through`` that is
    so before the frame has ended; without, from the end of the frame on.

    Parameters
    ----------
    params : CardParams
        What to build.

    Members
    -------
    lines : ``In(receive_pins(width)).array(2)``
        The MAC interfaces of lines A and B.
    time : ``In(TIME)``
        Card time in ns. It marks bytes as they leave the MAC.
    filters, any : ``In``
        For each line the destinations that are subscribed to; ``any`` for all of them.
    session, sequence, gap_timeout_ns, start_stb : ``In``
        See :class:`Arbiter`.
    locate_stb, locate_index, locate_valid, locate : ``In``
        See :class:`Book`, as for ``name_stb``, ``name_index``, ``name_valid``, ``name``.
    i_repair : ``In``
        See :class:`Book`.
    ready : ``Out(1)``
        Memories are swept; feed messages that come before are lost.
    o : ``Out(stream.Signature(event(symbol_count), always_ready=True))``
        One event for each message about an order of a configured symbol.
    stale : ``Out``
        See :class:`Book`.
    frames : ``Out(data.ArrayLayout(COUNTER, 2))``
        Frames that came in on each line.
    messages, lost, changes : ``Out(COUNTER)``
        Messages delivered in order, those of retracted packets among them; messages declared lost;
        events with a change.
    drops : ``Out(data.ArrayLayout(COUNTER, len(DropReason)))``
        What was not used, by reason. All counters start from 0 at reset.

    Raises
    ------
    TypeError
        If ``params`` is not a :class:`CardParams`.
    """

    def __init__(self, params: CardParams):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.params = params
        width = params.width
        self.macs = [GmiiReceiver() if width == 1 else XgmiiReceiver() for _ in range(LINES)]
        self.feeds = [Line(width) for _ in range(LINES)]
        self.arbiter = Arbiter(params)
        self.parse = Parse(params)
        self.book = Book(params)
        book = self.book.signature.members
        self._of_book = {
            name: member
            for name, member in book.items()
            if name.startswith(("locate", "name")) or name in _OF_BOOK
        }
        super().__init__(
            {
                "lines": In(receive_pins(width)).array(LINES),
                "time": In(TIME),
                "filters": In(self.feeds[0].filters.shape()).array(LINES),
                "any": In(1).array(LINES),
                **{name: self.arbiter.signature.members[name] for name in _START},
                **self._of_book,
                **{name: book[name] for name in ("i_repair", "o")},
                "frames": Out(data.ArrayLayout(COUNTER, LINES)),
                "messages": Out(COUNTER),
                "lost": Out(COUNTER),
                "changes": Out(COUNTER),
                "drops": Out(data.ArrayLayout(COUNTER, len(DropReason))),
            }
        )

    def probes(self) -> list[Value]:
        """Return when stages hand something on, of line A where there are two: for a bench."""
        return [
            self.macs[0].o.valid,
            self.feeds[0].o.valid,
            self.arbiter.o.valid,
            self.parse.o_hint.valid,
            self.parse.o.valid,
        ]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = self.arbiter
        m.submodules.parse = parse = self.parse
        m.submodules.book = book = self.book

        # From the pins of each line to its packets.
        for line, (mac, feed) in enumerate(zip(self.macs, self.feeds, strict=True)):
            m.submodules[f"mac_{line}"] = mac
            m.submodules[f"feed_{line}"] = feed
            m.submodules[f"continuation_{line}"] = continuation = Continuation(self.params.width)
            pins, kind = self.lines[line], "gmii" if self.params.width == 1 else "xgmii"
            m.d.comb += [
                getattr(mac, f"{kind}_{name}").eq(getattr(pins, name))
                for name in pins.signature.members
            ]
            wiring.connect(m, mac.o, feed.i)
            wiring.connect(m, feed.o, arbiter.i[line])
            m.d.comb += [
                feed.time.eq(self.time),
                feed.filters.eq(self.filters[line]),
                feed.any.eq(self.any[line]),
                arbiter.header[line].eq(feed.o_header),
                arbiter.time[line].eq(feed.o_time),
                arbiter.end[line].valid.eq(feed.o_end.valid),
                arbiter.end[line].payload.bad.eq(feed.o_end.payload.bad),
                continuation.i.payload.eq(mac.o.payload),
                continuation.i.valid.eq(mac.o.valid),
                continuation.start.eq(feed.o.payload.start),
                continuation.position.eq(arbiter.position),
                continuation.session_stb.eq(arbiter.session_stb),
                continuation.sequence_stb.eq(arbiter.sequence_stb),
                arbiter.continues[line].eq(continuation.o),
            ]

        # One sequence of packets, of messages, of operations.
        wiring.connect(m, arbiter.o, parse.i)
        wiring.connect(m, arbiter.o_notice, parse.i_notice)
        wiring.connect(m, parse.o_end, arbiter.i_end)
        wiring.connect(m, parse.o, book.i)
        wiring.connect(m, parse.o_hint, book.i_hint)
        wiring.connect(m, wiring.flipped(self.i_repair), book.i_repair)
        wiring.connect(m, book.o, wiring.flipped(self.o))
        m.d.comb += [
            arbiter.now.eq(self.time),
            parse.packet.eq(arbiter.o_packet),
            parse.time.eq(arbiter.o_time),
            self.lost.eq(arbiter.lost_count),
        ]
        m.d.comb += [getattr(arbiter, name).eq(getattr(self, name)) for name in _START]
        for name, member in self._of_book.items():
            ours, its = getattr(self, name), getattr(book, name)
            m.d.comb += its.eq(ours) if member.flow is In else ours.eq(its)

        self._count(m)
        return m

    def _count(self, m: Module) -> None:
        """Count what came, what was used and, by reason, what was not."""

        def counted(counter: Value, *events: Value) -> None:
            # The sum of a cycle's events is registered: a counter is two cycles behind.
            total = Signal(range(1 + sum((1 << len(event)) - 1 for event in events)))
            m.d.sync += [total.eq(reduce(add, events)), counter.eq(counter + total)]

        operation, arbiter = self.parse.o, self.arbiter
        unused = [(feed.drop_stb, feed.drop_reason) for feed in self.feeds]
        unused += zip(arbiter.drop_stb, arbiter.drop_reason, strict=True)
        kind = operation.payload.kind
        more = {
            DropReason.UNKNOWN_MESSAGE: [
                operation.valid & (kind == OperationKind.UNKNOWN),
                self.parse.short_count,
            ],
            DropReason.UNKNOWN_SYMBOL: [self.book.unknown_symbol_stb],
        }
        for reason in DropReason:
            events = [stb & (which == reason) for stb, which in unused if reason < 1 << len(which)]
            counted(self.drops[reason], *events, *more.get(reason, []))
        for line, feed in enumerate(self.feeds):
            counted(self.frames[line], feed.frame_stb)
        is_message = ~Cat(kind == notice for notice in _NOTICES).any()
        counted(self.messages, operation.valid & is_message, self.parse.short_count)
        counted(self.changes, self.book.o.valid & self.book.o.payload.changed)
