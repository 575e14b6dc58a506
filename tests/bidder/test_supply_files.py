"""The operator's supply files: what is read of them, and how a wrong one is named."""

from __future__ import annotations

import ipaddress
import json

import pytest

from bidder.supply_files import Seller, read_supply_files, sellers_list
from market.addresses import AddressRanges
from market.errors import BadInput


def test_an_ads_txt_lists_accounts_owners_and_partners():
    listed = sellers_list(
        "# comment\r\n"
        "Exchange.example, 1, direct, f08c # our own\n"
        "exchange.example,2,RESELLER;extension\n"
        "exchange.example, 2, DIRECT\n"
        "exchange.example, 1, RESELLER\n"
        "exchange.example, 3, PARTNER\n"
        "exchange.example\n"
        "OWNERDOMAIN=House.example\n"
        "managerdomain=manager.example, US\n"
        "INVENTORYPARTNERDOMAIN=partner.example\n"
        "<html>\n"
    )
    assert listed.relations == {
        ("exchange.example", "1"): "DIRECT", ("exchange.example", "2"): "DIRECT",
    }  # fmt: skip
    assert listed.owners == {"house.example", "manager.example"}
    assert listed.partners == {"partner.example"}


def test_a_folder_is_read_as_it_lies(tmp_path):
    (tmp_path / "ads.txt").mkdir()
    (tmp_path / "sellers.json").mkdir()
    (tmp_path / "ads.txt" / "News.example.txt").write_text("\ufeffx.example, 1, DIRECT\n")
    sellers = [
        {"seller_id": 7, "seller_type": "both", "domain": "A.example"},
        {"seller_id": "8", "seller_type": "PUBLISHER", "domain": "b.example", "is_confidential": 1},
    ]
    (tmp_path / "sellers.json" / "x.example.json").write_text(json.dumps({"sellers": sellers}))
    (tmp_path / "crawlers.txt").write_text("Googlebot/\n\n# none\n")
    (tmp_path / "datacentres.txt").write_text("192.0.2.0/25 # racks\n2001:db8::/32\n")
    files = read_supply_files(tmp_path)
    assert files.ads_txt["news.example"].relations == {("x.example", "1"): "DIRECT"}
    assert files.sellers_json["x.example"] == {
        "7": Seller("BOTH", "a.example"), "8": Seller("PUBLISHER", ""),
    }  # fmt: skip
    assert files.crawlers == ("googlebot/",)
    assert "192.0.2.127" in files.datacentres
    assert "192.0.2.128" not in files.datacentres
    assert not files.app_ads_txt


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("adstxt", "", "'adstxt' is not known"),
        ("ads.txt", "", "'ads.txt' is a file"),
        ("ads.txt/news.example", "", "files are named by their domain"),
        ("sellers.json/x.example.json", "{", "sellers.json of x.example"),
        ("sellers.json/x.example.json", '{"sellers": 1}', "sellers.json of x.example"),
        (
            "sellers.json/x.example.json",
            '{"sellers": [{"seller_id": 1, "seller_type": "OWNER"}]}',
            "/sellers/0/seller_type is 'OWNER'",
        ),
        ("datacentres.txt", "10.0.0.0/8\n10.0.0/8\n", "datacentres.txt line 2"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, name, text, told):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    with pytest.raises(BadInput, match=told):
        read_supply_files(tmp_path)


def test_text_that_is_no_unicode_and_a_missing_folder_are_named(tmp_path):
    (tmp_path / "crawlers.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="crawlers"):
        read_supply_files(tmp_path)
    with pytest.raises(BadInput, match="missing or no folder"):
        read_supply_files(tmp_path / "nowhere")


def test_ranges_hold_their_ends_and_nothing_beside_them():
    ranges = AddressRanges(
        map(ipaddress.ip_network, ("10.0.0.0/30", "10.0.0.2/31", "10.0.0.8/32", "2001:db8::/127"))
    )
    inside = [n for n in range(16) if f"10.0.0.{n}" in ranges]
    assert inside == [0, 1, 2, 3, 8]
    assert "2001:db8::1" in ranges
    assert "2001:db8::2" not in ranges
    assert " 10.0.0.8 " in ranges
    for no_address in ("", "10.0.0", "10.0.0.999", "abc", "10.0.0.1/30"):
        assert no_address not in ranges
