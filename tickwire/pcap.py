"""Frames from packet captures: pcap and pcapng, by dpkt's declarations of their headers.

dpkt's own readers are not used: they give times as floats and take a cut packet for a whole one.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, TypeAlias

import dpkt

from tickwire.source import InputError, Source

ByteOrder: TypeAlias = Literal["little", "big"]

PCAP_MAGICS = frozenset(magic.to_bytes(4, "big") for magic in dpkt.pcap.MAGIC_TO_PKT_HDR)
PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
LINK_TYPE_ETHERNET = 1
FRAME_SIZE_MAX = 262_144
"""Longest packet that a capture may claim, in bytes; capture tools write none longer."""
BLOCK_SIZE_MAX = 1 << 24
"""Longest pcapng block, in bytes."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One captured frame: ``offset`` is that of its record or block, ``ts_ns`` since 1970."""

    number: int
    offset: int
    ts_ns: int
    data: bytes


def pcap_frames(source: Source) -> Iterator[Frame]:
    """Yield the packets of a classic capture."""
    pcap = dpkt.pcap
    raw = source.exactly(pcap.FileHdr.__hdr_len__, "the file header", 0)
    magic = int.from_bytes(raw[:4], "big")
    packet_class = pcap.MAGIC_TO_PKT_HDR[magic]
    big = packet_class.__hdr_fmt__.startswith(">")
    header = pcap.FileHdr(raw) if big else pcap.LEFileHdr(raw)
    # The high half may say how long the frame check sequences are.
    if (link_type := header.linktype & 0xFFFF) != LINK_TYPE_ETHERNET:
        raise InputError(source.path, _not_ethernet("the file", link_type), 0)
    nano = magic in (pcap.TCPDUMP_MAGIC_NANO, pcap.PMUDPCT_MAGIC_NANO)
    unit_ns = 1 if nano else 1000

    for number in count(1):
        offset = source.offset
        raw = source.read(packet_class.__hdr_len__)
        if not raw:
            return
        if len(raw) < packet_class.__hdr_len__:
            reason = f"packet {number}: its header is cut: {len(raw)} bytes remain"
            raise InputError(source.path, reason, offset)
        packet = packet_class(raw)
        if packet.caplen > FRAME_SIZE_MAX:
            reason = f"packet {number} claims {packet.caplen} bytes, {FRAME_SIZE_MAX} is the most"
            raise InputError(source.path, reason, offset)
        data = source.exactly(packet.caplen, f"packet {number}", offset)
        yield Frame(number, offset, packet.tv_sec * 1_000_000_000 + packet.tv_usec * unit_ns, data)


class _SimplePacketBlock(dpkt.Packet):  # type: ignore[misc]
    """What dpkt lacks: a packet of the first interface without time. [pcapng: 4.4]

    ``caplen`` is the length on the wire, the frame is cut to the interface's snap length.
    """

    __hdr__ = (("type", "I", 3), ("len", "I", 16), ("caplen", "I", 0), ("_len", "I", 16))


class _SimplePacketBlockLE(_SimplePacketBlock):
    __byte_order__ = "<"


_BLOCKS = {
    (dpkt.pcapng.PCAPNG_BT_IDB, "big"): dpkt.pcapng.InterfaceDescriptionBlock,
    (dpkt.pcapng.PCAPNG_BT_IDB, "little"): dpkt.pcapng.InterfaceDescriptionBlockLE,
    (dpkt.pcapng.PCAPNG_BT_EPB, "big"): dpkt.pcapng.EnhancedPacketBlock,
    (dpkt.pcapng.PCAPNG_BT_EPB, "little"): dpkt.pcapng.EnhancedPacketBlockLE,
    (dpkt.pcapng.PCAPNG_BT_PB, "big"): dpkt.pcapng.PacketBlock,
    (dpkt.pcapng.PCAPNG_BT_PB, "little"): dpkt.pcapng.PacketBlockLE,
    (dpkt.pcapng.PCAPNG_BT_SPB, "big"): _SimplePacketBlock,
    (dpkt.pcapng.PCAPNG_BT_SPB, "little"): _SimplePacketBlockLE,
}
"""Blocks that are read; all others are skipped."""


@dataclass(frozen=True, slots=True)
class _Interface:
    """What an Interface Description Block says. ``to_ns`` turns a time stamp into ns."""

    link_type: int
    snap_length: int
    to_ns: Callable[[int], int]


