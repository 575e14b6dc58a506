"""The decision as machine code: match, score, price, check money and caps, choose.

One function, ``decide_block``, serves the HTTP bidder (one opportunity) and the twin (blocks): the
state is updated after every opportunity, so blocks of 1, 7 and 4,096 give the same answers. The
steps are the functions above it, in order; orchestration and types live in ``bidder.decide``.

Dimension names: N = opportunities, L = line item rows, W = words of a bitset, E = embedding width
of one head.
"""

# To the compiler an int is an np.int64 and both are one type; to numpy's stubs they are strangers,
# so a cast or a return would be an error on every line. The rules that compare them are off inside;
# callers are still held to the signatures.
# pyright: reportArgumentType=false, reportAssignmentType=false, reportReturnType=false
# pyright: reportCallIssue=false, reportOperatorIssue=false

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from bidder.recommendation.kernels import context_side, pair_probabilities
from market.chance import Purpose
from market.decision import NoBidReason
from market.events import BUDGETS_PER_LINE_ITEM, CAPS_PER_LINE_ITEM, EventFlag, EventKind
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS
from market.kernel import bare_kernel as kernel
from market.kernels import (
    amount_micros,
    at_opportunity,
    context_features,
    hash_pair,
    mix,
    normal,
    scale_down,
    scale_up,
    stream,
    uniform,
)
from market.money import PRICE_CPM_MICROS_MAX
from market.opportunity import DIMENSION_COUNT, FORMAT_COUNT, CodeList, Format
from market.snapshot import Table
from market.state import CAP_PROBES

if TYPE_CHECKING:
    import numpy.typing as npt

    from bidder.decide import Work
    from market.control import LiveArrays
    from market.snapshot import SnapshotArrays
    from market.state import BidState

Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_CONTEXT = np.array([int(d) for d in CONTEXT_DIMENSIONS], np.int64)
_U0 = np.uint64(0)
_U1 = np.uint64(1)
_TEST = int(EventFlag.TEST)
_BID = int(EventKind.BID)
_NO_BID = int(EventKind.NO_BID)
_CREATIVE_CHOICE = int(Purpose.CREATIVE_CHOICE)
_PROPENSITY = int(Purpose.PROPENSITY)
_NO_BID_SAMPLE = int(Purpose.NO_BID_SAMPLE)
_FIXED_PRICE = 3
_NO_RATE = np.int64(2**62)
_PRICE_MAX = np.int64(PRICE_CPM_MICROS_MAX)

_SEGMENT = int(CodeList.SEGMENT)
_CATEGORY = int(CodeList.CATEGORY)
_KEYWORD = int(CodeList.KEYWORD)
_TABLE_FORMAT = int(Table.FORMAT)
_TABLE_DOMAIN = int(Table.ADVERTISER_DOMAIN)
_BANNER = int(Format.BANNER)

R_NO_ACTIVE = int(NoBidReason.NO_ACTIVE_LINE_ITEM)
R_FORMAT = int(NoBidReason.FORMAT_NOT_SERVED)
R_DIMENSION = int(NoBidReason.TARGETING_DIMENSION)
R_DEAL = int(NoBidReason.DEAL_REQUIRED)
R_FLIGHT = int(NoBidReason.OUTSIDE_FLIGHT)
R_NOT_ACTIVE = int(NoBidReason.NOT_ACTIVE)
R_CURRENCY = int(NoBidReason.CURRENCY_NOT_CONVERTIBLE)
R_SIZE = int(NoBidReason.SIZE_NOT_OFFERED)
R_DURATION = int(NoBidReason.DURATION_NOT_ACCEPTED)
R_PROTOCOL = int(NoBidReason.PROTOCOL_NOT_ACCEPTED)
R_MEDIA = int(NoBidReason.MEDIA_TYPE_NOT_ACCEPTED)
R_ATTRIBUTE = int(NoBidReason.ATTRIBUTE_BLOCKED)
R_SECURE = int(NoBidReason.NOT_SECURE)
R_USER = int(NoBidReason.USER_UNKNOWN_FOR_CAP)
R_CAP = int(NoBidReason.FREQUENCY_CAP)
R_BUDGET = int(NoBidReason.BUDGET_EXHAUSTED)
R_FLOOR = int(NoBidReason.BELOW_FLOOR)

