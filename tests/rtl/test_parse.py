"""The parse stage against the golden model, and what its constructors refuse."""

import gc
import os
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Elaboratable, Fragment, Module, Signal, Value

from hw.rtl.layouts import HINT, MESSAGE, NOTICE, OPERATION, PACKET_END, beat
from hw.rtl.params import CardParams
from hw.rtl.parse.collect import Collector
from hw.rtl.parse.decode import the_place
from hw.rtl.parse.parse import Parse
from protocol import itch50
from sim.tb.runner import run

HERE = Path(__file__).parent
REAL = "itch50/aapl_20200130_first4000.itch50"
TESTS = 14


class Top(Elaboratable):
    """The stage with all inputs in one port and all strobes in another, for a fast bench.

    ``message`` is what its collector tells its decoder.
    """

    def __init__(self, width: int):
        self.parse = Parse(CardParams(width=width))
        parse = self.parse
        self.inputs = Cat(
            *(parse.i.valid, parse.i.payload, parse.packet, parse.time),
            *(parse.i_notice.valid, parse.i_notice.payload),
        )
        self.stimulus = Signal(len(self.inputs))
        self.strobes = Cat(
            *(parse.collector.o.valid, parse.o.valid, parse.o_end.valid, parse.o_hint.valid),
            parse.short_count,
        )
        self.flags = Signal(len(self.strobes))
        self.message = Signal(MESSAGE.size)
        self.operation = Signal(OPERATION.size)
        self.end = Signal(PACKET_END.size)
        self.hint = Signal(HINT.size)

    @property
    def ports(self) -> list[Value]:
        return [self.stimulus, self.flags, self.message, self.operation, self.end, self.hint]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.parse = parse = self.parse
        m.d.comb += [
            self.inputs.eq(self.stimulus),
            self.flags.eq(self.strobes),
            self.message.eq(parse.collector.o.payload),
            self.operation.eq(parse.o.payload),
            self.end.eq(parse.o_end.payload),
            self.hint.eq(parse.o_hint.payload),
        ]
        return m


@pytest.mark.parametrize(("width", "messages"), [(1, 12_000), (8, 50_000)])
def test_messages_become_the_operations_of_the_golden_parser(width, messages, real_data):
    seed = int(os.environ.get("TICKWIRE_SEED", "20200130"))
    print(f"seed {seed}")
    top = Top(width)
    environment = {
        "WIDTH": str(width),
        "SEED": str(seed),
        "MESSAGES": str(messages),
        "REAL": str(real_data / REAL) if real_data else "",
    }
    name = f"parse_w{width}"
    assert run(top, top.ports, name, "bench_parse", HERE, environment) == TESTS


def refusal(error: type[Exception], build, argument) -> str:
    """The text with which a constructor refuses an argument; what it left half made is gone."""
    with pytest.raises(error) as caught:
        build(argument)
    text = str(caught.value)
    del caught
    gc.collect()
    return text


# A constructor that refuses leaves a component behind that is never elaborated.
unused = pytest.mark.filterwarnings("ignore:.*created but never used")


@unused
@pytest.mark.parametrize("width", [0, 2, 3, 16, "8", None])
def test_collector_refuses_other_widths(width):
    assert refusal(ValueError, Collector, width) == f"width must be 1 or 8, not {width!r}"


@unused
@pytest.mark.parametrize("params", [8, None, "8", {"width": 8}])
def test_parse_refuses_what_is_no_card(params):
    text = refusal(TypeError, Parse, params)
    assert text == f"params must be a CardParams, not {params!r}"


def test_signature_is_the_contract():
    parse = Parse(CardParams(width=8))
    Fragment.get(parse, None)
    members = parse.signature.members
    payloads = {
        "i": beat(8),
        "i_notice": NOTICE,
        "o": OPERATION,
        "o_hint": HINT,
        "o_end": PACKET_END,
    }
    for name, payload in payloads.items():
        assert members[name].signature.members["payload"].shape == payload
        assert members[name].signature.always_ready


@pytest.mark.parametrize(
    ("names", "layouts", "text"),
    [
        (
            ("shares", "canceled_shares"),
            (itch50.ADD_ORDER, itch50.ORDER_CANCEL),
            "shares or canceled_shares must have one place in 2 messages, "
            "not [(19, 4), (20, 4)] in 2",
        ),
        (
            ("shares",),
            (itch50.ADD_ORDER, itch50.ORDER_DELETE),
            "shares must have one place in 2 messages, not [(20, 4)] in 1",
        ),
    ],
)
def test_field_without_one_place_in_all_messages_is_no_hint(names, layouts, text):
    with pytest.raises(ValueError) as caught:
        the_place(names, layouts)
    assert str(caught.value) == text


def test_field_with_one_place_in_all_messages_can_be_a_hint():
    layouts = (itch50.ADD_ORDER, itch50.ADD_ORDER_MPID)
    assert the_place(("canceled_shares", "shares"), layouts) == (itch50.ADD_ORDER, "shares")
