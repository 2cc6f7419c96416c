"""Files of recorded traffic: ITCH 5.0 sample files and packet captures.

Every reader streams, yields all that stands before a fault and then raises :class:`InputError`.
Offsets count from the start of the file, of the decompressed one where it is gzipped.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Literal, TypeAlias

from protocol import itch50
from tickwire.pcap import PCAP_MAGICS, PCAPNG_MAGIC, Frame, pcap_frames, pcapng_frames
from tickwire.source import InputError, Source

__all__ = ["Frame", "InputError", "ItchMessage", "Kind", "file_kind", "read_frames", "read_itch"]

Kind: TypeAlias = Literal["itch50", "pcap", "pcapng"]


@dataclass(frozen=True, slots=True)
class ItchMessage:
    """One message of a BinaryFILE: ``offset`` is that of its length prefix."""

    number: int
    offset: int
    data: bytes


def file_kind(path: str | os.PathLike[str]) -> Kind:
    """Return what a file holds, by its first bytes: what is no capture counts as ITCH 5.0.

    Raises :class:`InputError` for a file that cannot be read or is empty.
    """
    with Source(path) as source:
        magic = source.read(4)
        if not magic:
            raise InputError(path, "the file is empty")
        if magic in PCAP_MAGICS:
            return "pcap"
        return "pcapng" if magic == PCAPNG_MAGIC else "itch50"


def read_itch(path: str | os.PathLike[str]) -> Iterator[ItchMessage]:
    """Yield the messages of a BinaryFILE, gzipped or not. [BinaryFILE 1.00]

    A file may end without the zero length that marks the end of the session, as cut samples do.

    Raises
    ------
    InputError
        If a message is cut, is none of ITCH 5.0 by type and length, or follows the end of session.
    """
    sizes = {layout.code: layout.size for layout in itch50.MESSAGES.layouts}
    with Source(path) as source:
        for number in count(1):
            offset = source.offset
            prefix = source.read(2)
            if not prefix and number > 1:
                return
            if len(prefix) < 2:
                reason = f"length prefix needs 2 bytes, {len(prefix)} remain"
                raise InputError(path, reason if prefix else "the file is empty", offset)
            size = int.from_bytes(prefix, "big")
            if size == 0:
                return _check_end_of_session(source, offset)
            data = source.read(size)
            if len(data) < size:
                reason = f"message {number} claims {size} bytes, {len(data)} remain"
                raise InputError(path, reason, offset)
            if sizes.get(data[0]) != size:
                raise InputError(path, itch50_mismatch(data), offset)
            yield ItchMessage(number, offset, data)


def itch50_mismatch(data: bytes) -> str:
    """Say why a message that is not empty is none of ITCH 5.0."""
    shown = f"'{chr(data[0])}'" if 0x21 <= data[0] <= 0x7E else f"0x{data[0]:02x}"
    layout = itch50.MESSAGES.by_code.get(data[0])
    why = "no such type" if layout is None else f"{layout.title} has {layout.size} bytes"
    return f"message type {shown} of {len(data)} bytes is not ITCH 5.0: {why}"


def read_frames(path: str | os.PathLike[str]) -> Iterator[Frame]:
    """Yield the frames of a capture: pcap or pcapng, either byte order, gzipped or not.

    Times are exact, except that units below 1 ns are rounded down. The Simple Packet Block of
    pcapng carries no time; its frames have ``ts_ns`` 0.

    Raises
    ------
    InputError
        If a record is cut or contradicts itself, or a packet's link type is not Ethernet.
    """
    kind = file_kind(path)
    with Source(path) as source:
        if kind == "itch50":
            raise InputError(path, f"not a capture: it begins with {source.read(4).hex(' ')}", 0)
        yield from pcap_frames(source) if kind == "pcap" else pcapng_frames(source)


def _check_end_of_session(source: Source, offset: int) -> None:
    if source.read(1):
        following = "more" if source.size is None else source.size - offset - 2
        reason = f"zero length prefix ends the session, but {following} bytes follow"
        raise InputError(source.path, reason, offset)
