"""A venue without its sockets: its day, its rules, and what its journal brings back."""

import os
import shutil
from pathlib import Path
from random import Random

import pytest

from protocol import itch50, ouch50
from protocol.orders import Side
from sim.venue.exchange import REJECT_RATE, REJECT_STORM, Exchange, Throttle
from sim.venue.glimpse import snapshot
from sim.venue.journal import Journal, JournalError, answers_entry, requests_entry
from sim.venue.settings import (
    FeesConfig,
    HoursConfig,
    ThrottleConfig,
    UserConfig,
)
from tests.venue.socket_client import PASSWORD, USER, settings, told
from tests.venue.test_gateway import cancel, enter, mass_cancel, modify, packed, replace

SECOND = 1_000_000_000
HOURS = HoursConfig("09:30:00", "16:00:00")
OPEN_NS, CLOSE_NS = 34_200 * SECOND, 57_600 * SECOND
ACCEPTED, CANCELED, EXECUTED = "Order Accepted", "Order Canceled", "Order Executed"


class Venue:
    """An exchange whose answers are kept by user, in the order in which they are delivered."""

    def __init__(self, path=None, session="DAY1", **more):
        self.journal = Journal(path)
        self.delivered = [[], []]
        try:
            self.exchange = Exchange(
                settings(**more), self.journal, session, 0, self._deliver, lambda: None
            )
        except JournalError:
            self.journal.close()
            raise
        if self.exchange.phase == "":
            self.exchange.command("start", 1)

    def _deliver(self, client, packets):
        self.delivered[client.index] += packets

    def send(self, *packets, user=0, now_ns=100):
        """Take packets as the gateway's tests make them; return that user's answers."""
        self.exchange.receive(
            self.exchange.clients[user], [packet[3:] for packet in packets], now_ns
        )
        return self.take(user)

    def take(self, user=0, *names):
        delivered, self.delivered[user] = self.delivered[user], []
        return told([packet[2:] for packet in delivered], *names)

    def feed(self):
        return [chr(message[0]) for message in self.exchange.feed.messages]

    def codes(self):
        """Return the event codes of the feed's system events."""
        return "".join(chr(m[11]) for m in self.exchange.feed.messages if m[:1] == b"S")

    def state(self):
        """Return everything that a client or a listener could ever see."""
        exchange = self.exchange
        books = [
            list(exchange.engine.book_side(locate, side).orders())
            for locate in exchange.stocks
            for side in (Side.BUY, Side.SELL)
        ]
        streams = [client.stream.packets for client in exchange.clients]
        return exchange.session, books, streams, exchange.feed.messages


# Clients.


def test_two_clients_use_the_same_order_numbers_and_trade_with_one_another():
    venue = Venue()
    venue.take(0), venue.take(1)
    assert venue.send(enter(1, "S", 100)) == [(ACCEPTED, 1, 100)]
    assert venue.send(enter(1, "B", 60), user=1) == [(ACCEPTED, 1, 60), (EXECUTED, 1, 60)]
    assert venue.take(0, "user_ref_num", "quantity", "liquidity_flag") == [(EXECUTED, 1, 60, "A")]
    assert venue.send(cancel(1), user=1) == []
    assert venue.send(cancel(1)) == [(CANCELED, 1, 40, "U")]


def test_answers_of_messages_that_come_together_are_in_the_order_of_the_messages():
    venue = Venue()
    venue.take()
    answers = venue.send(
        enter(1, "S"),
        enter(2, symbol="NONE"),
        replace(1, 3, 50),
        enter(4, "B", 30),
        replace(3, 5, 70),
        replace(1, 6),
        enter(6),
        mass_cancel(7),
        packed(ouch50.ACCOUNT_QUERY_REQUEST),
    )
    assert [answer[0] for answer in answers] == [
        *(ACCEPTED, "Rejected", "Order Replaced", ACCEPTED, EXECUTED, EXECUTED),
        *("Order Replaced", ACCEPTED, EXECUTED, EXECUTED, CANCELED),
        *("Mass Cancel Response", "Account Query Response"),
    ]


def test_messages_sent_one_by_one_are_answered_as_those_that_come_together():
    rng = Random(seed := 11)
    print(f"seed {seed}")
    messages = [_random_message(rng, number) for number in range(1, 400)]
    together, one_by_one = Venue(), Venue()
    together.send(*messages)
    for message in messages:
        one_by_one.send(message)
    assert together.state() == one_by_one.state()
    assert len(together.exchange.clients[0].stream.packets) > 300


