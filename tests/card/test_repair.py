"""Book repair by commands, on every card that has it: emptied, filled, and live again or not."""

import pytest

from protocol import registers, ring
from protocol.itch50 import OPERATIONAL_HALT, SYSTEM_EVENT
from protocol.reasons import DropReason, StaleReason
from protocol.registers import Capability

BID, ASK = 1_000_000, 1_000_100
LIVE = int(ring.RepairFlag.LIVE)
GAP, UNDER_REPAIR = int(StaleReason.GAP), int(StaleReason.UNDER_REPAIR)


@pytest.fixture
def repairable(bench):
    """A started card with a bid and an offer in its first symbol; the next message is number 3."""
    if not bench.read(registers.CAPABILITIES) >> Capability.BOOK_REPAIR & 1:
        pytest.skip("the card's books cannot be repaired")
    bench.started()
    return bench


def clear(bench, index=0, locate=0):
    bench.command(ring.BOOK_CLEAR, symbol_index=index, stock_locate=locate)


def put(bench, ref, side="B", qty=100, price=BID, index=0):
    bench.command(
        ring.BOOK_ADD,
        symbol_index=index,
        side=ord(side),
        order_qty=qty,
        price=price,
        order_reference=ref,
    )


def take(bench, ref, index=0):
    bench.command(ring.BOOK_DELETE, symbol_index=index, order_reference=ref)


def live(bench, sequence, index=0, **more):
    bench.command(ring.BOOK_LIVE, symbol_index=index, next_sequence=sequence, **more)


def told(bench):
    """Take market records: answers to repairs, and what is told of best prices."""
    found = []
    for kind, values in bench.take(bench.market):
        if kind == "REPAIR":
            names = ("symbol_index", "flags", "from_sequence", "next_sequence", "stale_reason")
        elif kind == "BBO":
            names = ("symbol_index", "stale_reason", "bid_price", "bid_qty", "ask_price", "ask_qty")
        else:
            names = ()
        found.append((kind, *(values[name] for name in names)))
    return found


def test_book_is_emptied_filled_and_live_again(repairable):
    bench = repairable
    clear(bench)
    assert told(bench) == [("BBO", 0, UNDER_REPAIR, 0, 0, 0, 0), ("REPAIR", 0, 0, 3, 3, GAP)]
    put(bench, 7, "B", 30, BID - 100)
    put(bench, 8, "B", 20, BID - 100)
    put(bench, 9, "S", 10, ASK + 100)
    assert told(bench) == []
    live(bench, 3)
    assert told(bench) == [
        ("BBO", 0, 0, BID - 100, 50, ASK + 100, 10),
        ("REPAIR", 0, LIVE, 3, 3, 0),
    ]
    bench.feed(bench.delete(8))
    assert told(bench) == [("BBO", 0, 0, BID - 100, 30, ASK + 100, 10)]


def test_stale_book_keeps_its_first_reason_until_it_is_live(repairable):
    bench = repairable
    bench.feed(bench.delete(55))
    reason = int(StaleReason.UNKNOWN_REFERENCE)
    assert told(bench) == [("BBO", 0, reason, BID, 100, ASK, 100)]
    assert bench.read(registers.STALE_SYMBOLS) == 1
    clear(bench)
    assert told(bench) == [("BBO", 0, reason, 0, 0, 0, 0), ("REPAIR", 0, 0, 4, 4, GAP)]
    live(bench, 4)
    assert told(bench) == [("BBO", 0, 0, 0, 0, 0, 0), ("REPAIR", 0, LIVE, 4, 4, 0)]
    assert bench.read(registers.STALE_SYMBOLS) == 0


def test_messages_under_repair_are_passed_over_and_must_be_in_the_book(repairable):
    bench = repairable
    clear(bench)
    bench.feed(bench.add(20, "B", BID + 100), bench.add(21, "B", BID, locate=8))
    told(bench)
    assert bench.read(registers.DROPS, DropReason.UNDER_REPAIR) == 1
    live(bench, 3)
    assert told(bench) == [("REPAIR", 0, 0, 4, 5, GAP)]
    put(bench, 20, "B", 100, BID + 100)
    live(bench, 4)
    assert told(bench) == [("BBO", 0, 0, BID + 100, 100, 0, 0), ("REPAIR", 0, LIVE, 4, 5, 0)]


def test_card_that_is_behind_is_not_live_before_its_time(repairable):
    bench = repairable
    clear(bench)
    told(bench)
    live(bench, 5)
    assert told(bench) == [("REPAIR", 0, 0, 3, 3, GAP)]
    bench.feed(bench.add(20, "B", BID), bench.delete(20))
    live(bench, 5)
    assert [kind for kind, *_ in told(bench)] == ["BBO", "REPAIR"]


def test_messages_that_are_lost_under_repair_must_be_in_the_book(repairable):
    bench = repairable
    clear(bench)
    bench.feed(bench.add(30, "B", BID, locate=8), sequence=6)
    bench.now_ns += 2_000_000
    bench.card.advance(bench.now_ns)
    told(bench)
    live(bench, 5)
    assert told(bench) == [("REPAIR", 0, 0, 6, 7, GAP)]
    live(bench, 6)
    assert told(bench)[-1] == ("REPAIR", 0, LIVE, 6, 7, 0)


