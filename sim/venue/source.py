"""A venue's re-requests and snapshots in memory, for a host in the same process."""

from collections import deque
from collections.abc import Callable, Iterable

from sim.venue.moldudp import Feed
from sw.feed.recovery import Messages, Snapshot
from sw.feed.sources import messages_of, rerequest


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
    """

    def __init__(
        self,
        feed: Feed,
        latency_ns: int,
        wake: Callable[[int], None] = lambda ts_ns: None,
        snapshot: Callable[[], Iterable[bytes]] | None = None,
    ):
        self._feed = feed
        self._latency_ns = latency_ns
        self._wake = wake
        self._snapshot = snapshot
        self._due: deque[tuple[int, Messages | Snapshot]] = deque()

    @property
    def has_snapshots(self) -> bool:
        """Whether there are snapshots."""
        return self._snapshot is not None

    def request(self, first: int, count: int, now_ns: int) -> None:
        """Ask for messages. What the venue does not serve is not answered."""
        session = self._feed.session
        answer = self._feed.answer(rerequest(session, first, count))
        found = None if answer is None else messages_of(answer, session)
        if found is not None:
            self._put(found, now_ns)

    def snapshot(self, now_ns: int) -> None:
        """Ask for a snapshot."""
        if self._snapshot is not None:
            self._put(Snapshot(list(self._snapshot())), now_ns)

    def _put(self, answer: Messages | Snapshot, now_ns: int) -> None:
        self._due.append((now_ns + self._latency_ns, answer))
        self._wake(now_ns + self._latency_ns)

    def poll(self, now_ns: int) -> Messages | Snapshot | None:
        """Return what has come."""
        if not self._due or self._due[0][0] > now_ns:
            return None
        return self._due.popleft()[1]
