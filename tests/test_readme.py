"""Every command of the README is run, as it is written there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCKS = re.findall(r"^```sh\n(.*?)^```", (REPOSITORY / "README.md").read_text(), re.M | re.S)
COMMANDS = [block for block in BLOCKS if not block.startswith("make")]
TARGETS = [block.split()[1] for block in BLOCKS if block.startswith("make")]


def shell(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which every command was run, with the outcome of each."""
    made = tmp_path_factory.mktemp("readme")
    shutil.copytree(REPOSITORY / "docs", made / "docs")
    return made, {block: shell(block, made) for block in COMMANDS}


def test_readme_has_commands_for_all_three_users():
    assert len(COMMANDS) >= 4
    assert TARGETS == ["demo", "test"]


def test_commands_of_the_readme_succeed(folder):
    _, outcomes = folder
    failed = {block: ran.stderr for block, ran in outcomes.items() if ran.returncode}
    assert failed == {}
    assert not any("Traceback" in ran.stderr for ran in outcomes.values())


def test_commands_of_the_readme_leave_what_it_promises(folder):
    made, _ = folder
    golden = (made / "golden.csv").read_text()
    assert golden == (made / "functional.csv").read_text()
    assert golden.count("\n") > 1000
    assert "<svg" in (made / "report.html").read_text()
    assert "struct tickwire_itch50_add_order" in (made / "tickwire.h").read_text()


@pytest.mark.parametrize("target", TARGETS)
def test_make_target_of_the_readme_exists_and_sets_up_first(target):
    ran = shell(f"make --dry-run --always-make {target}", REPOSITORY)
    assert ran.returncode == 0, ran.stderr
    lines = [line for line in ran.stdout.splitlines() if "pip install" in line]
    assert len(lines) == 1
    assert ran.stdout.index("pip install") < ran.stdout.index(
        {"demo": "tickwire run docs/demo.toml", "test": "-m pytest"}[target]
    )


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        ("g++", "tickwire needs a C++ compiler (g++), which is not installed: "),
        ("perl", "tickwire needs perl, which is not installed: "),
    ],
)
def test_missing_prerequisite_is_one_line_that_says_how_to_get_it(missing, line, tmp_path):
    for tool in {"g++", "perl", "bash"} - {missing}:
        (tmp_path / tool).symlink_to(shutil.which(tool) or pytest.skip(f"{tool} is missing here"))
    ran = subprocess.run(
        [tmp_path / "bash", REPOSITORY / "prerequisites.sh", sys.executable],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert ran.stderr.startswith(line)
    assert "apt install " + missing in ran.stderr


def test_missing_python_is_one_line_that_says_how_to_get_it():
    ran = subprocess.run(
        ["bash", REPOSITORY / "prerequisites.sh", ""], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("tickwire needs Python 3.11 or later, which is not on PATH: ")
    assert ran.stderr.count("\n") == 1
