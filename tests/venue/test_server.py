"""A venue on real sockets: sessions that are cut and resumed, feeds, and whatever may come in."""

import asyncio
import logging
import socket
from contextlib import asynccontextmanager
from random import Random

import pytest

from protocol import moldudp64
from sim.venue.journal import Journal
from sim.venue.moldudp import PAYLOAD_MAX
from sim.venue.server import VenueServer
from sim.venue.settings import (
    HoursConfig,
    LatenciesConfig,
    LatencyConfig,
    LineConfig,
    StepConfig,
    UserConfig,
)
from sim.venue.timing import DelayLine, latencies
from tests.venue.socket_client import (
    GROUP_A,
    GROUP_B,
    PASSWORD,
    USER,
    SocketClient,
    login,
    settings,
    told,
)
from tests.venue.test_gateway import cancel, enter, replace

SECOND = 1_000_000_000
ACCEPTED, CANCELED, EXECUTED = "Order Accepted", "Order Canceled", "Order Executed"
START = ("System Event",)
LOGOUT = b"\0\1O"


class HandClock:
    """A clock that is moved by hand; both times are the same."""

    def __init__(self, now_ns=10 * 86_400 * SECOND):
        self.now_ns = now_ns

    def wall_ns(self):
        return self.now_ns

    def monotonic_ns(self):
        return self.now_ns


@asynccontextmanager
async def opened(journal=None, clock=None, **more):
    venue = VenueServer(settings(**more), Journal(journal), seed=1, clock=clock)
    await venue.start()
    try:
        yield venue
    finally:
        venue.abort()
        await SocketClient.close_all()


@asynccontextmanager
async def trading(**more):
    """Open a venue and a client that has logged in to it."""
    async with opened(**more) as venue:
        client = await SocketClient.connect(venue.order_port, login())
        await client.logged_in()
        assert await client.take(1) == [START]
        yield venue, client


