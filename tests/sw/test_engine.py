"""The host's path in one piece, on a functional card and a venue without latency."""

import io
from collections import deque

import pytest

from kernels.exposure import Exposure, token_bucket
from kernels.risk import LevelLimits, Limits
from protocol import itch50, registers
from protocol.frames import Address
from protocol.orders import OrderState, Side
from protocol.reasons import DenyReason
from protocol.ring import RecordType
from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sim.venue.flow import generate
from sim.venue.gateway import Gateway
from sim.venue.publisher import publish
from sim.venue.replay import ReplayBook
from sw.engine import Engine, EngineConfig, OrderSession, Symbol
from sw.errors import CardError, IdentityMismatchError
from sw.journal import Journal, read_journal
from sw.mm import Quoting

HOST, VENUE = Address(b"hosthw", 0x0A00_0002, 40_000), Address(b"venuex", 0x0A00_0001, 26_400)
SESSION = OrderSession(
    HOST.mac, VENUE.mac, HOST.ip, VENUE.ip, HOST.port, VENUE.port, 1_000, 2_000, "FIRM"
)
LIMITS = Limits(
    qty_max=1_000,
    notional_max=1 << 40,
    position_max=1_000,
    price_band_bp=500,
    tick_size=100,
    locate_qty=1_000,
    phases=0b101,
    restricted=False,
)
LOCATES = {"AAPL": 1, "MSFT": 2}


def config(**more):
    values = {
        "symbols": [Symbol("AAPL", 1), Symbol("MSFT", 2)],
        "limits": [LIMITS, LIMITS],
        "level_limits": LevelLimits(1 << 50, 1 << 50),
        "rate": token_bucket(100, 1_000),
        "quoting": [Quoting(100, 100, 300), None],
        "market_slots": 64,
        "execution_slots": 64,
        "command_slots": 64,
        "heartbeat_interval_ns": 1_000,
        "heartbeat_timeout_ns": 3_000,
    }
    return EngineConfig(**(values | more))


class Rig:
    """An engine on a card on a venue; what leaves one arrives at the next when it is run."""

    def __init__(self, symbol_count=2, **more):
        self.config = config(**more)
        self.memory = memoryview(bytearray(self.config.memory_size))
        self.frames = deque()
        self.card = FunctionalCard(
            self.memory, symbol_count=symbol_count, transmit=self.frames.append
        )
        self.file = io.BytesIO()
        self.engine = Engine(self.card, self.config, Journal(self.file))
        self.book = ReplayBook()
        self.back = deque()
        self.gateway = Gateway(
            self.book, lambda s: LOCATES.get(s, 0), VENUE, HOST, 2_000, 1_000, self.back.append
        )

    def run(self, now_ns):
        """Let everything under way arrive."""
        for _ in range(100):
            self.card.advance(now_ns)
            taken = self.engine.step(now_ns) + self.card.poll_commands(now_ns)
            while self.frames:
                self.gateway.receive(self.frames.popleft(), now_ns)
            while self.back:
                self.card.receive(Port.ORDER, self.back.popleft(), now_ns)
                taken += 1
            if not taken:
                return
        raise AssertionError("never quiet")

    def play(self, messages, session="DAY"):
        """Publish messages; the book of the venue follows them."""
        for packet in publish(messages, session):
            for message in packet.messages:
                fields = itch50.MESSAGES.by_code[message[0]].unpack(message)
                self.gateway.publish(self.book.background(fields), packet.ts_ns)
            self.card.receive(Port.FEED_A, packet.frame_a, packet.ts_ns)
            self.card.receive(Port.FEED_B, packet.frame_b, packet.ts_ns)
            self.run(packet.ts_ns)

    def start(self, now_ns=0):
        self.engine.start(SESSION, now_ns)
        self.card.poll_commands(now_ns)

    def journal(self):
        return list(read_journal(io.BytesIO(self.file.getvalue())))

    def open_orders(self):
        return [
            (order.symbol_index, chr(order.side), order.price, order.leaves_qty, order.state.name)
            for order in self.engine.oms.orders.values()
            if order.is_open
        ]


