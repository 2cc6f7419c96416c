"""The rows of the rules' tables, as what is said to a gate and what it must answer.

A gate has no ports for what it remembers, so each row first makes it remember: orders, executions
and releases that lead there. Rows that no gate can be led to are left out, and counted.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from kernels import exposure, risk
from kernels.exposure import MONEY_MAX, NOTIONAL_MAX, POSITION_MAX, QUANTITY_MASK, Level, Rate
from kernels.risk import LevelLimits, Limits, Market
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sim.tb import orders_flow as flow
from tests.kernels.test_risk import TABLES

U31, U32, U40 = ((1 << bits) - 1 for bits in (31, 32, 40))
TRADERS = (0, 3, 4)
LIMITS = Limits(
    qty_max=QUANTITY_MASK,
    notional_max=NOTIONAL_MAX,
    position_max=U31,
    price_band_bp=(1 << 16) - 1,
    tick_size=1,
    locate_qty=U31,
    duplicate_window_ns=0,
    phases=31,
    restricted=False,
)
MONEY, RATE = LevelLimits(MONEY_MAX, MONEY_MAX), Rate(0, U40)
MONEY_MOST = (1 << 53) - 1  # In one release.
LEVELS = {
    RiskLevel.TRADER: (DenyReason.TRADER_GROSS_EXCEEDS_LIMIT, DenyReason.TRADER_NET_EXCEEDS_LIMIT),
    RiskLevel.DESK: (DenyReason.DESK_GROSS_EXCEEDS_LIMIT, DenyReason.DESK_NET_EXCEEDS_LIMIT),
    RiskLevel.FIRM: (DenyReason.FIRM_GROSS_EXCEEDS_LIMIT, DenyReason.FIRM_NET_EXCEEDS_LIMIT),
}


class Row(NamedTuple):
    """Steps of which the last one is the row's, and what is known after it."""

    rule: str
    row: tuple[Any, ...]
    steps: list[flow.Step]
    state: dict[str, int] | None = None


class UnreachableError(Exception):
    """No gate can be led to a row."""


def opening() -> Iterator[flow.Step]:
    """Yield what opens a gate for all the orders below, but for their symbol."""
    for trader in TRADERS:
        yield flow.SetLevel(RiskLevel.TRADER, trader, MONEY, RATE)
        yield flow.Kill(RiskLevel.TRADER, trader, False)
    for desk in sorted(set(flow.DESKS)):
        yield flow.SetLevel(RiskLevel.DESK, desk, MONEY, RATE)
        yield flow.Kill(RiskLevel.DESK, desk, False)
    yield flow.SetLevel(RiskLevel.FIRM, 0, MONEY, RATE)
    yield flow.Kill(RiskLevel.FIRM, 0, False)


def order(
    reasons: set[DenyReason] = frozenset(),
    buys: bool = True,
    qty: int = 1,
    price: int = 10_000,
    orig_qty: int = 0,
    orig_price: int = 0,
    now_ns: int = 0,
    trader: int = 0,
) -> flow.Decide:
    """Return an order that is denied for the lowest of some reasons, or of its own faults."""
    own = set(reasons)
    own |= {DenyReason.QUANTITY_ZERO} if qty == 0 else set()
    own |= {DenyReason.QUANTITY_EXCEEDS_MAXIMUM} if qty > QUANTITY_MASK else set()
    own |= {DenyReason.PRICE_ZERO} if price == 0 else set()
    reason = min(own, default=DenyReason.NONE)
    replaced = (orig_qty, orig_price)
    return flow.Decide(
        *(0, trader, buys, qty, price, *replaced, True, True, True, now_ns, not orig_qty, reason)
    )


def adding(reasons: set[DenyReason], buys: bool, shares: int, **more: int) -> flow.Decide:
    """Return an order that adds so many shares to those open; none as a replacement."""
    if shares == 0:
        return order(reasons, buys, 1, orig_qty=1, orig_price=10_000, **more)
    return order(reasons, buys, shares, **more)


