"""Order states: every transition through requests and records, and every one that is illegal."""

import pytest

from protocol.orders import OrderEvent, OrderState
from protocol.ring import RecordType
from sw.errors import OrderStateError

S, E = OrderState, OrderEvent


def pending_new(desk):
    return desk.buy()


def partially_filled(desk):
    order = desk.live()
    desk.executed(order, 40)
    return order


def pending_replace(desk):
    order = desk.live()
    assert desk.oms.replace(order, 200, 1_000_000, 6) is not None
    return order


def pending_cancel(desk):
    order = desk.live()
    assert desk.oms.cancel(order, 6)
    return order


def filled(desk):
    order = desk.live()
    desk.executed(order, 100)
    return order


def canceled(desk):
    order = desk.live()
    desk.canceled(order, 100)
    return order


def replaced(desk):
    order = pending_replace(desk)
    desk.replaced(order, order.replacement, 200)
    return order


def rejected(desk):
    order = desk.buy()
    desk.rejected(order)
    return order


def denied(desk):
    order = desk.buy()
    desk.denied(order.cl_ord_id, RecordType.NEW)
    return order


WAYS = {
    S.PENDING_NEW: pending_new,
    S.NEW: lambda desk: desk.live(),
    S.PARTIALLY_FILLED: partially_filled,
    S.PENDING_REPLACE: pending_replace,
    S.PENDING_CANCEL: pending_cancel,
    S.FILLED: filled,
    S.CANCELED: canceled,
    S.REPLACED: replaced,
    S.REJECTED: rejected,
    S.DENIED: denied,
}

CAUSES = {
    E.ACCEPTED: lambda desk, order: desk.accepted(order),
    E.REJECTED: lambda desk, order: desk.rejected(order),
    E.DENIED: lambda desk, order: desk.denied(order.cl_ord_id, RecordType.NEW),
    E.PARTIALLY_EXECUTED: lambda desk, order: desk.executed(order, 1),
    E.EXECUTED: lambda desk, order: desk.executed(order, order.leaves_qty),
    E.REPLACE_REQUESTED: lambda desk, order: desk.oms.replace(order, 200, 1_000_000, 7),
    E.REPLACED: lambda desk, order: desk.replaced(order, order.replacement or order, 200),
    E.REPLACE_REFUSED: lambda desk, order: desk.rejected(order.replacement or order),
    E.CANCEL_REQUESTED: lambda desk, order: desk.oms.cancel(order, 7),
    E.CANCEL_REFUSED: lambda desk, order: desk.denied(order.cl_ord_id, RecordType.CANCEL),
    E.REDUCED: lambda desk, order: desk.canceled(order, 1),
    E.CANCELED: lambda desk, order: desk.canceled(order, order.leaves_qty),
}

LIVE = {
    E.EXECUTED: S.FILLED,
    E.REPLACE_REQUESTED: S.PENDING_REPLACE,
    E.CANCEL_REQUESTED: S.PENDING_CANCEL,
    E.CANCELED: S.CANCELED,
}
LEGAL = {
    S.PENDING_NEW: {E.ACCEPTED: S.NEW, E.REJECTED: S.REJECTED, E.DENIED: S.DENIED},
    S.NEW: LIVE | {E.PARTIALLY_EXECUTED: S.PARTIALLY_FILLED, E.REDUCED: S.NEW},
    S.PARTIALLY_FILLED: LIVE
    | {E.PARTIALLY_EXECUTED: S.PARTIALLY_FILLED, E.REDUCED: S.PARTIALLY_FILLED},
    S.PENDING_REPLACE: {
        E.PARTIALLY_EXECUTED: S.PENDING_REPLACE,
        E.REDUCED: S.PENDING_REPLACE,
        E.EXECUTED: S.FILLED,
        E.CANCELED: S.CANCELED,
        E.REPLACED: S.REPLACED,
        E.REPLACE_REFUSED: S.NEW,
    },
    S.PENDING_CANCEL: {
        E.PARTIALLY_EXECUTED: S.PENDING_CANCEL,
        E.REDUCED: S.PENDING_CANCEL,
        E.EXECUTED: S.FILLED,
        E.CANCELED: S.CANCELED,
        E.CANCEL_REFUSED: S.NEW,
    },
}
ENDED = (S.FILLED, S.CANCELED, S.REPLACED, S.REJECTED, S.DENIED)

# An answer to a request that the order's end has overtaken says nothing new and is no fault.
OVERTAKEN = {(state, event) for state in ENDED for event in (E.REJECTED, E.DENIED)}
OVERTAKEN |= {(state, E.CANCEL_REFUSED) for state in S if state is not S.PENDING_CANCEL}
OVERTAKEN |= {(s, E.REPLACE_REFUSED) for s in ENDED if s is not S.REPLACED}
# Without a replacement the refusal is one of the order itself, which the event REJECTED has.
UNREACHABLE = {(S.PENDING_NEW, E.REPLACE_REFUSED)}


@pytest.mark.parametrize(
    ("state", "event"), [(s, e) for s in S for e in E if (s, e) not in OVERTAKEN | UNREACHABLE]
)
def test_event_leads_to_the_next_state_where_it_is_legal_and_raises_where_not(desk, state, event):
    order = WAYS[state](desk)
    assert order.state is state
    desk.published()
    expected = LEGAL.get(state, {}).get(event)
    if expected is not None:
        CAUSES[event](desk, order)
        assert order.state is expected
    else:
        with pytest.raises(OrderStateError):
            CAUSES[event](desk, order)
        assert order.state is state
        assert desk.published() == []


@pytest.mark.parametrize(("state", "event"), sorted(OVERTAKEN))
def test_answer_to_a_request_that_was_overtaken_changes_nothing(desk, state, event):
    order = WAYS[state](desk)
    before = desk.risk.exposure(0)
    CAUSES[event](desk, order)
    assert order.state is state
    assert desk.risk.exposure(0) == before


def test_illegal_event_says_order_state_and_event(desk):
    order = filled(desk)
    with pytest.raises(
        OrderStateError,
        match=r"^ORDER_EVENT_ILLEGAL: cl_ord_id=1, state=FILLED, event=CANCEL_REQUESTED$",
    ):
        desk.oms.cancel(order, 9)
