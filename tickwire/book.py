"""`tickwire book`: every change of a best bid or offer, by golden model or by simulated card."""

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from protocol import registers, ring
from protocol.reasons import DropReason, StaleReason
from protocol.units import NS_PER_SECOND
from sim.card.functional import FunctionalCard
from sim.golden.book import EMPTY_BBO, Bbo, Book, Change
from sim.golden.moldudp64 import Arbiter, Event, Gap, Message
from sim.golden.parse import ParseError, parse
from sim.golden.wire import Datagram, parse_frame
from sw.card import HostMemory, read, write
from sw.feed import Feed, Quote
from sw.ring import RingReader, ring_size
from tickwire.capture import InputError, file_kind, read_itch
from tickwire.day import stock_of
from tickwire.lines import frames
from tickwire.outputs import check_output

GAP_TIMEOUT_NS = NS_PER_SECOND
"""How long a message of a capture that one line lost may come on the other."""

_MARKET_SLOTS = 1 << 17  # More than one frame can release, with all that waited for it.
_OTHER_SLOTS = 2
_ORDER_COUNT = 1 << 26


class By(StrEnum):
    """Who keeps the book."""

    GOLDEN = "golden"
    FUNCTIONAL = "functional"


class Row(NamedTuple):
    """One change: the columns of the CSV file. Prices in 1e-4 USD; 0 for an empty side."""

    message_number: int
    ts_ns: int
    symbol: str
    bid_price: int
    bid_qty: int
    bid_orders: int
    ask_price: int
    ask_qty: int
    ask_orders: int


def run(path: Path, csv_path: Path, by: By, symbols: frozenset[str]) -> None:
    """Write the rows to a CSV file, and one line about them to stderr.

    Raises :class:`InputError` where the file stops making sense; the rows before are written.
    """
    check_output(csv_path, (path,), device=True)
    wanted = symbols.__contains__ if symbols else lambda symbol: True
    stale: Counter[StaleReason] = Counter()
    rows = (golden_rows if by is By.GOLDEN else functional_rows)(path, wanted, stale)
    first = next(rows, None)  # A file that can not be read leaves no file behind.
    count = 0
    console = Console(stderr=True)
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.completed:,.0f} changes"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with csv_path.open("w", newline="", encoding="utf-8") as file, progress:
        task = progress.add_task("")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        if first is not None:
            writer.writerow(first)
            count = 1
        for count, row in enumerate(rows, start=2):
            writer.writerow(row)
            if count % 1000 == 0:
                progress.update(task, completed=count)
    print(f"{count:,} changes{_remark(stale)}", file=sys.stderr)


def _remark(stale: Counter[StaleReason]) -> str:
    if not stale:
        return ""
    reasons = ", ".join(f"{reason.name} {count:,}" for reason, count in sorted(stale.items()))
    return f"; stale symbols: {reasons}"


def golden_rows(
    path: Path, wanted: Callable[[str], bool], stale: Counter[StaleReason]
) -> Iterator[Row]:
    """Yield the rows by the golden model, then count the symbols that are stale in ``stale``."""
    book = Book()
    try:
        number = 0
        for event in _events(path):
            if isinstance(event, Gap):
                book.mark_gap()
            if not isinstance(event, Message):
                continue
            number += 1
            if not event.data:
                continue
            try:
                message = parse(event.data)
            except ParseError as error:
                raise InputError(path, f"message {number}: {error}") from None
            change = book.apply(message)
            if change is not None and change.price_or_size_changed:
                symbol = book.symbols.get(change.stock_locate, "")
                if wanted(symbol):
                    yield Row(number, message.timestamp, symbol, *change.bbo)
    finally:
        named = (locate for locate, symbol in book.symbols.items() if wanted(symbol))
        stale.update(book.stale[locate] for locate in named if locate in book.stale)


def functional_rows(
    path: Path, wanted: Callable[[str], bool], stale: Counter[StaleReason]
) -> Iterator[Row]:
    """Yield the rows by the functional card: frames in, records out of its market ring."""
    first, locates = _directory(path, wanted)
    stocks = list(locates)
    with HostMemory(ring_size(_MARKET_SLOTS) + 2 * ring_size(_OTHER_SLOTS)) as memory:
        card = FunctionalCard(memory, max(len(stocks), 1), _ORDER_COUNT)
        reader = _start(card, memory, locates, first)
        feed = Feed(reader, len(stocks), lambda record: None)
        try:
            written: dict[int, Bbo] = {}
            now_ns = 0
            for port, frame, now_ns in frames(path):
                card.receive(port, frame, now_ns)
                yield from _take(feed, stocks, written, first)
            card.advance(now_ns + GAP_TIMEOUT_NS + 1)
            yield from _take(feed, stocks, written, first)
            _check_used(path, card)
            lost = read(card, registers.BBO_CONFLATED)
            if lost:
                raise InputError(path, f"{lost:,} changes came too fast for the card's ring")
        finally:
            stale.update(quote.stale_reason for quote in feed.quotes if quote.stale)
            reader.close()
            card.close()


