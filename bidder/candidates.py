"""From campaigns to a snapshot: line items, creatives, budgets and caps as structures of arrays.

``Compiler`` lays every campaign out by itself, keeps that, and joins the parts; what line items
target becomes expressions (``bidder.expressions``) and an index over them (``bidder.index``).
Nothing here decides or reads a clock.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.creative_rows import fit_columns, renditions_of, size_of
from bidder.expressions import ExpressionPool, domains_of, rank_order
from bidder.index import EMPTY_INDEX, build_index
from bidder.kernels_bound import fill_worths
from bidder.recommendation.network import Weights, creative_tables
from bidder.work import ITEM_BOUND_DTYPE, typical_context
from market.budgets import BudgetRow, budgets_of
from market.campaign import (
    PERIOD_MS,
    Campaign,
    CapScope,
    Creative,
    GoalKind,
    LineItem,
    format_bit,
)
from market.chance import code_of, pair_code
from market.control import LINE_ITEM_ROWS_MAX
from market.creative import AD_FIELDS, media_bit
from market.errors import BadInput
from market.events import BUDGETS_PER_LINE_ITEM
from market.features import ad_feature_rows, ad_field_values
from market.landscape import Landscape, landscape_array
from market.money import BUDGET_MICROS_MAX, MICROS, currency_number
from market.snapshot import (
    AREA_DTYPE,
    BUDGET_DTYPE,
    CAP_DTYPE,
    CREATIVE_DTYPE,
    LINE_ITEM_DTYPE,
    CreativeText,
    Snapshot,
    SnapshotArrays,
    SnapshotHead,
)
from market.targeting import degrees_e6, os_version_range

_OPEN_END_MS = 2**62
_GOALS = {GoalKind.MAX_CONVERSIONS: 0, GoalKind.TARGET_CPA: 1, GoalKind.TARGET_ROAS: 2}
_SCOPES = {CapScope.CAMPAIGN: 1, CapScope.LINE_ITEM: 2, CapScope.CREATIVE: 3}


class Lift(NamedTuple):
    """Posterior of a creative's click lift over the model: gamma(shape, rate), and its phase."""

    shape: float
    rate: float
    is_cold: bool


PRIOR_LIFT = Lift(shape=4.0, rate=4.0, is_cold=True)
"""A new creative: mean lift 1, standard deviation 1/2 (as if 4 of 4 expected clicks were seen)."""


class Compilation(NamedTuple):
    """What a snapshot is made from, besides the campaigns.

    Attributes:
        version, policy_version, intent_version: see SnapshotHead.
        now_ms: decides which daily budgets are in it.
        seed: of the decision's keyed draws.
        rates_micros: units of USD per unit of each currency, times 10^6.
        default_seat: of line items that name none.
        rows: line item id -> row; rows never move (``allocate_rows``).
        lifts: creative id -> posterior; missing = PRIOR_LIFT.
        conversion_values: campaign id -> observed mean value per conversion, account micros.
        asset_base_url: address under which creatives' assets are served.
        landscapes: what it took to win, by exchange and format; first-price bids are shaded by it.
    """

    version: int
    policy_version: int
    intent_version: int
    now_ms: int
    seed: int
    rates_micros: dict[str, int]
    default_seat: str
    rows: dict[int, int]
    lifts: dict[int, Lift] = {}  # noqa: RUF012
    conversion_values: dict[int, int] = {}  # noqa: RUF012
    asset_base_url: str = ""
    landscapes: tuple[Landscape, ...] = ()


def allocate_rows(previous: dict[int, int], campaigns: tuple[Campaign, ...]) -> dict[int, int]:
    """Returns line item id -> row: known line items keep theirs, new ones take the next free row.

    The row of a line item that has ended stays taken while it is in ``previous``: notices, leases
    and the live arrays may still speak of it. The controller never drops one, so a run has room
    for LINE_ITEM_ROWS_MAX line items from its first to its last.

    Raises:
        BadInput: more line items than rows.
    """
    rows = dict(previous)
    taken = set(rows.values())
    next_row = 0
    for campaign in campaigns:
        for line_item in campaign.line_items:
            if line_item.line_item_id in rows:
                continue
            while next_row in taken:
                next_row += 1
            if next_row >= LINE_ITEM_ROWS_MAX:
                raise BadInput(
                    f"line item {line_item.line_item_id}: all {LINE_ITEM_ROWS_MAX} rows are taken; "
                    "end line items that are no longer needed"
                )
            rows[line_item.line_item_id] = next_row
            taken.add(next_row)
    return rows


