"""Order types, conditions, halts, bands and crosses: a table a rule."""

import numpy as np
import pytest

from protocol.orders import Side, TimeInForce
from sim.venue.cross import Auction, auction
from sim.venue.matching import (
    MARKET,
    Accepted,
    Canceled,
    CancelReason,
    Cross,
    Event,
    Executed,
    Level,
    MatchingEngine,
    Modified,
    NewOrder,
    Rejected,
    RejectReason,
    Replaced,
    Restated,
    SelfMatch,
    SelfMatched,
    State,
)
from sim.venue.records import REQUEST, Kind, Op

DAY, IOC = TimeInForce.DAY, TimeInForce.IOC
BUY, SELL = Side.BUY, Side.SELL
AAPL, MSFT = 1, 2
PRICE, TICK = 100_0000, 100


def buy(order_id: int, qty: int, price: int = PRICE, **conditions: object) -> NewOrder:
    return NewOrder(order_id, AAPL, BUY, qty, price, **conditions)


def sell(order_id: int, qty: int, price: int = PRICE, **conditions: object) -> NewOrder:
    return NewOrder(order_id, AAPL, SELL, qty, price, **conditions)


def entered(*orders: NewOrder) -> MatchingEngine:
    engine = MatchingEngine()
    for order in orders:
        engine.enter(order)
    return engine


def brief(events: list[Event]) -> list[tuple[object, ...]]:
    """Return executions as (maker, shares, price), and what else is not an acceptance."""
    told: list[tuple[object, ...]] = []
    for event in events:
        match event:
            case Executed(is_maker=True):
                told.append((event.order_id, event.last_qty, event.last_price))
            case Canceled():
                told.append((event.order_id, event.canceled_qty, event.reason.value))
            case Rejected():
                told.append((event.order_id, event.reason))
            case SelfMatched():
                told.append((event.order_id, event.canceled_qty, "prevented", event.prevented_qty))
            case Restated():
                told.append((event.order_id, event.shown_qty, event.reason))
    return told


@pytest.mark.parametrize(
    ("resting", "incoming", "expected"),
    [
        # Market: through all prices, and never rests.
        (
            [sell(1, 50), sell(2, 50, 2 * PRICE)],
            buy(9, 120, MARKET),
            [(1, 50, PRICE), (2, 50, 2 * PRICE), (9, 20, "I")],
        ),
        ([buy(1, 50, 1)], sell(9, 60, MARKET), [(1, 50, 1), (9, 10, "I")]),
        ([buy(1, 50, 1)], sell(9, 60, 200_000_0000), [(1, 50, 1), (9, 10, "I")]),
        # Fill or kill: all or nothing.
        (
            [sell(1, 50), sell(2, 50, PRICE + TICK)],
            buy(9, 100, PRICE + TICK, time_in_force=IOC, min_qty=100),
            [(1, 50, PRICE), (2, 50, PRICE + TICK)],
        ),
        ([sell(1, 50)], buy(9, 100, time_in_force=IOC, min_qty=100), [(9, 100, "I")]),
        # The reserve and the hidden order count too.
        (
            [sell(1, 80, max_floor=10), sell(2, 20, hidden=True)],
            buy(9, 100, time_in_force=IOC, min_qty=100),
            [
                *((1, 10, PRICE), (1, 10, "R")) * 7,
                (1, 10, PRICE),
                (2, 20, PRICE),
            ],
        ),
        # A minimum quantity that is displayed is immediate or cancel.
        ([sell(1, 50)], buy(9, 100, min_qty=50), [(1, 50, PRICE), (9, 50, "I")]),
        ([sell(1, 50)], buy(9, 100, min_qty=51), [(9, 100, "I")]),
        # Of several makers together.
        (
            [sell(1, 30), sell(2, 30)],
            buy(9, 100, min_qty=60, hidden=True),
            [(1, 30, PRICE), (2, 30, PRICE)],
        ),
        # Hidden orders come after all that is displayed at their price, and before worse prices.
        (
            [sell(1, 10, hidden=True), sell(2, 10), sell(3, 10, PRICE + TICK)],
            buy(9, 30, PRICE + TICK),
            [(2, 10, PRICE), (1, 10, PRICE), (3, 10, PRICE + TICK)],
        ),
        # A resting minimum is passed over by less.
        (
            [sell(1, 50, hidden=True, min_qty=40), sell(2, 50, PRICE + TICK)],
            buy(9, 30, PRICE + TICK),
            [(2, 30, PRICE + TICK)],
        ),
        ([sell(1, 50, hidden=True, min_qty=40)], buy(9, 40), [(1, 40, PRICE)]),
        # The next part of a reserve order stands behind all others.
        (
            [sell(1, 30, max_floor=10), sell(2, 10)],
            buy(9, 25),
            [(1, 10, PRICE), (1, 10, "R"), (2, 10, PRICE), (1, 5, PRICE)],
        ),
        # Post-only.
        ([sell(1, 50)], buy(9, 10, post_only=True), [(9, 10, "G")]),
        ([sell(1, 50, hidden=True)], buy(9, 10, post_only=True), [(9, 10, "F")]),
        (
            [sell(1, 50, hidden=True), sell(2, 5, PRICE + TICK)],
            buy(9, 10, PRICE + TICK, post_only=True),
            [(9, 10, "G")],
        ),
        ([sell(1, 50)], buy(9, 10, PRICE - TICK, post_only=True), []),
    ],
)
def test_order_with_conditions_trades_like_this(
    resting: list[NewOrder], incoming: NewOrder, expected: list[tuple[object, ...]]
) -> None:
    assert brief(entered(*resting).enter(incoming)) == expected


