"""The risk gate in Amaranth's simulator: slower than Verilator, but there is nothing to build.

It is for what changes the gate itself, where each change would be another build.
"""

from collections import deque

from amaranth.sim import Simulator

from hw.rtl.risk import Gate
from protocol.reasons import DenyReason
from sim.tb import orders_flow as flow
from sim.tb.gate import DECISION_FIELDS, LAYOUTS, STATE_FIELDS, pack, state_of, told, unpack

DRAINED_CYCLES = Gate.LATENCY + 1


def differences(seed, events, most=1):
    """Play a random day on the gate. Returns what it decides or knows otherwise than the golden
    model, at most so many times, each with the step."""
    gate = Gate(symbol_count=8, trader_count=8, desk_count=4, heartbeat_cycles_max=1 << 20)
    found = []

    async def bench(ctx):
        expected = deque()

        async def tick():
            _, _, valid, decided, state = await ctx.tick().sample(
                gate.o.valid, gate.o.payload.as_value(), gate.o_state.as_value()
            )
            if not valid:
                return
            step, reason, known = expected.popleft()
            decision = unpack(DECISION_FIELDS, decided)
            if decision["reason"] != reason:
                found.append((step, reason, DenyReason(decision["reason"])))
            elif known is not None:
                values = unpack(STATE_FIELDS, state)
                if {name: values[name] for name in known} != known:
                    found.append((step, known, values))

        async def tell(name, values):
            stream = getattr(gate, name)
            ctx.set(stream.payload.as_value(), pack(LAYOUTS[name], values))
            ctx.set(stream.valid, 1)
            await tick()
            ctx.set(stream.valid, 0)

        ctx.set(gate.heartbeat_stb, 1)
        while not ctx.get(gate.ready):
            await tick()
        for trader, desk in enumerate(flow.DESKS):
            await tell("i_desk", {"trader": trader, "desk": desk})
        day = flow.Flow(seed)
        for step in day.steps(events):
            if isinstance(step, flow.Kill):
                for _ in range(DRAINED_CYCLES):
                    await tick()
            name, values = told(step)
            if name == "i":
                reason, known = DenyReason.NONE, None
                if isinstance(step, flow.Decide):
                    reason = step.reason
                    known = state_of(day.gate, step) if reason is DenyReason.NONE else None
                expected.append((step, reason, known))
            await tell(name, values)
            if len(found) >= most:
                return
        for _ in range(DRAINED_CYCLES):
            await tick()
        assert not expected

    simulator = Simulator(gate)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return found
