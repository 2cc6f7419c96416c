"""One client's order entry: OUCH 5.0 messages in, OUCH 5.0 messages out.

What carries the messages is somebody else's: :mod:`sim.venue.gateway` has a connection in memory,
:mod:`sim.venue.exchange` sockets.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from protocol import ouch50
from protocol.layout import DecodeError, Value
from protocol.orders import Side, TimeInForce
from sim.venue.matching import (
    Accepted,
    Canceled,
    CancelReason,
    Cross,
    Event,
    Executed,
    Modified,
    NewOrder,
    Rejected,
    Replaced,
    Restated,
    SelfMatch,
    SelfMatched,
)

ADDED_LIQUIDITY = "A"
REMOVED_LIQUIDITY = "R"
"""Liquidity flags; in a cross the flag is the cross type. [OUCH 5.0: Appendix E]"""

REJECT_INVALID_SIDE = 0x09
REJECT_NOT_AUTHORIZED = 0x0C
REJECT_OTHER = 0x0F
REJECT_INVALID_CROSS = 0x14
REJECT_INVALID_SYMBOL = 0x17

_REFERENCE, _MIN_QTY, _MAX_FLOOR, _POST_ONLY = 1, 3, 5, 12
_DISPLAY_QTY, _DISPLAY_PRICE = 22, 23
"""Option tags. [OUCH 5.0: Appendix B]"""

_CROSSES = {b"N": Cross.NONE, b"H": Cross.NONE, b"O": Cross.OPENING, b"C": Cross.CLOSING}
_TIMES_IN_FORCE = {bytes((value,)): value for value in TimeInForce}
_SIDES = {code.encode(): Side(ord(code)) for code in ouch50.SIDE}
_STRATEGIES = {
    SelfMatch.TRADE: " ",
    SelfMatch.CANCEL_NEWEST: "N",
    SelfMatch.CANCEL_OLDEST: "O",
    SelfMatch.DECREMENT: "D",
}
"""The letters are ours: revision 1.04 does not have the field."""

_NO_OPTIONS = b"\0\0"
_ACCEPTED = ouch50.ORDER_ACCEPTED.struct.pack
_REPLACED = ouch50.ORDER_REPLACED.struct.pack
_EXECUTED = ouch50.ORDER_EXECUTED.struct.pack
_CANCELED = ouch50.ORDER_CANCELED.struct.pack


class Book(Protocol):
    """What a port needs of a matching engine: see :class:`~sim.venue.matching.MatchingEngine`.

    The events may be returned at once, or later be given to :meth:`Port.publish`.
    """

    def enter(self, order: NewOrder) -> list[Event]: ...

    def cancel(self, order_id: int, qty_intended: int = 0) -> list[Event]: ...

    def modify(self, order_id: int, side: Side, order_qty: int) -> list[Event]: ...

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
    ) -> list[Event]: ...


class Terms(NamedTuple):
    """What the client said of an order, to be echoed; texts with their padding."""

    symbol: bytes
    display: bytes
    capacity: bytes
    sweep: bytes
    cross: bytes
    cl_ord_id: bytes
    options: dict[int, Value]


class Port:
    """One client's order entry.

    A message that is malformed is not used. An order number that is not higher than all before is a
    message sent again, and is ignored, so a client may send again whatever it is not sure of.
    [OUCH 5.0: 1.2]

    Parameters
    ----------
    engine : Book
        Where orders go.
    locate_of : callable
        Called with a symbol's name; returns its locate, or 0 when the venue does not trade it.
    send : callable
        Takes every message for the client.
    participant : int
        The client's number at the engine.
    self_match : SelfMatch
        What happens when its orders meet one another.
    first_id : int
        The engine's id of order number 0: ports of one engine need ranges of their own.
    refuse : callable
        Called with price and time of every order and every replacement; returns the reason to
        reject it with [OUCH 5.0: Appendix D], or 0.
    settle : callable
        Called before an answer that does not come from the engine. Who hands over events later than
        requests must do so here, or answers overtake one another.

    Attributes
    ----------
    enabled : bool
        Whether orders may be entered. [OUCH 5.0: 2.6, 2.7]
    ignored_count : int
        Messages that were malformed.
    """

    def __init__(
        self,
        engine: Book,
        locate_of: Callable[[str], int],
        send: Callable[[bytes], None],
        participant: int = 1,
        self_match: SelfMatch = SelfMatch.TRADE,
        first_id: int = 0,
        refuse: Callable[[int, int], int] = lambda price, now_ns: 0,
        settle: Callable[[], None] = lambda: None,
    ):
        self._engine = engine
        self._locate_of = locate_of
        self._send = send
        self._participant = participant
        self._self_match = self_match
        self._first_id = first_id
        self._refuse = refuse
        self._settle = settle
        self._last_ref = 0
        self._terms: dict[int, Terms] = {}
        self._leaves: dict[int, int] = {}
        self.enabled = True
        self.ignored_count = 0
        self._handlers: dict[int, Callable[..., None]] = {
            ouch50.ENTER_ORDER.code: self._enter,
            ouch50.REPLACE_ORDER_REQUEST.code: self._replace,
            ouch50.CANCEL_ORDER_REQUEST.code: self._cancel,
            ouch50.MODIFY_ORDER_REQUEST.code: self._modify,
            ouch50.MASS_CANCEL_REQUEST.code: self._mass_cancel,
            ouch50.DISABLE_ORDER_ENTRY_REQUEST.code: self._disable,
            ouch50.ENABLE_ORDER_ENTRY_REQUEST.code: self._enable,
            ouch50.ACCOUNT_QUERY_REQUEST.code: self._account_query,
        }

    def receive(self, data: bytes, now_ns: int) -> bool:
        """Take one message of the client. Returns False when it is malformed."""
        try:
            message, values, options = ouch50.unpack_raw(ouch50.INBOUND, data)
        except DecodeError:
            self.ignored_count += 1
            return False
        self._handlers[message.code](values, dict(options), now_ns)
        return True

    @property
    def next_ref(self) -> int:
        """The lowest order number that may come next."""
        return self._last_ref + 1

    @property
    def live_refs(self) -> list[int]:
        """Numbers of the orders that stand."""
        return list(self._leaves)

    def _is_new(self, ref: int) -> bool:
        if ref <= self._last_ref:
            return False
        self._last_ref = ref
        return True

    def _enter(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, ref, side, qty, symbol, price, tif, display, capacity, sweep, cross, cl_ord_id = values
        if not self._is_new(ref):
            return
        locate = self._locate_of(symbol.decode("latin-1").rstrip(" \0"))
        reason = 0
        if not self.enabled:
            reason = REJECT_NOT_AUTHORIZED
        elif locate == 0:
            reason = REJECT_INVALID_SYMBOL
        elif side not in _SIDES:
            reason = REJECT_INVALID_SIDE
        elif tif not in _TIMES_IN_FORCE:
            reason = REJECT_OTHER
        elif cross not in _CROSSES:
            reason = REJECT_INVALID_CROSS
        else:
            reason = self._refuse(price, now_ns)
        if reason:
            self._settle()
            self._reject(ref, reason, cl_ord_id, now_ns)
            return
        self._terms[ref] = Terms(symbol, display, capacity, sweep, cross, cl_ord_id, options)
        order = NewOrder(
            self._first_id + ref,
            locate,
            _SIDES[side],
            qty,
            price,
            _TIMES_IN_FORCE[tif],
            self._participant,
            display == b"N",
            options.get(_POST_ONLY) == "P",
            _number(options.get(_MIN_QTY)) or 0,
            _number(options.get(_MAX_FLOOR)) or 0,
            self._self_match,
            _CROSSES[cross],
        )
        events = self._engine.enter(order)
        if events:
            self.publish(events, now_ns)

    def _replace(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, orig, ref, qty, price, tif, display, sweep, cl_ord_id = values
        self._settle()  # Whether the original is live depends on all before.
        if orig not in self._leaves or ref <= self._last_ref:
            return  # Silently ignored; the number may be used again. [2.2]
        self._last_ref = ref
        reason = REJECT_NOT_AUTHORIZED if not self.enabled else self._refuse(price, now_ns)
        if reason:
            self._reject(ref, reason, cl_ord_id, now_ns)
            return
        was = self._terms[orig]
        # An option that is not given stays as it was. [2.2]
        kept = was.options | options
        self._terms[ref] = was._replace(
            display=display, sweep=sweep, cl_ord_id=cl_ord_id, options=kept
        )
        self.publish(
            self._engine.replace(
                self._first_id + orig,
                self._first_id + ref,
                qty,
                price,
                _TIMES_IN_FORCE.get(tif, TimeInForce.DAY),
                hidden=display == b"N",
                post_only=kept.get(_POST_ONLY) == "P",
                min_qty=_number(options.get(_MIN_QTY)),
                max_floor=_number(options.get(_MAX_FLOOR)),
            ),
            now_ns,
        )
        self._settle()
        if ref not in self._leaves:
            self._terms.pop(ref, None)

    def _cancel(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, ref, qty = values
        if ref in self._terms:
            self.publish(self._engine.cancel(self._first_id + ref, qty), now_ns)

    def _modify(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, ref, side, qty = values
        if ref in self._terms and side in _SIDES:
            events = self._engine.modify(self._first_id + ref, _SIDES[side], qty)
            self.publish(events, now_ns)

    def _mass_cancel(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, ref, firm, symbol = values
        if not self._is_new(ref):
            return
        self._settle()
        wanted = symbol.rstrip(b" \0")
        for order in sorted(self._leaves):
            if wanted in (b"", self._terms[order].symbol.rstrip(b" \0")):
                self.publish(self._engine.cancel(self._first_id + order), now_ns)
        self._confirm(ouch50.MASS_CANCEL_RESPONSE, now_ns, ref, firm, symbol)

    def _disable(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, ref, firm = values
        if self._is_new(ref):
            self.enabled = False
            self._confirm(ouch50.DISABLE_ORDER_ENTRY_RESPONSE, now_ns, ref, firm)

    def _enable(self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int) -> None:
        _, ref, firm = values
        if self._is_new(ref):
            self.enabled = True
            self._confirm(ouch50.ENABLE_ORDER_ENTRY_RESPONSE, now_ns, ref, firm)

    def _account_query(
        self, values: tuple[Any, ...], options: dict[int, Value], now_ns: int
    ) -> None:
        self._confirm(ouch50.ACCOUNT_QUERY_RESPONSE, now_ns, self.next_ref)

    def _confirm(self, message: ouch50.Message, now_ns: int, *values: int | bytes) -> None:
        self._settle()
        data = message.struct.pack(bytes((message.code,)), now_ns, *values)
        is_long = message.appendage is ouch50.Appendage.ALWAYS
        self._send(data + _NO_OPTIONS if is_long else data)

    def system_event(self, code: str, now_ns: int) -> None:
        """Tell the client that the day starts, ``S``, or ends, ``E``. [OUCH 5.0: 3.1]"""
        self._answer(ouch50.SYSTEM_EVENT, now_ns, event_code=code)

    def disconnect(self, cancel: Callable[[int], Sequence[Event]], now_ns: int) -> int:
        """Cancel every order of the client, as when its connection is lost. Returns their number.

        ``cancel`` is called with the participant. The answers are sent like others: the client
        reads them when it logs in again.
        """
        events = cancel(self._participant)
        self.publish(events, now_ns)
        return len(events)

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell the client what happened to its orders. Orders of others are passed over."""
        for event in events:
            ref = event.order_id - self._first_id
            terms = self._terms.get(ref)
            if terms is not None:
                self._TELL[type(event)](self, ref, event, terms, now_ns)

    def _left(self, ref: int, qty: int) -> None:
        """Take executed or canceled shares off an order, and forget it when none are left."""
        leaves = self._leaves.get(ref, 0) - qty
        if leaves > 0:
            self._leaves[ref] = leaves
        else:
            self._leaves.pop(ref, None)
            self._terms.pop(ref, None)

    def _accepted(self, ref: int, event: Accepted, terms: Terms, now_ns: int) -> None:
        self._leaves[ref] = event.order_qty
        symbol, display, capacity, sweep, cross, cl_ord_id, _ = terms
        side, tif = b"%c" % event.side, b"%c" % event.time_in_force
        self._send(
            _ACCEPTED(
                *(b"A", now_ns, ref, side, event.order_qty, symbol, event.price, tif, display),
                *(event.reference, capacity, sweep, cross, b"L", cl_ord_id),
            )
            + _NO_OPTIONS
        )

    def _replaced(self, ref: int, event: Replaced, terms: Terms, now_ns: int) -> None:
        orig = event.orig_order_id - self._first_id
        self._terms.pop(orig, None)
        self._leaves.pop(orig, None)
        self._leaves[ref] = event.leaves_qty
        symbol, display, capacity, sweep, cross, cl_ord_id, _ = terms
        side, tif = b"%c" % event.side, b"%c" % event.time_in_force
        self._send(
            _REPLACED(
                *(b"U", now_ns, orig, ref, side, event.leaves_qty, symbol, event.price, tif),
                *(display, event.reference, capacity, sweep, cross, b"L", cl_ord_id),
            )
            + _NO_OPTIONS
        )

    def _executed(self, ref: int, event: Executed, terms: Terms, now_ns: int) -> None:
        flag = event.cross or (ADDED_LIQUIDITY if event.is_maker else REMOVED_LIQUIDITY)
        values = event.last_qty, event.last_price, flag.encode(), event.match_number
        self._send(_EXECUTED(b"E", now_ns, ref, *values) + _NO_OPTIONS)
        self._left(ref, event.last_qty)

    def _canceled(self, ref: int, event: Canceled, terms: Terms, now_ns: int) -> None:
        self._send(_CANCELED(b"C", now_ns, ref, event.canceled_qty, event.reason.encode()))
        self._left(ref, event.canceled_qty)

    def _self_matched(self, ref: int, event: SelfMatched, terms: Terms, now_ns: int) -> None:
        self._answer(
            ouch50.AIQ_CANCELED,
            now_ns,
            user_ref_num=ref,
            decrement_shares=event.canceled_qty,
            reason=str(CancelReason.SELF_MATCH),
            quantity_prevented_from_trading=event.prevented_qty,
            execution_price=event.price,
            liquidity_flag=REMOVED_LIQUIDITY,
            aiq_strategy=_STRATEGIES[self._self_match],
        )
        self._left(ref, event.canceled_qty)

    def _modified(self, ref: int, event: Modified, terms: Terms, now_ns: int) -> None:
        self._leaves[ref] = event.leaves_qty
        self._answer(
            ouch50.ORDER_MODIFIED,
            now_ns,
            user_ref_num=ref,
            side=chr(event.side),
            quantity=event.leaves_qty,
        )
        self._left(ref, 0)

    def _restated(self, ref: int, event: Restated, terms: Terms, now_ns: int) -> None:
        self._answer(
            ouch50.ORDER_RESTATED,
            now_ns,
            (
                (_REFERENCE, event.reference),
                (_DISPLAY_QTY, event.shown_qty),
                (_DISPLAY_PRICE, event.price),
            ),
            user_ref_num=ref,
            reason=event.reason,
        )

    def _rejected(self, ref: int, event: Rejected, terms: Terms, now_ns: int) -> None:
        self._reject(ref, event.reason, terms.cl_ord_id, now_ns)
        self._left(ref, 0)

    _TELL: dict[type, Callable[..., None]] = {  # noqa: RUF012  It is never changed.
        Accepted: _accepted,
        Replaced: _replaced,
        Executed: _executed,
        Canceled: _canceled,
        SelfMatched: _self_matched,
        Modified: _modified,
        Restated: _restated,
        Rejected: _rejected,
    }

    def _reject(self, ref: int, reason: int, cl_ord_id: bytes, now_ns: int) -> None:
        self._send(ouch50.REJECTED.struct.pack(b"J", now_ns, ref, reason, cl_ord_id))

    def _answer(
        self,
        message: ouch50.Message,
        now_ns: int,
        options: Sequence[tuple[int, Value]] = (),
        **values: Value,
    ) -> None:
        self._send(ouch50.pack(message, {"timestamp": now_ns, **values}, options))


def _number(value: Value | None) -> int | None:
    return value if isinstance(value, int) else None
