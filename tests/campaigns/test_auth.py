from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select, text

from campaigns.auth import (
    Actor,
    add_advertiser,
    add_key,
    authenticate,
    ensure_first_advertiser,
    require_editor,
)
from campaigns.refusals import Refusal, RefusalKind
from campaigns.store import Advertiser, ApiKey, Role, open_store


def key_count(store):
    with store.reading() as session:
        return session.execute(select(func.count()).select_from(ApiKey)).scalar_one()


def who(store, key):
    with store.reading() as session:
        return authenticate(session, f"Bearer {key}")


@pytest.fixture
def key(store, actor):
    with store.writing() as session:
        return add_key(session, actor.advertiser_id, Role.VIEWER, 0)


def test_a_key_says_who_is_calling(store, actor, key):
    assert who(store, key) == Actor(actor.advertiser_id, key.partition(".")[0], Role.VIEWER)
    assert who(store, f"{key} ").advertiser_id == actor.advertiser_id


def test_the_scheme_is_bearer_in_any_case(store, key):
    with store.reading() as session:
        assert authenticate(session, f"bearer {key}").role is Role.VIEWER


def test_a_secret_has_at_least_128_bits_and_no_two_are_alike(store, actor):
    with store.writing() as session:
        keys = [add_key(session, actor.advertiser_id, Role.EDITOR, 0) for _ in range(20)]
    secrets = {key.partition(".")[2] for key in keys}
    assert len(secrets) == len({key.partition(".")[0] for key in keys}) == 20
    # base64url: 6 bits a character
    assert min(len(secret) * 6 for secret in secrets) >= 128


def test_the_secret_is_nowhere_in_the_database(store, key, tmp_path):
    secret = key.partition(".")[2].encode()
    store.close()
    for path in tmp_path.iterdir():
        assert secret not in path.read_bytes()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer x", "Bearer x.y", "Basic {key}", "{key}"]
)
def test_a_header_without_a_key_is_refused(store, key, header):
    with store.reading() as session, pytest.raises(Refusal) as refused:
        authenticate(session, None if header is None else header.format(key=key))
    assert refused.value.kind is RefusalKind.UNAUTHENTICATED


@given(st.integers(0, 60), st.characters())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_a_key_with_one_character_changed_is_refused_in_the_same_words(store, key, at, character):
    altered = key[:at] + character + key[at + 1 :]
    if altered == key:
        return
    with store.reading() as session, pytest.raises(Refusal) as refused:
        authenticate(session, f"Bearer {altered}")
    with store.reading() as session, pytest.raises(Refusal) as missing:
        authenticate(session, None)
    assert str(refused.value) == str(missing.value)


def test_a_revoked_key_is_refused(store, key):
    with store.writing() as session:
        session.execute(text("UPDATE api_keys SET revoked_at_ms = 5"))
    with pytest.raises(Refusal):
        who(store, key)


def test_only_an_editor_may_change():
    require_editor(Actor(1, "k", Role.EDITOR))
    with pytest.raises(Refusal) as refused:
        require_editor(Actor(1, "k", Role.VIEWER))
    assert refused.value.kind is RefusalKind.FORBIDDEN


def test_the_first_start_makes_an_advertiser_and_a_private_key_file(store, tmp_path):
    path = tmp_path / "api_key"
    ensure_first_advertiser(store, path, "First", 7)
    assert path.stat().st_mode & 0o777 == 0o600
    actor = who(store, path.read_text().strip())
    assert actor.role is Role.EDITOR
    with store.reading() as session:
        assert session.get(Advertiser, actor.advertiser_id).name == "First"


def test_later_starts_leave_a_valid_key_alone(store, tmp_path):
    path = tmp_path / "api_key"
    ensure_first_advertiser(store, path, "First", 7)
    before = path.read_text()
    ensure_first_advertiser(store, path, "First", 8)
    assert path.read_text() == before
    assert key_count(store) == 1


def test_a_key_that_was_chosen_beforehand_is_adopted(tmp_path):
    path = tmp_path / "api_key"
    first = open_store(tmp_path / "first.sqlite")
    ensure_first_advertiser(first, path, "First", 7)
    first.close()
    key = path.read_text()
    path.chmod(0o644)
    second = open_store(tmp_path / "second.sqlite")
    ensure_first_advertiser(second, path, "First", 7)
    assert path.read_text() == key
    assert path.stat().st_mode & 0o777 == 0o600
    assert who(second, key.strip()).role is Role.EDITOR
    second.close()


@pytest.mark.parametrize("text", ["", "short.key", "lk_0123456789abcdef.tooshort"])
def test_what_is_no_key_is_replaced(store, tmp_path, text):
    path = tmp_path / "api_key"
    path.write_text(text)
    ensure_first_advertiser(store, path, "First", 7)
    assert who(store, path.read_text().strip()).role is Role.EDITOR


def test_a_known_id_with_another_secret_is_replaced_and_never_adopted(store, tmp_path):
    path = tmp_path / "api_key"
    ensure_first_advertiser(store, path, "First", 7)
    forged = path.read_text().partition(".")[0] + "." + "A" * 43
    path.write_text(forged)
    ensure_first_advertiser(store, path, "First", 8)
    with pytest.raises(Refusal):
        who(store, forged)
    assert who(store, path.read_text().strip()).role is Role.EDITOR


def test_the_file_is_for_the_first_advertiser_when_there_are_more(store, tmp_path):
    with store.writing() as session:
        first = add_advertiser(session, "A", 0)
        add_advertiser(session, "B", 0)
    path = tmp_path / "api_key"
    ensure_first_advertiser(store, path, "First", 7)
    assert who(store, path.read_text().strip()).advertiser_id == first
