"""Order management: what is published, the races of the wire, and the exposure."""

import re

import pytest

from kernels.exposure import Exposure, Rate
from kernels.risk import LevelLimits, Limits
from protocol import ring
from protocol.orders import OrderState, Side, TimeInForce
from protocol.reasons import DenyReason
from protocol.ring import RecordType
from protocol.risk import RiskLevel
from sw.errors import OrderStateError, RingError

S = OrderState


def buying(qty: int, position: int = 0) -> Exposure:
    return Exposure(position, open_buy=qty)


def partially_filled(desk):
    order = desk.live()
    desk.executed(order, 40)
    return order


def pending_cancel(desk):
    order = desk.live()
    assert desk.oms.cancel(order, 6)
    return order


# What is published.


def test_new_order_is_published_with_its_terms_and_counts_as_open(desk):
    order = desk.oms.submit(1, Side.SELL_SHORT, 300, 1_000_500, 5, TimeInForce.IOC)
    ((name, fields),) = desk.published()
    assert name == "NEW"
    assert fields["cl_ord_id"] == 1
    assert fields["symbol_index"] == 1
    assert fields["side"] == ord("T")
    assert fields["time_in_force"] == ord("3")
    assert (fields["order_qty"], fields["price"]) == (300, 1_000_500)
    assert order.state is S.PENDING_NEW
    assert order.leaves_qty == 300
    assert [desk.risk.exposure(n) for n in (0, 1)] == [Exposure(), Exposure(0, 0, 300)]


def test_numbers_only_grow_and_denied_orders_take_one_too(desk):
    desk.risk.killed = True
    first = desk.buy()
    desk.risk.killed = False
    second = desk.buy()
    assert (first.cl_ord_id, second.cl_ord_id) == (1, 2)
    assert (first.state, second.state) == (S.DENIED, S.PENDING_NEW)
    assert [fields["cl_ord_id"] for _, fields in desk.published()] == [2]
    assert desk.oms.denials == {DenyReason.KILL_SWITCH: 1}


def test_every_record_goes_to_the_journal_as_it_stood_in_the_ring(desk):
    order = desk.live()
    assert [(record[0], record[56:]) for record in desk.records] == [
        (RecordType.NEW, (1).to_bytes(8, "little")),
        (RecordType.ACCEPTED, (1).to_bytes(8, "little")),
    ]
    assert order.venue_order_id == 9_001


def test_order_denied_by_the_host_is_not_published_and_opens_nothing(desk):
    order = desk.buy(qty=2_000_000)
    assert order.state is S.DENIED
    assert order.leaves_qty == 0
    assert desk.published() == []
    assert desk.risk.exposure(0) == Exposure()
    assert desk.oms.denials == {DenyReason.QUANTITY_EXCEEDS_MAXIMUM: 1}


def test_order_denied_by_the_card_opens_nothing_any_more(desk):
    order = desk.buy()
    assert desk.risk.exposure(0) == buying(100)
    assert desk.denied(order.cl_ord_id, RecordType.NEW, DenyReason.BOOK_STALE) == 0
    assert order.state is S.DENIED
    assert desk.risk.exposure(0) == Exposure()
    assert desk.oms.denials == {DenyReason.BOOK_STALE: 1}


def test_full_command_ring_denies_orders_and_lets_no_request_through(new_desk):
    desk = new_desk(slots=4)
    orders = [desk.buy() for _ in range(5)]
    assert [order.state for order in orders] == [S.PENDING_NEW] * 4 + [S.DENIED]
    assert desk.oms.denials == {DenyReason.NO_RING_SLOT: 1}
    assert desk.risk.exposure(0) == buying(400)
    desk.accepted(orders[0])
    assert desk.oms.replace(orders[0], 200, 1_000_000, 6) is None
    assert orders[0].state is S.NEW
    assert not desk.oms.cancel(orders[0], 6)
    assert orders[0].state is S.NEW
    assert not desk.oms.mass_cancel(6)
    assert orders[0].state is S.NEW
    assert not desk.oms.heartbeat(6)
    assert not desk.oms.write_limits(6)
    assert desk.risk.exposure(0) == buying(400)
    assert desk.oms.command_high_water == 4
    assert len(desk.published()) == 4
    assert desk.oms.cancel(orders[0], 7)
    assert orders[0].state is S.PENDING_CANCEL


