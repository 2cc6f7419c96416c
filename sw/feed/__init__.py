"""The market ring's consumer: a mirror of every symbol's best bid and offer."""

from collections.abc import Callable
from enum import IntEnum, unique
from typing import Any, NamedTuple

import numpy as np

from protocol import ring
from protocol.market import MarketPhase
from protocol.reasons import StaleReason
from sw.errors import RingError
from sw.feed.mirror import QUOTE, TYPES, Core, forget_changed, take
from sw.jit import entry
from sw.ring import RingReader

_MASK = (1 << 64) - 1


@unique
class TradingState(IntEnum):
    """ITCH 5.0 trading state. 0 stands for a symbol that no message has told of."""

    UNKNOWN = 0
    HALTED = ord("H")
    PAUSED = ord("P")
    QUOTATION_ONLY = ord("Q")
    TRADING = ord("T")


class _Word:
    """A number of a quote, in the memory that jitted functions write."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._place = (QUOTE.names or ()).index(name)

    def __get__(self, quote: "Quote", owner: type) -> int:
        return quote.words[self._place] & _MASK

    def __set__(self, quote: "Quote", value: int) -> None:
        quote.words[self._place] = value


class Quote:
    """A symbol's best bid and offer as the newest record gave it; prices in 1e-4 USD.

    Parameters
    ----------
    words : memoryview
        The row of :data:`~sw.feed.mirror.QUOTE` that it shows; without one it has its own.
    **values : int
        What to begin with; everything else is 0.

    Attributes
    ----------
    last_price : int
        Price of the newest trade; 0 before the first.
    skipped : int
        Changes that the card conflated away, in total.
    """

    __slots__ = ("words",)

    bid_price = _Word()
    bid_qty = _Word()
    bid_orders = _Word()
    ask_price = _Word()
    ask_qty = _Word()
    ask_orders = _Word()
    ts_feed_ns = _Word()
    feed_sequence = _Word()
    trading_state = _Word()
    last_price = _Word()
    skipped = _Word()

    def __init__(self, words: memoryview | None = None, **values: int):
        self.words = _rows(1)[0] if words is None else words
        for name, value in values.items():
            setattr(self, name, value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Quote):
            return NotImplemented
        return self._values() == other._values()

    __hash__ = None  # type: ignore[assignment]  # It changes.

    def __repr__(self) -> str:
        names = QUOTE.names or ()
        return (
            f"Quote({', '.join(f'{n}={v}' for n, v in zip(names, self.words, strict=True) if v)})"
        )

    def _values(self) -> list[int]:
        return self.words[:_NOTES].tolist()

    @property
    def stale_reason(self) -> StaleReason:
        """Why the book is no longer known to be exact."""
        return StaleReason(self.words[_STALE_REASON])

    @stale_reason.setter
    def stale_reason(self, reason: int) -> None:
        self.words[_STALE_REASON] = reason

    @property
    def phase(self) -> MarketPhase:
        """Phase of the market's day."""
        return MarketPhase(self.words[_PHASE])

    @phase.setter
    def phase(self, phase: int) -> None:
        self.words[_PHASE] = phase

    @property
    def halted(self) -> bool:
        """Whether the symbol's trading state forbids orders.

        A state that no message has told of counts as trading: a feed joined in the middle of a day
        has no message of it.
        """
        return self.trading_state not in (TradingState.TRADING, TradingState.UNKNOWN)

    @property
    def stale(self) -> bool:
        """Whether the book is no longer known to be exact."""
        return self.words[_STALE_REASON] != StaleReason.NONE

    @property
    def tradable(self) -> bool:
        """Whether the book is exact, two-sided and not crossed, and the symbol is not halted."""
        return not self.stale and not self.halted and 0 < self.bid_price < self.ask_price


_STALE_REASON, _PHASE, _NOTES = map(
    (QUOTE.names or ()).index, ("stale_reason", "phase", "is_changed")
)


def _rows(count: int) -> list[memoryview]:
    """Return the words of so many quotes, side by side in memory."""
    words = memoryview(bytearray(count * QUOTE.itemsize)).cast("q")
    size = len(QUOTE.names or ())
    return [words[at : at + size] for at in range(0, len(words), size)]


class RepairAnswer(NamedTuple):
    """What the card last said of a book's repair, see the REPAIR record in docs/records.md."""

    symbol_index: int
    is_live: bool
    from_sequence: int
    next_sequence: int
    stale_reason: StaleReason


