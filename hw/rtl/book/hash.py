"""Four different hashes of an order reference, as XORs of its bits.

A hash is the remainder of the reference, taken as a polynomial over GF(2), by a primitive
polynomial. That gives what references need that come nearly in sequence:

- any run of bits as long as the remainder maps one to one, so that references that differ only
  there, sequential ones among them, spread without a single collision;
- the polynomials are coprime, so that two references that share a bucket under one hash are no
  more likely to share it under another.

The polynomials are those of each degree whose widest output bit takes the fewest reference bits,
and among equals those that take the fewest in all. A bit is an XOR of at most 32 bits: three
levels of four-input look-up tables.
"""

from functools import cache, reduce
from operator import xor

from amaranth.hdl import Cat, Value

HASH_COUNT = 4
REFERENCE_BITS = 64

POLYNOMIALS = {
    8: (0x14D, 0x1CF, 0x1C3, 0x11D),
    9: (0x211, 0x221, 0x295, 0x36D),
    10: (0x409, 0x71D, 0x50D, 0x6C1),
    11: (0x805, 0xF91, 0xA85, 0x95B),
    12: (0x154D, 0x16A5, 0x19C9, 0x1AE1),
    13: (0x259F, 0x2E91, 0x28D5, 0x39A1),
    14: (0x74E9, 0x4053, 0x552F, 0x6DBB),
    15: (0x8003, 0x8011, 0x8081, 0x8101),
    16: (0x10053, 0x10491, 0x1FBCD, 0x12499),
}
"""By degree, the four polynomials with the coefficient of x^i in bit i."""

BITS_MAX = max(POLYNOMIALS)


def hash_bits(order_count: int) -> int:
    """Return the width of a hash for an order map of so many buckets, all tables together."""
    return (order_count // HASH_COUNT).bit_length() - 1


@cache
def masks(which: int, bits: int) -> tuple[int, ...]:
    """Return for each output bit the reference bits that it is the XOR of.

    Parameters
    ----------
    which : int
        Which of the four hashes.
    bits : int
        Width of the hash. Below the least degree it is the low bits of that degree's hash.

    Raises
    ------
    ValueError
        If there is no such hash.
    """
    if which not in range(HASH_COUNT):
        raise ValueError(f"which must be 0 to {HASH_COUNT - 1}, not {which!r}")
    if bits not in range(1, BITS_MAX + 1):
        raise ValueError(f"bits must be 1 to {BITS_MAX}, not {bits!r}")
    degree = max(bits, min(POLYNOMIALS))
    polynomial = POLYNOMIALS[degree][which]
    rows = [0] * degree
    remainder = 1  # Of x^position.
    for position in range(REFERENCE_BITS):
        for row in range(degree):
            rows[row] |= (remainder >> row & 1) << position
        remainder <<= 1
        if remainder >> degree:
            remainder ^= polynomial
    return tuple(rows[:bits])


def compute(which: int, reference: int, bits: int) -> int:
    """Return a hash of a reference as an integer."""
    return sum(
        ((reference & mask).bit_count() & 1) << row for row, mask in enumerate(masks(which, bits))
    )


def circuit(which: int, reference: Value, bits: int) -> Value:
    """Return a hash of a reference as an expression."""
    return Cat(
        reduce(xor, (reference[i] for i in range(REFERENCE_BITS) if mask >> i & 1))
        for mask in masks(which, bits)
    )
