"""The catalogue of the serving bench: line items that an exchange's traffic really meets.

Every campaign has a few *home* bodies of the load. It targets six to nine dimensions: where its
homes name a value, a list with their values and some foreign ones; where they do not, a list of
values it refuses. So a request is met by a few per cent of the line items, as in a market, and by
none for nothing.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any, NamedTuple

from market.campaign import (
    Budget,
    Campaign,
    FrequencyCap,
    Goal,
    GoalKind,
    LineItem,
    Targeting,
    check,
)
from market.creative import MEDIA_TYPES, Creative, NativeImage, NativeParts

if TYPE_CHECKING:
    from bench.bodies import Template

LINE_ITEMS_PER_CAMPAIGN = 5
HOMES = 3
_PLACES = {
    "country": ("device", "geo", "country"),
    "region": ("device", "geo", "region"),
    "device_type": ("device", "devicetype"),
    "os": ("device", "os"),
    "connection": ("device", "connectiontype"),
    "language": ("device", "language"),
    "carrier": ("device", "carrier"),
}
_FOREIGN = {
    "country": ("FRA", "ITA", "ESP", "SWE", "NOR", "FIN", "POL", "BRA", "MEX", "IND"),
    "region": ("CA", "NY", "TX", "BE", "BY", "NW", "IDF", "LND", "ON", "QC"),
    "device_type": ("1", "2", "3", "4", "5", "6", "7"),
    "os": ("iOS", "Android", "Windows", "macOS", "Linux", "Tizen"),
    "connection": ("1", "2", "3", "4", "5", "6", "7"),
    "language": ("en", "de", "fr", "es", "it", "pl", "sv"),
    "carrier": ("310-410", "262-01", "208-10", "WIFI", "VODAFONE", "ORANGE"),
    "inventory": tuple(f"site{n}.example" for n in range(200)),
    "publisher": tuple(f"pub-{n}" for n in range(200)),
    "inventory_type": ("site", "app", "dooh"),
    "exchange": ("default", "twin", "verbose"),
    "segment": tuple(f"seg-{n}" for n in range(400)),
    "keyword": tuple(f"word{n}" for n in range(400)),
}
_CATEGORIES = ("IAB24", "IAB18", "IAB2", "IAB19", "IAB22", "IAB17", "IAB9", "IAB20")
_HEADLINES = ("benefit", "price", "urgency", "question")
_LAYOUTS = ("image_left", "image_top", "full")
_PALETTES = ("warm", "cool", "dark")
_SIZES = ((300, 250), (320, 50), (728, 90))
_ADM = (
    '<div style="position:relative;width:{w}px;height:{h}px"><a href="{{{{CLICK_URL}}}}" '
    'target="_blank" rel="noopener"><img src="https://cdn.shop{n}.example/creatives/{id}.jpg" '
    'width="{w}" height="{h}" alt="Shop {n}" style="border:0"></a>'
    '<img src="{{{{IMPRESSION_URL}}}}" width="1" height="1" alt="" style="display:none"></div>'
)


class Facts(NamedTuple):
    """What a body says that a line item may target or must respect."""

    values: dict[str, str]
    imps: tuple[dict[str, Any], ...]
    seats: tuple[str, ...]
    deals: tuple[str, ...]
    blocked: tuple[str, ...]


def facts_of(template: Template) -> Facts:
    """Reads a template's targetable values, its imps and its rules."""
    document = template.document
    values = {"exchange": "default"}
    for name, path in _PLACES.items():
        found: Any = document
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str | int | float) and str(found).strip():
            values[name] = str(int(found)) if isinstance(found, float) else str(found)
    for kind in ("site", "app", "dooh"):
        channel = document.get(kind)
        if isinstance(channel, dict):
            values["inventory_type"] = kind
            named = channel.get("bundle") if kind == "app" else None
            named = named or channel.get("domain")
            if isinstance(named, str | int):
                values["inventory"] = str(named)
            publisher = channel.get("publisher")
            if isinstance(publisher, dict) and isinstance(publisher.get("id"), str | int):
                values["publisher"] = str(publisher["id"])
    deals: list[str] = []
    seats = [str(seat) for seat in document.get("wseat") or ()]
    for imp in document["imp"]:
        for deal in (imp.get("pmp") or {}).get("deals") or ():
            deals.append(str(deal["id"]))
            seats += [str(seat) for seat in deal.get("wseat") or ()]
    return Facts(
        values=values,
        imps=tuple(document["imp"]),
        seats=tuple(dict.fromkeys(seats)),
        deals=tuple(deals),
        blocked=tuple(str(category) for category in document.get("bcat") or ()),
    )


