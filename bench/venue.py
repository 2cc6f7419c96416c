"""Orders a second through a venue's sockets, and the time from an order to its answer.

Venue and client are two processes that speak SoupBinTCP over loopback. The venue is the whole of
it: sessions, OUCH, matching, ITCH on two lines, and a journal that is written before each answer.

Throughput: the client keeps at most ``WINDOW`` orders without an answer, writes what it may and
reads what there is, and counts answers from the first order sent to the last answer read. Latency:
orders leave at a fixed rate, one write each, whether answers have come or not, and each is counted
from the time at which it was due, so that a venue that stalls pays for every order that waits.
"""

import os
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

from bench.results import ROOT, Result, publish
from protocol import ouch50, soupbintcp

ORDERS, WINDOW, ROUNDS = 100_000, 512, 3
RATE, PACED_ORDERS = 5_000, 25_000
LEVELS = 100
START_S, ROUND_S = 300, 60
"""What a start (which may compile) and a round may take at most."""

_CONFIG = """
[[venues]]
name = "BENCH"
symbols = ["AAPL"]
users = [{ name = "TRADER", password = "SECRET" }]
order_port = 0
journal = "bench.journal"
lines = [{ group = "239.192.26.9", port = 26499 }, { group = "239.192.26.10", port = 26499 }]
"""
_METHOD = (
    "SoupBinTCP on loopback, client in another process, journal written before each answer, ITCH "
    "on two lines; {orders} orders that rest on 100 levels a side or trade with one that does; "
    "{how}"
)


