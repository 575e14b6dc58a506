"""The reader gives what the default edge gives, byte for byte, or it bails.

The default path (``decode_request`` and ``Edge.read``) is the slow twin. A body is read twice: what
the memo tables missed is remembered in between, as the worker does it.
"""

from __future__ import annotations

import json

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bidder.edge import Edge
from bidder.native.reader import Reader, profile_record
from bidder.native.wire import CODES_MAX, IMPS_MAX, TEXT_MAX, Bail, Count
from market.chance import code_of
from market.errors import BadInput
from market.exchange import DEFAULT_EXCHANGES, ChainRule, ExchangeProfile
from market.openrtb_decode import decode_request
from tests.bidder.native.bodies import FULL, full_with, golden_bodies, mutated, real_bodies

NOW_MS = 1_700_000_000_000
PLAIN = DEFAULT_EXCHANGES[0]
STRICT = ExchangeProfile(
    name="strict", exchange_id=77, currency="EUR", auction_types={"900": 1, "501": 2},
    chain_rule=ChainRule.COMPLETE, chain_blocked=("blocked.example",), chain_nodes_max=3,
)  # fmt: skip
MISSES = {Bail.PRIVACY_MISS, Bail.SLOT_MISS, Bail.AGENT_MISS, Bail.SUPPLY_MISS}
REAL = real_bodies()
GOLDEN = golden_bodies()
SALT = b"salt"


class Pair:
    """A reader and the edge it must agree with."""

    def __init__(self):
        self.reader = Reader(SALT, (0x1234, 0x5678))
        self.edge = Edge(SALT)

    def hold(self, deals):
        self.edge.deals_held = None if deals is None else frozenset(deals)
        self.reader.memory.hold(deals)

    def cause(self, body, profile=PLAIN, now_ms=NOW_MS):
        """Reads ``body`` both ways, checks that they agree; says why the reader did not read."""
        try:
            request = decode_request(body)
        except BadInput:
            request = None
        cause = self.reader.read(body, profile, now_ms)
        if request is None:
            assert cause not in (Bail.READ, *MISSES), body
            return cause
        if cause in MISSES:
            assert self.reader.remember(request, profile) > 0
            cause = self.reader.read(body, profile, now_ms)
            assert cause not in MISSES, body
        if cause is Bail.READ:
            self.compare(body, request, self.edge.read(request, profile, now_ms))
        return cause

    def compare(self, body, request, offer):
        wire = self.reader.wire
        counts = wire.counts
        records, block = wire.records[: counts[Count.RECORDS]], offer.opportunities
        assert self.reader.refusals() == offer.refusals, body
        whole = [refusal.reason for refusal in offer.refusals if refusal.imp_index < 0]
        assert counts[Count.REQUEST_REFUSAL] == (whole[0] if whole else 0)
        for name in records.dtype.names:
            assert records[name].tolist() == block.records[name].tolist(), (name, body)
        assert records.tobytes() == block.records.tobytes()
        if not whole:
            pool = block.codes.tolist() if counts[Count.CODES] else []
            assert wire.codes[: counts[Count.CODES]].tolist() == pool, body
            deals = block.deals.tolist() if counts[Count.DEALS] else []
            assert wire.deals[: counts[Count.DEALS]].tolist() == deals, body
        self.compare_ids(body, request, offer)

    def compare_ids(self, body, request, offer):
        wire = self.reader.wire
        counts = wire.counts
        assert json.loads(body[slice(*wire.spans[0])]) == request.id
        for n, imp in enumerate(offer.imps):
            assert json.loads(body[slice(*wire.spans[1 + n])]) == imp.id
            assert wire.imp_index[n] == offer.imp_indexes[n]
            if offer.deals[n]:
                first = int(wire.records[n]["deal_first"])
                assert json.loads(body[slice(*wire.deal_spans[first])]) == offer.deals[n][0].id
        assert counts[Count.IMPS] == len(request.imp)
        assert counts[Count.IS_TEST] == (request.test == 1)
        assert counts[Count.TMAX_MS] == max(request.tmax or 0, 0)


@pytest.fixture(scope="module")
def pair():
    return Pair()


@pytest.mark.parametrize("profile", [PLAIN, STRICT], ids=lambda profile: profile.name)
@pytest.mark.parametrize(
    ("name", "body"), [*REAL, *GOLDEN], ids=[name for name, _ in [*REAL, *GOLDEN]]
)
def test_a_printed_body_is_read_as_the_default_edge_reads_it(pair, name, body, profile):
    pair.hold(None)
    pair.cause(body, profile)