# Exchange rules over lists: (list, table, reason, 0 = must have one of them, 1 = must have none).
_RULES = np.array(
    [
        [CodeList.SEAT_ALLOWED, Table.SEAT, NoBidReason.SEAT_NOT_ALLOWED, 0],
        [CodeList.SEAT_BLOCKED, Table.SEAT, NoBidReason.SEAT_BLOCKED, 1],
        [CodeList.CATEGORY_ALLOWED, Table.AD_CATEGORY, NoBidReason.CATEGORY_NOT_ALLOWED, 0],
        [CodeList.CATEGORY_BLOCKED, Table.AD_CATEGORY, NoBidReason.CATEGORY_BLOCKED, 1],
        [CodeList.ADVERTISER_BLOCKED, Table.ADVERTISER_DOMAIN, NoBidReason.ADVERTISER_BLOCKED, 1],
        [CodeList.APP_BLOCKED, Table.APP_BUNDLE, NoBidReason.APP_BLOCKED, 1],
    ],
    np.int64,
)
# What a line item may target in lists: (list, asks, refuses, reason).
_AUDIENCE = np.array(
    [
        [CodeList.SEGMENT, Table.SEGMENT, Table.SEGMENT_EXCLUDED, NoBidReason.TARGETING_SEGMENT],
        [
            CodeList.CATEGORY,
            Table.CATEGORY,
            Table.CATEGORY_EXCLUDED,
            NoBidReason.TARGETING_CATEGORY,
        ],
        [CodeList.KEYWORD, Table.KEYWORD, Table.KEYWORD_EXCLUDED, NoBidReason.TARGETING_KEYWORD],
    ],
    np.int64,
)


@kernel
def find_row(
    row_keys: npt.NDArray[np.uint64], row_values: npt.NDArray[np.int32], table: int, code: np.uint64
) -> int:
    """Returns the bitset row of (table, code), -1 if no line item names that value."""
    key = hash_pair(np.uint64(table), code)
    last = np.uint64(row_keys.shape[0] - 1)
    slot = key & last
    while row_keys[slot] != _U0:
        if row_keys[slot] == key:
            return np.int64(row_values[slot])
        slot = (slot + _U1) & last
    return np.int64(-1)


@kernel
def _copy(source: npt.NDArray[np.uint64], target: npt.NDArray[np.uint64]) -> None:
    """Copies element by element: a slice assignment would allocate."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@kernel
def _is_empty(words: npt.NDArray[np.uint64]) -> bool:
    seen = _U0
    for w in range(words.shape[0]):
        seen |= words[w]
    return seen == _U0


@kernel
def _union(
    arrays: SnapshotArrays,
    table: int,
    codes: npt.NDArray[np.uint64],
    first: int,
    count: int,
    out: npt.NDArray[np.uint64],
) -> bool:
    """Fills out[W] with the line items that some of ``codes`` names; True if any code is named."""
    is_named = False
    out[:] = _U0
    for k in range(first, first + count):
        row = find_row(arrays.row_keys, arrays.row_values, table, codes[k])
        if row >= 0:
            is_named = True
            for w in range(out.shape[0]):
                out[w] |= arrays.rows[row, w]
    return is_named


@kernel
def match_format(
    opportunity: Record, arrays: SnapshotArrays, words: npt.NDArray[np.uint64]
) -> None:
    """Fills words[W] with the line items that have a creative of an accepted format."""
    words[:] = _U0
    for bit in range(FORMAT_COUNT):
        if opportunity["formats"] & (1 << bit):
            row = find_row(arrays.row_keys, arrays.row_values, _TABLE_FORMAT, np.uint64(1 << bit))
            if row >= 0:
                for w in range(words.shape[0]):
                    words[w] |= arrays.rows[row, w]


@kernel
def match_rules(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    arrays: SnapshotArrays,
    words: npt.NDArray[np.uint64],
    scratch: npt.NDArray[np.uint64],
) -> int:
    """Takes out of words[W] whom the exchange's allow and block lists forbid; reason if all."""
    for rule in range(_RULES.shape[0]):
        which = _RULES[rule, 0]
        count = opportunity["list_count"][which]
        if count == 0:
            continue
        first = opportunity["list_first"][which]
        is_named = _union(arrays, _RULES[rule, 1], codes, first, count, scratch)
        if _RULES[rule, 3] == 0:
            for w in range(words.shape[0]):
                words[w] &= scratch[w]
        elif is_named:
            for w in range(words.shape[0]):
                words[w] &= ~scratch[w]
        if _is_empty(words):
            return _RULES[rule, 2]
    return 0


@kernel
def match_dimensions(
    opportunity: Record, arrays: SnapshotArrays, words: npt.NDArray[np.uint64]
) -> int:
    """Takes out of words[W] who does not target this; the dimension that left nobody, else -1."""
    for d in range(DIMENSION_COUNT):
        row = np.int64(-1)
        if opportunity["dimensions"][d] != _U0:
            row = find_row(arrays.row_keys, arrays.row_values, d, opportunity["dimensions"][d])
        if row < 0:
            row = np.int64(arrays.any_rows[d])
        left = _U0
        for w in range(words.shape[0]):
            words[w] &= arrays.rows[row, w]
            left |= words[w]
        if left == _U0:
            return d
    return -1


