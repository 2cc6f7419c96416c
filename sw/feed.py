"""The market ring's consumer: a mirror of every symbol's best bid and offer."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, unique

from protocol import ring
from protocol.market import PHASES, MarketPhase
from protocol.reasons import StaleReason
from sw.errors import RingError
from sw.ring import RingReader


@unique
class TradingState(IntEnum):
    """ITCH 5.0 trading state. 0 stands for a symbol that no message has told of."""

    UNKNOWN = 0
    HALTED = ord("H")
    PAUSED = ord("P")
    QUOTATION_ONLY = ord("Q")
    TRADING = ord("T")


@dataclass(slots=True)
class Quote:
    """A symbol's best bid and offer as the newest record gave it; prices in 1e-4 USD."""

    bid_price: int = 0
    bid_qty: int = 0
    bid_orders: int = 0
    ask_price: int = 0
    ask_qty: int = 0
    ask_orders: int = 0
    ts_feed_ns: int = 0
    feed_sequence: int = 0
    stale_reason: StaleReason = StaleReason.NONE
    trading_state: int = TradingState.UNKNOWN
    last_price: int = 0
    """Price of the newest trade; 0 before the first."""
    phase: MarketPhase = MarketPhase.UNKNOWN
    """Phase of the market's day."""
    skipped: int = 0
    """Changes that the card conflated away, in total."""

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
        return self.stale_reason != StaleReason.NONE

    @property
    def tradable(self) -> bool:
        """Whether the book is exact, two-sided and not crossed, and the symbol is not halted."""
        return not self.stale and not self.halted and 0 < self.bid_price < self.ask_price


class Feed:
    """Applies market records to the mirror.

    Parameters
    ----------
    reader : RingReader
        Of the market ring.
    symbol_count : int
        Symbols configured on the card.
    on_record : callable
        Called with every record, as the journal wants them.

    Attributes
    ----------
    quotes : list of Quote
        By symbol index.
    record_count, gap_count, messages_lost : int
        Records taken, gaps among them, and messages lost in these.
    """

    def __init__(self, reader: RingReader, symbol_count: int, on_record: Callable[[bytes], None]):
        self._reader = reader
        self._on_record = on_record
        self.quotes = [Quote() for _ in range(symbol_count)]
        self.record_count = 0
        self.gap_count = 0
        self.messages_lost = 0

    def poll(self) -> int | None:
        """Take one record. Returns the index of the symbol whose quote changed.

        ``None`` when the ring is empty, ``ring.ALL_MARKET`` when a record changed no quote.
        """
        offset = self._reader.poll()
        if offset < 0:
            return None
        record = bytes(self._reader.memory[offset : offset + ring.RECORD_SIZE])
        self._reader.release()
        self._on_record(record)
        self.record_count += 1
        record_type = record[0]
        if record_type == ring.RecordType.BBO:
            return self._apply_bbo(record)
        if record_type == ring.RecordType.TRADE:
            trade = ring.TRADE.unpack(record)
            self.quotes[trade["symbol_index"]].last_price = trade["last_price"]
        elif record_type == ring.RecordType.STATUS:
            self._apply_status(record)
        elif record_type == ring.RecordType.GAP:
            self.gap_count += 1
            self.messages_lost += ring.GAP.unpack(record)["message_count"]
        elif record_type not in ring.MARKET.by_code:
            raise RingError(f"MARKET_RECORD_UNKNOWN: type=0x{record_type:02x}")
        return ring.ALL_MARKET

    def _apply_status(self, record: bytes) -> None:
        status = ring.STATUS.unpack(record)
        phase = PHASES.get(chr(status["status"]))
        if status["message_type"] == ord("S") and phase is not None:
            for quote in self.quotes:
                quote.phase = phase

    def _apply_bbo(self, record: bytes) -> int:
        bbo = ring.BBO.unpack(record)
        index: int = bbo["symbol_index"]
        quote = self.quotes[index]
        for name in _COPIED:
            setattr(quote, name, bbo[name])
        quote.stale_reason = StaleReason(bbo["stale_reason"])
        quote.skipped += bbo["skipped"]
        return index


_COPIED = (
    "bid_price",
    "bid_qty",
    "bid_orders",
    "ask_price",
    "ask_qty",
    "ask_orders",
    "ts_feed_ns",
    "feed_sequence",
    "trading_state",
)
