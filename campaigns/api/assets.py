"""Rendered creatives for browsers: public, named by the hash of their bytes, never changing."""

from __future__ import annotations

from fastapi import APIRouter, Response

from campaigns.api.edge import ServicesHere
from campaigns.refusals import Refusal, RefusalKind
from market.errors import BadInput

router = APIRouter(tags=["assets"])


@router.get(
    "/assets/{sha256}",
    summary="Read a rendered creative",
    response_class=Response,
    responses={
        200: {"description": "The image", "content": {"image/jpeg": {}, "image/png": {}}},
        404: {"description": RefusalKind.NOT_FOUND.title},
    },
)
def image(services: ServicesHere, sha256: str) -> Response:
    """Returns an image by its SHA-256, 64 hexadecimal digits; any cache may keep it for a year."""
    try:
        data, media_type = services.studio.image(sha256)
    except BadInput as error:
        raise Refusal(RefusalKind.NOT_FOUND, str(error)) from error
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable",
        "ETag": f'"{sha256}"',
        # What was rendered here is an image whatever a browser thinks to see in it, and any page
        # may show it.
        "X-Content-Type-Options": "nosniff",
        "Cross-Origin-Resource-Policy": "cross-origin",
    }
    return Response(data, 200, headers, media_type)
