"""The golden model of the order stage against the card in plain Python, whole random days.

Each has a gate of its own, so that what the model tells its gate is compared as well: one decision
that differs, or an exposure, and the two go apart.
"""

import os
import random
import struct

from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether

from kernels.exposure import MONEY_MAX, POSITION_MAX, token_bucket
from kernels.risk import LevelLimits, Limits, Market
from protocol.frames import Address, parse_tcp
from protocol.layout import DecodeError
from protocol.market import MarketPhase
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sim.card.functional.order import TRADERS, Connection, OrderPath
from sim.golden.order import NO_SYMBOL, Event, Link, OrderEntry
from sim.tb.order_venue import ACK, FAULTS, FIN, RST, Answers, segment
from sw.ring import RingReader, RingWriter, ring_size
from sw.risk import Risk

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
NEW, CANCEL, REPLACE, MASS_CANCEL = 0x31, 0x32, 0x33, 0x34
SYMBOLS, ROWS, SLOTS = 4, 1 << 16, 256
PRICE = 1_000_000
MARKET = Market(PRICE - 100, PRICE + 100, phase=MarketPhase.REGULAR)
LIMITS = Limits(
    qty_max=900,
    notional_max=10**12,
    position_max=3_000,
    price_band_bp=1_000,
    tick_size=1,
    locate_qty=POSITION_MAX,
    duplicate_window_ns=0,
    phases=1 << MarketPhase.REGULAR,
    restricted=False,
)


def open_limits(risk: Risk) -> None:
    """Let most orders pass, but not all."""
    for symbol in range(SYMBOLS):
        risk.set_limits(symbol, LIMITS)
        risk.set_market(symbol, MARKET)
    for level, index in risk.levels:
        risk.set_level(level, index, LevelLimits(MONEY_MAX, MONEY_MAX), token_bucket(10**9, 1))
        risk.kill(level, index, False)


class Gate:
    """The gate of the golden model."""

    def __init__(self) -> None:
        self.risk = Risk(SYMBOLS, range(TRADERS))
        open_limits(self.risk)

    def decide(self, event: Event) -> DenyReason:
        asked = {name: int(value) for name, value in event.items() if name != "kind"}
        return self.risk.decide_replacement(
            asked["symbol_index"] if asked["symbol_index"] != NO_SYMBOL else -1,
            asked["trader"],
            bool(asked["buys"]),
            *(asked[name] for name in ("qty", "price", "orig_qty", "orig_price", "now_ns")),
            **{name: bool(asked[name]) for name in ("session", "is_open", "slot")},
        )

    def count(self, event: Event) -> None:
        """Take what is not decided on."""
        kind = event["kind"]
        asked = {name: int(value) for name, value in event.items() if name != "kind"}
        if kind == "message":
            self.risk.count_message(asked["trader"], asked["now_ns"])
        if kind not in ("release", "execute"):
            return
        buys, ends = bool(asked["buys"]), bool(asked["ends"])
        head = asked["symbol_index"], asked["trader"], buys, asked["price"]
        if kind == "release":
            self.risk.release(*head, asked["qty"], asked["money"], ends)
        else:
            self.risk.execute(*head, asked["last_price"], asked["qty"], ends)


class Card:
    """The functional card's order path with everything that the gate must let pass."""

    def __init__(self) -> None:
        memory = memoryview(bytearray(ring_size(SLOTS)))
        self.writer = RingWriter(memory, 0, SLOTS)
        self.reader = RingReader(memory, 0, SLOTS)
        self.memory = memory
        self.frames: list[bytes] = []
        self.path = OrderPath(
            SYMBOLS,
            self.writer,
            lambda index: MARKET,
            lambda index: "" if index == 3 else f"SYM{index}",
            self.frames.append,
        )
        open_limits(self.path.risk)

    def records(self) -> list[bytes]:
        """Return what was written, the last word, which the ring fills in, as zero."""
        found = []
        while (at := self.reader.poll()) >= 0:
            found.append(bytes(self.memory[at : at + 56]) + bytes(8))
            self.reader.release()
        return found