def test_messages_count_in_the_rate_and_heartbeats_and_limits_do_not(desk):
    order = desk.live()
    before = desk.risk.rate(RiskLevel.TRADER).due_ns
    desk.oms.heartbeat(1_000)
    desk.oms.write_limits(1_000)
    assert desk.risk.rate(RiskLevel.TRADER).due_ns == before
    desk.oms.replace(order, 100, 1_000_000, 1_000)
    assert desk.risk.rate(RiskLevel.TRADER).due_ns == 1_001
    desk.rejected(order.replacement)
    desk.oms.cancel(order, 1_000)
    desk.oms.mass_cancel(1_000)
    assert desk.risk.rate(RiskLevel.TRADER).due_ns == 1_003


def test_limits_are_written_symbol_by_symbol_and_those_of_the_levels_last(desk):
    desk.risk.set_limits(0, Limits(1, 2, 3, 4, 50, 5, 6, 7, restricted=True))
    desk.risk.set_limits(1, Limits(11, 12, 13, 14, 100, 15, 16, 17, restricted=False))
    desk.risk.set_level(RiskLevel.DESK, 0, LevelLimits(21, 22), Rate(23, 24))
    desk.risk.kill(RiskLevel.TRADER, 0)
    assert desk.oms.write_limits(1)
    names = ("symbol_index", "flags", "qty_max", "notional_max", "position_max", "price_band_bp")
    names += ("tick_size", "locate_qty", "duplicate_window_ns", "phases")
    level_names = ("level", "level_index", "desk_index", "flags", "gross_max", "net_max")
    level_names += ("rate_interval_ns", "rate_burst_ns")
    written = [
        tuple(fields[name] for name in (names if kind == "LIMITS" else level_names))
        for kind, fields in desk.published()
    ]
    assert written == [
        (0, ring.LimitsFlag.RESTRICTED, 1, 2, 3, 4, 50, 5, 6, 7),
        (1, 0, 11, 12, 13, 14, 100, 15, 16, 17),
        (RiskLevel.FIRM, 0, 0, 0, 1 << 55, 1 << 55, 1, 1_000_000),
        (RiskLevel.DESK, 0, 0, 0, 21, 22, 23, 24),
        (RiskLevel.TRADER, 0, 0, ring.LevelLimitsFlag.KILLED, 1 << 55, 1 << 55, 1, 1_000_000),
    ]


def test_every_command_carries_the_host_s_time(desk):
    order = desk.live()
    desk.buy()
    desk.oms.replace(order, 100, 1_000_000, 6)
    desk.oms.cancel(desk.live(), 7)
    desk.oms.mass_cancel(8)
    desk.oms.heartbeat(9)
    desk.oms.write_limits(10)
    found = [(name, fields["ts_host_ns"]) for name, fields in desk.published()]
    assert found == [
        ("CANCEL", 7),
        ("MASS_CANCEL", 8),
        ("HEARTBEAT", 9),
        *[("LIMITS", 10)] * 2,
        *[("LEVEL_LIMITS", 10)] * 3,
    ]


# Fills.


def test_partial_fills_add_up_to_the_whole_order(desk):
    order = desk.live(100)
    for last_qty, state in ((30, S.PARTIALLY_FILLED), (69, S.PARTIALLY_FILLED), (1, S.FILLED)):
        desk.executed(order, last_qty, price=1_000_000 - last_qty)
        assert order.state is state
    assert (order.cum_qty, order.leaves_qty) == (100, 0)
    assert [(f.order, f.last_qty, f.last_price) for f in desk.fills] == [
        (order, 30, 999_970),
        (order, 69, 999_931),
        (order, 1, 999_999),
    ]
    assert desk.risk.exposure(0) == Exposure(position=100)


