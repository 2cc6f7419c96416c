"""Why each symbol's book is not known to be exact."""

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two
from hw.rtl.book.requests import REASON_BITS, SYMBOL_COUNT_MAX
from protocol.reasons import StaleReason


class StaleFlags(wiring.Component):
    """Keeps the first reason of each flagged symbol, and which symbols are not yet confirmed.

    Latency is 1 cycle from ``index`` to ``known``; what is done to the symbols named by ``index``
    and ``other_index`` is told in that cycle, and is in ``stale`` in the next one. Throughput is
    one index every 2 cycles; ``lost_stb`` may come at any time.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.

    Members
    -------
    index, other_index : ``In(range(symbol_count))``
        The symbol in question, and another one.
    known : ``Out``
        The reason that the symbol has.
    reason : ``In``
        A reason to flag the symbol, or none.
    touch_stb, clear_stb : ``In(1)``
        The symbol's book has changed on a message's word; it was cleared and is no longer flagged.
    mismatch_stb : ``In(1)``
        A message named an order of the other symbol: both are touched, the other one is flagged.
    confirm_stb, retract_stb : ``In(1)``
        What was touched was right; it was not, and is flagged.
    gap_stb, lost_stb : ``In(1)``
        Every symbol is flagged.
    stale : ``Out(data.ArrayLayout(REASON_BITS, symbol_count))``
        Each symbol's reason.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one.
    """

    LATENCY = 1

    def __init__(self, symbol_count: int):
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        self.symbol_count = symbol_count
        super().__init__(
            {
                "index": In(range(symbol_count)),
                "other_index": In(range(symbol_count)),
                "known": Out(REASON_BITS),
                "reason": In(REASON_BITS),
                "touch_stb": In(1),
                "clear_stb": In(1),
                "mismatch_stb": In(1),
                "confirm_stb": In(1),
                "retract_stb": In(1),
                "gap_stb": In(1),
                "lost_stb": In(1),
                "stale": Out(data.ArrayLayout(REASON_BITS, symbol_count)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        own = Signal(self.symbol_count, reset_less=True)
        other = Signal(self.symbol_count, reset_less=True)
        touched = Signal(self.symbol_count)
        m.d.sync += self.known.eq(self.stale[self.index])
        for i in range(self.symbol_count):
            m.d.sync += [own[i].eq(self.index == i), other[i].eq(self.other_index == i)]
            is_cleared = self.clear_stb & own[i]
            with m.If(is_cleared):
                m.d.sync += self.stale[i].eq(StaleReason.NONE)
            with m.If((self.stale[i] == StaleReason.NONE) | is_cleared):
                with m.If(self.gap_stb | self.lost_stb):
                    m.d.sync += self.stale[i].eq(StaleReason.GAP)
                with m.Elif(self.retract_stb & touched[i]):
                    m.d.sync += self.stale[i].eq(StaleReason.FRAME_BAD)
                with m.Elif(self.mismatch_stb & other[i]):
                    m.d.sync += self.stale[i].eq(StaleReason.LOCATE_MISMATCH)
                with m.Elif(own[i]):
                    m.d.sync += self.stale[i].eq(self.reason)
            with m.If(self.confirm_stb | self.retract_stb | is_cleared):
                m.d.sync += touched[i].eq(0)
            with m.Elif((self.touch_stb & own[i]) | (self.mismatch_stb & other[i])):
                m.d.sync += touched[i].eq(1)
        return m
