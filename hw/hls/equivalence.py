"""Compares a kernel in Python with what Numba and hardware make of it, and proves the hardware."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.lib import wiring
from amaranth.sim import Simulator

from hw.hls.ir import KernelError
from hw.hls.prove import TIMEOUT_S, Proof, Verdict, prove
from hw.hls.schedule import Schedule, schedule
from hw.hls.stimulus import Numbers, stimulus
from hw.hls.to_amaranth import Pipeline
from hw.hls.to_numba import to_numba
from hw.hls.values import argument_leaves, arguments, result_leaves, results
from kernels.types import Kernel

Simulate = Callable[[Schedule, wiring.Component, Sequence[Numbers | None]], list[Numbers | None]]
"""Runs a circuit on arguments, or None, in each cycle.

Returns its results in each of these cycles and in ``latency`` more, None where there are none.
"""

COUNT = 500
_GAP_PART = 0.2


@dataclass(frozen=True, slots=True)
class Leg:
    """How one back end did.

    ``mismatch`` is the first difference; ``refused`` is why it does not take the kernel.
    """

    name: str
    count: int
    mismatch: str = ""
    refused: str = ""

    def __str__(self) -> str:
        if self.refused:
            return f"{self.name}: refused: {self.refused}"
        if self.mismatch:
            return f"{self.name}: DIFFERS: {self.mismatch}"
        return f"{self.name}: {self.count} argument sets agree"


@dataclass(frozen=True, slots=True)
class Report:
    """What is known of a kernel and its back ends."""

    kernel: str
    legs: tuple[Leg, ...]
    proof: Proof

    @property
    def verdict(self) -> Verdict:
        """What it comes to: a difference anywhere refutes, and only a proof proves."""
        if any(leg.mismatch for leg in self.legs):
            return Verdict.REFUTED
        return self.proof.verdict

    def __str__(self) -> str:
        lines = [f"{self.kernel}: {self.verdict.value}", *(f"  {leg}" for leg in self.legs)]
        return "\n".join([*lines, f"  proof: {self.proof}"])


def check(
    kernel: Kernel[..., Any],
    clock_mhz: float = 156.25,
    latency_max: int | None = None,
    *,
    circuit: wiring.Component | None = None,
    simulators: Mapping[str, Simulate] | None = None,
    count: int = COUNT,
    seed: int = 1,
    timeout_s: float = TIMEOUT_S,
) -> Report:
    """Compare a kernel in Python with Numba and with simulators, and prove its pipeline.

    Parameters
    ----------
    kernel : Kernel
        What is right.
    clock_mhz, latency_max
        See :func:`hw.hls.schedule.schedule`.
    circuit : wiring.Component, optional
        Another circuit than the pipeline made of the kernel, with the same members.
    simulators : mapping of str to callable, optional
        What runs it; Amaranth's simulator where nothing is given.
    count : int
        Argument sets to compare; corners come first, random ones follow.
    seed : int
        Of what is random.
    timeout_s : float
        See :func:`hw.hls.prove.prove`.

    Raises
    ------
    KernelError
        If the kernel cannot be built.
    """
    plan = schedule(kernel, clock_mhz, latency_max)
    circuit = Pipeline(plan) if circuit is None else circuit
    vectors = stimulus(kernel, count, seed)
    expected = [results(kernel, kernel.function(*arguments(kernel, vector))) for vector in vectors]
    legs = [_numba_leg(kernel, vectors, expected)]
    # A gap now and then shows whether results come with their own arguments.
    gaps = random.Random(seed)
    inputs: list[Numbers | None] = []
    wanted: list[Numbers | None] = [None] * plan.latency
    for vector, result in zip(vectors, expected, strict=True):
        while gaps.random() < _GAP_PART:
            inputs.append(None)
            wanted.append(None)
        inputs.append(vector)
        wanted.append(result)
    for name, simulate in ({"amaranth": amaranth} if simulators is None else simulators).items():
        found = simulate(plan, circuit, inputs)
        mismatch = _first_difference(plan, inputs, wanted, found)
        legs.append(Leg(name, len(vectors), mismatch))
    return Report(kernel.name, tuple(legs), prove(plan, circuit, timeout_s))


def amaranth(
    plan: Schedule, circuit: wiring.Component, inputs: Sequence[Numbers | None]
) -> list[Numbers | None]:
    """Run a circuit in Amaranth's simulator. See :data:`Simulate`."""
    taken = {name: getattr(circuit, f"i_{name}") for name in argument_leaves(plan.kernel)}
    names = list(result_leaves(plan.kernel))
    watched = [circuit.o_valid, *(getattr(circuit, f"o_{name}") for name in names)]
    found: list[Numbers | None] = []

    async def bench(context: Any) -> None:
        for values in [*inputs, *[None] * plan.latency]:
            context.set(circuit.i_valid, values is not None)
            for name, value in (values or {}).items():
                context.set(taken[name], value)
            _, _, valid, *outputs = await context.tick().sample(*watched)
            found.append(dict(zip(names, outputs, strict=True)) if valid else None)

    simulator = Simulator(circuit)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found


def _numba_leg(
    kernel: Kernel[..., Any], vectors: Sequence[Numbers], expected: Sequence[Numbers]
) -> Leg:
    try:
        compiled = to_numba(kernel)
    except KernelError as error:
        return Leg("numba", 0, refused=str(error))
    for vector, wanted in zip(vectors, expected, strict=True):
        found = results(kernel, compiled(*arguments(kernel, vector)))
        if found != wanted:
            return Leg("numba", len(vectors), f"{vector}: expected {wanted}, not {found}")
    return Leg("numba", len(vectors))


def _first_difference(
    plan: Schedule,
    inputs: Sequence[Numbers | None],
    wanted: Sequence[Numbers | None],
    found: Sequence[Numbers | None],
) -> str:
    for cycle, (want, have) in enumerate(zip(wanted, found, strict=True)):
        if want != have:
            at = cycle - plan.latency
            given = inputs[at] if at >= 0 else None
            return f"cycle {cycle}, {given} in cycle {at}: expected {want}, not {have}"
    return ""
