"""Bad input from end to end, over the real ports of one engine: nothing stored, nothing charged."""

from __future__ import annotations

import json
import re

import httpx
import pytest

from campaigns.auth import add_advertiser, add_key
from campaigns.store import Role, open_store
from ledger.reports import irregular
from ledger.store import StoreClient
from market.events import EventFlag, EventKind
from market.notices import KINDS_BY_NAME
from tests.engines import CAMPAIGN, events_in, served, until


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with served(tmp_path_factory.mktemp("bad") / "run") as running:
        running.up()
        running.market.create()
        running.market.bid_soon()
        yield running


@pytest.fixture
def market(engine):
    """The market, with a check that the test left no bid unrecorded or unfunded behind."""
    yield engine.market
    assert engine.market.ledger().unfunded_bids == 0


def told(market, name="twin"):
    """What the ledger says of an exchange's notices."""
    found = [each for each in market.ledger().exchanges if each.name == name]
    return found[0] if found else None


def count(market, field, name="twin"):
    found = told(market, name)
    return getattr(found, field) if found else 0


# Campaigns.


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"currency": "usd"}, "/currency"),
        ({"budget": {"daily_micros": 0}}, "/budget/daily_micros"),
        ({"budget": {"daily_micros": "much"}}, "/budget/daily_micros"),
        ({"goal": {"kind": "target_cpa"}}, "/goal/target_cpa_micros"),
        ({"policy": "magic"}, "/policy"),
        ({"line_items": [{"targeting": {"include": {"shoe_size": ["44"]}}}]},
         "/line_items/0/targeting/include/shoe_size"),
        ({"unknown": 1}, "/unknown"),
    ],
)  # fmt: skip
def test_a_malformed_campaign_is_refused_with_a_pointer_and_not_stored(market, change, pointer):
    before = market.api.get("/campaigns").json()
    answer = market.api.post("/campaigns", json={**CAMPAIGN, **change})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer in [error["pointer"].lstrip("#") for error in answer.json()["errors"]]
    assert market.api.get("/campaigns").json() == before


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[1]"])
def test_a_body_that_is_no_campaign_is_a_problem_document_and_not_stored(market, body):
    before = market.api.get("/campaigns").json()
    answer = market.api.post(
        "/campaigns", content=body, headers={"content-type": "application/json"}
    )
    assert answer.status_code in (400, 422)
    assert answer.headers["content-type"] == "application/problem+json"
    assert market.api.get("/campaigns").json() == before


def test_another_advertisers_campaign_does_not_exist(engine, market):
    store = open_store(engine.deployment.database_path)
    with store.writing() as session:
        key = add_key(session, add_advertiser(session, "B", 0), Role.EDITOR, 0)
    store.close()
    (mine,) = market.api.get("/campaigns").json()["campaigns"]
    path = f"{market.endpoints['api_url']}/campaigns/{mine['campaign_id']}"
    with httpx.Client(headers={"authorization": f"Bearer {key}"}, trust_env=False) as other:
        answers = [
            other.get(path),
            other.get(f"{path}/report"),
            other.patch(path, json={"name": "Taken"}, headers={"if-match": "*"}),
            other.post(f"{path}:pause"),
        ]
    assert [answer.status_code for answer in answers] == [404] * 4
    (after,) = market.api.get("/campaigns").json()["campaigns"]
    assert after == mine
    assert market.bid_soon()


# Bid requests.


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"\xff\xfe\xfd", b'{"id": "r"}', b'{"imp": []}',
        b'{"id": "r", "imp": 3}', b'{"id": "r", "imp": [{"id": "1", "banner": {}}]' * 2,
        b"[" * 20_000,
    ],
)  # fmt: skip
def test_a_malformed_bid_request_is_400_without_a_body_and_the_next_is_answered(market, body):
    answer = market.post(body)
    assert (answer.status_code, answer.content) == (400, b"")
    assert market.bid() is not None


def test_an_unknown_exchange_is_404(market):
    assert market.post(market.request(), exchange="nobody").status_code == 404
    assert market.http.get(market.endpoints["bid_url"]).status_code == 405


# Notices.


def altered_tag(url):
    path, _, query = url.partition("?")
    return f"{path[:-1]}{'A' if path[-1] != 'A' else 'B'}?{query}"


def altered_token(url):
    """Another bid's bytes under the same signature."""
    at = url.index("/n/billing/") + len("/n/billing/") + 20
    return url[:at] + ("A" if url[at] != "A" else "B") + url[at + 1 :]


