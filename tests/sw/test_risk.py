"""The host's gate: closed until opened, limits set as a whole, and everything on three levels."""

import numpy as np
import pytest

from kernels.exposure import Exposure, Level, Rate, Resting, token_bucket
from kernels.risk import LevelLimits, Limits, Market
from protocol.market import MarketPhase
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sw.risk import ORDER, Risk, narrowed

R = DenyReason
PRICE = 1_000_000
NOTIONAL = 100 * PRICE
OPEN = Limits(
    qty_max=100,
    notional_max=NOTIONAL,
    position_max=1_000,
    price_band_bp=100,
    tick_size=100,
    locate_qty=1_000,
    phases=1 << MarketPhase.REGULAR,
    restricted=False,
)
MARKET = Market(999_900, 1_000_100, phase=MarketPhase.REGULAR)
ROOM = LevelLimits(1 << 40, 1 << 40)
RATE = token_bucket(1_000, 1)


@pytest.fixture
def risk():
    """Three traders; two of them share a desk."""
    made = Risk(2, desks=(0, 0, 1))
    made.set_limits(1, OPEN)
    made.set_market(1, MARKET)
    for level, index in made.levels:
        made.set_level(level, index, ROOM, RATE)
        made.kill(level, index, False)
    return made


def ask(risk, symbol=1, trader=0, buys=True, qty=100, price=PRICE, now_ns=0, **more):
    return risk.decide(symbol, trader, buys, qty, price, now_ns, **more)


def test_everything_comes_up_closed():
    closed = Risk(1)
    assert closed.killed
    assert ask(closed, 0) is R.KILL_SWITCH
    for level, index in closed.levels:
        closed.kill(level, index, False)
    assert ask(closed, 0) is R.UNKNOWN_SYMBOL
    closed.set_limits(0, OPEN)
    assert ask(closed, 0) is R.PRICE_OUTSIDE_BAND
    closed.set_market(0, MARKET)
    assert ask(closed, 0) is R.MESSAGE_RATE_EXCEEDED
    for level, index in closed.levels:
        closed.set_level(level, index, LevelLimits(), RATE)
    for level in ("TRADER", "DESK", "FIRM"):
        assert ask(closed, 0) is R[f"{level}_GROSS_EXCEEDS_LIMIT"]
        closed.set_level(RiskLevel[level], 0, LevelLimits(gross_max=NOTIONAL), RATE)
    for level in ("TRADER", "DESK", "FIRM"):
        assert ask(closed, 0) is R[f"{level}_NET_EXCEEDS_LIMIT"]
        closed.set_level(RiskLevel[level], 0, LevelLimits(NOTIONAL, NOTIONAL), RATE)
    assert ask(closed, 0) is R.NONE


@pytest.mark.parametrize(
    ("level", "index", "denied"),
    [
        (RiskLevel.FIRM, 0, [True, True, True]),
        (RiskLevel.DESK, 0, [True, True, False]),
        (RiskLevel.DESK, 1, [False, False, True]),
        (RiskLevel.TRADER, 1, [False, True, False]),
    ],
)
def test_kill_switch_stops_whom_it_is_for(risk, level, index, denied):
    risk.kill(level, index)
    assert risk.is_killed(level, index)
    assert [ask(risk, trader=t, qty=0) is R.KILL_SWITCH for t in range(3)] == denied
    risk.kill(level, index, False)
    assert [ask(risk, trader=t, qty=0) for t in range(3)] == [R.QUANTITY_ZERO] * 3


@pytest.mark.parametrize("index", [-1, 2, 3, 1 << 40, -(1 << 40)])
def test_symbol_that_is_not_configured_is_unknown(risk, index):
    assert ask(risk, symbol=index) is R.UNKNOWN_SYMBOL


@pytest.mark.parametrize("trader", [-1, 3, 4, 1 << 40])
def test_trader_that_is_not_configured_is_killed(risk, trader):
    assert ask(risk, trader=trader) is R.KILL_SWITCH


