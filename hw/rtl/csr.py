"""The register bank: every register of :mod:`protocol.registers`, on one bus of the host."""

from collections.abc import Iterator

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import TIME
from hw.rtl.params import CardParams
from hw.rtl.telemetry import step_of
from protocol import registers
from protocol.registers import REGISTERS, STRIDE, WIDTH_BITS, Access, Capability, Register

ADDRESS_BITS = 21
"""Enough for the symbol table's end."""

_GROUP_BITS = 4  # Sixteen registers are chosen from at once.
_TABLE = (registers.SYMBOL_STOCK, registers.SYMBOL_LOCATE)
_ALONE = (*_TABLE, registers.LATENCY_BUCKET, registers.DOORBELL)


def _fixed(params: CardParams, capabilities: int) -> dict[str, int]:
    """Return the registers that never change."""
    return {
        "identity": registers.IDENTITY,
        "version": registers.VERSION_MAJOR << 16 | registers.VERSION_MINOR,
        "symbol_count": params.symbol_count,
        "order_count": params.order_count,
        "capabilities": capabilities,
    }


def is_held(register: Register) -> bool:
    """Return whether a register reads as it was while HOLD is 1."""
    first, last = registers.FRAMES_RECEIVED.offset, registers.LATENCY_BUCKET.offset
    return register.access is Access.R and first <= register.offset < last


