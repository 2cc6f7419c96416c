"""Layouts: the one place where a message, record or header is described, field by field.

A :class:`Layout` is checked when it is made: fields follow one another without hole or overlap and
end at the published size, so a slip in a declaration stops the import. Everything else (Amaranth
layout, NumPy dtype, Scapy layer, C header, documentation table) is made from it by
``protocol.emit``.
"""

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, unique
from functools import cached_property, lru_cache, partial
from typing import Any, Generic, Literal, TypeAlias, TypeVar

Value: TypeAlias = int | str | bytes
"""What a field holds in Python: an integer, text without its padding, or raw bytes."""


class LayoutError(ValueError):
    """A declaration contradicts itself or its published size."""


class EncodeError(ValueError):
    """A value does not fit its field."""


class DecodeError(ValueError):
    """Bytes that are not what the layout says.

    Attributes
    ----------
    offset : int
        Where in the decoded bytes, from 0.
    """

    def __init__(self, reason: str, offset: int = 0):
        super().__init__(reason)
        self.offset = offset


@unique
class Kind(Enum):
    """How a field's bytes are read. The value is what documentation tables show."""

    UINT = "unsigned integer"
    SINT = "signed integer"
    PRICE4 = "price, 1e-4 USD"
    PRICE8 = "price, 1e-8 USD"
    TIMESTAMP = "ns since midnight"
    ALPHA = "text, padded right"
    ALPHA_LEFT = "text, padded left"
    DIGITS = "ASCII number, padded left"
    BYTES = "bytes"


TEXT = frozenset({Kind.ALPHA, Kind.ALPHA_LEFT})
"""Kinds whose value is a ``str``."""

RAW = TEXT | {Kind.DIGITS, Kind.BYTES}
"""Kinds that are bytes in the order of the wire; all others are one binary integer."""

_TEXTS_CACHED = 4096
_STRUCT_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


def snake(title: str) -> str:
    """Return a published name in lower case with underscores (``UserRefNum``: user_ref_num)."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", title)
    return "_".join(re.findall(r"[a-z0-9]+", words.lower()))


@dataclass(frozen=True, slots=True)
class Part:
    """Some bits of an integer field, as RFC headers have them.

    ``lsb`` counts from the least significant bit of the field's value, ``width`` is in bits.
    """

    title: str
    lsb: int
    width: int
    meaning: str

    @property
    def name(self) -> str:
        return snake(self.title)


@dataclass(frozen=True)
class Field:
    """One field: published title, place, kind and meaning.

    ``offset`` and ``length`` are in bytes. ``values`` explains codes. ``default`` is what
    :meth:`Layout.pack` writes when no value is given; a field without one must be given.
    """

    title: str
    offset: int
    length: int
    kind: Kind
    meaning: str
    values: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    default: Value | None = None

    @cached_property
    def name(self) -> str:
        return snake(self.title)

    @property
    def end(self) -> int:
        """Offset of the first byte behind the field."""
        return self.offset + self.length

    @cached_property
    def is_integer(self) -> bool:
        """Whether the bytes are one binary integer."""
        return self.kind not in RAW

    def encode(self, value: Value, byte_order: Literal["big", "little"]) -> bytes:
        """Return the field's bytes. Raises :class:`EncodeError` when the value does not fit."""
        if self.is_integer:
            if not isinstance(value, int):
                raise EncodeError(f"{self.name} must be an integer, not {value!r}")
            try:
                return value.to_bytes(self.length, byte_order, signed=self.kind is Kind.SINT)
            except OverflowError:
                raise EncodeError(
                    f"{self.name} must fit {self.length} bytes, not {value}"
                ) from None
        if self.kind is Kind.DIGITS:
            digits = str(value)
            if not (digits.isascii() and digits.isdigit()):
                raise EncodeError(f"{self.name} must be an ASCII number, not {value!r}")
            value = digits
        if isinstance(value, int):  # `bytes(3)` would be three NULs.
            raise EncodeError(f"{self.name} must be latin-1 text or bytes, not {value!r}")
        try:
            raw = value.encode("latin-1") if isinstance(value, str) else bytes(value)
        except (UnicodeEncodeError, TypeError):
            raise EncodeError(f"{self.name} must be latin-1 text or bytes, not {value!r}") from None
        if len(raw) > self.length:
            raise EncodeError(f"{self.name} must fit {self.length} bytes, not {value!r}")
        if self.kind is Kind.BYTES:
            if len(raw) != self.length:
                raise EncodeError(f"{self.name} must be {self.length} bytes, not {len(raw)}")
            return raw
        return raw.ljust(self.length) if self.kind is Kind.ALPHA else raw.rjust(self.length)

    def decode(self, raw: bytes, byte_order: Literal["big", "little"]) -> Value:
        """Return the value of the field's own bytes.

        Codes of one character stay as they are, longer text loses its padding (blanks, and the NULs
        that some senders use). Raises :class:`DecodeError` when an ASCII number is none.
        """
        if self.is_integer:
            return int.from_bytes(raw, byte_order, signed=self.kind is Kind.SINT)
        if self.kind is Kind.BYTES:
            return raw
        text = raw.decode("latin-1")
        if self.kind is Kind.DIGITS:
            digits = text.strip(" \0")
            if not (digits.isascii() and digits.isdigit()) and digits:
                raise DecodeError(f"{self.name} is not an ASCII number: {text!r}", self.offset)
            return int(digits or 0)
        if self.length == 1:
            return text
        return text.rstrip(" \0") if self.kind is Kind.ALPHA else text.strip(" \0")


