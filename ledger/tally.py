"""Counting: what became of the bids of each line item and creative, and how exchanges behave."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np

from ledger.kernels_tally import count_bids, count_one
from ledger.view import ActivityView, ExchangeView
from market.events import EventKind
from market.kernel import SameTypes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy.typing as npt

    from ledger.notice_price import Fault
    from ledger.reservation import Reservation

_IMPRESSION: Final = 1 << EventKind.IMPRESSION | 1 << EventKind.BILLING
_WIN: Final = _IMPRESSION | 1 << EventKind.WIN
_KEYS: Final = 256
_count_bids = SameTypes(count_bids)


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
        # Bids that were counted since somebody looked; see ``ledger.kernels_tally``.
        self._line_item_bids = np.zeros((1 + _KEYS, 2), np.int64)
        self._creative_bids = np.zeros((1 + _KEYS, 2), np.int64)

    def add_bids(self, events: npt.NDArray[np.void], became: npt.NDArray[np.uint8]) -> None:
        """Counts a worker's new bids that are no tests.

        Args:
            events: [N] of EVENT_DTYPE.
            became: [N], NEW or REPEAT of ``ledger.kernels_budget``.
        """
        done = 0
        while True:
            done = _count_bids(events, became, self._line_item_bids, self._creative_bids, done)
            if done == events.shape[0]:
                return
            self._line_item_bids = _doubled(self._line_item_bids)
            self._creative_bids = _doubled(self._creative_bids)

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
        _take_over(self._line_item_bids, self._line_items)
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
        _take_over(self._creative_bids, self._creatives)
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


def _doubled(table: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    bigger = np.zeros((2 * table.shape[0] - 1, 2), np.int64)
    rows = table[1:]
    for key, count in rows[rows[:, 0] > 0].tolist():
        count_one(bigger, key - 1, count)
    return bigger


def _take_over(table: npt.NDArray[np.int64], activities: dict[int, _Activity]) -> None:
    rows = table[1:]
    for key, count in rows[rows[:, 1] > 0].tolist():
        _of(activities, key - 1).bids += count
    rows[:, 1] = 0


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
