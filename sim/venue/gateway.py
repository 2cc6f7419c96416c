"""Order entry in: OUCH 5.0 over SoupBinTCP over TCP, on one connection in memory.

The connection is open and logged in from the start, as after the handshake and the login that the
host makes before it hands a connection to the card. In memory frames neither get lost nor overtake
one another, so there is no retransmission; a segment that is not the next one is not used.
"""

from collections.abc import Callable, Sequence
from typing import Any

from protocol import ouch50, soupbintcp
from protocol.frames import Address, Segment, parse_tcp, tcp_frame
from protocol.ip import TcpFlag
from protocol.layout import DecodeError, Value
from protocol.orders import Side, TimeInForce
from sim.venue.matching import (
    Accepted,
    Canceled,
    CancelReason,
    Cross,
    Event,
    Executed,
    MatchingEngine,
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

_REFERENCE, _MIN_QTY, _MAX_FLOOR, _POST_ONLY = 1, 3, 5, 12
_DISPLAY_QTY, _DISPLAY_PRICE = 22, 23
"""Option tags. [OUCH 5.0: Appendix B]"""

_CROSSES = {"N": Cross.NONE, "H": Cross.NONE, "O": Cross.OPENING, "C": Cross.CLOSING}
_STRATEGIES = {
    SelfMatch.TRADE: " ",
    SelfMatch.CANCEL_NEWEST: "N",
    SelfMatch.CANCEL_OLDEST: "O",
    SelfMatch.DECREMENT: "D",
}
"""The letters are ours: revision 1.04 does not have the field."""

REJECT_INVALID_SIDE = 0x09
REJECT_OTHER = 0x0F
REJECT_INVALID_CROSS = 0x14
REJECT_INVALID_SYMBOL = 0x17


class Gateway:
    """One client's port into a matching engine.

    Parameters
    ----------
    engine : MatchingEngine
        Where orders go.
    locate_of : callable
        Called with a symbol's name; returns its locate, or 0 when the venue does not trade it.
    local, remote : Address
        The venue's end of the connection and the client's.
    sequence, acknowledgment : int
        TCP numbers of the connection as it was opened: ours to send, the client's to come.
    send : callable
        Takes every frame for the client.
    participant : int
        The client's number at the engine.
    self_match : SelfMatch
        What happens when its orders meet one another.
    """

    def __init__(
        self,
        engine: MatchingEngine,
        locate_of: Callable[[str], int],
        local: Address,
        remote: Address,
        sequence: int,
        acknowledgment: int,
        send: Callable[[bytes], None],
        participant: int = 1,
        self_match: SelfMatch = SelfMatch.TRADE,
    ):
        self._engine = engine
        self._locate_of = locate_of
        self._local = local
        self._remote = remote
        self._sequence = sequence
        self._acknowledgment = acknowledgment
        self._send = send
        self._participant = participant
        self._self_match = self_match
        self._received = bytearray()
        self._last_ref = 0
        self._entered: dict[int, dict[str, Any]] = {}

    def receive(self, frame: bytes, now_ns: int) -> None:
        """Take a frame of the client. One that is malformed, or somebody else's, is not used."""
        try:
            segment = parse_tcp(frame)
        except DecodeError:
            return
        if not self._is_ours(segment) or segment.sequence != self._acknowledgment:
            return
        self._acknowledgment = (self._acknowledgment + len(segment.payload)) & 0xFFFF_FFFF
        self._received += segment.payload
        while len(self._received) >= 2:
            end = 2 + int.from_bytes(self._received[:2], "big")
            if len(self._received) < end:
                return
            packet = bytes(self._received[2:end])
            del self._received[:end]
            if packet and packet[0] == soupbintcp.UNSEQUENCED_DATA.code:
                self._message(packet[1:], now_ns)

    def _is_ours(self, segment: Segment) -> bool:
        local, remote = self._local, self._remote
        return (segment.source_ip, segment.source_port) == (remote.ip, remote.port) and (
            segment.destination_ip,
            segment.destination_port,
        ) == (local.ip, local.port)

    def _message(self, data: bytes, now_ns: int) -> None:
        try:
            message, values, options = ouch50.unpack(ouch50.INBOUND, data)
        except DecodeError:
            return
        handler = {
            ouch50.ENTER_ORDER.code: self._enter,
            ouch50.REPLACE_ORDER_REQUEST.code: self._replace,
            ouch50.CANCEL_ORDER_REQUEST.code: self._cancel,
            ouch50.MODIFY_ORDER_REQUEST.code: self._modify,
            ouch50.MASS_CANCEL_REQUEST.code: self._mass_cancel,
        }.get(message.code)
        if handler is not None:
            handler(values | {"options": dict(options)}, now_ns)

    def disconnect(self, now_ns: int) -> None:
        """Cancel every order of the client, as when its connection is lost.

        The answers are sent like others: the client reads them when it logs in again.
        """
        self.publish(
            self._engine.mass_cancel(self._participant, reason=CancelReason.SYSTEM), now_ns
        )

    def _is_new(self, ref: int) -> bool:
        """Whether an order number is higher than any before; others are sent again. [1.2]"""
        if ref <= self._last_ref:
            return False
        self._last_ref = ref
        return True

    def _enter(self, values: dict[str, Any], now_ns: int) -> None:
        ref = values["user_ref_num"]
        if not self._is_new(ref):
            return
        locate = self._locate_of(values["symbol"])
        if locate == 0:
            self._reject(ref, REJECT_INVALID_SYMBOL, values, now_ns)
            return
        if values["side"] not in ouch50.SIDE:
            self._reject(ref, REJECT_INVALID_SIDE, values, now_ns)
            return
        if values["time_in_force"] not in _TIMES_IN_FORCE:
            self._reject(ref, REJECT_OTHER, values, now_ns)
            return
        if values["cross_type"] not in _CROSSES:
            self._reject(ref, REJECT_INVALID_CROSS, values, now_ns)
            return
        self._entered[ref] = values
        options = values["options"]
        order = NewOrder(
            ref,
            locate,
            Side(ord(values["side"])),
            values["quantity"],
            values["price"],
            _TIMES_IN_FORCE[values["time_in_force"]],
            participant=self._participant,
            hidden=values["display"] == "N",
            post_only=options.get(_POST_ONLY) == "P",
            min_qty=options.get(_MIN_QTY, 0),
            max_floor=options.get(_MAX_FLOOR, 0),
            self_match=self._self_match,
            cross=_CROSSES[values["cross_type"]],
        )
        self.publish(self._engine.enter(order), now_ns)

    def _replace(self, values: dict[str, Any], now_ns: int) -> None:
        orig, ref = values["orig_user_ref_num"], values["user_ref_num"]
        is_live = orig in self._entered and self._engine.order(orig) is not None
        if not is_live or ref <= self._last_ref:
            return  # Silently ignored; the number may be used again. [2.2]
        self._last_ref = ref
        # An option that is not given stays as it was. [2.2]
        options = self._entered[orig]["options"] | values["options"]
        self._entered[ref] = self._entered[orig] | values | {"options": options}
        self.publish(
            self._engine.replace(
                orig,
                ref,
                values["quantity"],
                values["price"],
                _TIMES_IN_FORCE.get(values["time_in_force"], TimeInForce.DAY),
                hidden=values["display"] == "N",
                post_only=options.get(_POST_ONLY) == "P",
                min_qty=values["options"].get(_MIN_QTY),
                max_floor=values["options"].get(_MAX_FLOOR),
            ),
            now_ns,
        )

    def _cancel(self, values: dict[str, Any], now_ns: int) -> None:
        ref, qty = values["user_ref_num"], values["quantity"]
        if ref in self._entered:
            self.publish(self._engine.cancel(ref, qty), now_ns)

    def _modify(self, values: dict[str, Any], now_ns: int) -> None:
        ref, side = values["user_ref_num"], values["side"]
        if ref in self._entered and side in ouch50.SIDE:
            events = self._engine.modify(ref, Side(ord(side)), values["quantity"])
            self.publish(events, now_ns)

    def _mass_cancel(self, values: dict[str, Any], now_ns: int) -> None:
        ref, symbol = values["user_ref_num"], values["symbol"]
        if not self._is_new(ref):
            return
        symbols = {ref: entered["symbol"] for ref, entered in self._entered.items()}
        for order in sorted(symbols):
            if symbol in ("", symbols[order]):
                self.publish(self._engine.cancel(order), now_ns)
        self._answer(
            ouch50.MASS_CANCEL_RESPONSE,
            now_ns,
            user_ref_num=ref,
            firm=values["firm"],
            symbol=symbol,
        )

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell the client what happened to its orders."""
        for event in events:
            entered = self._entered.get(event.order_id)
            if entered is not None:
                self._tell(event, entered, now_ns)
        for order_id in {event.order_id for event in events}:
            if self._engine.order(order_id) is None:
                self._entered.pop(order_id, None)

    def _tell(self, event: Event, entered: dict[str, Any], now_ns: int) -> None:
        match event:
            case Accepted():
                self._accepted(event, entered, now_ns)
            case Replaced():
                self._replaced(event, entered, now_ns)
            case Executed():
                self._executed(event, now_ns)
            case Canceled():
                self._answer(
                    ouch50.ORDER_CANCELED,
                    now_ns,
                    user_ref_num=event.order_id,
                    quantity=event.canceled_qty,
                    reason=str(event.reason),
                )
            case SelfMatched():
                self._self_matched(event, now_ns)
            case Modified():
                self._answer(
                    ouch50.ORDER_MODIFIED,
                    now_ns,
                    user_ref_num=event.order_id,
                    side=chr(event.side),
                    quantity=event.leaves_qty,
                )
            case Restated():
                self._answer(
                    ouch50.ORDER_RESTATED,
                    now_ns,
                    (
                        (_REFERENCE, event.reference),
                        (_DISPLAY_QTY, event.shown_qty),
                        (_DISPLAY_PRICE, event.price),
                    ),
                    user_ref_num=event.order_id,
                    reason=event.reason,
                )
            case Rejected():
                self._reject(event.order_id, event.reason, entered, now_ns)

    def _accepted(self, event: Accepted, entered: dict[str, Any], now_ns: int) -> None:
        self._answer(
            ouch50.ORDER_ACCEPTED,
            now_ns,
            user_ref_num=event.order_id,
            side=chr(event.side),
            quantity=event.order_qty,
            symbol=entered["symbol"],
            **self._terms(event, entered),
        )

    def _replaced(self, event: Replaced, entered: dict[str, Any], now_ns: int) -> None:
        self._entered.pop(event.orig_order_id)
        self._answer(
            ouch50.ORDER_REPLACED,
            now_ns,
            orig_user_ref_num=event.orig_order_id,
            user_ref_num=event.order_id,
            side=chr(event.side),
            quantity=event.leaves_qty,
            symbol=entered["symbol"],
            **self._terms(event, entered),
        )

    @staticmethod
    def _terms(event: Accepted | Replaced, entered: dict[str, Any]) -> dict[str, Any]:
        """Return what both acknowledgements carry: some of it from the venue, some echoed."""
        echoed = (
            "display",
            "capacity",
            "inter_market_sweep_eligibility",
            "cross_type",
            "cl_ord_id",
        )
        return {name: entered[name] for name in echoed} | {
            "price": event.price,
            "time_in_force": chr(event.time_in_force),
            "order_reference_number": event.reference,
            "order_state": "L",
        }

    def _executed(self, event: Executed, now_ns: int) -> None:
        self._answer(
            ouch50.ORDER_EXECUTED,
            now_ns,
            user_ref_num=event.order_id,
            quantity=event.last_qty,
            price=event.last_price,
            liquidity_flag=event.cross
            or (ADDED_LIQUIDITY if event.is_maker else REMOVED_LIQUIDITY),
            match_number=event.match_number,
        )

    def _self_matched(self, event: SelfMatched, now_ns: int) -> None:
        self._answer(
            ouch50.AIQ_CANCELED,
            now_ns,
            user_ref_num=event.order_id,
            decrement_shares=event.canceled_qty,
            reason=str(CancelReason.SELF_MATCH),
            quantity_prevented_from_trading=event.prevented_qty,
            execution_price=event.price,
            liquidity_flag=REMOVED_LIQUIDITY,
            aiq_strategy=_STRATEGIES[self._self_match],
        )

    def _reject(self, ref: int, reason: int, entered: dict[str, Any], now_ns: int) -> None:
        self._answer(
            ouch50.REJECTED,
            now_ns,
            user_ref_num=ref,
            reason=reason,
            cl_ord_id=entered["cl_ord_id"],
        )

    def _answer(
        self,
        message: ouch50.Message,
        now_ns: int,
        options: Sequence[tuple[int, Value]] = (),
        **values: Value,
    ) -> None:
        data = ouch50.pack(message, {"timestamp": now_ns, **values}, options)
        payload = soupbintcp.wrap(soupbintcp.SEQUENCED_DATA, data)
        self._send(
            tcp_frame(
                self._local,
                self._remote,
                self._sequence,
                self._acknowledgment,
                TcpFlag.ACK | TcpFlag.PSH,
                payload,
            )
        )
        self._sequence = (self._sequence + len(payload)) & 0xFFFF_FFFF


_TIMES_IN_FORCE = {chr(value): value for value in TimeInForce}
