"""A day of market data to play, out of an ITCH file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from protocol import itch50
from tickwire.capture import InputError, read_itch

_STOCKS = {
    layout.code: slice(field.offset, field.end)
    for layout in itch50.MESSAGES.layouts
    if (field := layout.by_name.get("stock")) is not None
}
_LOCATE = slice(1, 3)


def stock_of(message: bytes) -> tuple[str, int] | None:
    """Return the symbol that an ITCH message names with its stock locate, or None."""
    at = _STOCKS.get(message[0])
    if at is None:
        return None
    return message[at].decode("latin-1").rstrip(), int.from_bytes(message[_LOCATE], "big")


@dataclass(frozen=True, slots=True)
class Day:
    """What is in a day, and how to play it.

    ``locates`` has the stock locate of every symbol that a message names. ``messages`` begins anew
    at every call; where a file stops making sense it raises :class:`InputError`, after everything
    before.
    """

    locates: dict[str, int]
    message_count: int
    messages: Callable[[], Iterator[bytes]]


def open_day(path: Path) -> Day:
    """Look through an ITCH file. A fault in it ends the count, and is raised when it is played.

    Raises :class:`InputError` when not even the first message can be read.
    """
    locates: dict[str, int] = {}
    count = 0
    try:
        for item in read_itch(path):
            count = item.number
            named = stock_of(item.data)
            if named is not None:
                locates.setdefault(*named)
    except InputError:
        if count == 0:
            raise
    return Day(locates, count, lambda: (item.data for item in read_itch(path)))
