"""Each rule of the book by example, a naive book at random, and real order flow."""

import csv
import struct
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.reasons import StaleReason
from sim.golden import parse as itch
from sim.golden.book import EMPTY_BBO, Bbo, Book, Change, Side
from sim.golden.parse import Message

AAPL, MSFT = 13, 14


def add(
    reference: int, side: str, shares: int, price: int, locate: int = AAPL, stock: str = "AAPL"
) -> Message:
    return itch.AddOrder(locate, 0, 0, reference, side, shares, stock, price)


def executed(reference: int, shares: int, locate: int = AAPL) -> Message:
    return itch.OrderExecuted(locate, 0, 0, reference, shares, 1)


def executed_with_price(reference: int, shares: int, locate: int = AAPL) -> Message:
    return itch.OrderExecutedWithPrice(locate, 0, 0, reference, shares, 1, "Y", 1)


def cancel(reference: int, shares: int, locate: int = AAPL) -> Message:
    return itch.OrderCancel(locate, 0, 0, reference, shares)


def delete(reference: int, locate: int = AAPL) -> Message:
    return itch.OrderDelete(locate, 0, 0, reference)


def replace(original: int, new: int, shares: int, price: int, locate: int = AAPL) -> Message:
    return itch.OrderReplace(locate, 0, 0, original, new, shares, price)


def book_of(*messages: Message) -> Book:
    book = Book()
    for message in messages:
        book.apply(message)
    return book


# Order flow.


def test_empty_book_is_all_zero() -> None:
    assert Book().bbo(AAPL) == Bbo(0, 0, 0, 0, 0, 0)
    assert Book().levels(AAPL, Side.BUY) == []
    assert Book().orders(AAPL, Side.SELL) == []


def test_first_order_is_the_best_of_its_side() -> None:
    book = Book()
    assert book.apply(add(1, "S", 300, 3_224_000)) == Change(
        AAPL, Bbo(0, 0, 0, 3_224_000, 300, 1), EMPTY_BBO
    )
    assert book.apply(add(2, "B", 200, 3_208_000)) == Change(
        AAPL, Bbo(3_208_000, 200, 1, 3_224_000, 300, 1), Bbo(0, 0, 0, 3_224_000, 300, 1)
    )


def test_order_with_participant_is_added_like_one_without() -> None:
    book = book_of(itch.AddOrderMpid(AAPL, 0, 0, 1, "B", 200, "AAPL", 100, "UBSS"))
    assert book.bbo(AAPL) == Bbo(100, 200, 1, 0, 0, 0)
    assert book.symbols == {AAPL: "AAPL"}


def test_levels_are_listed_best_first_with_quantity_and_order_count() -> None:
    book = book_of(
        add(1, "B", 10, 100),
        add(2, "B", 20, 102),
        add(3, "B", 30, 101),
        add(4, "B", 40, 102),
        add(5, "S", 50, 106),
        add(6, "S", 60, 105),
        add(7, "S", 70, 106),
    )
    assert book.levels(AAPL, Side.BUY) == [(102, 60, 2), (101, 30, 1), (100, 10, 1)]
    assert book.levels(AAPL, Side.SELL) == [(105, 60, 1), (106, 120, 2)]
    assert book.bbo(AAPL) == Bbo(102, 60, 2, 105, 60, 1)


def test_orders_are_listed_in_price_and_time_priority() -> None:
    book = book_of(
        add(9, "S", 10, 100), add(3, "S", 20, 100), add(5, "S", 30, 99), add(4, "S", 40, 100)
    )
    assert book.orders(AAPL, Side.SELL) == [(5, 99, 30), (9, 100, 10), (3, 100, 20), (4, 100, 40)]


def test_order_below_the_best_changes_nothing_at_the_best() -> None:
    book = book_of(add(1, "B", 10, 100))
    assert book.apply(add(2, "B", 10, 99)) is None
    assert book.apply(delete(2)) is None


@pytest.mark.parametrize("reduce", [executed, executed_with_price, cancel])
def test_reduced_order_keeps_its_place(reduce: type) -> None:
    book = book_of(add(1, "B", 100, 50), add(2, "B", 100, 50), reduce(1, 40))
    assert book.orders(AAPL, Side.BUY) == [(1, 50, 60), (2, 50, 100)]
    assert book.bbo(AAPL) == Bbo(50, 160, 2, 0, 0, 0)


