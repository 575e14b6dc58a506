"""The native renderer gives the bytes of ``bidder.answer``, whatever campaign or request say."""

from __future__ import annotations

import inspect
import random
from functools import cache
from time import perf_counter_ns

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bidder import server
from bidder.answer import CLICK_URL, IMPRESSION_URL, Answers, BidPlace, Special, respond
from bidder.native.kernels_render import BY_REQUEST, MISSING, NOTHING, TOO_LONG
from bidder.native.renderer import _MARKS, Renderer
from bidder.native.wire import Count
from bidder.native.wire import wire as new_wire
from market.decision import DECISION_DTYPE
from market.exchange import DEFAULT_EXCHANGES
from market.money import CURRENCY_NAMES, PRICE_CPM_MICROS_MAX
from market.notices import open_notice
from market.openrtb import Audio, Banner, BidResponse, Deal, Imp, Video
from market.openrtb_decode import decode_request
from tests.bidder.requests import body_of
from tests.bidder.services import BASE_URL, KEY, NOW_MS, service_of
from tests.bidder.worlds import campaigns_of, snapshot_of

pytestmark = pytest.mark.plain

HEAD = server.HEAD + b"content-length: "
PLAIN = DEFAULT_EXCHANGES[0]
ENCRYPTED = msgspec.structs.replace(DEFAULT_EXCHANGES[1], price_suffix="GOOG")
WORKER = 3

SEEDS = st.integers(0, 2**32)
# What may stand between two quotes without an escape; a reader bails on all else.
ID_CHARS = st.characters(min_codepoint=32, exclude_characters='"\\', exclude_categories=["Cs"])
IDS = st.text(ID_CHARS, min_size=1, max_size=40)
NASTY = (
    '"',
    "\\",
    "\n",
    "\x00",
    "\x7f",
    "é",
    "😀",
    "\u2028",
    "</script>",
    "@slot-",
    "@",
    "{{",
    "}}",
)
SLOTS = (IMPRESSION_URL, CLICK_URL)
OFFERED = {1: {"banner": Banner()}, 2: {"video": Video()}, 4: {"audio": Audio()}}
"""An imp of each format but native."""


def native_of(request, ver=None):
    """What the default path decodes of a native slot."""
    native = {"request": request, **({"ver": ver} if ver else {})}
    return decode_request(body_of({"banner": None, "native": native})).imp[0].native


TITLE = {"id": 7, "required": 1, "title": {"len": 90}}
MAIN = {"id": 8, "img": {"type": 3, "wmin": 1, "hmin": 1}}
TEXTS = [{"id": 9 + kind, "data": {"type": kind, "len": 20}} for kind in (1, 2, 12)]
TAKES_PIXEL = [{"event": 1, "methods": [1, 2]}]
MARKED = native_of({"ver": "1.2 @slot-07@", "assets": [TITLE]})
NATIVES = (
    native_of({"ver": "1.2", "assets": [TITLE, MAIN, *TEXTS], "eventtrackers": TAKES_PIXEL}),
    native_of(msgspec.json.encode({"ver": "1.2", "assets": [MAIN, TITLE]}).decode(), "1.2"),
    native_of(msgspec.json.encode({"native": {"ver": "1.0", "assets": [TITLE, MAIN]}}).decode()),
    native_of({"native": {"assets": [{"id": 1, "video": {"mimes": ["video/mp4"]}}, *TEXTS]}}),
    native_of({"assets": [], "eventtrackers": TAKES_PIXEL}, '1.2 "\\\n{{</script>é😀'),
    native_of({"ver": 1.1, "assets": [{"id": -3, "title": {"len": 6}}]}),
    MARKED,
)
"""Native slots; the key of each is its place and 1, 0 of one that the memo does not know."""


def markup_of(rng):
    """Markup with slots any number of times, and all that JSON must escape."""
    parts = rng.choices((*SLOTS, *SLOTS, *NASTY, "<div>", "x" * 300), k=rng.choice((0, 1, 5, 12)))
    return "".join(parts)


