"""Requests as exchanges print them behave as their manifest says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from market.errors import BadInput
from market.openrtb_decode import (
    decode_request,
    decode_request_reporting,
    native_request_of,
)
from market.openrtb_reading import (
    consent_of,
    eids_of,
    gdpr_of,
    schain_of,
    us_privacy_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from market.openrtb import BidRequest, Imp

REQUESTS = Path(__file__).resolve().parents[2].parent / "shared" / "requests"
MANIFEST: list[dict[str, Any]] = (
    json.loads((REQUESTS / "manifest.json").read_text()) if REQUESTS.is_dir() else []
)
REFUSED = {  # faults of serving, section "malformed": no JSON, no imp array, an empty one
    "007_spec_impl_L611_pod.txt",
    "051_tricky_garbage.json",
    "053_tricky_runt.json",
    "091_pbsinv_imp-empty-array.json",
    "095_pbsinv_malformed-bid-request.json",
    "100_pbsinv_only-request-id.json",
    "104_pbsinv_tmax-negative.json",
}


def imps(has: Callable[[Imp], object]) -> Callable[[BidRequest], bool]:
    return lambda request: any(has(imp) for imp in request.imp)


def geo_of(request: BidRequest) -> object:
    return (request.device and request.device.geo) or (request.user and request.user.geo)


# What each feature of the manifest means, read through the types.
FEATURES: dict[str, Callable[[BidRequest], object]] = {
    "acat": lambda request: request.acat,
    "app": lambda request: request.app,
    "audio": imps(lambda imp: imp.audio),
    "badv": lambda request: request.badv,
    "banner": imps(lambda imp: imp.banner),
    "bcat": lambda request: request.bcat,
    "bseat": lambda request: request.bseat,
    "consent": consent_of,
    "coppa": lambda request: request.regs and request.regs.coppa is not None,
    "cur": lambda request: request.cur,
    "deals": imps(lambda imp: imp.pmp and imp.pmp.deals),
    "dooh": lambda request: request.dooh,
    "eids": eids_of,
    "floor": imps(lambda imp: imp.bidfloor),
    "floor-cur": imps(lambda imp: imp.bidfloorcur),
    "gdpr": lambda request: gdpr_of(request) is not None,
    "geo": geo_of,
    "ipv6": lambda request: request.device and request.device.ipv6,
    "lmt/dnt": lambda request: request.device and (request.device.lmt or request.device.dnt),
    "metric": imps(lambda imp: imp.metric),
    "multi-imp": lambda request: len(request.imp) > 1,
    "native": imps(lambda imp: imp.native),
    "pmp": imps(lambda imp: imp.pmp),
    "qty": imps(lambda imp: imp.qty and imp.qty.multiplier),
    "schain": schain_of,
    "segments": lambda request: request.user and request.user.data and request.user.data[0].segment,
    "site": lambda request: request.site,
    "sua": lambda request: request.device and request.device.sua,
    "test": lambda request: request.test,
    "tmax": lambda request: request.tmax,
    "us_privacy": us_privacy_of,
    "video": imps(lambda imp: imp.video),
    "wseat": lambda request: request.wseat,
}


def body_of(name: str) -> bytes:
    body = (REQUESTS / name).read_bytes()
    return gzip.decompress(body) if name.endswith(".gz") else body


@pytest.fixture(autouse=True)
def _shared_requests() -> None:
    if not MANIFEST:
        pytest.skip("missing: ../shared/requests, the real request bodies")


def test_the_manifest_lists_every_body() -> None:
    listed = {entry["file"] for entry in MANIFEST}
    assert listed == {path.name for path in REQUESTS.iterdir()} - {"README.md", "manifest.json"}
    assert len(listed) == 43
    assert listed >= REFUSED


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["file"])
def test_a_body_is_a_request_unless_there_is_nothing_to_answer(entry: dict[str, Any]) -> None:
    body = body_of(entry["file"])
    if entry["file"] in REFUSED:
        with pytest.raises(BadInput, match="bid request: "):
            decode_request(body)
        return
    assert entry["parses"], "only a body that is JSON may become a request"
    request = decode_request(body)
    printed = json.loads(body)
    assert request.id == printed["id"]
    assert [imp.id for imp in request.imp] == [imp["id"] for imp in printed["imp"]]
    for feature in entry["features"]:
        assert FEATURES[feature](request), feature


def test_a_gzip_body_is_no_request_before_it_is_inflated() -> None:
    with pytest.raises(BadInput, match="JSON"):
        decode_request((REQUESTS / "134_gzip_AppWithDomain.json.gz").read_bytes())


@pytest.mark.parametrize("entry", MANIFEST, ids=lambda entry: entry["file"])
def test_only_the_source_that_is_a_file_name_is_dropped(entry: dict[str, Any]) -> None:
    if entry["file"] in REFUSED:
        return
    request, dropped = decode_request_reporting(body_of(entry["file"]))
    if entry["file"] == "016_ex_appnexus.json":
        assert [part.pointer for part in dropped] == ["/source"]
        assert request.source is None
    else:
        assert dropped == ()


def test_numbers_sent_as_floats_are_integers() -> None:
    request = decode_request(body_of("055_tricky_problem.json"))
    banner = request.imp[0].banner
    assert banner is not None
    assert (request.tmax, banner.w, banner.h) == (86, 300, 250)
    assert banner.battr is not None
    assert all(type(code) is int for code in banner.battr)


@pytest.mark.parametrize(
    ("name", "asset_count"),
    [
        ("032_ex_nexageNativeContentStreamWithVideo.json", 5),  # the object itself in imp.native
        ("080_pbs_eventtracker-exchange-specific.json", 4),  # a string in native.request
        ("107_pbsout_aceex_native.json", 4),
        ("132_bsm_breq.native.json", None),  # a string that is no JSON
    ],
)
def test_native_assets_are_found_wherever_they_stand(name: str, asset_count: int | None) -> None:
    native = decode_request(body_of(name)).imp[0].native
    assert native is not None
    asked = native_request_of(native)
    assert (None if asked is None else len(asked.assets or ())) == asset_count
