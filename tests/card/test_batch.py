"""The functional card's one call for many frames, and what its memory must stand."""

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest

from protocol import itch50, registers, ring
from protocol.frames import Address, udp_frame
from protocol.moldudp64 import packet
from protocol.reasons import DropReason, StaleReason
from sim.card.functional import FunctionalCard
from sim.card.functional.path import FeedPath
from sim.card.functional.records import FRAME, HELD_PACKETS_MAX
from sim.card.port import Port
from sim.golden.book import Book, Side
from sim.golden.parse import parse
from sim.venue import flow
from sw.card import read, write
from sw.ring import RingReader, RingWriter, ring_size

ROOT = Path(__file__).resolve().parents[2]
SOURCE = Address(bytes.fromhex("020000000001"), 0x0A00_0001, 26_477)
GROUP = Address(bytes.fromhex("01005e360c6f"), 0xE936_0C6F, 26_477)
STOCKS = ("AAPL", "MSFT", "TSLA")
TIMEOUT_NS = 500
PAYLOAD_MAX = 0xFFFF - 28
"""What an IPv4 packet has room for behind its headers. [RFC 791: 3.1]"""

Arrival = tuple[int, int, bytes]
"""Time, line, frame."""


def mold(sequence: int, *messages: bytes) -> bytes:
    return udp_frame(SOURCE, GROUP, packet("SESSION001", sequence, list(messages)))


class Rig:
    """A functional card, and what stood in its market ring."""

    def __init__(self, slots: int = 1 << 14, order_count: int = 1 << 16):
        self._memory = memoryview(bytearray(ring_size(slots) + 2 * ring_size(2)))
        self.card = FunctionalCard(self._memory, len(STOCKS), order_count)
        base = 0
        for base_register, slots_register, count in (
            (registers.MARKET_BASE, registers.MARKET_SLOTS, slots),
            (registers.EXECUTION_BASE, registers.EXECUTION_SLOTS, 2),
            (registers.COMMAND_BASE, registers.COMMAND_SLOTS, 2),
        ):
            write(self.card, base_register, base)
            write(self.card, slots_register, count)
            base += ring_size(count)
        for index, stock in enumerate(STOCKS):
            name = int.from_bytes(stock.encode().ljust(8), "little")
            write(self.card, registers.SYMBOL_STOCK, name, index)
        write(self.card, registers.FEED_GAP_TIMEOUT_NS, TIMEOUT_NS)
        write(self.card, registers.CONTROL, 1)
        self._reader = RingReader(self._memory, 0, slots)
        self.records: list[bytes] = []

    def take(self) -> None:
        while (offset := self._reader.poll()) >= 0:
            self.records.append(bytes(self._memory[offset : offset + ring.RECORD_SIZE]))
            self._reader.release()

    def batch(self, arrivals: list[Arrival]) -> None:
        frames = np.zeros(len(arrivals), FRAME)
        frames["size"] = [len(data) for _, _, data in arrivals]
        frames["offset"] = np.cumsum(frames["size"]) - frames["size"]
        frames["port"] = [line for _, line, _ in arrivals]
        frames["ts_ns"] = [now_ns for now_ns, _, _ in arrivals]
        buffer = np.frombuffer(b"".join(data for _, _, data in arrivals), np.uint8)
        self.card.receive_batch(buffer, frames)

    def counters(self) -> dict[str, int]:
        return {
            f"{register.name} {index}": read(self.card, register, index)
            for register in registers.REGISTERS
            if registers.FRAMES_RECEIVED.offset <= register.offset < registers.SYMBOL_STOCK.offset
            for index in range(register.count)
        }


def lines(rng: Random, messages: list[bytes]) -> list[Arrival]:
    """Return both lines' packets with losses, delays, and frames that are broken."""
    arrivals: list[Arrival] = []
    for line in Port.FEED_A, Port.FEED_B:
        sequence = 1
        while sequence <= len(messages):
            part = messages[sequence - 1 : sequence - 1 + rng.randint(1, 6)]
            data = mold(sequence, *part)
            if rng.random() < 0.1:
                data = data[: rng.randrange(len(data))]
            if rng.random() > 0.15:
                arrivals.append((10 * sequence + rng.choice((0, 0, 0, 700)), line, data))
            sequence += len(part)
    arrivals.append((11 * len(messages) + 700, Port.FEED_A, mold(len(messages) + 1)))
    return sorted(arrivals, key=lambda arrival: arrival[0])


