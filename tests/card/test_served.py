"""A served card and its host: who notices what, and when. Time is the test's."""

import ctypes
import os
import re
import signal
import sys
import threading
import time

import pytest

from protocol import aperture, registers
from sim.card.functional import FunctionalCard
from sim.card.served import LOOK_INTERVAL_NS, CardServer
from sw.aperture import attach, create
from sw.attach import LOOK_MAX_NS, SILENCE_MAX_NS, AttachedCard
from sw.card import identify
from sw.errors import AttachError, CardError, CardLostError, VersionMismatchError
from sw.ring import RingReader, RingWriter

MS = 1_000_000
_PR_SET_SECCOMP, _SECCOMP_MODE_STRICT = 22, 1  # linux/prctl.h, linux/seccomp.h


class Served:
    """A card that another thread serves while :meth:`running`; its clock is the test's."""

    def __init__(self):
        self.place, _ = create("c", 4096, "functional")
        self.card = FunctionalCard(self.place.memory, symbol_count=4, order_count=64)
        self.told = []
        self.now_ns = 0
        self.server = CardServer(
            self.place,
            self.card,
            lambda pid: self.told.append("attached"),
            lambda pid, detached: self.told.append("detached" if detached else "died"),
            self.told.append,
            lambda: self.now_ns,
        )
        self._stop = threading.Event()

    def __enter__(self):
        """Serve until the end of the block."""
        self._stop.clear()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def _serve(self):
        while not self._stop.is_set():
            self.server.poll()
            time.sleep(0.0002)

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setattr("sw.aperture.FOLDER", tmp_path)
    made = Served()
    yield made
    made.card.close()
    made.place.close()


def attached():
    """Attach, with patience: how long this thread or the other stands still is not tested."""

    def clock():
        time.sleep(0.0001)  # Lets the other thread run.
        return time.monotonic_ns()

    return AttachedCard("c", clock=clock, silence_max_ns=10_000 * MS)


def die(host):
    """Let go of a host's aperture as the system does when the host is killed."""
    host.memory.release()
    host._aperture.close()


def test_host_reads_and_writes_registers(served):
    with served:
        host = attached()
        assert host.read(registers.IDENTITY_REGISTER.address()) == registers.IDENTITY
        host.write(registers.FEED_SEQUENCE.address(), (1 << 64) + 12)
        assert host.read(registers.FEED_SEQUENCE.address()) == 12
        host.close()


def test_host_that_detaches_leaves_a_stopped_card_for_the_next(served):
    with served:
        host = attached()
        host.write(registers.KILL.address(), 0)
        host.write(registers.FEED_SEQUENCE.address(), 77)
        host.memory[5] = 9
        host.close()
        assert served.card.read(registers.KILL.address()) == 1
        host = attached()
        assert host.read(registers.FEED_SEQUENCE.address()) == 1
        assert host.memory[5] == 0
        host.close()
    assert served.told == ["attached", "detached"] * 2


def test_host_that_dies_is_noticed_at_the_next_look_and_the_card_is_killed(served):
    with served:
        host = attached()
        host.write(registers.KILL.address(), 0)
    served.now_ns = 1_000 * MS
    served.server.poll()  # A look while it lives.
    die(host)
    served.now_ns += LOOK_INTERVAL_NS - 1
    served.server.poll()
    assert served.told == ["attached"]
    assert served.card.read(registers.KILL.address()) == 0
    served.now_ns += 1
    served.server.poll()
    assert served.told == ["attached", "died"]
    assert served.card.read(registers.KILL.address()) == 1
    assert served.server.host_pid is None


def test_host_that_comes_before_the_death_of_the_last_was_noticed_finds_a_card_after_power_up(
    served,
):
    with served:
        host = attached()
        host.write(registers.FEED_SEQUENCE.address(), 77)
        die(host)
        host = attached()
        assert host.read(registers.FEED_SEQUENCE.address()) == 1
        host.close()
    assert served.told == ["attached", "died", "attached", "detached"]


def test_question_that_a_dead_host_left_is_not_answered_to_the_next(served):
    with served:
        host = attached()
    words = served.place.words
    words[aperture.word(aperture.REQUEST, "operation")] = aperture.Operation.READ
    words[aperture.word(aperture.REQUEST, "address")] = registers.IDENTITY_REGISTER.address()
    words[aperture.word(aperture.REQUEST, "sequence")] += 1
    die(host)
    with served:
        host = attached()
        assert host.read(registers.SYMBOL_COUNT.address()) == 4
        host.close()


def test_next_host_does_not_touch_a_question_before_it_is_answered(served):
    with served:
        host = attached()
    die(host)
    served.place.set(aperture.REQUEST, "operation", aperture.Operation.READ)
    asked = served.place.get(aperture.REQUEST, "sequence") + 1
    served.place.set(aperture.REQUEST, "sequence", asked)
    made = []
    waiting = threading.Thread(target=lambda: made.append(AttachedCard("c", clock=lambda: 0)))
    waiting.start()
    time.sleep(0.05)
    assert served.place.get(aperture.REQUEST, "sequence") == asked
    assert served.place.get(aperture.REQUEST, "operation") == aperture.Operation.READ
    with served:
        waiting.join()
    die(made[0])


def test_second_host_is_refused_and_the_first_goes_on(served):
    with served:
        host = attached()
        with pytest.raises(AttachError, match=r"^CARD_ATTACHED: name=c, host_pid=\d+$"):
            attached()
        assert host.read(registers.SYMBOL_COUNT.address()) == 4
        host.close()


