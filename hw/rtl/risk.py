"""The risk gate: every order passes it, and every answer of the venue is counted by it.

The rules that need nothing of what came before are :func:`kernels.risk.reason_of_order`, compiled;
so are the products. What the others compare with is worked out ahead as well: ``used + asked >
limit`` is ``used > limit - asked``, where only ``used`` is known late. An order is compared with
what is used if the order before it passes, and with what is used if not: so no decision waits for
a sum that waits for a decision.
"""

from functools import partial

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.hls.schedule import schedule
from hw.hls.to_amaranth import Pipeline, leaf_shape
from kernels.exposure import MONEY_MAX, OPEN_ORDERS_MAX, POSITION_MAX, Newest, Rate
from kernels.risk import (
    LevelLimits,
    Limits,
    Market,
    added_notional,
    notional,
    reason_of_order,
)
from kernels.types import kernel_type
from protocol.reasons import DenyReason

CLOCK_MHZ = 156.25
SYMBOL_COUNT_MAX = 1 << 15
TRADER_COUNT_MAX = 1 << 10
HEARTBEAT_CYCLES_LIMIT = 1 << 32


def _layout(record, *left_out):
    """Return the layout of a kernel's record, without some of its fields."""
    return data.StructLayout(
        {name: leaf_shape(kind) for name, kind in kernel_type(record).items if name not in left_out}
    )


def _fields(view):
    """Return the fields of a record with their names, in order."""
    return [(name, view[name]) for name in view.shape().members]


# Limits of a symbol that are compared with what is known of the past, and the others.
_LATE = ("position_max", "locate_qty", "duplicate_window_ns")
_EARLY = tuple(name for name in Limits._fields if name not in _LATE)


class EventKind(enum.Enum, shape=2):
    """What an event asks the gate."""

    ORDER = 0
    """Decide on an order or a replacement, and count it if it passes."""
    EXECUTE = 1
    """Count an execution of ``qty`` shares at ``last_price``, open at ``price``."""
    RELEASE = 2
    """Count ``qty`` shares and ``money`` as open no longer; both have a sign."""
    MESSAGE = 3
    """Count a message that is not decided on, such as a cancel."""


EVENT = data.StructLayout(
    {
        "kind": EventKind,
        "symbol_index": 16,
        "trader": 10,
        "buys": 1,
        "qty": 32,
        "price": 32,
        "orig_qty": 20,
        "orig_price": 32,
        "last_price": 32,
        "money": signed(54),
        "ends": 1,
        "session": 1,
        "is_open": 1,
        "slot": 1,
        "now_ns": 62,
    }
)
"""An order, or what became of one; fields that a kind does not have are without meaning.

``orig_qty`` and ``orig_price`` are those that a replacement's original counts as open, zero for a
new order. ``is_open``: the original is open; set for a new order. ``ends``: an order of ``price``
is open no longer. ``session`` and ``slot`` are those of :class:`kernels.risk.Ready`. Prices and
money in 1e-4 USD, quantities in shares.
"""


class AccountKind(enum.Enum, shape=2):
    """Whose limits or kill switch."""

    TRADER = 0
    DESK = 1
    FIRM = 2


_MONEY_LIMITS = data.StructLayout(
    {**_layout(LevelLimits).members, **_layout(Rate, "due_ns").members}
)

SET_SYMBOL = data.StructLayout({"symbol_index": 16, "limits": _layout(Limits)})
"""All limits of a symbol, as :class:`kernels.risk.Limits` has them."""

SET_MARKET = data.StructLayout({"symbol_index": 16, "market": _layout(Market)})
"""What is known of a symbol's market, as :class:`kernels.risk.Market` has it."""

SET_ACCOUNT = data.StructLayout({"kind": AccountKind, "index": 10, "limits": _MONEY_LIMITS})
"""All limits of a trader, a desk or the firm, as :class:`kernels.risk.LevelLimits` and
:class:`kernels.exposure.Rate` have them."""

SET_KILL = data.StructLayout({"kind": AccountKind, "index": 10, "on": 1})
"""The kill switch of a trader, a desk or the firm."""

SET_DESK = data.StructLayout({"trader": 10, "desk": 10})
"""The desk of a trader: 0 for each one after reset."""

