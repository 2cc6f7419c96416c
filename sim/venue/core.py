"""The matching engine's one entry for all requests, and the memory it works on."""

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol.orders import Side
from sim.venue.book import ROOM, find, has_room, home, insert
from sim.venue.cross import cross
from sim.venue.events import Order
from sim.venue.records import (
    ARRAYS,
    BOOK,
    ENTRY,
    EVENT,
    HEAD,
    LEVEL,
    LOCATES,
    NODE_SIZE,
    NODES_A_LEVEL,
    NONE,
    ORDER,
    REQUEST,
    SESSIONS,
    SYMBOL,
    Core,
    Op,
    fetch_entry,
    fetch_level,
    fetch_order,
    head_of,
    order_at,
    request_at,
    table_of,
)
from sim.venue.rules import (
    cancel,
    enter,
    mass_cancel,
    modify,
    place,
    replace,
    set_bands,
    set_state,
)
from sim.venue.tape import tape_add, tape_execute, tape_reduce, tape_replace
from sw.jit import entry, jit

_ENTER, _CANCEL, _REPLACE, _MODIFY = (
    int(Op.ENTER),
    int(Op.CANCEL),
    int(Op.REPLACE),
    int(Op.MODIFY),
)
_MASS_CANCEL, _STATE, _BANDS, _CROSS = (
    int(Op.MASS_CANCEL),
    int(Op.STATE),
    int(Op.BANDS),
    int(Op.CROSS),
)
_TAPE_ADD, _TAPE_EXECUTE, _TAPE_REDUCE = (
    int(Op.TAPE_ADD),
    int(Op.TAPE_EXECUTE),
    int(Op.TAPE_REDUCE),
)


_FAR, _HALF, _NEAR = 12, 8, 4
"""How many requests ahead an entry, an order and its neighbours are asked for."""


@jit
def _step(core: int, request: Any) -> bool:
    op = request["op"]
    if op == _ENTER:
        return enter(core, request)
    if op == _CANCEL:
        return cancel(core, request)
    if op == _REPLACE:
        return replace(core, request)
    if op == _MODIFY:
        return modify(core, request)
    if op == _MASS_CANCEL:
        return mass_cancel(core, request)
    if op == _STATE:
        return set_state(core, request)
    if op == _BANDS:
        return set_bands(core, request)
    if op == _CROSS:
        return cross(core, request)
    if op == _TAPE_ADD:
        return tape_add(core, request)
    if op == _TAPE_EXECUTE:
        return tape_execute(core, request)
    if op == _TAPE_REDUCE:
        return tape_reduce(core, request)
    return tape_replace(core, request)


@jit
def _look_ahead(core: int, start: int, count: int) -> None:
    """Have fetched what the requests to come will touch.

    In a large book nearly all of a request's time is the wait for memory. An id's entry is asked
    for first, then the order that stands there, then its neighbours and its level.
    """
    if start + _FAR < count:
        request = request_at(core, start + _FAR)
        fetch_entry(core, home(table_of(core), request["order_id"]))
        if request["op"] == _REPLACE:
            fetch_entry(core, home(table_of(core), request["orig_id"]))
    if start + _HALF < count:
        slot = _named(core, start + _HALF)
        if slot != NONE:
            fetch_order(core, slot)
    if start + _NEAR < count:
        slot = _named(core, start + _NEAR)
        if slot != NONE:
            order = order_at(core, slot)
            fetch_order(core, order["previous"])
            fetch_order(core, order["next"])
            fetch_level(core, order["level"])


@jit
def _named(core: int, index: int) -> int:
    """Return the slot of the order that a request is about, as it is now."""
    request = request_at(core, index)
    if request["op"] == _ENTER:
        return NONE
    key = request["orig_id"] if request["op"] == _REPLACE else request["order_id"]
    return find(table_of(core), key)


@jit
def run(core: int, start: int, count: int) -> int:
    """Serve requests from one index up to another; return the first that is not done.

    It is not done when an array is nearly full; call again from there once there is room.
    """
    head = head_of(core)
    if head["pending"] != NONE:
        if not place(core, head["pending"]):
            return start
        start += 1
    while start < count and has_room(core):
        _look_ahead(core, start, count)
        if not _step(core, request_at(core, start)):
            break
        start += 1
    return start


