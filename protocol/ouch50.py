"""Nasdaq OUCH 5.0: orders in, answers out.

Prices are unsigned integers of 1e-4 USD in 8 bytes. The fixed part of most messages is followed by
an appendage: a 2-byte length and that many bytes of options, each `length, tag, value`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, unique
from typing import Any

from protocol.layout import (
    DecodeError,
    EncodeError,
    Family,
    Field,
    Kind,
    Layout,
    Value,
    alpha,
    price4,
    timestamp,
    uint,
)

CLAUSE = "Nasdaq OUCH 5.0, revision 1.05"

QUANTITY_MAX = 999_999
PRICE_MAX = 0x7735939C
"""199,999.9900, the highest limit price."""

SIDE = {"B": "buy", "S": "sell", "T": "sell short", "E": "sell short exempt"}
TIME_IN_FORCE = {
    "0": "day",
    "3": "IOC",
    "5": "GTX, extended hours",
    "6": "GTT, until its expire time",
    "E": "after hours",
}
DISPLAY = {"Y": "visible", "N": "hidden", "A": "attributable", "Z": "conformant"}
CAPACITY = {"A": "agency", "P": "principal", "R": "riskless", "O": "other"}
CROSS_TYPE = {
    "N": "continuous market",
    "O": "opening cross",
    "C": "closing cross",
    "H": "halt or IPO",
    "S": "supplemental",
    "R": "retail",
    "E": "extended life",
    "A": "after hours close",
}
CANCEL_REASON = {
    "D": "regulatory restriction",
    "E": "closed",
    "F": "post-only, would lock or cross the market",
    "G": "post-only, contra order displayed",
    "H": "halted",
    "I": "immediate or cancel",
    "K": "market collars",
    "Q": "self-match prevention",
    "S": "supervisory",
    "T": "timeout",
    "U": "user",
    "X": "open protection",
    "Z": "system",
    "e": "closing cross exceeds shares",
}
REJECT_REASON = {
    0x01: "Quote Unavailable",
    0x02: "Destination Closed",
    0x03: "Invalid Display",
    0x04: "Invalid Max Floor",
    0x05: "Invalid Peg Type",
    0x06: "Fat Finger",
    0x07: "Halted",
    0x08: "ISO Not Allowed",
    0x09: "Invalid Side",
    0x0A: "Processing Error",
    0x0B: "Cancel Pending",
    0x0C: "Firm Not Authorized",
    0x0D: "Invalid Min Quantity",
    0x0E: "No Closing Reference Price",
    0x0F: "Other",
    0x10: "Cancel Not Allowed",
    0x11: "Pegging Not Allowed",
    0x12: "Crossed Market",
    0x13: "Invalid Quantity",
    0x14: "Invalid Cross Order",
    0x15: "Replace Not Allowed",
    0x16: "Routing Not Allowed",
    0x17: "Invalid Symbol",
    0x18: "Test",
    0x19: "Late LOC Too Aggressive",
    0x1A: "Retail Not Allowed",
    0x1B: "Invalid Midpoint Post Only Price",
    0x1C: "Invalid Destination",
    0x1D: "Invalid Price",
    0x1E: "Shares Exceed Threshold",
    0x1F: "Exceeds Maximum Allowed Notional Value",
    0x20: "Risk: Aggregate Exposure Exceeded",
    0x21: "Risk: Market Impact",
    0x22: "Risk: Restricted Stock",
    0x23: "Risk: Short Sell Restricted",
    0x24: "Risk: ISO Not Allowed",
    0x25: "Risk: Exceeds ADV Limit",
    0x26: "Risk: Fat Finger",
    0x27: "Risk: Locate Required",
    0x28: "Risk: Symbol Message Rate Restriction",
    0x29: "Risk: Port Message Rate Restriction",
    0x2A: "Risk: Duplicate Message Rate Restriction",
    0x2B: "Risk: Short Sell Not Allowed",
    0x2C: "Risk: Market Order Not Allowed",
    0x2D: "Risk: Pre-Market Not Allowed",
    0x2E: "Risk: Post-Market Not Allowed",
    0x2F: "Risk: Short Sell Exempt Not Allowed",
    0x30: "Risk: Single Order Notional Exceeded",
    0x31: "Risk: Max Quantity Exceeded",
    0x32: "Reg SHO State Not Available",
    0x33: "Risk: IPO Market Buy Not Allowed",
    0x40: "Invalid AIQ",
}


@unique
class Appendage(Enum):
    """Whether an appendage length follows the fixed part."""

    ALWAYS = "length always present"
    OPTIONAL = "length and appendage may both be absent"
    NEVER = "none"


@dataclass(frozen=True, repr=False)
class Message(Layout):
    """A message's fixed part, and whether an appendage follows it."""

    appendage: Appendage = Appendage.NEVER


