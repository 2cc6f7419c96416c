"""Calibration: what went into a generated sample comes out of it, and GOOG's figures are met."""

from pathlib import Path

import msgspec
import pytest

from bench.calibrate_flow import figures, fit, read_itch, read_lobster, to_toml
from sim.venue.flow import generate
from sim.venue.model import MODELS, ActionsConfig, ArrivalsConfig, FlowModel, SizesConfig

GOOG = Path(__file__).resolve().parents[2] / "docs" / "flow_goog.toml"
SEED = 5


def test_toml_reads_as_the_model_it_was_written_from() -> None:
    for model in MODELS.values():
        assert msgspec.toml.decode(to_toml(model, "a title"), type=FlowModel) == model


def test_parameters_of_a_generated_sample_are_recovered() -> None:
    print(f"seed={SEED}")
    known = msgspec.structs.replace(
        msgspec.toml.decode(GOOG.read_bytes(), type=FlowModel),
        arrivals=ArrivalsConfig(rate_hz=20.0, excitation=0.5, decay_hz=100.0),
        actions=ActionsConfig(aggressive=0.06, hidden=0.02, reduced=0.05, replaced=0.0, far=0.5),
        sizes=SizesConfig(odd=0.3, tail=2.0),
    )
    found = fit(read_itch(generate(SEED, ["A"], 9_000, model=known)), SEED, rounds=1)
    assert found.arrivals.rate_hz == pytest.approx(20.0, rel=0.08)
    assert found.arrivals.excitation == pytest.approx(0.5, abs=0.06)
    assert 100 / 1.6 < found.arrivals.decay_hz < 100 * 1.6
    assert found.actions.aggressive == pytest.approx(0.06, abs=0.012)
    assert found.actions.hidden == pytest.approx(0.02, abs=0.006)
    assert found.actions.reduced == pytest.approx(0.05, abs=0.012)
    assert found.sizes.odd == pytest.approx(0.3, abs=0.03)
    assert found.sizes.tail == pytest.approx(2.0, abs=0.3)


def test_fitted_model_has_the_samples_figures(data_dir: Path) -> None:
    real = figures(read_lobster(data_dir / "lobster" / "LOB_GOOG_10.zip"))
    model = msgspec.toml.decode(GOOG.read_bytes(), type=FlowModel)
    print(f"seed={SEED}")
    made = figures(read_itch(generate(SEED, ["GOOG"], 9_000, model=model)))
    # Of another seed than that of the fit, and of 1 event in 16.
    bounds = {
        "spread mean (ticks)": 0.25,
        "spread p50 (ticks)": 0.25,
        "orders to trades": 0.2,
        "cancels (share of events)": 0.06,
        "executions (share of events)": 0.2,
        "hidden trades (share of events)": 0.25,
        "interarrival mean (ms)": 0.15,
        "interarrival median (ms)": 0.25,
        "odd lots (share of adds)": 0.06,
    }
    for name, bound in bounds.items():
        assert made[name] == pytest.approx(real[name], rel=bound), name
    depths = [name for name in real if name.startswith("depth")]
    total = sum(made[name] for name in depths) / sum(real[name] for name in depths)
    assert total == pytest.approx(1.0, abs=0.3)
