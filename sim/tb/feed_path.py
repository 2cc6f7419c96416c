"""The feed path under a bench: plain port names, and one call that builds and runs it."""

from collections.abc import Mapping
from pathlib import Path

from amaranth.hdl import Const, Elaboratable, Module, Signal, Value

from hw.rtl.card import FeedPath
from hw.rtl.params import CardParams
from sim.tb.runner import run

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "rtl"
BENCH = "bench_feed_path"
PROBES = ("mac", "line", "arbiter", "collect", "decode")
"""Stages whose output can be watched, in the order of the path."""


class Top(Elaboratable):
    """The feed path with a port ``a_b_0`` for each member ``a.b[0]``, and probes of line A.

    The port of a member ``name...`` is called ``stock...``.

    ``probes`` has a bit for each of ``PROBES``: high while that stage hands something on.
    """

    def __init__(self, params: CardParams):
        self.path = FeedPath(params)
        self.probes = Signal(len(PROBES))
        self.ports: list[Value] = [self.probes]
        self._inputs: list[tuple[Value, Signal]] = []
        self._outputs: list[tuple[Signal, Value]] = []
        for path, member, value in self.path.signature.flatten(self.path):
            inside = Value.cast(value)
            if isinstance(inside, Const):
                continue
            # A Verilated model has a member `name` of its own.
            name = "_".join(str(part) for part in path).replace("name", "stock")
            outside = Signal(len(inside), name=name)
            self.ports.append(outside)
            if member.flow.value == "In":
                self._inputs.append((inside, outside))
            else:
                self._outputs.append((outside, inside))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.path = self.path
        m.d.comb += [inside.eq(outside) for inside, outside in self._inputs]
        m.d.comb += [outside.eq(inside) for outside, inside in self._outputs]
        m.d.comb += [self.probes[i].eq(valid) for i, valid in enumerate(self.path.probes())]
        return m


def run_feed_path(
    params: CardParams,
    messages: int,
    seed: int,
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Build the feed path and run its bench; return how many tests there were.

    Parameters
    ----------
    params : CardParams
        What to build.
    messages : int
        Random messages of the longest test; others scale with it.
    seed : int
        Of everything random.
    data : Path, optional
        Folder of real captures.
    environment : mapping of str to str, optional
        More for the bench to read.
    """
    top = Top(params)
    settings = {
        "WIDTH": str(params.width),
        "SYMBOL_COUNT": str(params.symbol_count),
        "ORDER_COUNT": str(params.order_count),
        "CUT_THROUGH": str(int(params.cut_through)),
        "MESSAGES": str(messages),
        "SEED": str(seed),
        "DATA": str(data or ""),
    }
    name = f"feed_path_w{params.width}"
    return run(top, top.ports, name, BENCH, FOLDER, {**settings, **(environment or {})})
