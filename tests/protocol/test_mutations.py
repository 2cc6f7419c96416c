"""The proof that the vectors see: move any field by one byte, and every emitter reads it wrong."""

import dataclasses

import pytest

from protocol.emit import CATALOGUE
from protocol.layout import DecodeError, LayoutError

FIELDS = [(name, item) for name, layout in CATALOGUE.items() for item in layout.fields]
NAMES = [f"{name}-{item.name}" for name, item in FIELDS]


@pytest.mark.parametrize(("name", "item"), FIELDS, ids=NAMES)
def test_offset_moved_by_one_byte_stops_the_declaration(name, item):
    layout = CATALOGUE[name]
    for offset in (item.offset - 1, item.offset + 1):
        moved = dataclasses.replace(item, offset=offset)
        fields = tuple(moved if each is item else each for each in layout.fields)
        with pytest.raises(LayoutError) as caught:
            dataclasses.replace(layout, fields=fields)
        assert str(caught.value) == (
            f"{layout.title}: {item.title} must be at {item.offset}, not {offset}"
        )


@pytest.mark.parametrize(("name", "item"), FIELDS, ids=NAMES)
def test_length_changed_by_one_byte_stops_the_declaration(name, item):
    layout = CATALOGUE[name]
    for length in (item.length - 1, item.length + 1):
        changed = dataclasses.replace(item, length=length)
        fields = tuple(changed if each is item else each for each in layout.fields)
        with pytest.raises(LayoutError):
            dataclasses.replace(layout, fields=fields)


def test_boundary_moved_by_one_byte_is_seen_through_every_emitter(mutant, vectors, readers):
    vector = vectors[mutant.original]
    blind = [name for name, read in readers.items() if not _is_seen(read, mutant, vector)]
    assert blind == []


def test_boundary_moved_by_one_byte_is_seen_in_c(mutant, vectors, c_readings):
    found, expected = c_readings[mutant.name], vectors[mutant.original].values
    assert {name for name in expected if found[name] != expected[name]} == mutant.moved


def test_every_boundary_of_every_layout_is_moved(all_mutants):
    boundaries = sum(len(layout.fields) - 1 for layout in CATALOGUE.values())
    assert len({(item.original, item.moved) for item in all_mutants}) == boundaries


def _is_seen(read, mutant, vector):
    """Whether both fields at the moved boundary are read wrong, and no other one is."""
    try:
        found = read(mutant.layout, vector.raw)
    except DecodeError:
        # Letters where an ASCII number should be.
        return True
    return {name for name in vector.values if found[name] != vector.values[name]} == mutant.moved