@pytest.mark.parametrize(
    ("qty", "price", "reason"),
    [
        (-1, PRICE, R.QUANTITY_EXCEEDS_MAXIMUM),
        (1 << 40, PRICE, R.QUANTITY_EXCEEDS_MAXIMUM),
        (1 << 20, PRICE, R.QUANTITY_EXCEEDS_MAXIMUM),
        (100, -1, R.PRICE_ZERO),
        (100, 1 << 32, R.PRICE_ZERO),
    ],
)
def test_numbers_beyond_the_wire_s_are_denied(risk, qty, price, reason):
    assert ask(risk, qty=qty, price=price) is reason


def test_order_that_passes_is_counted_and_one_that_is_denied_is_not(risk):
    assert ask(risk, now_ns=5) is R.NONE
    before = [item.copy() for item in (risk.symbols, risk.sides, risk.accounts)]
    assert ask(risk, qty=101, now_ns=50) is R.QUANTITY_EXCEEDS_MAXIMUM
    assert ask(risk, buys=False, now_ns=50) is R.SELF_TRADE
    after = (risk.symbols, risk.sides, risk.accounts)
    assert all((a == b).all() for a, b in zip(after, before, strict=True))
    assert risk.exposure(1) == Exposure(0, 100, 0)
    assert risk.resting(1, True) == Resting(1, 1, PRICE, 0)
    assert risk.newest(1, True) == (0, 100, PRICE, 5)
    for level in RiskLevel:
        assert risk.level(level) == Level(0, NOTIONAL, 0, NOTIONAL)
        assert risk.rate(level).due_ns == 6


def test_money_is_counted_for_the_trader_his_desk_and_the_firm(risk):
    for trader in range(3):
        assert ask(risk, trader=trader) is R.NONE
    gross = {(level.name, index): risk.level(level, index).gross for level, index in risk.levels}
    assert gross == {
        ("FIRM", 0): 3 * NOTIONAL,
        ("DESK", 0): 2 * NOTIONAL,
        ("DESK", 1): NOTIONAL,
        ("TRADER", 0): NOTIONAL,
        ("TRADER", 1): NOTIONAL,
        ("TRADER", 2): NOTIONAL,
    }
    risk.set_level(RiskLevel.DESK, 0, LevelLimits(2 * NOTIONAL, 1 << 40), RATE)
    assert ask(risk, trader=1) is R.DESK_GROSS_EXCEEDS_LIMIT
    assert ask(risk, trader=2) is R.NONE


def test_trader_who_moves_leaves_what_he_traded_with_the_old_desk(risk):
    ask(risk, trader=0)
    risk.assign(0, 1)
    ask(risk, trader=0)
    assert [risk.desk_of(trader) for trader in range(3)] == [1, 0, 1]
    assert [risk.level(RiskLevel.DESK, index).gross for index in (0, 1)] == [NOTIONAL] * 2
    assert risk.level(RiskLevel.TRADER, 0).gross == 2 * NOTIONAL


def test_execution_moves_open_shares_into_the_position_at_its_own_price(risk):
    ask(risk)
    risk.execute(1, 0, True, PRICE, 999_000, 40, False)
    assert risk.exposure(1) == Exposure(40, 60, 0)
    assert risk.level(RiskLevel.FIRM) == Level(
        net=40 * 999_000, open_buy=60 * PRICE, open_sell=0, gross=40 * 999_000 + 60 * PRICE
    )
    risk.execute(1, 0, True, PRICE, PRICE, 60, True)
    assert risk.exposure(1) == Exposure(100, 0, 0)
    assert risk.resting(1, True).orders == 0
    assert risk.level(RiskLevel.FIRM).open_buy == 0


def test_what_is_released_is_counted_no_longer(risk):
    ask(risk, buys=False)
    risk.release(1, 0, False, PRICE, 30, 30 * PRICE, False)
    assert risk.exposure(1) == Exposure(0, 0, 70)
    assert risk.level(RiskLevel.DESK) == Level(0, 0, 70 * PRICE, 70 * PRICE)
    risk.release(1, 0, False, PRICE, 70, 70 * PRICE, True)
    assert risk.exposure(1) == Exposure()
    assert risk.level(RiskLevel.TRADER) == Level()
    assert ask(risk) is R.NONE  # Nothing of ours is in its way any more.


