"""ITCH 5.0 of what the matching engine did: the messages of each event, in order.

===================  =====================================================================
event                messages
===================  =====================================================================
ADDED, REFRESHED     A
EXECUTED, displayed  E
EXECUTED, hidden     P, side B, reference 0
CANCELED and other   X while displayed shares are left, else D; none where none left
REPLACED             U where the order stands at once; else D, and A when it comes to stand
REPRICED             U
CROSS_EXECUTED       C, not printable, of the displayed shares
CROSSED              Q
STATE                H
===================  =====================================================================
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from protocol import itch50
from protocol.orders import Side
from sim.venue.cross import Auction
from sim.venue.events import Record, records
from sim.venue.records import Kind, State

_ADD = itch50.ADD_ORDER.struct.pack
_EXECUTED = itch50.ORDER_EXECUTED.struct.pack
_EXECUTED_AT = itch50.ORDER_EXECUTED_WITH_PRICE.struct.pack
_CANCEL = itch50.ORDER_CANCEL.struct.pack
_DELETE = itch50.ORDER_DELETE.struct.pack
_REPLACE = itch50.ORDER_REPLACE.struct.pack
_TRADE = itch50.TRADE.struct.pack
_CROSS = itch50.CROSS_TRADE.struct.pack

_STATES = {
    State.TRADING: "T",
    State.QUOTING: "Q",
    State.PAUSED: "P",
    State.HALTED: "H",
    State.CLOSED: "H",
}

Head = tuple[int, int, bytes]
"""Locate, tracking number and time: what every message has behind its type."""


def messages(
    rows: NDArray[np.void], stocks: Mapping[int, str], now_ns: int
) -> Iterator[tuple[bytes, Record]]:
    """Return the messages of events, each with the event that it tells of.

    Parameters
    ----------
    rows : array of EVENT
        As :attr:`~sim.venue.matching.MatchingEngine.records` has them.
    stocks : mapping of int to str
        Names by locate.
    now_ns : int
        Time of all of them, ns since midnight.
    """
    return messages_of(records(rows.tobytes()), stocks, now_ns)


def messages_of(
    rows: Iterable[Record], stocks: Mapping[int, str], now_ns: int
) -> Iterator[tuple[bytes, Record]]:
    """Yield the messages of events that have been read: see :func:`messages`."""
    time = now_ns.to_bytes(6, "big")
    for row in rows:
        make = _MADE_BY.get(row.kind)
        if make is not None:
            stock = stocks.get(row.locate, "").encode().ljust(8)
            message = make(row, (row.locate, 0, time), stock)
            if message:
                yield message, row


def imbalance(
    locate: int, stock: str, now_ns: int, found: Auction, reference_price: int, cross_type: str
) -> bytes:
    """Return the net order imbalance indicator of a cross that is to come. [ITCH 5.0: 1.6]

    Far and near price are both the price at which the cross would take place.
    """
    direction = "B" if found.imbalance > 0 else "S" if found.imbalance < 0 else "N"
    return itch50.NOII.pack(
        stock_locate=locate,
        timestamp=now_ns,
        stock=stock,
        paired_shares=found.paired_qty,
        imbalance_shares=abs(found.imbalance),
        imbalance_direction=direction if found.paired_qty else "O",
        far_price=found.price,
        near_price=found.price,
        current_reference_price=reference_price,
        cross_type=cross_type,
        price_variation_indicator=" ",
    )


def trading_action(locate: int, stock: str, state: State, now_ns: int) -> bytes:
    """Return the message that tells a symbol's trading state. [ITCH 5.0: 1.2.2]"""
    return itch50.STOCK_TRADING_ACTION.pack(
        stock_locate=locate,
        timestamp=now_ns,
        stock=stock,
        trading_state=_STATES[state],
        reserved=" ",
        reason_code="",
    )


def _side(row: Record) -> bytes:
    return b"B" if row.side == Side.BUY else b"S"


def _added(row: Record, head: Head, stock: bytes) -> bytes:
    return _ADD(b"A", *head, row.reference, _side(row), row.shown_qty, stock, row.price)


def _executed(row: Record, head: Head, stock: bytes) -> bytes:
    if row.shown_qty:
        return _EXECUTED(b"E", *head, row.reference, row.shown_qty, row.match_number)
    return _TRADE(b"P", *head, 0, b"B", row.qty, stock, row.price, row.match_number)


def _reduced(row: Record, head: Head, stock: bytes) -> bytes:
    if not row.shown_qty:
        return b""
    if row.shown_left:
        return _CANCEL(b"X", *head, row.reference, row.shown_qty)
    return _DELETE(b"D", *head, row.reference)


def _replaced(row: Record, head: Head, stock: bytes) -> bytes:
    if not row.other_reference:
        return b""
    if not row.shown_qty:
        return _DELETE(b"D", *head, row.other_reference)
    return _REPLACE(b"U", *head, row.other_reference, row.reference, row.shown_qty, row.price)


def _cross_executed(row: Record, head: Head, stock: bytes) -> bytes:
    if not row.shown_qty:
        return b""
    number = row.match_number
    return _EXECUTED_AT(b"C", *head, row.reference, row.shown_qty, number, b"N", row.price)


def _crossed(row: Record, head: Head, stock: bytes) -> bytes:
    kind = bytes((row.reason,))
    return _CROSS(b"Q", *head, row.level_qty, stock, row.price, row.match_number, kind)


def _state(row: Record, head: Head, stock: bytes) -> bytes:
    now_ns = int.from_bytes(head[2], "big")
    return trading_action(row.locate, stock.decode().rstrip(), State(row.reason), now_ns)


_MADE_BY: dict[int, Callable[[Record, Head, bytes], bytes]] = {
    Kind.ADDED: _added,
    Kind.REFRESHED: _added,
    Kind.EXECUTED: _executed,
    Kind.CANCELED: _reduced,
    Kind.SELF_MATCHED: _reduced,
    Kind.MODIFIED: _reduced,
    Kind.REPLACED: _replaced,
    Kind.REPRICED: _replaced,
    Kind.CROSS_EXECUTED: _cross_executed,
    Kind.CROSSED: _crossed,
    Kind.STATE: _state,
}
