"""Ways to read bytes with a layout, one through each emitter: all must give the same values."""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from amaranth.hdl import Const

from protocol.emit import amaranth_layout, c_header, markdown_table, numpy_dtype, scapy_layer
from protocol.layout import DecodeError, Kind, Layout, Value


def read_with_struct(layout: Layout, raw: bytes) -> dict[str, Value]:
    return layout.unpack(raw)


def read_with_numpy(layout: Layout, raw: bytes) -> dict[str, Value]:
    records = np.frombuffer(raw, numpy_dtype.dtype(layout))
    assert records.shape == (1,)
    found: dict[str, Value] = {}
    for item in layout.fields:
        (value,) = numpy_dtype.values(records, layout, item.name)
        if item.is_integer:
            found[item.name] = int(value)
        else:
            # NumPy strips NULs behind text.
            text = bytes(value).ljust(item.length, b"\0")
            found[item.name] = item.decode(text, layout.byte_order)
    return found


def read_with_scapy(layout: Layout, raw: bytes) -> dict[str, Value]:
    packet = scapy_layer.layer(layout)(raw)
    assert not packet.payload
    return {item.name: getattr(packet, item.name) for item in layout.fields}


def read_with_amaranth(layout: Layout, raw: bytes) -> dict[str, Value]:
    bits = amaranth_layout.struct_layout(layout).from_bits(int.from_bytes(raw, "little"))
    found: dict[str, Value] = {}
    for item in layout.fields:
        value = Const.cast(amaranth_layout.host(layout, bits, item.name)).value
        text = value.to_bytes(item.length, "little")
        found[item.name] = value if item.is_integer else item.decode(text, layout.byte_order)
    return found


def read_with_markdown(layout: Layout, raw: bytes) -> dict[str, Value]:
    """Cut the bytes as a reader of the table would."""
    found: dict[str, Value] = {}
    rows = markdown_table.table(layout).splitlines()[2:]
    for row, item in zip(rows, layout.fields, strict=True):
        title, offset, length, kind, _ = (
            cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]
        )
        assert (title, kind) == (item.title, item.kind.value)
        cut = raw[int(offset) : int(offset) + int(length)]
        found[item.name] = item.decode(cut, layout.byte_order)
    return found


READERS = {
    "struct": read_with_struct,
    "numpy": read_with_numpy,
    "scapy": read_with_scapy,
    "amaranth": read_with_amaranth,
    "markdown": read_with_markdown,
}
"""By the emitter's library. C is not here: it is compiled once for all, see :func:`read_with_c`."""


def read_with_c(
    inputs: Mapping[str, tuple[Layout, bytes]], folder: Path
) -> dict[str, dict[str, Value]]:
    """Read every input with one compiled C program. Returns the values by input and field."""
    layouts = {name: layout for name, (layout, _) in inputs.items()}
    (folder / "protocol.h").write_text(c_header.header(layouts), encoding="utf-8")
    (folder / "dump.c").write_text(_dump_source(layouts), encoding="utf-8")
    program = folder / "dump"
    flags = ["-std=c11", "-O0", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    subprocess.run(["cc", *flags, "-o", program, folder / "dump.c"], check=True, timeout=300)
    done = subprocess.run(
        [program],
        input=b"".join(raw for _, raw in inputs.values()),
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    found: dict[str, dict[str, Value]] = {name: {} for name in inputs}
    for line in done.stdout.decode().splitlines():
        name, field_name, text = line.split(" ")
        found[name][field_name] = _c_value(layouts[name], field_name, text)
    return found


def _c_value(layout: Layout, name: str, text: str) -> Value:
    """Return the value of what the program printed; raw bytes where they are no such value."""
    if not text.startswith("x"):
        return int(text)
    raw = bytes.fromhex(text[1:])
    try:
        return layout.by_name[name].decode(raw, layout.byte_order)
    except DecodeError:
        return raw


_DUMP_TOP = """\
#include <stdio.h>
#include <string.h>
#include "protocol.h"

static void hex(const char *label, const void *start, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)start;
    printf("%s x", label);
    for (size_t i = 0; i < size; ++i) printf("%02x", bytes[i]);
    printf("\\n");
}
"""


def _dump_source(layouts: Mapping[str, Layout]) -> str:
    """Return a C program that reads one record of each layout and prints all fields."""
    dumps = [_dump_function(name, layout) for name, layout in layouts.items()]
    calls = [f"    if (dump_{name}()) return 1;" for name in layouts]
    return "\n".join([_DUMP_TOP, *dumps, "int main(void)\n{", *calls, "    return 0;\n}\n"])


def _dump_function(name: str, layout: Layout) -> str:
    lines = [
        f"static int dump_{name}(void)\n{{",
        f"    struct tickwire_{name} record;",
        f"    if (fread(&record, TICKWIRE_{name.upper()}_SIZE, 1, stdin) != 1) return 1;",
    ]
    for item in layout.fields:
        label = f"{name} {item.name}"
        value = f"record.{item.name}"
        if c_header.has_getter(layout, item):
            value = f"tickwire_{name}_get_{item.name}(&record)"
        elif not item.is_integer or item.length not in (1, 2, 4, 8):
            lines.append(f'    hex("{label}", &record.{item.name}, sizeof record.{item.name});')
            continue
        sign, code = ("", "d") if item.kind is Kind.SINT else ("unsigned ", "u")
        lines.append(f'    printf("{label} %ll{code}\\n", ({sign}long long){value});')
    lines.append("    return 0;\n}")
    return "\n".join(lines)
