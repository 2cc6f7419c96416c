"""Turns ITCH messages into operations of the book."""

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import HINT, MESSAGE, NOTICE, OPERATION, NoticeKind, OperationKind
from hw.rtl.parse import any_of
from protocol import itch50
from protocol.emit.amaranth_layout import host
from protocol.layout import Layout

_BYTE = 8

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
    "market_code": ("market_code",),
}
"""Names that a field of an operation has in the messages; a message has one of them at most."""

_NOTICES = {
    NoticeKind.CONFIRM: OperationKind.CONFIRM,
    NoticeKind.RETRACT: OperationKind.RETRACT,
    NoticeKind.GAP: OperationKind.GAP,
}


def the_place(names: Sequence[str], layouts: Sequence[Layout]) -> tuple[Layout, str]:
    """Return one of the layouts and the name that the field has there.

    Raises
    ------
    ValueError
        If the layouts do not all have the field, under one of the names and in one place: it could
        not be read without knowing which message it is.
    """
    found = [(layout, name) for layout in layouts for name in names if name in layout.by_name]
    fields = [layout.by_name[name] for layout, name in found]
    places = sorted({(field.offset, field.length) for field in fields})
    if len(found) != len(layouts) or len(places) != 1:
        raise ValueError(
            f"{' or '.join(names)} must have one place in {len(layouts)} messages, "
            f"not {places!r} in {len(found)}"
        )
    return found[0]


_ORDER_MESSAGES = [
    layout
    for kind in (
        OperationKind.ADD,
        OperationKind.EXECUTE,
        OperationKind.EXECUTE_WITH_PRICE,
        OperationKind.CANCEL,
        OperationKind.DELETE,
        OperationKind.REPLACE,
    )
    for layout in _KINDS[kind]
]
_HINTS = {
    "stock_locate": the_place(_SOURCES["stock_locate"], _ORDER_MESSAGES),
    "order_reference": the_place(_SOURCES["order_reference"], _ORDER_MESSAGES),
    "new_reference": the_place(_SOURCES["new_reference"], _KINDS[OperationKind.REPLACE]),
}
"""Where each field of a hint stands, whichever message about an order it is."""


class Decoder(wiring.Component):
    """Turns each ITCH message into an operation.

    An operation has each of its fields that the message has, and zero for the others. A message of
    an unknown type, or of another length than its type's, becomes ``UNKNOWN`` with nothing but its
    sequence number and times.

    A notice becomes an operation as well; it never comes in the cycle of a message.

    Latency is 1 cycle, and none to the hint. Throughput is 1 message or notice per cycle.

    Members
    -------
    i : ``In(stream.Signature(MESSAGE, always_ready=True))``
        Messages.
    is_message : ``In(len(itch50.MESSAGES.layouts))``
        With a message: a bit for each of ITCH, set if it has that one's type and length.
    i_notice : ``In(stream.Signature(NOTICE, always_ready=True))``
        Notices.
    o_hint : ``Out(stream.Signature(HINT, always_ready=True))``
        One hint a message, one cycle before its operation.
    o : ``Out(stream.Signature(OPERATION, always_ready=True))``
        One operation a message or notice, in the same order.

    [ITCH 5.0: Message Formats]
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(MESSAGE, always_ready=True)),
                "is_message": In(len(itch50.MESSAGES.layouts)),
                "i_notice": In(stream.Signature(NOTICE, always_ready=True)),
                "o_hint": Out(stream.Signature(HINT, always_ready=True)),
                "o": Out(stream.Signature(OPERATION, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        message = self.i.payload
        s1_valid = Signal()
        s1_operation = Signal(OPERATION, reset_less=True)

        # Stage 0: each field from wherever the message has it.
        s0_is = {  # by type
            layout.code: is_this
            for layout, is_this in zip(itch50.MESSAGES.layouts, self.is_message, strict=True)
        }

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
            m.d.comb += field.eq(any_of(parts))

        sides = [(chosen, side) for chosen, side in gathered(["buy_sell_indicator"])]
        is_buy = any_of([chosen & (side == ord("B")) for chosen, side in sides])
        is_sell = any_of([chosen & (side == ord("S")) for chosen, side in sides])
        has_side = any_of([chosen for chosen, _ in sides])
        printable = [chosen & (flag == ord("Y")) for chosen, flag in gathered(["printable"])]
        kinds = [
            Mux(Cat(s0_is[layout.code] for layout in layouts).any(), kind.value, 0)
            for kind, layouts in _KINDS.items()
        ]
        unknown = Mux(Cat(s0_is.values()).any(), 0, OperationKind.UNKNOWN.value)
        m.d.comb += [
            s0_operation.kind.eq(any_of([*kinds, unknown])),
            s0_operation.is_buy.eq(is_buy),
            s0_operation.bad_side.eq(has_side & ~is_buy & ~is_sell),
            s0_operation.printable.eq(any_of(printable)),
            s0_operation.sequence.eq(message.sequence),
            s0_operation.ts_first.eq(message.ts_first),
            s0_operation.ts_last.eq(message.ts_last),
        ]

        m.d.comb += self.o_hint.valid.eq(self.i.valid)
        for name, (layout, source) in _HINTS.items():
            value = host(layout, message.data[: _BYTE * layout.size], source)
            m.d.comb += self.o_hint.payload[name].eq(value)

        # Stage 1: the operation.
        notice = self.i_notice.payload
        m.d.sync += [
            s1_valid.eq(self.i.valid | self.i_notice.valid),
            s1_operation.eq(s0_operation),
        ]
        with m.If(self.i_notice.valid):
            m.d.sync += [
                s1_operation.eq(0),
                s1_operation.sequence.eq(notice.sequence),
                s1_operation.new_reference.eq(notice.next_sequence),
            ]
            with m.Switch(notice.kind):
                for kind, told in _NOTICES.items():
                    with m.Case(kind):
                        m.d.sync += s1_operation.kind.eq(told)
        m.d.comb += [self.o.valid.eq(s1_valid), self.o.payload.eq(s1_operation)]
        return m
