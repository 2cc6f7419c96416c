"""One message of every layout, packed by hand from the published tables.

A vector is written as the tables are: a token a field, text in quotes, everything else in hex.
Nothing here is taken from ``protocol``. No field is padded, neighbours begin and end with different
bytes and numbers of one byte differ from theirs, so that moving any field by one byte changes what
is read.
"""

import re
from dataclasses import dataclass

Value = int | str | bytes


@dataclass(frozen=True, slots=True)
class Vector:
    """Bytes and what each of their fields means. ``name`` is the layout's in the catalogue."""

    name: str
    raw: bytes
    values: dict[str, Value]


def pack(text: str) -> bytes:
    """Return the bytes of tokens: ``'ABC'`` is text, ``0a0b`` is hex."""
    tokens = re.findall(r"'[^']*'|[0-9a-f]+", text)
    return b"".join(
        token[1:-1].encode() if token[0] == "'" else bytes.fromhex(token) for token in tokens
    )


def run(first: int, count: int) -> str:
    """Return ``count`` bytes in hex that count up from ``first``."""
    return bytes(range(first, first + count)).hex()


def plain(name: str, text: str, **values: Value) -> Vector:
    """Declare a vector without a common head."""
    return Vector(name, pack(text), values)


def itch(name: str, code: str, text: str, **values: Value) -> Vector:
    """Declare an ITCH message: type, stock locate, tracking number, timestamp, then ``text``."""
    head: dict[str, Value] = {
        "message_type": code,
        "stock_locate": 0xA1A2,
        "tracking_number": 0xA3A4,
        "timestamp": 0xA5A6A7A8A9AA,
    }
    raw = pack(f"'{code}' a1a2 a3a4 a5a6a7a8a9aa {text}")
    return Vector(f"itch50_{name}", raw, head | values)


def soup(name: str, length: str, code: str, text: str = "", **values: Value) -> Vector:
    """Declare a SoupBinTCP packet: length, type, then ``text``."""
    head: dict[str, Value] = {"packet_length": int(length, 16), "packet_type": code}
    return Vector(f"soupbintcp_{name}", pack(f"{length} '{code}' {text}"), head | values)


def ouch_in(name: str, code: str, text: str = "", **values: Value) -> Vector:
    """Declare an inbound OUCH message: type, then ``text``."""
    return Vector(f"ouch50_{name}", pack(f"'{code}' {text}"), {"type": code} | values)


def ouch_out(name: str, code: str, text: str, **values: Value) -> Vector:
    """Declare an outbound OUCH message: type, timestamp, then ``text``."""
    head: dict[str, Value] = {"type": code, "timestamp": 0xB1B2B3B4B5B6B7B8}
    return Vector(f"ouch50_{name}", pack(f"'{code}' b1b2b3b4b5b6b7b8 {text}"), head | values)


def record(name: str, code: str, word: str, text: str, **values: Value) -> Vector:
    """Declare a ring record, little-endian: head, ``word`` at 4, ``text`` from 16, sequence."""
    maker = "host" if code.startswith("3") else "card"
    head: dict[str, Value] = {
        "record_type": int(code, 16),
        "flags": 0x81,
        "symbol_index": 0x8382,
        f"ts_{maker}_ns": 0x8F8E8D8C8B8A8988,
        "sequence": 0xF8F7F6F5F4F3F2F1,
    }
    raw = pack(f"{code} 81 8283 {word} 88898a8b8c8d8e8f {text} f1f2f3f4f5f6f7f8")
    return Vector(name, raw, head | values)


