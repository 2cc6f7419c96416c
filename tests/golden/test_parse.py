"""One message of each type packed by hand from the published tables, and real messages."""

import struct
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.golden import parse as golden
from sim.golden.moldudp64 import Packet, parse_packet
from sim.golden.parse import Message, ParseError, parse
from sim.golden.wire import Datagram, parse_frame

# Stock locate 0x0102, tracking number 0x0304, 09:30:00.000000001 as 48 bits.
TIMESTAMP = 34_200_000_000_001
HEADER = bytes.fromhex("0102 0304 1f1aced9f001")
COMMON = (0x0102, 0x0304, TIMESTAMP)

REFERENCE = 0x1112131415161718
MATCH = 0x2122232425262728

# Message type, fields after the header, and the values they must be parsed to.
VECTORS: list[tuple[bytes, bytes, Message]] = [
    (b"S", b"Q", golden.SystemEvent(*COMMON, "Q")),
    (
        b"R",
        b"ZVZZT   " + b"G" + b" " + struct.pack(">I", 100) + b"NCZ PNN1N" + b"\0\0\0\3" + b"Y",
        golden.StockDirectory(
            *COMMON, "ZVZZT", "G", " ", 100, "N", "C", "Z", "P", "N", "N", "1", "N", 3, "Y"
        ),
    ),
    (b"H", b"AAPL    T IPO1", golden.StockTradingAction(*COMMON, "AAPL", "T", " ", "IPO1")),
    (b"Y", b"AAPL    1", golden.RegShoRestriction(*COMMON, "AAPL", "1")),
    (
        b"L",
        b"MAX AAPL    YNA",
        golden.MarketParticipantPosition(*COMMON, "MAX", "AAPL", "Y", "N", "A"),
    ),
    (
        b"V",
        struct.pack(">QQQ", 316_200_000_000, 295_800_000_000, 2**64 - 1),
        golden.MwcbDeclineLevel(*COMMON, 316_200_000_000, 295_800_000_000, 2**64 - 1),
    ),
    (b"W", b"2", golden.MwcbStatus(*COMMON, "2")),
    (
        b"K",
        b"NEWCO   " + struct.pack(">I", 36_000) + b"A" + struct.pack(">I", 170_000),
        golden.QuotingPeriodUpdate(*COMMON, "NEWCO", 36_000, "A", 170_000),
    ),
    (
        b"J",
        b"AAPL    " + struct.pack(">IIII", 133_400, 140_100, 109_200, 1),
        golden.LuldAuctionCollar(*COMMON, "AAPL", 133_400, 140_100, 109_200, 1),
    ),
    (b"h", b"AAPL    QH", golden.OperationalHalt(*COMMON, "AAPL", "Q", "H")),
    (
        b"A",
        struct.pack(">Q", REFERENCE)
        + b"B"
        + struct.pack(">I", 300)
        + b"AAPL    "
        + b"\0\x31\x2a\0",
        golden.AddOrder(*COMMON, REFERENCE, "B", 300, "AAPL", 0x00312A00),
    ),
    (
        b"F",
        struct.pack(">Q", REFERENCE)
        + b"S"
        + struct.pack(">I", 7)
        + b"BRK.A   "
        + struct.pack(">I", 2_000_000_000)
        + b"UBSS",
        golden.AddOrderMpid(*COMMON, REFERENCE, "S", 7, "BRK.A", 2_000_000_000, "UBSS"),
    ),
    (
        b"E",
        struct.pack(">QIQ", REFERENCE, 50, MATCH),
        golden.OrderExecuted(*COMMON, REFERENCE, 50, MATCH),
    ),
    (
        b"C",
        struct.pack(">QIQ", REFERENCE, 50, MATCH) + b"N" + struct.pack(">I", 3_224_000),
        golden.OrderExecutedWithPrice(*COMMON, REFERENCE, 50, MATCH, "N", 3_224_000),
    ),
    (b"X", struct.pack(">QI", REFERENCE, 60), golden.OrderCancel(*COMMON, REFERENCE, 60)),
    (b"D", struct.pack(">Q", REFERENCE), golden.OrderDelete(*COMMON, REFERENCE)),
    (
        b"U",
        struct.pack(">QQII", REFERENCE, REFERENCE + 1, 70, 3_224_100),
        golden.OrderReplace(*COMMON, REFERENCE, REFERENCE + 1, 70, 3_224_100),
    ),
    (
        b"P",
        struct.pack(">Q", 0)
        + b"B"
        + struct.pack(">I", 80)
        + b"AAPL    "
        + struct.pack(">IQ", 3_224_200, MATCH),
        golden.Trade(*COMMON, 0, "B", 80, "AAPL", 3_224_200, MATCH),
    ),
    (
        b"Q",
        struct.pack(">Q", 2**40) + b"AAPL    " + struct.pack(">IQ", 3_224_300, MATCH) + b"O",
        golden.CrossTrade(*COMMON, 2**40, "AAPL", 3_224_300, MATCH, "O"),
    ),
    (b"B", struct.pack(">Q", MATCH), golden.BrokenTrade(*COMMON, MATCH)),
    (
        b"I",
        struct.pack(">QQ", 1000, 2000) + b"N" + b"MDC     " + struct.pack(">III", 1, 2, 3) + b"OL",
        golden.Noii(*COMMON, 1000, 2000, "N", "MDC", 1, 2, 3, "O", "L"),
    ),
    (b"N", b"AAPL    A", golden.Rpii(*COMMON, "AAPL", "A")),
    (
        b"O",
        b"NEWCO   " + b"Y" + struct.pack(">IIIQII", 1, 2, 3, TIMESTAMP, 4, 5),
        golden.DirectListing(*COMMON, "NEWCO", "Y", 1, 2, 3, TIMESTAMP, 4, 5),
    ),
]

