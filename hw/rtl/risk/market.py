"""What the gate knows of the markets, from the records that tell the host."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import RECORD
from hw.rtl.risk.events import SET_MARKET
from protocol import ring
from protocol.emit import amaranth_layout as layouts
from protocol.market import PHASES, MarketPhase
from protocol.ring import BboFlag, RecordType

_TRADING = ord("T")
_SYSTEM_EVENT = ord("S")
_OF_SYMBOL = data.StructLayout(
    {"bid_price": 32, "ask_price": 32, "last_price": 32, "halted": 1, "stale": 1}
)


class MarketView(wiring.Component):
    """Keeps what market records say of each symbol, and tells the gate of every change.

    It looks on while records are made, before any of them is conflated. A new market phase is told
    for one symbol after the other, in cycles without a record.

    Latency is 1 cycle; of a phase ``symbol_count + 1`` cycles for all symbols, and one more for
    each record that comes meanwhile. Throughput is 1 record a cycle. After reset nothing may come
    for ``symbol_count`` cycles, while the memory is swept and told.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.

    Members
    -------
    stb, record : ``In``
        A market record that was made.
    o : ``Out(stream.Signature(SET_MARKET, always_ready=True))``
        See :class:`~hw.rtl.risk.gate.Gate`.
    """

    def __init__(self, symbol_count: int):
        self.symbol_count = symbol_count
        super().__init__(
            {
                "stb": In(1),
                "record": In(RECORD),
                "o": Out(stream.Signature(SET_MARKET, always_ready=True)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.markets = memory = Memory(shape=_OF_SYMBOL, depth=self.symbol_count, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        kind = self.record[:8]
        is_bbo = kind == RecordType.BBO
        is_trade = kind == RecordType.TRADE

        def told(layout, name):
            return layouts.host(layout, self.record, name)

        # The phase, and the sweep that tells it.
        phase = Signal(MarketPhase)
        place = Signal(range(self.symbol_count))
        sweeping = Signal(init=1)
        emptying = Signal(init=1)
        code = told(ring.STATUS, "status")
        is_system = (kind == RecordType.STATUS) & (
            told(ring.STATUS, "message_type") == _SYSTEM_EVENT
        )
        of_symbol = self.stb & (is_bbo | is_trade)
        with m.If(sweeping & ~of_symbol):
            m.d.sync += place.eq(place + 1)
            with m.If(place == self.symbol_count - 1):
                m.d.sync += [sweeping.eq(0), emptying.eq(0)]
        for event_code, meant in PHASES.items():
            with m.If(self.stb & is_system & (code == ord(event_code))):
                m.d.sync += [phase.eq(meant), sweeping.eq(1), place.eq(0)]

        index = Signal(range(self.symbol_count))
        market = Signal(_OF_SYMBOL)
        flags, state = told(ring.BBO, "flags"), told(ring.BBO, "trading_state")
        m.d.comb += [
            index.eq(Mux(of_symbol, told(ring.BBO, "symbol_index"), place)),
            read.addr.eq(index),
            market.eq(Mux(emptying, 0, read.data.as_value())),
            write.addr.eq(index),
            write.data.eq(market),
            write.en.eq(of_symbol | emptying),
        ]
        with m.If(of_symbol & is_bbo):
            m.d.comb += [
                market.bid_price.eq(told(ring.BBO, "bid_price")),
                market.ask_price.eq(told(ring.BBO, "ask_price")),
                market.halted.eq((state != 0) & (state != _TRADING)),
                market.stale.eq(flags[BboFlag.STALE.bit_length() - 1]),
            ]
        with m.Elif(of_symbol):
            m.d.comb += market.last_price.eq(told(ring.TRADE, "last_price"))
        out = self.o.payload
        m.d.sync += [
            self.o.valid.eq(of_symbol | sweeping),
            out.symbol_index.eq(index),
            out.market.phase.eq(phase),
            *(out.market[name].eq(market[name]) for name in _OF_SYMBOL.members),
        ]
        return m
