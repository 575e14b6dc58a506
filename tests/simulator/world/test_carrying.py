"""What a period leaves to the next: state in, state out, through a file or not."""

from __future__ import annotations

import contextlib

import msgspec
import numpy as np
import pytest

from market.errors import BadInput, Corrupt
from simulator.period.seam import new_accounts, new_supply
from simulator.world.building import build_tables
from simulator.world.carrying import restore, save, turned
from simulator.world.kernels_values import KNOWN, SHOWN, WRITTEN
from simulator.world.mechanisms import Mechanism
from simulator.world.world import PeriodWorld, run
from tests.reference.world import SlowWorld
from tests.simulator.world.worlds import dealt, small


def carried_tables(name):
    """Tables of a small world whose users live on, and order late."""
    scenario = small(name).scenario
    orders = msgspec.structs.replace(scenario.orders, delay_median_h=8.0)
    return build_tables(msgspec.structs.replace(scenario, is_carried=True, orders=orders))


def lived(world, accounts):
    """Values of a period in which exposures were dealt out."""
    values = []
    for tick, count in enumerate(world.opportunity_counts.tolist()):
        supply = new_supply(world.agent_count, count)
        world.fill(tick, 0, supply)
        values.append(supply.value)
        world.settle(tick, 0, supply, dealt(count, world.agent_count, True), accounts)
    world.finish(accounts)
    return values


def accounts_of(world):
    return new_accounts(np.ones(world.agent_count, np.int64))


def same(one, other):
    for name, mine in one.state._asdict().items():
        assert np.array_equal(mine, getattr(other.state, name)), name
    assert one[:3] == other[:3]
    assert np.array_equal(one.due, other.due)


@pytest.mark.plain
def test_two_periods_are_the_slow_twin_s_who_lives_on():
    tables = carried_tables("tiny")
    slow, carried = SlowWorld(tables, 11, 2), None
    for period in (2, 3):
        world = PeriodWorld(tables, 11, period, carried)
        accounts = accounts_of(world)
        values = lived(world, accounts)
        wanted, orders = [], []
        for tick, count in enumerate(world.opportunity_counts.tolist()):
            crowd = [slow.who(tick, j) for j in range(count)]
            wanted.append(
                [[slow.value(tick, who, a) for who in crowd] for a in range(world.agent_count)]
            )
            shown = dealt(count, world.agent_count, True)
            pairs = list(zip(shown.opportunity.tolist(), shown.agent.tolist(), strict=True))
            orders += slow.settle(tick, crowd, pairs)[1]
        for mine, other in zip(values, wanted, strict=True):
            assert np.allclose(mine, other, rtol=5e-5, atol=0)
        for name in ("tick", "column", "agent", "user", "is_ad", "is_real", "is_alone"):
            assert world.orders[name].tolist() == [order[name] for order in orders], name
        carried = world.carried
        slow.go_on()


def test_two_periods_are_one_and_another_resumed_from_a_checkpoint(tmp_path):
    tables = carried_tables("town")
    (first, _), (second, whole) = run(tables, 3, [0, 1])
    ((again, stopped),) = run(tables, 3, [0])
    save(stopped.carried, tmp_path / "state.npz")
    state = restore(tmp_path / "state.npz")
    same(state, stopped.carried)
    ((resumed, world),) = run(tables, 3, [1], carried=state)
    for one, other in ((first, again), (second, resumed)):
        for mine, theirs in zip(one.accounts, other.accounts, strict=True):
            assert np.array_equal(mine, theirs)
    assert np.array_equal(whole.orders, world.orders)
    same(whole.carried, world.carried)
    # Whoever starts from a state leaves it as it is: it can start another.
    same(state, stopped.carried)