def of_another_kind(url):
    return url.replace("/n/billing/", "/n/win/")


def cut(url):
    return re.sub(r"/n/billing/[\w-]{40}", "/n/billing/", url)


@pytest.mark.parametrize(
    "change",
    [altered_tag, altered_token, of_another_kind, cut],
    ids=["signature", "token", "kind", "cut"],
)
def test_an_altered_notice_is_403_and_counted_and_nothing_is_charged(market, change):
    bid = market.bid_soon()
    spend, forged = market.spend(), count(market, "forged", "")
    assert market.say(bid["burl"], bid["price"], change) == 403
    assert market.spend() == spend
    assert count(market, "forged", "") == forged + 1
    # The bid is none the worse for it: its own notice charges.
    assert market.say(bid["burl"], bid["price"]) == 200
    assert market.spend() > spend


def test_an_unknown_kind_of_notice_is_404(market):
    bid = market.bid_soon()
    assert "magic" not in KINDS_BY_NAME
    url = bid["burl"].replace("/n/billing/", "/n/magic/")
    assert market.say(url, bid["price"]) == 404


@pytest.mark.parametrize("price", ["", "-1", "nan", "1e400", "free", "${AUCTION_PRICE}"])
def test_a_notice_without_a_price_that_can_be_read_is_400_and_charges_nothing(market, price):
    bid = market.bid_soon()
    spend, malformed = market.spend(), count(market, "malformed")
    assert market.say(bid["burl"], price) == 400
    assert (market.spend(), count(market, "malformed")) == (spend, malformed + 1)


def test_a_price_above_the_reservation_is_disputed_and_shown_but_not_charged(engine, market):
    bid = market.bid_soon()
    spend, disputed = market.spend(), count(market, "disputed")
    assert market.say(bid["burl"], 2 * bid["price"]) == 200
    assert (market.spend(), count(market, "disputed")) == (spend, disputed + 1)
    hi, lo = int(bid["id"][:16], 16), int(bid["id"][16:], 16)
    events = events_in(engine.folder)
    (event,) = events[
        (events["bid_hi"] == hi) & (events["bid_lo"] == lo) & (events["kind"] == EventKind.BILLING)
    ]
    assert event["flags"] & EventFlag.DISPUTED
    assert not event["flags"] & EventFlag.CHARGED
    (campaign,) = market.api.get("/campaigns").json()["campaigns"]
    report = market.api.get(f"/campaigns/{campaign['campaign_id']}/report").json()
    assert report["spend_micros"] == spend
    # The true price is still taken.
    assert market.say(bid["burl"], bid["price"]) == 200
    assert market.spend() > spend


def test_a_disputed_notice_is_in_the_stores_report_of_irregular_notices(engine, market):
    bid = market.bid_soon()
    assert market.say(bid["burl"], 3 * bid["price"]) == 200
    events = events_in(engine.folder)
    disputed = events[events["flags"] & EventFlag.DISPUTED != 0]
    expected = len({(int(event["id_hi"]), int(event["id_lo"])) for event in disputed})
    assert expected == disputed.shape[0] >= 1
    assert expected == count(market, "disputed")
    store = StoreClient(engine.deployment.store_socket)
    until(lambda: sum(row.disputed for row in irregular(store)) == expected, 20)


def test_a_second_identical_billing_notice_is_200_and_charged_once(market):
    bid = market.bid_soon()
    assert market.say(bid["burl"], bid["price"]) == 200
    spend, ignored = market.spend(), count(market, "duplicates_ignored")
    for _ in range(3):
        assert market.say(bid["burl"], bid["price"]) == 200
    assert (market.spend(), count(market, "duplicates_ignored")) == (spend, ignored + 3)


def test_notices_of_a_test_request_never_charge(market):
    bid = market.bid_soon(test=1)
    before = market.ledger()
    for url in (bid["nurl"], bid["burl"]):
        assert market.say(url, bid["price"]) == 200
    assert market.ledger().line_items == before.line_items
    assert [b.spent_on_time_micros for b in market.ledger().budgets] == [
        b.spent_on_time_micros for b in before.budgets
    ]


def test_the_engine_is_well_after_all_of_it(engine):
    assert engine.process.poll() is None
    assert engine.living() == engine.pids
    assert engine.said() == ""
    bid = engine.market.bid()
    assert json.dumps(bid)
    assert engine.market.say(bid["burl"], bid["price"]) == 200
