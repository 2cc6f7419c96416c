"""What the parts of the book say to each other, and what it tells and is told."""

from amaranth.lib import data, enum

from hw.rtl.book.hash import HASH_COUNT, REFERENCE_BITS
from hw.rtl.book.levels import LEVEL
from hw.rtl.book.requests import REASON_BITS, RequestKind
from hw.rtl.layouts import TIME, OperationKind

TRACE = data.StructLayout(
    {
        "kind": OperationKind,
        "timestamp": 48,
        "sequence": 64,
        "match_number": 64,
        "printable": 1,
        "ts_first": TIME,
        "ts_last": TIME,
    }
)
"""What an event tells of its operation as it came."""


def task(symbol_count: int, hash_bits: int) -> data.StructLayout:
    """One thing to do, with the place in the sequence of all that it affects.

    It is a request to the order map, with a second one if it ``is_replace``; or a refill row to
    commit, which ``is_clear`` where a repair has emptied its symbol so; or a notice of the feed.
    """
    addresses = data.ArrayLayout(hash_bits, HASH_COUNT)
    return data.StructLayout(
        {
            "is_request": 1,
            "is_replace": 1,
            "is_commit": 1,
            "is_clear": 1,
            "is_confirm": 1,
            "is_retract": 1,
            "is_gap": 1,
            "request": RequestKind,
            "symbol_index": range(symbol_count),
            "order_reference": REFERENCE_BITS,
            "new_reference": REFERENCE_BITS,
            "addresses": addresses,
            "new_addresses": addresses,
            "is_buy": 1,
            "bad_side": 1,
            "price": 32,
            "shares": 32,
            "trace": TRACE,
        }
    )


class RepairKind(enum.Enum, shape=1):
    """What a repair asks for."""

    CLEAR = 0
    """Forget the symbol's orders and its flag."""
    INSERT = 1
    """Add an order."""


def repair(symbol_count: int) -> data.StructLayout:
    """One step of a repair; CLEAR has a kind and a symbol alone."""
    return data.StructLayout(
        {
            "kind": RepairKind,
            "symbol_index": range(symbol_count),
            "reference": REFERENCE_BITS,
            "is_buy": 1,
            "price": 32,
            "shares": 32,
        }
    )


def event(symbol_count: int) -> data.StructLayout:
    """A symbol's best bid and offer after an operation, or after a step of refill or repair.

    ``changed`` is set when anything of ``bid`` and ``ask`` is not as before, or a side has run out
    of levels or is exact again.
    ``reason`` says why this operation could not be right and ``stale_reason`` why the book is not
    known to be exact, both a :class:`StaleReason`. ``is_buy`` and ``price`` are those of the order
    that the operation named, ``shares`` what came or left; without meaning where none did. Refill
    and repair have kind NONE, and zeros where an operation has its own numbers and times.
    """
    return data.StructLayout(
        {
            "symbol_index": range(symbol_count),
            "bid": LEVEL,
            "ask": LEVEL,
            "changed": 1,
            "reason": REASON_BITS,
            "stale_reason": REASON_BITS,
            "is_buy": 1,
            "price": 32,
            "shares": 32,
            **TRACE.members,
        }
    )
