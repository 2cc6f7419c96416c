"""A price-time priority matching engine with the order entry rules of OUCH 5.0.

This is how Python speaks to it: one request a call, or an array of them. The rules themselves are
jitted and stand in :mod:`sim.venue.rules`; the table there names the source of each.
"""

from collections.abc import Iterator
from itertools import islice
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protocol.orders import Side, TimeInForce
from protocol.ouch50 import PRICE_MAX
from sim.venue.core import Memory
from sim.venue.cross import Auction, auction
from sim.venue.events import (
    MARKET,
    Accepted,
    Canceled,
    CancelReason,
    Cross,
    Event,
    Executed,
    Level,
    Modified,
    NewOrder,
    Order,
    Record,
    Rejected,
    RejectReason,
    Replaced,
    Restated,
    SelfMatch,
    SelfMatched,
    events_of,
    opposite,
    records,
)
from sim.venue.records import (
    BUYS,
    CONTINUOUS,
    HIDDEN,
    INHERIT,
    LOCATES,
    NONE,
    POST_ONLY,
    REQUEST,
    SELLS,
    SESSIONS,
    Op,
    State,
)

__all__ = [
    "MARKET",
    "Accepted",
    "BookSide",
    "CancelReason",
    "Canceled",
    "Cross",
    "Event",
    "Executed",
    "Level",
    "MatchingEngine",
    "Modified",
    "NewOrder",
    "Order",
    "Record",
    "RejectReason",
    "Rejected",
    "Replaced",
    "Restated",
    "SelfMatch",
    "SelfMatched",
    "State",
    "opposite",
    "request",
]

_REQUEST = Struct("=15q")
_FAR = 0x7FFF_FFFE
"""Beyond every price and quantity, and no market order."""

_CROSS_TYPES = {Cross.OPENING: "O", Cross.CLOSING: "C", Cross.NONE: "H"}

if _REQUEST.size != REQUEST.itemsize:
    raise TypeError(f"a request has {REQUEST.itemsize} bytes, not {_REQUEST.size}")


def request(
    op: Op,
    order_id: int = 0,
    *,
    orig_id: int = 0,
    qty: int = 0,
    price: int = 0,
    locate: int = 0,
    min_qty: int = 0,
    max_floor: int = 0,
    participant: int = 0,
    side: int = 0,
    time_in_force: int = 0,
    self_match: int = 0,
    flags: int = 0,
    session: int = 0,
    value: int = 0,
) -> bytes:
    """Return a request as the engine reads it."""
    if not 0 <= locate < LOCATES:
        raise ValueError(f"locate must be 0 to {LOCATES - 1}, not {locate}")
    if not (0 <= qty <= _FAR and 0 <= price <= _FAR):
        qty, price = _clipped(qty), _clipped(price)
    if not (0 <= min_qty <= _FAR and 0 <= max_floor <= _FAR):
        min_qty, max_floor = _clipped(min_qty), _clipped(max_floor)
    return _REQUEST.pack(
        *(op, order_id, orig_id, locate, side, qty, price, time_in_force),
        *(flags, min_qty, max_floor, participant, self_match, session, value),
    )


def _clipped(value: int) -> int:
    # Out of range for the rules stays out of range, and fits the record.
    return value if value == MARKET else min(max(value, -2), _FAR)


