"""A venue's crowd: generated flow against a book in which clients trade too."""

import asyncio
from typing import get_args

import pytest

from protocol.orders import Side
from sim.golden.book import Book as GoldenBook
from sim.golden.book import Side as GoldenSide
from sim.golden.parse import parse
from sim.venue.crowd import BEHIND_MAX_NS, Crowd
from sim.venue.exchange import Exchange
from sim.venue.flow import LEVELS_MIN
from sim.venue.journal import Journal
from sim.venue.model import MODELS
from sim.venue.settings import FlowConfig, HoursConfig, UserConfig
from tests.venue.socket_client import USER, SocketClient, login, settings
from tests.venue.test_gateway import enter
from tests.venue.test_server import ACCEPTED, EXECUTED, START, opened

SECOND = 1_000_000_000
T0 = 40_000 * SECOND
FLOW = FlowConfig("hawkes", 200.0)


def venue(journal=None, flow=FLOW, **more):
    config = settings(flow=flow, **more)
    exchange = Exchange(config, Journal(journal), "S", 0, lambda c, p: None, lambda: None)
    if not exchange.phase:
        exchange.command("start", T0)
    return exchange


def crowd_of(exchange, now_ns=T0, seed="1", flow=FLOW):
    return Crowd(exchange, flow, seed, now_ns)


