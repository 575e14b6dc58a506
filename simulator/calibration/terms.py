"""What a calibration says: every fitted number with its interval. Written as ``calibration.toml``.

An interval is the middle 95 % of what the number may be, given the log. Nothing here is a file or a
formula; ``fit`` fills it, ``play`` and ``scenario_fit`` read it.
"""

from __future__ import annotations

from typing import Any, SupportsFloat

import msgspec

from market.errors import BadInput


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a calibration: immutable, and a misspelt field is an error."""


class Estimate(_Part, frozen=True):
    """A fitted number and its 95 % interval."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: SupportsFloat, low: SupportsFloat, high: SupportsFloat) -> Estimate:
        """Returns an estimate of plain floats, as files hold them."""
        return cls(value=float(value), low=float(low), high=float(high))

    def covers(self, truth: float) -> bool:
        """Returns whether the interval holds a number."""
        return self.low <= truth <= self.high


class SupplyFit(_Part, frozen=True):
    """Requests, as far as they were logged.

    Attributes:
        requests_per_day: in 24 hours.
        requests_per_hour: 24, by hour of the UTC day.
        is_seen: 24, whether the log has whole hours of that hour; others are borrowed from hours
            nearby.
        dispersion: variance of an hour's count over its mean within a day, at least 1.
        day_sigma: spread of days' levels, relative.
    """

    requests_per_day: Estimate
    requests_per_hour: tuple[Estimate, ...]
    is_seen: tuple[bool, ...]
    dispersion: float
    day_sigma: float


class RivalFit(_Part, frozen=True):
    """A competitor as a scenario has it: ``presence``, ``cpm_median`` and ``sigma`` are its fields.

    ``cpm_median`` is over scenes; ``sigma`` includes what users differ in.
    """

    presence: Estimate
    cpm_median: Estimate
    sigma: Estimate


class RivalsFit(_Part, frozen=True):
    """Competitors, where bids were logged.

    Attributes:
        rivals: [K] as many as the log can tell apart.
        scene_sigma: spread of log bids over scenes.
        slant: rivals' log bid per unit of our own log bid: both know what a user is worth.
        bid_cpm_centre: our own bid at which ``slant`` says nothing.
        bid_sigma: spread of our own log bids.
        scene_shift: [S] of log bids, drawn towards 0 as far as it is uncertain.
        covariance: [3K + 1 + S] squared, of log odds of presence, log sigma and log median of the
            rivals, slant, then shifts; robust to users that are met again.
        dispersion: variance of wins over that of independent ones, at least 1.
    """

    rivals: tuple[RivalFit, ...]
    scene_sigma: float
    slant: Estimate
    bid_cpm_centre: float
    bid_sigma: float
    scene_shift: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    dispersion: float


class LandscapeFit(_Part, frozen=True):
    """Prices, where only won ones were logged: their quantiles by hour of the day.

    Attributes:
        bandwidth_hours: how far an hour borrows from its neighbours.
        pooled_weight: of an hour far away, relative to the hour itself.
        share_censored: of rows whose price is known to be above a bid only.
        cpm_micros: [24][Q] prices at shares 0.5/Q, 1.5/Q, ..
    """

    bandwidth_hours: float
    pooled_weight: float
    share_censored: float
    cpm_micros: tuple[tuple[int, ...], ...]


class ResponseFit(_Part, frozen=True):
    """Clicks per impression and conversions per click.

    Attributes:
        ctr: over all impressions.
        ctr_by_scene: [S], drawn towards ``ctr`` as far as they are uncertain.
        cvr: of clicks, sooner or later; None where the log has no conversions.
    """

    ctr: Estimate
    ctr_by_scene: tuple[Estimate, ...]
    cvr: Estimate | None = None


class DelayFit(_Part, frozen=True):
    """Time from click to conversion, of those that convert: log-normal."""

    median_ms: Estimate
    sigma: Estimate


class Calibration(_Part, frozen=True, kw_only=True):
    """Everything that was fitted to a log.

    Attributes:
        source: kind of the log.
        currency: of its prices; "" = none.
        row_count: rows that were fitted.
        scenes: their names, [S].
        rivals: where bids were logged.
        landscape: where only won prices were.
        delay: where conversions were.
    """

    source: str
    currency: str
    row_count: int
    scenes: tuple[str, ...]
    supply: SupplyFit
    rivals: RivalsFit | None = None
    landscape: LandscapeFit | None = None
    response: ResponseFit
    delay: DelayFit | None = None

    def to_toml(self) -> str:
        """Returns the calibration as TOML."""
        return toml_of(self)


def toml_of(value: object) -> str:
    """Returns a Struct as TOML; empty fields are left out, as TOML has no word for nothing."""
    return msgspec.toml.encode(_without_none(msgspec.to_builtins(value))).decode()


def _without_none(value: Any) -> Any:  # noqa: ANN401 - any tree of builtins
    if isinstance(value, dict):
        return {name: _without_none(part) for name, part in value.items() if part is not None}
    if isinstance(value, list | tuple):
        return [_without_none(part) for part in value]
    return value


def read_calibration(text: str) -> Calibration:
    """Returns the calibration that a TOML text describes.

    Raises:
        BadInput: the text is none.
    """
    try:
        return msgspec.toml.decode(text, type=Calibration)
    except msgspec.MsgspecError as error:
        raise BadInput(
            f"calibration: {error}; it must be what `lodestone calibrate` wrote"
        ) from error
