"""The order stage: what leaves for the venue, byte by byte, and what its answers do."""

import pytest

from kernels.exposure import Exposure
from protocol import ouch50, registers, ring, soupbintcp
from protocol.frames import Address, parse_tcp
from protocol.ip import TcpFlag
from protocol.reasons import DenyReason
from protocol.registers import LatencyStage
from sim.card.functional import FunctionalCard
from sim.card.verilated import VerilatedCard

HOST_SEQUENCE, VENUE_SEQUENCE = 0xFFFF_FFF0, 0xFFFF_FFC0
STRANGER = Address(bytes(6), 0x0A00_0003, 26_400)


@pytest.fixture
def card(bench):
    bench.started()
    bench.sent.clear()
    return bench


def exposure(bench) -> Exposure:
    if not isinstance(bench.card, FunctionalCard):
        pytest.skip("only the functional card shows its exposure")
    return bench.card._orders.risk.exposure(0)


def test_order_leaves_as_this_frame(card):
    card.new(250, 1_000_000)
    (frame,) = card.sent
    assert frame[:14] == bytes.fromhex("020000000001 020000000002 0800".replace(" ", ""))
    segment = parse_tcp(frame)  # It checks both checksums.
    assert (segment.source_ip, segment.source_port) == (0x0A00_0002, 40_000)
    assert (segment.destination_ip, segment.destination_port) == (0x0A00_0001, 26_400)
    assert (segment.sequence, segment.acknowledgment) == (HOST_SEQUENCE, VENUE_SEQUENCE)
    assert segment.flags == TcpFlag.ACK | TcpFlag.PSH
    assert segment.payload == (
        b"\x00\x30U"  # 48 bytes of unsequenced data.
        b"O\x00\x00\x00\x01B\x00\x00\x00\xfaAAPL    "
        b"\x00\x00\x00\x00\x00\x0f\x42\x40"  # 100.0000.
        b"0YPNN1             \x00\x00"
    )


def test_replace_and_cancels_leave_as_these_messages(card):
    card.new(100)
    card.venue(card.accepted(1))
    card.replace(1, 150, 999_900)
    card.cancel(1, qty=40)
    card.command(ring.MASS_CANCEL, cl_ord_id=7, symbol_index=1)
    card.command(ring.MASS_CANCEL, cl_ord_id=8, symbol_index=9, flags=1)
    payloads = [parse_tcp(frame).payload for frame in card.sent]
    assert [payload[3:] for payload in payloads if payload][1:] == [
        b"U\x00\x00\x00\x01\x00\x00\x00\x02\x00\x00\x00\x96"
        b"\x00\x00\x00\x00\x00\x0f\x41\xdc0YN2             \x00\x00",
        b"X\x00\x00\x00\x01\x00\x00\x00\x28",
        b"C\x00\x00\x00\x07FIRMMSFT    \x00\x00",
        b"C\x00\x00\x00\x08FIRM        \x00\x00",
    ]


@pytest.mark.parametrize("index", [2, 4, 0xFFFF])
def test_mass_cancel_of_a_slot_without_a_symbol_is_denied_and_never_cancels_all(card, index):
    card.command(ring.MASS_CANCEL, cl_ord_id=7, symbol_index=index)
    assert card.answers("reason", "command_type") == [
        ("DENIED", DenyReason.UNKNOWN_SYMBOL, ring.RecordType.MASS_CANCEL)
    ]
    assert card.sent == []


def test_own_sequence_numbers_count_bytes_and_wrap(card):
    card.new()
    card.new()
    first, second = (parse_tcp(frame) for frame in card.sent)
    assert len(first.payload) == 50
    assert second.sequence == (HOST_SEQUENCE + 50) - (1 << 32) == 34


def test_received_bytes_are_acknowledged_and_the_number_wraps(card):
    number = card.new()
    card.sent.clear()
    card.venue(card.accepted(number))
    (frame,) = card.sent
    segment = parse_tcp(frame)
    assert segment.payload == b""
    assert segment.flags == TcpFlag.ACK
    assert segment.acknowledgment == (VENUE_SEQUENCE + 67) - (1 << 32) == 3


