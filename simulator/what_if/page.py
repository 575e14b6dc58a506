"""The page of a comparison: one HTML file with its pictures; equal data give equal pages."""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from market.money import MICROS
from simulator.what_if.comparison import COST
from simulator.what_if.words import (
    DIFFERENCE_COLUMNS,
    FORECAST_COLUMNS,
    WORDS,
    difference_rows,
    forecast_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from simulator.what_if.comparison import Comparison, Forecast
    from simulator.what_if.setting import Setting

_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#65a30d")
_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
  color: #1f2430; background: #fff; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #dde1e8; padding: .35rem .6rem; text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
.muted { color: #667085; } svg { max-width: 100%; height: auto; }
"""


def write_page(path: Path, comparison: Comparison, settings: Sequence[Setting]) -> None:
    """Writes the page of ``comparison``; ``settings`` in its order."""
    path.write_text(page_of(comparison, settings), "utf-8")


def page_of(comparison: Comparison, settings: Sequence[Setting]) -> str:
    """Returns the page as HTML."""
    title = (
        f"{_text(comparison.scenario)}: {len(settings)} settings over {comparison.periods} periods"
    )
    rows = ", ".join(map(str, comparison.rows))
    ways = [
        (
            setting.name, setting.law, f"{setting.gain:g}", f"{setting.budget_factor:g}",
            f"{setting.target_factor:g}",
        )
        for setting in settings
    ]  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"<h1>{title}</h1>"
        f'<p class="muted">Seed {comparison.seed}; advertisers {rows}. All settings played '
        "the same periods: the same opportunities, rivals and draws. Money in units of "
        "currency.</p>"
        "<h2>What was compared</h2>"
        + _table(("setting", "law", "gain", "budget x", "target x"), ways)
        + "<h2>What a period brings</h2>"
        '<p class="muted">Dot: half of the periods are below. Line: from the tenth '
        "to the ninetieth percentile.</p>"
        + _bands(comparison.forecasts)
        + _table(FORECAST_COLUMNS, forecast_rows(comparison))
        + _without(comparison.forecasts)
        + f"<h2>Against {_text(comparison.baseline)}, period by period</h2>"
        '<p class="muted">Mean of the paired differences with its 95 % interval. Where it '
        "holds 0 the comparison does not show a difference.</p>"
        + _differences(comparison)
        + _table(DIFFERENCE_COLUMNS, difference_rows(comparison))
        + "<h2>When the money goes</h2>"
        '<p class="muted">Mean spend so far, by tick.</p>'
        + _spend(comparison.forecasts)
        + "</body></html>\n"
    )


def _without(forecasts: Sequence[Forecast]) -> str:
    """Says which periods the bands of the cost per conversion leave out."""
    found = [
        f"{_text(each.setting)}: {each.periods_without_conversions}"
        for each in forecasts
        if each.periods_without_conversions
    ]
    if not found:
        return ""
    return f'<p class="muted">Periods without any conversion, {", ".join(found)}.</p>'


def _bands(forecasts: Sequence[Forecast]) -> str:
    metrics = ("spend_micros", "conversions", COST)
    figure = Figure((9.0, 0.9 + 0.32 * len(forecasts)), layout="constrained")
    for place, metric in enumerate(metrics):
        axes = figure.add_subplot(1, len(metrics), place + 1)
        scale = MICROS if metric.endswith("_micros") else 1
        for row, forecast in enumerate(forecasts):
            band = forecast.bands[metric]
            if band is None:
                continue
            colour = _COLOURS[row % len(_COLOURS)]
            axes.plot((band.p10 / scale, band.p90 / scale), (row, row), color=colour, linewidth=2.5)
            axes.plot(band.p50 / scale, row, "o", color=colour)
        axes.set_yticks(range(len(forecasts)), [_plain(f.setting) for f in forecasts])
        if place:
            axes.set_yticklabels([])
        axes.set_ylim(len(forecasts) - 0.5, -0.5)
        axes.set_title(WORDS[metric], fontsize=10)
    return _svg(figure)


def _differences(comparison: Comparison) -> str:
    shares = [
        (
            each,
            each.low / abs(each.mean / each.relative),
            each.high / abs(each.mean / each.relative),
        )
        for each in comparison.differences
        if each.relative and each.mean and each.low is not None and each.high is not None
    ]
    if not shares:
        return ""
    figure = Figure((9.0, 0.8 + 0.26 * len(shares)), layout="constrained")
    axes = figure.add_subplot()
    names = list(dict.fromkeys(each.setting for each in comparison.differences))
    for row, (each, low, high) in enumerate(shares):
        assert each.relative is not None
        colour = _COLOURS[(names.index(each.setting) + 1) % len(_COLOURS)]
        axes.plot((low, high), (row, row), color=colour, linewidth=2.0)
        axes.plot(each.relative, row, "o", color=colour, mfc=colour if each.is_clear else "white")
    axes.axvline(0.0, color="#667085", linewidth=1.0)
    axes.set_yticks(
        range(len(shares)), [_plain(f"{e.setting}: {WORDS[e.metric]}") for e, _, _ in shares]
    )
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:+.0%}")
    axes.set_xlabel(f"relative to {_plain(comparison.baseline)}; open dot: not shown")
    return _svg(figure)


def _spend(forecasts: Sequence[Forecast]) -> str:
    figure = Figure((9.0, 3.0), layout="constrained")
    axes = figure.add_subplot()
    for row, forecast in enumerate(forecasts):
        so_far = np.concatenate([[0.0], np.cumsum(forecast.spend_by_tick)]) / MICROS
        axes.plot(so_far, color=_COLOURS[row % len(_COLOURS)], label=_plain(forecast.setting))
    axes.set_xlabel("tick")
    axes.set_ylim(bottom=0.0)
    axes.set_xlim(0, len(forecasts[0].spend_by_tick))
    axes.legend(frameon=False)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "lodestone", "svg.fonttype": "none"}):
        canvas = FigureCanvasSVG(figure)
        canvas.print_svg(file, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _text(text: str) -> str:
    return html.escape(text)


def _plain(text: str) -> str:
    """Returns ``text`` as a chart can draw it, without a warning about a letter it lacks."""
    return text.encode("ascii", "replace").decode().replace("$", r"\$")
