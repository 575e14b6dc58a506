"""Builds who comes where and when, and the shocks that change it.

Dimension names: as in ``simulator.world.tables``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from market.chance import Purpose
from simulator.world.draws import cdf, normals, uniforms
from simulator.world.kernels_tables import alias_tables
from simulator.world.mechanisms import Mechanism
from simulator.world.scenario import (
    HOURS_PER_DAY,
    CompetitorSurge,
    Holiday,
    SupplyDrop,
    TrackingLoss,
)
from simulator.world.tables import TrafficArrays

if TYPE_CHECKING:
    from simulator.world.scenario import WorldScenario
    from simulator.world.tables import F32, F64, I64, AgentArrays, UserArrays


def tick_hours(scenario: WorldScenario) -> F64:
    """Returns [T] the middle of each tick in hours of UTC."""
    return (np.arange(scenario.tick_count) + 0.5) * HOURS_PER_DAY / scenario.tick_count


def build_traffic(scenario: WorldScenario, users: UserArrays, agents: AgentArrays) -> TrafficArrays:
    """Returns the tables of traffic; see ``TrafficArrays``."""
    weight = _audience(scenario, users)
    share, aliases = alias_tables(weight, users.region_first)
    first = users.region_first
    by_region = np.stack(
        [weight[:, first[r] : first[r + 1]].sum(axis=1) for r in range(first.shape[0] - 1)], axis=1
    )
    by_region /= by_region.sum(axis=1, keepdims=True)
    shape = by_region * _shapes(scenario)
    by_channel = shape[:, :-1].sum(axis=2)
    by_channel /= by_channel.sum(axis=0)
    channel_share = np.array([channel.share for channel in scenario.channels])
    by_channel *= channel_share / channel_share.sum() * _supply_factor(scenario)
    visits = shape[:, -1].sum(axis=1)
    visits /= visits.sum()
    crowding = _holiday(scenario, 1.0, "traffic_factor") * scenario.opportunity_count
    per_visit = scenario.organic.visits_per_opportunity * scenario.has(Mechanism.ORGANIC)
    scene_weight, channel = _scene_shares(scenario)
    categories = np.array([each.share for each in scenario.categories])
    peers = np.bincount(agents.category, minlength=categories.shape[0])
    return TrafficArrays(
        counts=np.round(by_channel.sum(axis=1) * crowding).astype(np.int64),
        visits=np.round(visits * per_visit * crowding).astype(np.int64),
        scene_cdf=cdf(_never_empty(by_channel)[:, channel] * scene_weight),
        region_cdf=cdf(shape),
        alias_share=share,
        alias_user=aliases,
        product_cdf=cdf(categories[agents.category] / peers[agents.category]),
        need_cdf=cdf(categories),
        holiday_cart=_holiday(scenario, 0.0, "cart").astype(np.float32),
        surge=_surge(scenario),
        tracking_loss=_tracking_loss(scenario),
    )


def _never_empty(weights: F64) -> F64:
    """Returns weights[T, M] with a tick without traffic, which draws nothing, made even."""
    return weights + (weights.sum(axis=1, keepdims=True) == 0)


def _audience(scenario: WorldScenario, users: UserArrays) -> F64:
    """Returns [M + 1, U] how often users are met in each channel, and last in shops."""
    sigma = scenario.users.activity_sigma
    z = normals(scenario, Purpose.WORLD_ACTIVITY, scenario.users.count, 1)[:, 0]
    activity = np.exp(sigma * z - 0.5 * sigma * sigma)
    width = scenario.users.interest_count
    topics = normals(scenario, Purpose.WORLD_TOPIC, len(scenario.channels), width)
    topics /= np.linalg.norm(topics, axis=1, keepdims=True)
    has_channels = scenario.has(Mechanism.CHANNELS)
    rows = [
        activity * np.exp(channel.audience_pull * has_channels * (users.taste @ topic))
        for channel, topic in zip(scenario.channels, topics, strict=True)
    ]
    return np.stack([*rows, activity])


def _shapes(scenario: WorldScenario) -> F64:
    """Returns [T, M + 1, R] the weight of the local hour; visits follow the channels' mean."""
    offsets = np.array([region.utc_offset_h for region in scenario.users.regions])
    hour = ((tick_hours(scenario)[:, None] + offsets) % HOURS_PER_DAY).astype(np.int64)
    if not scenario.has(Mechanism.HOURS):
        return np.ones((scenario.tick_count, len(scenario.channels) + 1, offsets.shape[0]))
    rows: list[F64] = []
    for channel in scenario.channels:
        shape = np.array(scenario.hour_shapes[channel.hour_shape])
        rows.append((shape / shape.mean())[hour])
    share = np.array([channel.share for channel in scenario.channels])
    of_visits = np.einsum("m,mtr->tr", share / share.sum(), np.stack(rows))
    return np.stack([*rows, of_visits], axis=1)


