"""Nasdaq TotalView-ITCH 5.0: all 23 messages.

Every message begins with the same 11 bytes. Prices are unsigned integers of 1e-4 USD (1e-8 in the
decline levels), times are ns since midnight.
"""

from protocol.layout import Family, Field, Kind, Layout, alpha, price4, timestamp, uint

CLAUSE = "Nasdaq TotalView-ITCH 5.0"


def _message(code: str, title: str, size: int, *fields: Field) -> Layout:
    head = (
        alpha("Message Type", 0, 1, f"`{code}`", default=code),
        uint("Stock Locate", 1, 2, "The day's number of the symbol, from 1; 0 for none."),
        uint("Tracking Number", 3, 2, "Nasdaq's own number.", default=0),
        timestamp("Timestamp", 5, 6, "Time of the event."),
    )
    return Layout(title, CLAUSE, size, head + fields, code=ord(code))


SYSTEM_EVENT = _message(
    "S",
    "System Event",
    12,
    alpha(
        "Event Code",
        11,
        1,
        "Event.",
        {
            "O": "start of messages",
            "S": "start of system hours",
            "Q": "start of market hours",
            "M": "end of market hours",
            "E": "end of system hours",
            "C": "end of messages",
        },
    ),
)
STOCK_DIRECTORY = _message(
    "R",
    "Stock Directory",
    39,
    alpha("Stock", 11, 8, "Symbol."),
    alpha("Market Category", 19, 1, "Listing market."),
    alpha("Financial Status Indicator", 20, 1, "Financial status of the issuer."),
    uint("Round Lot Size", 21, 4, "Shares in a round lot."),
    alpha("Round Lots Only", 25, 1, "Whether only round lots are taken."),
    alpha("Issue Classification", 26, 1, "Kind of security."),
    alpha("Issue Sub Type", 27, 2, "Kind of security in more detail."),
    alpha("Authenticity", 29, 1, "Live or test symbol."),
    alpha("Short Sale Threshold Indicator", 30, 1, "On the Reg SHO threshold list."),
    alpha("Ipo Flag", 31, 1, "Whether this is an IPO."),
    alpha("Luld Reference Price Tier", 32, 1, "LULD tier."),
    alpha("Etp Flag", 33, 1, "Whether it is an exchange traded product."),
    uint("Etp Leverage Factor", 34, 4, "Leverage of an exchange traded product."),
    alpha("Inverse Indicator", 38, 1, "Whether an exchange traded product is inverse."),
)
STOCK_TRADING_ACTION = _message(
    "H",
    "Stock Trading Action",
    25,
    alpha("Stock", 11, 8, "Symbol."),
    alpha(
        "Trading State",
        19,
        1,
        "Trading state.",
        {"H": "halted", "P": "paused", "Q": "quotation only", "T": "trading"},
    ),
    alpha("Reserved", 20, 1, "Reserved."),
    alpha("Reason Code", 21, 4, "Reason of the state."),
)
REG_SHO_RESTRICTION = _message(
    "Y",
    "Reg SHO Restriction",
    20,
    alpha("Stock", 11, 8, "Symbol."),
    alpha(
        "Reg Sho Action",
        19,
        1,
        "Short sale price test.",
        {
            "0": "no price test",
            "1": "restriction in effect, intra-day",
            "2": "restriction remains in effect",
        },
    ),
)
MARKET_PARTICIPANT_POSITION = _message(
    "L",
    "Market Participant Position",
    26,
    alpha("Mpid", 11, 4, "Market participant."),
    alpha("Stock", 15, 8, "Symbol."),
    alpha("Primary Market Maker", 23, 1, "Whether it is a primary market maker."),
    alpha("Market Maker Mode", 24, 1, "Quoting mode."),
    alpha("Market Participant State", 25, 1, "Registration status."),
)
MWCB_DECLINE_LEVEL = _message(
    "V",
    "MWCB Decline Level",
    35,
    Field("Level 1", 11, 8, Kind.PRICE8, "Decline that breaches level 1."),
    Field("Level 2", 19, 8, Kind.PRICE8, "Decline that breaches level 2."),
    Field("Level 3", 27, 8, Kind.PRICE8, "Decline that breaches level 3."),
)
MWCB_STATUS = _message(
    "W",
    "MWCB Status",
    12,
    alpha(
        "Breached Level",
        11,
        1,
        "Level that was breached.",
        {"1": "level 1", "2": "level 2", "3": "level 3"},
    ),
)
QUOTING_PERIOD_UPDATE = _message(
    "K",
    "Quoting Period Update",
    28,
    alpha("Stock", 11, 8, "Symbol."),
    uint("Ipo Quotation Release Time", 19, 4, "Seconds since midnight."),
    alpha(
        "Ipo Quotation Release Qualifier",
        23,
        1,
        "Meaning of the time.",
        {"A": "anticipated", "C": "canceled or postponed"},
    ),
    price4("Ipo Price", 24, 4, "Price of the IPO."),
)
LULD_AUCTION_COLLAR = _message(
    "J",
    "LULD Auction Collar",
    35,
    alpha("Stock", 11, 8, "Symbol."),
    price4("Auction Collar Reference Price", 19, 4, "Reference price of the collar."),
    price4("Upper Auction Collar Price", 23, 4, "Upper limit."),
    price4("Lower Auction Collar Price", 27, 4, "Lower limit."),
    uint("Auction Collar Extension", 31, 4, "Number of the extension."),
)
OPERATIONAL_HALT = _message(
    "h",
    "Operational Halt",
    21,
    alpha("Stock", 11, 8, "Symbol."),
    alpha("Market Code", 19, 1, "Market that halted.", {"Q": "Nasdaq", "B": "BX", "X": "PSX"}),
    alpha(
        "Operational Halt Action",
        20,
        1,
        "Halt or resumption.",
        {"H": "halted", "T": "trading resumed"},
    ),
)
ADD_ORDER = _message(
    "A",
    "Add Order",
    36,
    uint("Order Reference Number", 11, 8, "Reference of the order, unique for the day."),
    alpha("Buy Sell Indicator", 19, 1, "Side.", {"B": "buy", "S": "sell"}),
    uint("Shares", 20, 4, "Shares."),
    alpha("Stock", 24, 8, "Symbol."),
    price4("Price", 32, 4, "Limit price."),
)
ADD_ORDER_MPID = _message(
    "F",
    "Add Order with MPID",
    40,
    uint("Order Reference Number", 11, 8, "Reference of the order, unique for the day."),
    alpha("Buy Sell Indicator", 19, 1, "Side.", {"B": "buy", "S": "sell"}),
    uint("Shares", 20, 4, "Shares."),
    alpha("Stock", 24, 8, "Symbol."),
    price4("Price", 32, 4, "Limit price."),
    alpha("Attribution", 36, 4, "Market participant of the order."),
)
ORDER_EXECUTED = _message(
    "E",
    "Order Executed",
    31,
    uint("Order Reference Number", 11, 8, "Reference of the order, unique for the day."),
    uint("Executed Shares", 19, 4, "Shares executed; not cumulative."),
    uint("Match Number", 23, 8, "Number of the match, unique for the day."),
)
ORDER_EXECUTED_WITH_PRICE = _message(
    "C",
    "Order Executed With Price",
    36,
    uint("Order Reference Number", 11, 8, "Reference of the order, unique for the day."),
    uint("Executed Shares", 19, 4, "Shares executed; not cumulative."),
    uint("Match Number", 23, 8, "Number of the match, unique for the day."),
    alpha(
        "Printable",
        31,
        1,
        "Whether it counts in time and sales.",
        {"Y": "printable", "N": "not printable"},
    ),
    price4("Execution Price", 32, 4, "Price of the execution."),
)
ORDER_CANCEL = _message(
    "X",
    "Order Cancel",
    23,
    uint("Order Reference Number", 11, 8, "Reference of the order, unique for the day."),
    uint("Canceled Shares", 19, 4, "Shares canceled; not cumulative."),
)
ORDER_DELETE = _message(
    "D",
    "Order Delete",
    19,
    uint("Order Reference Number", 11, 8, "Reference of the order, unique for the day."),
)
ORDER_REPLACE = _message(
    "U",
    "Order Replace",
    35,
    uint("Original Order Reference Number", 11, 8, "Order that is replaced and leaves the book."),
    uint("New Order Reference Number", 19, 8, "Order that takes its place."),
    uint("Shares", 27, 4, "Shares of the new order."),
    price4("Price", 31, 4, "Limit price."),
)
TRADE = _message(
    "P",
    "Trade",
    44,
    uint("Order Reference Number", 11, 8, "Always 0 since 2010-12-06."),
    alpha("Buy Sell Indicator", 19, 1, "Always B since 2014-07-14.", {"B": "buy", "S": "sell"}),
    uint("Shares", 20, 4, "Shares."),
    alpha("Stock", 24, 8, "Symbol."),
    price4("Price", 32, 4, "Price of the trade."),
    uint("Match Number", 36, 8, "Number of the match, unique for the day."),
)
CROSS_TRADE = _message(
    "Q",
    "Cross Trade",
    40,
    uint("Cross Shares", 11, 8, "Shares matched in the cross."),
    alpha("Stock", 19, 8, "Symbol."),
    price4("Cross Price", 27, 4, "Price of the cross."),
    uint("Match Number", 31, 8, "Number of the match, unique for the day."),
    alpha(
        "Cross Type",
        39,
        1,
        "Cross session.",
        {"O": "opening", "C": "closing", "H": "IPO, halted or paused"},
    ),
)
BROKEN_TRADE = _message(
    "B", "Broken Trade", 19, uint("Match Number", 11, 8, "Number of the match, unique for the day.")
)
NOII = _message(
    "I",
    "Net Order Imbalance Indicator",
    50,
    uint("Paired Shares", 11, 8, "Shares that would match at the reference price."),
    uint("Imbalance Shares", 19, 8, "Shares that would not."),
    alpha(
        "Imbalance Direction",
        27,
        1,
        "Side of the imbalance.",
        {"B": "buy", "S": "sell", "N": "none", "O": "insufficient orders", "P": "paused"},
    ),
    alpha("Stock", 28, 8, "Symbol."),
    price4("Far Price", 36, 4, "Hypothetical clearing price of cross orders alone."),
    price4("Near Price", 40, 4, "Hypothetical clearing price of all orders."),
    price4("Current Reference Price", 44, 4, "Price the indicator is computed at."),
    alpha(
        "Cross Type",
        48,
        1,
        "Cross session.",
        {
            "O": "opening",
            "C": "closing",
            "H": "IPO, halted or paused",
            "A": "extended trading close",
        },
    ),
    alpha("Price Variation Indicator", 49, 1, "Deviation of the near price from the reference."),
)
RPII = _message(
    "N",
    "Retail Price Improvement Indicator",
    20,
    alpha("Stock", 11, 8, "Symbol."),
    alpha(
        "Interest Flag",
        19,
        1,
        "Side of the retail interest.",
        {"B": "buy", "S": "sell", "A": "both", "N": "none"},
    ),
)
DIRECT_LISTING = _message(
    "O",
    "Direct Listing with Capital Raise",
    48,
    alpha("Stock", 11, 8, "Symbol."),
    alpha("Open Eligibility Status", 19, 1, "Whether the security may open."),
    price4("Minimum Allowable Price", 20, 4, "20 % below the registration range."),
    price4("Maximum Allowable Price", 24, 4, "80 % above the registration range."),
    price4("Near Execution Price", 28, 4, "Price at which it would open now."),
    uint("Near Execution Time", 32, 8, "Time of that price."),
    price4("Lower Price Range Collar", 40, 4, "Lower limit."),
    price4("Upper Price Range Collar", 44, 4, "Upper limit."),
)

MESSAGES = Family(
    "ITCH 5.0",
    (
        SYSTEM_EVENT,
        STOCK_DIRECTORY,
        STOCK_TRADING_ACTION,
        REG_SHO_RESTRICTION,
        MARKET_PARTICIPANT_POSITION,
        MWCB_DECLINE_LEVEL,
        MWCB_STATUS,
        QUOTING_PERIOD_UPDATE,
        LULD_AUCTION_COLLAR,
        OPERATIONAL_HALT,
        ADD_ORDER,
        ADD_ORDER_MPID,
        ORDER_EXECUTED,
        ORDER_EXECUTED_WITH_PRICE,
        ORDER_CANCEL,
        ORDER_DELETE,
        ORDER_REPLACE,
        TRADE,
        CROSS_TRADE,
        BROKEN_TRADE,
        NOII,
        RPII,
        DIRECT_LISTING,
    ),
)

SIZE_MAX = max(layout.size for layout in MESSAGES.layouts)
"""Longest message, in bytes."""
