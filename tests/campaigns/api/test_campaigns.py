from __future__ import annotations

import concurrent.futures
import copy
import json

import pytest

from ledger.view import ActivityView, LedgerView
from market.intent import intent_version, read_intent

PATH = "/api/v1/campaigns"


def created(client, body, **headers):
    response = client.post(PATH, json=body, headers=headers)
    assert response.status_code == 201, response.text
    return response.json()


def problem_of(response, status, kind):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["type"] == f"urn:lodestone:problem:{kind}"
    assert problem["title"]
    assert problem["detail"]
    return problem


def pointers_of(problem):
    return [error["pointer"] for error in problem["errors"]]


def test_a_created_campaign_is_stored_published_and_read_back(plane, body):
    response = plane.editor.post(PATH, json=body)
    assert response.status_code == 201
    campaign = response.json()
    assert response.headers["location"] == f"{PATH}/{campaign['campaign_id']}"
    assert response.headers["etag"] == '"1"'
    assert campaign["advertiser_id"] == 1
    assert campaign["line_items"][0]["line_item_id"] == 1
    assert campaign["line_items"][0]["creatives"][0]["creative_id"] == 1
    read = plane.editor.get(response.headers["location"])
    assert (read.status_code, read.json()) == (200, campaign)
    assert read.headers["etag"] == '"1"'
    assert read.headers["cache-control"] == "no-store"
    intent = read_intent(plane.deployment.intent_folder)
    assert intent.version == 2
    assert intent.campaigns[0].campaign_id == campaign["campaign_id"]
    assert intent.campaigns[0].budget.daily_micros == 100_000_000


def test_a_campaign_without_line_items_gets_one(plane, body):
    del body["line_items"]
    (item,) = created(plane.editor, body)["line_items"]
    assert (item["name"], item["creatives"]) == (body["name"], [])


def test_an_order_of_creatives_is_rendered_and_served(plane, body):
    del body["line_items"]
    body["creatives"] = {
        "brief": {
            "product": {
                "name": "Trail shoe", "brand": "Northway", "landing_url": "https://n.example/",
                "price_micros": 89_900_000, "currency": "USD", "category": "footwear",
            },
            "headline": "Run where roads end", "body": "Grip for mud and rain.",
            "call_to_action": "See it",
        },
        "sizes": ["300x250"],
        "count": 2,
    }  # fmt: skip
    trial = plane.editor.post(PATH, json=body, params={"validate_only": True}).json()
    assert list(plane.deployment.asset_folder.iterdir()) == []
    (item,) = created(plane.editor, body)["line_items"]
    assert len(item["creatives"]) == 2
    for creative, tried in zip(item["creatives"], trial["line_items"][0]["creatives"], strict=True):
        assert creative == {**tried, "creative_id": creative["creative_id"]}
        image = plane.anyone.get(f"/assets/{creative['asset_sha256']}")
        assert image.status_code == 200
        assert image.headers["content-type"] == "image/jpeg"
        assert f"{plane.url}/assets/{creative['asset_sha256']}" in creative["adm"]
    body["creatives"]["brief"]["headline"] = ""
    body["creatives"]["sizes"] = ["big"]
    problem = problem_of(plane.editor.post(PATH, json=body), 422, "invalid-campaign")
    assert pointers_of(problem) == ["/creatives/brief/headline"]


def test_a_malformed_campaign_names_every_broken_rule_and_nothing_is_stored(plane, body):
    before = intent_version(plane.deployment.intent_folder)
    body["currency"] = "dollars"
    body["time_zone"] = "Mars/Olympus"
    body["budget"] = {"daily_micros": "100"}
    body["line_items"][0]["creatives"][0]["width"] = 0
    body["line_items"][1]["targeting"] = {"include": {"mood": ["good"]}}
    body["policy"] = "psychic"
    body["label"] = "x"
    problem = problem_of(plane.editor.post(PATH, json=body), 422, "invalid-campaign")
    assert set(pointers_of(problem)) == {
        "/currency", "/time_zone", "/budget/daily_micros", "/line_items/0/creatives/0/width",
        "/line_items/1/targeting/include/mood", "/policy", "/label",
    }  # fmt: skip
    for error in problem["errors"]:
        assert error["rule"]
        assert error["pointer"] in problem["detail"]
    assert {"pointer": "/time_zone", "value": "'Mars/Olympus'"}.items() <= next(
        error for error in problem["errors"] if error["pointer"] == "/time_zone"
    ).items()
    assert plane.editor.get(PATH).json() == {"campaigns": [], "next_after": None}
    assert intent_version(plane.deployment.intent_folder) == before
    assert created(plane.editor, {**body_of_before(body)})["campaign_id"] == 1


