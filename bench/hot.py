"""How many system calls the hot loop makes: card and host in a process of their own, traced.

The loop takes frames on the card and records at the host for a second. Its packets add a symbol's
orders and delete them again, so that they can be played round and round with new numbers.
"""

import gc
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns

import numpy as np

from bench.results import ROOT, Result
from bench.wire import Frames, Rig
from protocol import itch50
from protocol.ethernet import ETHERNET
from protocol.ip import IPV4, UDP
from protocol.moldudp64 import HEADER
from sim.venue.publisher import PAYLOAD_MAX

_BEGIN, _END = "HOT LOOP BEGINS", "HOT LOOP ENDS"
_SECOND_NS = 1_000_000_000
_ROUND = 2_000


def system_calls() -> list[Result]:
    """Return the system calls in a second of the hot loop; nothing where strace can not be run."""
    strace = shutil.which("strace")
    if strace is None:
        print("strace is not installed, so system calls are not counted: apt install strace")
        return []
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        command = [strace, "-f", "-o", str(trace), sys.executable, "-m", "bench.hot"]
        found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        lines = trace.read_text().splitlines() if trace.exists() else []
    marks = [n for n, line in enumerate(lines) if _BEGIN in line or _END in line]
    if found.returncode or len(marks) != 2:
        print(f"strace could not trace, so system calls are not counted: {found.stderr.strip()}")
        return []
    calls = [line for line in lines[marks[0] + 1 : marks[1]] if re.match(r"\d+ +\w+\(", line)]
    for line in calls[:5]:
        print(f"in the hot loop: {line}")
    rate = float(found.stdout.split()[0])
    method = "strace -f, calls between two marks that the process writes; frames to handled records"
    return [
        Result("system calls in a second of the hot loop", len(calls), "", "lower", method),
        Result("the same loop, in its wall time", round(rate), "messages/s", "higher", method),
    ]


def _messages() -> list[bytes]:
    found = []
    for number in range(1, _ROUND + 1):
        side = "B" if number % 2 else "S"
        away = 100 * (number % 40 + 1) * (-1 if number % 2 else 1)
        found.append(
            itch50.ADD_ORDER.pack(
                stock_locate=1,
                timestamp=number,
                order_reference_number=number,
                buy_sell_indicator=side,
                shares=100,
                stock="HOT",
                price=1_000_000 + away,
            )
        )
    for number in range(1, _ROUND + 1):
        message = itch50.ORDER_DELETE.pack(
            stock_locate=1, timestamp=number, order_reference_number=number
        )
        found.append(message)
    return found


def main() -> None:
    """Run the loop for a second between two marks, and print messages a second."""
    frames, rig = Frames(_messages(), PAYLOAD_MAX), Rig([("HOT", 1)])
    udp = ETHERNET.size + IPV4.size
    at = udp + UDP.size + HEADER.by_name["sequence_number"].offset
    places = frames.rows["offset"][:, None] + at + np.arange(8)
    check = frames.rows["offset"][:, None] + udp + UDP.by_name["checksum"].offset + np.arange(2)
    frames.buffer[check] = 0  # None was made: the numbers change.
    numbers = frames.buffer[places].copy().view(">u8").astype(np.uint64)
    rounds = 0

    def play() -> None:
        nonlocal rounds
        new = numbers + np.uint64(rounds * frames.count)
        frames.buffer[places] = new.astype(">u8").view(np.uint8).reshape(places.shape)
        rig.play(frames)
        rounds += 1

    for _ in range(20):
        play()
    gc.collect()
    gc.freeze()
    gc.disable()
    done = rounds
    os.write(2, _BEGIN.encode())
    start = perf_counter_ns()
    while perf_counter_ns() - start < _SECOND_NS:
        play()
    elapsed_ns = perf_counter_ns() - start
    os.write(2, _END.encode())
    print((rounds - done) * frames.count * 1e9 / elapsed_ns)
    if rig.feed.record_count < rounds * 100:
        raise RuntimeError(f"TOO_FEW_RECORDS: records={rig.feed.record_count}, rounds={rounds}")


if __name__ == "__main__":
    main()
