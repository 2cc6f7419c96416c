"""Flow models: what the parameters promise is what the flow does, and every day is legal."""

import math

import msgspec
import numpy as np
import pytest

from bench.calibrate_flow import fit_hawkes, fit_placement, ks_distance, read_itch
from sim.golden.book import Book
from sim.golden.parse import parse
from sim.venue.flow import generate
from sim.venue.model import (
    MODELS,
    ArrivalsConfig,
    BurstsConfig,
    CrashConfig,
    FlowModel,
    OpeningConfig,
    PlacementConfig,
    PricesConfig,
)

OPEN_NS = 34_200_000_000_000
SEED = 17
POISSON = ArrivalsConfig(kind="poisson", rate_hz=50.0)


def arrivals(model: FlowModel, messages: int) -> np.ndarray:
    """Return when something happened, in s after the open; the first books are left out."""
    print(f"seed={SEED}")
    times = {int.from_bytes(m[5:11], "big") for m in generate(SEED, ["A"], messages, model=model)}
    return np.array(sorted(times - {min(times)}))[3:-3] / 1e9 - OPEN_NS / 1e9


def mids(model: FlowModel, messages: int, symbols: int, every_s: float) -> np.ndarray:
    """Return the middle of each spread at every so many seconds, by the golden book."""
    print(f"seed={SEED}")
    book, rows, next_ns = Book(), [], OPEN_NS + 1
    for data in generate(SEED, list("ABCD")[:symbols], messages, model=model):
        message = parse(data)
        while next_ns <= message.timestamp < 57_600_000_000_000:
            bbos = [book.bbo(locate) for locate in range(1, symbols + 1)]
            rows.append([(bbo.bid_price + bbo.ask_price) / 2 for bbo in bbos])
            next_ns += int(every_s * 1e9)
        book.apply(message)
    return np.array(rows)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_legal_and_the_same_for_the_same_seed(name: str) -> None:
    print(f"seed={SEED}")
    day = list(generate(SEED, ["A", "B"], 4_000, model=MODELS[name]))
    book = Book()
    for data in day:
        book.apply(parse(data))
        for locate in 1, 2:
            bbo = book.bbo(locate)
            assert not bbo.bid_price or not bbo.ask_price or bbo.bid_price < bbo.ask_price
    assert book.stale_counts.total() == 0
    assert list(generate(SEED, ["A", "B"], 4_000, model=MODELS[name])) == day
    if name != "hawkes":
        assert list(generate(SEED, ["A", "B"], 4_000)) != day


def test_poisson_arrivals_have_exponential_gaps_of_the_rate_asked_for() -> None:
    gaps = np.diff(arrivals(FlowModel(arrivals=POISSON), 6_000))
    # Standard error of the mean is 1 / sqrt(n), 1.3 %; the bound of the distance is that of 1 in
    # 1,000 (1.95 / sqrt(n)).
    assert len(gaps) > 5_000
    assert gaps.mean() * 50 == pytest.approx(1.0, abs=0.05)
    exact = -np.log1p(-(np.arange(100_000) + 0.5) / 100_000) / 50
    assert ks_distance(gaps, exact) < 1.95 / math.sqrt(len(gaps)) + 1e-3


def test_hawkes_arrivals_have_the_rate_ratio_and_decay_asked_for() -> None:
    model = FlowModel(arrivals=ArrivalsConfig(rate_hz=50.0, excitation=0.6, decay_hz=40.0))
    rate, ratio, decay = fit_hawkes(arrivals(model, 8_000))
    # The count's standard deviation is 1 / (1 - 0.6) times a Poisson process', 2.8 % of it.
    assert rate == pytest.approx(50.0, rel=0.09)
    assert ratio == pytest.approx(0.6, abs=0.06)
    assert 40 / 1.6 < decay < 40 * 1.6


def test_opening_rush_raises_the_early_rate_and_decays() -> None:
    rush = FlowModel(arrivals=POISSON, opening=OpeningConfig(multiplier=8.0, decay_s=5.0))
    times = arrivals(rush, 6_000)
    early, late = (times < 5).sum() / 5, ((times >= 30) & (times < 60)).sum() / 30
    # The rate's mean over the first decay time is 1 + 7 * (1 - 1 / e) times 50.
    assert early == pytest.approx(50 * (1 + 7 * (1 - 1 / math.e)), rel=0.1)
    assert late == pytest.approx(50, rel=0.1)


