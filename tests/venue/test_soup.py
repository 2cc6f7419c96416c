"""The server's side of SoupBinTCP, by its bytes and by the clock."""

from random import Random

import pytest

from sim.venue.soup import (
    LOGIN_TIMEOUT_NS,
    PACKET_LENGTH_MAX,
    Connection,
    Refusal,
    SoupError,
    Splitter,
    Stream,
)
from tests.venue.socket_client import PASSWORD, USER, login, split

SECOND = 1_000_000_000
HEARTBEAT, END = b"\0\x01H", b"\0\x01Z"


class Server:
    """A connection to a stream that already has some packets."""

    def __init__(self, count=0):
        self.stream = Stream("SESSION1")
        for number in range(count):
            self.stream.append(b"%d" % (number + 1))
        self.sent = b""
        self.logins = []
        self.connection = Connection(self._send, self._authorize, self.logins.append, 0)

    def _send(self, data):
        self.sent += data

    def _authorize(self, asked):
        if (asked.username, asked.password) != (USER, PASSWORD):
            return Refusal.NOT_AUTHORIZED
        return self.stream if asked.session in ("", "SESSION1") else Refusal.NO_SESSION

    def take(self):
        sent, self.sent = self.sent, b""
        return sent


@pytest.mark.parametrize(
    ("sequence", "first", "packets"),
    [
        (1, 1, [b"S1", b"S2", b"S3"]),
        (3, 3, [b"S3"]),
        (4, 4, []),
        (0, 4, []),  # From the most recent on.
        (99, 4, []),  # Nothing is skipped that is yet to come.
    ],
)
def test_login_is_accepted_from_a_sequence_number_on(sequence, first, packets):
    server = Server(3)
    assert server.connection.receive(login(sequence=sequence), 5) == []
    accepted = b"\0\x1fA" + b"  SESSION1" + b"%20d" % first
    assert server.take() == accepted + b"".join(b"\0\x02" + packet for packet in packets)
    assert server.connection.login.sequence == sequence
    assert [asked.username for asked in server.logins] == [USER]


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        (login(password="WRONG"), b"\0\x02JA"),
        (login(user="NOBODY"), b"\0\x02JA"),
        (login(session="SESSION2"), b"\0\x02JS"),
    ],
)
def test_login_is_rejected_with_its_reason_and_the_connection_ends(packet, answer):
    server = Server(1)
    server.connection.receive(packet + b"\0\x02Ux", 5)
    assert server.take() == answer
    assert server.connection.login is None
    assert server.connection.ended.startswith("login rejected")
    assert server.connection.receive(login(), 6) == []
    assert server.take() == b""


@pytest.mark.parametrize("size", [1, 2, 3, 48, 49, 50, 500])
def test_packets_may_be_cut_and_joined_anywhere(size):
    server = Server()
    stream = login() + b"\0\x04Uabc" + b"\0\x01R" + b"\0\x03Ude" + b"\0\x05+hey!" + b"\0\x01U"
    messages = []
    for at in range(0, len(stream), size):
        messages += server.connection.receive(stream[at : at + size], 5)
    assert messages == [b"abc", b"de", b""]
    assert not server.connection.ended


@pytest.mark.parametrize(
    ("stream", "why"),
    [
        (b"\0\0", "packet length must be 1 to 4096, not 0"),
        (b"\x10\x01", "packet length must be 1 to 4096, not 4097"),
        (b"\xff\xff", "packet length must be 1 to 4096, not 65535"),
        (b"\0\x02Ux", "packet type b'U' must not come before its login"),
        (b"\0\x01R", "packet type b'R' must not come before its login"),
        (b"\0\x01O", "packet type b'O' must not come before its login"),
        (login() + login(), "packet type b'L' must not come after its login"),
        (login() + b"\0\x01S", "packet type b'S' must not come after its login"),
        (b"\0\x02LX", "login must have 47 or 52 bytes, not 2"),
        (login()[:-1] + b"x", None),
        (login() + b"\0\x01O" + b"\0\x02Ux", "logout"),
    ],
)
def test_connection_ends_where_the_protocol_is_broken_and_says_why(stream, why):
    server = Server()
    assert server.connection.receive(stream, 5) == []
    if why is None:
        assert "requested_sequence_number is not an ASCII number" in server.connection.ended
    else:
        assert server.connection.ended == why


def test_messages_before_the_fault_are_taken():
    server = Server()
    assert server.connection.receive(login() + b"\0\x02Ux" + b"\0\x01S", 5) == [b"x"]
    assert server.connection.ended


def test_longest_packet_is_taken():
    assert Splitter().feed(b"\x10\0" + bytes(PACKET_LENGTH_MAX)) == [bytes(PACKET_LENGTH_MAX)]


def test_random_bytes_end_a_connection_or_wait_and_never_raise():
    rng = Random(seed := 7)
    print(f"seed {seed}")
    ended = 0
    for _ in range(2_000):
        server = Server()
        start = login() if rng.random() < 0.5 else b""
        server.connection.receive(start + rng.randbytes(rng.randrange(1, 200)), 5)
        ended += server.connection.ended != ""
    assert ended > 1_500


# The clock.


def test_heartbeat_is_sent_when_nothing_else_was_for_a_second():
    server = Server()
    server.connection.receive(login(), 5)
    server.take()
    server.connection.tick(5 + SECOND - 1)
    assert server.take() == b""
    server.connection.tick(5 + SECOND)
    assert server.take() == HEARTBEAT
    server.connection.say(b"other", 5 + SECOND + 9)
    server.take()
    server.connection.tick(5 + 2 * SECOND)
    assert server.take() == b""
    server.connection.tick(5 + 2 * SECOND + 9)
    assert server.take() == HEARTBEAT


@pytest.mark.parametrize(
    ("packet", "limit_ns"), [(login(), 15 * SECOND), (login(heartbeat_ms=2_500), 2_500_000_000)]
)
def test_client_that_is_silent_is_gone(packet, limit_ns):
    server = Server()
    server.connection.receive(packet, 5)
    server.connection.receive(b"\0\x01R", 100)
    server.connection.tick(100 + limit_ns - 1)
    assert server.connection.ended == ""
    server.connection.tick(100 + limit_ns)
    assert server.connection.ended == f"silent for {limit_ns // 1_000_000} ms"


def test_connection_that_does_not_log_in_is_closed():
    server = Server()
    server.connection.tick(LOGIN_TIMEOUT_NS - 1)
    assert server.connection.ended == ""
    server.connection.tick(LOGIN_TIMEOUT_NS)
    assert server.connection.ended == "no login for 5 s"
    assert server.sent == b""


def test_end_of_session_is_said_once_and_to_whoever_logs_in_later():
    server = Server(1)
    server.connection.receive(login(sequence=0), 5)
    server.take()
    server.connection.end(6)
    server.connection.end(7)
    assert server.take() == END
    assert server.connection.ended == "end of session"
    late = Server(1)
    late.stream.ended = True
    late.connection.receive(login(), 5)
    packets, rest = split(late.take())
    assert [packet[:2] for packet in packets[1:]] == [b"S1", b"Z"]
    assert rest == b""


def test_length_error_is_an_exception_of_the_splitter():
    with pytest.raises(SoupError, match=r"^packet length must be 1 to 4096, not 0$"):
        Splitter().feed(b"\0\0")
