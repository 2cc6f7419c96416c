"""The order state machine, every pair of state and event."""

import pytest

from protocol.orders import (
    TERMINAL,
    TRANSITIONS,
    OrderEvent,
    OrderState,
    Side,
    TimeInForce,
    after_refusal,
)

# One row a state, one word a legal event.
TABLE = """
PENDING_NEW:      ACCEPTED>NEW REJECTED>REJECTED DENIED>DENIED
NEW:              PARTIALLY_EXECUTED>PARTIALLY_FILLED EXECUTED>FILLED REDUCED>NEW
                  CANCELED>CANCELED REPLACE_REQUESTED>PENDING_REPLACE
                  CANCEL_REQUESTED>PENDING_CANCEL
PARTIALLY_FILLED: PARTIALLY_EXECUTED>PARTIALLY_FILLED EXECUTED>FILLED REDUCED>PARTIALLY_FILLED
                  CANCELED>CANCELED REPLACE_REQUESTED>PENDING_REPLACE
                  CANCEL_REQUESTED>PENDING_CANCEL
PENDING_REPLACE:  PARTIALLY_EXECUTED>PENDING_REPLACE EXECUTED>FILLED REDUCED>PENDING_REPLACE
                  CANCELED>CANCELED REPLACED>REPLACED REPLACE_REFUSED>NEW
PENDING_CANCEL:   PARTIALLY_EXECUTED>PENDING_CANCEL EXECUTED>FILLED REDUCED>PENDING_CANCEL
                  CANCELED>CANCELED CANCEL_REFUSED>NEW
"""


def written_out():
    found, state = {}, ""
    for word in TABLE.split():
        if word.endswith(":"):
            state = word[:-1]
        else:
            event, after = word.split(">")
            found[OrderState[state], OrderEvent[event]] = OrderState[after]
    return found


@pytest.mark.parametrize("state", OrderState)
@pytest.mark.parametrize("event", OrderEvent)
def test_pair_leads_where_the_table_says_or_is_illegal(state, event):
    assert TRANSITIONS.get((state, event)) == written_out().get((state, event))


def test_table_holds_twenty_six_legal_pairs_of_one_hundred_and_twenty():
    assert len(written_out()) == len(TRANSITIONS) == 26
    assert len(OrderState) * len(OrderEvent) == 120


def test_no_event_leaves_a_terminal_state():
    assert {state.name for state in TERMINAL} == {
        "FILLED",
        "CANCELED",
        "REPLACED",
        "REJECTED",
        "DENIED",
    }
    assert not [pair for pair in TRANSITIONS if pair[0] in TERMINAL]


@pytest.mark.parametrize("state", [state for state in OrderState if state not in TERMINAL])
def test_every_other_state_reaches_a_terminal_one(state):
    reached, edge = {state}, {state}
    while edge:
        edge = {after for (before, _), after in TRANSITIONS.items() if before in edge} - reached
        reached |= edge
    assert reached & TERMINAL


def test_every_state_is_reached_from_a_new_order():
    reached, edge = {OrderState.PENDING_NEW}, {OrderState.PENDING_NEW}
    while edge:
        edge = {after for (before, _), after in TRANSITIONS.items() if before in edge} - reached
        reached |= edge
    assert reached == set(OrderState)


def test_refused_request_leads_back_by_what_was_executed():
    assert after_refusal(0) is OrderState.NEW
    assert after_refusal(1) is OrderState.PARTIALLY_FILLED


def test_sides_and_times_in_force_are_the_bytes_of_the_wire():
    assert {side.name: chr(side) for side in Side} == {
        "BUY": "B",
        "SELL": "S",
        "SELL_SHORT": "T",
        "SELL_SHORT_EXEMPT": "E",
    }
    assert [side.sign for side in Side] == [1, -1, -1, -1]
    assert {item.name: chr(item) for item in TimeInForce} == {"DAY": "0", "IOC": "3"}
