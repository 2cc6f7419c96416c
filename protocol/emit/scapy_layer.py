"""From a layout to Scapy: a packet class that dissects and builds the same bytes.

Fields hold the values that :meth:`protocol.layout.Layout.unpack` gives: integers, text without its
padding, raw bytes. The parts of a bit field are read-only properties.
"""

from typing import Any

from scapy.fields import Field as ScapyField
from scapy.packet import Packet

from protocol.layout import DecodeError, Field, Kind, Layout, Part, Value


class WireField(ScapyField[Value, bytes]):
    """A field of any kind and length, coded by its declaration."""

    __slots__ = ["byte_order", "item", "unset"]

    def __init__(self, item: Field, layout: Layout):
        self.item = item
        self.byte_order = layout.byte_order
        self.unset = _default(item)
        super().__init__(item.name, self.unset, fmt=f"{item.length}s")

    def i2m(self, pkt: Packet | None, x: Value | None) -> bytes:
        """Return the field's bytes."""
        return self.item.encode(self.unset if x is None else x, self.byte_order)

    def m2i(self, pkt: Packet | None, x: bytes) -> Value:
        """Return the field's value."""
        return self.item.decode(x, self.byte_order)

    def getfield(self, pkt: Packet, s: bytes) -> tuple[bytes, Value]:
        """Return what follows the field, and its value. Raises :class:`DecodeError`."""
        if len(s) < self.sz:
            raise DecodeError(
                f"{self.name} needs {self.sz} bytes, {len(s)} remain", self.item.offset
            )
        return s[self.sz :], self.m2i(pkt, bytes(s[: self.sz]))


def layer(layout: Layout) -> type[Packet]:
    """Return a packet class with the layout's fields, by their names in lower case.

    A field that has a declared default may be left out; others default to 0, blanks or zero bytes.
    Where the name of a field is also a method of Scapy's (``display``), the field wins.
    """
    members: dict[str, Any] = {
        "__doc__": f"{layout.title}. [{layout.clause}]",
        "__module__": __name__,
        "name": layout.title,
        "fields_desc": [WireField(item, layout) for item in layout.fields],
    }
    class_name = "".join(word.capitalize() for word in layout.name.split("_"))
    made = type(class_name, (Packet,), members)
    # Scapy takes a member with the name of a field for the field's default, so these come after.
    for item in layout.fields:
        if hasattr(Packet, item.name):
            setattr(made, item.name, property(_field_reader(item.name)))
        for bits in item.parts:
            setattr(made, bits.name, property(_part_reader(item.name, bits)))
    return made


def _default(item: Field) -> Value:
    if item.default is not None:
        return item.default
    if item.is_integer or item.kind is Kind.DIGITS:
        return 0
    return bytes(item.length) if item.kind is Kind.BYTES else ""


def _field_reader(name: str) -> Any:
    return lambda packet: packet.getfieldval(name)


def _part_reader(name: str, bits: Part) -> Any:
    return lambda packet: packet.getfieldval(name) >> bits.lsb & ((1 << bits.width) - 1)
