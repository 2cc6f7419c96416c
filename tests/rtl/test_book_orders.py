"""Hashes and order map: the hardware against plain Python models."""

import os
import random
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Const, Elaboratable, Module, Signal
from amaranth.sim import Simulator

from hw.rtl.book.hash import HASH_COUNT, POLYNOMIALS, circuit, compute, masks
from hw.rtl.book.orders import OrderMap
from sim.tb.runner import run

FOLDER = Path(__file__).parent
BITS = 12
TESTS = 8
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))


def _largest_bucket(references, which, bits=BITS):
    buckets = [0] * (1 << bits)
    for reference in references:
        buckets[compute(which, reference, bits)] += 1
    return max(buckets)


@pytest.mark.parametrize("which", range(HASH_COUNT))
@pytest.mark.parametrize("shift", [0, 1, 7, 12, 31, 52])
def test_any_run_of_bits_maps_one_to_one(which, shift):
    base = 0x0123456789ABCDEF & ~(0xFFF << shift)
    assert _largest_bucket((base | low << shift for low in range(1 << BITS)), which) == 1


@pytest.mark.parametrize("which", range(HASH_COUNT))
@pytest.mark.parametrize("kind", ["near-sequential", "equal low bits", "equal high bits"])
def test_references_spread_as_evenly_as_random_ones(which, kind):
    print(f"seed={SEED}")
    rng = random.Random(SEED)
    count = 4 << BITS
    reference, near = 123_456_789, []
    for _ in range(count):
        reference += rng.choice((1, 1, 1, 2, 4, 8, 100))
        near.append(reference)
    references = {
        "near-sequential": near,
        "equal low bits": [rng.getrandbits(32) << 32 | 0x5EED for _ in range(count)],
        "equal high bits": [0x5EED << 48 | rng.getrandbits(24) for _ in range(count)],
    }[kind]
    # 16,384 balls in 4,096 bins: that one holds more than 20 has a chance below one in 10^5.
    assert _largest_bucket(references, which) <= 20


def test_two_references_of_one_bucket_part_under_the_other_hashes():
    shared = [r for r in range(1 << 20) if compute(0, r, BITS) == 0x123]
    assert len(shared) == 256
    for which in range(1, HASH_COUNT):
        assert _largest_bucket(shared, which) <= 4


@pytest.mark.parametrize("bits", sorted(POLYNOMIALS))
def test_hash_is_the_remainder_by_its_polynomial(bits):
    rng = random.Random(bits)
    for which, polynomial in enumerate(POLYNOMIALS[bits]):
        for _ in range(20):
            reference = remainder = rng.getrandbits(64)
            for position in range(63, bits - 1, -1):
                if remainder >> position & 1:
                    remainder ^= polynomial << (position - bits)
            assert compute(which, reference, bits) == remainder


@pytest.mark.parametrize("bits", sorted(POLYNOMIALS))
def test_polynomials_are_primitive_and_differ(bits):
    assert len(set(POLYNOMIALS[bits])) == HASH_COUNT
    for polynomial in POLYNOMIALS[bits]:
        state, period = 1, 0
        while period == 0 or state != 1:
            state <<= 1
            if state >> bits:
                state ^= polynomial
            period += 1
        assert period == (1 << bits) - 1


def test_output_bits_take_at_most_32_reference_bits():
    taken = [m.bit_count() for b in POLYNOMIALS for w in range(HASH_COUNT) for m in masks(w, b)]
    assert max(taken) <= 32


def test_circuit_is_the_function():
    rng = random.Random(1)
    for bits in (2, 4, 12, 16):
        for which in range(HASH_COUNT):
            reference = rng.getrandbits(64)
            value = circuit(which, Const(reference, 64), bits)
            assert len(value) == bits
            assert _evaluate(value) == compute(which, reference, bits)


def _evaluate(value):
    m, out, got = Module(), Signal(len(value)), []
    m.d.comb += out.eq(value)

    async def bench(ctx):
        got.append(ctx.get(out))

    simulator = Simulator(m)
    simulator.add_testbench(bench)
    simulator.run()
    return got[0]


@pytest.mark.parametrize(
    ("which", "bits", "text"),
    [
        (4, 12, "which must be 0 to 3, not 4"),
        (0, 0, "bits must be 1 to 16, not 0"),
        (0, 17, "bits must be 1 to 16, not 17"),
    ],
)
def test_hash_that_does_not_exist_is_refused(which, bits, text):
    with pytest.raises(ValueError) as refused:
        masks(which, bits)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        (
            {"order_count": 48},
            ValueError,
            "order_count must be a power of two, 16 to 262144, not 48",
        ),
        ({"order_count": 8}, ValueError, "order_count must be a power of two, 16 to 262144, not 8"),
        (
            {"order_count": 524288},
            ValueError,
            "order_count must be a power of two, 16 to 262144, not 524288",
        ),
        ({"order_count": "64"}, TypeError, "order_count must be an integer, not '64'"),
        (
            {"order_count": 64, "symbol_count": 3},
            ValueError,
            "symbol_count must be a power of two, 2 to 65536, not 3",
        ),
        (
            {"order_count": 64, "stash_count": 32},
            ValueError,
            "stash_count must be a power of two, 2 to 16, not 32",
        ),
        (
            {"order_count": 64, "stash_count": 4.0},
            TypeError,
            "stash_count must be an integer, not 4.0",
        ),
    ],
)
def test_bad_argument_is_refused(arguments, error, text):
    with pytest.raises(error) as refused:
        OrderMap(**arguments)
    assert str(refused.value) == text


class Top(Elaboratable):
    """The order map with all inputs in one port and its flags in another, for a fast bench."""

    def __init__(self, order_count: int):
        self.orders = orders = OrderMap(order_count)
        self.distracted = Signal()
        self.inputs = Cat(
            *(orders.i.valid, orders.i.payload, orders.scan.valid, orders.scan.payload),
            *(self.distracted, orders.drop),
        )
        self.outputs = Cat(
            *(orders.o.valid, orders.i.ready, orders.scan.ready, orders.full_stb),
            *(orders.stash_used, orders.stash_used_max),
        )
        self.stimulus = Signal(len(self.inputs))
        self.flags = Signal(len(self.outputs))
        self.told = Signal(len(orders.o.payload.as_value()))

    def elaborate(self, platform):
        m = Module()
        m.submodules.orders = self.orders
        m.d.comb += [
            self.inputs.eq(self.stimulus),
            self.orders.busy.eq(self.orders.i.valid | self.distracted),
            self.flags.eq(self.outputs),
            self.told.eq(self.orders.o.payload),
        ]
        return m


def _bench(order_count, fill, operations):
    top = Top(order_count)
    environment = {
        "ORDER_COUNT": str(order_count),
        "FILL": str(fill),
        "OPERATIONS": str(operations),
        "SEED": str(SEED),
    }
    ports = [top.stimulus, top.flags, top.told]
    return run(top, ports, "order_map", "bench_book_orders", FOLDER, environment)


@pytest.mark.parametrize(("order_count", "fill"), [(16, 20), (64, 52)])
def test_small_order_map_is_as_the_model_says(order_count, fill):
    assert _bench(order_count, fill, 25_000) == TESTS


def test_order_map_of_a_card_holds_its_rated_fill():
    assert _bench(16_384, 10_240, 20_000) == TESTS
