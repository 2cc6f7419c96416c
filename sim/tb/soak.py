"""`python -m sim.tb.soak`: random messages through the feed path, for as long as one likes."""

import argparse
import os
import random
import sys

from hw.rtl.params import CardParams
from sim.tb.feed_path import run_feed_path
from sim.tb.runner import BenchError


def main() -> int:
    """Run the random flow and say how it ended; 1 when card and golden model differ."""
    parser = argparse.ArgumentParser(prog="python -m sim.tb.soak", description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=8, choices=(1, 8))
    arguments = parser.parse_args()
    seed = int(os.environ.get("TICKWIRE_SEED", random.randrange(1 << 31)))
    print(f"{arguments.messages} messages, TICKWIRE_SEED={seed}", flush=True)
    params = CardParams(arguments.width, symbol_count=4, order_count=1024)
    try:
        run_feed_path(
            params, arguments.messages, seed, environment={"COCOTB_TEST_FILTER": "random_flow"}
        )
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    print("every event equal to the golden model's")
    return 0


if __name__ == "__main__":
    sys.exit(main())
