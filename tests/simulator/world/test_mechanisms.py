"""Every mechanism earns its place: off, its statistic moves and nobody else's draws do."""

from __future__ import annotations

from functools import cache, lru_cache

import numpy as np
import pytest

from simulator.period.engine import TickRoom, clear_tick
from simulator.period.seam import new_accounts
from simulator.world.building import agents_of
from simulator.world.mechanisms import Mechanism
from tests.simulator.world.worlds import live, small

PERIODS = range(5)


@cache
def whole(period):
    """(tables, day) of the town with every mechanism on."""
    return small("town"), live(small("town"), period=period)


@lru_cache(maxsize=1)
def without(name, period):
    """(tables, day) of the town with one mechanism off."""
    tables = small("town", name)
    return tables, live(tables, period=period)


def log_values(values):
    return np.log(np.where(values > 0, values, np.nan))


def by_user(tables, day, tick):
    """[A, U] mean log value of each user in a tick, against the agent's mean; NaN = not met."""
    logs = log_values(day.values[tick])
    logs = logs - np.nanmean(logs, axis=1, keepdims=True)
    count = tables.users.region.shape[0]
    met = np.isfinite(logs)
    totals = [np.bincount(day.users[tick], np.where(met, logs, 0)[a], count) for a in range(16)]
    counts = [np.bincount(day.users[tick], met[a], count) for a in range(16)]
    with np.errstate(invalid="ignore"):
        return np.array(totals) / np.array(counts)


def correlation(x, y):
    both = np.isfinite(x) & np.isfinite(y)
    return np.corrcoef(x[both], y[both])[0, 1]


def spread_over_users(tables, day):
    return np.nanstd(log_values(day.values[0]), axis=1).mean()


def likeness_of_morning_and_evening(tables, day):
    return correlation(by_user(tables, day, 0).ravel(), by_user(tables, day, 23).ravel())


def mean_value(tables, day):
    return np.concatenate(day.values, axis=1).mean()


def busiest_tick(tables, day):
    counts = np.array([users.shape[0] for users in day.users])
    return counts.max() / counts.mean()


def computers_against_phones(tables, day):
    logs, device = np.nanmean(log_values(day.values[0]), axis=0), tables.users.device[day.users[0]]
    return np.nanmean(logs[device == 2]) - np.nanmean(logs[device == 0])


def not_sold_share(tables, day):
    return (day.values[0] == 0).mean()


def price_slope(tables, day):
    sensitivity = small("town").users.sensitivity[day.users[0]]
    logs = log_values(day.values[0])
    covariances = np.nanmean((logs - np.nanmean(logs, 1, keepdims=True)) * sensitivity, axis=1)
    return (covariances * small("town").agents.price_level).mean()


def clicks_per_view(tables, day):
    return day.world.funnel.clicks.sum() / day.world.funnel.views.sum()


def organic_orders(tables, day):
    return day.world.incrementality.orders.organic.sum()


def made_orders(tables, day):
    return day.world.incrementality.orders.made.sum()


def demand_for_what_goes_with_orders(tables, day):
    """Mean log value, in the last tick, of shoes to who ordered clothes before, and the reverse."""
    orders, category = day.world.orders, tables.agents.category
    orders = orders[(orders["is_real"] == 1) & (orders["tick"] < 23)]
    demand = by_user(tables, day, 23)
    found = [
        demand[category == other][:, np.unique(orders["user"][category[orders["agent"]] == own])]
        for own, other in ((2, 3), (3, 2))
    ]
    return np.nanmean(np.concatenate([each.ravel() for each in found]))


def taken_orders(tables, day):
    return day.world.incrementality.orders.taken.sum()


def likeness_within_departments(tables, day):
    users = by_user(tables, day, 0)
    department = tables.agents.category // 2
    pairs = [(a, b) for a in range(16) for b in range(a) if department[a] == department[b]]
    return np.mean([correlation(users[a], users[b]) for a, b in pairs])


def price_spread(tables, day):
    orders = day.world.orders
    goods = orders[orders["first_micros"] > 0]
    logs = np.log(goods["first_micros"])
    category = tables.agents.category[goods["agent"]]
    return np.mean([logs[category == c].std() for c in np.unique(category)])


def spread_over_creatives(tables, day):
    logs, agents = log_values(day.values[0]), tables.agents
    which = (((day.turns[0] + agents.shift[:, None]) % 1) * 4).astype(int)
    means = [[np.nanmean(logs[a][which[a] == g]) for g in range(4)] for a in range(16)]
    return np.std(means, axis=1).mean()


def views_per_exposure(tables, day):
    return day.world.funnel.views.sum() / (2 * sum(users.shape[0] for users in day.users))


def mean_floor(tables, day):
    return np.concatenate([supply.floor_micros for supply in day.supplies]).mean()