def test_users_remember_yesterday_s_exposures_and_click_less():
    tables = carried_tables("town")
    yesterday = PeriodWorld(tables, 5, 0)
    lived(yesterday, accounts_of(yesterday))
    carried = yesterday.carried
    state = carried.state
    assert (state.head[:, WRITTEN] == 0).all()
    known = np.arange(state.memory.shape[1]) < state.head[:, [KNOWN]]
    assert known.sum() > 10_000
    assert state.memory[..., SHOWN][known].mean() > 0.1
    tired, fresh = PeriodWorld(tables, 5, 1, carried), PeriodWorld(tables, 5, 1)
    for world in (tired, fresh):
        lived(world, accounts_of(world))
    rates = [w.funnel.clicks.sum() / w.funnel.views.sum() for w in (tired, fresh)]
    error = np.sqrt(rates[1] * (1 - rates[1]) / fresh.funnel.views.sum())
    assert rates[0] < rates[1] - 5 * error


def test_no_order_is_lost_or_told_twice_at_midnight():
    tables = carried_tables("town")
    carried, told, orders, sizes = None, 0, [], []
    money = 0
    for period in range(3):
        world = PeriodWorld(tables, 5, period, carried)
        accounts = accounts_of(world)
        lived(world, accounts)
        carried = world.carried
        told += int(accounts.conversions.sum())
        money += int(accounts.return_micros.sum())
        orders.append(world.orders)
        sizes.append(int(carried.due["conversions"].sum()))
    known = np.concatenate(orders)
    known = known[known["is_reported"] == 1]
    assert all(sizes)
    assert told + sizes[-1] == known.shape[0]
    brought = sum(known[name].sum() for name in ("first_micros", "repeat_micros", "in_app_micros"))
    assert money + carried.due["micros"].sum() == brought - known["refund_micros"].sum()


def test_tastes_turn_on_through_the_night():
    tables = small("town")
    users = tables.users
    later = turned(users, 24)
    angle = users.turn.astype(float)[:, None]
    for tick in (0, 7):
        now = np.cos(angle * tick) * later.taste + np.sin(angle * tick) * later.other
        full = angle * (24 + tick)
        assert np.allclose(now, np.cos(full) * users.taste + np.sin(full) * users.other, atol=1e-4)
    assert np.array_equal(later.style, users.style)


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    tables = carried_tables("tiny")
    world = PeriodWorld(tables, 1, 0)
    lived(world, accounts_of(world))
    carried = world.carried
    with pytest.raises(BadInput, match="it must be 1, the one before period 2"):
        PeriodWorld(tables, 1, 2, carried)
    with pytest.raises(BadInput, match=r"carried\.state\.need: shape"):
        PeriodWorld(small("town"), 1, 1, carried)
    for changed in (
        msgspec.structs.replace(tables.scenario, world_seed=tables.scenario.world_seed + 1),
        msgspec.structs.replace(tables.scenario, tick_count=2 * tables.scenario.tick_count),
    ):
        with pytest.raises(BadInput, match=r"carried\.people: .* of other people"):
            PeriodWorld(build_tables(changed), 1, 1, carried)
    # What people meet may change from one day to the next.
    off = msgspec.structs.replace(tables.scenario, off=(Mechanism.FATIGUE,))
    PeriodWorld(build_tables(off), 1, 1, carried)
    with pytest.raises(BadInput, match="must be 1 where /is_carried is true"):
        run(tables, 1, [0, 1], threads=2)
    with pytest.raises(BadInput, match="must be None where /is_carried is false"):
        run(small("tiny"), 1, [1], carried=carried)
    with pytest.raises(BadInput, match="no such file"):
        restore(tmp_path / "none.npz")
    path = tmp_path / "state.npz"
    save(carried, path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(Corrupt, match=r"state\.npz"):
        restore(path)
    # Whatever byte is damaged, of compressed data as of names, sizes and sums.
    for at in range(0, len(whole), max(1, len(whole) // 400)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        with contextlib.suppress(Corrupt):
            same(restore(path), carried)  # a time, or room that nobody reads
