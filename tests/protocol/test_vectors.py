"""Every layout against bytes packed by hand, through every emitter."""

import subprocess

import numpy as np
import pytest

from protocol.emit import CATALOGUE, amaranth_layout, c_header, numpy_dtype, scapy_layer


def test_every_layout_has_a_vector(vectors):
    assert sorted(vectors) == sorted(CATALOGUE)


def test_catalogue_holds_every_published_message():
    counts = {}
    for name in CATALOGUE:
        family = name.split("_")[0]
        counts[family] = counts.get(family, 0) + 1
    assert counts["itch50"] == 23
    assert counts["ouch50"] == 25 + 2
    assert counts["soupbintcp"] == 10
    assert counts["moldudp64"] == 3
    assert counts["glimpse"] == 1
    assert len(CATALOGUE) == 23 + 27 + 10 + 3 + 1 + 5 + 23 + 1


def test_vector_has_the_declared_size(vector):
    assert len(vector.raw) == CATALOGUE[vector.name].size


def test_vector_reads_as_written(vector, reader):
    assert reader(CATALOGUE[vector.name], vector.raw) == vector.values


def test_vector_reads_as_written_in_c(vector, c_readings):
    assert c_readings[vector.name] == vector.values


def test_vector_is_packed_from_its_values(vector):
    assert CATALOGUE[vector.name].pack(vector.values) == vector.raw


def test_vector_is_read_at_an_offset(vector):
    layout = CATALOGUE[vector.name]
    assert layout.unpack(b"\xee\xdd" + vector.raw + b"\xcc", 2) == vector.values


def test_struct_format_has_the_size_of_the_layout(vector):
    assert CATALOGUE[vector.name].struct.size == len(vector.raw)


def test_scapy_builds_the_vector_from_its_values(vector):
    assert bytes(scapy_layer.layer(CATALOGUE[vector.name])(**vector.values)) == vector.raw


def test_scapy_rebuilds_what_it_dissected(vector):
    packet = scapy_layer.layer(CATALOGUE[vector.name])(vector.raw)
    packet.clear_cache()
    assert packet.raw_packet_cache is None
    assert bytes(packet) == vector.raw


def test_numpy_writes_the_vector_from_its_values(vector):
    layout = CATALOGUE[vector.name]
    records = np.zeros(1, numpy_dtype.dtype(layout))
    for item in layout.fields:
        value = vector.values[item.name]
        raw = item.encode(value, layout.byte_order)
        if records.dtype[item.name].subdtype is not None:
            records[item.name][0] = list(raw)
        else:
            records[item.name][0] = value if item.is_integer else raw
    assert records.tobytes() == vector.raw


def test_amaranth_wire_is_the_inverse_of_host(vector):
    layout = CATALOGUE[vector.name]
    raw = b""
    for item in layout.fields:
        value = vector.values[item.name]
        if not item.is_integer:
            value = int.from_bytes(item.encode(value, layout.byte_order), "little")
        constant = amaranth_layout.Const(value, 8 * item.length)
        bits = amaranth_layout.Const.cast(amaranth_layout.wire(layout, constant, item.name))
        assert len(bits) == 8 * item.length
        raw += bits.value.to_bytes(item.length, "little")
    assert raw == vector.raw


def test_amaranth_members_lie_at_the_declared_bits(vector):
    layout = CATALOGUE[vector.name]
    members = dict(amaranth_layout.struct_layout(layout))
    assert {name: (member.offset, member.width) for name, member in members.items()} == {
        item.name: (8 * item.offset, 8 * item.length) for item in layout.fields
    }


@pytest.mark.parametrize("standard", ["c++11", "c++17"])
def test_header_compiles_as_cpp_without_warnings(standard, tmp_path, cpp_compiler):
    text = c_header.header(CATALOGUE, sections=(c_header.enums(), c_header.registers()))
    (tmp_path / "protocol.h").write_text(text)
    source = tmp_path / "main.cc"
    source.write_text('#include "protocol.h"\n#include "protocol.h"\nint main() { return 0; }\n')
    flags = [f"-std={standard}", "-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]
    subprocess.run([cpp_compiler, *flags, source], check=True, timeout=120)
