"""A scheduled kernel as an Amaranth component."""

from typing import Any

from amaranth.hdl import C, EnableInserter, Module, Signal, Value
from amaranth.hdl import Shape as HdlShape
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.hls.delays import is_wire
from hw.hls.emit import emit, shape
from hw.hls.ir import Node
from hw.hls.schedule import Schedule
from kernels.types import Boolean, Kernel, Leaf


def leaf_shape(kind: Leaf) -> HdlShape:
    """Return the shape of a scalar type."""
    return HdlShape(1) if isinstance(kind, Boolean) else HdlShape(kind.width, kind.signed)


def argument_shapes(kernel: Kernel[..., Any]) -> dict[str, HdlShape]:
    """Return the shape of each scalar that a kernel takes, by name."""
    leaves = (leaf for name, kind in kernel.parameters.items() for leaf in kind.leaves(name))
    return {name: leaf_shape(kind) for name, kind in leaves}


def result_shapes(kernel: Kernel[..., Any]) -> dict[str, HdlShape]:
    """Return the shape of each scalar that a kernel returns, by name."""
    return {name: leaf_shape(kind) for name, kind in kernel.result.leaves("result")}


def signal_name(node: Node, cycle: int) -> str:
    """Return the name of the signal that has a node's value in a cycle, where it is computed."""
    return f"s{cycle}_{node.name or node.op.name.lower()}_{node.number}"


class Pipeline(wiring.Component):
    """Computes a kernel.

    Latency is ``latency`` cycles. Throughput is one set of arguments per cycle; nothing can stop
    it, and results come whether they are awaited or not.

    Parameters
    ----------
    plan : Schedule
        From :func:`hw.hls.schedule.schedule`.

    Attributes
    ----------
    latency : int
        Cycles from ``i_valid`` to ``o_valid``.

    Members
    -------
    i_valid : ``In(1)``
        Whether there are arguments in this cycle.
    i_... : ``In(...)``
        The arguments by name; a record's fields as ``i_record_field``, a tuple's items by number.
    o_valid : ``Out(1)``
        ``i_valid`` of ``latency`` cycles before.
    o_result : ``Out(...)``
        What the kernel returns; of several values ``o_result_field`` or ``o_result_0``. Undefined
        without ``o_valid``.

    Raises
    ------
    TypeError
        If ``plan`` is no schedule.
    """

    def __init__(self, plan: Schedule):
        self.plan = _checked(plan)
        self.latency = plan.latency
        arguments = {f"i_{name}": In(s) for name, s in argument_shapes(plan.kernel).items()}
        results = {f"o_{name}": Out(s) for name, s in result_shapes(plan.kernel).items()}
        super().__init__({"i_valid": In(1), **arguments, "o_valid": Out(1), **results})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        plan = self.plan
        values: dict[tuple[Node, int], Value] = {}

        def at(node: Node, cycle: int) -> Value:
            """Return a value in the cycle of its operation or a later one."""
            if (node, cycle) not in values:
                values[node, cycle] = made(node, cycle)
            return values[node, cycle]

        def made(node: Node, cycle: int) -> Value:
            if node.is_const:
                return C(node.lo, shape(node))
            if not is_wire(node) and cycle > plan.stages[node]:
                return registered(at(node, cycle - 1), cycle, node)
            if node in arguments:
                return arguments[node]
            value = Signal(shape(node), name=signal_name(node, cycle))
            m.d.comb += value.eq(emit(node, [at(operand, cycle) for operand in node.operands]))
            return value

        def registered(value: Value, cycle: int, node: Node) -> Value:
            later = Signal(shape(node), name=f"{signal_name(node, cycle)}_q", reset_less=True)
            m.d.sync += later.eq(value)
            return later

        arguments = {node: getattr(self, f"i_{node.name}") for node in plan.graph.args}
        valid = self.i_valid
        for cycle in range(1, plan.latency + 1):
            later = Signal(name=f"s{cycle}_valid")
            m.d.sync += later.eq(valid)
            valid = later
        m.d.comb += self.o_valid.eq(valid)
        for name, node in plan.graph.results.items():
            m.d.comb += getattr(self, f"o_{name}").eq(at(node, plan.latency))
        return m


class StreamPipeline(wiring.Component):
    """Computes a kernel between two streams.

    Latency is ``latency`` cycles while ``o`` is ready. Throughput is one set of arguments per cycle
    while ``o`` is ready; while it is not, and a result waits, every stage stalls.

    Parameters
    ----------
    plan : Schedule
        From :func:`hw.hls.schedule.schedule`.

    Members
    -------
    i : ``In(stream.Signature(...))``
        Arguments, named as those of :class:`Pipeline` without ``i_``.
    o : ``Out(stream.Signature(...))``
        Results, named as those of :class:`Pipeline` without ``o_``, in the order of ``i``.

    Raises
    ------
    TypeError
        If ``plan`` is no schedule.
    """

    def __init__(self, plan: Schedule):
        self.pipeline = Pipeline(_checked(plan))
        self.latency = plan.latency
        arguments = data.StructLayout(dict(argument_shapes(plan.kernel)))
        results = data.StructLayout(dict(result_shapes(plan.kernel)))
        super().__init__(
            {"i": In(stream.Signature(arguments)), "o": Out(stream.Signature(results))}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moving = Signal()
        m.submodules.pipeline = EnableInserter(moving)(self.pipeline)
        m.d.comb += [
            moving.eq(~self.o.valid | self.o.ready),
            self.i.ready.eq(moving),
            self.pipeline.i_valid.eq(self.i.valid),
            self.o.valid.eq(self.pipeline.o_valid),
        ]
        for name in argument_shapes(self.pipeline.plan.kernel):
            m.d.comb += getattr(self.pipeline, f"i_{name}").eq(self.i.payload[name])
        for name in result_shapes(self.pipeline.plan.kernel):
            m.d.comb += self.o.payload[name].eq(getattr(self.pipeline, f"o_{name}"))
        return m


def _checked(plan: Schedule) -> Schedule:
    if not isinstance(plan, Schedule):
        raise TypeError(f"plan must be a Schedule, not {plan!r}")
    return plan