class Feed:
    """Applies market records to the mirror.

    Parameters
    ----------
    reader : RingReader
        Of the market ring.
    symbol_count : int
        Symbols configured on the card.
    on_record : callable
        Called with every record, as the journal wants them; None for nobody.

    Attributes
    ----------
    quotes : list of Quote
        By symbol index.
    address : int
        What the jitted functions of :mod:`sw.feed.mirror` know the mirror by.
    """

    def __init__(
        self,
        reader: RingReader,
        symbol_count: int,
        on_record: Callable[[bytes], None] | None = None,
    ):
        self._reader = reader
        self._on_record = on_record
        lengths = Core(head=1, quotes=symbol_count, changed=symbol_count)
        arrays = [np.zeros(n, kind) for n, kind in zip(lengths, TYPES, strict=True)]
        self._context = np.array([a.ctypes.data for a in arrays] + [len(a) for a in arrays])
        self._core = Core(*arrays)
        words: Any = self._core.quotes.view(np.int64).data
        size = len(QUOTE.names or ())
        self.quotes = [Quote(words[at : at + size]) for at in range(0, len(words), size)]
        self.address = self._context.ctypes.data
        self._head: Any = self._core.head[0]
        self._head["ring_at"], self._head["slots"] = reader.address, reader.slots
        self._head["tail"], self._head["symbol_count"] = reader.tail, symbol_count
        self._take = entry(take, self.address, 0)
        self._forget_changed = entry(forget_changed, self.address)

    @property
    def record_count(self) -> int:
        """Records taken."""
        return int(self._head["record_count"])

    @property
    def gap_count(self) -> int:
        """Gaps among them."""
        return int(self._head["gap_count"])

    @property
    def messages_lost(self) -> int:
        """Messages lost in these."""
        return int(self._head["messages_lost"]) & _MASK

    @property
    def stale_count(self) -> int:
        """Symbols whose quote is stale."""
        return int(self._head["stale_count"])

    @property
    def repair_count(self) -> int:
        """Answers of the card about repairs."""
        return int(self._head["repair_count"])

    @property
    def repair(self) -> RepairAnswer:
        """The newest one of them."""
        head = self._head
        return RepairAnswer(
            int(head["repair_symbol"]),
            bool(head["repair_live"]),
            int(head["repair_from"]) & _MASK,
            int(head["repair_next"]) & _MASK,
            StaleReason(int(head["repair_reason"])),
        )

    @property
    def ended(self) -> bool:
        """Whether the feed has said that no message follows. [ITCH 5.0: 1.1]"""
        return bool(self._head["ended"])

    @property
    def changed(self) -> list[int]:
        """Indices of the symbols whose quote the last call changed, the first one first."""
        found: list[int] = self._core.changed[: self._head["changed_count"]].tolist()
        return found

    def drain(self, most: int | None = None) -> int:
        """Take the records that stand in the ring, ``most`` of them at the most; None is all.

        Returns how many there were.

        Raises
        ------
        RingError
            If one is no market record, or of a symbol that is not configured. It is taken, and
            those behind it are not.
        """
        self._forget_changed(self.address)
        if self._reader.poll() < 0:
            return 0
        taken = self._take(self.address, self._reader.slots if most is None else most)
        if self._on_record is None and taken > 0:
            self._reader.release(taken)
        else:
            self._hand_on(abs(taken), taken < 0)
        return taken

    def poll(self) -> int | None:
        """Take one record. Returns the index of the symbol whose quote changed.

        ``None`` when the ring is empty, ``ring.ALL_MARKET`` when a record changed no quote.
        """
        if not self.drain(1):
            return None
        return self.changed[0] if self._head["changed_count"] else ring.ALL_MARKET

    def _hand_on(self, taken: int, is_wrong: bool) -> None:
        """Hand records on that are still in their slots, and refuse the last one if it is wrong."""
        record = b""
        for _ in range(taken):
            offset = self._reader.poll()
            record = bytes(self._reader.memory[offset : offset + ring.RECORD_SIZE])
            self._reader.release()
            if self._on_record is not None:
                self._on_record(record)
        if not is_wrong:
            return
        if record[0] not in ring.MARKET.by_code:
            raise RingError(f"MARKET_RECORD_UNKNOWN: type=0x{record[0]:02x}")
        index, count = (
            ring.MARKET.by_code[record[0]].unpack(record)["symbol_index"],
            len(self.quotes),
        )
        raise RingError(f"MARKET_RECORD_SYMBOL: symbol_index={index}, symbol_count={count}")