class RegisterBank(wiring.Component):
    """Holds what the host writes and shows what the card counts.

    It is made of the register map: a register that the host can write is an output of its name, one
    that it can only read an input, an array of them an array. With a register that is written comes
    a strobe ``<name>_stb``, in the first cycle in which the output has the new value.

    While HOLD is 1 every counter reads as it was in the cycle in which HOLD was written, so that
    all of them together are the picture of one cycle.

    KILL is set by the host, and by the bank when the host has been silent for more than
    HEARTBEAT_TIMEOUT_NS while the card runs; ORDER_SESSION is cleared when the session has ended.

    The symbol table is written to memory, from where the host can read it back, and told to the
    book. Memory is not cleared by reset: a symbol that was not written since reads 0.

    Latency is 2 cycles from a write to the output and 5 from a read to its data. Throughput is 1
    read and 1 write a cycle.

    Parameters
    ----------
    params : CardParams
        The card's numbers that can be read.
    clock_mhz : float
        The step of card time after reset is that of this clock.
    capabilities : int
        What CAPABILITIES reads, a bit for each :class:`protocol.registers.Capability`.

    Members
    -------
    address : ``In(21)``
        Byte address, for a read and a write in this cycle. The lowest three bits are ignored.
    write_stb, write_data, read_stb : ``In``
        What is asked for. Writes to what is read-only or not there do nothing, such reads give 0.
    o_read_stb, o_read_data : ``Out``
        The data of a read, 5 cycles after it.
    <name> : ``Out(64)`` or ``In(64)``, arrays of them
        Registers. Not there are those that never change; SYMBOL_STOCK and SYMBOL_LOCATE;
        LATENCY_BUCKET; and DOORBELL, which has strobes alone.
    doorbell_stb : ``Out(3)``
        A bit for each :class:`protocol.registers.RingName`.
    symbol_stock_stb, symbol_locate_stb : ``Out(1)``
        An entry of the symbol table was written.
    symbol_index, symbol_value : ``Out``
        Which one, and what; 0 takes it away.
    load_stb : ``In(1)``
        Tell the whole symbol table once more, an entry a cycle.
    loaded : ``Out(1)``
        That is done.
    configured : ``Out(symbol_count)``
        A bit for each symbol that has a name.
    bucket, bucket_count : ``Out``, ``In(32)``
        LATENCY_BUCKET asked for, and what it has 3 cycles later.
    heartbeat_stb : ``In(1)``
        The host lives.
    order_session_end_stb : ``In(1)``
        The session has ended.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY_READ = 5
    LATENCY_WRITE = 2

    def __init__(self, params: CardParams, clock_mhz: float, capabilities: int = 0):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        if isinstance(capabilities, bool) or not isinstance(capabilities, int):
            raise TypeError(f"capabilities must be an integer, not {capabilities!r}")
        if capabilities >> len(Capability):
            raise ValueError(
                f"capabilities must have bits 0 to {len(Capability) - 1}, not {capabilities:#x}"
            )
        self.params = params
        self._step_init = step_of(clock_mhz)
        self._constants = _fixed(params, capabilities)
        members = {}
        for register in REGISTERS:
            if register in _ALONE or register.name in self._constants:
                continue
            if register.access is Access.R:
                members[register.name] = In(WIDTH_BITS)
            else:
                members[register.name] = Out(WIDTH_BITS, init=self._init(register))
                members[f"{register.name}_stb"] = Out(1)
            if register.count > 1:
                for name in members.keys() & {register.name, f"{register.name}_stb"}:
                    members[name] = members[name].array(register.count)
        super().__init__(
            {
                "address": In(ADDRESS_BITS),
                "write_stb": In(1),
                "write_data": In(WIDTH_BITS),
                "read_stb": In(1),
                "o_read_stb": Out(1),
                "o_read_data": Out(WIDTH_BITS),
                **members,
                "doorbell_stb": Out(registers.DOORBELL.count),
                "symbol_stock_stb": Out(1),
                "symbol_locate_stb": Out(1),
                "symbol_index": Out(range(params.symbol_count)),
                "symbol_value": Out(WIDTH_BITS),
                "load_stb": In(1),
                "loaded": Out(1),
                "configured": Out(params.symbol_count),
                "bucket": Out(range(registers.LATENCY_BUCKET.count)),
                "bucket_count": In(32),
                "heartbeat_stb": In(1),
                "order_session_end_stb": In(1),
            }
        )

    def _init(self, register: Register) -> int:
        if register is registers.CLOCK_STEP:
            return self._step_init
        return register.init or 0

    def _elements(self, register: Register) -> Iterator[tuple[int, Value]]:
        """Yield the word address and value of each element of a register with a member."""
        member = getattr(self, register.name)
        for i in range(register.count):
            yield register.address(i) // STRIDE, member if register.count == 1 else member[i]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word_bits = ADDRESS_BITS - (STRIDE - 1).bit_length()
        shift = ADDRESS_BITS - word_bits

        # Stage 1: the address, told from all others.
        s1_word = Signal(word_bits, reset_less=True)
        s1_data = Signal(WIDTH_BITS, reset_less=True)
        s1_write = Signal()
        s1_read = Signal()
        m.d.sync += [
            s1_word.eq(self.address[shift:]),
            s1_data.eq(self.write_data),
            s1_write.eq(self.write_stb),
            s1_read.eq(self.read_stb),
        ]

        self._write(m, s1_word, s1_data, s1_write)
        self._watch(m)
        self._symbols(m, s1_word, s1_data, s1_write)
        self._read(m, s1_word, s1_read)
        return m

    def _write(self, m: Module, s1_word: Value, s1_data: Value, s1_write: Value) -> None:
        """Keep what the host writes."""
        for register in REGISTERS:
            if register.access is Access.R or register in _ALONE:
                continue
            strobes = getattr(self, f"{register.name}_stb")
            for i, (word, value) in enumerate(self._elements(register)):
                strobe = strobes if register.count == 1 else strobes[i]
                here = Signal(name=f"{register.name}_{i}_here")
                m.d.comb += here.eq(s1_write & (s1_word == word))
                m.d.sync += strobe.eq(here)
                with m.If(here):
                    m.d.sync += value.eq(s1_data)
        for i in range(registers.DOORBELL.count):
            word = registers.DOORBELL.address(i) // STRIDE
            m.d.sync += self.doorbell_stb[i].eq(s1_write & (s1_word == word))
        with m.If(self.order_session_end_stb):
            m.d.sync += self.order_session.eq(0)

    def _watch(self, m: Module) -> None:
        """Set KILL when the host is silent for too long."""
        heard_ns = Signal(TIME)
        silence_ns = Signal(TIME)
        late = Signal()
        running = Signal()
        m.d.sync += [
            running.eq(self.control[0]),
            silence_ns.eq(self.clock_ns - heard_ns),
            late.eq(running & (silence_ns > self.heartbeat_timeout_ns)),
        ]
        with m.If(self.heartbeat_stb | (self.control[0] & ~running)):
            # What was worked out of the time before counts no more.
            m.d.sync += [heard_ns.eq(self.clock_ns), silence_ns.eq(0), late.eq(0)]
        with m.If(late & self.heartbeat_timeout_ns.any()):
            m.d.sync += self.kill.eq(1)

    def _symbols(self, m: Module, s1_word: Value, s1_data: Value, s1_write: Value) -> None:
        """Keep the symbol table, and tell of what is written."""
        first = registers.SYMBOL_STOCK.offset // STRIDE
        index = Signal(range(self.params.symbol_count))
        inside = Signal()
        is_locate = Signal()
        entry = Signal(len(s1_word))
        strobes = {0: self.symbol_stock_stb, 1: self.symbol_locate_stb}
        m.d.comb += [
            entry.eq(s1_word - first),
            is_locate.eq(entry[0]),
            index.eq(entry[1:]),
            inside.eq((s1_word >= first) & (entry[1:] < self.params.symbol_count)),
        ]
        m.d.sync += [
            *(stb.eq(s1_write & inside & (is_locate == which)) for which, stb in strobes.items()),
            self.symbol_index.eq(index),
            self.symbol_value.eq(s1_data),
        ]
        # The walk over the table; a write of the host goes before its next step.
        count = self.params.symbol_count
        place = Signal(range(2 * count))
        loading = Signal()
        steps = Signal()
        m.d.comb += steps.eq(loading & ~(s1_write & inside))
        with m.If(steps):
            m.d.sync += place.eq(place + 1)
            with m.If(place == 2 * count - 1):
                m.d.sync += [loading.eq(0), self.loaded.eq(1)]
            m.d.sync += self.symbol_index.eq(place[1:])
        with m.If(self.load_stb):
            m.d.sync += [loading.eq(1), self.loaded.eq(0), place.eq(0)]
        self._kept = {}
        for which, register in enumerate(_TABLE):
            kept = Memory(shape=WIDTH_BITS, depth=self.params.symbol_count, init=[])
            m.submodules[register.name] = kept
            written = Signal(self.params.symbol_count, name=f"{register.name}_written")
            write, read = kept.write_port(), kept.read_port(domain="sync")
            walked = kept.read_port(domain="comb")
            m.d.comb += walked.addr.eq(place[1:])
            with m.If(steps & (place[0] == which)):
                m.d.sync += [
                    strobes[which].eq(written.bit_select(place[1:], 1)),
                    self.symbol_value.eq(walked.data),
                ]
            m.d.comb += [
                write.addr.eq(index),
                write.data.eq(s1_data),
                write.en.eq(s1_write & inside & (is_locate == which)),
                read.addr.eq(index),
            ]
            with m.If(write.en):
                m.d.sync += written.bit_select(index, 1).eq(1)
            valid = Signal(name=f"{register.name}_valid")
            m.d.sync += valid.eq(inside & (is_locate == which) & written.bit_select(index, 1))
            self._kept[register.name] = Mux(valid, read.data, 0)
        with m.If(self.symbol_stock_stb):
            m.d.sync += self.configured.bit_select(self.symbol_index, 1).eq(self.symbol_value.any())

    def _held(self, m: Module, word: int, value: Value) -> Value:
        """Return a counter as it reads: as it is, or as it was when HOLD was written."""
        kept = Signal(WIDTH_BITS, name=f"held_{word:x}", reset_less=True)
        with m.If(self.hold_stb & self.hold[0]):
            m.d.sync += kept.eq(value)
        return Mux(self.hold[0], kept, value)

    def _read(self, m: Module, s1_word: Value, s1_read: Value) -> None:
        """Give the register that is asked for."""
        values: dict[int, Value] = {}
        for register in REGISTERS:
            if register.name in self._constants:
                values[register.offset // STRIDE] = Const(
                    self._constants[register.name], WIDTH_BITS
                )
            elif register not in _ALONE:
                for word, value in self._elements(register):
                    values[word] = self._held(m, word, value) if is_held(register) else value

        # Stage 2: of each group of registers one. Stage 3: of the groups one.
        low, high = s1_word[:_GROUP_BITS], s1_word[_GROUP_BITS:]
        groups = sorted({word >> _GROUP_BITS for word in values})
        s2_high = Signal(len(high), reset_less=True)
        s3_data = Signal(WIDTH_BITS, reset_less=True)
        m.d.sync += [s2_high.eq(high), s3_data.eq(0)]
        for group in groups:
            s2_value = Signal(WIDTH_BITS, name=f"s2_group_{group:x}", reset_less=True)
            m.d.sync += s2_value.eq(0)
            with m.Switch(low):
                for word, value in values.items():
                    if word >> _GROUP_BITS == group:
                        with m.Case(word % (1 << _GROUP_BITS)):
                            m.d.sync += s2_value.eq(value)
            with m.If(s2_high == group):
                m.d.sync += s3_data.eq(s2_value)

        # Stages 2 to 4 of what stands in memory. Buckets take as long as all the rest.
        first = registers.LATENCY_BUCKET.offset // STRIDE
        s1_bucket = Signal(len(s1_word))
        is_bucket = Signal(3)
        s3_symbol = Signal(WIDTH_BITS, reset_less=True)
        s4_data = Signal(WIDTH_BITS, reset_less=True)
        reads = Signal(3)
        s2_stock, s2_locate = self._kept.values()
        m.d.comb += [s1_bucket.eq(s1_word - first), self.bucket.eq(s1_bucket)]
        m.d.sync += [
            s3_symbol.eq(s2_stock | s2_locate),
            s4_data.eq(s3_data | s3_symbol),
            is_bucket.eq(Cat(s1_bucket < registers.LATENCY_BUCKET.count, is_bucket)),
            reads.eq(Cat(s1_read, reads)),
            self.o_read_stb.eq(reads[-1]),
            self.o_read_data.eq(Mux(is_bucket[-1], self.bucket_count, s4_data)),
        ]
