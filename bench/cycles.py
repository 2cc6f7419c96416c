"""Cycles from stage to stage of the feed path, measured in simulation and therefore exact."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.place import TARGETS_MHZ
from bench.results import Result, publish
from hw.rtl.params import WIDTHS, CardParams
from sim.tb.feed_path import run_feed_path

METHOD = "Verilator, cycles counted; ns at the clock of line rate"
_TESTS = "each_stage_takes_its_cycles|maximum_packets_of_deletes"


def measure() -> list[str]:
    """Measure stage by stage and message by message; return broken budgets."""
    results = []
    for width in sorted(WIDTHS, reverse=True):
        mhz = TARGETS_MHZ[width]
        print(f"feed path at {width} bytes a beat, {mhz} MHz: building and simulating", flush=True)
        with TemporaryDirectory() as folder:
            files = {name: Path(folder) / name for name in ("STAGES", "LATENCIES")}
            run_feed_path(
                CardParams(width=width),
                10_500,
                1,
                environment={
                    "COCOTB_TEST_FILTER": _TESTS,
                    **{name: str(file) for name, file in files.items()},
                },
            )
            stages, latencies = (json.loads(file.read_text()) for file in files.values())
        for what, taken in stages.items():
            results.append(Result(f"w{width} {what}", taken, "cycles", "lower", METHOD))
        for name in ("tick_to_event", "pins_to_event"):
            ns = round(stages[name] * 1e3 / mhz, 1)
            results.append(Result(f"w{width} {name} at {mhz} MHz", ns, "ns", "lower", METHOD))
        for what, worst in latencies.items():
            results.append(Result(f"w{width} {what}", worst, "cycles", "lower", METHOD))
    return publish("feed_path", results)
