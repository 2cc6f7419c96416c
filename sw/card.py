"""A card as the host sees it: registers and memory, whatever stands behind them."""

from dataclasses import dataclass
from multiprocessing.shared_memory import SharedMemory
from typing import Protocol, cast

from protocol import registers
from protocol.registers import Register
from sw.errors import IdentityMismatchError, VersionMismatchError


class Card(Protocol):
    """Registers plus memory: the whole interface between host and card.

    One suite of contract tests runs over everything that claims to be a card.
    """

    @property
    def memory(self) -> memoryview:
        """Host memory that the card reads and writes, where the rings live."""

    def read(self, address: int) -> int:
        """Return a register's 64 bits. An address without a register reads 0."""

    def write(self, address: int, value: int) -> None:
        """Write a register. Writes to read-only registers and to no register do nothing."""


@dataclass(frozen=True, slots=True)
class CardInfo:
    """What a card says of itself."""

    version_major: int
    version_minor: int
    symbol_count: int
    order_count: int


def read(card: Card, register: Register, index: int = 0) -> int:
    """Return a register's value."""
    return card.read(register.address(index))


def write(card: Card, register: Register, value: int, index: int = 0) -> None:
    """Write a register."""
    card.write(register.address(index), value)


def identify(card: Card) -> CardInfo:
    """Return what the card says of itself, or refuse it.

    Raises
    ------
    IdentityMismatchError
        If the identity register does not read ``TICKWIRE``.
    VersionMismatchError
        If the major version is not the one this host was built for.
    """
    identity = read(card, registers.IDENTITY_REGISTER)
    if identity != registers.IDENTITY:
        raise IdentityMismatchError(
            f"CARD_IDENTITY_MISMATCH: identity=0x{identity:016x}, "
            f"expected=0x{registers.IDENTITY:016x}"
        )
    version = read(card, registers.VERSION)
    major, minor = version >> 16, version & 0xFFFF
    if major != registers.VERSION_MAJOR:
        raise VersionMismatchError(
            f"CARD_VERSION_MISMATCH: version={major}.{minor}, "
            f"expected={registers.VERSION_MAJOR}.{registers.VERSION_MINOR}"
        )
    return CardInfo(
        major,
        minor,
        symbol_count=read(card, registers.SYMBOL_COUNT),
        order_count=read(card, registers.ORDER_COUNT),
    )


class HostMemory:
    """A block of shared memory for the rings, given back when the context ends.

    Parameters
    ----------
    size : int
        Bytes.
    """

    def __init__(self, size: int):
        self._block = SharedMemory(create=True, size=size)
        self.name = self._block.name
        self.view = cast(memoryview, self._block.buf)[:size]

    def __enter__(self) -> memoryview:
        return self.view

    def __exit__(self, *_: object) -> None:
        self.view.release()
        self._block.close()
        self._block.unlink()
