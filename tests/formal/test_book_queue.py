"""The queue before the book, proved: tasks leave in the order they came, and none is lost."""

import pytest
from amaranth.hdl import (
    Assume,
    Cat,
    Const,
    Elaboratable,
    Module,
    Mux,
    ResetSignal,
    Signal,
    Value,
    signed,
)
from amaranth.hdl._ir import Fragment
from amaranth.lib import data

from hw.rtl.book import book
from hw.rtl.book.book import QUEUE_DEPTH, Book
from hw.rtl.book.levels import Levels
from hw.rtl.book.orders import OrderMap
from hw.rtl.layouts import OperationKind
from hw.rtl.params import CardParams
from protocol import itch50
from sim.tb.mutant import mutant
from sim.tb.prove import Kind, Opened, ProofError, claim, elaborated, free_inputs, prove, signals

PARAMS = CardParams(symbol_count=2, order_count=16, level_count=4)
COMPARED = 13
"""Bits of a task that are compared: what it is, and its symbol. The others go the same way."""
NOTICES = (OperationKind.CONFIRM, OperationKind.RETRACT, OperationKind.GAP)


class Front(Elaboratable):
    """The front of the book: what arrives, the queue, what is issued. All parts are opened."""

    SLOT_PORTS = 2

    def __init__(self, kind: type[Book] = Book):
        self.dut = dut = kind(PARAMS)
        dut.orders = Opened(dut.orders, hash_bits=dut.orders.hash_bits)
        for name in ("levels", "locates", "background", "flags"):
            setattr(dut, name, Opened(getattr(dut, name)))
        opened = (dut.orders, dut.levels, dut.locates, dut.background, dut.flags)
        self.ports = [value for part in (dut, *opened) for value in free_inputs(part)]

    def begin(self, m: Module) -> dict[str, Signal]:
        """Put the book in, with more ports to its queue, and return its signals by name."""
        inner = elaborated(self.dut)
        queue = inner.submodules.queue
        self.slots = [queue.read_port(domain="comb") for _ in range(self.SLOT_PORTS)]
        m.submodules.dut = fragment = Fragment.get(inner, None)
        m.d.comb += Assume(~ResetSignal())
        names = signals(fragment)

        # A cycle later than at the ports, where it is told whether a task was lost.
        dut = self.dut
        self.arrived = Signal()
        self.task = Signal.like(names["arriving"])
        background = dut.background.o
        m.d.sync += [
            self.arrived.eq((names["wanted"] & dut.ready) | (background.valid & background.ready)),
            self.task.eq(Mux(dut.i.valid, names["arriving"], background.payload.as_value())),
        ]
        self.issued = Signal()
        m.d.comb += self.issued.eq(names["s1_valid"] & ~names["s1_second"])

        claim(m, "free_behind_gaps", names["free"] == ~names["gaps"].any())

        # How many wait, in as many bits.
        held = names["held"]
        self.count = Signal(range(len(held) + 1))
        m.d.comb += self.count.eq(sum(held[1:], held[0]))
        claim(m, "bits_in_a_row", (held & ~Cat(Const(1, 1), held)[: len(held)]) == 0)

        # What is kept in registers of the first task, when its turn may come.
        first = self.slots[0].data.as_value()
        head, task = (data.View(dut._task, names[name]) for name in ("head", "s1_task"))
        later = names["later_addresses"]
        waits = names["waiting"] & names["free"]
        m.d.comb += self.slots[0].addr.eq(names["read__addr"])
        claim(m, "head_is_the_first", ~waits | (names["head"][:COMPARED] == first[:COMPARED]))
        claim(m, "addresses_of_head", ~waits | (later == head.addresses.as_value()))
        claim(m, "addresses_of_second", ~names["second"] | (later == task.new_addresses.as_value()))
        return names


class InOrder(Front):
    """Any tasks at all, in any cycle; one of them, whichever, is followed to where it is issued.

    Of the one that is followed the first ``compared`` bits are compared.
    """

    def __init__(self, kind: type[Book] = Book, depth: int = QUEUE_DEPTH, compared: int = COMPARED):
        super().__init__(kind)
        self.depth = depth
        self.compared = slice(compared)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = self.begin(m)
        accepted = Signal()
        m.d.comb += accepted.eq(self.arrived & ~self.dut.overflow_stb)

        # How many wait, by what came and what went.
        waiting = Signal(range(self.depth + 1))
        after = Signal.like(waiting)
        m.d.comb += after.eq(waiting + accepted - self.issued)
        m.d.sync += waiting.eq(after)
        count = self.count
        claim(m, "none_made_up", ~self.issued | accepted | (waiting != 0))
        claim(m, "count_is_what_waits", after == count)
        claim(m, "lost_only_when_full", ~self.dut.overflow_stb | (waiting == self.depth))
        claim(m, "flags_say_count", names["waiting"] == (count != 0))
        claim(m, "full_says_count", names["full"] == (count == self.depth))

        # The one that is followed, and how many are before it.
        task = self.task[self.compared]
        pick = Signal()
        self.ports.append(pick)
        followed, picked = Signal(), Signal()
        ahead = Signal.like(waiting)
        kept = Signal.like(task)
        takes = Signal()
        expected = Signal.like(task)
        before = Signal.like(waiting)
        m.d.comb += [
            takes.eq(pick & accepted & ~picked),
            before.eq(Mux(takes, waiting, ahead)),
            expected.eq(Mux(takes, task, kept)),
        ]
        present = followed | takes
        leaves = present & self.issued & (before == 0)
        with m.If(takes):
            m.d.sync += [picked.eq(1), kept.eq(task)]
        m.d.sync += [followed.eq(present & ~leaves), ahead.eq(before - self.issued)]
        claim(m, "issued_in_turn", ~leaves | (names["s1_task"][self.compared] == expected))

        # For induction: where it stands.
        stays = present & ~leaves
        claim(m, "followed_once", ~followed | picked)
        place = before - self.issued
        read, write = names["read__addr"], names["write__addr"]
        m.d.comb += self.slots[1].addr.eq(read + place)
        slot = self.slots[1].data.as_value()[self.compared]
        claim(m, "stands_in_its_slot", ~stays | (slot == expected))
        claim(m, "is_among_those_that_wait", ~stays | (place < count))
        claim(m, "pointers_say_count", (write - read)[: len(write)] == count[: len(write)])
        return m


