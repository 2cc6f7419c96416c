"""Our layouts on real captures, against the decode that somebody else made of them."""

import re
from decimal import Decimal

import dpkt
import numpy as np
import pytest

from protocol import itch50, moldudp64, ouch50, soupbintcp
from protocol.emit import numpy_dtype
from protocol.layout import Kind

HOUR_NS = 3_600_000_000_000
# Names of the decode's that differ from the published ones.
NAMES = {"Locate Code": "Stock Locate", "Reason": "Reason Code"}


def payloads(path):
    """Return what TCP or UDP carries in each frame of a capture."""
    with path.open("rb") as file:
        frames = [dpkt.ethernet.Ethernet(raw) for _, raw in dpkt.pcap.Reader(file)]
    return [bytes(frame.data.data.data) for frame in frames]


def blocks(payload):
    """Return the messages of a MoldUDP64 packet."""
    header = moldudp64.HEADER.unpack(payload)
    start, found = moldudp64.HEADER.size, []
    for _ in range(header["message_count"]):
        length = moldudp64.BLOCK.unpack(payload, start)["message_length"]
        found.append(payload[start + 2 : start + 2 + length])
        start += 2 + length
    assert start == len(payload)
    return header, found


def decoded(path):
    """Return the fields of each message in a decode: ``{title: text}``."""
    text = path.read_text(encoding="utf-8")
    messages = re.split(r"^ *Message: *$", text, flags=re.MULTILINE)[1:]
    found = []
    for message in messages:
        body = message.split("Message Type:", 1)[1].split("Packet Header:", 1)[0]
        lines = re.findall(r"^ +([A-Z][^:\n]*(?<!Message)): ?(.+)$", body, flags=re.MULTILINE)
        found.append({NAMES.get(title, title): value for title, value in lines})
    return found


def meaning(item, text):
    """Return the value that a decode's text stands for."""
    if item.kind is Kind.TIMESTAMP:
        clock, fraction = text.split()[1].split(".")
        _, minutes, seconds = (int(part) for part in clock.split(":"))
        return (minutes * 60 + seconds) * 1_000_000_000 + int(fraction)
    if item.kind is Kind.PRICE4:
        return int(Decimal(text) * 10_000)
    if item.is_integer:
        return int(text)
    code = re.search(r"\(([^()]+)\)$", text)
    value = code[1] if code else text.strip()
    return {"<whitespace>": " ", "": " "}.get(value, value) if item.length == 1 else value


def compare(message, fields):
    layout = itch50.MESSAGES.identify(message[0])
    assert len(message) == layout.size
    values = layout.unpack(message)
    assert layout.pack(values) == message
    by_title = {item.title: item for item in layout.fields}
    assert set(fields) - set(by_title) == set()
    for title, text in fields.items():
        item = by_title[title]
        value = values[item.name]
        if item.kind is Kind.TIMESTAMP:
            value %= HOUR_NS  # The decode's clock is in another time zone.
        assert value == meaning(item, text), title
    assert [item.title for item in layout.fields if item.title not in fields] == ["Message Type"]


@pytest.mark.parametrize(
    ("folder", "files", "messages"), [("itch50", 8, 46), ("itch50_20230822", 15, 71)]
)
def test_itch_captures_are_read_as_tshark_reads_them(data_dir, folder, files, messages):
    paths = sorted((data_dir / "pcap" / folder).glob("*.pcap"))
    assert len(paths) == files
    compared = 0
    for path in paths:
        found = [message for raw in payloads(path) for message in blocks(raw)[1]]
        expected = decoded(path.with_suffix(".txt"))
        assert len(found) == len(expected)
        for message, fields in zip(found, expected, strict=True):
            compare(message, fields)
            compared += 1
    assert compared == messages


def test_mold_headers_are_read_as_tshark_reads_them(data_dir):
    path = data_dir / "pcap" / "itch50" / "Multiple.Packets.pcap"
    headers = [blocks(raw)[0] for raw in payloads(path)]
    assert headers[:2] == [
        {"session": "000010059B", "sequence_number": 14_764_496, "message_count": 1},
        {"session": "000010059B", "sequence_number": 19_009_117, "message_count": 38},
    ]


