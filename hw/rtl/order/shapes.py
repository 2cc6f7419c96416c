"""What the parts of the order stage say to each other."""

from amaranth.hdl import Cat, Const, Mux, Value, unsigned
from amaranth.lib import data, enum

from protocol import ouch50
from protocol.emit import amaranth_layout as layouts
from protocol.layout import Layout
from protocol.ring import RECORD_SIZE

RECORD = unsigned(8 * RECORD_SIZE)
"""A record of a ring, its first byte in bits 7:0."""

QUANTITY = unsigned(ouch50.QUANTITY_MAX.bit_length())
"""Shares of an order that the gate has let pass."""

CONNECTION = data.StructLayout(
    {
        "local_mac": 48,
        "remote_mac": 48,
        "local_ip": 32,
        "remote_ip": 32,
        "local_port": 16,
        "remote_port": 16,
        "sequence": 32,
        "acknowledgment": 32,
        "firm": 32,
    }
)
"""A TCP connection that the host hands over, as the registers ``ORDER_...`` have it: MAC addresses
with their first byte in bits 47:40, the firm's first character in bits 7:0."""

SET_STOCK = data.StructLayout({"symbol_index": 16, "stock": 64})
"""The name of a symbol, its first character in bits 7:0; 0 for none."""

BYTE = data.StructLayout({"data": 8, "first": 1, "last": 1})
"""A byte of a frame."""


class MessageKind(enum.Enum, shape=2):
    """An OUCH message to the venue."""

    ENTER = 0
    CANCEL = 1
    MASS_CANCEL = 2
    REPLACE = 3


MESSAGE = data.StructLayout(
    {
        "kind": MessageKind,
        "cl_ord_id": 32,
        "orig_cl_ord_id": 32,
        "text": 80,
        "side": 8,
        "time_in_force": 8,
        "order_qty": 32,
        "price": 32,
        "stock": 64,
    }
)
"""A message to the venue; fields that a kind does not have are without meaning. ``text`` is
``cl_ord_id`` in decimal, its first digit in bits 7:0, blanks behind the last."""


class AnswerKind(enum.Enum, shape=3):
    """An OUCH message of the venue."""

    OTHER = 0
    """One that changes nothing, or that is none."""
    ACCEPTED = 1
    CANCELED = 2
    EXECUTED = 3
    REJECTED = 4
    REPLACED = 5


ANSWER = data.StructLayout(
    {
        "kind": AnswerKind,
        "cl_ord_id": 32,
        "orig_cl_ord_id": 32,
        "ts_venue_ns": 64,
        "number": 64,
        "price": 32,
        "qty": 32,
        "code": 16,
    }
)
"""A message of the venue as numbers; fields that a kind does not have are zero. ``number`` is the
venue's order or match number, ``code`` the order state, liquidity flag or reason. A price beyond
32 bits stays at the highest."""


def packed(layout: Layout, **values: object) -> Value:
    """Return the bytes of a declared layout, first byte in bits 7:0; the rest has its default."""

    def bits(item):
        value = values.pop(item.name, item.default)
        if isinstance(value, str):
            value = value.ljust(item.length).encode("latin-1")
        if isinstance(value, bytes):
            value = Const(int.from_bytes(value, "little"), 8 * item.length)
        return layouts.wire(layout, value, item.name)

    whole = Cat(bits(item) for item in layout.fields)
    if values:
        raise KeyError(f"{layout.title} has no {', '.join(sorted(values))}")
    return whole


def swapped(bits: Value) -> Value:
    """Return a value with its bytes in reverse."""
    return Cat(bits.word_select(at, 8) for at in reversed(range(len(bits) // 8)))


def padded(text: Value) -> Value:
    """Return a text whose NULs at the end are blanks."""
    characters = [text.word_select(at, 8) for at in range(len(text) // 8)]
    return Cat(
        Mux(Cat(later.any() for later in characters[at:]).any(), character, ord(" "))
        for at, character in enumerate(characters)
    )


def narrowed(value: Value, bits: int) -> Value:
    """Return a number in no more than so many bits, the highest one if it does not fit."""
    if len(value) <= bits:
        return value
    return Mux(value[bits:].any(), (1 << bits) - 1, value[:bits])
