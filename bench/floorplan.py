"""Where the block RAMs of the order map go, before all else is placed.

A placer that begins with nothing fixed draws all logic to one point, and fills the rows of block
RAMs from there to one end: of the order map's memory, two thirds of the part, some of it comes to
stand a chip's width away. Here the same column of all tables stands side by side, as what is done
with a column ends at the next one; the columns stand around the middle of the chip, those of the
references, which are compared, on one side of it and those of the orders on the other.
"""

import re
from collections.abc import Iterable

GROUPS_X = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
GROUP_X = (0, 2, 4, 6)
"""Of the LFE5UM5G-85F: where its groups of four block RAMs begin in a row, and where each is."""
SIDES_Y = ((46, 22), (70, 82))
"""Rows of block RAMs above and below the middle, the one next to it first."""
MIDDLE_X, MIDDLE_Y = 62, 58
TABLE_COUNT_MAX = len(GROUP_X)
_COLUMN = re.compile(r"(?:^|\.)table_(\d+)\.column_(\d+)\b")


def block_ram_sites(cells: Iterable[str]) -> dict[str, str]:
    """Return the site of each cell that is a column of a table; of no other.

    Parameters
    ----------
    cells : iterable of str
        Names of block RAMs in the netlist.

    Raises
    ------
    ValueError
        If there are more tables or columns than the part has room for.
    """
    found = {name: match for name in cells if (match := _COLUMN.search(name))}
    bits = sorted({int(match[2]) for match in found.values()})
    half = (len(bits) + 1) // 2
    groups: dict[int, tuple[int, int]] = {}
    for columns, rows in ((bits[:half], SIDES_Y[0]), (bits[half:], SIDES_Y[1])):
        nearest = sorted(
            ((x, y) for y in rows for x in GROUPS_X),
            key=lambda at: abs(at[0] + max(GROUP_X) // 2 - MIDDLE_X) + abs(at[1] - MIDDLE_Y),
        )
        if len(columns) > len(nearest):
            raise ValueError(f"more columns than the part has room for: columns={len(bits)}")
        groups |= zip(columns, sorted(nearest[: len(columns)]), strict=True)
    sites = {}
    for name, match in found.items():
        table = int(match[1])
        if table >= TABLE_COUNT_MAX:
            raise ValueError(f"more tables than stand side by side: cell={name}")
        x, y = groups[int(match[2])]
        sites[name] = f"X{x + GROUP_X[table]}/Y{y}/EBR{table}"
    return sites
