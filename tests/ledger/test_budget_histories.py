"""Random histories: crashes, repeats, delays and late wins never break a budget's bound."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from market.events import EventKind
from tests.ledger.money_world import LIFE_MS_MAX, World

KINDS = (EventKind.BILLING, EventKind.BILLING, EventKind.WIN, EventKind.LOSS)


def change(world, chance, most):
    """A new limit, or a booked correction."""
    key = chance.choice(sorted(world.limits))
    if chance.random() < 0.7:
        world.set_limit(key, chance.randint(0, most))
    else:
        world.adjust(key, chance.choice((-1, 1)) * chance.randint(1, 100))


def play(seed, *, allows_late, action_count=80, changes_limits=False):
    """Plays one history and returns its world."""
    chance = random.Random(seed)
    most, cap_max = (150, 60) if allows_late else (3_000, 300)
    limits = {key: chance.randint(0, most) for key in range(1, chance.randint(2, 4))}
    world = World(limits, chance.randint(1, 3), allows_late=allows_late)
    for _ in range(action_count):
        draw = chance.random()
        if draw < 0.4:
            budgets = tuple(chance.sample(sorted(limits), chance.randint(1, len(limits))))
            worker = chance.randrange(len(world.workers))
            world.bid(worker, budgets, chance.randint(0, cap_max), chance.randint(1, LIFE_MS_MAX))
        elif draw < 0.7 and world.bids:
            # Late in half of the cases: any bid ever made, not only a young one.
            first = 0 if chance.random() < 0.5 else max(0, len(world.bids) - 6)
            number = chance.randrange(first, len(world.bids))
            cap = world.bids[number][2]
            price = chance.choice((0, chance.randint(0, cap), cap, cap, cap, cap, cap, cap + 1))
            world.say(chance.choice(KINDS), number, price)
        elif draw < 0.8:
            world.commit()
        elif draw < 0.92:
            world.step(chance.randint(0, 8))
        elif draw < 0.95:
            world.crash_worker(chance.randrange(len(world.workers)))
        elif draw < 0.98:
            world.crash_recorder()
        elif changes_limits and draw < 0.99:
            change(world, chance, most)
        else:
            world.fill_disk(is_full=not world.log.is_full)
        if not world.core.is_stuck and not world.unacked:
            world.check()
    world.fill_disk(is_full=False)
    world.step(1)
    world.check()
    world.check_accounts()
    return world


@pytest.mark.parametrize("block", range(8))
def test_a_thousand_histories_without_late_wins_overspend_nothing(block):
    spent = 0
    for seed in range(block * 125, (block + 1) * 125):
        world = play(seed, allows_late=False)
        spent += sum(total.spent_on_time_micros for total in world.core.ledger.totals())
        assert all(
            total.spent_on_time_micros + total.spent_late_micros <= total.limit_micros
            for total in world.core.ledger.totals()
        )
    assert spent > 0


@pytest.mark.parametrize("block", range(8))
def test_a_thousand_histories_with_late_wins_overspend_at_most_the_late_ones(block):
    late_wins = 0
    for seed in range(10_000 + block * 125, 10_000 + (block + 1) * 125):
        late_wins += play(seed, allows_late=True).late_wins
    assert late_wins > 0


@pytest.mark.parametrize("allows_late", [False, True])
@pytest.mark.parametrize("block", range(2))
def test_histories_with_changed_limits_and_adjustments_are_those_of_the_model(block, allows_late):
    changes = adjustments = 0
    for seed in range(20_000 + block * 150, 20_000 + (block + 1) * 150):
        world = play(seed, allows_late=allows_late, changes_limits=True, action_count=160)
        changes += world.changes
        adjustments += world.adjustments
    assert changes > 50
    assert adjustments > 20


class Money(RuleBasedStateMachine):
    """The same world, played by hypothesis, which shrinks what fails."""

    def __init__(self):
        super().__init__()
        self.world = World({1: 1_000, 2: 400}, 2, allows_late=True)

    @rule(
        worker=st.integers(0, 1), budgets=st.sampled_from([(1,), (2,), (1, 2)]),
        cap=st.integers(0, 150), life=st.integers(1, LIFE_MS_MAX),
    )  # fmt: skip
    def bid(self, worker, budgets, cap, life):
        self.world.bid(worker, budgets, cap, life)

    @precondition(lambda self: self.world.bids)
    @rule(data=st.data(), kind=st.sampled_from(KINDS), price=st.integers(0, 160))
    def say(self, data, kind, price):
        number = data.draw(st.integers(0, len(self.world.bids) - 1))
        self.world.say(kind, number, price)

    @rule()
    def commit(self):
        self.world.commit()

    @rule(ms=st.integers(0, LIFE_MS_MAX + 1))
    def step(self, ms):
        self.world.step(ms)

    @rule(worker=st.integers(0, 1))
    def crash_worker(self, worker):
        self.world.crash_worker(worker)

    @rule()
    def crash_recorder(self):
        self.world.crash_recorder()

    @rule(is_full=st.booleans())
    def fill_disk(self, is_full):
        self.world.fill_disk(is_full=is_full)

    @invariant()
    def bounds_hold(self):
        if not self.world.core.is_stuck and not self.world.unacked:
            self.world.check()

    def teardown(self):
        self.world.check_accounts()


Money.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestMoney = Money.TestCase
