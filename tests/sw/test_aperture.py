"""The file of an aperture: who may serve it, who may attach, and what a dead card leaves."""

import os
import re
import subprocess
import sys

import pytest

from protocol import aperture
from protocol.aperture import Holder
from sw.aperture import attach, create, path_of, publish
from sw.errors import (
    AttachError,
    CardAbsentError,
    IdentityMismatchError,
    VersionMismatchError,
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr("sw.aperture.FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def served():
    place, _ = create("c", 256, "functional")
    publish(place)
    yield place
    place.close()


def test_words_of_the_page_stand_where_the_table_says():
    assert [
        aperture.word(line, field)
        for line, field in (
            (aperture.HEAD, "identity"),
            (aperture.HEAD, "card_pid"),
            (aperture.HEARTBEAT, "heartbeat_count"),
            (aperture.HOST, "host_pid"),
            (aperture.REQUEST, "operation"),
            (aperture.REQUEST, "sequence"),
            (aperture.RESPONSE, "sequence"),
        )
    ] == [0, 3, 8, 16, 24, 31, 39]
    assert len(aperture.LINES) * aperture.LINE_SIZE <= aperture.PAGE_SIZE


def test_head_says_what_is_served(served, folder):
    raw = (folder / "tickwire.c").read_bytes()
    head = aperture.HEAD.unpack(raw)
    assert head["identity"] == int.from_bytes(b"TWAPERTR", "little")
    assert (head["version"], head["memory_size"], head["kind"]) == (1, 256, "functional")
    assert head["card_pid"] == os.getpid()
    assert len(raw) == 4096 + 256


def test_memory_is_one_for_card_and_host(served):
    with attach("c") as host:
        assert len(host.memory) == 256
        host.memory[7] = 5
        assert served.memory[7] == 5
        served.words[9] = 1 << 63
        assert host.words[9] == 1 << 63


def test_second_card_of_a_name_is_refused_with_the_first_ones_process(served):
    text = f"^CARD_NAME_TAKEN: name=c, pid={os.getpid()}$"
    with pytest.raises(AttachError, match=text):
        create("c", 256, "functional")
    with attach("c"):  # What it tried has not harmed the first.
        pass


def test_second_host_is_refused_with_the_first_ones_process_until_that_lets_go(served):
    with attach("c"):
        text = f"^CARD_ATTACHED: name=c, host_pid={os.getpid()}$"
        with pytest.raises(AttachError, match=text):
            attach("c")
        assert served.is_held(Holder.HOST)
    assert not served.is_held(Holder.HOST)
    attach("c").close()


def test_card_that_is_not_there_not_ready_or_dead_is_absent(folder):
    with pytest.raises(CardAbsentError, match=r"^CARD_NOT_SERVED: name=c$"):
        attach("c")
    (folder / "tickwire.c").touch()
    with pytest.raises(CardAbsentError, match=r"^CARD_NOT_READY: name=c, size=0$"):
        attach("c")
    place, replaced = create("c", 64, "functional")
    assert replaced
    with pytest.raises(CardAbsentError, match=f"^CARD_NOT_READY: name=c, pid={os.getpid()}$"):
        attach("c")
    publish(place)
    attach("c").close()
    place.close()
    with pytest.raises(CardAbsentError, match=f"^CARD_DEAD: name=c, pid={os.getpid()}$"):
        attach("c")


def test_aperture_of_a_killed_card_is_replaced_and_its_host_keeps_the_old_one(folder):
    script = (
        "import os, signal, pathlib, sw.aperture as a\n"
        f"a.FOLDER = pathlib.Path({str(folder)!r})\n"
        "a.publish(a.create('c', 64, 'functional')[0])\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as card:
        assert card.stdout.readline() == b"ready\n"
        host = attach("c")
        assert host.is_held(Holder.CARD)
        card.kill()
        card.wait()
    assert not host.is_held(Holder.CARD)
    place, replaced = create("c", 128, "functional")
    publish(place)
    assert replaced
    host.memory[0] = 1
    with attach("c") as other:
        assert (len(other.memory), other.memory[0]) == (128, 0)
    place.unlink()
    place.close()
    host.close()
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("field", "value", "error", "text"),
    [
        ("version", 2, VersionMismatchError, "APERTURE_VERSION_MISMATCH: name=c, version=2, "
         "expected=1"),
        ("identity", 7, IdentityMismatchError, "APERTURE_IDENTITY_MISMATCH: name=c, "
         "identity=0x0000000000000007, expected=0x5254524550415754"),
    ],
)  # fmt: skip
def test_aperture_of_another_kind_is_refused_with_both_values(served, field, value, error, text):
    served.set(aperture.HEAD, field, value)
    with pytest.raises(error, match=f"^{re.escape(text)}$"):
        attach("c")
    assert not served.is_held(Holder.HOST)


@pytest.mark.parametrize("name", ["", ".c", "a/b", "../c", "-c", "c" * 65, "ä", "a b", "c\n"])
def test_name_that_cannot_be_a_file_s_is_refused(name):
    text = f"CARD_NAME_WRONG: name={name!r}, pattern=[A-Za-z0-9_][A-Za-z0-9_.-]{{0,63}}"
    with pytest.raises(AttachError, match=f"^{re.escape(text)}$"):
        path_of(name)


def test_machine_that_reorders_stores_is_refused(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(AttachError, match=r"^APERTURE_NEEDS_X86_LINUX: machine=aarch64$"):
        path_of("c")
