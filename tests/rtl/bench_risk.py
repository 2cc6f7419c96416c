"""cocotb bench of the risk gate, run by ``test_risk.py``."""

import os
import random
from collections import Counter, deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from hw.rtl.risk import EventKind, Gate
from kernels.exposure import OPEN_ORDERS_MAX, Rate
from kernels.risk import LevelLimits, Limits, Market
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sim.tb import orders_flow as flow
from sim.tb.gate import DECISION_FIELDS, LAYOUTS, STATE_FIELDS, pack, state_of, told, unpack
from sw.risk import Risk
from tests.rtl.risk_rows import opening, rows
from tests.sw.test_risk_flow import compare, play

COMPARED_EVERY = 1_000
EVENTS = int(os.environ["EVENTS"])
SEED = int(os.environ["SEED"])
HEARTBEAT_CYCLES_MAX = int(os.environ["HEARTBEAT_CYCLES_MAX"])


class Bench:
    """Drives at falling edges; checks each decision and the cycle that it comes in."""

    def __init__(self, dut):
        self.dut = dut
        self.cycle = 0
        self.expected = deque()
        self.seen = Counter()
        self.compared = 0
        self.about = ""
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
            self.expected.append((due, values["kind"].value, reason, step, state, rates))
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
            self.about,
            step,
            reason,
            DenyReason(found["reason"]),
        )
        self.seen[reason.name if kind == EventKind.ORDER.value else EventKind(kind).name] += 1
        if state is not None:
            known = unpack(STATE_FIELDS, int(dut.o_state.value))
            for name, filled_ns in (rates or {}).items():
                assert max(known[f"{name}.due_ns"] - step.now_ns, 0) == filled_ns, (name, step)
            different = {
                name: (known[name], state[name]) for name in state if known[name] != state[name]
            }
            assert different == {}, (self.about, step)
            self.compared += 1

    async def kill(self, level, on):
        """Set a kill switch when no order is on its way that it would count for."""
        await self.drain()
        await self.do(flow.Kill(level, 0, on))

    async def drain(self):
        for _ in range(Gate.LATENCY + 1):
            await self.tick()
        assert not self.expected


async def begin(dut):
    bench = Bench(dut)
    Clock(dut.clk, 10, unit="ns").start()
    await bench.reset()
    return bench


def host_state(host, step):
    """Return what the host's gate knows, as :func:`sim.tb.gate.state_of` has it."""
    exposure = host.exposure(step.symbol)
    resting = host.resting(step.symbol, step.buys)
    known = {
        "position": exposure.position,
        "side.open_qty": exposure.open_buy if step.buys else exposure.open_sell,
        **{f"side.{name}": value for name, value in resting._asdict().items()},
    }
    accounts = {"trader": step.trader, "desk": flow.DESKS[step.trader], "firm": 0}
    for name, index in accounts.items():
        level = host.level(RiskLevel[name.upper()], index)
        known[f"{name}.net"], known[f"{name}.gross"] = level.net, level.gross
        known[f"{name}.open_money"] = level.open_buy if step.buys else level.open_sell
    return known


