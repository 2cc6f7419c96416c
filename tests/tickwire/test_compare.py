"""The host engine on the card's RTL and on the functional card: every record is the same."""

import re

import pytest
from typer.testing import CliRunner

from sim.card.port import Port
from sim.venue.flow import generate
from tickwire import compare as compare_command
from tickwire.cards import CardKind, make_functional
from tickwire.cli import app

CONFIG = """
[feed]
file = "day.itch50"
loss_ppm = {loss}
[quoting]
half_spread = 50
order_qty = 100
inventory_max = 300
[risk]
qty_max = 1_000
notional_max = 10_000_000_000
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
SEEDS = 20


def compare(config, *options):
    return CliRunner().invoke(app, ["compare", str(config), *map(str, options)])


def write(folder, seed, loss="[50_000, 0]", messages=400):
    """Write a configuration and a day in which messages come closely."""
    config = folder / "run.toml"
    config.write_text(CONFIG.format(loss=loss))
    day = b""
    for number, message in enumerate(generate(seed, ("AAA", "BBB"), messages)):
        at = 34_200_000_000_000 + 100_000 * number
        message = message[:5] + at.to_bytes(6, "big") + message[11:]
        day += len(message).to_bytes(2, "big") + message
    (folder / "day.itch50").write_bytes(day)
    return config


def table(result):
    """Return each seed's figures: records, orders, replaces, cancels, fills, profit, repairs."""
    rows = re.findall(r"^│ +(\d+)((?: +│ +[-\d,]+)+) │$", result.stdout, re.MULTILINE)
    return {
        int(seed): [int(cell.replace(",", "")) for cell in re.findall(r"[-\d,]+", cells)]
        for seed, cells in rows
    }


@pytest.mark.parametrize("first", range(1, SEEDS, 5))
def test_both_cards_tell_the_host_the_same(tmp_path, first):
    orders = fills = replaces = repairs = 0
    for seed in range(first, first + 5):
        loss = "[200_000, 200_000]" if seed % 4 == 0 else "[50_000, 0]"
        result = compare(write(tmp_path, seed, loss), "--seed", seed)
        assert result.exit_code == 0, result.stdout + result.stderr
        ((got, row),) = table(result).items()
        assert got == seed
        orders, replaces, fills = orders + row[1], replaces + row[2], fills + row[4]
        repairs += row[6]
    print(f"{orders} orders, {replaces} replaces, {fills} fills, {repairs} answers to repairs")
    assert min(orders, replaces, fills) > 5
    assert repairs > 20


def test_both_cards_tell_the_host_the_same_of_a_real_morning(tmp_path, data_dir):
    config = tmp_path / "run.toml"
    real = data_dir / "itch50" / "aapl_20200130_first4000.itch50"
    config.write_text(CONFIG.format(loss="[50_000, 0]").replace("day.itch50", str(real)))
    result = compare(config)
    assert result.exit_code == 0, result.stdout + result.stderr
    records, orders, replaces, _, fills, *_ = table(result)[1]
    assert records > 10_000
    assert min(orders, replaces, fills) > 50


def test_first_difference_is_told_with_the_cycles_to_look_at(tmp_path, monkeypatch):
    """A functional card that loses a packet on both lines tells of another book."""

    def deaf(*arguments):
        card = make_functional(*arguments)
        frames = {Port.FEED_A: 0, Port.FEED_B: 0, Port.ORDER: -1_000_000}
        receive = card.receive

        def deaf_receive(port, frame, now_ns):
            frames[port] += 1
            if frames[port] != 60:
                receive(port, frame, now_ns)

        monkeypatch.setattr(card, "receive", deaf_receive)
        return card

    monkeypatch.setitem(compare_command._CARDS, CardKind.FUNCTIONAL, deaf)
    result = compare(write(tmp_path, 3, "[0, 0]"), "--seed", 3)
    assert result.exit_code == 1
    found = re.search(
        r"record (\d+) differs, at 09:30:00\.\d{9}:\n"
        r"  functional  (.+)\n  verilated   (.+)\n"
        r"  the verilated card told it in its cycles ([\d,]+) to ([\d,]+)\n",
        result.stdout,
    )
    assert found, result.stdout
    assert found[2] != found[3]
    begin, end = (int(found[at].replace(",", "")) for at in (4, 5))
    assert begin < end < begin + 5_000
