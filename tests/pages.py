"""What a scrape finds on a page of ``GET /metrics``."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families


def sample(name, **labels):
    """The key of a sample in ``samples_of``."""
    return name, frozenset((label, str(value)) for label, value in labels.items())


def samples_of(text):
    """{(name, labels): value} of a page in the Prometheus text format, read by its own parser."""
    found = [
        (sample(each.name, **each.labels), each.value)
        for family in text_string_to_metric_families(text) for each in family.samples
    ]  # fmt: skip
    samples = dict(found)
    assert len(samples) == len(found), "no sample is told twice"
    return samples
