"""MoldUDP64 1.00: sequenced messages in UDP datagrams."""

from protocol.layout import Field, Kind, Layout, uint

CLAUSE = "MoldUDP64 1.00"

HEARTBEAT = 0
"""Message count of a packet that only tells the next sequence number."""
END_OF_SESSION = 0xFFFF
"""Message count of the packets that end a session."""

_SESSION = Field("Session", 0, 10, Kind.ALPHA, "Session the packet belongs to.")

HEADER = Layout(
    "Downstream Packet",
    CLAUSE,
    20,
    (
        _SESSION,
        uint("Sequence Number", 10, 8, "Number of the packet's first message."),
        uint("Message Count", 18, 2, "Messages in it; 0 heartbeat, 0xFFFF end of session."),
    ),
)

BLOCK = Layout(
    "Message Block",
    CLAUSE,
    2,
    (uint("Message Length", 0, 2, "Bytes that follow, this field not included; may be 0."),),
)

REQUEST = Layout(
    "Request Packet",
    CLAUSE,
    20,
    (
        _SESSION,
        uint("Sequence Number", 10, 8, "First message requested."),
        uint("Requested Message Count", 18, 2, "Messages requested."),
    ),
)


def packet(session: str, sequence_number: int, messages: list[bytes]) -> bytes:
    """Return a downstream packet; one without messages is a heartbeat."""
    header = HEADER.pack(
        session=session, sequence_number=sequence_number, message_count=len(messages)
    )
    BLOCK.pack(message_length=max(map(len, messages), default=0))  # Refuses what does not fit.
    length = BLOCK.struct.pack
    return header + b"".join([length(len(m)) + m for m in messages])
