"""Where and to whom a request shows the ad: targeting dimensions, lists and the device's place.

The request level of ``bidder.edge``. What may be known of the user is decided by
``bidder.privacy`` and handed in; nothing here looks at a consent signal.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from market.chance import code_of
from market.openrtb import App, Site
from market.openrtb_reading import domain_and_parents, eids_of, number_text
from market.opportunity import CODE_LIST_COUNT, DIMENSION_COUNT, PositionKind
from market.targeting import degrees_e6
from market.user_agent import agent_of, brand_of, packed_parts, packed_version

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bidder.codes import CodeBook
    from bidder.privacy import Permission
    from market.openrtb import BidRequest, Content, Device, DistributionChannel, Geo, UserAgent

_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
HOUR_CODES = tuple(code_of(f"{day} {hour}") for day in _DAYS for hour in range(24))
_SITE, _APP, _DOOH = (code_of(name) for name in ("site", "app", "dooh"))
FLAG_CODES = (code_of("0"), code_of("1"))
"""What INTERSTITIAL, REWARDED and LIVESTREAM hold."""
EPOCH_WEEKDAY = 4
"""1 January 1970 was a Thursday; Sunday is day 0."""
GEO_FROM_IP = 2
ACCURACY_M_MAX = 2**31 - 1
_AGENTS_MAX = 65_536
_AGENT_CHARS_MAX = 512
"""What a user agent says, it says early; the rest is neither read nor remembered."""
_agent_of = lru_cache(_AGENTS_MAX)(agent_of)


class Place(NamedTuple):
    """The device's operating system version and position, as columns of an opportunity."""

    os_version: int
    latitude_e6: int
    longitude_e6: int
    accuracy_m: int
    position_kind: int


_NOWHERE = (0, 0, 0, int(PositionKind.NONE))
_UNKNOWN_PLACE = Place(0, *_NOWHERE)


