"""A number as decimal text."""

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

NUMBER_BITS = 32
DIGITS = len(str((1 << NUMBER_BITS) - 1))
_STEP_BITS = 4


class Digits(wiring.Component):
    """Turns a number into decimal text without leading zeros.

    Binary digits are shifted in from the top, and each decimal digit that reaches 5 carries: four
    binary digits a cycle.

    Latency is 9 cycles from ``start_stb`` to ``text``. Throughput is 1 number in 9 cycles; one that
    comes earlier takes the place of the one before.

    Members
    -------
    start_stb : ``In(1)``
        Begin with ``number``.
    number : ``In(32)``
        Sampled with ``start_stb``.
    text : ``Out(80)``
        Its digits, the first in bits 7:0, and blanks behind the last. Holds until the next begins.
    """

    LATENCY = NUMBER_BITS // _STEP_BITS + 1

    start_stb: In(1)
    number: In(NUMBER_BITS)
    text: Out(8 * DIGITS)

    def elaborate(self, platform):
        m = Module()
        rest = Signal(NUMBER_BITS, reset_less=True)
        digits = Signal(4 * DIGITS, reset_less=True)

        # Stage 1 to 8: digits.
        shifted = digits
        for step in reversed(range(NUMBER_BITS - _STEP_BITS, NUMBER_BITS)):
            carried = []
            for at in range(DIGITS):
                digit = shifted.word_select(at, 4)
                carried.append(Mux(digit >= 5, digit + 3, digit)[:4])
            next_digits = Signal(4 * DIGITS, name=f"digits_{step}")
            m.d.comb += next_digits.eq(Cat(rest[step], *carried))
            shifted = next_digits
        with m.If(self.start_stb):
            m.d.sync += [rest.eq(self.number), digits.eq(0)]
        with m.Else():
            m.d.sync += rest.eq(rest << _STEP_BITS)
        left = Signal(range(NUMBER_BITS // _STEP_BITS + 1))
        with m.If(self.start_stb):
            m.d.sync += left.eq(NUMBER_BITS // _STEP_BITS)
        with m.Elif(left != 0):
            m.d.sync += [left.eq(left - 1), digits.eq(shifted)]

        # Stage 9: text, the last digit always there.
        skipped = Signal(range(DIGITS))
        for at in range(DIGITS):  # From the last digit up: the highest that is there wins.
            with m.If(digits.word_select(at, 4) != 0):
                m.d.comb += skipped.eq(DIGITS - 1 - at)
        with m.If(digits == 0):
            m.d.comb += skipped.eq(DIGITS - 1)
        written = [
            Cat(digits.word_select(at, 4), Const(ord("0") >> 4, 4))
            for at in reversed(range(DIGITS))
        ]
        blank = Const(ord(" "), 8)
        m.d.sync += self.text.eq(
            Array(Cat(*written[count:], *[blank] * count) for count in range(DIGITS))[skipped]
        )
        return m