def share_sold_on_deals(tables, day):
    """Of what sellers earn in the last tick, when all bid what a conversion may cost."""
    supply, agents = day.supplies[-1], agents_of(tables)
    slot_weights = day.world.slot_weights_micros
    revenue = np.zeros(slot_weights.shape[0], np.int64)
    room = TickRoom(agents.law.shape[0], supply.rule.shape[0], revenue.shape[0], tables.deals)
    clear_tick(
        new_accounts(agents.budget_micros), agents.unit_micros.astype(np.float32), supply,
        slot_weights, revenue, room,
    )  # fmt: skip
    return room.deal_accounts.spend_micros.sum() / revenue.sum()


def search_against_feed(tables, day):
    logs = np.nanmean(log_values(day.values[0]), axis=0)
    channel = tables.scenes.channel[day.scenes[0]]
    return np.nanmean(logs[channel == 1]) - np.nanmean(logs[channel == 0])


def expected_orders_per_click(tables, day):
    return day.accounts.expected_conversions.sum() / day.world.funnel.clicks.sum()


def ads(day):
    orders = day.world.orders
    return orders[orders["is_ad"] == 1]


def mean_delay(tables, day):
    return (ads(day)["due_tick"] - ads(day)["tick"]).mean()


def value_spread(tables, day):
    goods = ads(day)[ads(day)["first_micros"] > 0]
    return np.log(goods["first_micros"] / tables.agents.price_micros[goods["agent"]]).std()


def mean_repeats(tables, day):
    return ads(day)["repeat_count"].mean()


def app_micros(tables, day):
    return ads(day)["in_app_micros"].mean()


def returned_share(tables, day):
    return (ads(day)["refund_micros"] > 0).mean()


def claimed_share(tables, day):
    orders = day.world.orders
    return (orders["is_reported"][orders["is_ad"] == 0]).mean()


def errors_of_forecasts(tables, day):
    return np.std(np.log(day.believed / day.accounts.expected_conversions))


def full_days(tables, day):
    agents = agents_of(tables)
    return ((agents.enter_tick == 0) & (agents.leave_tick == 24)).sum()


def ratio(day, start, end):
    """Mean value from hour to hour against the rest; a tick is an hour."""
    means = np.array([values.mean() for values in day.values])
    inside = np.isin(np.arange(24), np.arange(start, end))
    return means[inside].mean() / means[~inside].mean()


def evening_value(tables, day):
    return ratio(day, 16, 24)


def morning_value(tables, day):
    return ratio(day, 8, 12)


def video_share(tables, day):
    channel = tables.scenes.channel[np.concatenate(day.scenes[4:7])]
    return (channel == 2).mean()


def unreported_share(tables, day):
    due = ads(day)[np.isin(ads(day)["due_tick"], np.arange(12, 15))]
    return (due["is_reported"] == 0).mean()


STATISTIC = {
    "interests": spread_over_users,
    "drift": likeness_of_morning_and_evening,
    "intents": mean_value,
    "hours": busiest_tick,
    "devices": computers_against_phones,
    "geo": not_sold_share,
    "price_sensitivity": price_slope,
    "fatigue": clicks_per_view,
    "halo": made_orders,
    "organic": organic_orders,
    "category_tree": likeness_within_departments,
    "price_bands": price_spread,
    "substitutes": taken_orders,
    "complements": demand_for_what_goes_with_orders,
    "creatives": spread_over_creatives,
    "viewability": views_per_exposure,
    "floors": mean_floor,
    "deals": share_sold_on_deals,
    "channels": search_against_feed,
    "carts": expected_orders_per_click,
    "delay": mean_delay,
    "order_value": value_spread,
    "repeats": mean_repeats,
    "lifetime": app_micros,
    "returns": returned_share,
    "attribution": claimed_share,
    "misjudgement": errors_of_forecasts,
    "entry": full_days,
    "holiday": evening_value,
    "competitor_surge": morning_value,
    "supply_drop": video_share,
    "tracking_loss": unreported_share,
}


@pytest.mark.parametrize("name", list(Mechanism))
def test_switching_it_off_moves_its_statistic_by_more_than_five_standard_errors(name):
    statistic = STATISTIC[name]
    on = np.array([statistic(*whole(period)) for period in PERIODS], float)
    off = np.array([statistic(*without(str(name), period)) for period in PERIODS], float)
    # Of independent samples, although the days share their chance: a mechanism must show by itself.
    error = np.sqrt((on.var(ddof=1) + off.var(ddof=1)) / len(PERIODS))
    assert abs(on.mean() - off.mean()) > 5 * error