def nasty(rng, campaigns):
    """The campaigns with markup and texts that are hard to write."""

    def creative_of(creative):
        return msgspec.structs.replace(
            creative, adm=markup_of(rng) if creative.adm else "",
            language=rng.choice(("", "en", 'e"n')),
            attributes=tuple(rng.sample(range(1, 20), rng.choice((0, 0, 1, 3)))),
        )  # fmt: skip

    def line_item_of(line_item):
        creatives = tuple(creative_of(creative) for creative in line_item.creatives)
        seat = rng.choice(("", "agency", 'the "desk"', "agéncy"))
        return msgspec.structs.replace(line_item, creatives=creatives, seat=seat)

    return tuple(
        msgspec.structs.replace(
            campaign, line_items=tuple(line_item_of(item) for item in campaign.line_items)
        )
        for campaign in campaigns
    )


def snapshot_with(rng, count=6):
    while True:
        snapshot = snapshot_of(nasty(rng, campaigns_of(rng, count)))
        if snapshot.arrays.creatives.shape[0]:
            return snapshot


class Case:
    """One request that was decided, in the words of both paths."""

    def __init__(self, rng, snapshot, profile, request_id, imp_ids, deal_ids, is_test=False):
        self.profile, self.request_id, self.imp_ids = profile, request_id, imp_ids
        self.is_test, self.taxonomy = is_test, rng.choice((1, 1, 1, 6))
        count = len(imp_ids)
        body = bytearray(b"{")
        self.wire = new_wire()
        self.wire.counts[Count.TAXONOMY] = self.taxonomy

        def placed(text):
            first = len(body)
            body.extend(msgspec.json.encode(text))
            span = first, len(body)
            body.extend(b" , " * rng.choice((0, 1)))
            return span

        self.wire.spans[0] = placed(request_id)
        for n, imp_id in enumerate(imp_ids):
            self.wire.spans[1 + n] = placed(imp_id)
        for row, deal_id in enumerate(deal_ids):
            self.wire.deal_spans[row] = placed(deal_id)
        self.body = np.frombuffer(bytes(body) + bytes(32), np.uint8).copy()
        self.deal_ids = deal_ids
        self.slots = [rng.choice((*range(len(NATIVES)), 0, 1, 2)) for _ in imp_ids]
        for n, slot in enumerate(self.slots):
            self.wire.slot_keys[n] = rng.choice((0,) + 19 * (slot + 1,))
        self.decisions = np.zeros(count + 2, DECISION_DTYPE)
        self.decisions["line_item_row"] = self.decisions["creative_row"] = -1
        self.decisions["deal_index"] = -1
        currency = rng.choice(list(CURRENCY_NAMES))
        for n in range(count):
            if rng.random() < 0.8:
                self.decide(rng, snapshot, n, currency)

    def decide(self, rng, snapshot, n, currency):
        record, decision = self.wire.records[n], self.decisions[n]
        row = rng.randrange(snapshot.arrays.creatives.shape[0])
        creative = snapshot.arrays.creatives[row]
        item = snapshot.arrays.line_items[creative["line_item_row"]]
        record["arrival_ms"] = NOW_MS + rng.randrange(10**6)
        record["exchange"] = self.profile.exchange_id
        record["quantity_micros"] = rng.choice((10**6, 2_500_000))
        record["is_test"] = self.is_test
        record["deal_first"] = rng.randrange(len(self.deal_ids) + 1)
        record["deal_count"] = len(self.deal_ids) - record["deal_first"]
        decision["bid_hi"], decision["bid_lo"] = rng.getrandbits(64), rng.getrandbits(64)
        decision["line_item_row"], decision["creative_row"] = creative["line_item_row"], row
        rendition_count = len(snapshot.head.creatives[row].adms)
        decision["rendition_row"] = creative["rendition_first"] + rng.randrange(rendition_count)
        decision["ratio"] = rng.choice((0,) * 19 + (32 << 16 | 5,))
        for name in ("advertiser_id", "campaign_id", "line_item_id"):
            decision[name] = item[name]
        decision["creative_id"] = creative["creative_id"]
        decision["bid_cpm_micros"] = rng.choice(
            (1, 9, 10, 1_500_000, 2_000_000, rng.randrange(PRICE_CPM_MICROS_MAX + 1))
        )
        decision["reserved_micros"] = rng.randrange(10**9)
        decision["rate_micros"] = rng.choice((10**6, 6_700))
        life_ms = rng.choice((0, 999, 300_000, 1_800_000))
        decision["deadline_ms"] = record["arrival_ms"] + life_ms
        if record["deal_count"]:
            decision["deal_index"] = rng.randrange(-1, record["deal_count"])
        decision["bid_currency"], decision["account_currency"] = currency, 840
        decision["size"] = rng.choice((0, 300 << 16 | 250, 728 << 16, 90, 0xFFFFFFFF))
        decision["format"] = creative["format"]

    def rendered(self, renderer):
        """What the kernel wrote, or its code."""
        count = len(self.imp_ids)
        length = renderer.render(self.body, self.wire, self.decisions, count, self.profile)
        for _ in range(2 * count):
            if length <= MISSING:
                n = MISSING - length
                key, native = self.wire.slot_keys[n], NATIVES[self.slots[n]]
                renderer.make_native(self.decisions[n], key, native)
                length = renderer.render(self.body, self.wire, self.decisions, count, self.profile)
        return renderer.written(length) if length > 0 else length

    def expected(self, answers):
        """What the default path answers, with its HTTP head; None if nobody bids."""
        bids, currency = [], 0
        for n, imp_id in enumerate(self.imp_ids):
            record, decision = self.wire.records[n], self.decisions[n]
            if decision["line_item_row"] < 0:
                continue
            at = BidPlace(
                int(record["arrival_ms"]), self.profile.exchange_id,
                int(record["quantity_micros"]), int(self.is_test), WORKER,
                self.profile.price_suffix, self.taxonomy,
            )  # fmt: skip
            first = int(record["deal_first"])
            deals = tuple(Deal(id=deal) for deal in self.deal_ids[first:])
            slot = {"native": NATIVES[self.slots[n]]}
            imp = Imp(id=imp_id, **OFFERED.get(int(decision["format"]), slot))
            bids.append(answers.bid(imp, deals, decision.item(), at))
            currency = int(decision["bid_currency"])
        if not bids:
            return None
        body = respond(self.request_id, currency, bids)
        return HEAD + b"%d\r\n\r\n" % len(body) + body

    def drop_what_python_writes(self, snapshot):
        """Takes back the bids that the kernel leaves to the default path."""
        for n, decision in enumerate(self.decisions[: len(self.imp_ids)]):
            if self.is_left(snapshot, n):
                decision["line_item_row"] = decision["creative_row"] = -1

    def is_by_request(self, snapshot):
        return any(self.is_left(snapshot, n) for n in range(len(self.imp_ids)))

    def is_left(self, snapshot, n):
        """Whether the kernel leaves this bid to the default path."""
        decision = self.decisions[n]
        row = decision["creative_row"]
        if row < 0:
            return False
        text = snapshot.head.creatives[row]
        place = decision["rendition_row"] - snapshot.arrays.creatives["rendition_first"][row]
        has_mark = b"@slot-" in msgspec.json.encode((text.adms[place], text.language))
        is_renamed = bool(text.categories_by_taxonomy) and self.taxonomy != 1
        is_marked = NATIVES[self.slots[n]] is MARKED or self.wire.slot_keys[n] == 0
        is_open = text.native is not None and is_marked
        return is_open or has_mark or is_renamed or decision["ratio"] != 0


