"""Which configured symbol a stock locate stands for: told by the host, or learnt by name."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.rtl.book import check_power_of_two, wires

LOCATE_BITS = 16
NAME_BITS = 64
SYMBOL_COUNT_MAX = 1 << 12
CHUNK_BITS = 16
"""Names are compared in parts of this width, which are combined a cycle later."""


class Locates(wiring.Component):
    """Finds the symbol of a stock locate, all at once.

    The host sets a symbol's locate, or its name; a directory message that has a symbol's name sets
    that symbol's locate. Two symbols must never have one locate or one name: locates are of one day
    alone, and those of another are to be taken away first. [ITCH 5.0: 1.2.1]

    Latency is 1 cycle from ``hint_stb`` to the answer, which stays until the next one. A locate
    that ``directory_stb`` teaches is known to a look-up in the next cycle. Throughput of both is
    1 a cycle.

    Parameters
    ----------
    symbol_count : int
        Symbols; a power of two.

    Members
    -------
    hint_stb, hint_locate : ``In``
        A locate to look up.
    blocked : ``In(symbol_count)``
        Symbols that do not count as known.
    directory_stb, directory_locate, directory_name : ``In``
        A directory message, its ``name`` with the first character in bits 7:0.
    locate_stb, locate_index, locate_valid, locate : ``In``
        Sets the locate of a symbol, or takes it away. None has one after reset.
    name_stb, name_index, name_valid, name_stock : ``In``
        Sets the name of a symbol, or takes it away. None has one after reset.
    index : ``Out(range(symbol_count))``
        The symbol that was found, if one was.
    known : ``Out(1)``
        Whether one was found that is not blocked.
    unknown : ``Out(1)``
        Whether none was found, blocked or not.

    Raises
    ------
    TypeError, ValueError
        If ``symbol_count`` is not one.
    """

    LATENCY = 1

    def __init__(self, symbol_count: int):
        check_power_of_two("symbol_count", symbol_count, 2, SYMBOL_COUNT_MAX)
        self.symbol_count = symbol_count
        super().__init__(
            {
                "hint_stb": In(1),
                "hint_locate": In(LOCATE_BITS),
                "blocked": In(symbol_count),
                "directory_stb": In(1),
                "directory_locate": In(LOCATE_BITS),
                "directory_name": In(NAME_BITS),
                "locate_stb": In(1),
                "locate_index": In(range(symbol_count)),
                "locate_valid": In(1),
                "locate": In(LOCATE_BITS),
                "name_stb": In(1),
                "name_index": In(range(symbol_count)),
                "name_valid": In(1),
                "name_stock": In(NAME_BITS),
                "index": Out(range(symbol_count)),
                "known": Out(1),
                "unknown": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        symbols = range(self.symbol_count)

        def held(shape, name):
            return Signal(shape, name=name, reset_less=True)

        name_valid = Signal(self.symbol_count)
        names = [held(NAME_BITS, f"name_{i}") for i in symbols]
        locate_valid = Signal(self.symbol_count)
        locates = [held(LOCATE_BITS, f"locate_{i}") for i in symbols]

        # A directory message's name is compared with every symbol's, in parts.
        taught = Signal()
        taught_locate = held(LOCATE_BITS, "taught_locate")
        taught_is_hinted = taught_locate == self.hint_locate
        m.d.sync += [taught.eq(self.directory_stb), taught_locate.eq(self.directory_locate)]
        matches = []
        for i in symbols:
            equal = held(NAME_BITS // CHUNK_BITS, f"name_equal_{i}")
            for chunk in range(NAME_BITS // CHUNK_BITS):
                m.d.sync += equal[chunk].eq(
                    names[i].word_select(chunk, CHUNK_BITS)
                    == self.directory_name.word_select(chunk, CHUNK_BITS)
                )
            taught_here = taught & name_valid[i] & equal.all()
            with m.If(taught_here):
                m.d.sync += [locate_valid[i].eq(1), locates[i].eq(taught_locate)]
            with m.If(self.locate_stb & (self.locate_index == i)):
                m.d.sync += [locate_valid[i].eq(self.locate_valid), locates[i].eq(self.locate)]
            with m.If(self.name_stb & (self.name_index == i)):
                m.d.sync += [name_valid[i].eq(self.name_valid), names[i].eq(self.name_stock)]
            # Already looked up by what is being taught.
            is_locate = wires.equal(m, f"locate_{i}_equal", locates[i], self.hint_locate)
            is_match = Mux(taught_here, taught_is_hinted, locate_valid[i] & is_locate)
            matches.append(wires.kept(m, f"match_{i}", is_match))

        # Joined ahead of the answer: by two, of which the higher bits of an index are the same, and
        # the odd ones again by two.
        matches = Cat(matches)
        odd = matches[1::2]
        found_pairs = Signal(-(-len(matches) // 2))
        found_odd = Signal(-(-len(odd) // 2))
        known = Signal(len(found_pairs))
        with m.If(self.hint_stb):
            for found, every in (
                (found_pairs, matches),
                (found_odd, odd),
                (known, matches & ~self.blocked),
            ):
                for i in range(len(found)):
                    m.d.sync += found[i].eq(every[2 * i : 2 * i + 2].any())
        higher = (
            Cat(is_found for i, is_found in enumerate(found_pairs) if i >> bit & 1)
            for bit in range(len(self.index) - 1)
        )
        bits = [found_odd, *higher]
        m.d.comb += [
            self.index.eq(
                Cat(wires.any_of(m, f"index_{bit}", found) for bit, found in enumerate(bits))
            ),
            self.known.eq(known.any()),
            self.unknown.eq(~found_pairs.any()),
        ]
        return m
