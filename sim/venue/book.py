"""How orders get into and out of the matching engine's books: jitted functions, no allocation.

Levels of a book are linked by price and found by a trie, in which seven digits of 5 bits make up a
price: no price is out of reach, and no step depends on how deep the book is. Ids are found by
hashing with linear probing; a deleted entry leaves no mark behind.
"""

from typing import Any

import numpy as np

from sim.venue.records import (
    BUYS,
    DIGIT_BITS,
    FANOUT,
    HIDDEN,
    MASK,
    NODES_A_LEVEL,
    NONE,
    PARENT,
    SELLS,
    SESSIONS,
    SHIFT_MAX,
    book_at,
    events_of,
    head_of,
    level_at,
    levels_of,
    nodes_of,
    order_at,
    orders_of,
    table_of,
    tape_of,
)
from sw.jit import jit

ROOM = 8
"""Records that are free before a step: no step of the rules uses more of any kind."""

# Powers of two are all different modulo 37.
_BIT_OF = np.zeros(37, np.int64)
for _bit in range(FANOUT):
    _BIT_OF[(1 << _bit) % 37] = _bit


@jit
def _lowest(mask: int) -> int:
    """Return the number of the lowest bit that is set."""
    return _BIT_OF[(mask & -mask) % 37]


# Ids.


@jit
def home(table: Any, key: int) -> int:
    """Return where the search for a key begins."""
    # Multiplicative, in 31 bits so that nothing overflows in plain Python either.
    mixed = (key ^ (key >> 31)) & 0x7FFF_FFFF
    return ((mixed * 0x61C8_8647) >> 15) & (len(table) - 1)


@jit
def find(table: Any, key: int) -> int:
    """Return the slot of a key, or NONE."""
    mask = len(table) - 1
    at = home(table, key)
    while table[at]["slot"] != NONE:
        if table[at]["key"] == key:
            return table[at]["slot"]
        at = (at + 1) & mask
    return NONE


@jit
def insert(table: Any, key: int, slot: int) -> None:
    """Put in a key that is not there."""
    mask = len(table) - 1
    at = home(table, key)
    while table[at]["slot"] != NONE:
        at = (at + 1) & mask
    table[at]["key"] = key
    table[at]["slot"] = slot


@jit
def erase(table: Any, key: int) -> None:
    """Take out a key that is there; entries behind it move up, so that no probe ends early."""
    mask = len(table) - 1
    hole = home(table, key)
    while table[hole]["key"] != key or table[hole]["slot"] == NONE:
        hole = (hole + 1) & mask
    at = (hole + 1) & mask
    while table[at]["slot"] != NONE:
        wanted = home(table, table[at]["key"])
        if ((at - wanted) & mask) >= ((at - hole) & mask):
            table[hole]["key"] = table[at]["key"]
            table[hole]["slot"] = table[at]["slot"]
            hole = at
        at = (at + 1) & mask
    table[hole]["slot"] = NONE


# Records that are given out and given back.


@jit
def has_room(core: int) -> bool:
    """Whether every array has room for one more step."""
    head = head_of(core)
    return (
        head["event_count"] + ROOM <= len(events_of(core))
        and head["order_top"] + ROOM <= len(orders_of(core))
        and head["level_top"] + ROOM <= len(levels_of(core))
        and head["node_top"] + ROOM + NODES_A_LEVEL <= len(nodes_of(core))
        and 2 * (head["order_count"] + ROOM) <= len(table_of(core))
        and 2 * (head["tape_count"] + ROOM) <= len(tape_of(core))
    )


@jit
def new_order(head: Any, orders: Any) -> int:
    """Return the slot of an order that nobody uses. What stands in it is of no meaning."""
    slot = head["order_free"]
    if slot != NONE:
        head["order_free"] = orders[slot]["next"]
        return slot
    head["order_top"] += 1
    return head["order_top"]


