"""The control plane's web application: API, assets and console in one FastAPI app."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from fastapi import FastAPI

from campaigns.api import assets, campaigns, engine, reports
from campaigns.api.problem import add_problem_handlers
from campaigns.api.schema import openapi_of
from campaigns.console import page

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from campaigns.api.edge import Services

API_VERSION = "1.0"

_DESCRIPTION = """\
Campaigns of one advertiser, the one that the API key belongs to.

Money is integer micros of the campaign's currency, times are epoch milliseconds. Every error is a
problem document (RFC 9457) that names each field by JSON pointer. A change needs `If-Match` with
the ETag that was read; `validate_only=true` checks without storing.
"""


def build_app(services: Services) -> FastAPI:
    """Returns the application over these services."""
    app = FastAPI(
        title="lodestone campaign API",
        version=API_VERSION,
        description=_DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        # Their pages load scripts from elsewhere; the console needs nothing but this host.
        docs_url=None,
        redoc_url=None,
    )
    app.state.services = services
    add_problem_handlers(app)
    for router in (campaigns.router, reports.router, engine.router, assets.router, page.router):
        app.include_router(router)
    types = (*campaigns.TYPES, *reports.TYPES, *engine.TYPES)
    document: Callable[[], dict[str, Any]] = functools.cache(lambda: openapi_of(app, types))
    app.openapi = document
    return app
