"""The campaign endpoints: create, read, change, pause, resume, and what became of it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Header, Path, Query, Response

from campaigns.api.edge import (
    ActorHere,
    IfMatch,
    JsonBody,
    Reason,
    ServicesHere,
    ValidateOnly,
    answer,
    answer_campaign,
)
from campaigns.api.schema import JSON, MERGE_PATCH, answers, body_of, secured
from campaigns.changes import (
    Change,
    Idempotency,
    campaign_of,
    campaigns_of,
    changed_campaign,
    changes_of,
    check_version,
    line_item_ids_of,
    new_campaign,
    replay_of,
    store_campaign,
    store_change,
)
from campaigns.refusals import Refusal, RefusalKind
from campaigns.rendering import NewCampaign, order_problems, with_creatives
from campaigns.report import CampaignReport, report_of
from campaigns.shape import Shaped, decode_json, merge_patch, shape
from campaigns.store import ID_MAX
from market.campaign import Campaign, Status

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import Session

    from campaigns.api.edge import Services
    from campaigns.auth import Actor
    from campaigns.store import ChangeEvent

PAGE_MAX = 500

router = APIRouter(prefix="/api/v1/campaigns", tags=["campaigns"])

CampaignId = Annotated[int, Path(ge=1, le=ID_MAX)]
_CHANGE_REFUSALS = (
    RefusalKind.MALFORMED_JSON,
    RefusalKind.FORBIDDEN,
    RefusalKind.BODY_TOO_LARGE,
    RefusalKind.UNSUPPORTED_MEDIA_TYPE,
    RefusalKind.INVALID_CAMPAIGN,
)
_STATUS_REFUSALS = (
    RefusalKind.FORBIDDEN, RefusalKind.NOT_FOUND, RefusalKind.VERSION_MISMATCH,
)  # fmt: skip


class CampaignPage(msgspec.Struct, frozen=True):
    """Some of an advertiser's campaigns.

    Attributes:
        campaigns: by ascending id.
        next_after: what to pass as ``after`` for the next page; null on the last.
    """

    campaigns: tuple[Campaign, ...]
    next_after: int | None


class ChangeActor(msgspec.Struct, frozen=True):
    """Who made a change: ``kind`` is api_key, system or engine, ``id`` names which."""

    kind: str
    id: str


class CampaignChange(msgspec.Struct, frozen=True):
    """One change of a campaign: who, what, from what to what, and why.

    Attributes:
        change_id: ascending over all campaigns.
        at_ms: when, on the clock of the run.
        actor: who.
        action: create, update, pause or resume.
        version: of the campaign after it.
        before: the campaign as it was, null when it was created.
        after: the campaign as it became.
        reason: why, in the words of whoever asked.
    """

    change_id: int
    at_ms: int
    actor: ChangeActor
    action: str
    version: int
    before: Campaign | None
    after: Campaign
    reason: str


class ChangePage(msgspec.Struct, frozen=True):
    """Some changes of one campaign, oldest first.

    Attributes:
        changes: by ascending id.
        next_after: what to pass as ``after`` for the next page; null on the last.
    """

    changes: tuple[CampaignChange, ...]
    next_after: int | None


TYPES: tuple[type, ...] = (NewCampaign, CampaignPage, ChangePage, CampaignReport)
"""What bodies hold, for the OpenAPI document."""


@router.post(
    "",
    status_code=201,
    summary="Create a campaign",
    responses=answers(201, Campaign, *_CHANGE_REFUSALS, not_ready=True),
    openapi_extra=body_of(NewCampaign, JSON),
)
def create(
    services: ServicesHere,
    actor: ActorHere,
    body: JsonBody,
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=255,
            description="Repeating a create with the same key and body creates nothing new.",
        ),
    ] = None,
    validate_only: ValidateOnly = False,
    reason: Reason = "",
) -> Response:
    """Stores a campaign, renders the creatives it orders, and publishes it to the engine."""
    idempotency = None
    if idempotency_key is not None:
        idempotency = Idempotency(idempotency_key, hashlib.sha256(body).hexdigest())
        with services.store.reading() as session:
            replay = replay_of(session, actor, idempotency)
        if replay is not None:
            services.publisher.publish()
            return _created(replay)
    campaign = _asked(services, actor, shape(decode_json(body), NewCampaign), validate_only)
    if validate_only:
        return answer_campaign(campaign)
    change = Change("create", reason or "created through the API", services.clock())
    with services.store.writing() as session:
        # While creatives were rendered, the same request may have come a second time.
        replay = None if idempotency is None else replay_of(session, actor, idempotency)
        created = replay or store_campaign(session, actor, campaign, change, idempotency)
    services.publisher.publish()
    return _created(created)


@router.get(
    "",
    summary="List campaigns",
    responses=answers(200, CampaignPage),
    openapi_extra=secured(),
)
def list_campaigns(
    services: ServicesHere,
    actor: ActorHere,
    after: Annotated[int, Query(ge=0, le=ID_MAX)] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> Response:
    """Returns the advertiser's campaigns, page by page."""
    with services.store.reading() as session:
        found = campaigns_of(session, actor, after, limit + 1)
    page = found[:limit]
    return answer(CampaignPage(page, page[-1].campaign_id if len(found) > limit else None))