@pytest.mark.parametrize(
    ("conditions", "reason"),
    [
        ({"min_qty": 101}, RejectReason.INVALID_MIN_QUANTITY),
        ({"min_qty": -1}, RejectReason.INVALID_MIN_QUANTITY),
        ({"max_floor": -1}, RejectReason.INVALID_MAX_FLOOR),
        ({"max_floor": 10, "hidden": True}, RejectReason.INVALID_MAX_FLOOR),
    ],
)
def test_conditions_that_contradict_are_rejected(
    conditions: dict[str, object], reason: RejectReason
) -> None:
    assert MatchingEngine().enter(buy(1, 100, **conditions)) == [Rejected(1, reason)]


def test_reserve_order_displays_a_part_and_a_cancel_takes_of_the_reserve_first() -> None:
    engine = entered(buy(1, 100, max_floor=30))
    assert engine.bbo(AAPL)[0] == Level(PRICE, 30, 1)
    engine.cancel(1, 40)
    assert engine.bbo(AAPL)[0] == Level(PRICE, 30, 1)
    engine.cancel(1, 20)
    assert engine.bbo(AAPL)[0] == Level(PRICE, 20, 1)


@pytest.mark.parametrize(
    ("strategy", "taker_qty", "expected", "left"),
    [
        (SelfMatch.TRADE, 30, [(1, 30, PRICE)], 70),
        # The other's order has traded before.
        (SelfMatch.CANCEL_NEWEST, 30, [(9, 30, "prevented", 30)], 100),
        (SelfMatch.CANCEL_OLDEST, 30, [(1, 100, "prevented", 30), (2, 30, PRICE)], None),
        (
            SelfMatch.DECREMENT,
            130,
            [(9, 100, "prevented", 100), (1, 100, "prevented", 100), (2, 30, PRICE)],
            None,
        ),
        (SelfMatch.DECREMENT, 30, [(9, 30, "prevented", 30), (1, 30, "prevented", 30)], 70),
    ],
)
def test_orders_of_one_participant_meet_as_the_incoming_one_says(
    strategy: SelfMatch, taker_qty: int, expected: list[tuple[object, ...]], left: int | None
) -> None:
    engine = entered(sell(1, 100, participant=5), sell(2, 100, participant=6))
    assert brief(engine.enter(buy(9, taker_qty, participant=5, self_match=strategy))) == expected
    order = engine.order(1)
    assert (order.leaves_qty if order else None) == left


