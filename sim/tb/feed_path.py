"""The feed path under a bench: one call that builds and runs it.

Of its ports those that begin with `name` are called `stock` instead.
"""

from collections.abc import Mapping
from pathlib import Path

from hw.rtl.card import FeedPath
from hw.rtl.params import CardParams
from sim.tb.runner import run
from sim.verilator import Flat

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "rtl"
BENCHES = ("bench_feed_path", "bench_feed_path_faults", "bench_feed_path_data")
PROBES = ("mac", "line", "arbiter", "collect", "decode")
"""Stages whose output can be watched, in the order of the path: bits of the port `probes`, high
while that stage, of line A, hands something on."""


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
    path = FeedPath(params)
    # A Verilated model has a member `name` of its own.
    top = Flat(path, path.probes(), lambda name: name.replace("name", "stock"))
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
    return run(top, top.ports, name, BENCHES, FOLDER, {**settings, **(environment or {})})
