"""IPv4, UDP and TCP headers and their checksum. [RFC 791] [RFC 768] [RFC 9293] [RFC 1071]"""

from enum import IntEnum, IntFlag, unique

from protocol.layout import Layout, Part, uint


@unique
class IpProtocol(IntEnum):
    """Protocols that the IPv4 header names."""

    TCP = 6
    UDP = 17


IPV4 = Layout(
    "IPv4",
    "RFC 791: 3.1",
    20,
    (
        uint(
            "Version Ihl",
            0,
            1,
            "Version and header length.",
            parts=(
                Part("Version", 4, 4, "Always 4."),
                Part("Ihl", 0, 4, "Header length in words of 4 bytes, 5 or more."),
            ),
            default=0x45,
        ),
        uint("Type Of Service", 1, 1, "Differentiated services and congestion bits.", default=0),
        uint("Total Length", 2, 2, "Bytes of header and payload."),
        uint("Identification", 4, 2, "Number of the datagram for reassembly.", default=0),
        uint(
            "Flags Fragment",
            6,
            2,
            "Fragmentation.",
            parts=(
                Part("Dont Fragment", 14, 1, "Must not be fragmented."),
                Part("More Fragments", 13, 1, "Another fragment follows."),
                Part("Fragment Offset", 0, 13, "Place of the fragment, in units of 8 bytes."),
            ),
            default=0x4000,
        ),
        uint("Time To Live", 8, 1, "Hops left.", default=64),
        uint("Protocol", 9, 1, "Protocol of the payload."),
        uint("Header Checksum", 10, 2, "One's complement sum over the header.", default=0),
        uint("Source", 12, 4, "Source address."),
        uint("Destination", 16, 4, "Destination address."),
    ),
)

UDP = Layout(
    "UDP",
    "RFC 768",
    8,
    (
        uint("Source Port", 0, 2, "Source port."),
        uint("Destination Port", 2, 2, "Destination port."),
        uint("Length", 4, 2, "Bytes of header and payload."),
        uint("Checksum", 6, 2, "Over pseudo header, header and payload; 0: none made.", default=0),
    ),
)


class TcpFlag(IntFlag):
    """Control bits. [RFC 9293: 3.1]"""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


TCP = Layout(
    "TCP",
    "RFC 9293: 3.1",
    20,
    (
        uint("Source Port", 0, 2, "Source port."),
        uint("Destination Port", 2, 2, "Destination port."),
        uint("Sequence Number", 4, 4, "Number of the first byte of the segment."),
        uint("Acknowledgment Number", 8, 4, "Next byte expected from the other side."),
        uint(
            "Offset Flags",
            12,
            2,
            "Header length and control bits.",
            parts=(
                Part("Data Offset", 12, 4, "Header length in words of 4 bytes, 5 or more."),
                Part("Flags", 0, 8, "Control bits, see TcpFlag."),
            ),
        ),
        uint("Window", 14, 2, "Bytes the sender is ready to receive.", default=0xFFFF),
        uint("Checksum", 16, 2, "Over pseudo header, header and payload.", default=0),
        uint("Urgent Pointer", 18, 2, "Meaningful with URG only.", default=0),
    ),
)


def checksum(data: bytes) -> int:
    """Return the one's complement of the one's complement sum of 16-bit words. [RFC 1071: 1]

    An odd last byte counts as the high half of a word. Over data that holds its own right checksum
    the result is 0.
    """
    if len(data) % 2:
        data += b"\0"
    number = int.from_bytes(data, "big")
    # 2**16 is 1 modulo 0xFFFF, so the whole number leaves the sum of its words; a sum of words that
    # are not all zero is never zero but 0xFFFF.
    total = number % 0xFFFF or (0xFFFF if number else 0)
    return 0xFFFF - total


def pseudo_header(source: int, destination: int, protocol: int, length: int) -> bytes:
    """Return the pseudo header that UDP and TCP checksums begin with. [RFC 9293: 3.1]"""
    return (
        source.to_bytes(4, "big")
        + destination.to_bytes(4, "big")
        + bytes((0, protocol))
        + length.to_bytes(2, "big")
    )
