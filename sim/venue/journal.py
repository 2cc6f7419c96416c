"""What a venue was asked and what it answered, in a file that outlives the process.

Entries are only ever appended, and handed to the kernel before an answer is sent: a process that is
killed loses nothing of what a client has seen. A machine that loses its power may, as the file is
not forced onto the disk.

======  ==========================================================================
kind    body
======  ==========================================================================
``H``   settings and session that the journal belongs to, JSON
``R``   requests: port (2 bytes), time (8), then messages, each behind its length (2)
``C``   a command of the venue itself: time (8), then text
``A``   answers: port (2), number of the first (8), then Sequenced Data packets
======  ==========================================================================

Integers are big-endian. Before each entry stand its length and its CRC-32, 4 bytes each, both of
kind and body.
"""

import fcntl
import os
import stat
import zlib
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import NamedTuple

_HEAD = Struct(">II")
_REQUESTS, _ANSWERS, _COMMAND = Struct(">cHQ"), Struct(">cHQ"), Struct(">cQ")
ENTRY_LENGTH_MAX = 1 << 26


class JournalError(Exception):
    """A journal that cannot be used; the text says which file and why."""


class Entry(NamedTuple):
    """One entry: ``port`` and ``number`` (a time or a sequence number) are 0 where it has none."""

    kind: str
    port: int
    number: int
    body: bytes


def requests_entry(port: int, now_ns: int, messages: Sequence[bytes]) -> bytes:
    """Return the entry of messages that came on a port at one time."""
    body = b"".join([len(message).to_bytes(2, "big") + message for message in messages])
    return _framed(_REQUESTS.pack(b"R", port, now_ns) + body)


def command_entry(now_ns: int, text: str) -> bytes:
    """Return the entry of a command."""
    return _framed(_COMMAND.pack(b"C", now_ns) + text.encode())


def answers_entry(port: int, first: int, packets: Sequence[bytes]) -> bytes:
    """Return the entry of answers to a port, the first of which has this sequence number."""
    return _framed(_ANSWERS.pack(b"A", port, first) + b"".join(packets))


def split(body: bytes) -> list[bytes]:
    """Return what stands in a body, each behind its length of 2 bytes."""
    found, at = [], 0
    while at < len(body):
        end = at + 2 + int.from_bytes(body[at : at + 2], "big")
        found.append(body[at + 2 : end])
        at = end
    return found


def _framed(data: bytes) -> bytes:
    return _HEAD.pack(len(data), zlib.crc32(data)) + data


class Journal:
    """A file of entries, of which one process at a time may be the owner.

    Parameters
    ----------
    path : Path or None
        The file. It is made where there is none. None keeps nothing.

    Raises
    ------
    JournalError
        If the file cannot be opened, or is somebody else's at present.

    Attributes
    ----------
    cut_bytes : int
        Bytes at the end of the file that were no whole entry, and were cut off.
    """

    def __init__(self, path: Path | None):
        self.path = path
        self.cut_bytes = 0
        self._file = -1
        self._failure = ""
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
            if not stat.S_ISREG(os.fstat(self._file).st_mode):
                self.close()
                raise JournalError(f"{path}: is not a regular file")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise JournalError(f"{path}: is in use by another process") from None
        except OSError as error:
            raise JournalError(f"{path}: {error.strerror or error}") from None

    def read(self) -> list[Entry]:
        """Return every whole entry, and cut off what stands behind the last one.

        The end of a file may be torn where the process was killed while it wrote. Nothing of that
        has been sent.
        """
        if self.path is None:
            return []
        data = self.path.read_bytes()
        entries, at = [], 0
        while at + _HEAD.size <= len(data):
            length, crc = _HEAD.unpack_from(data, at)
            body = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(body) < length or length > ENTRY_LENGTH_MAX or zlib.crc32(body) != crc:
                break
            entry = _entry(body)
            if entry is None:
                break
            entries.append(entry)
            at += _HEAD.size + length
        if data and not (entries and entries[0].kind == "H"):
            raise JournalError(f"{self.path}: does not begin with a journal's header")
        self.cut_bytes = len(data) - at
        if self.cut_bytes:
            os.ftruncate(self._file, at)
        return entries

    def write_header(self, body: bytes) -> None:
        """Write the first entry."""
        self.write(_framed(b"H" + body))

    def write(self, data: bytes) -> None:
        """Append entries. Raises :class:`JournalError` when the file takes no more.

        It does so ever after: what stood behind a torn entry would not be read again.
        """
        if self._failure:
            raise JournalError(self._failure)
        if self._file < 0:
            return
        try:
            done = os.write(self._file, data)
            while done < len(data):
                done += os.write(self._file, data[done:])
        except OSError as error:
            self._failure = f"{self.path}: {error.strerror or error}"
            raise JournalError(self._failure) from None

    def set_aside(self, suffix: str) -> None:
        """Keep what there is under another name and go on with an empty file."""
        if self.path is None:
            return
        kept = self.path.with_name(f"{self.path.name}.{suffix}")
        kept.write_bytes(self.path.read_bytes())
        os.ftruncate(self._file, 0)

    def close(self) -> None:
        """Let go of the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _entry(data: bytes) -> Entry | None:
    kind = data[:1]
    if kind in (b"R", b"A") and len(data) >= _REQUESTS.size:
        _, port, number = _REQUESTS.unpack_from(data)
        return Entry(kind.decode(), port, number, data[_REQUESTS.size :])
    if kind == b"C" and len(data) >= _COMMAND.size:
        return Entry("C", 0, _COMMAND.unpack_from(data)[1], data[_COMMAND.size :])
    return Entry("H", 0, 0, data[1:]) if kind == b"H" else None
