"""cocotb bench of the whole feed path, run by ``test_feed_path.py``: real captures and files."""

import csv
import itertools
import random
from collections import Counter
from pathlib import Path

import cocotb
import dpkt
from cocotb.clock import Clock
from feed_bench import (
    DATA,
    GAP_TIMEOUT,
    SEED,
    SYMBOL_COUNT,
    WIDTH,
    Bench,
    Line,
    both,
    frame,
    packet,
    packets,
)

from protocol.moldudp64 import HEADER
from protocol.reasons import StaleReason
from sim.golden.moldudp64 import parse_packet
from sim.golden.wire import parse_frame


@cocotb.test(skip=not DATA)
async def real_day_of_one_symbol_is_the_book_of_a_third_party(dut):
    folder = Path(DATA) / "itch50"
    raw = (folder / "aapl_20200130_first4000.itch50").read_bytes()
    messages, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        messages.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    bench = Bench(dut, [13])
    await bench.start()
    wanted, a, b = bench.golden, Line(), Line()
    for number, held in packets(messages, random.Random(SEED)):
        # Far apart, as most of a day is: a refill has its time.
        at = a.at + 40 * len(held) * WIDTH
        for line in (a, b):
            line.send(frame(packet(number, held)), at)
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    with (folder / "aapl_20200130_first4000_bbo.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 917 == bench.changes, (len(rows), bench.changes)
    assert wanted.message_count == 4_000


@cocotb.test(skip=not DATA)
async def real_open_of_all_symbols_is_flagged_as_the_golden_feed_does(dut):
    raw = (Path(DATA) / "itch50" / "open_20191230_1000.itch50").read_bytes()
    messages, at = [], 0
    while at < len(raw):
        size = int.from_bytes(raw[at : at + 2], "big")
        messages.append(raw[at + 2 : at + 2 + size])
        at += 2 + size
    most = Counter(m[1:3] for m in messages).most_common(SYMBOL_COUNT)
    bench = Bench(dut, [int.from_bytes(locate, "big") for locate, _ in most])
    await bench.start()
    a, b = both(*(frame(packet(n, h)) for n, h in packets(messages, random.Random(SEED))))
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    assert StaleReason.UNKNOWN_REFERENCE in bench.golden.stale()


def captured(folder):
    """The frames of each capture in a folder of real data."""
    for path in sorted((Path(DATA) / "pcap" / folder).glob("*.pcap")):
        with path.open("rb") as file:
            yield [data for _, data in dpkt.pcap.Reader(file)]


def most_named(messages):
    """The locates that most messages have, as many as there are symbols."""
    locates = Counter(int.from_bytes(m[1:3], "big") for m in messages)
    return [locate for locate, _ in locates.most_common(SYMBOL_COUNT)]


@cocotb.test(skip=not DATA)
async def captured_frames_are_what_the_golden_feed_makes_of_them(dut):
    """Whole frames of a real exchange, headers and all, on both lines."""
    Clock(dut.clk, 10, unit="ns").start()
    events, delivered = 0, 0
    for frames in captured("itch50"):
        packets_in = [parse_frame(data) for data in frames]
        messages = [m for found in packets_in for m in parse_packet(found.payload).messages]
        first = packets_in[0]
        group = first.destination_ip, first.destination_port
        bench = Bench(dut, most_named(messages), first.payload[:10], group)
        await bench.reset(int.from_bytes(first.payload[10:18], "big"))
        await bench.run(*both(*frames), GAP_TIMEOUT + 400)
        bench.check_counters()
        assert bench.golden.message_count == len(messages)
        events, delivered = events + bench.exact, delivered + len(messages)
    print(f"{events} events of {delivered} captured messages equal")
    assert events >= 4
    assert delivered >= 46


@cocotb.test(skip=not DATA)
async def captured_messages_are_what_the_golden_feed_makes_of_them(dut):
    """Captures whose headers were blanked: the messages go into packets of this bench."""
    packets_in = []
    for data in itertools.chain.from_iterable(captured("itch50_20230822")):
        blocks = data[18 + 20 + 8 + HEADER.size :]  # behind a VLAN tag
        found = parse_packet(packet(1, count=1) + blocks)
        packets_in.append(found.messages)
    messages = [message for found in packets_in for message in found]
    bench = Bench(dut, most_named(messages))
    await bench.start()
    numbers = itertools.accumulate(map(len, packets_in), initial=1)
    frames = [frame(packet(n, held)) for n, held in zip(numbers, packets_in, strict=False)]
    await bench.run(*both(*frames))
    bench.check_counters()
    kinds = "".join(sorted({chr(message[0]) for message in messages}))
    print(f"{len(messages)} captured messages of types {kinds}")
    assert kinds == "ACDEFHIJLPQSUXY"
    assert bench.golden.message_count == len(messages)
