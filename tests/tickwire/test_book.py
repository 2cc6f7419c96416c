"""The best bid and offer of whole files, by golden model and by card, against somebody else's."""

import csv
from decimal import Decimal
from pathlib import Path

import dpkt
import pytest
from typer.testing import CliRunner

from protocol import itch50
from protocol.frames import Address, udp_frame
from protocol.moldudp64 import packet
from sim.venue.flow import generate
from tickwire.cli import app

COLUMNS = [
    "message_number",
    "ts_ns",
    "symbol",
    "bid_price",
    "bid_qty",
    "bid_orders",
    "ask_price",
    "ask_qty",
    "ask_orders",
]
BY = pytest.mark.parametrize("by", ["golden", "functional"])


def write_itch(path, messages):
    path.write_bytes(b"".join(len(m).to_bytes(2, "big") + m for m in messages))
    return path


def book(file, out, *options):
    result = CliRunner().invoke(app, ["book", str(file), "--csv", str(out), *options])
    return result


def rows(out: Path) -> list[list[str]]:
    with out.open(newline="") as file:
        found = list(csv.reader(file))
    assert found[0] == COLUMNS
    return found[1:]


def add(ref, side, shares, price, stock="ABC", locate=7, ts=1000):
    return itch50.ADD_ORDER.pack(
        stock_locate=locate,
        timestamp=ts,
        order_reference_number=ref,
        buy_sell_indicator=side,
        shares=shares,
        stock=stock,
        price=price,
    )


def delete(ref, locate=7, ts=2000):
    return itch50.ORDER_DELETE.pack(stock_locate=locate, timestamp=ts, order_reference_number=ref)


@BY
def test_every_row_of_the_third_party_file_is_reproduced(by, data_dir, tmp_path):
    out = tmp_path / "out.csv"
    name = "aapl_20200130_first4000"
    result = book(data_dir / "itch50" / f"{name}.itch50", out, "--by", by)
    assert result.exit_code == 0
    with (data_dir / "itch50" / f"{name}_bbo.csv").open(newline="") as file:
        theirs = list(csv.DictReader(file))
    assert len(theirs) == 917
    expected = [
        [
            row["msg_index"],
            row["ts_ns_since_midnight"],
            "AAPL",
            row["bid_px_1e4"],
            row["bid_sz"],
            row["bid_orders"],
            row["ask_px_1e4"],
            row["ask_sz"],
            row["ask_orders"],
        ]
        for row in theirs
    ]
    assert rows(out) == expected


def test_card_and_golden_model_agree_on_a_file_cut_out_of_the_day(data_dir, tmp_path):
    file = data_dir / "itch50" / "open_20191230_1000.itch50"
    outs = [tmp_path / "golden.csv", tmp_path / "functional.csv"]
    for out in outs:
        result = book(file, out, "--by", out.stem)
        assert result.exit_code == 0
        assert "UNKNOWN_REFERENCE" in result.stderr
    assert rows(outs[0]) == rows(outs[1])
    assert len(rows(outs[0])) == 384


@pytest.mark.parametrize("seed", range(3))
def test_card_and_golden_model_agree_on_a_made_market(seed, tmp_path):
    file = write_itch(tmp_path / "made.itch50", generate(seed, ["AAA", "BBB"], 3000))
    for by in ("golden", "functional"):
        assert book(file, tmp_path / f"{by}.csv", "--by", by).exit_code == 0
    assert rows(tmp_path / "golden.csv") == rows(tmp_path / "functional.csv")
    assert len(rows(tmp_path / "golden.csv")) > 500


@BY
def test_row_is_written_after_a_change_of_price_or_size_only(by, tmp_path):
    messages = [
        add(1, "B", 100, 10_0000),
        add(2, "B", 50, 9_9900),  # behind the best: no row
        add(3, "S", 70, 10_0200, ts=1500),
        add(4, "B", 30, 10_0000),
        delete(1),
        delete(4),
        delete(3),
    ]
    out = tmp_path / "out.csv"
    assert book(write_itch(tmp_path / "a.itch50", messages), out, "--by", by).exit_code == 0
    assert rows(out) == [
        ["1", "1000", "ABC", "100000", "100", "1", "0", "0", "0"],
        ["3", "1500", "ABC", "100000", "100", "1", "100200", "70", "1"],
        ["4", "1000", "ABC", "100000", "130", "2", "100200", "70", "1"],
        ["5", "2000", "ABC", "100000", "30", "1", "100200", "70", "1"],
        ["6", "2000", "ABC", "99900", "50", "1", "100200", "70", "1"],
        ["7", "2000", "ABC", "99900", "50", "1", "0", "0", "0"],
    ]


