"""Risk gate and order stage: commands in, OUCH 5.0 over SoupBinTCP over TCP out, answers back."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kernels.exposure import Rate
from kernels.risk import LevelLimits, Limits, Market, added_notional
from protocol import ouch50, ring, soupbintcp
from protocol.frames import Address, Segment, tcp_frame
from protocol.ip import TcpFlag
from protocol.layout import DecodeError, Layout, Value
from protocol.orders import Side
from protocol.reasons import DenyReason
from protocol.ring import LevelLimitsFlag, LimitsFlag, MassCancelFlag, RecordType
from protocol.risk import RiskLevel
from sw.ring import RingWriter
from sw.risk import Risk, narrowed

TRADERS = 16
"""Traders that the card knows, and as many desks."""

ANSWERS_RESERVED = 3
"""Execution slots kept for every open order: accepted, executed, and its end."""

_SEQUENCE_MASK = 0xFFFF_FFFF

_PRICE_MAX = 0xFFFF_FFFF
"""Highest price of a record; OUCH has eight bytes for one, and allows far less. [1.2]"""

_SEQUENCED_DATA = bytes((soupbintcp.SEQUENCED_DATA.code,))
_END_OF_SESSION = bytes((soupbintcp.END_OF_SESSION.code,))


@dataclass(slots=True)
class CardOrder:
    """What the card remembers of an order that may still execute, in shares."""

    symbol_index: int
    trader: int
    side: int
    price: int
    leaves_qty: int
    cum_qty: int = 0
    replacement: int | None = None
    """Its replacement that is not answered yet; there is never more than one."""
    orig_cl_ord_id: int | None = None
    """For such a replacement: the order that still stands."""
    order_qty: int = 0
    """And the shares of the whole chain."""
    reserved_qty: int = 0
    """Shares it counts as open on top of its original's."""
    reserved_notional: int = 0
    """The same in money."""

    @property
    def buys(self) -> bool:
        return self.side == Side.BUY


@dataclass(slots=True)
class Connection:
    """The TCP connection that the host handed over."""

    local: Address
    remote: Address
    sequence: int
    acknowledgment: int
    firm: str
    received: bytearray = field(default_factory=bytearray)
    """Bytes in order that are not yet a whole packet."""


