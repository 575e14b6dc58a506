"""TC strings: documented ones, any that can be written, and none that cannot."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.bits import ID_MAX, merged
from bidder.privacy.consent_string import (
    ConsentString,
    PublisherConsent,
    PublisherRestriction,
    Restriction,
    VendorIds,
    decode_consent,
)
from market.errors import BadInput
from tests.reference import privacy as reference

ALL_TEN = frozenset(range(1, 11))


def test_the_example_of_the_specification_reads_as_its_tools_show_it():
    # IAB Tech Lab, "Consent string and vendor list formats v2", section "TC String Format" (2.3)
    said = decode_consent(
        "CQSbk4AQSbk4ANwAAAENAwCgAAAAAAAAAAYgACPAAAAA.IDKQA4AAgAKAGQAygAAA.YAAAAAAAAAAA"
    )
    assert (said.version, said.cmp_id, said.vendor_list_version) == (2, 880, 48)
    assert said.created_ms == said.updated_ms == 1_748_908_800_000  # 3 June 2025, midnight UTC
    assert (said.language, said.publisher_country) == ("EN", "DE")
    assert said.is_service_specific
    assert not said.purposes
    assert not said.restrictions
    assert said.disclosed_vendors is not None
    assert said.publisher == PublisherConsent(*(frozenset(),) * 4)


# The strings and what is in them: unit tests of the IAB Tech Lab's own library
# (IABTechLab/iabgpp-java, TcfEuV2Test).
def test_vendors_in_a_bit_field_are_those_that_the_iab_documents():
    said = decode_consent(
        "COv_eg6Ov_eg6AOADBENAaCgAP_AAH_AACiQAVEUQQoAIQAqIoghAAQgAA.YAAAAAAAAAAAAAAAAAA"
    )
    assert (said.cmp_id, said.cmp_version, said.consent_screen) == (14, 3, 1)
    assert (said.vendor_list_version, said.policy_version) == (26, 2)
    assert said.is_service_specific
    assert not said.uses_non_standard_texts
    assert (said.special_features, said.purposes) == (frozenset(), ALL_TEN)
    assert said.legitimate_interests == ALL_TEN - {1}
    assert list(said.vendors.each()) == [2, 6, 8, 12, 18, 23, 25, 37, 42]
    assert list(said.vendors_legitimate_interest.each()) == [2, 6, 8, 12, 18, 23, 37, 42]
    assert said.publisher_country == "US"


def test_vendors_in_ranges_and_a_restriction_are_those_that_the_iab_documents():
    said = decode_consent("COoC-kUOoC-kUAHABAENAwCoAIAAAELAAAwIF5wAoAAgAGAvMACX_ABBAAQAFA")
    assert said.created_ms == 1_570_425_474_000  # 2019-10-07T05:17:54Z
    assert (said.special_features, said.purposes) == ({1}, {1})
    assert said.legitimate_interests == {2, 7, 9, 10}
    assert list(said.vendors.each()) == [1, 2, 3, 755]
    assert list(said.vendors_legitimate_interest.each()) == list(range(1, 10))
    assert said.restrictions == (
        PublisherRestriction(1, Restriction.NOT_ALLOWED, VendorIds(((10, 10),))),
    )
    assert said.publisher_country == "GB"


def test_disclosed_vendors_are_those_that_the_iab_documents():
    ids = (
        "GLtV_T9fb2vj-_Z99_tkeYwf95y3p-wzhheMs-8NyZeH_B4Wv2MyvBX4JiQKGRgksjLBAQ"
        "dtHGlcTQgBwIlViTLMYk2MjzNKJrJEilsbO2dYGD9Pn8HT3ZCY70-vv__7v3ff_3g"
    )
    said = decode_consent(f"CPcqBNJPcqBNJNwAAAENAwCAAAAAAAAAAAAAAAAAAAAA.YAAAAAAAAAA.Q{ids}.I{ids}")
    assert (said.cmp_id, said.vendor_list_version, said.publisher_country) == (880, 48, "AA")
    disclosed = list(said.disclosed_vendors.each())
    assert len(disclosed) == 434
    assert disclosed[:10] == [1, 2, 4, 6, 8, 10, 11, 12, 13, 14]
    assert disclosed[-4:] == [788, 789, 790, 791]
    assert said.disclosed_vendors.holds(791)
    assert not said.disclosed_vendors.holds(792)


def test_a_long_bit_field_counts_as_many_vendors_as_the_iab_does():
    said = decode_consent(
        "CPi8wgAPi8wgAAOACBENCuCoAP_AAEfAACiQJHNd_H__bX9n-f7_6ft0eY1f9_r37uQzDhfNk-8F3L_W_LwX_2E7NF36"
        "tq4KmR4ku1LBIUNtHMnUDUmxaokVrzHsak2cpzNKJ_BkknsZe2dYGF9vm5tj-QKZ7_5_d3f52T_9_9v-39z33913v3d93"
        "-_13LjdV5_9H_v9fR_b8_Kf9_5-_4v8_____3_e______8AEEggCTDVuIAuxLHAm0DCKBECMKwkKoFABBQDC0QGADg4Kd"
        "lYBPrCBAAgFAEYEQIcAUYEAgAAAgCQiACQIsEAAAIgEAAIAEQiEABAwCCgAsDAIAAQDQMUQoABAkIMiAiKUwICIEggJb"
        "KhBKC6Q0wgCrLACgkRsFAAiAAAUgACAsHAMESAlYsECTFG-QAjBCgFEqFaAGGgAwABBI4RABgACCRwqADAAEEjgA"
    )
    assert len(list(said.vendors.each())) == 772
    assert len(list(said.vendors_legitimate_interest.each())) == 280
    assert said.legitimate_interests == {2, 6, 7, 8, 9, 10}
    assert said.special_features == {1}


ids = st.sets(st.integers(1, 300) | st.integers(1, ID_MAX), max_size=12)
small_ids = st.sets(st.integers(1, 400), max_size=40)
purposes = st.sets(st.integers(1, 24))
letter_pairs = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=2, max_size=2)


@st.composite
def publishers(draw):
    count = draw(st.integers(0, 63))
    custom = st.sets(st.integers(1, count)) if count else st.just(set())
    return draw(purposes), draw(purposes), draw(custom), draw(custom), count


said_strings = st.fixed_dictionaries(
    {
        "version": st.just(2),
        "created": st.integers(0, 2**36 - 1),
        "updated": st.integers(0, 2**36 - 1),
        "cmp_id": st.integers(0, 4095),
        "cmp_version": st.integers(0, 4095),
        "screen": st.integers(0, 63),
        "language": letter_pairs,
        "vendor_list_version": st.integers(0, 4095),
        "policy_version": st.integers(0, 63),
        "is_service_specific": st.booleans(),
        "non_standard": st.booleans(),
        "special_features": st.sets(st.integers(1, 12)),
        "purposes": purposes,
        "interests": purposes,
        "one_treatment": st.booleans(),
        "country": letter_pairs,
        "vendors": small_ids,
        "vendors_interest": small_ids,
        "restrictions": st.lists(st.tuples(st.integers(0, 63), st.integers(0, 3), ids), max_size=4),
        "disclosed": st.none() | small_ids,
        "publisher": st.none() | publishers(),
    }
)


def vendor_ids(of):
    return VendorIds(merged((each, each) for each in of))


@given(said_strings, st.booleans())
def test_what_the_reference_writes_is_read_back_in_full(said, as_ranges):
    publisher = said["publisher"]
    assert decode_consent(reference.consent_string(said, as_ranges=as_ranges)) == ConsentString(
        version=2,
        created_ms=said["created"] * 100,
        updated_ms=said["updated"] * 100,
        cmp_id=said["cmp_id"],
        cmp_version=said["cmp_version"],
        consent_screen=said["screen"],
        language=said["language"],
        vendor_list_version=said["vendor_list_version"],
        policy_version=said["policy_version"],
        is_service_specific=said["is_service_specific"],
        uses_non_standard_texts=said["non_standard"],
        special_features=frozenset(said["special_features"]),
        purposes=frozenset(said["purposes"]),
        legitimate_interests=frozenset(said["interests"]),
        purpose_one_treatment=said["one_treatment"],
        publisher_country=said["country"],
        vendors=vendor_ids(said["vendors"]),
        vendors_legitimate_interest=vendor_ids(said["vendors_interest"]),
        restrictions=tuple(
            PublisherRestriction(purpose, Restriction(kind), vendor_ids(of))
            for purpose, kind, of in said["restrictions"]
        ),
        disclosed_vendors=None if said["disclosed"] is None else vendor_ids(said["disclosed"]),
        publisher=publisher and PublisherConsent(*map(frozenset, publisher[:4])),
    )


@given(small_ids, st.booleans(), st.integers(0, 401))
def test_a_set_of_vendors_holds_exactly_its_ids(of, as_ranges, vendor_id):
    said = {**reference.CONSENTING, "vendors": of}
    read = decode_consent(reference.consent_string(said, as_ranges=as_ranges)).vendors
    assert list(read.each()) == sorted(of)
    assert read.holds(vendor_id) == (vendor_id in of)


def test_the_largest_range_that_can_be_written_is_read_without_being_unrolled():
    everybody = reference.CONSENTING | {"vendors": range(1, ID_MAX + 1)}
    said = decode_consent(reference.consent_string(everybody, as_ranges=True))
    assert said.vendors.ranges == ((1, ID_MAX),)
    assert said.vendors.holds(ID_MAX)


@given(said_strings, st.data())
def test_a_string_that_is_cut_off_is_refused_or_ends_between_segments(said, data):
    text = reference.consent_string(said)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    if cut in (text.split(".")[0], ".".join(text.split(".")[:2])):
        decode_consent(cut)
        return
    bits_lost = 6 * (len(text.split(".")[cut.count(".")]) - len(cut.split(".")[-1]))
    if bits_lost <= 6 and text[len(cut) :].startswith("A"):
        return  # what is lost may be padding
    with pytest.raises(BadInput):
        decode_consent(cut)


@pytest.mark.parametrize("version", [0, 1, 3, 63])
def test_another_version_is_refused(version):
    with pytest.raises(BadInput, match=f"version is {version}"):
        decode_consent(reference.consent_string({**reference.CONSENTING, "version": version}))


CORE = reference.consent_string(reference.CONSENTING)
CORE_BITS = "".join(f"{reference.ALPHABET.index(letter):06b}" for letter in CORE)
VENDORS_AT = 213


def with_vendor_ranges(id_max, *entries):
    """The core with these (first, last) as vendor ranges, and nothing behind them."""
    section = reference.number(id_max, 16) + "1" + reference.number(len(entries), 12)
    for first, last in entries:
        section += "1" + reference.number(first, 16) + reference.number(last, 16)
    return reference.text_of(CORE_BITS[:VENDORS_AT] + section + "0" * (17 + 12))


@pytest.mark.parametrize(
    "ranges", [[(9, 8)], [(0, 8)], [(1, 11)], [(3, 5), (65_535, 65_535)], [(0, 0)]]
)
def test_a_range_that_runs_backwards_or_out_of_bounds_is_refused(ranges):
    with pytest.raises(BadInput, match="rise within 1-10"):
        decode_consent(with_vendor_ranges(10, *ranges))


def test_ranges_may_overlap_and_come_in_any_order():
    assert decode_consent(with_vendor_ranges(10, (4, 7), (1, 2), (6, 9))).vendors == VendorIds(
        ((1, 2), (4, 9))
    )


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "~", "C", "CPc", "Y29uc2VudCBkYXRh", "some-consent-string",
        "BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA", CORE + ".", CORE + ".A", CORE + ".E",
        f"{CORE}.IAAA.IAAA", CORE + ".YAAA", CORE + "B",
        CORE + "=", CORE.lower(), CORE[:-9], "C" * 8_192, "1YNN", "\0", "é" * 40,
    ],
)  # fmt: skip
def test_what_is_no_tc_string_is_refused(text):
    with pytest.raises(BadInput):
        decode_consent(text)


@given(st.text(max_size=400) | st.text(reference.ALPHABET + ".", max_size=400).map("C".__add__))
def test_no_text_does_worse_than_being_refused(text):
    with contextlib.suppress(BadInput):
        assert decode_consent(text).version == 2


@given(st.integers(0, len(CORE_BITS) - 1))
def test_a_bit_that_flips_is_refused_or_read_as_another_string(place):
    flipped = CORE_BITS[:place] + "10"[int(CORE_BITS[place])] + CORE_BITS[place + 1 :]
    with contextlib.suppress(BadInput):
        assert decode_consent(reference.text_of(flipped)) != decode_consent(CORE)