CHANGES = {
    "interests": {"effects.taste_click", "effects.taste_cart"},
    "drift": {"users.turn"},
    "intents": {"effects.need_size"},
    "hours": {"traffic.counts", "traffic.visits", "traffic.scene_cdf", "traffic.region_cdf"},
    "devices": {"scenes.device_click", "scenes.device_cart"},
    "geo": {"scenes.region_cart", "agents.sold", "agents.belief"},
    "price_sensitivity": {"users.sensitivity"},
    "fatigue": {"effects.fatigue_click"},
    "halo": {"effects.halo_need"},
    "organic": {"traffic.visits"},
    "category_tree": {"agents.appeal"},
    "price_bands": {"agents.price_level", "agents.price_micros", "agents.value_micros"},
    "substitutes": {"effects.substitute_need"},
    "complements": {"effects.complement"},
    "creatives": {"agents.quality", "agents.style"},
    "viewability": {"scenes.viewability"},
    "floors": {"scenes.floor_micros", "scenes.soft_floor_factor"},
    "deals": {"scenes.deal_cdf"},
    "channels": {
        "scenes.click", "scenes.cart", "scenes.floor_micros", "traffic.alias_share",
        "traffic.alias_user", "traffic.region_cdf", "traffic.counts", "traffic.scene_cdf",
    },
    "carts": {"effects.left_cart"},
    "delay": {"orders.delay_median"},
    "order_value": {"orders.value_sigma"},
    "repeats": {"orders.repeat_share", "agents.value_micros"},
    "lifetime": {"orders.ads_micros", "orders.payer_share", "agents.value_micros"},
    "returns": {"orders.return_share"},
    "attribution": {"orders.missed_share", "orders.claimed_share"},
    "misjudgement": {"agents.belief"},
    "entry": set(),
    "holiday": {"traffic.counts", "traffic.visits", "traffic.holiday_cart"},
    "competitor_surge": {"traffic.surge"},
    "supply_drop": {"traffic.counts", "traffic.scene_cdf"},
    "tracking_loss": {"traffic.tracking_loss"},
}  # fmt: skip
"""What each mechanism is made of: the tables that differ without it, and no others."""

MOVES_CROWD = {"hours", "channels", "supply_drop"}
"""Other shares of scenes or regions: the same draw falls on another one."""

CHANGES_OF_ORDERS = {
    "price_bands": {"first_micros", "repeat_micros", "refund_micros"},
    "order_value": {"first_micros", "repeat_micros", "refund_micros"},
    "delay": {"due_tick", "refund_tick", "is_reported"},
    "repeats": {"repeat_count", "repeat_micros"},
    "lifetime": {"in_app_micros"},
    "returns": {"refund_micros"},
    "attribution": {"is_reported"},
    "tracking_loss": {"is_reported"},
}


def flat(tables):
    parts = ("agents", "scenes", "traffic", "effects", "orders")
    named = {
        f"{part}.{name}": value
        for part in parts
        for name, value in getattr(tables, part)._asdict().items()
    }
    users = ("region_first", "region", "device", "taste", "other", "style", "sensitivity", "turn")
    return named | {f"users.{name}": getattr(tables.users, name) for name in users}


@pytest.mark.parametrize("name", list(Mechanism))
def test_switching_it_off_changes_no_draw_of_any_other(name):
    name = str(name)
    tables, off = without(name, 0)
    whole_tables, on = whole(0)
    ours, theirs = flat(tables), flat(whole_tables)
    assert {key for key in ours if not np.array_equal(ours[key], theirs[key])} == CHANGES[name]
    for tick in range(24):
        both = min(off.users[tick].shape[0], on.users[tick].shape[0])
        pairs = [(off.turns, on.turns)]
        if name not in MOVES_CROWD:
            pairs += [(off.users, on.users), (off.scenes, on.scenes)]
        for mine, other in pairs:
            assert np.array_equal(mine[tick][:both], other[tick][:both])
        mine, other = off.supplies[tick], on.supplies[tick]
        assert np.array_equal(mine.exposure_draw[:both], other.exposure_draw[:both])
        same_scene = off.scenes[tick][:both] == on.scenes[tick][:both]
        if name not in ("floors", "channels"):
            assert np.array_equal(
                mine.floor_micros[:both][same_scene], other.floor_micros[:both][same_scene]
            )
    mine, other = keyed(ads(off)), keyed(ads(on))
    common = mine.keys() & other.keys()
    assert len(common) > 200
    fields = set(other_fields()) - CHANGES_OF_ORDERS.get(name, set())
    for key in common:
        for field in fields:
            assert mine[key][field] == other[key][field], field
    organic_on, organic_off = (each.world.orders["is_alone"].sum() for each in (on, off))
    assert organic_on > 0
    assert (organic_off > 0) == (name != "organic")


def keyed(orders):
    return {(row["tick"], row["column"], row["agent"]): row for row in orders}


def other_fields():
    return (
        "due_tick", "refund_tick", "first_micros", "repeat_count", "repeat_micros",
        "in_app_micros", "refund_micros", "is_reported",
    )  # fmt: skip