# [ITCH 5.0: Message Formats]
LENGTHS = {
    b"S": 12, b"R": 39, b"H": 25, b"Y": 20, b"L": 26, b"V": 35, b"W": 12, b"K": 28, b"J": 35,
    b"h": 21, b"A": 36, b"F": 40, b"E": 31, b"C": 36, b"X": 23, b"D": 19, b"U": 35, b"P": 44,
    b"Q": 40, b"B": 19, b"I": 50, b"N": 20, b"O": 48,
}  # fmt: skip
TYPES = [kind for kind, _, _ in VECTORS]


@pytest.mark.parametrize(("kind", "fields", "expected"), VECTORS, ids=[k.decode() for k in TYPES])
def test_hand_packed_message_parses_to_its_fields(
    kind: bytes, fields: bytes, expected: Message
) -> None:
    data = kind + HEADER + fields
    assert len(data) == LENGTHS[kind]
    parsed = parse(data)
    assert type(parsed) is type(expected)
    assert parsed == expected


def test_there_is_a_vector_for_each_of_the_23_messages() -> None:
    assert len(TYPES) == 23
    assert set(TYPES) == set(LENGTHS)


@pytest.mark.parametrize(
    ("message", "names"),
    [
        (
            golden.StockDirectory,
            "stock market_category financial_status_indicator round_lot_size round_lots_only "
            "issue_classification issue_sub_type authenticity short_sale_threshold_indicator "
            "ipo_flag luld_reference_price_tier etp_flag etp_leverage_factor inverse_indicator",
        ),
        (golden.MwcbDeclineLevel, "level_1 level_2 level_3"),
        (golden.MwcbStatus, "breached_level"),
        (
            golden.QuotingPeriodUpdate,
            "stock ipo_quotation_release_time ipo_quotation_release_qualifier ipo_price",
        ),
        (golden.OperationalHalt, "stock market_code operational_halt_action"),
        (
            golden.AddOrderMpid,
            "order_reference_number buy_sell_indicator shares stock price attribution",
        ),
        (golden.BrokenTrade, "match_number"),
        (golden.Rpii, "stock interest_flag"),
        (
            golden.DirectListing,
            "stock open_eligibility_status minimum_allowable_price maximum_allowable_price "
            "near_execution_price near_execution_time lower_price_range_collar "
            "upper_price_range_collar",
        ),
    ],
)
def test_fields_have_the_names_of_the_specification(message: type[Message], names: str) -> None:
    common = ["stock_locate", "tracking_number", "timestamp"]
    assert list(message._fields) == common + names.split()


@pytest.mark.parametrize("kind", TYPES, ids=[k.decode() for k in TYPES])
@pytest.mark.parametrize("extra", [-1, 1])
def test_wrong_length_is_refused(kind: bytes, extra: int) -> None:
    length = LENGTHS[kind] + extra
    with pytest.raises(ParseError) as error:
        parse((kind + bytes(60))[:length])
    assert str(error.value) == (
        f"wrong message length: type={kind.decode()!r}, length={length}, expected={LENGTHS[kind]}"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "no message type: length=0"),
        (b"Z" + bytes(11), "unknown message type: type='Z', length=12"),
        (b"s" + bytes(11), "unknown message type: type='s', length=12"),
        (b"\n", "unknown message type: type='\\n', length=1"),
        (b"\xff" * 36, "unknown message type: type='ÿ', length=36"),
    ],
)
def test_unknown_type_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(ParseError) as error:
        parse(data)
    assert str(error.value) == message
    assert isinstance(error.value, ValueError)


def test_only_spaces_on_the_right_are_padding() -> None:
    parsed = parse(b"Y" + HEADER + b" A\x00\xe9 \t  " + b" ")
    assert parsed == golden.RegShoRestriction(*COMMON, " A\x00\xe9 \t", " ")


@given(st.binary(max_size=60))
def test_arbitrary_bytes_parse_or_raise_parse_error(data: bytes) -> None:
    try:
        parsed = parse(data)
    except ParseError:
        assert LENGTHS.get(data[:1]) != len(data)
    else:
        assert LENGTHS[data[:1]] == len(data)
        assert parsed.stock_locate == struct.unpack_from(">H", data, 1)[0]


