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

from collections.abc import Mapping
from dataclasses import replace

from protocol.orders import Side
from sim.venue.matching import Event, Executed, MatchingEngine, NewOrder, SelfMatch, request
from sim.venue.records import HIDDEN, NONE, Op
from sim.venue.tape import UNKNOWN_COUNTERPARTY

__all__ = ["UNKNOWN_COUNTERPARTY", "ReplayBook"]

_US = 1
_MAX = 0x7FFF_FFFF


class ReplayBook(MatchingEngine):
    """A matching engine for our orders in a market that is played from a tape.

    ``enter``, ``cancel`` and ``replace`` are ours, the ``on_`` methods are the tape's and return
    what it filled of ours. Order ids are ours, references are the tape's: one number may be both.
    Depth and best prices show both. An unknown reference, a new one that is already there, or an
    order without shares or beyond 31 bits is ignored and counted.
    """

    def __init__(self, orders: int = 1024, events: int = 4096) -> None:
        super().__init__(orders, events)
        self._memory.core.head["replays"] = 1

    @property
    def ignored_count(self) -> int:
        """Tape messages that were not used."""
        return int(self._memory.core.head["ignored_count"][0])

    def enter(self, order: NewOrder) -> list[Event]:
        """Accept an order of ours: see :meth:`MatchingEngine.enter`."""
        ours = replace(order, participant=_US, self_match=SelfMatch.CANCEL_NEWEST)
        return super().enter(ours)

    def background(self, fields: Mapping[str, int | str | bytes]) -> list[Executed]:
        """Apply one ITCH message, given by field name. Types that do not change books do nothing.

        [ITCH 5.0: 1.3, 1.4]
        """

        def number(name: str) -> int:
            return int(fields[name])

        match fields["message_type"]:
            case "A" | "F" if fields["buy_sell_indicator"] not in ("B", "S"):
                self._ignore()
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
        if not (0 < shares <= _MAX and price <= _MAX):
            self._ignore()
            return []
        ids = {"order_id": _signed(ref), "locate": locate}
        return self._tape(request(Op.TAPE_ADD, **ids, side=side, qty=shares, price=price))

    def on_execute(self, ref: int, shares: int) -> list[Executed]:
        """Execute shares of a recorded order (E, C)."""
        return self._tape(request(Op.TAPE_EXECUTE, _signed(ref), qty=shares))

    def on_reduce(self, ref: int, shares: int) -> None:
        """Cancel some shares of a recorded order (X)."""
        self._tape(request(Op.TAPE_REDUCE, _signed(ref), qty=shares))

    def on_delete(self, ref: int) -> None:
        """Cancel a recorded order (D)."""
        self._tape(request(Op.TAPE_REDUCE, _signed(ref), qty=_MAX))

    def on_replace(self, orig_ref: int, ref: int, shares: int, price: int) -> list[Executed]:
        """Replace a recorded order (U). What we took of the original stays taken."""
        if not (0 < shares <= _MAX and price <= _MAX):
            self._ignore()
            return []
        ids = {"order_id": _signed(ref), "orig_id": _signed(orig_ref)}
        return self._tape(request(Op.TAPE_REPLACE, **ids, qty=shares, price=price))

    def shares_ahead(self, order_id: int) -> int:
        """Return the shares, everybody's, that stand before our order at its own price.

        Raises :class:`KeyError` when the order is not live.
        """
        core, slot = self._memory.core, self._memory.slot_of(order_id)
        if slot == NONE:
            raise KeyError(order_id)
        shares, ahead = 0, int(core.orders[slot]["previous"])
        if core.orders[slot]["flags"] & HIDDEN:
            shares = int(core.levels[core.orders[slot]["level"]]["shown_qty"])
        while ahead != NONE:
            shares += int(core.orders[ahead]["leaves_qty"])
            ahead = int(core.orders[ahead]["previous"])
        return shares

    def _tape(self, one: bytes) -> list[Executed]:
        return [event for event in self._do(one) if isinstance(event, Executed)]

    def _ignore(self) -> None:
        self._memory.core.head["ignored_count"] += 1


def _signed(reference: int) -> int:
    # 64 bits, of which the engine reads the first as a sign.
    return reference - (1 << 64) if reference >> 63 else reference
