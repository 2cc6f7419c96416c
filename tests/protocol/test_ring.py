"""Ring records: what every reader and writer of a ring relies on."""

import pytest

from protocol import ring
from protocol.layout import Kind
from protocol.ring import RecordType


@pytest.fixture(params=ring.RECORDS.layouts, ids=lambda layout: layout.name)
def record(request):
    return request.param


def test_record_is_64_bytes_little_endian(record):
    assert record.size == 64
    assert record.byte_order == "little"


def test_record_ends_with_its_sequence_number(record):
    item = record.fields[-1]
    assert (item.name, item.offset, item.length, item.kind) == ("sequence", 56, 8, Kind.UINT)


def test_record_begins_with_the_common_head(record):
    head = {name: (item.offset, item.length) for name, item in record.by_name.items()}
    assert head["record_type"] == (0, 1)
    assert head["flags"] == (1, 1)
    assert head["symbol_index"] == (2, 2)
    maker = "host" if record in ring.COMMAND.layouts else "card"
    assert head[f"ts_{maker}_ns"] == (8, 8)


def test_record_announces_itself(record):
    assert record.by_name["record_type"].default == record.code
    assert ring.RECORDS.identify(record.code) is record


def test_integers_lie_at_multiples_of_their_length(record):
    crooked = [item.name for item in record.fields if item.is_integer and item.offset % item.length]
    assert crooked == []


def test_reserved_bytes_default_to_zero(record):
    for item in record.fields:
        if item.kind is Kind.BYTES:
            assert item.default == bytes(item.length)


def test_every_record_type_has_a_record():
    assert sorted(ring.RECORDS.by_code) == sorted(RecordType)


@pytest.mark.parametrize(
    ("family", "high_nibble", "count"),
    [(ring.MARKET, 1, 5), (ring.EXECUTION, 2, 7), (ring.COMMAND, 3, 11)],
    ids=["market", "execution", "command"],
)
def test_type_tells_the_ring(family, high_nibble, count):
    assert [code >> 4 for code in family.by_code] == [high_nibble] * count


def test_record_that_needs_nothing_packs_to_type_and_zeros():
    assert ring.HEARTBEAT.pack(sequence=3) == b"\x36" + bytes(55) + b"\x03" + bytes(7)


def test_control_block_is_one_line_with_the_tail_first():
    assert ring.CONTROL.size == 64
    assert (ring.CONTROL.fields[0].name, ring.CONTROL.fields[0].length) == ("tail", 8)
