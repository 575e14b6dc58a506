"""What privacy forbids is nowhere: not in an opportunity, not in an event, whatever its disguise.

Each case is answered twice: as it is, and with the forbidden fields taken out of the body. Records,
code pools, answers and events must be the same to the byte: then nothing can hold what was there.
"""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from bidder.edge import Edge
from bidder.privacy import Use, permission_of
from market.chance import code_of, user_key
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb_decode import decode_request
from market.opportunity import CodeList, Dimension
from tests.bidder.privacy.cases import FORBIDDEN, PARTLY, PERMITTED, VENDOR
from tests.bidder.services import BASE_URL, KEY, NOW_MS, Sink, service_of
from tests.reference import privacy as reference

PROFILE = DEFAULT_EXCHANGES[0]
SALT = b"salt"
CANARIES = {
    "id": "canary1",
    "imp": [{"id": "1", "banner": {"w": 300, "h": 250}}],
    "site": {"domain": "news.example"},
    "device": {
        "ifa": "canary-ifa",
        "geo": {
            "country": "USA", "region": "MA", "city": "canarytown", "zip": "zip-canary",
            "lat": 42.123456, "lon": -71.654321, "accuracy": 5, "type": 1,
        },
    },
    "user": {
        "id": "canary-id", "buyeruid": "canary-buyer", "yob": 1931, "gender": "O",
        "keywords": "canary-word,other", "kwarray": ["canary-array"], "customdata": "canary-custom",
        "data": [{"id": "canary-provider", "segment": [{"id": "canary-segment"}]}],
        "eids": [{"source": "canary.example", "uids": [{"id": "canary-uid"}]}],
        "ext": {"eids": [{"source": "canary.older", "uids": [{"id": "canary-old"}]}]},
    },
}  # fmt: skip
"""A request that says everything of its user."""

FIELDS = {
    Use.USER_ID: ("user.id", "user.buyeruid", "device.ifa"),
    Use.SEGMENTS: ("user.data", "user.keywords", "user.kwarray", "user.customdata"),
    Use.PRECISE_GEO: (
        "device.geo.lat", "device.geo.lon", "device.geo.accuracy", "device.geo.type",
        "device.geo.city", "device.geo.zip",
    ),
    Use.DEMOGRAPHICS: ("user.yob", "user.gender"),
    Use.EIDS: ("user.eids", "user.ext.eids"),
}  # fmt: skip
"""What each use reads of a request."""

CONSENTS = [
    {"purposes": {1, 2, 3, 4}},
    {"purposes": {2, 3, 4, 7}},
    {"purposes": {1, 3, 4, 7}},
    {"purposes": {2}},
    {"restrictions": [(4, 0, {VENDOR})]},
]
SOME_FORBIDDEN = [(field, changes) for field, _, changes in PARTLY] + [
    (
        "user.consent",
        {"user": {"consent": reference.consent_string({**reference.CONSENTING, **changes})}},
    )
    for changes in CONSENTS
]


def merged(body, changes):
    """``body`` with ``changes``, objects within objects."""
    made = copy.deepcopy(body)
    for name, value in changes.items():
        is_object = isinstance(value, dict) and isinstance(made.get(name), dict)
        made[name] = merged(made[name], value) if is_object else value
    return made


def case(changes):
    """The canaries under the case's signals, which may bring an id of their own."""
    changes = copy.deepcopy(changes)
    changes.get("user", {}).pop("id", None)
    return merged(CANARIES, changes)


def without(body, uses):
    """``body`` without what these uses read (a zeroed ifa stays: it is a signal)."""
    made = copy.deepcopy(body)
    for path in (path for use in uses for path in FIELDS[use]):
        *above, last = path.split(".")
        at = made
        for name in above:
            at = at.get(name, {})
        if path != "device.ifa" or "canary" in at.get(last, ""):
            at.pop(last, None)
    return made


def permission(body):
    return permission_of(decode_request(json.dumps(body).encode()), VENDOR)


def offered(body):
    request = decode_request(json.dumps(body).encode())
    return Edge(SALT, VENDOR).read(request, PROFILE, NOW_MS).opportunities


