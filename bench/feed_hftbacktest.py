"""Plays changes of orders to hftbacktest, in an interpreter of its own: it needs an older NumPy.

Takes the name of a file of changes, an array of the columns ``is_new``, ``reference``, ``buys``,
``price``, ``shares`` and ``ts_ns``; prints the version, the seconds of the fastest run and the best
prices at the end. It imports nothing of the project, which its interpreter has not.
"""

import json
import sys
from importlib.metadata import version
from time import thread_time_ns
from typing import Any

import hftbacktest as peer
import numpy as np
from hftbacktest.types import event_dtype

RUNS = 5
_DOLLAR = 10_000  # In 1e-4 USD.


def main(file: str) -> None:
    """Print what comes of the changes in a file."""
    changes = np.load(file)
    events = np.zeros(len(changes), event_dtype)
    for row, (is_new, reference, buys, price, shares, ts_ns) in zip(
        events, changes.tolist(), strict=True
    ):
        gone = peer.MODIFY_ORDER_EVENT if shares else peer.CANCEL_ORDER_EVENT
        row["ev"] = (
            (peer.ADD_ORDER_EVENT if is_new else gone)
            | (peer.BUY_EVENT if buys else peer.SELL_EVENT)
            | peer.EXCH_EVENT
            | peer.LOCAL_EVENT
        )
        row["exch_ts"] = row["local_ts"] = ts_ns
        row["order_id"], row["qty"] = reference, shares
        row["px"] = price / _DOLLAR
    _play(events[:100])  # It compiles.
    seconds, bid, ask = min(_play(events) for _ in range(RUNS))
    print(
        json.dumps({"version": version(peer.__name__), "seconds": seconds, "bid": bid, "ask": ask})
    )


def _play(rows: Any) -> tuple[float, int, int]:
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
    bid, ask = round(depth.best_bid * _DOLLAR), round(depth.best_ask * _DOLLAR)
    backtest.close()
    return seconds, bid, ask


if __name__ == "__main__":
    main(sys.argv[1])
