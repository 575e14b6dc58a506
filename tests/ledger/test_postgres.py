"""The owner in PostgreSQL: the embedded owner's balances after the same history, and fencing."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING

import numpy as np
import psycopg
import pytest

from ledger.budget import BudgetLedger, Charge
from ledger.postgres import Fenced, Notice, PostgresBudgets
from ledger.reservation import bid_key
from market.errors import NotReady
from tests.ledger.bids import bid_event, budgets_array, no_bid_event
from tests.ledger.postgres_server import PostgresServer, postgres_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

HUGE = 2**64 - 5
"""An id that is negative as a signed number."""
BUDGETS = (1, 2, HUGE)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    running = postgres_or_skip()
    yield running
    running.stop()


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.new_database()


class Both:
    """One history, told to both owners; every answer and every balance must be the same."""

    def __init__(self, url: str, limits: dict[int, int], worker_count: int, end_at_ms: int) -> None:
        self.embedded = BudgetLedger()
        self.rows = PostgresBudgets(url)
        self.worker_count = worker_count
        self.end_at_ms = end_at_ms
        self.now = 0
        self.bid_count = 0
        self.define(limits)

    def define(self, limits: dict[int, int]) -> None:
        array = budgets_array(limits, end_at_ms=self.end_at_ms)
        assert self.rows.define(array) == self.embedded.define(array)

    def lease(self) -> None:
        granted = self.embedded.top_up(self.now, self.worker_count)
        self.embedded.grant(granted)
        assert self.rows.lease(self.now, self.worker_count) == granted

    def reserve(self, events: np.ndarray) -> None:
        ours, theirs = (owner.reserve(events, self.now) for owner in (self.embedded, self.rows))
        assert theirs == ours

    def settle(self, number: int, amount: int) -> Charge:
        """The embedded owner's way: find, judge, settle."""
        ledger = self.embedded
        slot = ledger.bids.find(bid_key(number, number + 1))
        ((settlement, told),) = self.rows.settle([Notice((number, number + 1), amount, self.now)])
        if slot is None:
            assert (settlement, told) == (None, [])
            return Charge.DUPLICATE
        bid = ledger.bids.reservation(slot)
        judged = ledger.judge(slot, bid, amount, self.now)
        assert settlement == judged
        expected = []
        if judged.charge in (Charge.ON_TIME, Charge.LATE):
            is_late = judged.charge is Charge.LATE
            expected = ledger.settle(slot, bid, amount, is_late=is_late)
        assert told == expected
        return judged.charge

    def release(self, number: int) -> None:
        slot = self.embedded.bids.find(bid_key(number, number + 1))
        expected = [] if slot is None else self.embedded.release(slot)
        assert self.rows.release([(number, number + 1)]) == expected

    def step(self, ms: int) -> None:
        self.now += ms
        count, told = self.embedded.expire(self.now)
        assert (count, sorted(told)) == tuple(
            sorted(part) if isinstance(part, list) else part for part in self.rows.expire(self.now)
        )
        over = self.embedded.thaw(self.now)
        self.embedded.give_back(over)
        assert self.rows.thaw(self.now) == over

    def close_worker(self, worker: int) -> None:
        for owner in (self.embedded, self.rows):
            owner.suspend_worker(worker)
        until = self.embedded.deadline_ms_max(worker)
        assert self.rows.deadline_ms_max(worker) == until
        for owner in (self.embedded, self.rows):
            owner.close_worker(worker, until)

    def resume_worker(self, worker: int) -> None:
        for owner in (self.embedded, self.rows):
            owner.resume_worker(worker)

    def check(self) -> None:
        assert self.rows.totals() == self.embedded.totals()
        assert self.rows.unfunded_count == self.embedded.unfunded_count
        for total in self.embedded.totals():
            for worker in range(self.worker_count):
                held = self.embedded.available_micros(worker, total.budget_id)
                assert self.rows.available_micros(worker, total.budget_id) == held


def some_events(chance: random.Random, world: Both) -> np.ndarray:
    """Bids, one in ten of them known, of workers that do not look at what they hold."""
    events = []
    for _ in range(chance.randint(1, 4)):
        number = world.bid_count
        if number and chance.random() < 0.1:
            number = chance.randrange(number)
        else:
            world.bid_count += 1
        events.append(
            bid_event(
                number, worker=chance.randrange(world.worker_count),
                budgets=tuple(chance.sample(BUDGETS, chance.randint(1, 3))),
                caps=(7, HUGE) if chance.random() < 0.5 else (),
                reserved=chance.randint(0, 120), bid_ms=world.now,
                deadline_ms=world.now + chance.randint(1, 40), is_test=chance.random() < 0.1,
            )
        )  # fmt: skip
    if chance.random() < 0.2:
        events.append(no_bid_event(world.bid_count))
    return np.concatenate(events)


def close(chance: random.Random, world: Both) -> None:
    worker = chance.randrange(world.worker_count)
    world.close_worker(worker)
    if chance.random() < 0.8:
        world.resume_worker(worker)


