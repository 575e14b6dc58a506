"""Problem documents: every error of the API in one shape, whoever raised it.

Source: RFC 9457. ``type`` is a stable URN that programs compare; ``errors`` names each field by
JSON pointer. What is not the caller's doing says so by its status and tells nothing of the inside.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, cast

import msgspec
from fastapi import Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from campaigns.refusals import Refusal, RefusalKind, not_found
from market.campaign import Problem
from market.errors import BadInput, Forbidden, NotReady

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI, Request

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_S = "1"
_LOG = logging.getLogger("campaigns.api")


class FieldProblem(msgspec.Struct, frozen=True):
    """One field that broke a rule.

    Attributes:
        pointer: JSON pointer (RFC 6901) into the body, "" for the whole.
        value: what was found there, as text.
        rule: what must hold.
    """

    pointer: str
    value: str
    rule: str


class ProblemDocument(msgspec.Struct, frozen=True):
    """What the body of every error holds.

    Attributes:
        type: URN of the kind of error, stable.
        title: the same sentence for every error of the kind.
        status: the HTTP status.
        detail: what happened this time.
        errors: the fields at fault, if it was fields.
    """

    type: str
    title: str
    status: int
    detail: str
    errors: tuple[FieldProblem, ...] = ()


_NOT_READY = ProblemDocument("urn:lodestone:problem:not-ready", "Not ready: retry", 503, "")
_INTERNAL = ProblemDocument(
    "urn:lodestone:problem:internal-error",
    "The control plane failed",
    500,
    "nothing is known to be wrong with the request; the operator's log says what happened",
)
_BY_STATUS = {
    404: RefusalKind.NOT_FOUND,
    405: RefusalKind.METHOD_NOT_ALLOWED,
}


def add_problem_handlers(app: FastAPI) -> None:
    """Makes every error of ``app`` a problem document."""
    for kind in (BadInput, NotReady, OperationalError, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _answer)
    app.add_exception_handler(Exception, _answer)


def _answer(_request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        kind = _BY_STATUS.get(error.status_code, RefusalKind.INVALID_REQUEST)
        return _refused(Refusal(kind, str(error.detail)), error.status_code, error.headers)
    if isinstance(error, NotReady):
        return _not_ready(str(error))
    if isinstance(error, OperationalError):
        # Locked for longer than the busy timeout, or the disk is full.
        _LOG.error("campaign store: %s", error.orig)
        return _not_ready("the campaign store cannot be used now")
    if isinstance(error, (BadInput, RequestValidationError)):
        return _refused(_refusal_of(error))
    # Starlette raises it again after this, and the server logs it with its trace.
    return _problem(_INTERNAL)


def _refusal_of(error: BadInput | RequestValidationError) -> Refusal:
    match error:
        case Refusal():
            return error
        case Forbidden():
            return Refusal(RefusalKind.FORBIDDEN, str(error))
        case BadInput():
            problem = Problem(error.pointer, "refused", str(error))
            return Refusal(RefusalKind.INVALID_REQUEST, str(error), (problem,))
        case _:
            return _parameter_refusal(error)


def _refused(
    refusal: Refusal, status: int | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    kind = refusal.kind
    extra = dict(headers or {})
    if kind is RefusalKind.UNAUTHENTICATED:
        extra["WWW-Authenticate"] = "Bearer"
    errors = tuple(FieldProblem(*problem) for problem in refusal.problems)
    status = status or kind.status
    document = ProblemDocument(kind.type_uri, kind.title, status, str(refusal), errors)
    return _problem(document, extra)


def _not_ready(detail: str) -> Response:
    document = msgspec.structs.replace(_NOT_READY, detail=detail)
    return _problem(document, {"Retry-After": _RETRY_AFTER_S})


def _parameter_refusal(error: RequestValidationError) -> Refusal:
    """Returns the refusal of parameters that FastAPI could not read."""
    faults = cast("list[dict[str, object]]", error.errors())
    places = [cast("tuple[object, ...]", fault["loc"]) for fault in faults]
    for place, fault in zip(places, faults, strict=True):
        # A path that names no number names no campaign.
        if place[0] == "path":
            return not_found(fault.get("input"))
    problems = tuple(
        Problem("", repr(fault.get("input")), f"{place[0]} '{place[-1]}': {fault['msg']}")
        for place, fault in zip(places, faults, strict=True)
    )
    return Refusal(RefusalKind.INVALID_REQUEST, "; ".join(map(str, problems)), problems)


def _problem(document: ProblemDocument, headers: Mapping[str, str] | None = None) -> Response:
    body = msgspec.json.encode(document)
    return Response(body, document.status, dict(headers or {}), MEDIA_TYPE)
