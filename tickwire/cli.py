"""The commands. Each does its work in a module of its own name."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from sw.errors import CardError, CardLostError
from tickwire import book as book_command
from tickwire import decode as decode_command
from tickwire import generate as generate_command
from tickwire import journal as journal_command
from tickwire import peek as peek_command
from tickwire import run as run_command
from tickwire import serve as serve_command
from tickwire import venue as venue_command
from tickwire.capture import InputError
from tickwire.cards import CardKind
from tickwire.live import Attachment

app = typer.Typer(
    help="FPGA-offload co-design for high-frequency trading.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

card_app = typer.Typer(help="Cards in processes of their own.", no_args_is_help=True)
app.add_typer(card_app, name="card")


@app.callback()
def main() -> None:
    """Keep each command under its name, even while there is one."""


@app.command()
def decode(
    file: Annotated[Path, typer.Argument(help=".itch50 (or .gz), pcap or pcapng.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a message.")] = False,
) -> None:
    """Print every message of a file, one a line.

    Exit code 2 and one line on stderr tell where a file stops making sense.
    """
    with exit_codes():
        decode_command.run(file, as_json)


@app.command()
def book(
    file: Annotated[Path, typer.Argument(help=".itch50 (or .gz), pcap or pcapng.")],
    csv: Annotated[Path, typer.Option(help="Where to write the rows.")],
    by: Annotated[book_command.By, typer.Option(help="Who keeps the book.")] = (
        book_command.By.GOLDEN
    ),
    symbol: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be repeated.")
    ] = None,
) -> None:
    """Write a row after each message that changes a best bid or offer.

    Exit code 2 and one line on stderr tell where a file stops making sense.
    """
    with exit_codes():
        book_command.run(file, csv, by, frozenset(symbol or ()))


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="TOML file; docs/demo.toml shows every table.")],
    card: Annotated[CardKind, typer.Option(help="Which card to run on.")] = CardKind.FUNCTIONAL,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 1,
    report: Annotated[Path | None, typer.Option(help="HTML report to write.")] = None,
    journal: Annotated[Path | None, typer.Option(help="Journal of ring records to write.")] = None,
    capture: Annotated[
        Path | None, typer.Option(help="pcapng file of all traffic on the card's wire to write.")
    ] = None,
    attach: Annotated[
        str | None, typer.Option(help="Trade on the card served under this name instead.")
    ] = None,
    wait: Annotated[float, typer.Option(help="Seconds to wait for that card.", min=0)] = 0,
    seconds: Annotated[
        float | None, typer.Option(help="End after so long, with --attach.", min=0)
    ] = None,
    silence: Annotated[
        float, typer.Option(help="Milliseconds without a heartbeat after which that card is lost.")
    ] = 100,
    spin: Annotated[
        bool, typer.Option("--spin", help="Never offer the processor to others, with --attach.")
    ] = False,
) -> None:
    """Trade a day of market data on a simulated card, and say what happened.

    Exit code 2 and one line on stderr tell what is wrong with configuration, data or card, exit
    code 3 that the card was lost.
    """
    with exit_codes():
        attachment = None if attach is None else Attachment(attach, wait, seconds, silence, spin)
        run_command.run(config, seed, report, journal, capture, card, attachment)


@card_app.command("serve")
def serve_card(
    name: Annotated[str, typer.Argument(help="For `tickwire run --attach`.")],
    file: Annotated[Path, typer.Argument(help="What its wire plays: .itch50, pcap or pcapng.")],
    card: Annotated[CardKind, typer.Option(help="Which card.")] = CardKind.FUNCTIONAL,
    symbols: Annotated[int, typer.Option(help="Symbol slots.")] = 64,
    memory: Annotated[int, typer.Option(help="Host memory for rings, KiB.", min=4)] = 4096,
    speed: Annotated[float, typer.Option(help="Times as fast as the day was.")] = 1,
    pause_max: Annotated[
        float, typer.Option(help="Longest pause on the wire, seconds; longer ones are cut.", min=0)
    ] = 1,
    once: Annotated[bool, typer.Option("--once", help="End when a host is gone.")] = False,
) -> None:
    """Serve a card from this process, until it is interrupted.

    Exit code 2 and one line on stderr tell what is wrong with the file or the name.
    """
    with exit_codes():
        serve_command.run(name, file, card, symbols, memory << 10, speed, pause_max, once)


@app.command()
def compare(
    config: Annotated[Path, typer.Argument(help="TOML file, as for run.")],
    seed: Annotated[int, typer.Option(help="First seed of everything random.", min=0)] = 1,
    seeds: Annotated[int, typer.Option(help="How many seeds to play.", min=1)] = 1,
    waves: Annotated[
        Path | None, typer.Option(help="VCD file for the cycles around a difference.")
    ] = None,
) -> None:
    """Trade a day on the card's RTL and on the functional card in step, and compare every record.

    Exit code 1 and the first record that differs when the host was told something else; 2 and one
    line on stderr when configuration or data are bad.
    """
    # Loading Amaranth takes a second, and nothing else needs it.
    from tickwire import compare as compare_command

    with exit_codes():
        if not compare_command.run(config, seed, seeds, waves):
            raise typer.Exit(1)


@app.command()
def peek(
    signal: Annotated[
        list[str],
        typer.Argument(help="Path of a signal in the card, as feed.messages; * and ? match."),
    ],
    file: Annotated[
        Path | None, typer.Option(help="What to play before: .itch50, pcap or pcapng.")
    ] = None,
    messages: Annotated[int, typer.Option(help="Of these so many at least.", min=0)] = 1_000,
    symbols: Annotated[int, typer.Option(help="Symbol slots.", min=2)] = 4,
    orders: Annotated[int, typer.Option(help="Orders in the book.", min=16)] = 1024,
) -> None:
    """Print signals of the card's RTL by name, after it has taken part of a day.

    Exit code 2 and one line on stderr tell what is wrong with the file, or that no signal matches.
    """
    with exit_codes():
        peek_command.run(signal, file, messages, symbols, orders)


@app.command()
def generate(
    file: Annotated[Path, typer.Argument(help="ITCH file to write.")],
    symbol: Annotated[list[str], typer.Option(help="May be repeated; the first is the busiest.")],
    messages: Annotated[int, typer.Option(help="Messages in market hours.", min=0)] = 60_000,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 1,
    model: Annotated[
        str, typer.Option(help="Name of a flow model, or a TOML file; docs/flow.md has both.")
    ] = "hawkes",
) -> None:
    """Write a day of legal, realistic ITCH messages, the same for the same seed and model.

    Exit code 2 and one line on stderr tell what is wrong with the model.
    """
    with exit_codes():
        generate_command.run(file, symbol, messages, seed, model)


@app.command()
def venue(
    config: Annotated[Path, typer.Argument(help="TOML file; docs/venues.toml shows every table.")],
    capture: Annotated[
        Path | None, typer.Option(help="pcapng file of all traffic to write.")
    ] = None,
) -> None:
    """Open simulated venues on sockets until SIGINT or SIGTERM, which end their sessions.

    Exit code 2 and one line on stderr tell what is wrong with configuration or a journal.
    """
    with exit_codes():
        venue_command.run(config, capture)


@app.command()
def journal(
    file: Annotated[Path, typer.Argument(help="Journal that `tickwire run` wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a record.")] = False,
) -> None:
    """Print every ring record of a run, in and out, in the order the host saw them."""
    with exit_codes():
        journal_command.run(file, as_json)


@app.command()
def hls(
    kernel: Annotated[str, typer.Argument(help="MODULE:KERNEL, a function under @kernel.")],
    clock_mhz: Annotated[float, typer.Option(help="Clock it must reach.")] = 156.25,
    latency_max: Annotated[int | None, typer.Option(help="Most cycles it may take.")] = None,
    place: Annotated[bool, typer.Option("--place", help="Place and route it, alone.")] = False,
    verilog: Annotated[Path | None, typer.Option(help="Verilog file to write.")] = None,
    prove: Annotated[
        bool, typer.Option("--prove", help="Prove that the pipeline is the kernel.")
    ] = False,
) -> None:
    """Make a pipeline of a kernel and print its schedule.

    Exit code 2 and one line on stderr tell what is wrong with the kernel, or that it is not proven.
    """
    with exit_codes():
        try:
            from tickwire import hls as hls_command
        except ImportError as error:
            raise InputError("tickwire hls", f"needs tickwire[hw]: {error}") from None
        hls_command.run(kernel, clock_mhz, latency_max, place, verilog, prove)


@contextmanager
def exit_codes() -> Iterator[None]:
    """Turn what a command may meet into an exit code and at most one line on stderr.

    2: bad input. 3: the card was lost. 1: the output cannot be written. 130: interrupted. 0: the
    reader has seen enough.
    """
    try:
        yield
    except CardLostError as error:
        print(error, file=sys.stderr)
        raise typer.Exit(3) from None
    except (InputError, CardError) as error:
        print(error, file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        _discard_output()
        raise typer.Exit(0) from None
    except OSError as error:
        _discard_output()
        where = f" {error.filename}" if error.filename else ""
        print(f"cannot write{where}: {error.strerror or error}", file=sys.stderr)
        raise typer.Exit(1) from None


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that it does not fail again at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