def command(chance: random.Random, number: int, sequence: int, orders: list[int]) -> bytes:
    kind = chance.choices((NEW, CANCEL, REPLACE, MASS_CANCEL), (8, 3, 6, 1))[0]
    target = chance.choice(orders) if orders and chance.random() < 0.9 else number - 1
    if orders and chance.random() < 0.02:  # A number that is in use.
        number = chance.choice(orders)
    if kind == CANCEL and orders and chance.random() < 0.8:
        number = target
    flags = int(kind == MASS_CANCEL and chance.random() < 0.4)
    head = struct.pack("<BBHIQ", kind, flags, chance.choice([0, 1, 2, 3, 4]), number, 7)
    if kind == CANCEL:
        body = struct.pack("<I", chance.randrange(50))
    else:
        buys = chance.random() < 0.5
        price = PRICE + chance.randrange(1, 300) * (-100 if buys else 100)
        qty = chance.choice([0, 1, 100, 500, 1_000])
        side = ord("B" if buys else "S")
        body = struct.pack("<BBHIII", side, ord("0"), 1, qty, price, target * (kind == REPLACE))
    return (head + body).ljust(56, b"\0") + struct.pack("<Q", sequence)


def test_golden_model_sends_and_writes_what_the_functional_card_does():
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    card = Card()
    gate = Gate()
    stocks = {index: f"SYM{index}".encode().ljust(8) for index in range(3)}
    golden = OrderEntry(stocks, SYMBOLS, ROWS, gate.decide)
    answers = Answers(chance, lambda what: None, qty_max=2**20 - 1)
    replaced = 0
    number, frames, records = 0, 0, 0
    for session in range(50):
        link = Link(
            *(chance.randbytes(6), chance.randbytes(6), chance.getrandbits(32)),
            *(chance.getrandbits(32), chance.getrandbits(16), chance.getrandbits(16)),
            *(2**32 - chance.randrange(1, 900), 2**32 - chance.randrange(1, 900), b"FIRM"),
        )
        golden.start(link)
        card.path.connection = Connection(
            Address(link.local_mac, link.local_ip, link.local_port),
            Address(link.remote_mac, link.remote_ip, link.remote_port),
            link.sequence,
            link.acknowledgment,
            "FIRM",
        )
        stream = b""
        for step in range(80):
            now_ns = 1_000_000_000 * (session + 1) + 1_000 * step
            wanted: list[bytes] = []
            if chance.random() < 0.5:
                number += 1
                record = command(chance, number, number, list(golden.orders))
                card.path.command(record, now_ns)
                free = SLOTS  # Records were read, so that all slots are free.
                golden.command(record, now_ns, not golden.closed, free)
                if golden.payloads:
                    wanted.append(golden.frame(golden.payloads.popleft()))
            else:
                while len(stream) < 60:
                    stream += answers.packet(golden.orders)
                fault = chance.choice(FAULTS) if chance.random() < 0.3 else ""
                payload = stream[: chance.randrange(120)]
                sequence = golden.expected + chance.choice([0, 0, 0, 0, 7])
                flags = ACK
                if step > 70 and chance.random() < 0.3:
                    flags |= chance.choice([FIN, RST])
                frame = segment(link, sequence, payload, flags, fault, chance)
                expected = golden.expected
                golden.segment(frame)
                if golden.expected != expected:
                    stream = stream[len(payload) :]
                while golden.acknowledgments:
                    wanted.append(golden.frame(None))
                try:
                    card.path.receive(parse_tcp(frame), now_ns)
                except DecodeError:
                    assert not wanted
                while golden.answers:
                    replaced += golden.answer(now_ns) == "U"
            for event in golden.events:
                gate.count(event)
            golden.events.clear()
            assert card.frames == [frame.ljust(60, b"\0") for frame in wanted]
            for frame in wanted:
                packet = Ether(frame)
                del packet[IP].chksum, packet[TCP].chksum  # To be worked out again.
                assert bytes(packet) == frame
            got = card.records()
            assert got == [record.ljust(64, b"\0") for record in golden.records]
            assert golden.closed == (card.path.connection is None)
            assert golden.orders.keys() == card.path._orders.keys()
            for symbol in range(SYMBOLS):
                assert gate.risk.exposure(symbol) == card.path.risk.exposure(symbol)
            for level, index in ((RiskLevel.TRADER, 1), (RiskLevel.FIRM, 0)):
                assert gate.risk.level(level, index) == card.path.risk.level(level, index)
            frames, records = frames + len(wanted), records + len(got)
            card.frames.clear()
            golden.records.clear()
    assert frames > 1_000
    assert records > 1_000
    assert replaced > 30
    print(f"{frames} frames, {records} records, {replaced} replacements")