def _inbound(code: str, title: str, size: int, appendage: Appendage, *fields: Field) -> Message:
    head = (alpha("Type", 0, 1, f"`{code}`", default=code),)
    return Message(title, CLAUSE, size, head + fields, code=ord(code), appendage=appendage)


def _outbound(code: str, title: str, size: int, appendage: Appendage, *fields: Field) -> Message:
    return _inbound(
        code, title, size, appendage, timestamp("Timestamp", 1, 8, "Time of the event."), *fields
    )


# Inbound: from us to Nasdaq, in SoupBinTCP Unsequenced Data packets.

ENTER_ORDER = _inbound(
    "O",
    "Enter Order",
    45,
    Appendage.ALWAYS,
    uint("UserRefNum", 1, 4, "Order number of ours, strictly increasing."),
    alpha("Side", 5, 1, "Side.", SIDE),
    uint("Quantity", 6, 4, "Shares."),
    alpha("Symbol", 10, 8, "Symbol."),
    price4("Price", 18, 8, "Limit price."),
    alpha("Time In Force", 26, 1, "How long the order stands.", TIME_IN_FORCE),
    alpha("Display", 27, 1, "Visibility.", DISPLAY),
    alpha("Capacity", 28, 1, "Capacity of the firm.", CAPACITY),
    alpha(
        "InterMarket Sweep Eligibility",
        29,
        1,
        "Intermarket sweep.",
        {"Y": "eligible", "N": "not eligible"},
    ),
    alpha("CrossType", 30, 1, "Cross session.", CROSS_TYPE),
    alpha("ClOrdID", 31, 14, "Client order identifier, not checked for uniqueness."),
)
REPLACE_ORDER_REQUEST = _inbound(
    "U",
    "Replace Order Request",
    38,
    Appendage.ALWAYS,
    uint("OrigUserRefNum", 1, 4, "Order that is replaced."),
    uint("UserRefNum", 5, 4, "Order number of the replacement."),
    uint("Quantity", 9, 4, "Shares of the whole chain, executed ones included."),
    price4("Price", 13, 8, "Limit price."),
    alpha("Time In Force", 21, 1, "How long the order stands.", TIME_IN_FORCE),
    alpha("Display", 22, 1, "Visibility.", DISPLAY),
    alpha(
        "InterMarket Sweep Eligibility",
        23,
        1,
        "Intermarket sweep.",
        {"Y": "eligible", "N": "not eligible"},
    ),
    alpha("ClOrdID", 24, 14, "Client order identifier, not checked for uniqueness."),
)
CANCEL_ORDER_REQUEST = _inbound(
    "X",
    "Cancel Order Request",
    9,
    Appendage.OPTIONAL,
    uint("UserRefNum", 1, 4, "Order number of ours, strictly increasing."),
    uint("Quantity", 5, 4, "New intended order size; 0 cancels all."),
)
MODIFY_ORDER_REQUEST = _inbound(
    "M",
    "Modify Order Request",
    10,
    Appendage.OPTIONAL,
    uint("UserRefNum", 1, 4, "Order number of ours, strictly increasing."),
    alpha("Side", 5, 1, "Side.", SIDE),
    uint("Quantity", 6, 4, "Shares."),
)
MASS_CANCEL_REQUEST = _inbound(
    "C",
    "Mass Cancel Request",
    17,
    Appendage.ALWAYS,
    uint("UserRefNum", 1, 4, "Order number of ours, strictly increasing."),
    alpha("Firm", 5, 4, "Firm."),
    alpha("Symbol", 9, 8, "Symbol; blank for all."),
)
DISABLE_ORDER_ENTRY_REQUEST = _inbound(
    "D",
    "Disable Order Entry Request",
    9,
    Appendage.ALWAYS,
    uint("UserRefNum", 1, 4, "Order number of ours, strictly increasing."),
    alpha("Firm", 5, 4, "Firm."),
)
ENABLE_ORDER_ENTRY_REQUEST = _inbound(
    "E",
    "Enable Order Entry Request",
    9,
    Appendage.ALWAYS,
    uint("UserRefNum", 1, 4, "Order number of ours, strictly increasing."),
    alpha("Firm", 5, 4, "Firm."),
)
ACCOUNT_QUERY_REQUEST = _inbound("Q", "Account Query Request", 1, Appendage.OPTIONAL)

