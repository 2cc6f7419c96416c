"""Frames packed by hand from the header tables, and production frames."""

import struct
from pathlib import Path

import pytest

from protocol.reasons import DropReason
from sim.golden.wire import Datagram, Drop, parse_frame

MAC_ADDRESSES = bytes.fromhex("01005e360c6f d4aff7cb20d5")
SOURCE_IP = bytes([192, 168, 0, 1])
DESTINATION_IP = bytes([233, 54, 12, 111])


def checksum(data: bytes) -> int:
    """The internet checksum by its arithmetic: minus the sum of the words, modulo 65535."""
    data += b"\x00" * (len(data) % 2)
    words = struct.unpack(f">{len(data) // 2}H", data)
    return 0xFFFF - sum(words) % 0xFFFF


def udp(payload: bytes, length: int | None = None, check: int | None = None) -> bytes:
    length = 8 + len(payload) if length is None else length
    header = struct.pack(">HHH", 50169, 26477, length)
    pseudo = SOURCE_IP + DESTINATION_IP + struct.pack(">BBH", 0, 17, length)
    made = checksum(pseudo + header + b"\x00\x00" + payload)
    return header + struct.pack(">H", made if check is None else check) + payload


def ipv4(
    payload: bytes,
    version: int = 4,
    options: bytes = b"",
    total_length: int | None = None,
    fragment: int = 0x4000,
    protocol: int = 17,
    check: int | None = None,
    ihl: int | None = None,
) -> bytes:
    ihl = 5 + len(options) // 4 if ihl is None else ihl
    total = 20 + len(options) + len(payload) if total_length is None else total_length
    start = struct.pack(">BBHHHBB", version << 4 | ihl, 0, total, 7, fragment, 64, protocol)
    end = SOURCE_IP + DESTINATION_IP + options
    made = checksum(start + b"\x00\x00" + end)
    return start + struct.pack(">H", made if check is None else check) + end + payload


def ethernet(payload: bytes, tag: bytes = b"", ether_type: int = 0x0800) -> bytes:
    return MAC_ADDRESSES + tag + struct.pack(">H", ether_type) + payload


def reason(frame: bytes, **options: bool) -> DropReason:
    result = parse_frame(frame, **options)
    assert isinstance(result, Drop), result
    return result.reason


def test_every_field_of_a_datagram_is_returned() -> None:
    assert parse_frame(ethernet(ipv4(udp(b"hello")))) == Datagram(
        vlan_id=None,
        source_ip=0xC0A80001,
        destination_ip=0xE9360C6F,
        source_port=50169,
        destination_port=26477,
        payload=b"hello",
    )


def test_published_header_example_passes_its_checksum() -> None:
    # A much-quoted example header with checksum b861: 115 bytes, 192.168.0.1 to 192.168.0.199.
    header = bytes.fromhex("4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7")
    datagram = struct.pack(">HHHH", 1, 2, 95, 0) + bytes(87)
    result = parse_frame(ethernet(header + datagram))
    assert isinstance(result, Datagram)
    assert (result.destination_ip, result.payload) == (0xC0A800C7, bytes(87))
    wrong = header.replace(b"\xb8\x61", b"\xb8\x62")
    assert reason(ethernet(wrong + datagram)) == DropReason.IP_HEADER


def test_vlan_tag_is_skipped_and_its_identifier_kept_without_the_priority() -> None:
    result = parse_frame(ethernet(ipv4(udp(b"x")), tag=bytes.fromhex("8100 e064")))
    assert isinstance(result, Datagram)
    assert (result.vlan_id, result.payload) == (100, b"x")


def test_ip_options_are_skipped() -> None:
    result = parse_frame(ethernet(ipv4(udp(b"x"), options=b"\x94\x04\x00\x00" * 10)))
    assert isinstance(result, Datagram)
    assert result.payload == b"x"


def test_padding_and_trailer_after_the_ip_total_length_are_ignored() -> None:
    result = parse_frame(ethernet(ipv4(udp(b"x"))) + b"\xee" * 30)
    assert isinstance(result, Datagram)
    assert result.payload == b"x"


def test_bytes_after_the_udp_length_are_ignored() -> None:
    datagram = udp(b"abc")
    result = parse_frame(ethernet(ipv4(datagram + b"\xee\xee")))
    assert isinstance(result, Datagram)
    assert result.payload == b"abc"