def test_card_of_another_register_map_is_refused_with_both_versions(served, monkeypatch):
    values = {registers.VERSION.address(): 2 << 16, 0: registers.IDENTITY}
    monkeypatch.setattr(served.card, "read", values.__getitem__)
    with served:
        host = attached()
        with pytest.raises(
            VersionMismatchError, match=r"^CARD_VERSION_MISMATCH: version=2\.0, expected=1\.4$"
        ):
            identify(host)
        host.close()


@pytest.mark.skipif(os.uname().sysname != "Linux", reason="seccomp is Linux's")
def test_polling_rings_and_heartbeat_and_publishing_makes_no_system_call(served):
    """In strict mode the system kills a process at its first call but read and write."""
    with served:
        host = attached()
    market, command = RingReader(host.memory, 0, 4), RingWriter(host.memory, 1024, 4)
    card = RingWriter(served.place.memory, 0, 4)
    assert card.put(bytes(64))
    done_read, done_write = os.pipe()
    child = os.fork()
    if child == 0:
        sys.settrace(None)  # Whoever measures coverage may read files.
        ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_STRICT)
        taken = 0
        for now_ns in range(10_000):
            if market.poll() >= 0:
                market.release()
                taken += 1
            host.check(now_ns)
        if taken == 1 and command.put(bytes(64)):
            os.write(done_write, b"done")
        os.getpid()  # Here it is killed, as it would have been before.
        os._exit(0)
    os.close(done_write)
    _, status = os.waitpid(child, 0)
    assert os.read(done_read, 4) == b"done"
    assert os.WTERMSIG(status) == signal.SIGKILL
    os.close(done_read)
    assert served.place.memory[1024 + 64 + 56] == 1  # The command's sequence number.
    for item in (market, command, card):
        item.close()
    die(host)


def test_silent_card_is_lost_after_more_than_its_time(served):
    with served:
        host = AttachedCard("c", clock=lambda: 0)
    now_ns = 500 * MS
    served.server.heartbeat()
    host.check(now_ns)
    for _ in range(SILENCE_MAX_NS // LOOK_MAX_NS):
        now_ns += LOOK_MAX_NS
        host.check(now_ns)
    assert host.silence_ns == SILENCE_MAX_NS
    heartbeats = served.place.get(aperture.HEARTBEAT, "heartbeat_count")
    text = f"CARD_SILENT: name=c, pid={host.card_pid}, silence_ms=100, heartbeats={heartbeats}"
    with pytest.raises(CardLostError, match=f"^{re.escape(text)}$"):
        host.check(now_ns + 1)
    served.server.heartbeat()
    host.check(now_ns + 2)
    assert host.silence_ns == 0
    die(host)


def test_time_in_which_the_host_stood_still_is_not_the_card_s_silence(served):
    with served:
        host = AttachedCard("c", clock=lambda: 0)
    host.check(0)
    host.check(60_000 * MS)
    assert host.silence_ns == LOOK_MAX_NS
    die(host)


def test_card_that_ends_says_so_at_once(served):
    with served:
        host = attached()
    served.place.set(aperture.HEARTBEAT, "ended", 1)
    text = f"^CARD_ENDED: name=c, pid={host.card_pid}$"
    with pytest.raises(CardLostError, match=text):
        host.check(0)
    with pytest.raises(CardLostError, match=text):
        host.read(0)
    host.close()


def test_host_waits_for_a_card_that_is_not_served_yet(tmp_path, monkeypatch):
    monkeypatch.setattr("sw.aperture.FOLDER", tmp_path)
    now_ns = [0]
    made = []

    def clock():
        if now_ns[0] < 30 * MS:
            now_ns[0] += 10 * MS
        elif not made:
            made.append(Served().__enter__())
        return now_ns[0]

    host = AttachedCard("c", clock=clock, wait_ns=50 * MS)
    host.close()
    made[0].__exit__()
    made[0].card.close()
    made[0].place.close()
    (tmp_path / "tickwire.c").unlink()
    with pytest.raises(AttachError, match=r"^CARD_NOT_SERVED: name=c$"):
        AttachedCard("c", wait_ns=1)


def test_unknown_operation_and_question_of_nobody_are_refused(served):
    words = served.place.words

    def ask(operation):
        words[aperture.word(aperture.REQUEST, "operation")] = operation
        words[aperture.word(aperture.REQUEST, "sequence")] += 1
        assert served.server.poll()
        return words[aperture.word(aperture.RESPONSE, "status")]

    holder = attach("c")
    assert ask(aperture.Operation.READ) == aperture.Status.NOT_ATTACHED
    assert ask(aperture.Operation.DETACH) == aperture.Status.NOT_ATTACHED
    assert ask(aperture.Operation.ATTACH) == aperture.Status.DONE
    assert ask(99) == aperture.Status.UNKNOWN_OPERATION
    assert ask(aperture.Operation.READ) == aperture.Status.DONE
    holder.close()


def test_what_the_card_cannot_do_is_said_and_the_card_goes_on(served):
    with served:
        host = attached()
        host.write(registers.MARKET_SLOTS.address(), 3)
        text = r"^CARD_REFUSES: name=c, operation=WRITE, address=0x28, status=FAILED$"
        with pytest.raises(CardError, match=text):
            host.write(registers.CONTROL.address(), 1)
        assert host.read(registers.SYMBOL_COUNT.address()) == 4
        host.close()
    assert served.told == ["attached", "RING_SLOTS_NOT_POWER_OF_TWO: slots=3", "detached"]


def test_closed_server_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.setattr("sw.aperture.FOLDER", tmp_path)
    made = Served()
    made.card.close()
    made.server.close()
    assert list(tmp_path.iterdir()) == []
