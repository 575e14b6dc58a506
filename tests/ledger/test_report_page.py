from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.report_page import (
    CampaignPart,
    Fact,
    Latency,
    ReportData,
    quantile,
    report_html,
    write_report,
)
from ledger.reports import CampaignTotals, Irregular, NoBids, PriceHistogram, Window
from market.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"
NOTHING = "\u2013"
XLINK = "{http://www.w3.org/1999/xlink}"
WINDOW = Window(1_767_225_600_000, 1_767_225_600_000 + 6 * 3_600_000, 3_600_000)


def campaign(number: int, name: str, *, has_plan: bool = True) -> CampaignPart:
    spend = tuple(1_000_000 * (number + bucket) for bucket in range(6))
    return CampaignPart(
        name=name,
        goal="target CPA 4.00 USD",
        budget_micros=sum(spend) * 2 if has_plan else None,
        totals=CampaignTotals(
            number, "USD", 12_345, 2_469, 2_000, 40, 8, 96_000_000 * number, sum(spend)
        ),
        spend_micros=spend,
        plan_micros=tuple(2 * value for value in spend) if has_plan else (),
        conversions=(0, 1, 2, 0, 5, 0),
    )


def data(*names: str) -> ReportData:
    return ReportData(
        title="A day in the market",
        subtitle="Seed 7",
        facts=(Fact("Spent", "2,143.20 USD", "96.8 % of budget"),),
        window=WINDOW,
        campaigns=tuple(
            campaign(number, name, has_plan=number != 2) for number, name in enumerate(names, 1)
        ),
        win_prices=(PriceHistogram("USD", 500_000, (0, 10, 30, 10, 5)),),
        latency=Latency((0.05, 0.1, 0.2, 0.4, 0.8, 1.6), (0, 50, 45, 5, 0)),
        no_bids=(NoBids("BELOW_FLOOR", 30, 1920.0), NoBids("FREQUENCY_CAP", 10, 640.0)),
        irregular=(Irregular(1, "USD", 3, 12_000_000, 7, 42_000),),
        notes=("Requests are counted by the workers.",),
    )


NAMES = ("Trail shoes", "Garden", "Lamps")


@pytest.fixture(scope="module")
def page() -> str:
    return report_html(data(*NAMES))


@pytest.fixture(scope="module")
def tree(page: str) -> ET.Element:
    return ET.fromstring(page)