def test_sale_moves_the_position_down(desk):
    order = desk.live(100, side=Side.SELL)
    assert desk.risk.exposure(0) == Exposure(0, 0, 100)
    desk.executed(order, 60)
    assert desk.risk.exposure(0) == Exposure(-60, 0, 40)


def test_overfill_raises_and_changes_nothing(desk):
    order = desk.live(100)
    desk.executed(order, 40)
    with pytest.raises(
        OrderStateError, match=r"^ORDER_OVERFILLED: cl_ord_id=1, leaves_qty=60, last_qty=61$"
    ):
        desk.executed(order, 61)
    assert (order.cum_qty, order.leaves_qty) == (40, 60)
    assert desk.risk.exposure(0) == Exposure(40, 60, 0)


def test_order_accepted_dead_is_canceled_at_once(desk):
    order = desk.buy()
    desk.accepted(order, state="D")
    assert order.state is S.CANCELED
    assert order.leaves_qty == 0
    assert desk.risk.exposure(0) == Exposure()


def test_reduction_by_the_venue_leaves_the_rest_open(desk):
    order = desk.live(100)
    desk.canceled(order, 30)
    assert (order.state, order.leaves_qty) == (S.NEW, 70)
    assert desk.risk.exposure(0) == buying(70)
    desk.canceled(order, 70)
    assert order.state is S.CANCELED
    assert desk.risk.exposure(0) == Exposure()


# Replaces.


@pytest.mark.parametrize(("qty", "opened"), [(150, 150), (100, 100), (40, 100)])
def test_larger_of_both_orders_counts_as_open_until_the_replace_is_answered(desk, qty, opened):
    order = desk.live(100)
    replacement = desk.oms.replace(order, qty, 1_000_100, 6)
    assert desk.risk.exposure(0) == buying(opened)
    ((name, fields),) = desk.published()
    assert name == "REPLACE"
    assert (fields["orig_cl_ord_id"], fields["cl_ord_id"]) == (1, 2)
    assert (fields["order_qty"], fields["price"]) == (qty, 1_000_100)
    desk.replaced(order, replacement, qty)
    assert (order.state, order.leaves_qty) == (S.REPLACED, 0)
    assert (replacement.state, replacement.leaves_qty) == (S.NEW, qty)
    assert desk.risk.exposure(0) == buying(qty)


def test_fill_in_flight_counts_against_the_replacement(desk):
    order = desk.live(100)
    replacement = desk.oms.replace(order, 150, 1_000_100, 6)
    desk.executed(order, 30)
    assert order.state is S.PENDING_REPLACE
    assert desk.risk.exposure(0) == Exposure(30, 120, 0)
    desk.replaced(order, replacement, 120)
    assert (replacement.cum_qty, replacement.leaves_qty) == (30, 120)
    assert desk.risk.exposure(0) == Exposure(30, 120, 0)
    desk.executed(replacement, 120)
    assert (replacement.state, replacement.cum_qty) == (S.FILLED, 150)
    assert desk.risk.exposure(0) == Exposure(position=150)


def test_replacement_of_a_partly_filled_order_counts_the_chain(desk):
    order = partially_filled(desk)
    replacement = desk.oms.replace(order, 140, 1_000_100, 6)  # 40 done, so 100 open instead of 60.
    assert desk.risk.exposure(0) == Exposure(40, 100, 0)
    desk.replaced(order, replacement, 100)
    assert desk.risk.exposure(0) == Exposure(40, 100, 0)
    assert (replacement.cum_qty, replacement.leaves_qty) == (40, 100)


@pytest.mark.parametrize(("total", "passes"), [(140, True), (141, False)])
def test_replacement_is_measured_by_the_shares_it_can_execute(desk, total, passes):
    order = partially_filled(desk)  # 40 of 100 done.
    desk.risk.set_limits(0, desk.risk.limits(0)._replace(qty_max=100))
    replacement = desk.oms.replace(order, total, 1_000_100, 6)
    assert (replacement is not None) == passes
    assert desk.oms.denials[DenyReason.QUANTITY_EXCEEDS_MAXIMUM] == (0 if passes else 1)


