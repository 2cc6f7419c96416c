"""Parse and book stage: the card's books against the golden model, message by message."""

from random import Random

import pytest

from protocol import itch50, ring
from protocol.reasons import DropReason, StaleReason
from sim.card.functional.path import FeedPath
from sim.golden.book import Book as GoldenBook
from sim.golden.parse import parse
from sim.venue import flow
from sw.ring import RingReader, RingWriter, ring_size

LOCATES = (7, 8, 300)
"""Configured symbols; their index is the place in here."""
SYMBOLS = (("SYM0", 7), ("SYM1", 8), ("SYM2", 300))
UNCONFIGURED = 9
PRICES = (1_000_000, 1_000_100, 1_000_200, 0xFFFF_FFFF)


def add(locate: int, ref: int, side: str, shares: int, price: int, ts: int = 5) -> bytes:
    return itch50.ADD_ORDER.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=ts,
        order_reference_number=ref,
        buy_sell_indicator=side,
        shares=shares,
        stock="X",
        price=price,
    )


def execute(locate: int, ref: int, shares: int) -> bytes:
    return itch50.ORDER_EXECUTED.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=5,
        order_reference_number=ref,
        executed_shares=shares,
        match_number=44,
    )


def execute_at(locate: int, ref: int, shares: int, price: int, printable: str) -> bytes:
    return itch50.ORDER_EXECUTED_WITH_PRICE.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=5,
        order_reference_number=ref,
        executed_shares=shares,
        match_number=44,
        printable=printable,
        execution_price=price,
    )


def cancel(locate: int, ref: int, shares: int) -> bytes:
    return itch50.ORDER_CANCEL.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=5,
        order_reference_number=ref,
        canceled_shares=shares,
    )


def delete(locate: int, ref: int) -> bytes:
    return itch50.ORDER_DELETE.pack(
        stock_locate=locate, tracking_number=0, timestamp=5, order_reference_number=ref
    )


def replace(locate: int, old: int, new: int, shares: int, price: int) -> bytes:
    return itch50.ORDER_REPLACE.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=5,
        original_order_reference_number=old,
        new_order_reference_number=new,
        shares=shares,
        price=price,
    )


class Feed:
    """A feed path with the host's end of its ring, and the golden book beside it."""

    def __init__(self, order_count: int = 10_000, slots: int = 1 << 8, symbols=SYMBOLS):
        memory = memoryview(bytearray(ring_size(slots)))
        self.reader = RingReader(memory, 0, slots)
        self.path = FeedPath(len(LOCATES), order_count, RingWriter(memory, 0, slots))
        self.drops = self.path.drops
        for index, (stock, locate) in enumerate(symbols):
            self.path.configure(index, stock, locate)
        self.golden = GoldenBook()
        self.bbos = [(0,) * 6] * len(LOCATES)
        self.stale = [StaleReason.NONE] * len(LOCATES)
        self.sequence = 0

    def take(self) -> list[tuple[str, dict]]:
        """Take every record; best bids and offers go to the mirror."""
        found = []
        while (offset := self.reader.poll()) >= 0:
            record = bytes(self.reader.memory[offset : offset + ring.RECORD_SIZE])
            self.reader.release()
            values = ring.RECORDS.by_code[record[0]].unpack(record)
            found.append((ring.RecordType(record[0]).name, values))
            if record[0] == ring.RecordType.BBO:
                names = ("price", "qty", "orders")
                sides = (f"{side}_{name}" for side in ("bid", "ask") for name in names)
                self.bbos[values["symbol_index"]] = tuple(values[name] for name in sides)
                self.stale[values["symbol_index"]] = StaleReason(values["stale_reason"])
                assert (values["flags"] & ring.BboFlag.STALE != 0) == (values["stale_reason"] != 0)
        return found

    def apply(self, message: bytes, golden: bool = True) -> list[tuple[str, dict]]:
        self.sequence += 1
        self.path.apply(self.sequence, message, 1_000 + self.sequence)
        if golden:
            self.golden.apply(parse(message))
        return self.take()

    def compare(self, context: object = None) -> None:
        for index, locate in enumerate(LOCATES):
            assert self.bbos[index] == tuple(self.golden.bbo(locate)), context
            assert self.stale[index] == self.golden.stale.get(locate, StaleReason.NONE), context