def _random_message(rng, number):
    side, price = rng.choice("BS"), 1_000_000 + 100 * rng.randrange(-5, 6)
    before = rng.randrange(max(1, number - 20), number + 1)
    return rng.choice(
        [
            lambda: enter(number, side, 100 * rng.randrange(0, 6), price),
            lambda: enter(number, side, 100, price + rng.choice((0, 1))),
            lambda: replace(before, number, 100 * rng.randrange(1, 6), price),
            lambda: cancel(before, rng.choice((0, 50))),
            lambda: modify(before, side, 50),
            lambda: mass_cancel(number, "MSFT"),
        ]
    )()


@pytest.mark.parametrize(
    ("price", "reason"),
    [(9_999, None), (10_000, None), (10_001, 0x1D), (10_100, None), (0x7FFF_FFFF, None)],
)
def test_price_must_be_a_multiple_of_its_increment(price, reason):
    venue = Venue()
    venue.take()
    (answer, *_) = venue.send(enter(1, price=price))
    assert answer == ((ACCEPTED, 1, 100) if reason is None else ("Rejected", 1, reason))


def test_replacement_off_the_increment_is_rejected_and_the_order_stands():
    venue = Venue()
    venue.take()
    venue.send(enter(1))
    assert venue.send(replace(1, 2, price=1_000_050)) == [("Rejected", 2, 0x1D)]
    assert venue.send(replace(1, 3)) == [("Order Replaced", 1, 3, 100)]


def test_throttle_lets_a_burst_through_and_then_so_many_a_second():
    throttle = Throttle(10, 3)
    tenth = SECOND // 10
    assert [throttle.is_over(0) for _ in range(5)] == [False, False, False, True, True]
    assert [throttle.is_over(tenth - 1), throttle.is_over(tenth)] == [True, False]
    assert [throttle.is_over(tenth) for _ in range(2)] == [True, True]
    assert [throttle.is_over(60 * SECOND) for _ in range(4)] == [False, False, False, True]


def test_throttled_orders_are_rejected_and_cancels_are_not():
    venue = Venue(throttle=ThrottleConfig(1, 2))
    venue.take()
    assert venue.send(enter(1), enter(2), enter(3), cancel(1)) == [
        (ACCEPTED, 1, 100),
        (ACCEPTED, 2, 100),
        ("Rejected", 3, REJECT_RATE),
        (CANCELED, 1, 100, "U"),
    ]
    assert venue.send(replace(2, 4), now_ns=101) == [("Rejected", 4, REJECT_RATE)]
    assert venue.send(enter(5), now_ns=100 + SECOND) == [(ACCEPTED, 5, 100)]
    assert venue.exchange.clients[0].refused_count == 2


def test_storm_rejects_orders_until_it_ends():
    venue = Venue()
    venue.take()
    venue.exchange.command("storm on", 5)
    assert venue.send(enter(1)) == [("Rejected", 1, REJECT_STORM)]
    venue.exchange.command("storm off", 6)
    assert venue.send(enter(2)) == [(ACCEPTED, 2, 100)]


def test_taker_pays_and_maker_is_paid():
    venue = Venue(fees=FeesConfig(taker_fee=3_000, maker_rebate=2_000))
    venue.send(enter(1, "S", 100))
    venue.send(enter(1, "B", 60), user=1)
    maker, taker = (client.account for client in venue.exchange.clients)
    assert (maker.made_qty, maker.taken_qty, maker.owed) == (60, 0, -120_000)
    assert (taker.made_qty, taker.taken_qty, taker.owed) == (0, 60, 180_000)


# The day.


def test_day_without_hours_is_open_from_the_start_until_it_is_ended():
    venue = Venue()
    assert venue.feed() == ["S", "R", "R", "S", "H", "H", "S"]
    assert venue.codes() == "OSQ"
    assert venue.take(0, "event_code") == [("System Event", "S")]
    venue.send(enter(1))
    venue.exchange.command("end", 200)
    assert venue.codes() == "OSQMEC"
    assert venue.take(0, "user_ref_num", "reason", "event_code") == [
        (CANCELED, 1, "E"),
        ("System Event", "E"),
    ]
    assert venue.send(enter(2)) == []
    assert venue.exchange.is_ended


