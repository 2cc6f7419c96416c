"""The risk gate: every order passes it, and every answer of the venue is counted by it.

The rules that need nothing of what came before are :func:`kernels.risk.reason_of_order`, compiled;
so are the products. What the others compare with is worked out ahead as well: ``used + asked >
limit`` is ``used > limit - asked``, where only ``used`` is known late. So what one order leaves for
the next takes one cycle.
"""

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
_ACCOUNT = data.StructLayout({"net": signed(57), "gross": 56, "due_ns": 62})

STATE = data.StructLayout(
    {
        "position": signed(32),
        "side": _SIDE,
        **{
            name: data.StructLayout({**_ACCOUNT.members, "open_money": 56})
            for name in ("trader", "desk", "firm")
        },
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
                shape = value.shape()
                after = Signal(shape, name=f"{name}_{cycle + 1}", reset_less=True)
                m.d.sync += after.eq(value)
                value = after
            return value

        def later_stb(value, cycles, name):
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

        def held(value, shape, name):
            """Return a value a cycle later."""
            after = Signal(shape, name=name, reset_less=True)
            m.d.sync += after.eq(value)
            return after

        # The events, in each of their stages.
        valid = [self.i.valid]
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
        shares = Mux(is_order, more, Mux(is_execution, -quantity, -asked.qty.as_signed()))
        s5_shares = held(shares, signed(33), "s5_shares")
        s5_executed_shares = held(
            Mux(is_execution, Mux(asked.buys, quantity, -quantity), 0), signed(21), "s5_executed"
        )
        back = -asked.money
        s5_open = held(
            Mux(is_order, s4_added, Mux(is_execution, -s4_as_open, back)), signed(55), "s5_open"
        )
        s5_gross = held(
            Mux(is_order, s4_added, Mux(is_execution, s4_gross, back)), signed(55), "s5_gross"
        )
        s5_net = held(
            Mux(is_execution, Mux(asked.buys, s4_executed, -s4_executed), 0), signed(53), "s5_net"
        )
        known = later(known_symbol & known_trader, 3, "s1_known")
        s5_counts = held((is_execution | is_release) & known, 1, "s5_counts")
        s5_ends = held((is_execution | is_release) & known & asked.ends, 1, "s5_ends")
        s5_tells = held(
            (asked.kind == EventKind.MESSAGE) & later(known_trader, 3, "s1_known_trader"),
            1,
            "s5_tells",
        )
        s5_is_order = held(is_order, 1, "s5_is_order")

        # Stage 5: what is left of each limit, to be compared with what is used of it. A sale has
        # one less, as it takes the complement of a sum for its negative.
        asked = event[5]
        s6_limit_thresholds = {}
        for name in ("position_max", "locate_qty"):
            s6_limit_thresholds[name] = held(
                s5_limits[name] - s5_shares - ~asked.buys, signed(35), f"s6_{name}"
            )
        s6_window_begin = held(
            asked.now_ns - s5_limits.duplicate_window_ns, signed(63), "s6_window_begin"
        )
        s6_repeatable = held(
            (s5_limits.duplicate_window_ns != 0) & (asked.orig_qty == 0), 1, "s6_repeatable"
        )
        s6_thresholds = {}
        for name, limits in s5_account_limits.items():
            s6_thresholds[name] = {
                "gross": held(limits.gross_max - s5_open, signed(58), f"s6_{name}_gross_left"),
                "net": held(
                    limits.net_max - s5_open - ~asked.buys, signed(58), f"s6_{name}_net_left"
                ),
                "rate": held(
                    asked.now_ns + (limits.burst_ns - limits.interval_ns),
                    signed(64),
                    f"s6_{name}_due_last",
                ),
                "never": held(
                    (limits.burst_ns == 0) | (limits.burst_ns < limits.interval_ns),
                    1,
                    f"s6_{name}_never",
                ),
                "interval_ns": held(limits.interval_ns, 32, f"s6_{name}_interval"),
                "next_due_ns": held(asked.now_ns + limits.interval_ns, 63, f"s6_{name}_next_due"),
            }
        s6_shares = later(s5_shares, 1, "s5_shares")
        s6_executed_shares = later(s5_executed_shares, 1, "s5_executed")
        s6_open, s6_gross, s6_net = (
            later(value, 1, name)
            for value, name in ((s5_open, "s5_open"), (s5_gross, "s5_gross"), (s5_net, "s5_net"))
        )
        s6_counts, s6_ends, s6_tells, s6_is_order = (
            later(value, 1, name)
            for value, name in (
                (s5_counts, "s5_counts"),
                (s5_ends, "s5_ends"),
                (s5_tells, "s5_tells"),
                (s5_is_order, "s5_is_order"),
            )
        )

        # State is read in stage 5 and written in stage 6. What stage 6 is about to write is handed
        # on to the next event, if that is of the same row.
        s5_desk = later(s4_desk, 1, "s4_desk")
        s6_desk = later(s5_desk, 1, "s5_desk")
        s5_symbol = asked.symbol_index
        s6 = event[6]

        def state(name, shape, depth, read_address, write_address, write_value):
            """Return a row of state as the event in stage 6 finds it."""
            size = max(depth - 1, 0).bit_length()
            current = Signal(shape, name=f"s6_{name}", reset_less=True)
            kept = memory(name, shape, depth, read_address, valid[6], write_address, write_value)
            is_same = read_address[:size] == write_address[:size]
            with m.If(valid[6] & is_same):
                m.d.sync += current.eq(write_value)
            with m.Else():
                m.d.sync += current.eq(kept)
            return current

        sides = 2 * self.symbol_count
        symbol_size = (self.symbol_count - 1).bit_length()

        def of_side(buys, index, size):
            return Cat(buys, index[:size])

        new_position = Signal(signed(32))
        new_side = Signal(_SIDE)
        new_top = Signal(32)
        own_row = of_side(s6.buys, s6.symbol_index, symbol_size)
        position = state(
            "position",
            signed(32),
            self.symbol_count,
            s5_symbol[:symbol_size],
            s6.symbol_index[:symbol_size],
            new_position,
        )
        side = state(
            "side",
            _SIDE,
            sides,
            of_side(asked.buys, s5_symbol, symbol_size),
            own_row,
            new_side,
        )
        # The best price of our orders on each side of a symbol, 0 if there are none.
        own_top = state(
            "own_top", 32, sides, of_side(asked.buys, s5_symbol, symbol_size), own_row, new_top
        )
        opposite_top = state(
            "opposite_top",
            32,
            sides,
            of_side(~asked.buys, s5_symbol, symbol_size),
            own_row,
            new_top,
        )
        indices = {
            "trader": (asked.trader, s6.trader),
            "desk": (s5_desk, s6_desk),
            "firm": (Const(0), Const(0)),
        }
        account, open_money, new_account, new_open_money = {}, {}, {}, {}
        for name, (read_index, write_index) in indices.items():
            size = (depths[name] - 1).bit_length()
            new_account[name] = Signal(_ACCOUNT, name=f"new_{name}")
            new_open_money[name] = Signal(56, name=f"new_{name}_open_money")
            account[name] = state(
                name,
                _ACCOUNT,
                depths[name],
                read_index[:size],
                write_index[:size],
                new_account[name],
            )
            open_money[name] = state(
                f"{name}_open_money",
                56,
                2 * depths[name],
                of_side(asked.buys, read_index, size),
                of_side(s6.buys, write_index, size),
                new_open_money[name],
            )

        # Stage 6: the decision, and what it changes.
        sells = ~s6.buys
        worst = (position.as_unsigned() ^ sells.replicate(32)).as_signed() + side.open_qty
        opposite_known = opposite_top != 0
        newest = side.newest
        quantity = s6.qty[: len(newest.order_qty)]
        found = {
            DenyReason.POSITION_EXCEEDS_LIMIT: worst > s6_limit_thresholds["position_max"],
            DenyReason.SHORT_SALE_WITHOUT_LOCATE: sells
            & (worst > s6_limit_thresholds["locate_qty"]),
            DenyReason.SELF_TRADE: opposite_known
            & Mux(s6.buys, s6.price >= opposite_top, s6.price <= opposite_top),
            DenyReason.DUPLICATE_ORDER: s6_repeatable
            & (s6.price == newest.price)
            & (quantity == newest.order_qty)
            & (s6.trader == newest.trader)
            & (newest.at_ns > s6_window_begin),
            DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM: side.orders == OPEN_ORDERS_MAX,
            DenyReason.MESSAGE_RATE_EXCEEDED: Cat(
                thresholds["never"] | (account[name].due_ns > thresholds["rate"])
                for name, thresholds in s6_thresholds.items()
            ).any(),
        }
        for name, left in s6_thresholds.items():
            net = (account[name].net.as_unsigned() ^ sells.replicate(57)).as_signed()
            found[DenyReason[f"{name.upper()}_GROSS_EXCEEDS_LIMIT"]] = (
                account[name].gross > left["gross"]
            )
            found[DenyReason[f"{name.upper()}_NET_EXCEEDS_LIMIT"]] = (
                net + open_money[name] > left["net"]
            )
        passes = Signal()
        counts = Signal()
        m.d.comb += [
            passes.eq(s6_is_order & ~s6_killed & (s6_reason == 0) & ~Cat(*found.values()).any()),
            counts.eq(passes | s6_counts),
        ]
        m.d.comb += [
            new_position.eq(
                Mux(s6_counts, _clamped(position + s6_executed_shares, POSITION_MAX), position)
            ),
            new_side.open_qty.eq(
                Mux(counts, _bounded(side.open_qty + s6_shares, 32), side.open_qty)
            ),
            new_side.newest.eq(newest),
        ]
        with m.If(passes):
            m.d.comb += [
                new_side.newest.trader.eq(s6.trader),
                new_side.newest.order_qty.eq(quantity),
                new_side.newest.price.eq(s6.price),
                new_side.newest.at_ns.eq(s6.now_ns),
            ]
        for name, left in s6_thresholds.items():
            known_before, after = account[name], new_account[name]
            due_ns = Mux(
                known_before.due_ns >= s6.now_ns,
                known_before.due_ns + left["interval_ns"],
                left["next_due_ns"],
            )
            m.d.comb += [
                after.net.eq(
                    Mux(
                        s6_counts,
                        _clamped(known_before.net + s6_net, MONEY_MAX),
                        known_before.net,
                    )
                ),
                after.gross.eq(
                    Mux(counts, _bounded(known_before.gross + s6_gross, 56), known_before.gross)
                ),
                new_open_money[name].eq(
                    Mux(counts, _bounded(open_money[name] + s6_open, 56), open_money[name])
                ),
                after.due_ns.eq(
                    Mux(passes | s6_tells, _bounded(due_ns.as_signed(), 62), known_before.due_ns)
                ),
            ]
        self._rest(m, s6, side, own_top, passes, s6_ends, new_side, new_top)

        # Stage 7: the reason.
        s7_found = held(Cat(*found.values()), len(found), "s7_found")
        s7_reason = held(Mux(s6_killed, DenyReason.KILL_SWITCH, s6_reason), 5, "s7_reason")
        s7_is_order = held(s6_is_order, 1, "s7_is_order")
        reason = Signal(5)
        m.d.comb += [
            reason.eq(_lowest([*zip(found, s7_found, strict=True)], s7_reason)),
            self.o.valid.eq(valid[7]),
            self.o.payload.kind.eq(event[7].kind),
            self.o.payload.reason.eq(Mux(s7_is_order, reason, DenyReason.NONE)),
        ]
        m.d.sync += [
            self.o_state.position.eq(new_position),
            self.o_state.side.eq(new_side),
        ]
        for name in depths:
            m.d.sync += [
                self.o_state[name][field].eq(new_account[name][field]) for field in _ACCOUNT.members
            ]
            m.d.sync += self.o_state[name].open_money.eq(new_open_money[name])
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

    def _rest(self, m, s6, side, top, passes, ends, new_side, new_top):
        """Follow our own open orders, as :func:`kernels.exposure.rested` and ``ended`` do."""
        price = s6.price
        has_best = side.best_orders != 0
        is_best = has_best & (price == side.best_price)
        is_better = (top == 0) | Mux(s6.buys, price >= top, price <= top)
        is_first_behind = side.orders == side.best_orders
        is_ahead_behind = Mux(s6.buys, price > side.behind_price, price < side.behind_price)
        names = ("orders", "best_orders", "best_price", "behind_price")
        m.d.comb += [new_side[name].eq(side[name]) for name in names]
        m.d.comb += new_top.eq(top)
        with m.If(passes):
            m.d.comb += new_side.orders.eq(side.orders + 1)  # An order beyond the most is denied.
            with m.If(is_best):
                m.d.comb += new_side.best_orders.eq(side.best_orders + 1)
            with m.Elif(is_better):
                m.d.comb += [
                    new_side.best_orders.eq(1),
                    new_side.best_price.eq(price),
                    new_side.behind_price.eq(top),
                ]
            with m.Elif(is_first_behind | is_ahead_behind):
                m.d.comb += new_side.behind_price.eq(price)
            with m.If(is_better):
                m.d.comb += new_top.eq(price)
        with m.If(ends):
            was_last_best = is_best & (side.best_orders == 1)
            m.d.comb += [
                new_side.orders.eq(side.orders - (side.orders != 0)),
                new_side.best_orders.eq(side.best_orders - is_best),
            ]
            with m.If(side.orders <= 1):
                m.d.comb += new_top.eq(0)
            with m.Elif(~has_best | was_last_best):
                m.d.comb += new_top.eq(side.behind_price)


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


def _lowest(found, other):
    """Return the lowest of the codes that were found and of another one; 0 is none."""
    lowest = other
    for reason, is_found in sorted(found, reverse=True, key=lambda item: item[0]):
        lowest = Mux(is_found & ((other == 0) | (other > reason)), reason, lowest)
    return lowest


def _check_power_of_two(name, value, most):
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    if not 2 <= value <= most or value & (value - 1):
        raise ValueError(f"{name} must be a power of two, 2 to {most}, not {value!r}")