@kernel
def match_audience(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    arrays: SnapshotArrays,
    words: npt.NDArray[np.uint64],
    scratch: npt.NDArray[np.uint64],
) -> int:
    """Takes out of words[W] who asks for other lists, or refuses one of these."""
    for a in range(_AUDIENCE.shape[0]):
        first = opportunity["list_first"][_AUDIENCE[a, 0]]
        count = opportunity["list_count"][_AUDIENCE[a, 0]]
        _union(arrays, _AUDIENCE[a, 1], codes, first, count, scratch)
        row = np.int64(arrays.any_rows[_AUDIENCE[a, 1]])
        for w in range(words.shape[0]):
            words[w] &= arrays.rows[row, w] | scratch[w]
        if count and _union(arrays, _AUDIENCE[a, 2], codes, first, count, scratch):
            for w in range(words.shape[0]):
                words[w] &= ~scratch[w]
        if _is_empty(words):
            return _AUDIENCE[a, 3]
    return 0


@kernel
def match(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    arrays: SnapshotArrays,
    words: npt.NDArray[np.uint64],
    scratch: npt.NDArray[np.uint64],
) -> tuple[int, int]:
    """Leaves in words[W] the line items that may serve; returns (reason, detail) if none, (0, 0).

    Bit i is line item row i. Order of the checks: formats, the exchange's allow and block lists,
    the single-valued dimensions, then segments, categories and keywords.
    """
    match_format(opportunity, arrays, words)
    if _is_empty(words):
        return R_FORMAT, 0
    reason = match_rules(opportunity, codes, arrays, words, scratch)
    if reason != 0:
        return reason, 0
    dimension = match_dimensions(opportunity, arrays, words)
    if dimension >= 0:
        return R_DIMENSION, dimension
    return match_audience(opportunity, codes, arrays, words, scratch), 0


@kernel
def find_deal(
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    arrays: SnapshotArrays,
    line_item: Record,
    row: int,
) -> int:
    """Returns the index (in the opportunity's deals) of the best deal to bid on, -1 for none.

    A deal fits if the line item holds its id, its seat list, if any, has the line item's seat, and
    its list of advertiser domains, if any, has the line item's. Among several the one with the
    lowest floor in USD, the first of equals; a deal whose floor has no rate comes last.
    """
    best = np.int64(-1)
    best_floor = np.int64(0)
    for i in range(opportunity["deal_count"]):
        deal: Record = deals[opportunity["deal_first"] + i]
        is_held = False
        for k in range(line_item["deal_first"], line_item["deal_first"] + line_item["deal_count"]):
            is_held = is_held or arrays.deal_codes[k] == deal["code"]
        if not is_held:
            continue
        may_bid = deal["seat_count"] == 0
        for k in range(deal["seat_first"], deal["seat_first"] + deal["seat_count"]):
            may_bid = may_bid or codes[k] == line_item["seat_code"]
        may_bid = may_bid and is_domain_allowed(deal, codes, arrays, row)
        if not may_bid:
            continue
        floor, floor_currency = deal_floor(opportunity, deal)
        index = currency_index(arrays.currencies, floor_currency)
        floor_usd = scale_up(floor, arrays.rates_micros[0, index]) if index >= 0 else _NO_RATE
        if best < 0 or floor_usd < best_floor:
            best = np.int64(i)
            best_floor = np.int64(floor_usd)
    return best


@kernel
def is_domain_allowed(
    deal: Record, codes: npt.NDArray[np.uint64], arrays: SnapshotArrays, row: int
) -> bool:
    """Returns whether the advertiser of line item ``row`` may bid on it (2.6 ``wadomain``)."""
    if deal["domain_count"] == 0:
        return True
    bit = np.uint64(row & 63)
    for k in range(deal["domain_first"], deal["domain_first"] + deal["domain_count"]):
        named = find_row(arrays.row_keys, arrays.row_values, _TABLE_DOMAIN, codes[k])
        if named >= 0 and (arrays.rows[named, row >> 6] >> bit) & _U1 != _U0:
            return True
    return False


@kernel
def deal_floor(opportunity: Record, deal: Record) -> tuple[int, int]:
    """Returns (floor, its currency) of a bid on this deal: the deal's own, else the imp's."""
    if deal["floor_cpm_micros"] >= 0:
        return deal["floor_cpm_micros"], deal["floor_currency"]
    return opportunity["floor_cpm_micros"], opportunity["floor_currency"]


@kernel
def currency_index(currencies: npt.NDArray[np.uint16], number: int) -> int:
    """Returns the index of an ISO 4217 number in ``currencies``, -1 if it has no rate."""
    for i in range(currencies.shape[0]):
        if currencies[i] == number:
            return np.int64(i)
    return np.int64(-1)


@kernel
def bid_currency_index(opportunity: Record, arrays: SnapshotArrays, account: int) -> int:
    """Returns the index of the bid's currency: the account's if accepted, else the first known."""
    first = np.int64(-1)
    for k in range(opportunity["currencies"].shape[0]):
        if opportunity["currencies"][k] == 0:
            break
        i = currency_index(arrays.currencies, opportunity["currencies"][k])
        if i == account and i >= 0:
            return i
        if first < 0:
            first = i
    return first


