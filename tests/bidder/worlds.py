"""Random campaigns and opportunities that meet often, and what a decision on them needs."""

from __future__ import annotations

from functools import cache

import numpy as np

from bidder.candidates import Compilation, Lift, allocate_rows, compile_snapshot
from bidder.decide import Decider
from bidder.recommendation.network import weights_of
from market.budgets import budgets_of
from market.campaign import (
    MEDIA_TYPES,
    Budget,
    Campaign,
    CapPeriod,
    CapScope,
    Creative,
    Flight,
    FrequencyCap,
    Goal,
    GoalKind,
    LineItem,
    Targeting,
    problems_of,
)
from market.chance import code_of, opportunity_key
from market.control import new_live_arrays
from market.features import AD_ROWS, CONTEXT_ROWS
from market.opportunity import CodeList, Dimension, Format, no_opportunities
from market.state import CREDIT_DTYPE, CreditKind
from tests.reference.decide import Multipliers, Twin

NOW_MS = 1_700_000_000_000
RATES = {"USD": 1_000_000, "EUR": 1_080_000, "GBP": 1_270_000, "JPY": 6_700}
NUMBERS = {"USD": 840, "EUR": 978, "GBP": 826, "JPY": 392, "CHF": 756}
SEAT = "lodestone"
SEED = 5

COUNTRIES = ("USA", "DEU", "IND")
VALUES = {
    "exchange": ("default",),
    "country": COUNTRIES,
    "region": ("CA", "BE"),
    "device_type": ("2", "4"),
    "os": ("iOS", "Android"),
    "inventory": ("news.example", "com.game"),
    "hour_of_week": ("sun 0", "tue 22"),
    "gender": ("M", "F"),
    "segment": ("autos", "food", "games", "travel"),
    "category": ("IAB1", "IAB2-1"),
    "keyword": ("goal", "cup"),
}
SIZES = ((300, 250), (320, 50), (728, 90))
SEATS = ("", "agency", "desk")
DEALS = ("deal-1", "deal-2", "deal-3")
DOMAINS = ("shop.example", "eu.shop.example", "bikes.example", "www.kettle.example")
CATEGORIES = ("IAB18", "IAB18-2", "IAB8")


@cache
def exact_weights():
    """Weights whose sums are exact in float32, so that no order of adding can matter."""
    rng = np.random.Generator(np.random.PCG64(3))

    def table(*shape):
        return (rng.integers(-24, 25, shape) / 64).astype(np.float32)

    return weights_of(
        context_vectors=table(CONTEXT_ROWS, 8),
        context_bias=table(CONTEXT_ROWS, 2),
        ad_vectors=table(AD_ROWS, 8),
        ad_bias=table(AD_ROWS, 2),
        bias=np.array([-3.0, -2.0], np.float32),
        calibration=np.array([[1.0, 0.0], [0.75, -0.25]]),
    )


def some(rng, values, share):
    return tuple(value for value in values if rng.random() < share)


def targeting_of(rng):
    include, exclude = {}, {}
    for name, values in VALUES.items():
        if rng.random() < 0.12:
            chosen = some(rng, values, 0.7)
            if chosen:
                include[name] = chosen
        if rng.random() < 0.08:
            exclude[name] = (rng.choice(values),)
    return Targeting(include=include, exclude=exclude)


def creative_of(rng, creative_id):
    kind = rng.choice(("banner", "banner", "banner", "video", "audio", "native"))
    w, h = rng.choice(SIZES) if kind in ("banner", "video") else (0, 0)
    family = {"banner": "image/", "video": "video/", "audio": "audio/", "native": "image/"}[kind]
    return Creative(
        creative_id=creative_id,
        format=kind,
        width=w,
        height=h,
        duration_ms=rng.choice((15_000, 30_000)) if kind in ("video", "audio") else 0,
        media_type=rng.choice([name for name in MEDIA_TYPES if name.startswith(family)][:2]),
        protocol=rng.choice((2, 7)) if kind in ("video", "audio") else 0,
        attributes=some(rng, (3, 8), 0.15),
        is_secure=rng.random() < 0.85,
        landing_url="https://shop.example/",
        adm='<a href="{{CLICK_URL}}">x</a><img src="{{IMPRESSION_URL}}">',
        features={"headline": rng.choice(("a", "b")), "palette": rng.choice(("c", "d"))},
    )


def line_item_of(rng, line_item_id):
    deals = some(rng, DEALS, 0.25)
    caps = tuple(
        FrequencyCap(
            impressions=rng.choice((1, 2, 5)),
            period=rng.choice(list(CapPeriod)),
            scope=rng.choice(list(CapScope)),
        )
        for _ in range(rng.choice((0, 0, 0, 1, 2, 3)))
    )
    return LineItem(
        line_item_id=line_item_id,
        targeting=targeting_of(rng),
        bid_cpm_micros_max=rng.choice((1, 900_000, 5_000_000, 10_000_000_000)),
        deals=deals,
        is_deal_only=bool(deals) and rng.random() < 0.3,
        seat=rng.choice(SEATS),
        frequency_caps=caps,
        creatives=tuple(
            creative_of(rng, line_item_id * 10 + k) for k in range(rng.choice((0, 1, 2, 4)))
        ),
    )


