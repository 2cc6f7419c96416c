"""The order map: what the book remembers of every live order, found by its reference."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two
from hw.rtl.book import hash as hashing
from hw.rtl.book.requests import SYMBOL_COUNT_MAX, RequestKind, request, result
from protocol.reasons import StaleReason

WAYS = hashing.HASH_COUNT
CHUNK_BITS = 16
"""References are compared in parts of this width, which are combined a cycle later."""

ORDER_COUNT_MIN, STASH_COUNT_MAX = 16, 16
ORDER_COUNT_MAX = WAYS << hashing.BITS_MAX


class OrderMap(wiring.Component):
    """Remembers live orders by reference, in four hashed tables and a stash.

    An order stands in one of the four buckets that its reference hashes to or, where all four are
    taken, in the stash, which is searched as a whole. In cycles without a request a move takes an
    order from the stash to one of its buckets; an order that was in the way goes to the stash in
    its place. A move that a request follows at once is dropped: requests never wait for moves.

    What cannot be right changes nothing, except that a reduce of more than is left takes what is
    left. Checks are made in the order of the golden book's: UNKNOWN_REFERENCE, LOCATE_MISMATCH,
    OVERFILL; DUPLICATE_REFERENCE, INVALID_ORDER, ORDER_MAP_FULL.

    Latency is 5 cycles, from the cycle in which a request is taken to that of its result.
    Throughput is 1 request every 2 cycles: ``i.ready`` is low for one cycle after each. A request
    sees the effect of every request before it. After reset ``i.ready`` is low for
    ``order_count / 4`` cycles more while every bucket is emptied: that makes the memory valid.

    Parameters
    ----------
    order_count : int
        Buckets, all four tables together; a power of two. Rated for five eighths of it: above,
        the stash may fill up and orders be refused.
    symbol_count : int
        Symbols that an order may belong to.
    stash_count : int
        Orders that fit the stash; a power of two.

    Members
    -------
    i : ``In(stream.Signature(request(symbol_count)))``
        Requests.
    o : ``Out(stream.Signature(result(symbol_count), always_ready=True))``
        One result a request, in their sequence.
    full_stb : ``Out(1)``
        High with the result of an insert that was refused for lack of room.
    stash_used, stash_used_max : ``Out(range(stash_count + 1))``
        Orders in the stash, now and at most since reset.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 5
    INTERVAL = 2

    def __init__(self, order_count: int, symbol_count: int = 64, stash_count: int = 16):
        check_power_of_two("order_count", order_count, ORDER_COUNT_MIN, ORDER_COUNT_MAX)
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        check_power_of_two("stash_count", stash_count, 2, STASH_COUNT_MAX)
        self.order_count = order_count
        self.symbol_count = symbol_count
        self.stash_count = stash_count
        self.hash_bits = (order_count // WAYS).bit_length() - 1
        super().__init__(
            {
                "i": In(stream.Signature(request(symbol_count))),
                "o": Out(stream.Signature(result(symbol_count), always_ready=True)),
                "full_stb": Out(1),
                "stash_used": Out(range(stash_count + 1)),
                "stash_used_max": Out(range(stash_count + 1)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        entry_shape = data.StructLayout(
            {
                "valid": 1,
                "reference": hashing.REFERENCE_BITS,
                "symbol_index": range(self.symbol_count),
                "is_buy": 1,
                "price": 32,
                "shares": 32,
            }
        )
        request_shape = request(self.symbol_count)
        addresses_shape = data.ArrayLayout(self.hash_bits, WAYS)
        entries_shape = data.ArrayLayout(entry_shape, WAYS)
        chunk_count = hashing.REFERENCE_BITS // CHUNK_BITS

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        def chunks_equal(a, b):
            return Cat(
                a.word_select(i, CHUNK_BITS) == b.word_select(i, CHUNK_BITS)
                for i in range(chunk_count)
            )

        stash_valid = Signal(self.stash_count)
        stash = [held(entry_shape, f"stash_{i}") for i in range(self.stash_count)]

        # What the request before did, kept for two cycles in which memory does not show it yet.
        last_valid = Signal()
        last_again = Signal()
        last_reference = held(hashing.REFERENCE_BITS, "last_reference")
        last_addresses = held(addresses_shape, "last_addresses")
        last_ways = held(WAYS, "last_ways")
        last_entry = held(entry_shape, "last_entry")
        last_slots = held(self.stash_count, "last_slots")
        last_slot_valid = held(1, "last_slot_valid")
        last_swapped = held(1, "last_swapped")
        last_occupant_reference = held(hashing.REFERENCE_BITS, "last_occupant_reference")
        last_recent = last_valid | last_again

        # The sweep that empties every bucket after reset.
        sweeping = Signal(init=1)
        sweep_address = Signal(self.hash_bits)
        with m.If(sweeping):
            m.d.sync += sweep_address.eq(sweep_address + 1)
            with m.If(sweep_address.all()):
                m.d.sync += sweeping.eq(0)

        # Stage 0: a request, or else a move, and its hashes.
        move_valid, move_reference = self._move_candidate(m, stash_valid, stash)
        s1_valid = Signal()
        s1_move = Signal()
        s1_request = held(request_shape, "s1_request")
        s1_addresses = held(addresses_shape, "s1_addresses")
        s0_taken = Signal()
        s0_move = Signal()
        s0_reference = Signal(hashing.REFERENCE_BITS)
        m.d.comb += [
            self.i.ready.eq(~sweeping & ~(s1_valid & ~s1_move)),
            s0_taken.eq(self.i.valid & self.i.ready),
            s0_move.eq(move_valid & ~self.i.valid & ~sweeping & ~s1_valid),
            s0_reference.eq(Mux(self.i.valid, self.i.payload.reference, move_reference)),
        ]
        m.d.sync += [
            s1_valid.eq(s0_taken | s0_move),
            s1_move.eq(s0_move),
            s1_request.eq(self.i.payload),
            s1_request.reference.eq(s0_reference),
        ]
        m.d.sync += [
            s1_addresses[way].eq(hashing.circuit(way, s0_reference, self.hash_bits))
            for way in range(WAYS)
        ]

        # Stage 1: memory is read; a move right before a request is dropped.
        s2_valid = Signal()
        s2_move = Signal()
        s2_request = held(request_shape, "s2_request")
        s2_addresses = held(addresses_shape, "s2_addresses")
        reads = []
        for way in range(WAYS):
            m.submodules[f"table_{way}"] = memory = Memory(
                shape=entry_shape, depth=self.order_count // WAYS, init=[]
            )
            read = memory.read_port()
            write = memory.write_port()
            m.d.comb += [
                read.addr.eq(s1_addresses[way]),
                write.en.eq(sweeping | (last_valid & last_ways[way])),
                write.addr.eq(Mux(sweeping, sweep_address, last_addresses[way])),
                write.data.eq(Mux(sweeping, 0, last_entry.as_value())),
            ]
            reads.append(read)
        m.d.sync += [
            s2_valid.eq(s1_valid & ~(s1_move & s0_taken)),
            s2_move.eq(s1_move),
            s2_request.eq(s1_request),
            s2_addresses.eq(s1_addresses),
        ]

        # Stage 2: what memory holds, or will hold.
        s3_valid = Signal()
        s3_move = Signal()
        s3_request = held(request_shape, "s3_request")
        s3_addresses = held(addresses_shape, "s3_addresses")
        s3_entries = held(entries_shape, "s3_entries")
        m.d.sync += [
            s3_valid.eq(s2_valid),
            s3_move.eq(s2_move),
            s3_request.eq(s2_request),
            s3_addresses.eq(s2_addresses),
        ]
        for way in range(WAYS):
            same = last_addresses[way] == s2_addresses[way]
            newer = last_recent & last_ways[way] & same
            m.d.sync += s3_entries[way].eq(
                Mux(newer, last_entry.as_value(), reads[way].data.as_value())
            )

        # Stage 3: references are compared in parts; with the request before in full.
        s4_valid = Signal()
        s4_move = Signal()
        s4_request = held(request_shape, "s4_request")
        s4_addresses = held(addresses_shape, "s4_addresses")
        s4_entries = held(entries_shape, "s4_entries")
        s4_equal = held(data.ArrayLayout(chunk_count, WAYS), "s4_equal")
        s4_stash_equal = held(data.ArrayLayout(chunk_count, self.stash_count), "s4_stash_equal")
        s4_stash_valid = held(self.stash_count, "s4_stash_valid")
        s4_same_buckets = held(WAYS, "s4_same_buckets")
        s4_same_reference = held(1, "s4_same_reference")
        s4_same_occupant = held(1, "s4_same_occupant")
        s5_valid = Signal()
        s5_move = Signal()
        s5_request = held(request_shape, "s5_request")
        s5_addresses = held(addresses_shape, "s5_addresses")
        s5_occupant = held(entry_shape, "s5_occupant")
        before_reference = Mux(s5_valid, s5_request.reference, last_reference)
        before_occupant = Mux(s5_valid, s5_occupant.reference, last_occupant_reference)
        m.d.sync += [
            s4_valid.eq(s3_valid),
            s4_move.eq(s3_move),
            s4_request.eq(s3_request),
            s4_addresses.eq(s3_addresses),
            s4_entries.eq(s3_entries),
            s4_stash_valid.eq(stash_valid),
            s4_same_reference.eq(s3_request.reference == before_reference),
            s4_same_occupant.eq(s3_request.reference == before_occupant),
        ]
        for way in range(WAYS):
            before_address = Mux(s5_valid, s5_addresses[way], last_addresses[way])
            m.d.sync += [
                s4_equal[way].eq(chunks_equal(s3_entries[way].reference, s3_request.reference)),
                s4_same_buckets[way].eq(s3_addresses[way] == before_address),
            ]
        m.d.sync += [
            s4_stash_equal[slot].eq(chunks_equal(stash[slot].reference, s3_request.reference))
            for slot in range(self.stash_count)
        ]

        # Stage 4: the order is found and selected, and places for another.
        s5_hits = held(WAYS, "s5_hits")
        s5_free = held(WAYS, "s5_free")
        s5_slot_hits = held(self.stash_count, "s5_slot_hits")
        s5_slot_free = held(self.stash_count, "s5_slot_free")
        s5_victim = held(WAYS, "s5_victim")
        s5_entry = held(entry_shape, "s5_entry")
        s4_hits = Signal(WAYS)
        s4_free = Signal(WAYS)
        s4_slot_hits = Signal(self.stash_count)
        s4_merged = [Signal(entry_shape, name=f"s4_merged_{way}") for way in range(WAYS)]
        for way in range(WAYS):
            newer = last_recent & last_ways[way] & s4_same_buckets[way]
            entry = s4_entries[way]
            m.d.comb += [
                s4_merged[way].eq(Mux(newer, last_entry.as_value(), entry.as_value())),
                s4_hits[way].eq(
                    Mux(
                        newer,
                        last_entry.valid & s4_same_reference,
                        entry.valid & s4_equal[way].all(),
                    )
                ),
                s4_free[way].eq(~Mux(newer, last_entry.valid, entry.valid)),
            ]
        for slot in range(self.stash_count):
            same = Mux(last_swapped, s4_same_occupant, s4_same_reference)
            m.d.comb += s4_slot_hits[slot].eq(
                Mux(
                    last_recent & last_slots[slot],
                    last_slot_valid & same,
                    s4_stash_valid[slot] & s4_stash_equal[slot].all(),
                )
            )
        candidates = [*s4_merged, *stash]
        hits = [*s4_hits, *s4_slot_hits]
        random = self._random(m)
        s4_victim = Cat(random == way for way in range(WAYS))
        m.d.sync += [
            s5_valid.eq(s4_valid),
            s5_move.eq(s4_move),
            s5_request.eq(s4_request),
            s5_addresses.eq(s4_addresses),
            s5_hits.eq(s4_hits),
            s5_free.eq(_lowest(s4_free)),
            s5_slot_hits.eq(s4_slot_hits),
            s5_slot_free.eq(_lowest(~stash_valid)),
            s5_victim.eq(s4_victim),
            s5_entry.eq(_select(hits, candidates)),
            s5_occupant.eq(_select(s4_victim, s4_merged)),
        ]

        # Stage 5: the decision. It reaches the stash now, memory a cycle later.
        chain_open = Signal()
        chain_is_buy = held(1, "chain_is_buy")
        out = self.o.payload
        found = Signal()
        blocked = Signal()
        over = Signal()
        left = Signal(32)
        ways = Signal(WAYS)
        slots = Signal(self.stash_count)
        written = Signal(entry_shape)
        stashed = Signal(entry_shape)
        used_next = Signal.like(self.stash_used)
        is_insert = s5_request.kind == RequestKind.INSERT
        m.d.comb += [
            found.eq(s5_hits.any() | s5_slot_hits.any()),
            blocked.eq(s5_request.chained & ~chain_open),
            over.eq(s5_request.shares > s5_entry.shares),
            # Of no meaning where it would be negative: the order is removed then.
            left.eq((s5_entry.shares - s5_request.shares)[:32]),
            self.o.valid.eq(s5_valid & ~s5_move),
            out.kind.eq(s5_request.kind),
            out.chained.eq(s5_request.chained),
            out.symbol_index.eq(s5_request.symbol_index),
            out.order_symbol_index.eq(s5_entry.symbol_index),
            out.is_buy.eq(s5_entry.is_buy),
            out.price.eq(s5_entry.price),
            out.shares.eq(s5_entry.shares),
            used_next.eq(self.stash_used),
            stashed.eq(written),
        ]
        with m.If(s5_move):
            m.d.comb += written.eq(s5_entry)
            with m.If(s5_slot_hits.any()):
                m.d.comb += slots.eq(s5_slot_hits)
                with m.If(s5_free.any()):
                    m.d.comb += [
                        ways.eq(s5_free),
                        stashed.valid.eq(0),
                        used_next.eq(self.stash_used - 1),
                    ]
                with m.Else():
                    m.d.comb += [ways.eq(s5_victim), stashed.eq(s5_occupant)]
        with m.Elif(is_insert):
            side = Mux(s5_request.chained, chain_is_buy, s5_request.is_buy)
            m.d.comb += [
                written.valid.eq(1),
                written.reference.eq(s5_request.reference),
                written.symbol_index.eq(s5_request.symbol_index),
                written.is_buy.eq(side),
                written.price.eq(s5_request.price),
                written.shares.eq(s5_request.shares),
                out.is_buy.eq(side),
                out.price.eq(s5_request.price),
                out.shares.eq(s5_request.shares),
            ]
            with m.If(blocked):
                m.d.comb += out.reason.eq(StaleReason.NONE)
            with m.Elif(found):
                m.d.comb += out.reason.eq(StaleReason.DUPLICATE_REFERENCE)
            with m.Elif((s5_request.shares == 0) | (s5_request.bad_side & ~s5_request.chained)):
                m.d.comb += out.reason.eq(StaleReason.INVALID_ORDER)
            with m.Elif(s5_free.any()):
                m.d.comb += [ways.eq(s5_free), out.applied.eq(1)]
            with m.Elif(s5_slot_free.any()):
                m.d.comb += [
                    slots.eq(s5_slot_free),
                    out.applied.eq(1),
                    used_next.eq(self.stash_used + 1),
                ]
            with m.Else():
                m.d.comb += [
                    out.reason.eq(StaleReason.ORDER_MAP_FULL),
                    self.full_stb.eq(self.o.valid),
                ]
        with m.Elif(~found):
            m.d.comb += out.reason.eq(StaleReason.UNKNOWN_REFERENCE)
        with m.Elif(s5_entry.symbol_index != s5_request.symbol_index):
            m.d.comb += out.reason.eq(StaleReason.LOCATE_MISMATCH)
        with m.Else():
            m.d.comb += [
                written.eq(s5_entry),
                ways.eq(s5_hits),
                slots.eq(s5_slot_hits),
                out.applied.eq(1),
            ]
            with m.If((s5_request.kind == RequestKind.REDUCE) & ~over & left.any()):
                m.d.comb += [written.shares.eq(left), out.shares.eq(s5_request.shares)]
            with m.Else():
                m.d.comb += [out.gone.eq(1), written.valid.eq(0)]
                with m.If(s5_slot_hits.any()):
                    m.d.comb += used_next.eq(self.stash_used - 1)
            with m.If((s5_request.kind == RequestKind.REDUCE) & over):
                m.d.comb += out.reason.eq(StaleReason.OVERFILL)

        m.d.sync += [last_valid.eq(s5_valid), last_again.eq(last_valid)]
        with m.If(s5_valid):
            m.d.sync += [
                last_reference.eq(s5_request.reference),
                last_addresses.eq(s5_addresses),
                last_ways.eq(ways),
                last_entry.eq(written),
                last_slots.eq(slots),
                last_slot_valid.eq(stashed.valid),
                last_swapped.eq(s5_move),
                last_occupant_reference.eq(s5_occupant.reference),
                self.stash_used.eq(used_next),
            ]
            with m.If(used_next > self.stash_used_max):
                m.d.sync += self.stash_used_max.eq(used_next)
            with m.If(~s5_move):
                m.d.sync += [chain_open.eq(out.applied & ~is_insert), chain_is_buy.eq(out.is_buy)]
            for slot in range(self.stash_count):
                with m.If(slots[slot]):
                    m.d.sync += [stash_valid[slot].eq(stashed.valid), stash[slot].eq(stashed)]
        return m

    def _move_candidate(self, m, stash_valid, stash):
        """Choose the reference of a stashed order, another one each cycle.

        It may be out of date: a move looks for its order again and does nothing without it.
        """
        turn = Signal(self.stash_count, init=1)
        above = Signal(self.stash_count)
        valid = Signal()
        reference = Signal(hashing.REFERENCE_BITS, reset_less=True)
        # Slots after the one chosen last: all ones above the bit of ``turn``.
        m.d.comb += above.eq(stash_valid & ~(turn | (turn - 1)))
        with m.If(stash_valid.any()):
            m.d.sync += turn.eq(Mux(above.any(), _lowest(above), _lowest(stash_valid)))
        m.d.sync += [
            valid.eq((turn & stash_valid).any()),
            reference.eq(_select(turn, [entry.reference for entry in stash])),
        ]
        return valid, reference

    def _random(self, m):
        """Return a number that chooses the way whose order a move puts out."""
        # x^16 + x^15 + x^13 + x^4 + 1 is primitive: a period of 65,535 cycles.
        state = Signal(16, init=1)
        m.d.sync += state.eq(Cat(state[15] ^ state[14] ^ state[12] ^ state[3], state[:15]))
        return state[: (WAYS - 1).bit_length()]


def _lowest(mask):
    """Return the lowest set bit of a mask alone."""
    return (mask & (~mask + 1))[: len(mask)]


def _select(one_hot, values):
    """Return the value of the set bit, zero where none is set."""
    chosen = (
        Mux(bit, value if not isinstance(value, data.View) else value.as_value(), 0)
        for bit, value in zip(one_hot, values, strict=True)
    )
    return reduce(or_, chosen)
