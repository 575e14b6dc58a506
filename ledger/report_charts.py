"""The charts of a report: small matplotlib figures as SVG text that stands in an HTML page.

A chart has no title and no name of a campaign in it: the page says those, in its own letters, so
that any script is readable and no text is cut. Its colours are the page's CSS variables, so that
one picture is right on a light and on a dark screen. Equal input gives equal text.

It deliberately knows nothing of events or campaigns: numbers in, picture out.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

SERIES_MAX: Final = 8
"""Colours that can be told apart; the page defines ``--series-0`` to ``--series-7``."""

# Colours that no picture would use, each replaced in the SVG by the page's variable.
_INK: Final = "#0a0b01"
_MUTED: Final = "#0a0b02"
_LINE: Final = "#0a0b03"
_SERIES: Final = tuple(f"#0a0c{number:02x}" for number in range(SERIES_MAX))
_VARIABLES: Final = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _LINE: "var(--line)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES)},
}

_STYLE: Final[dict[RcKeyType, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lodestone",
    "text.parse_math": False,
    "font.size": 9.0,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.left": False,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _LINE,
    "xtick.labelcolor": _MUTED,
    "xtick.major.size": 3.0,
    "xtick.minor.size": 0.0,
    "ytick.color": _LINE,
    "ytick.labelcolor": _MUTED,
    "ytick.major.size": 0.0,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
}

_FONT: Final = re.compile(r"font-family: [^;\"]*;\s*")
_STYLES: Final = re.compile(r"<defs>\s*<style.*?</style>\s*</defs>\s*", re.DOTALL)
_ID: Final = re.compile(r'(?P<before>\bid="|href="#|url\(#)')
_HEAD: Final = re.compile(r"<svg [^>]*?viewBox=\"(?P<box>[^\"]*)\"[^>]*>")
_METADATA: Final = re.compile(r"\s*<metadata>.*?</metadata>", re.DOTALL)

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 86_400_000


def spend_chart(
    name: str,
    *,
    bucket_ms: int,
    spent: Sequence[float],
    planned: Sequence[float],
    series: int,
) -> str:
    """Returns money spent so far against money planned so far.

    Args:
        name: Of the chart on its page, letters and digits; it keeps ids apart.
        bucket_ms: Length of a bucket.
        spent: [B] units of currency per bucket.
        planned: [B] as ``spent``, or empty where there is no plan.
        series: Number of the colour.
    """
    figure, axes = _figure(4.1, 2.1)
    scale, unit = _time_unit(bucket_ms * len(spent))
    times = np.arange(len(spent) + 1) * bucket_ms / scale
    if planned:
        axes.plot(times, _so_far(planned), color=_MUTED, linestyle=(0, (4, 3)), linewidth=1.2)
    axes.fill_between(times, _so_far(spent), color=_SERIES[series], alpha=0.14, linewidth=0)
    axes.plot(times, _so_far(spent), color=_SERIES[series])
    _time_axis(axes, times[-1], unit)
    _count_axis(axes, max(sum(spent), sum(planned)))
    return _svg(figure, name)


def lines_chart(
    name: str, *, bucket_ms: int, lines: Sequence[tuple[int | None, Sequence[float]]]
) -> str:
    """Returns what has added up so far, one line per entry.

    Args:
        name: As in ``spend_chart``.
        bucket_ms: Length of a bucket.
        lines: Colour (None is the muted one) and [B] values per bucket.
    """
    figure, axes = _figure(5.6, 2.9)
    scale, unit = _time_unit(bucket_ms * len(lines[0][1]))
    times = np.arange(len(lines[0][1]) + 1) * bucket_ms / scale
    for series, values in lines:
        colour = _MUTED if series is None else _SERIES[series]
        axes.plot(times, _so_far(values), color=colour)
    _time_axis(axes, times[-1], unit)
    _count_axis(axes, max(sum(values) for _, values in lines))
    return _svg(figure, name)


def histogram_chart(
    name: str,
    *,
    edges: Sequence[float],
    counts: Sequence[float],
    marks: Sequence[tuple[str, float]],
    label: str,
    is_last_open: bool,
    series: int,
) -> str:
    """Returns bars of how often a value lay where, with named values marked.

    Args:
        name: As in ``spend_chart``.
        edges: [C + 1], rising from 0 or above; drawn on a logarithmic axis where the last of the
            filled buckets is more than three times as wide as the first.
        counts: [C]; empty buckets at both ends are left out.
        marks: Text and value of each vertical line.
        label: Of the axis, with the unit.
        is_last_open: The last bucket has no upper end: its bar is muted and its edge says so.
        series: Number of the colour.
    """
    figure, axes = _figure(5.6, 2.9)
    first, last = _filled(counts)
    left = np.asarray(edges[first : last + 1], float)
    right = np.asarray(edges[first + 1 : last + 2], float)
    heights = np.asarray(counts[first : last + 1], float)
    is_logarithmic = right[-1] - left[-1] > 3 * (right[0] - left[0])
    if is_logarithmic:
        # A bucket that begins at 0 has no beginning on such an axis.
        left[0] = max(left[0], right[0] / 2)
    gap = np.minimum((right - left) * 0.08, (right[-1] - left[0]) * 0.002)
    bars = axes.bar(
        left + gap,
        heights,
        right - left - 2 * gap,
        align="edge",
        color=_SERIES[series],
        linewidth=0,
    )
    if is_last_open and last == len(counts) - 1:
        bars.patches[-1].set_facecolor(_MUTED)
    axes.set_xlim(float(left[0]), float(right[-1]))
    if is_logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    for line, (text, value) in enumerate(marks):
        axes.axvline(value, color=_INK, linewidth=1.0, linestyle=(0, (2, 2)))
        where = float(axes.transLimits.transform(axes.transScale.transform((value, 0.0)))[0])
        axes.annotate(
            text,
            (value, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-4 if where > 0.7 else 4, -2 - 11 * line),
            textcoords="offset points",
            ha="right" if where > 0.7 else "left",
            va="top",
            color=_INK,
        )
    axes.set_xlabel(label)
    _count_axis(axes, float(heights.max()) * 1.1)
    return _svg(figure, name)


def bars_chart(name: str, *, bars: Sequence[tuple[str, float, str]], series: int) -> str:
    """Returns horizontal bars, the first on top: label (ASCII), length, text behind the bar."""
    figure, axes = _figure(5.6, max(1.0, 0.24 * len(bars) + 0.2))
    places = np.arange(len(bars))
    lengths = np.array([length for _, length, _ in bars], float)
    axes.barh(places, lengths, 0.62, color=_SERIES[series], linewidth=0)
    for place, (_, length, text) in zip(places, bars, strict=True):
        axes.annotate(
            text,
            (length, float(place)),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
        )
    axes.set_yticks(places, [label for label, _, _ in bars])
    axes.tick_params(axis="y", labelcolor=_INK)
    axes.invert_yaxis()
    axes.set_xlim(0, float(lengths.max()) * 1.3)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    return _svg(figure, name)


def _figure(width_inches: float, height_inches: float) -> tuple[Figure, Axes]:
    with mpl.rc_context(_STYLE):
        figure = Figure((width_inches, height_inches), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
    return figure, axes


def _so_far(values: Sequence[float]) -> list[float]:
    """Returns the running sum, with the 0 that it starts from."""
    return [0.0, *np.cumsum(np.asarray(values, float)).tolist()]


def _time_unit(length_ms: int) -> tuple[int, str]:
    return (_HOUR_MS, "hours") if length_ms <= 3 * _DAY_MS else (_DAY_MS, "days")


def _time_axis(axes: Axes, end: float, unit: str) -> None:
    axes.set_xlim(0.0, end)
    steps = [1, 2, 3, 6, 10] if unit == "hours" and end <= 72 else [1, 2, 5, 10]
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=steps))
    axes.xaxis.set_major_formatter(FuncFormatter(_number))
    axes.set_xlabel(f"{unit} since start")


def _count_axis(axes: Axes, highest: float) -> None:
    """Sets an axis from 0 to the tick at or above ``highest``."""
    locator = MaxNLocator(4)
    axes.set_ylim(0.0, float(locator.tick_values(0.0, highest or 1.0)[-1]))
    axes.yaxis.set_major_locator(locator)
    axes.yaxis.set_major_formatter(FuncFormatter(_number))


def _filled(counts: Sequence[float]) -> tuple[int, int]:
    """Returns the first and the last bucket with anything in it; all of them if none has."""
    places = [place for place, count in enumerate(counts) if count]
    return (places[0], places[-1]) if places else (0, len(counts) - 1)


def _number(value: float, _place: int | None = None) -> str:
    """Returns a number short enough for an axis: 1500000 -> 1.5M, 0.25 -> 0.25."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _svg(figure: Figure, name: str) -> str:
    """Returns the figure as an ``svg`` element that scales to its place on the page."""
    with mpl.rc_context(_STYLE):
        canvas = FigureCanvasSVG(figure)
        file = io.StringIO()
        canvas.print_svg(
            file, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = file.getvalue()
    text = _METADATA.sub("", text[text.index("<svg ") :])
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = _STYLES.sub("", _FONT.sub("", text))
    text = _ID.sub(lambda found: f"{found['before']}{name}-", text)
    return _HEAD.sub(
        lambda found: (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{found["box"]}" role="img" aria-labelledby="{name}-title">'
        ),
        text,
        count=1,
    ).strip()
