"""The functional card: stages, registers and rings joined."""

from collections.abc import Callable, Sequence
from contextlib import closing
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from protocol import registers, ring
from protocol.frames import Address, parse_tcp
from protocol.layout import DecodeError
from protocol.registers import Register
from sim.card.functional.order import Connection, OrderPath
from sim.card.functional.path import FeedPath
from sim.card.functional.records import FEED_LINES, FRAME
from sim.card.port import Port
from sw.card import read
from sw.ring import RingReader, RingWriter, ring_size
from sw.risk import Risk

_FEED_COUNTERS = (
    ("frames_a", registers.FRAMES_RECEIVED, 0),
    ("frames_b", registers.FRAMES_RECEIVED, 1),
    ("messages_received", registers.MESSAGES_RECEIVED, 0),
    ("messages_lost", registers.MESSAGES_LOST, 0),
    ("bbo_changes", registers.BBO_CHANGES, 0),
    ("bbo_conflated", registers.BBO_CONFLATED, 0),
    ("skipped", registers.MARKET_SKIPPED, 0),
    ("ring_high_water", registers.MARKET_HIGH_WATER, 0),
    ("held_high_water", registers.HELD_HIGH_WATER, 0),
    ("stale_count", registers.STALE_SYMBOLS, 0),
)
_CAPABILITIES = sum(
    1 << item
    for item in registers.Capability
    if item not in (registers.Capability.LATENCY, registers.Capability.DOORBELL)
)


