"""The scenario: one market, written down. Every number of the twin comes from here.

A scenario is a TOML file in ``simulator/scenarios``. A field that is not in the schema is an error
that names it; so is a value that breaks a rule. Shares of one list need not add up to 1: they are
weights.

Two seeds, on purpose: ``world_seed`` shapes the market itself (who the users are, what they like,
what competitors value), the seed that an exchange is started with draws what happens on a day. A
model trained on the logs of one seed therefore meets the same market, and other coins, on another.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import msgspec.inspect
from msgspec import Meta

from market.creative import AD_FIELDS, MEDIA_TYPES
from market.errors import BadInput
from market.money import CURRENCY_NUMBERS
from market.opportunity import SIZE_COUNT_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Weight = Annotated[float, Meta(ge=0.0, le=1e9)]
Spread = Annotated[float, Meta(ge=0.0, le=5.0)]
Count = Annotated[int, Meta(ge=1, le=100_000_000)]
Milliseconds = Annotated[int, Meta(ge=0)]
Cpm = Annotated[float, Meta(ge=0.0, le=10_000.0)]
Range = Annotated[tuple[Milliseconds, Milliseconds], Meta(description="least, most")]
UtcOffset = Annotated[int, Meta(ge=-720, le=840)]

QUARTER_MS = 900_000
DAY_MS = 86_400_000
INTEREST_COUNT_MIN = 3
"""A user has three audience segments, so there must be at least as many interests."""

_FOLDER = Path(__file__).parent / "scenarios"
_SIZE = re.compile(r"^([1-9][0-9]{0,4})x([1-9][0-9]{0,4})$")
_AT = re.compile(r"^(?P<what>.*) - at (?:`key` in )?`\$(?P<path>.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[([^\]]*)\]")
_FIELD = re.compile(r"(?:unknown|required) field `([^`]*)`")


_Schema = TypeVar("_Schema", bound=msgspec.Struct)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a scenario: immutable, and a misspelt field is an error."""


class Region(_Part, frozen=True):
    """Part of a country; ``utc_offset_minutes`` is what its devices report (``geo.utcoffset``)."""

    name: str
    share: Weight
    utc_offset_minutes: UtcOffset
    city: str = ""


class Country(_Part, frozen=True):
    """Where users live.

    Attributes:
        name: ISO 3166-1 alpha-3, as in ``geo.country``.
        share: of users and of every publisher's traffic.
        utc_offset_minutes: of the local time that the hour shapes of publishers follow there.
        languages: weight per device language (ISO 639-1).
        carriers: weight per mobile carrier; empty = none is sent.
    """

    name: Annotated[str, Meta(pattern="^[A-Z]{3}$")]
    share: Weight
    utc_offset_minutes: UtcOffset
    languages: dict[str, Weight]
    regions: tuple[Region, ...]
    carriers: dict[str, Weight] = {}


class Device(_Part, frozen=True):
    """What users look at.

    Attributes:
        device_type: AdCOM list "Device Types": 2 computer, 3 TV, 4 phone, 5 tablet.
        connections: weight per AdCOM "Connection Types": "2" wifi, "6" 4G, "7" 5G; only 3-7 are
            cellular and have a carrier.
    """

    device_type: Annotated[int, Meta(ge=1, le=8)]
    os: str
    share: Weight
    user_agent: str
    connections: dict[Literal["1", "2", "3", "4", "5", "6", "7"], Weight]


