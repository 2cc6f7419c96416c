"""Matching engine: priority, times in force, OUCH's cancel and replace, and a naive model."""

import random
from dataclasses import dataclass, field

import pytest

from protocol.orders import Side, TimeInForce
from protocol.ouch50 import CANCEL_REASON, REJECT_REASON
from sim.venue.matching import (
    Accepted,
    Canceled,
    CancelReason,
    Event,
    Executed,
    Level,
    MatchingEngine,
    NewOrder,
    Rejected,
    RejectReason,
    Replaced,
)

DAY, IOC = TimeInForce.DAY, TimeInForce.IOC
AAPL, MSFT = 1, 2


def buy(
    order_id: int, qty: int, price: int, tif: TimeInForce = DAY, locate: int = AAPL
) -> NewOrder:
    return NewOrder(order_id, locate, Side.BUY, qty, price, tif)


def sell(
    order_id: int, qty: int, price: int, tif: TimeInForce = DAY, locate: int = AAPL
) -> NewOrder:
    return NewOrder(order_id, locate, Side.SELL, qty, price, tif)


def entered(*orders: NewOrder) -> MatchingEngine:
    engine = MatchingEngine()
    for order in orders:
        engine.enter(order)
    return engine


def fills(events: list[Event], is_maker: bool = True) -> list[tuple[int, int, int]]:
    """Return (order id, quantity, price) of the executions of one side."""
    return [
        (event.order_id, event.last_qty, event.last_price)
        for event in events
        if isinstance(event, Executed) and event.is_maker is is_maker
    ]


def test_order_without_counterparty_is_accepted_and_rests() -> None:
    engine = MatchingEngine()
    assert engine.enter(buy(1, 100, 100_0000)) == [Accepted(1, AAPL, Side.BUY, 100, 100_0000, DAY)]
    assert engine.bbo(AAPL) == (Level(100_0000, 100, 1), None)
    assert engine.depth(AAPL, Side.BUY, 5) == [Level(100_0000, 100, 1)]
    assert engine.depth(AAPL, Side.SELL, 5) == []


def test_execution_tells_both_sides_with_one_match_number_at_the_resting_price() -> None:
    engine = entered(sell(1, 300, 100_0000))
    assert engine.enter(buy(2, 100, 100_0500)) == [
        Accepted(2, AAPL, Side.BUY, 100, 100_0500, DAY),
        Executed(2, 1, 100, 100_0000, 1, is_maker=False),
        Executed(1, 2, 100, 100_0000, 1, is_maker=True),
    ]
    assert engine.bbo(AAPL) == (None, Level(100_0000, 200, 1))
    assert engine.order(2) is None


@pytest.mark.parametrize(
    ("resting", "incoming", "expected"),
    [
        # Price before time: the better price comes first although it came last.
        (
            [sell(1, 100, 100_0200), sell(2, 100, 100_0100), sell(3, 100, 100_0000)],
            buy(9, 250, 100_0200),
            [(3, 100, 100_0000), (2, 100, 100_0100), (1, 50, 100_0200)],
        ),
        (
            [buy(1, 100, 99_9800), buy(2, 100, 99_9900), buy(3, 100, 100_0000)],
            sell(9, 250, 99_9800),
            [(3, 100, 100_0000), (2, 100, 99_9900), (1, 50, 99_9800)],
        ),
        # Time within a price, whatever the ids and sizes are.
        (
            [sell(7, 10, 100_0000), sell(3, 500, 100_0000), sell(5, 20, 100_0000)],
            buy(9, 515, 100_0000),
            [(7, 10, 100_0000), (3, 500, 100_0000), (5, 5, 100_0000)],
        ),
        # The limit is reached exactly, and not passed.
        (
            [sell(1, 100, 100_0000), sell(2, 100, 100_0001)],
            buy(9, 200, 100_0000),
            [(1, 100, 100_0000)],
        ),
        # Short sales stand in the same queue as sales.
        (
            [
                NewOrder(1, AAPL, Side.SELL_SHORT, 100, 100_0000),
                sell(2, 100, 100_0000),
                NewOrder(3, AAPL, Side.SELL_SHORT_EXEMPT, 100, 100_0000),
            ],
            buy(9, 300, 100_0000),
            [(1, 100, 100_0000), (2, 100, 100_0000), (3, 100, 100_0000)],
        ),
        # A short sale takes bids.
        (
            [buy(1, 100, 100_0000)],
            NewOrder(9, AAPL, Side.SELL_SHORT, 60, 100_0000),
            [(1, 60, 100_0000)],
        ),
        # Another symbol is another book.
        ([sell(1, 100, 100_0000, locate=MSFT)], buy(9, 100, 100_0000), []),
    ],
)
def test_orders_trade_by_price_then_time(
    resting: list[NewOrder], incoming: NewOrder, expected: list[tuple[int, int, int]]
) -> None:
    engine = entered(*resting)
    events = engine.enter(incoming)
    assert fills(events) == expected
    assert [(qty, price) for _, qty, price in fills(events, is_maker=False)] == [
        (qty, price) for _, qty, price in expected
    ]


