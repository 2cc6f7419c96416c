"""The simulated cards that a run can have, by name."""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sw.card import Card

_SYMBOLS_MIN = 2


class CardKind(StrEnum):
    """Cards to run on."""

    FUNCTIONAL = "functional"
    VERILATED = "verilated"


class SimulatedCard(Card, Protocol):
    """A card whose wires and time the simulation holds."""

    def receive(self, port: Port, frame: bytes, now_ns: int) -> None:
        """Take a frame without its FCS from a port."""

    def advance(self, now_ns: int) -> None:
        """Let time pass."""

    def poll_commands(self, now_ns: int, most: int | None = None) -> int:
        """Take commands, ``most`` of them at the most; return how many were taken."""

    def close(self) -> None:
        """Let go of the rings' memory."""


def make_card(
    kind: CardKind, memory: memoryview, symbol_count: int, transmit: Callable[[bytes], None]
) -> SimulatedCard:
    """Return a card for so many symbols; frames for the venue go to ``transmit``."""
    if kind is CardKind.FUNCTIONAL:
        return FunctionalCard(memory, symbol_count=symbol_count, transmit=transmit)
    # Loading Amaranth takes a second, and nothing else needs it.
    from hw.rtl.params import CardParams
    from sim.card.verilated import VerilatedCard

    slots = 1 << (max(symbol_count, _SYMBOLS_MIN) - 1).bit_length()
    return VerilatedCard(memory, CardParams(symbol_count=slots), transmit)
