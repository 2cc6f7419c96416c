"""The order stage: OUCH 5.0 over SoupBinTCP over one TCP connection."""

from hw.rtl.order.path import OrderPath

__all__ = ["OrderPath"]
