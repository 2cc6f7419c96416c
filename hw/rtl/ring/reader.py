"""The consumer's end of a ring in host memory: commands of the host."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.rtl.ring import check_power_of_two, check_range
from hw.rtl.ring.bus import BusParams
from hw.rtl.ring.writer import SLOTS_MAX


class RingReader(wiring.Component):
    """Reads records from a ring in host memory, as :class:`sw.ring.RingReader` does.

    Of each record the sequence number is read first and the rest after it, in two bursts that are
    asked for without waiting: with the ordering rule of the bus the rest is not older than the
    number. The record counts if the number is the one that is waited for; if not, it and what was
    asked for after it are passed over, and the question comes again ``poll_cycles`` later or when
    the doorbell rings. A record that is here is released by writing the tail, and of several
    releases only the last is written.

    Latency is 2 cycles from the last word of a record to ``o``. Throughput is 1 record every
    ``word_count`` cycles, while ``ahead`` records cover the latency of host memory.

    Parameters
    ----------
    params : BusParams
        Widths.
    slots_max : int
        Most slots of a ring. A power of two, 2 to 65,536.
    poll_cycles : int
        Cycles from a record that was not there to the next question. 1 to 65,536.
    ahead : int
        Records that are asked for and kept before one is taken. 1 to 16.

    Members
    -------
    enable : ``In(1)``
        While it is low nothing is asked for. Once nothing is under way the ring is forgotten, and
        records that were not taken are lost: with the next rise it begins with record 1.
    base, slots : ``In``
        Address of the control line, and the ring's slots, a power of two. To be kept while
        ``enable`` is high or ``idle`` low.
    doorbell_stb : ``In(1)``
        There is a new record: it is asked for as soon as can be.
    o : ``Out(stream.Signature(record_bits))``
        Records in their order, each with its sequence number in the last word.
    o_write, o_read : ``Out``
        The bus.
    tail : ``Out(word_bits)``
        Records released.
    high_water : ``Out``
        Most records that ever waited for ``o``.
    idle : ``Out(1)``
        Nothing is under way on the bus.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 2

    def __init__(
        self,
        params: BusParams,
        slots_max: int = SLOTS_MAX,
        poll_cycles: int = 16,
        ahead: int = 4,
    ):
        if not isinstance(params, BusParams):
            raise TypeError(f"params must be a BusParams, not {params!r}")
        check_power_of_two("slots_max", slots_max, 2, SLOTS_MAX)
        check_range("poll_cycles", poll_cycles, 1, 1 << 16)
        check_range("ahead", ahead, 1, 16)
        self.params = params
        self.slots_max = slots_max
        self.poll_cycles = poll_cycles
        self.ahead = ahead
        super().__init__(
            {
                "enable": In(1),
                "base": In(params.address_bits),
                "slots": In(range(slots_max + 1)),
                "doorbell_stb": In(1),
                "o": Out(stream.Signature(params.record_bits)),
                "o_write": Out(params.write_channel()),
                "o_read": Out(params.read_channel()),
                "tail": Out(params.word_bits),
                "high_water": Out(range(ahead + 1)),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        params = self.params
        running = Signal()
        forgets = Signal()
        m.d.comb += forgets.eq(~self.enable & self.idle)
        m.d.sync += running.eq(self.enable & (running | self.idle))
        m.submodules.kept = kept = ResetInserter(forgets)(
            SyncFIFO(width=params.record_bits, depth=self.ahead)
        )

        # What comes: the number, then the rest of the record.
        answer = self.o_read.beat
        number = Signal(params.word_bits, reset_less=True)
        words = Signal(params.record_bits - params.word_bits, reset_less=True)
        in_rest = Signal()
        arrived = Signal()
        m.d.sync += arrived.eq(in_rest & answer.valid & answer.payload.last)
        with m.If(answer.valid & ~in_rest):
            m.d.sync += [number.eq(answer.payload.data), in_rest.eq(1)]
        with m.Elif(answer.valid):
            m.d.sync += [
                words.eq(Cat(words, answer.payload.data)[params.word_bits :]),
                in_rest.eq(~answer.payload.last),
            ]

        # A record counts if nothing before it was missing and it has the number waited for.
        in_flight = Signal(range(self.ahead + 1))
        passed_over = Signal(range(self.ahead + 1))
        wanted = Signal(params.word_bits, init=1)
        hit = Signal()
        miss = Signal()
        m.d.comb += [
            hit.eq(arrived & (passed_over == 0) & (number == wanted)),
            miss.eq(arrived & (passed_over == 0) & (number != wanted)),
            kept.w_en.eq(hit),
            kept.w_data.eq(Cat(words, number)),
            self.o.valid.eq(kept.r_rdy),
            self.o.payload.eq(kept.r_data),
            kept.r_en.eq(self.o.ready),
        ]
        with m.If(hit):
            m.d.sync += [wanted.eq(wanted + 1), self.tail.eq(wanted)]
        with m.If(kept.level > self.high_water):
            m.d.sync += self.high_water.eq(kept.level)

        # Asking: more than one record only after one that was there.
        asked = Signal(params.word_bits)  # Records asked for.
        place = Signal(params.address_bits, reset_less=True)
        place_rest = Signal(params.address_bits, reset_less=True)
        settled = Signal()  # `place` has followed `asked`.
        eager = Signal()
        rung = Signal()
        in_second = Signal()
        asks = Signal()
        timer = Signal(range(self.poll_cycles + 1))
        ask = self.o_read.ask
        slot_bits = len(self.slots)
        slot = asked[:slot_bits] & (self.slots - 1)[:slot_bits]
        m.d.comb += asks.eq(
            running
            & self.enable
            & settled
            & ~ask.valid
            & ~arrived
            & (passed_over == 0)
            & Mux(
                eager,
                in_flight + kept.level < self.ahead,
                (in_flight == 0) & (kept.level < self.ahead) & (rung | (timer == 0)),
            )
        )
        m.d.sync += [
            place.eq(self.base + params.record_size * (slot + 1)),
            settled.eq(running & ~asks & ~miss),
            in_flight.eq(in_flight + asks - arrived),
        ]
        with m.If(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.If(asks):
            m.d.sync += [
                ask.valid.eq(1),
                ask.payload.address.eq(place + params.record_size - params.word_size),
                ask.payload.length.eq(1),
                place_rest.eq(place),
                asked.eq(asked + 1),
            ]
        with m.Elif(ask.valid & ask.ready):
            m.d.sync += [
                in_second.eq(~in_second),
                ask.valid.eq(~in_second),
                ask.payload.address.eq(place_rest),
                ask.payload.length.eq(params.word_count - 1),
            ]
        with m.If(self.doorbell_stb):
            m.d.sync += rung.eq(1)
        with m.Elif(asks & (in_flight == 0)):
            m.d.sync += rung.eq(0)
        with m.If(hit):
            m.d.sync += eager.eq(1)
        with m.If(arrived & (passed_over != 0)):
            m.d.sync += passed_over.eq(passed_over - 1)
        with m.If(miss):
            m.d.sync += [
                passed_over.eq(in_flight - 1),
                asked.eq(self.tail),
                eager.eq(0),
                timer.eq(self.poll_cycles),
            ]

        # Releasing: the newest tail, one write at a time.
        beat = self.o_write.beat
        releasing = Signal()
        m.d.comb += [
            beat.payload.address.eq(self.base),
            beat.payload.enable.eq(~0),
            beat.payload.last.eq(1),
        ]
        with m.If(beat.valid & beat.ready):
            m.d.sync += beat.valid.eq(0)
        with m.If(self.o_write.done_stb):
            m.d.sync += releasing.eq(0)
        with m.Elif(running & ~releasing & (beat.payload.data != self.tail)):
            m.d.sync += [beat.valid.eq(1), beat.payload.data.eq(self.tail), releasing.eq(1)]

        # Nothing under way, and not enabled: the next ring begins anew.
        m.d.comb += self.idle.eq((in_flight == 0) & ~arrived & ~releasing)
        with m.If(forgets):
            m.d.sync += [
                asked.eq(0),
                self.tail.eq(0),
                wanted.eq(1),
                eager.eq(0),
                timer.eq(0),
                beat.payload.data.eq(0),
                self.high_water.eq(0),
            ]
        return m
