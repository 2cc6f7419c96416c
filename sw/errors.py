"""Broken promises, as one tree of exceptions.

Expected refusals (a denied order, a full ring) are values and never raised::

    HostError
    ├── CardError                  the card is not one that this host can drive
    │   ├── IdentityMismatchError  no card at all behind these registers
    │   ├── VersionMismatchError   a card of another register map
    │   ├── AttachError            a card of another process that cannot be had, or served
    │   │   └── CardAbsentError    no card is served under this name
    │   └── CardLostError          a card that was attached and is no longer there
    ├── RingError                  a ring that can not be, or a record that is none
    ├── OrderStateError            an event that the order's state does not allow
    └── JournalError               a journal that can not be read

Messages read ``CONDITION: key=value, key=value``.
"""


class HostError(Exception):
    """Root of everything that the host raises."""


class CardError(HostError):
    """The card is not one that this host can drive."""


class IdentityMismatchError(CardError):
    """No card answers behind these registers."""


class VersionMismatchError(CardError):
    """The card's register map has another major version."""


class AttachError(CardError):
    """A card in another process cannot be attached to, or cannot be served under its name."""


class CardAbsentError(AttachError):
    """No card is served under this name: there never was one, or it is dead, or not ready yet."""


class CardLostError(CardError):
    """The card that the host was attached to has ended or does not beat any more."""


class RingError(HostError):
    """A ring's geometry is impossible, or a record has an unknown type."""


class OrderStateError(HostError):
    """An event arrived that the order's state does not allow."""


class JournalError(HostError):
    """A file is not a journal of this version, or it is cut short."""
