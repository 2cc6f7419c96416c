"""Every construct of the kernel subset on every back end, with the values it must give."""

from enum import IntEnum
from typing import NamedTuple

import numba
import pytest
import z3

import kernels.types as kernel_types
from hw.hls.equivalence import amaranth
from hw.hls.front import read
from hw.hls.ir import KernelError
from hw.hls.prove import Verdict, prove
from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline
from hw.hls.to_numba import to_numba
from hw.hls.to_z3 import to_z3
from hw.hls.values import flattened, results
from kernels.types import (
    S8,
    S9,
    S10,
    S17,
    S18,
    S32,
    S48,
    U1,
    U2,
    U4,
    U8,
    U9,
    U12,
    U16,
    U17,
    U24,
    U32,
    U48,
    Bool,
    Fixed,
    S,
    U,
    UFixed,
    from_raw,
    kernel,
    raw,
    rescale,
    saturate,
    to_fixed,
    to_int,
    truncate,
    wrap,
)
from protocol import units
from sim.tb.kernels import verilator

LIMIT = 1000
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)
SIGNED = (-100, 0, 100)
GRID = ((1, 2), (3, 4), (5, 6), (7, 8))
FLAGS = (True, False, False, True)
Half = UFixed[8, 1]
Price = Fixed[12, 4]
Ratio = Fixed[4, 8]


class Side(IntEnum):
    BUY = 1
    SELL = 2


class Quote(NamedTuple):
    bid: U16
    ask: U16 = 9


class Held(NamedTuple):
    quote: Quote
    good: Bool


@kernel
def arithmetic(a: S8, b: U8) -> tuple[S10, S10, S17, S9, S9]:
    return a + b, a - b, a * b, -a, +a


@kernel
def bitwise(a: S8, b: U8) -> tuple[S9, S9, S9, S8]:
    return a & b, a | b, a ^ b, ~a


@kernel
def shifts(a: S8, n: U4) -> tuple[S[24], S8, S[12], S8]:
    return a << n, a >> n, a << 3, a >> 2


@kernel
def extremes(a: S8, b: U8, c: S8) -> tuple[U8, S8, U8, S8]:
    return abs(a), min(a, b), max(a, b), max(min(a, c), -5)


@kernel
def divisions(a: S32, b: U16) -> tuple[S32, U12, U16, U4, S32, U4]:
    return a // 10, a % 1000, b // 7, b % 10, a // 8, a % 8


@kernel
def comparisons(a: S8, b: U8) -> tuple[Bool, Bool, Bool, Bool, Bool, Bool, Bool]:
    return a == b, a != b, a < b, a <= b, a > b, a >= b, -3 <= a < b <= 200


@kernel
def logic(a: Bool, b: Bool, x: U8) -> tuple[Bool, Bool, Bool, Bool, Bool, U2]:
    return a and b, a or b, not a, a ^ b, a == b and x != 0, int(a) + int(b or x > 3)


@kernel
def branches(a: S8) -> tuple[U8, U8]:
    if a < -10:
        kind = 1
        size = -a
    elif a == 0:
        kind = 2
        size = 0
    else:
        kind = 3
        size = abs(a)
    return kind, size


@kernel
def early(a: U8, b: U8) -> U8:
    if a == 0:
        return 255
    if b > a:
        if b > 200:
            return 1
        b -= a
    return 2 + b // 4


@kernel
def conditional(a: U8, b: U8) -> U8:
    return a - b if a > b else (b - a if b < 100 else 7)


@kernel
def loops(a: U16) -> tuple[U8, U8]:
    ones = 0
    for bit in range(16):
        ones += a >> bit & 1
    last = 0
    for bit in range(14, -1, -2):
        if a >> bit & 1 != 0:
            last = bit
    return ones, last


@kernel
def tables(i: U8, j: U8) -> tuple[U8, S8, U4, Bool, U8]:
    at = min(j, 2)
    row = GRID[i & 3]
    return PRIMES[i % 8], SIGNED[at], row[1], FLAGS[i >> 6], len(PRIMES) + GRID[2][0]


@kernel
def records(quote: Quote, held: Held) -> tuple[Held, U17]:
    swapped = Quote(ask=quote.bid, bid=quote.ask)
    bid, ask = held.quote
    chosen = swapped if held.good else Quote(bid)
    return Held(chosen, not held.good), chosen[0] + ask


@kernel
def tuples(pair: tuple[U8, S8], x: U8) -> tuple[S10, tuple[U8, U8]]:
    first, second = pair
    both = x, first
    return first + second, (both[1], both[-2])


@kernel
def doubled(x: U8) -> U9:
    return 2 * x


@kernel
def clamped(x: U16, most: U8) -> U8:
    if x > most:
        return most
    return truncate(x, U8)


@kernel
def calls(a: U8, b: U8) -> U16:
    twice = doubled(x=a)
    return clamped(twice + doubled(b), 200) + doubled(b)


