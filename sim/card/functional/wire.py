"""Wire stage: from an Ethernet frame to the MoldUDP64 packet in it, or why there is none.

Headers are read in the order in which they lie in the frame. Within one header the lowest reason
code wins, so a frame that ends before an announced header is too short whatever else is wrong.
"""

from typing import Any

import numpy as np

from protocol.ethernet import ETHERNET, VLAN_TAG, EtherType
from protocol.ip import IPV4, UDP, IpProtocol
from protocol.reasons import DropReason
from sw.jit import array_at, inlined, read_8, read_16, read_32

SOUND = -1
"""No reason to drop a frame."""

_FRAME_TOO_SHORT, _NOT_IPV4 = int(DropReason.FRAME_TOO_SHORT), int(DropReason.NOT_IPV4)
_IP_HEADER, _IP_FRAGMENT = int(DropReason.IP_HEADER), int(DropReason.IP_FRAGMENT)
_NOT_UDP, _UDP_LENGTH = int(DropReason.NOT_UDP), int(DropReason.UDP_LENGTH)
_UDP_CHECKSUM = int(DropReason.UDP_CHECKSUM)
_NOT_SUBSCRIBED = int(DropReason.NOT_SUBSCRIBED)

_ETHERNET_SIZE, _TAG_SIZE = ETHERNET.size, VLAN_TAG.size
_IPV4_SIZE, _UDP_SIZE = IPV4.size, UDP.size
_ETHER_TYPE = ETHERNET.by_name["ether_type"].offset
_TAGGED_TYPE = VLAN_TAG.by_name["ether_type"].offset
_VLAN, _IPV4, _UDP = int(EtherType.VLAN), int(EtherType.IPV4), int(IpProtocol.UDP)
_VERSION_IHL = IPV4.by_name["version_ihl"].offset
_TOTAL_LENGTH = IPV4.by_name["total_length"].offset
_FLAGS_FRAGMENT = IPV4.by_name["flags_fragment"].offset
_PROTOCOL = IPV4.by_name["protocol"].offset
_SOURCE, _DESTINATION = IPV4.by_name["source"].offset, IPV4.by_name["destination"].offset
_PORT = UDP.by_name["destination_port"].offset
_LENGTH, _CHECKSUM = UDP.by_name["length"].offset, UDP.by_name["checksum"].offset

_FRAGMENT = 0x3FFF
"""More-fragments bit and fragment offset."""

_IHL_UNIT = 4
_VERSION = 4


@inlined
def _sum(address: int, size: int) -> int:
    """Return a number that is the sum of 16-bit words modulo 0xFFFF, each with its bytes swapped.

    Words of 32 bits are added as they lie in memory, as 2**16 is 1 modulo 0xFFFF, and swapping
    bytes is a multiplication by 2**8. An odd last byte is the first of a word. [RFC 1071: 2]
    """
    words = array_at(address, size >> 2, np.uint32)  # At any address: x86 and ARM allow for it.
    total: Any = 0
    for index in range(size >> 2):
        total += np.int64(words[index])
    for index in range(size & ~3, size):
        total += read_8(address + index) << 8 * (index & 1)
    return total


@inlined
def _is_sound(total: int) -> bool:
    """Whether a sum of words that are not all zero is that of data with its right checksum."""
    return total % 0xFFFF == 0


@inlined
def datagram(frame: int, size: int, group: int) -> Any:
    """Return address and size of a frame's UDP payload, and SOUND or the reason to drop it.

    Parameters
    ----------
    frame, size : int
        Address of the frame without its FCS, and its bytes.
    group : int
        Destination address in bits 47:16 and port in 15:0; 0 takes every datagram.
    """
    if size < _ETHERNET_SIZE:
        return 0, 0, _FRAME_TOO_SHORT
    start, ether_type = _ETHERNET_SIZE, read_16(frame + _ETHER_TYPE)
    if ether_type == _VLAN:
        if size < start + _TAG_SIZE:
            return 0, 0, _FRAME_TOO_SHORT
        ether_type = read_16(frame + start + _TAGGED_TYPE)
        start += _TAG_SIZE
    if ether_type != _IPV4:
        return 0, 0, _NOT_IPV4
    if size < start + _IPV4_SIZE:
        return 0, 0, _FRAME_TOO_SHORT
    ip = frame + start
    version_ihl, fragment = read_8(ip + _VERSION_IHL), read_16(ip + _FLAGS_FRAGMENT) & _FRAGMENT
    header = (version_ihl & 0xF) * _IHL_UNIT
    if version_ihl >> 4 != _VERSION or header < _IPV4_SIZE:
        return 0, 0, _IP_HEADER
    is_udp, total = read_8(ip + _PROTOCOL) == _UDP, read_16(ip + _TOTAL_LENGTH)
    announced = _UDP_SIZE if is_udp and fragment == 0 else 0
    if size < start + header + announced:
        return 0, 0, _FRAME_TOO_SHORT
    if not header <= total <= size - start or not _is_sound(_sum(ip, header)):
        return 0, 0, _IP_HEADER
    if fragment != 0:
        return 0, 0, _IP_FRAGMENT
    if not is_udp:
        return 0, 0, _NOT_UDP
    if total - header < _UDP_SIZE:
        return 0, 0, _UDP_LENGTH
    udp = ip + header
    length = read_16(udp + _LENGTH)
    if not _UDP_SIZE <= length <= total - header:
        return 0, 0, _UDP_LENGTH
    destination = read_32(ip + _DESTINATION)
    if read_16(udp + _CHECKSUM) != 0:
        pseudo = read_32(ip + _SOURCE) + destination + _UDP + length  # [RFC 768]
        if not _is_sound(_sum(udp, length) + (pseudo << 8)):
            return 0, 0, _UDP_CHECKSUM
    if group != 0 and group != destination << 16 | read_16(udp + _PORT):
        return 0, 0, _NOT_SUBSCRIBED
    return udp + _UDP_SIZE, length - _UDP_SIZE, SOUND
