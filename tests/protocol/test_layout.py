"""Layouts and fields: what they accept, what they refuse and in which words."""

import pytest

from protocol.emit import CATALOGUE
from protocol.layout import (
    DecodeError,
    EncodeError,
    Family,
    Field,
    Kind,
    Layout,
    LayoutError,
    alpha,
    snake,
    uint,
)


def field(kind, length, title="Some Field"):
    return Field(title, 0, length, kind, "")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Stock Locate", "stock_locate"),
        ("UserRefNum", "user_ref_num"),
        ("ClOrdID", "cl_ord_id"),
        ("AIQ Group ID", "aiq_group_id"),
        ("BBO Weight Indicator", "bbo_weight_indicator"),
        ("InterMarket Sweep Eligibility", "inter_market_sweep_eligibility"),
        ("Level 1", "level_1"),
        ("Reserved 54", "reserved_54"),
        ("SecondaryOrdRefNum", "secondary_ord_ref_num"),
        ("IPv4", "ipv4"),
        ("Add Order with MPID", "add_order_with_mpid"),
    ],
)
def test_published_name_in_lower_case(title, name):
    assert snake(title) == name


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        (Kind.ALPHA, b"AAPL    ", "AAPL"),
        (Kind.ALPHA, b"AAPL\0\0\0\0", "AAPL"),
        (Kind.ALPHA, b"  AAPL  ", "  AAPL"),
        (Kind.ALPHA, b"        ", ""),
        (Kind.ALPHA, b" ", " "),
        (Kind.ALPHA, b"\0", "\0"),
        (Kind.ALPHA_LEFT, b"    SESS", "SESS"),
        (Kind.ALPHA_LEFT, b"SESS    ", "SESS"),
        (Kind.ALPHA_LEFT, b"        ", ""),
        (Kind.DIGITS, b"      42", 42),
        (Kind.DIGITS, b"42      ", 42),
        (Kind.DIGITS, b"00000042", 42),
        (Kind.DIGITS, b"        ", 0),
        (Kind.BYTES, b"\0ab ", b"\0ab "),
        (Kind.UINT, b"\xff\xfe", 65_534),
        (Kind.SINT, b"\xff\xfe", -2),
        (Kind.SINT, b"\x7f\xff", 32_767),
        (Kind.PRICE4, b"\x77\x35\x94\x00", 2_000_000_000),
        (Kind.TIMESTAMP, b"\x1f\x1a\xce\xdb\x02\xf0", 34_200_000_070_384),
    ],
)
def test_field_is_decoded(kind, raw, value):
    assert field(kind, len(raw)).decode(raw, "big") == value


@pytest.mark.parametrize(
    ("kind", "length", "value", "raw"),
    [
        (Kind.ALPHA, 8, "AAPL", b"AAPL    "),
        (Kind.ALPHA, 8, "", b"        "),
        (Kind.ALPHA, 8, b"AAPL", b"AAPL    "),
        (Kind.ALPHA, 1, "\xe9", b"\xe9"),
        (Kind.ALPHA_LEFT, 8, "SESS", b"    SESS"),
        (Kind.DIGITS, 8, 42, b"      42"),
        (Kind.DIGITS, 8, "42", b"      42"),
        (Kind.DIGITS, 8, 0, b"       0"),
        (Kind.BYTES, 3, b"a\0b", b"a\0b"),
        (Kind.UINT, 6, 1, b"\0\0\0\0\0\1"),
        (Kind.SINT, 4, -1, b"\xff\xff\xff\xff"),
    ],
)
def test_field_is_encoded(kind, length, value, raw):
    assert field(kind, length).encode(value, "big") == raw


def test_little_endian_integers_are_turned_round():
    assert field(Kind.UINT, 4).encode(1, "little") == b"\1\0\0\0"
    assert field(Kind.SINT, 2).decode(b"\xfe\xff", "little") == -2


@pytest.mark.parametrize(
    ("kind", "length", "value", "text"),
    [
        (Kind.UINT, 2, "7", "some_field must be an integer, not '7'"),
        (Kind.UINT, 2, b"7", "some_field must be an integer, not b'7'"),
        (Kind.UINT, 2, 65_536, "some_field must fit 2 bytes, not 65536"),
        (Kind.UINT, 2, -1, "some_field must fit 2 bytes, not -1"),
        (Kind.SINT, 1, 128, "some_field must fit 1 bytes, not 128"),
        (Kind.ALPHA, 4, "ABCDE", "some_field must fit 4 bytes, not 'ABCDE'"),
        (Kind.ALPHA, 4, "\u20ac", "some_field must be latin-1 text or bytes, not '\u20ac'"),
        (Kind.ALPHA, 4, 3, "some_field must be latin-1 text or bytes, not 3"),
        (Kind.ALPHA_LEFT, 4, 3, "some_field must be latin-1 text or bytes, not 3"),
        (Kind.BYTES, 4, 3, "some_field must be latin-1 text or bytes, not 3"),
        (Kind.BYTES, 4, b"abc", "some_field must be 4 bytes, not 3"),
        (Kind.BYTES, 4, b"abcde", "some_field must fit 4 bytes, not b'abcde'"),
        (Kind.DIGITS, 4, 12_345, "some_field must fit 4 bytes, not '12345'"),
        (Kind.DIGITS, 4, -1, "some_field must be an ASCII number, not -1"),
        (Kind.DIGITS, 4, "1x", "some_field must be an ASCII number, not '1x'"),
        (Kind.DIGITS, 4, b"12", "some_field must be an ASCII number, not b'12'"),
    ],
)
def test_value_that_does_not_fit_is_refused(kind, length, value, text):
    with pytest.raises(EncodeError) as caught:
        field(kind, length).encode(value, "big")
    assert str(caught.value) == text


