"""The decision as machine code: match, evaluate what matched, choose, commit.

One function, ``decide_block``, serves the HTTP bidder (one opportunity) and the twin (blocks): the
state is updated after every opportunity, so blocks of 1, 7 and 4,096 give the same answers. Its
steps lie beside it: ``kernels_match``, ``kernels_cap``, ``kernels_creative``, ``kernels_bid``;
orchestration and types live in ``bidder.decide``.

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

from bidder.kernels_bound import take_context
from bidder.kernels_bundle import Kind, opened
from bidder.kernels_cap import cap_add, cap_counter_key
from bidder.kernels_creative import choice_propensity
from bidder.kernels_match import look_up
from bidder.kernels_search import find_reason, search
from bidder.recommendation.kernels import context_side
from market.chance import Purpose
from market.decision import NoBidReason
from market.events import BUDGETS_PER_LINE_ITEM, CAPS_PER_LINE_ITEM, EventFlag, EventKind
from market.features import CONTEXT_BUCKETS, CONTEXT_DIMENSIONS
from market.kernel import bare_kernel as kernel
from market.kernels import (
    at_opportunity,
    context_features,
    hash_pair,
    stream,
    uniform,
)
from market.opportunity import CodeList

if TYPE_CHECKING:
    import numpy.typing as npt


Record: TypeAlias = Any
"""One record of a structured array (``np.void``): numpy's stubs take its fields for arrays."""

_CONTEXT = np.array([int(d) for d in CONTEXT_DIMENSIONS], np.int64)
_U0 = np.uint64(0)
_TEST = int(EventFlag.TEST)
_BID = int(EventKind.BID)
_NO_BID = int(EventKind.NO_BID)
_NO_BID_SAMPLE = int(Purpose.NO_BID_SAMPLE)
_SEGMENT = int(CodeList.SEGMENT)

R_NO_ACTIVE = int(NoBidReason.NO_ACTIVE_LINE_ITEM)


@kernel
def _copy(source: npt.NDArray[np.uint64], target: npt.NDArray[np.uint64]) -> None:
    """Copies element by element: a slice assignment would allocate."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@kernel
def is_among(keys: npt.NDArray[np.uint64], count: int, key: np.uint64) -> bool:
    """Returns whether ``key`` is one of the first ``count`` of ``keys``."""
    is_found = False
    for k in range(count):
        is_found = is_found or keys[k] == key
    return is_found


@kernel
def commit(address: int, kind: Kind, opportunity: Record, worker: int, offer: Record) -> None:
    """Takes the reservation and the cap counts of ``offer`` out of the state; names the bid."""
    arrays, _, state, _, _ = opened(address, kind)
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
    address: int,
    kind: Kind,
    records: npt.NDArray[np.void],
    codes: npt.NDArray[np.uint64],
    deals: npt.NDArray[np.void],
    worker: int,
    seed: int,
    sample_rate: float,
    decisions: npt.NDArray[np.void],
    events: npt.NDArray[np.void],
) -> None:
    """Decides records[N] in order of arrival; fills decisions[N] and events[N].

    address, kind: of a bundle of (arrays, live, state, work, versions); work is scratch of
    ``bidder.work.new_work``, its bounds refreshed after the last change of the live arrays. An
    event of kind 0 is none: a no-bid that was not sampled. State is updated in place after every
    opportunity.
    """
    arrays, _, state, work, versions = opened(address, kind)
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
            context_side(
                work.features, arrays.context_vectors, arrays.context_bias, work.vector, work.bias
            )
            take_context(arrays, work)
            look_up(address, kind, opportunity, codes, deals, True)
            search(address, kind, opportunity, codes, deals, worker, seed)
            if best[0]["line_item_row"] < 0:
                reason, detail = find_reason(address, kind, opportunity, codes, deals, worker, seed)
        decision = decisions[n]
        event = events[n]
        event["kind"] = 0
        if best[0]["line_item_row"] >= 0:
            best[0]["reason"] = 0
            best[0]["detail"] = 0
            best[0]["caps"][:] = _U0
            _copy(work.features, best[0]["features"])
            best[0]["propensity"] = 1.0
            if arrays.line_items[best[0]["line_item_row"]]["creative_count"] > 1:
                best[0]["propensity"] = choice_propensity(
                    address, kind, opportunity, worker, best[0], seed
                )
            commit(address, kind, opportunity, worker, best[0])
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