@pytest.mark.parametrize("reduce", [executed, executed_with_price, cancel])
def test_order_without_shares_left_is_removed(reduce: type) -> None:
    book = book_of(add(1, "S", 100, 50), add(2, "S", 100, 51), reduce(1, 60), reduce(1, 40))
    assert book.bbo(AAPL) == Bbo(0, 0, 0, 51, 100, 1)
    assert book.levels(AAPL, Side.SELL) == [(51, 100, 1)]
    assert book.stale == {}
    book.apply(delete(1))
    assert book.stale == {AAPL: StaleReason.UNKNOWN_REFERENCE}


def test_deleted_order_leaves_with_all_its_shares() -> None:
    book = book_of(add(1, "B", 100, 50), add(2, "B", 70, 50), cancel(1, 10), delete(1))
    assert book.orders(AAPL, Side.BUY) == [(2, 50, 70)]
    book.apply(delete(2))
    assert (book.bbo(AAPL), book.stale) == (EMPTY_BBO, {})


def test_replaced_order_keeps_its_side_and_loses_its_place() -> None:
    book = book_of(
        add(1, "S", 100, 50), add(2, "S", 100, 50), replace(1, 3, 80, 50), add(4, "S", 5, 50)
    )
    assert book.orders(AAPL, Side.SELL) == [(2, 50, 100), (3, 50, 80), (4, 50, 5)]
    book.apply(delete(1))
    assert book.stale == {AAPL: StaleReason.UNKNOWN_REFERENCE}


def test_order_replaced_under_its_own_reference_is_moved() -> None:
    book = book_of(add(1, "B", 100, 50), replace(1, 1, 70, 51))
    assert (book.orders(AAPL, Side.BUY), book.stale) == ([(1, 51, 70)], {})


def test_symbols_do_not_touch_one_another() -> None:
    book = book_of(add(1, "B", 10, 100), add(2, "B", 20, 200, MSFT, "MSFT"))
    assert book.bbo(AAPL) == Bbo(100, 10, 1, 0, 0, 0)
    assert book.bbo(MSFT) == Bbo(200, 20, 1, 0, 0, 0)
    assert book.symbols == {AAPL: "AAPL", MSFT: "MSFT"}


def test_executed_shares_of_zero_change_nothing() -> None:
    book = book_of(add(1, "B", 100, 50))
    assert book.apply(executed(1, 0)) is None
    assert (book.orders(AAPL, Side.BUY), book.stale) == ([(1, 50, 100)], {})


# Changes.


@pytest.mark.parametrize(
    ("message", "bbo", "price_or_size"),
    [
        (add(9, "B", 5, 100), Bbo(100, 105, 2, 110, 80, 1), True),
        (add(9, "B", 5, 101), Bbo(101, 5, 1, 110, 80, 1), True),
        (add(9, "S", 5, 109), Bbo(100, 100, 1, 109, 5, 1), True),
        (cancel(2, 20), Bbo(100, 100, 1, 110, 60, 1), True),
        (replace(1, 9, 100, 99), Bbo(99, 100, 1, 110, 80, 1), True),
        (replace(1, 9, 100, 98), Bbo(98, 200, 2, 110, 80, 1), True),
    ],
)
def test_change_tells_before_and_after(message: Message, bbo: Bbo, price_or_size: bool) -> None:
    book = book_of(add(1, "B", 100, 100), add(2, "S", 80, 110), add(3, "B", 100, 98))
    change = book.apply(message)
    assert change == Change(AAPL, bbo, Bbo(100, 100, 1, 110, 80, 1))
    assert change is not None
    assert change.price_or_size_changed is price_or_size
    assert book.bbo(AAPL) == bbo


@pytest.mark.parametrize(
    ("bbo", "expected"),
    [
        (Bbo(9, 2, 3, 4, 5, 6), True),
        (Bbo(1, 9, 3, 4, 5, 6), True),
        (Bbo(1, 2, 9, 4, 5, 6), False),
        (Bbo(1, 2, 3, 9, 5, 6), True),
        (Bbo(1, 2, 3, 4, 9, 6), True),
        (Bbo(1, 2, 3, 4, 5, 9), False),
    ],
)
def test_order_count_alone_is_no_change_of_price_or_size(bbo: Bbo, expected: bool) -> None:
    assert Change(AAPL, bbo, Bbo(1, 2, 3, 4, 5, 6)).price_or_size_changed is expected


