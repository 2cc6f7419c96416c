"""MoldUDP64: packets into messages, and the merge of two lines into one sequence."""

from bisect import bisect_right, insort
from collections import Counter
from dataclasses import dataclass

from protocol.reasons import DropReason
from sim.golden.wire import Drop

HEADER_BYTES = 20
END_OF_SESSION_COUNT = 0xFFFF


@dataclass(frozen=True, slots=True)
class Truncation:
    """Where a packet stops making sense."""

    offset: int
    """Offset in the packet of the message block (its length field) that is not whole."""
    reason: str


@dataclass(frozen=True, slots=True)
class Packet:
    """One downstream packet. The message at index i has number `sequence_number + i`."""

    session: bytes
    sequence_number: int
    message_count: int
    """As on the wire: 0 for a heartbeat, 0xFFFF for the end of the session."""
    messages: tuple[bytes, ...]
    """The whole messages; fewer than `message_count` when the packet is truncated."""
    truncation: Truncation | None
    trailing_bytes: int
    """Bytes after the last message block. Zero when the packet is truncated."""

    @property
    def is_heartbeat(self) -> bool:
        return self.message_count == 0

    @property
    def is_end_of_session(self) -> bool:
        return self.message_count == END_OF_SESSION_COUNT


def parse_packet(payload: bytes) -> Packet | Drop:
    """Split a UDP payload into its messages. [MoldUDP64 1.00: Downstream Packet]

    A payload shorter than the header is a `Drop` with `MOLD_HEADER`. Everything else is a `Packet`:
    a block that does not fit ends it, and the messages before that block are kept. A message of no
    bytes is a message and has a sequence number.
    """
    if len(payload) < HEADER_BYTES:
        return Drop(DropReason.MOLD_HEADER, f"needed={HEADER_BYTES}, available={len(payload)}")
    message_count = int.from_bytes(payload[18:20], "big")
    blocks = 0 if message_count == END_OF_SESSION_COUNT else message_count

    messages: list[bytes] = []
    truncation: Truncation | None = None
    offset = 20
    while len(messages) < blocks and truncation is None:
        available = len(payload) - offset
        length = int.from_bytes(payload[offset : offset + 2], "big")
        if available < 2:
            truncation = Truncation(offset, f"no message length: available={available}")
        elif available < 2 + length:
            truncation = Truncation(offset, f"message cut: length={length}, have={available - 2}")
        else:
            messages.append(payload[offset + 2 : offset + 2 + length])
            offset += 2 + length
    return Packet(
        session=payload[0:10],
        sequence_number=int.from_bytes(payload[10:18], "big"),
        message_count=message_count,
        messages=tuple(messages),
        truncation=truncation,
        trailing_bytes=0 if truncation else len(payload) - offset,
    )


@dataclass(frozen=True, slots=True)
class Message:
    """A message in its place in the sequence, and the line whose copy was used."""

    sequence_number: int
    data: bytes
    line: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Messages that neither line brought in time. They are never delivered."""

    first_sequence: int
    count: int


@dataclass(frozen=True, slots=True)
class Retract:
    """Messages that were delivered before their frame turned out to be bad.

    They are not to be trusted, and their numbers count as not received.
    """

    first_sequence: int
    count: int


@dataclass(frozen=True, slots=True)
class EndOfSession:
    """Every message before `next_sequence` was delivered or declared lost."""

    next_sequence: int


Event = Message | Gap | Retract | EndOfSession


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Something that was received beyond a gap; the numbers before it are known to exist.

    A heartbeat is one without messages: it says only that the numbers before it exist.
    """

    sequence_number: int
    messages: tuple[bytes, ...]
    line: int
    ts_ns: int
    message_count: int = 0
    """As the header claims; fewer messages are there when the packet is truncated."""
    ends_session: bool = False

    @property
    def end(self) -> int:
        """The number after the last message."""
        return self.sequence_number + len(self.messages)

    @property
    def claimed_end(self) -> int:
        """The number after the last message that the header claims."""
        return self.sequence_number + self.message_count