@pytest.mark.skipif(not REAL, reason="../shared/requests is missing")
def test_nearly_every_real_body_is_read_natively_once_it_was_seen(pair):
    pair.hold(None)
    causes = {name: pair.cause(body) for name, body in REAL}
    bailed = {name: cause.name for name, cause in causes.items() if cause is not Bail.READ}
    allowed = {"MALFORMED", "REQUIRED"}  # what the default path answers with 400
    assert {name: cause for name, cause in bailed.items() if cause not in allowed} == {}
    assert sum(cause is Bail.READ for cause in causes.values()) >= 34


def test_a_body_that_says_everything_is_read(pair):
    pair.hold(None)
    for profile in (PLAIN, STRICT):
        assert pair.cause(full_with(), profile) is Bail.READ
    for deals in ((), ("deal-1",), ("deal-4", "deal-1", "other")):
        pair.hold([code_of(deal) for deal in deals])
        assert pair.cause(full_with()) is Bail.READ


@pytest.mark.parametrize(
    "changes",
    [
        {"at": 900}, {"at": 501}, {"at": 0}, {"at": 3}, {"at": -7}, {"cattax": 6}, {"cattax": None},
        {"cattax": 2, "bcat": [""]}, {"cur": []}, {"cur": ["", " "]}, {"cur": ["XXX"]},
        {"cur": None},
        {"wlang": None, "wlangb": ["fr-CA", "fr", "-", "nl_BE"]}, {"wlang": []},
        {"device": None}, {"user": None}, {"user": {}}, {"device": {}},
        {"device": {"langb": "de-AT"}},
        {"site": None}, {"site": None, "app": {"bundle": "com.example", "domain": "example.org"}},
        {"site": None, "app": {"domain": "example.org"}}, {"app": {}}, {"dooh": {}},
        {"site": None, "dooh": {"domain": "screens.example", "keywords": "mall"}},
        {"site": {"domain": ""}}, {"site": {"domain": "localhost"}},
        {"site": {"domain": "WWW.A.B.C"}},
        {"site": {"domain": "a..b"}}, {"site": {"cattax": 7, "cat": ["1", "", "22"]}},
        {"regs": {"coppa": 1}}, {"regs": {"gdpr": 1}}, {"regs": {"ext": {"us_privacy": "1YYN"}}},
        {"user": {"id": "unknown", "buyeruid": "0-0 0"}},
        {"device": {"ifa": "00000000-0000-0000-0000-000000000000"}, "user": {"id": "x",
        "yob": 1990}},
        {"user": {"eids": [{}], "ext": {"eids": [{"source": "a"}]}}},
        {"user": {"eids": [], "ext": {"eids": [{"source": "a"}]}}},
        {"user": {"yob": 2300}}, {"user": {"yob": -5}}, {"source": "text"}, {"source": None},
        {"device": {"geo": {"lat": 91, "lon": 0}}}, {"device": {"geo": {"lat": 0, "lon": 0}}},
        {"device": {"geo": {"lat": 1.5, "lon": 2.5, "ipservice": 1, "accuracy": 10**12}}},
        {"device": {"geo": {"lat": 90, "lon": -180, "utcoffset": 99999}}},
        {"device": {"geo": {"lat": 37.789398193359375, "lon": -122.39423370361328}}},
        {"device": {"sua": {"model": "Pixel", "platform": {"brand": "Android",
        "version": ["13"]}}}},
        {"tmax": 120.0, "test": 1.0, "bcat": [25, "IAB1"]}, {"tmax": "120", "test": "1"},
    ],
)  # fmt: skip
def test_a_variant_is_read_as_the_default_edge_reads_it(pair, changes):
    pair.hold(None)
    for profile in (PLAIN, STRICT):
        assert pair.cause(full_with(**changes), profile) in (Bail.READ, Bail.SUPPLY)


@pytest.mark.parametrize("now_ms", [0, 951_782_399_999, 951_782_400_000, 1_704_067_199_999,
                                    1_704_067_200_000, 4_107_542_399_999])  # fmt: skip
def test_the_hour_and_the_age_are_those_of_the_arrival(pair, now_ms):
    pair.hold(None)
    assert pair.cause(full_with(), now_ms=now_ms) is Bail.READ


