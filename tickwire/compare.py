"""`tickwire compare`: one day on two cards in step, up to the first record that is not the same."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from protocol.ring import RECORD_SIZE, RECORDS, RecordType
from sim.card.verilated import VerilatedCard
from sim.card.waves import Waves
from sw.analytics import Result, analyse
from sw.card import HostMemory
from sw.engine import EngineConfig
from sw.journal import HEADER, Journal, read_journal
from tickwire.capture import InputError
from tickwire.cards import CardKind, MakeCard, make_functional, make_verilated
from tickwire.config import RunConfig, load
from tickwire.day import Day, open_day
from tickwire.decode import text_line
from tickwire.outputs import check_output
from tickwire.simulation import Simulation, engine_config

_BEFORE, _AFTER = 1_000, 200
"""Cycles that are drawn around a difference."""

_CARDS: dict[CardKind, MakeCard] = {
    CardKind.FUNCTIONAL: make_functional,
    # On both cards time stands while a packet is worked on, so that times are the same as well.
    CardKind.VERILATED: partial(make_verilated, time_stands=True),
}


@dataclass(frozen=True, slots=True)
class Difference:
    """The first record that is not the same on both cards.

    Attributes
    ----------
    number : int
        Place of the record among those of the run, from 1 on.
    now_ns : int
        Simulated time, ns since midnight.
    functional, verilated : dict or None
        The record on each card; None for one that has none.
    cycles : range
        Cycles of the verilated card in which it was told.
    """

    number: int
    now_ns: int
    functional: dict[str, Any] | None
    verilated: dict[str, Any] | None
    cycles: range

    @property
    def window(self) -> range:
        """Cycles worth a look."""
        return range(max(self.cycles.start - _BEFORE, 0), self.cycles.stop + _AFTER)

    def lines(self) -> Iterator[str]:
        """Yield what is to be printed."""
        seconds, ns = divmod(self.now_ns, 1_000_000_000)
        clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ns:09}"
        yield f"record {self.number:,} differs, at {clock}:"
        for card, fields in (("functional", self.functional), ("verilated", self.verilated)):
            yield f"  {card:10}  {'nothing' if fields is None else text_line(fields)}"
        cycles = self.cycles
        yield f"  the verilated card told it in its cycles {cycles.start:,} to {cycles.stop:,}"


def run(config_path: Path, seed: int, seeds: int, waves: Path | None) -> bool:
    """Play a day on both cards with each seed, and return whether they told the host the same.

    It ends at the first difference. Raises :class:`InputError` if the configuration or the data is
    bad.
    """
    config = load(config_path)
    data_path = config_path.parent / config.feed.file
    if waves is not None:
        check_output(waves, (config_path, data_path))
    day = open_day(data_path)
    try:
        host_config = engine_config(config, day.locates)
    except ValueError as error:
        raise InputError(config_path, str(error)) from None
    table = Table(title=f"tickwire compare on {data_path.name}", title_justify="left")
    for name in (
        *("seed", "records", "orders", "replaces", "cancels", "fills", "P&L, 0.5e-4 USD"),
        "repairs",
    ):
        table.add_column(name, justify="right")
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("playing messages", total=seeds * day.message_count)
        for each in range(seed, seed + seeds):
            pair = Pair(config, host_config, day, each)
            for count in pair.steps():
                progress.advance(task, count)
            if pair.difference is not None:
                break
            result = pair.result()
            table.add_row(
                *(str(each), f"{sum(result.records.values()):,}", f"{result.orders:,}"),
                *(f"{result.replaces:,}", f"{result.cancels:,}", f"{result.fill_count:,}"),
                *(f"{result.marked_2:,}", f"{result.records[RecordType.REPAIR]:,}"),
            )
    Console().print(table)
    if pair.difference is None:
        print("both cards told the host the same")
        return True
    print(f"seed {each}:", *pair.difference.lines(), sep="\n")
    if waves is not None:
        draw(config, host_config, day, each, Waves(waves, pair.difference.window))
        print(f"  waves: {waves}")
    return False


class Pair:
    """One run on both cards, packet by packet.

    Attributes
    ----------
    difference : Difference or None
        The first one so far.
    """

    def __init__(self, config: RunConfig, host_config: EngineConfig, day: Day, seed: int):
        self._arguments = config, host_config, day, seed
        self._journals = {kind: BytesIO() for kind in CardKind}
        self._compared = 0
        self.difference: Difference | None = None

    def steps(self) -> Iterator[int]:
        """Play packet by packet until the end or a difference; yield the messages of each."""
        config, host_config, day, seed = self._arguments
        with ExitStack() as stack:
            runs = {}
            for kind in CardKind:
                memory = stack.enter_context(HostMemory(host_config.memory_size))
                journal = Journal(self._journals[kind])
                simulation = Simulation(
                    config, host_config, memory, journal, day.locates, seed, _CARDS[kind]
                )
                runs[kind] = stack.enter_context(closing(simulation))
            verilated = runs[CardKind.VERILATED]
            begin = _cycle(verilated)
            for count, _ in zip(*(run.steps(day.messages()) for run in runs.values()), strict=True):
                end = _cycle(verilated)
                self._compare(verilated.now_ns, range(begin, end))
                if self.difference is not None:
                    return
                begin = end
                yield count

    def _compare(self, now_ns: int, cycles: range) -> None:
        """Compare what was told since the last time. At a packet's end both have told all."""
        at = HEADER.size + self._compared * RECORD_SIZE
        told = [_records(self._journals[kind], at) for kind in CardKind]
        for functional, verilated in zip_longest(*told):
            self._compared += 1
            if functional != verilated:
                self.difference = Difference(self._compared, now_ns, functional, verilated, cycles)
                return

    def result(self) -> Result:
        """Return what the records of the run say; both cards have the same."""
        journal = self._journals[CardKind.VERILATED]
        journal.seek(0)
        return analyse(read_journal(journal))


def draw(config: RunConfig, host_config: EngineConfig, day: Day, seed: int, waves: Waves) -> None:
    """Run once more on the verilated card, until the end of the cycles to be drawn."""
    card = partial(make_verilated, time_stands=True, waves=waves)
    with HostMemory(host_config.memory_size) as memory:
        journal = Journal(BytesIO())
        simulation = Simulation(config, host_config, memory, journal, day.locates, seed, card)
        with closing(simulation):
            for _ in simulation.steps(day.messages()):
                if _cycle(simulation) >= waves.cycles.stop:
                    return


def _cycle(simulation: Simulation) -> int:
    assert isinstance(simulation.card, VerilatedCard)
    return simulation.card.cycle


def _records(journal: BytesIO, at: int) -> list[dict[str, Any]]:
    """Return the records from a place on as fields."""
    view = journal.getbuffer()[at:]
    found = []
    for begin in range(0, len(view), RECORD_SIZE):
        layout = RECORDS.by_code[view[begin]]
        fields = layout.unpack(bytes(view[begin : begin + RECORD_SIZE]))
        shown = {name: value for name, value in fields.items() if not name.startswith("reserved")}
        found.append({"message": layout.name} | shown)
    view.release()
    return found
