"""The order stage as the specifications have it: frames and records by hand-written offsets.

It is told when the card takes a command or an answer, and what the gate says; what it must send,
write and count follows.

Sources: OUCH 5.0, SoupBinTCP 4.00, RFC 791, RFC 1071, RFC 9293, docs/records.md.
"""

import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from protocol.reasons import DenyReason

ANSWERS_RESERVED = 3
PRICE_END = 2**32 - 1
QUANTITY_END = 2**20 - 1
TRADER_END = 1023
NO_SYMBOL = 0xFFFF

_SENT, _DENIED, _ACCEPTED, _REPLACED = 0x21, 0x22, 0x23, 0x24
_CANCELED, _EXECUTED, _REJECTED = 0x25, 0x26, 0x27
_NEW, _CANCEL, _REPLACE, _MASS_CANCEL = 0x31, 0x32, 0x33, 0x34
_FIN, _RST, _PSH, _ACK = 1, 4, 8, 16
# Bytes of the fixed part of the answers that count, and whether an appendage length is a must.
_ANSWERS = {"A": (62, True), "U": (66, True), "C": (18, False)}
_ANSWERS |= {"D": (32, False), "E": (34, True), "J": (29, False)}
# Bytes of an option's value, by tag. [OUCH 5.0: appendix A]
_OPTIONS = {1: 8, 2: 4, 3: 4, 4: 1, 5: 4, 6: 1, 7: 4, 9: 8, 10: 1, 11: 4, 12: 1, 13: 4, 14: 4}
_OPTIONS |= {15: 4, 16: 1, 17: 1, 18: 1, 22: 4, 23: 8, 24: 2, 25: 1, 26: 4, 27: 1, 28: 1, 29: 1}
_OPTIONS |= {30: 2}

Event = dict[str, int | str]
"""What the gate is told: ``kind`` and the fields that the kind has."""


@dataclass(frozen=True)
class Link:
    """A TCP connection as the host hands it over."""

    local_mac: bytes
    remote_mac: bytes
    local_ip: int
    remote_ip: int
    local_port: int
    remote_port: int
    sequence: int
    acknowledgment: int
    firm: bytes


@dataclass
class Order:
    """An order that may still execute.

    A replacement that is not answered yet has an ``original``, which in its turn has it as
    ``replacement``. Until then nothing of it is open but what it reserves: what it will add to its
    original's shares and money.
    """

    symbol: int
    trader: int
    buys: bool
    price: int
    leaves: int
    executed: int = 0
    """Shares of the whole chain."""
    replacement: int | None = None
    original: int | None = None
    total: int = 0
    """Shares of the whole chain that a replacement asks for, executed ones included."""
    reserved_qty: int = 0
    reserved_money: int = 0

    def reserve(self, original: "Order") -> None:
        """Write what a replacement adds to its original, until the venue answers.

        Either of them may execute, and first some shares at one price and then the rest at the
        other: the shares that are more count at the new price, the others at the higher one.
        """
        leaves = max(self.total - original.executed, 0)
        common = min(leaves, original.leaves)
        self.reserved_qty = leaves - common
        self.reserved_money = self.reserved_qty * self.price
        self.reserved_money += common * max(self.price - original.price, 0)


