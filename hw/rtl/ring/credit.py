"""Slots of the execution ring, promised to orders before they are sent."""

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.ring import check_range
from hw.rtl.ring.writer import SLOTS_MAX

ANSWERS_RESERVED = 3
"""Slots kept for every open order: accepted, executed, and its end."""


class Credit(wiring.Component):
    """Says whether an order's answers have room in the execution ring.

    An order may be sent when slots are free for its own record (sent or denied), for
    ``ANSWERS_RESERVED`` answers to it and to each order that is open, and for the records that are
    made and not yet in a slot. A replacement counts as an order until one of the two has ended. A
    run of partial executions may use more; answers then wait before the ring, and none is lost.

    From an order's ``begin_stb`` to its ``sent_stb`` or ``denied_stb`` it counts as if it were
    open, and its own record as made.

    Latency is 2 cycles from every input to ``slot`` and ``can_answer``. So there are 2 cycles or
    more from one ``begin_stb`` to the next one that relies on them.

    Parameters
    ----------
    orders_max : int
        Most orders that are open or under way. 1 to 65,535.
    queued_max : int
        Most records that wait before the ring. 1 to 65,535.

    Members
    -------
    free : ``In(range(65537))``
        Free slots, of :class:`RingWriter`.
    queued : ``In(range(queued_max + 1))``
        Records that wait before the ring.
    begin_stb : ``In(1)``
        A command was taken; its answer is under way.
    is_order : ``In(1)``
        With ``begin_stb``: it may open an order.
    sent_stb, denied_stb : ``In(1)``
        A command that may open an order was sent or denied, and its own record put in the queue in
        this cycle.
    told_stb : ``In(1)``
        So it is of a command that opens none.
    end_stb : ``In(1)``
        An order is open no longer.
    slot : ``Out(1)``
        An order may be sent.
    can_answer : ``Out(1)``
        A command may be taken: there is a slot for its own record.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 2

    def __init__(self, orders_max: int, queued_max: int):
        check_range("orders_max", orders_max, 1, 65_535)
        check_range("queued_max", queued_max, 1, 65_535)
        self.orders_max = orders_max
        self.queued_max = queued_max
        super().__init__(
            {
                "free": In(range(SLOTS_MAX + 1)),
                "queued": In(range(queued_max + 1)),
                **{
                    name: In(1)
                    for name in (
                        *("begin_stb", "is_order", "sent_stb", "denied_stb", "told_stb"),
                        "end_stb",
                    )
                },
                "slot": Out(1),
                "can_answer": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Orders open or under way; commands whose own record is not made yet.
        orders = Signal(range(self.orders_max + 1))
        untold = Signal(range(self.orders_max + 1))
        begins_order = self.begin_stb & self.is_order
        m.d.sync += [
            orders.eq(orders + begins_order - self.denied_stb - self.end_stb),
            untold.eq(untold + self.begin_stb - self.sent_stb - self.denied_stb - self.told_stb),
        ]

        # Stage 1: what is made already, and what that and every answer need.
        s1_free = Signal.like(self.free)
        s1_made = Signal(range(self.queued_max + self.orders_max + 1))
        s1_needed = Signal(range(self.queued_max + (ANSWERS_RESERVED + 1) * (self.orders_max + 2)))
        made = self.queued + untold
        m.d.sync += [
            s1_free.eq(self.free),
            s1_made.eq(made),
            s1_needed.eq(made + ANSWERS_RESERVED * (orders + 1) + 1),
        ]
        m.d.comb += [
            self.slot.eq(s1_free >= s1_needed),
            self.can_answer.eq(s1_free > s1_made),
        ]
        return m
