"""What the gate is told and what it says: events, settings, decisions."""

from amaranth.hdl import signed
from amaranth.lib import data, enum

from hw.hls.to_amaranth import leaf_shape
from kernels.exposure import Rate
from kernels.risk import LevelLimits, Limits, Market
from kernels.types import kernel_type


def record_layout(record, *left_out):
    """Return the layout of a kernel's record, without some of its fields."""
    return data.StructLayout(
        {name: leaf_shape(kind) for name, kind in kernel_type(record).items if name not in left_out}
    )


def fields_of(view):
    """Return the fields of a record with their names, in order."""
    return [(name, view[name]) for name in view.shape().members]


class EventKind(enum.Enum, shape=2):
    """What an event asks the gate."""

    ORDER = 0
    """Decide on an order or a replacement, and count it if it passes."""
    EXECUTE = 1
    """Count an execution of ``qty`` shares at ``last_price``, open at ``price``."""
    RELEASE = 2
    """Count ``qty`` shares and ``money`` as open no longer; both have a sign."""
    MESSAGE = 3
    """Count a message that is not decided on, such as a cancel."""


EVENT = data.StructLayout(
    {
        "kind": EventKind,
        "symbol_index": 16,
        "trader": 10,
        "buys": 1,
        "qty": 32,
        "price": 32,
        "orig_qty": 20,
        "orig_price": 32,
        "last_price": 32,
        "money": signed(54),
        "ends": 1,
        "session": 1,
        "is_open": 1,
        "slot": 1,
        "now_ns": 62,
    }
)
"""An order, or what became of one; fields that a kind does not have are without meaning.

``orig_qty`` and ``orig_price`` are those that a replacement's original counts as open, zero for a
new order. ``is_open``: the original is open; set for a new order. ``ends``: an order of ``price``
is open no longer. ``session`` and ``slot`` are those of :class:`kernels.risk.Ready`. Prices and
money in 1e-4 USD, quantities in shares.
"""


class AccountKind(enum.Enum, shape=2):
    """Whose limits or kill switch."""

    TRADER = 0
    DESK = 1
    FIRM = 2


MONEY_LIMITS = data.StructLayout(
    {**record_layout(LevelLimits).members, **record_layout(Rate, "due_ns").members}
)

SET_SYMBOL = data.StructLayout({"symbol_index": 16, "limits": record_layout(Limits)})
"""All limits of a symbol, as :class:`kernels.risk.Limits` has them."""

SET_MARKET = data.StructLayout({"symbol_index": 16, "market": record_layout(Market)})
"""What is known of a symbol's market, as :class:`kernels.risk.Market` has it."""

SET_ACCOUNT = data.StructLayout({"kind": AccountKind, "index": 10, "limits": MONEY_LIMITS})
"""All limits of a trader, a desk or the firm, as :class:`kernels.risk.LevelLimits` and
:class:`kernels.exposure.Rate` have them."""

SET_KILL = data.StructLayout({"kind": AccountKind, "index": 10, "on": 1})
"""The kill switch of a trader, a desk or the firm."""

SET_DESK = data.StructLayout({"trader": 10, "desk": 10})
"""The desk of a trader: 0 for each one after reset."""

DECISION = data.StructLayout({"kind": EventKind, "reason": 5})
"""Of an order why it must not leave, a ``DenyReason``; zero if it may, and for other events."""
