"""The order stage: commands in, OUCH 5.0 over SoupBinTCP over TCP out, answers back."""

from amaranth.hdl import Module, ResetInserter
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import TIME, beat
from hw.rtl.order.connection import Connection
from hw.rtl.order.encode import Encoder
from hw.rtl.order.engine import Engine
from hw.rtl.order.frames import FrameBuffer
from hw.rtl.order.packets import Packets
from hw.rtl.order.shapes import CONNECTION, RECORD, SET_STOCK
from protocol.reasons import DenyReason


class OrderPath(wiring.Component):
    """The card's half of order entry, between rings, gate and MAC.

    It does what ``sim.card.functional.order.OrderPath`` does, record by record and frame by frame,
    but for what :class:`~hw.rtl.order.engine.Engine` and
    :class:`~hw.rtl.order.connection.Connection` say of the room that they have.

    Latency and throughput are those of its parts; ``docs/order.md`` has a table.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.
    symbol_count, order_count : int
        Symbols, and orders that can be remembered; powers of two.
    event_shape, decision_shape : data.StructLayout
        What the gate takes and gives: ``EVENT`` and ``DECISION`` of :mod:`hw.rtl.risk`.
    buffer_size : int
        Bytes of frames, and of payload, that can wait; a power of two.

    Members
    -------
    i : ``In(stream.Signature(beat(width), always_ready=True))``
        Frames from the order port's MAC, without check sequence.
    o : ``Out(stream.Signature(beat(width)))``
        Frames to it.
    i_command, o_record : ``stream.Signature(RECORD)``
        Records of the command ring, and for the execution ring.
    i_start : ``In(stream.Signature(CONNECTION, always_ready=True))``
        The host hands a connection over.
    stop_stb : ``In(1)``
        It takes it back.
    session : ``Out(1)``
        There is a connection.
    i_stock, ready, free, time, o_event, i_decision
        As :class:`~hw.rtl.order.engine.Engine` has them.
    command_stb, answer_stb, sent_stb, denied_stb, reason : ``Out``
        For counters, as there.
    message_stb : ``Out(1)``
        A message is taken whose frame is the next to leave.
    drop_stb : ``Out(2)``
        A good frame, a segment of the connection, had no room.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not one of these.
    """

    def __init__(
        self, width, symbol_count, order_count, event_shape, decision_shape, buffer_size=4096
    ):
        self.frames = FrameBuffer(width, buffer_size)
        self.receiver = Connection(buffer_size)
        self.packets = Packets()
        self.engine = Engine(symbol_count, order_count, event_shape, decision_shape)
        self.encoder = Encoder(width)
        super().__init__(
            {
                "i": In(stream.Signature(beat(width), always_ready=True)),
                "o": Out(stream.Signature(beat(width))),
                "i_command": In(stream.Signature(RECORD)),
                "o_record": Out(stream.Signature(RECORD)),
                "i_start": In(stream.Signature(CONNECTION, always_ready=True)),
                "stop_stb": In(1),
                "session": Out(1),
                "ready": Out(1),
                "i_stock": In(stream.Signature(SET_STOCK, always_ready=True)),
                "free": In(32),
                "time": In(TIME),
                "o_event": Out(stream.Signature(event_shape, always_ready=True)),
                "i_decision": In(stream.Signature(decision_shape, always_ready=True)),
                "command_stb": Out(1),
                "answer_stb": Out(1),
                "sent_stb": Out(1),
                "denied_stb": Out(1),
                "reason": Out(range(len(DenyReason))),
                "message_stb": Out(1),
                "drop_stb": Out(2),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.frames = frames = self.frames
        m.submodules.receiver = receiver = self.receiver
        packets = self.packets
        # A new connection begins with a new packet.
        m.submodules.packets = ResetInserter(receiver.begin_stb)(packets)
        m.submodules.engine = engine = self.engine
        m.submodules.encoder = encoder = self.encoder
        flipped = wiring.flipped

        wiring.connect(m, flipped(self.i), frames.i)
        wiring.connect(m, frames.o, receiver.i)
        wiring.connect(m, receiver.o, packets.i)
        wiring.connect(m, packets.o, engine.i_answer)
        wiring.connect(m, flipped(self.i_command), engine.i)
        wiring.connect(m, flipped(self.i_stock), engine.i_stock)
        wiring.connect(m, flipped(self.i_decision), engine.i_decision)
        wiring.connect(m, flipped(self.i_start), receiver.i_start)
        wiring.connect(m, engine.o_event, flipped(self.o_event))
        wiring.connect(m, engine.o_record, flipped(self.o_record))
        wiring.connect(m, engine.o, encoder.i)
        wiring.connect(m, receiver.o_acknowledgment, encoder.i_acknowledgment)
        wiring.connect(m, encoder.o, flipped(self.o))
        m.d.comb += [
            receiver.stop_stb.eq(self.stop_stb),
            receiver.end_stb.eq(packets.end_stb),
            receiver.is_idle.eq(engine.is_idle & encoder.is_idle & ~packets.is_busy),
            encoder.connection.eq(receiver.connection),
            encoder.begin_stb.eq(receiver.begin_stb),
            engine.session.eq(receiver.session),
            engine.free.eq(self.free),
            engine.time.eq(self.time),
            self.session.eq(receiver.session),
            self.message_stb.eq(encoder.i.valid & encoder.i.ready),
            self.drop_stb[0].eq(frames.drop_stb),
            self.drop_stb[1].eq(receiver.drop_stb),
        ]
        m.d.comb += [
            getattr(self, name).eq(getattr(engine, name))
            for name in ("ready", "command_stb", "answer_stb", "sent_stb", "denied_stb", "reason")
        ]
        return m
