"""Why there is no bid: every rule that fails, and that it agrees with the decision that serves."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from bidder.catalogue import read_catalogue
from bidder.edge import Edge
from bidder.explain import explain_request
from bidder.explain_item import Case, asked_of
from bidder.explain_table import case_of_catalogue, case_of_run, run_explain, table_of
from bidder.kernels_cap import cap_add
from market.campaign import FrequencyCap, Status, Targeting
from market.control import new_live_arrays
from market.decision import NoBidReason
from market.errors import BadInput, NotReady
from market.exchange import DEFAULT_EXCHANGES
from market.state import CAP_SLOT_DTYPE
from tests.bidder.requests import body_of
from tests.bidder.services import NOW_MS, Sink, catalogue_snapshot, service_of
from tests.bidder.workers import WorkerPlace

SHARED = Path(__file__).parents[3] / "shared" / "requests"
PROFILE = DEFAULT_EXCHANGES[0]
FUNDS = 10**12


def case_of(campaigns=None, *, funds=FUNDS, **changes):
    campaigns = campaigns or read_catalogue()
    snapshot = catalogue_snapshot(campaigns)
    live = new_live_arrays()
    live.is_active[:] = 1
    money = {int(key): funds for key in snapshot.arrays.budgets["budget_id"]}
    return Case(
        campaigns, snapshot, live, money, np.zeros((1, 1_024), CAP_SLOT_DTYPE), Edge(b"salt"),
        "lodestone",
    )._replace(**changes)  # fmt: skip


def explained(body, case=None, profile=PROFILE):
    return explain_request(case or case_of(), body, profile, NOW_MS)


def verdict_on(explanation, line_item_id, imp=0):
    (found,) = (
        verdict
        for verdict in explanation.imps[imp].verdicts
        if verdict.line_item_id == line_item_id
    )
    return found


def reasons(verdict):
    return [failed.reason for failed in verdict.failed]


def only(line_item_id=101, **changes):
    """The catalogue's campaign with that line item alone, changed."""
    campaign_changes = {
        name: changes.pop(name) for name in ("flight", "status", "goal") if name in changes
    }
    for campaign in read_catalogue():
        for line_item in campaign.line_items:
            if line_item.line_item_id == line_item_id:
                changed = msgspec.structs.replace(line_item, **changes)
                return (
                    msgspec.structs.replace(campaign, line_items=(changed,), **campaign_changes),
                )
    raise AssertionError(line_item_id)


def test_who_bids_is_eligible_with_its_price_and_who_does_not_says_why():
    explanation = explained(body_of(bcat=["IAB18"]))
    assert explanation.status == 200
    (bid,) = explanation.bids
    winner = verdict_on(explanation, bid.line_item_id)
    assert winner.is_eligible
    assert winner.bid_cpm == pytest.approx(bid.price_cpm, abs=1e-6)
    assert winner.currency == bid.currency
    assert explanation.imps[0].verdicts[0].is_eligible
    (blocked,) = verdict_on(explanation, 101).failed
    assert (blocked.reason, blocked.field) == ("category_blocked", "bcat")
    assert (blocked.asked, blocked.rule) == ('bcat=["IAB18"]', "is IAB18")


def test_every_rule_that_fails_is_told_not_only_the_first():
    targeting = Targeting(include={"country": ("DEU",)}, exclude={"site": ("news.example",)})
    campaigns = only(
        targeting=targeting, is_deal_only=True, deals=("D1",), bid_cpm_micros_max=1_000_000
    )
    case = case_of(campaigns, funds=0)
    case.live.is_active[:] = 0
    body = body_of(
        {"bidfloor": 50}, badv=["alpineshoes.example"], device={"geo": {"country": "USA"}}
    )
    explanation = explained(body, case)
    verdict = verdict_on(explanation, 101)
    assert not verdict.is_eligible
    assert reasons(verdict) == [
        "advertiser_blocked", "targeting_dimension", "targeting_dimension", "deal_required",
        "not_active", "budget_exhausted", "below_floor",
    ]  # fmt: skip
    country = verdict.failed[1]
    assert (country.field, country.asked) == ("device.geo.country", "country=USA")
    assert country.rule == "only country DEU"
    assert verdict.failed[2].rule == "not site news.example"
    assert verdict.bid_cpm == 1.0, "what it would bid"
    assert verdict.floor_cpm == 50.0
    assert explanation.status == 204


def test_caps_flights_and_conditions_are_among_them():
    targeting = Targeting(os_version_min="14", os_version_max="15", viewability_min=0.5)
    campaigns = only(
        targeting=targeting,
        frequency_caps=(FrequencyCap(impressions=1),),
        flight=msgspec.structs.replace(read_catalogue()[0].flight, end_at_ms=NOW_MS - 1),
    )
    explanation = explained(body_of(device={"os": "iOS", "osv": "12"}), case_of(campaigns))
    assert reasons(verdict_on(explanation, 101)) == [
        "outside_flight", "targeting_os_version", "targeting_viewability", "user_unknown_for_cap",
    ]  # fmt: skip


def test_a_cap_that_is_reached_says_how_often_is_often_enough():
    campaigns = only(frequency_caps=(FrequencyCap(impressions=2),))
    case = case_of(campaigns)
    sink = Sink()
    body = body_of(user={"id": "u1"})
    service = service_of(campaigns, sink=sink)
    for _ in range(2):
        assert service.answer(body, PROFILE, NOW_MS).status == 200
    key = sink.events[0]["caps"][0]
    cap_add(case.cap_slots, 0, key, 2, NOW_MS, NOW_MS + 10**9)
    (failed,) = verdict_on(explained(body, case), 101).failed
    assert (failed.reason, failed.rule) == ("frequency_cap", "at most 2 per day and line_item")
    assert failed.asked == "id=u1"


