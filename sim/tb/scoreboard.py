"""What the golden model says that a feed path must tell, frame by frame and message by message."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from protocol.reasons import DropReason, StaleReason
from sim.golden import book, moldudp64, parse, wire

ORDER_MESSAGES = (
    parse.AddOrder,
    parse.AddOrderMpid,
    parse.OrderExecuted,
    parse.OrderExecutedWithPrice,
    parse.OrderCancel,
    parse.OrderDelete,
    parse.OrderReplace,
)


@dataclass(frozen=True, slots=True)
class Expected:
    """What one message about a configured symbol's orders must bring."""

    sequence: int
    symbol_index: int
    bbo: book.Bbo
    changed: bool
    stale_reason: StaleReason
    message: parse.Message

    def __str__(self) -> str:
        return f"message {self.sequence} of symbol {self.symbol_index}: {self.message}"


class GoldenFeed:
    """Takes frames of two lines in the order of their arrival, and keeps what must come out.

    Parameters
    ----------
    locates : sequence of int
        Stock locate of each symbol index.
    gap_timeout_ns : int
        How long a gap may wait for the other line.
    cut_through : bool
        Whether messages are acted on before their frame is known to be good.
    group : pair of int
        IPv4 address and UDP port that are subscribed to.
    session, next_sequence, held_packets_max
        See :class:`sim.golden.moldudp64.Arbiter`.

    Attributes
    ----------
    expected : list of Expected
        One for each message about an order of a configured symbol, in the order of the feed.
    gaps : list of Gap
        What was declared lost.
    drops : Counter of DropReason
        What was not used.
    names : dict of str to int
        Symbol indexes that learn their locates from the directory message of a name.
    message_count : int
        Messages delivered, retracted ones among them.
    """

    def __init__(
        self,
        locates: Sequence[int],
        gap_timeout_ns: int,
        cut_through: bool = True,
        group: tuple[int, int] = (0, 0),
        session: bytes | None = None,
        next_sequence: int | None = 1,
        held_packets_max: int = 64,
    ):
        self.arbiter = moldudp64.Arbiter(gap_timeout_ns, held_packets_max, session, next_sequence)
        self.book = book.Book()
        self.index_of = {locate: index for index, locate in enumerate(locates)}
        self.expected: list[Expected] = []
        self.gaps: list[moldudp64.Gap] = []
        self.names: dict[str, int] = {}
        self.message_count = 0
        self._drops: Counter[DropReason] = Counter()
        self._cut_through = cut_through
        self._group = group
        self._touched: set[int] = set()
        for locate in locates:
            self.book.clear(locate)  # Known from the start, so that a gap flags it at once.

    @property
    def drops(self) -> Counter[DropReason]:
        return self._drops + self.arbiter.drops

    def stale(self) -> list[StaleReason]:
        """Return the reason of each symbol index."""
        by_index = sorted(self.index_of, key=self.index_of.__getitem__)
        return [self.book.stale.get(locate, StaleReason.NONE) for locate in by_index]

    def frame(self, line: int, data: bytes, ts_ns: int, refused: bool = False) -> None:
        """Take a frame, without FCS; ``refused`` when the MAC found it to be bad."""
        parsed = wire.parse_frame(data)
        reason = parsed.reason if isinstance(parsed, wire.Drop) else None
        if refused:
            reason = DropReason.FRAME_CHECK
        if reason is not None:
            self._drops[reason] += 1
        found = self._begun(data) if isinstance(parsed, wire.Drop) else parsed
        if found is None:
            return
        group = found.destination_ip, found.destination_port
        if group != self._group:
            if reason is None:
                self._drops[DropReason.NOT_SUBSCRIBED] += 1
        elif reason is None:
            self._take(self.arbiter.receive(line, found.payload, ts_ns))
        elif self._cut_through:
            self._take(self.arbiter.receive(line, found.payload, ts_ns, bad=True))

    @staticmethod
    def _begun(data: bytes) -> wire.Datagram | None:
        """Return the datagram of a frame that looks good until it ends, if it is one."""
        whole = wire.parse_frame(data + bytes(1 << 16), check_udp_checksum=False)
        if isinstance(whole, wire.Drop):
            return None
        ip = 18 if whole.vlan_id is not None else 14
        start = ip + 4 * (data[ip] & 0x0F) + 8
        return replace(whole, payload=data[start : start + len(whole.payload)])

    def advance(self, ts_ns: int) -> None:
        """Let time go on: gaps may be declared lost."""
        self._take(self.arbiter.advance(ts_ns))

    def _take(self, events: list[moldudp64.Event]) -> None:
        for event in events:
            match event:
                case moldudp64.Message():
                    self._message(event)
                case moldudp64.Gap():
                    self.gaps.append(event)
                    self.book.mark_gap()
                case moldudp64.Retract():
                    self.book.mark_bad(self._touched)
            if not isinstance(event, moldudp64.Message):
                self._touched.clear()
        self._touched.clear()

    def _message(self, event: moldudp64.Message) -> None:
        self.message_count += 1
        try:
            message = parse.parse(event.data)
        except parse.ParseError:
            self._drops[DropReason.UNKNOWN_MESSAGE] += 1
            return
        if isinstance(message, parse.StockDirectory) and message.stock in self.names:
            self.index_of[message.stock_locate] = self.names[message.stock]
            self.book.clear(message.stock_locate)
        if not isinstance(message, ORDER_MESSAGES):
            return
        locate = message.stock_locate
        if locate not in self.index_of:
            self._drops[DropReason.UNKNOWN_SYMBOL] += 1
            return
        self._touched.add(locate)
        changed = self.book.apply(message) is not None
        self.expected.append(
            Expected(
                event.sequence_number,
                self.index_of[locate],
                self.book.bbo(locate),
                changed,
                self.book.stale.get(locate, StaleReason.NONE),
                message,
            )
        )
