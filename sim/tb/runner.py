"""Builds an Amaranth component with Verilator and runs a cocotb bench on it.

A build is kept under ``build/rtl`` by a hash of the Verilog and the tool, so that tests share it
and an unchanged design is not built again.
"""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

from amaranth.hdl import Elaboratable, Value
from cocotb_tools.runner import get_runner

from sim.verilator import ARGUMENTS, TOOL, environment, to_verilog

BUILD = Path(__file__).resolve().parents[2] / "build" / "rtl"
# The runner would keep every signal within the design, for benches that none of ours is.
_ARGUMENTS = (*ARGUMENTS, "--no-public-flat-rw")
_KEY = "\n".join((str(TOOL), *_ARGUMENTS))
_RUNTIME = BUILD / f"runtime-{hashlib.sha256(_KEY.encode()).hexdigest()[:16]}"


class BenchError(Exception):
    """A bench failed, or did not run a single test."""


def run(
    component: Elaboratable,
    ports: Sequence[Value],
    name: str,
    bench: str | Sequence[str],
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
    bench : str or sequence of str
        Modules with the cocotb tests, found in ``folder``; they run in one simulation.
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
    benches = [bench] if isinstance(bench, str) else list(bench)
    with _environment(folder):
        text = to_verilog(component, ports, name)
        digest = hashlib.sha256(f"{text}\n{_KEY}".encode()).hexdigest()
        place = BUILD / f"{name}-{digest[:16]}"
        runs = place / f"run-{os.getpid()}"
        runs.mkdir(parents=True, exist_ok=True)
        runner = get_runner("verilator")
        with _alone(place):
            source, public = place / f"{name}.v", place / "public.vlt"
            if not public.exists():  # Verilator looks at their times.
                source.write_text(text)
                public.write_text("\n".join(("`verilator_config", *_public(name, ports), "")))
            _share(_RUNTIME, place)
            runner.build(
                sources=[public, source],
                hdl_toplevel=name,
                build_dir=place,
                build_args=list(_ARGUMENTS),
                timescale=("1ns", "1ps"),
                log_file=place / "build.log",
            )
            _share(place, _RUNTIME)
        results = runner.test(
            hdl_toplevel=name,
            test_module=benches,
            build_dir=place,
            test_dir=runs,
            extra_env={"COCOTB_LOG_LEVEL": "WARNING", **(environment or {})},
            log_file=(log := runs / f"{benches[0]}.log"),
        )
    return _outcome(Path(results), log)


def _public(name: str, ports: Sequence[Value]) -> Iterator[str]:
    """Yield what lets a bench see a port, for each of them."""
    for port in ("clk", "rst", *(Value.cast(port).name for port in ports)):
        yield f'public_flat_rw -module "{name}" -var "{port}"'


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Keep other processes from building the same design at the same time."""
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


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
    """Set what the tools and the bench read from the environment, and put it back."""
    before, path = dict(os.environ), list(sys.path)
    # The runner hands this process's path on to the simulator, and takes no other.
    sys.path[:0] = [str(folder), str(BUILD.parents[1])]
    # Within a test the runner would exit at a failure; the results are read here.
    os.environ.pop("PYTEST_CURRENT_TEST", None)
    try:
        with environment():
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        sys.path[:] = path
