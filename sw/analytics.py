"""What happened, worked out from ring records alone, in integers.

Money is in units of 0.5e-4 USD (``_2`` in a name: twice the amount in 1e-4 USD), so that a mid
between two prices is exact.
"""

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from protocol import ring
from protocol.orders import Side
from protocol.reasons import DenyReason
from protocol.ring import RecordType

HALF_PRICE_SCALE = 20_000
"""Units of 0.5e-4 USD in a dollar."""


class FillPoint(NamedTuple):
    """One execution of ours: venue time, side, price in 1e-4 USD, shares."""

    ts_ns: int
    side: Side
    price: int
    qty: int


def _times() -> "array[int]":
    return array("q")


@dataclass(slots=True)
class SymbolResult:
    """One symbol's course. The arrays have an entry for every change of a two-sided market.

    ``ts_ns`` is the venue's time, ``mid_2`` bid plus ask, ``position`` shares and ``pnl_2`` the
    profit with the position marked to mid, all as they were after the change.
    """

    ts_ns: "array[int]" = field(default_factory=_times)
    mid_2: "array[int]" = field(default_factory=_times)
    positions: "array[int]" = field(default_factory=_times)
    pnl_2: "array[int]" = field(default_factory=_times)
    fills: list[FillPoint] = field(default_factory=list)
    bbo_changes: int = 0
    cash: int = 0
    """Money received less money paid, 1e-4 USD."""
    position: int = 0
    last_mid_2: int = 0

    @property
    def marked_2(self) -> int:
        """Profit and loss with the position marked to the newest two-sided mid."""
        return 2 * self.cash + self.position * self.last_mid_2

    @property
    def traded_qty(self) -> int:
        return sum(fill.qty for fill in self.fills)


@dataclass(slots=True)
class Result:
    """The whole run. Denials on the card are told apart from denials on the host, by the oms."""

    symbols: dict[int, SymbolResult] = field(default_factory=dict)
    orders: int = 0
    replaces: int = 0
    cancels: int = 0
    accepted: int = 0
    fill_count: int = 0
    card_denials: Counter[DenyReason] = field(default_factory=Counter)
    rejects: Counter[int] = field(default_factory=Counter)
    records: Counter[RecordType] = field(default_factory=Counter)

    @property
    def marked_2(self) -> int:
        """Profit and loss of all symbols, see :attr:`SymbolResult.marked_2`."""
        return sum(symbol.marked_2 for symbol in self.symbols.values())

    def symbol(self, index: int) -> SymbolResult:
        """Return a symbol's result, begun at first use."""
        return self.symbols.setdefault(index, SymbolResult())


def analyse(records: Iterable[bytes]) -> Result:
    """Work out a run from its journal's records, in their order."""
    result = Result()
    orders: dict[int, tuple[int, Side]] = {}
    for record in records:
        record_type = RecordType(record[0])
        result.records[record_type] += 1
        values = ring.RECORDS.by_code[record_type].unpack(record)
        numbers = {name: value for name, value in values.items() if isinstance(value, int)}
        if record_type == RecordType.BBO:
            _bbo(result.symbol(numbers["symbol_index"]), numbers)
        elif record_type in (RecordType.NEW, RecordType.REPLACE):
            orders[numbers["cl_ord_id"]] = (numbers["symbol_index"], Side(numbers["side"]))
            result.orders += record_type == RecordType.NEW
            result.replaces += record_type == RecordType.REPLACE
        elif record_type == RecordType.CANCEL:
            result.cancels += 1
        elif record_type == RecordType.ACCEPTED:
            result.accepted += 1
        elif record_type == RecordType.EXECUTED:
            index, side = orders[numbers["cl_ord_id"]]
            result.fill_count += 1
            _fill(result.symbol(index), side, numbers)
        elif record_type == RecordType.DENIED:
            result.card_denials[DenyReason(numbers["reason"])] += 1
        elif record_type == RecordType.REJECTED:
            result.rejects[numbers["reason"]] += 1
    return result


def _bbo(symbol: SymbolResult, bbo: dict[str, int]) -> None:
    symbol.bbo_changes += 1
    if bbo["bid_price"] and bbo["ask_price"]:
        symbol.last_mid_2 = bbo["bid_price"] + bbo["ask_price"]
        _mark(symbol, bbo["ts_feed_ns"])


def _fill(symbol: SymbolResult, side: Side, executed: dict[str, int]) -> None:
    qty, price = executed["last_qty"], executed["last_price"]
    symbol.fills.append(FillPoint(executed["ts_venue_ns"], side, price, qty))
    symbol.position += side.sign * qty
    symbol.cash -= side.sign * qty * price
    if symbol.last_mid_2:
        _mark(symbol, executed["ts_venue_ns"])


def _mark(symbol: SymbolResult, ts_ns: int) -> None:
    symbol.ts_ns.append(ts_ns)
    symbol.mid_2.append(symbol.last_mid_2)
    symbol.positions.append(symbol.position)
    symbol.pnl_2.append(symbol.marked_2)
