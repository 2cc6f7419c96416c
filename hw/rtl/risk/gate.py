"""The risk gate: every order passes it, and every answer of the venue is counted by it.

What needs nothing of what came before is worked out ahead, in a pipeline. What is left is a loop:
whether an order passes changes what the next one is compared with. So each event is compared with
what is there if the event before passes, and with what is there if not; no decision waits for a sum
that waits for a decision.
"""

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline
from hw.rtl.risk.events import (
    DECISION,
    EVENT,
    MONEY_LIMITS,
    SET_ACCOUNT,
    SET_DESK,
    SET_KILL,
    SET_MARKET,
    SET_SYMBOL,
    AccountKind,
    EventKind,
    fields_of,
    record_layout,
)
from hw.rtl.risk.rules import (
    ACCOUNT,
    ACCOUNTS,
    LEFT,
    NEWEST,
    NO_LIMIT,
    OPEN,
    POSITION,
    SIDE,
    STATE,
    TOP,
    as_newest,
    change,
    price_key,
    repeats,
    rules,
)
from kernels.exposure import MONEY_MAX, POSITION_MAX, TIME_MAX
from kernels.risk import (
    Limits,
    exceeds_quantity,
    forbids_phase,
    notional,
    off_tick,
    outside_band,
)
from protocol.reasons import DenyReason

CLOCK_MHZ = 156.25
SYMBOL_COUNT_MAX = 1 << 15
TRADER_COUNT_MAX = 1 << 10
HEARTBEAT_CYCLES_LIMIT = 1 << 32

# Limits of a symbol that are compared with what is known of the past, and the others.
_LATE = ("position_max", "locate_qty", "duplicate_window_ns")
_EARLY = tuple(name for name in Limits._fields if name not in _LATE)
_MARKET = data.StructLayout({"twice_reference": 33, "halted": 1, "stale": 1, "phase": 3})


