"""The host's gate: closed until opened, and asked with the right symbol's state."""

import pytest

from kernels.risk import Exposure, Limits, Order, Rate
from protocol.reasons import DenyReason, StaleReason
from sw.feed import Quote
from sw.risk import Risk

R = DenyReason
ORDER = Order(True, 100, 100, 1_000_000)
OPEN = Limits(100, 100_000_000, 100, 100)


def quote(**more):
    return Quote(**({"bid_price": 999_900, "ask_price": 1_000_100} | more))


@pytest.fixture
def risk():
    made = Risk(2)
    made.killed = False
    made.limits[1] = OPEN
    made.rate = Rate(1, 100)
    return made


def test_everything_comes_up_closed():
    closed = Risk(2)
    assert closed.killed
    assert closed.check(0, ORDER, quote(), 0) is R.KILL_SWITCH
    closed.killed = False
    assert closed.check(0, ORDER, quote(), 0) is R.UNKNOWN_SYMBOL
    closed.limits[0] = OPEN
    assert closed.check(0, ORDER, quote(), 0) is R.MESSAGE_RATE_EXCEEDED
    closed.rate = Rate(1, 100)
    assert closed.check(0, ORDER, quote(), 0) is R.NONE


def test_kill_switch_comes_before_every_other_reason(risk):
    risk.killed = True
    assert risk.check(0, ORDER, quote(stale_reason=StaleReason.GAP), 0) is R.KILL_SWITCH


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, R.NONE),
        ({"trading_state": ord("H")}, R.SYMBOL_HALTED),
        ({"stale_reason": StaleReason.GAP}, R.BOOK_STALE),
        ({"bid_price": 900_000}, R.PRICE_OUTSIDE_BAND),
        ({"ask_price": 0}, R.PRICE_OUTSIDE_BAND),
    ],
)
def test_quote_tells_of_the_market(risk, more, reason):
    assert risk.check(1, ORDER, quote(**more), 0) is reason


def test_limits_and_exposures_are_the_symbol_s_own(risk):
    assert risk.check(0, ORDER, quote(), 0) is R.UNKNOWN_SYMBOL
    risk.open(0, True, 100)
    assert risk.check(1, ORDER, quote(), 0) is R.NONE
    risk.open(1, True, 1)
    assert risk.check(1, ORDER, quote(), 0) is R.POSITION_EXCEEDS_LIMIT
    assert risk.exposures == [Exposure(0, 100, 0), Exposure(0, 1, 0)]


def test_fills_move_open_shares_into_the_position(risk):
    risk.open(1, True, 100)
    risk.fill(1, True, 60)
    risk.open(1, False, 30)
    risk.fill(1, False, 30)
    risk.open(1, True, -40)
    assert risk.exposures == [Exposure(), Exposure(position=30)]


def test_rate_is_shared_by_all_symbols(risk):
    risk.limits[0] = OPEN
    risk.count_message(1_000)
    for index in (0, 1):
        assert risk.check(index, ORDER, quote(), 1_099) is R.MESSAGE_RATE_EXCEEDED
        assert risk.check(index, ORDER, quote(), 1_100) is R.NONE
