"""The readers of ITCH files and packet captures."""

import gzip
import io
import struct
from decimal import Decimal
from pathlib import Path

import dpkt
import pytest

from tickwire.capture import Frame, InputError, file_kind, read_frames, read_itch

USEC, NSEC = 0xA1B2C3D4, 0xA1B23C4D
FRAME = bytes(range(60))


def write(folder: Path, content: bytes, name: str = "input") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


def section(order: str = "<") -> bytes:
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def option(code: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(order + "HH", code, len(value)) + value + bytes(-len(value) % 4)


def interface(*options: bytes, link_type: int = 1, snap: int = 0, order: str = "<") -> bytes:
    return block(1, struct.pack(order + "HHI", link_type, 0, snap) + b"".join(options), order)


def enhanced(ticks: int, number: int = 0, data: bytes = FRAME, order: str = "<") -> bytes:
    fixed = (number, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(6, struct.pack(order + "IIIII", *fixed) + data, order)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("magic", "ts_ns"), [(USEC, 1692711000_123457000), (NSEC, 1692711000_000123457)]
)
def test_pcap_times_are_exact_in_both_units_and_byte_orders(build, tmp_path, order, magic, ts_ns):
    times = [(1692711000, 123457), (4294967295, 999999)]
    content = build.pcap([FRAME, b""], order=order, magic=magic, times=times)
    unit = 1000 if magic == USEC else 1
    assert list(read_frames(write(tmp_path, content))) == [
        Frame(1, 24, ts_ns, FRAME),
        Frame(2, 24 + 16 + 60, 4294967295 * 10**9 + 999999 * unit, b""),
    ]


def test_modified_pcap_has_longer_packet_headers(tmp_path):
    head = struct.pack("<IHHiIII", 0xA1B2CD34, 2, 4, 0, 0, 65535, 1)
    packet = struct.pack("<IIIIIHBB", 5, 6, 60, 60, 0, 0, 0, 0) + FRAME
    frames = list(read_frames(write(tmp_path, head + packet + packet)))
    assert [(f.offset, f.ts_ns, f.data) for f in frames] == [
        (24, 5_000_006_000, FRAME),
        (108, 5_000_006_000, FRAME),
    ]


def test_pcap_of_another_writer_is_read(tmp_path):
    file = io.BytesIO()
    dpkt.pcap.Writer(file, nano=True).writepkt(FRAME, ts=Decimal("1692711000.123456789"))
    (frame,) = read_frames(write(tmp_path, file.getvalue()))
    assert (frame.ts_ns, frame.data) == (1692711000_123456789, FRAME)


def test_pcapng_of_another_writer_is_read(tmp_path):
    file = io.BytesIO()
    ticks = 1692711000_123456
    packet = dpkt.pcapng.EnhancedPacketBlockLE(
        ts_high=ticks >> 32, ts_low=ticks & 0xFFFFFFFF, pkt_data=FRAME, opts=[]
    )
    dpkt.pcapng.Writer(file).writepkt(packet)
    (frame,) = read_frames(write(tmp_path, file.getvalue()))
    assert (frame.ts_ns, frame.data) == (1692711000_123456000, FRAME)


@pytest.mark.parametrize("order", ["<", ">"])
def test_each_pcapng_interface_has_its_own_time_unit(tmp_path, order):
    def tsresol(value: int) -> bytes:
        return option(9, bytes((value,)), order)

    end = option(0, b"", order)
    shift = option(14, struct.pack(order + "q", -2), order)
    content = section(order) + b"".join(
        (
            interface(tsresol(9), end, order=order),
            interface(tsresol(6), end, order=order),
            interface(option(2, b"eth0", order), order=order),
            interface(tsresol(0x80 | 10), shift, end, order=order),
            interface(tsresol(12), order=order),
        )
    )
    ticks = [1692711000_123456789, 1692711000_123457, 1692711000_123458, 5 * 1024 + 1, 1999]
    content += b"".join(enhanced(t, i, order=order) for i, t in enumerate(ticks))
    assert [frame.ts_ns for frame in read_frames(write(tmp_path, content))] == [
        1692711000_123456789,
        1692711000_123457000,
        1692711000_123458000,
        3_000_976_562,
        1,
    ]


def test_pcapng_sections_may_differ_in_byte_order_and_interfaces(tmp_path):
    content = section("<") + interface(option(9, b"\x09")) + enhanced(1)
    content += section(">") + interface(order=">") + enhanced(1, order=">")
    assert [f.ts_ns for f in read_frames(write(tmp_path, content))] == [1, 1000]


def test_unknown_pcapng_blocks_are_skipped(tmp_path):
    statistics, secrets = block(5, bytes(12)), block(0x0A, b"text with an odd length")
    head = section() + statistics + interface() + secrets
    content = head + enhanced(3) + statistics
    assert list(read_frames(write(tmp_path, content))) == [Frame(1, len(head), 3000, FRAME)]


def test_simple_packets_carry_no_time_and_are_cut_to_the_snap_length(tmp_path):
    content = section() + interface(snap=8) + block(3, struct.pack("<I", 60) + FRAME[:8])
    (frame,) = read_frames(write(tmp_path, content))
    assert (frame.ts_ns, frame.data) == (0, FRAME[:8])


def test_obsolete_packet_blocks_are_read(tmp_path):
    body = struct.pack("<HHIIII", 1, 0, 0, 7, 60, 60) + FRAME
    content = section() + interface() + interface(option(9, b"\x09")) + block(2, body)
    (frame,) = read_frames(write(tmp_path, content))
    assert (frame.ts_ns, frame.data) == (7, FRAME)


def test_packet_comments_do_not_disturb(tmp_path):
    fixed = struct.pack("<IIIII", 0, 0, 7, 60, 60) + FRAME + option(1, b"\xff\xfe not UTF-8")
    content = section() + interface() + block(6, fixed)
    assert [f.data for f in read_frames(write(tmp_path, content))] == [FRAME]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (section() + interface(link_type=113) + enhanced(1), "interface 0 has link type 113"),
        (section() + interface() + enhanced(1, number=1), "interface 1 is not described"),
        (section() + enhanced(1), "interface 0 is not described"),
        (section() + interface() + section() + enhanced(1), "interface 0 is not described"),
        (section() + block(1, b""), "its block of 12 bytes is shorter than 20"),
        (section() + interface() + block(6, bytes(16)), "its block of 28 bytes is shorter than 32"),
        (
            section() + interface() + block(6, struct.pack("<IIIII", 0, 0, 0, 61, 61) + FRAME),
            "it claims 61 bytes, its block has 60",
        ),
        (section() + interface(struct.pack("<HH", 9, 4)), "option 9 claims 4 bytes, 0 remain"),
        (section()[:12], "block is cut"),
        (section()[:9], "section header is cut"),
        (section()[:-4] + b"\x20\0\0\0", "block length is 28 before and 32 behind it"),
        (section()[:8] + b"\0\0\0\0" + section()[12:], "section header has no byte-order magic"),
        (section() + b"\x07\0\0\0\x08\0\0\0", "block length cannot be 8"),
        (section() + b"\x07\0\0\0\x0d\0\0\0" + bytes(5), "block length cannot be 13"),
        (section()[:4] + b"\x0c\0\0\0" + section()[8:], "block length cannot be 12"),
        (section() + b"\x07\0\0\0\xfc\xff\xff\xff", "block length cannot be 4294967292"),
        (section() + b"\x07\0\0", "block is cut: 3 bytes remain"),
    ],
)
def test_pcapng_that_makes_no_sense_is_refused(tmp_path, content, message):
    path = write(tmp_path, content)
    with pytest.raises(InputError) as caught:
        list(read_frames(path))
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: offset {caught.value.offset}: ")


