"""SoupBinTCP 3.00, 4.00 and 4.10: framing and sessions over TCP.

The layouts are the same, except that 4.10 adds one field behind the login.
"""

from protocol.layout import Family, Field, Kind, Layout, alpha, uint

CLAUSE = "SoupBinTCP 4.00"

LENGTH_MAX = 0xFFFF
"""Largest value of the length field, which counts the type byte and the payload."""
HEARTBEAT_INTERVAL_NS = 1_000_000_000
"""A side that has sent nothing for this long sends a heartbeat."""
SILENCE_MAX_NS = 15_000_000_000
"""A link that was silent for this long is dead."""


def _packet(code: str, title: str, *fields: Field) -> Layout:
    size = fields[-1].end if fields else 3
    head = (
        uint("Packet Length", 0, 2, "Bytes of type and payload.", default=size - 2),
        alpha("Packet Type", 2, 1, f"`{code}`", default=code),
    )
    return Layout(title, CLAUSE, size, head + fields, code=ord(code))


def _left(title: str, offset: int, length: int, meaning: str) -> Field:
    return Field(title, offset, length, Kind.ALPHA_LEFT, meaning)


def _digits(title: str, offset: int, length: int, meaning: str) -> Field:
    return Field(title, offset, length, Kind.DIGITS, meaning)


DEBUG = _packet("+", "Debug")
LOGIN_ACCEPTED = _packet(
    "A",
    "Login Accepted",
    _left("Session", 3, 10, "Session that the client is logged into."),
    _digits("Sequence Number", 13, 20, "Number of the next Sequenced Data packet."),
)
LOGIN_REJECTED = _packet(
    "J",
    "Login Rejected",
    alpha(
        "Reject Reason Code", 3, 1, "Why.", {"A": "not authorized", "S": "session not available"}
    ),
)
SEQUENCED_DATA = _packet("S", "Sequenced Data")
UNSEQUENCED_DATA = _packet("U", "Unsequenced Data")
SERVER_HEARTBEAT = _packet("H", "Server Heartbeat")
END_OF_SESSION = _packet("Z", "End of Session")
LOGIN_REQUEST = _packet(
    "L",
    "Login Request",
    alpha("Username", 3, 6, "Case-insensitive."),
    alpha("Password", 9, 10, "Case-insensitive."),
    _left("Requested Session", 19, 10, "Blank: the current session."),
    _digits("Requested Sequence Number", 29, 20, "0: from the most recent message on."),
)
HEARTBEAT_TIMEOUT = Layout(
    "Heartbeat Timeout",
    "SoupBinTCP 4.10",
    5,
    (_digits("Heartbeat Timeout", 0, 5, "Behind a Login Request: silence that ends it, in ms."),),
)
CLIENT_HEARTBEAT = _packet("R", "Client Heartbeat")
LOGOUT_REQUEST = _packet("O", "Logout Request")

PACKETS = Family(
    "SoupBinTCP 4.00",
    (
        DEBUG,
        LOGIN_ACCEPTED,
        LOGIN_REJECTED,
        SEQUENCED_DATA,
        UNSEQUENCED_DATA,
        SERVER_HEARTBEAT,
        END_OF_SESSION,
        LOGIN_REQUEST,
        CLIENT_HEARTBEAT,
        LOGOUT_REQUEST,
    ),
)

WITH_PAYLOAD = frozenset({DEBUG.code, SEQUENCED_DATA.code, UNSEQUENCED_DATA.code})
"""Types whose packets carry a payload of any length behind the layout."""


def wrap(layout: Layout, payload: bytes) -> bytes:
    """Return a packet of one of the types that carry a payload."""
    return layout.pack(packet_length=len(payload) + 1) + payload
