"""Random histories of the budget protocol, each against a model of a few lines.

Duplicates, late and reordered notices, workers and owners that crash. The model is
``tests.reference.budget``; the owner that crashes is rebuilt from what its log would say.
"""

from __future__ import annotations

import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ledger.account import Charge
from ledger.budget import BudgetLedger
from ledger.event_bytes import EVENT_BYTES, event_part
from ledger.reservation import bid_key
from market.events import EVENT_DTYPE, EventKind
from market.snapshot import BUDGET_DTYPE
from tests.reference.budget import Owner

if TYPE_CHECKING:
    from ledger.lease import Lease

_ACTIONS = 16
_BLOCKS = 100
_WORKERS = 2
_BID, _BID_AT = event_part("bid_hi", "bid_lo")
_DEADLINE, _DEADLINE_AT = event_part("deadline_ms")
_AMOUNT, _AMOUNT_AT = event_part("amount_micros")
_WORKER, _WORKER_AT = event_part("worker")
_BUDGETS, _BUDGETS_AT = event_part("budgets")
_KIND, _KIND_AT = event_part("kind")


class Tally(NamedTuple):
    """What histories came to."""

    late_wins: int
    overspend_on_time_micros: int
    """Beyond the limit where no win was late."""
    overspend_beyond_bound_micros: int
    """Beyond the limit and what late wins cost."""
    crashes: int
    undead_bids: int
    """Made by workers after their leases were closed."""


class _History:
    """One history: the ledger, the model, the workers' memories and the log."""

    def __init__(self, seed: int, *, allows_late: bool) -> None:
        self.chance = random.Random(seed)
        self.allows_late = allows_late
        self.limits = {key: self.chance.randint(0, 400) for key in (1, 2)}
        self.ledger = self._new()
        self.model: Any = Owner(self.limits)
        self.log: list[tuple[str, Any]] = []
        self.available: dict[tuple[int, int], int] = {}
        # What workers hold that were thought dead and are not.
        self.undead: dict[tuple[int, int], int] = {}
        self.bids: list[tuple[int, int]] = []
        self.now = 0
        self.late_wins = self.crashes = self.undead_bids = 0

    def _new(self) -> BudgetLedger:
        rows = np.zeros(2, BUDGET_DTYPE)
        rows["budget_id"], rows["limit_micros"] = (1, 2), list(self.limits.values())
        rows["end_at_ms"] = 2**62
        ledger = BudgetLedger(2 * _ACTIONS)
        ledger.define(rows)
        return ledger

    def play(self) -> None:
        """Plays all of it, with a look at every money after every action."""
        self.grant()
        for _ in range(_ACTIONS):
            draw = self.chance.random()
            if draw < 0.4:
                self.bid()
            elif draw < 0.7:
                self.notice()
            elif draw < 0.88:
                self.pass_time()
            elif draw < 0.94:
                self.crash_worker(self.chance.randrange(_WORKERS))
            else:
                self.crash_owner()
            self.check()

    def bid(self) -> None:
        worker = self.chance.randrange(_WORKERS)
        budgets = self.chance.choice(((1,), (2,), (1, 2)))
        cap = self.chance.randint(0, 60)
        purse = self.available
        if self.undead and self.chance.random() < 0.5:
            purse = self.undead
        if any(purse.get((worker, key), 0) < cap for key in budgets):
            return
        self.undead_bids += purse is self.undead
        number = len(self.bids)
        deadline = self.now + self.chance.randint(1, 12)
        body = bytearray(EVENT_BYTES)
        _KIND.pack_into(body, _KIND_AT, int(EventKind.BID))
        _BID.pack_into(body, _BID_AT, number, number)
        _DEADLINE.pack_into(body, _DEADLINE_AT, deadline)
        _AMOUNT.pack_into(body, _AMOUNT_AT, cap)
        _WORKER.pack_into(body, _WORKER_AT, worker)
        _BUDGETS.pack_into(body, _BUDGETS_AT, *budgets, *(0,) * (3 - len(budgets)))
        event = np.frombuffer(body, EVENT_DTYPE)
        for key in budgets:
            purse[worker, key] = purse.get((worker, key), 0) - cap
        self.bids.append((cap, deadline))
        self.model.reserve(number, worker, budgets, cap, deadline)
        # A ring that is read again after a crash gives the same event twice.
        for _ in range(self.chance.choice((1, 1, 1, 2))):
            self.say("reserve", (event, self.now))

    def notice(self) -> None:
        if not self.bids:
            return
        number = self.chance.randrange(len(self.bids))
        cap, deadline = self.bids[number]
        if self.chance.random() < 0.2:
            self.model.loss(number)
            self.say("release", number)
            return
        if not self.allows_late and (self.now > deadline or not self.is_covered(number)):
            return
        price = self.chance.choice((0, cap, self.chance.randint(0, cap), cap + 1))
        slot = self.slot(number)
        reservation = self.ledger.bids.reservation(slot)
        charge = self.ledger.judge(slot, reservation, price, self.now).charge
        said = {Charge.ON_TIME: "charged"}.get(charge, charge.value)
        if self.model.settle(number, price, self.now) != said:
            raise AssertionError(f"bid {number} at {price}: the ledger says {said}")
        if charge in (Charge.ON_TIME, Charge.LATE):
            self.late_wins += charge is Charge.LATE
            self.say("settle", (number, price, charge is Charge.LATE))

    def is_covered(self, number: int) -> bool:
        """Whether its win would not be late for other reasons than its time."""
        return self.model.bids[number][4] != "released"

    def pass_time(self) -> None:
        self.now += self.chance.randint(0, 6)
        self.model.expire(self.now)
        self.say("expire", self.now)
        returned = self.ledger.thaw(self.now)
        self.give_back(returned)
        self.grant()

    def grant(self) -> None:
        leases = self.ledger.top_up(self.now, _WORKERS)
        for worker, key, amount in leases:
            if self.model.lease(worker, key, amount) != amount:
                raise AssertionError(f"{amount} of budget {key} is more than is free")
        self.say("grant", leases)

    def give_back(self, leases: tuple[Lease, ...]) -> None:
        for worker, key, amount in leases:
            self.model.give_back(worker, key, amount)
        self.say("give_back", leases)

    def crash_worker(self, worker: int) -> None:
        """Its memory is gone; what it had not reserved waits for its last deadline.

        One in four only looked dead: it bids on from what it held.
        """
        self.crashes += 1
        if self.chance.random() < 0.25:
            self.undead |= {key: left for key, left in self.available.items() if key[0] == worker}
        self.available = {key: left for key, left in self.available.items() if key[0] != worker}
        self.ledger.close_worker(worker, self.ledger.deadline_ms_max(worker))

    def crash_owner(self) -> None:
        """Its memory is gone; it is rebuilt from the log and takes every lease back."""
        self.crashes += 1
        self.ledger = self._new()
        for kind, value in self.log:
            self.apply(kind, value)
        self.available.clear()
        for worker in range(_WORKERS):
            self.ledger.close_worker(worker, 0)

    def say(self, kind: str, value: Any) -> None:  # noqa: ANN401 - of the entry's kind
        """Writes an entry of the log, and makes it true."""
        self.log.append((kind, value))
        for worker, credit, key, amount in self.apply(kind, value):
            if credit == 1:
                self.available[worker, key] = self.available.get((worker, key), 0) + amount

    def apply(self, kind: str, value: Any) -> list[Any]:  # noqa: ANN401 - as above
        ledger = self.ledger
        if kind == "reserve":
            ledger.reserve(*value)
            return []
        if kind == "settle":
            number, price, is_late = value
            slot = self.slot(number)
            return list(ledger.settle(slot, ledger.bids.reservation(slot), price, is_late=is_late))
        if kind == "release":
            return list(ledger.release(self.slot(value)))
        if kind == "expire":
            return list(ledger.expire(value)[1])
        if kind == "grant":
            return list(ledger.grant(value))
        ledger.give_back(value)
        return []

    def slot(self, number: int) -> int:
        slot = self.ledger.bids.find(bid_key(number, number))
        assert slot is not None
        return slot

    def check(self) -> None:
        for total in self.ledger.totals():
            key = total.budget_id
            mine = (
                total.spent_on_time_micros, total.spent_late_micros, total.held_micros,
                total.open_count,
            )  # fmt: skip
            held = 0
            for worker in range(_WORKERS):
                of_worker = self.model.held[worker, key]
                held += of_worker
                # What open bids reserved is held for them, whatever was given back meanwhile.
                if of_worker < self.model.open(worker, key):
                    raise AssertionError(f"budget {key}: worker {worker} holds only {of_worker}")
            model = (
                self.model.on_time[key], self.model.late[key], held,
                len(self.model.open_bids(key)),
            )  # fmt: skip
            if mine != model:
                raise AssertionError(f"budget {key}: {mine}, and the model says {model}")
            if mine[0] + mine[2] > self.limits[key]:
                raise AssertionError(f"budget {key}: {mine} of {self.limits[key]}")


