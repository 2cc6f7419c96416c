"""Ring stage, card to host: the market ring's writer, with conflation when it is full."""

from collections.abc import Callable

from sw.ring import RingWriter

SequenceAndTime = tuple[int, int]
"""Feed sequence number and ITCH time of the message that caused a record."""


class MarketWriter:
    """Publishes market records; when the ring is full the newest best bid and offer survives.

    A symbol whose change finds no slot waits, and is written from its book as soon as there is one,
    with the number of changes that were skipped. Other records without a slot are counted and lost.

    Parameters
    ----------
    writer : RingWriter
        The market ring.
    make_bbo : callable
        Called with symbol index, cause and skipped changes; returns the record
        of the book as it is.
    """

    def __init__(self, writer: RingWriter, make_bbo: Callable[[int, SequenceAndTime, int], bytes]):
        self._writer = writer
        self._make_bbo = make_bbo
        self._waiting: dict[int, tuple[SequenceAndTime, int]] = {}
        self.bbo_changes = 0
        self.bbo_conflated = 0
        self.skipped = 0

    @property
    def high_water(self) -> int:
        return self._writer.high_water

    def put_bbo(self, index: int, cause: SequenceAndTime) -> None:
        """Publish a symbol's best bid and offer, or let it wait for a slot."""
        self.bbo_changes += 1
        _, skipped = self._waiting.get(index, (cause, -1))
        self._waiting[index] = (cause, skipped + 1)
        self.bbo_conflated += skipped >= 0
        self.flush()

    def put(self, record: bytes) -> None:
        """Publish any other record."""
        self.flush()
        if self._waiting or not self._writer.put(record):
            self.skipped += 1

    def flush(self) -> None:
        """Publish what waits, oldest first, as far as there are slots."""
        while self._waiting and self._writer.free:
            index, (cause, skipped) = next(iter(self._waiting.items()))
            self._writer.put(self._make_bbo(index, cause, skipped))
            del self._waiting[index]
