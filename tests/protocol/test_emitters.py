"""What each emitter does beyond reading a vector."""

import numpy as np
import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from protocol import ip, itch50, ouch50, ring
from protocol.emit import CATALOGUE, amaranth_layout, c_header, numpy_dtype, scapy_layer
from protocol.layout import DecodeError, EncodeError, Field, Kind, Layout, alpha, uint

# No published layout has signed or very long integers, or odd ones in little-endian.
ODD_FIELDS = (
    Field("Offset", 0, 4, Kind.SINT, ""),
    Field("Three", 4, 3, Kind.SINT, ""),
    uint("Wide", 7, 9, ""),
    Field("Wide Signed", 16, 9, Kind.SINT, ""),
    uint("Seven", 25, 7, ""),
)
ODD_BIG = Layout("Odd Big", "test", 32, ODD_FIELDS)
ODD_LITTLE = Layout("Odd Little", "test", 32, ODD_FIELDS, "little")
ODD_VALUES = {
    "offset": -100,
    "three": -3,
    "wide": 0x112233445566778899,
    "wide_signed": -0x112233445566778899,
    "seven": 0x01020304050607,
}
ODD_BIG_RAW = bytes.fromhex("ffffff9c fffffd 112233445566778899 eeddccbbaa99887767 01020304050607")
ODD_LITTLE_RAW = bytes.fromhex(
    "9cffffff fdffff 998877665544332211 67778899aabbccddee 07060504030201"
)


@pytest.fixture(params=["big", "little"])
def odd(request):
    """A layout of odd and signed integers, its bytes and a name for it."""
    pair = {"big": (ODD_BIG, ODD_BIG_RAW), "little": (ODD_LITTLE, ODD_LITTLE_RAW)}
    return pair[request.param]


def test_odd_integers_are_packed(odd):
    layout, raw = odd
    assert layout.pack(ODD_VALUES) == raw


def test_odd_integers_are_read(odd, readers):
    layout, raw = odd
    for name in ("struct", "numpy", "scapy", "markdown"):
        assert readers[name](layout, raw) == ODD_VALUES, name


def test_odd_integers_are_read_in_c(odd, read_with_c, tmp_path):
    layout, raw = odd
    assert read_with_c({"odd": (layout, raw)}, tmp_path) == {"odd": ODD_VALUES}


def test_odd_integers_are_built_by_scapy(odd):
    layout, raw = odd
    assert bytes(scapy_layer.layer(layout)(**ODD_VALUES)) == raw


# Amaranth


class Reader(wiring.Component):
    """Gives every field of a message as a number."""

    def __init__(self, layout):
        self.layout = layout
        shapes = {item.name: amaranth_layout.shape(layout, item.name) for item in layout.fields}
        members = {f"o_{name}": Out(shape) for name, shape in shapes.items()}
        super().__init__({"i": In(amaranth_layout.struct_layout(layout)), **members})

    def elaborate(self, platform):
        m = Module()
        for item in self.layout.fields:
            value = amaranth_layout.host(self.layout, self.i, item.name)
            m.d.comb += getattr(self, f"o_{item.name}").eq(value)
        return m


def simulate(layout, raw):
    """Return every field of ``raw`` as a simulated circuit gives it."""
    dut, found = Reader(layout), {}

    async def testbench(ctx):
        ctx.set(dut.i, amaranth_layout.view(layout, raw))
        for item in layout.fields:
            found[item.name] = ctx.get(getattr(dut, f"o_{item.name}"))

    simulator = Simulator(dut)
    simulator.add_testbench(testbench)
    simulator.run()
    return found


def test_circuit_reads_odd_integers(odd):
    layout, raw = odd
    assert simulate(layout, raw) == ODD_VALUES


@pytest.mark.parametrize("name", ["itch50_add_order", "ouch50_order_accepted", "bbo_record"])
def test_circuit_reads_the_vector(name, vectors):
    layout, vector = CATALOGUE[name], vectors[name]
    for key, value in simulate(layout, vector.raw).items():
        item = layout.by_name[key]
        text = value.to_bytes(item.length, "little")
        read = value if item.is_integer else item.decode(text, layout.byte_order)
        assert read == vector.values[key]


def test_number_has_the_width_and_the_sign_of_its_field(odd):
    layout, raw = odd
    for item in layout.fields:
        found = amaranth_layout.host(layout, raw, item.name).shape()
        assert (found.width, found.signed) == (8 * item.length, item.kind is Kind.SINT)
        assert found == amaranth_layout.shape(layout, item.name)


def test_first_byte_is_in_bits_7_to_0(vectors):
    bits = amaranth_layout.view(itch50.ADD_ORDER, vectors["itch50_add_order"].raw)
    assert bits.as_bits() & 0xFF == ord("A")
    assert bits["message_type"] == ord("A")
    # A big-endian integer lies in the view with its first byte lowest.
    assert bits["price"] == 0x34333231


