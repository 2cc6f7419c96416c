"""The receiving half of the TCP connection. [RFC 9293]"""

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFO
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.rtl.order.frames import check_power_of_two
from hw.rtl.order.shapes import BYTE, CONNECTION
from protocol.ethernet import ETHERNET, EtherType
from protocol.ip import IPV4, TCP, IpProtocol, TcpFlag

ACKNOWLEDGMENTS = 16
"""Acknowledgments that can wait to be sent."""
_WORD = 4
_IHL_MIN, _OFFSET_MIN = IPV4.size // _WORD, TCP.size // _WORD
_VERSION = 4
_LENGTH_BITS = 16


class Connection(wiring.Component):
    """Takes the segments of one connection apart, and keeps the bytes that come in order.

    A frame counts when everything is right that ``protocol.frames.parse_tcp`` looks at, checksums
    included, and addresses and ports are those of the connection. Of these, every segment with
    payload is acknowledged, whether or not it is the next one, and only the bytes of the next one
    are used. RST ends the session at once, and FIN after the segment that has it. A segment for
    which there is no room is as if it had never come: it is not acknowledged, and TCP sends it
    again. What was received in order is given out even when the session has ended.

    A connection that is handed over is used when all bytes of the one before were taken, and no
    acknowledgment waits.

    Latency is 2 cycles from a frame's last byte to its acknowledgment, and 3 to the first byte of
    its payload. Throughput is 1 byte per cycle.

    Parameters
    ----------
    size : int
        Bytes of payload that can wait; a power of two.

    Members
    -------
    i : ``In(stream.Signature(BYTE, always_ready=True))``
        Good frames without check sequence.
    i_start : ``In(stream.Signature(CONNECTION, always_ready=True))``
        A connection that is logged in, to be used from now on.
    stop_stb : ``In(1)``
        The host takes the connection back.
    end_stb : ``In(1)``
        The venue has ended the session.
    is_idle : ``In(1)``
        Nobody needs the connection before.
    session : ``Out(1)``
        There is a connection.
    begin_stb : ``Out(1)``
        The first cycle of a connection.
    connection : ``Out(CONNECTION)``
        The one in use, or the last that was.
    o_acknowledgment : ``Out(stream.Signature(32))``
        Number of the next byte, for each acknowledgment to be sent.
    o : ``Out(stream.Signature(8))``
        Bytes of the venue, in order.
    drop_stb : ``Out(1)``
        There was no room for a segment.

    Raises
    ------
    TypeError, ValueError
        If ``size`` is no power of two.
    """

    def __init__(self, size=4096):
        check_power_of_two("size", size, 64)
        self.size = size
        super().__init__(
            {
                "i": In(stream.Signature(BYTE, always_ready=True)),
                "i_start": In(stream.Signature(CONNECTION, always_ready=True)),
                "stop_stb": In(1),
                "end_stb": In(1),
                "is_idle": In(1),
                "session": Out(1),
                "begin_stb": Out(1),
                "connection": Out(CONNECTION),
                "o_acknowledgment": Out(stream.Signature(32)),
                "o": Out(stream.Signature(8)),
                "drop_stb": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.acknowledgments = acknowledgments = SyncFIFO(width=32, depth=ACKNOWLEDGMENTS)
        m.submodules.memory = memory = Memory(shape=8, depth=self.size, init=[])
        write_port, read_port = memory.write_port(), memory.read_port()
        written = Signal(range(2 * self.size))
        received = Signal.like(written)  # Of these, bytes that came in order.
        read = Signal.like(written)

        starting, begins = Signal(), Signal()
        segment = self._take_apart(m, begins)
        expected = Signal(32)

        # Payload: written while it arrives.
        full = (written - read)[: len(written)] == self.size
        overflow = Signal()
        m.d.comb += [
            write_port.addr.eq(written),
            write_port.data.eq(self.i.p.data),
            write_port.en.eq(segment.in_payload & ~full),
        ]
        with m.If(segment.in_payload):
            with m.If(full):
                m.d.sync += overflow.eq(1)
            with m.Else():
                m.d.sync += written.eq(written + 1)

        # The cycle after a frame's last byte: what becomes of it.
        counts = segment.ended & segment.good & self.session
        carries = segment.length.any()
        is_next = segment.sequence == expected
        fits = ~carries | (acknowledgments.w_rdy & ~(is_next & overflow))
        uses = counts & ~segment.rst & carries & fits
        next_expected = (expected + segment.length)[:32]
        ends = counts & (segment.rst | (segment.fin & fits))
        m.d.comb += [
            acknowledgments.w_en.eq(uses),
            acknowledgments.w_data.eq(Mux(is_next, next_expected, expected)),
            self.drop_stb.eq(counts & ~segment.rst & ~fits),
        ]
        with m.If(segment.ended):
            m.d.sync += overflow.eq(0)
            with m.If(uses & is_next):
                m.d.sync += [received.eq(written), expected.eq(next_expected)]
            with m.Else():
                m.d.sync += written.eq(received)

        # Whose it is.
        offered = Signal(CONNECTION, reset_less=True)
        m.d.comb += begins.eq(starting & self.is_idle & (read == received) & ~acknowledgments.r_rdy)
        m.d.sync += self.begin_stb.eq(begins)
        with m.If(ends | self.end_stb):
            m.d.sync += self.session.eq(0)
        with m.If(begins):
            m.d.sync += [
                starting.eq(0),
                self.session.eq(1),
                self.connection.eq(offered),
                expected.eq(offered.acknowledgment),
            ]
        with m.If(self.stop_stb):
            m.d.sync += [self.session.eq(0), starting.eq(0)]
        with m.If(self.i_start.valid):
            m.d.sync += [
                offered.eq(self.i_start.p),
                self.session.eq(0),
                starting.eq(1),
            ]

        # Out.
        m.d.comb += [
            self.o_acknowledgment.valid.eq(acknowledgments.r_rdy),
            self.o_acknowledgment.payload.eq(acknowledgments.r_data),
            acknowledgments.r_en.eq(self.o_acknowledgment.ready),
        ]
        next_read = Signal.like(read)
        m.d.comb += [
            next_read.eq(read + (self.o.valid & self.o.ready)),
            read_port.addr.eq(next_read),
            self.o.payload.eq(read_port.data),
        ]
        m.d.sync += [read.eq(next_read), self.o.valid.eq(next_read != received)]
        return m

    def _take_apart(self, m, begins):
        """Return what the frame at ``i`` says, and whether its payload passes."""
        i, byte, connection = self.i, self.i.p.data, self.connection
        found = SimpleNamespace(
            in_payload=Signal(),
            ended=Signal(),
            good=Signal(),
            rst=Signal(reset_less=True),
            fin=Signal(reset_less=True),
            sequence=Signal(32, reset_less=True),
            length=Signal(_LENGTH_BITS, reset_less=True),
        )
        before = Signal(24, reset_less=True)
        half, word = Cat(byte, before[:8]), Cat(byte, before)
        place = Signal(range(_WORD << 4), reset_less=True)
        ihl = Signal(4, reset_less=True)
        offset = Signal(4, reset_less=True)
        left = Signal(_LENGTH_BITS, reset_less=True)  # Bytes of the packet from this one on.
        fits = Signal(reset_less=True)
        whole = Signal(reset_less=True)
        ip_sum, tcp_sum = Signal(17, reset_less=True), Signal(17, reset_less=True)
        tcp_length = Signal(_LENGTH_BITS, reset_less=True)
        is_last = left == 1

        def field(layout, name):
            return place == layout.by_name[name].end - 1

        def require(condition):
            with m.If(~condition):
                m.d.sync += fits.eq(0)

        def add(total, value):
            m.d.sync += total.eq(total[:16] + value + total[16])

        def leave():
            m.d.sync += place.eq(0)

        def finish():
            with m.If(i.p.last):
                m.next = "Reading the Ethernet header"

        # An odd place is the lower half of a word, also in a payload: headers are of even length.
        byte_of_word = Mux(place[0], byte, Cat(Const(0, 8), byte))
        m.d.sync += found.ended.eq(i.valid & i.p.last)
        with m.If(begins):  # What was compared so far was compared with the connection before.
            m.d.sync += fits.eq(0)
        with m.If(i.valid):
            m.d.sync += [before.eq(word), place.eq(place + 1), left.eq(left - 1)]
            with m.FSM():
                with m.State("Reading the Ethernet header"):
                    with m.If(i.p.first):
                        m.d.sync += [place.eq(1), fits.eq(1), whole.eq(0), found.length.eq(0)]
                        m.d.sync += [ip_sum.eq(0), tcp_sum.eq(0)]
                    with m.Elif(field(ETHERNET, "ether_type")):
                        require(half == EtherType.IPV4)
                        leave()
                        m.next = "Reading the IPv4 header"
                    finish()
                with m.State("Reading the IPv4 header"):
                    add(ip_sum, byte_of_word)
                    with m.If(field(IPV4, "version_ihl")):
                        require((byte[4:] == _VERSION) & (byte[:4] >= _IHL_MIN))
                        m.d.sync += ihl.eq(byte[:4])
                    with m.If(field(IPV4, "total_length")):
                        m.d.sync += left.eq(half - (place + 1))
                    with m.If(field(IPV4, "protocol")):
                        require(byte == IpProtocol.TCP)
                        m.d.sync += tcp_length.eq(left + place - Cat(Const(0, 2), ihl))
                    # Of the pseudo header, what is not in a place of its own.
                    with m.If(place == IPV4.by_name["header_checksum"].offset):
                        add(tcp_sum, tcp_length)
                    with m.If(field(IPV4, "header_checksum")):
                        add(tcp_sum, Const(IpProtocol.TCP, 16))
                    with m.If((place >= IPV4.by_name["source"].offset) & (place < IPV4.size)):
                        add(tcp_sum, byte_of_word)
                    with m.If(field(IPV4, "source")):
                        require(word == connection.remote_ip)
                    with m.If(field(IPV4, "destination")):
                        require(word == connection.local_ip)
                    with m.If(place + 1 == Cat(Const(0, 2), ihl)):
                        leave()
                        m.next = "Reading the TCP header"
                    with m.If((place >= _WORD) & is_last):
                        m.next = "Skipping the rest"
                    finish()
                with m.State("Reading the TCP header"):
                    add(tcp_sum, byte_of_word)
                    with m.If(field(TCP, "source_port")):
                        require(half == connection.remote_port)
                    with m.If(field(TCP, "destination_port")):
                        require(half == connection.local_port)
                    with m.If(field(TCP, "sequence_number")):
                        m.d.sync += found.sequence.eq(word)
                    with m.If(place == TCP.by_name["offset_flags"].offset):
                        require(byte[4:] >= _OFFSET_MIN)
                        m.d.sync += offset.eq(byte[4:])
                    with m.If(field(TCP, "offset_flags")):
                        m.d.sync += [
                            found.rst.eq((byte & TcpFlag.RST).any()),
                            found.fin.eq((byte & TcpFlag.FIN).any()),
                        ]
                    ends = (place >= TCP.size - 1) & (place + 1 == Cat(Const(0, 2), offset))
                    with m.If(ends):
                        m.d.sync += whole.eq(is_last)
                        leave()
                        m.next = "Reading the payload"
                    with m.If(is_last):
                        m.next = "Skipping the rest"
                    finish()
                with m.State("Reading the payload"):
                    add(tcp_sum, byte_of_word)
                    m.d.sync += [found.length.eq(found.length + 1), place.eq(~place[0])]
                    m.d.comb += found.in_payload.eq(1)
                    with m.If(is_last):
                        m.d.sync += whole.eq(1)
                        m.next = "Skipping the rest"
                    finish()
                with m.State("Skipping the rest"):
                    finish()
        m.d.comb += found.good.eq(fits & whole & is_complete(ip_sum) & is_complete(tcp_sum))
        return found


def is_complete(total):
    """Whether a sum of 16-bit words, the last carry not added, is that of a right checksum.

    [RFC 1071]
    """
    return (total[:16] + total[16])[:16] == (1 << 16) - 1
