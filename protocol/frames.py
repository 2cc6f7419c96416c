"""Whole frames, put together and taken apart; without FCS, which the MAC adds and checks."""

from dataclasses import dataclass

from protocol.ethernet import ETHERNET, FRAME_SIZE_MIN, EtherType
from protocol.ip import IPV4, TCP, UDP, IpProtocol, TcpFlag, checksum, pseudo_header
from protocol.layout import DecodeError

_TCP_CHECKSUM_AT = TCP.by_name["checksum"].offset
_UDP_CHECKSUM_AT = UDP.by_name["checksum"].offset
_IP_CHECKSUM_AT = IPV4.by_name["header_checksum"].offset


@dataclass(frozen=True, slots=True)
class Address:
    """Where a frame comes from or goes to."""

    mac: bytes
    ip: int
    port: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A TCP segment that was received."""

    source_ip: int
    destination_ip: int
    source_port: int
    destination_port: int
    sequence: int
    acknowledgment: int
    flags: TcpFlag
    payload: bytes


def multicast_mac(ip: int) -> bytes:
    """Return the MAC address of an IPv4 multicast group. [RFC 1112: 6.4]"""
    return bytes((0x01, 0x00, 0x5E)) + (ip & 0x7FFFFF).to_bytes(3, "big")


def _put(data: bytes, at: int, value: int) -> bytes:
    return data[:at] + value.to_bytes(2, "big") + data[at + 2 :]


def _frame(source: Address, destination: Address, protocol: IpProtocol, payload: bytes) -> bytes:
    ip = IPV4.pack(
        total_length=IPV4.size + len(payload),
        protocol=protocol,
        source=source.ip,
        destination=destination.ip,
    )
    ip = _put(ip, _IP_CHECKSUM_AT, checksum(ip))
    head = ETHERNET.pack(destination=destination.mac, source=source.mac, ether_type=EtherType.IPV4)
    return (head + ip + payload).ljust(FRAME_SIZE_MIN, b"\0")


def udp_frame(source: Address, destination: Address, payload: bytes) -> bytes:
    """Return a UDP datagram in a frame, checksums filled in."""
    datagram = (
        UDP.pack(
            source_port=source.port,
            destination_port=destination.port,
            length=UDP.size + len(payload),
        )
        + payload
    )
    pseudo = pseudo_header(source.ip, destination.ip, IpProtocol.UDP, len(datagram))
    # A checksum of zero would say that none was made. [RFC 768]
    value = checksum(pseudo + datagram) or 0xFFFF
    return _frame(source, destination, IpProtocol.UDP, _put(datagram, _UDP_CHECKSUM_AT, value))


def tcp_frame(
    source: Address,
    destination: Address,
    sequence: int,
    acknowledgment: int,
    flags: TcpFlag,
    payload: bytes = b"",
) -> bytes:
    """Return a TCP segment without options in a frame, checksums filled in."""
    segment = (
        TCP.pack(
            source_port=source.port,
            destination_port=destination.port,
            sequence_number=sequence,
            acknowledgment_number=acknowledgment,
            offset_flags=TCP.size // 4 << 12 | flags,
        )
        + payload
    )
    pseudo = pseudo_header(source.ip, destination.ip, IpProtocol.TCP, len(segment))
    value = checksum(pseudo + segment)
    return _frame(source, destination, IpProtocol.TCP, _put(segment, _TCP_CHECKSUM_AT, value))


def parse_tcp(frame: bytes) -> Segment:
    """Take an untagged TCP frame apart. Raises :class:`DecodeError` when it is not a sound one."""
    if ETHERNET.unpack(frame)["ether_type"] != EtherType.IPV4:
        raise DecodeError("not IPv4")
    ip = IPV4.unpack(frame, ETHERNET.size)
    version_ihl, total = ip["version_ihl"], ip["total_length"]
    start = ETHERNET.size
    body = start + (version_ihl & 0xF) * 4
    end = start + total
    if version_ihl >> 4 != 4 or not start + IPV4.size <= body <= end <= len(frame):
        raise DecodeError("IPv4 header contradicts the frame", start)
    if checksum(frame[start:body]):
        raise DecodeError("IPv4 header checksum is wrong", start)
    if ip["protocol"] != IpProtocol.TCP:
        raise DecodeError("not TCP", start)
    tcp = TCP.unpack(frame[:end], body)
    source, destination = ip["source"], ip["destination"]
    if checksum(pseudo_header(source, destination, IpProtocol.TCP, end - body) + frame[body:end]):
        raise DecodeError("TCP checksum is wrong", body)
    payload_at = body + (tcp["offset_flags"] >> 12) * 4
    if not body + TCP.size <= payload_at <= end:
        raise DecodeError("TCP data offset contradicts the packet", body)
    return Segment(
        source,
        destination,
        tcp["source_port"],
        tcp["destination_port"],
        tcp["sequence_number"],
        tcp["acknowledgment_number"],
        TcpFlag(tcp["offset_flags"] & 0x1F),
        frame[payload_at:end],
    )
