"""cocotb bench of the card's rings, run by ``test_ring.py``; the host's ends are those of sw."""

import os
import random
from collections import deque

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

from hw.rtl.ring.rings import PARAMS
from sim.tb.host_memory import HostMemory, Pace
from sw.ring import RingReader, RingWriter, ring_size

SEED = int(os.environ["SEED"])
RECORDS = int(os.environ["RECORDS"])
POLL_CYCLES = int(os.environ["POLL_CYCLES"])

SLOTS = 4
GUARD = 0xA5
BASES = {"market": 0x40, "execution": 0x40 + 0x200, "command": 0x40 + 0x408}
MEMORY_SIZE = 0x800
BODY = PARAMS.record_size - PARAMS.word_size
FAST = Pace()
SLOW = Pace(ready=0.3, delay_min=3, delay_max=40)
UNEVEN = Pace(ready=0.6, delay_min=1, delay_max=12)
PACES = {"fast": FAST, "slow": SLOW, "uneven": UNEVEN}

BEAT = PARAMS.write_beat()
BURST = PARAMS.read_burst()
READ_BEAT = PARAMS.read_beat()


def field(layout, word, name):
    place = layout[name]
    return word >> place.offset & (1 << place.width) - 1


def body(kind, number):
    """Return a record's bytes but for its last word: every word names the record."""
    words = [kind << 56 | number << 8 | word for word in range(PARAMS.word_count - 1)]
    return b"".join(word.to_bytes(8, "little") for word in words)


class Bench:
    """One cycle a step: inputs at the falling edge, then what is transferred at the next rise."""

    def __init__(self, dut, pace=FAST, seed=SEED):
        self.dut = dut
        self.rng = random.Random(seed)
        self.bytes = bytearray([GUARD]) * MEMORY_SIZE
        self.memory = memoryview(self.bytes)
        self.host = HostMemory(self.memory, self.rng, pace)
        self.cycle = 0
        self.to_send = {"market": deque(), "execution": deque()}
        self.send_chance = 1.0
        self.sent = {"market": [], "execution": []}  # Cycle of each record that was taken.
        self.commands = []  # Cycle and bytes.
        self.take_chance = 1.0
        self.beats = []  # Cycle, address, last of each word taken.
        self.asks = []  # Cycle and address.
        self.answers = []  # Cycle, last.
        self.doorbells = set()
        self.enable = False
        self.rings_made()

    def rings_made(self):
        """The host's part before a start: empty rings."""
        for base in BASES.values():
            self.memory[base : base + ring_size(SLOTS)] = bytes(ring_size(SLOTS))
        self.readers = {
            name: RingReader(self.memory, BASES[name], SLOTS) for name in ("market", "execution")
        }
        self.writer = RingWriter(self.memory, BASES["command"], SLOTS)

    async def begin(self):
        dut = self.dut
        Clock(dut.clk, 10, unit="ns").start()
        await self.reset()

    async def reset(self):
        """Reset the card in the middle of whatever it does; it is enabled after that."""
        dut = self.dut
        await FallingEdge(dut.clk)
        for name, base in BASES.items():
            getattr(dut, f"{name}_base").value = base
            getattr(dut, f"{name}_slots").value = SLOTS
        for name in (
            *("enable", "o_command_ready", "o_write_done_stb", "o_read_beat_valid"),
            *("o_write_beat_ready", "o_read_ask_ready", "i_market_valid", "i_execution_valid"),
            *(f"{name}_doorbell_stb" for name in BASES),
        ):
            getattr(dut, name).value = 0
        dut.rst.value = 1
        self.host.reset()
        await FallingEdge(dut.clk)
        dut.rst.value = 0
        self.enable = True

    async def step(self):
        dut = self.dut
        await FallingEdge(dut.clk)
        self.cycle += 1
        write_ready, read_ready, done, beat = self.host.drive()
        dut.o_write_beat_ready.value = write_ready
        dut.o_read_ask_ready.value = read_ready
        dut.o_write_done_stb.value = done
        dut.o_read_beat_valid.value = beat is not None
        if beat is not None:
            dut.o_read_beat_payload.value = beat[0] | beat[1] << READ_BEAT["last"].offset
            self.answers.append((self.cycle, beat[1]))
        for name, waiting in self.to_send.items():
            valid = getattr(dut, f"i_{name}_valid")
            if waiting and (int(valid.value) or self.rng.random() < self.send_chance):
                valid.value = 1
                getattr(dut, f"i_{name}_payload").value = int.from_bytes(waiting[0], "little")
            else:
                valid.value = 0
        take = self.rng.random() < self.take_chance
        dut.o_command_ready.value = take
        for name in BASES:
            getattr(dut, f"{name}_doorbell_stb").value = name in self.doorbells
        self.doorbells.clear()
        dut.enable.value = self.enable
        await ReadOnly()
        self.sample(take)

    def sample(self, take):
        dut = self.dut
        word = ask = None
        if dut.o_write_beat_valid.value:
            payload = int(dut.o_write_beat_payload.value)
            word = tuple(field(BEAT, payload, n) for n in ("address", "data", "enable", "last"))
        if dut.o_read_ask_valid.value:
            payload = int(dut.o_read_ask_payload.value)
            ask = field(BURST, payload, "address"), field(BURST, payload, "length")
        took_word, took_ask = self.host.sample(word, ask)
        if took_word:
            self.beats.append((self.cycle, word[0], word[3]))
        if took_ask:
            self.asks.append((self.cycle, ask[0]))
        for name, waiting in self.to_send.items():
            valid, ready = (getattr(dut, f"i_{name}_{what}").value for what in ("valid", "ready"))
            if valid and ready:
                waiting.popleft()
                self.sent[name].append(self.cycle)
        if take and dut.o_command_valid.value:
            record = int(dut.o_command_payload.value).to_bytes(PARAMS.record_size, "little")
            self.commands.append((self.cycle, record))

    def poll(self, name):
        """Return the next record's bytes as the host reads them, or None."""
        reader = self.readers[name]
        offset = reader.poll()
        if offset < 0:
            return None
        record = bytes(self.memory[offset : offset + PARAMS.record_size])
        reader.release()
        return record

    def guarded(self):
        """Whether nothing outside of the rings was written."""
        inside = set()
        for base in BASES.values():
            inside.update(range(base, base + ring_size(SLOTS)))
        return all(self.bytes[i] == GUARD for i in range(MEMORY_SIZE) if i not in inside)