def play(url: str, seed: int, action_count: int) -> Both:
    chance = random.Random(seed)
    limits = {key: chance.randint(500, 2_000) for key in BUDGETS}
    world = Both(url, limits, chance.randint(1, 3), end_at_ms=10_000)
    world.lease()
    actions = {
        lambda: world.reserve(some_events(chance, world)): 0.4,
        lambda: world.settle(
            chance.randrange(chance.choice((0, max(0, world.bid_count - 4))), world.bid_count + 1),
            chance.choice((0, 10, 20, 60, 121)),
        ): 0.25,
        lambda: world.release(chance.randrange(world.bid_count + 1)): 0.07,
        lambda: world.step(chance.randint(0, 12)): 0.1,
        world.lease: 0.12,
        lambda: close(chance, world): 0.03,
        lambda: world.define(
            {key: max(0, most + chance.randint(-300, 300)) for key, most in limits.items()}
        ): 0.03,
    }
    for _ in range(action_count):
        (act,) = chance.choices(list(actions), list(actions.values()))
        act()
    world.check()
    return world


@pytest.mark.parametrize("seed", range(12))
def test_the_same_history_gives_the_same_balances_answers_and_credits(url: str, seed: int) -> None:
    world = play(url, seed, action_count=150)
    assert sum(total.spent_on_time_micros for total in world.rows.totals()) > 0
    world.rows.close()


def test_a_second_owner_refuses_the_first_which_changes_nothing(url: str) -> None:
    first = PostgresBudgets(url)
    first.define(budgets_array({1: 1_000}))
    first.lease(0, 1)
    first.reserve(bid_event(1), 0)
    second = PostgresBudgets(url)
    assert second.epoch == first.epoch + 1
    before = second.totals()
    for act in (
        lambda: first.reserve(bid_event(2), 0),
        lambda: first.settle([Notice((1, 2), 50, 5)]),
        lambda: first.release([(1, 2)]),
        lambda: first.expire(10_000),
        lambda: first.lease(0, 1),
        lambda: first.define(budgets_array({1: 5})),
        lambda: first.close_worker(0, 0),
        first.totals,
    ):
        with pytest.raises(Fenced, match="epoch 1 is over, 2 owns them now"):
            act()
    assert second.totals() == before
    ((settlement, _),) = second.settle([Notice((1, 2), 50, 5)])
    assert settlement is not None
    assert settlement.charge is Charge.ON_TIME
    other = PostgresBudgets(url, partition="another")
    other.totals()
    for owner in (first, second, other):
        owner.close()


def test_two_partitions_never_lease_or_charge_more_than_a_shared_budget_has(url: str) -> None:
    limit = 40_000
    owners = [PostgresBudgets(url, partition=name) for name in ("a", "b")]
    owners[0].define(budgets_array({1: limit, 2: 10**9, 3: 10**9}))
    errors: list[Exception] = []

    def spend(part: int) -> None:
        owner = owners[part]
        try:
            for n in range(150):
                number = 10 * n + part
                owner.lease(0, 2)
                # The shared budget and one of its own, in another order of ids for each part.
                budgets = (1, 2) if part else (3, 1)
                owner.reserve(bid_event(number, worker=part, budgets=budgets, reserved=300), 0)
                owner.settle([Notice((number, number + 1), 300, 5)])
        except Exception as error:  # noqa: BLE001 - shown by the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=spend, args=(part,)) for part in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    shared = next(total for total in owners[0].totals() if total.budget_id == 1)
    assert shared.spent_on_time_micros + shared.held_micros <= limit
    assert shared.spent_on_time_micros > limit // 2
    spent = {total.budget_id: total.spent_on_time_micros for total in owners[0].totals()}
    assert spent[1] == spent[2] + spent[3], "drawn on all budgets or on none"
    for owner in owners:
        owner.close()


def test_what_was_answered_is_there_after_the_server_was_killed(server: PostgresServer) -> None:
    url = server.new_database()
    owner = PostgresBudgets(url)
    owner.define(budgets_array({1: 10_000}))
    owner.lease(0, 1)
    for number in range(20):
        owner.reserve(bid_event(number), 0)
        owner.settle([Notice((number, number + 1), 70, 5)])
    before = owner.totals()
    server.kill()
    with pytest.raises(NotReady, match="PostgreSQL"):
        owner.reserve(bid_event(99), 0)
    server.start()
    again = PostgresBudgets(url)
    assert again.totals() == before
    assert before[0].spent_on_time_micros == 20 * 70
    again.close()


def test_bids_are_forgotten_when_their_memory_is_over(url: str) -> None:
    owner = PostgresBudgets(url)
    owner.define(budgets_array({1: 10_000}))
    owner.lease(0, 1)
    owner.reserve(np.concatenate([bid_event(n, deadline_ms=1_000) for n in range(3)]), 0)
    owner.settle([Notice((0, 1), 50, 5)])
    owner.release([(1, 2)])
    assert owner.forget(1_000 + 300_001) == 1
    assert owner.forget(1_000 + 7 * 86_400_000 + 1) == 1
    assert [total.open_count for total in owner.totals()] == [1]
    assert owner.settle([Notice((1, 2), 50, 5)]) == [(None, [])]
    owner.close()


def test_a_server_that_is_not_there_is_said_without_its_password(tmp_path) -> None:
    with pytest.raises(NotReady, match="start the server") as caught:
        PostgresBudgets(f"host={tmp_path} user=x password=canary dbname=x")
    assert "canary" not in str(caught.value)


def test_rows_refuse_money_that_was_never_spent(url: str) -> None:
    owner = PostgresBudgets(url)
    owner.define(budgets_array({1: 100}))
    with psycopg.connect(url) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE budgets SET spent_late_micros = -1")
    owner.close()
