"""Ring stage, card to host: the market ring's writer, with conflation when it is full.

A symbol whose change finds no slot waits, and its newest condition is written as soon as there is
one, with the number of changes that were skipped. Other records without a slot are counted and
lost.
"""

from typing import Any

import numpy as np

from protocol import ring
from protocol.reasons import StaleReason
from sim.card.functional.book import ASKS, BIDS, SIDES
from sim.card.functional.records import (
    BBO,
    GAP,
    REPAIR,
    STATUS,
    TRADE,
    books_of,
    head_of,
    symbols_of,
    waiting_of,
)
from sw.jit import acquire, array_at, inlined, jit, release

_CONTROL_SIZE, _RECORD_SIZE = ring.CONTROL.size, ring.RECORD_SIZE
_TAIL, _SEQUENCE = ring.CONTROL.by_name["tail"].offset, ring.BBO.by_name["sequence"].offset
_WORDS = _SEQUENCE // 8
"""Words of a record before its sequence number."""

_BBO, _TRADE = int(ring.RecordType.BBO), int(ring.RecordType.TRADE)
_STATUS, _GAP = int(ring.RecordType.STATUS), int(ring.RecordType.GAP)
_REPAIR, _LIVE_FLAG = int(ring.RecordType.REPAIR), int(ring.RepairFlag.LIVE)
_STALE_FLAG, ALL_MARKET = int(ring.BboFlag.STALE), ring.ALL_MARKET
_SOUND = int(StaleReason.NONE)

SHARES_MAX, ORDERS_MAX = 0xFFFF_FFFF, 0xFFFF
"""What a record has room for."""


@inlined
def _is_full(head: Any) -> bool:
    return head["ring_head"] - acquire(head["ring_at"] + _TAIL) >= head["ring_slots"]


@inlined
def _claim(head: Any) -> int:
    """Return the address of the next slot, which is there; its record is all zero."""
    place = head["ring_head"] & (head["ring_slots"] - 1)
    slot = head["ring_at"] + _CONTROL_SIZE + place * _RECORD_SIZE
    array_at(slot, _WORDS, np.int64)[:] = 0
    return slot


@inlined
def _publish(head: Any, slot: int) -> None:
    """Hand the claimed slot to the host."""
    head["ring_head"] += 1
    release(slot + _SEQUENCE, head["ring_head"])
    used = head["ring_head"] - acquire(head["ring_at"] + _TAIL)
    head["ring_high_water"] = max(head["ring_high_water"], used)


@inlined
def _put_bbo(core: int, index: int, sequence: int, ts_ns: int, skipped: int) -> None:
    """Write a symbol's condition as it is to be told."""
    head, symbol = head_of(core), symbols_of(core)[index]
    bids, asks = books_of(core)[SIDES * index + BIDS], books_of(core)[SIDES * index + ASKS]
    slot = _claim(head)
    record = array_at(slot, 1, BBO)[0]
    record["record_type"] = _BBO
    record["flags"] = _STALE_FLAG if symbol["told_stale"] != _SOUND else 0
    record["symbol_index"] = index
    record["skipped"] = skipped
    record["ts_card_ns"] = head["now_ns"]
    record["ts_feed_ns"] = ts_ns
    record["feed_sequence"] = sequence
    record["bid_price"] = bids["told_price"]
    record["ask_price"] = asks["told_price"]
    record["bid_qty"] = min(bids["told_shares"], SHARES_MAX)
    record["ask_qty"] = min(asks["told_shares"], SHARES_MAX)
    record["bid_orders"] = min(bids["told_orders"], ORDERS_MAX)
    record["ask_orders"] = min(asks["told_orders"], ORDERS_MAX)
    record["stale_reason"] = symbol["told_stale"]
    record["trading_state"] = symbol["told_state"]
    _publish(head, slot)


@jit
def flush(core: int) -> None:
    """Publish what waits, oldest first, as far as there are slots."""
    head = head_of(core)
    waiting = waiting_of(core)
    while head["waiting_count"] and not _is_full(head):
        index = waiting[head["waiting_first"]]
        symbol = symbols_of(core)[index]
        _put_bbo(
            core,
            index,
            symbol["waiting_sequence"],
            symbol["waiting_ts_ns"],
            symbol["waiting_skipped"],
        )
        symbol["is_waiting"] = 0
        head["waiting_first"] = (head["waiting_first"] + 1) % len(waiting)
        head["waiting_count"] -= 1


