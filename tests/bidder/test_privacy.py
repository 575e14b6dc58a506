"""What may be known of a user: every signal that forbids it, wherever exchanges put it."""

from __future__ import annotations

import numpy as np
import pytest

from bidder.edge import Edge
from bidder.privacy import permission_of, user_id_of
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb_decode import decode_request
from market.opportunity import CodeList, Dimension
from tests.bidder.requests import body_of

USER = {
    "id": "u1", "gender": "F", "yob": 1990, "data": [{"id": "d", "segment": [{"id": "autos"}]}],
}  # fmt: skip
FORBIDDEN = [
    ("device.dnt", {"device": {"dnt": 1}}),
    ("device.lmt", {"device": {"lmt": 1}}),
    ("device.lmt", {"device": {"lmt": "1"}}),
    ("regs.coppa", {"regs": {"coppa": 1}}),
    ("regs.gdpr", {"regs": {"gdpr": 1}}),
    ("regs.gdpr", {"regs": {"ext": {"gdpr": 1}}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "1YYN"}}),
    ("regs.us_privacy", {"regs": {"ext": {"us_privacy": "1NyN"}}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "1"}}),
    ("regs.us_privacy", {"regs": {"us_privacy": "garbage"}}),
    ("regs.gpp_sid", {"regs": {"gpp_sid": [7]}}),
    ("regs.gpp_sid", {"regs": {"ext": {"gpp_sid": [8], "gpp": "DBA"}}}),
    ("regs.gpp", {"regs": {"gpp": "DBACNYA"}}),
    ("user.consent", {"user": {**USER, "consent": "CPc"}}),
    ("user.consent", {"regs": {}, "user": {**USER, "ext": {"consent": "CPc"}}}),
]
ALLOWED = [
    {},
    {"regs": {"coppa": 0, "gdpr": 0, "us_privacy": "1YNN"}},
    {"regs": {"us_privacy": "1---"}},
    {"regs": {"gdpr": 0}, "user": {**USER, "consent": "CPc"}},
    {"device": {"dnt": 0, "lmt": 0}},
]


def read(**changes):
    device = {"geo": {"country": "USA", "city": "Boston"}, **changes.pop("device", {})}
    request = decode_request(body_of(**{"user": USER, "device": device, **changes}))
    return request, Edge(b"salt").read(request, DEFAULT_EXCHANGES[0], 1_700_000_000_000)


@pytest.mark.parametrize(("field", "changes"), FORBIDDEN)
def test_a_signal_against_recognition_leaves_nothing_of_the_user(field, changes):
    request, offer = read(**changes)
    assert permission_of(request) == (False, field)
    record = offer.opportunities.records[0]
    assert record["user_key"] == 0
    for dimension in (Dimension.CITY, Dimension.GENDER, Dimension.AGE_BAND):
        assert record["dimensions"][dimension] == 0
    assert record["dimensions"][Dimension.COUNTRY] != 0
    assert record["list_count"][CodeList.SEGMENT] == 0


@pytest.mark.parametrize("changes", ALLOWED)
def test_without_such_a_signal_the_user_is_known_by_a_pseudonym(changes):
    request, offer = read(**changes)
    assert permission_of(request).may_know_user
    record = offer.opportunities.records[0]
    assert record["user_key"] != 0
    assert record["list_count"][CodeList.SEGMENT] == 1
    assert (record["dimensions"][[Dimension.GENDER, Dimension.AGE_BAND]] != 0).all()


def test_a_pseudonym_depends_on_the_salt():
    request, _ = read()
    keys = [
        Edge(salt).read(request, DEFAULT_EXCHANGES[0], 0).opportunities.records["user_key"][0]
        for salt in (b"a", b"a", b"b")
    ]
    assert keys[0] == keys[1] != keys[2]
    assert np.uint64(0) not in keys


@pytest.mark.parametrize(
    "ifa",
    ["00000000-0000-0000-0000-000000000000", "0" * 32, "", "0", "null", "Unknown", " ", None],
)
def test_a_zeroed_or_placeholder_id_names_nobody(ifa):
    assert user_id_of(decode_request(body_of(device={"ifa": ifa}))) is None


def test_the_buyers_own_id_comes_before_the_exchanges_and_the_devices():
    ids = {"user": {"buyeruid": "b", "id": "u"}, "device": {"ifa": "i"}}
    assert user_id_of(decode_request(body_of(**ids))) == "b"
    del ids["user"]["buyeruid"]
    assert user_id_of(decode_request(body_of(**ids))) == "u"
    del ids["user"]
    assert user_id_of(decode_request(body_of(**ids))) == "i"
