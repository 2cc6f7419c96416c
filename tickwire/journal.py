"""`tickwire journal`: the ring records of a run, one a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from protocol.ring import RECORDS
from sw.errors import JournalError
from sw.journal import read_journal
from tickwire.capture import InputError
from tickwire.decode import print_lines, text_line

_RINGS = {1: "market", 2: "execution", 3: "command"}


def run(path: Path, as_json: bool) -> None:
    """Print every record. Raises :class:`InputError`, after what came before the fault."""
    to_line = json.JSONEncoder().encode if as_json else text_line
    print_lines(map(to_line, journal_records(path)))


def journal_records(path: Path) -> Iterator[dict[str, Any]]:
    """Yield each record's fields, without those that are reserved."""
    if path.exists() and not path.is_file():
        raise InputError(path, "is not a regular file")
    try:
        with path.open("rb") as file:
            for number, record in enumerate(read_journal(file), start=1):
                layout = RECORDS.by_code.get(record[0])
                if layout is None:
                    raise JournalError(f"JOURNAL_RECORD_UNKNOWN: number={number}, type={record[0]}")
                fields = layout.unpack(record)
                shown = {k: v for k, v in fields.items() if not k.startswith("reserved")}
                head = {"message_number": number, "protocol": _RINGS[record[0] >> 4]}
                yield head | {"message": layout.name} | shown
    except JournalError as error:
        raise InputError(path, str(error)) from None
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from None
