"""Golden bids: requests and the whole answer to them, one feature a file, readable as a manual.

``tests/golden/bid/exemplary`` holds what is bid on, ``supplemental`` what is not, and why. All are
answered with the shipped catalogue on 14 November 2023, 22:13 UTC; bid ids and signatures, which
depend on keys, are masked. After a change that is meant to change answers:

    python -m tests.bidder.test_golden

writes the answers anew; read the difference before you keep it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from market.decision import NoBidReason
from market.exchange import DEFAULT_EXCHANGES, check_profiles
from market.openrtb_decode import decode_request
from tests.bidder.services import NOW_MS, service_of

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "bid"
CASES = sorted(FOLDER.glob("*/*.json"))
_SIGNED = re.compile(r"(/n/[a-z]+/)[A-Za-z0-9_-]{126}")
_BID_ID = re.compile(r'"[0-9a-f]{32}"')


def answer(case):
    """What a fresh bidder says to a case: status, response or None, and the reasons of no-bids."""
    service = service_of()
    profile = check_profiles(DEFAULT_EXCHANGES)[case["exchange"]]
    request = decode_request(json.dumps(case["request"]).encode())
    examined = service.examine(request, profile, NOW_MS)
    answered = service.conclude(examined, profile)
    text = _SIGNED.sub(r"\1<signed>", answered.body.decode())
    return {
        "status": answered.status,
        "response": json.loads(_BID_ID.sub('"<bid id>"', text)) if text else None,
        "no_bids": [
            {"imp_index": each.imp_index, "reason": each.reason.name, "field": each.field}
            for each in examined.refusals
        ],
    }


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
