"""What the benchmarks of the feed play, and the card and the host that they play it to."""

from collections.abc import Iterator, Sequence
from time import thread_time_ns

import numpy as np

from protocol import registers
from protocol.frames import Address, udp_frame
from protocol.moldudp64 import BLOCK, HEADER, packet
from sim.card.functional import FunctionalCard
from sim.card.functional.records import FRAME
from sim.card.port import Port
from sim.venue.publisher import GROUP_A, VENUE_IP, VENUE_MAC
from sw.card import Card, write
from sw.feed import Feed
from sw.ring import RingReader, ring_size

SESSION = "TICKWIRE01"
SLOTS = 1 << 14
ORDERS = 1 << 20
BATCH_MESSAGES = 4_000
"""Messages in one call, or about that."""

_OTHER_SLOTS = 2
MEMORY_SIZE = ring_size(SLOTS) + 2 * ring_size(_OTHER_SLOTS)


class Frames:
    """Messages in frames of line A, side by side in one buffer.

    Parameters
    ----------
    messages : sequence of bytes
        Without framing.
    payload_max : int
        Bytes of a payload; a packet has one message at least.

    Attributes
    ----------
    buffer : array of uint8
    batches : list of arrays of FRAME
        Frames that are taken in one call.
    count : int
        Messages.
    """

    def __init__(self, messages: Sequence[bytes], payload_max: int):
        source = Address(VENUE_MAC, VENUE_IP, GROUP_A.port)
        sequence, frames = 1, []
        for part in _packets(messages, payload_max):
            frames.append(udp_frame(source, GROUP_A, packet(SESSION, sequence, part)))
            sequence += len(part)
        self.count = len(messages)
        self.buffer = np.frombuffer(bytearray(b"".join(frames)), np.uint8)
        self.rows = np.zeros(len(frames), FRAME)
        self.rows["size"] = [len(frame) for frame in frames]
        self.rows["offset"] = np.cumsum(self.rows["size"]) - self.rows["size"]
        self.rows["port"] = Port.FEED_A
        self.rows["ts_ns"] = np.arange(len(frames))
        size = max(1, BATCH_MESSAGES * len(frames) // len(messages))
        self.batches = [self.rows[at : at + size] for at in range(0, len(frames), size)]


def _packets(messages: Sequence[bytes], payload_max: int) -> Iterator[list[bytes]]:
    part: list[bytes] = []
    size = HEADER.size
    for message in messages:
        if part and size + BLOCK.size + len(message) > payload_max:
            yield part
            part, size = [], HEADER.size
        part.append(message)
        size += BLOCK.size + len(message)
    yield part


class Rig:
    """A functional card that runs, and the host's end of its market ring.

    Parameters
    ----------
    stocks : sequence of (str, int)
        Symbols with their locates; 0 lets the card learn it.
    """

    def __init__(self, stocks: Sequence[tuple[str, int]]):
        memory = memoryview(bytearray(MEMORY_SIZE))
        self.card = FunctionalCard(memory, len(stocks), ORDERS)
        self.feed = start(self.card, stocks)

    def play(self, frames: Frames, first: int = 0, end: int | None = None) -> None:
        """Take frames on the card, and all records at the host. The numbers are of batches."""
        for batch in frames.batches[first:end]:
            self.card.receive_batch(frames.buffer, batch)
            self.feed.drain()

    def seconds(self, frames: Frames, first: int = 0) -> float:
        """Return the CPU's time of :meth:`play`."""
        start = thread_time_ns()
        self.play(frames, first)
        return (thread_time_ns() - start) / 1e9


def start(card: Card, stocks: Sequence[tuple[str, int]]) -> Feed:
    """Start a card that has ``MEMORY_SIZE`` bytes of memory. Returns the host's end of its feed."""
    base = 0
    for base_register, slots_register, slots in (
        (registers.MARKET_BASE, registers.MARKET_SLOTS, SLOTS),
        (registers.EXECUTION_BASE, registers.EXECUTION_SLOTS, _OTHER_SLOTS),
        (registers.COMMAND_BASE, registers.COMMAND_SLOTS, _OTHER_SLOTS),
    ):
        write(card, base_register, base)
        write(card, slots_register, slots)
        base += ring_size(slots)
    for index, (stock, locate) in enumerate(stocks):
        name = int.from_bytes(stock.encode("latin-1").ljust(8), "little")
        write(card, registers.SYMBOL_STOCK, name, index)
        write(card, registers.SYMBOL_LOCATE, locate, index)
    write(card, registers.CONTROL, 1)
    return Feed(RingReader(card.memory, 0, SLOTS), len(stocks))
