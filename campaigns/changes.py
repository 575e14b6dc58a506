"""Changes of campaigns: who may make one, what it must keep, and the trace it leaves.

Every change is one transaction: the document, its version, an event with both states, and the next
version of the intent. A change that changes nothing leaves no trace. Ids are assigned here and
nowhere else; what a caller writes into a field that is not theirs is a broken rule, not ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
from sqlalchemy import select

from campaigns.auth import require_editor
from campaigns.refusals import Refusal, RefusalKind, invalid_campaign, not_found
from campaigns.shape import Shaped, judged
from campaigns.store import (
    ID_MAX,
    ChangeEvent,
    IdempotencyRecord,
    SequenceName,
    StoredCampaign,
    StoredLineItem,
    bump_intent,
    next_ids,
)
from market.campaign import Campaign, LineItem, Problem, problems_of
from policies.bidding import POLICIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from campaigns.auth import Actor

REASON_CHARS_MAX = 500
_ASSIGNED = "is assigned by the control plane: leave it out, or as it is"


class Idempotency(NamedTuple):
    """What makes a repeated create harmless.

    Attributes:
        key: chosen by the caller, unique among the advertiser's creates.
        request_sha256: of the request; the same key with another request is refused.
    """

    key: str
    request_sha256: str


class Change(NamedTuple):
    """Why a campaign is changed, as its event will tell.

    Attributes:
        action: create, update, pause or resume.
        reason: in the words of whoever asked for it.
        at_ms: on the clock of the run.
    """

    action: str
    reason: str
    at_ms: int


def campaign_of(session: Session, actor: Actor, campaign_id: int) -> Campaign:
    """Returns a campaign of the actor's advertiser.

    Raises:
        Refusal: NOT_FOUND; the same for no campaign and for another advertiser's.
    """
    return _row_of(session, actor, campaign_id).document


def campaigns_of(session: Session, actor: Actor, after: int, limit: int) -> tuple[Campaign, ...]:
    """Returns up to ``limit`` campaigns of the actor's advertiser with ids above ``after``."""
    rows = session.execute(
        select(StoredCampaign.document)
        .where(
            StoredCampaign.advertiser_id == actor.advertiser_id,
            StoredCampaign.campaign_id > after,
        )
        .order_by(StoredCampaign.campaign_id)
        .limit(limit)
    )
    return tuple(rows.scalars())


def changes_of(
    session: Session, actor: Actor, campaign_id: int, after: int, limit: int
) -> tuple[ChangeEvent, ...]:
    """Returns up to ``limit`` changes of a campaign with ids above ``after``, oldest first.

    Raises:
        Refusal: as ``campaign_of``.
    """
    _row_of(session, actor, campaign_id)
    rows = session.execute(
        select(ChangeEvent)
        .where(ChangeEvent.campaign_id == campaign_id, ChangeEvent.change_id > after)
        .order_by(ChangeEvent.change_id)
        .limit(limit)
    )
    return tuple(rows.scalars())


def line_item_ids_of(session: Session, campaigns: Sequence[Campaign]) -> dict[int, set[int]]:
    """Returns, by campaign id, the ids of all line items the campaigns have or ever had."""
    found: dict[int, set[int]] = {campaign.campaign_id: set() for campaign in campaigns}
    rows = session.execute(
        select(StoredLineItem.campaign_id, StoredLineItem.line_item_id).where(
            StoredLineItem.campaign_id.in_(found)
        )
    )
    for campaign_id, line_item_id in rows:
        found[campaign_id].add(line_item_id)
    return found


def replay_of(session: Session, actor: Actor, idempotency: Idempotency) -> Campaign | None:
    """Returns what was answered to this create before, None if it is new.

    Raises:
        Refusal: IDEMPOTENCY_KEY_REUSED, the key was used for another request.
    """
    record = session.get(IdempotencyRecord, (actor.advertiser_id, idempotency.key))
    if record is None:
        return None
    if record.request_sha256 != idempotency.request_sha256:
        raise Refusal(
            RefusalKind.IDEMPOTENCY_KEY_REUSED,
            f"Idempotency-Key '{idempotency.key}': it was used for a request with another body; "
            "choose a new one",
        )
    return record.response


