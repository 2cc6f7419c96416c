"""What the gate works out of an event before its state: stages 0 to 4.

Nothing here depends on the events before, so it is a pipeline without a loop.
"""

from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Mux, Signal, signed
from amaranth.lib import data

from hw.rtl.risk.events import (
    MONEY_LIMITS,
    AccountKind,
    EventKind,
    fields_of,
    record_layout,
)
from hw.rtl.risk.rules import LEFT, NO_LIMIT, bounded, price_key
from kernels.exposure import MONEY_MAX, POSITION_MAX, TIME_MAX
from kernels.risk import (
    Limits,
    exceeds_quantity,
    forbids_phase,
    notional,
    off_tick,
    outside_band,
)
from protocol.reasons import DenyReason

# Limits of a symbol that are compared with what is known of the past, and the others.
_LATE = ("position_max", "locate_qty", "duplicate_window_ns")
_EARLY = tuple(name for name in Limits._fields if name not in _LATE)
_MARKET = data.StructLayout({"twice_reference": 33, "halted": 1, "stale": 1, "phase": 3})


class Judged(NamedTuple):
    """What is known in stage 5 of an order alone.

    ``found`` has the rules that hold, by reason; ``any_found`` tells whether any does of those that
    are known a stage before, and the other two are the rest.
    """

    found: dict[DenyReason, Any]
    any_found: Any
    outside_band: Any
    off_tick: Any


def read(gate, stages, event):
    """Return in stage 1 limits and market of the symbol, and the trader's desk by stage, 1 to 6."""
    # Stage 0: limits and market of the symbol are read, and the trader's desk.
    asked = event[0]
    set_symbol, set_market = gate.i_symbol.payload, gate.i_market.payload
    s1_limits = stages.held(
        stages.memory(
            "limits",
            record_layout(Limits, *_LATE),
            gate.symbol_count,
            asked.symbol_index,
            gate.i_symbol.valid & (set_symbol.symbol_index < gate.symbol_count),
            set_symbol.symbol_index,
            Cat(field for name, field in fields_of(set_symbol.limits) if name not in _LATE),
        ),
        record_layout(Limits, *_LATE),
        "s1_limits",
    )
    # What an order needs of the market: :func:`kernels.risk.twice_reference` of its prices.
    seen = set_market.market
    is_book = (seen.bid_price != 0) & (seen.bid_price <= seen.ask_price)
    kept_market = Signal(_MARKET)
    stages.m.d.comb += [
        kept_market.twice_reference.eq(
            Mux(is_book, seen.bid_price + seen.ask_price, seen.last_price << 1)
        ),
        kept_market.halted.eq(seen.halted),
        kept_market.stale.eq(seen.stale),
        kept_market.phase.eq(seen.phase),
    ]
    s1_market = stages.held(
        stages.memory(
            "market",
            _MARKET,
            gate.symbol_count,
            asked.symbol_index,
            gate.i_market.valid & (set_market.symbol_index < gate.symbol_count),
            set_market.symbol_index,
            kept_market,
        ),
        _MARKET,
        "s1_market",
    )
    set_desk = gate.i_desk.payload
    s1_desk = stages.held(
        stages.memory(
            "desk_of",
            range(gate.desk_count),
            gate.trader_count,
            asked.trader,
            gate.i_desk.valid
            & (set_desk.trader < gate.trader_count)
            & (set_desk.desk < gate.desk_count),
            set_desk.trader,
            set_desk.desk,
        ),
        range(gate.desk_count),
        "s1_desk",
    )
    desks = {1: s1_desk}
    for n in range(2, 7):
        desks[n] = stages.held(desks[n - 1], range(gate.desk_count), f"s{n}_desk")
    return s1_limits, s1_market, desks


def multiply(stages, event):
    """Return two products in stage 3, of which the first less the second is what an event adds."""
    asked = event[0]
    # Stages 0 to 2: two products. An order adds the first less the second: its value, less what
    # it has in common with its original at the lower price, as
    # :func:`kernels.risk.added_notional`. An execution adds its value, less that as open.
    quantity = asked.qty[: len(asked.orig_qty)]
    is_execution = asked.kind == EventKind.EXECUTE
    is_cheaper = asked.price < asked.orig_price
    is_smaller = quantity < asked.orig_qty
    s3_first = stages.kernel(
        notional,
        2,
        "first",
        price=stages.held(Mux(is_execution, asked.last_price, asked.price), 32, "s1_first_price"),
        qty=stages.held(quantity, 20, "s1_first_qty"),
    )
    s3_second = stages.kernel(
        notional,
        2,
        "second",
        price=stages.held(
            Mux(is_execution | is_cheaper, asked.price, asked.orig_price), 32, "s1_second_price"
        ),
        qty=stages.held(
            Mux(is_execution | is_smaller, quantity, asked.orig_qty), 20, "s1_second_qty"
        ),
    )
    return s3_first, s3_second


