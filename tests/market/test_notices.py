"""Signed notice URLs: nobody but us can make one, and nobody can turn one into another."""

from __future__ import annotations

import base64
import hashlib
import hmac
import string
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import BadInput, Forbidden
from market.events import EventKind
from market.notices import (
    KIND_NAMES,
    KINDS_BY_NAME,
    MACROS,
    NOTICE_KINDS,
    Token,
    notice_path,
    open_notice,
    query_of,
    sign,
)

KEY = bytes(range(32))
U64, I64 = st.integers(0, 2**64 - 1), st.integers(-(2**63), 2**63 - 1)
U32, U16, U8 = st.integers(0, 2**32 - 1), st.integers(0, 2**16 - 1), st.integers(0, 255)
TOKENS = st.builds(
    Token, U64, U64, U32, U32, U32, U32, I64, I64, I64, I64, I64, U16, U16, U16, U8, U8, U16
)
TOKEN = Token(
    bid_hi=2**64 - 1, bid_lo=1, advertiser_id=2, campaign_id=3, line_item_id=4, creative_id=5,
    reserved_micros=2_500, rate_micros=1_000_000, quantity_micros=1_000_000,
    bid_ms=1_700_000_000_000, deadline_ms=1_700_000_300_000, exchange=1, bid_currency=840,
    account_currency=978, format=1, is_test=0, worker=3,
)  # fmt: skip
ALPHABET = string.ascii_letters + string.digits + "-_"
# What else could stand in a URL, be skipped by a lax decoder, or mean the same to one.
FOREIGN = "+/= \n\t.~%*\x00é€"


def signed_part(kind, token=TOKEN, key=KEY):
    """The part of a notice's path behind its kind."""
    return notice_path(kind, *sign(key, token)).rsplit("/", 1)[1]


@given(st.binary(min_size=1, max_size=80), TOKENS, st.sampled_from(NOTICE_KINDS))
def test_a_notice_says_what_was_signed(key, token, kind):
    _, prefix, name, signed = notice_path(kind, *sign(key, token)).split("/")
    assert (prefix, name) == ("n", KIND_NAMES[kind])
    assert open_notice(key, name, signed) == (kind, token)


def test_a_path_is_made_of_characters_that_need_no_escape():
    for kind in NOTICE_KINDS:
        signed = signed_part(kind)
        assert len(signed) == 126
        assert set(signed) <= set(ALPHABET)


def test_the_tags_of_a_token_are_slices_of_its_hmac_sha512():
    """RFC 2104 written out, and the token's layout as the recorder has stored it."""
    body = struct.pack("<QQIIIIqqqqqHHHBBHxx", *TOKEN)
    pad = KEY.ljust(128, b"\0")
    inner = hashlib.sha512(bytes(byte ^ 0x36 for byte in pad) + body).digest()
    digest = hashlib.sha512(bytes(byte ^ 0x5C for byte in pad) + inner).digest()
    assert digest == hmac.digest(KEY, body, "sha512")
    tags = base64.urlsafe_b64encode(digest[:63]).decode()
    text = base64.urlsafe_b64encode(body).decode()
    kinds = ("win", "billing", "loss", "impression", "click", "conversion")
    for place, name in enumerate(kinds):
        expected = f"/n/{name}/{text}{tags[14 * place : 14 * place + 14]}"
        assert notice_path(KINDS_BY_NAME[name], *sign(KEY, TOKEN)) == expected


@pytest.mark.parametrize("kind", NOTICE_KINDS)
def test_every_change_of_a_single_character_is_forbidden(kind):
    signed = signed_part(kind)
    for at, good in enumerate(signed):
        for bad in ALPHABET + FOREIGN:
            if bad != good:
                with pytest.raises(Forbidden):
                    open_notice(KEY, KIND_NAMES[kind], f"{signed[:at]}{bad}{signed[at + 1 :]}")


def test_every_truncation_is_forbidden():
    signed = signed_part(EventKind.BILLING)
    for length in range(len(signed)):
        with pytest.raises(Forbidden):
            open_notice(KEY, "billing", signed[:length])


def test_an_additional_character_anywhere_is_forbidden():
    signed = signed_part(EventKind.BILLING)
    for at in range(len(signed) + 1):
        for more in f"A{FOREIGN}":
            with pytest.raises(Forbidden):
                open_notice(KEY, "billing", f"{signed[:at]}{more}{signed[at:]}")


