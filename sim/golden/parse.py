"""One ITCH 5.0 message from its bytes to a named tuple.

Field names are the specification's, in lower case. Prices are integers of 1e-4 USD, timestamps
nanoseconds since midnight. Alpha fields lose the spaces on their right, except codes of one
character. Clauses are numbered as in the 2015 edition of the specification; later editions count
4.1 for 1.1 and so on.
"""

from collections.abc import Callable
from typing import NamedTuple


class ParseError(ValueError):
    """The type is not one of ITCH 5.0, or the length is not the published one."""


class SystemEvent(NamedTuple):
    """`S`: A system event. [ITCH 5.0: 1.1]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    event_code: str


class StockDirectory(NamedTuple):
    """`R`: A symbol of the day, sent before the system opens. [ITCH 5.0: 1.2.1]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    market_category: str
    financial_status_indicator: str
    round_lot_size: int
    round_lots_only: str
    issue_classification: str
    issue_sub_type: str
    authenticity: str
    short_sale_threshold_indicator: str
    ipo_flag: str
    luld_reference_price_tier: str
    etp_flag: str
    etp_leverage_factor: int
    inverse_indicator: str


class StockTradingAction(NamedTuple):
    """`H`: Whether a symbol is halted, paused, quotation only or trading. [ITCH 5.0: 1.2.2]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    trading_state: str
    reserved: str
    reason_code: str


class RegShoRestriction(NamedTuple):
    """`Y`: A symbol's short sale price test restriction. [ITCH 5.0: 1.2.3]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    reg_sho_action: str


class MarketParticipantPosition(NamedTuple):
    """`L`: A market participant's state in a symbol. [ITCH 5.0: 1.2.4]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    mpid: str
    stock: str
    primary_market_maker: str
    market_maker_mode: str
    market_participant_state: str


class MwcbDeclineLevel(NamedTuple):
    """`V`: The day's market-wide circuit breaker levels, in 1e-8. [ITCH 5.0: 1.2.5.1]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    level_1: int
    level_2: int
    level_3: int


class MwcbStatus(NamedTuple):
    """`W`: A market-wide circuit breaker level was breached. [ITCH 5.0: 1.2.5.2]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    breached_level: str


class QuotingPeriodUpdate(NamedTuple):
    """`K`: The quotation release of an initial public offering. [ITCH 5.0: 1.2.6]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    ipo_quotation_release_time: int
    ipo_quotation_release_qualifier: str
    ipo_price: int


class LuldAuctionCollar(NamedTuple):
    """`J`: The price collar of a reopening auction. [ITCH 5.0: 1.2.7]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    auction_collar_reference_price: int
    upper_auction_collar_price: int
    lower_auction_collar_price: int
    auction_collar_extension: int


class OperationalHalt(NamedTuple):
    """`h`: A halt of one market centre. [ITCH 5.0: 1.2.8]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    market_code: str
    operational_halt_action: str


class AddOrder(NamedTuple):
    """`A`: A new order on the book. [ITCH 5.0: 1.3.1]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int
    buy_sell_indicator: str
    shares: int
    stock: str
    price: int


class AddOrderMpid(NamedTuple):
    """`F`: A new order on the book, with the participant behind it. [ITCH 5.0: 1.3.2]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int
    buy_sell_indicator: str
    shares: int
    stock: str
    price: int
    attribution: str


class OrderExecuted(NamedTuple):
    """`E`: Shares of an order were executed at its own price. [ITCH 5.0: 1.4.1]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int
    executed_shares: int
    match_number: int


class OrderExecutedWithPrice(NamedTuple):
    """`C`: Shares of an order were executed at another price than its own. [ITCH 5.0: 1.4.2]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int
    executed_shares: int
    match_number: int
    printable: str
    execution_price: int


class OrderCancel(NamedTuple):
    """`X`: Shares of an order were canceled, but not all. [ITCH 5.0: 1.4.3]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int
    canceled_shares: int


class OrderDelete(NamedTuple):
    """`D`: All remaining shares of an order were canceled. [ITCH 5.0: 1.4.4]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int