class Gate(wiring.Component):
    """Decides on orders, and counts what they did and can still do.

    Everything comes up closed: an order is denied until the host has written limits of its symbol,
    its trader, the desk and the firm, and has released all three kill switches. The heartbeat
    closes the firm's again when it stays away.

    All rules of :mod:`kernels.risk` are checked, and the lowest code wins. An event sees all that
    the events before it have changed, also the one of the cycle before. What is set counts for the
    events of later cycles, all of it at once. Only a kill switch counts for those in the pipeline
    too: the last order that it lets pass is decided in the cycle after the one that sets it.

    Latency is 6 cycles. Throughput is 1 event a cycle: nothing stalls. After reset ``ready`` is low
    while memories are swept, one row a cycle.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two. Orders of others are denied as of an unknown symbol.
    trader_count : int
        Traders; a power of two. Orders of others are denied as by a kill switch.
    desk_count : int
        Desks; a power of two.
    heartbeat_cycles_max : int
        Cycles that may pass from one heartbeat to the next.

    Members
    -------
    ready : ``Out(1)``
        High once memories are swept. Until then nothing may be set or counted, and every order is
        denied.
    heartbeat_stb : ``In(1)``
        The host lives. Without it the firm's kill switch goes on, and stays on until the host
        releases it after the next one.
    i : ``In(stream.Signature(EVENT, always_ready=True))``
        Orders, and what became of them, in the order in which they count.
    i_symbol, i_market, i_account, i_kill, i_desk : ``In(stream.Signature(..., always_ready=True))``
        :data:`SET_SYMBOL`, :data:`SET_MARKET`, :data:`SET_ACCOUNT`, :data:`SET_KILL` and
        :data:`SET_DESK`. Indices that are out of range are ignored.
    o : ``Out(stream.Signature(DECISION, always_ready=True))``
        One decision an event.
    o_state : ``Out(STATE)``
        What is known after an event that passed or was counted. One that was denied changes nothing
        and tells nothing here.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 6

    def __init__(self, symbol_count, trader_count, desk_count, heartbeat_cycles_max):
        _check_power_of_two("symbol_count", symbol_count, SYMBOL_COUNT_MAX)
        _check_power_of_two("trader_count", trader_count, TRADER_COUNT_MAX)
        _check_power_of_two("desk_count", desk_count, TRADER_COUNT_MAX)
        if not isinstance(heartbeat_cycles_max, int):
            raise TypeError(
                f"heartbeat_cycles_max must be an integer, not {heartbeat_cycles_max!r}"
            )
        if not 1 <= heartbeat_cycles_max < HEARTBEAT_CYCLES_LIMIT:
            raise ValueError(
                f"heartbeat_cycles_max must be 1 to {HEARTBEAT_CYCLES_LIMIT - 1}, "
                f"not {heartbeat_cycles_max!r}"
            )
        self.symbol_count = symbol_count
        self.trader_count = trader_count
        self.desk_count = desk_count
        self.heartbeat_cycles_max = heartbeat_cycles_max

        def always(flow, shape):
            return flow(stream.Signature(shape, always_ready=True))

        super().__init__(
            {
                "ready": Out(1),
                "heartbeat_stb": In(1),
                "i": always(In, EVENT),
                "i_symbol": always(In, SET_SYMBOL),
                "i_market": always(In, SET_MARKET),
                "i_account": always(In, SET_ACCOUNT),
                "i_kill": always(In, SET_KILL),
                "i_desk": always(In, SET_DESK),
                "o": always(Out, DECISION),
                "o_state": Out(STATE),
            }
        )

    def elaborate(self, platform):
        m = Module()
        depths = {"trader": self.trader_count, "desk": self.desk_count, "firm": 1}
        kinds = {kind.name.lower(): kind for kind in AccountKind}

        def later(value, cycles, name):
            """Return a value of so many cycles before."""
            for cycle in range(cycles):
                value = held(value, value.shape(), f"{name}_{cycle + 1}")
            return value

        def held(value, shape, name):
            """Return a value a cycle later."""
            after = Signal(shape, name=name, reset_less=True)
            m.d.sync += after.eq(value)
            return after

        def later_stb(value, cycles, name):
            """Return whether something was so many cycles before; nothing was before a reset."""
            for cycle in range(cycles):
                after = Signal(name=f"{name}_{cycle + 1}")
                m.d.sync += after.eq(value)
                value = after
            return value

        # The sweep after reset: every memory is all zero after it, which is closed.
        rows_most = max(2 * self.symbol_count, 2 * self.trader_count, 2 * self.desk_count)
        sweeping = Signal(init=1)
        sweep_address = Signal(range(rows_most))
        m.d.comb += self.ready.eq(~sweeping)
        with m.If(sweeping):
            m.d.sync += sweep_address.eq(sweep_address + 1)
            with m.If(sweep_address == rows_most - 1):
                m.d.sync += sweeping.eq(0)

        def memory(name, shape, depth, address, write, write_address, value, swept=0):
            """Return what a memory has at an address in this cycle."""
            m.submodules[name] = kept = Memory(shape=shape, depth=depth, init=[])
            read_port, write_port = kept.read_port(domain="comb"), kept.write_port()
            size = len(read_port.addr)
            m.d.comb += [
                read_port.addr.eq(address),
                write_port.en.eq(write | sweeping),
                write_port.addr.eq(Mux(sweeping, sweep_address[:size], write_address)),
                _flat(write_port.data).eq(Mux(sweeping, swept, _flat(value))),
            ]
            return read_port.data

        # The events, in each of their stages.
        event = [self.i.payload]
        live = [self.i.valid & ~sweeping]
        for n in range(1, 8):
            event.append(held(event[-1], EVENT, f"s{n}_event"))
            live.append(later_stb(live[-1], 1, f"s{n}_live"))
        s1_knows_symbol = held(
            self.i.payload.symbol_index < self.symbol_count, 1, "s1_knows_symbol"
        )
        s1_knows_trader = held(self.i.payload.trader < self.trader_count, 1, "s1_knows_trader")

        # Stage 0: limits and market of the symbol are read, and the trader's desk.
        asked = event[0]
        set_symbol, set_market = self.i_symbol.payload, self.i_market.payload
        s1_limits = held(
            memory(
                "limits",
                record_layout(Limits, *_LATE),
                self.symbol_count,
                asked.symbol_index,
                self.i_symbol.valid & (set_symbol.symbol_index < self.symbol_count),
                set_symbol.symbol_index,
                Cat(field for name, field in fields_of(set_symbol.limits) if name not in _LATE),
            ),
            record_layout(Limits, *_LATE),
            "s1_limits",
        )
        # What an order needs of the market: :func:`kernels.risk.twice_reference` of its prices.
        seen = set_market.market
        is_book = (seen.bid_price != 0) & (seen.bid_price <= seen.ask_price)
        kept_market = Signal(_MARKET)
        m.d.comb += [
            kept_market.twice_reference.eq(
                Mux(is_book, seen.bid_price + seen.ask_price, seen.last_price << 1)
            ),
            kept_market.halted.eq(seen.halted),
            kept_market.stale.eq(seen.stale),
            kept_market.phase.eq(seen.phase),
        ]
        s1_market = held(
            memory(
                "market",
                _MARKET,
                self.symbol_count,
                asked.symbol_index,
                self.i_market.valid & (set_market.symbol_index < self.symbol_count),
                set_market.symbol_index,
                kept_market,
            ),
            _MARKET,
            "s1_market",
        )
        set_desk = self.i_desk.payload
        s1_desk = held(
            memory(
                "desk_of",
                range(self.desk_count),
                self.trader_count,
                asked.trader,
                self.i_desk.valid
                & (set_desk.trader < self.trader_count)
                & (set_desk.desk < self.desk_count),
                set_desk.trader,
                set_desk.desk,
            ),
            range(self.desk_count),
            "s1_desk",
        )
        desks = {1: s1_desk}
        for n in range(2, 7):
            desks[n] = held(desks[n - 1], range(self.desk_count), f"s{n}_desk")

        # Stages 0 to 2: two products. An order adds the first less the second: its value, less what
        # it has in common with its original at the lower price, as
        # :func:`kernels.risk.added_notional`. An execution adds its value, less that as open.
        quantity = asked.qty[: len(asked.orig_qty)]
        is_execution = asked.kind == EventKind.EXECUTE
        is_cheaper = asked.price < asked.orig_price
        is_smaller = quantity < asked.orig_qty
        s3_first = self._kernel(
            m,
            notional,
            2,
            "first",
            price=held(Mux(is_execution, asked.last_price, asked.price), 32, "s1_first_price"),
            qty=held(quantity, 20, "s1_first_qty"),
        )
        s3_second = self._kernel(
            m,
            notional,
            2,
            "second",
            price=held(
                Mux(is_execution | is_cheaper, asked.price, asked.orig_price), 32, "s1_second_price"
            ),
            qty=held(Mux(is_execution | is_smaller, quantity, asked.orig_qty), 20, "s1_second_qty"),
        )

        # Stages 1 to 4: the rules that need nothing of the past.
        order = event[1]
        at_once = {
            DenyReason.SESSION_NOT_READY: ~order.session,
            DenyReason.UNKNOWN_SYMBOL: ~s1_knows_symbol | (s1_limits.qty_max == 0),
            DenyReason.SYMBOL_HALTED: s1_market.halted,
            DenyReason.BOOK_STALE: s1_market.stale,
            DenyReason.QUANTITY_ZERO: order.qty == 0,
            DenyReason.PRICE_ZERO: order.price == 0,
            DenyReason.UNKNOWN_ORDER: ~order.is_open,
            DenyReason.NO_RING_SLOT: ~order.slot,
            DenyReason.SYMBOL_RESTRICTED: s1_limits.restricted,
        }
        s4_found = {
            reason: later(held(is_found, 1, f"s2_{reason.name.lower()}"), 2, reason.name.lower())
            for reason, is_found in at_once.items()
        }
        s4_found[DenyReason.QUANTITY_EXCEEDS_MAXIMUM] = self._kernel(
            m, exceeds_quantity, 3, order_qty=order.qty, qty_max=s1_limits.qty_max
        )
        s4_found[DenyReason.PHASE_NOT_ALLOWED] = self._kernel(
            m, forbids_phase, 3, phases=s1_limits.phases, phase=s1_market.phase
        )
        s3_notional_max = later(s1_limits.notional_max, 2, "s1_notional_max")
        s4_found[DenyReason.NOTIONAL_EXCEEDS_MAXIMUM] = held(
            s3_first > s3_notional_max, 1, "s4_exceeds_notional"
        )
        s5_found = {
            reason: held(is_found, 1, f"s5_{reason.name.lower()}")
            for reason, is_found in s4_found.items()
        }
        s5_any_found = held(Cat(s4_found.values()).any(), 1, "s5_any_found")
        s5_outside_band = self._kernel(
            m,
            outside_band,
            4,
            price=order.price,
            twice_reference=s1_market.twice_reference,
            price_band_bp=s1_limits.price_band_bp,
        )
        s5_off_tick = self._kernel(m, off_tick, 4, price=order.price, tick_size=s1_limits.tick_size)
        s5_found[DenyReason.PRICE_OUTSIDE_BAND] = s5_outside_band
        s5_found[DenyReason.PRICE_OFF_TICK] = s5_off_tick

        # Stage 3: limits are read, late, so that they need not be carried along; settings take as
        # long to come here. What the event adds to each sum is known.
        asked = event[3]
        is_order = asked.kind == EventKind.ORDER
        is_execution = asked.kind == EventKind.EXECUTE
        is_release = asked.kind == EventKind.RELEASE
        is_message = asked.kind == EventKind.MESSAGE
        s3_set_symbol = later(self.i_symbol.payload, 3, "set_symbol")
        s3_set_symbol_valid = later_stb(self.i_symbol.valid, 3, "set_symbol_valid")
        s4_limits = held(
            memory(
                "late_limits",
                record_layout(Limits, *_EARLY),
                self.symbol_count,
                asked.symbol_index,
                s3_set_symbol_valid & (s3_set_symbol.symbol_index < self.symbol_count),
                s3_set_symbol.symbol_index,
                Cat(field for name, field in fields_of(s3_set_symbol.limits) if name in _LATE),
            ),
            record_layout(Limits, *_EARLY),
            "s4_limits",
        )
        s3_set_account = later(self.i_account.payload, 3, "set_account")
        s3_set_account_valid = later_stb(self.i_account.valid, 3, "set_account_valid")
        s4_account_limits = {}
        for name, index in (("trader", asked.trader), ("desk", desks[3]), ("firm", Const(0))):
            kept = memory(
                f"{name}_limits",
                MONEY_LIMITS,
                depths[name],
                index,
                s3_set_account_valid
                & (s3_set_account.kind == kinds[name])
                & (s3_set_account.index < depths[name]),
                s3_set_account.index,
                s3_set_account.limits,
            )
            s4_account_limits[name] = held(kept, MONEY_LIMITS, f"s4_{name}_limits")

        quantity = asked.qty[: len(asked.orig_qty)]
        more = Mux(quantity > asked.orig_qty, quantity - asked.orig_qty, 0)
        given = Mux(is_execution, quantity, Mux(is_release, asked.qty.as_signed(), 0))
        s4_shares = held(Mux(is_order, more, -given), signed(33), "s4_shares")
        s4_executed = held(
            Mux(is_execution, Mux(asked.buys, quantity, -quantity), 0), signed(21), "s4_executed"
        )
        taken = Mux(is_release, asked.money, Mux(is_message, 0, s3_second))
        s4_open = held(Mux(is_order, s3_first, 0) - taken, signed(55), "s4_open")
        s4_gross = held(Mux(is_order | is_execution, s3_first, 0) - taken, signed(55), "s4_gross")
        s4_net = held(
            Mux(is_execution, Mux(asked.buys, s3_first, -s3_first), 0), signed(53), "s4_net"
        )
        s4_is_order = held(is_order, 1, "s4_is_order")
        s3_knows_trader = later(s1_knows_trader, 2, "s1_knows_trader")
        s3_is_known = later(s1_knows_symbol & s1_knows_trader, 2, "s1_is_known")
        s4_counts = held(Mux(is_message, s3_knows_trader, s3_is_known & ~is_order), 1, "s4_counts")
        s4_ends = held((is_execution | is_release) & asked.ends, 1, "s4_ends")
        s4_tells = held(is_order | is_message, 1, "s4_tells")

        # Stage 4: what is left of each limit, to be compared with what is used of it. A sale has
        # one less, as it takes the complement of a sum for its negative.
        asked = event[4]
        s5_left = Signal(LEFT, reset_less=True)
        m.d.sync += [
            s5_left.is_order.eq(s4_is_order),
            s5_left.counts.eq(s4_counts),
            s5_left.ends.eq(s4_ends),
            s5_left.tells.eq(s4_tells),
            s5_left.shares.eq(s4_shares),
            s5_left.executed.eq(s4_executed),
            s5_left.executed_above.eq(s4_executed + POSITION_MAX),
            s5_left.open.eq(s4_open),
            s5_left.gross.eq(s4_gross),
            s5_left.net.eq(s4_net),
            s5_left.net_above.eq(s4_net + MONEY_MAX),
            s5_left.position.eq(s4_limits.position_max - s4_shares - ~asked.buys),
            s5_left.locate.eq(
                Mux(asked.buys, NO_LIMIT, s4_limits.locate_qty - s4_shares - 1),
            ),
            s5_left.window_begin.eq(
                Mux(
                    (s4_limits.duplicate_window_ns != 0) & (asked.orig_qty == 0),
                    asked.now_ns - s4_limits.duplicate_window_ns,
                    TIME_MAX,
                )
            ),
            s5_left.key.eq(price_key(asked.price, asked.buys)),
        ]
        for name, limits in s4_account_limits.items():
            left = s5_left[name]
            m.d.sync += [
                left.gross.eq(limits.gross_max - s4_open),
                left.net.eq(limits.net_max - s4_open - ~asked.buys),
                left.due_last_ns.eq(
                    Mux(
                        (limits.burst_ns == 0) | (limits.burst_ns < limits.interval_ns),
                        -1,  # No message is in time.
                        asked.now_ns + (limits.burst_ns - limits.interval_ns),
                    )
                ),
                left.interval_ns.eq(limits.interval_ns),
                left.next_due_ns.eq(asked.now_ns + limits.interval_ns),
            ]

        # Stages 3 to 6: the state. It is read in stage 3 and written in stage 6, and what the three
        # events between change is put in. Whether the event in stage 5 passes is known a cycle
        # later, so that the one behind it takes two states to stage 5: ``denied`` is right if the
        # event before was denied, ``passed`` if it passed. An answer is an event that passes.
        symbol_size = (self.symbol_count - 1).bit_length()
        sizes = {name: (depth - 1).bit_length() for name, depth in depths.items()}

        def symbol_at(n):
            return event[n].symbol_index[:symbol_size]

        def side_at(n):
            return Cat(event[n].buys, symbol_at(n))

        def opposite_at(n):
            return Cat(~event[n].buys, symbol_at(n))

        def account_at(name, n):
            index = {"trader": event[n].trader, "desk": desks.get(n), "firm": Const(0)}[name]
            return index[: sizes[name]]

        def account_side_at(name, n):
            return Cat(event[n].buys, account_at(name, n))

        def state(name, shape, place, read_place=None, source=None, swept=0):
            """Return a row of state as the event in stage 5 may find it.

            ``place`` tells the row that an event of a stage changes. What is read may be another
            one, of ``read_place``, and is then as the events before have left it in ``source``.
            ``swept`` is what there is after the sweep.
            """
            read_place = read_place or place
            row = _Row(name, shape)
            source = source or row
            # Whether the event that is so far on, when this one is in stage 4, changes its row.
            next_5 = held(read_place(3) == place(4), 1, f"s4_{name}_next_5")
            next_6 = held(read_place(3) == place(5), 1, f"s4_{name}_next_6")
            next_7 = held((read_place(3) == place(6)) & row.s6_passes, 1, f"s4_{name}_next_7")
            kept = memory(
                name,
                shape,
                1 << len(place(6)),
                read_place(3),
                row.s6_passes,
                place(6),
                source.s6_new,
                swept,
            )
            s4_kept = held(kept, shape, f"s4_{name}_kept")
            s7_new = held(source.s6_new, shape, f"{name}_s7_new")
            earlier = Mux(
                next_6 & row.s6_passes,
                _flat(source.s6_new),
                Mux(next_7, _flat(s7_new), _flat(s4_kept)),
            )
            m.d.sync += [
                row.denied.eq(earlier),
                row.passed.eq(Mux(next_5, _flat(source.new), earlier)),
            ]
            if source is row:
                new = Mux(row.s6_passes, _flat(row.new_passed), _flat(row.new_denied))
                m.d.comb += row.new.eq(new)
                m.d.sync += row.s6_new.eq(row.new)
            return row

        no_order = Signal(SIDE)  # The keys of no price.
        for name in ("best_key", "behind_key"):
            m.d.comb += no_order[name].eq(price_key(Const(0, 32), sweep_address[0]))
        rows = {
            "position": state("position", POSITION, symbol_at),
            "side": state("side", SIDE, side_at, swept=_flat(no_order)),
            "top": state("top", TOP, side_at),
        }
        rows["opposite"] = state("opposite", TOP, side_at, opposite_at, rows["top"])
        for name in depths:
            rows[name] = state(name, ACCOUNT, partial(account_at, name))
            rows[f"{name}_open"] = state(f"{name}_open", OPEN, partial(account_side_at, name))

        # The newest order of a side is the event before, if it passes, or what is kept.
        s6_passes = Signal()
        s6_is_order = held(s5_left.is_order, 1, "s6_is_order")
        s4_follows_6 = held(side_at(3) == side_at(5), 1, "s4_follows_6")
        s4_follows_7 = held((side_at(3) == side_at(6)) & s6_is_order & s6_passes, 1, "s4_follows_7")
        kept = memory(
            "newest",
            NEWEST,
            2 * self.symbol_count,
            side_at(3),
            s6_is_order & s6_passes,
            side_at(6),
            as_newest(event[6]),
        )
        s4_newest = held(kept, NEWEST, "s4_newest")
        s5_newest = Signal(NEWEST, reset_less=True)
        m.d.sync += s5_newest.eq(
            Mux(
                s4_follows_6 & s6_is_order & s6_passes,
                as_newest(event[6]),
                Mux(s4_follows_7, as_newest(event[7]), _flat(s4_newest)),
            )
        )
        s5_follows = held(s5_left.is_order & (side_at(4) == side_at(5)), 1, "s5_follows")
        s4_before = data.View(NEWEST, as_newest(event[5]))
        s5_repeats_before = held(repeats(event[4], s4_before), 1, "s5_repeats_before")

        # Stage 5: the rules and the changes, for both states, and whether the event passes. A kill
        # switch is looked at as late as can be.
        asked = event[5]
        repeats_kept = repeats(asked, s5_newest) & (s5_newest.at_ns > s5_left.window_begin)
        repeats_before = s5_repeats_before & (event[6].now_ns > s5_left.window_begin)
        s5_killed = ~self._released(m, memory, sweeping, asked.trader, desks[5])
        s5_killed |= ~later(s1_knows_trader, 4, "s5_knows_trader") | ~live[5]
        goes_uncompared = live[5] & s5_left.counts
        may_go = s5_left.is_order & ~(s5_killed | s5_any_found | s5_outside_band | s5_off_tick)
        found, goes = {}, {}
        for which in ("denied", "passed"):
            before = {name: getattr(row, which) for name, row in rows.items()}
            after = {name: getattr(row, f"new_{which}") for name, row in rows.items()}
            found[which] = rules(asked, before, s5_left)
            change(m, asked, before, after, s5_left)
            is_newest_before = s5_follows if which == "passed" else Const(0, 1)
            found[which][DenyReason.DUPLICATE_ORDER] = Mux(
                is_newest_before, repeats_before, repeats_kept
            )
            goes[which] = goes_uncompared | (may_go & ~Cat(found[which].values()).any())
        for passes in (s6_passes, *(row.s6_passes for row in rows.values())):
            m.d.sync += passes.eq(Mux(passes, goes["passed"], goes["denied"]))
        s6_found = {
            reason: held(Mux(s6_passes, found["passed"][reason], is_found), 1, f"s6_{reason.name}")
            for reason, is_found in found["denied"].items()
        }
        s6_early = held(Mux(s5_killed, DenyReason.KILL_SWITCH, _lowest(s5_found)), 5, "s6_early")

        # Stage 6: the decision is told, and the state written.
        late = _lowest(s6_found)
        is_early = (s6_early != 0) & ((late == 0) | (s6_early < late))
        m.d.comb += [
            self.o.valid.eq(later_stb(self.i.valid, 6, "valid")),
            self.o.payload.kind.eq(event[6].kind),
            self.o.payload.reason.eq(
                Mux(s6_is_order, Mux(is_early, s6_early, late), DenyReason.NONE)
            ),
            self.o_state.position.eq(rows["position"].s6_new),
        ]
        for name, field in fields_of(rows["side"].s6_new):
            if name.endswith("_key"):
                price = price_key(field, event[6].buys)
                m.d.comb += self.o_state.side[name.replace("key", "price")].eq(price)
            else:
                m.d.comb += self.o_state.side[name].eq(field)
        for name in ACCOUNTS:
            known = Cat(_flat(rows[name].s6_new), _flat(rows[f"{name}_open"].s6_new))
            m.d.comb += self.o_state[name].eq(known)
        return m

    def _released(self, m, memory, sweeping, trader, desk):
        """Return whether no kill switch of a trader, its desk or the firm is on now.

        They are kept as what was released. The firm's goes on when the host's heartbeat stays away.
        """
        silence = Signal(range(self.heartbeat_cycles_max + 1), init=self.heartbeat_cycles_max)
        lost = Signal()
        m.d.comb += lost.eq(silence == self.heartbeat_cycles_max)
        with m.If(self.heartbeat_stb):
            m.d.sync += silence.eq(0)
        with m.Elif(~lost):
            m.d.sync += silence.eq(silence + 1)
        told = self.i_kill.payload
        firm_released = Signal()
        with m.If(lost):
            m.d.sync += firm_released.eq(0)
        with m.Elif(self.i_kill.valid & (told.kind == AccountKind.FIRM)):
            m.d.sync += firm_released.eq(~told.on)
        released = firm_released & ~lost & ~sweeping
        for kind, depth, index in (
            (AccountKind.TRADER, self.trader_count, trader),
            (AccountKind.DESK, self.desk_count, desk),
        ):
            released &= memory(
                f"{kind.name.lower()}_released",
                1,
                depth,
                index,
                self.i_kill.valid & (told.kind == kind) & (told.index < depth),
                told.index,
                ~told.on,
            )
        return released

    def _kernel(self, m, kernel, latency, name=None, **arguments):
        """Return what a kernel makes of arguments, so many cycles later. Others are zero."""
        plan = schedule(kernel, clock_mhz=CLOCK_MHZ, latency_max=latency)
        m.submodules[name or kernel.name] = pipeline = Pipeline(plan)
        for argument, value in arguments.items():
            m.d.comb += getattr(pipeline, f"i_{argument}").eq(value)
        result = pipeline.o_result
        for cycle in range(plan.latency, latency):
            after = Signal(result.shape(), name=f"{kernel.name}_{cycle + 1}", reset_less=True)
            m.d.sync += after.eq(result)
            result = after
        return result


class _Row:
    """A row of state in stage 5, in the two ways that an event may find and leave it."""

    def __init__(self, name, shape):
        def made(which, reset_less=False):
            return Signal(shape, name=f"{name}_{which}", reset_less=reset_less)

        self.denied, self.passed = made("s5_denied", True), made("s5_passed", True)
        self.new_denied, self.new_passed = made("s5_new_denied"), made("s5_new_passed")
        self.new, self.s6_new = made("s5_new"), made("s6_new", True)
        # Whether the event in stage 6 passes: one a row, as one for all would drive too much.
        self.s6_passes = Signal(name=f"{name}_s6_passes")


def _flat(value):
    """Return a record as its bits."""
    return value.as_value() if isinstance(value, data.View) else value


def _lowest(found):
    """Return the lowest of the reasons that were found, by reason; 0 is none."""
    lowest = Const(DenyReason.NONE, 5)
    for reason, is_found in sorted(found.items(), reverse=True):
        lowest = Mux(is_found, Const(reason, 5), lowest)
    return lowest


def _check_power_of_two(name, value, most):
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not 2 <= value <= most or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, 2 to {most}, not {value!r}")
