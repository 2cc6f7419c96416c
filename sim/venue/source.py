"""A venue's re-requests and snapshots in memory, for a host in the same process."""

from collections import deque
from collections.abc import Callable, Iterable

from protocol.frames import Address
from sim.venue.capture import Capture
from sim.venue.moldudp import Feed
from sim.venue.publisher import VENUE_IP, VENUE_MAC
from sw.feed.recovery import Messages, Snapshot
from sw.feed.sources import messages_of, rerequest

_SERVER = Address(VENUE_MAC, VENUE_IP, 26_478)
_HOST = Address(bytes.fromhex("020000000002"), 0x0A00_0002, 40_001)
"""Ends of the re-requests in a capture."""


class VenueSource:
    """Answers a while after it was asked.

    Parameters
    ----------
    feed : Feed
        All messages so far.
    latency_ns : int
        From a question to its answer.
    wake : callable
        Called with the time at which an answer will have come.
    snapshot : callable, optional
        Returns the messages of a snapshot.
    capture : Capture, optional
        Where re-requests and their answers are written, as the datagrams that they would be.
    """

    def __init__(
        self,
        feed: Feed,
        latency_ns: int,
        wake: Callable[[int], None] = lambda ts_ns: None,
        snapshot: Callable[[], Iterable[bytes]] | None = None,
        capture: Capture | None = None,
    ):
        self._feed = feed
        self._latency_ns = latency_ns
        self._wake = wake
        self._snapshot = snapshot
        self._capture = capture
        self._due: deque[tuple[int, Messages | Snapshot, bytes]] = deque()

    @property
    def has_snapshots(self) -> bool:
        """Whether there are snapshots."""
        return self._snapshot is not None

    def request(self, first: int, count: int, now_ns: int) -> None:
        """Ask for messages. What the venue does not serve is not answered."""
        session = self._feed.session
        question = rerequest(session, first, count)
        if self._capture is not None:
            self._capture.datagram(_HOST, _SERVER, question, now_ns)
        answer = self._feed.answer(question)
        found = None if answer is None else messages_of(answer, session)
        if answer is not None and found is not None:
            self._put(found, answer, now_ns)

    def snapshot(self, now_ns: int) -> None:
        """Ask for a snapshot."""
        if self._snapshot is not None:
            self._put(Snapshot(list(self._snapshot())), b"", now_ns)

    def _put(self, answer: Messages | Snapshot, datagram: bytes, now_ns: int) -> None:
        self._due.append((now_ns + self._latency_ns, answer, datagram))
        self._wake(now_ns + self._latency_ns)

    def poll(self, now_ns: int) -> Messages | Snapshot | None:
        """Return what has come."""
        if not self._due or self._due[0][0] > now_ns:
            return None
        _, answer, datagram = self._due.popleft()
        if self._capture is not None and datagram:
            self._capture.datagram(_SERVER, _HOST, datagram, now_ns)
        return answer