def campaign_of(rng, campaign_id):
    kind = rng.choice(list(GoalKind))
    daily = rng.choice((None, 40_000, 10_000_000))
    return Campaign(
        campaign_id=campaign_id,
        advertiser_id=campaign_id,
        name=f"campaign {campaign_id}",
        currency=rng.choice(("USD", "USD", "EUR", "JPY")),
        time_zone=rng.choice(("UTC", "Asia/Tokyo")),
        advertiser_domain=rng.choice(DOMAINS),
        category=rng.choice(CATEGORIES),
        goal=Goal(
            kind,
            target_cpa_micros=rng.choice((1_000_000, 40_000_000)),
            target_roas=rng.choice((0.5, 3.0)),
            value_per_conversion_micros=rng.choice((2_000_000, 90_000_000)),
        ),
        budget=Budget(
            daily_micros=daily,
            lifetime_micros=10**12 if daily is None or rng.random() < 0.5 else None,
        ),
        flight=rng.choice(
            (Flight(), Flight(), Flight(NOW_MS - 5, NOW_MS + 40), Flight(NOW_MS + 30, None))
        ),
        line_items=tuple(
            line_item_of(rng, campaign_id * 10 + k) for k in range(rng.choice((1, 1, 2, 3)))
        ),
    )


def campaigns_of(rng, count):
    campaigns = tuple(campaign_of(rng, n + 1) for n in range(count))
    for campaign in campaigns:
        assert not problems_of(campaign)
    return campaigns


def opportunities_of(rng, count, *, users=6):
    """A block of ``count`` in order of arrival, a millisecond apart but for some jumps."""
    block = no_opportunities(count, 0, 0)
    pool, deals = [], []
    at_ms = NOW_MS

    def listed(values):
        first = len(pool)
        pool.extend(code_of(value) for value in values)
        return first, len(values)

    for n, record in enumerate(block.records):
        at_ms += rng.choice((0, 1, 1, 1, 400_000))
        record["key_hi"], record["key_lo"] = opportunity_key("x", str(n), str(rng.random()))
        record["arrival_ms"] = at_ms
        record["user_key"] = rng.choice((0, *range(1, users)))
        record["exchange"] = 1
        for dimension in Dimension:
            values = VALUES.get(dimension.name.lower(), ("other",))
            value = rng.choice((*values, *values, "elsewhere", ""))
            record["dimensions"][dimension] = code_of(value) if value else 0
        lists = {
            CodeList.SEGMENT: some(rng, VALUES["segment"], 0.5),
            CodeList.CATEGORY: some(rng, VALUES["category"], 0.5),
            CodeList.KEYWORD: some(rng, VALUES["keyword"], 0.5),
            CodeList.SEAT_ALLOWED: rng.choice(((),) * 9 + ((SEAT,), ("agency", "desk"))),
            CodeList.SEAT_BLOCKED: rng.choice(((),) * 9 + (("agency",), ("none",))),
            CodeList.CATEGORY_ALLOWED: rng.choice(((),) * 9 + (("IAB18",), ("IAB8", "IAB18-2"))),
            CodeList.CATEGORY_BLOCKED: rng.choice(((),) * 6 + (("IAB18-2",), ("IAB18", "IAB9"))),
            CodeList.ADVERTISER_BLOCKED: rng.choice(
                ((),) * 6 + (("shop.example",), ("www.shop.example",), ("kettle.example", "x.y"))
            ),
            CodeList.APP_BLOCKED: rng.choice(((), ("com.game",))),
        }
        for which in CodeList:
            record["list_first"][which], record["list_count"][which] = listed(lists[which])
        record["deal_first"] = len(deals)
        for name in some(rng, DEALS, 0.4):
            seats = rng.choice(((), (), ("agency",), (SEAT, "desk")))
            domains = rng.choice(((), (), ("shop.example",), ("bikes.example", "kettle.example")))
            deals.append(
                (
                    code_of(name), rng.choice((-1, 0, 400_000, 2_000_000)),
                    NUMBERS[rng.choice(("USD", "EUR", "GBP", "CHF"))],
                    rng.choice((0, 0, 1, 2, 3)), *listed(seats), *listed(domains),
                )
            )  # fmt: skip
        record["deal_count"] = len(deals) - record["deal_first"]
        record["is_private"] = rng.random() < 0.15
        record["formats"] = rng.choice(
            (Format.BANNER, Format.BANNER, Format.VIDEO, Format.AUDIO, Format.NATIVE,
             Format.BANNER | Format.VIDEO | Format.NATIVE)
        )  # fmt: skip
        record["auction_type"] = rng.choice((1, 1, 2, 500))
        record["is_test"] = rng.random() < 0.1
        record["is_secure"] = rng.random() < 0.5
        record["floor_cpm_micros"] = rng.choice((0, 10_000, 800_000, 6_000_000))
        record["floor_currency"] = NUMBERS[rng.choice(("USD", "USD", "EUR", "GBP", "CHF"))]
        currencies = rng.choice(
            (("USD",), ("EUR", "USD"), ("CHF", "GBP"), ("CHF",), ("JPY",), ("GBP", "EUR"))
        )
        record["currencies"][: len(currencies)] = [NUMBERS[name] for name in currencies]
        sizes = some(rng, SIZES, 0.6) if record["formats"] & Format.BANNER else ()
        record["sizes"][: len(sizes)] = [w << 16 | h for w, h in sizes]
        record["size_count"] = len(sizes)
        record["duration_ms_min"], record["duration_ms_max"] = rng.choice(
            ((0, 0), (0, 15_000), (5_000, 30_000), (20_000, 0))
        )
        record["attributes_blocked"] = rng.choice((0, 0, 1 << 3, 1 << 8 | 1 << 20))
        record["protocols"] = rng.choice((0, 1 << 2, 1 << 2 | 1 << 7))
        record["media_types"] = rng.choice((0, 0, 2**14 - 1, 0b1010101))
        record["quantity_micros"] = rng.choice((1_000_000, 1_000_000, 12_500_001))
        record["billing_window_ms"] = 300_000
    return block._replace(
        codes=np.array(pool or [0], np.uint64),
        deals=np.array(deals, block.deals.dtype) if deals else np.zeros(1, block.deals.dtype),
    )


