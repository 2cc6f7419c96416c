"""What the gate remembers, the rules that compare with it, and how an event changes it.

``used + asked > limit`` is ``used > limit - asked``, where only ``used`` is known late, so what is
left of each limit is worked out ahead. A sum of two that is compared goes through one carry chain.
"""

from amaranth.hdl import Cat, Const, Mux, Shape, signed
from amaranth.lib import data

from hw.rtl.risk.events import record_layout
from hw.rtl.risk.stages import flat
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
                    "next_due_ns": 62,
                }
            ),
        ),
    }
)
"""What is known of an event before its state: what it adds to each sum, and what the limits leave
for what was there before. ``counts``: it is no order, and is counted; ``ends``: as of an event;
``tells``: it is a message. ``..._above``: with the most that the sum can be added, so that a sign
tells whether the sum is below its other end. A limit that does not concern the event leaves so much
that nothing is above it."""
NO_LIMIT = (1 << 34) - 1
"""More than shares of a side and a position together."""


def rules(event, before, left, sells):
    """Return which rules hold of those that compare with what was before, by reason.

    Without the one that needs the newest order, DUPLICATE_ORDER. ``sells`` has a bit for each
    account, as one for all would drive too much.
    """
    side, opposite = before["side"], flat(before["opposite"])
    position = _turned(before["position"].shares, ~event.buys)
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
            _turned(known.net, sells[name]), before[f"{name}_open"].money, left[name].net
        )
    return found


def change(m, event, left, passed, before, resolved, after):
    """Do what an event that passes does, as the kernels of :mod:`kernels.exposure`.

    ``before`` has the two ways that the event may find what is known, by whether the event before
    passed; ``passed`` tells that, once a row; ``resolved`` is the right way, and ``after`` what the
    event makes of it. Both ways are added to and compared before one is chosen, as ``passed``
    drives much.
    """

    def right(name, function):
        """Return what a function makes of a row, done for both ways."""
        return Mux(passed[name], function(before["passed"]), function(before["denied"]))

    m.d.comb += [after[name].eq(resolved[name]) for name in ("side", "top")]
    m.d.comb += [
        after["position"].shares.eq(
            _clamped(
                right("position", lambda known: known["position"].shares + left.executed),
                right(
                    "position", lambda known: (known["position"].shares + left.executed_above)[-1]
                ),
                POSITION_MAX,
            )
        ),
        after["side"].open_qty.eq(
            bounded(right("side", lambda known: known["side"].open_qty + left.shares), 32)
        ),
    ]
    for name in ACCOUNTS:
        new, of_account, opened = after[name], left[name], after[f"{name}_open"]
        gross = right(name, lambda known, name=name: known[name].gross + left.gross)
        money = right(
            f"{name}_open", lambda known, name=name: known[f"{name}_open"].money + left.open
        )
        due_ns = right(name, lambda known, name=name: known[name].due_ns + left[name].interval_ns)
        is_due = right(name, lambda known, name=name: known[name].due_ns >= event.now_ns)
        m.d.comb += [
            new.net.eq(
                _clamped(
                    right(name, lambda known, name=name: known[name].net + left.net),
                    right(name, lambda known, name=name: (known[name].net + left.net_above)[-1]),
                    MONEY_MAX,
                )
            ),
            new.gross.eq(bounded(gross, len(new.gross))),
            opened.money.eq(bounded(money, len(opened.money))),
            new.due_ns.eq(Mux(left.tells, of_account.next_due_ns, resolved[name].due_ns)),
        ]
        with m.If(left.tells & is_due):
            m.d.comb += new.due_ns.eq(bounded(due_ns, len(new.due_ns)))
    _rest(m, event, left, right, resolved["side"], resolved["top"], after["side"], after["top"])


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


def _rest(m, event, left, right, side, top, new, new_top):
    """Follow our own open orders, as :func:`kernels.exposure.rested` and ``ended`` do."""
    key = left.key

    def best(known):
        return (known["side"].best_orders != 0) & (key == known["side"].best_key)

    def better(known):  # As an order of the best price is, too.
        return Cat(key, 1) >= flat(known["top"])

    def behind(known):
        is_first = known["side"].orders == known["side"].best_orders
        return ~better(known) & (is_first | (key > known["side"].behind_key))

    def leaves_behind(known):
        is_last = best(known) & (known["side"].best_orders == 1)
        return is_last | (known["side"].best_orders == 0)

    is_best, is_behind = right("side", best), right("side", behind)
    is_new_best = right("side", lambda known: better(known) & ~best(known))
    has_orders = right("side", lambda known: known["side"].orders != 0)
    step = Mux(left.is_order, 1, -1)
    no_price = _all(~event.buys, len(key))
    with m.If((left.is_order | left.ends) & is_best):
        m.d.comb += new.best_orders.eq(side.best_orders + step)
    with m.If(left.is_order | (left.ends & has_orders)):
        m.d.comb += new.orders.eq(side.orders + step)  # An order beyond the most is denied.
    with m.If(left.is_order & right("side", better)):
        m.d.comb += new.best_key.eq(key)
    with m.If(left.is_order & right("top", better)):
        m.d.comb += new_top.eq(Cat(key, 1))
    with m.If(left.is_order & is_behind):
        m.d.comb += new.behind_key.eq(key)
    with m.If(left.is_order & is_new_best):
        m.d.comb += new.best_orders.eq(1)
        m.d.comb += new.behind_key.eq(Mux(top.is_set, top.key, no_price))
    with m.If(left.ends & right("top", leaves_behind)):
        m.d.comb += new_top.key.eq(side.behind_key)
    with m.If(left.ends & right("top", lambda known: known["side"].orders <= 1)):
        m.d.comb += new_top.eq(0)


def price_key(price, buys):
    """Return the key of a price, or the price of a key."""
    return price ^ _all(~buys, len(price))


def _turned(total, sells):
    """Return a sum, or for a sale one less than its negative."""
    return (total.as_unsigned() ^ _all(sells, len(total))).as_signed()


def _exceed(first, second, limit):
    """Return whether two numbers together are above a third."""
    width = max(len(first), len(second), len(limit)) + 3
    a, b, c = (_extended(value, width) for value in (first, second, ~limit))
    saved, carried = a ^ b ^ c, (a & b | a & c | b & c) << 1
    return ~(saved + carried)[width - 1]


def _extended(value, width):
    """Return a number in so many bits, as they come."""
    return (value | Const(0, Shape(width, value.shape().signed))).as_unsigned()


def _all(bit, width):
    """Return a bit so many times, as one choice: each copy of an expression would be built anew."""
    return Mux(bit, Const((1 << width) - 1, width), 0)


def bounded(total, bits):
    """Return a sum, or the end of the range of so many bits that it would leave."""
    if not total.shape().signed:
        return (total | _all(total[bits:].any(), len(total)))[:bits]
    is_negative = total[-1]
    is_over = total[bits:-1].any() & ~is_negative
    return (total[:bits] | _all(is_over, bits)) & ~_all(is_negative, bits)


def _clamped(total, is_under, most):
    """Return a sum, or what is nearest to it from ``-most`` to ``most``."""
    bits = most.bit_length()
    is_over = ~total[-1] & total[bits:-1].any()
    return Mux(is_under, -most, Mux(is_over, most, total[: bits + 1].as_signed()))
