"""Sites of the order map's block RAMs: each its own, and the tables side by side."""

import pytest

from bench.floorplan import block_ram_sites

CELLS = [f"component.table_{t}.column_{4 * c}$2{c}.0.0" for c in range(34) for t in range(4)]


def test_only_columns_of_tables_are_put_somewhere():
    cells = ["levels.rows.0.0", "stable_0.column_0.0", "orders.table_1.column_8.0.0"]
    assert set(block_ram_sites(cells)) == {"orders.table_1.column_8.0.0"}


def test_no_site_is_taken_twice():
    sites = block_ram_sites(CELLS)
    assert len(sites) == len(set(sites.values())) == 136


def test_a_column_of_all_tables_stands_side_by_side():
    sites = block_ram_sites(CELLS)
    assert [sites[name] for name in CELLS[:4]] == [
        "X13/Y46/EBR0",
        "X15/Y46/EBR1",
        "X17/Y46/EBR2",
        "X19/Y46/EBR3",
    ]


def test_references_and_orders_stand_on_two_sides_of_the_middle():
    sites = block_ram_sites(CELLS)
    rows = [int(sites[name].split("/Y")[1].split("/")[0]) for name in CELLS]
    assert set(rows[: 17 * 4]) == {22, 46}
    assert set(rows[17 * 4 :]) == {70, 82}


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        (["table_4.column_0"], "more tables than stand side by side: cell=table_4.column_0"),
        (
            [f"table_0.column_{c}" for c in range(53)],
            "more columns than the part has room for: columns=53",
        ),
    ],
)
def test_what_the_part_has_no_room_for_is_refused(cells, text):
    with pytest.raises(ValueError) as refused:
        block_ram_sites(cells)
    assert str(refused.value) == text