@cache
def shared():
    """A snapshot, its renderer and the default path's answers, for tests that change none."""
    snapshot = snapshot_with(random.Random(2), 12)
    return snapshot, *renderer_of(snapshot)


def renderer_of(snapshot, **rest):
    answers = Answers(snapshot, BASE_URL, KEY)
    return Renderer(answers, snapshot, KEY, WORKER, HEAD, **rest), answers


def case_of(rng, snapshot, count=None):
    return Case(
        rng, snapshot, rng.choice((PLAIN, ENCRYPTED)), "request",
        [f"imp {n}" for n in range(count or rng.choice((1, 1, 2, 5)))],
        [f"deal {n}" for n in range(rng.choice((0, 2)))],
        rng.random() < 0.5,
    )  # fmt: skip


def same(case, renderer, answers, snapshot):
    """Whether the renderer wrote the answer, which must then be the same, rather than leave it."""
    found = case.rendered(renderer)
    if case.is_by_request(snapshot):
        assert found == BY_REQUEST
        return False
    expected = case.expected(answers)
    if expected is None:
        assert found == NOTHING
        return False
    assert found == expected
    return True


def test_thousands_of_answers_are_those_of_the_default_path():
    rng = random.Random(1)
    written = 0
    for _ in range(25):
        snapshot = snapshot_with(rng)
        renderer, answers = renderer_of(snapshot)
        cases = [case_of(rng, snapshot) for _ in range(100)]
        written += sum(same(case, renderer, answers, snapshot) for case in cases)
    assert written > 1_000


