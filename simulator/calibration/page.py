"""The fidelity report as one HTML file: nothing is fetched, pictures are inline SVG.

It computes nothing: every number is a field of ``Report``.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Final

import ledger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.calibration.fidelity import RowReport
    from simulator.calibration.report import Report
    from simulator.calibration.terms import Estimate

_MINUTE_MS: Final = 60_000
_BAR: Final = 120.0
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 400.0, 170.0, 46.0, 8.0, 30.0
_LABELS_MAX = 10
_TICKS = 4
_OWN_STYLE: Final = """
.verdict { font-weight: 650; }
.better { color: var(--series-2); } .worse { color: var(--series-6); }
.noise { color: var(--series-0); } .none-known { color: var(--muted); }
.plain li { margin: 2px 0; }
svg text { font: 11px var(--font); fill: var(--muted); }
"""
_CLASS: Final = {
    "better": "better", "worse": "worse", "within noise": "noise", "no evidence": "none-known",
}  # fmt: skip


def report_html(report: Report) -> str:
    """Returns the page."""
    style = Path(ledger.__file__).with_name("report_page.css").read_text("utf-8")
    sections = (
        _head(report), _table(report), _charts(report), _fitted(report), _scope(report),
    )  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
        '<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>Fidelity: {_text(report.log)}</title>\n<style>\n{style}{_OWN_STYLE}</style>\n"
        "</head>\n<body>\n<main>\n" + "\n".join(sections) + "\n</main>\n</body>\n</html>\n"
    )


def _head(report: Report) -> str:
    verdicts = [row.verdict for row in report.rows]
    facts = (
        ("Fitted rows", f"{report.fitted.rows:,}", f"{report.fitted.hours} hours with traffic"),
        ("Held-back rows", f"{report.held_back.rows:,}", f"{report.held_back.clicks:,} clicks"),
        ("Better than naive", str(verdicts.count("better")), f"of {len(verdicts)} rows"),
        ("Within noise", str(verdicts.count("within noise")), "no difference to be seen"),
        ("Worse", str(verdicts.count("worse")), "or not shown to be better: do not trust these"),
        ("No evidence", str(verdicts.count("no evidence")), "could not detect 20 %"),
        (
            "Quarantined",
            f"{report.quarantined:,}",
            "lines, see quarantine.ndjson" if report.quarantined else "lines: all could be used",
        ),
    )
    cells = "".join(
        f'<div class="fact"><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>'
        for label, value, note in facts
    )
    return (
        f"<header><h1>How far the twin is from the log: {_text(report.log)}</h1>"
        f"<p>A log of kind {_text(report.source)}; {_text(report.split)}.</p>"
        f'<dl class="facts">{cells}</dl></header>'
    )


def _table(report: Report) -> str:
    head = "".join(
        f'<th scope="col">{name}</th>'
        for name in ("Row", "", "Twin", "Naive", "Noise floor", "Could detect", "Verdict")
    )
    body = "".join(
        f'<tr><th scope="row">{_text(row.name)}<small>{row.kind}</small></th>'
        f"<td>{_bar(row)}</td><td>{_percent(row.twin)}</td><td>{_percent(row.naive)}</td>"
        f"<td>{_percent(row.floor)}</td><td>{_detectable(row)}</td>"
        f'<td class="verdict {_CLASS[row.verdict]}">{row.verdict}</td></tr>'
        for row in report.rows
    )
    return (
        "<section><h2>Distance from the held-back log</h2>"
        '<p class="key">Relative to the held-back log\'s own level. Naive: the fitted part, '
        "resampled hour by hour. Noise floor: 95 % point between two resamplings of the held-back "
        "log. Could detect: the least change of that log that the row would notice. Better: than "
        "naive, by more than two standard errors of the drawn days; worse: not shown to be "
        "better. Pictures: the nearer to the left, the more like the log. Dot: twin. Stroke: "
        "naive. Grey: noise.</p>"
        f'<div class="table"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div></section>"
    )


def _bar(row: RowReport) -> str:
    """Returns one row's distances on a line from 0: noise grey, naive a stroke, the twin a dot."""
    most = max(row.twin, row.naive, row.floor, 1e-9) * 1.05
    twin, naive, floor = (_BAR * value / most for value in (row.twin, row.naive, row.floor))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_BAR + 6:.0f} 16" '
        f'style="width:{_BAR + 6:.0f}px" role="img" aria-label="distances of {_text(row.name)}">'
        f'<rect x="0" y="2" width="{floor:.1f}" height="12" fill="var(--line)"/>'
        f'<line x1="0" x2="{_BAR:.0f}" y1="8" y2="8" stroke="var(--muted)" stroke-width="0.6"/>'
        f'<line x1="{naive:.1f}" x2="{naive:.1f}" y1="2" y2="14" stroke="var(--muted)" '
        'stroke-width="2"/>'
        f'<circle cx="{twin:.1f}" cy="8" r="4" fill="var(--series-0)"/></svg>'
    )


def _charts(report: Report) -> str:
    panels = "".join(
        f"<figure><h3>{_text(row.name)}</h3>"
        f'<p class="verdict {_CLASS[row.verdict]}">{row.verdict}</p>{_chart(row)}'
        f"<figcaption>{_text(row.unit)}; {_text(row.axis)}</figcaption></figure>"
        for row in report.rows
        if len(row.bins) > 1
    )
    key = (
        '<p class="key"><svg viewBox="0 0 10 10" style="display:inline;width:10px">'
        '<circle cx="5" cy="5" r="4" fill="var(--ink)"/></svg> held-back log '
        '<span class="line" style="border-color:var(--series-0)"></span> twin '
        '<span class="dashes"></span> naive</p>'
    )
    return f'<section><h2>By bin</h2>{key}<div class="panels">{panels}</div></section>'


