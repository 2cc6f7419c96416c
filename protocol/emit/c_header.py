"""From layouts to a C11 and C++11 header: packed structs, their offsets asserted by the compiler.

``python -m protocol.emit.c_header`` prints the header of the whole catalogue.

Integers of 1 byte, and little-endian ones of 2, 4 and 8, are members of their own type; all others
are arrays of bytes with a getter. Text is ``char``.
"""

import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum

from protocol.emit import CATALOGUE
from protocol.layout import TEXT, Field, Kind, Layout, snake
from protocol.orders import OrderEvent, OrderState
from protocol.reasons import DenyReason, DropReason, StaleReason
from protocol.registers import REGISTERS
from protocol.ring import RecordType

ENUMS: tuple[type[IntEnum], ...] = (
    RecordType,
    DropReason,
    StaleReason,
    DenyReason,
    OrderState,
    OrderEvent,
)

_TOP = """\
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "ring records are read in place: the machine must be little-endian"
#endif
"""


def header(
    layouts: Mapping[str, Layout] | Iterable[Layout],
    guard: str = "TICKWIRE_PROTOCOL_H",
    sections: Iterable[str] = (),
) -> str:
    """Return the text of a header.

    Parameters
    ----------
    layouts : mapping of str to Layout, or iterable of Layout
        Names as in ``protocol.emit.CATALOGUE``; without names each layout has its own.
    guard : str
        Macro that keeps the header from being read twice.
    sections : iterable of str
        Further text, for instance from :func:`enums` and :func:`registers`.

    Raises
    ------
    ValueError
        If two layouts have one name.
    """
    if not isinstance(layouts, Mapping):
        listed = tuple(layouts)
        layouts = {layout.name: layout for layout in listed}
        if len(layouts) != len(listed):
            raise ValueError("layouts must have names of their own, or be given by name")
    top = f"#ifndef {guard}\n#define {guard}\n\n{_TOP}"
    structs = [_layout(name, layout) for name, layout in layouts.items()]
    return "\n".join([top, *structs, *sections, f"#endif /* {guard} */\n"])


def enums(classes: Iterable[type[IntEnum]] = ENUMS) -> str:
    """Return C enums of Python ones."""
    blocks = []
    for each in classes:
        name = snake(each.__name__)
        lines = [f"    TICKWIRE_{name.upper()}_{item.name} = {item.value}," for item in each]
        blocks.append("\n".join([f"enum tickwire_{name} {{", *lines, "};\n"]))
    return "\n".join(blocks)


def registers() -> str:
    """Return the addresses of the register map; of an array also its count and its stride."""
    lines = []
    for item in REGISTERS:
        macro = f"TICKWIRE_REGISTER_{item.name.upper()}"
        lines.append(f"#define {macro} 0x{item.offset:x}u")
        if item.count > 1:
            lines.append(f"#define {macro}_COUNT {item.count}u")
            lines.append(f"#define {macro}_STRIDE {item.stride}u")
    return "\n".join(lines) + "\n"


def has_getter(layout: Layout, item: Field) -> bool:
    """Whether a field is read by a function and not as a member."""
    return item.is_integer and not _is_plain(layout, item) and item.length <= 8


def _is_plain(layout: Layout, item: Field) -> bool:
    if item.length == 1:
        return True
    return layout.byte_order == "little" and item.length in (2, 4, 8)


def _layout(name: str, layout: Layout) -> str:
    struct, macro = f"struct tickwire_{name}", f"TICKWIRE_{name.upper()}"
    lines = [f"/* {layout.title} [{layout.clause}] */", f"#define {macro}_SIZE {layout.size}"]
    if layout.code >= 0:
        lines.append(f"#define {macro}_CODE 0x{layout.code:02x}")
    lines.append(f"{struct} {{")
    lines += [f"    {_member(layout, item)};" for item in layout.fields]
    lines.append("} __attribute__((packed));")
    lines.append(f'static_assert(sizeof({struct}) == {macro}_SIZE, "{name}");')
    lines += [
        f'static_assert(offsetof({struct}, {item.name}) == {item.offset}, "{name}.{item.name}");'
        for item in layout.fields
    ]
    lines += [_getter(name, layout, item) for item in layout.fields if has_getter(layout, item)]
    return "\n".join(lines) + "\n"


def _member(layout: Layout, item: Field) -> str:
    if item.kind in TEXT or item.kind is Kind.DIGITS:
        base = "char"
    elif item.is_integer and _is_plain(layout, item):
        return f"{'' if item.kind is Kind.SINT else 'u'}int{8 * item.length}_t {item.name}"
    else:
        base = "uint8_t"
    array = f"[{item.length}]" if item.length > 1 or item.kind is Kind.BYTES else ""
    return f"{base} {item.name}{array}"


def _getter(name: str, layout: Layout, item: Field) -> str:
    big = layout.byte_order == "big"
    bits = next(size for size in (8, 16, 32, 64) if size >= 8 * item.length)
    terms = []
    for index in range(item.length):
        shift = 8 * (item.length - 1 - index if big else index)
        terms.append(f"(uint64_t)record->{item.name}[{index}] << {shift}")
    value = "\n        | ".join(terms)
    kind = f"uint{bits}_t"
    result = f"({kind})value"
    if item.kind is Kind.SINT:
        kind = f"int{bits}_t"
        sign = f"UINT64_C(1) << {8 * item.length - 1}"
        result = f"({kind})(int64_t)((value ^ ({sign})) - ({sign}))"
    return (
        f"static inline {kind} tickwire_{name}_get_{item.name}("
        f"const struct tickwire_{name} *record)\n{{\n"
        f"    const uint64_t value = {value};\n    return {result};\n}}"
    )


def main() -> int:
    """Print the header of everything that is declared."""
    sys.stdout.write(header(CATALOGUE, sections=(enums(), registers())))
    return 0


if __name__ == "__main__":
    sys.exit(main())
