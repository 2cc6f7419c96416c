"""A host that recovers from a venue's own servers: re-requests over UDP, snapshots over TCP."""

import asyncio
import io
import socket
import time
from contextlib import closing
from random import Random

import pytest

from kernels.exposure import token_bucket
from kernels.risk import LevelLimits
from protocol.frames import Address, udp_frame
from sim.card.functional import FunctionalCard
from sim.card.functional.records import NONE
from sim.card.port import Port
from sim.golden.book import Book as GoldenBook
from sim.golden.book import Side as GoldenSide
from sim.golden.parse import parse
from sim.venue.publisher import GROUP_A as CARD_A
from sim.venue.publisher import GROUP_B as CARD_B
from sim.venue.publisher import VENUE_IP, VENUE_MAC
from sim.venue.settings import LineConfig, StepConfig
from sw.engine import Engine, EngineConfig, Symbol
from sw.feed.recovery import Messages, RecoveryConfig, Snapshot
from sw.feed.sources import Login, SocketSource, messages_of
from sw.journal import Journal
from tests.sw.test_engine import LIMITS, SESSION
from tests.venue.socket_client import GROUP_A, GROUP_B, PASSWORD, USER, SocketClient
from tests.venue.test_gateway import cancel, enter, replace
from tests.venue.test_server import trading

STOCKS = ("AAPL", "MSFT")
MS = 1_000_000
WITHIN_S = 60


def snapshots_of(venue, password=PASSWORD):
    return Login("127.0.0.1", venue.glimpse_port, USER, password)


def source_of(venue, **more):
    where = ("127.0.0.1", venue.rerequest_port)
    return SocketSource(venue.exchange.session, where, snapshots_of(venue, **more))


