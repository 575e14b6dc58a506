"""Who sells: chains, sellers' files, crawlers; each refusal names its reason and its field."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from bidder.supply_chain import NO_SUPPLY, nodes_of, read_supply
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES, ChainRule, SellersRule, check_profiles
from market.openrtb import SupplyChain
from market.openrtb_decode import decode_request
from tests.bidder.requests import body_of

CRAWLED = Path(__file__).resolve().parents[1] / "golden" / "supply" / "crawled"
SITE = {"domain": "www.news.example", "publisher": {"id": "pub-1"}}
DIRECT = (("exchange.example", "pub-1"),)
RESOLD = (("reseller.example", "42"), ("exchange.example", "res-7"))


def profile_of(**changes):
    changes = {"seller_domain": "exchange.example", **changes}
    profile = msgspec.structs.replace(DEFAULT_EXCHANGES[0], **changes)
    check_profiles((profile,))
    return profile


def chain_of(*nodes, **changes):
    listed = [{"asi": asi, "sid": sid, "hp": 1} for asi, sid in nodes]
    return {"schain": {"complete": 1, "nodes": listed, **changes}}


def objection(profile, *, supply=None, **request):
    checks = read_supply(CRAWLED) if supply is None else supply
    return checks.objection(decode_request(body_of(**request)), profile)


CHECKED = profile_of(sellers_rule=SellersRule.CHECKED)
REQUIRED = profile_of(sellers_rule=SellersRule.REQUIRED, chain_rule=ChainRule.COMPLETE)


def test_nothing_is_asked_unless_the_profile_asks():
    hostile = {
        "source": chain_of(("evil.example", "1"), complete=0),
        "device": {"ua": "Googlebot/"},
    }
    assert objection(DEFAULT_EXCHANGES[0], **hostile) is None
    assert not DEFAULT_EXCHANGES[0].checks_supply


@pytest.mark.parametrize(
    ("rule", "source", "field"),
    [
        (ChainRule.PRESENT, {}, "source.schain"),
        (ChainRule.PRESENT, chain_of(), "source.schain"),
        (ChainRule.PRESENT, chain_of(*DIRECT, complete=0), None),
        (ChainRule.COMPLETE, chain_of(*DIRECT, complete=0), "source.schain.complete"),
        (ChainRule.COMPLETE, chain_of(("exchange.example", "")), "source.schain.nodes"),
        (ChainRule.COMPLETE, chain_of(*DIRECT), None),
        (ChainRule.COMPLETE, {"ext": chain_of(*DIRECT)}, None),
        (ChainRule.OPTIONAL, {}, None),
    ],
)
def test_a_chain_must_be_what_the_profile_asks_for(rule, source, field):
    found = objection(profile_of(chain_rule=rule, chain_nodes_max=9), source=source)
    assert found == (field and (NoBidReason.SUPPLY_CHAIN_INCOMPLETE, field))


@pytest.mark.parametrize(
    ("blocked", "source", "field"),
    [
        (("reseller.example",), chain_of(*RESOLD), "source.schain.nodes"),
        (("reseller.example/42",), chain_of(("Reseller.example", 42)), "source.schain.nodes"),
        (("reseller.example/43",), chain_of(*RESOLD), None),
        (("reseller.example/42",), {"ext": chain_of(*RESOLD)}, "source.schain.nodes"),
        (("abc:1",), {"pchain": "xyz:9!ABC:1"}, "source.pchain"),
        (("xyz",), {"pchain": "xyz:9!abc:1"}, "source.pchain"),
        (("xy",), {"pchain": "xyz:9"}, None),
    ],
)
def test_a_blocked_seller_is_found_in_either_chain(blocked, source, field):
    found = objection(profile_of(chain_blocked=blocked), source=source, supply=NO_SUPPLY)
    assert found == (field and (NoBidReason.SUPPLY_CHAIN_BLOCKED, field))


def test_a_chain_may_be_too_long():
    profile = profile_of(chain_nodes_max=1)
    assert objection(profile, source=chain_of(*DIRECT)) is None
    assert objection(profile, source=chain_of(*RESOLD)) == (
        NoBidReason.SUPPLY_CHAIN_BLOCKED, "source.schain.nodes",
    )  # fmt: skip


def test_a_node_that_is_not_paid_is_no_seller():
    chain = msgspec.convert(
        {"nodes": [{"asi": " A.example ", "sid": 1}, {"asi": "b", "sid": "2", "hp": 0}]},
        SupplyChain,
    )
    assert nodes_of(chain) == (("a.example", "1"),)
    assert nodes_of(msgspec.convert({"nodes": [{"asi": "a"}]}, SupplyChain)) is None
    assert nodes_of(None) == ()


@pytest.mark.parametrize(
    ("request_parts", "expected"),
    [
        ({"site": SITE}, None),
        ({"site": SITE, "source": chain_of(*DIRECT)}, None),
        ({"site": SITE, "source": chain_of(*RESOLD)}, None),
        ({"site": {"page": "https://a.news.example/x", "publisher": {"id": "pub-1"}}}, None),
        ({"site": {**SITE, "domain": "unknown.example"}}, None),
        ({"site": None, "dooh": {"id": "screen"}}, None),
        (
            {"site": {**SITE, "publisher": {"id": "pub-2"}}},
            (NoBidReason.SELLER_NOT_AUTHORISED, "site.publisher.id"),
        ),
        (
            {"site": {**SITE, "publisher": {"id": "PUB-1"}}},
            (NoBidReason.SELLER_NOT_AUTHORISED, "site.publisher.id"),
        ),
        (
            {"site": SITE, "source": chain_of(("reseller.example", "41"), RESOLD[1])},
            (NoBidReason.SELLER_NOT_AUTHORISED, "source.schain.nodes.sid"),
        ),
        (
            {"site": SITE, "source": chain_of(RESOLD[0])},
            (NoBidReason.SUPPLY_CHAIN_BLOCKED, "source.schain.nodes.asi"),
        ),
        (
            {"site": SITE, "source": chain_of(("reseller.example", "43"), RESOLD[1])},
            (NoBidReason.SUPPLY_CHAIN_BLOCKED, "source.schain.nodes"),
        ),
        (
            {"site": None, "app": {"domain": "maker.example", "publisher": {"id": "app-8"}}},
            (NoBidReason.SELLER_NOT_AUTHORISED, "app.publisher.id"),
        ),
    ],
)
def test_the_publishers_file_and_the_sellers_own_decide(request_parts, expected):
    assert objection(CHECKED, **request_parts) == expected


def test_a_publisher_without_a_file_is_refused_only_where_one_is_required():
    unknown = {"site": {**SITE, "domain": "unknown.example"}, "source": chain_of(*DIRECT)}
    assert objection(CHECKED, **unknown) is None
    assert objection(REQUIRED, **unknown) == (NoBidReason.SELLERS_FILE_MISSING, "site.domain")


def test_a_publishers_claim_about_its_own_domain_is_not_believed():
    """Whoever sells a stolen page could name a domain whose ads.txt lists the thief."""
    site = {
        "page": "https://unknown.example/",
        "publisher": {"id": "pub-1", "domain": "news.example"},
    }
    assert objection(REQUIRED, site=site, source=chain_of(*DIRECT)) == (
        NoBidReason.SELLERS_FILE_MISSING, "site.domain",
    )  # fmt: skip


def test_a_reseller_is_refused_where_only_direct_sellers_may_sell():
    profile = profile_of(sellers_rule=SellersRule.CHECKED, accepts_resellers=False)
    assert objection(profile, site=SITE) is None
    assert objection(profile, site={**SITE, "publisher": {"id": "res-7"}}) == (
        NoBidReason.SELLER_NOT_AUTHORISED, "site.publisher.id",
    )  # fmt: skip


def test_an_inventory_partner_authorises_only_if_the_publisher_names_it(tmp_path):
    for name, text in (
        ("tv.example", "INVENTORYPARTNERDOMAIN=partner.example\n"),
        ("other.example", "x.example, 1, DIRECT\n"),
        ("partner.example", "exchange.example, p-1, DIRECT\n"),
    ):
        folder = tmp_path / "app-ads.txt"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.txt").write_text(text)
    supply = read_supply(tmp_path)

    def app(domain):
        return {
            "site": None,
            "app": {
                "domain": domain, "publisher": {"id": "p-1"},
                "inventorypartnerdomain": "partner.example",
            },
        }  # fmt: skip

    assert objection(CHECKED, supply=supply, **app("tv.example")) is None
    assert objection(CHECKED, supply=supply, **app("other.example")) is not None


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        ({"ua": "x GOOGLEBOT/2.1"}, (NoBidReason.CRAWLER, "device.ua")),
        ({"ip": "198.51.100.1"}, (NoBidReason.NON_HUMAN, "device.ip")),
        ({"ip": "192.0.2.1"}, (NoBidReason.DATACENTRE_IP, "device.ip")),
        ({"ipv6": "2001:db8:1::1"}, (NoBidReason.DATACENTRE_IP, "device.ipv6")),
        ({"ip": "203.0.113.1", "ua": "Mozilla/5.0"}, None),
        ({"ip": "not an address"}, None),
        ({}, None),
    ],
)
def test_who_is_no_human_is_known_from_the_operators_lists(device, expected):
    profile = profile_of(refuses_non_human=True)
    assert objection(profile, device=device) == expected
    assert objection(profile, device=device, supply=NO_SUPPLY) is None
