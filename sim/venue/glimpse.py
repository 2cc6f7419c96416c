"""A snapshot of the books for who comes late: GLIMPSE 5.0."""

from collections.abc import Iterator, Mapping

from protocol import itch50
from protocol.glimpse import END_OF_SNAPSHOT
from protocol.orders import Side
from sim.venue.matching import MatchingEngine


def snapshot(
    engine: MatchingEngine,
    stocks: Mapping[int, str],
    opening: list[bytes],
    next_sequence: int,
    now_ns: int,
) -> Iterator[bytes]:
    """Yield the messages of a snapshot: the day's opening messages, an ``A`` for each displayed
    order in the order of priority, and the number of the first live message to apply.

    Parameters
    ----------
    engine : MatchingEngine
        With all that was asked of it answered.
    stocks : mapping of int to str
        Names by locate.
    opening : list of bytes
        Directory, trading state and system events as they are now.
    next_sequence : int
        Of the feed.
    now_ns : int
        Time of the ``A`` messages, ns since midnight.
    """
    yield from opening
    for locate, stock in stocks.items():
        for side in (Side.BUY, Side.SELL):
            for order in engine.book_side(locate, side).orders():
                if order.shown_qty:
                    yield itch50.ADD_ORDER.pack(
                        stock_locate=locate,
                        timestamp=now_ns,
                        order_reference_number=order.reference,
                        buy_sell_indicator=side.name[0],
                        shares=order.shown_qty,
                        stock=stock,
                        price=order.price,
                    )
    yield END_OF_SNAPSHOT.pack(sequence_number=next_sequence)
