"""Why each symbol's book is not known to be exact."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two, wires
from hw.rtl.book.requests import REASON_BITS, SYMBOL_COUNT_MAX
from protocol.reasons import StaleReason

_TOLD = ("touch_stb", "clear_stb", "mismatch_stb", "confirm_stb", "retract_stb", "gap_stb")


class StaleFlags(wiring.Component):
    """Keeps the first reason of each flagged symbol, and which symbols are not yet confirmed.

    Latency is 2 cycles from ``index`` to ``known``, and 2 from what is told to ``stale`` and to an
    answer. What is told of a symbol is told in the cycle of its answer. Throughput is one index
    every 2 cycles; ``gap_stb`` may come at any time.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.

    Members
    -------
    index : ``In(range(symbol_count))``
        The symbol in question.
    other_index : ``In(range(symbol_count))``
        Another one, a cycle after it.
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
    gap_stb : ``In(1)``
        Every symbol is flagged.
    stale : ``Out(data.ArrayLayout(REASON_BITS, symbol_count))``
        Each symbol's reason.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one.
    """

    LATENCY = 2

    def __init__(self, symbol_count: int):
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        self.symbol_count = symbol_count
        super().__init__(
            {
                "index": In(range(symbol_count)),
                "other_index": In(range(symbol_count)),
                "known": Out(REASON_BITS),
                "reason": In(REASON_BITS),
                **dict.fromkeys(_TOLD, In(1)),
                "stale": Out(data.ArrayLayout(REASON_BITS, symbol_count)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.symbol_count
        touched = Signal(count)

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        # Stages 1 to 3: the symbols, each as its number and as one bit of all.
        s1_index, s2_index = (held(range(count), f"s{n}_index") for n in (1, 2))
        s2_other_index = held(range(count), "s2_other_index")
        s1_own, s2_own, s3_own = (held(count, f"s{n}_own") for n in (1, 2, 3))
        s2_other, s3_other = (held(count, f"s{n}_other") for n in (2, 3))
        m.d.sync += [
            s1_index.eq(self.index),
            s2_index.eq(s1_index),
            s2_other_index.eq(self.other_index),
            *(s1_own[i].eq(self.index == i) for i in range(count)),
            *(s2_other[i].eq(self.other_index == i) for i in range(count)),
            s2_own.eq(s1_own),
            s3_own.eq(s2_own),
            s3_other.eq(s2_other),
        ]

        # Stage 3: what was told is done.
        reason = held(REASON_BITS, "s3_reason")
        told = {name: Signal(name=f"s3_{name}") for name in _TOLD}
        m.d.sync += reason.eq(self.reason)
        m.d.sync += [told[name].eq(getattr(self, name)) for name in _TOLD]

        def after(stale, is_touched, is_own, is_other):
            """Return a symbol's reason after what was told."""
            first = Signal(REASON_BITS)
            with m.If(told["gap_stb"]):
                m.d.comb += first.eq(StaleReason.GAP)
            with m.Elif(told["retract_stb"] & is_touched):
                m.d.comb += first.eq(StaleReason.FRAME_BAD)
            with m.Elif(told["mismatch_stb"] & is_other):
                m.d.comb += first.eq(StaleReason.LOCATE_MISMATCH)
            with m.Elif(is_own):
                m.d.comb += first.eq(reason)
            stays = (stale != StaleReason.NONE) & ~(told["clear_stb"] & is_own)
            return Mux(stays, stale, first)

        for i in range(count):
            is_cleared = told["clear_stb"] & s3_own[i]
            m.d.sync += self.stale[i].eq(after(self.stale[i], touched[i], s3_own[i], s3_other[i]))
            with m.If(told["confirm_stb"] | told["retract_stb"] | is_cleared):
                m.d.sync += touched[i].eq(0)
            with m.Elif((told["touch_stb"] & s3_own[i]) | (told["mismatch_stb"] & s3_other[i])):
                m.d.sync += touched[i].eq(1)

        # Stage 1: a symbol is looked up, while what was told last is done.
        s1_is_own = held(1, "s1_is_own")
        s1_is_other = held(1, "s1_is_other")
        m.d.sync += [
            s1_is_own.eq(self.index == s2_index),
            s1_is_other.eq(self.index == s2_other_index),
            self.known.eq(
                after(
                    wires.select(s1_own, self.stale),
                    (s1_own & touched).any(),
                    s1_is_own,
                    s1_is_other,
                )
            ),
        ]
        return m