# Outbound: from Nasdaq to us, in SoupBinTCP Sequenced Data packets.

SYSTEM_EVENT = _outbound(
    "S",
    "System Event",
    10,
    Appendage.NEVER,
    alpha("Event Code", 9, 1, "Event.", {"S": "start of day", "E": "end of day"}),
)
ORDER_ACCEPTED = _outbound(
    "A",
    "Order Accepted",
    62,
    Appendage.ALWAYS,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    alpha("Side", 13, 1, "Side.", SIDE),
    uint("Quantity", 14, 4, "Shares."),
    alpha("Symbol", 18, 8, "Symbol."),
    price4("Price", 26, 8, "Accepted price."),
    alpha("Time In Force", 34, 1, "How long the order stands.", TIME_IN_FORCE),
    alpha("Display", 35, 1, "Visibility.", DISPLAY),
    uint("Order Reference Number", 36, 8, "Nasdaq's reference of the order."),
    alpha("Capacity", 44, 1, "Capacity of the firm.", CAPACITY),
    alpha(
        "InterMarket Sweep Eligibility",
        45,
        1,
        "Intermarket sweep.",
        {"Y": "eligible", "N": "not eligible"},
    ),
    alpha("CrossType", 46, 1, "Cross session.", CROSS_TYPE),
    alpha("Order State", 47, 1, "Whether the order is alive.", {"L": "live", "D": "dead"}),
    alpha("ClOrdID", 48, 14, "Client order identifier, not checked for uniqueness."),
)
ORDER_REPLACED = _outbound(
    "U",
    "Order Replaced",
    66,
    Appendage.ALWAYS,
    uint("OrigUserRefNum", 9, 4, "Order that is replaced."),
    uint("UserRefNum", 13, 4, "Order number of the replacement."),
    alpha("Side", 17, 1, "Side.", SIDE),
    uint("Quantity", 18, 4, "Shares outstanding."),
    alpha("Symbol", 22, 8, "Symbol."),
    price4("Price", 30, 8, "Accepted price."),
    alpha("Time In Force", 38, 1, "How long the order stands.", TIME_IN_FORCE),
    alpha("Display", 39, 1, "Visibility.", DISPLAY),
    uint("Order Reference Number", 40, 8, "Nasdaq's reference of the order."),
    alpha("Capacity", 48, 1, "Capacity of the firm.", CAPACITY),
    alpha(
        "InterMarket Sweep Eligibility",
        49,
        1,
        "Intermarket sweep.",
        {"Y": "eligible", "N": "not eligible"},
    ),
    alpha("CrossType", 50, 1, "Cross session.", CROSS_TYPE),
    alpha("Order State", 51, 1, "Whether the order is alive.", {"L": "live", "D": "dead"}),
    alpha("ClOrdID", 52, 14, "Client order identifier, not checked for uniqueness."),
)
ORDER_CANCELED = _outbound(
    "C",
    "Order Canceled",
    18,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    uint("Quantity", 13, 4, "Shares taken off the order."),
    alpha("Reason", 17, 1, "Cancel reason.", CANCEL_REASON),
)
AIQ_CANCELED = _outbound(
    "D",
    "AIQ Canceled",
    32,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    uint("Decrement Shares", 13, 4, "Shares taken off the order."),
    alpha("Reason", 17, 1, "Always Q.", CANCEL_REASON),
    uint("Quantity Prevented From Trading", 18, 4, "Shares that would have traded."),
    price4("Execution Price", 22, 8, "Price at which they would have traded."),
    alpha("Liquidity Flag", 30, 1, "Liquidity code."),
    alpha("AIQ Strategy", 31, 1, "Anti-internalization strategy."),
)
ORDER_EXECUTED = _outbound(
    "E",
    "Order Executed",
    34,
    Appendage.ALWAYS,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    uint("Quantity", 13, 4, "Shares executed; not cumulative."),
    price4("Price", 17, 8, "Price of the execution."),
    alpha("Liquidity Flag", 25, 1, "Liquidity code."),
    uint("Match Number", 26, 8, "Number of the match."),
)
BROKEN_TRADE = _outbound(
    "B",
    "Broken Trade",
    36,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    uint("Match Number", 13, 8, "Number of the match."),
    alpha(
        "Reason",
        21,
        1,
        "Reason.",
        {"E": "erroneous", "C": "consent", "S": "supervisory", "X": "external"},
    ),
    alpha("ClOrdID", 22, 14, "Client order identifier, not checked for uniqueness."),
)
REJECTED = _outbound(
    "J",
    "Rejected",
    29,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    uint("Reason", 13, 2, "Reject reason."),
    alpha("ClOrdID", 15, 14, "Client order identifier, not checked for uniqueness."),
)
CANCEL_PENDING = _outbound(
    "P",
    "Cancel Pending",
    13,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
)
CANCEL_REJECT = _outbound(
    "I",
    "Cancel Reject",
    13,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
)
ORDER_PRIORITY_UPDATE = _outbound(
    "T",
    "Order Priority Update",
    30,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    price4("Price", 13, 8, "Limit price."),
    alpha("Display", 21, 1, "Visibility.", DISPLAY),
    uint("Order Reference Number", 22, 8, "Nasdaq's reference of the order."),
)
ORDER_MODIFIED = _outbound(
    "M",
    "Order Modified",
    18,
    Appendage.OPTIONAL,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    alpha("Side", 13, 1, "Side.", SIDE),
    uint("Quantity", 14, 4, "Shares outstanding."),
)
ORDER_RESTATED = _outbound(
    "R",
    "Order Restated",
    14,
    Appendage.ALWAYS,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    alpha(
        "Reason", 13, 1, "Reason.", {"R": "refresh of display", "P": "update of displayed price"}
    ),
)
MASS_CANCEL_RESPONSE = _outbound(
    "X",
    "Mass Cancel Response",
    25,
    Appendage.ALWAYS,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    alpha("Firm", 13, 4, "Firm."),
    alpha("Symbol", 17, 8, "Symbol."),
)
DISABLE_ORDER_ENTRY_RESPONSE = _outbound(
    "G",
    "Disable Order Entry Response",
    17,
    Appendage.ALWAYS,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    alpha("Firm", 13, 4, "Firm."),
)
ENABLE_ORDER_ENTRY_RESPONSE = _outbound(
    "K",
    "Enable Order Entry Response",
    17,
    Appendage.ALWAYS,
    uint("UserRefNum", 9, 4, "Order number of ours, strictly increasing."),
    alpha("Firm", 13, 4, "Firm."),
)
ACCOUNT_QUERY_RESPONSE = _outbound(
    "Q",
    "Account Query Response",
    13,
    Appendage.OPTIONAL,
    uint("NextUserRefNum", 9, 4, "Next number that will be taken."),
)

