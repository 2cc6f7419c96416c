"""The best price levels of every symbol, a row a symbol, and the best bid and offer."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two

LEVEL = data.StructLayout({"price": 32, "quantity": 32, "orders": 16})
"""A price level; one without orders is all zero. Price in 1e-4 USD, quantity in shares."""

BEYOND_BITS = 16
SYMBOL_COUNT_MAX = 1 << 16
LEVEL_COUNT_MAX = 64


def change(symbol_count: int) -> data.StructLayout:
    """Shares that come to a price or, with ``take``, leave it.

    ``order`` is set when an order comes or leaves with them. Without ``applied`` nothing changes.
    """
    return data.StructLayout(
        {
            "applied": 1,
            "symbol_index": range(symbol_count),
            "is_buy": 1,
            "take": 1,
            "order": 1,
            "price": 32,
            "shares": 32,
        }
    )


def quote(symbol_count: int) -> data.StructLayout:
    """A symbol's best bid and offer after a change.

    A side is ``exact`` unless orders are known to be there of which no price is. What ends in
    ``_before`` was so before the change; ``overflow`` is set when a sum did not fit.
    """
    return data.StructLayout(
        {
            "symbol_index": range(symbol_count),
            "bid": LEVEL,
            "ask": LEVEL,
            "bid_exact": 1,
            "ask_exact": 1,
            "bid_before": LEVEL,
            "ask_before": LEVEL,
            "bid_exact_before": 1,
            "ask_exact_before": 1,
            "overflow": 1,
        }
    )


class Levels(wiring.Component):
    """Keeps the best price levels of each side of each symbol, sorted, and counts what is beyond.

    A row always holds the best levels of its side without a hole; orders at worse prices are
    counted and not kept. An order deeper than the row's last level gets a level of its own only
    while nothing is beyond and the row has room; a level that is pushed out leaves its orders
    beyond. So the best level is right until the row is empty while something is beyond: then
    ``refill_stb`` is high and the side is not exact, until it is wholly empty. Nothing fills the
    row again from the orders beyond.

    Latency is 2 cycles from a change to its quote. Throughput is 1 change every 2 cycles. Each
    change comes 2 cycles after ``i_fetch`` named its symbol, and a change sees every change before
    it. After reset ``ready`` is low for ``symbol_count`` cycles while every row is emptied: that
    makes the memory valid.

    Parameters
    ----------
    symbol_count : int
        Rows; a power of two.
    level_count : int
        Levels a side in a row; a power of two.

    Members
    -------
    ready : ``Out(1)``
        High once rows are empty. Until then nothing may be fetched.
    i_fetch : ``In(stream.Signature(range(symbol_count), always_ready=True))``
        Symbol of the change that comes 2 cycles later. At least 2 cycles apart.
    i_change : ``In(stream.Signature(change(symbol_count), always_ready=True))``
        Changes, each of the symbol that was fetched for it.
    o : ``Out(stream.Signature(quote(symbol_count), always_ready=True))``
        One quote a change.
    refill_stb : ``Out(1)``
        High with a quote by whose change a side stopped being exact.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    FETCH_CYCLES = 2
    LATENCY = 2
    INTERVAL = 2

    def __init__(self, symbol_count: int, level_count: int):
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        check_power_of_two("level_count", level_count, 2, LEVEL_COUNT_MAX)
        self.symbol_count = symbol_count
        self.level_count = level_count
        super().__init__(
            {
                "ready": Out(1),
                "i_fetch": In(stream.Signature(range(symbol_count), always_ready=True)),
                "i_change": In(stream.Signature(change(symbol_count), always_ready=True)),
                "o": Out(stream.Signature(quote(symbol_count), always_ready=True)),
                "refill_stb": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        count = self.level_count
        row_shape = data.StructLayout(
            {"levels": data.ArrayLayout(LEVEL, count), "beyond": BEYOND_BITS}
        )
        # A symbol's rows: asks, then bids, so that ``is_buy`` is the index.
        rows_shape = data.ArrayLayout(row_shape, 2)
        change_shape = change(self.symbol_count)
        symbol_shape = range(self.symbol_count)

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        s4_valid = Signal()
        s4_known = Signal()
        s4_symbol = held(symbol_shape, "s4_symbol")
        s4_rows = held(rows_shape, "s4_rows")

        # The sweep that empties every row after reset.
        sweeping = Signal(init=1)
        sweep_symbol = Signal(symbol_shape)
        m.d.comb += self.ready.eq(~sweeping)
        with m.If(sweeping):
            m.d.sync += sweep_symbol.eq(sweep_symbol + 1)
            with m.If(sweep_symbol == self.symbol_count - 1):
                m.d.sync += sweeping.eq(0)

        # Stage 0: rows are read.
        m.submodules.memory = memory = Memory(shape=rows_shape, depth=self.symbol_count, init=[])
        read = memory.read_port()
        write = memory.write_port()
        m.d.comb += [
            read.addr.eq(self.i_fetch.payload),
            write.en.eq(sweeping | s4_valid),
            write.addr.eq(Mux(sweeping, sweep_symbol, s4_symbol)),
            write.data.eq(Mux(sweeping, 0, s4_rows.as_value())),
        ]
        s1_symbol = held(symbol_shape, "s1_symbol")
        m.d.sync += s1_symbol.eq(self.i_fetch.payload)

        # Stage 1: rows come out of memory, or from the change before while memory is behind.
        s2_rows = held(rows_shape, "s2_rows")
        same = s4_known & (s4_symbol == s1_symbol)
        m.d.sync += s2_rows.eq(Mux(same, s4_rows.as_value(), read.data.as_value()))

        # Stage 2: the price is compared with every level of its side at once.
        asked = self.i_change.payload
        rows = Signal(rows_shape)
        row = Signal(row_shape)
        same = s4_known & (s4_symbol == asked.symbol_index)
        m.d.comb += [
            rows.eq(Mux(same, s4_rows.as_value(), s2_rows.as_value())),
            row.eq(rows[asked.is_buy]),
        ]
        s3_valid = Signal()
        s3_change = held(change_shape, "s3_change")
        s3_rows = held(rows_shape, "s3_rows")
        s3_row = held(row_shape, "s3_row")
        s3_live = held(count, "s3_live")
        s3_equal = held(count, "s3_equal")
        s3_ahead = held(count, "s3_ahead")
        s3_single = held(count, "s3_single")
        m.d.sync += [
            s3_valid.eq(self.i_change.valid),
            s3_change.eq(asked),
            s3_rows.eq(rows),
            s3_row.eq(row),
        ]
        for i in range(count):
            level = row.levels[i]
            live = level.orders.any()
            better = Mux(asked.is_buy, level.price > asked.price, level.price < asked.price)
            m.d.sync += [
                s3_live[i].eq(live),
                s3_equal[i].eq(live & (level.price == asked.price)),
                s3_ahead[i].eq(live & better),
                s3_single[i].eq(level.orders == 1),
            ]

        # Stage 3: the row is updated, with one shift at most.
        s4_overflow = held(1, "s4_overflow")
        s4_before = held(data.ArrayLayout(LEVEL, 2), "s4_before")
        s4_exact = held(2, "s4_exact")
        row, overflow = self._update(m, s3_change, s3_row, s3_live, s3_equal, s3_ahead, s3_single)
        m.d.sync += s4_valid.eq(s3_valid)
        with m.If(s3_valid):
            m.d.sync += [
                s4_known.eq(1),
                s4_symbol.eq(s3_change.symbol_index),
                s4_rows.eq(s3_rows),
                s4_overflow.eq(s3_change.applied & overflow),
                s4_before.eq(Cat(side.levels[0] for side in s3_rows)),
                s4_exact.eq(Cat(_exact(side) for side in s3_rows)),
            ]
            with m.If(s3_change.applied):
                m.d.sync += s4_rows[s3_change.is_buy].eq(row)

        # Stage 4: rows are written, and their first levels go out.
        out = self.o.payload
        ask, bid = s4_rows
        exact = Cat(_exact(ask), _exact(bid))
        m.d.comb += [
            self.o.valid.eq(s4_valid),
            out.symbol_index.eq(s4_symbol),
            out.bid.eq(bid.levels[0]),
            out.ask.eq(ask.levels[0]),
            out.bid_exact.eq(exact[1]),
            out.ask_exact.eq(exact[0]),
            out.bid_before.eq(s4_before[1]),
            out.ask_before.eq(s4_before[0]),
            out.bid_exact_before.eq(s4_exact[1]),
            out.ask_exact_before.eq(s4_exact[0]),
            out.overflow.eq(s4_overflow),
            self.refill_stb.eq(s4_valid & (s4_exact & ~exact).any()),
        ]
        return m

    def _update(self, m, asked, row, live, equal, ahead, single):
        """Return the row after a change, and whether a sum did not fit."""
        count = self.level_count
        updated = Signal.like(row)
        found = Signal()
        insert = Signal()
        remove = Signal()
        overflows = []
        room = (row.beyond == 0) & ~live[-1]
        m.d.comb += [
            found.eq(equal.any()),
            insert.eq(~asked.take & ~found & ((ahead != live) | room)),
            remove.eq(asked.take & asked.order & (equal & single).any()),
        ]
        fresh = Signal(LEVEL)
        m.d.comb += [
            fresh.price.eq(asked.price),
            fresh.quantity.eq(asked.shares),
            fresh.orders.eq(asked.order),
        ]
        for i in range(count):
            level = row.levels[i]
            kept = Signal(LEVEL, name=f"kept_{i}")
            more_quantity = level.quantity + asked.shares
            more_orders = level.orders + asked.order
            m.d.comb += kept.eq(level)
            with m.If(equal[i] & asked.take):
                # Never below zero: what leaves a level came to it before.
                m.d.comb += [
                    kept.quantity.eq((level.quantity - asked.shares)[:32]),
                    kept.orders.eq((level.orders - asked.order)[:16]),
                ]
            with m.Elif(equal[i]):
                m.d.comb += [kept.quantity.eq(more_quantity), kept.orders.eq(more_orders)]
            overflows.append(equal[i] & ~asked.take & (more_quantity[-1] | more_orders[-1]))
            above = row.levels[i - 1] if i else fresh
            below = row.levels[i + 1] if i + 1 < count else 0
            first = ~ahead[i] & (ahead[i - 1] if i else 1)
            with m.If(insert & ~ahead[i]):
                m.d.comb += updated.levels[i].eq(Mux(first, _value(fresh), _value(above)))
            with m.Elif(remove & ~ahead[i]):
                m.d.comb += updated.levels[i].eq(below)
            with m.Else():
                m.d.comb += updated.levels[i].eq(kept)
        beyond = Signal(BEYOND_BITS + 1)
        with m.If(insert):
            m.d.comb += beyond.eq(row.beyond + row.levels[count - 1].orders)
        with m.Elif(found):
            m.d.comb += beyond.eq(row.beyond)
        with m.Elif(asked.take):
            m.d.comb += beyond.eq((row.beyond - asked.order)[:BEYOND_BITS])
        with m.Else():
            m.d.comb += beyond.eq(row.beyond + asked.order)
        m.d.comb += updated.beyond.eq(beyond)
        return updated, reduce(or_, overflows) | beyond[-1]


def _exact(row):
    """Whether the first level of a row is known to be the best one."""
    return row.levels[0].orders.any() | (row.beyond == 0)


def _value(level):
    return level.as_value()
