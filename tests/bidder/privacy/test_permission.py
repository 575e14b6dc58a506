"""What a request permits: every signal, in each of its places, alone and together."""

from __future__ import annotations

import copy
import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bidder.privacy import (
    FORBIDDING_FIELDS,
    PRIVACY_FIELDS,
    ZEROED_FIELDS,
    Permission,
    Use,
    permission_bits,
    permission_from_bits,
    permission_of,
)
from bidder.privacy import permission as under_test
from market.openrtb_decode import decode_request
from tests.bidder.privacy.cases import (
    CALIFORNIA,
    CONSENT,
    FORBIDDEN,
    NATIONAL_NO_GEO,
    NO_GEO,
    NO_PROFILES,
    OPTED_OUT,
    PARTLY,
    PERMITTED,
    USER,
    VENDOR,
    ZEROED,
    gpp,
)
from tests.bidder.requests import body_of


def permission(vendor=VENDOR, **changes):
    return permission_of(decode_request(body_of(**changes)), vendor)


def uses(found):
    return {use for use in Use if not found[use]}


@pytest.mark.parametrize("changes", PERMITTED)
def test_nothing_against_it_permits_every_use(changes):
    assert permission(**changes) == Permission()
    assert permission(**changes).forbidden_by == ""


@pytest.mark.parametrize(("field", "changes"), FORBIDDEN)
def test_a_signal_against_it_forbids_every_use_and_is_named(field, changes):
    found = permission(**changes)
    assert found == (field,) * len(Use)
    assert found.forbidden_by == field


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("regs.gdpr", {"regs": {"gdpr": 1}, "user": {**USER, "consent": CONSENT}}),
        ("user.consent", {"user": {**USER, "consent": CONSENT}}),
        ("regs.gpp_sid", {"regs": {"gpp": gpp(s2=CONSENT), "gpp_sid": [2]}}),
    ],
)
def test_without_a_vendor_id_of_ours_no_consent_covers_us(field, changes):
    assert permission(None, **changes).forbidden_by == field
    assert uses(permission(None, **changes)) == set()
    assert uses(permission(VENDOR, **changes)) == set(Use)
    assert uses(permission(100, **changes)) == set()


@pytest.mark.parametrize(("field", "forbidden", "changes"), PARTLY)
def test_a_string_may_forbid_some_uses_and_leave_the_others(field, forbidden, changes):
    found = permission(**changes)
    assert uses(found) == set(Use) - forbidden
    assert {found[use] for use in forbidden} == {field}
    assert found.forbidden_by == field


def test_two_strings_leave_what_both_permit():
    found = permission(user={**USER, "consent": NO_GEO, "ext": {"consent": NO_PROFILES}})
    assert uses(found) == {Use.USER_ID}


def test_each_use_names_the_first_signal_that_forbids_it():
    found = permission(
        user={**USER, "consent": NO_GEO},
        regs={"gdpr": 1, "gpp": gpp(s8=OPTED_OUT), "gpp_sid": [8]},
    )
    assert found.precise_geo == "user.consent"
    assert found.user_id == found.eids == "regs.gpp"
    assert permission(device={"dnt": 1, "lmt": 1}, regs={"coppa": 1}).forbidden_by == "device.dnt"


def test_what_may_be_used_reads_as_claims():
    assert permission(user={**USER, "consent": NO_PROFILES}).may_use_user_id
    found = permission(user={**USER, "consent": NO_PROFILES})
    assert [found.may_use_user_id, found.may_use_precise_geo] == [True, True]
    forbidden = [found.may_use_segments, found.may_use_demographics, found.may_use_eids]
    assert forbidden == [False] * 3


@pytest.mark.parametrize(
    ("wanted", "blamed"),
    [
        ("user.id", "regs.gpp"),
        ("user.data.segment.id", "regs.gpp"),
        ("user.keywords|kwarray", "regs.gpp"),
        ("device.geo.city", "user.consent"),
        ("device.geo.zip", "user.consent"),
        ("device.geo.lat|lon", "user.consent"),
        ("user.gender", "regs.gpp"),
        ("user.yob", "regs.gpp"),
        ("user.eids.source", "regs.gpp"),
        ("device.geo.country", "device.geo.country"),
        ("imp.bidfloor", "imp.bidfloor"),
        ("", ""),
    ],
)
def test_a_field_that_may_not_be_read_is_no_reason_but_the_signal_is(wanted, blamed):
    found = permission(
        user={**USER, "consent": NO_GEO}, regs={"gpp": gpp(s8=OPTED_OUT), "gpp_sid": [8]}
    )
    assert found.blamed(wanted) == blamed
    assert Permission().blamed(wanted) == wanted


@pytest.mark.parametrize(("field", "_"), FORBIDDEN)
def test_every_field_that_forbids_is_listed(field, _):
    assert field in FORBIDDING_FIELDS


@given(st.tuples(*[st.sampled_from(FORBIDDING_FIELDS)] * len(Use)))
def test_a_permission_and_its_bits_are_the_same(fields):
    found = Permission(*fields)
    bits = permission_bits(found)
    assert permission_from_bits(bits) == found
    assert bits < 2**63
    for use in Use:
        assert (bits >> use & 1) == (not found[use])


def test_the_bits_of_full_permission_and_of_none_have_their_low_bits_alike():
    assert permission_bits(Permission()) == 0b11111
    assert permission_bits(Permission(*["device.dnt"] * 5)) & 0b11111 == 0