def test_later_gap_makes_a_repaired_book_stale_again(repairable):
    bench = repairable
    clear(bench)
    live(bench, 3)
    told(bench)
    bench.feed(bench.add(30, "B", BID, locate=8), sequence=9)
    bench.now_ns += 2_000_000
    bench.card.advance(bench.now_ns)
    assert ("BBO", 0, GAP, 0, 0, 0, 0) in told(bench)


@pytest.mark.parametrize(
    ("orders", "reason"),
    [
        ([(7, "B", 0, BID)], StaleReason.INVALID_ORDER),
        ([(7, "X", 1, BID)], StaleReason.INVALID_ORDER),
        ([(7, "B", 1, BID), (7, "B", 1, BID)], StaleReason.DUPLICATE_REFERENCE),
        ([(900 + n, "B", 1, BID) for n in range(200)], StaleReason.ORDER_MAP_FULL),
    ],
)
def test_book_with_an_order_that_was_refused_is_not_live(repairable, orders, reason):
    bench = repairable
    clear(bench)
    for order in orders:
        put(bench, *order)
    told(bench)
    live(bench, 3)
    assert told(bench) == [("REPAIR", 0, 0, 3, 3, int(reason))]
    clear(bench)
    bench.advance(1_000_000)  # A full order map takes a while to be searched.
    live(bench, 3)
    assert told(bench)[-1] == ("REPAIR", 0, LIVE, 3, 3, 0)


def test_order_that_is_not_there_cannot_be_taken_off(repairable):
    bench = repairable
    clear(bench)
    put(bench, 7)
    take(bench, 7)
    take(bench, 7)
    told(bench)
    live(bench, 3)
    assert told(bench) == [("REPAIR", 0, 0, 3, 3, int(StaleReason.UNKNOWN_REFERENCE))]


def test_other_symbols_and_their_orders_are_left_alone(repairable):
    bench = repairable
    bench.feed(bench.add(50, "B", BID, locate=8))
    told(bench)
    clear(bench)
    told(bench)
    put(bench, 51, index=1)
    take(bench, 50, index=1)
    live(bench, 4, index=1)
    assert told(bench) == [("REPAIR", 1, LIVE, 4, 4, 0)]
    bench.feed(bench.add(52, "B", BID, locate=8))
    assert told(bench) == [("BBO", 1, 0, BID, 200, 0, 0)]


def test_symbol_that_is_left_for_another_stays_stale_and_takes_messages(repairable):
    bench = repairable
    clear(bench)
    clear(bench, index=1)
    told(bench)
    bench.feed(bench.add(20, "B", BID - 100))
    assert told(bench) == [("BBO", 0, UNDER_REPAIR, BID - 100, 100, 0, 0)]
    live(bench, 4)
    assert told(bench) == [("REPAIR", 0, 0, 3, 4, UNDER_REPAIR)]


def test_trading_state_and_locate_come_with_the_repair(repairable):
    bench = repairable
    clear(bench, index=1, locate=77)
    bench.feed(bench.add(60, "B", BID, locate=77))
    told(bench)
    live(bench, 4, index=1, trading_state=ord("H"))
    found = [values for kind, values in bench.take(bench.market) if kind == "BBO"]
    assert [(v["symbol_index"], v["trading_state"]) for v in found] == [(1, ord("H"))]
    bench.new(symbol_index=1)
    assert bench.answers("reason")[0][0] == "DENIED"


def test_system_event_that_was_lost_is_told_and_an_older_one_is_not(repairable):
    bench = repairable
    clear(bench)
    told(bench)
    live(bench, 3, event_code=ord("Q"))
    status = [values for kind, values in bench.take(bench.market) if kind == "STATUS"]
    assert [chr(values["status"]) for values in status] == ["Q"]
    clear(bench)
    bench.feed(SYSTEM_EVENT.pack(stock_locate=0, tracking_number=0, timestamp=5, event_code="M"))
    told(bench)
    live(bench, 3, event_code=ord("Q"))
    assert [kind for kind, *_ in told(bench)] == ["BBO", "REPAIR"]
    clear(bench)
    told(bench)
    live(bench, 4, event_code=ord("E"))
    assert [kind for kind, *_ in told(bench)] == ["STATUS", "BBO", "REPAIR"]


def test_halt_under_repair_is_the_hosts_to_tell(repairable):
    bench = repairable
    clear(bench)
    halt = OPERATIONAL_HALT.pack(
        stock_locate=7,
        tracking_number=0,
        timestamp=5,
        stock="AAPL",
        market_code="Q",
        operational_halt_action="H",
    )
    bench.feed(halt)
    told(bench)
    live(bench, 3)
    assert told(bench) == [("REPAIR", 0, 0, 4, 4, GAP)]


@pytest.mark.parametrize("index", [2, 4, 9_999, ring.ALL_MARKET])
def test_repair_of_no_symbol_does_nothing(repairable, index):
    bench = repairable
    clear(bench, index)
    put(bench, 70, index=index)
    take(bench, 70, index=index)
    live(bench, 3, index)
    assert told(bench) == []


def test_orders_are_denied_until_the_book_is_live(repairable):
    bench = repairable
    clear(bench)
    number = bench.new()
    assert bench.answers("cl_ord_id", "reason") == [("DENIED", number, 5)]
    put(bench, 7)
    put(bench, 8, "S", 100, ASK)
    live(bench, 3)
    bench.new()
    assert bench.answers()[0][0] == "SENT"
