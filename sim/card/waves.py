"""What a card is to draw of itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Waves:
    """A file of waves, VCD.

    Attributes
    ----------
    path : Path
        The file.
    cycles : range
        What is drawn, in the card's cycles since it was made.
    """

    path: Path
    cycles: range = range(1 << 62)