class OrderReplace(NamedTuple):
    """`U`: An order was replaced by a new one of the same side and symbol. [ITCH 5.0: 1.4.5]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    original_order_reference_number: int
    new_order_reference_number: int
    shares: int
    price: int


class Trade(NamedTuple):
    """`P`: An execution of a non-displayed order. The book does not change. [ITCH 5.0: 1.5.1]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    order_reference_number: int
    buy_sell_indicator: str
    shares: int
    stock: str
    price: int
    match_number: int


class CrossTrade(NamedTuple):
    """`Q`: The executions of a cross, in one message. [ITCH 5.0: 1.5.2]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    cross_shares: int
    stock: str
    cross_price: int
    match_number: int
    cross_type: str


class BrokenTrade(NamedTuple):
    """`B`: An execution was broken. The book does not change. [ITCH 5.0: 1.5.3]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    match_number: int


class Noii(NamedTuple):
    """`I`: Net order imbalance indicator. [ITCH 5.0: 1.6]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    paired_shares: int
    imbalance_shares: int
    imbalance_direction: str
    stock: str
    far_price: int
    near_price: int
    current_reference_price: int
    cross_type: str
    price_variation_indicator: str


class Rpii(NamedTuple):
    """`N`: Retail price improvement indicator. [ITCH 5.0: 1.7]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    interest_flag: str


class DirectListing(NamedTuple):
    """`O`: Direct listing with capital raise price discovery. [ITCH 5.0: 1.8]"""

    stock_locate: int
    tracking_number: int
    timestamp: int
    stock: str
    open_eligibility_status: str
    minimum_allowable_price: int
    maximum_allowable_price: int
    near_execution_price: int
    near_execution_time: int
    lower_price_range_collar: int
    upper_price_range_collar: int


Message = (
    SystemEvent
    | StockDirectory
    | StockTradingAction
    | RegShoRestriction
    | MarketParticipantPosition
    | MwcbDeclineLevel
    | MwcbStatus
    | QuotingPeriodUpdate
    | LuldAuctionCollar
    | OperationalHalt
    | AddOrder
    | AddOrderMpid
    | OrderExecuted
    | OrderExecutedWithPrice
    | OrderCancel
    | OrderDelete
    | OrderReplace
    | Trade
    | CrossTrade
    | BrokenTrade
    | Noii
    | Rpii
    | DirectListing
)


def parse(data: bytes) -> Message:
    """Return the message in `data`, which must be one whole message and nothing else.

    Raises `ParseError` where the type is unknown or the length is wrong.
    """
    if not data:
        raise ParseError("no message type: length=0")
    message_type = chr(data[0])
    length = _LENGTHS.get(message_type)
    if length is None:
        raise ParseError(f"unknown message type: type={message_type!r}, length={len(data)}")
    if len(data) != length:
        raise ParseError(
            f"wrong message length: type={message_type!r}, length={len(data)}, expected={length}"
        )
    return _PARSERS[message_type](data)


def _header(d: bytes) -> tuple[int, int, int]:
    """Stock locate, tracking number and timestamp: the same place in every message."""
    return _u2(d, 1), _u2(d, 3), int.from_bytes(d[5:11], "big")


def _u2(d: bytes, offset: int) -> int:
    """Unsigned, big-endian, 2 bytes; 4 and 8 below. Price(4) and Price(8) are the same bytes."""
    return int.from_bytes(d[offset : offset + 2], "big")


def _u4(d: bytes, offset: int) -> int:
    return int.from_bytes(d[offset : offset + 4], "big")


def _u8(d: bytes, offset: int) -> int:
    return int.from_bytes(d[offset : offset + 8], "big")


def _alpha(d: bytes, offset: int, length: int) -> str:
    """Left-justified, padded on the right with spaces. [ITCH 5.0: Data Types]"""
    return d[offset : offset + length].decode("latin-1").rstrip(" ")


def _code(d: bytes, offset: int) -> str:
    """An Alpha of one character, where a space is a code and stays."""
    return chr(d[offset])


# The published length of each message, type byte included. [ITCH 5.0: Message Formats]
_LENGTHS = {
    "S": 12,
    "R": 39,
    "H": 25,
    "Y": 20,
    "L": 26,
    "V": 35,
    "W": 12,
    "K": 28,
    "J": 35,
    "h": 21,
    "A": 36,
    "F": 40,
    "E": 31,
    "C": 36,
    "X": 23,
    "D": 19,
    "U": 35,
    "P": 44,
    "Q": 40,
    "B": 19,
    "I": 50,
    "N": 20,
    "O": 48,
}

