"""Sites of the order map's block RAMs: each its own, each table in its quarter."""

import re

import pytest

from bench.floorplan import block_ram_sites

CELLS = [f"component.table_{t}.column_{4 * c}$2{c}.0.0" for c in range(34) for t in range(4)]


def _place(site):
    x, y = re.fullmatch(r"X(\d+)/Y(\d+)/EBR[0-3]", site).groups()
    return int(x), int(y)


def test_only_columns_of_tables_are_put_somewhere():
    cells = ["levels.rows.0.0", "stable_0.column_0.0", "orders.table_1.column_8.0.0"]
    assert set(block_ram_sites(cells)) == {"orders.table_1.column_8.0.0"}


def test_no_site_is_taken_twice():
    sites = block_ram_sites(CELLS)
    assert len(sites) == len(set(sites.values())) == 136


@pytest.mark.parametrize(
    ("table", "is_right", "rows"), [(0, 0, {22, 46}), (1, 1, {22, 46}), (2, 0, {70, 82})]
)
def test_each_table_has_its_quarter(table, is_right, rows):
    sites = block_ram_sites(CELLS)
    places = [_place(sites[name]) for name in CELLS if f"table_{table}" in name]
    assert len(places) == 34
    assert {x > 61 for x, _ in places} == {bool(is_right)}
    assert {y for _, y in places} == rows


def test_orders_stand_nearer_to_the_middle_than_references():
    sites = block_ram_sites(CELLS)
    far = [abs(x - 61) + abs(y - 58) for x, y in (_place(sites[name]) for name in CELLS[::4])]
    assert max(far[17:]) <= min(far[:17])


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["table_4.column_0"], "the part has no quarter for a table: table=4"),
        (
            [f"table_0.column_{c}" for c in range(53)],
            "more columns than a quarter of the part has room for: columns=53",
        ),
    ],
)
def test_what_the_part_has_no_room_for_is_refused(cells, text):
    with pytest.raises(ValueError) as refused:
        block_ram_sites(cells)
    assert str(refused.value) == text
