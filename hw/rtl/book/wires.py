"""Logic whose depth is laid down, where the tools would make more levels of it."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

_INPUTS = 4
"""Of a look-up table."""


def kept(m: Module, name: str, value) -> Signal:
    """Return a value that the tools leave as it is, instead of mixing it with what uses it."""
    wire = Signal(len(value), name=name, attrs={"keep": True})
    m.d.comb += wire.eq(value)
    return wire


def any_of(m: Module, name: str, value) -> Value:
    """Return whether a bit is set, by as few levels of look-up tables as can be.

    Each but the last is kept: where they believe that there is time, the tools make twice the
    levels of it.
    """
    bits = Value.cast(value)
    while len(bits) > _INPUTS:
        bits = Cat(
            kept(m, f"{name}_{len(bits)}_{i // _INPUTS}", bits[i : i + _INPUTS].any())
            for i in range(0, len(bits), _INPUTS)
        )
    return bits.any()


def equal(m: Module, name: str, a, b) -> Value:
    """Return whether two values are equal, by as few levels of look-up tables as can be."""
    a, b = Value.cast(a), Value.cast(b)
    parts = range(0, len(a), _INPUTS // 2)
    differ = (
        kept(m, f"{name}_{i}", a[i : i + _INPUTS // 2] != b[i : i + _INPUTS // 2]) for i in parts
    )
    return ~any_of(m, name, Cat(differ))


def select(one_hot, values) -> Value:
    """Return the value of the set bit, zero where none is set."""
    chosen = (
        Mux(bit, value.as_value() if isinstance(value, data.View) else value, 0)
        for bit, value in zip(one_hot, values, strict=True)
    )
    return reduce(or_, chosen)
