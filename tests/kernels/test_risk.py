"""The pre-trade checks: at each limit, one below, one above, and at the ends of the ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernels.risk import (
    Exposure,
    Limits,
    Market,
    Order,
    Rate,
    counted,
    deny_reason,
    exceeds_notional,
    exceeds_position,
    exceeds_quantity,
    exceeds_rate,
    filled,
    opened,
    outside_band,
)
from protocol.reasons import DenyReason

U32 = 0xFFFF_FFFF
U64 = 0xFFFF_FFFF_FFFF_FFFF


@pytest.mark.parametrize(
    ("order_qty", "qty_max", "denied"),
    [
        (99, 100, False),
        (100, 100, False),
        (101, 100, True),
        (0, 0, False),
        (1, 0, True),
        (U32, U32, False),
        (U32, U32 - 1, True),
    ],
)
def test_quantity_passes_up_to_its_limit(order_qty, qty_max, denied):
    assert exceeds_quantity(order_qty, qty_max) is denied


@pytest.mark.parametrize(
    ("price", "order_qty", "notional_max", "denied"),
    [
        (1_000_000, 100, 100_000_001, False),
        (1_000_000, 100, 100_000_000, False),
        (1_000_000, 100, 99_999_999, True),
        (0, U32, 0, False),
        (1, 1, 0, True),
        (U32, U32, 18_446_744_065_119_617_025, False),
        (U32, U32, 18_446_744_065_119_617_024, True),
        (U32, U32, U64, False),
    ],
)
def test_notional_passes_up_to_its_limit(price, order_qty, notional_max, denied):
    assert exceeds_notional(price, order_qty, notional_max) is denied


@pytest.mark.parametrize(
    ("price", "bid", "ask", "band_bp", "denied"),
    [
        # A mid of 100.0000 and one percent: 99.0000 to 101.0000.
        (990_000, 999_900, 1_000_100, 100, False),
        (989_999, 999_900, 1_000_100, 100, True),
        (1_010_000, 999_900, 1_000_100, 100, False),
        (1_010_001, 999_900, 1_000_100, 100, True),
        # A mid of 0.0002 and a half, ten percent: nothing is rounded towards passing.
        (3, 2, 3, 2_000, False),
        (3, 2, 3, 1_999, True),
        (2, 2, 3, 2_000, False),
        (1, 2, 3, 2_000, True),
        # Exactly the mid passes a band of 0, and nothing else does.
        (1_000_000, 999_900, 1_000_100, 0, False),
        (1_000_001, 999_900, 1_000_100, 0, True),
        # Without both sides there is no mid.
        (1_000_000, 0, 1_000_100, U32, True),
        (1_000_000, 999_900, 0, U32, True),
        (0, 0, 0, U32, True),
        (U32, U32, U32, 0, False),
        (U32, 1, 1, U32, True),
        (0, U32, U32, 10_000, False),
        (0, U32, U32, 9_999, True),
    ],
)
def test_price_passes_within_its_band_around_the_mid(price, bid, ask, band_bp, denied):
    assert outside_band(price, bid, ask, band_bp) is denied


@pytest.mark.parametrize(
    ("exposure", "buys", "added", "denied"),
    [
        # position, open buy, open sell; the limit is 100.
        ((0, 0, 0), True, 99, False),
        ((0, 0, 0), True, 100, False),
        ((0, 0, 0), True, 101, True),
        ((0, 0, 0), False, 100, False),
        ((0, 0, 0), False, 101, True),
        ((60, 30, 500), True, 10, False),
        ((60, 30, 500), True, 11, True),
        ((-60, 500, 30), False, 10, False),
        ((-60, 500, 30), False, 11, True),
        # An order that flattens passes, beyond flat up to the limit of the other side.
        ((100, 0, 0), False, 100, False),
        ((100, 0, 0), False, 200, False),
        ((100, 0, 0), False, 201, True),
        ((-100, 0, 0), True, 200, False),
        ((-100, 0, 0), True, 201, True),
        # Also when the position is beyond the limit already.
        ((150, 0, 0), False, 250, False),
        ((150, 0, 0), True, 0, True),
        ((-150, 0, 0), False, 0, True),
        ((0, 100, 0), True, 0, False),
        ((0, 0, 0), True, U32, True),
    ],
)
def test_position_and_open_orders_of_the_side_pass_up_to_the_limit(exposure, buys, added, denied):
    assert exceeds_position(Exposure(*exposure), buys, added, 100) is denied


def test_position_limit_of_all_ones_passes_all_but_one_more_share():
    assert not exceeds_position(Exposure(U32 - 1, 0, 0), True, 1, U32)
    assert exceeds_position(Exposure(U32 - 1, 1, 0), True, 1, U32)


# Message rate.


def messages_in_time(rate: Rate, times: list[int]) -> list[bool]:
    passed = []
    for now_ns in times:
        passed.append(not exceeds_rate(rate, now_ns))
        if passed[-1]:
            rate = counted(rate, now_ns)
    return passed


@pytest.mark.parametrize(
    ("burst", "interval_ns", "times", "passed"),
    [
        (3, 100, [0, 0, 0, 0], [True, True, True, False]),
        (3, 100, [0, 0, 0, 99, 100, 100], [True, True, True, False, True, False]),
        (3, 100, [0, 0, 0, 299, 299, 300], [True, True, True, True, True, True]),
        (3, 100, [0, 0, 0, 299, 299, 299], [True, True, True, True, True, False]),
        # After long silence the whole burst is there again, and no more.
        (2, 100, [0, 0, 10**6, 10**6, 10**6], [True, True, True, True, False]),
        (1, 100, [5, 104, 105, 204, 205], [True, False, True, False, True]),
        (0, 100, [0, 10**9], [False, False]),
        (0, 0, [0], [False]),
        (1, 0, [0, 0, 0], [True, True, True]),
        (U32, U32, [0, 0], [True, True]),
    ],
)
def test_burst_passes_at_once_and_one_more_each_interval(burst, interval_ns, times, passed):
    assert messages_in_time(Rate(burst, interval_ns), times) == passed


@given(
    burst=st.integers(1, 5),
    interval_ns=st.integers(1, 50),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=60),
)
def test_no_window_has_more_messages_than_its_length_and_one_burst_allow(burst, interval_ns, steps):
    times = [sum(steps[: n + 1]) for n in range(len(steps))]
    passed = messages_in_time(Rate(burst, interval_ns), times)
    sent = [now_ns for now_ns, ok in zip(times, passed, strict=True) if ok]
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            allowed = burst + (sent[last] - sent[first]) // interval_ns
            assert last - first + 1 <= allowed


def test_counting_moves_the_time_and_keeps_the_rate():
    assert counted(Rate(3, 100, 0), 1_000) == Rate(3, 100, 1_100)
    assert counted(Rate(3, 100, 1_100), 1_000) == Rate(3, 100, 1_200)


# Exposure.


@pytest.mark.parametrize(
    ("buys", "qty", "after_open", "after_fill"),
    [
        (True, 30, Exposure(5, 130, 200), Exposure(35, 70, 200)),
        (False, 30, Exposure(5, 100, 230), Exposure(-25, 100, 170)),
        (True, 0, Exposure(5, 100, 200), Exposure(5, 100, 200)),
    ],
)
def test_exposure_is_opened_and_filled_on_its_own_side(buys, qty, after_open, after_fill):
    before = Exposure(5, 100, 200)
    assert opened(before, buys, qty) == after_open
    assert filled(before, buys, qty) == after_fill
    assert opened(after_open, buys, -qty) == before


# All together.

GOOD = Order(buys=True, order_qty=100, added_qty=100, price=1_000_000)
MARKET = Market(999_900, 1_000_100, halted=False, stale=False)
LIMITS = Limits(qty_max=100, notional_max=100_000_000, position_max=100, price_band_bp=1)
RATE = Rate(1, 100)
R = DenyReason


def ask(order=GOOD, market=MARKET, limits=LIMITS, exposure=Exposure(), rate=RATE, now_ns=0):  # noqa: B008
    return deny_reason(order, market, limits, exposure, rate, now_ns)


def test_order_at_every_limit_at_once_passes():
    assert ask() is R.NONE


def test_everything_is_closed_by_default():
    assert Limits() == Limits(0, 0, 0, 0)
    assert ask(limits=Limits()) is R.UNKNOWN_SYMBOL
    assert ask(rate=Rate()) is R.MESSAGE_RATE_EXCEEDED
    for name in ("notional_max", "position_max"):
        assert ask(limits=LIMITS._replace(**{name: 0})) is not R.NONE


ONE_FAULT = {
    R.UNKNOWN_SYMBOL: {"limits": LIMITS._replace(qty_max=0)},
    R.SYMBOL_HALTED: {"market": MARKET._replace(halted=True)},
    R.BOOK_STALE: {"market": MARKET._replace(stale=True)},
    R.QUANTITY_ZERO: {"order": GOOD._replace(order_qty=0)},
    R.QUANTITY_EXCEEDS_MAXIMUM: {"limits": LIMITS._replace(qty_max=99)},
    R.NOTIONAL_EXCEEDS_MAXIMUM: {"limits": LIMITS._replace(notional_max=99_999_999)},
    R.PRICE_ZERO: {"order": GOOD._replace(price=0)},
    R.PRICE_OUTSIDE_BAND: {"market": MARKET._replace(bid_price=999_600)},
    R.POSITION_EXCEEDS_LIMIT: {"exposure": Exposure(open_buy=1)},
    R.MESSAGE_RATE_EXCEEDED: {"rate": Rate(1, 100, due_ns=1)},
}


@pytest.mark.parametrize(("reason", "fault"), ONE_FAULT.items(), ids=lambda v: str(v)[:30])
def test_one_fault_gives_its_own_reason(reason, fault):
    assert ask(**fault) is reason


# Each row has every fault from its own on; the parts are changed field by field.
FAULTS = [
    (R.UNKNOWN_SYMBOL, "limits", "qty_max", 0),
    (R.SYMBOL_HALTED, "market", "halted", True),
    (R.BOOK_STALE, "market", "stale", True),
    (R.QUANTITY_ZERO, "order", "order_qty", 0),
    (R.QUANTITY_EXCEEDS_MAXIMUM, "order", "order_qty", 101),
    (R.NOTIONAL_EXCEEDS_MAXIMUM, "limits", "notional_max", -1),  # Exceeded by nothing at all.
    (R.PRICE_ZERO, "order", "price", 0),
    (R.PRICE_OUTSIDE_BAND, "market", "bid_price", 0),
    (R.POSITION_EXCEEDS_LIMIT, "exposure", "position", 101),
    (R.MESSAGE_RATE_EXCEEDED, "rate", "burst", 0),
]


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_lowest_code_of_several_reasons_wins(first):
    parts = {
        "order": GOOD,
        "market": MARKET,
        "limits": LIMITS,
        "exposure": Exposure(),
        "rate": RATE,
    }
    for _, part, field, value in reversed(FAULTS[first:]):
        parts[part] = parts[part]._replace(**{field: value})
    assert ask(**parts) is FAULTS[first][0]
    codes = [reason for reason, *_ in FAULTS]
    assert codes == sorted(codes)


def test_replacement_is_measured_by_its_whole_size_and_adds_only_its_increase():
    exposure = Exposure(open_buy=100)
    assert ask(order=GOOD._replace(added_qty=0), exposure=exposure) is R.NONE
    assert ask(order=GOOD._replace(added_qty=1), exposure=exposure) is R.POSITION_EXCEEDS_LIMIT
    assert ask(order=Order(True, 101, 0, 1), exposure=exposure) is R.QUANTITY_EXCEEDS_MAXIMUM