@router.get(
    "/{campaign_id}",
    summary="Read a campaign",
    responses=answers(200, Campaign, RefusalKind.NOT_FOUND),
    openapi_extra=secured(),
)
def read(services: ServicesHere, actor: ActorHere, campaign_id: CampaignId) -> Response:
    """Returns one campaign; its ETag is what a change needs as If-Match."""
    with services.store.reading() as session:
        campaign = campaign_of(session, actor, campaign_id)
    return answer_campaign(campaign)


@router.patch(
    "/{campaign_id}",
    summary="Change a campaign",
    responses=answers(
        200, Campaign, RefusalKind.NOT_FOUND, RefusalKind.VERSION_MISMATCH,
        RefusalKind.VERSION_REQUIRED, *_CHANGE_REFUSALS, not_ready=True,
    ),
    openapi_extra=body_of(Campaign, MERGE_PATCH, JSON),
)  # fmt: skip
def update(
    services: ServicesHere,
    actor: ActorHere,
    campaign_id: CampaignId,
    body: JsonBody,
    if_match: IfMatch = None,
    validate_only: ValidateOnly = False,
    reason: Reason = "",
) -> Response:
    """Applies a JSON merge patch (RFC 7396): fields given are replaced, null restores a default.

    Lists are replaced whole. A line item or creative that carries its id stays the same one; one
    without an id is new; one that is left out ends.
    """
    with _changing(services, validate_only) as session:
        current = campaign_of(session, actor, campaign_id)
        if if_match is None:
            raise Refusal(
                RefusalKind.VERSION_REQUIRED,
                f"campaign {campaign_id}: send the ETag you read as If-Match, so that nobody "
                "else's change is lost",
            )
        check_version(current, if_match)
        patched = merge_patch(decode_json(msgspec.json.encode(current)), decode_json(body))
        edited = changed_campaign(actor, current, shape(patched, Campaign))
        if not validate_only:
            change = Change("update", reason or "changed through the API", services.clock())
            edited = store_change(session, actor, current, edited, change)
    return _changed(services, edited, validate_only)


@router.post(
    "/{campaign_id}:pause",
    summary="Pause a campaign",
    responses=answers(200, Campaign, *_STATUS_REFUSALS, not_ready=True),
    openapi_extra=secured(),
)
def pause(
    services: ServicesHere,
    actor: ActorHere,
    campaign_id: CampaignId,
    if_match: IfMatch = None,
    validate_only: ValidateOnly = False,
    reason: Reason = "",
) -> Response:
    """Stops the campaign's bids within a second; pausing a paused campaign changes nothing."""
    change = Change("pause", reason or "paused through the API", services.clock())
    return _set_status(services, actor, campaign_id, Status.PAUSED, change, if_match, validate_only)