def test_remainder_of_a_day_order_rests_at_its_own_limit() -> None:
    engine = entered(sell(1, 100, 100_0000))
    engine.enter(buy(2, 250, 100_0100))
    assert engine.bbo(AAPL) == (Level(100_0100, 150, 1), None)
    assert fills(engine.enter(sell(3, 50, 100_0000))) == [(2, 50, 100_0100)]


def test_remainder_of_an_ioc_order_is_canceled() -> None:
    engine = entered(sell(1, 100, 100_0000))
    assert engine.enter(buy(2, 250, 100_0000, IOC)) == [
        Accepted(2, AAPL, Side.BUY, 250, 100_0000, IOC),
        Executed(2, 1, 100, 100_0000, 1, is_maker=False),
        Executed(1, 2, 100, 100_0000, 1, is_maker=True),
        Canceled(2, 150, CancelReason.IOC),
    ]
    assert engine.bbo(AAPL) == (None, None)
    assert engine.cancel(2) == []


def test_ioc_order_that_fills_is_not_canceled() -> None:
    engine = entered(sell(1, 100, 100_0000))
    events = engine.enter(buy(2, 100, 100_0000, IOC))
    assert not [event for event in events if isinstance(event, Canceled)]


@pytest.mark.parametrize(
    ("qty", "price", "reason"),
    [
        (0, 100_0000, RejectReason.INVALID_QUANTITY),
        (-1, 100_0000, RejectReason.INVALID_QUANTITY),
        (1_000_000, 100_0000, RejectReason.INVALID_QUANTITY),
        (100, 0, RejectReason.INVALID_PRICE),
        (100, 199_999_9901, RejectReason.INVALID_PRICE),
    ],
)
def test_invalid_order_is_rejected_and_leaves_no_trace(
    qty: int, price: int, reason: RejectReason
) -> None:
    engine = entered(sell(1, 100, 1))
    assert engine.enter(buy(2, qty, price)) == [Rejected(2, reason)]
    assert engine.bbo(AAPL) == (None, Level(1, 100, 1))


def test_largest_order_at_the_highest_price_is_accepted() -> None:
    engine = entered(buy(1, 999_999, 199_999_9900))
    assert engine.bbo(AAPL) == (Level(199_999_9900, 999_999, 1), None)


def test_live_id_entered_again_is_ignored() -> None:
    engine = entered(buy(1, 100, 100_0000))
    assert engine.enter(buy(1, 500, 101_0000)) == []
    assert engine.bbo(AAPL) == (Level(100_0000, 100, 1), None)


@pytest.mark.parametrize(
    ("executed_qty", "qty_intended", "canceled_qty", "open_qty"),
    [
        (0, 0, 500, 0),
        (0, 200, 300, 200),
        (100, 0, 400, 0),
        # 300 in total, of which 100 were executed.
        (100, 300, 200, 200),
        # No more than was executed already: nothing stays open.
        (100, 100, 400, 0),
        (100, 50, 400, 0),
        # Nothing to cancel: no answer.
        (100, 500, None, 400),
        (0, 999_999, None, 500),
    ],
)
def test_cancel_states_the_intended_size_including_executions(
    executed_qty: int, qty_intended: int, canceled_qty: int | None, open_qty: int
) -> None:
    engine = entered(buy(1, 500, 100_0000))
    if executed_qty:
        engine.enter(sell(2, executed_qty, 100_0000))
    expected = [] if canceled_qty is None else [Canceled(1, canceled_qty, CancelReason.USER)]
    assert engine.cancel(1, qty_intended) == expected
    assert engine.bbo(AAPL)[0] == (Level(100_0000, open_qty, 1) if open_qty else None)


