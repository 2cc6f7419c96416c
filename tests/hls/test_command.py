"""`tickwire hls`, and that the commands of its page do what the page shows."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.place import Placed, PlaceError
from hw.hls.prove import Proof, Verdict
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


def command(text, folder, monkeypatch):
    """Run a command of tickwire in this process, with a rule in the folder."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name in ("rule", "broken", "raising", "untyped"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (folder / "rule.py").write_text(RULE)
    return CliRunner().invoke(app, text.split())


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
    (tmp_path / "broken.py").write_text("def\n")
    (tmp_path / "raising.py").write_text("1 / 0\n")
    (tmp_path / "untyped.py").write_text(
        "from kernels.types import kernel\n@kernel\ndef x(a):\n    return a\n"
    )
    ran = command(f"hls {arguments}", tmp_path, monkeypatch)
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


@pytest.mark.parametrize(
    ("speeds", "tried", "end"),
    [
        ((140.0, 150.0, 156.25, 170.0), 3, "156.2 MHz, 1 LUT, 2 FF, 3 DSP, seed 3"),
        (
            (140.0, 150.0, 130.0, 120.0),
            4,
            "150.0 MHz, 1 LUT, 2 FF, 3 DSP, seed 2, short of 156.25 MHz",
        ),
    ],
)
def test_placement_is_tried_with_other_seeds_until_one_reaches_the_clock(
    speeds, tried, end, tmp_path, monkeypatch
):
    seeds = []

    def place(component, name, target_mhz, seed):
        assert (name, target_mhz) == ("hls_add", 156.25)
        seeds.append(seed)
        return Placed(name, speeds[seed - 1], target_mhz, lut=1, ff=2, bram=0, dsp=3, path=())

    monkeypatch.setattr("bench.place.place", place)
    ran = command("hls rule:add --place", tmp_path, monkeypatch)
    assert ran.stdout.splitlines()[-1] == f"placed alone on LFE5UM5G-85F grade 8: {end}"
    assert (ran.exit_code, ran.stderr) == (0, "")
    assert seeds == [1, 2, 3, 4][:tried]


@pytest.mark.parametrize(
    ("patched", "options", "line"),
    [
        ("bench.place.place", "--place", "rule:add: nextpnr failed: folder=x"),
        ("tickwire.hls.prove", "--prove", "rule:add: UNPROVEN: z3 came to no end in 60 s"),
        (
            "tickwire.hls.REPOSITORY",
            "--place",
            "rule:add: --place needs the repository: its folder bench is missing",
        ),
    ],
)
def test_what_fails_later_is_one_line_and_exit_code_2(
    patched, options, line, tmp_path, monkeypatch
):
    def failing(*arguments):
        raise PlaceError("nextpnr failed: folder=x\nend of its log")

    def unproven(*arguments):
        return Proof(Verdict.UNPROVEN, 60.0, reason="z3 came to no end in 60 s")

    instead = {"--prove": unproven, "--place": failing}[options]
    monkeypatch.setattr(patched, tmp_path if patched.endswith("REPOSITORY") else instead)
    ran = command(f"hls rule:add {options}", tmp_path, monkeypatch)
    assert (ran.exit_code, ran.stderr) == (2, f"{line}\n")