@kernel
def constants(a: U16, side: U2) -> tuple[Bool, U16, U1]:
    over = a > LIMIT
    code: U16 = Side.BUY if side == Side.SELL else units.BASIS_POINTS
    return over, code, 1


@kernel
def widths(a: S18) -> tuple[U8, S8, U8, S8, S8, U8]:
    low = kernel_types.wrap(a, S8)
    return wrap(a, U8), low, saturate(a, U8), saturate(a, S8), truncate(a >> 10, S8), a & 255


@kernel
def fixed(a: Price, b: Ratio, n: U4) -> tuple[Fixed[13, 4], Fixed[16, 12], Bool, S[12], Price]:
    product = a * b
    moved = rescale(b, Ratio, Price)
    return a + moved, product, a < to_fixed(n, Price), to_int(a, Price), max(a, 0) >> 1


@kernel
def raws(a: U8) -> tuple[Half, U9, UFixed[6, 5]]:
    half = from_raw(a, Half)
    return half, raw(half) + 1, rescale(wrap(half, UFixed[3, 1]), UFixed[3, 1], UFixed[6, 5])


@kernel
def narrowing(a: U8, b: U8) -> tuple[U8, U4, U8]:
    gap = a - b if a >= b else 0
    index = PRIMES[a - 3] if 3 <= a <= 10 and b != 4 else 0
    if not (a == 0 or b < a):
        return b - a, 1, index
    return gap, 2, index


@kernel
def products(a: S32, b: U24, c: U48) -> tuple[S[57], S[65], U[64], S48]:
    return a * b, a * a - b, c * 9999, wrap(a * c, S48)


@kernel
def annotated(a: U8) -> U32:
    """Docstrings and annotated names may stand anywhere."""
    wide: U32 = a
    """Such as here."""
    pass
    wide <<= 3
    wide |= 1
    other: U[33] = wide * 2
    return other


CASES = [
    (arithmetic, (-128, 255), (127, -383, -32640, 128, -128)),
    (arithmetic, (5, 7), (12, -2, 35, -5, 5)),
    (bitwise, (-2, 255), (254, -1, -255, 1)),
    (bitwise, (12, 10), (8, 14, 6, -13)),
    (shifts, (-3, 15), (-98304, -1, -24, -1)),
    (shifts, (100, 2), (400, 25, 800, 25)),
    (extremes, (-128, 3, -128), (128, -128, 3, -5)),
    (extremes, (100, 200, 7), (100, 100, 200, 7)),
    (divisions, (-1, 65535), (-1, 999, 9362, 5, -1, 7)),
    (divisions, (123456, 13), (12345, 456, 1, 3, 15432, 0)),
    (divisions, (-2147483648, 0), (-214748365, 352, 0, 0, -268435456, 0)),
    (comparisons, (-1, 255), (False, True, True, True, False, False, False)),
    (comparisons, (7, 7), (True, False, False, True, False, True, False)),
    (comparisons, (-3, 200), (False, True, True, True, False, False, True)),
    (logic, (True, False, 4), (False, True, False, True, False, 2)),
    (logic, (False, False, 1), (False, False, True, False, True, 0)),
    (branches, (-11,), (1, 11)),
    (branches, (0,), (2, 0)),
    (branches, (-10,), (3, 10)),
    (early, (0, 5), 255),
    (early, (10, 201), 1),
    (early, (10, 200), 49),
    (early, (10, 9), 4),
    (conditional, (9, 4), 5),
    (conditional, (4, 9), 5),
    (conditional, (4, 100), 7),
    (loops, (0xA105,), (5, 0)),
    (loops, (0x4000,), (1, 14)),
    (tables, (7, 1), (19, 0, 8, True, 13)),
    (tables, (192, 255), (2, 100, 2, True, 13)),
    (records, (Quote(3, 4), Held(Quote(5, 6), True)), (Held(Quote(4, 3), False), 10)),
    (records, (Quote(3, 4), Held(Quote(5, 6), False)), (Held(Quote(5, 9), True), 11)),
    (tuples, ((200, -56), 3), (144, (200, 3))),
    (calls, (20, 30), 160),
    (calls, (100, 30), 260),
    (constants, (1001, 2), (True, 1, 1)),
    (constants, (1000, 1), (False, 10000, 1)),
    (widths, (-131072,), (0, 0, 0, -128, -128, 0)),
    (widths, (511,), (255, -1, 255, 127, 0, 255)),
    (fixed, (40, -128, 3), (32, -5120, True, 2, 20)),
    (fixed, (-1, 1, 0), (-1, -1, True, -1, 0)),
    (raws, (255,), (255, 256, 240)),
    (narrowing, (5, 3), (2, 2, 5)),
    (narrowing, (3, 5), (2, 1, 2)),
    (narrowing, (255, 4), (251, 2, 0)),
    (
        products,
        (-2147483648, 16777215, 281474976710655),
        (-36028794871480320, 4611686018410610689, 2814468292129839345, 2147483648),
    ),
    (annotated, (255,), 4082),
]
KERNELS = list(dict.fromkeys(kernel for kernel, _, _ in CASES))


