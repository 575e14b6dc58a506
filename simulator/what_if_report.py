"""What a comparison of policies looks like: tables on a terminal, and one HTML page with pictures.

The page is self-contained and equal for equal data. It computes nothing but a difference as a share
of the baseline's mean.
"""

from __future__ import annotations

import html
import io
from typing import TYPE_CHECKING, TypeVar

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from market.money import MICROS
from simulator.what_if import CONFIDENCE, METRICS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from simulator.what_if import Band, Comparison, Difference

_Row = TypeVar("_Row", "Band", "Difference")

_WIDTH_MIN = 11
"""Of a terminal's columns of names: no word of a metric is cut."""
_PICTURED = ("spend_micros", "conversions", "cpa_micros", "value_micros")
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1b1f24; background: #fff; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0;
  font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .3rem .6rem; border-bottom: 1px solid #d8dde3; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
svg { max-width: 100%; height: auto; }
p.note { color: #57606a; }
"""


def tables(found: Comparison) -> list[Table]:
    """Returns the tables of bands and of differences."""
    bands = _table(f"{found.replications} days of {found.scenario}, seed {found.seed}")
    _add_columns(bands, ("mean", "p10", "p50", "p90"))
    for band in _sorted(found, found.bands):
        bands.add_row(*_band_cells(found, band))
    if not found.differences:
        return [bands]
    changes = _table(f"Differences to {found.policies[0]}, {CONFIDENCE:.0%} intervals")
    _add_columns(changes, ("mean", "low", "high", "share", "corr."))
    for difference in _sorted(found, found.differences):
        changes.add_row(*_difference_cells(found, difference))
    return [bands, changes]


def _table(title: str) -> Table:
    """Returns an empty table that leaves its width to what stands in it."""
    return Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))


def _add_columns(table: Table, numbers: Sequence[str]) -> None:
    """Adds metric, policy and columns of numbers, none of which is ever cut."""
    for name in ("metric", "policy"):
        table.add_column(name, overflow="fold", min_width=_WIDTH_MIN)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)


def page(found: Comparison) -> str:
    """Returns the HTML page."""
    chosen = ", ".join(str(agent) for agent in found.agents)
    parts = [
        f"<h1>What if: {html.escape(found.scenario)}</h1>",
        f"<p>{found.replications} days, seed {found.seed}, agents {chosen}; amounts in "
        f"{html.escape(found.currency or 'units of currency')}. "
        "All policies met the same days.</p>",
        "<h2>What a day may bring</h2>",
        "<p class='note'>Bars from p10 to p90 over days, mark at p50.</p>",
        _bands_picture(found),
        _html_table(
            ("metric", "policy", "mean", "p10", "p50", "p90"),
            [_band_cells(found, band) for band in _sorted(found, found.bands)],
        ),
    ]
    if found.differences:
        parts += [
            f"<h2>What changes against {html.escape(found.policies[0])}</h2>",
            f"<p class='note'>Mean difference within a day, as a share of the mean of "
            f"{html.escape(found.policies[0])}, with its {CONFIDENCE:.0%} interval.</p>",
            *_differences_picture(found),
            _html_table(
                ("metric", "policy", "difference", "low", "high", "of mean", "correlation"),
                [_difference_cells(found, each) for each in _sorted(found, found.differences)],
            ),
        ]
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<title>What if: {html.escape(found.scenario)}</title>\n<style>{_STYLE}</style>\n"
        f"</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _sorted(found: Comparison, rows: Sequence[_Row]) -> list[_Row]:
    """Returns rows by metric, then by policy as they were named."""
    metrics = list(METRICS)
    return sorted(
        rows, key=lambda row: (metrics.index(row.metric), found.policies.index(row.policy))
    )


def _base(found: Comparison, difference: Difference) -> float:
    """Returns the mean of the baseline that a difference is to."""
    return next(
        band.mean
        for band in found.bands
        if (band.policy, band.metric) == (difference.baseline, difference.metric)
    )


def _text(metric: str, value: float) -> str:
    unit = METRICS[metric].unit
    if unit == "micros":
        return f"{value / MICROS:,.2f}"
    return f"{value:,.3f}" if unit == "ratio" else f"{value:,.1f}"


def _share(value: float, base: float) -> str:
    return f"{value / abs(base):+.1%}" if base else "-"


def _label(found: Comparison, row: Band | Difference) -> str:
    """Returns what the row is of, and of how many days where some lack it."""
    label = METRICS[row.metric].label
    return label if row.days == found.replications else (
        f"{label} ({row.days} of {found.replications} days)"
    )  # fmt: skip


def _band_cells(found: Comparison, band: Band) -> tuple[str, ...]:
    values = (band.mean, band.p10, band.p50, band.p90)
    texts = (_text(band.metric, value) for value in values)
    return (_label(found, band), band.policy, *texts)


def _difference_cells(found: Comparison, each: Difference) -> tuple[str, ...]:
    base = _base(found, each)
    texts = (_text(each.metric, value) for value in (each.mean, each.low, each.high))
    correlation = "-" if each.correlation is None else f"{each.correlation:.2f}"
    return (_label(found, each), each.policy, *texts, _share(each.mean, base), correlation)


def _html_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    header = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table>\n<tr>{header}</tr>\n{body}\n</table>"


def _bands_picture(found: Comparison) -> str:
    metrics = [m for m in _PICTURED if any(band.metric == m for band in found.bands)]
    figure = Figure(figsize=(8.0, 1.1 + 0.35 * len(found.policies)), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        scale = MICROS if METRICS[metric].unit == "micros" else 1
        for band in found.bands:
            if band.metric == metric:
                y = found.policies.index(band.policy)
                axes.plot([band.p10 / scale, band.p90 / scale], [y, y], linewidth=6, alpha=0.5)
                axes.plot([band.p50 / scale], [y], "k|", markersize=12)
        axes.set_title(METRICS[metric].label, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=4)
        axes.set_yticks(range(len(found.policies)), found.policies)
        axes.set_ylim(len(found.policies) - 0.5, -0.5)
    return _svg(figure)


def _differences_picture(found: Comparison) -> list[str]:
    """Returns the picture, or nothing where the baseline has nothing to take a share of."""
    rows = [
        (each, base)
        for each in _sorted(found, found.differences)
        if (base := _base(found, each)) != 0
    ]
    if not rows:
        return []
    figure = Figure(figsize=(8.0, 0.8 + 0.3 * len(rows)), layout="constrained")
    axes: Axes = figure.subplots()
    for y, (each, base) in enumerate(rows):
        low, mean, high = (100 * x / abs(base) for x in (each.low, each.mean, each.high))
        axes.plot([low, high], [y, y], "k-", linewidth=1.5)
        axes.plot([mean], [y], "ko", markersize=4)
    axes.axvline(0.0, color="0.6", linewidth=0.8)
    labels = [f"{METRICS[each.metric].label}, {each.policy}" for each, _ in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=8)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("% of the baseline's mean", fontsize=8)
    return [_svg(figure)]


def _svg(figure: Figure) -> str:
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lodestone"}):
        file = io.StringIO()
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg ") :]
