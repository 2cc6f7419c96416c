"""Ring records: 64 bytes each, the only way between card and host.

A record's last word is its sequence number, written after everything else: the reader polls it and
takes the record when it is the number it waits for. Numbers begin with 1 and never repeat, so an
empty slot (zero) and a slot of an earlier round can not be mistaken for a new record. All integers
are little-endian; prices are 1e-4 USD, times ns.

The type tells the ring: 0x1. market, 0x2. execution (both card to host), 0x3. command (host to
card).
"""

from enum import IntEnum, IntFlag, unique

from protocol.layout import Family, Field, Kind, Layout, uint

RECORD_SIZE = 64
CLAUSE = "tickwire ring"


@unique
class RecordType(IntEnum):
    """Type byte of every record, unique over all rings."""

    BBO = 0x11
    TRADE = 0x12
    STATUS = 0x13
    GAP = 0x14
    REPAIR = 0x15
    SENT = 0x21
    DENIED = 0x22
    ACCEPTED = 0x23
    REPLACED = 0x24
    CANCELED = 0x25
    EXECUTED = 0x26
    REJECTED = 0x27
    NEW = 0x31
    CANCEL = 0x32
    REPLACE = 0x33
    MASS_CANCEL = 0x34
    LIMITS = 0x35
    HEARTBEAT = 0x36
    LEVEL_LIMITS = 0x37
    BOOK_CLEAR = 0x38
    BOOK_ADD = 0x39
    BOOK_DELETE = 0x3A
    BOOK_LIVE = 0x3B


class BboFlag(IntFlag):
    """Flags of a BBO record: the symbol's whole condition, so that the newest record is enough."""

    STALE = 1
    """The book is not known to be exact; ``stale_reason`` says why."""


class RepairFlag(IntFlag):
    """Flags of a REPAIR record."""

    LIVE = 1
    """The book is exact, and the symbol's messages are taken again."""


class LimitsFlag(IntFlag):
    """Flags of a LIMITS record."""

    RESTRICTED = 1
    """The symbol is on the restricted list."""


class LevelLimitsFlag(IntFlag):
    """Flags of a LEVEL_LIMITS record."""

    KILLED = 1
    """The kill switch of the desk or trader is on. That of the firm is the register KILL."""


class MassCancelFlag(IntFlag):
    """Flags of a MASS_CANCEL record."""

    ALL_SYMBOLS = 1
    """``symbol_index`` means nothing: every order is canceled."""


ALL_MARKET = 0xFFFF
"""``symbol_index`` of a record that concerns no one symbol."""


def _record(record_type: RecordType, title: str, clause: str, *fields: Field) -> Layout:
    """Declare a record: common head, own fields from 16 to 55, sequence number at 56."""
    head = (
        uint("Record Type", 0, 1, f"`0x{record_type:02x}`", default=int(record_type)),
        uint("Flags", 1, 1, "See the flags of this record.", default=0),
        uint("Symbol Index", 2, 2, "Dense index of the symbol; 0xffff for none.", default=0),
        fields[0] if fields and fields[0].offset == 4 else _reserved(4, 8),
        _made_at(record_type),
    )
    own = tuple(item for item in fields if item.offset >= 16)
    end = own[-1].end if own else 16
    padding = (_reserved(end, 56),) if end < 56 else ()
    tail = (uint("Sequence", 56, 8, "Number of the record in its ring, from 1.", default=0),)
    return Layout(title, clause, RECORD_SIZE, head + own + padding + tail, "little", record_type)


def _made_at(record_type: RecordType) -> Field:
    if record_type >> 4 == 3:
        return uint("Ts Host Ns", 8, 8, "Host time: when the host made the record.", default=0)
    return uint("Ts Card Ns", 8, 8, "Card time: when the card made the record.", default=0)


def _reserved(start: int, end: int) -> Field:
    size = end - start
    return Field(f"Reserved {start}", start, size, Kind.BYTES, "Zero.", default=bytes(size))


def _cl_ord_id(offset: int = 4, meaning: str = "Our order number (FIX 11).") -> Field:
    return uint("Cl Ord Id", offset, 4, meaning)


