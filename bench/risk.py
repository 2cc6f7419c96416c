"""Time of a pre-trade check on the host, in a batch and called one by one from Python.

The peer is ``openpit`` with those of its policies that correspond: validation, order size and
value, message rate. It is measured in the same run, on an order that is built already.
"""

import datetime
import gc
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

import numpy as np

from bench.results import Result, publish
from kernels.exposure import MONEY_MAX, POSITION_MAX, token_bucket
from kernels.risk import LevelLimits, Limits, Market
from protocol.market import MarketPhase
from protocol.reasons import DenyReason
from sw.risk import ORDER, Risk

SYMBOLS, TRADERS = 128, 8
BATCH, BATCHES = 512, 4_000
CALLS = 200_000
PERCENTILES = (50, 99, 99.9)
PRICE, TICK = 1_000_000, 100

METHOD_BATCH = f"{BATCHES} batches of {BATCH}, ns of a batch by its orders; orders pass"
METHOD_CALL = f"{CALLS} calls, each between two looks at the clock, less the looks; orders pass"
METHOD_PEER = METHOD_CALL + "; openpit {version}, validation, order size and rate"


def measure() -> list[str]:
    """Measure the batch, the call, and the peer where it is installed; return broken budgets."""
    call, batch = _single_call(), _batch()
    peer = _openpit()
    results = [
        *_results("check in a batch", batch, METHOD_BATCH, peer),
        *_results("check called from Python", call, METHOD_CALL, peer),
    ]
    if peer is None:
        print("openpit is not installed, so nothing is compared with it: pip install openpit")
    else:
        version, times = peer
        results += _results("openpit's check", times, METHOD_PEER.format(version=version), None)
    return publish("risk", results)


def _results(
    name: str, times: np.ndarray, method: str, peer: tuple[str, np.ndarray] | None
) -> list[Result]:
    found = []
    for percentile in PERCENTILES:
        value = float(np.percentile(times, percentile))
        ratio = None
        if peer is not None:
            ratio = round(float(np.percentile(peer[1], percentile)) / max(value, 1), 2)
        found.append(
            Result(
                f"{name}, p{percentile:g}",
                round(value, 1),
                "ns",
                "lower",
                method,
                f"openpit {peer[0]}" if peer is not None else None,
                ratio,
            )
        )
    return found


def _gate() -> Risk:
    """Return a gate that lets the orders below pass."""
    risk = Risk(SYMBOLS, desks=[trader // 4 for trader in range(TRADERS)])
    limits = Limits(
        qty_max=1_000,
        notional_max=10**12,
        position_max=POSITION_MAX,
        price_band_bp=1_000,
        tick_size=TICK,
        locate_qty=POSITION_MAX,
        duplicate_window_ns=0,
        phases=1 << MarketPhase.REGULAR,
        restricted=False,
    )
    for symbol in range(SYMBOLS):
        risk.set_limits(symbol, limits)
        risk.set_market(symbol, Market(PRICE - TICK, PRICE + TICK, phase=MarketPhase.REGULAR))
    for level, index in risk.levels:
        risk.set_level(level, index, LevelLimits(MONEY_MAX, MONEY_MAX), token_bucket(1_000, 1))
        risk.kill(level, index, False)
    return risk


def _orders(count: int) -> np.ndarray:
    """Return random orders on both sides that never reach one another."""
    rng = np.random.default_rng(1)
    orders = np.zeros(count, ORDER)
    orders["symbol"] = rng.integers(0, SYMBOLS, count)
    orders["trader"] = rng.integers(0, TRADERS, count)
    orders["buys"] = rng.integers(0, 2, count)
    orders["order_qty"] = rng.integers(1, 200, count)
    away = rng.integers(1, 30, count) * TICK
    orders["price"] = np.where(orders["buys"], PRICE - away, PRICE + away)
    orders["session"] = orders["order"] = orders["slot"] = 1
    orders["now_ns"] = np.arange(count) * 100
    return orders


def _batch() -> np.ndarray:
    risk, orders = _gate(), _orders(BATCH * BATCHES)
    reasons = np.zeros(BATCH, np.int64)
    times = np.zeros(BATCHES)
    risk.decide_batch(orders[:0], reasons)  # Compiled now, and not while it is measured.
    denied = 0
    for number in range(BATCHES):
        part = orders[number * BATCH : (number + 1) * BATCH]
        start = perf_counter_ns()
        risk.decide_batch(part, reasons)
        times[number] = (perf_counter_ns() - start) / BATCH
        denied += np.count_nonzero(reasons)
    if denied:
        raise RuntimeError(f"ORDERS_DENIED: count={denied}")
    return times


def _single_call() -> np.ndarray:
    risk = _gate()
    names = ("symbol", "trader", "buys", "order_qty", "price", "now_ns")
    orders = [tuple(order) for order in _orders(CALLS)[list(names)].tolist()]
    decide, passed = risk.decide, DenyReason.NONE

    def call(number: int) -> None:
        symbol, trader, buys, qty, price, now_ns = orders[number]
        buys = buys == 1
        start = perf_counter_ns()
        reason = decide(symbol, trader, buys, qty, price, now_ns)
        times[number] = perf_counter_ns() - start
        if reason is not passed:
            raise RuntimeError(f"ORDER_DENIED: reason={reason.name}")

    times = np.zeros(CALLS)
    return _run(call, times)


def _run(call: Callable[[int], None], times: np.ndarray) -> np.ndarray:
    """Call with every number, without the garbage collector; take off what the clock costs."""
    looks = np.zeros(10_000)
    for number in range(len(looks)):
        start = perf_counter_ns()
        looks[number] = perf_counter_ns() - start
    gc.collect()
    gc.disable()
    try:
        for number in range(len(times)):
            call(number)
    finally:
        gc.enable()
    return np.maximum(times - np.median(looks), 0)


def _openpit() -> tuple[str, np.ndarray] | None:
    """Return the peer's version and its times, or None where it is not installed."""
    try:
        from importlib.metadata import version

        import openpit
    except ImportError:
        return None
    policies = openpit.pretrade.policies
    size = policies.OrderSizeLimit(max_quantity=1_000, max_notional=10**8)
    rate = policies.RateLimit(10**9, datetime.timedelta(seconds=1))
    engine: Any = (
        openpit.Engine.builder()
        .no_sync()
        .builtin(policies.build_order_validation())
        .builtin(
            policies.build_order_size_limit().broker_barrier(policies.OrderSizeBrokerBarrier(size))
        )
        .builtin(policies.build_rate_limit().broker_barrier(policies.RateLimitBrokerBarrier(rate)))
        .build()
    )
    order = openpit.Order(
        operation=openpit.OrderOperation(
            instrument=openpit.Instrument("AAPL", "USD"),
            account_id=openpit.param.AccountId.from_int(1),
            side=openpit.param.Side.BUY,
            trade_amount=openpit.param.TradeAmount.quantity(100),
            price=openpit.param.Price(100),
        )
    )
    times = np.zeros(CALLS)

    def call(number: int) -> None:
        start = perf_counter_ns()
        result = engine.execute_pre_trade(order=order)
        if result.ok:
            result.reservation.commit()
        times[number] = perf_counter_ns() - start
        if not result.ok:
            raise RuntimeError(f"ORDER_DENIED: reason={result}")

    return version("openpit"), _run(call, times)