@router.post(
    "/{campaign_id}:resume",
    summary="Resume a campaign",
    responses=answers(200, Campaign, *_STATUS_REFUSALS, not_ready=True),
    openapi_extra=secured(),
)
def resume(
    services: ServicesHere,
    actor: ActorHere,
    campaign_id: CampaignId,
    if_match: IfMatch = None,
    validate_only: ValidateOnly = False,
    reason: Reason = "",
) -> Response:
    """Lets the campaign bid again; resuming an active campaign changes nothing."""
    change = Change("resume", reason or "resumed through the API", services.clock())
    return _set_status(services, actor, campaign_id, Status.ACTIVE, change, if_match, validate_only)


@router.get(
    "/{campaign_id}/changes",
    summary="List what was changed",
    responses=answers(200, ChangePage, RefusalKind.NOT_FOUND),
    openapi_extra=secured(),
)
def list_changes(
    services: ServicesHere,
    actor: ActorHere,
    campaign_id: CampaignId,
    after: Annotated[int, Query(ge=0, le=2**62)] = 0,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> Response:
    """Returns what was changed in one campaign, oldest first, page by page."""
    with services.store.reading() as session:
        events = changes_of(session, actor, campaign_id, after, limit + 1)
        changes = tuple(map(_change, events))
    page = changes[:limit]
    return answer(ChangePage(page, page[-1].change_id if len(changes) > limit else None))


@router.get(
    "/{campaign_id}/report",
    summary="Read live numbers",
    responses=answers(200, CampaignReport, RefusalKind.NOT_FOUND, not_ready=True),
    openapi_extra=secured(),
)
def report(services: ServicesHere, actor: ActorHere, campaign_id: CampaignId) -> Response:
    """Returns what the campaign has spent and won up to now, as the ledger has it."""
    with services.store.reading() as session:
        campaign = campaign_of(session, actor, campaign_id)
        line_item_ids = line_item_ids_of(session, [campaign])[campaign_id]
    return answer(report_of(campaign, line_item_ids, services.recorder.view()))


def _asked(services: Services, actor: Actor, read: Shaped[NewCampaign], is_trial: bool) -> Campaign:
    """Returns the campaign of a create, checked, with the creatives it orders."""
    new, misfits = read
    broken = order_problems(new)
    campaign = new_campaign(actor, Shaped(with_creatives(new, ()), misfits), broken)
    if new.creatives is None:
        return campaign
    creatives = services.studio.render(new.creatives, is_kept=not is_trial)
    return new_campaign(actor, Shaped(with_creatives(new, creatives), ()))


def _change(event: ChangeEvent) -> CampaignChange:
    return CampaignChange(
        change_id=event.change_id,
        at_ms=event.at_ms,
        actor=ChangeActor(event.actor_kind, event.actor),
        action=event.action,
        version=event.version,
        before=event.before,
        after=event.after,
        reason=event.reason,
    )


def _created(campaign: Campaign) -> Response:
    location = f"{router.prefix}/{campaign.campaign_id}"
    return answer_campaign(campaign, 201, location=location)


def _set_status(
    services: Services,
    actor: Actor,
    campaign_id: int,
    status: Status,
    change: Change,
    if_match: str | None,
    is_trial: bool,
) -> Response:
    with _changing(services, is_trial) as session:
        current = campaign_of(session, actor, campaign_id)
        check_version(current, if_match)
        asked = msgspec.structs.replace(current, status=status)
        edited = changed_campaign(actor, current, Shaped(asked, ()))
        if not is_trial:
            edited = store_change(session, actor, current, edited, change)
    return _changed(services, edited, is_trial)


def _changing(services: Services, is_trial: bool) -> AbstractContextManager[Session]:
    return services.store.reading() if is_trial else services.store.writing()


def _changed(services: Services, campaign: Campaign, is_trial: bool) -> Response:
    if not is_trial:
        services.publisher.publish()
    return answer_campaign(campaign)
