"""The main job, end to end: it trades, it repeats byte for byte, and bad input is one line."""

import os
import re
import tomllib
from pathlib import Path

import dpkt
import pytest
from typer.testing import CliRunner

from protocol import itch50, ring
from protocol.reasons import DenyReason
from protocol.ring import RecordType
from sim.venue.flow import generate
from sw.journal import read_journal
from tickwire.cli import app

DEMO = Path(__file__).resolve().parents[2] / "docs" / "demo.toml"

CONFIG = """
[feed]
file = "day.itch50"
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


def run(config: Path, *options):
    return CliRunner().invoke(app, ["run", str(config), *map(str, options)])


def write(path: Path, text: str, messages: int = 4000, symbols=("AAA", "BBB")) -> Path:
    """Write a configuration, and beside it the day that it names."""
    path.write_text(text)
    day = (len(m).to_bytes(2, "big") + m for m in generate(3, symbols, messages))
    (path.parent / "day.itch50").write_bytes(b"".join(day))
    return path


def figures(result) -> dict[str, str]:
    """The closing table as name and value."""
    found = re.findall(r"│ (.+?) +│ +(.+?) │", result.stdout)
    return dict(found)


def records(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(read_journal(file))


def count(journal: list[bytes], record_type: RecordType) -> int:
    return sum(1 for record in journal if record[0] == record_type)


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    config = write(folder / "run.toml", CONFIG)
    result = run(config, "--seed", 3, "--journal", folder / "j", "--report", folder / "r.html")
    return result, folder


def test_run_trades_and_its_table_agrees_with_its_journal(made_run):
    result, folder = made_run
    assert result.exit_code == 0, result.stderr
    table, journal = figures(result), records(folder / "j")
    assert table["messages"] == "4,012"
    assert int(table["fills"]) == count(journal, RecordType.EXECUTED) > 5
    assert int(table["orders"]) == count(journal, RecordType.NEW) > 2
    assert int(table["replaces"].replace(",", "")) == count(journal, RecordType.REPLACE)
    assert table["rejects"] == "0"
    assert table["stale symbols"] == "0"


def test_cash_and_position_of_the_journal_give_the_profit_of_the_table(made_run):
    result, folder = made_run
    orders, cash, position, mid_2 = {}, 0, {}, {}
    for record in records(folder / "j"):
        values = ring.RECORDS.by_code[record[0]].unpack(record)
        if record[0] in (RecordType.NEW, RecordType.REPLACE):
            sign = 1 if values["side"] == ord("B") else -1
            orders[values["cl_ord_id"]] = (values["symbol_index"], sign)
        elif record[0] == RecordType.EXECUTED:
            index, sign = orders[values["cl_ord_id"]]
            position[index] = position.get(index, 0) + sign * values["last_qty"]
            cash -= sign * values["last_qty"] * values["last_price"]
        elif record[0] == RecordType.BBO and values["bid_price"] and values["ask_price"]:
            mid_2[values["symbol_index"]] = values["bid_price"] + values["ask_price"]
    profit = (2 * cash + sum(q * mid_2[i] for i, q in position.items())) / 20_000
    assert figures(result)["P&L, marked to mid"] == f"{profit:,.2f} USD"


def test_no_position_ever_passes_the_inventory_limit(made_run):
    _, folder = made_run
    orders, position = {}, {}
    for record in records(folder / "j"):
        values = ring.RECORDS.by_code[record[0]].unpack(record)
        if record[0] in (RecordType.NEW, RecordType.REPLACE):
            sign = 1 if values["side"] == ord("B") else -1
            orders[values["cl_ord_id"]] = (values["symbol_index"], sign)
        elif record[0] == RecordType.EXECUTED:
            index, sign = orders[values["cl_ord_id"]]
            position[index] = position.get(index, 0) + sign * values["last_qty"]
            assert abs(position[index]) <= 300


def test_two_runs_with_one_seed_give_one_journal_and_another_seed_another(made_run, tmp_path):
    _, folder = made_run
    config = write(tmp_path / "run.toml", CONFIG)
    for seed in (3, 4):
        again = run(
            config, "--seed", seed, "--journal", tmp_path / f"{seed}", "--report", tmp_path / "r"
        )
        assert again.exit_code == 0
    assert (tmp_path / "3").read_bytes() == (folder / "j").read_bytes()
    assert (tmp_path / "4").read_bytes() != (folder / "j").read_bytes()


def test_records_of_each_ring_stand_in_order_without_a_hole(made_run):
    _, folder = made_run
    expected = {1: 1, 2: 1, 3: 1}
    for record in records(folder / "j"):
        which = record[0] >> 4
        assert int.from_bytes(record[56:], "little") == expected[which]
        expected[which] += 1
    assert min(expected.values()) > 10


def test_report_is_one_page_with_plots_for_each_symbol_and_loads_nothing(made_run):
    _, folder = made_run
    page = (folder / "r.html").read_text()
    assert page.count("<svg") == 2
    for text in ("we bought", "inventory, shares", "P&amp;L to mid, USD", "P&amp;L, marked to mid"):
        assert text in page
    assert not re.search(r"(src|href)=\"(?!#)", page)


def test_real_file_is_traded_twice_with_equal_journals(data_dir, tmp_path):
    real = data_dir / "itch50" / "aapl_20200130_first4000.itch50"
    text = CONFIG.replace("day.itch50", str(real)).replace("1_000_000_000", "10_000_000_000")
    config = write(tmp_path / "aapl.toml", text)
    tables = []
    for name in ("a", "b"):
        result = run(config, "--seed", 1, "--journal", tmp_path / name)
        assert result.exit_code == 0, result.stderr
        tables.append(figures(result))
    assert tables[0] == tables[1]
    assert tables[0]["messages"] == "4,000"
    assert int(tables[0]["fills"]) > 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_closed_limits_deny_every_order_and_nothing_leaves(tmp_path):
    text = CONFIG.split("[risk]")[0] + "[risk]\n"
    result = run(write(tmp_path / "run.toml", text), "--journal", tmp_path / "j")
    assert result.exit_code == 0
    table = figures(result)
    assert table["orders"] == table["fills"] == "0"
    assert int(table[f"denied: {DenyReason.UNKNOWN_SYMBOL.name}"].replace(",", "")) > 10
    assert count(records(tmp_path / "j"), RecordType.SENT) == 1  # the mass cancel at the end


def test_line_b_fills_what_line_a_loses(tmp_path):
    text = CONFIG.replace("[quoting]", "loss_ppm = [200_000, 0]\n[quoting]")
    result = run(write(tmp_path / "run.toml", text, messages=2000))
    assert figures(result)["messages lost"] == "0"
    assert figures(result)["stale symbols"] == "0"


def test_what_both_lines_lose_is_asked_for_again_and_quoting_goes_on(tmp_path):
    text = CONFIG.replace("[quoting]", "loss_ppm = [100_000, 100_000]\n[quoting]")
    result = run(write(tmp_path / "run.toml", text, messages=2000), "--journal", tmp_path / "j")
    assert result.exit_code == 0
    table, journal = figures(result), records(tmp_path / "j")
    assert table["stale symbols"] == "0"
    assert int(table["messages lost"]) > 0
    repaired = [r for r in journal if r[0] == RecordType.REPAIR and r[1] == ring.RepairFlag.LIVE]
    assert int(table["books repaired"]) == len(repaired) >= 4
    assert int(table["re-requests"]) >= 2
    last_gap = max(i for i, r in enumerate(journal) if r[0] == RecordType.GAP)
    assert count(journal[last_gap:], RecordType.NEW) > 0


def test_without_recovery_loss_on_both_lines_makes_symbols_stale_and_ends_quoting(tmp_path):
    text = CONFIG.replace("[quoting]", "loss_ppm = [100_000, 100_000]\n[quoting]")
    text += "[recovery]\nenabled = false\n"
    result = run(write(tmp_path / "run.toml", text, messages=2000), "--journal", tmp_path / "j")
    assert result.exit_code == 0
    assert figures(result)["stale symbols"] == "2"
    assert int(figures(result)["messages lost"]) > 0
    journal = records(tmp_path / "j")
    first_gap = next(i for i, r in enumerate(journal) if r[0] == RecordType.GAP)
    assert count(journal[first_gap:], RecordType.NEW) == 0


def test_capture_has_all_that_was_on_the_wire_in_both_directions(tmp_path):
    text = CONFIG.replace("[quoting]", "loss_ppm = [50_000, 50_000]\n[quoting]")
    config, path = write(tmp_path / "run.toml", text, messages=3000), tmp_path / "run.pcapng"
    result = run(config, "--capture", path, "--journal", tmp_path / "j")
    assert result.exit_code == 0
    journal, table = records(tmp_path / "j"), figures(result)
    with path.open("rb") as file:
        frames = list(dpkt.pcapng.Reader(file))
    times = [round(time * 1e9) for time, _ in frames]
    assert times == sorted(times)
    sent, came, feeds, asked, answered = [], [], {26477: set(), 26478: set()}, 0, 0
    for _, frame in frames:
        ip = dpkt.ethernet.Ethernet(frame).data
        data = bytes(ip.data.data)
        if isinstance(ip.data, dpkt.tcp.TCP):
            (sent if ip.data.sport == 40_000 else came).append(data)
        elif ip.data.dport == 26478:
            asked += 1
        else:
            answered += ip.data.sport == 26478
            feeds[ip.data.sport].add(int.from_bytes(data[10:18], "big"))
    orders = [data for data in sent if data[2:4] in (b"UO", b"UU")]
    assert len(orders) == int(table["orders"]) + int(table["replaces"])
    assert sum(data[2:4] == b"SE" for data in came) == int(table["fills"].replace(",", ""))
    assert count(journal, RecordType.NEW) > 0
    assert asked == answered == int(table["re-requests"]) > 0
    gaps = [ring.GAP.unpack(record) for record in journal if record[0] == RecordType.GAP]
    assert not feeds[26477] & {gap["first_sequence"] for gap in gaps}
    assert feeds[26478] & {gap["first_sequence"] for gap in gaps}


def test_capture_of_an_attached_card_is_refused(tmp_path):
    config = write(tmp_path / "run.toml", CONFIG)
    result = run(config, "--attach", "nobody", "--capture", tmp_path / "x.pcapng")
    assert result.exit_code == 2
    assert result.stderr == (
        f"{tmp_path / 'x.pcapng'}: the wire of an attached card is another process's\n"
    )


def test_data_with_a_fault_is_played_up_to_it(tmp_path):
    config = write(tmp_path / "run.toml", CONFIG, messages=3000)
    data = tmp_path / "day.itch50"
    whole = data.stat().st_size
    data.write_bytes(data.read_bytes() + b"\x00\x24A")
    result = run(config, "--journal", tmp_path / "j")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert f"offset {whole}: " in result.stderr
    assert figures(result)["messages"] == "3,012"
    assert len(records(tmp_path / "j")) > 100


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("half_spread = 50", 'half_spread = "x"'), "Expected `int`, got `str` - at "),
        (("half_spread = 50", "half_spred = 100"), "unknown field `half_spred`"),
        (("order_qty = 100", "order_qty = 0"), "Expected `int` >= 1 - at `$.quoting.order_qty`"),
        (("order_qty = 100", "order_qty = 1.5"), "Expected `int`, got `float`"),
        (("[quoting]", "[quoting"), "(at line 4, column 9)"),
        (("[quoting]", 'symbols = ["AAA", "AAA"]\n[quoting]'), "names a symbol twice"),
        (("[quoting]", 'symbols = ["AAAAAAAAA"]\n[quoting]'), "length <= 8"),
        (("[quoting]", 'symbols = ["CCC"]\n[quoting]'), "run.toml: no message names CCC"),
        (('file = "day.itch50"', ""), "missing required field `file`"),
        (("day.itch50", "none.itch50"), "none.itch50: No such file or directory"),
        (("day.itch50", "run.toml"), "run.toml: offset 0: "),
        (("[risk]", "[rings]\nmarket = 1000\n[risk]"), "market must be a power of two, not 1000"),
    ],
)
def test_bad_configuration_is_one_line_with_what_and_where(change, reason, tmp_path):
    text = CONFIG.replace(*change)
    assert text != CONFIG
    result = run(write(tmp_path / "run.toml", text))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(str(tmp_path))
    assert reason in result.stderr


def test_missing_configuration_is_one_line(tmp_path):
    result = run(tmp_path / "none.toml")
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path}/none.toml: No such file or directory\n"


def test_demo_configuration_shows_what_the_card_and_the_host_check():
    demo = tomllib.loads(DEMO.read_text())
    assert set(demo["risk"]) == {
        "qty_max",
        "notional_max",
        "position_max",
        "price_band_bp",
        "tick_size",
        "locate_qty",
        "phases",
        "gross_max",
        "net_max",
        "rate_burst",
        "rate_interval_ns",
    }


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("a tiny execution ring", ("[risk]", "[rings]\nexecution = 4\n[risk]")),
        (
            "a host slower than its heartbeat",
            ("[risk]", "[latency]\nhost_ns = 4_000_000_000\n[risk]"),
        ),
        ("orders larger than the venue takes", ("order_qty = 100", "order_qty = 1_000_000")),
    ],
)
def test_run_ends_though_every_order_is_refused(name, change, tmp_path):
    text = CONFIG.replace(*change).replace("rate_interval_ns = 1_000", "rate_interval_ns = 1")
    text = text.replace("rate_burst = 100", "rate_burst = 4_000_000_000")
    text = text.replace("\nqty_max = 1_000", "\nqty_max = 1_000_000")
    text = text.replace("inventory_max = 300", "inventory_max = 4_000_000_000")
    text = text.replace("position_max = 1_000", "position_max = 2_000_000_000")
    text = text.replace("= 1_000_000_000\n", "= 4_000_000_000_000_000\n")
    result = run(write(tmp_path / "run.toml", text, messages=1000))
    assert result.exit_code == 0, name
    assert int(figures(result)["denials"].replace(",", "")) < 3000


def test_no_command_reaches_the_card_before_the_host_s_latency_is_over(made_run):
    _, folder = made_run
    made, least = {}, []
    for record in records(folder / "j"):
        values = ring.RECORDS.by_code[record[0]].unpack(record)
        if record[0] in ring.ORDER_COMMANDS:
            made[values["sequence"]] = values["ts_host_ns"]
        elif record[0] == RecordType.SENT:
            least.append(values["ts_card_ns"] - made[values["command_sequence"]])
    assert min(least[:-1]) == 2_000  # The last is the mass cancel, which does not wait.


def test_our_own_quotes_never_meet(made_run):
    _, folder = made_run
    reasons = [
        ring.CANCELED.unpack(record)["reason"]
        for record in records(folder / "j")
        if record[0] == RecordType.CANCELED
    ]
    assert ord("Q") not in reasons


@pytest.mark.parametrize("symbol_count", [1100])
def test_all_symbols_of_a_large_day_find_room_in_the_rings(symbol_count, tmp_path):
    stocks = [f"S{n}" for n in range(symbol_count)]
    config = write(tmp_path / "run.toml", CONFIG, messages=10, symbols=stocks)
    assert run(config).exit_code == 0
    config.write_text(CONFIG.replace("[risk]", "[rings]\ncommand = 1024\n[risk]"))
    result = run(config)
    assert result.exit_code == 2
    assert result.stderr == f"{config}: rings.command must be 1104 or more for 1100 symbols\n"


def test_symbol_and_side_that_no_specification_knows_are_survived(tmp_path):
    add = itch50.ADD_ORDER.pack(
        stock_locate=1,
        timestamp=1,
        order_reference_number=1,
        buy_sell_indicator="Z",
        shares=1,
        stock="\xc4[/b]",
        price=1,
    )
    config = write(tmp_path / "run.toml", CONFIG)
    (tmp_path / "day.itch50").write_bytes(len(add).to_bytes(2, "big") + add)
    result = run(config)
    assert result.exit_code == 0
    assert figures(result)["stale symbols"] == "1"


@pytest.mark.parametrize("output", ["--journal", "--report"])
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("day.itch50", "would overwrite what is read"),
        ("run.toml", "would overwrite what is read"),
        (".", "is not a regular file"),
        ("fifo", "is not a regular file"),
        ("day.itch50/x", "cannot be written: "),
    ],
)
def test_output_that_can_not_be_right_is_refused_before_anything_is_done(
    output, target, reason, tmp_path
):
    config = write(tmp_path / "run.toml", CONFIG, messages=10)
    os.mkfifo(tmp_path / "fifo")
    before = (tmp_path / "day.itch50").read_bytes()
    result = run(config, output, tmp_path / target)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert reason in result.stderr
    assert (tmp_path / "day.itch50").read_bytes() == before


def test_configuration_nested_without_end_is_one_line(tmp_path):
    result = run(write(tmp_path / "run.toml", "a = " + "[" * 5000))
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