def test_answers_become_records_with_the_venue_s_values(card):
    card.new(100)
    card.venue(card.accepted(1, 100, 999_900))
    card.venue(card.executed(1, 30, 999_800, match=55))
    card.venue(card.canceled(1, 70, "Q"))
    ((_, sent), (_, accepted), (_, executed), (_, canceled)) = card.take(card.execution)
    assert (sent["cl_ord_id"], sent["command_sequence"]) == (1, 6)  # Behind five limits.
    assert (accepted["venue_order_id"], accepted["price"]) == (9_001, 999_900)
    assert (accepted["order_qty"], accepted["order_state"]) == (100, ord("L"))
    assert (executed["last_qty"], executed["last_price"], executed["match_number"]) == (
        30,
        999_800,
        55,
    )
    assert (executed["liquidity_flag"], executed["ts_venue_ns"]) == (ord("A"), 77)
    assert (canceled["canceled_qty"], canceled["reason"]) == (70, ord("Q"))
    assert canceled["symbol_index"] == 0
    assert exposure(card) == Exposure(position=30)


def test_self_match_prevention_takes_its_shares_off_the_order(card):
    card.new(100)
    card.venue(card.accepted(1))
    prevented = card.answer(
        ouch50.AIQ_CANCELED,
        user_ref_num=1,
        decrement_shares=60,
        reason="Q",
        quantity_prevented_from_trading=60,
        execution_price=1_000_000,
        liquidity_flag="R",
        aiq_strategy="D",
    )
    card.venue(prevented)
    assert card.answers("canceled_qty")[2:] == [("CANCELED", 60)]
    assert exposure(card) == Exposure(0, 40, 0)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["accepted"], Exposure(0, 100, 0)),
        (["accepted", ("executed", 40)], Exposure(40, 60, 0)),
        (["accepted", ("executed", 100)], Exposure(100, 0, 0)),
        (["accepted", ("executed", 40), ("canceled", 60)], Exposure(40, 0, 0)),
        (["accepted", ("canceled", 30)], Exposure(0, 70, 0)),
        (["accepted", ("canceled", 300)], Exposure(0, 0, 0)),
        (["rejected"], Exposure(0, 0, 0)),
        (["dead"], Exposure(0, 0, 0)),
        (["accepted", ("executed", 130)], Exposure(130, 0, 0)),  # Never negative open shares.
    ],
)
def test_exposure_follows_the_answers(card, answers, expected):
    card.new(100)
    for answer in answers:
        kind, *values = answer if isinstance(answer, tuple) else (answer,)
        data = card.accepted(1, state="D") if kind == "dead" else getattr(card, kind)(1, *values)
        card.venue(data)
    assert exposure(card) == expected
    ended = expected.open_buy == 0
    card.cancel(1)
    (last,) = card.answers("reason")[-1:]
    assert last == (("DENIED", DenyReason.UNKNOWN_ORDER) if ended else ("SENT",))


@pytest.mark.parametrize(("total", "opened"), [(150, 150), (40, 100)])
@pytest.mark.parametrize("end", ["replaced", "dead", "rejected", "filled"])
def test_larger_of_both_orders_counts_until_a_replace_is_answered(card, total, opened, end):
    card.new(100)
    card.venue(card.accepted(1))
    card.replace(1, total)
    assert exposure(card) == Exposure(0, opened, 0)
    if end == "filled":
        card.venue(card.executed(1, 100))
        assert exposure(card) == Exposure(100, 0, 0)
    elif end == "rejected":
        card.venue(card.rejected(2))
        assert exposure(card) == Exposure(0, 100, 0)
    else:
        card.venue(card.replaced(1, 2, total, state="D" if end == "dead" else "L"))
        assert exposure(card) == Exposure(0, total if end == "replaced" else 0, 0)
    card.cancel(1)
    card.cancel(2)
    stands = {"replaced": 2, "rejected": 1}.get(end)
    expected = ["SENT" if stands == number else "DENIED" for number in (1, 2)]
    assert [answer[0] for answer in card.answers()[-2:]] == expected


