"""What a served card's wires carry, and when. Time is the test's."""

from itertools import pairwise

import pytest

from protocol import registers
from sim.card.functional import FunctionalCard
from sim.card.port import Port
from sim.venue.flow import generate
from sw.card import HostMemory, read, write
from sw.ring import ring_size
from tickwire.capture import InputError
from tickwire.wire import Exchange, open_file

MS = 1_000_000


@pytest.fixture(scope="module")
def messages():
    return list(generate(3, ("AAA", "BBB"), 300))


@pytest.fixture
def day(messages, tmp_path):
    path = tmp_path / "day.itch50"
    path.write_bytes(b"".join(len(m).to_bytes(2, "big") + m for m in messages))
    return open_file(path)


@pytest.fixture
def card():
    """A card that a host has started."""
    with HostMemory(3 * ring_size(16)) as memory:
        made = FunctionalCard(memory, symbol_count=4, order_count=1024)
        for number, base in enumerate(
            (registers.MARKET_BASE, registers.EXECUTION_BASE, registers.COMMAND_BASE)
        ):
            write(made, base, number * ring_size(16))
        for slots in (registers.MARKET_SLOTS, registers.EXECUTION_SLOTS, registers.COMMAND_SLOTS):
            write(made, slots, 16)
        write(made, registers.CONTROL, 1)
        yield made
        made.close()


def times(exchange, card, most_ns):
    """Return when packets arrive, each once, looking every 0.1 ms."""
    found, before = [], 0
    for now_ns in range(0, most_ns, MS // 10):
        exchange.step(card, now_ns)
        frames = read(card, registers.FRAMES_RECEIVED, 0)
        assert frames - before <= 1
        if frames > before:
            found.append(now_ns)
        before = frames
    return found


def test_day_of_a_file_has_every_message_once_and_each_packet_on_both_lines(day, messages):
    sendings = list(day.sendings())
    assert [m for sending in sendings for m in sending.messages] == messages
    assert {tuple(port for port, _ in sending.frames) for sending in sendings} == {
        (Port.FEED_A, Port.FEED_B)
    }
    assert day.locates == {"AAA": 1, "BBB": 2}
    assert len(list(day.sendings())) == len(sendings)  # It can be played again.


def test_capture_has_every_frame_as_it_is_and_every_message_once(day, messages, build, tmp_path):
    sendings = list(day.sendings())
    frames = [frame for sending in sendings for _, frame in sending.frames]
    lost = frames[0:1] + frames[2:]  # The first packet is lost on line B, which the card survives.
    path = tmp_path / "day.pcap"
    path.write_bytes(build.pcap(lost))
    capture = open_file(path)
    played = list(capture.sendings())
    assert [frame for sending in played for _, frame in sending.frames] == lost
    assert [m for sending in played for m in sending.messages] == messages
    assert capture.locates == day.locates


def test_file_that_is_none_is_refused(tmp_path, build):
    path = tmp_path / "x.pcap"
    path.write_bytes(build.pcap([build.udp(b"nothing")]))
    with pytest.raises(InputError, match="no UDP destination in it carries ITCH"):
        open_file(path)


def test_packets_come_as_far_apart_as_speed_says_and_no_pause_is_longer_than_asked(day, card):
    sent = [sending.ts_ns for sending in day.sendings()]
    speed, pause_max_ns = 1_000.0, 5 * MS
    due = [0]
    for a, b in pairwise(sent):
        due.append(due[-1] + min(int((b - a) / speed), pause_max_ns))
    exchange = Exchange(day, speed, pause_max_ns)
    found = times(exchange, card, 400 * MS)
    assert len(found) > 20
    assert any(b - a == pause_max_ns for a, b in pairwise(due))
    # A packet that is due meanwhile waits for the next look, and those behind it for theirs.
    now = -MS // 10
    for at, expected in zip(found, due, strict=False):
        look = -(-expected // (MS // 10)) * (MS // 10)
        now = max(look, now + MS // 10)
        assert at == now
    assert exchange.late_max_ns < 20 * MS


def test_nothing_is_played_before_the_card_is_started_and_the_next_host_has_the_day_from_its_start(
    day, card
):
    exchange = Exchange(day, 1e9, 0)
    write(card, registers.CONTROL, 0)
    assert not exchange.step(card, 5)
    assert read(card, registers.CLOCK_NS) == 5
    received = []
    for _ in range(2):
        card.memory[:] = bytes(len(card.memory))
        write(card, registers.CONTROL, 1)
        for now_ns in range(10, 20):
            assert exchange.step(card, now_ns)
        received.append(read(card, registers.MESSAGES_RECEIVED))
        assert read(card, registers.MESSAGES_LOST) == 0
        assert exchange.close(20) == 0
        write(card, registers.CONTROL, 0)
    assert received[0] == received[1] >= 10


def test_day_with_a_fault_is_played_up_to_it(messages, card, tmp_path):
    path = tmp_path / "cut.itch50"
    whole = b"".join(len(m).to_bytes(2, "big") + m for m in messages[:20])
    path.write_bytes(whole + b"\x00\x24A")
    told = []
    exchange = Exchange(open_file(path), 1e9, 0, told.append)
    for now_ns in range(40):
        exchange.step(card, now_ns)
    assert read(card, registers.MESSAGES_RECEIVED) == 20
    (error,) = told
    assert f"cut.itch50: offset {len(whole)}: " in str(error)
