"""Every way not to bid: its OpenRTB no-bid reason code and the request field that caused it.

Codes 0-17: OpenRTB list "No-Bid Reason Codes" (AdCOM 1.0); 500 and above are vendor-specific.
"""

from __future__ import annotations

from typing import NamedTuple

from market.decision import NoBidReason
from market.opportunity import Dimension


class Explanation(NamedTuple):
    """How a reason is told.

    Attributes:
        nbr: OpenRTB code for ``BidResponse.nbr``.
        field: the OpenRTB field that forbids the bid, "" if it is nothing the exchange said.
        text: one clause for people.
    """

    nbr: int
    field: str
    text: str


EXPLANATIONS: dict[NoBidReason, Explanation] = {
    NoBidReason.MALFORMED_REQUEST: Explanation(2, "", "the body is no OpenRTB request"),
    NoBidReason.TOO_LITTLE_TIME: Explanation(15, "tmax", "too little time to answer"),
    NoBidReason.OVERLOADED: Explanation(1, "", "this worker sheds load"),
    NoBidReason.RECORDER_BEHIND: Explanation(1, "", "the recorder does not keep up"),
    NoBidReason.UNUSABLE_IMP: Explanation(2, "imp", "the imp cannot be used"),
    NoBidReason.CONTRADICTORY_REQUEST: Explanation(2, "", "the request contradicts itself"),
    NoBidReason.PRIVACY_FORBIDS: Explanation(8, "regs", "privacy forbids it"),
    NoBidReason.NO_ACTIVE_LINE_ITEM: Explanation(500, "", "no line item is active"),
    NoBidReason.FORMAT_NOT_SERVED: Explanation(
        501, "imp.banner|video|audio|native", "no creative of an accepted format"
    ),
    NoBidReason.SEAT_NOT_ALLOWED: Explanation(502, "wseat", "no line item buys for these seats"),
    NoBidReason.SEAT_BLOCKED: Explanation(503, "bseat", "the seats are blocked"),
    NoBidReason.CATEGORY_NOT_ALLOWED: Explanation(504, "acat", "no ad category is allowed"),
    NoBidReason.CATEGORY_BLOCKED: Explanation(505, "bcat", "the ad categories are blocked"),
    NoBidReason.ADVERTISER_BLOCKED: Explanation(506, "badv", "the advertisers are blocked"),
    NoBidReason.APP_BLOCKED: Explanation(507, "bapp", "the advertised apps are blocked"),
    NoBidReason.TARGETING_DIMENSION: Explanation(508, "", "no line item targets this value"),
    NoBidReason.TARGETING_SEGMENT: Explanation(
        508, "user.data.segment.id", "no line item targets these segments"
    ),
    NoBidReason.TARGETING_CATEGORY: Explanation(
        508, "site.cat|app.cat", "no line item targets this content"
    ),
    NoBidReason.TARGETING_KEYWORD: Explanation(
        508, "site.keywords|app.keywords", "no line item targets these keywords"
    ),
    NoBidReason.DEAL_REQUIRED: Explanation(
        509, "imp.pmp.deals", "no line item holds a deal that is offered"
    ),
    NoBidReason.OUTSIDE_FLIGHT: Explanation(510, "", "outside the flight"),
    NoBidReason.NOT_ACTIVE: Explanation(500, "", "the line items are paused"),
    NoBidReason.CURRENCY_NOT_CONVERTIBLE: Explanation(
        511, "cur|imp.bidfloorcur", "no rate for this currency"
    ),
    NoBidReason.SIZE_NOT_OFFERED: Explanation(
        512, "imp.banner.w|h|format", "no creative of an accepted size"
    ),
    NoBidReason.DURATION_NOT_ACCEPTED: Explanation(
        513, "imp.video|audio.minduration|maxduration", "no creative of an accepted duration"
    ),
    NoBidReason.PROTOCOL_NOT_ACCEPTED: Explanation(
        514, "imp.video|audio.protocols", "no creative of an accepted protocol"
    ),
    NoBidReason.MEDIA_TYPE_NOT_ACCEPTED: Explanation(
        515, "imp.banner|video|audio.mimes", "no creative of an accepted media type"
    ),
    NoBidReason.ATTRIBUTE_BLOCKED: Explanation(
        516, "imp.banner|video|audio|native.battr", "the creatives' attributes are blocked"
    ),
    NoBidReason.NOT_SECURE: Explanation(517, "imp.secure", "no creative is https only"),
    NoBidReason.USER_UNKNOWN_FOR_CAP: Explanation(
        8, "user.id", "a capped line item may not meet a user it cannot count"
    ),
    NoBidReason.FREQUENCY_CAP: Explanation(9, "user.id", "the user has seen it often enough"),
    NoBidReason.BUDGET_EXHAUSTED: Explanation(518, "", "no budget left to reserve"),
    NoBidReason.BELOW_FLOOR: Explanation(519, "imp.bidfloor", "the bid is below the floor"),
}

_FIELDS_BY_DIMENSION: dict[Dimension, str] = {
    Dimension.EXCHANGE: "(exchange)",
    Dimension.COUNTRY: "device.geo.country",
    Dimension.REGION: "device.geo.region",
    Dimension.CITY: "device.geo.city",
    Dimension.DEVICE_TYPE: "device.devicetype",
    Dimension.OS: "device.os",
    Dimension.CONNECTION: "device.connectiontype",
    Dimension.LANGUAGE: "device.language",
    Dimension.INVENTORY_TYPE: "site|app|dooh",
    Dimension.INVENTORY: "site.domain|app.bundle",
    Dimension.PUBLISHER: "site.publisher.id|app.publisher.id",
    Dimension.PLACEMENT: "imp.tagid",
    Dimension.HOUR_OF_WEEK: "device.geo.utcoffset",
    Dimension.GENDER: "user.gender",
    Dimension.AGE_BAND: "user.yob",
    Dimension.CARRIER: "device.carrier",
}


def explain(reason: int, detail: int = 0) -> Explanation:
    """Returns how a decision's ``reason`` and ``detail`` are told; ``reason`` is not BID."""
    explanation = EXPLANATIONS[NoBidReason(reason)]
    if reason == NoBidReason.TARGETING_DIMENSION:
        return explanation._replace(field=_FIELDS_BY_DIMENSION[Dimension(detail)])
    return explanation