@settings(max_examples=60)
@given(SEEDS, IDS, st.lists(IDS, min_size=1, max_size=4), st.lists(IDS, max_size=3), st.booleans())
def test_ids_of_any_text_that_needs_no_escape_are_copied_as_they_came(
    seed, request_id, imp_ids, deal_ids, is_test
):
    rng = random.Random(seed)
    snapshot, renderer, answers = shared()
    case = Case(rng, snapshot, PLAIN, request_id, imp_ids, deal_ids, is_test)
    same(case, renderer, answers, snapshot)


@settings(max_examples=15)
@given(SEEDS)
def test_a_response_of_sixty_four_bids_of_several_seats_is_grouped_alike(seed):
    rng = random.Random(seed)
    snapshot, renderer, answers = shared()
    case = case_of(rng, snapshot, 64)
    case.drop_what_python_writes(snapshot)
    assert same(case, renderer, answers, snapshot)
    assert case.rendered(renderer).count(b'"seat"') > 1


@pytest.mark.parametrize("body", [
    body_of(),
    body_of({"qty": {"multiplier": 2.5}, "id": "Ümlaut"}, test=1, cur=["EUR"], id="r 2"),
    body_of({}, {"banner": None, "video": {"mimes": ["video/mp4"], "protocols": [2, 7]}}, {}),
    body_of({"pmp": {"private_auction": 1, "deals": [
        {"id": "other"}, {"id": "some-deal-id", "bidfloor": 0.5}
    ]}}),
    body_of({}, {"pmp": {"deals": [{"id": "some-deal-id"}]}}, cattax=6),
])  # fmt: skip
def test_a_request_that_was_really_decided_is_answered_as_the_service_does(body):
    service = service_of(worker=WORKER)
    answered = service.answer(body, PLAIN, NOW_MS)
    assert answered.status == 200
    request = decode_request(body)
    offer = service._edge.read(request, PLAIN, NOW_MS)
    count = len(offer.imps)
    text = msgspec.json.encode(msgspec.json.decode(body))
    wire = new_wire()
    wire.counts[Count.TAXONOMY] = request.cattax or 1
    wire.records[:count] = offer.opportunities.records

    def span(name):
        first = text.index(msgspec.json.encode(name))
        return first, first + len(msgspec.json.encode(name))

    wire.spans[0] = span(request.id)
    for n, (imp, deals) in enumerate(zip(offer.imps, offer.deals, strict=True)):
        wire.spans[1 + n] = span(imp.id)
        for place, deal in enumerate(deals, wire.records[n]["deal_first"]):
            wire.deal_spans[place] = span(deal.id)
    snapshot = service._decider.snapshot
    renderer = Renderer(Answers(snapshot, BASE_URL, KEY), snapshot, KEY, WORKER, b"")
    array = np.frombuffer(text, np.uint8).copy()
    length = renderer.render(array, wire, service.desk.decisions, count, PLAIN)
    assert renderer.written(length) == answered.body


