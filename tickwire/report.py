"""The report of a run: a page with its figures and plots, nothing to be loaded from elsewhere."""

import io
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import jinja2
import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from protocol.orders import Side
from protocol.units import NS_PER_SECOND, PRICE_SCALE
from sw.analytics import HALF_PRICE_SCALE, SymbolResult

POINTS_MAX = 4_000
"""Points drawn in one line; longer ones are thinned."""


def write_report(
    path: Path,
    title: str,
    figures: Sequence[tuple[str, str]],
    symbols: Mapping[str, SymbolResult],
) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
        Where to.
    title : str
        What was run.
    figures : sequence of pairs of str
        Rows of the table: name and value.
    symbols : mapping of str to SymbolResult
        What to plot, by symbol.
    """
    template = files("tickwire").joinpath("report.html").read_text(encoding="utf-8")
    page = jinja2.Environment(autoescape=True).from_string(template)
    plots = {stock: Markup(_plot(stock, result)) for stock, result in symbols.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page.render(title=title, figures=figures, plots=plots), encoding="utf-8")


def _plot(stock: str, result: SymbolResult) -> str:
    """Return one symbol's three plots as SVG: mid with fills, inventory, profit and loss."""
    # A fixed salt and no date make one run's page the same byte for byte.
    with mpl.rc_context({"svg.hashsalt": "tickwire", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(10, 7), layout="constrained")
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(2, 1, 1))
        step = max(len(result.ts_ns) // POINTS_MAX, 1)
        seconds = [ts_ns / NS_PER_SECOND for ts_ns in result.ts_ns[::step]]
        _draw_mid(axes[0], seconds, result, step)
        axes[1].step(seconds, result.positions[::step], where="post", color="tab:purple")
        axes[1].set_ylabel("inventory, shares")
        pnl = [value / HALF_PRICE_SCALE for value in result.pnl_2[::step]]
        axes[2].step(seconds, pnl, where="post", color="tab:green")
        axes[2].set_ylabel("P&L to mid, USD")
        axes[2].xaxis.set_major_formatter(lambda value, _: _clock(value))
        for axis in axes:
            axis.grid(alpha=0.3)
        figure.suptitle(stock)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()[out.getvalue().index("<svg") :]


def _draw_mid(axis: Axes, seconds: list[float], result: SymbolResult, step: int) -> None:
    mid = [value / HALF_PRICE_SCALE for value in result.mid_2[::step]]
    axis.step(seconds, mid, where="post", color="0.4", linewidth=0.8, label="mid")
    for side, marker, colour, label in (
        (Side.BUY, "^", "tab:blue", "we bought"),
        (Side.SELL, "v", "tab:red", "we sold"),
    ):
        fills = [fill for fill in result.fills if fill.side is side]
        times = [fill.ts_ns / NS_PER_SECOND for fill in fills]
        prices = [fill.price / PRICE_SCALE for fill in fills]
        axis.scatter(times, prices, s=14, marker=marker, color=colour, label=label, zorder=3)
    axis.set_ylabel("price, USD")
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.legend(loc="upper left")


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"