def test_orders_wait_for_the_opening_cross_and_rest_is_crossed_at_the_close():
    venue = Venue(hours=HOURS, fees=FeesConfig(cross_fee=100))
    venue.take(), venue.take(1)
    assert venue.send(enter(1, "S", 100)) == [(ACCEPTED, 1, 100)]
    assert venue.send(enter(1, "B", 60), user=1) == [(ACCEPTED, 1, 60)]
    venue.exchange.command("open", OPEN_NS)
    assert venue.take(0, "user_ref_num", "quantity", "liquidity_flag") == [(EXECUTED, 1, 60, "O")]
    assert venue.take(1) == [(EXECUTED, 1, 60)]
    assert venue.exchange.clients[0].account.owed == 6_000
    venue.send(enter(2, "B", 40, cross_type="C"), user=1, now_ns=OPEN_NS + 1)
    venue.take(1)
    venue.exchange.command("close", CLOSE_NS)
    assert venue.take(0, "liquidity_flag", "event_code") == [(EXECUTED, "C"), ("System Event", "E")]
    assert venue.codes() == "OSQME"
    assert venue.send(enter(9), now_ns=CLOSE_NS + 1) == [("Rejected", 9, 0x02)]


def test_without_crosses_orders_before_the_open_are_rejected():
    venue = Venue(hours=HoursConfig("09:30:00", "16:00:00", crosses=False))
    venue.take()
    assert venue.send(enter(1)) == [("Rejected", 1, 0x07)]
    venue.exchange.command("open", OPEN_NS)
    assert venue.send(enter(2), now_ns=OPEN_NS + 1) == [(ACCEPTED, 2, 100)]


def test_time_that_runs_backwards_does_not_move_the_venue_s_clock_back():
    venue = Venue()
    venue.send(enter(1), now_ns=500)
    venue.take()
    venue.send(enter(2), now_ns=400)
    assert [int.from_bytes(m[5:11], "big") for m in venue.exchange.feed.messages[-2:]] == [500, 500]


# The journal.


def play(venue, count=300, seed=3):
    rng = Random(seed)
    print(f"seed {seed}")
    for number in range(1, count + 1):
        user = rng.randrange(2)
        venue.send(_random_message(rng, number), user=user, now_ns=100 * number)
        if rng.random() < 0.01:
            venue.exchange.command(f"disconnect {user}", 100 * number)


def test_everything_comes_back_from_the_journal(tmp_path):
    venue = Venue(tmp_path / "x.journal")
    play(venue)
    before, count = venue.state(), venue.exchange.message_count
    venue.journal.close()
    again = Venue(tmp_path / "x.journal", session="DAY2")
    assert again.state() == before
    assert again.exchange.session == "DAY1"
    assert (count, again.exchange.message_count) == (300, 300)
    assert again.delivered == [[], []]
    # And it goes on as the one that was not killed.
    other = Venue()
    play(other)
    assert again.send(enter(9_999)) == other.send(enter(9_999))[-1:]


@pytest.mark.parametrize("cut", range(1, 260, 7))
def test_journal_torn_anywhere_brings_back_a_venue_that_answers_each_request_once(tmp_path, cut):
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    venue = Venue(whole)
    for number in range(1, 6):
        venue.send(enter(number), now_ns=100 * number)
    venue.journal.close()
    shutil.copy(whole, torn)
    with torn.open("r+b") as file:
        file.truncate(whole.stat().st_size - cut)
    again = Venue(torn)
    packets = again.exchange.clients[0].stream.packets
    assert venue.exchange.clients[0].stream.packets[: len(packets)] == packets
    # The client sends again what it has no answer to.
    for number in range(1, 6):
        again.send(enter(number), now_ns=10_000)
    answers = told([packet[2:] for packet in packets], "user_ref_num", "event_code")
    expected = [("System Event", "S"), *((ACCEPTED, number) for number in range(1, 6))]
    assert answers == expected
    again.journal.close()
    third = Venue(torn)
    assert third.state() == again.state()


def test_answers_that_are_not_in_the_journal_any_more_are_written_again(tmp_path):
    path = tmp_path / "x"
    venue = Venue(path)
    venue.send(enter(1), enter(2))
    venue.journal.close()
    entries = path.read_bytes()
    last = answers_entry(0, 2, venue.exchange.clients[0].stream.packets[1:])
    assert entries.endswith(last)
    path.write_bytes(entries[: -len(last)])
    again = Venue(path)
    assert again.state() == venue.state()
    assert path.read_bytes() == entries


def test_answer_that_does_not_follow_from_the_requests_is_refused(tmp_path):
    path = tmp_path / "x"
    venue = Venue(path)
    stream = venue.exchange.clients[0].stream
    venue.journal.write(requests_entry(0, 5, [enter(1)[3:]]))
    venue.journal.write(answers_entry(0, stream.next_sequence, [b"\0\2Sx"]))
    venue.journal.close()
    with pytest.raises(JournalError, match="answer 2 of user TRADER does not follow from the req"):
        Venue(path)


