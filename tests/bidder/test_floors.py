"""Deals and floors as rows: what is laid out for the kernel, and what is dropped."""

from __future__ import annotations

import msgspec
import pytest

from bidder.codes import CodeBook
from bidder.floors import currency_of, deal_row, duration_floors, imp_duration_floors
from market.chance import code_of
from market.exchange import DEFAULT_EXCHANGES
from market.openrtb import Deal, DurFloors, Imp
from market.opportunity import DEAL_DTYPE

PROFILE = msgspec.structs.replace(DEFAULT_EXCHANGES[0], auction_types={"500": 1})


def row_of(**deal):
    pool = []
    row = deal_row(msgspec.convert(deal, Deal), PROFILE, CodeBook(), pool)
    return row and (dict(zip(DEAL_DTYPE.names, row, strict=True)), pool)


def imp_of(**imp):
    return msgspec.convert({"id": "1", **imp}, Imp)


def test_a_deal_keeps_its_own_floor_currency_seats_and_domains():
    row, pool = row_of(
        id="a", bidfloor=2, bidfloorcur="gbp ", at=3, wseat=["s1", 2], wadomain=["shop.example"],
        guar=1,
    )  # fmt: skip
    assert row["code"] == code_of("a")
    assert (row["floor_cpm_micros"], row["floor_currency"]) == (2_000_000, 826)
    assert (row["auction_type"], row["is_guaranteed"]) == (3, 1)
    seats = pool[row["seat_first"] : row["seat_first"] + row["seat_count"]]
    domains = pool[row["domain_first"] : row["domain_first"] + row["domain_count"]]
    assert seats == [code_of("s1"), code_of("2")]
    assert domains == [code_of("shop.example")]


def test_what_a_deal_does_not_say_is_the_imps_but_for_its_currency():
    row, _ = row_of(id=7)
    assert row["code"] == code_of("7")
    assert (row["floor_cpm_micros"], row["floor_currency"]) == (-1, 840)
    assert (row["auction_type"], row["is_guaranteed"]) == (0, 0)


@pytest.mark.parametrize(
    "deal",
    [
        {"id": float("nan")},
        {"id": "a", "bidfloor": -0.1},
        {"id": "a", "mincpmpersec": -1},
        {"id": "a", "durfloors": [{"maxdur": 9, "bidfloor": 1}, {"mindur": 1, "bidfloor": -1}]},
        {"id": "a", "at": 501},
        {"id": "a", "at": 4},
    ],
)
def test_a_deal_that_cannot_be_priced_is_dropped(deal):
    assert row_of(**deal) is None


def test_an_auction_type_of_the_exchange_is_read_by_its_profile():
    assert row_of(id="a", at=500)[0]["auction_type"] == 1


def test_floors_by_duration_are_triples_in_the_pool():
    pool = [99]
    floors = duration_floors(
        0.25,
        [DurFloors(mindur=1, maxdur=15, bidfloor=5.0), DurFloors(mindur=31), DurFloors(maxdur=-3)],
        pool,
    )
    assert floors == (250_000, 1, 3)
    assert pool == [99, 1_000, 15_000, 5_000_000, 31_000, 0, 0, 0, 0, 0]


def test_no_floors_take_no_place():
    pool = [1]
    assert duration_floors(None, None, pool) == (0, 0, 0)
    assert duration_floors(0.0, [], pool) == (0, 0, 0)
    assert duration_floors(1.0, None, pool) == (1_000_000, 0, 0)
    assert pool == [1]


def test_an_imps_floors_are_by_video_and_audio():
    pool = []
    imp = imp_of(video={"mincpmpersec": 0.1}, audio={"durfloors": [{"maxdur": 30, "bidfloor": 2}]})
    assert imp_duration_floors(imp, pool) == (100_000, 0, 0, 0, 0, 1)
    assert pool == [0, 30_000, 2_000_000]
    assert imp_duration_floors(imp_of(banner={}), pool) == (0,) * 6


def test_a_negative_floor_by_duration_is_named_by_its_object():
    for name in ("video", "audio"):
        imp = imp_of(**{name: {"mincpmpersec": -1}})
        assert imp_duration_floors(imp, []) == f"imp.{name}.durfloors|mincpmpersec"


def test_a_floors_currency_is_usd_when_unsaid_and_0_when_unknown():
    assert [currency_of(name) for name in (None, "", "eur", " GBP ", "XXX")] == [
        840, 840, 978, 826, 0,
    ]  # fmt: skip
