"""The simulated cards that a run can have, by name."""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sim.card.waves import Waves
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

    def reset(self) -> None:
        """Return to the state after power-up."""

    def close(self) -> None:
        """Let go of the rings' memory."""


MakeCard = Callable[[memoryview, int, Callable[[bytes], None]], SimulatedCard]
"""Makes a card of host memory, for so many symbols; it hands frames for the venue to the last."""


def make_functional(
    memory: memoryview, symbol_count: int, transmit: Callable[[bytes], None]
) -> SimulatedCard:
    """Make a functional card."""
    return FunctionalCard(memory, symbol_count=symbol_count, transmit=transmit)


def make_verilated(
    memory: memoryview,
    symbol_count: int,
    transmit: Callable[[bytes], None],
    time_stands: bool = False,
    waves: Waves | None = None,
    on_progress: Callable[[], None] = lambda: None,
) -> SimulatedCard:
    """Make a verilated card; what else it takes is that of its class."""
    # Loading Amaranth takes a second, and nothing else needs it.
    from hw.rtl.params import CardParams
    from sim.card.verilated import VerilatedCard

    slots = 1 << (max(symbol_count, _SYMBOLS_MIN) - 1).bit_length()
    return VerilatedCard(
        memory, CardParams(symbol_count=slots), transmit, time_stands, waves, on_progress
    )


MAKE_CARD: dict[CardKind, MakeCard] = {
    CardKind.FUNCTIONAL: make_functional,
    CardKind.VERILATED: make_verilated,
}
