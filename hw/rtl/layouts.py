"""What stages say to each other: the payloads of the streams between them, field by field."""

from amaranth.hdl import unsigned
from amaranth.lib import data, enum

from protocol import itch50

TIME = unsigned(64)
"""Card time in ns."""

MESSAGE_SIZE_MAX = itch50.SIZE_MAX
"""Longest ITCH message, in bytes."""


def beat(width: int) -> data.StructLayout:
    """Bytes of a frame or datagram, ``width`` lanes a beat, the earliest byte in lane 0.

    Lanes ``start`` to ``start + count - 1`` hold bytes; ``start`` may differ from 0 in the first
    beat only, and lanes above the last byte are without meaning. ``bad`` counts in the last beat
    alone: what was sent before is not to be trusted.
    """
    return data.StructLayout(
        {
            "data": unsigned(8 * width),
            "start": range(width),
            "count": range(width + 1),
            "first": 1,
            "last": 1,
            "bad": 1,
        }
    )


PACKET = data.StructLayout({"sequence": unsigned(64), "message_count": unsigned(16)})
"""A MoldUDP64 header as numbers: what goes with the first beat of a packet's message blocks."""


class Truncation(enum.Enum, shape=2):
    """Why a packet holds fewer messages than its header claims."""

    NONE = 0
    NO_LENGTH = 1
    """The packet ends where a message block should begin, or within its length field."""
    MESSAGE_CUT = 2
    """The last block claims more bytes than the packet holds."""


PACKET_END = data.StructLayout({"bad": 1, "truncation": Truncation})
"""The end of a packet: whether its bytes are not to be trusted, and whether messages are missing.

``bad`` is that of the last beat. It speaks of messages that have already been passed on.
"""

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


class OperationKind(enum.Enum, shape=4):
    """What an ITCH message asks of the book, or tells beside it."""

    NONE = 0
    """A message that changes nothing the card keeps."""
    ADD = 1
    EXECUTE = 2
    EXECUTE_WITH_PRICE = 3
    CANCEL = 4
    DELETE = 5
    REPLACE = 6
    TRADE = 7
    CROSS = 8
    SYSTEM = 9
    DIRECTORY = 10
    TRADING_ACTION = 11
    OPERATIONAL_HALT = 12
    REG_SHO = 13
    UNKNOWN = 14
    """No message of ITCH 5.0, or one of another length than the published one."""


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
        "ts_first": TIME,
        "ts_last": TIME,
    }
)
"""A message as the book and the ring writer want it; fields that it does not have are zero.

``stock`` has the first character in bits 7:0. ``code`` is the event code, trading state, halt
action or Reg SHO action. ``shares`` of a cross stays at its largest value where the message's 64
bits do not fit. ``bad_side`` is set when a side is neither buy nor sell.
"""
