"""Random campaigns and opportunities that meet often, and what a decision on them needs."""

from __future__ import annotations

from functools import cache

import numpy as np

from bidder.candidates import Compilation, Lift, allocate_rows, compile_snapshot
from bidder.decide import Decider
from bidder.recommendation.network import weights_of
from market.budgets import budgets_of
from market.campaign import (
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
    problems_of,
)
from market.chance import code_of, opportunity_key
from market.control import new_live_arrays
from market.creative import MEDIA_TYPES, NativeImage, NativeParts
from market.features import AD_ROWS, CONTEXT_ROWS
from market.landscape import Landscape
from market.opportunity import CodeList, Dimension, Format, no_opportunities
from market.state import CREDIT_DTYPE, CreditKind
from market.targeting import Area, Targeting
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
    "user_keyword": ("golf", "tea"),
    "eid_source": ("id.example",),
    "site": ("news.example", "sport.news.example"),
}
SIZES = ((300, 250), (320, 50), (728, 90))
SEATS = ("", "agency", "desk")
BERLIN = (52.52, 13.405)
PLACES = ((0, 0), (52_520_000, 13_405_000), (52_530_000, 13_420_000), (48_137_000, 11_576_000))
LANGUAGES = ("", "en", "de")
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
    lowest, highest = rng.choice((("", ""),) * 8 + (("13", ""), ("13.1", "14"), ("", "13.2.5")))
    return Targeting(
        include=include,
        exclude=exclude,
        areas=rng.choice(((),) * 12 + ((Area(*BERLIN, 5_000),), (Area(*BERLIN, 1_800, True),))),
        os_version_min=lowest,
        os_version_max=highest,
        viewability_min=rng.choice((0.0,) * 9 + (0.5,)),
    )


def creative_of(rng, creative_id):
    kind = rng.choice(("banner", "banner", "banner", "video", "audio", "native"))
    w, h = rng.choice(SIZES) if kind in ("banner", "video") else (0, 0)
    family = {"banner": "image/", "video": "video/", "audio": "audio/", "native": "image/"}[kind]
    is_played = kind in ("video", "audio")
    has_file = is_played and rng.random() < 0.5
    # 3: expands by itself; 8: pops up; 16: has a skip button.
    attributes = some(rng, (3, 8) if kind == "banner" else (8, 16, 16), 0.15)
    clip_ms = rng.choice((15_000, 30_000)) if is_played else 0
    adm = '<a href="{{CLICK_URL}}">x</a><img src="{{IMPRESSION_URL}}">'
    if kind == "banner":
        adm += rng.choice(("", "", "<script></script>", "<iframe></iframe>"))
    has_parts = kind == "native" and rng.random() < 0.7
    return Creative(
        creative_id=creative_id,
        format=kind,
        width=w,
        height=h,
        duration_ms=clip_ms,
        media_type=rng.choice([name for name in MEDIA_TYPES if name.startswith(family)][:2]),
        protocol=rng.choice((2, 7)) if is_played else 0,
        attributes=attributes,
        is_secure=rng.random() < 0.85,
        landing_url="https://shop.example/",
        language=rng.choice(LANGUAGES),
        adm="" if has_file or has_parts else adm,
        features={"headline": rng.choice(("a", "b")), "palette": rng.choice(("c", "d"))},
        media_url="https://assets.example/clip" if has_file else "",
        bitrate_kbps=rng.choice((0, 800, 2_000)),
        delivery=rng.choice((1, 2)),
        linearity=rng.choice((1, 1, 1, 2)),
        skip_after_ms=rng.choice((0, 5_000)) if 16 in attributes and is_played else 0,
        apis=some(rng, (3, 7), 0.1),
        expand_directions=(4,) if 3 in attributes else (),
        native=parts_of(rng) if has_parts else None,
    )


