"""The outbox: credits that workers are due, added up until they fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from market.state import CREDIT_DTYPE, CreditKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from ledger.lease import Credit


class Outbox:
    """Credits by worker; those of one kind and key are one."""

    def __init__(self) -> None:
        """Starts empty."""
        self._due: dict[int, dict[tuple[CreditKind, int], int]] = {}

    def add(self, credits_due: Iterable[Credit]) -> None:
        """Takes credits that may leave."""
        for worker, kind, key, amount in credits_due:
            due = self._due.setdefault(worker, {})
            name = kind, key
            due[name] = due.get(name, 0) + amount

    def take(self, worker: int, count_max: int) -> npt.NDArray[np.void]:
        """Returns [N] of CREDIT_DTYPE that ``worker`` is due, at most so many; each only once."""
        due = self._due.get(worker)
        if not due:
            return np.zeros(0, CREDIT_DTYPE)
        names = [name for name, _ in zip(due, range(count_max), strict=False)]
        amounts = [(key, due.pop((kind, key)), kind) for kind, key in names]
        return np.array([credit for credit in amounts if credit[1]], CREDIT_DTYPE)

    def drop_money(self, worker: int) -> None:
        """Forgets the budget credits of a worker whose lease is taken back."""
        due = self._due.get(worker, {})
        self._due[worker] = {name: due[name] for name in due if name[0] is not CreditKind.BUDGET}