def judge(stages, event, s1_knows_symbol, s1_limits, s1_market, s3_first):
    """Return in stage 5 which rules hold that need nothing of the past."""
    # Stages 1 to 4: the rules that need nothing of the past.
    order = event[1]
    at_once = {
        DenyReason.SESSION_NOT_READY: ~order.session,
        DenyReason.UNKNOWN_SYMBOL: ~s1_knows_symbol | (s1_limits.qty_max == 0),
        DenyReason.SYMBOL_HALTED: s1_market.halted,
        DenyReason.BOOK_STALE: s1_market.stale,
        DenyReason.QUANTITY_ZERO: order.qty == 0,
        DenyReason.PRICE_ZERO: order.price == 0,
        DenyReason.UNKNOWN_ORDER: ~order.is_open,
        DenyReason.NO_RING_SLOT: ~order.slot,
        DenyReason.SYMBOL_RESTRICTED: s1_limits.restricted,
    }
    s4_found = {
        reason: stages.later(
            stages.held(is_found, 1, f"s2_{reason.name.lower()}"), 2, reason.name.lower()
        )
        for reason, is_found in at_once.items()
    }
    s4_found[DenyReason.QUANTITY_EXCEEDS_MAXIMUM] = stages.kernel(
        exceeds_quantity, 3, order_qty=order.qty, qty_max=s1_limits.qty_max
    )
    s4_found[DenyReason.PHASE_NOT_ALLOWED] = stages.kernel(
        forbids_phase, 3, phases=s1_limits.phases, phase=s1_market.phase
    )
    s3_notional_max = stages.later(s1_limits.notional_max, 2, "s1_notional_max")
    s4_found[DenyReason.NOTIONAL_EXCEEDS_MAXIMUM] = stages.held(
        s3_first > s3_notional_max, 1, "s4_exceeds_notional"
    )
    s5_found = {
        reason: stages.held(is_found, 1, f"s5_{reason.name.lower()}")
        for reason, is_found in s4_found.items()
    }
    s5_any_found = stages.held(Cat(s4_found.values()).any(), 1, "s5_any_found")
    s5_outside_band = stages.kernel(
        outside_band,
        4,
        price=order.price,
        twice_reference=s1_market.twice_reference,
        price_band_bp=s1_limits.price_band_bp,
    )
    s5_off_tick = stages.kernel(off_tick, 4, price=order.price, tick_size=s1_limits.tick_size)
    s5_found[DenyReason.PRICE_OUTSIDE_BAND] = s5_outside_band
    s5_found[DenyReason.PRICE_OFF_TICK] = s5_off_tick
    return Judged(s5_found, s5_any_found, s5_outside_band, s5_off_tick)


