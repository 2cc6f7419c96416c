"""Our declarations against code that nobody here wrote: dpkt, Scapy, itchfeed."""

import inspect

import dpkt
import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Dot1Q, Ether

from protocol import ip
from protocol.emit import scapy_layer
from protocol.ethernet import ETHERNET, VLAN_TAG
from protocol.ip import IPV4, checksum, pseudo_header

PAYLOAD = b"odd payload"
SOURCE, DESTINATION = 0xC0A80A14, 0xEFC00105


def test_checksum_of_the_published_example():
    # [RFC 1071: 3] The words sum to ddf2 after the carries are added.
    words = bytes.fromhex("0001 f203 f4f5 f6f7")
    assert checksum(words) == 0xDDF2 ^ 0xFFFF == 0x220D
    assert checksum(words + bytes.fromhex("220d")) == 0


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"", 0xFFFF),
        (b"\x01", 0xFEFF),
        (b"\xff\xff", 0x0000),
        (b"\xff\xff\x00\x01", 0xFFFE),
        (b"\xff\xff" * 70_000, 0x0000),
    ],
)
def test_checksum_at_its_edges(data, result):
    assert checksum(data) == result


def test_checksum_agrees_with_dpkt_on_every_length():
    data = bytes(range(7, 7 + 61))
    for size in range(len(data)):
        assert checksum(data[:size]) == dpkt.in_cksum(data[:size])


def scapy_frame(transport):
    return bytes(
        Ether(src="d4:af:f7:cb:20:d5", dst="01:00:5e:40:01:05")
        / Dot1Q(prio=5, dei=1, vlan=0x123)
        / IP(src="192.168.10.20", dst="239.192.1.5", ttl=17, id=0x1C2D, tos=0xB8, flags="DF")
        / transport
        / PAYLOAD
    )


def test_headers_that_scapy_built_are_read():
    raw = scapy_frame(UDP(sport=54_657, dport=26_477))
    assert ETHERNET.unpack(raw) == {
        "destination": b"\x01\x00\x5e\x40\x01\x05",
        "source": b"\xd4\xaf\xf7\xcb\x20\xd5",
        "ether_type": 0x8100,
    }
    assert VLAN_TAG.unpack(raw, 14) == {
        "tag_control_information": 5 << 13 | 1 << 12 | 0x123,
        "ether_type": 0x0800,
    }
    packet = IPV4.unpack(raw, 18)
    assert checksum(raw[18:38]) == 0
    assert packet | {"header_checksum": 0} == {
        "version_ihl": 0x45,
        "type_of_service": 0xB8,
        "total_length": 20 + 8 + 11,
        "identification": 0x1C2D,
        "flags_fragment": 0x4000,
        "time_to_live": 17,
        "protocol": 17,
        "header_checksum": 0,
        "source": SOURCE,
        "destination": DESTINATION,
    }
    datagram = ip.UDP.unpack(raw, 38)
    assert datagram.pop("checksum") != 0
    assert datagram == {"source_port": 54_657, "destination_port": 26_477, "length": 19}
    assert checksum(pseudo_header(SOURCE, DESTINATION, 17, 19) + raw[38:]) == 0


def test_tcp_header_that_scapy_built_is_read():
    raw = scapy_frame(
        TCP(
            sport=1024, dport=8080, seq=0xA1B2C3D4, ack=0xE5F60718, flags="PA", window=501, urgptr=3
        )
    )
    segment = ip.TCP.unpack(raw, 38)
    assert segment.pop("checksum") != 0
    assert segment == {
        "source_port": 1024,
        "destination_port": 8080,
        "sequence_number": 0xA1B2C3D4,
        "acknowledgment_number": 0xE5F60718,
        "offset_flags": 5 << 12 | ip.TcpFlag.PSH | ip.TcpFlag.ACK,
        "window": 501,
        "urgent_pointer": 3,
    }
    assert checksum(pseudo_header(SOURCE, DESTINATION, 6, 20 + 11) + raw[38:]) == 0


