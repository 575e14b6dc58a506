"""Bodies for the reader: real ones, the golden ones, one that says everything, and dirt."""

from __future__ import annotations

import copy
import gzip
import json
from pathlib import Path

from hypothesis import strategies as st

HERE = Path(__file__).resolve()
REQUESTS = HERE.parents[3].parent / "shared" / "requests"
GOLDEN = HERE.parents[2] / "golden" / "bid"


def real_bodies():
    """(name, body) of ../shared/requests; () where it is missing."""
    if not REQUESTS.is_dir():
        return ()
    manifest = json.loads((REQUESTS / "manifest.json").read_text())
    names = sorted(entry["file"] for entry in manifest)
    bodies = ((name, (REQUESTS / name).read_bytes()) for name in names)
    return tuple(
        (name, gzip.decompress(body) if name.endswith(".gz") else body) for name, body in bodies
    )


def golden_bodies():
    """(name, body) of tests/golden/bid."""
    return tuple(
        (path.stem, json.dumps(json.loads(path.read_text())["request"]).encode())
        for path in sorted(GOLDEN.glob("*/*.json"))
    )


FULL = {
    "id": "req-1",
    "imp": [
        {
            "id": "1", "tagid": "top", "bidfloor": 1.25, "bidfloorcur": "EUR", "secure": 1,
            "instl": 1, "rwdd": 0, "exp": 120, "qty": {"multiplier": 2.5},
            "metric": [{"type": "viewability", "value": 0.85, "vendor": "EXCHANGE"}],
            "banner": {
                "w": 300, "h": 250, "format": [{"w": 300, "h": 250}, {"w": 320, "h": 50}],
                "battr": [1, 6], "btype": [4], "mimes": ["image/png", "image/jpeg"], "pos": 1,
                "api": [3, 5], "expdir": [1], "id": "b1", "ext": {"a": 1},
            },
            "video": {
                "mimes": ["video/mp4"], "minduration": 5, "maxduration": 30, "protocols": [2, 3, 7],
                "w": 640, "h": 360, "plcmt": 1, "pos": 3, "linearity": 1, "skip": 1, "battr": [13],
                "delivery": [2], "api": [1], "playbackmethod": [1], "mincpmpersec": 0.5,
            },
            "pmp": {
                "private_auction": 0,
                "deals": [
                    {"id": "deal-1", "bidfloor": 3.5, "bidfloorcur": "GBP", "at": 3,
                     "wseat": ["seat-1"], "wadomain": ["brand.example", "other.example"],
                     "guar": 1},
                    {"id": "deal-2", "bidfloor": -1},
                    {"id": "deal-3", "at": 900},
                    {"id": "deal-4"},
                ],
            },
        },
        {
            "id": "2", "secure": 0, "bidfloor": 0.01,
            "audio": {"mimes": ["audio/mpeg"], "minduration": 10, "maxduration": 60},
            "native": {
                "request": '{"ver":"1.2","assets":[{"id":1,"required":1,"title":{"len":90}}]}',
                "ver": "1.2", "battr": [3],
            },
        },
        {"id": "3", "banner": {"w": 0, "h": 0}},
    ],
    "site": {
        "domain": "www.sport.news.example", "cat": ["IAB1", "IAB2-3"], "sectioncat": ["IAB3"],
        "pagecat": ["IAB4"], "keywords": "football, transfer ,,news", "kwarray": ["goal", "cup"],
        "publisher": {"id": "pub-1", "domain": "news.example"},
        "content": {
            "cat": ["IAB17"], "keywords": "live", "kwarray": ["derby"],
            "series": "Match of the day",
            "language": "en", "livestream": 1,
        },
    },
    "device": {
        "ua": "Mozilla/5.0 (Linux; Android 13; Pixel 7) AppleWebKit/537.36 (KHTML, like Gecko) "
        "Chrome/116.0.0.0 Mobile Safari/537.36",
        "dnt": 0, "lmt": 0, "devicetype": 4, "make": "Google", "model": "Pixel 7", "os": "Android",
        "osv": "13", "language": "en", "langb": "en-GB", "carrier": "o2", "connectiontype": 2,
        "ifa": "6d92078a-8246-4ba4-ae5b-76104861e7dc", "ip": "192.0.2.7",
        "geo": {
            "lat": 51.50735, "lon": -0.12776, "type": 1, "accuracy": 20, "country": "GBR",
            "region": "ENG", "metro": "826", "city": "London", "zip": "SW1A", "utcoffset": 60,
        },
    },
    "user": {
        "id": "u-1", "buyeruid": "b-1", "yob": 1984, "gender": "F", "keywords": "runner,cook",
        "kwarray": ["cyclist"],
        "data": [
            {"id": "p", "name": "provider", "segment": [{"id": "s1"}, {"id": "s2", "name": "x"}]},
            {"segment": [{"id": 17}]},
        ],
        "eids": [{"source": "id5.example", "uids": [{"id": "x", "atype": 1}]},
        {"source": "b.example"}],
        "ext": {"consent": "", "eids": [{"source": "old.example"}]},
    },
    "test": 0, "at": 1, "tmax": 120, "cur": ["EUR", "USD", "XXX"], "wseat": ["seat-1"],
    "bseat": ["seat-9"], "wlang": ["en-GB", "de"], "bcat": ["IAB25", "IAB26"], "acat": ["IAB1"],
    "cattax": 1, "badv": ["rival.example"], "bapp": ["com.rival"],
    "source": {
        "tid": "t-1", "pchain": "a:b", "schain": {"complete": 1, "ver": "1.0", "nodes": [
            {"asi": "exchange.example", "sid": "pub-1", "hp": 1}]},
    },
    "regs": {"coppa": 0, "gdpr": 0, "us_privacy": "1YNN", "ext": {"gdpr": 0}},
}  # fmt: skip
"""Nearly every field that the reader takes."""