class Arbiter:
    """Merges lines A and B (0 and 1) into one sequence without duplicates.

    Each number is delivered at most once and numbers only increase: a number is either in a
    `Message` or in a `Gap`. The first arrival wins and the other line fills gaps. A packet that is
    partly old is used from its first new message.

    A packet ahead of a gap is held. A missing number is noticed when something beyond it arrives;
    it is declared lost when it is still missing more than `gap_timeout_ns` later, so nothing is
    held longer than that. The clock is looked at in `advance` and at the start of each `receive`.
    When more than `held_packets_max` packets with messages would be held, the first gap is declared
    lost at once. Heartbeats and ends of session carry the next number, so they reveal gaps as well;
    they take no place of a packet.

    A packet whose header claims only old numbers is not looked into. Of others a truncated one
    counts as its whole messages; the rest counts as not received and is noticed only by what comes
    after it. After the end of the session messages with new numbers are still
    delivered, since re-requests are still served. The end is reported once.

    Numbers before the start (`next_sequence`, or the first packet seen where it is None) count as
    delivered. With `session=None` the first session seen is adopted.

    A receiver that acts on messages before their frame has ended learns too late that it is `bad`.
    Such a packet is delivered as far as it could be at once, and then retracted; with it goes what
    was learnt from it, the session and the first number. A bad packet ahead of a gap is not used,
    nor is a bad one without messages.

    `drops` counts packets that were not used, each under one reason: an old one under TOO_LATE if
    each of its messages was declared lost, else under DUPLICATE; one whose messages are all held
    already under DUPLICATE; a truncated one that was used under MOLD_TRUNCATED. Bad ones are
    counted by whoever found them to be so.

    [MoldUDP64 1.00: Downstream Packet, Heartbeats, End of Session]
    """

    def __init__(
        self,
        gap_timeout_ns: int,
        held_packets_max: int = 64,
        session: bytes | None = None,
        next_sequence: int | None = 1,
    ) -> None:
        if gap_timeout_ns < 0:
            raise ValueError(f"gap_timeout_ns must be 0 or more, not {gap_timeout_ns!r}")
        if held_packets_max < 0:
            raise ValueError(f"held_packets_max must be 0 or more, not {held_packets_max!r}")
        if session is not None and len(session) != 10:
            raise ValueError(f"session must be 10 bytes, not {session!r}")
        self.gap_timeout_ns = gap_timeout_ns
        self.held_packets_max = held_packets_max
        self.session = session
        self.next_sequence = next_sequence
        self.drops: Counter[DropReason] = Counter()
        # By sequence number, equal ones in order of arrival. Between calls the first is beyond
        # next_sequence, so this is empty exactly when no gap is known.
        self._held: list[_Ahead] = []
        # Ranges declared lost, ascending and never touching: first numbers, and numbers after.
        self._lost_firsts: list[int] = []
        self._lost_ends: list[int] = []
        self._end_seen = False

    def receive(self, line: int, payload: bytes, ts_ns: int, bad: bool = False) -> list[Event]:
        """Take one UDP payload that arrived on a line, and return what it releases."""
        if line not in (0, 1):
            raise ValueError(f"line must be 0 or 1, not {line!r}")
        events = self.advance(ts_ns)
        packet = parse_packet(payload)
        if isinstance(packet, Drop):
            self.drops[packet.reason] += 0 if bad else 1
            return events
        if bad:
            return events + self._deliver_and_retract(packet, line)
        if self.session is None:
            self.session = packet.session
        if packet.session != self.session:
            self.drops[DropReason.MOLD_SESSION] += 1
            return events
        if self.next_sequence is None:
            self.next_sequence = packet.sequence_number

        if packet.is_heartbeat or packet.is_end_of_session:
            self._take_announcement(packet, line, ts_ns)
        else:
            self._take_messages(packet, line, ts_ns)
        events += self._release()
        while sum(1 for ahead in self._held if ahead.messages) > self.held_packets_max:
            events += self._declare_first_gap_lost()
        return events

    def advance(self, ts_ns: int) -> list[Event]:
        """Look at the clock: declare lost what has been missing for too long."""
        events: list[Event] = []
        while self._held and ts_ns - min(a.ts_ns for a in self._held) > self.gap_timeout_ns:
            events += self._declare_first_gap_lost()
        return events

    def _take_announcement(self, packet: Packet, line: int, ts_ns: int) -> None:
        ends_session = packet.is_end_of_session and not self._end_seen
        self._end_seen = self._end_seen or ends_session
        self._hold(_Ahead(packet.sequence_number, (), line, ts_ns, ends_session=ends_session))

    def _take_messages(self, packet: Packet, line: int, ts_ns: int) -> None:
        first, count = packet.sequence_number, packet.message_count
        ahead = _Ahead(first, packet.messages, line, ts_ns, count)
        if ahead.claimed_end <= self._next():
            late = self._was_declared_lost(first, ahead.claimed_end)
            self.drops[DropReason.TOO_LATE if late else DropReason.DUPLICATE] += 1
        elif self._is_held(first, ahead.claimed_end):
            self.drops[DropReason.DUPLICATE] += 1
        else:
            self._hold(ahead)

    def _deliver_and_retract(self, packet: Packet, line: int) -> list[Event]:
        """Deliver what could be delivered at once, and take it back."""
        first = packet.sequence_number
        expected = first if self.next_sequence is None else self.next_sequence
        if self.session not in (None, packet.session) or first > expected:
            return []
        messages = packet.messages[expected - first :]
        if not messages:
            return []
        delivered = [Message(expected + i, data, line) for i, data in enumerate(messages)]
        return [*delivered, Retract(expected, len(messages))]

    def _hold(self, ahead: _Ahead) -> None:
        insort(self._held, ahead, key=lambda held: held.sequence_number)

    def _release(self) -> list[Event]:
        """Deliver what is held up to the first gap."""
        events: list[Event] = []
        while self._held and self._held[0].sequence_number <= self._next():
            ahead = self._held.pop(0)
            if ahead.message_count and ahead.claimed_end <= self._next():
                self.drops[DropReason.DUPLICATE] += 1
            elif len(ahead.messages) < ahead.message_count:
                self.drops[DropReason.MOLD_TRUNCATED] += 1
            for data in ahead.messages[self._next() - ahead.sequence_number :]:
                events.append(Message(self._next(), data, ahead.line))
                self.next_sequence = self._next() + 1
            if ahead.ends_session:
                events.append(EndOfSession(ahead.sequence_number))
        return events

    def _declare_first_gap_lost(self) -> list[Event]:
        first, end = self._next(), self._held[0].sequence_number
        if self._lost_ends and self._lost_ends[-1] == first:
            self._lost_ends[-1] = end
        else:
            self._lost_firsts.append(first)
            self._lost_ends.append(end)
        self.next_sequence = end
        return [Gap(first, end - first), *self._release()]

    def _was_declared_lost(self, first: int, end: int) -> bool:
        index = bisect_right(self._lost_firsts, first) - 1
        return index >= 0 and end <= self._lost_ends[index]

    def _is_held(self, first: int, end: int) -> bool:
        """Whether held packets together have every number from first to before end."""
        missing = first
        for ahead in self._held:
            if ahead.sequence_number <= missing < ahead.end:
                missing = ahead.end
        return missing >= end

    def _next(self) -> int:
        """The next number; 0 before the start is known, when nothing is held."""
        return 0 if self.next_sequence is None else self.next_sequence
