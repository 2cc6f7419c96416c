"""The feed path: wire, arbitration, book and market ring joined, and the memory they work on.

    frames ──> wire ──> arbiter ──> queue ──> feed ──> book ──> market ring

One call takes any number of frames. Messages are queued until there are a few hundred: so those to
come are known, and what they will touch is fetched while others are dealt with. Between two steps
arrays that are nearly full double.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernels.risk import Market
from protocol import ring
from protocol.reasons import DropReason, StaleReason
from sim.card.functional import arbiter, market, repair, wire
from sim.card.functional.book import ASKS, BIDS, SIDES, best, keys_needed, rehash
from sim.card.functional.feed import drain, padded
from sim.card.functional.records import (
    ARRAYS,
    DELIVERY,
    FRAME,
    HELD_PACKETS_MAX,
    LOST_RANGES_MAX,
    ORDERED,
    PAYLOAD_MAX,
    QUEUE_MESSAGES_MAX,
    TYPES,
    Core,
    drops_of,
    head_of,
    held_of,
)
from sw.jit import array_at, entry, jit
from sw.ring import RingWriter

_TRADING = ord("T")
_CHUNK = 192
"""Messages in the queue that are enough to begin with."""

_LOCATES = 1 << 16
_SIDES = b"BS"
_ORDERS_MIN = 1 << 10
_LEVELS_MIN = 1 << 9
_HELD_MIN = 2 * HELD_PACKETS_MAX
_LINE_SIZE = 64
_FRAME_MAX = PAYLOAD_MAX + 64
"""More bytes than this of a frame mean nothing: its IPv4 packet has ended."""

_I8_MAX = (1 << 63) - 1
_MASK = (1 << 64) - 1


@jit
def fill(core: int, frames: Any, buffer: int) -> None:
    """Take frames until messages enough are queued."""
    head, drops = head_of(core), drops_of(core)
    count = len(frames)
    while head["frame_next"] < count and head["queue_count"] < _CHUNK:
        # Slots of packets that have been delivered are read by the book before they are used again.
        if head["held_retired"]:
            return
        frame = frames[head["frame_next"]]
        now_ns = frame["ts_ns"]
        if not head["frame_is_taken"]:
            if head["held_count"] and not arbiter.advance(core, now_ns):
                return
            if not arbiter.has_room(head):
                return
            group = head["group_b"] if frame["port"] else head["group_a"]
            if frame["port"]:
                head["frames_b"] += 1
            else:
                head["frames_a"] += 1
            frame_size: Any = np.int64(frame["size"])
            payload, size, reason = wire.datagram(buffer + frame["offset"], frame_size, group)
            if reason == wire.SOUND:
                arbiter.take(core, payload, size, now_ns)
            else:
                drops[reason] += 1
            head["frame_is_taken"] = 1
        if head["held_count"] and not arbiter.settle(core, now_ns):
            return
        head["frame_is_taken"] = 0
        head["frame_next"] += 1


@jit
def run(core: int, frames_at: int, count: int, buffer: int) -> bool:
    """Take frames. Returns False when an array must grow first: call again once it has."""
    head = head_of(core)
    frames = array_at(frames_at, count, FRAME)
    while head["held_count"] < len(held_of(core)):
        fill(core, frames, buffer)
        if head["queue_count"] or head["held_retired"]:
            if not drain(core):
                return False
        elif head["frame_next"] == count:
            head["frame_next"] = 0
            return True
    return False


@jit
def let_pass(core: int, now_ns: int) -> bool:
    """Let time pass, and write what waits for a slot. Returns as :func:`run`."""
    is_done = False
    while not is_done:
        is_done = arbiter.advance(core, now_ns)
        if not drain(core):
            return False
    market.flush(core)
    return True


def _signed(number: int) -> int:
    """Return the number of 64 bits with a sign that has the bits of one without."""
    return (number + ORDERED & _MASK) + ORDERED


def _zeros(length: int, kind: np.dtype[Any]) -> NDArray[Any]:
    """Return an array that begins with a cache line. It takes memory where it is used."""
    memory = np.zeros(length * kind.itemsize + _LINE_SIZE, np.uint8)
    start = -memory.ctypes.data % _LINE_SIZE
    return memory[start : start + length * kind.itemsize].view(kind)


class FeedPath:
    """Everything between the feed's frames and the market ring, with its memory.

    Parameters
    ----------
    symbol_count, order_count : int
        Slots for symbols, and orders remembered at once.
    writer : RingWriter
        The market ring, empty. It is only asked where it stands: the path writes there itself, and
        must not be used once that memory is given back.

    Attributes
    ----------
    drops : array of int
        Counters by :class:`~protocol.reasons.DropReason`.
    address : int
        What the jitted functions know the memory by.
    """

    def __init__(self, symbol_count: int, order_count: int, writer: RingWriter):
        lengths = Core(
            head=1,
            drops=len(DropReason),
            queue=QUEUE_MESSAGES_MAX,
            held=_HELD_MIN,
            slots=HELD_PACKETS_MAX + 1,
            held_bytes=(HELD_PACKETS_MAX + 1) * PAYLOAD_MAX,
            lost=LOST_RANGES_MAX,
            symbols=symbol_count,
            locates=_LOCATES,
            waiting=symbol_count,
            books=SIDES * symbol_count,
            keys=keys_needed(0, _CHUNK),
            levels=_LEVELS_MIN,
            orders=_ORDERS_MIN,
        )
        self._arrays = [_zeros(n, kind) for n, kind in zip(lengths, TYPES, strict=True)]
        self._context = np.zeros(2 * ARRAYS, np.int64)
        for index in range(ARRAYS):
            self._place(index)
        self.address = self._context.ctypes.data
        self._names: dict[int, str] = {}
        head = self._head
        head["symbol_count"], head["order_count_max"] = symbol_count, order_count
        head["expected"] = ORDERED ^ 1
        head["repair_from"] = head["lost_end"] = head["event_sequence"] = ORDERED
        head["ring_at"] = writer.address
        head["ring_slots"] = writer.slots
        self._frame = np.zeros(1, FRAME)
        self._bytes = np.zeros(_FRAME_MAX, np.uint8)
        self._frame_at, self._bytes_at = self._frame.ctypes.data, self._bytes.ctypes.data
        self._view = self._bytes.data
        self._run = entry(run, self.address, self._frame_at, 0, 0)
        self._drain = entry(drain, self.address)
        self._let_pass = entry(let_pass, self.address, 0)
        self._clear = entry(repair.clear, self.address, 0, 0)
        self._put = entry(repair.put, self.address, 0, 0, 0, 0, 0)
        self._take = entry(repair.take, self.address, 0, 0)
        self._go_live = entry(repair.go_live, self.address, 0, 0, 0, 0)

    def _place(self, index: int) -> None:
        self._context[index] = self._arrays[index].ctypes.data
        self._context[ARRAYS + index] = len(self._arrays[index])

    @property
    def core(self) -> Core:
        """The arrays as they are now, to be looked at."""
        return Core(*self._arrays)

    @property
    def _head(self) -> Any:
        return self._arrays[0][0]

    @property
    def drops(self) -> NDArray[np.int64]:
        return self._arrays[1]

    def counter(self, name: str) -> int:
        """Return a number of HEAD, of 64 bits without a sign."""
        return int(self._head[name]) & _MASK

    # Before the start.

    def configure(self, index: int, stock: str, locate: int) -> None:
        """Give a slot to a symbol; a locate of 0 is to be learnt."""
        symbol = self.core.symbols[index]
        name = int.from_bytes(stock.encode("latin-1").ljust(8), "big", signed=True)
        symbol["stock"], symbol["is_configured"] = padded(name), bool(stock)
        self._names[index] = stock
        if locate:
            self.core.locates[locate & (_LOCATES - 1)] = index + 1
        else:
            symbol["is_unlocated"] = 1
            self._head["unlocated_count"] += 1

    def listen(self, session: bytes, expected: int, gap_timeout_ns: int, groups: list[int]) -> None:
        """Set what the wire stage takes.

        Parameters
        ----------
        session : bytes
            MoldUDP64 session; empty adopts the first one seen.
        expected : int
            Next sequence number; 0 adopts the first one seen.
        gap_timeout_ns : int
            How long a gap may wait for the other line.
        groups : list of int
            Line A, line B: destination address in bits 47:16 and port in 15:0; 0 takes every
            datagram.
        """
        head = self._head
        head["session_is_known"] = bool(session)
        head["session_high"] = int.from_bytes(session[:8], "big", signed=True)
        head["session_low"] = int.from_bytes(session[8:], "big")
        head["expected"] = expected + ORDERED
        head["gap_timeout_ns"] = min(gap_timeout_ns, _I8_MAX)
        head["group_a"], head["group_b"] = (min(group, _I8_MAX) for group in groups)

    # Frames and time.

    def receive(self, port: int, frame: bytes, now_ns: int) -> None:
        """Take one frame of line 0 (A) or 1 (B), without its FCS."""
        size = min(len(frame), _FRAME_MAX)
        self._view[:size] = frame[:size]
        self._frame[0] = (0, size, port, now_ns)
        while not self._run(self.address, self._frame_at, 1, self._bytes_at):
            self._grow()

    def receive_batch(self, buffer: NDArray[np.uint8], frames: NDArray[np.void]) -> None:
        """Take frames of both lines, an array of FRAME, from a buffer."""
        place = buffer.ctypes.data
        while not self._run(self.address, frames.ctypes.data, len(frames), place):
            self._grow()

    def advance(self, now_ns: int) -> None:
        """Let time pass: a gap that waited too long is lost; records that wait are written."""
        while not self._let_pass(self.address, now_ns):
            self._grow()

    def queue(self, deliveries: NDArray[np.void]) -> None:
        """Put messages before the book as the arbiter does, an array of DELIVERY.

        At most QUEUE_MESSAGES_MAX, and they must be taken before others come.
        """
        self.core.queue[: len(deliveries)] = deliveries
        self._head["queue_count"] = len(deliveries)

    def drain(self) -> None:
        """Take what was queued."""
        while not self._drain(self.address):
            self._grow()

    def apply(self, sequence: int, data: bytes, now_ns: int) -> None:
        """Take one message past the wire stage, as the arbiter gives it."""
        self._view[: len(data)] = data
        self._tell(self._bytes_at, len(data), _signed(sequence), now_ns)

    def lose(self, first: int, count: int, now_ns: int) -> None:
        """Take note of lost messages, as the arbiter tells of them."""
        self._tell(_signed(count), arbiter.GAP, _signed(first), now_ns)

    def _tell(self, *delivery: int) -> None:
        self.queue(np.array([delivery], DELIVERY))
        self.drain()

    def repair(self, record: bytes, now_ns: int) -> None:
        """Take one of the commands BOOK_CLEAR, BOOK_ADD, BOOK_DELETE and BOOK_LIVE."""
        fields: Any = ring.COMMAND.by_code[record[0]].unpack(record)
        index = fields["symbol_index"]
        self._head["now_ns"] = now_ns
        match record[0]:
            case ring.RecordType.BOOK_CLEAR:
                self._clear(self.address, index, fields["stock_locate"] & (_LOCATES - 1))
            case ring.RecordType.BOOK_ADD:
                self._grow()
                self._put(
                    self.address,
                    index,
                    _signed(fields["order_reference"]),
                    fields["order_qty"],
                    fields["price"],
                    _SIDES.find(fields["side"]),
                )
            case ring.RecordType.BOOK_DELETE:
                self._take(self.address, index, _signed(fields["order_reference"]))
            case ring.RecordType.BOOK_LIVE:
                sequence = fields["next_sequence"] + ORDERED
                state, event = fields["trading_state"], fields["event_code"]
                self._go_live(self.address, index, sequence, state, event)

    def _grow(self) -> None:
        """Double what is nearly full."""
        head, core = self._head, self.core
        queued = int(head["queue_count"]) + 1
        needed = {
            "held": int(head["held_count"]) + 1,
            "keys": keys_needed(int(head["key_top"]), queued),
            "levels": int(head["level_top"]) + queued + 1,
            "orders": 2 * (int(head["order_count"]) + queued),
        }
        for name, count in needed.items():
            index = Core._fields.index(name)
            old = core[index]
            if count > len(old):
                new = _zeros(1 << (count - 1).bit_length(), old.dtype)
                if name == "orders":
                    rehash(old, new)
                else:
                    new[: len(old)] = old
                self._arrays[index] = new
                self._place(index)

    # What stands.

    def market_of(self, index: int) -> Market:
        """Return what the risk gate must know of a symbol."""
        symbol = self.core.symbols[index]
        return Market(
            best(self.address, SIDES * index + BIDS)[0],
            best(self.address, SIDES * index + ASKS)[0],
            halted=int(symbol["trading_state"]) not in (0, _TRADING),
            stale=int(symbol["stale_reason"]) != StaleReason.NONE,
            last_price=int(symbol["last_price"]),
            phase=int(self._head["phase"]),
        )

    def stock_of(self, index: int) -> str:
        """Return a symbol's name, empty for a slot without one."""
        return self._names.get(index, "")
