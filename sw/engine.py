"""The host's path in one place: ring, feed, strategy, order management, risk, ring.

    market ring ──> Feed ──> MarketMaker ──> Oms ──asks──> Risk
                                 ^             │
    execution ring ──────────> Oms             └──> command ring

One call of :meth:`Engine.step` takes everything that stands in the rings and acts on it. Time and
the card are passed in, so that a run can be repeated byte for byte.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from kernels.exposure import Rate
from kernels.risk import LevelLimits, Limits
from protocol import registers, ring
from protocol.registers import Capability, Register
from protocol.risk import RiskLevel
from protocol.units import NS_PER_SECOND
from sw.card import Card, identify, read, write
from sw.errors import CardError
from sw.feed import Feed
from sw.feed.recovery import Recovery, RecoveryConfig, Source
from sw.journal import Journal
from sw.mm import MarketMaker, Quoting
from sw.oms import Fill, Oms
from sw.ring import RingReader, RingWriter, ring_size
from sw.risk import Risk


class Symbol(NamedTuple):
    """A symbol to trade, with its stock locate of the day; 0 lets the card learn it."""

    stock: str
    locate: int


@dataclass(frozen=True, slots=True)
class OrderSession:
    """A connection that is logged in, to be handed to the card. Named as in the register map."""

    local_mac: bytes
    remote_mac: bytes
    local_ip: int
    remote_ip: int
    local_port: int
    remote_port: int
    sequence: int
    acknowledgment: int
    firm: str


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """What the engine needs to know before it starts. Times in ns, ring sizes in slots."""

    symbols: Sequence[Symbol]
    limits: Sequence[Limits]
    """By symbol index, as the symbols."""
    level_limits: LevelLimits
    """Of the trader, of the desk and of the firm: there is one of each."""
    rate: Rate
    quoting: Sequence[Quoting | None]
    """By symbol index; None for a symbol that is watched but not quoted."""
    market_slots: int = 4096
    execution_slots: int = 1024
    command_slots: int = 1024
    heartbeat_interval_ns: int = NS_PER_SECOND
    heartbeat_timeout_ns: int = 3 * NS_PER_SECOND
    feed_gap_timeout_ns: int = field(default=1_000_000)
    recovery: RecoveryConfig = field(default_factory=RecoveryConfig)

    @property
    def memory_size(self) -> int:
        """Bytes of host memory that the three rings take."""
        return sum(map(ring_size, (self.market_slots, self.execution_slots, self.command_slots)))


class Engine:
    """Runs market making on one card.

    Parameters
    ----------
    card : Card
        Refused when it is not one of this register map, or has too few symbols.
    config : EngineConfig
        Symbols, limits, quoting.
    journal : Journal
        Takes every ring record in and out.
    source : Source, optional
        Where lost market data can be had again. Without one, or on a card whose books cannot be
        repaired, a book that became stale stays so.

    Attributes
    ----------
    recovery : Recovery or None
        Repairs stale books, where that can be done.

    Raises
    ------
    CardError
        If the card can not be driven.
    """

    def __init__(
        self, card: Card, config: EngineConfig, journal: Journal, source: Source | None = None
    ):
        info = identify(card)
        count = len(config.symbols)
        if count > info.symbol_count:
            raise CardError(f"CARD_TOO_SMALL: symbols={count}, symbol_count={info.symbol_count}")
        self._card = card
        self._config = config
        self._next_heartbeat_ns = 0
        self._stopping = False
        market, execution, command = self._place_rings()
        self.feed = Feed(market, count, journal.append)
        self.risk = Risk(count)
        self.oms = Oms(command, execution, self.risk, self.feed.quotes, journal.append)
        self._rings = (market, execution, command)
        self._makers = {
            index: MarketMaker(index, quoting, self.feed.quotes[index], self.oms, self.risk)
            for index, quoting in enumerate(config.quoting)
            if quoting is not None
        }
        self.recovery = None
        if source is not None and read(card, registers.CAPABILITIES) >> Capability.BOOK_REPAIR & 1:
            self.recovery = Recovery(
                self.feed, config.symbols, self.oms.repair_book, source, config.recovery
            )
        self.on_fill: Callable[[Fill], None] | None = None

    def _place_rings(self) -> tuple[RingReader, RingReader, RingWriter]:
        config, memory = self._config, self._card.memory
        market = 0
        execution = market + ring_size(config.market_slots)
        command = execution + ring_size(config.execution_slots)
        for register, value in (
            (registers.MARKET_BASE, market),
            (registers.MARKET_SLOTS, config.market_slots),
            (registers.EXECUTION_BASE, execution),
            (registers.EXECUTION_SLOTS, config.execution_slots),
            (registers.COMMAND_BASE, command),
            (registers.COMMAND_SLOTS, config.command_slots),
        ):
            write(self._card, register, value)
        return (
            RingReader(memory, market, config.market_slots),
            RingReader(memory, execution, config.execution_slots),
            RingWriter(memory, command, config.command_slots),
        )

    def start(self, session: OrderSession, now_ns: int) -> None:
        """Write symbols, limits and the order session to the card, then release the kill switch."""
        config, card = self._config, self._card
        for index, symbol in enumerate(config.symbols):
            stock = int.from_bytes(symbol.stock.encode("latin-1").ljust(8), "little")
            write(card, registers.SYMBOL_STOCK, stock, index)
            write(card, registers.SYMBOL_LOCATE, symbol.locate, index)
        write(card, registers.FEED_GAP_TIMEOUT_NS, config.feed_gap_timeout_ns)
        write(card, registers.HEARTBEAT_TIMEOUT_NS, config.heartbeat_timeout_ns)
        self._hand_over(session)
        write(card, registers.CONTROL, 1)
        for index, limits in enumerate(config.limits):
            self.risk.set_limits(index, limits)
        for level, index in self.risk.levels:
            self.risk.set_level(level, index, config.level_limits, config.rate)
            if level is not RiskLevel.FIRM:
                self.risk.kill(level, index, False)
        if not self.oms.write_limits(now_ns):
            raise CardError(f"COMMAND_RING_FULL: slots={config.command_slots}")
        self._beat(now_ns)
        write(card, registers.KILL, 0)
        self.risk.killed = False

    def _hand_over(self, session: OrderSession) -> None:
        values: tuple[tuple[Register, int], ...] = (
            (registers.ORDER_LOCAL_MAC, int.from_bytes(session.local_mac, "big")),
            (registers.ORDER_REMOTE_MAC, int.from_bytes(session.remote_mac, "big")),
            (registers.ORDER_LOCAL_IP, session.local_ip),
            (registers.ORDER_REMOTE_IP, session.remote_ip),
            (registers.ORDER_LOCAL_PORT, session.local_port),
            (registers.ORDER_REMOTE_PORT, session.remote_port),
            (registers.ORDER_SEQUENCE, session.sequence),
            (registers.ORDER_ACKNOWLEDGMENT, session.acknowledgment),
            (registers.ORDER_FIRM, int.from_bytes(session.firm.encode("ascii").ljust(4), "little")),
            (registers.ORDER_SESSION, 1),
        )
        for register, value in values:
            write(self._card, register, value)

    def step(self, now_ns: int) -> int:
        """Take and act on every record that stands in the rings. Returns how many there were.

        Answers come before market data, so that a quote is decided on the newest position. One call
        takes no more records of a ring than it has slots, since a card that runs freely may refill
        it meanwhile.
        """
        taken = 0
        moved: set[int] = set()
        fills: list[Fill] = []
        for _ in range(self._config.execution_slots):
            if (index := self.oms.poll(fills)) is None:
                break
            taken += 1
            if index != ring.ALL_MARKET:
                moved.add(index)
        if self.on_fill is not None:
            for fill in fills:
                self.on_fill(fill)
        taken += self.feed.drain()
        moved.update(self.feed.changed)
        for index in sorted(moved):
            if index in self._makers:
                self._makers[index].on_event(now_ns)
        if not self._stopping and now_ns >= self._next_heartbeat_ns:
            self._beat(now_ns)
        if self.recovery is not None and not self._stopping:
            self.recovery.step(now_ns)
        return taken

    def _beat(self, now_ns: int) -> None:
        self.oms.heartbeat(now_ns)
        self._next_heartbeat_ns = now_ns + self._config.heartbeat_interval_ns

    def stop(self, now_ns: int) -> bool:
        """Stop quoting and beating, and ask for the end of every order; answers are still to come.

        Returns False when the command ring is full and the request must be made again.
        """
        self.risk.killed = self._stopping = True
        self._makers.clear()
        return self.oms.mass_cancel(now_ns)

    def abandon(self, now_ns: int) -> int:
        """Stop quoting on a card that is lost, and ask nothing of it any more.

        What it published before is still taken, so that the journal is complete. Returns how many
        orders are open as far as the host knows: the venue may have them still.
        """
        self.risk.killed = self._stopping = True
        self._makers.clear()
        self.step(now_ns)
        return self.oms.open_count

    def close(self) -> None:
        """Let go of the rings' memory."""
        for item in self._rings:
            item.close()