def words_of(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_the_page_has_every_section_in_order(tree: ET.Element) -> None:
    assert [words_of(title) for title in tree.iter(f"{HTML}h2")] == [
        "Campaigns",
        "Spend against plan",
        "Conversions over time, added up",
        "What wins cost",
        "How fast we answered",
        "Why we did not bid",
        "Disputed and late notices",
    ]
    text = words_of(tree)
    assert text.startswith("A day in the market")
    assert "Requests are counted by the workers." in text


def test_the_table_says_what_each_campaign_got_and_what_it_cost(tree: ET.Element) -> None:
    rows = [
        [words_of(cell) for cell in row] for row in tree.find(f".//{HTML}tbody").iter(f"{HTML}tr")
    ]
    assert rows[0] == [
        "Trail shoes target CPA 4.00 USD", "21.00 USD", "50.0 %", "12,345", "20.0 %", "2,000",
        "2.00 %", "8", "2.62 USD", "96.00 USD", "4.57",
    ]  # fmt: skip
    assert [row[0] for row in rows] == [f"{name} target CPA 4.00 USD" for name in NAMES]
    assert rows[1][2] == NOTHING


def test_each_campaign_has_a_picture_of_spend_and_plan(tree: ET.Element) -> None:
    figures = {
        words_of(figure.find(f"{HTML}h3")): figure
        for figure in tree.iter(f"{HTML}figure")
        if figure.find(f"{HTML}h3") is not None
    }
    assert set(figures) == set(NAMES)
    assert "21.00 USD spent, 42.00 USD planned (50.0 %)" in words_of(figures["Trail shoes"])
    assert dashes_in(figures["Trail shoes"]) == 1
    assert dashes_in(figures["Garden"]) == 0


def dashes_in(figure: ET.Element) -> int:
    return sum("stroke-dasharray" in path.get("style", "") for path in figure.iter(f"{SVG}path"))


def test_the_bars_of_a_histogram_are_as_high_as_its_counts(tree: ET.Element) -> None:
    figure = section(tree, "What wins cost")
    heights = [
        corners[0] - corners[1]
        for path in figure.iter(f"{SVG}path")
        if "clip-path" in path.attrib and "fill: var(--" in path.get("style", "")
        for corners in [[float(y) for y in re.findall(r"[ML] \S+ (\S+)", path.get("d", ""))][1:3]]
    ]
    # The first bucket is empty and left out; the last, open one is muted.
    np.testing.assert_allclose(np.array(heights) / heights[0], [1, 3, 1, 0.5], rtol=1e-4)
    styles = [path.get("style", "") for path in figure.iter(f"{SVG}path")]
    assert sum("fill: var(--muted)" in style for style in styles) == 1


def test_latency_and_no_bids_are_told_in_words_too(tree: ET.Element) -> None:
    text = words_of(section(tree, "How fast we answered"))
    assert "100 answers; p50 0.2 ms , p99 0.72 ms" in text
    text = words_of(section(tree, "Why we did not bid"))
    assert "below floor" in text
    assert "1,920 (75.0%)" in text
    assert "About 2,560 opportunities without a bid, estimated from 40 samples." in text


def section(tree: ET.Element, title: str) -> ET.Element:
    return next(
        found
        for found in tree.iter(f"{HTML}section")
        if words_of(found.find(f"{HTML}h2")).startswith(title)
    )


def test_the_page_fetches_nothing(page: str, tree: ET.Element) -> None:
    names = {"http://www.w3.org/1999/xhtml", "http://www.w3.org/2000/svg",
             "http://www.w3.org/1999/xlink"}  # fmt: skip
    assert set(re.findall(r"https?://[^\"'\s<)]+", page)) == names
    assert not {element.tag for element in tree.iter()} & {
        f"{HTML}{tag}" for tag in ("link", "script", "img", "iframe", "object")
    }
    assert "@import" not in page
    for element in tree.iter():
        for name in ("href", "src", f"{XLINK}href"):
            assert element.get(name, "#").startswith("#")


def test_an_id_stands_once_and_every_reference_has_its_target(page: str, tree: ET.Element) -> None:
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"|labelledby=\"([^\"]+)\"", page))
    assert {name for names in referred for name in names if name} <= set(ids)
    assert len(referred) > 10


def test_every_colour_is_a_variable_that_both_screens_define(page: str) -> None:
    light, dark = re.findall(r":root \{(.*?)\}", page, re.DOTALL)
    _style, body = page.split("</style>")
    used = set(re.findall(r"var\((--[\w-]+)\)", page)) - {"--font"}
    for variables in (light, dark):
        assert used <= set(re.findall(r"(--[\w-]+):", variables))
    assert {"--series-0", "--series-1", "--muted", "--line", "--ink"} <= used
    assert not re.findall(r"(?:fill|stroke): #", body)


def test_the_colours_can_be_read_on_their_ground(page: str) -> None:
    for variables in re.findall(r":root \{(.*?)\}", page, re.DOTALL):
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", variables))
        for name, colour in colours.items():
            least = {"ink": 7.0, "muted": 4.5}.get(name, 3.0 if "series" in name else 0.0)
            assert contrast(colour, colours["card"]) >= least, name


