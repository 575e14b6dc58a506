"""Workloads of ``python -m bench decide``: campaigns, a model, multipliers and opportunities.

A: every line item has random targeting of its own. B: as campaigns are: line items of a campaign
share one or two targetings, values follow Zipf's law, there are allow and deny lists of sites,
segments to reach and to avoid, blocked advertisers, floors, pauses, and creatives of one campaign
resemble one another. Shares and sizes are those of the decision kernel's prototype, whose ``fmt``
(one of 32 slots) is the placement here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.candidates import Compilation, Lift, allocate_rows
from bidder.decide import Decider
from bidder.kernels_cap import cap_add, cap_counter_key
from bidder.recommendation.network import Weights, weights_of
from market.campaign import (
    PERIOD_MS,
    Budget,
    Campaign,
    CapPeriod,
    CapScope,
    Creative,
    FrequencyCap,
    Goal,
    GoalKind,
    LineItem,
    Targeting,
)
from market.chance import code_of
from market.control import LiveArrays, new_live_arrays
from market.features import AD_ROWS, CONTEXT_ROWS
from market.money import currency_number
from market.opportunity import CodeList, Dimension, Format, Opportunities, no_opportunities
from market.snapshot import Snapshot, read_snapshot, write_snapshot
from market.state import new_state

if TYPE_CHECKING:
    from pathlib import Path

NOW_MS = 1_700_000_000_000
WIDTH = 32
"""E: numbers a head; a creative has 64 in all."""
SEGMENTS = 2_000
CATEGORIES = 400
SIZE = 300 << 16 | 250
CAP_SLOTS = 1 << 18
USD = currency_number("USD")
CAP = 1_000
"""Impressions that a cap allows: users either have none, or have seen this many."""

RANDOM = {
    # values, share of line items that target it, values each
    Dimension.COUNTRY: (250, 0.7, 8), Dimension.REGION: (60, 0.2, 6), Dimension.OS: (8, 0.3, 2),
    Dimension.DEVICE_TYPE: (8, 0.4, 2), Dimension.PLACEMENT: (32, 1.0, 4),
    Dimension.HOUR_OF_WEEK: (168, 0.3, 60), Dimension.INVENTORY: (2_000, 0.15, 30),
    Dimension.LANGUAGE: (40, 0.2, 2), Dimension.CONNECTION: (8, 0.1, 2),
}  # fmt: skip
REAL = {
    Dimension.COUNTRY: 200, Dimension.REGION: 500, Dimension.OS: 8, Dimension.DEVICE_TYPE: 8,
    Dimension.PLACEMENT: 32, Dimension.HOUR_OF_WEEK: 168, Dimension.INVENTORY: 5_000,
    Dimension.LANGUAGE: 40, Dimension.CONNECTION: 8, Dimension.EXCHANGE: 20,
}  # fmt: skip


class World(NamedTuple):
    """One workload.

    Attributes:
        campaigns: all of them.
        weights: of the model.
        compilation: rows and posteriors.
        live: multipliers, by row.
        opportunities: [N], with their pool of codes.
        capped: by opportunity, campaigns of which its user has seen enough.
    """

    campaigns: tuple[Campaign, ...]
    weights: Weights
    compilation: Compilation
    live: LiveArrays
    opportunities: Opportunities
    capped: tuple[npt.NDArray[np.int64], ...]


class _Drawn(NamedTuple):
    """Campaigns before they are written: targeting by line item, and what they share."""

    targetings: list[Targeting]
    campaign_of: npt.NDArray[np.int64]
    advertiser_of: npt.NDArray[np.int64]
    values_micros: npt.NDArray[np.int64]


def world_of(name: str, line_item_count: int, request_count: int, seed: int = 1) -> World:
    """Returns workload A or B with so many line items and opportunities."""
    rng = np.random.default_rng(seed)
    drawn = (_drawn_at_random if name == "A" else _drawn_as_real)(rng, line_item_count)
    campaigns = _campaigns(rng, drawn, is_alike=name == "B")
    rows = allocate_rows({}, campaigns)
    live = new_live_arrays()
    count = line_item_count
    live.is_active[:count] = 1
    if name == "A":
        live.pacing_lambda[:count] = 1 / np.maximum(rng.random(count), 1e-3)
        sizes = {dimension: each[0] for dimension, each in RANDOM.items()}
    else:
        slowed = rng.random(count) < 0.3
        live.pacing_lambda[:count] = 1 / np.where(slowed, rng.uniform(0.05, 1, count), 1)
        live.shading_factor[:count] = rng.uniform(0.6, 1, count)
        live.is_active[:count] = rng.random(count) < 0.97
        sizes = REAL
    lifts = {
        creative.creative_id: Lift(40.0, 40.0, is_cold=False)
        for campaign in campaigns
        for line_item in campaign.line_items
        for creative in line_item.creatives
    }
    compilation = Compilation(
        version=1, policy_version=1, intent_version=1, now_ms=NOW_MS, seed=1,
        rates_micros={"USD": 1_000_000}, default_seat="seat", rows=rows, lifts=lifts,
    )  # fmt: skip
    advertisers = int(drawn.advertiser_of.max()) + 1
    opportunities = _opportunities(rng, request_count, sizes, advertisers, is_real=name == "B")
    capped = tuple(
        1 + np.unique(rng.integers(0, len(campaigns), min(60, max(1, len(campaigns) // 20))))
        if rng.random() < 0.3
        else np.zeros(0, np.int64)
        for _ in range(request_count)
    )
    weights = _weights(rng, context_norm=1.0 if name == "A" else 2.0)
    return World(campaigns, weights, compilation, live, opportunities, capped)


def text(dimension: Dimension, value: int) -> str:
    """Returns the text of a dimension's value."""
    return f"{dimension.name.lower()}{value}"


