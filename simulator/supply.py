"""Supply: the scenes where ads can be shown, and the opportunities that arise there.

A scene is a placement of a publisher in one country. Everything a bidder may know of an opportunity
is a column here: ``Supply.offers`` fills arrays from them, ``simulator.bid_request`` renders the
same columns as OpenRTB, so that the two cannot drift apart.

Dimension names: N = opportunities, S = scenes, U = users, Q = quarters of a day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from market.chance import code_of, opportunity_key, user_key
from market.creative import MEDIA_TYPES
from market.errors import BadInput
from market.money import MICROS, currency_number
from market.openrtb_reading import domain_and_parents
from market.opportunity import (
    DIMENSION_COUNT,
    OPPORTUNITY_DTYPE,
    CodeList,
    Dimension,
    Format,
    Opportunities,
    no_opportunities,
)
from market.user_agent import agent_of
from simulator.kernels import SupplyArrays, arrival_offsets, draw_arrivals
from simulator.population import SEGMENT_COUNT, segment_texts
from simulator.scenario import DAY_MS, QUARTER_MS, Placement, Publisher, size_code

if TYPE_CHECKING:
    from collections.abc import Mapping

    from market.exchange import ExchangeProfile
    from simulator.population import Population
    from simulator.scenario import Scenario

IMP_ID = "1"
"""Every request offers one imp."""

_QUARTERS = DAY_MS // QUARTER_MS
_MINUTE_MS = 60_000
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# 1970-01-01 was a Thursday.
_EPOCH_DAY = 4
# The high key of calibration draws; opportunities' high keys are hashes.
_SAMPLE = np.uint64(4)
_HOUR_CODES = np.array([code_of(f"{day} {hour}") for day in _DAYS for hour in range(24)], np.uint64)
_AGE_CODES = np.array([code_of(str(decade * 10)) for decade in range(20)], np.uint64)


class Scene(NamedTuple):
    """One row of the scenes, as it is written down."""

    publisher: Publisher
    placement: Placement
    country: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """What an ad may measure, as w << 16 | h: banner sizes in the order sent, or the player."""
        video = self.placement.video
        texts = self.placement.banner_sizes if video is None else (video.player_size,)
        return tuple(size_code(text) for text in texts)

    @property
    def mimes(self) -> tuple[str, ...]:
        """Accepted media types in the order sent; empty = not said."""
        video = self.placement.video
        return self.placement.banner_mimes if video is None else video.mimes

    @property
    def format(self) -> Format:
        """What may be shown."""
        return Format.BANNER if self.placement.video is None else Format.VIDEO


class Offers(NamedTuple):
    """A block of opportunities and what only the twin knows of them.

    Attributes:
        opportunities: what a bidder sees, [N].
        sequence: [N] int64, the numbers of the requests; their order is the order of arrival.
        scene: [N] int32.
        user: [N] int32.
    """

    opportunities: Opportunities
    sequence: npt.NDArray[np.int64]
    scene: npt.NDArray[np.int32]
    user: npt.NDArray[np.int32]


class Supply:
    """The stream of opportunities of one seed: a pure function of the request's number."""

    def __init__(
        self,
        scenario: Scenario,
        population: Population,
        profile: ExchangeProfile,
        *,
        seed: int,
        user_salt: bytes,
        series: str = "",
        start_at_ms: int | None = None,
    ) -> None:
        """Prepares the columns.

        Args:
            scenario: the market.
            population: its users.
            profile: of the exchange, as the bidder has it.
            seed: of the draws.
            user_salt: of the bidder's pseudonyms (``market.chance.user_key``).
            series: told apart from other streams of the same seed in the request ids.
            start_at_ms: when request 0 may arrive, a midnight; None = the scenario's start.

        Raises:
            BadInput: a placement meets no user.
        """
        self.scenario = scenario
        self.population = population
        self.exchange = profile.name
        self.scenes = scenes_of(scenario)
        self.seed = seed
        self.start_at_ms = scenario.start_at_ms if start_at_ms is None else start_at_ms
        self._series = f"{scenario.name}{series}-{seed}-"
        self.arrays, self._expected = _arrivals(scenario, population, self.scenes)
        self._template = _scene_records(scenario, profile, self.scenes)
        self._user_dimensions = _user_dimensions(scenario, population)
        self._user_keys = np.array(
            [user_key(user_salt, user_id) for user_id in population.user_ids], np.uint64
        )
        names = segment_texts(scenario.people)
        segment_codes = np.array([code_of(name) for name in names], np.uint64)
        self._segments = segment_codes[population.segments]
        self._scene_lists = _scene_lists(self.scenes)
        self._os_versions = _os_versions(scenario, population)

    def request_id(self, sequence: int) -> str:
        """Returns the id of a request, the same text on every run of this seed."""
        return f"{self._series}{sequence}"

    def offers(self, start_ms: int, end_ms: int) -> Offers:
        """Returns the opportunities of [start, end), all arriving at its start, in order.

        Slices that touch give together what one slice over both gives, but for arrival times.
        """
        first = self._count_before(start_ms)
        count = self._count_before(end_ms) - first
        return self._draw(first, self._positions(first, count), np.full(count, start_ms))

    def block(self, first: int, count: int) -> Offers:
        """Returns requests ``first`` to ``first + count``; each arrives when its slice starts."""
        positions = self._positions(first, count)
        day, rest = np.divmod(positions, self._expected[-1])
        at = np.interp(rest, self._expected, np.arange(_QUARTERS + 1) * float(QUARTER_MS))
        since = day.astype(np.int64) * DAY_MS + at.astype(np.int64)
        slice_ms = self.scenario.slice_ms
        return self._draw(first, positions, self.start_at_ms + since // slice_ms * slice_ms)

    def sample(self, count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Returns scene[count] and user[count] of a typical day, drawn with the world's own seed.

        What the market is calibrated on; no opportunity of any episode is among them.
        """
        positions = (np.arange(count) + 0.5) * (self._expected[-1] / count)
        keys = np.arange(count, dtype=np.uint64)
        scene, user, _ = draw_arrivals(
            self.scenario.world_seed,
            np.full_like(keys, _SAMPLE),
            keys,
            self._quarters(positions),
            *self.arrays,
        )
        return scene, user

    def _quarters(self, positions: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Returns [N] the quarter of the UTC day in which each request arrives."""
        within = positions % self._expected[-1]
        quarter = np.searchsorted(self._expected, within, side="right") - 1
        return np.clip(quarter, 0, _QUARTERS - 1).astype(np.int64)

    def _count_before(self, at_ms: int) -> int:
        """Returns how many requests arrive before an instant."""
        day, rest = divmod(max(at_ms - self.start_at_ms, 0), DAY_MS)
        quarters = np.arange(_QUARTERS + 1) * float(QUARTER_MS)
        expected = day * self._expected[-1] + float(np.interp(rest, quarters, self._expected))
        count = int(expected)
        return count + int(count + arrival_offsets(self.seed, count, 1)[0] < expected)

    def _positions(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """Returns [count] expected numbers of requests at which each arrives."""
        return np.arange(first, first + count) + arrival_offsets(self.seed, first, count)

    def _draw(
        self,
        first: int,
        positions: npt.NDArray[np.float64],
        arrival_ms: npt.NDArray[np.int64],
    ) -> Offers:
        count = positions.shape[0]
        keys = np.array(
            [
                opportunity_key(self.exchange, f"{self._series}{n}", IMP_ID)
                for n in range(first, first + count)
            ],
            np.uint64,
        ).reshape(count, 2)
        key_hi, key_lo = np.ascontiguousarray(keys[:, 0]), np.ascontiguousarray(keys[:, 1])
        scene, user, floor = draw_arrivals(
            self.seed, key_hi, key_lo, self._quarters(positions), *self.arrays
        )
        records = self._template[scene]
        records["key_hi"], records["key_lo"] = key_hi, key_lo
        records["arrival_ms"] = arrival_ms
        records["user_key"] = self._user_keys[user]
        records["floor_cpm_micros"] = floor
        dimensions = records["dimensions"]
        dimensions |= self._user_dimensions[user]
        records["os_version"] = self._os_versions[user]
        dimensions[:, Dimension.HOUR_OF_WEEK] = _hour_codes(
            arrival_ms + self.population.utc_offset_minutes[user] * _MINUTE_MS
        )
        dimensions[:, Dimension.AGE_BAND] = _age_codes(
            arrival_ms, self.population.year_of_birth[user]
        )
        codes = self._fill_lists(records, scene, user)
        block = no_opportunities(0, 0, 0)._replace(records=records, codes=codes)
        return Offers(block, np.arange(first, first + count), scene, user)

    def _fill_lists(
        self,
        records: npt.NDArray[np.void],
        scene: npt.NDArray[np.int32],
        user: npt.NDArray[np.int32],
    ) -> npt.NDArray[np.uint64]:
        """Points the list slices of ``records`` into the pool that it returns.

        Each opportunity owns a stretch of the pool: its segments, then the lists of its scene.
        """
        list_count = records["list_count"]
        list_count[:, CodeList.SEGMENT] = SEGMENT_COUNT
        for listed, first, _ in self._scene_lists:
            list_count[:, listed] = first[scene + 1] - first[scene]
        # One list after the other; those that the twin never fills are empty slices between them.
        ends = np.cumsum(list_count, axis=1)
        before = np.cumsum(ends[:, -1]) - ends[:, -1]
        records["list_first"] = before[:, None] + ends - list_count
        pool = np.empty(int(ends[:, -1].sum()), np.uint64)
        pool[before[:, None] + np.arange(SEGMENT_COUNT)] = self._segments[user]
        for listed, first, codes in self._scene_lists:
            count = list_count[:, listed]
            for place in range(int(count.max(initial=0))):
                has = count > place
                pool[records["list_first"][has, listed] + place] = codes[first[scene[has]] + place]
        return pool


def scenes_of(scenario: Scenario) -> tuple[Scene, ...]:
    """Returns the scenes: publishers x placements x the publisher's countries, in that order."""
    names = [country.name for country in scenario.people.countries]
    return tuple(
        Scene(publisher, placement, names.index(country))
        for publisher in scenario.publishers
        for placement in publisher.placements
        for country in publisher.countries or names
    )


def scene_key(scene: Scene) -> str:
    """Returns what the private values and effects of a scene hang on: its placement.

    The same placement in two countries looks the same to users and rivals.
    """
    return f"{scene.publisher.publisher_id} {scene.placement.tag}"


def _hour_codes(local_ms: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Returns [N] codes of ``sun 0`` .. ``sat 23`` of local times."""
    hours = local_ms // 3_600_000
    return _HOUR_CODES[(hours // 24 + _EPOCH_DAY) % 7 * 24 + hours % 24]


def _age_codes(
    arrival_ms: npt.NDArray[np.int64], year_of_birth: npt.NDArray[np.int32]
) -> npt.NDArray[np.uint64]:
    """Returns [N] codes of the decade of age in the year of arrival; 0 = age not sent."""
    year = arrival_ms.astype("datetime64[ms]").astype("datetime64[Y]").astype(np.int64) + 1970
    decade = np.clip((year - year_of_birth) // 10, 0, _AGE_CODES.shape[0] - 1)
    return np.where(year_of_birth > 0, _AGE_CODES[decade], np.uint64(0))


def _scene_records(
    scenario: Scenario, profile: ExchangeProfile, scenes: tuple[Scene, ...]
) -> npt.NDArray[np.void]:
    """Returns [S] opportunity records with every column filled that depends on the scene only."""
    records = np.zeros(len(scenes), OPPORTUNITY_DTYPE)
    currency = currency_number(scenario.currency)
    records["exchange"] = profile.exchange_id
    records["auction_type"] = 1
    records["floor_currency"] = currency
    records["currencies"][:, 0] = currency
    records["quantity_micros"] = MICROS
    for record, scene in zip(records, scenes, strict=True):
        placement, video = scene.placement, scene.placement.video
        # A player scales what it shows: only banners are offered sizes.
        sizes = scene.sizes if video is None else ()
        dimensions = record["dimensions"]
        dimensions[Dimension.EXCHANGE] = code_of(profile.name)
        dimensions[Dimension.INVENTORY_TYPE] = code_of(scene.publisher.kind)
        dimensions[Dimension.INVENTORY] = code_of(scene.publisher.name)
        dimensions[Dimension.PUBLISHER] = code_of(scene.publisher.publisher_id)
        dimensions[Dimension.PLACEMENT] = code_of(placement.tag)
        dimensions[[Dimension.INTERSTITIAL, Dimension.REWARDED]] = code_of("0")
        record["formats"] = scene.format
        record["is_secure"] = placement.is_secure
        record["sizes"][: len(sizes)] = sizes
        record["size_count"] = len(sizes)
        format_index = int(scene.format).bit_length() - 1
        record["media_types"][format_index] = sum(
            1 << MEDIA_TYPES.index(mime) for mime in scene.mimes
        )
        record["billing_window_ms"] = billing_window_ms(profile, scene.format)
        if video is not None:
            record["duration_ms_min"][0] = video.duration_ms_min
            record["duration_ms_max"][0] = video.duration_ms_max
    return records


def billing_window_ms(profile: ExchangeProfile, formats: Format) -> int:
    """Returns how long the charging notice of an imp may take: the longest over its formats."""
    assert formats.name is not None
    return max(profile.billing_window_ms[name] for name in formats.name.lower().split("|"))


def _user_dimensions(scenario: Scenario, population: Population) -> npt.NDArray[np.uint64]:
    """Returns [U, DIMENSION_COUNT] codes of what depends on the user only; 0 elsewhere."""
    people = scenario.people
    table = np.zeros((len(population.user_ids), DIMENSION_COUNT), np.uint64)
    codes: dict[str, int] = {"": 0}

    def code(text: str) -> int:
        if text not in codes:
            codes[text] = code_of(text)
        return codes[text]

    for row, dimensions in enumerate(table):
        country = people.countries[population.country[row]]
        region = country.regions[population.region[row]]
        device = people.devices[population.device[row]]
        dimensions[Dimension.COUNTRY] = code(country.name)
        dimensions[Dimension.REGION] = code(region.name)
        dimensions[Dimension.CITY] = code(region.city)
        dimensions[Dimension.DEVICE_TYPE] = code(str(device.device_type))
        dimensions[Dimension.OS] = code(device.os)
        dimensions[Dimension.CONNECTION] = code(population.connection[row])
        dimensions[Dimension.LANGUAGE] = code(population.language[row])
        dimensions[Dimension.GENDER] = code(population.gender[row])
        dimensions[Dimension.CARRIER] = code(population.carrier[row])
        dimensions[Dimension.BROWSER] = code(agent_of(device.user_agent).browser)
    return table


def _scene_lists(
    scenes: tuple[Scene, ...],
) -> tuple[tuple[CodeList, npt.NDArray[np.int64], npt.NDArray[np.uint64]], ...]:
    """Returns the lists of the scenes in order of the pool: which, slices [S + 1], codes."""
    categories = [scene.publisher.categories for scene in scenes]
    sites = [
        (scene.publisher.name,)
        if scene.publisher.kind == "app"
        else domain_and_parents(scene.publisher.name)
        for scene in scenes
    ]
    return tuple(
        (
            listed,
            np.concatenate(([0], np.cumsum([len(names) for names in of_scene]))).astype(np.int64),
            np.array([code_of(name) for names in of_scene for name in names], np.uint64),
        )
        for listed, of_scene in ((CodeList.CATEGORY, categories), (CodeList.SITE, sites))
    )


def _os_versions(scenario: Scenario, population: Population) -> npt.NDArray[np.uint64]:
    """Returns [U] versions of the users' operating systems, as their user agents say them."""
    agents = [(device.os, agent_of(device.user_agent)) for device in scenario.people.devices]
    versions = [
        agent.os_version if agent.os.lower() == system.lower() else 0 for system, agent in agents
    ]
    return np.array(versions, np.uint64)[population.device]


def _arrivals(
    scenario: Scenario, population: Population, scenes: tuple[Scene, ...]
) -> tuple[SupplyArrays, npt.NDArray[np.float64]]:
    """Returns the arrays of the draws, and [Q + 1] requests expected since midnight UTC."""
    countries = scenario.people.countries
    traffic = np.array([_traffic(scenario, scene) for scene in scenes]).T
    per_quarter = traffic.sum(axis=1)
    expected = np.concatenate(([0.0], np.cumsum(per_quarter)))
    expected *= scenario.requests_per_day / expected[-1]
    scene_cdf = np.cumsum(traffic, axis=1) / per_quarter[:, None]
    scene_cdf[:, -1] = 1.0
    pools: dict[tuple[int, str, tuple[int, ...]], int] = {}
    users: list[npt.NDArray[np.int32]] = []
    cdfs: list[npt.NDArray[np.float64]] = []
    for scene in scenes:
        key = (scene.country, scene.publisher.topic, scene.placement.device_types)
        if key not in pools:
            pools[key] = len(users)
            members, cdf = _pool(scenario, population, scene)
            if not members.shape[0]:
                raise BadInput(
                    f"placement '{scene.placement.tag}': meets no user in "
                    f"{countries[scene.country].name}; /people/user_count is "
                    f"{scenario.people.user_count} and must be larger",
                    "/people/user_count",
                )
            users.append(members)
            cdfs.append(cdf)
    arrays = SupplyArrays(
        scene_cdf=scene_cdf,
        pool=np.array(
            [pools[s.country, s.publisher.topic, s.placement.device_types] for s in scenes],
            np.int32,
        ),
        pool_first=np.concatenate(([0], np.cumsum([own.shape[0] for own in users]))).astype(
            np.int64
        ),
        pool_cdf=np.concatenate(cdfs),
        pool_user=np.concatenate(users),
        floor_cpm_micros=np.array(
            [round(scene.placement.floor_cpm * MICROS) for scene in scenes], np.int64
        ),
        floor_spread=np.array([scene.placement.floor_spread for scene in scenes]),
    )
    return arrays, expected


def _traffic(scenario: Scenario, scene: Scene) -> npt.NDArray[np.float64]:
    """Returns [Q] weights of a scene's traffic by quarter of the UTC day."""
    everywhere = scenario.people.countries
    publisher, country = scene.publisher, everywhere[scene.country]
    here = _shares({c.name: c.share for c in everywhere}, publisher.countries)
    within = {placement.tag: placement.share for placement in publisher.placements}
    weight = (
        publisher.share * here[country.name] * within[scene.placement.tag] / sum(within.values())
    )
    shape = np.array(scenario.hour_shapes[publisher.hour_shape])
    minutes = np.arange(_QUARTERS) * (QUARTER_MS // _MINUTE_MS) + country.utc_offset_minutes
    return weight * shape[minutes // 60 % 24] / shape.sum()


def _shares(weights: Mapping[str, float], names: tuple[str, ...]) -> dict[str, float]:
    """Returns the weights of ``names`` (empty = all), scaled to add up to 1."""
    kept = {name: weight for name, weight in weights.items() if not names or name in names}
    return {name: weight / sum(kept.values()) for name, weight in kept.items()}


def _pool(
    scenario: Scenario, population: Population, scene: Scene
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Returns the users that a scene can meet, and the cumulated probability of each."""
    devices = scene.placement.device_types
    kinds = np.array([device.device_type for device in scenario.people.devices])
    has_device = np.isin(kinds[population.device], devices) if devices else True
    members = np.flatnonzero((population.country == scene.country) & has_device).astype(np.int32)
    topic = scenario.people.interests.index(scene.publisher.topic)
    pull = scenario.people.topic_pull
    weight = population.activity[members] * np.exp(pull * population.interest[members, topic])
    cdf = np.cumsum(weight) / weight.sum() if members.shape[0] else weight
    cdf[-1:] = 1.0
    return members, cdf