def test_cancel_of_an_unknown_or_finished_order_is_silently_ignored() -> None:
    engine = entered(buy(1, 100, 100_0000), sell(2, 100, 100_0000))
    assert engine.cancel(1) == []
    assert engine.cancel(77) == []


def test_reduced_order_keeps_its_priority() -> None:
    engine = entered(sell(1, 500, 100_0000), sell(2, 500, 100_0000))
    engine.cancel(1, 200)
    assert fills(engine.enter(buy(3, 300, 100_0000))) == [(1, 200, 100_0000), (2, 100, 100_0000)]


def test_replaced_order_loses_its_priority_even_at_its_price_and_size() -> None:
    engine = entered(sell(1, 100, 100_0000), sell(2, 100, 100_0000))
    assert engine.replace(1, 3, 100, 100_0000) == [
        Replaced(3, 1, AAPL, Side.SELL, 100, 100_0000, DAY)
    ]
    assert fills(engine.enter(buy(4, 150, 100_0000))) == [(2, 100, 100_0000), (3, 50, 100_0000)]
    assert engine.order(1) is None


def test_replace_quantity_counts_for_the_whole_chain() -> None:
    engine = entered(buy(1, 500, 100_0000))
    engine.enter(sell(2, 100, 100_0000))
    # 600 in total, 100 of them executed: 500 open.
    assert engine.replace(1, 3, 600, 100_0000) == [
        Replaced(3, 1, AAPL, Side.BUY, 500, 100_0000, DAY)
    ]
    engine.enter(sell(4, 150, 100_0000))
    # 250 of the chain are executed now.
    assert engine.replace(3, 5, 300, 99_0000) == [Replaced(5, 3, AAPL, Side.BUY, 50, 99_0000, DAY)]
    assert engine.cancel(5, 260) == [Canceled(5, 40, CancelReason.USER)]
    assert engine.bbo(AAPL)[0] == Level(99_0000, 10, 1)


@pytest.mark.parametrize(
    ("order_qty", "price"),
    [(100, 100_0000), (99, 100_0000), (0, 100_0000), (1_000_000, 100_0000), (500, 0)],
)
def test_replace_that_leaves_nothing_or_is_invalid_cancels_the_order(
    order_qty: int, price: int
) -> None:
    engine = entered(buy(1, 500, 100_0000), sell(2, 100, 100_0000))
    assert engine.replace(1, 3, order_qty, price) == [Canceled(1, 400, CancelReason.USER)]
    assert engine.bbo(AAPL) == (None, None)


def test_replace_of_a_dead_order_or_by_a_live_id_changes_nothing() -> None:
    engine = entered(buy(1, 100, 100_0000), buy(2, 100, 99_0000))
    assert engine.replace(7, 8, 100, 100_0000) == []
    assert engine.replace(1, 2, 100, 98_0000) == []
    assert engine.bbo(AAPL)[0] == Level(100_0000, 100, 1)


def test_replacement_that_reaches_the_other_side_executes() -> None:
    engine = entered(sell(1, 100, 100_0000), buy(2, 300, 99_0000))
    assert engine.replace(2, 3, 300, 100_0000, IOC) == [
        Replaced(3, 2, AAPL, Side.BUY, 300, 100_0000, IOC),
        Executed(3, 1, 100, 100_0000, 1, is_maker=False),
        Executed(1, 3, 100, 100_0000, 1, is_maker=True),
        Canceled(3, 200, CancelReason.IOC),
    ]