BBO = _record(
    RecordType.BBO,
    "BBO Record",
    CLAUSE,
    uint("Skipped", 4, 4, "Changes of this symbol conflated into this one.", default=0),
    uint("Ts Feed Ns", 16, 8, "Time in the message that caused it."),
    uint("Feed Sequence", 24, 8, "MoldUDP64 sequence number of that message."),
    Field("Bid Price", 32, 4, Kind.PRICE4, "Best bid; 0 for an empty side."),
    Field("Ask Price", 36, 4, Kind.PRICE4, "Best ask; 0 for an empty side."),
    uint("Bid Qty", 40, 4, "Shares at the best bid."),
    uint("Ask Qty", 44, 4, "Shares at the best ask."),
    uint("Bid Orders", 48, 2, "Orders at the best bid."),
    uint("Ask Orders", 50, 2, "Orders at the best ask."),
    uint("Stale Reason", 52, 1, "StaleReason, 0 when the book is exact.", default=0),
    uint("Trading State", 53, 1, "ITCH trading state: `H`, `P`, `Q` or `T`; 0 unknown.", default=0),
)
TRADE = _record(
    RecordType.TRADE,
    "Trade Record",
    CLAUSE,
    uint("Last Qty", 4, 4, "Shares traded (FIX 32)."),
    uint("Ts Feed Ns", 16, 8, "Time in the message."),
    uint("Feed Sequence", 24, 8, "MoldUDP64 sequence number of the message."),
    Field("Last Price", 32, 4, Kind.PRICE4, "Price (FIX 31)."),
    uint("Side", 36, 1, "Side of the resting order: `B` or `S`; 0 in a cross or hidden trade."),
    uint("Match Type", 37, 1, "ITCH message type: `E`, `C`, `P` or `Q`."),
    _reserved(38, 40),
    uint("Match Number", 40, 8, "ITCH match number."),
)
STATUS = _record(
    RecordType.STATUS,
    "Status Record",
    CLAUSE,
    uint("Ts Feed Ns", 16, 8, "Time in the message."),
    uint("Feed Sequence", 24, 8, "MoldUDP64 sequence number of the message."),
    uint("Message Type", 32, 1, "ITCH message type: `S`, `H`, `h` or `Y`."),
    uint("Status", 33, 1, "Its event code, trading state, halt action or Reg SHO action."),
)
GAP = _record(
    RecordType.GAP,
    "Gap Record",
    CLAUSE,
    uint("First Sequence", 16, 8, "First message that is lost."),
    uint("Message Count", 24, 8, "How many are lost."),
)
REPAIR = _record(
    RecordType.REPAIR,
    "Repair Record",
    CLAUSE,
    uint("From Sequence", 16, 8, "Lowest number that BOOK_LIVE can name for this symbol."),
    uint("Next Sequence", 24, 8, "Highest one: that of the message which comes next."),
    uint("Stale Reason", 32, 1, "Why it is not live; GAP when the number named did not fit."),
)
MARKET = Family("market ring", (BBO, TRADE, STATUS, GAP, REPAIR))

