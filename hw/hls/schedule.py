"""Gives each operation of a kernel a stage of a pipeline that takes arguments every cycle."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hw.hls.delays import Delays, is_wire
from hw.hls.front import read
from hw.hls.ir import Claim, Graph, KernelError, Node, Op, Place
from hw.hls.lower import Lemma, Lowering
from hw.hls.split import split
from kernels.types import Kernel

_ROUNDING_NS = 1e-9


@dataclass(frozen=True, slots=True)
class Schedule:
    """A kernel as a pipeline.

    Attributes
    ----------
    kernel : Kernel
        What was scheduled.
    claims : tuple of Claim
        What its dataflow rests on, where a condition narrows a value.
    lowered : Graph
        Its dataflow on operations that the card has, each as wide as it comes.
    lemmas : tuple of Lemma
        What was replaced by something equal to get there.
    graph : Graph
        The same, of operations that fit a period.
    images : dict of Node to Node
        For each node of ``lowered`` the one of ``graph`` with its value.
    stages : dict of Node to int
        The cycle in which each operation of ``graph`` that takes time is done. Arguments come in
        cycle 0.
    latency : int
        Cycles from arguments to results.
    clock_mhz : float
        Clock that it was scheduled for.
    estimated_mhz : float
        Clock that the slowest stage allows, by the table.
    """

    kernel: Kernel[..., Any]
    claims: tuple[Claim, ...]
    lowered: Graph
    lemmas: tuple[Lemma, ...]
    graph: Graph
    images: dict[Node, Node]
    stages: dict[Node, int]
    latency: int
    clock_mhz: float
    estimated_mhz: float

    @property
    def register_bits(self) -> int:
        """Registers, in bits: those of results and those that keep values in step.

        The bit that tells whether a stage holds arguments is counted; bits that nothing uses, which
        synthesis takes out, are not.
        """
        return self.latency + sum(mask.bit_count() for mask in self.registered().values())

    def registered(self) -> dict[tuple[Node, int], int]:
        """Return which bits of a value are in registers in a cycle, as a mask."""
        used: dict[tuple[Node, int], int] = {}

        def use(node: Node, cycle: int, mask: int) -> None:
            if node.is_const:
                return
            if is_wire(node):
                for operand, bits in _bits_used(node, mask):
                    use(operand, cycle, bits)
                return
            for at in range(self.stages[node] + 1, cycle + 1):
                used[node, at] = used.get((node, at), 0) | mask

        for result in self.graph.results.values():
            use(result, self.latency, (1 << result.width) - 1)
        for node, stage in self.stages.items():
            for operand in node.operands:
                use(operand, stage, (1 << operand.width) - 1)
        return used

    def stage(self, number: int) -> list[Node]:
        """Return the operations of a stage that take time."""
        return [
            node for node, stage in self.stages.items() if stage == number and node.op is not Op.ARG
        ]


def schedule(
    kernel: Kernel[..., Any],
    clock_mhz: float = 156.25,
    latency_max: int | None = None,
    delays: Delays | None = None,
) -> Schedule:
    """Return a kernel as a pipeline with an initiation interval of one cycle.

    Parameters
    ----------
    kernel : Kernel
        What to schedule.
    clock_mhz : float
        Clock that it must reach.
    latency_max : int, optional
        Most cycles it may take.
    delays : Delays, optional
        Another table than the measured one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not one of these.
    KernelError
        If the kernel is not in the subset, an operation fits no period, or more cycles are needed
        than allowed; the longest path is named then.
    """
    if not isinstance(clock_mhz, int | float) or isinstance(clock_mhz, bool):
        raise TypeError(f"clock_mhz must be a number, not {clock_mhz!r}")
    if not 0 < clock_mhz < float("inf"):
        raise ValueError(f"clock_mhz must be more than 0, not {clock_mhz!r}")
    if latency_max is not None:
        if not isinstance(latency_max, int) or isinstance(latency_max, bool):
            raise TypeError(f"latency_max must be an integer, not {latency_max!r}")
        if latency_max < 1:
            raise ValueError(f"latency_max must be 1 or more, not {latency_max!r}")
    delays = Delays.load() if delays is None else delays
    budget_ns = delays.budget_ns(clock_mhz)
    source = read(kernel)
    lowering = Lowering()
    lowered = lowering.lower(source)
    graph, images = split(lowered, delays, budget_ns)
    plan = _Plan(graph, delays, budget_ns)
    if latency_max is not None and plan.latency > latency_max:
        last, path = plan.critical_path()
        raise KernelError(
            last,
            f"is in cycle {plan.latency} at {clock_mhz:g} MHz, and latency_max is {latency_max}; "
            f"the longest path is {path}",
        )
    plan.save_registers()
    return Schedule(
        kernel,
        tuple(source.claims),
        lowered,
        tuple(lowering.lemmas),
        graph,
        images,
        plan.stages,
        plan.latency,
        clock_mhz,
        delays.fastest_mhz(max(plan.ends.values(), default=0.0)),
    )


class _Plan:
    """Stages of a graph's operations: each as early as it can be, then where it saves registers.

    ``ends`` is when in its stage an operation's value is there.
    """

    def __init__(self, graph: Graph, delays: Delays, budget_ns: float):
        self.graph = graph
        self.budget_ns = budget_ns
        self.delay: dict[Node, float] = {}
        self.stages: dict[Node, int] = {}
        self.ends: dict[Node, float] = {}
        for node in graph.reachable():
            if not node.is_const and not is_wire(node):
                self.delay[node] = delays.of(node)
                stage, start = max(map(self.when, sources(node)), default=(0, 0.0))
                if start + self.delay[node] > budget_ns:
                    stage, start = stage + 1, 0.0
                self.stages[node], self.ends[node] = stage, start + self.delay[node]
        self.results = [each for node in graph.results.values() for each in sources_of(node)]
        self.latency = max((self.stages[node] for node in self.results), default=0) + 1

    def when(self, node: Node) -> tuple[int, float]:
        return self.stages[node], self.ends[node]

    def critical_path(self) -> tuple[Place, str]:
        """Return where the last operation stands, and the operations that lead to it."""
        path = [max(self.results, key=self.when)]
        while before := sources(path[-1]):
            path.append(max(before, key=self.when))
        timed = [node for node in reversed(path) if node.op is not Op.ARG]
        steps = list(dict.fromkeys(node.place for node in timed if node.place is not None))
        return steps[-1], ", ".join(f"line {step.line} `{step.source}`" for step in steps)

    def save_registers(self) -> None:
        """Move operations to later stages where that takes fewer registers.

        It does where an operation's operands are wider than its result, or needed later anyway.
        """
        users: dict[Node, list[Node]] = {node: [] for node in self.stages}
        needed = dict(self.stages)  # The last stage or cycle that a value is used in, so far.
        for node in self.stages:
            for source in sources(node):
                users[source].append(node)
        for node in self.results:
            needed[node] = self.latency
        for node in reversed(list(self.stages)):
            if node.op is Op.ARG:
                continue
            options = []
            for stage in range(self.stages[node], self.latest(users[node]) + 1):
                beside = [user for user in users[node] if self.stages[user] == stage]
                end = min(
                    [self.ends[user] - self.delay[user] for user in beside] + [self.budget_ns]
                )
                if end + _ROUNDING_NS >= self.delay[node]:
                    kept = node.width * (needed[node] - stage)
                    for source in sources(node):
                        kept += source.width * max(0, stage - needed[source])
                    options.append((kept, stage, end))
            _, self.stages[node], self.ends[node] = min(options)
            for source in sources(node):
                needed[source] = max(needed[source], self.stages[node])
        self.settle()

    def latest(self, users: list[Node]) -> int:
        """Return the last stage in which a value can be computed that these use."""
        return min([self.stages[user] for user in users] + [self.latency - 1])

    def settle(self) -> None:
        """Set when each value is there, from the stages."""
        for node, stage in self.stages.items():
            starts = [self.ends[each] for each in sources(node) if self.stages[each] == stage]
            self.ends[node] = max(starts, default=0.0) + self.delay[node]


def sources(node: Node) -> tuple[Node, ...]:
    """Return the operations that take time, and the arguments, that an operation needs."""
    found = {each: None for operand in node.operands for each in sources_of(operand)}
    return tuple(found)


def sources_of(node: Node) -> Iterator[Node]:
    """Yield the operations that take time, or arguments, that a value is made of."""
    if is_wire(node):
        for operand in node.operands:
            yield from sources_of(operand)
    elif not node.is_const:
        yield node


def _bits_used(node: Node, mask: int) -> Iterator[tuple[Node, int]]:
    """Yield which bits of its operands some bits of a wire are made of."""
    first, second = node.operands[0], node.operands[-1]
    match node.op:
        case Op.SHL:
            mask >>= second.lo
        case Op.SHR:
            mask <<= second.lo
        case Op.AND:
            mask &= second.lo
        case Op.OR if not second.is_const:
            yield second, mask & (1 << second.width) - 1
            mask = mask >> second.width << second.width
    # Bits above the operand's are its sign.
    whole = (1 << first.width) - 1
    sign = 1 << first.width - 1
    yield first, mask & whole | (sign if mask > whole and first.signed else 0)
