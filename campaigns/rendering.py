"""Creatives from a brief: what an advertiser orders with a campaign, rendered while they wait.

The drawing is the creatives room's; here its results become creatives of a campaign: sizes and
markup for the bidder, and the attributes from which the recommendation model learns.
"""

from __future__ import annotations

import contextlib
import re
import threading
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

from campaigns.refusals import invalid_campaign
from creatives.assets import AssetStore
from creatives.brief import Brief
from creatives.fonts import FontBook
from creatives.geometry import Size
from creatives.studio import render_variants
from market.campaign import CREATIVES_MAX, Campaign, Creative, LineItem, Problem
from market.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Generator

    from creatives.studio import RenderedCreative

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})")


class CreativeOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What to render: ``count`` designs of a brief, each in every size.

    Attributes:
        brief: the product and the words.
        sizes: such as ``300x250``, each once.
        count: designs; count times sizes is at most CREATIVES_MAX.
    """

    brief: Brief
    sizes: tuple[str, ...] = ("300x250", "320x50", "728x90")
    count: int = 4


class NewCampaign(Campaign, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A campaign to create, optionally with an order of creatives.

    Attributes:
        creatives: rendered at once, and given to every line item that has none; without line items
            the campaign gets one.
    """

    creatives: CreativeOrder | None = None


class Studio:
    """Renders orders into the deployment's asset folder, one at a time."""

    def __init__(self, asset_folder: Path, asset_url: str) -> None:
        """Takes where files lie and the URL below which browsers find them."""
        self._assets = AssetStore(asset_folder, asset_url)
        self._url = asset_url
        self._lock = threading.Lock()
        self._fonts: FontBook | None = None

    def render(self, order: CreativeOrder, *, is_kept: bool) -> tuple[Creative, ...]:
        """Returns the creatives of an order; without ``is_kept`` their images are thrown away.

        Raises:
            Refusal: INVALID_CAMPAIGN, with pointers below ``/creatives``.
        """
        sizes = _sizes_of(order)
        # Drawing takes a core for a while and shares fonts: orders wait for each other.
        with self._lock, self._store(is_kept=is_kept) as store:
            self._fonts = self._fonts or FontBook.shipped()
            try:
                rendered = render_variants(order.brief, sizes, order.count, store, self._fonts)
            except BadInput as error:
                problem = Problem(_pointer_of(error), "refused", str(error))
                raise invalid_campaign((problem,)) from error
        return tuple(self._creative(each) for each in rendered)

    def image(self, sha256: str) -> tuple[bytes, str]:
        """Returns a kept image and its media type.

        Raises:
            BadInput: there is none of this hash.
            Corrupt: the file was damaged.
        """
        return self._assets.get(sha256), self._assets.asset(sha256).media_type

    @contextlib.contextmanager
    def _store(self, *, is_kept: bool) -> Generator[AssetStore]:
        if is_kept:
            yield self._assets
        else:
            with TemporaryDirectory() as folder:
                yield AssetStore(Path(folder), self._url)

    def _creative(self, rendered: RenderedCreative) -> Creative:
        variant = rendered.variant
        brief, attributes = variant.brief, variant.attributes
        landing_url = brief.product.landing_url
        return Creative(
            name=f"{variant.creative_key} {variant.size}",
            format="banner",
            width=rendered.width,
            height=rendered.height,
            media_type=rendered.asset.media_type,
            adm=rendered.adm_template,
            landing_url=landing_url,
            asset_sha256=rendered.asset.sha256,
            language=brief.language,
            is_secure=all(url.startswith("https://") for url in (self._url, landing_url)),
            # Category, format and size are the campaign's and the creative's own (market.features).
            features={
                "headline": attributes.headline.value,
                "layout": attributes.layout.value,
                "palette": attributes.palette.value,
            },
        )


def order_problems(new: NewCampaign) -> tuple[Problem, ...]:
    """Returns the rules that an order of creatives breaks together with its campaign."""
    order = new.creatives
    if order is None:
        return ()
    found: list[Problem] = []
    if new.line_items and all(item.creatives for item in new.line_items):
        rule = "has no use: every line item has creatives; leave one without, or leave this out"
        found.append(Problem("/creatives", "an order", rule))
    for i, size in enumerate(order.sizes):
        if _SIZE.fullmatch(size) is None:
            rule = "must be width x height in pixels, such as 300x250"
            found.append(Problem(f"/creatives/sizes/{i}", repr(size), rule))
    if not 1 <= order.count * len(order.sizes) <= CREATIVES_MAX:
        rule = f"count times the number of sizes must be 1-{CREATIVES_MAX}"
        found.append(Problem("/creatives/count", repr(order.count), rule))
    return tuple(found)


def with_creatives(new: NewCampaign, creatives: tuple[Creative, ...]) -> Campaign:
    """Returns the plain campaign; line items that have no creatives get these.

    A campaign without line items gets one.
    """
    line_items = new.line_items or (LineItem(name=new.name),)
    given = tuple(
        item if item.creatives else msgspec.structs.replace(item, creatives=creatives)
        for item in line_items
    )
    plain = Campaign(**{name: getattr(new, name) for name in Campaign.__struct_fields__})
    return msgspec.structs.replace(plain, line_items=given)


def _sizes_of(order: CreativeOrder) -> tuple[Size, ...]:
    matches = [_SIZE.fullmatch(size) for size in order.sizes]
    try:
        return tuple(Size(int(match[1]), int(match[2])) for match in matches if match is not None)
    except BadInput as error:
        problem = Problem("/creatives/sizes", repr(order.sizes), str(error))
        raise invalid_campaign((problem,)) from error


def _pointer_of(error: BadInput) -> str:
    """Returns where in the order a fault lies that the creatives room found."""
    of_order = error.pointer in ("/sizes", "/count")
    return f"/creatives{error.pointer}" if of_order else f"/creatives/brief{error.pointer}"
