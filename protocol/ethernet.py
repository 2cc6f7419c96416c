"""Ethernet II and the 802.1Q tag. [IEEE 802.3: 3.1.1] [IEEE 802.1Q: 9.6]"""

from enum import IntEnum, unique

from protocol.layout import Field, Kind, Layout, Part, uint


@unique
class EtherType(IntEnum):
    """Protocols that the EtherType field names."""

    IPV4 = 0x0800
    VLAN = 0x8100


ETHERNET = Layout(
    "Ethernet II",
    "IEEE 802.3: 3.1.1",
    14,
    (
        Field("Destination", 0, 6, Kind.BYTES, "Destination MAC address."),
        Field("Source", 6, 6, Kind.BYTES, "Source MAC address."),
        uint("Ether Type", 12, 2, "Protocol of what follows."),
    ),
)

VLAN_TAG = Layout(
    "VLAN Tag",
    "IEEE 802.1Q: 9.6",
    4,
    (
        uint(
            "Tag Control Information",
            0,
            2,
            "Priority, drop eligibility and VLAN.",
            parts=(
                Part("Priority", 13, 3, "Priority code point."),
                Part("Drop Eligible", 12, 1, "Drop eligible indicator."),
                Part("Vlan Id", 0, 12, "VLAN identifier."),
            ),
        ),
        uint("Ether Type", 2, 2, "Protocol of what follows the tag."),
    ),
)
"""What stands behind an EtherType of 0x8100."""

FRAME_SIZE_MIN = 60
"""Smallest frame without its FCS, in bytes; shorter ones are padded. [IEEE 802.3: 4.2.3.3]"""
