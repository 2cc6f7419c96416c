"""Replay: how our orders fill beside a tape that does not know of them."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol import itch50
from protocol.orders import Side, TimeInForce
from sim.venue import flow
from sim.venue.matching import (
    Accepted,
    Canceled,
    CancelReason,
    Event,
    Executed,
    Level,
    NewOrder,
    Rejected,
    RejectReason,
    Replaced,
)
from sim.venue.replay import UNKNOWN_COUNTERPARTY, ReplayBook

DAY, IOC = TimeInForce.DAY, TimeInForce.IOC
BUY, SELL = Side.BUY, Side.SELL
AAPL, MSFT = 1, 2


def ours(order_id: int, side: Side, qty: int, price: int, tif: TimeInForce = DAY) -> NewOrder:
    return NewOrder(order_id, AAPL, side, qty, price, tif)


def taped(*orders: tuple[int, Side, int, int]) -> ReplayBook:
    """Return a book with recorded orders of AAPL: reference, side, shares, price."""
    book = ReplayBook()
    for ref, side, shares, price in orders:
        book.on_add(ref, AAPL, side, shares, price)
    return book


def fills(events: list[Event] | list[Executed]) -> list[tuple[int, int, int, int]]:
    """Return (order id, counterparty, quantity, price) of each execution."""
    return [
        (event.order_id, event.counterparty_id, event.last_qty, event.last_price)
        for event in events
        if isinstance(event, Executed)
    ]


def test_execution_behind_our_order_fills_ours_first() -> None:
    book = taped((500, BUY, 300, 100_0000))
    book.enter(ours(1, BUY, 200, 100_0000))
    book.on_add(501, AAPL, BUY, 400, 100_0000)
    # An aggressor of 150 shares met the order behind ours: it would have met ours before.
    assert book.on_execute(501, 150) == [
        Executed(1, UNKNOWN_COUNTERPARTY, 150, 100_0000, 1, is_maker=True)
    ]
    # History is as it was: 400 - 150 shares. Ours has 50 left, the next aggressor takes them.
    assert book.depth(AAPL, BUY, 1) == [Level(100_0000, 300 + 50 + 250, 3)]
    assert fills(book.on_execute(501, 250)) == [(1, UNKNOWN_COUNTERPARTY, 50, 100_0000)]
    assert book.order(1) is None


def test_execution_ahead_of_our_order_fills_nothing() -> None:
    book = taped((500, BUY, 300, 100_0000))
    book.enter(ours(1, BUY, 200, 100_0000))
    assert book.on_execute(500, 300) == []
    assert book.shares_ahead(1) == 0


def test_our_better_priced_orders_fill_at_their_own_prices_in_priority() -> None:
    book = taped((500, SELL, 900, 100_0500))
    book.enter(ours(1, SELL, 100, 100_0400))
    book.enter(ours(2, SELL, 100, 100_0300))
    book.enter(ours(3, SELL, 100, 100_0300))
    # Behind the recorded order in time, and behind it in price: not met.
    book.enter(ours(4, SELL, 100, 100_0500))
    book.enter(ours(5, SELL, 100, 100_0600))
    # Two orders take all of it, so the third that would be met gets nothing.
    assert fills(book.on_execute(500, 150)) == [
        (2, UNKNOWN_COUNTERPARTY, 100, 100_0300),
        (3, UNKNOWN_COUNTERPARTY, 50, 100_0300),
    ]
    book.enter(ours(6, SELL, 100, 100_0200))
    assert fills(book.on_execute(500, 200)) == [
        (6, UNKNOWN_COUNTERPARTY, 100, 100_0200),
        (3, UNKNOWN_COUNTERPARTY, 50, 100_0300),
        (1, UNKNOWN_COUNTERPARTY, 50, 100_0400),
    ]


def test_execution_fills_no_more_of_ours_than_it_had_shares() -> None:
    book = taped((500, BUY, 100, 100_0000))
    book.enter(ours(1, BUY, 999, 100_0100))
    # The tape claims more shares than the order has left: 100 is what there was.
    assert fills(book.on_execute(500, 5_000)) == [(1, UNKNOWN_COUNTERPARTY, 100, 100_0100)]
    assert book.depth(AAPL, BUY, 9) == [Level(100_0100, 899, 1)]


def test_execution_on_the_other_side_or_another_symbol_fills_nothing() -> None:
    book = taped((500, SELL, 300, 100_0100))
    book.on_add(600, MSFT, BUY, 300, 50_0000)
    book.enter(ours(1, BUY, 200, 100_0000))
    assert book.on_execute(500, 300) == []
    assert book.on_execute(600, 300) == []


def test_added_order_that_reaches_ours_fills_ours_and_is_still_added_in_full() -> None:
    book = ReplayBook()
    book.enter(ours(1, BUY, 100, 100_0000))
    book.enter(ours(2, BUY, 500, 100_0200))
    book.enter(ours(3, BUY, 100, 99_9900))
    assert book.on_add(700, AAPL, SELL, 550, 100_0000) == [
        Executed(2, 700, 500, 100_0200, 1, is_maker=True),
        Executed(1, 700, 50, 100_0000, 2, is_maker=True),
    ]
    assert book.depth(AAPL, SELL, 9) == [Level(100_0000, 550, 1)]
    assert book.depth(AAPL, BUY, 9) == [Level(100_0000, 50, 1), Level(99_9900, 100, 1)]


def test_shares_that_an_added_order_sold_us_are_not_sold_again() -> None:
    book = ReplayBook()
    book.enter(ours(1, BUY, 100, 100_0000))
    book.on_add(700, AAPL, SELL, 150, 100_0000)
    assert fills(book.enter(ours(2, BUY, 100, 100_0000, IOC))) == [(2, 700, 50, 100_0000)]


def test_replaced_recorded_order_that_reaches_ours_fills_ours() -> None:
    book = taped((700, SELL, 300, 100_0500))
    book.enter(ours(1, BUY, 100, 100_0000))
    assert fills(book.on_replace(700, 701, 80, 99_9900)) == [(1, 701, 80, 100_0000)]
    assert book.depth(AAPL, SELL, 9) == [Level(99_9900, 80, 1)]


def test_our_marketable_order_takes_displayed_shares_best_first() -> None:
    book = taped((1, SELL, 100, 100_0200), (2, SELL, 100, 100_0100), (3, SELL, 50, 100_0100))
    # Order 1 is ours, reference 1 is the tape's.
    assert book.enter(ours(1, BUY, 220, 100_0200)) == [
        Accepted(1, AAPL, BUY, 220, 100_0200, DAY),
        Executed(1, 2, 100, 100_0100, 1, is_maker=False),
        Executed(1, 3, 50, 100_0100, 2, is_maker=False),
        Executed(1, 1, 70, 100_0200, 3, is_maker=False),
    ]
    # The tape is not changed.
    assert book.depth(AAPL, SELL, 9) == [Level(100_0100, 150, 2), Level(100_0200, 100, 1)]


def test_taken_shares_can_not_be_taken_again_until_the_order_leaves() -> None:
    book = taped((500, SELL, 300, 100_0000))
    assert fills(book.enter(ours(1, BUY, 200, 100_0000, IOC))) == [(1, 500, 200, 100_0000)]
    assert book.enter(ours(2, BUY, 200, 100_0000, IOC)) == [
        Accepted(2, AAPL, BUY, 200, 100_0000, IOC),
        Executed(2, 500, 100, 100_0000, 2, is_maker=False),
        Canceled(2, 100, CancelReason.IOC),
    ]
    # What history executes of it counts on top of what we took.
    assert book.on_execute(500, 50) == []
    assert fills(book.enter(ours(3, BUY, 10, 100_0000, IOC))) == []
    # A replacement inherits what was taken: 350 - 300.
    book.on_replace(500, 501, 350, 100_0000)
    assert fills(book.enter(ours(4, BUY, 200, 100_0000, IOC))) == [(4, 501, 50, 100_0000)]
    book.on_delete(501)
    book.on_add(500, AAPL, SELL, 300, 100_0000)
    assert fills(book.enter(ours(5, BUY, 200, 100_0000, IOC))) == [(5, 500, 200, 100_0000)]


def test_remainder_of_our_order_rests_and_history_may_lock_it() -> None:
    book = taped((500, SELL, 100, 100_0000))
    book.enter(ours(1, BUY, 150, 100_0000))
    assert book.bbo(AAPL) == (Level(100_0000, 50, 1), Level(100_0000, 100, 1))


def test_incoming_order_that_meets_our_own_is_canceled_from_there() -> None:
    book = taped((500, SELL, 100, 100_0000), (501, SELL, 100, 100_0200))
    book.enter(ours(1, SELL, 100, 100_0100))
    assert book.enter(ours(2, BUY, 300, 100_0200)) == [
        Accepted(2, AAPL, BUY, 300, 100_0200, DAY),
        Executed(2, 500, 100, 100_0000, 1, is_maker=False),
        Canceled(2, 200, CancelReason.SELF_MATCH),
    ]
    assert book.order(1) is not None
    assert book.order(2) is None


def test_incoming_order_that_is_filled_before_it_meets_our_own_is_not_canceled() -> None:
    book = taped((500, SELL, 100, 100_0000))
    book.enter(ours(1, SELL, 100, 100_0000))
    assert book.enter(ours(2, BUY, 100, 100_0000)) == [
        Accepted(2, AAPL, BUY, 100, 100_0000, DAY),
        Executed(2, 500, 100, 100_0000, 1, is_maker=False),
    ]


def test_replacement_that_meets_our_own_order_is_canceled() -> None:
    book = ReplayBook()
    book.enter(ours(1, SELL, 100, 100_0000))
    book.enter(ours(2, BUY, 100, 99_0000))
    assert book.replace(2, 3, 100, 100_0000) == [
        Replaced(3, 2, AAPL, BUY, 100, 100_0000, DAY),
        Canceled(3, 100, CancelReason.SELF_MATCH),
    ]


def test_our_order_joins_behind_everything_at_its_price_and_moves_up() -> None:
    book = taped((500, BUY, 300, 100_0000), (501, BUY, 200, 100_0000), (502, BUY, 50, 100_0100))
    book.enter(ours(1, BUY, 100, 100_0000))
    book.on_add(503, AAPL, BUY, 400, 100_0000)
    book.enter(ours(2, BUY, 100, 100_0000))
    assert (book.shares_ahead(1), book.shares_ahead(2)) == (500, 1_000)
    book.on_execute(500, 120)
    assert book.shares_ahead(1) == 380
    book.on_reduce(501, 50)
    assert book.shares_ahead(1) == 330
    book.on_delete(500)
    assert book.shares_ahead(1) == 150
    # Behind it nothing matters; a replaced order goes to the end.
    book.on_delete(503)
    assert book.shares_ahead(1) == 150
    book.on_replace(501, 504, 150, 100_0000)
    assert (book.shares_ahead(1), book.shares_ahead(2)) == (0, 100)
    # Our reduction keeps the place, our replacement loses it.
    book.cancel(1, 60)
    assert (book.shares_ahead(1), book.shares_ahead(2)) == (0, 60)
    book.replace(1, 3, 60, 100_0000)
    assert (book.shares_ahead(2), book.shares_ahead(3)) == (0, 250)
    with pytest.raises(KeyError):
        book.shares_ahead(1)


def test_replace_chain_and_rejects_are_those_of_the_matching_engine() -> None:
    book = taped((500, BUY, 100, 100_0000))
    book.enter(ours(1, BUY, 500, 100_0100))
    book.on_execute(500, 100)
    assert book.replace(1, 2, 500, 100_0000) == [Replaced(2, 1, AAPL, BUY, 400, 100_0000, DAY)]
    assert book.cancel(2, 300) == [Canceled(2, 200, CancelReason.USER)]
    assert book.cancel(500) == []
    assert book.enter(ours(3, BUY, 0, 100_0000)) == [Rejected(3, RejectReason.INVALID_QUANTITY)]


def test_fill_or_kill_counts_only_what_we_have_not_taken() -> None:
    book = taped((500, SELL, 300, 100_0000))
    book.enter(ours(1, BUY, 200, 100_0000, IOC))
    kill = NewOrder(2, AAPL, BUY, 101, 100_0000, IOC, min_qty=101)
    assert book.enter(kill)[1:] == [Canceled(2, 101, CancelReason.IOC)]
    fill = NewOrder(3, AAPL, BUY, 100, 100_0000, IOC, min_qty=100)
    assert fills(book.enter(fill)) == [(3, 500, 100, 100_0000)]


def test_reserve_of_ours_is_displayed_again_as_the_tape_takes_it() -> None:
    book = ReplayBook()
    book.enter(NewOrder(1, AAPL, BUY, 400, 100_0000, max_floor=100))
    assert fills(book.on_add(700, AAPL, SELL, 250, 100_0000)) == [
        (1, 700, 100, 100_0000),
        (1, 700, 100, 100_0000),
        (1, 700, 50, 100_0000),
    ]
    assert book.depth(AAPL, BUY, 1) == [Level(100_0000, 50, 1)]
    # The next part stands behind a recorded order, whose executions do not reach it.
    book.on_add(701, AAPL, BUY, 100, 100_0000)
    assert fills(book.on_execute(701, 80)) == [(1, UNKNOWN_COUNTERPARTY, 50, 100_0000)]
    assert book.shares_ahead(1) == 20


def test_one_message_may_fill_more_orders_than_there_is_room_for_events() -> None:
    book = ReplayBook(orders=1, events=16)
    for order_id in range(1, 101):
        book.enter(ours(order_id, BUY, 10, 100_0000))
    assert len(book.on_add(700, AAPL, SELL, 955, 100_0000)) == 96
    assert book.depth(AAPL, BUY, 1) == [Level(100_0000, 45, 5)]
    # It sold us all of its shares: none is left for another order of ours.
    book.cancel(96)
    for order_id in range(97, 101):
        book.cancel(order_id)
    taken = fills(book.enter(ours(200, BUY, 100, 100_0000, IOC)))
    assert taken == []
    assert book.depth(AAPL, SELL, 1) == [Level(100_0000, 955, 1)]


@pytest.mark.parametrize(("shares", "price"), [(0, 1), (1 << 31, 1), (1, 1 << 31)])
def test_recorded_order_that_is_none_is_ignored_and_counted(shares: int, price: int) -> None:
    book = ReplayBook()
    assert book.on_add(1, AAPL, BUY, shares, price) == []
    assert (book.ignored_count, book.bbo(AAPL)) == (1, (None, None))


def test_reference_may_have_all_of_its_64_bits() -> None:
    book = taped(((1 << 64) - 1, SELL, 100, 100_0000))
    assert fills(book.enter(ours(1, BUY, 10, 100_0000, IOC))) == [(1, (1 << 64) - 1, 10, 100_0000)]
    book.on_delete((1 << 64) - 1)
    assert (book.bbo(AAPL), book.ignored_count) == ((None, None), 0)


def test_unknown_and_repeated_references_are_ignored_and_counted() -> None:
    book = taped((500, BUY, 100, 100_0000), (501, BUY, 100, 100_0000))
    assert book.on_execute(7, 100) == []
    book.on_reduce(7, 100)
    book.on_delete(7)
    assert book.on_replace(7, 8, 100, 100_0000) == []
    assert book.ignored_count == 4
    assert book.on_add(500, AAPL, SELL, 900, 99_0000) == []
    assert book.on_replace(500, 501, 900, 99_0000) == []
    assert book.ignored_count == 6
    assert book.bbo(AAPL) == (Level(100_0000, 200, 2), None)


def test_recorded_order_leaves_when_its_last_share_does() -> None:
    book = taped((500, BUY, 100, 100_0000))
    book.on_execute(500, 40)
    book.on_reduce(500, 59)
    assert book.bbo(AAPL)[0] == Level(100_0000, 1, 1)
    book.on_execute(500, 1)
    assert book.bbo(AAPL)[0] is None
    book.on_delete(500)
    assert book.ignored_count == 1


def test_messages_of_the_tape_are_applied_by_type() -> None:
    book = ReplayBook()
    book.enter(ours(1, BUY, 500, 100_0000))
    head = {"stock_locate": AAPL, "timestamp": 0}
    ref = {"order_reference_number": 10}
    add = {**ref, "stock": "AAPL", "buy_sell_indicator": "S", "shares": 100, "price": 100_0000}
    mpid = {**add, "order_reference_number": 11, "buy_sell_indicator": "B", "attribution": "ATLS"}
    traded = {"executed_shares": 10, "match_number": 1}
    print_ = {"printable": "Y", "execution_price": 99_9950}
    moved = {"original_order_reference_number": 11, "new_order_reference_number": 12}
    steps = [
        # Fills 100 of ours and locks it.
        (itch50.ADD_ORDER, add, [(1, 10, 100, 100_0000)], (500 - 100, 100)),
        (itch50.ORDER_EXECUTED, {**ref, **traded}, [], (400, 90)),
        (itch50.ORDER_CANCEL, {**ref, "canceled_shares": 30}, [], (400, 60)),
        (itch50.ORDER_DELETE, ref, [], (400, 0)),
        # Behind ours at our price: its executions fill ours.
        (itch50.ADD_ORDER_MPID, mpid, [], (500, 0)),
        (
            itch50.ORDER_EXECUTED_WITH_PRICE,
            {**traded, **print_, "order_reference_number": 11},
            [(1, UNKNOWN_COUNTERPARTY, 10, 100_0000)],
            (390 + 90, 0),
        ),
        (itch50.ORDER_REPLACE, {**moved, "shares": 50, "price": 99_0000}, [], (390, 0)),
        (itch50.SYSTEM_EVENT, {"event_code": "M"}, [], (390, 0)),
    ]
    for layout, values, expected, (bid_qty, ask_qty) in steps:
        fields = layout.unpack(layout.pack({**head, **values}))
        assert fills(book.background(fields)) == expected, layout.title
        bid, ask = book.bbo(AAPL)
        assert (bid.qty if bid else 0, ask.qty if ask else 0) == (bid_qty, ask_qty), layout.title
    assert book.depth(AAPL, BUY, 2)[1] == Level(99_0000, 50, 1)
    assert book.ignored_count == 0


def day(seed: int, messages: int) -> list[dict[str, int | str | bytes]]:
    return [
        itch50.MESSAGES.identify(message[0]).unpack(message)
        for message in flow.generate(seed, ["AAPL"], messages)
    ]


def test_generated_day_is_replayed_without_a_reference_that_is_unknown() -> None:
    book = ReplayBook()
    for fields in day(3, 2_000):
        assert book.background(fields) == []
    bid, ask = book.bbo(AAPL)
    assert bid is not None
    assert ask is not None
    assert bid.price < ask.price
    assert book.ignored_count == 0


class Account:
    """Our shares by what became of them, from the events alone."""

    def __init__(self) -> None:
        self.entered_qty = self.executed_qty = self.canceled_qty = 0
        self.open_qty: Counter[int] = Counter()
        self.traded_with: Counter[int] = Counter()

    def book(self, events: list[Event] | list[Executed]) -> None:
        for event in events:
            match event:
                case Accepted():
                    self.entered_qty += event.order_qty
                    self.open_qty[event.order_id] = event.order_qty
                case Executed():
                    self.executed_qty += event.last_qty
                    self.open_qty[event.order_id] -= event.last_qty
                    self.traded_with[event.counterparty_id] += event.last_qty
                case Canceled():
                    self.canceled_qty += event.canceled_qty
                    self.open_qty[event.order_id] -= event.canceled_qty
                case Replaced():
                    # Shares that a replacement adds are entered, those that it drops canceled.
                    added_qty = event.leaves_qty - self.open_qty.pop(event.orig_order_id)
                    self.entered_qty += max(added_qty, 0)
                    self.canceled_qty += max(-added_qty, 0)
                    self.open_qty[event.order_id] = event.leaves_qty


def tape_step(
    book: ReplayBook, kind: str, side: Side, ref: int, new_ref: int, shares: int, price: int
) -> list[Executed]:
    match kind:
        case "A":
            return book.on_add(new_ref, AAPL, side, shares, price)
        case "E":
            return book.on_execute(ref, shares)
        case "X":
            book.on_reduce(ref, shares)
        case "D":
            book.on_delete(ref)
        case "U":
            return book.on_replace(ref, new_ref, shares, price)
    return []


def our_step(
    book: ReplayBook, kind: str, side: Side, order_id: int, other_id: int, qty: int, price: int
) -> list[Event]:
    match kind:
        case "enter":
            return book.enter(ours(order_id, side, qty, price))
        case "enter ioc":
            return book.enter(ours(order_id, side, qty, price, IOC))
        case "cancel":
            return book.cancel(order_id)
        case "reduce":
            return book.cancel(order_id, qty)
    return book.replace(order_id, other_id, qty, price)


NUMBERS = st.integers(1, 6)
STEPS = st.tuples(
    st.sampled_from(("A", "A", "E", "X", "D", "U"))
    | st.sampled_from(("enter", "enter", "enter ioc", "cancel", "reduce", "replace")),
    st.sampled_from((BUY, SELL)),
    NUMBERS,
    NUMBERS,
    st.integers(1, 9),
    st.integers(98, 102),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(STEPS, max_size=60))
def test_every_share_of_ours_is_executed_canceled_or_open(
    steps: list[tuple[str, Side, int, int, int, int]],
) -> None:
    book, account = ReplayBook(), Account()
    shares_of: dict[int, int] = {}
    for kind, side, this, other, qty, price in steps:
        if len(kind) > 1:
            account.book(our_step(book, kind, side, this, other, qty, price))
        else:
            new_ref = 1_000 + len(shares_of)
            events = tape_step(book, kind, side, new_ref - this, new_ref, qty, price)
            shares_of[new_ref] = qty
            account.book(events)
            assert sum(event.last_qty for event in events) <= qty
        for order_id, open_qty in account.open_qty.items():
            order = book.order(order_id)
            assert open_qty == (order.leaves_qty if order else 0)
        open_qty = sum(account.open_qty.values())
        assert account.entered_qty == account.executed_qty + account.canceled_qty + open_qty
    for ref, traded_qty in account.traded_with.items():
        assert ref == UNKNOWN_COUNTERPARTY or traded_qty <= shares_of[ref]