def body_of_before(body):
    mended = copy.deepcopy(body)
    del mended["label"], mended["policy"], mended["line_items"]
    return {**mended, "currency": "USD", "time_zone": "UTC", "budget": {"daily_micros": 1}}


@pytest.mark.parametrize("value", [[], "text", 5, None, True])
def test_a_body_that_is_no_object_is_refused(plane, value):
    response = plane.editor.post(
        PATH, content=json.dumps(value), headers={"Content-Type": "application/json"}
    )
    problem = problem_of(response, 422, "invalid-campaign")
    assert "" in pointers_of(problem)


def test_the_advertiser_never_comes_from_the_body(plane, body):
    other = plane.new_advertiser("B")
    problem = problem_of(
        plane.editor.post(PATH, json={**body, "advertiser_id": other}), 422, "invalid-campaign"
    )
    assert pointers_of(problem) == ["/advertiser_id"]


def test_validate_only_checks_everything_and_stores_nothing(plane, body):
    response = plane.editor.post(PATH, json=body, params={"validate_only": True})
    assert response.status_code == 200
    assert response.json()["campaign_id"] == 0
    assert plane.editor.get(PATH).json()["campaigns"] == []
    body["currency"] = "dollars"
    refused = plane.editor.post(PATH, json=body, params={"validate_only": True})
    assert pointers_of(problem_of(refused, 422, "invalid-campaign")) == ["/currency"]
    body["currency"] = "USD"
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"
    trial = plane.editor.patch(
        at, json={"name": "New"}, headers={"If-Match": '"1"'}, params={"validate_only": True}
    )
    assert (trial.status_code, trial.json()["name"]) == (200, "New")
    for action in ("pause", "resume"):
        plane.editor.post(f"{at}:{action}", params={"validate_only": True}).raise_for_status()
    assert plane.editor.get(at).json() == campaign
    assert len(plane.editor.get(f"{at}/changes").json()["changes"]) == 1
    assert intent_version(plane.deployment.intent_folder) == 2


def test_a_repeated_create_with_the_same_key_creates_one_campaign(plane, body):
    first = plane.editor.post(PATH, json=body, headers={"Idempotency-Key": "a"})
    second = plane.editor.post(PATH, json=body, headers={"Idempotency-Key": "a"})
    assert (second.status_code, second.content) == (201, first.content)
    assert second.headers["location"] == first.headers["location"]
    third = created(plane.editor, body, **{"Idempotency-Key": "b"})
    assert third["campaign_id"] == 2
    assert len(plane.editor.get(PATH).json()["campaigns"]) == 2
    other = plane.editor.post(PATH, json={**body, "name": "x"}, headers={"Idempotency-Key": "a"})
    problem_of(other, 422, "idempotency-key-reused")