def test_depth_adds_up_a_level_and_orders_levels_best_first() -> None:
    engine = entered(
        buy(1, 100, 99_0000), buy(2, 200, 100_0000), buy(3, 50, 100_0000), buy(4, 7, 98_0000)
    )
    assert engine.depth(AAPL, Side.BUY, 2) == [Level(100_0000, 250, 2), Level(99_0000, 100, 1)]
    assert engine.book_side(AAPL, Side.BUY).depth == 3
    engine.enter(sell(5, 10, 101_0000))
    engine.enter(NewOrder(6, AAPL, Side.SELL_SHORT, 5, 100_5000))
    assert engine.depth(AAPL, Side.SELL, 9) == [Level(100_5000, 5, 1), Level(101_0000, 10, 1)]


def test_orders_of_a_level_stand_in_order_of_arrival() -> None:
    engine = entered(*(sell(n, 10, 100_0000) for n in (5, 1, 3)))
    side = engine.book_side(AAPL, Side.SELL)
    assert [order.order_id for order in side.at(100_0000)] == [5, 1, 3]
    engine.cancel(5)
    assert [order.order_id for order in side.at(100_0000)] == [1, 3]
    assert side.at(99_0000) == []


@pytest.mark.parametrize(
    ("side", "limit", "expected"),
    [
        (Side.SELL, 101, [3, 1, 4]),
        (Side.SELL, 102, [3, 1, 4, 2]),
        (Side.SELL, 99, []),
        (Side.BUY, 101, [2, 1, 4]),
        (Side.BUY, 100, [2, 1, 4, 3]),
        (Side.BUY, 103, []),
    ],
)
def test_limit_reaches_prices_up_to_its_own_in_priority(
    side: Side, limit: int, expected: list[int]
) -> None:
    places = (1, 101), (2, 102), (3, 100), (4, 101)
    engine = entered(*(NewOrder(order_id, AAPL, side, 10, price) for order_id, price in places))
    book_side = engine.book_side(AAPL, side)
    assert [order.order_id for order in book_side.reached(limit)] == expected
    first = book_side.first(limit)
    assert (first.order_id if first else None) == (expected[0] if expected else None)


def test_reasons_are_those_of_ouch() -> None:
    assert {reason.value for reason in CancelReason} <= CANCEL_REASON.keys()
    assert {reason.value for reason in RejectReason} <= REJECT_REASON.keys()


@dataclass
class NaiveVenue:
    """The same rules by a list of rows that is searched from end to end every time."""

    rows: list[dict[str, int]] = field(default_factory=list)
    arrivals: int = 0

    def place(self, row: dict[str, int], is_ioc: bool) -> list[tuple[int, int, int]]:
        """Return (maker, quantity, price) of each execution; ``sign`` is 1 for a buy."""
        traded = []
        while row["leaves"]:
            reached = [
                maker
                for maker in self.rows
                if maker["locate"] == row["locate"]
                and maker["sign"] == -row["sign"]
                and maker["price"] * row["sign"] <= row["price"] * row["sign"]
            ]
            if not reached:
                break
            maker = min(reached, key=lambda r: (r["price"] * row["sign"], r["arrival"]))
            qty = min(row["leaves"], maker["leaves"])
            traded.append((maker["id"], qty, maker["price"]))
            for party in row, maker:
                party["leaves"] -= qty
                party["cum"] += qty
            self.rows = [other for other in self.rows if other["leaves"]]
        if row["leaves"] and not is_ioc:
            self.arrivals += 1
            self.rows.append(row | {"arrival": self.arrivals})
        return traded

    def take_out(self, order_id: int) -> dict[str, int] | None:
        found = next((row for row in self.rows if row["id"] == order_id), None)
        self.rows = [row for row in self.rows if row["id"] != order_id]
        return found

    def levels(self, locate: int, sign: int) -> list[tuple[int, int, int]]:
        rows = [row for row in self.rows if row["locate"] == locate and row["sign"] == sign]
        prices = sorted({row["price"] for row in rows}, key=lambda price: -price * sign)
        groups = [(price, [r["leaves"] for r in rows if r["price"] == price]) for price in prices]
        return [(price, sum(leaves), len(leaves)) for price, leaves in groups]


