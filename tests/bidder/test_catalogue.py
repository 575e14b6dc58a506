"""Campaign files: the one that ships is sound, and a bad one says where and why."""

from __future__ import annotations

import msgspec
import pytest

from bidder.catalogue import Catalogue, read_catalogue
from market.errors import BadInput


def test_the_shipped_catalogue_has_every_format_three_currencies_deals_and_seats():
    campaigns = read_catalogue()
    items = [item for campaign in campaigns for item in campaign.line_items]
    formats = {creative.format for item in items for creative in item.creatives}
    assert formats == {"banner", "video", "audio", "native"}
    assert {campaign.currency for campaign in campaigns} >= {"USD", "EUR", "GBP"}
    assert any(item.deals for item in items)
    assert any(item.seat for item in items)


def test_a_json_file_reads_as_its_toml_twin(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(msgspec.json.encode(Catalogue(read_catalogue())))
    assert read_catalogue(path) == read_catalogue()


def test_a_missing_file_is_bad_input(tmp_path):
    with pytest.raises(BadInput, match=r"campaign file none\.toml"):
        read_catalogue(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"currency": "ZZZ"}, "/campaigns/0/currency"),
        ({"campaign_id": 0}, "campaign_id 0; must be > 0"),
        ({"colour": "red"}, "unknown field"),
    ],
)
def test_a_broken_campaign_is_named(tmp_path, changes, message):
    campaigns = list(msgspec.to_builtins(read_catalogue()))
    campaigns[0] |= changes
    path = tmp_path / "c.json"
    path.write_bytes(msgspec.json.encode({"campaigns": campaigns}))
    with pytest.raises(BadInput, match=message):
        read_catalogue(path)


def test_an_id_that_is_used_twice_is_bad_input(tmp_path):
    campaigns = list(msgspec.to_builtins(read_catalogue()))
    path = tmp_path / "c.json"
    path.write_bytes(msgspec.json.encode({"campaigns": [campaigns[0], campaigns[0]]}))
    with pytest.raises(BadInput, match="used once"):
        read_catalogue(path)