class MatchingEngine:
    """Orders of many symbols, matched by price, display and time.

    An execution is made at the price of the order that rested. A symbol is its locate; its book
    starts empty and trading. A short sale is a sale: all three kinds stand on one side. An order id
    is the venue's own and stays unique for the day.

    Every method that changes something returns what happened to orders, in order. ``records`` holds
    the same as the engine wrote it, with what was published:
    :func:`sim.venue.itch.messages` makes ITCH of it.

    Parameters
    ----------
    orders : int
        Live orders to make room for. There may be more.
    events : int
        Events of one call to make room for. There may be more.

    Attributes
    ----------
    records : array of EVENT
        Of the last call. It stands until the next.
    """

    def __init__(self, orders: int = 1024, events: int = 4096) -> None:
        self._memory = Memory(orders, events)
        self.records: NDArray[np.void] = self._memory.core.events[:0]

    def enter(self, order: NewOrder) -> list[Event]:
        """Accept an order, match it, and let a DAY order's remainder rest.

        An id that is already live is a retransmission and is ignored. [OUCH 5.0: 2]
        """
        flags = (HIDDEN if order.hidden else 0) | (POST_ONLY if order.post_only else 0)
        return self._do(
            request(
                Op.ENTER,
                order.order_id,
                qty=order.order_qty,
                price=order.price,
                locate=order.locate,
                min_qty=order.min_qty,
                max_floor=order.max_floor,
                participant=order.participant,
                side=order.side,
                time_in_force=order.time_in_force,
                self_match=order.self_match,
                flags=flags,
                session=order.cross,
            )
        )

    def cancel(self, order_id: int, qty_intended: int = 0) -> list[Event]:
        """Reduce an order to an intended size, executed shares included; 0 cancels what is open.

        The order keeps its priority. A cancel that has nothing to cancel is silently ignored.
        [OUCH 5.0: 2.3]
        """
        return self._do(request(Op.CANCEL, order_id, qty=qty_intended))

    def modify(self, order_id: int, side: Side, order_qty: int) -> list[Event]:
        """Change the kind of a sale, or reduce an order, without loss of priority.

        ``order_qty`` counts what was executed. A request for more shares, or for the other side of
        the book, is ignored. [OUCH 5.0: 2.4]
        """
        return self._do(request(Op.MODIFY, order_id, qty=order_qty, side=side))

    def replace(
        self,
        orig_order_id: int,
        order_id: int,
        order_qty: int,
        price: int,
        time_in_force: TimeInForce = TimeInForce.DAY,
        hidden: bool | None = None,
        post_only: bool = False,
        min_qty: int | None = None,
        max_floor: int | None = None,
    ) -> list[Event]:
        """Exchange an order for a new one of the same symbol and side, behind all others.

        ``order_qty`` is what the whole chain may execute, earlier executions included. When that
        leaves nothing, or quantity or price is invalid, the original order is canceled. When the
        original is not live or the new id is, nothing happens. What is None stays as it was.
        [OUCH 5.0: 2.2]
        """
        flags = INHERIT
        if hidden is not None:
            flags = (HIDDEN if hidden else 0) | (POST_ONLY if post_only else 0)
        return self._do(
            request(
                Op.REPLACE,
                order_id,
                orig_id=orig_order_id,
                qty=order_qty,
                price=price,
                min_qty=INHERIT if min_qty is None else min_qty,
                max_floor=INHERIT if max_floor is None else max_floor,
                time_in_force=time_in_force,
                flags=flags,
            )
        )

    def mass_cancel(
        self, participant: int = 0, locate: int = 0, reason: CancelReason = CancelReason.USER
    ) -> list[Event]:
        """Cancel a participant's orders, or everybody's (0), of a symbol, or of all (0).

        Symbol by symbol, bids first, in the order of priority. [OUCH 5.0: 2.5]
        """
        return self._do(
            request(
                Op.MASS_CANCEL,
                participant=participant,
                locate=locate,
                session=INHERIT,
                value=ord(reason),
            )
        )

    # A symbol's day.

    def set_state(self, locate: int, state: State) -> list[Event]:
        """Halt a symbol, let it be quoted before a cross, or let it trade. [ITCH 5.0: 1.2.2]

        Raises :class:`ValueError` for trading while the book is locked or crossed: a cross has to
        take place before.
        """
        if state is State.TRADING:
            found = self.auction(locate)
            if found.paired_qty:
                raise ValueError(f"BOOK_CROSSED: locate={locate}, shares={found.paired_qty}")
        return self._do(request(Op.STATE, locate=locate, value=state))

    def set_bands(self, locate: int, lower: int, upper: int) -> list[Event]:
        """Set the price bands of limit up and limit down, 0 for none.

        What rests outside moves to the band, behind all others there. [Rule 4120(a)(13)]
        Raises :class:`ValueError` unless lower is below upper and both are prices.
        """
        if not (lower == upper == 0 or 0 < lower < upper <= PRICE_MAX):
            raise ValueError(
                f"bands must be 0 < lower < upper <= {PRICE_MAX}, not {lower}, {upper}"
            )
        return self._do(request(Op.BANDS, locate=locate, qty=lower, price=upper))

    def auction(self, locate: int, cross: Cross = Cross.NONE, reference_price: int = 0) -> Auction:
        """Return the cross as it would take place now. Without a name it is that after a halt.

        The reference is the last price, where none is given.
        """
        sides = []
        for side in (BUYS, SELLS):
            orders = list(self._standing(locate, CONTINUOUS, side))
            if cross:
                orders += self._standing(locate, cross, side)
            sides.append([(order.price, order.leaves_qty) for order in orders])
        last = int(self._memory.core.symbols[locate]["last_price"])
        return auction(sides[0], sides[1], reference_price or last)

    def cross(
        self, locate: int, cross: Cross = Cross.NONE, reference_price: int = 0
    ) -> list[Event]:
        """Hold the opening or closing cross, or one after a halt, and end the session's orders.

        Orders that were entered for this cross and did not trade are canceled. [Rules 4752, 4754]
        """
        found = self.auction(locate, cross, reference_price)
        requests = [
            request(
                Op.CROSS,
                orig_id=found.paired_qty,
                qty=found.paired_qty,
                price=found.price,
                locate=locate,
                session=cross,
                value=ord(_CROSS_TYPES[cross]),
            )
        ]
        if cross:
            closed = ord(CancelReason.CLOSED)
            requests.append(request(Op.MASS_CANCEL, locate=locate, session=cross, value=closed))
        return self._do(*requests)

    def close(self, locate: int) -> list[Event]:
        """End a symbol's day: every order is canceled and none is taken any more."""
        closed = ord(CancelReason.CLOSED)
        return self._do(
            request(Op.MASS_CANCEL, locate=locate, session=INHERIT, value=closed),
            request(Op.STATE, locate=locate, value=State.CLOSED),
        )

    # Many requests at once.

    def submit(self, requests: NDArray[np.void]) -> NDArray[np.void]:
        """Serve an array of REQUEST in order and return the array of EVENT.

        Both are memory that is used again: requests may be changed, events stand until the next
        call. Raises :class:`ValueError` for a locate or a session that there is not.
        """
        for name, first, last in (("locate", 0, LOCATES - 1), ("session", INHERIT, SESSIONS - 1)):
            values = requests[name]
            if len(values) and not first <= values.min() <= values.max() <= last:
                raise ValueError(f"{name} must be {first} to {last}, not all of them are")
        self.records = self._memory.run(requests)
        return self.records

    def next_match_number(self) -> int:
        """Return a match number for a trade that is made elsewhere."""
        head = self._memory.core.head
        head["match_number"] += 1
        return int(head["match_number"][0])

    # What is there.

    def order(self, order_id: int) -> Order | None:
        """Return a live order."""
        slot = self._memory.slot_of(order_id)
        return None if slot == NONE else self._memory.order_at(slot)

    def state(self, locate: int) -> State:
        """Return a symbol's trading state."""
        return State(int(self._memory.core.symbols[locate]["state"]))

    def book_side(self, locate: int, side: Side) -> "BookSide":
        """Return a view of one side of a symbol's book."""
        return BookSide(self._memory, locate, BUYS if side is Side.BUY else SELLS)

    def depth(self, locate: int, side: Side, levels: int) -> list[Level]:
        """Return the best ``levels`` levels of a side, best first."""
        return list(islice(self.book_side(locate, side).levels(), levels))

    def bbo(self, locate: int) -> tuple[Level | None, Level | None]:
        """Return the best bid and the best ask, None for a side without displayed orders."""
        bid = next(self.book_side(locate, Side.BUY).levels(), None)
        return bid, next(self.book_side(locate, Side.SELL).levels(), None)

    def _do(self, *requests: bytes) -> list[Event]:
        rows = np.frombuffer(bytearray(b"".join(requests)), REQUEST)
        self.records = self._memory.run(rows)
        return events_of(records(self.records.tobytes()))

    def _standing(self, locate: int, session: int, side: int) -> Iterator[Order]:
        return BookSide(self._memory, locate, side, session).orders()


