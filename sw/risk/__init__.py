"""Pre-trade risk on the host: the same kernels as on the card, asked first.

Everything comes up closed: a symbol that no limits were set for can not be traded, traders, desks
and the firm have no money and no messages, and all kill switches are on.

An order passes, or it leaves everything as it was. What passes is counted at once: as open at its
limit price, and as a message.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kernels.exposure import Exposure, Level, Newest, Rate, Resting
from kernels.risk import LevelLimits, Limits, Market
from kernels.types import Group, Shape, kernel_type
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sw.jit import entry
from sw.risk import gate
from sw.risk.records import ACCOUNT, ORDER, SIDE, SYMBOL

Records = NDArray[Any]
R = TypeVar("R", Limits, LevelLimits, Rate)

TRADERS_MAX = 1 << 10

_REASONS = tuple(DenyReason)


class Risk:
    """The gate of the host: limits, and what orders have used of them.

    Parameters
    ----------
    symbol_count : int
        Symbols; indices from 0.
    desks : sequence of int
        By trader index, the index of the trader's desk.

    Attributes
    ----------
    symbols, sides, accounts : arrays of SYMBOL, SIDE, ACCOUNT
        The state itself. ``sides`` has a row a symbol, of a record each for sells and for buys.
        ``accounts`` has the firm, then the desks, then the traders.

    Raises
    ------
    ValueError
        If there is no symbol, no trader, or one too many.
    """

    def __init__(self, symbol_count: int, desks: Sequence[int] = (0,)):
        if symbol_count < 1:
            raise ValueError(f"symbol_count must be 1 or more, not {symbol_count!r}")
        if not 1 <= len(desks) <= TRADERS_MAX:
            raise ValueError(f"desks must be those of 1 to {TRADERS_MAX} traders, not {len(desks)}")
        if not 0 <= min(desks) <= max(desks) < len(desks):
            raise ValueError(f"desks must be 0 to {len(desks) - 1}, not {list(desks)!r}")
        self._counts = {
            RiskLevel.FIRM: 1,
            RiskLevel.DESK: max(desks) + 1,
            RiskLevel.TRADER: len(desks),
        }
        self._first = {RiskLevel.FIRM: 0, RiskLevel.DESK: 1, RiskLevel.TRADER: max(desks) + 2}
        first = self._first[RiskLevel.TRADER]
        self.symbols: Records = np.zeros(symbol_count + 1, SYMBOL)
        self.sides: Records = np.zeros((symbol_count + 1, 2), SIDE)
        self.accounts: Records = np.zeros(first + len(desks) + 1, ACCOUNT)
        self.symbols["limits"]["restricted"] = True
        self.accounts["killed"] = True
        self.accounts["parent"][first:-1] = np.add(desks, 1)
        self._context = np.array(
            (
                self.symbols.ctypes.data,
                len(self.symbols),
                self.sides.ctypes.data,
                self.accounts.ctypes.data,
                len(self.accounts),
                first,
            ),
            np.int64,
        )
        at = self._at = self._context.ctypes.data
        # Calls for the types' sake: an order that is denied, and changes of nothing.
        self._decide = entry(gate.decide_new, at, 0, 0, True, 0, 0, True, True, 0)
        self._decide_replacement = entry(
            gate.decide_replacement, at, 0, 0, True, 0, 0, 0, 0, True, True, True, 0
        )
        self._execute = entry(gate.execute, at, 0, 0, True, 0, 0, 0, False)
        self._release = entry(gate.release, at, 0, 0, True, 0, 0, 0, False)
        self._count_message = entry(gate.count_message, at, 0, 0)

    # Limits.

    def set_limits(self, symbol_index: int, limits: Limits) -> None:
        """Set a symbol's limits, all at once. Raises ValueError, and sets none, for a wrong one."""
        _check("limits", limits)
        self.symbols["limits"][self._symbol(symbol_index)] = limits

    def set_level(self, level: RiskLevel, index: int, limits: LevelLimits, rate: Rate) -> None:
        """Set the limits of a trader, a desk or the firm, all at once.

        The rate's own time goes on: what was sent before still counts. Raises ValueError, and sets
        none, for a wrong limit.
        """
        _check("limits", limits)
        _check("rate", rate)
        account = self.accounts[self._account(level, index)]
        account["limits"] = limits
        account["rate"]["interval_ns"] = rate.interval_ns
        account["rate"]["burst_ns"] = rate.burst_ns

    def kill(self, level: RiskLevel, index: int = 0, on: bool = True) -> None:
        """Set or release a kill switch: while it is on, no order of that level passes."""
        self.accounts["killed"][self._account(level, index)] = on

    def assign(self, trader: int, desk: int) -> None:
        """Move a trader to another desk. What the trader has traded stays with the old one."""
        place = self._account(RiskLevel.TRADER, trader)
        self.accounts["parent"][place] = self._account(RiskLevel.DESK, desk)

    @property
    def killed(self) -> bool:
        """The kill switch of the firm."""
        return bool(self.accounts[gate.FIRM]["killed"])

    @killed.setter
    def killed(self, on: bool) -> None:
        self.kill(RiskLevel.FIRM, 0, on)

    def set_market(self, symbol_index: int, market: Market) -> None:
        """Tell what is known of a symbol's market."""
        self.symbols["market"][self._symbol(symbol_index)] = market

    # Orders.

    def decide(
        self,
        symbol_index: int,
        trader: int,
        buys: bool,
        order_qty: int,
        price: int,
        now_ns: int,
        session: bool = True,
        slot: bool = True,
    ) -> DenyReason:
        """Return why a new order must not leave, lowest code first, or count it and return NONE.

        ``session`` and ``slot`` are those of :class:`~kernels.risk.Ready`. Indices that are not
        configured are denied.
        """
        return _REASONS[
            self._decide(
                self._at, symbol_index, trader, buys, order_qty, price, session, slot, now_ns
            )
        ]

    def decide_replacement(
        self,
        symbol_index: int,
        trader: int,
        buys: bool,
        order_qty: int,
        price: int,
        orig_qty: int,
        orig_price: int,
        now_ns: int,
        session: bool = True,
        is_open: bool = True,
        slot: bool = True,
    ) -> DenyReason:
        """Return why a replacement must not leave, or count what it adds and return NONE.

        ``orig_qty`` and ``orig_price`` are those that the original counts as open, ``is_open`` is
        whether there is one.
        """
        return _REASONS[
            self._decide_replacement(
                self._at,
                symbol_index,
                trader,
                buys,
                order_qty,
                price,
                orig_qty,
                orig_price,
                session,
                is_open,
                slot,
                now_ns,
            )
        ]

    def decide_batch(self, orders: Records, reasons: NDArray[np.int64]) -> None:
        """Decide an array of ORDER one after the other, and write each one's reason."""
        if orders.dtype != ORDER or len(orders) > len(reasons):
            raise ValueError(f"orders must be records of ORDER, {len(reasons)} at most")
        gate.decide_batch(
            self.symbols,
            self.sides,
            self.accounts,
            self._first[RiskLevel.TRADER],
            orders,
            reasons,
        )

    def execute(
        self,
        symbol_index: int,
        trader: int,
        buys: bool,
        price: int,
        last_price: int,
        last_qty: int,
        ends: bool,
    ) -> None:
        """Count an execution. ``price`` is what the order counts at; ``ends``: it was its last."""
        self._execute(self._at, symbol_index, trader, buys, price, last_price, last_qty, ends)

    def release(
        self,
        symbol_index: int,
        trader: int,
        buys: bool,
        price: int,
        qty: int,
        money: int,
        ends: bool,
    ) -> None:
        """Take back shares and money that an order counted as open.

        Negative ones count more. ``ends``: an order, of this price, is open no longer.
        """
        self._release(self._at, symbol_index, trader, buys, price, qty, money, ends)

    def count_message(self, trader: int, now_ns: int) -> None:
        """Count a message that is not decided on: a cancel lowers risk, and nothing stops it."""
        self._count_message(self._at, trader, now_ns)

    # What is known.

    def limits(self, symbol_index: int) -> Limits:
        """Return a symbol's limits."""
        return Limits(*self.symbols["limits"][self._symbol(symbol_index)].item())

    def exposure(self, symbol_index: int) -> Exposure:
        """Return a symbol's position and open shares."""
        return Exposure(*self.symbols["exposure"][self._symbol(symbol_index)].item())

    def resting(self, symbol_index: int, buys: bool) -> Resting:
        """Return our open orders on a side of a symbol."""
        return Resting(*self.sides["resting"][self._symbol(symbol_index), int(buys)].item())

    def newest(self, symbol_index: int, buys: bool) -> Newest:
        """Return the newest order that passed on a side of a symbol."""
        return Newest(*self.sides["newest"][self._symbol(symbol_index), int(buys)].item())

    def level(self, level: RiskLevel, index: int = 0) -> Level:
        """Return what a trader, a desk or the firm has traded and can still trade."""
        return Level(*self.accounts["level"][self._account(level, index)].item())

    def level_limits(self, level: RiskLevel, index: int = 0) -> LevelLimits:
        """Return the money limits of a trader, a desk or the firm."""
        return LevelLimits(*self.accounts["limits"][self._account(level, index)].item())

    def rate(self, level: RiskLevel, index: int = 0) -> Rate:
        """Return the message rate of a trader, a desk or the firm."""
        return Rate(*self.accounts["rate"][self._account(level, index)].item())

    def is_killed(self, level: RiskLevel, index: int = 0) -> bool:
        """Whether a kill switch is on."""
        return bool(self.accounts["killed"][self._account(level, index)])

    @property
    def symbol_count(self) -> int:
        """Symbols."""
        return len(self.symbols) - 1

    @property
    def levels(self) -> list[tuple[RiskLevel, int]]:
        """Every level with each of its indices: the firm, its desks, its traders."""
        return [(level, index) for level, n in self._counts.items() for index in range(n)]

    def desk_of(self, trader: int) -> int:
        """Return the index of a trader's desk."""
        place = self._account(RiskLevel.TRADER, trader)
        return int(self.accounts["parent"][place]) - self._first[RiskLevel.DESK]

    def _symbol(self, index: int) -> int:
        if not 0 <= index < len(self.symbols) - 1:
            raise IndexError(f"symbol_index must be below {len(self.symbols) - 1}, not {index}")
        return index

    def _account(self, level: RiskLevel, index: int) -> int:
        if not 0 <= index < self._counts[level]:
            raise IndexError(f"{level.name} must be below {self._counts[level]}, not {index}")
        return self._first[level] + index


def narrowed(record: type[R], values: Mapping[str, Any]) -> R:
    """Return a record of limits whose values are the highest that fit where they are too high."""
    kind = _kind(record)
    fitting = {
        name: min(values[name], item.hi) if isinstance(item, Shape) else values[name]
        for name, item in kind.items
        if name in values
    }
    return record(**fitting)


def _kind(record: Any) -> Group:
    kind = kernel_type(record)
    assert isinstance(kind, Group)
    return kind


def _check(name: str, record: Any) -> None:
    _kind(type(record)).check(name, record)
