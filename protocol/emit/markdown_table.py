"""From declarations to the tables of the documentation.

A document holds generated text between two marks::

    <!-- BEGIN GENERATED: registers -->
    <!-- END GENERATED -->

``python -m protocol.emit.markdown_table docs/*.md`` rewrites it; with ``--check`` nothing is
written, each stale file is named on a line and the exit status is 1.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import IntEnum, IntFlag
from pathlib import Path

from protocol import (
    aperture,
    ethernet,
    glimpse,
    ip,
    itch50,
    moldudp64,
    orders,
    ouch50,
    reasons,
    ring,
    soupbintcp,
)
from protocol import registers as register_map
from protocol.layout import Field, Layout

BLOCK = re.compile(
    r"(<!-- BEGIN GENERATED: (?P<what>[^>\n]+?) -->\n).*?(<!-- END GENERATED -->)", re.DOTALL
)


def table(layout: Layout) -> str:
    """Return the table of a layout's fields: field, offset, length, kind and meaning."""
    return _table(
        ("field", "offset", "length", "kind", "meaning"),
        (
            (item.title, item.offset, item.length, item.kind.value, _meaning(item))
            for item in layout.fields
        ),
    )


def layouts(found: Iterable[Layout]) -> str:
    """Return the tables of several layouts, each under a heading of its own."""
    return "\n".join(f"### {_heading(layout)}\n\n{table(layout)}" for layout in found)


def options() -> str:
    """Return the table of OUCH 5.0 option tags."""
    return _table(
        ("tag", "option", "length", "kind", "meaning"),
        (
            (tag, item.title, item.length, item.kind.value, _meaning(item))
            for tag, item in ouch50.OPTIONS.items()
        ),
    )


def reject_reasons() -> str:
    """Return the table of OUCH 5.0 reject reasons."""
    return _table(
        ("code", "reason"),
        ((f"`0x{code:02x}`", reason) for code, reason in ouch50.REJECT_REASON.items()),
    )


def registers() -> str:
    """Return the table of the register map."""
    return _table(
        ("address", "register", "access", "after reset", "meaning"),
        (
            (_address(item), item.title, item.access.value, _init(item.init), item.meaning)
            for item in register_map.REGISTERS
        ),
    )


def transitions() -> str:
    """Return the table of the legal transitions of an order."""
    return _table(
        ("state", "event", "next state"),
        (
            (f"`{state.name}`", f"`{event.name}`", f"`{after.name}`")
            for (state, event), after in sorted(orders.TRANSITIONS.items())
        ),
    )


def codes(enum: type[IntEnum]) -> str:
    """Return the table of an enum: code, name and the docstring of each member."""
    meanings = member_docs(enum)
    return _table(
        ("code", "name", "meaning"),
        ((item.value, f"`{item.name}`", meanings[item.name]) for item in enum),
    )


def record_types() -> str:
    """Return the table of ring records by their type."""
    families = (ring.MARKET, ring.EXECUTION, ring.COMMAND)
    return _table(
        ("code", "name", "record", "ring"),
        (
            (f"`{code:#04x}`", f"`{ring.RecordType(code).name}`", layout.title, family.title)
            for family in families
            for code, layout in sorted(family.by_code.items())
        ),
    )


def record_flags() -> str:
    """Return the table of the flags of ring records."""
    found = (
        (ring.BBO, ring.BboFlag),
        (ring.LIMITS, ring.LimitsFlag),
        (ring.LEVEL_LIMITS, ring.LevelLimitsFlag),
    )
    return _table(
        ("record", "bit", "flag", "meaning"),
        (
            (layout.title, flag.value.bit_length() - 1, f"`{flag.name}`", meaning)
            for layout, flags in (*found, (ring.MASS_CANCEL, ring.MassCancelFlag))
            for flag, meaning in zip(flags, member_docs(flags).values(), strict=True)
        ),
    )


def member_docs(enum: type[IntEnum] | type[IntFlag]) -> dict[str, str]:
    """Return the string that follows each member in the source, empty where there is none."""
    (tree,) = ast.parse(inspect.getsource(enum)).body
    if not isinstance(tree, ast.ClassDef):
        raise TypeError(f"enum must be a class, not {enum!r}")
    found = {str(item.name): "" for item in enum}
    for before, after in zip(tree.body, tree.body[1:], strict=False):
        if not isinstance(before, ast.Assign) or not isinstance(before.targets[0], ast.Name):
            continue
        if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            found[before.targets[0].id] = " ".join(str(after.value.value).split()).replace(
                "``", "`"
            )
    return found


