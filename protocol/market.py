"""Phases of the market's day, and the system events that begin them."""

from enum import IntEnum, unique


@unique
class MarketPhase(IntEnum):
    """What the market is doing, as the newest system event tells. [ITCH 5.0: 1.1]"""

    UNKNOWN = 0
    """No event was seen: the feed was joined in the middle of a day."""
    PRE_MARKET = 1
    """System hours have begun, market hours have not."""
    REGULAR = 2
    """Market hours."""
    POST_MARKET = 3
    """Market hours have ended, system hours have not."""
    CLOSED = 4


PHASES = {
    "O": MarketPhase.CLOSED,
    "S": MarketPhase.PRE_MARKET,
    "Q": MarketPhase.REGULAR,
    "M": MarketPhase.POST_MARKET,
    "E": MarketPhase.CLOSED,
    "C": MarketPhase.CLOSED,
}
"""Phase that a system event begins, by the event's code."""
