"""A card in a process of its own: it is traded on, killed, left by its host and taken again.

These are real processes. How long silence lasts until it is noticed is counted by the host, so it
is asserted exactly; how long that takes on the clock depends on the machine and is only bounded.
"""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol import aperture, ring
from protocol.ring import RecordType
from sim.venue.flow import generate
from sw.aperture import FOLDER, Aperture
from sw.attach import LOOK_MAX_NS
from tests.tickwire.test_run import CONFIG, figures, records, run
from tickwire.cli import app

REPOSITORY = Path(__file__).resolve().parents[2]
PATIENT = ("--silence", 5_000)
"""For tests of other things: a machine under load may keep a process from running."""
FAST = ("--speed", 1e9, "--pause-max", 0.0005)
"""Two packets in a millisecond, whatever their times."""
SLOW = ("--speed", 1e9, "--pause-max", 0.01)
_NUMBERS = count()
_WITHIN_S = 180


def command(*arguments):
    return [sys.executable, "-m", "tickwire", *map(str, arguments)]


class Served:
    """A card's process, and what it has said."""

    def __init__(self, name, process):
        self.name = name
        self.process = process
        self.path = FOLDER / f"tickwire.{name}"

    def line(self):
        """Return what it says next, without its name."""
        said = self.process.stdout.readline()
        assert said.startswith(f"card {self.name}: "), said
        return said.removeprefix(f"card {self.name}: ").rstrip()


