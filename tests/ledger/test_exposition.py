"""The page that a scrape gets: its format, and how often it is made."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from ledger.exposition import PAGE_S, MetricsPage

SECOND_NS = 1_000_000_000


class Place:
    def __init__(self, reason="a"):
        self.now_ns, self.made, self.reason = 0, 0, reason
        self.page = MetricsPage(self.families, lambda: self.now_ns)

    def families(self):
        self.made += 1
        family = CounterMetricFamily("asked_total", "How often.", labels=("reason",))
        family.add_metric((self.reason,), self.made)
        yield family

    def samples(self):
        text = self.page.answer().split(b"\r\n\r\n", 1)[1].decode()
        return [
            (sample.name, sample.labels, sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        ]


def test_a_page_holds_its_families_and_nothing_of_the_librarys_own():
    assert Place('a"b\\c\nd').samples() == [("asked_total", {"reason": 'a"b\\c\nd'}, 1)]


def test_the_answer_says_its_type_and_length():
    head, body = Place().page.answer().split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"content-type: text/plain; version=0.0.4; charset=utf-8" in head
    assert f"content-length: {len(body)}".encode() in head
    assert body.startswith(b"# HELP asked_total How often.\n# TYPE asked_total counter\n")


def test_a_page_is_made_once_a_second_however_often_it_is_asked_for():
    place = Place()
    first = place.page.answer()
    for place.now_ns in range(0, int(PAGE_S * SECOND_NS), SECOND_NS // 100):
        assert place.page.answer() is first
    assert place.made == 1
    place.now_ns = SECOND_NS
    assert place.samples()[0][2] == 2
