"""`tickwire generate --model`: names and files, and one line for what is wrong with either."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sim.venue.model import MODELS, FlowModel
from tickwire.cli import app

GOOG = Path(__file__).resolve().parents[2] / "docs" / "flow_goog.toml"


def generate(path: Path, model: str) -> tuple[int, str]:
    arguments = ["generate", str(path), "--symbol", "A", "--messages", "300", "--model", model]
    ran = CliRunner().invoke(app, arguments)
    return ran.exit_code, ran.stderr


def test_file_and_name_of_a_model_give_the_same_bytes_each_time(tmp_path: Path) -> None:
    days = []
    for number, model in enumerate(["poisson", "poisson", str(GOOG), str(GOOG)]):
        path = tmp_path / f"{number}.itch50"
        assert generate(path, model)[0] == 0
        days.append(path.read_bytes())
    assert days[0] == days[1]
    assert days[2] == days[3]
    assert days[0] != days[2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "No such file or directory"),
        ("[arrivals]\nexcitation = 1.5\n", "excitation must be below 1, not 1.5 - at `$.arrivals`"),
        ("[arrivals]\nrate_hz = 0\n", "Expected `float` > 0.0 - at `$.arrivals.rate_hz`"),
    ],
)
def test_wrong_model_is_one_line_and_exit_code_2(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    model = tmp_path / "model.toml"
    if text is not None:
        model.write_text(text)
    code, error = generate(tmp_path / "day.itch50", str(model))
    assert code == 2
    assert error.count("\n") == 1
    assert error.endswith(f"{reason}\n")
    assert not (tmp_path / "day.itch50").exists()


def test_unknown_name_lists_the_models(tmp_path: Path) -> None:
    code, error = generate(tmp_path / "day.itch50", "calmer")
    assert code == 2
    assert "hawkes, poisson, calm, bursts, opening, flash_crash" in error
    assert error.count("\n") == 1


def test_page_describes_every_model_and_every_table() -> None:
    page = (GOOG.parent / "flow.md").read_text()
    for name in (*MODELS, *FlowModel.__struct_fields__):
        assert f"| `{name}` |" in page
