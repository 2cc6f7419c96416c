"""Proofs of the risk gate: every pipeline is its kernel, and what the rules are there for holds.

A property is a kernel that must be true for all arguments; z3 looks for some for which it is not.
"""

import pytest
import z3

from hw.hls.prove import Verdict, prove
from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline
from hw.hls.to_z3 import to_z3
from kernels import exposure, risk
from kernels.exposure import (
    MONEY_MAX,
    OPEN_ORDERS_MAX,
    POSITION_MAX,
    QUANTITY_MASK,
    TIME_MAX,
    Exposure,
    Level,
    Money,
    Newest,
    Notional,
    Price,
    Quantity,
    Rate,
    Resting,
    Time,
    counted,
    ended,
    filled,
    level_filled,
    level_opened,
    opened,
    rested,
    resting_price,
)
from kernels.risk import (
    Order,
    added_notional,
    crosses_own,
    exceeds_gross,
    exceeds_net,
    exceeds_position,
    exceeds_rate,
    lacks_locate,
    repeats,
)
from kernels.types import U31, U32, U40, Bool, Kernel, kernel

KERNELS = [item for item in (vars(exposure) | vars(risk)).values() if isinstance(item, Kernel)]


@pytest.mark.parametrize("rule", KERNELS, ids=lambda rule: rule.name)
def test_pipeline_is_its_kernel_for_all_arguments(rule):
    plan = schedule(rule, 156.25)
    proof = prove(plan, Pipeline(plan))
    assert proof.verdict is Verdict.PROVEN, str(proof)


# What must hold for every order. `not a or b` reads: if a, then b.


@kernel
def position_stays_within_its_limit(
    exposure: Exposure, buys: Bool, qty: Quantity, position_max: U31
) -> Bool:
    """What passes leaves the worst case of its side at the limit at most."""
    after = opened(exposure, buys, qty)
    bought, sold = after.position + after.open_buy, after.open_sell - after.position
    worst = bought if buys else sold
    return exceeds_position(exposure, buys, qty, position_max) or worst <= position_max


@kernel
def shares_never_wrap(exposure: Exposure, buys: Bool, qty: Quantity, position_max: U31) -> Bool:
    """While the position is within limits of 31 bits, no sum of shares reaches its end."""
    is_within = (
        abs(exposure.position) <= POSITION_MAX
        and exposure.position + exposure.open_buy <= POSITION_MAX
        and exposure.open_sell - exposure.position <= POSITION_MAX
    )
    after = opened(exposure, buys, qty)
    is_exact = (
        after.open_buy + after.open_sell == exposure.open_buy + exposure.open_sell + qty
        and after.position + after.open_buy <= POSITION_MAX
        and after.open_sell - after.position <= POSITION_MAX
    )
    return not is_within or exceeds_position(exposure, buys, qty, position_max) or is_exact


@kernel
def fill_keeps_the_worst_case_of_its_side(exposure: Exposure, buys: Bool, qty: Quantity) -> Bool:
    """A fill of open shares moves nothing on its own side, and gives the other side room."""
    is_open = qty <= (exposure.open_buy if buys else exposure.open_sell)
    is_within = (
        abs(exposure.position) <= POSITION_MAX
        and exposure.position + exposure.open_buy <= POSITION_MAX
        and exposure.open_sell - exposure.position <= POSITION_MAX
    )
    after = filled(exposure, buys, qty)
    before_buy = exposure.position + exposure.open_buy
    before_sell = exposure.open_sell - exposure.position
    buy, sell = after.position + after.open_buy, after.open_sell - after.position
    if buys:
        holds = buy == before_buy and sell == before_sell - qty
    else:
        holds = sell == before_sell and buy == before_buy - qty
    return not is_open or not is_within or holds


@kernel
def flattening_order_passes(exposure: Exposure, qty: Quantity, position_max: U31) -> Bool:
    """What only closes a position is never denied for it, nor for want of a locate."""
    buys = exposure.position < 0
    others = exposure.open_buy if buys else exposure.open_sell
    is_flattening = qty + others <= abs(exposure.position)
    return not is_flattening or not (
        exceeds_position(exposure, buys, qty, position_max) or lacks_locate(exposure, buys, qty, 0)
    )


@kernel
def money_stays_within_its_limits(
    level: Level, buys: Bool, added: Notional, gross_max: Money, net_max: Money
) -> Bool:
    """What passes leaves gross and the worst net at their limits at most, exactly added up."""
    after = level_opened(level, buys, added)
    bought, sold = after.net + after.open_buy, after.open_sell - after.net
    worst = bought if buys else sold
    is_denied = exceeds_gross(level.gross, added, gross_max) or exceeds_net(
        level, buys, added, net_max
    )
    is_exact = after.gross == level.gross + added
    return is_denied or (after.gross <= gross_max and worst <= net_max and is_exact)


