"""The memory bus between the card and host memory, and the turns that masters take on it.

**Ordering rule.** What a master may rely on, and a bridge to a real bus must keep:

1. Write beats of one master become visible in host memory in the order in which they were taken,
   beat by beat. A word is written whole. So the last word of a burst is written last.
2. Reads of one master are done in the order in which they were asked for, and within a burst from
   the lowest address up. So a word that is asked for later is not older.
3. Nothing is promised between writes and reads, or between masters.

PCIe keeps the first for posted writes without relaxed ordering; for the second a bridge to it
waits for the completion of one read before it sends the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.wiring import In, Out

from hw.rtl.ring import check_range
from protocol.ring import RECORD_SIZE

BYTE_BITS = 8
WORD_BITS = 64
ADDRESS_BITS = 64


@dataclass(frozen=True, slots=True)
class BusParams:
    """Widths of the bus and of a record on it.

    Those of the card are the defaults; a proof is made with narrow ones.

    Parameters
    ----------
    word_bits : int
        Bits of a word, and of sequence numbers; a multiple of 8.
    word_count : int
        Words in a record, 2 to 64.
    address_bits : int
        Bits of an address, which counts bytes and is a multiple of the word's.

    Raises
    ------
    TypeError, ValueError
        If a width is not one of these.
    """

    word_bits: int = WORD_BITS
    word_count: int = RECORD_SIZE * BYTE_BITS // WORD_BITS
    address_bits: int = ADDRESS_BITS

    def __post_init__(self) -> None:
        check_range("word_bits", self.word_bits, BYTE_BITS, WORD_BITS)
        if self.word_bits % BYTE_BITS:
            raise ValueError(f"word_bits must be a multiple of 8, not {self.word_bits!r}")
        check_range("word_count", self.word_count, 2, 64)
        check_range("address_bits", self.address_bits, BYTE_BITS, ADDRESS_BITS)

    @property
    def word_size(self) -> int:
        """Bytes of a word."""
        return self.word_bits // BYTE_BITS

    @property
    def record_bits(self) -> int:
        return self.word_bits * self.word_count

    @property
    def record_size(self) -> int:
        """Bytes of a record, and of the control line before the first one."""
        return self.word_size * self.word_count

    def write_beat(self) -> data.StructLayout:
        """A word to be written: each bit of ``enable`` for a byte; ``last`` ends a burst."""
        return data.StructLayout(
            {
                "address": self.address_bits,
                "data": self.word_bits,
                "enable": self.word_size,
                "last": 1,
            }
        )

    def read_burst(self) -> data.StructLayout:
        """Words to be read: ``length`` of them, 1 or more, from ``address`` on."""
        return data.StructLayout(
            {"address": self.address_bits, "length": range(self.word_count + 1)}
        )

    def read_beat(self) -> data.StructLayout:
        """A word that was read; ``last`` ends a burst."""
        return data.StructLayout({"data": self.word_bits, "last": 1})

    def write_channel(self) -> wiring.Signature:
        """Return a master's side of the channel for writes.

        ``beat`` takes bursts word by word, and ``done_stb`` is high for one cycle for each burst
        that is in host memory, in the order of the bursts.
        """
        return wiring.Signature(
            {"beat": Out(stream.Signature(self.write_beat())), "done_stb": In(1)}
        )

    def read_channel(self) -> wiring.Signature:
        """Return a master's side of the channel for reads: a master asks for what it has room for.

        ``ask`` takes bursts, and ``beat`` has their words, in the order in which they were asked
        for.
        """
        return wiring.Signature(
            {
                "ask": Out(stream.Signature(self.read_burst())),
                "beat": In(stream.Signature(self.read_beat(), always_ready=True)),
            }
        )


def in_turn(m: Module, wants: Sequence[Value], moves: Value, name: str) -> Signal:
    """Return whose turn it is: the next one after the last that wants it, and all take turns.

    The turn is kept until ``moves``, which ends it.
    """
    turn = Signal(range(len(wants)), name=f"{name}_turn")
    held = Signal(name=f"{name}_held")
    last = Signal.like(turn, name=f"{name}_last")
    chosen = Signal.like(turn, name=f"{name}_chosen")
    wanted = Cat(wants)
    with m.Switch(last):
        for before in range(len(wants)):
            with m.Case(before):
                order = [(before + 1 + step) % len(wants) for step in range(len(wants))]
                for who in reversed(order):  # The last assignment is the first in turn.
                    with m.If(wanted[who]):
                        m.d.comb += chosen.eq(who)
    m.d.comb += turn.eq(Mux(held, last, chosen))
    with m.If(moves):
        m.d.sync += [held.eq(0), last.eq(turn)]
    with m.Elif(wanted.any()):
        m.d.sync += [held.eq(1), last.eq(turn)]
    return turn


class BusArbiter(wiring.Component):
    """Lets several masters share a bus: turn by turn, a burst each.

    A master that wants the bus gets it after at most one burst of each other one. Its bursts stay
    in order, and are never cut.

    Latency is 0 cycles either way. Throughput is 1 word a cycle for writes, and 1 burst a cycle is
    asked for.

    Parameters
    ----------
    params : BusParams
        Widths.
    master_count : int
        Masters, 2 to 16.
    outstanding : int
        Bursts of a kind that may be taken and not done; no more are taken. 1 to 1024.

    Members
    -------
    writes : ``In(params.write_channel()).array(master_count)``
        The masters' channels for writes.
    reads : ``In(params.read_channel()).array(master_count)``
        Those for reads.
    o_write, o_read : ``Out``
        The bus.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(self, params: BusParams, master_count: int, outstanding: int = 16):
        if not isinstance(params, BusParams):
            raise TypeError(f"params must be a BusParams, not {params!r}")
        check_range("master_count", master_count, 2, 16)
        check_range("outstanding", outstanding, 1, 1024)
        self.params = params
        self.master_count = master_count
        self.outstanding = outstanding
        super().__init__(
            {
                "writes": In(params.write_channel()).array(master_count),
                "reads": In(params.read_channel()).array(master_count),
                "o_write": Out(params.write_channel()),
                "o_read": Out(params.read_channel()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        masters = range(self.master_count)

        def owners(name: str) -> SyncFIFO:
            """Whose burst it is that will be done next."""
            width = max(1, (self.master_count - 1).bit_length())
            m.submodules[name] = fifo = SyncFIFO(width=width, depth=self.outstanding)
            return fifo

        # Writes: a burst is taken whole, and its master told when it is done.
        whose_write = owners("whose_write")
        bus = self.o_write.beat
        beats = [self.writes[i].beat for i in masters]
        write_ends = bus.valid & bus.ready & bus.payload.last
        turn = in_turn(m, [beat.valid for beat in beats], write_ends, "write")
        m.d.comb += [
            whose_write.w_data.eq(turn),
            whose_write.w_en.eq(write_ends),
            whose_write.r_en.eq(self.o_write.done_stb),
        ]
        with m.Switch(turn):
            for i, beat in enumerate(beats):
                with m.Case(i):
                    m.d.comb += [
                        bus.payload.eq(beat.payload),
                        bus.valid.eq(beat.valid & whose_write.w_rdy),
                        beat.ready.eq(bus.ready & whose_write.w_rdy),
                    ]
        for i in masters:
            is_owner = whose_write.r_data == i
            m.d.comb += self.writes[i].done_stb.eq(self.o_write.done_stb & is_owner)

        # Reads: words go to the master that asked for them.
        whose_read = owners("whose_read")
        ask = self.o_read.ask
        asks = [self.reads[i].ask for i in masters]
        asked = ask.valid & ask.ready
        turn = in_turn(m, [each.valid for each in asks], asked, "read")
        came = self.o_read.beat
        m.d.comb += [
            whose_read.w_data.eq(turn),
            whose_read.w_en.eq(asked),
            whose_read.r_en.eq(came.valid & came.payload.last),
        ]
        with m.Switch(turn):
            for i, each in enumerate(asks):
                with m.Case(i):
                    m.d.comb += [
                        ask.payload.eq(each.payload),
                        ask.valid.eq(each.valid & whose_read.w_rdy),
                        each.ready.eq(ask.ready & whose_read.w_rdy),
                    ]
        for i in masters:
            m.d.comb += [
                self.reads[i].beat.payload.eq(came.payload),
                self.reads[i].beat.valid.eq(came.valid & (whose_read.r_data == i)),
            ]
        return m
