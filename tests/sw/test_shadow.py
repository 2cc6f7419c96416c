"""A symbol's orders off the card, message by message, and what makes them worth nothing."""

import pytest

from protocol import itch50
from protocol.glimpse import END_OF_SNAPSHOT
from protocol.layout import DecodeError
from sw.feed.shadow import Shadows, Standing

IDS = {"stock_locate": 7, "timestamp": 5}


def add(ref, side="B", shares=100, price=500, stock="AAPL", locate=7):
    return itch50.ADD_ORDER.pack(
        stock_locate=locate,
        timestamp=5,
        order_reference_number=ref,
        buy_sell_indicator=side,
        shares=shares,
        stock=stock,
        price=price,
    )


def execute(ref, shares):
    return itch50.ORDER_EXECUTED.pack(
        **IDS, order_reference_number=ref, executed_shares=shares, match_number=1
    )


def cancel(ref, shares):
    return itch50.ORDER_CANCEL.pack(**IDS, order_reference_number=ref, canceled_shares=shares)


def delete(ref):
    return itch50.ORDER_DELETE.pack(**IDS, order_reference_number=ref)


def replace(old, new, shares, price):
    return itch50.ORDER_REPLACE.pack(
        **IDS,
        original_order_reference_number=old,
        new_order_reference_number=new,
        shares=shares,
        price=price,
    )


def of(*messages, locate=7):
    shadows = Shadows([("AAPL", locate)])
    shadows.apply(1, list(messages))
    return shadows, shadows.symbols[0]


@pytest.mark.parametrize(
    ("messages", "orders"),
    [
        ([add(1), add(2, "S", 30, 600)], {1: (66, 100, 500), 2: (83, 30, 600)}),
        ([add(1), execute(1, 40)], {1: (66, 60, 500)}),
        ([add(1), execute(1, 100)], {}),
        ([add(1), cancel(1, 1)], {1: (66, 99, 500)}),
        ([add(1), delete(1)], {}),
        ([add(1, "S"), replace(1, 2, 9, 501)], {2: (83, 9, 501)}),
        ([add(1), b"", b"?", add(2)[:-1]], {1: (66, 100, 500)}),
        ([add(1, stock="MSFT", locate=8), add(2)], {2: (66, 100, 500)}),
    ],
)
@pytest.mark.parametrize("locate", [0, 7])
def test_orders_are_what_the_messages_leave(messages, orders, locate):
    shadows, symbol = of(*messages, locate=locate)
    assert symbol.orders == {ref: Standing(*order) for ref, order in orders.items()}
    assert symbol.is_exact
    assert symbol.locate == 7
    assert shadows.next_sequence == 1 + len(messages)


@pytest.mark.parametrize(
    "messages",
    [
        [delete(1)],
        [add(1), add(1)],
        [add(1), execute(1, 101)],
        [add(1), cancel(2, 1)],
        [replace(1, 2, 3, 4)],
        [add(1), add(2), replace(1, 2, 3, 4)],
        [add(1, shares=0)],
        [add(1, side="X")],
        [delete(1), add(2)],
    ],
)
@pytest.mark.parametrize("locate", [0, 7])
def test_message_that_fits_no_order_makes_them_worth_nothing(messages, locate):
    _, symbol = of(*messages, add(99), locate=locate)
    assert not symbol.is_exact


def test_messages_are_applied_once_and_never_across_a_gap():
    shadows, symbol = of(add(1), add(2))
    assert shadows.apply(1, [add(1), add(2)]) == 0
    assert shadows.apply(2, [add(2), add(3)]) == 1
    assert shadows.apply(5, [add(5)]) == 0
    assert sorted(symbol.orders) == [1, 2, 3]
    assert shadows.next_sequence == 4
    assert symbol.is_exact


def test_snapshot_begins_anew():
    shadows, _ = of(delete(1))
    shadows.load([add(5), END_OF_SNAPSHOT.pack(sequence_number=77)])
    (symbol,) = shadows.symbols
    assert symbol.is_exact
    assert list(symbol.orders) == [5]
    assert shadows.next_sequence == 77


@pytest.mark.parametrize("snapshot", [[], [add(5)], [add(5), b"G12"], [add(5), b"G" + b"x" * 20]])
def test_snapshot_without_its_end_is_refused_and_nothing_is_kept(snapshot):
    shadows, symbol = of(add(1))
    with pytest.raises(DecodeError):
        shadows.load(snapshot)
    assert list(symbol.orders) == [1]
    assert shadows.next_sequence == 2


def test_changes_are_noted_for_who_wants_to_know():
    shadows, symbol = of(add(1), add(2))
    assert symbol.touched is None
    symbol.touched = set()
    shadows.apply(3, [execute(1, 1), replace(2, 3, 1, 1), add(4)])
    assert symbol.touched == {1, 2, 3, 4}


def test_states_and_events_are_kept():
    state = {"stock": "AAPL", "trading_state": "P", "reserved": " ", "reason_code": ""}
    shadows, symbol = of(
        itch50.SYSTEM_EVENT.pack(stock_locate=0, timestamp=1, event_code="Q"),
        itch50.STOCK_TRADING_ACTION.pack(**IDS, **state),
    )
    assert (shadows.event_code, symbol.trading_state) == (ord("Q"), ord("P"))
    halt = {"stock": "AAPL", "market_code": "Q", "operational_halt_action": "H"}
    shadows.apply(3, [itch50.OPERATIONAL_HALT.pack(**IDS, **halt)])
    assert symbol.trading_state == ord("H")
    halt["operational_halt_action"] = "T"
    shadows.apply(4, [itch50.OPERATIONAL_HALT.pack(**IDS, **halt)])
    assert symbol.trading_state == ord("T")
    halt |= {"market_code": "B", "operational_halt_action": "H"}
    shadows.apply(5, [itch50.OPERATIONAL_HALT.pack(**IDS, **halt)])
    assert symbol.trading_state == ord("T")
