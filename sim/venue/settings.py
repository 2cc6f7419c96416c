"""What a venue on sockets is made of, each value typed and checked before anything starts.

Times of the day are of the venue's time zone; money of fees is 1e-6 USD, prices are 1e-4 USD.
"""

import ipaddress
from collections.abc import Sequence
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import UNSET, Meta, Struct, UnsetType

from protocol.ouch50 import PRICE_MAX
from protocol.units import NS_PER_SECOND
from sim.venue.matching import SelfMatch

Natural = Annotated[int, Meta(ge=0, le=0xFFFF_FFFF)]
Count = Annotated[int, Meta(ge=1, le=0xFFFF_FFFF)]
PortNumber = Annotated[int, Meta(ge=0, le=0xFFFF)]
"""0 takes one that is free."""
PartsPerMillion = Annotated[int, Meta(ge=0, le=1_000_000)]
Stock = Annotated[str, Meta(min_length=1, max_length=8, pattern="^[!-~]+$")]
Name = Annotated[str, Meta(min_length=1, max_length=32, pattern="^[A-Za-z0-9_-]+$")]
Username = Annotated[str, Meta(min_length=1, max_length=6, pattern="^[A-Za-z0-9]+$")]
Password = Annotated[str, Meta(min_length=1, max_length=10, pattern="^[!-~]+$")]
Session = Annotated[str, Meta(min_length=1, max_length=10, pattern="^[A-Za-z0-9]+$")]
TimeOfDay = Annotated[str, Meta(pattern="^([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]$")]
MicroUsd = Annotated[int, Meta(ge=-1_000_000, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=1e6)]
Increment = tuple[Annotated[int, Meta(ge=0, le=PRICE_MAX)], Count]

SelfMatchName = Literal["trade", "cancel_newest", "cancel_oldest", "decrement"]


class Base(Struct, frozen=True, forbid_unknown_fields=True):
    """What all tables have in common: an unknown key is an error."""


class UserConfig(Base, frozen=True):
    """A client: its login, and what the venue does for it.

    ``password`` is compared without regard to case, as SoupBinTCP has it.
    """

    name: Username
    password: Password
    self_match: SelfMatchName = "trade"
    cancel_on_disconnect: bool = False

    @property
    def self_match_rule(self) -> SelfMatch:
        return SelfMatch[self.self_match.upper()]


CROWD = UserConfig("CROWD", "-")
"""Whose the orders of a venue's flow are. Nobody can log in as it."""


class LineConfig(Base, frozen=True):
    """One line of the feed, see :class:`sim.venue.moldudp.Line`.

    ``group`` is a multicast group, or one host's address.
    """

    group: str
    port: Annotated[int, Meta(ge=1, le=0xFFFF)]
    loss_ppm: PartsPerMillion = 0
    duplicate_ppm: PartsPerMillion = 0
    reorder_ppm: PartsPerMillion = 0
    delay_ns: Natural = 0
    jitter_ns: Natural = 0

    def __post_init__(self) -> None:
        _check_address("group", self.group)


class LatencyConfig(Base, frozen=True):
    """How long something takes: a distribution.

    ``fixed`` is always ``median_ns``; ``uniform`` is evenly up to ``spread_ns`` more or less;
    ``lognormal`` has its 99th percentile ``spread_ns`` above its median.
    """

    median_ns: Natural = 0
    spread_ns: Natural = 0
    shape: Literal["fixed", "uniform", "lognormal"] = "fixed"

    def __post_init__(self) -> None:
        if self.shape == "uniform" and self.spread_ns > self.median_ns:
            raise ValueError(f"spread_ns must be at most median_ns, not {self.spread_ns}")
        if self.shape == "lognormal" and not self.median_ns:
            raise ValueError("median_ns must be 1 or more of a lognormal shape, not 0")


class LatenciesConfig(Base, frozen=True):
    """Client to matching engine, and matching engine to client."""

    order: LatencyConfig = LatencyConfig()
    answer: LatencyConfig = LatencyConfig()


class HoursConfig(Base, frozen=True):
    """When the market is open. Before, orders wait for the opening cross, or are rejected."""

    open: TimeOfDay
    close: TimeOfDay
    crosses: bool = True

    def __post_init__(self) -> None:
        if self.open_ns >= self.close_ns:
            raise ValueError(f"close must be after open, not {self.close}")

    @property
    def open_ns(self) -> int:
        return _of_day_ns(self.open)

    @property
    def close_ns(self) -> int:
        return _of_day_ns(self.close)


class ThrottleConfig(Base, frozen=True):
    """Orders and replaces that a client may send: so many at once, and so many a second."""

    orders_per_second: Count
    burst: Count = 1


class FlowConfig(Base, frozen=True):
    """A crowd that trades at the venue: a model of :mod:`sim.venue.model`.

    ``rate_hz`` is the mean number of arrivals a second and symbol, in place of the model's.
    """

    model: Literal["hawkes", "poisson", "calm", "bursts", "opening", "flash_crash"] = "hawkes"
    rate_hz: Annotated[float, Meta(gt=0, le=1_000)] | None = None