def campaigns_for(
    found: tuple[Template, ...], line_item_count: int, seed: int
) -> tuple[Campaign, ...]:
    """Returns campaigns with ``line_item_count`` line items in all; half of those are capped."""
    chosen = random.Random(seed)
    facts = [facts_of(template) for template in found]
    made: list[Campaign] = []
    left = line_item_count
    while left > 0:
        count = min(LINE_ITEMS_PER_CAMPAIGN, left)
        made.append(_campaign(len(made), count, facts, chosen))
        left -= count
    return tuple(made)


def _campaign(
    number: int, line_item_count: int, facts: list[Facts], chosen: random.Random
) -> Campaign:
    # Round robin over the first home: every body is somebody's home, however few campaigns.
    homes = [facts[number % len(facts)], *chosen.sample(facts, HOMES - 1)]
    targeting = _targeting(homes, chosen)
    seats = homes[0].seats
    deals = tuple(dict.fromkeys(deal for home in homes for deal in home.deals))
    categories = [
        name for name in _CATEGORIES if not any(name in home.blocked for home in homes)
    ] or list(_CATEGORIES)
    line_items: list[LineItem] = []
    for k in range(line_item_count):
        line_item_id = number * LINE_ITEMS_PER_CAMPAIGN + k + 1
        line_items.append(
            LineItem(
                line_item_id=line_item_id,
                # Half of the campaigns vary their targeting from line item to line item.
                targeting=targeting if number % 2 else _targeting(homes, chosen),
                frequency_caps=(FrequencyCap(impressions=10_000),) if line_item_id % 2 else (),
                bid_cpm_micros_max=200_000_000,
                deals=deals,
                seat=seats[k % len(seats)] if seats else "",
                creatives=_creatives(homes, line_item_id),
            )
        )
    return check(
        Campaign(
            campaign_id=number + 1, advertiser_id=number % 300 + 1, name=f"campaign {number}",
            currency="USD", time_zone="UTC", advertiser_domain=f"shop{number % 300}.example",
            category=chosen.choice(categories),
            goal=Goal(
                GoalKind.TARGET_CPA,
                target_cpa_micros=round(4_000_000 * chosen.lognormvariate(0.0, 0.4)),
            ),
            budget=Budget(daily_micros=10**14),
            line_items=tuple(line_items),
        )
    )  # fmt: skip


def _targeting(homes: list[Facts], chosen: random.Random) -> Targeting:
    include: dict[str, tuple[str, ...]] = {}
    exclude: dict[str, tuple[str, ...]] = {}
    for name in chosen.sample(sorted(_FOREIGN), chosen.randint(6, 9)):
        known = {home.values[name] for home in homes if name in home.values}
        foreign = chosen.sample(_FOREIGN[name], min(len(_FOREIGN[name]) - 1, chosen.randint(2, 6)))
        if len([home for home in homes if name in home.values]) == len(homes):
            include[name] = tuple(sorted(known | set(foreign)))
        else:
            lowered = {value.lower() for value in known}
            refused = [value for value in foreign if value.lower() not in lowered]
            exclude[name] = tuple(refused) or ("nobody.example",)
    return Targeting(include=include, exclude=exclude)


def _creatives(homes: list[Facts], line_item_id: int) -> tuple[Creative, ...]:
    """Returns three creatives: what the first imp of each home would show, then common banners."""
    wanted = [fit for home in homes for imp in home.imps[:1] for fit in _fitting(imp)]
    wanted += [_Fit("banner", w, h) for w, h in _SIZES]
    return tuple(
        _creative(fit, line_item_id, line_item_id * 100 + k)
        for k, fit in enumerate(list(dict.fromkeys(wanted))[:3])
    )


