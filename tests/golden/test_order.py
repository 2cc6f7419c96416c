"""The golden model of the order stage against the card in plain Python, whole random days."""

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
from sim.card.functional.order import Connection, OrderPath
from sim.golden.order import Link, OrderEntry
from sim.tb.order_venue import ACK, FAULTS, FIN, RST, Answers, segment
from sw.ring import RingReader, RingWriter, ring_size

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
NEW, CANCEL, MASS_CANCEL = 0x31, 0x32, 0x34
SYMBOLS, ROWS, SLOTS = 4, 1 << 16, 256
PRICE = 1_000_000


class Card:
    """The functional card's order path with everything that the gate must let pass."""

    def __init__(self) -> None:
        memory = memoryview(bytearray(ring_size(SLOTS)))
        self.writer = RingWriter(memory, 0, SLOTS)
        self.reader = RingReader(memory, 0, SLOTS)
        self.memory = memory
        self.frames: list[bytes] = []
        market = Market(PRICE - 100, PRICE + 100, phase=MarketPhase.REGULAR)
        self.path = OrderPath(
            SYMBOLS,
            self.writer,
            lambda index: market,
            lambda index: "" if index == 3 else f"SYM{index}",
            self.frames.append,
        )
        limits = Limits(
            qty_max=900,
            notional_max=10**12,
            position_max=POSITION_MAX,
            price_band_bp=1_000,
            tick_size=1,
            locate_qty=POSITION_MAX,
            duplicate_window_ns=0,
            phases=1 << MarketPhase.REGULAR,
            restricted=False,
        )
        risk = self.path.risk
        for symbol in range(SYMBOLS):
            risk.set_limits(symbol, limits)
        for level, index in risk.levels:
            risk.set_level(level, index, LevelLimits(MONEY_MAX, MONEY_MAX), token_bucket(10**9, 1))
            risk.kill(level, index, False)

    def records(self) -> list[bytes]:
        """Return what was written, the last word, which the ring fills in, as zero."""
        found = []
        while (at := self.reader.poll()) >= 0:
            found.append(bytes(self.memory[at : at + 56]) + bytes(8))
            self.reader.release()
        return found


def command(chance: random.Random, number: int, sequence: int, orders: list[int]) -> bytes:
    kind = chance.choices((NEW, CANCEL, MASS_CANCEL), (12, 4, 1))[0]
    if kind == CANCEL and orders and chance.random() < 0.8:
        number = chance.choice(orders)
    flags = int(kind == MASS_CANCEL and chance.random() < 0.4)
    head = struct.pack("<BBHIQ", kind, flags, chance.choice([0, 1, 2, 3, 4]), number, 7)
    if kind == CANCEL:
        body = struct.pack("<I", chance.randrange(50))
    else:
        buys = chance.random() < 0.5
        price = PRICE + chance.randrange(1, 300) * (-100 if buys else 100)
        qty = chance.choice([0, 1, 100, 500, 1_000])
        body = struct.pack("<BBHII", ord("B" if buys else "S"), ord("0"), 1, qty, price)
    return (head + body).ljust(56, b"\0") + struct.pack("<Q", sequence)


def test_golden_model_sends_and_writes_what_the_functional_card_does():
    print(f"seed {SEED}")
    chance = random.Random(SEED)
    card = Card()
    told: list[DenyReason] = []
    stocks = {index: f"SYM{index}".encode().ljust(8) for index in range(3)}
    golden = OrderEntry(stocks, SYMBOLS, ROWS, lambda event: told[-1])
    answers = Answers(chance, lambda what: None)
    number, frames, records = 0, 0, 0
    for session in range(20):
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
                before = list(card.path.denials)
                card.path.command(record, now_ns)
                after = card.path.denials
                reasons = [reason for reason in DenyReason if after[reason] > before[reason]]
                told.append(reasons[0] if reasons else DenyReason.NONE)
                free = SLOTS  # Records were read, so that all slots are free.
                golden.command(record, now_ns, not golden.closed, free)
                if golden.payloads:
                    wanted.append(golden.frame(golden.payloads.popleft()))
            else:
                while len(stream) < 60:
                    stream += answers.packet(list(golden.orders))
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
                    golden.answer(now_ns)
            assert card.frames == [frame.ljust(60, b"\0") for frame in wanted]
            for frame in wanted:
                packet = Ether(frame)
                del packet[IP].chksum, packet[TCP].chksum  # To be worked out again.
                assert bytes(packet) == frame
            got = card.records()
            assert got == [record.ljust(64, b"\0") for record in golden.records]
            assert golden.closed == (card.path.connection is None)
            assert golden.orders.keys() == card.path._orders.keys()
            frames, records = frames + len(wanted), records + len(got)
            card.frames.clear()
            golden.records.clear()
    assert frames > 500
    assert records > 500
    print(f"{frames} frames, {records} records")
