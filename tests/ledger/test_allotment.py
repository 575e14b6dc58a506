"""Machines that share budgets: histories on a real owner, held to the model of both levels."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from ledger.account import Position
from ledger.allotment import Answer, Node, Others, Statement, answer_to, opened
from ledger.lease import Allotment
from ledger.postgres import Fenced, PostgresOwner
from market.errors import BadInput, NotReady
from tests.ledger.bids import rebuilt
from tests.ledger.machines import BILLING, FAR_MS, LOSS, Machine, World
from tests.ledger.postgres_server import PostgresServer, postgres_or_skip
from tests.reference.allotments import Shared

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HUGE = 2**64 - 5
"""An id that is negative as a signed number."""


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    running = postgres_or_skip()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def url(server: PostgresServer) -> str:
    return server.new_database()


def said(held: int, asked: int, *, least: int = 1, spent: int = 0) -> Statement:
    return Statement(1, 0, 0, 0, held, spent, 0, 0, 0, asked, least)


# The owner's rule.


def test_half_of_what_is_free_is_shared_among_the_nodes_until_only_the_least_is_left() -> None:
    told = answer_to(said(100, 10_000), Others(1_000, 300, 0, 0), 3)
    assert told.allotted_micros == 100 + 600 // 6
    assert told.refused_micros == 0
    told = answer_to(said(100, 10_000, least=250), Others(1_000, 300, 0, 0), 3)
    assert told.allotted_micros == 350
    told = answer_to(said(100, 10_000, least=900), Others(1_000, 300, 0, 0), 3)
    assert (told.allotted_micros, told.refused_micros) == (700, 10_000 - 600)


def test_a_lowered_limit_asks_every_node_for_its_part_of_what_it_could_give() -> None:
    first = answer_to(said(600, 50, spent=300), Others(500, 400, 300, 0), 2)
    assert (first.allotted_micros, first.surplus_micros) == (600, 300)
    second = answer_to(said(400, 0, spent=300), Others(650, 300, 0, 0), 2)
    assert second.surplus_micros == 13  # 50 x 100 / 400, rounded up
    spent = answer_to(said(400, 0, spent=400), Others(500, 400, 0, 0), 2)
    assert spent.surplus_micros == 0


def test_a_log_that_knows_more_than_the_owner_takes_what_the_owner_has() -> None:
    mine = [Allotment(1, 50), Allotment(2, 50), Allotment(3, 50)]
    assert opened(mine, [Allotment(1, 20), Allotment(2, 80)]) == (Allotment(1, 20), Allotment(3, 0))


# Both levels.


class History:
    """One random history; ``count`` says what happened in it."""

    def __init__(self, url: str, seed: int) -> None:
        self.chance = random.Random(seed)
        self.limits = {key: self.chance.randint(200, 3_000) for key in (1, HUGE)}
        workers = self.chance.randint(1, 2)
        self.world = World(url, self.limits, self.chance.randint(2, 3), worker_count=workers)
        self.count = dict.fromkeys(("bids", "crashes", "closes", "lost", "changes"), 0)
        self.world.pass_time(50, 8)

    def play(self, action_count: int) -> None:
        actions = {
            self.bid: 0.33, self.say: 0.15, self.cut: 0.05, self.crash: 0.04, self.close: 0.01,
            self.publish: 0.03, self.pass_time: 0.39,
        }  # fmt: skip
        for _ in range(action_count):
            (act,) = self.chance.choices(list(actions), list(actions.values()))
            act(self.chance.choice(self.world.machines))
            self.world.check()

    def pass_time(self, _: Machine) -> None:
        self.world.pass_time(self.chance.choice((50, 200, 700)), self.chance.randint(1, 4))

    def bid(self, machine: Machine) -> None:
        keys = tuple(self.chance.sample(sorted(self.limits), self.chance.randint(1, 2)))
        for _ in range(self.chance.randint(1, 8) if machine.is_up else 0):
            worker = self.chance.randrange(machine.worker_count)
            self.count["bids"] += machine.bid(worker, keys, self.chance.randint(1, 60), 4_000)

    def say(self, machine: Machine) -> None:
        for number in self.chance.sample(sorted(machine.open), min(3, len(machine.open))):
            if machine.is_up:
                kind = BILLING if self.chance.random() < 0.8 else LOSS
                machine.say(kind, number, self.chance.choice((60, 60, 5)))

    def cut(self, machine: Machine) -> None:
        machine.owner.fate = self.chance.choice(("answers", "is away", "loses its answer"))
        self.count["lost"] += machine.owner.fate == "loses its answer"

    def crash(self, machine: Machine) -> None:
        if machine.is_up:
            machine.crash()
            self.count["crashes"] += 1
        if self.chance.random() < 0.8:
            machine.start()

    def close(self, machine: Machine) -> None:
        if machine.name in {
            each.node for each in self.world.operator.nodes() if not each.is_closed
        }:
            self.world.close_node(machine)
            self.count["closes"] += 1

    def publish(self, _: Machine) -> None:
        machines, chance = self.world.machines, self.chance
        changed = {
            key: max(0, most + chance.randint(-900, 300)) for key, most in self.limits.items()
        }
        self.world.publish(changed, chance.sample(machines, chance.randint(1, len(machines))))
        self.count["changes"] += 1


@pytest.mark.parametrize("block", range(3))
def test_no_history_breaks_the_bound_of_the_model(url: str, block: int) -> None:
    sums: dict[str, int] = {}
    for seed in range(block * 6, block * 6 + 6):
        history = History(url, seed)
        history.play(120)
        world = history.world
        spent = sum(world.spent(key) for key in world.models)
        for name, number in (*history.count.items(), ("spent", spent)):
            sums[name] = sums.get(name, 0) + number
        for machine in world.machines:
            if machine.is_up:
                machine.commit()
                again = rebuilt(machine.core, machine.log)
                assert again.ledger.totals() == machine.core.ledger.totals()
                assert again.ledger.allotments() == machine.core.ledger.allotments()
        world.close()
    assert min(sums.values()) > 0, sums


def spend(world: World, machine: Machine, key: int = 1, price: int = 10) -> int:
    """Bids and wins what there is money for; returns how many."""
    won = 0
    while machine.bid(0, (key,), price, 4_000):
        machine.say(BILLING, world.bid_count, price)
        won += 1
    return won


def test_a_lost_answer_costs_nobody_anything(url: str) -> None:
    world = World(url, {1: 1_600}, 2)
    one, other = world.machines
    world.pass_time(50, 12)
    one.owner.fate = "loses its answer"
    spend(world, one)
    world.pass_time(600, 10)
    assert one.shared.status(world.now).failures > 0
    mine = dict(one.core.ledger.allotments())[1]
    assert world.models[1].rows[one.name] > mine, "the row has what nobody heard of"
    one.owner.fate = "answers"
    for _ in range(60):
        spend(world, one)
        spend(world, other)
        world.pass_time(600)
    assert world.spent(1) == 1_600
    world.check()
    world.close()


def test_after_a_lost_answer_the_owner_hears_again_also_of_a_budget_with_nothing_to_ask() -> None:
    quiet = Position(1, True, 1_600, 10**9, 100, 0, 0, 0, 0, 0, 10)
    node = Node(1)
    for now_ms in (0, 20_000):
        _, first = node.look(quiet, 1, now_ms)
        if first is not None:
            told = answer_to(first, Others(1_600, 0, 0, 0), 1)
            node.hear([first], Answer((told,), frozenset()), {1: 100}, now_ms)
    assert node.look(quiet, 1, 21_000) == (None, None)
    _, asking = node.look(quiet._replace(held_micros=90, open_micros=90), 1, 22_000)
    assert asking is not None
    assert asking.asked_micros > 0
    node.unheard([asking])
    _, again = node.look(quiet, 1, 60_000)
    assert again is not None, "the owner may have granted what nobody heard"
    assert again.asked_micros == 0


def test_a_machine_alone_spends_what_an_idle_one_was_allotted(url: str) -> None:
    world = World(url, {1: 1_600}, 2)
    busy, idle = world.machines
    world.pass_time(50, 12)
    assert dict(idle.core.ledger.allotments())[1] >= 100
    for _ in range(200):
        spend(world, busy)
        world.pass_time(600)
    assert world.spent(1) == 1_600
    world.check()
    world.close()


def test_a_log_that_was_closed_takes_nothing_along_when_it_returns(url: str) -> None:
    world = World(url, {1: 1_600}, 2)
    one, other = world.machines
    world.pass_time(50, 12)
    assert one.bid(0, (1,), 10, 600_000)
    bid = world.bid_count
    one.commit()
    mine = dict(one.core.ledger.allotments())[1]
    assert mine > 10
    one.crash()
    world.close_node(one)
    for _ in range(60):
        spend(world, other)
        world.pass_time(600)
    assert world.spent(1) == 1_600
    one.start()
    world.pass_time(50, 12)
    assert one.shared.status(world.now).is_open
    assert spend(world, one) == 0
    one.say(BILLING, bid, 10)
    # Overspent by the open bid that was at stake, and by no more.
    assert world.spent(1) == 1_610
    world.check()
    world.close()


def test_a_process_whose_node_was_opened_again_or_closed_ends(url: str) -> None:
    world = World(url, {1: 1_600}, 2)
    one, other = world.machines
    world.pass_time(50, 12)
    older = one.owner.real
    one.is_up = False
    one.log.crash()
    one.start()
    world.pass_time(50, 6)
    assert one.owner.real.epoch == older.epoch + 1
    with pytest.raises(Fenced, match="epoch 1 of its budgets is over"):
        older.turn(10**9, [said(0, 0)])
    older.close()
    with pytest.raises(Fenced):
        older.turn(10**9, [])  # also on a new connection
    older.close()
    world.close_node(other)
    world.pass_time(600, 3)
    assert one.is_up
    assert not other.is_up
    world.close()


def test_yesterdays_budget_goes_back_and_late_notices_still_count_in_it(url: str) -> None:
    world = World(url, {1: 1_600}, 2, end_at_ms=10_000)
    one, _ = world.machines
    world.pass_time(50, 12)
    assert one.bid(0, (1,), 10, 60_000)
    bid = world.bid_count
    world.now = 10_000
    world.end_at_ms = FAR_MS
    world.limits = {2: 1_600}
    world.models[2], world.owner_versions[2] = Shared(0), -1
    world.publish({2: 1_600})
    world.pass_time(600, 8)
    assert not one.bid(0, (1,), 1, 1_000)
    assert one.bid(0, (2,), 10, 60_000)
    one.recall([0])
    world.pass_time(600, 4)
    assert dict(one.core.ledger.allotments())[1] == 10
    assert world.models[1].rows[one.name] == 10
    one.say(BILLING, bid, 7)
    assert world.spent(1) == 7
    world.publish({2: 1_600})
    world.pass_time(600, 14)
    assert world.models[1].rows[one.name] == 7
    world.check()
    world.close()


def test_the_limit_of_the_newest_intent_holds_whoever_says_it(url: str) -> None:
    owners = [PostgresOwner(url) for _ in range(2)]
    for i, owner in enumerate(owners):
        owner.open(f"newest-{i}", f"newest-{i}", 0)

    def say(owner: PostgresOwner, version: int, limit: int) -> int:
        (told,) = owner.turn(0, [said(0, 10**6, least=10**6)._replace(
            budget_id=77, version=version, limit_micros=limit)]).told  # fmt: skip
        return told.allotted_micros

    assert say(owners[0], 2, 500) == 500
    assert say(owners[0], 1, 9_000) == 500
    assert say(owners[1], -1, 0) == 0
    assert say(owners[0], 2, 400) == 400
    assert say(owners[1], 3, 600) == 200
    for owner in owners:
        owner.close()


def test_a_server_that_is_not_there_is_said_without_its_password(tmp_path: Path) -> None:
    owner = PostgresOwner(f"host={tmp_path} user=x dbname=x", "canary")
    with pytest.raises(NotReady, match="start the server") as caught:
        owner.open("a", "b", 0)
    assert "canary" not in str(caught.value)


def test_a_node_that_nobody_has_cannot_be_closed(url: str) -> None:
    owner = PostgresOwner(url)
    with pytest.raises(BadInput, match="no open node has this name"):
        owner.close_node("nobody")
    owner.close()
