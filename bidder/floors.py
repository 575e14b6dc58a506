"""Floors and deals as rows: what a bid must reach, and on which terms.

Order of the floors (OpenRTB 2.6 implementation guide, section 7.11): the deal's own guidance, else
that of the video or audio object, else ``imp.bidfloor``. Here they are only laid out; the kernel
decides, because a floor by duration depends on the creative that is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from market.exchange import auction_type_of
from market.money import CURRENCY_NUMBERS, price_from_wire
from market.openrtb_reading import number_text, texts

if TYPE_CHECKING:
    from bidder.codes import CodeBook
    from market.exchange import ExchangeProfile
    from market.openrtb import Deal, DurFloors, Imp

DealRow: TypeAlias = tuple[int, ...]
"""Values of one deal in the order of ``market.opportunity.DEAL_DTYPE``."""

_SECONDS_MAX = 86_400
_NOTHING_TIMED = (0, 0, 0, 0, 0, 0)


class DurationFloors(NamedTuple):
    """Floors by duration of one object: a price per second, and a slice of the code pool.

    The slice holds triples: shortest and longest duration in ms (0 = open), floor in micros CPM.
    """

    second_cpm_micros: int
    floor_first: int
    floor_count: int


_NONE = DurationFloors(0, 0, 0)


def duration_floors(
    mincpmpersec: float | None, durfloors: list[DurFloors] | None, pool: list[int]
) -> DurationFloors | None:
    """Appends the triples to ``pool`` and returns them; None if a floor is negative."""
    if not mincpmpersec and not durfloors:
        return _NONE
    if mincpmpersec is not None and mincpmpersec < 0:
        return None
    first = len(pool)
    for floor in durfloors or ():
        if floor.bidfloor is not None and floor.bidfloor < 0:
            del pool[first:]
            return None
        pool += (
            _milliseconds(floor.mindur), _milliseconds(floor.maxdur),
            price_from_wire(floor.bidfloor or 0.0),
        )  # fmt: skip
    count = (len(pool) - first) // 3
    return DurationFloors(price_from_wire(mincpmpersec or 0.0), first if count else 0, count)


def imp_duration_floors(imp: Imp, pool: list[int]) -> tuple[int, ...] | str:
    """Returns the columns ``second_*`` and ``duration_floor_*`` of an imp, or the field at fault.

    They are by ``market.opportunity.FLOOR_FORMATS``: two prices a second, two places, two counts.
    """
    video, audio = imp.video, imp.audio
    if video is None and audio is None:
        return _NOTHING_TIMED
    found = [_NONE, _NONE]
    for k, (name, timed) in enumerate((("video", video), ("audio", audio))):
        if timed is None:
            continue
        floors = duration_floors(timed.mincpmpersec, timed.durfloors, pool)
        if floors is None:
            return f"imp.{name}.durfloors|mincpmpersec"
        found[k] = floors
    one, other = found
    return (
        one.second_cpm_micros, other.second_cpm_micros, one.floor_first, other.floor_first,
        one.floor_count, other.floor_count,
    )  # fmt: skip


def deal_row(
    deal: Deal, profile: ExchangeProfile, codes: CodeBook, pool: list[int]
) -> DealRow | None:
    """Returns the row of a deal, None for one that cannot be used.

    That is a deal without an id, with a negative floor, or of an auction type that the exchange's
    profile does not know. A deal's currency does not inherit: absent means USD.
    """
    name = number_text(deal.id)
    auction_type = 0 if deal.at is None else auction_type_of(deal.at, profile)
    if name is None or auction_type is None:
        return None
    if deal.bidfloor is not None and deal.bidfloor < 0:
        return None
    timed = duration_floors(deal.mincpmpersec, deal.durfloors, pool)
    if timed is None:
        return None
    seats, domains = texts(deal.wseat), texts(deal.wadomain)
    first = len(pool)
    pool += [codes[text] for text in (*seats, *domains)]
    return (
        codes[name],
        -1 if deal.bidfloor is None else price_from_wire(deal.bidfloor),
        currency_of(deal.bidfloorcur),
        auction_type, first, len(seats), first + len(seats), len(domains),
        timed.second_cpm_micros, timed.floor_first, timed.floor_count, int(deal.guar == 1),
    )  # fmt: skip


def currency_of(name: str | None) -> int:
    """Returns the ISO 4217 number of a floor's currency (absent: USD), 0 for an unknown one."""
    return CURRENCY_NUMBERS.get((name or "USD").strip().upper(), 0)


def _milliseconds(seconds: int | None) -> int:
    return min(max(seconds or 0, 0), _SECONDS_MAX) * 1000
