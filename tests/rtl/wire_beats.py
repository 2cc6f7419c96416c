"""Beats of ``hw.rtl.layouts.beat`` in a cocotb bench, driven and watched on their packed bits."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from amaranth.lib import data
from cocotb.triggers import FallingEdge, RisingEdge

from hw.rtl.layouts import beat


def _pack(layout: data.StructLayout, values: dict[str, int]) -> int:
    return sum(value << layout[name].offset for name, value in values.items())


def _unpack(layout: data.StructLayout, bits: int) -> dict[str, int]:
    return {
        name: bits >> item.offset & ((1 << item.width) - 1)
        for name, item in layout
        if isinstance(name, str)
    }


def to_beats(
    frame: bytes, width: int, start: int = 0, bad: bool = False, filler: int = 0xA5
) -> list[int]:
    """Return the beats of a frame whose first byte is in lane ``start``; other lanes get filler."""
    layout = beat(width)
    beats, position, lane = [], 0, start
    while position < len(frame):
        count = min(width - lane, len(frame) - position)
        chunk = bytes([filler] * lane) + frame[position : position + count]
        last = position + count == len(frame)
        values = {
            "data": int.from_bytes(chunk.ljust(width, bytes([filler])), "little"),
            "start": lane,
            "count": count,
            "first": int(position == 0),
            "last": int(last),
            "bad": int(last and bad),
        }
        beats.append(_pack(layout, values))
        position, lane = position + count, 0
    return beats


@dataclass
class Received:
    """A frame that came out of a stream."""

    data: bytes = b""
    bad: bool = False
    start: int = 0
    cycles: list[int] = field(default_factory=list)
    """The cycle of each beat."""


class Watch:
    """Collects the frames of an always ready stream, and checks the rules of a beat."""

    def __init__(self, clock: Any, payload: Any, valid: Any, width: int) -> None:
        self._clock, self._payload, self._valid, self._width = clock, payload, valid, width
        self.frames: list[Received] = []
        self.cycle = 0

    async def run(self) -> None:
        layout = beat(self._width)
        frame: Received | None = None
        while True:
            await FallingEdge(self._clock)
            self.cycle += 1
            if not int(self._valid.value):
                continue
            got = _unpack(layout, int(self._payload.value))
            start, count = got["start"], got["count"]
            assert bool(got["first"]) == (frame is None), f"first={got['first']}: {self.frames}"
            assert start == 0 or frame is None, "a later beat does not begin in lane 0"
            assert start + count <= self._width
            assert count or (got["first"] and got["last"]), "an empty beat inside a frame"
            assert got["last"] or start + count == self._width, "a hole inside a frame"
            assert got["last"] or not got["bad"], "bad before the last beat"
            frame = frame or Received(start=start)
            lanes = got["data"].to_bytes(self._width, "little")
            frame.data += lanes[start : start + count]
            frame.cycles.append(self.cycle)
            if got["last"]:
                frame.bad = bool(got["bad"])
                self.frames.append(frame)
                frame = None


async def send_beats(
    clock: Any,
    payload: Any,
    valid: Any,
    ready: Any,
    beats: Iterable[int | None],
) -> None:
    """Offer beats one after the other, each until it is taken; None is a cycle without one."""
    for bits in beats:
        valid.value = int(bits is not None)
        payload.value = bits or 0
        await FallingEdge(clock)
        while bits is not None and ready is not None and not int(ready.value):
            await FallingEdge(clock)
        await RisingEdge(clock)
    valid.value = 0


def difference(got: bytes, wanted: bytes) -> str:
    """Return where two byte strings part, in one line."""
    pairs: Iterator[tuple[int, tuple[int, int]]] = enumerate(zip(got, wanted, strict=False))
    at = next((place for place, (a, b) in pairs if a != b), min(len(got), len(wanted)))
    return (
        f"byte {at}: got {got[at : at + 8].hex(' ')}, wanted {wanted[at : at + 8].hex(' ')}; "
        f"{len(got)} bytes, wanted {len(wanted)}"
    )