def sequence_of(record):
    return int.from_bytes(record[BODY:], "little")


async def both_ways(dut, pace, poll_chance, take_chance, put_chance):
    """Records of all kinds at once, to the end; check each one, and return the bench."""
    bench = Bench(dut, pace)
    bench.take_chance = take_chance
    await bench.begin()
    for name, kind in (("market", 1), ("execution", 2)):
        bench.to_send[name].extend(body(kind, n) + b"\xff" * 8 for n in range(1, RECORDS + 1))
    got = {"market": [], "execution": []}
    put = 0
    copied = 0
    deadline = 400 * RECORDS
    while (
        min(map(len, got.values())) < RECORDS or len(bench.commands) < RECORDS
    ) and bench.cycle < deadline:
        await bench.step()
        for name, records in got.items():
            if bench.rng.random() < poll_chance:
                record = bench.poll(name)
                if record is not None:
                    records.append(record)
            writer_in_use = int(getattr(dut, f"{name}_high_water").value)
            assert writer_in_use <= SLOTS, name
        # The host fills its slot in parts: the card may read in between.
        if put < RECORDS and (copied or bench.rng.random() < put_chance):
            offset = bench.writer.claim()
            if offset >= 0:
                data = body(3, put + 1)
                part = bench.rng.choice((BODY, 8, 16))
                end = min(copied + part, BODY)
                bench.memory[offset + copied : offset + end] = data[copied:end]
                copied = end
                if copied == BODY:
                    bench.writer.publish()
                    put, copied = put + 1, 0
    for name, kind in (("market", 1), ("execution", 2)):
        assert [sequence_of(r) for r in got[name]] == list(range(1, RECORDS + 1)), name
        assert [r[:BODY] for r in got[name]] == [body(kind, n) for n in range(1, RECORDS + 1)]
    records = [record for _, record in bench.commands]
    assert [sequence_of(r) for r in records] == list(range(1, RECORDS + 1))
    assert [r[:BODY] for r in records] == [body(3, n) for n in range(1, RECORDS + 1)]
    for _ in range(200):
        await bench.step()
    assert int.from_bytes(bench.memory[BASES["command"] :][:8], "little") == RECORDS
    assert bench.guarded()
    return bench