A, B = LOCATES[:2]


@pytest.mark.parametrize(
    ("messages", "bbo", "reason"),
    [
        ([add(A, 1, "B", 100, 500)], (500, 100, 1, 0, 0, 0), StaleReason.NONE),
        ([add(A, 1, "S", 9, 500), add(A, 2, "S", 1, 500)], (0, 0, 0, 500, 10, 2), StaleReason.NONE),
        (
            [add(A, 1, "B", 100, 500), add(A, 2, "B", 50, 600), delete(A, 2)],
            (500, 100, 1, 0, 0, 0),
            StaleReason.NONE,
        ),
        (
            [add(A, 1, "S", 100, 500), add(A, 2, "S", 50, 400), execute(A, 2, 50)],
            (0, 0, 0, 500, 100, 1),
            StaleReason.NONE,
        ),
        ([add(A, 1, "B", 100, 500), cancel(A, 1, 99)], (500, 1, 1, 0, 0, 0), StaleReason.NONE),
        ([add(A, 1, "B", 100, 500), execute(A, 1, 0)], (500, 100, 1, 0, 0, 0), StaleReason.NONE),
        (
            [add(A, 1, "B", 100, 500), replace(A, 1, 2, 70, 450)],
            (450, 70, 1, 0, 0, 0),
            StaleReason.NONE,
        ),
        (
            [add(A, 1, "B", 9, 500), replace(A, 1, 1, 7, 450)],
            (450, 7, 1, 0, 0, 0),
            StaleReason.NONE,
        ),
        ([delete(A, 1)], (0,) * 6, StaleReason.UNKNOWN_REFERENCE),
        ([execute(A, 1, 5)], (0,) * 6, StaleReason.UNKNOWN_REFERENCE),
        ([cancel(A, 1, 5)], (0,) * 6, StaleReason.UNKNOWN_REFERENCE),
        ([replace(A, 1, 2, 5, 500)], (0,) * 6, StaleReason.UNKNOWN_REFERENCE),
        (
            [add(A, 1, "B", 100, 500), add(A, 1, "S", 10, 700)],
            (500, 100, 1, 0, 0, 0),
            StaleReason.DUPLICATE_REFERENCE,
        ),
        (
            [add(A, 1, "B", 1, 500), add(A, 2, "B", 1, 400), replace(A, 1, 2, 5, 450)],
            (400, 1, 1, 0, 0, 0),
            StaleReason.DUPLICATE_REFERENCE,
        ),
        (
            [add(A, 1, "B", 100, 500), cancel(A, 1, 101)],
            (0,) * 6,
            StaleReason.OVERFILL,
        ),
        ([add(A, 1, "B", 100, 500), execute(A, 1, 0xFFFF_FFFF)], (0,) * 6, StaleReason.OVERFILL),
        ([add(A, 1, "B", 0, 500)], (0,) * 6, StaleReason.INVALID_ORDER),
        ([add(A, 1, "X", 10, 500)], (0,) * 6, StaleReason.INVALID_ORDER),
        (
            [add(A, 1, "B", 5, 500), replace(A, 1, 2, 0, 500)],
            (0,) * 6,
            StaleReason.INVALID_ORDER,
        ),
        # Of several reasons the lowest code wins, and the first that came stays.
        (
            [add(A, 1, "B", 5, 500), add(A, 1, "X", 0, 500)],
            (500, 5, 1, 0, 0, 0),
            StaleReason.DUPLICATE_REFERENCE,
        ),
        (
            [add(A, 1, "X", 5, 500), delete(A, 9)],
            (0,) * 6,
            StaleReason.INVALID_ORDER,
        ),
    ],
)
def test_messages_give_this_best_bid_and_offer_and_this_condition(messages, bbo, reason):
    feed = Feed()
    for message in messages:
        feed.apply(message)
    assert feed.bbos[0] == bbo
    assert feed.stale[0] is reason
    assert feed.path.counter("stale_count") == (reason is not StaleReason.NONE)
    feed.compare()