@pytest.mark.parametrize("seed", range(6))
def test_frames_in_batches_do_what_the_same_frames_do_one_by_one(seed):
    print(f"seed={seed}")
    rng = Random(seed)
    messages = list(flow.generate(seed, (*STOCKS, "IBM"), 1_500))
    arrivals = lines(rng, messages)
    single, batched = Rig(), Rig()
    for now_ns, line, data in arrivals:
        single.card.receive(Port(line), data, now_ns)
        single.take()
    while arrivals:
        size = rng.choice((1, 2, 50, 400))
        batched.batch(arrivals[:size])
        batched.take()
        del arrivals[:size]
    for rig in single, batched:
        rig.card.advance(1 << 40)
        rig.take()
    assert batched.records == single.records
    marks = ("market_high_water 0",)  # The host of a batch reads later.
    found, expected = batched.counters(), single.counters()
    assert {n: v for n, v in found.items() if n not in marks} == {
        n: v for n, v in expected.items() if n not in marks
    }
    assert found["messages_received 0"] + found["messages_lost 0"] == len(messages)
    assert found["messages_lost 0"] > 0
    assert found[f"drops {DropReason.DUPLICATE:d}"] > 20
    assert len(single.records) > 200


def test_newest_quote_of_every_symbol_survives_a_batch_that_the_ring_has_no_room_for():
    arrivals = [
        (number, Port.FEED_A, mold(number + 1, message))
        for number, message in enumerate(flow.generate(3, STOCKS, 2_000))
    ]
    wide, narrow = Rig(), Rig(slots=4)
    for rig in wide, narrow:
        rig.batch(arrivals)
        for _ in range(4):
            rig.take()
            rig.card.advance(len(arrivals))

    def last(rig: Rig) -> dict[int, bytes]:
        return {r[2]: r[24:56] for r in rig.records if r[0] == ring.RecordType.BBO}

    assert last(narrow) == last(wide)
    assert len(last(wide)) == len(STOCKS)
    skipped = sum(int.from_bytes(r[4:8], "little") for r in narrow.records if r[0] == 0x11)
    assert skipped == read(narrow.card, registers.BBO_CONFLATED) > 500
    assert read(narrow.card, registers.BBO_CHANGES) == read(wide.card, registers.BBO_CHANGES)


def test_batch_before_the_start_and_after_the_stop_does_nothing():
    rig = Rig()
    write(rig.card, registers.CONTROL, 0)
    rig.batch([(1, Port.FEED_A, mold(1, b""))])
    assert read(rig.card, registers.MESSAGES_RECEIVED) == 0
    rig.batch([])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"port": Port.ORDER}, "port must be FEED_A or FEED_B, not 2 to 2"),
        ({"port": -1}, "port must be FEED_A or FEED_B, not -1 to -1"),
        ({"offset": 1}, "frames must stand in the buffer of 90 bytes, not from 1 to 91"),
        ({"offset": -1}, "frames must stand in the buffer of 90 bytes, not from -1 to 89"),
        ({"size": -1}, "frames must stand in the buffer of 90 bytes, not from 0 to -1"),
    ],
)
def test_batch_that_can_not_be_taken_is_refused_before_anything_is_done(change, message):
    rig, frames = Rig(), np.zeros(1, FRAME)
    frames["size"] = 90
    for name, value in change.items():
        frames[name] = value
    with pytest.raises(ValueError, match=f"^{message}$"):
        rig.card.receive_batch(np.zeros(90, np.uint8), frames)
    assert read(rig.card, registers.FRAMES_RECEIVED) == 0


def test_arrays_of_another_type_or_with_holes_are_refused():
    rig, frames = Rig(), np.zeros(4, FRAME)
    with pytest.raises(ValueError, match=r"^buffer must be a contiguous array of .*, not int64$"):
        rig.card.receive_batch(np.zeros(4, np.int64), frames)
    with pytest.raises(ValueError, match=r"^frames must be a contiguous array of "):
        rig.card.receive_batch(np.zeros(4, np.uint8), frames[::2])


def test_packets_of_as_many_messages_as_there_can_be_are_taken_behind_a_gap():
    count = (PAYLOAD_MAX - 20) // 2
    rig = Rig()
    for number in range(HELD_PACKETS_MAX, -1, -1):
        data = mold(1 + number * count, *(b"",) * count)
        rig.card.receive(Port.FEED_A, data, 0)
        assert read(rig.card, registers.MESSAGES_RECEIVED) == (
            0 if number else (HELD_PACKETS_MAX + 1) * count
        )
    assert read(rig.card, registers.HELD_HIGH_WATER) == HELD_PACKETS_MAX
    assert read(rig.card, registers.MESSAGES_LOST) == 0


def test_heartbeats_ahead_of_one_another_are_all_remembered():
    rig, beats = Rig(), 1_000
    for number in range(1, beats + 1):
        rig.card.receive(Port.FEED_A, mold(2 * number), 0)
    assert read(rig.card, registers.HELD_HIGH_WATER) == beats
    rig.card.advance(TIMEOUT_NS + 1)
    rig.take()
    gaps = [ring.GAP.unpack(r) for r in rig.records if r[0] == ring.RecordType.GAP]
    assert [gap["first_sequence"] for gap in gaps] == [1, *range(2, 2 * beats, 2)]
    assert read(rig.card, registers.MESSAGES_LOST) == 2 * beats - 1


