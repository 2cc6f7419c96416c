"""cocotb bench of the risk gate, run by ``test_risk.py``."""

import os
import random
from collections import Counter, deque

import cocotb
from amaranth.hdl import Shape
from amaranth.lib import data
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.risk import (
    DECISION,
    EVENT,
    SET_ACCOUNT,
    SET_DESK,
    SET_KILL,
    SET_MARKET,
    SET_SYMBOL,
    STATE,
    AccountKind,
    EventKind,
    Gate,
)
from kernels.exposure import Rate
from kernels.risk import LevelLimits, Limits, Market
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sim.golden import risk as golden
from sim.tb import orders_flow as flow

EVENTS = int(os.environ["EVENTS"])
SEED = int(os.environ["SEED"])
HEARTBEAT_CYCLES_MAX = int(os.environ["HEARTBEAT_CYCLES_MAX"])
COMPARED_EVERY = 10
ACCOUNT_KINDS = {
    RiskLevel.TRADER: AccountKind.TRADER.value,
    RiskLevel.DESK: AccountKind.DESK.value,
    RiskLevel.FIRM: AccountKind.FIRM.value,
}


def scalars(layout, offset=0, prefix=""):
    """Return place, width and sign of each scalar of a layout, by name."""
    found = {}
    for name, field in layout:
        if isinstance(field.shape, data.StructLayout):
            found |= scalars(field.shape, offset + field.offset, f"{prefix}{name}.")
        else:
            shape = Shape.cast(field.shape)
            found[f"{prefix}{name}"] = (offset + field.offset, shape.width, shape.signed)
    return found


LAYOUTS = {
    "i": scalars(EVENT),
    "i_symbol": scalars(SET_SYMBOL),
    "i_market": scalars(SET_MARKET),
    "i_account": scalars(SET_ACCOUNT),
    "i_kill": scalars(SET_KILL),
    "i_desk": scalars(SET_DESK),
}
DECISION_FIELDS = scalars(DECISION)
STATE_FIELDS = scalars(STATE)


def pack(fields, values):
    assert values.keys() <= fields.keys(), values.keys() - fields.keys()
    word = 0
    for name, value in values.items():
        offset, width, _ = fields[name]
        word |= (int(value) & (1 << width) - 1) << offset
    return word


def unpack(fields, word):
    values = {}
    for name, (offset, width, signed) in fields.items():
        value = word >> offset & (1 << width) - 1
        values[name] = value - (1 << width) if signed and value >> width - 1 else value
    return values


def told(step):
    """Return the stream of a step, and what it says there."""
    match step:
        case flow.Decide():
            return "i", {
                "kind": EventKind.ORDER.value,
                "symbol_index": step.symbol,
                "trader": step.trader,
                "buys": step.buys,
                "qty": step.order_qty,
                "price": step.price,
                "orig_qty": step.orig_qty,
                "orig_price": step.orig_price,
                "session": step.session,
                "is_open": step.is_open,
                "slot": step.slot,
                "now_ns": step.now_ns,
            }
        case flow.Execute():
            return "i", {
                "kind": EventKind.EXECUTE.value,
                "symbol_index": step.symbol,
                "trader": step.trader,
                "buys": step.buys,
                "qty": step.last_qty,
                "price": step.price,
                "last_price": step.last_price,
                "ends": step.ends,
            }
        case flow.Release():
            return "i", {
                "kind": EventKind.RELEASE.value,
                "symbol_index": step.symbol,
                "trader": step.trader,
                "buys": step.buys,
                "qty": step.qty,
                "price": step.price,
                "money": step.money,
                "ends": step.ends,
            }
        case flow.Message():
            return "i", {
                "kind": EventKind.MESSAGE.value,
                "trader": step.trader,
                "now_ns": step.now_ns,
            }
        case flow.SetLimits():
            limits = {f"limits.{name}": value for name, value in step.limits._asdict().items()}
            return "i_symbol", {"symbol_index": step.symbol, **limits}
        case flow.SetMarket():
            market = {f"market.{name}": value for name, value in step.market._asdict().items()}
            return "i_market", {"symbol_index": step.symbol, **market}
        case flow.SetLevel():
            return "i_account", {
                "kind": ACCOUNT_KINDS[step.level],
                "index": step.level_index,
                "limits.gross_max": step.limits.gross_max,
                "limits.net_max": step.limits.net_max,
                "limits.interval_ns": step.rate.interval_ns,
                "limits.burst_ns": step.rate.burst_ns,
            }
        case flow.Kill():
            return "i_kill", {
                "kind": ACCOUNT_KINDS[step.level],
                "index": step.level_index,
                "on": step.on,
            }
    raise AssertionError(step)


