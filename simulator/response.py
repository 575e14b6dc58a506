"""Responses: what users do after an impression, and what makes them do it.

An impression comes into view or not; a viewed one is clicked with probability

    P(click | viewed) = logistic(intercept + user + scene + ad + scale * interest . appeal)

and a click converts with a probability of the same form and its own effects. An ad's effect and
appeal are a weighted sum over its features, plus a residual that is its own, so that a model which
sees the hashed features can learn most of it, but not all.

The intercepts are solved, so that the average over traffic and the ads of the scenario's vocabulary
is the click rate and conversion rate that the scenario states.

Dimension names: U = users, S = scenes, C = creatives, K = interests, N = rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import root_scalar
from scipy.special import expit

from market.chance import Purpose, code_of
from market.creative import AD_FIELDS
from market.errors import BadInput
from simulator.kernels import (
    ResponseArrays,
    draw_responses,
    normal_table,
    response_probabilities,
    uniform_table,
)
from simulator.registration import RegisteredCreative
from simulator.supply import scene_key

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.population import Population
    from simulator.scenario import Scenario
    from simulator.supply import Scene, Supply

VOCABULARY_ID_FIRST = 3_000_000_000
"""Creative ids of the vocabulary's ads, out of the way of a control plane's."""

VOCABULARY_ADS_PER_SIZE = 48

_CALIBRATION_COUNT = 32_768
_KINDS = 2
# The high key of a placement's effect; ad features have their field's number, creatives the next.
_PLACES = np.uint64(64)


class Responses(NamedTuple):
    """What came of N impressions; all [N].

    Attributes:
        view, click, conversion: probabilities of each step given the one before.
        viewed, clicked, converted: uint8, what happened.
    """

    view: npt.NDArray[np.float64]
    click: npt.NDArray[np.float64]
    conversion: npt.NDArray[np.float64]
    viewed: npt.NDArray[np.uint8]
    clicked: npt.NDArray[np.uint8]
    converted: npt.NDArray[np.uint8]


def build_response(
    supply: Supply, population: Population, creatives: Sequence[RegisteredCreative]
) -> ResponseArrays:
    """Returns how the users of ``supply`` respond to ``creatives``, in their order.

    A function of the scenario and the creatives; no seed of a run enters.

    Raises:
        BadInput: so few impressions come into view that the scenario's click rate is impossible.
    """
    scenario = supply.scenario
    vocabulary = vocabulary_ads(scenario, supply.scenes)
    draft = _uncalibrated(scenario, population, supply.scenes, vocabulary)
    intercept = _intercepts(supply, vocabulary, draft)
    arrays = _uncalibrated(scenario, population, supply.scenes, creatives)
    return arrays._replace(intercept=intercept)


def respond(
    seed: int,
    key_hi: npt.NDArray[np.uint64],
    key_lo: npt.NDArray[np.uint64],
    user: npt.NDArray[np.int32],
    scene: npt.NDArray[np.int32],
    creative: npt.NDArray[np.int32],
    response: ResponseArrays,
) -> Responses:
    """Returns what the users do when these creatives (rows) are shown on these opportunities."""
    view, click, conversion = response_probabilities(user, scene, creative, *response)
    viewed, clicked, converted = draw_responses(seed, key_hi, key_lo, view, click, conversion)
    return Responses(view, click, conversion, viewed, clicked, converted)


def vocabulary_ads(
    scenario: Scenario, scenes: tuple[Scene, ...], per_size: int = VOCABULARY_ADS_PER_SIZE
) -> tuple[RegisteredCreative, ...]:
    """Returns ``per_size`` ads for every format and size on offer, features drawn at random."""
    shapes = sorted({(_format_name(scene), size) for scene in scenes for size in scene.sizes})
    ads: list[RegisteredCreative] = []
    fields = tuple(scenario.ad_vocabulary)
    actors = np.arange(len(fields), dtype=np.int64)
    ids = VOCABULARY_ID_FIRST + np.arange(len(shapes) * per_size)
    keys = ids.astype(np.uint64)
    draws = uniform_table(
        scenario.world_seed, int(Purpose.CREATIVE_TASTE), np.zeros_like(keys), keys, actors
    )
    for i, creative_id in enumerate(ids.tolist()):
        name, size = shapes[i // per_size]
        features = {
            field: values[int(draws[i, actor] * len(values))]
            for actor, (field, values) in enumerate(scenario.ad_vocabulary.items())
        }
        ads.append(
            RegisteredCreative(
                creative_id=creative_id,
                campaign_id=VOCABULARY_ID_FIRST,
                value_per_conversion_micros=0,
                features={"format": name, "size": f"{size >> 16}x{size & 0xFFFF}", **features},
            )
        )
    return tuple(ads)


def choose_ads(
    ads: Sequence[RegisteredCreative],
    scenes: tuple[Scene, ...],
    scene: npt.NDArray[np.int32],
    uniforms: npt.NDArray[np.float64],
) -> npt.NDArray[np.int32]:
    """Returns [N] rows of ``ads``, each drawn evenly from those that fit its scene; -1 = none."""
    by_shape: dict[tuple[str, str], list[int]] = {}
    for row, ad in enumerate(ads):
        shape = (ad.features.get("format", ""), ad.features.get("size", ""))
        by_shape.setdefault(shape, []).append(row)
    fitting = [
        [
            row
            for size in own.sizes
            for row in by_shape.get((_format_name(own), f"{size >> 16}x{size & 0xFFFF}"), ())
        ]
        for own in scenes
    ]
    counts = np.array([len(rows) for rows in fitting], np.int64)
    table = np.full((len(scenes), max(int(counts.max()), 1)), -1, np.int32)
    for own, rows in zip(table, fitting, strict=True):
        own[: len(rows)] = rows
    return table[scene, (uniforms * counts[scene]).astype(np.int64)]


def _format_name(scene: Scene) -> str:
    assert scene.format.name is not None
    return scene.format.name.lower()


def _uncalibrated(
    scenario: Scenario,
    population: Population,
    scenes: tuple[Scene, ...],
    creatives: Sequence[RegisteredCreative],
) -> ResponseArrays:
    """Returns the response with intercepts of 0."""
    rules = scenario.response
    count = len(scenario.people.interests)
    factor = np.array([1.0, rules.conversion_factor])
    places = np.array([code_of(scene_key(scene)) for scene in scenes], np.uint64)
    scene_effect = normal_table(
        scenario.world_seed, int(Purpose.SCENE), np.full_like(places, _PLACES), places, _KINDS
    ).T
    ad_effect, appeal = _ad_latents(scenario, creatives)
    return ResponseArrays(
        intercept=np.zeros(_KINDS),
        match_scale=factor * rules.match_sigma / np.sqrt(count),
        user_effect=np.ascontiguousarray(
            (factor * rules.user_sigma)[:, None] * population.proneness.T
        ),
        scene_effect=np.ascontiguousarray((factor * rules.scene_sigma)[:, None] * scene_effect),
        ad_effect=np.ascontiguousarray((factor * rules.ad_sigma)[:, None] * ad_effect),
        appeal=appeal,
        interest=population.interest,
        viewability=np.array([scene.placement.viewability for scene in scenes]),
    )


def _ad_latents(
    scenario: Scenario, creatives: Sequence[RegisteredCreative]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns effect[2, C] and appeal[2, C, K], each entry of variance about 1 over ads.

    Every text of a field has its own draws; weights are such that all fields together explain
    1 - residual_share of the variance, and draws named by the creative's id the rest.
    """
    rules, count = scenario.response, len(scenario.people.interests)
    width = _KINDS * (count + 1)
    weights = np.array([rules.ad_weights.get(field, 0.0) for field in AD_FIELDS])
    weights *= np.sqrt((1.0 - rules.residual_share) / np.sum(weights**2))

    def latents(place: int, codes: list[int]) -> npt.NDArray[np.float64]:
        low = np.array(codes, np.uint64)
        return normal_table(
            scenario.world_seed,
            int(Purpose.CREATIVE_TASTE),
            np.full_like(low, np.uint64(place + 1)),
            low,
            width,
        )

    ids = [creative.creative_id for creative in creatives]
    total = np.sqrt(rules.residual_share) * latents(len(AD_FIELDS), ids)
    for place, field in enumerate(AD_FIELDS):
        texts = [creative.features.get(field, "") for creative in creatives]
        is_known = np.array([bool(text) for text in texts], np.float64)
        own = latents(place, [code_of(text) for text in texts])
        total += weights[place] * is_known[:, None] * own
    effect = np.ascontiguousarray(total[:, :_KINDS].T)
    appeal = total[:, _KINDS:].reshape(len(ids), _KINDS, count).transpose(1, 0, 2)
    return effect, np.ascontiguousarray(appeal)


