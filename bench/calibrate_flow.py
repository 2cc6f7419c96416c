"""Fit a flow model to a LOBSTER sample, and print how far what it makes is from the sample.

`python -m bench.calibrate_flow LOB_GOOG_10.zip --model goog.toml` writes the model. Rates, shares,
sizes and distances are estimated from the sample itself; ``edge`` and ``orders``, on which spread
and depth depend through everything else, are fitted by simulating and correcting. A sample shows a
replace as a delete and an add, so the fitted model has none, and the model's count as both.
"""

import argparse
import io
import math
import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from bench.results import ROOT
from sim.golden.book import Book, Side
from sim.golden.parse import parse
from sim.venue.flow import generate
from sim.venue.model import (
    ActionsConfig,
    ArrivalsConfig,
    FlowModel,
    PlacementConfig,
    PricesConfig,
    SizesConfig,
)

LEVELS = 10
ADD, REDUCE, DELETE, EXECUTE, HIDDEN = 1, 2, 3, 4, 5
"""Types of events, as LOBSTER numbers them."""

_TICK = 100
_WARM_UP = 1_000


@dataclass(frozen=True, slots=True)
class Sample:
    """Events of one symbol. Arrays of one entry an event, but for ``depth``.

    Times are in seconds; ``spread``, ``mid`` and ``distance`` in ticks. ``spread`` and ``mid`` are
    those after an event; ``distance`` is how far an add stands from its side's best price before
    it, negative where it betters it, and 0 for other events. ``depth`` is the mean number of shares
    of each of ten price levels with orders, both sides together divided by two.
    """

    time: NDArray[np.float64]
    kind: NDArray[np.int64]
    size: NDArray[np.int64]
    spread: NDArray[np.float64]
    mid: NDArray[np.float64]
    distance: NDArray[np.int64]
    depth: NDArray[np.float64]

    @property
    def arrivals(self) -> NDArray[np.float64]:
        """When anything happened: what happens at one time is one arrival."""
        return np.unique(self.time)


