"""Kernel types, and kernels as plain Python calls them."""

from typing import Annotated, NamedTuple

import pytest

from kernels.types import (
    S2,
    S16,
    S64,
    U1,
    U8,
    U32,
    U64,
    Bool,
    Boolean,
    Fixed,
    Group,
    S,
    Shape,
    U,
    UFixed,
    from_raw,
    kernel,
    kernel_type,
    raw,
    rescale,
    saturate,
    to_fixed,
    to_int,
    truncate,
    wrap,
)


class Quote(NamedTuple):
    bid: U32
    ask: U32


class Pair(NamedTuple):
    first: Quote
    good: Bool


@kernel
def spread(quote: Quote, offset: S16) -> tuple[S[34], Bool]:
    """Return the spread moved by an offset, and whether the quote is locked or crossed."""
    return quote.ask - quote.bid + offset, quote.ask <= quote.bid


@kernel
def lying(x: U8) -> U8:
    return x + 1


@pytest.mark.parametrize(
    ("kind", "name", "lo", "hi"),
    [
        (U1, "U1", 0, 1),
        (U8, "U8", 0, 255),
        (U64, "U64", 0, 18446744073709551615),
        (S2, "S2", -2, 1),
        (S16, "S16", -32768, 32767),
        (S64, "S64", -9223372036854775808, 9223372036854775807),
        (U[37], "U37", 0, 137438953471),
        (S[1], "S1", -1, 0),
        (Fixed[8, 4], "Fixed[8, 4]", -2048, 2047),
        (UFixed[0, 3], "UFixed[0, 3]", 0, 7),
        (Annotated[int, Shape(5, True)], "S5", -16, 15),
    ],
)
def test_type_has_this_name_and_holds_these_values(kind, name, lo, hi):
    shape = kernel_type(kind)
    assert (str(shape), shape.lo, shape.hi) == (name, lo, hi)


def test_bool_record_and_tuple_are_types():
    assert kernel_type(Bool) == Boolean()
    assert kernel_type(tuple[U8, Bool]) == Group((("0", Shape(8)), ("1", Boolean())))
    assert kernel_type(Pair).record is Pair
    assert [name for name, _ in kernel_type(Pair).leaves("p")] == [
        "p_first_bid",
        "p_first_ask",
        "p_good",
    ]


@pytest.mark.parametrize(
    ("build", "error", "text"),
    [
        (lambda: U[0], ValueError, "width must be 1 or more, not 0"),
        (lambda: S["8"], TypeError, "width must be an integer, not '8'"),
        (lambda: U[True], TypeError, "width must be an integer, not True"),
        (lambda: Fixed[8], TypeError, "bits must be two, before and behind the point, not 8"),
        (lambda: Fixed[8, -1], ValueError, "fraction must be 0 or more, not -1"),
        (lambda: Fixed["8", 1], TypeError, "whole bits must be an integer, not '8'"),
        (lambda: UFixed[0, 0], ValueError, "width must be 1 or more, not 0"),
        (lambda: Shape(8, 1), TypeError, "signed must be a bool, not 1"),
        (lambda: Shape(8, True, -1), ValueError, "fraction must be 0 or more, not -1"),
        (
            lambda: wrap(1, bool),
            TypeError,
            "must be an integer or fixed-point type, not Bool",
        ),
        (
            lambda: kernel_type(float),
            TypeError,
            "must be U[n], S[n], Bool, Fixed[i, f], UFixed[i, f], a NamedTuple or a tuple of them, "
            "not float",
        ),
        (lambda: truncate(256, U8), ValueError, "truncate: value must be 0 to 255 (U8), not 256"),
    ],
)
def test_bad_type_is_refused(build, error, text):
    with pytest.raises(error) as refused:
        build()
    assert str(refused.value) == text


def bare(x):
    return x


def floating(x: float) -> U8:
    return 0


def starred(*x: U8) -> U8:
    return 0


def defaulted(x: U8 = 3) -> U8:
    return x


def silent(x: U8):
    return x


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (bare, "bare: x has no type"),
        (
            floating,
            "floating: x must be U[n], S[n], Bool, Fixed[i, f], UFixed[i, f], a NamedTuple or a "
            "tuple of them, not float",
        ),
        (starred, "starred: x must be an ordinary parameter"),
        (defaulted, "defaulted: x must have no default"),
        (silent, "silent: return has no type"),
    ],
)
def test_function_without_kernel_types_is_no_kernel(function, text):
    with pytest.raises(TypeError) as refused:
        kernel(function)
    assert str(refused.value) == text


def test_kernel_is_called_like_its_function():
    assert spread(Quote(100, 103), -1) == (2, False)
    assert spread(quote=Quote(103, 100), offset=0) == (-3, True)
    assert spread.function(Quote(1, 2), 0) == (1, False)
    assert spread.__doc__.startswith("Return the spread")
    assert repr(spread) == "<kernel spread>"


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: spread(Quote(1, 2), 40000),
            ValueError,
            "spread: offset must be -32768 to 32767 (S16), not 40000",
        ),
        (
            lambda: spread(Quote(-1, 2), 0),
            ValueError,
            "spread: quote.bid must be 0 to 4294967295 (U32), not -1",
        ),
        (lambda: spread((1, 2), 0), TypeError, "spread: quote must be a Quote, not (1, 2)"),
        (
            lambda: spread(Quote(1, 2), 1.0),
            TypeError,
            "spread: offset must be an int (S16), not 1.0",
        ),
        (
            lambda: spread(Quote(1, True), 0),
            TypeError,
            "spread: quote.ask must be an int (U32), not True",
        ),
        (lambda: lying(255), ValueError, "lying: result must be 0 to 255 (U8), not 256"),
        (lambda: lying(), TypeError, "missing a required argument: 'x'"),
    ],
)
def test_value_that_is_not_of_its_type_is_refused(call, error, text):
    with pytest.raises(error) as refused:
        call()
    assert str(refused.value) == text


def test_a_bool_must_be_one_and_a_tuple_as_long():
    with pytest.raises(TypeError) as refused:
        Boolean().check("x", 1)
    assert str(refused.value) == "x must be a bool, not 1"
    with pytest.raises(TypeError) as refused:
        kernel_type(tuple[U8, U8]).check("x", (1,))
    assert str(refused.value) == "x must be a tuple of 2, not (1,)"
    with pytest.raises(ValueError) as refused:
        kernel_type(tuple[U8, U8]).check("x", (1, 256))
    assert str(refused.value) == "x[1] must be 0 to 255 (U8), not 256"


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (wrap(256, U8), 0),
        (wrap(-1, U8), 255),
        (wrap(130, S[8]), -126),
        (wrap(-129, S[8]), 127),
        (wrap(127, S[8]), 127),
        (saturate(300, U8), 255),
        (saturate(-5, U8), 0),
        (saturate(-129, S[8]), -128),
        (truncate(255, U8), 255),
        (to_fixed(3, Fixed[8, 4]), 48),
        (to_int(-1, Fixed[8, 4]), -1),
        (to_int(31, Fixed[8, 4]), 1),
        (rescale(5, Fixed[8, 1], Fixed[8, 4]), 40),
        (rescale(-5, Fixed[8, 4], Fixed[8, 2]), -2),
        (from_raw(24, Fixed[8, 4]), 24),
        (raw(24), 24),
    ],
)
def test_conversion_gives(found, expected):
    assert found == expected