HEADERS = (
    plain(
        "ethernet_ii",
        "01005e366f0c d4aff7cb20d5 8947",
        destination=b"\x01\x00\x5e\x36\x6f\x0c",
        source=b"\xd4\xaf\xf7\xcb\x20\xd5",
        ether_type=0x8947,
    ),
    plain("vlan_tag", "b123 8847", tag_control_information=0xB123, ether_type=0x8847),
    plain(
        "ipv4",
        "46 b8 0153 1c2d 5e0f 40 11 6a7b c0a90b15 efc10206",
        version_ihl=0x46,
        type_of_service=0xB8,
        total_length=0x0153,
        identification=0x1C2D,
        flags_fragment=0x5E0F,
        time_to_live=64,
        protocol=17,
        header_checksum=0x6A7B,
        source=0xC0A90B15,
        destination=0xEFC10206,
    ),
    plain(
        "udp",
        "d581 6785 0142 a3b4",
        source_port=0xD581,
        destination_port=0x6785,
        length=0x0142,
        checksum=0xA3B4,
    ),
    plain(
        "tcp",
        "c1c2 1f90 a1b2c3d4 e5f60718 5219 7fff 9bad 2021",
        source_port=0xC1C2,
        destination_port=8080,
        sequence_number=0xA1B2C3D4,
        acknowledgment_number=0xE5F60718,
        offset_flags=0x5219,
        window=32767,
        checksum=0x9BAD,
        urgent_pointer=0x2021,
    ),
)

MOLDUDP64 = (
    plain(
        "moldudp64_downstream_packet",
        "'SESSION123' 1112131415161718 2122",
        session="SESSION123",
        sequence_number=0x1112131415161718,
        message_count=0x2122,
    ),
    plain("moldudp64_message_block", "3132", message_length=0x3132),
    plain(
        "moldudp64_request_packet",
        "'session987' 4142434445464748 5152",
        session="session987",
        sequence_number=0x4142434445464748,
        requested_message_count=0x5152,
    ),
)

