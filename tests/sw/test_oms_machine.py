"""Host, card and venue on slow wires, played at random: what the three believe must agree.

Every step moves one thing: the host asks, the card takes commands, a frame arrives at the venue or
at the card, the market moves, the host takes an answer. So every race happens: fills during a
replace, a cancel behind a fill, a card that denies what the host allowed, a full ring.
"""

from collections import Counter, deque
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from kernels.exposure import Exposure, token_bucket
from kernels.risk import LevelLimits, Limits, Market
from protocol import ring
from protocol.frames import Address, parse_tcp
from protocol.orders import OrderState, Side, TimeInForce
from sim.card.functional.order import Connection, OrderPath
from sim.venue.gateway import Gateway
from sim.venue.replay import ReplayBook
from sw.feed import Quote
from sw.oms import Fill, Oms, Order
from sw.ring import RingReader, RingWriter, ring_size
from sw.risk import Risk

HOST, VENUE = Address(bytes(6), 2, 40_000), Address(bytes(6), 1, 26_400)
BID, ASK, TICK = 999_900, 1_000_100, 100
LIMITS = Limits(
    qty_max=400,
    notional_max=1 << 40,
    position_max=250,
    price_band_bp=100,
    tick_size=1,
    locate_qty=250,
    phases=1,
    restricted=False,
)
COMMANDS, ANSWERS = 8, 32  # Small, so that both run full.

PRICES = st.integers(BID - 3 * TICK, ASK + 3 * TICK)
QUANTITIES = st.one_of(st.integers(1, 60), st.integers(1, 60), st.integers(1, 410))
SIDES = st.sampled_from((Side.BUY, Side.SELL))


class Trading(RuleBasedStateMachine):
    """One symbol, one host, one card, one venue."""

    orders: Bundle[Order] = Bundle("orders")

    def __init__(self) -> None:
        super().__init__()
        answers_at = ring_size(COMMANDS)
        self.memory = memoryview(bytearray(answers_at + ring_size(ANSWERS)))
        self.to_venue: deque[bytes] = deque()
        self.to_card: deque[bytes] = deque()
        self.fills: list[Fill] = []
        self.now_ns = 0
        self.commands = RingReader(self.memory, 0, COMMANDS)
        answers = RingWriter(self.memory, answers_at, ANSWERS)
        self.card = OrderPath(
            1,
            answers,
            lambda _: Market(BID, ASK),
            lambda _: "X",
            self.to_venue.append,
        )
        self.card.connection = Connection(HOST, VENUE, 500, 900, "FIRM")
        self.card.killed = False
        self.book = ReplayBook()
        self.gateway = Gateway(self.book, lambda _: 1, VENUE, HOST, 900, 500, self.to_card.append)
        self.risk = Risk(1)
        self.risk.set_limits(0, LIMITS)
        for level, index in self.risk.levels:
            limits = LevelLimits(1 << 50, 1 << 50)
            self.risk.set_level(level, index, limits, token_bucket(1_000_000, 1))
            self.risk.kill(level, index, False)
        self.oms = Oms(
            RingWriter(self.memory, 0, COMMANDS),
            RingReader(self.memory, answers_at, ANSWERS),
            self.risk,
            [Quote(bid_price=BID, ask_price=ASK)],
            lambda record: None,
        )
        self.oms.write_limits(0)
        self.card_takes(8)
        self.tape_reference = 1

    # The host asks.

    @rule(
        target=orders,
        side=SIDES,
        qty=QUANTITIES,
        price=PRICES,
        tif=st.sampled_from((TimeInForce.DAY, TimeInForce.DAY, TimeInForce.IOC)),
    )
    def submit(self, side, qty, price, tif):
        order = self.oms.submit(0, side, qty, price, self.now_ns, tif)
        return order if order.is_open else multiple()

    @rule(target=orders, order=orders, qty=QUANTITIES, price=PRICES)
    def replace(self, order, qty, price):
        if not order.is_live:
            return multiple()
        replacement = self.oms.replace(order, qty, price, self.now_ns)
        return multiple() if replacement is None else replacement

    @rule(order=orders)
    def cancel(self, order):
        if order.is_live:
            self.oms.cancel(order, self.now_ns)

    @rule()
    def mass_cancel(self):
        self.oms.mass_cancel(self.now_ns)

    @rule(order=consumes(orders).filter(lambda order: not order.is_open))
    def forget_an_order_that_ended(self, order):
        assert order.leaves_qty == 0

    @rule(most=st.integers(1, 6))
    def host_takes(self, most):
        for _ in range(most):
            self.oms.poll(self.fills)

    # The card and the wires.

    @rule(most=st.integers(1, 4))
    def card_takes(self, most):
        while most and self.card.can_answer and (offset := self.commands.poll()) >= 0:
            record = bytes(self.memory[offset : offset + ring.RECORD_SIZE])
            self.commands.release()
            self.card.command(record, self.now_ns)
            most -= 1

    @rule(killed=st.sampled_from((False,) * 7 + (True,)))
    def kill_switch_of_the_card_moves(self, killed):
        self.card.killed = killed

    @rule(most=st.integers(1, 6))
    def frames_arrive_at_the_venue(self, most):
        for _ in range(min(most, len(self.to_venue))):
            self.gateway.receive(self.to_venue.popleft(), self.now_ns)

    @rule(most=st.integers(1, 6))
    def frames_arrive_at_the_card(self, most):
        for _ in range(min(most, len(self.to_card))):
            self.card.receive(parse_tcp(self.to_card.popleft()), self.now_ns)

    # The market.

    @rule(side=SIDES, shares=st.integers(1, 300), price=PRICES)
    def tape_adds_an_order(self, side, shares, price):
        fills = self.book.on_add(self.tape_reference, 1, side, shares, price)
        self.tape_reference += 1
        self.gateway.publish(fills, self.now_ns)

    @rule(order=orders, qty=st.integers(1, 400))
    def venue_takes_shares_off_an_order(self, order, qty):
        self.gateway.publish(self.book.cancel(order.cl_ord_id, qty), self.now_ns)

    @rule(ns=st.integers(1, 1_000))
    def time_passes(self, ns):
        self.now_ns += ns
        self.card.take_answers(self.now_ns)

    # What must hold.

    @invariant()
    def exposure_is_the_sum_over_the_open_orders_and_the_fills(self):
        exposure = self.risk.exposure(0)
        expected = {Side.BUY: 0, Side.SELL: 0}
        for order in self.oms.orders.values():
            stands = order.is_open and (order.orig is None or order.state is not S.PENDING_NEW)
            expected[order.side] += (order.leaves_qty if stands else 0) + order.reserved_qty
        position = sum(fill.order.side.sign * fill.last_qty for fill in self.fills)
        assert exposure == Exposure(position, expected[Side.BUY], expected[Side.SELL])
        assert min(exposure.open_buy, exposure.open_sell) >= 0

    @invariant()
    def exposure_never_passes_the_limit(self):
        position, open_buy, open_sell = self.risk.exposure(0)
        assert position + open_buy <= LIMITS.position_max
        assert open_sell - position <= LIMITS.position_max
        card_position, card_buy, card_sell = self.card.risk.exposure(0)
        assert card_position + card_buy <= LIMITS.position_max
        assert card_sell - card_position <= LIMITS.position_max

    def _settle(self) -> None:
        """Let everything under way arrive. Bounded: each round empties at least one queue."""
        for _ in range(1_000):
            self.host_takes(ANSWERS)
            self.card_takes(COMMANDS)
            self.frames_arrive_at_the_venue(len(self.to_venue))
            self.frames_arrive_at_the_card(len(self.to_card))
            self.card.take_answers(self.now_ns)
            if self.oms.poll(self.fills) is None and self.commands.poll() < 0:
                return
        raise AssertionError("the wires never became quiet")

    @rule()
    def all_agree_when_the_wires_are_quiet(self):
        self._settle()
        assert self.card.risk.exposure(0) == self.risk.exposure(0)
        host = {
            number: (order.leaves_qty, order.price, order.cum_qty)
            for number, order in self.oms.orders.items()
            if order.is_open
        }
        venue = {}
        for number in self.oms.orders:
            order = self.book.order(number)
            if order is not None:
                venue[number] = (order.leaves_qty, order.price, order.cum_qty)
        assert host == venue
        assert set(self.card._orders) == set(host)
        assert all(self.oms.orders[number].is_live for number in host)

    def teardown(self) -> None:
        self.all_agree_when_the_wires_are_quiet()


