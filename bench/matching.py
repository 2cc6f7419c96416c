"""Orders a second through the matching engine, in memory, under a flow that is hard on it.

The book starts with 300,000 orders on 1,000 levels a side. Then 60 % of all requests cancel an
order that is drawn from the whole book, 30 % enter one somewhere on 1,000 levels, 7 % replace one,
and 3 % cross and trade through several orders. So nearly every request touches an order, and often
a level, that no recent one has touched.

Peers, where they are installed: ``limit-order-book``, an engine in C++ called through ctypes, and
``order-book``, sorted levels in C with a map of orders in Python, which does not match. Both get
the same requests one call at a time, as they have no other way.
"""

import gc
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from random import Random
from time import perf_counter_ns, thread_time_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import Result, publish
from protocol.orders import Side, TimeInForce
from sim.venue.matching import MatchingEngine, NewOrder
from sim.venue.records import REQUEST, Kind, Op

SEED = 1
RESTING, REQUESTS, LEVELS = 300_000, 500_000, 1_000
PEER_REQUESTS = 100_000
BATCH = 500
MID, TICK = 1_000_000, 100

METHOD = (
    f"{RESTING} resting orders on {LEVELS} levels a side, then {REQUESTS} requests in batches of "
    f"{BATCH}: 60 % cancels, 30 % orders, 7 % replaces, 3 % crossing; {{clock}}"
)
PEER_METHOD = f"the first {PEER_REQUESTS} requests of the same flow, one call each; time of the CPU"


def measure() -> list[str]:
    """Measure the engine and its peers; return broken budgets."""
    resting, flow = _flow()
    cpu, wall, events = _engine(resting, flow)
    peers = [_limit_order_book(resting, flow), _order_book(resting, flow)]
    rate = 1e9 / float(cpu.mean())
    results = []
    for name, peer_rate in (peer for peer in peers if peer is not None):
        method = PEER_METHOD + ("" if "limit" in name else "; keeps levels, does not match")
        results.append(Result(name, round(peer_rate), "requests/s", "higher", method))
        ratio = round(rate / peer_rate, 1)
        method = METHOD.format(clock="time of the CPU")
        results.append(
            Result(
                f"engine, beside {name}", round(rate), "requests/s", "higher", method, name, ratio
            )
        )
    for name, found in (("order-book", peers[1]), ("limit-order-book", peers[0])):
        if found is None:
            print(f"{name} is not installed, so nothing is compared with it: pip install {name}")
    method = METHOD.format(clock="time of the CPU")
    ours = [Result("engine", round(rate), "requests/s", "higher", method)]
    for percentile in (50, 99):
        for clock, times in (("time of the CPU", cpu), ("wall clock", wall)):
            value = round(float(np.percentile(times, percentile)), 1)
            name = f"request in a batch, p{percentile}, {clock}"
            ours.append(Result(name, value, "ns", "lower", METHOD.format(clock=clock)))
    executed = np.count_nonzero(events == Kind.EXECUTED) / REQUESTS
    ours.append(Result("executions a request", round(executed, 3), "", "higher", method))
    ours.append(
        Result(
            "order entered from Python, p50", _single(), "ns", "lower", "20000 calls, wall clock"
        )
    )
    return publish("matching", ours + results)


def _flow() -> tuple[NDArray[np.void], NDArray[np.void]]:
    """Return the orders that rest at first, and the requests that are measured."""
    rng = Random(SEED)
    live = list(range(1, RESTING + 1))
    resting = [_order(rng, order_id, 1) for order_id in live]
    rows = []
    for number in range(RESTING + 1, RESTING + REQUESTS + 1):
        kind = rng.random()
        if kind < 0.67:
            index = rng.randrange(len(live))
            order_id = live[index]
            live[index] = live[-1]
            live.pop()
            if kind < 0.60:
                rows.append((Op.CANCEL, order_id, 0, 1, 0, 0, 0, 0))
                continue
            side, qty, price = _order(rng, number, 1)[4:7]
            rows.append((Op.REPLACE, number, order_id, 1, side, qty, price, TimeInForce.DAY))
        elif kind < 0.97:
            rows.append(_order(rng, number, 1))
        else:
            rows.append(_order(rng, number, -rng.randrange(1, 4)))
        live.append(number)
    return _requests(resting), _requests(rows)


