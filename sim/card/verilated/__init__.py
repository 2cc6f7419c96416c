"""The card's RTL behind the interface of a card, cycle by cycle."""

from sim.card.verilated.card import VerilatedCard

__all__ = ["VerilatedCard"]
