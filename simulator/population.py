"""The users: who they are, what they like, and which segments are sold of them.

A user's tastes are partly those of its groups (country, region, gender, age, device, system),
partly its own. Groups show in every request; what is personal shows only in the three segments,
which are named after the user's strongest interests, strongest first.

Dimension names: U = users, K = interests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.chance import Purpose, code_of
from market.kernels import hash_pair
from simulator.kernels import normal_table, uniform_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from simulator.scenario import Country, Device, People, Scenario

SEGMENT_COUNT = 3
"""Segments sold of each user."""

_CELLULAR = ("3", "4", "5", "6", "7")
# The draws of one user, by actor; names of the world's tables are kept apart by the high key.
_ACTORS = {
    name: actor
    for actor, name in enumerate(
        (
            "country", "region", "device", "gender", "age", "year", "language", "connection",
            "carrier", "gender_known", "age_known",
        )
    )
}  # fmt: skip
_USERS, _GROUPS = np.uint64(1), np.uint64(2)


class Population(NamedTuple):
    """The users, one row each.

    Attributes:
        user_ids: texts, ``user.id``.
        country: [U] int32 rows of ``People.countries``.
        region: [U] int32 rows of the country's regions.
        device: [U] int32 rows of ``People.devices``.
        language, connection, carrier, gender: texts as sent; "" = not sent.
        year_of_birth: [U] int32 as sent; 0 = not sent.
        utc_offset_minutes: [U] int64.
        activity: [U] float64 weight of being met, mean about 1.
        interest: [U, K] float64 tastes, mean 0 and variance 1 over users.
        proneness: [U, 2] float64, the same, to click and to convert whatever the ad.
        segments: [U, 3] int32, the strongest interests, strongest first.
    """

    user_ids: tuple[str, ...]
    country: npt.NDArray[np.int32]
    region: npt.NDArray[np.int32]
    device: npt.NDArray[np.int32]
    language: tuple[str, ...]
    connection: tuple[str, ...]
    carrier: tuple[str, ...]
    gender: tuple[str, ...]
    year_of_birth: npt.NDArray[np.int32]
    utc_offset_minutes: npt.NDArray[np.int64]
    activity: npt.NDArray[np.float64]
    interest: npt.NDArray[np.float64]
    proneness: npt.NDArray[np.float64]
    segments: npt.NDArray[np.int32]


def build_population(scenario: Scenario) -> Population:
    """Returns the users of a scenario; a function of its ``people`` and ``world_seed``."""
    people, seed = scenario.people, scenario.world_seed
    count = people.user_count
    hi = np.full(count, _USERS)
    rows = np.arange(count, dtype=np.uint64)
    draws = uniform_table(
        seed, int(Purpose.POPULATION), hi, rows, np.arange(len(_ACTORS), dtype=np.int64)
    )

    def draw(name: str) -> npt.NDArray[np.float64]:
        return draws[:, _ACTORS[name]]

    country = _pick(draw("country"), (country.share for country in people.countries))
    device = _pick(draw("device"), (device.share for device in people.devices))
    region = _pick_per_row(
        draw("region"), country, [[r.share for r in c.regions] for c in people.countries]
    )
    genders = tuple(people.gender_shares)
    gender = _pick(draw("gender"), people.gender_shares.values())
    decades = np.array([int(decade) for decade in people.age_shares])
    decade = decades[_pick(draw("age"), people.age_shares.values())]
    year = datetime.fromtimestamp(scenario.start_at_ms / 1000, UTC).year
    born = (year - decade - np.floor(draw("year") * 10)).astype(np.int32)
    groups = [
        [f"country {people.countries[i].name}" for i in country],
        [f"region {people.countries[i].name} {j}" for i, j in zip(country, region, strict=True)],
        [f"gender {genders[i]}" for i in gender],
        [f"age {i}" for i in decade],
        [f"device {people.devices[i].device_type} {people.devices[i].os}" for i in device],
    ]
    interest, proneness = _tastes(people, seed, rows, groups)
    connection, carrier = _networks(people, country, device, draw("connection"), draw("carrier"))
    is_gender_known = draw("gender_known") < people.gender_known_share
    return Population(
        user_ids=tuple(f"u{int(hash_pair(np.uint64(seed), row)):016x}" for row in rows),
        country=country,
        region=region,
        device=device,
        language=_languages(people.countries, country, draw("language")),
        connection=connection,
        carrier=carrier,
        gender=tuple(
            genders[i] if known else "" for i, known in zip(gender, is_gender_known, strict=True)
        ),
        year_of_birth=np.where(draw("age_known") < people.age_known_share, born, 0).astype(
            np.int32
        ),
        utc_offset_minutes=np.array(
            [
                people.countries[i].regions[j].utc_offset_minutes
                for i, j in zip(country, region, strict=True)
            ],
            np.int64,
        ),
        activity=_activity(people, seed, rows),
        interest=interest,
        proneness=proneness,
        segments=np.argsort(-interest, axis=1, kind="stable")[:, :SEGMENT_COUNT].astype(np.int32),
    )


def segment_texts(people: People) -> tuple[str, ...]:
    """Returns the segment id of each interest."""
    return tuple(f"int-{name}" for name in people.interests)


def _pick(uniforms: npt.NDArray[np.float64], weights: Iterable[float]) -> npt.NDArray[np.int32]:
    """Returns the row of ``weights`` that each uniform draw falls on."""
    cumulated = np.cumsum(np.fromiter(weights, np.float64))
    rows = np.searchsorted(cumulated, uniforms * cumulated[-1], side="right")
    return np.minimum(rows, cumulated.shape[0] - 1).astype(np.int32)


def _pick_per_row(
    uniforms: npt.NDArray[np.float64],
    table: npt.NDArray[np.int32],
    weights: Sequence[Sequence[float]],
) -> npt.NDArray[np.int32]:
    """As ``_pick``, with weights[table[i]] for draw i."""
    rows = np.zeros(uniforms.shape[0], np.int32)
    for index, own in enumerate(weights):
        is_own = table == index
        rows[is_own] = _pick(uniforms[is_own], own)
    return rows


def _tastes(
    people: People, seed: int, rows: npt.NDArray[np.uint64], groups: list[list[str]]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns interest[U, K] and proneness[U, 2]: group_share of groups, the rest personal."""
    width = len(people.interests) + 2
    own = normal_table(seed, int(Purpose.POPULATION), np.full_like(rows, _USERS), rows, width)
    shared = np.zeros_like(own)
    for names in groups:
        distinct, member = np.unique(np.array(names), return_inverse=True)
        codes = np.array([code_of(str(name)) for name in distinct], np.uint64)
        table = normal_table(
            seed, int(Purpose.POPULATION), np.full_like(codes, _GROUPS), codes, width
        )
        shared += table[member]
    # Few groups make few draws, so their mean and spread are set, not left to chance.
    mixed = np.sqrt(people.group_share) * _standardised(shared)
    mixed += np.sqrt(1.0 - people.group_share) * _standardised(own)
    return np.ascontiguousarray(mixed[:, :-2]), np.ascontiguousarray(mixed[:, -2:])


