"""The venue's end of an order connection in a bench: segments with answers, good and spoilt."""

import random
import struct
from collections.abc import Callable, Mapping

from protocol.ip import checksum
from sim.golden.order import Link, Order

FIN, RST, PSH, ACK = 1, 4, 8, 16


def segment(
    link: Link,
    sequence: int,
    payload: bytes,
    flags: int = ACK,
    fault: str = "",
    chance: random.Random | None = None,
) -> bytes:
    """Return a frame of the venue with one fault, or none."""
    chance = chance or random.Random(0)
    source, target = link.remote_ip, link.local_ip
    ports = [link.remote_port, link.local_port]
    if fault in ("source", "target"):
        bit = 1 << chance.randrange(32)
        source, target = (source ^ bit, target) if fault == "source" else (source, target ^ bit)
    if fault in ("source port", "target port"):
        ports[fault == "target port"] ^= 1 << chance.randrange(16)
    ip_options = chance.randbytes(4 * chance.choice([0, 0, 0, 1, 10]))
    tcp_options = chance.randbytes(4 * chance.choice([0, 0, 3, 10]))
    offset = 5 + len(tcp_options) // 4
    if fault == "offset":
        offset = chance.choice([0, 4, 15 if len(payload) < 4 * (15 - offset) else 3])
    ends = struct.pack(">II", source, target)
    tcp = struct.pack(
        ">HHIIBBHHH",
        *ports,
        sequence % 2**32,
        chance.getrandbits(32),
        offset << 4,
        flags,
        chance.getrandbits(16),
        0,
        0,
    )
    body = tcp + tcp_options + payload
    value = checksum(ends + struct.pack(">HH", 6, len(body)) + body)
    if fault == "tcp checksum":
        value ^= 1 << chance.randrange(16)
    body = body[:16] + struct.pack(">H", value) + body[18:]
    total = 20 + len(ip_options) + len(body)
    if fault == "total":
        total += chance.choice([1, 100, -1, -len(body), -total])
    version_ihl = 0x45 + len(ip_options) // 4
    if fault == "version":
        version_ihl ^= chance.choice([0x10, 0x20, 0x40])
    protocol = chance.choice([17, 1]) if fault == "protocol" else 6
    ip = struct.pack(">BBHHHBBH", version_ihl, 0, total, 7, 0x4000, 64, protocol, 0)
    ip += ends + ip_options
    value = checksum(ip)
    if fault == "ip checksum":
        value ^= 1 << chance.randrange(16)
    ip = ip[:10] + struct.pack(">H", value) + ip[12:]
    ether_type = b"\x86\xdd" if fault == "type" else b"\x08\x00"
    frame = link.local_mac + link.remote_mac + ether_type + ip + body
    if fault == "cut":
        frame = frame[: chance.randrange(15, len(frame))]
    elif len(frame) < 60:
        frame = frame + chance.randbytes(60 - len(frame))  # Padding counts in no sum.
    return frame


FAULTS = (
    *("source", "target", "source port", "target port", "offset", "tcp checksum"),
    *("ip checksum", "total", "version", "protocol", "type", "cut", "fcs"),
)


class Answers:
    """Makes up SoupBinTCP packets with answers to orders, and with everything else there is.

    ``note`` is told of appendages. No answer is about more shares than ``qty_max``.
    """

    def __init__(
        self, chance: random.Random, note: Callable[[str], None], qty_max: int = 2**32 - 1
    ):
        self._chance = chance
        self._note = note
        self._qty_max = qty_max

    def packet(self, orders: Mapping[int, Order]) -> bytes:
        """Return a packet about one of the orders, or about none."""
        chance, kind = self._chance, self._chance.random()
        if kind < 0.06:
            return b"\0\0" if chance.random() < 0.3 else b"\0\x01H"
        if kind < 0.1:
            data = chance.randbytes(chance.randrange(1, 20))
            return struct.pack(">H", 1 + len(data)) + b"+" + data
        data = self.message(orders)
        return struct.pack(">H", 1 + len(data)) + b"S" + data

    def message(self, orders: Mapping[int, Order]) -> bytes:
        chance = self._chance
        number = chance.choice(list(orders)) if orders else chance.randrange(100)
        original = orders[number].original if number in orders else None
        if chance.random() < 0.05:
            number ^= 1 << chance.randrange(32)
        head = struct.pack(">QI", chance.getrandbits(47), number)
        qty = chance.choice([1, 100, chance.randrange(1, 400), chance.randrange(1, 1000)])
        if chance.random() < 0.02:
            qty = min(chance.choice([0, 999_999, 2**20 - 1, 2**32 - 1]), self._qty_max)
        price = chance.choice([chance.randrange(1, 2**31), 2**32, 2**63 + 5, 2**32 - 1])
        kind = chance.choices("ACDEJUSPBI", (28, 14, 10, 28, 8, 2, 2, 2, 2, 1))[0]
        if original is not None and chance.random() < 0.8:
            kind = chance.choice("UUUUUUUJ")
        state = b"D" if chance.random() < 0.15 else b"L"
        wild = chance.randbytes
        if kind == "A":
            data = head + b"B" + struct.pack(">I", qty) + wild(8) + struct.pack(">Q", price)
            data += wild(2) + wild(8) + wild(3) + state + wild(14)
        elif kind == "U":
            if original is None or chance.random() < 0.1:
                original = chance.choice([number, chance.getrandbits(32), *orders])
            data = head[:8] + struct.pack(">I", original) + head[8:] + wild(1)
            data += struct.pack(">I", qty) + wild(8) + struct.pack(">Q", price)
            data += wild(2) + wild(8) + wild(3) + state + wild(14)
        elif kind == "C":
            data = head + struct.pack(">I", qty) + wild(1)
        elif kind == "D":
            data = head + struct.pack(">I", qty) + b"Q" + wild(14)
        elif kind == "E":
            data = head + struct.pack(">IQ", qty, price) + wild(1) + wild(8)
        elif kind == "J":
            data = head + wild(2) + wild(14)
        else:
            data = head + wild(chance.randrange(30))
        return kind.encode() + data + self._appendage(kind)

    def _appendage(self, kind: str) -> bytes:
        chance = self._chance
        if kind not in "AUE" and chance.random() < 0.6:
            self._note(f"{kind} without appendage")
            return b""
        what = chance.choices(
            ("none", "options", "long", "short", "wrong size", "cut", "empty option", "missing"),
            (30, 30, 1, 1, 1, 1, 1, 1),
        )[0]
        if kind in "ACDEJU":
            self._note(f"appendage: {what}")
        if what == "missing":
            return b"" if kind in "AUE" else b"\0"
        options = b""
        if what != "none":
            for _ in range(chance.randrange(1, 4)):
                tag, size = chance.choice(
                    [(1, 8), (2, 4), (4, 1), (24, 2), (30, 2), (99, 5), (8, 0)]
                )
                options += bytes([size + 1, tag]) + chance.randbytes(size)
        if what == "wrong size":
            options += bytes([4, 2]) + b"ABC"
        if what == "cut":
            options += bytes([5, 2]) + b"ABC"
        if what == "empty option":
            options += bytes([0])
        claimed = len(options) + {"long": 1, "short": -1}.get(what, 0)
        return struct.pack(">H", claimed) + options
