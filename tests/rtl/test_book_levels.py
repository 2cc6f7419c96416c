"""Price levels: the hardware against dicts of levels."""

import os
from pathlib import Path

import pytest

from hw.rtl.book.levels import Levels
from sim.tb.runner import run

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))


@pytest.mark.parametrize(
    ("symbol_count", "level_count", "error", "text"),
    [
        (3, 16, ValueError, "symbol_count must be a power of two, 2 to 32768, not 3"),
        (1, 16, ValueError, "symbol_count must be a power of two, 2 to 32768, not 1"),
        (64, 12, ValueError, "level_count must be a power of two, 2 to 64, not 12"),
        (64, 128, ValueError, "level_count must be a power of two, 2 to 64, not 128"),
        (64, "16", TypeError, "level_count must be an integer, not '16'"),
        (None, 16, TypeError, "symbol_count must be an integer, not None"),
    ],
)
def test_bad_argument_is_refused(symbol_count, level_count, error, text):
    with pytest.raises(error) as refused:
        Levels(symbol_count, level_count)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("symbol_count", "level_count", "operations"), [(4, 8, 50_000), (64, 16, 10_000)]
)
def test_levels_are_as_the_model_says(symbol_count, level_count, operations):
    dut = Levels(symbol_count, level_count)
    ports = [
        dut.ready,
        dut.i_fetch.valid,
        dut.i_fetch.payload,
        dut.i_change.valid,
        dut.i_change.payload.as_value(),
        dut.refill_stb,
        dut.o.valid,
        dut.o.payload.as_value(),
    ]
    environment = {
        "SYMBOL_COUNT": str(symbol_count),
        "LEVEL_COUNT": str(level_count),
        "OPERATIONS": str(operations),
        "SEED": str(SEED),
    }
    assert run(dut, ports, "levels", "bench_book_levels", FOLDER, environment) == 7
