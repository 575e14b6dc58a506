"""The Prometheus text format, line by line."""

from __future__ import annotations

from ledger.exposition import Exposition


def test_a_family_is_its_help_its_type_and_its_samples():
    page = Exposition()
    page.family(
        "requests_total", "counter", "Requests.",
        [((("exchange", "a"), ("status", "200")), 3), ((), 4)],
    )  # fmt: skip
    page.family("lag_seconds", "gauge", "Lag.", [((), 0.25)])
    assert page.text() == (
        "# HELP requests_total Requests.\n"
        "# TYPE requests_total counter\n"
        'requests_total{exchange="a",status="200"} 3\n'
        "requests_total 4\n"
        "# HELP lag_seconds Lag.\n"
        "# TYPE lag_seconds gauge\n"
        "lag_seconds 0.25\n"
    )


def test_buckets_are_cumulative_and_end_with_infinity():
    page = Exposition()
    page.histograms("took_seconds", "Time.", [0.001, 0.01], [((("stage", "x"),), [1, 2, 3], 0.5)])
    assert page.text().splitlines()[2:] == [
        'took_seconds_bucket{stage="x",le="0.001"} 1',
        'took_seconds_bucket{stage="x",le="0.01"} 3',
        'took_seconds_bucket{stage="x",le="+Inf"} 6',
        'took_seconds_sum{stage="x"} 0.5',
        'took_seconds_count{stage="x"} 6',
    ]


def test_label_values_are_escaped_and_a_family_without_samples_is_left_out():
    page = Exposition()
    page.family("none_total", "counter", "None.", [])
    page.family("odd", "gauge", "Odd.", [((("name", 'a"b\\c\nd'),), 1)])
    assert page.text().splitlines()[-1] == 'odd{name="a\\"b\\\\c\\nd"} 1'
    assert "none_total" not in page.text()


def test_the_answer_says_its_type_and_length():
    head, body = Exposition().answer().split(b"\r\n\r\n")
    assert b"content-type: text/plain; version=0.0.4; charset=utf-8" in head
    assert f"content-length: {len(body)}".encode() in head
