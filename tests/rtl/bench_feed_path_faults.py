"""cocotb bench of the whole feed path, run by ``test_feed_path.py``: what can go wrong with it."""

import random
from collections import Counter

import cocotb
from feed_bench import (
    DESTINATION,
    GAP_TIMEOUT,
    GROUP,
    LOCATES,
    MESSAGES,
    ORDER_COUNT,
    OTHER_LOCATE,
    SEED,
    SOURCE,
    WIDTH,
    WRONG,
    Bench,
    Line,
    both,
    frame,
    packet,
    packets,
)

from protocol import itch50
from protocol.frames import Address, udp_frame
from protocol.ip import checksum
from protocol.moldudp64 import END_OF_SESSION
from protocol.reasons import DropReason, StaleReason
from sim.golden import book, parse
from sim.tb.flow import Flow


def patched(data, at, new):
    """A frame with other bytes in its IPv4 header, whose checksum fits."""
    data = data[:at] + new + data[at + len(new) :]
    header = data[14:24] + bytes(2) + data[26:34]
    return data[:24] + checksum(header).to_bytes(2, "big") + data[26:]


def flipped(data, at, rng):
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


# What can be wrong: of a good frame, its MoldUDP64 packet and a source of chance it makes the frame
# that is sent, and whether its FCS is wrong.
FAULTS = {
    "FCS": lambda good, payload, rng: (good, True),
    "damaged and FCS": lambda good, payload, rng: (
        flipped(good, rng.randrange(62, len(good)), rng),
        True,
    ),
    "header damaged and FCS": lambda good, payload, rng: (
        flipped(good, rng.randrange(62), rng),
        True,
    ),
    "UDP checksum": lambda good, payload, rng: (
        flipped(good, rng.randrange(62, 42 + len(payload)), rng),
        False,
    ),
    "IP checksum": lambda good, payload, rng: (flipped(good, 24, rng), False),
    "EtherType": lambda good, payload, rng: (good[:12] + b"\x86\xdd" + good[14:], False),
    "fragment": lambda good, payload, rng: (patched(good, 20, b"\x20\x00"), False),
    "TCP": lambda good, payload, rng: (patched(good, 23, b"\x06"), False),
    "UDP length": lambda good, payload, rng: (good[:38] + b"\xff\xff" + good[40:], False),
    "cut": lambda good, payload, rng: (
        (good[: rng.randrange(63, len(good))], False) if len(good) > 64 else (good, True)
    ),
    "other group": lambda good, payload, rng: (
        udp_frame(SOURCE, Address(DESTINATION.mac, GROUP[0], GROUP[1] + 1), payload),
        False,
    ),
    "no MoldUDP64": lambda good, payload, rng: (frame(payload[: rng.randrange(20)]), False),
    "session": lambda good, payload, rng: (frame(b"X" + payload[1:]), False),
    "truncated": lambda good, payload, rng: (frame(payload[: -rng.randrange(1, 12)]), False),
    "lost": lambda good, payload, rng: (None, False),
}


