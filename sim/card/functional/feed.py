"""Parse and book stage: feed messages in, market records out."""

from dataclasses import dataclass
from typing import Any

from kernels.risk import Market
from protocol import itch50, ring
from protocol.market import PHASES, MarketPhase
from protocol.reasons import DropReason, StaleReason
from sim.card.functional.book import Book, Level, RestingOrder
from sim.card.functional.market import MarketWriter, SequenceAndTime
from sw.ring import RingWriter

_U64_MAX = 0xFFFF_FFFF_FFFF_FFFF
_U32_MAX = 0xFFFF_FFFF
_U16_MAX = 0xFFFF

_TRADING = ord("T")
_HALTED = ord("H")
_NASDAQ = "Q"


@dataclass(slots=True)
class SymbolState:
    """A configured symbol's condition besides its book."""

    stock: str = ""
    stale_reason: StaleReason = StaleReason.NONE
    trading_state: int = 0
    last_price: int = 0


class FeedPath:
    """Applies feed messages to the books of the configured symbols and publishes what changed.

    Parameters
    ----------
    symbol_count, order_count : int
        Slots for symbols, and orders remembered at once.
    writer : RingWriter
        The market ring.
    drops : list of int
        Counters by :class:`~protocol.reasons.DropReason`.

    Attributes
    ----------
    locates : dict of int to int
        Symbol index by stock locate.
    symbols : list of SymbolState
        By symbol index.
    """

    def __init__(self, symbol_count: int, order_count: int, writer: RingWriter, drops: list[int]):
        self._book = Book(symbol_count, order_count)
        self._drops = drops
        self.market = MarketWriter(writer, self._bbo_record)
        self.locates: dict[int, int] = {}
        self._unlocated: dict[str, int] = {}
        self.symbols = [SymbolState() for _ in range(symbol_count)]
        self._published: list[tuple[Level, Level, StaleReason, int]] = [
            (Level(), Level(), StaleReason.NONE, 0)
        ] * symbol_count
        self._now_ns = 0
        self._phase = MarketPhase.UNKNOWN
        self.message_count = 0
        self.lost_count = 0

    @property
    def stale_count(self) -> int:
        """Symbols whose book is not known to be exact."""
        return sum(1 for s in self.symbols if s.stale_reason is not StaleReason.NONE)

    def configure(self, index: int, stock: str, locate: int) -> None:
        """Give a slot to a symbol; a locate of 0 is to be learnt."""
        self.symbols[index].stock = stock
        if locate:
            self.locates[locate] = index
        else:
            self._unlocated[stock] = index

    def market_of(self, index: int) -> Market:
        """Return what the risk gate must know of a symbol."""
        bid, ask = self._book.best(index)
        state = self.symbols[index]
        return Market(
            bid.price,
            ask.price,
            halted=state.trading_state not in (0, _TRADING),
            stale=state.stale_reason is not StaleReason.NONE,
            last_price=state.last_price,
            phase=int(self._phase),
        )

    def lose(self, first: int, count: int, now_ns: int) -> None:
        """Take note of lost messages: any of them may have been any symbol's."""
        self._now_ns = now_ns
        self.lost_count += count
        self.market.put(
            ring.GAP.pack(
                symbol_index=ring.ALL_MARKET,
                ts_card_ns=now_ns,
                first_sequence=first & _U64_MAX,
                message_count=count,
            )
        )
        for index, state in enumerate(self.symbols):
            if state.stock:
                self._mark_stale(index, StaleReason.GAP)
                self._publish(index, (first + count - 1 & _U64_MAX, 0))

    def apply(self, sequence: int, data: bytes, now_ns: int) -> None:
        """Take one feed message. A message block without data only takes a sequence number."""
        self._now_ns = now_ns
        self.message_count += 1
        if not data:
            return
        layout = itch50.MESSAGES.by_code.get(data[0])
        if layout is None or layout.size != len(data):
            self._drops[DropReason.UNKNOWN_MESSAGE] += 1
            return
        message = layout.unpack(data)
        cause = (sequence & _U64_MAX, message["timestamp"])
        code = message["message_type"]
        if code == "S":
            self._phase = PHASES.get(message["event_code"], self._phase)
            self._status(ring.ALL_MARKET, message, cause, message["event_code"])
            return
        if code == "R":
            self._learn(message["stock"], message["stock_locate"])
        index = self.locates.get(message["stock_locate"])
        if index is None:
            self._drops[DropReason.UNKNOWN_SYMBOL] += 1
            return
        self._apply_to_symbol(index, code, message, cause)
        self._publish(index, cause)

    def _learn(self, stock: str, locate: int) -> None:
        """Take a symbol's locate from the Stock Directory message, unless the host wrote one."""
        index = self._unlocated.pop(stock, None)
        if index is not None:
            self.locates[locate] = index

    def _apply_to_symbol(
        self, index: int, code: str, message: dict[str, Any], cause: SequenceAndTime
    ) -> None:
        reason = StaleReason.NONE
        if code in "AF":
            reason = self._add(index, message)
        elif code in "EC":
            reason = self._execute(index, code, message, cause)
        elif code == "X":
            reference = message["order_reference_number"]
            reason = self._book.reduce(index, reference, message["canceled_shares"])
        elif code == "D":
            reason = self._book.delete(index, message["order_reference_number"])
        elif code == "U":
            reason = self._book.replace(
                index,
                message["original_order_reference_number"],
                message["new_order_reference_number"],
                message["shares"],
                message["price"],
            )
        elif code in "PQ":
            self._trade(index, code, message, cause)
        elif code in "HhY":
            self._trading_state(index, code, message, cause)
        if reason is not StaleReason.NONE:
            self._mark_stale(index, reason)
        if reason is StaleReason.LOCATE_MISMATCH:
            self._mark_owner_stale(message, cause)

    def _add(self, index: int, message: dict[str, Any]) -> StaleReason:
        reference, side = message["order_reference_number"], message["buy_sell_indicator"]
        if side not in ("B", "S") and self._book.find(reference) is None:
            return StaleReason.INVALID_ORDER
        order = RestingOrder(index, side == "B", message["price"], message["shares"])
        return self._book.add(reference, order)

    def _execute(
        self, index: int, code: str, message: dict[str, Any], cause: SequenceAndTime
    ) -> StaleReason:
        reference, shares = message["order_reference_number"], message["executed_shares"]
        order = self._book.find(reference)
        if order is not None and message.get("printable") != "N":
            price = order.price if code == "E" else message["execution_price"]
            side = ord("B") if order.buys else ord("S")
            self._put_trade(index, code, message, cause, shares, price, side)
        return self._book.reduce(index, reference, shares)

    def _trade(
        self, index: int, code: str, message: dict[str, Any], cause: SequenceAndTime
    ) -> None:
        names = ("shares", "price") if code == "P" else ("cross_shares", "cross_price")
        shares, price = (message[name] for name in names)
        if shares:
            self._put_trade(index, code, message, cause, shares, price, 0)

    def _put_trade(
        self,
        index: int,
        code: str,
        message: dict[str, Any],
        cause: SequenceAndTime,
        shares: int,
        price: int,
        side: int,
    ) -> None:
        self.symbols[index].last_price = price
        self.market.put(
            ring.TRADE.pack(
                symbol_index=index,
                ts_card_ns=self._now_ns,
                last_qty=min(shares, _U32_MAX),
                ts_feed_ns=cause[1],
                feed_sequence=cause[0],
                last_price=price,
                side=side,
                match_type=ord(code),
                match_number=message["match_number"],
            )
        )

    def _trading_state(
        self, index: int, code: str, message: dict[str, Any], cause: SequenceAndTime
    ) -> None:
        state = self.symbols[index]
        after = state.trading_state
        if code == "H":
            status = message["trading_state"]
            after = ord(status)
        elif code == "h":
            status = message["operational_halt_action"]
            if message["market_code"] == _NASDAQ:
                after = _TRADING if status == "T" else _HALTED
        else:
            status = message["reg_sho_action"]
        self._status(index, message, cause, status)
        state.trading_state = after  # Only now: a quote that waited for a slot is of before.

    def _status(
        self, index: int, message: dict[str, Any], cause: SequenceAndTime, status: str
    ) -> None:
        self.market.put(
            ring.STATUS.pack(
                symbol_index=index,
                ts_card_ns=self._now_ns,
                ts_feed_ns=cause[1],
                feed_sequence=cause[0],
                message_type=ord(message["message_type"]),
                status=ord(status),
            )
        )

    def _mark_stale(self, index: int, reason: StaleReason) -> None:
        state = self.symbols[index]
        if state.stale_reason is StaleReason.NONE:
            state.stale_reason = reason

    def _mark_owner_stale(self, message: dict[str, Any], cause: SequenceAndTime) -> None:
        name = "order_reference_number"
        named = name if name in message else f"original_{name}"
        order = self._book.find(int(message[named]))
        if order is not None:
            self._mark_stale(order.symbol_index, StaleReason.LOCATE_MISMATCH)
            self._publish(order.symbol_index, cause)

    def _publish(self, index: int, cause: SequenceAndTime) -> None:
        """Publish a symbol's condition when it differs from what was published last."""
        bid, ask = self._book.best(index)
        state = self.symbols[index]
        if any(level.shares > _U32_MAX or level.orders > _U16_MAX for level in (bid, ask)):
            self._mark_stale(index, StaleReason.LEVEL_OVERFLOW)
        condition = (bid, ask, state.stale_reason, state.trading_state)
        if condition != self._published[index]:
            self._published[index] = condition
            self.market.put_bbo(index, cause)

    def _bbo_record(self, index: int, cause: SequenceAndTime, skipped: int) -> bytes:
        bid, ask = self._book.best(index)
        state = self.symbols[index]
        stale = state.stale_reason is not StaleReason.NONE
        return ring.BBO.pack(
            symbol_index=index,
            flags=ring.BboFlag.STALE if stale else 0,
            skipped=skipped,
            ts_card_ns=self._now_ns,
            feed_sequence=cause[0],
            ts_feed_ns=cause[1],
            bid_price=bid.price,
            ask_price=ask.price,
            bid_qty=min(bid.shares, _U32_MAX),
            ask_qty=min(ask.shares, _U32_MAX),
            bid_orders=min(bid.orders, _U16_MAX),
            ask_orders=min(ask.orders, _U16_MAX),
            stale_reason=state.stale_reason,
            trading_state=state.trading_state,
        )
