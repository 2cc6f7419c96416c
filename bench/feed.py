"""The feed on one core: frames to market records on the functional card, records to the host.

The flow is a generated day of 100 symbols, in packets as full as Ethernet lets them be and in
packets of one message; where the real file of one symbol is there it is played as well. Rates are
of the time that the CPU gave the process, the best of several runs: others work on the machine.
"""

import gc
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from time import perf_counter_ns, sleep, thread_time_ns
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from bench.feed_peers import beside_peers
from bench.hot import system_calls
from bench.results import ROOT, Result, publish
from bench.wire import SLOTS, Frames, Rig
from protocol.itch50 import ADD_ORDER, ORDER_DELETE, STOCK_DIRECTORY
from sim.card.functional.market import put_bbo
from sim.card.functional.path import FeedPath
from sim.card.port import Port
from sim.venue import flow
from sim.venue.publisher import PAYLOAD_MAX
from sw.feed import Feed
from sw.feed.mirror import give_back, take
from sw.jit import jit
from sw.ring import RingReader, RingWriter, ring_size

SEED = 1
MESSAGES, SYMBOLS = 300_000, 100
RUNS = 7
RESTING, HARD_MESSAGES = 300_000, 200_000
ROUNDS, CALLS = 200_000, 20_000
REAL = "itch50/aapl_20200130_first4000.itch50"
REAL_RUNS = 25

_CHUNK = 256
"""Messages that stand before the book at once, as the wire stage would put them there."""

_HARD_ADD, _HARD_DELETE = ADD_ORDER.struct.pack, ORDER_DELETE.struct.pack


def measure() -> list[str]:
    """Measure feed path, card and host beside the peers; return broken budgets."""
    names = [f"S{number}" for number in range(SYMBOLS)]
    messages = list(flow.generate(SEED, names, MESSAGES))
    stocks = [(name, 0) for name in names]
    method = (
        f"{len(messages)} generated messages of {SYMBOLS} symbols (seed {SEED}), one core, "
        f"best of {RUNS} runs, time of the CPU"
    )
    rate = _best(lambda: _book_seconds(messages, names), len(messages))
    results = [_rate("feed and book alone", rate, method)]
    for title, payload_max in (("full packets", PAYLOAD_MAX), ("packets of one message", 0)):
        frames = Frames(messages, payload_max)
        rate = _best(lambda frames=frames: Rig(stocks).seconds(frames), len(messages))
        results.append(_rate(f"frame to handled record at the host, {title}", rate, method))
    results += [_one_by_one(messages, stocks, method), _hard()]
    results += beside_peers(messages)
    results += _real()
    results += _handled()
    results += system_calls()
    return publish("feed", results)


def _rate(name: str, rate: float, method: str) -> Result:
    return Result(name, round(rate), "messages/s", "higher", method)


def _best(run: Callable[[], float], count: int, runs: int = RUNS) -> float:
    """Return the best rate of several runs, after one that compiles."""
    run()
    gc.collect()
    return count / min(run() for _ in range(runs))


def _book_seconds(messages: Sequence[bytes], names: Sequence[str]) -> float:
    """Return the CPU's time from messages in order to market records, which nobody reads."""
    memory = memoryview(bytearray(ring_size(SLOTS)))
    path, reader = (
        FeedPath(SYMBOLS, 1 << 20, RingWriter(memory, 0, SLOTS)),
        RingReader(memory, 0, 2),
    )
    for index, name in enumerate(names):
        path.configure(index, name, 0)
    buffer = np.frombuffer(b"".join(messages), np.uint8)
    sizes = np.array([len(message) for message in messages])
    rows = np.zeros(len(messages), path.core.queue.dtype)
    rows["size"] = sizes
    rows["address"] = buffer.ctypes.data + np.cumsum(sizes) - sizes
    rows["sequence"] = np.arange(1, len(messages) + 1)
    total = 0
    for at in range(0, len(rows), _CHUNK):
        part = rows[at : at + _CHUNK]
        path.queue(part)
        start = thread_time_ns()
        path.drain()
        total += thread_time_ns() - start
        reader.release(path.counter("ring_head") - reader.tail)
    return total / 1e9


def _one_by_one(
    messages: Sequence[bytes], stocks: Sequence[tuple[str, int]], method: str
) -> Result:
    """Return the rate where Python hands every frame over and takes its records."""
    frames = Frames(messages, 0)
    data = [frames.buffer[at : at + size].tobytes() for at, size, _, _ in frames.rows.tolist()]

    def run() -> float:
        rig = Rig(stocks)
        start = thread_time_ns()
        for number, frame in enumerate(data):
            rig.card.receive(Port.FEED_A, frame, number)
            rig.feed.drain()
        return (thread_time_ns() - start) / 1e9

    rate = _best(run, len(messages), runs=2)
    return _rate("frame to handled record at the host, two calls from Python a frame", rate, method)


