"""GLIMPSE 5.0: a snapshot of the book over SoupBinTCP, in ITCH 5.0 messages and one of its own."""

from protocol.layout import Field, Kind, Layout, alpha

END_OF_SNAPSHOT = Layout(
    "End of Snapshot",
    "GLIMPSE 5.0",
    21,
    (
        alpha("Message Type", 0, 1, "`G`", default="G"),
        Field("Sequence Number", 1, 20, Kind.DIGITS, "First live ITCH message to apply."),
    ),
    code=ord("G"),
)