class AtLineRate(Front):
    """Messages as close together as 8 bytes a cycle bring them, and notices between packets.

    The cycles of work that wait are added up, and compared with the time that messages take: the
    sum of ``work`` and ``time`` never grows, and bounds how many tasks wait.

    ``notice_gap`` is how many cycles there are at least from a notice to the next packet's first
    beat. The arbiter judges the heads anew in between, so it is never less than the default.
    """

    SLOT_PORTS = 1 + QUEUE_DEPTH
    WORK_MAX = 14
    WAITING_MAX = WORK_MAX // OrderMap.INTERVAL

    def __init__(self, kind: type[Book] = Book, notice_gap: int = 2):
        super().__init__(kind)
        self.notice_gap = notice_gap
        self.length = Signal(6)
        self.phase = Signal(3)  # Where a packet's first block begins.
        self.ports += [self.length, self.phase]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        names = self.begin(m)
        came = self.dut.i
        is_notice = Signal()
        is_message = Signal()
        m.d.comb += [
            is_notice.eq(came.valid & Cat(came.payload.kind == kind for kind in NOTICES).any()),
            is_message.eq(came.valid & ~is_notice),
        ]

        # The environment: a message's last byte is so many bytes behind the last one's, or behind
        # the packet's first; other messages may lie between. Notices are 2 cycles apart or more.
        elapsed = Signal(4, init=15)  # Cycles since a message or notice, the latter if it is last.
        after_notice = Signal()
        phase = Signal(3)
        end = Signal(7)
        cycles = Signal(4)
        longest = itch50.ORDER_REPLACE.size + 2
        shortest = itch50.ORDER_DELETE.size + 2
        is_replace = came.payload.kind == OperationKind.REPLACE
        m.d.comb += [
            end.eq(Mux(after_notice, self.phase, phase) + self.length),
            cycles.eq(end[3:] + Mux(after_notice, self.notice_gap, 0)),
            Assume(self.length >= Mux(is_replace, longest, shortest)),
            Assume(~is_message | (elapsed >= cycles)),
            Assume(~(is_notice & after_notice) | (elapsed >= 2)),
        ]
        m.d.sync += elapsed.eq(Mux(elapsed.all(), elapsed, elapsed + 1))
        with m.If(came.valid):
            m.d.sync += [elapsed.eq(1), after_notice.eq(is_notice)]
        with m.If(is_message):
            m.d.sync += phase.eq(end[:3])

        # The work that waits, by what came.
        def cost(task: data.View) -> Value:
            replace = Mux(task.is_replace, Book.INTERVAL_REPLACE, Book.INTERVAL)
            return Mux(task.is_commit, Levels.INTERVAL_COMMIT + 2, replace)

        dut, background = self.dut, self.dut.background.o
        arrives = names["wanted"] & dut.ready
        offers = background.valid & background.ready
        arriving = data.View(dut._task, names["arriving"])
        work = Signal(8)
        done = arrives | (work != 0)
        added = Mux(arrives, cost(arriving), Mux(offers, cost(background.payload), 0))
        m.d.sync += work.eq(work + added - done)

        # The time that messages have taken and that was not needed for work.
        limit = Book.INTERVAL_REPLACE
        time = Signal(signed(5), init=limit)
        with m.If(is_message):
            m.d.sync += time.eq(1)
        with m.Elif(is_notice):
            m.d.sync += time.eq(time - 1)
        with m.Elif(time < limit):
            m.d.sync += time.eq(time + 1)
        claim(m, "no_task_is_lost", ~dut.overflow_stb)
        claim(m, "work_is_done_in_time", work + time <= self.WORK_MAX)
        claim(m, "few_wait", self.count <= self.WAITING_MAX)

        # For induction: the work is that of what is in the queue and under way.
        gaps, count = names["gaps"], self.count
        total = Const(0)
        for place in range(len(gaps)):
            total += Mux(gaps[place], place + 1, 0)
        for place, slot in enumerate(self.slots[1:]):
            m.d.comb += slot.addr.eq(names["read__addr"] + place)
            total += Mux(place < count, cost(slot.data), 0)
        claim(m, "work_adds_up", work == total)
        claim(m, "one_gap", (gaps & (gaps - 1)) == 0)
        claim(m, "flags_say_count", names["waiting"] == (count != 0))
        claim(m, "full_says_count", names["full"] == (count == QUEUE_DEPTH))
        claim(m, "pointers_say_count", (names["write__addr"] - names["read__addr"])[:4] == count)
        short = Mux(elapsed < limit + 1, elapsed, limit + 1)
        claim(m, "time_is_short", time <= limit)
        claim(m, "time_of_messages", after_notice | (time >= Mux(short > limit, limit, short)))
        claim(
            m,
            "time_after_notice",
            ~after_notice | (time + 2 >= Mux(elapsed < limit + 2, elapsed, limit + 2)),
        )
        claim(m, "elapsed_begins_with_one", elapsed != 0)

        # The levels want some time before a commit. It is put in an empty queue alone.
        since = Signal(range(Levels.BEFORE_COMMIT + 1), init=Levels.BEFORE_COMMIT)
        works = names["s1_valid"]  # The first half of a task, or the second.
        with m.If(works):
            m.d.sync += since.eq(1)
        with m.Elif(since != Levels.BEFORE_COMMIT):
            m.d.sync += since.eq(since + 1)
        commits = self.issued & data.View(dut._task, names["s1_task"]).is_commit
        claim(m, "commit_is_apart", ~commits | (since == Levels.BEFORE_COMMIT))
        waits, *others = (
            (place < count) & slot.data.is_commit for place, slot in enumerate(self.slots[1:])
        )
        alone = names["free"] & ~works & (since >= Levels.BEFORE_COMMIT - 1)
        claim(m, "commit_is_next", ~waits | alone)
        claim(m, "no_commit_behind", ~Cat(others).any())
        claim(m, "none_issued_when_free", ~(names["free"] & works))
        claim(m, "since_begins_with_one", since != 0)
        return m