def leave(gate, stages, event, desks, s1_known, s3_first, s3_second):
    """Return in stage 5 what an event adds, and what the limits leave for what was there before.

    ``s1_known`` tells whether symbol and trader are known.
    """
    s1_knows_symbol, s1_knows_trader = s1_known
    depths = {"trader": gate.trader_count, "desk": gate.desk_count, "firm": 1}
    kinds = {kind.name.lower(): kind for kind in AccountKind}
    # Stage 3: limits are read, late, so that they need not be carried along; settings take as
    # long to come here. What the event adds to each sum is known.
    asked = event[3]
    is_order = asked.kind == EventKind.ORDER
    is_execution = asked.kind == EventKind.EXECUTE
    is_release = asked.kind == EventKind.RELEASE
    is_message = asked.kind == EventKind.MESSAGE
    s3_set_symbol = stages.later(gate.i_symbol.payload, 3, "set_symbol")
    s3_set_symbol_valid = stages.later_stb(gate.i_symbol.valid, 3, "set_symbol_valid")
    s4_limits = stages.held(
        stages.memory(
            "late_limits",
            record_layout(Limits, *_EARLY),
            gate.symbol_count,
            asked.symbol_index,
            s3_set_symbol_valid & (s3_set_symbol.symbol_index < gate.symbol_count),
            s3_set_symbol.symbol_index,
            Cat(field for name, field in fields_of(s3_set_symbol.limits) if name in _LATE),
        ),
        record_layout(Limits, *_EARLY),
        "s4_limits",
    )
    s3_set_account = stages.later(gate.i_account.payload, 3, "set_account")
    s3_set_account_valid = stages.later_stb(gate.i_account.valid, 3, "set_account_valid")
    s4_account_limits = {}
    for name, index in (("trader", asked.trader), ("desk", desks[3]), ("firm", Const(0))):
        kept = stages.memory(
            f"{name}_limits",
            MONEY_LIMITS,
            depths[name],
            index,
            s3_set_account_valid
            & (s3_set_account.kind == kinds[name])
            & (s3_set_account.index < depths[name]),
            s3_set_account.index,
            s3_set_account.limits,
        )
        s4_account_limits[name] = stages.held(kept, MONEY_LIMITS, f"s4_{name}_limits")

    quantity = asked.qty[: len(asked.orig_qty)]
    more = Mux(quantity > asked.orig_qty, quantity - asked.orig_qty, 0)
    given = Mux(is_execution, quantity, Mux(is_release, asked.qty.as_signed(), 0))
    s4_shares = stages.held(Mux(is_order, more, -given), signed(33), "s4_shares")
    s4_executed = stages.held(
        Mux(is_execution, Mux(asked.buys, quantity, -quantity), 0), signed(21), "s4_executed"
    )
    taken = Mux(is_release, asked.money, Mux(is_message, 0, s3_second))
    s4_open = stages.held(Mux(is_order, s3_first, 0) - taken, signed(55), "s4_open")
    s4_gross = stages.held(
        Mux(is_order | is_execution, s3_first, 0) - taken, signed(55), "s4_gross"
    )
    s4_net = stages.held(
        Mux(is_execution, Mux(asked.buys, s3_first, -s3_first), 0), signed(53), "s4_net"
    )
    s4_is_order = stages.held(is_order, 1, "s4_is_order")
    s3_knows_trader = stages.later(s1_knows_trader, 2, "s1_knows_trader")
    s3_is_known = stages.later(s1_knows_symbol & s1_knows_trader, 2, "s1_is_known")
    s4_counts = stages.held(
        Mux(is_message, s3_knows_trader, s3_is_known & ~is_order), 1, "s4_counts"
    )
    s4_ends = stages.held((is_execution | is_release) & asked.ends, 1, "s4_ends")
    s4_tells = stages.held(is_order | is_message, 1, "s4_tells")

    # Stage 4: what is left of each limit, to be compared with what is used of it. A sale has
    # one less, as it takes the complement of a sum for its negative.
    asked = event[4]
    s5_left = Signal(LEFT, reset_less=True)
    stages.m.d.sync += [
        s5_left.is_order.eq(s4_is_order),
        s5_left.counts.eq(s4_counts),
        s5_left.ends.eq(s4_ends),
        s5_left.tells.eq(s4_tells),
        s5_left.shares.eq(s4_shares),
        s5_left.executed.eq(s4_executed),
        s5_left.executed_above.eq(s4_executed + POSITION_MAX),
        s5_left.open.eq(s4_open),
        s5_left.gross.eq(s4_gross),
        s5_left.net.eq(s4_net),
        s5_left.net_above.eq(s4_net + MONEY_MAX),
        s5_left.position.eq(s4_limits.position_max - s4_shares - ~asked.buys),
        s5_left.locate.eq(
            Mux(asked.buys, NO_LIMIT, s4_limits.locate_qty - s4_shares - 1),
        ),
        s5_left.window_begin.eq(
            Mux(
                (s4_limits.duplicate_window_ns != 0) & (asked.orig_qty == 0),
                asked.now_ns - s4_limits.duplicate_window_ns,
                TIME_MAX,
            )
        ),
        s5_left.key.eq(price_key(asked.price, asked.buys)),
    ]
    for name, limits in s4_account_limits.items():
        left = s5_left[name]
        stages.m.d.sync += [
            left.gross.eq(limits.gross_max - s4_open),
            left.net.eq(limits.net_max - s4_open - ~asked.buys),
            left.due_last_ns.eq(
                Mux(
                    (limits.burst_ns == 0) | (limits.burst_ns < limits.interval_ns),
                    -1,  # No message is in time.
                    asked.now_ns + (limits.burst_ns - limits.interval_ns),
                )
            ),
            left.interval_ns.eq(limits.interval_ns),
            left.next_due_ns.eq(bounded(asked.now_ns + limits.interval_ns, 62)),
        ]
    return s5_left
