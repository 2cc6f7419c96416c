"""Market data out: which messages share a packet, and what a packet looks like on either line."""

import pytest

from protocol import itch50
from sim.golden.moldudp64 import parse_packet
from sim.golden.wire import parse_frame
from sim.venue import flow
from sim.venue.publisher import Packet, message_time_ns, publish


def delete(ref: int, ts_ns: int) -> bytes:
    return itch50.ORDER_DELETE.pack(
        stock_locate=1, tracking_number=0, timestamp=ts_ns, order_reference_number=ref
    )


def numbers(packets: list[Packet]) -> list[tuple[int, int, list[int]]]:
    """Return time, first sequence number and order references of each packet."""
    return [
        (
            packet.ts_ns,
            parse_packet(parse_frame(packet.frame_a).payload).sequence_number,
            [int.from_bytes(message[11:19], "big") for message in packet.messages],
        )
        for packet in packets
    ]


def test_message_s_time_is_read_from_its_six_bytes():
    assert message_time_ns(delete(1, 0x0102_0304_0506)) == 0x0102_0304_0506


def test_messages_of_one_time_share_a_packet_and_numbers_go_on():
    messages = [delete(1, 5), delete(2, 5), delete(3, 6), delete(4, 9), delete(5, 9)]
    assert numbers(list(publish(messages, "DAY"))) == [(5, 1, [1, 2]), (6, 3, [3]), (9, 4, [4, 5])]


def test_time_that_runs_backwards_does_not_move_the_clock_back():
    messages = [delete(1, 8), delete(2, 5), delete(3, 8), delete(4, 9)]
    assert numbers(list(publish(messages, "DAY"))) == [(8, 1, [1, 2, 3]), (9, 4, [4])]


def test_packet_is_full_at_1472_bytes_of_payload():
    # 20 bytes of header and 21 for each delete: 69 fit, at 1,469 bytes.
    packets = list(publish([delete(n, 5) for n in range(140)], "DAY"))
    assert [len(packet.messages) for packet in packets] == [69, 69, 2]
    assert [sequence for _, sequence, _ in numbers(packets)] == [1, 70, 139]
    assert len(parse_frame(packets[0].frame_a).payload) == 1_469
    # 44 bytes fill it to the last byte: 33 of them and 20 of header are 1,472.
    exact = list(publish([bytes(5) + bytes(37) for _ in range(34)], "DAY"))
    assert [len(packet.messages) for packet in exact] == [33, 1]
    assert len(parse_frame(exact[0].frame_a).payload) == 1_472


def test_both_lines_carry_the_same_payload_to_their_own_group():
    (packet,) = publish([delete(1, 5)], "DAY")
    line_a, line_b = parse_frame(packet.frame_a), parse_frame(packet.frame_b)
    assert line_a.payload == line_b.payload
    assert line_a.payload[:10] == b"DAY       "
    assert line_a.destination_ip == 0xE936_0C6F  # 233.54.12.111.
    assert line_b.destination_ip == 0xE937_0C6F  # 233.55.12.111.
    assert line_a.destination_port == line_b.destination_port == 26_477
    assert packet.frame_a[:6] == bytes.fromhex("01005e360c6f")
    assert packet.frame_b[:6] == bytes.fromhex("01005e370c6f")


def test_no_messages_give_no_packets():
    assert list(publish([], "DAY")) == []


def test_what_stood_before_a_fault_is_still_published():
    def broken():
        yield delete(1, 5)
        yield delete(2, 5)
        raise ValueError("cut short")

    found = []
    with pytest.raises(ValueError, match=r"^cut short$"):
        found.extend(publish(broken(), "DAY"))
    assert numbers(found) == [(5, 1, [1, 2])]


def test_generated_day_comes_out_whole_and_in_order():
    messages = list(flow.generate(3, ("AAPL", "MSFT"), 2_000))
    packets = list(publish(messages, "DAY"))
    assert [message for packet in packets for message in packet.messages] == messages
    expected = 1
    for packet in packets:
        found = parse_packet(parse_frame(packet.frame_b).payload)
        assert found.sequence_number == expected
        assert list(found.messages) == packet.messages
        assert {message_time_ns(message) for message in packet.messages} == {packet.ts_ns}
        expected += len(packet.messages)
