"""Every way not to bid: its OpenRTB no-bid reason code and the request field that caused it.

Codes 0-17: OpenRTB list "No-Bid Reason Codes" (AdCOM 1.0); 500 and above are vendor-specific.
"""

from __future__ import annotations

from typing import NamedTuple

from market.decision import LIST_DETAIL, NoBidReason
from market.opportunity import CodeList, Dimension


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
    NoBidReason.THROTTLED: Explanation(1, "", "this exchange sends more than its rate"),
    NoBidReason.NOT_READY: Explanation(1, "", "the worker has no snapshot yet"),
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
        512, "imp.banner.w|h|format, imp.video.boxingallowed", "no creative of an accepted size"
    ),
    NoBidReason.DURATION_NOT_ACCEPTED: Explanation(
        513,
        "imp.video|audio.minduration|maxduration|rqddurs|poddur",
        "no creative of an accepted duration",
    ),
    NoBidReason.PROTOCOL_NOT_ACCEPTED: Explanation(
        514, "imp.video|audio.protocols", "no creative of an accepted protocol"
    ),
    NoBidReason.MEDIA_TYPE_NOT_ACCEPTED: Explanation(
        515, "imp.banner|video|audio.mimes", "no creative of an accepted media type"
    ),
    NoBidReason.ATTRIBUTE_BLOCKED: Explanation(
        516,
        "imp.banner|video|audio|native.battr, imp.video.skip",
        "the creatives' attributes are blocked",
    ),
    NoBidReason.NOT_SECURE: Explanation(517, "imp.secure", "no creative is https only"),
    NoBidReason.USER_UNKNOWN_FOR_CAP: Explanation(
        8, "user.id", "a capped line item may not meet a user it cannot count"
    ),
    NoBidReason.FREQUENCY_CAP: Explanation(9, "user.id", "the user has seen it often enough"),
    NoBidReason.BUDGET_EXHAUSTED: Explanation(518, "", "no budget left to reserve"),
    NoBidReason.BELOW_FLOOR: Explanation(519, "imp.bidfloor", "the bid is below the floor"),
    NoBidReason.CATEGORY_TAXONOMY: Explanation(
        505, "cattax", "no ad says its category in the taxonomy of the block list"
    ),
    NoBidReason.LANGUAGE_NOT_ALLOWED: Explanation(
        527, "wlang|wlangb", "no creative is in an allowed language"
    ),
    NoBidReason.TARGETING_AREA: Explanation(
        508, "device.geo.lat|lon", "no line item's area is known to hold the device"
    ),
    NoBidReason.TARGETING_OS_VERSION: Explanation(
        508, "device.osv", "no line item targets this version"
    ),
    NoBidReason.TARGETING_VIEWABILITY: Explanation(
        508, "imp.metric", "too few of the imp's ads are seen"
    ),
    NoBidReason.AUCTION_TYPE_UNKNOWN: Explanation(
        528, "at", "the exchange never said what this auction type means"
    ),
    NoBidReason.SUPPLY_CHAIN_INCOMPLETE: Explanation(
        16, "source.schain", "the chain of sellers is not known from end to end"
    ),
    NoBidReason.SUPPLY_CHAIN_BLOCKED: Explanation(
        17, "source.schain.nodes", "a seller of the chain is blocked or contradicts its own list"
    ),
    NoBidReason.SELLERS_FILE_MISSING: Explanation(
        11, "site.domain|app.domain", "the publisher has no ads.txt"
    ),
    NoBidReason.SELLER_NOT_AUTHORISED: Explanation(
        12, "site.publisher.id|app.publisher.id", "the publisher does not authorise this seller"
    ),
    NoBidReason.API_NOT_SUPPORTED: Explanation(
        529, "imp.banner|video|audio|native.api", "the creatives need an API that is not there"
    ),
    NoBidReason.BANNER_TYPE_BLOCKED: Explanation(
        530, "imp.banner.btype", "the creatives' banner types are blocked"
    ),
    NoBidReason.EXPANSION_NOT_ALLOWED: Explanation(
        531, "imp.banner.expdir|topframe", "the creatives expand where they may not"
    ),
    NoBidReason.LINEARITY_NOT_ACCEPTED: Explanation(
        532, "imp.video.linearity", "no creative plays as the player wants it"
    ),
    NoBidReason.DELIVERY_NOT_ACCEPTED: Explanation(
        533,
        "imp.video|audio.delivery|minbitrate|maxbitrate",
        "no file is delivered this way, or of this bitrate",
    ),
    NoBidReason.SKIP_NOT_ACCEPTED: Explanation(
        534, "imp.video.skipmin|skipafter", "the creatives can be skipped too early"
    ),
    NoBidReason.NATIVE_ASSET_MISSING: Explanation(
        535, "imp.native.request.assets", "no creative has every required asset"
    ),
    NoBidReason.POD_FULL: Explanation(
        536, "imp.video|audio.poddur|maxseq", "nothing more fits into the pod"
    ),
    NoBidReason.CRAWLER: Explanation(3, "device.ua", "a known crawler"),
    NoBidReason.NON_HUMAN: Explanation(4, "device.ip|ipv6", "suspected non-human traffic"),
    NoBidReason.DATACENTRE_IP: Explanation(5, "device.ip|ipv6", "the address of a data centre"),
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
    Dimension.METRO: "device.geo.metro",
    Dimension.ZIP: "device.geo.zip",
    Dimension.MAKE: "device.make",
    Dimension.MODEL: "device.model|sua.model",
    Dimension.BROWSER: "device.sua.browsers|ua",
    Dimension.POSITION: "imp.banner|video.pos",
    Dimension.VIDEO_PLACEMENT: "imp.video.plcmt",
    Dimension.INTERSTITIAL: "imp.instl",
    Dimension.REWARDED: "imp.rwdd",
    Dimension.CONTENT_SERIES: "site|app.content.series",
    Dimension.CONTENT_LANGUAGE: "site|app.content.language",
    Dimension.LIVESTREAM: "site|app.content.livestream",
}
_FIELDS_BY_LIST: dict[CodeList, str] = {
    CodeList.USER_KEYWORD: "user.keywords|kwarray",
    CodeList.EID_SOURCE: "user.eids.source",
    CodeList.SITE: "site.domain|app.bundle",
}


def explain(reason: int, detail: int = 0) -> Explanation:
    """Returns how a decision's ``reason`` and ``detail`` are told; ``reason`` is not BID."""
    explanation = EXPLANATIONS[NoBidReason(reason)]
    if detail > LIST_DETAIL:
        return explanation._replace(field=_FIELDS_BY_LIST[CodeList(detail - LIST_DETAIL)])
    if reason == NoBidReason.TARGETING_DIMENSION:
        return explanation._replace(field=_FIELDS_BY_DIMENSION[Dimension(detail)])
    return explanation