def test_creates_at_the_same_time_with_one_key_create_one_campaign(plane, body):
    def create(_):
        return plane.editor.post(PATH, json=body, headers={"Idempotency-Key": "a"})

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        responses = list(pool.map(create, range(16)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert len(plane.editor.get(PATH).json()["campaigns"]) == 1


def test_a_patch_changes_what_it_names_and_restores_defaults_for_null(plane, body):
    campaign = created(plane.editor, {**body, "flight": {"end_at_ms": 5}})
    at = f"{PATH}/{campaign['campaign_id']}"
    patch = {"budget": {"lifetime_micros": 900_000_000}, "flight": None, "name": "Summer"}
    response = plane.editor.patch(
        at, content=json.dumps(patch),
        headers={"If-Match": '"1"', "Content-Type": "application/merge-patch+json"},
    )  # fmt: skip
    assert response.status_code == 200
    assert response.headers["etag"] == '"2"'
    assert response.json() == {
        **campaign,
        "name": "Summer",
        "flight": {"start_at_ms": None, "end_at_ms": None},
        "budget": {"daily_micros": 100_000_000, "lifetime_micros": 900_000_000},
        "version": 2,
    }
    assert plane.editor.get(at).json() == response.json()
    assert read_intent(plane.deployment.intent_folder).campaigns[0].name == "Summer"


def test_a_whole_campaign_that_was_read_can_be_sent_back(plane, body):
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"
    same = plane.editor.patch(at, json=campaign, headers={"If-Match": '"1"'})
    assert (same.status_code, same.json(), same.headers["etag"]) == (200, campaign, '"1"')
    assert intent_version(plane.deployment.intent_folder) == 2


def test_a_patch_that_breaks_a_rule_changes_nothing(plane, body):
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"
    patch = {"budget": {"daily_micros": 0}, "currency": "EUR", "name": None, "campaign_id": 9}
    response = plane.editor.patch(at, json=patch, headers={"If-Match": '"1"'})
    problem = problem_of(response, 422, "invalid-campaign")
    assert set(pointers_of(problem)) == {
        "/budget/daily_micros", "/currency", "/name", "/campaign_id",
    }  # fmt: skip
    assert plane.editor.get(at).json() == campaign


def test_a_patch_needs_the_version_it_was_made_for(plane, body):
    at = f"{PATH}/{created(plane.editor, body)['campaign_id']}"
    problem_of(plane.editor.patch(at, json={"name": "x"}), 428, "version-required")
    stale = plane.editor.patch(at, json={"name": "x"}, headers={"If-Match": '"7"'})
    assert '"1"' in problem_of(stale, 412, "version-mismatch")["detail"]
    stale = plane.editor.post(f"{at}:pause", headers={"If-Match": '"7"'})
    problem_of(stale, 412, "version-mismatch")
    assert plane.editor.patch(at, json={"name": "x"}, headers={"If-Match": "*"}).status_code == 200


def test_of_changes_at_the_same_time_one_wins_and_the_others_are_told(plane, body):
    at = f"{PATH}/{created(plane.editor, body)['campaign_id']}"
    rounds, writers = 6, 8
    for version in range(1, rounds + 1):

        def change(writer, version=version):
            patch = {"name": f"{version}-{writer}"}
            return plane.editor.patch(at, json=patch, headers={"If-Match": f'"{version}"'})

        with concurrent.futures.ThreadPoolExecutor(writers) as pool:
            responses = list(pool.map(change, range(writers)))
        codes = sorted(response.status_code for response in responses)
        assert codes == [200] + [412] * (writers - 1)
        (winner,) = [response.json() for response in responses if response.status_code == 200]
        assert plane.editor.get(at).json() == winner
        assert read_intent(plane.deployment.intent_folder).campaigns[0].name == winner["name"]
    changes = plane.editor.get(f"{at}/changes").json()["changes"]
    assert [change["version"] for change in changes] == list(range(1, rounds + 2))


def test_pause_and_resume_reach_the_intent_and_repeat_harmlessly(plane, body):
    at = f"{PATH}/{created(plane.editor, body)['campaign_id']}"
    for action, status, version in (
        ("pause", "paused", 2), ("pause", "paused", 2), ("resume", "active", 3),
        ("resume", "active", 3),
    ):  # fmt: skip
        response = plane.editor.post(f"{at}:{action}", params={"reason": "too dear"})
        assert response.status_code == 200
        assert (response.json()["status"], response.json()["version"]) == (status, version)
        intent = read_intent(plane.deployment.intent_folder)
        assert intent.campaigns[0].status == status
        assert intent.version == version + 1
    changes = plane.editor.get(f"{at}/changes").json()["changes"]
    assert [(change["action"], change["reason"]) for change in changes] == [
        ("create", "created through the API"), ("pause", "too dear"), ("resume", "too dear"),
    ]  # fmt: skip


def test_changes_tell_who_what_and_from_what_to_what(plane, body):
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"
    paused = plane.editor.post(f"{at}:pause").json()
    first, second = plane.editor.get(f"{at}/changes").json()["changes"]
    key_id = plane.first_key.partition(".")[0]
    assert first["actor"] == second["actor"] == {"kind": "api_key", "id": key_id}
    assert (first["before"], first["after"]) == (None, campaign)
    assert (second["before"], second["after"]) == (campaign, paused)
    assert second["reason"] == "paused through the API"
    page = plane.editor.get(f"{at}/changes", params={"limit": 1}).json()
    assert (page["changes"], page["next_after"]) == ([first], first["change_id"])
    rest = {"limit": 1, "after": page["next_after"]}
    page = plane.editor.get(f"{at}/changes", params=rest).json()
    assert (page["changes"], page["next_after"]) == ([second], None)
    assert first["at_ms"] > 0


def test_the_list_comes_in_pages(plane, body):
    every = [created(plane.editor, body) for _ in range(5)]
    pages, after = [], 0
    while after is not None:
        page = plane.editor.get(PATH, params={"after": after, "limit": 2}).json()
        pages.append(len(page["campaigns"]))
        assert page["campaigns"] == every[: sum(pages)][-pages[-1] :]
        after = page["next_after"]
    assert pages == [2, 2, 1]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "after=-1", "limit=x"])
