"""Parse: message blocks in, operations out, at line rate and at any alignment.

Blocks are never re-aligned as words. Each beat is rotated by the lane that its message began at and
written into the message's register; what remains from beat to beat is where the next block begins.
"""

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import (
    MESSAGE,
    MESSAGE_SIZE_MAX,
    OPERATION,
    PACKET,
    PACKET_END,
    TIME,
    OperationKind,
    Truncation,
    beat,
)
from hw.rtl.params import WIDTHS, CardParams
from protocol import itch50, moldudp64
from protocol.emit.amaranth_layout import host

MESSAGE_SIZE_MIN = min(layout.size for layout in itch50.MESSAGES.layouts)
"""Shortest ITCH message, in bytes."""

_HEAD = moldudp64.BLOCK.size
_BYTE = 8


def _blocks_max(width: int) -> int:
    # Blocks that begin and end in one beat, the length's first byte perhaps in the beat before.
    return -(-width // _HEAD)


def _pick(values: Sequence[Value], index: Value) -> Value:
    return values[0] if len(values) == 1 else Array(values)[index]


class Collector(wiring.Component):
    """Collects the ITCH messages of MoldUDP64 packets, whole and in order.

    A message leaves once, when its last byte has arrived, at most one a beat; nothing is ever held
    back. Blocks of fewer bytes than the shortest ITCH message, the empty ones among them, take
    their sequence numbers but leave no message: ``short_count`` counts them. Blocks of more bytes
    than the longest leave with a ``length`` that says so. Blocks past the header's message count
    are ignored, and an end of session has none.

    Each packet is at least one beat, ``first`` in its first and ``last`` in its last. Lanes are
    contiguous: a beat that does not fill its top lane is followed in its packet only by beats
    without bytes.

    Latency is 1 cycle from the beat with a message's last byte to the message, 2 cycles from the
    last beat of a packet to its end. Throughput is 1 beat per cycle, with messages of any length at
    any alignment and without a cycle between packets.

    The loop from beat to beat holds where the next block begins, and how many are to come. What a
    beat would mean if a block began at each of its lanes is worked out before, one cycle behind the
    bytes: no message is so short that this is late.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        The message blocks of packets: what stands behind the MoldUDP64 header.
    packet : ``In(PACKET)``
        The packet's header. Sampled with its first beat.
    time : ``In(TIME)``
        When the beat entered the card, in ns. Sampled with each beat.
    o : ``Out(stream.Signature(MESSAGE, always_ready=True))``
        Messages with their numbers and times.
    short_count : ``Out(range(ceil(width / 2) + 2))``
        Blocks too short for ITCH that were passed over: to be added up each cycle.
    o_end : ``Out(stream.Signature(PACKET_END, always_ready=True))``
        The end of each packet, after its last message and before the next packet's first one.

    Raises
    ------
    ValueError
        If ``width`` is not 1 or 8.

    [MoldUDP64 1.00: Downstream Packet]
    """

    def __init__(self, width: int):
        if width not in WIDTHS:
            raise ValueError(f"width must be 1 or 8, not {width!r}")
        self.width = width
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "packet": In(PACKET),
                "time": In(TIME),
                "o": Out(stream.Signature(MESSAGE, always_ready=True)),
                "short_count": Out(range(_blocks_max(width) + 2)),
                "o_end": Out(stream.Signature(PACKET_END, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, beat_in = self.width, self.i.payload
        # A block can begin at each of these places: place 0 is the top lane of the beat before,
        # place 1 is lane 0. So both bytes of a block's length are in sight at every place.
        places = range(width)
        place_bits = (width - 1).bit_length()
        rows_shape = _BYTE * _HEAD + 1 - place_bits
        fill_max = width + 1
        nears = range(fill_max // width + 2)
        chained = range(_blocks_max(width) + 1)

        def reset_less(name: str, shape: object) -> Signal:
            return Signal(shape, name=name, reset_less=True)

        def each(name: str, shape: object) -> list[Signal]:
            return [reset_less(f"s1_{name}_{p}", shape) for p in places]

        # Registers of the loop, as they are after the last beat that held bytes.
        s1_data = reset_less("s1_data", _BYTE * width)
        s1_time = reset_less("s1_time", TIME)
        s1_place = reset_less("s1_place", places)  # of the next block
        s1_rows = reset_less("s1_rows", rows_shape)  # beats until there
        s1_near = reset_less("s1_near", len(nears))  # whether that is 0, 1, ...
        s1_here = Signal()  # whether it is 0, and a packet is open
        s1_body = Signal()  # a counted block goes on behind that beat
        s1_left = Signal(16)  # counted blocks that have not begun
        s1_last = Signal()
        s1_bad = reset_less("s1_bad", 1)

        # Stage 0: what this beat means if a block begins at a place, for each place.
        s0_step = Signal()
        s0_fill = Signal(range(fill_max + 1))  # first place past the last byte
        m.d.comb += [
            s0_step.eq(self.i.valid & (beat_in.count.any() | beat_in.first)),
            s0_fill.eq(beat_in.start + beat_in.count + 1),
        ]
        s0_window = Cat(s1_data.word_select(width - 1, _BYTE), beat_in.data)
        s0_tail = [Signal(places, name=f"s0_tail_{p}") for p in places]
        s0_whole = [Signal(chained, name=f"s0_whole_{p}") for p in places]
        s0_begun = [Signal(range(len(chained) + 1), name=f"s0_begun_{p}") for p in places]
        s1_tail = each("tail", places)  # the last block that begins
        s1_whole = each("whole", chained)  # blocks that also end
        s1_begun = each("begun", range(len(chained) + 1))
        # Of the block that begins there, when it is the last one:
        s1_exit_place, s1_exit_rows = each("exit_place", places), each("exit_rows", rows_shape)
        s1_exit_near = each("exit_near", len(nears))
        s1_length, s1_short = each("length", range(MESSAGE_SIZE_MAX + 2)), each("short", 1)
        s1_open = each("open", 1)  # it does not end here
        for p in reversed(places):
            head = s0_window[_BYTE * p : _BYTE * (p + _HEAD)]
            length = host(moldudp64.BLOCK, head, "message_length")
            ahead = (length + (p + _HEAD - width))[: _BYTE * _HEAD + 1]  # of the next beat
            small = length[: (len(nears) * width + width).bit_length()]
            is_small = ~length[len(small) :].any()

            def ends_at(end: int, p: int = p, small: Value = small, ok: Value = is_small) -> Value:
                return ok & (small == end - p - _HEAD)

            done, near = Signal(name=f"s0_done_{p}"), Signal(len(nears), name=f"s0_near_{p}")
            m.d.comb += [
                done.eq(
                    _any_of(
                        [ends_at(end) & (s0_fill >= end) for end in range(p + _HEAD, fill_max + 1)]
                    )
                ),
                s0_tail[p].eq(p),
                s0_whole[p].eq(done),
                s0_begun[p].eq(s0_fill >= p + _HEAD),
            ]
            for k in nears:
                row = range(max((k + 1) * width, p + _HEAD), (k + 2) * width)
                m.d.comb += near[k].eq(_any_of([ends_at(end) for end in row] or [Const(0)]))
            for following in range(p + _HEAD, width):
                with m.If(ends_at(following) & (s0_fill >= following)):
                    m.d.comb += [
                        s0_tail[p].eq(s0_tail[following]),
                        s0_whole[p].eq(s0_whole[following] + 1),
                        s0_begun[p].eq(s0_begun[following] + 1),
                    ]
            is_long = length > MESSAGE_SIZE_MAX
            with m.If(s0_step):
                m.d.sync += [
                    s1_tail[p].eq(s0_tail[p]),
                    s1_whole[p].eq(s0_whole[p]),
                    s1_begun[p].eq(s0_begun[p]),
                    s1_exit_place[p].eq(ahead[:place_bits]),
                    s1_exit_rows[p].eq(ahead[place_bits:]),
                    s1_exit_near[p].eq(near),
                    s1_length[p].eq(Mux(is_long, MESSAGE_SIZE_MAX + 1, length)),
                    s1_short[p].eq(length < MESSAGE_SIZE_MIN),
                    s1_open[p].eq(~done & (s0_fill >= p + _HEAD)),
                ]

        # Stage 1: the beat before is understood now, together with this beat's bytes.
        s1_resolve = s0_step | s1_last
        tail, whole = Signal(places), Signal(chained)
        begun = Signal(range(len(chained) + 1))
        place, rows, near = Signal(places), Signal(rows_shape), Signal(len(nears))
        body, short = Signal(), Signal()
        body_length = Signal(range(MESSAGE_SIZE_MAX + 2))
        s1_body_length = reset_less("s1_body_length", body_length.shape())
        s1_body_short = reset_less("s1_body_short", 1)
        left_high = s1_left[len(begun) :].any()
        left_low = s1_left[: len(begun)]
        left_more, counted = Signal(), Signal(chained)
        m.d.comb += [
            # Blocks past the message count are none.
            left_more.eq(left_high | (left_low > whole)),
            counted.eq(Mux(left_more, whole, left_low)),
            tail.eq(_pick(s1_tail, s1_place)),
        ]
        with m.If(s1_here):
            m.d.comb += [
                whole.eq(_pick(s1_whole, s1_place)),
                begun.eq(_pick(s1_begun, s1_place)),
                place.eq(_pick(s1_exit_place, tail)),
                rows.eq(_pick(s1_exit_rows, tail)),
                near.eq(_pick(s1_exit_near, tail)),
                body.eq(_pick(s1_open, tail) & left_more),
                body_length.eq(_pick(s1_length, tail)),
                short.eq(_pick(s1_short, tail)),
            ]
        with m.Else():
            m.d.comb += [
                place.eq(s1_place),
                rows.eq(s1_rows - 1),
                near.eq(Cat(s1_near[1:], s1_rows == len(nears))),
                body.eq(s1_body),
                body_length.eq(s1_body_length),
                short.eq(s1_body_short),
            ]

        # The block ends within this beat: its end is a place up to the first one past the bytes.
        arrives, ends = Signal(), Signal()
        m.d.comb += [
            arrives.eq(_any_of([near[k] & (place + k * width <= s0_fill) for k in nears[:-1]])),
            ends.eq(body & arrives & s0_step & ~beat_in.first),
        ]
        left_after = Signal.like(s1_left, reset_less=False)
        with m.If(left_high | (left_low > begun)):
            m.d.comb += left_after.eq(s1_left - begun)
        with m.If(s1_resolve):
            m.d.sync += [s1_here.eq(0), s1_body.eq(0), s1_left.eq(left_after)]
        with m.If(s0_step):
            m.d.sync += [
                s1_place.eq(place),
                s1_rows.eq(rows),
                s1_near.eq(near),
                # A block that is cut short has none behind it.
                s1_here.eq(near[0] & (place <= s0_fill)),
                s1_body.eq(body & ~arrives),
                s1_body_length.eq(body_length),
                s1_body_short.eq(short),
                s1_data.eq(beat_in.data),
                s1_time.eq(self.time),
            ]
            with m.If(beat_in.first):
                ended = self.packet.message_count == moldudp64.END_OF_SESSION
                begins = Signal(range(width + 1))
                m.d.comb += begins.eq(beat_in.start + 1)
                m.d.sync += [
                    s1_place.eq(begins[:place_bits]),
                    s1_rows.eq(begins[place_bits:]),
                    s1_near.eq(Mux(begins[place_bits], 1 << 1, 1 << 0)),
                    s1_here.eq(~begins[place_bits]),
                    s1_body.eq(0),
                    s1_left.eq(Mux(ended, 0, self.packet.message_count)),
                ]
        m.d.sync += [s1_last.eq(self.i.valid & beat_in.last), s1_bad.eq(beat_in.bad)]

        # Into the message's register: lanes from the message's first lane on go to one row of it,
        # the lanes below to the end of the row before. A message that began in the beat before
        # takes its first row from both beats, and leaves in the next row what later beats replace.
        # Rows past the longest message are dropped.
        s2_bytes = reset_less("s2_bytes", _BYTE * MESSAGE_SIZE_MAX)
        row_count = -(-MESSAGE_SIZE_MAX // width)
        s1_row = reset_less("s1_row", row_count + 1)
        s1_wraps = reset_less("s1_wraps", width)  # lanes that belong to the row before
        s1_lane, lane = reset_less("s1_lane", places), Signal(places)
        top, wraps = Signal(), Signal(width)
        m.d.comb += [
            top.eq(tail == width - 1),  # the message's first byte is lane 0 of this beat
            lane.eq(Mux(s1_here, Mux(top, 0, tail + 1), s1_lane)),
            wraps.eq(Cat(lane >= width - j if j else Const(0) for j in places)),
        ]

        def rotated(lanes: Value) -> Value:
            for k in range(place_bits):
                lanes = Mux(lane[k], lanes.rotate_right(_BYTE << k), lanes)
            return lanes

        now, before = Signal(_BYTE * width), Signal(_BYTE * width)
        m.d.comb += [now.eq(rotated(beat_in.data)), before.eq(rotated(s1_data))]
        with m.If(s0_step):
            m.d.sync += [s1_lane.eq(lane), s1_wraps.eq(wraps), s1_row.eq(s1_row << 1)]
            with m.If(s1_here):
                m.d.sync += s1_row.eq(Mux(top, 1 << 1, 1 << 2))
            for index in range(MESSAGE_SIZE_MAX):
                row, j = divmod(index, width)
                target = s2_bytes.word_select(index, _BYTE)
                goes_on = s1_row[row] | (s1_row[row + 1] & s1_wraps[j])
                with m.If(Mux(s1_here, row < 2, goes_on)):
                    m.d.sync += target.eq(now.word_select(j, _BYTE))
                    if row == 0:
                        with m.If(s1_here & ~top & ~wraps[j]):
                            m.d.sync += target.eq(before.word_select(j, _BYTE))

        # Stage 2: the message, while its register still holds it.
        s2_valid, s2_ended, s2_short = Signal(), Signal(), Signal()
        s2_counted = Signal.like(counted, reset_less=False)
        s2_ts_first, s2_ts_last = reset_less("s2_ts_first", TIME), reset_less("s2_ts_last", TIME)
        s2_number = reset_less("s2_number", MESSAGE["sequence"].shape)  # before that beat's blocks
        s2_skipped = reset_less("s2_skipped", chained)
        sequence = Signal.like(s2_number, reset_less=False)
        m.d.comb += sequence.eq(s2_number + s2_skipped)
        m.d.sync += [
            s2_valid.eq(ends & ~short),
            s2_ended.eq(ends),
            s2_short.eq(ends & short),
            s2_counted.eq(Mux(s1_resolve, counted, 0)),
            s2_skipped.eq(Mux(s1_resolve, counted, 0)),
            s2_number.eq(sequence + s2_ended),
        ]
        with m.If(s0_step):
            m.d.sync += s2_ts_last.eq(self.time)
            with m.If(s1_here):
                m.d.sync += s2_ts_first.eq(Mux(top, self.time, s1_time))
            with m.If(beat_in.first):
                m.d.sync += [s2_number.eq(self.packet.sequence), s2_skipped.eq(0)]
        s2_end = Signal()
        s2_end_payload = reset_less("s2_end_payload", PACKET_END)
        m.d.sync += [s2_end.eq(s1_last), s2_end_payload.bad.eq(s1_bad)]
        with m.If(body):
            m.d.sync += s2_end_payload.truncation.eq(Truncation.MESSAGE_CUT)
        with m.Elif(left_after.any()):
            m.d.sync += s2_end_payload.truncation.eq(Truncation.NO_LENGTH)
        with m.Else():
            m.d.sync += s2_end_payload.truncation.eq(Truncation.NONE)
        m.d.comb += [
            self.o.valid.eq(s2_valid),
            self.o.payload.data.eq(s2_bytes),
            self.o.payload.length.eq(s1_body_length),
            self.o.payload.sequence.eq(sequence),
            self.o.payload.ts_first.eq(s2_ts_first),
            self.o.payload.ts_last.eq(s2_ts_last),
            self.short_count.eq(s2_counted + s2_short),
            self.o_end.valid.eq(s2_end),
            self.o_end.payload.eq(s2_end_payload),
        ]
        return m


_KINDS = {
    OperationKind.ADD: (itch50.ADD_ORDER, itch50.ADD_ORDER_MPID),
    OperationKind.EXECUTE: (itch50.ORDER_EXECUTED,),
    OperationKind.EXECUTE_WITH_PRICE: (itch50.ORDER_EXECUTED_WITH_PRICE,),
    OperationKind.CANCEL: (itch50.ORDER_CANCEL,),
    OperationKind.DELETE: (itch50.ORDER_DELETE,),
    OperationKind.REPLACE: (itch50.ORDER_REPLACE,),
    OperationKind.TRADE: (itch50.TRADE,),
    OperationKind.CROSS: (itch50.CROSS_TRADE,),
    OperationKind.SYSTEM: (itch50.SYSTEM_EVENT,),
    OperationKind.DIRECTORY: (itch50.STOCK_DIRECTORY,),
    OperationKind.TRADING_ACTION: (itch50.STOCK_TRADING_ACTION,),
    OperationKind.OPERATIONAL_HALT: (itch50.OPERATIONAL_HALT,),
    OperationKind.REG_SHO: (itch50.REG_SHO_RESTRICTION,),
}
"""Messages of each kind; those of no kind change nothing that the card keeps."""

_SOURCES = {
    "stock_locate": ("stock_locate",),
    "timestamp": ("timestamp",),
    "order_reference": ("order_reference_number", "original_order_reference_number"),
    "new_reference": ("new_order_reference_number",),
    "shares": ("shares", "executed_shares", "canceled_shares", "cross_shares"),
    "price": ("price", "execution_price", "cross_price"),
    "match_number": ("match_number",),
    "stock": ("stock",),
    "code": ("event_code", "trading_state", "operational_halt_action", "reg_sho_action"),
}
"""Names that a field of an operation has in the messages; a message has one of them at most."""


class Decoder(wiring.Component):
    """Turns each ITCH message into an operation.

    An operation has each of its fields that the message has, and zero for the others. A message of
    an unknown type, or of another length than its type's, becomes ``UNKNOWN`` with nothing but its
    sequence number and times.

    Latency is 1 cycle. Throughput is 1 message per cycle.

    Members
    -------
    i : ``In(stream.Signature(MESSAGE, always_ready=True))``
        Messages.
    o : ``Out(stream.Signature(OPERATION, always_ready=True))``
        One operation a message, in the same order.

    [ITCH 5.0: Message Formats]
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(MESSAGE, always_ready=True)),
                "o": Out(stream.Signature(OPERATION, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        message = self.i.payload
        s1_valid = Signal()
        s1_operation = Signal(OPERATION, reset_less=True)

        # Stage 0: which message it is, and each field from wherever that message has it.
        s0_is: dict[int, Signal] = {}  # by type
        for layout in itch50.MESSAGES.layouts:
            is_this = Signal(name=f"s0_is_{layout.name}")
            code = host(layout, message.data[: _BYTE * layout.size], "message_type")
            m.d.comb += is_this.eq((code == layout.code) & (message.length == layout.size))
            s0_is[layout.code] = is_this

        def gathered(names: Sequence[str]) -> list[tuple[Value, Value]]:
            """Each place that has the field: whether it is the one, and what stands there."""
            found: dict[tuple[int, int], tuple[list[Value], Value]] = {}
            for layout in itch50.MESSAGES.layouts:
                for name in set(names) & set(layout.by_name):
                    item = layout.by_name[name]
                    value = host(layout, message.data[: _BYTE * layout.size], name)
                    found.setdefault((item.offset, item.length), ([], value))[0].append(
                        s0_is[layout.code]
                    )
            return [(Cat(chosen).any(), value) for chosen, value in found.values()]

        s0_operation = Signal(OPERATION)
        for name, names in _SOURCES.items():
            field = Value.cast(s0_operation[name])
            parts = []
            for chosen, value in gathered(names):
                if len(value) > len(field):
                    value = value[: len(field)] | value[len(field) :].any().replicate(len(field))
                parts.append(Mux(chosen, value, 0))
            m.d.comb += field.eq(_any_of(parts))

        sides = [(chosen, side) for chosen, side in gathered(["buy_sell_indicator"])]
        is_buy = _any_of([chosen & (side == ord("B")) for chosen, side in sides])
        is_sell = _any_of([chosen & (side == ord("S")) for chosen, side in sides])
        has_side = _any_of([chosen for chosen, _ in sides])
        printable = [chosen & (flag == ord("Y")) for chosen, flag in gathered(["printable"])]
        kinds = [
            Mux(Cat(s0_is[layout.code] for layout in layouts).any(), kind.value, 0)
            for kind, layouts in _KINDS.items()
        ]
        unknown = Mux(Cat(s0_is.values()).any(), 0, OperationKind.UNKNOWN.value)
        m.d.comb += [
            s0_operation.kind.eq(_any_of([*kinds, unknown])),
            s0_operation.is_buy.eq(is_buy),
            s0_operation.bad_side.eq(has_side & ~is_buy & ~is_sell),
            s0_operation.printable.eq(_any_of(printable)),
            s0_operation.sequence.eq(message.sequence),
            s0_operation.ts_first.eq(message.ts_first),
            s0_operation.ts_last.eq(message.ts_last),
        ]

        # Stage 1: the operation.
        m.d.sync += [s1_valid.eq(self.i.valid), s1_operation.eq(s0_operation)]
        m.d.comb += [self.o.valid.eq(s1_valid), self.o.payload.eq(s1_operation)]
        return m


def _any_of(values: Sequence[Value]) -> Value:
    """Join values of which at most one is not zero."""
    joined = values[0]
    for value in values[1:]:
        joined = joined | value
    return joined


class Parse(wiring.Component):
    """Turns the message blocks of MoldUDP64 packets into operations.

    See :class:`Collector` for what is passed over, and :class:`Decoder` for what an operation says.

    Latency is 2 cycles from the beat with a message's last byte to its operation, 3 cycles from the
    last beat of a packet to its end. Throughput is 1 beat per cycle.

    Parameters
    ----------
    params : :class:`CardParams`
        Its ``width`` is used.

    Members
    -------
    i : ``In(stream.Signature(beat(params.width), always_ready=True))``
        The message blocks of packets: what stands behind the MoldUDP64 header.
    packet : ``In(PACKET)``
        The packet's header. Sampled with its first beat.
    time : ``In(TIME)``
        When the beat entered the card, in ns. Sampled with each beat.
    o : ``Out(stream.Signature(OPERATION, always_ready=True))``
        One operation a message, in the order of the feed.
    short_count : ``Out(range(ceil(params.width / 2) + 2))``
        Blocks too short for ITCH that were passed over: to be added up each cycle.
    o_end : ``Out(stream.Signature(PACKET_END, always_ready=True))``
        The end of each packet, after its last operation and before the next packet's first one.

    Raises
    ------
    TypeError
        If ``params`` is not a :class:`CardParams`.
    """

    def __init__(self, params: CardParams):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.collector = Collector(params.width)
        inside = self.collector.signature.members
        super().__init__(
            {
                **{name: inside[name] for name in ("i", "packet", "time", "short_count", "o_end")},
                "o": Out(stream.Signature(OPERATION, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.collector = collector = self.collector
        m.submodules.decoder = decoder = Decoder()
        wiring.connect(m, wiring.flipped(self.i), collector.i)
        wiring.connect(m, collector.o, decoder.i)
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        m.d.comb += [collector.packet.eq(self.packet), collector.time.eq(self.time)]
        # The end keeps its place behind the operations, which are one cycle behind the messages.
        s3_end, s3_end_payload = Signal(), Signal(PACKET_END, reset_less=True)
        m.d.sync += [s3_end.eq(collector.o_end.valid), s3_end_payload.eq(collector.o_end.payload)]
        m.d.comb += [
            self.o_end.valid.eq(s3_end),
            self.o_end.payload.eq(s3_end_payload),
            self.short_count.eq(collector.short_count),
        ]
        return m
