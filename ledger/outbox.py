"""The outbox: credits that workers are due, added up until they fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from market.state import CREDIT_DTYPE, CreditKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from ledger.lease import Credit

_NOTHING: Final = np.zeros(0, CREDIT_DTYPE)


class Outbox:
    """Credits by worker; those of one kind and key are one, but for expired frequency counts."""

    def __init__(self) -> None:
        """Starts empty."""
        self._due: dict[int, dict[tuple[CreditKind, int], int]] = {}
        self._blocks: dict[int, list[npt.NDArray[np.void]]] = {}

    def add(self, credits_due: Iterable[Credit]) -> None:
        """Takes credits that may leave."""
        for worker, kind, key, amount in credits_due:
            due = self._due.setdefault(worker, {})
            name = kind, key
            due[name] = due.get(name, 0) + amount

    def add_caps(self, caps: npt.NDArray[np.void]) -> None:
        """Takes frequency counts that may leave, one each.

        Args:
            caps: [N] of ``ledger.kernels_budget.CAP_BACK_DTYPE``.
        """
        for worker in np.unique(caps["worker"]).tolist():
            own = caps["key"][caps["worker"] == worker]
            block = np.zeros(own.shape[0], CREDIT_DTYPE)
            block["key"], block["amount"], block["kind"] = own, 1, CreditKind.CAP
            self._blocks.setdefault(worker, []).append(block)

    def take(self, worker: int, count_max: int) -> npt.NDArray[np.void]:
        """Returns [N] of CREDIT_DTYPE that ``worker`` is due, at most so many; each only once."""
        due, blocks = self._due.get(worker), self._blocks.get(worker)
        if not due and not blocks:
            return _NOTHING
        due = due or {}
        names = [name for name, _ in zip(due, range(count_max), strict=False)]
        amounts = [(key, due.pop((kind, key)), kind) for kind, key in names]
        taken = [np.array([credit for credit in amounts if credit[1]], CREDIT_DTYPE)]
        room = count_max - taken[0].shape[0]
        while blocks and room:
            taken.append(blocks[0][:room])
            room -= taken[-1].shape[0]
            blocks[0] = blocks[0][taken[-1].shape[0] :]
            if blocks[0].shape[0] == 0:
                blocks.pop(0)
        return np.concatenate(taken)

    def drop_money(self, worker: int) -> None:
        """Forgets the budget credits of a worker whose lease is taken back."""
        due = self._due.get(worker, {})
        self._due[worker] = {name: due[name] for name in due if name[0] is not CreditKind.BUDGET}
