"""What the engine publishes: which messages, and that they rebuild its books exactly."""

import os
from random import Random

import numpy as np
import pytest

from protocol.orders import Side, TimeInForce
from sim.golden.book import Book
from sim.golden.book import Side as BookSide
from sim.golden.parse import parse
from sim.venue import itch
from sim.venue.matching import (
    MARKET,
    Cross,
    MatchingEngine,
    NewOrder,
    Record,
    SelfMatch,
    State,
)
from sim.venue.records import EVENT, HIDDEN, POST_ONLY, REQUEST, Kind, Op

AAPL, STOCKS = 1, {1: "AAPL", 2: "MSFT", 3: "NVDA"}
BUY, SELL = Side.BUY, Side.SELL
ORDERS = int(os.environ.get("TICKWIRE_MATCHING_ORDERS", "100000"))
PRICE = 100_0000


class Feed:
    """An engine, what it publishes, and the book that a reader makes of that."""

    def __init__(self, **sizes: int) -> None:
        self.engine, self.book = MatchingEngine(**sizes), Book()
        self.message_count = 0

    def take(self) -> list[bytes]:
        """Take the messages of the engine's last call; compare the level that each one changed."""
        taken = []
        for data, row in itch.messages(self.engine.records, STOCKS, 7):
            message = parse(data)
            place = self.place(data[0], message, row)
            assert message.timestamp == 7
            self.book.apply(message)
            if place is not None:
                assert self.book.level(*place) == (row.level_qty, row.level_orders), message
            taken.append(data)
        self.message_count += len(taken)
        return taken

    def place(self, code: int, message: object, row: Record) -> tuple[int, BookSide, int] | None:
        """Return locate, side and price of the level that a message changes."""
        side = BookSide.BUY if row.side == BUY else BookSide.SELL
        if chr(code) in "AU":
            return row.locate, side, row.price
        if chr(code) in "ECXD":
            order = self.book.order(message.order_reference_number)
            assert order is not None, message
            assert order[:2] == (row.locate, side)
            return order[:3]
        return None

    def compare(self) -> None:
        """Compare every displayed order of every symbol, in priority."""
        assert not self.book.stale_counts
        for locate in STOCKS:
            for side, name in (BUY, BookSide.BUY), (SELL, BookSide.SELL):
                orders = self.engine.book_side(locate, side).orders()
                shown = [(o.reference, o.price, o.shown_qty) for o in orders if o.shown_qty]
                assert shown == self.book.orders(locate, name)


def new(order_id: int, side: Side, qty: int, price: int = PRICE, **conditions: object) -> NewOrder:
    return NewOrder(order_id, AAPL, side, qty, price, **conditions)


@pytest.mark.parametrize(
    ("resting", "incoming", "expected"),
    [
        ([], new(9, BUY, 100), "A"),
        ([], new(9, BUY, 100, hidden=True), ""),
        ([], new(9, BUY, 100, time_in_force=TimeInForce.IOC), ""),
        ([], new(9, BUY, 100, MARKET), ""),
        ([], new(9, BUY, 100, cross=Cross.OPENING), ""),
        ([new(1, SELL, 100)], new(9, BUY, 100), "E"),
        ([new(1, SELL, 100)], new(9, BUY, 150), "EA"),
        ([new(1, SELL, 100), new(2, SELL, 100)], new(9, BUY, 150), "EE"),
        ([new(1, SELL, 100, hidden=True)], new(9, BUY, 40), "P"),
        ([new(1, SELL, 100, hidden=True), new(2, SELL, 50)], new(9, BUY, 150), "EP"),
        # A reserve order's next part comes under a new reference; the last execution ends it.
        ([new(1, SELL, 300, max_floor=100)], new(9, BUY, 250), "EAEAE"),
        ([new(1, SELL, 300, max_floor=100)], new(9, BUY, 100), "EA"),
        ([new(1, SELL, 100)], new(9, BUY, 100, post_only=True), ""),
        # The one that rested is canceled, and the incoming one rests.
        (
            [new(1, SELL, 100, participant=7)],
            new(9, BUY, 60, participant=7, self_match=SelfMatch.CANCEL_OLDEST),
            "DA",
        ),
        (
            [new(1, SELL, 100, participant=7)],
            new(9, BUY, 60, participant=7, self_match=SelfMatch.DECREMENT),
            "X",
        ),
        (
            [new(1, SELL, 100, participant=7)],
            new(9, BUY, 60, participant=7, self_match=SelfMatch.CANCEL_NEWEST),
            "",
        ),
    ],
)
def test_order_that_comes_in_is_published_like_this(
    resting: list[NewOrder], incoming: NewOrder, expected: str
) -> None:
    feed = Feed()
    for order in resting:
        feed.engine.enter(order)
        feed.take()
    feed.engine.enter(incoming)
    assert "".join(chr(message[0]) for message in feed.take()) == expected
    feed.compare()


