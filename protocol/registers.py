"""The register map: what the control plane reads and writes on a card.

Registers are 64 bits wide at multiples of 8. Nothing on the hot path reads one.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum, unique
from itertools import combinations

from protocol.layout import LayoutError, snake
from protocol.reasons import DenyReason, DropReason

IDENTITY = int.from_bytes(b"TICKWIRE", "little")
"""Value of the first register of every card."""

VERSION_MAJOR = 1
"""A host refuses a card with another one."""
VERSION_MINOR = 4

WIDTH_BITS = 64
STRIDE = 8


@unique
class Access(Enum):
    """What the host may do with a register."""

    R = "r"
    W = "w"
    RW = "rw"


@unique
class RingName(IntEnum):
    """The rings, as index of a doorbell."""

    MARKET = 0
    EXECUTION = 1
    COMMAND = 2


@unique
class Capability(IntEnum):
    """What a card may have beyond the rings and the feed; its bit in CAPABILITIES."""

    ORDER_ENTRY = 0
    """Commands become orders."""
    HOLD = 1
    """HOLD stops counters from going on."""
    LATENCY = 2
    """There are latency histograms."""
    DOORBELL = 3
    """Doorbells are heard; a card without polls often enough."""
    BOOK_REPAIR = 4
    """Books are emptied and filled by commands."""


@unique
class LatencyStage(IntEnum):
    """What a latency histogram measures. Card time is taken when a cycle begins."""

    PARSE = 0
    """From a message's last byte at the MAC to its operation."""
    BOOK = 1
    """From a message's last byte at the MAC to its event: tick_to_event."""
    RING = 2
    """From a market record's time to its last word on the memory bus."""
    ORDER = 3
    """From a command that was taken to the first byte of its frame, or to its denial."""
    TRADE = 4
    """From the last byte, at the MAC, of the message that caused an order, to the first byte of its
    frame: tick_to_trade. The host's part is in it."""
    WIRE = 5
    """From the first byte, at the pins, of the frame with that message to the first byte of the
    order's frame at the pins: wire_to_wire."""


@unique
class QueueName(IntEnum):
    """The queues of the card that have a mark of the most they ever held."""

    MARKET = 0
    """Market records before their ring."""
    EXECUTION = 1
    """Execution records before their ring."""
    COMMAND = 2
    """Commands after their ring."""
    OPERATION = 3
    """Operations that wait for the events of those before them."""


LATENCY_BUCKETS = 32
"""Bucket 0 counts times of 0 ns, bucket n those from 2^(n-1) to 2^n - 1; the last all above."""


@dataclass(frozen=True, slots=True)
class Register:
    """One register, or ``count`` of them at a distance of ``stride`` bytes.

    ``init`` is the value after reset; a register without one takes it from the card's parameters.
    """

    title: str
    offset: int
    access: Access
    meaning: str
    init: int | None = 0
    count: int = 1
    stride: int = STRIDE

    @property
    def name(self) -> str:
        return snake(self.title)

    def address(self, index: int = 0) -> int:
        """Return the byte address of element ``index``. Raises ``IndexError`` outside the array."""
        if not 0 <= index < self.count:
            raise IndexError(f"{self.name} has {self.count} elements, not {index + 1}")
        return self.offset + index * self.stride


_R, _RW, _W = Access.R, Access.RW, Access.W

SYMBOLS_MAX = 65_535
"""Symbol slots that the map has room for; a card says how many it has."""

SYMBOL_TABLE_STRIDE = 16

IDENTITY_REGISTER = Register("Identity", 0x000, _R, "`TICKWIRE` in ASCII.", IDENTITY)
VERSION = Register(
    "Version", 0x008, _R, "Major in bits 31:16, minor in 15:0.", VERSION_MAJOR << 16 | VERSION_MINOR
)
SYMBOL_COUNT = Register("Symbol Count", 0x010, _R, "Symbol slots.", None)
ORDER_COUNT = Register("Order Count", 0x018, _R, "Orders that the book can remember.", None)
CLOCK_NS = Register("Clock Ns", 0x020, _R, "Card time.", None)
CONTROL = Register("Control", 0x028, _RW, "Bit 0: the card runs.")
KILL = Register("Kill", 0x030, _RW, "1: no order leaves. Set after reset.", 1)
HEARTBEAT_TIMEOUT_NS = Register(
    "Heartbeat Timeout Ns", 0x038, _RW, "Longest silence of the host; then KILL is set. 0: never."
)