class _Venue:
    """A venue in a process of its own, and a connection that has logged in to it."""

    def __init__(self, folder: Path):
        config, log = folder / "bench.toml", folder / "bench.log"
        config.write_text(_CONFIG)
        command = [sys.executable, "-m", "tickwire", "venue", str(config)]
        with log.open("wb") as file:
            self._process = subprocess.Popen(command, cwd=ROOT, stderr=file)
        deadline = time.monotonic() + START_S
        while not (found := re.search(r"orders (\d+),", log.read_text())):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise RuntimeError(f"the venue did not start: {log.read_text()}")
            time.sleep(0.05)
        self.link = socket.create_connection(("127.0.0.1", int(found.group(1))))
        self.link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.link.sendall(
            soupbintcp.LOGIN_REQUEST.pack(
                username="TRADER",
                password="SECRET",
                requested_session="",
                requested_sequence_number=0,
            )
        )
        self.link.recv(1 << 16)
        self.link.setblocking(False)
        self._rest = b""
        self.next_ref = 1

    def cpu_s(self) -> float:
        """Return the CPU time that the venue has used."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def orders(self, count: int) -> list[bytes]:
        """Return the packets of the next orders. One in four trades with one that rests."""
        found = []
        for ref in range(self.next_ref, self.next_ref + count):
            side, distance = "BS"[ref & 1], 1 + ref * 7919 % LEVELS
            price = 1_000_000 + (100 if side == "S" else -100) * distance
            if ref % 4 == 0:
                price = 1_000_000 - (1 if side == "S" else -1) * 100 * LEVELS
            values = {
                "user_ref_num": ref,
                "side": side,
                "quantity": 100,
                "symbol": "AAPL",
                "price": price,
                "time_in_force": "0" if ref % 4 else "3",
                "display": "Y",
                "capacity": "P",
                "inter_market_sweep_eligibility": "N",
                "cross_type": "N",
                "cl_ord_id": f"{ref}",
            }
            message = ouch50.pack(ouch50.ENTER_ORDER, values)
            found.append(soupbintcp.wrap(soupbintcp.UNSEQUENCED_DATA, message))
        self.next_ref += count
        return found

    def accepted(self) -> list[int]:
        """Return the numbers of the orders whose acceptance can be read now."""
        try:
            data = self._rest + self.link.recv(1 << 18)
        except BlockingIOError:
            return []
        refs, at, size = [], 0, len(data)
        while size - at >= 2:
            end = at + 2 + (data[at] << 8 | data[at + 1])
            if end > size:
                break
            if data[at + 3 : at + 4] == b"A" and data[at + 2] == 0x53:
                refs.append(int.from_bytes(data[at + 12 : at + 16], "big"))
            at = end
        self._rest = data[at:]
        return refs

    def close(self) -> None:
        """End the venue, by force if need be."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def measure() -> list[str]:
    """Measure throughput and latency; return broken budgets."""
    with tempfile.TemporaryDirectory() as folder:
        venue = _Venue(Path(folder))
        try:
            _throughput(venue, ORDERS // 10)  # Warm.
            rounds = [_throughput(venue, ORDERS) for _ in range(ROUNDS)]
            paced = _latencies(venue, PACED_ORDERS, RATE)
            burst = _round_trips(venue, 5_000)
        finally:
            venue.link.close()
            venue.close()
    rates, costs = zip(*rounds, strict=True)
    how = f"at most {WINDOW} without an answer; best of {ROUNDS} rounds"
    method = _METHOD.format(orders=ORDERS, how=how)
    results = [
        Result("orders, best round", round(max(rates)), "orders/s", "higher", method),
        Result("orders, worst round", round(min(rates)), "orders/s", "higher", method),
        Result("CPU of the venue an order", round(min(costs), 2), "us", "lower", method),
    ]
    for name, times, how in (
        (f"order to answer at {RATE}/s", paced, "each from when it was due"),
        ("order to answer, one at a time", burst, "the next one leaves when the last is answered"),
    ):
        for percentile in (50, 99, 99.9):
            value = round(float(np.percentile(times, percentile)) / 1e3, 1)
            method = _METHOD.format(orders=len(times), how=how)
            results.append(Result(f"{name}, p{percentile:g}", value, "us", "lower", method))
    return publish("venue", results)


def _throughput(venue: _Venue, count: int) -> tuple[float, float]:
    """Return orders a second, and the venue's CPU time an order in us."""
    packets, link = venue.orders(count), venue.link
    sent = answered = 0
    pending = b""
    cpu_s, started = venue.cpu_s(), time.perf_counter()
    while answered < count:
        if not pending and sent < count and sent - answered < WINDOW:
            end = min(count, answered + WINDOW)
            pending, sent = b"".join(packets[sent:end]), end
        if pending:
            with suppress(BlockingIOError):
                pending = pending[link.send(pending) :]
        select.select([link], [link] if pending else [], [], 1)
        answered += len(venue.accepted())
        if time.perf_counter() - started > ROUND_S:
            raise RuntimeError(f"{answered} of {count} orders were answered in {ROUND_S} s")
    elapsed = time.perf_counter() - started
    return count / elapsed, (venue.cpu_s() - cpu_s) / count * 1e6


def _latencies(venue: _Venue, count: int, rate: int) -> np.ndarray:
    """Return the time from when each order was due to its answer, in ns."""
    first = venue.next_ref
    packets, link = venue.orders(count), venue.link
    due = np.arange(count) * (1_000_000_000 // rate)
    seen = np.zeros(count, np.int64)
    sent = answered = 0
    started = time.perf_counter_ns() + 1_000_000
    while answered < count:
        now = time.perf_counter_ns() - started
        while sent < count and due[sent] <= now:
            link.send(packets[sent])
            sent += 1
        # It waits instead of spinning: on few cores it would take the venue's time.
        next_ns = int(due[sent]) - now if sent < count else 1_000_000_000
        select.select([link], [], [], max(0, next_ns) / 1e9)
        for ref in venue.accepted():
            seen[ref - first] = time.perf_counter_ns() - started
            answered += 1
        if now > ROUND_S * 1_000_000_000:
            raise RuntimeError(f"{answered} of {count} orders were answered in {ROUND_S} s")
    return seen - due


def _round_trips(venue: _Venue, count: int) -> np.ndarray:
    """Return the time from each order to its answer, with one on its way at a time, in ns."""
    times = np.zeros(count, np.int64)
    for index, packet in enumerate(venue.orders(count)):
        started = time.perf_counter_ns()
        venue.link.send(packet)
        while not venue.accepted():
            select.select([venue.link], [], [], 1)
            if time.perf_counter_ns() - started > ROUND_S * 1_000_000_000:
                raise RuntimeError(f"order {index} was not answered in {ROUND_S} s")
        times[index] = time.perf_counter_ns() - started
    return times
