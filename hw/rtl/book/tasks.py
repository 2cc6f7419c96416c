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
    commit, which ``is_clear`` where a repair has emptied its symbol so; or a notice of the feed; or
    the answer to a LIVE, ``is_live``: the symbol is no longer flagged where ``reason`` is none. One
    that ``asks`` is about a symbol that is not under repair, and tells that one's own reason. A
    request that is not ``known`` is of no symbol of the book's, and ends when it is issued.
    """
    addresses = data.ArrayLayout(hash_bits, HASH_COUNT)
    return data.StructLayout(
        {
            "known": 1,
            "is_request": 1,
            "is_replace": 1,
            "is_commit": 1,
            "is_clear": 1,
            "is_live": 1,
            "asks": 1,
            "reason": REASON_BITS,
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


class RepairKind(enum.Enum, shape=2):
    """What a repair asks for."""

    CLEAR = 0
    """Forget the symbol's orders, and drop its messages from now on."""
    INSERT = 1
    """Add an order."""
    DELETE = 2
    """Take an order off."""
    LIVE = 3
    """The orders are those before the message whose number ``reference`` is."""


def repair(symbol_count: int) -> data.StructLayout:
    """One step of a repair; CLEAR has a kind and a symbol alone.

    ``trading_state`` and ``event_code`` are those of LIVE, 0 for none.
    """
    return data.StructLayout(
        {
            "kind": RepairKind,
            "symbol_index": range(symbol_count),
            "reference": REFERENCE_BITS,
            "is_buy": 1,
            "bad_side": 1,
            "price": 32,
            "shares": 32,
            "trading_state": 8,
            "event_code": 8,
        }
    )


def event(symbol_count: int) -> data.StructLayout:
    """A symbol's best bid and offer after an operation, or after a step of refill or repair.

    ``changed`` is set when anything of ``bid`` and ``ask`` is not as before, or a side has run out
    of levels or is exact again.
    ``reason`` says why this operation could not be right and ``stale_reason`` why the book is not
    known to be exact, both a :class:`StaleReason`. ``is_buy`` and ``price`` are those of the order
    that the operation named, ``shares`` what came or left; without meaning where none did. A refill
    has kind NONE, and zeros where an operation has its own numbers and times.

    Kind REPAIR answers a CLEAR or, ``printable``, a LIVE. ``reason`` is none where the symbol is
    live. ``sequence`` is the number that LIVE named, ``ts_first`` and ``ts_last`` are the lowest
    and the highest one that could be, and ``match_number`` has the trading state in bits 7:0, the
    event code in 15:8.
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
