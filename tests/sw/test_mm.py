"""Market making: where the quotes stand, when they move, and when they go."""

import pytest

from kernels.exposure import Exposure
from protocol.orders import OrderState, Side
from protocol.reasons import StaleReason
from protocol.ring import RecordType
from sw.mm import MarketMaker, Quoting

QUOTING = Quoting(half_spread=150, order_qty=100, inventory_max=250)
S = OrderState


class Maker:
    """A market maker on a desk; the venue accepts whatever arrives."""

    def __init__(self, desk, quoting=QUOTING):
        self.desk = desk
        self.quote = desk.quotes[0]
        self.maker = MarketMaker(0, quoting, self.quote, desk.oms, desk.risk)

    def event(self, **market):
        """Let something happen and return what was asked: type, side or number, price, shares."""
        for name, value in market.items():
            setattr(self.quote, name, value)
        self.quote.feed_sequence += bool(market)
        self.maker.on_event(5)
        return [
            (name, chr(f["side"]), f["price"], f["order_qty"])
            if "side" in f
            else (name, f["cl_ord_id"])
            for name, f in self.desk.published()
        ]

    def accept(self):
        """Accept every order and replacement that waits for it."""
        for order in list(self.desk.oms.orders.values()):
            if order.state is S.PENDING_NEW and order.orig is None:
                self.desk.accepted(order)
            elif order.state is S.PENDING_NEW:
                self.desk.replaced(order.orig, order, order.order_qty - order.orig.cum_qty)

    def order(self, side):
        """Return the newest open order of a side."""
        found = [o for o in self.desk.oms.orders.values() if o.side is side and o.is_open]
        return found[-1]


@pytest.fixture
def maker(desk):
    return Maker(desk)


@pytest.mark.parametrize(
    ("bid", "ask", "half_spread", "our_bid", "our_ask"),
    [
        # Mid 100.00, half a spread of 1.5 cents: rounded away, to 2 cents.
        (999_900, 1_000_100, 150, 999_800, 1_000_200),
        (999_900, 1_000_100, 100, 999_900, 1_000_100),
        (999_900, 1_000_100, 101, 999_800, 1_000_200),
        # Mid 100.005: symmetric around it.
        (999_900, 1_000_200, 150, 999_900, 1_000_200),
        (999_900, 1_000_200, 151, 999_800, 1_000_300),
        # Our own quotes never meet, whatever the half spread.
        (999_900, 1_000_100, 0, 999_900, 1_000_100),
        (999_900, 1_000_100, -500, 999_900, 1_000_100),
        (999_900, 1_000_200, 0, 1_000_000, 1_000_100),
        # A market of one tick: never through the other side's best price.
        (1_000_000, 1_000_100, 0, 1_000_000, 1_000_100),
        (1_000_000, 1_000_100, 40, 1_000_000, 1_000_100),
        # A market within one tick: both quotes keep a tick from the other side's best.
        (1_000_060, 1_000_090, 0, 999_900, 1_000_200),
        (1_000_000, 1_000_001, 0, 999_900, 1_000_100),
        (1_000_040, 1_000_050, 0, 999_900, 1_000_200),
        (5_000, 5_300, 10_000, None, 15_200),  # No bid below zero,
        (5_000, 5_200, 5_100, None, 10_200),  # and none at zero.
    ],
)
def test_quotes_stand_around_the_mid_rounded_away_and_never_cross(
    desk, bid, ask, half_spread, our_bid, our_ask
):
    maker = Maker(desk, Quoting(half_spread, order_qty=100, inventory_max=250))
    desk.risk.set_limits(0, desk.risk.limits(0)._replace(price_band_bp=65_535))
    expected = [("NEW", "B", our_bid, 100)] if our_bid else []
    assert maker.event(bid_price=bid, ask_price=ask) == [*expected, ("NEW", "S", our_ask, 100)]
    assert desk.oms.denials == {}


def test_other_tick_sizes_are_kept(desk):
    maker = Maker(desk, Quoting(150, 100, 250, tick_size=500))
    assert maker.event() == [("NEW", "B", 999_500, 100), ("NEW", "S", 1_000_500, 100)]


def test_nothing_is_asked_twice_while_an_answer_is_due_or_nothing_moved(maker):
    assert len(maker.event()) == 2
    assert maker.event(bid_price=999_000, ask_price=1_000_000) == []
    for _ in range(3):  # The ask has to wait for the bid to be out of its way.
        maker.accept()
        maker.event()
    assert maker.event() == []


@pytest.mark.parametrize(
    ("position", "quotes"),
    [
        (0, [("B", 100), ("S", 100)]),
        (150, [("B", 100), ("S", 100)]),
        (151, [("B", 99), ("S", 100)]),
        (249, [("B", 1), ("S", 100)]),
        (250, [("S", 100)]),
        (400, [("S", 100)]),
        (-151, [("B", 100), ("S", 99)]),
        (-250, [("B", 100)]),
    ],
)
def test_inventory_limit_makes_one_side_smaller_and_then_stops_it(maker, position, quotes):
    maker.desk.risk.symbols["exposure"][0] = Exposure(position)
    assert [(side, qty) for _, side, _, qty in maker.event()] == quotes


def test_side_at_its_limit_is_canceled_and_comes_back(maker):
    maker.event()
    maker.accept()
    bid = maker.order(Side.BUY)
    maker.desk.risk.symbols["exposure"][0] = Exposure(250, 100, 100)
    assert maker.event() == [("CANCEL", bid.cl_ord_id)]
    maker.desk.canceled(bid, 100)
    maker.desk.risk.symbols["exposure"][0] = Exposure(200, 0, 100)
    assert maker.event() == [("NEW", "B", 999_800, 50)]


