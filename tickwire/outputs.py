"""Files that a command writes: refused before any work is done when they can not be right."""

import os
from collections.abc import Iterable
from pathlib import Path

from tickwire.capture import InputError


def check_output(path: Path, inputs: Iterable[Path], *, device: bool = False) -> None:
    """Make the folder of a file that is to be written.

    Raises :class:`InputError` when the path is one of the inputs, or neither new nor a regular
    file. With ``device`` a character device will do, such as ``/dev/stdout``.
    """
    try:
        if path.exists():
            if any(other.exists() and os.path.samefile(path, other) for other in inputs):
                raise InputError(path, "would overwrite what is read")
            if not path.is_file() and not (device and path.is_char_device()):
                raise InputError(path, "is not a regular file")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not device:
            known = path.exists()
            path.open("ab").close()
            if not known:
                path.unlink()
    except OSError as error:
        raise InputError(path, f"cannot be written: {error.strerror or error}") from None