@pytest.mark.parametrize("done", [0, 30])
@pytest.mark.parametrize("refusal", ["denied", "rejected"])
def test_refused_replace_lets_the_original_stand(desk, done, refusal):
    order = desk.live(100)
    replacement = desk.oms.replace(order, 150, 1_000_100, 6)
    if done:
        desk.executed(order, done)
    if refusal == "denied":
        desk.denied(replacement.cl_ord_id, RecordType.REPLACE)
        assert replacement.state is S.DENIED
    else:
        desk.rejected(replacement, reason=0x15)
        assert replacement.state is S.REJECTED
        assert desk.oms.rejects == {0x15: 1}
    assert order.state is (S.PARTIALLY_FILLED if done else S.NEW)
    assert desk.risk.exposure(0) == Exposure(done, 100 - done, 0)
    assert replacement.leaves_qty == 0
    assert desk.oms.replace(order, 120, 1_000_000, 7) is not None


def test_replace_denied_by_the_host_returns_none_and_the_original_stands(desk):
    order = partially_filled(desk)
    desk.published()
    assert desk.oms.replace(order, 100, 5_000_000, 6) is None
    assert order.state is S.PARTIALLY_FILLED
    assert desk.published() == []
    assert desk.risk.exposure(0) == Exposure(40, 60, 0)
    assert desk.oms.denials == {DenyReason.PRICE_OUTSIDE_BAND: 1}
    assert desk.oms.orders[2].state is S.DENIED


@pytest.mark.parametrize("end", ["filled", "canceled"])
def test_end_of_the_original_ends_its_replacement_which_the_venue_ignores(desk, end):
    order = desk.live(100)
    replacement = desk.oms.replace(order, 150, 1_000_100, 6)
    if end == "filled":
        desk.executed(order, 100)
        assert desk.risk.exposure(0) == Exposure(position=100)
    else:
        desk.canceled(order, 100)
        assert desk.risk.exposure(0) == Exposure()
    assert replacement.state is S.REJECTED
    assert replacement.leaves_qty == 0


def test_replacement_that_was_denied_before_is_not_ended_again(desk):
    order = desk.live(100)
    replacement = desk.oms.replace(order, 150, 1_000_100, 6)
    desk.denied(replacement.cl_ord_id, RecordType.REPLACE)
    desk.executed(order, 100)
    assert (order.state, replacement.state) == (S.FILLED, S.DENIED)
    assert desk.risk.exposure(0) == Exposure(position=100)


def test_replacement_accepted_dead_is_canceled_at_once(desk):
    order = desk.live(100)
    replacement = desk.oms.replace(order, 150, 1_000_100, 6)
    desk.replaced(order, replacement, 150, state="D")
    assert (order.state, replacement.state) == (S.REPLACED, S.CANCELED)
    assert desk.risk.exposure(0) == Exposure()


@pytest.mark.parametrize("total", [150, 40])
def test_shares_that_the_venue_took_off_stay_open_for_the_replacement(desk, total):
    desk.risk.set_limits(0, desk.risk.limits(0)._replace(position_max=150))
    order = desk.live(100)
    replacement = desk.oms.replace(order, total, 1_000_100, 6)
    desk.canceled(order, 80)
    assert desk.risk.exposure(0) == buying(total)
    assert desk.buy(151 - total).state is S.DENIED
    assert desk.buy(150 - total).state is (S.PENDING_NEW if total < 150 else S.DENIED)
    desk.replaced(order, replacement, total)
    assert desk.risk.exposure(0) == buying(150)


def test_answer_of_a_replace_that_names_another_original_raises(desk):
    one, two = desk.live(), desk.live()
    replacement = desk.oms.replace(one, 150, 1_000_100, 6)
    with pytest.raises(OrderStateError, match=r"^ORDER_NOT_A_REPLACEMENT: cl_ord_id=3$"):
        desk.replaced(two, replacement, 150)


