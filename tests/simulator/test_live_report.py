"""The report's sums and quantiles."""

from __future__ import annotations

from simulator.live_report import LATENCY_BOUNDS_MS, LiveCreative, LiveTally
from tests.simulator.markets import ads_of


def test_campaigns_add_up_their_creatives():
    tally = LiveTally(ads_of())
    first, second, third, fourth = (ad.creative_id for ad in ads_of()[:4])
    assert ads_of()[0].campaign_id == ads_of()[3].campaign_id
    tally.add(first, "wins")
    tally.add(fourth, "wins", 2)
    tally.add(second, "spend_micros", 70)
    tally.add(999, "bids")
    assert tally.total("wins") == 3
    assert [part.id for part in tally.creatives()] == [first, second, fourth, 999]
    assert tally.campaigns() == (
        LiveCreative(id=1, wins=3), LiveCreative(id=2, spend_micros=70),
    )  # fmt: skip
    assert third not in {part.id for part in tally.creatives()}


def test_latencies_fall_into_the_bucket_of_their_upper_bound():
    tally = LiveTally(())
    tally.latency_ns.extend([100_000, 100_001, 400_000, 5_000_000_000])
    histogram = tally.histogram()
    assert [histogram[str(bound)] for bound in LATENCY_BOUNDS_MS[:4]] == [1, 1, 0, 1]
    assert histogram["more"] == 1
    assert sum(histogram.values()) == 4
    assert tally.latency_ms(1.0) == 5_000.0
    assert tally.latency_ms(0.5, last=1) == 5_000.0
    assert LiveTally(()).latency_ms(0.99) == 0.0