INBOUND = Family(
    "OUCH 5.0 inbound",
    (
        ENTER_ORDER,
        REPLACE_ORDER_REQUEST,
        CANCEL_ORDER_REQUEST,
        MODIFY_ORDER_REQUEST,
        MASS_CANCEL_REQUEST,
        DISABLE_ORDER_ENTRY_REQUEST,
        ENABLE_ORDER_ENTRY_REQUEST,
        ACCOUNT_QUERY_REQUEST,
    ),
)
OUTBOUND = Family(
    "OUCH 5.0 outbound",
    (
        SYSTEM_EVENT,
        ORDER_ACCEPTED,
        ORDER_REPLACED,
        ORDER_CANCELED,
        AIQ_CANCELED,
        ORDER_EXECUTED,
        BROKEN_TRADE,
        REJECTED,
        CANCEL_PENDING,
        CANCEL_REJECT,
        ORDER_PRIORITY_UPDATE,
        ORDER_MODIFIED,
        ORDER_RESTATED,
        MASS_CANCEL_RESPONSE,
        DISABLE_ORDER_ENTRY_RESPONSE,
        ENABLE_ORDER_ENTRY_RESPONSE,
        ACCOUNT_QUERY_RESPONSE,
    ),
)

APPENDAGE_LENGTH = Layout(
    "Appendage Length", CLAUSE, 2, (uint("Appendage Length", 0, 2, "Bytes of options."),)
)
TAG_VALUE = Layout(
    "Tag Value",
    CLAUSE,
    2,
    (
        uint("Option Length", 0, 1, "Bytes of tag and value."),
        uint("Option Tag", 1, 1, "Which option; its value follows."),
    ),
)


