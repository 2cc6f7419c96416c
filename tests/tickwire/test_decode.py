"""``tickwire decode`` on sound files: what is printed, in which names and words."""

import json
import os
import signal
import struct
import subprocess
import sys

import pytest

from tickwire import decode as decode_command
from tickwire import transport

SYN, ACK, FIN, RST = 0x02, 0x10, 0x11, 0x04
ADD = (
    b"A" + struct.pack(">HH", 13, 2) + (34_200_000_000_001).to_bytes(6, "big")
    + struct.pack(">Q", 2**64 - 1) + b"B" + struct.pack(">I", 100) + b"A B     "
    + struct.pack(">I", 3_243_300)
)  # fmt: skip
CANCEL = b"X" + struct.pack(">II", 7679601, 0)
ENTER = (
    b"O" + struct.pack(">I", 113) + b"T" + struct.pack(">I", 225) + b"CVLT    "
    + struct.pack(">Q", 630200) + b"0YANNH8FUB8IV      "
)  # fmt: skip
ACCEPTED = (
    b"A" + struct.pack(">QI", 34_200_000_000_002, 113) + b"T" + struct.pack(">I", 225)
    + b"CVLT    " + struct.pack(">Q", 630200) + b"0Y" + struct.pack(">Q", 99)
    + b"ANNLH8FUB8IV      \0\0"
)  # fmt: skip


def test_itch_message_is_printed_as_one_json_object_in_the_order_of_the_wire(build, decode):
    ran = decode(build.itch(build.delete(), ADD), "--json")
    assert ran.lines[1] == (
        '{"message_number": 2, "offset": 21, "protocol": "itch50", "message": "add_order", '
        '"message_type": "A", "stock_locate": 13, "tracking_number": 2, '
        '"timestamp": 34200000000001, "order_reference_number": 18446744073709551615, '
        '"buy_sell_indicator": "B", "shares": 100, "stock": "A B", "price": 3243300}'
    )
    assert (ran.code, ran.err, len(ran.lines)) == (0, "", 2)


def test_itch_message_is_printed_as_one_line_of_text(build, decode):
    ran = decode(build.itch(build.delete(), ADD))
    assert ran.lines == [
        "1 offset=0 itch50 order_delete message_type=D stock_locate=13 tracking_number=0 "
        "timestamp=1 order_reference_number=7",
        "2 offset=21 itch50 add_order message_type=A stock_locate=13 tracking_number=2 "
        "timestamp=34200000000001 order_reference_number=18446744073709551615 "
        'buy_sell_indicator=B shares=100 stock="A B" price=3243300',
    ]


def test_bytes_of_a_message_cannot_garble_a_terminal(build, decode):
    nasty = ADD[:24] + b'\x1b[2J\n"\x7f\x9b' + ADD[32:]
    for options in [(), ("--json",)]:
        ran = decode(build.itch(nasty), *options)
        assert len(ran.lines) == 1
        assert r'"\u001b[2J\n\"\u007f\u009b"' in ran.out
        assert all(" " <= c <= "~" for c in ran.lines[0])


def test_mold_messages_carry_the_header_of_their_packet(build, decode):
    payload = build.mold([build.delete(), ADD], sequence=14764496)
    ran = decode(build.pcap([build.udp(payload)]), "--json")
    context = {
        "packet_number": 1,
        "ts_wire_ns": 1_000_000_001,
        "protocol": "itch50",
        "message": "add_order",
        "session": "000010059B",
        "sequence_number": 14764496,
        "message_count": 2,
        "message_index": 2,
        "message_length": 36,
        "message_type": "A",
    }
    assert [record["message_index"] for record in ran.objects] == [1, 2]
    assert list(ran.objects[1].items())[: len(context)] == list(context.items())


def test_mold_heartbeat_and_end_of_session_are_printed(build, decode):
    packets = [build.mold(sequence=5), build.mold(count=0xFFFF, sequence=5)]
    ran = decode(build.pcap([build.udp(p) for p in packets]))
    assert ran.lines == [
        "1 ts_wire_ns=1000000001 moldudp64 heartbeat session=000010059B sequence_number=5 "
        "message_count=0",
        "2 ts_wire_ns=2000000002 moldudp64 end_of_session session=000010059B sequence_number=5 "
        "message_count=65535",
    ]
    unnamed = decode(build.pcap([build.udp(build.mold(session=bytes(10)))]))
    assert ' session="" ' in unnamed.out


def test_message_without_bytes_keeps_its_place_in_the_packet(build, decode):
    ran = decode(build.pcap([build.udp(build.mold([ADD, b"", ADD]))]), "--json")
    assert [(r["message"], r["message_index"]) for r in ran.objects] == [
        ("add_order", 1),
        ("empty_message", 2),
        ("add_order", 3),
    ]


