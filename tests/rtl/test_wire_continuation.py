"""The early comparison of headers: every place a header may end, against the bytes that came in."""

import os
import random
from collections import Counter

import pytest
from amaranth.sim import Simulator

from hw.rtl.wire.continuation import Continuation
from hw.rtl.wire.headers import last_lane, slot_count
from protocol import moldudp64

SIZE = moldudp64.HEADER.size
SESSION, SEQUENCE, COUNT = slice(0, 10), slice(10, 18), slice(18, 20)


def header(session: bytes, sequence: int, count: int) -> bytes:
    return session + sequence.to_bytes(8, "big") + count.to_bytes(2, "big")


def fitting(rng: random.Random, session: bytes, sequence: int) -> tuple[bytes, object]:
    """A header that is the next one or differs in little, and what is wrong with it."""
    count = rng.choice((1, 0xFF, 0x100, 0xFF00, 0xFFFE, rng.randrange(1, 0xFFFF)))
    kind = rng.choice(("right", "right", "byte", "byte", "count"))
    if kind == "count":
        count = rng.choice((moldudp64.HEARTBEAT, moldudp64.END_OF_SESSION))
        return header(session, sequence, count), count
    bits = bytearray(header(session, sequence, count))
    if kind == "right":
        return bytes(bits), "right"
    place = rng.randrange(COUNT.start)
    bits[place] ^= 1 << rng.randrange(8)
    return bytes(bits), place


@pytest.mark.parametrize(("width", "cycles"), [(1, 24_000), (8, 12_000)])
def test_header_that_goes_on_is_found_wherever_it_ends(width, cycles):
    """It must be the next one, and no byte of it may have come before there was that number."""
    seed = int(os.environ.get("TICKWIRE_SEED", "20191230"))
    print(f"seed {seed}")
    rng = random.Random(seed)
    dut = Continuation(width)
    ends = [last_lane(width, slot) for slot in range(slot_count(width))]
    seen = Counter()

    async def bench(ctx):
        session, sequence = rng.randbytes(10), rng.randrange(1 << 64)
        since = {"session": 0, "sequence": 0}
        came: list[tuple[int, int]] = []  # bytes, each with its cycle
        ahead: list[int] = []
        wrong: dict[int, object] = {}  # by the index of the byte behind a header
        ctx.set(dut.position.session, int.from_bytes(session, "little"))
        ctx.set(dut.position.sequence, sequence)
        for cycle in range(2, cycles):
            valid = rng.random() < 0.8
            ctx.set(dut.i.valid, valid)
            if valid:
                if len(ahead) < width:
                    fill = rng.choice((0, 0, rng.randrange(20)))
                    ahead += rng.randbytes(fill)
                    while (len(came) + len(ahead) + SIZE - 1) % width not in ends:
                        ahead.append(rng.randrange(256))
                    bits, what = fitting(rng, session, sequence)
                    ahead += bits
                    wrong[len(came) + len(ahead)] = what
                beat, ahead = ahead[:width], ahead[width:]
                if len(beat) < width:
                    ahead = beat + ahead
                    continue
                came += [(byte, cycle) for byte in beat]
                ctx.set(dut.i.payload.data, int.from_bytes(bytes(beat), "little"))
            else:
                ctx.set(dut.i.payload.data, rng.randrange(1 << 8 * width))
            changes = rng.choice(("session", "sequence")) if rng.random() < 0.03 else None
            ctx.set(dut.session_stb, changes == "session")
            ctx.set(dut.sequence_stb, changes == "sequence")
            await ctx.tick()
            if changes == "session":
                session = bytes(rng.choice(session) ^ rng.choice((0, 1)) for _ in session)
                ctx.set(dut.position.session, int.from_bytes(session, "little"))
            elif changes == "sequence":
                sequence = sequence ^ (1 << rng.randrange(64))
                ctx.set(dut.position.sequence, sequence)
            if changes:
                since[changes] = cycle + 1
            for end in ends if valid else ():
                behind = len(came) - width + end + 1
                ctx.set(dut.start, end + 1)
                if behind < SIZE:
                    continue
                bits = bytes(byte for byte, _ in came[behind - SIZE : behind])
                first = {
                    "session": came[behind - SIZE][1],
                    "sequence": came[behind - SIZE + SEQUENCE.start][1],
                }
                count = int.from_bytes(bits[COUNT], "big")
                fits = (
                    bits[SESSION] == session
                    and int.from_bytes(bits[SEQUENCE], "big") == sequence
                    and count not in (moldudp64.HEARTBEAT, moldudp64.END_OF_SESSION)
                )
                fresh = {name: first[name] > since[name] for name in since}
                got = ctx.get(dut.o)
                where = f"cycle {cycle}, lane {end}, {bits.hex()}, {fresh}"
                assert got == (fits and all(fresh.values())), where
                what = wrong.get(behind)
                seen[end, what if all(fresh.values()) else tuple(fresh.values())] += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    wanted = ["right", moldudp64.HEARTBEAT, moldudp64.END_OF_SESSION, *range(COUNT.start)]
    wanted += [(True, False), (False, True)]
    missing = [(end, what) for end in ends for what in wanted if not seen[end, what]]
    assert not missing, missing


@pytest.mark.parametrize("width", [0, 4, "8"])
def test_another_width_is_refused(width):
    with pytest.raises(ValueError) as caught:
        Continuation(width)
    assert str(caught.value) == f"width must be 1 or 8, not {width!r}"