def test_view_is_taken_of_bytes_an_int_a_value_and_a_view(vectors):
    raw = vectors["itch50_add_order"].raw
    number = int.from_bytes(raw, "little")
    view = amaranth_layout.view(itch50.ADD_ORDER, raw)
    for source in (raw, number, view, Const(number, 288)):
        value = amaranth_layout.host(itch50.ADD_ORDER, source, "shares")
        assert Const.cast(value).value == 0x21222324
        assert len(value) == 32


def test_part_is_cut_from_the_number_and_not_from_the_wire():
    raw = bytes(12) + bytes.fromhex("5018") + bytes(6)
    offset = amaranth_layout.part(ip.TCP, raw, "offset_flags", "data_offset")
    flags = amaranth_layout.part(ip.TCP, raw, "offset_flags", "flags")
    assert (Const.cast(offset).value, len(offset)) == (5, 4)
    assert (Const.cast(flags).value, len(flags)) == (0x18, 8)


def test_part_that_is_not_there_is_refused():
    with pytest.raises(KeyError, match="'priority'"):
        amaranth_layout.part(ip.TCP, bytes(20), "offset_flags", "priority")


def test_wire_extends_a_narrow_value():
    price = amaranth_layout.wire(itch50.ADD_ORDER, Const(0x12, 8), "price")
    assert (Const.cast(price).value, len(price)) == (0x12000000, 32)
    assert Const.cast(amaranth_layout.wire(ring.GAP, 0x12, "message_count")).value == 0x12


def test_wire_refuses_a_wide_value():
    with pytest.raises(ValueError, match="at most") as caught:
        amaranth_layout.wire(itch50.ADD_ORDER, Signal(33), "price")
    assert str(caught.value) == "price must have at most 32 bits, not 33"


@pytest.mark.parametrize("value", [-100, -1, 0, 100, -(2**31)])
def test_wire_keeps_the_sign(value):
    m, target = Module(), Signal(32)
    # No wider than its value, so that the sign has to be extended.
    source = Const(value)
    m.d.comb += target.eq(amaranth_layout.wire(ODD_BIG, source, "offset"))
    found = []

    async def testbench(ctx):
        found.append(ctx.get(target))

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()
    assert found == [int.from_bytes(value.to_bytes(4, "big", signed=True), "little")]


# NumPy


def test_dtype_has_explicit_places():
    dtype = numpy_dtype.dtype(itch50.ADD_ORDER)
    assert dtype.itemsize == 36
    assert dtype.fields is not None
    assert {name: str(place[0]) for name, place in dtype.fields.items()} == {
        "message_type": "|S1",
        "stock_locate": ">u2",
        "tracking_number": ">u2",
        "timestamp": "('u1', (6,))",
        "order_reference_number": ">u8",
        "buy_sell_indicator": "|S1",
        "shares": ">u4",
        "stock": "|S8",
        "price": ">u4",
    }
    assert [place[1] for place in dtype.fields.values()] == [0, 1, 3, 5, 11, 19, 20, 24, 32]


def test_ring_records_are_little_endian():
    dtype = numpy_dtype.dtype(ring.BBO)
    assert (dtype["bid_price"].str, dtype["sequence"].str) == ("<u4", "<u8")
    assert dtype["reserved_54"].str == "|V2"


def test_numbers_of_a_record_are_what_compiled_functions_can_work_on():
    dtype = numpy_dtype.numbers(ring.CANCELED)
    assert dtype.itemsize == 64
    assert dtype["cl_ord_id"] == np.uint32
    assert dtype["ts_venue_ns"] == dtype["sequence"] == np.int64
    assert dtype.fields["canceled_qty"][1] == 24
    assert not any(name.startswith("reserved") for name in dtype.names)
    with pytest.raises(ValueError, match=r"^layout must be little-endian, not Add Order$"):
        numpy_dtype.numbers(itch50.ADD_ORDER)


def test_values_keep_the_shape_of_the_array(vectors):
    raw = vectors["itch50_add_order"].raw
    records = np.frombuffer(raw * 6, numpy_dtype.dtype(itch50.ADD_ORDER)).reshape(2, 3)
    for name, value in (("timestamp", 0xA5A6A7A8A9AA), ("shares", 0x21222324)):
        found = numpy_dtype.values(records, itch50.ADD_ORDER, name)
        assert found.shape == (2, 3)
        assert set(found.ravel().tolist()) == {value}


def test_values_of_an_empty_array_are_empty():
    records = np.zeros(0, numpy_dtype.dtype(ODD_BIG))
    for item in ODD_FIELDS:
        assert numpy_dtype.values(records, ODD_BIG, item.name).shape == (0,)


def test_smallest_and_largest_six_byte_integers():
    layout = Layout("T", "test", 6, (Field("A", 0, 6, Kind.SINT, ""),))
    numbers = [-(2**47), -1, 0, 1, 2**47 - 1]
    raw = b"".join(layout.pack(a=number) for number in numbers)
    records = np.frombuffer(raw, numpy_dtype.dtype(layout))
    assert numpy_dtype.values(records, layout, "a").tolist() == numbers


# Scapy