@pytest.mark.parametrize(
    "more", [{"vlans": (141,)}, {"vlans": (141, 7)}, {"trailer": b"\x55" * 18}]
)
def test_vlan_tags_and_trailers_are_taken_off(build, decode, more):
    ran = decode(build.pcap([build.udp(build.mold([ADD]), **more)]))
    assert (ran.code, len(ran.lines), ran.err) == (0, 1, "")


def test_other_traffic_is_skipped_and_counted_in_one_line(build, decode):
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    dns = build.udp(b"\x12\x34" + bytes(30), port=53)
    http = build.tcp(b"GET / HTTP/1.1\r\n", 1)
    # 'P', 'O' would be a length, 'S' Sequenced Data, 'T' a message of OUCH.
    post = build.tcp(b"POST / HTTP/1.1\r\n", 1, server=True)
    lost = build.tcp(b"not in order", 999)
    fragment = build.udp(build.mold([ADD]), flags_fragment=0x2000)
    icmp = build.ipv4(1, bytes(4), bytes(4), bytes(8))
    handshake = [build.tcp(b"", 0, SYN), build.tcp(b"", 1, ACK)]
    other_dns = build.udp(b"\x12\x34" + bytes(9), port=53)
    frames = [arp, dns, arp, *handshake, http, build.udp(build.mold([ADD])), fragment, icmp]
    frames += [other_dns, post, lost]
    ran = decode(build.pcap([*frames, bytes(9)]))
    assert (ran.code, len(ran.lines)) == (0, 1)
    assert ran.err == (
        "skipped 9 packets: 2 not IPv4, "
        "2 UDP flow 233.54.12.111:53 is not MoldUDP64 (12 bytes follow a header without messages), "
        "1 TCP flow 10.0.0.1:40000 to 10.0.0.2:8003 is not SoupBinTCP "
        "(type 'T' is not in SoupBinTCP 4.00), "
        "1 IPv4 fragment, 1 IPv4 protocol 1, neither UDP nor TCP, "
        "1 TCP flow 10.0.0.2:8003 to 10.0.0.1:40000 is not SoupBinTCP "
        "(Sequenced Data of 20559 bytes is longer than any message), 1 for other reasons\n"
    )


def test_line_about_skipped_packets_stays_short(build, decode):
    noise = [build.udp(b"?", port=port) for port in range(1, 100)]
    ran = decode(build.pcap([*noise, build.udp(build.mold([ADD]))]))
    assert ran.err.endswith(", 93 for other reasons\n")
    assert len(ran.err.splitlines()) == 1


def test_ouch_options_are_printed_by_name(build, decode):
    appendage = b"\x05\x02LIME" + b"\x02\x63\xab" + b"\x05\x07\xff\xff\xff\xfe"
    message = ENTER + struct.pack(">H", len(appendage)) + appendage
    capture = build.pcap([build.tcp(build.soup(b"U", message), 1)])
    (record,) = decode(capture, "--json").objects
    head = {"packet_length": 63, "packet_type": "U", "type": "O", "user_ref_num": 113, "side": "T"}
    assert (record["protocol"], record["message"]) == ("ouch50", "enter_order")
    assert list(record.items())[4:9] == list(head.items())
    assert record["price"] == 630200
    assert record["appendage_length"] == 15
    assert record["appendage"] == {"firm": "LIME", "tag_99": "ab", "peg_offset": -2}
    (line,) = decode(capture).lines
    assert line.endswith(
        "cl_ord_id=H8FUB8IV appendage_length=15 "
        "appendage.firm=LIME appendage.tag_99=ab appendage.peg_offset=-2"
    )


def test_repeated_option_gives_a_list_and_no_options_an_empty_object(build, decode):
    twice = ENTER + b"\0\x0c" + b"\x05\x02LIME" + b"\x05\x02A\0C "
    stream = build.soup(b"U", twice) + build.soup(b"U", ENTER + b"\0\0") + build.soup(b"U", CANCEL)
    capture = build.pcap([build.tcp(stream, 1)])
    first, second, third = decode(capture, "--json").objects
    assert first["appendage"] == {"firm": ["LIME", "A\0C"]}
    assert (second["appendage_length"], second["appendage"]) == (0, {})
    assert "appendage" not in third
    assert decode(capture).lines[0].endswith(r'appendage.firm=LIME appendage.firm="A\u0000C"')
    assert decode(capture).lines[1].endswith("appendage_length=0")