def our_udp_frame():
    values = {"source_port": 54_657, "destination_port": 26_477, "length": 8 + len(PAYLOAD)}
    pseudo = pseudo_header(SOURCE, DESTINATION, 17, 8 + len(PAYLOAD))
    total = checksum(pseudo + ip.UDP.pack(values) + PAYLOAD)
    datagram = ip.UDP.pack(values, checksum=total) + PAYLOAD
    addresses = {"protocol": 17, "source": SOURCE, "destination": DESTINATION}
    header = IPV4.pack(addresses, total_length=20 + len(datagram))
    header = IPV4.pack(addresses, total_length=20 + len(datagram), header_checksum=checksum(header))
    tag = VLAN_TAG.pack(tag_control_information=0xB123, ether_type=0x0800)
    link = ETHERNET.pack(destination=b"\1\0\x5e\x40\1\5", source=b"\2\3\4\5\6\7", ether_type=0x8100)
    return link + tag + header + datagram


def test_headers_that_we_built_are_read_by_dpkt():
    frame = dpkt.ethernet.Ethernet(our_udp_frame())
    assert (frame.dst, frame.src) == (b"\1\0\x5e\x40\1\5", b"\2\3\4\5\6\7")
    (tag,) = frame.vlan_tags
    assert (tag.pri, tag.cfi, tag.id) == (5, 1, 0x123)
    packet = frame.data
    assert (packet.v, packet.hl, packet.len, packet.ttl, packet.p) == (4, 5, 39, 64, 17)
    assert (packet.df, packet.mf, packet.offset) == (1, 0, 0)
    assert int.from_bytes(packet.src + packet.dst, "big") == SOURCE << 32 | DESTINATION
    datagram = packet.data
    assert (datagram.sport, datagram.dport, datagram.ulen) == (54_657, 26_477, 19)
    assert datagram.data == PAYLOAD


def test_checksums_that_we_computed_are_those_of_scapy():
    raw = our_udp_frame()
    packet = Ether(raw)
    del packet[IP].chksum
    del packet[UDP].chksum
    assert bytes(packet) == raw


def test_parts_of_bit_fields_are_those_of_scapy():
    raw = bytes(IP(flags="MF", frag=0x123, ihl=5, src="1.2.3.4", dst="5.6.7.8") / TCP(flags="SA"))
    packet, segment = scapy_layer.layer(IPV4)(raw[:20]), scapy_layer.layer(ip.TCP)(raw[20:])
    assert (packet.version, packet.ihl) == (4, 5)
    assert (packet.dont_fragment, packet.more_fragments, packet.fragment_offset) == (0, 1, 0x123)
    assert (segment.data_offset, segment.flags) == (5, ip.TcpFlag.SYN | ip.TcpFlag.ACK)
    tag = scapy_layer.layer(VLAN_TAG)(bytes(Dot1Q(prio=5, dei=1, vlan=0x123)))
    assert (tag.priority, tag.drop_eligible, tag.vlan_id) == (5, 1, 0x123)


# Names of itchfeed's that differ from the published ones.
ITCHFEED_NAMES = {
    "luld_ref": "luld_reference_price_tier",
    "reason": "reason_code",
    "level1_price": "level_1",
    "level2_price": "level_2",
    "level3_price": "level_3",
    "ipo_release_time": "ipo_quotation_release_time",
    "ipo_release_qualifier": "ipo_quotation_release_qualifier",
    "auction_collar_extention": "auction_collar_extension",
    "cancelled_shares": "canceled_shares",
    "variation_indicator": "price_variation_indicator",
}
ITCHFEED_NAMES_OF = {
    "U": {"order_reference_number": "original_order_reference_number"},
    "Q": {"shares": "cross_shares"},
}


def test_itch_vectors_mean_the_same_to_itchfeed(vectors):
    messages = pytest.importorskip("itch.messages", reason="itchfeed is not installed")
    classes = {
        item.message_type: item
        for item in vars(messages).values()
        if inspect.isclass(item) and hasattr(item, "message_size")
    }
    compared = 0
    for name, vector in vectors.items():
        if not name.startswith("itch50_"):
            continue
        code = chr(vector.raw[0])
        message = classes[code.encode()](vector.raw)
        names = ITCHFEED_NAMES | ITCHFEED_NAMES_OF.get(code, {})
        found = {
            names.get(key, key): value.decode() if isinstance(value, bytes) else value
            for key, value in vars(message).items()
        }
        assert found == {key: vector.values[key] for key in vector.values if key != "message_type"}
        assert message.to_bytes() == vector.raw
        compared += 1
    assert compared == 23
