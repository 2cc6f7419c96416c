"""The card's three rings, on one bus."""

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import RECORD
from hw.rtl.ring import check_range
from hw.rtl.ring.bus import BusArbiter, BusParams
from hw.rtl.ring.reader import RingReader
from hw.rtl.ring.writer import SLOTS_MAX, RingWriter

PARAMS = BusParams()
"""The bus of a card, 64 bits wide."""
assert PARAMS.record_bits == RECORD.width  # Both come from protocol.ring.


class Rings(wiring.Component):
    """Writes market and execution records, and reads commands.

    Records of a kind keep their order. Before the execution ring is a queue, in which records wait
    that have a slot promised (:class:`hw.rtl.ring.credit.Credit`) while the bus is busy.

    Latency is 1 cycle from a market record to its first word on the bus while nothing waits, 3
    from an execution record, and 2 from the last word of a command to ``o_command``. Throughput is
    1 word a cycle on the bus.

    Parameters
    ----------
    slots_max : int
        Most slots of a ring. A power of two, 2 to 65,536.
    poll_cycles : int
        How often the rings' control lines are read, and a command is looked for, in cycles. 1 to
        65,536.
    execution_queue : int
        Execution records that may wait. 2 to 1024.

    Members
    -------
    enable : ``In(1)``
        The card runs. See :class:`RingWriter` for its rise and fall.
    market_base, market_slots, execution_base, execution_slots, command_base, command_slots : ``In``
        Where the rings are, as in the register map.
    market_doorbell_stb, execution_doorbell_stb, command_doorbell_stb : ``In(1)``
        The host has moved its end of the ring.
    i_market, i_execution : ``In(stream.Signature(RECORD))``
        Records to be written.
    o_command : ``Out(stream.Signature(RECORD))``
        Commands.
    o_write, o_read : ``Out``
        The bus, see :mod:`hw.rtl.ring.bus`.
    execution_free : ``Out``
        Slots of the execution ring that can be claimed.
    execution_queued, execution_queued_max : ``Out``
        Execution records that wait; most that ever did.
    market_high_water, execution_high_water, command_high_water : ``Out``
        Most slots in use of the first two, since ``enable`` rose; most commands that waited.
    market_publish_stb : ``Out(1)``
        The last word of a market record was taken by the bus.
    command_stb : ``Out(1)``
        A command was taken.
    idle : ``Out(1)``
        Nothing is under way on the bus.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(
        self, slots_max: int = SLOTS_MAX, poll_cycles: int = 64, execution_queue: int = 16
    ):
        check_range("execution_queue", execution_queue, 2, 1024)
        self.market = RingWriter(PARAMS, slots_max, poll_cycles)
        self.execution = RingWriter(PARAMS, slots_max, poll_cycles)
        self.command = RingReader(PARAMS, slots_max, poll_cycles)
        self.execution_queue = execution_queue
        self._ends = {
            "market": self.market,
            "execution": self.execution,
            "command": self.command,
        }
        base, slots = In(PARAMS.address_bits), In(range(slots_max + 1))
        super().__init__(
            {
                "enable": In(1),
                **{f"{name}_base": base for name in self._ends},
                **{f"{name}_slots": slots for name in self._ends},
                **{f"{name}_doorbell_stb": In(1) for name in self._ends},
                "i_market": In(stream.Signature(RECORD)),
                "i_execution": In(stream.Signature(RECORD)),
                "o_command": Out(stream.Signature(RECORD)),
                "o_write": Out(PARAMS.write_channel()),
                "o_read": Out(PARAMS.read_channel()),
                "execution_free": Out(self.execution.free.shape()),
                "execution_queued": Out(range(execution_queue + 1)),
                "execution_queued_max": Out(range(execution_queue + 1)),
                **{
                    f"{name}_high_water": Out(end.high_water.shape())
                    for name, end in self._ends.items()
                },
                "market_publish_stb": Out(1),
                "command_stb": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.arbiter = arbiter = BusArbiter(PARAMS, len(self._ends))
        for i, (name, end) in enumerate(self._ends.items()):
            m.submodules[name] = end
            wiring.connect(m, end.o_write, arbiter.writes[i])
            wiring.connect(m, end.o_read, arbiter.reads[i])
            m.d.comb += [
                end.enable.eq(self.enable),
                end.base.eq(getattr(self, f"{name}_base")),
                end.slots.eq(getattr(self, f"{name}_slots")),
                end.doorbell_stb.eq(getattr(self, f"{name}_doorbell_stb")),
                getattr(self, f"{name}_high_water").eq(end.high_water),
            ]
        wiring.connect(m, arbiter.o_write, wiring.flipped(self.o_write))
        wiring.connect(m, arbiter.o_read, wiring.flipped(self.o_read))
        m.d.comb += self.idle.eq(self.market.idle & self.execution.idle & self.command.idle)

        wiring.connect(m, wiring.flipped(self.i_market), self.market.i)
        m.d.comb += self.market_publish_stb.eq(self.market.publish_stb)

        m.submodules.queue = queue = SyncFIFOBuffered(
            width=RECORD.width, depth=self.execution_queue
        )
        wiring.connect(m, wiring.flipped(self.i_execution), queue.w_stream)
        wiring.connect(m, queue.r_stream, self.execution.i)
        m.d.comb += [
            self.execution_free.eq(self.execution.free),
            self.execution_queued.eq(queue.level),
        ]
        with m.If(queue.level > self.execution_queued_max):
            m.d.sync += self.execution_queued_max.eq(queue.level)

        wiring.connect(m, self.command.o, wiring.flipped(self.o_command))
        m.d.comb += self.command_stb.eq(self.o_command.valid & self.o_command.ready)
        return m