def test_orders_of_nobody_trade_with_each_other_whatever_they_say() -> None:
    engine = entered(sell(1, 100))
    incoming = buy(9, 10, self_match=SelfMatch.CANCEL_NEWEST)
    assert brief(engine.enter(incoming)) == [(1, 10, PRICE)]


def test_shares_that_self_match_prevention_took_count_for_the_chain() -> None:
    engine = entered(sell(1, 100, participant=5))
    engine.enter(buy(9, 30, participant=5, self_match=SelfMatch.DECREMENT))
    # 100 in total, of which 30 are gone.
    assert engine.replace(1, 2, 100, PRICE) == [Replaced(2, 1, AAPL, SELL, 70, PRICE, DAY)]


@pytest.mark.parametrize(
    ("side", "qty", "expected"),
    [
        (Side.SELL_SHORT, 100, [Modified(1, Side.SELL_SHORT, 100)]),
        (Side.SELL, 40, [Modified(1, Side.SELL, 40)]),
        (Side.SELL, 101, []),
        (Side.SELL, 0, []),
        (Side.BUY, 40, []),
    ],
)
def test_modified_order_keeps_its_place(side: Side, qty: int, expected: list[Event]) -> None:
    engine = entered(sell(1, 100), sell(2, 100))
    assert engine.modify(1, side, qty) == expected
    assert brief(engine.enter(buy(9, 1))) == [(1, 1, PRICE)]


def test_replacement_changes_conditions_or_keeps_them() -> None:
    engine = entered(buy(1, 100, max_floor=30, participant=5))
    engine.replace(1, 2, 100, PRICE + TICK)
    assert engine.bbo(AAPL)[0] == Level(PRICE + TICK, 30, 1)
    engine.replace(2, 3, 100, PRICE, max_floor=0)
    assert engine.bbo(AAPL)[0] == Level(PRICE, 100, 1)
    engine.replace(3, 4, 100, PRICE, hidden=True)
    assert engine.bbo(AAPL)[0] is None
    assert engine.mass_cancel(5) == [Canceled(4, 100, CancelReason.USER)]


# Halts.


def test_halted_symbol_takes_no_order_but_cancels() -> None:
    engine = entered(buy(1, 100))
    engine.set_state(AAPL, State.HALTED)
    assert brief(engine.enter(sell(2, 100))) == [(2, RejectReason.HALTED)]
    assert brief(engine.replace(1, 3, 50, PRICE)) == [(3, RejectReason.HALTED)]
    assert engine.order(1) is not None
    assert brief(engine.cancel(1)) == [(1, 100, "U")]
    assert not brief(engine.enter(NewOrder(4, MSFT, BUY, 100, PRICE)))


@pytest.mark.parametrize("state", [State.QUOTING, State.PAUSED])
def test_orders_wait_for_the_cross_after_a_halt(state: State) -> None:
    engine = entered(buy(1, 100))
    engine.set_state(AAPL, state)
    assert brief(engine.enter(sell(2, 60))) == []
    assert brief(engine.enter(sell(3, 60, time_in_force=IOC))) == [(3, 60, "I")]
    with pytest.raises(ValueError, match=r"^BOOK_CROSSED: locate=1, shares=60$"):
        engine.set_state(AAPL, State.TRADING)
    assert [
        (event.order_id, event.last_qty, event.last_price, event.cross)
        for event in engine.cross(AAPL)
        if isinstance(event, Executed)
    ] == [(1, 60, PRICE, "H"), (2, 60, PRICE, "H")]
    engine.set_state(AAPL, State.TRADING)
    assert engine.bbo(AAPL) == (Level(PRICE, 40, 1), None)


def test_closed_symbol_has_no_orders_and_takes_none() -> None:
    engine = entered(buy(1, 100), sell(2, 50, PRICE + TICK, hidden=True))
    assert brief(engine.close(AAPL)) == [(1, 100, "E"), (2, 50, "E")]
    assert brief(engine.enter(buy(3, 100))) == [(3, RejectReason.CLOSED)]


# Price bands.