def test_tasks_leave_in_the_order_they_came():
    """For ever, whatever arrives: a task is lost only with ``overflow_stb``, from a full queue."""
    design = InOrder(compared=COMPARED)
    print(prove(design, design.ports, "book_queue", Kind.INDUCTION, 4))


def test_queue_does_not_overflow_at_line_rate():
    """For ever, with 8 bytes a beat: at most 7 tasks wait, of 16 that fit; commits stand apart."""
    design = AtLineRate()
    print(prove(design, design.ports, "book_queue_rate", Kind.INDUCTION, 4))


@pytest.mark.parametrize(
    ("name", "old", "new", "violated"),
    [
        ("write_over", "put.eq(offered & ~full)", "put.eq(offered)", "pointers_say_count"),
        ("dropped", "write.en.eq(~full)", "write.en.eq(~full & ~taken)", "stands_in_its_slot"),
        (
            "overtaken",
            "first.eq(Mux(waiting, ",
            "first.eq(Mux(waiting & ~arriving_valid, ",
            "issued_in_turn",
        ),
        ("late_head", "head_next.eq(Mux(waiting, ", "head_next.eq(Mux(1, ", "head_is_the_first"),
        ("late_addresses", "gaps[self.INTERVAL],", "gaps[0],", "addresses_of_(head|second)"),
        ("miscounted", "with m.If(put & ~taken):", "with m.If(put):", "count_is_what_waits"),
    ],
)
def test_seeded_bug_in_queue_is_found(name, old, new, violated):
    """From reset, in a queue of four, so that it is full soon; as many bits of a task compared."""
    depth = 4
    small = ("QUEUE_DEPTH = 16", f"QUEUE_DEPTH = {depth}")
    design = InOrder(mutant(book, (old, new), small)["Book"], depth, compared=COMPARED)
    with pytest.raises(ProofError, match=rf"violated: .*\b{violated}\b"):
        prove(design, design.ports, f"book_queue_{name}", Kind.BOUNDED, 14)


def test_slower_book_is_found():
    """One cycle more after a replace, and the work is not done in the time counted for it."""
    slow = mutant(book, ("gaps.eq(1 << self.INTERVAL)", "gaps.eq(2 << self.INTERVAL)"))["Book"]
    design = AtLineRate(slow)
    with pytest.raises(ProofError, match=r"violated: .*work_adds_up"):
        prove(design, design.ports, "book_queue_slow", Kind.BOUNDED, 6)


def test_commit_too_soon_is_found():
    """Taken while the task before holds it back, a commit follows that one after 2 cycles."""
    soon = mutant(book, ("background.ready.eq(free & ~waiting", "background.ready.eq(~waiting"))
    design = AtLineRate(soon["Book"])
    with pytest.raises(ProofError, match=r"violated: .*commit_is_(apart|next)"):
        prove(design, design.ports, "book_queue_soon", Kind.BOUNDED, 6)
