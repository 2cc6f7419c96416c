"""What the host sets by commands: limits, kill switches, desks and the heartbeat."""

from amaranth.hdl import Cat, Const, Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import RECORD
from hw.rtl.risk.events import (
    SET_ACCOUNT,
    SET_DESK,
    SET_KILL,
    SET_SYMBOL,
    AccountKind,
    fields_of,
)
from protocol import ring
from protocol.emit import amaranth_layout as layouts
from protocol.ring import LevelLimitsFlag, LimitsFlag, RecordType
from protocol.risk import RiskLevel

_KINDS = {
    RiskLevel.FIRM: AccountKind.FIRM,
    RiskLevel.DESK: AccountKind.DESK,
    RiskLevel.TRADER: AccountKind.TRADER,
}


class Settings(wiring.Component):
    """Tells the gate what the host's commands set; it looks on while commands are taken.

    A limit that is too wide for the gate becomes the highest that fits, which is the tighter one. A
    level that is none, and an index that the gate does not have, set nothing. The kill switch of
    the firm is not set here: it is a register.

    Latency is 1 cycle. Throughput is 1 command a cycle.

    Parameters
    ----------
    trader_count, desk_count : int
        Those of the gate.

    Members
    -------
    stb, command : ``In``
        A command that was taken, of whatever type.
    o_symbol, o_account, o_kill, o_desk : ``Out(stream.Signature(..., always_ready=True))``
        See :class:`~hw.rtl.risk.gate.Gate`.
    heartbeat_stb : ``Out(1)``
        The command was a heartbeat.
    """

    def __init__(self, trader_count: int, desk_count: int):
        self.trader_count, self.desk_count = trader_count, desk_count
        super().__init__(
            {
                "stb": In(1),
                "command": In(RECORD),
                **{
                    name: Out(stream.Signature(shape, always_ready=True))
                    for name, shape in (
                        ("o_symbol", SET_SYMBOL),
                        ("o_account", SET_ACCOUNT),
                        ("o_kill", SET_KILL),
                        ("o_desk", SET_DESK),
                    )
                },
                "heartbeat_stb": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        kind = self.command[:8]
        is_limits = self.stb & (kind == RecordType.LIMITS)
        is_level = self.stb & (kind == RecordType.LEVEL_LIMITS)
        m.d.sync += self.heartbeat_stb.eq(self.stb & (kind == RecordType.HEARTBEAT))

        def told(layout, name):
            return layouts.host(layout, self.command, name)

        # Of a symbol.
        symbol = self.o_symbol
        m.d.sync += [
            symbol.valid.eq(is_limits),
            symbol.payload.symbol_index.eq(told(ring.LIMITS, "symbol_index")),
            *(
                field.eq(
                    told(ring.LIMITS, "flags")[LimitsFlag.RESTRICTED.bit_length() - 1]
                    if name == "restricted"
                    else _narrowed(told(ring.LIMITS, name), len(field))
                )
                for name, field in fields_of(symbol.payload.limits)
            ),
        ]

        # Of a trader, a desk or the firm.
        level = told(ring.LEVEL_LIMITS, "level")
        level_index = told(ring.LEVEL_LIMITS, "level_index")
        desk = told(ring.LEVEL_LIMITS, "desk_index")
        is_kind = {known: level == known for known in RiskLevel}
        count = {
            RiskLevel.FIRM: self.trader_count,  # Any of these indexes means the one firm.
            RiskLevel.DESK: self.desk_count,
            RiskLevel.TRADER: self.trader_count,
        }
        is_there = Cat(is_kind[known] & (level_index < count[known]) for known in RiskLevel).any()
        index = Mux(is_kind[RiskLevel.FIRM], 0, level_index)
        account, kill, assign = self.o_account, self.o_kill, self.o_desk
        m.d.sync += [
            account.valid.eq(is_level & is_there),
            account.payload.index.eq(index),
            kill.valid.eq(is_level & is_there & ~is_kind[RiskLevel.FIRM]),
            kill.payload.index.eq(index),
            kill.payload.on.eq(
                told(ring.LEVEL_LIMITS, "flags")[LevelLimitsFlag.KILLED.bit_length() - 1]
            ),
            assign.valid.eq(
                is_level & is_there & is_kind[RiskLevel.TRADER] & (desk < self.desk_count)
            ),
            assign.payload.trader.eq(level_index),
            assign.payload.desk.eq(desk),
            *(
                field.eq(_narrowed(told(ring.LEVEL_LIMITS, _IN_RECORD.get(name, name)), len(field)))
                for name, field in fields_of(account.payload.limits)
            ),
        ]
        for known, meant in _KINDS.items():
            with m.If(is_kind[known]):
                m.d.sync += [account.payload.kind.eq(meant), kill.payload.kind.eq(meant)]
        return m


_IN_RECORD = {"burst_ns": "rate_burst_ns", "interval_ns": "rate_interval_ns"}


def _narrowed(value, width):
    """Return a number in fewer bits, the highest one where it does not fit."""
    if len(value) <= width:
        return value
    return Mux(value[width:].any(), Const((1 << width) - 1, width), value[:width])
