"""The producer's end of a ring in host memory: market and execution records."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.ring import check_power_of_two, check_range
from hw.rtl.ring.bus import BusParams

SLOTS_MAX = 1 << 16


class RingWriter(wiring.Component):
    """Writes records into a ring in host memory, as :class:`sw.ring.RingWriter` does.

    A record is one burst into its slot, and the last word of the burst is its sequence number: with
    the ordering rule of the bus the host finds the number only when the rest is there. A burst that
    is cut by a reset has not written it, so that the host finds the slot empty.

    A record is taken only while there is a free slot. The consumer's tail is read from the control
    line, ``poll_cycles`` after the last time it was read and after each ring of the doorbell, but
    not while every record is known to be released. A tail that goes back, or is ahead of the head,
    is not believed: whatever the host writes, no slot is written that it has not released.

    Latency is 1 cycle from a record to its first word, ``word_count`` to its last. Throughput is 1
    record every ``word_count`` cycles while the bus is ready.

    Parameters
    ----------
    params : BusParams
        Widths.
    slots_max : int
        Most slots of a ring. A power of two, 2 to 65,536.
    poll_cycles : int
        Cycles from an answer of the host's memory to the next question. 1 to 65,536.
    outstanding : int
        Records that may be written and not yet be in host memory. 1 to 256.

    Members
    -------
    enable : ``In(1)``
        While it is low no record is taken. Once nothing is under way the ring is forgotten: with
        the next rise it begins with record 1.
    base, slots : ``In``
        Address of the control line, and the ring's slots, a power of two. To be kept while
        ``enable`` is high or ``idle`` low.
    doorbell_stb : ``In(1)``
        The tail is read as soon as can be.
    i : ``In(stream.Signature(record_bits))``
        Records; the last word is ignored.
    o_write, o_read : ``Out``
        The bus.
    free : ``Out``
        Slots that can be claimed as far as is known; there may be more. 0 while not enabled.
    head, tail : ``Out(word_bits)``
        Records claimed; records known to be released.
    high_water : ``Out``
        Most slots in use since ``enable`` rose.
    publish_stb : ``Out(1)``
        The last word of a record was taken by the bus.
    idle : ``Out(1)``
        Nothing is under way.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(
        self,
        params: BusParams,
        slots_max: int = SLOTS_MAX,
        poll_cycles: int = 64,
        outstanding: int = 8,
    ):
        if not isinstance(params, BusParams):
            raise TypeError(f"params must be a BusParams, not {params!r}")
        check_power_of_two("slots_max", slots_max, 2, SLOTS_MAX)
        check_range("poll_cycles", poll_cycles, 1, 1 << 16)
        check_range("outstanding", outstanding, 1, 256)
        self.params = params
        self.slots_max = slots_max
        self.poll_cycles = poll_cycles
        self.outstanding = outstanding
        self._left = Signal(range(params.word_count + 1))  # Words of the record under way.
        super().__init__(
            {
                "enable": In(1),
                "base": In(params.address_bits),
                "slots": In(range(slots_max + 1)),
                "doorbell_stb": In(1),
                "i": In(stream.Signature(params.record_bits)),
                "o_write": Out(params.write_channel()),
                "o_read": Out(params.read_channel()),
                "free": Out(range(slots_max + 1)),
                "head": Out(params.word_bits),
                "tail": Out(params.word_bits),
                "high_water": Out(range(slots_max + 1)),
                "publish_stb": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        params = self.params
        running = Signal()
        polling = Signal()
        m.d.sync += running.eq(self.enable & (running | self.idle))

        # Slots in use. The tail is never ahead of the head, so that a few bits are enough.
        in_use = Signal(range(self.slots_max + 1))
        m.d.comb += [
            in_use.eq(self.head[: len(in_use)] - self.tail[: len(in_use)]),
            self.free.eq(Mux(running, self.slots - in_use, 0)),
        ]
        with m.If(in_use > self.high_water):
            m.d.sync += self.high_water.eq(in_use)

        # A record is taken, and goes out word by word. `place` and `room` lag behind the head by a
        # cycle, which a record of two words or more gives them.
        record = Signal(params.record_bits, reset_less=True)
        address = Signal(params.address_bits, reset_less=True)
        place = Signal(params.address_bits, reset_less=True)
        room = Signal()
        left = self._left
        pending = Signal(range(self.outstanding + 1))
        slot = self.head[: len(in_use)] & (self.slots - 1)[: len(in_use)]
        beat = self.o_write.beat
        taken = beat.valid & beat.ready
        claims = self.i.valid & self.i.ready
        m.d.sync += [
            place.eq(self.base + params.record_size * (slot + 1)),
            room.eq(running & (in_use < self.slots)),
        ]
        m.d.comb += [
            self.i.ready.eq(
                running
                & room
                & (pending < self.outstanding)
                & ((left == 0) | ((left == 1) & beat.ready))
            ),
            beat.valid.eq(left != 0),
            beat.payload.address.eq(address),
            beat.payload.data.eq(Mux(beat.payload.last, self.head, record[: params.word_bits])),
            beat.payload.enable.eq(~0),
            beat.payload.last.eq(left == 1),
            self.publish_stb.eq(taken & beat.payload.last),
        ]
        with m.If(taken):
            m.d.sync += [
                left.eq(left - 1),
                address.eq(address + params.word_size),
                record.eq(record >> params.word_bits),
            ]
        with m.If(claims):
            m.d.sync += [
                record.eq(self.i.payload),
                address.eq(place),
                left.eq(params.word_count),
                self.head.eq(self.head + 1),
            ]
        m.d.sync += pending.eq(pending + claims - self.o_write.done_stb)

        self._poll(m, running, polling)

        # Nothing under way, and not enabled: the next ring begins anew.
        m.d.comb += self.idle.eq((left == 0) & (pending == 0) & ~polling)
        with m.If(~self.enable & self.idle):
            m.d.sync += [self.head.eq(0), self.tail.eq(0), room.eq(0)]
        with m.If(self.enable & ~running):
            m.d.sync += self.high_water.eq(0)
        return m

    def _poll(self, m: Module, running: Signal, polling: Signal) -> None:
        """Read the tail now and then."""
        bits = self.params.word_bits
        ask, answer = self.o_read.ask, self.o_read.beat
        asked = Signal()
        rung = Signal()
        timer = Signal(range(self.poll_cycles + 1))
        found = Signal(bits, reset_less=True)
        released = Signal(bits, reset_less=True)
        unreleased = Signal(bits, reset_less=True)
        wants = running & self.enable & ~polling & (self.head != self.tail)
        checks = Signal(2)  # Bit 0: `found` is there; bit 1: so are the differences.
        m.d.comb += [
            ask.payload.address.eq(self.base),
            ask.payload.length.eq(1),
            polling.eq(ask.valid | asked | checks.any()),
        ]
        m.d.sync += checks.eq(Cat(asked & answer.valid, checks[0]))
        with m.If(self.doorbell_stb):
            m.d.sync += rung.eq(1)
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.If(ask.valid & ask.ready):
            m.d.sync += [ask.valid.eq(0), asked.eq(1)]
        with m.Elif(wants & (rung | (timer == 0))):
            m.d.sync += [ask.valid.eq(1), rung.eq(self.doorbell_stb)]
        with m.If(asked & answer.valid):
            m.d.sync += [
                found.eq(answer.payload.data),
                asked.eq(0),
                timer.eq(self.poll_cycles),
            ]
        m.d.sync += [released.eq(found - self.tail), unreleased.eq(self.head - self.tail)]
        with m.If(checks[1] & (released <= unreleased)):
            m.d.sync += self.tail.eq(found)
