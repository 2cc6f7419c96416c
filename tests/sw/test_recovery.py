"""Lost market data: re-requests, snapshots, and books that go live again exactly as they are."""

import io
from heapq import heappop, heappush
from itertools import count
from random import Random

import pytest

from kernels.exposure import token_bucket
from kernels.risk import LevelLimits
from protocol import itch50, registers, ring
from protocol.frames import Address, udp_frame
from protocol.glimpse import END_OF_SNAPSHOT
from protocol.reasons import DropReason, StaleReason
from protocol.ring import RecordType
from sim.card.functional import FunctionalCard
from sim.card.functional.records import NONE
from sim.card.port import Port
from sim.golden.book import Book as GoldenBook
from sim.golden.book import Side as GoldenSide
from sim.golden.parse import parse
from sim.venue.flow import generate
from sim.venue.moldudp import Feed as VenueFeed
from sim.venue.publisher import GROUP_A, GROUP_B, VENUE_IP, VENUE_MAC
from sim.venue.source import VenueSource
from sw.engine import Engine, EngineConfig, Symbol
from sw.feed.recovery import RecoveryConfig
from sw.journal import Journal, read_journal
from tests.sw.test_engine import LIMITS, SESSION

US = 1_000
GAP_TIMEOUT_NS = 50 * US
STOCKS = ("AAA", "BBB", "CCC", "DDD")
OPENING = list(generate(1, STOCKS, 1))[: 1 + 2 * len(STOCKS)]
"""Start of messages, then directory and trading state of each symbol."""


def golden_snapshot(golden, following):
    """Return a snapshot of the lossless book: made by hand from what the golden model holds."""
    found = []
    for locate, stock in golden.symbols.items():
        ids = {"stock_locate": locate, "timestamp": 7, "stock": stock}
        found += [m for m in OPENING if m[:1] == b"R" and m[1:3] == locate.to_bytes(2, "big")]
        if locate in golden.states:
            found.append(action(golden.states[locate], locate))
        for side in GoldenSide:
            for reference, price, shares in golden.orders(locate, side):
                found.append(
                    itch50.ADD_ORDER.pack(
                        **ids,
                        order_reference_number=reference,
                        buy_sell_indicator=side.value,
                        shares=shares,
                        price=price,
                    )
                )
    return [*found, END_OF_SNAPSHOT.pack(sequence_number=following)]


class Lossless(GoldenBook):
    """The golden book of a feed that loses nothing, with each symbol's trading state."""

    def __init__(self):
        super().__init__()
        self.states = {}

    def apply(self, message):
        if type(message).__name__ == "StockTradingAction":
            self.states[message.stock_locate] = message.trading_state
        return super().apply(message)