def test_a_signature_made_in_the_kernel_opens_and_a_changed_one_does_not():
    snapshot, renderer, _ = shared()
    rng = random.Random(3)
    while True:
        case = case_of(rng, snapshot, 1)
        answer = case.rendered(renderer)
        if not isinstance(answer, int):
            break
    response = msgspec.json.decode(answer.partition(b"\r\n\r\n")[2], type=BidResponse)
    (bid,) = response.seatbid[0].bid
    for url in (bid.nurl, bid.burl, bid.lurl):
        _, _, kind, signed = url.removeprefix(BASE_URL).partition("?")[0].split("/")
        opened, token = open_notice(KEY, kind, signed)
        assert opened.name.lower() == kind
        assert token.bid_hi == case.decisions[0]["bid_hi"]
        assert (token.worker, token.is_test) == (WORKER, int(case.is_test))
        with pytest.raises(Exception, match="signature"):
            open_notice(KEY, "click" if kind != "click" else "win", signed)


def test_fragments_are_found_again_after_a_swap_and_the_answers_are_those_of_the_new_snapshot():
    rng = random.Random(5)
    first, second = snapshot_with(rng), snapshot_with(rng, 9)
    renderer, answers = renderer_of(first)
    cases = [case_of(rng, first) for _ in range(60)]
    for case in cases:
        same(case, renderer, answers, first)
    used = renderer._pool_used
    for snapshot in (second, first):
        answers = Answers(snapshot, BASE_URL, KEY)
        renderer.swap(answers, snapshot)
        for case in [case_of(rng, snapshot) for _ in range(60)]:
            same(case, renderer, answers, snapshot)
    answers = Answers(first, BASE_URL, KEY)
    renderer.swap(answers, first)
    grown = renderer._pool_used
    assert grown > used
    for case in cases:
        same(case, renderer, answers, first)
    assert renderer._pool_used == grown, "nothing is written twice"


def test_a_pool_that_is_too_small_starts_over_and_never_gives_a_wrong_answer():
    rng = random.Random(6)
    snapshot = snapshot_with(rng, 12)
    renderer, answers = renderer_of(snapshot, pool_bytes=14_000)
    left, over = 0, 0
    for _ in range(150):
        case = case_of(rng, snapshot, rng.choice((1, 2, 40)))
        case.drop_what_python_writes(snapshot)
        before = renderer._pool_used
        found, expected = case.rendered(renderer), case.expected(answers)
        over += renderer._pool_used < before
        if isinstance(found, int):
            left += found == TOO_LONG
            assert found == TOO_LONG or found <= MISSING or expected is None
        else:
            assert found == expected
    assert over
    assert left, "a response of many creatives did not fit such a pool"


def test_an_answer_that_may_not_fit_is_left_and_nothing_was_written():
    rng = random.Random(8)
    snapshot, _, _ = shared()
    renderer, answers = renderer_of(snapshot, answer_bytes=4_000)
    renderer.out[:] = 7
    seen = set()
    for _ in range(200):
        case = case_of(rng, snapshot, rng.choice((1, 3)))
        case.drop_what_python_writes(snapshot)
        found, expected = case.rendered(renderer), case.expected(answers)
        seen.add(found if isinstance(found, int) else "written")
        if found == TOO_LONG:
            assert len(expected) > 2_500, "the bound is close"
            assert (renderer.out == 7).all()
        elif not isinstance(found, int):
            assert found == expected
            renderer.out[:] = 7
    assert {TOO_LONG, "written"} <= seen


def test_an_answer_whose_length_has_fewer_digits_than_its_bound_is_moved_up():
    # Around 1,000 and 10,000 bytes the bound has a digit more than the length.
    rng = random.Random(9)
    snapshot, renderer, answers = shared()
    lengths = set()
    for k in range(4_000):
        case = case_of(rng, snapshot, 1 + k % 5)
        case.drop_what_python_writes(snapshot)
        if case.expected(answers) is not None:
            found = case.rendered(renderer)
            assert found == case.expected(answers)
            lengths.add(len(str(len(found.partition(b"\r\n\r\n")[2]))))
        if len(lengths) > 1 and k > 400:
            break
    assert len(lengths) > 1