def pcapng_frames(source: Source) -> Iterator[Frame]:
    """Yield the packets of all sections and interfaces. Blocks that are none are skipped."""
    order: ByteOrder = "little"
    interfaces: list[_Interface] = []
    number = 0
    while head := source.read(8):
        offset = source.offset - len(head)
        if len(head) < 8:
            raise InputError(source.path, f"block is cut: {len(head)} bytes remain", offset)
        if head[:4] == PCAPNG_MAGIC:
            head += source.exactly(4, "section header", offset)
            order, interfaces = _section_byte_order(source.path, head, offset), []
        raw = _block(source, head, order, offset)
        kind = int.from_bytes(head[:4], order)
        if kind == dpkt.pcapng.PCAPNG_BT_IDB:
            interfaces.append(_interface(source.path, raw, order, offset))
        elif (kind, order) in _BLOCKS:
            number += 1
            try:
                frame = _packet(raw, kind, order, interfaces)
            except ValueError as error:
                reason = f"packet {number}: {error}"
                raise InputError(source.path, reason, offset) from None
            yield Frame(number, offset, *frame)


def _section_byte_order(path: str | os.PathLike[str], head: bytes, offset: int) -> ByteOrder:
    for order in ("little", "big"):
        if int.from_bytes(head[8:12], order) == dpkt.pcapng.BYTE_ORDER_MAGIC:
            return order
    raise InputError(path, f"section header has no byte-order magic: {head[8:12].hex()}", offset)


def _block(source: Source, head: bytes, order: ByteOrder, offset: int) -> bytes:
    """Return a whole block, of which ``head`` was read."""
    size = int.from_bytes(head[4:8], order)
    if size % 4 or not 12 <= size <= BLOCK_SIZE_MAX or size < len(head) + 4:
        raise InputError(source.path, f"block length cannot be {size}", offset)
    raw = head + source.exactly(size - len(head), "block", offset)
    if raw[-4:] != raw[4:8]:
        reason = f"block length is {size} before and {int.from_bytes(raw[-4:], order)} behind it"
        raise InputError(source.path, reason, offset)
    return raw


def _block_header(kind: int, raw: bytes, order: ByteOrder) -> Any:
    """Return the fixed fields of a block, without reading its options."""
    block_class = _BLOCKS[kind, order]
    if len(raw) < block_class.__hdr_len__:
        raise ValueError(f"its block of {len(raw)} bytes is shorter than {block_class.__hdr_len__}")
    block = block_class()
    dpkt.Packet.unpack(block, raw)
    return block


def _interface(
    path: str | os.PathLike[str], raw: bytes, order: ByteOrder, offset: int
) -> _Interface:
    resolution, seconds = 6, 0
    try:
        block = _block_header(dpkt.pcapng.PCAPNG_BT_IDB, raw, order)
        for code, value in _options(raw[16:-4], order):
            if code == dpkt.pcapng.PCAPNG_OPT_IF_TSRESOL and len(value) == 1:
                resolution = value[0]
            elif code == dpkt.pcapng.PCAPNG_OPT_IF_TSOFFSET and len(value) == 8:
                seconds = int.from_bytes(value, order, signed=True)
    except ValueError as error:
        raise InputError(path, f"interface description: {error}", offset) from None
    units: int = (2 if resolution & 0x80 else 10) ** (resolution & 0x7F)

    def to_ns(ticks: int) -> int:
        return ticks * 1_000_000_000 // units + seconds * 1_000_000_000

    return _Interface(block.linktype, block.snaplen, to_ns)


def _options(raw: bytes, order: ByteOrder) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(raw):
        code = int.from_bytes(raw[at : at + 2], order)
        size = int.from_bytes(raw[at + 2 : at + 4], order)
        if code == dpkt.pcapng.PCAPNG_OPT_ENDOFOPT:
            return
        if at + 4 + size > len(raw):
            raise ValueError(f"option {code} claims {size} bytes, {len(raw) - at - 4} remain")
        yield code, raw[at + 4 : at + 4 + size]
        at += 4 + size + -size % 4


def _not_ethernet(what: str, link_type: int) -> str:
    return f"{what} has link type {link_type}, not Ethernet ({LINK_TYPE_ETHERNET})"


def _packet(
    raw: bytes, kind: int, order: ByteOrder, interfaces: list[_Interface]
) -> tuple[int, bytes]:
    """Return a packet's time and frame. Raises :exc:`ValueError` where the block makes no sense."""
    block = _block_header(kind, raw, order)
    number = 0 if kind == dpkt.pcapng.PCAPNG_BT_SPB else block.iface_id
    if number >= len(interfaces):
        raise ValueError(f"interface {number} is not described")
    interface = interfaces[number]
    if interface.link_type != LINK_TYPE_ETHERNET:
        raise ValueError(_not_ethernet(f"interface {number}", interface.link_type))
    size, ts_ns = block.caplen, 0
    if kind != dpkt.pcapng.PCAPNG_BT_SPB:
        ts_ns = interface.to_ns(block.ts_high << 32 | block.ts_low)
    elif interface.snap_length:
        size = min(size, interface.snap_length)
    start = block.__hdr_len__ - 4
    if size > len(raw) - start - 4:
        raise ValueError(f"it claims {size} bytes, its block has {len(raw) - start - 4}")
    return ts_ns, raw[start : start + size]