def _scene_shares(scenario: WorldScenario) -> tuple[F64, I64]:
    """Returns [S] the share of each scene within its channel, and [S] the channel."""
    names = [channel.name for channel in scenario.channels]
    weights: list[float] = []
    channels: list[int] = []
    for publisher in scenario.publishers:
        whole = sum(placement.share for placement in publisher.placements)
        weights += [publisher.share * each.share / whole for each in publisher.placements]
        channels += [names.index(publisher.channel)] * len(publisher.placements)
    weight, channel = np.array(weights), np.array(channels)
    totals = np.bincount(channel, weight, len(names))
    return weight / np.where(totals > 0, totals, 1.0)[channel], channel


def _is_during(scenario: WorldScenario, from_h: float, to_h: float) -> npt.NDArray[np.bool_]:
    hours = tick_hours(scenario)
    return (from_h <= hours) & (hours < to_h)


def _holiday(scenario: WorldScenario, neutral: float, field: str) -> F64:
    """Returns [T] the field of the holidays: factors multiply, effects add up."""
    found = np.full(scenario.tick_count, neutral)
    if scenario.has(Mechanism.HOLIDAY):
        for shock in scenario.shocks:
            if isinstance(shock, Holiday):
                now = _is_during(scenario, shock.from_h, shock.to_h)
                if field == "traffic_factor":
                    found[now] *= shock.traffic_factor
                else:
                    found[now] += shock.cart
    return found


def _supply_factor(scenario: WorldScenario) -> F64:
    """Returns [T, M] what supply drops leave of the traffic."""
    factor = np.ones((scenario.tick_count, len(scenario.channels)))
    if scenario.has(Mechanism.SUPPLY_DROP):
        for shock in scenario.shocks:
            if isinstance(shock, SupplyDrop):
                is_here = np.array([shock.channel in ("", c.name) for c in scenario.channels])
                now = _is_during(scenario, shock.from_h, shock.to_h)
                factor[np.ix_(now, is_here)] *= shock.traffic_factor
    return factor


def _surge(scenario: WorldScenario) -> F32:
    """Returns [T, A] the factor on what agents believe; each shock has its own group of agents."""
    factor = np.ones((scenario.tick_count, scenario.agents.count))
    for i, shock in enumerate(scenario.shocks):
        if isinstance(shock, CompetitorSurge) and scenario.has(Mechanism.COMPETITOR_SURGE):
            draws = uniforms(scenario, Purpose.WORLD_SURGE, scenario.agents.count, 1, i)[:, 0]
            now = _is_during(scenario, shock.from_h, shock.to_h)
            factor[np.ix_(now, draws < shock.share)] *= shock.value_factor
    return factor.astype(np.float32)


def _tracking_loss(scenario: WorldScenario) -> F64:
    kept = np.ones(scenario.tick_count + 1)
    if scenario.has(Mechanism.TRACKING_LOSS):
        for shock in scenario.shocks:
            if isinstance(shock, TrackingLoss):
                kept[:-1][_is_during(scenario, shock.from_h, shock.to_h)] *= 1.0 - shock.share
    return 1.0 - kept
