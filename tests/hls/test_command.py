"""`tickwire hls`, and that the commands of its page do what the page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tickwire.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "hls.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.M | re.S)
"""Of the page: language and text."""
STEPS = [
    (
        language,
        script,
        BLOCKS[at + 1][1] if BLOCKS[at + 1 :][:1] and BLOCKS[at + 1][0] == "text" else "",
    )
    for at, (language, script) in enumerate(BLOCKS)
    if language != "text" and at > 0
]
"""What the page runs with its first block as ``rule.py``, and what that prints."""
MEASURED = re.compile(r"[\d.]+(?= s$| MHz, \d+ LUT)|\d+(?= LUT| FF| DSP)|(?<= seed )\d+", re.M)
"""Figures that another machine, or another version of a tool, has others of."""
RULE = """\
from kernels.types import *

@kernel
def add(a: U8, b: U8) -> U9:
    return a + b

@kernel
def endless(a: U8) -> U8:
    while a:
        pass
"""


def shell(script, folder):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def test_page_has_a_rule_commands_and_python():
    languages = [language for language, _ in BLOCKS]
    assert languages[0] == "python"
    assert languages.count("sh") >= 3
    assert languages.count("python") >= 4


@pytest.mark.parametrize(("language", "script", "shown"), STEPS)
def test_page_prints_what_it_shows(language, script, shown, tmp_path):
    (tmp_path / "rule.py").write_text(BLOCKS[0][1])
    if language == "python":
        (tmp_path / "step.py").write_text(script)
        script = "python step.py"
    ran = shell(script, tmp_path)
    assert MEASURED.sub("0", ran.stdout) == MEASURED.sub("0", shown)
    assert ran.returncode == 0
    for mhz in re.findall(r"([\d.]+) MHz, \d+ LUT", ran.stdout):
        assert float(mhz) >= 156.25


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("add", "add: must be MODULE:KERNEL, such as kernels.risk:exceeds_notional"),
        ("none:add", "none:add: cannot import none: No module named 'none'"),
        ("rule:sub", "rule:sub: rule has no kernel sub; its kernels are add, endless"),
        ("os:path", "os:path: os has no kernel path; it has none under @kernel"),
        (
            "rule:endless",
            "rule.py:9:5: `while` is not in the kernel subset: use `for` over a constant range: "
            "while a:",
        ),
        ("rule:add --clock-mhz 0", "rule:add: clock_mhz must be more than 0, not 0.0"),
        ("rule:add --latency-max 0", "rule:add: latency_max must be 1 or more, not 0"),
        ("broken:x", "broken.py:1: is no Python: invalid syntax"),
        ("raising:x", "raising:x: cannot import raising: ZeroDivisionError: division by zero"),
        (
            "untyped:x",
            "untyped:x: cannot import untyped: TypeError: x: a has no type",
        ),
    ],
)
def test_what_cannot_be_built_is_one_line_and_exit_code_2(arguments, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    for name in ("rule", "broken", "raising", "untyped"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "rule.py").write_text(RULE)
    (tmp_path / "broken.py").write_text("def\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    (tmp_path / "untyped.py").write_text(
        "from kernels.types import kernel\n@kernel\ndef x(a):\n    return a\n"
    )
    ran = CliRunner().invoke(app, ["hls", *arguments.split()])
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.replace(f"{tmp_path}{os.sep}", "") == f"{line}\n"


def test_schedule_of_one_addition(tmp_path):
    (tmp_path / "rule.py").write_text(RULE)
    ran = shell("tickwire hls rule:add", tmp_path)
    lines = ran.stdout.splitlines()
    assert lines[0] == "add at 156.25 MHz: latency 1 cycle, initiation interval 1"
    assert lines[1].startswith("10 register bits, 0 multipliers, ")
    assert re.fullmatch(r"     5  \+        9  \d\.\d\d  a \+ b", lines[-1])
    assert ran.returncode == 0