SIGNALS = {
    "device.dnt": [0, 1, "x"],
    "device.lmt": [0, 1],
    "device.ifa": ["a-b-c", ZEROED],
    "regs.coppa": [0, 1],
    "regs.gdpr": [0, 1],
    "regs.ext.gdpr": [0, 1],
    "user.consent": [CONSENT, NO_GEO, "CPc"],
    "user.ext.consent": [CONSENT, NO_PROFILES],
    "regs.us_privacy": ["1YNN", "1YYN", "1---"],
    "regs.ext.us_privacy": ["1YNN", "1NYN"],
    "regs.gpp": [gpp(s2=CONSENT, s8=CALIFORNIA), gpp(s8=OPTED_OUT), "DBA"],
    "regs.ext.gpp": [gpp(s7=NATIONAL_NO_GEO, s8=CALIFORNIA)],
    "regs.gpp_sid": [[8], [2, 8], [-1], []],
    "regs.ext.gpp_sid": [[8], [7]],
}
chosen_signals = st.fixed_dictionaries(
    {}, optional={path: st.sampled_from(values) for path, values in SIGNALS.items()}
)


def put(body, path, value):
    *above, last = path.split(".")
    for name in above:
        body = body.setdefault(name, {})
    body[last] = value


def with_signals(chosen, **changes):
    body = json.loads(body_of(**changes))
    for path, value in chosen.items():
        put(body, path, value)
    return json.dumps(body).encode()


OTHERS = {
    "device": {"geo": {"city": "Boston", "country": "DEU"}, "ua": "x", "ip": "1.2.3.4"},
    "user": {"id": "u", "yob": 1990, "gender": "F", "eids": [{"source": "s"}], "keywords": "k"},
    "site": {"domain": "other.example", "privacypolicy": 0},
    "regs": {},
    "tmax": 300,
}  # fmt: skip


@given(chosen_signals)
def test_a_permission_depends_on_the_listed_fields_and_on_nothing_else(chosen):
    assert set(SIGNALS) == {*PRIVACY_FIELDS, *ZEROED_FIELDS}
    alone = decode_request(with_signals(chosen))
    among_others = decode_request(with_signals(chosen, **copy.deepcopy(OTHERS)))
    assert permission_of(alone, VENDOR) == permission_of(among_others, VENDOR)


@given(chosen_signals, st.data())
def test_of_an_advertising_id_only_its_zeros_count(chosen, data):
    one, other = (
        {**chosen, "device.ifa": data.draw(st.sampled_from(ids))}
        for ids in (["a", "b1", ""], ["c", "0", "77"])
    )
    assert permission_of(decode_request(with_signals(one)), VENDOR) == permission_of(
        decode_request(with_signals(other)), VENDOR
    )


@given(
    chosen_signals,
    st.sampled_from(("device.dnt", "device.lmt", "device.ifa", "regs.coppa")),
    st.data(),
)
def test_one_more_flag_never_permits_more(chosen, path, data):
    before = {**chosen, path: SIGNALS[path][0]}
    after = {**chosen, path: data.draw(st.sampled_from(SIGNALS[path]))}
    assert uses(permission_of(decode_request(with_signals(after)), VENDOR)) <= uses(
        permission_of(decode_request(with_signals(before)), VENDOR)
    )


@given(
    chosen_signals,
    st.sampled_from(("regs.gdpr", "user.consent", "regs.us_privacy", "regs.gpp_sid")),
    st.data(),
)
def test_the_older_place_beside_the_newer_never_permits_more(chosen, newer, data):
    older = newer.replace(".", ".ext.")
    chosen.pop(older, None)
    chosen[newer] = data.draw(st.sampled_from([value for value in SIGNALS[newer] if value != []]))
    both = {**chosen, older: data.draw(st.sampled_from(SIGNALS[older]))}
    assert uses(permission_of(decode_request(with_signals(both)), VENDOR)) <= uses(
        permission_of(decode_request(with_signals(chosen)), VENDOR)
    )


garbage = (
    st.text(max_size=60)
    | st.integers()
    | st.booleans()
    | st.lists(st.integers(-2, 30) | st.text(max_size=3), max_size=3)
    | st.sampled_from([CONSENT, gpp(s8=CALIFORNIA), "DBABM~", "1YN", {"a": 1}, None])
)


@given(
    st.dictionaries(st.sampled_from(sorted(SIGNALS)), garbage, max_size=6),
    st.none() | st.just(VENDOR),
)
def test_no_request_that_decodes_raises(chosen, vendor):
    found = permission_of(decode_request(with_signals(chosen)), vendor)
    assert set(found) <= set(FORBIDDING_FIELDS)


says_something = {"false", "null"}.isdisjoint  # as text too: 0, and absent
words = st.text("abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=9).filter(
    lambda word: says_something({word})
)
unreadable = words | words.map(lambda word: {word: 0}) | st.tuples(words, words).map(list)


@pytest.mark.parametrize("path", PRIVACY_FIELDS)
@given(unreadable)
@example("inf")
@example("nan")
@example("true")
@example({"a": 0})
def test_a_signal_that_cannot_be_read_is_read_against_us(path, value):
    assert uses(permission_of(decode_request(with_signals({path: value})), VENDOR)) == set()


def test_remembered_permissions_are_bounded():
    memo = under_test._decide
    for each, _ in itertools.product(range(100), range(2)):
        permission(regs={"us_privacy": f"1YN{each}"})
    assert memo.cache_info().maxsize <= 4_096
    assert memo.cache_info().hits >= 100


def test_a_long_list_of_sections_is_not_read_at_all():
    many = permission(regs={"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8] * 33})
    assert many.forbidden_by == "regs.gpp_sid"
    assert permission(regs={"gpp": gpp(s8=CALIFORNIA), "gpp_sid": [8] * 32}) == Permission()