ITCH50 = (
    itch("system_event", "S", "'Q'", event_code="Q"),
    itch(
        "stock_directory",
        "R",
        "'ABCDEFGH' 'Q' 'N' 11121314 'Y' 'C' 'ZX' 'P' 'U' 'V' '1' 'W' 21222324 'I'",
        stock="ABCDEFGH",
        market_category="Q",
        financial_status_indicator="N",
        round_lot_size=0x11121314,
        round_lots_only="Y",
        issue_classification="C",
        issue_sub_type="ZX",
        authenticity="P",
        short_sale_threshold_indicator="U",
        ipo_flag="V",
        luld_reference_price_tier="1",
        etp_flag="W",
        etp_leverage_factor=0x21222324,
        inverse_indicator="I",
    ),
    itch(
        "stock_trading_action",
        "H",
        "'ABCDEFGH' 'T' 'x' 'LUDP'",
        stock="ABCDEFGH",
        trading_state="T",
        reserved="x",
        reason_code="LUDP",
    ),
    itch("reg_sho_restriction", "Y", "'ABCDEFGH' '1'", stock="ABCDEFGH", reg_sho_action="1"),
    itch(
        "market_participant_position",
        "L",
        "'MPID' 'ABCDEFGH' 'Y' 'N' 'A'",
        mpid="MPID",
        stock="ABCDEFGH",
        primary_market_maker="Y",
        market_maker_mode="N",
        market_participant_state="A",
    ),
    itch(
        "mwcb_decline_level",
        "V",
        "1112131415161718 2122232425262728 3132333435363738",
        level_1=0x1112131415161718,
        level_2=0x2122232425262728,
        level_3=0x3132333435363738,
    ),
    itch("mwcb_status", "W", "'2'", breached_level="2"),
    itch(
        "quoting_period_update",
        "K",
        "'ABCDEFGH' 11121314 'A' 21222324",
        stock="ABCDEFGH",
        ipo_quotation_release_time=0x11121314,
        ipo_quotation_release_qualifier="A",
        ipo_price=0x21222324,
    ),
    itch(
        "luld_auction_collar",
        "J",
        "'ABCDEFGH' 11121314 21222324 31323334 41424344",
        stock="ABCDEFGH",
        auction_collar_reference_price=0x11121314,
        upper_auction_collar_price=0x21222324,
        lower_auction_collar_price=0x31323334,
        auction_collar_extension=0x41424344,
    ),
    itch(
        "operational_halt",
        "h",
        "'ABCDEFGH' 'X' 'T'",
        stock="ABCDEFGH",
        market_code="X",
        operational_halt_action="T",
    ),
    itch(
        "add_order",
        "A",
        "1112131415161718 'B' 21222324 'ABCDEFGH' 31323334",
        order_reference_number=0x1112131415161718,
        buy_sell_indicator="B",
        shares=0x21222324,
        stock="ABCDEFGH",
        price=0x31323334,
    ),
    itch(
        "add_order_with_mpid",
        "F",
        "1112131415161718 'S' 21222324 'ABCDEFGH' 31323334 'MPID'",
        order_reference_number=0x1112131415161718,
        buy_sell_indicator="S",
        shares=0x21222324,
        stock="ABCDEFGH",
        price=0x31323334,
        attribution="MPID",
    ),
    itch(
        "order_executed",
        "E",
        "1112131415161718 21222324 3132333435363738",
        order_reference_number=0x1112131415161718,
        executed_shares=0x21222324,
        match_number=0x3132333435363738,
    ),
    itch(
        "order_executed_with_price",
        "C",
        "1112131415161718 21222324 3132333435363738 'N' 51525354",
        order_reference_number=0x1112131415161718,
        executed_shares=0x21222324,
        match_number=0x3132333435363738,
        printable="N",
        execution_price=0x51525354,
    ),
    itch(
        "order_cancel",
        "X",
        "1112131415161718 21222324",
        order_reference_number=0x1112131415161718,
        canceled_shares=0x21222324,
    ),
    itch("order_delete", "D", "1112131415161718", order_reference_number=0x1112131415161718),
    itch(
        "order_replace",
        "U",
        "1112131415161718 2122232425262728 31323334 41424344",
        original_order_reference_number=0x1112131415161718,
        new_order_reference_number=0x2122232425262728,
        shares=0x31323334,
        price=0x41424344,
    ),
    itch(
        "trade",
        "P",
        "1112131415161718 'B' 21222324 'ABCDEFGH' 31323334 5152535455565758",
        order_reference_number=0x1112131415161718,
        buy_sell_indicator="B",
        shares=0x21222324,
        stock="ABCDEFGH",
        price=0x31323334,
        match_number=0x5152535455565758,
    ),
    itch(
        "cross_trade",
        "Q",
        "1112131415161718 'ABCDEFGH' 21222324 3132333435363738 'O'",
        cross_shares=0x1112131415161718,
        stock="ABCDEFGH",
        cross_price=0x21222324,
        match_number=0x3132333435363738,
        cross_type="O",
    ),
    itch("broken_trade", "B", "1112131415161718", match_number=0x1112131415161718),
    itch(
        "net_order_imbalance_indicator",
        "I",
        "1112131415161718 2122232425262728 'S' 'ABCDEFGH' 31323334 41424344 51525354 'C' 'L'",
        paired_shares=0x1112131415161718,
        imbalance_shares=0x2122232425262728,
        imbalance_direction="S",
        stock="ABCDEFGH",
        far_price=0x31323334,
        near_price=0x41424344,
        current_reference_price=0x51525354,
        cross_type="C",
        price_variation_indicator="L",
    ),
    itch(
        "retail_price_improvement_indicator",
        "N",
        "'ABCDEFGH' 'A'",
        stock="ABCDEFGH",
        interest_flag="A",
    ),
    itch(
        "direct_listing_with_capital_raise",
        "O",
        "'ABCDEFGH' 'Y' 11121314 21222324 31323334 4142434445464748 51525354 61626364",
        stock="ABCDEFGH",
        open_eligibility_status="Y",
        minimum_allowable_price=0x11121314,
        maximum_allowable_price=0x21222324,
        near_execution_price=0x31323334,
        near_execution_time=0x4142434445464748,
        lower_price_range_collar=0x51525354,
        upper_price_range_collar=0x61626364,
    ),
)

GLIMPSE = (
    plain(
        "glimpse_end_of_snapshot",
        "'G' '12345678901234567890'",
        message_type="G",
        sequence_number=12_345_678_901_234_567_890,
    ),
)

SOUPBINTCP = (
    soup("debug", "0102", "+"),
    soup(
        "login_accepted",
        "001f",
        "A",
        "'SESSION123' '98765432109876543210'",
        session="SESSION123",
        sequence_number=98_765_432_109_876_543_210,
    ),
    soup("login_rejected", "0002", "J", "'S'", reject_reason_code="S"),
    soup("sequenced_data", "1213", "S"),
    soup("unsequenced_data", "2223", "U"),
    soup("server_heartbeat", "0001", "H"),
    soup("end_of_session", "0001", "Z"),
    soup(
        "login_request",
        "002f",
        "L",
        "'UserNm' 'PassWord99' 'SESSION123' '12345678901234567890'",
        username="UserNm",
        password="PassWord99",
        requested_session="SESSION123",
        requested_sequence_number=12_345_678_901_234_567_890,
    ),
    soup("client_heartbeat", "0001", "R"),
    soup("logout_request", "0001", "O"),
)

