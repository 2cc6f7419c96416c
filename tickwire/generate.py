"""`tickwire generate`: a day of ITCH messages from a seed, as Nasdaq's daily files are framed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import track

from sim.venue.flow import generate
from sim.venue.model import MODELS, FlowModel
from tickwire.capture import InputError
from tickwire.config import read
from tickwire.outputs import check_output

_END_OF_SESSION = bytes(2)


def run(path: Path, symbols: Sequence[str], message_count: int, seed: int, model: str) -> None:
    """Write the file, and one line about it to stderr.

    ``message_count`` is that of the market hours; a few more begin and end the day. ``model`` is
    one of :data:`sim.venue.model.MODELS` or a TOML file. Raises :class:`InputError` when no market
    can be made of the arguments.
    """
    flow_model = _model(model)
    try:
        messages = generate(seed, symbols, message_count, model=flow_model)
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


def _model(name: str) -> FlowModel:
    if name in MODELS:
        return MODELS[name]
    path = Path(name)
    if not path.suffix and not path.exists():
        raise InputError(path, f"is no file and none of the models {', '.join(MODELS)}")
    return read(path, FlowModel)
