"""The ring protocol, proved: every record once, in order and whole, and no slot before its time.

The hardware's writer and reader stand at the two ends of one ring in a memory that keeps the bus's
ordering rule and nothing beyond it: words wait for any time before they are visible, and reads for
any time before they are done.
"""

import importlib.util
import sys
from pathlib import Path

import pytest
from amaranth.hdl import Array, Assert, Assume, Elaboratable, Module, Mux, ResetSignal, Signal
from amaranth.lib import data

from hw.rtl.ring import reader as reader_module
from hw.rtl.ring import writer as writer_module
from hw.rtl.ring.bus import BusParams
from hw.rtl.ring.reader import RingReader
from hw.rtl.ring.writer import RingWriter
from sim.tb.prove import BUILD, Kind, ProofError, prove

PARAMS = BusParams(word_bits=8, word_count=2, address_bits=8)
SLOTS = 2
DEPTH = 15
WARM_UP = 22
DEPTH_WARM = WARM_UP + 15
WORDS = PARAMS.word_count * (SLOTS + 1)  # The control line is the first.


def between(tail, head):
    """Return how many records the head is ahead: very many where it is behind."""
    return (head - tail)[: PARAMS.word_bits]


class Queue:
    """What was taken and is not yet done, oldest first, as many as ``depth``."""

    def __init__(self, m, name, shape, depth):
        self.items = [Signal(shape, name=f"{name}_{i}", reset_less=True) for i in range(depth)]
        self.count = Signal(range(depth + 1), name=f"{name}_count")
        self.depth = depth
        self.m = m

    @property
    def full(self):
        return self.count == self.depth

    def step(self, put, item, take):
        """Put an item in, take the oldest one out, or both."""
        m = self.m
        m.d.sync += self.count.eq(self.count + put - take)
        place = Signal.like(self.count)
        m.d.comb += place.eq(self.count - take)
        for i, kept in enumerate(self.items):
            with m.If(put & (place == i)):
                m.d.sync += kept.eq(item)
            with m.Elif(take & (i + 1 < self.depth)):
                m.d.sync += kept.eq(self.items[min(i + 1, self.depth - 1)])


