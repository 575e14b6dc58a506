"""The report page: one HTML file that says what a run got for its money.

It is self-contained (pictures are inline SVG, nothing is fetched), readable on light and on dark
screens, on paper and on a telephone, well-formed XML as well as HTML, and equal for equal data: it
has no time or name of its own, only what the caller gives.

It deliberately computes nothing that is not plain arithmetic on one row (a rate, a cost per
conversion): every number comes from ``ledger.reports`` or from the caller. matplotlib is imported
with this module, so serving processes never import it.
"""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from ledger.report_charts import (
    SERIES_MAX,
    bars_chart,
    histogram_chart,
    lines_chart,
    spend_chart,
)
from ledger.reports import CampaignTotals, Irregular, NoBids, PriceHistogram, Window
from market.errors import BadInput
from market.money import MICROS, micros_to_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_NOTHING: Final = "&#8211;"
_REASONS_MAX: Final = 10
_PANELS_MAX: Final = 12


class Fact(msgspec.Struct, frozen=True):
    """A number of the headline, as the caller words it."""

    label: str
    value: str
    note: str = ""


class CampaignPart(msgspec.Struct, frozen=True, kw_only=True):
    """One campaign on the page.

    Raises:
        BadInput: ``spend_micros``, ``plan_micros`` and ``conversions`` are not of one length.
    """

    name: str
    goal: str
    """In words, such as ``target CPA 4.00 USD``."""
    budget_micros: int | None
    """For the whole window; None where nothing limits it."""
    totals: CampaignTotals
    spend_micros: tuple[int, ...]
    """Per bucket of the window; as the next two."""
    plan_micros: tuple[int, ...] = ()
    """What pacing meant to spend; empty where there was no plan."""
    conversions: tuple[int, ...]

    def __post_init__(self) -> None:
        """Checks the lengths."""
        lengths = len(self.spend_micros), len(self.plan_micros), len(self.conversions)
        if lengths[0] != lengths[2] or lengths[1] not in {0, lengths[0]} or not lengths[0]:
            raise BadInput(
                f"campaign '{self.name}': {lengths[0]} buckets of spend, {lengths[1]} of plan and "
                f"{lengths[2]} of conversions; they must be as many, and a plan may be missing"
            )


class Latency(msgspec.Struct, frozen=True):
    """How long answers took.

    Raises:
        BadInput: there is not one edge more than there are counts, or edges do not rise from 0 or
            above.
    """

    edges_ms: tuple[float, ...]
    """From 0 or above."""
    counts: tuple[int, ...]
    is_last_open: bool = False
    """The last bucket holds everything above its lower edge."""

    def __post_init__(self) -> None:
        """Checks the edges."""
        rises = all(a < b for a, b in zip((-1e-9, *self.edges_ms), self.edges_ms, strict=False))
        if len(self.edges_ms) != len(self.counts) + 1 or not self.counts or not rises:
            raise BadInput(
                f"latency histogram with {len(self.edges_ms)} edges and {len(self.counts)} counts: "
                "it must have one edge more than counts, and edges must rise from 0 or above"
            )


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the page says, in the order in which it says it.

    Raises:
        BadInput: a campaign has another number of buckets than ``window``.
    """

    title: str
    subtitle: str = ""
    facts: tuple[Fact, ...] = ()
    window: Window
    campaigns: tuple[CampaignPart, ...] = ()
    win_prices: tuple[PriceHistogram, ...] = ()
    latency: Latency | None = None
    no_bids: tuple[NoBids, ...] = ()
    irregular: tuple[Irregular, ...] = ()
    notes: tuple[str, ...] = ()
    """Where the numbers come from and what they leave out, a sentence each."""

    def __post_init__(self) -> None:
        """Checks that every campaign covers the window."""
        for part in self.campaigns:
            if len(part.spend_micros) != self.window.bucket_count:
                raise BadInput(
                    f"campaign '{part.name}': {len(part.spend_micros)} buckets of spend; the "
                    f"window has {self.window.bucket_count}"
                )


def write_report(path: Path, data: ReportData) -> None:
    """Writes the page to ``path``, replacing what is there; a reader never sees half a page."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(report_html(data), "utf-8")
    temporary.replace(path)


def report_html(data: ReportData) -> str:
    """Returns the page."""
    sections = [
        _header(data),
        _campaign_table(data.campaigns),
        _spend(data),
        '<div class="two">',
        _conversions(data),
        *(_win_prices(number, prices) for number, prices in enumerate(data.win_prices)),
        _latency(data.latency),
        _no_bids(data.no_bids),
        "</div>",
        _irregular(data),
        _notes(data.notes),
    ]
    style = Path(__file__).with_name("report_page.css").read_text("utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en" xmlns="http://www.w3.org/1999/xhtml">\n<head>\n'
        '<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f"<title>{_text(data.title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(section for section in sections if section)
        + "\n</main>\n</body>\n</html>\n"
    )


