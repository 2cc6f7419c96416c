"""What goes into the matching engine and what comes out, as Python sees it.

Prices are integers of 1e-4 USD, quantities are shares.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum, unique
from struct import Struct
from typing import NamedTuple

from protocol.orders import Side, TimeInForce
from sim.venue.records import EVENT, Kind

MARKET = 0x7FFF_FFFF
"""Price of a market order. [OUCH 5.0: 1.2]"""


def opposite(side: Side) -> Side:
    """Return the side that an order of this side trades with."""
    return Side.SELL if side is Side.BUY else Side.BUY


@unique
class CancelReason(StrEnum):
    """Why shares left the book without trading. [OUCH 5.0: Appendix C]"""

    USER = "U"
    IOC = "I"
    SELF_MATCH = "Q"
    POST_ONLY = "F"
    """Post-only, and would have traded with an order that is not displayed."""
    POST_ONLY_DISPLAYED = "G"
    CLOSED = "E"
    HALTED = "H"
    SYSTEM = "Z"


@unique
class RejectReason(IntEnum):
    """Why an order was not accepted. [OUCH 5.0: Appendix D]"""

    CLOSED = 0x02
    INVALID_MAX_FLOOR = 0x04
    HALTED = 0x07
    INVALID_MIN_QUANTITY = 0x0D
    INVALID_QUANTITY = 0x13
    INVALID_PRICE = 0x1D


@unique
class SelfMatch(IntEnum):
    """What happens when an order meets one of its own participant. The incoming one decides."""

    TRADE = 0
    CANCEL_NEWEST = 1
    CANCEL_OLDEST = 2
    DECREMENT = 3
    """Both lose the shares that would have traded."""


@unique
class Cross(IntEnum):
    """Which cross an order waits for. The value is its session."""

    NONE = 0
    OPENING = 1
    CLOSING = 2


@dataclass(frozen=True, slots=True)
class NewOrder:
    """A request to enter an order.

    ``price`` may be MARKET. Fill-or-kill is IOC with a ``min_qty`` of all shares. ``max_floor`` is
    what a reserve order displays at a time, 0 for all. Participant 0 is nobody: such orders trade
    with each other.
    """

    order_id: int
    locate: int
    side: Side
    order_qty: int
    price: int
    time_in_force: TimeInForce = TimeInForce.DAY
    participant: int = 0
    hidden: bool = False
    post_only: bool = False
    min_qty: int = 0
    max_floor: int = 0
    self_match: SelfMatch = SelfMatch.TRADE
    cross: Cross = Cross.NONE


@dataclass(frozen=True, slots=True)
class Order:
    """A live order. ``cum_qty`` counts the executions of its whole chain of replaces."""

    order_id: int
    locate: int
    side: Side
    price: int
    leaves_qty: int
    cum_qty: int = 0
    shown_qty: int = 0
    reference: int = field(default=0, compare=False)


class Level(NamedTuple):
    """One price of one side: its displayed shares and how many orders hold them."""

    price: int
    qty: int
    order_count: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """The order is live; executions and cancels follow as events of their own.

    The price is the accepted one: it may be a price band. ``reference`` is the venue's number.
    """

    order_id: int
    locate: int
    side: Side
    order_qty: int
    price: int
    time_in_force: TimeInForce
    reference: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Executed:
    """One side of an execution. Both sides carry the same match number.

    ``cross`` is ITCH's cross type, empty outside of a cross.
    """

    order_id: int
    counterparty_id: int
    last_qty: int
    last_price: int
    match_number: int
    is_maker: bool
    cross: str = ""


@dataclass(frozen=True, slots=True)
class Canceled:
    """``canceled_qty`` shares left the order. It lives on when it has others."""

    order_id: int
    canceled_qty: int
    reason: CancelReason


@dataclass(frozen=True, slots=True)
class SelfMatched:
    """``canceled_qty`` shares left the order instead of trading with its own participant."""

    order_id: int
    canceled_qty: int
    prevented_qty: int
    price: int


@dataclass(frozen=True, slots=True)
class Replaced:
    """``order_id`` took the place of ``orig_order_id`` with ``leaves_qty`` open shares."""

    order_id: int
    orig_order_id: int
    locate: int
    side: Side
    leaves_qty: int
    price: int
    time_in_force: TimeInForce
    reference: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Modified:
    """The order has this side and so many open shares now, and its place as before."""

    order_id: int
    side: Side
    leaves_qty: int


@dataclass(frozen=True, slots=True)
class Restated:
    """The order displays ``shown_qty`` shares at this price, behind all others there.

    Reason ``R``: the next part of its reserve; ``P``: a price band moved it.
    """

    order_id: int
    reason: str
    shown_qty: int
    price: int
    reference: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The order was not accepted and left no trace."""

    order_id: int
    reason: RejectReason


