"""cocotb bench of the whole feed path, run by ``test_feed_path.py``: flow, speed and stages."""

import itertools
import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import cocotb
from cocotb.triggers import FallingEdge
from cocotbext.eth import XgmiiFrame, XgmiiSource
from feed_bench import (
    COVERAGE,
    CUT_THROUGH,
    EVENT_FIELDS,
    IDLE,
    LOCATES,
    MESSAGES,
    ORDER_COUNT,
    ORDER_TYPES,
    OTHER_LOCATE,
    SEED,
    SYMBOL_COUNT,
    TICK_TO_EVENT,
    WIDTH,
    AsManyAsFit,
    Bench,
    Line,
    both,
    covered,
    frame,
    header_end,
    numbered,
    packet,
    packets,
    tell_coverage,
    unpack,
)

from protocol import itch50
from protocol.moldudp64 import BLOCK, HEARTBEAT
from protocol.reasons import DropReason
from sim.tb.feed_path import PROBES
from sim.tb.flow import Flow
from sim.tb.mac import gmii, xgmii


@cocotb.test()
async def each_message_of_a_day_in_small_brings_its_event(dut):
    bench = Bench(dut)
    await bench.start()
    bench.begins = defaultdict(set)
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    a = Line()
    for sequence, held in packets([flow.message() for _ in range(300)], random.Random(SEED)):
        a.send(frame(packet(sequence, held)))
    await bench.run(a, Line())
    bench.tell()
    bench.check_counters()
    assert bench.exact > 200
    if CUT_THROUGH:
        bench.assert_latencies()