# Against another parser.


def plain(value: object) -> object:
    """A value of the other parser as ours: bytes become text without its padding."""
    if not isinstance(value, bytes):
        return value
    text = value.decode("latin-1")
    return text if len(text) == 1 else text.rstrip(" ")


@pytest.mark.parametrize("kind", TYPES, ids=[k.decode() for k in TYPES])
def test_itchfeed_parses_the_same_values(kind: bytes) -> None:
    peer = pytest.importorskip("itch.messages").messages[kind]

    @settings(max_examples=50, deadline=None)
    @given(st.binary(min_size=LENGTHS[kind] - 1, max_size=LENGTHS[kind] - 1))
    def check(rest: bytes) -> None:
        locate, tracking, timestamp, *fields = parse(kind + rest)
        theirs = vars(peer(kind + rest))  # The timestamp is the last attribute it sets.
        assert [plain(value) for value in theirs.values()] == [
            locate,
            tracking,
            *fields,
            timestamp,
        ]

    check()


# Against a third-party decode of real frames: lines "Name: value" under each message.

FIELD_NAMES = {"Reason": "reason_code", "Locate Code": "stock_locate"}
CLOCK_OFFSET_NS = 5 * 3_600 * 10**9  # The decode shows a time zone, the message the exchange's day.


def decoded_messages(text: str) -> list[dict[str, str]]:
    """The fields of each message in a decode, from the stock locate on."""
    messages: list[dict[str, str]] = []
    for line in text.splitlines():
        name, colon, value = line.strip().partition(":")
        if name == "Message Type":
            messages.append({"Message Type": value.strip()})
        elif colon and messages and line.startswith(" " * 12) and name != "Message Length":
            messages[-1][FIELD_NAMES.get(name, name.lower().replace(" ", "_"))] = value.strip()
    return messages


def as_decoded(name: str, value: int | str, shown: str) -> str:
    """Our value of a field as the decode writes it."""
    if name == "timestamp":
        seconds, nanoseconds = divmod(int(value) + CLOCK_OFFSET_NS, 10**9)
        minutes, seconds = divmod(seconds, 60)
        return f"2023-08-22 {minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{nanoseconds:09}"
    if isinstance(value, str):
        code = "<whitespace>" if value == " " else value
        return f"{shown[: shown.rindex('(')]}({code})" if "(" in shown else value.strip()
    if name.endswith("price"):
        return str((Decimal(value) / 10_000).normalize().quantize(Decimal(shown)))
    return str(value)


@pytest.mark.parametrize(("folder", "count"), [("itch50", 46), ("itch50_20230822", 71)])
def test_real_messages_agree_with_a_third_party_decode(
    data_dir: Path, folder: str, count: int
) -> None:
    dpkt = pytest.importorskip("dpkt")
    compared = 0
    for path in sorted((data_dir / "pcap" / folder).glob("*.pcap")):
        messages: list[bytes] = []
        with path.open("rb") as file:
            for _, frame in dpkt.pcap.Reader(file):
                datagram = parse_frame(frame, checksums=folder == "itch50")
                assert isinstance(datagram, Datagram), datagram
                packet = parse_packet(datagram.payload)
                assert isinstance(packet, Packet), packet
                messages += packet.messages
        decoded = decoded_messages(path.with_suffix(".txt").read_text())
        for data, shown in zip(messages, decoded, strict=True):
            ours = parse(data)._asdict()
            assert shown.pop("Message Type").endswith(f"({chr(data[0])})")
            assert list(ours) == list(shown), path.name
            for name, value in ours.items():
                assert as_decoded(name, value, shown[name]) == shown[name], (path.name, name)
            compared += 1
    assert compared == count


# Real files.


def read_binary_file(path: Path) -> list[bytes]:
    """Each payload behind its 2-byte length. [BinaryFILE 1.00]"""
    data = path.read_bytes()
    messages = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 2], "big")
        messages.append(data[offset + 2 : offset + 2 + length])
        offset += 2 + length
    return messages


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        (
            "open_20191230_1000.itch50",
            {
                "AddOrder": 367,
                "OrderReplace": 225,
                "AddOrderMpid": 193,
                "OrderDelete": 167,
                "OrderExecuted": 28,
                "OrderCancel": 6,
                "Noii": 4,
                "Trade": 4,
                "CrossTrade": 4,
                "SystemEvent": 1,
                "OrderExecutedWithPrice": 1,
            },
        ),
        (
            "directory_20191230_1000.itch50",
            {
                "SystemEvent": 1,
                "StockDirectory": 993,
                "RegShoRestriction": 3,
                "StockTradingAction": 3,
            },
        ),
    ],
)
def test_real_file_has_the_known_messages(
    data_dir: Path, name: str, counts: dict[str, int]
) -> None:
    found: dict[str, int] = {}
    for data in read_binary_file(data_dir / "itch50" / name):
        kind = type(parse(data)).__name__
        found[kind] = found.get(kind, 0) + 1
    assert found == counts
