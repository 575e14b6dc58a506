"""The privacy signals of a request: read from where OpenRTB 2.6 keeps them and from where 2.5 did.

Where a text stands in both places (``ext`` is the older), both are kept: both must permit.
Source: OpenRTB 2.6 sections 3.2.3, 3.2.18 and 3.2.20.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from bidder.privacy.bits import TEXT_MAX
from bidder.privacy.identity import is_zeroed
from market.openrtb_reading import code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from market.openrtb import BidRequest

PRIVACY_FIELDS: Final = (
    "device.dnt", "device.lmt", "regs.coppa",
    "regs.gdpr", "regs.ext.gdpr", "user.consent", "user.ext.consent",
    "regs.us_privacy", "regs.ext.us_privacy",
    "regs.gpp", "regs.ext.gpp", "regs.gpp_sid", "regs.ext.gpp_sid",
)  # fmt: skip
"""The request fields whose values decide a permission, all of them but `ZEROED_FIELDS`."""

ZEROED_FIELDS: Final = ("device.ifa",)
"""Fields of which a permission depends only on whether they are zeroed (`identity.is_zeroed`): a
memo over `PRIVACY_FIELDS` need not hold a line per user."""

_UNREADABLE: Final = "?"
_SECTIONS_MAX: Final = 32
"""Sections that are read as in force at once: usually one, rarely two."""


class Signals(NamedTuple):
    """What a request says on privacy, and nothing else of it: equal signals, equal permission.

    Texts and section lists come once per place where they were found, empty ones left out.
    """

    dnt: bool = False
    lmt: bool = False
    is_ifa_zeroed: bool = False
    coppa: bool = False
    gdpr: bool | None = None
    consents: tuple[str, ...] = ()
    us_privacy: tuple[str, ...] = ()
    gpp: tuple[str, ...] = ()
    gpp_sid: tuple[tuple[int, ...], ...] = ()
    """Section ids in force; 0, which is none, for an entry that cannot be read."""


def signals_of(request: BidRequest) -> Signals:
    """Returns the privacy signals of a request, from their 2.6 and their 2.5 places."""
    device, regs, user = request.device, request.regs, request.user
    dnt = lmt = is_ifa_zeroed = False
    if device is not None:
        dnt, lmt, is_ifa_zeroed = bool(device.dnt), bool(device.lmt), is_zeroed(device.ifa)
    consents: tuple[str, ...] = ()
    if user is not None:
        consents = _texts(user.consent, None if user.ext is None else user.ext.consent)
    if regs is None:
        return Signals(dnt, lmt, is_ifa_zeroed, False, None, consents)
    ext = regs.ext
    if ext is None:
        return Signals(
            dnt, lmt, is_ifa_zeroed, bool(regs.coppa),
            None if regs.gdpr is None else regs.gdpr != 0, consents,
            _texts(regs.us_privacy, None), _texts(regs.gpp, None), _sections(regs.gpp_sid, None),
        )  # fmt: skip
    said = [gdpr for gdpr in (regs.gdpr, ext.gdpr) if gdpr is not None]
    return Signals(
        dnt, lmt, is_ifa_zeroed, bool(regs.coppa), any(said) if said else None, consents,
        _texts(regs.us_privacy, ext.us_privacy), _texts(regs.gpp, ext.gpp),
        _sections(regs.gpp_sid, ext.gpp_sid),
    )  # fmt: skip


def _texts(newer: str | None, older: str | None) -> tuple[str, ...]:
    """Returns the texts that say something, each once; over-long ones as one that is unreadable."""
    if newer and len(newer) > TEXT_MAX:
        newer = _UNREADABLE
    if not older or older == newer:
        return (newer,) if newer else ()
    if len(older) > TEXT_MAX:
        older = _UNREADABLE
    return (newer, older) if newer else (older,)


_Entries: TypeAlias = "Sequence[str | int] | None"


def _sections(newer: _Entries, older: _Entries) -> tuple[tuple[int, ...], ...]:
    """Returns each ``gpp_sid`` that names sections.

    Unlike in other arrays, an entry that is no section id is not lost: it becomes 0.
    """
    if not newer and not older:
        return ()
    return tuple([_ids(each) for each in (newer, older) if each])


def _ids(entries: Sequence[str | int]) -> tuple[int, ...]:
    if len(entries) > _SECTIONS_MAX:
        return (0,)
    return tuple([code(entry) or 0 for entry in entries])
