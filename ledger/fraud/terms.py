"""The words of invalid traffic: why an event is marked, and the limits that it broke.

Source: Media Rating Council, Invalid Traffic Detection and Filtration Standards Addendum (2020):
data-centre traffic, and activity-based filtration by rates, intervals and repetition.
"""

from __future__ import annotations

import enum

import msgspec

from market.errors import BadInput

MINUTE_MS = 60_000


class Reason(enum.IntFlag):
    """Why an event is invalid. Bits are stored: add, never renumber."""

    DATA_CENTRE = 1
    """Its notice came from an address of a data centre."""
    CLICK_RATE = 2
    """One of more clicks of one user in a window than a person makes."""
    DEVICE_STORM = 4
    """One of more impressions of one device in a window than a person sees: a shared id."""
    CLICK_FLOOD = 8
    """A click of a line item on an exchange that, in that hour, had more clicks than its
    impressions could bring."""
    SHORT_CONVERSION = 16
    """A conversion sooner after its click than a page loads or an app installs."""
    INVALID_BID = 32
    """What came before it on the same bid is invalid: of an impression all that follows, of a click
    its conversions."""


class Rules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The limits; 0 or more, and a rate of clicks above 0.

    Attributes:
        clicks_max: of one user within ``click_window_ms``.
        click_window_ms: length of that window.
        impressions_max: of one user within ``storm_window_ms``.
        storm_window_ms: length of that window.
        flood_clicks_min: an hour of a line item on an exchange with fewer clicks is not judged.
        flood_ctr_max: clicks per impression from which on the hour is a flood.
        conversion_ms_min: least time from click to conversion.
    """

    clicks_max: int = 8
    click_window_ms: int = MINUTE_MS
    impressions_max: int = 60
    storm_window_ms: int = MINUTE_MS
    flood_clicks_min: int = 50
    flood_ctr_max: float = 0.6
    conversion_ms_min: int = 3_000

    def __post_init__(self) -> None:
        """Checks the ranges."""
        whole = (
            "clicks_max", "click_window_ms", "impressions_max", "storm_window_ms",
            "flood_clicks_min", "conversion_ms_min",
        )  # fmt: skip
        for name in whole:
            value = getattr(self, name)
            if not 0 <= value < 1 << 40:
                raise BadInput(f"rules: {name} {value}: it must be in 0..2^40-1", f"/{name}")
        if not 0 < self.flood_ctr_max < 1e6:
            raise BadInput(
                f"rules: flood_ctr_max {self.flood_ctr_max}: it must be above 0 and below 10^6",
                "/flood_ctr_max",
            )
