"""From campaigns to a snapshot: the inverted index over targeting, and the tables around it.

For every (table, value) that some line item names there is one bitset over line item rows; a
request ANDs a few of them (``bidder.kernels_match.match``). This file builds those bitsets and lays
the campaigns out as structures of arrays. It decides nothing and reads no clock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bidder.recommendation.network import Weights, creative_tables
from market.budgets import BudgetRow, budgets_of
from market.campaign import (
    MEDIA_TYPES,
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
from market.errors import BadInput
from market.features import ad_features
from market.money import BUDGET_MICROS_MAX, MICROS, currency_number
from market.opportunity import DIMENSION_COUNT, Dimension
from market.snapshot import (
    BUDGET_DTYPE,
    CAP_DTYPE,
    CREATIVE_DTYPE,
    LINE_ITEM_DTYPE,
    TABLE_COUNT,
    CreativeText,
    Snapshot,
    SnapshotArrays,
    SnapshotHead,
    Table,
)

_OPEN_END_MS = 2**62
_GOALS = {GoalKind.MAX_CONVERSIONS: 0, GoalKind.TARGET_CPA: 1, GoalKind.TARGET_ROAS: 2}
_SCOPES = {CapScope.CAMPAIGN: 1, CapScope.LINE_ITEM: 2, CapScope.CREATIVE: 3}
_DIMENSIONS = {dimension.name.lower(): int(dimension) for dimension in Dimension}
_LISTS = {
    "segment": (int(Table.SEGMENT), int(Table.SEGMENT_EXCLUDED)),
    "category": (int(Table.CATEGORY), int(Table.CATEGORY_EXCLUDED)),
    "keyword": (int(Table.KEYWORD), int(Table.KEYWORD_EXCLUDED)),
}


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
    """Returns the snapshot of these campaigns; arrays are read-only, as when mapped from a file."""
    currencies = _currencies(given.rates_micros)
    layout = _Layout(campaigns, given)
    rows, row_keys, row_values, any_rows = _index(campaigns, given)
    ad_rows = (
        np.stack([ad_features(campaign, creative) for campaign, _, creative in layout.creatives])
        if layout.creatives
        else np.zeros((0, 6), np.uint32)
    )
    ad_vectors, ad_bias = creative_tables(weights, ad_rows)
    arrays = SnapshotArrays(
        line_items=layout.line_item_array(),
        creatives=layout.creative_array(),
        budgets=layout.budget_array(),
        caps=np.array(layout.caps, CAP_DTYPE),
        deal_codes=np.array(layout.deal_codes, np.uint64),
        rows=rows,
        row_keys=row_keys,
        row_values=row_values,
        any_rows=any_rows,
        currencies=np.array([currency_number(name) for name in currencies], np.uint16),
        rates_micros=_cross_rates(given.rates_micros, currencies),
        context_vectors=weights.context_vectors,
        context_bias=weights.context_bias,
        ad_vectors=ad_vectors,
        ad_bias=ad_bias,
        calibration=weights.calibration,
    )
    head = SnapshotHead(
        version=given.version,
        model_version=weights.version,
        policy_version=given.policy_version,
        intent_version=given.intent_version,
        created_at_ms=given.now_ms,
        seed=given.seed,
        creatives=tuple(
            _creative_text(campaign, creative, given.asset_base_url)
            for campaign, _, creative in layout.creatives
        ),
        seats={code_of(seat): seat for seat in sorted(layout.seats)},
    )
    return Snapshot(head, freeze(arrays))


def freeze(arrays: SnapshotArrays) -> SnapshotArrays:
    """Returns the arrays C-contiguous and read-only: the same kernel types as mapped ones."""
    frozen = [np.ascontiguousarray(array) for array in arrays]
    for array in frozen:
        array.setflags(write=False)
    return SnapshotArrays(*frozen)  # pyright: ignore[reportArgumentType] of the same types


class _Layout:
    """Campaigns laid out in rows: one pass over line items, their creatives, caps and deals."""

    def __init__(self, campaigns: tuple[Campaign, ...], given: Compilation) -> None:
        self.given = given
        self.creatives: list[tuple[Campaign, int, Creative]] = []
        self.caps: list[tuple[int, int, int, int]] = []
        self.deal_codes: list[int] = []
        self.seats: set[str] = set()
        self.budgets: list[BudgetRow] = []
        self._line_items: list[tuple[int, tuple[object, ...]]] = []
        for campaign in campaigns:
            budgets = budgets_of(campaign, given.now_ms)
            budget_rows = [len(self.budgets) + i for i in range(len(budgets))]
            self.budgets.extend(budgets)
            for line_item in campaign.line_items:
                self._add(campaign, line_item, [*budget_rows, -1, -1, -1][:3])

    def _add(self, campaign: Campaign, line_item: LineItem, budget_rows: list[int]) -> None:
        row = self.given.rows[line_item.line_item_id]
        creative_first, cap_first, deal_first = (
            len(self.creatives), len(self.caps), len(self.deal_codes),
        )  # fmt: skip
        self.creatives.extend((campaign, row, creative) for creative in line_item.creatives)
        self.deal_codes.extend(code_of(deal) for deal in line_item.deals)
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
            self.caps.extend(
                (
                    pair_code(pair_code(scope, scope_id), period_ms),
                    creative_row, cap.impressions, period_ms,
                )
                for scope_id, creative_row in targets
            )  # fmt: skip
        seat = line_item.seat or self.given.default_seat
        self.seats.add(seat)
        start, end = campaign.flight.start_at_ms, campaign.flight.end_at_ms
        self._line_items.append(
            (
                row,
                (
                    line_item.line_item_id, campaign.campaign_id, campaign.advertiser_id, 1,
                    _GOALS[campaign.goal.kind], int(line_item.is_deal_only),
                    currency_number(campaign.currency),
                    conversion_micros(
                        campaign, self.given.conversion_values.get(campaign.campaign_id)
                    ),
                    line_item.bid_cpm_micros_max,
                    0 if start is None else start, _OPEN_END_MS if end is None else end,
                    budget_rows,
                    creative_first, len(self.creatives) - creative_first,
                    cap_first, len(self.caps) - cap_first,
                    deal_first, len(self.deal_codes) - deal_first,
                    code_of(seat),
                ),
            )
        )  # fmt: skip

    def line_item_array(self) -> npt.NDArray[np.void]:
        count = 1 + max((row for row, _ in self._line_items), default=-1)
        array = np.zeros(max(count, 1), LINE_ITEM_DTYPE)
        for row, values in self._line_items:
            array[row] = values
        return array

    def creative_array(self) -> npt.NDArray[np.void]:
        array = np.zeros(len(self.creatives), CREATIVE_DTYPE)
        for i, (_, row, creative) in enumerate(self.creatives):
            lift = self.given.lifts.get(creative.creative_id, PRIOR_LIFT)
            array[i] = (
                creative.creative_id, row, format_bit(creative.format), creative.is_secure,
                lift.is_cold, creative.protocol, creative.width << 16 | creative.height,
                creative.duration_ms, sum(1 << a for a in set(creative.attributes)),
                1 << MEDIA_TYPES.index(creative.media_type), lift.shape, lift.rate,
            )  # fmt: skip
        return array

    def budget_array(self) -> npt.NDArray[np.void]:
        array = np.zeros(len(self.budgets), BUDGET_DTYPE)
        for i, budget in enumerate(self.budgets):
            for name, value in budget._asdict().items():
                array[i][name] = value
        return array


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


def _creative_text(campaign: Campaign, creative: Creative, asset_base_url: str) -> CreativeText:
    image = f"{asset_base_url}/assets/{creative.asset_sha256}" if creative.asset_sha256 else ""
    return CreativeText(
        adm=creative.adm,
        landing_url=creative.landing_url,
        advertiser_domain=campaign.advertiser_domain,
        category=campaign.category,
        language=creative.language,
        image_url=image,
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


class _Bitsets:
    """Rows of bits by (table, value), with a default row per table."""

    def __init__(self, row_count: int) -> None:
        self.words = -(-max(row_count, 1) // 64)
        self.rows: dict[tuple[int, int], npt.NDArray[np.uint64]] = {}
        self.defaults: dict[int, npt.NDArray[np.uint64]] = {}

    def empty(self) -> npt.NDArray[np.uint64]:
        return np.zeros(self.words, np.uint64)

    def default(self, table: int) -> npt.NDArray[np.uint64]:
        return self.defaults.setdefault(table, self.empty())

    def row(self, table: int, code: int) -> npt.NDArray[np.uint64]:
        return self.rows.setdefault((table, code), self.empty())


def _set(bits: npt.NDArray[np.uint64], row: int) -> None:
    bits[row >> 6] |= np.uint64(1 << (row & 63))


def _clear(bits: npt.NDArray[np.uint64], row: int) -> None:
    bits[row >> 6] &= ~np.uint64(1 << (row & 63))


def _index(
    campaigns: tuple[Campaign, ...], given: Compilation
) -> tuple[
    npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int32]
]:
    """Returns (rows, row_keys, row_values, any_rows) of SnapshotArrays."""
    items = [
        (campaign, line_item, given.rows[line_item.line_item_id])
        for campaign in campaigns
        for line_item in campaign.line_items
    ]
    bits = _Bitsets(1 + max((row for _, _, row in items), default=0))
    for name, table in _DIMENSIONS.items():
        _index_dimension(bits, items, name, table)
    for name, (asks, refuses) in _LISTS.items():
        _index_list(bits, items, name, asks, refuses)
    for campaign, line_item, row in items:
        _set(bits.row(Table.SEAT, code_of(line_item.seat or given.default_seat)), row)
        for category in _ancestors(campaign.category):
            _set(bits.row(Table.AD_CATEGORY, code_of(category)), row)
        for domain in _parents(campaign.advertiser_domain):
            _set(bits.row(Table.ADVERTISER_DOMAIN, code_of(domain)), row)
        for creative in line_item.creatives:
            _set(bits.row(Table.FORMAT, format_bit(creative.format)), row)
    return _pack(bits)


def _index_dimension(
    bits: _Bitsets, items: list[tuple[Campaign, LineItem, int]], name: str, table: int
) -> None:
    """A value's row: who includes it, or includes nothing, and does not exclude it."""
    default = bits.default(table)
    values: set[int] = set()
    for _, line_item, row in items:
        targeting = line_item.targeting
        if name not in targeting.include:
            _set(default, row)
        values.update(map(code_of, targeting.include.get(name, ())))
        values.update(map(code_of, targeting.exclude.get(name, ())))
    for code in values:
        bits.row(table, code)[:] = default
    for _, line_item, row in items:
        for value in line_item.targeting.include.get(name, ()):
            _set(bits.row(table, code_of(value)), row)
        for value in line_item.targeting.exclude.get(name, ()):
            _clear(bits.row(table, code_of(value)), row)