class FunctionalCard:
    """A card without a clock of its own: time comes with every call, in ns.

    To the host it is registers and memory (:class:`sw.card.Card`). The wire side is
    :meth:`receive`, :meth:`advance` and the ``transmit`` callable. Nothing runs before the host has
    written the rings and set the control register. There are no latencies to be measured, no queues
    and no doorbells: what registers say of these reads 0.

    Parameters
    ----------
    memory : memoryview
        Host memory that holds the rings.
    symbol_count : int
        Symbol slots, 1 to 65,535.
    order_count : int
        Orders that the book can remember.
    transmit : callable
        Takes every frame that leaves the order port.

    Raises
    ------
    ValueError
        If a count is out of range.
    """

    def __init__(
        self,
        memory: memoryview,
        symbol_count: int = 64,
        order_count: int = 1 << 20,
        transmit: Callable[[bytes], None] = lambda frame: None,
    ):
        if not 0 < symbol_count <= registers.SYMBOLS_MAX:
            raise ValueError(f"symbol_count must be 1 to 65535, not {symbol_count!r}")
        if order_count < 1:
            raise ValueError(f"order_count must be 1 or more, not {order_count!r}")
        self.memory = memory
        self._transmit = transmit
        self._symbol_count = symbol_count
        self._order_count = order_count
        self._values: dict[int, int] = {}
        self._now_ns = 0
        self._running = False
        _load_compiled()
        self.reset()

    # The host's side.

    def reset(self) -> None:
        """Return to the state after power-up: no rings, no symbols, no limits, killed."""
        self.close()
        self._values = {r.address(): r.init or 0 for r in registers.REGISTERS if r.count == 1}
        self._values[registers.SYMBOL_COUNT.address()] = self._symbol_count
        self._values[registers.ORDER_COUNT.address()] = self._order_count
        self._values[registers.CAPABILITIES.address()] = _CAPABILITIES
        self._held: dict[int, int] = {}
        self._commands_taken = 0
        self._last_heartbeat_ns = 0
        self._counters: dict[int, Callable[[], int]] = {
            registers.CLOCK_NS.address(): lambda: self._now_ns
        }

    def close(self) -> None:
        """Stop, and let go of the rings' memory. Counters keep their values."""
        if self._running:
            for item in self._rings:
                item.close()
            for register in (registers.KILL, registers.ORDER_SESSION):
                self._values[register.address()] = read(self, register)
                del self._counters[register.address()]
        self._running = False

    def read(self, address: int) -> int:
        """Return a register's 64 bits; 0 where there is none."""
        if address in self._held:
            return self._held[address]
        counter = self._counters.get(address)
        return counter() if counter is not None else self._values.get(address, 0)

    def write(self, address: int, value: int) -> None:
        """Write a register. Nothing happens at read-only addresses."""
        register = registers.find(address)
        if register is None or register.access is registers.Access.R:
            return
        if register.access is not registers.Access.W:
            self._values[address] = value & 0xFFFF_FFFF_FFFF_FFFF
        if address == registers.HOLD.address():
            self._held = self._counters_now() if value & 1 else {}
        elif address == registers.CONTROL.address() and value & 1 and not self._running:
            self._start()
        elif address == registers.CONTROL.address() and not value & 1:
            self.close()
        elif self._running and address == registers.KILL.address():
            self._orders.killed = bool(value)
        elif self._running and address == registers.ORDER_SESSION.address():
            self._orders.connection = self._handed_over() if value else None

    def _counters_now(self) -> dict[int, int]:
        """Return what HOLD keeps: every counter and mark, and nothing that the host writes."""
        return {
            address: counter()
            for address, counter in self._counters.items()
            if address >= registers.FRAMES_RECEIVED.address()
        }

    def _get(self, register: Register, index: int = 0) -> int:
        return self._values.get(register.address(index), 0)

    def _start(self) -> None:
        """Take rings, symbols and session from the registers and begin to run."""
        get = self._get
        market = RingWriter(self.memory, get(registers.MARKET_BASE), get(registers.MARKET_SLOTS))
        execution = RingWriter(
            self.memory, get(registers.EXECUTION_BASE), get(registers.EXECUTION_SLOTS)
        )
        self._commands = RingReader(
            self.memory, get(registers.COMMAND_BASE), get(registers.COMMAND_SLOTS)
        )
        self._rings = (market, execution, self._commands)
        self._feed = FeedPath(self._symbol_count, self._order_count, market)
        session = get(registers.FEED_SESSION_HIGH) << 64 | get(registers.FEED_SESSION_LOW)
        self._feed.listen(
            session.to_bytes(16, "little")[:10] if session else b"",
            get(registers.FEED_SEQUENCE),
            get(registers.FEED_GAP_TIMEOUT_NS),
            [get(registers.FEED_GROUP, line) for line in range(FEED_LINES)],
        )
        self._load_symbols()
        self._orders = OrderPath(
            self._symbol_count, execution, self._feed.market_of, self._feed.stock_of, self._transmit
        )
        self._orders.killed = bool(get(registers.KILL))
        self._orders.connection = self._handed_over() if get(registers.ORDER_SESSION) else None
        self._last_heartbeat_ns = self._now_ns
        self._running = True
        self._counters |= self._count_registers()

    def _load_symbols(self) -> None:
        for index in range(self._symbol_count):
            stock = self._get(registers.SYMBOL_STOCK, index)
            if stock:
                name = stock.to_bytes(8, "little").decode("latin-1").rstrip(" \0")
                self._feed.configure(index, name, self._get(registers.SYMBOL_LOCATE, index))

    def _handed_over(self) -> Connection:
        get = self._get
        return Connection(
            Address(
                get(registers.ORDER_LOCAL_MAC).to_bytes(8, "big")[2:],
                get(registers.ORDER_LOCAL_IP),
                get(registers.ORDER_LOCAL_PORT),
            ),
            Address(
                get(registers.ORDER_REMOTE_MAC).to_bytes(8, "big")[2:],
                get(registers.ORDER_REMOTE_IP),
                get(registers.ORDER_REMOTE_PORT),
            ),
            sequence=get(registers.ORDER_SEQUENCE),
            acknowledgment=get(registers.ORDER_ACKNOWLEDGMENT),
            firm=get(registers.ORDER_FIRM)
            .to_bytes(8, "little")[:4]
            .decode("latin-1")
            .rstrip(" \0"),
        )

    def _count_registers(self) -> dict[int, Callable[[], int]]:
        feed, orders = self._feed, self._orders
        found: dict[int, Callable[[], int]] = {
            register.address(index): partial(feed.counter, name)
            for name, register, index in _FEED_COUNTERS
        }
        found |= {
            registers.EXECUTION_HIGH_WATER.address(): lambda: orders.high_water,
            registers.COMMANDS_RECEIVED.address(): lambda: self._commands_taken,
            registers.ORDERS_SENT.address(): lambda: orders.sent_count,
            registers.ANSWERS_RECEIVED.address(): lambda: orders.answer_count,
            registers.KILL.address(): lambda: int(orders.killed),
            registers.ORDER_SESSION.address(): lambda: int(orders.connection is not None),
        }
        for register, values in (
            (registers.DROPS, feed.drops),
            (registers.DENIALS, orders.denials),
        ):
            for index in range(register.count):
                found[register.address(index)] = _element(values, index)
        return found

    # The wire's side.

    def receive(self, port: Port, frame: bytes, now_ns: int) -> None:
        """Take a frame without its FCS from a port."""
        self.advance(now_ns)
        if not self._running:
            return
        if port is Port.ORDER:
            try:
                segment = parse_tcp(frame)
            except DecodeError:
                return
            self._orders.receive(segment, now_ns)
        else:
            self._feed.receive(port, frame, now_ns)

    def receive_batch(self, buffer: NDArray[np.uint8], frames: NDArray[np.void]) -> None:
        """Take frames of the feed's two lines in one call.

        Parameters
        ----------
        buffer : array of uint8
            Where the frames stand.
        frames : array of :data:`~sim.card.functional.records.FRAME`
            Place, size, port and time of each. Times must not run backwards.

        Raises
        ------
        ValueError
            If a frame is of the order port or not whole in the buffer, or an array is of another
            type or has holes.
        """
        for name, array, kind in (("buffer", buffer, np.uint8), ("frames", frames, FRAME)):
            if array.dtype != kind or array.ndim != 1 or not array.flags.c_contiguous:
                raise ValueError(f"{name} must be a contiguous array of {kind}, not {array.dtype}")
        if not len(frames):
            return
        ports, offsets, ends = frames["port"], frames["offset"], frames["offset"] + frames["size"]
        if ports.min() < 0 or ports.max() >= FEED_LINES:
            raise ValueError(f"port must be FEED_A or FEED_B, not {ports.min()} to {ports.max()}")
        if min(offsets.min(), frames["size"].min()) < 0 or ends.max() > len(buffer):
            raise ValueError(
                f"frames must stand in the buffer of {len(buffer)} bytes, "
                f"not from {offsets.min()} to {ends.max()}"
            )
        self.advance(int(frames["ts_ns"][0]))
        if self._running:
            self._feed.receive_batch(buffer, frames)
            self.advance(int(frames["ts_ns"][-1]))

    def advance(self, now_ns: int) -> None:
        """Let time pass: gaps run out, a silent host is noticed, waiting records are written."""
        self._now_ns = now_ns
        if not self._running:
            return
        self._feed.advance(now_ns)
        timeout = self._get(registers.HEARTBEAT_TIMEOUT_NS)
        if timeout and now_ns - self._last_heartbeat_ns > timeout:
            self._orders.killed = True
        self._orders.take_answers(now_ns)

    def poll_commands(self, now_ns: int, most: int | None = None) -> int:
        """Take commands that stand in the ring and can be answered, ``most`` of them at the most.

        Returns how many were taken.
        """
        self.advance(now_ns)
        taken = 0
        while self._running and self._orders.can_answer and taken != most:
            offset = self._commands.poll()
            if offset < 0:
                break
            record = bytes(self.memory[offset : offset + ring.RECORD_SIZE])
            self._commands.release()
            taken += 1
            if record[0] == ring.RecordType.HEARTBEAT:
                self._last_heartbeat_ns = now_ns
            elif record[0] in ring.BOOK_COMMANDS:
                self._feed.repair(record, now_ns)
            else:
                self._orders.command(record, now_ns)
        self._commands_taken += taken
        return taken


def _element(values: Sequence[int] | NDArray[np.int64], index: int) -> Callable[[], int]:
    return lambda: int(values[index])


@cache
def _load_compiled() -> None:
    """Load what is compiled, so that no card stands still for that when it is started."""
    Risk(1)
    memory = memoryview(bytearray(ring_size(2)))
    with closing(RingWriter(memory, 0, 2)) as market:
        FeedPath(1, 1, market)
