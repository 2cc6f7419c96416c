"""Pre-trade risk on the host: the same kernels as on the card, asked first.

Everything comes up closed: a symbol that no limits were set for can not be traded, no message rate
is allowed, and the kill switch is on until it is released.
"""

from kernels.risk import (
    Exposure,
    Limits,
    Market,
    Order,
    Rate,
    counted,
    deny_reason,
    filled,
    opened,
)
from protocol.reasons import DenyReason
from sw.feed import Quote


class Risk:
    """Limits and exposures of every symbol, and the question whether an order may leave.

    Attributes
    ----------
    limits : list of Limits
        By symbol index.
    exposures : list of Exposure
        By symbol index: positions and open shares.
    rate : Rate
        Message rate over all symbols.
    killed : bool
        The kill switch.
    """

    def __init__(self, symbol_count: int):
        self.limits = [Limits()] * symbol_count
        self.exposures = [Exposure()] * symbol_count
        self.rate = Rate()
        self.killed = True

    def check(self, symbol_index: int, order: Order, quote: Quote, now_ns: int) -> DenyReason:
        """Return why an order must not leave, lowest code first, or ``DenyReason.NONE``."""
        if self.killed:
            return DenyReason.KILL_SWITCH
        return deny_reason(
            order,
            Market(quote.bid_price, quote.ask_price, quote.halted, quote.stale),
            self.limits[symbol_index],
            self.exposures[symbol_index],
            self.rate,
            now_ns,
        )

    def count_message(self, now_ns: int) -> None:
        """Count a message that left against the message rate."""
        self.rate = counted(self.rate, now_ns)

    def open(self, symbol_index: int, buys: bool, qty: int) -> None:
        """Count shares that became open, or with a negative number no longer are."""
        self.exposures[symbol_index] = opened(self.exposures[symbol_index], buys, qty)

    def fill(self, symbol_index: int, buys: bool, qty: int) -> None:
        """Count open shares that were executed."""
        self.exposures[symbol_index] = filled(self.exposures[symbol_index], buys, qty)
