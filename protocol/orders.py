"""Orders: sides, times in force, states and the transitions that are legal.

Names follow FIX: OrdStatus (39) for states, ExecType (150) for events. A state machine is the
table :data:`TRANSITIONS` and nothing else.
"""

from enum import IntEnum, unique


@unique
class Side(IntEnum):
    """Side of an order, as the byte that OUCH 5.0 carries. FIX 54."""

    BUY = ord("B")
    SELL = ord("S")
    SELL_SHORT = ord("T")
    SELL_SHORT_EXEMPT = ord("E")

    @property
    def sign(self) -> int:
        """What one executed share adds to the position."""
        return 1 if self is Side.BUY else -1


@unique
class TimeInForce(IntEnum):
    """How long an order stands, as the byte that OUCH 5.0 carries. FIX 59."""

    DAY = ord("0")
    IOC = ord("3")


@unique
class OrderState(IntEnum):
    """State of an order at the host. FIX 39 OrdStatus, and DENIED for our own refusal."""

    PENDING_NEW = 0
    """Published to the card, not yet answered by the venue."""
    NEW = 1
    PARTIALLY_FILLED = 2
    PENDING_REPLACE = 3
    """A replacement is on its way; until it is answered this order stands."""
    PENDING_CANCEL = 4
    FILLED = 5
    CANCELED = 6
    REPLACED = 7
    """Another order has taken this one's place."""
    REJECTED = 8
    DENIED = 9


@unique
class OrderEvent(IntEnum):
    """What moves an order from one state to another."""

    ACCEPTED = 0
    REJECTED = 1
    DENIED = 2
    """Refused by our own risk, on the host or on the card."""
    PARTIALLY_EXECUTED = 3
    EXECUTED = 4
    """Nothing is left open."""
    REPLACE_REQUESTED = 5
    REPLACED = 6
    REPLACE_REFUSED = 7
    """The replacement was denied or rejected: this order stands as it was."""
    CANCEL_REQUESTED = 8
    CANCEL_REFUSED = 9
    REDUCED = 10
    """Some of the open shares were canceled, others stand."""
    CANCELED = 11


def _transitions() -> dict[tuple[OrderState, OrderEvent], OrderState]:
    state, event = OrderState, OrderEvent
    table = {
        (state.PENDING_NEW, event.ACCEPTED): state.NEW,
        (state.PENDING_NEW, event.REJECTED): state.REJECTED,
        (state.PENDING_NEW, event.DENIED): state.DENIED,
        (state.NEW, event.PARTIALLY_EXECUTED): state.PARTIALLY_FILLED,
        (state.NEW, event.REDUCED): state.NEW,
        (state.PARTIALLY_FILLED, event.PARTIALLY_EXECUTED): state.PARTIALLY_FILLED,
        (state.PARTIALLY_FILLED, event.REDUCED): state.PARTIALLY_FILLED,
        (state.PENDING_REPLACE, event.PARTIALLY_EXECUTED): state.PENDING_REPLACE,
        (state.PENDING_REPLACE, event.REDUCED): state.PENDING_REPLACE,
        (state.PENDING_REPLACE, event.REPLACED): state.REPLACED,
        (state.PENDING_CANCEL, event.PARTIALLY_EXECUTED): state.PENDING_CANCEL,
        (state.PENDING_CANCEL, event.REDUCED): state.PENDING_CANCEL,
    }
    for live in (state.NEW, state.PARTIALLY_FILLED):
        table[live, event.REPLACE_REQUESTED] = state.PENDING_REPLACE
        table[live, event.CANCEL_REQUESTED] = state.PENDING_CANCEL
    for open_ in (state.NEW, state.PARTIALLY_FILLED, state.PENDING_REPLACE, state.PENDING_CANCEL):
        table[open_, event.EXECUTED] = state.FILLED
        table[open_, event.CANCELED] = state.CANCELED
    # A refused request leads back to a live state: which of the two says `after_refusal`.
    table[state.PENDING_REPLACE, event.REPLACE_REFUSED] = state.NEW
    table[state.PENDING_CANCEL, event.CANCEL_REFUSED] = state.NEW
    return table


TRANSITIONS = _transitions()
"""Next state by state and event. A pair that is not here is illegal."""

TERMINAL = frozenset(
    {
        OrderState.FILLED,
        OrderState.CANCELED,
        OrderState.REPLACED,
        OrderState.REJECTED,
        OrderState.DENIED,
    }
)
"""States that no event leaves."""


def after_refusal(cum_qty: int) -> OrderState:
    """Return the live state that an order goes back to when a request on it was refused."""
    return OrderState.PARTIALLY_FILLED if cum_qty else OrderState.NEW
