"""The Internet checksum: whether 16-bit words add up. [RFC 1071]

A sum may be taken with the bytes of every word swapped [RFC 1071: 2 (B)]: words are added as they
lie in a beat, their first byte in bits 7:0.
"""

from amaranth.hdl import Cat, Const, Value

WORD_BITS = 16


def words_of(bits: Value) -> list[Value]:
    """Return the 16-bit words of some bytes."""
    return [bits[at : at + WORD_BITS] for at in range(0, len(bits), WORD_BITS)]


def is_complete(total: Value) -> Value:
    """Return whether a sum of words, not all of them zero, is that of a right checksum.

    Its carries stand above the lowest 16 bits; they have not been added back in.
    """
    carries = total[WORD_BITS:]
    return total[:WORD_BITS] == ~Cat(carries, Const(0, WORD_BITS - len(carries)))