@jit
def free_order(head: Any, orders: Any, slot: int) -> None:
    """Give an order's slot back."""
    orders[slot]["next"] = head["order_free"]
    head["order_free"] = slot


@jit
def _new_node(head: Any, nodes: Any, parent: int) -> int:
    node = head["node_free"]
    if node != NONE:
        head["node_free"] = nodes[node, PARENT]
    else:
        head["node_top"] += 1
        node = head["node_top"]
    nodes[node, PARENT] = parent
    return node


# Levels.


@jit
def book_of(locate: int, session: int, side: int) -> int:
    """Return the index of a book; ``side`` is BUYS or SELLS."""
    return (locate * SESSIONS + session) * 2 + side


@jit
def side_of(book: int) -> int:
    """Return BUYS or SELLS."""
    return book & 1


@jit
def best_level(core: int, book: int) -> int:
    """Return the level that trades first."""
    row = book_at(core, book)
    return row["highest"] if side_of(book) == BUYS else row["lowest"]


@jit
def next_level(core: int, level: int) -> int:
    """Return the level that trades after a level of the same book."""
    row = level_at(core, level)
    return row["lower"] if side_of(row["book"]) == BUYS else row["higher"]


@jit
def _level_of_price(core: int, book: int, price: int) -> int:
    """Return the level of a price, made if it was not there."""
    head, nodes, row = head_of(core), nodes_of(core), book_at(core, book)
    node = row["root"]
    if node == NONE:
        node = _new_node(head, nodes, NONE)
        row["root"] = node
    above, above_shift = NONE, 0  # The last node on the way that leads to higher prices too.
    for shift in range(SHIFT_MAX, 0, -DIGIT_BITS):
        digit = (price >> shift) & (FANOUT - 1)
        if nodes[node, MASK] >> (digit + 1) != 0:
            above, above_shift = node, shift
        child = nodes[node, digit]
        if child == NONE:
            child = _new_node(head, nodes, node)
            nodes[node, digit] = child
            nodes[node, MASK] |= 1 << digit
        node = child
    digit = price & (FANOUT - 1)
    if nodes[node, digit] != NONE:
        return nodes[node, digit]
    if nodes[node, MASK] >> (digit + 1) != 0:
        above, above_shift = node, 0
    higher = NONE
    if above != NONE:
        first = ((price >> above_shift) & (FANOUT - 1)) + 1
        higher = nodes[above, first + _lowest(nodes[above, MASK] >> first)]
        while above_shift > 0:
            higher = nodes[higher, _lowest(nodes[higher, MASK])]
            above_shift -= DIGIT_BITS
    level = _new_level(core, book, price, higher)
    nodes[node, digit] = level
    nodes[node, MASK] |= 1 << digit
    level_at(core, level)["leaf"] = node
    return level


@jit
def _new_level(core: int, book: int, price: int, higher: int) -> int:
    head, levels, row = head_of(core), levels_of(core), book_at(core, book)
    level = head["level_free"]
    if level != NONE:
        head["level_free"] = levels[level]["higher"]
    else:
        head["level_top"] += 1
        level = head["level_top"]
    lower = row["highest"] if higher == NONE else levels[higher]["lower"]
    new = levels[level]
    new["price"] = price
    new["book"] = book
    new["lower"] = lower
    new["higher"] = higher
    if lower == NONE:
        row["lowest"] = level
    else:
        levels[lower]["higher"] = level
    if higher == NONE:
        row["highest"] = level
    else:
        levels[higher]["lower"] = level
    return level


