"""The card's parameters: everything elaborates from them, and a wrong combination fails here."""

from dataclasses import dataclass

WIDTHS = (1, 8)
"""Bytes a beat: 1 for GMII at 125 MHz, 8 for XGMII at 156.25 MHz."""


def _power_of_two(name: str, value: int, least: int) -> None:
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if value < least or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, {least} or more, not {value!r}")


@dataclass(frozen=True, slots=True)
class CardParams:
    """What a card is built for.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.
    symbol_count : int
        Symbols whose books are kept. A power of two.
    order_count : int
        Orders that can be remembered at once, over all symbols. A power of two.
    level_count : int
        Best price levels that are kept of each side. A power of two. More of them run out less
        often and take more area: ``docs/decisions/0006`` has figures.
    open_order_count : int
        Orders of our own that can be open at once. A power of two.
    cut_through : bool
        Whether a message is acted on before its frame's check sequence is known.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    width: int = 8
    symbol_count: int = 64
    order_count: int = 16_384
    level_count: int = 8
    open_order_count: int = 256
    cut_through: bool = True

    def __post_init__(self) -> None:
        if self.width not in WIDTHS:
            raise ValueError(f"width must be 1 or 8, not {self.width!r}")
        _power_of_two("symbol_count", self.symbol_count, 2)
        _power_of_two("order_count", self.order_count, 16)
        _power_of_two("level_count", self.level_count, 4)
        _power_of_two("open_order_count", self.open_order_count, 2)
        if not isinstance(self.cut_through, bool):
            raise TypeError(f"cut_through must be a bool, not {self.cut_through!r}")
