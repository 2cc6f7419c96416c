"""The main job on the card's RTL: the host is told what the functional card tells it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from protocol import ring
from protocol.ring import RecordType
from sim.venue.flow import generate
from sw.journal import read_journal
from tickwire.cli import app

CONFIG = """
[feed]
file = "day.itch50"
loss_ppm = [50_000, 0]
[quoting]
half_spread = 50
order_qty = 100
inventory_max = 300
[risk]
qty_max = 1_000
notional_max = 1_000_000_000
position_max = 1_000
price_band_bp = 500
tick_size = 100
locate_qty = 1_000
phases = ["unknown", "regular"]
gross_max = 1_000_000_000_000_000
net_max = 1_000_000_000_000_000
rate_burst = 100
rate_interval_ns = 1_000
"""
TICK_TO_EVENT_NS = 64
"""10 cycles of 6.4 ns."""
HOST_NS = 1_000
"""What the host takes by default, which is in ``tick_to_trade``."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder: Path = tmp_path_factory.mktemp("run")
    (folder / "run.toml").write_text(CONFIG)
    messages = enumerate(generate(3, ("AAA", "BBB"), 400))
    day = b"".join(len(m).to_bytes(2, "big") + soon(m, number) for number, m in messages)
    (folder / "day.itch50").write_bytes(day)
    found = {}
    for card in ("functional", "verilated"):
        options = ("--card", card, "--journal", str(folder / card))
        result = CliRunner().invoke(app, ["run", str(folder / "run.toml"), *options])
        assert result.exit_code == 0, result.stderr
        with (folder / card).open("rb") as file:
            found[card] = result.stdout, list(read_journal(file))
    return found


def soon(message, number):
    """Give a message another time, so that the day has no hours in which nothing happens."""
    at = 34_200_000_000_000 + 100_000 * number
    return message[:5] + at.to_bytes(6, "big") + message[11:]


def untimed(journal, types):
    """Records of some types as fields, without the card's time."""
    layouts = ring.RECORDS.by_code
    found = [layouts[record[0]].unpack(record) for record in journal if record[0] in types]
    return [{k: v for k, v in fields.items() if k != "ts_card_ns"} for fields in found]


def test_market_records_are_the_same_one_by_one(runs):
    market = {layout.code for layout in ring.MARKET.layouts}
    functional, verilated = (untimed(runs[card][1], market) for card in ("functional", "verilated"))
    differing = next(
        (pair for pair in zip(functional, verilated, strict=False) if pair[0] != pair[1]), None
    )
    assert differing is None
    assert len(functional) == len(verilated) > 100
    assert {fields["record_type"] for fields in functional} >= {RecordType.BBO, RecordType.TRADE}


def test_orders_leave_and_their_answers_come_back(runs):
    _, journal = runs["verilated"]
    types = [record[0] for record in journal]
    assert types.count(RecordType.SENT) > 2
    assert types.count(RecordType.ACCEPTED) > 2


def test_card_tells_its_latencies(runs):
    table, _ = runs["verilated"]
    (line,) = [line for line in table.splitlines() if "latency tick_to_event" in line]
    assert f" {TICK_TO_EVENT_NS} / " in line
    least = {}
    for name in ("tick_to_trade", "wire_to_wire"):
        (line,) = [line for line in table.splitlines() if f"latency {name}" in line]
        least[name] = int(line.split("│")[2].split("/")[0].replace(",", ""))
    assert least["tick_to_trade"] >= HOST_NS
    # Of a frame at least headers and a delete come before the message's last byte, at most 1,522
    # bytes; both MACs take 2 and 3 cycles.
    in_frame = [cycles * 6.4 for cycles in (83 // 8 + 5, 1_522 // 8 + 5)]
    assert in_frame[0] - 2 <= least["wire_to_wire"] - least["tick_to_trade"] <= in_frame[1]
    assert "latency" not in runs["functional"][0]
