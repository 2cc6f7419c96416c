"""What the order map is asked and what it answers."""

from amaranth.lib import data, enum

from hw.rtl.book.hash import REFERENCE_BITS
from protocol.reasons import StaleReason

REASON_BITS = max(StaleReason).bit_length()
SYMBOL_COUNT_MAX = 1 << 16


class RequestKind(enum.Enum, shape=2):
    """What is asked of the order map."""

    INSERT = 0
    REDUCE = 1
    """Take shares off an order; with its last share it leaves."""
    REMOVE = 2


def request(symbol_count: int) -> data.StructLayout:
    """One operation on the order map.

    A ``chained`` INSERT is the second half of a replace: it has the side of the order that the
    REMOVE before it took away, and is not carried out if that REMOVE was not.
    """
    return data.StructLayout(
        {
            "kind": RequestKind,
            "chained": 1,
            "reference": REFERENCE_BITS,
            "symbol_index": range(symbol_count),
            "is_buy": 1,
            "bad_side": 1,
            "price": 32,
            "shares": 32,
        }
    )


def result(symbol_count: int) -> data.StructLayout:
    """What came of an operation.

    ``applied`` says that the order map changed: ``shares`` at ``price`` were added or taken, and
    when taken, ``gone`` says that the order left. ``reason`` is a :class:`StaleReason`.
    ``order_symbol_index`` is the symbol of the order that was found, if one was.
    """
    return data.StructLayout(
        {
            "kind": RequestKind,
            "chained": 1,
            "applied": 1,
            "gone": 1,
            "reason": REASON_BITS,
            "symbol_index": range(symbol_count),
            "order_symbol_index": range(symbol_count),
            "is_buy": 1,
            "price": 32,
            "shares": 32,
        }
    )