def _standardised(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Returns each column with mean 0 and spread 1; a constant column becomes 0."""
    spread = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _activity(people: People, seed: int, rows: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    draws = normal_table(seed, int(Purpose.USER), np.full_like(rows, _USERS), rows, 1)[:, 0]
    sigma = people.activity_sigma
    return np.exp(sigma * draws - 0.5 * sigma * sigma)


def _languages(
    countries: Sequence[Country],
    country: npt.NDArray[np.int32],
    uniforms: npt.NDArray[np.float64],
) -> tuple[str, ...]:
    picked = _pick_per_row(uniforms, country, [list(c.languages.values()) for c in countries])
    names = [tuple(c.languages) for c in countries]
    return tuple(names[i][j] for i, j in zip(country, picked, strict=True))


def _networks(
    people: People,
    country: npt.NDArray[np.int32],
    device: npt.NDArray[np.int32],
    connection_draw: npt.NDArray[np.float64],
    carrier_draw: npt.NDArray[np.float64],
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns connection type and carrier; a carrier is sent on cellular connections only."""
    picked = _pick_per_row(
        connection_draw, device, [list(d.connections.values()) for d in people.devices]
    )
    kinds = [_kinds(d) for d in people.devices]
    connection = tuple(kinds[i][j] for i, j in zip(device, picked, strict=True))
    carriers = [tuple(c.carriers) or ("",) for c in people.countries]
    by_carrier = _pick_per_row(
        carrier_draw, country, [list(c.carriers.values()) or [1.0] for c in people.countries]
    )
    carrier = tuple(
        carriers[i][j] if kind in _CELLULAR else ""
        for kind, i, j in zip(connection, country, by_carrier, strict=True)
    )
    return connection, carrier


def _kinds(device: Device) -> tuple[str, ...]:
    return tuple(device.connections)