def play(crowd, seconds):
    """Let so many seconds pass, as a clock does."""
    start_ns = crowd.now_ns
    for passed in range(1, 2 * seconds + 1):
        crowd.run_until(start_ns + passed * SECOND // 2)


def golden_of(exchange):
    golden = GoldenBook()
    for message in exchange.feed.messages:
        golden.apply(parse(message))
        for locate in exchange.stocks:
            bbo = golden.bbo(locate)
            assert not bbo.bid_price or not bbo.ask_price or bbo.bid_price < bbo.ask_price
    assert not golden.stale
    return golden


def orders_of(exchange):
    return {
        (locate, side): [
            (o.order_id, o.price, o.leaves_qty)
            for o in exchange.engine.book_side(locate, side).orders()
        ]
        for locate in exchange.stocks
        for side in (Side.BUY, Side.SELL)
    }


@pytest.mark.parametrize("model", sorted(MODELS))
def test_market_is_made_and_traded_in_and_never_crossed(model):
    exchange = venue(flow=FlowConfig(model, 100.0))
    crowd = crowd_of(exchange, flow=FlowConfig(model, 100.0))
    play(crowd, 20)
    golden, kinds = golden_of(exchange), bytes(m[0] for m in exchange.feed.messages)
    for locate in exchange.stocks:
        for side in GoldenSide:
            assert len(golden.levels(locate, side)) >= LEVELS_MIN
    assert all(kinds.count(kind) > 5 for kind in b"AEDUX")
    arrivals = 100.0 * len(exchange.stocks) * 20
    opening = MODELS[model].opening
    assert 0.5 < len(kinds) / arrivals < 2.5 * (1 if opening is None else opening.multiplier)
    account = exchange.crowd.account
    assert account.made_qty == account.taken_qty > 0


def test_same_seed_gives_the_same_market_however_time_is_cut():
    markets = []
    for seed, step in (("1", SECOND), ("1", 7_000_000), ("2", SECOND)):
        exchange = venue()
        crowd = crowd_of(exchange, seed=seed)
        for now_ns in range(T0, T0 + 5 * SECOND + 1, step):
            crowd.run_until(now_ns)
        crowd.run_until(T0 + 5 * SECOND)
        markets.append(exchange.feed.messages)
    assert markets[0] == markets[1] != markets[2]


def test_side_that_a_client_has_emptied_fills_up_again():
    exchange = venue()
    crowd = crowd_of(exchange)
    play(crowd, 2)
    client = exchange.clients[0]
    for round_number in range(1, 4):
        ask = exchange.engine.book_side(1, Side.SELL)
        exchange.receive(
            client,
            [enter(round_number, "B", 999_999, 1_999_999_900, time_in_force="3")[3:]],
            crowd.now_ns,
        )
        assert ask.depth == 0
        play(crowd, 2)
        assert ask.depth >= LEVELS_MIN
    assert client.account.taken_qty > 0
    assert exchange.crowd.account.made_qty > client.account.taken_qty
    golden_of(exchange)


def test_orders_of_others_are_never_touched():
    exchange = venue()
    crowd = crowd_of(exchange)
    crowd.run_until(T0 + SECOND)
    client = exchange.clients[0]
    bid, ask = (exchange.engine.book_side(1, s).best_price for s in (Side.BUY, Side.SELL))
    exchange.receive(client, [enter(1, "B", 70, bid - 50_000)[3:]], crowd.now_ns)
    exchange.receive(client, [enter(2, "S", 70, ask + 50_000)[3:]], crowd.now_ns)
    play(crowd, 20)
    assert sorted(client.port.live_refs) == [1, 2]


def test_session_is_restored_from_its_journal_and_the_crowd_goes_on(tmp_path):
    exchange = venue(tmp_path / "j")
    play(crowd_of(exchange), 3)
    before, messages = orders_of(exchange), list(exchange.feed.messages)
    exchange.journal.close()
    again = venue(tmp_path / "j")
    assert orders_of(again) == before
    assert again.feed.messages == messages
    crowd = crowd_of(again, T0 + 4 * SECOND)
    assert sum(len(symbol.refs) for symbol in crowd.symbols) == sum(map(len, before.values()))
    play(crowd, 4)
    assert len(again.feed.messages) > len(messages) + 500
    golden_of(again)


def test_what_a_venue_that_stood_still_has_missed_does_not_happen():
    exchange = venue()
    crowd = crowd_of(exchange)
    crowd.run_until(T0 + SECOND)
    count = len(exchange.feed.messages)
    crowd.run_until(T0 + 3_600 * SECOND)
    assert len(exchange.feed.messages) < count + 50
    assert crowd.now_ns > T0 + 3_600 * SECOND - BEHIND_MAX_NS


@pytest.mark.parametrize(
    ("increments", "tick"), [(((0, 1),), 100), (((0, 500),), 500), (((0, 1), (10_000, 100)), 100)]
)
def test_prices_are_those_that_the_venue_takes(increments, tick):
    exchange = venue(price_increments=increments)
    play(crowd_of(exchange), 3)
    prices = {price for rows in orders_of(exchange).values() for _, price, _ in rows}
    assert prices
    assert all(price % tick == 0 for price in prices)
    assert exchange.crowd.refused_count == 0


def test_clients_messages_alone_count_and_are_throttled_and_stormed():
    exchange = venue()
    exchange.command("storm on", T0)
    crowd_of(exchange).run_until(T0 + SECOND)
    assert exchange.message_count == 0
    assert exchange.engine.book_side(1, Side.BUY).depth >= LEVELS_MIN
    assert exchange.crowd.stream.packets == []


def test_names_of_models_are_those_that_there_are():
    kinds = FlowConfig.__annotations__["model"]
    assert sorted(get_args(kinds)) == sorted(MODELS)


def test_user_of_the_crowd_s_name_is_refused():
    with pytest.raises(ValueError, match=r"^users must not name CROWD, who is the flow$"):
        settings(flow=FLOW, users=(UserConfig("crowd", "X"),))


def test_client_trades_with_the_crowd_on_sockets():
    async def run():
        async with opened(flow=FLOW) as server:
            client = await SocketClient.connect(server.order_port, login())
            await client.logged_in()
            assert await client.take(1) == [START]
            side = server.exchange.engine.book_side(1, Side.SELL)
            async with asyncio.timeout(20):
                while side.depth < LEVELS_MIN:
                    await asyncio.sleep(0.01)
            order = enter(1, "B", 1, 1_999_999_900, time_in_force="3")
            answers = await client.ask(order, 2)
            assert [answer[0] for answer in answers] == [ACCEPTED, EXECUTED]
            crowd = await SocketClient.connect(server.order_port, login("CROWD", "-"))
            assert (await crowd.closed())[0][:2] == b"JA"

    asyncio.run(run())


def test_crowd_rests_until_the_market_is_open():
    async def run():
        hours = HoursConfig("00:00:00", "00:00:01")
        async with opened(flow=FLOW, hours=hours) as server:
            await asyncio.sleep(0.05)
            assert server.exchange.phase == "closed"
            assert b"A" not in {m[:1] for m in server.exchange.feed.messages}
            assert server.exchange.crowd.user.name != USER

    asyncio.run(run())
