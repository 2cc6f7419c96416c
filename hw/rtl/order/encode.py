"""From messages to frames: OUCH 5.0 in SoupBinTCP in TCP in IPv4."""

from functools import reduce
from operator import add

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.layouts import beat
from hw.rtl.order.shapes import CONNECTION, MESSAGE, MessageKind, packed, padded, swapped
from hw.rtl.params import WIDTHS
from protocol import ouch50, soupbintcp
from protocol.ethernet import ETHERNET, EtherType
from protocol.ip import IPV4, TCP, IpProtocol, TcpFlag

_IP_AT = ETHERNET.size
_TCP_AT = _IP_AT + IPV4.size
_PAYLOAD_AT = _TCP_AT + TCP.size
_IP_SUM_AT = _IP_AT + IPV4.by_name["header_checksum"].offset
_TCP_SUM_AT = _TCP_AT + TCP.by_name["checksum"].offset
_LAYOUTS = {
    MessageKind.ENTER: ouch50.ENTER_ORDER,
    MessageKind.CANCEL: ouch50.CANCEL_ORDER_REQUEST,
    MessageKind.MASS_CANCEL: ouch50.MASS_CANCEL_REQUEST,
    MessageKind.REPLACE: ouch50.REPLACE_ORDER_REQUEST,
}
_APPENDAGE = packed(ouch50.APPENDAGE_LENGTH, appendage_length=0)
_WORD_BITS = 16


def _payload_size(layout):
    appendage = len(_APPENDAGE) // 8 if layout.appendage is ouch50.Appendage.ALWAYS else 0
    return soupbintcp.UNSEQUENCED_DATA.size + layout.size + appendage