def quantile(edges: Sequence[float], counts: Sequence[int], share: float) -> float:
    """Returns the value below which ``share`` of a histogram lies, taking buckets as even.

    An empty histogram has its first edge.
    """
    left = share * sum(counts)
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        if 0 < count >= left:
            return low + (high - low) * left / count
        left -= count
    return edges[0] if not sum(counts) else edges[-1]


def _header(data: ReportData) -> str:
    facts = "".join(
        f'<div class="fact"><dt>{_text(fact.label)}</dt><dd>{_text(fact.value)}'
        + (f"<small>{_text(fact.note)}</small>" if fact.note else "")
        + "</dd></div>"
        for fact in data.facts
    )
    return (
        f"<header><h1>{_text(data.title)}</h1>"
        + (f"<p>{_text(data.subtitle)}</p>" if data.subtitle else "")
        + (f'<dl class="facts">{facts}</dl>' if facts else "")
        + "</header>"
    )


_COLUMNS: Final = (
    "Campaign", "Spent", "of budget", "Bids", "Win rate", "Impressions", "CTR", "Conversions",
    "Cost per conversion", "Value", "ROAS",
)  # fmt: skip


def _campaign_table(campaigns: tuple[CampaignPart, ...]) -> str:
    if not campaigns:
        return _section("Campaigns", '<p class="none">No campaign ran.</p>', "wide")
    rows = [_campaign_row(number, part) for number, part in enumerate(campaigns)]
    return _section("Campaigns", _table(_COLUMNS, rows), "wide")


def _campaign_row(number: int, part: CampaignPart) -> list[str]:
    totals = part.totals
    return [
        f"{_swatch(number)}{_text(part.name)}<small>{_text(part.goal)}</small>",
        _money(totals.spend_micros, totals.currency),
        _share_bar(number, totals.spend_micros, part.budget_micros),
        f"{totals.bids:,}",
        _percent(totals.wins, totals.bids),
        f"{totals.impressions:,}",
        _percent(totals.clicks, totals.impressions, 2),
        f"{totals.conversions:,}",
        _money(totals.spend_micros / totals.conversions, totals.currency)
        if totals.conversions
        else _NOTHING,
        _money(totals.conversion_value_micros, totals.currency),
        f"{totals.conversion_value_micros / totals.spend_micros:.2f}"
        if totals.spend_micros
        else _NOTHING,
    ]


def _spend(data: ReportData) -> str:
    panels: list[str] = []
    ranked = sorted(enumerate(data.campaigns), key=lambda entry: -sum(entry[1].spend_micros))
    for number, part in sorted(ranked[:_PANELS_MAX], key=lambda entry: entry[0]):
        currency = part.totals.currency
        spent, planned = sum(part.spend_micros), sum(part.plan_micros)
        told = f"<b>{_money(spent, currency)}</b> spent"
        if planned:
            told += f", {_money(planned, currency)} planned ({_percent(spent, planned)})"
        chart = spend_chart(
            f"spend{number}",
            bucket_ms=data.window.bucket_ms,
            spent=[value / MICROS for value in part.spend_micros],
            planned=[value / MICROS for value in part.plan_micros],
            series=number % SERIES_MAX,
        )
        panels.append(
            _figure(f"spend{number}", f"{_swatch(number)}{_text(part.name)}", chart, told)
        )
    if not panels:
        return ""
    key = (
        '<p class="key"><span class="line"></span> spent so far '
        '<span class="dashes"></span> planned so far, in units of the currency'
        + (f"; the {len(panels)} that spent most" if len(panels) < len(ranked) else "")
        + "</p>"
    )
    return _section(
        "Spend against plan", f'{key}<div class="panels">{"".join(panels)}</div>', "wide"
    )


def _conversions(data: ReportData) -> str:
    if not data.campaigns:
        return ""
    ranked = sorted(enumerate(data.campaigns), key=lambda entry: -sum(entry[1].conversions))
    shown = ranked if len(ranked) <= SERIES_MAX else ranked[: SERIES_MAX - 1]
    others = ranked[len(shown) :]
    lines: list[tuple[int | None, Sequence[float]]] = [
        (number % SERIES_MAX, part.conversions) for number, part in shown
    ]
    names = [
        f"<li>{_swatch(number)}{_text(part.name)} <b>{sum(part.conversions):,}</b></li>"
        for number, part in shown
    ]
    if others:
        rest = [
            sum(values) for values in zip(*(part.conversions for _, part in others), strict=True)
        ]
        lines.append((None, rest))
        names.append(f"<li>{_swatch(None)}{len(others)} others <b>{sum(rest):,}</b></li>")
    if not any(sum(values) for _, values in lines):
        return _card("Conversions over time", "none", "", "No conversion was reported.")
    chart = lines_chart("conversions", bucket_ms=data.window.bucket_ms, lines=lines)
    legend = f'<ul class="legend">{"".join(names)}</ul>'
    return _card("Conversions over time, added up", "conversions", chart, legend)