class OrderPath:
    """The card's half of order entry.

    Every order passes the gate, which asks the same kernels as the host does. All limits come up
    closed. An order is only sent when slots for its answers are free beyond those reserved for the
    orders that are open; when a run of partial executions uses them up, answers wait on the card
    until the host has made room, even beyond the connection's end, so that none is ever lost.

    Parameters
    ----------
    symbol_count : int
        Symbols.
    writer : RingWriter
        The execution ring.
    market : callable
        Called with a symbol index; returns what the gate must know of its market.
    symbol_name : callable
        Called with a symbol index; returns the 8 characters of an order, or empty for none.
    send : callable
        Takes a frame for the venue.
    """

    def __init__(
        self,
        symbol_count: int,
        writer: RingWriter,
        market: Callable[[int], Market],
        symbol_name: Callable[[int], str],
        send: Callable[[bytes], None],
    ):
        self._writer = writer
        self._market = market
        self._symbol_name = symbol_name
        self._send = send
        self._symbol_count = symbol_count
        self.risk = Risk(symbol_count, range(TRADERS))
        self._orders: dict[int, CardOrder] = {}
        self._waiting: deque[bytes] = deque()  # Answers without a slot yet.
        self.connection: Connection | None = None
        self.denials = [0] * len(DenyReason)
        self.sent_count = 0
        self.answer_count = 0

    @property
    def high_water(self) -> int:
        return self._writer.high_water

    @property
    def can_answer(self) -> bool:
        """Whether a command may be taken: even its denial needs a slot."""
        return self._writer.free > 0

    # Commands.

    def command(self, record: bytes, now_ns: int) -> None:
        """Take one record of the command ring."""
        layout = ring.COMMAND.by_code.get(record[0])
        if layout is None:
            return
        fields = layout.unpack(record)
        numbers = {name: value for name, value in fields.items() if isinstance(value, int)}
        if record[0] == RecordType.LIMITS:
            self._set_limits(numbers)
            return
        if record[0] == RecordType.LEVEL_LIMITS:
            self._set_level_limits(numbers)
            return
        handler = {
            RecordType.NEW: self._new,
            RecordType.REPLACE: self._replace,
            RecordType.CANCEL: self._cancel,
            RecordType.MASS_CANCEL: self._mass_cancel,
        }.get(RecordType(record[0]))
        if handler is None:
            return
        reason = handler(numbers, now_ns)
        if reason is DenyReason.NONE:
            self.sent_count += 1
            self._put(ring.SENT, now_ns, numbers, command_sequence=numbers["sequence"])
        else:
            self.denials[reason] += 1
            self._put(
                ring.DENIED,
                now_ns,
                numbers,
                command_sequence=numbers["sequence"],
                reason=reason,
                command_type=record[0],
            )

    def _set_limits(self, command: dict[str, int]) -> None:
        """Take a symbol's limits. One that is too wide for the gate becomes its highest."""
        if command["symbol_index"] < self._symbol_count:
            is_restricted = bool(command["flags"] & LimitsFlag.RESTRICTED)
            self.risk.set_limits(
                command["symbol_index"], narrowed(Limits, command | {"restricted": is_restricted})
            )

    def _set_level_limits(self, command: dict[str, int]) -> None:
        """Take the limits of a trader, a desk or the firm, and of the former the kill switch."""
        index = command["level_index"]
        if command["level"] not in tuple(RiskLevel) or index >= TRADERS:
            return
        level = RiskLevel(command["level"])
        rate = narrowed(
            Rate, {"burst_ns": command["rate_burst_ns"], "interval_ns": command["rate_interval_ns"]}
        )
        if level is RiskLevel.TRADER and command["desk_index"] < TRADERS:
            self.risk.assign(index, command["desk_index"])
        if level is RiskLevel.FIRM:
            index = 0
        else:
            self.risk.kill(level, index, bool(command["flags"] & LevelLimitsFlag.KILLED))
        self.risk.set_level(level, index, narrowed(LevelLimits, command), rate)

    @property
    def killed(self) -> bool:
        """The kill switch of the firm."""
        return self.risk.killed

    @killed.setter
    def killed(self, on: bool) -> None:
        self.risk.killed = on

    def _has_slots(self, cl_ord_id: int) -> bool:
        """Whether there is room for one more order's answers; none for a number that is in use."""
        wanted = ANSWERS_RESERVED * (len(self._orders) + 1) + 1
        return cl_ord_id not in self._orders and self._writer.free >= wanted

    def _prepare(self, index: int) -> int:
        """Tell the gate of a symbol's market. Returns the index to ask for; none without a name."""
        if index >= self._symbol_count or not self._symbol_name(index):
            return -1
        self.risk.set_market(index, self._market(index))
        return index

    def _new(self, command: dict[str, int], now_ns: int) -> DenyReason:
        index, side, qty = command["symbol_index"], command["side"], command["order_qty"]
        order = CardOrder(index, command["trader_index"], side, command["price"], qty)
        reason = self.risk.decide(
            self._prepare(index),
            order.trader,
            order.buys,
            qty,
            order.price,
            now_ns,
            session=self.connection is not None,
            slot=self._has_slots(command["cl_ord_id"]),
        )
        if reason is not DenyReason.NONE:
            return reason
        self._orders[command["cl_ord_id"]] = order
        self._send_ouch(
            ouch50.ENTER_ORDER,
            user_ref_num=command["cl_ord_id"],
            side=chr(side),
            quantity=qty,
            symbol=self._symbol_name(index),
            price=order.price,
            time_in_force=chr(command["time_in_force"]),
            display="Y",
            capacity="P",
            inter_market_sweep_eligibility="N",
            cross_type="N",
            cl_ord_id=str(command["cl_ord_id"]),
        )
        return DenyReason.NONE

    def _replace(self, command: dict[str, int], now_ns: int) -> DenyReason:
        orig = self._orders.get(command["orig_cl_ord_id"])
        is_open = orig is not None and orig.orig_cl_ord_id is None and orig.replacement is None
        if orig is None or not is_open:  # Measured as a new order, as far as it goes.
            orig = CardOrder(
                command["symbol_index"], command["trader_index"], command["side"], 0, 0
            )
        index, total, price = orig.symbol_index, command["order_qty"], command["price"]
        leaves = max(total - orig.cum_qty, 0)
        replacement = CardOrder(
            index,
            orig.trader,
            orig.side,
            price,
            0,
            orig_cl_ord_id=command["orig_cl_ord_id"],
            order_qty=total,
        )
        reason = self.risk.decide_replacement(
            self._prepare(index),
            orig.trader,
            orig.buys,
            leaves,
            price,
            orig.leaves_qty,
            orig.price,
            now_ns,
            session=self.connection is not None,
            is_open=is_open,
            slot=self._has_slots(command["cl_ord_id"]),
        )
        if reason is not DenyReason.NONE:
            return reason
        self._set_aside(replacement, orig)
        orig.replacement = command["cl_ord_id"]
        self._orders[command["cl_ord_id"]] = replacement
        self._send_ouch(
            ouch50.REPLACE_ORDER_REQUEST,
            orig_user_ref_num=command["orig_cl_ord_id"],
            user_ref_num=command["cl_ord_id"],
            quantity=total,
            price=price,
            time_in_force=chr(command["time_in_force"]),
            display="Y",
            inter_market_sweep_eligibility="N",
            cl_ord_id=str(command["cl_ord_id"]),
        )
        return DenyReason.NONE

    @staticmethod
    def _set_aside(replacement: CardOrder, orig: CardOrder) -> None:
        """Write what a replacement counts on top of its original."""
        leaves = max(replacement.order_qty - orig.cum_qty, 0)
        replacement.reserved_qty = max(leaves - orig.leaves_qty, 0)
        replacement.reserved_notional = added_notional(
            replacement.price, leaves, orig.price, orig.leaves_qty
        )

    def _cancel(self, command: dict[str, int], now_ns: int) -> DenyReason:
        """Send a cancel. It lowers risk, so the kill switch and the limits do not stop it."""
        if self.connection is None:
            return DenyReason.SESSION_NOT_READY
        order = self._orders.get(command["cl_ord_id"])
        if order is None:
            return DenyReason.UNKNOWN_ORDER
        self.risk.count_message(order.trader, now_ns)
        self._send_ouch(
            ouch50.CANCEL_ORDER_REQUEST,
            user_ref_num=command["cl_ord_id"],
            quantity=command["order_qty"],
        )
        return DenyReason.NONE

    def _mass_cancel(self, command: dict[str, int], now_ns: int) -> DenyReason:
        if self.connection is None:
            return DenyReason.SESSION_NOT_READY
        every, index = command["flags"] & MassCancelFlag.ALL_SYMBOLS, command["symbol_index"]
        symbol = self._symbol_name(index) if not every and index < self._symbol_count else ""
        if not every and not symbol:  # To the venue no symbol means all of them.
            return DenyReason.UNKNOWN_SYMBOL
        self.risk.count_message(0, now_ns)
        self._send_ouch(
            ouch50.MASS_CANCEL_REQUEST,
            user_ref_num=command["cl_ord_id"],
            firm=self.connection.firm,
            symbol=symbol,
        )
        return DenyReason.NONE

    def _release(self, order: CardOrder, qty: int, notional: int, ends: bool = False) -> None:
        self.risk.release(
            order.symbol_index, order.trader, order.buys, order.price, qty, notional, ends
        )

    # Connection.

    def _send_ouch(self, message: ouch50.Message, **values: Value) -> None:
        packet = soupbintcp.wrap(soupbintcp.UNSEQUENCED_DATA, ouch50.pack(message, values))
        self._send_segment(TcpFlag.ACK | TcpFlag.PSH, packet)

    def _send_segment(self, flags: TcpFlag, payload: bytes = b"") -> None:
        link = self.connection
        if link is None:
            return
        self._send(
            tcp_frame(link.local, link.remote, link.sequence, link.acknowledgment, flags, payload)
        )
        link.sequence = (link.sequence + len(payload)) & _SEQUENCE_MASK

    def receive(self, segment: Segment, now_ns: int) -> None:
        """Take a segment of the connection; those out of order are acknowledged and not used."""
        link = self.connection
        if link is None or (
            (segment.source_ip, segment.source_port) != (link.remote.ip, link.remote.port)
            or (segment.destination_ip, segment.destination_port)
            != (link.local.ip, link.local.port)
        ):
            return
        if segment.flags & TcpFlag.RST:
            self.connection = None
            return
        if segment.payload:
            if segment.sequence == link.acknowledgment:
                link.acknowledgment += len(segment.payload)
                link.acknowledgment &= _SEQUENCE_MASK
                link.received += segment.payload
            self._send_segment(TcpFlag.ACK)
            self._split(link)
            self.take_answers(now_ns)
        if segment.flags & TcpFlag.FIN:
            self.connection = None

    def _split(self, link: Connection) -> None:
        """Take the whole packets out of the received bytes. One without a type means nothing."""
        while len(link.received) >= 2:
            end = 2 + int.from_bytes(link.received[:2], "big")
            if len(link.received) < end:
                return
            packet = bytes(link.received[2:end])
            del link.received[:end]
            if packet[:1] == _SEQUENCED_DATA:
                self._waiting.append(packet[1:])
            elif packet[:1] == _END_OF_SESSION:
                self.connection = None

    def take_answers(self, now_ns: int) -> None:
        """Turn received packets into execution records, as far as there are slots for them."""
        while self._waiting and self._writer.free:
            self.answer_count += 1
            self._answer(self._waiting.popleft(), now_ns)

    def _answer(self, data: bytes, now_ns: int) -> None:
        try:
            message, values, _ = ouch50.unpack(ouch50.OUTBOUND, data)
        except DecodeError:
            return
        handler = {
            ouch50.ORDER_ACCEPTED.code: self._accepted,
            ouch50.ORDER_REPLACED.code: self._replaced,
            ouch50.ORDER_CANCELED.code: self._canceled,
            ouch50.AIQ_CANCELED.code: self._canceled,
            ouch50.ORDER_EXECUTED.code: self._executed,
            ouch50.REJECTED.code: self._rejected,
        }.get(message.code)
        order = self._orders.get(int(values.get("user_ref_num", 0)))
        if handler is not None and order is not None:
            handler(order, values, now_ns)

    def _accepted(self, order: CardOrder, values: dict[str, Any], now_ns: int) -> None:
        self._answered(
            ring.ACCEPTED,
            order,
            values,
            now_ns,
            venue_order_id=values["order_reference_number"],
            price=min(values["price"], _PRICE_MAX),
            order_qty=values["quantity"],
            order_state=ord(values["order_state"]),
        )
        if values["order_state"] == "D":
            self._end(order, values["user_ref_num"])

    def _replaced(self, order: CardOrder, values: dict[str, Any], now_ns: int) -> None:
        orig_id = values["orig_user_ref_num"]
        if order.orig_cl_ord_id != orig_id:
            return
        orig = self._orders.pop(orig_id)
        leaves = values["quantity"]
        self._release(
            orig,
            orig.leaves_qty + order.reserved_qty - leaves,
            orig.leaves_qty * orig.price + order.reserved_notional - leaves * order.price,
            ends=True,
        )
        order.leaves_qty, order.cum_qty = leaves, orig.cum_qty
        order.orig_cl_ord_id = None
        order.reserved_qty = order.reserved_notional = 0
        self._answered(
            ring.REPLACED,
            order,
            values,
            now_ns,
            venue_order_id=values["order_reference_number"],
            price=min(values["price"], _PRICE_MAX),
            leaves_qty=leaves,
            order_state=ord(values["order_state"]),
            orig_cl_ord_id=orig_id,
        )
        if values["order_state"] == "D":
            self._end(order, values["user_ref_num"])

    def _canceled(self, order: CardOrder, values: dict[str, Any], now_ns: int) -> None:
        # Self-match prevention has a message of its own, which calls the shares otherwise.
        gone = values.get("quantity", values.get("decrement_shares", 0))
        qty = min(int(gone), order.leaves_qty)
        order.leaves_qty -= qty
        self._release(order, qty, qty * order.price)
        self._reserve(order)
        self._answered(
            ring.CANCELED,
            order,
            values,
            now_ns,
            canceled_qty=qty,
            reason=ord(values["reason"]),
        )
        if order.leaves_qty == 0:
            self._end(order, values["user_ref_num"])

    def _executed(self, order: CardOrder, values: dict[str, Any], now_ns: int) -> None:
        qty = values["quantity"]
        price = min(values["price"], _PRICE_MAX)
        beyond = max(qty - order.leaves_qty, 0)
        if beyond:  # More than was open: it was executed, so it counts.
            self._release(order, -beyond, -beyond * order.price)
        order.leaves_qty -= qty - beyond
        order.cum_qty += qty
        self.risk.execute(
            order.symbol_index, order.trader, order.buys, order.price, price, qty, False
        )
        self._answered(
            ring.EXECUTED,
            order,
            values,
            now_ns,
            match_number=values["match_number"],
            last_price=price,
            last_qty=qty,
            liquidity_flag=ord(values["liquidity_flag"]),
        )
        if order.leaves_qty == 0:
            self._end(order, values["user_ref_num"])

    def _rejected(self, order: CardOrder, values: dict[str, Any], now_ns: int) -> None:
        self._answered(ring.REJECTED, order, values, now_ns, reason=values["reason"])
        self._end(order, values["user_ref_num"])

    def _reserve(self, order: CardOrder) -> None:
        """Let what was taken off an order stay open for the replacement that will open it again."""
        if order.replacement is not None:
            other = self._orders[order.replacement]
            qty, notional = other.reserved_qty, other.reserved_notional
            self._set_aside(other, order)
            self._release(other, qty - other.reserved_qty, notional - other.reserved_notional)

    def _end(self, order: CardOrder, cl_ord_id: int) -> None:
        """Forget an order, and the replacement that was under way for it."""
        self._release(
            order,
            order.leaves_qty + order.reserved_qty,
            order.leaves_qty * order.price + order.reserved_notional,
            ends=True,
        )
        del self._orders[cl_ord_id]
        if order.orig_cl_ord_id is not None:
            self._orders[order.orig_cl_ord_id].replacement = None
        if order.replacement is not None:
            other = self._orders[order.replacement]
            other.orig_cl_ord_id = None
            self._end(other, order.replacement)

    def _answered(
        self,
        layout: Layout,
        order: CardOrder,
        values: dict[str, Any],
        now_ns: int,
        **own: Value,
    ) -> None:
        head = {
            "symbol_index": order.symbol_index,
            "cl_ord_id": values["user_ref_num"],
        }
        self._put(layout, now_ns, head, ts_venue_ns=values["timestamp"], **own)

    def _put(self, layout: Layout, now_ns: int, head: dict[str, int], **own: Value) -> None:
        self._writer.put(
            layout.pack(
                symbol_index=head["symbol_index"],
                cl_ord_id=head["cl_ord_id"],
                ts_card_ns=now_ns,
                **own,
            )
        )