@pytest.mark.parametrize(
    "market",
    [
        {"stale_reason": StaleReason.GAP},
        {"trading_state": ord("H")},
        {"bid_price": 0},
        {"ask_price": 0},
        {"bid_price": 1_000_100},
    ],
)
def test_market_that_can_not_be_traded_has_both_quotes_canceled_once(maker, market):
    assert maker.event(**market) == []
    before = {name: type(getattr(maker.quote, name))(0) for name in market}
    before |= {"bid_price": 999_900, "ask_price": 1_000_100}
    maker.event(**before)
    maker.accept()
    assert maker.event(**market) == [("CANCEL", 1), ("CANCEL", 2)]
    assert maker.event() == []
    for number in (1, 2):
        maker.desk.canceled(maker.desk.oms.orders[number], 100)
    assert maker.event() == []
    assert len(maker.event(**before)) == 2


@pytest.mark.parametrize(
    ("ticks", "moved", "replaced"),
    [(1, 100, True), (2, 100, False), (2, 200, True), (3, 200, False)],
)
def test_quote_moves_when_it_is_the_requote_distance_away(desk, ticks, moved, replaced):
    maker = Maker(desk, Quoting(150, 100, 250, requote_ticks=ticks))
    maker.event()
    maker.accept()
    for way in (moved, -moved):
        # Both sides of the market move, and so does the mid.
        asked = maker.event(bid_price=999_900 + way, ask_price=1_000_100 + way)
        if not replaced:
            assert asked == []
        else:
            price = 999_800 + way
            assert asked == [("REPLACE", "B", price, 100), ("REPLACE", "S", price + 400, 100)]
            maker.accept()
            maker.event(bid_price=999_900, ask_price=1_000_100)
            maker.accept()


def test_partly_filled_quote_is_replaced_by_a_whole_one_when_it_moves(maker):
    maker.event()
    maker.accept()
    bid = maker.order(Side.BUY)
    maker.desk.executed(bid, 40)
    assert maker.event() == []  # It stays as it is where it stands.
    asked = maker.event(bid_price=999_800, ask_price=1_000_000)
    assert asked[0] == ("REPLACE", "B", 999_700, 140)  # 40 done and 100 to show.
    maker.accept()
    assert maker.order(Side.BUY).leaves_qty == 100


def test_quote_larger_than_the_room_left_is_made_smaller_in_place(maker):
    maker.event()
    maker.accept()
    maker.desk.risk.symbols["exposure"][0] = Exposure(200, 100, 100)
    assert maker.event() == [("REPLACE", "B", 999_800, 50)]


def test_filled_quote_is_followed_by_a_new_one(maker):
    maker.event()
    maker.accept()
    maker.desk.executed(maker.order(Side.BUY), 100)
    assert maker.event() == [("NEW", "B", 999_800, 100)]


@pytest.mark.parametrize("refusal", ["denied by the card", "rejected by the venue"])
def test_refused_replacement_falls_back_to_the_order_that_stands(maker, refusal):
    maker.event()
    maker.accept()
    bid = maker.order(Side.BUY)
    maker.event(bid_price=999_800, ask_price=1_000_000)
    refused = bid.replacement
    if refusal == "denied by the card":
        maker.desk.denied(refused.cl_ord_id, RecordType.REPLACE)
    else:
        maker.desk.rejected(refused)
    assert bid.state is S.NEW
    assert maker.event() == []  # Not again before the market has changed.
    assert maker.event(bid_qty=2) == [("REPLACE", "B", 999_700, 100)]
    assert refused is not bid.replacement
    maker.desk.denied(bid.replacement.cl_ord_id, RecordType.REPLACE)
    assert maker.event(stale_reason=StaleReason.GAP)[0] == ("CANCEL", bid.cl_ord_id)


def test_replacement_that_the_host_denies_leaves_the_quote_and_is_tried_again(maker):
    maker.event()
    maker.accept()
    bid = maker.order(Side.BUY)
    maker.desk.risk.killed = True
    assert maker.event(bid_price=999_800, ask_price=1_000_000) == []
    assert bid.state is S.NEW
    maker.desk.risk.killed = False
    assert maker.event() == []
    assert maker.event(bid_qty=2)[0] == ("REPLACE", "B", 999_700, 100)


def test_denied_order_is_tried_again_when_the_market_has_changed(maker):
    maker.desk.risk.killed = True
    assert maker.event() == []
    maker.desk.risk.killed = False
    assert maker.event() == []
    assert maker.desk.oms.denials.total() == 2
    assert len(maker.event(bid_qty=2)) == 2


def test_order_that_the_venue_ended_is_not_sent_again_before_the_market_has_changed(maker):
    maker.event()
    maker.accept()
    maker.desk.canceled(maker.order(Side.BUY), 100)
    assert maker.event() == []
    assert maker.event(bid_qty=2) == [("NEW", "B", 999_800, 100)]


def test_quote_waits_while_it_would_reach_our_own_other_quote(maker):
    maker.event()  # 99.98 and 100.02.
    maker.accept()
    asked = maker.event(bid_price=1_000_900, ask_price=1_001_100)  # The mid is 100.10 now.
    assert asked == [("REPLACE", "S", 1_001_200, 100)]  # The bid of 100.08 would meet 100.02.
    assert maker.event() == []
    maker.accept()
    assert maker.event() == [("REPLACE", "B", 1_000_800, 100)]


def test_no_quote_is_priced_above_what_the_venue_takes(maker):
    asked = maker.event(bid_price=1_999_999_900, ask_price=2_000_000_000)
    assert [name for name, side, *_ in asked if side == "S"] == []