def compile_snapshot(
    campaigns: tuple[Campaign, ...], weights: Weights, given: Compilation
) -> Snapshot:
    """Returns the snapshot of these campaigns, compiled from nothing (see ``Compiler``)."""
    return Compiler().compile(campaigns, weights, given)


def freeze(arrays: SnapshotArrays) -> SnapshotArrays:
    """Returns the arrays C-contiguous and read-only: the same kernel types as mapped ones."""
    frozen = [np.ascontiguousarray(array) for array in arrays]
    for array in frozen:
        array.setflags(write=False)
    return SnapshotArrays(*frozen)  # pyright: ignore[reportArgumentType] of the same types


class _Part(NamedTuple):
    """A campaign laid out by itself: what of it does not depend on other campaigns.

    ``line_items`` lack rows, budgets and what is observed; offsets count from the campaign's own
    first creative, rendition, cap, deal, domain and area. ``creatives`` say in ``line_item_row``
    which of the campaign's line items they belong to. ``expressions`` and ``ad_rows`` are per line
    item and creative.
    """

    line_item_ids: tuple[int, ...]
    line_items: npt.NDArray[np.void]
    creatives: npt.NDArray[np.void]
    caps: npt.NDArray[np.void]
    deal_codes: npt.NDArray[np.uint64]
    domain_codes: npt.NDArray[np.uint64]
    areas: npt.NDArray[np.void]
    rendition_count: int
    expressions: npt.NDArray[np.int64]
    ad_rows: npt.NDArray[np.uint32]
    texts: tuple[CreativeText, ...]
    seats: frozenset[str]


class _Kept(NamedTuple):
    """What a compiler keeps of a campaign, and what it was made from."""

    campaign: Campaign
    surroundings: tuple[str, str]
    part: _Part
    budgets: tuple[BudgetRow, ...]