def test_creatives_say_every_obstacle_each():
    body = body_of({"banner": {"w": 1, "h": 1, "mimes": ["image/gif"], "battr": []}, "secure": 1})
    campaigns = only()
    creatives = tuple(
        msgspec.structs.replace(creative, is_secure=False)
        for creative in campaigns[0].line_items[0].creatives
    )
    verdict = verdict_on(explained(body, case_of(only(creatives=creatives))), 101)
    for creative in verdict.creatives:
        assert set(creative.obstacles) == {
            "size_not_offered", "media_type_not_accepted", "not_secure",
        }  # fmt: skip
    assert set(reasons(verdict)) == set(verdict.creatives[0].obstacles)
    assert verdict.bid_cpm is None, "no creative, no price"


def test_an_explanation_changes_nothing():
    case = case_of(only(frequency_caps=(FrequencyCap(impressions=5),)))
    counts, money = case.cap_slots.copy(), dict(case.available_micros)
    body = body_of(user={"id": "u1"})
    first = explained(body, case)
    assert first.bids
    assert explained(body, case) == first
    assert (case.cap_slots == counts).all()
    assert case.available_micros == money


def shared_bodies():
    return sorted(SHARED.glob("*.json")) if SHARED.is_dir() else []


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/requests is missing")
def test_it_agrees_with_the_decision_on_every_real_request():
    case = case_of()
    bids = 0
    for path in shared_bodies():
        body = path.read_bytes()
        try:
            explanation = explained(body, case)
        except BadInput:
            continue
        answered = service_of().answer(body, PROFILE, NOW_MS)
        assert explanation.status == answered.status, path.name
        assert len(explanation.bids) == answered.bid_count
        bids += answered.bid_count
        if answered.status == 200 and len(explanation.imps) == 1:
            best = explanation.imps[0].verdicts[0]
            assert best.is_eligible
            assert best.line_item_id == explanation.bids[0].line_item_id, path.name
            assert best.bid_cpm == pytest.approx(explanation.bids[0].price_cpm, abs=1e-6)
            assert best.currency == explanation.bids[0].currency
        for imp in explanation.imps:
            if answered.bid_count == 0:
                assert not any(verdict.is_eligible for verdict in imp.verdicts), path.name
        told = {refused.reason for refused in explanation.refused if refused.imp_index >= 0}
        found = {
            failed.reason
            for imp in explanation.imps for verdict in imp.verdicts for failed in verdict.failed
        } | {name for imp in explanation.imps for v in imp.verdicts for c in v.creatives
             for name in c.obstacles}  # fmt: skip
        unusable = {
            reason.name.lower() for reason in (NoBidReason.UNUSABLE_IMP, NoBidReason.DEAL_REQUIRED)
        }
        assert told <= found | unusable, path.name
    assert bids > 20


def test_what_a_request_says_is_found_where_the_field_points():
    raw = {
        "imp": {"banner": {"w": 300, "h": 250}, "video": {"mimes": ["a"]}},
        "app": {"bundle": "com.x", "content": {"series": "s"}},
        "user": {"data": [{"segment": [{"id": "1"}, {"id": "2"}]}]},
    }
    for field, told in {
        "imp.banner.w|h|format": "w=300, h=250",
        "imp.banner|video.mimes": 'mimes=["a"]',
        "imp.banner|video|audio|native": "banner, video",
        "site.domain|app.bundle": "bundle=com.x",
        "site|app.content.series": "series=s",
        "user.data.segment.id": 'id=[["1","2"]]',
        "cur|imp.bidfloorcur": "",
        "(exchange)": "",
        "": "",
    }.items():
        assert asked_of(raw, field) == told, field
    assert asked_of({"user": {"id": "x" * 200}}, "user.id").endswith("...")


def test_a_request_is_explained_from_the_command_line_as_json_and_as_a_table(tmp_path, capsys):
    path = tmp_path / "request.json"
    path.write_bytes(body_of({}, {"bidfloor": 9_999}))
    run_explain(path, "default", None, None, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["status"] == 200
    assert [imp["imp_id"] for imp in said["imps"]] == ["1", "2"]
    assert said["refused"][0]["reason"] == "below_floor"
    run_explain(path, "default", None, None, as_json=False)
    assert "below_floor" in capsys.readouterr().out
    with pytest.raises(BadInput, match="exchange 'nobody': it must be one of default"):
        run_explain(path, "nobody", None, None, as_json=True)
    with pytest.raises(BadInput, match="give one of them"):
        run_explain(path, "default", path, tmp_path, as_json=True)


def test_a_catalogue_is_a_case_with_full_budgets_and_a_paused_campaign_shows(tmp_path):
    catalogue = tmp_path / "one.json"
    (campaign,) = only()
    catalogue.write_bytes(msgspec.json.encode({"campaigns": (campaign,)}))
    case = case_of_catalogue(catalogue, NOW_MS)
    assert verdict_on(explained(body_of(), case), 101).is_eligible
    paused = case._replace(
        campaigns=only(status=Status.PAUSED), live=new_live_arrays(),
    )  # fmt: skip
    (failed,) = verdict_on(explained(body_of(), paused), 101).failed
    assert (failed.reason, failed.rule) == ("not_active", "campaign is paused")
    assert table_of(explained(body_of(), case)).renderables


def test_a_run_without_a_snapshot_is_not_ready(tmp_path):
    place = WorkerPlace(tmp_path / "run")
    try:
        with pytest.raises(NotReady, match="no snapshot yet"):
            case_of_run(tmp_path / "run", NOW_MS)
    finally:
        place.stop(9)