OUCH50_INBOUND = (
    ouch_in(
        "enter_order",
        "O",
        "11121314 'T' 21222324 'ABCDEFGH' 3132333435363738 '3' 'Y' 'P' 'N' 'R' 'ClOrdID1234567'",
        user_ref_num=0x11121314,
        side="T",
        quantity=0x21222324,
        symbol="ABCDEFGH",
        price=0x3132333435363738,
        time_in_force="3",
        display="Y",
        capacity="P",
        inter_market_sweep_eligibility="N",
        cross_type="R",
        cl_ord_id="ClOrdID1234567",
    ),
    ouch_in(
        "replace_order_request",
        "U",
        "11121314 21222324 31323334 4142434445464748 '0' 'N' 'Y' 'ClOrdID7654321'",
        orig_user_ref_num=0x11121314,
        user_ref_num=0x21222324,
        quantity=0x31323334,
        price=0x4142434445464748,
        time_in_force="0",
        display="N",
        inter_market_sweep_eligibility="Y",
        cl_ord_id="ClOrdID7654321",
    ),
    ouch_in(
        "cancel_order_request",
        "X",
        "11121314 21222324",
        user_ref_num=0x11121314,
        quantity=0x21222324,
    ),
    ouch_in(
        "modify_order_request",
        "M",
        "11121314 'E' 21222324",
        user_ref_num=0x11121314,
        side="E",
        quantity=0x21222324,
    ),
    ouch_in(
        "mass_cancel_request",
        "C",
        "11121314 'FIRM' 'ABCDEFGH'",
        user_ref_num=0x11121314,
        firm="FIRM",
        symbol="ABCDEFGH",
    ),
    ouch_in(
        "disable_order_entry_request",
        "D",
        "11121314 'FIRM'",
        user_ref_num=0x11121314,
        firm="FIRM",
    ),
    ouch_in(
        "enable_order_entry_request",
        "E",
        "21222324 'FRIM'",
        user_ref_num=0x21222324,
        firm="FRIM",
    ),
    ouch_in("account_query_request", "Q"),
)