@pytest.mark.parametrize("kind", NOTICE_KINDS)
@pytest.mark.parametrize("other", NOTICE_KINDS)
def test_a_notice_of_one_kind_is_none_of_another(kind, other):
    if kind is not other:
        with pytest.raises(Forbidden, match=f"^{KIND_NAMES[other]} notice: its signature"):
            open_notice(KEY, KIND_NAMES[other], signed_part(kind))


def test_text_that_decodes_alike_but_is_written_otherwise_is_forbidden():
    """Base64 has two alphabets and skipped characters: one token must have one spelling."""
    token = TOKEN._replace(bid_hi=0xFBFBFBFBFBFBFBFB, bid_lo=0xFFFFFFFFFFFFFFFF)
    signed = signed_part(EventKind.WIN, token)
    spelled = signed[:112].replace("-", "+").replace("_", "/") + signed[112:]
    assert spelled != signed
    assert base64.b64decode(spelled[:112]) == base64.urlsafe_b64decode(signed[:112])
    with pytest.raises(Forbidden, match="its token was altered"):
        open_notice(KEY, "win", spelled)


@given(st.binary(min_size=1, max_size=64), TOKENS)
def test_a_notice_signed_with_another_key_is_forbidden(key, token):
    if key.rstrip(b"\0") != KEY.rstrip(b"\0"):
        with pytest.raises(Forbidden, match="its signature does not match"):
            open_notice(KEY, "win", signed_part(EventKind.WIN, token, key))


@given(TOKENS, TOKENS)
def test_the_signature_of_one_token_does_not_fit_another(one, other):
    if one != other:
        forged = signed_part(EventKind.WIN, other)[:112] + signed_part(EventKind.WIN, one)[112:]
        with pytest.raises(Forbidden):
            open_notice(KEY, "win", forged)


@given(st.sampled_from(sorted(KINDS_BY_NAME)), st.text(max_size=140))
def test_any_other_text_is_forbidden(name, text):
    with pytest.raises(Forbidden):
        open_notice(KEY, name, text)


def test_half_a_surrogate_pair_is_forbidden():
    with pytest.raises(Forbidden):
        open_notice(KEY, "win", "\ud800" + signed_part(EventKind.WIN)[1:])
    with pytest.raises(Forbidden):
        open_notice(KEY, "win", signed_part(EventKind.WIN)[:-1] + "\ud800")


@pytest.mark.parametrize("name", ["", "WIN", "bid", "no_bid", "win "])
def test_an_unknown_kind_is_the_caller_s_mistake_and_no_forgery(name):
    with pytest.raises(BadInput, match=f"notice kind '{name}': it must be one of win, ") as found:
        open_notice(KEY, name, signed_part(EventKind.WIN))
    assert not isinstance(found.value, Forbidden)


def test_the_macros_of_each_kind_are_those_of_openrtb():
    """OpenRTB 2.6, 4.4; a click and a conversion are not the exchange's to price."""
    assert MACROS == {
        EventKind.WIN: "?p=${AUCTION_PRICE}&m=${AUCTION_MIN_TO_WIN}",
        EventKind.BILLING: (
            "?p=${AUCTION_PRICE}&c=${AUCTION_CURRENCY}&q=${AUCTION_MULTIPLIER}&t=${AUCTION_IMP_TS}"
        ),
        EventKind.LOSS: "?l=${AUCTION_LOSS}&p=${AUCTION_PRICE}&m=${AUCTION_MIN_TO_WIN}",
        EventKind.IMPRESSION: "?p=${AUCTION_PRICE}",
        EventKind.CLICK: "",
        EventKind.CONVERSION: "",
    }
    assert set(MACROS) == set(NOTICE_KINDS)


def test_an_encoding_s_suffix_is_in_the_price_macro_and_in_no_other():
    assert query_of(EventKind.LOSS, "B64") == (
        "?l=${AUCTION_LOSS}&p=${AUCTION_PRICE:B64}&m=${AUCTION_MIN_TO_WIN}"
    )
    assert query_of(EventKind.CLICK, "B64") == ""
    for kind in NOTICE_KINDS:
        assert query_of(kind) == MACROS[kind]
