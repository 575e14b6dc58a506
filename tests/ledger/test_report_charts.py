from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.report_charts import bars_chart, histogram_chart, lines_chart, spend_chart

SVG = "{http://www.w3.org/2000/svg}"
HOUR_MS = 3_600_000

amounts = st.lists(st.floats(0, 1e9), min_size=1, max_size=30)


def texts(chart: str) -> list[str]:
    return ["".join(text.itertext()).strip() for text in ET.fromstring(chart).iter(f"{SVG}text")]


def histogram(edges: list[float], counts: list[int], *, is_last_open: bool = False) -> str:
    return histogram_chart(
        "h", edges=edges, counts=counts, marks=[("p50", edges[1])], label="time, ms",
        is_last_open=is_last_open, series=0,
    )  # fmt: skip


@given(spent=amounts, has_plan=st.booleans(), series=st.integers(0, 7))
@settings(max_examples=12, deadline=None)
def test_any_spend_has_a_picture(spent: list[float], *, has_plan: bool, series: int) -> None:
    chart = spend_chart(
        "s", bucket_ms=HOUR_MS, spent=spent, planned=spent[::-1] if has_plan else (), series=series
    )
    assert "hours since start" in texts(chart)
    assert f"var(--series-{series})" in chart
    assert chart.count("stroke-dasharray: ") == has_plan


@given(
    counts=st.lists(st.integers(0, 10**12), min_size=1, max_size=40),
    ratio=st.floats(1.0, 2.0),
    start=st.floats(0, 10),
    is_last_open=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_any_histogram_has_a_picture(
    counts: list[int], ratio: float, start: float, *, is_last_open: bool
) -> None:
    edges = [start]
    for place in range(len(counts)):
        edges.append(edges[-1] + 0.1 * ratio**place)
    assert "time, ms" in texts(histogram(edges, counts, is_last_open=is_last_open))


def test_time_is_told_in_days_where_hours_would_be_many() -> None:
    chart = lines_chart(
        "l", bucket_ms=24 * HOUR_MS, lines=[(0, [1, 2, 3, 4]), (None, [0, 0, 0, 9])]
    )
    assert "days since start" in texts(chart)
    assert {"0", "4"} <= set(texts(chart))


def test_wide_buckets_are_drawn_on_a_logarithmic_axis() -> None:
    even = texts(histogram([0.0, 1.0, 2.0, 3.0], [1, 2, 1]))
    assert {"0", "1", "2", "3"} <= set(even)
    growing = texts(histogram([0.0, 0.1, 1.0, 10.0, 100.0], [1, 2, 2, 1]))
    assert {"0.1", "1", "10", "100"} <= set(growing)


def test_bars_are_as_long_as_their_numbers() -> None:
    chart = bars_chart("b", bars=[("floor", 30.0, "30 (75%)"), ("cap", 10.0, "10 (25%)")], series=2)
    assert {"floor", "cap", "30 (75%)", "10 (25%)"} <= set(texts(chart))
    lengths = [
        float(corners[1]) - float(corners[0])
        for path in ET.fromstring(chart).iter(f"{SVG}path")
        if "fill: var(--series-2)" in path.get("style", "")
        for corners in [re.findall(r"[ML] (\S+) ", path.get("d", ""))]
    ]
    assert lengths[0] == pytest.approx(3 * lengths[1], rel=1e-4)


def test_a_chart_keeps_its_ids_apart_by_its_name() -> None:
    chart = bars_chart("b7", bars=[("floor", 30.0, "30")], series=0)
    ids = re.findall(r'\bid="([^"]+)"', chart)
    assert ids
    assert all(name.startswith("b7-") for name in ids)
    assert "DejaVu" not in chart
    assert "<style" not in chart
    assert "<metadata" not in chart
