"""Damaged, cut and foreign files: one clear line, exit code 2, and everything before it kept."""

import gzip
import re
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from tickwire.capture import InputError
from tickwire.decode import CaptureDecoder, itch_records, text_line
from tickwire.transport import HELD_BYTES_MAX

SYN = 0x02
SYSTEM_EVENT = b"S" + bytes(10) + b"O"
CANCEL = b"\0\x0aUX" + struct.pack(">II", 5, 0)


def assert_refused(ran, lines: int, complaint: str) -> None:
    """Assert exit code 2, one line on stderr that begins with the file, and what was kept."""
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 1
    assert re.fullmatch(r"/\S+: " + complaint + r"\n", ran.err), ran.err
    assert len(ran.lines) == lines


@pytest.mark.parametrize(
    ("tail", "complaint"),
    [
        (b"\0", r"offset 35: length prefix needs 2 bytes, 1 remain"),
        (b"\0\x13", r"offset 35: message 3 claims 19 bytes, 0 remain"),
        (b"\0\x13D", r"offset 35: message 3 claims 19 bytes, 1 remain"),
        (b"\0\x13D" + bytes(17), r"offset 35: message 3 claims 19 bytes, 18 remain"),
        (b"\xff\xffD", r"offset 35: message 3 claims 65535 bytes, 1 remain"),
        (b"\0\0\0", "offset 35: zero length prefix ends the session, but 1 bytes follow"),
        (b"\0\0\0\0", "offset 35: zero length prefix ends the session, but 2 bytes follow"),
        (
            b"\0\x05TTabc",
            r"offset 35: message type 'T' of 5 bytes is not ITCH 5.0: no such type",
        ),
        (
            b"\0\x02D ",
            r"offset 35: message type 'D' of 2 bytes is not ITCH 5.0: Order Delete has 19 bytes",
        ),
        (
            b"\0\x14D" + bytes(19),
            r"offset 35: message type 'D' of 20 bytes is not ITCH 5.0: Order Delete has 19 bytes",
        ),
        (b"\0\x01\x1b", r"offset 35: message type 0x1b of 1 bytes is not ITCH 5.0: no such type"),
    ],
)
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_damaged_itch_file_is_refused_after_its_sound_messages(
    build, decode, tail, complaint, options
):
    assert_refused(decode(build.itch(SYSTEM_EVENT, build.delete()) + tail, *options), 2, complaint)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "the file is empty"),
        (gzip.compress(b"", mtime=0), "the file is empty"),
        (b"\x1f\x8b", "offset 0: gzip data is damaged: it ends before its end mark"),
        (b"\x1f\x8bgarbage", "offset 0: gzip data is damaged: Error -3 .*"),
        (b"\n", "offset 0: length prefix needs 2 bytes, 1 remain"),
        (b"Hello, world\n", "offset 0: message 1 claims 18533 bytes, 11 remain"),
        (bytes(1000), "offset 0: zero length prefix ends the session, but 998 bytes follow"),
        (b"\xd4\xc3\xb2\xa1", "offset 0: the file header is cut: 24 bytes expected, 4 remain"),
        (b"\n\r\r\n", r"offset 0: block is cut: 4 bytes remain"),
    ],
)
def test_file_that_is_nothing_of_ours_is_refused(decode, content, complaint):
    assert_refused(decode(content), 0, complaint)


def test_missing_file_folder_and_device_are_refused(decode, tmp_path):
    assert_refused(decode(tmp_path / "none.pcap"), 0, "No such file or directory")
    assert_refused(decode(tmp_path), 0, "is a directory")
    assert_refused(decode(Path("/dev/zero")), 0, "is not a regular file")


def test_gzip_file_cut_after_its_data_keeps_all_messages(build, decode):
    content = gzip.compress(build.itch(build.delete(), SYSTEM_EVENT))[:-1]
    complaint = "offset 35: gzip data is damaged: it ends before its end mark"
    assert_refused(decode(content), 2, complaint)