def test_empty_datagram_has_an_empty_payload() -> None:
    result = parse_frame(ethernet(ipv4(udp(b""))))
    assert isinstance(result, Datagram)
    assert result.payload == b""


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(b"", DropReason.FRAME_TOO_SHORT, id="empty"),
        pytest.param(MAC_ADDRESSES + b"\x08", DropReason.FRAME_TOO_SHORT, id="cut ethernet"),
        pytest.param(
            MAC_ADDRESSES + bytes.fromhex("8100 0064 08"),
            DropReason.FRAME_TOO_SHORT,
            id="cut vlan tag",
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x"))[:19]), DropReason.FRAME_TOO_SHORT, id="cut ip header"
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x"), version=6)[:19]),
            DropReason.FRAME_TOO_SHORT,
            id="cut ip header of another version",
        ),
        pytest.param(
            ethernet(ipv4(b"", options=bytes(8))[:27]),
            DropReason.FRAME_TOO_SHORT,
            id="cut ip options",
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x"))[:27]), DropReason.FRAME_TOO_SHORT, id="cut udp header"
        ),
        pytest.param(
            ethernet(ipv4(b"", total_length=20)),
            DropReason.FRAME_TOO_SHORT,
            id="no room for the udp header that the protocol announces",
        ),
        pytest.param(ethernet(b"", ether_type=0x0806), DropReason.NOT_IPV4, id="arp"),
        pytest.param(
            ethernet(ipv4(udp(b"x")), ether_type=0x86DD), DropReason.NOT_IPV4, id="ether type 6"
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x")), tag=bytes.fromhex("8100 0064 8100 0065")),
            DropReason.NOT_IPV4,
            id="two vlan tags",
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x")), tag=bytes.fromhex("88a8 0064")),
            DropReason.NOT_IPV4,
            id="service tag",
        ),
        pytest.param(ethernet(ipv4(udp(b"x"), version=6)), DropReason.IP_HEADER, id="version 6"),
        pytest.param(ethernet(ipv4(udp(b"x"), ihl=4)), DropReason.IP_HEADER, id="ihl 4"),
        pytest.param(
            ethernet(ipv4(udp(b"x"), total_length=19)), DropReason.IP_HEADER, id="total below ihl"
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x"), total_length=30)),
            DropReason.IP_HEADER,
            id="total beyond the frame",
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x"), check=0x1234)), DropReason.IP_HEADER, id="ip checksum"
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x"), fragment=0x2000)),
            DropReason.IP_FRAGMENT,
            id="first fragment",
        ),
        pytest.param(
            ethernet(ipv4(b"1234", fragment=0x0001)), DropReason.IP_FRAGMENT, id="last fragment"
        ),
        pytest.param(
            ethernet(ipv4(b"1234", fragment=0x0001, protocol=6)),
            DropReason.IP_FRAGMENT,
            id="fragment of tcp",
        ),
        pytest.param(ethernet(ipv4(udp(b"x"), protocol=6)), DropReason.NOT_UDP, id="tcp"),
        pytest.param(ethernet(ipv4(b"123", protocol=1)), DropReason.NOT_UDP, id="short icmp"),
        pytest.param(
            ethernet(ipv4(b"1234567") + bytes(20)), DropReason.UDP_LENGTH, id="7 bytes of udp"
        ),
        pytest.param(ethernet(ipv4(udp(b"x", length=7))), DropReason.UDP_LENGTH, id="udp length 7"),
        pytest.param(
            ethernet(ipv4(udp(b"x", length=10)) + bytes(20)),
            DropReason.UDP_LENGTH,
            id="udp length beyond ip, inside the padding",
        ),
        pytest.param(
            ethernet(ipv4(udp(b"x", check=0x1234))), DropReason.UDP_CHECKSUM, id="udp checksum"
        ),
    ],
)
def test_frame_that_is_not_used_names_its_reason(frame: bytes, expected: DropReason) -> None:
    assert reason(frame) == expected


def test_header_length_below_20_is_wrong_without_checksums_too() -> None:
    assert reason(ethernet(ipv4(udp(b"x"), ihl=4)), checksums=False) == DropReason.IP_HEADER


def test_several_reasons_give_the_lowest_code() -> None:
    fragment_of_tcp_with_wrong_sum = ipv4(b"1234", fragment=0x2000, protocol=6, check=1)
    assert reason(ethernet(fragment_of_tcp_with_wrong_sum)) == DropReason.IP_HEADER
    assert reason(ethernet(ipv4(udp(b"x", length=7, check=1)))) == DropReason.UDP_LENGTH
    assert reason(ethernet(ipv4(udp(b"x"), check=1)[:27])) == DropReason.FRAME_TOO_SHORT


