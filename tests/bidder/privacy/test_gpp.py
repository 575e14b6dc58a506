"""GPP strings: their header names the sections that follow."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bidder.privacy.gpp import decode_gpp
from market.errors import BadInput
from tests.reference import privacy as reference

TCF = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"


@pytest.mark.parametrize(
    ("text", "sections"),
    [
        # IAB Tech Lab, "Global Privacy Platform String" 1.0: GPP String Examples 1, 2 and 3
        (f"DBABM~{TCF}", {2: TCF}),
        (f"DBACNY~{TCF}~1YNN", {2: TCF, 6: "1YNN"}),
        (f"DBABjw~{TCF}~1YNN", {5: TCF, 6: "1YNN"}),
        # the same padded to whole bytes, as in the specification's URL example
        (f"DBACNYA~{TCF}~1YNN", {2: TCF, 6: "1YNN"}),
        # strings of the IAB's own library (IABTechLab/iabgpp-java, GppModelTest)
        ("DBABTA~1YNN", {6: "1YNN"}),
        ("DBABLA~BVQqAAAAAgA.QA", {7: "BVQqAAAAAgA.QA"}),
        ("DBACOeA~C.Q~B.f~1YNN", {2: "C.Q", 5: "B.f", 6: "1YNN"}),
        ("DBACOYs~" + "~".join("ABCDEFGHIJKLMNOPQRST"),
         dict(zip([2, *range(5, 24)], "ABCDEFGHIJKLMNOPQRST", strict=True))),
    ],
)  # fmt: skip
def test_documented_strings_hold_the_sections_that_are_documented(text, sections):
    assert decode_gpp(text) == sections


@given(
    st.dictionaries(
        st.integers(1, 4_000), st.text(reference.ALPHABET + ".", min_size=1, max_size=9), max_size=9
    ),
    st.booleans(),
)
def test_what_the_reference_writes_is_read_back(sections, in_groups):
    assert decode_gpp(reference.gpp_string(sections, in_groups=in_groups)) == sections


@pytest.mark.parametrize(
    "text",
    [
        "", "~", "DBA", "DBABM", f"DBABM~{TCF}~1YNN", f"DBACNY~{TCF}", "DCABM~C", "CBABM~C",
        "DBABM=~C", "DBABMf~C", TCF, "1YNN", "DB\0BM~C", "é~C",
    ],
)  # fmt: skip
def test_a_header_that_is_none_or_names_other_sections_is_refused(text):
    with pytest.raises(BadInput):
        decode_gpp(text)


def test_a_group_of_millions_is_refused_before_it_is_unrolled():
    header = "000011" + "000001" + reference.number(1, 12) + "1"
    header += reference.fibonacci(1) + reference.fibonacci(50_000_000)
    with pytest.raises(BadInput, match="1 sections"):
        decode_gpp(f"{reference.text_of(header)}~C")


@given(st.text(max_size=200) | st.text(reference.ALPHABET + "~", max_size=200).map("DBA".__add__))
def test_no_text_does_worse_than_being_refused(text):
    with contextlib.suppress(BadInput):
        assert len(decode_gpp(text)) == text.count("~")