def published(feed: Feed) -> str:
    return "".join(chr(message[0]) for message in feed.take())


def test_requests_about_a_resting_order_are_published_like_this() -> None:
    feed = Feed()
    engine = feed.engine
    engine.enter(new(1, BUY, 500))
    assert published(feed) == "A"
    engine.cancel(1, 300)
    assert published(feed) == "X"
    engine.replace(1, 2, 300, PRICE - 100)
    assert published(feed) == "U"
    engine.modify(2, BUY, 200)
    assert published(feed) == "X"
    engine.replace(2, 3, 200, PRICE, hidden=True)
    assert published(feed) == "D"
    engine.cancel(3)
    assert published(feed) == ""
    engine.enter(new(4, BUY, 100))
    engine.enter(new(5, SELL, 100, PRICE + 100))
    feed.book = Book()
    feed = Feed()
    engine = feed.engine
    engine.enter(new(4, BUY, 300))
    feed.take()
    engine.enter(new(5, SELL, 100, PRICE + 100))
    feed.take()
    # It trades before what is left stands: the original goes first.
    engine.replace(4, 6, 300, PRICE + 100)
    assert published(feed) == "DEA"
    engine.set_state(AAPL, State.HALTED)
    assert published(feed) == "H"
    engine.set_bands(AAPL, PRICE - 500, PRICE - 100)
    assert published(feed) == "U"
    engine.close(AAPL)
    assert published(feed) == "DH"
    feed.compare()


def test_cross_is_published_with_what_was_displayed_and_its_total() -> None:
    feed = Feed()
    engine = feed.engine
    engine.set_state(AAPL, State.QUOTING)
    engine.enter(new(1, BUY, 300, MARKET, cross=Cross.OPENING))
    engine.enter(new(2, SELL, 100, PRICE))
    feed.take()
    engine.enter(new(3, SELL, 300, PRICE + 100, hidden=True))
    engine.enter(new(4, BUY, 50, PRICE - 100, cross=Cross.OPENING))
    engine.cross(AAPL, Cross.OPENING, PRICE)
    messages = feed.take()
    assert [chr(message[0]) for message in messages] == ["C", "Q"]
    execution, cross = parse(messages[0]), parse(messages[1])
    assert (execution.executed_shares, execution.printable) == (100, "N")
    assert (execution.execution_price, cross.cross_price) == (PRICE + 100, PRICE + 100)
    assert (cross.cross_shares, cross.cross_type) == (300, "O")
    assert engine.order(4) is None
    assert engine.order(3) is not None


def test_imbalance_is_published_as_it_would_be_crossed() -> None:
    engine = MatchingEngine()
    engine.set_state(AAPL, State.QUOTING)
    engine.enter(new(1, BUY, 300, MARKET, cross=Cross.CLOSING))
    engine.enter(new(2, SELL, 100))
    found = engine.auction(AAPL, Cross.CLOSING, PRICE)
    fields = parse(itch.imbalance(AAPL, "AAPL", 7, found, PRICE, "C"))
    assert (fields.paired_shares, fields.imbalance_shares) == (100, 200)
    assert (fields.imbalance_direction, fields.far_price, fields.cross_type) == ("B", PRICE, "C")
    nothing = parse(itch.imbalance(AAPL, "AAPL", 7, engine.auction(2), PRICE, "C"))
    assert (nothing.imbalance_direction, nothing.paired_shares) == ("O", 0)