def _signed(title: str, length: int, meaning: str) -> Field:
    return Field(title, 0, length, Kind.SINT, meaning)


OPTIONS: Mapping[int, Field] = {
    1: uint("SecondaryOrdRefNum", 0, 8, "Second reference of the order."),
    2: alpha("Firm", 0, 4, "Firm."),
    3: uint("MinQty", 0, 4, "Minimum quantity."),
    4: alpha("CustomerType", 0, 1, "Customer.", {"R": "retail", "N": "not retail"}),
    5: uint("MaxFloor", 0, 4, "Displayed shares."),
    6: alpha("PriceType", 0, 1, "How the price is found."),
    7: _signed("PegOffset", 4, "Offset from the peg, 1e-4 USD."),
    9: price4("DiscretionPrice", 0, 8, "Price up to which the order may trade."),
    10: alpha("DiscretionPriceType", 0, 1, "How the discretion price is found."),
    11: _signed("DiscretionPegOffset", 4, "Offset of the discretion price, 1e-4 USD."),
    12: alpha("PostOnly", 0, 1, "Post-only.", {"P": "post-only", "N": "no"}),
    13: uint("RandomReserves", 0, 4, "Range of the random reserve."),
    14: alpha("Route", 0, 4, "Routing strategy."),
    15: uint("ExpireTime", 0, 4, "Seconds since midnight."),
    16: alpha("TradeNow", 0, 1, "Trade now."),
    17: alpha("HandleInst", 0, 1, "Handling instruction."),
    18: alpha("BBO Weight Indicator", 0, 1, "Weight of the order at the best price."),
    22: uint("Display Quantity", 0, 4, "Displayed shares."),
    23: price4("Display Price", 0, 8, "Displayed price."),
    24: uint("Group ID", 0, 2, "Anti-internalization group."),
    25: alpha("Shares Located", 0, 1, "Whether shares were located for a short sale."),
    26: alpha("Locate Broker", 0, 4, "Broker that located them."),
    27: alpha("Side", 0, 1, "Side.", SIDE),
    28: uint("UserRefIdx", 0, 1, "Order flow channel."),
    29: alpha("AIQ Strategy", 0, 1, "Anti-internalization strategy."),
    30: alpha("AIQ Group ID", 0, 2, "Anti-internalization group."),
}
"""Option tags and how their values are read."""


