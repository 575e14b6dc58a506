"""The US sections: their layouts against the specifications', and which values permit."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.us_section import LAYOUTS, decode_us_section, us_section_permits
from bidder.privacy.use import Use
from market.errors import BadInput
from tests.reference import privacy as reference

SECTIONS = sorted(reference.US_FIELDS)
OPT_OUTS = ("SaleOptOut", "SharingOptOut", "TargetedAdvertisingOptOut")
CYCLE = (2, 1, 0)


def read(section, values, **more):
    return decode_us_section(section, reference.us_section(section, values, **more))


def uses(section, **changes):
    gpc = changes.pop("gpc", None)
    values = reference.permitting_us(section) | changes
    said = read(section, values, gpc=gpc)
    return {use for use in Use if us_section_permits(said, use)}


def has(section, field):
    return field in dict(reference.us_fields(section))


def test_every_released_section_is_read_and_no_draft():
    assert set(LAYOUTS) == set(reference.US_FIELDS) == set(range(7, 24))


@pytest.mark.parametrize("section", SECTIONS)
def test_a_layout_is_the_specifications(section):
    layout = LAYOUTS[section][0]
    assert list(layout.fields) == reference.us_fields(section)
    assert (layout.geo or None) == reference.PRECISE_GEOLOCATION[section]


# Texts and values: unit tests of the IAB Tech Lab's own library (IABTechLab/iabgpp-java,
# Us*Test.testEncode2): 1 in every field, 2, 1, 0, 2, 1, 0, ... in every list (exceptions below).
@pytest.mark.parametrize(
    ("section", "text", "exceptions"),
    [
        (7, "BVVVkkkkkpFY.YA", {}),
        (8, "BVWSSSVY.YA", {}),
        (9, "BVWSSVY", {}),
        (10, "BVWSSVg.YA", {}),
        (11, "BVVkklWA", {}),
        (12, "BVWSSZFg.YA", {}),
        (13, "BVWSSZlY", {"KnownChildSensitiveDataConsents": (2, 1, 2)}),
        (14, "BVWSSZFY.YA", {}),
        (15, "BVWSSRpFYA.YA", {"SensitiveDataProcessing": (2, 1, 0, 2, 1, 0, 2, 1, 0, 1, 2)}),
        (16, "BVWSSVWA.YA", {}),
        (17, "BVWSSSSVYA.YA", {}),
        (18, "BVVkklWA.YA", {}),
        (19, "BVWSSVWA.YA", {}),
        (20, "BVWSSZFY.YA", {}),
        (21, "BVWSSRklWA.YA", {"SensitiveDataProcessing": (2, 1, 0, 2, 1, 0, 2, 1, 0, 1)}),
        (22, "BVWSSVWA.YA", {}),
        (23, "BVWSSVWA.YA", {}),
    ],
)
def test_documented_texts_hold_the_values_that_are_documented(section, text, exceptions):
    said = decode_us_section(section, text)
    expected = {
        name: tuple(CYCLE[place % 3] for place in range(count)) if count > 1 else (1,)
        for name, count in reference.us_fields(section)
    }
    expected |= {"MspaServiceProviderMode": (2,)} | exceptions
    assert said.version == 1
    assert said.values == expected
    assert said.has_gpc == text.endswith(".YA")


def test_the_national_section_of_version_1_may_have_its_first_shorter_layout():
    # as public sites send it: notices given, nothing opted out of, nothing sensitive
    said = decode_us_section(7, "BVQqAAAAAgA")
    assert len(said.values["SensitiveDataProcessing"]) == 12
    assert said.values["MspaCoveredTransaction"] == (2,)
    assert {use for use in Use if us_section_permits(said, use)} == set(Use) - {Use.PRECISE_GEO}


@pytest.mark.parametrize("version", [1, 2])
def test_the_national_section_is_read_in_both_of_its_versions(version):
    said = read(7, reference.permitting_us(7), version=version)
    assert said.version == version
    assert us_section_permits(said, Use.USER_ID)


@st.composite
def sections_with_values(draw):
    section = draw(st.sampled_from(SECTIONS))
    entry = st.integers(0, 2)
    values = {
        name: draw(st.lists(entry, min_size=count, max_size=count))
        for name, count in reference.us_fields(section)
    }
    return section, values, draw(st.sampled_from([None, False, True]))


@given(sections_with_values())
def test_what_the_reference_writes_is_read_back(case):
    section, values, gpc = case
    said = read(section, values, gpc=gpc)
    assert said.values == {name: tuple(entries) for name, entries in values.items()}
    assert said.has_gpc == bool(gpc)


@given(sections_with_values())
def test_an_opt_out_permits_nothing_whatever_else_is_said(case):
    section, values, gpc = case
    if any(values.get(opt_out) == [1] for opt_out in OPT_OUTS) or gpc:
        said = read(section, values, gpc=gpc)
        assert not any(us_section_permits(said, use) for use in Use)


@pytest.mark.parametrize("section", SECTIONS)
def test_notices_and_no_opt_out_permit_all_that_the_section_knows(section):
    nothing_on_geo = {Use.PRECISE_GEO} if reference.PRECISE_GEOLOCATION[section] is None else set()
    assert uses(section) == set(Use) - nothing_on_geo
    assert uses(section, gpc=False) == set(Use) - nothing_on_geo


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((opt_out, 1) for opt_out in OPT_OUTS),
        *((f"{opt_out}Notice", 2) for opt_out in OPT_OUTS),
        # said to be not applicable on one side only
        *((opt_out, 0) for opt_out in OPT_OUTS),
        *((f"{opt_out}Notice", 0) for opt_out in OPT_OUTS),
        ("SharingNotice", 2),
        ("ProcessingNotice", 2),
        ("PersonalDataConsents", 1),
        ("AdditionalDataProcessingConsent", 1),
        ("MspaCoveredTransaction", 0),
        ("MspaServiceProviderMode", 1),
        ("gpc", True),
    ],
)
def test_a_value_against_us_permits_nothing(section, field, value):
    if field == "gpc" or has(section, field):
        assert uses(section, **{field: value}) == set()


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("consented", [1, 2])
def test_a_known_child_permits_nothing_whoever_consented(section, consented):
    count = dict(reference.us_fields(section))["KnownChildSensitiveDataConsents"]
    for place in range(count):
        ages = [consented if place == each else 0 for each in range(count)]
        assert uses(section, KnownChildSensitiveDataConsents=ages) == set()


@pytest.mark.parametrize("section", SECTIONS)
def test_a_business_that_says_nothing_applies_has_nothing_to_share(section):
    nothing = {field: 0 for opt_out in OPT_OUTS for field in (opt_out, f"{opt_out}Notice")
               if has(section, field)}  # fmt: skip
    assert uses(section, **nothing) == set()


@pytest.mark.parametrize("section", SECTIONS)
def test_an_activity_that_does_not_apply_leaves_the_others(section):
    does_not_apply = {"SaleOptOut": 0, "SaleOptOutNotice": 0}
    assert uses(section, **does_not_apply) == uses(section) != set()


@pytest.mark.parametrize("section", SECTIONS)
@pytest.mark.parametrize("value", [0, 1])
def test_precise_geolocation_needs_its_own_yes(section, value):
    place = reference.PRECISE_GEOLOCATION[section]
    if place is not None:
        sensitive = list(reference.permitting_us(section)["SensitiveDataProcessing"])
        sensitive[place - 1] = value
        assert uses(section, SensitiveDataProcessing=sensitive) == set(Use) - {Use.PRECISE_GEO}


@pytest.mark.parametrize(
    ("section", "notice"),
    [
        (7, "SensitiveDataProcessingOptOutNotice"),
        (7, "SensitiveDataLimitUseNotice"),
        (8, "SensitiveDataLimitUseNotice"),
        (11, "SensitiveDataProcessingOptOutNotice"),
        (18, "SensitiveDataOptOutNotice"),
    ],
)
def test_precise_geolocation_needs_its_notice(section, notice):
    assert uses(section, **{notice: 2}) == set(Use) - {Use.PRECISE_GEO}


@pytest.mark.parametrize(
    ("section", "text"),
    [
        (7, ""), (7, "C"), (7, "BAAAAAAAA"), (7, "AAAAAAAAAABA"), (7, "DAAAAAAAAABA"),
        (8, "CVWSSSVY"), (8, "BVWSSS"), (8, "B_WSSSVY"), (8, "BVWSSSVY."), (8, "BVWSSSVY.AA"),
        (8, "BVWSSSVY.YA.YA"), (8, "BVWSSSVY.YB"), (8, "BVWSSSVYB"), (9, "1YNN"), (9, "~"),
        (9, "BVWSSV="),
    ],
)  # fmt: skip
def test_what_is_no_such_section_is_refused(section, text):
    with pytest.raises(BadInput):
        decode_us_section(section, text)


@given(st.sampled_from(SECTIONS), st.text(reference.ALPHABET + ".", max_size=30))
def test_no_text_does_worse_than_being_refused(section, text):
    with contextlib.suppress(BadInput):
        assert decode_us_section(section, "B" + text).version == 1
