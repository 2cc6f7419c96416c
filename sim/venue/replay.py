"""A recorded ITCH day as background flow, with our orders queued behind what was there.

The assumption is that we have no impact: history is never changed by us, our orders fill alongside
it. That is fair for sizes that the market would not have noticed, and flatters larger ones.

How our orders fill:

- History executes shares of a resting order, so an aggressor of that size existed. It would have
  met those of our orders first that stand before that order in price-time priority: they fill, at
  their own prices, up to that many shares in total.
- History adds an order whose price reaches ours on the other side: ours fill at their own prices,
  up to its shares. The order is still added in full.
- Our incoming order takes the displayed shares that it reaches, at their prices. What we traded
  with a recorded order is remembered until that order leaves the book, so that no share trades with
  us twice.
- Our orders never trade with one another: an incoming one that meets ours is canceled from there.

Trades with hidden orders fill nothing of ours: the tape does not say who was hit, nor where.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from protocol.orders import Side
from sim.venue.matching import CancelReason, Event, Executed, MatchingEngine, Order, opposite

UNKNOWN_COUNTERPARTY = 0
"""Counterparty id where the tape shows no order: it never names the aggressor."""


@dataclass(slots=True, eq=False)
class RecordedOrder(Order):
    """An order of the tape. ``taken_qty`` shares of it have traded with us."""

    taken_qty: int = 0

    @property
    def available_qty(self) -> int:
        return max(self.leaves_qty - self.taken_qty, 0)


class ReplayBook(MatchingEngine):
    """A matching engine for our orders in a market that is played from a tape.

    ``enter``, ``cancel`` and ``replace`` are ours, the ``on_`` methods are the tape's and return
    what it filled of ours. Order ids are ours, references are the tape's: one number may be both.
    Depth and best prices show both. An unknown reference, or a new one that is already there, is
    ignored and counted.

    Members
    -------
    ignored_count : int
        Tape messages that were not used.
    """

    def __init__(self, match_numbers: Iterator[int] | None = None) -> None:
        super().__init__(match_numbers)
        self._recorded: dict[int, RecordedOrder] = {}
        self.ignored_count = 0

    def background(self, fields: Mapping[str, int | str | bytes]) -> list[Executed]:
        """Apply one ITCH message, given by field name. Types that do not change books do nothing.

        [ITCH 5.0: 1.3, 1.4]
        """

        def number(name: str) -> int:
            return int(fields[name])

        match fields["message_type"]:
            case "A" | "F" if fields["buy_sell_indicator"] not in ("B", "S"):
                self.ignored_count += 1
            case "A" | "F":
                return self.on_add(
                    number("order_reference_number"),
                    number("stock_locate"),
                    Side(ord(str(fields["buy_sell_indicator"]))),
                    number("shares"),
                    number("price"),
                )
            case "E" | "C":
                return self.on_execute(number("order_reference_number"), number("executed_shares"))
            case "X":
                self.on_reduce(number("order_reference_number"), number("canceled_shares"))
            case "D":
                self.on_delete(number("order_reference_number"))
            case "U":
                return self.on_replace(
                    number("original_order_reference_number"),
                    number("new_order_reference_number"),
                    number("shares"),
                    number("price"),
                )
        return []

    def on_add(self, ref: int, locate: int, side: Side, shares: int, price: int) -> list[Executed]:
        """Add a recorded order (A, F)."""
        if ref in self._recorded:
            self.ignored_count += 1
            return []
        return self._add_recorded(RecordedOrder(ref, locate, side, price, shares))

    def on_execute(self, ref: int, shares: int) -> list[Executed]:
        """Execute shares of a recorded order (E, C)."""
        order = self._known(ref)
        if order is None:
            return []
        met = self._ours_before(order)
        fills = self._fill_ours(met, UNKNOWN_COUNTERPARTY, min(shares, order.leaves_qty))
        self._reduce_recorded(order, shares)
        return fills

    def on_reduce(self, ref: int, shares: int) -> None:
        """Cancel some shares of a recorded order (X)."""
        order = self._known(ref)
        if order is not None:
            self._reduce_recorded(order, shares)

    def on_delete(self, ref: int) -> None:
        """Cancel a recorded order (D)."""
        order = self._known(ref)
        if order is not None:
            self._reduce_recorded(order, order.leaves_qty)

    def on_replace(self, orig_ref: int, ref: int, shares: int, price: int) -> list[Executed]:
        """Replace a recorded order (U). What we took of the original stays taken."""
        orig = self._known(orig_ref)
        if orig is None:
            return []
        if ref in self._recorded:
            self.ignored_count += 1
            return []
        self._reduce_recorded(orig, orig.leaves_qty)
        return self._add_recorded(
            RecordedOrder(ref, orig.locate, orig.side, price, shares, taken_qty=orig.taken_qty)
        )

    def shares_ahead(self, order_id: int) -> int:
        """Return the shares, everybody's, that stand before our order at its own price.

        Raises :class:`KeyError` when the order is not live.
        """
        order = self._orders[order_id]
        shares = 0
        for other in self.book_side(order.locate, order.side).at(order.price):
            if other is order:
                break
            shares += other.leaves_qty
        return shares

    def _match(self, taker: Order, events: list[Event]) -> None:
        for maker in self.book_side(taker.locate, opposite(taker.side)).reached(taker.price):
            if not isinstance(maker, RecordedOrder):
                self._drop(taker, CancelReason.SELF_MATCH, events)
                return
            qty = min(taker.leaves_qty, maker.available_qty)
            if qty:
                maker.taken_qty += qty
                number = next(self._match_numbers)
                events.append(self._fill(taker, maker.order_id, qty, maker.price, number, False))
            if not taker.leaves_qty:
                return

    def _ours_before(self, recorded: RecordedOrder) -> list[Order]:
        # Those of our orders that an aggressor meets on its way to a recorded one.
        ours: list[Order] = []
        if self._orders:
            side = self.book_side(recorded.locate, recorded.side)
            for order in side.reached(recorded.price):
                if order is recorded:
                    break
                if not isinstance(order, RecordedOrder):
                    ours.append(order)
        return ours

    def _fill_ours(self, ours: list[Order], counterparty_id: int, shares: int) -> list[Executed]:
        fills: list[Executed] = []
        for order in ours:
            qty = min(order.leaves_qty, shares)
            if not qty:
                break
            shares -= qty
            number = next(self._match_numbers)
            fills.append(self._fill(order, counterparty_id, qty, order.price, number, True))
        return fills

    def _add_recorded(self, order: RecordedOrder) -> list[Executed]:
        fills: list[Executed] = []
        if self._orders:
            reached = self.book_side(order.locate, opposite(order.side)).reached(order.price)
            ours = [met for met in reached if not isinstance(met, RecordedOrder)]
            fills = self._fill_ours(ours, order.order_id, order.available_qty)
            order.taken_qty += sum(fill.last_qty for fill in fills)
        self._recorded[order.order_id] = order
        self.book_side(order.locate, order.side).add(order)
        return fills

    def _known(self, ref: int) -> RecordedOrder | None:
        order = self._recorded.get(ref)
        if order is None:
            self.ignored_count += 1
        return order

    def _reduce_recorded(self, order: RecordedOrder, shares: int) -> None:
        order.leaves_qty = max(order.leaves_qty - shares, 0)
        if not order.leaves_qty:
            del self._recorded[order.order_id]
            self.book_side(order.locate, order.side).remove(order)