def _hard() -> Result:
    """Return the rate where nearly every message touches memory that no recent one has touched."""
    rng, live, messages = Random(SEED), list(range(1, RESTING + 1)), []
    messages += [_anywhere(rng, reference) for reference in live]
    for reference in range(RESTING + 1, RESTING + HARD_MESSAGES + 1):
        if rng.random() < 0.65:
            at = rng.randrange(len(live))
            live[at], live[-1] = live[-1], live[at]
            messages.append(_HARD_DELETE(b"D", 1, 0, bytes(6), live.pop()))
        else:
            messages.append(_anywhere(rng, reference))
            live.append(reference)
    frames = Frames(messages, PAYLOAD_MAX)
    first = len(frames.batches) * RESTING // len(messages) + 1
    count = len(messages) * (len(frames.batches) - first) // len(frames.batches)

    def run() -> float:
        rig = Rig([("HARD", 1)])
        rig.play(frames, 0, first)
        return rig.seconds(frames, first)

    method = (
        f"{RESTING} resting orders on 1000 levels a side, then 65 % deletes of any and "
        f"35 % adds; full packets, one core, best of {RUNS} runs, time of the CPU"
    )
    return _rate("frame to handled record at the host, hard flow", _best(run, count), method)


def _anywhere(rng: Random, reference: int) -> bytes:
    buys, away = rng.random() < 0.5, 100 * rng.randrange(1, 1_001)
    side, price = (b"B", 1_000_000 - away) if buys else (b"S", 1_000_000 + away)
    return _HARD_ADD(b"A", 1, 0, bytes(6), reference, side, 100, b"HARD    ", price)


def _real() -> list[Result]:
    """Return the rate under real messages, where the file is there."""
    folder = Path(os.environ.get("TICKWIRE_DATA", ROOT.parent / "shared" / "data"))
    file = folder / REAL
    if not file.exists():
        print(f"no real data: {file} does not exist (set TICKWIRE_DATA)")
        return []
    data, messages, at = file.read_bytes(), [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        messages.append(data[at + 2 : end])
        at = end
    frames = Frames(messages, PAYLOAD_MAX)
    locate = next(
        int.from_bytes(m[1:3], "big") for m in messages if m[0] in (STOCK_DIRECTORY.code, *b"AF")
    )
    rate = _best(lambda: Rig([("AAPL", locate)]).seconds(frames), len(messages), REAL_RUNS)
    method = (
        f"{len(messages)} real messages of AAPL, one core, best of {REAL_RUNS}, time of the CPU"
    )
    return [_rate("frame to handled record at the host, real messages", rate, method)]


# From the ring's memory to the mirror.


@intrinsic
def _cycles(context: Any) -> Any:
    """Return the processor's cycle counter."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(
            builder.module.declare_intrinsic("llvm.readcyclecounter", fnty=kind), []
        )

    return types.int64(), generate


@jit
def _now() -> int:
    return _cycles()


@jit
def _rounds(path: int, feed: int, times: Any) -> None:
    for number in range(len(times)):
        put_bbo(path, number & 63, number, number)
        start = _cycles()
        while take(feed, 1) == 0:
            pass
        give_back(feed)
        times[number] = _cycles() - start


def _handled() -> list[Result]:
    """Return the time from a poll that finds a record to its slot given back."""
    memory = memoryview(bytearray(ring_size(SLOTS)))
    path, feed = (
        FeedPath(64, 1, RingWriter(memory, 0, SLOTS)),
        Feed(RingReader(memory, 0, SLOTS), 64),
    )
    times = np.zeros(ROUNDS, np.int64)
    _rounds(path.address, feed.address, times)
    cycles, started = _now(), perf_counter_ns()
    sleep(0.2)
    cycles_a_ns = (_now() - cycles) / (perf_counter_ns() - started)
    _rounds(path.address, feed.address, times)
    if feed.record_count != 2 * ROUNDS:
        raise RuntimeError(f"RECORDS_MISSED: records={feed.record_count}, rounds={2 * ROUNDS}")
    called = np.zeros(CALLS, np.int64)
    for number in range(CALLS):
        put_bbo(path.address, number & 63, number, number)
        start = perf_counter_ns()
        feed.drain()
        called[number] = perf_counter_ns() - start
    method = "{} records written by the same core just before, {}, wall clock"
    counter = method.format(ROUNDS, "processor's cycle counter")
    clock = method.format(CALLS, "one call each, the look at the clock counted")
    return [
        *_percentiles("ring poll to handled record", times / cycles_a_ns, counter),
        *_percentiles("ring poll to handled record, called from Python", called, clock),
    ]


def _percentiles(name: str, times: NDArray[Any], method: str) -> list[Result]:
    return [
        Result(f"{name}, p{p}", round(float(np.percentile(times, p)), 1), "ns", "lower", method)
        for p in (50, 99)
    ]