def test_shares_that_the_venue_took_off_stay_open_for_the_replacement(card):
    card.limits(0, position_max=150)
    card.new(100)
    card.venue(card.accepted(1))
    card.replace(1, 150)
    card.venue(card.canceled(1, 80))
    assert exposure(card) == Exposure(0, 150, 0)
    card.new(1)
    assert card.answers("reason")[-1] == ("DENIED", DenyReason.POSITION_EXCEEDS_LIMIT)
    card.venue(card.replaced(1, 2, 150))
    assert exposure(card) == Exposure(0, 150, 0)


def test_smaller_replacement_reserves_nothing_while_its_original_is_the_larger(card):
    card.new(100)
    card.venue(card.accepted(1))
    card.replace(1, 10)
    card.venue(card.canceled(1, 80))
    assert exposure(card) == Exposure(0, 20, 0)


def test_replacement_counts_the_shares_of_the_chain(card):
    card.new(100)
    card.venue(card.accepted(1) + card.executed(1, 60))
    card.replace(1, 100)  # 40 are left, as before.
    assert exposure(card) == Exposure(60, 40, 0)
    card.venue(card.executed(1, 10))
    card.venue(card.replaced(1, 2, 30))
    assert exposure(card) == Exposure(70, 30, 0)
    card.replace(2, 100)
    assert exposure(card) == Exposure(70, 30, 0)
    card.replace(3, 100)  # The one before is not answered yet.
    assert card.answers("reason")[-1] == ("DENIED", DenyReason.UNKNOWN_ORDER)


def test_order_has_one_replacement_under_way(card):
    card.new(100)
    card.venue(card.accepted(1))
    card.replace(1, 150)
    card.replace(1, 200)
    assert card.answers("reason")[-1] == ("DENIED", DenyReason.UNKNOWN_ORDER)
    card.venue(card.rejected(2))
    card.replace(1, 200)  # The first is answered.
    assert card.answers()[-1][0] == "SENT"
    card.venue(card.replaced(7, 4, 200))  # Of another order.
    assert [name for name, *_ in card.answers()].count("REPLACED") == 0
    card.venue(card.replaced(1, 4, 200))
    assert card.answers()[-1][0] == "REPLACED"


def test_number_in_use_is_denied(card):
    card.new(100)
    card.command(
        ring.NEW,
        **{"cl_ord_id": 1, "symbol_index": 0, "side": ord("B"), "time_in_force": ord("0")},
        **{"order_qty": 100, "price": 1_000_000},
    )
    assert card.answers("reason")[-1] == ("DENIED", DenyReason.NO_RING_SLOT)


def test_gate_measures_a_replacement_by_the_shares_it_can_execute(card):
    card.limits(0, qty_max=100)
    card.new(100)
    card.venue(card.accepted(1) + card.executed(1, 60))
    card.replace(1, 160)  # 60 are done, so 100 can execute: the limit.
    card.venue(card.replaced(1, 2, 100))
    card.replace(2, 161)
    assert card.answers("reason")[-2:] == [
        ("REPLACED",),
        ("DENIED", DenyReason.QUANTITY_EXCEEDS_MAXIMUM),
    ]


def test_price_of_the_venue_that_no_record_holds_is_shown_as_the_highest(card):
    card.new(100)
    card.venue(card.accepted(1) + card.executed(1, 60, price=1 << 40))
    assert card.answers("last_price")[-1] == ("EXECUTED", 0xFFFF_FFFF)


@pytest.mark.parametrize("cut", [1, 2, 3, 50, 69, 70, 71])
def test_packets_may_be_cut_anywhere_between_segments(card, cut):
    card.new(100)
    stream = card.accepted(1) + card.executed(1, 30) + card.executed(1, 20)
    card.venue(stream[:cut])
    card.venue(stream[cut:])
    assert card.answers("last_qty")[1:] == [("ACCEPTED",), ("EXECUTED", 30), ("EXECUTED", 20)]