async def settled(condition):
    """Wait until the venue has noticed something that happened on a socket."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


# Order entry.


def test_session_that_is_cut_is_resumed_with_every_answer_once():
    async def run():
        async with opened() as venue:
            client = await SocketClient.connect(venue.order_port, login())
            session, first = await client.logged_in()
            assert first == 1
            assert await client.ask(enter(1, "S", 100), 2) == [START, (ACCEPTED, 1, 100)]
            client.writer.transport.abort()
            other = await SocketClient.connect(venue.order_port, login("OTHER"))
            filled = await other.ask(enter(1, "B", 60), 3)
            assert filled == [START, (ACCEPTED, 1, 60), (EXECUTED, 1, 60)]
            again = login(session=session, sequence=2)
            client = await SocketClient.connect(venue.order_port, again)
            assert await client.logged_in() == (session, 2)
            assert await client.take(2) == [(ACCEPTED, 1, 100), (EXECUTED, 1, 60)]
            assert await client.ask(enter(1) + cancel(1), 1) == [(CANCELED, 1, 40, "U")]

    asyncio.run(run())


def test_later_login_of_a_user_takes_the_session_over():
    async def run():
        async with trading() as (venue, client):
            second = await SocketClient.connect(venue.order_port, login(sequence=0))
            assert (await second.logged_in())[1] == 2
            await client.closed()
            assert await second.ask(enter(1), 1) == [(ACCEPTED, 1, 100)]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (login(password="WRONG"), b"JA"),
        (login("NOBODY"), b"JA"),
        (login(session="NEVER"), b"JS"),
    ],
)
def test_login_is_rejected(packet, reason, caplog):
    async def run():
        async with opened() as venue:
            client = await SocketClient.connect(venue.order_port, packet)
            assert await client.closed() == [reason]
            assert venue.rejected_login_count == 1

    asyncio.run(run())
    assert sum("rejected" in record.message for record in caplog.records) == 1


def test_user_and_password_are_without_regard_to_case():
    async def run():
        async with opened() as venue:
            packet = login(USER.lower(), PASSWORD.lower())
            await (await SocketClient.connect(venue.order_port, packet)).logged_in()

    asyncio.run(run())


def test_logout_closes_the_connection_and_leaves_the_orders():
    async def run():
        async with trading() as (venue, client):
            await client.ask(enter(1), 1)
            client.writer.write(LOGOUT)
            await client.closed()
            assert venue.exchange.engine.bbo(1)[0].qty == 100

    asyncio.run(run())


def test_orders_are_canceled_on_disconnect_where_the_user_has_that():
    async def run():
        users = (UserConfig(USER, PASSWORD, cancel_on_disconnect=True),)
        async with trading(users=users) as (venue, client):
            await client.ask(enter(1), 1)
            client.writer.transport.abort()
            await settled(lambda: venue.exchange.engine.bbo(1)[0] is None)
            client = await SocketClient.connect(venue.order_port, login(sequence=3))
            assert await client.take(1) == [(CANCELED, 1, 100, "Z")]

    asyncio.run(run())


def test_stop_cancels_orders_and_ends_the_session_for_everybody():
    async def run():
        async with trading() as (venue, client):
            await client.ask(enter(1), 1)
            await venue.stop()
            packets = await client.closed()
            assert told(packets[-3:-1]) == [(CANCELED, 1, 100, "E"), START]
            assert packets[-1] == b"Z"

    asyncio.run(run())


def test_order_that_is_under_way_at_the_stop_is_answered_before_the_end():
    async def run():
        latency = LatenciesConfig(order=LatencyConfig(3_600 * SECOND // 1_000))
        async with trading(latency=latency) as (venue, client):
            client.writer.write(enter(1))
            await settled(lambda: venue._requests._waiting)
            await venue.stop()
            packets = await client.closed()
            assert told(packets[-4:-1]) == [(ACCEPTED, 1, 100), (CANCELED, 1, 100, "E"), START]
            assert packets[-1] == b"Z"

    asyncio.run(run())


def test_heartbeats_by_the_clock_and_silence_ends_a_connection():
    async def run():
        clock = HandClock()
        async with trading(clock=clock) as (venue, client):
            clock.now_ns += SECOND
            venue.tick()
            await client.until(lambda self: self.packets[-1] == b"H")
            clock.now_ns += 14 * SECOND
            venue.tick()
            await client.closed()
            assert not venue.peers

    asyncio.run(run())


def test_hours_open_and_close_the_market():
    async def run():
        clock = HandClock(10 * 86_400 * SECOND + 34_199 * SECOND)
        hours = HoursConfig("09:30:00", "09:30:05", crosses=False)
        async with trading(clock=clock, hours=hours) as (venue, client):
            assert await client.ask(enter(1), 1) == [("Rejected", 1, 7)]
            clock.now_ns += SECOND
            venue.tick()
            assert await client.ask(enter(2), 1) == [(ACCEPTED, 2, 100)]
            clock.now_ns += 5 * SECOND
            venue.tick()
            assert await client.take(2) == [(CANCELED, 2, 100, "E"), START]

    asyncio.run(run())


def test_latency_delays_answers_and_keeps_their_order():
    async def run():
        shape = LatencyConfig(20_000_000, 10_000_000, "uniform")
        latency = LatenciesConfig(order=shape, answer=shape)
        async with opened(latency=latency) as venue:
            client = await SocketClient.connect(venue.order_port, login())
            await client.logged_in()
            await client.take(1)
            started = asyncio.get_running_loop().time()
            for number in range(1, 21):
                client.writer.write(enter(number))
                await asyncio.sleep(0)
            answers = await client.take(20)
            assert answers == [(ACCEPTED, number, 100) for number in range(1, 21)]
            assert asyncio.get_running_loop().time() - started >= 0.020

    asyncio.run(run())


def test_delay_line_keeps_the_order_whatever_the_delays():
    async def run():
        line, made = DelayLine(), []
        for number, delay_ms in enumerate((30, 1, 20, 0)):
            line.call(delay_ms * 1_000_000, made.append, number)
        assert made == []
        started = asyncio.get_running_loop().time()
        await settled(lambda: len(made) == 4)
        assert made == [0, 1, 2, 3]
        assert asyncio.get_running_loop().time() - started >= 0.029
        line.call(0, made.append, 4)
        assert made[-1] == 4  # At once, as nothing is before it.
        line.call(10**12, made.append, 5)
        line.call(10**12, made.append, 6)
        line.flush()
        assert made[-2:] == [5, 6]
        line.call(10**12, made.append, 7)
        line.drop()
        line.flush()
        assert made[-1] == 6

    asyncio.run(run())


@pytest.mark.parametrize(
    ("config", "median", "p99"),
    [
        (LatencyConfig(5_000), 5_000, 5_000),
        (LatencyConfig(5_000, 1_000, "uniform"), 5_000, 5_980),
        (LatencyConfig(5_000, 15_000, "lognormal"), 5_000, 20_000),
    ],
)
def test_latencies_have_the_median_and_the_99th_percentile_that_were_asked_for(config, median, p99):
    draw = latencies(config, "seed")
    found = sorted(draw() for _ in range(20_000))
    assert found[10_000] == pytest.approx(median, rel=0.03)
    assert found[19_800] == pytest.approx(p99, rel=0.05)
    again = latencies(config, "seed")
    assert sorted(again() for _ in range(20_000)) == found


# A restart.


def test_venue_that_was_killed_goes_on_from_its_journal(tmp_path):
    async def run():
        path = tmp_path / "journal"
        async with trading(journal=path) as (venue, client):
            session = venue.exchange.session
            await client.ask(enter(1) + enter(2), 2)
        async with opened(journal=path) as venue:
            again = login(session=session, sequence=3)
            client = await SocketClient.connect(venue.order_port, again)
            assert await client.logged_in() == (session, 3)
            assert await client.take(1) == [(ACCEPTED, 2, 100)]
            assert await client.ask(enter(2) + replace(1, 3), 1) == [("Order Replaced", 1, 3, 100)]

    asyncio.run(run())


def test_market_data_of_before_is_not_sent_again_and_is_served_on_request(tmp_path, listeners):
    async def run():
        path, lines = tmp_path / "journal", (GROUP_A, GROUP_B)
        async with trading(journal=path, lines=lines) as (venue, client):
            await client.ask(enter(1), 1)
        assert sum(count for _, count, _ in listeners[0].packets()) == 8
        async with opened(journal=path, lines=lines) as venue:
            client = await SocketClient.connect(venue.order_port, login(sequence=0))
            await client.logged_in()
            await client.ask(cancel(1), 1)
            fresh = [packet for packet in listeners[0].packets() if packet[1]]
            assert [(sequence, count) for sequence, count, _ in fresh] == [(9, 1)]
            asked = moldudp64.REQUEST.pack(
                session=venue.exchange.session, sequence_number=8, requested_message_count=1
            )
            assert venue.exchange.feed.answer(asked)[22:23] == b"A"

    asyncio.run(run())


# Market data.


def test_both_lines_carry_the_same_messages_and_the_book_s_events(listeners):
    async def run():
        async with trading(lines=(GROUP_A, GROUP_B)) as (venue, client):
            await client.ask(enter(1, "S", 100) + enter(2, "B", 60), 3)
            a, b = (listener.packets() for listener in listeners)
            assert a == b
            messages = [message for _, _, packet in a for message in packet]
            assert messages == venue.exchange.feed.messages
            assert bytes(m[0] for m in messages) == b"SRRSHHSAE"
            assert [sequence for sequence, _, _ in a][:2] == [1, 8]
            await venue.stop()
            ends = [packet for packet in listeners[0].packets() if packet[1] == 0xFFFF]
            assert ends == [(len(venue.exchange.feed.messages) + 1, 0xFFFF, [])] * 3

    asyncio.run(run())


def test_quiet_feed_tells_its_next_sequence_number_each_second(listeners):
    async def run():
        clock = HandClock()
        async with opened(clock=clock, lines=(GROUP_A, GROUP_B)) as venue:
            listeners[0].packets()
            venue.tick()
            assert listeners[0].packets() == []
            clock.now_ns += SECOND
            venue.tick()
            assert listeners[0].packets() == [(8, 0, [])]

    asyncio.run(run())


def test_what_a_line_loses_comes_by_re_request(listeners):
    async def run():
        lossy = LineConfig(GROUP_A.group, GROUP_A.port, loss_ppm=1_000_000)
        async with trading(lines=(lossy, GROUP_B)) as (venue, client):
            await client.ask(enter(1), 1)
            assert listeners[0].packets() == []
            assert sum(count for _, count, _ in listeners[1].packets()) == 8
            loop = asyncio.get_running_loop()
            link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            link.setblocking(False)
            link.connect(("127.0.0.1", venue.rerequest_port))
            link.send(b"garbage")
            asked = moldudp64.REQUEST.pack(
                session=venue.exchange.session, sequence_number=8, requested_message_count=5
            )
            link.send(asked)
            data = await asyncio.wait_for(loop.sock_recv(link, PAYLOAD_MAX), 20)
            link.close()
            assert data[:20] == asked[:18] + b"\0\1"
            assert data[22:] == venue.exchange.feed.messages[7]
            assert (venue.rerequest_count, venue.rerequest_refused_count) == (2, 1)

    asyncio.run(run())


def test_snapshot_is_served_to_who_logs_in_for_it():
    async def run():
        async with trading() as (venue, client):
            await client.ask(enter(1, "B", 70), 1)
            late = await SocketClient.connect(venue.glimpse_port, login())
            await late.until(lambda self: self.packets and self.packets[-1][1:2] == b"G")
            assert b"".join(packet[1:2] for packet in late.answers) == b"RRHHSSSAG"
            assert late.answers[-2][21:25] == (70).to_bytes(4, "big")
            assert int(late.answers[-1][2:]) == venue.exchange.feed.next_sequence
            late.writer.write(LOGOUT)
            await late.closed()
            assert await client.ask(cancel(1), 1) == [(CANCELED, 1, 70, "U")]

    asyncio.run(run())


# What goes wrong.


def test_script_cuts_a_client_between_two_messages_and_loses_nothing():
    async def run():
        script = (StepConfig("disconnect", at_messages=3, user=USER),)
        async with trading(script=script) as (venue, client):
            client.writer.write(b"".join(enter(number) for number in range(1, 7)))
            await client.closed()
            client = await SocketClient.connect(venue.order_port, login(sequence=2))
            answers = await client.take(6)
            assert answers == [(ACCEPTED, number, 100) for number in range(1, 7)]

    asyncio.run(run())


def test_script_has_a_reject_storm_for_some_messages():
    async def run():
        script = (StepConfig("reject_storm", at_messages=2, for_messages=3),)
        async with trading(script=script) as (_, client):
            answers = await client.ask(b"".join(enter(number) for number in range(1, 8)), 7)
            refused = [answer[1] for answer in answers if answer[0] == "Rejected"]
            assert refused == [3, 4, 5]

    asyncio.run(run())


def test_script_has_a_feed_gap_on_both_lines_and_a_loss_of_line_a(listeners):
    async def run():
        script = (
            StepConfig("feed_gap", at_messages=1, for_messages=1),
            StepConfig("line_a_loss", at_messages=3, for_messages=1),
        )
        async with trading(script=script, lines=(GROUP_A, GROUP_B)) as (_, client):
            await client.ask(b"".join(enter(number) for number in range(1, 6)), 5)
            heard = [[packet[0] for packet in listener.packets()] for listener in listeners]
            assert heard == [[1, 8, 10, 12], [1, 8, 10, 11, 12]]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("action", "first"), [("feed_ahead", "feed"), ("feed_behind", "answer"), ("slow", "feed")]
)
def test_script_puts_the_feed_ahead_of_or_behind_the_answers(listeners, action, first):
    async def run():
        script = (StepConfig(action, at_messages=1, for_messages=100, delay_ms=60),)
        async with trading(script=script, lines=(GROUP_A, GROUP_B)) as (_, client):
            await client.ask(enter(1), 1)
            listeners[0].packets()
            loop = asyncio.get_running_loop()
            started, times = loop.time(), {}
            client.writer.write(enter(2))
            asked = asyncio.create_task(client.take(1))
            while len(times) < 2:
                if asked.done():
                    times.setdefault("answer", loop.time() - started)
                if listeners[0].packets():
                    times.setdefault("feed", loop.time() - started)
                await asyncio.sleep(0.001)
            assert min(times, key=times.get) == first
            assert max(times.values()) >= 0.060

    asyncio.run(run())


# What comes in.


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xffL",
        b"GET / HTTP/1.1\r\n\r\n",
        login()[:20],
        login()[:-1] + b"x",
        login() + b"\0\0",
        login() + b"\x20\0U",
        login() + login(),
    ],
    ids=["oversize", "http", "half a login", "no number", "empty", "too long", "login twice"],
)
def test_connection_that_breaks_the_protocol_is_closed_with_one_line_and_the_venue_lives(
    data, caplog
):
    caplog.set_level(logging.INFO)

    async def run():
        async with opened() as venue:
            bad = await SocketClient.connect(venue.order_port, data)
            bad.writer.write_eof()
            await bad.closed()
            await settled(lambda: not venue.peers)
            client = await SocketClient.connect(venue.order_port, login("OTHER"))
            assert await client.ask(enter(1), 2) == [START, (ACCEPTED, 1, 100)]

    asyncio.run(run())
    left = [record.message for record in caplog.records if " left: " in record.message]
    assert len(left) >= 1
    assert all("\n" not in record.message for record in caplog.records)


def test_random_bytes_from_many_connections_leave_the_venue_alive(caplog):
    caplog.set_level(logging.INFO)
    rng = Random(seed := 5)
    print(f"seed {seed}")

    async def run():
        async with opened() as venue:
            for _ in range(200):
                start = login() if rng.random() < 0.5 else b""
                data = start + rng.randbytes(rng.randrange(1, 400))
                bad = await SocketClient.connect(venue.order_port, data)
                bad.writer.write_eof()
                await bad.closed()
            await settled(lambda: not venue.peers)
            client = await SocketClient.connect(venue.order_port, login("OTHER"))
            assert await client.ask(enter(1), 2) == [START, (ACCEPTED, 1, 100)]

    asyncio.run(run())
    left = [record for record in caplog.records if " left: " in record.message]
    assert 200 <= len(left) <= 201


def test_malformed_messages_in_sound_packets_are_counted_and_passed_over():
    async def run():
        async with trading() as (venue, client):
            bad = b"\0\1U" + b"\0\2U?" + b"\0\3UO\0"
            assert await client.ask(bad + enter(1), 1) == [(ACCEPTED, 1, 100)]
            assert venue.status()["malformed"] == 3

    asyncio.run(run())


def test_thousand_logins_are_served_and_each_is_one_line(caplog):
    caplog.set_level(logging.INFO)

    async def run():
        async with opened() as venue:
            for _ in range(1_000):
                client = await SocketClient.connect(venue.order_port, login(sequence=0))
                await client.logged_in()
                client.writer.transport.abort()
            await settled(lambda: not venue.peers)
            assert venue.login_count == 1_000

    asyncio.run(run())
    assert sum(" logged in " in record.message for record in caplog.records) == 1_000
    assert sum(" left: " in record.message for record in caplog.records) == 1_000
