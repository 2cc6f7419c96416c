"""A file's bytes, gzipped or not, with the offset of each: what every reader starts from."""

import io
import os
import stat
import zlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self

_GZIP_MAGIC = b"\x1f\x8b"
_CHUNK = 1 << 16


class InputError(Exception):
    """A file that cannot be read, or bytes in it that are not what they should be.

    Its text is one line: ``FILE: offset 1234: reason``, without the offset where there is none.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, offset: int | None = None):
        where = os.fsdecode(path) + ("" if offset is None else f": offset {offset}")
        super().__init__(_printable(f"{where}: {reason}"))
        self.path = path
        self.reason = reason
        self.offset = offset


class Source:
    """A file's bytes, decompressed, and the offset of the next one.

    Raises :class:`InputError` for a file that cannot be read, at any time.
    """

    def __init__(self, path: str | os.PathLike[str]):
        self.path = path
        self.offset = 0
        # None where only reading to the end would tell.
        self.size: int | None = None
        try:
            # Opening a pipe could wait for ever, and a device may have no end.
            mode = os.stat(path).st_mode
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
                raise InputError(path, f"is {kind}")
            self._raw: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by __exit__
        except OSError as error:
            raise InputError(path, error.strerror or str(error)) from None
        except ValueError as error:
            raise InputError(path, str(error)) from None
        self._file = self._raw
        try:
            magic = self.read(2)
            self._raw.seek(0)
            self.offset = 0
        except BaseException:
            self._raw.close()
            raise
        if magic == _GZIP_MAGIC:
            self._file = io.BufferedReader(_Inflated(self._raw), _CHUNK)
        else:
            self.size = os.fstat(self._raw.fileno()).st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._raw.close()

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes, fewer only at the end of the file."""
        try:
            data = self._file.read(size)
        except (zlib.error, EOFError) as error:
            reason = f"gzip data is damaged: {error}"
            raise InputError(self.path, reason, self.offset) from None
        except OSError as error:
            raise InputError(self.path, error.strerror or str(error), self.offset) from None
        self.offset += len(data)
        return data

    def exactly(self, size: int, what: str, start: int) -> bytes:
        """Return the next ``size`` bytes. Where they end early, ``start`` is blamed."""
        data = self.read(size)
        if len(data) < size:
            reason = f"{what} is cut: {size} bytes expected, {len(data)} remain"
            raise InputError(self.path, reason, start)
        return data


class _Inflated(io.RawIOBase):
    """The content of a gzip file. What stands before damage is delivered before the error."""

    def __init__(self, file: BinaryIO):
        self._chunks = _inflate(file)
        self._pending = b""

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._pending:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._pending = chunk
        size = min(len(target), len(self._pending))
        target[:size] = self._pending[:size]
        self._pending = self._pending[size:]
        return size


def _inflate(file: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of each member in turn; zeros behind a member are padding. [RFC 1952: 2.2]

    Raises ``zlib.error`` for damage and ``EOFError`` for a member that does not end.
    """
    member, begun, raw = zlib.decompressobj(wbits=31), False, b""
    while raw or (raw := file.read(_CHUNK)):
        if not begun and not (raw := raw.lstrip(b"\0")):
            continue
        before, begun = member.copy(), True
        try:
            data = member.decompress(raw, _CHUNK)
        except zlib.error:
            # Together with the error zlib drops what it had. Byte by byte nothing is lost.
            yield from (before.decompress(raw[i : i + 1]) for i in range(len(raw)))
            raise
        yield data
        raw = member.unconsumed_tail
        if member.eof:
            raw, begun, member = member.unused_data, False, zlib.decompressobj(wbits=31)
    if begun:
        raise EOFError("it ends before its end mark")


def _printable(text: str) -> str:
    """Return text that is one line and leaves a terminal as it is."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