class People(_Part, frozen=True):
    """The users.

    Attributes:
        user_count: distinct users; traffic / user_count is how often one is met.
        interests: names of the dimensions of taste; segment ``int-<name>`` is sold for each.
        group_share: share of the variance of tastes that country, gender, age, device and region
            explain; the rest is personal and shows only in the segments.
        activity_sigma: log-normal spread of how often a user is met.
        topic_pull: how strongly a user's interest in a topic draws it to publishers of that topic.
        gender_shares: weight per ``user.gender``.
        gender_known_share, age_known_share: users whose gender, year of birth are sent.
        age_shares: weight per decade of age: "20" = 20 to 29.
    """

    user_count: Count
    interests: tuple[str, ...]
    group_share: Share
    activity_sigma: Spread
    topic_pull: Spread
    gender_shares: dict[Literal["F", "M", "O"], Weight]
    gender_known_share: Share
    age_shares: dict[Literal["10", "20", "30", "40", "50", "60", "70", "80"], Weight]
    age_known_share: Share
    countries: tuple[Country, ...]
    devices: tuple[Device, ...]


class Video(_Part, frozen=True):
    """The player of a video placement."""

    player_size: str
    duration_ms_min: Milliseconds
    duration_ms_max: Milliseconds
    mimes: tuple[str, ...]


class Placement(_Part, frozen=True):
    """A place for an ad on a publisher's pages; with a country it is a scene of the twin.

    Attributes:
        tag: ``imp.tagid``.
        share: of the publisher's traffic.
        floor_cpm: mean floor, in units of the scenario's currency per thousand.
        floor_spread: floors lie within this share around ``floor_cpm``.
        viewability: probability that an impression comes into view.
        banner_sizes: ``WxH`` in order of preference; empty for a video placement.
        banner_mimes: accepted media types of a banner; empty = not said.
        video: the player of a video placement.
        device_types: devices that meet it; empty = all.
        is_secure: everything must be https.
    """

    tag: str
    share: Weight
    floor_cpm: Cpm
    floor_spread: Share
    viewability: Share
    banner_sizes: tuple[str, ...] = ()
    banner_mimes: tuple[str, ...] = ()
    video: Video | None = None
    device_types: tuple[int, ...] = ()
    is_secure: bool = True


class Publisher(_Part, frozen=True):
    """A seller of inventory: a site or an app.

    Attributes:
        publisher_id: ``site.publisher.id`` or ``app.publisher.id``.
        kind: what it is.
        name: domain of a site, bundle of an app.
        topic: the interest that its users come for.
        share: of all traffic.
        hour_shape: name of one of the scenario's hour shapes.
        categories: ``site.cat`` or ``app.cat``.
        countries: where it has users; empty = everywhere.
    """

    publisher_id: str
    kind: Literal["site", "app"]
    name: str
    topic: str
    share: Weight
    hour_shape: str
    categories: tuple[str, ...]
    placements: tuple[Placement, ...]
    countries: tuple[str, ...] = ()


class Competitor(_Part, frozen=True):
    """A rival bidder. Its bids are log-normal around what the scene and the user are worth to it.

    Attributes:
        presence: probability that it bids on an opportunity at all.
        cpm_median: its median bid, units of currency per thousand.
        sigma: spread of log bids of equal scene and user.
        scene_sigma: spread of its private log values over publishers' placements.
        interest: the taste it pays for, and by how much log bid per standard deviation of it.
    """

    name: str
    presence: Share
    cpm_median: Annotated[float, Meta(gt=0.0, le=1_000.0)]
    sigma: Spread
    scene_sigma: Spread
    interest: str
    interest_weight: Annotated[float, Meta(ge=-3.0, le=3.0)]


