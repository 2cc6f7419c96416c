"""What the card remembers of an order that may still execute."""

from amaranth.lib import data

from hw.rtl.order.shapes import QUANTITY
from kernels.exposure import NOTIONAL_MAX

MONEY = NOTIONAL_MAX.bit_length()


def row_layout(order_count):
    """Return the layout of an order's row in a table of so many.

    A replacement that is not answered yet ``replaces``, and its original ``is_replaced``: each has
    the other's row as its ``partner``. Until the answer nothing of a replacement is open but what
    it reserves, in shares and in money: what it will count on top of its original.
    """
    return data.StructLayout(
        {
            "used": 1,
            "cl_ord_id": 32,
            "symbol_index": 16,
            "trader": 10,
            "buys": 1,
            "price": 32,
            "leaves_qty": QUANTITY,
            # Shares of the whole chain that were executed. The highest number stands for more.
            "cum_qty": 32,
            "replaces": 1,
            "is_replaced": 1,
            "partner": range(order_count),
            # Shares of the whole chain that a replacement asks for.
            "order_qty": 32,
            "reserved_qty": QUANTITY,
            "reserved_notional": MONEY,
        }
    )
