"""The order map: what the book remembers of every live order, found by its reference."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two, wires
from hw.rtl.book import hash as hashing
from hw.rtl.book.requests import (
    SYMBOL_COUNT_MAX,
    RequestKind,
    request,
    result,
    scan_request,
)
from hw.rtl.book.stash import Stash, entry_of
from hw.rtl.book.table import Table
from protocol.reasons import StaleReason

WAYS = hashing.HASH_COUNT
TURNS = 8
"""Of so many cycles that a scan and moves share, a scan has one at least."""

ORDER_COUNT_MIN = 16
ORDER_COUNT_MAX = WAYS << hashing.BITS_MAX


_TOLD = data.StructLayout({"is_buy": 1, "price": 32})
"""Of an order, what others compare at once: registers of their own have it, which may stand far
from the memories. Those that stay behind hold its complement, as the tools would make equal
registers one."""


class OrderMap(wiring.Component):
    """Remembers live orders by reference, in four hashed tables and a stash.

    An order stands in one of the four buckets that its reference hashes to or, where all four are
    taken, in the stash, which is searched as a whole. In cycles without a request a move takes an
    order from the stash to one of its buckets; an order that was in the way goes to the stash in
    its place.

    What cannot be right changes nothing, except that a reduce of more than is left takes what is
    left. Checks are made in the order of the golden book's: UNKNOWN_REFERENCE, LOCATE_MISMATCH,
    OVERFILL; DUPLICATE_REFERENCE, INVALID_ORDER, ORDER_MAP_FULL.

    A scan walks all buckets, four ways at a time, and then the stash, in cycles without a request
    too, and tells every order of one side of a symbol; one that a move takes from the stash to a
    place that the scan has left behind is told there and then. What requests change behind the
    scan is ``scanned``: what it told, changed as the ``scanned`` results say, is all that is live
    when it is done. A scan that purges also removes what it tells, of both sides; until it is done
    there must be no request for the symbol or one of its orders. While it is never ``busy`` a
    scan takes ``order_count / 2 + 2 * stash_count + 6`` cycles from its request to DONE, and 6
    more for each order but the last at an address, or each that is purged from the stash.

    Requests never wait for moves and scans: those begin in cycles without ``busy`` alone, and one
    that ``busy`` follows at once is dropped, and made again later.

    Latency is 4 cycles, from the cycle in which a request is taken to that of its result; in
    results ``kind``, ``symbol_index``, ``is_buy`` and ``price`` come straight from registers.
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
    i : ``In(stream.Signature(request(symbol_count, hash_bits)))``
        Requests, with the hashes of their references.
    busy : ``In(1)``
        Must be high in each cycle with a request, may be high in others. Memory is read at the
        request's addresses then. It can come earlier in the cycle than whether there is one.
    drop : ``In(1)``
        High in the cycle after a request that is not to be made: it changes nothing, and has no
        result.
    scan : ``In(stream.Signature(scan_request(symbol_count)))``
        Scans; ready when none is under way.
    o : ``Out(stream.Signature(result(symbol_count), always_ready=True))``
        One result a request, in their sequence, and those of scans between them, in the order in
        which they took effect. Two are never less than 2 cycles apart.
    full_stb : ``Out(1)``
        High with the result of an insert that was refused for lack of room.
    stash_used, stash_used_max : ``Out(range(stash_count + 1))``
        Orders in the stash, now and at most since reset, the latter a cycle later.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    LATENCY = 4
    INTERVAL = 2

    def __init__(self, order_count: int, symbol_count: int = 64, stash_count: int = 16):
        check_power_of_two("order_count", order_count, ORDER_COUNT_MIN, ORDER_COUNT_MAX)
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        self._order = data.StructLayout(
            {"symbol_index": range(symbol_count), "is_buy": 1, "price": 32, "shares": 32}
        )
        self._entry = entry_of(self._order)
        self._stash = Stash(self._order, stash_count)
        self.order_count = order_count
        self.symbol_count = symbol_count
        self.stash_count = stash_count
        self.hash_bits = hashing.hash_bits(order_count)
        super().__init__(
            {
                "i": In(stream.Signature(request(symbol_count, self.hash_bits))),
                "busy": In(1),
                "drop": In(1),
                "scan": In(stream.Signature(scan_request(symbol_count))),
                "o": Out(stream.Signature(result(symbol_count), always_ready=True)),
                "full_stb": Out(1),
                "stash_used": Out(range(stash_count + 1)),
                "stash_used_max": Out(range(stash_count + 1)),
            }
        )
        self._addresses = data.ArrayLayout(self.hash_bits, WAYS)
        # A place in the sequence of a scan. The index behind the stash's last one ends it.
        self._position = data.StructLayout(
            {"index": max(self.hash_bits, stash_count.bit_length()), "in_stash": 1}
        )

    def elaborate(self, platform):
        m = Module()
        # What goes down the pipeline: a request, a move, or a look of the scan at a position.
        # ``resumed`` says that a part of the bucket may be behind the scan already.
        task_shape = data.StructLayout(
            {
                "request": request(self.symbol_count, self.hash_bits),
                "is_request": 1,
                "is_move": 1,
                "is_look": 1,
                "position": self._position,
                "resumed": 1,
                "epoch": 1,
            }
        )
        # What a decision did. The order of ``written`` was named by its reference if ``is_named``;
        # ``stashed`` is another one than ``written`` if ``is_swap``.
        change_shape = data.StructLayout(
            {
                "addresses": self._addresses,
                "ways": WAYS,
                "slots": self.stash_count,
                "written": self._entry,
                "stashed": self._entry,
                "is_named": 1,
                "is_move": 1,
                "is_swap": 1,
                "is_more": 1,
                "is_less": 1,
            }
        )

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        s1_valid, s2_valid, s3_valid, s4_valid = (Signal(name=f"s{n}_valid") for n in range(1, 5))
        s1, s2, s3, s4 = (held(task_shape, f"s{n}") for n in range(1, 5))
        s4_occupant = held(self._entry, "s4_occupant")
        s4_moves_out = s4.is_move & s4_occupant.valid
        s4_rewind = Signal()

        # The last decision. For two cycles memory does not show it yet.
        last = held(change_shape, "last")
        last_valid = Signal()
        last_again = Signal()
        last_recent = last_valid | last_again

        # The stash. A slot is taken and freed by a decision at once, and written a cycle later.
        m.submodules.stash = stash = self._stash
        stash_taken = Signal(self.stash_count)
        m.d.comb += stash.write_entry.eq(last.stashed)

        # The scan under way: all before ``walked`` is behind it, and the ways ``done`` there.
        # Looks of another epoch were overtaken by a step back and count for nothing.
        scanning = Signal()
        epoch = Signal()
        scan = held(scan_request(self.symbol_count), "scan_held")
        walked = held(self._position, "walked")
        done = held(WAYS, "done")
        fetch = held(self._position, "fetch")
        fetch_after = Signal(self._position)
        fetch_next = Signal(self._position)
        fetch_resumed = held(1, "fetch_resumed")

        def is_scanned(order):
            """Return whether an order is one that the scan is after."""
            side = scan.purge | (order.is_buy == scan.is_buy)
            return (order.symbol_index == scan.symbol_index) & side

        # The sweep that empties every bucket after reset: it makes changes as decisions do.
        sweeping = Signal(init=1)
        sweep_address = Signal(self.hash_bits)
        write_ways = Signal(WAYS)

        # What to do in a cycle without a request: go on with a scan, or move an order out of the
        # stash. A scan leaves all turns but one of eight to moves while the stash fills up.
        idle_look = Signal()
        idle_move = Signal()
        idle_reference = held(hashing.REFERENCE_BITS, "idle_reference")
        idle_addresses = held(self._addresses, "idle_addresses")
        turn = Signal(range(TURNS))
        crowded = Signal()
        m.d.sync += crowded.eq(self.stash_used > self.stash_count // TURNS)
        may_move = stash.candidate_valid & (~scanning | (crowded & ~scan.purge & ~fetch.in_stash))
        may_look = scanning & ~(may_move & turn.any())
        m.d.sync += [
            idle_look.eq(may_look),
            idle_move.eq(may_move & ~may_look),
            idle_reference.eq(stash.candidate_reference),
        ]
        for way in range(WAYS):
            address = hashing.circuit(way, stash.candidate_reference, self.hash_bits)
            m.d.sync += idle_addresses[way].eq(Mux(may_look, fetch_next.index, address))

        # Stage 0: a request, or else a look or a move. Memory is read.
        s0_taken = Signal()
        s0_idle = Signal()
        s0_look = Signal()
        s0_move = Signal()
        s1_dropped = Signal()
        m.d.comb += [
            self.i.ready.eq(~sweeping & ~(s1_valid & s1.is_request)),
            s0_taken.eq(self.i.valid & self.i.ready),
            s0_idle.eq(~self.busy & ~sweeping & ~s1_valid),
            s0_look.eq(s0_idle & idle_look & scanning),
            s0_move.eq(s0_idle & idle_move),
        ]
        read_addresses = Mux(
            self.busy, self.i.payload.addresses.as_value(), idle_addresses.as_value()
        )
        m.d.sync += [
            s1_valid.eq(s0_taken | s0_look | s0_move),
            s1.request.eq(self.i.payload),
            s1.request.reference.eq(Mux(self.busy, self.i.payload.reference, idle_reference)),
            s1.request.addresses.eq(read_addresses),
            s1.is_request.eq(s0_taken),
            s1.is_move.eq(s0_move),
            s1.is_look.eq(s0_look),
            s1.position.eq(fetch),
            s1.resumed.eq(fetch_resumed),
            s1.epoch.eq(epoch),
        ]
        s1_entries = Signal(data.ArrayLayout(self._entry, WAYS))
        for way in range(WAYS):
            m.submodules[f"table_{way}"] = table = Table(self._entry.size, self.order_count // WAYS)
            m.d.comb += [
                table.read_address.eq(read_addresses.word_select(way, self.hash_bits)),
                table.write_en.eq(write_ways[way]),
                table.write_address.eq(last.addresses[way]),
                table.write_data.eq(last.written),
                s1_entries[way].eq(table.read_data),
            ]

        # Stage 1: the stash is searched. The reference and the buckets are compared with those of
        # decisions that memory did not show: one four or five cycles ahead, kept as ``f1``, and one
        # two or three cycles ahead, still to be made, that will be ``last`` in stage 3.
        s2_entries = held(data.ArrayLayout(self._entry, WAYS), "s2_entries")
        s2_slot_hits = held(self.stash_count, "s2_slot_hits")
        s2_f1 = held(change_shape, "s2_f1")
        s2_f1_named = held(1, "s2_f1_named")
        s2_f1_swapped = held(1, "s2_f1_swapped")
        s2_f1_buckets = held(WAYS, "s2_f1_buckets")
        s2_f1_slots = held(1, "s2_f1_slots")
        s2_same_reference = held(2, "s2_same_reference")
        s2_same_occupant = held(1, "s2_same_occupant")
        s2_same_buckets = held(WAYS, "s2_same_buckets")
        s2_follows = held(1, "s2_follows")
        s2_invalid = held(1, "s2_invalid")
        s1_named = ~s1.is_look
        reference = s1.request.reference
        m.d.comb += s1_dropped.eq(Mux(s1.is_request, self.drop, self.busy))
        # Counted here, so that neither kind can be the one that is dropped each time.
        with m.If(s1_valid & ~s1.is_request & ~s1_dropped):
            m.d.sync += turn.eq(turn + 1)
        m.d.sync += [
            s2_valid.eq(s1_valid & ~s1_dropped),
            s2.eq(s1),
            s2_f1.eq(last),
            s2_f1_named.eq(
                last_recent & last.is_named & s1_named & (last.written.reference == reference)
            ),
            s2_f1_swapped.eq(
                last_recent & last.is_swap & s1_named & (last.stashed.reference == reference)
            ),
            s2_f1_slots.eq(last_recent & last.slots.any()),
            s2_follows.eq(s3_valid | s4_valid),
            s2_same_reference[0].eq(s1_named & s3_valid & (s3.request.reference == reference)),
            s2_same_reference[1].eq(
                s1_named & ~s3_valid & s4_valid & (s4.request.reference == reference)
            ),
            s2_same_occupant.eq(
                s1_named & s4_valid & s4_moves_out & (s4_occupant.reference == reference)
            ),
            s2_invalid.eq((s1.request.shares == 0) | (s1.request.bad_side & ~s1.request.chained)),
        ]
        for way in range(WAYS):
            address = s1.request.addresses[way]
            ahead = Mux(s3_valid, s3.request.addresses[way], s4.request.addresses[way])
            m.d.sync += [
                s2_entries[way].eq(s1_entries[way]),
                s2_f1_buckets[way].eq(
                    last_recent & last.ways[way] & (last.addresses[way] == address)
                ),
                s2_same_buckets[way].eq(ahead == address),
            ]
        m.d.comb += stash.reference.eq(reference)
        looked_at = Cat(
            s1.position.in_stash & (s1.position.index == slot) for slot in range(self.stash_count)
        )
        m.d.sync += s2_slot_hits.eq(Mux(s1.is_look, stash.valid & looked_at, stash.hits))

        # Stage 2: references are compared, or the ways chosen that a look is for.
        s3_hits = held(WAYS, "s3_hits")
        s3_hits_more = held(1, "s3_hits_more")
        s3_is_other = held(1, "s3_is_other")
        s3_is_other_value = held(1, "s3_is_other_value")
        s3_free = held(WAYS, "s3_free")
        s3_orders = held(data.ArrayLayout(self._order, WAYS), "s3_orders")
        s3_same_symbols = held(WAYS, "s3_same_symbols")
        s3_in_slot = held(1, "s3_in_slot")
        s3_in_slot_value = held(1, "s3_in_slot_value")
        s3_slot_order = held(self._order, "s3_slot_order")
        s3_decided = held(self._order, "s3_decided")
        s3_other = Signal(self._order)
        s3_other_hit = held(1, "s3_other_hit")
        s3_other_ways = held(WAYS, "s3_other_ways")
        s3_other_slots = held(self.stash_count, "s3_other_slots")
        s3_victim = held(WAYS, "s3_victim")
        s3_occupant = held(self._entry, "s3_occupant")
        s3_f1_buckets = held(WAYS, "s3_f1_buckets")
        s3_f1_slots = held(1, "s3_f1_slots")
        s3_same_reference = held(1, "s3_same_reference")
        s3_same_occupant = held(1, "s3_same_occupant")
        s3_same_reference_value = held(1, "s3_same_reference_value")
        s3_same_occupant_value = held(1, "s3_same_occupant_value")
        s3_same_buckets = held(WAYS, "s3_same_buckets")
        s3_follows = held(1, "s3_follows")
        s3_insert = held(1, "s3_insert")
        s3_reduce = held(1, "s3_reduce")
        s3_movable = held(1, "s3_movable")
        s3_invalid = held(1, "s3_invalid")
        s3_next = held(self._position, "s3_next")
        s2_found = Signal(WAYS)
        s2_matching = Signal(WAYS)
        s2_first = Signal(WAYS)
        s2_hits = Signal(WAYS)
        s2_insert = s2.is_request & (s2.request.kind == RequestKind.INSERT)
        s2_f1_hit = s2_f1_named | s2_f1_swapped
        s2_slot_hit = s2_slot_hits.any()
        s2_victim = self._random(m)
        for way in range(WAYS):
            entry = s2_entries[way]
            asked_for = s2.request.reference
            is_asked_for = wires.equal(m, f"s2_equal_{way}", entry.reference, asked_for)
            m.d.comb += [
                s2_found[way].eq(entry.valid & ~s2_f1_buckets[way] & is_asked_for),
                s2_matching[way].eq(
                    entry.valid
                    & ~s2.position.in_stash
                    & ~(s2.resumed & done[way])
                    & is_scanned(entry.order)
                ),
            ]
            m.d.sync += [
                s3_orders[way].eq(entry.order),
                s3_same_symbols[way].eq(entry.order.symbol_index == s2.request.symbol_index),
                s3_free[way].eq(~Mux(s2_f1_buckets[way], s2_f1.written.valid, entry.valid)),
            ]
        m.d.comb += [
            stash.read_slots.eq(s2_slot_hits),
            s2_first.eq(_lowest(s2_matching)),
            s2_hits.eq(Mux(s2.is_look, s2_first, s2_found)),
        ]
        same_occupant = ~s2.is_look & Mux(
            s4_valid,
            s4_moves_out & (s4_occupant.reference == s2.request.reference),
            s2_same_occupant,
        )
        m.d.sync += [
            s3_valid.eq(s2_valid),
            s3.eq(s2),
            s3_insert.eq(s2_insert),
            s3_reduce.eq(s2.is_request & (s2.request.kind == RequestKind.REDUCE)),
            s3_invalid.eq(s2_invalid),
            s3_next.eq(self._after(m, s2.position)),
            s3_hits.eq(s2_hits),
            s3_hits_more.eq((s2_matching & ~s2_first).any()),
            # Not of the tables: what decisions on their way or the stash have comes before them,
            # and the order that an insert brings before what is found.
            s3_is_other.eq(s2_f1_hit | s2_slot_hit),
            s3_is_other_value.eq(s2_f1_hit | s2_slot_hit | s2_insert),
            s3_other_hit.eq(s2_f1_swapped | Mux(s2_f1_named, s2_f1.written.valid, s2_slot_hit)),
            # Only what no decision on its way has touched is moved.
            s3_movable.eq(s2.is_move & s2_slot_hit & ~s2_f1_hit),
            s3_other_ways.eq(Mux(s2_f1_named, s2_f1.ways, 0)),
            s3_other_slots.eq(
                Mux(
                    s2_f1_hit,
                    Mux(s2_f1_named & s2_f1.is_move, 0, s2_f1.slots),
                    s2_slot_hits,
                )
            ),
            s3_victim.eq(s2_victim),
            s3_occupant.eq(wires.select(s2_victim, s2_entries)),
            s3_f1_buckets.eq(s2_f1_buckets),
            s3_f1_slots.eq(s2_f1_slots),
            s3_same_reference.eq(s2_same_reference.any()),
            s3_same_occupant.eq(same_occupant),
            s3_same_reference_value.eq(s2_same_reference.any() & ~s2_insert),
            s3_same_occupant_value.eq(same_occupant & ~s2_insert),
            s3_same_buckets.eq(s2_same_buckets & s2_follows.replicate(WAYS)),
            s3_follows.eq(s2_follows),
        ]
        # The stash's order comes late, so that it is chosen a stage later than the others.
        m.d.sync += [
            s3_slot_order.eq(stash.read_order),
            s3_in_slot.eq(~s2_f1_hit),
            s3_in_slot_value.eq(~s2_f1_hit & ~s2_insert),
            s3_decided.eq(
                Mux(
                    s2_f1_swapped,
                    s2_f1.stashed.order.as_value(),
                    s2_f1.written.order.as_value(),
                )
            ),
        ]
        with m.If(s2_insert):
            m.d.sync += [
                s3_decided.price.eq(s2.request.price),
                s3_decided.shares.eq(s2.request.shares),
            ]

        # Stage 3: the order is selected, and places for another.
        s4_order = Signal(self._order)
        s4_found = held(1, "s4_found")
        s4_more = held(1, "s4_more")
        s4_hits = held(WAYS, "s4_hits")
        s4_slot_hits = held(self.stash_count, "s4_slot_hits")
        s4_told = held(_TOLD, "s4_told")
        s4_free = held(WAYS, "s4_free")
        s4_has_way = held(1, "s4_has_way")
        s4_slot_free = held(self.stash_count, "s4_slot_free")
        s4_full = held(1, "s4_full")
        s4_victim = held(WAYS, "s4_victim")
        s4_occupant_fixed = held(1, "s4_occupant_fixed")
        s4_is_insert = held(1, "s4_is_insert")
        s4_insert = held(1, "s4_insert")
        s4_take = held(1, "s4_take")
        s4_reduce = held(1, "s4_reduce")
        s4_leaves = held(1, "s4_leaves")
        s4_movable = held(1, "s4_movable")
        s4_moves_scanned = held(1, "s4_moves_scanned")
        s4_blocked = held(1, "s4_blocked")
        s4_invalid = held(1, "s4_invalid")
        s4_same_symbol = held(1, "s4_same_symbol")
        s4_walked = held(WAYS, "s4_walked")
        s4_slots_walked = held(self.stash_count, "s4_slots_walked")
        s4_look = Signal()
        s4_end = held(1, "s4_end")
        s4_next = held(self._position, "s4_next")
        chain_open = Signal()
        chain_is_buy = held(1, "chain_is_buy")
        # A reference cannot be both, as long as its order stands in one place.
        s3_newer = (s3_same_reference & last.is_named) | (s3_same_occupant & last.is_swap)
        s3_newer_order = data.View(
            self._order,
            Mux(s3_same_occupant, last.stashed.order.as_value(), last.written.order.as_value()),
        )
        s3_written = Signal(WAYS)
        s3_conflict = Signal()
        m.d.comb += [
            s3_written.eq(s3_f1_buckets | (s3_same_buckets & last.ways)),
            s3_conflict.eq(
                Mux(
                    s3.position.in_stash,
                    s3_f1_slots | (s3_follows & last.slots.any()),
                    s3_written.any(),
                )
            ),
        ]
        newer_value = (s3_same_reference_value & last.is_named) | (
            s3_same_occupant_value & last.is_swap
        )
        for name, _ in self._order:
            is_found = name == "symbol_index"
            in_slot = s3_in_slot if is_found else s3_in_slot_value
            is_other = s3_is_other if is_found else s3_is_other_value
            newer = s3_newer if is_found else newer_value
            m.d.comb += s3_other[name].eq(Mux(in_slot, s3_slot_order[name], s3_decided[name]))
            of_ways = wires.select(s3_hits, [order[name] for order in s3_orders])
            older = Mux(is_other, s3_other[name], of_ways)
            value = Mux(newer, s3_newer_order[name], older)
            if name == "is_buy":
                side = Mux(s3.request.chained, chain_is_buy, s3.request.is_buy)
                value = Mux(s3_insert, side, value)
            kept = Signal.like(s4_order[name], name=f"s4_{name}", reset_less=True)
            if name in _TOLD.members:
                m.d.sync += [kept.eq(~value), s4_told[name].eq(value)]
                m.d.comb += s4_order[name].eq(~kept)
            else:
                m.d.sync += kept.eq(value)
                m.d.comb += s4_order[name].eq(kept)
        current = s3_same_buckets & last.ways
        free = Cat(Mux(current[way], ~last.written.valid, s3_free[way]) for way in range(WAYS))
        look = s3.is_look & (s3.epoch == epoch)
        s3_blocked = s3.request.chained & ~chain_open
        other_scanned = is_scanned(s3_other)
        other_hit = s3_other_hit & (~s3.is_look | other_scanned)
        found = Mux(s3_newer, last.written.valid, Mux(s3_is_other, other_hit, s3_hits.any()))

        def is_same_symbol(order):
            return order.symbol_index == s3.request.symbol_index

        # Whether shares are left is asked of every order that may be the one, beside the choice
        # among them: the decision hangs on the answer, and has no time for a comparison.
        def leaves(order):
            return s3.request.shares < order.shares

        m.d.sync += [
            s4_valid.eq(s3_valid),
            s4.eq(s3),
            s4_is_insert.eq(s3_insert),
            s4_insert.eq(s3_insert & ~s3_blocked & ~s3_invalid & ~found),
            s4_take.eq(
                s3.is_request
                & ~s3_insert
                & Mux(
                    s3_newer,
                    last.written.valid & is_same_symbol(s3_newer_order),
                    Mux(
                        s3_is_other,
                        s3_other_hit & is_same_symbol(s3_other),
                        (s3_hits & s3_same_symbols).any(),
                    ),
                )
            ),
            s4_reduce.eq(s3_reduce),
            s4_leaves.eq(
                s3_reduce
                & Mux(
                    s3_newer,
                    Mux(
                        s3_same_occupant,
                        leaves(last.stashed.order),
                        leaves(last.written.order),
                    ),
                    Mux(
                        s3_is_other,
                        leaves(s3_other),
                        (s3_hits & Cat(leaves(order) for order in s3_orders)).any(),
                    ),
                )
            ),
            s4_found.eq(found),
            s4_invalid.eq(s3_invalid),
            s4_blocked.eq(s3_blocked),
            s4_movable.eq(s3_movable & ~s3_newer),
            s4_moves_scanned.eq(scanning & other_scanned),
            s4_hits.eq(
                Mux(
                    s3_newer,
                    Mux(s3_same_occupant, 0, last.ways),
                    Mux(s3_is_other, s3_other_ways, s3_hits),
                )
            ),
            s4_slot_hits.eq(
                Mux(
                    s3_newer,
                    Mux(last.is_move & ~s3_same_occupant, 0, last.slots),
                    s3_other_slots,
                )
            ),
            s4_free.eq(_lowest(free)),
            s4_has_way.eq(free.any()),
            s4_slot_free.eq(_lowest(~stash_taken)),
            s4_full.eq(stash_taken.all()),
            s4_victim.eq(s3_victim),
            s4_occupant.eq(s3_occupant),
            s4_occupant_fixed.eq(
                (s3_victim & s3_written).any() | (scanning & is_scanned(s3_occupant.order))
            ),
            s4_same_symbol.eq(scanning & (s3.request.symbol_index == scan.symbol_index)),
            s4_more.eq(s3_hits_more),
            s4_next.eq(s3_next),
            s4_look.eq(s3_valid & look & ~s3_conflict),
            s4_rewind.eq(s3_valid & look & (s3_conflict | s3_hits_more)),
            s4_end.eq(s3.position.in_stash & (s3.position.index == self.stash_count)),
        ]
        for way in range(WAYS):
            address = s3.request.addresses[way]
            here = (address == walked.index) & done[way]
            m.d.sync += s4_walked[way].eq(walked.in_stash | (address < walked.index) | here)
        m.d.sync += [
            s4_slots_walked[slot].eq(walked.in_stash & (slot < walked.index))
            for slot in range(self.stash_count)
        ]

        # Stage 4: the decision. It takes stash slots now, the rest is written a cycle later.
        out = self.o.payload
        purge = Signal()
        move = Signal()
        gone = Signal()
        full = Signal()
        ways = Signal(WAYS)
        slots = Signal(self.stash_count)
        written = Signal(self._entry)
        stashed = Signal(self._entry)
        has_way = s4_has_way
        new_ways = Mux(s4.is_move & ~has_way, s4_victim, s4_free)
        insert, take = s4_insert, s4_take
        m.d.comb += [
            full.eq(insert & ~has_way & s4_full),
            purge.eq(s4_look & scan.purge & s4_found),
            move.eq(s4_movable & (has_way | ~s4_occupant_fixed)),
            gone.eq((take & ~s4_leaves) | purge),
            written.valid.eq(s4_is_insert | s4.is_move | s4_leaves),
            written.reference.eq(s4.request.reference),
            written.order.eq(s4_order),
            written.order.symbol_index.eq(
                Mux(s4_is_insert, s4.request.symbol_index, s4_order.symbol_index)
            ),
            stashed.eq(Mux(s4_movable, s4_occupant.as_value(), written.as_value())),
            stashed.valid.eq(Mux(s4_movable, ~has_way, written.valid)),
        ]
        with m.If(s4_reduce):
            # Of no meaning where it would be negative: the order is removed then.
            m.d.comb += written.order.shares.eq((s4_order.shares - s4.request.shares)[:32])
        with m.If(insert | move):
            m.d.comb += ways.eq(new_ways)
        with m.Elif(take | purge):
            m.d.comb += ways.eq(s4_hits)
        with m.If(insert):
            m.d.comb += slots.eq(Mux(has_way, 0, s4_slot_free))
        with m.Elif(take | purge | move):
            m.d.comb += slots.eq(s4_slot_hits)

        # Whether the scan has left the place behind that an order stands in, or will stand in. An
        # order that a move takes there from the stash, still to come, is told now.
        was_walked = (s4_hits & s4_walked).any() | (s4_slot_hits & s4_slots_walked).any()
        is_walked = (new_ways & s4_walked).any() | (
            ~has_way & ~s4.is_move & (s4_slot_free & s4_slots_walked).any()
        )
        tell = (s4_look & (s4_found | s4_end)) | (move & s4_moves_scanned & is_walked)
        m.d.comb += [
            self.o.valid.eq(s4_valid & (s4.is_request | tell)),
            self.full_stb.eq(s4_valid & full),
            out.kind.eq(s4.request.kind),
            out.chained.eq(s4.request.chained & s4.is_request),
            out.symbol_index.eq(s4.request.symbol_index),
            out.order_symbol_index.eq(s4_order.symbol_index),
            *(out[name].eq(s4_told[name]) for name in _TOLD.members),
            out.shares.eq(Mux(s4_leaves, s4.request.shares, s4_order.shares)),
            out.applied.eq(take | (insert & ~full) | ~s4.is_request),
            out.gone.eq(gone),
            out.scanned.eq(
                s4_same_symbol
                & (s4_order.is_buy == scan.is_buy)
                & ((take & was_walked) | (insert & ~full & is_walked))
            ),
        ]
        with m.If(~s4.is_request):
            m.d.comb += [
                out.kind.eq(Mux(s4_look & s4_end, RequestKind.DONE, RequestKind.SCAN)),
                out.symbol_index.eq(scan.symbol_index),
            ]
        with m.Elif(s4_is_insert):
            with m.If(s4_blocked):
                m.d.comb += out.reason.eq(StaleReason.NONE)
            with m.Elif(s4_found):
                m.d.comb += out.reason.eq(StaleReason.DUPLICATE_REFERENCE)
            with m.Elif(s4_invalid):
                m.d.comb += out.reason.eq(StaleReason.INVALID_ORDER)
            with m.Elif(~has_way & s4_full):
                m.d.comb += out.reason.eq(StaleReason.ORDER_MAP_FULL)
        with m.Elif(~s4_found):
            m.d.comb += out.reason.eq(StaleReason.UNKNOWN_REFERENCE)
        with m.Elif(~take):
            m.d.comb += out.reason.eq(StaleReason.LOCATE_MISMATCH)
        with m.Elif(s4_reduce & (s4.request.shares > s4_order.shares)):
            m.d.comb += out.reason.eq(StaleReason.OVERFILL)

        m.d.sync += [
            last_valid.eq(s4_valid),
            last_again.eq(last_valid),
            write_ways.eq(Mux(s4_valid, ways, 0)),
            stash.write_slots.eq(Mux(s4_valid, slots, 0)),
        ]
        with m.If(s4_valid):
            m.d.sync += [
                last.addresses.eq(s4.request.addresses),
                last.ways.eq(ways),
                last.slots.eq(slots),
                last.written.eq(written),
                last.stashed.eq(stashed),
                last.is_named.eq(take | (insert & ~full) | move),
                last.is_move.eq(s4.is_move),
                last.is_swap.eq(move & ~has_way),
                last.is_more.eq(insert & ~has_way & ~s4_full),
                last.is_less.eq(s4_slot_hits.any() & (gone | (move & has_way))),
            ]
            with m.If(s4.is_request):
                m.d.sync += [chain_open.eq(take), chain_is_buy.eq(s4_order.is_buy)]
            for slot in range(self.stash_count):
                with m.If(slots[slot]):
                    m.d.sync += stash_taken[slot].eq(stashed.valid)
        with m.If(last_valid):
            m.d.sync += self.stash_used.eq(self.stash_used + last.is_more - last.is_less)
        with m.If(self.stash_used > self.stash_used_max):
            m.d.sync += self.stash_used_max.eq(self.stash_used)
        with m.If(sweeping):
            m.d.sync += [
                write_ways.eq(-1),
                last.written.valid.eq(0),
                *(last.addresses[way].eq(sweep_address) for way in range(WAYS)),
                sweep_address.eq(sweep_address + 1),
            ]
            with m.If(sweep_address.all()):
                m.d.sync += sweeping.eq(0)

        # The scan goes on from its last look, or back to one that has to be made again.
        s1_look = s1_valid & s1.is_look & (s1.epoch == epoch)
        # Whether that look was dropped is known late.
        stays = Mux(s4_rewind, s4.position.as_value(), fetch.as_value())
        goes = Mux(s1_look & ~s4_rewind, fetch_after.as_value(), stays)
        m.d.comb += [
            self.scan.ready.eq(~scanning),
            fetch_after.eq(self._after(m, fetch)),
            fetch_next.eq(
                Mux(
                    self.busy,
                    wires.kept(m, "fetch_stays", stays),
                    wires.kept(m, "fetch_goes", goes),
                )
            ),
        ]
        m.d.sync += fetch.eq(fetch_next)
        with m.If(s4_rewind):
            m.d.sync += [epoch.eq(~epoch), fetch_resumed.eq(1)]
        with m.Elif(s1_look & ~self.busy):
            m.d.sync += fetch_resumed.eq(0)
        # What is taken while none is under way counts for nothing, unless it is one.
        with m.If(~scanning):
            m.d.sync += [
                scanning.eq(self.scan.valid),
                scan.eq(self.scan.payload),
                walked.eq(0),
                done.eq(0),
                fetch.eq(0),
                fetch_resumed.eq(0),
            ]
        with m.If(s4_look):
            with m.If(s4_more):
                m.d.sync += done.eq(done | s4_hits)
            with m.Else():
                m.d.sync += [walked.eq(s4_next), done.eq(0)]
            with m.If(s4_end):
                m.d.sync += [scanning.eq(0), epoch.eq(~epoch)]
        return m

    def _after(self, m, position):
        """Return the position behind one."""
        following = Signal(self._position)
        is_last = ~position.in_stash & (position.index == (1 << self.hash_bits) - 1)
        m.d.comb += [
            following.in_stash.eq(position.in_stash | is_last),
            following.index.eq(Mux(is_last, 0, position.index + 1)),
        ]
        return following

    def _random(self, m):
        """Return the way whose order a move puts out, one bit of four."""
        # x^16 + x^15 + x^13 + x^4 + 1 is primitive: a period of 65,535 cycles.
        state = Signal(16, init=1)
        m.d.sync += state.eq(Cat(state[15] ^ state[14] ^ state[12] ^ state[3], state[:15]))
        number = state[: (WAYS - 1).bit_length()]
        return Cat(number == way for way in range(WAYS))


def _lowest(mask):
    """Return the lowest set bit of a mask alone."""
    return (mask & (~mask + 1))[: len(mask)]
