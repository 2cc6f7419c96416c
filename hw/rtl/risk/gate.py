"""The risk gate: every order passes it, and every answer of the venue is counted by it.

What needs nothing of what came before is worked out ahead, in a pipeline. What is left is a loop:
whether an order passes changes what the next one is compared with. So each event is compared with
what is there if the event before passes, and with what is there if not; no decision waits for a sum
that waits for a decision.
"""

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.risk.ahead import judge, leave, multiply, read
from hw.rtl.risk.events import (
    DECISION,
    EVENT,
    SET_ACCOUNT,
    SET_DESK,
    SET_KILL,
    SET_MARKET,
    SET_SYMBOL,
    AccountKind,
    fields_of,
)
from hw.rtl.risk.rules import (
    ACCOUNT,
    ACCOUNTS,
    NEWEST,
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
from hw.rtl.risk.stages import Stages, flat
from protocol.reasons import DenyReason

SYMBOL_COUNT_MAX = 1 << 15
TRADER_COUNT_MAX = 1 << 10
HEARTBEAT_CYCLES_LIMIT = 1 << 32


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

    def __init__(
        self, symbol_count: int, trader_count: int, desk_count: int, heartbeat_cycles_max: int
    ):
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

        rows_most = max(2 * self.symbol_count, 2 * self.trader_count, 2 * self.desk_count)
        # After the sweep nothing is known, which is closed.
        stages = Stages(m, rows_most)
        held, later, later_stb, memory = stages.held, stages.later, stages.later_stb, stages.memory
        m.d.comb += self.ready.eq(~stages.sweeping)

        # The events, in each of their stages.
        event = [self.i.payload]
        live = [self.i.valid & ~stages.sweeping]
        for n in range(1, 8):
            event.append(held(event[-1], EVENT, f"s{n}_event"))
            live.append(later_stb(live[-1], 1, f"s{n}_live"))
        s1_knows_symbol = held(
            self.i.payload.symbol_index < self.symbol_count, 1, "s1_knows_symbol"
        )
        s1_knows_trader = held(self.i.payload.trader < self.trader_count, 1, "s1_knows_trader")

        # Stages 0 to 4: what needs nothing of the past.
        s1_limits, s1_market, desks = read(self, stages, event)
        s3_first, s3_second = multiply(stages, event)
        judged = judge(stages, event, s1_knows_symbol, s1_limits, s1_market, s3_first)
        s1_known = (s1_knows_symbol, s1_knows_trader)
        s5_left = leave(self, stages, event, desks, s1_known, s3_first, s3_second)

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
                flat(source.s6_new),
                Mux(next_7, flat(s7_new), flat(s4_kept)),
            )
            m.d.sync += [
                row.denied.eq(earlier),
                row.passed.eq(Mux(next_5, flat(source.new), earlier)),
            ]
            if source is row:
                chosen = Mux(row.s6_passes, flat(row.passed), flat(row.denied))
                m.d.comb += row.resolved.eq(chosen)
                m.d.sync += row.s6_new.eq(row.new)
            return row

        no_order = Signal(SIDE)  # The keys of no price.
        for name in ("best_key", "behind_key"):
            m.d.comb += no_order[name].eq(price_key(Const(0, 32), stages.sweep_address[0]))
        rows = {
            "position": state("position", POSITION, symbol_at),
            "side": state("side", SIDE, side_at, swept=flat(no_order)),
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
                Mux(s4_follows_7, as_newest(event[7]), flat(s4_newest)),
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
        s5_killed = ~self._released(m, stages, asked.trader, desks[5])
        s5_killed |= ~later(s1_knows_trader, 4, "s5_knows_trader") | ~live[5]
        goes_uncompared = live[5] & s5_left.counts
        may_go = s5_left.is_order & ~(
            s5_killed | judged.any_found | judged.outside_band | judged.off_tick
        )
        # Whether the order sells, in registers that synthesis does not merge, as each drives much.
        s5_sells = {
            name: Signal(name=f"s5_{name}_sells", **reset)
            for name, reset in zip(
                ACCOUNTS, ({"reset_less": True}, {"init": 0}, {"init": 1}), strict=True
            )
        }
        m.d.sync += [each.eq(~event[4].buys) for each in s5_sells.values()]
        before, found, goes = {}, {}, {}
        for which in ("denied", "passed"):
            before[which] = {name: getattr(row, which) for name, row in rows.items()}
            found[which] = rules(asked, before[which], s5_left, s5_sells)
            is_newest_before = s5_follows if which == "passed" else Const(0, 1)
            found[which][DenyReason.DUPLICATE_ORDER] = Mux(
                is_newest_before, repeats_before, repeats_kept
            )
            goes[which] = goes_uncompared | (may_go & ~Cat(found[which].values()).any())
        resolved = {name: row.resolved for name, row in rows.items()}
        after = {name: row.new for name, row in rows.items()}
        passed = {name: row.s6_passes for name, row in rows.items()}
        change(m, asked, s5_left, passed, before, resolved, after)
        for passes in (s6_passes, *(row.s6_passes for row in rows.values())):
            m.d.sync += passes.eq(Mux(passes, goes["passed"], goes["denied"]))
        s6_found = {
            reason: held(Mux(s6_passes, found["passed"][reason], is_found), 1, f"s6_{reason.name}")
            for reason, is_found in found["denied"].items()
        }
        s6_early = held(
            Mux(s5_killed, DenyReason.KILL_SWITCH, _lowest(judged.found)), 5, "s6_early"
        )

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
            known = Cat(flat(rows[name].s6_new), flat(rows[f"{name}_open"].s6_new))
            m.d.comb += self.o_state[name].eq(known)
        return m

    def _released(self, m, stages, trader, desk):
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
        released = firm_released & ~lost
        for kind, depth, index in (
            (AccountKind.TRADER, self.trader_count, trader),
            (AccountKind.DESK, self.desk_count, desk),
        ):
            released &= stages.memory(
                f"{kind.name.lower()}_released",
                1,
                depth,
                index,
                self.i_kill.valid & (told.kind == kind) & (told.index < depth),
                told.index,
                ~told.on,
            )
        return released


class _Row:
    """A row of state in stage 5, in the two ways that an event may find it, and as it leaves it."""

    def __init__(self, name, shape):
        def made(which, reset_less=False):
            return Signal(shape, name=f"{name}_{which}", reset_less=reset_less)

        self.denied, self.passed = made("s5_denied", True), made("s5_passed", True)
        self.resolved, self.new = made("s5_resolved"), made("s5_new")
        self.s6_new = made("s6_new", True)
        # Whether the event in stage 6 passes: one a row, as one for all would drive too much.
        self.s6_passes = Signal(name=f"{name}_s6_passes")


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