def test_scapy_fills_what_is_left_out():
    packet = scapy_layer.layer(itch50.ADD_ORDER)(shares=1)
    assert bytes(packet) == b"A" + bytes(18) + b" " + b"\0\0\0\1" + b" " * 8 + bytes(4)
    record = scapy_layer.layer(ring.HEARTBEAT)()
    assert bytes(record) == b"\x36" + bytes(63)
    cancel = scapy_layer.layer(ouch50.CANCEL_ORDER_REQUEST)(user_ref_num=7)
    assert bytes(cancel) == b"X\0\0\0\7\0\0\0\0"


def test_scapy_field_wins_over_a_method_of_the_same_name():
    layer = scapy_layer.layer(ouch50.ORDER_PRIORITY_UPDATE)
    assert layer(display="Y").display == "Y"
    packet = layer()
    packet.display = "N"
    assert bytes(packet)[21:22] == b"N"


def test_scapy_keeps_what_follows_as_payload():
    packet = scapy_layer.layer(itch50.SYSTEM_EVENT)(b"S" + bytes(10) + b"Qtail")
    assert bytes(packet.payload) == b"tail"
    assert packet.event_code == "Q"


def test_scapy_refuses_a_short_message():
    with pytest.raises(DecodeError) as caught:
        scapy_layer.layer(itch50.SYSTEM_EVENT)(b"S" + bytes(6))
    assert str(caught.value) == "timestamp needs 6 bytes, 2 remain"
    assert caught.value.offset == 5


def test_scapy_refuses_a_value_that_does_not_fit():
    with pytest.raises(EncodeError, match=r"stock must fit 8 bytes, not 'TOOLONGNAME'$"):
        bytes(scapy_layer.layer(itch50.ADD_ORDER)(stock="TOOLONGNAME"))


def test_scapy_shows_name_and_fields():
    packet = scapy_layer.layer(itch50.BROKEN_TRADE)(match_number=5)
    assert packet.name == "Broken Trade"
    assert "match_number= 5" in packet.show(dump=True).replace("  ", "")


# C


def test_header_of_a_small_layout():
    layout = Layout(
        "Pair", "test: 1", 4, (uint("Count", 0, 2, ""), alpha("Code", 2, 2, "")), code=0x41
    )
    text = c_header.header([layout], guard="PAIR_H")
    assert text.startswith("#ifndef PAIR_H\n#define PAIR_H\n")
    assert text.endswith("#endif /* PAIR_H */\n")
    assert text.split("#endif\n\n", 1)[1] == (
        "/* Pair [test: 1] */\n"
        "#define TICKWIRE_PAIR_SIZE 4\n"
        "#define TICKWIRE_PAIR_CODE 0x41\n"
        "struct tickwire_pair {\n"
        "    uint8_t count[2];\n"
        "    char code[2];\n"
        "} __attribute__((packed));\n"
        'static_assert(sizeof(struct tickwire_pair) == TICKWIRE_PAIR_SIZE, "pair");\n'
        'static_assert(offsetof(struct tickwire_pair, count) == 0, "pair.count");\n'
        'static_assert(offsetof(struct tickwire_pair, code) == 2, "pair.code");\n'
        "static inline uint16_t tickwire_pair_get_count(const struct tickwire_pair *record)\n"
        "{\n"
        "    const uint64_t value = (uint64_t)record->count[0] << 8\n"
        "        | (uint64_t)record->count[1] << 0;\n"
        "    return (uint16_t)value;\n"
        "}\n\n"
        "#endif /* PAIR_H */\n"
    )


def test_ring_records_have_members_of_their_own_type():
    text = c_header.header({"bbo": ring.BBO})
    for line in ("uint32_t bid_price;", "uint64_t sequence;", "uint8_t reserved_54[2];"):
        assert f"    {line}\n" in text
    assert "_get_" not in text


def test_header_refuses_two_layouts_of_one_name():
    with pytest.raises(ValueError, match="own") as caught:
        c_header.header([itch50.SYSTEM_EVENT, ouch50.SYSTEM_EVENT])
    assert str(caught.value) == "layouts must have names of their own, or be given by name"


def test_enums_carry_the_codes_of_the_ring():
    lines = c_header.enums().splitlines()
    assert "enum tickwire_record_type {" in lines
    assert "    TICKWIRE_RECORD_TYPE_HEARTBEAT = 54," in lines
    assert "    TICKWIRE_DENY_REASON_KILL_SWITCH = 1," in lines


def test_registers_are_constants():
    lines = c_header.registers().splitlines()
    assert "#define TICKWIRE_REGISTER_KILL 0x30u" in lines
    assert "#define TICKWIRE_REGISTER_SYMBOL_LOCATE 0x10008u" in lines
    assert "#define TICKWIRE_REGISTER_SYMBOL_LOCATE_STRIDE 16u" in lines
    assert "#define TICKWIRE_REGISTER_DROPS_COUNT 18u" in lines


def test_command_prints_the_header_of_the_catalogue(capsys):
    assert c_header.main() == 0
    text = capsys.readouterr().out
    assert text.count("\nstruct tickwire_") == 93
    assert "#define TICKWIRE_ITCH50_ADD_ORDER_SIZE 36\n" in text
    assert "#define TICKWIRE_BBO_RECORD_CODE 0x11\n" in text
