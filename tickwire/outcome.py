"""What came of a run: its figures as rows of name and value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from protocol import ouch50, registers
from protocol.registers import LatencyStage, Register
from sw.analytics import HALF_PRICE_SCALE, Result, SymbolResult, analyse
from sw.card import Card, read
from sw.engine import Engine, EngineConfig
from sw.errors import CardLostError
from sw.journal import read_journal
from tickwire.capture import InputError


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished run: its figures as rows of name and value, and what is to be plotted."""

    rows: list[tuple[str, str]]
    symbols: dict[str, SymbolResult]
    fault: InputError | CardLostError | None
    """Why the run ended early, if it did."""


def look_back(
    card: Card | None,
    engine: Engine,
    config: EngineConfig,
    journal_file: BinaryIO,
    fault: InputError | CardLostError | None,
) -> Outcome:
    """Work out what happened from the journal, and from the card's registers if there is a card."""
    journal_file.seek(0)
    result = analyse(read_journal(journal_file))
    symbols = {symbol.stock: result.symbol(index) for index, symbol in enumerate(config.symbols)}
    rows = _trading(engine, result, symbols)
    if card is not None:
        rows = [*_feed(card), *_recovery(engine), *rows]
        rows += _rings(card, engine, config) + _latencies(card)
    return Outcome(rows, symbols, fault)


def _feed(card: Card) -> list[tuple[str, str]]:
    return [
        ("messages", f"{read(card, registers.MESSAGES_RECEIVED):,}"),
        ("messages lost", f"{read(card, registers.MESSAGES_LOST):,}"),
        ("best bid and offer changes", f"{read(card, registers.BBO_CHANGES):,}"),
        ("of these conflated", f"{read(card, registers.BBO_CONFLATED):,}"),
        ("stale symbols", f"{read(card, registers.STALE_SYMBOLS):,}"),
    ]


def _recovery(engine: Engine) -> list[tuple[str, str]]:
    recovery = engine.recovery
    if recovery is None or not engine.feed.gap_count:
        return []
    return [
        ("books repaired", f"{recovery.repaired_count:,}"),
        ("re-requests", f"{recovery.rerequest_count:,}"),
    ]


def _trading(
    engine: Engine, result: Result, symbols: Mapping[str, SymbolResult]
) -> list[tuple[str, str]]:
    rows = [
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
    rows.append(("P&L, marked to mid", _usd(result.marked_2)))
    return rows


def _rings(card: Card, engine: Engine, config: EngineConfig) -> list[tuple[str, str]]:
    used = (
        ("market", read(card, registers.MARKET_HIGH_WATER), config.market_slots),
        ("execution", read(card, registers.EXECUTION_HIGH_WATER), config.execution_slots),
        ("command", engine.oms.command_high_water, config.command_slots),
    )
    return [
        (f"{name} ring, most slots used", f"{most:,} of {slots:,}") for name, most, slots in used
    ]


_PUBLISHED = {
    LatencyStage.BOOK: "tick_to_event",
    LatencyStage.TRADE: "tick_to_trade",
    LatencyStage.WIRE: "wire_to_wire",
}
"""The field's names of stages; others have that of the part of the card."""


def _latencies(card: Card) -> list[tuple[str, str]]:
    """Return what the card measured of itself, least, mean and most; nothing if it does not."""
    rows = []

    def register(which: Register, index: int) -> int:
        return read(card, which, index)

    for stage in LatencyStage:
        if count := register(registers.LATENCY_COUNT, stage):
            least = register(registers.LATENCY_MIN_NS, stage)
            most = register(registers.LATENCY_MAX_NS, stage)
            mean = register(registers.LATENCY_SUM_NS, stage) // count
            name = _PUBLISHED.get(stage, stage.name.lower())
            rows.append((f"latency {name}, {count:,} times", f"{least:,} / {mean:,} / {most:,} ns"))
    return rows


def _usd(amount_2: int) -> str:
    """Return an amount of 0.5e-4 USD in dollars and cents, rounded half away from zero."""
    cents = (abs(amount_2) * 100 + HALF_PRICE_SCALE // 2) // HALF_PRICE_SCALE
    sign = "-" if amount_2 < 0 and cents else ""
    return f"{sign}{cents // 100:,}.{cents % 100:02d} USD"