@pytest.fixture(scope="module")
def ask():
    """A function from a body to the answer and the events that a bidder gives it."""

    def answer(body):
        sink = Sink()
        service = service_of(sink=sink)
        service._edge = Edge(SALT, VENDOR)
        answered = service.answer(json.dumps(body).encode(), PROFILE, NOW_MS)
        return answered, [event.tobytes() for event in sink.events]

    return answer


def holds(opportunities, code):
    """Whether a code is anywhere in the records or the pool."""
    wanted = np.uint64(code).tobytes()
    return wanted in opportunities.records.tobytes() or wanted in opportunities.codes.tobytes()


@pytest.mark.parametrize(("field", "changes"), FORBIDDEN + SOME_FORBIDDEN)
def test_an_opportunity_is_what_it_would_be_without_the_forbidden_fields(field, changes):
    body = case(changes)
    found = permission(body)
    assert found.forbidden_by == field
    bare = without(body, [use for use in Use if found[use]])
    assert bare != body
    one, other = offered(body), offered(bare)
    assert one.records.tobytes() == other.records.tobytes()
    assert one.codes.tobytes() == other.codes.tobytes()


@pytest.mark.parametrize(
    ("field", "changes"), [FORBIDDEN[0], FORBIDDEN[5], FORBIDDEN[7], *SOME_FORBIDDEN]
)
def test_answers_and_events_are_what_they_would_be_without_the_forbidden_fields(
    field, changes, ask
):
    body = case(changes)
    found = permission(body)
    assert found.forbidden_by == field
    bare = without(body, [use for use in Use if found[use]])
    answered, events = ask(body)
    assert (answered, events) == ask(bare)
    assert answered.status == 200
    assert len(events) == 1
    assert BASE_URL.encode() in answered.body
    assert KEY not in answered.body


@pytest.mark.parametrize(("field", "changes"), FORBIDDEN)
def test_no_canary_is_in_a_record_once_everything_is_forbidden(field, changes):
    opportunities = offered(case(changes))
    record = opportunities.records[0]
    assert record["user_key"] == 0
    assert record["dimensions"][Dimension.COUNTRY] == code_of("USA")
    for text in (
        "canarytown", "zip-canary", "O", "90", "canary-segment", "canary-word", "canary-array",
        "canary.example", "canary.older", "canary-uid", "canary-id", "canary-ifa",
    ):  # fmt: skip
        assert not holds(opportunities, code_of(text)), text
    for user in ("canary-id", "canary-buyer", "canary-ifa"):
        assert not holds(opportunities, user_key(SALT, user)), user
    for name in ("latitude_e6", "longitude_e6", "accuracy_m"):
        assert record[name] == 0
    for each in (CodeList.SEGMENT, CodeList.USER_KEYWORD, CodeList.EID_SOURCE):
        assert record["list_count"][each] == 0


@pytest.mark.parametrize("changes", PERMITTED)
def test_where_nothing_forbids_the_user_is_known_by_a_pseudonym(changes):
    body = merged(CANARIES, changes)
    del body["device"]["ifa"]
    body["user"].pop("id")
    opportunities = offered(body)
    record = opportunities.records[0]
    assert record["user_key"] == user_key(SALT, "canary-buyer")
    for dimension in (Dimension.CITY, Dimension.GENDER, Dimension.AGE_BAND):
        assert record["dimensions"][dimension] != 0
    for text in ("canarytown", "canary-segment", "canary-word", "canary-array", "canary.example"):
        assert holds(opportunities, code_of(text)), text
    assert abs(record["latitude_e6"] - 42_123_456) <= 1
    assert not holds(opportunities, code_of("canary-buyer"))


def test_whatever_a_use_reads_shows_in_a_record_where_it_is_permitted():
    everything = offered(CANARIES)
    for use in Use:
        assert offered(without(CANARIES, [use])).records.tobytes() != everything.records.tobytes()


def test_a_pseudonym_depends_on_the_salt():
    request = decode_request(json.dumps(CANARIES).encode())
    keys = [
        Edge(salt).read(request, PROFILE, NOW_MS).opportunities.records["user_key"][0]
        for salt in (b"a", b"a", b"b")
    ]
    assert keys[0] == keys[1] != keys[2]
    assert np.uint64(0) not in keys