@jit
def _free_level(core: int, level: int) -> None:
    """Take out a level that has no orders, and the nodes that lead to it alone."""
    head, levels, nodes = head_of(core), levels_of(core), nodes_of(core)
    gone = levels[level]
    row, lower, higher = book_at(core, gone["book"]), gone["lower"], gone["higher"]
    if lower == NONE:
        row["lowest"] = higher
    else:
        levels[lower]["higher"] = higher
    if higher == NONE:
        row["highest"] = lower
    else:
        levels[higher]["lower"] = lower
    node, shift = gone["leaf"], 0
    while True:
        digit = (gone["price"] >> shift) & (FANOUT - 1)
        nodes[node, digit] = NONE
        nodes[node, MASK] ^= 1 << digit
        parent = nodes[node, PARENT]
        if nodes[node, MASK] != 0 or parent == NONE:
            break
        nodes[node, PARENT] = head["node_free"]
        head["node_free"] = node
        node = parent
        shift += DIGIT_BITS
    gone["higher"] = head["level_free"]
    head["level_free"] = level


# Orders in their level.


@jit
def _append(orders: Any, row: Any, slot: int) -> None:
    order = orders[slot]
    order["next"] = NONE
    if order["flags"] & HIDDEN:
        last = row["last_hidden"]
        row["last_hidden"] = slot
        if last == NONE:
            row["first_hidden"] = slot
    else:
        last = row["last_shown"]
        row["last_shown"] = slot
        if last == NONE:
            row["first_shown"] = slot
    order["previous"] = last
    if last != NONE:
        orders[last]["next"] = slot


@jit
def _detach(orders: Any, row: Any, slot: int) -> None:
    order = orders[slot]
    before, behind = order["previous"], order["next"]
    if before != NONE:
        orders[before]["next"] = behind
    elif order["flags"] & HIDDEN:
        row["first_hidden"] = behind
    else:
        row["first_shown"] = behind
    if behind != NONE:
        orders[behind]["previous"] = before
    elif order["flags"] & HIDDEN:
        row["last_hidden"] = before
    else:
        row["last_shown"] = before


@jit
def show(core: int, slot: int, shown_qty: int) -> None:
    """Change how many shares of an order are displayed, from none or to none as well."""
    order = order_at(core, slot)
    row = level_at(core, order["level"])
    was = order["shown_qty"]
    order["shown_qty"] = shown_qty
    row["shown_qty"] += shown_qty - was
    if was == 0 and shown_qty > 0:
        row["shown_orders"] += 1
        if row["shown_orders"] == 1:
            book_at(core, row["book"])["shown_levels"] += 1
    elif was > 0 and shown_qty == 0:
        row["shown_orders"] -= 1
        if row["shown_orders"] == 0:
            book_at(core, row["book"])["shown_levels"] -= 1


@jit
def part_to_show(order: Any) -> int:
    """Return how many shares an order displays at most, of those that it has left."""
    if order["flags"] & HIDDEN:
        return 0
    floor, leaves_qty = order["max_floor"], order["leaves_qty"]
    return floor if 0 < floor < leaves_qty else leaves_qty


@jit
def link(core: int, book: int, slot: int) -> None:
    """Put an order behind all others of its price, and display its part."""
    order = order_at(core, slot)
    level = _level_of_price(core, book, order["price"])
    order["level"] = level
    order["shown_qty"] = 0
    _append(orders_of(core), level_at(core, level), slot)
    show(core, slot, part_to_show(order))


@jit
def unlink(core: int, slot: int) -> None:
    """Take an order out of its level, and the level away if it was the last one."""
    order = order_at(core, slot)
    level = order["level"]
    row = level_at(core, level)
    if order["shown_qty"] > 0:
        show(core, slot, 0)
    _detach(orders_of(core), row, slot)
    order["level"] = NONE
    if row["first_shown"] == NONE and row["first_hidden"] == NONE:
        _free_level(core, level)


@jit
def requeue(core: int, slot: int) -> None:
    """Put an order behind the others of its queue."""
    row = level_at(core, order_at(core, slot)["level"])
    _detach(orders_of(core), row, slot)
    _append(orders_of(core), row, slot)


@jit
def reaches(buys: bool, limit: int, price: int) -> bool:
    """Whether an order with this limit trades at a price of the other side."""
    return limit >= price if buys else limit <= price


@jit
def opposite_book(book: int) -> int:
    """Return the book that orders of a book trade with."""
    return book ^ SELLS