@cocotb.test()
async def random_flow_with_loss_on_one_line_is_the_golden_feed(dut):
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.start()
    flow = Flow(SEED, [*LOCATES, *LOCATES, OTHER_LOCATE], ORDER_COUNT // 2)
    done, next_sequence = 0, 1
    while done < MESSAGES:
        wanted = min(5_000, MESSAGES - done)
        bench.begins = None if done else defaultdict(set)
        a, b, at = Line(), Line(), 0
        skew = rng.choice((0, 0, 8, 100, 700, -50, -900))
        losing = rng.choice((0.0, 0.05, 0.3))
        for offset, held in packets([flow.message() for _ in range(wanted)], rng):
            data = frame(packet(next_sequence + offset - 1, held))
            at = max(at + rng.choice((0, 0, 0, 50, 3_000)), a.at, b.at - abs(skew))
            lost = rng.choice((a, b)) if rng.random() < losing else None
            for line, shift in ((a, max(0, -skew)), (b, max(0, skew))):
                if line is not lost:
                    line.send(data, at + shift)
            if rng.random() < 0.03:
                beat = frame(packet(next_sequence + offset - 1 + len(held), (), HEARTBEAT))
                a.send(beat)
                b.send(beat)
        await bench.run(a, b)
        done += wanted
        next_sequence += wanted
        if done % 50_000 == 0:
            print(f"{done} of {MESSAGES} messages", flush=True)
    bench.tell()
    bench.check_counters()
    assert bench.golden.message_count == MESSAGES
    assert bench.flagged <= MESSAGES // 100  # A side emptied faster than it is refilled.
    assert bench.changes > MESSAGES // 10


@cocotb.test()
async def maximum_packets_of_deletes_back_to_back_on_both_lines_stall_nothing(dut):
    bench = Bench(dut)
    await bench.start()
    sequence, rounds = 1, -(-min(MESSAGES, 10_500) // (ORDER_COUNT // 2))
    a, b = Line(), Line()
    for number in range(rounds):
        first, count = number << 40, ORDER_COUNT // 2
        for kind, values in (
            (itch50.ADD_ORDER, {"buy_sell_indicator": "B", "shares": 1, "stock": "X", "price": 0}),
            (itch50.ORDER_DELETE, {}),
        ):
            messages = numbered(kind, count, first, lambda i: LOCATES[i % SYMBOL_COUNT], **values)
            if kind is itch50.ADD_ORDER:
                messages = [
                    m[:32] + (100 + i // SYMBOL_COUNT % 5).to_bytes(4, "big")
                    for i, m in enumerate(messages)
                ]
            for offset, held in packets(messages, AsManyAsFit()):
                data = frame(packet(sequence + offset - 1, held))
                a.send(data)
                b.send(data)
            sequence += count
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    assert bench.exact == 2 * rounds * (ORDER_COUNT // 2)
    assert bench.flagged == 0
    if CUT_THROUGH:
        for kind, counts in bench.latencies.items():
            assert set(counts) == {TICK_TO_EVENT}, (kind, counts)
    if file := os.environ.get("LATENCIES"):
        worst = {f"{kind} at line rate, worst": max(c) for kind, c in bench.latencies.items()}
        Path(file).write_text(json.dumps(worst))


@cocotb.test()
async def blocks_that_are_no_message_are_counted_and_passed_over(dut):
    bench = Bench(dut)
    await bench.start()
    rng = random.Random(SEED)
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    messages = []
    for _ in range(600):
        messages.append(flow.message())
        if rng.random() < 0.4:
            messages.append(rng.randbytes(rng.choice((0, 0, 1, 2, 7, 11, 12, 30, 51, 200))))
    a, b = both(*(frame(packet(n, held)) for n, held in packets(messages, rng)))
    await bench.run(a, b)
    bench.tell()
    bench.check_counters()
    assert bench.golden.drops[DropReason.UNKNOWN_MESSAGE] > 100


@cocotb.test(skip=WIDTH == 1)
async def frames_of_a_third_party_source_bring_the_same_events(dut):
    """cocotbext-eth drives the pins, with its own preamble, check sequence and gaps."""
    bench = Bench(dut)
    await bench.start()
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    source = XgmiiSource(*bench.pins[0], dut.clk)
    for sequence, held in packets([flow.message() for _ in range(400)], random.Random(SEED)):
        data = frame(packet(sequence, held))
        await source.send(XgmiiFrame.from_payload(data))
        bench.golden.frame(0, data, 0)
    expected, bench.golden.expected = bench.golden.expected, []
    for wanted in expected:
        while not int(dut.o_valid.value):
            await FallingEdge(dut.clk)
            bench.cycle += 1
            assert bench.cycle < 20_000, f"no event came of {wanted}"
        bench.check(wanted, unpack(int(dut.o_payload.value), EVENT_FIELDS))
        await FallingEdge(dut.clk)
    bench.check_counters()
    assert bench.exact == len(expected) > 200


@cocotb.test()
async def each_stage_takes_its_cycles(dut):
    """Follow the last byte of a message through the stages, in the middle of its frame."""
    bench = Bench(dut)
    await bench.start()
    a = Line()
    flow = numbered(itch50.ORDER_DELETE, 3, 1, lambda i: LOCATES[0])
    data = frame(packet(1, flow))
    a.send(data)
    columns, ((column, lane),) = (gmii if WIDTH == 1 else xgmii)(a.frames)
    ends = header_end(data) + BLOCK.size + len(flow[0])
    # Counted from the frame's first beat, and from the beat that completes the header.
    beat, first = ((lane + place) // WIDTH for place in (ends, header_end(data)))
    seen = {name: [] for name in ("pins", *PROBES, "book")}
    for cycle in range(len(columns) + 60):
        bench.show(0, columns[cycle] if cycle < len(columns) else IDLE)
        dut.time.value = cycle
        if cycle >= column:
            seen["pins"].append(cycle - 1)  # What a register takes from them is seen in this one.
        await FallingEdge(dut.clk)
        probes = int(dut.probes.value)
        for number, name in enumerate(PROBES):
            if probes >> number & 1:
                seen[name].append(cycle)
        if int(dut.o_valid.value):
            seen["book"].append(cycle)
    place = {"pins": beat, "mac": beat, "line": beat - first, "arbiter": beat - first}
    when = {name: cycles[place.get(name, 0)] for name, cycles in seen.items()}
    names = list(seen)
    taken = {b: when[b] - when[a] for a, b in itertools.pairwise(names)}
    print(f"width {WIDTH}, cycles of each stage: {taken}")
    taken["tick_to_event"] = when["book"] - when["mac"]
    taken["pins_to_event"] = when["book"] - when["pins"]
    if file := os.environ.get("STAGES"):
        Path(file).write_text(json.dumps(taken))
    wanted = {"mac": 6 if WIDTH == 1 else 2, "line": 1, "arbiter": 1, "collect": 1, "decode": 1}
    if CUT_THROUGH:
        assert taken.items() >= {**wanted, "book": 6, "tick_to_event": TICK_TO_EVENT}.items()
    else:
        # What waits for the end of the frame waits in the arbiter.
        assert taken.items() >= {**wanted, "book": 6, "arbiter": taken["arbiter"]}.items()


@cocotb.test()
async def each_type_ends_at_each_byte_of_a_beat(dut):
    """Blocks of no type in front of a message push its end from lane to lane."""
    bench = Bench(dut)
    await bench.start()
    rng = random.Random(SEED)
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    what, sequence = "type, lane of its last byte", 1
    ends = Counter()
    for _ in range(20):
        left = [kind for kind, lane in COVERAGE[what] if not ends[kind, lane]]
        if not left:
            break
        before, frames = Counter(covered[what]), []
        for _ in range(150):
            kind = rng.choice(sorted(left))
            if kind in ORDER_TYPES:
                message = flow.message()
            else:
                layout = itch50.MESSAGES.by_code[ord(kind)]
                message = bytes([layout.code, 0xFF, 0xFF]) + rng.randbytes(layout.size - 3)
            held = [bytes(rng.randrange(WIDTH)), message][rng.randrange(2) :]
            frames.append(frame(packet(sequence, held)))
            sequence += len(held)
        await bench.run(*both(*frames))
        ends += covered[what] - before
    bench.tell()
    bench.check_counters()
    assert not left


@cocotb.test()
async def map_is_exact_up_to_what_it_is_rated_for(dut):
    """References at random, which meet at their places, in a map that is five eighths full."""
    bench = Bench(dut)
    await bench.start()
    rng = random.Random(SEED)
    references = [rng.getrandbits(64) for _ in range(ORDER_COUNT * 5 // 8)]
    symbol = {reference: rng.choice(LOCATES) for reference in references}
    common = {"tracking_number": 0, "timestamp": 0}
    adds = [
        itch50.ADD_ORDER.pack(
            stock_locate=symbol[reference],
            order_reference_number=reference,
            buy_sell_indicator=rng.choice("BS"),
            shares=100,
            stock="X",
            price=rng.choice((100, 101, 102)),
            **common,
        )
        for reference in references
    ]
    rng.shuffle(references)
    deletes = [
        itch50.ORDER_DELETE.pack(
            stock_locate=symbol[reference], order_reference_number=reference, **common
        )
        for reference in references
    ]
    frames = [frame(packet(n, held)) for n, held in packets(adds + deletes, rng)]
    await bench.run(*both(*frames))
    bench.tell()
    print(f"  most in the stash: {int(dut.stash_used_max.value)}")
    bench.check_counters()
    assert bench.exact == 2 * len(references)
    assert bench.flagged == 0
    assert int(dut.stash_used_max.value) > 0


@cocotb.test(stage=1)
async def everything_declared_was_met(dut):
    missing = tell_coverage()
    assert not missing, f"seed {SEED}: not met: {missing}"
