"""Commands of a book's repair, as steps of it."""

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two
from hw.rtl.book.requests import SYMBOL_COUNT_MAX
from hw.rtl.book.tasks import RepairKind, repair
from hw.rtl.layouts import RECORD
from protocol import ring
from protocol.emit.amaranth_layout import view

_KINDS = {
    ring.BOOK_CLEAR.code: RepairKind.CLEAR,
    ring.BOOK_ADD.code: RepairKind.INSERT,
    ring.BOOK_DELETE.code: RepairKind.DELETE,
    ring.BOOK_LIVE.code: RepairKind.LIVE,
}
_BUY, _SELL = ord("B"), ord("S")


class RepairCommands(wiring.Component):
    """Turns records of the command ring into steps of a repair.

    One for a symbol that is not configured is taken and does nothing. A BOOK_CLEAR with a stock
    locate sets that of its symbol too, in the cycle in which it is taken.

    Latency is 0 cycles. Throughput is that of the book.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.

    Members
    -------
    i : ``In(stream.Signature(RECORD))``
        Commands. Its payload is looked at without ``valid`` too.
    concerned : ``Out(1)``
        The command is one of a repair; others must not be offered.
    configured : ``In(symbol_count)``
        A bit for each symbol that is in use.
    o : ``Out(stream.Signature(repair(symbol_count)))``
        Steps.
    symbol_index, locate_stb, locate : ``Out``
        Sets the locate of a symbol.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one.
    """

    def __init__(self, symbol_count: int):
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        self.symbol_count = symbol_count
        super().__init__(
            {
                "i": In(stream.Signature(RECORD)),
                "concerned": Out(1),
                "configured": In(symbol_count),
                "o": Out(stream.Signature(repair(symbol_count))),
                "symbol_index": Out(range(symbol_count)),
                "locate_stb": Out(1),
                "locate": Out(16),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        record, step = self.i.payload, self.o.payload
        change, live = view(ring.BOOK_ADD, record), view(ring.BOOK_LIVE, record)
        index = change.symbol_index
        known = Signal()
        m.d.comb += [
            self.concerned.eq(Cat(change.record_type == code for code in _KINDS).any()),
            known.eq(
                (index < self.symbol_count) & self.configured.bit_select(self.symbol_index, 1)
            ),
            self.symbol_index.eq(index),
            self.o.valid.eq(self.i.valid & known),
            self.i.ready.eq(self.o.ready | ~known),
            step.symbol_index.eq(index),
            step.reference.eq(change.order_reference),
            step.is_buy.eq(change.side == _BUY),
            step.bad_side.eq((change.side != _BUY) & (change.side != _SELL)),
            step.shares.eq(change.order_qty),
            step.price.eq(change.price),
            step.trading_state.eq(live.trading_state),
            step.event_code.eq(live.event_code),
            self.locate.eq(view(ring.BOOK_CLEAR, record).stock_locate),
            self.locate_stb.eq(
                self.o.valid & self.o.ready & (step.kind == RepairKind.CLEAR) & self.locate.any()
            ),
        ]
        with m.Switch(change.record_type):
            for code, kind in _KINDS.items():
                with m.Case(code):
                    m.d.comb += step.kind.eq(kind)
        return m