def test_frames_before_a_cut_packet_are_yielded(build, tmp_path):
    content = build.pcap([FRAME, FRAME, FRAME])
    frames = read_frames(write(tmp_path, content[:-1]))
    assert [next(frames).number, next(frames).number] == [1, 2]
    with pytest.raises(InputError, match=r"offset 176: packet 3 is cut: 60 bytes .*, 59 remain$"):
        next(frames)


def test_other_link_types_are_refused_by_number(build, tmp_path):
    with pytest.raises(InputError, match=r"link type 113, not Ethernet \(1\)$"):
        list(read_frames(write(tmp_path, build.pcap([FRAME], link_type=113))))


def test_bits_about_the_frame_check_sequence_are_no_link_type(build, tmp_path):
    content = build.pcap([FRAME], link_type=0x2400_0001)
    assert [f.data for f in read_frames(write(tmp_path, content))] == [FRAME]


def test_kind_is_found_by_content(build, tmp_path):
    itch, pcap = build.itch(build.delete()), build.pcap([FRAME])
    contents = [itch, gzip.compress(itch), pcap, gzip.compress(pcap), section(), b"x"]
    kinds = [file_kind(write(tmp_path, content, "any.name")) for content in contents]
    assert kinds == ["itch50", "itch50", "pcap", "pcap", "pcapng", "itch50"]


def test_gzipped_capture_reads_as_the_plain_one(build, tmp_path):
    content = build.pcap([FRAME, FRAME])
    plain = list(read_frames(write(tmp_path, content)))
    assert len(plain) == 2
    assert list(read_frames(write(tmp_path, gzip.compress(content)))) == plain