def read_lobster(path: Path) -> Sample:
    """Read a sample: the zip of a message and an order book file of ten levels."""
    with zipfile.ZipFile(path) as files:
        names = files.namelist()
        message, book = (
            np.loadtxt(
                io.BytesIO(files.read(next(n for n in names if f"_{part}_" in n))), delimiter=","
            )
            for part in ("message", "orderbook")
        )
    if book.shape[1] < 4 * LEVELS:
        raise ValueError(f"{path.name} must have {LEVELS} levels, not {book.shape[1] // 4}")
    ask, bid, before = book[:, 0], book[:, 2], book[:-1]
    kind = message[:, 1].astype(int)
    buys = message[1:, 5] > 0
    distance = np.zeros(len(kind), int)
    away = np.where(buys, before[:, 2] - message[1:, 4], message[1:, 4] - before[:, 0])
    distance[1:] = np.where(kind[1:] == ADD, away // _TICK, 0)
    return Sample(
        message[:, 0],
        kind,
        message[:, 3].astype(int),
        (ask - bid) / _TICK,
        (ask + bid) / 2 / _TICK,
        distance,
        book[:, 1 : 4 * LEVELS : 2].reshape(len(book), LEVELS, 2).mean(axis=(0, 2)),
    )


def read_itch(messages: Iterable[bytes], tick: int = _TICK) -> Sample:
    """Rebuild the book of locate 1, and leave out the first thousand events, which build it.

    Raises
    ------
    ValueError
        If a message is not legal for the golden book.
    """
    book, rows, depths = Book(), [], []
    for data in messages:
        message, kind = parse(data), chr(data[0])
        if kind not in "AFECXDUP":
            book.apply(message)
            continue
        before, events = book.bbo(1), []
        if kind in "AF":
            events = [(ADD, message.shares, message.price, message.buy_sell_indicator == "B")]
        elif kind in "EC":
            events = [(EXECUTE, message.executed_shares, 0, False)]
        elif kind == "P":
            events = [(HIDDEN, message.shares, 0, False)]
        else:
            _, side, price, shares = book.order(message[3])  # The reference.
            if kind == "X":
                events = [(REDUCE, message.canceled_shares, 0, False)]
            else:
                events = [(DELETE, shares, 0, False)]
            if kind == "U":
                events.append((ADD, message.shares, message.price, side is Side.BUY))
        book.apply(message)
        if book.stale:
            raise ValueError(f"the golden book flags {message}")
        bbo = book.bbo(1)
        spread, mid = bbo.ask_price - bbo.bid_price, (bbo.ask_price + bbo.bid_price) / 2
        for of, size, price, buys in events:
            away = (before.bid_price - price if buys else price - before.ask_price) // tick
            distance = away if of == ADD else 0
            rows.append((message.timestamp / 1e9, of, size, spread / tick, mid / tick, distance))
        if len(rows) > _WARM_UP and len(rows) % 10 == 0:
            sides = [[q for _, q, _ in book.levels(1, side)[:LEVELS]] for side in Side]
            depths.append([side + [0] * (LEVELS - len(side)) for side in sides])
    time, kinds, size, spreads, mids, distances = map(np.array, zip(*rows[_WARM_UP:], strict=True))
    depth = np.array(depths).mean(axis=(0, 1))
    return Sample(time, kinds, size, spreads, mids, distances, depth)


def fit_hawkes(times: NDArray[np.float64]) -> tuple[float, float, float]:
    """Return mean rate, branching ratio and decay, each a second, of greatest likelihood.

    The base rate is bound to the mean, ``mu = (1 - n) * count / length``, so that the compensator
    is the number of arrivals and only the sum of logarithms is left to maximise [Ogata 1978]; over
    a grid of 0.02 of the ratio and a factor 1.5 of the decay. ``times`` are ascending seconds.
    """
    gaps = np.diff(times)
    rate = len(gaps) / float(times[-1] - times[0])
    ratios = np.arange(0.0, 0.99, 0.02)
    best = (-math.inf, 0.0, 1.0)
    for decay in 0.5 * 1.5 ** np.arange(28):
        fades, excited = np.exp(-decay * gaps).tolist(), [0.0]
        for fade in fades:
            excited.append(fade * (1 + excited[-1]))
        past = np.array(excited[1:])
        for ratio in ratios:
            likelihood = float(np.log((1 - ratio) * rate + ratio * decay * past).sum())
            best = max(best, (likelihood, float(ratio), float(decay)))
    return rate, best[1], best[2]


def fit_placement(distance: NDArray[np.int64]) -> tuple[float, float]:
    """Return exponent and offset of greatest likelihood for distances of whole ticks, 0 or more."""
    values, counts = np.unique(distance, return_counts=True)
    best = (-math.inf, 1.0, 1.0)
    for exponent in np.arange(0.2, 3.0, 0.05):
        for offset in 0.25 * 1.3 ** np.arange(26):
            at, beyond = ((1 + d / offset) ** -exponent for d in (values, values + 1))
            likelihood = float((counts * np.log(at - beyond)).sum())
            best = max(best, (likelihood, float(exponent), float(offset)))
    return best[1], best[2]


def fit(sample: Sample, seed: int, rounds: int = 6, messages: int = 6_000) -> FlowModel:
    """Return the model of a sample; the seed is that of the simulations behind edge and orders."""
    rate, ratio, decay = fit_hawkes(sample.arrivals)
    adds = sample.kind == ADD
    distance, size = sample.distance[adds], sample.size[adds]
    had_room = np.concatenate(([0.0], sample.spread[:-1]))[adds] > 1
    exponent, offset = fit_placement(distance[distance >= 0])
    lots = size[size >= 100] // 100
    # Mid returns of ten seconds: long enough for the bounce between bid and ask to matter little.
    grid = np.arange(sample.time[0], sample.time[-1], 10.0)
    mid = sample.mid[np.searchsorted(sample.time, grid, side="right") - 1]
    edge, orders = float(sample.spread.mean() / 2), 150.0
    count = len(sample.arrivals)
    fills = np.unique(sample.time[sample.kind == EXECUTE])
    start = int(sample.mid.mean())

    def model() -> FlowModel:
        return FlowModel(
            arrivals=ArrivalsConfig("hawkes", round(rate, 3), round(ratio, 3), round(decay, 3)),
            actions=ActionsConfig(
                aggressive=round(len(fills) / count, 4),
                hidden=round(float((sample.kind == HIDDEN).sum()) / count, 4),
                reduced=round(float((sample.kind == REDUCE).sum()) / count, 4),
                replaced=0.0,
                orders=max(int(orders), 8),
                # A sample does not name the orders that stayed: neither kind is preferred.
                far=0.5,
            ),
            placement=PlacementConfig(
                "power",
                exponent=round(exponent, 3),
                offset=round(offset, 3),
                inside=round(float((distance < 0).sum() / max(had_room.sum(), 1)), 3),
                edge=round(edge, 3),
            ),
            sizes=SizesConfig(
                odd=round(float((size < 100).mean()), 3),
                tail=round(-math.log2(max(float((lots >= 2).mean()), 1e-3)), 3),
            ),
            prices=PricesConfig(
                start_min=start,
                start_max=start + 1,
                volatility=float(f"{np.std(np.diff(np.log(mid))) / math.sqrt(10):.3g}"),
                pull=round(0.25 / max(edge, 0.25), 3),
            ),
        )

    for _ in range(rounds):
        made = read_itch(generate(seed, ["FIT"], messages, model=model()))
        edge *= min(max(float(sample.spread.mean() / made.spread.mean()), 0.5), 2.0)
        orders *= min(max(float(sample.depth.sum() / made.depth.sum()), 0.5), 2.0)
        orders = min(max(orders, 8.0), 2_000.0)
    return model()


def ks_distance(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return the greatest distance between two empirical distributions (Kolmogorov-Smirnov)."""
    at = np.concatenate((one, other))
    shares = (np.searchsorted(np.sort(x), at, side="right") / len(x) for x in (one, other))
    return float(np.abs(np.subtract(*shares)).max())


def figures(sample: Sample) -> dict[str, float]:
    """Return what the comparison compares, by name."""
    kinds = {kind: float((sample.kind == kind).sum()) for kind in range(1, 6)}
    gaps = np.diff(sample.arrivals) * 1e3
    size = sample.size[sample.kind == ADD]
    events = sum(kinds.values())
    found = {"spread mean (ticks)": sample.spread.mean()}
    for percent in 10, 50, 90, 99:
        found[f"spread p{percent} (ticks)"] = np.percentile(sample.spread, percent)
    for level, qty in enumerate(sample.depth, 1):
        found[f"depth of level {level} (shares)"] = qty
    found |= {
        "orders to trades": kinds[ADD] / max(kinds[EXECUTE], 1.0),
        "cancels (share of events)": (kinds[DELETE] + kinds[REDUCE]) / events,
        "executions (share of events)": kinds[EXECUTE] / events,
        "hidden trades (share of events)": kinds[HIDDEN] / events,
        "interarrival mean (ms)": gaps.mean(),
        "interarrival median (ms)": np.median(gaps),
        "interarrival p90 (ms)": np.percentile(gaps, 90),
        "interarrival p99 (ms)": np.percentile(gaps, 99),
        "interarrival variation (sd / mean)": gaps.std() / gaps.mean(),
        "order size mean (shares)": size.mean(),
        "order size p99 (shares)": np.percentile(size, 99),
        "odd lots (share of adds)": (size < 100).mean(),
    }
    return {name: float(value) for name, value in found.items()}


def to_toml(model: FlowModel, title: str) -> str:
    """Return a model as TOML, which reads as the same model."""
    lines = [f"# {title}"]
    for table, values in msgspec.to_builtins(model).items():
        if values is not None:
            lines += ["", f"[{table}]"]
            lines += [f"{key} = {msgspec.json.encode(v).decode()}" for key, v in values.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Fit, write, generate and compare."""
    data = Path(os.environ.get("TICKWIRE_DATA", ROOT.parent / "shared" / "data"))
    parser = argparse.ArgumentParser(description=__doc__)
    sample_path = data / "lobster" / "LOB_GOOG_10.zip"
    parser.add_argument("sample", type=Path, nargs="?", default=sample_path)
    parser.add_argument("--model", type=Path, help="TOML file to write")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--messages", type=int, default=20_000)
    asked = parser.parse_args()
    if not asked.sample.is_file():
        parser.error(f"{asked.sample} does not exist (set TICKWIRE_DATA)")
    real = read_lobster(asked.sample)
    model = fit(real, asked.seed)
    text = to_toml(model, f"Fitted to {asked.sample.name} by bench.calibrate_flow.")
    if asked.model is not None:
        asked.model.write_text(text)
    made = read_itch(generate(asked.seed, ["MADE"], asked.messages, model=model))
    table = Table("figure", "LOBSTER", "model", "ratio", title=asked.sample.name)
    of_model = figures(made)
    for name, value in figures(real).items():
        ratio = of_model[name] / value if value else math.nan
        table.add_row(name, f"{value:.4g}", f"{of_model[name]:.4g}", f"{ratio:.2f}")
    distance = ks_distance(np.diff(real.arrivals), np.diff(made.arrivals))
    table.add_row("interarrival Kolmogorov-Smirnov", "", f"{distance:.3f}", "")
    console = Console(width=100)
    console.print(text, highlight=False, markup=False)
    console.print(table)


if __name__ == "__main__":
    main()
