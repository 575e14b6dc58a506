"""Small bid requests: valid as they are, with fields replaced."""

from __future__ import annotations

import json


def request_of(*imps, **changes):
    imps = imps or ({},)
    made = [{"id": str(n + 1), "banner": {"w": 300, "h": 250}, **imp} for n, imp in enumerate(imps)]
    return {"id": "r1", "imp": made, "site": {"domain": "news.example"}, **changes}


def body_of(*imps, **changes):
    return json.dumps(request_of(*imps, **changes)).encode()