SECTIONS: Mapping[str, Callable[[], str]] = {
    "headers": lambda: layouts((ethernet.ETHERNET, ethernet.VLAN_TAG, ip.IPV4, ip.UDP, ip.TCP)),
    "moldudp64": lambda: layouts((moldudp64.HEADER, moldudp64.BLOCK, moldudp64.REQUEST)),
    "itch50": lambda: layouts(itch50.MESSAGES.layouts),
    "glimpse": lambda: layouts((glimpse.END_OF_SNAPSHOT,)),
    "soupbintcp": lambda: layouts((*soupbintcp.PACKETS.layouts, soupbintcp.HEARTBEAT_TIMEOUT)),
    "ouch50 inbound": lambda: layouts(ouch50.INBOUND.layouts),
    "ouch50 outbound": lambda: layouts(ouch50.OUTBOUND.layouts),
    "ouch50 appendage": lambda: layouts((ouch50.APPENDAGE_LENGTH, ouch50.TAG_VALUE)),
    "ouch50 options": options,
    "ouch50 reject reasons": reject_reasons,
    "record types": record_types,
    "record flags": record_flags,
    "market records": lambda: layouts(ring.MARKET.layouts),
    "execution records": lambda: layouts(ring.EXECUTION.layouts),
    "command records": lambda: layouts(ring.COMMAND.layouts),
    "ring control": lambda: layouts((ring.CONTROL,)),
    "registers": registers,
    "order states": lambda: codes(orders.OrderState),
    "order events": lambda: codes(orders.OrderEvent),
    "order transitions": transitions,
    "drop reasons": lambda: codes(reasons.DropReason),
    "stale reasons": lambda: codes(reasons.StaleReason),
    "deny reasons": lambda: codes(reasons.DenyReason),
    "capabilities": lambda: codes(register_map.Capability),
    "ring names": lambda: codes(register_map.RingName),
    "latency stages": lambda: codes(register_map.LatencyStage),
    "queue names": lambda: codes(register_map.QueueName),
    "aperture lines": lambda: layouts(aperture.LINES),
    "aperture operations": lambda: codes(aperture.Operation),
    "aperture statuses": lambda: codes(aperture.Status),
}
"""What a document may ask for."""


def refresh(text: str) -> str:
    """Return a document with its generated parts made anew.

    Raises ``ValueError`` for a part that is not in :data:`SECTIONS` or marks that do not pair.
    """
    if len(BLOCK.findall(text)) != text.count("<!-- BEGIN GENERATED"):
        raise ValueError("BEGIN GENERATED without END GENERATED")

    def made(match: re.Match[str]) -> str:
        what = match["what"]
        if what not in SECTIONS:
            raise ValueError(f"generated part must be one of {', '.join(SECTIONS)}, not {what}")
        return f"{match[1]}\n{SECTIONS[what]()}\n{match[3]}"

    return BLOCK.sub(made, text)


def main(arguments: Sequence[str]) -> int:
    """Rewrite or check documents; see the module's docstring."""
    check = "--check" in arguments
    paths = [Path(item) for item in arguments if item != "--check"]
    if not paths:
        print("usage: python -m protocol.emit.markdown_table [--check] FILE...", file=sys.stderr)
        return 2
    failed = False
    for path in paths:
        text = path.read_text(encoding="utf-8")
        try:
            fresh = refresh(text)
        except ValueError as error:
            print(f"{path}: {error}")
            failed = True
            continue
        if fresh != text and check:
            print(f"{path}: stale, run python -m protocol.emit.markdown_table {path}")
            failed = True
        elif fresh != text:
            path.write_text(fresh, encoding="utf-8")
    return int(failed)


def _table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(_cell(cell) for cell in row) + " |\n" for row in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def _heading(layout: Layout) -> str:
    details = [f"{layout.size} bytes"]
    if isinstance(layout, ouch50.Message):
        details.append(f"appendage: {layout.appendage.value}")
    return f"{layout.title} ({', '.join(details)})"


def _meaning(item: Field) -> str:
    sentences = [item.meaning]
    if item.values:
        shown = (f"`{code}` {meaning}" for code, meaning in item.values.items())
        sentences.append(f"{'; '.join(shown)}.")
    for bits in item.parts:
        last = bits.lsb + bits.width - 1
        place = f"Bits {last}:{bits.lsb}" if bits.width > 1 else f"Bit {last}"
        sentences.append(f"{place} {bits.title}: {bits.meaning}")
    return " ".join(sentences)


def _address(item: register_map.Register) -> str:
    if item.count == 1:
        return f"`0x{item.offset:05x}`"
    return f"`0x{item.offset:05x}` + {item.stride} i, i < {item.count}"


def _init(init: int | None) -> str:
    if init is None:
        return "of the card"
    return str(init) if init < 0x10000 else f"`0x{init:x}`"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