class Response(_Part, frozen=True):
    """What users do after an impression.

    Attributes:
        ctr: clicks per impression, averaged over traffic and the ads of the vocabulary; the
            intercept of the logistic function is solved for it.
        cvr: conversions per click, likewise.
        user_sigma: spread of log odds over users, whatever the ad.
        scene_sigma: over placements.
        ad_sigma: over ads, whatever the user.
        match_sigma: over pairs: taste of the user times what the ad speaks to.
        residual_share: share of an ad's variance that no feature shows.
        conversion_factor: the spreads of log odds of a conversion, relative to those of a click.
        ad_weights: how much of the rest each field of ``market.campaign.AD_FIELDS`` explains.
        delay_ms_median, delay_sigma: log-normal time from click to conversion.
        delay_ms_min, delay_ms_max: bounds of that time.
        value_sigma: log-normal spread of an order's value around the ad's mean.
    """

    ctr: Annotated[float, Meta(gt=0.0, lt=0.5)]
    cvr: Annotated[float, Meta(gt=0.0, lt=0.9)]
    user_sigma: Spread
    scene_sigma: Spread
    ad_sigma: Spread
    match_sigma: Spread
    residual_share: Share
    conversion_factor: Spread
    ad_weights: dict[str, Weight]
    delay_ms_median: Annotated[int, Meta(ge=1)]
    delay_sigma: Spread
    delay_ms_min: Milliseconds
    delay_ms_max: Milliseconds
    value_sigma: Spread


class Delivery(_Part, frozen=True):
    """How notices travel. A range is (least, most) milliseconds, uniform.

    Attributes:
        win_ms, loss_ms: after the opportunity.
        billing_ms, impression_ms: after the win notice.
        click_ms: after the impression.
        repeated_share: notices delivered twice.
        repeat_ms: the second delivery, after the first.
        delayed_share: win, billing, impression and loss notices that later ones overtake, yet
            within the billing window.
        late_share: billing and impression notices that arrive after the billing window.
        late_ms: how much after it.
    """

    win_ms: Range
    loss_ms: Range
    billing_ms: Range
    impression_ms: Range
    click_ms: Range
    repeated_share: Share
    repeat_ms: Range
    delayed_share: Share
    late_share: Share
    late_ms: Range


