"""OUCH 5.0 messages with and without an appendage."""

import pytest

from protocol import ouch50
from protocol.emit import CATALOGUE
from protocol.layout import DecodeError, EncodeError
from protocol.ouch50 import INBOUND, OUTBOUND, Appendage

# Fixed length and appendage of every message, as published. [OUCH 5.0, revision 1.05]
ALWAYS, OPTIONAL, NEVER = Appendage.ALWAYS, Appendage.OPTIONAL, Appendage.NEVER
PUBLISHED_INBOUND = {
    "O": (45, ALWAYS),
    "U": (38, ALWAYS),
    "X": (9, OPTIONAL),
    "M": (10, OPTIONAL),
    "C": (17, ALWAYS),
    "D": (9, ALWAYS),
    "E": (9, ALWAYS),
    "Q": (1, OPTIONAL),
}
PUBLISHED_OUTBOUND = {
    "S": (10, NEVER),
    "A": (62, ALWAYS),
    "U": (66, ALWAYS),
    "C": (18, OPTIONAL),
    "D": (32, OPTIONAL),
    "E": (34, ALWAYS),
    "B": (36, OPTIONAL),
    "J": (29, OPTIONAL),
    "P": (13, OPTIONAL),
    "I": (13, OPTIONAL),
    "T": (30, OPTIONAL),
    "M": (18, OPTIONAL),
    "R": (14, ALWAYS),
    "X": (25, ALWAYS),
    "G": (17, ALWAYS),
    "K": (17, ALWAYS),
    "Q": (13, OPTIONAL),
}

# Bytes of tag, length and value of every option, packed by hand, and what they mean.
OPTION_VECTORS = {
    1: ("0901 1112131415161718", 0x1112131415161718),
    2: ("0502 4649524d", "FIRM"),
    3: ("0503 21222324", 0x21222324),
    4: ("0204 52", "R"),
    5: ("0505 31323334", 0x31323334),
    6: ("0206 6d", "m"),
    7: ("0507 ffffff9c", -100),
    9: ("0909 4142434445464748", 0x4142434445464748),
    10: ("020a 50", "P"),
    11: ("050b fffffe0c", -500),
    12: ("020c 50", "P"),
    13: ("050d 51525354", 0x51525354),
    14: ("050e 53434e20", "SCN"),
    15: ("050f 0001517f", 86_399),
    16: ("0210 59", "Y"),
    17: ("0211 49", "I"),
    18: ("0212 32", "2"),
    22: ("0516 61626364", 0x61626364),
    23: ("0917 7172737475767778", 0x7172737475767778),
    24: ("0318 8182", 0x8182),
    25: ("0219 59", "Y"),
    26: ("051a 42524b52", "BRKR"),
    27: ("021b 54", "T"),
    28: ("021c 07", 7),
    29: ("021d 53", "S"),
    30: ("031e 4731", "G1"),
}


def family_of(name):
    message = CATALOGUE[name]
    return INBOUND if message in INBOUND.layouts else OUTBOUND


@pytest.fixture(params=[layout.name for layout in INBOUND.layouts + OUTBOUND.layouts])
def name(request):
    return f"ouch50_{request.param}"


@pytest.mark.parametrize(
    ("family", "published"), [(INBOUND, PUBLISHED_INBOUND), (OUTBOUND, PUBLISHED_OUTBOUND)]
)
def test_lengths_and_appendages_are_the_published_ones(family, published):
    found = {chr(item.code): (item.size, item.appendage) for item in family.layouts}
    assert found == published


def test_message_without_options_has_the_short_form_where_it_may(name, vectors):
    message, vector = CATALOGUE[name], vectors[name]
    tail = b"\0\0" if message.appendage is ALWAYS else b""
    raw = ouch50.pack(message, vector.values)
    assert raw == vector.raw + tail
    expected = vector.values | ({"appendage_length": 0} if tail else {})
    assert ouch50.unpack(family_of(name), raw) == (message, expected, [])


def test_optional_appendage_of_length_zero_is_read(name, vectors):
    message, vector = CATALOGUE[name], vectors[name]
    if message.appendage is NEVER:
        assert name == "ouch50_system_event"
        return
    found = ouch50.unpack(family_of(name), vector.raw + b"\0\0")
    assert found == (message, vector.values | {"appendage_length": 0}, [])


def test_message_carries_options_in_the_order_of_the_wire(name, vectors):
    message, vector = CATALOGUE[name], vectors[name]
    if message.appendage is NEVER:
        assert name == "ouch50_system_event"
        return
    options = [(7, -100), (2, "FIRM"), (12, "P"), (24, 0x8182)]
    tail = bytes.fromhex("0013 0507ffffff9c 05024649524d 020c50 03188182")
    assert ouch50.pack(message, vector.values, options) == vector.raw + tail
    found = ouch50.unpack(family_of(name), vector.raw + tail)
    assert found == (message, vector.values | {"appendage_length": 19}, options)


