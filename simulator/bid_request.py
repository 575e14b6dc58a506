"""Bid requests: the opportunities of the twin as OpenRTB 2.6, byte for byte the same on every run.

Rendered from the columns that ``simulator.supply`` fills opportunities from, so that what a bidder
reads in JSON is what the same opportunity says in arrays. What depends on a user or a scene only is
encoded once and kept.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec

from market.money import price_to_wire
from market.openrtb import (
    App,
    Banner,
    Data,
    Device,
    Format,
    Geo,
    Imp,
    Publisher,
    Segment,
    Site,
    User,
    Video,
)
from simulator.population import segment_texts
from simulator.supply import IMP_ID

if TYPE_CHECKING:
    from market.openrtb_types import Text
    from simulator.exchange import Exchange
    from simulator.supply import Offers, Scene

_SEGMENT_PROVIDER = "twin"
# Users met in a slice are met again soon; a slice of the busiest scenario has fewer than these.
_USERS_KEPT = 16_384


class RequestWriter:
    """Renders the opportunities of one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        """Prepares the parts that never change."""
        self._exchange = exchange
        self._segment_texts = segment_texts(exchange.scenario.people)
        self._encode = msgspec.json.Encoder().encode
        self._inventory = [
            (scene.publisher.kind, self._raw(_inventory(scene))) for scene in exchange.supply.scenes
        ]
        currency = exchange.scenario.currency
        self._imps = [_imp(scene, currency) for scene in exchange.supply.scenes]
        self._currencies = [currency]
        self._of_user = lru_cache(_USERS_KEPT)(self._render_user)

    def body(self, offers: Offers, place: int) -> bytes:
        """Returns the body of the bid request for the opportunity at ``place`` of a block."""
        scene = int(offers.scene[place])
        kind, inventory = self._inventory[scene]
        device, user = self._of_user(int(offers.user[place]))
        floor = int(offers.opportunities.records["floor_cpm_micros"][place])
        imp = msgspec.structs.replace(self._imps[scene], bidfloor=price_to_wire(floor))
        return self._encode(
            {
                "id": self._exchange.request_id(int(offers.sequence[place])),
                "imp": [imp],
                kind: inventory,
                "device": device,
                "user": user,
                "at": 1,
                "tmax": self._exchange.scenario.tmax_ms,
                "cur": self._currencies,
            }
        )

    def _render_user(self, user: int) -> tuple[msgspec.Raw, msgspec.Raw]:
        """Returns ``device`` and ``user`` of a user's requests."""
        people, population = self._exchange.scenario.people, self._exchange.population
        country = people.countries[population.country[user]]
        region = country.regions[population.region[user]]
        device = people.devices[population.device[user]]
        year = int(population.year_of_birth[user])
        return self._raw(
            Device(
                geo=Geo(
                    country=country.name,
                    region=region.name,
                    city=region.city or None,
                    utcoffset=int(population.utc_offset_minutes[user]),
                ),
                ua=device.user_agent,
                devicetype=device.device_type,
                os=device.os,
                language=population.language[user],
                carrier=population.carrier[user] or None,
                connectiontype=int(population.connection[user]),
            )
        ), self._raw(
            User(
                id=population.user_ids[user],
                yob=year or None,
                gender=population.gender[user] or None,
                data=[
                    Data(
                        id=_SEGMENT_PROVIDER,
                        segment=[
                            Segment(id=self._segment_texts[interest])
                            for interest in population.segments[user].tolist()
                        ],
                    )
                ],
            )
        )

    def _raw(self, part: msgspec.Struct) -> msgspec.Raw:
        return msgspec.Raw(self._encode(part))


def _inventory(scene: Scene) -> Site | App:
    """Returns the ``site`` or ``app`` of a scene."""
    publisher = scene.publisher
    seller = Publisher(id=publisher.publisher_id)
    categories: list[Text] | None = [*publisher.categories] or None
    if publisher.kind == "app":
        return App(bundle=publisher.name, cat=categories, publisher=seller)
    return Site(
        domain=publisher.name,
        page=f"https://{publisher.name}/{scene.placement.tag}",
        cat=categories,
        publisher=seller,
    )


def _imp(scene: Scene, currency: str) -> Imp:
    """Returns the ``imp`` of a scene, without its floor."""
    placement = scene.placement
    mimes: list[Text] | None = [*scene.mimes] or None
    sizes = [(size >> 16, size & 0xFFFF) for size in scene.sizes]
    banner = video = None
    if placement.video is None:
        banner = Banner(format=[Format(w=w, h=h) for w, h in sizes], mimes=mimes)
    else:
        (width, height), player = sizes[0], placement.video
        video = Video(
            mimes=mimes,
            w=width,
            h=height,
            minduration=player.duration_ms_min // 1000,
            maxduration=player.duration_ms_max // 1000,
        )
    return Imp(
        id=IMP_ID,
        tagid=placement.tag,
        bidfloorcur=currency,
        secure=int(placement.is_secure),
        banner=banner,
        video=video,
    )