@pytest.mark.parametrize(
    "message",
    [
        itch.SystemEvent(0, 0, 0, "Q"),
        itch.StockTradingAction(AAPL, 0, 0, "AAPL", "H", " ", "T1"),
        itch.Trade(AAPL, 0, 0, 0, "B", 10, "AAPL", 100, 7),
        itch.CrossTrade(AAPL, 0, 0, 10, "AAPL", 100, 7, "O"),
        itch.BrokenTrade(AAPL, 0, 0, 7),
    ],
)
def test_messages_that_are_not_of_the_book_change_nothing(message: Message) -> None:
    book = book_of(add(1, "B", 10, 100))
    assert book.apply(message) is None
    assert (book.orders(AAPL, Side.BUY), book.stale) == ([(1, 100, 10)], {})


@pytest.mark.parametrize(
    "message",
    [
        itch.StockDirectory(7, 0, 0, "A.B", *"QN", 100, *"NCZPNN1N", 0, "N"),
        itch.StockTradingAction(7, 0, 0, "A.B", "H", " ", "T1"),
        itch.RegShoRestriction(7, 0, 0, "A.B", "0"),
        itch.MarketParticipantPosition(7, 0, 0, "MAXM", "A.B", "Y", "N", "A"),
        itch.QuotingPeriodUpdate(7, 0, 0, "A.B", 1, "A", 1),
        itch.LuldAuctionCollar(7, 0, 0, "A.B", 1, 1, 1, 0),
        itch.OperationalHalt(7, 0, 0, "A.B", "Q", "H"),
        itch.AddOrder(7, 0, 0, 1, "B", 1, "A.B", 1),
        itch.AddOrderMpid(7, 0, 0, 1, "B", 1, "A.B", 1, "UBSS"),
        itch.Trade(7, 0, 0, 0, "B", 1, "A.B", 1, 1),
        itch.CrossTrade(7, 0, 0, 1, "A.B", 1, 1, "O"),
        itch.Noii(7, 0, 0, 1, 1, "N", "A.B", 1, 1, 1, "O", "L"),
        itch.Rpii(7, 0, 0, "A.B", "A"),
        itch.DirectListing(7, 0, 0, "A.B", "Y", 1, 1, 1, 1, 1, 1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_name_of_a_symbol_is_learnt_from_every_message_that_has_it(message: Message) -> None:
    assert book_of(message).symbols == {7: "A.B"}


# Messages that cannot be right. The book before: order 1 buys 100 at 50, order 2 buys 70 at 50.


@pytest.mark.parametrize(
    ("message", "reason", "orders"),
    [
        (executed(9, 10), StaleReason.UNKNOWN_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (executed_with_price(9, 10), StaleReason.UNKNOWN_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (cancel(9, 10), StaleReason.UNKNOWN_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (delete(9), StaleReason.UNKNOWN_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (replace(9, 8, 10, 50), StaleReason.UNKNOWN_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (replace(9, 1, 10, 50), StaleReason.UNKNOWN_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (add(1, "S", 10, 60), StaleReason.DUPLICATE_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (add(1, "?", 0, 60), StaleReason.DUPLICATE_REFERENCE, [(1, 50, 100), (2, 50, 70)]),
        (replace(1, 2, 10, 60), StaleReason.DUPLICATE_REFERENCE, [(2, 50, 70)]),
        (executed(1, 101), StaleReason.OVERFILL, [(2, 50, 70)]),
        (executed_with_price(1, 101), StaleReason.OVERFILL, [(2, 50, 70)]),
        (cancel(1, 101), StaleReason.OVERFILL, [(2, 50, 70)]),
        (add(3, "B", 0, 50), StaleReason.INVALID_ORDER, [(1, 50, 100), (2, 50, 70)]),
        (add(3, "X", 10, 50), StaleReason.INVALID_ORDER, [(1, 50, 100), (2, 50, 70)]),
        (add(3, "", 10, 50), StaleReason.INVALID_ORDER, [(1, 50, 100), (2, 50, 70)]),
        (replace(1, 3, 0, 50), StaleReason.INVALID_ORDER, [(2, 50, 70)]),
    ],
)
def test_message_that_cannot_be_right_flags_its_symbol(
    message: Message, reason: StaleReason, orders: list[tuple[int, int, int]]
) -> None:
    book = book_of(add(1, "B", 100, 50), add(2, "B", 70, 50), message)
    assert book.stale == {AAPL: reason}
    assert book.stale_counts == {reason: 1}
    assert book.orders(AAPL, Side.BUY) == orders
    assert book.orders(AAPL, Side.SELL) == []
    assert book.bbo(AAPL) == Bbo(50, sum(order[2] for order in orders), len(orders), 0, 0, 0)


@pytest.mark.parametrize(
    "message",
    [
        executed(1, 10, MSFT),
        executed(1, 1000, MSFT),
        executed_with_price(1, 10, MSFT),
        cancel(1, 10, MSFT),
        delete(1, MSFT),
        replace(1, 9, 10, 50, MSFT),
    ],
)
def test_message_of_another_symbols_order_flags_both_and_is_ignored(message: Message) -> None:
    book = book_of(add(1, "B", 100, 50), message)
    assert book.stale == {
        AAPL: StaleReason.LOCATE_MISMATCH,
        MSFT: StaleReason.LOCATE_MISMATCH,
    }
    assert book.stale_counts == {StaleReason.LOCATE_MISMATCH: 1}
    assert book.orders(AAPL, Side.BUY) == [(1, 50, 100)]
    assert book.orders(MSFT, Side.BUY) == []


def test_first_reason_is_kept_and_every_one_is_counted() -> None:
    book = book_of(add(1, "B", 100, 50), executed(1, 101), delete(1), delete(1))
    assert book.stale == {AAPL: StaleReason.OVERFILL}
    assert book.stale_counts == {StaleReason.OVERFILL: 1, StaleReason.UNKNOWN_REFERENCE: 2}


def test_flagged_book_is_still_kept_up() -> None:
    book = book_of(delete(9), add(1, "B", 100, 50))
    assert book.bbo(AAPL) == Bbo(50, 100, 1, 0, 0, 0)


def test_gap_flags_every_symbol_seen_before_or_after() -> None:
    book = book_of(
        itch.SystemEvent(0, 0, 0, "O"),
        add(1, "B", 100, 50),
        delete(9, 20),
        itch.Rpii(MSFT, 0, 0, "MSFT", "A"),
    )
    book.mark_gap()
    book.apply(add(2, "B", 100, 50, 21, "NEW"))
    book.apply(itch.SystemEvent(0, 0, 0, "Q"))
    assert book.stale == {
        AAPL: StaleReason.GAP,
        MSFT: StaleReason.GAP,
        20: StaleReason.UNKNOWN_REFERENCE,
        21: StaleReason.GAP,
    }
    book.mark_gap()
    assert book.stale_counts == {StaleReason.GAP: 2, StaleReason.UNKNOWN_REFERENCE: 1}


def test_cleared_symbol_starts_again_exact() -> None:
    book = book_of(
        add(1, "B", 10, 100), add(2, "S", 20, 110), add(3, "B", 30, 200, MSFT, "MSFT"), delete(9)
    )
    book.mark_gap()
    assert book.clear(AAPL) == Change(AAPL, EMPTY_BBO, Bbo(100, 10, 1, 110, 20, 1))
    assert book.stale == {MSFT: StaleReason.GAP}
    assert book.symbols == {AAPL: "AAPL", MSFT: "MSFT"}
    assert book.bbo(MSFT) == Bbo(200, 30, 1, 0, 0, 0)
    book.apply(add(1, "B", 5, 100))
    book.apply(add(2, "S", 6, 110))
    assert book.bbo(AAPL) == Bbo(100, 5, 1, 110, 6, 1)
    assert book.stale == {MSFT: StaleReason.GAP}


# Against a book that sums every order again after each message.

REFERENCE = st.integers(1, 8)
SHARES = st.integers(0, 4)
PRICE = st.integers(1, 4)
LOCATE = st.sampled_from([AAPL, MSFT])
MESSAGES = st.lists(
    st.one_of(
        st.builds(add, REFERENCE, st.sampled_from("BSX"), SHARES, PRICE, LOCATE),
        st.builds(executed, REFERENCE, SHARES, LOCATE),
        st.builds(cancel, REFERENCE, SHARES, LOCATE),
        st.builds(delete, REFERENCE, LOCATE),
        st.builds(replace, REFERENCE, REFERENCE, SHARES, PRICE, LOCATE),
    ),
    max_size=60,
)


def best_of(orders: list[tuple[int, int, int]], side: Side) -> tuple[int, int, int]:
    if not orders:
        return 0, 0, 0
    prices = [price for _, price, _ in orders]
    best = max(prices) if side is Side.BUY else min(prices)
    at_best = [shares for _, price, shares in orders if price == best]
    return best, sum(at_best), len(at_best)


@settings(max_examples=300, deadline=None)
@given(MESSAGES)
def test_random_messages_keep_levels_orders_and_changes_consistent(messages: list[Message]) -> None:
    book = Book()
    known = {AAPL: EMPTY_BBO, MSFT: EMPTY_BBO}
    for message in messages:
        change = book.apply(message)
        if change is not None:
            assert change.stock_locate == message.stock_locate
            assert change.previous == known[change.stock_locate]
            assert change.price_or_size_changed  # One message never changes only an order count.
            known[change.stock_locate] = change.bbo
        references = []
        for locate, bbo in known.items():
            both = []
            for side in Side:
                orders = book.orders(locate, side)
                references += [reference for reference, _, _ in orders]
                assert all(shares > 0 for _, _, shares in orders)
                both += best_of(orders, side)
                totals: dict[int, list[int]] = {}
                for _, price, shares in orders:
                    totals.setdefault(price, []).append(shares)
                assert book.levels(locate, side) == [
                    (price, sum(shares), len(shares))
                    for price, shares in sorted(totals.items(), reverse=side is Side.BUY)
                ]
            assert bbo == tuple(both) == book.bbo(locate)
        assert len(references) == len(set(references))


# Against another book, on order flow without faults.


def random_flow(seed: int, count: int) -> list[bytes]:
    """Messages of three symbols, each of an order that is live and of shares that it has."""
    random = Random(seed)
    live: dict[int, tuple[int, int]] = {}  # Locate and shares by reference.
    flow = []
    for number in range(1, count + 1):
        reference = random.choice(list(live)) if live else 0
        locate, shares = live.pop(reference, (0, 0))
        new_shares, price = random.randint(1, 9) * 100, random.randint(95, 105) * 100
        part = random.randint(1, max(shares, 1))
        kind = random.choice(b"AFECXDDUUU") if len(live) > 20 and shares > 0 else ord("A")
        if kind in b"AF":
            if shares > 0:
                live[reference] = locate, shares
            locate = random.randint(1, 3)
        header = struct.pack(">BHHHI", kind, locate, 0, 0, number)
        body = struct.pack(">Q", reference)
        if kind in b"AF":
            live[number] = locate, new_shares
            side = random.choice(b"BS")
            stock = b"SYMBOL%d " % locate
            body = struct.pack(">QBI8sI", number, side, new_shares, stock, price)
            body += b"UBSS" if kind == ord("F") else b""
        elif kind == ord("U"):
            live[number] = locate, new_shares
            body += struct.pack(">QII", number, new_shares, price)
        elif kind != ord("D"):
            body += struct.pack(">I", part)
            body += struct.pack(">Q", number) if kind in b"EC" else b""
            body += struct.pack(">BI", ord("Y"), price) if kind == ord("C") else b""
            if part < shares:
                live[reference] = locate, shares - part
        flow.append(header + body)
    return flow


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_itch_book_finds_the_same_changes_in_random_flow(seed: int) -> None:
    itch_book = pytest.importorskip("itch_book")
    flow = random_flow(seed, 5000)
    session = itch_book.Session(["bbo"], 0, [])
    session.feed(b"".join(struct.pack(">H", len(data)) + data for data in flow))
    table = session.take_bbo()
    columns = ["seq", "locate", "bid_px", "bid_sz", "bid_ct", "ask_px", "ask_sz", "ask_ct"]
    expected = list(zip(*(table[name].tolist() for name in columns), strict=True))
    book = Book()
    found = []
    for number, data in enumerate(flow, start=1):
        change = book.apply(itch.parse(data))
        if change is not None:
            found.append((number, change.stock_locate, *change.bbo))
    assert found == expected
    assert len(found) > 1000
    assert {data[0] for data in flow} == set(b"AFECXDU")
    assert book.stale == {}


# Real order flow.


def read_messages(path: Path) -> list[Message]:
    """Each payload behind its 2-byte length. [BinaryFILE 1.00]"""
    data = path.read_bytes()
    messages = []
    offset = 0
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 2], "big")
        messages.append(itch.parse(data[offset + 2 : offset + 2 + length]))
        offset += 2 + length
    return messages


def test_real_order_flow_reproduces_every_best_bid_and_offer(data_dir: Path) -> None:
    messages = read_messages(data_dir / "itch50" / "aapl_20200130_first4000.itch50")
    assert len(messages) == 4000
    book = Book()
    found = []
    for number, message in enumerate(messages, start=1):  # The file counts messages from 1.
        change = book.apply(message)
        if change is not None and change.price_or_size_changed:
            bbo = change.bbo
            found.append(
                {
                    "ts_ns_since_midnight": message.timestamp,
                    "bid_px_1e4": bbo.bid_price,
                    "bid_sz": bbo.bid_qty,
                    "ask_px_1e4": bbo.ask_price,
                    "ask_sz": bbo.ask_qty,
                    "msg_index": number,
                    "bid_orders": bbo.bid_orders,
                    "ask_orders": bbo.ask_orders,
                }
            )
    with (data_dir / "itch50" / "aapl_20200130_first4000_bbo.csv").open() as file:
        expected = [
            {name: int(value) for name, value in row.items()} for row in csv.DictReader(file)
        ]
    assert len(expected) == 917
    assert found == expected
    assert (book.stale, book.stale_counts) == ({}, {})
    assert book.symbols == {13: "AAPL"}


def test_real_cut_from_the_middle_of_a_day_is_flagged_and_never_guessed(data_dir: Path) -> None:
    book = Book()
    unknown: dict[str, int] = {}
    added: set[int] = set()
    locates = set()
    for message in read_messages(data_dir / "itch50" / "open_20191230_1000.itch50"):
        before = book.stale_counts[StaleReason.UNKNOWN_REFERENCE]
        book.apply(message)
        if book.stale_counts[StaleReason.UNKNOWN_REFERENCE] > before:
            kind = type(message).__name__
            unknown[kind] = unknown.get(kind, 0) + 1
            assert message.stock_locate in book.stale
            locates.add(message.stock_locate)
        elif isinstance(message, itch.OrderReplace):
            added.add(message.new_order_reference_number)
        elif isinstance(message, itch.AddOrder | itch.AddOrderMpid):
            added.add(message.order_reference_number)
    assert unknown == {
        "OrderDelete": 139,
        "OrderExecuted": 28,
        "OrderReplace": 225,
        "OrderExecutedWithPrice": 1,
        "OrderCancel": 6,
    }
    assert book.stale_counts == {StaleReason.UNKNOWN_REFERENCE: 399}
    assert book.stale == dict.fromkeys(locates, StaleReason.UNKNOWN_REFERENCE)
    live = [
        order[0] for locate in book.symbols for side in Side for order in book.orders(locate, side)
    ]
    assert set(live) <= added
    assert len(live) == 367 + 193 - (167 - 139)


def test_start_of_day_directory_names_every_symbol(data_dir: Path) -> None:
    book = Book()
    for message in read_messages(data_dir / "itch50" / "directory_20191230_1000.itch50"):
        assert book.apply(message) is None
    assert (len(book.symbols), book.stale) == (993, {})
    book.mark_gap()
    assert set(book.stale) == set(book.symbols)


def test_symbols_of_a_bad_frame_are_flagged_and_keep_their_first_reason() -> None:
    book = Book()
    for locate in (1, 2, 3):
        book.apply(add(locate, "B", 10, 100, locate))
    book.mark_gap()
    book.clear(1)
    book.mark_bad([1, 2, 9])
    assert book.stale == {1: StaleReason.FRAME_BAD, 2: StaleReason.GAP, 3: StaleReason.GAP}
    assert book.stale_counts == {StaleReason.GAP: 1, StaleReason.FRAME_BAD: 2}