@kernel
def creative_obstacle(  # noqa: PLR0911 - one check after the other
    opportunity: Record, creative: Record
) -> int:
    """Returns why this creative cannot be shown in this imp (a NoBidReason), 0 if it can."""
    if (creative["format"] & opportunity["formats"]) == 0:
        return R_FORMAT
    # Video scales to its player and audio has no size: only a banner must fit exactly.
    if creative["format"] == _BANNER and opportunity["size_count"] > 0:
        is_offered = False
        for k in range(opportunity["size_count"]):
            is_offered = is_offered or opportunity["sizes"][k] == creative["size"]
        if not is_offered:
            return R_SIZE
    if creative["duration_ms"] > 0 and (
        creative["duration_ms"] < opportunity["duration_ms_min"]
        or (
            opportunity["duration_ms_max"] > 0
            and creative["duration_ms"] > opportunity["duration_ms_max"]
        )
    ):
        return R_DURATION
    protocol = (opportunity["protocols"] >> np.uint64(creative["protocol"])) & _U1
    if opportunity["protocols"] != _U0 and creative["protocol"] > 0 and protocol == _U0:
        return R_PROTOCOL
    if (
        opportunity["media_types"] != _U0
        and (opportunity["media_types"] & creative["media_type"]) == _U0
    ):
        return R_MEDIA
    if (opportunity["attributes_blocked"] & creative["attributes"]) != _U0:
        return R_ATTRIBUTE
    if opportunity["is_secure"] and not creative["is_secure"]:
        return R_SECURE
    return 0


@kernel
def creatives_obstacle(opportunity: Record, arrays: SnapshotArrays, line_item: Record) -> int:
    """Returns the furthest obstacle to showing any creative of the line item, 0 if one can."""
    furthest = 0
    first = line_item["creative_first"]
    for c in range(first, first + line_item["creative_count"]):
        reason = creative_obstacle(opportunity, arrays.creatives[c])
        if reason == 0:
            return 0
        furthest = max(furthest, reason)
    return furthest