def paced(name, pace, **chances):
    async def records_arrive(dut):
        print(f"seed={SEED}")
        bench = await both_ways(dut, pace, **chances)
        if chances["poll_chance"] < 0.1:  # Then the rings were full.
            for ring in ("market", "execution"):
                assert int(getattr(dut, f"{ring}_high_water").value) == SLOTS
        assert bench.host.writes >= 2 * PARAMS.word_count * RECORDS

    records_arrive.__name__ = records_arrive.__qualname__ = f"records_arrive_{name}"
    return cocotb.test()(records_arrive)


fast_memory = paced("fast_memory", FAST, poll_chance=1.0, take_chance=1.0, put_chance=1.0)
slow_memory = paced("slow_memory", SLOW, poll_chance=0.5, take_chance=0.5, put_chance=0.5)
uneven_memory = paced("uneven_memory", UNEVEN, poll_chance=0.7, take_chance=0.9, put_chance=0.9)
full_rings = paced("full_rings", FAST, poll_chance=0.02, take_chance=0.02, put_chance=1.0)
empty_rings = paced("empty_rings", UNEVEN, poll_chance=1.0, take_chance=1.0, put_chance=0.01)


@cocotb.test()
async def record_takes_its_cycles(dut):
    bench = Bench(dut)
    await bench.begin()
    for _ in range(10):
        await bench.step()
    bench.to_send["market"].extend(body(1, n) + bytes(8) for n in (1, 2, 3))
    for _ in range(40):
        await bench.step()
    first, second, third = bench.sent["market"]
    words = [cycle for cycle, address, _ in bench.beats if address != BASES["command"]]
    assert words == list(range(first + 1, first + 1 + 3 * PARAMS.word_count))
    assert (second - first, third - second) == (PARAMS.word_count, PARAMS.word_count)
    assert [last for _, _, last in bench.beats] == ([0] * 7 + [1]) * 3


@cocotb.test()
async def execution_record_takes_its_cycles(dut):
    bench = Bench(dut)
    await bench.begin()
    for _ in range(10):
        await bench.step()
    bench.to_send["execution"].append(body(2, 1) + bytes(8))
    for _ in range(20):
        await bench.step()
    (taken,) = bench.sent["execution"]
    assert bench.beats[0][0] == taken + 3


@cocotb.test()
async def command_takes_its_cycles(dut):
    bench = Bench(dut)
    await bench.begin()
    for number in (1, 2, 3):
        assert bench.writer.put(body(3, number) + bytes(8))
    for _ in range(80):
        await bench.step()
    ends = [cycle for cycle, last in bench.answers if last]
    # Of each record the second burst ends it.
    assert [cycle for cycle, _ in bench.commands] == [end + 2 for end in ends[1:6:2]]
    gaps = [b - a for a, b in zip(ends[1:6:2], ends[3:6:2], strict=False)]
    # The second one is asked for only when the first one has come, the third one with it.
    assert gaps == [PARAMS.word_count + 3, PARAMS.word_count]


@cocotb.test()
async def full_ring_waits_and_the_doorbell_ends_it(dut):
    bench = Bench(dut)
    await bench.begin()
    bench.to_send["market"].extend(body(1, n) + bytes(8) for n in range(1, SLOTS + 2))
    for _ in range(POLL_CYCLES):
        await bench.step()
    assert len(bench.sent["market"]) == SLOTS
    # Asked once more since the ring is full, and told that it still is.
    assert bench.poll("market") is not None
    while bench.asks[-1][1] != BASES["market"] or bench.cycle != bench.asks[-1][0] + 10:
        await bench.step()
    asked = bench.asks[-1][0]
    if len(bench.sent["market"]) == SLOTS + 1:  # It was the question after the release.
        bench.to_send["market"].append(body(1, SLOTS + 2) + bytes(8))
        assert bench.poll("market") is not None
    bench.doorbells.add("market")
    rung = bench.cycle + 1
    for _ in range(10):
        await bench.step()
    question = next(c for c, address in bench.asks if address == BASES["market"] and c > asked)
    assert question == rung + 2 < asked + POLL_CYCLES
    taken = bench.sent["market"][-1]
    assert taken - question == 5


