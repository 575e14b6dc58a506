"""Serves the console's page and its two files; everything it shows comes from the public API.

The page keeps the API key in the browser's tab. The key arrives behind ``#`` in the address, which
browsers never send, so it is in no log and in no request line.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Response

_STATIC = Path(__file__).parent / "static"
_HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}

router = APIRouter(include_in_schema=False)


@router.get("/")
def index() -> Response:
    """Returns the page."""
    return _file("index.html", "text/html; charset=utf-8")


@router.get("/console/console.js")
def script() -> Response:
    """Returns what makes the page live."""
    return _file("console.js", "text/javascript; charset=utf-8")


@router.get("/console/console.css")
def style() -> Response:
    """Returns how the page looks, light and dark."""
    return _file("console.css", "text/css; charset=utf-8")


def _file(name: str, media_type: str) -> Response:
    return Response((_STATIC / name).read_bytes(), 200, _HEADERS, media_type)
