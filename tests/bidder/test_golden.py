"""Golden bids: requests and the whole answer to them, one feature a file, readable as a manual.

``tests/golden/bid/exemplary`` holds what is bid on, ``supplemental`` what is not, and why. All are
answered with the shipped catalogue on 14 November 2023, 22:13 UTC; bid ids and signatures, which
depend on keys, are masked. What a case needs besides it says itself:

- ``profile``: what its exchange does otherwise (``market.exchange.ExchangeProfile``)
- ``campaign``, ``line_items``: only these line items of the catalogue (by id) bid, changed so; the
  campaign fields are changed in all their campaigns
- ``landscapes``: price landscapes (``market.landscape``)
- ``supply``: the operator's supply files, a folder of ``tests/golden/supply``
- ``tcf_vendor_id``: the bidder's number in the IAB's global vendor list

Where a request has privacy signals, ``forbidden`` names the uses of the user that they forbid.

After a change that is meant to change answers:

    python -m tests.bidder.test_golden

writes the answers anew; read the difference before you keep it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest

from bidder.catalogue import read_catalogue
from bidder.privacy import PRIVACY_FIELDS, Use, is_zeroed, permission_of
from bidder.supply_chain import read_supply
from market.campaign import Campaign, check
from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES, ExchangeProfile, check_profiles
from market.landscape import Landscape
from market.openrtb_decode import decode_request
from tests.bidder.services import NOW_MS, service_of

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "bid"
SUPPLY = FOLDER.parent / "supply"
CASES = sorted(FOLDER.glob("*/*.json"))
_SIGNED = re.compile(r"(/n/[a-z]+/)[A-Za-z0-9_-]{126}")
_BID_ID = re.compile(r'"[0-9a-f]{32}"')


def campaigns_of(case):
    """The catalogue, or only the line items that the case names, with its changes."""
    if "line_items" not in case:
        return read_catalogue()
    kept = []
    for campaign in msgspec.to_builtins(read_catalogue()):
        items = [
            {**item, **case["line_items"][str(item["line_item_id"])]}
            for item in campaign["line_items"]
            if str(item["line_item_id"]) in case["line_items"]
        ]
        if items:
            changed = {**campaign, **case.get("campaign", {}), "line_items": items}
            kept.append(check(msgspec.convert(changed, Campaign)))
    return tuple(kept)


def bidder(case):
    """The profile of a case's exchange, and a fresh service for it."""
    profile = msgspec.convert(
        {
            **msgspec.to_builtins(check_profiles(DEFAULT_EXCHANGES)[case["exchange"]]),
            **case.get("profile", {}),
        },
        ExchangeProfile,
    )
    check_profiles((profile,))
    landscapes = msgspec.convert(case.get("landscapes", []), tuple[Landscape, ...])
    service = service_of(
        campaigns_of(case),
        landscapes=landscapes,
        supply=read_supply(SUPPLY / case["supply"] if "supply" in case else None),
    )
    service._edge._tcf_vendor_id = case.get("tcf_vendor_id")
    return profile, service


def masked(text):
    """The body of an answer without what depends on keys; None where there is no body."""
    signed = _SIGNED.sub(r"\1<signed>", text)
    return json.loads(_BID_ID.sub('"<bid id>"', signed)) if signed else None


def answer(case):
    """What a fresh bidder says to a case: status, response or None, and the reasons of no-bids."""
    profile, service = bidder(case)
    request = decode_request(json.dumps(case["request"]).encode())
    permission = permission_of(request, case.get("tcf_vendor_id"))
    forbidden = {use.name.lower(): permission[use] for use in Use if permission[use]}
    examined = service.examine(request, profile, NOW_MS)
    answered = service.conclude(examined, profile)
    return {
        **({"forbidden": forbidden} if has_privacy_signal(case["request"]) else {}),
        "status": answered.status,
        "response": masked(answered.body.decode()),
        "no_bids": [
            {"imp_index": each.imp_index, "reason": each.reason.name, "field": each.field}
            for each in examined.refusals
        ],
    }


def has_privacy_signal(request):
    """Whether a request says anything that a permission depends on."""

    def value(path):
        at = request
        for name in path.split("."):
            at = at.get(name) if isinstance(at, dict) else None
        return at

    return any(value(path) is not None for path in PRIVACY_FIELDS) or is_zeroed(value("device.ifa"))


@pytest.mark.parametrize("path", CASES, ids=[f"{p.parent.name}/{p.stem}" for p in CASES])
def test_the_answer_to_a_golden_request_is_what_its_file_says(path):
    case = json.loads(path.read_text())
    assert answer(case) == case["expected"], case["about"]


def test_exemplary_cases_bid_and_supplemental_ones_do_not():
    assert len(CASES) >= 12
    for path in CASES:
        expected = json.loads(path.read_text())["expected"]
        has_bid = bool((expected["response"] or {}).get("seatbid"))
        assert has_bid == (path.parent.name == "exemplary"), path.name
        assert all(each["reason"] in NoBidReason.__members__ for each in expected["no_bids"])


def _write():
    for path in CASES:
        case = json.loads(path.read_text())
        case["expected"] = answer(case)
        path.write_text(json.dumps(case, indent=2) + "\n")


if __name__ == "__main__":
    _write()
