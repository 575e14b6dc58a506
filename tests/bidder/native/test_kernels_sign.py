"""The signature kernels against published vectors, their slow twin, and what checks a notice."""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder.native.kernels_sign import (
    INITIAL_STATE,
    TOKEN_CHARS,
    base64url,
    compress,
    pack_token,
    reversed_bytes,
    sign_into,
)
from bidder.native.renderer import signing_of
from market.decision import DECISION_DTYPE
from market.errors import Forbidden
from market.notices import KIND_NAMES, NOTICE_KINDS, TAG_CHARS, Token, open_notice, sign, tag_place
from market.opportunity import OPPORTUNITY_DTYPE
from tests.reference import sign as twin

pytestmark = pytest.mark.plain

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
AMOUNT = st.integers(0, 2**63 - 1)
TOKENS = st.builds(
    Token, U64, U64, U32, U32, U32, U32, AMOUNT, AMOUNT, AMOUNT, AMOUNT, AMOUNT,
    U16, U16, U16, U8, st.integers(0, 1), U16,
)  # fmt: skip
KEYS = st.binary(max_size=300)

# FIPS 180-4's examples (csrc.nist.gov, SHA512.pdf) and the empty message.
TWO_BLOCKS = (
    b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
    b"hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"
)
SHA512_VECTORS = (
    (
        b"",
        "cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce"
        "47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
    ),
    (
        b"abc",
        "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a"
        "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    ),
    (
        TWO_BLOCKS,
        "8e959b75dae313da8cf4f72814fc143f8f7779c6eb9f7fa17299aeadb6889018"
        "501d289e4900f7e4331b99dec4b5433ac7d329eeb6dd26545e96e55b874be909",
    ),
)
# RFC 4231 sections 4.2, 4.3, 4.4 and 4.7 (a key longer than a block).
HMAC_VECTORS = (
    (
        b"\x0b" * 20, b"Hi There",
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854",
    ),
    (
        b"Jefe", b"what do ya want for nothing?",
        "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
        "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
    ),
    (
        b"\xaa" * 20, b"\xdd" * 50,
        "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
        "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb",
    ),
    (
        b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First",
        "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
        "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598",
    ),
)  # fmt: skip


def after(state, message, length_before=0):
    """The digest by the kernel, from ``state`` after ``length_before`` bytes."""
    length = length_before + len(message)
    padded = message + b"\x80"
    padded += bytes(-(len(padded) + 16) % 128) + (8 * length).to_bytes(16, "big")
    schedule, state = np.zeros(80, np.uint64), state.copy()
    for at in range(0, len(padded), 128):
        schedule[:16] = np.frombuffer(padded[at : at + 128], ">u8")
        compress(state, schedule, state)
    return state.astype(">u8").tobytes()


def records_of(token):
    """A decision and an opportunity that say what the token says."""
    decision, opportunity = np.zeros(1, DECISION_DTYPE), np.zeros(1, OPPORTUNITY_DTYPE)
    for name, value in token._asdict().items():
        if name in ("quantity_micros", "exchange", "is_test"):
            opportunity[name] = value
        elif name == "bid_ms":
            opportunity["arrival_ms"] = value
        elif name != "worker":
            decision[name] = value
    return decision, opportunity


def signed_by_kernel(key, token):
    signing = signing_of(key)
    decision, opportunity = records_of(token)
    sign_into(decision[0], opportunity[0], token.worker, signing[0])
    text = signing["text"].tobytes().decode()
    return text[:TOKEN_CHARS], text[TOKEN_CHARS:]


@pytest.mark.parametrize(("message", "digest"), SHA512_VECTORS)
def test_the_published_digests_come_out_of_the_kernel_and_of_its_twin(message, digest):
    assert after(INITIAL_STATE, message).hex() == digest
    assert twin.sha512(message).hex() == digest


@pytest.mark.parametrize(("key", "message", "digest"), HMAC_VECTORS)
def test_the_published_authentication_codes_come_out_of_the_states_of_a_key(key, message, digest):
    signing = signing_of(key)
    inner = after(signing["inner"][0], message, 128)
    assert after(signing["outer"][0], inner, 128).hex() == digest
    assert twin.hmac_sha512(key, message).hex() == digest


@settings(max_examples=100)
@given(st.binary(max_size=400))
def test_any_message_hashes_as_the_twin_and_the_library_hash_it(message):
    found = after(INITIAL_STATE, message)
    assert found == hashlib.sha512(message).digest()
    assert found == twin.sha512(message)


@given(U64)
def test_a_word_with_its_bytes_reversed_is_the_number_read_from_the_other_end(word):
    found = int(reversed_bytes(np.uint64(word)))
    assert found == int.from_bytes(word.to_bytes(8, "little"), "big")


@given(st.binary(max_size=96).map(lambda text: text[: len(text) // 3 * 3]), st.integers(0, 3))
def test_base64_is_written_where_it_is_asked_for_and_nowhere_else(source, at):
    chars = len(source) // 3 * 4
    out = np.full(at + chars + 2, 1, np.uint8)
    words = np.frombuffer(source + bytes(8 + -len(source) % 8), ">u8").astype(np.uint64)
    base64url(words, len(source) // 3, out, at)
    expected = urlsafe_b64encode(source)
    assert out.tobytes() == b"\x01" * at + expected + b"\x01\x01"
    assert twin.base64url(source) == expected.decode()


@given(TOKENS)
def test_a_token_is_packed_with_the_padding_of_its_hash(token):
    words = np.full(16, 7, np.uint64)
    decision, opportunity = records_of(token)
    pack_token(decision[0], opportunity[0], token.worker, words)
    text, _ = sign(b"", token)
    block = words.astype(">u8").tobytes()
    assert urlsafe_b64encode(block[:84]).decode() == text
    assert block[84:] == b"\x80" + bytes(35) + (8 * (128 + 84)).to_bytes(8, "big")


@settings(max_examples=150)
@given(KEYS, TOKENS)
def test_a_signature_is_that_of_the_default_path_and_of_the_twin(key, token):
    found = signed_by_kernel(key, token)
    assert found == sign(key, token)
    assert found == twin.signed(key, token)


def test_the_twin_is_the_library():
    for n in range(0, 300, 7):
        key, message = bytes(range(256))[: n % 256], b"m" * n
        assert twin.hmac_sha512(key, message) == hmac.digest(key, message, "sha512")


@settings(max_examples=40)
@given(KEYS, TOKENS, st.integers(0, TOKEN_CHARS + TAG_CHARS - 1), st.integers(1, 63))
def test_a_notice_opens_to_what_was_signed_and_not_once_a_character_is_changed(
    key, token, place, shift
):
    text, tags = signed_by_kernel(key, token)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for kind in NOTICE_KINDS:
        signed = text + tags[tag_place(kind) : tag_place(kind) + TAG_CHARS]
        assert open_notice(key, KIND_NAMES[kind], signed) == (kind, token)
        other = alphabet[(alphabet.index(signed[place]) + shift) % 64]
        with pytest.raises(Forbidden):
            open_notice(key, KIND_NAMES[kind], signed[:place] + other + signed[place + 1 :])
    with pytest.raises(Forbidden):
        open_notice(key + b"x", KIND_NAMES[NOTICE_KINDS[0]], text + tags[:TAG_CHARS])
