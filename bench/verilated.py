"""The verilated card: cycles and messages a second, on one core."""

from time import thread_time_ns

from bench.results import Result, publish
from bench.wire import MEMORY_SIZE, Frames, start
from hw.rtl.params import CardParams
from sim.card.port import Port
from sim.card.verilated import VerilatedCard
from sim.venue import flow
from sim.venue.publisher import PAYLOAD_MAX

SEED = 1
SYMBOLS, MESSAGES = 4, 3_000
RUNS = 3


def measure() -> list[str]:
    """Measure the card under full packets and with packets of one message; it has no budget."""
    names = [f"S{number}" for number in range(SYMBOLS)]
    messages = list(flow.generate(SEED, names, MESSAGES))
    results = []
    for title, payload_max in (("full packets", PAYLOAD_MAX), ("packets of one message", 0)):
        frames = Frames(messages, payload_max)
        cycles, records, rate_of_cycles, rate = max(
            (_play(frames, names) for _ in range(RUNS)), key=lambda found: found[3]
        )
        method = (
            f"{len(messages)} generated messages of {SYMBOLS} symbols (seed {SEED}), {cycles:,} "
            f"cycles at 8 bytes a beat, {records:,} records, best of {RUNS} runs, time of the CPU"
        )
        results += [
            Result(f"cycles, {title}", round(rate_of_cycles), "cycles/s", "higher", method),
            Result(f"messages, {title}", round(rate), "messages/s", "higher", method),
        ]
    return publish("verilated", results)


def _play(frames: Frames, names: list[str]) -> tuple[int, int, float, float]:
    """Return cycles, records taken at the host, cycles a second and messages a second."""
    card = VerilatedCard(memoryview(bytearray(MEMORY_SIZE)), CardParams(symbol_count=SYMBOLS))
    feed = start(card, [(name, 0) for name in names])
    began, started = card.cycle, thread_time_ns()
    for row in frames.rows:
        at = int(row["offset"])
        frame = frames.buffer[at : at + int(row["size"])].tobytes()
        card.receive(Port.FEED_A, frame, int(row["ts_ns"]))
        feed.drain()
    seconds = (thread_time_ns() - started) / 1e9
    cycles, records = card.cycle - began, feed.record_count
    card.close()
    return cycles, records, cycles / seconds, frames.count / seconds
