"""The journal: every ring record, in and out, in the order the host saw it.

A file is one header of 64 bytes and then records of 64 bytes, as they stood in the rings. Their
type tells which ring they belong to.
"""

from collections.abc import Iterator
from typing import BinaryIO

from protocol.layout import Field, Kind, Layout, uint
from protocol.ring import RECORD_SIZE
from sw.errors import JournalError

VERSION = 1
MAGIC = b"TWJOURNL"

HEADER = Layout(
    "Journal Header",
    "tickwire journal",
    RECORD_SIZE,
    (
        Field("Magic", 0, 8, Kind.BYTES, "`TWJOURNL`.", default=MAGIC),
        uint("Version", 8, 4, "Version of the records.", default=VERSION),
        uint("Record Size", 12, 4, "Bytes of a record.", default=RECORD_SIZE),
        Field("Reserved", 16, 48, Kind.BYTES, "Zero.", default=bytes(48)),
    ),
    "little",
)


class Journal:
    """Appends records to an open binary file.

    Attributes
    ----------
    record_count : int
        Records written so far.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self.record_count = 0
        file.write(HEADER.pack())

    def append(self, record: bytes) -> None:
        """Write one record of 64 bytes."""
        self._file.write(record)
        self.record_count += 1


def read_journal(file: BinaryIO) -> Iterator[bytes]:
    """Yield the records of a journal.

    Raises :class:`~sw.errors.JournalError` when the file is not one, or ends inside a record; the
    records before that are yielded.
    """
    header = file.read(HEADER.size)
    if len(header) < HEADER.size or header[:8] != MAGIC:
        raise JournalError(f"JOURNAL_HEADER_WRONG: bytes={header[:8]!r}, expected={MAGIC!r}")
    version = HEADER.unpack(header)["version"]
    if version != VERSION:
        raise JournalError(f"JOURNAL_VERSION_MISMATCH: version={version}, expected={VERSION}")
    offset = HEADER.size
    while record := file.read(RECORD_SIZE):
        if len(record) < RECORD_SIZE:
            raise JournalError(f"JOURNAL_CUT_SHORT: offset={offset}, bytes={len(record)}")
        yield record
        offset += RECORD_SIZE
