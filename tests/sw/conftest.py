"""Order management with the card's end of its rings, which the test plays."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kernels.exposure import token_bucket
from kernels.risk import LevelLimits, Limits
from protocol import ring
from protocol.layout import Layout
from protocol.orders import Side
from sw.feed import Quote
from sw.oms import Fill, Oms, Order
from sw.ring import RingReader, RingWriter, ring_size
from sw.risk import Risk

OPEN = Limits(
    qty_max=1_000_000,
    notional_max=1 << 50,
    position_max=1_000_000,
    price_band_bp=10_000,
    tick_size=1,
    locate_qty=1_000_000,
    phases=1,
    restricted=False,
)
OPEN_LEVEL = LevelLimits(1 << 55, 1 << 55)
BID, ASK = 999_900, 1_000_100


class Desk:
    """Two symbols with a market of 99.99 to 100.01, limits wide open, and both rings' ends."""

    def __init__(self, slots: int = 64):
        size = ring_size(slots)
        self.memory = memoryview(bytearray(2 * size))
        self.answers = RingWriter(self.memory, 0, slots)
        self.commands = RingReader(self.memory, size, slots)
        self._ends = (RingReader(self.memory, 0, slots), RingWriter(self.memory, size, slots))
        self.quotes = [Quote(bid_price=BID, bid_qty=1, ask_price=ASK, ask_qty=1) for _ in range(2)]
        self.risk = Risk(2)
        for index in (0, 1):
            self.risk.set_limits(index, OPEN)
        for level, index in self.risk.levels:
            self.risk.set_level(level, index, OPEN_LEVEL, token_bucket(1_000_000, 1))
            self.risk.kill(level, index, False)
        self.records: list[bytes] = []
        self.oms = Oms(self._ends[1], self._ends[0], self.risk, self.quotes, self.records.append)
        self.fills: list[Fill] = []

    def published(self) -> list[tuple[str, dict[str, Any]]]:
        """Take every command: its type's name with its fields."""
        found = []
        while (offset := self.commands.poll()) >= 0:
            record = bytes(self.memory[offset : offset + ring.RECORD_SIZE])
            self.commands.release()
            name = ring.RecordType(record[0]).name
            found.append((name, ring.COMMAND.by_code[record[0]].unpack(record)))
        return found

    def answer(self, layout: Layout, cl_ord_id: int, **values: Any) -> int | None:
        """Put a record into the execution ring and let the oms take it."""
        assert self.answers.put(layout.pack(symbol_index=0, cl_ord_id=cl_ord_id, **values))
        return self.oms.poll(self.fills)

    def buy(self, qty: int = 100, price: int = 1_000_000, side: Side = Side.BUY) -> Order:
        return self.oms.submit(0, side, qty, price, now_ns=5)

    def accepted(self, order: Order, state: str = "L") -> None:
        self.answer(
            ring.ACCEPTED,
            order.cl_ord_id,
            ts_venue_ns=1,
            venue_order_id=9_000 + order.cl_ord_id,
            price=order.price,
            order_qty=order.order_qty,
            order_state=ord(state),
        )

    def executed(self, order: Order, qty: int, price: int = 1_000_000) -> None:
        self.answer(
            ring.EXECUTED,
            order.cl_ord_id,
            ts_venue_ns=1,
            match_number=1,
            last_price=price,
            last_qty=qty,
            liquidity_flag=ord("A"),
        )

    def canceled(self, order: Order, qty: int) -> None:
        self.answer(
            ring.CANCELED, order.cl_ord_id, ts_venue_ns=1, canceled_qty=qty, reason=ord("U")
        )

    def rejected(self, order: Order, reason: int = 0x17) -> None:
        self.answer(ring.REJECTED, order.cl_ord_id, ts_venue_ns=1, reason=reason)

    def denied(self, cl_ord_id: int, command: ring.RecordType, reason: int = 11) -> int | None:
        return self.answer(
            ring.DENIED, cl_ord_id, command_sequence=1, reason=reason, command_type=command
        )

    def replaced(self, orig: Order, order: Order, leaves: int, state: str = "L") -> None:
        self.answer(
            ring.REPLACED,
            order.cl_ord_id,
            ts_venue_ns=1,
            venue_order_id=9_000 + order.cl_ord_id,
            price=order.price,
            leaves_qty=leaves,
            order_state=ord(state),
            orig_cl_ord_id=orig.cl_ord_id,
        )

    def live(self, qty: int = 100, price: int = 1_000_000, side: Side = Side.BUY) -> Order:
        """Return an order that the venue has accepted."""
        order = self.buy(qty, price, side)
        self.accepted(order)
        self.published()
        return order

    def close(self) -> None:
        for item in (*self._ends, self.answers, self.commands):
            item.close()
        self.memory.release()


@pytest.fixture
def new_desk() -> Iterator[Callable[..., Desk]]:
    made: list[Desk] = []

    def make(slots: int = 64) -> Desk:
        made.append(Desk(slots))
        return made[-1]

    yield make
    for desk in made:
        desk.close()


@pytest.fixture
def desk(new_desk: Callable[..., Desk]) -> Desk:
    return new_desk()