def _index_list(
    bits: _Bitsets, items: list[tuple[Campaign, LineItem, int]], name: str, asks: int, refuses: int
) -> None:
    """A value's rows: who includes it, and who excludes it; the default: who includes nothing."""
    default = bits.default(asks)
    for _, line_item, row in items:
        included = line_item.targeting.include.get(name)
        if included is None:
            _set(default, row)
        for value in included or ():
            _set(bits.row(asks, code_of(value)), row)
        for value in line_item.targeting.exclude.get(name, ()):
            _set(bits.row(refuses, code_of(value)), row)


def _ancestors(category: str) -> tuple[str, ...]:
    """``IAB18-2`` is also blocked by ``IAB18``."""
    return (category, category.split("-", 1)[0]) if "-" in category else (category,)


def _parents(domain: str) -> tuple[str, ...]:
    """``eu.shop.example`` is also blocked by ``shop.example``; a bare top-level domain blocks none.

    Exchanges name a domain with and without ``www.``; both are meant.
    """
    parts = domain.removeprefix("www.").split(".")
    parents = [".".join(parts[i:]) for i in range(len(parts) - 1)]
    return (*parents, *(f"www.{parent}" for parent in parents))


def _pack(
    bits: _Bitsets,
) -> tuple[
    npt.NDArray[np.uint64], npt.NDArray[np.uint64], npt.NDArray[np.int32], npt.NDArray[np.int32]
]:
    nothing = bits.empty()
    rows = [nothing]
    any_rows = np.zeros(TABLE_COUNT, np.int32)
    for table in range(TABLE_COUNT):
        if table in bits.defaults:
            any_rows[table] = len(rows)
            rows.append(bits.defaults[table])
    slots = 16
    while slots < 2 * len(bits.rows):
        slots *= 2
    keys = np.zeros(slots, np.uint64)
    values = np.zeros(slots, np.int32)
    for (table, code), row in sorted(bits.rows.items()):
        key = pair_code(table, code)
        slot = key & (slots - 1)
        while keys[slot]:
            assert int(keys[slot]) != key, "two values share a 64-bit name"
            slot = (slot + 1) & (slots - 1)
        keys[slot] = key
        values[slot] = len(rows)
        rows.append(row)
    assert DIMENSION_COUNT <= TABLE_COUNT
    return np.stack(rows), keys, values, any_rows
