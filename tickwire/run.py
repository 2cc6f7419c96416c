"""`tickwire run`, the main job: a day of data, a simulated card, the host engine, a report."""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from protocol import ouch50, registers
from protocol.registers import LatencyStage, Register
from sw.analytics import HALF_PRICE_SCALE, Result, SymbolResult, analyse
from sw.card import HostMemory, read
from sw.engine import EngineConfig
from sw.journal import Journal, read_journal
from tickwire.capture import InputError
from tickwire.cards import MAKE_CARD, CardKind
from tickwire.config import RunConfig, load
from tickwire.day import Day, open_day
from tickwire.outputs import check_output
from tickwire.simulation import Simulation, engine_config


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run: its figures as rows of name and value, and what is to be plotted."""

    rows: list[tuple[str, str]]
    symbols: dict[str, SymbolResult]
    fault: InputError | None
    """Why the data ended early, if it did."""


def run(
    config_path: Path,
    seed: int,
    report_path: Path | None,
    journal_path: Path | None,
    card: CardKind = CardKind.FUNCTIONAL,
) -> None:
    """Run, print the closing table, and write report and journal where they are asked for.

    Raises
    ------
    InputError
        If the configuration or the data is bad. Data is played as far as it is good, and the
        report and journal of that part are kept.
    """
    config = load(config_path)
    data_path = config_path.parent / config.feed.file
    for path in (report_path, journal_path):
        if path is not None:
            check_output(path, (config_path, data_path))
    day = open_day(data_path)
    with _journal_file(journal_path) as file:
        outcome = simulate(config, config_path, day, seed, file, card)
    _print_table(data_path.name, outcome.rows)
    if report_path is not None:
        # Plotting takes a second to load, and nothing else needs it.
        from tickwire.report import write_report

        write_report(
            report_path, f"tickwire run on {data_path.name}", outcome.rows, outcome.symbols
        )
    if outcome.fault is not None:
        raise outcome.fault


def _journal_file(path: Path | None) -> BinaryIO:
    return cast(BinaryIO, TemporaryFile()) if path is None else path.open("w+b")


def simulate(
    config: RunConfig,
    config_path: Path,
    day: Day,
    seed: int,
    journal_file: BinaryIO,
    card: CardKind = CardKind.FUNCTIONAL,
) -> Outcome:
    """Play a day and work out what happened from the journal.

    Raises :class:`InputError` when the configuration does not fit the day.
    """
    try:
        host_config = engine_config(config, day.locates)
    except ValueError as error:
        raise InputError(config_path, str(error)) from None
    journal, fault = Journal(journal_file), None
    with (
        HostMemory(host_config.memory_size) as memory,
        closing(
            Simulation(config, host_config, memory, journal, day.locates, seed, MAKE_CARD[card])
        ) as simulation,
    ):
        console = Console(stderr=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task("playing messages", total=day.message_count)
            try:
                simulation.run(day.messages(), lambda count: progress.advance(task, count))
            except InputError as error:
                fault = error
                simulation.finish()
        journal_file.seek(0)
        result = analyse(read_journal(journal_file))
        symbols = {
            symbol.stock: result.symbol(index) for index, symbol in enumerate(host_config.symbols)
        }
        rows = _rows(simulation, result, symbols, host_config)
    return Outcome(rows, symbols, fault)


def _rows(
    simulation: Simulation,
    result: Result,
    symbols: Mapping[str, SymbolResult],
    config: EngineConfig,
) -> list[tuple[str, str]]:
    engine = simulation.engine

    def register(which: Register, index: int = 0) -> int:
        return read(simulation.card, which, index)

    rows = [
        ("messages", f"{register(registers.MESSAGES_RECEIVED):,}"),
        ("messages lost", f"{register(registers.MESSAGES_LOST):,}"),
        ("best bid and offer changes", f"{register(registers.BBO_CHANGES):,}"),
        ("of these conflated", f"{register(registers.BBO_CONFLATED):,}"),
        ("stale symbols", f"{register(registers.STALE_SYMBOLS):,}"),
        ("orders", f"{result.orders:,}"),
        ("replaces", f"{result.replaces:,}"),
        ("cancels", f"{result.cancels:,}"),
        ("fills", f"{result.fill_count:,}"),
        ("shares traded", f"{sum(s.traded_qty for s in symbols.values()):,}"),
        ("denials", f"{engine.oms.denials.total():,}"),
    ]
    rows += [(f"denied: {r.name}", f"{n:,}") for r, n in sorted(engine.oms.denials.items())]
    rows.append(("rejects", f"{engine.oms.rejects.total():,}"))
    rows += [
        (f"rejected: {ouch50.REJECT_REASON.get(r, hex(r))}", f"{n:,}")
        for r, n in sorted(engine.oms.rejects.items())
    ]
    for stock, symbol in symbols.items():
        if symbol.fills:
            rows.append((f"position {stock}", f"{symbol.position:,} shares"))
            rows.append((f"P&L {stock}, marked to mid", _usd(symbol.marked_2)))
    rows += [
        ("P&L, marked to mid", _usd(result.marked_2)),
        (
            "market ring, most slots used",
            f"{register(registers.MARKET_HIGH_WATER):,} of {config.market_slots:,}",
        ),
        (
            "execution ring, most slots used",
            f"{register(registers.EXECUTION_HIGH_WATER):,} of {config.execution_slots:,}",
        ),
        (
            "command ring, most slots used",
            f"{engine.oms.command_high_water:,} of {config.command_slots:,}",
        ),
    ]
    return rows + _latencies(register)


def _latencies(register: Callable[[Register, int], int]) -> list[tuple[str, str]]:
    """Return what the card measured of itself, least, mean and most; nothing if it does not."""
    rows = []
    for stage in LatencyStage:
        if count := register(registers.LATENCY_COUNT, stage):
            least = register(registers.LATENCY_MIN_NS, stage)
            most = register(registers.LATENCY_MAX_NS, stage)
            mean = register(registers.LATENCY_SUM_NS, stage) // count
            name = stage.name.lower()
            rows.append((f"latency {name}, {count:,} times", f"{least:,} / {mean:,} / {most:,} ns"))
    return rows


def _usd(amount_2: int) -> str:
    """Return an amount of 0.5e-4 USD in dollars and cents, rounded half away from zero."""
    cents = (abs(amount_2) * 100 + HALF_PRICE_SCALE // 2) // HALF_PRICE_SCALE
    sign = "-" if amount_2 < 0 and cents else ""
    return f"{sign}{cents // 100:,}.{cents % 100:02d} USD"


def _print_table(name: str, rows: list[tuple[str, str]]) -> None:
    title = Text(f"tickwire run on {name}")
    table = Table(title=title, show_header=False, title_justify="left")
    table.add_column()
    table.add_column(justify="right")
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