def play_histories(count: int, seed: int) -> Tally:
    """Plays ``count`` histories; every second one allows late wins.

    Raises:
        AssertionError: one differs from the model; the message names its seed.
    """
    late_wins = over_on_time = beyond = crashes = undead_bids = 0
    for number in range(seed, seed + count):
        allows_late = bool(number % 2)
        history = _History(number, allows_late=allows_late)
        try:
            history.play()
        except AssertionError as error:
            raise AssertionError(f"history {number}: {error}") from error
        late_wins += history.late_wins
        crashes += history.crashes
        undead_bids += history.undead_bids
        for total in history.ledger.totals():
            spent = total.spent_on_time_micros + total.spent_late_micros
            over = max(0, spent - total.limit_micros)
            if not allows_late:
                over_on_time += over
            beyond += max(0, over - total.spent_late_micros)
    return Tally(late_wins, over_on_time, beyond, crashes, undead_bids)


def play_side_by_side(count: int, seed: int, processes: int) -> Tally:
    """Plays ``count`` histories in so many processes.

    Raises:
        AssertionError: see ``play_histories``.
    """
    parts = [(count * n // _BLOCKS, count * (n + 1) // _BLOCKS) for n in range(_BLOCKS)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        tallies = list(
            pool.map(
                play_histories,
                [last - first for first, last in parts],
                [seed + first for first, _ in parts],
            )
        )
    return Tally(*map(sum, zip(*tallies, strict=True)))
