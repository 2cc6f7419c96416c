"""The functional card: the card's behaviour without its clock, in plain Python.

It keeps the same rings, registers and wires as the hardware, and says nothing about cycles.
"""

from sim.card.functional.card import FunctionalCard

__all__ = ["FunctionalCard"]
