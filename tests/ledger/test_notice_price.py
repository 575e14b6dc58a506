"""Clearing prices as exchanges write them: what was agreed is read, anything else is refused."""

from __future__ import annotations

from base64 import b64encode, urlsafe_b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.notice_price import CLOCK_SKEW_MS, Fault, Prices, Unreadable, read_price
from market.errors import BadInput
from market.exchange import ExchangeProfile
from market.money import PRICE_CPM_MICROS_MAX
from market.price_encryption import PriceCipher, PriceEncoding, PriceKeys, new_iv

CLEAR, BASE64, GOOGLE = (
    ExchangeProfile(name=encoding.value, exchange_id=number, price_encoding=encoding)
    for number, encoding in enumerate(PriceEncoding, 1)
)
KEYS = PriceKeys("0a" * 32, "0b" * 32)
CIPHER = PriceCipher(KEYS, "google")
PRICES = Prices((CLEAR, BASE64, GOOGLE), {"google": KEYS})
BID_MS = 1_700_000_000_000
NOW_MS = BID_MS + 3_000


def read(profile, text, now_ms=NOW_MS):
    return PRICES.read(profile.exchange_id, text, BID_MS, now_ms)


def fault(profile, text, now_ms=NOW_MS):
    with pytest.raises(Unreadable) as found:
        read(profile, text, now_ms)
    return found.value.fault


def encrypted(per_impression_micros, at_ms=NOW_MS):
    return CIPHER.encrypt(per_impression_micros, new_iv(at_ms, 7))


@given(st.integers(0, PRICE_CPM_MICROS_MAX // 1_000))
def test_every_encoding_of_a_price_is_read_to_the_same_one(per_impression):
    cpm_micros = per_impression * 1_000
    text = f"{cpm_micros // 10**6}.{cpm_micros % 10**6:06d}"
    assert read(CLEAR, text) == cpm_micros
    assert read(BASE64, b64encode(text.encode()).decode()) == cpm_micros
    assert read(BASE64, urlsafe_b64encode(text.encode()).rstrip(b"=").decode()) == cpm_micros
    assert read(GOOGLE, encrypted(per_impression)) == cpm_micros


def test_a_test_render_is_none_in_every_encoding():
    for profile in (CLEAR, BASE64, GOOGLE):
        assert read(profile, "AUDIT") is None
    assert read(BASE64, b64encode(b"AUDIT").decode()) is None


def test_an_exchange_without_a_profile_writes_in_clear():
    assert PRICES.read(99, "1.5", BID_MS, NOW_MS) == 1_500_000


def test_an_encrypted_price_where_a_clear_one_was_agreed_is_refused():
    assert fault(CLEAR, encrypted(5)) is Fault.PRICE_ENCRYPTED


@pytest.mark.parametrize("text", ["1.5", "0.0", "10000"])
def test_a_clear_price_where_an_encrypted_one_was_agreed_is_refused(text):
    assert fault(GOOGLE, text) is Fault.PRICE_IN_CLEAR


def test_a_clear_price_where_base64_was_agreed_is_refused():
    assert fault(BASE64, "1.5") is Fault.PRICE_IN_CLEAR
    for text in ("15", "\u00e9", "====", b64encode(b"\xff").decode(), b64encode(b"-1").decode()):
        assert fault(BASE64, text) is Fault.PRICE_UNREADABLE


@pytest.mark.parametrize("text", ["", "x", "A" * 37, "A" * 39, "A" * 37 + "=", "\u00e9" * 38])
def test_an_encrypted_price_of_another_length_is_cut(text):
    assert fault(GOOGLE, text) is Fault.PRICE_CUT


def test_an_altered_price_and_one_of_other_keys_are_forged():
    message = encrypted(5)
    for at in range(len(message)):
        changed = message[:at] + ("A" if message[at] != "A" else "B") + message[at + 1 :]
        assert fault(GOOGLE, changed) is Fault.PRICE_FORGED
    other = PriceCipher(PriceKeys("0c" * 32, "0b" * 32), "google")
    assert fault(GOOGLE, other.encrypt(5, new_iv(NOW_MS, 7))) is Fault.PRICE_FORGED


def test_a_price_encrypted_before_the_bid_or_in_the_future_is_stale():
    for at_ms in (BID_MS - CLOCK_SKEW_MS, BID_MS, NOW_MS, NOW_MS + CLOCK_SKEW_MS):
        assert read(GOOGLE, encrypted(5, at_ms)) == 5_000
    for at_ms in (0, BID_MS - CLOCK_SKEW_MS - 1, NOW_MS + CLOCK_SKEW_MS + 1):
        assert fault(GOOGLE, encrypted(5, at_ms)) is Fault.PRICE_STALE
    # A notice may come days after its impression; its price is as old as that.
    assert read(GOOGLE, encrypted(5, BID_MS + 9), BID_MS + 6 * 86_400_000) == 5_000


def test_an_encrypted_price_beyond_belief_is_unreadable():
    assert read(GOOGLE, encrypted(PRICE_CPM_MICROS_MAX // 1_000)) == PRICE_CPM_MICROS_MAX
    for price in (PRICE_CPM_MICROS_MAX // 1_000 + 1, 2**64 - 1):
        assert fault(GOOGLE, encrypted(price)) is Fault.PRICE_UNREADABLE


@pytest.mark.parametrize("text", ["", " 1", "1 ", "1_0", "\u0661", "1,5", "0x1", "1e", "--1"])
def test_a_price_in_clear_is_a_plain_decimal_number(text):
    with pytest.raises(Unreadable) as found:
        read_price(text)
    assert found.value.fault is Fault.PRICE_UNREADABLE


@pytest.mark.parametrize("profile", [CLEAR, BASE64, GOOGLE], ids=lambda profile: profile.name)
@given(text=st.text(max_size=60))
def test_any_text_is_a_price_or_unreadable(profile, text):
    try:
        price = read(profile, text)
    except Unreadable:
        return
    assert price is None or 0 <= price <= PRICE_CPM_MICROS_MAX


@pytest.mark.parametrize("keys", [{}, {"google": KEYS, "clear": KEYS}, {"google": KEYS, "x": KEYS}])
def test_keys_and_profiles_must_agree(keys):
    with pytest.raises(BadInput, match=r"price_keys: exchange '(google|clear|x)'") as found:
        Prices((CLEAR, GOOGLE), keys)
    assert KEYS.encryption_hex not in str(found.value)
    with pytest.raises(BadInput, match="price_keys: exchange 'google': its encryption key"):
        Prices((GOOGLE,), {"google": PriceKeys("ab", "cd")})
