"""``tickwire venue`` in a process of its own, for tests: one that may be killed."""

import re
import resource
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
START_S = 240
"""The first start of a machine compiles the matching engine."""

CONFIG = """
[[venues]]
name = "ALPHA"
symbols = ["AAPL"]
users = [{ name = "TRADER", password = "SECRET" }, { name = "OTHER", password = "SECRET" }]
order_port = 0
journal = "alpha.journal"
"""


class Process:
    """A venue in a process of its own."""

    def __init__(self, config: Path, *options: str, file_size_max: int | None = None):
        command = [sys.executable, "-m", "tickwire", "venue", str(config), *options]
        self._log = config.with_suffix(f".{time.monotonic_ns()}.log")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=log
            )
        if file_size_max is not None:
            limits = (file_size_max, file_size_max)
            resource.prlimit(self.process.pid, resource.RLIMIT_FSIZE, limits)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def port(self, name: str = "ALPHA") -> int:
        """Wait until a venue is open; return the port of its order entry."""
        return int(self.wait_for(rf" {name}: session \S+ open on \S+: orders (\d+),").group(1))

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            found = re.search(pattern, self.log)
            if found:
                return found
            assert self.process.poll() is None, self.log
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} never came: {self.log}")

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)