@pytest.mark.parametrize("kept", [*range(25, 40), 40, 60, 100])
def test_capture_cut_anywhere_in_its_second_packet_keeps_the_first(build, decode, kept):
    frame = build.udp(build.mold([build.delete()]))
    one, content = build.pcap([frame]), build.pcap([frame, frame])
    where = f"offset {len(one)}: packet 2"
    assert_refused(decode(content[: len(one) + kept - 24]), 1, where + r".* is cut: .* remain")


def test_capture_that_claims_an_absurd_packet_is_refused(build, decode):
    frame = build.udp(build.mold([build.delete()]))
    content = build.pcap([frame]) + struct.pack("<IIII", 1, 1, 0xFFFFFFF0, 60) + bytes(60)
    assert_refused(decode(content), 1, r"offset 123: packet 2 claims 4294967280 bytes, .* most")


def test_capture_of_another_link_type_is_refused(build, decode):
    complaint = r"offset 0: the file has link type 276, not Ethernet \(1\)"
    assert_refused(decode(build.pcap([b"x" * 60], link_type=276)), 0, complaint)


def test_capture_without_any_message_is_refused_with_the_first_reason(build, decode):
    arp = bytes(12) + b"\x08\x06" + bytes(46)
    content = build.pcap([arp, build.udp(b"?")])
    assert_refused(decode(content), 0, "offset 24: packet 1: not IPv4")
    assert_refused(decode(build.pcap([])), 0, "the capture holds no packets")
    silent = build.pcap([build.tcp(b"", 1, SYN)])
    assert_refused(decode(silent), 0, "no packet carries a message")


@pytest.mark.parametrize(
    ("at", "value", "layer"),
    [
        (14, 0x55, "IPv4"),
        (14, 0x44, "IPv4"),
        (17, 19, "IPv4"),
        (46, 0x40, "TCP"),
        (46, 0xF0, "TCP"),
    ],
)
def test_packet_with_a_garbled_header_is_skipped(build, decode, at, value, layer):
    garbled = bytearray(build.tcp(CANCEL, 13))
    garbled[at] = value
    ran = decode(build.pcap([build.tcp(CANCEL, 1), bytes(garbled)]))
    assert (ran.code, len(ran.lines)) == (0, 1)
    assert ran.err == f"skipped 1 packet: 1 {layer} with a garbled header\n"


GOOD, CUT = struct.pack(">H", 12) + SYSTEM_EVENT, "packet 2: byte {} of the datagram: "


@pytest.mark.parametrize(
    ("payload", "count", "lines", "complaint"),
    [
        (GOOD + GOOD[:1], 2, 2, CUT.format(34) + "message 2 of 2 is cut: its length"),
        (GOOD + GOOD[:2], 2, 2, CUT.format(34) + "message 2 of 2 is cut: 12 bytes, 0 remain"),
        (GOOD + GOOD[:-1], 2, 2, CUT.format(34) + "message 2 of 2 is cut: 12 bytes, 11 remain"),
        (GOOD, 3, 2, CUT.format(34) + "message 2 of 3 is cut: its length"),
        (b"", 1, 1, CUT.format(20) + "message 1 of 1 is cut: its length"),
        (GOOD + b"??", 1, 2, CUT.format(34) + "2 bytes follow the last message"),
        (b"?", 0, 1, CUT.format(20) + "1 bytes follow a header without messages"),
        (b"?", 0xFFFF, 1, CUT.format(20) + "1 bytes follow a header without messages"),
        (b"\0\x02T?", 1, 1, CUT.format(20) + "message 1 of 1: message type 'T' of 2 bytes .*"),
        (GOOD + b"\0\x01S", 2, 2, CUT.format(34) + "message 2 of 2: message type 'S' of 1 byte.*"),
    ],
)
def test_garbled_datagram_of_a_known_flow_is_refused(
    build, decode, payload, count, lines, complaint
):
    frames = [build.udp(build.mold([build.delete()])), build.udp(build.mold(count=count) + payload)]
    where = f"offset {24 + 16 + len(frames[0])}: "
    assert_refused(decode(build.pcap([*frames, frames[0]])), lines, where + complaint)


