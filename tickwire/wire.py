"""What is on a served card's wires: a day out of a file, and an exchange that takes its orders.

The exchange opens when a host has started the card, and a new one opens for the next host: it plays
the file from its beginning. Its time and the card's are the machine's monotonic time; the day's own
times say only how far apart packets are.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from protocol import itch50, registers
from protocol.orders import Side
from sim.card.port import Port
from sim.golden.moldudp64 import Packet, parse_packet
from sim.golden.wire import Datagram, parse_frame
from sim.venue.publisher import publish
from sim.venue.replay import ReplayBook
from sw.card import read
from tickwire.capture import InputError, file_kind
from tickwire.cards import SimulatedCard
from tickwire.day import open_day, stock_of
from tickwire.lines import frames
from tickwire.session import FEED_SESSION, order_gateway


class Sending(NamedTuple):
    """What leaves the exchange at one time: frames on the lines, and the messages new in them."""

    ts_ns: int
    frames: list[tuple[Port, bytes]]
    messages: list[bytes]


@dataclass(frozen=True, slots=True)
class Day:
    """A file to be played: the locate of every symbol in it, and its sendings, anew each time."""

    locates: Mapping[str, int]
    sendings: Callable[[], Iterator[Sending]]


def open_file(path: Path) -> Day:
    """Return what an ITCH file or a capture has for the wires.

    Raises :class:`InputError` when not even its first message can be read, or a capture carries no
    ITCH.
    """
    if file_kind(path) == "itch50":
        day = open_day(path)
        return Day(day.locates, lambda: _of_messages(day.messages()))
    locates: dict[str, int] = {}
    for sending in _of_capture(path):
        for message in sending.messages:
            named = stock_of(message)
            if named is not None:
                locates.setdefault(*named)
    return Day(locates, lambda: _of_capture(path))


def _of_messages(messages: Iterator[bytes]) -> Iterator[Sending]:
    for packet in publish(messages, FEED_SESSION):
        sent = [(Port.FEED_A, packet.frame_a), (Port.FEED_B, packet.frame_b)]
        yield Sending(packet.ts_ns, sent, packet.messages)


def _of_capture(path: Path) -> Iterator[Sending]:
    """Yield a capture's frames as they are. Messages count once, on whichever line they come."""
    seen = 0
    for port, frame, ts_ns in frames(path):
        datagram = parse_frame(frame, checksums=False)
        fresh: list[bytes] = []
        packet = parse_packet(datagram.payload) if isinstance(datagram, Datagram) else None
        if isinstance(packet, Packet):
            first = packet.sequence_number
            fresh = list(packet.messages)[max(seen - first, 0) :]
            seen = max(seen, first + len(packet.messages))
        yield Sending(ts_ns, [(port, frame)], fresh)


class Exchange:
    """Wires of one card. Everything happens in :meth:`step`.

    Parameters
    ----------
    day : Day
        To be played.
    speed : float
        Times as fast as the day itself was.
    pause_max_ns : int
        Longest pause between two packets; one that would be longer is cut to it.
    on_fault : callable
        Takes what is wrong with the file where it stops making sense. The day ends there.

    Attributes
    ----------
    late_max_ns : int
        How late a packet was at the most, as the card was not ready for it.
    """

    def __init__(
        self,
        day: Day,
        speed: float,
        pause_max_ns: int,
        on_fault: Callable[[InputError], None] = lambda error: None,
    ):
        self._day = day
        self._speed = speed
        self._pause_max_ns = pause_max_ns
        self._on_fault = on_fault
        self._to_venue: deque[bytes] = deque()
        self._to_card: deque[bytes] = deque()
        self._is_open = False
        self.late_max_ns = 0
        self._load()

    def _load(self) -> None:
        """Load the matching engine's compiled code now: later there are heartbeats to be given."""
        book = ReplayBook(orders=2)
        for ref in range(1, 100):  # More than there is room for, so that it has to grow.
            book.on_add(ref, locate=1, side=Side.BUY, shares=1, price=1)

    def take(self, frame: bytes) -> None:
        """Take a frame from the card's order port."""
        self._to_venue.append(frame)

    def step(self, card: SimulatedCard, now_ns: int) -> bool:
        """Let happen on the wires what is due. Returns whether anything did."""
        if not self._is_open:
            if not read(card, registers.CONTROL) & 1:
                card.advance(now_ns)
                return False
            self._open(now_ns)
        moved = card.poll_commands(now_ns) > 0
        while self._to_venue:
            self._gateway.receive(self._to_venue.popleft(), now_ns)
            moved = True
        while self._to_card:
            card.receive(Port.ORDER, self._to_card.popleft(), now_ns)
            moved = True
        if self._next is not None and now_ns >= self._due_ns:
            self._play(card, self._next, now_ns)
            moved = True
        return moved

    def close(self, now_ns: int) -> int:
        """Close for the host that is gone, as when its connection is lost: its orders are canceled.

        Returns how many they were.
        """
        if not self._is_open:
            return 0
        while self._to_venue:  # What had left the card is at the venue before it hears of the end.
            self._gateway.receive(self._to_venue.popleft(), now_ns)
        canceled = self._gateway.disconnect(now_ns)
        self._to_card.clear()
        self._is_open = False
        return canceled

    def _open(self, now_ns: int) -> None:
        self._book = ReplayBook()
        self._gateway = order_gateway(self._book, self._day.locates, self._to_card.append)
        self._sendings = self._day.sendings()
        self._due_ns = now_ns
        self.late_max_ns = 0
        self._is_open = True
        self._next = self._draw()

    def _draw(self) -> Sending | None:
        try:
            return next(self._sendings, None)
        except InputError as error:
            self._on_fault(error)
            return None

    def _play(self, card: SimulatedCard, sending: Sending, now_ns: int) -> None:
        self.late_max_ns = max(self.late_max_ns, now_ns - self._due_ns)
        for message in sending.messages:
            layout = itch50.MESSAGES.by_code.get(message[0]) if message else None
            if layout is not None and layout.size == len(message):
                fills = self._book.background(layout.unpack(message))
                if fills:
                    self._gateway.publish(fills, now_ns)
        for port, frame in sending.frames:
            card.receive(port, frame, now_ns)
        self._next = self._draw()
        if self._next is not None:
            pause_ns = int((self._next.ts_ns - sending.ts_ns) / self._speed)
            self._due_ns += min(pause_ns, self._pause_max_ns)