def worth(reasons: set[DenyReason], buys: bool, money: int) -> flow.Decide:
    """Return an order that adds so much money to what is open; the most it can for a maximum."""
    if money == 0:
        return adding(reasons, buys, 0)
    if money == NOTIONAL_MAX:
        return order(reasons, buys, QUANTITY_MASK, U32)
    return order(reasons, buys, 1, money)


def market(price: int) -> flow.SetMarket:
    return flow.SetMarket(0, Market(last_price=max(price, 1)))


def parts(total: int, most: int) -> Iterator[int]:
    """Yield parts of a number, of at most so much either way."""
    while total:
        part = max(-most, min(total, most))
        yield part
        total -= part


def executed(buys: bool, qty: int, price: int = 0, last_price: int = 0) -> flow.Execute:
    return flow.Execute(0, 0, buys, price, last_price, qty, False)


def released(buys: bool, qty: int = 0, money: int = 0) -> flow.Release:
    return flow.Release(0, 0, buys, 0, qty, money, False)


def exposed(to: exposure.Exposure) -> list[flow.Step]:
    """Return the steps to a position and open shares."""
    if abs(to.position) > POSITION_MAX:
        raise UnreachableError
    steps: list[flow.Step] = [
        executed(part > 0, abs(part)) for part in parts(to.position, QUANTITY_MASK)
    ]
    for buys, shares in ((True, to.open_buy), (False, to.open_sell)):
        steps += [released(buys, -part) for part in parts(shares, U31)]
    return steps


def traded(to: Level) -> list[flow.Step]:
    """Return the steps to what a level has traded and can still trade."""
    if abs(to.net) > MONEY_MAX:
        raise UnreachableError
    steps: list[flow.Step] = []
    if abs(to.net) == MONEY_MAX:
        steps += [executed(to.net > 0, QUANTITY_MASK, 0, U32)] * 17
    elif to.net:
        steps += [executed(to.net > 0, 1, 0, abs(to.net))]
    steps += [released(True, money=MONEY_MOST)] * 9  # Gross is 0 now.
    gross = max(to.gross - to.open_buy - to.open_sell, 0)
    if gross > U32:
        # Both sides in turn, until gross is at its end; net is where it was.
        steps += [executed(to.net <= 0, QUANTITY_MASK, 0, U32)]
        steps += [
            executed(buys, QUANTITY_MASK, 0, U32)
            for _ in range(9)
            for buys in ((to.net > 0), (to.net <= 0))
        ][:-1]
        steps += [released(True, money=part) for part in parts(MONEY_MAX - gross, MONEY_MOST)]
    elif gross:
        half = (gross + 1) // 2
        steps += [executed(to.net <= 0, 1, 0, half), executed(to.net > 0, 1, 0, half)]
        steps += [released(True, money=2 * half - gross)]
    for buys, money in ((True, to.open_buy), (False, to.open_sell)):
        steps += [released(buys, money=-part) for part in parts(money, MONEY_MOST)]
    return steps


def limits(**changed: int | bool) -> flow.SetLimits:
    return flow.SetLimits(0, LIMITS._replace(**changed))


def when(reason: DenyReason, holds: bool) -> set[DenyReason]:
    return {reason} if holds else set()


def _quantity(row: Any, holds: bool) -> list[flow.Step]:
    qty, qty_max = row
    reasons = when(DenyReason.QUANTITY_EXCEEDS_MAXIMUM, holds)
    reasons |= when(DenyReason.UNKNOWN_SYMBOL, qty_max == 0)
    return [limits(qty_max=qty_max), market(10_000), order(reasons, qty=qty)]


def _notional(row: Any, holds: bool) -> list[flow.Step]:
    price, qty, notional_max = row
    asked = order(when(DenyReason.NOTIONAL_EXCEEDS_MAXIMUM, holds), qty=qty, price=price)
    return [limits(notional_max=notional_max), market(price), asked]