@pytest.mark.parametrize(
    ("frame", "lines", "complaint"),
    [
        ({"payload": b"?" * 19}, 1, "byte 0 .*: Downstream Packet needs 20 bytes, 19 remain"),
        ({"payload": b"", "length": 3}, 1, r"byte 0 .*: Down.*, 0 remain \(UDP length is 3\)"),
        (
            {"payload": b"S" * 10 + bytes(9) + b"\1" + GOOD, "length": 43},
            2,
            "byte 34 of the datagram: 34 of the datagram's 35 bytes are there",
        ),
        ({"payload": b"\x1b" * 10 + bytes(10)}, 1, "byte 0 .*: the session is not text"),
    ],
)
def test_datagram_of_a_known_flow_without_a_sound_header_is_refused(
    build, decode, frame, lines, complaint
):
    content = build.pcap([build.udp(build.mold([build.delete()])), build.udp(**frame)])
    assert_refused(decode(content), lines, "offset 123: packet 2: " + complaint)


def test_flow_is_known_from_its_first_sound_message_on(build, decode):
    cut = build.mold([SYSTEM_EVENT, SYSTEM_EVENT])[:-1]
    assert_refused(
        decode(build.pcap([build.udp(cut)])),
        1,
        "offset 24: packet 1: byte 34 of the datagram: message 2 of 2 is cut: .*",
    )
    unknown = r"UDP flow 233.54.12.111:26477 is not MoldUDP64 \(message 1 of 2 is cut: .*\)"
    first_cut = build.pcap([build.udp(cut[:30])])
    assert_refused(decode(first_cut), 0, "offset 24: packet 1: " + unknown)


def test_flow_is_known_from_a_heartbeat_on(build, decode):
    frames = [build.udp(build.mold()), build.udp(build.mold([b"T"]))]
    complaint = "offset 102: packet 2: byte 20 of the datagram: message 1 of 1: .*"
    assert_refused(decode(build.pcap(frames)), 1, complaint)


def test_frame_cut_by_the_snap_length_keeps_its_whole_messages(build, decode):
    frame = build.udp(build.mold([SYSTEM_EVENT] * 3))
    ran = decode(build.pcap([frame[:-14]]))
    assert_refused(ran, 2, "offset 24: packet 1: byte 48 .*: message 3 of 3 is cut: its length .*")


def test_soup_stream_that_ends_inside_a_packet_is_refused(build, decode):
    for end in range(1, len(CANCEL)):
        frames = [build.tcp(CANCEL, 1), build.tcp(CANCEL + CANCEL[:end], 13), build.tcp(b"", 99)]
        where = "offset 106: packet 2: stream ends inside a packet: "
        assert_refused(decode(build.pcap(frames)), 2, where + ".*")
    alone = build.pcap([build.tcp(CANCEL[:-1], 1)])
    complaint = "stream ends inside a packet: Unsequenced Data claims 10 bytes, 9 are there"
    assert_refused(decode(alone), 0, "offset 24: packet 1: " + complaint)


def test_packet_begun_over_several_segments_blames_the_first(build, decode):
    frames = [build.tcp(CANCEL + CANCEL[:4], 1), build.tcp(CANCEL[4:6], 17)]
    assert_refused(decode(build.pcap(frames)), 1, "offset 24: packet 1: stream ends inside .*")
    frames[1] = build.tcp(CANCEL[4:] + CANCEL[:4], 17)
    assert_refused(decode(build.pcap(frames)), 2, "offset 110: packet 2: stream ends inside .*")


