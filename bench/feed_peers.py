"""Books of others under the messages of one symbol, beside our own feed path.

``hftbacktest`` takes a whole day in one call; its backtest keeps a book of the exchange and one of
the trader. ``nautilus_trader``'s book takes one call a message, as it has no other way. Both get
their own records, made before. Ours gets frames, and its records are taken by the host.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from time import thread_time_ns
from typing import Any, NamedTuple

import numpy as np

from bench.results import Result
from bench.wire import Frames, Rig
from protocol import itch50
from sim.venue.publisher import PAYLOAD_MAX

RUNS = 5
_DOLLAR = 10_000
_BOOK_CODES = b"AFECXDU"

Best = tuple[int, int]
"""Best bid and best offer, 1e-4 USD."""


class Change(NamedTuple):
    """What a message does to one order; one without shares goes."""

    is_new: bool
    reference: int
    buys: bool
    price: int
    shares: int
    ts_ns: int


def beside_peers(messages: Sequence[bytes]) -> list[Result]:
    """Return rates under the messages of the busiest symbol: our own beside each peer's.

    Raises
    ------
    RuntimeError
        If a peer's best prices are others than ours at the end.
    """
    books = [message for message in messages if message[0] in _BOOK_CODES]
    ((locate, _),) = Counter(message[1:3] for message in books).most_common(1)
    mine = [message for message in books if message[1:3] == locate]
    frames, stocks = Frames(mine, PAYLOAD_MAX), [("BUSY", int.from_bytes(locate, "big"))]
    rigs = [Rig(stocks) for _ in range(RUNS)]
    seconds = min(rig.seconds(frames) for rig in rigs)
    quote, rate = rigs[0].feed.quotes[0], len(mine) / seconds
    changes = _changes(mine)
    method = f"{len(mine)} messages of the busiest symbol, one core, time of the CPU"
    results = []
    for name, remark, play in (
        ("hftbacktest", "one call", _hftbacktest),
        ("nautilus_trader", "one call a message", _nautilus),
    ):
        found = play(changes)
        if found is None:
            print(f"{name} is not installed, so nothing is compared with it: pip install {name}")
            continue
        peer_seconds, best = found
        if best != (quote.bid_price, quote.ask_price):
            ours = quote.bid_price, quote.ask_price
            raise RuntimeError(f"PEER_DIFFERS: peer={name}, best={best}, ours={ours}")
        peer_rate, title = len(mine) / peer_seconds, f"{name} {version(name)}"
        results.append(
            Result(title, round(peer_rate), "messages/s", "higher", f"{method}, {remark}")
        )
        results.append(
            Result(
                f"frame to handled record, beside {title}",
                round(rate),
                "messages/s",
                "higher",
                f"{method}, best of {RUNS}",
                title,
                round(rate / peer_rate, 1),
            )
        )
    return results


def _changes(messages: Sequence[bytes]) -> list[Change]:
    """Return what messages do, a replacement as two changes."""
    live: dict[int, Change] = {}
    found: list[Change] = []

    def put(change: Change) -> None:
        found.append(change)
        if change.shares:
            live[change.reference] = change._replace(is_new=False)
        else:
            del live[change.reference]

    for data in messages:
        fields = itch50.MESSAGES.by_code[data[0]].unpack(data)
        ts_ns = fields["timestamp"]
        if data[0] in b"AF":
            buys = fields["buy_sell_indicator"] == "B"
            reference = fields["order_reference_number"]
            put(Change(True, reference, buys, fields["price"], fields["shares"], ts_ns))
        elif data[0] == ord("U"):
            old = live[fields["original_order_reference_number"]]
            put(old._replace(shares=0, ts_ns=ts_ns))
            reference = fields["new_order_reference_number"]
            put(Change(True, reference, old.buys, fields["price"], fields["shares"], ts_ns))
        else:
            order = live[fields["order_reference_number"]]
            gone = fields.get("executed_shares", fields.get("canceled_shares", order.shares))
            put(order._replace(shares=order.shares - gone, ts_ns=ts_ns))
    return found


def _hftbacktest(changes: Sequence[Change]) -> tuple[float, Best] | None:
    try:
        import hftbacktest as peer
        from hftbacktest.types import event_dtype
    except ImportError:
        return None
    events = np.zeros(len(changes), event_dtype)
    for row, change in zip(events, changes, strict=True):
        gone = peer.MODIFY_ORDER_EVENT if change.shares else peer.CANCEL_ORDER_EVENT
        row["ev"] = (
            (peer.ADD_ORDER_EVENT if change.is_new else gone)
            | (peer.BUY_EVENT if change.buys else peer.SELL_EVENT)
            | peer.EXCH_EVENT
            | peer.LOCAL_EVENT
        )
        row["exch_ts"] = row["local_ts"] = change.ts_ns
        row["order_id"], row["qty"] = change.reference, change.shares
        row["px"] = change.price / _DOLLAR

    def play(rows: Any) -> tuple[float, Best]:
        asset = (
            peer.BacktestAsset()
            .data([rows])
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .l3_fifo_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0, 0)
            .tick_size(1 / _DOLLAR)
            .lot_size(1)
            .last_trades_capacity(0)
        )
        backtest = peer.HashMapMarketDepthBacktest([asset])
        start = thread_time_ns()
        backtest.elapse(1 << 50)
        seconds = (thread_time_ns() - start) / 1e9
        depth = backtest.depth(0)
        best = round(depth.best_bid * _DOLLAR), round(depth.best_ask * _DOLLAR)
        backtest.close()
        return seconds, best

    play(events[:100])  # It compiles.
    found = [play(events) for _ in range(RUNS)]
    return min(found)


def _nautilus(changes: Sequence[Change]) -> tuple[float, Best] | None:
    try:
        from nautilus_trader.model.book import OrderBook
        from nautilus_trader.model.data import BookOrder
        from nautilus_trader.model.enums import BookType, OrderSide
        from nautilus_trader.model.identifiers import InstrumentId
        from nautilus_trader.model.objects import Price, Quantity
    except ImportError:
        return None

    def play() -> tuple[float, Best]:
        book = OrderBook(InstrumentId.from_str("BUSY.XNAS"), BookType.L3_MBO)
        calls: list[tuple[Callable[..., None], Any, int]] = []
        for change in changes:
            side = OrderSide.BUY if change.buys else OrderSide.SELL
            price = Price(change.price / _DOLLAR, precision=4)
            order = BookOrder(side, price, Quantity(change.shares, precision=0), change.reference)
            do = book.add if change.is_new else book.update if change.shares else book.delete
            calls.append((do, order, change.ts_ns))
        start = thread_time_ns()
        for do, order, ts_ns in calls:
            do(order, ts_ns)
        seconds = (thread_time_ns() - start) / 1e9
        bid, ask = book.best_bid_price(), book.best_ask_price()
        return seconds, (round(float(bid) * _DOLLAR), round(float(ask) * _DOLLAR))

    return min(play() for _ in range(2))