@dataclass(frozen=True, repr=False)
class Layout:
    """A fixed-size block of bytes and what stands where.

    Parameters
    ----------
    title : str
        Published name.
    clause : str
        Document and clause that the layout comes from.
    size : int
        Published size in bytes.
    fields : tuple of Field
        In order of offset, without hole or overlap.
    byte_order : "big" or "little"
        Of all its integers: big on wires, little in rings and registers.
    code : int
        Value of the type field that announces this layout in its family; -1 where it has none.

    Raises
    ------
    LayoutError
        If fields overlap, leave a hole, share a name or do not add up to ``size``.
    """

    title: str
    clause: str
    size: int
    fields: tuple[Field, ...]
    byte_order: Literal["big", "little"] = "big"
    code: int = -1

    def __post_init__(self) -> None:
        end = 0
        for item in self.fields:
            if item.offset != end:
                raise LayoutError(f"{self.title}: {item.title} must be at {end}, not {item.offset}")
            if item.length < 1:
                raise LayoutError(
                    f"{self.title}: {item.title} must have a length, not {item.length}"
                )
            end = item.end
        if end != self.size:
            raise LayoutError(f"{self.title}: fields end at {end}, size is {self.size}")
        if len(self.by_name) != len(self.fields):
            raise LayoutError(f"{self.title}: two fields have one name")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.title}, {self.size} bytes>"

    @cached_property
    def name(self) -> str:
        return snake(self.title)

    @cached_property
    def by_name(self) -> dict[str, Field]:
        return {item.name: item for item in self.fields}

    @property
    def format(self) -> str:
        """Format of :mod:`struct` for all fields; odd integers and text appear as bytes."""
        order = ">" if self.byte_order == "big" else "<"
        return order + "".join(
            _integer_code(item) if item.is_integer else f"{item.length}s" for item in self.fields
        )

    @cached_property
    def struct(self) -> struct.Struct:
        """The compiled format, for code that knows the order of the fields."""
        return struct.Struct(self.format)

    @cached_property
    def _decoded(self) -> tuple[Field, ...]:
        """Fields whose value is not what the struct gives."""
        return tuple(i for i in self.fields if not i.is_integer or i.length not in _STRUCT_CODES)

    @cached_property
    def _decoders(self) -> tuple[tuple[str, Callable[[bytes], Value]], ...]:
        """What makes values of bytes; texts are remembered, as symbols and codes repeat all day."""
        found: list[tuple[str, Callable[[bytes], Value]]] = []
        for item in self._decoded:
            decode: Callable[[bytes], Value] = partial(item.decode, byte_order=self.byte_order)
            if item.is_integer:
                signed = item.kind is Kind.SINT
                decode = partial(int.from_bytes, byteorder=self.byte_order, signed=signed)
            elif item.kind is not Kind.BYTES:
                decode = lru_cache(_TEXTS_CACHED)(decode)
            found.append((item.name, decode))
        return tuple(found)

    @cached_property
    def _defaults(self) -> dict[str, Value]:
        return {i.name: i.default for i in self.fields if i.default is not None}

    def pack(self, values: Mapping[str, Value] = {}, /, **more: Value) -> bytes:
        """Return the bytes for values given by field name.

        Raises :class:`EncodeError` for a missing, unknown or unfitting value.
        """
        given = {**self._defaults, **values, **more}
        try:
            if len(given) == len(self.fields):
                for item in self._decoded:
                    given[item.name] = item.encode(given[item.name], self.byte_order)
                return self.struct.pack(*(given[name] for name in self.by_name))
        except (KeyError, struct.error, EncodeError):
            pass  # Said below, field by field.
        return self._pack_by_field({**values, **more})

    def _pack_by_field(self, given: dict[str, Value]) -> bytes:
        parts = []
        for item in self.fields:
            value = given.pop(item.name, item.default)
            if value is None:
                raise EncodeError(f"{self.title}: {item.name} is missing")
            try:
                parts.append(item.encode(value, self.byte_order))
            except EncodeError as error:
                raise EncodeError(f"{self.title}: {error}") from None
        if given:
            raise EncodeError(f"{self.title}: no field {', '.join(sorted(given))}")
        return b"".join(parts)

    def unpack(self, data: bytes | bytearray | memoryview, offset: int = 0) -> dict[str, Any]:
        """Return every field's value by name, reading from ``offset``.

        Numbers are ``int``, texts ``str``, what is neither ``bytes``. Raises
        :class:`DecodeError` when ``data`` ends too early.
        """
        if len(data) - offset < self.size:
            raise DecodeError(
                f"{self.title} needs {self.size} bytes, {max(len(data) - offset, 0)} remain", offset
            )
        values = dict(zip(self.by_name, self.struct.unpack_from(data, offset), strict=True))
        try:
            for name, decode in self._decoders:
                values[name] = decode(values[name])
        except DecodeError as error:
            raise DecodeError(f"{self.title}: {error}", offset + error.offset) from None
        return values


