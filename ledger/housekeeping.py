"""Doing chores, in the thread that has the engine; what they are is in ``ledger.chores``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ledger.analytics import EngineAnalytics
from ledger.chores import Chore, Done, Erase, Mark, Retain, RolledUp, RollUp
from ledger.erasure import erase, erase_again
from ledger.fraud.marking import mark
from ledger.rollup import build_changed, freshness
from ledger.store_retention import retain

if TYPE_CHECKING:
    from ledger.analytics import AnalyticsEngine


class Housekeeper:
    """Keeps one engine in order; used by the engine's thread."""

    def __init__(self, engine: AnalyticsEngine) -> None:
        """Takes the engine."""
        self._engine = engine

    def do(self, chore: Chore) -> Done:
        """Does one chore and says what was done.

        Raises:
            NotReady: the engine cannot now; the same chore does the rest.
            BadInput: the chore breaks a rule.
        """
        match chore:
            case RollUp():
                return RolledUp(build_changed(self._engine))
            case Retain():
                erase_again(self._engine)
                return retain(self._engine, chore.today, chore.keep)
            case Erase():
                return erase(self._engine, chore.user_keys, chore.now_ms)
            case Mark():
                return mark(self._engine, chore.marking)

    def upkeep(self) -> bool:
        """Does a little of what always needs doing; returns whether there was anything.

        Events of erased users that were loaded since the last roll-up of their day lose their user
        first; then the oldest changed day is computed. What slips between the two, where others
        load as well, is found by ``Retain``, which looks at all days.

        Raises:
            NotReady: the engine cannot now.
        """
        changed = freshness(EngineAnalytics(self._engine)).changed
        erased = erase_again(self._engine, changed)
        return bool(build_changed(self._engine, 1)) or erased.events > 0
