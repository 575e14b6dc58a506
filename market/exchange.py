"""Exchange profiles: what differs from one exchange to the next, as data.

A profile is looked up by the last part of ``POST /bid/{exchange}``; an unknown one is 404.
"""

from __future__ import annotations

import msgspec

from market.errors import BadInput
from market.money import CURRENCY_NUMBERS

_CHARGING = ("billing", "impression", "win")
_CHARGING_DEFAULT = {
    "banner": "billing",
    "native": "billing",
    "video": "impression",
    "audio": "impression",
}
_WINDOW_DEFAULT = {"banner": 300_000, "native": 600_000, "video": 1_800_000, "audio": 1_800_000}


class ExchangeProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How one exchange is answered and believed.

    Attributes:
        name: the path segment, lower case.
        exchange_id: number in events, 1-65535, never reused.
        currency: of bids when the request names none (OpenRTB: USD).
        charging: per format name the one notice that moves money (OpenRTB 2.6 section 4.2.3 and
            implementation guide 7.8: billing notice for banner and native, the VAST impression
            for video and audio).
        network_buffer_ms: subtracted from tmax, p99 round trip plus margin.
        time_ms_max: our own cap on the time for an answer, whatever tmax says.
        tmax_ms_default: used when tmax is absent, zero or negative.
        billing_window_ms: per format name, how long after the bid its charging notice may arrive
            and still settle on time; the life of a reservation (implementation guide 7.2).
        seat: buyer seat of line items that name none.
        answers_gzip: compress answers when the exchange accepts it (costs more than all JSON).
        answers_nbr: say no with 200 and ``nbr`` instead of 204.
        body_bytes_max: larger requests are answered 413.
    """

    name: str
    exchange_id: int
    currency: str = "USD"
    charging: dict[str, str] = msgspec.field(default_factory=lambda: dict(_CHARGING_DEFAULT))
    network_buffer_ms: int = 20
    time_ms_max: int = 80
    tmax_ms_default: int = 100
    billing_window_ms: dict[str, int] = msgspec.field(default_factory=lambda: dict(_WINDOW_DEFAULT))
    seat: str = "lodestone"
    answers_gzip: bool = False
    answers_nbr: bool = False
    body_bytes_max: int = 1_048_576


DEFAULT_EXCHANGES: tuple[ExchangeProfile, ...] = (
    ExchangeProfile(name="default", exchange_id=1),
    # The twin's day runs faster than real time, so a real-time limit would make runs differ.
    ExchangeProfile(
        name="twin", exchange_id=2, network_buffer_ms=0, time_ms_max=60_000, tmax_ms_default=60_000
    ),
    ExchangeProfile(name="verbose", exchange_id=3, answers_nbr=True),
)
"""What ships: a plain exchange, the digital twin, and one that asks for no-bid reasons."""


def check_profiles(profiles: tuple[ExchangeProfile, ...]) -> dict[str, ExchangeProfile]:
    """Returns the profiles by name.

    Raises:
        BadInput: a name or id is used twice, or a value breaks its rule.
    """
    by_name: dict[str, ExchangeProfile] = {}
    ids: set[int] = set()
    for profile in profiles:
        at = f"exchange '{profile.name}'"
        if profile.name in by_name or profile.exchange_id in ids:
            raise BadInput(f"{at}: its name or exchange_id {profile.exchange_id} is used twice")
        if not 1 <= profile.exchange_id <= 65_535:
            raise BadInput(f"{at}: exchange_id is {profile.exchange_id}; it must be 1-65535")
        if profile.currency not in CURRENCY_NUMBERS:
            raise BadInput(f"{at}: currency is {profile.currency}; it must be ISO 4217")
        _check_formats(profile, at)
        by_name[profile.name] = profile
        ids.add(profile.exchange_id)
    return by_name


def _check_formats(profile: ExchangeProfile, at: str) -> None:
    for field, by_format in (
        ("charging", profile.charging),
        ("billing_window_ms", profile.billing_window_ms),
    ):
        if by_format.keys() != _CHARGING_DEFAULT.keys():
            raise BadInput(
                f"{at}: {field} is for {', '.join(sorted(by_format)) or 'no format'}; "
                f"it must be for {', '.join(_CHARGING_DEFAULT)}"
            )
    for name, kind in profile.charging.items():
        if kind not in _CHARGING:
            raise BadInput(f"{at}: charging.{name} is {kind}; it must be one of {_CHARGING}")
    for name, window in profile.billing_window_ms.items():
        if window <= 0:
            raise BadInput(f"{at}: billing_window_ms.{name} is {window}; it must be > 0")
