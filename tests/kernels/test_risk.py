"""The pre-trade rules: at each limit, one below, one above, and at the ends of their types.

Every row is run in plain Python, by Numba, and by the kernel's pipeline, a row a cycle.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.hls.equivalence import amaranth
from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline
from hw.hls.to_numba import to_numba
from hw.hls.values import flattened, results
from kernels import exposure, risk
from kernels.exposure import (
    MONEY_MAX,
    NOTIONAL_MAX,
    OPEN_ORDERS_MAX,
    POSITION_MAX,
    QUANTITY_MASK,
    SHARES_MAX,
    TIME_MAX,
    Exposure,
    Level,
    Newest,
    Rate,
    Resting,
    token_bucket,
)
from kernels.risk import Account, LevelLimits, Limits, Market, Order, Ready
from kernels.types import Kernel
from protocol.market import MarketPhase
from protocol.reasons import DenyReason

U16, U20, U31, U32, U40 = ((1 << bits) - 1 for bits in (16, 20, 31, 32, 40))
QTY = U20
USD = 10_000

TABLES = {
    risk.exceeds_quantity: [
        # order_qty, qty_max.
        ((99, 100), False),
        ((100, 100), False),
        ((101, 100), True),
        ((0, 0), False),
        ((1, 0), True),
        ((QTY, QTY), False),
        ((QTY, QTY - 1), True),
        ((QTY + 1, QTY), True),
        ((U32, QTY), True),
    ],
    risk.notional: [
        ((0, QTY), 0),
        ((1_000_000, 100), 100_000_000),
        ((U32, QTY), 4_503_595_331_354_625),
    ],
    risk.exceeds_notional: [
        # price, order_qty, notional_max.
        ((1_000_000, 100, 100_000_001), False),
        ((1_000_000, 100, 100_000_000), False),
        ((1_000_000, 100, 99_999_999), True),
        ((0, QTY, 0), False),
        ((1, 1, 0), True),
        ((U32, QTY, U32 * QTY), False),
        ((U32, QTY, U32 * QTY - 1), True),
        ((U32, QTY, NOTIONAL_MAX), False),
    ],
    risk.off_tick: [
        # price, tick_size: a penny, half of one, and 1e-4 USD from 1 USD on.
        ((1_000_100, 100), False),
        ((1_000_099, 100), True),
        ((1_000_101, 100), True),
        ((1_000_050, 100), True),
        ((1_000_050, 50), False),
        ((1_000_100, 50), False),
        ((1_000_025, 50), True),
        ((1_000_051, 50), True),
        ((1_000_049, 50), True),
        ((1_000_001, 1), False),
        ((1_000_100, 0), True),
        ((1_000_100, 25), True),
        ((1_000_100, 127), True),
        ((9_999, 100), False),
        ((10_000, 100), False),
        ((10_001, 100), True),
        ((9_999, 0), False),
        ((10_000, 0), True),
        ((0, 0), False),
        ((U32, 1), False),
        ((U32, 100), True),
        ((4_294_967_200, 100), False),
        ((4_294_967_250, 50), False),
        ((4_294_967_250, 100), True),
        ((1_024 * 100, 100), False),
        ((1_024 * 100 + 1, 100), True),
    ],
    risk.twice_reference: [
        # bid, ask, last.
        ((999_900, 1_000_100, 5), 2_000_000),
        ((2, 3, 9), 5),
        ((7, 7, 9), 14),
        ((8, 7, 9), 18),
        ((0, 7, 9), 18),
        ((7, 0, 9), 18),
        ((0, 0, 0), 0),
        ((8, 7, 0), 0),
        ((U32, U32, 0), 2 * U32),
        ((0, 0, U32), 2 * U32),
    ],
    risk.outside_band: [
        # price, twice the reference, band in basis points. 100.0000 and one percent.
        ((990_000, 2_000_000, 100), False),
        ((989_999, 2_000_000, 100), True),
        ((1_010_000, 2_000_000, 100), False),
        ((1_010_001, 2_000_000, 100), True),
        # 0.00025 and a fifth: nothing is rounded towards passing.
        ((3, 5, 2_000), False),
        ((3, 5, 1_999), True),
        ((2, 5, 2_000), False),
        ((1, 5, 2_000), True),
        # Exactly the reference passes a band of 0, and nothing else does.
        ((1_000_000, 2_000_000, 0), False),
        ((1_000_001, 2_000_000, 0), True),
        ((999_999, 2_000_000, 0), True),
        # Without a reference every price is outside.
        ((1_000_000, 0, U16), True),
        ((0, 0, U16), True),
        ((U32, 2 * U32, 0), False),
        ((U32, 2, U16), True),
        ((0, 2 * U32, 10_000), False),
        ((0, 2 * U32, 9_999), True),
        ((0, (1 << 33) - 1, U16), False),
    ],
    risk.forbids_phase: [
        *[((1 << phase, phase), False) for phase in MarketPhase],
        *[((31 - (1 << phase), phase), True) for phase in MarketPhase],
        ((0, 0), True),
        ((31, 4), False),
        ((31, 5), True),
        ((31, 7), True),
    ],
    risk.added_qty: [
        ((100, 0), 100),
        ((100, 100), 0),
        ((100, 99), 1),
        ((99, 100), 0),
        ((QTY, 0), QTY),
        ((0, QTY), 0),
    ],
    risk.added_notional: [
        # price, order_qty, orig_price, orig_qty.
        ((10, 100, 0, 0), 1_000),
        ((10, 100, 10, 100), 0),
        ((10, 120, 10, 100), 200),
        ((11, 100, 10, 100), 100),
        ((9, 100, 10, 100), 0),
        # Dearer and larger: all at the new price instead of the old.
        ((11, 120, 10, 100), 320),
        # Cheaper and larger: the old one may fill first, and then the increase.
        ((6, 20, 10, 10), 60),
        # Dearer and smaller: what both have in common at the higher price.
        ((12, 60, 10, 100), 120),
        ((9, 60, 10, 100), 0),
        ((U32, QTY, 0, 0), U32 * QTY),
        ((U32, QTY, U32 - 1, QTY), QTY),
        ((0, QTY, U32, QTY), 0),
    ],
    risk.exceeds_position: [
        # position, open buy, open sell; buys; shares; limit.
        ((Exposure(0, 0, 0), True, 99, 100), False),
        ((Exposure(0, 0, 0), True, 100, 100), False),
        ((Exposure(0, 0, 0), True, 101, 100), True),
        ((Exposure(0, 0, 0), False, 100, 100), False),
        ((Exposure(0, 0, 0), False, 101, 100), True),
        ((Exposure(60, 30, 500), True, 10, 100), False),
        ((Exposure(60, 30, 500), True, 11, 100), True),
        ((Exposure(-60, 500, 30), False, 10, 100), False),
        ((Exposure(-60, 500, 30), False, 11, 100), True),
        # An order that flattens passes, beyond flat up to the limit of the other side.
        ((Exposure(100, 0, 0), False, 200, 100), False),
        ((Exposure(100, 0, 0), False, 201, 100), True),
        ((Exposure(-100, 0, 0), True, 200, 100), False),
        ((Exposure(-100, 0, 0), True, 201, 100), True),
        # Also when the position is beyond the limit already.
        ((Exposure(150, 0, 0), False, 250, 100), False),
        ((Exposure(150, 0, 0), True, 0, 100), True),
        ((Exposure(-150, 0, 0), False, 0, 100), True),
        ((Exposure(0, 100, 0), True, 0, 100), False),
        ((Exposure(POSITION_MAX, 0, 0), True, 0, U31), False),
        ((Exposure(POSITION_MAX, 0, 0), True, 1, U31), True),
        ((Exposure(POSITION_MAX, SHARES_MAX, 0), True, QTY, U31), True),
        ((Exposure(-POSITION_MAX - 1, 0, SHARES_MAX), False, QTY, U31), True),
        ((Exposure(-POSITION_MAX - 1, SHARES_MAX, 0), True, 0, U31), False),
        ((Exposure(-POSITION_MAX - 1, SHARES_MAX, 0), True, 1, U31), True),
    ],
    risk.lacks_locate: [
        # exposure, buys, shares, located.
        ((Exposure(100, 0, 0), False, 100, 0), False),
        ((Exposure(100, 0, 0), False, 101, 0), True),
        ((Exposure(100, 0, 40), False, 60, 0), False),
        ((Exposure(100, 0, 40), False, 61, 0), True),
        ((Exposure(100, 500, 40), False, 61, 0), True),
        ((Exposure(0, 0, 0), False, 50, 50), False),
        ((Exposure(0, 0, 0), False, 51, 50), True),
        ((Exposure(-30, 0, 0), False, 20, 50), False),
        ((Exposure(-30, 0, 0), False, 21, 50), True),
        ((Exposure(-30, 0, 0), True, QTY, 0), False),
        ((Exposure(-POSITION_MAX - 1, 0, SHARES_MAX), False, QTY, U31), True),
        ((Exposure(POSITION_MAX, 0, 0), False, QTY, 0), False),
    ],
    risk.crosses_own: [
        # buys, price, our best price on the other side.
        ((True, 99, 100), False),
        ((True, 100, 100), True),
        ((True, 101, 100), True),
        ((False, 101, 100), False),
        ((False, 100, 100), True),
        ((False, 99, 100), True),
        ((True, U32, 0), False),
        ((False, 0, 0), False),
        ((True, U32, U32), True),
        ((False, 0, U32), True),
    ],
    risk.repeats: [
        # order, newest, now, window. The newest was at 1,000.
        ((Order(True, 100, 7, 0, 0, 3), Newest(3, 100, 7, 1_000), 1_099, 100), True),
        ((Order(True, 100, 7, 0, 0, 3), Newest(3, 100, 7, 1_000), 1_100, 100), False),
        ((Order(True, 100, 7, 0, 0, 3), Newest(3, 100, 7, 1_000), 1_101, 100), False),
        ((Order(True, 101, 7, 0, 0, 3), Newest(3, 100, 7, 1_000), 1_000, 100), False),
        ((Order(True, 100, 8, 0, 0, 3), Newest(3, 100, 7, 1_000), 1_000, 100), False),
        ((Order(True, 100, 7, 0, 0, 4), Newest(3, 100, 7, 1_000), 1_000, 100), False),
        ((Order(True, 100, 7, 50, 6, 3), Newest(3, 100, 7, 1_000), 1_000, 100), False),
        ((Order(True, 100, 7, 0, 0, 3), Newest(3, 100, 7, 1_000), 1_000, 0), False),
        ((Order(True, 100, 7, 0, 0, 3), Newest(3, 100, 7, 1_000), 0, 0), False),
        ((Order(True, 0, 0, 0, 0, 0), Newest(0, 0, 0, TIME_MAX), TIME_MAX, U40), True),
        ((Order(True, U32, U32, 0, 0, 0), Newest(0, QTY, U32, 0), 0, U40), False),
    ],
    risk.exceeds_rate: [
        # One every 100, three at once.
        ((Rate(100, 300, 0), 0), False),
        ((Rate(100, 300, 200), 0), False),
        ((Rate(100, 300, 201), 0), True),
        ((Rate(100, 300, 300), 99), True),
        ((Rate(100, 300, 300), 100), False),
        ((Rate(100, 99, 0), 0), True),
        ((Rate(100, 100, 0), 0), False),
        ((Rate(100, 100, 1), 0), True),
        ((Rate(0, 0, 0), 0), True),
        ((Rate(0, 0, 0), TIME_MAX), True),
        ((Rate(100, 0, 0), TIME_MAX), True),
        ((Rate(0, 1, 0), 0), False),
        ((Rate(U32, U40, TIME_MAX), TIME_MAX), False),
        ((Rate(U32, U40, TIME_MAX), 0), True),
        ((Rate(U32, U32, TIME_MAX), TIME_MAX), False),
        ((Rate(U32, U32, TIME_MAX), TIME_MAX - 1), True),
    ],
    risk.exceeds_gross: [
        ((60, 39, 100), False),
        ((60, 40, 100), False),
        ((60, 41, 100), True),
        ((0, 1, 0), True),
        ((0, 0, 0), False),
        ((MONEY_MAX, 0, MONEY_MAX), False),
        ((MONEY_MAX, 1, MONEY_MAX), True),
        ((MONEY_MAX, NOTIONAL_MAX, MONEY_MAX), True),
    ],
    risk.exceeds_net: [
        # net, open buy, open sell, gross; buys; money; limit.
        ((Level(0, 0, 0, 0), True, 100, 100), False),
        ((Level(0, 0, 0, 0), True, 101, 100), True),
        ((Level(0, 0, 0, 0), False, 100, 100), False),
        ((Level(0, 0, 0, 0), False, 101, 100), True),
        ((Level(60, 30, 500, 0), True, 10, 100), False),
        ((Level(60, 30, 500, 0), True, 11, 100), True),
        ((Level(-60, 500, 30, 0), False, 10, 100), False),
        ((Level(-60, 500, 30, 0), False, 11, 100), True),
        ((Level(100, 0, 0, 0), False, 200, 100), False),
        ((Level(100, 0, 0, 0), False, 201, 100), True),
        ((Level(150, 0, 0, 0), False, 250, 100), False),
        ((Level(150, 0, 0, 0), True, 0, 100), True),
        ((Level(MONEY_MAX, 0, 0, 0), True, 0, MONEY_MAX), False),
        ((Level(MONEY_MAX, 0, 0, 0), True, 1, MONEY_MAX), True),
        ((Level(-MONEY_MAX - 1, 0, MONEY_MAX, 0), False, NOTIONAL_MAX, MONEY_MAX), True),
    ],
    exposure.bounded: [
        ((5,), 5),
        ((0,), 0),
        ((-1,), 0),
        ((MONEY_MAX,), MONEY_MAX),
        ((MONEY_MAX + 1,), MONEY_MAX),
        ((-(1 << 59),), 0),
        (((1 << 59) - 1,), MONEY_MAX),
    ],
    exposure.opened: [
        ((Exposure(5, 100, 200), True, 30), Exposure(5, 130, 200)),
        ((Exposure(5, 100, 200), False, 30), Exposure(5, 100, 230)),
        ((Exposure(5, 100, 200), True, -30), Exposure(5, 70, 200)),
        ((Exposure(5, 100, 200), False, -200), Exposure(5, 100, 0)),
        ((Exposure(5, 100, 200), True, -101), Exposure(5, 0, 200)),
        ((Exposure(0, SHARES_MAX, 0), True, 1), Exposure(0, SHARES_MAX, 0)),
    ],
    exposure.filled: [
        ((Exposure(5, 100, 200), True, 30), Exposure(35, 70, 200)),
        ((Exposure(5, 100, 200), False, 30), Exposure(-25, 100, 170)),
        ((Exposure(5, 100, 200), True, 101), Exposure(106, 0, 200)),
        ((Exposure(POSITION_MAX, QTY, 0), True, QTY), Exposure(POSITION_MAX, 0, 0)),
        ((Exposure(-POSITION_MAX, 0, QTY), False, 1), Exposure(-POSITION_MAX, 0, QTY - 1)),
    ],
    exposure.level_opened: [
        ((Level(5, 100, 200, 305), True, 30), Level(5, 130, 200, 335)),
        ((Level(5, 100, 200, 305), False, 30), Level(5, 100, 230, 335)),
        ((Level(5, 100, 200, 305), True, -100), Level(5, 0, 200, 205)),
        ((Level(5, 100, 200, 305), False, -201), Level(5, 100, 0, 104)),
        ((Level(0, 0, 0, MONEY_MAX), True, 1), Level(0, 1, 0, MONEY_MAX)),
    ],
    exposure.level_filled: [
        # Bought for less than the limit price, sold for more.
        ((Level(5, 100, 200, 305), True, 40, 39), Level(44, 60, 200, 304)),
        ((Level(5, 100, 200, 305), False, 40, 41), Level(-36, 100, 160, 306)),
        ((Level(MONEY_MAX, 9, 0, 9), True, 9, 10), Level(MONEY_MAX, 0, 0, 10)),
        ((Level(-MONEY_MAX, 0, 9, MONEY_MAX), False, 9, 10), Level(-MONEY_MAX, 0, 0, MONEY_MAX)),
    ],
    exposure.counted: [
        ((Rate(100, 300, 0), 1_000), Rate(100, 300, 1_100)),
        ((Rate(100, 300, 1_100), 1_000), Rate(100, 300, 1_200)),
        ((Rate(100, 300, 1_000), 1_000), Rate(100, 300, 1_100)),
        ((Rate(U32, U40, TIME_MAX), 0), Rate(U32, U40, TIME_MAX)),
    ],
    exposure.resting_price: [
        ((Resting(0, 0, 9, 8),), 0),
        ((Resting(1, 1, 9, 8),), 9),
        ((Resting(1, 0, 9, 8),), 8),
        ((Resting(U16, U16, U32, 0),), U32),
    ],
    exposure.rested: [
        # The first order; one more of its price; one behind; one before.
        ((Resting(0, 0, 9, 8), True, 7), Resting(1, 1, 7, 0)),
        ((Resting(1, 1, 7, 0), True, 7), Resting(2, 2, 7, 0)),
        ((Resting(2, 2, 7, 0), True, 6), Resting(3, 2, 7, 6)),
        ((Resting(3, 2, 7, 6), True, 5), Resting(4, 2, 7, 6)),
        ((Resting(3, 2, 7, 5), True, 6), Resting(4, 2, 7, 6)),
        ((Resting(3, 2, 7, 5), True, 8), Resting(4, 1, 8, 7)),
        ((Resting(2, 2, 7, 0), False, 8), Resting(3, 2, 7, 8)),
        ((Resting(3, 2, 7, 8), False, 9), Resting(4, 2, 7, 8)),
        ((Resting(3, 2, 7, 8), False, 6), Resting(4, 1, 6, 7)),
        # The best price has ended: only that of one behind is known.
        ((Resting(2, 0, 7, 6), True, 6), Resting(3, 1, 6, 6)),
        ((Resting(2, 0, 7, 6), True, 5), Resting(3, 0, 7, 6)),
        ((Resting(2, 0, 7, 6), True, 9), Resting(3, 1, 9, 6)),
        ((Resting(2, 2, 7, 9), True, 6), Resting(3, 2, 7, 6)),  # The 9 is of none of them.
        ((Resting(U16, U16, 7, 0), True, 7), Resting(U16, U16, 7, 0)),
        ((Resting(0, 0, 0, 0), False, U32), Resting(1, 1, U32, 0)),
    ],
    exposure.ended: [
        ((Resting(3, 2, 7, 6), 7), Resting(2, 1, 7, 6)),
        ((Resting(3, 2, 7, 6), 6), Resting(2, 2, 7, 6)),
        ((Resting(1, 0, 7, 7), 7), Resting(0, 0, 7, 7)),
        ((Resting(0, 0, 7, 7), 7), Resting(0, 0, 7, 7)),
        ((Resting(U16, U16, U32, 0), U32), Resting(U16 - 1, U16 - 1, U32, 0)),
    ],
    risk.lower_code: [
        ((0, 0), 0),
        ((0, 5), 5),
        ((5, 0), 5),
        ((5, 6), 5),
        ((6, 5), 5),
        ((31, 31), 31),
    ],
}

ROWS = [
    pytest.param(rule, row, expected, id=f"{rule.name}{row}")
    for rule, rows in TABLES.items()
    for row, expected in rows
]


def all_kernels() -> list[Kernel]:
    found = {**vars(exposure), **vars(risk)}
    return [item for item in found.values() if isinstance(item, Kernel)]


def test_every_rule_has_a_table():
    whole = {risk.reason_of_order, risk.reason_of_symbol, risk.reason_of_levels}
    assert set(all_kernels()) - whole == set(TABLES)


@pytest.mark.parametrize(("rule", "row", "expected"), ROWS)
def test_row_holds_in_python(rule, row, expected):
    assert rule(*row) == expected


@pytest.mark.parametrize("rule", TABLES, ids=lambda rule: rule.name)
def test_table_holds_in_numba(rule):
    compiled = to_numba(rule)
    found = {row: compiled(*row) for row, _ in TABLES[rule]}
    assert found == dict(TABLES[rule])


def flat(rule: Kernel, row: tuple) -> dict[str, int]:
    """Return arguments as their scalars."""
    found: dict[str, int] = {}
    for (name, kind), value in zip(rule.parameters.items(), row, strict=True):
        found |= flattened(kind, name, value)
    return found


@pytest.mark.parametrize("rule", TABLES, ids=lambda rule: rule.name)
def test_table_holds_in_hardware_a_row_a_cycle(rule):
    plan = schedule(rule, 156.25)
    rows = [flat(rule, row) for row, _ in TABLES[rule]]
    found = amaranth(plan, Pipeline(plan), rows)
    assert found[: plan.latency] == [None] * plan.latency
    assert found[plan.latency :] == [results(rule, expected) for _, expected in TABLES[rule]]


@pytest.mark.parametrize(
    ("rule", "cycles"),
    [
        (risk.exceeds_quantity, 1),
        (risk.forbids_phase, 1),
        (risk.notional, 2),
        (risk.off_tick, 4),
        (risk.outside_band, 4),
        (risk.added_notional, 4),
        (risk.reason_of_order, 5),
        (risk.reason_of_symbol, 4),
        (risk.reason_of_levels, 4),
        (risk.lower_code, 1),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_pipelines_are_as_long_as_the_card_s_gate_takes_them_to_be(rule, cycles):
    assert schedule(rule, 156.25).latency == cycles


# Message rate.


@pytest.mark.parametrize(
    ("burst", "interval_ns", "rate"),
    [
        (3, 100, Rate(100, 300)),
        (0, 100, Rate(100, 0)),
        (1, 0, Rate(0, 0)),
        (U32, U32, Rate(U32, U40)),
        (1 << 8, U32, Rate(U32, (1 << 40) - 256)),
    ],
)
def test_token_bucket_is_its_tokens_times_the_interval(burst, interval_ns, rate):
    assert token_bucket(burst, interval_ns) == rate


def messages_in_time(rate: Rate, times: list[int]) -> list[bool]:
    passed = []
    for now_ns in times:
        passed.append(not risk.exceeds_rate(rate, now_ns))
        if passed[-1]:
            rate = exposure.counted(rate, now_ns)
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
    ],
)
def test_burst_passes_at_once_and_one_more_each_interval(burst, interval_ns, times, passed):
    assert messages_in_time(token_bucket(burst, interval_ns), times) == passed


@given(
    burst=st.integers(1, 5),
    interval_ns=st.integers(1, 50),
    steps=st.lists(st.integers(0, 60), min_size=1, max_size=60),
)
def test_no_window_has_more_messages_than_its_length_and_one_burst_allow(burst, interval_ns, steps):
    times = [sum(steps[: n + 1]) for n in range(len(steps))]
    passed = messages_in_time(token_bucket(burst, interval_ns), times)
    sent = [now_ns for now_ns, ok in zip(times, passed, strict=True) if ok]
    for first in range(len(sent)):
        for last in range(first, len(sent)):
            allowed = burst + (sent[last] - sent[first]) // interval_ns
            assert last - first + 1 <= allowed


# Our own orders.


@given(
    buys=st.booleans(),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 6)), max_size=40),
)
def test_own_price_is_never_worse_than_the_best_and_exact_for_two_prices(buys, steps):
    resting, prices, most = Resting(), [], 0
    for adds, number in steps:
        if adds:
            prices.append(number)
            resting = exposure.rested(resting, buys, number)
        elif prices:
            resting = exposure.ended(resting, prices.pop(number % len(prices)))
        most = max(most, len(set(prices))) if prices else 0
        known = exposure.resting_price(resting)
        assert resting.orders == len(prices)
        if not prices:
            assert known == 0
            continue
        best = max(prices) if buys else min(prices)
        assert known >= best if buys else known <= best
        if len(prices) == resting.best_orders or most == 1:
            assert known == best


# All together.

GOOD = Order(buys=True, order_qty=100, price=1_000_000, trader=3)
LIMITS = Limits(
    qty_max=100,
    notional_max=100_000_000,
    position_max=100,
    price_band_bp=1,
    tick_size=100,
    locate_qty=0,
    duplicate_window_ns=100,
    phases=1 << MarketPhase.REGULAR,
    restricted=False,
)
MARKET = Market(999_900, 1_000_100, phase=MarketPhase.REGULAR)
ACCOUNT = Account(LevelLimits(100_000_000, 100_000_000), Rate(100, 100), Level())
R = DenyReason


def asked(**more) -> DenyReason:
    """Return what the three parts of the gate say of an order that is at every limit at once."""
    parts = {
        "order": GOOD,
        "ready": Ready(),
        "market": MARKET,
        "limits": LIMITS,
        "killed": False,
        "exposure": Exposure(),
        "own": Resting(),
        "opposite": Resting(),
        "newest": Newest(),
        "trader": ACCOUNT,
        "desk": ACCOUNT,
        "firm": ACCOUNT,
    } | more
    order = parts["order"]
    qty = order.order_qty & QUANTITY_MASK
    added = risk.added_notional(order.price, qty, order.orig_price, order.orig_qty)
    by_order = risk.reason_of_order(
        order, parts["ready"], parts["market"], parts["limits"], parts["killed"]
    )
    by_symbol = risk.reason_of_symbol(
        order,
        parts["limits"],
        parts["exposure"],
        parts["own"],
        parts["opposite"],
        parts["newest"],
        1_000,
    )
    by_levels = risk.reason_of_levels(
        order.buys, added, parts["trader"], parts["desk"], parts["firm"], 1_000
    )
    return DenyReason(risk.lower_code(risk.lower_code(by_order, by_symbol), by_levels))


def account(**more) -> Account:
    return Account(
        ACCOUNT.limits._replace(**{k: v for k, v in more.items() if k in LevelLimits._fields}),
        ACCOUNT.rate._replace(**{k: v for k, v in more.items() if k in Rate._fields}),
        ACCOUNT.level,
    )


SELL = {"order": GOOD._replace(buys=False)}
ONE_FAULT = [
    (R.KILL_SWITCH, {"killed": True}),
    (R.SESSION_NOT_READY, {"ready": Ready(session=False)}),
    (R.UNKNOWN_SYMBOL, {"limits": LIMITS._replace(qty_max=0)}),
    (R.SYMBOL_HALTED, {"market": MARKET._replace(halted=True)}),
    (R.BOOK_STALE, {"market": MARKET._replace(stale=True)}),
    (R.QUANTITY_ZERO, {"order": GOOD._replace(order_qty=0)}),
    (R.QUANTITY_EXCEEDS_MAXIMUM, {"limits": LIMITS._replace(qty_max=99)}),
    (R.QUANTITY_EXCEEDS_MAXIMUM, {"order": GOOD._replace(order_qty=1 << 20)}),
    (R.QUANTITY_EXCEEDS_MAXIMUM, {"order": GOOD._replace(order_qty=U32)}),
    (R.NOTIONAL_EXCEEDS_MAXIMUM, {"limits": LIMITS._replace(notional_max=99_999_999)}),
    (R.PRICE_ZERO, {"order": GOOD._replace(price=0)}),
    (R.PRICE_OUTSIDE_BAND, {"market": MARKET._replace(bid_price=999_600)}),
    (R.PRICE_OUTSIDE_BAND, {"market": MARKET._replace(bid_price=0)}),
    (R.PRICE_OUTSIDE_BAND, {"market": MARKET._replace(bid_price=1_000_101)}),
    (R.POSITION_EXCEEDS_LIMIT, {"exposure": Exposure(open_buy=1, open_sell=1)}),
    (R.MESSAGE_RATE_EXCEEDED, {"trader": account(due_ns=1_001)}),
    (R.MESSAGE_RATE_EXCEEDED, {"desk": account(burst_ns=99)}),
    (R.MESSAGE_RATE_EXCEEDED, {"firm": account(interval_ns=101)}),
    (R.UNKNOWN_ORDER, {"ready": Ready(order=False)}),
    (R.NO_RING_SLOT, {"ready": Ready(slot=False)}),
    (R.PRICE_OFF_TICK, {"limits": LIMITS._replace(tick_size=0)}),
    (R.SYMBOL_RESTRICTED, {"limits": LIMITS._replace(restricted=True)}),
    (R.PHASE_NOT_ALLOWED, {"market": MARKET._replace(phase=MarketPhase.POST_MARKET)}),
    (R.SHORT_SALE_WITHOUT_LOCATE, SELL),
    (R.SELF_TRADE, {"opposite": Resting(1, 1, 1_000_000)}),
    (R.SELF_TRADE, {"opposite": Resting(1, 0, 0, 1_000_000)}),
    (R.DUPLICATE_ORDER, {"newest": Newest(3, 100, 1_000_000, 901)}),
    (R.OPEN_ORDERS_EXCEED_MAXIMUM, {"own": Resting(OPEN_ORDERS_MAX)}),
    (R.TRADER_GROSS_EXCEEDS_LIMIT, {"trader": account(gross_max=99_999_999)}),
    (R.DESK_GROSS_EXCEEDS_LIMIT, {"desk": account(gross_max=99_999_999)}),
    (R.FIRM_GROSS_EXCEEDS_LIMIT, {"firm": account(gross_max=99_999_999)}),
    (R.TRADER_NET_EXCEEDS_LIMIT, {"trader": account(net_max=99_999_999)}),
    (R.DESK_NET_EXCEEDS_LIMIT, {"desk": account(net_max=99_999_999)}),
    (R.FIRM_NET_EXCEEDS_LIMIT, {"firm": account(net_max=99_999_999)}),
]


def test_order_at_every_limit_at_once_passes():
    assert asked() is R.NONE
    assert asked(newest=Newest(3, 100, 1_000_000, 900)) is R.NONE
    assert asked(opposite=Resting(1, 1, 1_000_100)) is R.NONE
    assert asked(market=Market(last_price=1_000_000, phase=MarketPhase.REGULAR)) is R.NONE
    assert asked(**SELL, limits=LIMITS._replace(locate_qty=100)) is R.NONE


def test_every_reason_has_a_fault():
    assert {reason for reason, _ in ONE_FAULT} == set(DenyReason) - {R.NONE}


@pytest.mark.parametrize(("reason", "fault"), ONE_FAULT, ids=lambda value: str(value)[:60])
def test_one_fault_gives_its_own_reason(reason, fault):
    assert asked(**fault) is reason


def test_everything_is_closed_by_default():
    assert Limits() == Limits(0, 0, 0, 0, 0, 0, 0, 0, True)
    assert asked(limits=Limits()) is R.UNKNOWN_SYMBOL
    assert asked(firm=Account(LevelLimits(), Rate(), Level())) is R.MESSAGE_RATE_EXCEEDED
    assert asked(firm=Account(LevelLimits(), Rate(1, 1), Level())) is R.FIRM_GROSS_EXCEEDS_LIMIT
    for name in ("notional_max", "position_max", "tick_size", "phases"):
        assert asked(limits=LIMITS._replace(**{name: 0})) is not R.NONE


# Two that change the same part are left out, and no order without a price is worth too much.
PAIRS = [
    (first, second)
    for first in ONE_FAULT
    for second in ONE_FAULT
    if not set(first[1]) & set(second[1])
    and {first[0], second[0]} != {R.NOTIONAL_EXCEEDS_MAXIMUM, R.PRICE_ZERO}
]


@pytest.mark.parametrize(
    ("first", "second"), PAIRS, ids=[f"{a.name}-{b.name}" for (a, _), (b, _) in PAIRS]
)
def test_lower_code_of_two_faults_wins(first, second):
    assert asked(**first[1], **second[1]) is min(first[0], second[0])


def test_replacement_is_measured_by_its_whole_size_and_adds_only_its_increase():
    standing = Exposure(open_buy=100)
    replacement = GOOD._replace(orig_qty=100, orig_price=1_000_000)
    assert asked(order=replacement, exposure=standing) is R.NONE
    assert asked(order=replacement._replace(orig_qty=99), exposure=standing) is (
        R.POSITION_EXCEEDS_LIMIT
    )
    assert asked(order=replacement._replace(order_qty=101)) is R.QUANTITY_EXCEEDS_MAXIMUM
    full = Account(ACCOUNT.limits, ACCOUNT.rate, Level(0, 10**8, 0, 10**8))
    assert asked(order=replacement, firm=full) is R.NONE
    dearer = replacement._replace(orig_price=999_999)
    assert asked(order=dearer, firm=full) is R.FIRM_GROSS_EXCEEDS_LIMIT
