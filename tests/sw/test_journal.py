"""The journal: what is written is read, and what is no journal is refused with its reason."""

import io

import pytest

from protocol import ring
from sw.errors import JournalError
from sw.journal import Journal, read_journal

RECORDS = [ring.HEARTBEAT.pack(ts_host_ns=n, sequence=n) for n in (1, 2, 3)]
HEADER = b"TWJOURNL" + bytes((1, 0, 0, 0, 64, 0, 0, 0)) + bytes(48)


def written():
    file = io.BytesIO()
    journal = Journal(file)
    for record in RECORDS:
        journal.append(record)
    assert journal.record_count == 3
    return file.getvalue()


def test_file_is_its_header_and_the_records_as_they_stood():
    assert written() == HEADER + b"".join(RECORDS)


def test_records_are_read_in_their_order():
    assert list(read_journal(io.BytesIO(written()))) == RECORDS


def test_journal_without_records_is_one():
    file = io.BytesIO()
    Journal(file)
    assert list(read_journal(io.BytesIO(file.getvalue()))) == []


@pytest.mark.parametrize("size", [1, 8, 63])
def test_records_before_the_cut_are_read_and_the_cut_is_said(size):
    records = read_journal(io.BytesIO(written()[: 64 + 64 + size]))
    assert next(records) == RECORDS[0]
    with pytest.raises(JournalError, match=rf"^JOURNAL_CUT_SHORT: offset=128, bytes={size}$"):
        next(records)


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"", "b''"),
        (b"TWJOURNL", "b'TWJOURNL'"),
        (HEADER[:63], "b'TWJOURNL'"),
        (b"XWJOURNL" + HEADER[8:], "b'XWJOURNL'"),
        (bytes(64), r"b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00'"),
    ],
)
def test_file_without_the_header_is_refused(data, shown):
    text = rf"^JOURNAL_HEADER_WRONG: bytes={shown}, expected=b'TWJOURNL'$"
    with pytest.raises(JournalError, match=text):
        next(read_journal(io.BytesIO(data)))


@pytest.mark.parametrize("version", [0, 2, 0xFFFF_FFFF])
def test_journal_of_another_version_is_refused_with_both(version):
    data = HEADER[:8] + version.to_bytes(4, "little") + HEADER[12:]
    text = rf"^JOURNAL_VERSION_MISMATCH: version={version}, expected=1$"
    with pytest.raises(JournalError, match=text):
        next(read_journal(io.BytesIO(data)))
