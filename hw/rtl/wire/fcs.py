"""The frame check sequence: CRC-32 over a beat of bytes a cycle. [IEEE 802.3: 3.2.9]"""

from collections.abc import Callable

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import crc, wiring
from amaranth.lib.wiring import In, Out

SIZE = 4
"""Size of the frame check sequence, in bytes."""

_ALGORITHM = crc.catalog.CRC32_ETHERNET
_WIDTH_BITS = _ALGORITHM.crc_width
_MASK = (1 << _WIDTH_BITS) - 1
# The register is kept reflected: its bit 0 is the first bit on the wire.
_POLYNOMIAL = int(f"{_ALGORITHM.polynomial:0{_WIDTH_BITS}b}"[::-1], 2)
_INIT = _ALGORITHM.initial_crc

RESIDUE: int = _ALGORITHM(8).residue()
"""What the register holds after a frame and its right check sequence. [IEEE 802.3: 3.2.9]"""

_Columns = tuple[int, ...]


def _forward(state: int) -> int:
    """The register after a byte of zeros."""
    for _ in range(8):
        state = state >> 1 ^ (_POLYNOMIAL if state & 1 else 0)
    return state


def _backward(state: int) -> int:
    """The register before a byte of zeros: the inverse of :func:`_forward`."""
    top = 1 << (_WIDTH_BITS - 1)
    for _ in range(8):
        state = (state ^ _POLYNOMIAL) << 1 | 1 if state & top else state << 1
    return state & _MASK


def _repeat(step: Callable[[int], int], times: int, state: int) -> int:
    for _ in range(times):
        state = step(state)
    return state


def _columns(step: Callable[[int], int], times: int) -> _Columns:
    """The matrix of a step taken some times: what each bit of the register becomes."""
    return tuple(_repeat(step, times, 1 << bit) for bit in range(_WIDTH_BITS))


def _product(columns: _Columns, bits: Value) -> Value:
    """The bits times the matrix: for each bit of the result the parity of some of them."""
    rows = []
    for row in range(_WIDTH_BITS):
        taken = sum((column >> row & 1) << place for place, column in enumerate(columns))
        rows.append((bits & Const(taken, len(columns))).xor())
    return Cat(rows)


class FrameCheck(wiring.Component):
    """Computes the CRC-32 of a frame, ``width`` bytes a cycle.

    Lanes without a byte count as zeros, so that the loop through the register is one fixed matrix
    whatever the beat holds. Zeros before the first byte are put right by the initial value, zeros
    after the last by what is read from the register: ``good`` compares with the residue moved on by
    as many bytes, ``fcs`` moves the register back. Neither is in the loop.

    Latency is 1 cycle. Throughput is 1 beat per cycle.

    Parameters
    ----------
    width : int
        Bytes a beat, 1 or 8.

    Members
    -------
    en : ``In(1)``
        There is a beat.
    data : ``In(unsigned(8 * width))``
        Bytes, the earliest in lane 0.
    start : ``In(range(width))``
        First lane with a byte. May differ from 0 in the first beat only.
    count : ``In(range(width + 1))``
        Lanes with a byte. With ``start`` it may differ from ``width`` in the last beat only.
    first : ``In(1)``
        The beat begins a frame.
    fcs : ``Out(unsigned(32))``
        Check sequence of the bytes so far, the byte to send first in bits 7:0.
    good : ``Out(1)``
        The last four bytes so far are the check sequence of those before them.

    Raises
    ------
    ValueError
        If ``width`` is neither 1 nor 8.

    [IEEE 802.3: 3.2.9]
    """

    def __init__(self, width: int) -> None:
        if width not in (1, 8):
            raise ValueError(f"width must be 1 or 8, not {width!r}")
        self.width = width
        super().__init__(
            {
                "en": In(1),
                "data": In(unsigned(8 * width)),
                "start": In(range(width)),
                "count": In(range(width + 1)),
                "first": In(1),
                "fcs": Out(unsigned(_WIDTH_BITS)),
                "good": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width = self.width
        end = Signal(range(width + 1))
        m.d.comb += end.eq(self.start + self.count)

        # A byte in lane n has the lanes above it still to come, as zeros at least.
        s0_data = Signal(8 * width)
        term = Signal(_WIDTH_BITS)
        columns: _Columns = ()
        for lane in range(width):
            used = (lane >= self.start) & (lane < end)
            byte = self.data.word_select(lane, 8)
            m.d.comb += s0_data.word_select(lane, 8).eq(byte & used.replicate(8))
            columns += _columns(_forward, width - lane)[:8]
        m.d.comb += term.eq(_product(columns, s0_data))

        # Stage 1: the register, and how many lanes of zeros it has gone too far.
        s1_state = Signal(_WIDTH_BITS, init=_INIT)
        s1_excess = Signal(range(width + 1))
        initial = Array(
            Const(_repeat(_forward, width - lane, _INIT), _WIDTH_BITS) for lane in range(width)
        )[self.start]
        with m.If(self.en):
            moved = _product(_columns(_forward, width), s1_state)
            m.d.sync += [
                s1_state.eq(Mux(self.first, initial, moved) ^ term),
                s1_excess.eq(width - end),
            ]

        residues = [_repeat(_forward, excess, RESIDUE) for excess in range(width)]
        m.d.comb += [
            self.good.eq(Cat(s1_state == residue for residue in residues).bit_select(s1_excess, 1)),
            self.fcs.eq(
                Array(_product(_columns(_backward, excess), s1_state) for excess in range(width))[
                    s1_excess
                ]
                ^ _ALGORITHM.xor_output
            ),
        ]
        return m
