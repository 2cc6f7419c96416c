"""The contract of a card: its three rings, and what happens when one of them is full."""

import pytest

from protocol import registers, ring
from protocol.ip import TcpFlag
from protocol.reasons import DenyReason, StaleReason
from sim.card.port import Port
from sw.ring import ring_size

BUY_AT, SELL_AT = 1_000_000, 1_000_100


# Market ring.


def drained(bench):
    """Read a full ring until the card has nothing more for it."""
    found = []
    while records := bench.take(bench.market):
        found += records
        bench.advance(1)
    return found


def test_full_market_ring_keeps_the_newest_best_bid_and_offer_and_says_what_was_skipped(bench):
    """A card may have a queue before its ring: more changes come than it can hold."""
    bench.start(market=2)
    for price in range(100, 160):
        bench.feed(bench.add(price, "B", price))
    bench.feed(bench.add(6, "S", 900, locate=8))
    assert bench.read(registers.MARKET_HIGH_WATER) == 2
    assert bench.read(registers.BBO_CHANGES) == 61
    found = [values for _, values in drained(bench)]
    bids = [values["bid_price"] for values in found if values["symbol_index"] == 0]
    assert bids[:2] == [100, 101]
    assert bids == sorted(set(bids))
    assert bids[-1] == 159
    assert [values["ask_price"] for values in found if values["symbol_index"] == 1] == [900]
    skipped = sum(values["skipped"] for values in found)
    assert skipped > 0
    assert len(found) + skipped == 61
    assert bench.read(registers.BBO_CONFLATED) == skipped
    bench.feed(bench.add(7, "B", 160))
    (quote,) = drained(bench)
    assert (quote[1]["bid_price"], quote[1]["skipped"]) == (160, 0)
    assert bench.read(registers.MARKET_SKIPPED) == 0


def test_other_market_records_without_a_slot_are_counted(bench):
    bench.start(market=2)
    for _ in range(6):
        bench.feed(*(bench.trading_action("Q") for _ in range(10)))
    kinds = [kind for kind, _ in drained(bench)]
    skipped = bench.read(registers.MARKET_SKIPPED)
    assert skipped > 0
    assert kinds[:2] == ["STATUS", "BBO"]
    assert kinds.count("STATUS") + skipped == 60
    assert bench.read(registers.BBO_CONFLATED) == 0


def test_lost_messages_make_every_symbol_stale_and_are_counted(bench):
    bench.write(registers.FEED_GAP_TIMEOUT_NS, 100)
    bench.started()
    bench.feed(bench.add(9, "B", BUY_AT), sequence=6)
    bench.advance(101)
    records = bench.take(bench.market)
    assert [kind for kind, _ in records] == ["GAP", "BBO", "BBO", "BBO"]
    assert (records[0][1]["first_sequence"], records[0][1]["message_count"]) == (3, 3)
    assert {values["stale_reason"] for _, values in records[1:]} == {StaleReason.GAP}
    assert bench.read(registers.MESSAGES_LOST) == 3
    assert bench.read(registers.MESSAGES_RECEIVED) == 3
    assert bench.read(registers.STALE_SYMBOLS) == 2


def test_either_line_fills_what_the_other_lost(bench):
    bench.started()
    bench.feed(bench.add(4, "B", BUY_AT + 2), sequence=4, port=Port.FEED_A)
    bench.feed(bench.add(3, "B", BUY_AT + 1), sequence=3, port=Port.FEED_B)
    bids = [values["bid_price"] for _, values in bench.take(bench.market)]
    assert bids == [BUY_AT + 1, BUY_AT + 2]
    assert bench.read(registers.HELD_HIGH_WATER) == 1
    assert [bench.read(registers.FRAMES_RECEIVED, port) for port in (0, 1)] == [2, 1]


# Execution ring.


def test_order_is_not_sent_without_a_slot_for_each_of_its_answers(bench):
    # Seven slots: one for SENT, three for each open order. Two of the first order's stay reserved
    # while its SENT waits to be read.
    bench.started(execution=8)
    bench.new()
    bench.new()
    assert bench.answers("reason") == [("SENT",), ("SENT",)]
    bench.new()
    assert bench.answers("reason") == [("DENIED", DenyReason.NO_RING_SLOT)]
    assert len(bench.ouch()) == 2


def test_answers_wait_on_the_card_and_come_in_order_when_the_host_reads_again(bench):
    bench.started(execution=8)
    order = bench.new(100)
    packets = [bench.accepted(order), *(bench.executed(order, 5, match=n) for n in range(1, 21))]
    for data in packets:
        bench.venue(data)
    assert bench.read(registers.EXECUTION_HIGH_WATER) == 8
    found = []
    for _ in range(10):
        found += bench.take(bench.execution, most=3)
        bench.advance(1)
    assert [kind for kind, _ in found] == ["SENT", "ACCEPTED"] + ["EXECUTED"] * 20
    assert [values["match_number"] for _, values in found[2:]] == list(range(1, 21))
    assert bench.read(registers.ANSWERS_RECEIVED) == 21


@pytest.mark.parametrize("end", [TcpFlag.FIN, TcpFlag.RST])
def test_answers_that_wait_outlive_the_connection(bench, end):
    bench.started(execution=4)
    order = bench.new(100)
    bench.venue(bench.accepted(order) + b"".join(bench.executed(order, 25) for _ in range(4)))
    bench.venue(b"", TcpFlag.ACK | end)
    assert bench.read(registers.ORDER_SESSION) == 0
    found = bench.answers("last_qty")
    bench.advance(1)
    found += bench.answers("last_qty")
    assert found == [("SENT",), ("ACCEPTED",), *[("EXECUTED", 25)] * 4]


# Command ring.


def test_commands_wait_while_no_answer_could_be_given_and_are_taken_in_order(bench):
    bench.started(execution=2)
    for number in (1, 2, 3):
        bench.cancel(number)
    taken = bench.read(registers.COMMANDS_RECEIVED)
    assert bench.answers("cl_ord_id", "reason", "command_sequence") == [
        ("DENIED", 1, DenyReason.UNKNOWN_ORDER, taken - 1),
        ("DENIED", 2, DenyReason.UNKNOWN_ORDER, taken),
    ]
    bench.card.poll_commands(bench.now_ns)
    assert bench.commands.free == bench.commands.slots
    assert bench.answers("cl_ord_id") == [("DENIED", 3)]
    assert bench.read(registers.COMMANDS_RECEIVED) == taken + 1


def test_command_of_an_unknown_type_is_taken_and_means_nothing(bench):
    bench.started()
    assert bench.commands.put(bytes((0x77,)) + bytes(63))
    bench.card.poll_commands(0)
    assert bench.commands.free == bench.commands.slots
    assert bench.answers() == []


def test_rings_may_lie_anywhere_in_the_memory(bench):
    bench.place(market=4, execution=8, command=4)
    base = bench.read(registers.COMMAND_BASE)
    assert base == ring_size(4) + ring_size(8)
    bench.write(registers.CONTROL, 1)
    bench.command(ring.CANCEL, cl_ord_id=1, order_qty=0)
    assert bench.answers("command_type") == [("DENIED", ring.RecordType.CANCEL)]
