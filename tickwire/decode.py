"""``tickwire decode``: every message of a file, a line or a JSON object each."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

from protocol.layout import DecodeError
from tickwire.capture import Frame, InputError, file_kind, read_frames, read_itch
from tickwire.flows import MoldFlow, Record, SoupFlow, itch50_record
from tickwire.transport import (
    Datagram,
    Endpoint,
    NotTransportError,
    Segment,
    Stream,
    dissect,
    endpoint_name,
)

REASONS_SHOWN_MAX = 6
"""Reasons that the line about skipped packets names."""
LINES_BUFFERED_MAX = 512
"""Lines that are written at once."""


def run(path: str | os.PathLike[str], as_json: bool) -> None:
    """Print every message of a file, and on stderr one line about packets that are none.

    Raises :class:`InputError` after what came before the fault is printed.
    """
    to_line: Callable[[Record], str] = json.JSONEncoder().encode if as_json else text_line
    if file_kind(path) == "itch50":
        print_lines(map(to_line, itch_records(path)))
        return
    decoder = CaptureDecoder(path)
    print_lines(map(to_line, decoder.records()))
    if decoder.skipped:
        print(decoder.summary(), file=sys.stderr)


def itch_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield a record for each message of a BinaryFILE."""
    for message in read_itch(path):
        record = {"message_number": message.number, "offset": message.offset}
        yield itch50_record(message.data, record, {})