def _chart(row: RowReport) -> str:
    """Returns one row's bins: the held-back log as dots, twin and naive as lines."""
    shown = [p for p, value in enumerate(row.held_back_values) if value is not None]
    # From the first bin that the held-back log has to the last.
    first = min(shown, default=0)
    count = max(shown, default=0) - first + 1
    known = [value for value in row.held_back_values if value is not None]
    top = max(
        (*known, *(row.twin_values[p] for p in shown), *(row.naive_values[p] for p in shown), 1e-9)
    )

    def x(place: int) -> float:
        return _LEFT + (place - first + 0.5) * (_WIDTH - _LEFT) / count

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1.0 - min(value / top, 1.0) * 0.95)

    parts: list[str] = []
    for tick in range(_TICKS + 1):
        value = top * tick / _TICKS
        parts.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            'stroke="var(--line)" stroke-width="0.6"/>'
            f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>'
        )
    step = -(-count // _LABELS_MAX)
    parts += [
        f'<text x="{x(p):.1f}" y="{_HEIGHT - 10}" text-anchor="middle">{_text(_short(name))}</text>'
        for p, name in enumerate(row.bins)
        if first <= p < first + count and (p - first) % step == 0
    ]
    for values, style in (
        (row.naive_values, 'stroke="var(--muted)" stroke-dasharray="5 4"'),
        (row.twin_values, 'stroke="var(--series-0)"'),
    ):
        # A bin that the held-back log lacks is a gap, and a bin between gaps a short stroke.
        for run in _runs(shown):
            points = [f"{x(p):.1f},{y(values[p]):.1f}" for p in run]
            if len(run) == 1:
                points = [f"{x(run[0]) + d:.1f},{y(values[run[0]]):.1f}" for d in (-4.0, 4.0)]
            parts.append(
                f'<polyline points="{" ".join(points)}" fill="none" {style} stroke-width="1.8"/>'
            )
    parts += [
        f'<circle cx="{x(p):.1f}" cy="{y(value):.1f}" r="3.2" fill="var(--ink)"/>'
        for p, value in enumerate(row.held_back_values)
        if value is not None
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH:.0f} {_HEIGHT:.0f}" '
        f'role="img" aria-label="{_text(row.name)}">{"".join(parts)}</svg>'
    )


def _runs(places: Sequence[int]) -> list[list[int]]:
    """Returns rising places as runs without a gap."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _fitted(report: Report) -> str:
    fit = report.calibration
    lines: list[tuple[str, str]] = [
        ("Requests per day", _interval(fit.supply.requests_per_day, 0)),
        ("Hours of the day that were seen", f"{sum(fit.supply.is_seen)} of 24"),
        ("Clicks per 100 impressions", _interval(fit.response.ctr, 3, 100.0)),
    ]
    if fit.response.cvr is not None:
        lines.append(("Conversions per 100 clicks", _interval(fit.response.cvr, 2, 100.0)))
    if fit.delay is not None:
        lines += [
            ("Delay, median, minutes", _interval(fit.delay.median_ms, 1, 1.0 / _MINUTE_MS)),
            ("Delay, spread of its log", _interval(fit.delay.sigma, 3)),
        ]
    if fit.rivals is not None:
        for number, rival in enumerate(fit.rivals.rivals, 1):
            lines += [
                (f"Rival {number}: presence", _interval(rival.presence, 3)),
                (
                    f"Rival {number}: median bid, {fit.currency} per thousand",
                    _interval(rival.cpm_median, 3),
                ),
                (f"Rival {number}: spread of log bids", _interval(rival.sigma, 3)),
            ]
    if fit.landscape is not None:
        lines.append((
            "Price landscape: bandwidth, hours; weight of far hours",
            f"{fit.landscape.bandwidth_hours:g}; {fit.landscape.pooled_weight:g}",
        ))  # fmt: skip
    body = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{value}</td></tr>' for name, value in lines
    )
    return (
        "<section><h2>What was fitted, with 95 % intervals</h2>"
        f'<div class="table"><table><tbody>{body}</tbody></table></div></section>'
    )


def _scope(report: Report) -> str:
    def listed(items: Sequence[str]) -> str:
        return '<ul class="plain">' + "".join(f"<li>{_text(item)}</li>" for item in items) + "</ul>"

    counts = [f"{name}: {count:,}" for name, count in report.counts.items()]
    counts += report.notes
    return (
        f"<section><h2>What this log can say</h2>{listed(report.can_say)}</section>"
        f"<section><h2>What it cannot say</h2>{listed(report.cannot_say)}</section>"
        f"<section><h2>What was read</h2>{listed(counts)}</section>"
    )


def _interval(estimate: Estimate, digits: int, times: float = 1.0) -> str:
    value, low, high = (
        f"{number * times:,.{digits}f}" for number in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} ({low} to {high})"


def _detectable(row: RowReport) -> str:
    return "more than 50&#160;%" if row.detectable is None else f"{100 * row.detectable:.0f}&#160;%"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}&#160;%"


def _short(name: str) -> str:
    return name if len(name) <= 8 else name.rsplit(" ", 1)[-1][:8]


def _text(text: str) -> str:
    return html.escape(text)