BASES = [json.loads(body) for _, body in GOLDEN] + [FULL, FULL]
for _, body in REAL:
    try:
        BASES.append(json.loads(body))
    except ValueError:
        continue


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(
    mutated([base for base in BASES if isinstance(base, dict)]), st.sampled_from([PLAIN, STRICT])
)
def test_a_mutated_body_is_read_alike_or_handed_over(pair, body, profile):
    pair.hold(None)
    pair.cause(body, profile)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", Bail.MALFORMED),
        (b"[]", Bail.MALFORMED),
        (b'{"id":"1"}', Bail.REQUIRED),
        (b'{"id":"1","imp":[]}', Bail.REQUIRED),
        (b'{"id":"1","imp":[{}]}', Bail.REQUIRED),
        (b'{"id":1,"imp":[{"id":"1"}]}', Bail.REQUIRED),
        (b'{"id":"","imp":[{"id":"1"}]}', Bail.REQUIRED),
        (b'{"id":"\\u0061","imp":[{"id":"1"}]}', Bail.ESCAPE),
        (b'{"id":"1","i\\u006dp":[{"id":"1"}]}', Bail.ESCAPE),
        (b'{"id":"1","id":"2","imp":[{"id":"1"}]}', Bail.DUPLICATE),
        (b'{"id":"1","imp":[{"id":"1"}]} x', Bail.MALFORMED),
        (b'{"id":"1","imp":[{"id":"1","bidfloor":-1}]}', Bail.SLOT),
        (b'{"id":"1","imp":[{"id":"1","bidfloor":NaN}]}', Bail.TYPE),
        (b'{"id":"1","imp":[{"id":"1","bidfloor":1e400}]}', Bail.NUMBER),
        (b'{"id":"1","at":1.5,"imp":[{"id":"1"}]}', Bail.NUMBER),
        (b'{"id":"1","at":true,"imp":[{"id":"1"}]}', Bail.TYPE),
        (b'{"id":"1","bcat":"IAB1","imp":[{"id":"1"}]}', Bail.TYPE),
        (b'{"id":"1","bcat":[null],"imp":[{"id":"1"}]}', Bail.TYPE),
        (b'{"id":"1","site":[{}],"imp":[{"id":"1"}]}', Bail.TYPE),
        (b'{"id":"1","ext":{"x":1e300},"imp":[{"id":"1"}]}', Bail.NUMBER),
        (b'{"id":"1","ext":"\xff","imp":[{"id":"1"}]}', Bail.ENCODING),
        (b'{"id":"1","ext":"\\ud800","imp":[{"id":"1"}]}', Bail.ENCODING),
        (b'{"id":"1","ext":' + b"[" * 900 + b"]" * 900 + b',"imp":[{"id":"1"}]}', Bail.DEPTH),
        (b'{"id":"1","imp":[{"id":"1","pmp":{"deals":[{"id":"d","durfloors":[{}]}]}}]}',
        Bail.UNREAD),
        (b'{"id":"1","imp":[{"id":"1","pmp":{"deals":[{"id":7}]}}]}', Bail.REQUIRED),
        ('{"id":"1","user":{"id":"\u212anown"},"imp":[{"id":"1"}]}'.encode(), Bail.TEXT),
        ('{"id":"1","site":{"keywords":"a,\u00a0b"},"imp":[{"id":"1"}]}'.encode(), Bail.TEXT),
        (b'{"id":"1","user":{"keywords":"a\\u001fb"},"imp":[{"id":"1"}]}', Bail.TEXT),
        (b'{"id":"1","app":{"bundle":0},"imp":[{"id":"1"}]}', Bail.TEXT),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_handed_over_with_its_cause(pair, body, cause):
    pair.hold(None)
    assert pair.cause(body) is cause


@pytest.mark.parametrize("pod", [{"podid": "p"}, {"maxseq": 3}, {"poddur": 60}])
def test_a_pod_is_handed_over_because_its_records_depend_on_each_other(pair, pod):
    pair.hold(None)
    video = {**FULL["imp"][0]["video"], **pod}
    assert pair.cause(full_with(imp=[{"id": "1", "video": video}])) is Bail.SLOT