class CaptureDecoder:
    """Reads the messages of a capture.

    Parameters
    ----------
    path : str or os.PathLike
        The capture.

    Attributes
    ----------
    skipped : dict
        Number of packets that carry no message of ours, by reason.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        self.skipped: dict[str, int] = {}
        self._first_skipped: tuple[Frame, str] | None = None
        self._datagrams: dict[Endpoint, _DatagramFlow] = {}
        self._connections: dict[tuple[Endpoint, Endpoint], _Connection] = {}

    def records(self) -> Iterator[Record]:
        """Yield a record for each message.

        Raises :class:`InputError` for damage, at the end also for streams that end inside a packet
        and for a capture without any message.
        """
        frames = records = 0
        for frame in read_frames(self.path):
            frames += 1
            where = {"packet_number": frame.number, "ts_wire_ns": frame.ts_ns}
            for record in self._frame_records(frame):
                records += 1
                yield where | record
        faults = [fault for c in self._connections.values() if (fault := c.unfinished())]
        if faults:
            raise self.fault(*min(faults, key=lambda fault: fault[0].number))
        if records == 0:
            if self._first_skipped is not None:
                frame, reason = self._first_skipped
                raise self.fault(frame, reason)
            nothing = "no packet carries a message" if frames else "the capture holds no packets"
            raise InputError(self.path, nothing)

    def summary(self) -> str:
        """Return one line about what was skipped."""
        total = sum(self.skipped.values())
        parts = [f"{n} {reason}" for reason, n in islice(self.skipped.items(), REASONS_SHOWN_MAX)]
        if len(self.skipped) > REASONS_SHOWN_MAX:
            others = list(self.skipped.values())[REASONS_SHOWN_MAX:]
            parts.append(f"{sum(others)} for other reasons")
        return f"skipped {total} packet{'s' if total > 1 else ''}: {', '.join(parts)}"

    def skip(self, frame: Frame, reason: str) -> None:
        """Count a packet that carries no message of ours."""
        self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self._first_skipped = self._first_skipped or (frame, reason)

    def fault(self, frame: Frame, reason: str) -> InputError:
        """Return the error that blames a packet."""
        return InputError(self.path, f"packet {frame.number}: {reason}", frame.offset)

    def _frame_records(self, frame: Frame) -> Iterator[Record]:
        try:
            carried = dissect(frame.data)
        except NotTransportError as reason:
            self.skip(frame, str(reason))
            return
        if isinstance(carried, Datagram):
            to = carried.destination
            if to not in self._datagrams:
                self._datagrams[to] = _DatagramFlow(to)
            yield from self._datagrams[to].records(self, frame, carried)
        else:
            ends = carried.source, carried.destination
            if ends not in self._connections:
                self._connections[ends] = _Connection(*ends)
            yield from self._connections[ends].records(self, frame, carried)


class _DatagramFlow:
    """The datagrams to one address and port."""

    def __init__(self, destination: Endpoint):
        self._name = f"UDP flow {endpoint_name(destination)}"
        self._mold = MoldFlow()
        self._reason = ""

    def records(
        self, decoder: CaptureDecoder, frame: Frame, datagram: Datagram
    ) -> Iterator[Record]:
        try:
            yield from self._mold.records(datagram.payload)
            if datagram.fault:
                raise DecodeError(datagram.fault, len(datagram.payload))
        except DecodeError as error:
            reason = str(error)
            if datagram.fault not in ("", reason):
                reason += f" ({datagram.fault})"
            if self._mold.recognised:
                where = f"byte {error.offset} of the datagram"
                raise decoder.fault(frame, f"{where}: {reason}") from None
            self._reason = self._reason or reason
            decoder.skip(frame, f"{self._name} is not MoldUDP64 ({self._reason})")


class _Connection:
    """One direction of a TCP connection."""

    def __init__(self, source: Endpoint, destination: Endpoint):
        self._ends = source, destination
        self._stream = Stream()
        self._soup = SoupFlow()
        self._reason = ""
        # The first packet of what waits: for the bytes of a gap, for the rest of a packet.
        self._gap_frame: Frame | None = None
        self._begun_frame: Frame | None = None

    def records(self, decoder: CaptureDecoder, frame: Frame, segment: Segment) -> Iterator[Record]:
        if self._stream.begins_anew(segment):
            self._restart(decoder)
        fresh = self._stream.push(segment)
        self._gap_frame = (self._gap_frame or frame) if self._stream.gap_bytes else None
        if not fresh:
            return
        completed = False
        try:
            for record in self._soup.records(fresh):
                completed = True
                yield record
        except DecodeError as error:
            if self._soup.recognised:
                reason = f"byte {error.offset} of a SoupBinTCP packet: {error}"
                raise decoder.fault(frame, reason) from None
            self._skip(decoder, frame, str(error))
        if not self._soup.unfinished:
            self._begun_frame = None
        elif completed or self._begun_frame is None:
            self._begun_frame = frame

    def unfinished(self) -> tuple[Frame, str] | None:
        """Return where and why the stream ends too early, None where it does not."""
        if self._gap_frame is not None and self._soup.recognised:
            return self._gap_frame, f"stream {self._name} lacks {self._stream.gap_bytes} bytes here"
        if self._begun_frame is not None:
            return self._begun_frame, f"stream ends inside a packet: {self._soup.unfinished}"
        return None

    def _restart(self, decoder: CaptureDecoder) -> None:
        left = self.unfinished()
        if left is not None:
            what = "after a gap" if left[0] is self._gap_frame else "inside a packet"
            decoder.skip(left[0], f"TCP flow {self._name} begins anew {what}")
        self._begun_frame = None
        self._soup.restart()

    def _skip(self, decoder: CaptureDecoder, frame: Frame, reason: str) -> None:
        self._reason = self._reason or reason
        decoder.skip(frame, f"TCP flow {self._name} is not SoupBinTCP ({self._reason})")

    @property
    def _name(self) -> str:
        return " to ".join(map(endpoint_name, self._ends))


def text_line(record: Record) -> str:
    """Return ``1 offset=0 itch50 add_order message_type=A stock_locate=13 ...``.

    Text that is empty or holds anything but printable ASCII without blanks is quoted as in JSON.
    """
    options = record.get("appendage")
    if options is not None:
        record = {key: value for key, value in record.items() if key != "appendage"}
    values = [value if type(value) is int else _quoted(value) for value in record.values()]
    line = _template(tuple(record)) % tuple(values)
    return " ".join([line, *_option_words("appendage", options)]) if options else line


@lru_cache
def _template(names: tuple[str, ...]) -> str:
    bare = ("message_number", "packet_number", "protocol", "message")
    return " ".join("%s" if name in bare else f"{name}=%s" for name in names)


def _option_words(key: str, options: dict[str, Any]) -> Iterator[str]:
    """Yield ``appendage.firm=LIME``, once for each value of a repeated option."""
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{key}.{name}={_quoted(item) if isinstance(item, str) else item}"


@lru_cache(4096)
def _quoted(text: str) -> str:
    plain = all("!" <= c <= "~" and c not in '"\\' for c in text)
    return text if text and plain else json.dumps(text)


def print_lines(lines: Iterable[str]) -> None:
    """Write lines to stdout, many at once, and flush what there is whatever happens."""
    waiting: list[str] = []
    try:
        for line in lines:
            waiting.append(line)
            if len(waiting) >= LINES_BUFFERED_MAX:
                sys.stdout.write("\n".join(waiting) + "\n")
                waiting.clear()
    finally:
        if waiting:
            sys.stdout.write("\n".join(waiting) + "\n")
        sys.stdout.flush()