def test_session_packets_are_printed(build, decode):
    client = (
        build.soup(b"L", b"user  password         0         " + b"0".rjust(23)[:13])
        + build.soup(b"R")
        + build.soup(b"O")
    )
    server = (
        build.soup(b"A", b"SESSION".rjust(10) + b"135".rjust(20))
        + build.soup(b"J", b"A")
        + build.soup(b"H")
        + build.soup(b"+", b"hello\t")
        + build.soup(b"Z")
    )
    frames = [build.tcp(client, 1), build.tcp(server, 1, server=True)]
    records = decode(build.pcap(frames), "--json").objects
    assert {record["protocol"] for record in records} == {"soupbintcp"}
    assert [record["message"] for record in records] == [
        *("login_request", "client_heartbeat", "logout_request", "login_accepted"),
        *("login_rejected", "server_heartbeat", "debug", "end_of_session"),
    ]
    assert records[0]["username"] == "user"
    assert (records[3]["session"], records[3]["sequence_number"]) == ("SESSION", 135)
    assert records[4]["reject_reason_code"] == "A"
    assert records[6]["payload"] == "hello\t"


def test_sequenced_data_is_read_as_ouch_where_that_fits(build, decode):
    capture = build.pcap([build.tcp(build.soup(b"S", ACCEPTED), 1, server=True)])
    (record,) = decode(capture, "--json").objects
    assert (record["protocol"], record["message"]) == ("ouch50", "order_accepted")
    assert (record["timestamp"], record["order_state"]) == (34_200_000_000_002, "L")


def test_sequenced_data_is_read_as_a_glimpse_snapshot_where_itch_fits(build, decode):
    end = b"G" + b"14764496".rjust(20)
    stream = build.soup(b"S", ADD) + build.soup(b"S", end)
    first, second = decode(build.pcap([build.tcp(stream, 1, server=True)]), "--json").objects
    assert (first["protocol"], first["message"], first["price"]) == ("itch50", "add_order", 3243300)
    assert (second["protocol"], second["message"]) == ("glimpse", "end_of_snapshot")
    assert (second["packet_length"], second["sequence_number"]) == (22, 14764496)


STREAM = b"".join(
    struct.pack(">H", 10) + b"UX" + struct.pack(">II", number, 0) for number in range(1, 9)
)
A, B, C = STREAM[:31], STREAM[31:70], STREAM[70:]


@pytest.mark.parametrize(
    "segments",
    [
        [(0, A), (31, B), (70, C)],
        [(0, A), (70, C), (31, B)],
        [(0, A), (0, A), (31, B), (31, B), (70, C), (31, B)],
        [(0, A), (20, STREAM[20:50]), (40, STREAM[40:80]), (10, STREAM[10:])],
        [(0, A), (70, C), (70, C), (90, STREAM[90:]), (10, STREAM[10:80])],
        [(n, STREAM[n : n + 1]) for n in range(len(STREAM))],
        [(0, A), (31, b""), (30, b"\0"), (31, B), (70, C)],
    ],
    ids=["in order", "swapped", "repeated", "overlapping", "ahead", "byte by byte", "keepalive"],
)
@pytest.mark.parametrize("start", [1, 2**32 - 50])
def test_tcp_segments_are_put_in_order_once(build, decode, segments, start):
    frames = [build.tcp(data, start + at) for at, data in segments]
    for handshake in ([], [build.tcp(b"", start - 1, SYN)]):
        ran = decode(build.pcap([*handshake, *frames]), "--json")
        assert [record["user_ref_num"] for record in ran.objects] == [*range(1, 9)]
        assert (ran.code, ran.err) == (0, "")


def test_probe_before_the_first_bytes_is_no_gap(build, decode):
    frames = [build.tcp(b"", 999, ACK), build.tcp(b"no port", 77, RST), build.tcp(A, 1000)]
    frames += [build.tcp(b"diagnosis", 1031, RST), build.tcp(STREAM[31:], 1031)]
    ran = decode(build.pcap(frames))
    assert (ran.code, len(ran.lines)) == (0, 8)


def test_what_waited_for_a_gap_does_not_count_when_it_is_filled(build, decode, monkeypatch):
    monkeypatch.setattr(transport, "HELD_BYTES_MAX", 40)
    swapped = [n ^ 1 for n in range(8)]
    frames = [build.tcp(STREAM[12 * n : 12 * n + 12], 1 + 12 * n) for n in swapped]
    ran = decode(build.pcap([build.tcp(b"", 0, SYN), *frames]), "--json")
    assert [r["user_ref_num"] for r in ran.objects] == [*range(1, 9)]