def _tick(row: Any, holds: bool) -> list[flow.Step]:
    price, tick = row
    asked = order(when(DenyReason.PRICE_OFF_TICK, holds), price=price)
    return [limits(tick_size=tick), market(price), asked]


def _band(row: Any, holds: bool) -> list[flow.Step]:
    price, twice, band = row
    seen = Market(last_price=twice // 2) if twice % 2 == 0 else Market(twice // 2, twice // 2 + 1)
    if max(seen[:3]) > U32:
        raise UnreachableError
    asked = order(when(DenyReason.PRICE_OUTSIDE_BAND, holds), price=price)
    return [limits(price_band_bp=band), flow.SetMarket(0, seen), asked]


def _reference(row: Any, twice: int) -> list[flow.Step]:
    price = (twice + 1) // 2
    reasons = when(DenyReason.PRICE_OUTSIDE_BAND, twice % 2 == 1 or twice == 0)
    seen = flow.SetMarket(0, Market(*row))
    return [limits(price_band_bp=0), seen, order(reasons, price=max(price, 1))]


def _phase(row: Any, holds: bool) -> list[flow.Step]:
    phases, phase = row
    seen = flow.SetMarket(0, Market(last_price=10_000, phase=phase))
    return [limits(phases=phases), seen, order(when(DenyReason.PHASE_NOT_ALLOWED, holds))]


def _position(row: Any, holds: bool) -> list[flow.Step]:
    known, buys, shares, most = row
    asked = adding(when(DenyReason.POSITION_EXCEEDS_LIMIT, holds), buys, shares)
    return [*exposed(known), limits(position_max=most), market(10_000), asked]


def _locate(row: Any, holds: bool) -> list[flow.Step]:
    known, buys, shares, located = row
    asked = adding(when(DenyReason.SHORT_SALE_WITHOUT_LOCATE, holds), buys, shares)
    return [*exposed(known), limits(locate_qty=located), market(10_000), asked]


def _own(row: Any, holds: bool) -> list[flow.Step]:
    buys, price, own = row
    resting = [order(buys=not buys, price=own)] if own else []
    asked = order(when(DenyReason.SELF_TRADE, holds), buys, price=price)
    return [limits(), market(max(price, own)), *resting, asked]


def _repeats(row: Any, holds: bool) -> list[flow.Step]:
    asked, newest, now_ns, window_ns = row
    if newest.price == 0:
        raise UnreachableError
    before = order(
        buys=asked.buys,
        qty=newest.order_qty,
        price=newest.price,
        now_ns=newest.at_ns,
        trader=newest.trader,
    )
    again = order(
        when(DenyReason.DUPLICATE_ORDER, holds),
        *(asked.buys, asked.order_qty, asked.price, asked.orig_qty, asked.orig_price),
        *(now_ns, asked.trader),
    )
    return [limits(duplicate_window_ns=window_ns), market(asked.price), before, again]


def _rate(level: RiskLevel, row: Any, holds: bool) -> list[flow.Step]:
    rate, now_ns = row
    asked = order(when(DenyReason.MESSAGE_RATE_EXCEEDED, holds), now_ns=now_ns)
    set_rate = flow.SetLevel(level, 0, MONEY, rate)
    return [limits(), market(10_000), flow.Message(0, rate.due_ns), set_rate, asked]


def _gross(level: RiskLevel, row: Any, holds: bool) -> list[flow.Step]:
    gross, added, most = row
    reasons = when(LEVELS[level][0], holds)
    reasons |= when(DenyReason.TRADER_GROSS_EXCEEDS_LIMIT, gross + added > MONEY_MAX)
    spent = [released(False, money=-part) for part in parts(gross, MONEY_MOST)]
    set_level = flow.SetLevel(level, 0, LevelLimits(most, MONEY_MAX), RATE)
    return [*spent, limits(), market(U32), set_level, worth(reasons, True, added)]


def _net(level: RiskLevel, row: Any, holds: bool) -> list[flow.Step]:
    known, buys, added, most = row
    reasons = when(LEVELS[level][1], holds)
    over = (known.net + known.open_buy if buys else known.open_sell - known.net) + added
    reasons |= when(DenyReason.TRADER_NET_EXCEEDS_LIMIT, over > MONEY_MAX)
    set_level = flow.SetLevel(level, 0, LevelLimits(MONEY_MAX, most), RATE)
    return [*traded(known), limits(), market(U32), set_level, worth(reasons, buys, added)]


RULES: dict[Any, Callable[[Any, bool], list[flow.Step]]] = {
    risk.exceeds_quantity: _quantity,
    risk.exceeds_notional: _notional,
    risk.off_tick: _tick,
    risk.outside_band: _band,
    risk.twice_reference: _reference,
    risk.forbids_phase: _phase,
    risk.exceeds_position: _position,
    risk.lacks_locate: _locate,
    risk.crosses_own: _own,
    risk.repeats: _repeats,
}
LEVEL_RULES: dict[Any, Callable[[RiskLevel, Any, bool], list[flow.Step]]] = {
    risk.exceeds_rate: _rate,
    risk.exceeds_gross: _gross,
    risk.exceeds_net: _net,
}


def _opened(row: Any, after: Any) -> tuple[list[flow.Step], dict[str, int]]:
    known, buys, shares = row
    return [*exposed(known), released(buys, -shares)], _shares(after, buys)


def _filled(row: Any, after: Any) -> tuple[list[flow.Step], dict[str, int]]:
    known, buys, shares = row
    return [*exposed(known), executed(buys, shares)], _shares(after, buys)


def _shares(after: Any, buys: bool) -> dict[str, int]:
    return {
        "position": after.position,
        "side.open_qty": after.open_buy if buys else after.open_sell,
    }


def _level_opened(row: Any, after: Any) -> tuple[list[flow.Step], dict[str, int]]:
    known, buys, money = row
    return [*traded(known), released(buys, money=-money)], _money(after, buys)


def _level_filled(row: Any, after: Any) -> tuple[list[flow.Step], dict[str, int]]:
    known, buys, as_open, money = row
    return [*traded(known), executed(buys, 1, as_open, money)], _money(after, buys)


def _money(after: Any, buys: bool) -> dict[str, int]:
    open_money = after.open_buy if buys else after.open_sell
    return {
        f"{level.name.lower()}.{name}": value
        for level in LEVELS
        for name, value in (("net", after.net), ("gross", after.gross), ("open_money", open_money))
    }


def _counted(row: Any, after: Any) -> tuple[list[flow.Step], dict[str, int]]:
    rate, now_ns = row
    set_rates = [flow.SetLevel(level, 0, MONEY, rate) for level in LEVELS]
    steps = [flow.Message(0, rate.due_ns), *set_rates, flow.Message(0, now_ns)]
    return steps, {f"{level.name.lower()}.due_ns": after.due_ns for level in LEVELS}


CHANGES: dict[Any, Callable[[Any, Any], tuple[list[flow.Step], dict[str, int]]]] = {
    exposure.opened: _opened,
    exposure.filled: _filled,
    exposure.level_opened: _level_opened,
    exposure.level_filled: _level_filled,
    exposure.counted: _counted,
}


def rows() -> tuple[list[Row], int]:
    """Return all rows that a gate can be led to, and how many there are that it can not."""
    found, left_out = [], 0
    for rule, rows_of in TABLES.items():
        for row, expected in rows_of:
            try:
                if rule in RULES:
                    found.append(Row(rule.name, row, RULES[rule](row, expected)))
                elif rule in LEVEL_RULES:
                    for level in LEVELS:
                        steps = LEVEL_RULES[rule](level, row, expected)
                        found.append(Row(f"{rule.name} {level.name}", row, steps))
                elif rule in CHANGES:
                    found.append(Row(rule.name, row, *CHANGES[rule](row, expected)))
            except UnreachableError:
                left_out += 1
    return found, left_out