def add(ref, side, price, shares=500, locate=1, ts_ns=10):
    return itch50.ADD_ORDER.pack(
        stock_locate=locate,
        tracking_number=0,
        timestamp=ts_ns,
        order_reference_number=ref,
        buy_sell_indicator=side,
        shares=shares,
        stock="AAPL",
        price=price,
    )


def execute(ref, shares, ts_ns):
    return itch50.ORDER_EXECUTED.pack(
        stock_locate=1,
        tracking_number=0,
        timestamp=ts_ns,
        order_reference_number=ref,
        executed_shares=shares,
        match_number=1,
    )


OPENING = [add(1, "B", 999_800), add(2, "S", 1_000_200), add(3, "B", 500, locate=2)]


def test_memory_holds_three_rings_with_their_control_lines():
    assert config().memory_size == 3 * 64 + 3 * 64 * 64


def test_card_with_too_few_symbols_is_refused():
    with pytest.raises(CardError, match=r"^CARD_TOO_SMALL: symbols=2, symbol_count=1$"):
        Rig(symbol_count=1)


def test_card_that_is_none_is_refused_before_anything_is_written():
    class Nothing:
        memory = memoryview(b"")

        def read(self, address):
            return 0

    with pytest.raises(IdentityMismatchError):
        Engine(Nothing(), config(), Journal(io.BytesIO()))


def test_start_writes_symbols_session_and_limits_and_releases_the_kill_switch_last():
    rig = Rig()
    assert rig.card.read(registers.KILL.address()) == 1
    rig.start()

    def read(register, index=0):
        return rig.card.read(register.address(index))

    assert read(registers.SYMBOL_STOCK, 1).to_bytes(8, "little") == b"MSFT    "
    assert (read(registers.SYMBOL_LOCATE), read(registers.SYMBOL_LOCATE, 1)) == (1, 2)
    assert read(registers.ORDER_LOCAL_MAC).to_bytes(6, "big") == b"hosthw"
    assert read(registers.ORDER_REMOTE_IP) == 0x0A00_0001
    assert read(registers.ORDER_FIRM).to_bytes(8, "little") == b"FIRM\0\0\0\0"
    assert (read(registers.ORDER_LOCAL_PORT), read(registers.ORDER_REMOTE_PORT)) == (40_000, 26_400)
    assert read(registers.HEARTBEAT_TIMEOUT_NS) == 3_000
    assert (read(registers.CONTROL), read(registers.KILL)) == (1, 0)
    assert read(registers.COMMANDS_RECEIVED) == 6  # Two symbols, three levels, a heartbeat.
    assert not rig.engine.risk.killed


def test_start_that_finds_no_room_for_the_limits_raises_and_leaves_everything_closed():
    rig = Rig(command_slots=2)
    with pytest.raises(CardError, match=r"^COMMAND_RING_FULL: slots=2$"):
        rig.engine.start(SESSION, 0)
    assert rig.engine.risk.killed
    assert rig.card.read(registers.KILL.address()) == 1


def test_market_is_quoted_on_both_sides_and_a_symbol_that_is_only_watched_is_not():
    rig = Rig()
    rig.start()
    rig.play(OPENING)
    assert rig.open_orders() == [
        (0, "B", 999_900, 100, "NEW"),
        (0, "S", 1_000_100, 100, "NEW"),
    ]
    assert rig.engine.feed.quotes[1].bid_price == 500


def test_fills_are_told_and_move_the_position_before_the_next_quote():
    rig = Rig()
    told = []
    rig.engine.on_fill = told.append
    rig.start()
    rig.play(OPENING)
    rig.play([])  # Nothing happens without messages.
    rig.gateway.publish(rig.book.on_execute(1, 60), 20)  # Somebody sold 60: to us first.
    rig.run(20)
    assert [(f.order.side, f.last_qty, f.last_price) for f in told] == [(Side.BUY, 60, 999_900)]
    assert rig.engine.risk.exposure(0) == Exposure(60, 40, 100)
    for _ in range(3):  # Whoever sells on meets the new quotes, until the inventory is full.
        rig.gateway.publish(rig.book.on_execute(1, 100), 30)
        rig.run(30)
    assert rig.engine.risk.exposure(0) == Exposure(300, 0, 100)


