"""Queries over a real store process: the key's advertiser, and no other, in every answer."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.store import Role
from ledger.query import DIMENSIONS, MEASURES, ROWS_MAX, Query
from ledger.store import Refusal
from market.events import DAY_MS
from tests.campaigns.conftest import free_port, running
from tests.ledger.stores import START_MS, RunFolder, made_up_events
from tests.reference import query as reference

PATH = "/api/v1/reports/query"
SPAN = {"start_ms": START_MS, "end_ms": START_MS + 3 * DAY_MS}
BIDS = {"measures": ["bids"], **SPAN}
ADVERTISERS = (1, 2, 3)


class Asked:
    """A control plane beside a running store, and a client of each advertiser."""

    def __init__(self, plane, events):
        self.plane = plane
        self.events = events
        names = ["second", "third"]
        assert [plane.new_advertiser(name) for name in names] == [2, 3]
        self.clients = {
            advertiser: plane.client(plane.new_key(advertiser, Role.VIEWER))
            for advertiser in ADVERTISERS
        }

    def ask(self, advertiser, query):
        return self.clients[advertiser].post(PATH, content=msgspec.json.encode(query), headers=JSON)


JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    port = free_port()
    deployment = msgspec.structs.replace(
        folder.deployment, bid_port=free_port(), notice_port=free_port(), control_port=port
    )
    events = made_up_events(3_000, seed=21)
    rng = np.random.default_rng(21)
    events["exchange"] = rng.integers(1, 4, len(events))
    with folder.running() as process, running(deployment) as plane:
        folder.wait_for(folder.write(events), process)
        made = Asked(plane, events)
        yield made
        for client in made.clients.values():
            client.close()


lists_of = st.lists
names = lists_of(st.sampled_from(sorted(DIMENSIONS)), max_size=3, unique=True).map(tuple)
measures = lists_of(st.sampled_from(MEASURES), min_size=1, max_size=4, unique=True).map(tuple)
filters = st.one_of(
    st.just({}),
    st.builds(
        lambda ids: {"campaign_id": tuple(ids)},
        lists_of(st.integers(0, 9), min_size=1, max_size=6, unique=True),
    ),
)
queries = st.builds(
    lambda measures, dimensions, filters: Query(
        measures, SPAN["start_ms"], SPAN["end_ms"], dimensions, filters, limit=ROWS_MAX
    ),
    measures, names, filters,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(queries, st.sampled_from(ADVERTISERS))
def test_an_answer_is_a_slow_count_of_the_events_of_the_key_and_of_no_others(
    asked, query, advertiser
):
    answered = asked.ask(advertiser, query)
    assert answered.status_code == 200, answered.text
    found = answered.json()
    columns = found["columns"]
    own = asked.events[asked.events["advertiser_id"] == advertiser]
    dimensions = columns[: len(columns) - len(query.measures)]
    # The count is made of this advertiser's events alone: it cannot know of any other.
    expected = reference.answer(
        own, advertiser, dimensions, query.measures, query.filters, query.start_ms, query.end_ms, ()
    )
    assert sorted(map(str, found["rows"])) == sorted(str(list(row)) for row in expected)
    assert not found["is_cut"]


def test_who_has_no_events_learns_nothing_of_others_who_have(asked):
    stranger = asked.plane.new_advertiser("stranger")
    client = asked.plane.client(asked.plane.new_key(stranger, Role.VIEWER))
    with client:
        found, long_ago = (
            client.post(PATH, json={**BIDS, "dimensions": ["campaign_id"], **span}).json()
            for span in ({}, {"start_ms": 0, "end_ms": DAY_MS})
        )
    assert found == long_ago == {"columns": ["campaign_id", "bids"], "rows": [], "is_cut": False}


SMUGGLED = {
    "a field": {"advertiser_id": 2},
    "a scope": {"scope": {"advertiser_id": None}},
    "a filter": {"filters": {"advertiser_id": [2]}},
    "a dimension": {"dimensions": ["advertiser_id"]},
    "an order": {"order_by": ["advertiser_id"]},
    "SQL in a dimension": {"dimensions": ["campaign_id, advertiser_id"]},
    "SQL in a filter": {"filters": {"currency": ["USD') OR 1=1 --"]}},
    "an event's column": {"dimensions": ["user_key"]},
}


@pytest.mark.parametrize("more", SMUGGLED.values(), ids=SMUGGLED)
def test_another_advertiser_cannot_be_named(asked, more):
    refused = asked.ask(1, {**BIDS, **more})
    assert refused.status_code == 422, refused.text
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:lodestone:problem:invalid-request"


def test_nor_by_a_parameter_or_a_header(asked):
    by_campaign = {**BIDS, "dimensions": ["campaign_id"]}
    own = asked.ask(1, by_campaign).json()["rows"]
    client = asked.clients[1]
    for arguments in (
        {"params": {"advertiser_id": 2}},
        {"headers": {"x-advertiser-id": "2"}},
    ):
        assert client.post(PATH, json=by_campaign, **arguments).json()["rows"] == own
    assert own
    assert not {row[0] for row in asked.ask(2, by_campaign).json()["rows"]} & {r[0] for r in own}


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"measures": []}, "/measures"),
        ({"measures": ["bids", "profit"]}, "/measures/1"),
        ({"dimensions": ["planet"]}, "/dimensions/0"),
        ({"end_ms": START_MS}, "/end_ms"),
        ({"start_ms": START_MS + 1}, "/start_ms"),
        ({"limit": 0}, "/limit"),
        ({"filters": {"campaign_id": []}}, "/filters/campaign_id"),
    ],
)
def test_a_rule_that_is_broken_is_named_with_its_place(asked, change, pointer):
    refused = asked.ask(1, {**BIDS, **change})
    assert refused.status_code == 422
    (error,) = refused.json()["errors"]
    assert error["pointer"] == pointer
    assert error["rule"]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b"[]", 422), (b'{"measures": 1}', 422), (b"[" * 100_000, 400), (b"\xff", 400)],
)
def test_what_is_no_query_is_refused(asked, content, status):
    refused = asked.clients[1].post(PATH, content=content, headers=JSON)
    assert refused.status_code == status
    assert refused.json()["detail"]


def test_a_key_is_needed_and_a_body_of_json(asked):
    assert asked.plane.anyone.post(PATH, json=BIDS).status_code == 401
    said = asked.clients[1].post(PATH, content=json.dumps(BIDS), headers={"content-type": "a/b"})
    assert said.status_code == 415


def test_without_a_store_the_answer_is_to_retry_and_what_to_do(plane):
    answered = plane.editor.post(PATH, json=BIDS)
    assert answered.status_code == 503
    assert answered.headers["retry-after"] == "1"
    assert "start it again" in answered.json()["detail"]
    assert str(plane.deployment.root) not in answered.text


@contextlib.contextmanager
def refusing(path, refusal):
    """A store on ``path`` that refuses every question."""

    def refuse(connection):
        with connection, connection.makefile("rb") as said:
            said.read(int.from_bytes(said.read(4), "little"))
            body = msgspec.msgpack.encode(refusal)
            connection.sendall(len(body).to_bytes(4, "little") + body)

    def serve():
        # Until the listener is shut down.
        with contextlib.suppress(OSError):
            while True:
                refuse(listener.accept()[0])

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(("is_retryable", "status"), [(True, 503), (False, 422)])
def test_what_an_engine_says_of_its_inside_is_not_told(plane, is_retryable, status):
    said = "ClickHouse at ch-7.internal:9000/ads: SELECT bids FROM events: Memory limit; retry"
    with refusing(plane.deployment.store_socket, Refusal(said, is_retryable)):
        answered = plane.editor.post(PATH, json=BIDS)
    assert answered.status_code == status
    assert "store cannot answer" in answered.json()["detail"]
    assert not any(word in answered.text for word in ("internal", "9000", "SELECT", "events"))


def test_the_openapi_document_says_what_is_asked_and_answered(plane):
    document = plane.anyone.get("/api/v1/openapi.json").json()
    post = document["paths"][PATH]["post"]
    assert post["security"]
    assert set(post["responses"]) >= {"200", "400", "401", "413", "415", "422", "503"}
    assert "advertiser_id" not in document["components"]["schemas"]["Query"]["properties"]