def _integer_code(item: Field) -> str:
    code = _STRUCT_CODES.get(item.length)
    if code is None:
        return f"{item.length}s"
    return code.lower() if item.kind is Kind.SINT else code


L = TypeVar("L", bound=Layout)


class Family(Generic[L]):
    """Layouts that one type byte tells apart.

    Parameters
    ----------
    title : str
        Name of the protocol, used in messages.
    layouts : iterable of Layout
        Each with its own ``code``.
    """

    def __init__(self, title: str, layouts: Iterable[L]):
        self.title = title
        self.layouts = tuple(layouts)
        self.by_code = {layout.code: layout for layout in self.layouts}
        if len(self.by_code) != len(self.layouts) or -1 in self.by_code:
            raise LayoutError(f"{title}: each layout must have a code of its own")

    def identify(self, code: int) -> L:
        """Return the layout with this type code. Raises :class:`DecodeError` when there is none."""
        layout = self.by_code.get(code)
        if layout is None:
            shown = f"'{chr(code)}'" if 0x21 <= code <= 0x7E else f"0x{code:02x}"
            raise DecodeError(f"type {shown} is not in {self.title}")
        return layout


def uint(
    title: str,
    offset: int,
    length: int,
    meaning: str,
    *,
    parts: tuple[Part, ...] = (),
    default: int | None = None,
) -> Field:
    """Declare an unsigned integer."""
    return Field(title, offset, length, Kind.UINT, meaning, parts=parts, default=default)


def price4(title: str, offset: int, length: int, meaning: str) -> Field:
    """Declare a price in 1e-4 USD."""
    return Field(title, offset, length, Kind.PRICE4, meaning)


def timestamp(title: str, offset: int, length: int, meaning: str) -> Field:
    """Declare a time in ns since midnight."""
    return Field(title, offset, length, Kind.TIMESTAMP, meaning)


def alpha(
    title: str,
    offset: int,
    length: int,
    meaning: str,
    values: Mapping[str, str] | None = None,
    *,
    default: str | None = None,
) -> Field:
    """Declare text, left-justified and padded right with blanks."""
    return Field(title, offset, length, Kind.ALPHA, meaning, values or {}, default=default)