def test_capture_that_begins_inside_a_packet_goes_on_with_the_next_segment(build, decode):
    ran = decode(build.pcap([build.tcp(A[8:24], 9), build.tcp(STREAM[24:], 25)]), "--json")
    assert [record["user_ref_num"] for record in ran.objects] == [3, 4, 5, 6, 7, 8]
    assert ran.err.startswith("skipped 1 packet: 1 TCP flow 10.0.0.1:40000 to 10.0.0.2:8003 is not")
    # Two bytes do not tell what they are; together with a sound packet they make no sense.
    ran = decode(build.pcap([build.tcp(A[22:24], 23), build.tcp(STREAM[24:], 25)]), "--json")
    assert [record["user_ref_num"] for record in ran.objects] == [3, 4, 5, 6, 7, 8]


def test_syn_begins_the_stream_anew(build, decode):
    frames = [
        build.tcp(A, 1),
        build.tcp(b"", 5000, SYN),
        build.tcp(A, 5001),
        build.tcp(b"", 5000, SYN),
        build.tcp(STREAM[31:], 5032),
        build.tcp(b"", 5001 + len(STREAM), FIN),
    ]
    ran = decode(build.pcap(frames), "--json")
    assert [r["user_ref_num"] for r in ran.objects] == [1, 2, *range(1, 9)]
    anew = (
        "skipped 1 packet: 1 TCP flow 10.0.0.1:40000 to 10.0.0.2:8003 begins anew inside a packet"
    )
    assert (ran.code, ran.err) == (0, anew + "\n")
    ran = decode(build.pcap(frames[:2]))
    assert (ran.code, len(ran.lines), ran.err) == (0, 2, anew + "\n")


def test_each_direction_and_connection_is_a_stream_of_its_own(build, decode):
    frames = [
        build.tcp(A, 1),
        build.tcp(build.soup(b"H") + b"\0", 7, server=True),
        build.tcp(B, 32),
        build.tcp(b"\x01H", 11, server=True),
        build.tcp(C, 71),
    ]
    ran = decode(build.pcap(frames), "--json")
    assert [r["message"] for r in ran.objects].count("server_heartbeat") == 2
    assert [r["packet_number"] for r in ran.objects if r["protocol"] == "ouch50"] == [
        *(1, 1, 3, 3, 3, 5, 5, 5)
    ]


def run_command(*arguments: str, **more) -> subprocess.Popen:
    command = [sys.executable, "-m", "tickwire", "decode", *arguments]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True, **more)


def test_reader_that_leaves_early_ends_the_command_quietly(build, tmp_path):
    path = tmp_path / "day.itch50"
    path.write_bytes(build.itch(ADD) * 20_000)
    with run_command(str(path), stdout=subprocess.PIPE) as process:
        assert process.stdout.readline().startswith("1 offset=0 itch50 add_order ")
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full to write to")
def test_full_disk_is_one_line_and_exit_code_1(build, tmp_path):
    path = tmp_path / "day.itch50"
    path.write_bytes(build.itch(ADD))
    with open("/dev/full", "w") as full, run_command(str(path), stdout=full) as process:
        assert process.stderr.read() == "cannot write: No space left on device\n"
        assert process.wait(timeout=60) == 1


def test_interrupt_ends_the_command_with_130_and_keeps_what_was_decoded(build, tmp_path):
    path = tmp_path / "day.itch50"
    path.write_bytes(build.itch(ADD) * 300_000)
    # A parent that ignores interrupts, as a shell does for jobs in the background, hands that on.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        started = run_command(str(path), stdout=subprocess.PIPE)
    finally:
        signal.signal(signal.SIGINT, before)
    with started as process:
        assert process.stdout.readline().startswith("1 offset=0 ")
        process.send_signal(signal.SIGINT)
        rest, complaint = process.communicate(timeout=60)
        assert (process.returncode, complaint) == (130, "")
        assert rest.endswith("\n")


def test_lines_are_written_in_batches_but_all_of_them(build, decode, monkeypatch):
    monkeypatch.setattr(decode_command, "LINES_BUFFERED_MAX", 3)
    assert len(decode(build.itch(*[ADD] * 7)).lines) == 7


def test_session_without_messages_prints_nothing(decode):
    ran = decode(b"\0\0")
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_real_file_is_printed_whole_in_both_forms(data_dir, decode):
    path = data_dir / "itch50/aapl_20200130_first4000.itch50"
    lines, records = decode(path).lines, decode(path, "--json").objects
    assert len(lines) == len(records) == 4000
    assert {record["stock_locate"] for record in records} == {13}
    for line, record in zip(lines, records, strict=True):
        shown = line.split(" ")
        assert (shown[0], shown[1]) == (str(record["message_number"]), f"offset={record['offset']}")
        assert [w.split("=")[0] for w in shown[4:] if "=" in w] == list(record)[4:]
        assert json.dumps(record["timestamp"]) in line
