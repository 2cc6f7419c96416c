"""The memory of rows: the hardware against a list, and how wide its columns are."""

import os
import random
import re

import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from hw.rtl.book.table import Table, column_bits

SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))


@pytest.mark.parametrize(
    ("depth", "width"),
    [(2, 36), (512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16_384, 1), (65_536, 1)],
)
def test_column_is_as_wide_as_one_block_ram_at_that_depth(depth, width):
    assert column_bits(depth) == width


def test_row_is_made_of_columns_of_one_block_ram():
    table = Table(width_bits=137, depth=4096)
    ports = [
        *(table.read_address, table.read_data),
        *(table.write_en, table.write_address, table.write_data),
    ]
    text = rtlil.convert(table, name="table", ports=ports)
    memories = re.findall(r"memory width (\d+) size (\d+)", text)
    assert memories == [("4", "4096")] * 34 + [("1", "4096")]


@pytest.mark.parametrize(("width_bits", "depth"), [(1, 2), (37, 4), (40, 64), (10, 4096)])
def test_row_is_read_one_cycle_after_its_address(width_bits, depth):
    print(f"seed={SEED}")
    rng = random.Random(SEED)
    table = Table(width_bits, depth)
    rows = [rng.getrandbits(width_bits) for _ in range(depth)]
    seen = []

    async def bench(ctx):
        ctx.set(table.write_en, 1)
        for address, row in enumerate(rows):
            ctx.set(table.write_address, address)
            ctx.set(table.write_data, row)
            await ctx.tick()
        for _ in range(500):
            written, read = rng.sample(range(depth), 2)
            write_en, row = rng.getrandbits(1), rng.getrandbits(width_bits)
            ctx.set(table.write_en, write_en)
            ctx.set(table.write_address, written)
            ctx.set(table.write_data, row)
            ctx.set(table.read_address, read)
            await ctx.tick()
            if write_en:
                rows[written] = row
            seen.append((ctx.get(table.read_data), rows[read]))

    simulator = Simulator(table)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(seen) == 500
    assert [got for got, _ in seen] == [expected for _, expected in seen]


@pytest.mark.parametrize(
    ("width_bits", "depth", "error", "text"),
    [
        (0, 64, ValueError, "width_bits must be 1 or more, not 0"),
        ("8", 64, TypeError, "width_bits must be an integer, not '8'"),
        (8, 48, ValueError, "depth must be a power of two, 2 to 65536, not 48"),
        (8, 1, ValueError, "depth must be a power of two, 2 to 65536, not 1"),
        (8, 1 << 17, ValueError, "depth must be a power of two, 2 to 65536, not 131072"),
        (8, None, TypeError, "depth must be an integer, not None"),
    ],
)
def test_bad_argument_is_refused(width_bits, depth, error, text):
    with pytest.raises(error) as refused:
        Table(width_bits, depth)
    assert str(refused.value) == text
