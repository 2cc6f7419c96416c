"""Seeded order flow as ITCH messages: legal, and as unpleasant as legal flow can be."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

from protocol import itch50
from protocol.layout import Layout

U32_MAX = (1 << 32) - 1
_STOCK = "TEST"


@dataclass(slots=True)
class _Order:
    reference: int
    locate: int
    is_buy: bool
    price: int
    shares: int
    at: int
    """Place in the list of live orders."""


class Flow:
    """Makes up messages that a feed could send, one after the other.

    Each order message names a live order by its own locate and never takes more than is left.
    References come in runs, or with equal low bits, or anywhere in 64 bits. Prices lie around a
    mean, ``depth`` ticks wide, and a few at the ends of their range. Now and then a book is emptied
    from the top. One message in twenty is of a type that changes no book, so that all 23 come.

    Parameters
    ----------
    seed : int
        One seed gives one flow.
    locates : sequence of int
        Stock locates that orders are of, each as often as it stands here.
    live_max : int
        Orders alive at once, at most.
    depth : int
        Width in ticks of the prices of a side.
    """

    def __init__(self, seed: int, locates: Sequence[int], live_max: int, depth: int = 12):
        self._random = Random(seed)
        self._locates = locates
        self._live_max = live_max
        self._depth = depth
        self._orders: list[_Order] = []
        self._references: set[int] = set()
        self._next_reference = self._random.getrandbits(40)
        self._sweep: list[_Order] = []
        self._ts_ns = 34_200_000_000_000
        self._others = [
            layout
            for layout in itch50.MESSAGES.layouts
            if not any(name.endswith("order_reference_number") for name in layout.by_name)
            or layout is itch50.TRADE
        ]

    def __iter__(self) -> Iterator[bytes]:
        while True:
            yield self.message()

    def message(self) -> bytes:
        """Return the next message."""
        random = self._random
        self._ts_ns += random.randrange(1, 2_000)
        if random.random() < 0.05:
            return self._other(random.choice(self._others))
        while self._sweep:
            order = self._sweep.pop()
            if order.reference in self._references:
                return self._delete(order)
        if not self._orders or random.random() < 0.6 * (1 - len(self._orders) / self._live_max):
            return self._add()
        if random.random() < 0.004:
            self._start_sweep()
        at = random.randrange(len(self._orders))
        # The newest orders are the likeliest to go, as in real flow.
        order = self._orders[max(at, random.randrange(len(self._orders)))]
        kind = random.random()
        if kind < 0.35:
            return self._delete(order)
        if kind < 0.55:
            return self._replace(order)
        return self._reduce(order)

    def _pack(self, layout: Layout, locate: int, **values: int | str) -> bytes:
        return layout.pack(stock_locate=locate, tracking_number=0, timestamp=self._ts_ns, **values)

    def _other(self, layout: Layout) -> bytes:
        random = self._random
        body = bytes([layout.code]) + random.randbytes(layout.size - 1)
        locate = 0xFFFF if layout.name == "stock_directory" else random.choice(self._locates)
        return body[:1] + locate.to_bytes(2, "big") + body[3:]

    def _reference(self) -> int:
        random = self._random
        while True:
            kind = random.random()
            if kind < 0.8:
                self._next_reference += random.choice((1, 1, 1, 2, 4))
                reference = self._next_reference
            elif kind < 0.9:
                reference = random.getrandbits(32) << 32 | 0x1234_5678
            else:
                reference = random.getrandbits(64)
            if reference not in self._references:
                return reference

    def _price(self, is_buy: bool) -> int:
        random = self._random
        if random.random() < 0.01:
            return random.choice((0, 1, U32_MAX - 1, U32_MAX, random.getrandbits(32)))
        tick = 100 * int(random.triangular(0, self._depth, 0))
        return 1_000_000 - tick if is_buy else 1_000_100 + tick

    def _enter(self, locate: int, is_buy: bool, price: int) -> _Order:
        shares = self._random.choice((1, 100, 100, 200, self._random.randrange(1, 5_000)))
        order = _Order(self._reference(), locate, is_buy, price, shares, len(self._orders))
        self._orders.append(order)
        self._references.add(order.reference)
        return order

    def _leave(self, order: _Order) -> None:
        last = self._orders.pop()
        if last is not order:
            self._orders[order.at] = last
            last.at = order.at
        self._references.discard(order.reference)

    def _add(self) -> bytes:
        random = self._random
        is_buy = random.random() < 0.5
        order = self._enter(random.choice(self._locates), is_buy, self._price(is_buy))
        values = {
            "order_reference_number": order.reference,
            "buy_sell_indicator": "B" if is_buy else "S",
            "shares": order.shares,
            "stock": _STOCK,
            "price": order.price,
        }
        if random.random() < 0.2:
            return self._pack(itch50.ADD_ORDER_MPID, order.locate, **values, attribution="UBSS")
        return self._pack(itch50.ADD_ORDER, order.locate, **values)

    def _delete(self, order: _Order) -> bytes:
        self._leave(order)
        return self._pack(itch50.ORDER_DELETE, order.locate, order_reference_number=order.reference)

    def _replace(self, order: _Order) -> bytes:
        self._leave(order)
        new = self._enter(order.locate, order.is_buy, self._price(order.is_buy))
        return self._pack(
            itch50.ORDER_REPLACE,
            order.locate,
            original_order_reference_number=order.reference,
            new_order_reference_number=new.reference,
            shares=new.shares,
            price=new.price,
        )

    def _reduce(self, order: _Order) -> bytes:
        random = self._random
        shares = random.choice((order.shares, random.randint(1, order.shares)))
        order.shares -= shares
        if order.shares == 0:
            self._leave(order)
        kind = random.randrange(3)
        if kind == 0:
            return self._pack(
                itch50.ORDER_CANCEL,
                order.locate,
                order_reference_number=order.reference,
                canceled_shares=shares,
            )
        executed = {
            "order_reference_number": order.reference,
            "executed_shares": shares,
            "match_number": random.getrandbits(64),
        }
        if kind == 1:
            return self._pack(itch50.ORDER_EXECUTED, order.locate, **executed)
        return self._pack(
            itch50.ORDER_EXECUTED_WITH_PRICE,
            order.locate,
            **executed,
            printable=random.choice("YN"),
            execution_price=order.price,
        )

    def _start_sweep(self) -> None:
        """Empty one side of one book, the best price first."""
        order = self._random.choice(self._orders)
        side = [o for o in self._orders if o.locate == order.locate and o.is_buy == order.is_buy]
        self._sweep = sorted(side, key=lambda o: o.price if o.is_buy else -o.price)
