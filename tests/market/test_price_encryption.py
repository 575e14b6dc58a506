"""Encrypted prices: Google's published examples, and everything that is none."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from market.errors import BadInput, Forbidden
from market.price_encryption import (
    MESSAGE_CHARS,
    PriceCipher,
    PriceKeys,
    iv_ms,
    new_iv,
)

# Google Authorized Buyers, "Decrypt Price Confirmations", example keys and messages.
E_KEY = urlsafe_b64decode("skU7Ax_NL5pPAFyKdkfZjZz2-VhIN8bjj1rVFOaJ_5o=")
I_KEY = urlsafe_b64decode("arO23ykdNqUQ5LEoQ0FVmPkBd7xB5CO89PDZlSjpFxo=")
EXAMPLES = [
    ("YWJjMTIzZGVmNDU2Z2hpN7fhCuPemCce_6msaw", 100),
    ("YWJjMTIzZGVmNDU2Z2hpN7fhCuPemCAWJRxOgA", 1900),
    ("YWJjMTIzZGVmNDU2Z2hpN7fhCuPemC32prpWWw", 2700),
]
EXAMPLE_IV = b"abc123def456ghi7"
KEYS = PriceKeys(E_KEY.hex(), I_KEY.hex())
CIPHER = PriceCipher(KEYS, "exchange 'one'")
MESSAGE = EXAMPLES[0][0]


@pytest.mark.parametrize(("message", "price"), EXAMPLES)
def test_the_published_examples_decrypt_and_encrypt_to_the_letter(message, price):
    assert CIPHER.decrypt(message) == (price, EXAMPLE_IV)
    assert CIPHER.encrypt(price, EXAMPLE_IV) == message
    assert len(message) == MESSAGE_CHARS


@given(st.integers(0, 2**64 - 1), st.binary(min_size=16, max_size=16))
def test_what_was_encrypted_decrypts_to_itself(price, iv):
    assert CIPHER.decrypt(CIPHER.encrypt(price, iv)) == (price, iv)


def test_every_changed_byte_of_a_message_is_noticed():
    body = urlsafe_b64decode(MESSAGE + "==")
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        with pytest.raises(Forbidden):
            CIPHER.decrypt(urlsafe_b64encode(changed).rstrip(b"=").decode())


@pytest.mark.parametrize("wrong", [PriceKeys("00" * 32, KEYS.integrity_hex),
                                   PriceKeys(KEYS.encryption_hex, "00" * 32)])  # fmt: skip
def test_a_message_of_other_keys_is_forbidden(wrong):
    with pytest.raises(Forbidden, match="altered, or made with other keys"):
        PriceCipher(wrong, "x").decrypt(MESSAGE)


@pytest.mark.parametrize(
    "text",
    [
        "", "1.23", MESSAGE[:-1], MESSAGE + "A", MESSAGE + "==", MESSAGE[:-1] + "\u00e9",
        MESSAGE.replace("_", "/"), " " + MESSAGE[1:], MESSAGE[:-1] + "x",
    ],
)  # fmt: skip
def test_a_text_that_is_no_message_is_bad_input(text):
    """The last case sets bits of the last character that carry nothing."""
    with pytest.raises(BadInput) as found:
        CIPHER.decrypt(text)
    assert not isinstance(found.value, Forbidden)


@given(st.text(max_size=60))
def test_any_other_text_is_refused(text):
    with pytest.raises((BadInput, Forbidden)):
        CIPHER.decrypt(text)


@given(st.integers(0, 2**32 * 1_000 - 1), st.integers(0, 2**64 - 1))
def test_an_initialization_vector_says_when_it_was_made(at_ms, nonce):
    iv = new_iv(at_ms, nonce)
    assert len(iv) == 16
    assert iv_ms(iv) == at_ms


def test_a_price_or_vector_that_does_not_fit_is_refused():
    for price, iv in ((-1, EXAMPLE_IV), (1 << 64, EXAMPLE_IV), (1, b"short")):
        with pytest.raises(BadInput):
            CIPHER.encrypt(price, iv)


@pytest.mark.parametrize("key", ["", "00" * 31, "zz" * 32, "00" * 33])
def test_a_key_of_another_shape_is_refused_and_named_but_not_shown(key):
    for keys in (PriceKeys(key, "11" * 32), PriceKeys("11" * 32, key)):
        with pytest.raises(BadInput, match=r"exchange 'one': its .* key must be 32") as found:
            PriceCipher(keys, "exchange 'one'")
        assert key not in str(found.value) or not key
        assert found.value.__cause__ is None


def test_keys_are_in_no_representation():
    for text in (repr(KEYS), str(KEYS), f"{KEYS}", repr(KEYS.__rich_repr__())):
        assert KEYS.encryption_hex not in text
        assert KEYS.integrity_hex not in text
    assert msgspec.json.decode(msgspec.json.encode(KEYS), type=PriceKeys) == KEYS