@kernel
def cap_counter_key(
    scope_code: np.uint64, user_key: np.uint64, arrival_ms: int, period_ms: int
) -> np.uint64:
    """Returns the name of the counter of (scope, user, window that holds ``arrival_ms``)."""
    window = np.uint64(arrival_ms // period_ms)
    key = hash_pair(hash_pair(scope_code, user_key), window)
    return key if key != _U0 else _U1


@kernel
def cap_count(slots: npt.NDArray[np.void], key: np.uint64, now_ms: int) -> int:
    """Returns the count of ``key`` over all workers' slots[W, S]."""
    last = np.uint64(slots.shape[1] - 1)
    total = np.int64(0)
    for worker in range(slots.shape[0]):
        for probe in range(CAP_PROBES):
            slot = slots[worker, (key + np.uint64(probe)) & last]
            if slot["key"] == key:
                if slot["expires_ms"] > now_ms:
                    total += slot["count"]
                break
            if slot["key"] == _U0:
                break
    return total


@kernel
def cap_slot(slots: npt.NDArray[np.void], worker: int, key: np.uint64, now_ms: int) -> int:
    """Returns the worker's own slot for ``key``: the one it has, else a free one, -1 if full."""
    last = np.uint64(slots.shape[1] - 1)
    free = np.int64(-1)
    for probe in range(CAP_PROBES):
        at = np.int64((key + np.uint64(probe)) & last)
        if slots[worker, at]["key"] == key:
            return at
        if free < 0 and (
            slots[worker, at]["key"] == _U0 or slots[worker, at]["expires_ms"] <= now_ms
        ):
            free = at
        if slots[worker, at]["key"] == _U0:
            break
    return free


@kernel
def cap_add(
    slots: npt.NDArray[np.void],
    worker: int,
    key: np.uint64,
    amount: int,
    now_ms: int,
    expires_ms: int,
) -> None:
    """Adds ``amount`` to the worker's counter of ``key``; a missing one is only made to grow."""
    at = cap_slot(slots, worker, key, now_ms)
    if at < 0:
        return
    if slots[worker, at]["key"] != key:
        if amount < 0:
            return
        slots[worker, at]["key"] = key
        slots[worker, at]["count"] = np.int64(0)
        slots[worker, at]["expires_ms"] = expires_ms
    elif slots[worker, at]["expires_ms"] <= now_ms:
        slots[worker, at]["count"] = np.int64(0)
    slots[worker, at]["count"] = max(np.int64(0), slots[worker, at]["count"] + np.int64(amount))


@kernel
def cap_obstacle(
    opportunity: Record,
    arrays: SnapshotArrays,
    slots: npt.NDArray[np.void],
    worker: int,
    line_item: Record,
    creative_row: int,
) -> int:
    """Returns the NoBidReason by which a cap of this scope forbids the bid, 0 if none does.

    ``creative_row`` -1 checks the caps of line item and campaign, else those of that creative.
    A user who may not be known cannot be counted: a capped line item then does not bid.
    """
    for c in range(line_item["cap_first"], line_item["cap_first"] + line_item["cap_count"]):
        cap = arrays.caps[c]
        if cap["creative_row"] != creative_row:
            continue
        if opportunity["user_key"] == _U0:
            return R_USER
        key = cap_counter_key(
            cap["scope_code"], opportunity["user_key"], opportunity["arrival_ms"], cap["period_ms"]
        )
        if cap_count(slots, key, opportunity["arrival_ms"]) >= cap["impressions_max"]:
            return R_CAP
        if cap_slot(slots, worker, key, opportunity["arrival_ms"]) < 0:
            return R_CAP
    return 0


@kernel
def lift_draw(key: np.uint64, actor: int, shape: float, rate: float) -> float:
    """Returns a gamma(shape, rate) draw from one normal, for Thompson sampling of a click lift.

    Source: Wilson and Hilferty, 1931: the cube root of a gamma variable is nearly normal with mean
    1 - 1/(9 shape) and variance 1/(9 shape), times the cube root of the mean.
    """
    spread = 1.0 / (9.0 * shape)
    root = 1.0 - spread + np.sqrt(spread) * normal(key, actor)
    return shape / rate * max(root, 0.0) ** 3


@kernel
def choose_creative(
    opportunity: Record,
    arrays: SnapshotArrays,
    slots: npt.NDArray[np.void],
    worker: int,
    line_item: Record,
    vector: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    seed: int,
    chosen: npt.NDArray[np.float64],
) -> tuple[int, int]:
    """Fills chosen[2] = pctr, pcvr, and returns (creative row or -1, furthest NoBidReason).

    Among the creatives that can be shown, the one with the highest pctr * pcvr * lift is chosen,
    where the lift of a creative in cold start is a Thompson draw from its posterior and of another
    its posterior mean. pctr is reported times the mean lift: the draw chooses, it does not price.
    """
    reached = 0
    first = line_item["creative_first"]
    count = line_item["creative_count"]
    key = at_opportunity(
        stream(seed, _CREATIVE_CHOICE), opportunity["key_hi"], opportunity["key_lo"]
    )
    best = np.int64(-1)
    best_worth = -1.0
    for c in range(first, first + count):
        creative = arrays.creatives[c]
        reason = creative_obstacle(opportunity, creative)
        if reason == 0:
            reason = cap_obstacle(opportunity, arrays, slots, worker, line_item, c)
        if reason != 0:
            reached = max(reached, reason)
            continue
        pctr, pcvr = pair_probabilities(
            vector, bias, c, arrays.ad_vectors, arrays.ad_bias, arrays.calibration
        )
        mean = creative["lift_shape"] / creative["lift_rate"]
        lift = mean
        if creative["is_cold"]:
            lift = lift_draw(
                key, creative["creative_id"], creative["lift_shape"], creative["lift_rate"]
            )
        worth = pctr * pcvr * lift
        if worth > best_worth:
            best = np.int64(c)
            best_worth = worth
            chosen[0] = min(pctr * mean, 1.0)
            chosen[1] = pcvr
    return best, reached


@kernel
def choice_propensity(
    opportunity: Record,
    arrays: SnapshotArrays,
    slots: npt.NDArray[np.void],
    worker: int,
    offer: Record,
    vector: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    seed: int,
    draws: npt.NDArray[np.float64],
) -> float:
    """Returns the share of 32 further keyed draws that choose the creative of ``offer`` again.

    Smoothed to (k + 1/2) / 33; 1 where there was nothing to draw. Only computed for the bid that is
    made. draws: [2, 32] scratch, worth and creative row of the best so far by draw.
    """
    base = at_opportunity(stream(seed, _PROPENSITY), opportunity["key_hi"], opportunity["key_lo"])
    line_item: Record = arrays.line_items[offer["line_item_row"]]
    first = line_item["creative_first"]
    draws[0, :] = -1.0
    shown = 0
    is_drawn = False
    for c in range(first, first + line_item["creative_count"]):
        creative = arrays.creatives[c]
        if creative_obstacle(opportunity, creative) != 0:
            continue
        if cap_obstacle(opportunity, arrays, slots, worker, line_item, c) != 0:
            continue
        shown += 1
        is_drawn = is_drawn or creative["is_cold"] != 0
        pctr, pcvr = pair_probabilities(
            vector, bias, c, arrays.ad_vectors, arrays.ad_bias, arrays.calibration
        )
        lift = creative["lift_shape"] / creative["lift_rate"]
        for draw in range(draws.shape[1]):
            if creative["is_cold"]:
                key = mix(base + np.uint64(draw))
                lift = lift_draw(
                    key, creative["creative_id"], creative["lift_shape"], creative["lift_rate"]
                )
            worth = pctr * pcvr * lift
            if worth > draws[0, draw]:
                draws[0, draw] = worth
                draws[1, draw] = c
    if shown < 2 or not is_drawn:
        return 1.0
    hits = 0
    for draw in range(draws.shape[1]):
        hits += np.int64(draws[1, draw]) == offer["creative_row"]
    return (hits + 0.5) / (draws.shape[1] + 1.0)


@kernel
def bid_value(
    conversion_micros: int, pctr: float, pcvr: float, pacing_lambda: float, ratio_mu: float
) -> tuple[float, float]:
    """Returns (value, bid before shading) of one impression, micros as float.

    v = pctr * pcvr * T and b = v (1 + mu) / (lambda + mu): the optimum of maximising conversions
    under a budget (lambda) and a ratio (mu) constraint. Source: Aggarwal, Badanidiyuru and Mehta,
    "Autobidding with constraints", WINE 2019; T is what a conversion may cost or is worth.
    """
    value = pctr * pcvr * np.float64(conversion_micros)
    return value, value * (1.0 + ratio_mu) / (pacing_lambda + ratio_mu)


@kernel
def evaluate(  # noqa: C901, PLR0911, PLR0912, PLR0915 - one check after the other
    opportunity: Record,
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    arrays: SnapshotArrays,
    live: LiveArrays,
    state: BidState,
    row: int,
    worker: int,
    seed: int,
    vector: npt.NDArray[np.float64],
    bias: npt.NDArray[np.float64],
    chosen: npt.NDArray[np.float64],
    offer: Record,
) -> int:
    """Fills offer[...] with the bid of line item ``row``; returns the NoBidReason that stops it.

    offer is one record of DECISION_DTYPE. Returns 0 (BID) when the offer stands.
    """
    line_item: Record = arrays.line_items[row]
    deal_index = find_deal(opportunity, codes, deals, arrays, line_item, row)
    if deal_index < 0 and (opportunity["is_private"] or line_item["is_deal_only"]):
        return R_DEAL
    if not line_item["start_at_ms"] <= opportunity["arrival_ms"] < line_item["end_at_ms"]:
        return R_FLIGHT
    if not live.is_active[row]:
        return R_NOT_ACTIVE
    account = currency_index(arrays.currencies, line_item["account_currency"])
    currency = bid_currency_index(opportunity, arrays, account)
    if account < 0 or currency < 0:
        return R_CURRENCY
    floor = opportunity["floor_cpm_micros"]
    floor_currency = opportunity["floor_currency"]
    auction_type = opportunity["auction_type"]
    deal_code = _U0
    if deal_index >= 0:
        deal: Record = deals[opportunity["deal_first"] + deal_index]
        deal_code = deal["code"]
        floor, floor_currency = deal_floor(opportunity, deal)
        if deal["auction_type"] != 0:
            auction_type = deal["auction_type"]
    floor_index = currency_index(arrays.currencies, floor_currency)
    if floor_index < 0:
        return R_CURRENCY
    reason = cap_obstacle(opportunity, arrays, state.cap_slots, worker, line_item, -1)
    if reason != 0:
        # A cap is only reached by what could be shown.
        obstacle = creatives_obstacle(opportunity, arrays, line_item)
        return obstacle if obstacle != 0 else reason
    creative_row, reached = choose_creative(
        opportunity, arrays, state.cap_slots, worker, line_item, vector, bias, seed, chosen
    )
    if creative_row < 0:
        return reached if reached != 0 else R_SIZE
    rate = arrays.rates_micros[account, currency]
    value, bid = bid_value(
        line_item["conversion_micros"], chosen[0], chosen[1],
        live.pacing_lambda[row], live.ratio_mu[row],
    )  # fmt: skip
    shading = live.shading_factor[row] if auction_type == 1 else 1.0
    # The ceiling is taken before the cast: a float beyond int64 has no integer.
    bid_cpm = np.int64(min(1000.0 * bid * shading, np.float64(line_item["bid_cpm_micros_max"])))
    # A price above the maximum would be refused when its notice states it.
    price = min(np.int64(scale_down(bid_cpm, rate)), _PRICE_MAX)
    floor_price = scale_up(floor, arrays.rates_micros[currency, floor_index])
    is_fixed = deal_index >= 0 and auction_type == _FIXED_PRICE
    if is_fixed and price >= floor_price:
        price = floor_price
    reserved = amount_micros(price, opportunity["quantity_micros"], rate)
    for k in range(BUDGETS_PER_LINE_ITEM):
        budget_row = line_item["budget_rows"][k]
        offer["budgets"][k] = _U0
        if budget_row >= 0:
            budget: Record = arrays.budgets[budget_row]
            offer["budgets"][k] = budget["budget_id"]
            if state.available_micros[budget_row] < reserved:
                return R_BUDGET
    if price <= 0 or price < floor_price:
        return R_FLOOR
    creative = arrays.creatives[creative_row]
    offer["line_item_row"] = row
    offer["creative_row"] = creative_row
    offer["advertiser_id"] = line_item["advertiser_id"]
    offer["campaign_id"] = line_item["campaign_id"]
    offer["line_item_id"] = line_item["line_item_id"]
    offer["creative_id"] = creative["creative_id"]
    offer["bid_cpm_micros"] = price
    offer["reserved_micros"] = reserved
    offer["floor_cpm_micros"] = floor_price
    offer["value_micros"] = np.int64(value)
    offer["rate_micros"] = rate
    offer["deadline_ms"] = opportunity["arrival_ms"] + opportunity["billing_window_ms"]
    offer["deal_code"] = deal_code
    offer["deal_index"] = deal_index
    offer["bid_currency"] = arrays.currencies[currency]
    offer["account_currency"] = line_item["account_currency"]
    offer["size"] = creative["size"]
    offer["pctr"] = chosen[0]
    offer["pcvr"] = chosen[1]
    offer["shading_factor"] = shading
    offer["format"] = creative["format"]
    return 0


@kernel
def is_among(keys: npt.NDArray[np.uint64], count: int, key: np.uint64) -> bool:
    """Returns whether ``key`` is one of the first ``count`` of ``keys``."""
    is_found = False
    for k in range(count):
        is_found = is_found or keys[k] == key
    return is_found


@kernel
def commit(
    opportunity: Record, arrays: SnapshotArrays, state: BidState, worker: int, offer: Record
) -> None:
    """Takes the reservation and the cap counts of ``offer`` out of the state; names the bid."""
    line_item: Record = arrays.line_items[offer["line_item_row"]]
    for k in range(BUDGETS_PER_LINE_ITEM):
        if line_item["budget_rows"][k] >= 0:
            state.available_micros[line_item["budget_rows"][k]] -= offer["reserved_micros"]
    used = 0
    for c in range(line_item["cap_first"], line_item["cap_first"] + line_item["cap_count"]):
        cap = arrays.caps[c]
        if cap["creative_row"] >= 0 and cap["creative_row"] != offer["creative_row"]:
            continue
        if used >= CAPS_PER_LINE_ITEM:
            break
        key = cap_counter_key(
            cap["scope_code"], opportunity["user_key"], opportunity["arrival_ms"], cap["period_ms"]
        )
        # Two caps over the same scope and period share one counter, which counts a bid once.
        if is_among(offer["caps"], used, key):
            continue
        end = (opportunity["arrival_ms"] // cap["period_ms"] + 1) * cap["period_ms"]
        cap_add(state.cap_slots, worker, key, 1, opportunity["arrival_ms"], end)
        offer["caps"][used] = key
        used += 1
    arrival = np.uint64(opportunity["arrival_ms"])
    item = np.uint64(offer["line_item_id"])
    offer["bid_hi"] = hash_pair(hash_pair(opportunity["key_hi"], arrival), item)
    offer["bid_lo"] = hash_pair(hash_pair(opportunity["key_lo"], item), arrival)


@kernel
def fill_event(
    opportunity: Record,
    offer: Record,
    kind: int,
    weight: float,
    versions: npt.NDArray[np.uint32],
    worker: int,
    event: Record,
) -> None:
    """Fills one record of EVENT_DTYPE for a bid or a sampled no-bid.

    versions = snapshot, model, policy. The event id is left 0: the recorder derives it.
    """
    event["kind"] = kind
    event["opportunity_hi"] = opportunity["key_hi"]
    event["opportunity_lo"] = opportunity["key_lo"]
    event["ts_ms"] = opportunity["arrival_ms"]
    event["bid_ms"] = opportunity["arrival_ms"]
    event["user_key"] = opportunity["user_key"]
    event["snapshot_version"] = versions[0]
    event["model_version"] = versions[1]
    event["policy_version"] = versions[2]
    event["exchange"] = opportunity["exchange"]
    event["worker"] = worker
    event["flags"] = _TEST if opportunity["is_test"] else 0
    event["weight"] = weight
    event["reason"] = offer["reason"]
    event["quantity_micros"] = opportunity["quantity_micros"]
    _copy(offer["features"], event["features"])
    event["bid_hi"] = offer["bid_hi"]
    event["bid_lo"] = offer["bid_lo"]
    event["deadline_ms"] = offer["deadline_ms"]
    event["deal_code"] = offer["deal_code"]
    event["price_cpm_micros"] = offer["bid_cpm_micros"]
    event["amount_micros"] = offer["reserved_micros"]
    event["floor_cpm_micros"] = offer["floor_cpm_micros"]
    event["value_micros"] = offer["value_micros"]
    event["advertiser_id"] = offer["advertiser_id"]
    event["campaign_id"] = offer["campaign_id"]
    event["line_item_id"] = offer["line_item_id"]
    event["creative_id"] = offer["creative_id"]
    event["bid_currency"] = offer["bid_currency"]
    event["account_currency"] = offer["account_currency"]
    event["format"] = offer["format"]
    event["pctr"] = offer["pctr"]
    event["pcvr"] = offer["pcvr"]
    event["propensity"] = offer["propensity"]
    _copy(offer["budgets"], event["budgets"])
    _copy(offer["caps"], event["caps"])
    event["rate_micros"] = offer["rate_micros"]
    event["shading_factor"] = offer["shading_factor"]
    event["size"] = offer["size"]


@kernel
def decide_block(
    records: npt.NDArray[np.void],
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    arrays: SnapshotArrays,
    live: LiveArrays,
    state: BidState,
    work: Work,
    versions: npt.NDArray[np.uint32],
    worker: int,
    seed: int,
    sample_rate: float,
    decisions: npt.NDArray[np.void],
    events: npt.NDArray[np.void],
) -> None:
    """Decides records[N] in order of arrival; fills decisions[N] and events[N].

    work: scratch of ``bidder.decide.new_work``. An event of kind 0 is none: a no-bid that was not
    sampled. State is updated in place after every opportunity.
    """
    for n in range(records.shape[0]):
        opportunity = records[n]
        context_features(
            _CONTEXT,
            opportunity["dimensions"],
            codes[
                opportunity["list_first"][_SEGMENT] : opportunity["list_first"][_SEGMENT]
                + opportunity["list_count"][_SEGMENT]
            ],
            CONTEXT_BUCKETS,
            work.features,
        )
        best = work.best
        best[0]["line_item_row"] = -1
        reason, detail = R_NO_ACTIVE, 0
        if arrays.creatives.shape[0] > 0:
            reason, detail = match(opportunity, codes, arrays, work.words, work.scratch)
        if reason == 0:
            context_side(
                work.features, arrays.context_vectors, arrays.context_bias, work.vector, work.bias
            )
            best_rank = np.int64(-1)
            for w in range(work.words.shape[0]):
                word = work.words[w]
                while word != _U0:
                    low = word & (~word + _U1)
                    row = w * 64 + np.int64(_trailing_zeros(low))
                    word ^= low
                    stop = evaluate(
                        opportunity, codes, deals, arrays, live, state, row, worker, seed,
                        work.vector, work.bias, work.chosen, work.offer[0],
                    )  # fmt: skip
                    if stop != 0:
                        reason = max(reason, stop)
                        continue
                    rank = scale_up(
                        work.offer[0]["bid_cpm_micros"],
                        arrays.rates_micros[
                            0, currency_index(arrays.currencies, work.offer[0]["bid_currency"])
                        ],
                    )
                    if rank > best_rank or (
                        rank == best_rank
                        and work.offer[0]["line_item_id"] < best[0]["line_item_id"]
                    ):
                        best_rank = rank
                        best[0] = work.offer[0]
        decision = decisions[n]
        event = events[n]
        event["kind"] = 0
        if best[0]["line_item_row"] >= 0:
            best[0]["reason"] = 0
            best[0]["detail"] = 0
            best[0]["caps"][:] = _U0
            _copy(work.features, best[0]["features"])
            best[0]["propensity"] = choice_propensity(
                opportunity, arrays, state.cap_slots, worker, best[0], work.vector, work.bias,
                seed, work.draws,
            )  # fmt: skip
            commit(opportunity, arrays, state, worker, best[0])
            decisions[n] = best[0]
            state.no_bids[0] += 1
            fill_event(opportunity, decisions[n], _BID, 1.0, versions, worker, event)
        else:
            decisions[n] = work.nothing[0]
            decision["reason"] = reason
            decision["detail"] = detail
            _copy(work.features, decision["features"])
            state.no_bids[reason] += 1
            key = at_opportunity(
                stream(seed, _NO_BID_SAMPLE), opportunity["key_hi"], opportunity["key_lo"]
            )
            if uniform(key, 0) < sample_rate:
                fill_event(
                    opportunity, decision, _NO_BID, 1.0 / sample_rate, versions, worker, event
                )


@kernel
def _trailing_zeros(low: np.uint64) -> int:
    """Returns the index of the one set bit of ``low``."""
    n = 0
    if low & np.uint64(0xFFFFFFFF) == _U0:
        n += 32
        low >>= np.uint64(32)
    if low & np.uint64(0xFFFF) == _U0:
        n += 16
        low >>= np.uint64(16)
    if low & np.uint64(0xFF) == _U0:
        n += 8
        low >>= np.uint64(8)
    if low & np.uint64(0xF) == _U0:
        n += 4
        low >>= np.uint64(4)
    if low & np.uint64(0x3) == _U0:
        n += 2
        low >>= np.uint64(2)
    if low & _U1 == _U0:
        n += 1
    return n
