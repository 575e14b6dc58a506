"""Where HTTP becomes typed: the services behind the API, who is calling, what the body holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
from fastapi import Depends, Header, Query, Request, Response

from campaigns.auth import Actor, authenticate
from campaigns.changes import REASON_CHARS_MAX, etag_of
from campaigns.refusals import Refusal, RefusalKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from campaigns.health import EngineWatch
    from campaigns.publish import Publisher
    from campaigns.rendering import Studio
    from campaigns.report import Recorder
    from campaigns.store import Store
    from ledger.sql import Analytics
    from market.campaign import Campaign

BODY_BYTES_MAX = 4 * 1024 * 1024
"""A campaign of the most line items and creatives with markup of usual length is below this."""


class Services(NamedTuple):
    """What the endpoints work with; made once by the process.

    Attributes:
        store: the campaign store.
        publisher: tells the controller.
        studio: renders creatives.
        recorder: what campaigns have spent and won so far.
        analytics: the store of events.
        engine: how the processes are.
        clock: epoch milliseconds of the run.
    """

    store: Store
    publisher: Publisher
    studio: Studio
    recorder: Recorder
    analytics: Analytics
    engine: EngineWatch
    clock: Callable[[], int]


def _services(request: Request) -> Services:
    return request.app.state.services


ServicesHere = Annotated[Services, Depends(_services)]


def _actor(
    services: ServicesHere,
    authorization: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Actor:
    with services.store.reading() as session:
        return authenticate(session, authorization)


ActorHere = Annotated[Actor, Depends(_actor)]


async def _json_body(request: Request) -> bytes:
    # Endpoints are plain functions on threads; only reading the body needs the event loop.
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (media_type == "application/json" or media_type.endswith("+json")):
        raise Refusal(
            RefusalKind.UNSUPPORTED_MEDIA_TYPE,
            f"Content-Type is '{media_type}'; it must be application/json",
        )
    # Counted as it comes: what is announced need not be true, and need not be announced.
    body = bytearray()
    announced = int(request.headers.get("content-length", "0"))
    if announced <= BODY_BYTES_MAX:
        async for piece in request.stream():
            body += piece
            if len(body) > BODY_BYTES_MAX:
                break
    if max(announced, len(body)) > BODY_BYTES_MAX:
        raise Refusal(
            RefusalKind.BODY_TOO_LARGE, f"the body must have at most {BODY_BYTES_MAX} bytes"
        )
    return bytes(body)


JsonBody = Annotated[bytes, Depends(_json_body)]
ValidateOnly = Annotated[
    bool, Query(description="Check everything, store nothing, and answer 200 as if it were stored.")
]
Reason = Annotated[
    str, Query(max_length=REASON_CHARS_MAX, description="Why; the change's event keeps it.")
]
IfMatch = Annotated[
    str | None,
    Header(
        alias="If-Match",
        description="The campaign's ETag: change it only if it is still that.",
    ),
]


def answer(value: object, status: int = 200, **headers: str) -> Response:
    """Returns ``value`` as a JSON response that no cache keeps; header names by underscore."""
    named = {name.replace("_", "-").title(): text for name, text in headers.items()}
    body = msgspec.json.encode(value)
    return Response(body, status, {"Cache-Control": "no-store", **named}, "application/json")


def answer_campaign(campaign: Campaign, status: int = 200, **headers: str) -> Response:
    """Returns a campaign as a JSON response with its entity tag."""
    return answer(campaign, status, etag=etag_of(campaign), **headers)
