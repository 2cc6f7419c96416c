"""`tickwire run`, the main job: a day of data, a simulated card, the host engine, a report."""

from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from sim.venue.capture import Capture
from sw.card import HostMemory
from sw.engine import EngineConfig
from sw.journal import Journal
from tickwire.capture import InputError
from tickwire.cards import MAKE_CARD, CardKind
from tickwire.config import RunConfig, load
from tickwire.day import Day, open_day
from tickwire.live import Attachment, trade
from tickwire.outcome import Outcome, look_back
from tickwire.outputs import check_output
from tickwire.simulation import Simulation, engine_config


def run(
    config_path: Path,
    seed: int,
    report_path: Path | None,
    journal_path: Path | None,
    capture_path: Path | None = None,
    card: CardKind = CardKind.FUNCTIONAL,
    attachment: Attachment | None = None,
) -> None:
    """Run, print the closing table, and write report and journal where they are asked for.

    With an attachment the card is one that another process serves, and its wire is that process's:
    of the configured file only the symbols' names are read, and that only if none are given.

    Raises
    ------
    InputError
        If the configuration or the data is bad. Data is played as far as it is good, and the
        report and journal of that part are kept.
    CardError
        If there is no such card, or it is lost. What came before that is kept too.
    """
    config = load(config_path)
    data_path = config_path.parent / config.feed.file
    for path in (report_path, journal_path, capture_path):
        if path is not None:
            check_output(path, (config_path, data_path))
    if attachment is not None:
        if capture_path is not None:
            raise InputError(capture_path, "the wire of an attached card is another process's")
        name = f"card {attachment.name}"
        stocks = config.feed.symbols or tuple(open_day(data_path).locates)
        # The card learns locates from the feed, whichever day that is of.
        host_config = _fitting(config, config_path, dict.fromkeys(stocks, 0))
        with _journal_file(journal_path) as file:
            outcome = trade(host_config, attachment, file)
    else:
        name, day = data_path.name, open_day(data_path)
        with _journal_file(journal_path) as file:
            outcome = simulate(config, config_path, day, seed, file, card, capture_path)
    _print_table(name, outcome.rows)
    if report_path is not None:
        # Plotting takes a second to load, and nothing else needs it.
        from tickwire.report import write_report

        write_report(report_path, f"tickwire run on {name}", outcome.rows, outcome.symbols)
    if outcome.fault is not None:
        raise outcome.fault


def _journal_file(path: Path | None) -> BinaryIO:
    return cast(BinaryIO, TemporaryFile()) if path is None else path.open("w+b")


def _fitting(config: RunConfig, config_path: Path, locates: dict[str, int]) -> EngineConfig:
    try:
        return engine_config(config, locates)
    except ValueError as error:
        raise InputError(config_path, str(error)) from None


def simulate(
    config: RunConfig,
    config_path: Path,
    day: Day,
    seed: int,
    journal_file: BinaryIO,
    card: CardKind = CardKind.FUNCTIONAL,
    capture_path: Path | None = None,
) -> Outcome:
    """Play a day and work out what happened from the journal.

    Raises :class:`InputError` when the configuration does not fit the day.
    """
    host_config = _fitting(config, config_path, day.locates)
    journal = Journal(journal_file)
    fault: InputError | None = None
    with ExitStack() as stack:
        capture = None
        if capture_path is not None:
            capture = stack.enter_context(closing(Capture(capture_path)))
        memory = stack.enter_context(HostMemory(host_config.memory_size))
        make_card, locates = MAKE_CARD[card], day.locates
        simulation = stack.enter_context(
            closing(
                Simulation(config, host_config, memory, journal, locates, seed, make_card, capture)
            )
        )
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("playing messages", total=day.message_count)
            try:
                simulation.run(day.messages(), lambda count: progress.advance(task, count))
            except InputError as error:
                fault = error
                simulation.finish()
        return look_back(simulation.card, simulation.engine, host_config, journal_file, fault)


def _print_table(name: str, rows: list[tuple[str, str]]) -> None:
    title = Text(f"tickwire run on {name}")
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
