"""The engine and a naive one of the golden model, in a game that is drawn at random."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from protocol.orders import Side, TimeInForce
from sim.golden import matching as golden
from sim.venue.events import Record, records
from sim.venue.matching import MARKET, Cross, MatchingEngine, NewOrder, SelfMatch, State
from sim.venue.records import Kind

LOCATES = (1, 2)
PRICES = st.integers(97, 103)
QUANTITIES = st.integers(1, 12)
IDS = st.integers(1, 40)
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


class Venues(RuleBasedStateMachine):
    """Does the same to both, and compares what they tell and what stands in their books."""

    def __init__(self) -> None:
        super().__init__()
        self.engine, self.golden = MatchingEngine(orders=1, events=16), golden.Venue()

    def agree(self, expected: list[golden.Told]) -> None:
        rows = [told(row) for row in records(self.engine.records.tobytes())]
        assert [row for row in rows if row is not None] == expected

    @rule(
        order_id=IDS,
        locate=st.sampled_from(LOCATES),
        side=st.sampled_from(tuple(Side)),
        qty=st.integers(0, 12),
        price=PRICES | st.sampled_from((MARKET, 0)),
        tif=TIFS,
        participant=st.integers(0, 2),
        kind=st.sampled_from(("plain", "plain", "hidden", "reserve", "post-only")),
        min_qty=st.sampled_from((0, 0, 0, 2, 5, 12)),
        max_floor=st.integers(1, 4),
        self_match=st.sampled_from(tuple(SelfMatch)),
        cross=st.sampled_from((Cross.NONE, Cross.NONE, Cross.NONE, Cross.OPENING, Cross.CLOSING)),
    )
    def enter(
        self,
        order_id: int,
        locate: int,
        side: Side,
        qty: int,
        price: int,
        tif: TimeInForce,
        participant: int,
        kind: str,
        min_qty: int,
        max_floor: int,
        self_match: SelfMatch,
        cross: Cross,
    ) -> None:
        floor = max_floor if kind == "reserve" else 0
        conditions = {"hidden": kind == "hidden", "post_only": kind == "post-only"}
        self.engine.enter(
            NewOrder(
                *(order_id, locate, side, qty, price, tif, participant),
                **conditions,
                min_qty=min_qty,
                max_floor=floor,
                self_match=self_match,
                cross=cross,
            )
        )
        order = golden.Order(
            *(order_id, locate, side, price, qty, tif, participant),
            **conditions,
            min_qty=min_qty,
            max_floor=floor,
            self_match=self_match,
            session=cross,
        )
        self.agree(self.golden.enter(order))

    @rule(order_id=IDS, qty=st.sampled_from((0, 0, 3, 6)))
    def cancel(self, order_id: int, qty: int) -> None:
        self.engine.cancel(order_id, qty)
        self.agree(self.golden.cancel(order_id, qty))

    @rule(order_id=IDS, side=st.sampled_from(tuple(Side)), qty=QUANTITIES)
    def modify(self, order_id: int, side: Side, qty: int) -> None:
        self.engine.modify(order_id, side, qty)
        self.agree(self.golden.modify(order_id, side, qty))

    @rule(orig_id=IDS, order_id=IDS, qty=QUANTITIES, price=PRICES | st.just(0), tif=TIFS)
    def replace(self, orig_id: int, order_id: int, qty: int, price: int, tif: TimeInForce) -> None:
        self.engine.replace(orig_id, order_id, qty, price, tif)
        self.agree(self.golden.replace(orig_id, order_id, qty, price, tif))

    @rule(participant=st.integers(0, 2), locate=st.integers(0, 2))
    def mass_cancel(self, participant: int, locate: int) -> None:
        self.engine.mass_cancel(participant, locate)
        self.agree(self.golden.mass_cancel(participant, locate))

    @rule(locate=st.sampled_from(LOCATES), bands=st.sampled_from(((0, 0), (98, 101), (99, 103))))
    def set_bands(self, locate: int, bands: tuple[int, int]) -> None:
        self.engine.set_bands(locate, *bands)
        self.agree(self.golden.set_bands(locate, *bands))

    @rule(
        locate=st.sampled_from(LOCATES),
        state=st.sampled_from((State.QUOTING, State.HALTED, State.PAUSED)),
    )
    def stop(self, locate: int, state: State) -> None:
        self.engine.set_state(locate, state)
        self.golden.states[locate] = state

    @rule(
        locate=st.sampled_from(LOCATES),
        cross=st.sampled_from(tuple(Cross)),
        reference_price=st.sampled_from((98, 100, 102)),
    )
    def cross_and_trade(self, locate: int, cross: Cross, reference_price: int) -> None:
        self.engine.cross(locate, cross, reference_price)
        self.agree(self.golden.cross(locate, cross, reference_price))
        self.engine.set_state(locate, State.TRADING)
        self.golden.states[locate] = State.TRADING

    @invariant()
    def books_are_equal(self) -> None:
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


TestVenues = Venues.TestCase
TestVenues.settings = settings(
    max_examples=150, stateful_step_count=60, deadline=None, derandomize=True
)
