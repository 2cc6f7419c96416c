"""The book: the hardware against the golden book, value and cycle."""

import os
from pathlib import Path

import pytest

from hw.rtl.book.background import Background
from hw.rtl.book.book import Book
from hw.rtl.book.locates import Locates
from hw.rtl.book.stale import StaleFlags
from hw.rtl.params import CardParams
from sim.tb.runner import run

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))


def test_bad_argument_is_refused():
    with pytest.raises(TypeError) as refused:
        Book(64)
    assert str(refused.value) == "params must be a CardParams, not 64"


@pytest.mark.parametrize(
    ("part", "most"),
    [(Locates, 4096), (StaleFlags, 65536), (lambda count: Background(count, 8), 65536)],
)
def test_bad_symbol_count_of_a_part_is_refused(part, most):
    with pytest.raises(ValueError) as refused:
        part(3)
    assert str(refused.value) == f"symbol_count must be a power of two, 2 to {most}, not 3"
    with pytest.raises(TypeError) as refused:
        part("4")
    assert str(refused.value) == "symbol_count must be an integer, not '4'"


def test_more_orders_than_levels_count_are_refused():
    with pytest.raises(ValueError) as refused:
        Book(CardParams(order_count=65536))
    assert str(refused.value) == "params.order_count must be 32768 or less, not 65536"


def test_latencies_are_those_of_the_cycle_budget():
    assert Book.LATENCY == 6
    assert Book.LATENCY_REPLACE == 8
    assert Book.INTERVAL == 2
    assert Book.INTERVAL_REPLACE == 4


def test_book_is_the_golden_book():
    params = CardParams(symbol_count=4, order_count=256, level_count=8)
    dut = Book(params)
    ports = [
        dut.ready,
        dut.i.valid,
        dut.i.payload.as_value(),
        dut.i_hint.valid,
        dut.i_hint.payload.as_value(),
        dut.i_repair.valid,
        dut.i_repair.ready,
        dut.i_repair.payload.as_value(),
        dut.o.valid,
        dut.o.payload.as_value(),
        dut.locate_stb,
        dut.locate_index,
        dut.locate_valid,
        dut.locate,
        dut.name_stb,
        dut.name_index,
        dut.name_valid,
        dut.name_stock,
        dut.unknown_symbol_stb,
        dut.overflow_stb,
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
    assert run(dut, ports, "book", "bench_book", FOLDER, environment) == 18