def play(seed: int, steps: int) -> Trading:
    """Play steps of which most move something on."""
    rng, game = Random(seed), Trading()
    for step in range(steps):
        live = [order for order in game.oms.orders.values() if order.is_live]
        kind, qty = rng.randrange(20), rng.choice((5, 20, 50, 100, 401))
        price = BID + TICK * rng.randrange(-3, 6)
        if kind < 2:
            game.submit(rng.choice((Side.BUY, Side.SELL)), qty, price, TimeInForce.DAY)
        elif kind < 5 and live:
            game.replace(rng.choice(live), qty, price)
        elif kind == 5 and live:
            game.cancel(rng.choice(live))
        elif kind == 6 and live:
            game.venue_takes_shares_off_an_order(rng.choice(live), rng.randrange(1, 100))
        elif kind == 7 and rng.random() < 0.2:
            game.mass_cancel()
        elif kind == 8:
            game.tape_adds_an_order(rng.choice((Side.BUY, Side.SELL)), rng.randrange(1, 40), price)
        elif kind == 9:
            game.kill_switch_of_the_card_moves(rng.random() < 0.2)
        elif kind < 12:
            game.host_takes(rng.randrange(1, 9))
        elif kind < 14:
            game.card_takes(rng.randrange(1, 4))
        elif kind < 16:
            game.frames_arrive_at_the_venue(rng.randrange(1, 4))
        elif kind < 18:
            game.frames_arrive_at_the_card(rng.randrange(1, 4))
        elif kind == 18:
            game.time_passes(1)
        elif rng.random() < 0.1:
            game.all_agree_when_the_wires_are_quiet()
        try:
            game.exposure_is_the_sum_over_the_open_orders_and_the_fills()
            game.exposure_never_passes_the_limit()
        except AssertionError as error:
            raise AssertionError(f"seed={seed}, step={step}") from error
    game.all_agree_when_the_wires_are_quiet()
    return game


S = OrderState


def test_long_games_agree_and_see_every_end_an_order_can_have():
    seen: Counter[str] = Counter()
    for seed in range(12):
        game = play(seed, 600)
        seen.update(order.state.name for order in game.oms.orders.values())
        seen.update(reason.name for reason in game.oms.denials)
        seen["fill"] += len(game.fills)
    assert min(seen[name] for name in ("FILLED", "CANCELED", "REPLACED", "DENIED", "fill")) >= 50
    assert {"KILL_SWITCH", "NO_RING_SLOT", "POSITION_EXCEEDS_LIMIT", "UNKNOWN_ORDER"} <= set(seen)
    assert seen["REJECTED"] >= 5


Trading.TestCase.settings = settings(
    max_examples=80, stateful_step_count=60, deadline=None, derandomize=True
)
test_host_card_and_venue_agree = Trading.TestCase