class OneRing(Elaboratable):
    """A record of a free number is followed from the writer's input to the reader's output.

    For ``warm_up`` cycles nothing waits, and every slot is used once: then all is free.
    """

    def __init__(self, writer_class=RingWriter, reader_class=RingReader, warm_up=0, took_max=None):
        self.writer = writer_class(PARAMS, slots_max=SLOTS, poll_cycles=1, outstanding=2)
        self.reader = reader_class(PARAMS, slots_max=SLOTS, poll_cycles=1, ahead=2)
        names = ("put", "take_ready", "write_now", "read_now", "doorbell", "write_ok", "read_ok")
        self.free = {name: Signal(name=name) for name in names}
        self.record = Signal(PARAMS.record_bits)
        self.number = Signal(PARAMS.word_bits)
        self.ports = [*self.free.values(), self.record, self.number]
        self.warm_up = warm_up
        self.took_max = took_max

    def elaborate(self, platform):
        m = Module()
        m.submodules.writer = writer = self.writer
        m.submodules.reader = reader = self.reader
        free = self.free
        for end in (writer, reader):
            m.d.comb += [end.enable.eq(1), end.base.eq(0), end.slots.eq(SLOTS)]
            m.d.comb += end.doorbell_stb.eq(free["doorbell"])
        m.d.comb += Assume(~ResetSignal())

        # The memory: the writer writes slots and reads the tail, the reader the other way round.
        memory = Array(Signal(PARAMS.word_bits, name=f"memory_{i}") for i in range(WORDS))
        word = data.StructLayout(
            {"address": PARAMS.address_bits, "data": PARAMS.word_bits, "last": 1}
        )
        to_write = Queue(m, "to_write", word, 3)
        beat = writer.o_write.beat
        done = free["write_now"] & (to_write.count != 0)
        oldest = to_write.items[0]
        m.d.comb += beat.ready.eq(free["write_ok"] & ~to_write.full)
        item = Signal(word)
        m.d.comb += [
            item.address.eq(beat.payload.address),
            item.data.eq(beat.payload.data),
            item.last.eq(beat.payload.last),
            writer.o_write.done_stb.eq(done & oldest.last),
        ]
        to_write.step(beat.valid & beat.ready, item, done)
        with m.If(done):
            m.d.sync += memory[oldest.address].eq(oldest.data)

        # A reader's word is looked up when it is its turn, not when it is asked for.
        reads = Queue(m, "reads", PARAMS.address_bits, 2)
        ask, answer = reader.o_read.ask, reader.o_read.beat
        # A burst is of one word: of two words in a record one is the number, one the rest.
        answers = free["read_now"] & (reads.count != 0)
        m.d.comb += [
            ask.ready.eq(free["read_ok"] & ~reads.full),
            answer.valid.eq(answers),
            answer.payload.last.eq(1),
            answer.payload.data.eq(memory[reads.items[0]]),
            Assert(~ask.valid | (ask.payload.length == 1)),
        ]
        reads.step(ask.valid & ask.ready, ask.payload.address, answers)

        # The tail: written by the reader, read by the writer, both one at a time.
        tail = Signal(PARAMS.word_bits)
        tail_to_write = Signal()
        tail_found = Signal()
        release, poll = reader.o_write, writer.o_read
        m.d.comb += [
            release.beat.ready.eq(~tail_to_write),
            release.done_stb.eq(tail_to_write & free["write_now"]),
            poll.ask.ready.eq(~tail_found),
            poll.beat.valid.eq(tail_found & free["read_now"]),
            poll.beat.payload.data.eq(tail),
            poll.beat.payload.last.eq(1),
            Assert(~poll.ask.valid | (poll.ask.payload.address == 0)),
            Assert(~release.beat.valid | (release.beat.payload.address == 0)),
        ]
        released = Signal(PARAMS.word_bits)
        with m.If(release.beat.valid & release.beat.ready):
            m.d.sync += [tail_to_write.eq(1), released.eq(release.beat.payload.data)]
        with m.If(release.done_stb):
            m.d.sync += [tail_to_write.eq(0), tail.eq(released)]
        with m.If(poll.ask.valid & poll.ask.ready):
            m.d.sync += tail_found.eq(1)
        with m.If(poll.beat.valid):
            m.d.sync += tail_found.eq(0)

        # The record that is followed, by a number that is free and stays.
        first_cycle = Signal(init=1)
        kept_number = Signal.like(self.number)
        number = Mux(first_cycle, self.number, kept_number)
        m.d.sync += first_cycle.eq(0)
        m.d.comb += [writer.i.valid.eq(free["put"]), writer.i.payload.eq(self.record)]
        m.d.comb += reader.o.ready.eq(free["take_ready"])
        put = writer.i.valid & writer.i.ready
        took = reader.o.valid & reader.o.ready
        put_count = Signal(PARAMS.word_bits)
        took_count = Signal(PARAMS.word_bits)
        content = Signal(PARAMS.word_bits)
        out = data.View(data.ArrayLayout(PARAMS.word_bits, PARAMS.word_count), reader.o.payload)
        m.d.sync += [
            kept_number.eq(number),
            put_count.eq(put_count + put),
            took_count.eq(took_count + took),
        ]
        with m.If(put & (put_count == number)):
            m.d.sync += content.eq(self.record[: PARAMS.word_bits])
        m.d.comb += [
            # Once, in order and whole; none that was not put in.
            Assert(~took | (took_count != put_count)),
            Assert(~took | (out[1] == took_count + 1)),
            Assert(~took | (took_count != number) | (out[0] == content)),
            # The indices keep their order: head - slots <= tail <= head.
            Assert(between(writer.tail, writer.head) <= SLOTS),
            Assert(between(reader.tail, writer.head) <= SLOTS),
            Assert(between(writer.tail, reader.tail) <= SLOTS),
            Assert(writer.free <= SLOTS),
            # No word outside of the slots is written.
            Assert(~beat.valid | (beat.payload.address >= PARAMS.record_size)),
            Assert(~beat.valid | (beat.payload.address < PARAMS.record_size * (SLOTS + 1))),
            Assume(number <= SLOTS),  # The last one goes into a slot that was used before.
        ]
        cycle = Signal(range(self.warm_up + 1))
        with m.If(cycle != self.warm_up):
            m.d.sync += cycle.eq(cycle + 1)
            m.d.comb += Assume(free["put"] == (put_count < SLOTS))
            m.d.comb += [
                Assume(free[name])
                for name in ("take_ready", "write_now", "read_now", "write_ok", "read_ok")
            ]
        if self.took_max is not None:
            m.d.comb += Assert(took_count <= self.took_max)
        return m