@pytest.mark.parametrize(
    "message", [delete(B, 1), cancel(B, 1, 5), execute(B, 1, 5), replace(B, 1, 2, 5, 500)]
)
def test_wrong_locate_makes_the_message_s_and_the_order_s_symbol_stale(message):
    feed = Feed()
    feed.apply(add(A, 1, "B", 100, 500))
    feed.apply(message)
    assert feed.stale == [StaleReason.LOCATE_MISMATCH, StaleReason.LOCATE_MISMATCH, 0]
    assert feed.bbos[0] == (500, 100, 1, 0, 0, 0)
    feed.compare()


def test_order_beyond_the_memory_makes_its_symbol_stale_and_no_other():
    feed = Feed(order_count=2)
    feed.apply(add(A, 1, "B", 100, 500))
    feed.apply(add(A, 2, "B", 100, 500))
    assert feed.stale == [0, 0, 0]
    feed.apply(add(B, 3, "B", 100, 500), golden=False)
    assert feed.stale == [0, StaleReason.ORDER_MAP_FULL, 0]
    assert feed.bbos[1] == (0,) * 6


def test_level_that_does_not_fit_the_record_makes_its_symbol_stale():
    feed = Feed()
    feed.apply(add(A, 1, "S", 0xFFFF_FFFF, 500))
    assert feed.stale[0] is StaleReason.NONE
    feed.apply(add(A, 2, "S", 1, 500))
    assert feed.stale[0] is StaleReason.LEVEL_OVERFLOW
    assert feed.bbos[0] == (0, 0, 0, 500, 0xFFFF_FFFF, 2)


def test_gap_makes_every_configured_symbol_stale_and_is_told_once():
    feed = Feed()
    feed.apply(add(A, 1, "B", 100, 500))
    feed.path.lose(2, 5, 99)
    feed.golden.mark_gap()
    (gap, *rest) = feed.take()
    assert gap[0] == "GAP"
    assert (gap[1]["first_sequence"], gap[1]["message_count"]) == (2, 5)
    assert gap[1]["symbol_index"] == ring.ALL_MARKET
    assert [(kind, values["symbol_index"]) for kind, values in rest] == [
        ("BBO", 0),
        ("BBO", 1),
        ("BBO", 2),
    ]
    assert feed.stale == [StaleReason.GAP] * 3
    assert feed.path.counter("messages_lost") == 5
    assert feed.bbos[0] == (500, 100, 1, 0, 0, 0)


def test_system_event_is_told_for_the_whole_market():
    event = itch50.SYSTEM_EVENT.pack(stock_locate=0, tracking_number=0, timestamp=5, event_code="Q")
    ((kind, values),) = Feed().apply(event)
    assert (kind, values["symbol_index"]) == ("STATUS", ring.ALL_MARKET)
    assert (values["message_type"], values["status"]) == (ord("S"), ord("Q"))


def test_quote_that_waited_for_a_slot_is_written_as_it_was_before_the_message_that_follows():
    feed = Feed(slots=2)
    for number in (1, 2, 3):
        feed.path.apply(number, add(A, number, "B", 100, 500 + number), 0)
    feed.take()
    halt = itch50.STOCK_TRADING_ACTION.pack(
        stock_locate=A,
        tracking_number=0,
        timestamp=5,
        stock="X",
        trading_state="H",
        reserved=" ",
        reason_code="",
    )
    feed.path.apply(4, halt, 0)
    waited, status = feed.take()
    assert (waited[1]["feed_sequence"], waited[1]["trading_state"]) == (3, 0)
    assert (status[0], status[1]["feed_sequence"], status[1]["status"]) == ("STATUS", 4, ord("H"))
    feed.path.advance(0)
    ((_, quote),) = feed.take()
    assert (quote["feed_sequence"], quote["trading_state"]) == (4, ord("H"))


def test_change_behind_the_best_level_is_not_published():
    feed = Feed()
    feed.apply(add(A, 1, "B", 100, 500))
    assert feed.apply(add(A, 2, "B", 100, 499)) == []
    assert feed.apply(delete(A, 2)) == []


