"""The parse stage: from message blocks to operations."""

from amaranth.hdl import Module
from amaranth.lib import wiring

from hw.rtl.params import CardParams
from hw.rtl.parse.collect import Collector
from hw.rtl.parse.decode import Decoder


class Parse(wiring.Component):
    """Turns the message blocks of MoldUDP64 packets into operations.

    See :class:`Collector` for what is passed over, and :class:`Decoder` for what an operation says.

    Latency is 2 cycles from the beat with a message's last byte to its operation and 1 cycle to its
    hint, 1 cycle from a notice to its operation, 4 cycles from the last beat of a packet to its
    end. Throughput is 1 beat per cycle.

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
    i_notice : ``In(stream.Signature(NOTICE, always_ready=True))``
        What the book must know beside the messages. A notice comes only after the end of the packet
        before, and with the next packet's first beat at the latest: never in the cycle of a
        message.
    o_hint : ``Out(stream.Signature(HINT, always_ready=True))``
        One hint a message, one cycle before its operation.
    o : ``Out(stream.Signature(OPERATION, always_ready=True))``
        One operation a message or notice, in the order of the feed.
    short_count : ``Out(range(ceil(params.width / 2) + 2))``
        Blocks too short for ITCH that were passed over: to be added up each cycle.
    o_end : ``Out(stream.Signature(PACKET_END, always_ready=True))``
        The end of each packet, after its last operation and no later than the next packet's first
        one.

    Raises
    ------
    TypeError
        If ``params`` is not a :class:`CardParams`.
    """

    def __init__(self, params: CardParams):
        if not isinstance(params, CardParams):
            raise TypeError(f"params must be a CardParams, not {params!r}")
        self.collector = Collector(params.width)
        self.decoder = Decoder()
        outside = {
            self.collector: ("i", "packet", "time", "short_count", "o_end"),
            self.decoder: ("i_notice", "o_hint", "o"),
        }
        super().__init__(
            {
                name: part.signature.members[name]
                for part, names in outside.items()
                for name in names
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.collector = collector = self.collector
        m.submodules.decoder = decoder = self.decoder
        wiring.connect(m, wiring.flipped(self.i), collector.i)
        wiring.connect(m, wiring.flipped(self.i_notice), decoder.i_notice)
        wiring.connect(m, collector.o, decoder.i)
        wiring.connect(m, decoder.o, wiring.flipped(self.o))
        wiring.connect(m, decoder.o_hint, wiring.flipped(self.o_hint))
        wiring.connect(m, collector.o_end, wiring.flipped(self.o_end))
        m.d.comb += [
            decoder.is_message.eq(collector.is_message),
            collector.packet.eq(self.packet),
            collector.time.eq(self.time),
            self.short_count.eq(collector.short_count),
        ]
        return m
