"""The world's kernels do what the slow twin does, from who comes to what an order brings."""

from __future__ import annotations

import numpy as np
import pytest

from simulator.period.engine import check_supply
from simulator.period.seam import new_accounts, new_supply
from simulator.world.kernels_tables import alias_tables
from simulator.world.world import PeriodWorld
from tests.reference.world import SlowWorld
from tests.simulator.world.worlds import dealt, small

ORDER_FIELDS = (
    "tick", "column", "agent", "user", "is_ad", "is_real", "is_alone", "is_reported", "due_tick",
    "refund_tick", "repeat_count",
)  # fmt: skip
MONEY_FIELDS = ("first_micros", "repeat_micros", "in_app_micros", "refund_micros")


@pytest.mark.plain
def test_a_period_is_the_slow_twins():
    tables = small("tiny")
    world, slow = PeriodWorld(tables, 11, 2), SlowWorld(tables, 11, 2)
    agents = world.agent_count
    accounts = new_accounts(np.ones(agents, np.int64))
    reached, orders = [], []
    for tick, count in enumerate(world.opportunity_counts.tolist()):
        supply = new_supply(agents, count, tables.deals)
        world.fill(tick, 0, supply)
        check_supply(supply, world.slot_weights_micros.shape[0])
        crowd = [slow.who(tick, j) for j in range(count)]
        assert [who[:2] for who in crowd] == list(
            zip(world.crowd.user.tolist(), world.crowd.scene.tolist(), strict=True)
        )
        for j, (_, scene, _) in enumerate(crowd):
            found = [
                float(getattr(supply, name)[j])
                for name in (
                    "floor_micros", "soft_floor_micros", "exposure_draw", "slot_count", "rule",
                    "deal",
                )
            ]  # fmt: skip
            assert found == list(slow.terms(tick, j, scene))
        values = [[slow.value(tick, who, a) for who in crowd] for a in range(agents)]
        assert np.allclose(supply.value, values, rtol=2e-5, atol=0)
        exposures = dealt(count, agents, True)
        world.settle(tick, 0, supply, exposures, accounts)
        pairs = list(zip(exposures.opportunity.tolist(), exposures.agent.tolist(), strict=True))
        outcomes, bought = slow.settle(tick, crowd, pairs)
        reached += list(zip(exposures.agent.tolist(), outcomes, strict=True))
        orders += bought
    world.finish(accounts)
    for stage, counts in enumerate(world.funnel, start=1):
        want = np.bincount([a for a, r in reached if r >= stage], minlength=agents)
        assert counts.tolist() == want.tolist()
    assert len(orders) > 40
    assert {order["is_ad"] for order in orders} == {0, 1}
    assert any(order["is_real"] != order["is_alone"] for order in orders if not order["is_ad"])
    for name in ORDER_FIELDS:
        assert world.orders[name].tolist() == [order[name] for order in orders], name
    for name in MONEY_FIELDS:
        want = [order[name] for order in orders]
        assert np.allclose(world.orders[name], want, rtol=0, atol=2), name


@pytest.mark.plain
def test_alias_tables_give_users_the_probability_of_their_weight():
    weight = np.array([[1.0, 0.0, 3.0, 4.0, 2.0, 7.0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]])
    first = np.array([0, 3, 6])
    share, alias = alias_tables(weight, first)
    for row in range(2):
        for lo, hi in ((0, 3), (3, 6)):
            found = np.zeros(6)
            for user in range(lo, hi):
                found[user] += share[row, user] / 3
                found[alias[row, user]] += (1 - share[row, user]) / 3
            own = weight[row, lo:hi]
            want = own / own.sum() if own.sum() else np.full(3, 1 / 3)
            assert np.allclose(found[lo:hi], want)