class FeesConfig(Base, frozen=True):
    """Of a share, in 1e-6 USD: what a taker pays, a maker is paid, and either pays in a cross."""

    taker_fee: MicroUsd = 0
    maker_rebate: MicroUsd = 0
    cross_fee: MicroUsd = 0


Action = Literal[
    "disconnect", "slow", "reject_storm", "feed_gap", "line_a_loss", "feed_ahead", "feed_behind"
]


class StepConfig(Base, frozen=True):
    """One thing that goes wrong: when, what, and for how long.

    It begins ``at_s`` seconds after the start, or when so many messages have come in, and ends
    after ``for_s`` seconds, or when so many more have. ``disconnect`` is over at once.
    ``delay_ms`` is for ``slow`` (requests and answers), ``feed_ahead`` (answers) and
    ``feed_behind`` (feed).
    """

    action: Action
    at_s: Seconds | UnsetType = UNSET
    at_messages: Count | UnsetType = UNSET
    for_s: Seconds | UnsetType = UNSET
    for_messages: Count | UnsetType = UNSET
    delay_ms: Annotated[float, Meta(gt=0, le=60_000)] | UnsetType = UNSET
    user: Username | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.at_s is UNSET) == (self.at_messages is UNSET):
            raise ValueError("one of at_s and at_messages must be given")
        if self.for_s is not UNSET and self.for_messages is not UNSET:
            raise ValueError("for_s and for_messages must not both be given")
        lasts = self.for_s is not UNSET or self.for_messages is not UNSET
        if lasts == (self.action == "disconnect"):
            must = "must not" if lasts else "must"
            raise ValueError(f"for_s or for_messages {must} be given for {self.action}")
        delays = self.action in ("slow", "feed_ahead", "feed_behind")
        if delays != (self.delay_ms is not UNSET):
            must = "must" if delays else "must not"
            raise ValueError(f"delay_ms {must} be given for {self.action}")
        if self.user is not UNSET and self.action != "disconnect":
            raise ValueError(f"user must not be given for {self.action}")


class VenueConfig(Base, frozen=True):
    """One venue.

    ``price_increments`` are pairs: from this price on, prices are multiples of that. ``journal`` is
    relative to the configuration; without one a venue forgets everything when it stops. Ports are
    0 for any free one; GLIMPSE and re-requests are not served where theirs are not given.
    """

    name: Name
    symbols: Annotated[tuple[Stock, ...], Meta(min_length=1, max_length=8192)]
    users: Annotated[tuple[UserConfig, ...], Meta(min_length=1, max_length=1024)]
    order_port: PortNumber
    host: str = "127.0.0.1"
    glimpse_port: PortNumber | None = None
    rerequest_port: PortNumber | None = None
    lines: Annotated[tuple[LineConfig, ...], Meta(max_length=2)] = ()
    journal: str | None = None
    session: Session | None = None
    timezone: Annotated[str, Meta(min_length=1)] = "UTC"
    hours: HoursConfig | None = None
    price_increments: Annotated[tuple[Increment, ...], Meta(min_length=1)] = ((0, 1), (10_000, 100))
    fees: FeesConfig = FeesConfig()
    latency: LatenciesConfig = LatenciesConfig()
    throttle: ThrottleConfig | None = None
    flow: FlowConfig | None = None
    script: tuple[StepConfig, ...] = ()

    def __post_init__(self) -> None:
        _check_address("host", self.host)
        try:
            ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"timezone must be one of the IANA, not {self.timezone!r}") from None
        _check_unique("symbols", self.symbols)
        _check_unique("users", [user.name.upper() for user in self.users])
        starts = [start for start, _ in self.price_increments]
        if starts[0] != 0 or starts != sorted(set(starts)):
            raise ValueError(f"price_increments must begin at 0 and ascend, not {starts}")
        names = {user.name for user in self.users}
        if self.flow is not None and CROWD.name in {name.upper() for name in names}:
            raise ValueError(f"users must not name {CROWD.name}, who is the flow")
        for step in self.script:
            if step.user is not UNSET and step.user not in names:
                raise ValueError(f"script names user {step.user}, who is not among users")


class VenuesConfig(Base, frozen=True):
    """All venues of one process, and the seed of everything that is random."""

    venues: Annotated[tuple[VenueConfig, ...], Meta(min_length=1, max_length=256)]
    seed: Natural = 1
    metrics_port: PortNumber | None = None

    def __post_init__(self) -> None:
        _check_unique("venues", [venue.name for venue in self.venues])
        journals = [venue.journal for venue in self.venues if venue.journal is not None]
        _check_unique("journals", journals)
        ports = [
            (venue.host, kind, port)
            for venue in self.venues
            for kind, port in (
                ("TCP", venue.order_port),
                ("TCP", venue.glimpse_port),
                ("UDP", venue.rerequest_port),
            )
            if port
        ]
        _check_unique("ports", [f"{host}:{port}/{kind}" for host, kind, port in ports])


def _check_unique(what: str, names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what} names {name} twice")


def _check_address(what: str, text: str) -> None:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        raise ValueError(f"{what} must be an IPv4 address, not {text!r}") from None


def _of_day_ns(text: str) -> int:
    hours, minutes, seconds = (int(part) for part in text.split(":"))
    return (hours * 3600 + minutes * 60 + seconds) * NS_PER_SECOND
