"""The records that the order stage writes."""

from amaranth.lib import enum

from hw.rtl.order.shapes import packed
from protocol import ring
from protocol.emit import amaranth_layout as layouts


class Told(enum.Enum, shape=3):
    """The record to be written."""

    SENT = 0
    DENIED = 1
    ACCEPTED = 2
    CANCELED = 3
    EXECUTED = 4
    REJECTED = 5
    REPLACED = 6


def records(command, answer, symbol_index, taken_qty, reason, now_ns):
    """Return the record of each kind, its sequence number zero.

    ``command`` is the bits of a command and ``answer`` an ``ANSWER``; ``symbol_index`` is that of
    the answer's order, ``taken_qty`` what the answer took off it, and ``reason`` a ``DenyReason``.
    """
    asked = layouts.view(ring.NEW, command)
    of_command = {
        "symbol_index": asked.symbol_index,
        "cl_ord_id": asked.cl_ord_id,
        "ts_card_ns": now_ns,
        "command_sequence": asked.sequence,
    }
    of_answer = {
        "symbol_index": symbol_index,
        "cl_ord_id": answer.cl_ord_id,
        "ts_card_ns": now_ns,
        "ts_venue_ns": answer.ts_venue_ns,
    }
    code = answer.code[:8]
    return {
        Told.SENT: packed(ring.SENT, **of_command),
        Told.DENIED: packed(
            ring.DENIED, **of_command, reason=reason, command_type=asked.record_type
        ),
        Told.ACCEPTED: packed(
            ring.ACCEPTED,
            **of_answer,
            venue_order_id=answer.number,
            price=answer.price,
            order_qty=answer.qty,
            order_state=code,
        ),
        Told.REPLACED: packed(
            ring.REPLACED,
            **of_answer,
            venue_order_id=answer.number,
            price=answer.price,
            leaves_qty=answer.qty,
            order_state=code,
            orig_cl_ord_id=answer.orig_cl_ord_id,
        ),
        Told.CANCELED: packed(ring.CANCELED, **of_answer, canceled_qty=taken_qty, reason=code),
        Told.EXECUTED: packed(
            ring.EXECUTED,
            **of_answer,
            match_number=answer.number,
            last_price=answer.price,
            last_qty=answer.qty,
            liquidity_flag=code,
        ),
        Told.REJECTED: packed(ring.REJECTED, **of_answer, reason=answer.code),
    }