def test_of_two_unfinished_streams_the_first_in_the_capture_is_blamed(build, decode):
    frames = [
        build.tcp(CANCEL, 1),
        build.tcp(CANCEL[:4], 1, server=True),
        build.tcp(CANCEL[:5], 13),
    ]
    complaint = "offset 106: packet 2: stream ends inside a packet: .* 2 are there"
    assert_refused(decode(build.pcap(frames)), 1, complaint)


def test_gap_in_a_soup_stream_is_refused_at_the_end(build, decode):
    other = build.tcp(CANCEL, 1, server=True)
    frames = [build.tcp(CANCEL, 1), build.tcp(CANCEL, 20), other, build.tcp(CANCEL, 32)]
    complaint = "offset 106: packet 2: stream 10.0.0.1:40000 to 10.0.0.2:8003 lacks 7 bytes here"
    assert_refused(decode(build.pcap(frames)), 2, complaint)


def test_gap_before_another_connection_is_told(build, decode):
    frames = [build.tcp(CANCEL, 1), build.tcp(CANCEL, 20), build.tcp(b"", 7000, SYN)]
    ran = decode(build.pcap([*frames, build.tcp(CANCEL, 7001)]))
    assert (ran.code, len(ran.lines)) == (0, 2)
    anew = "TCP flow 10.0.0.1:40000 to 10.0.0.2:8003 begins anew after a gap"
    assert ran.err == f"skipped 1 packet: 1 {anew}\n"


def test_segment_cut_by_the_snap_length_is_a_gap(build, decode):
    ran = decode(build.pcap([build.tcp(CANCEL * 2, 1)[:-12]]))
    assert_refused(ran, 1, "offset 24: packet 1: stream .* lacks 12 bytes here")


def test_what_waits_behind_a_gap_is_bounded(build, decode):
    size = 60_000
    count = HELD_BYTES_MAX // size + 2
    frames = [build.tcp(CANCEL, 1)]
    frames += [build.tcp(bytes(size), 14 + n * size) for n in range(count)]
    # Too late: what waited is gone, so filling the gap cannot give a sound stream any more.
    frames += [build.tcp(b"\0", 13)]
    assert_refused(decode(build.pcap(frames)), 1, ".* packet 2: stream .* lacks 1 bytes here")


@pytest.mark.parametrize(
    ("packet", "complaint"),
    [
        (b"\0\0U", "packet length is 0"),
        (b"\0\x01?", r"type '\?' is not in SoupBinTCP 4.00"),
        (b"\0\x02HH", "Server Heartbeat has 1 bytes, not 2"),
        (b"\0\x1eA" + bytes(29), "Login Accepted has 31 bytes, not 30"),
        (b"\0\x1fA" + b"?" * 30, "Login Accepted: sequence_number is not an ASCII number: .*"),
        (b"\0\x01U", "an empty message is not in OUCH 5.0 .*"),
        (b"\0\x03U??", r"type '\?' is not in OUCH 5.0 .*"),
        (b"\0\x09" + CANCEL[2:-1], "Cancel Order Request needs 9 bytes, 8 remain"),
        (b"\0\x02S?", r"type '\?' is not in OUCH 5.0 .*; message type '\?' of 1 bytes .*"),
    ],
)
def test_soup_packet_that_makes_no_sense_is_refused(build, decode, packet, complaint):
    frames = [build.tcp(CANCEL, 1), build.tcp(CANCEL + packet + CANCEL, 13)]
    where = r"offset 106: packet 2: byte \d+ of a SoupBinTCP packet: "
    assert_refused(decode(build.pcap(frames)), 2, where + complaint)


def test_sequenced_data_may_not_change_what_it_carries(build, decode):
    itch, ouch = build.soup(b"S", SYSTEM_EVENT), build.soup(b"S", b"S" + bytes(8) + b"S")
    for stream in (itch + ouch, ouch + itch):
        capture = build.pcap([build.tcp(stream, 1, server=True)])
        assert_refused(decode(capture), 1, "offset 24: packet 1: byte .*")