@contextmanager
def serve(day, *options, name=None):
    """Serve a card until the end of the block, and no longer."""
    name = name or f"test.{os.getpid()}.{next(_NUMBERS)}"
    with subprocess.Popen(
        command("card", "serve", name, day, *options),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Served(name, process)
        finally:
            process.kill()
            process.wait()
            (FOLDER / f"tickwire.{name}").unlink(missing_ok=True)


@contextmanager
def host(config, name, journal, *options):
    """Trade in a process of its own."""
    with subprocess.Popen(
        command("run", config, "--attach", name, "--journal", journal, *options),
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def until_trading(journal):
    """Wait until a host has written some of its journal."""
    end = time.monotonic() + _WITHIN_S
    while not journal.exists() or journal.stat().st_size < 100 * ring.RECORD_SIZE:
        assert time.monotonic() < end
        time.sleep(0.02)


def open_orders(journal):
    """Count the orders that could still execute, from the records alone.

    A replacement counts from the moment it is asked for, beside the order that it may replace, and
    is gone when that order ends first: the venue ignores it [OUCH 5.0: 2.2].
    """
    leaves, replacements = {}, {}

    def end_if_done(number):
        if leaves[number] == 0:
            leaves.pop(replacements.pop(number, None), None)

    for record in journal:
        values = ring.RECORDS.by_code[record[0]].unpack(record)
        number = values.get("cl_ord_id")
        match record[0]:
            case RecordType.NEW:
                leaves[number] = values["order_qty"]
            case RecordType.REPLACE:
                leaves[number] = values["order_qty"]
                replacements[values["orig_cl_ord_id"]] = number
            case RecordType.REPLACED:
                del leaves[values["orig_cl_ord_id"]]
                del replacements[values["orig_cl_ord_id"]]
                leaves[number] = values["leaves_qty"]
            case RecordType.EXECUTED:
                leaves[number] -= values["last_qty"]
                end_if_done(number)
            case RecordType.CANCELED:
                leaves[number] -= values["canceled_qty"]
                end_if_done(number)
            case RecordType.DENIED | RecordType.REJECTED:
                leaves.pop(number, None)
    return sum(1 for qty in leaves.values() if qty > 0)


def check_in_order(journal):
    """Every ring's records follow one another without a hole."""
    expected = {1: 1, 2: 1, 3: 1}
    for record in journal:
        assert int.from_bytes(record[56:], "little") == expected[record[0] >> 4]
        expected[record[0] >> 4] += 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("serve")
    (made / "run.toml").write_text(CONFIG)
    for name, messages in (("day.itch50", 1_500), ("long.itch50", 40_000)):
        day = (len(m).to_bytes(2, "big") + m for m in generate(3, ("AAA", "BBB"), messages))
        (made / name).write_bytes(b"".join(day))
    return made


def test_a_day_is_traded_and_nothing_is_left_behind(folder, tmp_path):
    with serve(folder / "day.itch50", *FAST, "--once", "--symbols", 4) as card:
        assert re.fullmatch(
            rf"functional, 4 symbols, 4,194,304 bytes of memory, process {card.process.pid}",
            card.line(),
        )
        assert card.path.exists()
        result = run(
            folder / "run.toml", "--attach", card.name, *PATIENT, "--journal", tmp_path / "j"
        )
        assert result.exit_code == 0, result.stderr
        assert re.fullmatch(rf"host {os.getpid()} attached", card.line())
        assert re.match(rf"host {os.getpid()} detached, 0 orders canceled, ", card.line())
        assert card.line() == "ended"
        assert card.process.wait(_WITHIN_S) == 0
        assert not card.path.exists()
    table, journal = figures(result), records(tmp_path / "j")
    assert table["messages"] == "1,512"
    assert table["messages lost"] == table["stale symbols"] == table["rejects"] == "0"
    types = [record[0] for record in journal]
    assert types.count(RecordType.ACCEPTED) > 2
    assert int(table["orders"]) == types.count(RecordType.NEW)
    check_in_order(journal)
    assert open_orders(journal) == 0


def test_killed_card_is_noticed_named_and_replaced(folder, tmp_path):
    with serve(folder / "long.itch50", *SLOW) as card:
        card.line()
        with host(folder / "run.toml", card.name, tmp_path / "j") as trading:
            assert card.line() == f"host {trading.pid} attached"
            until_trading(tmp_path / "j")
            card.process.kill()
            begin = time.monotonic()
            _, said = trading.communicate(timeout=_WITHIN_S)
            assert time.monotonic() - begin < 10
        text = (
            rf"CARD_DIED: name={card.name}, pid={card.process.pid}, "
            r"silence_ms=(\d+), heartbeats=\d+, open_orders=(\d+)\n"
        )
        found = re.fullmatch(text, said)
        assert found, said
        assert 100 <= int(found[1]) <= 100 + LOOK_MAX_NS // 1_000_000
        assert trading.returncode == 3
        journal = records(tmp_path / "j")
        check_in_order(journal)
        assert len(journal) >= 100
        assert open_orders(journal) == int(found[2])
        assert not [r for r in journal if r[0] == RecordType.MASS_CANCEL]

        card.process.wait()
        assert card.path.exists()
        refused = run(folder / "run.toml", "--attach", card.name)
        assert refused.exit_code == 2
        assert refused.stderr == f"CARD_DEAD: name={card.name}, pid={card.process.pid}\n"
        with serve(folder / "day.itch50", *FAST, "--once", name=card.name) as again:
            assert again.line() == "takes the place of one that was killed"
            assert again.line().startswith("functional, 64 symbols, ")
            result = run(folder / "run.toml", "--attach", card.name, *PATIENT)
            assert result.exit_code == 0, result.stderr
            assert figures(result)["messages"] == "1,512"


def test_card_that_is_told_to_end_says_so(folder, tmp_path):
    with serve(folder / "long.itch50", *SLOW) as card:
        card.line()
        with host(folder / "run.toml", card.name, tmp_path / "j", *PATIENT) as trading:
            assert card.line() == f"host {trading.pid} attached"
            until_trading(tmp_path / "j")
            card.process.terminate()
            _, said = trading.communicate(timeout=_WITHIN_S)
        assert re.fullmatch(
            rf"CARD_ENDED: name={card.name}, pid={card.process.pid}, open_orders=\d+\n", said
        )
        assert trading.returncode == 3
        assert card.line() == "ended"
        assert card.process.wait(_WITHIN_S) == 0
        assert not card.path.exists()


def test_host_that_is_killed_leaves_the_card_to_the_next(folder, tmp_path):
    with serve(folder / "long.itch50", *SLOW) as card:
        card.line()
        with host(folder / "run.toml", card.name, tmp_path / "1", *PATIENT) as first:
            assert card.line() == f"host {first.pid} attached"
            until_trading(tmp_path / "1")
            refused = run(folder / "run.toml", "--attach", card.name)
            assert refused.exit_code == 2
            assert refused.stderr == f"CARD_ATTACHED: name={card.name}, host_pid={first.pid}\n"
            first.kill()
            said = card.line()
        found = re.match(rf"host {first.pid} died: kill switch set, (\d+) orders canceled, ", said)
        assert found, said
        assert int(found[1]) > 0

        with host(folder / "run.toml", card.name, tmp_path / "2", *PATIENT) as second:
            assert card.line() == f"host {second.pid} attached"
            until_trading(tmp_path / "2")
            second.send_signal(signal.SIGINT)
            table, said = second.communicate(timeout=_WITHIN_S)
        assert (second.returncode, said) == (0, "")
        assert int(re.search(r"│ orders +│ +([\d,]+) │", table)[1].replace(",", "")) > 0
        assert card.line().startswith(f"host {second.pid} detached, 0 orders canceled, ")

        result = run(folder / "run.toml", "--attach", card.name, *PATIENT, "--seconds", 0.2)
        assert result.exit_code == 0, result.stderr
        assert figures(result)["stale symbols"] == "0"


def test_what_cannot_be_served_or_attached_to_is_refused_in_one_line(folder):
    def refusal(*arguments):
        result = CliRunner().invoke(app, [str(item) for item in arguments])
        assert (result.exit_code, result.stdout) == (2, "")
        return result.stderr

    config, day = folder / "run.toml", folder / "day.itch50"
    assert refusal("run", config, "--attach", "none.such") == "CARD_NOT_SERVED: name=none.such\n"
    assert "CARD_NAME_WRONG: name='a/b'" in refusal("card", "serve", "a/b", day)
    assert refusal("card", "serve", "x", day, "--symbols", 0) == (
        "--symbols: must be 1 to 65535, not 0\n"
    )
    assert refusal("card", "serve", "x", day, "--speed", 0) == (
        "--speed: must be more than 0, not 0.0\n"
    )
    assert "No such file" in refusal("card", "serve", "x", folder / "none")
    with serve(day, *SLOW, "--memory", 16) as card:
        card.line()
        assert refusal("card", "serve", card.name, day) == (
            f"CARD_NAME_TAKEN: name={card.name}, pid={card.process.pid}\n"
        )
        small = re.fullmatch(
            r"CARD_MEMORY_TOO_SMALL: size=16384, needed=(\d+)\n",
            refusal("run", config, "--attach", card.name, *PATIENT),
        )
        assert int(small[1]) > 16_384
        card.line()
        card.line()
        file = os.open(card.path, os.O_RDWR)
        with Aperture(card.name, file, os.fstat(file).st_size) as place:
            place.set(aperture.HEAD, "version", 9)
        assert refusal("run", config, "--attach", card.name) == (
            f"APERTURE_VERSION_MISMATCH: name={card.name}, version=9, expected=1\n"
        )