class Accounts:
    """Shares of every order and money of every participant, from the events alone."""

    MAKER_FEE, TAKER_FEE, CROSS_FEE = -20, 30, 10
    """In 1e-4 USD a share: a rebate of 0.0020, fees of 0.0030 and 0.0010."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}
        self.entered = self.executed = self.canceled = 0
        self.cash: dict[int, int] = {}
        self.fees = 0

    def pay(self, participant: int, side: int, row: Record, fee: int) -> None:
        money = row.qty * row.price * (-1 if side == BUY else 1) - fee * row.qty
        self.cash[participant] = self.cash.get(participant, 0) + money
        self.fees += fee * row.qty

    def less(self, order_id: int, qty: int) -> None:
        self.open[order_id] -= qty
        assert self.open[order_id] >= 0

    def book(self, row: Record) -> None:
        match row.kind:
            case Kind.ACCEPTED:
                self.entered += row.qty
                self.open[row.order_id] = row.qty
            case Kind.EXECUTED:
                self.executed += 2 * row.qty
                self.less(row.order_id, row.qty)
                self.less(row.other_id, row.qty)
                self.pay(row.participant, row.side, row, self.MAKER_FEE)
                taker_side = SELL if row.side == BUY else BUY
                self.pay(row.other_participant, taker_side, row, self.TAKER_FEE)
            case Kind.CROSS_EXECUTED:
                self.executed += row.qty
                self.less(row.order_id, row.qty)
                self.pay(row.participant, row.side, row, self.CROSS_FEE)
            case Kind.CANCELED | Kind.SELF_MATCHED | Kind.MODIFIED:
                self.canceled += row.qty
                self.less(row.order_id, row.qty)
            case Kind.REPLACED:
                more = row.qty - self.open.pop(row.other_id)
                self.entered += max(more, 0)
                self.canceled += max(-more, 0)
                self.open[row.order_id] = row.qty
            case _:
                return
        assert self.open[row.order_id] == row.leaves_qty, row


def requests(rng: np.random.Generator, first_id: int, count: int) -> np.ndarray:
    """Return random requests of all kinds, around one price."""
    rows = np.zeros(count, REQUEST)
    ids = np.arange(first_id, first_id + count)
    older = np.maximum(ids - 1 - rng.geometric(0.004, count), 1)
    kind = rng.choice((Op.ENTER, Op.CANCEL, Op.REPLACE, Op.MODIFY), count, p=(0.5, 0.35, 0.1, 0.05))
    rows["op"] = kind
    rows["order_id"] = np.where(np.isin(kind, (Op.CANCEL, Op.MODIFY)), older, ids)
    rows["orig_id"] = older
    rows["locate"] = rng.integers(1, 1 + len(STOCKS), count)
    rows["side"] = rng.choice([int(side) for side in Side], count, p=(0.5, 0.4, 0.05, 0.05))
    rows["qty"] = rng.integers(1, 8, count) * 50
    rows["qty"] *= (kind != Op.CANCEL) | (rng.random(count) < 0.3)
    away = rng.integers(-4, 25, count) * 100
    rows["price"] = PRICE + np.where(rows["side"] == BUY, -away, away)
    rows["price"] = np.where(rng.random(count) < 0.01, MARKET, rows["price"])
    ioc = rng.random(count) < 0.15
    rows["time_in_force"] = np.where(ioc, TimeInForce.IOC, TimeInForce.DAY)
    rows["flags"] = rng.choice((0, HIDDEN, POST_ONLY), count, p=(0.85, 0.1, 0.05))
    rows["min_qty"] = np.where(rng.random(count) < 0.03, 50, 0)
    reserve = (rng.random(count) < 0.1) & (rows["flags"] != HIDDEN)
    rows["max_floor"] = np.where(reserve, 50, 0)
    rows["participant"] = rng.integers(0, 6, count)
    rows["self_match"] = rng.integers(0, 4, count)
    return rows


@pytest.mark.parametrize("seed", [1])
def test_published_messages_rebuild_the_book_and_no_share_or_cent_is_lost(seed: int) -> None:
    print(f"seed={seed}, orders={ORDERS}")
    rng, choose = np.random.default_rng(seed), Random(seed)
    feed, accounts = Feed(orders=64, events=256), Accounts()
    engine = feed.engine

    def took() -> None:
        feed.take()
        for row in itch.records(engine.records.tobytes()):
            accounts.book(row)

    for number, first in enumerate(range(1, ORDERS + 1, 500)):
        engine.submit(requests(rng, first, min(500, ORDERS + 1 - first)))
        took()
        locate = choose.choice(tuple(STOCKS))
        match choose.randrange(8):
            case 0:
                engine.set_bands(locate, PRICE - 900, PRICE + 900)
            case 1:
                engine.set_bands(locate, 0, 0)
            case 2:
                engine.mass_cancel(choose.randrange(1, 6))
            case 3:
                engine.set_state(locate, State.QUOTING)
                took()
                engine.submit(requests(rng, 10 * ORDERS + first, 100))
                took()
                engine.cross(locate, reference_price=PRICE)
                took()
                engine.set_state(locate, State.TRADING)
            case _:
                engine.submit(np.zeros(0, REQUEST))
        took()
        if number % 20 == 0:
            feed.compare()
    feed.compare()
    left = sum(
        order.leaves_qty
        for locate in STOCKS
        for side in (BUY, SELL)
        for order in engine.book_side(locate, side).orders()
    )
    assert left == sum(accounts.open.values())
    assert accounts.entered == accounts.executed + accounts.canceled + left
    assert sum(accounts.cash.values()) + accounts.fees == 0
    assert accounts.executed > ORDERS
    assert feed.message_count > ORDERS // 2


def test_events_of_an_engine_of_a_kind_have_no_padding() -> None:
    assert EVENT.itemsize == sum(EVENT[name].itemsize for name in EVENT.names)