def _win_prices(number: int, prices: PriceHistogram) -> str:
    name = f"prices{number}"
    edges = [prices.bucket_cpm_micros * edge / MICROS for edge in range(len(prices.counts) + 1)]
    median = quantile(edges, prices.counts, 0.5)
    told = (
        f"{sum(prices.counts):,} wins; half of them cost less than "
        f"<b>{median:.3g} {_text(prices.currency)}</b> per thousand. "
        f"The last, grey bar holds all wins above {edges[-2]:.4g}."
    )
    chart = histogram_chart(
        name,
        edges=edges,
        counts=prices.counts,
        marks=[(f"median {median:.3g}", median)],
        label=f"clearing price, {_plain(prices.currency)} per thousand impressions",
        is_last_open=True,
        series=0,
    )
    return _card("What wins cost", name, chart, told)


def _latency(latency: Latency | None) -> str:
    if latency is None:
        return ""
    marks = [
        (f"p{percent}", quantile(latency.edges_ms, latency.counts, percent / 100))
        for percent in (50, 99)
    ]
    told = f"{sum(latency.counts):,} answers; " + ", ".join(
        f"{name} <b>{value:.3g} ms</b>" for name, value in marks
    )
    chart = histogram_chart(
        "latency",
        edges=latency.edges_ms,
        counts=latency.counts,
        marks=[(f"{name} {value:.3g}", value) for name, value in marks],
        label="time to answer a bid request, ms",
        is_last_open=latency.is_last_open,
        series=1,
    )
    return _card("How fast we answered", "latency", chart, told)


def _no_bids(no_bids: tuple[NoBids, ...]) -> str:
    if not no_bids:
        return ""
    total = sum(row.opportunities for row in no_bids)
    bars = [
        (
            _words(row.reason),
            row.opportunities,
            f"{row.opportunities:,.0f} ({row.opportunities / total:.1%})",
        )
        for row in no_bids[:_REASONS_MAX]
    ]
    if rest := sum(row.opportunities for row in no_bids[_REASONS_MAX:]):
        bars.append(
            (
                f"{len(no_bids) - _REASONS_MAX} other reasons",
                rest,
                f"{rest:,.0f} ({rest / total:.1%})",
            )
        )
    told = (
        f"About {total:,.0f} opportunities without a bid, estimated from "
        f"{sum(row.samples for row in no_bids):,} samples."
    )
    return _card("Why we did not bid", "nobids", bars_chart("nobids", bars=bars, series=2), told)


def _irregular(data: ReportData) -> str:
    if not data.irregular:
        return ""
    names = {part.totals.campaign_id: part.name for part in data.campaigns}
    rows = [
        [
            _text(names.get(row.campaign_id, f"campaign {row.campaign_id}")),
            f"{row.disputed:,}",
            _money(row.disputed_micros, row.currency),
            f"{row.late:,}",
            _money(row.late_spend_micros, row.currency),
        ]
        for row in data.irregular
    ]
    table = _table(
        ("Campaign", "Disputed", "asked and not paid", "Late", "paid although late"), rows
    )
    return _section("Disputed and late notices", table, "wide")


def _notes(notes: tuple[str, ...]) -> str:
    if not notes:
        return ""
    return f"<footer><ul>{''.join(f'<li>{_text(note)}</li>' for note in notes)}</ul></footer>"


def _section(title: str, body: str, kind: str) -> str:
    return f'<section class="{kind}"><h2>{title}</h2>{body}</section>'


def _card(title: str, name: str, chart: str, told: str) -> str:
    return (
        f'<section><h2 id="{name}-title">{title}</h2><figure>{chart}'
        f"<figcaption>{told}</figcaption></figure></section>"
    )


def _figure(name: str, title: str, chart: str, told: str) -> str:
    return (
        f'<figure><h3 id="{name}-title">{title}</h3>{chart}<figcaption>{told}</figcaption></figure>'
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f'<th scope="col">{column}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{cell}</td>" for cell in row[1:])}</tr>'
        for row in rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="table">{table}</div>'


def _swatch(number: int | None) -> str:
    colour = "--muted" if number is None else f"--series-{number % SERIES_MAX}"
    return f'<i style="background: var({colour})"></i>'


def _share_bar(number: int, part: int, whole: int | None) -> str:
    if not whole:
        return _NOTHING
    width = min(100.0, 100.0 * part / whole)
    return (
        f'<span class="bar"><span style="width: {width:.1f}%; background: '
        f'var(--series-{number % SERIES_MAX})"></span></span>{_percent(part, whole)}'
    )


def _percent(part: float, whole: float, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f}&#160;%" if whole else _NOTHING


def _money(micros: float, currency: str) -> str:
    return _text(micros_to_text(round(micros), currency)).replace(" ", "&#160;")


def _words(reason: str) -> str:
    return _plain(reason.replace("_", " ").lower())


_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(text: str) -> str:
    """Returns ``text`` as it may stand in a page; what XML cannot hold becomes U+FFFD."""
    return html.escape(_NOT_XML.sub("\ufffd", text))


def _plain(text: str) -> str:
    """Returns ``text`` as a chart can draw it, without a warning about a letter it lacks."""
    return text.encode("ascii", "replace").decode()