_SIZES = [_payload_size(_LAYOUTS[kind]) for kind in MessageKind]
_FRAME_SIZE_MAX = -(-(_PAYLOAD_AT + max(_SIZES)) // 8) * 8


class Encoder(wiring.Component):
    """Sends messages and acknowledgments of one TCP connection.

    A message fills a template that has everything but its checksums; these are summed up while the
    first beats leave, from a sum over what is the same in all segments of the connection and the
    words that are not. Acknowledgments go first, and a message carries the number of the newest
    that was sent. Sequence numbers belong to the encoder once a connection has begun.

    Latency is 1 cycle from a message taken to the first beat of its frame. Throughput is one
    message in the beats of its frame and 1 cycle.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    connection : ``In(CONNECTION)``
        Whose segments they are. Steady while one is sent.
    begin_stb : ``In(1)``
        Count from its sequence and acknowledgment numbers. Only while ``is_idle``.
    i : ``In(stream.Signature(MESSAGE))``
        Messages, each steady until it is taken.
    i_acknowledgment : ``In(stream.Signature(32))``
        Acknowledgments to be sent.
    o : ``Out(stream.Signature(beat(width)))``
        Frames without padding and check sequence, without bubbles: for a transmitter of
        ``hw.rtl.wire``.
    is_idle : ``Out(1)``
        No frame is on its way.

    Raises
    ------
    ValueError
        If ``width`` is neither 1 nor 8.

    [OUCH 5.0: 2; SoupBinTCP 4.00; RFC 9293: 3.1; RFC 791: 3.1; RFC 1071]
    """

    def __init__(self, width):
        if width not in WIDTHS:
            raise ValueError(f"width must be 1 or 8, not {width!r}")
        self.width = width
        super().__init__(
            {
                "connection": In(CONNECTION),
                "begin_stb": In(1),
                "i": In(stream.Signature(MESSAGE)),
                "i_acknowledgment": In(stream.Signature(32)),
                "o": Out(stream.Signature(beat(width))),
                "is_idle": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        connection, width, o = self.connection, self.width, self.o
        sequence, acknowledgment = Signal(32), Signal(32)
        sending = Signal()
        m.d.comb += [
            self.is_idle.eq(~sending),
            self.i_acknowledgment.ready.eq(~sending),
            self.i.ready.eq(~sending & ~self.i_acknowledgment.valid),
        ]
        taken, acknowledges = Signal(), Signal()
        m.d.comb += [
            acknowledges.eq(~sending & self.i_acknowledgment.valid),
            taken.eq(acknowledges | (self.i.valid & self.i.ready)),
        ]

        # Stage 0: the template is filled.
        payload_size = Signal(range(max(_SIZES) + 1))
        number = Signal(32)
        m.d.comb += [
            payload_size.eq(Mux(acknowledges, 0, Array(_SIZES)[self.i.p.kind.as_value()])),
            number.eq(Mux(acknowledges, self.i_acknowledgment.payload, acknowledgment)),
        ]
        s1_frame = Signal(8 * _FRAME_SIZE_MAX, reset_less=True)
        s1_left = Signal(range(_FRAME_SIZE_MAX + 1), reset_less=True)
        s1_beat = Signal(range(_FRAME_SIZE_MAX // width))
        s1_fresh = Signal()
        s1_size = Signal.like(payload_size, reset_less=True)
        headers = self._headers(payload_size, sequence, number, acknowledges)
        m.d.sync += s1_fresh.eq(taken)
        with m.If(taken):
            m.d.sync += [
                sending.eq(1),
                s1_frame.eq(Cat(headers, self._payload())),
                s1_left.eq(_PAYLOAD_AT + payload_size),
                s1_size.eq(payload_size),
                s1_beat.eq(0),
                sequence.eq(sequence + payload_size),
                acknowledgment.eq(number),
            ]
        with m.If(self.begin_stb):
            m.d.sync += [
                sequence.eq(connection.sequence),
                acknowledgment.eq(connection.acknowledgment),
            ]

        # Stage 1: beats leave, the checksums with those of their place.
        ip_sum, tcp_sum = self._checksums(m, s1_frame, s1_size, s1_fresh)
        lanes = [s1_frame.word_select(lane, 8) for lane in range(width)]
        for at, checksum in ((_IP_SUM_AT, ip_sum), (_TCP_SUM_AT, tcp_sum)):
            for part in range(2):
                place, lane = divmod(at + part, width)
                byte = checksum.word_select(part, 8)
                lanes[lane] = Mux(s1_beat == place, byte, lanes[lane])
        m.d.comb += [
            o.valid.eq(sending),
            o.p.data.eq(Cat(*lanes)),
            o.p.count.eq(Mux(s1_left < width, s1_left, width)),
            o.p.first.eq(s1_beat == 0),
            o.p.last.eq(s1_left <= width),
        ]
        with m.If(sending & o.ready):
            m.d.sync += [
                s1_frame.eq(s1_frame >> 8 * width),
                s1_left.eq(s1_left - width),
                s1_beat.eq(s1_beat + 1),
                sending.eq(~o.p.last),
            ]
        return m

    def _headers(self, payload_size, sequence, number, acknowledges):
        connection = self.connection
        flags = Mux(acknowledges, Const(TcpFlag.ACK, 8), Const(TcpFlag.ACK | TcpFlag.PSH, 8))
        return Cat(
            packed(
                ETHERNET,
                destination=swapped(connection.remote_mac),
                source=swapped(connection.local_mac),
                ether_type=int(EtherType.IPV4),
            ),
            packed(
                IPV4,
                total_length=(IPV4.size + TCP.size + payload_size)[:16],
                protocol=int(IpProtocol.TCP),
                source=connection.local_ip,
                destination=connection.remote_ip,
            ),
            packed(
                TCP,
                source_port=connection.local_port,
                destination_port=connection.remote_port,
                sequence_number=sequence,
                acknowledgment_number=number,
                offset_flags=Cat(flags, Const(TCP.size // 4 << 4, 8)),
            ),
        )

    def _payload(self):
        """Return the packet of the message at ``i``."""
        i = self.i.p
        ouch = {
            MessageKind.ENTER: {
                "user_ref_num": i.cl_ord_id,
                "side": i.side,
                "quantity": i.order_qty,
                "symbol": i.stock,
                "price": i.price,
                "time_in_force": i.time_in_force,
                "display": "Y",
                "capacity": "P",
                "inter_market_sweep_eligibility": "N",
                "cross_type": "N",
                "cl_ord_id": self._text(),
            },
            MessageKind.CANCEL: {"user_ref_num": i.cl_ord_id, "quantity": i.order_qty},
            MessageKind.MASS_CANCEL: {
                "user_ref_num": i.cl_ord_id,
                "firm": padded(self.connection.firm),
                "symbol": i.stock,
            },
            MessageKind.REPLACE: {
                "orig_user_ref_num": i.orig_cl_ord_id,
                "user_ref_num": i.cl_ord_id,
                "quantity": i.order_qty,
                "price": i.price,
                "time_in_force": i.time_in_force,
                "display": "Y",
                "inter_market_sweep_eligibility": "N",
                "cl_ord_id": self._text(),
            },
        }
        size_bits = 8 * max(_SIZES)

        def whole(kind):
            layout = _LAYOUTS[kind]
            size = _payload_size(layout)
            head = packed(
                soupbintcp.UNSEQUENCED_DATA,
                packet_length=size - soupbintcp.UNSEQUENCED_DATA.size + 1,
            )
            bits = Cat(head, packed(layout, **ouch[kind]))
            if layout.appendage is ouch50.Appendage.ALWAYS:
                bits = Cat(bits, _APPENDAGE)
            # What is behind the message is summed as well.
            return Cat(bits, Const(0, size_bits - len(bits)))

        return Array(whole(kind) for kind in MessageKind)[i.kind.as_value()]

    def _text(self):
        text = ouch50.ENTER_ORDER.by_name["cl_ord_id"]
        blanks = Const(int.from_bytes(b" " * text.length, "little"), 8 * text.length)
        return Cat(self.i.p.text, blanks[len(self.i.p.text) :])

    def _checksums(self, m, s1_frame, s1_size, s1_fresh):
        """Return both checksums, each as it lies in the frame.

        Words are summed as they lie in the frame, their bytes swapped. [RFC 1071: 2 (B)]
        """
        connection = self.connection

        def words(bits):
            return [bits[at : at + _WORD_BITS] for at in range(0, len(bits), _WORD_BITS)]

        def total(values):
            return reduce(add, values)

        def held(value, name):
            after = Signal(value.shape(), name=name, reset_less=True)
            m.d.sync += after.eq(value)
            return after

        def folded(value):
            return value[:_WORD_BITS] + value[_WORD_BITS:]

        # What all segments of the connection have in common.
        no_ip = packed(
            IPV4,
            total_length=0,
            protocol=int(IpProtocol.TCP),
            source=connection.local_ip,
            destination=connection.remote_ip,
        )
        no_tcp = packed(
            TCP,
            source_port=connection.local_port,
            destination_port=connection.remote_port,
            sequence_number=0,
            acknowledgment_number=0,
            offset_flags=TCP.size // 4 << 12,
        )
        addresses = no_ip[8 * IPV4.by_name["source"].offset :]
        protocol = Cat(Const(0, 8), Const(IpProtocol.TCP, 8))
        ip_common = held(total(words(no_ip)), "ip_common")
        tcp_common = held(total([*words(addresses), *words(no_tcp), protocol]), "tcp_common")
        ip_common = held(folded(ip_common), "ip_common_folded")
        tcp_common = held(folded(tcp_common), "tcp_common_folded")

        # Stage 1 to 4: the words of this segment, and the rest.
        def of_frame(layout, offset, name):
            item = layout.by_name[name]
            return words(s1_frame[8 * (offset + item.offset) : 8 * (offset + item.end)])

        tcp_length = swapped((TCP.size + s1_size + Const(0, 16))[:16])
        own = [
            *of_frame(TCP, _TCP_AT, "sequence_number"),
            *of_frame(TCP, _TCP_AT, "acknowledgment_number"),
            tcp_length,
            # The flags alone: the header's length is in common.
            Cat(Const(0, 8), of_frame(TCP, _TCP_AT, "offset_flags")[0][8:]),
        ]
        payload = words(s1_frame[8 * _PAYLOAD_AT :])
        is_empty = s1_size == 0
        groups = [own, *(payload[at : at + 5] for at in range(0, len(payload), 5))]
        sums = []
        for index, group in enumerate(groups):
            after = Signal(range(5 * (1 << _WORD_BITS) + (1 << _WORD_BITS)), name=f"s2_sum_{index}")
            with m.If(s1_fresh):
                m.d.sync += after.eq(total(group))
                if index:
                    with m.If(is_empty):
                        m.d.sync += after.eq(0)
            sums.append(after)
        s2_ip = Signal(_WORD_BITS + 2, reset_less=True)
        with m.If(s1_fresh):
            length = of_frame(IPV4, _IP_AT, "total_length")[0]
            m.d.sync += s2_ip.eq(ip_common + length)

        def inverted(value, name):
            """Fold twice: the first carry may bring another one."""
            value = held(folded(value), f"{name}_folded")
            return ~held(folded(value)[:_WORD_BITS], f"{name}_sum")

        s3_tcp = held(total([*sums, tcp_common]), "s3_tcp")
        return inverted(s2_ip, "ip"), inverted(s3_tcp, "tcp")
