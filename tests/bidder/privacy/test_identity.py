"""Which id a user is recognised by, and which ids are none."""

from __future__ import annotations

import pytest

from bidder.privacy import is_zeroed, user_id_of
from market.openrtb_decode import decode_request
from tests.bidder.requests import body_of

ZEROED = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize("ifa", [ZEROED, "0" * 32, "", "0", "null", "Unknown", " ", None])
def test_a_zeroed_or_placeholder_id_names_nobody(ifa):
    assert user_id_of(decode_request(body_of(device={"ifa": ifa}))) is None


def test_the_buyers_own_id_comes_before_the_exchanges_and_the_devices():
    ids = {"user": {"buyeruid": "b", "id": "u"}, "device": {"ifa": "i"}}
    assert user_id_of(decode_request(body_of(**ids))) == "b"
    del ids["user"]["buyeruid"]
    assert user_id_of(decode_request(body_of(**ids))) == "u"
    del ids["user"]
    assert user_id_of(decode_request(body_of(**ids))) == "i"


@pytest.mark.parametrize("ifa", [ZEROED, "0" * 32, f" {ZEROED} "])
def test_an_advertising_id_of_zeros_is_zeroed(ifa):
    assert is_zeroed(ifa)


@pytest.mark.parametrize(
    "ifa", [None, "", "0", "null", "unknown", 0, 12, ZEROED[:-1] + "1", "0000-0000"]
)
def test_a_placeholder_says_nothing_on_tracking(ifa):
    assert not is_zeroed(ifa)