# Cancels.


def test_cancel_that_a_fill_overtakes_ends_filled(desk):
    order = pending_cancel(desk)
    desk.executed(order, 30)
    assert order.state is S.PENDING_CANCEL
    desk.executed(order, 70)
    assert order.state is S.FILLED
    desk.denied(order.cl_ord_id, RecordType.CANCEL, DenyReason.UNKNOWN_ORDER)
    assert order.state is S.FILLED
    assert desk.risk.exposure(0) == Exposure(position=100)
    assert desk.oms.denials == {}


@pytest.mark.parametrize(("done", "state"), [(0, S.NEW), (30, S.PARTIALLY_FILLED)])
def test_refused_cancel_leads_back_to_the_live_state(desk, done, state):
    order = pending_cancel(desk)
    if done:
        desk.executed(order, done)
    desk.denied(order.cl_ord_id, RecordType.CANCEL, DenyReason.SESSION_NOT_READY)
    assert order.state is state
    assert desk.risk.exposure(0) == Exposure(done, 100 - done, 0)
    assert desk.oms.cancel(order, 8)


def test_cancel_is_published_even_when_killed(desk):
    order = desk.live()
    desk.risk.killed = True
    assert desk.oms.cancel(order, 6)
    assert [(name, f["cl_ord_id"], f["order_qty"]) for name, f in desk.published()] == [
        ("CANCEL", 1, 0)
    ]


def test_mass_cancel_asks_for_every_live_order_at_once(desk):
    waits, lives, replacing = desk.buy(), desk.live(), desk.live()
    desk.oms.replace(replacing, 200, 1_000_000, 6)
    desk.published()
    assert desk.oms.mass_cancel(7)
    ((name, fields),) = desk.published()
    assert name == "MASS_CANCEL"
    assert fields["flags"] == ring.MassCancelFlag.ALL_SYMBOLS
    assert (fields["symbol_index"], fields["cl_ord_id"]) == (ring.ALL_MARKET, 5)
    assert [order.state for order in (waits, lives, replacing)] == [
        S.PENDING_NEW,
        S.PENDING_CANCEL,
        S.PENDING_REPLACE,
    ]
    desk.accepted(waits)
    for order in (waits, lives, replacing):
        desk.canceled(order, 100)
        assert order.state is S.CANCELED
    assert replacing.replacement.state is S.REJECTED
    assert desk.risk.exposure(0) == Exposure()


def test_denied_mass_cancel_leads_every_order_back_and_is_counted(desk):
    one, two = desk.live(), partially_filled(desk)
    desk.oms.mass_cancel(7)
    assert desk.denied(3, RecordType.MASS_CANCEL, DenyReason.SESSION_NOT_READY) == ring.ALL_MARKET
    assert (one.state, two.state) == (S.NEW, S.PARTIALLY_FILLED)
    assert desk.oms.denials == {DenyReason.SESSION_NOT_READY: 1}
    assert desk.oms.mass_cancel(8)


# Records.


def test_empty_ring_gives_none_and_a_sent_record_moves_no_order(desk):
    assert desk.oms.poll(desk.fills) is None
    order = desk.buy()
    assert desk.answer(ring.SENT, 1, command_sequence=1) == ring.ALL_MARKET
    assert order.state is S.PENDING_NEW


def test_record_of_an_unknown_order_raises(desk):
    with pytest.raises(OrderStateError, match=r"^ORDER_UNKNOWN: cl_ord_id=77$"):
        desk.answer(ring.REJECTED, 77, ts_venue_ns=1, reason=1)


def test_record_of_another_ring_raises(desk):
    record = ring.HEARTBEAT.pack()
    assert desk.answers.put(record)
    with pytest.raises(RingError, match=re.escape("EXECUTION_RECORD_UNKNOWN: type=0x36")):
        desk.oms.poll(desk.fills)
