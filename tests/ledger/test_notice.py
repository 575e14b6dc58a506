"""Notices: what their URLs say is read exactly, and what cannot be read is refused."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.notice import (
    CLICK_PARAMETER,
    ORDER_CHARS_MAX,
    Charging,
    bid_from_token,
    fill_notice_event,
    landing_location,
    open_path,
    read_notice,
)
from ledger.notice_price import Fault, Prices, Unreadable
from ledger.reservation import reservation_of
from market.chance import code_of
from market.errors import BadInput, Forbidden
from market.events import EVENT_DTYPE, EventFlag, EventKind, event_id
from market.exchange import DEFAULT_EXCHANGES, ExchangeProfile
from market.notices import (
    MACROS,
    NOTICE_KINDS,
    QUERY_MACROS,
    QUERY_ORDER,
    QUERY_VALUE,
    notice_path,
    open_notice,
    sign,
)
from market.opportunity import Format
from market.protocols import Notice
from tests.ledger.bids import BANNER, VIDEO, bid_event, token_of

KEY = b"k" * 32
EVENT = bid_event(5, reserved=150, deadline_ms=900, bid_ms=100, shown=BANNER)
TOKEN = token_of(EVENT)
CHARGING = Charging(DEFAULT_EXCHANGES)
PRICES = Prices(DEFAULT_EXCHANGES, {})


def read(kind, query, token=TOKEN):
    return read_notice(kind, token, query, CHARGING, PRICES, 777)


# Paths.


@pytest.mark.parametrize("kind", NOTICE_KINDS)
def test_a_signed_path_opens_to_its_kind_and_token(kind):
    path = notice_path(kind, *sign(KEY, TOKEN)).encode()
    assert open_path(KEY, path) == (kind, TOKEN)


@pytest.mark.parametrize("path", [b"/", b"/n/", b"/n/billing", b"/n/billing/x/y", b"/x/billing/t"])
def test_a_path_of_another_shape_is_no_notice(path):
    with pytest.raises(BadInput):
        open_path(KEY, path)


def test_every_changed_character_of_a_path_is_refused():
    path = notice_path(EventKind.BILLING, *sign(KEY, TOKEN))
    for at in range(len("/n/billing/"), len(path)):
        changed = path[:at] + ("A" if path[at] != "A" else "B") + path[at + 1 :]
        with pytest.raises(Forbidden):
            open_path(KEY, changed.encode())
    with pytest.raises(Forbidden):
        open_path(KEY, path.replace("billing", "win").encode())
    with pytest.raises(Forbidden):
        open_path(b"j" * 32, path.encode())
    with pytest.raises(Forbidden):
        open_path(KEY, "/n/billing/\u00e9".encode())


# Which notice charges.


def test_the_profile_says_which_notice_charges():
    charging = Charging(
        (
            ExchangeProfile(
                name="odd", exchange_id=4, charging={"banner": "win", "audio": "billing"}
            ),
        )
    )
    assert charging.kind(4, Format.BANNER) is EventKind.WIN
    assert charging.kind(4, Format.AUDIO) is EventKind.BILLING


def test_without_a_profile_banners_charge_by_billing_and_videos_by_impression():
    assert CHARGING.kind(99, Format.BANNER) is EventKind.BILLING
    assert CHARGING.kind(99, Format.NATIVE) is EventKind.BILLING
    assert CHARGING.kind(99, Format.VIDEO) is EventKind.IMPRESSION
    assert CHARGING.kind(99, Format.AUDIO) is EventKind.IMPRESSION


# Queries.


def test_a_charging_notice_has_its_price_exactly():
    assert read(EventKind.BILLING, b"p=1.234567") == Notice(
        EventKind.BILLING, 5, 6, 777, price_cpm_micros=1_234_567
    )
    assert read(EventKind.BILLING, b"x=1&p=0.0000001&y").price_cpm_micros == 1
    assert read(EventKind.BILLING, b"p=%31%2E5").price_cpm_micros == 1_500_000


@pytest.mark.parametrize(
    "query",
    [
        b"", b"p=", b"p=${AUCTION_PRICE}", b"p=%24%7BAUCTION_PRICE%7D", b"p=abc", b"p=-1", b"p=nan",
        b"p=inf", b"p=sNaN", b"p=1e9", b"p=1e-999999999999999999999", b"p=0x1", b"P=1", b"p=1,5",
        b"p=\xff", b"p=%ff",
    ],
)  # fmt: skip
def test_a_charging_notice_whose_price_cannot_be_read_is_refused(query):
    with pytest.raises(BadInput):
        read(EventKind.BILLING, query)


@pytest.mark.parametrize("query", [b"", b"p=", b"p=${AUCTION_PRICE}"])
def test_a_notice_that_does_not_charge_need_not_tell_its_price(query):
    assert read(EventKind.WIN, query).price_cpm_micros == 0
    assert read(EventKind.IMPRESSION, query).price_cpm_micros == 0
    with pytest.raises(BadInput):
        read(EventKind.IMPRESSION, query, TOKEN._replace(format=VIDEO))


@pytest.mark.parametrize("name", QUERY_MACROS)
def test_a_test_render_means_nothing_whichever_macro_says_so(name):
    audit = f"&{name}=AUDIT".encode()
    for kind in NOTICE_KINDS:
        query = b"p=1&l=102" + audit
        is_exchanges = kind is not EventKind.CONVERSION
        assert (read(kind, query) is None) == is_exchanges
    assert read(EventKind.CONVERSION, b"o=AUDIT") is not None


def test_a_win_tells_the_least_price_that_would_have_won():
    assert read(EventKind.WIN, b"p=2&m=1.5").min_to_win_cpm_micros == 1_500_000
    assert read(EventKind.WIN, b"p=2&m=").min_to_win_cpm_micros == 0


def test_what_is_told_for_confirmation_is_read():
    told = read(EventKind.BILLING, b"p=2&c=usd&q=0.5&t=700&a=70&r=0.9&d=10&e=0.2&i=x&b=y&n=z&s=")
    assert told == Notice(
        EventKind.BILLING, 5, 6, 777, price_cpm_micros=2_000_000, multiplier_micros=500_000,
        shown_ms=700,
    )  # fmt: skip


@pytest.mark.parametrize("query", [b"d=10&e=0.2", b"d=10", b"e=0.2"])
def test_the_price_is_after_discount_so_none_is_taken_off_again(query):
    assert read(EventKind.BILLING, b"p=1.8&" + query).price_cpm_micros == 1_800_000


@pytest.mark.parametrize("query", [b"c=EUR", b"c=XXX", b"c=840", b"q=1.000001", b"q=2", b"a=71"])
def test_a_notice_that_contradicts_its_bid_is_marked(query):
    said = read(EventKind.BILLING, b"p=1&" + query)
    assert said.is_contradictory
    assert said.unread_count == 0


@pytest.mark.parametrize("query", [b"c=USD", b"c=usd", b"q=1", b"q=1.0", b"q=0.25", b"a=70", b"c="])
def test_a_notice_that_agrees_with_its_bid_is_not_marked(query):
    assert not read(EventKind.BILLING, b"p=1&" + query).is_contradictory


@pytest.mark.parametrize(
    "query",
    [
        b"q=0", b"q=-1", b"q=x", b"q=nan", b"q=1e99", b"t=x", b"t=0", b"t=9e15", b"t=inf", b"r=x",
        b"d=10%25", b"e=-", b"t=1e999999999", b"t=snan", b"q=snan",
    ],
)  # fmt: skip
def test_what_is_told_for_confirmation_and_cannot_be_read_is_ignored_and_counted(query):
    token = TOKEN._replace(bid_ms=1_000_000)
    said = read_notice(EventKind.BILLING, token, b"p=1&" + query, CHARGING, PRICES, 1_000_777)
    assert said == Notice(
        EventKind.BILLING, 5, 6, 1_000_777, price_cpm_micros=1_000_000, unread_count=1
    )


@pytest.mark.parametrize("query", [b"m=x", b"m=-1", b"m=nan", b"m=1e9"])
def test_a_least_price_that_cannot_be_read_costs_neither_a_win_nor_a_release(query):
    win = read(EventKind.WIN, b"p=1&" + query)
    assert (win.price_cpm_micros, win.min_to_win_cpm_micros, win.unread_count) == (10**6, 0, 1)
    loss = read(EventKind.LOSS, b"l=102&" + query)
    assert (loss.reason, loss.price_cpm_micros, loss.unread_count) == (102, 0, 1)


def test_macros_without_a_value_are_empty_and_say_nothing():
    """OpenRTB 2.6 4.4: a value that was not specified is a string of length zero."""
    for kind in (EventKind.WIN, EventKind.IMPRESSION):
        empty = re.sub(r"\$\{\w+\}", "", MACROS[kind])[1:].encode()
        assert read(kind, empty) == Notice(kind, 5, 6, 777)
        assert read(kind, MACROS[kind][1:].encode()) == Notice(kind, 5, 6, 777)
    assert read(EventKind.LOSS, b"l=&p=&m=") == Notice(EventKind.LOSS, 5, 6, 777)
    assert read(EventKind.BILLING, b"p=1&c=&q=&t=") == Notice(
        EventKind.BILLING, 5, 6, 777, price_cpm_micros=1_000_000
    )


def test_every_macro_of_openrtb_has_a_parameter_of_its_own():
    assert set(QUERY_MACROS.values()) == {
        f"AUCTION_{name}"
        for name in (
            "ID", "BID_ID", "IMP_ID", "SEAT_ID", "AD_ID", "PRICE", "CURRENCY", "MBR", "LOSS",
            "MIN_TO_WIN", "MULTIPLIER", "IMP_TS", "DISCOUNT_PCT", "DISCOUNT_CPM",
        )
    }  # fmt: skip
    assert not QUERY_MACROS.keys() & {QUERY_ORDER, QUERY_VALUE}
    for query in MACROS.values():
        for name, macro in re.findall(r"(\w+)=\$\{(\w+)\}", query):
            assert QUERY_MACROS[name] == macro


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        (b"", Fault.PRICE_MISSING), (b"p=", Fault.PRICE_MISSING), (b"p=-1", Fault.PRICE_UNREADABLE),
        (b"p=nan", Fault.PRICE_UNREADABLE), (b"p=1_0", Fault.PRICE_UNREADABLE),
        (b"p=+1", Fault.PRICE_UNREADABLE), (b"p=%D9%A1", Fault.PRICE_UNREADABLE),
        (b"p=\xff", Fault.QUERY), (b"p=" + b"A" * 38, Fault.PRICE_ENCRYPTED),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_notice_has_a_name(query, fault):
    with pytest.raises(Unreadable) as found:
        read(EventKind.BILLING, query)
    assert found.value.fault is fault


def test_a_loss_notice_tells_reason_and_price_to_win():
    assert read(EventKind.LOSS, b"l=102&p=&m=2.5") == Notice(
        EventKind.LOSS, 5, 6, 777, price_cpm_micros=2_500_000, reason=102
    )
    untold = read(EventKind.LOSS, b"l=${AUCTION_LOSS}&m=${AUCTION_MIN_TO_WIN}")
    assert (untold.reason, untold.price_cpm_micros) == (0, 0)


@pytest.mark.parametrize(
    "query", [b"l=x", b"l=-1", b"l=65536", b"l=1.0", b"l=%D9%A1", b"l=" + b"9" * 99]
)
def test_a_loss_notice_that_cannot_be_read_is_refused(query):
    with pytest.raises(BadInput):
        read(EventKind.LOSS, query)


def test_a_conversion_has_an_order_and_a_value_to_the_nearest_micro():
    assert read(EventKind.CONVERSION, b"o=A-1&v=19.99") == Notice(
        EventKind.CONVERSION, 5, 6, 777, order_id="A-1", value_micros=19_990_000
    )
    assert read(EventKind.CONVERSION, b"o=a%26b+c&v=0.0000015").order_id == "a&b c"
    assert read(EventKind.CONVERSION, b"v=0.0000016").value_micros == 2
    assert read(EventKind.CONVERSION, b"").value_micros == 0


@pytest.mark.parametrize(
    "query", [b"v=x", b"v=-1", b"v=nan", b"v=1e10", b"v=1e999999", b"o=" + b"x" * 201]
)
def test_a_conversion_that_cannot_be_read_is_refused(query):
    assert ORDER_CHARS_MAX == 200
    with pytest.raises(BadInput):
        read(EventKind.CONVERSION, query)


@given(st.sampled_from(NOTICE_KINDS), st.binary(max_size=60))
def test_any_query_is_read_or_refused_and_never_fails(kind, query):
    try:
        notice = read(kind, b"p=1&" + query)
    except BadInput:
        return
    assert notice is None or (notice.price_cpm_micros >= 0 and notice.value_micros >= 0)


@given(
    st.sampled_from(NOTICE_KINDS),
    st.lists(
        st.tuples(
            st.sampled_from([*QUERY_MACROS, QUERY_ORDER, QUERY_VALUE]),
            st.one_of(
                st.text(max_size=12), st.floats().map(str), st.integers().map(str),
                st.decimals().map(str),
            ),
        ),
        max_size=6,
    ),
)  # fmt: skip
def test_any_values_of_macros_are_read_or_refused_and_never_fail(kind, told):
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in told).encode()
    try:
        notice = read(kind, query)
    except Unreadable:
        return
    assert notice is None or notice.price_cpm_micros >= 0 <= notice.multiplier_micros


@given(st.text(min_size=1, max_size=50))
def test_any_order_id_survives_the_url(order_id):
    query = f"o={quote(order_id, safe='')}".encode()
    assert read(EventKind.CONVERSION, query).order_id == order_id


# Clicks.


@pytest.mark.parametrize(
    ("page", "before", "after"),
    [
        ("https://shop.example/a", "https://shop.example/a?", ""),
        ("https://shop.example/a?x=1", "https://shop.example/a?x=1&", ""),
        ("https://shop.example/a?x=1#top", "https://shop.example/a?x=1&", "#top"),
        ("https://shop.example", "https://shop.example?", ""),
    ],
)
def test_a_click_leads_to_the_landing_page_with_what_conversions_need(page, before, after):
    location = landing_location(KEY, TOKEN, page)
    assert location.startswith(f"{before}{CLICK_PARAMETER}=")
    assert location.endswith(after)
    signed = parse_qs(urlsplit(location).query)[CLICK_PARAMETER][0]
    assert open_notice(KEY, "conversion", signed) == (EventKind.CONVERSION, TOKEN)


# Events.


def test_a_notices_event_is_its_bids_with_what_the_notice_says():
    body = bytearray(EVENT.tobytes())
    said = Notice(EventKind.BILLING, 5, 6, 321, price_cpm_micros=88_000, reason=3)
    assert fill_notice_event(body, said, 88, EventFlag.CHARGED, 0) == 0
    event = np.frombuffer(body, EVENT_DTYPE)[0]
    changed = {
        "kind": EventKind.BILLING, "ts_ms": 321, "recv_ms": 321, "price_cpm_micros": 88_000,
        "amount_micros": 88, "flags": EventFlag.CHARGED, "reason": 3,
    }  # fmt: skip
    for name in EVENT_DTYPE.names:
        if name in changed:
            assert event[name] == changed[name], name
        elif name not in ("id_hi", "id_lo"):
            assert np.array_equal(event[name], EVENT[name][0]), name
    assert (int(event["id_hi"]), int(event["id_lo"])) == event_id(EventKind.BILLING, 5, 6)


def test_a_win_s_event_keeps_what_would_just_have_won():
    for told, kept in ((70_000, 70_000), (0, int(EVENT["floor_cpm_micros"][0]))):
        body = bytearray(EVENT.tobytes())
        said = Notice(EventKind.WIN, 5, 6, 321, 88_000, min_to_win_cpm_micros=told)
        fill_notice_event(body, said, 0, 0, 0)
        event = np.frombuffer(body, EVENT_DTYPE)[0]
        assert (event["price_cpm_micros"], event["floor_cpm_micros"]) == (88_000, kept)


def test_two_orders_of_one_bid_are_two_events_with_their_values():
    ids = set()
    for order_id in ("A", "B"):
        body = bytearray(EVENT.tobytes())
        said = Notice(EventKind.CONVERSION, 5, 6, 321, order_id=order_id, value_micros=9)
        assert fill_notice_event(body, said, 0, 0, 0) == code_of(order_id)
        event = np.frombuffer(body, EVENT_DTYPE)[0]
        assert (event["value_micros"], event["order_code"]) == (9, code_of(order_id))
        ids.add((int(event["id_hi"]), int(event["id_lo"])))
    assert len(ids) == 2


def test_a_token_tells_of_its_bid_what_a_settlement_needs():
    token = token_of(bid_event(5, reserved=150, budgets=(3, 4), worker=2, rate=9, is_test=True))
    event = np.frombuffer(bid_from_token(token, [3, 4]), EVENT_DTYPE)
    bid = reservation_of(event.tobytes())
    assert (bid.reserved_micros, bid.budgets, bid.worker, bid.rate_micros) == (150, [3, 4], 2, 9)
    assert (bid.is_test, bid.deadline_ms, bid.format) == (True, 1_000, BANNER)
    assert (event["bid_hi"], event["bid_lo"], event["weight"]) == (5, 6, 1.0)
    assert (event["advertiser_id"], event["creative_id"]) == (1, 70)