CLOCK_STEP = Register(
    "Clock Step",
    0x040,
    _RW,
    "What a cycle adds to card time, in 2^-32 ns; 0: the clock stands.",
    None,
)
HOLD = Register(
    "Hold",
    0x048,
    _RW,
    "1: counters, marks and histogram sums read as they were when it was written. 0: as they are.",
)
CAPABILITIES = Register("Capabilities", 0x050, _R, "Bit n: the card has Capability n.", None)
DOORBELL = Register(
    "Doorbell",
    0x060,
    _W,
    "By RingName. Any value: the host has moved its end of the ring; the card need not poll.",
    count=len(RingName),
)

MARKET_BASE = Register("Market Base", 0x080, _RW, "Place of the market ring in host memory.")
MARKET_SLOTS = Register("Market Slots", 0x088, _RW, "Its slots, a power of two.")
EXECUTION_BASE = Register("Execution Base", 0x090, _RW, "Place of the execution ring.")
EXECUTION_SLOTS = Register("Execution Slots", 0x098, _RW, "Its slots, a power of two.")
COMMAND_BASE = Register("Command Base", 0x0A0, _RW, "Place of the command ring.")
COMMAND_SLOTS = Register("Command Slots", 0x0A8, _RW, "Its slots, a power of two.")

FEED_SESSION_LOW = Register(
    "Feed Session Low", 0x100, _RW, "Bytes 0 to 7 of the MoldUDP64 session, first in bits 7:0."
)
FEED_SESSION_HIGH = Register(
    "Feed Session High", 0x108, _RW, "Bytes 8 and 9. With all ten zero the first one seen is taken."
)
FEED_SEQUENCE = Register(
    "Feed Sequence", 0x110, _RW, "Next sequence number; written before start. 0: the first seen.", 1
)
FEED_GAP_TIMEOUT_NS = Register(
    "Feed Gap Timeout Ns", 0x118, _RW, "How long a gap may wait for the other line.", 1_000_000
)
FEED_GROUP = Register(
    "Feed Group",
    0x120,
    _RW,
    "Line A, line B: IPv4 destination in bits 47:16, UDP port in 15:0. 0: every datagram.",
    count=2,
)

ORDER_LOCAL_MAC = Register("Order Local Mac", 0x180, _RW, "Our MAC, first byte in bits 47:40.")
ORDER_REMOTE_MAC = Register("Order Remote Mac", 0x188, _RW, "MAC of the next hop.")
ORDER_LOCAL_IP = Register("Order Local Ip", 0x190, _RW, "Our IPv4 address.")
ORDER_REMOTE_IP = Register("Order Remote Ip", 0x198, _RW, "The venue's IPv4 address.")
ORDER_LOCAL_PORT = Register("Order Local Port", 0x1A0, _RW, "Our TCP port.")
ORDER_REMOTE_PORT = Register("Order Remote Port", 0x1A8, _RW, "The venue's TCP port.")
ORDER_SEQUENCE = Register("Order Sequence", 0x1B0, _RW, "Next TCP sequence number to send.")
ORDER_ACKNOWLEDGMENT = Register("Order Acknowledgment", 0x1B8, _RW, "Next TCP byte to receive.")
ORDER_FIRM = Register("Order Firm", 0x1C8, _RW, "Firm, 4 characters, first in bits 7:0.")
ORDER_SESSION = Register(
    "Order Session", 0x1C0, _RW, "1: the connection is logged in and handed to the card."
)