def parts_of(rng):
    image = NativeImage(url="https://assets.example/i", width=300, height=250)
    icon = NativeImage(url="https://assets.example/j", width=64, height=64, media_type="image/png")
    return NativeParts(
        title=rng.choice(("Shoes", "Shoes for every hill and every weather")),
        image=rng.choice((image, None)),
        icon=rng.choice((icon, None)),
        sponsored=rng.choice(("", "Alpine")),
        description=rng.choice(("", "Light, dry and warm.")),
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
        categories_by_taxonomy=rng.choice(({}, {"6": ("483", "460")})),
        app_bundle=rng.choice(("", "com.shop")),
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


def one_item_campaign(creatives):
    """A campaign with one line item that targets everybody and has these creatives."""
    return Campaign(
        campaign_id=1, advertiser_id=1, name="one", currency="USD", time_zone="UTC",
        advertiser_domain="shop.example",
        goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=1_000_000),
        budget=Budget(lifetime_micros=10**9),
        line_items=(LineItem(line_item_id=1, creatives=tuple(creatives)),),
    )  # fmt: skip


def opportunities_of(rng, count, *, users=6):
    """A block of ``count`` in order of arrival, a millisecond apart but for some jumps."""
    block = no_opportunities(count, 0, 0)
    pool, deals = [], []
    at_ms = NOW_MS

    def listed(values):
        first = len(pool)
        pool.extend(code_of(value) for value in values)
        return first, len(values)

    def floors(has_floors):
        first = len(pool)
        for _ in range(rng.choice((1, 2)) if has_floors else 0):
            pool.extend(rng.choice(((0, 20_000, 900_000), (15_000, 0, 1_200_000), (0, 0, 50_000))))
        return first if has_floors else 0, (len(pool) - first) // 3

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
            CodeList.APP_BLOCKED: rng.choice(((), ("com.game",), ("com.shop",))),
            CodeList.USER_KEYWORD: some(rng, VALUES["user_keyword"], 0.4),
            CodeList.EID_SOURCE: some(rng, VALUES["eid_source"], 0.5),
            CodeList.SITE: rng.choice(((), VALUES["site"][:1], VALUES["site"])),
            CodeList.TAXONOMY: rng.choice(((),) * 9 + (("6:",),)),
        }
        for which in CodeList:
            record["list_first"][which], record["list_count"][which] = listed(lists.get(which, ()))
        record["deal_first"] = len(deals)
        for name in some(rng, DEALS, 0.4):
            seats = rng.choice(((), (), ("agency",), (SEAT, "desk")))
            domains = rng.choice(((), (), ("shop.example",), ("bikes.example", "kettle.example")))
            deals.append(
                (
                    code_of(name), rng.choice((-1, 0, 400_000, 2_000_000)),
                    NUMBERS[rng.choice(("USD", "EUR", "GBP", "CHF"))],
                    rng.choice((0, 0, 1, 2, 3)), *listed(seats), *listed(domains),
                    rng.choice((0, 0, 0, 40_000)), *floors(rng.random() < 0.2),
                    rng.random() < 0.2,
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
        fill_fit(rng, record)
        record["quantity_micros"] = rng.choice((1_000_000, 1_000_000, 12_500_001))
        record["billing_window_ms"] = 300_000
        fill_conditions(rng, record)
        for played in range(2):
            record["second_cpm_micros"][played] = rng.choice((0, 0, 0, 30_001))
            place, floor_count = floors(rng.random() < 0.15)
            record["duration_floor_first"][played] = place
            record["duration_floor_count"][played] = floor_count
    return block._replace(
        codes=np.array(pool or [0], np.uint64),
        deals=np.array(deals, block.deals.dtype) if deals else np.zeros(1, block.deals.dtype),
    )


def fill_conditions(rng, record):
    """Fills what targeting asks of a device and an imp beside values and lists."""
    major, minor, patch = rng.choice(((0, 0, 0), (12, 9, 9), (13, 1, 0), (13, 2, 6), (14, 4, 1)))
    record["os_version"] = major << 32 | minor << 16 | patch
    record["latitude_e6"], record["longitude_e6"] = rng.choice(PLACES)
    record["position_kind"] = rng.choice((1, 1, 2)) if record["latitude_e6"] else 0
    record["accuracy_m"] = rng.choice((0, 0, 20, 3_000))
    record["viewability_ppm"] = rng.choice((0, 400_000, 500_000, 900_000))
    allowed = rng.choice(((),) * 8 + (("en",), ("fr", "de")))
    record["languages"][: len(allowed)] = [code_of(name) for name in allowed]


def fill_fit(rng, record):
    """Fills what the formats of a record ask of a creative: mostly little."""
    for played in range(3):
        record["duration_ms_min"][played], record["duration_ms_max"][played] = rng.choice(
            ((0, 0), (0, 15_000), (5_000, 30_000), (20_000, 0))
        )
        record["protocols"][played] = rng.choice((0, 1 << 2, 1 << 2 | 1 << 7, 1 << 3 | 1 << 13, 1))
        exact = rng.choice(((), (), (), (15_000,), (20_000, 30_000)))
        record["durations_ms"][played * 8 : played * 8 + len(exact)] = exact
        record["deliveries"][played] = rng.choice((0, 0, 1 << 2, 1 << 1 | 1 << 3))
        low, high = rng.choice(((0, 0), (0, 0), (0, 1_000), (1_000, 0), (500, 900)))
        record["bitrate_kbps_min"][played], record["bitrate_kbps_max"][played] = low, high
    for place in range(4):
        record["attributes_blocked"][place] = rng.choice((0, 0, 1 << 3, 1 << 8 | 1 << 16))
        record["media_types"][place] = rng.choice((0, 0, 2**14 - 1, 0b1010101))
        record["apis"][place] = rng.choice((0, 1 << 3, 1 << 3 | 1 << 7))
    if record["formats"] & Format.BANNER and rng.random() < 0.3:
        record["ratios"][:2] = (6 << 16 | 5, 32 << 16 | 5)
        record["ratio_widths_min"][:2] = (rng.choice((0, 400)), 100)
    record["banner_types_blocked"] = rng.choice((0, 0, 0, 1 << 3, 1 << 2 | 1 << 4))
    record["expand_directions"] = rng.choice((0, 1 << 4, 1 << 1 | 1 << 2))
    record["linearity"] = rng.choice((0, 0, 1, 2))
    record["player_size"] = rng.choice((0, 0, 0, 600 << 16 | 500))
    record["skippable_ms_min"] = rng.choice((0, 0, 20_000))
    record["skip_after_ms_min"] = rng.choice((0, 0, 5_000))
    record["native_title_chars"] = rng.choice((0, 0, 25, 65_535))
    record["native_data_chars"][1:3] = rng.choice(((0, 0), (0, 0), (25, 0), (65_535, 10)))
    record["native_images_required"] = rng.choice((0, 0, 1, 2, 3))
    record["native_width_min"] = rng.choice((0, 100))
    record["native_width_max"] = rng.choice((65_535, 64))
    record["native_height_max"] = 65_535
    record["native_image_types"] = rng.choice((0, 0, 1))
    record["native_needs_video"] = rng.random() < 0.1


def credits_of(amounts, kind=CreditKind.BUDGET):
    return np.array([(key, amount, kind) for key, amount in amounts.items()], CREDIT_DTYPE)


def limits_of(campaigns, now_ms=NOW_MS):
    return {
        budget.budget_id: budget.limit_micros
        for campaign in campaigns
        for budget in budgets_of(campaign, now_ms)
    }


def snapshot_of(
    campaigns, *, version=1, now_ms=NOW_MS, lifts=None, values=None, weights=None, landscapes=()
):
    return compile_snapshot(
        campaigns,
        weights or exact_weights(),
        Compilation(
            version=version, policy_version=3, intent_version=1, now_ms=now_ms, seed=SEED,
            rates_micros=RATES, default_seat=SEAT, rows=allocate_rows({}, campaigns),
            lifts=lifts or {}, conversion_values=values or {},
            landscapes=landscapes,
        ),
    )  # fmt: skip


def landscapes_of(rng):
    """Price landscapes of exchange 1: none, one for all formats, or one for video besides."""
    everywhere = Landscape(
        exchange_id=1,
        price_cpm_micros=(20_000, 400_000, 900_000, 3_000_000),
        win_probability=(0.1, 0.35, 0.6, 0.95),
    )
    video = Landscape(
        exchange_id=1, format="video", price_cpm_micros=(700_000,), win_probability=(1.0,)
    )
    return rng.choice(((), (everywhere,), (everywhere, video), (video,)))


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
        self.landscapes = landscapes_of(rng)

    def snapshot(self, **rest):
        return snapshot_of(
            self.campaigns, lifts=self.lifts, values=self.values, landscapes=self.landscapes, **rest
        )

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
            multipliers=self.multipliers, available=self.limits, landscapes=self.landscapes,
        )  # fmt: skip
