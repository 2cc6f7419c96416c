"""What commands and market records tell the gate, against what they tell the functional card."""

import random

from amaranth.sim import Simulator

from hw.rtl.risk.events import AccountKind
from hw.rtl.risk.market import MarketView
from hw.rtl.risk.settings import Settings
from kernels.exposure import Rate
from kernels.risk import LevelLimits, Limits, Market
from protocol import ring
from protocol.market import PHASES, MarketPhase
from protocol.risk import RiskLevel
from sw.risk import narrowed

SEED = 20200130
TRADERS, DESKS, SYMBOLS = 8, 4, 4
EDGES = (0, 1, 31, 32, 127, 128, (1 << 16) - 1, 1 << 16, (1 << 20) - 1, 1 << 20, (1 << 31) - 1)
EDGES += (1 << 31, (1 << 40) - 1, 1 << 40, (1 << 52) - 1, 1 << 52, (1 << 56) - 1, 1 << 56)
KINDS = {
    RiskLevel.FIRM: AccountKind.FIRM,
    RiskLevel.DESK: AccountKind.DESK,
    RiskLevel.TRADER: AccountKind.TRADER,
}


def simulate(component, records):
    """Hand records over, one a cycle with pauses; return what came out, in order."""
    outputs = {name: getattr(component, name) for name in component.signature.members}
    outputs = {name: port for name, port in outputs.items() if name.startswith("o")}
    seen = []
    record_port = getattr(component, "command", None)
    if record_port is None:
        record_port = component.record

    async def bench(ctx):
        rng = random.Random(SEED)
        await ctx.tick().repeat(SYMBOLS + 2)
        for record in [*records, *[None] * (SYMBOLS + 4)]:
            for now in (*[None] * rng.randrange(3), record):
                ctx.set(component.stb, now is not None)
                ctx.set(record_port, int.from_bytes(now or b"", "little"))
                await ctx.tick()
                for name, port in outputs.items():
                    if ctx.get(port.valid):
                        seen.append((name, ctx.get(port.payload)))
                if hasattr(component, "heartbeat_stb") and ctx.get(component.heartbeat_stb):
                    seen.append(("heartbeat", None))

    simulator = Simulator(component)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    return seen


def some(rng, layout, name):
    bits = 8 * layout.by_name[name].length
    return min(rng.choice((*EDGES, rng.getrandbits(bits))), (1 << bits) - 1)


def test_commands_set_what_the_functional_card_takes_from_them():
    rng = random.Random(SEED)
    print(f"seed {SEED}")
    records, expected = [], []
    for _ in range(400):
        kind = rng.choice((ring.LIMITS, ring.LEVEL_LIMITS, ring.LEVEL_LIMITS, ring.HEARTBEAT))
        values = {"flags": rng.randrange(2)}
        if kind is ring.LIMITS:
            names = set(Limits._fields) - {"restricted"}
            values |= {name: some(rng, kind, name) for name in names}
            values["symbol_index"] = rng.randrange(2 * SYMBOLS)
            limits = narrowed(Limits, values | {"restricted": bool(values["flags"])})
            expected.append(("o_symbol", values["symbol_index"], limits._asdict()))
        elif kind is ring.LEVEL_LIMITS:
            names = ("gross_max", "net_max", "rate_burst_ns", "rate_interval_ns")
            values |= {name: some(rng, kind, name) for name in names}
            level = rng.choice((*RiskLevel, ord("X")))
            index, desk = rng.randrange(2 * TRADERS), rng.randrange(2 * DESKS)
            values |= {"level": level, "level_index": index, "desk_index": desk}
            known = {RiskLevel.FIRM: TRADERS, RiskLevel.DESK: DESKS, RiskLevel.TRADER: TRADERS}
            if level in known and index < known[level]:
                rate = {"interval_ns": values["rate_interval_ns"]}
                rate = narrowed(Rate, rate | {"burst_ns": values["rate_burst_ns"]})
                limits = narrowed(LevelLimits, values)._asdict() | rate._asdict()
                del limits["due_ns"]
                place = 0 if level == RiskLevel.FIRM else index
                expected.append(("o_account", KINDS[level], place, limits))
                if level != RiskLevel.FIRM:
                    expected.append(("o_kill", KINDS[level], place, values["flags"]))
                if level == RiskLevel.TRADER and desk < DESKS:
                    expected.append(("o_desk", index, desk))
        else:
            expected.append(("heartbeat",))
        records.append(kind.pack(**values))
    got = []
    for name, payload in simulate(Settings(TRADERS, DESKS), [*records, bytes([0x31]) + bytes(63)]):
        if name == "o_symbol":
            limits = {field: int(payload.limits[field]) for field in Limits._fields}
            got.append((name, payload.symbol_index, limits))
        elif name == "o_account":
            fields = payload.limits.shape().members
            limits = {field: int(payload.limits[field]) for field in fields}
            got.append((name, payload.kind, payload.index, limits))
        elif name == "o_kill":
            got.append((name, payload.kind, payload.index, payload.on))
        elif name == "o_desk":
            got.append((name, payload.trader, payload.desk))
        else:
            got.append((name,))
    assert got == expected
    assert {item[0] for item in expected} == {*Settings(2, 2).signature.members} - {
        "stb",
        "command",
        "heartbeat_stb",
    } | {"heartbeat"}


def test_market_records_tell_what_is_known_of_a_market():
    rng = random.Random(SEED)
    records = []
    markets, phase = [Market() for _ in range(SYMBOLS)], MarketPhase.UNKNOWN
    for _ in range(300):
        index, kind = rng.randrange(SYMBOLS), rng.random()
        if kind < 0.5:
            prices = {f"{side}_price": rng.getrandbits(32) for side in ("bid", "ask")}
            state, flags = rng.choice(b"\0HPQT"), rng.randrange(2)
            values = {"bid_qty": 1, "ask_qty": 1, "bid_orders": 1, "ask_orders": 1}
            values |= {"ts_feed_ns": 0, "feed_sequence": 0, "trading_state": state}
            records.append(ring.BBO.pack(symbol_index=index, flags=flags, **prices, **values))
            halted = state in b"HPQ"
            markets[index] = markets[index]._replace(**prices, halted=halted, stale=bool(flags))
        elif kind < 0.9:
            price = rng.getrandbits(32)
            values = {"ts_feed_ns": 0, "feed_sequence": 0, "last_qty": 1, "match_number": 1}
            values |= {"side": 0, "match_type": ord("P")}
            records.append(ring.TRADE.pack(symbol_index=index, last_price=price, **values))
            markets[index] = markets[index]._replace(last_price=price)
        else:
            kind, status = rng.choice("SSSHh"), rng.choice([*PHASES, "T"])
            values = {"ts_feed_ns": 0, "feed_sequence": 0}
            records.append(
                ring.STATUS.pack(
                    symbol_index=ring.ALL_MARKET,
                    message_type=ord(kind),
                    status=ord(status),
                    **values,
                )
            )
            if kind == "S":
                phase = PHASES.get(status, phase)
    seen = simulate(MarketView(SYMBOLS), records)
    newest = {}
    for _, payload in seen:
        fields = {name: int(payload.market[name]) for name in Market._fields}
        newest[payload.symbol_index] = Market(**fields)
    assert phase is not MarketPhase.UNKNOWN
    assert newest == {i: market._replace(phase=phase) for i, market in enumerate(markets)}
