"""The signals of a design at one time, out of a VCD that holds nothing but that time."""

from collections.abc import Iterable
from typing import NamedTuple


class Signal(NamedTuple):
    """A signal's value. ``width`` is in bits."""

    width: int
    value: int


def read_snapshot(lines: Iterable[str]) -> dict[str, Signal]:
    """Return signals by their path: the names of modules and of the signal, with dots between.

    Of several signals that the simulator knows to be one, each has its name. [IEEE 1364: 18.2]
    """
    path: list[str] = []
    named: list[tuple[str, int, str]] = []
    values: dict[str, int] = {}
    for line in lines:
        words = line.split()
        match words[:1]:
            case ["$scope"]:
                path.append(words[2])
            case ["$upscope"]:
                path.pop()
            case ["$var"]:
                named.append((".".join((*path, words[4])), int(words[2]), words[3]))
            case [word] if word[0] in "bB":
                values[words[1]] = int(word[1:], 2)
            case [word] if word[0] in "01":
                values[word[1:]] = int(word[0])
            case _:
                pass  # Dates, comments and the time.
    return {name: Signal(width, values[code]) for name, width, code in named if code in values}
