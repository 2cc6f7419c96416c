"""What stages say to each other: the payloads of the streams between them, field by field."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

from protocol import itch50
from protocol.ring import RECORD_SIZE

TIME = unsigned(64)
"""Card time in ns."""

AGE = unsigned(24)
"""Ns since the first byte behind a frame's delimiter was at the pins: no frame takes longer."""

RECORD = unsigned(8 * RECORD_SIZE)
"""A ring record, its first byte in bits 7:0; :func:`protocol.emit.amaranth_layout.view` gives its
fields. The last word is left zero: the ring writer puts the sequence number there."""

MESSAGE_SIZE_MAX = itch50.SIZE_MAX
"""Longest ITCH message, in bytes."""


def beat(width: int) -> data.StructLayout:
    """Bytes of a frame or datagram, ``width`` lanes a beat, the earliest byte in lane 0.

    Lanes ``start`` to ``start + count - 1`` hold bytes; ``start`` may differ from 0 in the first
    beat only, and lanes above the last byte are without meaning. A first beat of message blocks may
    hold none, with ``start`` of ``width``: they begin in the next one. ``bad`` counts in the last
    beat alone: what was sent before is not to be trusted. Streams of message blocks never set it:
    what becomes of a packet is told after its last beat.
    """
    return data.StructLayout(
        {
            "data": unsigned(8 * width),
            "start": range(width + 1),
            "count": range(width + 1),
            "first": 1,
            "last": 1,
            "bad": 1,
        }
    )


HEADER = data.StructLayout({"session": 80, "sequence": 64, "message_count": 16, "age": AGE})
"""A MoldUDP64 header as numbers, the session with its first byte in bits 7:0, and how old its frame
is at the card time of the packet's first beat of blocks."""

PACKET = data.StructLayout({"sequence": 64, "message_count": 16, "skip": 16, "age": AGE})
"""What goes with the first beat of a packet's message blocks: the number of its first message, how
many there are, how many of them are to be passed over because they were delivered before, and how
old the frame is."""


class Truncation(enum.Enum, shape=2):
    """Why a packet holds fewer messages than its header claims."""

    NONE = 0
    NO_LENGTH = 1
    """The packet ends where a message block should begin, or within its length field."""
    MESSAGE_CUT = 2
    """The last block claims more bytes than the packet holds."""


PACKET_END = data.StructLayout({"truncation": Truncation, "next_sequence": 64})
"""The end of a packet: whether messages are missing, and the number after its last whole one."""


class NoticeKind(enum.Enum, shape=2):
    """What the book must know of the feed beside its messages."""

    CONFIRM = 0
    """The packet of the messages before was good."""
    RETRACT = 1
    """It was not, and its numbers count as not received: what its messages touched is not to be
    trusted."""
    GAP = 2
    """Messages were lost."""


NOTICE = data.StructLayout({"kind": NoticeKind, "sequence": 64, "next_sequence": 64})
"""A notice about the messages from ``sequence`` to before ``next_sequence``."""

MESSAGE = data.StructLayout(
    {
        "data": unsigned(8 * MESSAGE_SIZE_MAX),
        "length": range(MESSAGE_SIZE_MAX + 2),
        "sequence": unsigned(64),
        "ts_first": TIME,
        "ts_last": TIME,
    }
)
"""A whole ITCH message, its type in bits 7:0, with its MoldUDP64 sequence number and the card time
of its first and last byte.

Bytes past ``length`` are without meaning. A ``length`` of ``MESSAGE_SIZE_MAX + 1`` stands for every
longer one: the first bytes are there, and no ITCH message is that long.
"""


class OperationKind(enum.Enum, shape=5):
    """What an ITCH message asks of the book, or tells beside it.

    ``CARRIED_OUT_BIT`` is the bit that is set in what the book carries out; notices have
    ``NOTICE_BIT`` set as well.
    """

    NONE = 0
    """A message that changes nothing the card keeps."""
    TRADE = 1
    CROSS = 2
    SYSTEM = 3
    DIRECTORY = 4
    TRADING_ACTION = 5
    OPERATIONAL_HALT = 6
    REG_SHO = 7
    UNKNOWN = 8
    """No message of ITCH 5.0, or one of another length than the published one."""
    REPAIR = 9
    """Not of the feed: a step of a repair that is answered."""
    ADD = 16
    EXECUTE = 17
    EXECUTE_WITH_PRICE = 18
    CANCEL = 19
    DELETE = 20
    REPLACE = 21
    CONFIRM = 24
    RETRACT = 25
    GAP = 26
    """No messages but notices: see :class:`NoticeKind`."""


CARRIED_OUT_BIT, NOTICE_BIT = 4, 3
"""Bits of an :class:`OperationKind`."""

HINT = data.StructLayout({"stock_locate": 16, "order_reference": 64, "new_reference": 64})
"""What every message about an order has in one place, known one cycle before its operation: the
locate, the order it names and, of a replace alone, the order that takes its place. Without meaning
for other messages. [ITCH 5.0: 1.3, 1.4]"""

OPERATION = data.StructLayout(
    {
        "kind": OperationKind,
        "stock_locate": 16,
        "timestamp": 48,
        "sequence": 64,
        "order_reference": 64,
        "new_reference": 64,
        "is_buy": 1,
        "bad_side": 1,
        "printable": 1,
        "shares": 32,
        "price": 32,
        "match_number": 64,
        "stock": 64,
        "code": 8,
        "market_code": 8,
        "ts_first": TIME,
        "ts_last": TIME,
    }
)
"""A message as the book and the ring writer want it; fields that it does not have are zero.

``stock`` has the first character in bits 7:0. ``code`` is the event code, trading state, halt
action or Reg SHO action, ``market_code`` the market of a halt action. ``shares`` of a cross stays
at its largest value where the message's 64 bits do not fit. ``bad_side`` is set when a side is
neither buy nor sell. A notice has its numbers in ``sequence`` and ``new_reference``, the one after
the last.
"""
