"""Habits that are checked, not remembered."""

import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
LINES_MAX = 650


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [REPOSITORY / name for name in listing.stdout.splitlines()]


def test_no_promise_and_no_stub_is_left_in_the_code():
    pattern = re.compile(r"\b(TO" r"DO|FIX" r"ME|NotImplemented" r"Error)\b")
    found = [path.name for path in tracked("*.py") if pattern.search(path.read_text())]
    assert found == []


def test_no_file_is_longer_than_one_can_read():
    code = tracked("protocol", "kernels", "sw", "sim", "tickwire")
    counts = {path.name: path.read_text().count("\n") for path in code if path.suffix == ".py"}
    assert len(counts) > 40
    assert {name: count for name, count in counts.items() if count > LINES_MAX} == {}


def test_every_test_file_can_fail():
    files = [path for path in tracked("tests/*.py") if path.name.startswith("test_")]
    assert len(files) > 20
    bare = [p.name for p in files if not re.search(r"assert |pytest\.raises", p.read_text())]
    assert bare == []


def test_every_folder_of_code_says_what_it_is():
    for path in tracked("*/__init__.py"):
        assert path.read_text().startswith('"""'), path