def _zipf(count: int, exponent: float) -> npt.NDArray[np.float64]:
    weights = 1 / np.arange(1, count + 1) ** exponent
    return weights / weights.sum()


def _choose(
    rng: np.random.Generator, weights: npt.NDArray[np.float64], count: int
) -> npt.NDArray[np.int64]:
    """Draws without replacement by the Gumbel trick, a tenth of the time of ``rng.choice``."""
    keys = np.log(weights) + rng.gumbel(size=weights.shape[0])
    count = min(count, weights.shape[0])
    return np.argpartition(-keys, count - 1)[:count]


def _drawn_at_random(rng: np.random.Generator, count: int) -> _Drawn:
    weights = {dimension: _zipf(size, 1.0) for dimension, (size, _, _) in RANDOM.items()}
    categories = _zipf(CATEGORIES, 1.0)
    targetings: list[Targeting] = []
    for _ in range(count):
        include: dict[str, tuple[str, ...]] = {}
        for dimension, (_, share, each) in RANDOM.items():
            if rng.random() < share:
                values = _choose(rng, weights[dimension], each)
                include[dimension.name.lower()] = tuple(text(dimension, v) for v in values)
        if rng.random() < 0.4:
            segments = rng.integers(0, SEGMENTS, rng.integers(1, 6))
            include["segment"] = tuple(f"segment{v}" for v in segments)
        if rng.random() < 0.2:
            include["category"] = tuple(f"category{v}" for v in _choose(rng, categories, 12))
        targetings.append(Targeting(include=include))
    campaign_count = max(150, count * 15 // 100)
    return _Drawn(
        targetings, rng.integers(0, campaign_count, count),
        rng.integers(0, max(30, 300 * count // 10_000), campaign_count),
        (rng.lognormal(1.5, 0.5, campaign_count) * 4e6).astype(np.int64),
    )  # fmt: skip


def _drawn_as_real(rng: np.random.Generator, count: int) -> _Drawn:
    scale = count / 10_000
    campaign_count, advertiser_count = max(15, int(1_500 * scale)), max(3, int(300 * scale))
    weights = {dimension: _zipf(size, 1.0) for dimension, size in REAL.items()}
    makers = _Makers(weights, _zipf(SEGMENTS, 0.7), _zipf(CATEGORIES, 1.0))
    shared = [
        [_real_targeting(rng, makers) for _ in range(1 + (rng.random() < 1 / 3))]
        for _ in range(campaign_count)
    ]
    campaign_of = np.sort(
        np.concatenate(
            [
                np.arange(campaign_count),
                rng.choice(campaign_count, count - campaign_count, p=_zipf(campaign_count, 0.3)),
            ]
        )
    )
    return _Drawn(
        [
            shared[campaign][int(rng.integers(len(shared[campaign])))]
            for campaign in campaign_of.tolist()
        ],
        campaign_of,
        rng.choice(advertiser_count, campaign_count, p=_zipf(advertiser_count, 0.6)),
        (rng.lognormal(1.5, 0.8, campaign_count) * 4e6).astype(np.int64),
    )


class _Makers(NamedTuple):
    dimensions: dict[Dimension, npt.NDArray[np.float64]]
    segments: npt.NDArray[np.float64]
    categories: npt.NDArray[np.float64]


def _real_targeting(  # noqa: C901 - one draw after the other
    rng: np.random.Generator, makers: _Makers
) -> Targeting:
    """Broad, middling or narrow, in shares of 3, 4 and 3 of ten."""
    include: dict[str, tuple[str, ...]] = {}
    exclude: dict[str, tuple[str, ...]] = {}

    def put(dimension: Dimension, low: int, high: int, share: float) -> None:
        if rng.random() < share:
            values = _choose(rng, makers.dimensions[dimension], int(rng.integers(low, high + 1)))
            include[dimension.name.lower()] = tuple(text(dimension, v) for v in values)

    kind = rng.choice(3, p=[0.3, 0.4, 0.3])
    put(Dimension.COUNTRY, 1, 3, 0.85)
    put(Dimension.PLACEMENT, 1, 5, 1.0)
    if kind >= 1:
        put(Dimension.DEVICE_TYPE, 1, 3, 0.5)
        put(Dimension.OS, 1, 3, 0.4)
        put(Dimension.CONNECTION, 1, 3, 0.15)
        put(Dimension.LANGUAGE, 1, 3, 0.3)
        put(Dimension.EXCHANGE, 3, 10, 0.3)
        put(Dimension.REGION, 1, 8, 0.05)
        if rng.random() < 0.4:
            first, hours = int(rng.integers(0, 24)), int(rng.integers(6, 18))
            include["hour_of_week"] = tuple(
                text(Dimension.HOUR_OF_WEEK, day * 24 + (first + hour) % 24)
                for day in range(7)
                for hour in range(hours)
            )
        if rng.random() < 0.25:
            chosen = _choose(rng, makers.categories, int(rng.integers(3, 13)))
            include["category"] = tuple(f"category{v}" for v in chosen)
    if kind == 2:
        draw = rng.random()
        if draw < 0.55:
            put(Dimension.INVENTORY, 20, 200, 1.0)
        if draw >= 0.45:
            chosen = _choose(rng, makers.segments, int(rng.integers(1, 11)))
            include["segment"] = tuple(f"segment{v}" for v in chosen)
    elif rng.random() < 0.3:
        denied = _choose(rng, makers.dimensions[Dimension.INVENTORY], int(rng.integers(5, 51)))
        exclude["inventory"] = tuple(text(Dimension.INVENTORY, v) for v in denied)
    if rng.random() < 0.2:
        avoided = _choose(rng, makers.segments, int(rng.integers(1, 5)))
        exclude["segment"] = tuple(f"segment{v}" for v in avoided)
    return Targeting(include=include, exclude=exclude)


def _campaigns(rng: np.random.Generator, drawn: _Drawn, *, is_alike: bool) -> tuple[Campaign, ...]:
    """Writes the campaigns; ``is_alike``: creatives of a campaign share most of what they show."""
    capped = rng.random(len(drawn.targetings)) < 0.7
    items: dict[int, list[LineItem]] = {n: [] for n in range(drawn.advertiser_of.shape[0])}
    for n, targeting in enumerate(drawn.targetings):
        campaign = int(drawn.campaign_of[n])
        look = campaign if is_alike else n
        creative = Creative(
            creative_id=n + 1, width=300, height=250, adm="<img>",
            landing_url="https://shop.example/",
            features={"headline": f"h{look}", "layout": f"l{n}", "palette": f"p{look}"},
        )  # fmt: skip
        caps = (
            (FrequencyCap(impressions=CAP, period=CapPeriod.WEEK, scope=CapScope.CAMPAIGN),)
            if capped[n]
            else ()
        )
        items[campaign].append(
            LineItem(
                line_item_id=n + 1, targeting=targeting, bid_cpm_micros_max=900_000_000,
                frequency_caps=caps, creatives=(creative,),
            )
        )  # fmt: skip
    return tuple(
        Campaign(
            name=f"campaign {n}", currency="USD", time_zone="UTC",
            goal=Goal(GoalKind.TARGET_CPA, target_cpa_micros=int(drawn.values_micros[n])),
            budget=Budget(lifetime_micros=10**14),
            advertiser_domain=f"advertiser{drawn.advertiser_of[n]}.example",
            category=f"IAB{int(rng.integers(0, CATEGORIES))}", line_items=tuple(items[n]),
            campaign_id=n + 1, advertiser_id=int(drawn.advertiser_of[n]) + 1,
        )
        for n in items
    )  # fmt: skip


def _weights(rng: np.random.Generator, *, context_norm: float) -> Weights:
    """A model whose context vectors have about this norm over both heads, and creatives' norm 1."""

    def table(rows: int, columns: int, deviation: float) -> npt.NDArray[np.float32]:
        return (rng.standard_normal((rows, columns)) * deviation).astype(np.float32)

    return weights_of(
        table(CONTEXT_ROWS, 2 * WIDTH, context_norm / 8 / 12**0.5),
        table(CONTEXT_ROWS, 2, 0.05),
        table(AD_ROWS, 2 * WIDTH, 1 / 8 / 6**0.5),
        table(AD_ROWS, 2, 0.3 / 6**0.5),
        np.array([-4.0, -2.5], np.float32),
        np.array([[1.0, 0.0], [1.0, 0.0]]),
    )


def _opportunities(
    rng: np.random.Generator,
    count: int,
    sizes: dict[Dimension, int],
    advertisers: int,
    *,
    is_real: bool,
) -> Opportunities:
    block = no_opportunities(count, 0, 1)
    records = block.records
    pool: list[int] = []
    records["key_hi"] = rng.integers(1, 2**63, count)
    records["key_lo"] = rng.integers(1, 2**63, count)
    records["user_key"] = np.arange(count) + 1
    records["arrival_ms"] = NOW_MS + 1
    records["exchange"] = 1
    records["formats"] = Format.BANNER
    records["auction_type"] = 1
    records["floor_currency"] = USD
    records["currencies"][:, 0] = USD
    records["sizes"][:, 0] = SIZE
    records["size_count"] = 1
    records["quantity_micros"] = 1_000_000
    records["billing_window_ms"] = 300_000
    if is_real:
        records["floor_cpm_micros"] = (rng.lognormal(-2.5, 1, count) * 4e6).astype(np.int64)
    for dimension, size in sizes.items():
        codes = np.array([code_of(text(dimension, v)) for v in range(size)], np.uint64)
        weights = _zipf(size, 1.0)
        if dimension is Dimension.HOUR_OF_WEEK:
            weights = np.full(size, 1 / size)
        records["dimensions"][:, dimension] = codes[rng.choice(size, count, p=weights)]
    segments = [code_of(f"segment{v}") for v in range(SEGMENTS)]
    categories = [code_of(f"category{v}") for v in range(CATEGORIES)]
    blocked = [code_of(f"IAB{v}") for v in range(CATEGORIES)]
    domains = [code_of(f"advertiser{v}.example") for v in range(advertisers)]
    segment_weights, category_weights = _zipf(SEGMENTS, 0.7), _zipf(CATEGORIES, 1.0)
    for record in records:
        if is_real:
            mine = _choose(rng, segment_weights, int(min(60, rng.geometric(1 / 30))))
            lists = {
                CodeList.SEGMENT: [segments[v] for v in mine],
                CodeList.CATEGORY_BLOCKED: [
                    blocked[v] for v in rng.integers(0, 400, rng.integers(9))
                ],
                CodeList.ADVERTISER_BLOCKED: [
                    domains[v] for v in rng.integers(0, advertisers, rng.integers(5))
                ],
            }
        else:
            lists = {
                CodeList.SEGMENT: [segments[v] for v in rng.integers(0, SEGMENTS, 30)],
                CodeList.CATEGORY_BLOCKED: [blocked[v] for v in rng.integers(0, 400, 6)],
            }
        lists[CodeList.CATEGORY] = [categories[int(rng.choice(CATEGORIES, p=category_weights))]]
        for which, codes in lists.items():
            record["list_first"][which] = len(pool)
            record["list_count"][which] = len(codes)
            pool.extend(codes)
    return block._replace(codes=np.array(pool, np.uint64))


class OneByOne:
    """Opportunities one after the other in the same arrays, as the bidder's edge makes them."""

    def __init__(self, block: Opportunities) -> None:
        """Takes the block to go through."""
        self._block = block
        counts = block.records["list_count"].sum(axis=1)
        firsts = np.where(block.records["list_count"] > 0, block.records["list_first"], 2**31 - 1)
        self._slices = list(zip(firsts.min(axis=1).tolist(), counts.tolist(), strict=True))
        self.count = len(self._slices)
        self.one = no_opportunities(1, int(counts.max()), 1)

    def make(self, n: int) -> Opportunities:
        """Returns opportunity ``n``, until the next call."""
        first, count = self._slices[n]
        self.one.records[0] = self._block.records[n]
        self.one.records["list_first"] -= first
        self.one.codes[:count] = self._block.codes[first : first + count]
        return self.one


class Loaded(NamedTuple):
    """A world as a worker has it: mapped and laid out, without a campaign in sight."""

    snapshot: Snapshot
    live: LiveArrays
    opportunities: Opportunities
    one_by_one: OneByOne
    capped: tuple[npt.NDArray[np.int64], ...]


def write_world(world: World, snapshot: Snapshot, folder: Path) -> None:
    """Writes what ``read_world`` reads."""
    write_snapshot(folder / "snapshot.bin", snapshot)
    np.savez(folder / "live.npz", **world.live._asdict())
    np.savez(
        folder / "opportunities.npz", **world.opportunities._asdict(),
        capped=np.concatenate([np.zeros(0, np.int64), *world.capped]),
        capped_count=np.array([each.shape[0] for each in world.capped]),
    )  # fmt: skip


def read_world(folder: Path) -> Loaded:
    """Returns the world in ``folder``."""
    with np.load(folder / "live.npz") as file:
        live = LiveArrays(**{name: file[name] for name in LiveArrays._fields})
    with np.load(folder / "opportunities.npz") as file:
        opportunities = Opportunities(*(file[name] for name in Opportunities._fields))
        ends = np.cumsum(file["capped_count"])[:-1]
        capped = tuple(np.split(file["capped"], ends))
    snapshot = read_snapshot(folder / "snapshot.bin")
    return Loaded(snapshot, live, opportunities, OneByOne(opportunities), capped)


def decider_of(loaded: Loaded) -> Decider:
    """Returns a decider that can pay for everything and knows which caps are reached."""
    slots = new_state(0, slots=CAP_SLOTS).cap_slots
    decider = Decider(loaded.snapshot, loaded.live, cap_slots=slots)
    decider.state.available_micros[:] = 10**14
    arrays = loaded.snapshot.arrays
    capped = arrays.line_items[arrays.line_items["cap_count"] > 0]
    codes = arrays.caps["scope_code"][capped["cap_first"]]
    scopes = dict(zip(capped["campaign_id"].tolist(), codes, strict=True))
    period = PERIOD_MS[CapPeriod.WEEK]
    for record, campaigns in zip(loaded.opportunities.records, loaded.capped, strict=True):
        for campaign in campaigns.tolist():
            if campaign in scopes:
                key = cap_counter_key(
                    scopes[campaign], record["user_key"], record["arrival_ms"], period
                )
                cap_add(slots, 0, np.uint64(key), CAP, NOW_MS, NOW_MS + period)
    decider.warm_up()
    return decider
