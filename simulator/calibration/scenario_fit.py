"""The calibration as a scenario: a file that the whole twin runs, in process and over HTTP.

A log does not show who publishers and users are, so those are a template's; what was fitted goes
over them: how many requests and when, the rivals, click and conversion rates, delays. Floors stay
the template's. What a scenario cannot hold is folded in: that rivals know what our own bid knows of
a user widens their spread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
from scipy.optimize import nnls

from market.errors import BadInput
from simulator.calibration.log import DAY_HOURS
from simulator.calibration.terms import toml_of
from simulator.scenario import Competitor, read

if TYPE_CHECKING:
    from simulator.calibration.log import F64
    from simulator.calibration.terms import Calibration, RivalsFit
    from simulator.scenario import Scenario

SHAPE = "fitted"
"""Name of the fitted hour shape; every publisher follows it."""

_QUARTERS = 4
_NAME_MAX = 40
_LEAST_WEIGHT = 1e-3


def fitted_scenario(calibration: Calibration, template: Scenario) -> Scenario:
    """Returns the template with everything in it that a calibration says.

    Raises:
        BadInput: no bids were logged, so that there are no rivals; another currency; or a fitted
            number that no scenario may have.
    """
    rivals = calibration.rivals
    if rivals is None:
        raise BadInput(
            f"calibration of '{calibration.source}': a log of won impressions shows no rivals; a "
            "scenario needs a log with bids"
        )
    if calibration.currency != template.currency:
        raise BadInput(
            f"calibration in {calibration.currency}: the template scenario '{template.name}' is in "
            f"{template.currency}; both must be in one currency"
        )
    given = template.response
    response, delay = calibration.response, calibration.delay
    rules = msgspec.structs.replace(given, ctr=response.ctr.value)
    if delay is not None and response.cvr is not None:
        median = max(1, round(delay.median_ms.value))
        rules = msgspec.structs.replace(
            rules,
            cvr=min(response.cvr.value, 0.899),
            delay_ms_median=median,
            delay_sigma=min(delay.sigma.value, 5.0),
            delay_ms_min=0,
            delay_ms_max=max(given.delay_ms_max, 1_000 * median),
        )
    fitted = msgspec.structs.replace(
        template,
        name=f"{template.name[: _NAME_MAX - len(SHAPE) - 1]}-{SHAPE}",
        requests_per_day=max(1, round(calibration.supply.requests_per_day.value)),
        hour_shapes={SHAPE: hour_shape(calibration, template)},
        publishers=tuple(
            msgspec.structs.replace(publisher, hour_shape=SHAPE)
            for publisher in template.publishers
        ),
        competitors=_competitors(rivals, template),
        response=rules,
    )
    # Read back, so that a fitted number that no scenario may have is an error that names it.
    return read(toml_of(fitted), fitted.name)


def scenario_toml(scenario: Scenario) -> str:
    """Returns a scenario as TOML that ``simulator.scenario.load`` reads back as it is."""
    return toml_of(scenario)


def hour_shape(calibration: Calibration, template: Scenario) -> tuple[float, ...]:
    """Returns 24 weights by local hour under which the template's traffic follows the fitted hours.

    Users of several time zones follow one shape, each in local time; it is the non-negative least
    squares solution of what the fitted hours of the UTC day mix it into.
    """
    supply = calibration.supply
    wanted = np.array([rate.value for rate in supply.requests_per_hour])
    wanted *= DAY_HOURS / wanted.sum()
    mixing = _mixing(template)
    # A weak pull to even hours settles what the time zones leave open.
    pull = 1e-3 * np.eye(DAY_HOURS)
    weights, _ = nnls(
        np.vstack((mixing, pull)), np.concatenate((wanted, 1e-3 * np.ones(DAY_HOURS)))
    )
    return tuple(np.maximum(weights, _LEAST_WEIGHT).tolist())


def _mixing(template: Scenario) -> F64:
    """Returns [24, 24]: share of the traffic of a UTC hour that is at each local hour."""
    mixing = np.zeros((DAY_HOURS, DAY_HOURS))
    everywhere = {country.name: country for country in template.people.countries}
    for publisher in template.publishers:
        names = publisher.countries or tuple(everywhere)
        total = sum(everywhere[name].share for name in names)
        for name in names:
            weight = publisher.share * everywhere[name].share / total / _QUARTERS
            offset = everywhere[name].utc_offset_minutes
            for quarter in range(DAY_HOURS * _QUARTERS):
                local = (quarter * 15 + offset) // 60 % DAY_HOURS
                mixing[quarter // _QUARTERS, local] += weight
    return mixing / mixing.sum(axis=1, keepdims=True)


def _competitors(rivals: RivalsFit, template: Scenario) -> tuple[Competitor, ...]:
    shared = (rivals.slant.value * rivals.bid_sigma) ** 2
    return tuple(
        Competitor(
            name=f"{SHAPE}-{number}",
            presence=rival.presence.value,
            cpm_median=rival.cpm_median.value,
            sigma=float(np.sqrt(rival.sigma.value**2 + shared)),
            scene_sigma=rivals.scene_sigma,
            interest=template.people.interests[0],
            interest_weight=0.0,
        )
        for number, rival in enumerate(rivals.rivals, 1)
    )
