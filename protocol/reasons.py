"""Why something did not happen: frames dropped, symbols marked stale, orders denied.

A number is the code on the ring and in the register map, so it never changes its meaning; a new
reason takes a new number. Where several reasons hold at once the lowest code wins, but for a frame
that the MAC has refused.
"""

from enum import IntEnum, unique


@unique
class DropReason(IntEnum):
    """Why a frame, datagram or message was not used. Each has a counter of its own."""

    FRAME_TOO_SHORT = 0
    """The frame ends before the headers it announces."""
    NOT_IPV4 = 1
    """The EtherType, after at most one VLAN tag, is not IPv4."""
    IP_HEADER = 2
    """IPv4 version, header length, total length or header checksum is wrong."""
    IP_FRAGMENT = 3
    """The packet is a fragment. [RFC 791: 3.2]"""
    NOT_UDP = 4
    """The IPv4 protocol is not UDP."""
    UDP_LENGTH = 5
    """The UDP length is below 8 or larger than the IPv4 payload. [RFC 768]"""
    UDP_CHECKSUM = 6
    """The UDP checksum is wrong; a checksum of zero means that none was made. [RFC 768]"""
    NOT_SUBSCRIBED = 7
    """No filter entry has this destination address and port."""
    MOLD_HEADER = 8
    """The datagram is shorter than a MoldUDP64 header of 20 bytes."""
    MOLD_SESSION = 9
    """The MoldUDP64 session is not the one in use."""
    MOLD_TRUNCATED = 10
    """A message block claims more bytes than the packet holds."""
    DUPLICATE = 11
    """The other line has already delivered every message of the packet."""
    TOO_LATE = 12
    """The packet's messages were already declared lost."""
    UNKNOWN_MESSAGE = 13
    """The message type is not one of ITCH 5.0, or its length is not the published one."""
    UNKNOWN_SYMBOL = 14
    """The stock locate belongs to no configured symbol."""
    FRAME_CHECK = 15
    """The MAC refused the frame: check sequence, size, or an error from the PHY. Nothing else is
    looked at then. [IEEE 802.3: 3.2.9, 4.2.4.1]"""
    BUFFER_FULL = 16
    """There was no room to hold the packet while the other line was waited for."""
    UNDER_REPAIR = 17
    """The message's symbol is being repaired: the host puts in what the message did."""


@unique
class StaleReason(IntEnum):
    """Why a symbol's book is no longer known to be exact."""

    NONE = 0
    GAP = 1
    """Messages were lost: any of them may have been this symbol's."""
    UNKNOWN_REFERENCE = 2
    """A message names an order that was never added."""
    DUPLICATE_REFERENCE = 3
    """An order was added under a reference that is already on the book."""
    OVERFILL = 4
    """More shares were executed or canceled than the order had left."""
    LOCATE_MISMATCH = 5
    """The message's stock locate is not the one the order was added under."""
    INVALID_ORDER = 6
    """An order without shares, or with a side that is neither buy nor sell."""
    LEVEL_OVERFLOW = 7
    """A best level's quantity or order count does not fit the ring record."""
    ORDER_MAP_FULL = 8
    """There was no room to remember another order."""
    FRAME_BAD = 9
    """A message was acted on before its frame turned out to be bad."""
    UNDER_REPAIR = 10
    """The book was emptied, and its orders are being put in anew."""


@unique
class DenyReason(IntEnum):
    """Why our own risk check refused an order. Denied is ours, rejected is the venue's."""

    NONE = 0
    KILL_SWITCH = 1
    """The kill switch of the trader, the desk or the firm is on, or the host's heartbeat was lost.
    """
    SESSION_NOT_READY = 2
    """There is no order entry session, or it is closed."""
    UNKNOWN_SYMBOL = 3
    """The symbol index is not configured, or no limits were written for it."""
    SYMBOL_HALTED = 4
    """The symbol's trading state does not allow orders."""
    BOOK_STALE = 5
    """The symbol's book is not known to be exact."""
    QUANTITY_ZERO = 6
    """The order can execute no share."""
    QUANTITY_EXCEEDS_MAXIMUM = 7
    """One order may not have as many shares."""
    NOTIONAL_EXCEEDS_MAXIMUM = 8
    """One order may not be worth as much at its limit price."""
    PRICE_ZERO = 9
    """The order has no limit price."""
    PRICE_OUTSIDE_BAND = 10
    """The price is further from the reference price than the band allows, or there is none."""
    POSITION_EXCEEDS_LIMIT = 11
    """Position and all open orders of that side together pass the position limit."""
    MESSAGE_RATE_EXCEEDED = 12
    """The trader, the desk or the firm sends more messages than its token bucket holds."""
    UNKNOWN_ORDER = 13
    """A cancel or replace names an order that is not open."""
    NO_RING_SLOT = 14
    """No slot for each of the order's answers could be reserved."""
    PRICE_OFF_TICK = 15
    """The price is no multiple of the symbol's tick."""
    SYMBOL_RESTRICTED = 16
    """The symbol is on the restricted list."""
    PHASE_NOT_ALLOWED = 17
    """The market is in a phase in which no order of this symbol may be sent."""
    SHORT_SALE_WITHOUT_LOCATE = 18
    """More shares could be sold than are held, and not as many were located."""
    SELF_TRADE = 19
    """The order reaches the price of an order of our own on the other side."""
    DUPLICATE_ORDER = 20
    """The trader's newest order on that side of the symbol was the same, a moment ago."""
    OPEN_ORDERS_EXCEED_MAXIMUM = 21
    """There are as many open orders on that side of the symbol as can be counted."""
    TRADER_GROSS_EXCEEDS_LIMIT = 22
    """What the trader has bought and sold today, and all open orders, pass the gross limit."""
    DESK_GROSS_EXCEEDS_LIMIT = 23
    FIRM_GROSS_EXCEEDS_LIMIT = 24
    TRADER_NET_EXCEEDS_LIMIT = 25
    """What the trader has bought less sold, and the open orders of that side, pass the net limit.
    """
    DESK_NET_EXCEEDS_LIMIT = 26
    FIRM_NET_EXCEEDS_LIMIT = 27
