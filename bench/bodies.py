"""The load: real OpenRTB bodies, each request another user.

The bodies that exchanges publish (``../shared/requests``), or where that folder is not there, the
requests of the golden tests. A body keeps its shape and its dirt; what is personal to a request is
drawn anew: request id, user and device ids, and the IP address.
"""

from __future__ import annotations

import gzip
import json
import random
import time
from pathlib import Path
from typing import Any, NamedTuple

from bidder.catalogue import read_catalogue
from bidder.replay import Replay
from market.errors import BadInput
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb_decode import decode_request

_ROOT = Path(__file__).resolve().parents[1]
_REAL = _ROOT.parent / "shared" / "requests"
_GOLDEN = _ROOT / "tests" / "golden" / "bid"


class Template(NamedTuple):
    """One body to vary: the file's name and its parsed JSON."""

    name: str
    document: dict[str, Any]


def templates() -> tuple[tuple[Template, ...], str]:
    """Returns the bodies that can be bid on, and where they come from, for the report.

    A body on which the catalogue that ships does not bid either (it contradicts itself, or accepts
    nothing that is sold) is left out: it would make the load cheaper than it is.
    """
    found, source = _found()
    now_ms = time.time_ns() // 1_000_000
    replay = Replay(read_catalogue(), DEFAULT_EXCHANGES[0], now_ms)
    kept = tuple(
        template
        for template in found
        if replay.run(template.name, json.dumps(template.document).encode(), now_ms).bids
    )
    return kept, f"{len(kept)} of {len(found)} {source}"


def _found() -> tuple[tuple[Template, ...], str]:
    if (_REAL / "manifest.json").exists():
        return _real_templates(), "real bodies"
    found = [
        Template(path.stem, case["request"])
        for path in sorted((_GOLDEN / "exemplary").glob("*.json"))
        if isinstance((case := json.loads(path.read_text())).get("request"), dict)
    ]
    return tuple(found), "requests of the golden tests (../shared/requests is not there)"


def _real_templates() -> tuple[Template, ...]:
    found: list[Template] = []
    for entry in json.loads((_REAL / "manifest.json").read_text()):
        if not entry["parses"] or entry["kind"].startswith("invalid"):
            continue
        content = (_REAL / entry["file"]).read_bytes()
        if entry["file"].endswith(".gz"):
            content = gzip.decompress(content)
        try:
            decode_request(content)
        except BadInput:
            continue
        found.append(Template(entry["file"], json.loads(content)))
    return tuple(found)


def bodies(found: tuple[Template, ...], count: int, user_count: int, seed: int) -> list[bytes]:
    """Returns ``count`` bodies in random order, of ``user_count`` users."""
    chosen = random.Random(seed)
    made = [_varied(found[n % len(found)], chosen, user_count, n) for n in range(count)]
    chosen.shuffle(made)
    return made


def _varied(template: Template, chosen: random.Random, user_count: int, number: int) -> bytes:
    document = dict(template.document)
    user = chosen.randrange(user_count)
    if isinstance(document.get("id"), str):
        document["id"] = f"{number:08x}-{chosen.getrandbits(64):016x}"
    if isinstance(document.get("user"), dict):
        document["user"] = dict(document["user"])
        for name in ("id", "buyeruid"):
            if isinstance(document["user"].get(name), str):
                document["user"][name] = f"{name}-{user:012x}"
    if isinstance(document.get("device"), dict):
        document["device"] = dict(document["device"])
        if isinstance(document["device"].get("ifa"), str):
            document["device"]["ifa"] = f"{user:08x}-0b51-4f5e-9c3a-{user * 7919:012x}"
        if isinstance(document["device"].get("ip"), str):
            document["device"]["ip"] = f"198.51.{user % 256}.{user // 256 % 256}"
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