SENT = _record(
    RecordType.SENT,
    "Sent Record",
    CLAUSE,
    _cl_ord_id(),
    uint("Command Sequence", 16, 8, "Command that asked for it."),
)
DENIED = _record(
    RecordType.DENIED,
    "Denied Record",
    CLAUSE,
    _cl_ord_id(),
    uint("Command Sequence", 16, 8, "Command that asked for it."),
    uint("Reason", 24, 1, "DenyReason."),
    uint("Command Type", 25, 1, "Record type of the command."),
)
ACCEPTED = _record(
    RecordType.ACCEPTED,
    "Accepted Record",
    CLAUSE,
    _cl_ord_id(),
    uint("Ts Venue Ns", 16, 8, "Venue time."),
    uint("Venue Order Id", 24, 8, "The venue's reference (FIX 37)."),
    Field("Price", 32, 4, Kind.PRICE4, "Accepted price."),
    uint("Order Qty", 36, 4, "Accepted shares (FIX 38)."),
    uint("Order State", 40, 1, "`L` live, `D` dead."),
)
REPLACED = _record(
    RecordType.REPLACED,
    "Replaced Record",
    CLAUSE,
    _cl_ord_id(meaning="Number of the replacement."),
    uint("Ts Venue Ns", 16, 8, "Venue time."),
    uint("Venue Order Id", 24, 8, "The venue's reference of the replacement."),
    Field("Price", 32, 4, Kind.PRICE4, "Accepted price."),
    uint("Leaves Qty", 36, 4, "Shares open (FIX 151)."),
    uint("Order State", 40, 1, "`L` live, `D` dead."),
    _reserved(41, 44),
    uint("Orig Cl Ord Id", 44, 4, "Order that was replaced (FIX 41)."),
)
CANCELED = _record(
    RecordType.CANCELED,
    "Canceled Record",
    CLAUSE,
    _cl_ord_id(),
    uint("Ts Venue Ns", 16, 8, "Venue time."),
    uint("Canceled Qty", 24, 4, "Shares taken off the order; not cumulative."),
    uint("Reason", 28, 1, "OUCH cancel reason."),
)
EXECUTED = _record(
    RecordType.EXECUTED,
    "Executed Record",
    CLAUSE,
    _cl_ord_id(),
    uint("Ts Venue Ns", 16, 8, "Venue time."),
    uint("Match Number", 24, 8, "The venue's match number (FIX 17)."),
    Field("Last Price", 32, 4, Kind.PRICE4, "Price (FIX 31)."),
    uint("Last Qty", 36, 4, "Shares executed; not cumulative (FIX 32)."),
    uint("Liquidity Flag", 40, 1, "OUCH liquidity code."),
)
REJECTED = _record(
    RecordType.REJECTED,
    "Rejected Record",
    CLAUSE,
    _cl_ord_id(),
    uint("Ts Venue Ns", 16, 8, "Venue time."),
    uint("Reason", 24, 2, "OUCH reject reason."),
)
EXECUTION = Family(
    "execution ring", (SENT, DENIED, ACCEPTED, REPLACED, CANCELED, EXECUTED, REJECTED)
)

_SIDE = uint("Side", 16, 1, "OUCH side.")
_TIME_IN_FORCE = uint("Time In Force", 17, 1, "OUCH time in force.")
_TRADER = uint("Trader Index", 18, 2, "Whose limits it is measured by.", default=0)
_ORDER_QTY = uint("Order Qty", 20, 4, "Shares (FIX 38); in a replace those of the whole chain.")
_PRICE = Field("Price", 24, 4, Kind.PRICE4, "Limit price (FIX 44).")
_CAUSE = uint(
    "Cause Sequence",
    32,
    8,
    "MoldUDP64 sequence number of the message that caused it; 0 for none.",
    default=0,
)

