"""Reading wide OpenRTB types into plain ones, and signals from their two places."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.openrtb import (
    BidRequest,
    Eid,
    Imp,
    Regs,
    RegsExt,
    Source,
    SourceExt,
    SupplyChain,
    Uid,
    User,
    UserExt,
    Video,
)
from market.openrtb_reading import (
    consent_of,
    currencies_of,
    domain_and_parents,
    eids_of,
    finite,
    gdpr_of,
    gpp_of,
    integer,
    integers,
    number_text,
    protocols_of,
    schain_of,
    texts,
    us_privacy_of,
)
from market.openrtb_types import INT64_MAX, INT64_MIN

SCALARS = st.one_of(st.text(), st.integers(), st.floats(), st.integers().map(str))


def request(**fields: object) -> BidRequest:
    return BidRequest(id="r", imp=[Imp(id="1")], **fields)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (310410, "310410"),
        (310410.0, "310410"),
        (5.1, "5.1"),
        (12345678901234567890123, "12345678901234567890123"),
        ("IAB1", "IAB1"),
        (" x ", " x "),
        ("", None),
        (None, None),
        (math.nan, None),
        (math.inf, None),
    ],
)
def test_an_identifier_reads_as_text_however_it_came(
    value: str | float | None, text: str | None
) -> None:
    assert number_text(value) == text


def test_texts_of_an_array_leave_out_the_empty_ones() -> None:
    assert texts(["IAB1", 25, 7.0, 1.5, ""]) == ("IAB1", "25", "7", "1.5")
    assert texts([]) == texts(None) == ()


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (320, 320),
        ("320", 320),
        (" 3 ", 3),
        ("+3", 3),
        ("-7.9", -7),
        (86.7, 86),
        (-0.5, 0),
        ("1e3", 1000),
        (True, 1),
        ("True", 1),
        ("false", 0),
        (10**23, INT64_MAX),
        (-(10**23), INT64_MIN),
        ("9" * 23, INT64_MAX),
        ("-" + "9" * 5000, INT64_MIN),
        (1e300, INT64_MAX),
        (2.0**63, INT64_MAX),
        (-math.inf, INT64_MIN),
        (str(INT64_MAX), INT64_MAX),
        (INT64_MIN, INT64_MIN),
        (math.nan, None),
        ("nan", None),
        ("", None),
        ("320px", None),
        ("1_000", None),
        ("٣", None),
        ("VAST 2.0", None),
    ],
)
def test_an_integer_is_what_the_value_obviously_means(
    value: str | float, number: int | None
) -> None:
    assert integer(value) == number


@given(SCALARS)
def test_an_integer_always_fits_int64(value: str | float) -> None:
    number = integer(value)
    assert number is None or (type(number) is int and INT64_MIN <= number <= INT64_MAX)


@given(st.integers(INT64_MIN, INT64_MAX))
def test_an_integer_in_range_reads_as_itself_from_every_form(number: int) -> None:
    assert integer(number) == integer(str(number)) == integer(f" {number}\t") == number


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (1.5, 1.5),
        ("1.5", 1.5),
        (" .5", 0.5),
        (2, 2.0),
        (10**400, None),
        ("1e999", None),
        ("inf", None),
        (math.nan, None),
        ("abc", None),
        ("", None),
    ],
)
def test_a_number_is_finite_or_absent(value: str | float, number: float | None) -> None:
    assert finite(value) == number


def test_integers_drop_what_is_no_integer() -> None:
    assert integers([2, "3", 44.0, "5.0", "VAST 2.0", 2.5, "2.5", "", 10**23]) == (
        2,
        3,
        44,
        5,
        INT64_MAX,
    )
    assert integers(None) == ()


@given(st.lists(SCALARS))
def test_integers_keep_every_integer_in_order(values: list[str | float]) -> None:
    kept = [value for value in values if type(value) is int and INT64_MIN <= value <= INT64_MAX]
    found = integers(values)
    assert all(type(code) is int for code in found)
    remaining = iter(found)
    assert all(code in remaining for code in kept)


def test_no_named_currency_means_us_dollars() -> None:
    assert currencies_of(request()) == ("USD",)
    assert currencies_of(request(cur=[])) == ("USD",)
    assert currencies_of(request(cur=["", " "])) == ("USD",)
    assert currencies_of(request(cur=["eur ", "GBP"])) == ("EUR", "GBP")


def test_protocols_come_from_their_older_place_when_the_newer_is_empty() -> None:
    assert protocols_of(Video(protocols=[2, "3", "VAST 2.0"], protocol=[7])) == (2, 3)
    assert protocols_of(Video(protocols=[], protocol=[3])) == (3,)
    assert protocols_of(Video(protocol="5")) == (5,)
    assert protocols_of(Video(protocol=0)) == (0,)
    assert protocols_of(Video()) == ()


def test_privacy_signals_come_from_the_newer_place_first() -> None:
    ext = RegsExt(gdpr=1, us_privacy="1YYY", gpp="OLD", gpp_sid=[7])
    both = request(regs=Regs(gdpr=0, us_privacy="1NNN", gpp="NEW", gpp_sid=[2, "6"], ext=ext))
    assert gdpr_of(both) == 0
    assert us_privacy_of(both) == "1NNN"
    assert gpp_of(both) == ("NEW", (2, 6))


def test_privacy_signals_come_from_the_older_place_when_the_newer_is_silent() -> None:
    ext = RegsExt(gdpr=1, us_privacy="1YYY", gpp="OLD", gpp_sid=[7])
    older = request(regs=Regs(us_privacy="", gpp="", gpp_sid=[], ext=ext))
    assert gdpr_of(older) == 1
    assert us_privacy_of(older) == "1YYY"
    assert gpp_of(older) == ("OLD", (7,))


@pytest.mark.parametrize("regs", [None, Regs(), Regs(ext=RegsExt()), Regs(us_privacy="", gpp="")])
def test_privacy_signals_that_nobody_sent_are_absent(regs: Regs | None) -> None:
    silent = request(regs=regs)
    assert gdpr_of(silent) is None
    assert us_privacy_of(silent) is None
    assert gpp_of(silent) == (None, ())


def test_consent_and_ids_come_from_the_newer_place_first_and_else_from_the_older() -> None:
    new, old = Eid(source="new", uids=[Uid(id="1")]), Eid(source="old")
    ext = UserExt(consent="OLD", eids=[old])
    both = request(user=User(consent="NEW", eids=[new], ext=ext))
    assert (consent_of(both), eids_of(both)) == ("NEW", (new,))
    older = request(user=User(consent="", eids=[], ext=ext))
    assert (consent_of(older), eids_of(older)) == ("OLD", (old,))


@pytest.mark.parametrize("user", [None, User(), User(consent=""), User(ext=UserExt())])
def test_consent_and_ids_that_nobody_sent_are_absent(user: User | None) -> None:
    assert consent_of(request(user=user)) is None
    assert eids_of(request(user=user)) == ()


def test_the_supply_chain_comes_from_the_newer_place_first_and_else_from_the_older() -> None:
    new, old = SupplyChain(complete=1), SupplyChain(complete=0)
    ext = SourceExt(schain=old)
    assert schain_of(request(source=Source(schain=new, ext=ext))) == new
    assert schain_of(request(source=Source(ext=ext))) == old
    assert schain_of(request(source=Source())) is None
    assert schain_of(request()) is None


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("news.example", ("news.example",)),
        (" WWW.Sport.News.example ", ("sport.news.example", "news.example")),
        ("a.b.co.uk", ("a.b.co.uk", "b.co.uk", "co.uk")),
        ("localhost", ("localhost",)),
        ("", ()),
        ("a." * 500_000, ()),
    ],
)
def test_a_domain_belongs_to_those_above_it(domain, expected):
    assert domain_and_parents(domain) == expected
