"""Wire stage: frames of lines A and B in, feed messages out, each once and in order."""

import struct
from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from protocol.ethernet import ETHERNET, VLAN_TAG, EtherType
from protocol.ip import IPV4, UDP, IpProtocol, checksum, pseudo_header
from protocol.moldudp64 import BLOCK, END_OF_SESSION, HEADER, HEARTBEAT
from protocol.reasons import DropReason

HELD_PACKETS_MAX = 64
"""Packets that can wait ahead of a gap."""

LOST_RANGES_MAX = 64
"""Lost ranges that are remembered, to tell a packet that is too late from a duplicate."""

_FRAGMENT = 0x3FFF
"""More-fragments bit and fragment offset."""


class _Held(NamedTuple):
    """A packet that waits ahead of a gap; without messages it only tells that the gap is there."""

    sequence: int
    arrival: int
    """Counts arrivals, so that equal sequence numbers keep their order."""
    ts_ns: int
    messages: list[bytes]
    message_count: int
    """As the header claims; fewer messages are there when the packet is truncated."""

    @property
    def end(self) -> int:
        return self.sequence + len(self.messages)


class Wire:
    """Checks frames, takes MoldUDP64 packets apart and arbitrates between the lines.

    The first arrival of a message wins; what one line lost the other fills. Packets ahead of a gap
    wait until it is filled, until one of them has waited longer than ``gap_timeout_ns``, or until
    there are too many of them; then the gap is declared lost.

    Parameters
    ----------
    on_message : callable
        Called with sequence number and message.
    on_gap : callable
        Called with the first lost sequence number and how many are lost.

    Attributes
    ----------
    groups : list of int
        Line A, line B: destination address in bits 47:16 and port in 15:0; 0 takes every datagram.
    session : bytes
        MoldUDP64 session; empty adopts the first one seen.
    expected : int
        Next sequence number; 0 adopts the first one seen.
    drops : list of int
        Counters by :class:`~protocol.reasons.DropReason`.
    """

    def __init__(
        self, on_message: Callable[[int, bytes], None], on_gap: Callable[[int, int], None]
    ):
        self._on_message = on_message
        self._on_gap = on_gap
        self.groups = [0, 0]
        self.session = b""
        self.expected = 1
        self.gap_timeout_ns = 0
        self.drops = [0] * len(DropReason)
        self.held_high_water = 0
        self._held: list[_Held] = []
        self._arrivals = 0
        self._lost: deque[tuple[int, int]] = deque(maxlen=LOST_RANGES_MAX)

    def receive(self, line: int, frame: bytes, now_ns: int) -> None:
        """Take one frame of line 0 (A) or 1 (B), without its FCS."""
        self.advance(now_ns)
        payload = self._datagram(line, frame)
        if isinstance(payload, DropReason):
            self.drops[payload] += 1
        else:
            self._packet(payload, now_ns)

    def advance(self, now_ns: int) -> None:
        """Let time pass: a gap that has waited too long is lost."""
        while self._held and now_ns - min(h.ts_ns for h in self._held) > self.gap_timeout_ns:
            self._declare_lost()

    def _datagram(self, line: int, frame: bytes) -> bytes | DropReason:
        """Return a frame's UDP payload, or why there is none."""
        try:
            _, _, ether_type = ETHERNET.struct.unpack_from(frame)
            start = ETHERNET.size
            if ether_type == EtherType.VLAN:
                _, ether_type = VLAN_TAG.struct.unpack_from(frame, start)
                start += VLAN_TAG.size
            if ether_type != EtherType.IPV4:
                return DropReason.NOT_IPV4
            ip = IPV4.struct.unpack_from(frame, start)
        except struct.error:
            return DropReason.FRAME_TOO_SHORT
        version_ihl, _, total, _, fragment, _, protocol, _, source, destination = ip
        body, end = start + (version_ihl & 0xF) * 4, start + total
        if version_ihl >> 4 != 4 or body < start + IPV4.size:
            return DropReason.IP_HEADER
        announces_udp = protocol == IpProtocol.UDP and not fragment & _FRAGMENT
        if len(frame) < body + (UDP.size if announces_udp else 0):
            return DropReason.FRAME_TOO_SHORT
        if not body <= end <= len(frame) or checksum(frame[start:body]):
            return DropReason.IP_HEADER
        if fragment & _FRAGMENT:
            return DropReason.IP_FRAGMENT
        if protocol != IpProtocol.UDP:
            return DropReason.NOT_UDP
        if end - body < UDP.size:
            return DropReason.UDP_LENGTH
        _, port, length, given = UDP.struct.unpack_from(frame, body)
        if not UDP.size <= length <= end - body:
            return DropReason.UDP_LENGTH
        datagram = frame[body : body + length]
        if given and checksum(pseudo_header(source, destination, protocol, length) + datagram):
            return DropReason.UDP_CHECKSUM
        if self.groups[line] not in (0, destination << 16 | port):
            return DropReason.NOT_SUBSCRIBED
        return datagram[UDP.size :]

    def _packet(self, payload: bytes, now_ns: int) -> None:
        """Take a MoldUDP64 packet."""
        if len(payload) < HEADER.size:
            self.drops[DropReason.MOLD_HEADER] += 1
            return
        session, sequence, count = HEADER.struct.unpack_from(payload)
        self.session = self.session or session
        if session != self.session:
            self.drops[DropReason.MOLD_SESSION] += 1
            return
        self.expected = self.expected or sequence
        if count in (HEARTBEAT, END_OF_SESSION):
            known = max((held.end for held in self._held), default=self.expected)
            if sequence > known:
                self._hold(sequence, [], now_ns, message_count=0)
        else:
            self._take(sequence, count, payload, now_ns)
        self._deliver_held()
        while sum(1 for held in self._held if held.messages) > HELD_PACKETS_MAX:
            self._declare_lost()

    def _take(self, sequence: int, count: int, payload: bytes, now_ns: int) -> None:
        claimed_end = sequence + count
        if claimed_end <= self.expected:
            late = any(first <= sequence and claimed_end <= end for first, end in self._lost)
            self.drops[DropReason.TOO_LATE if late else DropReason.DUPLICATE] += 1
        elif self._is_held(sequence, claimed_end):
            self.drops[DropReason.DUPLICATE] += 1
        else:
            self._hold(sequence, self._messages(payload, count), now_ns, count)

    @staticmethod
    def _messages(payload: bytes, count: int) -> list[bytes]:
        """Return the packet's whole messages; one that is cut short ends the list."""
        messages, at = [], HEADER.size
        for _ in range(count):
            end = at + BLOCK.size + int.from_bytes(payload[at : at + BLOCK.size], "big")
            if at + BLOCK.size > len(payload) or end > len(payload):
                break
            messages.append(payload[at + BLOCK.size : end])
            at = end
        return messages

    def _is_held(self, first: int, end: int) -> bool:
        """Whether held packets together have every message of a range."""
        for held in self._held:
            if held.sequence <= first < held.end:
                first = held.end
        return first >= end

    def _hold(self, sequence: int, messages: list[bytes], now_ns: int, message_count: int) -> None:
        self._arrivals += 1
        insort(self._held, _Held(sequence, self._arrivals, now_ns, messages, message_count))
        if sequence > self.expected:
            self.held_high_water = max(self.held_high_water, len(self._held))

    def _deliver_held(self) -> None:
        """Deliver everything up to the first gap."""
        while self._held and self._held[0].sequence <= self.expected:
            held = self._held.pop(0)
            if held.message_count and held.sequence + held.message_count <= self.expected:
                self.drops[DropReason.DUPLICATE] += 1
            elif len(held.messages) < held.message_count:
                self.drops[DropReason.MOLD_TRUNCATED] += 1
            for data in held.messages[self.expected - held.sequence :]:
                self.expected += 1
                self._on_message(self.expected - 1, data)

    def _declare_lost(self) -> None:
        """Give up the first gap and go on behind it."""
        first, self.expected = self.expected, self._held[0].sequence
        if self._lost and self._lost[-1][1] == first:
            first_lost, _ = self._lost.pop()
            self._lost.append((first_lost, self.expected))
        else:
            self._lost.append((first, self.expected))
        self._on_gap(first, self.expected - first)
        self._deliver_held()
