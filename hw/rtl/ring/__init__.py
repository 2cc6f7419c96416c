"""Ring stage: records to and from host memory, over a plain memory bus."""


def check_power_of_two(name: str, value: object, least: int, most: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``value`` is a power of two in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not least <= value <= most or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, {least} to {most}, not {value!r}")


def check_range(name: str, value: object, least: int, most: int) -> None:
    """Raise ``TypeError`` or ``ValueError`` unless ``value`` is an integer in the range."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value!r}")
