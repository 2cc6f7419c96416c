"""The gate's state as arrays of records, and these records as the kernels know them."""

from typing import Any

import numpy as np

from kernels.exposure import Exposure, Level, Newest, Rate, Resting
from kernels.risk import Account, LevelLimits, Limits, Market, Order, Ready
from sw.jit import dtype_of, jit

SYMBOL = np.dtype(
    [("limits", dtype_of(Limits)), ("market", dtype_of(Market)), ("exposure", dtype_of(Exposure))],
    align=True,
)
SIDE = np.dtype([("resting", dtype_of(Resting)), ("newest", dtype_of(Newest))], align=True)
ACCOUNT = np.dtype(
    [
        ("limits", dtype_of(LevelLimits)),
        ("rate", dtype_of(Rate)),
        ("level", dtype_of(Level)),
        ("parent", np.int64),
        ("killed", np.bool_),
    ],
    align=True,
)
"""A trader, a desk or the firm. ``parent`` is the place of the trader's desk, or of the firm."""

ORDER = np.dtype(
    [
        ("symbol", np.int64),
        *((name, np.int64) for name in Order._fields),
        *((name, np.int64) for name in Ready._fields),
        ("now_ns", np.int64),
    ]
)
"""An order of a batch: all of :class:`~kernels.risk.Order` and :class:`~kernels.risk.Ready`."""


@jit
def limits_of(row: Any) -> Limits:
    return Limits(
        int(row["qty_max"]),
        int(row["notional_max"]),
        int(row["position_max"]),
        int(row["price_band_bp"]),
        int(row["tick_size"]),
        int(row["locate_qty"]),
        int(row["duplicate_window_ns"]),
        int(row["phases"]),
        bool(row["restricted"]),
    )


@jit
def market_of(row: Any) -> Market:
    return Market(
        int(row["bid_price"]),
        int(row["ask_price"]),
        int(row["last_price"]),
        bool(row["halted"]),
        bool(row["stale"]),
        int(row["phase"]),
    )


@jit
def exposure_of(row: Any) -> Exposure:
    return Exposure(int(row["position"]), int(row["open_buy"]), int(row["open_sell"]))


@jit
def keep_exposure(row: Any, after: Exposure) -> None:
    row["position"] = after.position
    row["open_buy"] = after.open_buy
    row["open_sell"] = after.open_sell


@jit
def resting_of(row: Any) -> Resting:
    return Resting(
        int(row["orders"]),
        int(row["best_orders"]),
        int(row["best_price"]),
        int(row["behind_price"]),
    )


@jit
def keep_resting(row: Any, after: Resting) -> None:
    row["orders"] = after.orders
    row["best_orders"] = after.best_orders
    row["best_price"] = after.best_price
    row["behind_price"] = after.behind_price


@jit
def newest_of(row: Any) -> Newest:
    return Newest(int(row["trader"]), int(row["order_qty"]), int(row["price"]), int(row["at_ns"]))


@jit
def keep_newest(row: Any, after: Newest) -> None:
    row["trader"] = after.trader
    row["order_qty"] = after.order_qty
    row["price"] = after.price
    row["at_ns"] = after.at_ns


@jit
def rate_of(row: Any) -> Rate:
    return Rate(int(row["interval_ns"]), int(row["burst_ns"]), int(row["due_ns"]))


@jit
def level_of(row: Any) -> Level:
    return Level(int(row["net"]), int(row["open_buy"]), int(row["open_sell"]), int(row["gross"]))


@jit
def keep_level(row: Any, after: Level) -> None:
    row["net"] = after.net
    row["open_buy"] = after.open_buy
    row["open_sell"] = after.open_sell
    row["gross"] = after.gross


@jit
def account_of(row: Any) -> Account:
    limits = row["limits"]
    return Account(
        LevelLimits(int(limits["gross_max"]), int(limits["net_max"])),
        rate_of(row["rate"]),
        level_of(row["level"]),
    )