def test_reserved_flag_and_dont_fragment_make_no_fragment() -> None:
    assert isinstance(parse_frame(ethernet(ipv4(udp(b"x"), fragment=0xC000))), Datagram)


def test_udp_checksum_of_zero_means_that_none_was_made() -> None:
    assert isinstance(parse_frame(ethernet(ipv4(udp(b"x", check=0)))), Datagram)


def test_udp_checksum_covers_the_addresses() -> None:
    wrong_address = ipv4(udp(b"x")).replace(DESTINATION_IP, bytes([233, 54, 12, 112]))
    assert reason(ethernet(wrong_address), checksums=True) == DropReason.IP_HEADER
    start = ipv4(udp(b"x"))
    moved = start[:10] + struct.pack(
        ">H", checksum(start[:10] + start[12:16] + b"\x0a\x00\x00\x01")
    )
    moved += start[12:16] + b"\x0a\x00\x00\x01" + start[20:]
    assert reason(ethernet(moved)) == DropReason.UDP_CHECKSUM


def test_a_flipped_bit_anywhere_in_the_packet_is_noticed() -> None:
    packet = ipv4(udp(b"abcde"))
    for bit in range(len(packet) * 8):
        flipped = (int.from_bytes(packet, "big") ^ 1 << bit).to_bytes(len(packet), "big")
        assert isinstance(parse_frame(ethernet(flipped)), Drop), f"bit {bit}"


@pytest.mark.parametrize(
    ("ip_check", "udp_check", "options", "dropped"),
    [
        (1, None, {"check_udp_checksum": False}, DropReason.IP_HEADER),
        (None, 1, {"check_udp_checksum": False}, None),
        (None, 1, {"checksums": False}, None),
        (0, 1, {"checksums": False}, None),
        (0, 0, {"checksums": False, "check_udp_checksum": True}, None),
    ],
)
def test_checksum_options_switch_off_what_they_name(
    ip_check: int | None, udp_check: int | None, options: dict[str, bool], dropped: DropReason
) -> None:
    frame = ethernet(ipv4(udp(b"x", check=udp_check), check=ip_check))
    result = parse_frame(frame, **options)
    assert (result.reason if isinstance(result, Drop) else None) == dropped


def test_detail_is_one_line_with_the_numbers() -> None:
    assert parse_frame(ethernet(ipv4(udp(b"x", length=10)) + bytes(20))) == Drop(
        DropReason.UDP_LENGTH, "length=10, available=9"
    )


def test_scapy_frames_parse_to_the_same_fields() -> None:
    layers = pytest.importorskip("scapy.layers.inet")
    l2 = pytest.importorskip("scapy.layers.l2")
    for size in range(0, 67):
        payload = bytes((size * 31 + i * 7) % 256 for i in range(size))
        frame = bytes(
            l2.Ether(dst="01:00:5e:36:0c:6f", src="d4:af:f7:cb:20:d5")
            / l2.Dot1Q(vlan=141)
            / layers.IP(src="206.200.127.138", dst="233.54.12.111")
            / layers.UDP(sport=49653, dport=26477)
            / payload
        )
        assert parse_frame(frame) == Datagram(141, 0xCEC87F8A, 0xE9360C6F, 49653, 26477, payload), (
            f"size {size}"
        )


def read_frames(path: Path) -> list[bytes]:
    dpkt = pytest.importorskip("dpkt")
    with path.open("rb") as file:
        return [frame for _, frame in dpkt.pcap.Reader(file)]


def test_production_frames_parse_with_checksums_verified(data_dir: Path) -> None:
    paths = sorted((data_dir / "pcap" / "itch50").glob("*.pcap"))
    frames = [frame for path in paths for frame in read_frames(path)]
    assert len(frames) == 9
    for frame in frames:
        datagram = parse_frame(frame)
        assert isinstance(datagram, Datagram), datagram
        assert datagram.vlan_id == 141
        assert datagram.destination_ip == 0xE9360C6F
        assert datagram.destination_port == 26477
        assert datagram.payload[:10] == b"000010059B"


def test_anonymised_frames_parse_with_checksums_off_only(data_dir: Path) -> None:
    paths = sorted((data_dir / "pcap" / "itch50_20230822").glob("*.pcap"))
    frames = [frame for path in paths for frame in read_frames(path)]
    assert len(frames) == 71
    for frame in frames:
        assert reason(frame) == DropReason.IP_HEADER
        datagram = parse_frame(frame, checksums=False)
        assert isinstance(datagram, Datagram), datagram
        assert (datagram.vlan_id, datagram.source_ip, datagram.destination_port) == (141, 0, 0)