def test_segment_out_of_order_is_acknowledged_again_and_not_used(card):
    card.new(100)
    card.sent.clear()
    data = card.accepted(1)
    card.venue(data, sequence=VENUE_SEQUENCE + 1)
    card.venue(data, sequence=VENUE_SEQUENCE - 1)
    assert [parse_tcp(frame).acknowledgment for frame in card.sent] == [VENUE_SEQUENCE] * 2
    assert card.answers() == [("SENT",)]
    card.venue(data)
    assert card.answers() == [("ACCEPTED",)]


@pytest.mark.parametrize("end", ["source", "destination"])
@pytest.mark.parametrize("flags", [TcpFlag.ACK, TcpFlag.RST, TcpFlag.FIN])
def test_segment_of_another_connection_is_not_used(card, end, flags):
    card.new(100)
    card.sent.clear()
    card.venue(card.accepted(1), flags, **{end: STRANGER})
    assert card.answers() == [("SENT",)]
    assert card.sent == []
    assert card.read(registers.ORDER_SESSION) == 1


@pytest.mark.parametrize(
    "packet",
    [
        b"\x00\x00",  # Without even a type.
        b"\x00\x01H",
        b"\x00\x01S",
        b"\x00\x04S???",
        b"\x00\x05+text",
    ],
)
def test_packet_that_is_no_answer_is_passed_over(card, packet):
    card.new(100)
    card.venue(packet + packet + card.accepted(1))
    assert card.answers() == [("SENT",), ("ACCEPTED",)]


def test_answer_of_an_unknown_order_is_counted_and_passed_over(card):
    card.venue(card.accepted(77) + card.executed(77, 5) + card.replaced(77, 78, 5))
    assert card.answers() == []
    assert card.read(registers.ANSWERS_RECEIVED) == 3
    assert exposure(card) == Exposure()


def test_data_in_the_last_segment_is_used_and_then_the_session_is_over(card):
    card.new(100)
    card.venue(card.accepted(1), TcpFlag.ACK | TcpFlag.FIN)
    assert card.answers() == [("SENT",), ("ACCEPTED",)]
    card.new()
    assert card.answers("reason") == [("DENIED", DenyReason.SESSION_NOT_READY)]


def test_end_of_session_stops_orders_after_the_answers_before_it(card):
    card.new(100)
    card.venue(card.accepted(1) + soupbintcp.END_OF_SESSION.pack() + card.executed(1, 5))
    assert card.read(registers.ORDER_SESSION) == 0
    card.cancel(1)
    assert card.answers("reason")[1:][-1] == ("DENIED", DenyReason.SESSION_NOT_READY)


def test_rate_counts_every_message_that_left_and_no_other(card):
    card.rate(burst=2, interval_ns=1_000)
    card.now_ns = 10_000
    card.new()
    card.cancel(1)
    card.new()
    card.now_ns += 1_000
    card.new()
    card.new()
    assert card.answers("reason") == [
        ("SENT",),
        ("SENT",),
        ("DENIED", DenyReason.MESSAGE_RATE_EXCEEDED),
        ("SENT",),
        ("DENIED", DenyReason.MESSAGE_RATE_EXCEEDED),
    ]
    assert card.read(registers.ORDERS_SENT) == 3


def test_order_is_measured_from_the_message_that_caused_it(card):
    card.feed(card.add(9, "B", 1_000_000))
    (_, bbo) = card.take(card.market)[-1]
    card.new(cause_sequence=bbo["feed_sequence"])
    card.new(price=999_900, cause_sequence=bbo["feed_sequence"] + 1)  # Not received so far.
    card.new(price=999_800)
    card.cancel(1)
    assert [kind for kind, *_ in card.answers()] == ["SENT"] * 4
    # The functional card takes no time, and measures none.
    stages = (LatencyStage.TRADE, LatencyStage.WIRE)
    counts = [card.read(registers.LATENCY_COUNT, stage) for stage in stages]
    assert counts == [isinstance(card.card, VerilatedCard)] * 2
