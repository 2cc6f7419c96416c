"""Book stage: orders by reference, the best levels of each side, best bid and offer."""


def check_power_of_two(name: str, value: int, least: int, most: int) -> None:
    """Raise an error that says what a constructor's argument must be, unless it is that."""
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not least <= value <= most or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, {least} to {most}, not {value!r}")