def enter_in_both(
    rng: random.Random, engine: MatchingEngine, naive: NaiveVenue, order_id: int
) -> None:
    side, locate = rng.choice((Side.BUY, Side.SELL)), rng.choice((AAPL, MSFT))
    qty, price, tif = rng.randint(1, 9), rng.randint(95, 105), rng.choice((DAY, DAY, IOC))
    row = {
        "id": order_id,
        "locate": locate,
        "sign": side.sign,
        "price": price,
        "leaves": qty,
        "cum": 0,
    }
    events = engine.enter(NewOrder(order_id, locate, side, qty, price, tif))
    assert fills(events) == naive.place(row, tif is IOC)


def replace_in_both(
    rng: random.Random, engine: MatchingEngine, naive: NaiveVenue, old_id: int, order_id: int
) -> None:
    qty, price = rng.randint(1, 14), rng.randint(95, 105)
    events = engine.replace(old_id, order_id, qty, price)
    row = naive.take_out(old_id)
    if row is None:
        assert events == []
    elif qty <= row["cum"]:
        assert events == [Canceled(old_id, row["leaves"], CancelReason.USER)]
    else:
        row |= {"id": order_id, "price": price, "leaves": qty - row["cum"]}
        assert fills(events) == naive.place(row, is_ioc=False)


def cancel_in_both(
    rng: random.Random, engine: MatchingEngine, naive: NaiveVenue, order_id: int
) -> None:
    qty = rng.choice((0, 0, rng.randint(1, 9)))
    events = engine.cancel(order_id, qty)
    row = next((row for row in naive.rows if row["id"] == order_id), None)
    leaves = 0 if row is None else min(row["leaves"], max(qty - row["cum"], 0))
    gone = 0 if row is None else row["leaves"] - leaves
    assert events == ([Canceled(order_id, gone, CancelReason.USER)] if gone else [])
    if row is not None:
        row["leaves"] = leaves
        naive.rows = [other for other in naive.rows if other["leaves"]]


@pytest.mark.parametrize("seed", range(12))
def test_engine_equals_the_naive_venue_on_random_orders(seed: int) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    engine, naive = MatchingEngine(), NaiveVenue()
    for order_id in range(1, 400):
        known_id = rng.randint(max(1, order_id - 30), order_id)
        match rng.randrange(4):
            case 0:
                cancel_in_both(rng, engine, naive, known_id)
            case 1:
                replace_in_both(rng, engine, naive, known_id, order_id)
            case _:
                enter_in_both(rng, engine, naive, order_id)
        for locate in AAPL, MSFT:
            for side in Side.BUY, Side.SELL:
                assert engine.depth(locate, side, 99) == naive.levels(locate, side.sign)


@pytest.mark.parametrize("seed", range(4))
def test_every_share_entered_is_executed_canceled_or_open(seed: int) -> None:
    print(f"seed={seed}")
    rng = random.Random(seed)
    engine = MatchingEngine()
    entered_qty, gone_qty = 0, 0
    numbers: dict[int, list[Executed]] = {}
    for order_id in range(1, 1_000):
        if rng.random() < 0.3:
            events = engine.cancel(rng.randint(1, order_id), rng.choice((0, 3)))
        else:
            side, tif = rng.choice((Side.BUY, Side.SELL)), rng.choice((DAY, IOC))
            qty = rng.randint(1, 9)
            entered_qty += qty
            events = engine.enter(NewOrder(order_id, AAPL, side, qty, rng.randint(95, 105), tif))
        for event in events:
            if isinstance(event, Canceled):
                gone_qty += event.canceled_qty
            elif isinstance(event, Executed):
                gone_qty += event.last_qty
                numbers.setdefault(event.match_number, []).append(event)
    levels = engine.depth(AAPL, Side.BUY, 99) + engine.depth(AAPL, Side.SELL, 99)
    assert entered_qty == gone_qty + sum(level.qty for level in levels)
    assert len(numbers) > 100
    for taker, maker in numbers.values():
        assert (taker.is_maker, maker.is_maker) == (False, True)
        assert (taker.order_id, taker.counterparty_id) == (maker.counterparty_id, maker.order_id)
        assert (taker.last_qty, taker.last_price) == (maker.last_qty, maker.last_price)
