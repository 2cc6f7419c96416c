"""Book stage: orders and price levels of the configured symbols.

Levels are counted, not queued: the card needs the best price with its shares and number of orders.
The best price of a side is the top of a heap from which emptied prices are taken lazily.
"""

import heapq
from typing import NamedTuple

from protocol.reasons import StaleReason


class RestingOrder(NamedTuple):
    """What the book remembers of an order."""

    symbol_index: int
    buys: bool
    price: int
    shares: int


class Level(NamedTuple):
    """A best level; all zero for an empty side."""

    price: int = 0
    shares: int = 0
    orders: int = 0


class _Ladder:
    """One side of one symbol. ``sign`` is -1 for bids, so that the heap's top is the best price."""

    def __init__(self, sign: int):
        self._sign = sign
        self._heap: list[int] = []
        self._levels: dict[int, tuple[int, int]] = {}

    def change(self, price: int, shares: int, orders: int) -> None:
        """Add shares and orders to a level, or with negative numbers take them off.

        An emptied level stays until it comes to the heap's top, so that a price stands in the heap
        once, however often its level comes and goes.
        """
        level = self._levels.get(price)
        if level is None:
            heapq.heappush(self._heap, self._sign * price)
            level = (0, 0)
        self._levels[price] = (level[0] + shares, level[1] + orders)

    def best(self) -> Level:
        """Return the best level that has orders."""
        heap = self._heap
        while heap:
            price = self._sign * heap[0]
            level = self._levels[price]
            if level[1]:
                return Level(price, *level)
            heapq.heappop(heap)
            del self._levels[price]
        return Level()


class Book:
    """The books of all configured symbols, by symbol index.

    Every operation returns why the symbol became stale by it, or ``StaleReason.NONE``. A book that
    is stale is kept up as far as that goes: nothing is guessed.

    Parameters
    ----------
    symbol_count : int
        Symbols.
    order_count : int
        Orders that can be remembered at once.
    """

    def __init__(self, symbol_count: int, order_count: int):
        self._order_count = order_count
        self._orders: dict[int, RestingOrder] = {}
        self._bids = [_Ladder(-1) for _ in range(symbol_count)]
        self._asks = [_Ladder(1) for _ in range(symbol_count)]

    def best(self, index: int) -> tuple[Level, Level]:
        """Return best bid and best ask."""
        return self._bids[index].best(), self._asks[index].best()

    def find(self, reference: int) -> RestingOrder | None:
        """Return the order under a reference."""
        return self._orders.get(reference)

    def add(self, reference: int, order: RestingOrder) -> StaleReason:
        """Put an order on the book."""
        if reference in self._orders:
            return StaleReason.DUPLICATE_REFERENCE
        if order.shares == 0:
            return StaleReason.INVALID_ORDER
        if len(self._orders) >= self._order_count:
            return StaleReason.ORDER_MAP_FULL
        self._orders[reference] = order
        self._change(order, order.shares, 1)
        return StaleReason.NONE

    def reduce(self, index: int, reference: int, shares: int) -> StaleReason:
        """Take shares off an order; at zero it leaves the book. [ITCH 5.0: 1.4]"""
        order = self._orders.get(reference)
        if order is None:
            return StaleReason.UNKNOWN_REFERENCE
        if order.symbol_index != index:
            return StaleReason.LOCATE_MISMATCH
        if shares >= order.shares:
            self._remove(reference, order)
            return StaleReason.OVERFILL if shares > order.shares else StaleReason.NONE
        self._orders[reference] = order._replace(shares=order.shares - shares)
        self._change(order, -shares, 0)
        return StaleReason.NONE

    def delete(self, index: int, reference: int) -> StaleReason:
        """Take an order off the book."""
        order = self._orders.get(reference)
        if order is None:
            return StaleReason.UNKNOWN_REFERENCE
        if order.symbol_index != index:
            return StaleReason.LOCATE_MISMATCH
        self._remove(reference, order)
        return StaleReason.NONE

    def replace(self, index: int, old: int, new: int, shares: int, price: int) -> StaleReason:
        """Put another order of the same side in an order's place."""
        order = self._orders.get(old)
        reason = self.delete(index, old)
        if reason is not StaleReason.NONE or order is None:
            return reason
        return self.add(new, RestingOrder(index, order.buys, price, shares))

    def _remove(self, reference: int, order: RestingOrder) -> None:
        del self._orders[reference]
        self._change(order, -order.shares, -1)

    def _change(self, order: RestingOrder, shares: int, orders: int) -> None:
        side = self._bids if order.buys else self._asks
        side[order.symbol_index].change(order.price, shares, orders)