@pytest.mark.parametrize("raw", [b"  4x", b"4 2 ", b"-001", b"\xb2\xb2\xb2\xb2"])
def test_text_that_is_no_number_is_refused(raw):
    with pytest.raises(DecodeError) as caught:
        field(Kind.DIGITS, 4).decode(raw, "big")
    assert str(caught.value) == f"some_field is not an ASCII number: {raw.decode('latin-1')!r}"


PAIR = Layout(
    "Pair", "test", 5, (uint("Count", 0, 4, "", default=7), alpha("Code", 4, 1, "")), code=1
)


def test_missing_value_takes_the_declared_default():
    assert PAIR.pack(code="X") == b"\0\0\0\x07X"


def test_values_come_from_a_mapping_and_from_names():
    assert PAIR.pack({"count": 1, "code": "A"}, code="B") == b"\0\0\0\x01B"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "Pair: code is missing"),
        ({"code": "X", "size": 1, "colour": 2}, "Pair: no field colour, size"),
        ({"code": "XY"}, "Pair: code must fit 1 bytes, not 'XY'"),
    ],
)
def test_pack_names_the_layout_and_the_field(values, text):
    with pytest.raises(EncodeError) as caught:
        PAIR.pack(values)
    assert str(caught.value) == text


def test_unpack_of_too_few_bytes_names_layout_sizes_and_offset():
    with pytest.raises(DecodeError) as caught:
        PAIR.unpack(b"xx1234", 2)
    assert str(caught.value) == "Pair needs 5 bytes, 4 remain"
    assert caught.value.offset == 2
    with pytest.raises(DecodeError) as caught:
        PAIR.unpack(b"", 9)
    assert str(caught.value) == "Pair needs 5 bytes, 0 remain"


def test_unpack_of_no_number_tells_where_it_stands():
    layout = Layout("Login", "test", 6, (alpha("A", 0, 2, ""), Field("B", 2, 4, Kind.DIGITS, "")))
    with pytest.raises(DecodeError) as caught:
        layout.unpack(b"...ab12z9", 3)
    assert str(caught.value) == "Login: b is not an ASCII number: '12z9'"
    assert caught.value.offset == 5


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_unpack_reads_any_buffer(kind):
    assert PAIR.unpack(kind(b"\0\0\0\x09Z")) == {"count": 9, "code": "Z"}


@pytest.mark.parametrize(
    ("size", "fields", "text"),
    [
        (4, (uint("A", 0, 2, ""), uint("B", 3, 1, "")), "T: B must be at 2, not 3"),
        (4, (uint("A", 0, 2, ""), uint("B", 1, 3, "")), "T: B must be at 2, not 1"),
        (4, (uint("A", 1, 3, ""),), "T: A must be at 0, not 1"),
        (4, (uint("A", 0, 2, ""),), "T: fields end at 2, size is 4"),
        (4, (uint("A", 0, 5, ""),), "T: fields end at 5, size is 4"),
        (4, (uint("A", 0, 0, ""), uint("B", 0, 4, "")), "T: A must have a length, not 0"),
        (4, (uint("A", 0, 2, ""), uint("a", 2, 2, "")), "T: two fields have one name"),
        (1, (), "T: fields end at 0, size is 1"),
    ],
)
def test_declaration_that_contradicts_itself_is_refused(size, fields, text):
    with pytest.raises(LayoutError) as caught:
        Layout("T", "test", size, fields)
    assert str(caught.value) == text


def test_layout_shows_its_title_and_size():
    assert repr(PAIR) == "<Layout Pair, 5 bytes>"
    assert PAIR.name == "pair"
    assert PAIR.format == ">I1s"


def test_family_finds_a_layout_by_its_code():
    family = Family("pairs", [PAIR])
    assert family.identify(1) is PAIR


@pytest.mark.parametrize(
    ("code", "text"),
    [(ord("z"), "type 'z' is not in pairs"), (0, "type 0x00 is not in pairs")],
)
def test_unknown_code_is_named(code, text):
    with pytest.raises(DecodeError) as caught:
        Family("pairs", [PAIR]).identify(code)
    assert str(caught.value) == text


def test_family_refuses_layouts_without_a_code_of_their_own():
    no_code = Layout("T", "test", 1, (uint("A", 0, 1, ""),))
    for layouts in ([PAIR, PAIR], [no_code]):
        with pytest.raises(LayoutError) as caught:
            Family("pairs", layouts)
        assert str(caught.value) == "pairs: each layout must have a code of its own"


def test_parts_lie_inside_their_field_and_do_not_overlap():
    found = 0
    for layout in CATALOGUE.values():
        for item in layout.fields:
            used = [bit for part in item.parts for bit in range(part.lsb, part.lsb + part.width)]
            assert len(used) == len(set(used))
            assert all(0 <= bit < 8 * item.length for bit in used)
            found += len(item.parts)
    assert found == 10


def test_signed_integers_of_odd_size_keep_their_sign():
    fields = (Field("Offset", 0, 3, Kind.SINT, ""), Field("Size", 3, 3, Kind.UINT, ""))
    for order, values in [("big", (-2, 16_777_214)), ("little", (-65_537, 16_711_679))]:
        layout = Layout("Odd", "", 6, fields, byte_order=order)
        assert tuple(layout.unpack(b"\xff\xff\xfe" * 2).values()) == values
