"""Recovery of lost market data: from a gap, symbol by symbol, back to live.

    card: GAP, stale symbols ──> Recovery ──re-request──> the lost messages ──> Shadows
    card: books repaired   <── BOOK commands ──┘   └──snapshot──> all orders, when too much is lost

A symbol that is stale has its book emptied on the card, which passes its messages over from then
on. The host works out what the book is (:class:`~sw.feed.shadow.Shadows`), puts its orders in and
asks for it to be live as of a feed message. The card agrees only if it has passed over or lost
nothing from that message on; otherwise it says how far it is, and the host catches up with what
has changed since. So a book that goes live is exact, however messages and commands cross.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto, unique
from typing import NamedTuple, Protocol

from protocol import ring
from protocol.layout import DecodeError
from protocol.moldudp64 import END_OF_SESSION
from protocol.reasons import StaleReason
from sw.feed import Feed
from sw.feed.shadow import Shadow, Shadows, Standing

REQUEST_MESSAGES_MAX = END_OF_SESSION - 1


class Messages(NamedTuple):
    """Feed messages in order, and the number of the first."""

    first: int
    messages: list[bytes]


class Snapshot(NamedTuple):
    """Messages of a snapshot, its end included. [GLIMPSE 5.0]"""

    messages: list[bytes]


class Source(Protocol):
    """Where lost messages can be had again. One question is asked at a time; none is waited for."""

    @property
    def has_snapshots(self) -> bool:
        """Whether there are snapshots."""

    def request(self, first: int, count: int, now_ns: int) -> None:
        """Ask for messages; fewer may come, from the first on. [MoldUDP64 1.00: Request Packet]"""

    def snapshot(self, now_ns: int) -> None:
        """Ask for a snapshot."""

    def poll(self, now_ns: int) -> Messages | Snapshot | None:
        """Return what has come; later answers to earlier questions may be among it."""


@dataclass(frozen=True, slots=True)
class RecoveryConfig:
    """How patient recovery is. Times in ns.

    Attributes
    ----------
    rerequest_max : int
        Messages behind which a snapshot is asked for instead.
    timeout_ns : int
        Without an answer of card or venue for this long, what was said is said again.
    attempts : int
        Re-requests without an answer, before a snapshot is asked for.
    retry_ns : int
        How long to wait for a card that is behind what the host knows.
    backoff_ns : int
        How long a symbol is left alone that could not be repaired.
    """

    rerequest_max: int = 20_000
    timeout_ns: int = 10_000_000
    attempts: int = 3
    retry_ns: int = 20_000
    backoff_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        for name in ("timeout_ns", "attempts", "retry_ns", "backoff_ns"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more, not {getattr(self, name)}")
        if self.rerequest_max < 0:
            raise ValueError(f"rerequest_max must be 0 or more, not {self.rerequest_max}")


@unique
class _State(Enum):
    IDLE = auto()
    CLEARING = auto()
    FETCHING = auto()
    FILLING = auto()
    GOING_LIVE = auto()


_LEFT_ALONE = (StaleReason.NONE, StaleReason.LEVEL_OVERFLOW)
"""No repair helps a level that does not fit a record; the card heals it by itself."""


class Recovery:
    """Repairs stale books, one at a time.

    Parameters
    ----------
    feed : Feed
        Tells which symbols are stale, and what the card answers.
    symbols : sequence of (str, int)
        Name and stock locate, by symbol index; 0 learns the locate.
    put : callable
        Publishes a record on the command ring. Returns False while there is no slot for it.
    source : Source
        Where lost messages can be had again.
    config : RecoveryConfig
        How patient it is.

    Attributes
    ----------
    repaired_count, failed_count : int
        Books that went live again, and attempts that were given up.
    rerequest_count, snapshot_count : int
        Questions that were asked.
    """

    def __init__(
        self,
        feed: Feed,
        symbols: Sequence[tuple[str, int]],
        put: Callable[[bytes, int], bool],
        source: Source,
        config: RecoveryConfig = RecoveryConfig(),
    ):
        self._feed = feed
        self._put = put
        self._source = source
        self._config = config
        self._shadows = Shadows(symbols)
        self._state = _State.IDLE
        self._act = {
            _State.IDLE: self._choose,
            _State.CLEARING: self._await_clear,
            _State.FETCHING: self._fetch,
            _State.FILLING: self._fill,
            _State.GOING_LIVE: self._await_live,
        }
        self._index = self._locate = 0
        self._not_before_ns = [0] * len(symbols)
        self._answers = feed.repair_count
        self._deadline_ns = 0
        self._wanted = 0
        self._is_asked = False
        self._tries = 0
        self._snapshots_tried = 0
        self._on_card: dict[int, Standing] = {}
        self._todo: list[bytes] = []
        self.repaired_count = self.failed_count = 0
        self.rerequest_count = self.snapshot_count = 0

    @property
    def is_idle(self) -> bool:
        """Whether no book is under repair."""
        return self._state is _State.IDLE

    def step(self, now_ns: int) -> None:
        """Do what can be done now. Costs next to nothing while no symbol is stale."""
        if self._state is _State.IDLE and not self._feed.stale_count:
            return
        while self._act[self._state](now_ns):
            pass

    # States. Each returns whether another one may act at once.

    def _choose(self, now_ns: int) -> bool:
        quotes, count = self._feed.quotes, len(self._feed.quotes)
        for index in (*range(self._index, count), *range(self._index)):
            if quotes[index].stale_reason in _LEFT_ALONE or now_ns < self._not_before_ns[index]:
                continue
            self._index = index
            self._tries = self._snapshots_tried = 0
            return self._clear(now_ns)
        return False

    def _clear(self, now_ns: int) -> bool:
        self._locate = self._shadow.locate
        self._on_card = {}
        record = ring.BOOK_CLEAR.pack(
            symbol_index=self._index, ts_host_ns=now_ns, stock_locate=self._locate
        )
        return self._put(record, now_ns) and self._wait(_State.CLEARING, now_ns)

    def _await_clear(self, now_ns: int) -> bool:
        if not self._has_answer():
            if now_ns >= self._deadline_ns:
                self._clear(now_ns)
            return False
        self._wanted = self._feed.repair.next_sequence
        self._shadow.touched = set(self._shadow.orders)
        return self._go(_State.FETCHING)

    def _fetch(self, now_ns: int) -> bool:
        """Bring the shadows to where the card is, or beyond."""
        shadows, config = self._shadows, self._config
        while (answer := self._source.poll(now_ns)) is not None:
            self._take(answer)
        if self._shadow.locate != self._locate:
            # The card did not know which messages to pass over.
            return self._clear(now_ns)
        if shadows.next_sequence >= self._wanted and self._shadow.is_exact:
            self._todo = self._difference(now_ns)
            return self._go(_State.FILLING)
        if self._is_asked and now_ns < self._deadline_ns:
            return False
        self._tries += self._is_asked
        behind = self._wanted - shadows.next_sequence
        is_too_old = behind > config.rerequest_max or self._tries > config.attempts
        if not self._shadow.is_exact or (is_too_old and self._source.has_snapshots):
            if not self._source.has_snapshots or self._snapshots_tried >= config.attempts:
                return self._fail(now_ns)
            self._snapshots_tried += 1
            self.snapshot_count += 1
            self._source.snapshot(now_ns)
        elif self._tries > config.attempts:
            return self._fail(now_ns)
        else:
            self.rerequest_count += 1
            count = min(behind, REQUEST_MESSAGES_MAX)
            self._source.request(shadows.next_sequence, count, now_ns)
        self._is_asked = True
        self._deadline_ns = now_ns + config.timeout_ns
        return False

    def _fill(self, now_ns: int) -> bool:
        """Put on the card what its book lacks, then ask for it to be live."""
        while self._todo:
            if not self._put(self._todo[-1], now_ns):
                return False
            self._todo.pop()
        return self._ask_live(now_ns)

    def _ask_live(self, now_ns: int) -> bool:
        record = ring.BOOK_LIVE.pack(
            symbol_index=self._index,
            ts_host_ns=now_ns,
            next_sequence=self._shadows.next_sequence,
            trading_state=self._shadow.trading_state,
            event_code=self._shadows.event_code,
        )
        return self._put(record, now_ns) and self._wait(_State.GOING_LIVE, now_ns)

    def _await_live(self, now_ns: int) -> bool:
        if not self._has_answer():
            if now_ns >= self._deadline_ns:
                self._ask_live(now_ns)
            return False
        answer = self._feed.repair
        if answer.is_live:
            self.repaired_count += 1
            return self._leave()
        if answer.stale_reason is not StaleReason.GAP:
            return self._fail(now_ns)
        if self._shadows.next_sequence >= answer.from_sequence:
            self._deadline_ns = now_ns + self._config.retry_ns  # The card is behind: it will come.
            return False
        self._wanted = answer.next_sequence
        return self._go(_State.FETCHING)

    # What they have in common.

    @property
    def _shadow(self) -> Shadow:
        return self._shadows.symbols[self._index]

    def _go(self, state: _State) -> bool:
        self._state = state
        self._is_asked = False
        self._tries = 0
        return True

    def _wait(self, state: _State, now_ns: int) -> bool:
        self._deadline_ns = now_ns + self._config.timeout_ns
        return self._go(state)

    def _fail(self, now_ns: int) -> bool:
        self.failed_count += 1
        self._not_before_ns[self._index] = now_ns + self._config.backoff_ns
        return self._leave()

    def _leave(self) -> bool:
        self._shadow.touched = None
        self._index = (self._index + 1) % len(self._feed.quotes)
        return self._go(_State.IDLE)

    def _has_answer(self) -> bool:
        """Whether the card has said something new of the symbol."""
        if self._feed.repair_count == self._answers:
            return False
        self._answers = self._feed.repair_count
        return self._feed.repair.symbol_index == self._index

    def _take(self, answer: Messages | Snapshot) -> None:
        if isinstance(answer, Snapshot):
            try:
                self._shadows.load(answer.messages)
            except DecodeError:
                return  # As if none had come.
            self._shadow.touched = self._shadow.orders.keys() | self._on_card.keys()
            if self._shadow.is_exact:
                self._snapshots_tried = 0
        elif not self._shadows.apply(answer.first, answer.messages):
            return
        self._is_asked = False
        self._tries = 0

    def _difference(self, now_ns: int) -> list[bytes]:
        """Return the commands that make the card's book the shadow's, the last one first."""
        shadow, index = self._shadow, self._index
        adds, deletes = [], []
        for reference in sorted(shadow.touched or ()):
            before, after = self._on_card.get(reference), shadow.orders.get(reference)
            if before == after:
                continue
            ids = {"symbol_index": index, "ts_host_ns": now_ns, "order_reference": reference}
            if before is not None:
                deletes.append(ring.BOOK_DELETE.pack(**ids))
                del self._on_card[reference]
            if after is not None:
                values = {"side": after.side, "order_qty": after.shares, "price": after.price}
                adds.append(ring.BOOK_ADD.pack(**ids, **values))
                self._on_card[reference] = after
        shadow.touched = set()
        return adds + deletes
