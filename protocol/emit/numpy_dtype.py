"""From a layout to NumPy: many messages of one type as a structured array, without a copy."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from protocol.layout import Field, Kind, Layout

Values: TypeAlias = NDArray[Any]

_NATIVE = frozenset({1, 2, 4, 8})


def dtype(layout: Layout) -> np.dtype[np.void]:
    """Return a structured dtype with the offsets and the size of the layout.

    Integers of 1, 2, 4 and 8 bytes are numbers in their byte order; of any other length they are
    arrays of bytes, which :func:`values` reads. Text is ``S``, from which NumPy strips NULs at the
    end; raw bytes are ``V``.
    """
    return np.dtype(
        {
            "names": [item.name for item in layout.fields],
            "formats": [_format(layout, item) for item in layout.fields],
            "offsets": [item.offset for item in layout.fields],
            "itemsize": layout.size,
        }
    )


def numbers(layout: Layout) -> np.dtype[np.void]:
    """Return a structured dtype of a little-endian layout's integers of 1, 2, 4 and 8 bytes alone.

    That is what compiled functions can work on. Numbers of 8 bytes have a sign, so that no mix of
    types can become a float: those that the layout has without one keep their bits.
    """
    if layout.byte_order != "little":
        raise ValueError(f"layout must be little-endian, not {layout.title}")
    items = [item for item in layout.fields if item.is_integer and item.length in _NATIVE]
    return np.dtype(
        {
            "names": [item.name for item in items],
            "formats": ["<i8" if item.length == 8 else _format(layout, item) for item in items],
            "offsets": [item.offset for item in items],
            "itemsize": layout.size,
        }
    )


def values(array: Values, layout: Layout, name: str) -> Values:
    """Return one field of every record in ``array``.

    Integers of any length come as numbers (Python integers above 8 bytes), everything else as it
    is in the array. ``array`` has any shape; the result has the same.
    """
    item = layout.by_name[name]
    column = array[name]
    if not item.is_integer or item.length in _NATIVE:
        return column
    digits = column if layout.byte_order == "big" else column[..., ::-1]
    if item.length > 8:
        total = digits[..., 0].astype(object)
        for index in range(1, item.length):
            total = total * 256 + digits[..., index]
    else:
        total = digits[..., 0].astype(np.uint64)
        for index in range(1, item.length):
            total = (total << np.uint64(8)) | digits[..., index]
    if item.kind is not Kind.SINT:
        return total
    bits = 8 * item.length
    if item.length > 8:
        return np.where(total >> (bits - 1) == 1, total - (1 << bits), total)
    unused = 64 - bits
    # An arithmetic shift to the right copies the sign.
    return (total << np.uint64(unused)).view(np.int64) >> np.int64(unused)


def _format(layout: Layout, item: Field) -> Any:
    if item.kind is Kind.BYTES:
        return f"V{item.length}"
    if not item.is_integer:
        return f"S{item.length}"
    if item.length not in _NATIVE:
        return ("u1", (item.length,))
    order = ">" if layout.byte_order == "big" else "<"
    return f"{order}{'i' if item.kind is Kind.SINT else 'u'}{item.length}"
