"""What a benchmark publishes: a table, a file, and whether a budget was kept."""

import json

import pytest

import bench.__main__ as command
from bench import results
from bench.results import Result


@pytest.fixture
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BUILD", tmp_path / "build")
    monkeypatch.setattr(results, "BUDGETS", tmp_path / "budget")
    (tmp_path / "budget").mkdir()
    return tmp_path


def clock(value):
    return Result("stage: clock", value, "MHz", "higher", "by hand")


def latency(value):
    return Result("tick_to_event", value, "cycles", "lower", "by hand")


def budget(folders, **allowed):
    text = json.dumps({name.replace("_clock", ": clock"): v for name, v in allowed.items()})
    (folders / "budget" / "sample.json").write_text(text)


def test_results_are_written_with_the_machine(folders, capsys):
    assert results.publish("sample", [clock(160.5), latency(10)]) == []
    content = json.loads((folders / "build" / "sample.json").read_text())
    assert content["results"][0] == {
        "name": "stage: clock",
        "value": 160.5,
        "unit": "MHz",
        "better": "higher",
        "method": "by hand",
        "peer": None,
        "ratio": None,
    }
    assert content["machine"].keys() == {"cores", "load", "steal_share"}
    assert content["machine"]["cores"] >= 1
    assert "160.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (latency(10), []),
        (latency(9), []),
        (latency(11), ["tick_to_event: 11 cycles, allowed 10"]),
    ],
)
def test_lower_figure_keeps_its_budget(folders, found, broken):
    budget(folders, tick_to_event=10)
    assert results.publish("sample", [found]) == broken


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (clock(156.25), []),
        (clock(200), []),
        (clock(156.24), ["stage: clock: 156.24 MHz, allowed 156.25"]),
    ],
)
def test_higher_figure_keeps_its_budget(folders, found, broken):
    budget(folders, stage_clock=156.25)
    assert results.publish("sample", [found]) == broken


def test_budget_of_what_was_not_measured_is_broken(folders):
    budget(folders, tick_to_event=10, stage_clock=156.25)
    assert results.publish("sample", [latency(10)]) == ["stage: clock: not measured"]


def test_unknown_benchmark_is_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "nothing"])
    assert command.main() == 2
    assert capsys.readouterr().err.startswith("no such benchmark: nothing; there are cycles, area")


def test_broken_budget_ends_with_1(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench", "cycles"])
    monkeypatch.setitem(command.PARTS, "cycles", lambda: ["tick_to_event: 11 cycles, allowed 10"])
    assert command.main() == 1
    assert capsys.readouterr().err == "BUDGET BROKEN: tick_to_event: 11 cycles, allowed 10\n"
