from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from campaigns.api.edge import BODY_BYTES_MAX
from campaigns.refusals import RefusalKind

PATH = "/api/v1/campaigns"


def assert_problem(response, kind):
    assert response.status_code == kind.status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert list(problem) == ["type", "title", "status", "detail", "errors"]
    assert (problem["type"], problem["title"], problem["status"]) == (
        kind.type_uri, kind.title, kind.status,
    )  # fmt: skip
    return problem


def test_every_kind_has_a_type_of_its_own():
    assert len({kind.type_uri for kind in RefusalKind}) == len(RefusalKind)
    assert RefusalKind.VERSION_MISMATCH.type_uri == "urn:lodestone:problem:version-mismatch"


def test_an_address_that_is_not_there_is_a_problem(plane):
    assert_problem(plane.anyone.get("/api/v2/campaigns"), RefusalKind.NOT_FOUND)


def test_a_method_that_is_not_there_is_a_problem(plane):
    response = plane.editor.delete(f"{PATH}/1")
    assert_problem(response, RefusalKind.METHOD_NOT_ALLOWED)
    assert response.headers["allow"]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_body_of_another_type_is_a_problem(plane, content_type):
    response = plane.editor.post(PATH, content=b"{}", headers={"Content-Type": content_type})
    assert_problem(response, RefusalKind.UNSUPPORTED_MEDIA_TYPE)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_body_that_is_no_json_is_a_problem(plane, content):
    headers = {"Content-Type": "application/json"}
    response = plane.editor.post(PATH, content=content, headers=headers)
    assert_problem(response, RefusalKind.MALFORMED_JSON)


@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_that_is_too_large_is_a_problem(plane, is_announced):
    def pieces():
        for _ in range(BODY_BYTES_MAX // 65_536 + 1):
            yield b" " * 65_536

    content = b" " * (BODY_BYTES_MAX + 1) if is_announced else pieces()
    headers = {"Content-Type": "application/json"}
    response = plane.editor.post(PATH, content=content, headers=headers)
    assert_problem(response, RefusalKind.BODY_TOO_LARGE)


def test_what_is_our_fault_tells_nothing_of_the_inside(plane, caplog, body):
    plane.editor.post(PATH, json=body).raise_for_status()
    with plane.services.store.writing() as session:
        session.execute(text("UPDATE campaigns SET document = '{\"secret\": 1}'"))
    response = plane.editor.get(f"{PATH}/1")
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["type"] == "urn:lodestone:problem:internal-error"
    assert "secret" not in response.text
    assert any(record.levelno >= logging.ERROR and record.exc_info for record in caplog.records), (
        "the operator is told"
    )


def test_a_store_that_is_locked_is_not_ready_and_says_when_to_retry(plane, body, monkeypatch):
    plane.editor.post(PATH, json=body).raise_for_status()
    store = plane.services.store
    with store.writing() as session:
        session.execute(text("UPDATE intent SET version = version"))
        for connection in _pooled(store):
            connection.execute("PRAGMA busy_timeout = 1")
        response = plane.editor.post(f"{PATH}/1:pause")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["type"] == "urn:lodestone:problem:not-ready"


def _pooled(store):
    """The idle connections of the store: checked out and given back one after another."""
    engine = store._reader
    held = [engine.raw_connection() for _ in range(4)]
    connections = [each.dbapi_connection for each in held]
    for each in held:
        each.close()
    return connections


def test_an_intent_that_cannot_be_written_is_not_ready_and_the_change_is_not_lost(
    plane, deployment, body
):
    folder = deployment.intent_folder
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("a file where a folder should be")
    response = plane.editor.post(PATH, json=body, headers={"Idempotency-Key": "a"})
    assert response.status_code == 503
    assert "stored" in response.json()["detail"]
    assert plane.services.publisher.is_behind
    folder.unlink()
    aside.rename(folder)
    again = plane.editor.post(PATH, json=body, headers={"Idempotency-Key": "a"})
    assert again.status_code == 201
    assert len(plane.editor.get(PATH).json()["campaigns"]) == 1
    assert (folder / "current").read_text() == "2"