async def faulty_feed(bench, rounds, rng, kinds, gaps):
    """Damage frames on line A, or leave them out on both, and send the good ones on B later."""
    flow = Flow(SEED + 1, [*LOCATES, OTHER_LOCATE], ORDER_COUNT // 2)
    sequence, met = 1, Counter()
    for _ in range(rounds):
        a, b, at = Line(), Line(), 0
        messages = [flow.message() for _ in range(200)]
        for offset, held in packets(messages, rng, 400):
            payload = packet(sequence + offset - 1, held)
            good, at = frame(payload), max(at + 1_000, a.at, b.at)
            kind = kinds[met.total() % len(kinds)] if rng.random() < 0.2 else None
            data, bad = FAULTS[kind](good, payload, rng) if kind else (good, False)
            met[kind] += 1
            if data is not None:
                a.send(data, at, bad)
            if not gaps or kind is None:
                b.send(good, at + 700)
        sequence += len(messages)
        await bench.run(a, b, GAP_TIMEOUT + 400)
    return met


@cocotb.test()
async def faults_on_one_line_cost_what_the_golden_feed_says(dut):
    bench = Bench(dut)
    await bench.start()
    kinds = sorted(FAULTS)
    met = await faulty_feed(bench, max(8, MESSAGES // 2_000), random.Random(SEED), kinds, False)
    bench.tell()
    print(f"  faults {dict(met)}\n  drops { {r.name: n for r, n in bench.golden.drops.items()} }")
    bench.check_counters()
    assert not bench.golden.gaps
    assert set(met) == {None, *FAULTS}
    # A damaged message may still be one.
    spared = {DropReason.FRAME_TOO_SHORT, DropReason.TOO_LATE, DropReason.BUFFER_FULL}
    spared |= {DropReason.UNKNOWN_MESSAGE, DropReason.UNDER_REPAIR}
    assert set(DropReason) - set(bench.golden.drops) <= spared


@cocotb.test()
async def loss_on_both_lines_flags_every_symbol_after_the_wait(dut):
    bench = Bench(dut)
    await bench.start()
    rng = random.Random(SEED)
    met = await faulty_feed(bench, 3, rng, ["lost", "lost", "truncated"], True)
    bench.tell()
    bench.check_counters()
    assert met["lost"]
    assert len(bench.golden.gaps) >= 3
    assert set(bench.golden.stale()) == {StaleReason.GAP}


@cocotb.test()
async def numbers_jump_and_come_to_their_end(dut):
    bench = Bench(dut)
    first = (1 << 64) - 40
    await bench.start(first)
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    a, b = Line(), Line()
    for number in range(30):
        data = frame(packet(first + number, [flow.message()]))
        a.send(data)
        b.send(data)
    for line in (a, b):
        line.send(frame(packet(first + 33, [flow.message()])))
        line.send(frame(packet(first + 34, (), END_OF_SESSION)))
    await bench.run(a, b, GAP_TIMEOUT + 400)
    bench.check_counters()
    assert [(gap.first_sequence, gap.count) for gap in bench.golden.gaps] == [(first + 30, 3)]


@cocotb.test()
async def short_frames_and_late_packets_are_counted(dut):
    bench = Bench(dut)
    await bench.start()
    flow = Flow(SEED, LOCATES, ORDER_COUNT // 2)
    messages = [flow.message() for _ in range(4)]
    good = [frame(packet(number, [held])) for number, held in enumerate(messages, 1)]
    a, b = Line(), Line()
    # An IPv4 header that announces options beyond the frame.
    a.send(patched(good[0], 14, b"\x4f")[:60])
    for data in (good[0], good[2], good[3]):
        a.send(data)
    b.send(good[1], a.at + 2 * GAP_TIMEOUT * WIDTH)
    await bench.run(a, b, GAP_TIMEOUT + 400)
    bench.check_counters()
    assert bench.golden.drops[DropReason.FRAME_TOO_SHORT] == 1
    assert bench.golden.drops[DropReason.TOO_LATE] == 1


def about(layout, locate, reference, **values):
    return layout.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=0,
        order_reference_number=reference,
        **values,
    )


def added(locate, reference, side="B", shares=100, price=1_000_000):
    return about(
        itch50.ADD_ORDER,
        locate,
        reference,
        buy_sell_indicator=side,
        shares=shares,
        stock="X",
        price=price,
    )


@cocotb.test()
async def what_cannot_be_right_flags_its_symbol_until_it_is_repaired(dut):
    bench = Bench(dut)
    await bench.start()
    locate, other = LOCATES[:2]
    wrong = {
        StaleReason.UNKNOWN_REFERENCE: about(itch50.ORDER_DELETE, locate, 99),
        StaleReason.DUPLICATE_REFERENCE: added(locate, 1),
        StaleReason.OVERFILL: about(itch50.ORDER_CANCEL, locate, 1, canceled_shares=101),
        StaleReason.LOCATE_MISMATCH: about(itch50.ORDER_DELETE, locate, 2),
        StaleReason.INVALID_ORDER: added(locate, 3, shares=0),
    }
    assert set(wrong) == set(WRONG)
    sequence = 1
    for reason, message in wrong.items():
        legal = [added(locate, 1), added(other, 2)]
        for held in ([*legal, message], [added(locate, 4, "S"), added(other, 5, "S")]):
            await bench.run(*both(frame(packet(sequence, held))))
            sequence += len(held)
        assert bench.golden.stale()[0] is reason
        bench.check_counters()
        for index in (0, 1):
            await bench.repair(index, [])
        bench.check_counters()
        assert not any(bench.golden.stale())
    assert bench.exact == 5 * 5


@cocotb.test()
async def repaired_after_a_gap_every_book_is_the_lossless_one(dut):
    bench = Bench(dut)
    await bench.start()
    flow, rng = Flow(SEED, LOCATES, ORDER_COUNT // 4), random.Random(SEED)
    lossless, sequence = book.Book(), 1
    for lost in (5, 0):
        messages = [flow.message() for _ in range(400)]
        for message in messages:
            lossless.apply(parse.parse(message))
        a, b = Line(), Line()
        for number, (offset, held) in enumerate(packets(messages, rng)):
            if number != lost or not lost:
                for line in (a, b):
                    line.send(frame(packet(sequence + offset - 1, held)), a.at + 2_000)
        sequence += len(messages)
        await bench.run(a, b, GAP_TIMEOUT + 400)
        bench.check_counters()
        assert set(bench.golden.stale()) == {StaleReason.GAP if lost else StaleReason.NONE}
        if lost:
            for index, locate in enumerate(LOCATES):
                orders = [
                    (reference, side, price, shares)
                    for side in book.Side
                    for reference, price, shares in lossless.orders(locate, side)
                ]
                await bench.repair(index, orders)
    bench.tell()
    assert len(bench.golden.gaps) == 1
    assert [bench.golden.book.bbo(locate) for locate in LOCATES] == [
        lossless.bbo(locate) for locate in LOCATES
    ]


@cocotb.test()
async def locates_are_learnt_from_the_directory(dut):
    bench = Bench(dut, LOCATES[:2])
    await bench.start()
    await bench.learn(2, "WIRE")
    await bench.learn(3, "RING")
    directory = itch50.MESSAGES.by_code[ord("R")]
    rest = random.Random(SEED).randbytes(directory.size - 19)

    def named(locate, name):
        head = b"R" + locate.to_bytes(2, "big") + bytes(8)
        return head + name.encode().ljust(8) + rest

    messages = [
        added(700, 1),  # Not known yet.
        named(700, "WIRE"),
        named(701, "TICK"),  # Not configured.
        added(700, 2),
        added(701, 3),
        named(702, "RING"),
        added(702, 4, "S"),
        added(LOCATES[0], 5),
        about(itch50.ORDER_DELETE, 700, 2),
    ]
    await bench.run(*both(frame(packet(1, messages))))
    bench.check_counters()
    assert bench.exact == 4
    assert bench.golden.drops[DropReason.UNKNOWN_SYMBOL] == 2