def contrast(one: str, other: str) -> float:
    """Contrast ratio, WCAG 2.2 (definitions "contrast ratio" and "relative luminance")."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_hostile_names_stay_text() -> None:
    names = (
        "<script>alert(1)</script>",
        "a & b \"c\" 'd'",
        "$x^2$ \\frac{1}{2}",
        "nul\0\x1b",
        "手工咖啡",
        "]]>",
        "{name}",
    )
    tree = ET.fromstring(report_html(data(*names)))
    shown = [words_of(title) for title in tree.iter(f"{HTML}h3")]
    assert shown == [*names[:3], "nul\ufffd\ufffd", *names[4:]]
    assert not list(tree.iter(f"{HTML}script"))


def test_equal_data_gives_an_equal_page_in_every_process(page: str, tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(msgspec.msgpack.encode(data(*NAMES)))
    code = (
        "import msgspec, pathlib, sys; from ledger.report_page import *\n"
        "at = pathlib.Path(sys.argv[1])\n"
        "data = msgspec.msgpack.decode((at / 'data').read_bytes(), type=ReportData)\n"
        "write_report(at / 'report.html', data)"
    )
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        assert (tmp_path / "report.html").read_text("utf-8") == page


def test_a_report_replaces_the_one_before_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report(path, data(*NAMES))
    assert path.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_an_empty_run_has_a_page() -> None:
    tree = ET.fromstring(report_html(ReportData(title="Nothing", window=WINDOW)))
    assert words_of(tree.find(f".//{HTML}main")) == "Nothing Campaigns No campaign ran."


def test_a_campaign_that_did_nothing_has_no_rates() -> None:
    idle = CampaignPart(
        name="Idle", goal="", budget_micros=5_000_000, spend_micros=(0,) * 6, plan_micros=(0,) * 6,
        conversions=(0,) * 6, totals=CampaignTotals(1, "USD", 0, 0, 0, 0, 0, 0, 0),
    )  # fmt: skip
    latency = Latency((0.0, 1.0), (0,))
    tree = ET.fromstring(
        report_html(ReportData(title="T", window=WINDOW, campaigns=(idle,), latency=latency))
    )
    assert [words_of(cell) for cell in tree.iter(f"{HTML}td")] == [
        "0.00 USD", "0.0 %", "0", NOTHING, "0", NOTHING, "0", NOTHING, "0.00 USD", NOTHING,
    ]  # fmt: skip
    assert "No conversion was reported." in words_of(tree)


def test_many_campaigns_share_the_pictures() -> None:
    tree = ET.fromstring(report_html(data(*[f"Campaign {number}" for number in range(15)])))
    assert len(list(tree.iter(f"{HTML}h3"))) == 12
    assert "the 12 that spent most" in words_of(section(tree, "Spend against plan"))
    assert "8 others 64" in words_of(section(tree, "Conversions over time"))
    assert len(tree.find(f".//{HTML}tbody")) == 15


def test_parts_that_do_not_fit_are_refused() -> None:
    part = campaign(1, "Trail shoes")
    with pytest.raises(BadInput, match="6 buckets of spend, 5 of plan"):
        msgspec.structs.replace(part, plan_micros=part.plan_micros[1:])
    with pytest.raises(BadInput, match="the window has 3"):
        ReportData(title="T", window=Window(0, 3, 1), campaigns=(part,))
    for edges in ((1.0, 2.0), (1.0, 2.0, 2.0), (-1.0, 0.0, 1.0)):
        with pytest.raises(BadInput, match="one edge more"):
            Latency(edges, (1, 1))


@given(
    counts=st.lists(st.integers(0, 50), min_size=1, max_size=20).filter(any),
    share=st.floats(0.01, 1.0),
)
@settings(deadline=None)
def test_a_quantile_has_its_share_below_it(counts: list[int], share: float) -> None:
    edges = [float(edge) for edge in range(len(counts) + 1)]
    found = quantile(edges, counts, share)
    cumulated = np.interp(found, edges, [0, *np.cumsum(counts)])
    assert cumulated == pytest.approx(share * sum(counts), abs=1e-6)


def test_a_quantile_of_nothing_is_the_first_edge() -> None:
    assert quantile([0.5, 1.0], [0], 0.5) == 0.5
