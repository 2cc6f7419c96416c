"""Risk stage: the gate that every order passes."""

from hw.rtl.risk.events import (
    DECISION,
    EVENT,
    SET_ACCOUNT,
    SET_DESK,
    SET_KILL,
    SET_MARKET,
    SET_SYMBOL,
    AccountKind,
    EventKind,
)
from hw.rtl.risk.gate import Gate
from hw.rtl.risk.rules import STATE

__all__ = [
    "DECISION",
    "EVENT",
    "SET_ACCOUNT",
    "SET_DESK",
    "SET_KILL",
    "SET_MARKET",
    "SET_SYMBOL",
    "STATE",
    "AccountKind",
    "EventKind",
    "Gate",
]