@dataclass
class OrderEntry:
    """What the card must send, write and count.

    Parameters
    ----------
    stocks : mapping of int to bytes
        Names of symbols, 8 characters.
    symbol_count, order_count : int
        Symbols, and rows for orders: an order has the row of its number modulo ``order_count``.
    gate : callable
        Takes an event of kind ``order`` and returns the reason to deny it.
    """

    stocks: Mapping[int, bytes]
    symbol_count: int
    order_count: int
    gate: Callable[[Event], DenyReason]
    orders: dict[int, Order] = field(default_factory=dict)
    link: Link | None = None
    closed: bool = True
    expected: int = 0
    received: bytes = b""
    answers: deque[bytes] = field(default_factory=deque)
    records: deque[bytes] = field(default_factory=deque)
    payloads: deque[bytes] = field(default_factory=deque)
    acknowledgments: deque[int] = field(default_factory=deque)
    events: deque[Event] = field(default_factory=deque)
    sequence: int = 0
    acknowledgment: int = 0

    def start(self, link: Link) -> None:
        """Take a connection over."""
        self.link, self.closed, self.received = link, False, b""
        self.expected = self.acknowledgment = link.acknowledgment
        self.sequence = link.sequence

    # The wire.

    def frame(self, payload: bytes | None) -> bytes:
        """Return the next frame: a message's, or without one the next acknowledgment's."""
        assert self.link is not None
        link = self.link
        if payload is None:
            self.acknowledgment = self.acknowledgments.popleft()
        flags = _ACK if payload is None else _ACK | _PSH
        data = payload or b""
        ends = struct.pack(">II", link.local_ip, link.remote_ip)
        tcp = struct.pack(
            ">HHIIBBHHH",
            link.local_port,
            link.remote_port,
            self.sequence,
            self.acknowledgment,
            0x50,
            flags,
            0xFFFF,
            0,
            0,
        )
        pseudo = ends + struct.pack(">HH", 6, 20 + len(data))
        tcp = tcp[:16] + struct.pack(">H", 0xFFFF - _sum(pseudo + tcp + data)) + tcp[18:]
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(data), 0, 0x4000, 64, 6, 0) + ends
        ip = ip[:10] + struct.pack(">H", 0xFFFF - _sum(ip)) + ip[12:]
        self.sequence = (self.sequence + len(data)) % 2**32
        return link.remote_mac + link.local_mac + b"\x08\x00" + ip + tcp + data

    def segment(self, frame: bytes) -> bool:
        """Take a frame of the venue. Returns whether it is a sound one of the connection."""
        link = self.link
        if self.closed or link is None or len(frame) < 54 or frame[12:14] != b"\x08\x00":
            return False
        header = (frame[14] & 15) * 4
        total = int.from_bytes(frame[16:18], "big")
        tcp, end = 14 + header, 14 + total
        if frame[14] >> 4 != 4 or header < 20 or not tcp + 20 <= end <= len(frame):
            return False
        if _sum(frame[14:tcp]) != 0xFFFF or frame[23] != 6:
            return False
        pseudo = frame[26:34] + struct.pack(">HH", 6, end - tcp)
        payload_at = tcp + (frame[tcp + 12] >> 4) * 4
        if _sum(pseudo + frame[tcp:end]) != 0xFFFF or not tcp + 20 <= payload_at <= end:
            return False
        ends = struct.unpack(">II", frame[26:34]) + struct.unpack(">HH", frame[tcp : tcp + 4])
        if ends != (link.remote_ip, link.local_ip, link.remote_port, link.local_port):
            return False
        flags, payload = frame[tcp + 13], frame[payload_at:end]
        if flags & _RST:
            self.closed = True
            return True
        if payload:
            if int.from_bytes(frame[tcp + 4 : tcp + 8], "big") == self.expected:
                self.expected = (self.expected + len(payload)) % 2**32
                self.received += payload
            self.acknowledgments.append(self.expected)
            self._split()
        self.closed |= bool(flags & _FIN)
        return True

    def _split(self) -> None:
        while len(self.received) >= 2:
            end = 2 + int.from_bytes(self.received[:2], "big")
            if len(self.received) < end:
                return
            packet, self.received = self.received[2:end], self.received[end:]
            if packet[:1] == b"S":
                self.answers.append(packet[1:])
            self.closed |= packet[:1] == b"Z"

    # Commands.

    def command(self, record: bytes, now_ns: int, session: bool, free: int) -> DenyReason:
        """Take a command. Returns why it is denied."""
        kind = record[0]
        symbol, number = struct.unpack_from("<HI", record, 2)
        decide = {_NEW: self._new, _REPLACE: self._replace}
        decide |= {_CANCEL: self._cancel, _MASS_CANCEL: self._mass_cancel}
        if not session and kind not in (_NEW, _REPLACE):
            reason = DenyReason.SESSION_NOT_READY
        else:
            reason = decide[kind](record, symbol, number, now_ns, session, free)
        told = struct.pack("<HIQ", symbol, number, now_ns) + record[56:64]
        told = bytes([_DENIED if reason else _SENT, 0]) + told
        self.records.append(told + bytes([reason, kind]) if reason else told)
        return reason

    def _new(
        self, record: bytes, symbol: int, number: int, now_ns: int, session: bool, free: int
    ) -> DenyReason:
        side, life, trader, qty, price = struct.unpack_from("<BBHII", record, 16)
        order = Order(symbol, min(trader, TRADER_END), side == ord("B"), price, qty)
        none = replace(order, price=0, leaves=0)
        reason = self._ask(number, order, none, now_ns, session=session, is_open=True, free=free)
        if not reason:
            self.orders[number] = order
            text = str(number).encode().ljust(14)
            # Displayed, as principal, no intermarket sweep, in no cross; no appendage.
            self._send(
                b"O"
                + struct.pack(">IBI", number, side, qty)
                + self._stock(symbol)
                + struct.pack(">QB", price, life)
                + b"YPNN"
                + text
                + b"\0\0"
            )
        return reason

    def _replace(
        self, record: bytes, symbol: int, number: int, now_ns: int, session: bool, free: int
    ) -> DenyReason:
        side, life, trader, total, price, target = struct.unpack_from("<BBHIII", record, 16)
        found = self.orders.get(target)
        original = found
        if original is None or original.original is not None or original.replacement is not None:
            # Not open to it: measured as a new order, as far as it goes.
            original = Order(symbol, min(trader, TRADER_END), side == ord("B"), 0, 0)
        order = replace(
            original,
            price=price,
            leaves=max(total - original.executed, 0),
            executed=0,
            original=target,
            total=total,
        )
        is_open = original is found
        reason = self._ask(
            number, order, original, now_ns, session=session, is_open=is_open, free=free
        )
        if not reason:
            order.leaves = 0
            order.reserve(original)
            original.replacement = number
            self.orders[number] = order
            # Displayed, no intermarket sweep; no appendage.
            self._send(
                b"U"
                + struct.pack(">III", target, number, total)
                + struct.pack(">QB", price, life)
                + b"YN"
                + str(number).encode().ljust(14)
                + b"\0\0"
            )
        return reason

    def _ask(
        self,
        number: int,
        order: Order,
        original: Order,
        now_ns: int,
        *,
        session: bool,
        is_open: bool,
        free: int,
    ) -> DenyReason:
        """Ask the gate for an order, of which its original counts already as it stands."""
        is_free = all((number - other) % self.order_count for other in self.orders)
        event: Event = {
            "kind": "order",
            "symbol_index": order.symbol if self._stock(order.symbol) else NO_SYMBOL,
            "trader": order.trader,
            "buys": order.buys,
            "qty": order.leaves,
            "price": order.price,
            "orig_qty": original.leaves,
            "orig_price": original.price,
            "now_ns": now_ns,
            "session": session,
            "slot": is_free and free >= ANSWERS_RESERVED * (len(self.orders) + 1) + 1,
            "is_open": is_open,
        }
        self.events.append(event)
        return self.gate(event)

    def _cancel(
        self, record: bytes, symbol: int, number: int, now_ns: int, session: bool, free: int
    ) -> DenyReason:
        order = self.orders.get(number)
        if order is None:
            return DenyReason.UNKNOWN_ORDER
        self.events.append({"kind": "message", "trader": order.trader, "now_ns": now_ns})
        self._send(b"X" + struct.pack(">I", number) + record[16:20][::-1])
        return DenyReason.NONE

    def _mass_cancel(
        self, record: bytes, symbol: int, number: int, now_ns: int, session: bool, free: int
    ) -> DenyReason:
        assert self.link is not None
        stock = b" " * 8 if record[1] & 1 else self._stock(symbol)
        if not stock:
            return DenyReason.UNKNOWN_SYMBOL
        self.events.append({"kind": "message", "trader": 0, "now_ns": now_ns})
        firm = self.link.firm.rstrip(b" \0").ljust(4)
        self._send(b"C" + struct.pack(">I", number) + firm + stock + b"\0\0")
        return DenyReason.NONE

    def _stock(self, symbol: int) -> bytes:
        return self.stocks.get(symbol, b"") if symbol < self.symbol_count else b""

    def _send(self, message: bytes) -> None:
        self.payloads.append(struct.pack(">HB", 1 + len(message), ord("U")) + message)

    # Answers.

    def answer(self, now_ns: int) -> str:
        """Take the next answer. Returns its type, or nothing if it is of no use."""
        data = self.answers.popleft()
        kind = data[:1].decode("latin-1")
        if not self._is_sound(kind, data):
            return ""
        ts_venue_ns, number = struct.unpack_from(">QI", data, 1)
        if kind == "U":
            number = struct.unpack_from(">I", data, 13)[0]
        order = self.orders.get(number)
        if order is None:
            return ""
        head = struct.pack("<HIQQ", order.symbol, number, now_ns, ts_venue_ns)
        if kind == "A":
            qty, price = struct.unpack_from(">I", data, 14)[0], self._price(data, 26)
            self._tell(_ACCEPTED, head, data[36:44][::-1], "<IIB", price, qty, data[47])
            if data[47] == ord("D"):
                self._end(number, order.leaves, now_ns)
        elif kind == "U":
            if order.original != struct.unpack_from(">I", data, 9)[0]:
                return ""
            self._replaced(order, number, head, data, now_ns)
        elif kind in ("C", "D"):
            qty = min(struct.unpack_from(">I", data, 13)[0], order.leaves)
            self._tell(_CANCELED, head, b"", "<IB", qty, data[17])
            order.leaves -= qty
            if order.leaves == 0:
                self._end(number, qty, now_ns)
            else:
                self._release(order, qty, qty * order.price, now_ns)
                self._reserve_again(order, now_ns)
        elif kind == "E":
            qty, price = struct.unpack_from(">I", data, 13)[0], self._price(data, 17)
            self._tell(_EXECUTED, head, data[26:34][::-1], "<IIB", price, qty, data[25])
            self._execute(order, number, qty, price, now_ns)
        else:
            self._tell(_REJECTED, head, b"", "<H", struct.unpack_from(">H", data, 13)[0])
            self._end(number, order.leaves, now_ns)
        return kind

    @staticmethod
    def _is_sound(kind: str, data: bytes) -> bool:
        if kind not in _ANSWERS:
            return False
        size, always = _ANSWERS[kind]
        if len(data) == size:
            return not always
        rest = data[size:]
        if len(rest) < 2 or int.from_bytes(rest[:2], "big") != len(rest) - 2:
            return False
        rest = rest[2:]
        while rest:
            length = rest[0]  # Of the tag and its value.
            if length < 1 or len(rest) < 1 + length:
                return False
            if _OPTIONS.get(rest[1], length - 1) != length - 1:
                return False
            rest = rest[1 + length :]
        return True

    @staticmethod
    def _price(data: bytes, at: int) -> int:
        return min(int.from_bytes(data[at : at + 8], "big"), PRICE_END)

    def _tell(self, kind: int, head: bytes, number: bytes, own: str, *values: int) -> None:
        self.records.append(bytes([kind, 0]) + head + number + struct.pack(own, *values))

    def _event(self, kind: str, order: Order, now_ns: int, **own: int) -> None:
        self.events.append(
            {
                "kind": kind,
                "symbol_index": order.symbol,
                "trader": order.trader,
                "buys": order.buys,
                "price": order.price,
                "now_ns": now_ns,
                **own,
            }
        )

    def _release(self, order: Order, qty: int, money: int, now_ns: int, ends: bool = False) -> None:
        self._event("release", order, now_ns, qty=qty, money=money, ends=ends)

    def _reserve_again(self, order: Order, now_ns: int) -> None:
        """Let what was taken off an order stay open for the replacement that will open it again."""
        if order.replacement is not None:
            other = self.orders[order.replacement]
            qty, money = other.reserved_qty, other.reserved_money
            other.reserve(order)
            self._release(other, qty - other.reserved_qty, money - other.reserved_money, now_ns)

    def _end(self, number: int, qty: int, now_ns: int) -> None:
        """Forget an order of which ``qty`` shares still count as open."""
        order = self.orders.pop(number)
        qty, money = qty + order.reserved_qty, qty * order.price + order.reserved_money
        self._release(order, qty, money, now_ns, ends=True)
        self._part(order, now_ns)

    def _part(self, order: Order, now_ns: int) -> None:
        """An order has ended: so has its replacement, and its original may be replaced again."""
        if order.original is not None:
            self.orders[order.original].replacement = None
        if order.replacement is not None:
            other = self.orders.pop(order.replacement)
            self._release(other, other.reserved_qty, other.reserved_money, now_ns, ends=True)

    def _replaced(self, order: Order, number: int, head: bytes, data: bytes, now_ns: int) -> None:
        assert order.original is not None
        target, original = order.original, self.orders.pop(order.original)
        told_qty = struct.unpack_from(">I", data, 18)[0]
        self._tell(
            _REPLACED,
            *(head, data[40:48][::-1], "<IIB3xI"),
            *(self._price(data, 30), told_qty, data[51], target),
        )
        leaves = min(told_qty, QUANTITY_END)
        qty = original.leaves + order.reserved_qty - leaves
        money = original.leaves * original.price + order.reserved_money - leaves * order.price
        self._release(original, qty, money, now_ns, ends=True)
        order.leaves, order.executed = leaves, original.executed
        order.original, order.reserved_qty, order.reserved_money = None, 0, 0
        if data[51] == ord("D"):
            self._end(number, leaves, now_ns)

    def _execute(self, order: Order, number: int, qty: int, price: int, now_ns: int) -> None:
        beyond = min(max(qty - order.leaves, 0), QUANTITY_END)
        order.leaves -= min(qty, order.leaves)
        order.executed += qty
        ends = order.leaves == 0
        # What a replacement reserves is let go when it ends, even before it is answered.
        more, money = order.reserved_qty - beyond, order.reserved_money - beyond * order.price
        if beyond or order.original is not None:
            self._release(order, more, money, now_ns)
        self._event("execute", order, now_ns, qty=qty, last_price=price, ends=ends)
        if ends:
            del self.orders[number]
            self._part(order, now_ns)


def _sum(data: bytes) -> int:
    """Return the one's complement sum of 16-bit words. [RFC 1071]"""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total