@pytest.mark.parametrize("end_mark", [b"", b"\0\0"])
def test_itch_messages_have_numbers_and_offsets_with_or_without_end_mark(build, tmp_path, end_mark):
    first, second = build.delete(1), b"S" + bytes(10) + b"O"
    path = write(tmp_path, build.itch(first, second) + end_mark)
    assert [(m.number, m.offset, m.data) for m in read_itch(path)] == [
        (1, 0, first),
        (2, 21, second),
    ]


def test_itch_file_without_bytes_is_no_session(tmp_path):
    with pytest.raises(InputError, match=r"offset 0: the file is empty$"):
        list(read_itch(write(tmp_path, b"")))


def test_gzip_members_follow_one_another_and_may_be_padded(build, tmp_path):
    content = build.itch(*(build.delete(n) for n in range(10_000)))
    half = len(content) // 2 + 5
    path = write(
        tmp_path, gzip.compress(content[:half]) + gzip.compress(content[half:]) + bytes(99_999)
    )
    assert b"".join(build.itch(m.data) for m in read_itch(path)) == content


@pytest.mark.parametrize(("cut", "whole"), [(9, 0), (-9, 2000), (-1, 2000)])
def test_messages_before_the_cut_of_a_gzip_file_are_yielded(build, tmp_path, cut, whole):
    content = build.itch(*(build.delete(n) for n in range(2000)))
    path = write(tmp_path, gzip.compress(content)[:cut])
    seen = []
    with pytest.raises(InputError, match="gzip data is damaged: it ends before its end mark"):
        seen.extend(m.data for m in read_itch(path))
    assert build.itch(*seen) == content[: 21 * whole]


def test_messages_before_damage_in_a_gzip_file_are_yielded(build, tmp_path):
    content = gzip.compress(build.itch(*(build.delete(n) for n in range(10_000))), compresslevel=0)
    # The first block is stored as it is: a byte of type, its length, the length's complement.
    stored = int.from_bytes(content[11:13], "little")
    assert 0 < stored < 200_000
    second = 15 + stored
    damaged = content[: second + 1] + b"\xff\xff\xff\xff" + content[second + 5 :]
    seen = []
    with pytest.raises(InputError, match="gzip data is damaged: Error -3"):
        seen.extend(read_itch(write(tmp_path, damaged)))
    assert len(seen) == stored // 21


def test_what_follows_a_gzip_member_must_be_another(build, tmp_path):
    path = write(tmp_path, gzip.compress(build.itch(build.delete())) + b"\x1f\x8b no member")
    messages = read_itch(path)
    assert next(messages).number == 1
    with pytest.raises(InputError, match="offset 21: gzip data is damaged: Error -3"):
        next(messages)


def test_wrong_checksum_of_a_gzip_file_is_found_after_its_messages(build, tmp_path):
    content = gzip.compress(build.itch(build.delete()))
    path = write(tmp_path, content[:-8] + b"\0\0\0\0" + content[-4:])
    messages = read_itch(path)
    assert next(messages).number == 1
    with pytest.raises(InputError, match=r"gzip data is damaged: .*incorrect data check"):
        next(messages)


def test_bytes_behind_the_end_mark_of_a_gzip_file_are_refused_uncounted(build, tmp_path):
    path = write(tmp_path, gzip.compress(build.itch(build.delete()) + b"\0\0\0"))
    with pytest.raises(InputError, match=r"offset 21: zero length .* but more bytes follow"):
        list(read_itch(path))


def test_error_text_is_one_line_whatever_the_name(tmp_path):
    with pytest.raises(InputError) as caught:
        file_kind(tmp_path / "a\nb\x1b[31m é")
    assert str(caught.value) == f"{tmp_path}/a\\nb\\x1b[31m é: No such file or directory"
    with pytest.raises(InputError, match=r"^a\\x00b: embedded null byte$"):
        file_kind("a\0b")


def test_itch_file_is_no_capture(build, tmp_path):
    with pytest.raises(InputError, match=r"offset 0: not a capture: it begins with 00 13 44 00$"):
        list(read_frames(write(tmp_path, build.itch(build.delete()))))


def test_real_itch_files_are_read_whole(data_dir):
    counts = {path.name: len(list(read_itch(path))) for path in data_dir.glob("itch50/*.itch50")}
    assert counts == {
        "aapl_20200130_first4000.itch50": 4000,
        "directory_20191230_1000.itch50": 1000,
        "open_20191230_1000.itch50": 1000,
    }


def test_real_pcapng_times_are_exact_to_the_nanosecond(data_dir):
    frames = list(read_frames(data_dir / "pcap/ab_feed/Cme.Mdp3.Sbe.v8.1.pcapng"))
    assert len(frames) == 10_000
    assert (frames[0].offset, frames[0].ts_ns) == (84, 0x14784C4D_720ED1F3)
    assert len({frame.ts_ns % 1000 for frame in frames}) > 900