@cocotb.test()
async def doorbell_has_the_command_read_at_once(dut):
    bench = Bench(dut)
    await bench.begin()
    for _ in range(20):
        await bench.step()
    quiet_since = bench.asks[-1][0]
    assert bench.writer.put(body(3, 1) + bytes(8))
    bench.doorbells.add("command")
    rung = bench.cycle + 1
    for _ in range(30):
        await bench.step()
    assert bench.commands
    assert next(cycle for cycle, _ in bench.asks if cycle > quiet_since) == rung + 2
    # Eight words after the two questions, and two cycles.
    assert bench.commands[0][0] - rung == 12


@cocotb.test()
async def empty_rings_are_asked_for_at_the_pace_of_polling(dut):
    bench = Bench(dut)
    await bench.begin()
    for _ in range(10 * POLL_CYCLES):
        await bench.step()
    command_slots = BASES["command"] + PARAMS.record_size
    assert {address for _, address in bench.asks} == {command_slots, command_slots + BODY}
    assert 14 <= len(bench.asks) <= 22
    assert bench.beats == []


@cocotb.test()
async def tail_that_cannot_be_is_not_believed(dut):
    bench = Bench(dut)
    await bench.begin()
    bench.to_send["market"].extend(body(1, n) + bytes(8) for n in range(1, 3 * SLOTS + 1))
    tail = slice(BASES["market"], BASES["market"] + 8)
    for wrong in (SLOTS + 1, 1 << 63, (1 << 64) - 1):
        bench.memory[tail] = wrong.to_bytes(8, "little")
        for _ in range(3 * POLL_CYCLES):
            await bench.step()
        assert len(bench.sent["market"]) == SLOTS, wrong
    bench.memory[tail] = (2).to_bytes(8, "little")
    for _ in range(3 * POLL_CYCLES):
        await bench.step()
    assert len(bench.sent["market"]) == SLOTS + 2
    bench.memory[tail] = (1).to_bytes(8, "little")  # Back: not even now a slot is taken away.
    for _ in range(3 * POLL_CYCLES):
        await bench.step()
    assert len(bench.sent["market"]) == SLOTS + 2


@cocotb.test()
async def reset_or_stop_in_a_burst_leaves_no_torn_record(dut):
    print(f"seed={SEED}")
    rng = random.Random(SEED)
    bench = Bench(dut)
    await bench.begin()
    cut = stopped = 0
    for cycles in range(14, 40):
        bench = Bench(dut, UNEVEN, rng.randrange(1 << 30))
        await bench.reset()
        bench.to_send["market"].extend(body(1, n) + bytes(8) for n in range(1, SLOTS + 1))
        for number in (1, 2):
            assert bench.writer.put(body(3, number) + bytes(8))
        for _ in range(cycles):
            await bench.step()
        in_burst = bool(bench.beats) and not bench.beats[-1][2]
        if stops := cycles % 2:  # What was begun is ended.
            bench.enable = False
            await bench.step()
            while not dut.idle.value:
                await bench.step()
            stopped += in_burst
        else:
            await bench.reset()
            cut += in_burst
        taken = len(bench.sent["market"])
        found = []
        while (record := bench.poll("market")) is not None:
            found.append(record)
        assert len(found) == taken if stops else len(found) <= taken
        assert [r[:BODY] for r in found] == [body(1, n + 1) for n in range(len(found))]

        # The host makes the rings again, and they begin with record 1.
        bench.rings_made()
        bench.to_send["market"].clear()
        bench.to_send["market"].append(body(1, 77) + bytes(8))
        assert bench.writer.put(body(3, 78) + bytes(8))
        bench.commands.clear()
        bench.enable = True
        found = []
        for _ in range(3 * POLL_CYCLES):
            await bench.step()
            record = bench.poll("market")
            found += [] if record is None else [record]
        assert [(r[:BODY], sequence_of(r)) for r in found] == [(body(1, 77), 1)]
        assert [r[:BODY] for _, r in bench.commands] == [body(3, 78)]
    assert cut > 3
    assert stopped > 3
