"""What the order map is asked and what it answers."""

from amaranth.lib import data, enum

from hw.rtl.book.hash import HASH_COUNT, REFERENCE_BITS
from protocol.reasons import StaleReason

REASON_BITS = max(StaleReason).bit_length()
SYMBOL_COUNT_MAX = 1 << 16


class RequestKind(enum.Enum, shape=3):
    """What is asked of the order map, or told by it unasked."""

    INSERT = 0
    REDUCE = 1
    """Take shares off an order; with its last share it leaves."""
    REMOVE = 2
    SCAN = 3
    """Of results alone: a scan has met an order."""
    DONE = 4
    """Of results alone: a scan has met every order."""


def request(symbol_count: int, hash_bits: int) -> data.StructLayout:
    """One operation on the order map.

    ``addresses`` are the four hashes of ``reference``, each ``hash_bits`` wide.
    A ``chained`` INSERT is the second half of a replace: it has the side of the order that the
    REMOVE before it took away, and is not carried out if that REMOVE was not.
    """
    return data.StructLayout(
        {
            "kind": RequestKind,
            "chained": 1,
            "reference": REFERENCE_BITS,
            "addresses": data.ArrayLayout(hash_bits, HASH_COUNT),
            "symbol_index": range(symbol_count),
            "is_buy": 1,
            "bad_side": 1,
            "price": 32,
            "shares": 32,
        }
    )


def scan_request(symbol_count: int) -> data.StructLayout:
    """A walk over all orders that tells those of one side of a symbol.

    With ``purge`` it tells those of both sides, and removes them.
    """
    return data.StructLayout({"symbol_index": range(symbol_count), "is_buy": 1, "purge": 1})


def result(symbol_count: int) -> data.StructLayout:
    """What came of an operation, or what a scan has met.

    ``applied`` says that the order map changed: ``shares`` at ``price`` were added or taken, and
    when taken, ``gone`` says that the order left. ``reason`` is a :class:`StaleReason`.
    ``order_symbol_index`` is the symbol of the order that was found, if one was.

    ``scanned`` is set where the change is to an order of the symbol and side that a scan under way
    is after, and at a place that it has left behind: a copy made from the scan's results must
    follow the change. Of an order at a place still to come the scan itself will tell.

    SCAN has an order's side, price and all its shares, and ``gone`` in a purge; DONE has the symbol
    of the scan and no order. Both are ``applied``.
    """
    return data.StructLayout(
        {
            "kind": RequestKind,
            "chained": 1,
            "applied": 1,
            "gone": 1,
            "scanned": 1,
            "reason": REASON_BITS,
            "symbol_index": range(symbol_count),
            "order_symbol_index": range(symbol_count),
            "is_buy": 1,
            "price": 32,
            "shares": 32,
        }
    )