def new_campaign(
    actor: Actor, read: Shaped[Campaign], broken: tuple[Problem, ...] = ()
) -> Campaign:
    """Returns the campaign that a create asks for, checked, without ids.

    Args:
        actor: who asks.
        read: the campaign as its body was read.
        broken: rules that the rest of the body breaks.

    Raises:
        Refusal: FORBIDDEN, or INVALID_CAMPAIGN with every broken rule.
    """
    require_editor(actor)
    asked = read.value
    current = Campaign(
        name="", currency="", time_zone="", goal=asked.goal, budget=asked.budget,
        advertiser_domain="", advertiser_id=actor.advertiser_id,
    )  # fmt: skip
    _check(read, current, broken)
    return msgspec.structs.replace(
        asked, campaign_id=0, advertiser_id=actor.advertiser_id, version=1
    )


def store_campaign(
    session: Session,
    actor: Actor,
    campaign: Campaign,
    change: Change,
    idempotency: Idempotency | None,
) -> Campaign:
    """Stores what ``new_campaign`` returned and returns it with its ids."""
    campaign_id = next_ids(session, SequenceName.CAMPAIGN, 1)[0]
    campaign = _with_ids(session, msgspec.structs.replace(campaign, campaign_id=campaign_id))
    row = StoredCampaign(
        campaign_id=campaign_id, advertiser_id=actor.advertiser_id, created_at_ms=change.at_ms
    )
    session.add(_filled(row, campaign, change.at_ms))
    session.flush()
    _keep_line_items(session, None, campaign)
    _trace(session, actor, None, campaign, change)
    if idempotency is not None:
        session.add(
            IdempotencyRecord(
                advertiser_id=actor.advertiser_id,
                idempotency_key=idempotency.key,
                request_sha256=idempotency.request_sha256,
                response=campaign,
            )
        )
    return campaign


def changed_campaign(actor: Actor, current: Campaign, read: Shaped[Campaign]) -> Campaign:
    """Returns the campaign that a change of ``current`` asks for, checked, its version one higher.

    The same object comes back if nothing changes. New line items and creatives have no ids yet.

    Raises:
        Refusal: FORBIDDEN, or INVALID_CAMPAIGN with every broken rule.
    """
    require_editor(actor)
    _check(read, current)
    same = msgspec.structs.replace(
        read.value,
        campaign_id=current.campaign_id,
        advertiser_id=current.advertiser_id,
        version=current.version,
    )
    if same == current:
        return current
    return msgspec.structs.replace(same, version=current.version + 1)


def store_change(
    session: Session, actor: Actor, current: Campaign, edited: Campaign, change: Change
) -> Campaign:
    """Stores what ``changed_campaign`` returned and returns it with its ids."""
    if edited is current:
        return current
    edited = _with_ids(session, edited)
    row = _row_of(session, actor, current.campaign_id)
    assert row.version == current.version, "the row was read in this transaction"
    _filled(row, edited, change.at_ms)
    _keep_line_items(session, current, edited)
    _trace(session, actor, current, edited, change)
    return edited


def check_version(campaign: Campaign, if_match: str | None) -> None:
    """Returns if an ``If-Match`` header names the campaign's version, or is absent.

    Source: RFC 9110 section 13.1.1; a weak tag never matches.

    Raises:
        Refusal: VERSION_MISMATCH.
    """
    if if_match is None or if_match.strip() == "*":
        return
    if etag_of(campaign) not in [tag.strip() for tag in if_match.split(",")]:
        raise Refusal(
            RefusalKind.VERSION_MISMATCH,
            f"campaign {campaign.campaign_id}: its version is {etag_of(campaign)}, "
            f"If-Match is {if_match}; read it again and repeat the change",
        )


def etag_of(campaign: Campaign) -> str:
    """Returns the entity tag of a campaign: its version, quoted."""
    return f'"{campaign.version}"'


def _row_of(session: Session, actor: Actor, campaign_id: int) -> StoredCampaign:
    # A larger number than the column holds is an error of the driver, not a miss.
    row = session.get(StoredCampaign, campaign_id) if 0 < campaign_id <= ID_MAX else None
    if row is None or row.advertiser_id != actor.advertiser_id:
        raise not_found(campaign_id)
    return row


