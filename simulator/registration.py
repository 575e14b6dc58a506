"""Registered creatives: what an exchange knows of the ads before they may be shown in it.

Real exchanges review creatives and keep their attributes by ``crid``; the twin needs them because
how users respond depends on them. The file that registers them is a JSON list:

    [{"creative_id": 7, "campaign_id": 1, "value_per_conversion_micros": 20000000,
      "features": {"category": "IAB18", "format": "banner", "size": "300x250",
                   "headline": "priced", "layout": "poster", "palette": "brand"}}, ...]

``features`` holds a text per name of ``market.campaign.AD_FIELDS``; an absent one tells users
nothing. The value is the mean value of an order, in micros of the campaign's currency.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from market.creative import AD_FIELDS
from market.errors import BadInput
from market.money import BUDGET_MICROS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from market.campaign import Campaign

_Id = Annotated[int, Meta(ge=1, lt=2**32)]


class RegisteredCreative(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One creative that may be shown; see the module docstring."""

    creative_id: _Id
    campaign_id: _Id
    value_per_conversion_micros: Annotated[int, Meta(ge=0, le=BUDGET_MICROS_MAX)]
    features: dict[str, str] = {}


_LIST = msgspec.json.Decoder(tuple[RegisteredCreative, ...])


def read_registered(body: bytes) -> tuple[RegisteredCreative, ...]:
    """Returns the creatives of a registration file.

    Raises:
        BadInput: it breaks the schema, an id is used twice, or a feature is unknown.
    """
    try:
        creatives = _LIST.decode(body)
    except msgspec.MsgspecError as error:
        raise BadInput(f"registered creatives: {error}") from error
    return check_registered(creatives)


def check_registered(creatives: tuple[RegisteredCreative, ...]) -> tuple[RegisteredCreative, ...]:
    """Returns ``creatives`` unchanged if ids are distinct and features known.

    Raises:
        BadInput: they are not.
    """
    seen: set[int] = set()
    for i, creative in enumerate(creatives):
        if creative.creative_id in seen:
            raise BadInput(
                f"registered creative {creative.creative_id}: its id is used twice; ids are unique",
                f"/{i}/creative_id",
            )
        seen.add(creative.creative_id)
        for name in creative.features:
            if name not in AD_FIELDS:
                raise BadInput(
                    f"registered creative {creative.creative_id}: feature '{name}' must be one of "
                    f"{', '.join(AD_FIELDS)}",
                    f"/{i}/features/{name}",
                )
    return creatives


def register(
    campaigns: Iterable[Campaign], value_per_conversion_micros: int
) -> tuple[RegisteredCreative, ...]:
    """Returns the registration of every creative of ``campaigns``.

    Features are those that ``market.features.ad_features`` hashes. A conversion is worth what the
    campaign's goal says, or else ``value_per_conversion_micros``.
    """
    found: list[RegisteredCreative] = []
    for campaign in campaigns:
        value = campaign.goal.value_per_conversion_micros or value_per_conversion_micros
        for line_item in campaign.line_items:
            for creative in line_item.creatives:
                known = {
                    "category": campaign.category,
                    "format": creative.format,
                    "size": f"{creative.width}x{creative.height}",
                }
                found.append(
                    RegisteredCreative(
                        creative_id=creative.creative_id,
                        campaign_id=campaign.campaign_id,
                        value_per_conversion_micros=value,
                        features={**known, **creative.features},
                    )
                )
    return check_registered(tuple(found))
