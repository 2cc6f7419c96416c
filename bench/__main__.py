"""`python -m bench`: measure, print, write to ``build/bench``, and keep the budgets."""

import sys

from bench import area, cycles, feed, matching, risk, venue, verilated

PARTS = {
    "cycles": cycles.measure,
    "area": area.measure,
    "risk": risk.measure,
    "matching": matching.measure,
    "feed": feed.measure,
    "venue": venue.measure,
    "verilated": verilated.measure,
}


def main() -> int:
    """Run the parts named on the command line, or all; return 1 when a budget was broken."""
    names = sys.argv[1:] or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(
            f"no such benchmark: {', '.join(unknown)}; there are {', '.join(PARTS)}",
            file=sys.stderr,
        )
        return 2
    broken = [line for name in names for line in PARTS[name]()]
    for line in broken:
        print(f"BUDGET BROKEN: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
