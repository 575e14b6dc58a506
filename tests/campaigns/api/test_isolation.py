"""What one advertiser has does not exist for another, whatever is asked and however."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns.store import Role
from market.control import ControlBlock
from market.deployment import Deployment
from tests.campaigns.conftest import free_port, running

PATH = "/api/v1/campaigns"
ADVERTISERS = 3
CAMPAIGNS = 3

BODY = {
    "name": "Mine", "currency": "USD", "time_zone": "UTC", "advertiser_domain": "shop.example",
    "goal": {"kind": "target_cpa", "target_cpa_micros": 1},
    "budget": {"daily_micros": 1},
}  # fmt: skip

ENDPOINTS = {
    "read": ("GET", "", None, {}),
    "report": ("GET", "/report", None, {}),
    "changes": ("GET", "/changes", None, {}),
    "update": ("PATCH", "", {"name": "Taken"}, {"If-Match": "*"}),
    "update without a version": ("PATCH", "", {"name": "Taken"}, {}),
    "update with a stale version": ("PATCH", "", {"name": "Taken"}, {"If-Match": '"9"'}),
    "update that breaks rules": ("PATCH", "", {"name": ""}, {"If-Match": "*"}),
    "pause": ("POST", ":pause", None, {}),
    "pause with a stale version": ("POST", ":pause", None, {"If-Match": '"9"'}),
    "resume": ("POST", ":resume", None, {}),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A control plane with campaigns of several advertisers, in turn: (plane, clients, owners)."""
    folder = tmp_path_factory.mktemp("isolation")
    deployment = Deployment(
        folder=str(folder), bid_port=free_port(), notice_port=free_port(),
        control_port=free_port(), base_url="http://127.0.0.1:1", notice_key_hex="00" * 32,
        user_salt_hex="00" * 16,
    )  # fmt: skip
    ControlBlock.create(deployment.control_path)
    with running(deployment) as plane:
        advertisers = [1, *(plane.new_advertiser(str(i)) for i in range(ADVERTISERS - 1))]
        clients = {
            (advertiser, role): plane.client(plane.new_key(advertiser, role))
            for advertiser in advertisers
            for role in Role
        }
        owners = {}
        for advertiser in advertisers * CAMPAIGNS:
            created = clients[advertiser, Role.EDITOR].post(PATH, json=BODY).json()
            assert created["advertiser_id"] == advertiser
            owners[created["campaign_id"]] = advertiser
        yield plane, clients, owners
        for client in clients.values():
            client.close()


def state_of(clients, owners, campaign):
    """What the owner sees of a campaign, None if there is none with this id."""
    if campaign not in owners:
        return None
    return clients[owners[campaign], Role.VIEWER].get(f"{PATH}/{campaign}").json()


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_every_foreign_id_is_not_found_at_every_endpoint(world, data):
    _, clients, owners = world
    caller = data.draw(st.sampled_from(sorted(clients)), label="advertiser and role")
    campaign = data.draw(
        st.sampled_from(sorted(owners)) | st.integers(-5, 20) | st.integers(), label="campaign"
    )
    name = data.draw(st.sampled_from(sorted(ENDPOINTS)), label="endpoint")
    trial = data.draw(st.booleans(), label="validate_only")
    method, suffix, body, headers = ENDPOINTS[name]
    if owners.get(campaign) == caller[0]:
        return
    before = state_of(clients, owners, campaign)
    response = clients[caller].request(
        method, f"{PATH}/{campaign}{suffix}", json=body, headers=headers,
        params={"validate_only": True} if trial else {},
    )  # fmt: skip
    assert response.status_code == 404
    assert response.json()["type"] == "urn:lodestone:problem:not-found"
    # Whether there is such a campaign is not told: the words are those for an id nobody has.
    nobody = clients[caller].request(
        method, f"{PATH}/4000000000{suffix}", json=body, headers=headers
    )
    assert response.text.replace(f"campaign {campaign}:", "campaign 4000000000:") == nobody.text
    assert state_of(clients, owners, campaign) == before


@pytest.mark.parametrize("campaign", ["abc", "1.5", "%00", "1e3", "0x1", "-1", "9" * 400])
@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_what_is_no_id_is_not_found(world, campaign, name):
    _, clients, _ = world
    method, suffix, body, headers = ENDPOINTS[name]
    response = clients[1, Role.EDITOR].request(
        method, f"{PATH}/{campaign}{suffix}", json=body, headers=headers
    )
    assert response.status_code == 404
    assert response.json()["type"] == "urn:lodestone:problem:not-found"


@pytest.mark.parametrize("name", sorted(ENDPOINTS))
def test_without_a_key_nothing_is_told_about_any_campaign(world, name):
    plane, _, owners = world
    method, suffix, body, headers = ENDPOINTS[name]
    answers = set()
    for campaign in (*owners, 4_000_000_000, "abc"):
        response = plane.anyone.request(
            method, f"{PATH}/{campaign}{suffix}", json=body, headers=headers
        )
        assert response.status_code == 401
        assert response.headers["www-authenticate"] == "Bearer"
        answers.add(response.content)
    assert len(answers) == 1


def test_a_list_and_an_overview_hold_ones_own_campaigns_only(world):
    _, clients, owners = world
    for (advertiser, _), client in clients.items():
        mine = sorted(campaign for campaign, owner in owners.items() if owner == advertiser)
        for path in (PATH, "/api/v1/overview"):
            campaigns = client.get(path).json()["campaigns"]
            assert [each["campaign_id"] for each in campaigns] == mine


def test_an_idempotency_key_of_another_advertiser_says_nothing(world):
    _, clients, owners = world
    first = clients[1, Role.EDITOR].post(PATH, json=BODY, headers={"Idempotency-Key": "same"})
    second = clients[2, Role.EDITOR].post(PATH, json=BODY, headers={"Idempotency-Key": "same"})
    assert first.json()["campaign_id"] != second.json()["campaign_id"]
    assert second.json()["advertiser_id"] == 2
    for response in (first, second):
        owners[response.json()["campaign_id"]] = response.json()["advertiser_id"]
