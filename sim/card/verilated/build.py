"""Turns the card into a shared library: Amaranth to Verilog, Verilator, one shim in C++.

A build is kept under ``build/card`` by a hash of the Verilog, the shim, the parameters and the
tool, so that an unchanged card is not built again. Which one it is for unchanged sources is kept
as well, since making the Verilog takes half a minute.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import amaranth

from hw.rtl.card import Card
from hw.rtl.params import CardParams
from sim.verilator import ARGUMENTS, TOOL, Flat, environment, to_verilog

_ROOT = Path(__file__).resolve().parents[3]
BUILD = _ROOT / "build" / "card"
_SOURCES = ("hw", "kernels", "protocol")
_SHIM = Path(__file__).with_name("shim.cpp")
_TO_VERILOG = _ROOT / "sim" / "verilator.py"
_NAME = "card"
_LIBRARY = "libcard.so"


class BuildError(Exception):
    """The card could not be built."""


@cache
def build(params: CardParams, trace: bool = False) -> Path:
    """Return the shared library of a card, building it if there is none yet.

    Parameters
    ----------
    params : CardParams
        Of the card.
    trace : bool
        Whether waves can be written. Slower, and built apart.

    Raises
    ------
    BuildError
        With the end of the tool's log.
    """
    flags = [
        *ARGUMENTS,
        "-CFLAGS",
        f"-fPIC -DWIDTH={params.width}",
        "-LDFLAGS",
        "-shared",
    ]
    if trace:
        flags += ["--trace", "-CFLAGS", "-DTRACE"]
    texts = (file.read_text() for file in (_SHIM, _TO_VERILOG))
    tools = "\n".join((*texts, *flags, str(TOOL), amaranth.__version__))
    known = BUILD / f"of-sources-{_digest(_sources(), repr(params), tools)}"
    if known.exists() and (library := BUILD / known.read_text() / _LIBRARY).exists():
        return library
    top = Flat(Card(params))
    text = to_verilog(top, top.ports, _NAME, named=trace)
    folder = BUILD / _digest(text, tools)
    if not (folder / _LIBRARY).exists():
        _verilate(folder, text, flags)
    known.write_text(folder.name)
    return folder / _LIBRARY


def _digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def _sources() -> str:
    files = sorted(file for name in _SOURCES for file in (_ROOT / name).rglob("*.py"))
    return "\n".join(f"{file.relative_to(_ROOT)}\n{file.read_text()}" for file in files)


def _verilate(folder: Path, text: str, flags: list[str]) -> None:
    """Build the library in a folder of its own, and then put it where it belongs."""
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