def state_of(model, step):
    """Return what the golden model knows of all that an order named, but its message rates."""
    side = golden.Side.BUY if step.buys else golden.Side.SELL
    own, newest = model.own(step.symbol, side), model.newest(step.symbol, side)
    known = {
        "position": model.position(step.symbol),
        "side.open_qty": model.open_qty(step.symbol, side),
        "side.orders": own.front + own.behind,
        "side.best_orders": own.front,
        "side.best_price": own.front_price or 0,
        "side.behind_price": own.behind_price or 0,
        "side.newest.trader": newest.trader if newest else 0,
        "side.newest.order_qty": newest.qty if newest else 0,
        "side.newest.price": newest.price if newest else 0,
        "side.newest.at_ns": newest.at_ns if newest else 0,
    }
    for level, index in model._levels(step.trader):
        money = model.money(level, index)
        name = level.name.lower()
        known[f"{name}.net"] = money.net
        known[f"{name}.gross"] = money.gross
        known[f"{name}.open_money"] = money.open_buy if step.buys else money.open_sell
    return known


class Bench:
    """Drives at falling edges; checks each decision and the cycle that it comes in."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.expected = deque()
        self.seen = Counter()
        self.compared = 0
        self.heartbeats = True
        self.beats = False
        self.valid = None

    def port(self, name, what):
        return getattr(self.dut, f"{name}__{what}")

    async def reset(self):
        dut = self.dut
        for name in LAYOUTS:
            self.port(name, "valid").value = 0
            self.port(name, "payload").value = 0
        dut.heartbeat_stb.value = 0
        dut.rst.value = 1
        for _ in range(12):
            await FallingEdge(dut.clk)
        dut.rst.value = 0

    async def open(self):
        """Wait for the sweep, and tell the desks."""
        self.waited = 0
        while not self.dut.ready.value:
            await self.tick()
            self.waited += 1
        for trader, desk in enumerate(flow.DESKS):
            await self.tell("i_desk", pack(LAYOUTS["i_desk"], {"trader": trader, "desk": desk}))

    async def beat(self):
        """Let the host live for one more time."""
        self.beats = True
        await self.tick()

    async def tick(self):
        dut = self.dut
        dut.heartbeat_stb.value = self.beats or (self.heartbeats and self.cycle % 16 == 0)
        self.beats = False
        await FallingEdge(dut.clk)
        self.cycle += 1
        self.check()
        if self.valid is not None:
            self.port(self.valid, "valid").value = 0
            self.valid = None

    async def tell(self, name, word):
        self.port(name, "payload").value = word
        self.port(name, "valid").value = 1
        self.valid = name
        await self.tick()

    async def do(self, step, state=None, rates=None):
        name, values = told(step)
        if name == "i":
            reason = step.reason if isinstance(step, flow.Decide) else DenyReason.NONE
            # Told after a falling edge, it is taken at the rising one that ends its first cycle.
            due = self.cycle + Gate.LATENCY
            self.expected.append((due, values["kind"], reason, step, state, rates))
        await self.tell(name, pack(LAYOUTS[name], values))

    def check(self):
        dut = self.dut
        due = bool(self.expected) and self.expected[0][0] == self.cycle
        assert bool(dut.o__valid.value) == due, (self.cycle, list(self.expected)[:2])
        if not due:
            return
        _, kind, reason, step, state, rates = self.expected.popleft()
        found = unpack(DECISION_FIELDS, int(dut.o__payload.value))
        assert found == {"kind": kind, "reason": int(reason)}, (
            step,
            reason,
            DenyReason(found["reason"]),
        )
        self.seen[reason.name if kind == EventKind.ORDER.value else EventKind(kind).name] += 1
        if state is not None:
            known = unpack(STATE_FIELDS, int(dut.o_state.value))
            for name, filled_ns in rates.items():
                due_ns = known.pop(f"{name}.due_ns")
                assert max(due_ns - step.now_ns, 0) == filled_ns, (name, step)
            assert known == state, {
                name: (known[name], state[name]) for name in state if known[name] != state[name]
            }
            self.compared += 1

    async def drain(self):
        for _ in range(Gate.LATENCY + 1):
            await self.tick()
        assert not self.expected


async def begin(dut):
    bench = Bench(dut)
    Clock(dut.clk, 10, unit="ns").start()
    await bench.reset()
    return bench


@cocotb.test()
async def gate_agrees_with_the_golden_model_for_a_long_day(dut):
    print(f"seed={SEED}")
    bench = await begin(dut)
    await bench.open()
    rng = random.Random(SEED)
    day = flow.Flow(SEED)
    decided = 0
    for step in day.steps(EVENTS):
        state = rates = None
        if isinstance(step, flow.Decide):
            decided += 1
            is_known = step.symbol < flow.SYMBOL_COUNT and step.trader < len(flow.DESKS)
            # Only here: of an answer's steps the golden model has done all before the first.
            if is_known and decided % COMPARED_EVERY == 0:
                state = state_of(day.gate, step)
                rates = {
                    level.name.lower(): day.gate.bucket_ns(level, index, step.now_ns)
                    for level, index in day.gate._levels(step.trader)
                }
        if rng.random() < 0.05:
            await bench.tick()
        await bench.do(step, state, rates)
    await bench.drain()
    unseen = {DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM}  # It takes 65,535 open orders.
    least = EVENTS // 4_000
    few = {
        r.name: bench.seen[r.name] for r in set(DenyReason) - unseen if bench.seen[r.name] < least
    }
    assert few == {}
    assert bench.compared > EVENTS // 20


ORDER = flow.Decide(0, 0, True, 10, flow.MID, 0, 0, True, True, True, 1_000, True, DenyReason.NONE)


LIMITS = Limits(
    qty_max=1_000,
    notional_max=10**9,
    position_max=5_000,
    price_band_bp=500,
    tick_size=flow.TICK,
    locate_qty=5_000,
    phases=1,
    restricted=False,
)


async def set_up(bench):
    """Open the gate for one symbol and trader."""
    await bench.do(flow.SetLimits(0, LIMITS))
    await bench.do(flow.SetMarket(0, Market(bid_price=flow.MID, ask_price=flow.MID)))
    for level in RiskLevel:
        money, rate = LevelLimits(10**12, 10**12), Rate(1, 1_000_000)
        await bench.do(flow.SetLevel(level, 0, money, rate))
        await bench.do(flow.Kill(level, 0, False))


async def asks(bench, reason, **changed):
    await bench.do(ORDER._replace(reason=reason, **changed))


@cocotb.test()
async def gate_is_closed_after_reset(dut):
    bench = await begin(dut)
    assert not dut.ready.value
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.open()
    # One row a cycle, of the longest memory.
    assert bench.waited + 1 == 16
    for trader in range(len(flow.DESKS)):
        await asks(bench, DenyReason.KILL_SWITCH, trader=trader)
    await bench.drain()
    await set_up(bench)
    await asks(bench, DenyReason.NONE)
    await bench.drain()
    await bench.reset()
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.open()
    for level in (RiskLevel.FIRM, RiskLevel.DESK, RiskLevel.TRADER):
        await asks(bench, DenyReason.KILL_SWITCH)
        await bench.do(flow.Kill(level, 0, False))
    await asks(bench, DenyReason.UNKNOWN_SYMBOL)
    await bench.drain()


@cocotb.test()
async def lost_heartbeat_closes_the_gate_until_the_host_releases_it(dut):
    bench = await begin(dut)
    await bench.open()
    await set_up(bench)
    await asks(bench, DenyReason.NONE)
    bench.heartbeats = False
    await bench.beat()
    for _ in range(HEARTBEAT_CYCLES_MAX):
        await asks(bench, DenyReason.NONE)
    await asks(bench, DenyReason.KILL_SWITCH)
    # While it stays away nothing releases the switch, nor does the next one alone.
    await bench.do(flow.Kill(RiskLevel.FIRM, 0, False))
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.beat()
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.do(flow.Kill(RiskLevel.FIRM, 0, False))
    await asks(bench, DenyReason.NONE)
    await bench.drain()


@cocotb.test()
async def each_order_sees_the_one_of_the_cycle_before(dut):
    bench = await begin(dut)
    await bench.open()
    await set_up(bench)
    limits = LIMITS._replace(position_max=50)
    await bench.do(flow.SetLimits(0, limits))
    for number in range(7):
        reason = DenyReason.NONE if number < 5 else DenyReason.POSITION_EXCEEDS_LIMIT
        await asks(bench, reason)
    # A limit counts for the order of the next cycle, and all of it at once.
    await bench.do(flow.SetLimits(0, limits._replace(position_max=60)))
    await asks(bench, DenyReason.NONE)
    await asks(bench, DenyReason.POSITION_EXCEEDS_LIMIT)
    await bench.do(flow.SetLimits(0, limits._replace(position_max=70, qty_max=9)))
    await asks(bench, DenyReason.QUANTITY_EXCEEDS_MAXIMUM)
    await bench.do(flow.Kill(RiskLevel.DESK, 0, True))
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.do(flow.Kill(RiskLevel.DESK, 0, False))
    await asks(bench, DenyReason.UNKNOWN_SYMBOL, symbol=8)
    await asks(bench, DenyReason.KILL_SWITCH, trader=8)
    await bench.do(flow.Execute(0, 0, True, flow.MID, flow.MID, 60, False))
    await bench.do(flow.SetLimits(0, limits))
    await asks(bench, DenyReason.POSITION_EXCEEDS_LIMIT)
    await asks(bench, DenyReason.NONE, buys=False, price=flow.MID + flow.TICK)
    await bench.drain()
