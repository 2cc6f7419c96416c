"""A component with a plain port for each of its members, as a simulator can build it."""

from amaranth.hdl import Const, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring


class Plain(Elaboratable):
    """Has a port ``a_b_0`` for each member ``a.b[0]`` of a component; constants have none.

    Attributes
    ----------
    ports : list of Signal
        All of them.
    """

    def __init__(self, component: wiring.Component):
        self.component = component
        self.ports: list[Signal] = []
        self._pairs: list[tuple[Signal, Value, bool]] = []
        for path, member, value in component.signature.flatten(component):
            inside = Value.cast(value)
            if isinstance(inside, Const):
                continue
            outside = Signal(len(inside), name="_".join(str(part) for part in path))
            self.ports.append(outside)
            self._pairs.append((outside, inside, member.flow is wiring.In))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = self.component
        for outside, inside, is_input in self._pairs:
            m.d.comb += inside.eq(outside) if is_input else outside.eq(inside)
        return m
