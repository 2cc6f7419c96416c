"""What a generated order flow is made of: the parameters of :mod:`sim.venue.flow`, checked.

Times are seconds after the open, prices and distances ticks, volatilities shares of the price in
the square root of a second. The models that have a name stand at the end.
"""

import math
from typing import Annotated, Literal

from msgspec import Meta

from protocol.ouch50 import PRICE_MAX
from sim.venue.settings import Base, Count

Share = Annotated[float, Meta(ge=0, le=1)]
NotNegative = Annotated[float, Meta(ge=0, le=1e6)]
Positive = Annotated[float, Meta(gt=0, le=1e6)]
AtLeastOne = Annotated[float, Meta(ge=1, le=1e3)]


class ArrivalsConfig(Base, frozen=True):
    """When something happens: a Poisson process, or a Hawkes process with an exponential kernel.

    The rate of a Hawkes process is ``mu + sum(excitation * decay_hz * exp(-decay_hz * age))`` over
    all earlier arrivals; ``excitation`` is its branching ratio, and ``mu / (1 - excitation)`` its
    mean, which is ``rate_hz`` a symbol. [Hawkes 1971] A Poisson process ignores both.
    """

    kind: Literal["poisson", "hawkes"] = "hawkes"
    rate_hz: Positive = 70.0
    excitation: Annotated[float, Meta(ge=0)] = 0.7
    decay_hz: Positive = 2000.0

    def __post_init__(self) -> None:
        if self.excitation >= 1:
            raise ValueError(f"excitation must be below 1, not {self.excitation}")

    @property
    def branching(self) -> float:
        """Share of all arrivals that an earlier one caused."""
        return self.excitation if self.kind == "hawkes" else 0.0


class ActionsConfig(Base, frozen=True):
    """Shares of all arrivals; what is left is adds and deletes, which balance.

    ``orders`` is the number of a symbol's orders around which they do. ``far`` is how often a
    delete takes the further from the best price of two orders rather than the nearer.
    """

    aggressive: Share = 0.033
    hidden: Share = 0.004
    reduced: Share = 0.025
    replaced: Share = 0.08
    orders: Count = 150
    far: Share = 1.0

    def __post_init__(self) -> None:
        total = self.aggressive + self.hidden + self.reduced + self.replaced
        if total > 1:
            raise ValueError(f"shares of actions must add up to at most 1, not {total:g}")


class PlacementConfig(Base, frozen=True):
    """How far from its side's best price an order is placed.

    ``geometric`` has a mean near ``1 / slope`` ticks and betters the best price by a tick wherever
    the fair value leaves room. ``power`` has ``P(distance >= d) = (1 + d / offset) ** -exponent``
    [Bouchaud, Mezard, Potters 2002]; ``inside`` of its orders better the best price by any distance
    within the spread, but none comes nearer to the fair value than its maker's edge, which is
    exponential of mean ``edge``. In a flash crash all are placed so.
    """

    kind: Literal["geometric", "power"] = "geometric"
    slope: Positive = 0.3
    exponent: Positive = 0.6
    offset: Positive = 3.0
    inside: Share = 0.3
    edge: NotNegative = 0.5
    distance_max: Count = 2_000


class SizesConfig(Base, frozen=True):
    """Shares of an order: ``odd`` of all evenly from 1 to 99, the others round lots.

    Lots are the whole part of a Pareto variable of exponent ``tail``, ``lots_max`` at most.
    """

    odd: Share = 0.15
    tail: Positive = 1.5
    lots_max: Annotated[int, Meta(ge=1, le=9_999)] = 100


class PricesConfig(Base, frozen=True):
    """Fair values: random walks, any two of which have ``correlation``.

    A symbol starts evenly between ``start_min`` and ``start_max``. ``pull`` is how much likelier an
    aggressor buys with each tick that the fair value is above the middle of the spread.
    """

    tick: Annotated[int, Meta(ge=2, le=10_000)] = 100
    start_min: Count = 2_000
    start_max: Count = 40_000
    volatility: Share = 5e-5
    correlation: Share = 0.36
    pull: NotNegative = 0.25

    def __post_init__(self) -> None:
        if not self.start_min < self.start_max <= PRICE_MAX // self.tick // 2:
            raise ValueError(
                f"start_max must be above start_min and at most {PRICE_MAX // self.tick // 2}, "
                f"not {self.start_max}"
            )

    @property
    def own(self) -> float:
        return self.volatility * math.sqrt(1 - self.correlation)

    @property
    def common(self) -> float:
        return self.volatility * math.sqrt(self.correlation)


class BurstsConfig(Base, frozen=True):
    """Stretches in which every volatility is ``multiplier`` times as high.

    Both the calm before one and the burst itself last exponential times, of means ``every_s`` and
    ``length_s``.
    """

    every_s: Positive
    length_s: Positive
    multiplier: AtLeastOne


class OpeningConfig(Base, frozen=True):
    """Arrivals not caused by others come ``1 + (multiplier - 1) * exp(-t / decay_s)`` as often."""

    multiplier: AtLeastOne
    decay_s: Positive


class CrashConfig(Base, frozen=True):
    """A flash crash of all symbols.

    From ``start_s`` on the fair value falls evenly by the share ``fall`` within ``fall_s``, and
    comes back evenly within ``recovery_s``. Meanwhile books hold ``withdrawal`` fewer orders and
    aggressors are ``aggression`` times as many.
    """

    start_s: NotNegative
    fall: Annotated[float, Meta(gt=0, le=0.5)]
    fall_s: Positive
    recovery_s: Positive
    withdrawal: Annotated[float, Meta(ge=0, le=0.95)] = 0.6
    aggression: AtLeastOne = 5.0

    def depth(self, now_s: float) -> float:
        """Share of the fair value that is missing."""
        falling = (now_s - self.start_s) / self.fall_s
        rising = 1 - (now_s - self.start_s - self.fall_s) / self.recovery_s
        return self.fall * max(0.0, min(falling, rising))


class FlowModel(Base, frozen=True):
    """All parameters of a flow. ``FlowModel()`` is what :func:`sim.venue.flow.generate` takes."""

    arrivals: ArrivalsConfig = ArrivalsConfig()
    actions: ActionsConfig = ActionsConfig()
    placement: PlacementConfig = PlacementConfig()
    sizes: SizesConfig = SizesConfig()
    prices: PricesConfig = PricesConfig()
    bursts: BurstsConfig | None = None
    opening: OpeningConfig | None = None
    crash: CrashConfig | None = None

    def __post_init__(self) -> None:
        if self.crash is not None:
            most = self.actions.aggressive * self.crash.aggression
            if most > 0.9:
                raise ValueError(f"aggressive times crash.aggression must be <= 0.9, not {most:g}")


DEFAULT = FlowModel()

MODELS = {
    "hawkes": DEFAULT,
    "poisson": FlowModel(arrivals=ArrivalsConfig(kind="poisson")),
    "calm": FlowModel(
        arrivals=ArrivalsConfig(kind="poisson", rate_hz=20.0),
        prices=PricesConfig(volatility=1e-5),
    ),
    "bursts": FlowModel(bursts=BurstsConfig(every_s=30.0, length_s=5.0, multiplier=5.0)),
    "opening": FlowModel(opening=OpeningConfig(multiplier=8.0, decay_s=20.0)),
    "flash_crash": FlowModel(
        prices=PricesConfig(start_min=5_000, start_max=10_000),
        crash=CrashConfig(start_s=30.0, fall=0.03, fall_s=20.0, recovery_s=40.0),
    ),
}
"""Models by name; ``hawkes`` is the default."""
