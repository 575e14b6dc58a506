"""Where the rooms meet: the frozen types and protocols on the arrows between them.

The twin meets a bidder as a ``BidAgent`` (arrays in process, OpenRTB over HTTP), so that any agent
can be put into it; what an exchange tells a bidder afterwards is a ``Notice``; what learning reads
is a ``ResponseLog``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from market.events import EventKind
    from market.opportunity import Opportunities


class Notice(NamedTuple):
    """What became of a bid, said once by the exchange (or, conversions, by the advertiser's page).

    Attributes:
        kind: WIN, BILLING, LOSS, IMPRESSION, CLICK or CONVERSION.
        bid_hi, bid_lo: the bid it speaks of.
        at_ms: when it was sent, on the episode clock.
        price_cpm_micros: clearing price in bid currency; for LOSS the least price that would have
            won, 0 if not told; 0 for CLICK and CONVERSION.
        reason: OpenRTB loss reason code of a LOSS, else 0.
        order_id: of a CONVERSION, else "".
        value_micros: of a CONVERSION, in account currency; else 0.
        min_to_win_cpm_micros: of a WIN, the least price that would have won; 0 if not told.
        multiplier_micros: impressions won with the bid times 10^6 (digital out of home); 0 if not
            told, and then it is what was bid on.
        shown_ms: when the impression was shown; 0 if not told.
        is_contradictory: it names another currency or ad than the bid, or more impressions.
        unread_count: what it told besides and cannot be read; none of it moves money.
    """

    kind: EventKind
    bid_hi: int
    bid_lo: int
    at_ms: int
    price_cpm_micros: int = 0
    reason: int = 0
    order_id: str = ""
    value_micros: int = 0
    min_to_win_cpm_micros: int = 0
    multiplier_micros: int = 0
    shown_ms: int = 0
    is_contradictory: bool = False
    unread_count: int = 0


class BidAgent(Protocol):
    """Anything that can be put into the twin: the bidder itself, a baseline, a learner.

    The twin runs in slices of the episode clock. In each slice it hands over the opportunities in
    order of arrival, then the notices that fell due, then tells the time; an agent may only learn
    from notices, never look at the auction.
    """

    def decide(self, opportunities: Opportunities) -> npt.NDArray[np.void]:
        """Returns [N] of ``market.decision.DECISION_DTYPE``, one per opportunity, same order."""
        ...

    def notice(self, notices: tuple[Notice, ...]) -> None:
        """Takes the notices of a slice, in the order in which they were delivered."""
        ...

    def advance(self, now_ms: int) -> None:
        """Takes the new time: reservations expire, leases are topped up, policies tick."""
        ...


class ResponseLog(NamedTuple):
    """What a recommendation model learns from: one row per impression, in order of time.

    Shapes: F = market.events.FEATURE_COUNT, A = len(market.campaign.AD_FIELDS).

    Attributes:
        features: [N, F] uint32 rows of the context table (``market.kernels.context_features``).
        ad_features: [N, A] uint32 rows of the ad table (``market.features.ad_features``).
        clicked: [N] uint8.
        converted: [N] uint8, 1 only where clicked.
        ts_ms: [N] int64, not decreasing.
        weight: [N] float32, how many rows like it this one stands for.
    """

    features: npt.NDArray[np.uint32]
    ad_features: npt.NDArray[np.uint32]
    clicked: npt.NDArray[np.uint8]
    converted: npt.NDArray[np.uint8]
    ts_ms: npt.NDArray[np.int64]
    weight: npt.NDArray[np.float32]
