"""`tickwire peek`: signals of the card's RTL by name."""

from collections.abc import Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path

from protocol import registers
from sw.card import HostMemory, write
from sw.ring import RingReader, ring_size
from tickwire.capture import InputError
from tickwire.wire import open_file

_SLOTS = 1024


def run(
    patterns: Sequence[str], path: Path | None, message_count: int, symbols: int, orders: int
) -> None:
    """Play the first messages of a file and print what matches, one signal a line.

    Raises
    ------
    InputError
        If the file cannot be played, there can be no such card, or a pattern matches nothing.
    """
    # Loading Amaranth takes a second, and only cards in hardware need it.
    try:
        from hw.rtl.params import CardParams
        from sim.card.verilated import VerilatedCard
    except ImportError as error:
        raise InputError("tickwire peek", f"needs tickwire[hw]: {error}") from None
    try:
        params = CardParams(symbol_count=symbols, order_count=orders, open_order_count=64)
    except ValueError as error:
        raise InputError("tickwire peek", str(error)) from None
    day = None if path is None else open_file(path)
    with (
        HostMemory(3 * ring_size(_SLOTS)) as memory,
        closing(VerilatedCard(memory, params, visible=True)) as card,
    ):
        for number, (base, slots) in enumerate(_RINGS):
            write(card, base, number * ring_size(_SLOTS))
            write(card, slots, _SLOTS)
        locates = {} if day is None else day.locates
        for index, (stock, locate) in zip(range(symbols), locates.items(), strict=False):
            characters = int.from_bytes(stock.encode("latin-1").ljust(8), "little")
            write(card, registers.SYMBOL_STOCK, characters, index)
            write(card, registers.SYMBOL_LOCATE, locate, index)
        write(card, registers.CONTROL, 1)
        with closing(RingReader(memory, 0, _SLOTS)) as market:
            played = 0
            for sending in () if day is None else day.sendings():
                if played >= message_count:
                    break
                played += len(sending.messages)
                for port, frame in sending.frames:
                    card.receive(port, frame, sending.ts_ns)
                while market.poll() >= 0:
                    market.release()
        found = card.signals()
        cycle = card.cycle
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in found):
            raise InputError("tickwire peek", f"none of {len(found):,} signals matches {pattern!r}")
    print(f"cycle {cycle:,}, {played:,} messages")
    for name, signal in found.items():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            print(f"{name} {signal.width}'h{signal.value:x}")


_RINGS = (
    (registers.MARKET_BASE, registers.MARKET_SLOTS),
    (registers.EXECUTION_BASE, registers.EXECUTION_SLOTS),
    (registers.COMMAND_BASE, registers.COMMAND_SLOTS),
)
