"""Analytics from ring records alone: a day worked out by hand, to the cent."""

import pytest

from protocol import ring
from protocol.orders import Side
from protocol.reasons import DenyReason
from protocol.ring import RecordType
from sw.analytics import HALF_PRICE_SCALE, FillPoint, analyse


def bbo(index, bid, ask, ts_ns):
    return ring.BBO.pack(
        symbol_index=index,
        ts_feed_ns=ts_ns,
        feed_sequence=1,
        bid_price=bid,
        ask_price=ask,
        bid_qty=1,
        ask_qty=1,
        bid_orders=1,
        ask_orders=1,
    )


def new(number, index, side, layout=ring.NEW, **more):
    return layout.pack(
        cl_ord_id=number,
        symbol_index=index,
        side=side,
        time_in_force=ord("0"),
        order_qty=1,
        price=1,
        **more,
    )


def executed(number, qty, price, ts_ns):
    return ring.EXECUTED.pack(
        cl_ord_id=number,
        ts_venue_ns=ts_ns,
        match_number=1,
        last_price=price,
        last_qty=qty,
        liquidity_flag=ord("A"),
    )


DAY = [
    bbo(0, 999_900, 1_000_100, 10),  # Mid 100.0000.
    new(1, 0, Side.BUY),
    new(2, 0, Side.SELL),
    new(3, 1, Side.SELL_SHORT),
    executed(1, 100, 999_900, 20),  # Buys 100 at 99.99: 9,999.00 paid.
    bbo(0, 999_900, 1_000_200, 30),  # Mid 100.0050.
    new(4, 0, Side.BUY, ring.REPLACE, orig_cl_ord_id=1),
    executed(4, 50, 999_800, 40),  # Buys 50 at 99.98: 4,999.00 paid.
    executed(2, 120, 1_000_300, 50),  # Sells 120 at 100.03: 12,003.60 received.
    bbo(0, 0, 1_000_000, 60),  # One-sided: the last mid stays.
    bbo(0, 1_000_001, 1_000_002, 70),  # Mid 100.00015.
    executed(3, 10, 500_000, 80),  # Sells 10 at 50.00 short, in a market not seen yet.
    bbo(1, 499_900, 500_500, 90),  # Mid 50.0200.
]


def test_profit_of_a_day_is_right_to_the_cent_and_beyond():
    result = analyse(DAY)
    first, second = result.symbols[0], result.symbols[1]
    # Cash -2,994.40 USD; 30 shares at 100.00015 are 3,000.0045 USD.
    assert first.cash == -29_944_000
    assert first.position == 30
    assert first.marked_2 == 2 * -29_944_000 + 30 * 2_000_003 == 112_090
    assert first.marked_2 / HALF_PRICE_SCALE == pytest.approx(5.6045)
    # 500.00 received, 10 shares short at 50.02.
    assert (second.cash, second.position) == (5_000_000, -10)
    assert second.marked_2 == -4_000  # -0.20 USD.
    assert result.marked_2 == 108_090


def test_course_has_an_entry_for_each_mark():
    first = analyse(DAY).symbols[0]
    assert list(zip(first.ts_ns, first.mid_2, first.positions, first.pnl_2, strict=True)) == [
        (10, 2_000_000, 0, 0),
        (20, 2_000_000, 100, 20_000),  # 100 shares a cent below mid: 1.00 USD.
        (30, 2_000_100, 100, 30_000),
        (40, 2_000_100, 150, 55_000),
        (50, 2_000_100, 30, 115_000),
        (70, 2_000_003, 30, 112_090),
    ]
    assert first.bbo_changes == 4
    assert first.fills == [
        FillPoint(20, Side.BUY, 999_900, 100),
        FillPoint(40, Side.BUY, 999_800, 50),
        FillPoint(50, Side.SELL, 1_000_300, 120),
    ]
    assert first.traded_qty == 270


def test_fill_before_any_market_is_marked_with_the_first_mid():
    second = analyse(DAY).symbols[1]
    assert list(second.pnl_2) == [-4_000]
    assert second.fills == [FillPoint(80, Side.SELL_SHORT, 500_000, 10)]


def test_records_are_counted_by_what_they_mean():
    result = analyse(
        [
            *DAY,
            ring.CANCEL.pack(cl_ord_id=1, order_qty=0),
            ring.MASS_CANCEL.pack(cl_ord_id=9),
            ring.ACCEPTED.pack(
                cl_ord_id=1, ts_venue_ns=1, venue_order_id=1, price=1, order_qty=1, order_state=76
            ),
            ring.DENIED.pack(cl_ord_id=1, command_sequence=1, reason=5, command_type=0x31),
            ring.REJECTED.pack(cl_ord_id=1, ts_venue_ns=1, reason=0x17),
            ring.HEARTBEAT.pack(),
        ]
    )
    assert (result.orders, result.replaces, result.cancels, result.accepted) == (3, 1, 1, 1)
    assert result.fill_count == 4
    assert result.card_denials == {DenyReason.BOOK_STALE: 1}
    assert result.rejects == {0x17: 1}
    assert result.records[RecordType.BBO] == 5
    assert result.records[RecordType.MASS_CANCEL] == 1
    assert result.records.total() == len(DAY) + 6


def test_nothing_gives_nothing():
    result = analyse([])
    assert (result.marked_2, result.symbols, result.records.total()) == (0, {}, 0)