def test_record_carries_the_cause_s_time_and_sequence():
    feed = Feed()
    feed.apply(add(B, 9, "B", 1, 1))
    ((kind, values),) = feed.apply(add(A, 1, "B", 100, 500, ts=123_456_789))
    assert kind == "BBO"
    assert values["symbol_index"] == 0
    assert values["ts_feed_ns"] == 123_456_789
    assert values["feed_sequence"] == 2
    assert values["ts_card_ns"] == 1_002
    assert values["skipped"] == 0


def trade(code: str, shares: int, price: int) -> bytes:
    if code == "P":
        return itch50.TRADE.pack(
            stock_locate=A,
            tracking_number=0,
            timestamp=5,
            order_reference_number=0,
            buy_sell_indicator="B",
            shares=shares,
            stock="X",
            price=price,
            match_number=44,
        )
    return itch50.CROSS_TRADE.pack(
        stock_locate=A,
        tracking_number=0,
        timestamp=5,
        cross_shares=shares,
        stock="X",
        cross_price=price,
        match_number=44,
        cross_type="O",
    )


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        # Shares, price, side of the resting order, ITCH type.
        (execute(A, 1, 30), (30, 500, ord("B"), ord("E"))),
        (execute(A, 2, 7), (7, 600, ord("S"), ord("E"))),
        (execute_at(A, 2, 7, 555, "Y"), (7, 555, ord("S"), ord("C"))),
        (execute_at(A, 2, 7, 555, "N"), None),  # Not printable: told by another message.
        (execute(A, 99, 7), None),
        (trade("P", 12, 444), (12, 444, 0, ord("P"))),
        (trade("Q", 13, 445), (13, 445, 0, ord("Q"))),
        (trade("Q", 1 << 40, 445), (0xFFFF_FFFF, 445, 0, ord("Q"))),
        (trade("Q", 0, 445), None),  # A cross without shares is no trade.
    ],
)
def test_executions_and_trades_are_told_with_price_and_side(message, expected):
    feed = Feed()
    feed.apply(add(A, 1, "B", 100, 500))
    feed.apply(add(A, 2, "S", 100, 600))
    records = [values for kind, values in feed.apply(message, golden=False) if kind == "TRADE"]
    names = ("last_qty", "last_price", "side", "match_type")
    assert [tuple(r[n] for n in names) for r in records] == ([expected] if expected else [])
    for record in records:
        assert (record["symbol_index"], record["match_number"]) == (0, 44)
        assert (record["feed_sequence"], record["ts_feed_ns"], record["ts_card_ns"]) == (
            3,
            5,
            1_003,
        )


@pytest.mark.parametrize(
    ("message", "price"),
    [
        (execute(A, 1, 30), 500),
        (execute_at(A, 2, 7, 555, "Y"), 555),
        (execute_at(A, 2, 7, 555, "N"), 0),
        (trade("P", 12, 444), 444),
        (trade("Q", 13, 445), 445),
        (trade("Q", 0, 445), 0),
    ],
)
def test_gate_is_told_the_price_of_the_newest_trade(message, price):
    feed = Feed()
    feed.apply(add(A, 1, "B", 100, 500))
    feed.apply(add(A, 2, "S", 100, 600))
    assert feed.path.market_of(0).last_price == 0
    feed.apply(message, golden=False)
    market = feed.path.market_of(0)
    assert (market.bid_price, market.ask_price, market.last_price) == (500, 600, price)
    assert feed.path.market_of(1).last_price == 0


def operation(rng: Random, locates: tuple[int, ...], refs: int) -> bytes:
    """Return any book message, sound or not."""
    locate, ref, other = rng.choice(locates), rng.randrange(refs), rng.randrange(refs)
    shares = rng.choice((0, 1, 5, 10, 10, 15))
    price = rng.choice(PRICES)
    kind = rng.randrange(10)
    if kind < 4:
        return add(locate, ref, rng.choice("BBBSSSSX"), shares, price)
    if kind == 4:
        return execute(locate, ref, shares)
    if kind == 5:
        return execute_at(locate, ref, shares, price, rng.choice("YN"))
    if kind == 6:
        return cancel(locate, ref, shares)
    if kind == 7:
        return delete(locate, ref)
    return replace(locate, ref, other, shares, price)


