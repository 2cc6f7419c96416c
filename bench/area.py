"""Area and clock of each stage, placed and routed alone on an ECP5."""

from collections.abc import Callable

from amaranth.lib import wiring

from bench.place import TARGETS_MHZ, Placed, place
from bench.results import Result, publish
from hw.rtl.book.book import Book
from hw.rtl.book.levels import Levels
from hw.rtl.book.orders import OrderMap
from hw.rtl.params import WIDTHS, CardParams
from hw.rtl.parse.parse import Parse
from hw.rtl.risk import Gate
from hw.rtl.wire.arbiter import Arbiter
from hw.rtl.wire.gmii import GmiiReceiver, GmiiTransmitter
from hw.rtl.wire.line import Line
from hw.rtl.wire.xgmii import XgmiiReceiver, XgmiiTransmitter

HEARTBEAT_CYCLES = 1_562_500  # 10 ms.
METHOD = (
    "yosys, nextpnr-ecp5, LFE5UM5G-85F grade 8, ports registered, seed 1; "
    "block RAMs of the order map at the sites of bench/floorplan.py"
)


def stages(width: int) -> dict[str, Callable[[], wiring.Component]]:
    """Return what is placed, by name; parts of the book beside the whole."""
    params = CardParams(width=width)
    receiver, transmitter = (
        (GmiiReceiver, GmiiTransmitter) if width == 1 else (XgmiiReceiver, XgmiiTransmitter)
    )
    found: dict[str, Callable[[], wiring.Component]] = {
        "mac receive": receiver,
        "mac transmit": transmitter,
        "line": lambda: Line(width),
        "arbiter": lambda: Arbiter(params),
        "parse": lambda: Parse(params),
    }
    if width == max(WIDTHS):  # These have no width; they are placed for the faster clock.
        found |= {
            "book": lambda: Book(params),
            "book: order map": lambda: OrderMap(params.order_count, params.symbol_count),
            "book: levels": lambda: Levels(params.symbol_count, params.level_count),
            "risk": lambda: Gate(
                symbol_count=64,
                trader_count=16,
                desk_count=16,
                heartbeat_cycles_max=HEARTBEAT_CYCLES,
            ),
        }
    return found


def measure() -> list[str]:
    """Place every stage; return broken budgets."""
    results = []
    for width in sorted(WIDTHS, reverse=True):
        for name, build in stages(width).items():
            print(f"placing {name} at {width} bytes a beat", flush=True)
            placed = place(
                build(), f"w{width}_{name.replace(' ', '_').replace(':', '')}", TARGETS_MHZ[width]
            )
            results += _figures(f"w{width} {name}", placed)
    return publish("area", results)


def _figures(name: str, placed: Placed) -> list[Result]:
    figures = [Result(f"{name}: clock", round(placed.mhz, 2), "MHz", "higher", METHOD)]
    for what in ("lut", "ff", "bram"):
        value = getattr(placed, what)
        figures.append(Result(f"{name}: {what}", value, what.upper(), "lower", METHOD))
    return figures