def credits_of(amounts, kind=CreditKind.BUDGET):
    return np.array([(key, amount, kind) for key, amount in amounts.items()], CREDIT_DTYPE)


def limits_of(campaigns, now_ms=NOW_MS):
    return {
        budget.budget_id: budget.limit_micros
        for campaign in campaigns
        for budget in budgets_of(campaign, now_ms)
    }


def snapshot_of(campaigns, *, version=1, now_ms=NOW_MS, lifts=None, values=None, weights=None):
    return compile_snapshot(
        campaigns,
        weights or exact_weights(),
        Compilation(
            version=version, policy_version=3, intent_version=1, now_ms=now_ms, seed=SEED,
            rates_micros=RATES, default_seat=SEAT, rows=allocate_rows({}, campaigns),
            lifts=lifts or {}, conversion_values=values or {},
        ),
    )  # fmt: skip


class World:
    """Campaigns with multipliers and posteriors: makes deciders and twins that know the same."""

    def __init__(self, rng, campaign_count=8, campaigns=None):
        self.campaigns = campaigns or campaigns_of(rng, campaign_count)
        items = [item for campaign in self.campaigns for item in campaign.line_items]
        self.multipliers = {
            item.line_item_id: Multipliers(
                rng.choice((0.25, 1.0, 3.0)), rng.choice((0.0, 0.5)), rng.choice((1.0, 0.7)),
                rng.random() < 0.9,
            )
            for item in items
        }  # fmt: skip
        self.lifts = {
            creative.creative_id: Lift(9.0, rng.choice((6.0, 12.0)), rng.random() < 0.5)
            for item in items
            for creative in item.creatives
            if rng.random() < 0.7
        }
        self.values = {c.campaign_id: 5_000_000 for c in self.campaigns if rng.random() < 0.5}
        self.limits = limits_of(self.campaigns)

    def snapshot(self, **rest):
        return snapshot_of(self.campaigns, lifts=self.lifts, values=self.values, **rest)

    def decider(self, *, is_funded=True, is_paused=False, **rest):
        live = new_live_arrays()
        for line_item_id, row in allocate_rows({}, self.campaigns).items():
            multipliers = self.multipliers[line_item_id]
            live.pacing_lambda[row] = multipliers.pacing_lambda
            live.ratio_mu[row] = multipliers.ratio_mu
            live.shading_factor[row] = multipliers.shading_factor
            live.is_active[row] = multipliers.is_active and not is_paused
        decider = Decider(self.snapshot(), live, **rest)
        if is_funded:
            decider.credit(credits_of(self.limits), NOW_MS)
        return decider

    def twin(self):
        return Twin(
            self.campaigns, exact_weights(), rates_micros=RATES, default_seat=SEAT, seed=SEED,
            now_ms=NOW_MS, lifts=self.lifts, conversion_values=self.values,
            multipliers=self.multipliers, available=self.limits,
        )  # fmt: skip
