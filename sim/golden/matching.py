"""A matching engine as the rules read: every order in one list that is sorted and searched anew.

It shares nothing with the venue's engine but the words of ``protocol``, and is what that one is
compared with. Every request returns what happened as tuples, the kind first:

- ``accepted``: order, shares, price, time in force
- ``added``, ``refreshed``: order, reference, displayed shares, price
- ``executed``: maker, taker, shares, price, displayed shares among them
- ``crossed``: buyer, seller, shares, price
- ``canceled``, ``modified``: order, shares that left, reason or side
- ``self-matched``: order, shares that left, shares that would have traded
- ``replaced``: order, the one it replaced, shares, price, whether it stood at once
- ``repriced``: order, price
- ``rejected``: order, reason
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from protocol.orders import Side, TimeInForce
from protocol.ouch50 import PRICE_MAX, QUANTITY_MAX

MARKET = 0x7FFF_FFFF
TRADING, QUOTING, PAUSED, HALTED, CLOSED = range(5)
TRADE, CANCEL_NEWEST, CANCEL_OLDEST, DECREMENT = range(4)
CONTINUOUS, OPENING, CLOSING = range(3)

Told = tuple[Any, ...]


@dataclass
class Order:
    """A live order. ``stamp`` is its place in time, ``shown`` what it displays."""

    order_id: int
    locate: int
    side: Side
    price: int
    leaves: int
    tif: TimeInForce = TimeInForce.DAY
    participant: int = 0
    hidden: bool = False
    post_only: bool = False
    min_qty: int = 0
    max_floor: int = 0
    self_match: int = TRADE
    session: int = CONTINUOUS
    cum: int = 0
    shown: int = 0
    stamp: int = 0
    reference: int = 0

    @property
    def buys(self) -> bool:
        """Whether it stands among the bids."""
        return self.side is Side.BUY

    @property
    def is_market(self) -> bool:
        """Whether it trades at any price."""
        return self.price in (0, MARKET)

    def reaches(self, price: int) -> bool:
        """Whether it trades at a price."""
        return price <= self.price if self.buys else price >= self.price

    def to_show(self) -> int:
        """Return what it displays when it is displayed anew."""
        if self.hidden or self.session != CONTINUOUS:
            return 0
        return min(self.max_floor, self.leaves) if self.max_floor else self.leaves


class Venue:
    """All symbols. Prices in 1e-4 USD, quantities in shares."""

    def __init__(self) -> None:
        self.orders: list[Order] = []
        self.states: dict[int, int] = {}
        self.bands: dict[int, tuple[int, int]] = {}
        self.told: list[Told] = []
        self._stamps = 0
        self._references = 0

    # What is there.

    def find(self, order_id: int) -> Order | None:
        """Return a live order."""
        return next((order for order in self.orders if order.order_id == order_id), None)

    def queue(self, locate: int, buys: bool, session: int = CONTINUOUS) -> list[Order]:
        """Return the orders of a side in priority: price, displayed or not, time."""
        found = [o for o in self.orders if (o.locate, o.buys) == (locate, buys)]
        found = [o for o in found if o.session == session]
        sign = -1 if buys else 1
        return sorted(found, key=lambda o: (sign * o.price, o.hidden, o.stamp))

    def levels(self, locate: int, buys: bool) -> list[tuple[int, int, int]]:
        """Return price, displayed shares and number of orders of each displayed level."""
        shown = [order for order in self.queue(locate, buys) if order.shown]
        prices = list(dict.fromkeys(order.price for order in shown))
        parts = [[order.shown for order in shown if order.price == price] for price in prices]
        return [(price, sum(part), len(part)) for price, part in zip(prices, parts, strict=True)]

    # Requests.

    def enter(self, new: Order) -> list[Told]:
        """Take an order whose ``leaves`` is its quantity."""
        self.told = []
        if self.find(new.order_id):
            return self.told
        order = replace(new)
        reason = self._reason_against(order)
        if reason:
            return [("rejected", order.order_id, reason)]
        self._references += 1
        order.reference = self._references
        if order.price > PRICE_MAX:
            order.price = MARKET if order.buys else 0
        else:
            order.price = self._limit(order)
        if order.session != CONTINUOUS:
            order.hidden = True
        if order.min_qty and not order.hidden:
            order.tif = TimeInForce.IOC
        shown_price = new.price if order.is_market else order.price
        self.told.append(("accepted", order.order_id, order.leaves, shown_price, order.tif))
        self._admit(order)
        return self.told

    def cancel(self, order_id: int, qty: int) -> list[Told]:
        """Reduce an order to an intended size, executed shares included."""
        self.told = []
        order = self.find(order_id)
        if order and (left := max(qty - order.cum, 0)) < order.leaves:
            self._reduce(order, left, "canceled", "U")
        return self.told

    def modify(self, order_id: int, side: Side, qty: int) -> list[Told]:
        """Change the kind of a sale, or reduce."""
        self.told = []
        order = self.find(order_id)
        if order and order.buys == (side is Side.BUY) and 0 < qty - order.cum <= order.leaves:
            order.side = side
            self._reduce(order, qty - order.cum, "modified", side)
        return self.told

    def replace(
        self, orig_id: int, order_id: int, qty: int, price: int, tif: TimeInForce
    ) -> list[Told]:
        """Exchange an order for one behind all others."""
        self.told = []
        order = self.find(orig_id)
        if order is None or self.find(order_id):
            return self.told
        state = self.states.get(order.locate, TRADING)
        if qty - order.cum <= 0 or qty > QUANTITY_MAX or not _is_price(price):
            self._reduce(order, 0, "canceled", "U")
        elif state in (HALTED, CLOSED):
            self.told.append(("rejected", order_id, 7 if state == HALTED else 2))
        else:
            was_shown = order.shown > 0
            self.orders.remove(order)
            order.order_id, order.leaves, order.tif = order_id, qty - order.cum, tif
            order.shown, order.price = 0, price
            order.min_qty = min(order.min_qty, order.leaves)
            if price > PRICE_MAX:
                order.price = MARKET if order.buys else 0
            else:
                order.price = self._limit(order)
            self._references += 1
            order.reference = self._references
            if order.min_qty and not order.hidden:
                order.tif = TimeInForce.IOC
            stands = was_shown and not order.hidden and order.tif is TimeInForce.DAY
            stands = stands and not order.is_market and not (state == TRADING and self._met(order))
            self.told.append(("replaced", order_id, orig_id, order.leaves, order.price, stands))
            if stands:
                self._rest(order, tell=False)
            else:
                self._admit(order)
        return self.told

    def mass_cancel(self, participant: int, locate: int, reason: str = "U") -> list[Told]:
        """Cancel a participant's orders of a symbol; 0 stands for all."""
        self.told = []
        locates = [locate] if locate else sorted({order.locate for order in self.orders})
        for one in locates:
            for session in (CONTINUOUS, OPENING, CLOSING):
                for buys in (True, False):
                    self._cancel_all(self.queue(one, buys, session), participant, reason)
        return self.told

    def set_bands(self, locate: int, lower: int, upper: int) -> list[Told]:
        """Set price bands, and move what is outside."""
        self.told = []
        self.bands[locate] = (lower, upper)
        for buys in (True, False):
            for order in self.queue(locate, buys):
                price = self._limit(order)
                if price != order.price:
                    order.price, order.shown = price, order.to_show()
                    self._stamps += 1
                    self._references += 1
                    order.stamp, order.reference = self._stamps, self._references
                    self.told.append(("repriced", order.order_id, price))
        return self.told

    def cross(self, locate: int, session: int, reference_price: int) -> list[Told]:
        """Trade what trades at one price, then end the orders that waited for it."""
        self.told = []
        price, left = self.cross_price(locate, session, reference_price)
        while left:
            buyer, seller = (self._best_in_cross(locate, session, buys) for buys in (True, False))
            qty = min(buyer.leaves, seller.leaves, left)
            left -= qty
            self.told.append(("crossed", buyer.order_id, seller.order_id, qty, price))
            for order in (buyer, seller):
                order.cum += qty
                self._take(order, qty)
                self._settle(order)
        if session != CONTINUOUS:
            for buys in (True, False):
                self._cancel_all(self.queue(locate, buys, session), 0, "E")
        return self.told

    def cross_price(self, locate: int, session: int, reference_price: int) -> tuple[int, int]:
        """Return price and shares of a cross, every price tried; the first rule that decides."""
        orders = [o for o in self.orders if o.locate == locate]
        orders = [o for o in orders if o.session in (CONTINUOUS, session)]
        prices = {order.price for order in orders if not order.is_market}
        tried = []
        for price in sorted(prices | ({reference_price} - {0})):
            buys = sum(o.leaves for o in orders if o.buys and o.reaches(price))
            sells = sum(o.leaves for o in orders if not o.buys and o.reaches(price))
            more = buys > sells
            is_left = buys != sells and any(o.price == price and o.buys == more for o in orders)
            distance = abs(price - reference_price)
            rank = (-min(buys, sells), abs(buys - sells), not is_left, distance, price)
            tried.append((rank, price, min(buys, sells)))
        if not tried or min(tried)[2] == 0:
            return 0, 0
        return min(tried)[1:]

    # Parts.

    def _reason_against(self, order: Order) -> int:
        state = self.states.get(order.locate, TRADING)
        checks = (
            (not 0 < order.leaves <= QUANTITY_MAX, 0x13),
            (not _is_price(order.price), 0x1D),
            (not 0 <= order.min_qty <= order.leaves, 0x0D),
            (order.max_floor < 0 or (order.max_floor > 0 and order.hidden), 0x04),
            (state == HALTED, 0x07),
            (state == CLOSED, 0x02),
        )
        return next((reason for fails, reason in checks if fails), 0)

    def _limit(self, order: Order) -> int:
        lower, upper = self.bands.get(order.locate, (0, 0))
        if order.buys:
            return min(order.price, upper) if upper else order.price
        return max(order.price, lower)

    def _met(self, order: Order) -> list[Order]:
        """Return the resting orders that an order reaches, in priority."""
        limited = replace(order, price=self._limit(order))
        found = self.queue(order.locate, not order.buys)
        return [maker for maker in found if limited.reaches(maker.price)]

    def _admit(self, order: Order) -> None:
        if order.session == CONTINUOUS and self.states.get(order.locate, TRADING) == TRADING:
            met = self._met(order)
            if order.post_only and met:
                self._drop(order, "G" if any(maker.shown for maker in met) else "F")
                return
            if order.min_qty and self._executable(order) < order.min_qty:
                if order.tif is TimeInForce.IOC:
                    self._drop(order, "I")
                else:
                    self._rest(order)
                return
            self.match(order)
        if order.leaves:
            waits = order.session != CONTINUOUS
            if not waits and (order.tif is TimeInForce.IOC or order.is_market):
                self._drop(order, "I")
            else:
                self._rest(order)

    def _executable(self, order: Order) -> int:
        """Return the shares that an order would execute, found by letting it."""
        trial = deepcopy(self)
        trial.told = []
        trial.match(replace(order))
        return sum(told[3] for told in trial.told if told[0] == "executed")

    def match(self, taker: Order) -> None:
        """Trade an order that does not rest with what it reaches."""
        while taker.leaves:
            met = [m for m in self._met(taker) if not m.hidden or m.min_qty <= taker.leaves]
            if not met:
                return
            maker = met[0]
            qty = min(taker.leaves, maker.shown or maker.leaves)
            own = taker.self_match != TRADE and taker.participant == maker.participant != 0
            if not own:
                shown = min(qty, maker.shown)
                self.told.append(
                    ("executed", maker.order_id, taker.order_id, qty, maker.price, shown)
                )
                for order in (taker, maker):
                    order.cum += qty
                    self._take(order, qty)
            elif taker.self_match == CANCEL_NEWEST:
                self._lose(taker, taker.leaves, qty)
            elif taker.self_match == CANCEL_OLDEST:
                self._lose(maker, maker.leaves, qty)
            else:
                for order in (taker, maker):
                    order.cum += qty
                    self._lose(order, qty, qty)
            self._settle(maker)

    def _lose(self, order: Order, qty: int, prevented: int) -> None:
        self.told.append(("self-matched", order.order_id, qty, prevented))
        self._take(order, qty)

    def _take(self, order: Order, qty: int) -> None:
        order.leaves -= qty
        order.shown = max(order.shown - qty, 0)
        order.min_qty = min(order.min_qty, order.leaves)

    def _settle(self, order: Order) -> None:
        if not order.leaves:
            self.orders.remove(order)
        elif not order.shown and not order.hidden:
            self._stamps += 1
            self._references += 1
            order.stamp, order.reference = self._stamps, self._references
            order.shown = order.to_show()
            self.told.append(
                ("refreshed", order.order_id, order.reference, order.shown, order.price)
            )

    def _rest(self, order: Order, tell: bool = True) -> None:
        self._stamps += 1
        order.stamp, order.shown = self._stamps, order.to_show()
        self.orders.append(order)
        if order.shown and tell:
            self.told.append(("added", order.order_id, order.reference, order.shown, order.price))

    def _drop(self, order: Order, reason: str) -> None:
        self.told.append(("canceled", order.order_id, order.leaves, reason))

    def _reduce(self, order: Order, left: int, kind: str, reason: object) -> None:
        self.told.append((kind, order.order_id, order.leaves - left, reason))
        order.leaves, order.shown = left, min(order.shown, left)
        order.min_qty = min(order.min_qty, left)
        if not left:
            self.orders.remove(order)

    def _cancel_all(self, orders: list[Order], participant: int, reason: str) -> None:
        for order in orders:
            if participant in (0, order.participant):
                self._reduce(order, 0, "canceled", reason)

    def _best_in_cross(self, locate: int, session: int, buys: bool) -> Order:
        orders = self.queue(locate, buys)
        if session != CONTINUOUS:
            orders += self.queue(locate, buys, session)
        sign = -1 if buys else 1
        rank = [
            (sign * o.price, o.session != CONTINUOUS or not o.shown, o.session == CONTINUOUS)
            for o in orders
        ]
        return orders[rank.index(min(rank))]


def _is_price(price: int) -> bool:
    return 0 < price <= PRICE_MAX or price in (MARKET, 200_000_0000)