NEW = _record(
    RecordType.NEW,
    "New Command",
    CLAUSE,
    _cl_ord_id(),
    _SIDE,
    _TIME_IN_FORCE,
    _TRADER,
    _ORDER_QTY,
    _PRICE,
    _reserved(28, 32),
    _CAUSE,
)
REPLACE = _record(
    RecordType.REPLACE,
    "Replace Command",
    CLAUSE,
    _cl_ord_id(meaning="Number of the replacement."),
    _SIDE,
    _TIME_IN_FORCE,
    _TRADER,
    _ORDER_QTY,
    _PRICE,
    uint("Orig Cl Ord Id", 28, 4, "Order to be replaced (FIX 41)."),
    _CAUSE,
)
CANCEL = _record(
    RecordType.CANCEL,
    "Cancel Command",
    CLAUSE,
    _cl_ord_id(),
    uint("Order Qty", 16, 4, "Shares that may execute in total after the cancel; 0 cancels all."),
)
MASS_CANCEL = _record(RecordType.MASS_CANCEL, "Mass Cancel Command", CLAUSE, _cl_ord_id())
LIMITS = _record(
    RecordType.LIMITS,
    "Limits Command",
    CLAUSE,
    uint("Qty Max", 4, 4, "Most shares in one order.", default=0),
    uint("Notional Max", 16, 8, "Most value of one order, 1e-4 USD.", default=0),
    uint("Position Max", 24, 4, "Most shares long or short, open orders counted.", default=0),
    uint("Price Band Bp", 28, 4, "Furthest from the mid, in basis points of it.", default=0),
    uint("Locate Qty", 32, 4, "Shares located for short sales.", default=0),
    uint("Tick Size", 36, 1, "100, 50 or 1, in 1e-4 USD; 1 below 1 USD.", default=0),
    uint("Phases", 37, 1, "Bit n: orders may be sent in MarketPhase n.", default=0),
    _reserved(38, 40),
    uint("Duplicate Window Ns", 40, 8, "Least time between equal orders.", default=0),
)
LEVEL_LIMITS = _record(
    RecordType.LEVEL_LIMITS,
    "Level Limits Command",
    CLAUSE,
    uint("Level Index", 4, 4, "Index of the desk or trader; 0 for the firm.", default=0),
    uint("Gross Max", 16, 8, "Most bought, sold and open, 1e-4 USD.", default=0),
    uint("Net Max", 24, 8, "Most bought less sold either way, 1e-4 USD.", default=0),
    uint("Rate Burst Ns", 32, 8, "Messages at once, times the interval.", default=0),
    uint("Rate Interval Ns", 40, 4, "Time that earns one message.", default=0),
    uint("Desk Index", 44, 2, "Desk of the trader.", default=0),
    uint("Level", 46, 1, "`F` firm, `D` desk, `T` trader."),
)
HEARTBEAT = _record(RecordType.HEARTBEAT, "Heartbeat Command", CLAUSE)

_REFERENCE = uint("Order Reference", 32, 8, "ITCH order reference number.")
BOOK_CLEAR = _record(
    RecordType.BOOK_CLEAR,
    "Book Clear Command",
    CLAUSE,
    uint("Stock Locate", 4, 4, "The symbol's of the day; 0 leaves what the card knows.", default=0),
)
BOOK_ADD = _record(
    RecordType.BOOK_ADD,
    "Book Add Command",
    CLAUSE,
    uint("Side", 16, 1, "Side of the order: `B` or `S`."),
    _reserved(17, 20),
    uint("Order Qty", 20, 4, "Shares that are left of it."),
    Field("Price", 24, 4, Kind.PRICE4, "Its price."),
    _reserved(28, 32),
    _REFERENCE,
)
BOOK_DELETE = _record(
    RecordType.BOOK_DELETE, "Book Delete Command", CLAUSE, _reserved(16, 32), _REFERENCE
)
BOOK_LIVE = _record(
    RecordType.BOOK_LIVE,
    "Book Live Command",
    CLAUSE,
    uint("Trading State", 16, 1, "ITCH trading state; 0 leaves what the card knows.", default=0),
    uint("Event Code", 17, 1, "Newest ITCH system event; 0 for none.", default=0),
    _reserved(18, 32),
    uint("Next Sequence", 32, 8, "First feed message that is not yet in the book."),
)
COMMAND = Family(
    "command ring",
    (
        *(NEW, CANCEL, REPLACE, MASS_CANCEL, LIMITS, HEARTBEAT, LEVEL_LIMITS),
        *(BOOK_CLEAR, BOOK_ADD, BOOK_DELETE, BOOK_LIVE),
    ),
)

ORDER_COMMANDS = frozenset({NEW.code, CANCEL.code, REPLACE.code, MASS_CANCEL.code})
"""Types of the commands that become a message to the venue; these count in the message rate."""

BOOK_COMMANDS = frozenset(layout.code for layout in (BOOK_CLEAR, BOOK_ADD, BOOK_DELETE, BOOK_LIVE))
"""Types of the commands that repair a book."""

RECORDS = Family("ring", MARKET.layouts + EXECUTION.layouts + COMMAND.layouts)
"""Every record, whichever its ring."""

CONTROL = Layout(
    "Ring Control",
    CLAUSE,
    RECORD_SIZE,
    (
        uint("Tail", 0, 8, "Records that the consumer has released; written by it alone."),
        Field("Reserved", 8, 56, Kind.BYTES, "Zero: keeps the line to one writer."),
    ),
    "little",
)
"""What stands before a ring's first slot in host memory."""