FRAMES_RECEIVED = Register("Frames Received", 0x200, _R, "Frames on each port.", count=2)
MESSAGES_RECEIVED = Register("Messages Received", 0x210, _R, "Feed messages delivered in order.")
MESSAGES_LOST = Register("Messages Lost", 0x218, _R, "Feed messages declared lost.")
BBO_CHANGES = Register("Bbo Changes", 0x220, _R, "Changes of a best bid or offer.")
BBO_CONFLATED = Register("Bbo Conflated", 0x228, _R, "Of these, replaced by a newer one.")
MARKET_SKIPPED = Register("Market Skipped", 0x230, _R, "Other market records without a slot.")
MARKET_HIGH_WATER = Register("Market High Water", 0x238, _R, "Most market slots in use.")
EXECUTION_HIGH_WATER = Register("Execution High Water", 0x240, _R, "Most execution slots in use.")
COMMANDS_RECEIVED = Register("Commands Received", 0x248, _R, "Commands taken from the ring.")
ORDERS_SENT = Register("Orders Sent", 0x250, _R, "Messages sent to the venue.")
ANSWERS_RECEIVED = Register("Answers Received", 0x258, _R, "Messages received from the venue.")
HELD_HIGH_WATER = Register("Held High Water", 0x260, _R, "Most packets held ahead of a gap.")
QUEUE_HIGH_WATER = Register(
    "Queue High Water", 0x280, _R, "Most ever held, by QueueName.", count=len(QueueName)
)
DROPS = Register("Drops", 0x300, _R, "Dropped, by DropReason.", count=len(DropReason))
DENIALS = Register("Denials", 0x400, _R, "Orders denied, by DenyReason.", count=len(DenyReason))
STALE_SYMBOLS = Register("Stale Symbols", 0x4F8, _R, "Symbols whose book is not known to be exact.")

LATENCY_COUNT = Register(
    "Latency Count", 0x800, _R, "Times measured, by LatencyStage.", count=len(LatencyStage)
)
LATENCY_SUM_NS = Register(
    "Latency Sum Ns", 0x840, _R, "Their sum, by LatencyStage.", count=len(LatencyStage)
)
LATENCY_MIN_NS = Register(
    "Latency Min Ns",
    0x880,
    _R,
    "The shortest, by LatencyStage; means nothing while the count is 0.",
    count=len(LatencyStage),
)
LATENCY_MAX_NS = Register(
    "Latency Max Ns", 0x8C0, _R, "The longest, by LatencyStage.", count=len(LatencyStage)
)
LATENCY_BUCKET = Register(
    "Latency Bucket",
    0x1000,
    _R,
    "Times in bucket b of stage s at i = 32 s + b. Not held: they go on counting.",
    count=len(LatencyStage) * LATENCY_BUCKETS,
)

SYMBOL_STOCK = Register(
    "Symbol Stock",
    0x10000,
    _RW,
    "Symbol, 8 characters padded with blanks, first in bits 7:0; 0: slot not used.",
    count=SYMBOLS_MAX,
    stride=SYMBOL_TABLE_STRIDE,
)
SYMBOL_LOCATE = Register(
    "Symbol Locate",
    0x10008,
    _RW,
    "Its stock locate of the day; 0: learnt from the Stock Directory message.",
    count=SYMBOLS_MAX,
    stride=SYMBOL_TABLE_STRIDE,
)


def _collide(a: Register, b: Register) -> bool:
    """Whether two registers share an address; arrays may interleave at one common stride."""
    if a.address(a.count - 1) < b.offset or b.address(b.count - 1) < a.offset:
        return False
    return a.stride != b.stride or (a.offset - b.offset) % a.stride == 0


def _registers() -> tuple[Register, ...]:
    found = sorted(
        (item for item in globals().values() if isinstance(item, Register)),
        key=lambda register: register.offset,
    )
    for register in found:
        if register.offset % STRIDE or register.stride % STRIDE:
            raise LayoutError(f"register {register.name} must be at a multiple of {STRIDE}")
    for a, b in combinations(found, 2):
        if _collide(a, b):
            raise LayoutError(f"registers {a.name} and {b.name} share an address")
    return tuple(found)


REGISTERS = _registers()
"""The whole map, by offset. Overlaps stop the import."""


def find(address: int) -> Register | None:
    """Return the register that a byte address belongs to."""
    for register in REGISTERS:
        index, rest = divmod(address - register.offset, register.stride)
        if rest == 0 and 0 <= index < register.count:
            return register
    return None


BY_NAME = {register.name: register for register in REGISTERS}
