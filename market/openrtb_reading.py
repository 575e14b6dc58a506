"""Reads the wide types of an OpenRTB request into plain ones. Pure functions, one answer each.

A field that may be text or number becomes text (`number_text`, `texts`); an array of codes becomes
integers (`integers`); a signal that moved between OpenRTB 2.5 and 2.6 is taken from its 2.6 place
first and from ``ext`` second (`gdpr_of` and its neighbours).
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from market.openrtb_types import INT64_MAX, INT64_MIN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market.openrtb import BidRequest, Eid, SupplyChain, Video

_INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
DOMAIN_CHARS_MAX = 255
"""A longer text is no host name (RFC 1035, 2.3.4), and is not taken apart."""
_DOMAINS_MAX = 65_536
"""Domains whose parents are remembered."""
_WORDS = {"true": 1, "false": 0}


def number_text(value: str | float | None) -> str | None:
    """The text of an identifier that may have arrived as a number; None when it says nothing.

    310410 and 310410.0 read "310410"; the empty string and numbers that are not finite read None.
    """
    if isinstance(value, str):
        return value or None
    if value is None or not (isinstance(value, int) or math.isfinite(value)):
        return None
    return str(int(value)) if value == int(value) else repr(value)


def texts(values: Sequence[str | float] | None) -> tuple[str, ...]:
    """The texts of an array of identifiers, without the empty ones; () when absent."""
    return tuple(text for value in values or () if (text := number_text(value)) is not None)


def finite(value: str | float) -> float | None:
    """The finite number that a value obviously means ("1.5", " 2 "); None when it means none."""
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text) is None:
            return None
        value = text
    try:
        number = float(value)
    except OverflowError:  # an int beyond the largest float
        return None
    return number if math.isfinite(number) else None


def integer(value: str | float) -> int | None:
    """The int64 that a value obviously means, fractions cut off; None when it means none.

    320, "320", " 3 ", 86.7 and "86.7" are numbers; True, "true" and "false" are flags. A number
    beyond int64, infinities included, becomes its nearest bound: no integer overflows later.
    """
    if isinstance(value, str):
        text = value.strip()
        if _INTEGER.fullmatch(text):
            value = int(text)
        elif _NUMBER.fullmatch(text):
            value = float(text)
        else:
            return _WORDS.get(text.lower())
    if value != value:  # noqa: PLR0124 - NaN
        return None
    return int(min(max(value, INT64_MIN), INT64_MAX))


def code(value: str | float) -> int | None:
    """The integer that a value names, as `integer`, but None for fractions, which name nothing."""
    if type(value) is int and INT64_MIN <= value <= INT64_MAX:  # nearly always, and cheap
        return value
    number = finite(value)
    return integer(value) if number is None or number.is_integer() else None


def integers(values: Sequence[str | float] | None) -> tuple[int, ...]:
    """The integers of an array of codes, without what is none ("VAST 2.0", 2.5); () when absent."""
    return tuple([number for value in values or () if (number := code(value)) is not None])


def currencies_of(request: BidRequest) -> tuple[str, ...]:
    """The currencies that bids may be in, upper case; USD when none is named (OpenRTB 3.2.1)."""
    named = tuple(currency for text in texts(request.cur) if (currency := text.strip().upper()))
    return named or ("USD",)


def protocols_of(video: Video) -> tuple[int, ...]:
    """The protocols a player supports, from ``protocols`` or else the older ``protocol``."""
    if video.protocols:
        return integers(video.protocols)
    older = video.protocol
    return integers(older if isinstance(older, list) or older is None else [older])


def domain_and_parents(domain: str) -> tuple[str, ...]:
    """A site's domain and those above it, () for what is no domain.

    ``www.sport.news.example`` reads ``sport.news.example``, ``news.example``: ``www`` is nobody's
    name, and a bare top-level domain belongs to all.
    """
    return _domain_and_parents(domain) if len(domain) <= DOMAIN_CHARS_MAX else ()


@lru_cache(_DOMAINS_MAX)
def _domain_and_parents(domain: str) -> tuple[str, ...]:
    labels = domain.strip().lower().removeprefix("www.").split(".")
    if len(labels) < 2:
        return tuple(label for label in labels if label)
    return tuple(".".join(labels[i:]) for i in range(len(labels) - 1))


def gdpr_of(request: BidRequest) -> int | None:
    """1 when GDPR applies, 0 when not, None when unsaid: ``regs.gdpr``, then ``regs.ext.gdpr``."""
    regs = request.regs
    if regs is None:
        return None
    if regs.gdpr is None and regs.ext is not None:
        return regs.ext.gdpr
    return regs.gdpr


def us_privacy_of(request: BidRequest) -> str | None:
    """The US privacy string: ``regs.us_privacy``, then ``regs.ext.us_privacy``."""
    regs = request.regs
    if regs is None:
        return None
    return regs.us_privacy or (regs.ext and regs.ext.us_privacy) or None


def gpp_of(request: BidRequest) -> tuple[str | None, tuple[int, ...]]:
    """The GPP string and its sections in force: each from ``regs``, then from ``regs.ext``."""
    regs = request.regs
    if regs is None:
        return None, ()
    string = regs.gpp or (regs.ext and regs.ext.gpp) or None
    sections = integers(regs.gpp_sid) or (integers(regs.ext.gpp_sid) if regs.ext else ())
    return string, sections


def consent_of(request: BidRequest) -> str | None:
    """The TCF consent string: ``user.consent``, then ``user.ext.consent``."""
    user = request.user
    if user is None:
        return None
    return user.consent or (user.ext and user.ext.consent) or None


def eids_of(request: BidRequest) -> tuple[Eid, ...]:
    """The extended ids of the user: ``user.eids``, then ``user.ext.eids``."""
    user = request.user
    if user is None:
        return ()
    return tuple(user.eids or (user.ext and user.ext.eids) or ())


def schain_of(request: BidRequest) -> SupplyChain | None:
    """The supply chain: ``source.schain``, then ``source.ext.schain``."""
    source = request.source
    if source is None:
        return None
    return source.schain or (source.ext and source.ext.schain)
