"""Market records: parser, book and record maker against the functional card's feed path."""

import os
from pathlib import Path

import pytest
from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import data, wiring

from hw.rtl.book.book import Book
from hw.rtl.book.tasks import event
from hw.rtl.layouts import MESSAGE, NOTICE, RECORD
from hw.rtl.params import CardParams
from hw.rtl.parse.decode import Decoder
from hw.rtl.ring.conflation import Conflation
from hw.rtl.ring.market import MarketRecords
from protocol import itch50
from sim.tb.runner import run

FOLDER = Path(__file__).parent
SEED = int(os.environ.get("TICKWIRE_SEED", "20200130"))
MESSAGES = int(os.environ.get("TICKWIRE_MARKET_MESSAGES", "800"))
PARAMS = CardParams(symbol_count=4, order_count=256, level_count=16)
QUEUE_DEPTH = 8
BENCH_TESTS = 6


class Top(Elaboratable):
    """Messages and notices in, market records out; every symbol has its locate from the host."""

    def __init__(self):
        self.inputs = {
            "message": Signal(MESSAGE),
            "message_valid": Signal(),
            "is_message": Signal(len(itch50.MESSAGES.layouts)),
            "notice": Signal(NOTICE),
            "notice_valid": Signal(),
            "locate_stb": Signal(),
            "locate_index": Signal(range(PARAMS.symbol_count)),
            "locate": Signal(16),
            "configured": Signal(PARAMS.symbol_count),
            "record_ready": Signal(),
            "now": Signal(64),
        }
        self.outputs = {
            "ready": Signal(),
            "record": Signal(RECORD),
            "record_valid": Signal(),
            "bbo_stb": Signal(),
            "conflated_stb": Signal(),
            "lost_stb": Signal(),
            "overflow_stb": Signal(),
            "event_valid": Signal(),
            "item_valid": Signal(),
            "item_is_bbo": Signal(),
            "queued_max": Signal(8),
        }
        self.ports = []
        for name, signal in (self.inputs | self.outputs).items():
            value = signal.as_value() if isinstance(signal, data.View) else signal
            value.name = name
            self.ports.append(value)

    def elaborate(self, platform):
        m = Module()
        m.submodules.decode = decode = Decoder()
        m.submodules.book = book = Book(PARAMS)
        m.submodules.market = market = MarketRecords(
            PARAMS.symbol_count, event(PARAMS.symbol_count)
        )
        m.submodules.conflation = conflation = Conflation(PARAMS.symbol_count, QUEUE_DEPTH)
        wiring.connect(m, decode.o_hint, book.i_hint)
        wiring.connect(m, market.o, conflation.i)
        at, out = self.inputs, self.outputs
        m.d.comb += [
            decode.i.valid.eq(at["message_valid"]),
            decode.i.payload.eq(at["message"]),
            decode.is_message.eq(at["is_message"]),
            decode.i_notice.valid.eq(at["notice_valid"]),
            decode.i_notice.payload.eq(at["notice"]),
            *(each.i.valid.eq(decode.o.valid) for each in (book, market)),
            *(each.i.payload.eq(decode.o.payload) for each in (book, market)),
            book.locate_stb.eq(at["locate_stb"]),
            book.locate_index.eq(at["locate_index"]),
            book.locate_valid.eq(1),
            book.locate.eq(at["locate"]),
            market.i_event.valid.eq(book.o.valid),
            market.i_event.payload.eq(book.o.payload),
            market.known.eq(book.known),
            market.symbol_index.eq(book.symbol_index),
            market.taken_stb.eq(book.taken_stb),
            market.done_stb.eq(book.done_stb),
            market.stale.eq(book.stale),
            market.configured.eq(at["configured"]),
            market.time.eq(at["now"]),
            conflation.o.ready.eq(at["record_ready"]),
            out["ready"].eq(book.ready),
            out["record"].eq(conflation.o.payload),
            out["record_valid"].eq(conflation.o.valid),
            out["bbo_stb"].eq(market.bbo_stb),
            out["conflated_stb"].eq(conflation.conflated_stb),
            out["lost_stb"].eq(conflation.lost_stb),
            out["overflow_stb"].eq(market.overflow_stb),
            out["event_valid"].eq(book.o.valid),
            out["item_valid"].eq(market.o.valid),
            out["item_is_bbo"].eq(market.o.payload.is_bbo),
            out["queued_max"].eq(conflation.queued_max),
        ]
        return m


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (
            lambda: MarketRecords(3, event(4)),
            ValueError,
            "symbol_count must be a power of two, 2 to 32768, not 3",
        ),
        (lambda: MarketRecords(4, 7), TypeError, "event_shape must be a StructLayout, not 7"),
        (
            lambda: MarketRecords(4, data.StructLayout({"symbol_index": 2})),
            ValueError,
            "event_shape must have a field bid",
        ),
        (
            lambda: Conflation(4, 5),
            ValueError,
            "queue_depth must be a power of two, 4 to 1024, not 5",
        ),
        (lambda: Conflation("4"), TypeError, "symbol_count must be an integer, not '4'"),
    ],
)
def test_bad_argument_is_refused(make, error, text):
    with pytest.raises(error) as refused:
        make()
    assert str(refused.value) == text


def test_market_records_are_those_of_the_functional_card():
    top = Top()
    environment = {"SEED": str(SEED), "MESSAGES": str(MESSAGES)}
    assert run(top, top.ports, "market", "bench_market", FOLDER, environment) == BENCH_TESTS
