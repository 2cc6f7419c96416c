"""The mirror of the market ring: every field of a quote, and what makes a symbol tradable."""

import pytest

from protocol import ring
from protocol.market import MarketPhase
from protocol.reasons import StaleReason
from sw.errors import RingError
from sw.feed import Feed, Quote
from sw.ring import RingReader, RingWriter, ring_size


class Market:
    """A feed and the card's end of its ring."""

    def __init__(self):
        memory = memoryview(bytearray(ring_size(8)))
        self.writer = RingWriter(memory, 0, 8)
        self.records = []
        self.feed = Feed(RingReader(memory, 0, 8), 3, self.records.append)

    def put(self, layout, **values):
        assert self.writer.put(layout.pack(**values))
        return self.feed.poll()


@pytest.fixture
def market():
    return Market()


BBO = {
    "symbol_index": 1,
    "skipped": 4,
    "ts_feed_ns": 11,
    "feed_sequence": 12,
    "bid_price": 13,
    "ask_price": 14,
    "bid_qty": 15,
    "ask_qty": 16,
    "bid_orders": 17,
    "ask_orders": 18,
    "stale_reason": 0,
    "trading_state": ord("T"),
}


def test_record_of_a_best_bid_and_offer_becomes_the_symbol_s_quote(market):
    assert market.put(ring.BBO, **BBO) == 1
    assert market.feed.quotes == [
        Quote(),
        Quote(
            bid_price=13,
            bid_qty=15,
            bid_orders=17,
            ask_price=14,
            ask_qty=16,
            ask_orders=18,
            ts_feed_ns=11,
            feed_sequence=12,
            stale_reason=StaleReason.NONE,
            trading_state=ord("T"),
            skipped=4,
        ),
        Quote(),
    ]


def test_newest_record_replaces_all_but_what_was_skipped_in_total(market):
    market.put(ring.BBO, **BBO)
    market.put(ring.BBO, **(BBO | {"bid_price": 0, "bid_qty": 0, "stale_reason": 4, "skipped": 3}))
    quote = market.feed.quotes[1]
    assert (quote.bid_price, quote.bid_qty, quote.ask_price) == (0, 0, 14)
    assert quote.stale_reason is StaleReason.OVERFILL
    assert quote.skipped == 7
    assert market.feed.record_count == 2


def test_quote_stays_the_same_object_for_those_who_hold_it(market):
    held = market.feed.quotes[1]
    market.put(ring.BBO, **BBO)
    assert held is market.feed.quotes[1]
    assert held.bid_price == 13


def test_records_that_change_no_quote_say_so_and_gaps_are_counted(market):
    head = {"symbol_index": 1, "ts_feed_ns": 1, "feed_sequence": 2}
    assert market.feed.poll() is None
    assert market.put(ring.STATUS, **head, message_type=ord("H"), status=ord("H")) == 0xFFFF
    assert (
        market.put(
            ring.TRADE, **head, last_qty=5, last_price=6, side=66, match_type=69, match_number=7
        )
        == 0xFFFF
    )
    for count in (3, 4):
        found = market.put(ring.GAP, symbol_index=0xFFFF, first_sequence=9, message_count=count)
        assert found == 0xFFFF
    assert (market.feed.gap_count, market.feed.messages_lost, market.feed.record_count) == (2, 7, 4)
    assert market.feed.quotes == [Quote(), Quote(last_price=6), Quote()]
    assert market.feed.poll() is None


@pytest.mark.parametrize(
    ("event", "phase"),
    [
        ("O", MarketPhase.CLOSED),
        ("S", MarketPhase.PRE_MARKET),
        ("Q", MarketPhase.REGULAR),
        ("M", MarketPhase.POST_MARKET),
        ("E", MarketPhase.CLOSED),
        ("C", MarketPhase.CLOSED),
        ("X", MarketPhase.UNKNOWN),
    ],
)
def test_system_event_begins_the_phase_of_every_symbol(market, event, phase):
    head = {"symbol_index": 0xFFFF, "ts_feed_ns": 1, "feed_sequence": 2}
    market.put(ring.STATUS, **head, message_type=ord("S"), status=ord(event))
    assert [quote.phase for quote in market.feed.quotes] == [phase] * 3


def test_every_record_goes_to_the_journal_as_it_stood(market):
    market.put(ring.BBO, **BBO)
    (record,) = market.records
    assert record[:56] == ring.BBO.pack(**BBO)[:56]
    assert record[56:] == (1).to_bytes(8, "little")


def test_record_of_another_ring_raises(market):
    with pytest.raises(RingError, match=r"^MARKET_RECORD_UNKNOWN: type=0x36$"):
        market.put(ring.HEARTBEAT)


@pytest.mark.parametrize(
    ("state", "halted"),
    [(0, False), ("T", False), ("H", True), ("P", True), ("Q", True), ("x", True)],
)
def test_every_state_but_trading_and_unknown_halts(state, halted):
    number = ord(state) if state else 0
    quote = Quote(bid_price=1, ask_price=2, trading_state=number)
    assert quote.halted is halted
    assert quote.tradable is not halted


@pytest.mark.parametrize(
    ("bid", "ask", "stale", "tradable"),
    [
        (99, 100, StaleReason.NONE, True),
        (100, 100, StaleReason.NONE, False),
        (101, 100, StaleReason.NONE, False),
        (0, 100, StaleReason.NONE, False),
        (99, 0, StaleReason.NONE, False),
        (0, 0, StaleReason.NONE, False),
        (99, 100, StaleReason.GAP, False),
    ],
)
def test_symbol_is_tradable_when_its_book_is_exact_two_sided_and_not_crossed(
    bid, ask, stale, tradable
):
    assert Quote(bid_price=bid, ask_price=ask, stale_reason=stale).tradable is tradable
