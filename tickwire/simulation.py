"""Card, venue and host engine on one clock: a discrete-event simulation, the same for one seed.

    venue ── frames on lines A and B ──> card ── rings ──> engine
      ^                                   │  ^               │
      └──────────── order frames ─────────┘  └── commands ───┘

The venue plays a day of ITCH messages and publishes them; what leaves the card reaches it after a
latency and is matched against the day as it stands then. Every latency is stated in the
configuration, and all randomness comes from the seed.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random

from kernels.exposure import token_bucket
from protocol import itch50
from protocol.registers import SYMBOLS_MAX
from protocol.units import NS_PER_SECOND
from sim.card.port import Port
from sim.venue.capture import Capture
from sim.venue.moldudp import Feed
from sim.venue.publisher import Packet, publish
from sim.venue.replay import ReplayBook
from sim.venue.source import VenueSource
from sw.engine import Engine, EngineConfig, Symbol
from sw.journal import Journal
from tickwire.cards import MakeCard, make_functional
from tickwire.config import RunConfig
from tickwire.session import FEED_SESSION, order_gateway, order_session


def engine_config(config: RunConfig, locates: Mapping[str, int]) -> EngineConfig:
    """Return the engine's configuration for the wanted symbols, or for all that the day has.

    Rings that have no size given get what so many symbols need. Raises :class:`ValueError` when the
    day has no symbol, or not one that is wanted, or when a ring is too small.
    """
    wanted = config.feed.symbols or tuple(locates)
    missing = [stock for stock in wanted if stock not in locates]
    if missing or not wanted:
        raise ValueError(f"no message names {', '.join(missing) or 'a symbol'}")
    if len(wanted) > SYMBOLS_MAX:
        raise ValueError(f"{len(wanted)} symbols are more than a card has: {SYMBOLS_MAX}")
    # Limits of every symbol, of trader, desk and firm, and a heartbeat stand in the ring at first.
    commands = len(wanted) + 4
    if config.rings.command is not None and config.rings.command < commands:
        raise ValueError(f"rings.command must be {commands} or more for {len(wanted)} symbols")
    return EngineConfig(
        symbols=[Symbol(stock, locates[stock]) for stock in wanted],
        limits=[config.risk.limits()] * len(wanted),
        level_limits=config.risk.level_limits(),
        rate=token_bucket(config.risk.rate_burst, config.risk.rate_interval_ns),
        quoting=[config.quoting.quoting()] * len(wanted),
        market_slots=config.rings.market,
        execution_slots=config.rings.execution or _slots(_ANSWERS_A_SYMBOL * len(wanted)),
        command_slots=config.rings.command or _slots(commands),
        feed_gap_timeout_ns=config.feed.gap_timeout_ns,
        recovery=config.recovery.recovery(),
    )


_SLOTS_MIN = 1024
_RECOVERS_WITHIN_NS = NS_PER_SECOND
_ANSWERS_A_SYMBOL = 16
"""Two quotes, each perhaps with a replacement under way, and the slots that the card reserves."""


def _slots(needed: int) -> int:
    """Return a power of two that is large enough."""
    return max(_SLOTS_MIN, 1 << (needed - 1).bit_length())


class Simulation:
    """One run.

    Parameters
    ----------
    config : RunConfig
        Latencies and losses.
    engine_config : EngineConfig
        Of the host.
    memory : memoryview
        Host memory for the rings.
    journal : Journal
        Takes every ring record.
    locates : mapping of str to int
        Every symbol that the venue trades.
    seed : int
        Of latency jitter and losses.
    card : callable
        Makes the card to run on, of host memory, the number of symbols, and what takes each frame
        for the venue.
    capture : Capture, optional
        Takes every frame when it reaches or leaves the card, and re-requests with their answers;
        the day's midnight is that of 1970-01-01.

    Attributes
    ----------
    card, engine, book
        The parts, to be looked at afterwards.
    now_ns : int
        Simulated time, ns since midnight.
    """

    def __init__(
        self,
        config: RunConfig,
        engine_config: EngineConfig,
        memory: memoryview,
        journal: Journal,
        locates: Mapping[str, int],
        seed: int,
        card: MakeCard = make_functional,
        capture: Capture | None = None,
    ):
        self._config = config
        self._capture = capture
        self._rng = Random(seed)
        self.now_ns = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._event_count = 0
        self._last_arrival_ns = {"card": 0, "venue": 0}
        self._commands_seen = 0
        self._commands_due = 0
        self._started = False
        self._heartbeat_ns = engine_config.heartbeat_interval_ns
        self.card = card(memory, len(engine_config.symbols), self._to_venue)
        self._history = Feed(FEED_SESSION)
        source = VenueSource(self._history, config.recovery.latency_ns, self._wake, capture=capture)
        self.engine = Engine(
            self.card, engine_config, journal, source if config.recovery.enabled else None
        )
        self.book = ReplayBook()
        self.gateway = order_gateway(self.book, locates, self._to_card)

    def run(self, messages: Iterable[bytes], on_messages: Callable[[int], None]) -> None:
        """Play a day from its first message to its last, then cancel all and let answers come in.

        ``on_messages`` is called with the number of messages as they are played.
        """
        for count in self.steps(messages):
            on_messages(count)

    def steps(self, messages: Iterable[bytes]) -> Iterator[int]:
        """Play a day, and yield after each packet how many messages it had; at the end none."""
        for packet in publish(messages, FEED_SESSION):
            if not self._started:
                self._start(packet.ts_ns)
            self._run_until(packet.ts_ns)
            self.now_ns = packet.ts_ns
            self._play(packet)
            yield len(packet.messages)
        self.finish()
        yield 0

    def finish(self) -> None:
        """Play out what is under way, cancel all orders, and take the answers."""
        if not self._started:
            return
        self._heartbeat_ns = 0
        feed, latency = self._config.feed, self._config.latency
        order_ns = latency.host_ns + latency.order_ns + latency.jitter_ns
        self._run_until(self.now_ns + latency.feed_ns + feed.line_b_delay_ns + 2 * order_ns + 1)
        end_ns = self.now_ns + feed.gap_timeout_ns + 1
        self._run_until(end_ns)
        self.now_ns = end_ns
        self.card.advance(end_ns)
        self.engine.step(self.now_ns)
        self._recover()
        while not self.engine.stop(self.now_ns):
            self._take_commands(1)  # The command ring is full: the card has to make room first.
        self._after_host(self.now_ns)
        self._run_until(None)

    def _recover(self) -> None:
        """Let a recovery end that is under way; if it never does, not for ever."""
        recovery, end_ns = self.engine.recovery, self.now_ns + _RECOVERS_WITHIN_NS
        self._after_host(self.now_ns)
        while recovery is not None and not recovery.is_idle and self.now_ns < end_ns:
            next_ns = self.now_ns + self._config.recovery.retry_ns
            self._run_until(next_ns)
            self.now_ns = next_ns
            self.card.advance(next_ns)
            self._host_turn()

    def close(self) -> None:
        """Let go of the rings' memory."""
        self.engine.close()
        self.card.close()

    def _start(self, now_ns: int) -> None:
        self._started = True
        self.now_ns = now_ns
        self.card.advance(now_ns)
        self.engine.start(order_session(), now_ns)
        self._commands_seen = self.card.poll_commands(now_ns)
        self._at(now_ns + self._heartbeat_ns, self._beat)

    # Events.

    def _wake(self, ts_ns: int) -> None:
        self._at(ts_ns, self._host_turn)

    def _at(self, ts_ns: int, event: Callable[[], None]) -> None:
        self._event_count += 1
        heapq.heappush(self._events, (ts_ns, self._event_count, event))

    def _run_until(self, ts_ns: int | None) -> None:
        """Run every event before a time, or all there are."""
        while self._events and (ts_ns is None or self._events[0][0] < ts_ns):
            self.now_ns, _, event = heapq.heappop(self._events)
            event()

    def _play(self, packet: Packet) -> None:
        """Move the venue's book, answer the fills, and put the packet on both lines."""
        if self.engine.recovery is not None:
            self._history.messages += packet.messages
            self._history.skip()
        for message in packet.messages:
            layout = itch50.MESSAGES.by_code.get(message[0]) if message else None
            if layout is not None and layout.size == len(message):
                fills = self.book.background(layout.unpack(message))
                if fills:
                    self.gateway.publish(fills, packet.ts_ns)
        feed, latency = self._config.feed, self._config.latency
        arrival_ns = packet.ts_ns + latency.feed_ns
        for port, frame, delay_ns in (
            (Port.FEED_A, packet.frame_a, 0),
            (Port.FEED_B, packet.frame_b, feed.line_b_delay_ns),
        ):
            if self._rng.randrange(1_000_000) >= feed.loss_ppm[port]:
                self._at(arrival_ns + delay_ns, self._arrival(port, frame))

    def _arrival(self, port: Port, frame: bytes) -> Callable[[], None]:
        def arrive() -> None:
            if self._capture is not None:
                self._capture.frame(frame, self.now_ns)
            self.card.receive(port, frame, self.now_ns)
            self._host_turn()

        return arrive

    def _beat(self) -> None:
        """Let time pass where nothing else happens, so that silence is noticed too."""
        self.card.advance(self.now_ns)
        self._host_turn()
        if self._heartbeat_ns:
            self._at(self.now_ns + self._heartbeat_ns, self._beat)

    def _host_turn(self) -> None:
        """Let the host take what stands in the rings; its commands arrive after its latency."""
        self.engine.step(self.now_ns)
        if self._commands_due:  # Answers without a slot held them up; now there are slots.
            self._commands_due -= self.card.poll_commands(self.now_ns, self._commands_due)
        self._after_host(self.now_ns + self._config.latency.host_ns)

    def _after_host(self, ts_ns: int) -> None:
        if self.engine.oms.command_count != self._commands_seen:
            count = self.engine.oms.command_count - self._commands_seen
            self._commands_seen += count
            self._at(ts_ns, lambda: self._take_commands(count))

    def _take_commands(self, count: int) -> None:
        """Let the card take the commands whose latency is over, and those it had no room for."""
        self._commands_due += count
        self._commands_due -= self.card.poll_commands(self.now_ns, self._commands_due)
        self._host_turn()

    # The order entry wire. TCP keeps the order, so jitter never lets a frame overtake another.

    def _arrival_ns(self, end: str) -> int:
        latency = self._config.latency
        arrival_ns = self.now_ns + latency.order_ns + self._rng.randint(0, latency.jitter_ns)
        self._last_arrival_ns[end] = max(arrival_ns, self._last_arrival_ns[end])
        return self._last_arrival_ns[end]

    def _to_venue(self, frame: bytes) -> None:
        if self._capture is not None:
            self._capture.frame(frame, self.now_ns)
        self._at(self._arrival_ns("venue"), lambda: self.gateway.receive(frame, self.now_ns))

    def _to_card(self, frame: bytes) -> None:
        self._at(self._arrival_ns("card"), self._arrival(Port.ORDER, frame))