_SIDE = data.StructLayout(
    {
        "open_qty": 32,
        "orders": 16,
        "best_orders": 16,
        "best_price": 32,
        "behind_price": 32,
        "newest": _layout(Newest),
    }
)
_POSITION = data.StructLayout({"shares": signed(32)})
_TOP = data.StructLayout({"price": 32})
_ACCOUNTS = ("trader", "desk", "firm")
_ACCOUNT = data.StructLayout({"net": signed(57), "gross": 56, "due_ns": 62})
_OPEN = data.StructLayout({"money": 56})

_LEFT = data.StructLayout(
    {
        **dict.fromkeys(("is_order", "counts", "ends", "tells", "repeatable"), 1),
        "shares": signed(33),
        "executed": signed(21),
        **dict.fromkeys(("open", "gross"), signed(55)),
        "net": signed(53),
        **dict.fromkeys(("position", "locate"), signed(35)),
        "window_begin": signed(63),
        **dict.fromkeys(
            _ACCOUNTS,
            data.StructLayout(
                {
                    **dict.fromkeys(("gross", "net"), signed(58)),
                    "due_last_ns": signed(64),
                    "never": 1,
                    "interval_ns": 32,
                    "next_due_ns": 63,
                }
            ),
        ),
    }
)
"""What is known of an event before its state: what it adds to each sum, and what the limits leave
for what was there before. ``counts``: it is no order, and is counted; ``ends``: as of an event;
``tells``: it is a message."""

STATE = data.StructLayout(
    {
        "position": signed(32),
        "side": _SIDE,
        **{name: data.StructLayout({**_ACCOUNT.members, "open_money": 56}) for name in _ACCOUNTS},
    }
)
"""What is known after an event of its symbol, of its side of the symbol, and of its accounts with
what they have open on that side: the fields of the records in :mod:`kernels.exposure`."""

DECISION = data.StructLayout({"kind": EventKind, "reason": 5})
"""Of an order why it must not leave, a ``DenyReason``; zero if it may, and for other events."""


