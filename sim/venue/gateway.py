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
    Event,
    Executed,
    MatchingEngine,
    NewOrder,
    Rejected,
    Replaced,
)

ADDED_LIQUIDITY = "A"
REMOVED_LIQUIDITY = "R"
"""Liquidity flags. [OUCH 5.0: Appendix E]"""

REJECT_INVALID_SIDE = 0x09
REJECT_OTHER = 0x0F
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
    ):
        self._engine = engine
        self._locate_of = locate_of
        self._local = local
        self._remote = remote
        self._sequence = sequence
        self._acknowledgment = acknowledgment
        self._send = send
        self._received = bytearray()
        self._last_ref = 0
        self._entered: dict[int, dict[str, Any]] = {}
        self._order_reference = 0

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
            message, values, _ = ouch50.unpack(ouch50.INBOUND, data)
        except DecodeError:
            return
        handler = {
            ouch50.ENTER_ORDER.code: self._enter,
            ouch50.REPLACE_ORDER_REQUEST.code: self._replace,
            ouch50.CANCEL_ORDER_REQUEST.code: self._cancel,
            ouch50.MASS_CANCEL_REQUEST.code: self._mass_cancel,
        }.get(message.code)
        if handler is not None:
            handler(values, now_ns)

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
        self._entered[ref] = values
        self.publish(
            self._engine.enter(
                NewOrder(
                    ref,
                    locate,
                    Side(ord(values["side"])),
                    values["quantity"],
                    values["price"],
                    _TIMES_IN_FORCE[values["time_in_force"]],
                )
            ),
            now_ns,
        )

    def _replace(self, values: dict[str, Any], now_ns: int) -> None:
        orig, ref = values["orig_user_ref_num"], values["user_ref_num"]
        is_live = orig in self._entered and self._engine.order(orig) is not None
        if not is_live or ref <= self._last_ref:
            return  # Silently ignored; the number may be used again. [2.2]
        self._last_ref = ref
        self._entered[ref] = self._entered[orig] | values
        self.publish(
            self._engine.replace(
                orig,
                ref,
                values["quantity"],
                values["price"],
                _TIMES_IN_FORCE.get(values["time_in_force"], TimeInForce.DAY),
            ),
            now_ns,
        )

    def _cancel(self, values: dict[str, Any], now_ns: int) -> None:
        ref, qty = values["user_ref_num"], values["quantity"]
        if ref in self._entered:
            self.publish(self._engine.cancel(ref, qty), now_ns)

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
            if isinstance(event, Accepted) and entered is not None:
                self._accepted(event, entered, now_ns)
            elif isinstance(event, Replaced) and entered is not None:
                self._replaced(event, entered, now_ns)
            elif isinstance(event, Executed) and entered is not None:
                self._executed(event, now_ns)
            elif isinstance(event, Canceled) and entered is not None:
                self._answer(
                    ouch50.ORDER_CANCELED,
                    now_ns,
                    user_ref_num=event.order_id,
                    quantity=event.canceled_qty,
                    reason=str(event.reason),
                )
            elif isinstance(event, Rejected) and entered is not None:
                self._reject(event.order_id, event.reason, entered, now_ns)
        for order_id in {event.order_id for event in events}:
            if self._engine.order(order_id) is None:
                self._entered.pop(order_id, None)

    def _accepted(self, event: Accepted, entered: dict[str, Any], now_ns: int) -> None:
        self._answer(
            ouch50.ORDER_ACCEPTED,
            now_ns,
            user_ref_num=event.order_id,
            side=chr(event.side),
            quantity=event.order_qty,
            symbol=entered["symbol"],
            price=event.price,
            **self._echo(entered),
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
            price=event.price,
            **self._echo(entered),
        )

    def _echo(self, entered: dict[str, Any]) -> dict[str, Any]:
        """Return what both acknowledgements carry besides the order's terms."""
        self._order_reference += 1
        names = (
            "time_in_force",
            "display",
            "capacity",
            "inter_market_sweep_eligibility",
            "cross_type",
            "cl_ord_id",
        )
        return {name: entered[name] for name in names} | {
            "order_reference_number": self._order_reference,
            "order_state": "L",
        }

    def _executed(self, event: Executed, now_ns: int) -> None:
        self._answer(
            ouch50.ORDER_EXECUTED,
            now_ns,
            user_ref_num=event.order_id,
            quantity=event.last_qty,
            price=event.last_price,
            liquidity_flag=ADDED_LIQUIDITY if event.is_maker else REMOVED_LIQUIDITY,
            match_number=event.match_number,
        )

    def _reject(self, ref: int, reason: int, entered: dict[str, Any], now_ns: int) -> None:
        self._answer(
            ouch50.REJECTED,
            now_ns,
            user_ref_num=ref,
            reason=reason,
            cl_ord_id=entered["cl_ord_id"],
        )

    def _answer(self, message: ouch50.Message, now_ns: int, **values: Value) -> None:
        data = ouch50.pack(message, {"timestamp": now_ns, **values})
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