class _Fit(NamedTuple):
    shape: str
    width: int = 0
    height: int = 0
    protocol: int = 0
    media_type: str = "image/jpeg"
    duration_ms: int = 0


def _creative(fit: _Fit, line_item_id: int, creative_id: int) -> Creative:
    shop = f"https://cdn.shop{line_item_id % 300}.example"
    rest: dict[str, Any] = {
        "landing_url": f"{shop}/landing",
        "features": {
            "headline": _HEADLINES[line_item_id % len(_HEADLINES)],
            "layout": _LAYOUTS[creative_id % len(_LAYOUTS)],
            "palette": _PALETTES[line_item_id // 3 % len(_PALETTES)],
        },
    }
    if fit.shape == "banner":
        rest["adm"] = _ADM.format(w=fit.width, h=fit.height, n=line_item_id % 300, id=creative_id)
    elif fit.shape == "native":
        picture = NativeImage(
            url=f"{shop}/{creative_id}", width=fit.width, height=fit.height,
            media_type=fit.media_type,
        )  # fmt: skip
        rest["native"] = NativeParts(
            title="Boots that last a winter", sponsored=f"Shop {line_item_id % 300}",
            description="Light, warm and dry: made for ten thousand steps a day.",
            call_to_action="See them", rating="4.5", price="129 USD", display_url="shop.example",
            image=picture, icon=picture,
        )  # fmt: skip
    else:
        rest |= {"media_url": f"{shop}/{creative_id}.bin", "bitrate_kbps": 800}
    is_sized = fit.shape in ("banner", "video")
    return Creative(
        creative_id=creative_id, format=fit.shape,
        width=fit.width if is_sized else 0, height=fit.height if is_sized else 0,
        protocol=fit.protocol, duration_ms=fit.duration_ms,
        media_type="image/jpeg" if fit.shape == "native" else fit.media_type, **rest,
    )  # fmt: skip


def _fitting(imp: dict[str, Any]) -> list[_Fit]:
    """Returns a creative that this imp would show, if it offers one of the usual formats."""
    banner = imp.get("banner")
    if isinstance(banner, dict):
        sizes = [(f.get("w"), f.get("h")) for f in banner.get("format") or ()]
        sizes.append((banner.get("w"), banner.get("h")))
        for w, h in sizes:
            if w and h and int(w) > 0 and int(h) > 0:
                return [_Fit("banner", int(w), int(h))]
    for shape in ("video", "audio"):
        media = imp.get(shape)
        if isinstance(media, dict):
            return [_timed(shape, media)]
    return [_native(imp["native"])] if imp.get("native") else []


def _native(native: dict[str, Any]) -> _Fit:
    """Returns a native ad whose picture is what the first image asset asks for."""
    request = native.get("request")
    asked = json.loads(request) if isinstance(request, str) and request else request or native
    asked = asked.get("native", asked)
    for asset in asked.get("assets") or ():
        image = asset.get("img")
        if image:
            w, h = image.get("w") or image.get("wmin"), image.get("h") or image.get("hmin")
            mimes = [m for m in image.get("mimes") or () if m in MEDIA_TYPES]
            return _Fit("native", w or 1200, h or 627, 0, mimes[0] if mimes else "image/jpeg")
    return _Fit("native", 1200, 627)


def _timed(shape: str, media: dict[str, Any]) -> _Fit:
    mimes = [m for m in media.get("mimes") or () if m in MEDIA_TYPES]
    usual = "video/mp4" if shape == "video" else "audio/mpeg"
    seconds = 15
    if media.get("maxduration"):
        seconds = min(seconds, int(media["maxduration"]))
    seconds = max(seconds, int(media.get("minduration") or 0))
    required = media.get("rqddurs") or [seconds]
    size = (int(media.get("w") or 640), int(media.get("h") or 480)) if shape == "video" else (0, 0)
    return _Fit(shape, *size, 3, mimes[0] if mimes else usual, int(required[0]) * 1000)