OUCH50_OUTBOUND = (
    ouch_out("system_event", "S", "'E'", event_code="E"),
    ouch_out(
        "order_accepted",
        "A",
        "11121314 'S' 21222324 'ABCDEFGH' 3132333435363738 '0' 'Z' 4142434445464748 "
        "'A' 'Y' 'N' 'L' 'ClOrdID1234567'",
        user_ref_num=0x11121314,
        side="S",
        quantity=0x21222324,
        symbol="ABCDEFGH",
        price=0x3132333435363738,
        time_in_force="0",
        display="Z",
        order_reference_number=0x4142434445464748,
        capacity="A",
        inter_market_sweep_eligibility="Y",
        cross_type="N",
        order_state="L",
        cl_ord_id="ClOrdID1234567",
    ),
    ouch_out(
        "order_replaced",
        "U",
        "11121314 21222324 'B' 31323334 'ABCDEFGH' 4142434445464748 '3' 'N' 5152535455565758 "
        "'R' 'Y' 'O' 'D' 'ClOrdID7654321'",
        orig_user_ref_num=0x11121314,
        user_ref_num=0x21222324,
        side="B",
        quantity=0x31323334,
        symbol="ABCDEFGH",
        price=0x4142434445464748,
        time_in_force="3",
        display="N",
        order_reference_number=0x5152535455565758,
        capacity="R",
        inter_market_sweep_eligibility="Y",
        cross_type="O",
        order_state="D",
        cl_ord_id="ClOrdID7654321",
    ),
    ouch_out(
        "order_canceled",
        "C",
        "11121314 21222324 'U'",
        user_ref_num=0x11121314,
        quantity=0x21222324,
        reason="U",
    ),
    ouch_out(
        "aiq_canceled",
        "D",
        "11121314 21222324 'Q' 31323334 4142434445464748 'A' 'S'",
        user_ref_num=0x11121314,
        decrement_shares=0x21222324,
        reason="Q",
        quantity_prevented_from_trading=0x31323334,
        execution_price=0x4142434445464748,
        liquidity_flag="A",
        aiq_strategy="S",
    ),
    ouch_out(
        "order_executed",
        "E",
        "11121314 21222324 3132333435363738 'A' 4142434445464748",
        user_ref_num=0x11121314,
        quantity=0x21222324,
        price=0x3132333435363738,
        liquidity_flag="A",
        match_number=0x4142434445464748,
    ),
    ouch_out(
        "broken_trade",
        "B",
        "11121314 2122232425262728 'X' 'ClOrdID1234567'",
        user_ref_num=0x11121314,
        match_number=0x2122232425262728,
        reason="X",
        cl_ord_id="ClOrdID1234567",
    ),
    ouch_out(
        "rejected",
        "J",
        "11121314 2122 'ClOrdID1234567'",
        user_ref_num=0x11121314,
        reason=0x2122,
        cl_ord_id="ClOrdID1234567",
    ),
    ouch_out("cancel_pending", "P", "11121314", user_ref_num=0x11121314),
    ouch_out("cancel_reject", "I", "21222324", user_ref_num=0x21222324),
    ouch_out(
        "order_priority_update",
        "T",
        "11121314 2122232425262728 'A' 3132333435363738",
        user_ref_num=0x11121314,
        price=0x2122232425262728,
        display="A",
        order_reference_number=0x3132333435363738,
    ),
    ouch_out(
        "order_modified",
        "M",
        "11121314 'T' 21222324",
        user_ref_num=0x11121314,
        side="T",
        quantity=0x21222324,
    ),
    ouch_out("order_restated", "R", "11121314 'P'", user_ref_num=0x11121314, reason="P"),
    ouch_out(
        "mass_cancel_response",
        "X",
        "11121314 'FIRM' 'ABCDEFGH'",
        user_ref_num=0x11121314,
        firm="FIRM",
        symbol="ABCDEFGH",
    ),
    ouch_out(
        "disable_order_entry_response",
        "G",
        "11121314 'FIRM'",
        user_ref_num=0x11121314,
        firm="FIRM",
    ),
    ouch_out(
        "enable_order_entry_response",
        "K",
        "21222324 'FRIM'",
        user_ref_num=0x21222324,
        firm="FRIM",
    ),
    ouch_out("account_query_response", "Q", "11121314", next_user_ref_num=0x11121314),
    plain("ouch50_appendage_length", "1112", appendage_length=0x1112),
    plain("ouch50_tag_value", "05 02", option_length=5, option_tag=2),
)

_ID = {"cl_ord_id": 0x87868584}
_VENUE_TIME = {"ts_venue_ns": 0x1817161514131211}
_FEED = {"ts_feed_ns": 0x1817161514131211, "feed_sequence": 0x2827262524232221}

MARKET_RECORDS = (
    record(
        "bbo_record",
        "11",
        "84858687",
        "1112131415161718 2122232425262728 31323334 41424344 51525354 61626364 7172 7374 05 54 "
        "7677",
        skipped=0x87868584,
        bid_price=0x34333231,
        ask_price=0x44434241,
        bid_qty=0x54535251,
        ask_qty=0x64636261,
        bid_orders=0x7271,
        ask_orders=0x7473,
        stale_reason=5,
        trading_state=0x54,
        reserved_54=b"\x76\x77",
        **_FEED,
    ),
    record(
        "trade_record",
        "12",
        "84858687",
        f"1112131415161718 2122232425262728 31323334 42 50 5152 6162636465666768 {run(0x70, 8)}",
        last_qty=0x87868584,
        last_price=0x34333231,
        side=0x42,
        match_type=0x50,
        reserved_38=b"\x51\x52",
        match_number=0x6867666564636261,
        reserved_48=b"\x70\x71\x72\x73\x74\x75\x76\x77",
        **_FEED,
    ),
    record(
        "status_record",
        "13",
        "84858687",
        f"1112131415161718 2122232425262728 48 54 {run(0x60, 22)}",
        reserved_4=b"\x84\x85\x86\x87",
        message_type=0x48,
        status=0x54,
        reserved_34=bytes(range(0x60, 0x76)),
        **_FEED,
    ),
    record(
        "gap_record",
        "14",
        "84858687",
        f"1112131415161718 2122232425262728 {run(0x30, 24)}",
        reserved_4=b"\x84\x85\x86\x87",
        first_sequence=0x1817161514131211,
        message_count=0x2827262524232221,
        reserved_32=bytes(range(0x30, 0x48)),
    ),
    record(
        "repair_record",
        "15",
        "84858687",
        f"1112131415161718 2122232425262728 0a {run(0x40, 23)}",
        reserved_4=b"\x84\x85\x86\x87",
        from_sequence=0x1817161514131211,
        next_sequence=0x2827262524232221,
        stale_reason=10,
        reserved_33=bytes(range(0x40, 0x57)),
    ),
)

