"""What a benchmark found: a table for the reader, a file for the record, a budget to keep."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "bench"
BUDGETS = ROOT / "bench" / "budget"


@dataclass(frozen=True, slots=True)
class Result:
    """One figure. ``better`` is ``lower`` or ``higher``; ``ratio`` is to the peer's figure."""

    name: str
    value: float
    unit: str
    better: str
    method: str
    peer: str | None = None
    ratio: float | None = None


def machine() -> dict[str, float]:
    """Return what a reader must know of the machine to judge a time."""
    ticks = [int(n) for n in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return {
        "cores": os.cpu_count() or 0,
        "load": os.getloadavg()[0],
        "steal_share": round(ticks[7] / max(1, sum(ticks)), 4),
    }


def publish(name: str, results: list[Result]) -> list[str]:
    """Print results, write them to ``build/bench/<name>.json``, and return broken budgets.

    A budget is the worst value allowed of an exact figure; figures without one are not judged.
    """
    BUILD.mkdir(parents=True, exist_ok=True)
    content = {"machine": machine(), "results": [asdict(result) for result in results]}
    (BUILD / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    file = BUDGETS / f"{name}.json"
    budget: dict[str, float] = json.loads(file.read_text()) if file.exists() else {}
    table = Table(title=name)
    for column in ("what", "value", "unit", "budget"):
        table.add_column(column, justify="right" if column in ("value", "budget") else "left")
    broken = []
    for result in results:
        allowed = budget.get(result.name)
        style = None
        if allowed is not None:
            sign = 1 if result.better == "lower" else -1
            if sign * result.value > sign * allowed:
                broken.append(f"{result.name}: {result.value} {result.unit}, allowed {allowed}")
                style = "red"
        table.add_row(
            result.name,
            f"{result.value:g}",
            result.unit,
            "" if allowed is None else f"{allowed:g}",
            style=style,
        )
    missing = set(budget) - {result.name for result in results}
    broken += [f"{name}: not measured" for name in sorted(missing)]
    Console().print(table)
    return broken
