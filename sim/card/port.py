"""The card's Ethernet ports."""

from enum import IntEnum, unique


@unique
class Port(IntEnum):
    """Where frames come in."""

    FEED_A = 0
    FEED_B = 1
    ORDER = 2
