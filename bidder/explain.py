"""Why did we not bid? For every imp and line item each rule that forbids it, and what it would bid.

The decision itself stops at the first rule that fails, over all line items at once. This looks at
one line item after the other and at every rule (``bidder.explain_item``). Who won is not worked out
here: the request is answered, by the service that answers exchanges, on a copy of the state, so
nothing is reserved, counted or recorded. All imps are explained against the state before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import msgspec
import numpy as np

from bidder.decide import Decider
from bidder.explain_item import Case, RecordCase
from bidder.explanation import Explanation, ImpVerdict, Refused, Verdict, Won
from bidder.metrics import memory_metrics
from bidder.no_bid import explain
from bidder.service import BidService
from market.money import CURRENCY_NAMES
from market.openrtb_decode import decode_request
from market.state import BidState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bidder.edge import Refusal
    from market.campaign import Campaign, LineItem
    from market.exchange import ExchangeProfile


class _Kept:
    """Takes events and forgets them."""

    def free_count(self) -> int:
        return 1_000_000

    def push_raw(self, record: memoryview) -> bool:
        return len(record) > 0


def explain_request(case: Case, body: bytes, profile: ExchangeProfile, now_ms: int) -> Explanation:
    """Returns what would be answered to ``body`` and why; changes nothing.

    Raises:
        BadInput: the body is no OpenRTB request.
    """
    request = decode_request(body)
    raw = cast("dict[str, Any]", msgspec.json.decode(body, strict=False))
    arrays = case.snapshot.arrays
    money = np.array(
        [case.available_micros.get(int(key), 0) for key in arrays.budgets["budget_id"]], np.int64
    )
    decider = Decider(case.snapshot, case.live, cap_slots=case.cap_slots.copy())
    decider.state.available_micros[:] = money
    service = BidService(
        decider, case.edge, _Kept(), "", b"\0" * 32, metrics=memory_metrics((profile,))
    )
    examined = service.examine(request, profile, now_ms)
    offer = case.edge.read(request, profile, now_ms)
    items = _items_of(case)
    by_creative = {
        creative.creative_id: line_item.line_item_id
        for _, line_item, _ in items
        for creative in line_item.creatives
    }
    bids = tuple(
        Won(
            bid.impid, bid.dealid or "", by_creative.get(int(bid.crid or 0), 0),
            int(bid.crid or 0), bid.price, CURRENCY_NAMES[examined.currency],
        )
        for _, bid in examined.bids
    )  # fmt: skip
    counts = BidState(money, case.cap_slots, decider.state.no_bids)
    imps = tuple(
        ImpVerdict(
            offer.imp_indexes[n], offer.imps[n].id,
            str(offer.deals[n][0].id) if offer.deals[n] else "",
            _sorted(RecordCase(case, counts, offer, n, raw).verdicts(items)),
        )
        for n in range(len(offer.imps))
    )  # fmt: skip
    return Explanation(
        request.id, profile.name, service.conclude(examined, profile).status,
        case.snapshot.head.version, bids, tuple(map(_told, examined.refusals)), imps, case.notes,
    )  # fmt: skip


def _items_of(case: Case) -> list[tuple[Campaign, LineItem, int]]:
    """Returns the line items that the snapshot has, with their rows."""
    items = case.snapshot.arrays.line_items
    rows = {
        int(line_item_id): row
        for row, (line_item_id, is_used) in enumerate(
            zip(items["line_item_id"], items["is_used"], strict=True)
        )
        if is_used
    }
    return [
        (campaign, line_item, rows[line_item.line_item_id])
        for campaign in case.campaigns
        for line_item in campaign.line_items
        if line_item.line_item_id in rows
    ]


def _sorted(verdicts: Iterator[Verdict]) -> tuple[Verdict, ...]:
    return tuple(
        sorted(verdicts, key=lambda v: (len(v.failed), -(v.bid_usd_cpm or 0.0), v.line_item_id))
    )


def _told(refusal: Refusal) -> Refused:
    explanation = explain(refusal.reason)
    return Refused(
        refusal.imp_index, refusal.reason.name.lower(), refusal.field or explanation.field,
        explanation.text,
    )  # fmt: skip
