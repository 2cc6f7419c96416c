"""The run's configuration: one TOML file, every value typed and checked before anything starts."""

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from kernels.exposure import BURST_NS_MAX, MONEY_MAX, NOTIONAL_MAX, POSITION_MAX, QUANTITY_MASK
from kernels.risk import LevelLimits, Limits
from protocol.market import MarketPhase
from sw.feed.recovery import RecoveryConfig
from sw.mm import Quoting
from tickwire.source import InputError

T = TypeVar("T", bound=Struct)

Count = Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)]
Natural = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Shares = Annotated[int, Meta(ge=0, le=POSITION_MAX)]
Money = Annotated[int, Meta(ge=0, le=MONEY_MAX)]
Phase = Literal["unknown", "pre_market", "regular", "post_market"]
Slots = Annotated[int, Meta(ge=2, le=1 << 24)]
PartsPerMillion = Annotated[int, Meta(ge=0, le=1_000_000)]
Stock = Annotated[str, Meta(min_length=1, max_length=8, pattern="^[!-~]+$")]


class FeedConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Where market data comes from.

    ``file`` is an ITCH file, relative to the configuration. ``symbols`` are those to trade; none
    means all that the file names. ``loss_ppm`` is how many of a million packets line A and line B
    lose.
    """

    file: Annotated[str, Meta(min_length=1)]
    symbols: tuple[Stock, ...] = ()
    line_b_delay_ns: Natural = 800
    loss_ppm: tuple[PartsPerMillion, PartsPerMillion] = (0, 0)
    gap_timeout_ns: Natural = 1_000_000


class LatencyConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How long things take, in ns: wire to card, host's reaction, card to venue and back."""

    feed_ns: Natural = 500
    host_ns: Natural = 2_000
    order_ns: Natural = 20_000
    jitter_ns: Natural = 2_000


class RiskConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of every symbol, and of all together. Closed unless given.

    ``phases`` are those of the market's day in which orders may be sent; ``unknown`` is that of a
    feed that was joined too late to tell.
    """

    qty_max: Annotated[int, Meta(ge=0, le=QUANTITY_MASK)] = 0
    notional_max: Annotated[int, Meta(ge=0, le=NOTIONAL_MAX)] = 0
    position_max: Shares = 0
    price_band_bp: Annotated[int, Meta(ge=0, le=0xFFFF)] = 0
    tick_size: Literal[0, 1, 50, 100] = 0
    locate_qty: Shares = 0
    duplicate_window_ns: Annotated[int, Meta(ge=0, le=BURST_NS_MAX)] = 0
    phases: tuple[Phase, ...] = ()
    gross_max: Money = 0
    net_max: Money = 0
    rate_burst: Natural = 0
    rate_interval_ns: Natural = 0

    def limits(self) -> Limits:
        """Return the part that is a symbol's."""
        return Limits(
            self.qty_max,
            self.notional_max,
            self.position_max,
            self.price_band_bp,
            self.tick_size,
            self.locate_qty,
            self.duplicate_window_ns,
            phases=sum(1 << MarketPhase[name.upper()] for name in set(self.phases)),
            restricted=False,
        )

    def level_limits(self) -> LevelLimits:
        """Return the part that is the trader's, the desk's and the firm's."""
        return LevelLimits(self.gross_max, self.net_max)


class QuotingConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """How every symbol is quoted, see :class:`sw.mm.Quoting`. Prices in 1e-4 USD."""

    half_spread: Natural
    order_qty: Count
    inventory_max: Natural
    tick_size: Count = 100
    requote_ticks: Count = 1

    def quoting(self) -> Quoting:
        return Quoting(**msgspec.structs.asdict(self))


class RecoverySettings(Struct, frozen=True, forbid_unknown_fields=True):
    """How lost market data is had again, see :class:`sw.feed.recovery.RecoveryConfig`.

    ``latency_ns`` is from a re-request to its answer. A book that lost messages stays stale where
    recovery is not ``enabled``.
    """

    enabled: bool = True
    latency_ns: Natural = 50_000
    timeout_ns: Count = 10_000_000
    retry_ns: Count = 20_000

    def recovery(self) -> RecoveryConfig:
        return RecoveryConfig(timeout_ns=self.timeout_ns, retry_ns=self.retry_ns)


class RingsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """Slots of the three rings, each a power of two; by default what the symbols need."""

    market: Slots = 4096
    execution: Slots | None = None
    command: Slots | None = None

    def __post_init__(self) -> None:
        for name, slots in msgspec.structs.asdict(self).items():
            if slots is not None and slots & (slots - 1):
                raise ValueError(f"{name} must be a power of two, not {slots}")


class RunConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A whole run."""

    feed: FeedConfig
    quoting: QuotingConfig
    risk: RiskConfig
    latency: LatencyConfig = LatencyConfig()
    rings: RingsConfig = RingsConfig()
    recovery: RecoverySettings = RecoverySettings()


def load(path: Path) -> RunConfig:
    """Read a configuration.

    Raises
    ------
    InputError
        In one line: what is wrong, and where in the file.
    """
    config = read(path, RunConfig)
    if len(set(config.feed.symbols)) < len(config.feed.symbols):
        raise InputError(path, "feed.symbols names a symbol twice")
    return config


def read(path: Path, kind: type[T]) -> T:
    """Read a TOML file as a structure, every value typed and checked. Raises InputError."""
    try:
        if path.exists() and not path.is_file():
            raise InputError(path, "is not a regular file")
        return msgspec.toml.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise InputError(path, error.strerror or str(error)) from None
    except RecursionError:
        raise InputError(path, "is nested too deeply") from None
    except (msgspec.DecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(path, str(error).replace("\n", " ")) from None