class Compiler:
    """Compiles campaigns to snapshots and keeps what did not change for the next one.

    Kept are the parts of campaigns, and the expressions and values that were met: a campaign that
    is equal to what it was is not looked at again. What depends on all of them (offsets, order,
    bits) is made anew by numpy. The result is, byte for byte, that of a new compiler.
    """

    def __init__(self) -> None:
        """Starts with nothing kept."""
        self._kept: dict[int, _Kept] = {}
        self._expressions = ExpressionPool()
        self._ad_rows: dict[tuple[str, ...], npt.NDArray[np.uint32]] = {}

    def compile(
        self, campaigns: tuple[Campaign, ...], weights: Weights, given: Compilation
    ) -> Snapshot:
        """Returns the snapshot; its arrays are read-only, as when mapped from a file."""
        kept = [self._keep(campaign, given) for campaign in campaigns]
        self._kept = {each.campaign.campaign_id: each for each in kept}
        parts = [each.part for each in kept]
        ids = [line_item_id for part in parts for line_item_id in part.line_item_ids]
        rows = np.array([given.rows[line_item_id] for line_item_id in ids], np.int64)
        budgets, budget_rows = _budget_tables(kept)
        items = _joined([part.line_items for part in parts], LINE_ITEM_DTYPE)
        creatives = _joined([part.creatives for part in parts], CREATIVE_DTYPE)
        caps = _joined([part.caps for part in parts], CAP_DTYPE)
        by_part = _Offsets(parts)
        items["budget_rows"] = budget_rows[by_part.of_items]
        items["conversion_micros"] = np.array(
            [
                conversion_micros(campaign, given.conversion_values.get(campaign.campaign_id))
                for campaign in campaigns
            ],
            np.int64,
        )[by_part.of_items]  # fmt: skip
        for name, begins in by_part.begins.items():
            items[f"{name}_first"] += begins[by_part.of_items]
        creatives["rendition_first"] += by_part.renditions[by_part.of_creatives]
        creatives["line_item_row"] = rows[
            creatives["line_item_row"] + by_part.items[by_part.of_creatives]
        ]
        creative_rows = caps["creative_row"]
        caps["creative_row"] = np.where(
            creative_rows >= 0, creative_rows + by_part.begins["creative"][by_part.of_caps], -1
        )
        _set_lifts(creatives, given.lifts)
        ad_rows = np.concatenate(
            [np.zeros((0, len(AD_FIELDS)), np.uint32), *(part.ad_rows for part in parts)]
        )
        ad_vectors, ad_bias = creative_tables(weights, ad_rows)
        line_items = np.zeros(max(int(rows.max(initial=-1)) + 1, 1), LINE_ITEM_DTYPE)
        line_items["expression"] = -1
        line_items[rows] = items
        currencies = _currencies(given.rates_micros)
        tables = SnapshotArrays(
            line_items=line_items,
            creatives=creatives,
            budgets=budgets,
            caps=caps,
            deal_codes=_joined([part.deal_codes for part in parts], np.dtype(np.uint64)),
            domain_codes=_joined([part.domain_codes for part in parts], np.dtype(np.uint64)),
            areas=_joined([part.areas for part in parts], AREA_DTYPE),
            landscape=landscape_array(given.landscapes),
            currencies=np.array([currency_number(name) for name in currencies], np.uint16),
            rates_micros=_cross_rates(given.rates_micros, currencies),
            context_vectors=weights.context_vectors,
            context_bias=weights.context_bias,
            ad_vectors=ad_vectors,
            ad_bias=ad_bias,
            calibration=weights.calibration,
            **EMPTY_INDEX._asdict(),
            expression_first=np.zeros(1, np.int32),
            expression_rows=np.zeros(0, np.int32),
        )
        expressions = np.concatenate([np.zeros(0, np.int64), *(part.expressions for part in parts)])
        arrays = self._indexed(tables, expressions, rows)
        head = SnapshotHead(
            version=given.version,
            model_version=weights.version,
            policy_version=given.policy_version,
            intent_version=given.intent_version,
            created_at_ms=given.now_ms,
            seed=given.seed,
            creatives=tuple(text for part in parts for text in part.texts),
            seats={
                code_of(seat): seat
                for seat in sorted({seat for part in parts for seat in part.seats})
            },
        )
        return Snapshot(head, freeze(arrays))

    def _indexed(
        self,
        tables: SnapshotArrays,
        expressions: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int64],
    ) -> SnapshotArrays:
        """Returns ``tables`` with the index over the expressions of line item ``rows``."""
        worth = np.full(tables.line_items.shape[0], -np.inf)
        typical = typical_context(tables.context_vectors)
        fill_worths(freeze(tables), typical, np.zeros(1, ITEM_BOUND_DTYPE), worth)
        order = rank_order(expressions, rows, worth[rows])
        line_items = _copied(tables.line_items)
        line_items["expression"][rows] = order.position_of
        return tables._replace(
            line_items=line_items,
            **build_index(self._expressions.names(order.expressions))._asdict(),
            expression_first=order.first,
            expression_rows=order.rows,
        )

    def _keep(self, campaign: Campaign, given: Compilation) -> _Kept:
        """Returns what was kept of a campaign if it is still true of it, else lays it out."""
        kept = self._kept.get(campaign.campaign_id)
        surroundings = (given.default_seat, given.asset_base_url)
        if kept is None or kept.campaign != campaign or kept.surroundings != surroundings:
            part = self._part(campaign, given)
            return _Kept(campaign, surroundings, part, budgets_of(campaign, given.now_ms))
        if not all(each.start_at_ms <= given.now_ms < each.end_at_ms for each in kept.budgets):
            return kept._replace(budgets=budgets_of(campaign, given.now_ms))
        return kept

    def _part(self, campaign: Campaign, given: Compilation) -> _Part:
        """Lays a campaign out by itself."""
        items: list[tuple[object, ...]] = []
        creatives: list[tuple[object, ...]] = []
        caps: list[tuple[int, int, int, int]] = []
        areas: list[tuple[int, int, int, int]] = []
        deal_codes: list[int] = []
        texts: list[CreativeText] = []
        rendition_count = 0
        domains = domains_of(campaign)
        seats = [each.seat or given.default_seat for each in campaign.line_items]
        start, end = campaign.flight.start_at_ms, campaign.flight.end_at_ms
        for n, line_item in enumerate(campaign.line_items):
            targeting = line_item.targeting
            first = len(creatives), len(caps), len(deal_codes), len(areas)
            caps.extend(_cap_rows(campaign, line_item, len(creatives)))
            deal_codes.extend(code_of(deal) for deal in line_item.deals)
            areas.extend(
                (degrees_e6(each.latitude), degrees_e6(each.longitude), each.radius_m,
                 each.accepts_ip)
                for each in targeting.areas
            )  # fmt: skip
            for creative in line_item.creatives:
                renditions = renditions_of(campaign, creative)
                creatives.append(_creative_row(n, creative, rendition_count, renditions))
                texts.append(_creative_text(campaign, creative, renditions, given.asset_base_url))
                rendition_count += len(renditions)
            items.append(
                (
                    line_item.line_item_id, campaign.campaign_id, campaign.advertiser_id, 1,
                    _GOALS[campaign.goal.kind], int(line_item.is_deal_only),
                    currency_number(campaign.currency), 0, line_item.bid_cpm_micros_max,
                    0 if start is None else start, _OPEN_END_MS if end is None else end,
                    (-1, -1, -1),
                    first[0], len(creatives) - first[0], first[1], len(caps) - first[1],
                    first[2], len(deal_codes) - first[2], code_of(seats[n]),
                    first[3], len(areas) - first[3],
                    *os_version_range(targeting), round(targeting.viewability_min * 1_000_000),
                    0, len(domains), -1,
                )
            )  # fmt: skip
        shown = [creative for line_item in campaign.line_items for creative in line_item.creatives]
        return _Part(
            line_item_ids=tuple(each.line_item_id for each in campaign.line_items),
            line_items=np.array(items, LINE_ITEM_DTYPE),
            creatives=np.array(creatives, CREATIVE_DTYPE),
            caps=np.array(caps, CAP_DTYPE),
            deal_codes=np.array(deal_codes, np.uint64),
            domain_codes=np.array([code_of(name) for name in domains], np.uint64),
            areas=np.array(areas, AREA_DTYPE),
            rendition_count=rendition_count,
            expressions=self._expressions.of_campaign(campaign, seats),
            ad_rows=np.array(
                [self._ad_row(campaign, creative) for creative in shown], np.uint32
            ).reshape(-1, len(AD_FIELDS)),
            texts=tuple(texts),
            seats=frozenset(seats),
        )

    def _ad_row(self, campaign: Campaign, creative: Creative) -> npt.NDArray[np.uint32]:
        values = ad_field_values(campaign, creative)
        row = self._ad_rows.get(values)
        if row is None:
            row = self._ad_rows[values] = ad_feature_rows(values)
        return row


