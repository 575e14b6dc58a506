"""What a buyer's screen shows: every campaign with its live numbers, and how the engine is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fastapi import APIRouter, Response

from campaigns.api.edge import ActorHere, ServicesHere, answer
from campaigns.api.schema import answers, secured
from campaigns.changes import campaigns_of, line_item_ids_of
from campaigns.health import EngineHealth
from campaigns.report import CampaignNumbers, numbers_of
from market.campaign import Budget, Goal, Status
from market.errors import NotReady

if TYPE_CHECKING:
    from market.campaign import Campaign

CAMPAIGNS_MAX = 500
"""More than a screen shows; the list of campaigns has pages."""

router = APIRouter(tags=["engine"])


class CampaignSummary(msgspec.Struct, frozen=True):
    """One campaign without its line items, and its numbers if the recorder answers."""

    campaign_id: int
    name: str
    status: Status
    currency: str
    goal: Goal
    budget: Budget
    policy: str
    version: int
    line_item_count: int
    creative_count: int
    numbers: CampaignNumbers | None


class Overview(msgspec.Struct, frozen=True):
    """Campaigns and engine at one moment.

    Attributes:
        at_ms: on the clock of the run.
        campaigns: the advertiser's first CAMPAIGNS_MAX, by ascending id.
        engine: how the processes are.
        recorder_problem: why there are no numbers, "" if there are.
    """

    at_ms: int
    campaigns: tuple[CampaignSummary, ...]
    engine: EngineHealth
    recorder_problem: str


class Alive(msgspec.Struct, frozen=True):
    """That the control plane answers."""

    status: str = "ok"


TYPES: tuple[type, ...] = (Overview, Alive)
"""What bodies hold, for the OpenAPI document."""


@router.get(
    "/api/v1/overview",
    summary="Read everything a screen shows",
    responses=answers(200, Overview),
    openapi_extra=secured(),
)
def overview(services: ServicesHere, actor: ActorHere) -> Response:
    """Returns the advertiser's campaigns with live numbers, and the engine's health."""
    with services.store.reading() as session:
        campaigns = campaigns_of(session, actor, 0, CAMPAIGNS_MAX)
        line_item_ids = line_item_ids_of(session, campaigns)
    view, problem = None, ""
    try:
        view = services.recorder.view()
    except NotReady as error:
        # The screen shows what is known, and why the rest is not.
        problem = str(error)
    numbers = [
        None if view is None else numbers_of(each, line_item_ids[each.campaign_id], view)
        for each in campaigns
    ]
    return answer(
        Overview(
            at_ms=services.clock(),
            campaigns=tuple(map(_summary, campaigns, numbers)),
            engine=services.engine.health(services.publisher.version),
            recorder_problem=problem,
        )
    )


@router.get("/healthz", summary="Is the control plane up", responses=answers(200, Alive))
def healthz() -> Response:
    """Answers once the store is open and intent is published; needs no key and tells nothing."""
    return answer(Alive())


def _summary(campaign: Campaign, numbers: CampaignNumbers | None) -> CampaignSummary:
    return CampaignSummary(
        campaign_id=campaign.campaign_id,
        name=campaign.name,
        status=campaign.status,
        currency=campaign.currency,
        goal=campaign.goal,
        budget=campaign.budget,
        policy=campaign.policy,
        version=campaign.version,
        line_item_count=len(campaign.line_items),
        creative_count=sum(len(item.creatives) for item in campaign.line_items),
        numbers=numbers,
    )