@pytest.mark.parametrize("seed", range(25))
def test_adversarial_messages_give_the_golden_model_s_books_and_conditions(seed):
    # Only configured locates: of the others the card remembers no order, so a message that names
    # an order across that border is UNKNOWN_REFERENCE here and LOCATE_MISMATCH there.
    rng, feed = Random(seed), Feed()
    for number in range(400):
        message = operation(rng, LOCATES, refs=40)
        feed.apply(message)
        feed.compare(f"seed={seed}, message={number}, {message.hex()}")
        if rng.random() < 0.002:
            feed.path.lose(feed.sequence, 1, 0)
            feed.golden.mark_gap()
            feed.take()
    assert all(feed.stale)


@pytest.mark.parametrize("seed", range(4))
def test_books_stay_exact_while_faults_hit_one_symbol(seed):
    # References are parted by symbol, so that the others see legal messages only, and long enough
    # for deep books.
    rng, feed = Random(seed), Feed()
    live: dict[int, list[int]] = {locate: [] for locate in LOCATES}
    for number in range(1_500):
        locate = rng.choice(LOCATES)
        if locate == LOCATES[2] and rng.random() < 0.3:
            message = operation(rng, LOCATES[2:], refs=30)
        elif live[locate] and rng.random() < 0.48:
            message = delete(locate, live[locate].pop(rng.randrange(len(live[locate]))))
        else:
            live[locate].append(1_000 + number)
            price = 10_000 + 100 * rng.randrange(60)
            message = add(locate, 1_000 + number, rng.choice("BS"), rng.randint(1, 9), price)
        feed.apply(message)
        feed.compare(f"seed={seed}, message={number}, {message.hex()}")
    assert feed.stale[:2] == [StaleReason.NONE, StaleReason.NONE]
    assert feed.stale[2] is not StaleReason.NONE


@pytest.mark.parametrize("seed", [1, 2])
def test_legal_day_gives_the_golden_model_s_books_and_nothing_is_stale(seed):
    # Locates are to be learnt from the Stock Directory messages.
    feed = Feed(symbols=(("AAPL", 0), ("MSFT", 0), ("TSLA", 0)))
    trades = 0
    for number, message in enumerate(flow.generate(seed, ("AAPL", "TSLA", "MSFT", "IBM"), 3_000)):
        records = feed.apply(message)
        trades += sum(1 for kind, _ in records if kind == "TRADE")
        for index, locate in enumerate((1, 3, 2)):
            assert feed.bbos[index] == tuple(feed.golden.bbo(locate)), f"message={number}"
    assert feed.stale == [StaleReason.NONE] * 3
    assert feed.drops[DropReason.UNKNOWN_SYMBOL] > 0
    assert feed.path.counter("messages_received") == number + 1
    assert trades > 10


def test_messages_of_a_locate_that_is_not_configured_change_nothing_and_are_counted():
    feed = Feed()
    feed.apply(add(A, 1, "B", 100, 500))
    assert feed.apply(add(UNCONFIGURED, 2, "B", 100, 900), golden=False) == []
    assert feed.apply(delete(UNCONFIGURED, 1), golden=False) == []  # Golden: LOCATE_MISMATCH.
    assert feed.drops[DropReason.UNKNOWN_SYMBOL] == 2
    assert feed.stale == [StaleReason.NONE] * 3
    feed.apply(delete(A, 2), golden=False)
    assert feed.stale[0] is StaleReason.UNKNOWN_REFERENCE  # Golden: LOCATE_MISMATCH.


@pytest.mark.parametrize("message", [b"?", b"A", add(A, 1, "B", 1, 1) + b"\0", b"\xff" * 36])
def test_message_of_unknown_type_or_length_is_counted_and_changes_nothing(message):
    feed = Feed()
    assert feed.apply(message, golden=False) == []
    assert feed.drops[DropReason.UNKNOWN_MESSAGE] == 1
    assert feed.apply(b"", golden=False) == []
    assert sum(feed.drops) == 1
    assert feed.path.counter("messages_received") == 2