def test_journal_of_other_settings_is_refused(tmp_path):
    Venue(tmp_path / "x").journal.close()
    text = "was written with other symbols, users, hours, price_increments, throttle or flow$"
    with pytest.raises(JournalError, match=text):
        Venue(tmp_path / "x", symbols=("AAPL",))
    users = (UserConfig(USER, PASSWORD),)
    with pytest.raises(JournalError, match=text):
        Venue(tmp_path / "x", users=users)


def test_journal_in_use_is_refused(tmp_path):
    venue = Venue(tmp_path / "x")
    with pytest.raises(JournalError, match=r"x: is in use by another process$"):
        Venue(tmp_path / "x")
    venue.journal.close()


@pytest.mark.parametrize("content", [requests_entry(0, 5, [b"x"]), b"a letter", bytes(100)])
def test_file_that_is_no_journal_is_refused_and_left_as_it_is(tmp_path, content):
    path = tmp_path / "x"
    path.write_bytes(content)
    with pytest.raises(JournalError, match=r"x: does not begin with a journal's header$"):
        Venue(path)
    assert path.read_bytes() == content


def test_journal_must_be_a_regular_file():
    with pytest.raises(JournalError, match=r"^/dev/full: is not a regular file$"):
        Journal(Path("/dev/full"))


def test_nothing_is_written_or_delivered_after_a_write_has_failed(tmp_path, monkeypatch):
    venue = Venue(tmp_path / "x")
    venue.send(enter(1))
    before = venue.state()[2][0][:]
    real = os.write

    def write_half(file, data):
        if len(data) < 40:
            raise OSError(28, "No space left on device")
        return real(file, data[: len(data) - 30])

    with monkeypatch.context() as patch:
        patch.setattr("sim.venue.journal.os.write", write_half)
        with pytest.raises(JournalError, match=r"x: No space left on device$"):
            venue.send(enter(2))
    with pytest.raises(JournalError, match=r"x: No space left on device$"):
        venue.send(enter(3))
    assert venue.delivered[0] == []
    assert venue.state()[2][0] == before  # Nor does a login see it.
    venue.journal.close()
    again = Venue(tmp_path / "x")
    assert again.journal.cut_bytes > 0
    assert again.state()[2][0][: len(before)] == before
    assert (ACCEPTED, 3, 100) not in told([p[2:] for p in again.state()[2][0]])


def test_session_that_has_ended_is_set_aside_and_a_new_one_begins(tmp_path):
    venue = Venue(tmp_path / "x")
    venue.send(enter(1))
    venue.exchange.command("end", 500)
    venue.journal.close()
    again = Venue(tmp_path / "x", session="DAY2")
    assert again.exchange.session == "DAY2"
    assert again.take(0, "event_code") == [("System Event", "S")]
    assert (tmp_path / "x.DAY1").exists()
    again.exchange.command("end", 500)
    again.journal.close()
    with pytest.raises(JournalError, match="session DAY2 has ended; give a new one another name"):
        Venue(tmp_path / "x", session="DAY2")


def test_snapshot_and_feed_tell_the_same_book():
    venue = Venue()
    play(venue, 900, seed=5)
    venue.send(enter(5_000, price=900_000, display="N"), now_ns=10**6)
    exchange = venue.exchange
    messages = list(
        snapshot(
            exchange.engine,
            exchange.stocks,
            exchange.opening_messages(),
            exchange.feed.next_sequence,
            exchange.now_ns,
        )
    )
    assert messages[-1] == b"G%20d" % exchange.feed.next_sequence
    live = {}
    for message in exchange.feed.messages:
        fields = itch50.MESSAGES.by_code[message[0]].unpack(message)
        ref = fields.get("order_reference_number")
        match fields["message_type"]:
            case "A":
                side, shares = fields["buy_sell_indicator"], fields["shares"]
                live[ref] = [side, fields["stock"], fields["price"], shares]
            case "E":
                live[ref][3] -= fields["executed_shares"]
            case "X":
                live[ref][3] -= fields["canceled_shares"]
            case "D":
                del live[ref]
            case "U":
                side, stock, *_ = live.pop(fields["original_order_reference_number"])
                new = fields["new_order_reference_number"]
                live[new] = [side, stock, fields["price"], fields["shares"]]
    told_by_snapshot = {}
    for message in messages:
        if message[:1] == b"A":
            f = itch50.ADD_ORDER.unpack(message)
            values = [f["buy_sell_indicator"], f["stock"], f["price"], f["shares"]]
            told_by_snapshot[f["order_reference_number"]] = values
    assert len(told_by_snapshot) >= 5
    assert told_by_snapshot == {ref: values for ref, values in live.items() if values[3]}