# The fields in the order of the class above. Offsets are from the message type byte.
_PARSERS: dict[str, Callable[[bytes], Message]] = {
    "S": lambda d: SystemEvent(*_header(d), _code(d, 11)),
    "R": lambda d: StockDirectory(
        *_header(d),
        _alpha(d, 11, 8),
        _code(d, 19),
        _code(d, 20),
        _u4(d, 21),
        _code(d, 25),
        _code(d, 26),
        _alpha(d, 27, 2),
        _code(d, 29),
        _code(d, 30),
        _code(d, 31),
        _code(d, 32),
        _code(d, 33),
        _u4(d, 34),
        _code(d, 38),
    ),
    "H": lambda d: StockTradingAction(
        *_header(d), _alpha(d, 11, 8), _code(d, 19), _code(d, 20), _alpha(d, 21, 4)
    ),
    "Y": lambda d: RegShoRestriction(*_header(d), _alpha(d, 11, 8), _code(d, 19)),
    "L": lambda d: MarketParticipantPosition(
        *_header(d), _alpha(d, 11, 4), _alpha(d, 15, 8), _code(d, 23), _code(d, 24), _code(d, 25)
    ),
    "V": lambda d: MwcbDeclineLevel(*_header(d), _u8(d, 11), _u8(d, 19), _u8(d, 27)),
    "W": lambda d: MwcbStatus(*_header(d), _code(d, 11)),
    "K": lambda d: QuotingPeriodUpdate(
        *_header(d), _alpha(d, 11, 8), _u4(d, 19), _code(d, 23), _u4(d, 24)
    ),
    "J": lambda d: LuldAuctionCollar(
        *_header(d), _alpha(d, 11, 8), _u4(d, 19), _u4(d, 23), _u4(d, 27), _u4(d, 31)
    ),
    "h": lambda d: OperationalHalt(*_header(d), _alpha(d, 11, 8), _code(d, 19), _code(d, 20)),
    "A": lambda d: AddOrder(
        *_header(d), _u8(d, 11), _code(d, 19), _u4(d, 20), _alpha(d, 24, 8), _u4(d, 32)
    ),
    "F": lambda d: AddOrderMpid(
        *_header(d),
        _u8(d, 11),
        _code(d, 19),
        _u4(d, 20),
        _alpha(d, 24, 8),
        _u4(d, 32),
        _alpha(d, 36, 4),
    ),
    "E": lambda d: OrderExecuted(*_header(d), _u8(d, 11), _u4(d, 19), _u8(d, 23)),
    "C": lambda d: OrderExecutedWithPrice(
        *_header(d), _u8(d, 11), _u4(d, 19), _u8(d, 23), _code(d, 31), _u4(d, 32)
    ),
    "X": lambda d: OrderCancel(*_header(d), _u8(d, 11), _u4(d, 19)),
    "D": lambda d: OrderDelete(*_header(d), _u8(d, 11)),
    "U": lambda d: OrderReplace(*_header(d), _u8(d, 11), _u8(d, 19), _u4(d, 27), _u4(d, 31)),
    "P": lambda d: Trade(
        *_header(d), _u8(d, 11), _code(d, 19), _u4(d, 20), _alpha(d, 24, 8), _u4(d, 32), _u8(d, 36)
    ),
    "Q": lambda d: CrossTrade(
        *_header(d), _u8(d, 11), _alpha(d, 19, 8), _u4(d, 27), _u8(d, 31), _code(d, 39)
    ),
    "B": lambda d: BrokenTrade(*_header(d), _u8(d, 11)),
    "I": lambda d: Noii(
        *_header(d),
        _u8(d, 11),
        _u8(d, 19),
        _code(d, 27),
        _alpha(d, 28, 8),
        _u4(d, 36),
        _u4(d, 40),
        _u4(d, 44),
        _code(d, 48),
        _code(d, 49),
    ),
    "N": lambda d: Rpii(*_header(d), _alpha(d, 11, 8), _code(d, 19)),
    "O": lambda d: DirectListing(
        *_header(d),
        _alpha(d, 11, 8),
        _code(d, 19),
        _u4(d, 20),
        _u4(d, 24),
        _u4(d, 28),
        _u8(d, 32),
        _u4(d, 40),
        _u4(d, 44),
    ),
}