def test_order_outside_the_bands_is_accepted_at_the_band() -> None:
    engine = MatchingEngine()
    engine.set_bands(AAPL, PRICE - 5 * TICK, PRICE + 5 * TICK)
    assert engine.enter(buy(1, 100, PRICE + 9 * TICK)) == [
        Accepted(1, AAPL, BUY, 100, PRICE + 5 * TICK, DAY)
    ]
    assert engine.enter(sell(2, 10, PRICE - 9 * TICK))[0] == Accepted(
        2, AAPL, SELL, 10, PRICE - 5 * TICK, DAY
    )


def test_market_order_does_not_trade_beyond_the_band() -> None:
    engine = entered(sell(1, 10, PRICE), sell(2, 10, PRICE + 6 * TICK))
    engine.set_bands(AAPL, PRICE - 5 * TICK, PRICE + 5 * TICK)
    assert brief(engine.enter(buy(9, 20, MARKET))) == [(1, 10, PRICE), (9, 10, "I")]


def test_resting_orders_move_to_a_band_that_comes_nearer_best_first() -> None:
    engine = entered(buy(1, 10, PRICE - TICK), buy(2, 20, PRICE), buy(3, 30, PRICE - 5 * TICK))
    events = engine.set_bands(AAPL, PRICE - 9 * TICK, PRICE - 3 * TICK)
    assert brief(events) == [(2, 20, "P"), (1, 10, "P")]
    assert engine.depth(AAPL, BUY, 9) == [
        Level(PRICE - 3 * TICK, 30, 2),
        Level(PRICE - 5 * TICK, 30, 1),
    ]
    assert brief(engine.enter(sell(9, 25, PRICE - 3 * TICK))) == [
        (2, 20, PRICE - 3 * TICK),
        (1, 5, PRICE - 3 * TICK),
    ]


@pytest.mark.parametrize(("lower", "upper"), [(0, 5), (5, 5), (6, 5), (-1, 5), (1, 199_999_9901)])
def test_bands_that_are_none_are_refused(lower: int, upper: int) -> None:
    text = f"bands must be 0 < lower < upper <= 1999999900, not {lower}, {upper}"
    with pytest.raises(ValueError, match=f"^{text}$"):
        MatchingEngine().set_bands(AAPL, lower, upper)


# Crosses.


@pytest.mark.parametrize(
    ("bids", "asks", "reference", "expected"),
    [
        ([], [], 100, Auction(0, 0, 0)),
        ([(100, 10)], [(101, 10)], 100, Auction(0, 0, 0)),
        # Most shares.
        ([(102, 10), (100, 50)], [(99, 10), (100, 40)], 0, Auction(100, 50, 10)),
        # Least imbalance: both prices trade 10.
        ([(102, 10), (101, 5)], [(101, 10)], 0, Auction(102, 10, 0)),
        # The price at which an order is left in part: both leave 5 bids, entered at 102.
        ([(102, 15)], [(100, 10)], 100, Auction(102, 10, 5)),
        # The nearest to the reference.
        ([(104, 10)], [(100, 10)], 103, Auction(103, 10, 0)),
        ([(104, 10)], [(100, 10)], 109, Auction(104, 10, 0)),
        # Market orders on both sides trade at the reference.
        ([(MARKET, 10)], [(0, 10)], 103, Auction(103, 10, 0)),
    ],
)
def test_cross_price_is_found_by_these_rules_in_turn(
    bids: list[tuple[int, int]], asks: list[tuple[int, int]], reference: int, expected: Auction
) -> None:
    assert auction(bids, asks, reference) == expected


