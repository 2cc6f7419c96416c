"""Arbitration of the lines: MoldUDP64 packets in, messages out, each once and in order.

The first arrival of a message wins; what one line lost the other fills. Packets ahead of a gap wait
until it is filled, until one of them has waited longer than the timeout, or until there are too
many of them; then the gap is declared lost. A packet in order is not copied.
"""

from typing import Any

import numpy as np

from protocol.moldudp64 import BLOCK, END_OF_SESSION, HEADER, HEARTBEAT
from protocol.reasons import DropReason
from sim.card.functional.records import (
    FREE,
    HELD_PACKETS_MAX,
    KEPT,
    LOST_RANGES_MAX,
    NONE,
    ORDERED,
    QUEUE_MESSAGES_MAX,
    RETIRED,
    drops_of,
    head_of,
    held_bytes_of,
    held_of,
    lost_of,
    queue_of,
    slots_of,
)
from sw.jit import array_at, inlined, jit, read_16, read_64

GAP = -1
"""Size of what tells of a gap in the queue."""

_MOLD_HEADER, _MOLD_SESSION = int(DropReason.MOLD_HEADER), int(DropReason.MOLD_SESSION)
_MOLD_TRUNCATED = int(DropReason.MOLD_TRUNCATED)
_DUPLICATE, _TOO_LATE = int(DropReason.DUPLICATE), int(DropReason.TOO_LATE)

_HEADER_SIZE, _BLOCK_SIZE = HEADER.size, BLOCK.size
_SEQUENCE = HEADER.by_name["sequence_number"].offset
_COUNT = HEADER.by_name["message_count"].offset
_SESSION_LOW = 8
"""The last two of a session's ten bytes."""

_PACKET_MESSAGES_MAX = QUEUE_MESSAGES_MAX // 2
_LAST = ~ORDERED
"""Highest ordered number."""


@inlined
def _after(sequence: int, count: int) -> int:
    """Return the ordered number that many messages on; the highest where there is none."""
    return sequence + count if sequence <= _LAST - count else _LAST


@inlined
def has_room(head: Any) -> bool:
    """Whether another packet's messages fit the queue."""
    return head["queue_count"] + _PACKET_MESSAGES_MAX <= QUEUE_MESSAGES_MAX


@inlined
def take(core: int, payload: int, size: int, now_ns: int) -> None:
    """Take a MoldUDP64 packet. The queue must have room for its messages; then :func:`settle`."""
    head, drops = head_of(core), drops_of(core)
    if size < _HEADER_SIZE:
        drops[_MOLD_HEADER] += 1
        return
    high, low = read_64(payload), read_16(payload + _SESSION_LOW)
    if not head["session_is_known"]:
        head["session_is_known"] = 1
        head["session_high"] = high
        head["session_low"] = low
    if high != head["session_high"] or low != head["session_low"]:
        drops[_MOLD_SESSION] += 1
        return
    sequence, count = read_64(payload + _SEQUENCE) ^ ORDERED, read_16(payload + _COUNT)
    if head["expected"] == ORDERED and not head["is_ended"]:
        head["expected"] = sequence
    if count in (HEARTBEAT, END_OF_SESSION):
        if sequence > _known(core, head) and not head["is_ended"]:
            _hold(core, sequence, 0, 0, payload, 0, now_ns)
        return
    expected = head["expected"]
    if head["is_ended"] or (sequence <= expected and not _reaches(sequence, count, expected)):
        late = _is_lost(core, sequence, _after(sequence, count))
        drops[_TOO_LATE if late else _DUPLICATE] += 1
    elif sequence <= expected:
        _deliver(core, head, payload, size, sequence, count, now_ns)
    elif _is_held(core, head, sequence, count):
        drops[_DUPLICATE] += 1
    else:
        _hold(core, sequence, _whole(payload, size, count), count, payload, size, now_ns)


@inlined
def _reaches(sequence: int, count: int, expected: int) -> bool:
    """Whether a packet that does not begin ahead has a message that was not seen yet."""
    behind = expected - sequence
    return 0 <= behind < count  # Below 0 it is more than 63 bits can tell.


@inlined
def _deliver(
    core: int, head: Any, payload: int, size: int, sequence: int, count: int, now_ns: int
) -> None:
    """Put those messages of a packet into the queue that are expected; it has some."""
    queue, place = queue_of(core), head["queue_count"]
    at, end = payload + _HEADER_SIZE, payload + size
    seen = head["expected"] - sequence
    whole = 0
    while whole < count and at + _BLOCK_SIZE <= end:
        length = read_16(at)
        at += _BLOCK_SIZE
        if at + length > end:
            break
        if whole >= seen:
            row = queue[place]
            row["address"] = at
            row["size"] = length
            row["sequence"] = (sequence + whole) ^ ORDERED
            row["ts_ns"] = now_ns
            place += 1
        at += length
        whole += 1
    if whole < count:
        drops_of(core)[_MOLD_TRUNCATED] += 1
    if whole > seen:
        head["is_ended"] = int(sequence > _LAST - whole)
        head["expected"] = sequence + whole
    head["queue_count"] = place


@jit
def _whole(payload: int, size: int, count: int) -> int:
    """Return how many whole messages a packet has; one that is cut short ends them."""
    at, end = payload + _HEADER_SIZE, payload + size
    whole = 0
    while whole < count and at + _BLOCK_SIZE <= end:
        at += _BLOCK_SIZE + read_16(at)
        if at > end:
            break
        whole += 1
    return whole


@jit
def _known(core: int, head: Any) -> int:
    """Return the ordered number up to which all messages are known to exist."""
    found = head["expected"]
    held = held_of(core)
    for index in range(head["held_count"]):
        found = max(found, _after(held[index]["sequence"], held[index]["messages"]))
    return found


