"""Books of others under the messages of one symbol, beside our own feed path.

``hftbacktest`` takes a whole day in one call; its backtest keeps a book of the exchange and one of
the trader. ``nautilus_trader``'s book takes one call a message, as it has no other way. Both get
their own records, made before. Ours gets frames, and its records are taken by the host.
``hftbacktest`` needs an older NumPy, and so has an interpreter of its own.
"""

import json
import subprocess
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from time import thread_time_ns
from typing import Any, NamedTuple

import numpy as np

from bench.results import ROOT, Result
from bench.wire import Frames, Rig
from protocol import itch50
from sim.venue.publisher import PAYLOAD_MAX

RUNS = 5
_DOLLAR = 10_000
_BOOK_CODES = b"AFECXDU"
_HFTBACKTEST = ROOT / "build" / "hftbacktest" / "bin" / "python"

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


class Played(NamedTuple):
    """What a peer made of the changes, in its fastest run."""

    version: str
    seconds: float
    best: Best


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
            print(f"{name} is not installed, so nothing is compared with it")
            continue
        if found.best != (quote.bid_price, quote.ask_price):
            ours = quote.bid_price, quote.ask_price
            raise RuntimeError(f"PEER_DIFFERS: peer={name}, best={found.best}, ours={ours}")
        peer_rate, title = len(mine) / found.seconds, f"{name} {found.version}"
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


def _hftbacktest(changes: Sequence[Change]) -> Played | None:
    if not _HFTBACKTEST.exists():
        return None
    with TemporaryDirectory() as folder:
        file = Path(folder, "changes.npy")
        np.save(file, np.array(changes, np.int64))
        script = Path(__file__).with_name("feed_hftbacktest.py")
        done = subprocess.run([_HFTBACKTEST, script, file], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"PEER_FAILED: peer=hftbacktest\n{done.stderr[-2_000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return Played(found["version"], found["seconds"], (found["bid"], found["ask"]))


def _nautilus(changes: Sequence[Change]) -> Played | None:
    try:
        from nautilus_trader.model.book import OrderBook
        from nautilus_trader.model.data import BookOrder
        from nautilus_trader.model.enums import BookType, OrderSide
        from nautilus_trader.model.identifiers import InstrumentId
        from nautilus_trader.model.objects import Price, Quantity
    except ImportError:
        return None

    def play() -> Played:
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
        best = round(float(bid) * _DOLLAR), round(float(ask) * _DOLLAR)
        return Played(version("nautilus_trader"), seconds, best)

    return min((play() for _ in range(2)), key=lambda played: played.seconds)