def full_with(**changes):
    """FULL as a body, with fields of the request replaced; None leaves one out."""
    request = {**copy.deepcopy(FULL), **changes}
    return json.dumps(
        {name: value for name, value in request.items() if value is not None}
    ).encode()


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 700), st.integers(), st.floats(),
    st.sampled_from([
        "", " ", "1", "-1", "1.5", " 3 ", "0x1", "IAB1", "USD", "usd", " eur ", "en-GB", "_", "-",
        "www.a.b.example", "1YYN", "00000000-0000-0000-0000-000000000000", "unKNOWN", "\u212a",
        "null", "true", "a,b, ,c", "\u00a0x", "x\u3000,y", "\u00e9t\u00e9", "tab\there", "\u001f",
        "quote\"d", "back\\slash", "\U0001f600", 1.0, 2.0, -0.0, 0.1, 1e-7, 1e22, 10**15, 10**19,
        -(10**23), 37.789398193359375, -122.39423370361328, [], [None], {}, [{}], {"id": 1},
        ["USD"], ["x", 5, 2.0, ""], [["deep"]], {"a": {"b": {"c": []}}}, "x" * 300, "0", 0,
    ]),
    st.text(max_size=6), st.lists(st.text(max_size=4), max_size=3),
)  # fmt: skip


def places_of(value, path=()):
    """Every (path, key or index) in a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield path, key
        if isinstance(inner, dict | list):
            yield from places_of(inner, (*path, key))


@st.composite
def mutated(draw, bases):  # noqa: C901 - one kind of damage after the other
    """A body of ``bases`` (JSON values) with values swapped, doubled, cut or garbled."""
    request = copy.deepcopy(draw(st.sampled_from(bases)))
    for _ in range(draw(st.integers(0, 3))):
        places = list(places_of(request))
        if not places:
            break
        path, key = draw(st.sampled_from(places))
        owner = request
        for step in path:
            owner = owner[step]
        change = draw(st.integers(0, 5))
        if change == 0:
            del owner[key]
        elif change == 1 and isinstance(owner, list):
            owner.append(copy.deepcopy(owner[key]))
        elif change == 2:
            owner[key] = [owner[key]]
        elif change == 3:
            owner[key] = str(owner[key])
        else:
            owner[key] = copy.deepcopy(draw(JUNK))
    text = json.dumps(
        request, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 2]))
    )
    body = text.encode(errors="surrogatepass")
    damage = draw(st.integers(0, 9))
    if damage == 0:
        body = body[: draw(st.integers(0, len(body)))]
    elif damage == 1 and body:
        at = draw(st.integers(0, len(body) - 1))
        body = body[:at] + draw(st.binary(max_size=2)) + body[at + draw(st.integers(0, 2)) :]
    elif damage == 2:
        key = draw(st.sampled_from(["id", "imp", "site", "at", "cur", "unknown"]))
        body = body.rstrip()[:-1] + f', "{key}": {json.dumps(draw(JUNK))}}}'.encode()
    return body