Event = Accepted | Executed | Canceled | SelfMatched | Replaced | Modified | Restated | Rejected


class Record(NamedTuple):
    """An event as the engine writes it: the fields of :data:`~sim.venue.records.EVENT`."""

    order_id: int
    other_id: int
    reference: int
    other_reference: int
    match_number: int
    level_qty: int
    qty: int
    price: int
    leaves_qty: int
    shown_qty: int
    shown_left: int
    level_orders: int
    locate: int
    participant: int
    other_participant: int
    prevented_qty: int
    kind: int
    reason: int
    side: int
    time_in_force: int
    unused: int


if Record._fields != EVENT.names:
    raise TypeError(f"Record has {Record._fields}, EVENT {EVENT.names}")

_SIDES = {int(side): side for side in Side}
_TIMES_IN_FORCE = {int(tif): tif for tif in TimeInForce}
"""A look-up takes a fifth of the time of a call of the enumeration."""

_U64_MAX = (1 << 64) - 1
_STRUCT = Struct("=6q10i4bi")


def records(memory: bytes | memoryview) -> list[Record]:
    """Return events from the memory of an array of EVENT."""
    return [Record._make(values) for values in _STRUCT.iter_unpack(memory)]


def _accepted(row: Record) -> list[Event]:
    side, tif = _SIDES[row.side], _TIMES_IN_FORCE[row.time_in_force]
    price, reference = row.price, row.reference
    return [Accepted(row.order_id, row.locate, side, row.qty, price, tif, reference)]


def _executed(row: Record) -> list[Event]:
    maker, taker, number = row.order_id, row.other_id, row.match_number
    return [
        Executed(taker, maker, row.qty, row.price, number, is_maker=False),
        Executed(maker, taker, row.qty, row.price, number, is_maker=True),
    ]


def _filled(row: Record) -> list[Event]:
    order, other, number = row.order_id, row.other_id & _U64_MAX, row.match_number
    return [Executed(order, other, row.qty, row.price, number, is_maker=row.reason != 0)]


def _crossed(row: Record) -> list[Event]:
    order, other, number = row.order_id, row.other_id, row.match_number
    return [Executed(order, other, row.qty, row.price, number, False, chr(row.reason))]


def _canceled(row: Record) -> list[Event]:
    return [Canceled(row.order_id, row.qty, CancelReason(chr(row.reason)))]


def _self_matched(row: Record) -> list[Event]:
    return [SelfMatched(row.order_id, row.qty, row.prevented_qty, row.price)]


def _replaced(row: Record) -> list[Event]:
    side, tif = _SIDES[row.side], _TIMES_IN_FORCE[row.time_in_force]
    ids = row.order_id, row.other_id
    return [Replaced(*ids, row.locate, side, row.qty, row.price, tif, row.reference)]


def _modified(row: Record) -> list[Event]:
    return [Modified(row.order_id, Side(row.side), row.leaves_qty)]


def _restated(row: Record) -> list[Event]:
    reason = "R" if row.kind == Kind.REFRESHED else "P"
    return [Restated(row.order_id, reason, row.shown_left, row.price, row.reference)]


def _rejected(row: Record) -> list[Event]:
    return [Rejected(row.order_id, RejectReason(row.reason))]


_MADE_BY: dict[int, Callable[[Record], list[Event]]] = {
    Kind.ACCEPTED: _accepted,
    Kind.EXECUTED: _executed,
    Kind.FILLED: _filled,
    Kind.CROSS_EXECUTED: _crossed,
    Kind.CANCELED: _canceled,
    Kind.SELF_MATCHED: _self_matched,
    Kind.REPLACED: _replaced,
    Kind.MODIFIED: _modified,
    Kind.REFRESHED: _restated,
    Kind.REPRICED: _restated,
    Kind.REJECTED: _rejected,
}


def events_of(rows: list[Record]) -> list[Event]:
    """Return what happened to orders; what concerns the displayed book alone is left out."""
    return [event for row in rows if row.kind in _MADE_BY for event in _MADE_BY[row.kind](row)]
