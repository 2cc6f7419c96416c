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
PAGE = (REPOSITORY / "docs" / "hls.md").read_text()
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


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def shell(script, folder):
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
def page(tmp_path_factory):
    """The outcome of each command of the page, run in one folder with the page's rule."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "rule.py").write_text(blocks("python")[0])
    return folder, [shell(block, folder) for block in blocks("sh")]


def test_commands_of_the_page_succeed(page):
    _, outcomes = page
    assert len(outcomes) == 2
    assert [
        (ran.returncode, ran.stderr.replace("Verilog: too_wide.v\n", "")) for ran in outcomes
    ] == [
        (0, ""),
        (0, ""),
    ]


def test_schedule_is_printed_as_on_the_page(page):
    _, outcomes = page

    def timeless(text):
        return re.sub(r", [\d.]+ s$", "", text.strip())

    (shown,) = blocks("text")
    assert timeless(outcomes[0].stdout) == timeless(shown)
    assert outcomes[0].stdout.splitlines()[-1].startswith("pipeline against kernel: proven for all")


def test_other_commands_of_the_page_leave_what_it_says(page):
    folder, outcomes = page
    assert "module too_wide(" in (folder / "too_wide.v").read_text()
    assert outcomes[1].stdout.startswith("too_wide at 125 MHz: latency ")
    refused = (folder / "refused.txt").read_text()
    assert refused.startswith("rule.py:")
    assert "and latency_max is 1; the longest path is line " in refused
    assert outcomes[1].stdout.endswith(refused)
    assert refused.count("\n") == 1


def test_python_of_the_page_runs(page):
    folder, _ = page
    parts = blocks("python")
    script = "\n".join(["from rule import *", parts[1], "print(pipeline.latency)"])
    ran = shell(f"python - <<'END'\n{script}\nEND", folder)
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) >= 1
    ran = shell("python -c 'import rule; rule.too_wide(rule.Quote(0, -1), 5)'", folder)
    error = ran.stderr.splitlines()[-1]
    assert error in " ".join(PAGE.split())


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
    assert ran.stderr == ""
