"""Turns the card into a shared library: Amaranth to Verilog, Verilator, one shim in C++.

A build is kept under ``build/card`` by a hash of the Verilog, the shim, the parameters and the
tool, so that an unchanged card is not built again.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from amaranth.lib import wiring

from sim.verilator import ARGUMENTS, TOOL, Flat, environment, to_verilog

BUILD = Path(__file__).resolve().parents[3] / "build" / "card"
_SHIM = Path(__file__).with_name("shim.cpp")
_NAME = "card"
_LIBRARY = "libcard.so"


class BuildError(Exception):
    """The card could not be built."""


def build(card: wiring.Component, width: int, trace: bool = False) -> Path:
    """Return the shared library of a card, building it if there is none yet.

    Parameters
    ----------
    card : wiring.Component
        With the members of :class:`hw.rtl.card.Card`.
    width : int
        Bytes a beat.
    trace : bool
        Whether waves can be written. Slower, and built apart.

    Raises
    ------
    BuildError
        With the end of the tool's log.
    """
    top = Flat(card)
    text = to_verilog(top, top.ports, _NAME)
    # Without `-fno-subst` this Verilator stops with an internal error at a card.
    flags = [*ARGUMENTS, "-fno-subst", "-CFLAGS", f"-fPIC -DWIDTH={width}", "-LDFLAGS", "-shared"]
    if trace:
        flags += ["--trace", "-CFLAGS", "-DTRACE"]
    key = "\n".join((text, _SHIM.read_text(), *flags, str(TOOL)))
    folder = BUILD / hashlib.sha256(key.encode()).hexdigest()[:16]
    library = folder / _LIBRARY
    if library.exists():
        return library
    print(f"building the card in {folder}: this takes minutes, once", file=sys.stderr, flush=True)
    part = folder.with_name(f"{folder.name}.{os.getpid()}")
    part.mkdir(parents=True, exist_ok=True)
    (part / f"{_NAME}.v").write_text(text)
    command = [
        str(TOOL / "verilator"),
        *("--cc", "--exe", "--build", "-j", "2", "--Mdir", "obj", "-o", f"../{_LIBRARY}"),
        *("--prefix", "Vcard", "--top-module", _NAME, *flags, f"{_NAME}.v", str(_SHIM)),
    ]
    with environment():
        done = subprocess.run(command, cwd=part, capture_output=True, text=True)
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BuildError(f"verilator failed: folder={part}\n{tail}")
    shutil.rmtree(part / "obj")
    try:
        part.rename(folder)
    except OSError:  # Another process was as fast.
        shutil.rmtree(part)
    return library
