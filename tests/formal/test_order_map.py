"""The order map, proved: an order that came in is there until it leaves, and nothing else is.

All references hash to one of four addresses, the same in all tables: the worst there can be, so
that buckets and stash are full after six orders, and every move puts another order out.
"""

import pytest
from amaranth.hdl import Assume, Elaboratable, Module, Mux, ResetSignal, Signal
from amaranth.lib import data

from hw.rtl.book import orders
from hw.rtl.book.orders import WAYS, OrderMap
from hw.rtl.book.requests import RequestKind
from protocol.reasons import StaleReason
from sim.tb.mutant import mutant
from sim.tb.prove import Kind, ProofError, claim, prove

ORDER_COUNT = 16
STASH_COUNT = 2
ROOM = WAYS + STASH_COUNT
"""Orders of one address."""
REFERENCE_BITS = 5
ADDRESS_BITS = 2
WATCHED = 1
DEPTH = 22
BAD_HASH = (
    "hashing.circuit(way, stash.candidate_reference, self.hash_bits)",
    "stash.candidate_reference[: self.hash_bits]",
)
REQUEST = data.StructLayout(
    {
        "kind": 2,
        "reference": REFERENCE_BITS,
        "symbol_index": 1,
        "is_buy": 1,
        "price": 2,
        "shares": 2,
    }
)
KINDS = (RequestKind.INSERT, RequestKind.REDUCE, RequestKind.REMOVE)


class OneOrder(Elaboratable):
    """Any requests for any orders, any of them dropped.

    What is told of one reference is what its order went through.
    """

    def __init__(self, kind: type[OrderMap]):
        self.dut = kind(ORDER_COUNT, symbol_count=2, stash_count=STASH_COUNT)
        self.valid = Signal()
        self.request = Signal(REQUEST)
        self.ports = [self.valid, self.request.as_value(), self.dut.drop]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        request = self.request
        asked = dut.i.payload
        m.d.comb += [
            Assume(~ResetSignal()),
            Assume(request.kind < len(KINDS)),
            # Nothing can be taken away of which there is nothing.
            Assume((request.kind != KINDS.index(RequestKind.REDUCE)) | (request.shares != 0)),
            dut.i.valid.eq(self.valid),
            dut.busy.eq(self.valid),
            asked.kind.eq(request.kind),
        ]
        for name in ("reference", "symbol_index", "is_buy", "price", "shares"):
            m.d.comb += asked[name].eq(request[name])
        for way in range(WAYS):
            m.d.comb += asked.addresses[way].eq(request.reference[:ADDRESS_BITS])

        # The request whose result comes now.
        taken, then = dut.i.valid & dut.i.ready, request.as_value()
        for n in range(1, OrderMap.LATENCY + 1):
            s_taken, s_then = Signal(name=f"s{n}_taken"), Signal(REQUEST.size, name=f"s{n}_then")
            m.d.sync += [s_taken.eq(taken), s_then.eq(then)]
            taken, then = (s_taken & ~dut.drop if n == 1 else s_taken), s_then
        then = data.View(REQUEST, then)
        told = dut.o.payload
        claim(m, "one_result_a_request", dut.o.valid == taken)

        # The order that is followed.
        live = Signal()
        order = Signal(REQUEST)
        inserts, reduces, removes = (then.kind == KINDS.index(kind) for kind in KINDS)
        is_it = taken & (then.reference == WATCHED)
        is_mine = then.symbol_index == order.symbol_index
        takes = live & ~inserts & is_mine
        gone = takes & (removes | (then.shares >= order.shares))
        reason = Signal(told.reason.shape())
        with m.If(inserts):
            with m.If(live):
                m.d.comb += reason.eq(StaleReason.DUPLICATE_REFERENCE)
            with m.Elif(then.shares == 0):
                m.d.comb += reason.eq(StaleReason.INVALID_ORDER)
        with m.Elif(~live):
            m.d.comb += reason.eq(StaleReason.UNKNOWN_REFERENCE)
        with m.Elif(~is_mine):
            m.d.comb += reason.eq(StaleReason.LOCATE_MISMATCH)
        with m.Elif(reduces & (then.shares > order.shares)):
            m.d.comb += reason.eq(StaleReason.OVERFILL)
        joins = inserts & ~live & (then.shares != 0) & ~dut.full_stb
        full = Mux(dut.full_stb, StaleReason.ORDER_MAP_FULL, StaleReason.NONE)
        claim(m, "reason_is_right", ~is_it | (told.reason == (reason | full)))
        claim(m, "applied_is_right", ~is_it | (told.applied == (joins | takes)))
        claim(m, "gone_is_right", ~is_it | (told.gone == gone))
        claim(
            m,
            "order_is_told_as_it_was",
            ~(is_it & takes)
            | (
                (told.price == order.price)
                & (told.is_buy == order.is_buy)
                & (told.shares == Mux(gone, order.shares, then.shares))
            ),
        )
        with m.If(is_it & joins):
            m.d.sync += [live.eq(1), order.eq(then)]
        with m.Elif(is_it & gone):
            m.d.sync += live.eq(0)
        with m.Elif(is_it & takes):
            m.d.sync += order.shares.eq(order.shares - then.shares)

        # Room: an order is refused for lack of it only where there is none.
        count = Signal(range(2 * ORDER_COUNT))
        is_insert = told.kind == RequestKind.INSERT
        with m.If(taken & told.applied):
            m.d.sync += count.eq(count + is_insert - told.gone)
        claim(m, "refused_only_without_room", ~dut.full_stb | (count >= ROOM))
        claim(m, "stash_never_overflows", dut.stash_used <= STASH_COUNT)
        claim(m, "shares_left", ~live | (order.shares != 0))
        return m


def built(*changes: tuple[str, str]) -> type[OrderMap]:
    return mutant(orders, BAD_HASH, *changes)["OrderMap"]


def test_order_is_there_from_its_insert_until_it_leaves():
    """From reset, so that seven orders can come in: all there is room for, and one more."""
    design = OneOrder(built())
    print(prove(design, design.ports, "order_map", Kind.BOUNDED, DEPTH))


@pytest.mark.parametrize(
    ("name", "old", "new", "depth", "violated"),
    [
        (
            "forgotten",
            "s2_f1_hit = s2_f1_named | s2_f1_swapped",
            "s2_f1_hit = s2_f1_swapped",
            18,
            "reason_is_right",
        ),
        (
            "slot_written_twice",
            "m.d.sync += stash_taken[slot].eq(stashed.valid)",
            "m.d.sync += stash_taken[slot].eq(0)",
            26,
            "stash_never_overflows",
        ),
    ],
)
def test_seeded_bug_in_order_map_is_found(name, old, new, depth, violated):
    design = OneOrder(built((old, new)))
    with pytest.raises(ProofError, match=rf"violated: .*\b{violated}\b"):
        prove(design, design.ports, f"order_map_{name}", Kind.BOUNDED, depth)