EXECUTION_RECORDS = (
    record(
        "sent_record",
        "21",
        "84858687",
        f"1112131415161718 {run(0x20, 32)}",
        command_sequence=0x1817161514131211,
        reserved_24=bytes(range(0x20, 0x40)),
        **_ID,
    ),
    record(
        "denied_record",
        "22",
        "84858687",
        f"1112131415161718 0b 31 {run(0x40, 30)}",
        command_sequence=0x1817161514131211,
        reason=11,
        command_type=0x31,
        reserved_26=bytes(range(0x40, 0x5E)),
        **_ID,
    ),
    record(
        "accepted_record",
        "23",
        "84858687",
        f"1112131415161718 2122232425262728 31323334 41424344 4c {run(0x50, 15)}",
        venue_order_id=0x2827262524232221,
        price=0x34333231,
        order_qty=0x44434241,
        order_state=0x4C,
        reserved_41=bytes(range(0x50, 0x5F)),
        **_ID,
        **_VENUE_TIME,
    ),
    record(
        "replaced_record",
        "24",
        "84858687",
        f"1112131415161718 2122232425262728 31323334 41424344 4c 515253 61626364 {run(0x70, 8)}",
        venue_order_id=0x2827262524232221,
        price=0x34333231,
        leaves_qty=0x44434241,
        order_state=0x4C,
        reserved_41=b"\x51\x52\x53",
        orig_cl_ord_id=0x64636261,
        reserved_48=b"\x70\x71\x72\x73\x74\x75\x76\x77",
        **_ID,
        **_VENUE_TIME,
    ),
    record(
        "canceled_record",
        "25",
        "84858687",
        f"1112131415161718 21222324 55 {run(0x60, 27)}",
        canceled_qty=0x24232221,
        reason=0x55,
        reserved_29=bytes(range(0x60, 0x7B)),
        **_ID,
        **_VENUE_TIME,
    ),
    record(
        "executed_record",
        "26",
        "84858687",
        f"1112131415161718 2122232425262728 31323334 41424344 52 {run(0x60, 15)}",
        match_number=0x2827262524232221,
        last_price=0x34333231,
        last_qty=0x44434241,
        liquidity_flag=0x52,
        reserved_41=bytes(range(0x60, 0x6F)),
        **_ID,
        **_VENUE_TIME,
    ),
    record(
        "rejected_record",
        "27",
        "84858687",
        f"1112131415161718 2122 {run(0x30, 30)}",
        reason=0x2221,
        reserved_26=bytes(range(0x30, 0x4E)),
        **_ID,
        **_VENUE_TIME,
    ),
)