@jit
def slot_of(core: int, order_id: int) -> int:
    """Return the slot of a live order, or NONE."""
    return find(table_of(core), order_id)


@jit
def rehash(old: Any, new: Any) -> None:
    """Put the entries of a table into another one, which is empty."""
    for index in range(len(old)):
        if old[index]["slot"] != NONE:
            insert(new, old[index]["key"], old[index]["slot"])


_TYPES: Final = (HEAD, ORDER, LEVEL, BOOK, SYMBOL, None, ENTRY, ENTRY, EVENT, REQUEST)
_EVENTS, _REQUESTS = Core._fields.index("events"), Core._fields.index("requests")


def _array(index: int, length: int) -> NDArray[Any]:
    kind = _TYPES[index]
    return np.zeros((length, NODE_SIZE), np.int64) if kind is None else np.zeros(length, kind)


class _Row(NamedTuple):
    """The fields of ORDER."""

    order_id: int
    reference: int
    price: int
    leaves_qty: int
    shown_qty: int
    previous: int
    next: int
    level: int
    side: int
    time_in_force: int
    flags: int
    self_match: int
    participant: int
    cum_qty: int
    max_floor: int
    min_qty: int
    taken_qty: int
    unused: int


class Memory:
    """The arrays of one engine. Between two steps those that are nearly full double.

    Parameters
    ----------
    orders : int
        Live orders to begin with.
    events : int
        Events that are written before they are taken away.
    """

    def __init__(self, orders: int, events: int):
        size = 1 << max(4 * ROOM, orders - 1).bit_length()
        table, tape = 2 * size, 4 * ROOM
        lengths = (1, size, size, LOCATES * SESSIONS * 2, LOCATES, size, table, tape, events, 1)
        self._arrays = [_array(index, length) for index, length in enumerate(lengths)]
        self._context = np.zeros(2 * ARRAYS, np.int64)
        for index in range(ARRAYS):
            self._publish(index)
        self._address = self._context.ctypes.data
        self._run = entry(run, self._address, 0, 0)
        self._slot_of = entry(slot_of, self._address, 0)

    @property
    def core(self) -> Core:
        """The arrays as they are now, to be looked at."""
        return Core(*self._arrays)

    def _publish(self, index: int) -> None:
        self._context[index] = self._arrays[index].ctypes.data
        self._context[ARRAYS + index] = len(self._arrays[index])

    def slot_of(self, order_id: int) -> int:
        """Return the slot of a live order, or NONE."""
        return self._slot_of(self._address, order_id)

    def order_at(self, slot: int) -> Order:
        """Return the live order of a slot."""
        core = self.core
        row = _Row._make(core.orders[slot].item())
        book = int(core.levels[row.level]["book"])
        side, locate = Side(row.side), book // (2 * SESSIONS)
        quantities = row.leaves_qty, row.cum_qty, row.shown_qty
        return Order(row.order_id, locate, side, row.price, *quantities, row.reference)

    def run(self, requests: NDArray[Any]) -> NDArray[Any]:
        """Serve requests, an array of REQUEST that may be changed; return the events.

        The events stand until the next call.
        """
        self._arrays[_REQUESTS] = requests
        self._publish(_REQUESTS)
        head = self._arrays[0]
        head["event_count"] = 0
        done, taken = self._run(self._address, 0, len(requests)), []
        while done < len(requests):
            taken.append(self._events().copy())
            head["event_count"] = 0
            self._grow()
            done = self._run(self._address, done, len(requests))
        return np.concatenate((*taken, self._events())) if taken else self._events()

    def _events(self) -> NDArray[Any]:
        return self._arrays[_EVENTS][: int(self._arrays[0]["event_count"][0])]

    def _grow(self) -> None:
        head = {name: int(self._arrays[0][name][0]) for name in HEAD.names or ()}
        used = {
            "orders": head["order_top"],
            "levels": head["level_top"],
            "nodes": head["node_top"] + NODES_A_LEVEL,
            "table": 2 * head["order_count"] + ROOM,
            "tape": 2 * head["tape_count"] + ROOM,
        }
        for name, count in used.items():
            index = Core._fields.index(name)
            old = self._arrays[index]
            if count + ROOM > len(old):
                new = self._arrays[index] = _array(index, 2 * len(old))
                if name in ("table", "tape"):
                    rehash(old, new)
                else:
                    new[: len(old)] = old
                self._publish(index)