@jit
def _is_lost(core: int, first: int, end: int) -> bool:
    """Whether every message of a range was declared lost."""
    ranges = lost_of(core)
    for index in range(min(head_of(core)["lost_count"], LOST_RANGES_MAX)):
        if ranges[index]["first"] <= first and end <= ranges[index]["end"]:
            return True
    return False


@jit
def _is_held(core: int, head: Any, first: int, count: int) -> bool:
    """Whether held packets together have every message of a range."""
    held, end = held_of(core), _after(first, count)
    for index in range(head["held_count"]):
        row = held[index]
        if row["sequence"] <= first < _after(row["sequence"], row["messages"]):
            first = _after(row["sequence"], row["messages"])
    return first >= end


@jit
def _hold(
    core: int, sequence: int, messages: int, claimed: int, payload: int, size: int, now_ns: int
) -> None:
    """Keep a packet, behind those that have its number or a lower one."""
    head, held = head_of(core), held_of(core)
    slot = NONE
    if messages:
        slot = _keep(core, payload, size)
        head["held_messages"] += 1
    at = head["held_count"]
    while at > 0 and held[at - 1]["sequence"] > sequence:
        _copy(held[at], held[at - 1])
        at -= 1
    row = held[at]
    row["sequence"] = sequence
    row["ts_ns"] = now_ns
    row["messages"] = messages
    row["claimed"] = claimed
    row["slot"] = slot
    row["size"] = size
    head["held_count"] += 1
    head["held_high_water"] = max(head["held_high_water"], head["held_count"])


@jit
def _keep(core: int, payload: int, size: int) -> int:
    """Copy a packet that its buffer will not outlive. Returns its slot: there are enough."""
    slots = slots_of(core)
    slot = 0
    while slots[slot] != FREE:
        slot += 1
    slots[slot] = KEPT
    target = array_at(held_bytes_of(core, slot), size, np.uint8)
    target[:] = array_at(payload, size, np.uint8)
    return slot


@jit
def _copy(target: Any, source: Any) -> None:
    target["sequence"] = source["sequence"]
    target["ts_ns"] = source["ts_ns"]
    target["messages"] = source["messages"]
    target["claimed"] = source["claimed"]
    target["slot"] = source["slot"]
    target["size"] = source["size"]


@jit
def settle(core: int, now_ns: int) -> bool:
    """Deliver what is held up to the first gap, and give gaps up while too many packets wait.

    Returns False when the queue is full: call again once it is empty.
    """
    head = head_of(core)
    while True:
        if not _deliver_held(core, now_ns):
            return False
        if head["held_messages"] <= HELD_PACKETS_MAX:
            return True
        if not has_room(head):
            return False
        _give_up(core, now_ns)


@jit
def advance(core: int, now_ns: int) -> bool:
    """Let time pass: gaps that have waited too long are lost. Returns as :func:`settle`."""
    head = head_of(core)
    while True:
        if not _deliver_held(core, now_ns):
            return False
        if head["held_count"] == 0:
            return True
        held = held_of(core)
        oldest = held[0]["ts_ns"]
        for index in range(1, head["held_count"]):
            oldest = min(oldest, held[index]["ts_ns"])
        if now_ns - oldest <= head["gap_timeout_ns"]:
            return True
        if not has_room(head):
            return False
        _give_up(core, now_ns)


@jit
def _deliver_held(core: int, now_ns: int) -> bool:
    """Deliver held packets up to the first gap. Returns False when the queue is full."""
    head, held = head_of(core), held_of(core)
    while head["held_count"] and (head["is_ended"] or held[0]["sequence"] <= head["expected"]):
        if not has_room(head):
            return False
        sequence, messages, slot = held[0]["sequence"], held[0]["messages"], held[0]["slot"]
        claimed, size = held[0]["claimed"], held[0]["size"]
        head["held_count"] -= 1
        for index in range(head["held_count"]):
            _copy(held[index], held[index + 1])
        if messages:
            head["held_messages"] -= 1
            head["held_retired"] += 1
            slots_of(core)[slot] = RETIRED
        if claimed and (head["is_ended"] or not _reaches(sequence, claimed, head["expected"])):
            drops_of(core)[_DUPLICATE] += 1
        elif messages:
            payload = held_bytes_of(core, slot)
            _deliver(core, head, payload, size, sequence, claimed, now_ns)
        elif claimed:
            drops_of(core)[_MOLD_TRUNCATED] += 1
    return True


@jit
def _give_up(core: int, now_ns: int) -> None:
    """Declare the first gap lost; what is behind it is to be delivered then."""
    head, ranges = head_of(core), lost_of(core)
    first, end = head["expected"], held_of(core)[0]["sequence"]
    head["expected"] = end
    newest = (head["lost_count"] - 1) % LOST_RANGES_MAX
    if head["lost_count"] and ranges[newest]["end"] == first:
        ranges[newest]["end"] = end
    else:
        newest = head["lost_count"] % LOST_RANGES_MAX
        ranges[newest]["first"] = first
        ranges[newest]["end"] = end
        head["lost_count"] += 1
    row = queue_of(core)[head["queue_count"]]
    row["address"] = end - first
    row["size"] = GAP
    row["sequence"] = first ^ ORDERED
    row["ts_ns"] = now_ns
    head["queue_count"] += 1


@jit
def forget_retired(core: int) -> None:
    """Give the slots back that the book has read."""
    head, slots = head_of(core), slots_of(core)
    if head["held_retired"]:
        head["held_retired"] = 0
        for slot in range(len(slots)):
            if slots[slot] == RETIRED:
                slots[slot] = FREE
