"""``tickwire venue``: its configuration, its signals, its journal."""

import importlib.util
import re
import resource
import signal
import socket
import sys
import urllib.request
from contextlib import suppress
from typing import get_args

import pytest
from typer.testing import CliRunner

from sim.venue.settings import Action, VenuesConfig
from tests.venue.process import CONFIG, REPOSITORY, START_S, Process
from tests.venue.socket_client import SocketClient, login, run, told
from tests.venue.test_gateway import enter
from tickwire.cli import app
from tickwire.config import read

EXAMPLE = REPOSITORY / "docs" / "venues.toml"
LOGOUT = b"\0\1O"
NAMES = (
    *("ALPHA", "BRAVO", "CHARLIE", "DELTA", "ECHO"),
    *("FOXTROT", "GOLF", "HOTEL", "INDIA", "JULIET"),
)


def test_venue_whose_journal_takes_no_more_sends_nothing_that_is_not_in_it(start):
    async def trade(port: int, session: str, sequence: int) -> tuple[str, list[bytes]]:
        client = await SocketClient.connect(port, login(session=session, sequence=sequence))
        session, _ = await client.logged_in()
        if sequence == 1:
            for first in range(1, 2_000, 100):
                client.writer.write(b"".join(enter(first + n) for n in range(100)))
                with suppress(ConnectionError):
                    await client.take(100)
            return session, [p for p in await client.closed() if p[:1] == b"S"]
        client.writer.write(LOGOUT)
        return session, [p for p in await client.closed() if p[:1] == b"S"]

    process = start(file_size_max=100_000)
    session, answers = run(trade(process.port(), "", 1))
    assert process.process.wait(30) == 1
    assert re.search(r"cannot write: \S+alpha.journal: File too large\n$", process.log)
    assert "Traceback" not in process.log
    assert 100 < len(answers) < 1_000
    process = start()
    _, more = run(trade(process.port(), session, len(answers) + 1))
    refs = [answer[1] for answer in told(answers + more, "user_ref_num") if len(answer) > 1]
    assert refs == list(range(1, len(refs) + 1))
    assert len(refs) >= len(answers) - 1


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_sessions_and_the_command(start, number):
    async def trade(process: Process, port: int) -> list[bytes]:
        client = await SocketClient.connect(port, login())
        await client.logged_in()
        process.process.send_signal(number)
        packets = await client.closed()
        return packets

    process = start()
    assert run(trade(process, process.port()))[-1] == b"Z"
    assert process.process.wait(30) == 0
    assert "TRADER left: end of session" in process.log
    assert "Traceback" not in process.log


def test_journal_in_use_is_one_line_and_exit_code_2(start):
    first = start()
    first.port()
    second = start()
    assert second.process.wait(START_S) == 2
    assert re.fullmatch(
        r"\S+venues.toml: venue ALPHA: \S+alpha.journal: is in use by another process\n", second.log
    )


