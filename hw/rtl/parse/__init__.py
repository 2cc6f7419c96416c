"""Parse stage: message blocks in, operations out, at line rate and at any alignment."""

from collections.abc import Sequence

from amaranth.hdl import Const, Value

from protocol import moldudp64

HEAD = moldudp64.BLOCK.size
"""Bytes of a block's length."""


def any_of(values: Sequence[Value]) -> Value:
    """Join values of which at most one is not zero."""
    joined = values[0]
    for value in values[1:]:
        joined = joined | value
    return joined


def above(count: Value, least: int) -> Value:
    """Return whether a number of a few bits is above a constant.

    A table: a comparison would become a carry chain, which is slower than a table of a few bits.
    """
    return any_of([count == n for n in range(least + 1, 1 << len(count))] or [Const(0)])


def is_more(counter: Value, count: Value) -> Value:
    """Return whether a wide counter is above a number of a few bits. A table, as :func:`above`."""
    low = counter[: len(count)]
    more = [(count == n) & above(low, n) for n in range(1 << len(count))]
    return any_of([counter[len(count) :].any(), *more])
