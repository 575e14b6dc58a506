"""Exchange profiles: what ships is whole, and a profile that cannot be served is refused."""

from __future__ import annotations

import re

import msgspec
import pytest

from market.errors import BadInput
from market.exchange import (
    DEFAULT_EXCHANGES,
    ChainRule,
    ExchangeProfile,
    SellersRule,
    auction_type_of,
    check_profiles,
)
from market.opportunity import Format
from market.price_encryption import PriceEncoding

FORMATS = {format_.name.lower() for format_ in Format}
ONE = ExchangeProfile(name="one", exchange_id=1)


def of(**changes):
    return msgspec.structs.replace(ONE, **changes)


SUPPLY = "chain_blocked has 'A.example'; entries are lower case: asi, asi/sid or a payment id"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auction_types": {"3": 1}}, "auction_types has '3'; codes of an exchange are 500-65535"),
        ({"auction_types": {"x": 1}}, "auction_types has 'x'; codes of an exchange are 500-65535"),
        ({"auction_types": {"70000": 1}}, "auction_types has '70000'"),
        ({"auction_types": {"500": 3}}, "auction_types.500 is 3; it must be 1"),
        ({"seller_domain": "Exchange.example"}, "it must be in lower case"),
        ({"sellers_rule": SellersRule.CHECKED}, "sellers_rule is checked; it needs seller_domain"),
        ({"chain_nodes_max": -1}, "chain_nodes_max is -1; it must be 0 or more"),
        ({"chain_blocked": ("A.example",)}, SUPPLY),
    ],
)
def test_a_rule_on_supply_that_cannot_be_kept_is_refused(changes, message):
    with pytest.raises(BadInput, match=re.escape(message)):
        check_profiles((of(**changes),))


@pytest.mark.parametrize(
    ("at", "meant"),
    [
        (None, 2),
        (0, 2),
        (-1, 2),
        (1, 1),
        (2, 2),
        (3, 3),
        (4, None),
        (500, 1),
        (501, 2),
        (502, None),
    ],
)
def test_an_auction_type_is_openrtbs_or_what_the_exchange_said(at, meant):
    assert auction_type_of(at, of(auction_types={"500": 1, "501": 2})) == meant


def test_supply_is_looked_at_only_where_something_is_asked():
    assert not ONE.checks_supply
    for changes in (
        {"chain_rule": ChainRule.PRESENT}, {"chain_blocked": ("a",)}, {"chain_nodes_max": 3},
        {"sellers_rule": SellersRule.REQUIRED}, {"refuses_non_human": True},
    ):  # fmt: skip
        assert of(**changes).checks_supply


def test_the_profiles_that_ship_are_found_by_name():
    by_name = check_profiles(DEFAULT_EXCHANGES)
    assert list(by_name) == ["default", "twin", "verbose"]
    assert all(by_name[name].name == name for name in by_name)
    assert by_name["verbose"].answers_nbr


def test_a_profile_knows_every_format():
    assert ONE.charging.keys() == ONE.billing_window_ms.keys() == FORMATS


def test_video_and_audio_are_charged_by_impression_and_the_rest_by_billing_notice():
    assert ONE.charging == {
        "banner": "billing",
        "native": "billing",
        "video": "impression",
        "audio": "impression",
    }


def test_one_profile_s_rules_are_not_another_s():
    other = ExchangeProfile(name="other", exchange_id=2)
    assert other.charging is not ONE.charging
    assert other.billing_window_ms is not ONE.billing_window_ms


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (of(exchange_id=2), "exchange 'one': its name or exchange_id 2 is used twice"),
        (of(name="two"), "exchange 'two': its name or exchange_id 1 is used twice"),
        (of(name="two", exchange_id=0), "exchange_id is 0; it must be 1-65535"),
        (of(name="two", exchange_id=65_536), "exchange_id is 65536; it must be 1-65535"),
        (of(name="two", exchange_id=2, currency="usd"), "currency is usd; it must be ISO 4217"),
        (
            of(name="two", exchange_id=2, charging=ONE.charging | {"video": "click"}),
            "charging.video is click; it must be one of ('billing', 'impression', 'win')",
        ),
        (
            of(name="two", exchange_id=2, charging={"video": "win"}),
            "charging is for video; it must be for banner, native, video, audio",
        ),
        (
            of(name="two", exchange_id=2, billing_window_ms={}),
            "billing_window_ms is for no format; it must be for banner, native, video, audio",
        ),
        (
            of(
                name="two",
                exchange_id=2,
                billing_window_ms=ONE.billing_window_ms | {"popup": 1},
            ),
            "billing_window_ms is for audio, banner, native, popup, video; it must be for ",
        ),
        (
            of(
                name="two",
                exchange_id=2,
                billing_window_ms=ONE.billing_window_ms | {"audio": 0},
            ),
            "billing_window_ms.audio is 0; it must be > 0",
        ),
    ],
)
def test_a_profile_that_breaks_a_rule_is_refused_by_its_name_and_value(second, message):
    with pytest.raises(BadInput) as refused:
        check_profiles((ONE, second))
    assert message in str(refused.value)
    assert str(refused.value).startswith(f"exchange '{second.name}': ")


def test_the_largest_id_is_an_id():
    assert check_profiles((of(exchange_id=65_535),))["one"].exchange_id == 65_535


def test_a_misspelt_field_of_a_profile_is_refused():
    with pytest.raises(msgspec.ValidationError, match="unknown field `charges`"):
        msgspec.convert({"name": "x", "exchange_id": 1, "charges": {}}, ExchangeProfile)


@pytest.mark.parametrize("suffix", ["}", "B64}&x=${Y", " ", "x" * 17, "\u00e9"])
def test_a_price_suffix_that_could_end_its_macro_is_refused(suffix):
    with pytest.raises(BadInput, match="price_suffix"):
        check_profiles((of(price_suffix=suffix),))
    assert check_profiles((of(price_suffix="OXCRYPT"),))["one"].price_suffix == "OXCRYPT"


def test_a_profile_names_its_price_encoding_in_words():
    profile = msgspec.json.decode(
        b'{"name":"one","exchange_id":1,"price_encoding":"google"}', type=ExchangeProfile
    )
    assert profile.price_encoding is PriceEncoding.GOOGLE
    assert ONE.price_encoding is PriceEncoding.CLEAR
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(
            b'{"name":"one","exchange_id":1,"price_encoding":"rot13"}', type=ExchangeProfile
        )
