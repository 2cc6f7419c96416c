"""MoldUDP64 packets and SoupBinTCP packets around messages."""

import pytest

from protocol import glimpse, moldudp64, soupbintcp
from protocol.layout import EncodeError


def test_packet_holds_its_messages_in_order():
    assert moldudp64.packet("SESS", 0x0102, [b"abc", b"", b"de"]) == (
        b"SESS      \0\0\0\0\0\0\1\2\0\3\0\3abc\0\0\0\2de"
    )


def test_packet_without_messages_is_a_heartbeat():
    raw = moldudp64.packet("SESSION123", 7, [])
    assert raw == b"SESSION123" + bytes(7) + b"\7" + b"\0\0"
    assert moldudp64.HEADER.unpack(raw)["message_count"] == moldudp64.HEARTBEAT == 0


def test_message_longer_than_its_length_field_is_refused():
    with pytest.raises(EncodeError) as caught:
        moldudp64.packet("S", 1, [bytes(65_536)])
    assert str(caught.value) == "Message Block: message_length must fit 2 bytes, not 65536"


def test_payload_is_counted_with_the_type():
    assert soupbintcp.wrap(soupbintcp.SEQUENCED_DATA, b"abc") == b"\0\4Sabc"
    assert soupbintcp.wrap(soupbintcp.DEBUG, b"") == b"\0\1+"


def test_longest_payload_fits_and_one_more_does_not():
    longest = bytes(soupbintcp.LENGTH_MAX - 1)
    assert soupbintcp.wrap(soupbintcp.SEQUENCED_DATA, longest)[:3] == b"\xff\xffS"
    with pytest.raises(EncodeError) as caught:
        soupbintcp.wrap(soupbintcp.SEQUENCED_DATA, longest + b"x")
    assert str(caught.value) == "Sequenced Data: packet_length must fit 2 bytes, not 65536"


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("SERVER_HEARTBEAT", b"\0\1H"),
        ("CLIENT_HEARTBEAT", b"\0\1R"),
        ("END_OF_SESSION", b"\0\1Z"),
        ("LOGOUT_REQUEST", b"\0\1O"),
    ],
)
def test_packet_without_fields_needs_no_value(name, raw):
    assert getattr(soupbintcp, name).pack() == raw


def test_login_is_padded_as_published():
    raw = soupbintcp.LOGIN_REQUEST.pack(
        username="user", password="secret", requested_session="S1", requested_sequence_number=1
    )
    assert raw == (b"\0\x2fL" + b"user  " + b"secret    " + b"        S1" + b"                   1")
    assert soupbintcp.LOGIN_REQUEST.unpack(raw)["requested_session"] == "S1"


def test_end_of_snapshot_is_padded_as_published():
    assert glimpse.END_OF_SNAPSHOT.pack(sequence_number=1234) == b"G" + b" " * 16 + b"1234"


def test_types_with_a_payload():
    assert bytes(sorted(soupbintcp.WITH_PAYLOAD)) == b"+SU"