class Gate(wiring.Component):
    """Decides on orders, and counts what they did and can still do.

    Everything comes up closed: an order is denied until the host has written limits of its symbol,
    its trader, the desk and the firm, and has released all three kill switches. The heartbeat
    closes the firm's again when it stays away.

    All rules of :mod:`kernels.risk` are checked, and the lowest code wins. An event sees all that
    the events before it have changed, also the one of the cycle before. What is set counts for the
    events of later cycles, all of it at once.

    Latency is 7 cycles. Throughput is 1 event a cycle: nothing stalls. After reset ``ready`` is low
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
        With ``o.valid``: what is known after the event.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 7

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
        rows = max(2 * self.symbol_count, 2 * self.trader_count, 2 * self.desk_count)
        sweeping = Signal(init=1)
        sweep_address = Signal(range(rows))
        m.d.comb += self.ready.eq(~sweeping)
        with m.If(sweeping):
            m.d.sync += sweep_address.eq(sweep_address + 1)
            with m.If(sweep_address == rows - 1):
                m.d.sync += sweeping.eq(0)

        def memory(name, shape, depth, address, write, write_address, value):
            """Return what a memory has at an address in this cycle."""
            m.submodules[name] = kept = Memory(shape=shape, depth=depth, init=[])
            read_port, write_port = kept.read_port(domain="comb"), kept.write_port()
            size = len(read_port.addr)
            flat = value.as_value() if isinstance(value, data.View) else value
            m.d.comb += [
                read_port.addr.eq(address),
                write_port.en.eq(write | sweeping),
                write_port.addr.eq(Mux(sweeping, sweep_address[:size], write_address)),
            ]
            target = write_port.data
            target = target.as_value() if isinstance(target, data.View) else target
            m.d.comb += target.eq(Mux(sweeping, 0, flat))
            return read_port.data

        # The events, in each of their stages.
        valid = [self.i.valid]
        live_0 = self.i.valid & ~sweeping
        event = [self.i.payload]
        for n in range(1, 8):
            valid.append(later_stb(valid[-1], 1, f"s{n}_valid"))
            event.append(held(event[-1], EVENT, f"s{n}_event"))
        known_symbol = held(self.i.payload.symbol_index < self.symbol_count, 1, "s1_known_symbol")
        known_trader = held(self.i.payload.trader < self.trader_count, 1, "s1_known_trader")

        # Stage 0: limits and market of the symbol are read, and the trader's desk.
        asked = event[0]
        set_symbol, set_market = self.i_symbol.payload, self.i_market.payload
        symbol_limits = memory(
            "limits",
            _layout(Limits, *_LATE),
            self.symbol_count,
            asked.symbol_index,
            self.i_symbol.valid & (set_symbol.symbol_index < self.symbol_count),
            set_symbol.symbol_index,
            Cat(field for name, field in _fields(set_symbol.limits) if name not in _LATE),
        )
        s1_limits = held(symbol_limits, _layout(Limits, *_LATE), "s1_limits")
        market = memory(
            "market",
            _layout(Market),
            self.symbol_count,
            asked.symbol_index,
            self.i_market.valid & (set_market.symbol_index < self.symbol_count),
            set_market.symbol_index,
            set_market.market,
        )
        s1_market = held(market, _layout(Market), "s1_market")
        set_desk, set_kill = self.i_desk.payload, self.i_kill.payload
        desk = memory(
            "desk_of",
            range(self.desk_count),
            self.trader_count,
            asked.trader,
            self.i_desk.valid
            & (set_desk.trader < self.trader_count)
            & (set_desk.desk < self.desk_count),
            set_desk.trader,
            set_desk.desk,
        )
        s1_desk = held(desk, range(self.desk_count), "s1_desk")

        # Kill switches, as what was released. The trader's and the firm's are read in stage 0, the
        # desk's in stage 1, where a setting comes a cycle later as well.
        silence = Signal(range(self.heartbeat_cycles_max + 1), init=self.heartbeat_cycles_max)
        lost = Signal()
        m.d.comb += lost.eq(silence == self.heartbeat_cycles_max)
        with m.If(self.heartbeat_stb):
            m.d.sync += silence.eq(0)
        with m.Elif(~lost):
            m.d.sync += silence.eq(silence + 1)
        firm_released = Signal()
        with m.If(lost):
            m.d.sync += firm_released.eq(0)
        with m.Elif(self.i_kill.valid & (set_kill.kind == AccountKind.FIRM)):
            m.d.sync += firm_released.eq(~set_kill.on)
        trader_released = memory(
            "trader_released",
            1,
            self.trader_count,
            asked.trader,
            self.i_kill.valid
            & (set_kill.kind == AccountKind.TRADER)
            & (set_kill.index < self.trader_count),
            set_kill.index,
            ~set_kill.on,
        )
        s1_released = held(trader_released & firm_released & ~lost & ~sweeping, 1, "s1_released")
        s1_set_kill = held(set_kill, SET_KILL, "s1_set_kill")
        s1_set_kill_valid = later_stb(self.i_kill.valid, 1, "s1_set_kill_valid")
        desk_released = memory(
            "desk_released",
            1,
            self.desk_count,
            s1_desk,
            s1_set_kill_valid
            & (s1_set_kill.kind == AccountKind.DESK)
            & (s1_set_kill.index < self.desk_count),
            s1_set_kill.index,
            ~s1_set_kill.on,
        )
        s2_killed = held(~(desk_released & s1_released & known_trader), 1, "s2_killed")
        s6_killed = later(s2_killed, 4, "s2_killed")

        # Stages 1 to 5: what needs nothing of the past.
        order = event[1]
        s6_reason = self._kernel(
            m,
            reason_of_order,
            5,
            order_order_qty=order.qty,
            order_price=order.price,
            ready_session=order.session,
            ready_order=order.is_open,
            ready_slot=order.slot,
            **{f"market_{name}": field for name, field in _fields(s1_market)},
            **{f"limits_{name}": field for name, field in _fields(s1_limits) if name != "qty_max"},
            limits_qty_max=Mux(known_symbol, s1_limits.qty_max, 0),
        )

        # Stages 0 to 3: products.
        quantity = asked.qty[: len(asked.orig_qty)]
        s4_added = self._kernel(
            m,
            added_notional,
            4,
            price=asked.price,
            order_qty=quantity,
            orig_price=asked.orig_price,
            orig_qty=asked.orig_qty,
        )
        s2_as_open = self._kernel(m, notional, 2, "as_open", price=asked.price, qty=quantity)
        s2_executed = self._kernel(m, notional, 2, "executed", price=asked.last_price, qty=quantity)
        s3_gross = held(s2_executed - s2_as_open, signed(53), "s3_gross")
        s4_gross = later(s3_gross, 1, "s3_gross")
        s4_as_open = later(s2_as_open, 2, "s2_as_open")
        s4_executed = later(s2_executed, 2, "s2_executed")

        # Stage 4: limits are read, late, so that they need not be carried along; settings take as
        # long to come here. What the event adds to each sum is known.
        asked = event[4]
        is_order = asked.kind == EventKind.ORDER
        is_execution = asked.kind == EventKind.EXECUTE
        is_release = asked.kind == EventKind.RELEASE
        s4_set_symbol = later(self.i_symbol.payload, 4, "set_symbol")
        s4_set_symbol_valid = later_stb(self.i_symbol.valid, 4, "set_symbol_valid")
        late = memory(
            "late_limits",
            _layout(Limits, *_EARLY),
            self.symbol_count,
            asked.symbol_index,
            s4_set_symbol_valid & (s4_set_symbol.symbol_index < self.symbol_count),
            s4_set_symbol.symbol_index,
            Cat(field for name, field in _fields(s4_set_symbol.limits) if name in _LATE),
        )
        s5_limits = held(late, _layout(Limits, *_EARLY), "s5_limits")
        s4_set_account = later(self.i_account.payload, 4, "set_account")
        s4_set_account_valid = later_stb(self.i_account.valid, 4, "set_account_valid")
        s4_desk = later(s1_desk, 3, "s1_desk")
        accounts = {"trader": asked.trader, "desk": s4_desk, "firm": Const(0)}
        s5_account_limits = {}
        for name, index in accounts.items():
            kept = memory(
                f"{name}_limits",
                _MONEY_LIMITS,
                depths[name],
                index,
                s4_set_account_valid
                & (s4_set_account.kind == kinds[name])
                & (s4_set_account.index < depths[name]),
                s4_set_account.index,
                s4_set_account.limits,
            )
            s5_account_limits[name] = held(kept, _MONEY_LIMITS, f"s5_{name}_limits")

        quantity = asked.qty[: len(asked.orig_qty)]
        more = Mux(quantity > asked.orig_qty, quantity - asked.orig_qty, 0)
        shares = Mux(
            is_order,
            more,
            Mux(is_execution, -quantity, Mux(is_release, -asked.qty.as_signed(), 0)),
        )
        s5_shares = held(shares, signed(33), "s5_shares")
        s5_executed = held(
            Mux(is_execution, Mux(asked.buys, quantity, -quantity), 0), signed(21), "s5_executed"
        )
        back = Mux(is_release, -asked.money, 0)
        s5_open = held(
            Mux(is_order, s4_added, Mux(is_execution, -s4_as_open, back)), signed(55), "s5_open"
        )
        s5_gross = held(
            Mux(is_order, s4_added, Mux(is_execution, s4_gross, back)), signed(55), "s5_gross"
        )
        s5_net = held(
            Mux(is_execution, Mux(asked.buys, s4_executed, -s4_executed), 0), signed(53), "s5_net"
        )
        is_known = later(known_symbol & known_trader, 3, "s1_is_known")
        is_message = asked.kind == EventKind.MESSAGE
        knows_trader = later(known_trader, 3, "s1_known_trader")
        s5_counts = held(Mux(is_message, knows_trader, is_known & ~is_order), 1, "s5_counts")
        s5_ends = held((is_execution | is_release) & asked.ends, 1, "s5_ends")
        s5_tells = held(is_order | is_message, 1, "s5_tells")
        s5_is_order = held(is_order, 1, "s5_is_order")

        # Stage 5: what is left of each limit, to be compared with what is used of it. A sale has
        # one less, as it takes the complement of a sum for its negative.
        asked = event[5]
        s6_left = Signal(_LEFT, reset_less=True)
        m.d.sync += [
            s6_left.is_order.eq(s5_is_order),
            s6_left.counts.eq(s5_counts),
            s6_left.ends.eq(s5_ends),
            s6_left.tells.eq(s5_tells),
            s6_left.shares.eq(s5_shares),
            s6_left.executed.eq(s5_executed),
            s6_left.open.eq(s5_open),
            s6_left.gross.eq(s5_gross),
            s6_left.net.eq(s5_net),
            s6_left.position.eq(s5_limits.position_max - s5_shares - ~asked.buys),
            s6_left.locate.eq(s5_limits.locate_qty - s5_shares - ~asked.buys),
            s6_left.window_begin.eq(asked.now_ns - s5_limits.duplicate_window_ns),
            s6_left.repeatable.eq((s5_limits.duplicate_window_ns != 0) & (asked.orig_qty == 0)),
        ]
        for name, limits in s5_account_limits.items():
            left = s6_left[name]
            m.d.sync += [
                left.gross.eq(limits.gross_max - s5_open),
                left.net.eq(limits.net_max - s5_open - ~asked.buys),
                left.due_last_ns.eq(asked.now_ns + (limits.burst_ns - limits.interval_ns)),
                left.never.eq((limits.burst_ns == 0) | (limits.burst_ns < limits.interval_ns)),
                left.interval_ns.eq(limits.interval_ns),
                left.next_due_ns.eq(asked.now_ns + limits.interval_ns),
            ]

        # State is read in stage 5, and written in stage 7. Whether the event before passes is known
        # only at the end of stage 6, so that each event has two states there: ``denied`` is right
        # if the one before was denied, ``passed`` if it passed. Each is compared and changed, and
        # then one is dropped. An answer is an event that always passes.
        s7_passes = Signal()
        live = [live_0]
        for n in range(1, 8):
            live.append(later_stb(live[-1], 1, f"s{n}_live"))
        desks = {4: s4_desk}
        for n in (5, 6, 7):
            desks[n] = held(desks[n - 1], range(self.desk_count), f"s{n}_desk")
        symbol_size = (self.symbol_count - 1).bit_length()
        sizes = {name: (depth - 1).bit_length() for name, depth in depths.items()}

        def symbol_at(n):
            return event[n].symbol_index[:symbol_size]

        def account_at(name, n):
            index = {"trader": event[n].trader, "desk": desks[n], "firm": Const(0)}[name]
            return index[: sizes[name]]

        def state(name, shape, place, read_place=None, source=None):
            """Return a row of state as the event in stage 6 may find it.

            ``place`` tells the row that an event of a stage changes. What is read may be another
            one, of ``read_place``, and is then as the events before have left it in ``source``.
            """
            read_place = read_place or place
            row = _Row(name, shape)
            source = source or row
            left = Mux(s7_passes, source.s7_passed.as_value(), source.s7_denied.as_value())
            kept = memory(name, shape, 1 << len(place(7)), read_place(5), s7_passes, place(7), left)
            kept = kept.as_value() if isinstance(kept, data.View) else kept
            # Whether the event that is one ahead, or two, changes what this one reads.
            next_6 = held((read_place(4) == place(5)) & live[5], 1, f"s5_{name}_next_6")
            next_7 = held((read_place(4) == place(6)) & live[6], 1, f"s5_{name}_next_7")

            def following(s6_denied, s6_passed):
                return Mux(
                    s7_passes,
                    Mux(next_6, s6_passed, Mux(next_7, source.s7_passed, kept)),
                    Mux(next_6, s6_denied, Mux(next_7, source.s7_denied, kept)),
                )

            m.d.sync += [
                row.denied.eq(following(source.denied, source.passed)),
                row.passed.eq(following(source.new_denied, source.new_passed)),
            ]
            if source is row:
                m.d.sync += [
                    row.s7_denied.eq(Mux(s7_passes, row.passed, row.denied)),
                    row.s7_passed.eq(Mux(s7_passes, row.new_passed, row.new_denied)),
                ]
            return row

        def side_at(n):
            return Cat(event[n].buys, symbol_at(n))

        def opposite_at(n):
            return Cat(~event[n].buys, symbol_at(n))

        rows = {
            "position": state("position", _POSITION, symbol_at),
            "side": state("side", _SIDE, side_at),
            # The best price of our orders on a side of a symbol, 0 if there are none.
            "top": state("top", _TOP, side_at),
        }
        rows["opposite"] = state("opposite", _TOP, side_at, opposite_at, rows["top"])
        for name in depths:
            rows[name] = state(name, _ACCOUNT, partial(account_at, name))
            rows[f"{name}_open"] = state(
                f"{name}_open",
                _OPEN,
                lambda n, name=name: Cat(event[n].buys, account_at(name, n)),
            )

        # Stage 6: the rules and the changes, for both states.
        s6 = event[6]
        found = {}
        for which in ("denied", "passed"):
            before = {name: getattr(row, which) for name, row in rows.items()}
            after = {name: getattr(row, f"new_{which}") for name, row in rows.items()}
            found[which] = self._rules(s6, before, s6_left)
            self._change(m, s6, before, after, s6_left)

        # Stage 7: the event passes or not.
        s7_found = held(
            Mux(s7_passes, Cat(*found["passed"].values()), Cat(*found["denied"].values()))
            & s6_left.is_order.replicate(len(found["denied"])),
            len(found["denied"]),
            "s7_found",
        )
        s7_reason = held(Mux(s6_killed, DenyReason.KILL_SWITCH, s6_reason), 5, "s7_reason")
        s7_is_order = held(s6_left.is_order, 1, "s7_is_order")
        s7_goes = Signal()
        s6_free = ~s6_killed & (s6_reason == DenyReason.NONE)
        m.d.sync += s7_goes.eq(live[6] & Mux(s6_left.is_order, s6_free, s6_left.counts))
        m.d.comb += [
            s7_passes.eq(s7_goes & ~s7_found.any()),
            self.o.valid.eq(valid[7]),
            self.o.payload.kind.eq(event[7].kind),
            self.o.payload.reason.eq(
                Mux(s7_is_order, _lowest(found["denied"], s7_found, s7_reason), DenyReason.NONE)
            ),
        ]
        final = {
            name: Mux(s7_passes, row.s7_passed.as_value(), row.s7_denied.as_value())
            for name, row in rows.items()
            if name != "opposite"
        }
        m.d.comb += [
            self.o_state.position.eq(final["position"]),
            self.o_state.side.eq(final["side"]),
        ]
        for name in depths:
            m.d.comb += self.o_state[name].eq(Cat(final[name], final[f"{name}_open"]))
        return m

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

    def _rules(self, s6, before, left):
        """Return which rules hold, by reason."""
        sells = ~s6.buys
        side, newest = before["side"], before["side"].newest
        position = before["position"].shares.as_unsigned() ^ sells.replicate(32)
        worst = position.as_signed() + side.open_qty
        top = before["opposite"].price
        found = {
            DenyReason.POSITION_EXCEEDS_LIMIT: worst > left.position,
            DenyReason.SHORT_SALE_WITHOUT_LOCATE: sells & (worst > left.locate),
            DenyReason.SELF_TRADE: (top != 0) & Mux(s6.buys, s6.price >= top, s6.price <= top),
            DenyReason.DUPLICATE_ORDER: left.repeatable
            & (s6.price == newest.price)
            & (s6.qty[: len(newest.order_qty)] == newest.order_qty)
            & (s6.trader == newest.trader)
            & (newest.at_ns > left.window_begin),
            DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM: side.orders == OPEN_ORDERS_MAX,
            DenyReason.MESSAGE_RATE_EXCEEDED: Cat(
                left[name].never | (before[name].due_ns > left[name].due_last_ns)
                for name in _ACCOUNTS
            ).any(),
        }
        for name in _ACCOUNTS:
            known, level = before[name], name.upper()
            net = (known.net.as_unsigned() ^ sells.replicate(len(known.net))).as_signed()
            found[DenyReason[f"{level}_GROSS_EXCEEDS_LIMIT"]] = known.gross > left[name].gross
            found[DenyReason[f"{level}_NET_EXCEEDS_LIMIT"]] = (
                net + before[f"{name}_open"].money > left[name].net
            )
        return found

    def _change(self, m, s6, before, after, left):
        """Do what an event that passes does, as the kernels of :mod:`kernels.exposure`."""
        position = before["position"].shares
        m.d.comb += [row.eq(before[name]) for name, row in after.items()]
        m.d.comb += [
            after["position"].shares.eq(_clamped(position + left.executed, POSITION_MAX)),
            after["side"].open_qty.eq(_bounded(before["side"].open_qty + left.shares, 32)),
        ]
        with m.If(left.is_order):
            newest = after["side"].newest
            m.d.comb += [
                newest.trader.eq(s6.trader),
                newest.order_qty.eq(s6.qty[: len(newest.order_qty)]),
                newest.price.eq(s6.price),
                newest.at_ns.eq(s6.now_ns),
            ]
        for name in _ACCOUNTS:
            known, new = before[name], after[name]
            money = before[f"{name}_open"].money
            due_ns = Mux(
                known.due_ns >= s6.now_ns,
                known.due_ns + left[name].interval_ns,
                left[name].next_due_ns,
            )
            m.d.comb += [
                new.net.eq(_clamped(known.net + left.net, MONEY_MAX)),
                new.gross.eq(_bounded(known.gross + left.gross, len(new.gross))),
                after[f"{name}_open"].money.eq(_bounded(money + left.open, len(money))),
            ]
            with m.If(left.tells):
                m.d.comb += new.due_ns.eq(_bounded(due_ns, len(new.due_ns)))
        self._rest(m, s6, before, after, left)

    def _rest(self, m, s6, before, after, left):
        """Follow our own open orders, as :func:`kernels.exposure.rested` and ``ended`` do."""
        side, new, top = before["side"], after["side"], before["top"].price
        price = s6.price
        is_best = (side.best_orders != 0) & (price == side.best_price)
        is_better = (top == 0) | Mux(s6.buys, price >= top, price <= top)
        is_first_behind = side.orders == side.best_orders
        is_ahead_behind = Mux(s6.buys, price > side.behind_price, price < side.behind_price)
        with m.If(left.is_order):
            m.d.comb += new.orders.eq(side.orders + 1)  # An order beyond the most is denied.
            with m.If(is_best):
                m.d.comb += new.best_orders.eq(side.best_orders + 1)
            with m.Elif(is_better):
                m.d.comb += [
                    new.best_orders.eq(1),
                    new.best_price.eq(price),
                    new.behind_price.eq(top),
                ]
            with m.Elif(is_first_behind | is_ahead_behind):
                m.d.comb += new.behind_price.eq(price)
            with m.If(is_better):
                m.d.comb += after["top"].price.eq(price)
        with m.Elif(left.ends):
            m.d.comb += [
                new.orders.eq(side.orders - (side.orders != 0)),
                new.best_orders.eq(side.best_orders - is_best),
            ]
            with m.If(side.orders <= 1):
                m.d.comb += after["top"].price.eq(0)
            with m.Elif((side.best_orders == 0) | (is_best & (side.best_orders == 1))):
                m.d.comb += after["top"].price.eq(side.behind_price)


class _Row:
    """A row of state, in the two ways that an event may find and leave it."""

    def __init__(self, name, shape):
        def made(which, reset_less=False):
            return Signal(shape, name=f"{name}_{which}", reset_less=reset_less)

        self.denied, self.passed = made("s6_denied", True), made("s6_passed", True)
        self.new_denied, self.new_passed = made("s6_new_denied"), made("s6_new_passed")
        self.s7_denied, self.s7_passed = made("s7_denied", True), made("s7_passed", True)


def _bounded(total, bits):
    """Return a sum, or the end of the range of so many bits that it would leave."""
    if not total.shape().signed:
        return (total | total[bits:].any().replicate(len(total)))[:bits]
    is_negative = total[-1]
    is_over = total[bits:-1].any() & ~is_negative
    return (total[:bits] | is_over.replicate(bits)) & ~is_negative.replicate(bits)


def _clamped(total, most):
    """Return a sum, or what is nearest to it from ``-most`` to ``most``."""
    return Mux(total > most, most, Mux(total < -most, -most, total))


def _lowest(reasons, found, other):
    """Return the lowest of the reasons that were found and of another one; 0 is none."""
    lowest = other
    for reason, is_found in sorted(zip(reasons, found, strict=True), key=lambda item: -item[0]):
        lowest = Mux(is_found & ((other == 0) | (other > reason)), reason, lowest)
    return lowest


def _check_power_of_two(name, value, most):
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not 2 <= value <= most or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, 2 to {most}, not {value!r}")
