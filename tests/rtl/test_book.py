# amaranth: UnusedElaboratable=no
# A component whose constructor refuses its arguments is never elaborated.
"""The book: the hardware against the golden book, value and cycle."""

import os
from pathlib import Path

import pytest

from hw.rtl.book.book import Book
from hw.rtl.params import CardParams
from sim.tb.runner import run

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))


def test_bad_argument_is_refused():
    with pytest.raises(TypeError) as refused:
        Book(64)
    assert str(refused.value) == "params must be a CardParams, not 64"


def test_latencies_are_those_of_the_cycle_budget():
    assert Book.LATENCY == 8
    assert Book.LATENCY_REPLACE == 10
    assert Book.INTERVAL == 2
    assert Book.INTERVAL_REPLACE == 4


def test_book_is_the_golden_book():
    params = CardParams(symbol_count=4, order_count=256, level_count=8)
    dut = Book(params)
    ports = [
        dut.i.valid,
        dut.i.ready,
        dut.i.payload.as_value(),
        dut.o.valid,
        dut.o.payload.as_value(),
        dut.locate_stb,
        dut.locate_index,
        dut.locate_valid,
        dut.locate,
        dut.gap_stb,
        dut.unknown_symbol_stb,
        dut.stale.as_value(),
        dut.stash_used_max,
    ]
    environment = {
        "SYMBOL_COUNT": str(params.symbol_count),
        "ORDER_COUNT": str(params.order_count),
        "LEVEL_COUNT": str(params.level_count),
        "OPERATIONS": "25000",
        "SEED": str(SEED),
    }
    assert run(dut, ports, "book", "bench_book", FOLDER, environment) == 7