def test_a_query_that_breaks_a_rule_is_named(plane, query):
    problem = problem_of(plane.editor.get(f"{PATH}?{query}"), 422, "invalid-request")
    assert query.partition("=")[0] in problem["detail"]


def test_a_viewer_reads_and_changes_nothing(plane, body):
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"
    assert plane.viewer.get(at).json() == campaign
    for response in (
        plane.viewer.post(PATH, json=body),
        plane.viewer.patch(at, json={"name": "x"}, headers={"If-Match": '"1"'}),
        plane.viewer.post(f"{at}:pause"),
        plane.viewer.post(f"{at}:resume"),
    ):
        problem_of(response, 403, "forbidden")
    assert plane.editor.get(at).json() == campaign


def test_a_line_item_that_has_ended_stays_in_the_trace(plane, body):
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"
    kept = campaign["line_items"][1]
    patch = {"line_items": [kept, {"name": "three"}]}
    changed = plane.editor.patch(at, json=patch, headers={"If-Match": '"1"'}).json()
    assert [item["line_item_id"] for item in changed["line_items"]] == [2, 3]
    again = {"line_items": [*changed["line_items"], campaign["line_items"][0]]}
    response = plane.editor.patch(at, json=again, headers={"If-Match": '"2"'})
    problem = problem_of(response, 422, "invalid-campaign")
    assert pointers_of(problem) == [
        "/line_items/2/line_item_id", "/line_items/2/creatives/0/creative_id",
    ]  # fmt: skip


def test_a_report_counts_what_ended_line_items_spent(plane, ledger, body):
    campaign = created(plane.editor, body)
    at = f"{PATH}/{campaign['campaign_id']}"

    ledger.view = LedgerView(
        1_760_000_000_000, 1, True, 0, (),
        tuple(ActivityView(i, 10, 5, 5, 2, 1, 0, 3_000_000, 0.0, 0.0) for i in (1, 2, 3)), (), (),
    )  # fmt: skip
    patch = {"line_items": campaign["line_items"][1:]}
    plane.editor.patch(at, json=patch, headers={"If-Match": '"1"'}).raise_for_status()
    report = plane.viewer.get(f"{at}/report").json()
    assert report["spend_micros"] == 6_000_000
    assert report["cpa_micros"] == 3_000_000
    assert [part["id"] for part in report["line_items"]] == [1, 2]


def test_a_report_without_a_recorder_is_not_ready(plane, body):
    at = f"{PATH}/{created(plane.editor, body)['campaign_id']}"
    response = plane.editor.get(f"{at}/report")
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["type"] == "urn:lodestone:problem:not-ready"
