"""The contract of a card: what a host may rely on, whichever card it is.

Registers, memory and wires only; nothing here looks inside.
"""

import re

import pytest

from protocol import itch50, registers, ring
from protocol.market import MarketPhase
from protocol.reasons import DenyReason, DropReason
from protocol.registers import Access
from protocol.risk import RiskLevel
from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sw.card import CardInfo, identify
from sw.errors import IdentityMismatchError, VersionMismatchError

BUY_AT, SELL_AT = 1_000_000, 1_000_100


# Identity.


def test_card_says_what_it_is_and_how_much_it_holds(bench):
    assert identify(bench.card) == CardInfo(1, 4, symbol_count=4, order_count=64)
    assert bench.read(registers.IDENTITY_REGISTER) == 0x45524957_4B434954  # "TICKWIRE".


class Impostor:
    """Registers that read as the test says."""

    def __init__(self, identity: int, version: int):
        self.memory = memoryview(b"")
        self._values = {0x000: identity, 0x008: version}

    def read(self, address: int) -> int:
        return self._values.get(address, 0)

    def write(self, address: int, value: int) -> None:
        raise AssertionError("a card that was not identified must not be written to")


@pytest.mark.parametrize("identity", [0, 0xFFFF_FFFF_FFFF_FFFF, 0x45524957_4B434955])
def test_card_without_the_identity_is_refused_with_both_values(identity):
    text = f"CARD_IDENTITY_MISMATCH: identity=0x{identity:016x}, expected=0x455249574b434954"
    with pytest.raises(IdentityMismatchError, match=f"^{text}$"):
        identify(Impostor(identity, 1 << 16))


@pytest.mark.parametrize(
    ("version", "text"), [(2 << 16, "2.0"), (0, "0.0"), (0x0002_0007, "2.7"), (0x7, "0.7")]
)
def test_card_of_another_major_version_is_refused_with_both_versions(version, text):
    found = re.escape(f"CARD_VERSION_MISMATCH: version={text}, expected=1.4")
    with pytest.raises(VersionMismatchError, match=f"^{found}$"):
        identify(Impostor(registers.IDENTITY, version))


def test_card_of_another_minor_version_is_taken():
    assert identify(Impostor(registers.IDENTITY, 0x0001_0009)).version_minor == 9


