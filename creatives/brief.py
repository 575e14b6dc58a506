"""What an advertiser hands in: the product and the words of an advertisement.

A brief is checked once, here, at the edge; every later step trusts it. It holds no layout, no font
and no size: those are chosen by :mod:`creatives.variants` and :mod:`creatives.layout`.
"""

from __future__ import annotations

import re
import unicodedata
from enum import StrEnum
from urllib.parse import urlsplit

import msgspec

from market.errors import BadInput

TEXT_LENGTH_MAX = 300
"""Code points of one text; limits in use end at 140 (OpenRTB native), this leaves headroom."""

URL_LENGTH_MAX = 2048
"""Bytes of a URL; browsers and exchanges cut or refuse longer ones."""

_CURRENCY = re.compile(r"[A-Z]{3}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")
_LOCALE = re.compile(r"[a-z]{2,3}(-[A-Z][a-z]{3})?(-([A-Z]{2}|[0-9]{3}))?")
# RFC 3986: unreserved, reserved and percent-encoded characters. Braces are not among them, so a URL
# can never hold a placeholder such as {{CLICK_URL}}; neither are quotes, spaces and angle brackets.
_URL_CHARACTERS = re.compile(r"(?:[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")


class Category(StrEnum):
    """What a product is; chooses the silhouette that stands for it where there is no photograph."""

    APPAREL = "apparel"
    APPS = "apps"
    BEAUTY = "beauty"
    ELECTRONICS = "electronics"
    FINANCE = "finance"
    FOOD = "food"
    FOOTWEAR = "footwear"
    GAMES = "games"
    HOME = "home"
    OTHER = "other"
    SPORTS = "sports"
    TRAVEL = "travel"


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The thing that is advertised.

    Attributes:
        name: as the shop writes it.
        brand: who sells it; shown beside the brand mark, and as "sponsored by" in native.
        landing_url: where a click leads; absolute http or https.
        price_micros: millionths of one unit of ``currency``; 0 means that no price is shown.
        currency: ISO 4217 code.
        category: chooses the picture.
    """

    name: str
    brand: str
    landing_url: str
    price_micros: int
    currency: str
    category: Category = Category.OTHER

    def __post_init__(self) -> None:
        """Raises BadInput when a field breaks its rule."""
        checked_text("product.name", self.name)
        checked_text("product.brand", self.brand)
        checked_url("product.landing_url", self.landing_url)
        if self.price_micros < 0:
            msg = f"product.price_micros is {self.price_micros}; it must be >= 0"
            raise BadInput(msg, "/product/price_micros")
        if _CURRENCY.fullmatch(self.currency) is None:
            msg = (
                f"product.currency is {self.currency!r}; it must be an ISO 4217 code such as 'USD'"
            )
            raise BadInput(msg, "/product/currency")


class Brief(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message about one product, in one locale.

    Attributes:
        product: what is advertised.
        headline: the claim, shown largest.
        body: one or two sentences; left out where a size has no room for it (strips under 60 px).
        call_to_action: the words on the button.
        locale: BCP 47 language with optional script and region: ``en``, ``pt-BR``, ``zh-Hans-CN``.
        brand_colour: ``#rrggbb`` in lower case; every palette is derived from it.
    """

    product: Product
    headline: str
    body: str
    call_to_action: str
    locale: str = "en"
    brand_colour: str = "#2457d6"

    def __post_init__(self) -> None:
        """Raises BadInput when a field breaks its rule."""
        checked_text("headline", self.headline)
        checked_text("body", self.body)
        checked_text("call_to_action", self.call_to_action)
        if _LOCALE.fullmatch(self.locale) is None:
            msg = f"locale is {self.locale!r}; it must be a BCP 47 tag such as 'en' or 'zh-Hans-CN'"
            raise BadInput(msg, "/locale")
        if _COLOUR.fullmatch(self.brand_colour) is None:
            msg = f"brand_colour is {self.brand_colour!r}; it must be '#rrggbb' in lower case"
            raise BadInput(msg, "/brand_colour")

    @property
    def language(self) -> str:
        """The language subtag of the locale: ``pt`` for ``pt-BR``."""
        return self.locale.partition("-")[0]


def pointer_of(path: str) -> str:
    """The JSON pointer (RFC 6901) of a field: ``/product/brand`` for ``product.brand``."""
    return "/" + path.replace(".", "/")


def checked_text(name: str, text: str) -> str:
    """Returns ``text`` unchanged when it can be shown on one line or several.

    Raises:
        BadInput: it is blank, longer than ``TEXT_LENGTH_MAX``, or holds a control character, a line
            separator, a lone surrogate or an unassigned code point.
    """
    pointer = pointer_of(name)
    if not text.strip():
        msg = f"{name} is {text!r}; it must not be blank"
        raise BadInput(msg, pointer)
    if len(text) > TEXT_LENGTH_MAX:
        msg = f"{name} has {len(text)} characters; it must have at most {TEXT_LENGTH_MAX}"
        raise BadInput(msg, pointer)
    for character in text:
        # Cn holds the noncharacters, among them U+FFFE and U+FFFF, which XML cannot carry.
        if unicodedata.category(character) in {"Cc", "Cn", "Cs", "Zl", "Zp"}:
            msg = f"{name} holds U+{ord(character):04X}; control characters are not allowed"
            raise BadInput(msg, pointer)
    return text


def checked_url(name: str, url: str) -> str:
    """Returns ``url`` unchanged when it is absolute, http or https, and spelled as RFC 3986 asks.

    Such a URL is safe between double quotes, in CDATA and in a JSON string without further thought,
    and cannot hold one of the markup's placeholders.

    Raises:
        BadInput: it is none of that.
    """
    pointer = pointer_of(name)
    if len(url) > URL_LENGTH_MAX:
        msg = f"{name} has {len(url)} characters; it must have at most {URL_LENGTH_MAX}"
        raise BadInput(msg, pointer)
    if _URL_CHARACTERS.fullmatch(url) is None:
        msg = f"{name} is {url!r}; it must hold only characters of RFC 3986 (percent-encode others)"
        raise BadInput(msg, pointer)
    try:
        parts = urlsplit(url)
    except ValueError as error:
        msg = f"{name} is {url!r}; it must be a URL ({error})"
        raise BadInput(msg, pointer) from error
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        msg = f"{name} is {url!r}; it must be absolute, http or https"
        raise BadInput(msg, pointer)
    return url