def _filled(row: StoredCampaign, campaign: Campaign, now_ms: int) -> StoredCampaign:
    row.document = campaign
    row.version = campaign.version
    row.status = campaign.status.value
    row.changed_at_ms = now_ms
    return row


def _keep_line_items(session: Session, before: Campaign | None, after: Campaign) -> None:
    known = {item.line_item_id for item in before.line_items} if before else set[int]()
    session.add_all(
        StoredLineItem(line_item_id=item.line_item_id, campaign_id=after.campaign_id)
        for item in after.line_items
        if item.line_item_id not in known
    )


def _trace(
    session: Session, actor: Actor, before: Campaign | None, after: Campaign, change: Change
) -> None:
    session.add(
        ChangeEvent(
            campaign_id=after.campaign_id,
            advertiser_id=after.advertiser_id,
            at_ms=change.at_ms,
            actor_kind="api_key",
            actor=actor.key_id,
            action=change.action,
            version=after.version,
            before=before,
            after=after,
            reason=change.reason,
        )
    )
    bump_intent(session)


def _check(read: Shaped[Campaign], current: Campaign, broken: tuple[Problem, ...] = ()) -> None:
    asked = read.value
    rules = [*_identity_problems(asked, current), *problems_of(asked), *broken]
    if asked.policy not in POLICIES:
        rule = f"must be one of {', '.join(POLICIES)}"
        rules.append(Problem("/policy", repr(asked.policy), rule))
    problems = judged(read.problems, rules)
    if problems:
        raise invalid_campaign(problems)


def _identity_problems(asked: Campaign, current: Campaign) -> tuple[Problem, ...]:
    """Returns a problem for every id, version or currency that is not the caller's to set."""
    found: list[Problem] = []

    def assigned(pointer: str, value: int, allowed: set[int]) -> None:
        if value not in allowed:
            found.append(Problem(pointer, repr(value), _ASSIGNED))

    assigned("/campaign_id", asked.campaign_id, {0, current.campaign_id})
    assigned("/advertiser_id", asked.advertiser_id, {0, current.advertiser_id})
    assigned("/version", asked.version, {1, current.version})
    if current.currency not in ("", asked.currency):
        found.append(
            Problem(
                "/currency", repr(asked.currency),
                f"cannot change from {current.currency}: money was spent in it; "
                "create another campaign",
            )
        )  # fmt: skip
    # Each id may be named once: taking it out of the set makes a second use a broken rule.
    line_items = {item.line_item_id for item in current.line_items}
    creatives = {each.creative_id for item in current.line_items for each in item.creatives}
    for i, item in enumerate(asked.line_items):
        at = f"/line_items/{i}"
        assigned(f"{at}/line_item_id", item.line_item_id, {0, *line_items})
        line_items.discard(item.line_item_id)
        for j, creative in enumerate(item.creatives):
            pointer = f"{at}/creatives/{j}/creative_id"
            assigned(pointer, creative.creative_id, {0, *creatives})
            creatives.discard(creative.creative_id)
    return tuple(found)


def _with_ids(session: Session, campaign: Campaign) -> Campaign:
    new_items = sum(item.line_item_id == 0 for item in campaign.line_items)
    new_creatives = sum(
        creative.creative_id == 0 for item in campaign.line_items for creative in item.creatives
    )
    line_item_ids = iter(next_ids(session, SequenceName.LINE_ITEM, new_items))
    creative_ids = iter(next_ids(session, SequenceName.CREATIVE, new_creatives))

    def numbered(item: LineItem) -> LineItem:
        creatives = tuple(
            msgspec.structs.replace(each, creative_id=each.creative_id or next(creative_ids))
            for each in item.creatives
        )
        line_item_id = item.line_item_id or next(line_item_ids)
        return msgspec.structs.replace(item, line_item_id=line_item_id, creatives=creatives)

    return msgspec.structs.replace(
        campaign, line_items=tuple(numbered(item) for item in campaign.line_items)
    )