COMMAND_RECORDS = (
    record(
        "new_command",
        "31",
        "84858687",
        f"42 33 1112 21222324 31323334 41424344 5152535455565758 {run(0x60, 16)}",
        side=0x42,
        time_in_force=0x33,
        trader_index=0x1211,
        order_qty=0x24232221,
        price=0x34333231,
        reserved_28=bytes(range(0x41, 0x45)),
        cause_sequence=0x5857565554535251,
        reserved_40=bytes(range(0x60, 0x70)),
        **_ID,
    ),
    record(
        "cancel_command",
        "32",
        "84858687",
        f"11121314 {run(0x20, 36)}",
        order_qty=0x14131211,
        reserved_20=bytes(range(0x20, 0x44)),
        **_ID,
    ),
    record(
        "replace_command",
        "33",
        "84858687",
        f"53 30 1112 21222324 31323334 41424344 5152535455565758 {run(0x60, 16)}",
        side=0x53,
        time_in_force=0x30,
        trader_index=0x1211,
        order_qty=0x24232221,
        price=0x34333231,
        orig_cl_ord_id=0x44434241,
        cause_sequence=0x5857565554535251,
        reserved_40=bytes(range(0x60, 0x70)),
        **_ID,
    ),
    record(
        "mass_cancel_command",
        "34",
        "84858687",
        run(0x20, 40),
        reserved_16=bytes(range(0x20, 0x48)),
        **_ID,
    ),
    record(
        "limits_command",
        "35",
        "84858687",
        f"1112131415161718 21222324 31323334 41424344 51 52 5354 5556575859606162 {run(0x68, 8)}",
        qty_max=0x87868584,
        notional_max=0x1817161514131211,
        position_max=0x24232221,
        price_band_bp=0x34333231,
        locate_qty=0x44434241,
        tick_size=0x51,
        phases=0x52,
        reserved_38=b"\x53\x54",
        duplicate_window_ns=0x6261605958575655,
        reserved_48=bytes(range(0x68, 0x70)),
    ),
    record(
        "heartbeat_command",
        "36",
        "84858687",
        run(0x30, 40),
        reserved_4=b"\x84\x85\x86\x87",
        reserved_16=bytes(range(0x30, 0x58)),
    ),
    record(
        "level_limits_command",
        "37",
        "84858687",
        f"1112131415161718 2122232425262728 3132333435363738 41424344 5152 54 {run(0x60, 9)}",
        level_index=0x87868584,
        gross_max=0x1817161514131211,
        net_max=0x2827262524232221,
        rate_burst_ns=0x3837363534333231,
        rate_interval_ns=0x44434241,
        desk_index=0x5251,
        level=0x54,
        reserved_47=bytes(range(0x60, 0x69)),
    ),
    record(
        "book_clear_command",
        "38",
        "84858687",
        run(0x30, 40),
        stock_locate=0x87868584,
        reserved_16=bytes(range(0x30, 0x58)),
    ),
    record(
        "book_add_command",
        "39",
        "84858687",
        f"53 212223 31323334 41424344 51525354 6162636465666768 {run(0x70, 16)}",
        reserved_4=b"\x84\x85\x86\x87",
        side=0x53,
        reserved_17=b"\x21\x22\x23",
        order_qty=0x34333231,
        price=0x44434241,
        reserved_28=b"\x51\x52\x53\x54",
        order_reference=0x6867666564636261,
        reserved_40=bytes(range(0x70, 0x80)),
    ),
    record(
        "book_delete_command",
        "3a",
        "84858687",
        f"{run(0x20, 16)} 6162636465666768 {run(0x70, 16)}",
        reserved_4=b"\x84\x85\x86\x87",
        reserved_16=bytes(range(0x20, 0x30)),
        order_reference=0x6867666564636261,
        reserved_40=bytes(range(0x70, 0x80)),
    ),
    record(
        "book_live_command",
        "3b",
        "84858687",
        f"54 51 {run(0x20, 14)} 6162636465666768 {run(0x70, 16)}",
        reserved_4=b"\x84\x85\x86\x87",
        trading_state=0x54,
        event_code=0x51,
        reserved_18=bytes(range(0x20, 0x2E)),
        next_sequence=0x6867666564636261,
        reserved_40=bytes(range(0x70, 0x80)),
    ),
    plain(
        "ring_control",
        f"1112131415161718 {run(0x20, 56)}",
        tail=0x1817161514131211,
        reserved=bytes(range(0x20, 0x58)),
    ),
)

VECTORS = (
    HEADERS
    + MOLDUDP64
    + ITCH50
    + GLIMPSE
    + SOUPBINTCP
    + OUCH50_INBOUND
    + OUCH50_OUTBOUND
    + MARKET_RECORDS
    + EXECUTION_RECORDS
    + COMMAND_RECORDS
)

BY_NAME = {vector.name: vector for vector in VECTORS}