def _intercepts(
    supply: Supply, vocabulary: tuple[RegisteredCreative, ...], draft: ResponseArrays
) -> npt.NDArray[np.float64]:
    """Returns [2] intercepts at which a typical day has the scenario's click and conversion rate.

    ``draft`` is the response to ``vocabulary`` with intercepts of 0.
    """
    scenario = supply.scenario
    scene, user = supply.sample(_CALIBRATION_COUNT)
    keys = np.arange(_CALIBRATION_COUNT, dtype=np.uint64)
    uniforms = uniform_table(
        scenario.world_seed,
        int(Purpose.CREATIVE_CHOICE),
        np.zeros_like(keys),
        keys,
        np.zeros(1, np.int64),
    )[:, 0]
    creative = choose_ads(vocabulary, supply.scenes, scene, uniforms)
    view, click, conversion = response_probabilities(user, scene, creative, *draft)
    # The draft's probabilities are logistic(odds without intercept): take the odds back.
    click_odds = np.log(click / (1.0 - click))
    conversion_odds = np.log(conversion / (1.0 - conversion))

    def click_excess(intercept: float) -> float:
        return float(np.mean(view * expit(intercept + click_odds))) - scenario.response.ctr

    if float(np.mean(view)) <= scenario.response.ctr:
        raise BadInput(
            f"/response/ctr: is {scenario.response.ctr}; only {np.mean(view):.3f} of impressions "
            "come into view, and no more can be clicked",
            "/response/ctr",
        )
    first = _root(click_excess)
    weight = view * expit(first + click_odds)
    weight /= weight.sum()

    def conversion_excess(intercept: float) -> float:
        return float(np.sum(weight * expit(intercept + conversion_odds))) - scenario.response.cvr

    second = _root(conversion_excess)
    return np.array([first, second])


def _root(excess: Callable[[float], float]) -> float:
    """Returns the intercept at which an increasing function of it is 0."""
    return float(root_scalar(excess, bracket=(-40.0, 40.0), xtol=1e-10).root)