def test_heartbeats_keep_the_card_alive_and_silence_stops_it():
    rig = Rig()
    rig.start()
    for now_ns in range(0, 10_000, 500):
        rig.run(now_ns)
    beats = [record for record in rig.journal() if record[0] == RecordType.HEARTBEAT]
    assert len(beats) == 10
    assert rig.card.read(registers.KILL.address()) == 0
    rig.card.advance(9_000 + 3_001)
    assert rig.card.read(registers.KILL.address()) == 1
    rig.play(OPENING)
    assert rig.engine.oms.denials[DenyReason.KILL_SWITCH] >= 2
    assert rig.card.read(registers.ORDERS_SENT.address()) == 0
    assert rig.book.order(1) is None


def test_stop_cancels_every_order_and_quotes_no_more():
    rig = Rig()
    rig.start()
    rig.play(OPENING)
    assert rig.engine.stop(20)
    rig.run(20)
    assert rig.open_orders() == []
    assert rig.engine.risk.exposure(0) == Exposure()
    assert {order.state for order in rig.engine.oms.orders.values()} == {OrderState.CANCELED}
    count = len(rig.engine.oms.orders)
    rig.engine.feed.quotes[0].bid_price += 100
    rig.run(30)
    assert len(rig.engine.oms.orders) == count


def test_stop_says_when_the_command_ring_has_no_room_for_it():
    rig = Rig(command_slots=8)
    rig.start()
    while rig.engine.oms.heartbeat(1):
        pass
    assert not rig.engine.stop(2)
    assert rig.engine.risk.killed
    rig.card.poll_commands(3)
    assert rig.engine.stop(4)


def test_step_counts_records_and_takes_answers_before_market_data():
    rig = Rig()
    rig.start()
    assert rig.engine.step(1) == 0
    rig.play(OPENING)
    before = len(rig.journal())
    rig.gateway.publish(rig.book.on_execute(1, 60), 20)
    rig.card.receive(Port.ORDER, rig.back.popleft(), 20)
    (packet,) = publish([add(9, "B", 999_850, ts_ns=20)], "DAY")
    rig.card._feed.apply(99, packet.messages[0], 20)
    assert rig.engine.step(20) == 2
    kinds = [RecordType(record[0]) for record in rig.journal()[before:]]
    assert kinds[:2] == [RecordType.EXECUTED, RecordType.BBO]


def day(seed):
    messages = list(generate(seed, tuple(LOCATES), 2_000, start_ns=10**9))
    rig = Rig(
        quoting=[Quoting(0, 100, 300)] * 2,
        rate=token_bucket(1_000, 1),
        heartbeat_interval_ns=10**9,
        heartbeat_timeout_ns=0,
        market_slots=1_024,
    )
    rig.start(1)
    rig.play(messages)
    rig.engine.stop(10**14)
    rig.run(10**14)
    return rig


def test_generated_day_ends_flat_in_orders_and_agrees_with_card_and_venue():
    rig = day(seed=5)
    fills = sum(1 for record in rig.journal() if record[0] == RecordType.EXECUTED)
    assert fills >= 5
    assert rig.open_orders() == []
    on_card, on_host = rig.card._orders.risk, rig.engine.risk
    for index in range(on_host.symbol_count):
        exposure = on_host.exposure(index)
        assert on_card.exposure(index) == exposure
        assert abs(exposure.position) <= 300
        assert (exposure.open_buy, exposure.open_sell) == (0, 0)
    for level, index in on_host.levels:
        assert on_card.level(level, index) == on_host.level(level, index)
    assert rig.engine.feed.gap_count == 0


def test_one_seed_gives_one_journal_byte_for_byte():
    assert day(seed=6).file.getvalue() == day(seed=6).file.getvalue()
    assert day(seed=6).file.getvalue() != day(seed=7).file.getvalue()
