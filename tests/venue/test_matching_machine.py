"""The engine and a naive one of the golden model, in a game that is drawn at random."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.orders import Side, TimeInForce
from sim.golden import matching as golden
from sim.venue.events import Record, records
from sim.venue.matching import MARKET, Cross, MatchingEngine, NewOrder, SelfMatch, State
from sim.venue.records import Kind

ROOT = Path(__file__).resolve().parents[2]
LOCATES = (1, 2)
SIDES = tuple(Side)
CONDITIONS = ("plain", "plain", "hidden", "reserve", "reserve", "post-only")
MIN_QUANTITIES = (0, 0, 0, 0, 2, 5, 9)
CROSSES = (Cross.NONE,) * 8 + (Cross.OPENING, Cross.CLOSING)
SELF_MATCHES = (SelfMatch.TRADE,) * 4 + tuple(SelfMatch)
BANDS = ((0, 0), (0, 0), (98, 101), (99, 102))
PRICES = st.integers(97, 103)
QUANTITIES = st.integers(1, 12)
TIFS = st.sampled_from((TimeInForce.DAY, TimeInForce.DAY, TimeInForce.IOC))


def told(row: Record) -> tuple[object, ...] | None:
    """Return an event of the engine as the golden model tells it."""
    ids = row.order_id, row.other_id
    match row.kind:
        case Kind.ACCEPTED:
            return "accepted", ids[0], row.qty, row.price, row.time_in_force
        case Kind.ADDED:
            return "added", ids[0], row.reference, row.shown_qty, row.price
        case Kind.REFRESHED:
            return "refreshed", ids[0], row.reference, row.shown_qty, row.price
        case Kind.EXECUTED:
            return "executed", *ids, row.qty, row.price, row.shown_qty
        case Kind.CANCELED:
            return "canceled", ids[0], row.qty, chr(row.reason)
        case Kind.MODIFIED:
            return "modified", ids[0], row.qty, row.side
        case Kind.SELF_MATCHED:
            return "self-matched", ids[0], row.qty, row.prevented_qty
        case Kind.REPLACED:
            return "replaced", *ids, row.qty, row.price, row.shown_qty > 0
        case Kind.REPRICED:
            return "repriced", ids[0], row.price
        case Kind.REJECTED:
            return "rejected", ids[0], row.reason
        case Kind.CROSS_EXECUTED if row.side == Side.BUY:
            return "crossed", *ids, row.qty, row.price
    return None


class Pair:
    """Does the same to both, and compares what they tell and what stands in their books."""

    def __init__(self) -> None:
        self.engine, self.golden = MatchingEngine(orders=1, events=16), golden.Venue()
        self.kinds: Counter[str] = Counter()
        self.last_id = 0

    def agree(self, expected: list[golden.Told]) -> None:
        rows = [told(row) for row in records(self.engine.records.tobytes())]
        assert [row for row in rows if row is not None] == expected
        self.kinds.update(row[0] for row in expected)

    def enter(
        self,
        locate: int,
        side: Side,
        qty: int,
        price: int,
        tif: TimeInForce,
        participant: int,
        kind: str,
        min_qty: int,
        self_match: SelfMatch,
        cross: Cross,
    ) -> None:
        self.last_id += 1
        first = self.last_id, locate, side
        floor = 3 if kind == "reserve" else 0
        conditions = {"hidden": kind == "hidden", "post_only": kind == "post-only"}
        conditions |= {"min_qty": min_qty, "max_floor": floor, "self_match": self_match}
        terms = tif, participant
        self.engine.enter(NewOrder(*first, qty, price, *terms, **conditions, cross=cross))
        order = golden.Order(*first, price, qty, *terms, **conditions, session=cross)
        self.agree(self.golden.enter(order))

    def id_of(self, back: int) -> int:
        """Return the id of a live order, or of one that is gone if there is none."""
        live = self.golden.orders
        return live[back % len(live)].order_id if live else self.last_id

    def cancel(self, back: int, qty: int) -> None:
        order_id = self.id_of(back)
        self.engine.cancel(order_id, qty)
        self.agree(self.golden.cancel(order_id, qty))

    def modify(self, back: int, side: Side, qty: int) -> None:
        order_id = self.id_of(back)
        self.engine.modify(order_id, side, qty)
        self.agree(self.golden.modify(order_id, side, qty))

    def replace(self, back: int, qty: int, price: int, tif: TimeInForce) -> None:
        self.last_id += 1
        orig_id = self.id_of(back)
        self.engine.replace(orig_id, self.last_id, qty, price, tif)
        self.agree(self.golden.replace(orig_id, self.last_id, qty, price, tif))

    def mass_cancel(self, participant: int, locate: int) -> None:
        self.engine.mass_cancel(participant, locate)
        self.agree(self.golden.mass_cancel(participant, locate))

    def set_bands(self, locate: int, bands: tuple[int, int]) -> None:
        self.engine.set_bands(locate, *bands)
        self.agree(self.golden.set_bands(locate, *bands))

    def stop(self, locate: int, state: State) -> None:
        self.engine.set_state(locate, state)
        self.golden.states[locate] = state

    def cross_and_trade(self, locate: int, cross: Cross, reference_price: int) -> None:
        self.engine.cross(locate, cross, reference_price)
        self.agree(self.golden.cross(locate, cross, reference_price))
        self.stop(locate, State.TRADING)

    def compare(self) -> None:
        for locate in LOCATES:
            for side in (Side.BUY, Side.SELL):
                buys = side is Side.BUY
                view = self.engine.book_side(locate, side)
                assert list(view.levels()) == self.golden.levels(locate, buys)
                assert view.depth == len(self.golden.levels(locate, buys))
                assert [
                    (o.order_id, o.price, o.leaves_qty, o.cum_qty, o.shown_qty, o.reference)
                    for o in view.orders()
                ] == [
                    (o.order_id, o.price, o.leaves, o.cum, o.shown, o.reference)
                    for o in self.golden.queue(locate, buys)
                ]


ORDER = st.tuples(
    st.sampled_from(LOCATES),
    st.sampled_from(SIDES),
    QUANTITIES,
    PRICES | st.sampled_from((MARKET, 0)),
    TIFS,
    st.integers(0, 2),
    st.sampled_from(CONDITIONS),
    st.sampled_from(MIN_QUANTITIES),
    st.sampled_from(SELF_MATCHES),
    st.sampled_from(CROSSES),
)
BACK = st.integers(0, 30)


class Venues(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    @rule(orders=st.lists(ORDER, min_size=1, max_size=6))
    def enter(self, orders: list[tuple]) -> None:
        for order in orders:
            self.pair.enter(*order)

    @rule(back=BACK, qty=st.sampled_from((0, 3, 6)))
    def cancel(self, back: int, qty: int) -> None:
        self.pair.cancel(back, qty)

    @rule(back=BACK, side=st.sampled_from(SIDES), qty=QUANTITIES)
    def modify(self, back: int, side: Side, qty: int) -> None:
        self.pair.modify(back, side, qty)

    @rule(back=BACK, qty=QUANTITIES, price=PRICES | st.just(0), tif=TIFS)
    def replace(self, back: int, qty: int, price: int, tif: TimeInForce) -> None:
        self.pair.replace(back, qty, price, tif)

    @rule(participant=st.integers(1, 2), locate=st.integers(0, 2))
    def mass_cancel(self, participant: int, locate: int) -> None:
        self.pair.mass_cancel(participant, locate)

    @rule(locate=st.sampled_from(LOCATES), bands=st.sampled_from(BANDS))
    def set_bands(self, locate: int, bands: tuple[int, int]) -> None:
        self.pair.set_bands(locate, bands)

    @rule(state=st.sampled_from((State.QUOTING, State.HALTED)))
    def stop(self, state: State) -> None:
        self.pair.stop(2, state)

    @rule(locate=st.sampled_from(LOCATES), cross=st.sampled_from(tuple(Cross)), price=PRICES)
    def cross_and_trade(self, locate: int, cross: Cross, price: int) -> None:
        self.pair.cross_and_trade(locate, cross, price)

    @invariant()
    def books_are_equal(self) -> None:
        self.pair.compare()


TestVenues = Venues.TestCase
TestVenues.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True
)


@pytest.mark.parametrize("seed", range(8))
def test_long_games_agree_and_see_all_that_can_happen(seed: int) -> None:
    print(f"seed={seed}")
    rng, pair = Random(seed), Pair()
    for _ in range(800):
        locate = rng.choice(LOCATES)
        match rng.choices(range(8), (60, 8, 4, 10, 1, 2, 1, 3))[0]:
            case 0:
                pair.enter(
                    *(locate, rng.choice(SIDES), rng.randint(1, 12), rng.randint(97, 103)),
                    *(rng.choice(2 * (TimeInForce.DAY,) + (TimeInForce.IOC,)), rng.randint(0, 2)),
                    *(rng.choice(CONDITIONS), rng.choice(MIN_QUANTITIES)),
                    *(rng.choice(SELF_MATCHES), rng.choice(CROSSES)),
                )
            case 1:
                pair.cancel(rng.randrange(30), rng.choice((0, 3, 6)))
            case 2:
                pair.modify(rng.randrange(30), rng.choice(SIDES), rng.randint(1, 12))
            case 3:
                price = rng.choice((*range(97, 104), MARKET))
                tif = rng.choice((TimeInForce.DAY, TimeInForce.IOC))
                pair.replace(rng.randrange(30), rng.randint(1, 14), price, tif)
            case 4:
                pair.mass_cancel(rng.randint(1, 2), rng.randint(0, 2))
            case 5:
                pair.set_bands(locate, rng.choice(BANDS))
            case 6:
                pair.stop(2, rng.choice((State.QUOTING, State.PAUSED)))
            case 7:
                pair.cross_and_trade(locate, rng.choice(tuple(Cross)), rng.randint(97, 103))
        pair.compare()
    missing = {"accepted", "added", "refreshed", "executed", "crossed", "canceled", "modified"}
    missing |= {"self-matched", "replaced", "repriced"}
    assert not missing - pair.kinds.keys()
    assert pair.kinds["executed"] > 50


def test_rules_are_plain_python_where_numba_is_switched_off() -> None:
    name = test_long_games_agree_and_see_all_that_can_happen.__name__
    found = subprocess.run(
        [sys.executable, "-c", f"from tests.venue import test_matching_machine as t; t.{name}(0)"],
        cwd=ROOT,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == "seed=0\n"