class Deep:
    """A feed path of one symbol, and the golden book beside it."""

    def __init__(self, order_count: int = 1 << 20):
        memory = memoryview(bytearray(ring_size(1 << 14)))
        self.path = FeedPath(1, order_count, RingWriter(memory, 0, 1 << 14))
        self.path.configure(0, "X", 7)
        self._reader = RingReader(memory, 0, 1 << 14)
        self.golden = Book()
        self.quote = (0,) * 6

    def apply(self, message: bytes) -> None:
        self.path.apply(1, message, 0)
        self.golden.apply(parse(message))
        while (offset := self._reader.poll()) >= 0:
            fields = ring.BBO.unpack(bytes(self._reader.memory[offset : offset + 64]))
            names = ("price", "qty", "orders")
            self.quote = tuple(fields[f"{side}_{n}"] for side in ("bid", "ask") for n in names)
            self._reader.release()


def message_of(rng: Random, live: list[int], prices: int) -> bytes:
    """Return a legal message: orders at any of so many prices, references of 64 bits."""
    head = {"stock_locate": 7, "timestamp": 5}
    if live and rng.random() < 0.45:
        at = rng.randrange(len(live))
        live[at], live[-1] = live[-1], live[at]
        if rng.random() < 0.7:
            return itch50.ORDER_DELETE.pack(head, order_reference_number=live.pop())
        old = live.pop()
        live.append(rng.getrandbits(64))
        return itch50.ORDER_REPLACE.pack(
            head,
            original_order_reference_number=old,
            new_order_reference_number=live[-1],
            shares=rng.randint(1, 9),
            price=rng.randrange(prices),
        )
    live.append(rng.getrandbits(64))
    return itch50.ADD_ORDER.pack(
        head,
        order_reference_number=live[-1],
        buy_sell_indicator=rng.choice("BS"),
        shares=rng.randint(1, 9),
        stock="X",
        price=rng.randrange(prices),
    )


@pytest.mark.parametrize(("prices", "seed"), [(1 << 32, 1), (2_000, 2), (3, 3)])
def test_best_level_is_exact_at_any_price_and_depth(prices, seed):
    print(f"seed={seed}")
    rng, deep, live = Random(seed), Deep(), []
    for number in range(6_000):
        message = message_of(rng, live, prices)
        deep.apply(message)
        assert deep.quote == tuple(deep.golden.bbo(7)), f"message={number}"
    assert deep.path.counter("order_count") == len(live) > 500
    for _ in range(len(live)):  # And down to the last one.
        reference = live.pop(rng.randrange(len(live)))
        deep.apply(
            itch50.ORDER_DELETE.pack(stock_locate=7, timestamp=5, order_reference_number=reference)
        )
        assert deep.quote == tuple(deep.golden.bbo(7))
    assert deep.quote == (0,) * 6
    assert deep.path.counter("order_count") == 0
    assert deep.path.counter("stale_count") == 0
    assert deep.golden.levels(7, Side.BUY) == []


def test_memory_grows_with_the_orders_up_to_what_the_card_remembers():
    count = 40_000
    rig = Rig(order_count=count)
    directory = dict.fromkeys((f.name for f in itch50.STOCK_DIRECTORY.fields), 0)
    directory |= {f.name: " " for f in itch50.STOCK_DIRECTORY.fields if not f.is_integer}
    directory |= {"message_type": "R", "stock": STOCKS[1], "stock_locate": 9}
    messages = [itch50.STOCK_DIRECTORY.pack(directory)]
    messages += [
        itch50.ADD_ORDER.pack(
            stock_locate=9,
            timestamp=5,
            order_reference_number=number << 20,
            buy_sell_indicator="B",
            shares=1,
            stock="X",
            price=number % 20_000,
        )
        for number in range(1, count + 2)
    ]
    rig.batch([(n, Port.FEED_A, mold(n + 1, m)) for n, m in enumerate(messages)])
    rig.card.advance(len(messages))
    rig.take()
    rig.card.advance(len(messages))
    rig.take()
    quote = ring.BBO.unpack(rig.records[-1])
    assert (quote["bid_price"], quote["bid_qty"], quote["bid_orders"]) == (19_999, 2, 2)
    assert quote["stale_reason"] == StaleReason.ORDER_MAP_FULL  # One order too many.
    assert read(rig.card, registers.MESSAGES_RECEIVED) == count + 2


def test_feed_path_is_plain_python_where_numba_is_switched_off():
    code = (
        "from tests.card import test_wire, test_book, test_batch\n"
        "test_wire.test_two_faulty_lines_give_what_the_golden_model_gives(0)\n"
        "test_book.test_adversarial_messages_give_the_golden_model_s_books_and_conditions(0)\n"
        "test_batch.test_heartbeats_ahead_of_one_another_are_all_remembered()\n"
    )
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr


def test_card_does_not_stand_still_for_its_compiled_functions_when_it_starts():
    code = (
        "from sim.card.functional import FunctionalCard\n"
        "FunctionalCard(memoryview(bytearray(64)))\n"
        "from sim.card.functional.path import run, let_pass\n"
        "print(len(run.signatures), len(let_pass.signatures))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == "1 1\n", found.stderr
