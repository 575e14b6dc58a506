"""What a user agent says: operating system, its version, browser. Pure text, nothing remembered.

Only used where an exchange leaves out ``device.os``, ``device.osv`` or ``device.sua``: strings of
browsers are frozen and lie more every year, so a handful of tokens is looked for and no more. Names
are those of the client hints (``Sec-CH-UA-Platform``, ``Sec-CH-UA``), which ``device.sua`` carries.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION_PART_MAX: Final = 65_535
_LEADING = re.compile(r"\s*([0-9]+(?:[._][0-9]+)*)")
_SEPARATOR = re.compile(r"[._]")
_GREASE = re.compile(r"not.*brand", re.IGNORECASE)
"""The made-up entry that browsers add to their brands so that nobody relies on the list."""

_SYSTEMS: Final = (
    ("Windows NT", "Windows"),
    ("Android", "Android"),
    ("iPhone OS", "iOS"),
    ("CPU OS", "iOS"),
    ("CrOS", "Chrome OS"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
)
"""(token, system), the first token found counts: Android says Linux too, iOS says Mac OS X."""

_BROWSERS: Final = (
    ("Edg", "Microsoft Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Google Chrome"),
    ("Chrome/", "Google Chrome"),
    ("Safari/", "Safari"),
)
"""(token, brand), the first token found counts: nearly all say Safari too, and most say Chrome."""


class Agent(NamedTuple):
    """What a user agent string says; "" and 0 where it says nothing."""

    os: str
    os_version: int
    browser: str


def agent_of(user_agent: str) -> Agent:
    """Returns what ``device.ua`` says."""
    system, version = "", 0
    for token, name in _SYSTEMS:
        at = user_agent.find(token)
        if at >= 0:
            # Where something else follows (the processor, after CrOS) there is no version.
            system, version = name, packed_version(user_agent[at + len(token) :])
            break
    browser = next((brand for token, brand in _BROWSERS if token in user_agent), "")
    return Agent(system, version, browser)


def packed_version(text: str) -> int:
    """Returns major << 32 | minor << 16 | patch of ``14.4.1`` or ``14_4_1``, 0 if it is none.

    What follows the leading numbers is ignored, and a part beyond 65,535 counts as that.
    """
    found = _LEADING.match(text)
    if found is None:
        return 0
    return packed_parts(_SEPARATOR.split(found[1])[:3])


def packed_parts(parts: Sequence[str]) -> int:
    """Returns the packed version of its parts (``device.sua.platform.version``), 0 if none is."""
    packed = 0
    for place, part in enumerate(parts[:3]):
        if not (part.isascii() and part.isdigit()):
            break
        # 30 digits are a version for nobody: int() of a long text is slow.
        number = min(int(part), VERSION_PART_MAX) if len(part) < 10 else VERSION_PART_MAX
        packed |= number << (32 - 16 * place)
    return packed


def brand_of(brands: Sequence[str]) -> str:
    """Returns the browser among the brands of ``device.sua.browsers``, "" if none is one.

    The engine (Chromium) is named only where no other brand is.
    """
    real = [brand for brand in brands if brand and not _GREASE.search(brand)]
    named = [brand for brand in real if brand.lower() != "chromium"]
    return (named or real or [""])[0]
