"""Rings in host memory: the hardware's ends against those of the host."""

import os
from pathlib import Path

import pytest

from hw.rtl.ring.bus import BusArbiter, BusParams
from hw.rtl.ring.credit import ANSWERS_RESERVED, Credit
from hw.rtl.ring.reader import RingReader
from hw.rtl.ring.rings import PARAMS, Rings
from hw.rtl.ring.writer import RingWriter
from sim.card.functional import order as functional_order
from sim.tb.plain import Plain
from sim.tb.runner import run

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
RECORDS = int(os.environ.get("TICKWIRE_RING_RECORDS", "400"))
POLL_CYCLES = 100
BENCH_TESTS = 13


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: BusParams(word_bits=12), ValueError, "word_bits must be a multiple of 8, not 12"),
        (lambda: BusParams(word_bits=72), ValueError, "word_bits must be 8 to 64, not 72"),
        (lambda: BusParams(word_count=1), ValueError, "word_count must be 2 to 64, not 1"),
        (lambda: BusParams(address_bits=7), ValueError, "address_bits must be 8 to 64, not 7"),
        (lambda: BusArbiter(None, 2), TypeError, "params must be a BusParams, not None"),
        (lambda: BusArbiter(PARAMS, 1), ValueError, "master_count must be 2 to 16, not 1"),
        (lambda: BusArbiter(PARAMS, 2, 0), ValueError, "outstanding must be 1 to 1024, not 0"),
        (lambda: RingWriter(8), TypeError, "params must be a BusParams, not 8"),
        (
            lambda: RingWriter(PARAMS, slots_max=3),
            ValueError,
            "slots_max must be a power of two, 2 to 65536, not 3",
        ),
        (
            lambda: RingWriter(PARAMS, poll_cycles=0),
            ValueError,
            "poll_cycles must be 1 to 65536, not 0",
        ),
        (
            lambda: RingWriter(PARAMS, outstanding="8"),
            TypeError,
            "outstanding must be an integer, not '8'",
        ),
        (lambda: RingReader(PARAMS, ahead=17), ValueError, "ahead must be 1 to 16, not 17"),
        (
            lambda: RingReader(PARAMS, slots_max=True),
            TypeError,
            "slots_max must be an integer, not True",
        ),
        (
            lambda: Rings(execution_queue=1),
            ValueError,
            "execution_queue must be 2 to 1024, not 1",
        ),
    ],
)
def test_bad_argument_is_refused(make, error, text):
    with pytest.raises(error) as refused:
        make()
    assert str(refused.value) == text


def test_rings_speak_the_protocol_of_the_host():
    top = Plain(Rings(slots_max=16, poll_cycles=POLL_CYCLES))
    environment = {
        "SEED": str(SEED),
        "RECORDS": str(RECORDS),
        "POLL_CYCLES": str(POLL_CYCLES),
    }
    assert run(top, top.ports, "rings", "bench_ring", FOLDER, environment) == BENCH_TESTS


def test_credit_is_refused_bad_arguments():
    with pytest.raises(ValueError) as refused:
        Credit(0, 16)
    assert str(refused.value) == "orders_max must be 1 to 65535, not 0"
    with pytest.raises(TypeError) as refused:
        Credit(16, None)
    assert str(refused.value) == "queued_max must be an integer, not None"


def test_credit_reserves_the_slots_of_the_functional_card():
    assert ANSWERS_RESERVED == functional_order.ANSWERS_RESERVED
    top = Plain(Credit(orders_max=64, queued_max=16))
    environment = {"SEED": str(SEED)}
    assert run(top, top.ports, "credit", "bench_credit", FOLDER, environment) == 2