def age_band(arrival_ms: int, birth_year: int) -> str:
    """Returns the decade of a user's age, such as ``30``, in the year of the arrival."""
    year = datetime.fromtimestamp(arrival_ms / 1000, UTC).year
    return str((year - birth_year) // 10 * 10)


def dimensions_of(
    request: BidRequest, exchange: str, arrival_ms: int, permission: Permission, codes: CodeBook
) -> tuple[list[int], Place]:
    """Returns codes by ``market.opportunity.Dimension``, those of an imp left 0, and the place.

    Keys used: device.{geo.{country,region,metro,city,zip,utcoffset,lat,lon,type,ipservice,
    accuracy},devicetype,os,osv,make,model,sua,ua,connectiontype,language,langb,carrier};
    site|app|dooh.{domain,bundle,publisher.id,content.{series,language,langb,livestream}};
    user.{gender,yob}.
    """
    found = [0] * DIMENSION_COUNT
    found[0] = codes[exchange]
    offset_minutes = 0
    place = _UNKNOWN_PLACE
    device = request.device
    if device is not None:
        geo = device.geo
        if geo is not None:
            _fill_geo(found, geo, permission, codes)
            offset_minutes = min(max(geo.utcoffset or 0, -1440), 1440)
        place = _fill_device(found, device, permission, codes)
    channel = request.site or request.app or request.dooh
    if channel is not None:
        _fill_channel(found, channel, codes)
    hour = (arrival_ms // 60_000 + offset_minutes) // 60
    found[12] = HOUR_CODES[(hour + EPOCH_WEEKDAY * 24) % 168]
    user = request.user
    if user is not None and permission.may_use_demographics:
        found[13] = codes[user.gender] if user.gender else 0
        if user.yob is not None:
            found[14] = codes[age_band(arrival_ms, user.yob)]
    return found, place


def _fill_geo(found: list[int], geo: Geo, permission: Permission, codes: CodeBook) -> None:
    of = codes.of
    found[1] = of(geo.country)
    found[2] = of(geo.region)
    found[16] = of(geo.metro)
    if permission.may_use_precise_geo:
        found[3] = of(geo.city)
        found[17] = of(geo.zip)


def _fill_device(
    found: list[int], device: Device, permission: Permission, codes: CodeBook
) -> Place:
    of = codes.of
    if device.devicetype is not None:
        found[4] = codes[str(device.devicetype)]
    if device.connectiontype is not None:
        found[6] = codes[str(device.connectiontype)]
    os_name, os_version, browser = _system(device)
    found[5] = of(os_name)
    found[7] = of(device.language or _primary(device.langb))
    found[15] = of(device.carrier)
    found[18] = of(device.make)
    found[19] = of(device.model) or (of(device.sua.model) if device.sua is not None else 0)
    found[20] = of(browser)
    geo = device.geo
    if geo is None or geo.lat is None or not permission.may_use_precise_geo:
        return Place(os_version, *_NOWHERE) if os_version else _UNKNOWN_PLACE
    return Place(os_version, *_position(geo))


def _fill_channel(found: list[int], channel: DistributionChannel, codes: CodeBook) -> None:
    of = codes.of
    inventory = channel.domain
    if isinstance(channel, Site):
        found[8] = _SITE
    elif isinstance(channel, App):
        found[8] = _APP
        inventory = number_text(channel.bundle) or channel.domain
    else:
        found[8] = _DOOH
    found[9] = of(inventory)
    if channel.publisher is not None:
        found[10] = of(channel.publisher.id)
    content = channel.content
    if content is not None:
        found[25] = of(content.series)
        found[26] = of(content.language or _primary(content.langb))
        if content.livestream is not None:
            found[27] = FLAG_CODES[content.livestream == 1]


def lists_of(
    request: BidRequest, permission: Permission, codes: CodeBook, pool: list[int]
) -> tuple[list[int], list[int]]:
    """Appends the lists of ``market.opportunity.CodeList`` to the pool; (first, count) of each.

    Keys used: user.{data.segment.id,keywords,kwarray,eids.source,ext.eids.source};
    site|app.{cat,sectioncat,pagecat,cattax,keywords,kwarray,domain,bundle}; dooh.keywords;
    content.{cat,cattax,keywords,kwarray}; wseat, bseat, acat, bcat, cattax, badv, bapp.
    """
    channel = request.site or request.app or request.dooh
    content = channel.content if channel is not None else None
    user = request.user
    user_data = user.data if user is not None and permission.may_use_segments else None
    for data in user_data or ():
        codes.add(pool, [segment.id for segment in data.segment or ()])
    ends = [len(pool)]
    if channel is not None:
        _add_categories(channel, content, codes, pool)
        ends.append(len(pool))
        _add_keywords(channel.keywords, getattr(channel, "kwarray", None), codes, pool)
        if content is not None:
            _add_keywords(content.keywords, content.kwarray, codes, pool)
        ends.append(len(pool))
    else:
        ends += [ends[0]] * 2
    taxonomy = _taxonomy(request.cattax)
    for values in (
        request.wseat, request.bseat, in_taxonomy(request.acat, taxonomy),
        in_taxonomy(request.bcat, taxonomy), request.badv, request.bapp,
    ):  # fmt: skip
        if values:
            codes.add(pool, values)
        ends.append(len(pool))
    if user is not None and permission.may_use_segments:
        _add_keywords(user.keywords, user.kwarray, codes, pool)
    ends.append(len(pool))
    if user is not None and permission.may_use_eids:
        codes.add(pool, [eid.source for eid in eids_of(request)])
    ends.append(len(pool))
    if channel is not None:
        codes.add(pool, _site_names(channel))
    ends.append(len(pool))
    # Who names no category in the exchange's taxonomy cannot show that it is none of the blocked.
    if taxonomy and request.bcat:
        pool.append(codes[taxonomy])
    ends.append(len(pool))
    assert len(ends) == CODE_LIST_COUNT
    first = [0, *ends[:-1]]
    return first, [end - begin for begin, end in zip(first, ends, strict=True)]


def languages_of(request: BidRequest) -> tuple[str, ...]:
    """Returns the languages that a creative may be in (ISO 639-1), () for any.

    ``wlang``, else the language of each tag of ``wlangb``: our creatives state no script or region.
    """
    listed = request.wlang or request.wlangb
    if not listed:
        return ()
    return tuple(dict.fromkeys(name for text in listed if (name := _primary(number_text(text)))))


def in_taxonomy(
    values: Sequence[str | float] | None, taxonomy: str
) -> Sequence[str | float] | None:
    """Returns categories as they are named here: ``6:483`` in any taxonomy but the first."""
    if not values or not taxonomy:
        return values
    return [f"{taxonomy}{text}" for value in values if (text := number_text(value))]


def _site_names(channel: DistributionChannel) -> Sequence[str | float | None]:
    """Returns what names a site or app in a list of them."""
    if isinstance(channel, Site):
        return domain_and_parents(channel.domain) if channel.domain else ()
    return (channel.bundle or channel.domain,) if isinstance(channel, App) else ()


def _add_categories(
    channel: DistributionChannel, content: Content | None, codes: CodeBook, pool: list[int]
) -> None:
    if isinstance(channel, (Site, App)):
        taxonomy = _taxonomy(channel.cattax)
        for values in (channel.cat, channel.sectioncat, channel.pagecat):
            if values:
                codes.add(pool, in_taxonomy(values, taxonomy))
    if content is not None and content.cat:
        codes.add(pool, in_taxonomy(content.cat, _taxonomy(content.cattax)))


def _taxonomy(cattax: int | None) -> str:
    return "" if cattax is None or cattax == 1 else f"{cattax}:"


def _add_keywords(
    text: str | None,
    words: Iterable[str | float] | None,
    codes: CodeBook,
    pool: list[int],
) -> None:
    if text:
        codes.add(pool, [word for part in text.split(",") if (word := part.strip())])
    if words:
        codes.add(pool, [*words])


def _primary(tag: str | None) -> str:
    """``en`` of the BCP 47 tag ``en-GB``."""
    return (tag or "").strip().replace("_", "-").split("-", 1)[0].lower()


def _system(device: Device) -> tuple[str | None, int, str]:
    """Returns (operating system, packed version, browser): stated, else of sua, else of ua."""
    name = number_text(device.os)
    version = packed_version(number_text(device.osv) or "")
    browser = ""
    hints = device.sua
    if hints is not None:
        hinted_name, hinted_version, browser = _hinted(hints)
        if not name or name.lower() == hinted_name.lower():
            version = version or hinted_version
        name = name or hinted_name
    if device.ua and not (name and version and browser):
        agent = _agent_of(device.ua[:_AGENT_CHARS_MAX])
        if not name or name.lower() == agent.os.lower():
            version = version or agent.os_version
        name = name or agent.os
        browser = browser or agent.browser
    return name, version, browser


def _hinted(hints: UserAgent) -> tuple[str, int, str]:
    platform = hints.platform
    name, version = "", 0
    if platform is not None:
        name = number_text(platform.brand) or ""
        version = packed_parts([number_text(part) or "" for part in platform.version or ()])
    brands = [number_text(brand.brand) or "" for brand in hints.browsers or ()]
    return name, version, brand_of(brands)


def _position(geo: Geo) -> tuple[int, int, int, int]:
    """Returns (latitude, longitude, accuracy, kind); (0, 0) and what is not on Earth is none."""
    latitude, longitude = geo.lat, geo.lon
    if latitude is None or longitude is None or (latitude == 0 and longitude == 0):
        return _NOWHERE
    if not (-90 <= latitude <= 90 and -180 <= longitude <= 180):
        return _NOWHERE
    is_looked_up = geo.type == GEO_FROM_IP or (geo.type is None and geo.ipservice is not None)
    return (
        degrees_e6(latitude),
        degrees_e6(longitude),
        min(max(geo.accuracy or 0, 0), ACCURACY_M_MAX),
        int(PositionKind.IP if is_looked_up else PositionKind.DEVICE),
    )