def test_opening_cross_trades_market_orders_first_and_ends_what_waited() -> None:
    engine = MatchingEngine()
    engine.set_state(AAPL, State.QUOTING)
    for order in (
        buy(1, 50, PRICE, hidden=True),
        buy(2, 50, PRICE, cross=Cross.OPENING),
        buy(3, 50, PRICE),
        buy(4, 50, MARKET, cross=Cross.OPENING),
        buy(5, 50, PRICE, cross=Cross.CLOSING),
        sell(6, 130, PRICE, cross=Cross.OPENING),
    ):
        assert brief(engine.enter(order)) == []
    assert engine.bbo(AAPL) == (Level(PRICE, 50, 1), None)
    events = engine.cross(AAPL, Cross.OPENING)
    bought = [e for e in events if isinstance(e, Executed) and e.order_id != 6]
    assert [(e.order_id, e.last_qty, e.last_price, e.cross) for e in bought] == [
        (4, 50, PRICE, "O"),
        (3, 50, PRICE, "O"),
        (2, 30, PRICE, "O"),
    ]
    assert brief(events) == [(2, 20, "E")]
    engine.set_state(AAPL, State.TRADING)
    assert [order.order_id for order in engine.book_side(AAPL, BUY).orders()] == [1]
    assert brief(engine.cross(AAPL, Cross.CLOSING)) == [(5, 50, "E")]


# Mass cancel.


@pytest.mark.parametrize(
    ("participant", "locate", "expected"),
    [
        (5, 0, [3, 1, 2, 6]),
        (5, AAPL, [3, 1, 2]),
        (6, AAPL, [4]),
        (0, MSFT, [6, 7]),
        (8, 0, []),
    ],
)
def test_mass_cancel_takes_a_participants_orders_in_priority(
    participant: int, locate: int, expected: list[int]
) -> None:
    engine = entered(
        buy(1, 10, participant=5, hidden=True),
        sell(2, 10, PRICE + TICK, participant=5),
        buy(3, 10, participant=5),
        buy(4, 10, participant=6),
        NewOrder(6, MSFT, BUY, 10, PRICE, participant=5),
        NewOrder(7, MSFT, BUY, 10, PRICE - TICK, participant=6),
    )
    events = engine.mass_cancel(participant, locate)
    assert [event.order_id for event in events] == expected
    assert all(engine.order(order_id) is None for order_id in expected)


# Memory.


def test_arrays_grow_in_the_middle_of_anything() -> None:
    engine = MatchingEngine(orders=1, events=16)
    for order_id in range(1, 1_001):
        engine.enter(sell(order_id, 1, PRICE + order_id * 7919 % 500_000))
    assert engine.book_side(AAPL, SELL).depth == 1_000
    events = engine.enter(buy(5_000, 700, MARKET))
    prices = [event.last_price for event in events if isinstance(event, Executed)]
    assert len(prices) == 1_400
    assert prices == sorted(prices)
    assert len(engine.mass_cancel(locate=AAPL)) == 300


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("locate", -1, "locate must be 0 to 65535, not all of them are"),
        ("locate", 65_536, "locate must be 0 to 65535, not all of them are"),
        ("session", 3, "session must be -1 to 2, not all of them are"),
    ],
)
def test_array_of_requests_about_what_there_is_not_is_refused(
    name: str, value: int, text: str
) -> None:
    requests = np.zeros(3, REQUEST)
    requests[1][name] = value
    with pytest.raises(ValueError, match=f"^{text}$"):
        MatchingEngine().submit(requests)


def test_array_of_requests_is_served_in_order() -> None:
    engine, requests = MatchingEngine(), np.zeros(3, REQUEST)
    requests["order_id"], requests["locate"] = (1, 2, 1), AAPL
    requests["side"], requests["time_in_force"] = (SELL, BUY, 0), DAY
    requests["qty"], requests["price"] = (100, 40, 0), PRICE
    requests["op"] = (Op.ENTER, Op.ENTER, Op.CANCEL)
    kinds = [Kind.ACCEPTED, Kind.ADDED, Kind.ACCEPTED, Kind.EXECUTED, Kind.CANCELED]
    events = engine.submit(requests)
    assert events["kind"].tolist() == kinds
    assert events["qty"].tolist() == [100, 100, 40, 40, 60]


@pytest.mark.parametrize("locate", [-1, 65_536])
def test_locate_that_is_none_is_refused(locate: int) -> None:
    with pytest.raises(ValueError, match=f"^locate must be 0 to 65535, not {locate}$"):
        MatchingEngine().enter(NewOrder(1, locate, BUY, 1, 1))