@inlined
def put_bbo(core: int, index: int, sequence: int, ts_ns: int) -> None:
    """Publish the condition of a symbol that is to be told, or let it wait for a slot.

    ``sequence`` and ``ts_ns`` are feed sequence number and ITCH time of the message that caused it.
    """
    head = head_of(core)
    head["bbo_changes"] += 1
    if head["waiting_count"] == 0 and not _is_full(head):
        _put_bbo(core, index, sequence, ts_ns, 0)
        return
    symbol, waiting = symbols_of(core)[index], waiting_of(core)
    if symbol["is_waiting"]:
        head["bbo_conflated"] += 1
        symbol["waiting_skipped"] += 1
    else:
        waiting[(head["waiting_first"] + head["waiting_count"]) % len(waiting)] = index
        head["waiting_count"] += 1
        symbol["is_waiting"] = 1
        symbol["waiting_skipped"] = 0
    symbol["waiting_sequence"] = sequence
    symbol["waiting_ts_ns"] = ts_ns
    flush(core)


@inlined
def _has_slot(core: int, head: Any) -> bool:
    """Whether there is a slot for a record that may not wait; if not it is counted."""
    flush(core)
    # Room that the host has made since is for those that wait.
    if head["waiting_count"] or _is_full(head):
        head["skipped"] += 1
        return False
    return True


@inlined
def put_trade(
    core: int,
    index: int,
    sequence: int,
    ts_ns: int,
    shares: int,
    price: int,
    side: int,
    match_type: int,
    match_number: int,
) -> None:
    """Publish a trade."""
    head = head_of(core)
    if not _has_slot(core, head):
        return
    slot = _claim(head)
    record = array_at(slot, 1, TRADE)[0]
    record["record_type"] = _TRADE
    record["symbol_index"] = index
    record["last_qty"] = shares if 0 <= shares < SHARES_MAX else SHARES_MAX
    record["ts_card_ns"] = head["now_ns"]
    record["ts_feed_ns"] = ts_ns
    record["feed_sequence"] = sequence
    record["last_price"] = price
    record["side"] = side
    record["match_type"] = match_type
    record["match_number"] = match_number
    _publish(head, slot)


@jit
def put_status(
    core: int, index: int, sequence: int, ts_ns: int, message_type: int, status: int
) -> None:
    """Publish a symbol's state or, with ALL_MARKET as its index, an event of the market."""
    head = head_of(core)
    if not _has_slot(core, head):
        return
    slot = _claim(head)
    record = array_at(slot, 1, STATUS)[0]
    record["record_type"] = _STATUS
    record["symbol_index"] = index
    record["ts_card_ns"] = head["now_ns"]
    record["ts_feed_ns"] = ts_ns
    record["feed_sequence"] = sequence
    record["message_type"] = message_type
    record["status"] = status
    _publish(head, slot)


@jit
def put_gap(core: int, first: int, count: int) -> None:
    """Publish that messages are lost."""
    head = head_of(core)
    if not _has_slot(core, head):
        return
    slot = _claim(head)
    record = array_at(slot, 1, GAP)[0]
    record["record_type"] = _GAP
    record["symbol_index"] = ALL_MARKET
    record["ts_card_ns"] = head["now_ns"]
    record["first_sequence"] = first
    record["message_count"] = count
    _publish(head, slot)


@jit
def put_repair(core: int, index: int, lowest: int, following: int, reason: int) -> None:
    """Publish how far the repair of a symbol is: the numbers between which it can go live."""
    head = head_of(core)
    if not _has_slot(core, head):
        return
    slot = _claim(head)
    record = array_at(slot, 1, REPAIR)[0]
    record["record_type"] = _REPAIR
    record["flags"] = _LIVE_FLAG if reason == _SOUND else 0
    record["symbol_index"] = index
    record["ts_card_ns"] = head["now_ns"]
    record["from_sequence"] = lowest
    record["next_sequence"] = following
    record["stale_reason"] = reason
    _publish(head, slot)
