"""The best price levels of every symbol, a row a side, and the best bid and offer."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two, wires

COUNT_BITS = 16
ORDER_COUNT_MAX = 1 << (COUNT_BITS - 1)
"""Most orders that can be counted, over all levels and what is beyond them."""

LEVEL = data.StructLayout({"price": 32, "quantity": 32, "orders": COUNT_BITS})
"""A price level; one without orders is all zero. Price in 1e-4 USD, quantity in shares."""

_SLOT = data.StructLayout({"level": LEVEL, "live": 1})
"""A place for a level, and whether there is one. Slots are written alone, and block RAM is written
in parts of 9 bits: this is nine of them."""

SYMBOL_COUNT_MAX = 1 << 15
LEVEL_COUNT_MAX = 64


def change(symbol_count: int) -> data.StructLayout:
    """What happens to the row of one side of a symbol.

    Shares come to a price or, with ``take``, leave it; ``order`` is set when an order comes or
    leaves with them. Unless it is ``live``, nothing changes. A ``chained`` change is the second
    half of the one before it, on the same side: its quote tells what has changed since before the
    first half.

    ``commit`` puts the refill row in the place of the symbol's row, and empties it; a chained
    ``refresh`` that looks for the best level is the second half. Neither has anything else.
    """
    return data.StructLayout(
        {
            "live": 1,
            "commit": 1,
            "refresh": 1,
            "chained": 1,
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

    A side is exact unless orders are known to be there of which no price is; ``exact`` is set when
    both are. ``exact_changed`` is set when a side became exact or no longer is, ``changed`` then
    and when a best level is not as before, ``overflow`` when a sum did not fit. The side that the
    change named, ``is_buy``, is ``low`` when half of its row or less is in use while orders are
    beyond it.
    """
    return data.StructLayout(
        {
            "symbol_index": range(symbol_count),
            "is_buy": 1,
            "bid": LEVEL,
            "ask": LEVEL,
            "exact": 1,
            "low": 1,
            "changed": 1,
            "exact_changed": 1,
            "overflow": 1,
        }
    )


