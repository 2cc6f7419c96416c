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


def bbo(index, price=13):
    return ring.BBO.pack(BBO | {"symbol_index": index, "bid_price": price})


def test_drain_takes_all_that_stands_and_names_each_changed_symbol_once(market):
    for index, price in ((2, 5), (0, 6), (2, 7)):
        assert market.writer.put(bbo(index, price))
    assert market.feed.drain() == 3
    assert market.feed.changed == [2, 0]
    assert [quote.bid_price for quote in market.feed.quotes] == [6, 0, 7]
    assert [record[32] for record in market.records] == [5, 6, 7]
    assert market.writer.free == 8
    assert market.feed.drain() == 0
    assert market.feed.changed == []


def test_drain_takes_no_more_than_it_may_and_goes_round_the_ring(market):
    for turn in range(5):
        for number in range(7):
            assert market.writer.put(bbo(1, 10 * turn + number))
        assert (market.feed.drain(3), market.writer.free) == (3, 4)
        assert market.feed.quotes[1].bid_price == 10 * turn + 2
        assert market.feed.drain() == 4
        assert market.feed.quotes[1].bid_price == 10 * turn + 6
    assert market.feed.record_count == 35


def test_without_a_journal_records_are_given_back_all_the_same():
    memory = memoryview(bytearray(ring_size(8)))
    writer, feed = RingWriter(memory, 0, 8), Feed(RingReader(memory, 0, 8), 3)
    for _ in range(8):
        assert writer.put(bbo(1))
    assert not writer.put(bbo(1))
    assert feed.drain() == 8
    assert writer.free == 8


@pytest.mark.parametrize("layout", [ring.BBO, ring.TRADE])
def test_record_of_a_symbol_that_is_none_raises_and_those_behind_it_wait(market, layout):
    values = {"last_qty": 1, "last_price": 1, "side": 66, "match_type": 69, "match_number": 1}
    wrong = (BBO if layout is ring.BBO else {"ts_feed_ns": 1, "feed_sequence": 2, **values}) | {
        "symbol_index": 3
    }
    for record in (bbo(1, 6), layout.pack(wrong), bbo(1, 8)):
        assert market.writer.put(record)
    with pytest.raises(RingError, match=r"^MARKET_RECORD_SYMBOL: symbol_index=3, symbol_count=3$"):
        market.feed.drain()
    assert market.feed.quotes[1].bid_price == 6
    assert len(market.records) == 2
    assert market.feed.poll() == 1
    assert market.feed.quotes[1].bid_price == 8


def test_quotes_differ_in_any_number_and_say_what_they_have():
    assert Quote(bid_price=1) != Quote(bid_price=2)
    assert Quote(phase=MarketPhase.REGULAR) != Quote()
    assert Quote(feed_sequence=3) != 3
    assert repr(Quote(bid_price=1, ask_qty=4)) == "Quote(bid_price=1, ask_qty=4)"


def test_number_of_64_bits_keeps_its_highest_bit(market):
    market.put(ring.BBO, **(BBO | {"feed_sequence": (1 << 64) - 2}))
    assert market.feed.quotes[1].feed_sequence == (1 << 64) - 2


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