def test_every_option_has_a_vector():
    assert sorted(OPTION_VECTORS) == sorted(ouch50.OPTIONS)
    assert not {8, 19, 20, 21} & set(ouch50.OPTIONS)


@pytest.mark.parametrize("tag", OPTION_VECTORS)
def test_option_is_packed_and_read(tag, vectors):
    text, value = OPTION_VECTORS[tag]
    appendage = bytes.fromhex(text)
    fixed = vectors["ouch50_account_query_request"].raw
    raw = fixed + len(appendage).to_bytes(2, "big") + appendage
    message = ouch50.ACCOUNT_QUERY_REQUEST
    assert ouch50.pack(message, {"type": "Q"}, [(tag, value)]) == raw
    assert ouch50.unpack(INBOUND, raw)[2] == [(tag, value)]


def test_value_of_an_unknown_tag_is_given_as_bytes():
    raw = bytes.fromhex("51 000b 0463aabbcc 0502 4649524d")
    assert ouch50.unpack(INBOUND, raw)[2] == [(0x63, b"\xaa\xbb\xcc"), (2, "FIRM")]


def test_option_without_a_value_is_read():
    assert ouch50.unpack(INBOUND, bytes.fromhex("51 0002 0163"))[2] == [(0x63, b"")]


@pytest.mark.parametrize(
    ("raw", "text", "offset"),
    [
        ("", "an empty message is not in OUCH 5.0 inbound", 0),
        ("5a", "type 'Z' is not in OUCH 5.0 inbound", 0),
        ("58 00000001", "Cancel Order Request needs 9 bytes, 5 remain", 0),
        ("58 00000001 00000000 00", "Appendage Length needs 2 bytes, 1 remain", 9),
        (
            "43 00000001 4649524d 4142434445464748",
            "Appendage Length needs 2 bytes, 0 remain",
            17,
        ),
        (
            "58 00000001 00000000 0003 0204",
            "Cancel Order Request: appendage length is 3, 2 bytes follow",
            9,
        ),
        (
            "58 00000001 00000000 0000 99",
            "Cancel Order Request: appendage length is 0, 1 bytes follow",
            9,
        ),
        ("51 0001 05", "Tag Value needs 2 bytes, 1 remain", 3),
        ("51 0003 0502 46", "option tag 2 claims 5 bytes of tag and value", 3),
        ("51 0002 0002", "option tag 2 claims 0 bytes of tag and value", 3),
        ("51 0005 0402 464952", "option tag 2 has 3 bytes, not 4", 3),
        ("51 0008 020459 0502464952", "option tag 2 claims 5 bytes of tag and value", 6),
    ],
)
def test_broken_inbound_message_is_refused_with_its_place(raw, text, offset):
    with pytest.raises(DecodeError) as caught:
        ouch50.unpack(INBOUND, bytes.fromhex(raw))
    assert str(caught.value) == text
    assert caught.value.offset == offset


def test_system_event_with_an_appendage_is_refused():
    with pytest.raises(DecodeError) as caught:
        ouch50.unpack(OUTBOUND, bytes.fromhex("53 0000000000000001 53 0000"))
    assert str(caught.value) == "System Event has 10 bytes, not 12"
    assert caught.value.offset == 10


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([(8, 1)], "Account Query Request: option tag 8 is not defined"),
        ([(3, -1)], "min_qty must fit 4 bytes, not -1"),
        ([(7, 2**31)], "peg_offset must fit 4 bytes, not 2147483648"),
        ([(2, "FIRMS")], "firm must fit 4 bytes, not 'FIRMS'"),
    ],
)
def test_option_that_does_not_fit_is_refused(options, text):
    with pytest.raises(EncodeError) as caught:
        ouch50.pack(ouch50.ACCOUNT_QUERY_REQUEST, {}, options)
    assert str(caught.value) == text


def test_option_on_a_message_that_takes_none_is_refused():
    with pytest.raises(EncodeError) as caught:
        ouch50.pack(ouch50.SYSTEM_EVENT, {"timestamp": 1, "event_code": "S"}, [(2, "FIRM")])
    assert str(caught.value) == "System Event takes no options"


def test_published_limits():
    assert ouch50.PRICE_MAX == 1_999_999_900
    assert ouch50.QUANTITY_MAX == 999_999
    assert (min(ouch50.REJECT_REASON), max(ouch50.REJECT_REASON)) == (0x01, 0x40)
    assert len(ouch50.REJECT_REASON) == 0x33 + 1
    assert sorted(ouch50.CANCEL_REASON) == sorted("DEFGHIKQSTUXZe")
