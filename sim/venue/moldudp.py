"""Market data out on two lines: MoldUDP64 packets, what a line does to them, and re-requests."""

from collections.abc import Iterator
from random import Random

from protocol.layout import DecodeError
from protocol.moldudp64 import BLOCK, END_OF_SESSION, HEADER, REQUEST, packet
from sim.venue.publisher import PAYLOAD_MAX

HEARTBEAT_INTERVAL_NS = 1_000_000_000
"""A feed that has sent nothing for this long tells its next sequence number."""

_MILLION = 1_000_000


class Feed:
    """The messages of a session, numbered from 1, as packets.

    All of them are kept, for re-requests.

    Parameters
    ----------
    session : str
        Ten characters at most.
    """

    def __init__(self, session: str):
        self.session = session
        self.messages: list[bytes] = []
        self._sent = 0

    @property
    def next_sequence(self) -> int:
        """Number of the message that comes next."""
        return len(self.messages) + 1

    def packets(self) -> Iterator[bytes]:
        """Yield packets of the messages that were not yet in one."""
        while self._sent < len(self.messages):
            made, count = self._packet(self._sent, len(self.messages))
            self._sent += count
            yield made

    def skip(self) -> None:
        """Take all messages there are for sent: a venue that starts again has sent them before."""
        self._sent = len(self.messages)

    def heartbeat(self) -> bytes:
        """Return a packet without messages, which tells the next sequence number."""
        return packet(self.session, self.next_sequence, [])

    def end_of_session(self) -> bytes:
        """Return a packet that says that nothing will follow."""
        return HEADER.pack(
            session=self.session,
            sequence_number=self.next_sequence,
            message_count=END_OF_SESSION,
        )

    def answer(self, request: bytes) -> bytes | None:
        """Return the answer to a re-request: as many of its messages as fit one packet.

        None for a request that is malformed, of another session, or for nothing that was sent.
        """
        if len(request) != REQUEST.size:
            return None
        try:
            asked = REQUEST.unpack(request)
        except DecodeError:
            return None
        first = asked["sequence_number"]
        if asked["session"] != self.session or not 1 <= first <= self._sent:
            return None
        end = min(first - 1 + asked["requested_message_count"], self._sent)
        if end < first:
            return None
        return self._packet(first - 1, end)[0]

    def _packet(self, start: int, end: int) -> tuple[bytes, int]:
        size, at = HEADER.size, start
        while at < end:
            size += BLOCK.size + len(self.messages[at])
            if size > PAYLOAD_MAX:
                break
            at += 1
        return packet(self.session, start + 1, self.messages[start:at]), at - start


class Line:
    """What one line does to packets: loss, delay, duplication, reordering, at random.

    Parameters
    ----------
    seed : int or str
        Of this line alone.
    loss_ppm, duplicate_ppm, reorder_ppm : int
        How many of a million packets are lost, come twice, or come behind the next one.
    delay_ns, jitter_ns : int
        Delay of every packet, and the most that is added to it, evenly distributed. Jitter alone
        makes packets overtake one another too.

    Attributes
    ----------
    lost_count, duplicate_count, reordered_count : int
        Packets so far.
    """

    def __init__(
        self,
        seed: int | str,
        loss_ppm: int = 0,
        duplicate_ppm: int = 0,
        reorder_ppm: int = 0,
        delay_ns: int = 0,
        jitter_ns: int = 0,
    ):
        self._rng = Random(seed)
        self._loss, self._duplicate, self._reorder = loss_ppm, duplicate_ppm, reorder_ppm
        self._delay_ns, self._jitter_ns = delay_ns, jitter_ns
        self._is_clean = not (loss_ppm or duplicate_ppm or reorder_ppm or jitter_ns)
        self._held: bytes | None = None
        self.lost_count = self.duplicate_count = self.reordered_count = 0

    def carry(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return what comes out for a packet that goes in: delay in ns and packet, in order."""
        if self._is_clean:
            return [(self._delay_ns, data)]
        if self._strikes(self._loss):
            self.lost_count += 1
            return []
        out = [(self._delay(), data)]
        if self._strikes(self._duplicate):
            self.duplicate_count += 1
            out.append((self._delay(), data))
        if self._held is not None:
            out.append((self._delay(), self._held))
            self._held = None
        elif self._strikes(self._reorder):
            self.reordered_count += 1
            self._held = data
            del out[0]
        return out

    def release(self) -> list[tuple[int, bytes]]:
        """Return a packet that waits for the next one, if there is one: no next one came."""
        held, self._held = self._held, None
        return [] if held is None else [(self._delay(), held)]

    def _strikes(self, ppm: int) -> bool:
        return ppm > 0 and self._rng.randrange(_MILLION) < ppm

    def _delay(self) -> int:
        jitter = self._rng.randrange(self._jitter_ns + 1) if self._jitter_ns else 0
        return self._delay_ns + jitter
