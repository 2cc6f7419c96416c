"""From a layout to Amaranth: the bits of a message, and its fields as numbers.

The first byte of the wire is in bits 7:0. A big-endian integer therefore arrives with its bytes in
reverse; :func:`host` and :func:`wire` turn it round, both by the one function that swaps.
"""

from typing import Any

from amaranth.hdl import Cat, Const, Shape, Value, signed, unsigned
from amaranth.lib import data

from protocol.layout import Field, Kind, Layout


def struct_layout(layout: Layout) -> data.StructLayout:
    """Return a layout with one unsigned member a field, its bytes in the order of the wire."""
    return data.StructLayout({item.name: unsigned(8 * item.length) for item in layout.fields})


def shape(layout: Layout, name: str) -> Shape:
    """Return the shape of what :func:`host` gives for a field."""
    item = layout.by_name[name]
    return signed(8 * item.length) if item.kind is Kind.SINT else unsigned(8 * item.length)


def view(layout: Layout, source: Any) -> Any:
    """Return ``source`` as a view of the layout.

    ``source`` may be a view of it already, a value of all its bits, an ``int`` of all its bits, or
    ``bytes``.
    """
    if isinstance(source, data.View | data.Const):
        return source
    if isinstance(source, bytes):
        source = int.from_bytes(source, "little")
    if isinstance(source, int):
        return struct_layout(layout).from_bits(source)
    return data.View(struct_layout(layout), source)


def host(layout: Layout, source: Any, name: str) -> Value:
    """Return what a field means: integers as numbers, text and bytes in the order of the wire.

    Only wires, no logic. ``source`` is anything that :func:`view` takes.
    """
    item = layout.by_name[name]
    bits = view(layout, source)[name]
    if isinstance(bits, int):
        bits = Const(bits, 8 * item.length)
    bits = _swap(layout, item, bits)
    return bits.as_signed() if item.kind is Kind.SINT else bits


def wire(layout: Layout, value: Any, name: str) -> Value:
    """Return the bits of a field that means ``value``: the inverse of :func:`host`.

    A narrower value is extended. Raises ``ValueError`` for a wider one.
    """
    item = layout.by_name[name]
    target = shape(layout, name)
    bits = Value.cast(value)
    if len(bits) > target.width:
        raise ValueError(f"{name} must have at most {target.width} bits, not {len(bits)}")
    if len(bits) < target.width:
        fill = bits[-1] if bits.shape().signed else Const(0, 1)
        bits = Cat(bits, fill.replicate(target.width - len(bits)))
    return _swap(layout, item, bits)


def part(layout: Layout, source: Any, name: str, part_name: str) -> Value:
    """Return some bits of an integer field, by the name of the part.

    Raises ``KeyError`` when the field has no such part.
    """
    parts = {item.name: item for item in layout.by_name[name].parts}
    bits = parts[part_name]
    return host(layout, source, name)[bits.lsb : bits.lsb + bits.width]


def _swap(layout: Layout, item: Field, bits: Any) -> Value:
    # The only place in the toolkit where hardware reverses the bytes of an integer.
    if not item.is_integer or layout.byte_order == "little":
        return bits
    return Cat(bits[start : start + 8] for start in reversed(range(0, len(bits), 8)))
