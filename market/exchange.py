"""Exchange profiles: what differs from one exchange to the next, as data.

A profile is looked up by the last part of ``POST /bid/{exchange}``; an unknown one is 404.
"""

from __future__ import annotations

import enum
import re

import msgspec

from market.errors import BadInput
from market.money import CURRENCY_NUMBERS
from market.price_encryption import PriceEncoding

FIRST_PRICE, SECOND_PRICE, FIXED_PRICE = 1, 2, 3
"""Auction types of OpenRTB 2.6 (sections 3.2.1, 3.2.12)."""
_SUFFIX = re.compile(r"[A-Za-z0-9_]{0,16}")
_CHARGING = ("billing", "impression", "win")
_CHARGING_DEFAULT = {
    "banner": "billing",
    "native": "billing",
    "video": "impression",
    "audio": "impression",
}
_WINDOW_DEFAULT = {"banner": 300_000, "native": 600_000, "video": 1_800_000, "audio": 1_800_000}


class ChainRule(enum.StrEnum):
    """What a request must say of the hands it came through."""

    OPTIONAL = "optional"
    """Nothing; a chain that is sent is checked against ``chain_blocked``."""
    PRESENT = "present"
    """A supply chain, complete or not."""
    COMPLETE = "complete"
    """A supply chain from the publisher on (``complete`` = 1), every node named."""


class SellersRule(enum.StrEnum):
    """What the crawled files must say of the sellers of a request."""

    IGNORED = "ignored"
    CHECKED = "checked"
    """What a file says must hold; a publisher without a file passes."""
    REQUIRED = "required"
    """The publisher must have a file, and it must authorise the sellers."""


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
        waits: it waits for every answer, whatever ``tmax`` it names: the twin, in whose episodes
            nothing may depend on how busy the machine was.
        tmax_ms_default: used when tmax is absent, zero or negative.
        billing_window_ms: per format name, how long after the bid its charging notice may arrive
            and still settle on time; the life of a reservation (implementation guide 7.2).
        seat: buyer seat of line items that name none.
        answers_gzip: compress answers when the exchange accepts it (costs more than all JSON).
        answers_nbr: say no with 200 and ``nbr`` instead of 204.
        body_bytes_max: larger requests are answered 413.
        price_encoding: how it writes the clearing price of its notices; the keys of an encrypted
            one are the deployment's.
        price_suffix: names that encoding in the price macro, where the exchange wants it
            (``B64`` -> ``${AUCTION_PRICE:B64}``, OpenRTB 2.6 section 4.4).
        qps_max: bid requests a second that are looked at, all workers together; what comes on top
            is answered 204. 0 = all.
        auction_types: what its own auction types mean: code (500 or more) -> 1 first price, 2
            second price. A request of a code that is not here gets no bid.
        seller_domain: the exchange's own domain as sellers name it (``asi``, ads.txt), "" unknown.
        chain_rule: what of ``source.schain`` is required.
        chain_blocked: sellers whose hands a request may not have come through: ``asi``, or
            ``asi/sid`` for one account, or a TAG payment id of ``source.pchain``.
        chain_nodes_max: most sellers of a chain, 0 = any number.
        sellers_rule: what ads.txt, app-ads.txt and sellers.json must say (``bidder.supply_chain``).
        accepts_resellers: false = the one we buy from must be listed as DIRECT.
        refuses_non_human: known crawlers, suspected traffic and data centres get no bid.
    """

    name: str
    exchange_id: int
    currency: str = "USD"
    charging: dict[str, str] = msgspec.field(default_factory=lambda: dict(_CHARGING_DEFAULT))
    network_buffer_ms: int = 20
    time_ms_max: int = 80
    tmax_ms_default: int = 100
    waits: bool = False
    billing_window_ms: dict[str, int] = msgspec.field(default_factory=lambda: dict(_WINDOW_DEFAULT))
    seat: str = "lodestone"
    answers_gzip: bool = False
    answers_nbr: bool = False
    body_bytes_max: int = 1_048_576
    price_encoding: PriceEncoding = PriceEncoding.CLEAR
    price_suffix: str = ""
    qps_max: float = 0.0
    auction_types: dict[str, int] = {}
    seller_domain: str = ""
    chain_rule: ChainRule = ChainRule.OPTIONAL
    chain_blocked: tuple[str, ...] = ()
    chain_nodes_max: int = 0
    sellers_rule: SellersRule = SellersRule.IGNORED
    accepts_resellers: bool = True
    refuses_non_human: bool = False

    @property
    def checks_supply(self) -> bool:
        """Whether anything is asked of the sellers or the device of a request."""
        return (
            self.chain_rule is not ChainRule.OPTIONAL
            or bool(self.chain_blocked)
            or self.chain_nodes_max > 0
            or self.sellers_rule is not SellersRule.IGNORED
            or self.refuses_non_human
        )


DEFAULT_EXCHANGES: tuple[ExchangeProfile, ...] = (
    ExchangeProfile(name="default", exchange_id=1),
    # The twin's day runs faster than real time, so a real-time limit would make runs differ.
    ExchangeProfile(
        name="twin",
        exchange_id=2,
        network_buffer_ms=0,
        time_ms_max=60_000,
        tmax_ms_default=60_000,
        waits=True,
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
        if not _SUFFIX.fullmatch(profile.price_suffix):
            raise BadInput(
                f"{at}: price_suffix is {profile.price_suffix!r}; it must be up to 16 letters and "
                "digits"
            )
        if not 0 <= profile.qps_max <= 1e6:
            raise BadInput(f"{at}: qps_max is {profile.qps_max}; it must be 0-1000000")
        _check_formats(profile, at)
        _check_supply(profile, at)
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


def _check_supply(profile: ExchangeProfile, at: str) -> None:
    for code, kind in profile.auction_types.items():
        if not code.isdecimal() or not 500 <= int(code) <= 65_535:
            raise BadInput(f"{at}: auction_types has '{code}'; codes of an exchange are 500-65535")
        if kind not in (FIRST_PRICE, SECOND_PRICE):
            raise BadInput(
                f"{at}: auction_types.{code} is {kind}; it must be 1 (first price) or 2 (second)"
            )
    if profile.seller_domain != profile.seller_domain.strip().lower():
        raise BadInput(
            f"{at}: seller_domain is '{profile.seller_domain}'; it must be in lower case"
        )
    if profile.sellers_rule is not SellersRule.IGNORED and not profile.seller_domain:
        raise BadInput(
            f"{at}: sellers_rule is {profile.sellers_rule}; it needs seller_domain, the name under "
            "which publishers list this exchange"
        )
    if profile.chain_nodes_max < 0:
        raise BadInput(f"{at}: chain_nodes_max is {profile.chain_nodes_max}; it must be 0 or more")
    for blocked in profile.chain_blocked:
        if not blocked or blocked != blocked.strip().lower():
            raise BadInput(
                f"{at}: chain_blocked has '{blocked}'; entries are lower case: asi, asi/sid or a "
                "payment id"
            )


def auction_type_of(at: int | None, profile: ExchangeProfile) -> int | None:
    """Returns what an auction type means: 1, 2 or 3; None if this exchange never said.

    Absent (or not positive) is 2, second price plus (OpenRTB 2.6 section 3.2.1); 3 is a deal's
    fixed price (3.2.12).
    """
    if at is None or at <= 0:
        return SECOND_PRICE
    if at <= FIXED_PRICE:
        return at
    return profile.auction_types.get(str(at))
