"""What is said to the risk gate, and what it says and knows, in the words of ``orders_flow``."""

from typing import Any

from amaranth.hdl import Shape
from amaranth.lib import data

from hw.rtl.risk import (
    DECISION,
    EVENT,
    SET_ACCOUNT,
    SET_DESK,
    SET_KILL,
    SET_MARKET,
    SET_SYMBOL,
    STATE,
    AccountKind,
    EventKind,
)
from protocol.risk import RiskLevel
from sim.golden import risk as golden
from sim.tb import orders_flow as flow

Fields = dict[str, tuple[int, int, bool]]
"""Place, width and sign of each scalar of a layout, by name."""

ACCOUNT_KINDS = {
    RiskLevel.TRADER: AccountKind.TRADER,
    RiskLevel.DESK: AccountKind.DESK,
    RiskLevel.FIRM: AccountKind.FIRM,
}


def scalars(layout: Any, offset: int = 0, prefix: str = "") -> Fields:
    """Return place, width and sign of each scalar of a layout, by name."""
    found: Fields = {}
    for name, field in layout:
        if isinstance(field.shape, data.StructLayout):
            found |= scalars(field.shape, offset + field.offset, f"{prefix}{name}.")
        else:
            shape = Shape.cast(field.shape)
            found[f"{prefix}{name}"] = (offset + field.offset, shape.width, shape.signed)
    return found


LAYOUTS = {
    "i": scalars(EVENT),
    "i_symbol": scalars(SET_SYMBOL),
    "i_market": scalars(SET_MARKET),
    "i_account": scalars(SET_ACCOUNT),
    "i_kill": scalars(SET_KILL),
    "i_desk": scalars(SET_DESK),
}
DECISION_FIELDS = scalars(DECISION)
STATE_FIELDS = scalars(STATE)


def pack(fields: Fields, values: dict[str, Any]) -> int:
    """Return a record's bits; fields that are not told are zero."""
    assert values.keys() <= fields.keys(), values.keys() - fields.keys()
    word = 0
    for name, value in values.items():
        offset, width, _ = fields[name]
        word |= (int(getattr(value, "value", value)) & (1 << width) - 1) << offset
    return word


def unpack(fields: Fields, word: int) -> dict[str, int]:
    """Return the scalars of a record's bits."""
    values = {}
    for name, (offset, width, signed) in fields.items():
        value = word >> offset & (1 << width) - 1
        values[name] = value - (1 << width) if signed and value >> width - 1 else value
    return values


def told(step: flow.Step) -> tuple[str, dict[str, Any]]:
    """Return the stream of a step, and what it says there."""
    match step:
        case flow.Decide():
            return "i", {
                "kind": EventKind.ORDER,
                "symbol_index": step.symbol,
                "trader": step.trader,
                "buys": step.buys,
                "qty": step.order_qty,
                "price": step.price,
                "orig_qty": step.orig_qty,
                "orig_price": step.orig_price,
                "session": step.session,
                "is_open": step.is_open,
                "slot": step.slot,
                "now_ns": step.now_ns,
            }
        case flow.Execute():
            return "i", {
                "kind": EventKind.EXECUTE,
                "symbol_index": step.symbol,
                "trader": step.trader,
                "buys": step.buys,
                "qty": step.last_qty,
                "price": step.price,
                "last_price": step.last_price,
                "ends": step.ends,
            }
        case flow.Release():
            return "i", {
                "kind": EventKind.RELEASE,
                "symbol_index": step.symbol,
                "trader": step.trader,
                "buys": step.buys,
                "qty": step.qty,
                "price": step.price,
                "money": step.money,
                "ends": step.ends,
            }
        case flow.Message():
            return "i", {
                "kind": EventKind.MESSAGE,
                "trader": step.trader,
                "now_ns": step.now_ns,
            }
        case flow.SetLimits():
            limits = {f"limits.{name}": value for name, value in step.limits._asdict().items()}
            return "i_symbol", {"symbol_index": step.symbol, **limits}
        case flow.SetMarket():
            market = {f"market.{name}": value for name, value in step.market._asdict().items()}
            return "i_market", {"symbol_index": step.symbol, **market}
        case flow.SetLevel():
            return "i_account", {
                "kind": ACCOUNT_KINDS[step.level],
                "index": step.level_index,
                "limits.gross_max": step.limits.gross_max,
                "limits.net_max": step.limits.net_max,
                "limits.interval_ns": step.rate.interval_ns,
                "limits.burst_ns": step.rate.burst_ns,
            }
        case flow.Kill():
            return "i_kill", {
                "kind": ACCOUNT_KINDS[step.level],
                "index": step.level_index,
                "on": step.on,
            }
    raise AssertionError(step)


def state_of(model: golden.Risk, step: flow.Decide) -> dict[str, int]:
    """Return what the golden model knows of all that an order named, but its message rates."""
    side = golden.Side.BUY if step.buys else golden.Side.SELL
    own = model.own(step.symbol, side)
    known = {
        "position": model.position(step.symbol),
        "side.open_qty": model.open_qty(step.symbol, side),
        "side.orders": own.front + own.behind,
        "side.best_orders": own.front,
        "side.best_price": own.front_price or 0,
        "side.behind_price": own.behind_price or 0,
    }
    for level, index in model._levels(step.trader):
        money = model.money(level, index)
        name = level.name.lower()
        known[f"{name}.net"] = money.net
        known[f"{name}.gross"] = money.gross
        known[f"{name}.open_money"] = money.open_buy if step.buys else money.open_sell
    return known
