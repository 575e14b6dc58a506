"""What ``lodestone explain`` says: types only, for people (a table) and machines (JSON)."""

from __future__ import annotations

import msgspec


class Failed(msgspec.Struct, frozen=True):
    """One rule that forbids a bid.

    Attributes:
        reason: name of the NoBidReason.
        field: of the request, "" if it is nothing the request says.
        asked: what the request says there, shortened; "" where it says nothing.
        rule: what the line item says.
    """

    reason: str
    field: str
    asked: str
    rule: str


class CreativeVerdict(msgspec.Struct, frozen=True):
    """Whether a creative can be shown in the imp, and every rule by which it cannot."""

    creative_id: int
    name: str
    obstacles: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True):
    """One line item and one imp.

    Attributes:
        line_item_id, line_item, campaign_id, campaign: who.
        is_eligible: no rule forbids the bid.
        failed: the rules that do, in the order in which they are checked.
        creatives: of the line item.
        pctr, pcvr: predicted for the creative that would be shown; None if none can be shown.
        value_micros: expected value of the impression, account currency.
        bid_cpm: what it bids, or would if the rules were lifted, in ``currency``.
        bid_usd_cpm: the same in USD, by which bids of several currencies are ranked.
        shading: bid by value, as taken off in a first-price auction.
        floor_cpm: that it has to reach, in ``currency``.
        currency: of the bid, ISO 4217.
    """

    line_item_id: int
    line_item: str
    campaign_id: int
    campaign: str
    is_eligible: bool
    failed: tuple[Failed, ...]
    creatives: tuple[CreativeVerdict, ...]
    pctr: float | None
    pcvr: float | None
    value_micros: int | None
    bid_cpm: float | None
    bid_usd_cpm: float | None
    shading: float | None
    floor_cpm: float | None
    currency: str


class ImpVerdict(msgspec.Struct, frozen=True):
    """One imp, or one deal of an imp: each gets a bid of its own or none.

    Attributes:
        imp_index: place in the request.
        imp_id: as sent.
        deal: id of the deal that is bid on, "" for the open auction.
        verdicts: every line item: those that are eligible first, the highest bid first.
    """

    imp_index: int
    imp_id: str
    deal: str
    verdicts: tuple[Verdict, ...]


class Won(msgspec.Struct, frozen=True):
    """A bid that is made."""

    imp_id: str
    deal: str
    line_item_id: int
    creative_id: int
    price_cpm: float
    currency: str


class Refused(msgspec.Struct, frozen=True):
    """Why an imp got no bid; ``imp_index`` -1: the request as a whole."""

    imp_index: int
    reason: str
    field: str
    text: str


class Explanation(msgspec.Struct, frozen=True):
    """What would be answered to a request, and why.

    Attributes:
        request_id: as sent.
        exchange: whose rules were applied.
        status: of the answer.
        snapshot_version: decided against.
        bids: that are made.
        refused: imps that get none, and the reason that is counted and told.
        imps: each line item's case, for every imp that can be used.
        notes: what is known less exactly than a worker knows it.
    """

    request_id: str
    exchange: str
    status: int
    snapshot_version: int
    bids: tuple[Won, ...]
    refused: tuple[Refused, ...]
    imps: tuple[ImpVerdict, ...]
    notes: tuple[str, ...]
