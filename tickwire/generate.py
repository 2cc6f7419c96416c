"""`tickwire generate`: a day of ITCH messages from a seed, as Nasdaq's daily files are framed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from sim.venue.flow import generate
from tickwire.capture import InputError
from tickwire.outputs import check_output

_END_OF_SESSION = bytes(2)


def run(path: Path, symbols: Sequence[str], message_count: int, seed: int) -> None:
    """Write the file, and one line about it to stderr.

    ``message_count`` is that of the market hours; a few more begin and end the day. Raises
    :class:`InputError` when no market can be made of the arguments.
    """
    try:
        messages = generate(seed, symbols, message_count)
    except ValueError as error:
        raise InputError(path, str(error)) from None
    check_output(path, ())
    console = Console(stderr=True)
    count = 0
    with path.open("wb") as file:
        for message in track(
            messages,
            "making a market",
            total=message_count,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            file.write(len(message).to_bytes(2, "big") + message)
            count += 1
        file.write(_END_OF_SESSION)
    print(f"{count:,} messages of {len(symbols)} symbols in {path}", file=sys.stderr)