@kernel
def what_was_opened_can_be_closed(level: Level, buys: Bool, added: Notional) -> Bool:
    """A cancel gives back what its order took, unless a sum had reached its end."""
    after = level_opened(level, buys, added)
    back = level_opened(after, buys, -added)
    is_exact = (
        back.net == level.net
        and back.open_buy == level.open_buy
        and back.open_sell == level.open_sell
        and back.gross == level.gross
    )
    is_room = level.gross + added <= MONEY_MAX and (
        (level.open_buy if buys else level.open_sell) + added <= MONEY_MAX
    )
    return not is_room or is_exact


@kernel
def fill_at_the_limit_price_keeps_gross(level: Level, buys: Bool, money: Notional) -> Bool:
    """A fill at the limit price turns what is open into what was traded."""
    is_open = money <= (level.open_buy if buys else level.open_sell) and money <= level.gross
    after = level_filled(level, buys, money, money)
    return not is_open or after.gross == level.gross


@kernel
def replacement_is_never_worth_less_than_its_increase(
    price: Price, order_qty: Quantity, orig_qty: Quantity
) -> Bool:
    """A replacement of the same price adds just its increase."""
    added = added_notional(price, order_qty, price, orig_qty)
    return added == price * max(order_qty - orig_qty, 0)


@kernel
def passing_message_leaves_the_bucket_within_its_burst(rate: Rate, now_ns: Time) -> Bool:
    after = counted(rate, now_ns)
    is_late = now_ns + rate.interval_ns > TIME_MAX or rate.due_ns > TIME_MAX - (1 << 40)
    return is_late or exceeds_rate(rate, now_ns) or after.due_ns <= now_ns + rate.burst_ns


@kernel
def closed_rate_passes_nothing(rate: Rate, now_ns: Time) -> Bool:
    return rate.burst_ns != 0 or exceeds_rate(rate, now_ns)


@kernel
def own_price_covers_a_new_order(resting: Resting, buys: Bool, price: Price) -> Bool:
    """After an order rests, the price that is known of its side is as good as its own."""
    known = resting_price(rested(resting, buys, price))
    return price == 0 or (known >= price if buys else known <= price)


@kernel
def own_price_never_gets_worse_by_a_new_order(resting: Resting, buys: Bool, price: Price) -> Bool:
    before, after = resting_price(resting), resting_price(rested(resting, buys, price))
    return before == 0 or price == 0 or (after >= before if buys else 0 < after <= before)


@kernel
def end_of_an_order_behind_leaves_the_best(resting: Resting, price: Price) -> Bool:
    is_behind = resting.orders > resting.best_orders > 0 and price != resting.best_price
    return not is_behind or resting_price(ended(resting, price)) == resting_price(resting)


@kernel
def orders_that_would_trade_with_each_other_never_both_rest(
    resting: Resting, buys: Bool, first: Price, second: Price
) -> Bool:
    """After an order rests, one of the other side that reaches its price is denied."""
    known = resting_price(rested(resting, buys, first))
    reaches = second <= first if buys else second >= first
    return first == 0 or not reaches or crosses_own(not buys, second, known)


@kernel
def order_is_a_duplicate_of_itself(
    price: Price, order_qty: U32, now_ns: Time, window_ns: U40, later_ns: U40
) -> Bool:
    order = Order(True, order_qty, price, 0, 0, 0)
    newest = Newest(0, order_qty & QUANTITY_MASK, price, now_ns)
    is_soon = later_ns < window_ns and order_qty <= QUANTITY_MASK
    is_late = now_ns > TIME_MAX - (1 << 40)
    found = repeats(order, newest, min(now_ns + later_ns, TIME_MAX), window_ns)
    return is_late or found == is_soon


PROPERTIES = [
    item
    for item in list(vars().values())
    if isinstance(item, Kernel) and item.function.__module__ == __name__
]


def counterexample(claim: Kernel) -> dict[str, int] | None:
    """Return arguments for which a kernel is false, or None if it never is."""
    formula = to_z3(claim)
    solver = z3.SolverFor("QF_BV")
    solver.set("timeout", 60_000)
    solver.add(formula.results["result"] == 0)
    answer = solver.check()
    assert answer != z3.unknown, "no answer in 60 s"
    if answer == z3.unsat:
        return None
    model = solver.model()
    return {
        name: model.eval(term, model_completion=True).as_long()
        for name, term in formula.arguments.items()
    }


@pytest.mark.parametrize("claim", PROPERTIES, ids=lambda claim: claim.name)
def test_property_holds_for_all_arguments(claim):
    assert counterexample(claim) is None


def test_digits_of_a_price_leave_the_rest_of_the_price_itself():
    # What the digits' sum with changing signs lacks of a price, digit by digit.
    assert [(1 << 10) + 1, (1 << 20) - 1, (1 << 30) + 1] == [41 * 25, 41_943 * 25, 42_949_673 * 25]
    assert 1_050 % 25 == 0


def test_there_are_as_many_properties_as_this():
    assert len(PROPERTIES) == 15
    assert OPEN_ORDERS_MAX == 65_535
