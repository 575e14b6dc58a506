"""Reports of one advertiser: a query in, rows out, over what the analytics store has.

Whose events are read is the key's advertiser and nothing else: a query has no field for one
(``ledger.query``). What ``ledger.query.Answer`` says of the store's days is of all advertisers'
events, and is not told.
"""

from __future__ import annotations

import logging

import msgspec
from fastapi import APIRouter, Response

from campaigns.api import edge
from campaigns.api.edge import ActorHere, JsonBody, ServicesHere
from campaigns.api.schema import JSON, answers, body_of
from campaigns.refusals import Refusal, RefusalKind
from campaigns.shape import decode_json
from ledger.query import Query, Scope, answer, read_query
from ledger.sql import Cell
from market.errors import BadInput, NotReady

router = APIRouter(tags=["reports"])
_LOG = logging.getLogger("campaigns.api")


class Answer(msgspec.Struct, frozen=True):
    """The answer to a query.

    Attributes:
        columns: dimensions, then measures, in the order in which they were asked for.
        rows: numbers; a quotient by zero is null; days as ISO 8601 text.
        is_cut: there are more rows after these.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    is_cut: bool


TYPES: tuple[type, ...] = (Query, Answer)
"""What bodies hold, for the OpenAPI document."""


@router.post(
    "/api/v1/reports/query",
    summary="Ask what the advertiser's campaigns got and spent",
    responses=answers(
        200,
        Answer,
        RefusalKind.MALFORMED_JSON,
        RefusalKind.BODY_TOO_LARGE,
        RefusalKind.UNSUPPORTED_MEDIA_TYPE,
        not_ready=True,
    ),
    openapi_extra=body_of(Query, JSON),
)
def query(services: ServicesHere, actor: ActorHere, body: JsonBody) -> Response:
    """Returns the sums that the query asks for, of the events of the key's advertiser."""
    decode_json(body)  # what is no JSON at all is another refusal
    asked = read_query(body)
    try:
        found = answer(services.analytics, Scope(actor.advertiser_id), asked)
    except BadInput as error:
        if error.pointer:
            raise
        # The query is sound: the engine refused, and what it says is of its inside.
        _LOG.error("analytics store: %s", error)
        raise Refusal(
            RefusalKind.INVALID_REQUEST,
            "the store cannot answer this query; ask for fewer days, dimensions or rows",
        ) from error
    except NotReady as error:
        # It may name the engine's address, a folder, or other people's load.
        _LOG.warning("analytics store: %s", error)
        raise NotReady(
            "the analytics store cannot answer now; retry, and if that goes on, ask for fewer days "
            "or dimensions, or have the operator read the store's log and start it again"
        ) from error
    return edge.answer(Answer(found.columns, found.rows, found.is_cut))
