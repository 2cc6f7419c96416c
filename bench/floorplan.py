"""Where the block RAMs of the order map go, before all else is placed.

A placer that begins with nothing fixed draws all logic to one point, and fills the rows of block
RAMs from there to one end: of the order map's memory, two thirds of the part, some of it comes to
stand a chip's width away. Here each table has a quarter of the chip, and of that what is next to
the middle. So an address, which goes to every column of a table, crosses a quarter and not the
whole. The columns of the orders stand next to the middle, where an order is chosen; those of the
references stand behind them, as a table compares its own and has one bit to tell.
"""

import re
from collections.abc import Iterable

GROUPS_X = (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)
GROUP_X = (0, 2, 4, 6)
"""Of the LFE5UM5G-85F: where its groups of four block RAMs begin in a row, and where each is."""
HALVES_Y = ((46, 22), (70, 82))
"""Rows of block RAMs above and below the middle, the one next to it first."""
MIDDLE_X, MIDDLE_Y = 61, 58
TABLE_COUNT_MAX = 4
REFERENCE_BITS_END = 65
"""In a row of a table: behind a valid bit and the reference. The order follows."""
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
    tables: dict[int, list[tuple[int, str]]] = {}
    for name in cells:
        if match := _COLUMN.search(name):
            tables.setdefault(int(match[1]), []).append((int(match[2]), name))
    sites: dict[str, str] = {}
    for table, columns in tables.items():
        if table >= TABLE_COUNT_MAX:
            raise ValueError(f"the part has no quarter for a table: table={table}")
        quarter = _nearest_first(is_right=bool(table & 1), is_lower=bool(table & 2))
        if len(columns) > len(quarter):
            raise ValueError(
                f"more columns than a quarter of the part has room for: columns={len(columns)}"
            )
        columns.sort(key=lambda column: (column[0] < REFERENCE_BITS_END, column))
        sites |= {name: site for (_, name), site in zip(columns, quarter, strict=False)}
    return sites


def _nearest_first(*, is_right: bool, is_lower: bool) -> list[str]:
    """Return the sites of a quarter, those next to the middle first."""
    found = [
        (abs(group + offset - MIDDLE_X) + abs(y - MIDDLE_Y), f"X{group + offset}/Y{y}/EBR{index}")
        for y in HALVES_Y[is_lower]
        for group in GROUPS_X
        for index, offset in enumerate(GROUP_X)
        if (group + offset > MIDDLE_X) == is_right
    ]
    return [site for _, site in sorted(found)]