class _Offsets:
    """Where each part's rows begin in the joined tables, and which part a joined row is of.

    Attributes:
        begins: by the name of a slice of LINE_ITEM_DTYPE, [parts].
        renditions: [parts].
        items: [parts].
        of_items: [line items] index of the part; likewise of_creatives and of_caps.
    """

    def __init__(self, parts: list[_Part]) -> None:
        counts = {
            "creative": [part.creatives.shape[0] for part in parts],
            "cap": [part.caps.shape[0] for part in parts],
            "deal": [part.deal_codes.shape[0] for part in parts],
            "domain": [part.domain_codes.shape[0] for part in parts],
            "area": [part.areas.shape[0] for part in parts],
        }
        items = [part.line_items.shape[0] for part in parts]
        self.begins = {name: _begins(each) for name, each in counts.items()}
        self.renditions = _begins([part.rendition_count for part in parts])
        self.items = _begins(items)
        self.of_items = np.repeat(np.arange(len(parts)), items)
        self.of_creatives = np.repeat(np.arange(len(parts)), counts["creative"])
        self.of_caps = np.repeat(np.arange(len(parts)), counts["cap"])


def _begins(counts: list[int]) -> npt.NDArray[np.int64]:
    ends = np.cumsum(counts, dtype=np.int64)
    return ends - np.array(counts, np.int64)