def flat(kernel, values):
    found = {}
    for (name, kind), value in zip(kernel.parameters.items(), values, strict=True):
        found |= flattened(kind, name, value)
    return found


def cases(kernel):
    return [(values, expected) for each, values, expected in CASES if each is kernel]


def of(kernels):
    return pytest.mark.parametrize("kernel", kernels, ids=lambda kernel: kernel.name)


@pytest.mark.parametrize(("kernel", "values", "expected"), CASES)
def test_construct_in_python(kernel, values, expected):
    assert kernel(*values) == expected


@of(KERNELS)
def test_construct_in_the_dataflow(kernel):
    graph = read(kernel)
    for values, expected in cases(kernel):
        assert graph.evaluate(flat(kernel, values)) == results(kernel, expected)


@of([kernel for kernel in KERNELS if kernel is not products])
def test_construct_in_numba(kernel):
    compiled = to_numba(kernel)
    for values, expected in cases(kernel):
        assert compiled(*values) == expected


@of(KERNELS)
def test_construct_in_z3(kernel):
    formula = to_z3(kernel)
    for values, expected in cases(kernel):
        solver = z3.Solver()
        for name, value in flat(kernel, values).items():
            solver.add(formula.integer(name) == value)
        assert solver.check() == z3.sat
        for name, value in results(kernel, expected).items():
            assert solver.model().eval(formula.integer(name)).as_long() == value


@of(KERNELS)
def test_construct_in_hardware_and_proven(kernel):
    plan = schedule(kernel)
    inputs = [flat(kernel, values) for values, _ in cases(kernel)]
    expected = [results(kernel, each) for _, each in cases(kernel)]
    assert amaranth(plan, Pipeline(plan), inputs) == [None] * plan.latency + expected
    assert prove(plan, Pipeline(plan)).verdict is Verdict.PROVEN


@kernel
def everything(
    a: S8, b: U8, c: S8, n: U4, w: S32, q: Quote, h: Held, t: Bool, p: Price, r: Ratio, k: U48
) -> tuple[
    tuple[S10, S10, S17, S9, S9],
    tuple[S9, S9, S9, S8],
    tuple[S[24], S8, S[12], S8],
    tuple[U8, S8, U8, S8],
    tuple[S32, U12, U16, U4, S32, U4],
    tuple[Bool, Bool, Bool, Bool, Bool, Bool, Bool],
    tuple[Bool, Bool, Bool, Bool, Bool, U2],
    tuple[U8, U8],
    U8,
    U8,
    tuple[U8, U8],
    tuple[U8, S8, U4, Bool, U8],
    tuple[Held, U17],
    tuple[S10, tuple[U8, U8]],
    U16,
    tuple[Bool, U16, U1],
    tuple[U8, S8, U8, S8, S8, U8],
    tuple[Fixed[13, 4], Fixed[16, 12], Bool, S[12], Price],
    tuple[Half, U9, UFixed[6, 5]],
    tuple[U8, U4, U8],
    tuple[S[57], S[65], U[64], S48],
    U32,
]:
    return (
        arithmetic(a, b),
        bitwise(a, b),
        shifts(a, n),
        extremes(a, b, c),
        divisions(w, q.bid),
        comparisons(a, b),
        logic(t, h.good, b),
        branches(a),
        early(b, wrap(w, U8)),
        conditional(b, wrap(w, U8)),
        loops(q.ask),
        tables(b, q.bid & 255),
        records(q, h),
        tuples((b, a), wrap(w, U8)),
        calls(b, wrap(w, U8)),
        constants(q.bid, n & 3),
        widths(wrap(w, S18)),
        fixed(p, r, n),
        raws(b),
        narrowing(b, wrap(w, U8)),
        products(w, wrap(w * 3, U24), k),
        annotated(b),
    )


def test_constructs_in_verilator():
    plan = schedule(everything)
    inputs, expected = [], []
    for at in range(64):
        values = (
            (at * 37 + 1) % 256 - 128,
            at * 91 % 256,
            at * 53 % 256 - 128,
            at % 16,
            (at * 0x9E3779B1) % (1 << 32) - (1 << 31),
            Quote(at * 4099 % 65536, at * 331 % 65536),
            Held(Quote(at, 65535 - at), at % 3 == 0),
            at % 2 == 0,
            at * 2053 % 65536 - 32768,
            at * 61 % 4096 - 2048,
            at * 0x9E3779B97F4A % (1 << 48),
        )
        inputs.append(flat(everything, values))
        expected.append(results(everything, everything(*values)))
    assert verilator(plan, Pipeline(plan), inputs) == [None] * plan.latency + expected


def test_python_stands_in_where_numba_is_switched_off(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert to_numba(early) is early.function
    assert to_numba(early)(10, 200) == 49
    with pytest.raises(KernelError, match="Numba's integers hold"):
        to_numba(products)