class Rig:
    """A venue with two lines that lose packets, a card, and a host that recovers.

    Packets, commands and answers take their time, so that they cross.
    """

    def __init__(self, seed=1, snapshots=True, recovers=True, locates=True, **patience):
        symbols = [Symbol(stock, index + 1 if locates else 0) for index, stock in enumerate(STOCKS)]
        values = {"rerequest_max": 2_000, "timeout_ns": 500 * US, "retry_ns": 5 * US}
        config = EngineConfig(
            symbols=symbols,
            limits=[LIMITS] * len(STOCKS),
            level_limits=LevelLimits(0, 0),
            rate=token_bucket(1, 1),
            quoting=[None] * len(STOCKS),
            market_slots=256,
            command_slots=64,
            heartbeat_interval_ns=10**12,
            heartbeat_timeout_ns=10**13,
            feed_gap_timeout_ns=GAP_TIMEOUT_NS,
            recovery=RecoveryConfig(**(values | patience)),
        )
        self.random = Random(seed)
        self.now_ns = 0
        self._events, self._numbers = [], count()
        self.venue = VenueFeed("STORM")
        self.golden = Lossless()
        self.memory = memoryview(bytearray(config.memory_size))
        self.card = FunctionalCard(self.memory, symbol_count=len(STOCKS), order_count=1 << 14)
        self.file = io.BytesIO()
        self.source = VenueSource(
            self.venue,
            30 * US,
            lambda ts_ns: self.at(ts_ns, self.host),
            (lambda: golden_snapshot(self.golden, self.venue.next_sequence)) if snapshots else None,
        )
        self.engine = Engine(
            self.card, config, Journal(self.file), self.source if recovers else None
        )
        self.engine.start(SESSION, 0)
        self.card.poll_commands(0)
        self.asked = self.engine.oms.command_count

    def at(self, ts_ns, event):
        heappush(self._events, (ts_ns, next(self._numbers), event))

    def until(self, ts_ns):
        while self._events and self._events[0][0] <= ts_ns:
            self.now_ns, _, event = heappop(self._events)
            event()
        self.now_ns = ts_ns

    def host(self):
        """Let the host act; its commands are at the card a little later, however many they are."""
        self.engine.step(self.now_ns)
        if self.engine.oms.command_count != self.asked:
            self.asked = self.engine.oms.command_count
            self.at(self.now_ns + self.random.randint(1, 8) * US, self.commands)

    def commands(self):
        self.card.poll_commands(self.now_ns)
        self.host()

    def arrive(self, port, frame):
        self.card.receive(port, frame, self.now_ns)
        self.host()

    def publish(self, messages, lost=(False, False), delay_ns=0):
        """Send messages in one packet on both lines, or on those that do not lose it."""
        self.venue.messages += messages
        for message in messages:
            self.golden.apply(parse(message))
        for payload in self.venue.packets():
            for port, group in ((Port.FEED_A, GROUP_A), (Port.FEED_B, GROUP_B)):
                if not lost[port]:
                    source = Address(VENUE_MAC, VENUE_IP, group.port)
                    frame = udp_frame(source, group, payload)
                    late_ns = delay_ns + self.random.randint(0, 2 * US)
                    self.at(self.now_ns + late_ns, lambda p=port, f=frame: self.arrive(p, f))

    def settle(self, within_ns=50_000 * US):
        """Let time pass until nothing is stale and nothing under way; tell the next number."""
        self.at(self.now_ns, self.heartbeat)
        end_ns = self.now_ns + within_ns
        for _ in range(20):
            self.pass_time(GAP_TIMEOUT_NS // 10)
        while self.engine.feed.stale_count or not self.engine.recovery.is_idle:
            assert self.now_ns < end_ns, "never repaired"
            self.pass_time()

    def pass_time(self, ns=10 * US):
        self.until(self.now_ns + ns)
        self.card.advance(self.now_ns)
        self.host()

    def heartbeat(self):
        source = Address(VENUE_MAC, VENUE_IP, GROUP_A.port)
        self.arrive(Port.FEED_A, udp_frame(source, GROUP_A, self.venue.heartbeat()))

    # What stands.

    def card_orders(self):
        """Return every order of the card: symbol index, side, shares and price by reference."""
        found = {}
        for row in self.card._feed.core.orders:
            if row["level"] != NONE:
                side = "BS"[row["book"] % 2]
                found[int(row["reference"])] = (
                    *(int(row["book"]) // 2, side),
                    *(int(row["shares"]), int(row["price"])),
                )
        return found

    def lossless_orders(self):
        return {
            reference: (index, side.value, shares, price)
            for index in range(len(STOCKS))
            for side in GoldenSide
            for reference, price, shares in self.golden.orders(index + 1, side)
        }

    def check(self):
        """The card's books are those of a feed that lost nothing; so is what the host sees."""
        assert self.card_orders() == self.lossless_orders()
        for index in range(len(STOCKS)):
            quote = self.engine.feed.quotes[index]
            shown = (quote.bid_price, quote.bid_qty, quote.bid_orders)
            shown += (quote.ask_price, quote.ask_qty, quote.ask_orders)
            assert shown == tuple(self.golden.bbo(index + 1))
            assert not quote.stale
            assert chr(quote.trading_state) == self.golden.states.get(index + 1, "\0")

    def drops(self, reason):
        return self.card.read(registers.DROPS.address(reason))

    def records(self, kind):
        journal = read_journal(io.BytesIO(self.file.getvalue()))
        return [ring.RECORDS.by_code[kind].unpack(r) for r in journal if r[0] == kind]


def day(seed, messages):
    return list(generate(seed, STOCKS, messages))


def play(rig, messages, lost=lambda number: (False, False), size=4):
    for number, at in enumerate(range(0, len(messages), size)):
        rig.publish(messages[at : at + size], lost(number))
        rig.until(rig.now_ns + rig.random.randint(1, 6) * US)


LOSS, BURST = 0.01, 50


def bursts(seed, packets):
    """Return the packets that each line loses: 1 %, in bursts of 50.

    Every second burst of line B overlaps one of line A by chance more or less.
    """
    random = Random(seed)
    places = range(packets - 2 * BURST)
    firsts = random.sample(places, round(packets * LOSS / BURST))
    others = [
        random.choice(places) if number % 2 else max(first + random.randint(-BURST, BURST), 0)
        for number, first in enumerate(firsts)
    ]
    return [
        {packet for first in found for packet in range(first, first + BURST)}
        for found in (firsts, others)
    ]


@pytest.mark.parametrize("rerequest_max", [100, 100_000])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_books_after_a_storm_of_gaps_are_those_of_a_lossless_feed(seed, rerequest_max):
    rig, messages, quiet = Rig(seed, rerequest_max=rerequest_max), day(seed, 30_000), 0
    lost = bursts(seed, len(messages))
    for at in range(0, len(messages), 1_500):
        play(rig, messages[at : at + 1_500], lambda n, at=at: tuple(at + n in x for x in lost), 1)
        rig.settle()
        rig.check()
        quiet += 1
    feed, recovery = rig.engine.feed, rig.engine.recovery
    assert quiet >= 20
    assert feed.messages_lost == len(lost[0] & lost[1]) > BURST // 2
    assert feed.gap_count >= 2
    assert recovery.repaired_count >= len(STOCKS) * 2
    assert recovery.failed_count == 0
    assert rig.drops(DropReason.UNDER_REPAIR) > 0
    assert (recovery.snapshot_count > 0) == (rerequest_max == 100)


def add(ref, side="B", shares=100, price=1_000_000, locate=1):
    return itch50.ADD_ORDER.pack(
        stock_locate=locate,
        timestamp=5,
        order_reference_number=ref,
        buy_sell_indicator=side,
        shares=shares,
        stock=STOCKS[locate - 1],
        price=price,
    )


def delete(ref, locate=1):
    return itch50.ORDER_DELETE.pack(stock_locate=locate, timestamp=5, order_reference_number=ref)


def action(state, locate=1):
    return itch50.STOCK_TRADING_ACTION.pack(
        stock_locate=locate,
        timestamp=5,
        stock=STOCKS[locate - 1],
        trading_state=state,
        reserved=" ",
        reason_code="",
    )


def event(code):
    return itch50.SYSTEM_EVENT.pack(stock_locate=0, timestamp=5, event_code=code)


BOTH = (True, True)


def after_gap(lost, later=(), **how):
    """Return a rig that has lost some messages and was told of more; nothing is repaired yet."""
    rig = Rig(**how)
    rig.publish([*OPENING, add(1), add(2, "S", price=1_000_100)])
    rig.until(rig.now_ns + 5 * US)
    rig.publish(lost, BOTH)
    rig.publish([add(99, locate=2), *later])
    rig.until(rig.now_ns + 5 * US)
    return rig


def test_what_was_lost_is_there_again_and_what_came_meanwhile_too():
    rig = after_gap([delete(1), add(3, price=999_900)], [delete(3), add(4, shares=7)])
    rig.settle()
    rig.check()
    assert rig.golden.bbo(1) == (1_000_000, 7, 1, 1_000_100, 100, 1)
    assert rig.engine.recovery.repaired_count == len(STOCKS)
    assert rig.engine.recovery.rerequest_count == 1  # One answer brings all symbols forward.
    assert rig.engine.recovery.snapshot_count == 0


def test_strategy_sees_a_symbol_become_stale_and_exact_again():
    rig = after_gap([delete(1)])
    rig.settle()
    seen = [
        StaleReason(record["stale_reason"]).name
        for record in rig.records(RecordType.BBO)
        if record["symbol_index"] == 0
    ]
    assert [reason for n, reason in enumerate(seen) if seen[n - 1 : n] != [reason]] == [
        "NONE",
        "GAP",
        "NONE",
    ]
    answers = [r for r in rig.records(RecordType.REPAIR) if r["symbol_index"] == 0]
    assert [r["flags"] for r in answers] == [0, ring.RepairFlag.LIVE]


def test_halt_that_was_lost_is_known_afterwards():
    rig = after_gap([action("H")])
    rig.settle()
    assert rig.engine.feed.quotes[0].halted
    assert not rig.engine.feed.quotes[1].halted
    rig.publish([action("T")])
    rig.settle()
    assert not rig.engine.feed.quotes[0].halted


def test_phase_that_was_lost_is_known_afterwards_and_a_newer_one_stays():
    rig = after_gap([event("Q")])
    assert rig.engine.feed.quotes[0].phase.name != "REGULAR"
    rig.settle()
    assert {quote.phase.name for quote in rig.engine.feed.quotes} == {"REGULAR"}
    assert rig.card._feed.market_of(0).phase == rig.engine.feed.quotes[0].phase
    rig = after_gap([event("Q")], [event("M")])
    rig.settle()
    assert {quote.phase.name for quote in rig.engine.feed.quotes} == {"POST_MARKET"}
    assert rig.card._feed.market_of(0).phase == rig.engine.feed.quotes[0].phase


def test_symbol_whose_directory_message_was_lost_is_learnt():
    rig = Rig(locates=False)
    rig.publish([event("O")])
    rig.publish(OPENING, BOTH)
    rig.publish([add(1), add(2, locate=2)])
    rig.settle()
    rig.check()
    rig.publish([add(3, "S", price=1_000_500)])
    rig.settle()
    rig.check()


@pytest.mark.parametrize("rerequest_max", [2_000, 0])
def test_symbols_that_messages_rush_in_for_go_live_in_a_moment_of_quiet(rerequest_max):
    rig = after_gap([delete(1)], rerequest_max=rerequest_max)
    for number in range(300):
        messages = [add(1_000 + number, price=900_000 + number)]
        if number > 3:
            messages.append(delete(1_000 + number - 3))
        rig.publish(messages)
        rig.until(rig.now_ns + 4 * US)
    assert rig.engine.feed.quotes[0].stale
    rig.settle()
    rig.check()
    lives = [r["flags"] for r in rig.records(RecordType.REPAIR) if r["symbol_index"] == 0]
    assert len(lives) > 2


def test_without_a_source_books_stay_stale():
    rig = after_gap([delete(1)], recovers=False)
    rig.until(rig.now_ns + 10_000 * US)
    rig.pass_time()
    assert rig.engine.recovery is None
    assert rig.engine.feed.stale_count == len(STOCKS)


class Mute(VenueSource):
    """Servers that do not answer what they are told not to."""

    requests = snapshots = True

    def request(self, *question):
        if self.requests:
            super().request(*question)

    def snapshot(self, *question):
        if self.snapshots:
            super().snapshot(*question)


def mute(rig, requests=True, snapshots=True):
    rig.source.__class__ = Mute
    rig.source.requests, rig.source.snapshots = requests, snapshots


def test_rerequests_that_are_not_answered_are_repeated_then_a_snapshot_is_taken():
    rig = after_gap([delete(1)], [add(7)])
    mute(rig, requests=False)
    rig.settle()
    rig.check()
    recovery = rig.engine.recovery
    assert recovery.rerequest_count == 1 + 3
    assert recovery.snapshot_count == 1


def test_symbol_is_left_alone_for_a_while_when_nobody_answers():
    rig = after_gap([delete(1)], [add(7)], backoff_ns=20_000 * US)
    mute(rig, requests=False, snapshots=False)
    for _ in range(60):
        rig.pass_time(500 * US)
    recovery = rig.engine.recovery
    assert recovery.repaired_count == 0
    assert 4 <= recovery.failed_count <= 8
    assert rig.engine.feed.stale_count == len(STOCKS)
    mute(rig)
    rig.settle(within_ns=100_000 * US)
    rig.check()


def test_history_that_begins_too_late_needs_a_snapshot():
    rig = Rig()
    rig.golden.apply(parse(add(500)))  # It was there before the first message.
    rig.publish([delete(500), add(1)])
    rig.settle()
    rig.check()
    assert rig.engine.recovery.snapshot_count == 1
    bare = Rig(snapshots=False, backoff_ns=10_000 * US)
    bare.publish([delete(500), add(1)])
    bare.until(5_000 * US)
    for _ in range(5):
        bare.pass_time()
    assert bare.engine.feed.quotes[0].stale_reason is StaleReason.UNKNOWN_REFERENCE
    assert bare.engine.recovery.failed_count == 1


def test_repairs_leave_half_of_the_command_ring_to_orders():
    rig = after_gap([add(1_000 + n) for n in range(20)], [add(2_000 + n) for n in range(40)])
    rig.settle()
    rig.check()
    assert rig.engine.oms.command_high_water == 32


def test_snapshot_that_is_cut_short_counts_as_none():
    rig = after_gap([delete(1)], rerequest_max=0)
    whole = rig.source._snapshot
    answers = iter([whole()[:-1], []])
    rig.source._snapshot = lambda: next(answers, whole())
    rig.settle()
    rig.check()
    assert rig.engine.recovery.snapshot_count == 3


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"timeout_ns": 0}, "timeout_ns must be 1 or more, not 0"),
        ({"attempts": 0}, "attempts must be 1 or more, not 0"),
        ({"retry_ns": -1}, "retry_ns must be 1 or more, not -1"),
        ({"backoff_ns": 0}, "backoff_ns must be 1 or more, not 0"),
        ({"rerequest_max": -1}, "rerequest_max must be 0 or more, not -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, text):
    with pytest.raises(ValueError, match=f"^{text}$"):
        RecoveryConfig(**values)
