"""Counting: what became of the bids of each line item and creative, and how exchanges behave."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ledger.view import ActivityView, ExchangeView
from market.events import EventKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ledger.notice_price import Fault
    from ledger.reservation import Reservation

_IMPRESSION: Final = 1 << EventKind.IMPRESSION | 1 << EventKind.BILLING
_WIN: Final = _IMPRESSION | 1 << EventKind.WIN


class _Activity:
    __slots__ = (
        "bids",
        "clicks",
        "conversion_value_micros",
        "conversions",
        "expected_clicks",
        "expected_conversions",
        "impressions",
        "spend_micros",
        "wins",
    )

    def __init__(self) -> None:
        self.bids = 0
        self.wins = 0
        self.impressions = 0
        self.clicks = 0
        self.conversions = 0
        self.conversion_value_micros = 0
        self.spend_micros = 0
        self.expected_clicks = 0.0
        self.expected_conversions = 0.0


class Tally:
    """Counters by line item and by creative."""

    def __init__(self) -> None:
        """Starts at zero."""
        self._line_items: dict[int, _Activity] = {}
        self._creatives: dict[int, _Activity] = {}

    def add_bids(self, bids: Iterable[tuple[int, int]]) -> None:
        """Counts bids, given as (line item id, creative id)."""
        for (line_item_id, creative_id), count in Counter(bids).items():
            _of(self._line_items, line_item_id).bids += count
            _of(self._creatives, creative_id).bids += count

    def add_notice(
        self, bid: Reservation, kind: int, seen: int, amount_micros: int, value_micros: int
    ) -> None:
        """Counts one notice.

        Args:
            bid: whose notice it is.
            kind: an ``EventKind``.
            seen: bit k set: the bid had a notice of kind k before; wins, impressions and clicks
                are counted once a bid.
            amount_micros: what it was charged, 0 if nothing.
            value_micros: of a conversion.
        """
        bit = 1 << kind
        for of, key in (
            (self._line_items, bid.line_item_id),
            (self._creatives, bid.creative_id),
        ):
            activity = _of(of, key)
            if bit & _WIN and not seen & _WIN:
                activity.wins += 1
            if bit & _IMPRESSION and not seen & _IMPRESSION:
                activity.impressions += 1
                activity.expected_clicks += bid.pctr
                activity.expected_conversions += bid.pctr * bid.pcvr
            activity.spend_micros += amount_micros
            if kind == EventKind.CLICK:
                activity.clicks += 1
            elif kind == EventKind.CONVERSION:
                activity.conversions += 1
                activity.conversion_value_micros += value_micros

    def line_items(self) -> tuple[ActivityView, ...]:
        """Returns the counters of every line item, ordered by id."""
        return _views(self._line_items)

    def restore(
        self, line_items: Iterable[ActivityView], creatives: Iterable[ActivityView]
    ) -> None:
        """Takes counters that ``line_items`` and ``creatives`` returned."""
        for views, of in ((line_items, self._line_items), (creatives, self._creatives)):
            for view in views:
                activity = _of(of, view.id)
                for name in _Activity.__slots__:
                    setattr(activity, name, getattr(view, name))

    def creatives(self) -> tuple[ActivityView, ...]:
        """Returns the counters of every creative, ordered by id."""
        return _views(self._creatives)


class Behaviour:
    """Counters of one exchange; see ``ExchangeView``."""

    __slots__ = (
        "audits",
        "disputed",
        "duplicates_ignored",
        "faults",
        "forged",
        "late",
        "macros_ignored",
        "malformed",
        "reordered",
        "too_old",
        "unknown",
        "wrong_kind",
    )

    def __init__(self) -> None:
        """Starts at zero."""
        self.disputed = 0
        self.late = 0
        self.duplicates_ignored = 0
        self.unknown = 0
        self.too_old = 0
        self.malformed = 0
        self.forged = 0
        self.audits = 0
        self.wrong_kind = 0
        self.reordered = 0
        self.macros_ignored = 0
        self.faults: Counter[str] = Counter()

    def count_malformed(self, fault: Fault) -> None:
        """Counts a notice whose macros cannot be read, by what is wrong."""
        self.malformed += 1
        self.faults[fault.value] += 1


def exchange_views(
    behaviours: Iterable[tuple[int, Behaviour]], names: Mapping[int, str]
) -> tuple[ExchangeView, ...]:
    """Returns the counters of exchanges given by id; id 0 stands for notices nobody signed."""
    views = (
        ExchangeView(
            name="" if exchange == 0 else names.get(exchange, str(exchange)),
            disputed=behaviour.disputed,
            late=behaviour.late,
            duplicates_ignored=behaviour.duplicates_ignored,
            unknown=behaviour.unknown,
            too_old=behaviour.too_old,
            malformed=behaviour.malformed,
            forged=behaviour.forged,
            audits=behaviour.audits,
            wrong_kind=behaviour.wrong_kind,
            reordered=behaviour.reordered,
            macros_ignored=behaviour.macros_ignored,
            faults=dict(behaviour.faults),
        )
        for exchange, behaviour in behaviours
    )
    return tuple(sorted(views, key=lambda view: view.name))


def _of(activities: dict[int, _Activity], key: int) -> _Activity:
    activity = activities.get(key)
    if activity is None:
        activity = activities[key] = _Activity()
    return activity


def _views(activities: dict[int, _Activity]) -> tuple[ActivityView, ...]:
    return tuple(
        ActivityView(
            id=key,
            bids=activity.bids,
            wins=activity.wins,
            impressions=activity.impressions,
            clicks=activity.clicks,
            conversions=activity.conversions,
            conversion_value_micros=activity.conversion_value_micros,
            spend_micros=activity.spend_micros,
            expected_clicks=activity.expected_clicks,
            expected_conversions=activity.expected_conversions,
        )
        for key, activity in sorted(activities.items())
    )
