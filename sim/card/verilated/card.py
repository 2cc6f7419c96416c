"""The Verilated card: the RTL in the host's process, stepped by the calls of the simulation."""

import ctypes
import errno
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from hw.rtl.csr import ADDRESS_BITS
from hw.rtl.params import CardParams
from protocol import registers
from protocol.ring import CONTROL, RECORD_SIZE, RecordType
from sim.card.port import Port
from sim.card.verilated.build import build
from sim.card.verilated.snapshot import Signal, read_snapshot
from sim.card.waves import Waves
from sw.ring import ring_size

CLOCK_PS = {1: 8_000, 8: 6_400}
"""Period of the clock that line rate needs, by bytes a beat."""

_QUIET = 160
"""Cycles without a move at the card's edges after which everything that was under way is done: it
is longer than the longest pause between two moves, a ring's look at its control line."""
_LONGEST = 1_000_000
_AROUND = "TOP.card.component."
"""What stands around the card in a snapshot: Verilator's own top, and the one with flat ports."""
_FRAME_MAX = 2_048


class CardFaultError(Exception):
    """The card touched host memory beyond its end, sent a frame with a wrong check sequence, or did
    not start."""


class VerilatedCard:
    """The RTL behind the interface of a card.

    Time comes with every call, as for the functional card, in ns; within a call it goes on with the
    card's clock. Each call runs the card until nothing moves any more. The same calls give the same
    cycles.

    Parameters
    ----------
    memory : memoryview
        Host memory that holds the rings.
    params : CardParams
        What to build.
    transmit : callable
        Takes every frame that leaves the order port.
    time_stands : bool
        Whether card time stands still within a call, as it does on the functional card, so that
        records carry the same times. Latencies are then all 0.
    waves : Waves, optional
        Where waves are written, as VCD, and of which cycles. Such a card is built apart, and
        slower.
    on_progress : callable
        Called now and then while the card sweeps its memories, which takes long.
    visible : bool
        Whether :meth:`signals` can be asked for. Such a card is built as one with waves is.

    Attributes
    ----------
    cycle : int
        Cycles since the card was made.
    """

    def __init__(
        self,
        memory: memoryview,
        params: CardParams,
        transmit: Callable[[bytes], None] = lambda frame: None,
        time_stands: bool = False,
        waves: Waves | None = None,
        on_progress: Callable[[], None] = lambda: None,
        visible: bool = False,
    ):
        self.memory = memory
        self.params = params
        self._transmit = transmit
        self._on_progress = on_progress
        library = build(params, visible or waves is not None)
        period_ps = 0 if time_stands else CLOCK_PS[params.width]
        self._call = _functions(library)
        # Kept, since the card holds its address and no more.
        self._bytes = (ctypes.c_uint8 * len(memory)).from_buffer(memory)
        self._card = self._call.card_new(self._bytes, len(memory), period_ps)
        self._sent = (ctypes.c_uint8 * _FRAME_MAX)()
        if waves is not None:
            cycles = waves.cycles
            path = str(waves.path).encode()
            if not self._call.card_trace(self._card, path, cycles.start, cycles.stop):
                self.close()
                raise OSError(errno.EIO, "cannot be written as waves", str(waves.path))
        self.reset()

    @property
    def cycle(self) -> int:
        return int(self._call.card_cycle(self._card))

    def reset(self) -> None:
        """Return to the state after power-up: no rings, no symbols, no limits, killed."""
        self._call.card_reset(self._card)
        self._show_commands(0)

    def signals(self) -> dict[str, Signal]:
        """Return every named signal as it is now, by its path in the card: ``feed.messages``.

        Memories are not among them. Raises ``OSError`` for a card that is not visible.
        """
        with TemporaryDirectory() as folder:
            path = Path(folder, "now.vcd")
            if not self._call.card_snapshot(self._card, str(path).encode()):
                raise OSError("no signal can be seen: the card must be visible")
            with path.open() as file:
                found = read_snapshot(file)
        return {
            name.removeprefix(_AROUND): signal
            for name, signal in found.items()
            if name.startswith(_AROUND) and not name.rpartition(".")[2].startswith("$")
        }

    def close(self) -> None:
        """Stop, and let go of the rings' memory; a closed card is of no more use."""
        if self._card:
            self._call.card_delete(self._card)
            self._card = None
            del self._bytes

    # The host's side.

    def read(self, address: int) -> int:
        """Return a register's 64 bits; 0 where there is none."""
        if address % registers.STRIDE or address >> ADDRESS_BITS:
            return 0
        return int(self._call.card_read(self._card, address))

    def write(self, address: int, value: int) -> None:
        """Write a register. Nothing happens at read-only addresses."""
        if address % registers.STRIDE or address >> ADDRESS_BITS:
            return
        self._call.card_write(self._card, address, value & 0xFFFF_FFFF_FFFF_FFFF)
        if address == registers.CONTROL.address() and value & 1:
            self._show_commands(0)
            self._start()

    def _start(self) -> None:
        """Run until memories are swept."""
        for _ in range(_LONGEST // _QUIET):
            if self._call.card_running(self._card):
                return
            self._call.card_run(self._card, _QUIET, 0)
            self._on_progress()
        raise CardFaultError(f"CARD_DOES_NOT_START: cycle={self.cycle}")

    def _show_commands(self, visible: int) -> None:
        """Let the card see so many commands, as counted from the start of the ring."""
        base = self.read(registers.COMMAND_BASE.address())
        slots = self.read(registers.COMMAND_SLOTS.address())
        self._call.card_commands(self._card, base, base + ring_size(slots), visible)

    # The wire's side.

    def receive(self, port: Port, frame: bytes, now_ns: int) -> None:
        """Take a frame without its FCS from a port."""
        self._set_time(now_ns)
        self._call.card_frame(self._card, int(port), frame, len(frame))
        # Answers are read at a byte a cycle.
        self._run(_QUIET + (len(frame) if port is Port.ORDER else 0))

    def advance(self, now_ns: int) -> None:
        """Let time pass: gaps run out, a silent host is noticed, waiting records are written."""
        self._set_time(now_ns)
        self._run()

    def poll_commands(self, now_ns: int, most: int | None = None) -> int:
        """Take commands that stand in the ring and can be answered, ``most`` of them at the most.

        Returns how many were taken.
        """
        self._set_time(now_ns)
        first = seen = self._commands_taken()
        self._show_commands((1 << 63) if most is None else first + most)
        self._run()
        while (taken := self._commands_taken()) > seen:
            clears = any(self._command_type(n) == RecordType.BOOK_CLEAR for n in range(seen, taken))
            seen = taken
            if clears:  # A walk through all orders, and nothing moves at the card's edges.
                self._run(self.params.order_count)
        self._show_commands(seen)
        return seen - first

    def _command_type(self, number: int) -> int:
        """Return the type of a command, the ring's first one having number 0."""
        first = self.read(registers.COMMAND_BASE.address()) + CONTROL.size
        slot = number % self.read(registers.COMMAND_SLOTS.address())
        return self.memory[first + slot * RECORD_SIZE]

    def _commands_taken(self) -> int:
        return self.read(registers.COMMANDS_RECEIVED.address())

    def _set_time(self, now_ns: int) -> None:
        if now_ns > self._call.card_time(self._card):
            self._call.card_set_time(self._card, now_ns)

    def _run(self, quiet: int = _QUIET) -> None:
        """Run until nothing moves, and hand on what was sent."""
        self._call.card_run(self._card, _LONGEST, quiet)
        while size := self._call.card_sent(self._card, self._sent, len(self._sent)):
            self._transmit(bytes(self._sent[:size]))
        faults = self._call.card_faults(self._card)
        if faults:
            raise CardFaultError(f"CARD_FAULT: cycle={self.cycle}, faults={faults}")


def _functions(library: Path) -> ctypes.CDLL:
    """Return the shim's functions, typed."""
    call = ctypes.CDLL(str(library))
    card, u64, u32 = ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint32
    data = ctypes.POINTER(ctypes.c_uint8)
    for name, result, arguments in (
        ("card_new", card, (data, u64, u64)),
        ("card_delete", None, (card,)),
        ("card_reset", None, (card,)),
        ("card_frame", None, (card, ctypes.c_int, ctypes.c_char_p, u64)),
        ("card_run", u64, (card, u64, u64)),
        ("card_write", None, (card, u32, u64)),
        ("card_read", u64, (card, u32)),
        ("card_running", ctypes.c_int, (card,)),
        ("card_cycle", u64, (card,)),
        ("card_time", u64, (card,)),
        ("card_set_time", None, (card, u64)),
        ("card_faults", u64, (card,)),
        ("card_commands", None, (card, u64, u64, u64)),
        ("card_sent", u64, (card, data, u64)),
        ("card_trace", ctypes.c_int, (card, ctypes.c_char_p, u64, u64)),
        ("card_snapshot", ctypes.c_int, (card, ctypes.c_char_p)),
    ):
        function = getattr(call, name)
        function.restype, function.argtypes = result, arguments
    return call