@cocotb.test()
async def gate_golden_model_and_host_agree_for_a_long_day(dut):
    print(f"seed={SEED}")
    bench = await begin(dut)
    await bench.open()
    rng = random.Random(SEED)
    day, host = flow.Flow(SEED), Risk(flow.SYMBOL_COUNT, flow.DESKS)
    decided = 0
    for step in day.steps(EVENTS):
        state = rates = None
        reason = play(host, step)
        if isinstance(step, flow.Decide):
            assert reason is step.reason, step
            decided += 1
            # Only here: of an answer's steps the golden model has done all before the first.
            if decided % COMPARED_EVERY == 0:
                compare(host, day.gate, day.now_ns)
            if step.reason is DenyReason.NONE:
                state = state_of(day.gate, step)
                assert state == host_state(host, step)
                rates = {
                    level.name.lower(): day.gate.bucket_ns(level, index, step.now_ns)
                    for level, index in day.gate._levels(step.trader)
                }
        if isinstance(step, flow.Kill):
            await bench.drain()  # It counts for orders in the pipeline, too.
        elif rng.random() < 0.05:
            await bench.tick()
        await bench.do(step, state, rates)
    compare(host, day.gate, day.now_ns)
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
        await bench.kill(level, False)


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
        await bench.kill(level, False)
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
    # The switch is looked at a cycle before the decision.
    for _ in range(HEARTBEAT_CYCLES_MAX - (Gate.LATENCY - 1)):
        await asks(bench, DenyReason.NONE)
    await asks(bench, DenyReason.KILL_SWITCH)
    # While it stays away nothing releases the switch, nor does the next one alone.
    await bench.kill(RiskLevel.FIRM, False)
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.beat()
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.kill(RiskLevel.FIRM, False)
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
    await bench.kill(RiskLevel.DESK, True)
    await asks(bench, DenyReason.KILL_SWITCH)
    await bench.kill(RiskLevel.DESK, False)
    await asks(bench, DenyReason.UNKNOWN_SYMBOL, symbol=8)
    await asks(bench, DenyReason.KILL_SWITCH, trader=8)
    await bench.do(flow.Execute(0, 0, True, flow.MID, flow.MID, 60, False))
    await bench.do(flow.SetLimits(0, limits))
    await asks(bench, DenyReason.POSITION_EXCEEDS_LIMIT)
    await asks(bench, DenyReason.NONE, buys=False, price=flow.MID + flow.TICK)
    await bench.drain()


@cocotb.test()
async def kill_switch_counts_for_orders_in_the_pipeline(dut):
    bench = await begin(dut)
    await bench.open()
    await set_up(bench)
    in_time = 3
    caught = Gate.LATENCY - 2  # Decided later than in the cycle after the switch is set.
    for level in RiskLevel:
        for _ in range(in_time):
            await asks(bench, DenyReason.NONE)
        for _ in range(caught):
            await asks(bench, DenyReason.KILL_SWITCH)
        await bench.do(flow.Kill(level, 0, True))
        for _ in range(in_time):
            await asks(bench, DenyReason.KILL_SWITCH)
        # Nothing that it caught was counted.
        await bench.kill(level, False)
        used = 10 * in_time
        await bench.do(flow.SetLimits(0, LIMITS._replace(position_max=used + 9)))
        await asks(bench, DenyReason.POSITION_EXCEEDS_LIMIT)
        await bench.do(flow.SetLimits(0, LIMITS._replace(position_max=used + 10)))
        await asks(bench, DenyReason.NONE)
        await bench.do(flow.Release(0, 0, True, flow.MID, used + 10, 0, False))
        await bench.do(flow.SetLimits(0, LIMITS))
    await bench.drain()


@cocotb.test()
async def every_row_of_the_rules_tables_holds(dut):
    bench = await begin(dut)
    found, left_out = rows()
    for row in found:
        await bench.reset()
        await bench.open()
        for step in opening():
            await bench.do(step)
        bench.about = f"{row.rule}{row.row}"
        for step in row.steps[:-1]:
            await bench.do(step)
        await bench.do(row.steps[-1], row.state)
        await bench.drain()
    assert len(found) > 250
    assert left_out < 10  # Positions and sums beyond their ends, prices without an order.


@cocotb.test()
async def side_with_the_most_orders_takes_no_more(dut):
    bench = await begin(dut)
    await bench.open()
    await set_up(bench)
    await bench.do(flow.SetLimits(0, LIMITS._replace(position_max=1 << 20)))
    for _ in range(OPEN_ORDERS_MAX):
        await asks(bench, DenyReason.NONE, order_qty=1)
    await asks(bench, DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM, order_qty=1)
    # The other side has room, and this one has when an order ends.
    await asks(bench, DenyReason.NONE, order_qty=1, buys=False, price=flow.MID + flow.TICK)
    await bench.do(flow.Execute(0, 0, True, flow.MID, flow.MID, 1, True))
    await asks(bench, DenyReason.NONE, order_qty=1)
    await asks(bench, DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM, order_qty=1)
    await bench.drain()