def test_other_dialects_of_the_real_files_are_refused(data_dir, decode, build):
    cme = data_dir / "pcap/ab_feed/Cme.Mdp3.Sbe.v8.1.pcapng"
    complaint = r"offset 84: packet 1: UDP flow 224.0.31.11:14320 is not MoldUDP64 \(.*\)"
    assert_refused(decode(cme), 0, complaint)
    zeros = data_dir / "malformed/artificial_zero_prefix.itch50"
    complaint = "offset 0: zero length prefix ends the session, but 465046 bytes follow"
    assert_refused(decode(zeros), 0, complaint)
    genium = (data_dir / "malformed/genium_moldudp64_truncated.bin").read_bytes()
    complaint = (
        r"offset 24: packet 1: UDP flow .* is not MoldUDP64 \(message 1 of 15: "
        r"message type 'T' of 5 bytes is not ITCH 5.0: no such type\)"
    )
    assert_refused(decode(build.pcap([build.udp(genium[:1400])])), 0, complaint)


def complaint_about(records) -> str:
    try:
        for record in records:
            line = text_line(record)
            assert line.isascii()
            assert line.isprintable()
    except InputError as error:
        return str(error)
    return "none"


def survives(content: bytes) -> None:
    """Read bytes as the command does: records, then at most an :class:`InputError`."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        for records in (itch_records(file.name), CaptureDecoder(file.name).records()):
            complaint = complaint_about(records)
            note(complaint)
            assert len(complaint.splitlines()) == 1


FUZZ = settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
MAGICS = [b"", b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\n\r\r\n", b"\x1f\x8b\x08", b"\0\x13D"]


@FUZZ
@given(st.sampled_from(MAGICS), st.binary(max_size=300))
def test_arbitrary_bytes_never_break_the_readers(magic, content):
    survives(magic + content)


EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 3), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def mutate(content: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
    """Overwrite, cut out, insert or cut off at places given as shares of the size."""
    for place, kind, new in edits:
        at = int(place * len(content))
        tails = (content[at + len(new) :], content[at + len(new) + 1 :], content[at:], b"")
        content = content[:at] + (b"" if kind == 1 else new) + tails[kind]
    return content


@FUZZ
@given(st.integers(0, 5), EDITS, st.booleans())
def test_damaged_files_never_break_the_readers(build, which, edits, late):
    login = build.soup(b"L", b"user  password         0" + b"0".rjust(22))
    tcp = [build.tcp(login, 1), build.tcp(CANCEL * 2, 50), build.tcp(CANCEL, 62)]
    udp = [build.udp(build.mold([SYSTEM_EVENT, build.delete()]), vlans=(1,))] * 3
    packets = [struct.pack("<IIIII", 0, 0, 9, len(f), len(f)) + f + bytes(-len(f) % 4) for f in tcp]
    blocks = [b"M<+\x1a\1\0\0\0" + b"\xff" * 8, b"\1\0\0\0\0\0\0\0", *packets]
    kinds = [0x0A0D0D0A, 1, 6, 6, 6]
    pcapng = b"".join(
        struct.pack("<II", kind, len(body) + 12) + body + struct.pack("<I", len(body) + 12)
        for kind, body in zip(kinds, blocks, strict=True)
    )
    itch = build.itch(SYSTEM_EVENT, build.delete(), SYSTEM_EVENT)
    sound = [itch, gzip.compress(itch), build.pcap(udp), build.pcap(tcp), pcapng, build.pcap(udp)]
    head = 24 if late and which in (2, 3, 5) else 0
    survives(sound[which][:head] + mutate(sound[which][head:], edits))


@FUZZ
@given(st.data())
def test_damaged_real_files_never_break_the_readers(data_dir, data):
    paths = sorted(p for p in data_dir.rglob("*") if p.suffix in (".pcap", ".itch50", ".pcapng"))
    content = data.draw(st.sampled_from(paths)).read_bytes()[:20_000]
    survives(mutate(content, data.draw(EDITS)))