def test_what_does_not_fit_is_handed_over(pair):
    pair.hold(None)
    imps = [{"id": str(n), "banner": {"w": 1, "h": 1}} for n in range(IMPS_MAX)]
    assert pair.cause(full_with(imp=imps)) is Bail.READ
    more = [*imps, {"id": "one more", "banner": {"w": 1, "h": 1}}]
    assert pair.cause(full_with(imp=more)) is Bail.CAPACITY
    deals = {"deals": [{"id": f"d{n}"} for n in range(2)]}
    assert pair.cause(full_with(imp=[{**imp, "pmp": deals} for imp in imps])) is Bail.CAPACITY
    assert pair.cause(full_with(badv=["x"] * (CODES_MAX + 1))) is Bail.CAPACITY
    many = [f"d{n}" for n in range(CODES_MAX // 2)]
    sale = {"deals": [{"id": "a", "wseat": many}, {"id": "b", "wseat": many}]}
    assert pair.cause(full_with(imp=[{**imps[0], "pmp": sale}])) is Bail.CAPACITY
    assert pair.cause(full_with(id="x" * TEXT_MAX)) is Bail.CAPACITY
    assert pair.cause(full_with(badv=["\u00e9" * TEXT_MAX])) is Bail.CAPACITY


def test_a_string_of_a_megabyte_is_no_trouble_where_nobody_looks(pair):
    pair.hold(None)
    assert pair.cause(full_with(ext={"x": "y" * 2**20})) is Bail.READ
    assert pair.cause(full_with(badv=["y" * 2**20])) is Bail.READ


def test_bytes_behind_the_body_are_another_request(pair):
    """A pipelined request lies behind the body: what was cut off must not be taken from there."""
    pair.hold(None)
    body = full_with()
    assert pair.cause(body) is Bail.READ
    for last in range(len(body)):
        assert pair.reader.read(body[:last], PLAIN, NOW_MS) in (Bail.MALFORMED, Bail.TYPE)


def test_verdicts_are_kept_apart_by_exchange(pair):
    fresh = Pair()
    body = full_with()
    assert fresh.reader.read(body, PLAIN, NOW_MS) in MISSES
    assert fresh.cause(body, PLAIN) is Bail.READ
    assert fresh.reader.read(body, STRICT, NOW_MS) in MISSES


def test_a_user_who_may_not_be_known_leaves_no_trace_in_the_records(pair):
    pair.hold(None)
    assert pair.cause(full_with(regs={"gdpr": 1})) is Bail.READ
    record = pair.reader.wire.records[0]
    assert record["user_key"] == 0
    assert record["latitude_e6"] == 0
    assert record["list_count"][0] == 0


def test_a_full_table_is_emptied_and_filled_anew(monkeypatch):
    fresh = Pair()
    fresh.hold(None)
    memory = fresh.reader.memory
    monkeypatch.setattr("bidder.native.memo.SLOTS_MAX", 3)
    for width in range(1, 12):
        body = full_with(imp=[{"id": "1", "banner": {"w": width, "h": 50}}])
        assert fresh.cause(body) is Bail.READ
        assert np.count_nonzero(memory.tables.keys[2]) <= 3


def test_forgotten_verdicts_are_missed_again(pair):
    fresh = Pair()
    fresh.hold(None)
    assert fresh.cause(full_with()) is Bail.READ
    fresh.reader.memory.forget()
    assert fresh.reader.read(full_with(), PLAIN, NOW_MS) in MISSES
    assert fresh.cause(full_with()) is Bail.READ


def test_a_profile_that_is_too_long_for_its_record_names_the_rule():
    long = msgspec.structs.replace(PLAIN, name="x" * 300)
    with pytest.raises(BadInput, match="300 bytes"):
        profile_record(long, (1, 2))
    many = msgspec.structs.replace(PLAIN, auction_types={str(500 + n): 1 for n in range(65)})
    with pytest.raises(BadInput, match="auction_types has 65"):
        profile_record(many, (1, 2))


def test_records_of_slots_that_ask_the_same_have_one_key_and_others_have_others():
    native = {"native": {"request": '{"assets":[{"id":1,"title":{"len":90}}]}'}}
    spaced = {"native": {"request": '{"assets": [{"id":1,"title":{"len":90}}]}'}}
    imps = [
        {"id": "1", "tagid": "top", "bidfloor": 1.5, **native},
        {"id": "2", **native, "pmp": {"deals": [{"id": "deal-1"}, {"id": "deal-2"}]}},
        {"id": "3", **spaced},
        {"id": "4", "banner": {"w": 300, "h": 250}, **native},
        {"id": "5", "native": {**native["native"], "ver": "1.1"}},
    ]
    body = full_with(imp=imps)
    pair = Pair()
    seen = []
    for profile in (PLAIN, DEFAULT_EXCHANGES[1]):
        assert pair.cause(body, profile) is Bail.READ
        wire = pair.reader.wire
        count = int(wire.counts[Count.RECORDS])
        assert wire.imp_index[:count].tolist() == [0, 1, 1, 1, 2, 3, 4]
        by_imp = {}
        for imp, key in zip(wire.imp_index[:count], wire.slot_keys[:count], strict=True):
            by_imp.setdefault(int(imp), set()).add(int(key))
        assert by_imp[0] == by_imp[1]
        assert all(len(keys) == 1 for keys in by_imp.values())
        seen += {key for keys in by_imp.values() for key in keys}
    assert len(set(seen)) == len(seen) == 2 * 4
    assert 0 not in seen