@BY
def test_only_the_symbols_asked_for_are_written(by, tmp_path):
    messages = [
        add(n, "B", 100, 10_0000, stock=stock, locate=n)
        for n, stock in enumerate(("AAA", "BBB", "CCC"), start=1)
    ]
    out = tmp_path / "out.csv"
    file = write_itch(tmp_path / "a.itch50", messages)
    result = book(file, out, "--by", by, "--symbol", "AAA", "--symbol", "CCC")
    assert result.exit_code == 0
    assert [(row[0], row[2]) for row in rows(out)] == [("1", "AAA"), ("3", "CCC")]


@BY
def test_rows_before_a_fault_are_kept(by, tmp_path):
    file = write_itch(tmp_path / "a.itch50", [add(1, "B", 100, 10_0000)])
    file.write_bytes(file.read_bytes() + b"\x00\x24A-cut-short")
    result = book(file, tmp_path / "out.csv", "--by", by)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "offset 38: " in result.stderr
    assert [row[0] for row in rows(tmp_path / "out.csv")] == ["1"]


@BY
def test_capture_with_a_gap_numbers_the_messages_that_it_holds(by, data_dir, tmp_path):
    out = tmp_path / "out.csv"
    file = data_dir / "pcap" / "itch50" / "Multiple.Packets.pcap"
    result = book(file, out, "--by", by)
    assert result.exit_code == 0
    assert "GAP 1" in result.stderr
    assert rows(out) == [
        ["2", "34238952381153", "META", "805200", "1", "1", "0", "0", "0"],
        ["3", "34238952381153", "META", "805200", "1", "1", "3573300", "100", "1"],
    ]


def test_card_says_why_it_used_nothing_of_a_capture(data_dir, tmp_path):
    file = data_dir / "pcap" / "itch50_20230822" / "AddOrderNoMPID.pcap"
    result = book(file, tmp_path / "out.csv", "--by", "functional")
    assert result.exit_code == 2
    assert result.stderr.endswith("the card dropped every frame, most for IP_HEADER\n")


@BY
def test_missing_file_is_one_line_and_leaves_no_csv(by, tmp_path):
    result = book(tmp_path / "none.itch50", tmp_path / "out.csv", "--by", by)
    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path}/none.itch50: No such file or directory\n"
    assert not (tmp_path / "out.csv").exists()


@BY
def test_csv_over_the_file_that_is_read_is_refused(by, tmp_path):
    file = write_itch(tmp_path / "a.itch50", [add(1, "B", 100, 10_0000)])
    before = file.read_bytes()
    result = book(file, file, "--by", by)
    assert result.exit_code == 2
    assert result.stderr.endswith("would overwrite what is read\n")
    assert file.read_bytes() == before


def capture(path, *payloads):
    """A capture of UDP datagrams to one group, one a microsecond; or (payload, port) pairs."""
    with path.open("wb") as file:
        writer = dpkt.pcap.Writer(file, nano=True)
        for number, item in enumerate(payloads):
            payload, port = item if isinstance(item, tuple) else (item, 26477)
            group = Address(bytes(6), 0xE9360C6F, port)
            frame = udp_frame(Address(bytes(6), 1, 1), group, payload)
            writer.writepkt(frame, ts=Decimal(1) + number * Decimal("0.000001"))
    return path


@BY
def test_other_traffic_before_the_feed_takes_no_line(by, tmp_path):
    feed = packet("SESSION001", 1, [add(1, "B", 100, 10_0000)])
    file = capture(tmp_path / "a.pcap", (b"\x12\x34 a name server's answer", 53), feed)
    out = tmp_path / "out.csv"
    assert book(file, out, "--by", by).exit_code == 0
    assert [row[0] for row in rows(out)] == ["1"]


@BY
def test_packets_of_another_session_are_not_passed_over_in_silence(by, tmp_path):
    first = packet("SESSION001", 1, [add(1, "B", 100, 10_0000)])
    second = packet("SESSION002", 1, [add(2, "B", 100, 10_0100)])
    result = book(capture(tmp_path / "a.pcap", first, second), tmp_path / "out.csv", "--by", by)
    assert result.exit_code == 2
    assert "1 packets belong to another MoldUDP64 session" in result.stderr


@BY
def test_capture_without_a_feed_is_refused(by, tmp_path):
    file = capture(tmp_path / "a.pcap", (b"nothing", 53))
    result = book(file, tmp_path / "out.csv", "--by", by)
    assert result.exit_code == 2
    assert "no UDP destination in it carries ITCH 5.0 in MoldUDP64" in result.stderr


@BY
def test_burst_of_everything_that_waited_for_a_late_packet_is_written_whole(by, tmp_path):
    changes = [add(n, "B", 1, 10_0000 + 100 * n) for n in range(1, 2401)]
    packets = [packet("SESSION001", 1 + 40 * n, changes[40 * n : 40 * n + 40]) for n in range(60)]
    late = packets.pop(1)
    file = capture(tmp_path / "a.pcap", *packets, late)
    out = tmp_path / "out.csv"
    assert book(file, out, "--by", by).exit_code == 0
    assert [int(row[0]) for row in rows(out)] == list(range(1, 2401))
