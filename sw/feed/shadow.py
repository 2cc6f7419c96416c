"""The orders of some symbols, one by one, as the feed's messages leave them: for book repair.

Plain Python, off the hot path. It stands still while nothing is lost, and is brought forward by
messages that were asked for again, or begun anew from a snapshot.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

from protocol import itch50
from protocol.glimpse import END_OF_SNAPSHOT
from protocol.layout import DecodeError

_LOCATE = slice(1, 3)
_NAMING = "RHAF"
"""Types of messages by which a symbol's locate is learnt."""
_SIDES = b"BS"
_NASDAQ = "Q"
_TRADING, _HALTED = ord("T"), ord("H")


class Standing(NamedTuple):
    """An order on the book: ITCH side as a byte, shares that are left, price in 1e-4 USD."""

    side: int
    shares: int
    price: int


class Shadow:
    """What is known of one symbol.

    Attributes
    ----------
    locate : int
        Stock locate of the day; 0 until a message tells.
    trading_state : int
        ITCH trading state; 0 until a message tells.
    orders : dict of int to Standing
        By order reference number.
    touched : set of int or None
        Where references of orders that change are noted, if anybody wants to know.
    is_exact : bool
        False from the first message on that fits no order: the book then lacks what came before.
    """

    __slots__ = ("is_exact", "locate", "orders", "touched", "trading_state")

    def __init__(self, locate: int) -> None:
        self.locate = locate
        self.trading_state = 0
        self.orders: dict[int, Standing] = {}
        self.touched: set[int] | None = None
        self.is_exact = True

    def _put(self, reference: int, order: Standing) -> None:
        self.is_exact &= reference not in self.orders and order.shares > 0 and order.side in _SIDES
        self.orders[reference] = order
        self._touch(reference)

    def _touch(self, reference: int) -> None:
        if self.touched is not None:
            self.touched.add(reference)

    def _take(self, reference: int, shares: int | None = None) -> Standing | None:
        """Take shares off an order, or all of it. Returns what it was."""
        order = self.orders.pop(reference, None)
        if order is None:
            self.is_exact = False
            return None
        self._touch(reference)
        left = 0 if shares is None else order.shares - shares
        self.is_exact &= left >= 0
        if left > 0:
            self.orders[reference] = order._replace(shares=left)
        return order


class Shadows:
    """The shadows of symbols, all as they are before one message of the feed.

    Parameters
    ----------
    symbols : iterable of (str, int)
        Name and stock locate of each symbol; 0 learns the locate. Other symbols' messages are
        passed over.

    Attributes
    ----------
    symbols : list of Shadow
        In the order given.
    next_sequence : int
        Number of the message that is to be applied next; numbers begin with 1.
    event_code : int
        Newest system event, 0 for none. [ITCH 5.0: 1.1]
    """

    def __init__(self, symbols: Iterable[tuple[str, int]]):
        self._symbols = list(symbols)
        self._forget()

    def _forget(self) -> None:
        self.symbols = [Shadow(locate) for _, locate in self._symbols]
        self._by_name: dict[str, Shadow] = {}
        self._by_locate: dict[bytes, Shadow] = {}
        for (name, locate), symbol in zip(self._symbols, self.symbols, strict=True):
            if locate:
                self._by_locate[locate.to_bytes(2, "big")] = symbol
            else:
                self._by_name[name] = symbol
        self._nameless: set[bytes] = set()  # Locates that no message has named yet.
        self.next_sequence = 1
        self.event_code = 0

    def apply(self, first: int, messages: list[bytes]) -> int:
        """Apply messages, the first of which has a number; those applied before are passed over.

        Returns how many were new: none when there is a gap before them.
        """
        if first > self.next_sequence:
            return 0
        fresh = messages[self.next_sequence - first :]
        for message in fresh:
            self._apply(message)
        self.next_sequence += len(fresh)
        return len(fresh)

    def load(self, snapshot: list[bytes]) -> None:
        """Begin anew from the messages of a snapshot. [GLIMPSE 5.0]

        Raises
        ------
        DecodeError
            If it does not end with the number of the message that follows. Nothing is kept then.
        """
        if not snapshot or snapshot[-1][:1] != b"G":
            raise DecodeError("snapshot does not end with End of Snapshot")
        following = int(END_OF_SNAPSHOT.unpack(snapshot[-1])["sequence_number"])
        self._forget()
        for message in snapshot[:-1]:
            self._apply(message)
        self.next_sequence = following

    def _apply(self, message: bytes) -> None:
        """Apply one message. What is no message of ITCH 5.0 is passed over, as the card does."""
        layout = itch50.MESSAGES.by_code.get(message[0]) if message else None
        if layout is None or layout.size != len(message):
            return
        kind = chr(message[0])
        if kind == "S":
            self.event_code = ord(str(layout.unpack(message)["event_code"]))
            return
        symbol = self._by_locate.get(message[_LOCATE])
        if symbol is None:
            if kind not in _NAMING:
                if kind in _MEANING:
                    self._nameless.add(message[_LOCATE])
                return
            symbol = self._by_name.get(str(layout.unpack(message)["stock"]))
            if symbol is None:
                return
            self._by_locate[message[_LOCATE]] = symbol
            symbol.locate = int.from_bytes(message[_LOCATE], "big")
            symbol.is_exact &= message[_LOCATE] not in self._nameless
        _MEANING.get(kind, _nothing)(symbol, layout.unpack(message))


def _nothing(symbol: Shadow, fields: dict[str, Any]) -> None:
    """Of a message that changes neither orders nor trading state."""


def _add(symbol: Shadow, fields: dict[str, Any]) -> None:
    side = ord(fields["buy_sell_indicator"])
    symbol._put(fields["order_reference_number"], Standing(side, fields["shares"], fields["price"]))


def _execute(symbol: Shadow, fields: dict[str, Any]) -> None:
    symbol._take(fields["order_reference_number"], fields["executed_shares"])


def _cancel(symbol: Shadow, fields: dict[str, Any]) -> None:
    symbol._take(fields["order_reference_number"], fields["canceled_shares"])


def _delete(symbol: Shadow, fields: dict[str, Any]) -> None:
    symbol._take(fields["order_reference_number"])


def _replace(symbol: Shadow, fields: dict[str, Any]) -> None:
    original = symbol._take(fields["original_order_reference_number"])
    if original is not None:
        order = Standing(original.side, fields["shares"], fields["price"])
        symbol._put(fields["new_order_reference_number"], order)


def _action(symbol: Shadow, fields: dict[str, Any]) -> None:
    symbol.trading_state = ord(fields["trading_state"])


def _halt(symbol: Shadow, fields: dict[str, Any]) -> None:
    if fields["market_code"] == _NASDAQ:
        trades = ord(fields["operational_halt_action"]) == _TRADING
        symbol.trading_state = _TRADING if trades else _HALTED


_MEANING = {
    "A": _add,
    "F": _add,
    "E": _execute,
    "C": _execute,
    "X": _cancel,
    "D": _delete,
    "U": _replace,
    "H": _action,
    "h": _halt,
}
