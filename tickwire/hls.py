"""``tickwire hls``: a kernel as a pipeline, with what it takes, and a proof that it is right."""

import importlib
import os
import sys
from pathlib import Path
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import Value

from hw.hls.delays import Delays
from hw.hls.ir import KernelError, Node, Op
from hw.hls.prove import Verdict, prove
from hw.hls.schedule import Schedule, schedule
from hw.hls.to_amaranth import Pipeline
from kernels.types import Kernel
from tickwire.outputs import check_output
from tickwire.source import InputError

REPOSITORY = Path(__file__).resolve().parents[1]
"""Where this stands, if it is not installed from a wheel: the benchmarks are not."""
SEEDS = (1, 2, 3, 4)
"""Of the placer, which is tried again while it does not reach the clock."""
SOURCE_SHOWN_MAX = 44
"""Columns of an operation's source that are printed."""


def run(
    name: str,
    clock_mhz: float,
    latency_max: int | None,
    place: bool,
    verilog_path: Path | None,
    with_proof: bool,
) -> None:
    """Print a kernel's schedule, and do with it what else is asked for.

    Raises :class:`InputError` for what is no kernel or cannot be built, and where a proof fails.
    """
    kernel = _found(name)
    try:
        plan = schedule(kernel, clock_mhz, latency_max)
    except KernelError as error:
        raise InputError(str(error.place), f"{error.reason}: {error.place.source}") from None
    except (TypeError, ValueError) as error:
        raise InputError(name, str(error)) from None
    for line in lines(plan):
        print(line)
    if verilog_path is not None:
        _write_verilog(plan, verilog_path)
    if with_proof:
        proof = prove(plan, Pipeline(plan))
        if proof.verdict is not Verdict.PROVEN:
            raise InputError(name, str(proof))
        print(f"pipeline against kernel: {proof}")
    if place:
        print(_placed(name, plan))


def lines(plan: Schedule) -> list[str]:
    """Return a schedule as text: a line an operation, under its stage."""
    delays = Delays.load()
    cycles = f"{plan.latency} cycle{'s' if plan.latency > 1 else ''}"
    text = [
        f"{plan.kernel.name} at {plan.clock_mhz:g} MHz: latency {cycles}, initiation interval 1",
        f"{plan.register_bits} register bits, {_multipliers(plan)} multipliers, "
        f"{plan.estimated_mhz:.1f} MHz estimated",
    ]
    for stage in range(plan.latency):
        text += ["", f"stage {stage}", "  line  op    bits    ns  source"]
        for node in plan.stage(stage):
            line, source = ("", "") if node.place is None else (node.place.line, _source(node))
            delay = f"{delays.of(node):.2f}"
            text.append(
                f"  {line:>4}  {node.op.value:<4}  {node.width:>4}  {delay:>4}  {source}".rstrip()
            )
    return text


def _source(node: Node) -> str:
    assert node.place is not None
    source = node.place.source
    short = source if len(source) <= SOURCE_SHOWN_MAX else f"{source[: SOURCE_SHOWN_MAX - 4]} ..."
    return f"{short}  -> {node.name}" if node.name else short


def _multipliers(plan: Schedule) -> int:
    return sum(node.op is Op.MUL for node in plan.stages)


def _found(name: str) -> Kernel[..., Any]:
    """Return the kernel that ``MODULE:KERNEL`` names; modules in this folder are found as well."""
    module_name, colon, kernel_name = name.partition(":")
    if not colon or not module_name or not kernel_name:
        raise InputError(name, "must be MODULE:KERNEL, such as kernels.risk:exceeds_notional")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(name, f"cannot import {module_name}: {error}") from None
    except SyntaxError as error:
        raise InputError(f"{error.filename}:{error.lineno}", f"is no Python: {error.msg}") from None
    except Exception as error:  # Whatever a module of the user's raises while it is read.
        reason = f"cannot import {module_name}: {type(error).__name__}: {error}"
        raise InputError(name, reason) from None
    kernel = getattr(module, kernel_name, None)
    if isinstance(kernel, Kernel):
        return kernel
    names = [each for each, item in vars(module).items() if isinstance(item, Kernel)]
    known = f"its kernels are {', '.join(names)}" if names else "it has none under @kernel"
    raise InputError(name, f"{module_name} has no kernel {kernel_name}; {known}")


def _write_verilog(plan: Schedule, path: Path) -> None:
    check_output(path, ())
    os.environ.setdefault("AMARANTH_USE_YOSYS", "builtin")
    pipeline = Pipeline(plan)
    ports = [Value.cast(value) for _, _, value in pipeline.signature.flatten(pipeline)]
    text = verilog.convert(
        pipeline, name=plan.kernel.name, ports=ports, emit_src=False, strip_internal_attrs=True
    )
    path.write_text(text)
    print(f"Verilog: {path}", file=sys.stderr)


def _placed(name: str, plan: Schedule) -> str:
    """Return what place and route makes of a pipeline alone."""
    if not (REPOSITORY / "bench" / "place.py").is_file():
        raise InputError(name, "--place needs the repository: its folder bench is missing")
    if str(REPOSITORY) not in sys.path:
        sys.path.append(str(REPOSITORY))
    from bench.place import PlaceError, place

    tried = []
    for seed in SEEDS:
        try:
            tried.append(place(Pipeline(plan), f"hls_{plan.kernel.name}", plan.clock_mhz, seed))
        except PlaceError as error:
            raise InputError(name, str(error).splitlines()[0]) from None
        if tried[-1].is_fast_enough:
            break
    found = max(tried, key=lambda each: each.mhz)
    short = "" if found.is_fast_enough else f", short of {plan.clock_mhz:g} MHz"
    return (
        f"placed alone on LFE5UM5G-85F grade 8: {found.mhz:.1f} MHz, {found.lut} LUT, "
        f"{found.ff} FF, {found.dsp} DSP, seed {SEEDS[tried.index(found)]}{short}"
    )