def pack(
    message: Message, values: Mapping[str, Value], options: Sequence[tuple[int, Value]] = ()
) -> bytes:
    """Return a whole message. ``options`` are pairs of tag and value, in the order of the wire.

    Raises
    ------
    EncodeError
        If a value does not fit, a tag is unknown or the message takes no options.
    """
    fixed = message.pack(values)
    if options and message.appendage is Appendage.NEVER:
        raise EncodeError(f"{message.title} takes no options")
    if not options and message.appendage is not Appendage.ALWAYS:
        return fixed
    appendage = b""
    for tag, value in options:
        if tag not in OPTIONS:
            raise EncodeError(f"{message.title}: option tag {tag} is not defined")
        raw = OPTIONS[tag].encode(value, "big")
        appendage += TAG_VALUE.pack(option_length=len(raw) + 1, option_tag=tag) + raw
    return fixed + APPENDAGE_LENGTH.pack(appendage_length=len(appendage)) + appendage


def unpack(
    family: Family[Message], data: bytes
) -> tuple[Message, dict[str, Any], list[tuple[int, Value]]]:
    """Return a message, its fields (with ``appendage_length`` where present) and its options.

    The value of a tag that is not defined here is given as bytes.

    Raises
    ------
    DecodeError
        If the type is unknown, or a length contradicts another or the end of ``data``.
    """
    message, options = _checked(family, data)
    values = message.unpack(data)
    if len(data) > message.size:
        values |= APPENDAGE_LENGTH.unpack(data, message.size)
    return message, values, options


def unpack_raw(
    family: Family[Message], data: bytes
) -> tuple[Message, tuple[Any, ...], list[tuple[int, Value]]]:
    """Return a message, its fields as :mod:`struct` reads them, in order, and its options.

    Texts are bytes with their padding. A third of the time of :func:`unpack`, with the same errors.
    """
    message, options = _checked(family, data)
    return message, message.struct.unpack_from(data), options


def _checked(family: Family[Message], data: bytes) -> tuple[Message, list[tuple[int, Value]]]:
    """Return the message and its options, once every length agrees with the others."""
    if not data:
        raise DecodeError(f"an empty message is not in {family.title}")
    message = family.identify(data[0])
    end, there = message.size, len(data)
    if there < end:
        raise DecodeError(f"{message.title} needs {end} bytes, {there} remain", 0)
    if there == end and message.appendage is not Appendage.ALWAYS:
        return message, []
    if message.appendage is Appendage.NEVER:
        raise DecodeError(f"{message.title} has {end} bytes, not {there}", end)
    start = end + APPENDAGE_LENGTH.size
    if there < start:
        APPENDAGE_LENGTH.unpack(data, end)  # It says what is missing.
    claimed = int.from_bytes(data[end:start], "big")
    if claimed != there - start:
        raise DecodeError(
            f"{message.title}: appendage length is {claimed}, {there - start} bytes follow", end
        )
    return message, _unpack_options(data, start) if claimed else []


def _unpack_options(data: bytes, start: int) -> list[tuple[int, Value]]:
    options: list[tuple[int, Value]] = []
    while start < len(data):
        head = TAG_VALUE.unpack(data, start)
        length, tag = head["option_length"], head["option_tag"]
        raw = data[start + TAG_VALUE.size : start + 1 + length]
        if length < 1 or len(raw) != length - 1:
            raise DecodeError(f"option tag {tag} claims {length} bytes of tag and value", start)
        field = OPTIONS.get(tag)
        if field is not None and field.length != len(raw):
            raise DecodeError(f"option tag {tag} has {len(raw)} bytes, not {field.length}", start)
        options.append((tag, raw if field is None else field.decode(raw, "big")))
        start += 1 + length
    return options