def _order(rng: Random, order_id: int, nearest: int) -> tuple[int, ...]:
    """Return an order, so many ticks from the mid or more; a negative number crosses."""
    side = rng.choice((Side.BUY, Side.SELL))
    if nearest > 0:
        distance, qty = rng.randrange(nearest, LEVELS + 1), 100 * rng.randrange(1, 10)
    else:
        distance, qty = nearest, 100 * rng.randrange(5, 20)
    price = MID - side.sign * distance * TICK
    return Op.ENTER, order_id, 0, 1, side, qty, price, TimeInForce.DAY


def _requests(rows: list[tuple[int, ...]]) -> NDArray[np.void]:
    found = np.zeros(len(rows), REQUEST)
    columns = np.array(rows, np.int64)
    for index, name in enumerate(REQUEST.names[: columns.shape[1]]):
        found[name] = columns[:, index]
    return found


def _engine(
    resting: NDArray[np.void], flow: NDArray[np.void]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
    engine = MatchingEngine(orders=2 * RESTING, events=1 << 16)
    for at in range(0, RESTING, BATCH):
        engine.submit(resting[at : at + BATCH])
    count = len(flow) // BATCH
    cpu, wall, kinds = np.zeros(count), np.zeros(count), []
    gc.collect()
    for number in range(count):
        part = flow[number * BATCH : (number + 1) * BATCH]
        start, started = thread_time_ns(), perf_counter_ns()
        events = engine.submit(part)
        wall[number] = (perf_counter_ns() - started) / BATCH
        cpu[number] = (thread_time_ns() - start) / BATCH
        kinds.append(events["kind"].copy())
    return cpu, wall, np.concatenate(kinds)


def _single() -> float:
    engine, times = MatchingEngine(), np.zeros(20_000)
    orders = [
        NewOrder(number + 1, 1, Side.BUY, 100, MID - number % LEVELS * TICK)
        for number in range(len(times))
    ]
    for number, order in enumerate(orders):
        start = perf_counter_ns()
        engine.enter(order)
        times[number] = perf_counter_ns() - start
    return round(float(np.median(times)), 1)


def _peer(
    name: str, serve: Callable[[tuple[int, ...]], None], resting: Any, flow: Any
) -> tuple[str, float]:
    """Return name and requests a second of a peer that is called for each request."""
    fields = ["op", "order_id", "orig_id", "side", "qty", "price"]
    for request in resting[fields].tolist():
        serve(request)
    requests = flow[:PEER_REQUESTS][fields].tolist()
    gc.collect()
    start = thread_time_ns()
    for request in requests:
        serve(request)
    return f"{name} {version(name)}", 1e9 * PEER_REQUESTS / (thread_time_ns() - start)


def _limit_order_book(resting: Any, flow: Any) -> tuple[str, float] | None:
    try:
        from limit_order_book import LimitOrderBook
    except (ImportError, OSError):
        return None
    book = LimitOrderBook()

    def serve(request: tuple[int, ...]) -> None:
        op, order_id, orig_id, side, qty, price = request
        if op != Op.ENTER:
            gone = orig_id or order_id
            if book.has(gone):  # It ends the process at an id that was executed.
                book.cancel(gone)
        if op != Op.CANCEL:
            book.limit(side == Side.BUY, order_id, qty, price)

    return _peer("limit-order-book", serve, resting, flow)


def _order_book(resting: Any, flow: Any) -> tuple[str, float] | None:
    try:
        from order_book import OrderBook

        version("order-book")
    except (ImportError, PackageNotFoundError):
        return None
    book = OrderBook()
    orders: dict[int, tuple[Any, int, int]] = {}

    def serve(request: tuple[int, ...]) -> None:
        op, order_id, orig_id, side, qty, price = request
        if op != Op.ENTER:
            levels, at, less = orders.pop(orig_id or order_id)
            left = levels[at] - less
            if left:
                levels[at] = left
            else:
                del levels[at]
        if op != Op.CANCEL:
            levels = book.bids if side == Side.BUY else book.asks
            there = levels[price] if price in levels else 0  # noqa: SIM401  It has no get.
            levels[price] = qty + there
            orders[order_id] = (levels, price, qty)

    return _peer("order-book", serve, resting, flow)