def test_port_that_is_taken_is_one_line_and_exit_code_2(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = start(CONFIG.replace("order_port = 0", f"order_port = {port}"))
        assert process.process.wait(START_S) == 2
    last = process.log.splitlines()[-1]
    assert "venues.toml: venue ALPHA: cannot be opened: " in last
    assert "address already in use" in last
    assert "Traceback" not in process.log


def test_venue_without_file_descriptors_left_says_so_once_a_second_and_lives(start):
    process = start()
    port = process.port()
    resource.prlimit(process.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    links = [socket.create_connection(("127.0.0.1", port)) for _ in range(100)]
    process.wait_for("Too many open files")
    for link in links:
        link.close()

    async def trade() -> list[tuple]:
        client = await SocketClient.connect(port, login())
        return await client.ask(enter(1), 2)

    assert run(trade())[1] == ("Order Accepted", 1, 100)
    assert process.end(signal.SIGTERM) == 0
    assert 1 <= process.log.count("Too many open files") <= 20


def test_counts_are_served_to_prometheus(start):
    pytest.importorskip("prometheus_client")

    async def trade(port: int) -> None:
        client = await SocketClient.connect(port, login())
        assert len(await client.ask(enter(1, "S") + enter(2, "B"), 5)) == 5

    process = start("metrics_port = 0\n" + CONFIG + "fees = { taker_fee = 3_000 }\n")
    run(trade(process.port()))
    url = process.wait_for(r"metrics on (\S+)").group(1)
    with urllib.request.urlopen(url, timeout=20) as answer:
        text = answer.read().decode()
    assert 'tickwire_venue_messages_total{venue="ALPHA"} 2.0' in text
    assert 'tickwire_venue_fees_usd{user="TRADER",venue="ALPHA"} 0.3' in text
    assert 'tickwire_venue_shares_total{liquidity="made",user="TRADER",venue="ALPHA"} 100' in text
    assert process.end(signal.SIGTERM) == 0


def test_counts_need_their_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    path = tmp_path / "venues.toml"
    path.write_text("metrics_port = 0\n" + CONFIG)
    ran = CliRunner().invoke(app, ["venue", str(path)])
    assert ran.exit_code == 2
    assert ran.stderr.splitlines()[-1] == f"{path}: metrics_port needs tickwire[venue]"


# Configuration.


def test_example_opens_ten_venues_on_sockets(start):
    text = EXAMPLE.read_text()
    if importlib.util.find_spec("prometheus_client") is None:
        text = text.replace("metrics_port", "# metrics_port")
    text = re.sub(r"(order_port|glimpse_port|rerequest_port|metrics_port) = \d+", r"\1 = 0", text)
    text = text.replace("../build/venues/", "")
    process = start(text)
    ports = {name: process.port(name) for name in NAMES}
    assert len(set(ports.values())) == len(NAMES) == 10

    async def trade() -> dict[str, list[tuple]]:
        found = {}
        for name, port in ports.items():
            client = await SocketClient.connect(port, login())
            await client.logged_in()
            found[name] = await client.ask(enter(1, price=10_100), 2)
        return found

    answers = run(trade())
    expected = [("System Event",), ("Order Accepted", 1, 100)]
    alpha, echo = answers.pop("ALPHA"), answers.pop("ECHO")
    assert answers == dict.fromkeys(answers, expected)
    assert echo == [("System Event",), ("Rejected", 1, 0x1D)]
    assert alpha[0] == ("System Event",)
    assert process.end(signal.SIGTERM) == 0
    assert process.log.count(" left: ") >= 10


def test_example_is_what_the_documentation_says_of_it():
    config = read(EXAMPLE, VenuesConfig)
    assert tuple(venue.name for venue in config.venues) == NAMES
    actions = {step.action for venue in config.venues for step in venue.script}
    assert actions == set(get_args(Action))


VENUE = '[[venues]]\nname = "A"\nsymbols = ["X"]\norder_port = 0\n'
USERS = 'users = [{ name = "U", password = "P" }]\n'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "Object missing required field `venues`"),
        ("venues = []", "Expected `array` of length >= 1 - at `$.venues`"),
        (VENUE, "Object missing required field `users` - at `$.venues[0]`"),
        (VENUE + USERS + "prot = 1", "Object contains unknown field `prot` - at `$.venues[0]`"),
        (VENUE + USERS + "glimpse_port = 65536", "Expected `int` <= 65535 - at `$.venues[0].gli"),
        (VENUE + USERS + 'host = "::1"', "host must be an IPv4 address, not '::1' - at `$"),
        (VENUE + USERS + 'timezone = "Mars"', "timezone must be one of the IANA, not 'Mars'"),
        (VENUE + USERS + "price_increments = [[5, 1]]", "price_increments must begin at 0 and asc"),
        (
            VENUE + USERS + 'hours = { open = "09:30:00", close = "09:00:00" }',
            "close must be after open, not 09:00:00 - at `$.venues[0].hours`",
        ),
        (
            VENUE + USERS + 'script = [{ action = "slow", at_s = 1, for_s = 1 }]',
            "delay_ms must be given for slow - at `$.venues[0].script[0]`",
        ),
        (
            VENUE + USERS + 'script = [{ action = "feed_gap", for_s = 1 }]',
            "one of at_s and at_messages must be given - at `$.venues[0].script[0]`",
        ),
        (
            VENUE + USERS + 'script = [{ action = "explode", at_s = 1 }]',
            "Invalid enum value 'explode' - at `$.venues[0].script[0].action`",
        ),
        (
            VENUE + USERS + 'script = [{ action = "disconnect", at_s = 1, user = "V" }]',
            "script names user V, who is not among users - at `$.venues[0]`",
        ),
        (
            VENUE + USERS + 'latency = { order = { shape = "lognormal" } }',
            "median_ns must be 1 or more of a lognormal shape, not 0 - at `$.venues[0].latency.o",
        ),
        ((VENUE + USERS) * 2, "venues names A twice"),
        ((VENUE + USERS).replace('"X"', '"X", "X"'), "symbols names X twice - at `$.venues[0]`"),
    ],
)  # fmt: skip
def test_configuration_that_is_wrong_is_one_line_and_exit_code_2(tmp_path, text, reason):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    ran = CliRunner().invoke(app, ["venue", str(path)])
    assert ran.exit_code == 2
    assert ran.stderr.startswith(f"{path}: {reason}")
    assert ran.stderr.count("\n") == 1


def test_ports_that_two_venues_name_are_refused(tmp_path):
    path = tmp_path / "bad.toml"
    text = (VENUE + USERS).replace("order_port = 0", "order_port = 5")
    path.write_text(text + text.replace('"A"', '"B"'))
    ran = CliRunner().invoke(app, ["venue", str(path)])
    assert (ran.exit_code, ran.stderr) == (2, f"{path}: ports names 127.0.0.1:5/TCP twice\n")
