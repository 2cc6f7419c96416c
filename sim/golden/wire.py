"""From an Ethernet frame to a UDP datagram, or the reason why there is none.

Headers are read in the order in which they lie in the frame. Each is announced by the one before
it, and a header that is wrong announces nothing. Within one header the lowest reason code wins, so
a frame that ends before an announced header is `FRAME_TOO_SHORT` whatever else is wrong with it.
"""

from dataclasses import dataclass

from protocol.reasons import DropReason


@dataclass(frozen=True, slots=True)
class Drop:
    """A frame, packet or datagram that is not used."""

    reason: DropReason
    detail: str
    """One line for a reader, `name=value` pairs."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """A UDP datagram with the addresses that a filter needs. Addresses are integers."""

    vlan_id: int | None
    source_ip: int
    destination_ip: int
    source_port: int
    destination_port: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class _Ipv4Packet:
    """The parts of an IPv4 packet that UDP needs."""

    source_ip: int
    destination_ip: int
    payload: bytes


def parse_frame(
    frame: bytes, check_udp_checksum: bool = True, *, checksums: bool = True
) -> Datagram | Drop:
    """Return the UDP datagram in an Ethernet II frame, or why it is not used.

    `frame` is without its FCS. At most one 802.1Q tag is accepted. Bytes after the IPv4 total
    length (padding, trailers) and after the UDP length are ignored.

    `check_udp_checksum=False` skips the UDP checksum only. `checksums=False` skips the IPv4 header
    checksum as well: anonymised captures have both fields set to zero.

    [IEEE 802.3: 3.1.1; IEEE 802.1Q: 9.6; RFC 791: 3.1; RFC 768]
    """
    if len(frame) < 14:
        return _too_short(frame, "ethernet", 14)
    ether_type = _integer(frame, 12, 2)
    vlan_id: int | None = None
    ip_offset = 14
    if ether_type == 0x8100:
        if len(frame) < 18:
            return _too_short(frame, "vlan", 18)
        vlan_id = _integer(frame, 14, 2) & 0x0FFF
        ether_type = _integer(frame, 16, 2)
        ip_offset = 18
    if ether_type != 0x0800:
        return Drop(DropReason.NOT_IPV4, f"ether_type=0x{ether_type:04x}")

    packet = _parse_ipv4(frame[ip_offset:], check_header=checksums)
    if isinstance(packet, Drop):
        return packet
    return _parse_udp(packet, vlan_id, check=checksums and check_udp_checksum)


def _parse_ipv4(data: bytes, check_header: bool) -> _Ipv4Packet | Drop:
    """Return the packet at the start of `data`, which may be padded. [RFC 791: 3.1]"""
    if len(data) < 20:
        return _too_short(data, "ipv4", 20)
    version = data[0] >> 4
    header_length = (data[0] & 0x0F) * 4
    total_length = _integer(data, 2, 2)
    # More Fragments and the 13-bit offset; Don't Fragment and the reserved bit do not matter.
    fragment = _integer(data, 6, 2) & 0x3FFF
    protocol = data[9]

    if version != 4 or header_length < 20:
        return Drop(DropReason.IP_HEADER, f"version={version}, header_length={header_length}")
    announced = header_length + (8 if protocol == 17 and fragment == 0 else 0)
    if len(data) < announced:
        return _too_short(data, "ipv4 and udp", announced)
    if not header_length <= total_length <= len(data):
        return Drop(
            DropReason.IP_HEADER,
            f"header_length={header_length}, total_length={total_length}, available={len(data)}",
        )
    if check_header and _ones_complement_sum(data[:header_length]) != 0xFFFF:
        return Drop(DropReason.IP_HEADER, f"checksum=0x{_integer(data, 10, 2):04x}")
    if fragment != 0:
        return Drop(DropReason.IP_FRAGMENT, f"flags_and_offset=0x{_integer(data, 6, 2):04x}")
    if protocol != 17:
        return Drop(DropReason.NOT_UDP, f"protocol={protocol}")
    return _Ipv4Packet(
        source_ip=_integer(data, 12, 4),
        destination_ip=_integer(data, 16, 4),
        payload=data[header_length:total_length],
    )


def _parse_udp(packet: _Ipv4Packet, vlan_id: int | None, check: bool) -> Datagram | Drop:
    """Return the datagram that an IPv4 packet carries. [RFC 768]"""
    data = packet.payload
    if len(data) < 8:
        return Drop(DropReason.UDP_LENGTH, f"available={len(data)}")
    length = _integer(data, 4, 2)
    if not 8 <= length <= len(data):
        return Drop(DropReason.UDP_LENGTH, f"length={length}, available={len(data)}")
    checksum = _integer(data, 6, 2)
    if check and checksum != 0:
        pseudo_header = (
            packet.source_ip.to_bytes(4, "big")
            + packet.destination_ip.to_bytes(4, "big")
            + bytes([0, 17])
            + length.to_bytes(2, "big")
        )
        if _ones_complement_sum(pseudo_header + data[:length]) != 0xFFFF:
            return Drop(DropReason.UDP_CHECKSUM, f"checksum=0x{checksum:04x}")
    return Datagram(
        vlan_id=vlan_id,
        source_ip=packet.source_ip,
        destination_ip=packet.destination_ip,
        source_port=_integer(data, 0, 2),
        destination_port=_integer(data, 2, 2),
        payload=data[8:length],
    )


def _ones_complement_sum(data: bytes) -> int:
    """Sum 16-bit big-endian words, carries added back in; 0xFFFF if a checksum fits. [RFC 1071]"""
    if len(data) % 2 == 1:
        data += b"\x00"
    total = 0
    for offset in range(0, len(data), 2):
        total += _integer(data, offset, 2)
        total = (total & 0xFFFF) + (total >> 16)
    return total


def _integer(data: bytes, offset: int, length: int) -> int:
    return int.from_bytes(data[offset : offset + length], "big")


def _too_short(data: bytes, headers: str, needed: int) -> Drop:
    return Drop(
        DropReason.FRAME_TOO_SHORT, f"headers={headers}, needed={needed}, available={len(data)}"
    )