class AnyHost(Elaboratable):
    """The writer alone, with a host that may write anything into the control line."""

    def __init__(self, writer_class=RingWriter):
        self.writer = writer_class(PARAMS, slots_max=SLOTS, poll_cycles=1, outstanding=2)
        writer = self.writer
        self.ports = [
            *(writer.i.valid, writer.i.payload, writer.doorbell_stb),
            *(writer.o_write.beat.ready, writer.o_write.done_stb),
            *(writer.o_read.ask.ready, writer.o_read.beat.valid),
            writer.o_read.beat.payload.as_value(),
        ]

    def elaborate(self, platform):
        m = Module()
        m.submodules.writer = writer = self.writer
        m.d.comb += [writer.enable.eq(1), writer.base.eq(0), writer.slots.eq(SLOTS)]
        # A burst is done after its last word, and none twice.
        unfinished = Signal(range(8))
        m.d.sync += unfinished.eq(unfinished + writer.publish_stb - writer.o_write.done_stb)
        beat = writer.o_write.beat
        first = PARAMS.record_size
        head_slot = (writer.head - 1)[: SLOTS.bit_length() - 1]
        m.d.comb += [
            Assume(~ResetSignal()),
            Assume(~writer.o_write.done_stb | (unfinished != 0)),
            Assert(writer._left <= PARAMS.word_count),
            Assert(between(writer.tail, writer.head) <= SLOTS),
            Assert((writer.free == 0) | (writer.free == SLOTS - between(writer.tail, writer.head))),
            # Only the slot of the record that was claimed last is written, its number at the end.
            Assert(~beat.valid | (beat.payload.address[1:] == first // 2 + head_slot)),
            Assert(~beat.valid | (beat.payload.address[0] == beat.payload.last)),
            Assert(~beat.valid | ~beat.payload.last | (beat.payload.data == writer.head)),
        ]
        return m


def mutated(module, before, after):
    """Return a module like ``module``, with one piece of its text replaced."""
    text = Path(module.__file__).read_text()
    assert text.count(before) == 1, before
    name = f"mutated_{abs(hash((before, after)))}"
    spec = importlib.util.spec_from_loader(name, loader=None)
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    exec(compile(text.replace(before, after), name, "exec"), made.__dict__)
    return made


def found_wrong(name):
    """Return whether the solver has found a run that violates an assertion: not only failed."""
    return "model found for base case" in (BUILD / name / "log.txt").read_text()


def test_every_record_arrives_once_in_order_and_whole():
    ring = OneRing()
    print(prove(ring, ring.ports, "ring", Kind.BOUNDED, DEPTH))


def test_so_it_is_when_slots_are_used_again():
    ring = OneRing(warm_up=WARM_UP)
    print(prove(ring, ring.ports, "ring_warm", Kind.BOUNDED, DEPTH_WARM))


def test_a_used_slot_is_reached():
    """The depth of the proof is enough for the record that goes into the first slot again."""
    ring = OneRing(warm_up=WARM_UP, took_max=SLOTS)
    with pytest.raises(ProofError):
        prove(ring, ring.ports, "ring_reached", Kind.BOUNDED, DEPTH_WARM)
    assert found_wrong("ring_reached")


def test_writer_keeps_to_its_slots_whatever_the_host_writes():
    design = AnyHost()
    print(prove(design, design.ports, "ring_any_host", Kind.INDUCTION, 12))


def test_writer_that_believes_the_host_is_found():
    broken = mutated(writer_module, "checks[1] & (released <= unreleased)", "checks[1]")
    design = AnyHost(broken.RingWriter)
    with pytest.raises(ProofError):
        prove(design, design.ports, "ring_any_host_broken", Kind.BOUNDED, DEPTH)
    assert found_wrong("ring_any_host_broken")


@pytest.mark.parametrize(
    ("module", "before", "after"),
    [
        # The sequence number goes first, the rest after it.
        (
            writer_module,
            "Mux(beat.payload.last, self.head, record[: params.word_bits])",
            "Mux(left == params.word_count, self.head, record[: params.word_bits])",
        ),
        # One record more than there are slots.
        (
            writer_module,
            "room.eq(running & (in_use < self.slots))",
            "room.eq(running & (in_use <= self.slots))",
        ),
        # A record counts whatever its number.
        (reader_module, "(passed_over == 0) & (number == wanted)", "(passed_over == 0)"),
        # A slot is released before its record is here.
        (reader_module, "self.tail.eq(wanted)]", "self.tail.eq(wanted + 1)]"),
    ],
    ids=["number first", "one too many", "any number", "released too soon"],
)
def test_broken_ring_is_found(module, before, after):
    broken = mutated(module, before, after)
    ends = {"RingWriter": RingWriter, "RingReader": RingReader}
    found = {name: getattr(broken, name, end) for name, end in ends.items()}
    ring = OneRing(found["RingWriter"], found["RingReader"], warm_up=WARM_UP)
    with pytest.raises(ProofError):
        prove(ring, ring.ports, "ring_broken", Kind.BOUNDED, DEPTH_WARM)
    assert found_wrong("ring_broken")