class BookSide:
    """One side of a symbol's book, in the order in which it trades. A view: it costs nothing.

    Parameters
    ----------
    memory : Memory
        The engine's.
    locate, side, session : int
        Which book; ``side`` is BUYS or SELLS.
    """

    def __init__(self, memory: Memory, locate: int, side: int, session: int = CONTINUOUS) -> None:
        self._memory = memory
        self._book = (locate * SESSIONS + session) * 2 + side
        self._buys = side == BUYS
        self._best, self._worse = ("highest", "lower") if self._buys else ("lowest", "higher")

    def _levels(self) -> Iterator[Any]:
        core = self._memory.core
        level = int(core.books[self._book][self._best])
        while level != NONE:
            row = core.levels[level]
            yield row
            level = int(row[self._worse])

    @property
    def best_price(self) -> int | None:
        """The best displayed price."""
        return next((level.price for level in self.levels()), None)

    @property
    def depth(self) -> int:
        """Number of displayed levels."""
        return int(self._memory.core.books[self._book]["shown_levels"])

    def levels(self) -> Iterator[Level]:
        """Yield price, displayed shares and number of displayed orders of every level."""
        for row in self._levels():
            if row["shown_orders"]:
                yield Level(int(row["price"]), int(row["shown_qty"]), int(row["shown_orders"]))

    def orders(self) -> Iterator[Order]:
        """Yield every order, displayed or not. The book must not change meanwhile."""
        for row in self._levels():
            yield from self._queue(int(row["first_shown"]))
            yield from self._queue(int(row["first_hidden"]))

    def _queue(self, slot: int) -> Iterator[Order]:
        while slot != NONE:
            yield self._memory.order_at(slot)
            slot = int(self._memory.core.orders[slot]["next"])

    def first(self, limit: int) -> Order | None:
        """Return the order that trades first if an opposite ``limit`` reaches its price."""
        return next(self.reached(limit), None)

    def reached(self, limit: int) -> Iterator[Order]:
        """Yield the orders that an opposite ``limit`` reaches, highest priority first."""
        for order in self.orders():
            if order.price < limit if self._buys else order.price > limit:
                return
            yield order

    def at(self, price: int) -> list[Order]:
        """Return the orders of one price, in the order in which they trade."""
        return [order for order in self.reached(price) if order.price == price]