def test_orders_are_placed_by_the_power_law_asked_for() -> None:
    print(f"seed={SEED}")
    # The fair value hardly binds: there is no edge to keep, and prices hardly move.
    placement = PlacementConfig(kind="power", exponent=1.2, offset=4.0, inside=0.1, edge=0.0)
    model = FlowModel(arrivals=POISSON, placement=placement, prices=PricesConfig(volatility=0.0))
    made = read_itch(generate(SEED, ["A"], 12_000, model=model))
    distance = made.distance[(made.kind == 1) & (made.distance > 0)]
    # Given that it is beyond the best price, where trades and the fair value have a say.
    for far in 5, 10, 20, 40:
        expected = ((1 + far / 4) / (1 + 1 / 4)) ** -1.2
        assert (distance >= far).mean() == pytest.approx(expected, abs=0.05)


def test_placement_is_recovered_from_distances() -> None:
    print(f"seed={SEED}")
    uniform = np.random.default_rng(SEED).random(20_000)
    exponent, offset = fit_placement((4.0 * (uniform ** (-1 / 1.2) - 1)).astype(int))
    assert exponent == pytest.approx(1.2, abs=0.15)
    assert offset == pytest.approx(4.0, rel=0.25)


@pytest.mark.parametrize("correlation", [0.0, 0.8])
def test_symbols_returns_have_the_correlation_asked_for(correlation: float) -> None:
    # Books follow the fair value within seconds where makers keep clear of it (power) and a second
    # moves it by a few ticks; where it moves faster the mids' correlation falls short of its.
    model = FlowModel(
        arrivals=ArrivalsConfig(kind="poisson", rate_hz=40.0),
        placement=PlacementConfig(kind="power", inside=0.5),
        prices=PricesConfig(100, 20_000, 20_001, 1e-4, correlation),
    )
    returns = np.diff(np.log(mids(model, 16_000, 2, 4.0)), axis=0)
    found = np.corrcoef(returns.T)[0, 1]
    # Standard error is (1 - correlation ** 2) / sqrt(n): 0.14 and 0.05.
    assert len(returns) > 45
    assert correlation - 0.3 < found < correlation + 0.3
    assert returns[:, 0].std() == pytest.approx(2e-4, rel=0.3)


def test_bursts_make_returns_heavy_tailed() -> None:
    def kurtosis(bursts: BurstsConfig | None) -> float:
        model = FlowModel(
            arrivals=POISSON,
            placement=PlacementConfig(kind="power", inside=0.5),
            prices=PricesConfig(100, 20_000, 20_001, 5e-5),
            bursts=bursts,
        )
        moves = np.diff(np.log(mids(model, 9_000, 1, 2.0)[:, 0]))
        return float((moves**4).mean() / (moves**2).mean() ** 2)

    # A normal distribution has 3.
    assert kurtosis(None) < 5
    assert kurtosis(BurstsConfig(every_s=20.0, length_s=2.0, multiplier=8.0)) > 6


def test_flash_crash_falls_and_recovers() -> None:
    model = MODELS["flash_crash"]
    of = mids(model, 10_000, 1, 1.0)[:, 0]
    assert len(of) > 100
    before, bottom, after = of[20:30].mean(), of[30:60].min(), of[95:].mean()
    # Asked for: 3 % at 50 s, and back at 90 s.
    assert 0.02 < 1 - bottom / before < 0.04
    assert after == pytest.approx(before, rel=0.005)


def test_crash_takes_its_share_of_the_fair_value_at_the_bottom_and_none_outside() -> None:
    crash = CrashConfig(start_s=10.0, fall=0.1, fall_s=5.0, recovery_s=20.0)
    found = [crash.depth(now_s) for now_s in (0.0, 10.0, 12.5, 15.0, 25.0, 35.0, 99.0)]
    assert found == pytest.approx([0.0, 0.0, 0.05, 0.1, 0.05, 0.0, 0.0])


@pytest.mark.parametrize(
    ("table", "values", "reason"),
    [
        ("arrivals", {"excitation": 1.0}, "excitation must be below 1, not 1.0 - at `$.arrivals`"),
        (
            "actions",
            {"aggressive": 0.6, "replaced": 0.5},
            "shares of actions must add up to at most 1, not 1.129 - at `$.actions`",
        ),
        (
            "prices",
            {"start_min": 9, "start_max": 9},
            "start_max must be above start_min and at most 9999999, not 9 - at `$.prices`",
        ),
        (
            "crash",
            {"start_s": 1, "fall": 0.1, "fall_s": 1, "recovery_s": 1, "aggression": 30},
            "aggressive times crash.aggression must be <= 0.9, not 0.99",
        ),
        ("arrivals", {"rate": 1}, "Object contains unknown field `rate` - at `$.arrivals`"),
        ("placement", {"kind": "far"}, "Invalid enum value 'far' - at `$.placement.kind`"),
    ],
)
def test_wrong_parameters_are_refused(table: str, values: dict[str, object], reason: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        msgspec.convert({table: values}, FlowModel)
    assert str(error.value) == reason