def test_enter_order_with_an_option_is_read_as_tshark_reads_it(data_dir):
    (raw,) = payloads(data_dir / "pcap" / "ouch50" / "EnterOrderMessage.pcap")
    assert soupbintcp.UNSEQUENCED_DATA.unpack(raw) == {"packet_length": 54, "packet_type": "U"}
    message, values, options = ouch50.unpack(ouch50.INBOUND, raw[3:])
    assert message is ouch50.ENTER_ORDER
    assert values == {
        "type": "O",
        "user_ref_num": 113,
        "side": "T",
        "quantity": 225,
        "symbol": "CVLT",
        "price": 630_200,
        "time_in_force": "0",
        "display": "Y",
        "capacity": "A",
        "inter_market_sweep_eligibility": "N",
        "cross_type": "N",
        "cl_ord_id": "H8FUB8IV",
        "appendage_length": 6,
    }
    assert options == [(2, "LIME")]
    del values["appendage_length"]
    assert (
        soupbintcp.wrap(soupbintcp.UNSEQUENCED_DATA, ouch50.pack(message, values, options)) == raw
    )


def test_cancel_order_is_read_as_tshark_reads_it(data_dir):
    (raw,) = payloads(data_dir / "pcap" / "ouch50" / "CancelOrderMessage.pcap")
    assert ouch50.unpack(ouch50.INBOUND, raw[3:]) == (
        ouch50.CANCEL_ORDER_REQUEST,
        {"type": "X", "user_ref_num": 7_679_601, "quantity": 0},
        [],
    )


@pytest.mark.parametrize(
    ("path", "layout"),
    [
        ("ouch50/ClientHeartbeatPacket.pcap", soupbintcp.CLIENT_HEARTBEAT),
        ("ouch50/ServerHeartbeatPacket.pcap", soupbintcp.SERVER_HEARTBEAT),
    ],
)
def test_heartbeat_is_three_bytes(data_dir, path, layout):
    (raw,) = payloads(data_dir / "pcap" / path)
    assert raw == layout.pack()


def test_login_is_read_as_tshark_reads_it(data_dir):
    (request,) = payloads(data_dir / "pcap" / "jnx_soupbin" / "LoginRequestPacket.pcap")
    values = soupbintcp.LOGIN_REQUEST.unpack(request)
    assert values == {
        "packet_length": 47,
        "packet_type": "L",
        "username": "user",
        "password": "password",
        "requested_session": "",
        "requested_sequence_number": 0,
    }
    (accepted,) = payloads(data_dir / "pcap" / "jnx_soupbin" / "LoginAcceptedPacket.pcap")
    assert soupbintcp.LOGIN_ACCEPTED.unpack(accepted) == {
        "packet_length": 31,
        "packet_type": "A",
        "session": "1689192121",
        "sequence_number": 135,
    }


def file_messages(path):
    """Return the messages of a BinaryFILE."""
    raw, start, found = path.read_bytes(), 0, []
    while start < len(raw):
        length = int.from_bytes(raw[start : start + 2], "big")
        found.append(raw[start + 2 : start + 2 + length])
        start += 2 + length
    return found


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("aapl_20200130_first4000", 4_000),
        ("open_20191230_1000", 1_000),
        ("directory_20191230_1000", 1_000),
    ],
)
def test_messages_of_a_real_day_are_rebuilt_byte_for_byte(data_dir, name, count):
    messages = file_messages(data_dir / "itch50" / f"{name}.itch50")
    assert len(messages) == count
    for message in messages:
        layout = itch50.MESSAGES.identify(message[0])
        assert layout.pack(layout.unpack(message)) == message


def test_numpy_reads_a_real_day_like_the_layout(data_dir):
    messages = file_messages(data_dir / "itch50" / "aapl_20200130_first4000.itch50")
    adds = [message for message in messages if message[:1] == b"A"]
    assert len(adds) > 1_000
    layout = itch50.ADD_ORDER
    records = np.frombuffer(b"".join(adds), numpy_dtype.dtype(layout))
    expected = [layout.unpack(message) for message in adds]
    for name in ("stock_locate", "timestamp", "order_reference_number", "shares", "price"):
        found = numpy_dtype.values(records, layout, name)
        assert found.tolist() == [values[name] for values in expected]
    assert set(records["stock"].tolist()) == {b"AAPL    "}