class Host:
    """A card that hears both lines, and an engine that recovers what they lose."""

    def __init__(self, venue, listeners, rerequest_max):
        config = EngineConfig(
            symbols=[Symbol(stock, 0) for stock in STOCKS],
            limits=[LIMITS] * len(STOCKS),
            level_limits=LevelLimits(0, 0),
            rate=token_bucket(1, 1),
            quoting=[None] * len(STOCKS),
            heartbeat_timeout_ns=10**13,
            feed_gap_timeout_ns=MS,
            recovery=RecoveryConfig(rerequest_max=rerequest_max, timeout_ns=1_000 * MS),
        )
        self.venue, self.listeners = venue, listeners
        self.source = source_of(venue)
        memory = memoryview(bytearray(config.memory_size))
        self.card = FunctionalCard(memory, symbol_count=len(STOCKS))
        self.engine = Engine(self.card, config, Journal(io.BytesIO()), self.source)
        self.engine.start(SESSION, time.monotonic_ns())

    def close(self):
        self.engine.close()
        self.card.close()
        self.source.close()

    def turn(self):
        now_ns = time.monotonic_ns()
        sender = Address(VENUE_MAC, VENUE_IP, CARD_A.port)
        for port, group, listener in zip(Port, (CARD_A, CARD_B), self.listeners, strict=False):
            for data in listener.datagrams():
                self.card.receive(port, udp_frame(sender, group, data), now_ns)
        self.card.poll_commands(now_ns)
        self.engine.step(now_ns)

    async def quiet(self):
        """Run until the card has all that the venue has published, and every book is exact."""
        async with asyncio.timeout(WITHIN_S):
            while not self._is_quiet():
                self.turn()
                await asyncio.sleep(0)

    def _is_quiet(self):
        expected = self.card._feed.counter("expected") - (1 << 63)
        recovery = self.engine.recovery
        return (
            expected == self.venue.exchange.feed.next_sequence
            and not self.engine.feed.stale_count
            and recovery.is_idle
        )

    def check(self):
        """The card's books are those that the venue's own messages make."""
        golden = GoldenBook()
        for message in self.venue.exchange.feed.messages:
            golden.apply(parse(message))
        locates = {stock: locate for locate, stock in golden.symbols.items()}
        expected = {
            reference: (index, side.value, shares, price)
            for index, stock in enumerate(STOCKS)
            for side in GoldenSide
            for reference, price, shares in golden.orders(locates[stock], side)
        }
        found = {
            int(row["reference"]): (
                *(int(row["book"]) // 2, "BS"[row["book"] % 2]),
                *(int(row["shares"]), int(row["price"])),
            )
            for row in self.card._feed.core.orders
            if row["level"] != NONE
        }
        assert found == expected
        assert not golden.stale
        for index, stock in enumerate(STOCKS):
            quote, bbo = self.engine.feed.quotes[index], golden.bbo(locates[stock])
            assert (quote.bid_price, quote.ask_price) == (bbo.bid_price, bbo.ask_price)
        return len(found)


def flow(random, count, first):
    """Return order entry messages: new orders around a price, cancels and replaces of them."""
    found, number, live = [], first, []
    for _ in range(count):
        kind = random.random()
        if kind < 0.6 or not live:
            side = random.choice("BS")
            away = 100 * random.randint(-1, 20)
            price = 1_000_000 + (away if side == "S" else -away)
            stock = random.choice(STOCKS)
            found.append(enter(number, side, random.randint(1, 500), price, symbol=stock))
        elif kind < 0.85:
            found.append(cancel(live.pop(random.randrange(len(live)))))
            continue
        else:
            price = 1_000_000 + 100 * random.randint(-20, 20)
            orig = live.pop(random.randrange(len(live)))
            found.append(replace(orig, number, random.randint(1, 500), price))
        live.append(number)
        number += 1
    return found, number


@pytest.mark.parametrize("rerequest_max", [10_000, 30])
def test_books_are_the_venue_s_after_gaps_of_both_lines(listeners, rerequest_max):
    lines = [LineConfig(line.group, line.port, loss_ppm=10_000) for line in (GROUP_A, GROUP_B)]
    script = [
        StepConfig("feed_gap", at_messages=at, for_messages=50) for at in (300, 900, 1_400, 2_350)
    ]

    async def run():
        random, number, sizes = Random(rerequest_max), 1, []
        async with trading(lines=tuple(lines), script=tuple(script)) as (venue, client):
            with closing(Host(venue, listeners, rerequest_max)) as host:
                for _ in range(5):
                    messages, number = flow(random, 500, number)
                    for at in range(0, len(messages), 10):
                        client.writer.write(b"".join(messages[at : at + 10]))
                        await client.writer.drain()
                        await asyncio.sleep(0)
                        host.turn()
                    client.writer.write(enter(number, price=1))
                    await client.until(
                        lambda c, n=number: any(
                            p[:2] == b"SA" and p[10:14] == n.to_bytes(4, "big") for p in c.packets
                        )
                    )
                    number += 1
                    await host.quiet()
                    sizes.append(host.check())
                feed, recovery = host.engine.feed, host.engine.recovery
                assert feed.gap_count >= 4
                assert feed.messages_lost >= 4 * 20
                assert recovery.repaired_count >= len(STOCKS) * 4
                assert recovery.failed_count == 0
                assert (recovery.snapshot_count > 0) == (rerequest_max == 30)
                assert venue.rerequest_count >= recovery.rerequest_count > 0
                assert max(sizes) > 100

    asyncio.run(run())


async def polled(source):
    """Return the next thing that comes, or None when a fault does."""
    async with asyncio.timeout(WITHIN_S):
        while (found := source.poll(0)) is None and not source.fault:
            await asyncio.sleep(0)
    return found


def test_rerequest_brings_the_messages_that_were_asked_for():
    async def run():
        async with trading() as (venue, client):
            await client.ask(enter(1) + enter(2), 2)
            with closing(source_of(venue)) as source:
                source.request(2, 3, 0)
                assert await polled(source) == Messages(2, venue.exchange.feed.messages[1:4])

    asyncio.run(run())


def test_snapshot_is_whole_and_a_second_one_begins_anew():
    async def run():
        async with trading() as (venue, client):
            await client.ask(b"".join(enter(n, price=n * 100) for n in range(1, 2_000)), 1_999)
            with closing(source_of(venue)) as source:
                source.snapshot(0)
                source.poll(0)
                source.snapshot(0)
                found = await polled(source)
                assert isinstance(found, Snapshot)
                assert sum(message[:1] == b"A" for message in found.messages) == 1_999
                assert int(found.messages[-1][1:]) == venue.exchange.feed.next_sequence

    asyncio.run(run())


def test_faults_of_servers_are_told_and_nothing_is_raised():
    async def run():
        async with trading() as (venue, _):
            with closing(source_of(venue, password="WRONG")) as source:
                source.snapshot(0)
                assert await polled(source) is None
                assert source.fault == "snapshot: login rejected, A"
            session, ports = venue.exchange.session, (venue.rerequest_port, venue.glimpse_port)
        nobody = Login("127.0.0.1", ports[1], USER, PASSWORD)
        with closing(SocketSource(session, ("127.0.0.1", ports[0]), nobody)) as source:
            source.snapshot(0)
            assert await polled(source) is None
            assert source.fault.startswith("snapshot: ")
            source.fault = ""
            source.request(1, 1, 0)
            assert await polled(source) is None
            assert source.fault == "re-request: [Errno 111] Connection refused"

    asyncio.run(run())


def test_server_that_hangs_up_in_the_middle_is_told():
    with socket.create_server(("127.0.0.1", 0)) as server:
        login = Login("127.0.0.1", server.getsockname()[1], USER, PASSWORD)
        with closing(SocketSource("S", ("127.0.0.1", 9), login)) as source:
            source.snapshot(0)
            peer, _ = server.accept()
            with peer:
                while source._unsent:
                    source.poll(0)
                assert peer.recv(100)[2:3] == b"L"
                peer.sendall(b"\0\x05SAB")
            while not source.fault:
                assert source.poll(0) is None
            assert source.fault == "snapshot: the server has closed the connection"


HEAD = b"SESSION001" + (7).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (HEAD + b"\0\2" + b"\0\1a" + b"\0\2bc", Messages(7, [b"a", b"bc"])),
        (HEAD + b"\0\3" + b"\0\1a" + b"\0\0" + b"\0\2b", Messages(7, [b"a", b""])),
        (HEAD + b"\0\2" + b"\0\1a" + b"\0", Messages(7, [b"a"])),
        (HEAD + b"\0\0", Messages(7, [])),
        (HEAD + b"\xff\xff", None),
        (HEAD, None),
        (b"", None),
        (b"SESSION002" + HEAD[10:] + b"\0\0", None),
    ],
)
def test_datagrams_are_read_as_far_as_they_are_whole(data, found):
    assert messages_of(data, "SESSION001") == found


def test_clients_of_these_tests_are_closed():
    assert SocketClient.open == []