def _take(feed: Feed, stocks: Sequence[str], written: dict[int, Bbo], first: int) -> Iterator[Row]:
    """Take what stands in the market ring, and yield what differs from what was written last."""
    while (index := feed.poll()) is not None:
        if index == ring.ALL_MARKET:
            continue
        quote = feed.quotes[index]
        change = Change(index, _bbo(quote), written.get(index, EMPTY_BBO))
        written[index] = change.bbo
        if change.price_or_size_changed:
            number = quote.feed_sequence - first + 1 - feed.messages_lost
            yield Row(number, quote.ts_feed_ns, stocks[index], *change.bbo)


def _start(
    card: FunctionalCard, memory: memoryview, locates: Mapping[str, int], first: int
) -> RingReader:
    """Configure the card for these symbols and let it run. Returns its market ring's reader."""
    at = 0
    for base, register, slots in (
        (registers.MARKET_BASE, registers.MARKET_SLOTS, _MARKET_SLOTS),
        (registers.EXECUTION_BASE, registers.EXECUTION_SLOTS, _OTHER_SLOTS),
        (registers.COMMAND_BASE, registers.COMMAND_SLOTS, _OTHER_SLOTS),
    ):
        write(card, base, at)
        write(card, register, slots)
        at += ring_size(slots)
    for index, (stock, locate) in enumerate(locates.items()):
        name = int.from_bytes(stock.encode("latin-1").ljust(8), "little")
        write(card, registers.SYMBOL_STOCK, name, index)
        write(card, registers.SYMBOL_LOCATE, locate, index)
    write(card, registers.FEED_SEQUENCE, first)
    write(card, registers.FEED_GAP_TIMEOUT_NS, GAP_TIMEOUT_NS)
    write(card, registers.CONTROL, 1)
    return RingReader(memory, 0, _MARKET_SLOTS)


def _bbo(quote: Quote) -> Bbo:
    return Bbo(
        quote.bid_price,
        quote.bid_qty,
        quote.bid_orders,
        quote.ask_price,
        quote.ask_qty,
        quote.ask_orders,
    )


def _directory(path: Path, wanted: Callable[[str], bool]) -> tuple[int, dict[str, int]]:
    """Return the first sequence number, and the wanted symbols that are named, with their locates.

    A fault in the file ends the search; it is raised when the file is played.
    """
    first = 0
    locates: dict[str, int] = {}
    try:
        for event in _events(path):
            if isinstance(event, Message) and event.data:
                first = first or event.sequence_number
                named = stock_of(event.data)
                if named is not None and wanted(named[0]):
                    locates.setdefault(*named)
    except InputError:
        if first == 0:
            raise
    return first, locates


def _check_used(path: Path, card: FunctionalCard) -> None:
    """Refuse a capture of which the card used nothing, and say why it did not."""
    drops = [read(card, registers.DROPS, reason) for reason in DropReason]
    if any(drops) and not read(card, registers.MESSAGES_RECEIVED):
        reason = max(DropReason, key=lambda reason: drops[reason])
        raise InputError(path, f"the card dropped every frame, most for {reason.name}")
    _check_session(path, drops[DropReason.MOLD_SESSION])


def _check_session(path: Path, foreign: int) -> None:
    if foreign:
        raise InputError(path, f"{foreign:,} packets belong to another MoldUDP64 session")


# The file, as messages in order or as frames on two lines.


def _events(path: Path) -> Iterator[Event]:
    """Yield a file's messages in order, each once, and the gaps between them."""
    if file_kind(path) == "itch50":
        for item in read_itch(path):
            yield Message(item.number, item.data, 0)
        return
    arbiter = Arbiter(GAP_TIMEOUT_NS, next_sequence=None)
    now_ns = 0
    for line, frame, now_ns in frames(path):
        # Checksums in captures are often not filled in yet, or no longer right.
        datagram = parse_frame(frame, checksums=False)
        if isinstance(datagram, Datagram):
            yield from arbiter.receive(line, datagram.payload, now_ns)
    yield from arbiter.advance(now_ns + GAP_TIMEOUT_NS + 1)
    _check_session(path, arbiter.drops[DropReason.MOLD_SESSION])
