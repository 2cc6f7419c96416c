"""The aperture: how a host reaches a card that runs in another process of the same machine.

It is one file of shared memory: a control page, and behind it the host memory in which the rings
lie. The page is made of lines of 64 bytes with one writer each, so that no two processes write into
one line of a cache. Everything in it is a little-endian word of 64 bits unless it is text.

Registers have side effects, so they are not words of the page: the host asks for each access and
the card answers it. A question is its fields and then, written last, its sequence number; the
answer is its fields and then, written last, the number of the question. The host asks again only
after the answer, so there is never more than one question. As for the rings, a number may be seen
only after everything that was written before it: x86-64 keeps stores in program order, and other
machines are refused.

The card counts its heartbeats in a line of its own. It ends by saying so; a card that is killed
stops counting, and leaves the file behind.
"""

from enum import IntEnum, unique

from protocol.layout import Field, Kind, Layout, uint

CLAUSE = "tickwire aperture"
LINE_SIZE = 64
PAGE_SIZE = 4096
"""Bytes of the control page; host memory begins behind it."""

IDENTITY = int.from_bytes(b"TWAPERTR", "little")
"""First word of every aperture, written when all of it is in place."""

VERSION = 1
"""A host refuses an aperture with another one."""


@unique
class Operation(IntEnum):
    """What a host may ask for."""

    ATTACH = 1
    """The card returns to its state after power-up, with empty memory, and is this host's."""
    DETACH = 2
    """The card stops, killed, and is free for another host."""
    READ = 3
    """A register's value."""
    WRITE = 4
    """Answered when what the write causes has been done."""


@unique
class Status(IntEnum):
    """What became of a question."""

    DONE = 0
    """The value is the answer."""
    NOT_ATTACHED = 1
    """The host has not attached, or is not attached any more."""
    UNKNOWN_OPERATION = 2
    """The card knows no such operation."""
    FAILED = 3
    """The card cannot do what was asked, such as to run with rings that cannot be."""


@unique
class Holder(IntEnum):
    """Byte of the file that is locked by whoever is this: the system frees it when it dies."""

    CARD = 0
    """Serves the aperture."""
    HOST = 1
    """Is attached to it."""


def _line(title: str, *fields: Field) -> Layout:
    at, parts = 0, []
    for item in fields:
        if item.offset > at:
            parts.append(_reserved(at, item.offset))
        parts.append(item)
        at = item.end
    if at < LINE_SIZE:
        parts.append(_reserved(at, LINE_SIZE))
    return Layout(title, CLAUSE, LINE_SIZE, tuple(parts), "little")


def _reserved(start: int, end: int) -> Field:
    size = end - start
    return Field(f"Reserved {start}", start, size, Kind.BYTES, "Zero.", default=bytes(size))


HEAD = _line(
    "Aperture Head",
    uint("Identity", 0, 8, "`TWAPERTR`."),
    uint("Version", 8, 8, "Version of the aperture."),
    uint("Memory Size", 16, 8, "Bytes of host memory behind the page."),
    uint("Card Pid", 24, 8, "Process that serves the card."),
    Field("Kind", 32, 16, Kind.ALPHA, "What the card is."),
)
HEARTBEAT = _line(
    "Aperture Heartbeat",
    uint("Heartbeat Count", 0, 8, "Times that the card has gone round its loop."),
    uint("Heartbeat Time Ns", 8, 8, "Monotonic time of the newest heartbeat."),
    uint("Ended", 16, 8, "1: the card has ended, and will not come back."),
)
HOST = _line("Aperture Host", uint("Host Pid", 0, 8, "Process that is or was attached."))
REQUEST = _line(
    "Aperture Request",
    uint("Operation", 0, 8, "Operation."),
    uint("Address", 8, 8, "Byte address of the register."),
    uint("Value", 16, 8, "Value to write."),
    uint("Sequence", 56, 8, "Number of the question, written last."),
)
RESPONSE = _line(
    "Aperture Response",
    uint("Status", 0, 8, "Status."),
    uint("Value", 8, 8, "Value that was read."),
    uint("Sequence", 56, 8, "Number of the question that this answers, written last."),
)

LINES = (HEAD, HEARTBEAT, HOST, REQUEST, RESPONSE)
"""The page, from its beginning."""


def word(line: Layout, name: str) -> int:
    """Return which word of the page a field is."""
    return (LINES.index(line) * LINE_SIZE + line.by_name[name].offset) // 8
