"""The order stage from commands and frames to frames, records and what the gate is told."""

import os
from pathlib import Path

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value

from hw.rtl.order import OrderPath
from hw.rtl.order.connection import Connection
from hw.rtl.order.encode import Encoder
from hw.rtl.order.engine import Engine
from hw.rtl.order.frames import FrameBuffer
from hw.rtl.risk import DECISION, EVENT
from sim.tb.runner import run

HERE = Path(__file__).parent
TESTS = 7
SYMBOL_COUNT, ORDER_COUNT = 8, 32


class Top(Elaboratable):
    """The stage with all that tells that something happens in one port, for a fast bench."""

    def __init__(self, width: int) -> None:
        self.path = path = OrderPath(width, SYMBOL_COUNT, ORDER_COUNT, EVENT, DECISION)
        self.flags = Cat(
            *(path.command_stb, path.answer_stb, path.sent_stb, path.denied_stb, path.drop_stb),
            *(path.session, path.i_command.ready, path.o.valid, path.o_record.valid),
            *(path.o_event.valid, path.ready),
        )
        inputs = {
            "beat": Cat(path.i.valid, path.i.payload),
            "command": Cat(path.i_command.valid, path.i_command.payload),
            "start": Cat(path.i_start.valid, path.i_start.payload),
            "stock": Cat(path.i_stock.valid, path.i_stock.payload),
            "decision": Cat(path.i_decision.valid, path.i_decision.payload),
            "readies": Cat(path.o.ready, path.o_record.ready, path.stop_stb),
            "free": path.free,
            "now_ns": path.time,
        }
        outputs = {
            "flags": self.flags,
            "sent": path.o.payload,
            "told": path.o_record.payload,
            "event": path.o_event.payload,
            "reason": path.reason,
        }
        self.inputs = [
            (Signal(len(Cat(value)), name=name), value) for name, value in inputs.items()
        ]
        self.outputs = [
            (Signal(len(Cat(value)), name=name), value) for name, value in outputs.items()
        ]

    @property
    def ports(self) -> list[Value]:
        return [port for port, _ in (*self.inputs, *self.outputs)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.path = self.path
        m.d.comb += [Cat(value).eq(port) for port, value in self.inputs]
        m.d.comb += [port.eq(Cat(value)) for port, value in self.outputs]
        return m


@pytest.mark.parametrize(("width", "sessions"), [(8, 100), (1, 60)])
def test_order_stage_does_what_the_golden_model_does(
    width: int, sessions: int, real_data: Path | None
) -> None:
    seed = os.environ.get("TICKWIRE_SEED", "20200130")
    print(f"seed {seed}")
    top = Top(width)
    environment = {
        "WIDTH": str(width),
        "SEED": seed,
        "SESSIONS": os.environ.get("TICKWIRE_ORDER_SESSIONS", str(sessions)),
        "CAPTURES": str(real_data / "pcap") if real_data else "",
        "SYMBOL_COUNT": str(SYMBOL_COUNT),
        "ORDER_COUNT": str(ORDER_COUNT),
    }
    assert run(top, top.ports, f"order_w{width}", "bench_order", HERE, environment) == TESTS


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: OrderPath(4, 8, 8, EVENT, DECISION), ValueError, "width must be 1 or 8, not 4"),
        (lambda: Encoder("8"), ValueError, "width must be 1 or 8, not '8'"),
        (lambda: FrameBuffer(2), ValueError, "width must be 1 or 8, not 2"),
        (
            lambda: FrameBuffer(8, 32),
            ValueError,
            "size must be a power of two, 64 or more, not 32",
        ),
        (
            lambda: Connection(100),
            ValueError,
            "size must be a power of two, 64 or more, not 100",
        ),
        (lambda: Connection(64.0), TypeError, "size must be an integer, not 64.0"),
        (
            lambda: Engine(3, 8, EVENT, DECISION),
            ValueError,
            "symbol_count must be a power of two, 2 or more, not 3",
        ),
        (
            lambda: Engine(8, 1, EVENT, DECISION),
            ValueError,
            "order_count must be a power of two, 2 or more, not 1",
        ),
    ],
)
def test_bad_argument_is_refused(make, error, text):
    with pytest.raises(error) as refused:
        make()
    assert str(refused.value) == text
