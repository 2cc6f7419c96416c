"""Frames as they are on the wire: the columns of XGMII, the bytes of GMII."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

IDLE, START, TERMINATE = 0x07, 0xFB, 0xFD
PREAMBLE = bytes.fromhex("55555555555555d5")
GAP_BYTES = 12
"""Least distance of two frames, on average. [IEEE 802.3: 4.4.2]"""


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame to be sent, without its FCS."""

    data: bytes
    gap_bytes: int = GAP_BYTES
    """Idle time before it, at least; XGMII rounds it to a start in lane 0 or 4."""
    bad: bool = False
    """Whether it gets a wrong FCS."""


def with_fcs(frame: Sent) -> bytes:
    """Return a frame's bytes with its check sequence. [IEEE 802.3: 3.2.9]"""
    fcs = zlib.crc32(frame.data) ^ frame.bad
    return frame.data + fcs.to_bytes(4, "little")


def xgmii(frames: Iterable[Sent]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return columns of eight lanes, data and control bits, and each frame's first byte.

    The first byte is the one after the preamble, as column and lane. Idle is counted as a sender
    with a deficit counter does: three bytes more or less each time, never more over time.
    [IEEE 802.3: 46.3.1.4]
    """
    data, control, places, deficit = bytearray(), bytearray(), [], 0
    for frame in frames:
        wanted = len(data) + frame.gap_bytes - (len(data) and 1)  # Terminate is part of the gap.
        start = wanted - wanted % 4
        if deficit + wanted % 4 > 3:
            start += 4
        deficit = max(0, deficit + wanted - start) if frame.gap_bytes == GAP_BYTES else 0
        idle = start - len(data)
        whole = with_fcs(frame)
        data += bytes([IDLE] * idle + [START]) + PREAMBLE[1:]
        control += bytes([1] * (idle + 1) + [0] * (len(PREAMBLE) - 1))
        places.append(divmod(len(data), 8))
        data += whole + bytes([TERMINATE])
        control += bytes(len(whole)) + b"\1"
    rest = -len(data) % 8
    data += bytes([IDLE] * rest)
    control += bytes([1] * rest)
    columns = [
        (
            int.from_bytes(data[at : at + 8], "little"),
            sum(flag << lane for lane, flag in enumerate(control[at : at + 8])),
        )
        for at in range(0, len(data), 8)
    ]
    return columns, places


def gmii(frames: Iterable[Sent]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Return bytes, each with whether it is valid, and each frame's first byte as cycle and 0."""
    cycles: list[tuple[int, int]] = []
    places = []
    for frame in frames:
        cycles += [(0, 0)] * frame.gap_bytes + [(byte, 1) for byte in PREAMBLE]
        places.append((len(cycles), 0))
        cycles += [(byte, 1) for byte in with_fcs(frame)]
    return cycles, places