def test_without_a_head_the_body_alone_is_written():
    rng = random.Random(10)
    snapshot, _, answers = shared()
    renderer = Renderer(answers, snapshot, KEY, WORKER, b"")
    written = 0
    for _ in range(50):
        case = case_of(rng, snapshot)
        case.drop_what_python_writes(snapshot)
        found, expected = case.rendered(renderer), case.expected(answers)
        if not isinstance(found, int):
            assert expected.endswith(b"\r\n\r\n" + found)
            written += 1
    assert written > 10


def test_a_swap_to_ten_thousand_line_items_does_not_stall_a_worker():
    snapshot, _, _ = shared()
    renderer, _ = renderer_of(snapshot)
    arrays = snapshot.arrays
    large = snapshot._replace(
        arrays=arrays._replace(
            creatives=np.resize(arrays.creatives, 30_000),
            line_items=np.resize(arrays.line_items, 10_000),
        )
    )
    spent_ms = []
    for _ in range(5):
        start_ns = perf_counter_ns()
        renderer.swap(Answers(large, BASE_URL, KEY), large)
        spent_ms.append((perf_counter_ns() - start_ns) / 1e6)
    assert min(spent_ms) < 20


def test_every_argument_of_a_bid_has_a_mark():
    arguments = set(inspect.signature(Answers.fill).parameters) - {"self", "shown", "special"}
    assert arguments == set(_MARKS), "what differs between bids needs a slot in the renderer"
    is_seen = {"native", "ratio", "slotinpod", "taxonomy"}
    assert set(Special._fields) == is_seen, "what is special must be left to answer.py"


def native_case(rng, snapshot, count=None):
    """A request of which every imp that is bid on gets a native ad that the kernel can write."""
    case = case_of(rng, snapshot, count)
    case.drop_what_python_writes(snapshot)
    for decision in case.decisions:
        row = decision["creative_row"]
        if row >= 0 and snapshot.head.creatives[row].native is None:
            decision["line_item_row"] = decision["creative_row"] = -1
    return case


def native_count(case):
    return int((case.decisions["line_item_row"] >= 0).sum())


def test_native_ads_for_every_slot_are_those_of_the_default_path():
    rng = random.Random(11)
    snapshot, _, _ = shared()
    renderer, answers = renderer_of(snapshot)
    met = set()
    for _ in range(600):
        case = native_case(rng, snapshot)
        if same(case, renderer, answers, snapshot):
            bids = np.flatnonzero(case.decisions["line_item_row"] >= 0)
            met |= {(case.profile.name, case.slots[n]) for n in bids}
    slots = {slot for slot, native in enumerate(NATIVES) if native is not MARKED}
    assert met == {(profile.name, slot) for profile in (PLAIN, ENCRYPTED) for slot in slots}


def test_a_native_ad_is_made_once_for_a_slot_and_again_after_a_swap():
    rng = random.Random(12)
    snapshot, _, _ = shared()
    renderer, answers = renderer_of(snapshot)
    cases = [
        case for case in (native_case(rng, snapshot) for _ in range(300)) if native_count(case)
    ]
    for case in cases:
        assert same(case, renderer, answers, snapshot)
    used = renderer._pool_used

    def direct(case):
        count = len(case.imp_ids)
        return renderer.render(case.body, case.wire, case.decisions, count, case.profile)

    assert all(direct(case) > 0 for case in cases)
    renderer.swap(answers, snapshot)
    assert all(direct(case) <= MISSING for case in cases)
    for case in cases:
        assert same(case, renderer, answers, snapshot)
    assert renderer._pool_used == used, "nothing is written twice"


def test_a_table_of_native_ads_that_is_full_is_emptied_and_never_gives_a_wrong_one():
    rng = random.Random(13)
    snapshot, _, _ = shared()
    renderer, answers = renderer_of(snapshot, native_places=8)
    emptied = before = 0
    for _ in range(300):
        case = native_case(rng, snapshot, rng.choice((1, 2)))
        assert same(case, renderer, answers, snapshot) == (native_count(case) > 0)
        filled = int(np.count_nonzero(renderer.fragments.native_keys))
        assert filled <= 4
        emptied += filled < before
        before = filled
    assert emptied > 3
    case = native_case(rng, snapshot, 64)
    assert native_count(case) > 8
    assert case.rendered(renderer) <= MISSING, "more at once than it holds are left to answer.py"
