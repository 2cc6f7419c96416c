"""Order management: the only publisher on the command ring, and the only reader of the answers.

Risk is asked before anything is published; the card asks again. Order numbers are OUCH UserRefNums:
they begin with 1 and only grow, so every message can be sent again without harm.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from kernels.risk import Market, added_notional
from protocol import ring
from protocol.layout import Layout, Value
from protocol.orders import (
    TERMINAL,
    TRANSITIONS,
    OrderEvent,
    OrderState,
    Side,
    TimeInForce,
    after_refusal,
)
from protocol.reasons import DenyReason
from protocol.risk import RiskLevel
from sw.errors import OrderStateError, RingError
from sw.feed import Quote
from sw.ring import RingReader, RingWriter
from sw.risk import Risk


@dataclass(slots=True)
class Order:
    """One order of ours. Quantities are shares, prices 1e-4 USD; FIX names.

    ``order_qty`` and ``cum_qty`` are those of the whole chain of replacements, as OUCH 5.0 counts
    them; ``leaves_qty`` is what this order can still execute.
    """

    cl_ord_id: int
    symbol_index: int
    side: Side
    order_qty: int
    price: int
    time_in_force: TimeInForce
    leaves_qty: int
    cum_qty: int = 0
    state: OrderState = OrderState.PENDING_NEW
    orig: "Order | None" = None
    """The order that this one replaces."""
    replacement: "Order | None" = None
    """The newest order that was to replace this one."""
    reserved_qty: int = 0
    """Shares counted as open for a replacement on top of its original's."""
    reserved_notional: int = 0
    """The same in money."""
    trader: int = 0
    counted_price: int = 0
    """Price that the order counts at: the one it was asked for at."""
    venue_order_id: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the order can still execute."""
        return self.state not in TERMINAL

    @property
    def is_live(self) -> bool:
        """Whether the order stands at the venue and no request on it is under way."""
        return self.state in (OrderState.NEW, OrderState.PARTIALLY_FILLED)


class Fill(NamedTuple):
    """One execution of an order of ours."""

    order: Order
    last_qty: int
    last_price: int


class Oms:
    """Keeps every order's state, and the exposure in :class:`~sw.risk.Risk` with it.

    Parameters
    ----------
    commands : RingWriter
        The command ring.
    answers : RingReader
        The execution ring.
    risk : Risk
        Asked before anything is published.
    quotes : list of Quote
        The feed's mirror, by symbol index.
    on_record : callable
        Called with every record in and out, as the journal wants them.

    Attributes
    ----------
    orders : dict of int to Order
        Every order of the session by number.
    denials, rejects : Counter
        By reason.
    """

    def __init__(
        self,
        commands: RingWriter,
        answers: RingReader,
        risk: Risk,
        quotes: list[Quote],
        on_record: Callable[[bytes], None],
    ):
        self._commands = commands
        self._answers = answers
        self._risk = risk
        self._quotes = quotes
        self._on_record = on_record
        self._next_id = 1
        self.orders: dict[int, Order] = {}
        self.denials: Counter[DenyReason] = Counter()
        self.rejects: Counter[int] = Counter()

    # Requests of the strategies.

    def submit(
        self,
        symbol_index: int,
        side: Side,
        order_qty: int,
        price: int,
        now_ns: int,
        time_in_force: TimeInForce = TimeInForce.DAY,
        trader: int = 0,
    ) -> Order:
        """Send a new order. Returns it in ``PENDING_NEW``, or in ``DENIED``."""
        order = Order(
            self._take_id(),
            symbol_index,
            side,
            order_qty,
            price,
            time_in_force,
            order_qty,
            trader=trader,
            counted_price=price,
        )
        self.orders[order.cl_ord_id] = order
        self._tell_market(symbol_index)
        reason = self._risk.decide(
            symbol_index,
            trader,
            side is Side.BUY,
            order_qty,
            price,
            now_ns,
            slot=self._commands.free > 0,
        )
        if reason is DenyReason.NONE:
            self._publish(ring.NEW, order, now_ns, price=price, order_qty=order_qty)
        else:
            self._deny(order, reason)
        return order

    def _tell_market(self, symbol_index: int) -> None:
        quote = self._quotes[symbol_index]
        self._risk.set_market(
            symbol_index,
            Market(
                quote.bid_price,
                quote.ask_price,
                quote.last_price,
                quote.halted,
                quote.stale,
                quote.phase,
            ),
        )

    def replace(self, order: Order, order_qty: int, price: int, now_ns: int) -> Order | None:
        """Ask for another size and price. Returns the replacement, or None when it was denied.

        ``order_qty`` counts what the chain has executed already, as OUCH 5.0 does. Until the venue
        answers, the larger of both orders counts as open.
        """
        self._step(order, OrderEvent.REPLACE_REQUESTED)
        leaves = max(order_qty - order.cum_qty, 0)
        replacement = Order(
            self._take_id(),
            order.symbol_index,
            order.side,
            order_qty,
            price,
            order.time_in_force,
            leaves,
            orig=order,
            trader=order.trader,
            counted_price=price,
        )
        self._tell_market(order.symbol_index)
        reason = self._risk.decide_replacement(
            order.symbol_index,
            order.trader,
            order.side is Side.BUY,
            leaves,
            price,
            order.leaves_qty,
            order.counted_price,
            now_ns,
            slot=self._commands.free > 0,
        )
        self.orders[replacement.cl_ord_id] = replacement
        if reason is not DenyReason.NONE:
            self._deny(replacement, reason)
            return None
        self._publish(
            ring.REPLACE,
            replacement,
            now_ns,
            price=price,
            order_qty=order_qty,
            orig_cl_ord_id=order.cl_ord_id,
        )
        self._set_aside(replacement, order)
        order.replacement = replacement
        return replacement

    def cancel(self, order: Order, now_ns: int) -> bool:
        """Ask for the end of an order. Returns False when the command ring is full.

        A cancel lowers risk, so nothing but a full ring stops it.
        """
        record = ring.CANCEL.pack(
            cl_ord_id=order.cl_ord_id,
            symbol_index=order.symbol_index,
            ts_host_ns=now_ns,
            order_qty=0,
        )
        state = order.state
        self._step(order, OrderEvent.CANCEL_REQUESTED)
        if not self._put(record, now_ns, order.trader):
            order.state = state
            return False
        return True

    def mass_cancel(self, now_ns: int) -> bool:
        """Ask for the end of every order. Returns False when the command ring is full."""
        record = ring.MASS_CANCEL.pack(
            cl_ord_id=self._take_id(),
            symbol_index=ring.ALL_MARKET,
            ts_host_ns=now_ns,
            flags=ring.MassCancelFlag.ALL_SYMBOLS,
        )
        if not self._put(record, now_ns):
            return False
        for order in self.orders.values():
            if order.is_live:
                self._step(order, OrderEvent.CANCEL_REQUESTED)
        return True

    def heartbeat(self, now_ns: int) -> bool:
        """Tell the card that the host is alive. Returns False when the command ring is full."""
        return self._put(
            ring.HEARTBEAT.pack(symbol_index=ring.ALL_MARKET, ts_host_ns=now_ns), now_ns
        )

    def repair_book(self, record: bytes, now_ns: int) -> bool:
        """Publish a command of a book's repair. Returns False when it would crowd orders out.

        Half of the command ring is left to orders.
        """
        if 2 * self._commands.free <= self._commands.slots:
            return False
        return self._put(record, now_ns)

    def write_limits(self, now_ns: int) -> bool:
        """Write every symbol's limits to the card, then those of traders, desks and the firm."""
        risk = self._risk
        records = [
            ring.LIMITS.pack(
                symbol_index=index,
                ts_host_ns=now_ns,
                flags=ring.LimitsFlag.RESTRICTED if restricted else 0,
                **limits,
            )
            for index in range(risk.symbol_count)
            for limits in (risk.limits(index)._asdict(),)
            for restricted in (limits.pop("restricted"),)
        ]
        for level, index in risk.levels:
            rate, limits = risk.rate(level, index), risk.level_limits(level, index)
            killed = level is not RiskLevel.FIRM and risk.is_killed(level, index)
            records.append(
                ring.LEVEL_LIMITS.pack(
                    symbol_index=ring.ALL_MARKET,
                    ts_host_ns=now_ns,
                    flags=ring.LevelLimitsFlag.KILLED if killed else 0,
                    level=level,
                    level_index=index,
                    desk_index=risk.desk_of(index) if level is RiskLevel.TRADER else 0,
                    rate_burst_ns=rate.burst_ns,
                    rate_interval_ns=rate.interval_ns,
                    **limits._asdict(),
                )
            )
        return all(self._put(record, now_ns) for record in records)

    # Answers of card and venue.

    @property
    def open_count(self) -> int:
        """Orders that can still execute."""
        return sum(1 for order in self.orders.values() if order.is_open)

    @property
    def command_count(self) -> int:
        """Commands published so far."""
        return self._commands.head

    @property
    def command_high_water(self) -> int:
        """Most slots of the command ring ever in use."""
        return self._commands.high_water

    def poll(self, fills: list[Fill]) -> int | None:
        """Take one answer. Returns the index of the symbol whose orders moved.

        ``None`` when the ring is empty, ``ring.ALL_MARKET`` when no order moved. An execution is
        appended to ``fills``.
        """
        offset = self._answers.poll()
        if offset < 0:
            return None
        record = bytes(self._answers.memory[offset : offset + ring.RECORD_SIZE])
        self._answers.release()
        self._on_record(record)
        layout = ring.EXECUTION.by_code.get(record[0])
        if layout is None:
            raise RingError(f"EXECUTION_RECORD_UNKNOWN: type=0x{record[0]:02x}")
        if layout is ring.SENT:
            return ring.ALL_MARKET
        values = layout.unpack(record)
        if values.get("command_type") == ring.RecordType.MASS_CANCEL:
            self.denials[DenyReason(values["reason"])] += 1
            for asked in self.orders.values():
                if asked.state is OrderState.PENDING_CANCEL:
                    self._refuse_request(asked, OrderEvent.CANCEL_REFUSED)
            return ring.ALL_MARKET
        cl_ord_id = values["cl_ord_id"]
        order = self.orders.get(cl_ord_id)
        if order is None:
            raise OrderStateError(f"ORDER_UNKNOWN: cl_ord_id={cl_ord_id}")
        self._apply(record[0], order, values, fills)
        return order.symbol_index

    def _apply(
        self, record_type: int, order: Order, values: dict[str, Any], fills: list[Fill]
    ) -> None:
        kinds = ring.RecordType
        if record_type == kinds.ACCEPTED:
            self._accepted(order, values)
        elif record_type == kinds.EXECUTED:
            self._executed(order, values["last_qty"], values["last_price"])
            fills.append(Fill(order, values["last_qty"], values["last_price"]))
        elif record_type == kinds.REPLACED:
            self._replaced(order, values)
        elif record_type == kinds.CANCELED:
            self._canceled(order, values["canceled_qty"])
        elif record_type == kinds.REJECTED:
            self.rejects[values["reason"]] += 1
            self._refuse(order, OrderEvent.REJECTED)
        elif record_type == kinds.DENIED:
            self._denied(order, values)

    def _accepted(self, order: Order, values: dict[str, Any]) -> None:
        order.venue_order_id = values["venue_order_id"]
        order.price = values["price"]
        self._step(order, OrderEvent.ACCEPTED)
        if values["order_state"] == ord("D"):
            self._canceled(order, order.leaves_qty)

    def _executed(self, order: Order, last_qty: int, last_price: int) -> None:
        if last_qty > order.leaves_qty:
            raise OrderStateError(
                f"ORDER_OVERFILLED: cl_ord_id={order.cl_ord_id}, "
                f"leaves_qty={order.leaves_qty}, last_qty={last_qty}"
            )
        order.leaves_qty -= last_qty
        order.cum_qty += last_qty
        self._risk.execute(
            order.symbol_index,
            order.trader,
            order.side is Side.BUY,
            order.counted_price,
            last_price,
            last_qty,
            order.leaves_qty == 0,
        )
        event = OrderEvent.PARTIALLY_EXECUTED if order.leaves_qty else OrderEvent.EXECUTED
        self._step(order, event)
        if event is OrderEvent.EXECUTED:
            self._drop_replacement(order)

    def _replaced(self, replacement: Order, values: dict[str, Any]) -> None:
        orig = replacement.orig
        if orig is None or orig.cl_ord_id != values["orig_cl_ord_id"]:
            raise OrderStateError(f"ORDER_NOT_A_REPLACEMENT: cl_ord_id={replacement.cl_ord_id}")
        leaves = values["leaves_qty"]
        self._release(
            orig,
            orig.leaves_qty + replacement.reserved_qty - leaves,
            orig.leaves_qty * orig.counted_price
            + replacement.reserved_notional
            - leaves * replacement.counted_price,
            ends=True,
        )
        replacement.cum_qty = orig.cum_qty
        replacement.leaves_qty = leaves
        replacement.reserved_qty = replacement.reserved_notional = orig.leaves_qty = 0
        self._step(orig, OrderEvent.REPLACED)
        self._accepted(replacement, values)

    def _canceled(self, order: Order, canceled_qty: int) -> None:
        canceled_qty = min(canceled_qty, order.leaves_qty)
        order.leaves_qty -= canceled_qty
        money = canceled_qty * order.counted_price
        self._release(order, canceled_qty, money, ends=order.leaves_qty == 0)
        if order.leaves_qty:
            self._step(order, OrderEvent.REDUCED)
            self._reserve(order)
        else:
            self._step(order, OrderEvent.CANCELED)
            self._drop_replacement(order)

    def _denied(self, order: Order, values: dict[str, Any]) -> None:
        reason = DenyReason(values["reason"])
        if values["command_type"] == ring.RecordType.CANCEL:
            # Else the order ended, or a mass cancel was refused, while the cancel was on its way.
            if order.state is OrderState.PENDING_CANCEL:
                self._refuse_request(order, OrderEvent.CANCEL_REFUSED)
            return
        self.denials[reason] += 1
        self._refuse(order, OrderEvent.DENIED)

    # State.

    def _deny(self, order: Order, reason: DenyReason) -> None:
        self.denials[reason] += 1
        self._step(order, OrderEvent.DENIED)
        if order.orig is not None:
            self._refuse_request(order.orig, OrderEvent.REPLACE_REFUSED)
        order.leaves_qty = 0

    def _refuse(self, order: Order, event: OrderEvent) -> None:
        """End an order that was published but refused, and let its original stand."""
        if not order.is_open:
            return  # Its original ended first, and took it along.
        self._step(order, event)
        if order.orig is None:
            money = order.leaves_qty * order.counted_price
            self._release(order, order.leaves_qty, money, ends=True)
        else:
            self._give_back(order)
            self._refuse_request(order.orig, OrderEvent.REPLACE_REFUSED)
        order.leaves_qty = 0

    def _refuse_request(self, order: Order, event: OrderEvent) -> None:
        self._step(order, event)
        order.state = after_refusal(order.cum_qty)

    def _reserve(self, order: Order) -> None:
        """Let what was taken off an order stay open for the replacement that will open it again."""
        pending = order.replacement
        if pending is not None and pending.state is OrderState.PENDING_NEW:
            qty, money = pending.reserved_qty, pending.reserved_notional
            self._set_aside(pending, order)
            self._release(pending, qty - pending.reserved_qty, money - pending.reserved_notional)

    @staticmethod
    def _set_aside(replacement: Order, orig: Order) -> None:
        """Write what a replacement counts on top of its original."""
        leaves = max(replacement.order_qty - orig.cum_qty, 0)
        replacement.reserved_qty = max(leaves - orig.leaves_qty, 0)
        replacement.reserved_notional = added_notional(
            replacement.counted_price, leaves, orig.counted_price, orig.leaves_qty
        )

    def _give_back(self, replacement: Order) -> None:
        """Take back what a replacement counts that does not stand."""
        self._release(
            replacement, replacement.reserved_qty, replacement.reserved_notional, ends=True
        )
        replacement.reserved_qty = replacement.reserved_notional = 0

    def _release(self, order: Order, qty: int, money: int, ends: bool = False) -> None:
        self._risk.release(
            order.symbol_index,
            order.trader,
            order.side is Side.BUY,
            order.counted_price,
            qty,
            money,
            ends,
        )

    def _drop_replacement(self, order: Order) -> None:
        """End the replacement of an order that ended first: the venue ignores it silently.

        [OUCH 5.0: 2.2]
        """
        pending = order.replacement
        if pending is not None and pending.state is OrderState.PENDING_NEW:
            self._give_back(pending)
            pending.leaves_qty = 0
            self._step(pending, OrderEvent.REJECTED)

    def _step(self, order: Order, event: OrderEvent) -> None:
        state = TRANSITIONS.get((order.state, event))
        if state is None:
            raise OrderStateError(
                f"ORDER_EVENT_ILLEGAL: cl_ord_id={order.cl_ord_id}, "
                f"state={order.state.name}, event={event.name}"
            )
        order.state = state

    def _take_id(self) -> int:
        taken = self._next_id
        self._next_id += 1
        return taken

    def _publish(self, layout: Layout, order: Order, now_ns: int, **values: Value) -> bool:
        record = layout.pack(
            cl_ord_id=order.cl_ord_id,
            symbol_index=order.symbol_index,
            side=order.side,
            time_in_force=order.time_in_force,
            trader_index=order.trader,
            ts_host_ns=now_ns,
            cause_sequence=self._quotes[order.symbol_index].feed_sequence,
            **values,
        )
        return self._put(record, now_ns)

    def _put(self, record: bytes, now_ns: int, trader: int = 0) -> bool:
        if not self._commands.put(record):
            return False
        offset = self._commands.last
        self._on_record(bytes(self._commands.memory[offset : offset + ring.RECORD_SIZE]))
        if record[0] in _UNDECIDED:
            self._risk.count_message(trader, now_ns)
        return True


_UNDECIDED = ring.ORDER_COMMANDS - {ring.NEW.code, ring.REPLACE.code}
"""Messages that lower risk. Nothing stops them, but they count in the message rate: a cancel in
that of its order's trader, a mass cancel in that of trader 0."""
