"""The arbiter of lines A and B: cocotb bench against the golden model, refused parameters."""

import os
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value

from hw.rtl.layouts import NOTICE, PACKET, TIME, beat
from hw.rtl.params import CardParams
from hw.rtl.wire.arbiter import Arbiter
from hw.rtl.wire.buffer import LineBuffer
from hw.rtl.wire.judge import claims_none
from sim.tb.runner import run

HERE = Path(__file__).parent
LAG_NS = 16
TESTS = 20


class Top(Elaboratable):
    """The arbiter with all inputs in one port and all strobes in another, for a fast bench.

    Beats of line A are ``LAG_NS`` old when they come, those of line B one less.
    """

    def __init__(self, arbiter: Arbiter):
        self.arbiter = arbiter
        config = (arbiter.session, arbiter.sequence, arbiter.gap_timeout_ns)
        lines = (
            Cat(i.valid, i.payload, header, end.valid, end.payload)
            for i, header, end in zip(arbiter.i, arbiter.header, arbiter.end, strict=True)
        )
        self.inputs = Cat(
            *lines,
            *(arbiter.i_end.valid, arbiter.i_end.payload),
            arbiter.now,
            *(arbiter.start_stb, *config),
        )
        self.stimulus = Signal(len(self.inputs))
        self.strobes = Cat(
            *(arbiter.o.valid, arbiter.o_notice.valid, *arbiter.drop_stb),
            arbiter.end_of_session_stb,
            *(Cat(reason)[:5] for reason in arbiter.drop_reason),
        )
        self.flags = Signal(len(self.strobes))
        self.outputs = {
            "beat": (Signal(beat(arbiter.params.width).size, name="beat"), arbiter.o.payload),
            "packet": (Signal(PACKET.size, name="packet"), arbiter.o_packet),
            "time": (Signal(TIME, name="time"), arbiter.o_time),
            "notice": (Signal(NOTICE.size, name="notice"), arbiter.o_notice.payload),
            "next_sequence": (Signal(64, name="next_sequence"), arbiter.next_sequence),
            "lost_count": (Signal(64, name="lost_count"), arbiter.lost_count),
            "held_max": (Signal(len(arbiter.held_max), name="held_max"), arbiter.held_max),
        }

    @property
    def ports(self) -> list[Value]:
        return [self.stimulus, self.flags, *(port for port, _ in self.outputs.values())]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = self.arbiter
        m.d.comb += [self.inputs.eq(self.stimulus), self.flags.eq(self.strobes)]
        m.d.comb += [port.eq(value) for port, value in self.outputs.values()]
        m.d.comb += [time.eq(arbiter.now - LAG_NS + k) for k, time in enumerate(arbiter.time)]
        m.d.comb += [
            continues.eq(
                (header.session == arbiter.position.session)
                & (header.sequence == arbiter.position.sequence)
                & ~claims_none(header.message_count)
            )
            for continues, header in zip(arbiter.continues, arbiter.header, strict=True)
        ]
        return m


@pytest.mark.parametrize(
    ("width", "cut_through", "buffer_beats", "answer_cycles", "packets"),
    [
        (8, True, 2_048, 3, 4_000),
        (8, False, 1_024, 1, 2_000),
        (1, True, 8_192, 3, 400),
        (1, False, 8_192, 6, 200),
    ],
)
def test_lines_become_the_golden_sequence(width, cut_through, buffer_beats, answer_cycles, packets):
    seed = int(os.environ.get("TICKWIRE_SEED", "20191230"))
    print(f"seed {seed}")
    params = CardParams(width=width, cut_through=cut_through)
    top = Top(Arbiter(params, buffer_beats=buffer_beats))
    environment = {
        "WIDTH": str(width),
        "CUT_THROUGH": str(int(cut_through)),
        "BUFFER_BEATS": str(buffer_beats),
        "ANSWER_CYCLES": str(answer_cycles),
        "PACKETS": str(packets),
        "SEED": str(seed),
    }
    name = f"wire_arbiter_w{width}{'' if cut_through else '_store'}"
    assert run(top, top.ports, name, "bench_wire_arbiter", HERE, environment) == TESTS


def refusal(error: type[Exception], build, *arguments, **named) -> str:
    with pytest.raises(error) as caught:
        build(*arguments, **named)
    return str(caught.value)


def test_parameters_that_are_none_are_refused():
    wrong = refusal(TypeError, Arbiter, "8")
    assert wrong == "params must be a CardParams, not '8'"
    params = CardParams()
    wrong = refusal(TypeError, Arbiter, params, buffer_beats="2048")
    assert wrong == "buffer_beats must be an integer, not '2048'"
    wrong = refusal(ValueError, Arbiter, params, buffer_beats=3000)
    assert wrong == "buffer_beats must be a power of two, 512 or more, not 3000"
    wrong = refusal(ValueError, Arbiter, params, buffer_beats=256)
    assert wrong == "buffer_beats must be a power of two, 512 or more, not 256"
    wrong = refusal(TypeError, Arbiter, params, packet_count=64.0)
    assert wrong == "packet_count must be an integer, not 64.0"
    wrong = refusal(ValueError, Arbiter, params, packet_count=2)
    assert wrong == "packet_count must be a power of two, 4 or more, not 2"


def test_buffer_of_another_width_or_manner_is_refused():
    wrong = refusal(ValueError, LineBuffer, 4, 2048, 64, True)
    assert wrong == "width must be 1 or 8, not 4"
    wrong = refusal(TypeError, LineBuffer, 8, 2048, 64, 1)
    assert wrong == "cut_through must be a bool, not 1"


@pytest.mark.parametrize(("width", "beats"), [(1, 8_192), (8, 2_048)])
def test_buffers_have_the_room_that_is_promised(width, beats):
    arbiter = Arbiter(CardParams(width=width))
    assert [buffer.buffer_beats for buffer in arbiter.buffers] == [beats, beats]
    assert [buffer.packet_count for buffer in arbiter.buffers] == [64, 64]
