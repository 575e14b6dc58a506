"""One record of an offer held against every line item: all rules that forbid it, and its price.

What a line item targets is read from its campaign and held against the opportunity; deal,
conditions, caps, creatives, price, floor and money are asked of the kernels that decide. Each is
asked with every other rule lifted, so that one obstacle does not hide the next.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from bidder.explanation import CreativeVerdict, Failed, Verdict
from bidder.expressions import ad_categories
from bidder.kernels_bid import condition_obstacle, currency_index, evaluate, find_deal, floor_of
from bidder.kernels_bundle import Bundle
from bidder.kernels_cap import cap_obstacle
from bidder.kernels_creative import creative_obstacle
from bidder.no_bid import explain
from bidder.recommendation.kernels import context_side
from bidder.work import new_work
from market.chance import code_of
from market.decision import LIST_DETAIL, NoBidReason
from market.events import FEATURE_COUNT
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS
from market.kernels import context_features, scale_up
from market.money import CURRENCY_NAMES, MICROS
from market.openrtb_reading import domain_and_parents
from market.opportunity import CodeList, Dimension
from market.state import CAP_PROBES, CAP_SLOT_DTYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bidder.edge import Edge, Offer
    from market.campaign import Campaign, LineItem, Targeting
    from market.control import LiveArrays
    from market.snapshot import Snapshot, SnapshotArrays
    from market.state import BidState

Json: TypeAlias = Any
"""What a JSON document decodes to."""

Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_OPEN_END_MS = 2**62
_MONEY_ENOUGH = 2**62
_ASKED_CHARS_MAX = 80
_LISTED_MAX = 8
_ROOTS = frozenset({"app", "cur", "device", "dooh", "imp", "regs", "site", "source", "user"})
_CONTEXT = np.array([int(d) for d in CONTEXT_DIMENSIONS], np.int64)
_NOTHING_STANDS = 0

_LIST_RULES = (
    (CodeList.SITE, NoBidReason.TARGETING_DIMENSION, LIST_DETAIL + CodeList.SITE),
    (CodeList.SEGMENT, NoBidReason.TARGETING_SEGMENT, 0),
    (CodeList.EID_SOURCE, NoBidReason.TARGETING_SEGMENT, LIST_DETAIL + CodeList.EID_SOURCE),
    (CodeList.CATEGORY, NoBidReason.TARGETING_CATEGORY, 0),
    (CodeList.KEYWORD, NoBidReason.TARGETING_KEYWORD, 0),
    (CodeList.USER_KEYWORD, NoBidReason.TARGETING_KEYWORD, LIST_DETAIL + CodeList.USER_KEYWORD),
)
_CONDITIONS = ("os_version_max", "viewability_ppm_min", "area_count")
"""Columns of a line item that switch a condition off when they are 0."""

# Columns of an opportunity that, set to this, lift an obstacle to a creative.
_EVERY_BIT = -1
_LIFTED: dict[NoBidReason, dict[str, int]] = {
    NoBidReason.SIZE_NOT_OFFERED: {"size_count": 0, "ratios": 0, "player_size": 0},
    NoBidReason.BANNER_TYPE_BLOCKED: {"banner_types_blocked": 0},
    NoBidReason.MEDIA_TYPE_NOT_ACCEPTED: {"media_types": 0},
    NoBidReason.ATTRIBUTE_BLOCKED: {"attributes_blocked": 0},
    NoBidReason.SKIP_NOT_ACCEPTED: {"skippable_ms_min": 0, "skip_after_ms_min": 0},
    NoBidReason.EXPANSION_NOT_ALLOWED: {"expand_directions": _EVERY_BIT},
    NoBidReason.API_NOT_SUPPORTED: {"apis": _EVERY_BIT},
    NoBidReason.NOT_SECURE: {"is_secure": 0},
    NoBidReason.LANGUAGE_NOT_ALLOWED: {"languages": 0},
    NoBidReason.DURATION_NOT_ACCEPTED: {
        "durations_ms": 0, "duration_ms_min": 0, "duration_ms_max": 0,
    },
    NoBidReason.PROTOCOL_NOT_ACCEPTED: {"protocols": 0},
    NoBidReason.DELIVERY_NOT_ACCEPTED: {
        "deliveries": 0, "bitrate_kbps_min": 0, "bitrate_kbps_max": 0,
    },
    NoBidReason.LINEARITY_NOT_ACCEPTED: {"linearity": 0},
    NoBidReason.NATIVE_ASSET_MISSING: {
        "native_title_chars": 0, "native_data_chars": 0, "native_images_required": 0,
        "native_needs_video": 0,
    },
}  # fmt: skip


class Case(NamedTuple):
    """What a request is held against.

    Attributes:
        campaigns: what the snapshot was made from.
        snapshot: the one that is served.
        live: multipliers and active bits.
        available_micros: by budget id, what may still be reserved.
        cap_slots: [W, S] frequency counters.
        edge: reads requests, with the run's salt.
        default_seat: of line items that name none.
        notes: see ``Explanation``.
    """

    campaigns: tuple[Campaign, ...]
    snapshot: Snapshot
    live: LiveArrays
    available_micros: dict[int, int]
    cap_slots: npt.NDArray[np.void]
    edge: Edge
    default_seat: str
    notes: tuple[str, ...] = ()


class RecordCase:
    """One record of the offer, held against every line item."""

    def __init__(
        self, case: Case, state: BidState, offer: Offer, n: int, raw: dict[str, Any]
    ) -> None:
        """Takes record ``n`` of ``offer``, and the request as plain JSON for what it says."""
        self._case = case
        self._arrays = case.snapshot.arrays
        self._state = state
        self._record = offer.opportunities.records[n]
        self._codes = offer.opportunities.codes
        self._deals = offer.opportunities.deals
        imps = raw.get("imp")
        self._raw = {**raw, "imp": imps[offer.imp_indexes[n]] if isinstance(imps, list) else {}}
        self._work = new_work(case.snapshot)
        self._versions = np.zeros(3, np.uint32)
        first, count = self._slice(CodeList.SEGMENT)
        features = np.zeros(FEATURE_COUNT, np.uint32)
        context_features(
            _CONTEXT, self._record["dimensions"], self._codes[first : first + count],
            CONTEXT_BUCKETS, features,
        )  # fmt: skip
        if self._arrays.creatives.shape[0]:
            context_side(
                features, self._arrays.context_vectors, self._arrays.context_bias,
                self._work.vector, self._work.bias,
            )  # fmt: skip
        # The same with all lifted that is not the creative's, the price's or the money's.
        self._lifted_arrays = _lifted_arrays(self._arrays)
        self._lifted_live = case.live._replace(is_active=np.ones_like(case.live.is_active))
        self._lifted_record = _lifted(self._record, {"is_private": 0, "user_key": 1})
        self._no_counts = np.zeros((1, CAP_PROBES), CAP_SLOT_DTYPE)
        self._much = np.full_like(state.available_micros, _MONEY_ENOUGH)
        self._free_record = _lifted(
            self._lifted_record,
            {"floor_cpm_micros": 0, "second_cpm_micros": 0, "duration_floor_count": 0},
        )
        self._free_deals = self._deals.copy()
        for name in ("floor_cpm_micros", "second_cpm_micros", "duration_floor_count"):
            self._free_deals[name] = 0

    def verdicts(self, items: list[tuple[Campaign, LineItem, int]]) -> Iterator[Verdict]:
        """Yields the verdict on each line item, given with its row in the snapshot."""
        for campaign, line_item, row in items:
            yield self._verdict(campaign, line_item, row)

    def _verdict(self, campaign: Campaign, line_item: LineItem, row: int) -> Verdict:
        failed = [
            *self._rules_of_the_exchange(campaign, line_item),
            *self._targeting(line_item),
            *self._conditions(campaign, line_item, row),
        ]
        creatives = self._creatives(line_item, row)
        obstacles = {name for each in creatives for name in each.obstacles}
        if all(each.obstacles for each in creatives):
            failed += [
                self._failed(reason, _creatives_text(line_item))
                for reason in NoBidReason
                if reason.name.lower() in obstacles
            ] or [self._failed(NoBidReason.FORMAT_NOT_SERVED, "no creatives")]
        offer, floor_cpm = self._price(row)
        failed += self._caps(line_item, row)
        failed += self._price_rules(line_item, row, offer is not None)
        is_eligible = not failed
        if is_eligible:
            stop, offer = self._evaluate(row)
            assert stop == _NOTHING_STANDS, f"line item {line_item.line_item_id}: {stop}"
        return Verdict(
            line_item.line_item_id, line_item.name, campaign.campaign_id, campaign.name,
            is_eligible, tuple(failed), creatives,
            None if offer is None else float(offer["pctr"]),
            None if offer is None else float(offer["pcvr"]),
            None if offer is None else int(offer["value_micros"]),
            None if offer is None else int(offer["bid_cpm_micros"]) / MICROS,
            None if offer is None else self._usd_cpm(offer),
            None if offer is None else float(offer["shading_factor"]),
            floor_cpm if offer is None else self._floor_cpm(row, offer),
            campaign.currency if offer is None else CURRENCY_NAMES[int(offer["bid_currency"])],
        )  # fmt: skip

    # Rules about codes: of the exchange, and of the line item.

    def _slice(self, which: CodeList) -> tuple[int, int]:
        return int(self._record["list_first"][which]), int(self._record["list_count"][which])

    def _listed(self, which: CodeList) -> set[int]:
        first, count = self._slice(which)
        return set(self._codes[first : first + count].tolist())

    def _rules_of_the_exchange(self, campaign: Campaign, line_item: LineItem) -> Iterator[Failed]:
        seat = line_item.seat or self._case.default_seat
        categories = ad_categories(campaign)
        domains = domain_and_parents(campaign.advertiser_domain)
        domains = (*domains, *(f"www.{domain}" for domain in domains))
        apps = (campaign.app_bundle,) if campaign.app_bundle else ()
        for which, reason, names, is_allow_list in (
            (CodeList.SEAT_ALLOWED, NoBidReason.SEAT_NOT_ALLOWED, (seat,), True),
            (CodeList.SEAT_BLOCKED, NoBidReason.SEAT_BLOCKED, (seat,), False),
            (CodeList.CATEGORY_ALLOWED, NoBidReason.CATEGORY_NOT_ALLOWED, categories, True),
            (CodeList.TAXONOMY, NoBidReason.CATEGORY_TAXONOMY, categories, True),
            (CodeList.CATEGORY_BLOCKED, NoBidReason.CATEGORY_BLOCKED, categories, False),
            (CodeList.ADVERTISER_BLOCKED, NoBidReason.ADVERTISER_BLOCKED, domains, False),
            (CodeList.APP_BLOCKED, NoBidReason.APP_BLOCKED, apps, False),
        ):
            listed = self._listed(which)
            if listed and bool(listed & set(map(code_of, names))) is not is_allow_list:
                yield self._failed(reason, f"is {', '.join(names)}")

    def _targeting(self, line_item: LineItem) -> Iterator[Failed]:
        targeting = line_item.targeting
        for dimension in Dimension:
            found = {int(self._record["dimensions"][dimension])} - {0}
            yield from self._held_against(
                found, targeting, dimension.name.lower(), NoBidReason.TARGETING_DIMENSION,
                int(dimension),
            )  # fmt: skip
        for which, reason, detail in _LIST_RULES:
            yield from self._held_against(
                self._listed(which), targeting, which.name.lower(), reason, detail
            )

    def _held_against(
        self, found: set[int], targeting: Targeting, name: str, reason: NoBidReason, detail: int
    ) -> Iterator[Failed]:
        included, excluded = targeting.include.get(name), targeting.exclude.get(name, ())
        if included is not None and not found & set(map(code_of, included)):
            yield self._failed(reason, f"only {name} {_listing(included)}", detail)
        if found & set(map(code_of, excluded)):
            yield self._failed(reason, f"not {name} {_listing(excluded)}", detail)

    # Rules that the kernels know.

    def _conditions(self, campaign: Campaign, line_item: LineItem, row: int) -> Iterator[Failed]:
        record, arrays = self._record, self._arrays
        columns = arrays.line_items[row]
        deal = self._deal(columns)
        if deal < 0 and (record["is_private"] or columns["is_deal_only"]):
            only = "only on its deals: " if columns["is_deal_only"] else "deals: "
            yield self._failed(
                NoBidReason.DEAL_REQUIRED, only + (_listing(line_item.deals) or "none")
            )
        if not columns["start_at_ms"] <= record["arrival_ms"] < columns["end_at_ms"]:
            flight = campaign.flight
            yield self._failed(
                NoBidReason.OUTSIDE_FLIGHT,
                f"from {_time(flight.start_at_ms)} to {_time(flight.end_at_ms)}",
            )
        if not self._case.live.is_active[row]:
            yield self._failed(NoBidReason.NOT_ACTIVE, f"campaign is {campaign.status.value}")
        for name in _CONDITIONS:
            others = {each: 0 for each in _CONDITIONS if each != name}
            reason = condition_obstacle(record, arrays.areas, _lifted(columns, others))
            if reason:
                yield self._failed(NoBidReason(reason), _condition_text(line_item, name))

    def _creatives(self, line_item: LineItem, row: int) -> tuple[CreativeVerdict, ...]:
        first = int(self._arrays.line_items[row]["creative_first"])
        return tuple(
            CreativeVerdict(
                creative.creative_id, creative.name,
                tuple(self._obstacles(self._arrays.creatives[first + n])),
            )
            for n, creative in enumerate(line_item.creatives)
        )  # fmt: skip

    def _obstacles(self, creative: np.void) -> Iterator[str]:
        """Yields every obstacle: each is lifted before the next is asked for."""
        record = self._record
        seen: set[int] = set()
        while (reason := creative_obstacle(record, creative)) and reason not in seen:
            seen.add(reason)
            yield NoBidReason(reason).name.lower()
            lifted = _LIFTED.get(NoBidReason(reason))
            if lifted is None:
                return
            record = _lifted(record, lifted)

    def _caps(self, line_item: LineItem, row: int) -> Iterator[Failed]:
        columns = self._arrays.line_items[row]
        first, count = int(columns["creative_first"]), int(columns["creative_count"])
        reasons = [
            cap_obstacle(
                self._record, self._arrays.caps, self._state.cap_slots, 0, columns, creative_row
            )
            for creative_row in (-1, *range(first, first + count))
        ]
        # The caps of creatives forbid the line item only if none is left.
        if reasons[0] or (count and all(reasons[1:])):
            caps = ", ".join(
                f"{cap.impressions} per {cap.period} and {cap.scope}"
                for cap in line_item.frequency_caps
            )
            yield self._failed(NoBidReason(reasons[0] or reasons[1]), f"at most {caps}")

    # Price.

    def _evaluate(
        self,
        row: int,
        *,
        record: Record = None,
        deals: npt.NDArray[np.void] | None = None,
        money: npt.NDArray[np.int64] | None = None,
    ) -> tuple[int, np.void]:
        """Returns what stops the bid of a line item, and the bid; with a record: what is lifted."""
        is_lifted = record is not None
        state = self._state
        if is_lifted:
            state = state._replace(cap_slots=self._no_counts)
        if money is not None:
            state = state._replace(available_micros=money)
        bundle = Bundle(
            self._lifted_arrays if is_lifted else self._arrays,
            self._lifted_live if is_lifted else self._case.live, state, self._work,
            self._versions,
        )  # fmt: skip
        stop = evaluate(
            bundle.address, bundle.kind, record if is_lifted else self._record, self._codes,
            self._deals if deals is None else deals, row, 0, self._case.snapshot.head.seed,
        )  # fmt: skip
        return stop, self._work.offer[0].copy()

    def _deal(self, line_item: Record) -> int:
        return find_deal(
            self._record, self._codes, self._deals, self._arrays.deal_codes,
            self._arrays.domain_codes, line_item,
        )  # fmt: skip

    def _price(self, row: int) -> tuple[np.void | None, float | None]:
        """Returns the bid with every rule lifted but the creatives', and the imp's floor."""
        stop, offer = self._evaluate(
            row, record=self._free_record, deals=self._free_deals, money=self._much
        )
        return (None, None) if stop else (offer, None)

    def _price_rules(self, line_item: LineItem, row: int, has_price: bool) -> Iterator[Failed]:
        arrays = self._arrays
        account = currency_index(arrays.currencies, arrays.line_items[row]["account_currency"])
        stop, _ = self._evaluate(row, record=self._lifted_record, money=self._much)
        if stop == NoBidReason.CURRENCY_NOT_CONVERTIBLE or account < 0:
            yield self._failed(
                NoBidReason.CURRENCY_NOT_CONVERTIBLE,
                "rates of " + ", ".join(CURRENCY_NAMES[int(c)] for c in arrays.currencies),
            )
        if has_price:
            out_of_money, _ = self._evaluate(row, record=self._free_record, deals=self._free_deals)
            if out_of_money == NoBidReason.BUDGET_EXHAUSTED:
                yield self._failed(NoBidReason.BUDGET_EXHAUSTED, "budgets of the campaign")
        if stop == NoBidReason.BELOW_FLOOR:
            yield self._failed(
                NoBidReason.BELOW_FLOOR, f"bids at most {line_item.bid_cpm_micros_max / MICROS:g}"
            )

    def _floor_cpm(self, row: int, offer: np.void) -> float | None:
        """Returns the floor for the creative of ``offer``, in the currency of its bid."""
        arrays = self._arrays
        columns = arrays.line_items[row]
        deal = self._deal(columns)
        creative = arrays.creatives[int(offer["creative_row"])]
        floor, currency = floor_of(
            self._record, self._codes, self._deals, deal, creative["format"],
            creative["duration_ms"],
        )  # fmt: skip
        theirs = currency_index(arrays.currencies, currency)
        ours = currency_index(arrays.currencies, offer["bid_currency"])
        if theirs < 0:
            return None
        return int(scale_up(floor, arrays.rates_micros[ours, theirs])) / MICROS

    def _usd_cpm(self, offer: np.void) -> float:
        rates = self._arrays.rates_micros[0]
        index = currency_index(self._arrays.currencies, offer["bid_currency"])
        return int(scale_up(offer["bid_cpm_micros"], rates[index])) / MICROS

    def _failed(self, reason: NoBidReason, rule: str, detail: int = 0) -> Failed:
        field = explain(reason, detail).field
        return Failed(reason.name.lower(), field, asked_of(self._raw, field), rule)


def asked_of(raw: Json, field: str) -> str:
    """Returns what a request says in ``field``, shortened: ``w=300, h=250``, or "" for nothing.

    ``field`` is as in ``bidder.no_bid``: alternatives stand in one part (``imp.banner.w|h``,
    ``imp.banner|video.mimes``) or are whole paths (``site.domain|app.bundle``).
    """
    paths: list[tuple[str, ...]] = []
    whole = field.split("|")
    if all(path.split(".")[0] in raw or path.split(".")[0] in _ROOTS for path in whole) and (
        len({path.count(".") for path in whole}) == 1 or whole[0] == "cur"
    ):
        paths = [tuple(path.split(".")) for path in whole]
    else:
        paths = [()]
        for part in field.split("."):
            paths = [(*path, name) for path in paths for name in part.split("|")]
    told = [
        # Of a whole object only that it is there matters.
        path[-1] if isinstance(value, dict) else f"{path[-1]}={_short(value)}"
        for path in paths
        if (value := _at(raw, path)) not in (None, [], {}, "")
    ]
    return ", ".join(told)


def _short(value: Json) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text[:_ASKED_CHARS_MAX] + "..." if len(text) > _ASKED_CHARS_MAX else text


def _at(value: Json, path: tuple[str, ...]) -> Json:
    for i, name in enumerate(path):
        if isinstance(value, list):
            found = [_at(each, path[i:]) for each in value]
            return [each for each in found if each is not None]
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _lifted(record: Record, columns: dict[str, int]) -> np.void:
    """Returns a copy of a record with these columns set; -1 sets every bit."""
    copy = np.array([record], record.dtype)
    for name, value in columns.items():
        kind = copy[name].dtype.type
        copy[name] = np.iinfo(kind).max if value == _EVERY_BIT else value
    return copy[0]


def _lifted_arrays(arrays: SnapshotArrays) -> SnapshotArrays:
    """Returns the arrays with line items that have no flight, no condition and need no deal."""
    items = arrays.line_items.copy()
    items["start_at_ms"] = 0
    items["end_at_ms"] = _OPEN_END_MS
    for name in ("is_deal_only", *_CONDITIONS):
        items[name] = 0
    items.setflags(write=False)
    return arrays._replace(line_items=items)


def _listing(values: tuple[str, ...]) -> str:
    shown = ", ".join(values[:_LISTED_MAX])
    return f"{shown} and {len(values) - _LISTED_MAX} more" if len(values) > _LISTED_MAX else shown


def _time(at_ms: int | None) -> str:
    if at_ms is None:
        return "ever"
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="minutes")


def _creatives_text(line_item: LineItem) -> str:
    return "creatives are " + _listing(
        tuple(sorted({f"{c.format} {c.width}x{c.height}" for c in line_item.creatives}))
    )


def _condition_text(line_item: LineItem, column: str) -> str:
    targeting = line_item.targeting
    if column == "os_version_max":
        return f"version {targeting.os_version_min or 'any'} to {targeting.os_version_max or 'any'}"
    if column == "area_count":
        return f"in one of {len(targeting.areas)} areas"
    return f"seen at least {targeting.viewability_min:g}"