@pytest.mark.parametrize(
    ("count", "text"),
    [
        ({"symbol_count": 0}, "symbol_count must be 1 to 65535, not 0"),
        ({"symbol_count": 65_536}, "symbol_count must be 1 to 65535, not 65536"),
        ({"order_count": 0}, "order_count must be 1 or more, not 0"),
    ],
)
def test_card_that_can_not_be_is_not_built(count, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        FunctionalCard(memoryview(b""), **count)


# Registers.


@pytest.mark.parametrize("register", registers.REGISTERS, ids=lambda r: r.name)
def test_register_comes_up_with_its_init_value(bench, register):
    if register.init is not None:
        for index in {0, register.count - 1}:
            assert bench.read(register, index) == register.init


@pytest.mark.parametrize("running", [False, True])
def test_writes_to_read_only_registers_do_nothing(bench, running):
    if running:
        bench.started()
    for register in registers.REGISTERS:
        if register.access is Access.R:
            for index in {0, register.count - 1}:
                before = bench.read(register, index)
                bench.write(register, before + 1, index)
                assert bench.read(register, index) == before


def test_written_registers_read_back_in_64_bits(bench):
    for register in registers.REGISTERS:
        if register.access is Access.RW and register not in (registers.CONTROL, registers.KILL):
            is_of_symbols = register in (registers.SYMBOL_STOCK, registers.SYMBOL_LOCATE)
            count = bench.read(registers.SYMBOL_COUNT) if is_of_symbols else register.count
            for index in {0, count - 1}:
                bench.write(register, 0x1234_5678_9ABC_DEF0 + index, index)
                assert bench.read(register, index) == 0x1234_5678_9ABC_DEF0 + index
    bench.write(registers.FEED_SEQUENCE, 1 << 64 | 5)
    assert bench.read(registers.FEED_SEQUENCE) == 5


def test_address_without_a_register_reads_zero_and_takes_no_value(bench):
    for address in (0x004, 0x008 + 1, 0x078, 0xFFFF, 0xFFFF_FFF8):
        bench.card.write(address, 77)
        assert bench.card.read(address) == 0


def test_clock_reads_the_card_s_time(bench):
    bench.advance(123)
    assert bench.read(registers.CLOCK_NS) == 123


# After reset.


def test_nothing_runs_before_the_control_bit(bench):
    bench.place()
    bench.symbols(("AAPL", 7))
    bench.feed(*bench.market_messages())
    bench.command(ring.HEARTBEAT)
    assert bench.take(bench.market) == []
    assert bench.read(registers.FRAMES_RECEIVED) == 0
    assert bench.read(registers.COMMANDS_RECEIVED) == 0
    bench.write(registers.CONTROL, 2)  # Not the bit.
    bench.feed(*bench.market_messages())
    assert bench.read(registers.FRAMES_RECEIVED) == 0


def test_card_comes_up_killed_and_without_limits(bench):
    bench.place()
    bench.symbols(("AAPL", 7))
    bench.connect()
    bench.write(registers.CONTROL, 1)
    bench.feed(*bench.market_messages())
    bench.new()
    bench.write(registers.KILL, 0)
    bench.new()  # Desk and trader have kill switches of their own.
    bench.rate(burst=0)
    bench.new()  # No limits for the symbol.
    bench.limits(0)
    bench.new()  # No message rate.
    bench.rate()
    bench.new()
    assert bench.answers("reason") == [
        ("DENIED", DenyReason.KILL_SWITCH),
        ("DENIED", DenyReason.KILL_SWITCH),
        ("DENIED", DenyReason.UNKNOWN_SYMBOL),
        ("DENIED", DenyReason.MESSAGE_RATE_EXCEEDED),
        ("SENT",),
    ]
    assert [title for title, _ in bench.ouch()] == ["Enter Order"]


def test_reset_closes_everything_again(bench):
    bench.started()
    bench.new()
    bench.ouch()
    bench.card.reset()
    bench.memory[:] = bytes(len(bench.memory))
    assert bench.read(registers.KILL) == 1
    assert bench.read(registers.CONTROL) == 0
    assert bench.read(registers.SYMBOL_STOCK) == 0
    assert bench.read(registers.ORDERS_SENT) == 0
    bench.start(limits=False)
    bench.feed(*bench.market_messages(), sequence=1)
    bench.new()
    bench.rate()
    bench.new()
    assert bench.answers("reason") == [
        ("DENIED", DenyReason.KILL_SWITCH),
        ("DENIED", DenyReason.UNKNOWN_SYMBOL),
    ]
    assert bench.ouch() == []


def test_order_without_a_session_is_denied(bench):
    bench.started()
    bench.write(registers.ORDER_SESSION, 0)
    bench.new()
    bench.cancel(1)
    assert bench.answers("reason") == [("DENIED", DenyReason.SESSION_NOT_READY)] * 2
    bench.write(registers.ORDER_SESSION, 1)
    bench.new()
    assert bench.answers() == [("SENT",)]


# Symbols.


def test_symbol_table_gives_locates_to_slots_and_names_to_orders(bench):
    bench.place()
    bench.symbols(("AAPL", 7), ("BRK.A", 9))
    bench.connect()
    bench.write(registers.CONTROL, 1)
    bench.feed(
        bench.add(1, "B", BUY_AT, locate=9),
        bench.add(2, "S", SELL_AT, locate=9),
        bench.add(3, "B", 5, 1, 8),
    )
    records = bench.take(bench.market)
    assert [(kind, values["symbol_index"]) for kind, values in records] == [("BBO", 1)] * 2
    bench.limits(1)
    bench.rate()
    bench.write(registers.KILL, 0)
    bench.new(symbol_index=1)
    ((_, order),) = bench.ouch()
    assert order["symbol"] == "BRK.A"


def test_locate_of_zero_is_learnt_from_the_directory_and_a_written_one_is_kept(bench):
    bench.place()
    bench.symbols(("AAPL", 0), ("MSFT", 8))
    bench.write(registers.CONTROL, 1)
    bench.feed(bench.add(1, "B", BUY_AT, locate=55))
    bench.feed(bench.directory("AAPL", 55), bench.directory("MSFT", 56))
    bench.feed(
        bench.add(2, "B", BUY_AT, locate=55),
        bench.add(3, "B", 9, locate=56),
        bench.add(4, "B", 8, locate=8),
    )
    found = [(kind, values["symbol_index"]) for kind, values in bench.take(bench.market)]
    assert found == [("BBO", 0), ("BBO", 1)]


@pytest.mark.parametrize("index", [2, 4, 0xFFFF])
def test_order_for_a_slot_without_a_symbol_is_denied(bench, index):
    bench.started()
    bench.limits(index)
    bench.new(symbol_index=index)
    assert bench.answers("reason") == [("DENIED", DenyReason.UNKNOWN_SYMBOL)]


# The feed's registers.


def test_written_session_sequence_and_groups_filter_the_feed(bench):
    session = int.from_bytes(b"SESSION001", "little")
    bench.write(registers.FEED_SESSION_LOW, session & 0xFFFF_FFFF_FFFF_FFFF)
    bench.write(registers.FEED_SESSION_HIGH, session >> 64)
    bench.write(registers.FEED_SEQUENCE, 50)
    bench.write(registers.FEED_GROUP, 0xE936_0C6F << 16 | 26_477, 0)
    bench.write(registers.FEED_GROUP, 0xE937_0C6F << 16 | 26_477, 1)
    bench.start()
    bench.feed(bench.add(1, "B", BUY_AT), sequence=50, port=Port.FEED_B)  # The group of line A.
    assert bench.read(registers.DROPS, DropReason.NOT_SUBSCRIBED) == 1
    bench.feed(bench.add(1, "B", BUY_AT), sequence=49)
    assert bench.read(registers.DROPS, DropReason.DUPLICATE) == 1
    bench.feed(bench.add(1, "B", BUY_AT), sequence=50, session="SESSION002")
    bench.feed(bench.add(1, "B", BUY_AT), sequence=50, session="XESSION001")
    assert bench.read(registers.DROPS, DropReason.MOLD_SESSION) == 2
    assert bench.take(bench.market) == []
    bench.feed(bench.add(1, "B", BUY_AT), sequence=50)
    assert [kind for kind, _ in bench.take(bench.market)] == ["BBO"]


def test_sequence_of_zero_adopts_the_first_one_seen(bench):
    bench.write(registers.FEED_SEQUENCE, 0)
    bench.start()
    bench.feed(bench.add(1, "B", BUY_AT), sequence=700)
    assert [values["feed_sequence"] for _, values in bench.take(bench.market)] == [700]


def test_sequence_number_at_the_end_of_its_64_bits_does_not_stop_the_card(bench):
    bench.write(registers.FEED_SEQUENCE, 0)
    bench.start()
    last = (1 << 64) - 1
    bench.feed(bench.add(1, "B", BUY_AT), bench.delete(1), sequence=last)
    assert [values["feed_sequence"] for _, values in bench.take(bench.market)] == [last, 0]


def test_cleared_control_bit_stops_the_card_and_setting_it_begins_anew(bench):
    bench.started()
    bench.take(bench.market)
    bench.write(registers.CONTROL, 0)
    assert bench.read(registers.KILL) == 0
    bench.feed(bench.add(9, "B", BUY_AT + 100))
    bench.write(registers.KILL, 1)
    assert bench.read(registers.KILL) == 1
    assert bench.take(bench.market) == []
    bench.memory[:] = bytes(len(bench.memory))
    bench.write(registers.FEED_SEQUENCE, 0)
    bench.place()
    bench.write(registers.CONTROL, 1)
    bench.feed(bench.add(9, "B", BUY_AT))
    (bbo,) = bench.take(bench.market)
    assert (bbo[1]["bid_price"], bbo[1]["ask_price"]) == (BUY_AT, 0)
    assert bench.read(registers.KILL) == 1


# Kill switch and heartbeat.


def test_kill_stops_new_and_replace_but_neither_cancel_nor_mass_cancel(bench):
    bench.started()
    order = bench.new()
    bench.venue(bench.accepted(order))
    bench.answers()
    bench.ouch()
    bench.write(registers.KILL, 1)
    bench.new()
    bench.replace(order, 200)
    bench.cancel(order)
    bench.command(ring.MASS_CANCEL, cl_ord_id=9, flags=1, symbol_index=ring.ALL_MARKET)
    assert bench.answers("reason") == [
        ("DENIED", DenyReason.KILL_SWITCH),
        ("DENIED", DenyReason.KILL_SWITCH),
        ("SENT",),
        ("SENT",),
    ]
    assert [title for title, _ in bench.ouch()] == ["Cancel Order Request", "Mass Cancel Request"]
    assert bench.read(registers.DENIALS, DenyReason.KILL_SWITCH) == 2
    bench.write(registers.KILL, 0)
    bench.new()
    assert bench.answers() == [("SENT",)]


def test_silence_of_the_host_sets_kill_one_nanosecond_after_the_timeout(bench):
    bench.write(registers.HEARTBEAT_TIMEOUT_NS, 1_000)
    bench.started()
    bench.advance(600)
    bench.command(ring.HEARTBEAT)
    bench.advance(1_000)
    assert bench.read(registers.KILL) == 0
    bench.new()
    bench.advance(1)
    assert bench.read(registers.KILL) == 1
    bench.command(ring.HEARTBEAT)  # Too late: the host must release the switch itself.
    bench.new()
    assert bench.answers("reason") == [("SENT",), ("DENIED", DenyReason.KILL_SWITCH)]
    bench.write(registers.KILL, 0)
    bench.advance(1_000)
    assert bench.read(registers.KILL) == 0
    bench.now_ns += 1  # Noticed as well when nothing but a command comes.
    bench.new()
    assert bench.answers("reason") == [("DENIED", DenyReason.KILL_SWITCH)]


def test_heartbeat_timeout_of_zero_never_kills(bench):
    bench.started()
    bench.advance(1 << 62)
    assert bench.read(registers.KILL) == 0


# The gate.


def test_gate_asks_for_halt_and_staleness(bench):
    bench.started()
    for state, reason in (("H", 4), ("P", 4), ("Q", 4), ("T", None)):
        bench.feed(bench.trading_action(state))
        bench.new()
        expected = [("SENT",)] if reason is None else [("DENIED", reason)]
        assert bench.answers("reason") == expected, state
    bench.feed(bench.delete(99))
    bench.new()
    assert bench.answers("reason") == [("DENIED", DenyReason.BOOK_STALE)]


def test_gate_counts_open_orders_and_position(bench):
    bench.started()
    bench.limits(0, position_max=300)
    first = bench.new(200)
    bench.new(101)
    second = bench.new(100)
    bench.venue(bench.accepted(first, 200) + bench.executed(first, 200))
    bench.new(1)
    bench.venue(bench.accepted(second, 100) + bench.canceled(second, 100))
    bench.new(100)
    bench.new(501, price=1_000_100, side="S")
    bench.new(500, price=1_000_100, side="S")
    denied = ("DENIED", DenyReason.POSITION_EXCEEDS_LIMIT)
    assert [answer for answer in bench.answers("reason") if answer[0] in ("SENT", "DENIED")] == [
        ("SENT",),
        denied,
        ("SENT",),
        denied,
        ("SENT",),
        denied,
        ("SENT",),
    ]


def test_traders_and_desks_have_limits_and_kill_switches_of_their_own(bench):
    bench.started()
    room = {"gross_max": 1 << 50, "net_max": 1 << 50, "rate_interval_ns": 1, "rate_burst_ns": 99}
    killed = ring.LevelLimitsFlag.KILLED
    bench.new(1, trader_index=3)  # Not opened yet.
    bench.command(ring.LEVEL_LIMITS, level=RiskLevel.TRADER, level_index=3, desk_index=2, **room)
    bench.new(2, trader_index=3)  # Its desk is not.
    bench.command(ring.LEVEL_LIMITS, level=RiskLevel.DESK, level_index=2, **room)
    bench.new(3, trader_index=3)
    less = room | {"gross_max": 7_000_000}
    bench.command(ring.LEVEL_LIMITS, level=RiskLevel.DESK, level_index=2, **less)
    bench.new(5, trader_index=3)
    bench.new(5, trader_index=0)
    bench.command(ring.LEVEL_LIMITS, level=RiskLevel.TRADER, level_index=0, flags=killed, **room)
    bench.new(6, trader_index=0)
    bench.new(4, trader_index=3)
    bench.new(1, trader_index=16)
    assert bench.answers("reason") == [
        ("DENIED", DenyReason.KILL_SWITCH),
        ("DENIED", DenyReason.KILL_SWITCH),
        ("SENT",),
        ("DENIED", DenyReason.DESK_GROSS_EXCEEDS_LIMIT),
        ("SENT",),
        ("DENIED", DenyReason.KILL_SWITCH),
        ("SENT",),
        ("DENIED", DenyReason.KILL_SWITCH),
    ]


def test_level_limits_of_nobody_do_nothing(bench):
    bench.started()
    for level, index in ((0, 0), (ord("X"), 0), (RiskLevel.TRADER, 16), (RiskLevel.DESK, 1 << 31)):
        bench.command(ring.LEVEL_LIMITS, level=level, level_index=index)
    bench.new()
    assert bench.answers() == [("SENT",)]


def test_orders_are_sent_in_the_phases_of_the_limits_only(bench):
    bench.started()
    bench.limits(0, phases=1 << MarketPhase.REGULAR)
    for event in "QM":
        bench.feed(
            itch50.SYSTEM_EVENT.pack(
                stock_locate=0, tracking_number=0, timestamp=5, event_code=event
            )
        )
        bench.new()
    assert bench.answers("reason") == [("SENT",), ("DENIED", DenyReason.PHASE_NOT_ALLOWED)]


def test_last_trade_is_the_reference_of_a_book_with_one_side(bench):
    bench.started()
    bench.limits(0, price_band_bp=100)
    executed = itch50.ORDER_EXECUTED.pack(
        stock_locate=7,
        tracking_number=0,
        timestamp=5,
        order_reference_number=2,
        executed_shares=40,
        match_number=1,
    )
    bench.feed(bench.delete(1))
    bench.new(1)  # Neither a mid nor a trade.
    bench.feed(executed)  # 100.0100, and 100 basis points of it.
    bench.new(2, price=990_098)
    bench.new(3, price=990_099)
    outside = ("DENIED", DenyReason.PRICE_OUTSIDE_BAND)
    assert bench.answers("reason") == [outside, outside, ("SENT",)]


def test_limits_for_no_symbol_do_nothing(bench):
    bench.started()
    bench.limits(4, qty_max=1)
    bench.limits(0xFFFF, qty_max=1)
    bench.new(1_000)
    assert bench.answers() == [("SENT",)]


# Frames that are none.


@pytest.mark.parametrize("port", list(Port))
@pytest.mark.parametrize("frame", [b"", bytes(60), b"\xff" * 200])
def test_frame_that_is_none_changes_nothing(bench, port, frame):
    bench.started()
    bench.card.receive(port, frame, 0)
    assert bench.take(bench.market) == []
    assert bench.answers() == []
    bench.new()
    assert bench.answers() == [("SENT",)]
