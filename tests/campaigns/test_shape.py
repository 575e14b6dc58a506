from __future__ import annotations

import contextlib
import copy

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.refusals import Refusal, RefusalKind
from campaigns.shape import decode_json, judged, merge_patch, pointer_token, shape
from market.campaign import Campaign, Problem, problems_of
from market.errors import BadInput

WHOLE = {
    "name": "Spring", "currency": "USD", "time_zone": "UTC", "advertiser_domain": "shop.example",
    "goal": {"kind": "target_cpa", "target_cpa_micros": 5_000_000},
    "budget": {"daily_micros": 100_000_000},
    "line_items": [
        {
            "name": "one",
            "targeting": {"include": {"country": ["usa"]}},
            "frequency_caps": [{"impressions": 3}],
            "creatives": [
                {"format": "banner", "width": 300, "height": 250, "landing_url": "https://a.example"}
            ],
        }
    ],
}  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5) | st.sampled_from(["active", "target_roas", "USD", "day"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip


def places(value, at=()):
    yield at
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, each in items:
        yield from places(each, (*at, key))


@st.composite
def altered_campaigns(draw):
    """A whole campaign with up to three places replaced, removed, or given a foreign neighbour."""
    body = copy.deepcopy(WHOLE)
    for _ in range(draw(st.integers(0, 3))):
        *path, last = draw(st.sampled_from([each for each in places(body) if each]))
        holder = body
        for key in path:
            holder = holder[key]
        match draw(st.sampled_from(["replace", "remove", "add"])):
            case "replace":
                holder[last] = draw(json_values)
            case "remove":
                del holder[last]
            case "add" if isinstance(holder, dict):
                holder[draw(st.text(max_size=4))] = draw(json_values)
    return body


@given(altered_campaigns())
@settings(max_examples=300, deadline=None)
def test_nothing_is_reported_exactly_where_msgspec_decodes_and_then_both_agree(body):
    read = shape(body, Campaign)
    try:
        expected = msgspec.json.decode(msgspec.json.encode(body), type=Campaign)
    except msgspec.ValidationError:
        assert read.problems
    else:
        assert read.problems == ()
        assert read.value == expected


@given(json_values)
@settings(deadline=None)
def test_any_json_value_is_read_or_reported_and_never_raises(value):
    read = shape(value, Campaign)
    assert isinstance(read.value, Campaign)
    assert read.problems


def test_every_place_that_does_not_fit_is_named():
    body = copy.deepcopy(WHOLE)
    body["budget"] = {"daily_micros": "100"}
    body["goal"]["kind"] = "more"
    body["line_items"][0]["creatives"][0]["width"] = 300.5
    body["line_items"][0]["frequency_caps"] = [{}]
    body["line_items"][0]["targeting"]["include"] = {"a/b~c": "usa"}
    body["label"] = 1
    del body["currency"]
    assert {problem.pointer for problem in shape(body, Campaign).problems} == {
        "/budget/daily_micros", "/goal/kind", "/line_items/0/creatives/0/width",
        "/line_items/0/frequency_caps/0/impressions",
        "/line_items/0/targeting/include/a~1b~0c", "/label", "/currency",
    }  # fmt: skip


def test_rules_are_judged_beside_what_does_not_fit_but_not_because_of_it():
    body = copy.deepcopy(WHOLE)
    body["budget"] = {"daily_micros": "100"}
    body["goal"] = {"kind": "more"}
    body["time_zone"] = "Mars/Olympus"
    body["line_items"][0]["bid_cpm_micros_max"] = 0
    read = shape(body, Campaign)
    assert "/budget" in {problem.pointer for problem in problems_of(read.value)}
    assert [problem.pointer for problem in judged(read.problems, problems_of(read.value))] == [
        "/goal/kind", "/budget/daily_micros", "/time_zone", "/line_items/0/bid_cpm_micros_max",
    ]  # fmt: skip


def test_a_long_value_is_cut():
    (problem,) = shape({**WHOLE, "goal": "x" * 10_000}, Campaign).problems
    assert len(problem.value) == 200
    assert problem.value.endswith("...")


class Door(msgspec.Struct, frozen=True):
    width: int

    def __post_init__(self):
        if self.width < 1:
            raise BadInput(f"width is {self.width}; it must be > 0", "/width")


class House(msgspec.Struct, frozen=True):
    name: str
    door: Door | None = None
    doors: tuple[Door, ...] = ()


class Street(msgspec.Struct, frozen=True):
    door: Door


def test_what_a_struct_refuses_itself_is_reported_at_its_field():
    read = shape({"name": "a", "door": {"width": -1}, "doors": [{"width": 0}, {"width": 2}]}, House)
    assert read.value == House("a", None, (Door(2),))
    assert read.problems == (
        Problem("/door/width", "-1", "width is -1; it must be > 0"),
        Problem("/doors/0/width", "0", "width is 0; it must be > 0"),
    )


def test_a_struct_that_refuses_every_stand_in_is_refused_with_its_problems():
    with pytest.raises(Refusal) as refused:
        shape({"door": {"width": "wide"}}, Street)
    assert [problem.pointer for problem in refused.value.problems] == ["/door/width"]


@pytest.mark.parametrize(
    "body", [b"", b"[1", b"{'a': 1}", b"\xff", b'"\xff"', b'"\\ud800"', b"NaN", b"[" * 100_000]
)
def test_what_is_no_json_is_refused(body):
    with pytest.raises(Refusal) as refused:
        decode_json(body)
    assert refused.value.kind is RefusalKind.MALFORMED_JSON


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        # RFC 7396 appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(target, patch, result):
    untouched = copy.deepcopy(target)
    assert merge_patch(target, patch) == result
    assert target == untouched


def test_a_pointer_token_is_escaped():
    assert pointer_token("a/b~c") == "a~1b~0c"


@given(st.integers(1, 5000))
@settings(max_examples=40, deadline=None)
def test_a_deeply_nested_body_is_no_json_or_misfits_but_is_never_an_accident(depth):
    body = b'{"name":' + b"[" * depth + b"]" * depth + b"}"
    with contextlib.suppress(Refusal):
        pointers = {problem.pointer for problem in shape(decode_json(body), Campaign).problems}
        assert "/name" in pointers