class Scenario(_Part, frozen=True):
    """One market and one stretch of its time.

    Attributes:
        name: part of every request id; letters, digits, "-".
        world_seed: shapes the market, see the module docstring.
        start_at_ms: epoch milliseconds of the first opportunity's slice.
        duration_ms: how long there is traffic.
        drain_ms: how long the clock runs on without traffic, so that late notices arrive.
        slice_ms: the exchange's step of the clock; what is asked within one arrives at its start.
        requests_per_day: opportunities in 24 hours.
        exchange: name of the exchange profile that the bidder knows it by.
        currency: ISO 4217, of floors and bids.
        tmax_ms: ``tmax`` of the requests.
        hour_shapes: per name, 24 weights of traffic by local hour.
        ad_vocabulary: per name of AD_FIELDS, values of the ads that logs are made with.
    """

    name: Annotated[str, Meta(pattern="^[a-z0-9-]{1,40}$")]
    world_seed: Annotated[int, Meta(ge=0, le=2**62)]
    start_at_ms: Milliseconds
    duration_ms: Annotated[int, Meta(ge=1)]
    drain_ms: Milliseconds
    slice_ms: Annotated[int, Meta(ge=1, le=DAY_MS)]
    requests_per_day: Count
    exchange: str
    currency: str
    tmax_ms: Annotated[int, Meta(ge=1)]
    hour_shapes: dict[str, tuple[Weight, ...]]
    people: People
    publishers: tuple[Publisher, ...]
    competitors: tuple[Competitor, ...]
    response: Response
    delivery: Delivery
    ad_vocabulary: dict[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Checks the rules that no single field can state.

        Raises:
            BadInput: one is broken; the pointer names the field.
        """
        _check_time(self)
        _check_people(self.people)
        for i, publisher in enumerate(self.publishers):
            _check_publisher(self, publisher, f"/publishers/{i}")
        _rule(self.publishers, "/publishers", "empty", "must hold at least one publisher")
        for i, competitor in enumerate(self.competitors):
            _rule(
                competitor.interest in self.people.interests,
                f"/competitors/{i}/interest",
                competitor.interest,
                f"must be one of {', '.join(self.people.interests)}",
            )
        _check_response(self.response)
        _check_delivery(self.delivery)
        _check_vocabulary(self.ad_vocabulary)

    @property
    def end_at_ms(self) -> int:
        """When the traffic ends."""
        return self.start_at_ms + self.duration_ms


class Slice(NamedTuple):
    """One step of the exchange's clock: [start, end), with or without traffic."""

    start_ms: int
    end_ms: int
    has_traffic: bool


def slices(scenario: Scenario) -> Iterator[Slice]:
    """Yields the steps of an episode in order: those with traffic, then those of the drain."""
    start, end = scenario.start_at_ms, scenario.end_at_ms
    for at in range(start, end, scenario.slice_ms):
        yield Slice(at, min(at + scenario.slice_ms, end), has_traffic=True)
    for at in range(end, end + scenario.drain_ms, scenario.slice_ms):
        yield Slice(at, at + scenario.slice_ms, has_traffic=False)


def load(name: str) -> Scenario:
    """Returns the scenario that ships under this name, or in the ``.toml`` file of this path.

    Raises:
        BadInput: there is none, or it breaks the schema.
    """
    return read(*text_of(name))


def text_of(name: str, folder: Path = _FOLDER) -> tuple[str, str]:
    """Returns the text of the scenario that ships under this name or path, and its short name.

    Whatever ships lies in ``folder``.

    Raises:
        BadInput: there is none.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        known = ", ".join(sorted(found.stem for found in folder.glob("*.toml")))
        raise BadInput(
            f"scenario '{name}': {error}; it must be a .toml file or one of {known}"
        ) from error
    return text, path.stem


def read(text: str, name: str) -> Scenario:
    """Returns the scenario that a TOML text describes; ``name`` is what errors call it.

    Raises:
        BadInput: the text is no TOML, a field is unknown, missing or of the wrong type, or a value
            breaks its rule; the message and the pointer name the field.
    """
    return read_as(Scenario, text, name)


def read_as(schema: type[_Schema], text: str, name: str) -> _Schema:
    """Returns what a TOML text says, as ``schema``, a msgspec Struct: for every kind of scenario.

    Raises:
        BadInput: as ``read``.
    """
    try:
        return msgspec.toml.decode(text, type=schema)
    except msgspec.ValidationError as error:
        what, pointer = _located(str(error))
        found = _found(text, pointer) + _allowed(schema, pointer, what)
        raise BadInput(f"scenario '{name}': {pointer or '/'}: {what}{found}", pointer) from error
    except msgspec.DecodeError as error:
        raise BadInput(f"scenario '{name}': {error}; it must be TOML") from error
    except BadInput as error:
        raise BadInput(f"scenario '{name}': {error}", error.pointer) from error


def size_code(text: str) -> int:
    """Returns ``WxH`` as w << 16 | h, the way opportunities and creatives hold sizes."""
    match = _SIZE.match(text)
    assert match is not None, text
    return int(match[1]) << 16 | int(match[2])


def _located(message: str) -> tuple[str, str]:
    """Splits a msgspec message into what is wrong and the JSON pointer of where.

    An unknown or missing field is added to the pointer of the object that it concerns.
    """
    match = _AT.match(message)
    what, path = (match["what"], match["path"]) if match else (message, "")
    pointer = "".join(f"/{name or index}" for name, index in _STEP.findall(path))
    field = _FIELD.search(what)
    return what, f"{pointer}/{field[1]}" if field else pointer


def _found(text: str, pointer: str) -> str:
    """Returns "; is VALUE" where the pointer leads to a number or text, else nothing."""
    at: Any = msgspec.toml.decode(text)
    for name in pointer.split("/")[1:]:
        if isinstance(at, list) and name.isdigit():
            at = at[int(name)]
        elif isinstance(at, dict) and name in at:
            at = at[name]
        else:
            return ""
    return f"; is {at!r}" if isinstance(at, (str, int, float)) else ""


def _allowed(schema: type[msgspec.Struct], pointer: str, what: str) -> str:
    """Returns "; must be one of .." where a name was given that is none of a list, else nothing."""
    is_value, is_key = "Invalid enum value" in what, "unknown field" in what
    if not (is_value or is_key):
        return ""
    names = pointer.split("/")[1:]
    at = msgspec.inspect.type_info(schema)
    for name in names if is_value else names[:-1]:
        if isinstance(at, msgspec.inspect.StructType):
            own = [field.type for field in at.fields if field.encode_name == name]
            at = own[0] if own else at
        elif isinstance(at, msgspec.inspect.VarTupleType):
            at = at.item_type
        elif isinstance(at, msgspec.inspect.DictType):
            at = at.value_type
    match at:
        case msgspec.inspect.EnumType():
            known = [member.value for member in at.cls]
        case msgspec.inspect.LiteralType():
            known = list(at.values)
        case msgspec.inspect.StructType() if is_key:
            known = [field.encode_name for field in at.fields]
        case _:
            return ""
    return f"; must be one of {', '.join(repr(each) for each in known)}"


def _rule(is_kept: object, pointer: str, value: object, text: str) -> None:
    if not is_kept:
        raise BadInput(f"{pointer}: is {value}; {text}", pointer)


def _check_weights(weights: Mapping[Any, float], pointer: str) -> None:
    _rule(sum(weights.values()) > 0, pointer, dict(weights), "must hold a weight above 0")


def _check_time(scenario: Scenario) -> None:
    _rule(
        scenario.start_at_ms % DAY_MS == 0, "/start_at_ms", scenario.start_at_ms,
        "must be a midnight in UTC, so that days of traffic are days of the calendar",
    )  # fmt: skip
    _rule(
        scenario.currency in CURRENCY_NUMBERS, "/currency", scenario.currency,
        "must be an ISO 4217 code in capitals, such as USD",
    )  # fmt: skip
    for name, shape in scenario.hour_shapes.items():
        pointer = f"/hour_shapes/{name}"
        _rule(len(shape) == 24, pointer, f"{len(shape)} weights", "must hold 24")
        _rule(min(shape) > 0, pointer, list(shape), "must hold no hour without traffic")


def _check_people(people: People) -> None:
    interests = people.interests
    _rule(
        len(interests) >= INTEREST_COUNT_MIN and len(set(interests)) == len(interests),
        "/people/interests", list(interests), f"must be {INTEREST_COUNT_MIN} or more, all distinct",
    )  # fmt: skip
    _check_weights(people.gender_shares, "/people/gender_shares")
    _check_weights(people.age_shares, "/people/age_shares")
    _rule(people.countries, "/people/countries", "empty", "must hold at least one country")
    _check_weights(
        {country.name: country.share for country in people.countries}, "/people/countries"
    )
    for i, country in enumerate(people.countries):
        at = f"/people/countries/{i}"
        _check_weights(country.languages, f"{at}/languages")
        _check_weights({region.name: region.share for region in country.regions}, f"{at}/regions")
        offsets = [country.utc_offset_minutes, *(r.utc_offset_minutes for r in country.regions)]
        _rule(
            all(offset % 15 == 0 for offset in offsets), f"{at}/utc_offset_minutes", offsets,
            "must be whole quarters of an hour",
        )  # fmt: skip
        if country.carriers:
            _check_weights(country.carriers, f"{at}/carriers")
    _check_weights({str(i): d.share for i, d in enumerate(people.devices)}, "/people/devices")
    for i, device in enumerate(people.devices):
        _check_weights(dict(device.connections), f"/people/devices/{i}/connections")


def _check_publisher(scenario: Scenario, publisher: Publisher, at: str) -> None:
    _rule(
        publisher.topic in scenario.people.interests, f"{at}/topic", publisher.topic,
        f"must be one of {', '.join(scenario.people.interests)}",
    )  # fmt: skip
    _rule(
        publisher.hour_shape in scenario.hour_shapes, f"{at}/hour_shape", publisher.hour_shape,
        f"must be one of {', '.join(scenario.hour_shapes)}",
    )  # fmt: skip
    known = [country.name for country in scenario.people.countries]
    for name in publisher.countries:
        _rule(name in known, f"{at}/countries", name, f"must be one of {', '.join(known)}")
    _check_weights({p.tag: p.share for p in publisher.placements}, f"{at}/placements")
    devices = {device.device_type for device in scenario.people.devices if device.share > 0}
    for i, placement in enumerate(publisher.placements):
        _check_placement(placement, devices, f"{at}/placements/{i}")


def _check_placement(placement: Placement, devices: set[int], at: str) -> None:
    sizes = placement.banner_sizes
    _rule(
        bool(sizes) != (placement.video is not None), f"{at}/banner_sizes", list(sizes),
        "must be set if and only if there is no video",
    )  # fmt: skip
    _rule(
        len(sizes) <= SIZE_COUNT_MAX, f"{at}/banner_sizes", len(sizes),
        f"must hold at most {SIZE_COUNT_MAX} sizes",
    )  # fmt: skip
    mimes = placement.banner_mimes
    if placement.video is not None:
        sizes, mimes = (placement.video.player_size,), placement.video.mimes
        _rule(
            placement.video.duration_ms_min <= placement.video.duration_ms_max,
            f"{at}/video/duration_ms_max", placement.video.duration_ms_max,
            "must not be below duration_ms_min",
        )  # fmt: skip
        for field in ("duration_ms_min", "duration_ms_max"):
            value: int = getattr(placement.video, field)
            _rule(
                value % 1000 == 0, f"{at}/video/{field}", value,
                "must be whole seconds: OpenRTB has no finer unit",
            )  # fmt: skip
    for size in sizes:
        _rule(_SIZE.match(size), f"{at}/banner_sizes", size, "must read WxH, such as 300x250")
    for mime in mimes:
        _rule(
            mime in MEDIA_TYPES, f"{at}/banner_mimes", mime,
            f"must be one of {', '.join(MEDIA_TYPES)}",
        )  # fmt: skip
    _rule(
        not placement.device_types or devices & set(placement.device_types),
        f"{at}/device_types", list(placement.device_types), "must name a device that users have",
    )  # fmt: skip


def _check_response(response: Response) -> None:
    for field in response.ad_weights:
        _rule(
            field in AD_FIELDS, f"/response/ad_weights/{field}", field,
            f"must be one of {', '.join(AD_FIELDS)}",
        )  # fmt: skip
    _check_weights(response.ad_weights, "/response/ad_weights")
    _rule(
        response.delay_ms_min <= response.delay_ms_max, "/response/delay_ms_max",
        response.delay_ms_max, "must not be below delay_ms_min",
    )  # fmt: skip


def _check_delivery(delivery: Delivery) -> None:
    for field in (
        "win_ms", "loss_ms", "billing_ms", "impression_ms", "click_ms", "repeat_ms", "late_ms",
    ):  # fmt: skip
        least, most = getattr(delivery, field)
        _rule(least <= most, f"/delivery/{field}", [least, most], "must be least, most")
    _rule(
        delivery.delayed_share + delivery.late_share <= 1.0, "/delivery/late_share",
        delivery.late_share, "must not exceed 1 together with delayed_share",
    )  # fmt: skip


def _check_vocabulary(vocabulary: Mapping[str, tuple[str, ...]]) -> None:
    for field in vocabulary:
        _rule(
            field in AD_FIELDS, f"/ad_vocabulary/{field}", field,
            f"must be one of {', '.join(AD_FIELDS)}",
        )  # fmt: skip
    for field in ("format", "size"):
        _rule(
            field not in vocabulary, f"/ad_vocabulary/{field}", field,
            "must not be listed: formats and sizes follow from the placements",
        )  # fmt: skip
    for field, values in vocabulary.items():
        _rule(
            values and all(value.strip() for value in values), f"/ad_vocabulary/{field}",
            list(values), "must hold values that are not empty",
        )  # fmt: skip