def test_message_counts_on_every_level(risk):
    risk.count_message(2, 1_000)
    assert risk.rate(RiskLevel.TRADER, 2).due_ns == 1_001
    assert risk.rate(RiskLevel.DESK, 1).due_ns == 1_001
    assert risk.rate(RiskLevel.FIRM).due_ns == 1_001
    assert risk.rate(RiskLevel.TRADER, 0).due_ns == 0


def test_new_limits_keep_what_was_used_of_the_old_ones(risk):
    ask(risk, now_ns=5)
    risk.set_level(RiskLevel.FIRM, 0, LevelLimits(7, 8), Rate(9, 10))
    assert risk.level(RiskLevel.FIRM).gross == NOTIONAL
    assert risk.rate(RiskLevel.FIRM) == Rate(9, 10, 6)
    assert risk.level_limits(RiskLevel.FIRM) == LevelLimits(7, 8)
    risk.set_limits(1, OPEN._replace(position_max=99))
    assert risk.exposure(1) == Exposure(0, 100, 0)


def test_limits_with_one_wrong_value_change_nothing(risk):
    text = r"limits\.position_max must be 0 to 2147483647 \(U31\), not 2147483648"
    with pytest.raises(ValueError, match=f"^{text}$"):
        risk.set_limits(1, Limits(1, 1, 1 << 31))
    assert risk.limits(1) == OPEN
    with pytest.raises(ValueError, match=r"^rate\.interval_ns must be 0 to 4294967295 \(U32\)"):
        risk.set_level(RiskLevel.DESK, 1, LevelLimits(1, 1), Rate(1 << 32))
    assert risk.level_limits(RiskLevel.DESK, 1) == ROOM
    with pytest.raises(TypeError, match=r"^limits\.restricted must be a bool, not 1$"):
        risk.set_limits(1, OPEN._replace(restricted=1))


def test_limits_from_a_wider_record_become_the_highest_that_fit():
    wide = dict.fromkeys(Limits._fields, 1 << 60) | {"restricted": True, "other": 5}
    assert narrowed(Limits, wide) == Limits(
        (1 << 20) - 1,
        (1 << 52) - 1,
        (1 << 31) - 1,
        (1 << 16) - 1,
        127,
        (1 << 31) - 1,
        (1 << 40) - 1,
        31,
        True,
    )
    assert narrowed(Rate, {"interval_ns": 7, "burst_ns": 1 << 63}) == Rate(7, (1 << 40) - 1)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0,), "symbol_count must be 1 or more, not 0"),
        ((1, ()), "desks must be those of 1 to 1024 traders, not 0"),
        ((1, (0, 2)), "desks must be 0 to 1, not [0, 2]"),
        ((1, (-1,)), "desks must be 0 to 0, not [-1]"),
    ],
)
def test_wrong_arguments_are_refused(arguments, text):
    with pytest.raises(ValueError) as caught:
        Risk(*arguments)
    assert str(caught.value) == text


def test_index_that_is_not_configured_is_refused_where_limits_are_set(risk):
    with pytest.raises(IndexError, match=r"^symbol_index must be below 2, not 2$"):
        risk.set_limits(2, OPEN)
    with pytest.raises(IndexError, match=r"^DESK must be below 2, not 2$"):
        risk.kill(RiskLevel.DESK, 2)
    with pytest.raises(IndexError, match=r"^symbol_index must be below 2, not -1$"):
        risk.exposure(-1)


def test_batch_must_be_of_orders_and_have_room_for_reasons(risk):
    for orders in (np.zeros(1, np.int64), np.zeros(3, ORDER)):
        with pytest.raises(ValueError, match=r"^orders must be records of ORDER, 2 at most$"):
            risk.decide_batch(orders, np.zeros(2, np.int64))
