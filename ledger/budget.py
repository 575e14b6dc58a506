"""The owner of the budgets: lease, reserve, settle or expire. Pure state, no clock, no disk.

Per budget: a limit B, what was spent on time S_on, what late wins cost S_late, and what each worker
holds. At every moment S_on + sum(held) <= B, so S_on never exceeds B, and the overspend
max(0, S_on + S_late - B) is at most S_late: zero as long as no win comes after its reservation's
deadline, whatever crashes, repeats or is reordered. A limit that is lowered to B' below that is
kept as soon as it can be: from then on S_on + sum(held) only falls until it is B', because what
open bids give back is withheld. An adjustment counts as spent (S_adj, which may be below 0):
S_on + S_adj + sum(held) <= B whenever money is leased.

A worker reserves from what it holds, in memory; its bid event tells the owner. From then on the
reservation's life is decided here alone, and every micro that a worker gets back is a ``Credit``.

The owner is driven from ``ledger.record``, which writes the log first: what a method here returns
may be acted on only once the log's commit came back. Given the same calls the same state comes out,
so a replay of the log is how it is rebuilt.

Source: two-phase transfers as in TigerBeetle's design notes; leases instead of polled totals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from ledger.account import (
    ALL,
    RESERVATIONS_PER_LEASE,
    AccountBook,
    BudgetAccount,
    BudgetTotals,
    Charge,
    LeaseAccount,
    Position,
    Released,
    Reserved,
    Settlement,
    lease_amounts,
)
from ledger.kernels_budget import (
    AT,
    CAP_BACK_DTYPE,
    IS_TOUCHED,
    NEW,
    REPEAT,
    UNFUNDED,
    release,
    reserve,
)
from ledger.kernels_reservation import NO_ACCOUNT
from ledger.lease import Allotment, Credit, Lease
from ledger.reservation import (
    BidsState,
    Reservation,
    Reservations,
    ReservationState,
    reservation_of,
)
from market.events import EVENT_DTYPE
from market.kernel import SameTypes
from market.state import CreditKind

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

IDLE_MS: Final = 1_000
"""A worker that reserved nothing of a budget for so long may lend its lease to one that could."""

_RELEASED_AT_ONCE: Final = 8_192
_reserve = SameTypes(reserve)
_release = SameTypes(release)

_OPEN, _RELEASED, _CHARGED = (
    int(ReservationState.OPEN),
    int(ReservationState.RELEASED),
    int(ReservationState.CHARGED),
)


class BudgetState(msgspec.Struct, frozen=True, array_like=True):
    """One budget as a checkpoint keeps it.

    Attributes:
        leases: (worker, held, open, time of its last bid).
    """

    budget_id: int
    spent_on_time_micros: int
    spent_late_micros: int
    adjusted_micros: int
    reserved_micros_max: int
    open_count: int
    leases: list[tuple[int, int, int, int]]


class LedgerState(msgspec.Struct, frozen=True):
    """What a replay comes to: all of a ``BudgetLedger`` that the log says."""

    budgets: list[BudgetState]
    bids: BidsState
    deadline_ms_max: dict[int, int]
    unfunded_count: int


class BudgetLedger:
    """Every budget, lease and reservation.

    Attributes:
        bids: the reservations, by slot.
        unfunded_count: bids that took more than their worker held: a worker that breaks the rules.
        is_shared: other machines draw on the budgets, too: each has its allotment for its limit.
        may_lease: whether ``top_up`` grants anything.
    """

    def __init__(self, bid_capacity: int = 4_096) -> None:
        """Starts without budgets, with room for so many bids; it grows as needed."""
        self.bids = Reservations(bid_capacity)
        self.unfunded_count = 0
        self.is_shared = False
        self.may_lease = True
        self._budgets: dict[int, BudgetAccount] = {}
        self._ids: list[int] = []
        self._book = AccountBook()
        self._frozen: set[tuple[int, int]] = set()
        self._suspended: set[int] = set()
        self._deadline_ms_max = np.zeros(16, np.int64)
        self._progress = np.zeros(2, np.int64)

    # What the snapshot says.

    def define(self, budgets: npt.NDArray[np.void]) -> set[int]:
        """Takes budgets, [B] of ``market.snapshot.BUDGET_DTYPE``; known ones get the new limit.

        Returns the workers that hold a lease in a budget whose limit was lowered below what is
        spent and held: taking their leases back (``close_worker``) keeps the new limit.
        """
        holders: set[int] = set()
        for budget_id, limit_micros, end_at_ms in zip(
            budgets["budget_id"].tolist(),
            budgets["limit_micros"].tolist(),
            budgets["end_at_ms"].tolist(),
            strict=True,
        ):
            budget = self._budget(budget_id)
            known = budget.is_defined, budget.limit_micros, budget.end_at_ms
            if known == (True, limit_micros, end_at_ms):
                continue
            budget.is_defined = True
            is_lower = limit_micros < budget.limit_micros
            budget.limit_micros = limit_micros
            budget.end_at_ms = end_at_ms
            budget.is_touched = True
            if is_lower and budget.over_micros() > 0:
                holders |= _holders(budget)
        return holders

    def allot(self, allotments: Iterable[Allotment]) -> set[int]:
        """Takes what this machine may spend and hold of budgets that it shares with others.

        From the first call on a budget without an allotment has none of its limit.

        Returns the workers that hold more than a lowered one allows, as ``define``.
        """
        if not self.is_shared:
            self.is_shared = True
            for budget in self._budgets.values():
                budget.allotted_micros = 0
        holders: set[int] = set()
        for budget_id, allotted_micros in allotments:
            budget = self._budget(budget_id)
            is_lower = allotted_micros < budget.allotted_micros
            budget.allotted_micros = allotted_micros
            budget.is_touched = True
            if is_lower and budget.over_micros() > 0:
                holders |= _holders(budget)
        return holders

    def allotments(self) -> tuple[Allotment, ...]:
        """Returns every allotment, by budget id; none where budgets are this machine's alone."""
        return tuple(
            Allotment(budget_id, budget.allotted_micros)
            for budget_id, budget in sorted(self._budgets.items())
            if budget.allotted_micros != ALL
        )

    # Leases.

    def top_up(self, now_ms: int, worker_count: int) -> tuple[Lease, ...]:
        """Returns the leases to grant now, ordered by budget id, then worker.

        What each gets is ``lease_amounts``; budgets whose end has passed grant nothing.
        """
        granted: list[Lease] = []
        if not self.may_lease:
            return ()
        touched = self._book.budgets[:, IS_TOUCHED]
        for budget_id in sorted(self._ids[row] for row in np.flatnonzero(touched).tolist()):
            budget = self._budgets[budget_id]
            if budget.end_at_ms <= now_ms:
                continue
            available = {
                worker: lease.available_micros() if (lease := budget.leases.get(worker)) else 0
                for worker in range(worker_count)
                if worker not in self._suspended
            }
            granted += [
                Lease(worker, budget_id, amount)
                for worker, amount in lease_amounts(
                    budget.free_micros(), budget.reserved_micros_max, available, worker_count
                )
            ]
        touched[:] = 0
        return tuple(granted)

    def stranding(self, now_ms: int, worker_count: int) -> set[int]:
        """Returns the workers whose leases keep money from others: ``close_worker`` frees it.

        Connections spread unevenly over workers, and a worker that gets no request spends nothing.
        Where a budget has less than a few reservations left for one worker and nothing free,
        others that hold more than that and reserved nothing at all for ``IDLE_MS`` are named (to
        take the leases of a busy one would interrupt its other bids). The next ``top_up`` gives
        each its share of what came back, so every turn strands less.
        """
        found: set[int] = set()
        idle = set(range(worker_count))
        for budget in self._budgets.values():
            idle -= {w for w, lease in budget.leases.items() if lease.used_ms + IDLE_MS > now_ms}
        if not idle:
            return found
        for budget in self._budgets.values():
            least = RESERVATIONS_PER_LEASE * budget.reserved_micros_max
            if least == 0 or budget.end_at_ms <= now_ms or budget.free_micros() >= least:
                continue
            workers = [w for w in range(worker_count) if w not in self._suspended]
            leases = [(w, self._lease(budget, w)) for w in workers]
            if all(lease.available_micros() >= least for _, lease in leases):
                continue
            found.update(
                worker
                for worker, lease in leases
                if lease.available_micros() > least and worker in idle
            )
        return found

    def grant(self, leases: Iterable[Lease]) -> list[Credit]:
        """Puts leases on the workers' accounts; the credits are what the workers are told."""
        told: list[Credit] = []
        for worker, budget_id, amount_micros in leases:
            budget = self._budget(budget_id)
            budget.held_micros += amount_micros
            self._lease(budget, worker).held_micros += amount_micros
            told.append(Credit(worker, CreditKind.BUDGET, budget_id, amount_micros))
        return told

    def suspend_worker(self, worker: int) -> None:
        """Grants nothing to ``worker`` until ``resume_worker``."""
        self._suspended.add(worker)

    def resume_worker(self, worker: int) -> None:
        """Grants leases to ``worker`` again."""
        self._suspended.discard(worker)
        self._book.budgets[:, IS_TOUCHED] = 1

    def close_worker(self, worker: int, until_ms: int) -> None:
        """Freezes what ``worker`` holds beyond its open reservations; ``thaw`` gives it back.

        Call it when every bid of the worker is known and it can no longer use what it had: it
        crashed, or took a RESET credit. Its reservations live on, and settle as ever. A bid that
        comes all the same is covered by what is frozen still, and that much is not given back;
        after ``give_back`` nothing covers it, so it is unfunded and its win a late one.

        Args:
            worker: index of the worker.
            until_ms: the last deadline that a bid which nobody told us of could have.
        """
        for budget_id, budget in self._budgets.items():
            lease = budget.leases.get(worker)
            if lease is None or lease.held_micros == lease.open_micros:
                continue
            lease.frozen_micros = lease.held_micros - lease.open_micros
            lease.frozen_until_ms = max(lease.frozen_until_ms, until_ms)
            self._frozen.add((budget_id, worker))
            budget.is_touched = True

    def thaw(self, now_ms: int) -> tuple[Lease, ...]:
        """Returns the frozen leases whose time is over, for ``give_back``."""
        over: list[Lease] = []
        for budget_id, worker in sorted(self._frozen):
            lease = self._budgets[budget_id].leases[worker]
            if lease.frozen_until_ms < now_ms:
                self._frozen.discard((budget_id, worker))
                if lease.frozen_micros > 0:
                    over.append(Lease(worker, budget_id, lease.frozen_micros))
        return tuple(over)

    def give_back(self, leases: Iterable[Lease]) -> None:
        """Takes leases off the workers' accounts: their money is free again."""
        for worker, budget_id, amount_micros in leases:
            budget = self._budget(budget_id)
            lease = self._lease(budget, worker)
            budget.held_micros -= amount_micros
            lease.held_micros -= amount_micros
            lease.frozen_micros = max(0, lease.frozen_micros - amount_micros)
            budget.is_touched = True

    def withhold(self, told: Iterable[Credit]) -> tuple[list[Credit], tuple[Lease, ...]]:
        """Keeps back what credits would give of budgets that are above their limit.

        A limit may be lowered while its money is in open bids, and a late win or an adjustment may
        come when everything is leased. What such bids give back is then not bid again: it leaves
        the worker's lease instead of going to the worker.

        Args:
            told: credits that no worker has been told of yet.

        Returns:
            The credits that are left, and what left the leases. The caller says the latter in the
            log, and a replay takes it off by ``give_back``.
        """
        left: list[Credit] = []
        kept: list[Lease] = []
        for credit in told:
            worker, kind, key, amount = credit
            budget = self._budgets.get(key) if kind == CreditKind.BUDGET else None
            if budget is None or not budget.is_defined or budget.over_micros() <= 0:
                left.append(credit)
                continue
            taken = min(budget.over_micros(), amount)
            budget.held_micros -= taken
            self._lease(budget, worker).held_micros -= taken
            kept.append(Lease(worker, key, taken))
            if taken < amount:
                left.append(Credit(worker, kind, key, amount - taken))
        return left, tuple(kept)

    def adjust(self, budget_ids: Iterable[int], amount_micros: int) -> None:
        """Books a correction: above 0 takes money from the budgets, below 0 gives it back."""
        for budget_id in budget_ids:
            budget = self._budget(budget_id)
            budget.adjusted_micros += amount_micros
            budget.is_touched = True

    def missing_leases(self) -> tuple[Lease, ...]:
        """Returns what leases lack of their open reservations: 0 unless frames of a log were lost.

        Granted without telling the workers, it makes sums right again, on the side of caution.
        """
        return tuple(
            Lease(worker, budget_id, lease.open_micros - lease.held_micros)
            for budget_id, budget in sorted(self._budgets.items())
            for worker, lease in sorted(budget.leases.items())
            if lease.held_micros < lease.open_micros
        )

    def deadline_ms_max(self, worker: int) -> int:
        """Returns the last deadline of any bid that ``worker`` made; 0 if it made none."""
        latest_ms = self._deadline_ms_max
        return int(latest_ms[worker]) if worker < latest_ms.shape[0] else 0

    def workers(self) -> list[int]:
        """Returns the workers that hold money, in order."""
        return sorted(
            {
                worker
                for budget in self._budgets.values()
                for worker, lease in budget.leases.items()
                if lease.held_micros
            }
        )

    # Reservations.

    def reserve(self, events: npt.NDArray[np.void], now_ms: int) -> Reserved:
        """Takes a worker's events, [N] of EVENT_DTYPE.

        A bid that is known already changes nothing here. Either a ring was read again after a
        crash, or the same request was answered twice within a millisecond, which makes the same bid
        id twice: then its worker took the money twice, and ``Reserved.repeats`` are the credits
        that bring it back to what it holds. One that takes more than its worker holds is not
        reserved: its win would be paid as a late one. Events that are no bids reserve nothing and
        count as new.
        """
        became, repeats = self.reserve_block(events, now_ms)
        return Reserved(np.flatnonzero(became == NEW).tolist(), repeats)

    def reserve_block(
        self, events: npt.NDArray[np.void], now_ms: int
    ) -> tuple[npt.NDArray[np.uint8], list[Credit]]:
        """Does what ``reserve`` does; returns [N] of NEW or REPEAT, and the repeats' credits."""
        if not events.flags.writeable:
            events = np.frombuffer(bytearray(events.tobytes()), EVENT_DTYPE)
        self._know_worker(int(events["worker"].max(initial=0)))
        became = np.empty(events.shape[0], np.uint8)
        self._progress[:] = 0
        while why := _reserve(
            self.bids.pool, self._book.arrays, events, now_ms, self._deadline_ms_max, became,
            self._progress,
        ):  # fmt: skip
            if why == NO_ACCOUNT:
                at = int(self._progress[AT])
                self._open_account(events[at : at + 1])
            else:
                self.bids.go_on(why)
        self.unfunded_count += int(self._progress[UNFUNDED])
        repeats: list[Credit] = []
        for i in np.flatnonzero(became == REPEAT).tolist():
            event = events[i : i + 1].tobytes()
            repeats += _taken_by(int(events["worker"][i]), reservation_of(event))
        return became, repeats

    def judge(self, slot: int, bid: Reservation, amount_micros: int, now_ms: int) -> Settlement:
        """Returns what a charging notice for a known bid does; changes nothing."""
        state = self.bids.state[slot]
        if bid.is_test:
            return Settlement(Charge.TEST, 0)
        if state == _CHARGED:
            return Settlement(Charge.DUPLICATE, 0)
        if amount_micros > bid.reserved_micros:
            return Settlement(Charge.DISPUTED, 0)
        is_on_time = state == _OPEN and now_ms <= bid.deadline_ms
        return Settlement(Charge.ON_TIME if is_on_time else Charge.LATE, amount_micros)

    def judge_unknown(self, bid: Reservation, amount_micros: int, now_ms: int) -> Settlement:
        """Returns the same for a bid that is only known from its token.

        Its event was lost with the machine's power, or forgotten long after its deadline. On time
        it is paid from what its crashed worker's leases keep frozen for just that.
        """
        if bid.is_test:
            return Settlement(Charge.TEST, 0)
        if amount_micros > bid.reserved_micros:
            return Settlement(Charge.DISPUTED, 0)
        leases = [self._budget(budget_id).leases.get(bid.worker) for budget_id in bid.budgets]
        is_on_time = (
            bool(leases)
            and now_ms <= bid.deadline_ms
            and all(lease is not None and lease.frozen_micros >= amount_micros for lease in leases)
        )
        return Settlement(Charge.ON_TIME if is_on_time else Charge.LATE, amount_micros)

    def is_charged(self, slot: int) -> bool:
        """Returns whether the bid was settled, for good."""
        return self.bids.state[slot] == _CHARGED

    def settle(
        self, slot: int, bid: Reservation, amount_micros: int, *, is_late: bool
    ) -> list[Credit]:
        """Moves the money of a notice that ``judge`` said is charged."""
        bids = self.bids
        was_open = bids.state[slot] == _OPEN
        back = bid.reserved_micros - amount_micros
        told: list[Credit] = []
        for budget_id in bid.budgets:
            budget = self._budget(budget_id)
            lease = self._lease(budget, bid.worker)
            if was_open:
                budget.open_count -= 1
                lease.open_micros -= bid.reserved_micros
                returned = bid.reserved_micros if is_late else back
                if returned:
                    told.append(Credit(bid.worker, CreditKind.BUDGET, budget_id, returned))
            if is_late:
                budget.spent_late_micros += amount_micros
            else:
                budget.spent_on_time_micros += amount_micros
                budget.held_micros -= amount_micros
                lease.held_micros -= amount_micros
                if not was_open:
                    lease.frozen_micros = max(0, lease.frozen_micros - amount_micros)
            budget.is_touched = True
        if bids.state[slot] == _RELEASED and is_late:
            # The release took the counts back, and the impression was shown after all.
            told += [Credit(bid.worker, CreditKind.CAP, key, -1) for key in bid.caps]
        bids.close(slot, ReservationState.CHARGED)
        return told

    def release(self, slot: int) -> list[Credit]:
        """Gives an open reservation back to its worker: lost, or expired. Else does nothing."""
        if self.bids.state[slot] != _OPEN:
            return []
        released = self._release(np.array([slot]), withholds=False)
        return released.told + _caps_back(released.caps)

    def expire(self, now_ms: int) -> tuple[int, list[Credit]]:
        """Releases every open reservation whose deadline is before ``now_ms``.

        Returns how many there were, and the credits. All notices that came by then must have been
        settled before: this is the watermark that makes the money safe to use again.
        """
        released = self.release_due(now_ms, withholds=False)
        return released.bid_count, released.told + _caps_back(released.caps)

    def release_due(self, now_ms: int, *, withholds: bool) -> Released:
        """Does what ``expire`` does, many at once.

        Args:
            now_ms: the watermark.
            withholds: keep back what ``withhold`` would, of one bid after the other.
        """
        done = Released(0, [], [], [])
        while (slots := self.bids.due(now_ms, _RELEASED_AT_ONCE)).shape[0]:
            more = self._release(slots, withholds=withholds)
            done = Released(
                done.bid_count + more.bid_count, done.told + more.told, done.kept + more.kept,
                done.caps + more.caps,
            )  # fmt: skip
        return done

    def _release(self, slots: npt.NDArray[np.int64], *, withholds: bool) -> Released:
        leases = np.empty(3 * slots.shape[0], np.int64)
        caps = np.empty(3 * slots.shape[0], CAP_BACK_DTYPE)
        counts = np.zeros(2, np.int64)
        _release(self.bids.pool, self._book.arrays, slots, withholds, leases, caps, counts)
        owed, kept = self._book.collect(leases[: counts[0]])
        return Released(
            slots.shape[0],
            [Credit(worker, CreditKind.BUDGET, key, amount) for worker, key, amount in owed],
            [Lease(*each) for each in kept],
            [caps[: counts[1]]],
        )

    # What a replay comes to, as a value (``ledger.checkpoint``).

    def state(self) -> LedgerState:
        """Returns everything that a replay of the log makes; limits are none of it."""
        return LedgerState(
            budgets=[
                BudgetState(
                    budget_id, budget.spent_on_time_micros, budget.spent_late_micros,
                    budget.adjusted_micros, budget.reserved_micros_max, budget.open_count,
                    [
                        (worker, lease.held_micros, lease.open_micros, lease.used_ms)
                        for worker, lease in sorted(budget.leases.items())
                    ],
                )
                for budget_id, budget in sorted(self._budgets.items())
            ],
            bids=self.bids.state_of_all(),
            deadline_ms_max={
                worker: int(self._deadline_ms_max[worker])
                for worker in np.flatnonzero(self._deadline_ms_max).tolist()
            },
            unfunded_count=self.unfunded_count,
        )  # fmt: skip

    def restore(self, state: LedgerState) -> None:
        """Takes what ``state`` returned into a ledger that has nothing yet."""
        for saved in state.budgets:
            budget = self._budget(saved.budget_id)
            budget.spent_on_time_micros = saved.spent_on_time_micros
            budget.spent_late_micros = saved.spent_late_micros
            budget.adjusted_micros = saved.adjusted_micros
            budget.reserved_micros_max = saved.reserved_micros_max
            budget.open_count = saved.open_count
            for worker, held_micros, open_micros, used_ms in saved.leases:
                lease = self._lease(budget, worker)
                lease.held_micros, lease.open_micros = held_micros, open_micros
                lease.used_ms = used_ms
                budget.held_micros += held_micros
            budget.is_touched = True
        self.bids.restore(state.bids)
        for worker, deadline_ms in state.deadline_ms_max.items():
            self._know_worker(worker)
            self._deadline_ms_max[worker] = deadline_ms
        self.unfunded_count = state.unfunded_count

    # What others see.

    def totals(self) -> list[BudgetTotals]:
        """Returns every budget, ordered by id."""
        return [
            BudgetTotals(
                budget_id,
                budget.limit_micros,
                budget.spent_on_time_micros,
                budget.spent_late_micros,
                budget.held_micros,
                budget.open_count,
                budget.adjusted_micros,
            )
            for budget_id, budget in sorted(self._budgets.items())
        ]

    def budget_ids(self) -> list[int]:
        """Returns the ids of every budget, in no order."""
        return list(self._budgets)

    def position(self, budget_id: int) -> Position:
        """Returns where a known budget stands."""
        budget = self._budgets[budget_id]
        return Position(
            budget_id, bool(budget.is_defined), budget.limit_micros, budget.end_at_ms,
            budget.allotted_micros, budget.spent_on_time_micros, budget.spent_late_micros,
            budget.adjusted_micros, budget.held_micros,
            sum(lease.open_micros for lease in budget.leases.values()),
            budget.reserved_micros_max,
        )  # fmt: skip

    def available_micros(self, worker: int, budget_id: int) -> int:
        """Returns what ``worker`` may reserve of a budget once it has taken all its credits."""
        budget = self._budgets.get(budget_id)
        lease = None if budget is None else budget.leases.get(worker)
        return 0 if lease is None else lease.available_micros()

    def _budget(self, budget_id: int) -> BudgetAccount:
        budget = self._budgets.get(budget_id)
        if budget is None:
            budget = self._budgets[budget_id] = self._book.open_budget()
            self._ids.append(budget_id)
            if self.is_shared:
                budget.allotted_micros = 0
        return budget

    def _lease(self, budget: BudgetAccount, worker: int) -> LeaseAccount:
        lease = budget.leases.get(worker)
        if lease is None:
            lease = self._book.open_lease(budget, self._ids[budget.row], worker)
        return lease

    def _know_worker(self, worker: int) -> None:
        if worker >= (count := self._deadline_ms_max.shape[0]):
            more = np.zeros(worker + 1 - count, np.int64)
            self._deadline_ms_max = np.concatenate((self._deadline_ms_max, more))

    def _open_account(self, event: npt.NDArray[np.void]) -> None:
        """Opens the first account that is missing of those that a bid draws on."""
        worker = int(event["worker"][0])
        for budget_id in event["budgets"][0].tolist():
            budget = self._budget(budget_id) if budget_id else None
            if budget is not None and worker not in budget.leases:
                self._lease(budget, worker)
                return


def _holders(budget: BudgetAccount) -> set[int]:
    return {worker for worker, lease in budget.leases.items() if lease.available_micros() > 0}


def _taken_by(worker: int, bid: Reservation) -> list[Credit]:
    """Returns the credits that give ``worker`` back all that it took for one bid."""
    money = [
        Credit(worker, CreditKind.BUDGET, budget_id, bid.reserved_micros)
        for budget_id in bid.budgets
    ]
    return money + [Credit(worker, CreditKind.CAP, key, 1) for key in bid.caps]


def _caps_back(caps: list[npt.NDArray[np.void]]) -> list[Credit]:
    return [
        Credit(worker, CreditKind.CAP, key, 1) for block in caps for key, worker in block.tolist()
    ]
