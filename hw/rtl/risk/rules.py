"""What the gate remembers, the rules that compare with it, and how an event changes it.

``used + asked > limit`` is ``used > limit - asked``, where only ``used`` is known late, so what is
left of each limit is worked out ahead. A sum of two that is compared goes through one carry chain.
"""

from amaranth.hdl import Cat, Const, Mux, signed
from amaranth.lib import data

from hw.rtl.risk.events import record_layout
from kernels.exposure import MONEY_MAX, OPEN_ORDERS_MAX, POSITION_MAX, Newest
from protocol.reasons import DenyReason

ACCOUNTS = ("trader", "desk", "firm")

POSITION = data.StructLayout({"shares": signed(32)})
SIDE = data.StructLayout(
    {"open_qty": 32, "orders": 16, "best_orders": 16, "best_key": 32, "behind_key": 32}
)
TOP = data.StructLayout({"key": 32, "is_set": 1})
"""The best price of our orders on a side of a symbol, if there are any.

A key is a price of which the better one is the higher one: of a sale its complement. Without orders
a top is below every key that is set.
"""
NEWEST = record_layout(Newest)
ACCOUNT = data.StructLayout({"net": signed(57), "gross": 56, "due_ns": 62})
OPEN = data.StructLayout({"money": 56})

STATE = data.StructLayout(
    {
        "position": signed(32),
        "side": data.StructLayout(
            {"open_qty": 32, "orders": 16, "best_orders": 16, "best_price": 32, "behind_price": 32}
        ),
        **{name: data.StructLayout({**ACCOUNT.members, "open_money": 56}) for name in ACCOUNTS},
    }
)
"""What is known after an event of its symbol, of its side of the symbol, and of its accounts with
what they have open on that side: the fields of the records in :mod:`kernels.exposure`."""

LEFT = data.StructLayout(
    {
        **dict.fromkeys(("is_order", "counts", "ends", "tells"), 1),
        "key": 32,
        "shares": signed(33),
        "executed": signed(21),
        "executed_above": signed(33),
        **dict.fromkeys(("open", "gross"), signed(55)),
        "net": signed(53),
        "net_above": signed(58),
        **dict.fromkeys(("position", "locate"), signed(35)),
        "window_begin": signed(63),
        **dict.fromkeys(
            ACCOUNTS,
            data.StructLayout(
                {
                    **dict.fromkeys(("gross", "net"), signed(58)),
                    "due_last_ns": signed(64),
                    "interval_ns": 32,
                    "next_due_ns": 63,
                }
            ),
        ),
    }
)
"""What is known of an event before its state: what it adds to each sum, and what the limits leave
for what was there before. ``counts``: it is no order, and is counted; ``ends``: as of an event;
``tells``: it is a message. ``..._above``: with the most that the sum can be added. A limit that
does not concern the event leaves so much that nothing is above it."""
NO_LIMIT = (1 << 34) - 1
"""More than shares of a side and a position together."""


def rules(event, before, left):
    """Return which rules hold of those that compare with what was before, by reason.

    Without the one that needs the newest order, DUPLICATE_ORDER.
    """
    sells = ~event.buys
    side, opposite = before["side"], _flat(before["opposite"])
    position = _turned(before["position"].shares, sells)
    found = {
        DenyReason.POSITION_EXCEEDS_LIMIT: _exceed(position, side.open_qty, left.position),
        DenyReason.SHORT_SALE_WITHOUT_LOCATE: _exceed(position, side.open_qty, left.locate),
        DenyReason.SELF_TRADE: opposite >= Cat(~left.key, 1),
        DenyReason.OPEN_ORDERS_EXCEED_MAXIMUM: side.orders == OPEN_ORDERS_MAX,
        DenyReason.MESSAGE_RATE_EXCEEDED: Cat(
            before[name].due_ns > left[name].due_last_ns for name in ACCOUNTS
        ).any(),
    }
    for name in ACCOUNTS:
        known, level = before[name], name.upper()
        found[DenyReason[f"{level}_GROSS_EXCEEDS_LIMIT"]] = known.gross > left[name].gross
        found[DenyReason[f"{level}_NET_EXCEEDS_LIMIT"]] = _exceed(
            _turned(known.net, sells), before[f"{name}_open"].money, left[name].net
        )
    return found


