"""The stash: the hardware against a list of slots, cycle by cycle."""

import os
import random

import pytest
from amaranth.lib import data
from amaranth.sim import Simulator

from hw.rtl.book.stash import Stash

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
ORDER = data.StructLayout({"price": 32, "shares": 32})


@pytest.mark.parametrize("stash_count", [2, 16])
def test_stash_is_as_the_model_says(stash_count):
    print(f"seed={SEED}")
    rng = random.Random(SEED)
    stash = Stash(ORDER, stash_count)
    slots = [(0, 0, 0)] * stash_count  # Valid, reference, price, as the next cycle shows them.
    last_prices = [0] * stash_count  # As they were a cycle before.
    wrong = []
    seen = {"hits": 0, "reads": 0, "candidates": 0}

    async def bench(ctx):
        nonlocal last_prices
        held = 0
        for cycle in range(2_000):
            # An entry stays for two cycles.
            writes = cycle % 2 == 0 and rng.random() < 0.5
            written = rng.randrange(stash_count)
            if cycle % 2 == 0:
                entry = (int(rng.random() < 0.7), rng.randrange(8), rng.getrandbits(32))
                ctx.set(stash.write_entry.valid, entry[0])
                ctx.set(stash.write_entry.reference, entry[1])
                ctx.set(stash.write_entry.order.price, entry[2])
            ctx.set(stash.write_slots, writes << written)
            reference, read = rng.randrange(8), rng.randrange(stash_count)
            ctx.set(stash.reference, reference)
            ctx.set(stash.read_slots, 1 << read)

            hits = sum((v and r == reference) << i for i, (v, r, _) in enumerate(slots))
            valid = sum(v << i for i, (v, _, _) in enumerate(slots))
            expected = (hits, valid, last_prices[read])
            got = (ctx.get(stash.hits), ctx.get(stash.valid), ctx.get(stash.read_order.price))
            if got != expected:
                wrong.append((cycle, got, expected))
            # One slot a cycle is looked at, and none that is empty is taken up.
            looked_at = slots[cycle % stash_count]
            held = looked_at[1] if looked_at[0] else held
            last_prices = [price for _, _, price in slots]
            if writes:
                slots[written] = entry
            await ctx.tick()
            candidate = (ctx.get(stash.candidate_valid), ctx.get(stash.candidate_reference))
            if candidate != (int(valid != 0), held):
                wrong.append((cycle, candidate, (valid != 0, held)))
            seen["hits"] += hits != 0
            seen["reads"] += last_prices[read] != 0
            seen["candidates"] += candidate[0]

    simulator = Simulator(stash)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert wrong == []
    assert min(seen.values()) > 100


@pytest.mark.parametrize(
    ("stash_count", "error", "text"),
    [
        (32, ValueError, "stash_count must be a power of two, 2 to 16, not 32"),
        (3, ValueError, "stash_count must be a power of two, 2 to 16, not 3"),
        ("4", TypeError, "stash_count must be an integer, not '4'"),
    ],
)
def test_bad_argument_is_refused(stash_count, error, text):
    with pytest.raises(error) as refused:
        Stash(ORDER, stash_count)
    assert str(refused.value) == text
