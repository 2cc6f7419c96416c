"""The levels that limits of money and messages, and kill switches, are kept for."""

from enum import IntEnum, unique


@unique
class RiskLevel(IntEnum):
    """Whose limits: every trader belongs to a desk, every desk to the firm."""

    FIRM = ord("F")
    DESK = ord("D")
    TRADER = ord("T")