def change(m, event, before, after, left):
    """Do what an event that passes does, as the kernels of :mod:`kernels.exposure`."""
    m.d.comb += [row.eq(before[name]) for name, row in after.items() if name != "opposite"]
    m.d.comb += [
        after["position"].shares.eq(
            _clamped(before["position"].shares, left.executed, left.executed_above, POSITION_MAX)
        ),
        after["side"].open_qty.eq(_bounded(before["side"].open_qty + left.shares, 32)),
    ]
    for name in ACCOUNTS:
        known, new = before[name], after[name]
        money = before[f"{name}_open"].money
        due_ns = Mux(
            known.due_ns >= event.now_ns,
            known.due_ns + left[name].interval_ns,
            left[name].next_due_ns,
        )
        m.d.comb += [
            new.net.eq(_clamped(known.net, left.net, left.net_above, MONEY_MAX)),
            new.gross.eq(_bounded(known.gross + left.gross, len(new.gross))),
            after[f"{name}_open"].money.eq(_bounded(money + left.open, len(money))),
        ]
        with m.If(left.tells):
            m.d.comb += new.due_ns.eq(_bounded(due_ns, len(new.due_ns)))
    _rest(m, event, before, after, left)


def repeats(event, newest):
    """Return whether an order is another one again, but for the time."""
    return (
        (event.price == newest.price)
        & (event.qty[: len(newest.order_qty)] == newest.order_qty)
        & (event.trader == newest.trader)
    )


def as_newest(event):
    """Return what is kept of an order that passed."""
    kept = {"trader": event.trader, "order_qty": event.qty, "price": event.price}
    kept["at_ns"] = event.now_ns
    return Cat(kept[name][: field.width] for name, field in NEWEST)


def _rest(m, event, before, after, left):
    """Follow our own open orders, as :func:`kernels.exposure.rested` and ``ended`` do."""
    side, new, top = before["side"], after["side"], before["top"]
    key = left.key
    is_best = (side.best_orders != 0) & (key == side.best_key)
    is_better = Cat(key, 1) >= _flat(top)
    is_first_behind = side.orders == side.best_orders
    with m.If(left.is_order):
        m.d.comb += new.orders.eq(side.orders + 1)  # An order beyond the most is denied.
        with m.If(is_better):  # As an order of the best price is, too.
            m.d.comb += [new.best_key.eq(key), after["top"].eq(Cat(key, 1))]
            m.d.comb += new.best_orders.eq(Mux(is_best, side.best_orders + 1, 1))
            with m.If(~is_best):
                no_price = (~event.buys).replicate(len(key))
                m.d.comb += new.behind_key.eq(Mux(top.is_set, top.key, no_price))
        with m.Elif(is_first_behind | (key > side.behind_key)):
            m.d.comb += new.behind_key.eq(key)
    with m.Elif(left.ends):
        m.d.comb += [
            new.orders.eq(side.orders - (side.orders != 0)),
            new.best_orders.eq(side.best_orders - is_best),
        ]
        with m.If((side.best_orders == 0) | (is_best & (side.best_orders == 1))):
            m.d.comb += after["top"].key.eq(side.behind_key)
        with m.If(side.orders <= 1):
            m.d.comb += after["top"].eq(0)


def price_key(price, buys):
    """Return the key of a price, or the price of a key."""
    return price ^ (~buys).replicate(len(price))


def _flat(record):
    return record.as_value()


def _turned(total, sells):
    """Return a sum, or for a sale one less than its negative."""
    return (total.as_unsigned() ^ sells.replicate(len(total))).as_signed()


def _exceed(first, second, limit):
    """Return whether two numbers together are above a third."""
    width = max(len(first), len(second), len(limit)) + 3
    a, b, c = (_extended(value, width) for value in (first, second, ~limit))
    saved, carried = a ^ b ^ c, (a & b | a & c | b & c) << 1
    return ~(saved + carried)[width - 1]


def _extended(value, width):
    """Return a number in so many bits, as they come."""
    sign = value[-1] if value.shape().signed else Const(0, 1)
    return Cat(value, sign.replicate(width - len(value)))


def _bounded(total, bits):
    """Return a sum, or the end of the range of so many bits that it would leave."""
    if not total.shape().signed:
        return (total | total[bits:].any().replicate(len(total)))[:bits]
    is_negative = total[-1]
    is_over = total[bits:-1].any() & ~is_negative
    return (total[:bits] | is_over.replicate(bits)) & ~is_negative.replicate(bits)


def _clamped(total, added, added_above, most):
    """Return a sum, or what is nearest to it from ``-most`` to ``most``.

    ``added_above`` is ``added + most``, by which the lower end is judged beside the sum.
    """
    bits = most.bit_length()
    after = total + added
    is_over = ~after[-1] & after[bits:-1].any()
    is_under = (total + added_above)[-1]
    return Mux(is_under, -most, Mux(is_over, most, after[: bits + 1].as_signed()))
