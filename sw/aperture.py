"""The file of an aperture: found by its name, mapped, locked. Its content: ``protocol.aperture``.

The file is ``tickwire.NAME`` in ``/dev/shm``. Whoever serves it and whoever is attached to it hold
a lock of one byte each, which the system takes back when the process dies, however it dies. So a
lock tells the living from the dead without a clock, and what a dead card left is recognised.
"""

import fcntl
import mmap
import os
import platform
import re
import struct
from pathlib import Path
from typing import Self

from protocol import aperture
from protocol.aperture import PAGE_SIZE, Holder
from protocol.layout import Layout
from sw.errors import (
    AttachError,
    CardAbsentError,
    IdentityMismatchError,
    VersionMismatchError,
)

FOLDER = Path("/dev/shm")
_PREFIX = "tickwire."
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FLOCK = "hhqqi4x"  # `struct flock` of Linux: type, whence, start, length, pid.
_ORDERED = ("x86_64", "AMD64")


class Aperture:
    """An aperture as one process sees it. Made by :func:`create` and :func:`attach`.

    Attributes
    ----------
    name : str
        Of the card.
    words : memoryview
        The control page, by 64-bit words. [protocol.aperture]
    memory : memoryview
        Host memory.
    """

    def __init__(self, name: str, file: int, size: int):
        self.name = name
        self._file = file
        self._map = mmap.mmap(file, size)
        self._bytes = memoryview(self._map)
        self.words = self._bytes[:PAGE_SIZE].cast("Q")
        self.memory = self._bytes[PAGE_SIZE:]

    def get(self, line: Layout, field: str) -> int:
        """Return a field of the control page."""
        return self.words[aperture.word(line, field)]

    def set(self, line: Layout, field: str, value: int) -> None:
        """Write a field of the control page."""
        self.words[aperture.word(line, field)] = value

    def lock(self, holder: Holder) -> bool:
        """Become a holder until :meth:`close`. Returns False when another process is."""
        return _lock(self._file, holder)

    def is_held(self, holder: Holder) -> bool:
        """Whether somebody else is this holder. A system call."""
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, holder, 1, 0)
        found: int = struct.unpack(_FLOCK, fcntl.fcntl(self._file, fcntl.F_OFD_GETLK, asked))[0]
        return found != fcntl.F_UNLCK

    def unlink(self) -> None:
        """Take the name away; whoever has mapped the file keeps it."""
        path_of(self.name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of memory and locks. Every view of the memory must have been released."""
        self.memory.release()
        self.words.release()
        self._bytes.release()
        self._map.close()
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def path_of(name: str) -> Path:
    """Return where a card's aperture lies.

    Raises :class:`~sw.errors.AttachError` for a name that cannot be, or a machine that cannot have
    one.
    """
    if platform.machine() not in _ORDERED or not FOLDER.is_dir():
        raise AttachError(f"APERTURE_NEEDS_X86_LINUX: machine={platform.machine()}")
    if not _NAME.fullmatch(name):
        raise AttachError(f"CARD_NAME_WRONG: name={name!r}, pattern={_NAME.pattern}")
    return FOLDER / f"{_PREFIX}{name}"


def create(name: str, memory_size: int, kind: str) -> tuple[Aperture, bool]:
    """Make an aperture and hold it as its card. Its identity is left to :func:`publish`.

    Returns it, and whether it stands in place of one that a dead card left.

    Raises
    ------
    AttachError
        If a card of this name is being served, or the name cannot be.
    """
    path, replaced = path_of(name), False
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            replaced |= _remove_if_dead(name, path)
            continue
        if _lock(file, Holder.CARD):
            break
        os.close(file)  # Another card took it for a dead one's, before it could be locked.
    os.ftruncate(file, PAGE_SIZE + memory_size)
    made = Aperture(name, file, PAGE_SIZE + memory_size)
    head = aperture.HEAD.pack(
        identity=0,
        version=aperture.VERSION,
        memory_size=memory_size,
        card_pid=os.getpid(),
        kind=kind,
    )
    for at in range(0, len(head), 8):
        made.words[at // 8] = int.from_bytes(head[at : at + 8], "little")
    return made, replaced


def publish(made: Aperture) -> None:
    """Let hosts find an aperture, now that the card behind it answers."""
    made.set(aperture.HEAD, "identity", aperture.IDENTITY)


def _remove_if_dead(name: str, path: Path) -> bool:
    """Remove the file that a dead card left. Raises when its card lives."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not _lock(file, Holder.CARD):
            head = os.pread(file, aperture.HEAD.size, 0).ljust(aperture.HEAD.size, b"\0")
            pid = aperture.HEAD.unpack(head)["card_pid"]
            raise AttachError(f"CARD_NAME_TAKEN: name={name}, pid={pid}")
        # What lies under the name now may be another's: only what is locked here is dead.
        if _is_at(file, path):
            path.unlink()
            return True
        return False
    finally:
        os.close(file)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def _lock(file: int, holder: Holder) -> bool:
    # A lock of the open file, not of the process: two holders may live in one process.
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, holder, 1, 0)
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        return False
    return True


def attach(name: str) -> Aperture:
    """Map a served card's aperture and hold it as its host.

    Raises
    ------
    IdentityMismatchError, VersionMismatchError
        If the file is no aperture, or one of another version.
    CardAbsentError
        If there is no such card, or it is dead.
    AttachError
        If another host is attached.
    """
    path = path_of(name)
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CardAbsentError(f"CARD_NOT_SERVED: name={name}") from None
    except PermissionError:
        raise AttachError(f"CARD_NOT_PERMITTED: name={name}") from None
    size = os.fstat(file).st_size
    if size < PAGE_SIZE:
        os.close(file)
        raise CardAbsentError(f"CARD_NOT_READY: name={name}, size={size}")
    found = Aperture(name, file, size)
    try:
        _check(found)
        if not found.lock(Holder.HOST):
            pid = found.get(aperture.HOST, "host_pid")
            raise AttachError(f"CARD_ATTACHED: name={name}, host_pid={pid}")
    except BaseException:
        found.close()
        raise
    found.set(aperture.HOST, "host_pid", os.getpid())
    return found


def _check(found: Aperture) -> None:
    identity = found.get(aperture.HEAD, "identity")
    version = found.get(aperture.HEAD, "version")
    name, pid = found.name, found.get(aperture.HEAD, "card_pid")
    if not found.is_held(Holder.CARD):
        raise CardAbsentError(f"CARD_DEAD: name={name}, pid={pid}")
    if identity == 0:
        raise CardAbsentError(f"CARD_NOT_READY: name={name}, pid={pid}")
    if identity != aperture.IDENTITY:
        raise IdentityMismatchError(
            f"APERTURE_IDENTITY_MISMATCH: name={name}, identity=0x{identity:016x}, "
            f"expected=0x{aperture.IDENTITY:016x}"
        )
    if version != aperture.VERSION:
        raise VersionMismatchError(
            f"APERTURE_VERSION_MISMATCH: name={name}, version={version}, "
            f"expected={aperture.VERSION}"
        )
