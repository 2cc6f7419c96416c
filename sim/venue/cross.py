"""Crosses: one price for all, by Nasdaq's rules for opening, closing and halt crosses.

The price is found in plain Python, since that happens a few times a day; what trades at it is
jitted like all that moves orders.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from protocol.ouch50 import PRICE_MAX
from sim.venue.book import best_level, book_of, has_room
from sim.venue.records import (
    BUYS,
    CONTINUOUS,
    NONE,
    SELLS,
    Kind,
    head_of,
    level_at,
    order_at,
    symbol_at,
)
from sim.venue.trade import emit, settle, take
from sw.jit import jit

_CROSS_EXECUTED, _CROSSED = int(Kind.CROSS_EXECUTED), int(Kind.CROSSED)


class Auction(NamedTuple):
    """A cross as it would take place: price 0 and no shares where nothing would trade.

    ``imbalance`` is what would be left at the price, positive for buys.
    """

    price: int
    paired_qty: int
    imbalance: int


def auction(
    bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]], reference_price: int
) -> Auction:
    """Return price and shares of a cross. [Nasdaq Equity 4, Rules 4752(d)(2), 4754(b)(2)]

    The price executes most shares; of such prices it leaves the least imbalance; of these it is one
    at which an order was entered that is left in part; of these the one nearest to the reference.

    Parameters
    ----------
    bids, asks : sequence of (price, shares)
        Market orders have a price above PRICE_MAX or of 0.
    reference_price : int
        Where nothing else decides.
    """
    entered = {price for price, _ in (*bids, *asks) if 0 < price <= PRICE_MAX}
    candidates = sorted(entered | {reference_price} if reference_price else entered)
    found = []
    for price in candidates:
        demand = sum(qty for limit, qty in bids if limit >= price)
        supply = sum(qty for limit, qty in asks if limit <= price)
        found.append(Auction(price, min(demand, supply), demand - supply))
    most = max((one.paired_qty for one in found), default=0)
    if most == 0:
        return Auction(0, 0, 0)
    found = [one for one in found if one.paired_qty == most]
    least = min(abs(one.imbalance) for one in found)
    found = [one for one in found if abs(one.imbalance) == least]
    sides = {price for price, _ in bids}, {price for price, _ in asks}
    left = [one for one in found if one.imbalance and one.price in sides[one.imbalance < 0]]
    return min(left or found, key=lambda one: (abs(one.price - reference_price), one.price))


@jit
def _first(core: int, book: int) -> int:
    level = best_level(core, book)
    if level == NONE:
        return NONE
    row = level_at(core, level)
    return row["first_shown"] if row["first_shown"] != NONE else row["first_hidden"]


@jit
def _next(core: int, locate: int, session: int, side: int) -> int:
    """Return the order that trades next in a cross.

    At one price what is displayed comes first, then what was entered for the cross.
    """
    standing = _first(core, book_of(locate, CONTINUOUS, side))
    if session == CONTINUOUS:
        return standing
    waiting = _first(core, book_of(locate, session, side))
    if standing == NONE or waiting == NONE:
        return standing + waiting
    one, other = order_at(core, standing), order_at(core, waiting)
    if one["price"] == other["price"]:
        return standing if one["shown_qty"] > 0 else waiting
    return standing if (one["price"] > other["price"]) == (side == BUYS) else waiting


@jit
def _fill(core: int, slot: int, other_id: int, qty: int, price: int, kind: int) -> None:
    order_at(core, slot)["cum_qty"] += qty
    shown_qty = take(core, slot, qty)
    event = emit(core, _CROSS_EXECUTED, kind, slot, qty, price)
    event["other_id"] = other_id
    event["match_number"] = head_of(core)["match_number"]
    event["shown_qty"] = shown_qty
    settle(core, slot)


@jit
def cross(core: int, request: Any) -> bool:
    """Trade the request's shares at its price, best orders first, and report the cross.

    Orders of one participant do trade here, and minimum quantities are not looked at: a cross is
    one execution of all. [E4 Rule 4757(a)(4)]
    """
    locate, session, price = request["locate"], request["session"], request["price"]
    while request["qty"] > 0:
        if not has_room(core):
            return False
        buy = _next(core, locate, session, BUYS)
        sell = _next(core, locate, session, SELLS)
        buyer, seller = order_at(core, buy), order_at(core, sell)
        qty = min(min(buyer["leaves_qty"], seller["leaves_qty"]), request["qty"])
        buy_id, sell_id = buyer["order_id"], seller["order_id"]
        head_of(core)["match_number"] += 1
        _fill(core, buy, sell_id, qty, price, request["value"])
        _fill(core, sell, buy_id, qty, price, request["value"])
        request["qty"] -= qty
    if request["orig_id"] > 0:
        symbol_at(core, locate)["last_price"] = price
    head_of(core)["match_number"] += 1
    event = emit(core, _CROSSED, request["value"], NONE, 0, price)
    event["level_qty"] = request["orig_id"]
    event["match_number"] = head_of(core)["match_number"]
    event["locate"] = locate
    return True