def _joined(arrays: list[npt.NDArray[Any]], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    whole = np.concatenate([np.zeros(0, dtype), *arrays])
    return whole if dtype.names is None else _copied(whole)


def _copied(table: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Copies column by column: what lies between columns is 0, so equal tables are equal bytes."""
    copy = np.zeros(table.shape[0], table.dtype)
    for name in table.dtype.names or ():
        copy[name] = table[name]
    return copy


def _creative_row(
    item: int, creative: Creative, rendition_first: int, renditions: tuple[tuple[int, str], ...]
) -> tuple[object, ...]:
    return (
        creative.creative_id, item, format_bit(creative.format), creative.is_secure, 0,
        creative.protocol, size_of(creative), creative.duration_ms,
        sum(1 << a for a in set(creative.attributes)), media_bit(creative.media_type),
        *fit_columns(creative, rendition_first, renditions), 1.0, 1.0,
        code_of(creative.language) if creative.language else 0,
    )  # fmt: skip


def _cap_rows(
    campaign: Campaign, line_item: LineItem, creative_first: int
) -> list[tuple[int, int, int, int]]:
    rows: list[tuple[int, int, int, int]] = []
    for cap in line_item.frequency_caps:
        scope = _SCOPES[cap.scope]
        targets: list[tuple[int, int]] = {
            CapScope.CAMPAIGN: [(campaign.campaign_id, -1)],
            CapScope.LINE_ITEM: [(line_item.line_item_id, -1)],
            CapScope.CREATIVE: [
                (creative.creative_id, creative_first + i)
                for i, creative in enumerate(line_item.creatives)
            ],
        }[cap.scope]
        period_ms = PERIOD_MS[cap.period]
        rows.extend(
            (
                pair_code(pair_code(scope, scope_id), period_ms),
                creative_row, cap.impressions, period_ms,
            )
            for scope_id, creative_row in targets
        )  # fmt: skip
    return rows


def _budget_tables(kept: list[_Kept]) -> tuple[npt.NDArray[np.void], npt.NDArray[np.int32]]:
    """Returns the budgets of all campaigns, and the rows of each campaign's, [campaigns, 3]."""
    rows = [budget for each in kept for budget in each.budgets]
    array = np.zeros(len(rows), BUDGET_DTYPE)
    for name in BudgetRow._fields:
        array[name] = [getattr(row, name) for row in rows]
    counts = np.array([len(each.budgets) for each in kept], np.int64)
    first = np.cumsum(counts) - counts
    k = np.arange(BUDGETS_PER_LINE_ITEM)
    of_campaign = np.where(k < counts[:, np.newaxis], first[:, np.newaxis] + k, -1)
    return array, of_campaign.astype(np.int32)


def _set_lifts(creatives: npt.NDArray[np.void], lifts: dict[int, Lift]) -> None:
    """Writes the posterior of every creative: its own, else the prior."""
    creatives["lift_shape"], creatives["lift_rate"] = PRIOR_LIFT.shape, PRIOR_LIFT.rate
    creatives["is_cold"] = PRIOR_LIFT.is_cold
    if not lifts:
        return
    ids = np.array(list(lifts), np.int64)
    order = np.argsort(creatives["creative_id"], kind="stable")
    at = np.searchsorted(creatives["creative_id"], ids, sorter=order)
    for lift, place, creative_id in zip(lifts.values(), at.tolist(), ids.tolist(), strict=True):
        if place < order.shape[0] and creatives["creative_id"][order[place]] == creative_id:
            row = order[place]
            creatives["lift_shape"][row], creatives["lift_rate"][row] = lift.shape, lift.rate
            creatives["is_cold"][row] = lift.is_cold


def conversion_micros(campaign: Campaign, observed_value_micros: int | None) -> int:
    """Returns T of the bid formula: what a conversion may cost (CPA, ROAS) or is worth (max).

    For a target ROAS it is the value of a conversion / target: the observed mean once the ledger
    knows one, before that the campaign's own expectation.
    """
    goal = campaign.goal
    if goal.kind is GoalKind.TARGET_CPA:
        assert goal.target_cpa_micros is not None
        return goal.target_cpa_micros
    assert goal.value_per_conversion_micros is not None
    if goal.kind is GoalKind.MAX_CONVERSIONS:
        return goal.value_per_conversion_micros
    assert goal.target_roas is not None
    value = observed_value_micros or goal.value_per_conversion_micros
    return int(min(value / goal.target_roas, BUDGET_MICROS_MAX))


def _creative_text(
    campaign: Campaign,
    creative: Creative,
    renditions: tuple[tuple[int, str], ...],
    asset_base_url: str,
) -> CreativeText:
    image = f"{asset_base_url}/assets/{creative.asset_sha256}" if creative.asset_sha256 else ""
    return CreativeText(
        adms=tuple(adm for _, adm in renditions),
        landing_url=creative.landing_url,
        advertiser_domain=campaign.advertiser_domain,
        category=campaign.category,
        language=creative.language,
        image_url=image,
        app_bundle=campaign.app_bundle,
        native=creative.native,
        categories_by_taxonomy={
            int(taxonomy): names for taxonomy, names in campaign.categories_by_taxonomy.items()
        },
    )


def _currencies(rates_micros: dict[str, int]) -> list[str]:
    """USD first: ``rates_micros[0, x]`` then ranks bids of different currencies."""
    return ["USD", *sorted(set(rates_micros) - {"USD"})]


def _cross_rates(rates_micros: dict[str, int], names: list[str]) -> npt.NDArray[np.int64]:
    rates = np.zeros((len(names), len(names)), np.int64)
    for a, account in enumerate(names):
        for b, bid in enumerate(names):
            rates[a, b] = MICROS if a == b else round(
                rates_micros[bid] * MICROS / rates_micros[account]
            )  # fmt: skip
    return rates
