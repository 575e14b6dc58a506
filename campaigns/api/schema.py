"""What OpenAPI says of bodies: the msgspec types themselves, not copies of them.

FastAPI writes the document; it knows pydantic models only. So an endpoint names the msgspec type of
its body and answer by reference, and ``openapi_of`` puts the schemas that msgspec derives from the
types (docstrings included) into the components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from fastapi.openapi.utils import get_openapi

from campaigns.api.problem import MEDIA_TYPE, ProblemDocument
from campaigns.refusals import RefusalKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fastapi import FastAPI

JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
_TEMPLATE = "#/components/schemas/{name}"
_SECURITY = "apiKey"


def body_of(into: type, *media_types: str) -> dict[str, Any]:
    """Returns ``openapi_extra`` of an endpoint whose body is read into ``into``."""
    content = {media_type: {"schema": _reference(into)} for media_type in media_types}
    return {"requestBody": {"required": True, "content": content}, **secured()}


def secured() -> dict[str, Any]:
    """Returns ``openapi_extra`` of an endpoint that needs a key."""
    return {"security": [{_SECURITY: []}]}


def answers(
    status: int, answer: type, *refusals: RefusalKind, not_ready: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Returns ``responses`` of an endpoint: what it answers, and each way in which it refuses."""
    problem = {MEDIA_TYPE: {"schema": _reference(ProblemDocument)}}
    found: dict[int | str, dict[str, Any]] = {
        status: {"description": "OK", "content": {JSON: {"schema": _reference(answer)}}}
    }
    kinds = (RefusalKind.UNAUTHENTICATED, RefusalKind.INVALID_REQUEST, *refusals)
    for kind in kinds:
        found.setdefault(kind.status, {"description": kind.title, "content": problem})
    if not_ready:
        found[503] = {"description": "Not ready: retry", "content": problem}
    return found


def openapi_of(app: FastAPI, types: Iterable[type]) -> dict[str, Any]:
    """Returns the OpenAPI document of ``app`` with the schemas of ``types`` and what they hold."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    every = (*types, ProblemDocument)
    _, components = msgspec.json.schema_components(every, ref_template=_TEMPLATE)
    parts = document.setdefault("components", {})
    parts.setdefault("schemas", {}).update(components)
    parts["securitySchemes"] = {
        _SECURITY: {
            "type": "http",
            "scheme": "bearer",
            "description": "An API key, `<key id>.<secret>`; it belongs to one advertiser.",
        }
    }
    return document


def _reference(into: type) -> dict[str, str]:
    return {"$ref": _TEMPLATE.format(name=into.__name__)}