class Levels(wiring.Component):
    """Keeps the best price levels of each side of each symbol, and counts what is beyond.

    A row always holds the best levels of its side without a hole; orders at worse prices are
    counted and not kept. An order deeper than the row's last level gets a level of its own only
    while nothing is beyond and the row has room; a level that is pushed out leaves its orders
    beyond. So the best level is right until the row is empty while something is beyond: then the
    side is not exact, until it is wholly empty or refilled.

    Levels do not move within their row: each slot has a rank, 0 for that of the best level, and
    those without a level have the last ones. So a change writes one slot and the ranks, and that is
    also all that rows on their way out of memory must be given of a change that memory did not show
    them.

    The refill row is one more row by the same rule, of no symbol. Who feeds it every order of a
    side once, and what becomes of an order after it was fed, has the side's row in it, and commits.

    Latency is 2 cycles from a change to its quote. Throughput is 1 change every 2 cycles. Each
    change comes 3 cycles after ``i_fetch`` named its symbol, and a change sees every change before
    it. One of the refill row alone needs no fetch, is not valid, and has no quote. After reset
    ``ready`` is low for ``2 * symbol_count`` cycles while every row is emptied: that makes the
    memory valid.

    Parameters
    ----------
    symbol_count : int
        Symbols, of two rows each; a power of two.
    level_count : int
        Levels in a row; a power of two.

    Members
    -------
    ready : ``Out(1)``
        High once rows are empty. Until then nothing may be fetched or changed.
    i_fetch : ``In(stream.Signature(range(symbol_count), always_ready=True))``
        Symbol of the change that comes 3 cycles later. At least 2 cycles apart.
    i_change : ``In(stream.Signature(change(symbol_count), always_ready=True))``
        Changes, each of the symbol that was fetched for it. At least 2 cycles apart, 3 before one
        that commits and 6 after it.
    refill_stb : ``In(1)``
        The refill row takes part in the change of the cycle before, ``live`` or not, or has one of
        its own: what ``i_change`` had, if it was not valid. Never of one that commits or refreshes.
    o : ``Out(stream.Signature(quote(symbol_count), always_ready=True))``
        One quote a change.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    FETCH_CYCLES = 3
    LATENCY = 2
    INTERVAL = 2
    BEFORE_COMMIT = 3
    INTERVAL_COMMIT = 6

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
                "refill_stb": In(1),
                "o": Out(stream.Signature(quote(symbol_count), always_ready=True)),
            }
        )
        self._slots = data.ArrayLayout(_SLOT, level_count)
        # What is known of a row beside its levels.
        self._ranks = data.ArrayLayout(range(level_count), level_count)
        tally = {"ranks": self._ranks, "used": range(level_count + 1), "beyond": COUNT_BITS}
        self._tally = data.StructLayout(tally)
        self._top = data.StructLayout({"best": LEVEL, "exact": 1})
        self._row = data.StructLayout({"tally": self._tally, "top": self._top})
        # The tally of an empty row.
        self._empty = {"ranks": list(range(level_count))}
        # What the levels of a row are beside a price; ``single`` has but one order.
        self._flags = data.StructLayout(
            dict.fromkeys(("equal", "ahead", "behind", "single"), level_count)
        )
        # What a tally says of the slots: where a new level comes, and which is the ``next`` best
        # one; and whether a new level may be the last one.
        self._places = data.StructLayout({"target": level_count, "next": level_count, "open": 1})

    def elaborate(self, platform):
        m = Module()
        count = self.level_count
        symbol_shape = range(self.symbol_count)
        # What a change did to a row.
        written_shape = data.StructLayout(
            {
                "symbol_index": symbol_shape,
                "is_buy": 1,
                "slots": count,
                "slot": _SLOT,
                "tally": self._tally,
            }
        )

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        # The last change. After reset it is an empty row, for the sweep, and right for the one that
        # it names.
        s5 = Signal(written_shape, init={"tally": self._empty})
        s5_valid = Signal()
        s5_top = Signal(self._top)
        s5_row = Signal(self._row)
        s5_commit = Signal()
        m.d.comb += [s5_row.tally.eq(s5.tally), s5_row.top.eq(s5_top)]
        refill_slots = Signal(self._slots)
        refill_tally = Signal(self._tally, init=self._empty)
        refill_overflow = Signal()

        # The sweep that empties every row after reset.
        sweeping = Signal(init=1)
        sweep_address = Signal(range(2 * self.symbol_count))
        m.d.comb += self.ready.eq(~sweeping)
        with m.If(sweeping):
            m.d.sync += sweep_address.eq(sweep_address + 1)
            with m.If(sweep_address.all()):
                m.d.sync += sweeping.eq(0)

        # Stages 0 and 1: asks are read, then bids. Stage 5: a row is written. What is read while it
        # is written is replaced behind the memory. Without the attribute, which the tools take only
        # where the register stands outside of the memory, they would add a bypass of their own.
        place = {"depth": 2 * self.symbol_count, "init": [], "attrs": {"no_rw_check": True}}
        m.submodules.levels = levels = Memory(shape=self._slots, **place)
        m.submodules.rows = rows = Memory(shape=self._row, **place)
        read_levels = levels.read_port(domain="comb")
        write_levels = levels.write_port(granularity=1)
        read_row = rows.read_port(domain="comb")
        write_row = rows.write_port()
        read_slots = held(self._slots, "read_slots")
        read_known = held(self._row, "read_known")
        m.d.sync += [read_slots.eq(read_levels.data), read_known.eq(read_row.data)]
        s1_symbol = held(symbol_shape, "s1_symbol")
        s2_symbol = held(symbol_shape, "s2_symbol")
        asks, bids = Const(0, 1), Const(1, 1)
        with m.If(self.i_fetch.valid):
            m.d.comb += read_row.addr.eq(Cat(asks, self.i_fetch.payload))
            m.d.sync += s1_symbol.eq(self.i_fetch.payload)
        with m.Else():
            m.d.comb += read_row.addr.eq(Cat(bids, s1_symbol))
        m.d.comb += read_levels.addr.eq(read_row.addr)
        m.d.sync += s2_symbol.eq(s1_symbol)
        address = Mux(sweeping, sweep_address, Cat(s5.is_buy, s5.symbol_index))
        every = sweeping | s5_commit
        m.d.comb += [
            write_levels.addr.eq(address),
            write_levels.en.eq((s5.slots & s5_valid.replicate(count)) | every.replicate(count)),
            write_row.addr.eq(address),
            write_row.en.eq(s5_valid | sweeping),
            write_row.data.eq(s5_row),
        ]
        for i in range(count):
            m.d.comb += write_levels.data[i].eq(
                Mux(s5_commit, refill_slots[i].as_value(), s5.slot.as_value())
            )

        # Stages 1 and 2: rows come out of memory, and in each stage are given the last change if it
        # is theirs. Whether it will be is known a cycle before.
        s4_valid = Signal()
        s4_symbol = held(symbol_shape, "s4_symbol")
        s4_is_buy = held(1, "s4_is_buy")

        def is_next_s5(symbol):
            """Return whether the last change will be of a symbol's asks, of its bids."""
            last_symbol = Mux(s4_valid, s4_symbol, s5.symbol_index)
            last_is_buy = Mux(s4_valid, s4_is_buy, s5.is_buy)
            is_same = last_symbol == symbol
            return Cat(is_same & ~last_is_buy, is_same & last_is_buy)

        def given(is_theirs, slots, row):
            """Return slots and what is known of them, with the last change."""
            new_slots = [
                Mux(is_theirs & s5.slots[i], s5.slot.as_value(), slots[i].as_value())
                for i in range(count)
            ]
            return Cat(new_slots), Mux(is_theirs, s5_row.as_value(), row.as_value())

        s1_theirs, s2_theirs, s3_theirs = (held(2, f"s{n}_theirs") for n in (1, 2, 3))
        s2_slots = held(self._slots, "s2_asks_slots")
        s2_row = held(self._row, "s2_asks_row")
        s3_slots = [held(self._slots, f"s3_{name}_slots") for name in ("asks", "bids")]
        s3_rows = [held(self._row, f"s3_{name}_row") for name in ("asks", "bids")]
        m.d.sync += [
            s1_theirs.eq(is_next_s5(self.i_fetch.payload)),
            s2_theirs.eq(is_next_s5(s1_symbol)),
            s3_theirs.eq(is_next_s5(s2_symbol)),
        ]
        for slots, row, values in (
            (s2_slots, s2_row, given(s1_theirs[0], read_slots, read_known)),
            (s3_slots[0], s3_rows[0], given(s2_theirs[0], s2_slots, s2_row)),
            (s3_slots[1], s3_rows[1], given(s2_theirs[1], read_slots, read_known)),
        ):
            m.d.sync += [slots.eq(values[0]), row.eq(values[1])]

        # Stage 3: the price is compared with every level that may be in the row, at once.
        asked = self.i_change.payload
        s4_levels = held(data.ArrayLayout(LEVEL, count), "s4_levels")
        s4_flags = held(self._flags, "s4_flags")
        s4_places = held(self._places, "s4_places")
        s4_row = held(self._row, "s4_row")
        s4_other = held(self._top, "s4_other")
        s4_effect = held(_EFFECT, "s4_effect")
        s4_commit = held(1, "s4_commit")
        s4_refresh = held(1, "s4_refresh")
        s4_chained = held(1, "s4_chained")
        s4_take = held(1, "s4_take")
        s4_order = held(1, "s4_order")
        s4_shares = held(32, "s4_shares")
        is_buy = asked.is_buy

        def of_side(name, ask, bid, theirs, last):
            """Return what there is of the side that is asked for, where the last change is not it.

            Which side that is, is known last, and selects last.
            """
            sides = []
            for side, value, is_s5 in zip(("ask", "bid"), (ask, bid), theirs, strict=True):
                chosen = Mux(is_s5, Value.cast(last), Value.cast(value))
                sides.append(wires.kept(m, f"s3_{side}_{name}", chosen))
            return Mux(is_buy, sides[1], sides[0])

        # Flags are known later than the side.
        s5_flags = _compare(m, "s5", s5.slot, asked.price, s5.is_buy)
        own_theirs = Mux(is_buy, s3_theirs[1], s3_theirs[0])
        for i in range(count):
            in_s5 = s3_theirs & s5.slots[i].replicate(2)
            ask, bid = s3_slots[0][i], s3_slots[1][i]
            level = of_side(f"level_{i}", ask.level, bid.level, in_s5, s5.slot.level)
            m.d.sync += s4_levels[i].eq(level)
            ask_flags = _compare(m, f"s3_ask_{i}", ask, asked.price, asks)
            bid_flags = _compare(m, f"s3_bid_{i}", bid, asked.price, bids)
            own_in_s5 = own_theirs & s5.slots[i]
            for name in self._flags.members:
                of_ask = wires.kept(m, f"s3_ask_{name}_{i}", ask_flags[name] & ~is_buy)
                of_bid = wires.kept(m, f"s3_bid_{name}_{i}", bid_flags[name] & is_buy)
                flag = Mux(own_in_s5, s5_flags[name], of_ask | of_bid)
                m.d.sync += s4_flags[name][i].eq(flag)
        ask_row, bid_row = s3_rows
        rank = Mux(asked.refresh, 0, 1)
        places = (self._places_of(row.tally, rank) for row in (ask_row, bid_row))
        own = of_side("own", ask_row, bid_row, s3_theirs, s5_row)
        own_places = of_side("places", *places, s3_theirs, self._places_of(s5.tally, rank))
        other = of_side("other", bid_row.top, ask_row.top, s3_theirs[::-1], s5_top)
        m.d.sync += [
            s4_valid.eq(self.i_change.valid),
            s4_symbol.eq(asked.symbol_index),
            s4_is_buy.eq(is_buy),
            s4_commit.eq(asked.commit),
            s4_refresh.eq(asked.refresh),
            s4_chained.eq(asked.chained),
            s4_row.eq(own),
            s4_places.eq(own_places),
            s4_other.eq(other),
            s4_effect.eq(_effect(asked.live, asked.price, asked.take, asked.order, asked.shares)),
            s4_take.eq(asked.take),
            s4_order.eq(asked.order),
            s4_shares.eq(asked.shares),
        ]

        # Stage 4: the row is updated.
        s5_best_is_new = Signal()
        s5_best = Signal(LEVEL)
        s5_other = held(self._top, "s5_other")
        s5_before = held(self._top, "s5_before")
        s5_adds = held(1, "s5_adds")
        s5_carry = held(1, "s5_carry")
        s5_committed_overflow = held(1, "s5_committed_overflow")
        committed_overflow = held(1, "committed_overflow")
        tally = data.View(
            self._tally, Mux(s4_commit, refill_tally.as_value(), s4_row.tally.as_value())
        )
        new = self._update(m, "row", s4_levels, s4_flags, s4_places, tally, s4_effect)
        # The level that is the best one when the best one leaves, or that is the best one now.
        after_best = wires.select(s4_places.next, s4_levels)
        at_best = ~s4_flags.ahead.any()
        m.d.sync += [s5_valid.eq(s4_valid), s5_commit.eq(s4_valid & s4_commit)]
        with m.If(s4_valid):
            m.d.sync += [
                s5.symbol_index.eq(s4_symbol),
                s5.is_buy.eq(s4_is_buy),
                s5.slots.eq(new.slots),
                s5.slot.level.eq(new.level),
                s5.slot.live.eq(new.stays),
                s5.tally.eq(new.tally),
                s5_best_is_new.eq(at_best & new.stays),
                s5_best.eq(
                    Mux(
                        s4_refresh | (new.dies & at_best),
                        after_best,
                        s4_row.top.best.as_value(),
                    )
                ),
                s5_other.eq(s4_other),
                s5_adds.eq(s4_effect.adds),
                s5_carry.eq(new.carry),
                s5_committed_overflow.eq(s4_refresh & committed_overflow),
            ]
            with m.If(~s4_chained):
                m.d.sync += s5_before.eq(s4_row.top)
            with m.If(s4_commit):
                m.d.sync += s5.slots.eq(0)
        with m.If(s5_commit):
            m.d.sync += committed_overflow.eq(refill_overflow)
        refill_row = (refill_slots, refill_tally, refill_overflow)
        refill = held(data.StructLayout({"is_buy": 1, "effect": _EFFECT}), "s5_refill")
        refill_valid = Signal(name="s5_refill_valid")
        m.d.sync += [
            refill_valid.eq(self.refill_stb),
            refill.is_buy.eq(s4_is_buy),
            refill.effect.eq(
                _effect(self.refill_stb, s4_effect.price, s4_take, s4_order, s4_shares)
            ),
        ]
        self._refill(m, refill_valid, refill, refill_row, s5_commit)

        # Stage 5: the row is written, and the best levels go out.
        out = self.o.payload
        s5_beyond = wires.any_of(m, "s5_beyond", s5.tally.beyond)
        # Both are compared: which of them counts is not waited for.
        best_same = Mux(
            s5_best_is_new,
            wires.equal(m, "s5_new_is_before", s5.slot.level, s5_before.best),
            wires.equal(m, "s5_best_is_before", s5_best, s5_before.best),
        )
        m.d.comb += [
            s5_top.best.eq(Mux(s5_best_is_new, s5.slot.level.as_value(), s5_best.as_value())),
            s5_top.exact.eq(s5.tally.used.any() | ~s5_beyond),
            self.o.valid.eq(s5_valid),
            out.symbol_index.eq(s5.symbol_index),
            out.is_buy.eq(s5.is_buy),
            out.low.eq((s5.tally.used <= count // 2) & s5_beyond),
            out.exact.eq(s5_top.exact & s5_other.exact),
            out.exact_changed.eq(s5_top.exact != s5_before.exact),
            out.changed.eq(~best_same | out.exact_changed),
            out.overflow.eq((s5_adds & s5_carry) | s5_committed_overflow),
        ]
        for which, top_is_own in (("ask", ~s5.is_buy), ("bid", s5.is_buy)):
            best = Mux(top_is_own, s5_top.best.as_value(), s5_other.best.as_value())
            m.d.comb += out[which].eq(best)
        return m

    def _refill(self, m, s5_valid, s5, row, clear):
        """Do what a change does to the refill row.

        All is done two cycles later than in rows of symbols, as only a commit waits for it: a
        change is compared in stage 5 and carried out in stage 6, and its slot is written in
        stage 7.
        """
        count = self.level_count
        slots, tally, overflow = row

        def held(shape, name):
            return Signal(shape, name=f"refill_{name}", reset_less=True)

        s6_valid = Signal(name="refill_s6_valid")
        s6_effect = held(_EFFECT, "s6_effect")
        s6_flags = held(self._flags, "s6_flags")
        s6_places = held(self._places, "s6_places")
        s7_slot = held(_SLOT, "s7_slot")
        s7_slots = Signal(count, name="refill_s7_slots")
        s7_adds = Signal(name="refill_s7_adds")
        s7_carry = held(1, "s7_carry")
        m.d.sync += [
            s6_valid.eq(s5_valid),
            s6_effect.eq(s5.effect),
            s6_places.eq(self._places_of(tally, 0)),
        ]
        price, is_buy = s5.effect.price, s5.is_buy
        s7_flags = _compare(m, "refill_s7", s7_slot, price, is_buy)
        for i in range(count):
            flags = _compare(m, f"refill_{i}", slots[i], price, is_buy)
            for name in self._flags.members:
                flag = Mux(s7_slots[i], s7_flags[name], flags[name])
                m.d.sync += s6_flags[name][i].eq(flag)
        levels = [slot.level for slot in slots]
        new = self._update(m, "refill", levels, s6_flags, s6_places, tally, s6_effect)
        m.d.sync += [
            s7_slot.level.eq(new.level),
            s7_slot.live.eq(new.stays),
            s7_slots.eq(new.slots & s6_valid.replicate(count)),
            s7_adds.eq(s6_effect.adds & s6_valid),
            s7_carry.eq(new.carry),
        ]
        with m.If(s6_valid):
            m.d.sync += tally.eq(new.tally)
        with m.If(s7_adds & s7_carry):
            m.d.sync += overflow.eq(1)
        for i in range(count):
            with m.If(s7_slots[i]):
                m.d.sync += slots[i].eq(s7_slot)
        with m.If(clear):
            empty = self._tally.const(self._empty)
            m.d.sync += [slots.eq(0), tally.eq(empty), overflow.eq(0)]

    def _places_of(self, tally, rank):
        """Return what a tally says of the slots, ``next`` being the one of a rank."""
        ranks = tally.ranks
        return Cat(
            *(ranks[i] == self.level_count - 1 for i in range(self.level_count)),
            *(ranks[i] == rank for i in range(self.level_count)),
            # Behind the last level there is a place only while nothing is beyond.
            ~tally.used[-1] & ~tally.beyond.any(),
        )

    def _update(self, m, name, levels, flags, places, tally, effect):
        """Return what a change does to a row.

        That is one level and where it goes, what is known of the row then, whether the level is
        one of the row then or ``dies`` by it, and the ``carry`` of its sum: one that was added to
        does not fit.
        """
        count = self.level_count
        new = Signal(
            data.StructLayout(
                {
                    "slots": count,
                    "level": LEVEL,
                    "tally": self._tally,
                    "stays": 1,
                    "dies": 1,
                    "carry": 1,
                }
            ),
            name=f"{name}_new",
        )
        found = Signal(name=f"{name}_found")
        insert = Signal(name=f"{name}_insert")
        full = tally.used[-1]
        # A level that is there already, or zero; price is the one that is asked for. The addition
        # has a carry in, so that it subtracts as well; never below zero, since what leaves a level
        # came to it before.
        known = data.View(LEVEL, wires.select(flags.equal, levels))
        total = Cat(1, known.quantity) + Cat(effect.take, effect.addend)
        # One order more or less, or none.
        orders = Cat(effect.order, (effect.order & effect.take).replicate(COUNT_BITS - 1))
        # The level that is pushed out; while the row has room its slot is empty.
        pushed = data.View(LEVEL, wires.select(places.target, levels)).orders
        m.d.comb += [
            found.eq(flags.equal.any()),
            new.dies.eq(effect.take & effect.order & flags.single.any()),
            new.stays.eq(insert | (found & ~new.dies)),
            insert.eq(effect.adds & ~found & (flags.behind.any() | places.open)),
            # An empty slot is all zero.
            new.level.price.eq(Mux(new.dies, 0, effect.price)),
            new.level.quantity.eq(total[1:33]),
            new.level.orders.eq((known.orders + orders)[:COUNT_BITS]),
            # A level that is not there is zero, and has room.
            new.carry.eq(total[33]),
        ]
        # What becomes of the row is known late, and selects among sums.
        tally_sums = (
            ("used_more", tally.used + 1),
            ("used_less", tally.used - 1),
            ("beyond_pushed", tally.beyond + pushed),
            ("beyond_changed", tally.beyond + orders),
        )
        used_more, used_less, beyond_pushed, beyond_changed = (
            wires.kept(m, f"{name}_{which}", value[:-1]) for which, value in tally_sums
        )
        with m.If(insert & ~full):
            m.d.comb += new.tally.used.eq(used_more)
        with m.Elif(new.dies):
            m.d.comb += new.tally.used.eq(used_less)
        with m.Else():
            m.d.comb += new.tally.used.eq(tally.used)
        with m.If(insert):
            m.d.comb += new.tally.beyond.eq(beyond_pushed)
        with m.Elif(found):
            m.d.comb += new.tally.beyond.eq(tally.beyond)
        with m.Else():
            m.d.comb += new.tally.beyond.eq(beyond_changed)
        new_rank = sum(flags.ahead[i] for i in range(count))
        for i in range(count):
            # Both ways in which ranks change are there before it is known that one of them does.
            rank = tally.ranks[i]
            is_ahead = flags.ahead[i]
            comes = Mux(places.target[i], new_rank[: len(rank)], Mux(is_ahead, rank, rank + 1))
            leaves = Mux(flags.equal[i], count - 1, Mux(is_ahead, rank, rank - 1))
            m.d.comb += [
                new.slots[i].eq(flags.equal[i] | (insert & places.target[i])),
                new.tally.ranks[i].eq(
                    Mux(insert | new.dies, Mux(effect.take, leaves, comes), rank)
                ),
            ]
        return new


_EFFECT = data.StructLayout({"price": 32, "adds": 1, "take": 1, "order": 1, "addend": 32})
"""What a change does to a row; but for the price all zero where the row takes no part."""


def _effect(wanted, price, take, order, shares):
    """Return the effect of a change on a row, if it is wanted there."""
    # With one more, the shares' negative.
    addend = (shares ^ take.replicate(32)) & wanted.replicate(32)
    return Cat(price, wanted & ~take, wanted & take, wanted & order, addend)


def _compare(m, name, slot, price, is_buy):
    """Return what a slot's level is beside a price, by the names of the flags.

    They are kept as they are: mixed into what selects among them they would be slower.
    """
    price_equal = wires.equal(m, f"{name}_equal", slot.level.price, price)
    alone = wires.kept(m, f"{name}_alone", slot.live & (slot.level.orders == 1))
    # Below, or of a buy not above: the bit before decides where prices are equal.
    below = Cat(~is_buy, slot.level.price) < Cat(Const(1, 1), price)
    price_below = wires.kept(m, f"{name}_below", below)
    equal = slot.live & price_equal
    ahead = price_below ^ is_buy
    return {
        "equal": equal,
        "ahead": slot.live & ahead,
        "behind": slot.live & ~ahead,
        "single": price_equal & alone,
    }
